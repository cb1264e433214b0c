package stress

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of a Distribution: it begins at firstRange, and is doubled up to lastRange as longer times come.
const (
	firstRange = int64(1) << 34 // ns: 17 s
	lastRange  = int64(1) << 45 // ns: 9.8 h
	digits     = 3              // significant digits: a bucket is at most 0.1 % wide
)

// Distribution is how long something took, over all samples. Percentiles are exact to 0.1 %, count, least, greatest
// and mean to the sample. No sample is lost: the range grows with them, and the few that are longer than 9 hours
// count as the longest. The zero value is empty and ready; it takes 200 KB with its first sample. One goroutine at a
// time may use it, and it must not be copied once used.
type Distribution struct {
	h        *hdrhistogram.Histogram // ns; nil before the first sample
	over     int64                   // samples above lastRange
	min, max time.Duration
	sum      float64 // ns
}

// Record adds a sample. A negative time counts as 0.
func (d *Distribution) Record(t time.Duration) {
	t = max(0, t)
	if d.Count() == 0 || t < d.min {
		d.min = t
	}
	d.max = max(d.max, t)
	d.sum += float64(t)
	d.add(int64(t), 1)
}

func (d *Distribution) add(ns, n int64) {
	switch {
	case ns >= lastRange:
		d.over += n
		return
	case d.h == nil:
		d.h = hdrhistogram.New(1, max(firstRange, rangeFor(ns)), digits)
	}
	if d.h.RecordValues(ns, n) == nil {
		return
	}
	wider := hdrhistogram.New(1, rangeFor(ns), digits)
	lost := wider.Merge(d.h)
	d.h = wider
	if d.h.RecordValues(ns, n) != nil {
		lost += n
	}
	d.over += lost // cannot be, but a sample that found no place would still be counted
}

// rangeFor is the range that a value needs.
func rangeFor(ns int64) int64 {
	r := firstRange
	for r <= ns && r < lastRange {
		r <<= 1
	}
	return r
}

// Merge adds all samples of another distribution, which stays as it is.
func (d *Distribution) Merge(from *Distribution) {
	if from.Count() == 0 {
		return
	}
	if d.Count() == 0 || from.min < d.min {
		d.min = from.min
	}
	d.max = max(d.max, from.max)
	d.sum += from.sum
	d.over += from.over
	if from.h == nil {
		return
	}
	if d.h == nil || d.h.HighestTrackableValue() < from.h.HighestTrackableValue() {
		wider := hdrhistogram.New(1, from.h.HighestTrackableValue(), digits)
		if d.h != nil {
			d.over += wider.Merge(d.h)
		}
		d.h = wider
	}
	d.over += d.h.Merge(from.h)
}

// Reset makes the distribution empty; it keeps its memory.
func (d *Distribution) Reset() {
	if d.h != nil {
		d.h.Reset()
	}
	*d = Distribution{h: d.h}
}

// Count is how many samples there are.
func (d *Distribution) Count() int64 {
	if d.h == nil {
		return d.over
	}
	return d.over + d.h.TotalCount()
}

// Min is the shortest, Max the longest sample, Mean what they were on average; 0 without samples.
func (d *Distribution) Min() time.Duration { return d.min }

// Max is the longest sample, to the nanosecond, however long.
func (d *Distribution) Max() time.Duration { return d.max }

// Mean is the average of the samples.
func (d *Distribution) Mean() time.Duration {
	if n := d.Count(); n > 0 {
		return time.Duration(d.sum / float64(n))
	}
	return 0
}

// Percentile is the time within which p percent of the samples were done, p from 0 to 100: that of the sample with
// rank ⌈p/100 × count⌉. It is 0 without samples.
func (d *Distribution) Percentile(p float64) time.Duration {
	n := d.Count()
	if n == 0 {
		return 0
	}
	// The last digits of p/100 × n are the rounding of a number such as 99.9, and no further rank.
	rank := int64(math.Ceil(p/100*float64(n)*(1-1e-12) - 1e-9))
	rank = min(max(rank, 1), n)
	in := n - d.over
	if rank > in {
		return d.max
	}
	v := d.h.ValueAtPercentile(float64(rank) / float64(in) * 100)
	return min(max(time.Duration(v), d.min), d.max)
}

