// Stress measures the load tester itself, beside other tools on the same server: requests of HTTP a second beside wrk, and what
// an opened and held connection costs on the client's side beside tsung and k6, where they are installed. Rounds alternate.
// It prints a Markdown table; -out writes it to a file as well.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/bench/target"
)

type options struct {
	longwire string
	k6       string
	rounds   int
	seconds  int
	conns    int // of the HTTP part
	hold     int // conns of the other part
	out      string
}

func main() {
	var o options
	respond := flag.Bool("respond", false, "be the HTTP server: answer every request with 200 and two bytes")
	flag.StringVar(&o.longwire, "longwire", "bin/longwire", "the program that is measured")
	flag.StringVar(&o.k6, "k6", "k6", "k6, if it is there")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each")
	flag.IntVar(&o.seconds, "seconds", 8, "seconds of each HTTP run")
	flag.IntVar(&o.conns, "conns", 100, "connections of the HTTP runs")
	flag.IntVar(&o.hold, "hold", 10_000, "connections that are opened and held")
	flag.StringVar(&o.out, "out", "", "write the table to this file, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *respond {
		err = serve(ctx)
	} else {
		err = run(ctx, &o)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve answers requests as cheaply as a goroutine for each connection can.
func serve(ctx context.Context) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", ln.Addr())
	go func() { <-ctx.Done(); _ = ln.Close() }()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer func() { _ = c.Close() }()
			r := bufio.NewReaderSize(c, 4096)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(bytes.TrimRight(line, "\r\n")) == 0 {
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}
		}()
	}
}

// figure is what one tool did in one round.
type figure struct {
	rate float64 // requests a second
	cpu  float64 // µs of the tool's CPU time for each request or connection
	rss  float64 // bytes for each connection
	open int
}

// tool is a load tester.
type tool struct {
	name string
	run  func(ctx context.Context, o *options, addr string) (figure, error)
}

func run(ctx context.Context, o *options) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Beside other load testers\n\n<!-- Written by `make bench-stress`. -->\n\n%d CPUs, shared by tool and server; medians of %d rounds that alternate.\n\n", runtime.NumCPU(), o.rounds)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	http, err := startHTTP(ctx, self)
	if err != nil {
		return err
	}
	defer http.stop()
	tools := []tool{{"longwire stress", stressHTTP}, {"wrk", wrk}}
	fmt.Fprintf(&b, "HTTP, %d connections that are kept, %d s:\n\n| tool | requests/s | CPU µs of the tool a request |\n|---|---|---|\n", o.conns, o.seconds)
	if err := rounds(ctx, o, http.addr, tools, func(t tool, f figure) {
		fmt.Fprintf(&b, "| %s | %.0f | %.2f |\n", t.name, f.rate, f.cpu)
	}); err != nil {
		return err
	}
	gateway, err := target.Start(ctx, "longwire", "/ws", o.longwire, "serve", "--addr", "127.0.0.1:0", "--max-conns", strconv.Itoa(4*o.hold))
	if err != nil {
		return err
	}
	defer func() { _ = gateway.Stop() }()
	tools = []tool{{"longwire stress", stressHold}, {"tsung", tsung}, {"k6", k6}}
	fmt.Fprintf(&b, "\nWebSocket, %d connections opened and held:\n\n| tool | opened | CPU µs of the tool a connection | resident bytes a connection |\n|---|---|---|---|\n", o.hold)
	row := func(t tool, f figure) {
		fmt.Fprintf(&b, "| %s | %d | %.1f | %.0f |\n", t.name, f.open, f.cpu, f.rss)
	}
	if err := rounds(ctx, o, gateway.Addr.String(), tools, row); err != nil {
		return err
	}
	fmt.Print(b.String())
	if o.out != "" {
		return os.WriteFile(o.out, []byte(b.String()), 0o644)
	}
	return nil
}

