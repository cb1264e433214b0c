package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

func TestMount(t *testing.T) {
	g, err := newGateway()
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(routes(g))
	t.Cleanup(func() {
		srv.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(ws.AppendRequest(nil, &ws.Dial{Host: "localhost", Target: "/live"}, [16]byte{})); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	if _, err := c.Write(ws.AppendFrame(nil, ws.Client, ws.OpBinary, []byte("echo"), [4]byte{1, 2, 3, 4})); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2+len("echo"))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != string(ws.AppendFrame(nil, ws.Server, ws.OpBinary, []byte("echo"), [4]byte{})) {
		t.Errorf("reply = %q, %v", got, err)
	}
	page, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	if b, _ := io.ReadAll(page.Body); string(b) != "1 connections\n" {
		t.Errorf("page = %q, want 1 connections", b)
	}
}
