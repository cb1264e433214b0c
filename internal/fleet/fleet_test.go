package fleet_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

func gateway(t *testing.T, c longwire.Config) netip.AddrPort {
	t.Helper()
	c.Addr, c.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	g, err := longwire.New(c)
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
	return g.Addr()
}

func newFleet(t *testing.T, c fleet.Config) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// until polls what the loops count; there is no signal for each message.
func until(t *testing.T, ctx context.Context, f *fleet.Fleet, what string, ok func(fleet.Counts) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok(f.Counts()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %+v", what, f.Counts())
		}
	}
}

func TestOpenEchoClose(t *testing.T) {
	addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{longwire.Echo("/echo")}})
	for _, deflate := range []bool{false, true} {
		ctx := timeout(t)
		f := newFleet(t, fleet.Config{Target: addr, Conns: 300, PerSource: 100, Dial: ws.Dial{Target: "/echo", Deflate: deflate}})
		if err := f.Open(ctx); err != nil {
			t.Fatal(err)
		}
		if c := f.Counts(); c.Open != 300 || c.Opened != 300 || c.Pending != 0 || len(c.Failed) > 0 {
			t.Fatalf("after Open: %+v", c)
		}
		f.Echo(fleet.Exchange{Conns: 50, InFlight: 4, Size: 1000})
		until(t, ctx, f, "echoes", func(c fleet.Counts) bool { return c.Received > 2000 })
		if err := f.EndEcho(ctx); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, f, "the last replies", func(c fleet.Counts) bool { return c.Received == c.Sent })
		h, err := f.Latency(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if c := f.Counts(); h.TotalCount() != c.Received {
			t.Errorf("%d latencies of %d messages", h.TotalCount(), c.Received)
		}
		if err := f.CloseAll(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if c := f.Counts(); c.Closed != 300 || c.Open != 0 || len(c.Lost) > 0 {
			t.Errorf("after CloseAll: %+v", c)
		}
	}
}

func TestPingsAreAnswered(t *testing.T) {
	e := longwire.Plain("/ws")
	e.Heartbeat = longwire.Heartbeat{Ping: 200 * time.Millisecond, Timeout: 20 * time.Second}
	addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{e}})
	ctx := timeout(t)
	f := newFleet(t, fleet.Config{Target: addr, Conns: 20, Dial: ws.Dial{Target: "/ws"}})
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, f, "three pings each", func(c fleet.Counts) bool { return c.Pings >= 60 })
	if c := f.Counts(); c.Open != 20 {
		t.Errorf("%+v, want 20 open", c)
	}
}

func TestChurn(t *testing.T) {
	addr := gateway(t, longwire.Config{})
	f := newFleet(t, fleet.Config{Target: addr, Conns: 50, Pending: 50, Churn: 2000, Dial: ws.Dial{Target: "/ws"}})
	if err := f.Open(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if c := f.Counts(); c.Opened != 2000 || c.Closed != 2000 || len(c.Failed)+len(c.Lost) > 0 {
		t.Errorf("%+v, want 2000 opened and closed", c)
	}
}

func TestRateIsKept(t *testing.T) {
	addr := gateway(t, longwire.Config{})
	f := newFleet(t, fleet.Config{Target: addr, Conns: 40, Rate: 100, Dial: ws.Dial{Target: "/ws"}})
	begin := time.Now()
	if err := f.Open(timeout(t)); err != nil {
		t.Fatal(err)
	}
	// A lower bound only: a slow machine may take longer.
	if d := time.Since(begin); d < 390*time.Millisecond {
		t.Errorf("40 conns at 100 a second after %v, want at least 0.4 s", d)
	}
}

// TestFailures has each reason that a server can give.
func TestFailures(t *testing.T) {
	addr := gateway(t, longwire.Config{MaxConns: 10})
	serve := func(reply string) netip.AddrPort {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				if reply == "silence" {
					continue
				}
				_, _ = io.ReadAtLeast(c, make([]byte, 1024), 100)
				_, _ = io.WriteString(c, reply)
				_ = c.Close()
			}
		}()
		return ln.Addr().(*net.TCPAddr).AddrPort()
	}
	gone := serve("")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().(*net.TCPAddr).AddrPort()
	_ = closed.Close()
	for _, c := range []struct {
		to     netip.AddrPort
		path   string
		conns  int
		reason string
		want   int64
	}{
		{addr, "/nope", 3, "http_404", 3},
		{addr, "/ws", 15, "http_503", 5},
		{nobody, "/", 2, "refused", 2},
		{gone, "/", 2, "fin", 2},
		{serve("HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bogus\r\n\r\n"), "/", 2, "bad_handshake", 2},
		{serve("220 mail ready\r\n\r\n"), "/", 2, "bad_response", 2},
		{serve("silence"), "/", 2, "handshake_timeout", 2},
	} {
		f := newFleet(t, fleet.Config{Target: c.to, Conns: c.conns, Timeout: 300 * time.Millisecond, Dial: ws.Dial{Target: c.path}})
		if err := f.Open(timeout(t)); err != nil {
			t.Fatal(err)
		}
		if got := f.Counts(); got.Failed[c.reason] != c.want || got.Failures() != c.want {
			t.Errorf("%s: failed %v, want %d", c.reason, got.Failed, c.want)
		}
	}
}

// TestLosses has a server that ends what stood.
func TestLosses(t *testing.T) {
	leave := make(chan longwire.Conn, 10)
	addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{{Path: "/", OnOpen: func(c longwire.Conn, _ *ws.Request) { leave <- c }}}})
	ctx := timeout(t)
	f := newFleet(t, fleet.Config{Target: addr, Conns: 5, Dial: ws.Dial{Target: "/"}})
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := (<-leave).Close(4007, "out"); err != nil {
			t.Error(err)
		}
	}
	until(t, ctx, f, "losses", func(c fleet.Counts) bool { return c.Lost["close_4007"] == 5 && c.Open == 0 })
}
