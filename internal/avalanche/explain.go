package avalanche

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What the judgement rests on.
const (
	// pause is how long a healthy accept loop may be away, to collect garbage or to wait for a CPU. An accept queue
	// that is full sooner is short for the arrivals; one that is full although it lasts longer is not emptied.
	pause = 100 * time.Millisecond
	// slowHandshake is the least time to an answer that is called slow, and slowFactor how many times it must exceed
	// the time to connect, and what it was before.
	slowHandshake = 20 * time.Millisecond
	slowFactor    = 3
	// overNoise is how many times the rate of before the step a counter must exceed: the counters are of the whole
	// namespace, in which others talk too.
	overNoise = 3
)

// Explain names what happened in the first step that broke, in order, and what began it. steps and samples are in the
// order of time, with a sample at the beginning of the run and several in each step, and are not retained.
func Explain(steps []Step, samples []Sample) Explanation {
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Broken })
	if i < 0 {
		return Explanation{Step: -1, Why: "no step broke"}
	}
	e := Explanation{Step: i}
	w := newWindow(steps, i, samples)
	if len(w.during) < 2 {
		e.Why = "there are no samples of the step that broke"
		return e
	}
	found := w.examine()
	e.Chain = w.chain(found)
	first, ok := found.first()
	if !ok {
		e.Why = found.whyNone()
		return e
	}
	e.FirstCause, e.Confidence, e.Why, e.Lift = first.cause, first.confidence, first.why, first.lift
	return e
}

// window is the part of a run around the step that broke.
type window struct {
	step, last Step // last is the one that held before it; zero if none did
	before     []Sample
	during     []Sample // from the last sample before the step on
}

// origin is the step in which the attempts began that broke step i: where those that failed first waited in vain, it is
// the one of a timeout earlier. What was seen since then belongs to it, and is no noise from before.
func origin(steps []Step, i int, samples []Sample) int {
	if steps[i].Timeout <= 0 {
		return i
	}
	for k := range samples[min(1, len(samples)):] {
		a, b := &samples[k], &samples[k+1]
		if b.At <= steps[i].Begin || b.Clients.Failed.Sum() == a.Clients.Failed.Sum() {
			continue
		}
		failed := b.Clients.Failed.minus(a.Clients.Failed)
		if 2*(failed.Connect+failed.Handshake) < failed.Sum() {
			return i
		}
		for i > 0 && steps[i].Begin > b.At-steps[i].Timeout {
			i--
		}
		return i
	}
	return i
}

func newWindow(steps []Step, i int, samples []Sample) window {
	first := origin(steps, i, samples)
	w := window{step: steps[i]}
	w.step.Begin = steps[first].Begin
	if first > 0 {
		w.last = steps[first-1]
	}
	end := steps[i].End
	for _, s := range steps[i+1:] { // the effects may go on
		if !s.Broken {
			break
		}
		end = s.End
	}
	begin, _ := slices.BinarySearchFunc(samples, w.step.Begin+1, func(s Sample, t time.Duration) int { return cmp.Compare(s.At, t) })
	stop, _ := slices.BinarySearchFunc(samples, end+1, func(s Sample, t time.Duration) int { return cmp.Compare(s.At, t) })
	w.before = samples[:begin]
	w.during = samples[max(begin-1, 0):max(stop, begin)]
	return w
}

// sight is something that was seen: from when, how much, and the figure that shows it.
type sight struct {
	seen   bool
	when   time.Duration
	amount int64
	figure string
}

// rise looks for a counter that grows by more than floor, and by more than it did before the step.
func (w *window) rise(floor int64, get func(*Sample) uint64) sight {
	var noise float64 // a second
	if n := len(w.before); n > 1 {
		a, b := &w.before[0], &w.before[n-1]
		if d := b.At - a.At; d > 0 && get(b) > get(a) {
			noise = float64(get(b)-get(a)) / d.Seconds()
		}
	}
	s := sight{}
	first := &w.during[0]
	for i := range w.during[1:] {
		x := &w.during[i+1]
		if get(x) < get(first) {
			continue // counted from the beginning again, by another process or machine
		}
		n := int64(get(x) - get(first))
		if !s.seen && float64(n) > float64(floor)+overNoise*noise*(x.At-first.At).Seconds() {
			s.seen, s.when = true, x.At
		}
		s.amount = max(s.amount, n)
	}
	if !s.seen {
		return sight{}
	}
	s.figure = fmt.Sprintf("+%d in %v", s.amount, round(w.during[len(w.during)-1].At-first.At))
	return s
}

