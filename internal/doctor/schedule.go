package doctor

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"time"

	"golang.org/x/exp/trace"
)

// Schedule is what an execution trace tells of scheduling and locks.
type Schedule struct {
	Span    time.Duration // that it covers
	Procs   int           // most that ran at a time
	Running time.Duration // goroutines ran, all together; a thread that the system does not let run counts
	Ready   Latencies     // from runnable to running
	Assist  time.Duration // marking that goroutines had to do before they could allocate
	Paused  time.Duration // the world stood still, all together
	Locks   []LockWait    // by delay, the longest first
	Assists []Delayed     // by delay, the longest first
	Runs    []Delayed     // where goroutines were when they had run for so long that others got their turn, by time
	Cut     bool          // it ends in the middle, or more came than is read
	// Slices are stretches of a fiftieth of a second, with what ended in each.
	Slices []Slice
}

// Slice is a short stretch of a trace.
type Slice struct {
	Running, Assist time.Duration
	Ready           time.Duration // the longest that one which could run had to wait
}

const sliceLength = 20 * time.Millisecond

// slice is the one that a moment is in; one of no account beyond what is looked at.
func (t *traceReader) slice(at trace.Time) *Slice {
	i := int(at.Sub(t.first) / sliceLength)
	if i < 0 || i >= 1000 {
		return new(Slice)
	}
	for len(t.s.Slices) <= i {
		t.s.Slices = append(t.s.Slices, Slice{})
	}
	return &t.s.Slices[i]
}

// lasts says whether something holds in two thirds of the slices in which anything ran: what is over in a moment is a burst.
func (s *Schedule) lasts(holds func(Slice) bool) bool {
	all, n := 0, 0
	for _, x := range s.Slices {
		if x.Running > 0 {
			all++
			if holds(x) {
				n++
			}
		}
	}
	return all >= 5 && 3*n >= 2*all
}

// Delayed is time at one stack.
type Delayed struct {
	Frames []Frame
	Count  int64
	Delay  time.Duration
}

// LockWait is the waiting at one stack that came to an end, and whose unlocking ended it most often.
type LockWait struct {
	Delayed
	Holder []Frame // empty where it is not known
}

// Latencies is a histogram of times, to a quarter of their size.
type Latencies struct {
	Count   int64
	Sum     time.Duration
	Longest time.Duration
	buckets [256]int64
}

func (l *Latencies) add(d time.Duration) {
	d = max(d, 0)
	l.Count++
	l.Sum += d
	l.Longest = max(l.Longest, d)
	l.buckets[latencyBucket(d)]++
}

func latencyBucket(d time.Duration) int {
	n := bits.Len64(uint64(d))
	if n < 3 {
		return int(d)
	}
	return n*4 + int(uint64(d)>>(n-3)&3)
}

// Quantile is the time within which a share of them was, at most a quarter more than it really is.
func (l *Latencies) Quantile(q float64) time.Duration {
	due := int64(q * float64(l.Count))
	sum := int64(0)
	for i, n := range l.buckets {
		if sum += n; n > 0 && sum >= due {
			if i < 12 {
				return time.Duration(i)
			}
			return min(l.Longest, time.Duration(5+i%4)<<(i/4-3))
		}
	}
	return l.Longest
}

// What reading a trace may cost.
const (
	mostTrace       = 32 << 20 // bytes
	mostTraceEvents = 6_000_000
)

// ParseSchedule reads an execution trace of Go 1.22 or later, as /debug/pprof/trace serves it. One that is cut off is read as far as it
// goes. b is not retained.
func ParseSchedule(b []byte) (s *Schedule, err error) {
	if !bytes.HasPrefix(b, []byte("go 1.")) {
		return nil, errors.New("read execution trace: it does not begin as one")
	}
	defer func() {
		if p := recover(); p != nil { // the reader's, on bytes that it does not expect
			s, err = nil, fmt.Errorf("read execution trace: it is damaged (%v)", p)
		}
	}()
	r, err := trace.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read execution trace: %w", err)
	}
	t := traceReader{s: new(Schedule), waits: map[trace.GoID]moment{}, ready: map[trace.GoID]trace.Time{}, runs: map[trace.GoID]trace.Time{}, assists: map[trace.GoID]moment{}, procs: map[trace.ProcID]bool{},
		locks: map[[2]trace.Stack]*Delayed{}, assisted: map[trace.Stack]*Delayed{}, ran: map[trace.Stack]*Delayed{}}
	begun := false
	var last trace.Time
	for n := 0; ; n++ {
		e, err := r.ReadEvent()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || n == mostTraceEvents {
			t.s.Cut = true
			break
		}
		if !begun {
			begun, t.first = true, e.Time()
		}
		last = e.Time()
		t.event(e)
	}
	if !begun || last <= t.first {
		return nil, errors.New("read execution trace: it has no events: is it cut off?")
	}
	t.s.Span = last.Sub(t.first)
	t.finish()
	return t.s, nil
}

// moment is when something began, and where.
type moment struct {
	at    trace.Time
	stack trace.Stack
}

// traceReader adds events up.
type traceReader struct {
	s       *Schedule
	first   trace.Time
	waits   map[trace.GoID]moment // those that wait for a lock
	ready   map[trace.GoID]trace.Time
	runs    map[trace.GoID]trace.Time
	assists map[trace.GoID]moment
	paused  trace.Time
	procs   map[trace.ProcID]bool // that run

	locks    map[[2]trace.Stack]*Delayed // by who waited and who woke
	assisted map[trace.Stack]*Delayed
	ran      map[trace.Stack]*Delayed
}