// rounds runs the tools in turns and tells the medians.
func rounds(ctx context.Context, o *options, addr string, tools []tool, tell func(tool, figure)) error {
	got := make([][]figure, len(tools))
	missing := make([]bool, len(tools))
	for r := range o.rounds {
		for i, t := range tools {
			if missing[i] {
				continue
			}
			f, err := t.run(ctx, o, addr)
			if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(os.Stderr, "%s is not installed: left out\n", t.name)
				missing[i] = true
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d  %-16s %8.0f/s  %7.2f µs  %8.0f bytes  %d open\n", r+1, t.name, f.rate, f.cpu, f.rss, f.open)
			got[i] = append(got[i], f)
		}
	}
	median := func(of func(figure) float64, list []figure) float64 {
		v := make([]float64, len(list))
		for i, f := range list {
			v[i] = of(f)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	for i, t := range tools {
		if len(got[i]) == 0 {
			continue
		}
		tell(t, figure{
			rate: median(func(f figure) float64 { return f.rate }, got[i]), cpu: median(func(f figure) float64 { return f.cpu }, got[i]),
			rss:  median(func(f figure) float64 { return f.rss }, got[i]),
			open: int(median(func(f figure) float64 { return float64(f.open) }, got[i])),
		})
	}
	return nil
}

// process is a server that was started.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func startHTTP(ctx context.Context, self string) (*process, error) {
	cmd := exec.CommandContext(ctx, self, "-respond")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	_, addr, _ := strings.Cut(strings.TrimSpace(line), "listening on ")
	return &process{cmd, addr}, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// output runs a command and gives what it printed, its CPU time and its highest resident memory.
func output(cmd *exec.Cmd) (out []byte, cpu time.Duration, rss int64, err error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err = cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, errs.String())
		}
		return out, 0, 0, err
	}
	s := cmd.ProcessState
	return out, s.UserTime() + s.SystemTime(), maxResident(s), nil
}

// report is what is read of the load tester's JSON.
type report struct {
	Conns struct {
		Opened int `json:"opened"`
		Peak   int `json:"peak"`
	} `json:"conns"`
	Scenarios []struct {
		Done int     `json:"done"`
		Rate float64 `json:"done_per_second"`
	} `json:"scenarios"`
	Generator struct {
		PerConn    float64 `json:"bytes_per_conn"`
		CPUPerConn float64 `json:"cpu_us_per_conn"`
	} `json:"generator"`
}

func stress(ctx context.Context, o *options, args ...string) (report, time.Duration, error) {
	cmd := exec.CommandContext(ctx, o.longwire, append([]string{"stress", "--json", "--quiet"}, args...)...)
	out, cpu, _, err := output(cmd)
	if err != nil {
		return report{}, 0, err
	}
	var r report
	return r, cpu, json.Unmarshal(out, &r)
}

func stressHTTP(ctx context.Context, o *options, addr string) (figure, error) {
	r, cpu, err := stress(ctx, o, "--target", "http://"+addr+"/", "--max-conns", strconv.Itoa(o.conns), "--duration", strconv.Itoa(o.seconds)+"s")
	if err != nil {
		return figure{}, err
	}
	s := r.Scenarios[0]
	return figure{rate: s.Rate, cpu: micros(cpu) / float64(max(1, s.Done)), open: r.Conns.Peak}, nil
}

var (
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkTotal = regexp.MustCompile(`([0-9]+) requests in`)
)

func wrk(ctx context.Context, o *options, addr string) (figure, error) {
	cmd := exec.CommandContext(ctx, "wrk", "-t", strconv.Itoa(min(2, runtime.NumCPU())), "-c", strconv.Itoa(o.conns), "-d", strconv.Itoa(o.seconds)+"s", "http://"+addr+"/")
	out, cpu, _, err := output(cmd)
	if err != nil {
		return figure{}, err
	}
	rate, total := wrkRate.FindSubmatch(out), wrkTotal.FindSubmatch(out)
	if rate == nil || total == nil {
		return figure{}, fmt.Errorf("cannot read what it printed: %s", out)
	}
	f := figure{open: o.conns}
	f.rate, _ = strconv.ParseFloat(string(rate[1]), 64)
	n, _ := strconv.ParseFloat(string(total[1]), 64)
	f.cpu = micros(cpu) / max(1, n)
	return f, nil
}

// holdFor is how long connections are held once they stand, so that what opening cost is all that counts.
const holdFor = 5 * time.Second

func stressHold(ctx context.Context, o *options, addr string) (figure, error) {
	// The rate that the others are given, so that none of them has an easier life.
	ramp := time.Duration(o.hold) * time.Second / opensPerSecond
	r, cpu, err := stress(ctx, o, "--target", "ws://"+addr+"/ws", "--max-conns", strconv.Itoa(o.hold), "--ramp-up", ramp.String(), "--duration", (ramp + holdFor).String(), "--timeout", "30s")
	if err != nil {
		return figure{}, err
	}
	return figure{cpu: micros(cpu) / float64(max(1, r.Conns.Opened)), rss: r.Generator.PerConn, open: r.Conns.Peak}, nil
}

