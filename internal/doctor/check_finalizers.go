package doctor

import (
	"cmp"
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"time"
)

// finalizerCheck asks whether finalizers and cleanups run as fast as objects become due for them. All finalizers have one goroutine: where
// that is stuck in one, no other object with a finalizer is ever freed; where it is too slow, ever fewer of them. Cleanups of
// runtime.AddCleanup have a few goroutines, and the same trouble.
var finalizerCheck = Check{
	Name: "finalizers",
	Skip: func(e *Evidence) string {
		if len(e.Goroutines) < 2 && len(e.queueOf(finalizers)) < leastQueue && len(e.queueOf(cleanups)) < leastQueue {
			return "it takes two dumps of the goroutines, at different times, or the runtime's figures of finalizers and cleanups at four times"
		}
		return ""
	},
	Ask: func(e *Evidence) (list []Finding) {
		runners := runnersOf(e)
		for _, kind := range []runnerKind{finalizers, cleanups} {
			list = append(list, askQueue(e, kind, runners)...)
		}
		return append(list, askStuck(e, runners)...)
	},
}

// runnerKind is what a goroutine of the runtime runs.
type runnerKind string

const (
	finalizers runnerKind = "finalizers"
	cleanups   runnerKind = "cleanups"
)

// leastQueue is how many figures of a queue tell a trend.
const leastQueue = 4

// runner is a line of the program's own at which a goroutine that runs finalizers or cleanups stood.
type runner struct {
	kind  runnerKind
	g     Goroutine // as it was last seen there
	at    Frame
	looks int // at how many of the dumps
	waits int // and waited, neither running nor about to
}

// runnersOf are those of all dumps, those that were seen most often first.
func runnersOf(e *Evidence) (list []runner) {
	p := e.places()
	for _, d := range e.Goroutines {
		for _, g := range d.Goroutines {
			kind, ok := runs(g.Frames)
			if !ok {
				continue
			}
			own := p.firstOwn(g.Frames)
			if own < 0 {
				continue
			}
			at := g.Frames[own]
			i := slices.IndexFunc(list, func(r runner) bool { return r.g.ID == g.ID && r.at.File == at.File && r.at.Line == at.Line })
			if i < 0 {
				i, list = len(list), append(list, runner{kind: kind, at: at})
			}
			list[i].looks++
			if g.State != "running" && g.State != "runnable" || list[i].g.ID == 0 {
				list[i].g = g
			}
			if g.State != "running" && g.State != "runnable" {
				list[i].waits++
			}
		}
	}
	slices.SortStableFunc(list, func(a, b runner) int { return cmp.Compare(b.looks, a.looks) })
	return list
}

// runs says whether a goroutine is the runtime's own that runs finalizers or cleanups.
func runs(frames []Frame) (kind runnerKind, ok bool) {
	for _, f := range frames {
		switch {
		case strings.HasPrefix(f.Function, "runtime.runfinq"), strings.HasPrefix(f.Function, "runtime.runFinalizers"):
			return finalizers, true
		case strings.HasPrefix(f.Function, "runtime.runCleanups"):
			return cleanups, true
		}
	}
	return "", false
}

// askStuck asks whether a goroutine that runs them is at one line at every look: those that wait for a moment are not.
func askStuck(e *Evidence, runners []runner) (list []Finding) {
	queue := e.queueOf(finalizers)
	goesOn := len(queue) >= 2 && queue[len(queue)-1].run > queue[0].run
	for _, r := range runners {
		if len(e.Goroutines) < 2 || r.waits < len(e.Goroutines) || r.kind == finalizers && goesOn {
			continue
		}
		list = append(list, Finding{
			Severity: Major, Confidence: 0.95, rank: 110, Line: lineOf(r.at, "waits here"),
			Sentence: fmt.Sprintf("a finalizer or cleanup is stuck in %s at %s: none that comes after it runs, and what they belong to stays", r.g.State, lineOf(r.at, "")),
			Evidence: []string{fmt.Sprintf("goroutine %d, which runs them, was there at each of %d looks", r.g.ID, r.waits)},
			Advice:   "a finalizer must not wait: hand the work to a goroutine of its own over a channel with room, or close explicitly and do without one",
		})
	}
	return list
}

