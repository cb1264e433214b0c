package doctor

import (
	"math"
	"slices"
	"time"
)

// trend is what a series of figures does over time.
type trend struct {
	first, last float64 // medians of the first and the last quarter
	slope       float64 // per second: Theil-Sen, the median of the slopes of all pairs, which outliers do not move
	// confidence that it rises at all: 1 minus the one-sided p of the Mann-Kendall test, which knows no shape and no scale.
	confidence float64
	// levelling: the second half rises at less than half the pace of the first, or the end does not rise at all. A cache
	// that fills to its limit and a pool that grows to its size do that; a leak has no reason to.
	levelling bool
	// rarer is the same without regard to how many objects were allocated meanwhile, for caches.
	rarer     bool
	fell      bool // it dropped by a third of its range at some time: what drops is let go of
	steps     int  // how often it rose
	stepsLate int  // of them, in the second half
}

// axis is the moments of a series.
type axis struct {
	times []time.Duration
	// work is the CPU time that the program had used, nil where it is not known. Where the CPUs are shared or the load is uneven, a
	// leak keeps its pace by the work done and not by the clock.
	work []time.Duration
	// mallocs is how many objects the program had allocated, nil where it is not known: another measure of work. It says nothing of a
	// cache that stores what it does not have, whose own stores may be most of what is allocated.
	mallocs []time.Duration
}

// clocks are the measures along which growth has to slow down before it is taken to come to an end.
func (a axis) clocks(cache bool) [][]time.Duration {
	list := [][]time.Duration{a.times}
	if a.work != nil {
		list = append(list, a.work)
	}
	if a.mallocs != nil && !cache {
		list = append(list, a.mallocs)
	}
	return list
}

// workAxis makes an axis of the work at each moment, from samples of the process.
func workAxis(e *Evidence, times []time.Duration) axis {
	a := axis{times: times}
	if len(e.Memory) == len(times) && len(times) > 1 {
		for _, m := range e.Memory {
			a.mallocs = append(a.mallocs, time.Duration(m.Mallocs))
		}
		if a.mallocs[len(times)-1] <= a.mallocs[0] {
			a.mallocs = nil
		}
	}
	if len(e.Process) < 2 {
		return a
	}
	for _, at := range times {
		// Between two samples, in proportion.
		i := 1
		for i < len(e.Process)-1 && e.Process[i].At < at {
			i++
		}
		p, q := e.Process[i-1], e.Process[i]
		w := float64(p.CPU)
		if q.At > p.At {
			w += float64(q.CPU-p.CPU) * float64(at-p.At) / float64(q.At-p.At)
		}
		a.work = append(a.work, time.Duration(w))
	}
	for i := range a.work[1:] {
		a.work[i+1] = max(a.work[i+1], a.work[i])
	}
	if a.work[len(a.work)-1] <= a.work[0] {
		a.work = nil
	}
	return a
}

// trendOf looks at a series; times are in order.
func trendOf(a axis, values []float64) (t trend) {
	n := len(values)
	times := a.times
	if n < 3 {
		return t
	}
	q := max(1, n/4)
	t.first, t.last = median(values[:q]), median(values[n-q:])
	t.slope = theilSen(times, values)
	t.confidence = 1 - mannKendall(values)
	for i, v := range values[1:] {
		if v > values[i] {
			t.steps++
			if times[i+1]-times[0] > (times[n-1]-times[0])/2 {
				t.stepsLate++
			}
		}
	}
	t.fell = falls(values)
	t.levelling, t.rarer = true, true
	for _, along := range a.clocks(false) {
		t.levelling = t.levelling && slowsDown(along, values)
	}
	for _, along := range a.clocks(true) {
		t.rarer = t.rarer && slowsDown(along, values)
	}
	return t
}

// falls says whether a series drops by a third of its range and stays there for more than a moment.
func falls(values []float64) bool {
	if len(values) >= 8 {
		smooth := slices.Clone(values)
		for i := 1; i < len(values)-1; i++ {
			smooth[i] = median(values[i-1 : i+2])
		}
		values = smooth
	}
	low, high, peak := slices.Min(values), slices.Max(values), values[0]
	for _, v := range values {
		if peak = max(peak, v); peak-v > (high-low)/3 {
			return true
		}
	}
	return false
}

