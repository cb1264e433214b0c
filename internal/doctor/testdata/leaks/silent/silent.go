// Package silent reads from clients, some of which vanish.
package silent

import (
	"bufio"
	"net"
	"sync"
)

func serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n') // LEAK: without a deadline
		if err != nil {
			return
		}
		_ = line
	}
}

var start = sync.OnceValue(func() net.Listener {
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
			go serve(c)
		}
	}()
	return ln
})

var vanished []net.Conn // the other ends, which do nothing

// Handle answers one request.
func Handle(id int) {
	ln := start()
	if id%40 > 0 {
		return
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil && len(vanished) < 1<<20 {
		vanished = append(vanished, c)
	}
}