// most is how many conns were open at a time.
func (w *window) most() (n int64) {
	for i := range w.during {
		n = max(n, w.during[i].Clients.Open)
	}
	return n
}

// reach looks for the first sample in which test holds; figure describes the highest by amount.
func (w *window) reach(test func(*Sample) (amount int64, ok bool), figure func(*Sample) string) sight {
	s := sight{}
	if len(w.before) > 1 {
		if _, ok := test(&w.before[0]); ok {
			return s // it was so from the beginning, while steps held
		}
	}
	for i := range w.during {
		x := &w.during[i]
		n, ok := test(x)
		if !ok {
			continue
		}
		if !s.seen {
			s.seen, s.when = true, x.At
		}
		if s.figure == "" || n > s.amount {
			s.amount, s.figure = n, figure(x)
		}
	}
	return s
}

// findings is all that the window shows.
type findings struct {
	queueKnown, kernelKnown bool
	alone                   bool // no other socket listens there

	attempted, failed int64 // in the step
	failures          Failures
	arrivals, demand  float64 // a second, the highest and the mean
	burst             int64   // the most attempts between two samples

	noPort, noDescriptor, noMemory sight
	failing, handshake, latency    sight
	lost                           sight              // conns that stood
	late                           sight              // failures for want of an answer
	slowly                         func(*Sample) bool // whether handshakes are late in a sample
	handshakesLate                 bool               // in most samples
	unqueued                       bool               // and were before anybody waited in the accept queue

	descriptors, gone, memory sight
	memoryWeak                bool    // pressure only
	busy                      float64 // of the target's CPUs

	queueGrows, queueFull sight
	queueLimit, queueMost int64
	stuck                 bool          // it stays as full as it got
	acceptance            float64       // a second, meanwhile
	waiting               time.Duration // in the queue, at that rate

	timeWait, overflows, drops, synQueue, synRetrans, retrans, resets sight
	storm                                                             bool
}

func (w *window) examine() *findings {
	f := &findings{}
	begin, end := &w.during[0], &w.during[len(w.during)-1]
	f.attempted = end.Clients.Attempted - begin.Clients.Attempted
	if d := (end.At - begin.At).Seconds(); d > 0 {
		f.demand = float64(f.attempted) / d
	}
	f.failures = end.Clients.Failed.minus(begin.Clients.Failed)
	f.failed = f.failures.Sum()
	for i := range w.during[1:] {
		x := &w.during[i+1]
		f.queueKnown = f.queueKnown || x.Queue.Known
		f.kernelKnown = f.kernelKnown || x.Kernel.Known && !x.Kernel.Clients
		f.alone = f.alone || x.Kernel.Alone
	}
	w.examineClients(f)
	w.examineTarget(f)
	w.examineQueue(f)
	w.examineKernel(f)
	// An overflow is a full queue, though no sample met it then.
	if f.queueFull.seen && f.overflows.seen {
		f.queueFull.when = min(f.queueFull.when, f.overflows.when)
	}
	if first := earliest(f.full(), f.queueGrows); first.seen {
		f.unqueued = w.lateUnqueued(f, first.when)
	}
	return f
}

func (a Failures) minus(b Failures) Failures {
	return Failures{
		NoPort: a.NoPort - b.NoPort, NoDescriptor: a.NoDescriptor - b.NoDescriptor, NoMemory: a.NoMemory - b.NoMemory,
		Refused: a.Refused - b.Refused, Reset: a.Reset - b.Reset, Connect: a.Connect - b.Connect,
		Handshake: a.Handshake - b.Handshake, Status: a.Status - b.Status, Other: a.Other - b.Other,
	}
}

