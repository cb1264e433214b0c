package cli

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/trace"
)

// TestTCPCounts has the kernel's states of a connection that comes and goes.
func TestTCPCounts(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, level := range []trace.Level{trace.LevelBPF, trace.LevelDiag} {
		var made atomic.Pointer[longwire.Gateway]
		tr := newServeTraceUpTo(level, log, made.Load)
		if tr == nil {
			t.Fatal("there is no tracer")
		}
		s := &server{tracing: tr}
		if tr.Level() != trace.LevelBPF {
			if c := s.tcp(); c.Why == "" {
				t.Errorf("at level %v: %+v", tr.Level(), c)
			}
			tr.stop()
			continue
		}
		g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Loops: 1, MaxMemory: -1, Log: log, Tracer: tr.tracer()})
		if err != nil {
			t.Fatal(err)
		}
		made.Store(g)
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		until := func(what string, ok func(states map[string]int64, steps map[string]uint64) bool) {
			t.Helper()
			for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between looks
				x := s.tcp()
				if x.Why == "" && ok(x.States, x.Transitions) {
					return
				}
				if time.Now().After(late) {
					t.Fatalf("%s: %+v", what, x)
				}
			}
		}
		until("it stands", func(states map[string]int64, steps map[string]uint64) bool {
			return len(states) == 1 && states["ESTABLISHED"] == 1 && steps["SYN_RECV>ESTABLISHED"] == 1
		})
		_ = c.Close()
		until("it is over", func(states map[string]int64, steps map[string]uint64) bool {
			return states["ESTABLISHED"] == 0 && steps["ESTABLISHED>CLOSE_WAIT"] == 1
		})
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		tr.stop()
	}
	if c := new(server).tcp(); c.Why == "" {
		t.Errorf("without a tracer: %+v", c)
	}
}
