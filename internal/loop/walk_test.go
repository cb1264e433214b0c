package loop_test

import (
	"slices"
	"testing"

	"github.com/longwire/longwire/internal/loop"
)

// TestWalk goes through conns in steps of all sizes, with gaps between them.
func TestWalk(t *testing.T) {
	f := newFake(t, loop.Options{}, script{data: echo})
	for k := range 20 {
		p := f.dial()
		p.Write([]byte("x"))
		wantRead(t, p, "x")
		if k%3 == 0 {
			defer p.Close()
			continue
		}
		p.Close()
	}
	f.sys.Settle()
	f.on(f.only(), func(h *handler) {
		var want []uint32
		h.l.Each(func(i uint32) { want = append(want, i) })
		if len(want) != 7 {
			t.Errorf("%d conns, want 7", len(want))
		}
		for n := 1; n < 25; n++ {
			for _, stop := range []bool{false, true} {
				var got []uint32
				from, steps := uint32(0), 0
				for more := true; more && steps < 100; steps++ {
					from, more = h.l.Walk(from, n, func(i uint32) bool {
						got = append(got, i)
						return !stop
					})
				}
				if !slices.Equal(got, want) {
					t.Errorf("steps of %d, stop %t: %v, want %v", n, stop, got, want)
				}
			}
		}
		if _, more := h.l.Walk(1<<31, 10, func(uint32) bool { t.Error("a conn there"); return true }); more {
			t.Error("more behind the end")
		}
	})
	f.sys.Settle()
}
