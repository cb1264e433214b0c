package longwire

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/longwire/longwire/ws"
)

func wantContextCause(t *testing.T, ctx context.Context, want Cause) {
	t.Helper()
	<-ctx.Done()
	var got Cause
	if err := context.Cause(ctx); !errors.As(err, &got) || got != want {
		t.Errorf("context.Cause = %v, want %v", err, want)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("Err = %v, want Canceled", ctx.Err())
	}
}

func TestContext(t *testing.T) {
	for _, x := range []struct {
		name string
		end  func(*peer)
		want Cause
	}{
		{"client close", func(p *peer) { p.send(ws.OpClose, closePayload(1001, "")) }, Cause{Kind: CauseClientClose, Code: 1001}},
		{"FIN", func(p *peer) { p.Close() }, Cause{Kind: CauseClientFIN}},
		{"RST", func(p *peer) { p.Reset() }, Cause{Kind: CauseReset, Detail: "ECONNRESET"}},
		{"violation", func(p *peer) { p.send(3, "") }, Cause{Kind: CauseProtocol, Code: 1002, Detail: "reserved_opcode"}},
		{"gateway", func(p *peer) { _ = p.w.g.Close() }, Cause{Kind: CauseDrain, Detail: "stopped"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.dial("/echo")
			ctx := p.conn.Context()
			if again := p.conn.Context(); again != ctx {
				t.Error("asked twice, two contexts")
			}
			w.sys.Settle()
			if ctx.Err() != nil {
				t.Fatalf("the conn lives and its context is over: %v", context.Cause(ctx))
			}
			p.echoes()
			x.end(p)
			if x.name != "gateway" {
				w.sys.Settle()
				if !p.Gone() {
					p.Close()
				}
			}
			wantContextCause(t, ctx, x.want)
			if n := len(w.g.contexts.made); n != 0 {
				t.Errorf("%d contexts are kept of conns that are over", n)
			}
		})
	}
}

// A context that is asked for when the conn is over is over too, whoever asks.
func TestContextAfterTheEnd(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	p.Close()
	p.wantCause(Cause{Kind: CauseClientFIN})
	ctx := p.conn.Context()
	<-ctx.Done()
	if got := context.Cause(ctx); got != errOver {
		t.Errorf("context.Cause = %v, want %v", got, errOver)
	}
	_ = w.g.Close()
	ctx = p.conn.Context()
	<-ctx.Done()
	if got := context.Cause(ctx); got != ErrClosed {
		t.Errorf("context.Cause = %v, want %v", got, ErrClosed)
	}
	if n := len(w.g.contexts.made); n != 0 {
		t.Errorf("%d contexts are kept of conns that are over", n)
	}
}

// In OnClose, where the handle only identifies the conn, the context is over or ends at once.
func TestContextInOnClose(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		asked := make(chan context.Context, 1)
		ep := Endpoint{Path: "/", Blocking: blocking, OnClose: func(c Conn, _ Cause) { asked <- c.Context() }}
		w := newWorld(t, Config{Endpoints: []Endpoint{ep}})
		p := w.dial("/")
		p.Close()
		<-(<-asked).Done()
	}
}

// Contexts that are asked for while their conns end, from many goroutines, all end.
func TestContextRaces(t *testing.T) {
	w := newWorld(t, Config{Loops: 2})
	var wg sync.WaitGroup
	for range 100 {
		p := w.dial("/echo")
		for range 4 {
			wg.Go(func() { <-p.conn.Context().Done() })
		}
		p.Reset()
	}
	p := w.dial("/echo")
	for range 4 {
		wg.Go(func() { <-p.conn.Context().Done() })
	}
	_ = w.g.Close()
	wg.Wait()
	if n := len(w.g.contexts.made); n != 0 {
		t.Errorf("%d contexts are kept of conns that are over", n)
	}
}
