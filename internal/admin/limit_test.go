package admin

import (
	"net"
	"testing"
)

// More connections than the listener takes wait for one to end.
func TestLimit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLimit(ln)
	var clients, conns []net.Conn
	for range maxConns {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if c, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	one, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	if n := l.open.Load(); n != maxConns {
		t.Errorf("%d are open, want %d", n, maxConns)
	}
	_ = conns[0].Close()
	_ = conns[0].Close() // counts once
	c := <-accepted
	if n := l.open.Load(); n != maxConns {
		t.Errorf("%d are open, want %d", n, maxConns)
	}
	waits := make(chan error)
	go func() {
		_, err := l.Accept()
		waits <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; err == nil {
		t.Error("a connection came after Close")
	}
	for _, c := range append(append(clients, conns[1:]...), one, c) {
		_ = c.Close()
	}
	if n := l.open.Load(); n != 0 {
		t.Errorf("%d are open, want 0", n)
	}
}
