package arena

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestClass(t *testing.T) {
	last := -1
	seen := make(map[int]uint32)
	for n := uint32(1); n <= unitsOf(Max); n++ {
		c, units := class(n)
		if units < n || units > n+n/4+1 {
			t.Fatalf("class(%d) has %d units", n, units)
		}
		if c < last || c > last+1 || c >= classes {
			t.Fatalf("class(%d) = %d after %d, of %d", n, c, last, classes)
		}
		if u, ok := seen[c]; ok && u != units {
			t.Fatalf("class %d has %d and %d units", c, u, units)
		}
		seen[c], last = units, c
	}
	if last != classes-1 {
		t.Errorf("the last class is %d of %d", last, classes)
	}
}

// TestArena holds an arena against a map through random operations.
func TestArena(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a Arena
	want := make(map[uint32][]byte)
	var refs []uint32
	for step := range 200_000 {
		if len(refs) > 0 && rng.IntN(100) < 48 {
			k := rng.IntN(len(refs))
			ref := refs[k]
			if !bytes.Equal(a.At(ref), want[ref]) {
				t.Fatalf("step %d: content of %d changed", step, ref)
			}
			a.Free(ref)
			delete(want, ref)
			refs[k] = refs[len(refs)-1]
			refs = refs[:len(refs)-1]
			continue
		}
		n := rng.IntN(64)
		if rng.IntN(50) == 0 {
			n = rng.IntN(Max + 1)
		}
		b := bytes.Repeat([]byte{byte(step)}, n)
		ref := a.Put(b)
		if ref == 0 || want[ref] != nil {
			t.Fatalf("step %d: reference %d is taken", step, ref)
		}
		want[ref] = b
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if !bytes.Equal(a.At(ref), want[ref]) {
			t.Fatalf("content of %d changed", ref)
		}
		a.Free(ref)
	}
	if a.Used() != 0 {
		t.Errorf("%d bytes used with nothing in it", a.Used())
	}
	// All that was freed is used again.
	chunks := len(a.chunks)
	for range 1000 {
		a.Put(make([]byte, 30))
	}
	if len(a.chunks) != chunks {
		t.Errorf("%d chunks, had %d", len(a.chunks), chunks)
	}
}

func TestArenaRefusesTooLong(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("took more than Max bytes")
		}
	}()
	new(Arena).Make(Max + 1)
}

type record struct{ hash, next uint32 }

func TestTable(t *testing.T) {
	var s Slab[record]
	var tab Table
	link := func(r uint32) *uint32 { return &s.At(r).next }
	hashOf := func(r uint32) uint32 { return s.At(r).hash }
	find := func(h uint32) uint32 {
		for r := tab.First(h); r != 0; r = *link(r) {
			if s.At(r).hash == h {
				return r
			}
		}
		return 0
	}
	rng := rand.New(rand.NewPCG(3, 4))
	want := make(map[uint32]uint32)
	for range 100_000 {
		h := uint32(rng.IntN(5000)) * 2654435761
		r := find(h)
		if r != want[h] {
			t.Fatalf("find(%d) = %d, want %d", h, r, want[h])
		}
		if r == 0 {
			r = s.New()
			s.At(r).hash = h
			tab.Add(r, h, link, hashOf)
			want[h] = r
		} else {
			tab.Remove(r, h, link)
			s.Free(r)
			delete(want, h)
		}
	}
	if tab.Len() != len(want) || s.Len() != len(want) {
		t.Errorf("table %d, slab %d, want %d", tab.Len(), s.Len(), len(want))
	}
	n := 0
	tab.Each(link, func(r uint32) bool { n++; return want[s.At(r).hash] == r })
	if n != len(want) {
		t.Errorf("Each saw %d, want %d", n, len(want))
	}
	tab.Reset()
	s.Reset()
	if find(1) != 0 || s.Len() != 0 {
		t.Error("something is left after Reset")
	}
}

func TestAllocs(t *testing.T) {
	var a Arena
	var s Slab[record]
	b := []byte("user:12345")
	a.Free(a.Put(b))
	s.Free(s.New())
	if n := testing.AllocsPerRun(100, func() {
		a.Free(a.Put(b))
		s.Free(s.New())
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ExampleArena() {
	var a Arena
	ref := a.Put([]byte("news"))
	fmt.Printf("%s\n", a.At(ref))
	a.Free(ref)
	// Output: news
}
