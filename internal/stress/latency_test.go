package stress

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var plotted = []float64{50, 75, 90, 95, 99, 99.9, 99.99}

func within(t *testing.T, what string, got time.Duration, want, part float64) {
	t.Helper()
	if d := math.Abs(float64(got)-want) / want; !(d <= part) {
		t.Errorf("%s = %v, want %v: %.2f %% off", what, got, time.Duration(want), d*100)
	}
}

// A server that stalls for 200 ms once a second and else answers within 10 µs. A sender with few conns, each of which
// waits for its answer, can't send much during a stall, and its service times hardly see it.
func TestStall(t *testing.T) {
	const (
		stall   = 200 * time.Millisecond
		service = 10 * time.Microsecond
		rate    = 1000
		conns   = 4
		length  = 2 * time.Minute
	)
	// answer is when a request that is sent at a time is answered.
	answer := func(sent time.Duration) time.Duration {
		if in := sent % time.Second; in < stall {
			sent += stall - in
		}
		return sent + service
	}
	for _, spacing := range []Spacing{Even, Exponential} {
		t.Run(spacing.String(), func(t *testing.T) {
			// Two loops, which share the arrivals and are merged.
			var all Samples
			var waits []time.Duration // what each arrival would have taken if it had not had to wait for a conn
			for loop := range int64(2) {
				p := NewPacer(Constant(rate, length), spacing, 11)
				var r Recorder
				var free [conns / 2]time.Duration // when each conn can send
				for n := loop; ; n += 2 {
					due, ok := p.Due(n)
					if !ok {
						break
					}
					c := 0
					for i := range free {
						if free[i] < free[c] {
							c = i
						}
					}
					sent := max(due, free[c])
					free[c] = answer(sent)
					r.Record(due, sent, free[c])
					waits = append(waits, answer(due)-due)
					if n%999 == 0 {
						r.Take(&all)
					}
				}
				r.Take(&all)
			}
			if got, want := all.Corrected.Count(), int64(len(waits)); got != want || all.Service.Count() != got || spacing == Even && got != rate*int64(length/time.Second) {
				t.Fatalf("%d corrected and %d service times, want %d", got, all.Service.Count(), want)
			}
			slices.Sort(waits)
			truth := func(p float64) float64 { return float64(waits[int(math.Ceil(p/100*float64(len(waits))-1e-6))-1]) }
			if spacing == Even {
				// Arrivals are even over the second, so the fraction stall−x of them waits for more than x.
				for _, p := range []float64{90, 95, 99, 99.9} {
					byHand := float64(stall) - (1-p/100)*float64(time.Second) + float64(service)
					within(t, fmt.Sprintf("true p%v", p), time.Duration(truth(p)), byHand, 0.01)
				}
			}
			for _, p := range plotted {
				within(t, fmt.Sprintf("corrected p%v", p), all.Corrected.Percentile(p), truth(p), 0.01)
			}
			for _, p := range []float64{90, 95, 99} {
				if got := all.Service.Percentile(p); float64(got) > truth(p)/100 {
					t.Errorf("service p%v = %v: it is not the %v that it was", p, got, time.Duration(truth(p)))
				}
			}
			t.Logf("p90 %v corrected, %v true, %v service", all.Corrected.Percentile(90), time.Duration(truth(90)), all.Service.Percentile(90))
		})
	}
}

