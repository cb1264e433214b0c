package loop

import (
	"math/bits"
	"time"
)

// Tick is the resolution of conn timers.
const Tick = 100 * time.Millisecond

// wheelSize is the number of buckets: one turn is 51.2 s, longer timers stay in their bucket for another.
const wheelSize = 512

// wheel is a timer wheel: an array of lists of slots, linked through the slots themselves. Setting,
// moving and clearing a timer touch a few words; an idle conn's timer costs nothing until it is due.
type wheel struct {
	heads [wheelSize]uint32
	used  [wheelSize / 64]uint64 // which buckets are not empty
	tick  uint32                 // all timers due until then have fired
	due   []uint32               // scratch of advance
}

func (w *wheel) reset() {
	for i := range w.heads {
		w.heads[i] = none
	}
	w.used = [wheelSize / 64]uint64{}
}

// set puts slot i's timer at tick due (not before the next one), moving it if it was set.
func (w *wheel) set(slots []slot, i uint32, due uint32) {
	s := &slots[i]
	s.flags &^= flagDue
	if s.flags&flagTimer != 0 {
		if s.due == due {
			return
		}
		w.clear(slots, i)
	}
	if int32(due-w.tick) <= 0 {
		due = w.tick + 1
	}
	b := due % wheelSize
	s.due, s.prev, s.next = due, none, w.heads[b]
	if s.next != none {
		slots[s.next].prev = i
	}
	w.heads[b] = i
	w.used[b/64] |= 1 << (b % 64)
	s.flags |= flagTimer
}

// clear takes slot i out of the wheel.
func (w *wheel) clear(slots []slot, i uint32) {
	s := &slots[i]
	s.flags &^= flagDue
	if s.flags&flagTimer == 0 {
		return
	}
	b := s.due % wheelSize
	if s.prev != none {
		slots[s.prev].next = s.next
	} else {
		w.heads[b] = s.next
		if s.next == none {
			w.used[b/64] &^= 1 << (b % 64)
		}
	}
	if s.next != none {
		slots[s.next].prev = s.prev
	}
	s.next, s.prev = none, none
	s.flags &^= flagTimer
}

// advance moves to tick now and calls fire for each timer that came due, taken out of the wheel first.
// fire may set and clear any timer, those that are due in the same tick included, and free any slot.
func (w *wheel) advance(slots []slot, now uint32, fire func(i uint32)) {
	for w.tick != now {
		w.tick++
		b := w.tick % wheelSize
		if w.used[b/64]&(1<<(b%64)) == 0 {
			continue
		}
		// fire may change any list, so those that are due leave theirs first.
		w.due = w.due[:0]
		for i := w.heads[b]; i != none; {
			next := slots[i].next
			if int32(slots[i].due-w.tick) <= 0 {
				w.clear(slots, i)
				slots[i].flags |= flagDue
				w.due = append(w.due, i)
			}
			i = next
		}
		for _, i := range w.due {
			if slots[i].flags&flagDue != 0 {
				slots[i].flags &^= flagDue
				fire(i)
			}
		}
	}
}

// idle is the number of ticks until the next bucket that holds a timer, or -1 when none does. The timer
// in it may be a turn ahead.
func (w *wheel) idle() int {
	start := (w.tick + 1) % wheelSize
	for n := 0; n <= wheelSize; {
		b := (start + uint32(n)) % wheelSize
		word := w.used[b/64] >> (b % 64)
		if word != 0 {
			return n + 1 + bits.TrailingZeros64(word)
		}
		n += 64 - int(b%64)
	}
	return -1
}
