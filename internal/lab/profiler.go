package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/longwire/longwire/internal/report"
)

func profilerExperiment() Experiment {
	return Experiment{
		Name:   "profiler",
		Title:  "What heap profiles and gctrace say",
		Claims: claimsOf("profiler"),
		About: "Programs allocate a known number of objects, with several sampling rates, with and without collections; park goroutines; grow their heap; and allocate " +
			"at several speeds. What their heap profiles, their gctrace lines and their memory say is held against what they did.",
		Run:      runProfiler,
		subjects: map[string]maker{"profiler": makes(newProfilerSubject)},
	}
}

// heaps is what a line of GODEBUG=gctrace=1 says of the heap, in MB.
type heaps struct {
	number           uint32 // of the collection
	begin, end, live int64  // the heap at its beginning and at its end, and what it found alive
	goal             int64
}

var heapsLine = regexp.MustCompile(`^gc (\d+) @\S+s \d+%.* (\d+)->(\d+)->(\d+) MB, (\d+) MB goal`)

// parseHeaps reads a line; ok is false for one of something else.
func parseHeaps(line string) (h heaps, ok bool) {
	m := heapsLine.FindStringSubmatch(line)
	if m == nil {
		return h, false
	}
	number, err := strconv.ParseUint(m[1], 10, 32)
	if err != nil {
		return h, false
	}
	h.number = uint32(number)
	for i, to := range []*int64{&h.begin, &h.end, &h.live, &h.goal} {
		if *to, err = strconv.ParseInt(m[2+i], 10, 64); err != nil {
			return h, false
		}
	}
	return h, true
}

// profilerFigures is what the experiment measured. What was not measured is nil, or 0.
type profilerFigures struct {
	// With GOGC=off, so that there is no collection.
	recordedWithout int64
	collectedThen   uint32
	// With collections: what the profile shows of objects right after they were allocated, and two collections later.
	lagBefore, lagNow, lagAfter int64

	collectionsOfPlain, collectionsOfGC uint32 // that /heap and /heap?gc=1 brought about

	deltaProfiles int           // how many profiles /heap?seconds=N answers with
	deltaTook     time.Duration // after how long
	deltaSeconds  int
	deltaShowsOld bool // whether what was allocated before is in it
	wholeShowsOld bool // and in one without seconds

	heapSamples, heapParked           int // samples of the heap profile, and those with runtime.gopark in their stacks
	goroutineStacks, goroutinesParked int

	defaultRate         int64
	objects, size       int
	at512, at1, at0     int64 // of so many objects, how many were recorded
	processors          int   // GOMAXPROCS, of the subjects as well
	atDefault           int64
	firstLine           uint32
	lines               int
	trace               *heaps
	goals               goals
	beyond              []string // what gctrace=2 prints beside the lines of gctrace=1, its first words
	generations         int      // how many of these name a generation
	slow, fast, doubled goals
	slowPerSecond       float64
	fastPerSecond       float64

	parked, mapped                       int // goroutines, bytes
	before, afterPark, afterMap          Sample
	goalPercent, goalDoubled, goalMBLive int
}

func runProfiler(ctx context.Context, r *Run) error {
	f := &profilerFigures{objects: 20_000, size: 64, parked: 10_000 * min(r.Scale, 10), mapped: 64 << 20, deltaSeconds: 2}
	for _, step := range []struct {
		name string
		do   func(context.Context, *Run) error
	}{
		{"sampling and collections", f.sampling},
		{"the heap handler", f.handler},
		{"sampling rates", f.rates},
		{"gctrace", f.traces},
		{"goals", f.goal},
		{"goroutines and memory", f.memory},
	} {
		r.Log("%s", step.name)
		if err := step.do(ctx, r); err != nil {
			return err
		}
	}
	f.tell(r)
	return nil
}

// environ has a subject start with settings of the runtime.
func environ(settings ...string) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		c.Env = append(slices.DeleteFunc(c.Environ(), func(s string) bool {
			return strings.HasPrefix(s, "GODEBUG=") || strings.HasPrefix(s, "GOGC=") || strings.HasPrefix(s, "GOMEMLIMIT=")
		}), settings...)
	}
}

// with starts a subject for as long as f takes.
func with(ctx context.Context, r *Run, c profilerConfig, prepare func(*exec.Cmd), f func(*Process) error) (err error) {
	p, err := r.Start(ctx, "profiler", c, prepare)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return f(p)
}

