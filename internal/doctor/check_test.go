package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// profileOf makes a series of heap profiles of one site that has so many objects of 1 KiB at each moment, as the profiler would see it.
func profileOf(alive func(i int) int, n int) *Evidence {
	e := &Evidence{}
	random := rand.New(rand.NewPCG(1, 2))
	frames := []Frame{{Function: "runtime.mallocgc", File: "/go/src/runtime/malloc.go", Line: 1}, {Function: "main.add", File: "/src/main.go", Line: 7}, {Function: "main.main", File: "/src/main.go", Line: 20}}
	const rate, size = 512 << 10, 1 << 10
	p := -math.Expm1(-float64(size) / rate)
	taken := []bool{} // of each object in turn, whether it was sampled
	for i := range n {
		for len(taken) < alive(i) {
			taken = append(taken, random.Float64() < p)
		}
		count := 0
		for _, t := range taken[:alive(i)] {
			if t {
				count++
			}
		}
		objects := int64(float64(count) / p)
		e.Heap = append(e.Heap, HeapSample{At: time.Duration(i) * time.Second, Rate: rate, Sites: []HeapSite{{Frames: frames, Objects: objects, Bytes: objects * size, AllocObjects: int64(len(taken)), AllocBytes: int64(len(taken)) * size}}})
	}
	return e
}

// TestHeapShapes tells a leak from what only looks like one, by the shape of its growth.
func TestHeapShapes(t *testing.T) {
	for _, c := range []struct {
		name  string
		alive func(i int) int
		leak  bool
	}{
		{"even growth", func(i int) int { return 3000 * (i + 1) }, true},
		{"faster and faster", func(i int) int { return 300 * (i + 1) * (i + 1) }, true},
		{"steady", func(int) int { return 40_000 }, false},
		{"fills to a limit", func(i int) int { return min(6000*(i+1), 36_000) }, false},
		{"ever slower", func(i int) int { return int(50_000 * (1 - math.Exp(-float64(i)/4))) }, false},
		{"sawtooth", func(i int) int { return 6000 * (i%5 + 1) }, false},
		{"burst", func(i int) int { return map[bool]int{true: 40_000, false: 1000}[i >= 4 && i < 8] }, false},
		{"shrinks", func(i int) int { return 60_000 - 3000*i }, false},
		{"too little to tell", func(i int) int { return 1000 + 20*i }, false},
	} {
		r := Examine(profileOf(c.alive, 16))
		if r.Found() != c.leak {
			t.Errorf("%s: findings %+v, want one: %v", c.name, r.Findings, c.leak)
		}
		if c.leak && r.Found() {
			f := r.Findings[0]
			if f.Line.File != "/src/main.go" || f.Line.Line != 7 || f.Check != "heap growth" || f.Confidence < 0.99 {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
	}
}

// TestHeapRate checks that the rate of growth is the real one: the sampling is undone.
func TestHeapRate(t *testing.T) {
	r := Examine(profileOf(func(i int) int { return 6000 * (i + 1) }, 20))
	if !r.Found() {
		t.Fatal("no finding")
	}
	want := 6000.0 * 1024 * 3600
	if got := r.Findings[0].PerHour; got < want*0.7 || got > want*1.3 {
		t.Errorf("%.0f bytes an hour, want about %.0f", got, want)
	}
}

// TestHeapNote tells of growth whose place is not known.
func TestHeapNote(t *testing.T) {
	of := func(alive func(i int) uint64) *Evidence {
		e := &Evidence{}
		for i := range 16 {
			at := time.Duration(i) * time.Second
			e.Heap = append(e.Heap, HeapSample{At: at, Rate: 512 << 10})
			e.Memory = append(e.Memory, MemStats{At: at, HeapAlloc: alive(i), Sys: 64 << 20, HeapInuse: alive(i), NumForcedGC: uint64(i)})
		}
		return e
	}
	for _, c := range []struct {
		name  string
		alive func(i int) uint64
		want  bool
	}{
		{"grows", func(i int) uint64 { return 4<<20 + uint64(i)<<17 }, true},
		{"ever slower", func(i int) uint64 { return 4<<20 + uint64(4e6*(1-math.Exp(-float64(i)/4))) }, false},
		{"steady", func(i int) uint64 { return 4<<20 + uint64(i%3) }, false},
		{"little", func(i int) uint64 { return 4<<20 + uint64(i)<<10 }, false},
	} {
		r := Examine(of(c.alive))
		told := slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "too few samples to tell where") })
		if r.Found() || told != c.want {
			t.Errorf("%s: findings %+v, notes %q, want a note: %v", c.name, r.Findings, r.Notes, c.want)
		}
	}
}

