package lab

import (
	"testing"
)

func TestParseHeaps(t *testing.T) {
	for line, want := range map[string]heaps{
		"gc 1 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 0 MB stacks, 0 MB globals, 8 P":       {1, 4, 4, 2, 5},
		"gc 12 @1.5s 12%: 1+2+3 ms clock, 1+2/3/4+5 ms cpu, 10->11->9 MB, 18 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)":                      {12, 10, 11, 9, 18},
		"gc 3 @1.5s 12% (checking for goroutine leaks): 1+2+3 ms clock, 1+2/3/4+5 ms cpu, 10->11->9 MB, 18 MB goal, 0 MB stacks, 0 MB globals, 2 P": {3, 10, 11, 9, 18},
		"gc 4 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P":                                  {4, 4, 4, 2, 5},
		"gc 99999999999 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P":                        {},
		"gc 4 @0.021s 0%: x ms clock, y ms cpu, 4->4->99999999999999999999 MB, 5 MB goal, 8 P":                                                      {},
		"scan: total 0+0+0=0 objs, 0+0=0 spans": {},
		"":                                      {},
	} {
		if got, ok := parseHeaps(line); ok != (want.goal > 0) || ok && got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}

func FuzzParseHeaps(f *testing.F) {
	f.Add("gc 1 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P")
	f.Add("gc 1 @0.021s 0%: x 4->4->2 MB, 5 MB goal 4->4->2 MB, 6 MB goal")
	f.Add("gc ")
	f.Fuzz(func(t *testing.T, line string) {
		if x, ok := parseHeaps(line); ok && (x.begin < 0 || x.end < 0 || x.live < 0 || x.goal < 0) {
			t.Errorf("%q: %+v", line, x)
		}
	})
}

// profilerFiguresFor are as they are expected to be.
func profilerFiguresFor() *profilerFigures {
	return &profilerFigures{
		recordedWithout: 1200, lagBefore: 1200, lagNow: 1200, lagAfter: 2400, collectionsOfGC: 1,
		deltaProfiles: 1, heapSamples: 10, goroutinesParked: 9, goroutineStacks: 10,
		defaultRate: 512 << 10, objects: 20_000, size: 64, at512: 2350, at1: 20_000, atDefault: 2,
		firstLine: 1, lines: 5, trace: &heaps{number: 5, begin: 16, end: 17, live: 16, goal: 20}, goals: goals{Had: 20 << 20, Left: 33 << 20, Live: 16 << 20, Number: 5},
		beyond: []string{"scan: class"},
		fast:   goals{Left: 33 << 20}, slow: goals{Left: 34 << 20}, doubled: goals{Left: 49 << 20}, fastPerSecond: 1e9, slowPerSecond: 5e7,
		parked: 10_000, mapped: 64 << 20, before: Sample{Resident: 10 << 20, FromSystem: 12 << 20}, afterPark: Sample{Resident: 130 << 20, FromSystem: 140 << 20},
		afterMap: Sample{Resident: 194 << 20, FromSystem: 140 << 20},
	}
}

// TestProfilerVerdicts plants figures on both sides of each limit.
func TestProfilerVerdicts(t *testing.T) {
	for i, c := range []struct {
		id     string
		change func(*profilerFigures)
		want   Verdict
	}{
		{"profile-every-30s", nil, DoesNotHold},
		{"profile-every-30s", func(f *profilerFigures) { f.deltaShowsOld = true }, DoesNotHold},
		{"profile-every-30s", func(f *profilerFigures) { f.deltaProfiles = 10 }, Holds},
		{"profile-gopark", nil, DoesNotHold},
		{"profile-gopark", func(f *profilerFigures) { f.heapParked = 1 }, Holds},
		{"sampling-gc", nil, HoldsInPart},
		{"sampling-gc", func(f *profilerFigures) { f.recordedWithout = 0 }, Holds},
		{"sampling-gc", func(f *profilerFigures) { f.lagNow = 2400 }, DoesNotHold},
		{"handler-gc", nil, HoldsInPart},
		{"handler-gc", func(f *profilerFigures) { f.collectionsOfPlain = 1 }, Holds},
		{"handler-gc", func(f *profilerFigures) { f.collectionsOfGC = 0 }, DoesNotHold},
		{"rate-512", nil, Holds},
		{"rate-512", func(f *profilerFigures) { f.at512 = 40 }, DoesNotHold},
		{"rate-default", nil, DoesNotHold},
		{"rate-default", func(f *profilerFigures) { f.defaultRate = 512 }, Holds},
		{"rate-bounds", nil, Holds},
		{"rate-bounds", func(f *profilerFigures) { f.at0, f.processors = 3, 2 }, HoldsInPart},
		{"rate-bounds", func(f *profilerFigures) { f.at0, f.processors = 2, 2 }, Holds},
		{"rate-bounds", func(f *profilerFigures) { f.at0, f.at1, f.processors = 3, 100, 2 }, DoesNotHold},
		{"gctrace-number", nil, DoesNotHold},
		{"gctrace-number", func(f *profilerFigures) { f.firstLine = 0 }, Holds},
		{"gctrace-number", func(f *profilerFigures) { f.trace = nil }, NotShown},
		{"gctrace-heaps", nil, Holds},
		{"gctrace-heaps", func(f *profilerFigures) { f.trace.end = 15 }, HoldsInPart},
		{"gctrace-heaps", func(f *profilerFigures) { f.trace.live = 5 }, DoesNotHold},
		{"gctrace-goal", nil, DoesNotHold},
		{"gctrace-goal", func(f *profilerFigures) { f.trace.goal = 33 }, Holds},
		{"gctrace-goal", func(f *profilerFigures) { f.trace.goal = 27 }, NotShown},
		{"gctrace-goal", func(f *profilerFigures) { f.goals.Left = 21 << 20 }, NotShown},
		{"goal-by-rate", nil, HoldsInPart},
		{"goal-by-rate", func(f *profilerFigures) { f.slow.Left = 20 << 20 }, Holds},
		{"goal-by-rate", func(f *profilerFigures) { f.doubled.Left = f.fast.Left }, DoesNotHold},
		{"goal-by-rate", func(f *profilerFigures) { f.slowPerSecond = f.fastPerSecond }, NotShown},
		{"gctrace-2", nil, DoesNotHold},
		{"gctrace-2", func(f *profilerFigures) { f.beyond = nil }, DoesNotHold},
		{"gctrace-2", func(f *profilerFigures) { f.generations = 3 }, Holds},
		{"sys-difference", nil, DoesNotHold},
		{"sys-difference", func(f *profilerFigures) {
			f.afterPark.FromSystem = f.before.FromSystem
			f.afterMap.FromSystem = f.before.FromSystem
		}, HoldsInPart},
		{"sys-difference", func(f *profilerFigures) {
			f.afterPark.FromSystem = f.before.FromSystem
			f.afterMap.FromSystem = f.before.FromSystem + 64<<20
		}, Holds},
		{"sys-difference", func(f *profilerFigures) { f.before.Resident = 0 }, NotShown},
	} {
		f := profilerFiguresFor()
		if c.change != nil {
			c.change(f)
		}
		if got := verdictOf(t, f.judge(), c.id); got != c.want {
			t.Errorf("%d %s: %v, want %v", i, c.id, got, c.want)
		}
	}
}

// TestProfiler runs the experiment. What the runtime does is certain at any size.
func TestProfiler(t *testing.T) {
	t.Parallel()
	x := tiny(t, "profiler", 1)
	wants(t, x, map[string]Verdict{
		"profile-every-30s": DoesNotHold, "profile-gopark": DoesNotHold, "sampling-gc": HoldsInPart, "handler-gc": HoldsInPart,
		"rate-512": Holds, "rate-default": DoesNotHold, "rate-bounds": Holds, "gctrace-number": DoesNotHold, "gctrace-heaps": Holds,
		"gctrace-goal": DoesNotHold, "gctrace-2": DoesNotHold,
	})
}