// sampling asks whether allocations are recorded where no collection ever was, and when the profile shows them.
func (f *profilerFigures) sampling(ctx context.Context, r *Run) error {
	some := allocation{2000, 4096}
	err := with(ctx, r, profilerConfig{Rate: 4096}, environ("GOGC=off"), func(p *Process) error {
		if err := p.Ask(ctx, askAllocate, some, &f.recordedWithout); err != nil {
			return err
		}
		s, err := p.Sample(ctx, 0)
		f.collectedThen = s.Collections
		return err
	})
	if err != nil {
		return err
	}
	return with(ctx, r, profilerConfig{Rate: 4096}, environ("GOGC=off"), func(p *Process) error {
		cycle := func() error { return p.Ask(ctx, askCycle, nil, nil) }
		if err := errors.Join(p.Ask(ctx, askAllocate, some, nil), cycle(), cycle(), p.Ask(ctx, askRecorded, nil, &f.lagBefore)); err != nil {
			return err
		}
		return errors.Join(p.Ask(ctx, askAllocate, some, &f.lagNow), cycle(), cycle(), p.Ask(ctx, askRecorded, nil, &f.lagAfter))
	})
}

// fetch reads a page of the subject's profiles.
func fetch(ctx context.Context, p *Process, page string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%v/debug/pprof/%s", p.Addr(), page), nil)
	if err != nil {
		return nil, err
	}
	q.Close = true
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", page, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 64<<20))
}

// shows is how many samples of a profile have a function in their stacks, of all, with a value that is not 0.
func shows(b []byte, function string) (with, all int, err error) {
	p, err := profile.ParseData(b)
	if err != nil {
		return 0, 0, err
	}
	for _, s := range p.Sample {
		if !slices.ContainsFunc(s.Value, func(v int64) bool { return v != 0 }) {
			continue
		}
		all++
		if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
			return slices.ContainsFunc(l.Line, func(n profile.Line) bool { return n.Function != nil && strings.HasSuffix(n.Function.Name, function) })
		}) {
			with++
		}
	}
	return with, all, nil
}

