// Command run measures the gateway beside the floor and the Go peers: the same load, in turn, in one run, as
// processor time of the server process for each unit of work.
//
//	go run ./bench/run -rounds 3 -out bench/RESULTS.md
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/longwire/longwire/bench/target"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

type options struct {
	conns, active, rounds int
	echo                  time.Duration
	servers               string
	out, bin              string
}

// server is one that is measured.
type server struct {
	name string
	argv func(bin string, conns int) []string
	path string
}

var servers = []server{
	{"floor, 2 loops", func(bin string, _ int) []string { return []string{filepath.Join(bin, "floor"), "-loops", "2"} }, "/echo"},
	{"longwire, 2 loops", func(bin string, n int) []string { return longwire(bin, 2, n) }, "/echo"},
	{"floor, 1 loop", func(bin string, _ int) []string { return []string{filepath.Join(bin, "floor"), "-loops", "1"} }, "/echo"},
	{"longwire, 1 loop", func(bin string, n int) []string { return longwire(bin, 1, n) }, "/echo"},
	peer("gorilla"), peer("gorilla-pooled"), peer("coder"), peer("gobwas"), peer("gobwas-batched"), peer("gws"), peer("fasthttp"),
}

func longwire(bin string, loops, conns int) []string {
	return []string{filepath.Join(bin, "longwire"), "serve", "--dev", "--addr", "127.0.0.1:0",
		"--loops", fmt.Sprint(loops), "--max-conns", fmt.Sprint(conns + conns/10), "--drain", "0s", "--log-level", "info"}
}

func peer(name string) server {
	return server{name, func(bin string, n int) []string {
		return []string{filepath.Join(bin, "peers"), "-server", name, "-addr", "127.0.0.1:0", "-max-conns", fmt.Sprint(n + 100)}
	}, "/echo"}
}

// figures of one server in one round.
type figures struct {
	start         float64 // ms to the first upgrade
	idle, after   float64 // bytes a conn: RSS beyond that of the start
	idleAll       float64 // bytes a conn: the whole RSS
	connect       float64 // µs of processor time
	echo1, echo16 float64
	rate1, rate16 float64 // messages a second, for the reader; not a figure to compare
	p99           float64 // µs of round trip, 1 in flight
	left          float64 // MB of RSS beyond that of the start, after all conns closed
}

func main() {
	var o options
	flag.IntVar(&o.conns, "conns", 15000, "conns that are opened")
	flag.IntVar(&o.active, "active", 1000, "conns that echo")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; in each, every server is measured once")
	flag.DurationVar(&o.echo, "echo", 3*time.Second, "how long each exchange lasts")
	flag.StringVar(&o.servers, "servers", "", "only servers whose name has this in it (comma-separated)")
	flag.StringVar(&o.out, "out", "", "also write the table to this file")
	flag.StringVar(&o.bin, "bin", "", "take the binaries longwire, floor and peers from this directory instead of building them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	bin := o.bin
	if bin == "" {
		dir, err := os.MkdirTemp("", "longwire-bench-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := build(ctx, dir); err != nil {
			return err
		}
		bin = dir
	}
	var chosen []server
	for _, s := range servers {
		if o.servers == "" || slices.ContainsFunc(strings.Split(o.servers, ","), func(p string) bool { return strings.Contains(s.name, p) }) {
			chosen = append(chosen, s)
		}
	}
	all := make(map[string][]figures)
	for round := range o.rounds {
		for _, s := range chosen {
			f, err := measure(ctx, o, bin, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d  %-20s start %5.1f ms  conn %6.0f B  connect %5.1f µs  echo %5.2f µs (%.0f/s, p99 %.0f µs)  16: %5.3f µs (%.0f/s)\n",
				round+1, s.name, f.start, f.idle, f.connect, f.echo1, f.rate1, f.p99, f.echo16, f.rate16)
			all[s.name] = append(all[s.name], f)
		}
	}
	table := render(o, chosen, all)
	fmt.Print(table)
	if o.out != "" {
		return os.WriteFile(o.out, []byte(table), 0o644)
	}
	return nil
}

// build builds what is measured.
func build(ctx context.Context, dir string) error {
	for _, b := range [][]string{
		{".", "longwire", "./cmd/longwire"}, {".", "floor", "./bench/floor"}, {"bench/peers", "peers", "."},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, b[1]), b[2])
		cmd.Dir, cmd.Stderr = b[0], os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", b[1], err)
		}
	}
	return nil
}

