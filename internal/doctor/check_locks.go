package doctor

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// lockCheck asks which locks goroutines wait for, how long those that could run wait for their turn, and how much they have to help the
// collector.
var lockCheck = Check{
	Name: "locks and scheduling",
	Skip: func(e *Evidence) string {
		if len(e.Locks) == 0 && e.Schedule == nil && (len(e.Runtime) < 2 || !e.Runtime[0].ofLocks() && !e.Runtime[len(e.Runtime)-1].ofLocks()) {
			return "there is no execution trace (net/http/pprof serves it), and neither a mutex nor a block profile: have the program call runtime.SetMutexProfileFraction(100) and runtime.SetBlockProfileRate(100000), each at little cost"
		}
		return ""
	},
	Ask: askLocks,
}

// What is too much. One goroutine in wait on average is a lock that is in use; many are a queue.
const (
	queueAtLock  = 2.0                   // goroutines that wait at one place, on average
	longQueue    = 8.0                   // and when that is worse
	readyTooLong = 50 * time.Millisecond // to be run, for one in a hundred: five turns of ten milliseconds
	assistShare  = 0.25                  // of what goroutines run
	busyShare    = 0.8                   // of its CPUs that a program uses when they are what it lacks
)

// queue is the waiting for a lock at one place.
type queue struct {
	waits, holder Line
	mean          float64 // goroutines in wait, on average
	count         int64
	delay         time.Duration
	from          string // what it is known from
}

func askLocks(e *Evidence) (list []Finding) {
	queues := e.queues()
	for i, q := range queues {
		if i == 3 || q.mean < queueAtLock {
			break
		}
		list = append(list, q.finding(e))
	}
	if len(queues) == 0 || queues[0].mean < queueAtLock {
		list = append(list, askMutexTotal(e)...)
	}
	list = append(list, askReady(e)...)
	return append(list, askAssist(e)...)
}

// queues are the places where goroutines wait for locks, the longest queue first. Places are lines: of the one that waits, or where
// only a mutex profile is there, of the one that holds.
func (e *Evidence) queues() []queue {
	p := e.places()
	byLine := map[string]*queue{}
	add := func(waits, holder Line, span time.Duration, count int64, delay time.Duration, from string) {
		at := waits
		if !at.known() {
			at = holder
		}
		if !at.known() || span <= 0 {
			return
		}
		k := fmt.Sprintf("%s %s:%d", from, at.File, at.Line)
		q := byLine[k]
		if q == nil {
			q = &queue{waits: waits, from: from}
			byLine[k] = q
		}
		if holder.known() && (!q.holder.known() || delay > q.delay) {
			q.holder = holder
		}
		q.mean += delay.Seconds() / span.Seconds()
		q.count += count
		q.delay += delay
	}
	if s := e.Schedule; s != nil {
		for _, l := range s.Locks {
			add(p.own(l.Frames, "waits here"), p.own(l.Holder, "gives it back here"), s.Span, l.Count, l.Delay, "an execution trace")
		}
	}
	for _, l := range e.Locks {
		for _, c := range l.Stacks {
			if c.Holds {
				add(Line{}, p.own(c.Frames, "gives it back here"), l.Span, c.Count, c.Delay, "the mutex profile")
			} else {
				add(p.own(c.Frames, "waits here"), Line{}, l.Span, c.Count, c.Delay, "the block profile")
			}
		}
	}
	var list []queue
	for _, k := range sortedKeys(byLine) {
		list = append(list, *byLine[k])
	}
	// What tells who holds the lock comes first, and of one lock it is enough.
	slices.SortStableFunc(list, func(a, b queue) int {
		return cmp.Or(cmp.Compare(min(b.mean, 1e6), min(a.mean, 1e6)), cmp.Compare(a.from, b.from))
	})
	return e.oneOfEach(list)
}

// oneOfEach leaves out what another source tells of the same lock: who holds it gives it back on a line where it is known already, or in a
// function in which somebody waits for it.
func (e *Evidence) oneOfEach(list []queue) (out []queue) {
	for _, q := range list {
		same := slices.IndexFunc(out, func(o queue) bool {
			return o.holder.known() && o.holder.same(q.holder) || o.waits.known() && o.waits.same(q.waits) ||
				o.from != q.from && (q.holder.known() && q.holder.Function == o.waits.Function || o.holder.known() && o.holder.Function == q.waits.Function)
		})
		if same < 0 {
			out = append(out, q)
			continue
		}
		if !out[same].holder.known() {
			out[same].holder = q.holder
		}
	}
	return out
}

