package doctor

import (
	"fmt"
	"time"
)

// gctraceCheck asks what the collector's own log says: whether what survives grows, and whether collecting takes what the program
// needs.
var gctraceCheck = Check{
	Name: "gctrace",
	Skip: func(e *Evidence) string {
		if len(e.Trace) == 0 {
			return "there is no output of GODEBUG=gctrace=1"
		}
		if len(e.Trace) < 8 {
			return fmt.Sprintf("it takes the lines of 8 collections or more, and there are %d", len(e.Trace))
		}
		return ""
	},
	Ask: askTrace,
}

func askTrace(e *Evidence) (list []Finding) {
	c := e.Trace
	n := len(c)
	var times []time.Duration
	var live []float64
	for _, x := range c {
		times = append(times, x.At)
		live = append(live, float64(x.Live))
	}
	span := times[n-1] - times[0]
	// Of long logs, the collections of each sixtieth of the time are one figure, their median: pairs of all would be too many.
	times, live = thin(times, live, 60)
	t := trendOf(axis{times: times}, live)
	if t.confidence >= 0.99 && !t.fell && !t.levelling && t.last-t.first >= max(2<<20, t.first/10) {
		list = append(list, Finding{
			Severity: Major, Confidence: t.confidence, PerHour: t.slope * 3600, rank: 20,
			Sentence: fmt.Sprintf("what survives collections grows by %s an hour: something in the heap is not let go of", bytesText(t.slope*3600)),
			Evidence: []string{fmt.Sprintf("from %s to %s (medians of the first and last quarter) over %d collections in %s, and at the same pace at the end", bytesText(t.first), bytesText(t.last), n, span.Round(time.Second/10))},
			Advice:   "the log does not know the line: serve /debug/pprof and point the doctor at it",
		})
	}
	var assist, mark time.Duration
	tight, pressed := 0, 0
	recent := c[n/2:]
	for i, x := range recent {
		assist += x.AssistCPU
		mark += x.AssistCPU + x.BackgroundCPU
		// At a memory limit the goal is pushed down to what is alive already, and collections follow one another.
		if x.Live > 8<<20 && x.Goal <= x.Live+x.Live/10 {
			tight++
			if i > 0 && x.At-recent[i-1].At < 2*(x.Mark+10*time.Millisecond) {
				pressed++
			}
		}
	}
	if tight > len(recent)/2 && pressed > len(recent)/4 {
		list = append(list, Finding{
			Severity: Critical, Confidence: 0.9, rank: 30,
			Sentence: "the collector runs nearly all the time: what is alive is close to the memory limit",
			Evidence: []string{fmt.Sprintf("in %d of the last %d collections the goal was within a tenth of what was alive, %d followed right upon another; %.0f %% of the CPU since the start went into collecting", tight, len(recent), pressed, 100*c[n-1].Share)},
			Advice:   "raise GOMEMLIMIT, or make what is alive smaller: at the limit more collecting frees nothing",
		})
	} else if c[n-1].Share >= 0.25 && span > 5*time.Second {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 10,
			Sentence: fmt.Sprintf("collecting takes %.0f %% of the program's CPU", 100*c[n-1].Share),
			Evidence: []string{fmt.Sprintf("%d collections in %s", n, span.Round(time.Second/10))},
			Advice:   "allocate less, or raise GOGC or GOMEMLIMIT if there is memory to spare",
		})
	}
	if mark > time.Second && assist > mark*3/10 {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 5,
			Sentence: fmt.Sprintf("goroutines that allocate did %.0f %% of the marking themselves: they allocate faster than the collector keeps up with", 100*assist.Seconds()/mark.Seconds()),
			Evidence: []string{fmt.Sprintf("%s of %s CPU in the last %d collections", assist.Round(time.Millisecond), mark.Round(time.Millisecond), len(recent))},
			Advice:   "allocate less in bursts, or raise GOGC, so that collections begin earlier for their length",
		})
	}
	return list
}

// thin makes a series of at most n figures: the medians of stretches of it.
func thin(times []time.Duration, values []float64, n int) ([]time.Duration, []float64) {
	if len(values) <= n {
		return times, values
	}
	var t []time.Duration
	var v []float64
	for i := range n {
		from, to := i*len(values)/n, (i+1)*len(values)/n
		t = append(t, times[(from+to)/2])
		v = append(v, median(values[from:to]))
	}
	return t, v
}