func (t *traceReader) event(e trace.Event) {
	switch e.Kind() {
	case trace.EventStateTransition:
		switch x := e.StateTransition(); x.Resource.Kind {
		case trace.ResourceGoroutine:
			t.goroutine(e, x)
		case trace.ResourceProc:
			if _, to := x.Proc(); to == trace.ProcRunning {
				t.procs[x.Resource.Proc()] = true
				t.s.Procs = max(t.s.Procs, len(t.procs))
			} else {
				delete(t.procs, x.Resource.Proc())
			}
		}
	case trace.EventRangeBegin, trace.EventRangeActive:
		switch x := e.Range(); {
		case x.Name == "GC mark assist" && x.Scope.Kind == trace.ResourceGoroutine:
			t.assists[x.Scope.Goroutine()] = moment{e.Time(), e.Stack()}
		case strings.HasPrefix(x.Name, "stop-the-world"):
			t.paused = e.Time()
		}
	case trace.EventRangeEnd:
		switch x := e.Range(); {
		case x.Name == "GC mark assist" && x.Scope.Kind == trace.ResourceGoroutine:
			if m, ok := t.assists[x.Scope.Goroutine()]; ok {
				delete(t.assists, x.Scope.Goroutine())
				t.s.Assist += e.Time().Sub(m.at)
				t.slice(e.Time()).Assist += e.Time().Sub(m.at)
				add(t.assisted, m.stack, e.Time().Sub(m.at))
			}
		case strings.HasPrefix(x.Name, "stop-the-world") && t.paused != 0:
			t.s.Paused += e.Time().Sub(t.paused)
			t.paused = 0
		}
	}
}

func add[K comparable](m map[K]*Delayed, k K, d time.Duration) {
	x := m[k]
	if x == nil {
		x = new(Delayed)
		m[k] = x
	}
	x.Count++
	x.Delay += d
}

// goroutine follows a goroutine from state to state.
func (t *traceReader) goroutine(e trace.Event, x trace.StateTransition) {
	id := x.Resource.Goroutine()
	from, to := x.Goroutine()
	if from == to {
		return
	}
	now := e.Time()
	if from == trace.GoRunning {
		if at, ok := t.runs[id]; ok {
			delete(t.runs, id)
			t.s.Running += now.Sub(at)
			t.slice(now).Running += now.Sub(at)
			if to == trace.GoRunnable {
				add(t.ran, x.Stack, now.Sub(at))
			}
		}
	}
	switch to {
	case trace.GoRunning:
		if at, ok := t.ready[id]; ok && from == trace.GoRunnable {
			t.s.Ready.add(now.Sub(at))
			x := t.slice(now)
			x.Ready = max(x.Ready, now.Sub(at))
		}
		delete(t.ready, id)
		t.runs[id] = now
	case trace.GoRunnable:
		t.ready[id] = now
		if m, ok := t.waits[id]; ok && from == trace.GoWaiting {
			add(t.locks, [2]trace.Stack{m.stack, e.Stack()}, now.Sub(m.at))
		}
		delete(t.waits, id)
	case trace.GoWaiting:
		if x.Reason == "sync" {
			t.waits[id] = moment{now, x.Stack}
		}
	case trace.GoNotExist:
		delete(t.ready, id)
		delete(t.waits, id)
		delete(t.assists, id)
	}
}

// finish puts what was added up in order. Stacks of different parts of a trace have different names, and are one again here.
func (t *traceReader) finish() {
	locks := map[string]*LockWait{}
	holders := map[string]map[string]int64{}
	frames := map[string][]Frame{}
	for k, d := range t.locks {
		waits := traceFrames(k[0])
		if !takesLock(waits) {
			continue
		}
		key, holder := stackKey(waits), traceFrames(k[1])
		l := locks[key]
		if l == nil {
			l = &LockWait{Delayed: Delayed{Frames: waits}}
			locks[key], holders[key] = l, map[string]int64{}
		}
		l.Count += d.Count
		l.Delay += d.Delay
		if givesLock(holder) {
			h := stackKey(holder)
			frames[h] = holder
			holders[key][h] += d.Count
		}
	}
	for _, key := range sortedKeys(locks) {
		best := ""
		for _, h := range sortedKeys(holders[key]) {
			if best == "" || holders[key][h] > holders[key][best] {
				best = h
			}
		}
		locks[key].Holder = frames[best]
		t.s.Locks = append(t.s.Locks, *locks[key])
	}
	slices.SortStableFunc(t.s.Locks, func(a, b LockWait) int { return cmp.Compare(b.Delay, a.Delay) })
	t.s.Assists, t.s.Runs = delays(t.assisted), delays(t.ran)
}

func delays(m map[trace.Stack]*Delayed) (list []Delayed) {
	byKey := map[string]*Delayed{}
	for st, d := range m {
		f := traceFrames(st)
		k := stackKey(f)
		if byKey[k] == nil {
			byKey[k] = &Delayed{Frames: f}
		}
		byKey[k].Count += d.Count
		byKey[k].Delay += d.Delay
	}
	for _, k := range sortedKeys(byKey) {
		if len(byKey[k].Frames) > 0 {
			list = append(list, *byKey[k])
		}
	}
	slices.SortStableFunc(list, func(a, b Delayed) int { return cmp.Compare(b.Delay, a.Delay) })
	return list[:min(len(list), 50)]
}

func traceFrames(s trace.Stack) (frames []Frame) {
	if s == trace.NoStack {
		return nil
	}
	for f := range s.Frames() {
		frames = append(frames, Frame{Function: untyped(f.Func), File: f.File, Line: int(f.Line)})
	}
	return frames
}
