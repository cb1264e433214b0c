package doctor

import (
	"fmt"
	"time"
)

// gctraceCheck asks what the collector's own log says: whether what survives grows, whether collecting takes what the program
// needs, and whether the heap keeps to its goals.
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
			Severity: Major, Confidence: t.confidence, PerHour: t.slope * 3600, rank: 20, step: stepHeap,
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
			Severity: Critical, Confidence: 0.9, rank: 30, step: stepGoal,
			Sentence: "the collector runs nearly all the time: what is alive is close to the memory limit",
			Evidence: []string{fmt.Sprintf("in %d of the last %d collections the goal was within a tenth of what was alive, %d followed right upon another; %.0f %% of the CPU since the start went into collecting", tight, len(recent), pressed, 100*c[n-1].Share)},
			Advice:   "raise GOMEMLIMIT, or make what is alive smaller: at the limit more collecting frees nothing",
		})
	} else if c[n-1].Share >= 0.25 && span > 5*time.Second {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 10, step: stepRate,
			Sentence: fmt.Sprintf("collecting takes %.0f %% of the program's CPU", 100*c[n-1].Share),
			Evidence: []string{fmt.Sprintf("%d collections in %s", n, span.Round(time.Second/10))},
			Advice:   "allocate less, or raise GOGC or GOMEMLIMIT if there is memory to spare",
		})
	}
	if mark > time.Second && assist > mark*3/10 {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 5, step: stepMark,
			Sentence: fmt.Sprintf("goroutines that allocate did %.0f %% of the marking themselves: they allocate faster than the collector keeps up with", 100*assist.Seconds()/mark.Seconds()),
			Evidence: []string{fmt.Sprintf("%s of %s CPU in the last %d collections", assist.Round(time.Millisecond), mark.Round(time.Millisecond), len(recent))},
			Advice:   "allocate less in bursts, or raise GOGC, so that collections begin earlier for their length",
		})
	}
	if tight <= len(recent)/2 {
		list = append(list, askPacer(recent)...)
	}
	return list
}

// askPacer asks whether collections end with a heap beyond what they were to hold it to, again and again: then the program needs more
// memory than GOGC says, and a limit that is set by it is broken.
func askPacer(log []Cycle) []Finding {
	compared, late := 0, 0
	var excess []float64
	var worst Cycle
	for _, x := range log {
		if x.Forced || x.Goal < leastGoal {
			continue
		}
		compared++
		if x.Begin > x.Goal {
			late++
		}
		if x.beyondGoal() {
			excess = append(excess, float64(x.End)/float64(x.Goal)-1)
			if worst.Goal == 0 || x.End-x.Goal > worst.End-worst.Goal {
				worst = x
			}
		}
	}
	if compared < 8 || len(excess) <= compared/2 {
		return nil
	}
	f := Finding{Severity: Minor, Confidence: 0.9, rank: 8, step: stepGoal}
	f.Sentence = fmt.Sprintf("the heap outgrows the goals of its collections: in %d of the last %d it was beyond at the end of the mark, by %.0f %% typically", len(excess), compared, 100*median(excess))
	f.Evidence = []string{fmt.Sprintf("collection %d was to end at %s, began at %s and ended at %s: so much memory has to be there", worst.Number, bytesText(float64(worst.Goal)), bytesText(float64(worst.Begin)), bytesText(float64(worst.End)))}
	if late > compared/2 {
		f.Sentence += "; the marks begin too late, with a heap that is beyond the goal already"
		f.Evidence = append(f.Evidence, fmt.Sprintf("%d of %d began beyond the goal: what is allocated comes in pieces that are large for this heap, and a collection cannot begin in the middle of one", late, compared))
		f.Advice = "keep large buffers and use them again, or fill them in smaller parts; leave room for them below the limit of memory"
	} else {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%d of %d began beyond the goal: they begin in time, and the program allocates faster than they mark", late, compared))
		f.Advice = "allocate less in bursts, or give the program CPUs that are really its own: marking wants a quarter of them; leave room for what is beyond the goal below the limit of memory"
	}
	return []Finding{f}
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
