package flight

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Events carry stamps: nanoseconds that go on whoever sets the machine's clock. A stamp is what the clock would say had it not been
// set since the recorder was opened, and 0 is 1970. When the clock was set, a step says how far ahead of the stamps it has
// been since, so that an event is shown with the time that the clock showed when it was written.

// step: from this stamp on the clock was so much ahead, both in ns.
type step struct{ from, ahead int64 }

const (
	mostSteps = 16 // that are kept, the newest
	stepSize  = 16 // bytes of one in a file's head, little endian
	leastStep = int64(time.Second)
)

// clock makes stamps. Any goroutine may use it.
type clock struct {
	start time.Time    // with the monotonic reading
	ahead atomic.Int64 // of the newest step

	mu     sync.Mutex
	steps  []byte // a ring of them; nil once it is closed. Guarded by mu
	noted  int    // guarded by mu
	newest int64  // stamp of the newest; guarded by mu
}

// begin keeps steps in b, which is zero.
func (c *clock) begin(now time.Time, b []byte) { c.start, c.steps = now, b }

// stamp is that of a time which has a monotonic reading.
func (c *clock) stamp(at time.Time) int64 { return c.start.UnixNano() + int64(at.Sub(c.start)) }

// note is stamp of a time that was told right now: if the clock was set, it is noted.
func (c *clock) note(at time.Time) int64 {
	stamp := c.stamp(at)
	ahead := at.UnixNano() - stamp
	if by := ahead - c.ahead.Load(); by >= leastStep || by <= -leastStep {
		c.step(stamp, ahead)
	}
	return stamp
}

func (c *clock) step(from, ahead int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from < c.newest || len(c.steps) == 0 {
		return // told before a step that another loop has noted
	}
	b := c.steps[c.noted%mostSteps*stepSize:]
	binary.LittleEndian.PutUint64(b, uint64(from))
	binary.LittleEndian.PutUint64(b[8:], uint64(ahead))
	c.noted++
	c.newest = from
	c.ahead.Store(ahead)
}

func (c *clock) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = nil
}

// timeline is what was noted until now.
func (c *clock) timeline() timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	return readTimeline(c.steps)
}

// timeline tells the times of one process's stamps: its steps, the oldest first.
type timeline []step

func readTimeline(b []byte) (t timeline) {
	for ; len(b) >= stepSize; b = b[stepSize:] {
		s := step{int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))}
		if s.from != 0 {
			t = append(t, s)
		}
	}
	slices.SortFunc(t, func(a, b step) int { return cmp.Compare(a.from, b.from) })
	return t
}

// time is what the clock showed at a stamp.
func (t timeline) time(stamp int64) time.Time {
	ahead := int64(0)
	for _, s := range t {
		if s.from <= stamp {
			ahead = s.ahead
		}
	}
	return time.Unix(0, stamp+ahead)
}