// String lists the kinds that occurred.
func (f Failures) String() string {
	var list []string
	for _, k := range []struct {
		n    int64
		name string
	}{
		{f.NoPort, "without a local port"}, {f.NoDescriptor, "without a descriptor here"}, {f.NoMemory, "without memory here"},
		{f.Refused, "refused"}, {f.Reset, "reset"}, {f.Connect, "not connected in time"},
		{f.Handshake, "not answered in time"}, {f.Status, "answered by a refusal"}, {f.Other, "otherwise"},
	} {
		if k.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", k.n, k.name))
		}
	}
	return strings.Join(list, ", ")
}

func (w *window) examineClients(f *findings) {
	f.failing = w.rise(max(0, f.attempted/1000), func(s *Sample) uint64 { return uint64(s.Clients.Failed.Sum()) })
	if f.failing.seen {
		f.failing.figure = fmt.Sprintf("%d of %d: %v", f.failed, f.attempted, f.failures)
	}
	// A tenth of the failures: fewer did not break the step.
	few := f.failed / 10
	f.lost = w.rise(f.floor(), func(s *Sample) uint64 { return uint64(s.Clients.Lost) })
	if f.lost.seen {
		f.lost.figure = fmt.Sprintf("%d of %d", f.lost.amount, max(f.lost.amount, w.most()))
	}
	part := func(what string, get func(Failures) int64) sight {
		if get(f.failures) <= few {
			return sight{}
		}
		s := w.rise(0, func(s *Sample) uint64 { return uint64(get(s.Clients.Failed)) })
		s.figure = fmt.Sprintf("%d of %d attempts found no %s", s.amount, f.attempted, what)
		return s
	}
	f.noPort = part("port", func(x Failures) int64 { return x.NoPort })
	f.noDescriptor = part("descriptor", func(x Failures) int64 { return x.NoDescriptor })
	f.noMemory = part("memory", func(x Failures) int64 { return x.NoMemory })

	for i := range w.during[1:] {
		a, b := &w.during[i], &w.during[i+1]
		f.burst = max(f.burst, b.Clients.Attempted-a.Clients.Attempted)
		if d := (b.At - a.At).Seconds(); d > 0 {
			f.arrivals = max(f.arrivals, float64(b.Clients.Attempted-a.Clients.Attempted)/d)
		}
	}
	usual := func(get func(*Sample) time.Duration) time.Duration { return median(w.before, get) }
	beforeHandshake := usual(func(s *Sample) time.Duration { return s.Clients.Handshake })
	f.slowly = func(s *Sample) bool {
		h := s.Clients.Handshake
		return h >= slowHandshake && h >= slowFactor*s.Clients.Connect && h >= slowFactor*beforeHandshake
	}
	slow := func(s *Sample) (int64, bool) { return int64(s.Clients.Handshake), f.slowly(s) }
	measured, late := 0, 0
	for i := range w.during {
		if _, is := slow(&w.during[i]); is {
			late++
		}
		if late > 0 && w.during[i].Clients.Handshake > 0 {
			measured++
		}
	}
	f.handshakesLate = late > 1 && 2*late >= measured
	f.late = w.rise(f.floor(), func(s *Sample) uint64 { return uint64(s.Clients.Failed.Handshake) })
	f.handshake = w.reach(slow, func(s *Sample) string {
		text := fmt.Sprintf("p99 %v at most", round(s.Clients.Handshake))
		if c := s.Clients.Connect; c > 0 {
			text += fmt.Sprintf(", connect %v", round(c))
		}
		return text
	})
	beforeLatency := usual(func(s *Sample) time.Duration { return s.Clients.Latency })
	f.latency = w.reach(func(s *Sample) (int64, bool) {
		l := s.Clients.Latency
		return int64(l), beforeLatency > 0 && l >= slowFactor*beforeLatency
	}, func(s *Sample) string {
		return fmt.Sprintf("p99 %v → %v at most", round(beforeLatency), round(s.Clients.Latency))
	})
}

