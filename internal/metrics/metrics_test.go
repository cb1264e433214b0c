package metrics_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// gateway is a running gateway that serves its metrics on its own port. closed gets the cause of each
// connection that ends.
func gateway(t *testing.T) (addr string, closed <-chan longwire.Cause) {
	t.Helper()
	ended := make(chan longwire.Cause, 16)
	e := longwire.Plain("/ws")
	e.OnClose = func(_ longwire.Conn, cause longwire.Cause) { ended <- cause }
	var g *longwire.Gateway
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(func() longwire.Stats { return g.Stats() }, metrics.Build{Version: "v1.2.3", Revision: "abc"}))
	g, err := longwire.New(longwire.Config{
		Log: slog.New(slog.DiscardHandler), Addr: "127.0.0.1:0", Endpoints: []longwire.Endpoint{e}, HTTP: mux, MaxConns: 1000, Tables: longwire.TablesShared, Loops: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g.Addr().String(), ended
}

func scrape(t *testing.T, addr string) []byte {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := c.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape: status %d, error %v, body %s", resp.StatusCode, err, b)
	}
	return b
}

// series are the lines of a scrape: name with labels → value.
func series(t *testing.T, text []byte) map[string]string {
	t.Helper()
	m := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, " ")
		if strings.Contains(name, "{") { // a label may have a space in it
			i := strings.LastIndex(line, "} ")
			name, value, ok = line[:i+1], line[i+2:], i > 0
		}
		if !ok {
			t.Fatalf("line %q is no series", line)
		}
		if _, twice := m[name]; twice {
			t.Errorf("series %s stands twice", name)
		}
		m[name] = value
	}
	return m
}

func TestValues(t *testing.T) {
	addr, closed := gateway(t)

	first := series(t, scrape(t, addr))
	for name, want := range map[string]string{
		"longwire_max_conns": "1000", "longwire_loops": "2", "longwire_draining": "0",
		"longwire_upgraded_total": "0", "longwire_http_conns": "1",
		`longwire_build_info{go="` + runtime.Version() + `",revision="abc",version="v1.2.3"}`: "1",
	} {
		if got, ok := first[name]; !ok || got != want {
			t.Errorf("at the start: %s = %q (present: %v), want %s", name, got, ok, want)
		}
	}
	for _, k := range longwire.CauseKinds() {
		if name := fmt.Sprintf("longwire_closes_total{cause=%q}", k); first[name] != "0" {
			t.Errorf("at the start: %s = %q, want 0", name, first[name])
		}
	}
	for _, k := range longwire.RefusalKinds() {
		if name := fmt.Sprintf("longwire_refused_total{reason=%q}", k); first[name] != "0" {
			t.Errorf("at the start: %s = %q, want 0", name, first[name])
		}
	}

	// One stays, with a ping answered; one closes.
	stay := wstest.Dial(t, addr, "/ws", ws.Dial{})
	if got := stay.Ask(`{"type":"ping"}`); got != `{"type":"pong"}` {
		t.Fatalf("reply = %s", got)
	}
	leave := wstest.Dial(t, addr, "/ws", ws.Dial{})
	leave.SendClose(ws.StatusNormalClosure, "")
	if err := leave.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if cause := <-closed; cause.Kind != longwire.CauseClientClose {
		t.Fatalf("cause = %v, want client_close", cause)
	}
	// One is refused.
	bad, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	_ = bad.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(bad, "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 7\r\n\r\n")
	if status, _ := bufio.NewReader(bad).ReadString('\n'); !strings.HasPrefix(status, "HTTP/1.1 426 ") {
		t.Errorf("status = %q, want 426", status)
	}

	// Its end is nobody's callback: ask until it is gone.
	if err := bad.Close(); err != nil {
		t.Fatal(err)
	}
	second, scrapes := series(t, scrape(t, addr)), 2
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		// A scrape's own connection may still be on its way out of the loop.
		if second["longwire_conns"] == "1" && second["longwire_passed_total"] == strconv.Itoa(scrapes) {
			break
		}
		second = series(t, scrape(t, addr))
		scrapes++
	}
	for name, want := range map[string]string{
		"longwire_conns":                                    "1",
		"longwire_upgraded_total":                           "2",
		"longwire_passed_total":                             strconv.Itoa(scrapes),
		"longwire_accepted_total":                           strconv.Itoa(3 + scrapes),
		`longwire_messages_total{direction="in"}`:           "1",
		`longwire_messages_total{direction="out"}`:          "1",
		`longwire_closes_total{cause="client_close"}`:       "1",
		`longwire_closes_total{cause="refused"}`:            "1",
		`longwire_refused_total{reason="version"}`:          "1",
		"longwire_queue_bytes":                              "0",
		"longwire_partials":                                 "0",
		"longwire_shed_total":                               "0",
		`longwire_loop_iteration_seconds_bucket{le="+Inf"}`: second["longwire_loop_iteration_seconds_count"],
	} {
		if second[name] != want {
			t.Errorf("after the connections: %s = %q, want %s", name, second[name], want)
		}
	}
	for _, name := range []string{
		"longwire_loop_iteration_seconds_count", "longwire_loop_iteration_seconds_sum", "longwire_loop_busy_seconds_total",
		`longwire_bytes_total{direction="in"}`, `longwire_bytes_total{direction="out"}`, "longwire_reads_total", "longwire_writes_total",
		"go_goroutines", "process_resident_memory_bytes",
	} {
		if v, ok := second[name]; !ok || v == "0" {
			t.Errorf("after the connections: %s = %q (present: %v), want more than 0", name, v, ok)
		}
	}
	// No series comes or goes.
	for name := range maps.Keys(first) {
		if _, ok := second[name]; !ok {
			t.Errorf("series %s is gone", name)
		}
	}
}

// TestHistogram checks the buckets against a snapshot made by hand.
func TestHistogram(t *testing.T) {
	var s longwire.Stats
	s.Iterations[0] = 1                    // less than 1 µs
	s.Iterations[3] = 2                    // 4 to 8 µs
	s.Iterations[len(s.Iterations)-1] = 40 // seconds
	s.Busy = 90 * time.Second
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.New(func() longwire.Stats { return s }, metrics.Build{}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "longwire_loop_iteration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 43 || h.GetSampleSum() != 90 {
			t.Errorf("count %d, sum %v; want 43, 90", h.GetSampleCount(), h.GetSampleSum())
		}
		got := make(map[float64]uint64)
		for _, b := range h.GetBucket() {
			got[b.GetUpperBound()] = b.GetCumulativeCount()
		}
		if len(got) != len(s.Iterations)-1 {
			t.Errorf("%d buckets, want %d", len(got), len(s.Iterations)-1)
		}
		for bound, want := range map[float64]uint64{1e-6: 1, 4e-6: 1, 8e-6: 3, 4.194304: 3} {
			if n, ok := got[bound]; !ok || n != want {
				t.Errorf("bucket %v = %d (present: %v), want %d", bound, n, ok, want)
			}
		}
		return
	}
	t.Error("no longwire_loop_iteration_seconds")
}

func TestLint(t *testing.T) {
	problems, err := testutil.CollectAndLint(metrics.New(func() longwire.Stats { return longwire.Stats{} }, metrics.Build{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestPromtool has Prometheus's own checker read a scrape.
func TestPromtool(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: make test installs it")
	}
	addr, _ := gateway(t)
	cmd := exec.Command(tool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(scrape(t, addr))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
