package loop

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
)

type echo struct {
	l      *Loop
	closed *atomic.Int64
}

func (e *echo) Admit(netip.AddrPort, bool) []byte { return nil }
func (e *echo) Opened(i uint32, o Opening)        {}
func (e *echo) Data(i uint32, b []byte)           { e.l.Write(i, b) }
func (e *echo) Timer(i uint32)                    {}
func (e *echo) Drained(i uint32)                  {}
func (e *echo) Closed(i uint32, end End)          { e.closed.Add(1) }
func (e *echo) Post(id ID, kind uint8, payload []byte) {
	if i, ok := e.l.Find(id); ok {
		e.l.Write(i, payload)
	}
}
func (e *echo) Stopped() {}
func (e *echo) Emptied() {}

func TestSmoke(t *testing.T) {
	for _, table := range []Table{TableShared, TablePrivate} {
		var closed atomic.Int64
		g, err := NewGroup(Options{Table: table, Loops: 2, MaxConns: 30000, NewHandler: func(l *Loop) Handler { return &echo{l, &closed} }})
		if table == TableShared && err != nil {
			g, err = NewGroup(Options{Table: table, Loops: 2, NewHandler: func(l *Loop) Handler { return &echo{l, &closed} }})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Log(g.Layout())
		a, err := g.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			c, err := net.Dial("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("hello"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
				t.Fatal(err, b)
			}
			c.Close()
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		t.Log(closed.Load())
	}
}