// opensPerSecond is what every tool is asked for.
const opensPerSecond = 1000

func tsung(ctx context.Context, o *options, addr string) (figure, error) {
	if _, err := exec.LookPath("tsung"); err != nil {
		return figure{}, err
	}
	dir, err := os.MkdirTemp("", "tsung")
	if err != nil {
		return figure{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	host, port, _ := net.SplitHostPort(addr)
	seconds := o.hold/opensPerSecond + int(holdFor/time.Second)
	plan := fmt.Sprintf(`<?xml version="1.0"?><!DOCTYPE tsung SYSTEM "/usr/share/tsung/tsung-1.0.dtd">
<tsung loglevel="error">
 <clients><client host="localhost" use_controller_vm="true" maxusers="%d"/></clients>
 <servers><server host="%s" port="%s" type="tcp"/></servers>
 <load><arrivalphase phase="1" duration="%d" unit="second"><users maxnumber="%d" arrivalrate="%d" unit="second"/></arrivalphase></load>
 <sessions><session name="hold" probability="100" type="ts_websocket">
  <request><websocket type="connect" path="/ws"/></request><thinktime value="%d" random="false"/><request><websocket type="close"/></request>
 </session></sessions>
</tsung>`, 2*o.hold, host, port, o.hold/opensPerSecond, o.hold, opensPerSecond, seconds)
	file := filepath.Join(dir, "plan.xml")
	if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
		return figure{}, err
	}
	// The node of the run before keeps its name for some seconds.
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if names, _ := exec.CommandContext(ctx, "epmd", "-names").Output(); !bytes.Contains(names, []byte("tsung")) {
			break
		}
	}
	cmd := exec.CommandContext(ctx, "tsung", "-f", file, "-l", dir, "start")
	watch := peak(ctx, "beam")
	_, cpu, rss, err := output(cmd)
	open := watch()
	if err != nil {
		return figure{}, err
	}
	return figure{cpu: micros(cpu) / float64(max(1, open)), rss: float64(rss) / float64(max(1, open)), open: open}, nil
}

func k6(ctx context.Context, o *options, addr string) (figure, error) {
	if _, err := exec.LookPath(o.k6); err != nil {
		return figure{}, err
	}
	dir, err := os.MkdirTemp("", "k6")
	if err != nil {
		return figure{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ramp := o.hold / opensPerSecond
	script := fmt.Sprintf(`import ws from "k6/ws";
export const options = { scenarios: { hold: { executor: "ramping-vus", startVUs: 0, gracefulStop: "1s", gracefulRampDown: "1s",
  stages: [{ duration: "%ds", target: %d }, { duration: "%ds", target: %d }] } } };
export default function () { ws.connect("ws://%s/ws", {}, function (s) { s.setTimeout(function () { s.close(); }, %d); }); }
`, ramp, o.hold, int(holdFor/time.Second), o.hold, addr, 1000*(ramp+int(holdFor/time.Second)))
	file := filepath.Join(dir, "hold.js")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return figure{}, err
	}
	cmd := exec.CommandContext(ctx, o.k6, "run", "--quiet", "--no-usage-report", file)
	watch := peak(ctx, "k6")
	_, cpu, rss, err := output(cmd)
	open := watch()
	if err != nil {
		return figure{}, err
	}
	return figure{cpu: micros(cpu) / float64(max(1, open)), rss: float64(rss) / float64(max(1, open)), open: open}, nil
}

// peak counts the machine's established connections until it is asked; half of them are one end's. what names who is watched,
// for the log.
func peak(ctx context.Context, what string) (most func() int) {
	before := established()
	done, result := make(chan struct{}), make(chan int, 1)
	go func() {
		most := 0
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, (established()-before)/2)
			case <-done:
				result <- most
				return
			case <-ctx.Done():
				result <- most
				return
			}
		}
	}()
	return func() int {
		close(done)
		n := <-result
		fmt.Fprintf(os.Stderr, "%s: %d connections at a time\n", what, n)
		return n
	}
}

// established is how many TCP sockets are in use in this network namespace.
func established() int {
	f, err := os.Open("/proc/net/sockstat")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	b, _ := io.ReadAll(f)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "TCP:" {
			n, _ := strconv.Atoi(f[2])
			return n
		}
	}
	return 0
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }
