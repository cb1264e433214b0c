package loop

import (
	"math/rand/v2"
	"testing"
)

// heap is the part of a System that a slab needs.
type heap struct{ System }

func (heap) Map(n int) ([]byte, error) { return make([]byte, n), nil }

func TestSlab(t *testing.T) {
	s, err := newSlab(heap{}, 8)
	if err != nil {
		t.Fatal(err)
	}
	gens := make(map[uint32]bool)
	held := make(map[uint32]uint32) // index → generation
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		if r.IntN(2) == 0 {
			i := s.take()
			if len(held) == 8 {
				if i != none {
					t.Fatalf("a full slab gave slot %d", i)
				}
				continue
			}
			if _, ok := held[i]; ok || i >= 8 {
				t.Fatalf("slot %d given twice", i)
			}
			g := s.slots[i].gen
			if g == 0 || gens[g] {
				t.Fatalf("generation %d given twice", g)
			}
			gens[g], held[i] = true, g
		} else {
			for i, g := range held {
				if s.slots[i].gen != g {
					t.Fatalf("slot %d changed its generation", i)
				}
				s.put(i)
				delete(held, i)
				if s.slots[i].gen != 0 {
					t.Fatalf("a free slot has generation %d", s.slots[i].gen)
				}
				break
			}
		}
		if s.live != len(held) {
			t.Fatalf("live = %d, want %d", s.live, len(held))
		}
		if len(held) == 0 && (s.fresh != 0 || s.free != none) {
			t.Fatalf("an empty slab starts at %d, free list %d", s.fresh, s.free)
		}
	}
}

func TestSlabGenerationWraps(t *testing.T) {
	s, _ := newSlab(heap{}, 2)
	s.gen = ^uint32(0) - 1
	a, b := s.take(), s.take()
	if ga, gb := s.slots[a].gen, s.slots[b].gen; ga != ^uint32(0) || gb != 1 {
		t.Errorf("generations %d and %d, want the last and 1: 0 is a free slot's", ga, gb)
	}
}

func TestID(t *testing.T) {
	for _, c := range []struct{ loop, slot, gen uint32 }{
		{0, 0, 1}, {1, 2, 3}, {MaxLoops - 1, MaxSlots - 1, ^uint32(0)}, {0, MaxSlots - 1, 0}, {MaxLoops - 1, 0, 1 << 31},
	} {
		id := makeID(int(c.loop), c.slot, c.gen)
		if id.Loop() != int(c.loop) || id.Slot() != c.slot || id.Gen() != c.gen {
			t.Errorf("%v came back as %d %d %d", c, id.Loop(), id.Slot(), id.Gen())
		}
		back, err := ParseID(id.String())
		if err != nil || back != id {
			t.Errorf("ParseID(%q) = %d, %v, want %d", id.String(), back, err, id)
		}
	}
	for _, bad := range []string{"", "-1", "zzzzzzzzzzzzzz", "a b"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) = %v", bad, id)
		}
	}
}

func TestQueueCompact(t *testing.T) {
	q := queue{buf: []byte("0123456789"), head: 5}
	q.compact()
	if q.head != 5 {
		t.Errorf("half written: moved")
	}
	q.head = 6
	q.compact()
	if q.head != 0 || string(q.buf) != "6789" || q.len() != 4 {
		t.Errorf("got %q from %d", q.buf, q.head)
	}
}

// TestSlotSize keeps a conn's slot small: the fleet counts on it.
func TestSlotSize(t *testing.T) {
	if slotSize > 28 {
		t.Errorf("a slot is %d bytes, want 28", slotSize)
	}
}
