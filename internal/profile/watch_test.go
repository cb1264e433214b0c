package profile_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	pprofile "github.com/google/pprof/profile"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/profile"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// open opens a Watch that keeps its log. Its captures take no time.
func open(t *testing.T, o profile.Options) (*profile.Watch, *waittest.Log) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("captures need a lock of files, which is Linux's here")
	}
	j := new(waittest.Log)
	o.Log = slog.New(slog.NewTextHandler(j, nil))
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	w, err := profile.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Hasten(time.Millisecond, nil)
	return w, j
}

// played gives looks from a list, and ends.
func played(looks []profile.Look) func(context.Context) (profile.Look, bool) {
	return func(context.Context) (profile.Look, bool) {
		if len(looks) == 0 {
			return profile.Look{}, false
		}
		l := looks[0]
		looks = looks[1:]
		return l, true
	}
}

func captures(t *testing.T, w *profile.Watch) []profile.Capture {
	t.Helper()
	list, err := w.Captures()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestCaptures plays figures: which captures there are, and what is in them.
func TestCaptures(t *testing.T) {
	dir := t.TempDir()
	w, log := open(t, profile.Options{Dir: dir, Jump: 0.2, Pause: 100 * time.Millisecond, Trace: time.Second, Version: "v1.2.3",
		Gateway: func() any { return map[string]int{"Conns": 7} }})
	const mb = 1 << 20
	look := func(at time.Duration, rss uint64, pause, iteration time.Duration) profile.Look {
		return profile.Look{Time: start.Add(at), RSS: rss * mb, GCPause: pause, Iteration: iteration}
	}
	w.Hasten(20*time.Millisecond, played([]profile.Look{
		look(0, 100, 0, 0),
		look(1*time.Second, 300, 0, 0),                        // a jump
		look(2*time.Second, 900, 0, 0),                        // since that there is nothing to compare with
		look(3*time.Second, 2000, 0, 0),                       // too soon
		look(4*time.Second, 2000, time.Second, 0),             // too soon
		look(61*time.Second, 2000, 0, 200*time.Millisecond),   // an iteration
		look(200*time.Second, 2000, 150*time.Millisecond, 0),  // a pause
		look(10*time.Second, 2000, 150*time.Millisecond, 0),   // the clock was set back
		look(300*time.Second, 2000, 99*time.Millisecond, 0),   // nothing
		look(500*time.Second, 2000, 99*time.Millisecond, 1e7), // nothing
	}))
	w.Run(t.Context())
	list := captures(t, w)
	var got []string
	for _, c := range list {
		got = append(got, c.Reason.Trigger)
	}
	if want := "gc_pause gc_pause loop rss"; strings.Join(got, " ") != want {
		t.Fatalf("captures %q, want %q\n%s", got, want, log)
	}
	if r := list[2].Reason; r.Skipped != 2 || r.Found != uint64(200*time.Millisecond) || r.Limit != uint64(100*time.Millisecond) {
		t.Errorf("reason %+v", r)
	}
	first := list[3]
	if first.Reason.Before != 100*mb || first.Reason.Found != 300*mb || !first.Time.Equal(start.Add(time.Second)) || first.Version != "v1.2.3" || len(first.Missing) != 0 || first.Runtime != nil {
		t.Errorf("capture %+v", first)
	}
	if n := strings.Count(log.String(), "msg=captured"); n != 4 {
		t.Errorf("%d captures were logged, want 4:\n%s", n, log)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, first.Name, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var sizes int64
	for _, f := range first.Files {
		sizes += f.Bytes
		if n := len(read(f.Name)); int64(n) != f.Bytes {
			t.Errorf("%s has %d bytes, and is said to have %d", f.Name, n, f.Bytes)
		}
	}
	if len(first.Files) != 4 || sizes == 0 {
		t.Errorf("files %+v", first.Files)
	}
	for name, sample := range map[string]string{"heap.pb.gz": "inuse_space", "goroutine.pb.gz": "goroutine", "cpu.pb.gz": "cpu"} {
		p, err := pprofile.ParseData(read(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := false
		for _, s := range p.SampleType {
			found = found || s.Type == sample
		}
		if !found {
			t.Errorf("%s has no %s", name, sample)
		}
		if name != "goroutine.pb.gz" {
			continue
		}
		found = false
		for _, s := range p.Sample {
			found = found || len(s.Label["subsystem"]) == 1 && s.Label["subsystem"][0] == "profile"
		}
		if !found {
			t.Error("no goroutine has the label of this subsystem")
		}
	}
	if b := read("trace.out"); !bytes.HasPrefix(b, []byte("go 1.")) || len(b) < 1000 {
		t.Errorf("the trace is %d bytes, and begins with %.16q", len(b), b)
	}
	var c struct {
		Runtime map[string]json.RawMessage
		Gateway map[string]int
	}
	if err := json.Unmarshal(read("capture.json"), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Runtime) < 50 || c.Gateway["Conns"] != 7 || !strings.Contains(string(c.Runtime["/sched/pauses/total/gc:seconds"]), `"buckets"`) {
		t.Errorf("capture.json has %d metrics, gateway %v, pauses %s", len(c.Runtime), c.Gateway, c.Runtime["/sched/pauses/total/gc:seconds"])
	}
}

// TestCaptureWithoutCPU captures while somebody else profiles the processor.
func TestCaptureWithoutCPU(t *testing.T) {
	w, log := open(t, profile.Options{Pause: time.Millisecond})
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	w.Hasten(time.Millisecond, played([]profile.Look{{Time: start, GCPause: time.Second}}))
	w.Run(t.Context())
	list := captures(t, w)
	if len(list) != 1 || list[0].Missing["cpu.pb.gz"] == "" || len(list[0].Files) != 2 {
		t.Errorf("captures %+v\n%s", list, log)
	}
}

// TestCaptureEnds ends Run in the middle of a capture, which is kept as far as it went.
func TestCaptureEnds(t *testing.T) {
	w, log := open(t, profile.Options{Pause: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	w.Hasten(time.Hour, func(ctx context.Context) (profile.Look, bool) {
		if ctx.Err() != nil {
			return profile.Look{}, false
		}
		go func() {
			for !strings.Contains(goroutines(), "profileCPU") && ctx.Err() == nil {
				runtime.Gosched()
			}
			cancel()
		}()
		return profile.Look{Time: start, GCPause: time.Second}, true
	})
	w.Run(ctx)
	if list := captures(t, w); len(list) != 1 || len(list[0].Files) != 3 {
		t.Errorf("captures %+v\n%s", list, log)
	}
}

// goroutines are the stacks of all goroutines.
func goroutines() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}

// TestDirectoryGone has the directory removed under it, and says so once.
func TestDirectoryGone(t *testing.T) {
	dir := t.TempDir()
	w, log := open(t, profile.Options{Dir: dir, Pause: time.Millisecond})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var looks []profile.Look
	for i := range 5 {
		looks = append(looks, profile.Look{Time: start.Add(time.Duration(i) * time.Hour), GCPause: time.Second})
	}
	w.Hasten(time.Millisecond, played(looks))
	w.Run(t.Context())
	if n := strings.Count(log.String(), "no capture"); n != 1 {
		t.Errorf("it was said %d times, want once:\n%s", n, log)
	}
}

// run runs w until there is a capture, and returns it.
func run(t *testing.T, w *profile.Watch, log *waittest.Log, act func()) profile.Capture {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); w.Run(ctx) }()
	defer func() { cancel(); <-over }()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		act()
		if list := captures(t, w); len(list) > 0 {
			return list[0]
		}
		time.Sleep(10 * time.Millisecond) // between looks at what another goroutine does
	}
	t.Fatalf("no capture in 30 s\n%s", log)
	return profile.Capture{}
}

// TestRealRSS grows the process.
func TestRealRSS(t *testing.T) {
	w, log := open(t, profile.Options{Jump: 0.01})
	var held [][]byte
	begun := time.Now()
	c := run(t, w, log, func() {
		if len(held) < 20 && time.Since(begun) > time.Duration(len(held))*50*time.Millisecond {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			held = append(held, b)
		}
	})
	if c.Reason.Trigger != "rss" || c.Reason.Found < c.Reason.Before+64<<20 {
		t.Errorf("%+v", c.Reason)
	}
	runtime.KeepAlive(held)
	debug.FreeOSMemory()
}

// TestRealPause has the collector stop the world, which takes longer than nothing.
func TestRealPause(t *testing.T) {
	w, log := open(t, profile.Options{Pause: time.Nanosecond})
	if c := run(t, w, log, runtime.GC); c.Reason.Trigger != "gc_pause" || c.Reason.Found == 0 {
		t.Errorf("%+v", c.Reason)
	}
}

// TestRealLoop holds up a gateway's loop.
func TestRealLoop(t *testing.T) {
	e := longwire.Endpoint{Path: "/ws", OnMessage: func(longwire.Conn, longwire.Message) { busy(40 * time.Millisecond) }}
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 10, Loops: 1, MaxMemory: -1, Endpoints: []longwire.Endpoint{e}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	c := wstest.Dial(t, g.Addr().String(), "/ws", ws.Dial{})
	w, log := open(t, profile.Options{Pause: 20 * time.Millisecond, Iterations: func() []uint64 { i := g.Stats().Iterations; return i[:] }})
	var sent time.Time
	got := run(t, w, log, func() {
		if time.Since(sent) < 200*time.Millisecond {
			return
		}
		sent = time.Now()
		c.Send(ws.OpText, "work")
	})
	if got.Reason.Trigger == "gc_pause" {
		t.Skipf("this machine's collector takes long: %+v", got.Reason)
	}
	if got.Reason.Trigger != "loop" || got.Reason.Found < uint64(20*time.Millisecond) {
		t.Errorf("%+v", got.Reason)
	}
}

// busy computes for d.
func busy(d time.Duration) {
	for begun := time.Now(); time.Since(begun) < d; {
	}
}

// TestPages asks for what there is below /debug/pprof.
func TestPages(t *testing.T) {
	w, _ := open(t, profile.Options{Pause: time.Millisecond})
	s := httptest.NewServer(profile.Pages(w))
	defer s.Close()
	empty := httptest.NewServer(profile.Pages(nil))
	defer empty.Close()
	get := func(s *httptest.Server, path, accept string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, s.URL+"/debug/pprof/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
		return resp.StatusCode, resp.Header, string(b)
	}
	contains := func(s *httptest.Server, path, accept string, code int, parts ...string) {
		t.Helper()
		got, _, body := get(s, path, accept)
		if got != code {
			t.Errorf("%s: %d, want %d: %.200s", path, got, code, body)
		}
		for _, p := range parts {
			if !strings.Contains(body, p) {
				t.Errorf("%s: no %q in %.400s", path, p, body)
			}
		}
	}
	const html = "text/html"
	contains(s, "", html, 200, `<a href="heap?debug=1">`, `<a href="profile?seconds=5">`, "captures/", runtime.Version())
	// It is there where the program was built with it.
	_, _, index := get(s, "", html)
	if has := pprof.Lookup("goroutineleak") != nil; has != strings.Contains(index, "goroutineleak") {
		t.Errorf("goroutineleak: %v, and the index says %s", has, index)
	}
	contains(s, "captures/", html, 200, "no reason for one yet")
	contains(empty, "captures/", html, 200, "profile-dir")
	contains(empty, "captures/", "*/*", 200, `{"on":false,"captures":[]}`)
	contains(s, "captures/", "*/*", 200, `{"on":true,"captures":[]}`)
	contains(s, "goroutine?debug=2", html, 200, "goroutine ")
	contains(s, "cmdline", html, 200, "profile.test")
	contains(s, "nothing", html, 404)
	for _, q := range []string{"seconds=0", "seconds=-1", "seconds=x", "seconds=99999999", "seconds=1&debug=1"} {
		contains(s, "heap?gc=1&"+q, html, 400, "want a whole number")
	}

	w.Hasten(time.Millisecond, played([]profile.Look{{Time: start, GCPause: time.Second}}))
	w.Run(t.Context())
	name := captures(t, w)[0].Name
	contains(s, "captures/", html, 200, "stopped the world", name+"/heap.pb.gz", name+".tar")
	contains(s, "captures/", "application/json", 200, `"name":"`+name+`"`, `"trigger":"gc_pause"`)
	contains(s, "captures/"+name+"/capture.json", html, 200, `"/gc/heap/allocs:bytes"`)
	code, h, body := get(s, "captures/"+name+"/heap.pb.gz", html)
	if _, err := pprofile.ParseData([]byte(body)); code != 200 || err != nil || !strings.Contains(h.Get("Content-Disposition"), name) {
		t.Errorf("heap: %d, %v, %v", code, err, h)
	}
	_, _, body = get(s, "captures/"+name+".tar", html)
	for _, f := range []string{"heap.pb.gz", "goroutine.pb.gz", "cpu.pb.gz", "capture.json"} {
		if !strings.Contains(body, name+"/"+f) {
			t.Errorf("the archive lacks %s", f)
		}
	}
	for _, p := range []string{"captures/" + name, "captures/x.tar", "captures/..%2f..%2f/x", "captures/" + name + "/lock", "captures/000099-20260101T000000Z-rss.tar",
		"captures/000099-20260101T000000Z-rss/heap.pb.gz"} {
		contains(s, p, html, 404)
	}
	contains(empty, "captures/"+name+"/heap.pb.gz", html, 404)
	contains(empty, "captures/"+name+".tar", html, 404)
}

// held is what TestHeapDelta allocates and frees.
var held [][]byte

//go:noinline
func allocate(n int) {
	for range n {
		held = append(held, make([]byte, 8<<20))
	}
}

// TestHeapDelta has the difference of two heap profiles show what was allocated between them, and what was freed.
func TestHeapDelta(t *testing.T) {
	s := httptest.NewServer(profile.Pages(nil))
	defer s.Close()
	defer func() { held = nil }()
	// A collection that nobody asked for, after the first one and before its profile is read, would count what is allocated
	// by then as having been there before.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC() // one that was under way is over
	delta := func(act func()) int64 {
		t.Helper()
		collections := func() uint32 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.NumGC
		}
		before := collections()
		answer := make(chan *pprofile.Profile, 1)
		go func() {
			defer close(answer)
			resp, err := s.Client().Get(s.URL + "/debug/pprof/heap?seconds=1&gc=1")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			p, err := pprofile.Parse(resp.Body)
			if err != nil {
				t.Error(err)
				return
			}
			answer <- p
		}()
		// A profile is that of the last collection: what is allocated after the first one is not in the first profile.
		for collections() == before {
			runtime.Gosched()
		}
		act()
		p := <-answer
		if p == nil {
			t.FailNow()
		}
		if d := time.Duration(p.DurationNanos); d < time.Second || d > time.Minute {
			t.Errorf("the difference is one of %v", d)
		}
		kind := -1
		for i, v := range p.SampleType {
			if v.Type == "inuse_space" {
				kind = i
			}
		}
		total := int64(0)
		for _, x := range p.Sample {
			for _, l := range x.Location {
				for _, line := range l.Line {
					if strings.HasSuffix(line.Function.Name, ".allocate") {
						total += x.Value[kind]
					}
				}
			}
		}
		return total
	}
	const mb = 1 << 20
	within := func(what string, got, want int64) {
		t.Helper()
		if got < want-want/10*sign(want)-mb || got > want+want/10*sign(want)+mb {
			t.Errorf("%s: the difference says %d bytes, want about %d", what, got, want)
		}
	}
	within("64 MiB allocated", delta(func() { allocate(8) }), 64*mb)
	within("nothing", delta(func() {}), 0)
	within("64 MiB freed", delta(func() { held = nil }), -64*mb)
}

func sign(n int64) int64 {
	if n < 0 {
		return -1
	}
	return 1
}

// TestOpenFails opens what is no directory.
func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Open(profile.Options{Dir: file}); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}
