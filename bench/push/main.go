// Command push measures what it costs to have clients connected and subscribed in the Centrifuge protocol, and to
// deliver to them: memory, processor time, latency, and the time that a storm of reconnects takes. The server is the
// real binary with a file of options; every figure comes with a check that each client got what it had to.
//
//	go run ./bench/push -out bench/PUSH.md
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

type options struct {
	conns     int
	fan       int
	storm     int
	rounds    int
	repeat    int
	loops     int
	rate      int
	latency   time.Duration
	pending   int
	opens     float64
	only      string
	out, json string
	bin       string
	publish   string
	own       bool
	profile   string
}

// part is one of the things that are measured.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

var parts = []part{
	{"connect", (*bench).connects},
	{"memory", (*bench).memory},
	{"fanout", (*bench).fanout},
	{"latency", (*bench).latencies},
	{"storm", (*bench).storm},
}

func main() {
	var o options
	flag.IntVar(&o.conns, "conns", 50_000, "memory: clients")
	flag.IntVar(&o.fan, "subscribers", 15_000, "fanout and connect: clients")
	flag.IntVar(&o.storm, "storm", 100_000, "storm: clients")
	flag.IntVar(&o.rounds, "rounds", 5, "fanout and connect: rounds, in each of which all are measured once")
	flag.IntVar(&o.repeat, "publications", 10, "fanout: publications in a round")
	flag.IntVar(&o.loops, "loops", 2, "loops of the servers, where one descriptor table does")
	flag.IntVar(&o.rate, "rate", 1000, "latency: publications a second")
	flag.DurationVar(&o.latency, "latency", 10*time.Second, "latency: for how long")
	flag.IntVar(&o.pending, "pending", 256, "conns that are being opened at a time")
	flag.Float64Var(&o.opens, "opens", 0, "connects a second; 0 is no bound but -pending. A million clients want one, since pings share the CPUs")
	flag.StringVar(&o.only, "only", "", "only these parts (comma-separated): connect, memory, fanout, latency, storm")
	flag.StringVar(&o.out, "out", "", "also write the tables to this file")
	flag.StringVar(&o.json, "json", "", "also write the figures as JSON to this file")
	flag.StringVar(&o.bin, "bin", "", "take the binaries longwire and floor from this directory instead of building them")
	flag.StringVar(&o.publish, "publish", "", "how to publish: api (HTTP) or client (a command of the protocol); empty is api where the server has it")
	flag.BoolVar(&o.own, "own-history", false, "memory: the channel of its own is recoverable too")
	flag.StringVar(&o.profile, "pprof", "", "where the server serves /debug/pprof, to look at it meanwhile")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	o      options
	bin    string // directory of the binaries
	dir    string // for files of options
	report report
}

// perConn is what one conn costs in the kernel and in both processes, in bytes.
const perConn = 2*4400 + 700

func run(ctx context.Context, o options) error {
	chosen := parts
	if o.only != "" {
		names := strings.Split(o.only, ",")
		chosen = slices.DeleteFunc(slices.Clone(parts), func(p part) bool { return !slices.Contains(names, p.name) })
		if len(chosen) != len(names) {
			return fmt.Errorf("-only %s: want some of connect, memory, fanout, latency and storm", o.only)
		}
	}
	if o.conns < 1 || o.fan < 1 || o.storm < stormChannels || o.rounds < 1 || o.repeat < 1 || o.rate < 1 || o.loops < 1 {
		return errors.New("a number is too small")
	}
	most := 2 * o.fan
	for _, p := range chosen {
		switch p.name {
		case "memory":
			most = max(most, o.conns)
		case "storm":
			most = max(most, o.storm)
		}
	}
	need := uint64(most)*perConn + 300<<20
	if free := sys.MemoryAvailable(os.DirFS("/")); free > 0 && free < need {
		return fmt.Errorf("%d conns need about %.1f GB for both ends, mostly in the kernel, and %.1f GB are free", most, float64(need)/(1<<30), float64(free)/(1<<30))
	}
	dir, err := os.MkdirTemp("", "longwire-push-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{o: o, bin: o.bin, dir: dir, report: newReport()}
	if b.bin == "" {
		b.bin = dir
		for _, name := range []string{"./cmd/longwire", "./bench/floor"} {
			cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, filepath.Base(name)), name)
			cmd.Stderr = os.Stderr
			if err := cmd.Run(); err != nil {
				return fmt.Errorf("build %s: %w", name, err)
			}
		}
	}
	for _, p := range chosen {
		begin := time.Now()
		if err := p.run(b, ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			say("%s: FAILED: %v", p.name, err)
			b.report.failed(p.name, err)
		}
		say("%s: %.1f s", p.name, time.Since(begin).Seconds())
	}
	return b.report.write(&o)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// until waits for ok, looking every millisecond. what says what it waits for, and how far that is.
func until(ctx context.Context, s *server, ok func() bool, what func() string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what(), context.Cause(ctx))
		case <-s.Done():
			return fmt.Errorf("%s: the server ended\n%s", what(), s.Log())
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// patience is how long a part with n conns may take.
func patience(n int) time.Duration { return 90*time.Second + time.Duration(n)*time.Millisecond }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[n/2]
}