// stuckEvidence has n goroutines more at each look, all in one state at one line.
func stuckEvidence(state string, n func(i int) int, stay bool) *Evidence {
	e := &Evidence{}
	runtime := Frame{Function: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 1}
	at := Frame{Function: "main.wait.func1", File: "/src/main.go", Line: 30}
	for i := range 12 {
		at0 := time.Duration(i) * time.Second
		e.Counts = append(e.Counts, GoroutineCounts{At: at0, Total: int64(n(i)), Stacks: []Stack{{Frames: []Frame{runtime, at}, Count: int64(n(i))}}})
		if i%4 != 3 {
			continue
		}
		d := GoroutineDump{At: at0}
		for j := range n(i) {
			id := int64(j)
			if !stay {
				id += int64(i) * 10_000
			}
			d.Goroutines = append(d.Goroutines, Goroutine{ID: id, State: state, Frames: []Frame{runtime, at}, Created: Frame{Function: "main.wait", File: "/src/main.go", Line: 28}})
		}
		e.Goroutines = append(e.Goroutines, d)
	}
	return e
}

func TestGoroutineShapes(t *testing.T) {
	for _, c := range []struct {
		name string
		e    *Evidence
		leak bool
	}{
		{"grows and stays", stuckEvidence("chan send", func(i int) int { return 50 * (i + 1) }, true), true},
		{"more load, and each comes and goes", stuckEvidence("IO wait", func(i int) int { return 50 * (i + 1) }, false), false},
		{"a pool up to its size", stuckEvidence("chan receive", func(i int) int { return min(40*(i+1), 200) }, true), false},
		{"as many as ever", stuckEvidence("IO wait", func(int) int { return 5000 }, true), false},
	} {
		r := Examine(c.e)
		if r.Found() != c.leak {
			t.Errorf("%s: %+v, want a finding: %v", c.name, r.Findings, c.leak)
		}
		if c.leak && (r.Findings[0].Line.Line != 30 || !slices.ContainsFunc(r.Findings[0].Related, func(l Line) bool { return l.Line == 28 })) {
			t.Errorf("%s: %+v", c.name, r.Findings[0])
		}
	}
	// Idle connections of an HTTP client's pool are for use; connections whose responses are not closed wait in a select.
	for state, want := range map[string]bool{"IO wait": false, "select": true} {
		e := stuckEvidence(state, func(i int) int { return 2 * (i + 1) }, true)
		loop := []Frame{{Function: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 1}, {Function: "net/http.(*persistConn).readLoop", File: "/go/src/net/http/transport.go", Line: 9}}
		for i := range e.Counts {
			e.Counts[i].Stacks[0].Frames = loop
		}
		for _, d := range e.Goroutines {
			for i := range d.Goroutines {
				d.Goroutines[i].Frames = loop
			}
		}
		if r := Examine(e); r.Found() != want {
			t.Errorf("connections of a client in %s: %+v, want a finding: %v", state, r.Findings, want)
		}
	}
	// The runtime's own proof needs no growth, and a lock that several have waited for a minute none either.
	proof := &Evidence{Leaked: []Stack{{Frames: []Frame{{Function: "main.f", File: "/src/main.go", Line: 3}}, Count: 1}}}
	if r := Examine(proof); !r.Found() || r.Findings[0].Confidence != 1 {
		t.Errorf("a goroutine that the runtime has proven to be stuck: %+v", r.Findings)
	}
	lock := stuckEvidence("sync.Mutex.Lock", func(int) int { return 3 }, true)
	if Examine(lock).Found() {
		t.Error("a short wait for a lock is no finding")
	}
	for i := range lock.Goroutines[2].Goroutines {
		lock.Goroutines[2].Goroutines[i].Wait = 2 * time.Minute
	}
	if !Examine(lock).Found() {
		t.Error("minutes of waiting for a lock are a finding")
	}
}