func (w *window) examineTarget(f *findings) {
	// A process's table is full when it has limit descriptors; a sample may come while one is being closed.
	f.descriptors = w.reach(func(s *Sample) (int64, bool) {
		t := &s.Target
		return t.Descriptors, t.Known && t.DescriptorLimit > 0 && t.Descriptors >= t.DescriptorLimit-1-t.DescriptorLimit/1000
	}, func(s *Sample) string {
		return fmt.Sprintf("%d open, limit %d", s.Target.Descriptors, s.Target.DescriptorLimit)
	})
	f.gone = w.reach(func(s *Sample) (int64, bool) { return 0, s.Target.Known && s.Target.Gone }, func(*Sample) string { return "" })

	used := w.reach(func(s *Sample) (int64, bool) {
		t := &s.Target
		return int64(t.MemoryUsed >> 20), t.Known && t.MemoryLimit > 0 && t.MemoryUsed >= t.MemoryLimit/100*95
	}, func(s *Sample) string {
		return fmt.Sprintf("server %d MiB, limit %d MiB", s.Target.MemoryUsed>>20, s.Target.MemoryLimit>>20)
	})
	killed := w.rise(0, func(s *Sample) uint64 { return s.Target.Kills })
	killed.figure = fmt.Sprintf("%d killed for want of memory", killed.amount)
	if f.gone.seen && killed.seen {
		f.gone.figure = killed.figure
	}
	pages := w.reach(func(s *Sample) (int64, bool) {
		k := &s.Kernel
		return int64(k.MemoryPages), k.Known && k.Limits.MemoryPages[1] > 0 && k.MemoryPages >= k.Limits.MemoryPages[1]
	}, func(s *Sample) string {
		return fmt.Sprintf("TCP buffers %d pages, pressure from %d", s.Kernel.MemoryPages, s.Kernel.Limits.MemoryPages[1])
	})
	aborts := w.rise(f.floor(), kernel(func(k *Kernel) uint64 { return k.AbortsOnMemory }))
	aborts.figure = fmt.Sprintf("%d conns reset for want of memory", aborts.amount)
	pressures := w.rise(0, kernel(func(k *Kernel) uint64 { return k.MemoryPressures }))
	pressures.figure = fmt.Sprintf("TCP under memory pressure %d times", pressures.amount)
	orphans := w.reach(func(s *Sample) (int64, bool) {
		k := &s.Kernel
		return int64(k.Orphans), k.Known && k.Limits.MaxOrphans > 0 && k.Orphans >= k.Limits.MaxOrphans/10*9
	}, func(s *Sample) string {
		return fmt.Sprintf("%d orphans, limit %d", s.Kernel.Orphans, s.Kernel.Limits.MaxOrphans)
	})

	strong := earliest(used, killed, aborts, pages, f.noMemory)
	f.memory = earliest(strong, pressures, orphans)
	f.memoryWeak = f.memory.seen && !strong.seen

	if n := len(w.during); n > 1 {
		a, b := &w.during[0], &w.during[n-1]
		if d := (b.At - a.At).Seconds() * b.Target.CPUs; d > 0 && b.Target.Known && a.Target.Known && b.Target.CPU > a.Target.CPU {
			f.busy = (b.Target.CPU - a.Target.CPU).Seconds() / d
		}
	}
}

