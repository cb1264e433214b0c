package doctor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestParseTrace reads the line of each form that Go has written since 1.18.
func TestParseTrace(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		version, line string
		want          Cycle
	}{
		{"1.18", "gc 1 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P",
			Cycle{Number: 1, At: 21 * ms, SweepTermination: 10 * time.Microsecond, Mark: 120 * time.Microsecond, MarkTermination: 12 * time.Microsecond,
				SweepCPU: 80 * time.Microsecond, AssistCPU: 12 * time.Microsecond, BackgroundCPU: 100 * time.Microsecond, IdleCPU: 200 * time.Microsecond, TerminationCPU: 96 * time.Microsecond,
				Begin: 4 << 20, End: 4 << 20, Live: 2 << 20, Goal: 5 << 20, Procs: 8}},
		{"1.19", "gc 42 @7.777s 12%: 0.075+4.2+0.004 ms clock, 0.15+0/0.84/5.1+0.009 ms cpu, 10->11->5 MB, 10 MB goal, 1 MB stacks, 2 MB globals, 2 P (forced)",
			Cycle{Number: 42, At: 7777 * ms, Share: 0.12, SweepTermination: 75 * time.Microsecond, Mark: 4200 * time.Microsecond, MarkTermination: 4 * time.Microsecond,
				SweepCPU: 150 * time.Microsecond, BackgroundCPU: 840 * time.Microsecond, IdleCPU: 5100 * time.Microsecond, TerminationCPU: 9 * time.Microsecond,
				Begin: 10 << 20, End: 11 << 20, Live: 5 << 20, Goal: 10 << 20, Stacks: 1 << 20, Globals: 2 << 20, Procs: 2, Forced: true}},
		{"1.26", "gc 3 @1.5s 1% (checking for goroutine leaks): 1+2+3 ms clock, 1+2/3/4+5 ms cpu, 6->7->8 MB, 9 MB goal, 0 MB stacks, 0 MB globals, 4 P",
			Cycle{Number: 3, At: 1500 * ms, Share: 0.01, SweepTermination: ms, Mark: 2 * ms, MarkTermination: 3 * ms, SweepCPU: ms, AssistCPU: 2 * ms, BackgroundCPU: 3 * ms, IdleCPU: 4 * ms, TerminationCPU: 5 * ms,
				Begin: 6 << 20, End: 7 << 20, Live: 8 << 20, Goal: 9 << 20, Procs: 4}},
	} {
		for _, around := range []string{c.line, "2026/11/22 served in 3 ms " + c.line, c.line + " 2026/11/22 next"} {
			got, skipped := ParseTrace([]byte("listening\n" + around + "\nscvg: 8 MB released\n"))
			if len(got) != 1 || skipped != 0 || got[0] != c.want {
				t.Errorf("%s: %q:\n got %+v, %d skipped\nwant %+v", c.version, around, got, skipped, c.want)
			}
		}
		// Other output in the middle of the line: it is counted, and not believed.
		broken := strings.Replace(c.line, " MB, ", " Mhello\n", 1)
		if got, skipped := ParseTrace([]byte(broken)); len(got) != 0 || skipped != 1 {
			t.Errorf("%s: broken line gives %+v, %d skipped, want none and 1", c.version, got, skipped)
		}
	}
	if got, skipped := ParseTrace([]byte("the gc 1 @home is not one: at all\ngc of nothing\n")); len(got)+skipped != 0 {
		t.Errorf("other text gives %+v, %d skipped", got, skipped)
	}
}

const dump = `goroutine 1 [IO wait, 3 minutes]:
internal/poll.runtime_pollWait(0x7fbd36478e00, 0x72)
	/usr/local/go/src/runtime/netpoll.go:351 +0x85
net/http.(*Server).Serve(0x29e08e4c0200, {0x78c0d0, 0x29e08e52a280})
	/usr/local/go/src/net/http/server.go:3434 +0x30c
main.main()
	/src/main.go:7 +0x12d

goroutine 8 gp=0xc0000 m=nil [chan send (leaked), 12 minutes, locked to thread]:
main.(*T[...]).run.func1({0x1, 0x2}, 0x3)
	C:/src/main.go:5 +0x1e
...additional frames elided...
created by main.main in goroutine 1
	C:/src/main.go:4 +0x37

goroutine 9 [select]:
main.rec(...)
	/src/main.go:4
...120 frames elided...
main.rec(0x0?)
	/src/main.go:4 +0x30
created by main.main
	/src/main.go:9
`

