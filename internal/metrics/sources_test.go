package metrics_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/hook"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/otlp"
	"github.com/longwire/longwire/internal/sampling"
	"github.com/longwire/longwire/internal/stress"
)

// text is a scrape of collectors.
func text(t *testing.T, collectors ...metrics.Collector) []byte {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func want(t *testing.T, got map[string]string, values map[string]string) {
	t.Helper()
	for name, v := range values {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s = %q (present: %v), want %s", name, g, ok, v)
		}
	}
}

// TestRequests has each kind of request timed under its labels, and under no others.
func TestRequests(t *testing.T) {
	q := metrics.NewRequests()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/", func(w http.ResponseWriter, r *http.Request) {
		r.Pattern = "/api/publish"
		w.WriteHeader(http.StatusEarlyHints)
		http.Error(w, "no", http.StatusBadRequest)
	})
	mux.HandleFunc("/user/{name}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("name") == "flush" {
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s := httptest.NewServer(q.Wrap(mux))
	defer s.Close()
	for _, r := range []string{
		"GET /metrics", "HEAD /metrics", "GET /", "POST /api/publish", "GET /user/a", "GET /user/b", "BREW /user/c", "GET /user/flush",
		"GET /nowhere/1", "GET /nowhere/2", "POST /metrics", "POST /panic",
	} {
		method, path, _ := strings.Cut(r, " ")
		q, err := http.NewRequest(method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(q)
		if (err != nil) != (path == "/panic") {
			t.Fatalf("%s: %v", r, err)
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	s.Close() // until then the last handlers may still be on their way out
	got := make(map[string]string)
	for name, v := range series(t, text(t, q)) {
		if rest, ok := strings.CutPrefix(name, "longwire_http_request_duration_seconds_count"); ok {
			got[rest] = v
		}
	}
	expect := map[string]string{
		`{method="GET",route="/metrics",status="200"}`:       "1",
		`{method="HEAD",route="/metrics",status="200"}`:      "1",
		`{method="GET",route="/",status="200"}`:              "1",
		`{method="POST",route="/api/publish",status="400"}`:  "1",
		`{method="GET",route="/user/{name}",status="200"}`:   "3",
		`{method="other",route="/user/{name}",status="200"}`: "1",
		`{method="GET",route="none",status="404"}`:           "2",
		`{method="POST",route="none",status="405"}`:          "1",
		`{method="POST",route="/panic",status="500"}`:        "1",
	}
	want(t, got, expect)
	if len(got) != len(expect) {
		t.Errorf("%d series, want %d: %v", len(got), len(expect), got)
	}
	lint(t, q)
}

func TestEngine(t *testing.T) {
	c := metrics.Engine(func() memengine.Stats {
		return memengine.Stats{Streams: 1, Publications: 2, Bytes: 3, Keys: 4, Clients: 5, Dropped: 6, Forgotten: 7, Evicted: 8}
	}, 1<<20)
	want(t, series(t, text(t, c)), map[string]string{
		"longwire_engine_channels": "1", "longwire_engine_publications": "2", "longwire_engine_bytes": "3", "longwire_engine_idempotency_keys": "4",
		"longwire_engine_present": "5", `longwire_engine_evicted_total{what="publication"}`: "6", `longwire_engine_evicted_total{what="channel"}`: "7",
		`longwire_engine_evicted_total{what="idempotency_key"}`: "8", "longwire_engine_max_bytes": "1.048576e+06",
	})
	lint(t, c)
}

func TestHooks(t *testing.T) {
	var s hook.Stats
	c := metrics.Hooks(func() hook.Stats { return s })
	for state, v := range map[hook.State]string{hook.Closed: "0", hook.Open: "1", hook.HalfOpen: "0.5"} {
		s = hook.Stats{Breaker: state, InFlight: 2, Waiting: 3, Calls: []hook.CallStats{{Method: "connect", Outcome: "timeout", Count: 4}}}
		want(t, series(t, text(t, c)), map[string]string{
			"longwire_hook_breaker_open": v, "longwire_hook_calls_in_flight": "2", "longwire_hook_calls_waiting": "3",
			`longwire_hook_calls_total{method="connect",outcome="timeout"}`: "4",
		})
	}
	lint(t, c)
}

func TestTrace(t *testing.T) {
	c := metrics.Trace(func() metrics.TraceStats {
		return metrics.TraceStats{Level: "diag", Events: 1, Lost: 2, Missed: 3, Untraced: 5, Ends: []metrics.TraceEnds{{Verdict: "client_fin", Count: 4}, {Verdict: "destroyed"}}}
	})
	want(t, series(t, text(t, c)), map[string]string{
		"longwire_trace_events_total": "1", "longwire_trace_lost_total": "2", "longwire_trace_missed_total": "3", "longwire_untraced_total": "5",
		`longwire_kernel_ends_total{verdict="client_fin"}`: "4", `longwire_kernel_ends_total{verdict="destroyed"}`: "0",
		`longwire_trace_level{level="bpf"}`: "0", `longwire_trace_level{level="diag"}`: "1", `longwire_trace_level{level="errno"}`: "0", `longwire_trace_level{level="off"}`: "0",
	})
	lint(t, c)
}

func TestKernel(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	root := fstest.MapFS{
		"proc/thread-self/net/netstat":            file("TcpExt: ListenOverflows ListenDrops\nTcpExt: 12 13\n"),
		"proc/thread-self/net/snmp":               file("Tcp: PassiveOpens CurrEstab\nTcp: 14 15\n"),
		"proc/thread-self/net/sockstat":           file("TCP: inuse 16 orphan 17 tw 18 alloc 19 mem 20\n"),
		"proc/sys/net/ipv4/tcp_mem":               file("10 20 30\n"),
		"proc/sys/net/netfilter/nf_conntrack_max": file("99\n"),
	}
	c := metrics.Kernel(root)
	page := func(n int) string { return fmt.Sprint(n * os.Getpagesize()) }
	want(t, series(t, text(t, c)), map[string]string{
		"longwire_kernel_tcp_listen_overflows_total": "12", "longwire_kernel_tcp_listen_drops_total": "13", "longwire_kernel_tcp_passive_opens_total": "14",
		"longwire_kernel_tcp_established": "15", "longwire_kernel_tcp_sockets": "16", "longwire_kernel_tcp_orphans": "17", "longwire_kernel_tcp_time_wait": "18",
		"longwire_kernel_tcp_memory_bytes": page(20), "longwire_kernel_tcp_memory_max_bytes": page(30), "longwire_kernel_conntrack_max": "99",
	})
	lint(t, c)
	// A system that tells nothing has no series, and no error.
	if got := series(t, text(t, metrics.Kernel(fstest.MapFS{}))); len(got) != 0 {
		t.Errorf("without counters: %v, want nothing", got)
	}
}

// TestAcceptQueue has two connections wait at a listener that nobody accepts from.
func TestAcceptQueue(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("socket diagnosis is Linux's")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := uint16(0)
	c := metrics.AcceptQueue(func() uint16 { return port })
	if got := series(t, text(t, c)); len(got) != 0 {
		t.Errorf("before there is a port: %v, want nothing", got)
	}
	port = uint16(l.Addr().(*net.TCPAddr).Port)
	for range 2 {
		d, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
	}
	// On loopback a connect that returned is in the queue.
	got := series(t, text(t, c))
	want(t, got, map[string]string{"longwire_listeners": "1", "longwire_accept_queue_conns": "2"})
	if v := got["longwire_accept_queue_limit"]; v == "" || v == "0" {
		t.Errorf("longwire_accept_queue_limit = %q, want more than 0", v)
	}
	lint(t, c)
}

func lint(t *testing.T, c metrics.Collector) {
	t.Helper()
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestPage holds docs/metrics.md against what there is: every metric has a row, and no other.
func TestPage(t *testing.T) {
	const page = "../../docs/metrics.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	ch := make(chan *prometheus.Desc, 200)
	var load metrics.Stress
	load.Set(stress.Sample{})
	for _, c := range []metrics.Collector{
		metrics.New(func() longwire.Stats { return longwire.Stats{} }, metrics.Build{}), metrics.NewRequests(),
		metrics.Engine(func() memengine.Stats { return memengine.Stats{} }, 0), metrics.Hooks(func() hook.Stats { return hook.Stats{} }),
		metrics.Kernel(fstest.MapFS{}), metrics.AcceptQueue(func() uint16 { return 0 }), metrics.Trace(func() metrics.TraceStats { return metrics.TraceStats{} }), &load,
		metrics.Journal(func() (uint64, uint64) { return 0, 0 }), metrics.Sampling(func() sampling.Stats { return sampling.Stats{} }),
		metrics.OTLP(func() otlp.Stats { return otlp.Stats{} }, func() sampling.TailStats { return sampling.TailStats{} }),
	} {
		c.Describe(ch)
	}
	close(ch)
	for d := range ch {
		if m := regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String()); m != nil {
			there[m[1]] = true
		}
	}
	// Of these a sample without an event has none.
	there["longwire_stress_errors_total"], there["longwire_stress_latency_seconds"] = true, true
	var rows []string
	for line := range strings.Lines(string(b)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			rows = append(rows, cell[:strings.IndexAny(cell, "`{")])
		}
	}
	if len(rows) < 80 {
		t.Fatalf("%s: %d rows, want more", page, len(rows))
	}
	for _, r := range rows {
		if strings.HasPrefix(r, "longwire_") && !there[r] {
			t.Errorf("%s has %s, which there is not", page, r)
		}
	}
	for name := range there {
		if !slices.Contains(rows, name) {
			t.Errorf("%s has no row for %s", page, name)
		}
	}
}

// heldScrape is a gateway's scrape, as the command serves it.
func heldScrape(stats func() longwire.Stats) http.Handler {
	e := memengine.New(nil)
	b, err := hook.New(hook.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	q := metrics.NewRequests()
	return q.Wrap(metrics.Handler(stats, metrics.Build{}, q, metrics.Engine(e.Stats, 1), metrics.Hooks(b.Stats), metrics.Kernel(os.DirFS("/")),
		metrics.AcceptQueue(func() uint16 { return 1 }), metrics.Trace(func() metrics.TraceStats { return metrics.TraceStats{Level: "off"} })))
}
