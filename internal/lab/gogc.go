package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/report"
)

func gogcExperiment() Experiment {
	return Experiment{
		Name:   "gogc",
		Title:  "What collections cost on a million small objects",
		Claims: claimsOf("gogc"),
		About: "A million records are kept as objects that point at each other, as values in one slice, outside of the heap, or not at all, under several settings of " +
			"GOGC and GOMEMLIMIT. Beside them the program allocates half a GiB of short-lived objects, and the collector's pauses, CPU time and memory are read.",
		Run:      runGOGC,
		subjects: map[string]maker{"gogc": makes(newGOGCSubject)},
	}
}

// The layouts of what is kept.
const (
	layoutPointers = "pointers" // objects with pointers to each other
	layoutValues   = "values"   // one slice without pointers
	layoutOutside  = "outside"  // mapped memory that the collector does not know
	layoutNothing  = "nothing"
)

type gogcConfig struct {
	Layout string
	Keep   int // records
}

// gogcRecord is what is kept: as much as a small session.
type gogcRecord struct {
	key uint64
	_   [40]byte
}

// gogcObject is the same with the pointers that a program would have.
type gogcObject struct {
	next, peer *gogcObject
	name       *[16]byte
	key        uint64
	_          [16]byte
}

// gogcWork is what came of allocating.
type gogcWork struct {
	Took        time.Duration
	Collections int
	Pauses      time.Duration // of all
	Longest     time.Duration // of one
}

// gogcSubject keeps its records as long as it lives.
type gogcSubject struct {
	objects []*gogcObject
	values  []gogcRecord
	mapped  []byte
	free    func()
	short   [64][]byte // the last short-lived ones, so that they are on the heap
}

func newGOGCSubject(_ context.Context, c gogcConfig) (*subject, error) {
	if c.Keep < 0 || c.Keep > 1<<26 {
		return nil, fmt.Errorf("%d records: want 0 to %d", c.Keep, 1<<26)
	}
	g := &gogcSubject{free: func() {}}
	const size = 48
	switch c.Layout {
	case layoutPointers:
		g.objects = make([]*gogcObject, c.Keep)
		for i := range g.objects {
			o := &gogcObject{key: uint64(i), name: new([16]byte)}
			if i > 0 {
				o.next, o.peer = g.objects[i-1], g.objects[i/2]
			}
			g.objects[i] = o
		}
	case layoutValues:
		g.values = make([]gogcRecord, c.Keep)
		for i := range g.values {
			g.values[i].key = uint64(i)
		}
	case layoutOutside:
		var err error
		if g.mapped, g.free, err = outside(c.Keep * size); err != nil {
			return nil, err
		}
		for i := range c.Keep {
			g.mapped[i*size] = byte(i) // so that the memory is there
		}
	case layoutNothing:
	default:
		return nil, fmt.Errorf("there is no layout %q", c.Layout)
	}
	return &subject{close: func() error { g.free(); return nil }, ask: func(ctx context.Context, what string, raw json.RawMessage) (any, error) {
		var bytes int
		if what != "work" {
			return nil, fmt.Errorf("asked for %q, which it does not know", what)
		}
		if err := json.Unmarshal(raw, &bytes); err != nil {
			return nil, err
		}
		return g.work(ctx, bytes)
	}}, nil
}

// work allocates so many bytes, a KiB at a time, and forgets them.
func (g *gogcSubject) work(ctx context.Context, bytes int) (w gogcWork, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	for i := range bytes >> 10 {
		g.short[i%len(g.short)] = make([]byte, 1<<10)
		if i%4096 == 0 && ctx.Err() != nil {
			return w, context.Cause(ctx)
		}
	}
	w.Took = time.Since(begin)
	runtime.ReadMemStats(&after)
	w.Collections, w.Pauses = int(after.NumGC-before.NumGC), time.Duration(after.PauseTotalNs-before.PauseTotalNs)
	for n := before.NumGC; n < after.NumGC; n++ {
		w.Longest = max(w.Longest, time.Duration(after.PauseNs[n%uint32(len(after.PauseNs))]))
	}
	return w, nil
}

// gogcSettings are what the collector is told.
var gogcSettings = []struct {
	name string
	env  []string
}{
	{"GOGC=50", []string{"GOGC=50"}},
	{"GOGC=100 (default)", []string{"GOGC=100"}},
	{"GOGC=400", []string{"GOGC=400"}},
	{"GOGC=off GOMEMLIMIT=512MiB", []string{"GOGC=off", "GOMEMLIMIT=512MiB"}},
}

// gogcDefault is the index of the default.
const gogcDefault = 1

var gogcLayouts = []string{layoutPointers, layoutValues, layoutOutside, layoutNothing}

// gogcFigures is what was measured of one layout under one setting.
type gogcFigures struct {
	collections int
	mean        time.Duration // pause
	longest     time.Duration
	cpu         time.Duration // of the collector
	each        time.Duration // a collection
	share       float64       // of the collections' clock time that is marking beside the program
	took        time.Duration
	resident    uint64
	heap        []Point // bytes at each collection's begin
}

