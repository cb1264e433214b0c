// Package okclients has clients that come for one question each, and go.
package okclients

import (
	"bufio"
	"net"
	"sync"

	"github.com/longwire/longwire/internal/doctor/testdata/leaks/shared/peer"
)

func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		question, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := c.Write([]byte("yes: " + question)); err != nil {
			return
		}
	}
}

var start = sync.OnceFunc(func() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	if err := peer.Start(ln.Addr().String()); err != nil {
		panic(err)
	}
})

// Handle answers one request.
func Handle(int) { start() }
