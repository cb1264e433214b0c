// Command million holds a million WebSocket connections (or -conns) on one gateway process, with heartbeat, and
// tells what they cost and how many survived.
//
//	go run ./bench/million -hold 10m
//
// Both ends run on this machine: the kernel keeps about 4.3 KB for each of two million sockets. Each end has its own
// half of the CPUs, as on two machines (-split=false shares them): else a server whose threads the clients keep from
// running is measured, its collector's pauses above all.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/bench/target"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

type options struct {
	conns, pending int
	rate           float64
	hold           time.Duration
	closing        time.Duration
	bin, path, out string
	split          bool
	serve          []string // further flags of longwire serve
}

// result is what is printed as JSON.
type result struct {
	Machine   string  `json:"machine"`
	CPUs      int     `json:"cpus"`
	Go        string  `json:"go"`
	Commit    string  `json:"commit"`
	Date      string  `json:"date"`
	ServerOn  string  `json:"server_on_cpus"`
	ClientsOn string  `json:"clients_on_cpus"`
	Conns     int     `json:"conns"`
	Path      string  `json:"path"`
	HoldS     float64 `json:"hold_seconds"`
	OpenS     float64 `json:"open_seconds"`
	ConnectUS float64 `json:"server_cpu_us_per_connect"`

	StartRSS   int64   `json:"rss_start_bytes"`  // before the first conn
	WarmRSS    int64   `json:"rss_warm_bytes"`   // after a few thousand conns came and went
	HeldRSS    int64   `json:"rss_held_bytes"`   // at the end of the hold
	PeakRSS    int64   `json:"rss_peak_bytes"`   // of all samples
	ClosedRSS  int64   `json:"rss_closed_bytes"` // after all conns have closed
	BytesConn  float64 `json:"rss_bytes_per_conn"`
	KernelConn float64 `json:"kernel_bytes_per_conn_both_ends"`

	Survived    int64            `json:"survived"`
	SurvivedPct float64          `json:"survived_percent"`
	Failed      map[string]int64 `json:"failed"`
	Lost        map[string]int64 `json:"lost"`
	Pings       int64            `json:"pings_answered_by_clients"`
	CoresHeld   float64          `json:"server_cores_while_held"`

	Goroutines   float64 `json:"goroutines_held"`
	HeapObjects  float64 `json:"heap_objects_held"`
	GCs          float64 `json:"gcs_held"`
	GCsAll       float64 `json:"gcs_since_start"`
	GCPauseP50US float64 `json:"gc_pause_p50_us"` // of all collections since the start, both stops of each together
	GCPauseMaxUS float64 `json:"gc_pause_max_us"`
	GCCPUPct     float64 `json:"gc_cpu_percent"`

	ThreadsStart, ThreadsHeld, ThreadsClosed             int
	DescriptorsStart, DescriptorsHeld, DescriptorsClosed int
	GoroutinesStart, GoroutinesClosed                    float64
	SocketsClosed                                        float64 `json:"sockets_after_close"`
}

func main() {
	var o options
	flag.IntVar(&o.conns, "conns", 1_000_000, "conns to hold")
	flag.IntVar(&o.pending, "pending", 256, "conns that are being opened at a time")
	flag.Float64Var(&o.rate, "rate", 15_000, "connects a second; both ends and the heartbeat share the CPUs")
	flag.DurationVar(&o.hold, "hold", 10*time.Minute, "how long to hold them")
	flag.DurationVar(&o.closing, "closing", time.Minute, "over how long the clients close them")
	flag.StringVar(&o.path, "path", "/ws", "endpoint")
	flag.StringVar(&o.bin, "bin", "", "take the binary longwire from this directory instead of building it")
	flag.BoolVar(&o.split, "split", true, "give server and clients a half of the CPUs each, with taskset")
	flag.StringVar(&o.out, "out", "", "also write the JSON result to this file")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: million [flags] [-- flags of longwire serve]")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.serve = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "million:", err)
		os.Exit(1)
	}
}

// perSocket is what one socket costs in the kernel, and the share of the client process, in bytes.
const perSocket = 4700

