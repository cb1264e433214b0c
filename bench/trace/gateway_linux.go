package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/trace"
)

// How a gateway is traced in a round.
const (
	tracedNot    = "not"
	tracedBeside = "beside" // by longwire trace, another process
	tracedInside = "inside" // by itself: longwire serve --trace
)

// gatewayRound is a round of connections to a gateway: upgraded, and closed at once.
type gatewayRound struct {
	Traced  string  `json:"traced"` // not, beside or inside
	Conns   uint64  `json:"conns"`
	Gateway float64 `json:"gateway_cpu_us"`          // of its process, for each connection
	Tracer  float64 `json:"tracer_cpu_us,omitempty"` // of longwire trace, for each connection
	Ended   uint64  `json:"ended,omitempty"`         // ends that were told
	Lost    uint64  `json:"lost,omitempty"`
}

// measureGateway has a longwire binary serve and another put load on it. It is traced in some rounds, by a third or by itself.
func measureGateway(longwire string, rounds int, each time.Duration) ([]gatewayRound, error) {
	modes := []string{tracedNot, tracedBeside, tracedInside}
	var list []gatewayRound
	for range rounds {
		for _, mode := range modes {
			r, err := oneGatewayRound(longwire, mode, each)
			if err != nil {
				return list, err
			}
			fmt.Printf("gateway, traced %-6s: %6d conns, %.1f µs a connection, the tracer's process %.1f µs, %d ends told, %d lost\n", r.Traced, r.Conns, r.Gateway, r.Tracer, r.Ended, r.Lost)
			list = append(list, r)
		}
	}
	median := func(mode string, f func(gatewayRound) float64) float64 {
		var v []float64
		for _, r := range list {
			if r.Traced == mode {
				v = append(v, f(r))
			}
		}
		slices.Sort(v)
		return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
	}
	own := func(r gatewayRound) float64 { return r.Gateway }
	without := median(tracedNot, own)
	for _, mode := range modes[1:] {
		with, tracer := median(mode, own), median(mode, func(r gatewayRound) float64 { return r.Tracer })
		fmt.Printf("gateway: %.1f µs a connection without, %.1f traced %s, and %.1f of the tracer: %+.0f %%\n", without, with, mode, tracer, 100*(with+tracer-without)/without)
	}
	return list, nil
}

// startGateway starts a gateway on a port that was free a moment ago, and returns when it listens. stop ends it.
func startGateway(longwire string, args ...string) (port string, pid int, stop func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", 0, nil, err
	}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	name, err2 := syscall.Getsockname(fd)
	if err := errors.Join(err, err2, syscall.Close(fd)); err != nil {
		return "", 0, nil, err
	}
	port = strconv.Itoa(name.(*syscall.SockaddrInet4).Port)
	gateway := exec.Command(longwire, append([]string{"serve", "--dev", "--addr", "127.0.0.1:" + port, "--log-format", "text"}, args...)...)
	said, err := gateway.StderrPipe()
	if err != nil {
		return "", 0, nil, err
	}
	if err := gateway.Start(); err != nil {
		return "", 0, nil, err
	}
	log := bufio.NewScanner(said)
	drained := make(chan struct{})
	stop = func() { _ = gateway.Process.Kill(); <-drained; _ = gateway.Wait() }
	for !strings.Contains(log.Text(), "msg=listening") {
		if !log.Scan() {
			close(drained)
			stop()
			return "", 0, nil, errors.Join(errors.New("the gateway does not start"), log.Err())
		}
	}
	go func() {
		for log.Scan() {
		}
		close(drained)
	}()
	return port, gateway.Process.Pid, stop, nil
}

// traceMetric adds up a metric of a gateway, whatever its labels.
func traceMetric(port, name string) (sum uint64, err error) {
	resp, err := http.Get("http://127.0.0.1:" + port + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name) {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum += uint64(v)
	}
	return sum, lines.Err()
}

func oneGatewayRound(longwire, mode string, d time.Duration) (r gatewayRound, err error) {
	r.Traced = mode
	var args []string
	if mode == tracedInside {
		args = append(args, "--trace")
	}
	port, gateway, stop, err := startGateway(longwire, args...)
	if err != nil {
		return r, err
	}
	defer stop()
	var tracer *exec.Cmd
	var answer *json.Decoder
	if mode == tracedBeside {
		tracer = exec.Command(longwire, "trace", "--port", port, "--summary", "--for", "1h", "--json")
		out, err := tracer.StdoutPipe()
		if err != nil {
			return r, err
		}
		info, err := tracer.StderrPipe()
		if err != nil {
			return r, err
		}
		if err := tracer.Start(); err != nil {
			return r, err
		}
		defer func() { _ = tracer.Process.Kill() }()
		answer = json.NewDecoder(out)
		line, err := bufio.NewReader(info).ReadString('\n')
		if err != nil || !strings.Contains(line, "at level bpf") {
			return r, fmt.Errorf("longwire trace says %q: %w", line, err)
		}
	}
	var attached time.Duration // what the tracer took to begin
	if tracer != nil {
		if attached, err = computed(tracer.Process.Pid); err != nil {
			return r, err
		}
	}
	before, err := computed(gateway)
	if err != nil {
		return r, err
	}
	load := exec.Command(longwire, "stress", "--target", "ws://127.0.0.1:"+port+"/echo", "--scenario", "churn", "--max-conns", "200", "--duration", d.String(), "--json")
	b, err := load.Output()
	if err != nil {
		return r, fmt.Errorf("longwire stress: %w", err)
	}
	var made struct{ Conns struct{ Opened uint64 } }
	if err := json.Unmarshal(b, &made); err != nil {
		return r, fmt.Errorf("longwire stress: %w", err)
	}
	if made.Conns.Opened == 0 {
		return r, errors.New("longwire stress opened no connection")
	}
	after, err := computed(gateway)
	if err != nil {
		return r, err
	}
	r.Conns, r.Gateway = made.Conns.Opened, perConn(after-before, made.Conns.Opened)
	switch mode {
	case tracedInside:
		// The last ends are still on their way.
		for deadline := time.Now().Add(5 * time.Second); err == nil && r.Ended < r.Conns && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			r.Ended, err = traceMetric(port, "longwire_kernel_ends_total{")
		}
		if err == nil {
			r.Lost, err = traceMetric(port, "longwire_trace_lost_total")
		}
		return r, err
	case tracedNot:
		return r, nil
	}
	if err := tracer.Process.Signal(os.Interrupt); err != nil {
		return r, err
	}
	var s trace.Summary
	err = answer.Decode(&s)
	if err := errors.Join(err, tracer.Wait()); err != nil {
		return r, fmt.Errorf("longwire trace: %w", err)
	}
	r.Tracer = perConn(tracer.ProcessState.UserTime()+tracer.ProcessState.SystemTime()-attached, r.Conns)
	for _, e := range s.Endings {
		r.Ended += e.Count
	}
	r.Lost = s.Lost
	return r, nil
}

// computed is the processor time of another process so far, in hundredths of a second.
func computed(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may have anything in it: utime is the 14th field of all, proc(5).
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d: malformed stat", pid)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}