// own is the line of a stack that is nearest to the callee and the program's own, or others' where no line is its own.
func (p places) own(frames []Frame, role string) Line {
	if i := p.firstOwn(frames); i >= 0 {
		return lineOf(frames[i], role)
	}
	for _, f := range frames {
		if p.owner(f) == thirdParty {
			return lineOf(f, role)
		}
	}
	return Line{}
}

func (q *queue) finding(e *Evidence) Finding {
	f := Finding{Severity: Minor, Confidence: 0.9, rank: 35 + min(9, math.Log2(q.mean))}
	if q.mean >= longQueue {
		f.Severity = Major
	}
	f.Line = q.holder
	if l := e.Source.lockTaken(q.holder); l.known() {
		f.Line = l
		if !l.same(q.holder) {
			f.Related = append(f.Related, q.holder)
		}
	}
	switch {
	case !f.Line.known():
		f.Line = q.waits
	case f.Line.same(q.holder) && q.waits.Function == q.holder.Function && q.waits.Line < q.holder.Line:
		// The same code takes the lock above.
		f.Line = q.waits
		f.Related = append(f.Related, q.holder)
	case q.waits.known() && !q.waits.same(f.Line):
		f.Related = append(f.Related, q.waits)
	}
	f.Sentence = fmt.Sprintf("goroutines queue for a lock: %.1f wait for it at any time, at %s", q.mean, f.Line)
	f.Evidence = []string{fmt.Sprintf("%d waits of %s on average, known from %s", q.count, (q.delay / time.Duration(max(1, q.count))).Round(time.Microsecond), q.from)}
	f.Advice = "do less while the lock is held (no calls that wait, no I/O, no work that can be done before or after), or split what it guards by key"
	return f
}

// askMutexTotal is for programs that say how much they wait for locks, but not where.
func askMutexTotal(e *Evidence) []Finding {
	a, b, span := e.runtimeSpan()
	if span <= 0 {
		return nil
	}
	mean := (b.MutexWait - a.MutexWait).Seconds() / span.Seconds()
	if mean < queueAtLock {
		return nil
	}
	return []Finding{{
		Severity: Minor, Confidence: 0.9, rank: 30,
		Sentence: fmt.Sprintf("goroutines queue for locks: %.1f wait at any time; the figures do not say where", mean),
		Evidence: []string{fmt.Sprintf("%s of waiting in %s", (b.MutexWait - a.MutexWait).Round(time.Millisecond), span.Round(time.Millisecond))},
		Advice:   "have the program call runtime.SetMutexProfileFraction(100), or let the doctor take an execution trace (net/http/pprof serves it), and look again",
	}}
}

// runtimeSpan is the first and the last of the runtime's figures.
func (e *Evidence) runtimeSpan() (a, b RuntimeFigures, span time.Duration) {
	if len(e.Runtime) < 2 {
		return a, b, 0
	}
	a, b = e.Runtime[0], e.Runtime[len(e.Runtime)-1]
	return a, b, b.At - a.At
}

// askReady asks how long goroutines that could run are not run. That is the program's doing where it uses up its CPUs; where others do, it
// is the machine's.
func askReady(e *Evidence) []Finding {
	var late time.Duration
	var n int64
	from := ""
	procs := 0
	if s := e.Schedule; s != nil && s.Ready.Count >= 100 {
		late, n, from, procs = s.Ready.Quantile(0.99), s.Ready.Count, "an execution trace", s.Procs
	} else if a, b, span := e.runtimeSpan(); span > 0 && len(a.Latencies) == len(b.Latencies) {
		late, n = bucketQuantile(a.Latencies, b.Latencies, 0.99)
		from = "the runtime's own figures"
	}
	if late < readyTooLong || n < 100 || e.starved() || e.Schedule != nil && !e.Schedule.lasts(func(x Slice) bool { return x.Ready >= readyTooLong/2 }) {
		return nil
	}
	cpus := e.cpusUsed()
	switch {
	case procs > 0 && cpus > 0 && cpus < busyShare*float64(procs), procs == 0 && cpus > 0 && cpus < busyShare:
		return nil // it does not get the CPUs that it could use: others have them
	case procs > 0 && cpus == 0 && e.Schedule.Running.Seconds() < busyShare*float64(procs)*e.Schedule.Span.Seconds():
		return nil
	}
	f := Finding{Severity: Minor, Confidence: 0.8, rank: 20}
	f.Sentence = fmt.Sprintf("goroutines that could run wait for a CPU: one in a hundred for %s or more", late.Round(time.Millisecond))
	f.Evidence = []string{fmt.Sprintf("%d turns, known from %s", n, from)}
	if cpus > 0 {
		f.Evidence = append(f.Evidence, fmt.Sprintf("the program uses %.1f CPUs", cpus))
	}
	f.Advice = "give it more CPUs, or less to do at a time: bound the goroutines that compute (a semaphore of GOMAXPROCS), so that those which answer get their turn"
	if s := e.Schedule; s != nil && len(s.Runs) > 0 {
		p := e.places()
		for _, r := range s.Runs {
			if i := p.firstOwn(r.Frames); i >= 0 {
				f.Line = lineOf(r.Frames[i], "runs longest here")
				break
			}
		}
	}
	return []Finding{f}
}