// Percentiles is a Distribution in figures, in µs. Its JSON form is stable.
type Percentiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	Min   float64 `json:"min_us"`
	P50   float64 `json:"p50_us"`
	P75   float64 `json:"p75_us"`
	P90   float64 `json:"p90_us"`
	P95   float64 `json:"p95_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	P9999 float64 `json:"p9999_us"`
	Max   float64 `json:"max_us"`
}

// Percentiles is the distribution in figures.
func (d *Distribution) Percentiles() Percentiles {
	at := func(p float64) float64 { return micros(d.Percentile(p)) }
	return Percentiles{
		Count: d.Count(), Mean: micros(d.Mean()), Min: micros(d.min),
		P50: at(50), P75: at(75), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), P9999: at(99.99), Max: micros(d.max),
	}
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

// Mark is one point of a percentile plot.
type Mark struct {
	Percentile float64 `json:"percentile"`
	Time       float64 `json:"us"`
}

// Marks are the points of a percentile plot: five for each halving of what is left to 100 %, as far as there are
// samples to tell them apart, and the longest sample at 100 %.
func (d *Distribution) Marks() []Mark {
	n := d.Count()
	if n == 0 {
		return nil
	}
	const perHalf = 5
	marks := []Mark{{0, micros(d.min)}}
	for left := 1.0; left*float64(n) >= 1; left /= 2 {
		for i := 1; i <= perHalf; i++ {
			p := 100 * (1 - left + left/2*float64(i)/perHalf)
			marks = append(marks, Mark{p, micros(d.Percentile(p))})
		}
	}
	return append(marks, Mark{100, micros(d.max)})
}

// Samples is what a Recorder took down. The zero value is empty and ready. One goroutine at a time may use it.
type Samples struct {
	// Corrected is the time from when each exchange was due to when it was done: what somebody who wanted it then
	// would have waited. A server that stalls is charged for all it delayed.
	Corrected Distribution
	// Service is the time from when each was sent. While a server stalls little is sent, so this looks well when the
	// service does not.
	Service Distribution
	// Unanswered is how many were given up. They are in the distributions with the time until then, the least that
	// they can have taken; those that were never sent are in Corrected alone.
	Unanswered int64
}

// Merge adds all that other has, which stays as it is.
func (s *Samples) Merge(other *Samples) {
	s.Corrected.Merge(&other.Corrected)
	s.Service.Merge(&other.Service)
	s.Unanswered += other.Unanswered
}

// Reset makes it empty; it keeps its memory.
func (s *Samples) Reset() {
	s.Corrected.Reset()
	s.Service.Reset()
	s.Unanswered = 0
}

// Latencies is Samples in figures, corrected and service time side by side. Its JSON form is stable.
type Latencies struct {
	Corrected  Percentiles `json:"corrected"`
	Service    Percentiles `json:"service"`
	Unanswered int64       `json:"unanswered"`
}

// Latencies is the samples in figures.
func (s *Samples) Latencies() Latencies {
	return Latencies{Corrected: s.Corrected.Percentiles(), Service: s.Service.Percentiles(), Unanswered: s.Unanswered}
}

// Recorder takes down samples on the goroutine or loop that owns it, and hands them over in intervals. All times are
// since the run began, on one clock. The zero value is ready.
type Recorder struct {
	now Samples // since the last Take
}

// Record adds an exchange that was due, sent and done at these times. What was sent before it was due counts from
// when it was sent. It allocates nothing once there are samples, unless the range has to grow.
func (r *Recorder) Record(due, sent, done time.Duration) {
	r.now.Corrected.Record(done - min(due, sent))
	r.now.Service.Record(done - sent)
}

// GiveUp adds an exchange that had no answer when the sender stopped to wait for it: on a timeout, on the loss of its
// conn, at the end of the run.
func (r *Recorder) GiveUp(due, sent, at time.Duration) {
	r.Record(due, sent, at)
	r.now.Unanswered++
}

// Unsent adds an exchange that was due and could not be sent until at, for want of a conn or because the run ended.
// What is not due yet at that time is no sample.
func (r *Recorder) Unsent(due, at time.Duration) {
	if due > at {
		return
	}
	r.now.Corrected.Record(at - due)
	r.now.Unanswered++
}

// Take adds all that was recorded since the last Take to each of into, and forgets it: one for the interval of a time
// series, say, and one for the whole run. The owner calls it.
func (r *Recorder) Take(into ...*Samples) {
	for _, s := range into {
		s.Merge(&r.now)
	}
	r.now.Reset()
}