// Known distributions, of which each value occurs as often as it should: what is off is the recorder's.
func TestKnownDistributions(t *testing.T) {
	const n, seed = 200_000, 5
	for _, c := range []struct {
		name  string
		truth func(u float64) float64 // ns at a quantile
	}{
		{"log-normal", func(u float64) float64 { return 2e6 * math.Exp(0.8*math.Sqrt2*math.Erfinv(2*u-1)) }},
		{"exponential", func(u float64) float64 { return -5e5 * math.Log(1-u) }},
		{"fast", func(u float64) float64 { return 3000 - 900*math.Log(1-u) }},
		{"two humps", func(u float64) float64 {
			if u < 0.97 {
				return 1e6 * (1 + u)
			}
			return 3e8 * (1 + u)
		}},
		{"hours", func(u float64) float64 { return 1e9 * math.Pow(1e4, u) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			p := NewPacer(Constant(50_000, Forever), Exponential, seed)
			var rec [3]Recorder
			var all Samples
			for i, k := range r.Perm(n) {
				due, _ := p.Due(int64(i))
				rec[i%3].Record(due, due, due+time.Duration(c.truth((float64(k)+0.5)/n)))
			}
			for i := range rec {
				rec[i].Take(&all)
			}
			for _, p := range plotted {
				within(t, fmt.Sprintf("p%v", p), all.Corrected.Percentile(p), c.truth(p/100), 0.01)
			}
			if got, want := all.Corrected.Max(), time.Duration(c.truth((n-0.5)/n)); got != want {
				t.Errorf("max = %v, want %v", got, want)
			}
		})
	}
}

// Percentiles are those of the ranks, at the edges too.
func TestPercentileRanks(t *testing.T) {
	const seed = 9
	r := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 3, 10, 99, 100, 101, 1000, 12_345} {
		var d Distribution
		values := make([]time.Duration, n)
		for i := range values {
			values[i] = time.Duration(math.Exp(r.Float64() * 34)) // up to days
			d.Record(values[i])
		}
		slices.Sort(values)
		var sum float64
		for _, v := range values {
			sum += float64(v)
		}
		for _, p := range append([]float64{0, 1e-9, 10, 33.3, 100}, plotted...) {
			rank := max(1, int(math.Ceil(p*float64(n)/100-1e-6)))
			want, got := values[rank-1], d.Percentile(p)
			if int64(want) >= lastRange {
				want = d.Max() // no more is known
			}
			if math.Abs(float64(got-want)) > 0.001*float64(want) {
				t.Errorf("seed %d, %d samples: p%v = %d, want %d", seed, n, p, got, want)
			}
		}
		if d.Count() != int64(n) || d.Min() != values[0] || d.Max() != values[n-1] || math.Abs(float64(d.Mean())-sum/float64(n)) > 1+1e-9*sum {
			t.Errorf("seed %d: count %d min %v max %v mean %v, want %d %v %v %v", seed, d.Count(), d.Min(), d.Max(), d.Mean(), n, values[0], values[n-1], time.Duration(sum/float64(n)))
		}
	}
}

// Nothing is lost above the range, whichever side of a merge has it.
func TestAboveRange(t *testing.T) {
	long := []time.Duration{time.Millisecond, 16 * time.Second, time.Duration(firstRange) - 1, time.Duration(firstRange), time.Minute, time.Hour, time.Duration(lastRange) - 1, time.Duration(lastRange), 100 * time.Hour, Forever}
	for i := range long {
		var a, b, none Distribution
		for _, v := range long[:i] {
			a.Record(v)
		}
		for _, v := range long[i:] {
			b.Record(v)
		}
		before := b.Count()
		a.Merge(&b)
		a.Merge(&none)
		if a.Count() != int64(len(long)) || a.Max() != Forever || a.Min() != time.Millisecond || b.Count() != before {
			t.Errorf("split at %d: count %d, min %v, max %v; want %d, 1ms, %v", i, a.Count(), a.Min(), a.Max(), len(long), Forever)
		}
		for k, v := range long {
			p := 100 * float64(k+1) / float64(len(long))
			if int64(v) >= lastRange {
				v = Forever // they count as the longest
			}
			within(t, fmt.Sprintf("split at %d: p%v", i, p), a.Percentile(p), float64(v), 0.001)
		}
	}
	var d Distribution
	d.Record(-5)
	if d.Count() != 1 || d.Max() != 0 || d.Percentile(99) != 0 {
		t.Errorf("a negative time: count %d, max %v", d.Count(), d.Max())
	}
}

