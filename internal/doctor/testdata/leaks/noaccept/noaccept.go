// Package noaccept is a server that greets its clients by name.
package noaccept

import (
	"bufio"
	"net"
	"sync"
	"time"
)

func greet(c net.Conn) {
	defer func() { _ = c.Close() }()
	name, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		_, _ = c.Write([]byte("hello " + name))
	}
}

func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		greet(c) // LEAK: nobody else is accepted until this client has said its name
	}
}

type client struct {
	addr   string
	silent net.Conn
}

var start = sync.OnceValue(func() *client {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go serve(ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	return &client{ln.Addr().String(), c}
})

// Handle answers one request.
func Handle(id int) {
	s := start()
	if id%20 > 0 {
		return
	}
	c, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err == nil {
		_, _ = c.Write([]byte("x\n"))
		_ = c.Close()
	}
}