func slowsDown(along []time.Duration, values []float64) bool {
	n := len(values)
	if n < 6 {
		return false
	}
	h := middle(along)
	early, late := theilSen(along[:h+1], values[:h+1]), theilSen(along[h:], values[h:])
	end := theilSen(along[n-1-n/4:], values[n-1-n/4:])
	return late < early/2 || end < early/8 && end < late/2
}

// middle is the index where half of an axis has passed, with two moments or more on either side.
func middle(along []time.Duration) int {
	n := len(along)
	h := 0
	for h < n-1 && along[h]-along[0] < (along[n-1]-along[0])/2 {
		h++
	}
	return min(max(h, 2), n-3)
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 1 {
		return v[n/2]
	} else {
		return (v[n/2-1] + v[n/2]) / 2
	}
}

func theilSen(times []time.Duration, values []float64) float64 {
	var slopes []float64
	for i := range values {
		for j := i + 1; j < len(values); j++ {
			if dt := (times[j] - times[i]).Seconds(); dt > 0 {
				slopes = append(slopes, (values[j]-values[i])/dt)
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	return median(slopes)
}

// mannKendall is the probability that values without a trend rise at least as they do, by the test's normal
// approximation with its correction for ties.
func mannKendall(values []float64) float64 {
	n := float64(len(values))
	s := 0.0
	ties := map[float64]float64{}
	for i, v := range values {
		ties[v]++
		for _, w := range values[i+1:] {
			switch {
			case w > v:
				s++
			case w < v:
				s--
			}
		}
	}
	variance := n * (n - 1) * (2*n + 5)
	for _, t := range ties {
		variance -= t * (t - 1) * (2*t + 5)
	}
	variance /= 18
	if variance <= 0 || s <= 0 {
		return 1
	}
	return math.Erfc((s-1)/math.Sqrt(variance)/math.Sqrt2) / 2
}

// Whether a count grew beyond chance. Counts of things that come and go independently vary by their square root; three of
// those and a few are not chance.
func beyondChance(first, last float64) bool {
	return last-first >= 4+3*math.Sqrt(max(first, 0))
}

// levelsOff says of a growing count of samples whether its growth comes to an end, by the clock and by the work done. cache says that they
// are stored when they are looked for and not there.
func levelsOff(a axis, counts []float64, cache bool) bool {
	for _, along := range a.clocks(cache) {
		if !countsLevelOff(along, counts) {
			return false
		}
	}
	return true
}

// stops says whether a count that is exact has all but stopped growing in its last quarter.
func stops(a axis, counts []float64) bool {
	n := len(counts)
	if n < 6 {
		return false
	}
	q := n - 1 - n/4
	for _, along := range a.clocks(false) {
		before := (counts[q] - counts[0]) / max(1, float64(along[q]-along[0]))
		if late := (counts[n-1] - counts[q]) / max(1, float64(along[n-1]-along[q])); late > before/5 {
			return false
		}
	}
	return true
}

// countsLevelOff says whether the second half grew at less than half of the pace of the first, and by less than chance explains, or the last
// quarter did not grow though the others did. A trend of few samples looks uneven often.
func countsLevelOff(along []time.Duration, counts []float64) bool {
	n := len(counts)
	if n < 6 {
		return false
	}
	h, q := middle(along), n-1-n/4
	span := func(from, to int) float64 { return max(1, float64(along[to]-along[from])) }
	early, late := counts[h]-counts[0], counts[n-1]-counts[h]
	// What the second half had grown by at the pace of the first.
	due := early * span(h, n-1) / span(0, h)
	if late < due/2 && due-late > 2.3*math.Sqrt(max(0, due)+max(0, late)) {
		return true
	}
	before := counts[q] - counts[0]
	return counts[n-1] <= counts[q] && before*span(q, n-1)/span(0, q) >= 4
}