// queueLook is the runtime's count of finalizers or cleanups at one moment, as totals since the start.
type queueLook struct {
	at          time.Duration
	queued, run uint64
}

// waiting is how many were due and had not run.
func (q queueLook) waiting() float64 { return float64(q.queued - min(q.run, q.queued)) }

// queueOf are the counts of one kind, of the moments that have them.
func (e *Evidence) queueOf(kind runnerKind) (list []queueLook) {
	for _, f := range e.Runtime {
		q := queueLook{f.At, f.FinalizersQueued, f.FinalizersRun}
		if kind == cleanups {
			q = queueLook{f.At, f.CleanupsQueued, f.CleanupsRun}
		}
		if q.queued > 0 {
			list = append(list, q)
		}
	}
	return list
}

// askQueue asks whether more and more of a kind wait to be run.
func askQueue(e *Evidence, kind runnerKind, runners []runner) []Finding {
	looks := e.queueOf(kind)
	n := len(looks)
	if n < leastQueue {
		return nil
	}
	var times []time.Duration
	var waiting, due []float64
	for i, l := range looks {
		times, waiting = append(times, l.at), append(waiting, l.waiting())
		if i > 0 {
			due = append(due, float64(l.queued-min(looks[i-1].queued, l.queued)))
		}
	}
	t := trendOf(workAxis(e, times), waiting)
	a, b := looks[0], looks[n-1]
	span := (b.at - a.at).Seconds()
	// A collection makes many due at once, and the runtime counts those that ran by the hundred: what waits has to be more than came
	// between two looks.
	const least = 500
	if t.confidence < 0.95 || t.fell || t.levelling || t.last-t.first < least || b.waiting() < 2*median(due) || span <= 0 {
		return nil
	}
	came, ran := float64(b.queued-min(a.queued, b.queued))/span, float64(b.run-min(a.run, b.run))/span
	f := Finding{Severity: Major, Confidence: t.confidence, rank: 105}
	f.Sentence = fmt.Sprintf("%s become due faster than they run: %.0f wait, %.0f more each second, and what they belong to stays", kind, b.waiting(), t.slope)
	f.Evidence = []string{fmt.Sprintf("%.0f a second become due and %.0f a second run, by the runtime's own figures at %d times in %s", came, ran, n, (b.at - a.at).Round(time.Second/10))}
	f.Advice = "make what they run shorter: hand slow work to a goroutine of its own over a channel with room, or close explicitly and do without them"
	for _, r := range runners {
		if r.kind == kind && 2*r.looks >= len(e.Goroutines) {
			f.Line = lineOf(r.at, "runs here most of the time")
			f.Sentence += fmt.Sprintf("; the goroutine that runs them is in state %s at %s", r.g.State, f.Line)
			f.Evidence = append(f.Evidence, fmt.Sprintf("it was seen there at %d of %d looks", r.looks, len(e.Goroutines)))
			return []Finding{f}
		}
	}
	// Not seen at it: those that the source has may be the ones.
	set := e.Source.finalizersSet(kind)
	if len(set) > 0 {
		f.Line = set[0]
		f.Related = set[1:min(len(set), 4)]
	}
	return []Finding{f}
}

// finalizersSet are the calls that set a finalizer, or a cleanup.
func (s *Source) finalizersSet(kind runnerKind) (list []Line) {
	if s == nil {
		return nil
	}
	want := map[runnerKind]string{finalizers: "SetFinalizer", cleanups: "AddCleanup"}[kind]
	for _, name := range sortedKeys(s.files) {
		ast.Inspect(s.files[name], func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				if pkg, called := s.callName(c); pkg == "runtime" && called == want {
					list = append(list, s.line(c, "set here"))
				}
			}
			return true
		})
	}
	return list
}
