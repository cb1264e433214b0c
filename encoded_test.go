package longwire

import (
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// TestBroadcastCompressed reaches everybody of the endpoint, compressed where agreed, and nobody else.
func TestBroadcastCompressed(t *testing.T) {
	open := make(chan struct{}, 10)
	ep := func(path string) Endpoint {
		return Endpoint{Path: path, Compression: true, OnOpen: func(Conn, *ws.Request) { open <- struct{}{} },
			OnMessage: func(_ Conn, m Message) { m.Reply(m.Op, m.Payload) }}
	}
	g := startGateway(t, Config{Endpoints: []Endpoint{ep("/a"), ep("/b")}})
	addr := g.Addr().String()
	var as []*wstest.Client
	for k := range 6 {
		as = append(as, wstest.Dial(t, addr, "/a", ws.Dial{Deflate: k%2 == 0}))
		<-open
	}
	b := wstest.Dial(t, addr, "/b", ws.Dial{})
	<-open
	for _, want := range []string{"short", strings.Repeat("long ", 400)} {
		if err := g.Broadcast("/a", ws.OpText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		for k, c := range as {
			if op, got, _ := c.Next(); op != ws.OpText || got != want {
				t.Errorf("client %d got %v of %d bytes, want text of %d", k, op, len(got), len(want))
			}
		}
	}
	b.Send(ws.OpText, "mine")
	if _, got, _ := b.Next(); got != "mine" {
		t.Errorf("the other endpoint's client got %q", got)
	}
	if err := g.Broadcast("/nowhere", ws.OpText, nil); err == nil {
		t.Error("a broadcast to no endpoint succeeded")
	}
}

// TestEncodedOnce: connections with one window share one compressed frame.
func TestEncodedOnce(t *testing.T) {
	m := newEncoded(ws.OpText, []byte(strings.Repeat("x", 1000)), 256)
	if a, b := m.frame(15), m.frame(15); &a[0] != &b[0] || len(a) > 100 {
		t.Errorf("two frames for one window, or %d bytes", len(a))
	}
	if a, b := m.frame(0), m.frame(9); &a[0] == &b[0] || len(a) < 1000 {
		t.Error("no window and a window share a frame")
	}
	small := newEncoded(ws.OpText, []byte("x"), 256)
	if a, b := small.frame(0), small.frame(15); &a[0] != &b[0] {
		t.Error("a message below CompressAbove is compressed")
	}
}
