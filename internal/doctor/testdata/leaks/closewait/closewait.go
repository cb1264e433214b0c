// Package closewait is a server whose clients come and go.
package closewait

import (
	"net"
	"sync"
)

type server struct {
	ln    net.Listener
	mu    sync.Mutex
	conns map[string]net.Conn
}

func (s *server) serve() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c.RemoteAddr().String()] = c // LEAK: it is neither read nor closed
		s.mu.Unlock()
	}
}

var start = sync.OnceValue(func() *server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &server{ln: ln, conns: map[string]net.Conn{}}
	go s.serve()
	return s
})

// Handle answers one request.
func Handle(id int) {
	s := start()
	if id%20 > 0 {
		return
	}
	c, err := net.Dial("tcp", s.ln.Addr().String())
	if err == nil {
		_ = c.Close()
	}
}
