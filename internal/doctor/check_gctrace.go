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

// askPacer asks whether collections hold the heap to their goals: whether they begin in time, and whether it is beyond the goal when
// they have marked. If not, again and again, the program needs more memory than GOGC says, and breaks a limit that is set by that.
func askPacer(log []Cycle) (list []Finding) {
	// The pacer begins a mark before all but a twentieth of the way is gone from what was alive to the goal. Where it could not, the
	// runtime lifts the goal to what there is already. Of shorter ways, figures to a MiB do not tell.
	const shortest = 40 << 20
	judged, late, compared := 0, 0, 0
	var excess []float64
	var slow, large Cycle // the worst of each kind
	for i, x := range log {
		if x.Forced {
			continue
		}
		if i > 0 && x.Goal >= log[i-1].Live+shortest {
			judged++
			if x.Begin >= x.Goal {
				late++
				if x.Begin > slow.Begin {
					slow = x
				}
			}
		}
		if x.Goal >= leastGoal {
			compared++
		}
		if x.beyondGoal() {
			excess = append(excess, float64(x.End)/float64(x.Goal)-1)
			if x.End-x.Goal > large.End-large.Goal {
				large = x
			}
		}
	}
	if judged >= leastPaced && late > judged/2 {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 7, step: stepGoal,
			Sentence: fmt.Sprintf("marks begin too late: in %d of the last %d collections the heap had reached the goal by then", late, judged),
			Evidence: []string{fmt.Sprintf("collection %d began with %s, and found %s alive: what is allocated comes in pieces that are large for this heap, and no collection begins in the middle of one", slow.Number, bytesText(float64(slow.Begin)), bytesText(float64(slow.Live)))},
			Advice:   "keep large buffers and use them again, or fill them in smaller parts; below the limit of memory leave room for the largest ones",
		})
	}
	if compared >= leastPaced && 3*len(excess) > compared {
		list = append(list, Finding{
			Severity: Minor, Confidence: 0.9, rank: 8, step: stepGoal,
			Sentence: fmt.Sprintf("the heap outgrows the goals of its collections: in %d of the last %d it was beyond at the end of the mark, by %.0f %% typically", len(excess), compared, 100*median(excess)),
			Evidence: []string{fmt.Sprintf("collection %d was to end at %s, began at %s and ended at %s: so much memory has to be there", large.Number, bytesText(float64(large.Goal)), bytesText(float64(large.Begin)), bytesText(float64(large.End)))},
			Advice:   "allocate less while a collection marks, or give the program CPUs that are really its own, since marking wants a quarter of them; below the limit of memory leave room for what is beyond the goal",
		})
	}
	return list
}

// leastPaced is how many collections tell whether goals are kept.
const leastPaced = 8

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
