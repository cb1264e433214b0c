package loop_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop"
)

// TestCallFromAnotherGroupsLoop wakes a loop from the thread of another group's, in whose descriptor table the number of the
// wake-up's descriptor stands for nothing, or for something else.
func TestCallFromAnotherGroupsLoop(t *testing.T) {
	group := func() *loop.Group {
		g, err := loop.NewGroup(loop.Options{MaxConns: 16, Loops: 1, Table: loop.TablePrivate, Log: slog.New(slog.DiscardHandler),
			NewHandler: func(l *loop.Loop) loop.Handler { return bare{l} }})
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
		return g
	}
	a, b := group().Loops()[0], group().Loops()[0]
	for range 100 {
		called := make(chan struct{})
		if err := a.Call(func() { _ = b.Call(func() { close(called) }) }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-called:
		case <-time.After(20 * time.Second):
			t.Fatal("the other group's loop was not woken")
		}
	}
}
