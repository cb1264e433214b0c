package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// patience is how long the test waits for all expressions to have data.
const patience = 2 * time.Minute

// output keeps what a process wrote, and wakes who waits for it.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer  // guarded by mu
	grown chan struct{} // guarded by mu; closed when text grows
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown != nil {
		close(o.grown)
		o.grown = nil
	}
	return o.text.Write(b)
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grown == nil {
		o.grown = make(chan struct{})
	}
	return o.text.String(), o.grown
}

// process is a program that runs until the test ends.
type process struct {
	name  string
	out   output
	ended chan struct{}
	err   error // once ended is closed
}

// start runs a program; at the test's end it gets SIGINT, and is waited for.
func start(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-p.ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-p.ended
			t.Errorf("%s did not end by SIGINT", name)
		}
		if text, _ := p.out.read(); t.Failed() {
			t.Logf("%s said:\n%s", name, text)
		}
	})
	return p
}

// longwire starts the command.
func longwire(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return start(t, "longwire "+args[0], cmd)
}

// wait returns the first group of a match in the output.
func (p *process) wait(t *testing.T, re string) string {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text, grown := p.out.read()
		if m := regexp.MustCompile(re).FindStringSubmatch(text); m != nil {
			return m[1]
		}
		select {
		case <-grown:
		case <-p.ended:
			t.Fatalf("%s ended: %v", p.name, p.err)
		case <-late.C:
			t.Fatalf("%s did not say %s", p.name, re)
		}
	}
}