func (w *window) examineQueue(f *findings) {
	length := func(s *Sample) string {
		return fmt.Sprintf("%d waiting, limit %d", s.Queue.Length, s.Queue.Limit)
	}
	f.queueFull = w.reach(func(s *Sample) (int64, bool) {
		q := &s.Queue
		return q.Length, q.Known && q.Length > 0 && q.Length >= q.Limit
	}, length)
	for i := range w.during {
		if q := &w.during[i].Queue; q.Known {
			f.queueLimit, f.queueMost = q.Limit, max(f.queueMost, q.Length)
		}
	}
	// The longest stretch in which most of them wait: how fast they are taken then.
	from, to := 0, -1
	for i, begin := 0, 0; i < len(w.during); i++ {
		if q := &w.during[i].Queue; !q.Known || q.Length == 0 || 2*q.Length < f.queueMost {
			begin = i + 1
		} else if i-begin > to-from {
			from, to = begin, i
		}
	}
	if to <= from {
		return
	}
	a, b := &w.during[from], &w.during[to]
	moves := 0
	for i := from; i < to; i++ {
		if f.accepted(&w.during[i], &w.during[i+1]) > 0 {
			moves++
		}
	}
	// Fewer samples may each have met the moment after a burst. And a server that is away for once, since it waits for a
	// CPU, takes none meanwhile and all behind it, where one that is slow takes some all the time.
	lasts := b.At - a.At
	f.stuck = to-from >= 2 && lasts >= 3*pause && (2*moves >= to-from || 3*lasts >= w.during[len(w.during)-1].At-a.At)
	f.waiting = time.Hour
	if lasts > 0 {
		f.acceptance = float64(f.accepted(a, b)) / lasts.Seconds()
		if f.acceptance > 0 {
			f.waiting = min(f.waiting, time.Duration(float64(f.queueMost)/f.acceptance*float64(time.Second)))
		}
	}
	if f.stuck && f.queueMost >= 8 && f.waiting >= pause {
		f.queueGrows = sight{seen: true, when: a.At, figure: fmt.Sprintf("%d waiting, limit %d, while %s", f.queueMost, f.queueLimit, f.pace())}
	}
}

// accepted is how many conns the server took between two samples: those that came into the queue less those by which it
// grew, or where others' conns are counted with them, those that opened.
func (f *findings) accepted(a, b *Sample) int64 {
	if f.alone && a.Kernel.Known && b.Kernel.Known && b.Kernel.PassiveOpens >= a.Kernel.PassiveOpens {
		return int64(b.Kernel.PassiveOpens-a.Kernel.PassiveOpens) - (b.Queue.Length - a.Queue.Length)
	}
	return b.Clients.Opened - a.Clients.Opened
}

// pace says how fast conns leave the queue.
func (f *findings) pace() string {
	switch {
	case f.acceptance <= 0 && f.alone:
		return "none is accepted"
	case f.alone:
		return fmt.Sprintf("%.0f conns a second are accepted", f.acceptance)
	}
	return fmt.Sprintf("%.0f conns a second open", f.acceptance)
}

// lateUnqueued reports whether handshakes were late before the queue had conns waiting in it: then it is not the queue that
// makes them late. when is when it is first seen to be full, or to grow.
func (w *window) lateUnqueued(f *findings, when time.Duration) bool {
	unqueued, queued := 0, 0
	for i := range w.during {
		x := &w.during[i]
		switch {
		case x.At >= when || !x.Queue.Known || !f.slowly(x):
		case x.Queue.Length <= max(2, f.queueMost/20):
			unqueued++
		default:
			queued++
		}
	}
	return unqueued >= 3 && unqueued > 2*queued
}

// floor is how many events beside this many attempts are no accident.
func (f *findings) floor() int64 { return 2 + f.attempted/200 }

// kernel is a counter of the server's namespace.
func kernel(get func(*Kernel) uint64) func(*Sample) uint64 {
	return func(s *Sample) uint64 {
		if !s.Kernel.Known || s.Kernel.Clients {
			return 0
		}
		return get(&s.Kernel)
	}
}

