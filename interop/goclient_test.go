package interop

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	line "github.com/longwire/longwire/client"
	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/ws"
)

// TestGoClient has package client talk to servers that are not ours: messages with compression and without, pings both
// ways, a close code of the server and the way back after it, and connections that leave nothing behind.
func TestGoClient(t *testing.T) {
	for _, server := range []struct {
		name  string
		serve func(*testing.T) string
	}{{"gorilla", serveGorilla}, {"coder", serveCoder}} {
		t.Run(server.name, func(t *testing.T) {
			url := server.serve(t)
			for _, compress := range []bool{false, true} {
				talk(t, url, compress)
			}
			before := runtime.NumGoroutine()
			for range 200 {
				c, err := line.Dial(t.Context(), url, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Close(t.Context(), 1000, ""); err != nil {
					t.Fatal(err)
				}
			}
			if !leaktest.Settles(before) { // the server's take a moment to be gone
				t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		})
	}
}

func talk(t *testing.T, url string, compress bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states := make(chan line.Transition, 1000)
	c, err := line.Dial(ctx, url, &line.Options{
		Compress: compress, Subprotocols: []string{"other", "echo"},
		Heartbeat: line.Heartbeat{Interval: 20 * time.Millisecond, Timeout: 10 * time.Second},
		Backoff:   line.BackoffOptions{Min: time.Millisecond, Max: time.Millisecond},
		OnState: func(tr line.Transition) {
			select {
			case states <- tr:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Subprotocol(); got != "echo" {
		t.Errorf("subprotocol is %q, want echo", got)
	}
	ask := func(op ws.Opcode, question, want []byte) {
		t.Helper()
		if err := c.Write(ctx, op, question); err != nil {
			t.Fatal(err)
		}
		got, payload, err := c.Read(ctx)
		if err != nil || got != op || !bytes.Equal(payload, want) {
			t.Fatalf("%d bytes: %v of %d bytes, %v", len(question), got, len(payload), err)
		}
	}
	for _, size := range []int{0, 1, 125, 126, 600, 65_535, 65_536, 300_000} {
		ask(ws.OpBinary, pattern(size), pattern(size))
	}
	ask(ws.OpText, []byte("grüße"), []byte("grüße"))
	ask(ws.OpText, []byte("in fragments"), pattern(50_000))
	if err := c.Write(ctx, ws.OpText, []byte("close me")); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for pong, closed := false, false; !pong || !closed; { // in whatever order; the server is silent after the close
		select {
		case tr := <-states:
			seen = append(seen, string(tr.To)+": "+tr.Reason)
			pong = pong || tr.Reason == "pong"
			closed = closed || tr.Reason == "close 4002"
		case <-ctx.Done():
			t.Fatalf("transitions: %q, want a pong and close 4002", seen)
		}
	}
	ask(ws.OpText, []byte("back"), []byte("back"))
	if err := c.Close(ctx, 1000, "bye"); err != nil {
		t.Error(err)
	}
	var end *line.CloseError
	if _, _, err := c.Read(ctx); !errors.As(err, &end) || end.Code != 1000 {
		t.Errorf("Read after Close: %v", err)
	}
}
