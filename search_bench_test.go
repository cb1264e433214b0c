package longwire

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop/looptest"
	"github.com/longwire/longwire/ws"
)

// BenchmarkSearchTurn is what a loop's turn of a search costs that finds nothing, over more connections than caches hold.
func BenchmarkSearchTurn(b *testing.B) {
	const conns = 200_000
	sys := looptest.New()
	g, err := New(Config{system: sys, Loops: 1, MaxConns: conns, MaxMemory: -1, Endpoints: []Endpoint{Plain("/ws"), Echo("/echo")}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	for range conns {
		p := sys.Dial()
		p.Write(requestFor("/ws", ws.Dial{}))
		p.Read()
	}
	sys.Settle()
	for name, q := range map[string]Search{"address": {Address: "203.0.113.1"}, "slow": {Slow: true}, "endpoint": {Endpoint: "/echo"}} {
		c, err := g.criteria(q)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			done := make(chan error)
			var turns []time.Duration
			l := g.loops.Loops()[0]
			_ = l.Call(func() {
				f := g.fronts[0]
				from := uint32(0)
				for b.Loop() {
					start := time.Now()
					t := f.search(c, from, searchRows)
					turns = append(turns, time.Since(start))
					if from = t.next; len(t.conns) != 0 || t.scanned > searchSlots {
						done <- fmt.Errorf("a turn of %d with %d found", t.scanned, len(t.conns))
						return
					}
				}
				done <- nil
			})
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			slices.Sort(turns)
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(turns[len(turns)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
			}
		})
	}
}