func TestTraceFindings(t *testing.T) {
	const text = "gc %d @%d.000s %d%%: 0.01+%d+0.01 ms clock, 0.1+%d/%d/1+0.1 ms cpu, %d->%d->%d MB, %d MB goal, 0 MB stacks, 0 MB globals, 2 P\n"
	for name, c := range map[string]struct {
		line func(i int) string
		want string
	}{
		"leak":   {func(i int) string { return fmt.Sprintf(text, i, i, 2, 1, 0, 1, 20+i, 20+i, 10+i, 20+2*i) }, "what survives collections grows"},
		"steady": {func(i int) string { return fmt.Sprintf(text, i, i, 2, 1, 0, 1, 20, 20, 10+i%2, 20) }, ""},
		"at the limit": {func(i int) string {
			return strings.Replace(fmt.Sprintf(text, i, 5, 90, 20, 1, 30, 100, 101, 99, 100), "@5.000s", fmt.Sprintf("@5.%03ds", i*25), 1)
		}, "close to the memory limit"},
		"share":    {func(i int) string { return fmt.Sprintf(text, i, i, 40, 1, 0, 1, 20, 20, 10, 20) }, "takes 40 %"},
		"assist":   {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 200, 100, 20, 20, 10, 20) }, "did 67 % of the marking"},
		"beyond":   {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 38, 60, 20, 40) }, "in 20 of the last 20 it was beyond at the end of the mark, by 50 % typically"},
		"late":     {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 80, 80, 20, 80) }, "marks begin too late: in 19 of the last 19"},
		"at times": {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 38, 40+i%4/3*20, 20, 40) }, ""},
		"in time":  {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 77, 80, 20, 80) }, ""},
		"a little": {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 38, 46, 20, 40) }, ""},
		"small":    {func(i int) string { return fmt.Sprintf(text, i, i, 5, 90, 1, 100, 4, 9, 2, 4) }, ""},
	} {
		var b strings.Builder
		for i := 1; i < 40; i++ {
			b.WriteString(c.line(i))
		}
		cycles, skipped := ParseTrace([]byte(b.String()))
		if len(cycles) != 39 || skipped != 0 {
			t.Fatalf("%s: %d cycles, %d skipped", name, len(cycles), skipped)
		}
		r := Examine(&Evidence{Trace: cycles})
		if c.want == "" && r.Found() || c.want != "" && (!r.Found() || !strings.Contains(r.Findings[0].Sentence, c.want)) {
			t.Errorf("%s: %+v, want %q", name, r.Findings, c.want)
		}
	}
}

// TestTraceOfLateMarks has the log of a program that keeps 20 MiB and allocates 64 MiB at a time.
func TestTraceOfLateMarks(t *testing.T) {
	b, err := os.ReadFile("testdata/seeds/gctrace/late.txt")
	if err != nil {
		t.Fatal(err)
	}
	cycles, _ := ParseTrace(b)
	r := Examine(&Evidence{Trace: cycles})
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Sentence, "marks begin too late") || !strings.Contains(r.Findings[0].Evidence[0], "began with 340.0 MiB, and found 148.0 MiB alive") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestTraceWords has a log told in words, whether there is a finding or not.
func TestTraceWords(t *testing.T) {
	const text = "gc %d @%d.000s 2%%: 0.02+3.5+0.01 ms clock, 0.1+1/4/5+0.1 ms cpu, 20->%d->10 MB, 20 MB goal, 0 MB stacks, 0 MB globals, 2 P%s\n"
	log := func(end int) *Evidence {
		var b strings.Builder
		for i := range 40 {
			forced := ""
			if i%10 == 9 {
				forced = " (forced)"
			}
			fmt.Fprintf(&b, text, i+1, 5*i, end, forced)
		}
		cycles, _ := ParseTrace([]byte(b.String()))
		return &Evidence{Target: "log", Trace: cycles}
	}
	r := Examine(log(21))
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil || r.Found() {
		t.Fatalf("%v, %+v", err, r.Findings)
	}
	for _, want := range []string{
		"a collection  typically pauses the program for 30µs, marks for 3.5ms beside it, and leaves 10.0 MiB alive of a heap of 21.0 MiB (goal 20.0 MiB); 12 a minute\n",
		"its pauses    20µs before the mark and 10µs after it, in which all goroutines stand; the longest two of a collection took 30µs together\n",
		"its mark      3.5ms beside the program, 99 % of a collection's time; of its CPU time 10 % was work of goroutines that allocate.",
		"its heap      20.0 MiB when it began, 21.0 MiB at the end of the mark, 10.0 MiB of that alive: 52 % was garbage\n",
		"its goal      20.0 MiB at the end of this very collection; it follows from what the one before found alive, and from GOGC and GOMEMLIMIT, and was kept\n",
		"how often     40 collections in 3m15s, 12 a minute, 4 of them asked for; 2 % of the CPU went into them since the program's start\n",
		"no finding",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	b.Reset()
	if err := r.WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"name": "a collection"`) || !strings.Contains(b.String(), `"value": "typically pauses the program for 30`) {
		t.Errorf("%v\n%s", err, &b)
	}
	r = Examine(log(30))
	if i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Finding }); !r.Found() || i < 0 || !strings.Contains(r.Steps[i].Value, "missed by a fifth or more in 36 of 36") {
		t.Errorf("a heap beyond its goals: %+v %+v", r.Findings, r.Steps)
	}
	if s := Examine(&Evidence{Trace: log(21).Trace[:1]}).Steps; len(s) != 6 || !strings.Contains(s[5].Value, "1 collection; 2 % of the CPU") {
		t.Errorf("one collection: %+v", s)
	}
	if s := Examine(&Evidence{}).Steps; len(s) != 0 {
		t.Errorf("no log: %+v", s)
	}
}

