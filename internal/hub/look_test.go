package hub

import (
	"maps"
	"strconv"
	"testing"
)

// A walk tells each channel once, at the first loop that has it, however small its steps are and whatever is free between.
func TestWalk(t *testing.T) {
	h := New(Options{Loops: 3, Wake: func(int) {}})
	want := make(map[string]int)
	var ends []func()
	for k := range 100 {
		name := "c" + strconv.Itoa(k)
		for loop := range 3 {
			if k%(loop+2) != 0 {
				continue
			}
			s := h.Shard(loop)
			sub := s.Subscribe(uint32(k), []byte(name), 0)
			if k%5 == 0 {
				ends = append(ends, func() { s.Unsubscribe(sub) })
			} else {
				want[name]++
			}
		}
	}
	for _, end := range ends {
		end()
	}
	if n := h.Channels(); n != len(want) {
		t.Errorf("%d channels, want %d", n, len(want))
	}
	for _, n := range []int{1, 7, 1000} {
		for _, stop := range []bool{false, true} {
			got := make(map[string]int)
			for loop := range 3 {
				s := h.Shard(loop)
				from, steps := uint32(0), 0
				for more := true; more; steps++ {
					from, more = s.Walk(from, n, func(name []byte) bool {
						if got[string(name)] != 0 {
							t.Errorf("%s is told twice", name)
						}
						for i := range 3 {
							got[string(name)] += h.Shard(i).Subscribers(name)
						}
						return !stop
					})
					if steps > 200 {
						t.Fatal("it has no end")
					}
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("steps of %d: %v, want %v", n, got, want)
			}
		}
	}
	loops := 0
	h.Loops("c6", func(int) { loops++ })
	if loops != 2 {
		t.Errorf("%d loops have c6, want 2", loops)
	}
	s := h.Shard(0)
	if slots, ok := s.Slots(s.Find([]byte("c2")), 1); !ok || len(slots) != 1 || slots[0] != 2 {
		t.Errorf("conns of c2: %v %t", slots, ok)
	}
	s.Subscribe(7, []byte("c2"), 0)
	if slots, ok := s.Slots(s.Find([]byte("c2")), 1); ok {
		t.Errorf("more conns than asked for: %v", slots)
	}
}
