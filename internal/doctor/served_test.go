package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestParseServed reads the same figures in either format.
func TestParseServed(t *testing.T) {
	for name, want := range map[string]string{
		"vars.json":   "databases.orders 9/10 open 10 idle 1 waits 12 3s 0 0; pgx 4/4 open 4 idle 0 waits 3 1.5s 7 1; mutex 12.5s assist 0s user 4s latencies 0 finalizers 101/900 cleanups 32/64; heap 1000000 of 20000000",
		"metrics.txt": `pgxpool 4/4 open 0 idle 0 waits 0 0s 7 0; sql{db_name="a\"}b"} 1/0 open 0 idle 0 waits 0 0s 0 0; sql{db_name="orders"} 9/10 open 10 idle 1 waits 12 3s 0 0; mutex 12.5s assist 500ms user 4s latencies 3 finalizers 101/900 cleanups 32/64`,
	} {
		b, err := os.ReadFile(filepath.Join("testdata/seeds/served", name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseServed(b, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, p := range s.Pools {
			fmt.Fprintf(&got, "%s %d/%d open %d idle %d waits %d %s %d %d; ", p.Name, p.InUse, p.Max, p.Open, p.Idle, p.Waits, p.Waited, p.Acquired, p.Canceled)
		}
		f := s.Figures
		fmt.Fprintf(&got, "mutex %s assist %s user %s latencies %d finalizers %d/%d cleanups %d/%d", f.MutexWait, f.AssistCPU, f.UserCPU, len(f.Latencies), f.FinalizersRun, f.FinalizersQueued, f.CleanupsRun, f.CleanupsQueued)
		if s.Memory != nil {
			fmt.Fprintf(&got, "; heap %d of %d", s.Memory.HeapAlloc, s.Memory.Sys)
		}
		if got.String() != want {
			t.Errorf("%s:\n%s, want\n%s", name, &got, want)
		}
		for i := 1; i < len(s.Figures.Latencies); i++ {
			if s.Figures.Latencies[i].Most < s.Figures.Latencies[i-1].Most {
				t.Error("buckets are not in order")
			}
		}
	}
	// Where a program has only begun, its figures are 0, and will not stay so.
	for _, early := range []string{`{"runtime": {"/gc/finalizers/queued:finalizers": 0}}`, `{"/sync/mutex/wait/total:seconds": 0}`, "go_gc_cleanups_queued_cleanups_total 0\n"} {
		if s, err := ParseServed([]byte(early), 0); err != nil || s.Figures.empty() {
			t.Errorf("%q: %+v, %v, want that it is served", early, s, err)
		}
	}
	for _, bad := range []string{"", "<html>hello</html>", "{", "{} trailing is fine, but this is not JSON: {"} {
		if s, err := ParseServed([]byte(bad), 0); err == nil && (len(s.Pools) > 0 || !s.Figures.empty()) {
			t.Errorf("%q: %+v", bad, s)
		}
	}
	if _, err := ParseServed([]byte("<html>\nhello world hello\n"), 0); err == nil {
		t.Error("a page is no metrics")
	}
}

func FuzzServed(f *testing.F) {
	seeds(f, "served")
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseServed(b, 0)
		if err != nil {
			return
		}
		// Whatever they are, the checks can be asked about them.
		e := &Evidence{}
		for i := range 6 {
			for _, p := range s.Pools {
				p.At = time.Duration(i) * time.Second
				e.Pools = append(e.Pools, p)
			}
			s.Figures.At = time.Duration(i) * time.Second
			e.Runtime = append(e.Runtime, s.Figures)
		}
		for _, f := range Examine(e).Findings {
			if f.Sentence == "" {
				t.Error("a finding without a sentence")
			}
		}
	})
}

// varsHandler is what expvar serves, with a pool.
func varsHandler(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_ = json.NewEncoder(w).Encode(map[string]any{"memstats": m, "orders": map[string]any{"MaxOpenConnections": 5, "OpenConnections": 2, "InUse": 1, "Idle": 1, "WaitCount": 0, "WaitDuration": 0}})
}

// TestCollectServed looks at a program that serves profiles, figures and traces, and at one that serves figures only.
func TestCollectServed(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/vars", varsHandler)
	figures := httptest.NewServer(mux)
	defer figures.Close()
	all := http.NewServeMux()
	all.HandleFunc("/debug/pprof/", pprof.Index)
	all.HandleFunc("/debug/pprof/trace", pprof.Trace)
	all.HandleFunc("/debug/vars", varsHandler)
	both := httptest.NewServer(all)
	defer both.Close()

	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	var said []string
	e, err := (&Collector{Root: fstest.MapFS{}, For: time.Second, Say: func(s string) { said = append(said, s) }}).Collect(t.Context(), both.URL)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Pools) != len(e.Heap) || e.Pools[0].Name != "orders" || e.Schedule == nil || e.Schedule.Span <= 0 || len(e.Locks) == 0 {
		t.Errorf("%d pools, %d heap profiles, schedule %+v, %d profiles of locks", len(e.Pools), len(e.Heap), e.Schedule, len(e.Locks))
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "an execution trace of 50ms") {
		t.Errorf("before it began it said %q", text)
	}
	if e, err = (&Collector{Root: fstest.MapFS{}, For: time.Second, NoTrace: true, Metrics: []string{figures.URL + "/debug/vars"}}).Collect(t.Context(), both.URL); err != nil || len(e.Pools) != len(e.Heap) || e.Schedule != nil {
		t.Errorf("with another address and without a trace: %+v, %v", e, err)
	}

	e, err = (&Collector{Root: fstest.MapFS{}, For: time.Second}).Collect(t.Context(), figures.URL)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Memory) != 12 || len(e.Pools) != 12 || e.Memory[0].HeapAlloc == 0 || !strings.Contains(strings.Join(e.Notes, "\n"), "no line can be named") {
		t.Errorf("%d memory statistics, %d pools, notes %q", len(e.Memory), len(e.Pools), e.Notes)
	}
	for _, bad := range []string{"nothing", figures.URL + "/none"} {
		_, err := (&Collector{Root: fstest.MapFS{}, For: time.Second, Metrics: []string{bad}}).Collect(t.Context(), both.URL)
		var de *Error
		if err == nil || !errors.As(err, &de) || de.Hint == "" {
			t.Errorf("metrics %q: %v", bad, err)
		}
	}
}