func run(ctx context.Context, o options) error {
	need := uint64(o.conns)*2*perSocket + 600<<20
	if free := sys.MemoryAvailable(os.DirFS("/")); free > 0 && free < need {
		return fmt.Errorf("%d conns need about %.1f GB for both ends, mostly in the kernel, and %.1f GB are free: hold fewer with -conns (CONNS=%d fits), or use a machine with more memory",
			o.conns, gb(need), gb(free), int(free-600<<20)/2/perSocket/1000*1000)
	}
	bin := o.bin
	if bin == "" {
		dir, err := os.MkdirTemp("", "longwire-million-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "longwire"), "./cmd/longwire")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build: %w", err)
		}
		bin = dir
	}
	r := result{Machine: "Linux " + strings.TrimSpace(readFile("/proc/sys/kernel/osrelease")), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Commit: commit(), Date: time.Now().UTC().Format("2006-01-02"), Conns: o.conns, Path: o.path, HoldS: o.hold.Seconds()}

	r.ServerOn, r.ClientsOn = "all", "all"
	var prefix []string
	if o.split {
		server, clients, err := split(ctx)
		if err != nil {
			return fmt.Errorf("give server and clients CPUs of their own: %w (-split=false does without)", err)
		}
		r.ServerOn, r.ClientsOn = server, clients
		prefix = []string{"taskset", "-c", server}
	}
	startCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	argv := append(prefix, append([]string{filepath.Join(bin, "longwire"), "serve", "--addr", "127.0.0.1:0",
		"--max-conns", fmt.Sprint(o.conns + o.conns/100 + 1000), "--drain", "0s"}, o.serve...)...)
	t, err := target.Start(startCtx, "longwire", o.path, argv...)
	cancel()
	if err != nil {
		return err
	}
	defer func() { _ = t.Stop() }()
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	say("server: pid %d on %v, first upgrade after %.1f ms", t.PID(), t.Addr, float64(t.Started)/1e6)
	r.StartRSS = rss(t)

	// The first connections touch code and tables that stay; what a million add is counted from after them.
	if err := warm(ctx, t, o); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	r.WarmRSS, r.ThreadsStart, r.DescriptorsStart = rss(t), t.Threads(), t.Descriptors()
	m, err := scrape(ctx, t)
	if err != nil {
		return err
	}
	r.GoroutinesStart = m["go_goroutines"]

	fl, err := fleet.New(fleet.Config{Target: t.Addr, Conns: o.conns, Pending: o.pending, Rate: o.rate, Dial: ws.Dial{Target: o.path}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { _ = fl.Close() }()
	say("fleet: %s", fl.Layout())
	free0 := sys.MemoryAvailable(os.DirFS("/"))
	cpu0, _ := t.CPU()
	begin := time.Now()
	opened := make(chan error, 1)
	go func() { opened <- fl.Open(ctx) }()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	peak := int64(0)
	line := func(what string) {
		c := fl.Counts()
		now := rss(t)
		peak = max(peak, now)
		say("%s %5.0f s  open %d  failed %d  lost %d  server RSS %.1f MB  pings %d", what, time.Since(begin).Seconds(), c.Open, c.Failures(), c.Losses(), mb(now), c.Pings)
	}
opening:
	for {
		select {
		case err := <-opened:
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			break opening
		case <-tick.C:
			line("open ")
		case <-t.Done():
			return fmt.Errorf("the server ended\n%s", t.Log())
		}
	}
	r.OpenS = time.Since(begin).Seconds()
	cpu1, _ := t.CPU()
	c := fl.Counts()
	r.ConnectUS = float64(cpu1-cpu0) / 1e3 / float64(max(1, c.Opened))
	say("opened: %d in %.1f s (%.0f/s), failed %v, server CPU %.1f µs a connect", c.Opened, r.OpenS, float64(c.Opened)/r.OpenS, c.Failed, r.ConnectUS)

	m0, err := scrape(ctx, t)
	if err != nil {
		return err
	}
	cpu0, _ = t.CPU()
	held := time.Now()
	end := time.After(o.hold)
	slow := time.NewTicker(10 * time.Second)
	defer slow.Stop()
holding:
	for {
		select {
		case <-end:
			break holding
		case <-slow.C:
			line("hold ")
		case <-t.Done():
			return fmt.Errorf("the server ended\n%s", t.Log())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	cpu1, _ = t.CPU()
	r.CoresHeld = (cpu1 - cpu0).Seconds() / time.Since(held).Seconds()
	m1, err := scrape(ctx, t)
	if err != nil {
		return err
	}
	c = fl.Counts()
	r.Failed, r.Lost, r.Survived, r.Pings = c.Failed, c.Lost, c.Open, c.Pings
	r.SurvivedPct = 100 * float64(c.Open) / float64(o.conns)
	r.HeldRSS = rss(t)
	r.PeakRSS = max(peak, r.HeldRSS)
	r.BytesConn = float64(r.HeldRSS) / float64(o.conns)
	if free1 := sys.MemoryAvailable(os.DirFS("/")); free0 > free1 {
		r.KernelConn = float64(free0-free1)/float64(o.conns) - r.BytesConn - fleetShare
	}
	r.Goroutines, r.HeapObjects = m1["go_goroutines"], m1["go_memstats_heap_objects"]
	r.GCs = m1["go_gc_duration_seconds_count"] - m0["go_gc_duration_seconds_count"]
	r.GCsAll = m1["go_gc_duration_seconds_count"]
	r.GCPauseP50US = 1e6 * m1[`go_gc_duration_seconds{quantile="0.5"}`]
	r.GCPauseMaxUS = 1e6 * m1[`go_gc_duration_seconds{quantile="1"}`]
	if total := m1["go_cpu_classes_total_cpu_seconds_total"]; total > 0 {
		r.GCCPUPct = 100 * m1["go_cpu_classes_gc_total_cpu_seconds_total"] / total
	}
	r.ThreadsHeld, r.DescriptorsHeld = t.Threads(), t.Descriptors()
	say("held: %.4f %% survived, RSS %.1f MB (%.1f bytes a conn), %.3f cores, %.0f goroutines", r.SurvivedPct, mb(r.HeldRSS), r.BytesConn, r.CoresHeld, r.Goroutines)

	closeCtx, cancel := context.WithTimeout(ctx, o.closing+2*time.Minute)
	defer cancel()
	if err := fl.CloseAll(closeCtx, o.closing); err != nil {
		return fmt.Errorf("close: %w (%v)", err, fl.Counts())
	}
	// Empty loops retire after seconds, and the collector gives memory back in the background.
	for k := range 60 {
		r.ClosedRSS = rss(t)
		if k%10 == 0 {
			if m, err = scrape(ctx, t); err != nil {
				return err
			}
		}
		if m["longwire_sockets"] == 0 && r.ClosedRSS <= r.WarmRSS+r.WarmRSS/20 {
			break
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if m, err = scrape(ctx, t); err != nil {
		return err
	}
	r.ThreadsClosed, r.DescriptorsClosed = t.Threads(), t.Descriptors()
	r.GoroutinesClosed, r.SocketsClosed = m["go_goroutines"], m["longwire_sockets"]
	say("closed: RSS %.1f MB (start %.1f, warm %.1f), threads %d, descriptors %d", mb(r.ClosedRSS), mb(r.StartRSS), mb(r.WarmRSS), r.ThreadsClosed, r.DescriptorsClosed)

	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := os.Stdout.Write(b); err != nil {
		return err
	}
	if o.out != "" {
		return os.WriteFile(o.out, b, 0o644)
	}
	return nil
}

// split moves this process to the second half of the CPUs, and tells which those are and which are left for the server.
func split(ctx context.Context) (server, clients string, err error) {
	n := runtime.NumCPU()
	if n < 2 {
		return "", "", fmt.Errorf("there is only %d", n)
	}
	set := func(from, to int) string { return fmt.Sprintf("%d-%d", from, to-1) }
	server, clients = set(0, n/2), set(n/2, n)
	if out, err := exec.CommandContext(ctx, "taskset", "-a", "-p", "-c", clients, fmt.Sprint(os.Getpid())).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("taskset: %w: %s", err, strings.TrimSpace(string(out)))
	}
	runtime.GOMAXPROCS(n - n/2)
	return server, clients, nil
}

// fleetShare is what the fleet's own state costs in the client process for a conn, in bytes.
const fleetShare = 60

// warm opens and closes a few thousand conns.
func warm(ctx context.Context, t *target.Target, o options) error {
	fl, err := fleet.New(fleet.Config{Target: t.Addr, Conns: min(o.conns, 5000), Loops: 1, Dial: ws.Dial{Target: o.path}})
	if err != nil {
		return err
	}
	defer func() { _ = fl.Close() }()
	if err := fl.Open(ctx); err != nil {
		return err
	}
	if err := fl.CloseAll(ctx, 0); err != nil {
		return err
	}
	// Scrapes leave garbage, and a heap of a few megabytes is not collected: take it to where it stays.
	for range 40 {
		if _, err := scrape(ctx, t); err != nil {
			return err
		}
	}
	select {
	case <-time.After(3 * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func rss(t *target.Target) int64 {
	n, _, err := t.Memory()
	if err != nil {
		return 0
	}
	return n
}

// scrape reads /metrics: plain samples by name, those with labels by name{labels}.
func scrape(ctx context.Context, t *target.Target) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%v/metrics", t.Addr), nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return nil, fmt.Errorf("/metrics: %s: %s", resp.Status, b)
	}
	m := make(map[string]float64)
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		name, value, ok := strings.Cut(sc.Text(), "} ")
		if ok {
			name += "}"
		} else if name, value, ok = strings.Cut(sc.Text(), " "); !ok || name == "#" {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m, sc.Err()
}

func mb(n int64) float64  { return float64(n) / (1 << 20) }
func gb(n uint64) float64 { return float64(n) / (1 << 30) }

func readFile(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
