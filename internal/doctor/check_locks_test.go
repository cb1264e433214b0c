package doctor

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	rpprof "runtime/pprof"
	"runtime/trace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedWork is held up by a lock that somebody holds while he computes: 8 goroutines, so many turns each.
func lockedWork(turns int) {
	var mu sync.Mutex
	var sum float64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range turns {
				mu.Lock() // the line to be named
				for k := range 20_000 {
					sum += math.Sqrt(float64(i * k))
				}
				mu.Unlock() // and that of a holder
			}
		})
	}
	wg.Wait()
	_ = sum
}

// lockLine is the number of a line of this file.
func lockLine(t *testing.T, text string) int {
	t.Helper()
	b, err := os.ReadFile("check_locks_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.Contains(line, text) && !strings.Contains(line, "lockLine") {
			return i + 1
		}
	}
	t.Fatal("no such line")
	return 0
}

func lockFindings(e *Evidence) (list []Finding) {
	for _, f := range Examine(e).Findings {
		if f.Check == lockCheck.Name {
			list = append(list, f)
		}
	}
	return list
}

// TestExecutionTrace reads an execution trace of this process: a lock that is queued for is named by its line.
func TestExecutionTrace(t *testing.T) {
	var b bytes.Buffer
	if err := trace.Start(&b); err != nil {
		t.Skip("somebody takes a trace already:", err)
	}
	lockedWork(300)
	trace.Stop()
	s, err := ParseSchedule(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if s.Span <= 0 || s.Procs < 1 || s.Running <= 0 || s.Ready.Count == 0 || s.Cut || len(s.Locks) == 0 {
		t.Fatalf("%+v", s)
	}
	e := &Evidence{Schedule: s}
	list := lockFindings(e)
	if want := lockLine(t, "mu.Lock() //"); len(list) != 1 || list[0].Line.Line != want || !strings.Contains(list[0].Sentence, "queue for a lock") {
		t.Errorf("%+v, want one at line %d\n%+v", list, want, s.Locks)
	}

	// Cut off anywhere, it is read as far as it goes, or refused in words.
	for n := 0; n < b.Len(); n += b.Len()/50 + 1 {
		if s, err := ParseSchedule(b.Bytes()[:n]); err == nil && s.Span <= 0 || err != nil && !strings.Contains(err.Error(), "execution trace") {
			t.Errorf("cut off at %d: %+v, %v", n, s, err)
		}
	}
}

// TestLockProfiles reads mutex and block profiles of this process, before and after.
func TestLockProfiles(t *testing.T) {
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	profiles := func(at time.Duration) (mutex, block LockProfile) {
		for name, to := range map[string]*LockProfile{"mutex": &mutex, "block": &block} {
			var b bytes.Buffer
			if err := rpprof.Lookup(name).WriteTo(&b, 0); err != nil {
				t.Fatal(err)
			}
			l, err := ParseLocks(b.Bytes(), at)
			if err != nil {
				t.Fatal(err)
			}
			*to = l
		}
		return mutex, block
	}
	begin := time.Now()
	m0, b0 := profiles(0)
	lockedWork(300)
	m1, b1 := profiles(time.Since(begin))
	// A mutex profile knows who held the lock only; where he took it is for the source to tell, of which tests are not a part.
	takes, gives := lockLine(t, "mu.Lock() //"), lockLine(t, "mu.Unlock() //")
	for _, c := range []struct {
		name  string
		locks []LockProfile
		want  []int
	}{
		{"mutex", []LockProfile{m1.since(m0)}, []int{gives}},
		{"block", []LockProfile{b1.since(b0)}, []int{takes}},
		{"both", []LockProfile{m1.since(m0), b1.since(b0)}, []int{takes, gives}},
	} {
		if list := lockFindings(&Evidence{Locks: c.locks}); len(list) != 1 || !slices.Contains(c.want, list[0].Line.Line) {
			t.Errorf("%s: %+v, want one at a line of %d", c.name, list, c.want)
		}
	}
	var text bytes.Buffer
	if err := rpprof.Lookup("mutex").WriteTo(&text, 1); err != nil {
		t.Fatal(err)
	}
	if n := mutexPeriod(text.Bytes()); n != 1 {
		t.Errorf("period %d, want 1", n)
	}
	if n := mutexPeriod([]byte("--- mutex:\ncycles/second=1\nsampling period=0\n")); n != 0 {
		t.Errorf("period %d, want 0", n)
	}
	if n := mutexPeriod(nil); n != -1 {
		t.Errorf("period %d, want it unknown", n)
	}

	// Saved, they are a series.
	var files []File
	for i := range 2 {
		var b bytes.Buffer
		if err := rpprof.Lookup("mutex").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		files = append(files, File{Name: fmt.Sprint(i), Data: b.Bytes(), At: time.Unix(int64(i), 0)})
		lockedWork(50)
	}
	e, err := (&Collector{Root: os.DirFS("/")}).Files(t.Context(), files)
	if err != nil || len(e.Locks) != 1 || len(e.Locks[0].Stacks) == 0 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestLocksOnValues has figures on both sides of each limit.
func TestLocksOnValues(t *testing.T) {
	waits := []Frame{{Function: "sync.(*Mutex).Lock", File: "/go/src/sync/mutex.go", Line: 1}, {Function: "main.take", File: "/app/main.go", Line: 10}}
	holds := []Frame{{Function: "sync.(*Mutex).Unlock", File: "/go/src/sync/mutex.go", Line: 2}, {Function: "main.take", File: "/app/main.go", Line: 14}}
	hot := []Frame{{Function: "main.compute", File: "/app/main.go", Line: 30}}
	trace := func(change func(*Schedule)) *Evidence {
		s := &Schedule{Span: time.Second, Procs: 2, Running: 2 * time.Second}
		for range 1000 {
			s.Ready.add(20 * time.Microsecond)
		}
		change(s)
		if s.Slices == nil {
			for range 50 {
				s.Slices = append(s.Slices, Slice{Running: s.Running / 50, Assist: s.Assist / 50, Ready: s.Ready.Longest})
			}
		}
		return &Evidence{Schedule: s}
	}
	lock := func(d time.Duration) func(*Schedule) {
		return func(s *Schedule) {
			s.Locks = []LockWait{{Delayed: Delayed{Frames: waits, Count: 100, Delay: d}, Holder: holds}}
		}
	}
	late := func(s *Schedule) {
		for range 100 {
			s.Ready.add(80 * time.Millisecond)
		}
		s.Runs = []Delayed{{Frames: hot, Count: 10, Delay: time.Second}}
	}
	cpus := func(share float64, e *Evidence) *Evidence {
		e.Process = []ProcessSample{{}, {At: 10 * time.Second, CPU: time.Duration(share * float64(10*time.Second))}}
		return e
	}
	figures := func(b RuntimeFigures) *Evidence {
		b.At = 10 * time.Second
		return &Evidence{Runtime: []RuntimeFigures{{Latencies: make([]Bucket, len(b.Latencies))}, b}}
	}
	for _, c := range []struct {
		name string
		e    *Evidence
		want string
		line int
	}{
		{"nothing", trace(func(*Schedule) {}), "", 0},
		{"a lock in use", trace(lock(time.Second)), "", 0},
		{"a queue", trace(lock(4 * time.Second)), "minor goroutines queue for a lock: 4.0 wait", 10},
		{"a long queue", trace(lock(20 * time.Second)), "major goroutines queue for a lock: 20.0 wait", 10},
		{"late, and its CPUs are full", cpus(1.9, trace(late)), "minor goroutines that could run wait for a CPU: one in a hundred for 80ms", 30},
		{"late, and others have the CPUs", cpus(0.9, trace(late)), "", 0},
		{"late, as far as the trace tells", trace(late), "minor goroutines that could run wait", 30},
		{"some assist", trace(func(s *Schedule) { s.Assist = 300 * time.Millisecond }), "", 0},
		{"much assist", trace(func(s *Schedule) {
			s.Assist, s.Assists = 700*time.Millisecond, []Delayed{{Frames: hot, Count: 3, Delay: time.Second}}
		}), "minor goroutines stall to help the collector: 35 %", 30},
		{"a burst of assist", trace(func(s *Schedule) {
			s.Assist, s.Slices = 700*time.Millisecond, make([]Slice, 50)
			for i := range s.Slices {
				s.Slices[i].Running = 40 * time.Millisecond
			}
			s.Slices[7].Assist = 700 * time.Millisecond
		}), "", 0},
		{"assist of a program that is not let run", cpus(0.5, trace(func(s *Schedule) { s.Assist = 700 * time.Millisecond })), "", 0},
		{"figures of locks", figures(RuntimeFigures{MutexWait: 50 * time.Second}), "minor goroutines queue for locks: 5.0 wait", 0},
		{"few", figures(RuntimeFigures{MutexWait: 10 * time.Second}), "", 0},
		{"figures of assist", figures(RuntimeFigures{AssistCPU: 4 * time.Second, UserCPU: 6 * time.Second}), "minor goroutines stall to help the collector: 40 %", 0},
		{"figures of turns", figures(RuntimeFigures{Latencies: []Bucket{{time.Millisecond, 900}, {100 * time.Millisecond, 995}, {math.MaxInt64, 1000}}}), "minor goroutines that could run wait for a CPU: one in a hundred for 100ms", 0},
		{"figures of quick turns", figures(RuntimeFigures{Latencies: []Bucket{{time.Millisecond, 995}, {100 * time.Millisecond, 999}, {math.MaxInt64, 1000}}}), "", 0},
	} {
		got, line := "", 0
		for _, f := range lockFindings(c.e) {
			got += f.Severity.String() + " " + f.Sentence
			line = f.Line.Line
			if f.Advice == "" || len(f.Evidence) == 0 {
				t.Errorf("%s: without advice or evidence", c.name)
			}
		}
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) || line != c.line {
			t.Errorf("%s: %q at %d, want %q at %d", c.name, got, line, c.want, c.line)
		}
	}
}

func TestLatencies(t *testing.T) {
	var l Latencies
	for i := range 1000 {
		l.add(time.Duration(i) * time.Microsecond)
	}
	for _, q := range []float64{0.1, 0.5, 0.9, 0.99, 1} {
		want := time.Duration(q*1000) * time.Microsecond
		if got := l.Quantile(q); got < want-time.Microsecond || got > want+want/4+time.Microsecond {
			t.Errorf("quantile %g is %s, want %s and at most a quarter more", q, got, want)
		}
	}
	if got := (&Latencies{}).Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %s", got)
	}
	l.add(-1)
	l.add(math.MaxInt64)
	if l.Longest != math.MaxInt64 || l.Count != 1002 {
		t.Errorf("%+v", l)
	}
}

func FuzzSchedule(f *testing.F) {
	seeds(f, "schedules")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSchedule(b)
		if err != nil {
			return
		}
		e := &Evidence{Schedule: s}
		for _, f := range Examine(e).Findings {
			if f.Sentence == "" {
				t.Error("a finding without a sentence")
			}
		}
	})
}