func (w *window) examineKernel(f *findings) {
	f.overflows = w.rise(f.floor(), kernel(func(k *Kernel) uint64 { return k.ListenOverflows }))
	f.drops = w.rise(f.floor(), kernel(func(k *Kernel) uint64 { return k.ListenDrops }))
	f.synQueue = w.rise(f.floor(), kernel(func(k *Kernel) uint64 { return k.SynQueueDrops }))
	// These two are of use from the clients' side too.
	f.synRetrans = w.rise(f.floor(), func(s *Sample) uint64 { return s.Kernel.SynRetrans })
	f.retrans = w.rise(f.floor(), func(s *Sample) uint64 { return s.Kernel.RetransSegs })
	f.resets = w.rise(f.floor(), func(s *Sample) uint64 { return s.Kernel.EstabResets })
	f.storm = f.retrans.seen && f.retrans.amount > max(20, f.attempted/4)

	base := w.during[0].Kernel.TimeWait
	if len(w.before) > 0 {
		base = w.before[0].Kernel.TimeWait
	}
	f.timeWait = w.reach(func(s *Sample) (int64, bool) {
		ports := uint64(portRange(s))
		t := s.Kernel.TimeWait
		return int64(t), s.Kernel.Known && ports > 0 && t >= ports/2 && t >= base+ports/4
	}, func(s *Sample) string {
		return fmt.Sprintf("%d → %d, %d local ports", base, s.Kernel.TimeWait, portRange(s))
	})
}

// portRange is how many local ports the clients have; 0 where that is not known.
func portRange(s *Sample) int64 {
	if s.Clients.PortRange > 0 {
		return s.Clients.PortRange
	}
	return int64(s.Kernel.Limits.Ports())
}

// earliest is the one that was seen first.
func earliest(list ...sight) (first sight) {
	for _, s := range list {
		if s.seen && (!first.seen || s.when < first.when) {
			first = s
		}
	}
	return first
}

// median is of what was measured.
func median(samples []Sample, get func(*Sample) time.Duration) time.Duration {
	var list []time.Duration
	for i := range samples {
		if d := get(&samples[i]); d > 0 {
			list = append(list, d)
		}
	}
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// round keeps about three digits.
func round(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// load is how the step that broke differs from the one before: in its rate, or in its conns where that is the same.
func (w *window) load() Link {
	was, is, unit := float64(w.last.Conns), float64(w.step.Conns), " conns"
	if w.step.Rate > 0 && (w.last.Rate != w.step.Rate || was == is) {
		was, is, unit = w.last.Rate, w.step.Rate, " a second"
	}
	l := Link{When: w.step.Begin, What: "load rises", Figure: fmt.Sprintf("%.0f → %.0f%s", was, is, unit)}
	switch {
	case was == 0:
		l.Figure = fmt.Sprintf("to %.0f%s", is, unit)
	case was == is:
		l.What, l.Figure = "load stays", fmt.Sprintf("at %.0f%s", is, unit)
	case was > is:
		l.What = "load falls"
	}
	return l
}

// chain is what was seen, in order. What was seen in the same sample is in the order in which one follows from another.
func (w *window) chain(f *findings) []Link {
	links := []Link{w.load()}
	storm := "segments are sent again"
	if f.storm {
		storm = "retransmission storm"
	}
	grows := f.queueGrows
	grows.seen = grows.seen && !f.queueFull.seen
	for _, s := range []struct {
		sight
		what string
	}{
		{f.timeWait, "TIME_WAIT fills the local ports"},
		{f.noPort, "local ports run out"},
		{f.noDescriptor, "the clients' descriptors run out"},
		{f.descriptors, "the server's descriptors run out"},
		{f.memory, "memory runs out"},
		{f.gone, "the server's process is gone"},
		{grows, "the accept queue grows"},
		{f.queueFull, "the accept queue is full"},
		{f.overflows, "the accept queue overflows"},
		{f.synQueue, "the queue of half-open conns overflows"},
		{f.drops, "SYNs are dropped"},
		{f.synRetrans, "SYNs are sent again"},
		{f.retrans, storm},
		{f.handshake, "handshakes are answered late"},
		{f.latency, "latency rises"},
		{f.lost, "conns are lost"},
		{f.failing, "attempts fail"},
		{f.resets, "conns are reset"},
	} {
		if !s.seen {
			continue
		}
		// The first sample of the window is of just before the step.
		links = append(links, Link{When: max(s.when, w.step.Begin), What: s.what, Figure: s.figure})
	}
	slices.SortStableFunc(links[1:], func(a, b Link) int { return cmp.Compare(a.When, b.When) })
	return links
}