// TestOutside has evidence of memory that is in no heap profile.
func TestOutside(t *testing.T) {
	of := func(resident, mappings func(i int) int, inuse uint64) *Evidence {
		e := &Evidence{}
		for i := range 12 {
			at := time.Duration(i) * time.Second
			e.Memory = append(e.Memory, MemStats{At: at, Sys: 60 << 20, HeapInuse: inuse, HeapAlloc: 10 << 20})
			e.Process = append(e.Process, ProcessSample{At: at, Resident: uint64(resident(i)) << 20, Mappings: mappings(i), Descriptors: map[string]int{}})
		}
		return e
	}
	same := func(n int) func(int) int { return func(int) int { return n } }
	grow := func(from, by int) func(int) int { return func(i int) int { return from + by*i } }
	for _, c := range []struct {
		name string
		e    *Evidence
		want string
	}{
		{"nothing", of(same(70), same(100), 12<<20), ""},
		{"C", of(grow(70, 3), same(100), 12<<20), "memory outside the Go heap grows by 10.5 GiB"},
		{"mappings", of(same(70), grow(100, 20), 12<<20), "memory outside the Go heap"},
		{"up to a limit", of(func(i int) int { return 70 + min(i, 4)*5 }, same(100), 12<<20), ""},
		{"holes", of(same(70), same(100), 50<<20), "40.0 MiB of the heap are holes"},
	} {
		r := Examine(c.e)
		if c.want == "" && r.Found() || c.want != "" && (!r.Found() || !strings.Contains(r.Findings[0].Sentence, c.want)) {
			t.Errorf("%s: %+v, want %q", c.name, r.Findings, c.want)
		}
	}
}

func TestDescriptors(t *testing.T) {
	of := func(sample func(i int) ProcessSample) *Evidence {
		e := &Evidence{}
		for i := range 12 {
			s := sample(i)
			s.At = time.Duration(i) * time.Second
			if s.Descriptors == nil {
				s.Descriptors = map[string]int{"socket": 10}
			}
			e.Process = append(e.Process, s)
		}
		return e
	}
	for _, c := range []struct {
		name string
		e    *Evidence
		want string
	}{
		{"steady", of(func(int) ProcessSample {
			return ProcessSample{Sockets: map[string]int{"ESTABLISHED": 900, "CLOSE_WAIT": i0}}
		}), ""},
		{"half closed", of(func(i int) ProcessSample { return ProcessSample{Sockets: map[string]int{"CLOSE_WAIT": 10 * i}} }), "110 sockets are in CLOSE_WAIT"},
		{"files", of(func(i int) ProcessSample { return ProcessSample{Descriptors: map[string]int{"file": 10 * (i + 1)}} }), "of kind file grow"},
		{"more clients", of(func(i int) ProcessSample { return ProcessSample{Descriptors: map[string]int{"socket": 10 * (i + 1)}} }), ""},
		{"at the limit", of(func(int) ProcessSample {
			return ProcessSample{Descriptors: map[string]int{"socket": 950}, DescriptorLimit: 1000}
		}), "950 descriptors are open, and the limit is 1000"},
	} {
		r := Examine(c.e)
		if c.want == "" && r.Found() || c.want != "" && (!r.Found() || !strings.Contains(r.Findings[0].Sentence, c.want)) {
			t.Errorf("%s: %+v, want %q", c.name, r.Findings, c.want)
		}
	}
}

const i0 = 3 // sockets that just now have been closed by their peers

// TestReport holds the JSON to what docs/doctor.md describes, and reads it back.
func TestReport(t *testing.T) {
	r := Examine(profileOf(func(i int) int { return 3000 * (i + 1) }, 16))
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Findings) != len(r.Findings) || back.Findings[0].Severity != Major {
		t.Fatalf("%v\n%s", err, &b)
	}
	for _, name := range []string{`"target"`, `"took_ns"`, `"checks"`, `"findings"`, `"notes": []`, `"severity": "major"`, `"line": {`, `"function": "main.add"`, `"file": "/src/main.go"`, `"line": 7`, `"evidence": [`, `"advice"`, `"confidence"`, `"bytes_per_hour"`} {
		if !strings.Contains(b.String(), name) {
			t.Errorf("no %s in\n%s", name, &b)
		}
	}
	b.Reset()
	if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "1. MAJOR (heap growth): the heap grows by") || !strings.Contains(b.String(), "what to do:") {
		t.Errorf("%v\n%s", err, &b)
	}
	b.Reset()
	empty := Examine(&Evidence{Target: "x"})
	if err := empty.WriteText(&b); err != nil || empty.Found() || !strings.Contains(b.String(), "no finding") || !strings.Contains(b.String(), "not asked: heap growth") {
		t.Errorf("%v\n%s", err, &b)
	}
}

func TestOwner(t *testing.T) {
	std := places{root: "/usr/local/go/src/", module: "example.com/app"}
	trimmed := places{module: "example.com/app"}
	for _, c := range []struct {
		p    places
		f    Frame
		want owner
	}{
		{std, Frame{Function: "main.main", File: "/home/a/main.go"}, ownCode},
		{std, Frame{Function: "net/http.(*conn).serve", File: "/usr/local/go/src/net/http/server.go"}, standard},
		{std, Frame{Function: "golang.org/x/net/http2/hpack.x", File: "/usr/local/go/src/vendor/golang.org/x/net/http2/hpack/x.go"}, standard},
		{std, Frame{Function: "github.com/a/b.(*T[example.com/app/x.Y]).Do", File: "/home/a/go/pkg/mod/github.com/a/b@v1.2.3/b.go"}, thirdParty},
		{std, Frame{Function: "github.com/a/b.Do", File: "/home/a/vendor/github.com/a/b/b.go"}, thirdParty},
		{std, Frame{Function: "example.com/app/internal/x.Do", File: "/home/a/internal/x/x.go"}, ownCode},
		{trimmed, Frame{Function: "example.com/app/internal/x.Do", File: "example.com/app/internal/x/x.go"}, ownCode},
		{trimmed, Frame{Function: "github.com/a/b.Do", File: "github.com/a/b@v1.2.3/b.go"}, thirdParty},
		{trimmed, Frame{Function: "net/http.Get", File: "net/http/client.go"}, standard},
		{places{}, Frame{Function: "net/http.Get", File: "net/http/client.go"}, standard},
	} {
		if got := c.p.owner(c.f); got != c.want {
			t.Errorf("%+v is %d, want %d", c.f, got, c.want)
		}
	}
	for name, want := range map[string]string{"net/http.(*T).Do": "net/http", "main.f": "main", "gopkg.in/yaml%2ev3.f": "gopkg.in/yaml.v3", "a.b/c.(*S[d.e/f.G]).m": "a.b/c"} {
		if got := packageOf(name); got != want {
			t.Errorf("packageOf(%s) = %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"main.f.func1.2": "main.f", "main.(*T).f.func3": "main.(*T).f", "main.f.gowrap1": "main.f", "main.f": "main.f"} {
		if got := declared(name); got != want {
			t.Errorf("declared(%s) = %s, want %s", name, got, want)
		}
	}
}

// TestSampleProcess reads a /proc that is made of files.
func TestSampleProcess(t *testing.T) {
	root := fstest.MapFS{
		"proc/7/stat":         {Data: []byte("7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 0 2000 0")},
		"proc/7/status":       {Data: []byte("Name:\tx\nVmRSS:\t 8000 kB\nRssAnon:\t 5000 kB\nRssFile:\t 2000 kB\nRssShmem:\t 1000 kB\nVmSwap:\t 3 kB\n")},
		"proc/7/smaps_rollup": {Data: []byte("0-1 ---p 0 00:00 0 [rollup]\nRss:  8100 kB\nAnonymous: 5100 kB\n")},
		"proc/7/maps":         {Data: []byte("a\nb\nc\n")},
		"proc/7/limits":       {Data: []byte("Max open files            1024                 4096                 files\n")},
		"proc/7/cgroup":       {Data: []byte("0::/box\n")},
		"proc/7/net/tcp": {Data: []byte("  sl  local_address rem_address   st\n" +
			"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55 1\n" +
			"   1: 0100007F:1F90 0100007F:9999 08 00000000:00000000 00:00000000 00000000     0        0 56 1\n" +
			"   2: 0100007F:1F90 0100007F:9998 08 00000000:00000000 00:00000000 00000000     0        0 99 1\n")},
		"sys/fs/cgroup/box/memory.current": {Data: []byte("9000000\n")},
		"sys/fs/cgroup/box/memory.max":     {Data: []byte("10000000\n")},
		"sys/fs/cgroup/box/memory.stat":    {Data: []byte("anon 5000000\nfile 2000000\nkernel 1000\nsock 77\n")},
		"sys/fs/cgroup/box/memory.events":  {Data: []byte("low 0\nhigh 4\noom_kill 2\n")},
	}
	for fd, target := range map[string]string{"0": "/dev/null", "1": "pipe:[3]", "2": "socket:[55]", "3": "socket:[56]", "4": "anon_inode:[eventpoll]", "5": "/tmp/x.log", "6": "/tmp/x.log"} {
		root["proc/7/fd/"+fd] = &fstest.MapFile{Data: []byte(target), Mode: 0o777 | fs.ModeSymlink}
	}
	s, err := SampleProcess(root, 7, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if s.Resident != 8100<<10 || s.Anonymous != 5100<<10 || s.FileBacked != 2000<<10 || s.Shared != 1000<<10 || s.Mappings != 3 || s.CPU != 2*time.Second || s.Threads != 9 || s.DescriptorLimit != 1024 {
		t.Errorf("%+v", s)
	}
	if d := s.Descriptors; d["socket"] != 2 || d["file"] != 2 || d["pipe"] != 1 || d["eventpoll"] != 1 || d["device"] != 1 || s.Files["/tmp/x.log"] != 2 {
		t.Errorf("descriptors %v, files %v", d, s.Files)
	}
	if s.Sockets["LISTEN"] != 1 || s.Sockets["CLOSE_WAIT"] != 1 {
		t.Errorf("sockets %v", s.Sockets)
	}
	if g := s.Group; g.Version != 2 || g.Current != 9000000 || g.Limit != 10000000 || g.Anon != 5000000 || g.File != 2000000 || g.Kernel != 1000 || g.Sock != 77 || g.OOMKills != 2 || g.Machine {
		t.Errorf("%+v", g)
	}
	if all, own := listening(root, 7); len(all) != 1 || all[0].Addr.String() != "127.0.0.1:8080" || !own[55] {
		t.Errorf("listeners %v, own %v", all, own)
	}
	if _, err := SampleProcess(root, 8, 0); err == nil {
		t.Error("a process that is not there is an error")
	}

	root["proc/7/cgroup"] = &fstest.MapFile{Data: []byte("9:memory:/old\n")}
	root["sys/fs/cgroup/memory/old/memory.usage_in_bytes"] = &fstest.MapFile{Data: []byte("123\n")}
	root["sys/fs/cgroup/memory/old/memory.limit_in_bytes"] = &fstest.MapFile{Data: []byte("9223372036854771712\n")}
	if g := sampleGroup(root, "proc/7"); g.Version != 1 || g.Current != 123 || g.Limit != 0 {
		t.Errorf("version 1: %+v", g)
	}
}
