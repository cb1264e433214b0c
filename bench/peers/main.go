// Peers is the WebSocket libraries of Go, each as an echo server, for Longwire to be measured beside. A
// server is written as the library's own users write it, with what the library offers for holding many
// connections where it offers a choice. All accept on any path, echo text and binary messages of any
// usual size, answer pings, and have compression, logs and deadlines off. They are a module of their
// own, so that nothing of theirs is in Longwire's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// A server echoes on ln until ln is closed.
type server struct {
	name  string
	about string
	serve func(ln net.Listener) error
}

var servers = []server{
	{"gorilla", "gorilla/websocket, default buffers, read in the handler", serveGorilla},
	{"gorilla-pooled", "gorilla/websocket, pooled write buffers, 1 KiB read buffers, handlers left", serveGorillaPooled},
	{"coder", "coder/websocket", serveCoder},
	{"gobwas", "gobwas/ws, a goroutine and 1 KiB of read buffer each", serveGobwas},
	{"gobwas-batched", "gobwas/ws, all frames of one read answered by one write", serveGobwasBatched},
	{"gws", "lxzan/gws", serveGws},
	{"fasthttp", "fasthttp/websocket on valyala/fasthttp", serveFasthttp},
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	name := flags.String("server", "", "`name` of the server to run")
	addr := flags.String("addr", "127.0.0.1:0", "`address` to listen on")
	maxConns := flags.Int("max-conns", 0, "refuse to start unless there are descriptors for so many connections")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: peers -server NAME [-addr ADDRESS] [-max-conns N]")
		flags.PrintDefaults()
		fmt.Fprintln(flags.Output(), "servers:")
		for _, s := range servers {
			fmt.Fprintf(flags.Output(), "  %-15s %s\n", s.name, s.about)
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	for _, s := range servers {
		if s.name == *name && flags.NArg() == 0 {
			fmt.Fprintln(os.Stderr, "peers:", listenAndServe(s, *addr, *maxConns))
			return 1
		}
	}
	flags.Usage()
	return 2
}

func listenAndServe(s server, addr string, maxConns int) error {
	if err := checkDescriptors(maxConns); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %v\n", ln.Addr())
	return s.serve(ln)
}

// serveHTTP serves upgrades by net/http until ln is closed.
func serveHTTP(ln net.Listener, upgrade http.HandlerFunc) error {
	return (&http.Server{Handler: upgrade}).Serve(ln)
}

// accept starts a goroutine for every connection until ln is closed.
func accept(ln net.Listener, serve func(net.Conn)) error {
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			go serve(conn)
		case errors.Is(err, net.ErrClosed):
			return err
		default: // no descriptor or no memory, which pass
			time.Sleep(5 * time.Millisecond)
		}
	}
}