// measure runs one server through all exercises.
func measure(ctx context.Context, o options, bin string, s server) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	t, err := target.Start(ctx, s.name, s.path, s.argv(bin, o.conns)...)
	if err != nil {
		return f, err
	}
	defer func() { _ = t.Stop() }()
	f.start = float64(t.Started) / float64(time.Millisecond)
	cpu := func() time.Duration {
		c, e := t.CPU()
		if e != nil {
			err = e
		}
		return c
	}
	rss := func() float64 {
		r, _, e := t.Memory()
		if e != nil {
			err = e
		}
		return float64(r)
	}
	fl, err := fleet.New(fleet.Config{Target: t.Addr, Conns: o.conns, Loops: 1, Pending: 128, Dial: ws.Dial{Target: s.path}})
	if err != nil {
		return f, err
	}
	defer func() { _ = fl.Close() }()
	rss0, cpu0 := rss(), cpu()
	if err := fl.Open(ctx); err != nil {
		return f, err
	}
	f.connect = perUnit(cpu()-cpu0, o.conns)
	if c := fl.Counts(); c.Open != int64(o.conns) {
		return f, fmt.Errorf("%d of %d conns stand: failed %v, lost %v", c.Open, o.conns, c.Failed, c.Lost)
	}
	settle(ctx)
	f.idleAll, f.idle = rss()/float64(o.conns), (rss()-rss0)/float64(o.conns)
	exchange := func(inFlight int) (us, rate, p99 float64, err error) {
		fl.Echo(fleet.Exchange{Conns: o.active, InFlight: inFlight, Size: 64})
		if err := pause(ctx, 300*time.Millisecond); err != nil { // until all take part
			return 0, 0, 0, err
		}
		if _, err := fl.Latency(ctx); err != nil {
			return 0, 0, 0, err
		}
		n0, c0, b := fl.Counts().Received, cpu(), time.Now()
		if err := pause(ctx, o.echo); err != nil {
			return 0, 0, 0, err
		}
		n, c, d := fl.Counts().Received-n0, cpu()-c0, time.Since(b)
		h, err := fl.Latency(ctx)
		if err != nil {
			return 0, 0, 0, err
		}
		if err := fl.EndEcho(ctx); err != nil {
			return 0, 0, 0, err
		}
		settle(ctx)
		if n == 0 {
			return 0, 0, 0, fmt.Errorf("no message came back")
		}
		return perUnit(c, int(n)), float64(n) / d.Seconds(), float64(h.ValueAtQuantile(99)), nil
	}
	if f.echo1, f.rate1, f.p99, err = exchange(1); err != nil {
		return f, err
	}
	if f.echo16, f.rate16, _, err = exchange(16); err != nil {
		return f, err
	}
	f.after = (rss() - rss0) / float64(o.conns)
	if c := fl.Counts(); c.Losses() > 0 {
		return f, fmt.Errorf("conns were lost: %v", c.Lost)
	}
	if err := fl.CloseAll(ctx, 0); err != nil {
		return f, err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return f, err
	}
	f.left = (rss() - rss0) / (1 << 20)
	return f, err
}

func perUnit(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}

// settle lets what is under way end before something is read.
func settle(ctx context.Context) { _ = pause(ctx, 300*time.Millisecond) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func median(fs []figures, get func(figures) float64) float64 {
	v := make([]float64, len(fs))
	for i, f := range fs {
		v[i] = get(f)
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func render(o options, chosen []server, all map[string][]figures) string {
	var b strings.Builder
	w := io.Writer(&b)
	fmt.Fprintf(w, "# Beside the floor and the Go peers\n\n")
	fmt.Fprintf(w, "%s, %d CPUs, %s, commit %s, %s.\n", machine(), runtime.NumCPU(), runtime.Version(), commit(), time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(w, "%d conns are opened; %d of them echo 64 bytes for %v; medians of %d rounds in which the servers take turns.\n", o.conns, o.active, o.echo, o.rounds)
	fmt.Fprintf(w, "µs are processor time of the server process (user and system) for each unit of work; bytes are its resident\nmemory beyond that of the start, for each conn. Client and server share the CPUs. Command: `make bench`.\n\n")
	fmt.Fprintf(w, "| server | start to first upgrade, ms | bytes a conn, idle | after echoes | accept + upgrade, µs | echo, 1 in flight, µs | echo, 16 in flight, µs | MB left after all closed |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range chosen {
		fs := all[s.name]
		m := func(get func(figures) float64) float64 { return median(fs, get) }
		fmt.Fprintf(w, "| %s | %.1f | %.0f | %.0f | %.1f | %.2f | %.3f | %.1f |\n", s.name,
			m(func(f figures) float64 { return f.start }), m(func(f figures) float64 { return f.idle }),
			m(func(f figures) float64 { return f.after }), m(func(f figures) float64 { return f.connect }),
			m(func(f figures) float64 { return f.echo1 }), m(func(f figures) float64 { return f.echo16 }),
			m(func(f figures) float64 { return f.left }))
	}
	return b.String()
}

func machine() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(b))
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
