package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func newWheel(n int) (*wheel, []slot) {
	w := new(wheel)
	w.reset()
	slots := make([]slot, n)
	for i := range slots {
		slots[i] = slot{next: none, prev: none}
	}
	return w, slots
}

// TestWheelModel drives a wheel and a naive list of timers with the same random steps, across the wrap of
// the tick counter, with timers of many turns.
func TestWheelModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		w, slots := newWheel(64)
		w.tick = ^uint32(0) - uint32(r.IntN(2000))
		model := make(map[uint32]uint32) // slot → due
		set := func(i, due uint32) {
			w.set(slots, i, due)
			if int32(due-w.tick) <= 0 {
				due = w.tick + 1
			}
			model[i] = due
		}
		unset := func(i uint32) {
			w.clear(slots, i)
			delete(model, i)
		}
		random := func() uint32 { return uint32(r.IntN(len(slots))) }
		for range 2000 {
			switch r.IntN(4) {
			case 0, 1:
				set(random(), w.tick+uint32(r.IntN(3*wheelSize))-5)
			case 2:
				unset(random())
			case 3:
				w.advance(slots, w.tick+uint32(r.IntN(1+r.IntN(2*wheelSize))), func(i uint32) {
					due, ok := model[i]
					if !ok || due != w.tick {
						t.Fatalf("seed %d: at tick %d slot %d fires, due at %d (set: %t)", seed, w.tick, i, due, ok)
					}
					delete(model, i)
					switch r.IntN(4) {
					case 0: // itself again
						set(i, w.tick+uint32(r.IntN(2*wheelSize)))
					case 1: // another, which may be due in this tick
						set(random(), w.tick+uint32(r.IntN(4)))
					case 2:
						unset(random())
					}
				})
			}
			next := -1
			for i, due := range model {
				if int32(due-w.tick) <= 0 {
					t.Fatalf("seed %d: at tick %d slot %d, due at %d, has not fired", seed, w.tick, i, due)
				}
				if slots[i].flags&flagTimer == 0 || slots[i].due != due {
					t.Fatalf("seed %d: slot %d: %+v, want due at %d", seed, i, slots[i], due)
				}
				// A bucket is looked at each turn.
				if n := int((due-w.tick-1)%wheelSize) + 1; next < 0 || n < next {
					next = n
				}
			}
			if got := w.idle(); got != next {
				t.Fatalf("seed %d: idle = %d, want %d", seed, got, next)
			}
		}
	}
}

// TestWheelSameTick: what a timer does to others that are due in the same tick counts.
func TestWheelSameTick(t *testing.T) {
	w, slots := newWheel(4)
	for i := range uint32(3) {
		w.set(slots, i, 10)
	}
	var fired []uint32
	w.advance(slots, 12, func(i uint32) {
		if fired = append(fired, i); len(fired) > 1 {
			return
		}
		for j := range uint32(3) { // the first takes the others back and moves one
			w.clear(slots, j)
		}
		w.set(slots, 3, 11)
	})
	if len(fired) != 2 || fired[1] != 3 {
		t.Errorf("fired %v, want one of 0 to 2 and then 3", fired)
	}
	if w.idle() != -1 {
		t.Errorf("idle = %d after all have fired", w.idle())
	}
}

func TestWheelLongTimer(t *testing.T) {
	w, slots := newWheel(2)
	w.set(slots, 0, 5*wheelSize+7)
	var at []uint32
	for w.tick < 6*wheelSize {
		w.advance(slots, w.tick+uint32(max(w.idle(), 1)), func(uint32) { at = append(at, w.tick) })
	}
	if !slices.Equal(at, []uint32{5*wheelSize + 7}) {
		t.Errorf("fired at %v, want once at %d", at, 5*wheelSize+7)
	}
}
