package profile

import (
	"runtime"
	"testing"
	"time"
)

// TestLook counts what happens between two looks, and nothing before the first.
func TestLook(t *testing.T) {
	counts := []uint64{5, 0, 3, 0}
	m := newMeter(func() []uint64 { return counts })
	runtime.GC()
	now := time.Now()
	if l := m.look(now); l.GCPause != 0 || l.Iteration != 0 || l.Time != now || runtime.GOOS == "linux" && l.RSS < 1<<20 {
		t.Errorf("the first look is %+v", l)
	}
	counts = []uint64{9, 0, 3, 1}
	runtime.GC()
	if l := m.look(now); l.GCPause <= 0 || l.GCPause > time.Minute || l.Iteration != 4*time.Microsecond {
		t.Errorf("after a collection and an iteration of 4 to 8 µs: %+v", l)
	}
	counts = []uint64{10, 0, 3, 1}
	if l := m.look(now); l.Iteration != 0 {
		t.Errorf("after an iteration of less than 1 µs: %+v", l)
	}
}

// BenchmarkLook is what a second of watching costs.
func BenchmarkLook(b *testing.B) {
	counts := make([]uint64, 24)
	m := newMeter(func() []uint64 { return counts })
	b.ReportAllocs()
	for b.Loop() {
		m.look(time.Now())
	}
}
