// Command logs measures what a gateway's log costs, and what it is worth, in each mode of log-sampling under the same load: the
// gateway's CPU, the bytes, and whether the traces in which something failed or was slow are there with all of their lines.
//
// The load is longwire stress's: clients that send rpc commands, and others that come and go. The commands are answered by a
// backend in this process, which fails for a few of them and dawdles over a few others, and knows for whom it did.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// mode is one way to log.
type mode struct {
	name string
	args []string
}

var modes = []mode{
	{"none", []string{"--log-level", "warn"}},
	{"full", []string{"--log-level", "debug"}},
	{"dynamic", []string{"--log-sampling", "dynamic"}},
	{"kernel-only", []string{"--log-sampling", "kernel-only", "--trace"}},
}

// slow is when a call is: longer than by default, since on a busy machine many calls take half a second.
const slow = 2 * time.Second

// round is what one mode came to.
type round struct {
	cpu        time.Duration // of the gateway's process
	bytes      int64         // of its log
	lines      int
	calls      int // that the backend answered
	key, whole int // traces in which something failed or was slow, and those of them that are in the log with all of their lines
}

func main() {
	conns := flag.Int("conns", 2000, "connections")
	length := flag.Duration("for", 20*time.Second, "how long the load lasts")
	rounds := flag.Int("rounds", 3, "rounds of all modes")
	flag.Parse()
	if err := run(*conns, *length, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "logs:", err)
		os.Exit(1)
	}
}

func run(conns int, length time.Duration, rounds int) error {
	dir, err := os.MkdirTemp("", "longwire-logs-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	longwire := filepath.Join(dir, "longwire")
	build := exec.Command("go", "build", "-o", longwire, "./cmd/longwire")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build longwire: %w", err)
	}
	all := make(map[string][]round)
	for n := range rounds {
		for _, m := range modes {
			r, err := one(longwire, dir, m, conns, length)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d, %s: %.2f s of CPU for %d calls, %d bytes, %d lines, %d of %d key traces whole\n", n+1, m.name, r.cpu.Seconds(), r.calls, r.bytes, r.lines, r.whole, r.key)
			all[m.name] = append(all[m.name], r)
		}
	}
	median := func(m string, f func(round) float64) float64 {
		var v []float64
		for _, r := range all[m] {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
	}
	// For each call: a busy machine gets fewer of them done.
	cpu := func(r round) float64 { return float64(r.cpu.Microseconds()) / float64(r.calls) }
	size := func(r round) float64 { return float64(r.bytes) / float64(r.calls) }
	fmt.Println("| mode | CPU of the gateway for a call | against none | bytes for a call | against full | key traces whole |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, m := range modes {
		key, whole := 0, 0
		for _, r := range all[m.name] {
			key, whole = key+r.key, whole+r.whole
		}
		less := "–"
		if b := median(m.name, size); b > 0 && m.name != "none" {
			less = fmt.Sprintf("1/%.0f", median("full", size)/b)
		}
		fmt.Printf("| %s | %.0f µs | %+.0f %% | %.1f | %s | %d of %d |\n", m.name, median(m.name, cpu), 100*(median(m.name, cpu)/median("none", cpu)-1), median(m.name, size), less, whole, key)
	}
	return nil
}

// backend answers rpc hooks. Of a thousand calls it fails for one and dawdles over one.
type backend struct {
	mu    sync.Mutex
	calls int             // guarded by mu
	conns map[string]bool // guarded by mu: by client, whether it is one with a call that failed or was slow
}

// ServeHTTP implements http.Handler.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Client string `json:"client"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, "no JSON", http.StatusBadRequest)
		return
	}
	fate := rand.IntN(1000)
	b.mu.Lock()
	b.calls++
	b.conns[q.Client] = b.conns[q.Client] || fate < 2
	b.mu.Unlock()
	switch fate {
	case 0:
		http.Error(w, "out of order", http.StatusInternalServerError)
		return
	case 1:
		time.Sleep(slow + slow/4)
	}
	_, _ = io.WriteString(w, `{"result":{"data":{}}}`)
}

// one runs one mode.
func one(longwire, dir string, m mode, conns int, length time.Duration) (r round, err error) {
	b := &backend{conns: make(map[string]bool)}
	app := httptest.NewServer(b)
	defer app.Close()
	name := filepath.Join(dir, "log")
	out, err := os.Create(name)
	if err != nil {
		return r, err
	}
	defer func() { _ = out.Close() }()
	port, err := freePort()
	if err != nil {
		return r, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	gateway := exec.Command(longwire, append([]string{"serve", "--addr", addr, "--insecure", "--log-format", "json", "--hook-rpc", app.URL, "--hook-timeout", "5s", "--slow-call", slow.String(), "--drain", "off"}, m.args...)...)
	gateway.Stderr = out
	if err := gateway.Start(); err != nil {
		return r, err
	}
	ended := false
	defer func() {
		if !ended {
			_ = gateway.Process.Kill()
			_ = gateway.Wait()
		}
	}()
	if err := ready(addr); err != nil {
		return r, err
	}
	plan := filepath.Join(dir, "plan.yaml")
	text := fmt.Sprintf(`target: ws://%s/connection/websocket
protocol: centrifuge
timeout: 8s
seed: 1
scenarios:
  - {kind: request, weight: 8, model: closed, think: 2s}
  - {kind: churn, weight: 2, lifetime: 2s}
stages:
  - {kind: ramp, to: %d, for: 5s}
  - {kind: soak, for: %s}
`, addr, conns, length)
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		return r, err
	}
	stress := exec.Command(longwire, "stress", "--plan", plan)
	var said bytes.Buffer
	stress.Stdout, stress.Stderr = &said, &said
	if err := stress.Run(); err != nil {
		return r, fmt.Errorf("the load: %w\n%s", err, said.Bytes())
	}
	if err := gateway.Process.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	err, ended = gateway.Wait(), true
	if err != nil {
		return r, fmt.Errorf("the gateway: %w", err)
	}
	r.calls = max(1, b.calls)
	r.cpu = gateway.ProcessState.UserTime() + gateway.ProcessState.SystemTime()
	if err := read(name, &r, b.conns); err != nil {
		return r, err
	}
	return r, nil
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// ready waits until the gateway takes connections.
func ready(addr string) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get("http://" + addr + "/readyz")
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return errors.New("the gateway does not become ready")
}

// trace is what a log has of one client.
type trace struct {
	lines int // its loop wrote
	rpcs  int
	hooks int
	said  int // how many lines its last one says that there are
}

// read counts what a log has, and compares it with what the backend knows.
func read(name string, r *round, conns map[string]bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	traces := make(map[string]*trace)
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		r.lines++
		r.bytes += int64(len(in.Bytes())) + 1
		var line struct {
			Msg, Client string
			Lines       int
		}
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			return fmt.Errorf("a line is no JSON: %s", in.Text())
		}
		if line.Client == "" || line.Msg == "kernel" {
			continue
		}
		t := traces[line.Client]
		if t == nil {
			t = new(trace)
			traces[line.Client] = t
		}
		switch line.Msg {
		case "hook":
			t.hooks++
			continue
		case "rpc":
			t.rpcs++
		case "closed":
			t.said = line.Lines
		}
		t.lines++
	}
	if err := in.Err(); err != nil {
		return err
	}
	for client, key := range conns {
		if !key {
			continue
		}
		r.key++
		if t := traces[client]; t != nil && t.lines == t.said && t.hooks == t.rpcs && t.rpcs > 0 {
			r.whole++
		}
	}
	return nil
}
