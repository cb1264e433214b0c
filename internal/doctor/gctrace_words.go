package doctor

import (
	"fmt"
	"slices"
	"time"
)

// The names of the steps of a report that are about a log of collections.
const (
	stepCollection = "a collection"
	stepPauses     = "its pauses"
	stepMark       = "its mark"
	stepHeap       = "its heap"
	stepGoal       = "its goal"
	stepRate       = "how often"
)

// beyondGoal says whether the heap was well beyond its goal at the end of the mark. To a MiB, small heaps tell nothing.
func (c Cycle) beyondGoal() bool { return c.Goal >= leastGoal && c.End > c.Goal+c.Goal/5 }

// leastGoal is the least goal that is compared with a heap's size.
const leastGoal = 16 << 20

// traceSteps say what a typical collection of a log was like: in a sentence, and each field of its line with what that tells. Figures are
// medians of the collections that nobody asked for, where there are such. It is nil for an empty log.
func traceSteps(log []Cycle) []Step {
	if len(log) == 0 {
		return nil
	}
	c := slices.DeleteFunc(slices.Clone(log), func(x Cycle) bool { return x.Forced })
	forced := len(log) - len(c)
	if len(c) == 0 {
		c = log
	}
	typical := func(of func(Cycle) float64) float64 {
		var v []float64
		for _, x := range c {
			v = append(v, of(x))
		}
		return median(v)
	}
	took := func(of func(Cycle) time.Duration) time.Duration {
		return time.Duration(typical(func(x Cycle) float64 { return float64(of(x)) }))
	}
	begin, end := took(func(x Cycle) time.Duration { return x.SweepTermination }), took(func(x Cycle) time.Duration { return x.MarkTermination })
	pause := took(func(x Cycle) time.Duration { return x.SweepTermination + x.MarkTermination })
	mark := took(func(x Cycle) time.Duration { return x.Mark })
	started, ended := typical(func(x Cycle) float64 { return float64(x.Begin) }), typical(func(x Cycle) float64 { return float64(x.End) })
	alive, goal := typical(func(x Cycle) float64 { return float64(x.Live) }), typical(func(x Cycle) float64 { return float64(x.Goal) })
	longest := time.Duration(0)
	var assist, marked time.Duration
	compared, beyond := 0, 0
	for _, x := range c {
		longest = max(longest, x.SweepTermination+x.MarkTermination)
		assist += x.AssistCPU
		marked += x.AssistCPU + x.BackgroundCPU + x.IdleCPU
		if x.Goal >= leastGoal {
			compared++
		}
		if x.beyondGoal() {
			beyond++
		}
	}

	heap := fmt.Sprintf("%s when it began, %s at the end of the mark, %s of that alive", bytesText(started), bytesText(ended), bytesText(alive))
	switch {
	case ended >= 8<<20 && alive > 0.8*ended:
		heap += ": little was garbage, so that collecting freed little"
	case ended >= 8<<20:
		heap += fmt.Sprintf(": %.0f %% was garbage", 100*(1-min(1, alive/ended)))
	}
	target := bytesText(goal) + " at the end of this very collection; it follows from what the one before found alive, and from GOGC and GOMEMLIMIT"
	switch {
	case beyond > 0:
		target += fmt.Sprintf("; missed by a fifth or more in %d of %d", beyond, compared)
	case compared > 0:
		target += ", and was kept"
	}
	marking := textOf(mark)
	if all := pause + mark; all > 0 {
		marking += fmt.Sprintf(" beside the program, %.0f %% of a collection's time", 100*mark.Seconds()/all.Seconds())
	}
	if marked > 0 {
		marking += fmt.Sprintf("; of its CPU time %.0f %% was work of goroutines that allocate", 100*assist.Seconds()/marked.Seconds())
	}
	marking += ". It costs by what is alive and by the pointers in it, not by what is garbage"

	often := fmt.Sprintf("%d collections", len(log))
	if len(log) == 1 {
		often = "1 collection"
	}
	rate := ""
	if n, span := len(log)-1, log[len(log)-1].At-log[0].At; n > 0 && span > 0 {
		rate = "; " + rateText(float64(n)/span.Minutes())
		often += fmt.Sprintf(" in %s, %s", span.Round(time.Second/10), rateText(float64(n)/span.Minutes()))
	}
	if forced > 0 {
		often += fmt.Sprintf(", %d of them asked for", forced)
	}
	often += fmt.Sprintf("; %.0f %% of the CPU went into them since the program's start", 100*log[len(log)-1].Share)

	return []Step{
		{Name: stepCollection, Value: fmt.Sprintf("typically pauses the program for %s, marks for %s beside it, and leaves %s alive of a heap of %s (goal %s)%s",
			textOf(pause), textOf(mark), bytesText(alive), bytesText(ended), bytesText(goal), rate)},
		{Name: stepPauses, Value: fmt.Sprintf("%s before the mark and %s after it, in which all goroutines stand; the longest two of a collection took %s together", textOf(begin), textOf(end), textOf(longest))},
		{Name: stepMark, Value: marking},
		{Name: stepHeap, Value: heap},
		{Name: stepGoal, Value: target},
		{Name: stepRate, Value: often},
	}
}

// rateText is how often something happens, by its rate a minute.
func rateText(perMinute float64) string {
	switch {
	case perMinute >= 10:
		return fmt.Sprintf("%.0f a minute", perMinute)
	case perMinute >= 1:
		return fmt.Sprintf("%.1f a minute", perMinute)
	}
	return fmt.Sprintf("one in %s", time.Duration(float64(time.Minute)/perMinute).Round(time.Second))
}

// textOf is a time for people: to three figures or so.
func textOf(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second / 10).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond / 10).String()
	}
	return d.Round(time.Microsecond).String()
}
