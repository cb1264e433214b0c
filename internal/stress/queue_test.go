package stress

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueue holds the ring against a slice, through its growth.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q queue
	var want []uint32
	for n := range uint32(20_000) {
		if r.IntN(100) < 51 || len(want) == 0 {
			q.push(n)
			want = append(want, n)
		} else {
			if q.head() != want[0] {
				t.Fatalf("after %d: head %d, want %d", n, q.head(), want[0])
			}
			q.pop()
			want = want[1:]
		}
		if q.len() != len(want) {
			t.Fatalf("after %d: %d, want %d", n, q.len(), len(want))
		}
	}
	if len(want) < 65 {
		t.Fatal("the ring did not grow")
	}
}

// TestTimetable holds the heap against a sorted slice: nothing comes before it is due, and what is due comes in order.
func TestTimetable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var table timetable
	var want []time.Duration
	if table.first() != never {
		t.Errorf("an empty one is due at %v", table.first())
	}
	now := time.Duration(0)
	for range 5000 {
		if r.IntN(2) == 0 {
			due := now + time.Duration(r.IntN(1000))
			table.add(due, uint32(due))
			want = append(want, due)
			slices.Sort(want)
			continue
		}
		now += time.Duration(r.IntN(50))
		for {
			user, due, ok := table.next(now)
			if !ok {
				break
			}
			if len(want) == 0 || due != want[0] || uint32(due) != user || due > now {
				t.Fatalf("at %v: user %d, due %v; want %v", now, user, due, want)
			}
			want = want[1:]
		}
		if len(want) > 0 && (want[0] <= now || table.first() != want[0]) {
			t.Fatalf("at %v: %v is due and did not come; first %v", now, want[0], table.first())
		}
	}
}
