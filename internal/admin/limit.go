package admin

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// maxConns is how many connections an admin listener has open at a time: enough for those who watch, and few enough for
// the descriptors that a gateway keeps free.
const maxConns = 384

// Limit bounds the connections of a listener: those beyond wait in the kernel's queue until one of the others ends.
type Limit struct {
	net.Listener
	slots chan struct{}
	open  atomic.Int64
	done  chan struct{}
	once  sync.Once
}

// NewLimit bounds ln. Closing the limit closes ln.
func NewLimit(ln net.Listener) *Limit {
	return &Limit{Listener: ln, slots: make(chan struct{}, maxConns), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *Limit) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	l.open.Add(1)
	return &limited{Conn: c, l: l}, nil
}

// Close implements net.Listener.
func (l *Limit) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// Wrap has h's connections end with their answer while most of the slots are taken: one that is kept for the next request
// keeps somebody else out.
func (l *Limit) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.open.Load() > maxConns*3/4 {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// limited is a connection with a slot.
type limited struct {
	net.Conn
	l    *Limit
	once sync.Once
}

// Close implements net.Conn.
func (c *limited) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.l.open.Add(-1)
		<-c.l.slots
	})
	return err
}
