package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// browser is as much of one as the chat needs.
type browser struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func open(t *testing.T, addr string) *browser {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(ws.AppendRequest(nil, &ws.Dial{Host: addr, Target: "/chat", Origin: "http://" + addr}, [16]byte{})); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return &browser{t, c, r}
}

func (b *browser) say(text string) {
	b.t.Helper()
	if _, err := b.c.Write(ws.AppendFrame(nil, ws.Client, ws.OpText, []byte(text), [4]byte{1, 2, 3, 4})); err != nil {
		b.t.Fatal(err)
	}
}

// hear waits for a line with that text; all lines are shorter than 126 bytes.
func (b *browser) hear(text string) (from string) {
	b.t.Helper()
	for {
		var head [2]byte
		if _, err := io.ReadFull(b.r, head[:]); err != nil {
			b.t.Fatalf("waiting for %q: %v", text, err)
		}
		payload := make([]byte, head[1])
		if _, err := io.ReadFull(b.r, payload); err != nil {
			b.t.Fatal(err)
		}
		var l line
		if err := json.Unmarshal(payload, &l); err != nil {
			b.t.Fatalf("%q: %v", payload, err)
		}
		if l.Text == text {
			return l.From
		}
	}
}

func TestChat(t *testing.T) {
	g, err := newGateway("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	addr := g.Addr().String()

	resp, err := http.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "new WebSocket") {
		t.Errorf("page: %v, %s", err, b)
	}

	a := open(t, addr)
	first := a.hear("came")
	b := open(t, addr)
	second := b.hear("came")
	if first == second {
		t.Errorf("both are %s", first)
	}
	b.say("  hello  ")
	if from := a.hear("hello"); from != second {
		t.Errorf("hello is from %s, want %s", from, second)
	}
	b.hear("hello")
	_ = b.c.Close()
	if from := a.hear("left: client_fin"); from != second {
		t.Errorf("%s left, want %s", from, second)
	}
}