func TestRecorder(t *testing.T) {
	const ms = time.Millisecond
	var r Recorder
	var interval, run Samples
	r.Record(10*ms, 30*ms, 40*ms) // delayed by a stall
	r.Record(10*ms, 5*ms, 15*ms)  // sent early
	r.GiveUp(0, 10*ms, 310*ms)
	r.Unsent(100*ms, 400*ms)
	r.Unsent(500*ms, 400*ms) // not due yet
	r.Take(&interval, &run)
	if c, s := interval.Corrected.Count(), interval.Service.Count(); c != 4 || s != 3 || interval.Unanswered != 2 {
		t.Errorf("%d corrected, %d service, %d unanswered; want 4, 3, 2", c, s, interval.Unanswered)
	}
	if c, s := interval.Corrected.Max(), interval.Service.Max(); c != 310*ms || s != 300*ms {
		t.Errorf("max %v corrected, %v service; want 310ms, 300ms", c, s)
	}
	if c := interval.Corrected.Percentile(50); c < 29900*time.Microsecond || c > 30100*time.Microsecond {
		t.Errorf("corrected p50 = %v, want 30ms", c)
	}
	interval.Reset()
	r.Take(&interval, &run)
	if interval.Corrected.Count() != 0 || run.Corrected.Count() != 4 {
		t.Errorf("the second interval has %d, the run %d; want 0 and 4", interval.Corrected.Count(), run.Corrected.Count())
	}
	r.Record(0, 0, ms)
	r.Take(&interval, &run)
	if got := interval.Corrected.Max(); got != ms || run.Corrected.Count() != 5 {
		t.Errorf("the third interval has max %v, the run %d samples; want 1ms and 5", got, run.Corrected.Count())
	}
}

func TestLatenciesJSON(t *testing.T) {
	var r Recorder
	var s Samples
	for i := range time.Duration(1000) {
		r.Record(0, i*time.Microsecond, 2*i*time.Microsecond)
	}
	r.GiveUp(0, 0, time.Second)
	r.Take(&s)
	b, err := json.Marshal(s.Latencies())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"corrected":{"count":1001,"mean_us":1997.002,"min_us":0,"p50_us":1000.447,"p75_us":1500.159,"p90_us":1800.191,"p95_us":1900.543,"p99_us":1980.415,"p999_us":1998.847,"p9999_us":1000000,"max_us":1000000},` +
		`"service":{"count":1001,"mean_us":1498.001,"min_us":0,"p50_us":500.223,"p75_us":750.079,"p90_us":900.095,"p95_us":950.271,"p99_us":990.207,"p999_us":999.423,"p9999_us":1000000,"max_us":1000000},"unanswered":1}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	b, err = json.Marshal((&Samples{}).Latencies())
	if err != nil || len(b) == 0 {
		t.Errorf("without samples: %s, %v", b, err)
	}
}

func TestMarks(t *testing.T) {
	var d Distribution
	if got := d.Marks(); got != nil {
		t.Errorf("without samples: %v", got)
	}
	for i := range time.Duration(10_000) {
		d.Record(i * time.Microsecond)
	}
	marks := d.Marks()
	for i := 1; i < len(marks); i++ {
		if marks[i].Percentile <= marks[i-1].Percentile || marks[i].Time < marks[i-1].Time {
			t.Errorf("mark %d: %v after %v", i, marks[i], marks[i-1])
		}
	}
	if last := marks[len(marks)-1]; last != (Mark{100, 9999}) || len(marks) < 60 || len(marks) > 100 {
		t.Errorf("%d marks, the last %v; want 60 to 100, up to the longest", len(marks), last)
	}
}

func TestRecorderAllocs(t *testing.T) {
	var r Recorder
	var s Samples
	r.Record(0, 0, 1)
	r.Take(&s)
	if got := testing.AllocsPerRun(1000, func() { r.Record(0, 5, 1e9) }); got != 0 {
		t.Errorf("Record allocates %v times", got)
	}
	if got := testing.AllocsPerRun(3, func() { r.Take(&s) }); got > 4 { // the histograms' iterators
		t.Errorf("Take allocates %v times", got)
	}
}

func BenchmarkRecorder(b *testing.B) {
	var r Recorder
	var at time.Duration
	for b.Loop() {
		r.Record(at, at+10, at+12345)
		at += 777
	}
}