// starved says whether goroutines ran on more CPUs, by the trace, than the process got from the system: others had them.
func (e *Evidence) starved() bool {
	cpus := e.cpusUsed()
	s := e.Schedule
	return s != nil && cpus > 0 && s.Running.Seconds() > 1.5*cpus*s.Span.Seconds()
}

// cpusUsed is how many CPUs the process used, 0 where it is not known.
func (e *Evidence) cpusUsed() float64 {
	if len(e.Process) < 2 {
		return 0
	}
	a, b := e.Process[0], e.Process[len(e.Process)-1]
	if b.At <= a.At {
		return 0
	}
	return (b.CPU - a.CPU).Seconds() / (b.At - a.At).Seconds()
}

// bucketQuantile is the quantile of what came between two states of a cumulative histogram, and how many those were.
func bucketQuantile(a, b []Bucket, q float64) (time.Duration, int64) {
	if len(b) == 0 {
		return 0, 0
	}
	total := b[len(b)-1].Count - min(a[len(a)-1].Count, b[len(b)-1].Count)
	for i := range b {
		if n := b[i].Count - min(a[i].Count, b[i].Count); float64(n) >= q*float64(total) {
			if b[i].Most == math.MaxInt64 && i > 0 {
				return b[i-1].Most, int64(total)
			}
			return b[i].Most, int64(total)
		}
	}
	return 0, int64(total)
}

// askAssist asks how much of their time goroutines mark for the collector, because they allocate faster than it keeps up with.
func askAssist(e *Evidence) []Finding {
	var assist, run time.Duration
	from := ""
	if s := e.Schedule; s != nil {
		assist, run, from = s.Assist, s.Running, "an execution trace"
	} else if a, b, span := e.runtimeSpan(); span > 0 {
		assist, run, from = b.AssistCPU-a.AssistCPU, b.UserCPU-a.UserCPU+b.AssistCPU-a.AssistCPU, "the runtime's own figures"
	}
	if assist < 50*time.Millisecond || assist.Seconds() < assistShare*run.Seconds() {
		return nil
	}
	// Threads that the system does not let run seem to run all the time, and those that mark beside the program do not get to it.
	if e.starved() || e.Schedule != nil && !e.Schedule.lasts(func(x Slice) bool { return x.Assist.Seconds() >= assistShare*x.Running.Seconds() }) {
		return nil
	}
	f := Finding{Severity: Minor, Confidence: 0.9, rank: 6}
	f.Sentence = fmt.Sprintf("goroutines stall to help the collector: %.0f %% of what they run is marking, since they allocate faster than it keeps up with", 100*assist.Seconds()/run.Seconds())
	f.Evidence = []string{fmt.Sprintf("%s of %s, known from %s", assist.Round(time.Millisecond), run.Round(time.Millisecond), from)}
	f.Advice = "allocate less there, or raise GOGC (or set GOMEMLIMIT with GOGC=off), so that collections begin with more room"
	if s := e.Schedule; s != nil {
		p := e.places()
		for _, a := range s.Assists {
			if i := p.firstOwn(a.Frames); i >= 0 {
				f.Line = lineOf(a.Frames[i], "allocates here")
				break
			}
		}
	}
	return []Finding{f}
}
