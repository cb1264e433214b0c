package sampling

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func id(n uint64) (i ID) {
	binary.BigEndian.PutUint64(i[8:], n+1)
	return i
}

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// kept is what Keep gives.
func kept(t *Tail[string], n uint64, now time.Time) (list []string) {
	t.Keep(id(n), now, func(s string) { list = append(list, s) })
	return list
}

func newTail(b Bounds) (*Tail[string], *[]string) {
	dropped := new([]string)
	return NewTail(b, func(s string) int { return len(s) }, func(s string) { *dropped = append(*dropped, s) }), dropped
}

func TestTail(t *testing.T) {
	tail, dropped := newTail(Bounds{})
	tail.Begin(id(1), start)
	tail.Hold(id(1), "a", start)
	tail.Hold(id(2), "x", start)
	tail.Hold(id(1), "b", start)
	if got := kept(tail, 1, start); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("kept %q, want a and b", got)
	}
	if !tail.Kept(id(1)) || tail.Kept(id(2)) || tail.Kept(id(3)) {
		t.Error("it does not know what is kept")
	}
	if got := kept(tail, 1, start); got != nil {
		t.Errorf("kept %q again", got)
	}
	tail.End(id(1))
	if !tail.Kept(id(1)) {
		t.Error("that a trace was kept is forgotten with its end")
	}
	tail.End(id(2))
	tail.End(id(9))
	if !slices.Equal(*dropped, []string{"x"}) {
		t.Errorf("dropped %q, want x", *dropped)
	}
	if s := tail.Stats(); s.Traces != 1 || s.Lines != 0 || s.Bytes != traceCost || s.Dropped != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// TestTailParts: two conns of one trace, and one of them ends.
func TestTailParts(t *testing.T) {
	tail, _ := newTail(Bounds{})
	tail.Begin(id(1), start)
	tail.Hold(id(1), "a", start)
	tail.Begin(id(1), start)
	tail.Hold(id(1), "b", start)
	if tail.Over(id(1)) {
		t.Error("the trace is over with one of its two parts")
	}
	tail.End(id(1))
	if !tail.Over(id(1)) {
		t.Error("the trace is not over with the last of its parts")
	}
	if got := kept(tail, 1, start); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("kept %q, want a and b", got)
	}
}

func TestTailBounds(t *testing.T) {
	t.Run("lines", func(t *testing.T) {
		tail, dropped := newTail(Bounds{Lines: 8})
		var want []string
		for n := range 20 {
			s := fmt.Sprint(n)
			tail.Hold(id(1), s, start)
			if n < 2 || n >= 14 {
				want = append(want, s)
			}
		}
		if got := kept(tail, 1, start); !slices.Equal(got, want) {
			t.Errorf("kept %q, want the first and the newest, %q", got, want)
		}
		if len(*dropped) != 12 || tail.Stats().Crowded != 12 {
			t.Errorf("dropped %q, counted %d, want 12", *dropped, tail.Stats().Crowded)
		}
	})
	t.Run("traces", func(t *testing.T) {
		tail, dropped := newTail(Bounds{Traces: 3})
		for n := range uint64(5) {
			tail.Hold(id(n), fmt.Sprint(n), start)
		}
		if !slices.Equal(*dropped, []string{"0", "1"}) || tail.Stats().Crowded != 2 {
			t.Errorf("dropped %q, counted %d, want the two oldest", *dropped, tail.Stats().Crowded)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		tail, dropped := newTail(Bounds{Bytes: 2*traceCost + 2*itemCost + 20})
		for n := range uint64(4) {
			tail.Hold(id(n), "0123456789", start)
		}
		if len(*dropped) != 2 || tail.Stats().Lines != 2 {
			t.Errorf("dropped %q, %+v, want 2 dropped and 2 held", *dropped, tail.Stats())
		}
	})
	t.Run("age", func(t *testing.T) {
		tail, dropped := newTail(Bounds{Age: time.Minute})
		tail.Hold(id(1), "a", start)
		tail.Keep(id(3), start, func(string) {})
		tail.Hold(id(2), "b", start.Add(30*time.Second))
		tail.Hold(id(1), "c", start.Add(61*time.Second))
		if !slices.Equal(*dropped, []string{"a"}) || tail.Kept(id(3)) {
			t.Errorf("dropped %q, the kept one is still known: %v, want a, and no", *dropped, tail.Kept(id(3)))
		}
		tail.Expire(start.Add(time.Hour))
		if s := tail.Stats(); s.Traces != 0 || s.Lines != 0 || s.Bytes != 0 || s.Expired != 3 {
			t.Errorf("after an hour it holds %+v", s)
		}
	})
}

// TestTailRandom compares it with what a map does, and its counts with what it holds.
func TestTailRandom(t *testing.T) {
	const seeds = 200
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 0))
		b := Bounds{Traces: 1 + r.IntN(5), Lines: 4 + r.IntN(8), Bytes: 300 + r.IntN(3000), Age: time.Duration(1+r.IntN(30)) * time.Second}
		tail, dropped := newTail(b)
		now, in, out := start, 0, 0
		for step := range 300 {
			n := uint64(r.IntN(8))
			switch r.IntN(6) {
			case 0:
				tail.Begin(id(n), now)
			case 1:
				out += len(kept(tail, n, now))
			case 2:
				tail.End(id(n))
			case 3:
				now = now.Add(time.Duration(r.IntN(10)) * time.Second)
			default:
				tail.Hold(id(n), fmt.Sprintf("%d of %d", step, n), now)
				in++
			}
			s := tail.Stats()
			items, bytes := 0, 0
			for h := tail.oldest.next; h != &tail.oldest; h = h.next {
				bytes += traceCost
				for _, item := range h.items {
					items++
					bytes += itemCost + len(item)
				}
				if now.Sub(h.born) > b.Age+10*time.Second*300 || tail.traces[h.id] != h || len(h.items) > b.Lines {
					t.Fatalf("seed %d, step %d: a trace is not in order: %+v", seed, step, h)
				}
			}
			if items != s.Lines || bytes != s.Bytes || len(tail.traces) != s.Traces || s.Traces > b.Traces || in != out+len(*dropped)+items ||
				uint64(len(*dropped)) != s.Dropped+s.Expired+s.Crowded {
				t.Fatalf("seed %d, step %d: %+v, but there are %d lines of %d bytes; %d came, %d were kept, %d dropped", seed, step, s, items, bytes, in, out, len(*dropped))
			}
		}
	}
}

func TestShare(t *testing.T) {
	const n = 100_000
	for _, share := range []Share{0, 0.01, 0.5, 1, -1, 2} {
		has := 0
		for i := range uint64(n) {
			if share.Has(id(i)) {
				has++
				if share < 0.5 && !Share(0.5).Has(id(i)) {
					t.Fatalf("trace %d is in %v and not in a half", i, share)
				}
			}
		}
		want := float64(min(1, max(0, share))) * n
		if d := float64(has) - want; d > 200+want/50 || -d > 200+want/50 || (share <= 0 && has > 0) || (share >= 1 && has < n) {
			t.Errorf("share %v has %d of %d", share, has, n)
		}
	}
}