func runGOGC(ctx context.Context, r *Run) error {
	keep, work := r.Of(1_000_000), (512<<20)/r.shrink
	t := r.Table(fmt.Sprintf("%d records kept, and %s allocated beside them", keep, report.Bytes.Format(float64(work))),
		"kept", "setting", "collections", "pause, mean", "pause, longest", "CPU of a collection", "CPU of all", "the work took", "resident memory")
	all := map[string]gogcFigures{}
	for _, layout := range gogcLayouts {
		for i, s := range gogcSettings {
			if layout == layoutOutside && !hasOutside {
				t.Row(layout, s.name, nil, nil, nil, nil, nil, nil, nil)
				continue
			}
			r.Log("%s, %s", layout, s.name)
			f, err := measureGOGC(ctx, r, layout, s.env, keep, work)
			if err != nil {
				return err
			}
			t.Row(layout, s.name, f.collections, f.mean, f.longest, f.each, f.cpu, f.took, Size(f.resident))
			if i == gogcDefault {
				all[layout] = f
				r.Series(layout, report.Bytes, f.heap).On("heap when a collection begins, GOGC=100")
				r.Figure(layout+": CPU of a collection", f.each.Seconds(), report.Seconds)
				r.Figure(layout+": pause, mean", f.mean.Seconds(), report.Seconds)
			}
		}
	}
	r.Note("The records of the layout outside are in memory that the runtime does not count: GOMEMLIMIT does not see them either.")
	r.Note("A pause is as long as the world stood, the time to stop all threads included: on a busy machine, waiting for a CPU is most of it.")
	judgeGOGC(r, all)
	return nil
}

func measureGOGC(ctx context.Context, r *Run, layout string, env []string, keep, work int) (f gogcFigures, err error) {
	p, err := r.Start(ctx, "gogc", gogcConfig{layout, keep}, func(c *exec.Cmd) {
		c.Env = append(c.Env, append([]string{"GOMEMLIMIT=off", "GODEBUG=gctrace=1"}, env...)...)
	})
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	before, err := p.Sample(ctx, 2)
	if err != nil {
		return f, err
	}
	var w gogcWork
	if err := p.Ask(ctx, "work", work, &w); err != nil {
		return f, err
	}
	after, err := p.Sample(ctx, 0)
	if err != nil {
		return f, err
	}
	if err := p.Close(); err != nil { // and with it, all has come that it wrote
		return f, err
	}
	f.collections = w.Collections
	if f.collections > 0 {
		f.mean = w.Pauses / time.Duration(f.collections)
	}
	if n := after.Collections - before.Collections; n > 0 { // their CPU is known when they are over
		f.each = (after.CollectCPU - before.CollectCPU) / time.Duration(n)
	}
	f.longest, f.took, f.resident, f.cpu = w.Longest, w.Took, after.Resident, after.CollectCPU-before.CollectCPU
	var marking, whole float64
	for _, c := range readTrace(p.Said()) {
		if c.number <= int(before.Collections) || c.number > int(after.Collections) {
			continue
		}
		marking += c.mark
		whole += c.pauses + c.mark
		f.heap = append(f.heap, Point{c.at - before.At.Seconds(), c.heap})
	}
	if whole > 0 {
		f.share = marking / whole
	}
	return f, nil
}

// traced is a line of GODEBUG=gctrace=1, as far as it is needed here.
type traced struct {
	number       int
	at           float64 // seconds since the program's start
	pauses, mark float64 // milliseconds on the clock
	heap         float64 // bytes when it began
}

var traceLine = regexp.MustCompile(`(?m)^gc (\d+) @([0-9.]+)s \d+%: ([0-9.]+)\+([0-9.]+)\+([0-9.]+) ms clock, \S+ ms cpu, (\d+)->`)

// readTrace reads the lines out of what a subject of this very program wrote.
func readTrace(s string) (list []traced) {
	for _, m := range traceLine.FindAllStringSubmatch(s, -1) {
		var v [7]float64
		for i := 1; i < len(m); i++ {
			v[i], _ = strconv.ParseFloat(m[i], 64) // what is not read is 0
		}
		list = append(list, traced{int(v[1]), v[2], v[3] + v[5], v[4], v[6] * (1 << 20)})
	}
	return list
}

// densityMatters is how many times as much a collection has to cost with pointers as without.
const densityMatters = 2

func judgeGOGC(r *Run, all map[string]gogcFigures) {
	p, v := all[layoutPointers], all[layoutValues]
	if p.collections == 0 || v.collections == 0 || v.each <= 0 {
		r.Verdict("pointer-density", NotShown, fmt.Sprintf("there were %d collections with pointers and %d without, which is too few to compare", p.collections, v.collections))
		return
	}
	ratio := p.each.Seconds() / v.each.Seconds()
	pauses := "it is CPU that pointers cost, and not pauses"
	if p.mean > densityMatters*v.mean {
		pauses = "pointers cost pauses as well"
	}
	says := fmt.Sprintf("marking was %s of a collection's time on the clock with pointers; a collection took %s of CPU with pointers, %s without them (%.1f times as much), %s outside of the heap and %s with nothing kept. "+
		"The pauses were %s on average with pointers and %s without: %s",
		report.Percent.Format(100*p.share), report.Seconds.Format(p.each.Seconds()), report.Seconds.Format(v.each.Seconds()), ratio,
		report.Seconds.Format(all[layoutOutside].each.Seconds()), report.Seconds.Format(all[layoutNothing].each.Seconds()), report.Seconds.Format(p.mean.Seconds()), report.Seconds.Format(v.mean.Seconds()), pauses)
	switch {
	case ratio >= densityMatters && p.share >= 0.5:
		r.Verdict("pointer-density", Holds, says)
	case ratio >= densityMatters || p.share >= 0.5:
		r.Verdict("pointer-density", HoldsInPart, says)
	default:
		r.Verdict("pointer-density", DoesNotHold, says)
	}
}
