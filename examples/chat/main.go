// Chat is a room in the browser with a cable to pull: open http://localhost:8000 in two windows, pull the cable of one,
// write in the other, and watch the first one notice, wait, come back and get what it has missed.
//
// Its parts are room.go, the gateway with its one channel; cable.go, a proxy in front of it through which each page has a
// cable of its own; and page, what the browser gets: centrifuge-js over @longwire/socket.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// page is what browsers get. lib.js is made by scripts/chat-js of clients/js and the npm package centrifuge.
//
//go:embed page
var page embed.FS

// policy lets the page load from its own host, connect to it, and do nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// routes are the page, and the handles of the cables.
func routes(p *proxy) http.Handler {
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // the embedded tree is wrong, not the input
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /cable/{id}", p.control)
	mux.HandleFunc("POST /cable/{id}", p.control)
	same := http.NewCrossOriginProtection().Handler(mux) // no other site's page pulls cables here
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another binary may have another page
		same.ServeHTTP(w, r)
	})
}

// serve has pages come in at l until ctx ends, and then closes everything.
func serve(ctx context.Context, l net.Listener) error {
	p := newProxy("")
	g, err := newGateway("127.0.0.1:0", routes(p))
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	p.gateway = g.Addr().String()

	passing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- p.serve(passing, l) }()
	select {
	case err := <-failed:
		return errors.Join(err, g.Close())
	case <-ctx.Done():
	}
	// Pages are told, unless their cable is out; then nobody waits any longer.
	telling, cancel := context.WithTimeout(passing, 2*time.Second)
	defer cancel()
	if err := g.Drain(telling, 500*time.Millisecond); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		log.Print(err)
	}
	stop()
	return errors.Join(<-failed, g.Close())
}

func run() error {
	addr := flag.String("addr", "localhost:8000", "`address` to listen on")
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("chat takes no arguments")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Printf("open http://%s/ in two windows\n", l.Addr())
	return serve(ctx, l)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
