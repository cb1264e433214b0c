package admin

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/waittest"
)

// TestSnapshot has made-up figures of two moments.
func TestSnapshot(t *testing.T) {
	before := figures{at: time.Unix(100, 0), stats: longwire.Stats{
		Accepted: 10, Upgraded: 8, Passed: 1, Ended: 2, Cut: 1, Closing: 1, Busy: time.Second, MessagesIn: 5, BytesOut: 1000,
		Closes: map[string]uint64{"drain": 1, "handshake_timeout": 1}, Refused: map[string]uint64{"drain": 4}},
		tcp: TCPCounts{Transitions: map[string]uint64{"A>B": 5}}}
	before.stats.Iterations[3] = 7
	f := figures{at: time.Unix(102, 0), stats: longwire.Stats{
		MaxConns: 100, Conns: 50, Open: 40, Closing: 3, HTTP: 2, Sessions: 30, Subscriptions: 60, QueueBytes: 7, Loops: 2, Draining: true,
		Accepted: 30, Upgraded: 20, Passed: 3, Ended: 12, Cut: 5, Busy: 2 * time.Second, MessagesIn: 25, BytesOut: 5000,
		Closes: map[string]uint64{"drain": 3, "handshake_timeout": 5}, Refused: map[string]uint64{"drain": 4, "memory": 6}},
		tcp: TCPCounts{States: map[string]int64{"B": 9}, Transitions: map[string]uint64{"A>B": 9, "B>C": 2}}}
	f.stats.Iterations[3], f.stats.Iterations[5], f.stats.Iterations[9] = 7+980, 15, 5
	s := snapshot(&f, &before)
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	check("interval", s.Interval, 2.0)
	check("draining", s.Draining, true)
	check("rates", s.Rates, Rates{Accepted: 10, Upgraded: 6, Closed: 3, Refused: 3, MessagesIn: 10, BytesOut: 2000})
	check("loop", s.Loop, LoopTimes{Active: 2, Busy: 0.25, LagP99: 1 << 5, LagMax: 1 << 9})
	for state, want := range map[string]int64{"handshake": 7, "open": 40, "closing": 3} {
		check(state, s.WS.States[state], want)
	}
	for edge, want := range map[string]float64{"accept>handshake": 10, "handshake>open": 6, "handshake>http": 1, "handshake>refused": 3, "handshake>timeout": 2,
		"open>closing": 3, "open>closed": 2, "closing>closed": 2} {
		check(edge, s.WS.Edges[edge], want)
	}
	check("tcp", s.TCP.Available, true)
	check("tcp state", s.TCP.States["B"], int64(9))
	check("tcp edge", s.TCP.Edges["A>B"], 2.0)
	check("new tcp edge", s.TCP.Edges["B>C"], 1.0)
	for _, c := range s.Causes {
		if c.Cause == "drain" {
			check("drain", c, Count{Cause: "drain", Total: 3, Rate: 1})
		}
	}
	check("causes", len(s.Causes), len(longwire.CauseKinds()))
	check("refusals", len(s.Refused), len(longwire.RefusalKinds()))

	first := snapshot(&f, &figures{})
	check("first interval", first.Interval, 0.0)
	check("first rates", first.Rates, Rates{})
	f.tcp = TCPCounts{Why: "no"}
	none := snapshot(&f, &before)
	if none.TCP.Available || none.TCP.Why != "no" || len(none.TCP.Edges) != 0 {
		t.Errorf("tcp that is not there: %+v", none.TCP)
	}
	// A step back, as of a counter of a loop that is read a moment later, is no rate.
	back := snapshot(&before, &f)
	check("rate of a step back", back.Rates.Accepted, 0.0)
}

// counted is a live whose figures are counted.
func counted(interval, idle time.Duration) (l *live, counts *atomic.Int64) {
	counts = new(atomic.Int64)
	l = newLive(func() longwire.Stats {
		return longwire.Stats{Conns: counts.Add(1)}
	}, func() TCPCounts { return TCPCounts{Why: "no"} })
	l.interval, l.idle = interval, idle
	return l, counts
}

type seen struct {
	Seq     uint64    `json:"seq"`
	Conns   int64     `json:"conns"`
	History []Scalars `json:"history"`
}

func get(t *testing.T, l *live, after uint64, history bool) seen {
	t.Helper()
	b, err := l.get(t.Context(), after, history)
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return s
}

// Nothing is counted while nobody asks, and once for all who do.
func TestLive(t *testing.T) {
	l, counts := counted(5*time.Millisecond, 50*time.Millisecond)
	defer l.close()
	if counts.Load() != 0 {
		t.Error("it counts before anybody asks")
	}
	s := get(t, l, 0, false)
	if s.Seq != 1 || s.Conns != 1 || s.History != nil {
		t.Errorf("first: %+v", s)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for last := uint64(1); last < 10; {
				s := get(t, l, last, last%2 == 0)
				if s.Seq <= last || s.Conns != int64(s.Seq) {
					t.Errorf("after %d: %+v", last, s)
					return
				}
				if n := len(s.History); last%2 == 0 && (n == 0 || s.History[n-1].Seq != s.Seq) {
					t.Errorf("after %d: a history of %d", last, n)
				}
				last = s.Seq
			}
		})
	}
	wg.Wait()
	// A sequence number of the process before is no reason to wait.
	if s := get(t, l, 1<<40, false); s.Seq == 0 {
		t.Errorf("after the future: %+v", s)
	}
	stopped := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.running
	}
	waittest.Until(t, "it to stop counting", stopped)
	rest := counts.Load()
	if s := get(t, l, 0, true); s.Conns <= rest || len(s.History) == 0 || s.History[len(s.History)-1].Seq != s.Seq {
		t.Errorf("after the rest at %d: %+v", rest, s)
	}
	waittest.Until(t, "the history to be full", func() bool { return len(get(t, l, 0, true).History) == liveHistory })
	if s := get(t, l, 0, true); len(s.History) != liveHistory || s.History[0].Seq != s.Seq-liveHistory+1 {
		t.Errorf("a history of %d from %d to %d", len(s.History), s.History[0].Seq, s.Seq)
	}
}

// Who watches beyond the most is told when to come back; who goes makes room.
func TestLiveWatchers(t *testing.T) {
	l, _ := counted(time.Hour, time.Hour)
	defer l.close()
	first := get(t, l, 0, false)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range liveWatchers {
		wg.Go(func() {
			if _, err := l.get(ctx, first.Seq, false); !errors.Is(err, context.Canceled) {
				t.Errorf("who went: %v", err)
			}
		})
	}
	waittest.Until(t, "all to watch", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.watchers == liveWatchers
	})
	if _, err := l.get(t.Context(), 0, false); !errors.Is(err, errWatchers) {
		t.Errorf("one more: %v", err)
	}
	cancel()
	wg.Wait()
	get(t, l, 0, false)
	go l.close() // ends who waits
	if b, err := l.get(t.Context(), first.Seq, false); err != nil || !strings.HasPrefix(string(b), `{"seq":1,`) {
		t.Errorf("at the end: %s, %v", b, err)
	}
	l.close()
	fresh, _ := counted(time.Hour, time.Hour)
	fresh.close()
	if _, err := fresh.get(t.Context(), 0, false); !errors.Is(err, errClosed) {
		t.Errorf("after close: %v", err)
	}
}
