package longwire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/sampling"
)

// TestJournalBytes holds dynamic sampling to its goal: of the same lines a twentieth of the bytes that are written in full, and every
// trace in which something failed or was slow whole. Hundreds of clients are there at a time, each for up to sixty calls, so that
// a trace fits into its bound of 64 lines. One call in four thousand fails, and another is slow. bench/logs has the same with real ones.
func TestJournalBytes(t *testing.T) {
	const clients, open, calls, oneIn = 2000, 400, 60, 4000
	b := new(bytes.Buffer)
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	g, err := New(Config{MaxConns: 10, MaxMemory: -1, Log: slog.New(slog.DiscardHandler), Endpoints: []Endpoint{Centrifuge("/c")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	random := rand.New(rand.NewPCG(1, 2))
	full := new(bytes.Buffer)
	debug := &slog.HandlerOptions{Level: slog.LevelDebug}
	h := sampling.New(slog.NewJSONHandler(b, debug), sampling.Options{Level: slog.LevelInfo, Share: 0.01, Slow: 500 * time.Millisecond, Now: func() time.Time { return now }})
	logs := []*Gateway{g.logging(slog.NewJSONHandler(full, debug)), g.logging(h)}
	lines := [...]*entryLine{{g: g}, {g: g}}
	type life struct {
		trace [16]byte
		conn  uint64
		lines uint32
		calls int // that it has still to do
		key   bool
	}
	written := make(map[string]*life)
	begun := 0
	put := func(l *life, e Entry) {
		now = now.Add(time.Millisecond)
		l.lines++
		e.At, e.Conn, e.Trace, e.Lines, e.Endpoint = now.UnixNano(), l.conn, l.trace, l.lines, 0
		l.key = l.key || e.Flags&journal.FlagFailed != 0 || e.Kind.Call() && e.Duration() >= 500*time.Millisecond
		for i := range logs {
			logs[i].write(lines[i], &e)
		}
	}
	begin := func() *life {
		begun++
		l := &life{conn: uint64(begun), calls: random.IntN(calls + 1)}
		for i := range l.trace {
			l.trace[i] = byte(random.Uint32())
		}
		written[hex.EncodeToString(l.trace[:])] = l
		put(l, Entry{Kind: journal.KindUpgrade, Flags: journal.FlagFirst, Took: int64(time.Millisecond)})
		put(l, Entry{Kind: journal.KindConnect, Took: int64(time.Millisecond)})
		return l
	}
	lives := make([]*life, open)
	for i := range lives {
		lives[i] = begin()
	}
	for over := 0; over < clients; {
		i := random.IntN(open)
		l := lives[i]
		if l.calls--; l.calls < 0 {
			put(l, Entry{Kind: journal.KindEnded, Flags: journal.FlagLast, Cause: uint8(CauseClientClose), Code: 1000})
			over++
			lives[i] = begin()
			continue
		}
		e := Entry{Kind: journal.KindRPC, Took: int64(time.Millisecond)}
		switch random.IntN(oneIn) {
		case 0:
			e.Flags, e.Code = journal.FlagFailed, 100
		case 1:
			e.Took = int64(time.Second)
		}
		journal.SetText(&e, "sum")
		put(l, e)
	}
	for _, l := range lives {
		put(l, Entry{Kind: journal.KindEnded, Flags: journal.FlagLast, Cause: uint8(CauseClientClose), Code: 1000})
	}
	got := make(map[string]uint32)
	for line := range bytes.Lines(b.Bytes()) {
		var x struct{ Trace string }
		if err := json.Unmarshal(line, &x); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got[x.Trace]++
	}
	keys, shared := 0, 0
	for id, l := range written {
		switch n := got[id]; {
		case l.key:
			if keys++; n != l.lines {
				t.Errorf("of the trace %s, in which something failed or was slow, %d of %d lines are written", id, n, l.lines)
			}
		case n > 0:
			if shared++; n != l.lines || !sampling.Share(0.01).Has(l.trace) {
				t.Errorf("of the trace %s, in which nothing happened, %d of %d lines are written", id, n, l.lines)
			}
		}
	}
	said := fmt.Sprintf("%d traces, %d of them key traces and %d of the share: %d bytes of %d, 1/%.1f; %+v", len(written), keys, shared, b.Len(), full.Len(), float64(full.Len())/float64(b.Len()), h.Stats())
	t.Log(said)
	if keys < 10 || shared < 10 || 20*b.Len() > full.Len() {
		t.Error(said)
	}
	if s := h.Stats(); s.Crowded+s.Expired != 0 || s.Lines != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// logging is g with another log, for its method write alone.
func (g *Gateway) logging(h slog.Handler) *Gateway {
	return &Gateway{config: g.config, node: g.node, endpoints: g.endpoints, log: slog.New(h)}
}
