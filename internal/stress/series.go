package stress

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/longwire/longwire/internal/report"
)

// missing is a figure that was not measured.
var missing = math.NaN()

// times are when the samples were taken.
func times(samples []Sample) []float64 {
	x := make([]float64, len(samples))
	for i := range samples {
		x[i] = samples[i].At
	}
	return x
}

// gauge is a figure of each sample.
func gauge(samples []Sample, of func(*Sample) float64) []float64 {
	y := make([]float64, len(samples))
	for i := range samples {
		y[i] = of(&samples[i])
	}
	return y
}

// rate is how fast a figure grew until each sample, a second. The run began with 0. A sample that follows another at
// once, as the last one may, says nothing of a rate: it has none, and what grew until then counts for the next.
func rate(samples []Sample, of func(*Sample) float64) []float64 {
	return growth(samples, of, 0, 0, 0)
}

// rateOf is rate for a figure whose value when the run began is not known: it begins with the first sample that has it.
func rateOf(samples []Sample, of func(*Sample) float64) []float64 {
	for i := range samples {
		if v := of(&samples[i]); !math.IsNaN(v) {
			return growth(samples, of, i+1, v, samples[i].At)
		}
	}
	return growth(samples, of, len(samples), 0, 0)
}

// growth is rate from sample from on, with what was before.
func growth(samples []Sample, of func(*Sample) float64, from int, before, at float64) []float64 {
	y := make([]float64, len(samples))
	least := 0.25 * interval(samples)
	for i := range samples {
		y[i] = missing
		if i < from {
			continue
		}
		v, d := of(&samples[i]), samples[i].At-at
		if d < least && !(v < before) {
			continue
		}
		if d > 0 && v >= before {
			y[i] = (v - before) / d
		}
		before, at = v, samples[i].At
	}
	return y
}

