package longwire_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

// Many connections that are ended at once: see internal/session/pace.go for the rules, and TestMassDisconnect there for the
// figures.

// silent is an endpoint whose loop has no timer of its own for a connection, so that nothing but its turn ends it.
func silent() longwire.Endpoint {
	e := longwire.Centrifuge("/connection/websocket")
	e.Heartbeat = longwire.Heartbeat{Ping: -1, Timeout: -1}
	return e
}

// user is a client of that user.
func user(t *testing.T, g *longwire.Gateway, name, query string) *client {
	t.Helper()
	c := dial(g.Addr().String(), "/connection/websocket"+query)
	t.Cleanup(c.quit)
	if got := c.outcome(t, connectCommand(issuerHS256([]byte("s")).token(claims{"sub": name}))); got != "" {
		t.Fatalf("connect: %s", got)
	}
	return c
}

// All sessions of a user go, whatever way their heartbeat has and whatever loop they are on; the others notice nothing.
func TestDisconnectMany(t *testing.T) {
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 1000, Loops: 2, MaxMemory: -1,
		Tokens: longwire.TokenOptions{HMACSecret: []byte("s")}, Endpoints: []longwire.Endpoint{silent()},
		Sessions: longwire.Sessions{ConnectRate: 150, Stale: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	var anns []*client
	for k := range 120 {
		anns = append(anns, user(t, g, "ann", []string{"", "?cf_ws_frame_ping_pong=true"}[k%2]))
	}
	bob := user(t, g, "bob", "")
	ann := longwire.Target{User: "ann"}
	if err := g.Disconnect(t.Context(), ann, longwire.DisconnectAs{Code: 4100, Reason: "moved"}); err != nil {
		t.Fatal(err)
	}
	for k, c := range anns {
		if op, reason, code := c.next(); op != ws.OpClose || code != 4100 || !strings.HasPrefix(reason, "moved, retry after ") {
			t.Errorf("session %d: got %v %q %d, want close 4100 with advice", k, op, reason, code)
		}
	}
	if got := bob.outcome(t, `{"id":7,"publish":{"channel":"x","data":1}}`); got != "error 103" {
		t.Errorf("another user's session: %q, want it to be served", got)
	}
	// One alone goes at once, with its own words.
	if err := g.Disconnect(t.Context(), longwire.Target{User: "bob"}, longwire.DisconnectAs{Code: 4100, Reason: "moved"}); err != nil {
		t.Fatal(err)
	}
	if _, reason, code := bob.next(); code != 4100 || reason != "moved" {
		t.Errorf("got close %d %q, want 4100 and the reason as it is", code, reason)
	}
}

// A drain tells each client when to come back in the words of its protocol. Those that wait long for their turn get their
// pings until then.
func TestDrainProtocols(t *testing.T) {
	c := longwire.Config{Addr: "127.0.0.1:0", MaxConns: 100, Loops: 1, MaxMemory: -1, Tokens: longwire.TokenOptions{HMACSecret: []byte("s")},
		Endpoints: []longwire.Endpoint{silent(), longwire.Plain("/ws"), longwire.Echo("/echo")},
		Sessions:  longwire.Sessions{Ping: time.Second, Pong: -1}}
	start := func(t *testing.T) *longwire.Gateway {
		g, err := longwire.New(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Close() })
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		return g
	}
	enough := errors.New("enough")
	t.Run("advice", func(t *testing.T) {
		g := start(t)
		var clients []*client
		for _, path := range []string{"/connection/websocket", "/connection/websocket?cf_ws_frame_ping_pong=true", "/ws", "/echo", "/ws?subscribe=x"} {
			clients = append(clients, dial(g.Addr().String(), path))
		}
		clients = append(clients, user(t, g, "ann", ""), user(t, g, "ann", "?cf_ws_frame_ping_pong=true"))
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background(), time.Second) }()
		for k, c := range clients {
			want, words := ws.StatusCode(1001), "the server is going away"
			if k < 2 || k > 4 {
				want, words = 3001, "shutdown"
			}
			op, reason, code := c.next()
			for op != ws.OpClose { // the error for x, and pings
				op, reason, code = c.next()
			}
			if code != want || reason != words+", retry after 1 s" {
				t.Errorf("client %d: got close %d %q, want %d %q with advice", k, code, reason, want, words)
			}
			c.quit()
		}
		if err := <-drained; err != nil {
			t.Errorf("Drain = %v", err)
		}
	})
	t.Run("pings", func(t *testing.T) {
		g := start(t)
		first, second := user(t, g, "ann", ""), user(t, g, "ann", "")
		ctx, stop := context.WithCancelCause(context.Background())
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(ctx, time.Hour) }()
		for op, text := ws.OpText, "{}"; op != ws.OpClose; { // it may get a ping before
			if text != "{}" {
				t.Errorf("got %s", text)
			}
			op, text, _ = first.next()
		}
		for k := range 3 {
			if op, text, code := second.next(); op != ws.OpText || text != "{}" {
				t.Fatalf("instead of ping %d: %v %q %d", k, op, text, code)
			}
		}
		// What comes during the drain goes by the drain's turn, not before it.
		if err := g.Disconnect(t.Context(), longwire.Target{User: "ann"}, longwire.DisconnectAs{Code: 4100, Reason: "moved"}); err != nil {
			t.Fatal(err)
		}
		op, text, code := second.next()
		for op == ws.OpText && text == "{}" {
			op, text, code = second.next()
		}
		if code != 4100 {
			t.Errorf("disconnected during the drain: %v %q %d", op, text, code)
		}
		stop(enough)
		if err := <-drained; err != enough && err != nil {
			t.Errorf("Drain = %v", err)
		}
	})
}