// profilesIn counts the profiles in an answer: each is one gzip stream.
func profilesIn(b []byte) (n int, err error) {
	in := bytes.NewReader(b)
	for in.Len() > 0 {
		z, err := gzip.NewReader(in)
		if err != nil {
			return n, err
		}
		z.Multistream(false)
		if _, err := io.Copy(io.Discard, z); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// handler asks for profiles over HTTP.
func (f *profilerFigures) handler(ctx context.Context, r *Run) error {
	return with(ctx, r, profilerConfig{Rate: 4096}, environ("GOGC=off"), func(p *Process) error {
		const held = 500
		if err := errors.Join(p.Ask(ctx, askHold, held, nil), p.Ask(ctx, askCycle, nil, nil), p.Ask(ctx, askCycle, nil, nil)); err != nil {
			return err
		}
		before, err := p.Sample(ctx, 0)
		if err != nil {
			return err
		}
		whole, err := fetch(ctx, p, "heap")
		if err != nil {
			return err
		}
		plain, err := p.Sample(ctx, 0)
		if err != nil {
			return err
		}
		if _, err := fetch(ctx, p, "heap?gc=1"); err != nil {
			return err
		}
		forced, err := p.Sample(ctx, 0)
		if err != nil {
			return err
		}
		f.collectionsOfPlain, f.collectionsOfGC = plain.Collections-before.Collections, forced.Collections-plain.Collections
		if f.heapParked, f.heapSamples, err = shows(whole, "runtime.gopark"); err != nil {
			return err
		}
		old, _, err := shows(whole, ".markKept")
		if err != nil {
			return err
		}
		f.wholeShowsOld = old > 0
		stacks, err := fetch(ctx, p, "goroutine")
		if err != nil {
			return err
		}
		if f.goroutinesParked, f.goroutineStacks, err = shows(stacks, "runtime.gopark"); err != nil {
			return err
		}
		began := time.Now()
		delta, err := fetch(ctx, p, fmt.Sprintf("heap?seconds=%d", f.deltaSeconds))
		if err != nil {
			return err
		}
		f.deltaTook = time.Since(began)
		if f.deltaProfiles, err = profilesIn(delta); err != nil {
			return err
		}
		old, _, err = shows(delta, ".markKept")
		f.deltaShowsOld = old > 0
		return err
	})
}

// rates allocates the same with several sampling rates.
func (f *profilerFigures) rates(ctx context.Context, r *Run) error {
	f.processors = runtime.GOMAXPROCS(0)
	for rate, to := range map[int]*int64{512: &f.at512, 1: &f.at1, 0: &f.at0, -1: &f.atDefault} {
		err := with(ctx, r, profilerConfig{Rate: rate}, environ(), func(p *Process) error {
			if rate < 0 {
				if err := p.Ask(ctx, askRate, nil, &f.defaultRate); err != nil {
					return err
				}
			}
			// Two collections later the profile has them all.
			return errors.Join(p.Ask(ctx, askAllocate, allocation{f.objects, f.size}, nil), p.Ask(ctx, askCycle, nil, nil),
				p.Ask(ctx, askCycle, nil, nil), p.Ask(ctx, askRecorded, nil, to))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// traces reads what two processes print of their collections.
func (f *profilerFigures) traces(ctx context.Context, r *Run) error {
	err := with(ctx, r, profilerConfig{Rate: -1}, environ("GODEBUG=gctrace=1"), func(p *Process) error {
		if err := p.Ask(ctx, askCollect, nil, &f.goals); err != nil {
			return err
		}
		// The line is printed by the collection; a pipe's other end may not have read it yet.
		return until(ctx, answerLimit, func() bool {
			f.lines, f.trace = 0, nil
			for line := range strings.Lines(p.Said()) {
				t, ok := parseHeaps(strings.TrimSpace(line))
				if !ok {
					continue
				}
				if f.lines++; f.lines == 1 {
					f.firstLine = t.number
				}
				if t.number == f.goals.Number {
					f.trace = &t
				}
			}
			return f.trace != nil
		})
	})
	if err != nil {
		return err
	}
	return with(ctx, r, profilerConfig{Rate: -1}, environ("GODEBUG=gctrace=2"), func(p *Process) error {
		if err := p.Ask(ctx, askCollect, nil, nil); err != nil {
			return err
		}
		err := until(ctx, answerLimit, func() bool { return strings.Count(p.Said(), "\n") > 2 })
		for line := range strings.Lines(p.Said()) {
			line = strings.TrimSpace(line)
			if _, ok := parseHeaps(line); ok || line == "" {
				continue
			}
			if w := firstWords(line, 2); !slices.Contains(f.beyond, w) {
				f.beyond = append(f.beyond, w)
			}
			if strings.Contains(strings.ToLower(line), "generation") || strings.Contains(line, "gen ") {
				f.generations++
			}
		}
		return err
	})
}

// firstWords are the first n of a line.
func firstWords(line string, n int) string {
	w := strings.Fields(line)
	return strings.Join(w[:min(n, len(w))], " ")
}

// goal asks which goal settles, for garbage at two speeds and for another GOGC.
func (f *profilerFigures) goal(ctx context.Context, r *Run) error {
	const live, chunk = 16 << 20, 64 << 10
	f.goalPercent, f.goalDoubled, f.goalMBLive = 100, 200, live>>20
	return with(ctx, r, profilerConfig{Rate: 0}, environ(), func(p *Process) error {
		speed := func(q goalQuestion, to *goals) (perSecond float64, err error) {
			before, err := p.Sample(ctx, 0)
			if err != nil {
				return 0, err
			}
			if err := p.Ask(ctx, askGoal, q, to); err != nil {
				return 0, err
			}
			after, err := p.Sample(ctx, 0)
			return each(before.Allocated, after.Allocated, 1) / max(1e-9, (after.At-before.At).Seconds()), err
		}
		var err error
		if f.fastPerSecond, err = speed(goalQuestion{Percent: f.goalPercent, Live: live, Chunk: chunk}, &f.fast); err != nil {
			return err
		}
		if f.slowPerSecond, err = speed(goalQuestion{Percent: f.goalPercent, Live: live, Chunk: chunk, Pause: time.Millisecond}, &f.slow); err != nil {
			return err
		}
		_, err = speed(goalQuestion{Percent: f.goalDoubled, Live: live, Chunk: chunk}, &f.doubled)
		return err
	})
}

// memory compares what goroutines and mappings add to the process's memory and to the runtime's account of it.
func (f *profilerFigures) memory(ctx context.Context, r *Run) error {
	return with(ctx, r, profilerConfig{Rate: -1}, environ(), func(p *Process) (err error) {
		if f.before, err = p.Sample(ctx, 2); err != nil {
			return err
		}
		if err := p.Ask(ctx, askHold, f.parked, nil); err != nil {
			return err
		}
		if f.afterPark, err = p.Settle(ctx, 2, answerLimit, func(s Sample) bool { return s.Goroutines >= f.before.Goroutines+f.parked }); err != nil {
			return err
		}
		if hasOutside {
			if err := p.Ask(ctx, askMap, f.mapped, nil); err != nil {
				return err
			}
		}
		f.afterMap, err = p.Sample(ctx, 0)
		return err
	})
}

func (f *profilerFigures) tell(r *Run) {
	t := r.Table(fmt.Sprintf("%d objects of %d bytes, by sampling rate", f.objects, f.size), "runtime.MemProfileRate", "recorded", "share", "expected: 1 − e^(−size/rate)")
	row := func(name string, rate float64, n int64) {
		t.Row(name, n, percent(float64(n)/float64(f.objects)), percent(f.expected(rate)))
	}
	row("0", math.Inf(1), f.at0)
	row("1", 1, f.at1)
	row("512", 512, f.at512)
	row(fmt.Sprintf("%d, the default", f.defaultRate), float64(f.defaultRate), f.atDefault)
	t = r.Table("Allocations in the profile", "when", "recorded", "collections")
	t.Row("2000 objects of 4 KiB, and no collection ever was", f.recordedWithout, f.collectedThen)
	t.Row("with collections: before another 2000", f.lagBefore, nil)
	t.Row("right after them", f.lagNow, nil)
	t.Row("two collections later", f.lagAfter, nil)
	t = r.Table("Heap goals with 16 MiB alive", "GOGC", "garbage a second", "goal")
	t.Row(f.goalPercent, Quantity{f.fastPerSecond, report.BytesPerSecond}, Size(f.fast.Left))
	t.Row(f.goalPercent, Quantity{f.slowPerSecond, report.BytesPerSecond}, Size(f.slow.Left))
	t.Row(f.goalDoubled, nil, Size(f.doubled.Left))
	t = r.Table("Memory of the process, and the runtime's own account (MemStats.Sys)", "then", "goroutines", "resident memory", "MemStats.Sys", "difference grew by")
	t.Row("at first", f.before.Goroutines, Size(f.before.Resident), Size(f.before.FromSystem), nil)
	t.Row(fmt.Sprintf("%d goroutines leaked", f.parked), f.afterPark.Goroutines, Size(f.afterPark.Resident), Size(f.afterPark.FromSystem), Size(difference(f.before, f.afterPark)))
	t.Row("64 MiB mapped outside of the runtime", f.afterMap.Goroutines, Size(f.afterMap.Resident), Size(f.afterMap.FromSystem), Size(difference(f.afterPark, f.afterMap)))
	r.Note("Resident memory stands for the cgroup's memory.current, of which it is the part that grows here.")
	for _, j := range f.judge() {
		r.Verdict(j.id, j.verdict, j.sentence)
	}
}

// expected is the share of objects that a rate records.
func (f *profilerFigures) expected(rate float64) float64 {
	switch {
	case rate <= 1:
		return 1
	case math.IsInf(rate, 1):
		return 0
	}
	return 1 - math.Exp(-float64(f.size)/rate)
}

// difference is by how much resident memory beyond MemStats.Sys grew between two samples, in bytes.
func difference(a, b Sample) float64 {
	return each(a.Resident, b.Resident, 1) - each(a.FromSystem, b.FromSystem, 1)
}

// judge makes the verdicts of the figures.
func (f *profilerFigures) judge() []opinion {
	var out []opinion
	say := func(id string, v Verdict, format string, args ...any) {
		out = append(out, opinion{id, v, fmt.Sprintf(format, args...)})
	}
	bytes := report.Bytes.Format

	delta := fmt.Sprintf("heap?seconds=%d answered after %.1f s with %d profile; what was allocated before was in it: %v, in a profile without seconds: %v",
		f.deltaSeconds, f.deltaTook.Seconds(), f.deltaProfiles, yes(f.deltaShowsOld), yes(f.wholeShowsOld))
	switch {
	case f.deltaProfiles > 1:
		say("profile-every-30s", Holds, "%s", delta)
	case f.deltaShowsOld:
		say("profile-every-30s", DoesNotHold, "%s: one profile, at the end", delta)
	default:
		say("profile-every-30s", DoesNotHold, "%s: one profile, the difference between end and beginning", delta)
	}

	parked := fmt.Sprintf("%d of %d samples of the heap profile have runtime.gopark in their stacks, and %d of %d stacks of the goroutine profile", f.heapParked, f.heapSamples, f.goroutinesParked, f.goroutineStacks)
	if f.heapParked > 0 {
		say("profile-gopark", Holds, "%s", parked)
	} else {
		say("profile-gopark", DoesNotHold, "%s: a heap profile shows who allocated, not who waits", parked)
	}

	sampling := fmt.Sprintf("%d allocations were recorded in a process with %d collections; in one with collections the profile showed %d before another 2000, %d right after them and %d two collections later",
		f.recordedWithout, f.collectedThen, f.lagBefore, f.lagNow, f.lagAfter)
	late := f.lagNow == f.lagBefore && f.lagAfter > f.lagNow
	switch {
	case f.collectedThen == 0 && f.recordedWithout == 0:
		say("sampling-gc", Holds, "%s", sampling)
	case f.recordedWithout > 0 && late:
		say("sampling-gc", HoldsInPart, "%s: sampling is at the allocation, by bytes allocated; only what is shown is as of a collection", sampling)
	default:
		say("sampling-gc", DoesNotHold, "%s", sampling)
	}

	handler := fmt.Sprintf("/debug/pprof/heap brought about %d collections, with ?gc=1 %d", f.collectionsOfPlain, f.collectionsOfGC)
	switch {
	case f.collectionsOfPlain > 0:
		say("handler-gc", Holds, "%s", handler)
	case f.collectionsOfGC > 0:
		say("handler-gc", HoldsInPart, "%s: only when it is asked to", handler)
	default:
		say("handler-gc", DoesNotHold, "%s", handler)
	}

	share := float64(f.at512) / float64(f.objects)
	rate := fmt.Sprintf("of %d objects of %d bytes %d were recorded, one for each %.0f bytes", f.objects, f.size, f.at512, float64(f.objects*f.size)/float64(max(1, f.at512)))
	if want := f.expected(512); math.Abs(share-want) <= want/4 {
		say("rate-512", Holds, "%s; it is the variable runtime.MemProfileRate, which is set once at the start (a function SetMemProfileRate does not exist), and the article's comment says 512 KB beside it", rate)
	} else {
		say("rate-512", DoesNotHold, "%s", rate)
	}
	standard := fmt.Sprintf("runtime.MemProfileRate is %d in a program that leaves it alone; at 512 %.1f %% of objects of %d bytes are recorded, by default %.2f %%", f.defaultRate, 100*share, f.size, 100*float64(f.atDefault)/float64(f.objects))
	if f.defaultRate == 512 {
		say("rate-default", Holds, "%s", standard)
	} else {
		say("rate-default", DoesNotHold, "%s", standard)
	}
	bounds := fmt.Sprintf("at 0 %d of %d were recorded, at 1 %d", f.at0, f.objects, f.at1)
	// A processor notices a new rate at its next allocation, which it records (profilealloc in Go's runtime/malloc.go).
	off := f.at0 <= int64(f.processors)
	if f.at0 > 0 && off {
		bounds += ": a processor records the one allocation at which it notices the new rate"
	}
	switch all := f.at1 >= int64(f.objects); {
	case off && all:
		say("rate-bounds", Holds, "%s", bounds)
	case off || all:
		say("rate-bounds", HoldsInPart, "%s", bounds)
	default:
		say("rate-bounds", DoesNotHold, "%s", bounds)
	}

	if f.trace == nil {
		for _, id := range []string{"gctrace-number", "gctrace-heaps", "gctrace-goal"} {
			say(id, NotShown, "no line of gctrace was read")
		}
	} else {
		number := fmt.Sprintf("the first of %d lines was gc %d", f.lines, f.firstLine)
		if f.firstLine == 0 {
			say("gctrace-number", Holds, "%s", number)
		} else {
			say("gctrace-number", DoesNotHold, "%s", number)
		}
		t, live := f.trace, int64(f.goals.Live>>20)
		heaps := fmt.Sprintf("gc %d said %d->%d->%d MB; the runtime's figure of what it found alive was %d MB", t.number, t.begin, t.end, t.live, live)
		switch {
		case distance(t.live, live) <= 1 && t.end >= t.begin:
			say("gctrace-heaps", Holds, "%s", heaps)
		case distance(t.live, live) <= 1:
			say("gctrace-heaps", HoldsInPart, "%s", heaps)
		default:
			say("gctrace-heaps", DoesNotHold, "%s", heaps)
		}
		had, left := int64(f.goals.Had>>20), int64(f.goals.Left>>20)
		goal := fmt.Sprintf("gc %d said %d MB goal; the goal was %d MB before that collection and %d MB after it", t.number, t.goal, had, left)
		switch {
		case distance(had, left) <= 2:
			say("gctrace-goal", NotShown, "%s: too near to tell", goal)
		case distance(t.goal, left) <= 1:
			say("gctrace-goal", Holds, "%s", goal)
		case distance(t.goal, had) <= 1:
			say("gctrace-goal", DoesNotHold, "%s: it is that of the collection itself", goal)
		default:
			say("gctrace-goal", NotShown, "%s: neither", goal)
		}
	}

	same := math.Abs(float64(f.slow.Left)-float64(f.fast.Left)) <= 0.2*float64(f.fast.Left)
	grows := float64(f.doubled.Left) >= 1.25*float64(f.fast.Left)
	goal := fmt.Sprintf("with %d MiB alive the goal was %s at %s of garbage a second, %s at %s, and %s with GOGC=%d", f.goalMBLive, bytes(float64(f.fast.Left)), bytes(f.fastPerSecond),
		bytes(float64(f.slow.Left)), bytes(f.slowPerSecond), bytes(float64(f.doubled.Left)), f.goalDoubled)
	switch {
	case f.fastPerSecond < 3*f.slowPerSecond:
		say("goal-by-rate", NotShown, "%s: the two speeds are too near", goal)
	case !same && grows:
		say("goal-by-rate", Holds, "%s", goal)
	case same && grows:
		say("goal-by-rate", HoldsInPart, "%s: it follows from GOGC and from what is alive, not from the speed", goal)
	default:
		say("goal-by-rate", DoesNotHold, "%s", goal)
	}

	two := fmt.Sprintf("beside the lines of gctrace=1 it printed lines that begin with: %s; %d named a generation", strings.Join(f.beyond, ", "), f.generations)
	switch {
	case f.generations > 0:
		say("gctrace-2", Holds, "%s", two)
	case len(f.beyond) > 0:
		say("gctrace-2", DoesNotHold, "%s: they count what was scanned by size class, and Go's collector has no generations", two)
	default:
		say("gctrace-2", DoesNotHold, "it printed nothing beside the lines of gctrace=1")
	}

	grew := each(f.before.Resident, f.afterPark.Resident, 1)
	gap, outside := difference(f.before, f.afterPark), difference(f.afterPark, f.afterMap)
	leak := fmt.Sprintf("%d leaked goroutines grew the process by %s, and the difference to MemStats.Sys by %s; %s mapped outside of the runtime grew it by %s", f.parked, bytes(grew), signed(gap), bytes(float64(f.mapped)), signed(outside))
	switch {
	case f.before.Resident == 0:
		say("sys-difference", NotShown, "resident memory is not known on this system")
	case gap >= 0.5*grew && outside < 0.5*float64(f.mapped):
		say("sys-difference", Holds, "%s", leak)
	case gap >= 0.5*grew:
		say("sys-difference", HoldsInPart, "%s: it does not tell the one from the other", leak)
	default:
		say("sys-difference", DoesNotHold, "%s: stacks are the runtime's own, and in Sys", leak)
	}
	return out
}

func distance(a, b int64) int64 { return max(a-b, b-a) }

// yes is a truth in a word.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// signed is bytes that may be below 0.
func signed(v float64) string {
	if v < 0 {
		return "−" + report.Bytes.Format(-v)
	}
	return report.Bytes.Format(v)
}
