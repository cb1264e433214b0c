package profile

import (
	"runtime/metrics"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Look is what a Watch judges by, once a second.
type Look struct {
	Time      time.Time
	RSS       uint64        // resident bytes of the process; 0 where the system does not tell
	GCPause   time.Duration // the longest pause of the collector since the look before: so long at least
	Iteration time.Duration // the longest iteration of a loop that ended since the look before: so long at least
}

// meter makes looks of what the process counts. It is for one goroutine.
type meter struct {
	iterations func() []uint64 // see Options.Iterations; nil: there are no loops

	pauses  []metrics.Sample
	paused  []uint64 // counts of the look before
	turned  []uint64
	started bool
}

const gcPauses = "/sched/pauses/total/gc:seconds"

func newMeter(iterations func() []uint64) *meter {
	return &meter{iterations: iterations, pauses: []metrics.Sample{{Name: gcPauses}}}
}

// look reads what there is now.
func (m *meter) look(now time.Time) Look {
	l := Look{Time: now, RSS: sys.Resident()}
	metrics.Read(m.pauses)
	if v := m.pauses[0].Value; v.Kind() == metrics.KindFloat64Histogram {
		h := v.Float64Histogram()
		if i := grown(m.paused, h.Counts); m.started && i > 0 { // the lowest bucket begins at minus infinity
			l.GCPause = time.Duration(h.Buckets[i] * float64(time.Second))
		}
		m.paused = append(m.paused[:0], h.Counts...)
	}
	if m.iterations != nil {
		counts := m.iterations()
		if i := grown(m.turned, counts); m.started && i > 0 {
			l.Iteration = time.Microsecond << (i - 1)
		}
		m.turned = append(m.turned[:0], counts...)
	}
	m.started = true
	return l
}

// grown is the last place where now is more than before, which may be shorter; -1 if there is none.
func grown(before, now []uint64) int {
	for i := len(now) - 1; i >= 0; i-- {
		if i >= len(before) && now[i] > 0 || i < len(before) && now[i] > before[i] {
			return i
		}
	}
	return -1
}