// freeAddr is an address whose port nobody has at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// backend is an application whose hook answers, and every other time with an error.
func backend(t *testing.T) string {
	t.Helper()
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1)%2 == 0 {
			_, _ = io.WriteString(w, `{"error":{"code":1000,"message":"no"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"result":{"data":{}}}`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// collector takes spans, and does nothing with them.
func collector(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// write writes a file of the test.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configuration is deploy/prometheus/prometheus.yml with other targets, quicker, and without an Alertmanager.
func configuration(t *testing.T, targets map[string]string) string {
	t.Helper()
	var c map[string]any
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/prometheus.yml")), &c); err != nil {
		t.Fatal(err)
	}
	c["global"] = map[string]any{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
	delete(c, "alerting")
	rules, err := filepath.Abs(filepath.Join(root, "deploy/prometheus/rules/*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	c["rule_files"] = []string{rules}
	for _, job := range c["scrape_configs"].([]any) {
		j := job.(map[string]any)
		target, ok := targets[j["job_name"].(string)]
		if !ok {
			t.Fatalf("the job %v has no target in the test", j["job_name"])
		}
		j["static_configs"] = []any{map[string]any{"targets": []string{target}}}
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// server is a Prometheus that runs.
type server struct{ addr string }

// get asks its API, and reads the data of the answer into to.
func (s *server) get(ctx context.Context, path string, values url.Values, to any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: status %d: %w", path, resp.StatusCode, err)
	}
	if answer.Status != "success" {
		return &refused{answer.Error}
	}
	return json.Unmarshal(answer.Data, to)
}

// refused is what Prometheus says of an expression that it cannot evaluate: no waiting helps.
type refused struct{ why string }

func (r *refused) Error() string { return r.why }

var errNoData = errors.New("no data")

// data asks for an expression and returns errNoData where it has none.
func (s *server) data(ctx context.Context, expr string) error {
	var d struct{ Result []json.RawMessage }
	if err := s.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &d); err != nil {
		return err
	}
	if len(d.Result) == 0 {
		return errNoData
	}
	return nil
}

// question is an expression that has to have data, or only to be understood.
type question struct {
	where, expr string
	empty       bool // no data is an answer too
}

// filled is an expression of a dashboard with Grafana's variables in it.
var filled = strings.NewReplacer("$__rate_interval", "1m", "$job", ".+", "$instance", ".+")

// ofDashboards are the questions of what is checked in.
func ofDashboards(t *testing.T) (list []question) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	if err != nil || len(files) != len(all()) {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		n := 0
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				list = append(list, question{filepath.Base(f) + ", " + p.Title, filled.Replace(target.Expr), false})
				n++
			}
		}
		if n < 5 {
			t.Errorf("%s has %d expressions, want more", f, n)
		}
		for _, v := range d.Templating.List {
			if m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Query); m != nil {
				list = append(list, question{filepath.Base(f) + ", variable " + v.Name, "count by (" + m[2] + ") (" + filled.Replace(m[1]) + ")", false})
			} else if v.Type == "query" {
				t.Errorf("%s: the variable %s asks %q", f, v.Name, v.Query)
			}
		}
		for _, a := range d.Annotations.List {
			list = append(list, question{filepath.Base(f) + ", annotation " + a.Name, filled.Replace(a.Expr), true})
			list = append(list, inputs(filepath.Base(f)+", annotation "+a.Name, filled.Replace(a.Expr))...)
		}
	}
	return list
}

// rules is a file of rules.
type rules struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// readRules are the rules that are checked in.
func readRules(t *testing.T) (list []rule) {
	t.Helper()
	for _, f := range []string{"deploy/prometheus/rules/recording.yml", "deploy/prometheus/rules/alerts.yml"} {
		var r rules
		if err := yaml.Unmarshal([]byte(read(t, f)), &r); err != nil {
			t.Fatal(err)
		}
		for _, g := range r.Groups {
			list = append(list, g.Rules...)
		}
	}
	return list
}

// ofRules are the questions of the rules: a recording rule has data, and so have its expression and what an alert looks at.
func ofRules(t *testing.T) (list []question) {
	t.Helper()
	for _, r := range readRules(t) {
		if r.Record != "" {
			list = append(list, question{"rule " + r.Record, r.Record, false}, question{"expression of " + r.Record, r.Expr, false})
			continue
		}
		list = append(list, question{"alert " + r.Alert, r.Expr, true})
		list = append(list, inputs("alert "+r.Alert, r.Expr)...)
	}
	return list
}

// selector finds the series that an expression selects: names of ours, of the collectors and of Prometheus.
var selector = regexp.MustCompile(`\b(?:(?:longwire|go|process|scrape)_\w+|\w+:\w+:\w+|up\b)(?:\{[^}]*\})?`)

// unseen are selectors of what does not happen in the test: the series is asked for without the label named here.
var unseen = map[string]string{
	`longwire_http_request_duration_seconds_count{status=~"5..",route!~"/readyz|/admin/v1/live"}`: `longwire_http_request_duration_seconds_count{route!~"/readyz|/admin/v1/live"}`,
}

// inputs are the series that an expression looks at, which may have no data itself.
func inputs(where, expr string) (list []question) {
	for _, s := range selector.FindAllString(expr, -1) {
		if other, ok := unseen[s]; ok {
			s = other
		}
		list = append(list, question{where + ", input", s, false})
	}
	return list
}

// TestExpressions starts Prometheus beside a gateway with load on it, and asks every expression of every dashboard and
// every rule.
func TestExpressions(t *testing.T) {
	t.Parallel()
	path := program(t, "prometheus")
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	gateway := longwire(t, "serve", "--addr", "127.0.0.1:0", "--max-conns", "1000", "--drain", "0s", "--config", write(t, dir, "longwire.yaml", `
insecure: true
api-insecure: true
hook-rpc: `+backend(t)+`
trace: true
log-sampling: dynamic
otlp-endpoint: `+collector(t)+`
namespaces:
  - name: chat
    history-size: 10
    history-ttl: 1m
    presence: true
    force-recovery: true
`)).wait(t, `msg=listening addr=([0-9.:]+)`)
	// One answer of each kind on the plain HTTP side.
	for _, p := range []string{"/healthz", "/readyz", "/", "/nowhere"} {
		resp, err := http.Get("http://" + gateway + p)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	load := longwire(t, "stress", "run", "--quiet", "--metrics-addr", "127.0.0.1:0", "--plan", write(t, dir, "plan.yaml", `
target: ws://`+gateway+`/connection/websocket
protocol: centrifuge
scenarios:
  - {kind: publish, weight: 4, channel: "chat:news", channels: 2, publishers: 2, every: 50ms}
  - {kind: request, weight: 2, every: 100ms}
  - {kind: churn, weight: 2, lifetime: 500ms}
stages:
  - {kind: ramp, to: 40, for: 1s}
  - {kind: soak, for: 10m}
`)).wait(t, `metrics of the run at http://([0-9.:]+)/metrics`)
	addr := freeAddr(t)
	prom := start(t, "prometheus", exec.Command(path, "--config.file="+write(t, dir, "prometheus.yml", configuration(t, map[string]string{
		"longwire": gateway, "longwire-stress": load, "prometheus": addr,
	})), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn"))
	s := &server{addr}

	open := append(ofDashboards(t), ofRules(t)...)
	if len(open) < 200 {
		t.Fatalf("%d questions, want more", len(open))
	}
	t.Logf("%d questions", len(open))
	// The panels of the kernel's view, of the log and of spans have more than zeros.
	open = append(open, question{where: "the kernel's view", expr: "sum(longwire_kernel_ends_total) > 0"},
		question{where: "the log", expr: `sum(longwire_log_lines_total{outcome="sampled"}) > 0`},
		question{where: "spans", expr: `sum(longwire_otlp_spans_total{outcome="sent"}) > 0`})
	tick := time.NewTicker(250 * time.Millisecond) // a scrape's time apart
	defer tick.Stop()
	whys := make(map[question]error)
	for len(open) > 0 && ctx.Err() == nil {
		open = slices.DeleteFunc(open, func(q question) bool {
			err := s.data(ctx, q.expr)
			var no *refused
			if errors.As(err, &no) {
				t.Errorf("%s: %s: %v", q.where, q.expr, err)
				return true
			}
			whys[q] = err
			return err == nil || q.empty && errors.Is(err, errNoData)
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		case <-prom.ended:
			t.Fatalf("prometheus ended: %v", prom.err)
		}
	}
	for _, q := range open {
		t.Errorf("%s: %s: %v", q.where, q.expr, whys[q])
	}
	if t.Failed() {
		return
	}

	// What is asked of nothing is told as such.
	if err := s.data(ctx, "longwire_misspelt"); !errors.Is(err, errNoData) {
		t.Errorf("an unknown series: %v, want %v", err, errNoData)
	}
	// Prometheus itself is content with each rule, and with the gateway's targets.
	var state struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := s.get(ctx, "/api/v1/rules", nil, &state); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range state.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" {
				t.Errorf("rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(readRules(t)); n != want {
		t.Errorf("Prometheus has %d rules, want %d", n, want)
	}
}

// TestSelectors checks that what an alert looks at is found in its expression.
func TestSelectors(t *testing.T) {
	got := make(map[string]bool)
	for _, q := range inputs("", `sum by (job, instance) (rate(longwire_a_total{x="y"}[5m])) > 0.5 * instance:longwire_b:rate5m and on (job, instance) up{job="longwire"} == 1 and longwire_c offset 5m > 0`) {
		got[q.expr] = true
	}
	want := []string{`instance:longwire_b:rate5m`, `longwire_a_total{x="y"}`, `longwire_c`, `up{job="longwire"}`}
	if s := slices.Sorted(maps.Keys(got)); !slices.Equal(s, want) {
		t.Errorf("selectors %q, want %q", s, want)
	}
}

// TestMetricsAreSeen checks that each metric of docs/metrics.md is asked for by a dashboard or a rule.
func TestMetricsAreSeen(t *testing.T) {
	seen := read(t, "deploy/prometheus/rules/recording.yml") + read(t, "deploy/prometheus/rules/alerts.yml")
	for name := range all() {
		seen += read(t, "deploy/grafana/dashboards/"+name)
	}
	names := regexp.MustCompile("(?m)^\\| `(longwire_[a-z0-9_]+)").FindAllStringSubmatch(read(t, "docs/metrics.md"), -1)
	if len(names) < 80 {
		t.Fatalf("docs/metrics.md has %d metrics, want more", len(names))
	}
	for _, m := range names {
		if !regexp.MustCompile(`\b` + m[1] + `(_bucket|_count|_sum)?\b`).MatchString(seen) {
			t.Errorf("no dashboard and no rule asks for %s", m[1])
		}
	}
}