func TestParseGoroutines(t *testing.T) {
	d, err := ParseGoroutines([]byte("panic: something\n\n"+dump), time.Second)
	if err != nil || len(d.Goroutines) != 3 {
		t.Fatalf("%d goroutines, %v", len(d.Goroutines), err)
	}
	a, b, c := d.Goroutines[0], d.Goroutines[1], d.Goroutines[2]
	if a.ID != 1 || a.State != "IO wait" || a.Wait != 3*time.Minute || len(a.Frames) != 3 || a.Created.Function != "" ||
		a.Frames[1] != (Frame{Function: "net/http.(*Server).Serve", File: "/usr/local/go/src/net/http/server.go", Line: 3434}) {
		t.Errorf("first: %+v", a)
	}
	if b.ID != 8 || b.State != "chan send" || !b.Leaked || !b.Locked || b.Wait != 12*time.Minute || b.Parent != 1 || b.Elided != 1 ||
		b.Frames[0] != (Frame{Function: "main.(*T[...]).run.func1", File: "C:/src/main.go", Line: 5}) || b.Created.Line != 4 {
		t.Errorf("second: %+v", b)
	}
	if c.State != "select" || c.Elided != 120 || len(c.Frames) != 2 || c.Created.Function != "main.main" || c.Parent != 0 {
		t.Errorf("third: %+v", c)
	}
	if _, err := ParseGoroutines([]byte("hello\n"), 0); err == nil {
		t.Error("a text without goroutines is none")
	}
}

func TestParseMemStats(t *testing.T) {
	const text = "heap profile: 1: 2 [3: 4] @ heap/1048576\n1: 2 [3: 4] @ 0x1\n\n# runtime.MemStats\n# Alloc = 1\n# Sys = 8083720\n# Mallocs = 682\n# HeapAlloc = 1280464\n# Stack = 294912 / 300000\n# NumForcedGC = 7\n# GCCPUFraction = 0.25\n# DebugGC = false\n# MaxRSS = 8589312\n"
	m, err := ParseMemStats([]byte(text), time.Second)
	if err != nil || m.Sys != 8083720 || m.Mallocs != 682 || m.HeapAlloc != 1280464 || m.StackInuse != 294912 || m.NumForcedGC != 7 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, cut := range []int{20, 100, len(text) - 40} {
		if _, err := ParseMemStats([]byte(text[:cut]), 0); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestParseHeapRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "empty",
		"heap profile: 1: 2":     "is text",
		"\x1f\x8b\x08\x00broken": "cut off",
	} {
		if _, err := ParseHeap([]byte(text), 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// seeds are the checked-in inputs of a fuzz target; without them it would test little, and still pass.
func seeds(f *testing.F, dir string) {
	f.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", "seeds", dir))
	if err != nil || len(entries) == 0 {
		f.Fatalf("seeds of %s: %d, %v", dir, len(entries), err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join("testdata", "seeds", dir, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzTrace(f *testing.F) {
	seeds(f, "gctrace")
	f.Fuzz(func(t *testing.T, b []byte) {
		cycles, skipped := ParseTrace(b)
		if n := bytes.Count(b, []byte("gc ")); len(cycles)+skipped > n {
			t.Errorf("%d cycles and %d skipped out of %d", len(cycles), skipped, n)
		}
		for _, c := range cycles {
			if c.At < 0 || c.Mark < 0 || c.Share < 0 || c.Procs < 0 {
				t.Errorf("negative: %+v", c)
			}
		}
		Examine(&Evidence{Trace: cycles})
	})
}

func FuzzGoroutines(f *testing.F) {
	seeds(f, "goroutines")
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseGoroutines(b, 0)
		if (err == nil) != (len(d.Goroutines) > 0) {
			t.Errorf("%d goroutines and %v", len(d.Goroutines), err)
		}
		Examine(&Evidence{Goroutines: []GoroutineDump{d, d}})
	})
}

func FuzzMemStats(f *testing.F) {
	seeds(f, "memstats")
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParseMemStats(b, 0) })
}

// FuzzProfile has damaged profiles read and examined as if they were a series.
func FuzzProfile(f *testing.F) {
	seeds(f, "profiles")
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		e := &Evidence{}
		for i := range 6 {
			if h, err := ParseHeap(b, time.Duration(i)*time.Second); err == nil {
				e.Heap = append(e.Heap, h)
			}
			if c, err := ParseCounts(b, time.Duration(i)*time.Second); err == nil {
				e.Counts = append(e.Counts, c)
			}
		}
		Examine(e)
	})
}
