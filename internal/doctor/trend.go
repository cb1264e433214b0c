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
	fell      bool // it dropped by a third of its range at some time: what drops is let go of
	steps     int  // how often it rose
	stepsLate int  // of them, in the second half
}

// trendOf looks at a series; times are in order.
func trendOf(times []time.Duration, values []float64) (t trend) {
	n := len(values)
	if n < 3 {
		return t
	}
	q := max(1, n/4)
	t.first, t.last = median(values[:q]), median(values[n-q:])
	t.slope = theilSen(times, values)
	t.confidence = 1 - mannKendall(values)
	peak, low, high := values[0], values[0], values[0]
	for i, v := range values {
		low, high = min(low, v), max(high, v)
		if i > 0 && v > values[i-1] {
			t.steps++
			if times[i]-times[0] > (times[n-1]-times[0])/2 {
				t.stepsLate++
			}
		}
	}
	for _, v := range values {
		if peak = max(peak, v); peak-v > (high-low)/3 && high > low {
			t.fell = true
		}
	}
	if n >= 6 {
		h := n / 2
		early, late := theilSen(times[:h+1], values[:h+1]), theilSen(times[h:], values[h:])
		end := theilSen(times[n-1-n/4:], values[n-1-n/4:])
		t.levelling = late < early/2 || end < early/8 && end < late/2
	}
	return t
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