// interval is the usual time from one sample to the next.
func interval(samples []Sample) float64 {
	if len(samples) < 2 {
		return 0
	}
	d := make([]float64, 0, len(samples)-1)
	for i := 1; i < len(samples); i++ {
		d = append(d, samples[i].At-samples[i-1].At)
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// present says whether there is any value, and one that is not 0.
func present(y []float64) (any, positive bool) {
	for _, v := range y {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			any = true
			positive = positive || v != 0
		}
	}
	return any, positive
}

// figure is one that samples have, by name.
type figure struct {
	name string
	of   func(*Sample) float64
}

// quantiles are the figures of a Quantile, as they are drawn.
var quantiles = []struct {
	name string
	of   func(*Quantile) float64
}{
	{"p50", func(q *Quantile) float64 { return q.P50 }},
	{"p90", func(q *Quantile) float64 { return q.P90 }},
	{"p99", func(q *Quantile) float64 { return q.P99 }},
	{"p99.9", func(q *Quantile) float64 { return q.P999 }},
	{"max", func(q *Quantile) float64 { return q.Max }},
}

// ofQuantile is a figure of a distribution that a sample may not have.
func ofQuantile(q *Quantile, of func(*Quantile) float64) float64 {
	if q == nil || q.Count == 0 {
		return missing
	}
	return of(q)
}

func latency(s *Sample) *Quantile { return s.Latency }
func service(s *Sample) *Quantile { return s.Service }
func connect(s *Sample) *Quantile { return s.Connect }

// ofKernel is a figure of the kernel's part of a sample.
func ofKernel(of func(*KernelSample) uint64) func(*Sample) float64 {
	return func(s *Sample) float64 {
		if s.Kernel == nil {
			return missing
		}
		return float64(of(s.Kernel))
	}
}

// ofServer is a figure of the server's part of a sample; what is 0 was not seen.
func ofServer(of func(*TargetSample) float64) func(*Sample) float64 {
	return func(s *Sample) float64 {
		if s.Server == nil {
			return missing
		}
		if v := of(s.Server); v != 0 {
			return v
		}
		return missing
	}
}

// ofMetric is a figure of the server's metrics.
func ofMetric(of func(*TargetSample) *float64) func(*Sample) float64 {
	return func(s *Sample) float64 {
		if s.Server == nil || of(s.Server) == nil {
			return missing
		}
		return *of(s.Server)
	}
}

// kernelCounters are the kernel's counters, the ones that tell the most first.
var kernelCounters = []figure{
	{"SYN retransmits", ofKernel(func(k *KernelSample) uint64 { return k.SynRetrans })},
	{"listen overflows", ofKernel(func(k *KernelSample) uint64 { return k.ListenOverflows })},
	{"listen drops", ofKernel(func(k *KernelSample) uint64 { return k.ListenDrops })},
	{"SYN queue drops", ofKernel(func(k *KernelSample) uint64 { return k.SynQueueDrops })},
	{"retransmits", ofKernel(func(k *KernelSample) uint64 { return k.RetransSegs })},
	{"timeouts", ofKernel(func(k *KernelSample) uint64 { return k.Timeouts })},
	{"resets", ofKernel(func(k *KernelSample) uint64 { return k.EstabResets })},
	{"resets sent", ofKernel(func(k *KernelSample) uint64 { return k.OutResets })},
	{"failed attempts", ofKernel(func(k *KernelSample) uint64 { return k.AttemptFails })},
	{"memory pressures", ofKernel(func(k *KernelSample) uint64 { return k.MemoryPressures })},
	{"aborts on memory", ofKernel(func(k *KernelSample) uint64 { return k.AbortsOnMemory })},
	{"TIME_WAIT overflows", ofKernel(func(k *KernelSample) uint64 { return k.TimeWaitOverflow })},
}

// kernelGauges are how many conns there are in a state.
var kernelGauges = []figure{
	{"established", ofKernel(func(k *KernelSample) uint64 { return k.Established })},
	{"TIME_WAIT", ofKernel(func(k *KernelSample) uint64 { return k.TimeWait })},
	{"orphans", ofKernel(func(k *KernelSample) uint64 { return k.Orphans })},
}

// errorKinds are the kinds of errors, the most frequent first, and how many there are of all.
func errorKinds(m map[string]int64) (kinds []string, sum int64) {
	for _, n := range m {
		sum += n
	}
	kinds = slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
	return kinds, sum
}

// main is the scenario whose latency stands for the run: of those that have one, that with the most samples.
func (r *Report) main() *Outcome {
	var best *Outcome
	for i := range r.Scenarios {
		o := &r.Scenarios[i]
		if o.Latency != nil && o.Latency.Corrected.Count > 0 && (best == nil || o.Latency.Corrected.Count > best.Latency.Corrected.Count) {
			best = o
		}
	}
	return best
}

// throughput is the exchanges a second of all scenarios.
func (r *Report) throughput() float64 {
	sum := 0.0
	for i := range r.Scenarios {
		sum += r.Scenarios[i].Rate
	}
	return sum
}

// firstBroken is the index of the first step that broke, -1 when none did.
func (r *Report) firstBroken() int {
	return slices.IndexFunc(r.Steps, func(s Step) bool { return s.Broken })
}

// tenths is a time within the run, to the tenth.
func tenths(t float64) string { return report.Seconds.Format(math.Round(t*10) / 10) }

// level is what a step asked for, in words.
func (s *Step) level() string {
	if s.Rate > 0 {
		return report.Count.Format(float64(s.Conns)) + " · " + report.PerSecond.Format(s.Rate)
	}
	return report.Count.Format(float64(s.Conns))
}

// breakingPoint is what a search came to, in words: 1,250 conns.
func (r *Report) breakingPoint() (held, broken string) {
	at := func(l *Level) string {
		if l == nil {
			return ""
		}
		text := report.Count.Format(l.Level)
		if r.Unit != "" {
			text += " " + r.Unit
		}
		return text
	}
	return at(r.Breaking.Highest), at(r.Breaking.Lowest)
}
