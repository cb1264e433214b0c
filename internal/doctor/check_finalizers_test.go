package doctor

import (
	"strings"
	"testing"
	"time"
)

// runnerAt is the goroutine that runs finalizers, at a line of the program's own.
func runnerAt(function, state string, line int) Goroutine {
	return Goroutine{ID: 5, State: state, Frames: []Frame{
		{Function: "time.Sleep", File: "/go/src/time/sleep.go", Line: 1}, {Function: "main.release", File: "/src/main.go", Line: line}, {Function: function, File: "/go/src/runtime/mfinal.go", Line: 1},
	}}
}

// TestFinalizerQueues tells what waits ever longer from what runs in time.
func TestFinalizerQueues(t *testing.T) {
	of := func(queued, run func(i int) int, runner func(i int) Goroutine) *Evidence {
		e := &Evidence{}
		for i := range 12 {
			at := time.Duration(i) * time.Second
			e.Runtime = append(e.Runtime, RuntimeFigures{At: at, FinalizersQueued: uint64(queued(i)), FinalizersRun: uint64(run(i))})
			if i%4 == 3 && runner != nil {
				e.Goroutines = append(e.Goroutines, GoroutineDump{At: at, Goroutines: []Goroutine{runner(i)}})
			}
		}
		return e
	}
	times := func(n, more int) func(int) int { return func(i int) int { return more + n*i } }
	asleep := func(int) Goroutine { return runnerAt("runtime.runFinalizers", "sleep", 7) }
	moves := func(i int) Goroutine { return runnerAt("runtime.runFinalizers", "sleep", i) }
	busy := func(int) Goroutine { return runnerAt("runtime.runFinalizers", "running", 7) }
	for _, c := range []struct {
		name string
		e    *Evidence
		want string // what the first finding says; "" is none
		line int
	}{
		{"too slow", of(times(5000, 900), times(900, 0), asleep), "finalizers become due faster than they run: 46000 wait, 4100 more each second", 7},
		{"too slow, and computes", of(times(5000, 900), times(900, 0), busy), "finalizers become due faster than they run", 7},
		{"too slow, not seen at it", of(times(5000, 900), times(900, 0), moves), "finalizers become due faster than they run", 0},
		{"none runs", of(times(5000, 900), times(0, 10), asleep), "is stuck in sleep", 7},
		{"in time", of(times(5000, 900), times(5000, 0), asleep), "", 0},
		{"a rush that is worked off", of(times(5000, 900), func(i int) int { return max(0, 5000*i-900*max(0, 6-i)) }, asleep), "", 0},
		{"worked off once", of(times(6000, 0), func(i int) int { return i / 6 * 31_000 }, asleep), "", 0},
		{"few", of(times(20, 5), times(10, 0), asleep), "", 0},
		{"more load, in time", of(func(i int) int { return 500 * i * i }, func(i int) int { return 500 * i * max(0, i-1) }, asleep), "", 0},
		{"no figures", of(times(0, 0), times(0, 0), asleep), "is stuck in sleep", 7},
		{"no figures, and it moves", of(times(0, 0), times(0, 0), moves), "", 0},
	} {
		r := Examine(c.e)
		if c.want == "" && r.Found() || c.want != "" && (!r.Found() || !strings.Contains(r.Findings[0].Sentence, c.want) || r.Findings[0].Line.Line != c.line || r.Findings[0].Check != "finalizers") {
			t.Errorf("%s: %+v, want %q at line %d", c.name, r.Findings, c.want, c.line)
		}
	}

	e := of(times(0, 0), times(0, 0), func(int) Goroutine { return runnerAt("runtime.runCleanups", "sleep", 7) })
	for i := range e.Runtime {
		e.Runtime[i].CleanupsQueued, e.Runtime[i].CleanupsRun = uint64(5000*i), uint64(100*i)
	}
	if r := Examine(e); !r.Found() || !strings.Contains(r.Findings[0].Sentence+strings.Join(r.Findings[0].Evidence, ""), "cleanups become due faster than they run") {
		t.Errorf("cleanups: %+v", r.Findings)
	}
	s, _, _, _ := loadText(t, "package main\nimport \"runtime\"\ntype h struct{}\nfunc open() {\n\tx := &h{}\n\truntime.SetFinalizer(x, func(*h) {}) // frame 0\n}\n")
	e = of(times(5000, 900), times(900, 0), moves)
	e.Source = s
	if r := Examine(e); !r.Found() || r.Findings[0].Line.Line != 6 {
		t.Errorf("where one is set: %+v", r.Findings)
	}
}
