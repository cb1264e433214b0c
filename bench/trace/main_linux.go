// Command trace measures what tracing connections costs the server, and whether its events are all told.
//
// A bare loop accepts connections on loopback, reads the client's FIN and closes, in a process of its own. The rounds
// with tracing and without alternate. What the kernel does for the server is charged on loopback to whoever made it do
// so, often the client's process: so the added cost is that of both processes together, and it is held against what the
// server's spends without.
//
// On a machine that does other work the difference of two rounds is mostly noise. So a round of its own adds up what
// tracing spends: the kernel's clock of the probes (BPF_ENABLE_STATS), and the processor time of the thread that reads
// events, and of Tag.
//
//	go run ./bench/trace            # A/B rounds, then 10,000 connections a second for 30 s
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/longwire/longwire/internal/trace"
)

func main() {
	serving := flag.String("serve", "", "what this process itself uses: off, idle, on or timed")
	modes := flag.String("modes", "off,on", "the rounds' modes in turn: off, idle (probes attached, another's listener), on, timed")
	rounds := flag.Int("rounds", 4, "rounds of each mode")
	each := flag.Duration("each", 5*time.Second, "how long a round is")
	long := flag.Duration("for", 30*time.Second, "how long events are counted at the end; 0 is not at all")
	rate := flag.Int("rate", 10000, "connections a second")
	out := flag.String("json", "", "write the result to this file, too")
	kernel := flag.Bool("memory", true, "measure the kernel's memory of a traced connection, too")
	longwire := flag.String("longwire", "", "measure a gateway of this binary, too, while connections come and go and while they stay")
	flag.Parse()
	var err error
	if *serving != "" {
		err = serve(*serving)
	} else if err = measure(strings.Split(*modes, ","), *rounds, *each, *long, *rate, *out, *longwire); err == nil && *kernel {
		err = memory()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
}

// round is what a round came to.
type round struct {
	Mode      string            `json:"mode"`
	Seconds   float64           `json:"seconds"`
	Conns     uint64            `json:"conns"`
	PerSecond float64           `json:"per_second"`
	ServerCPU float64           `json:"server_cpu_us"`  // for each connection
	ClientCPU float64           `json:"client_cpu_us"`  // for each connection
	Resident  int64             `json:"resident_bytes"` // the server's, at its end
	Ended     uint64            `json:"ended"`          // ends that were told, tagged
	Untagged  uint64            `json:"untagged"`       // ends that were told without the session's id
	Lost      uint64            `json:"lost"`
	Missed    uint64            `json:"missed"`
	Verdicts  map[string]uint64 `json:"verdicts"`

	// With mode timed, in µs for each connection.
	Probes map[string]float64 `json:"probes_us,omitempty"`
	Reader float64            `json:"reader_us,omitempty"`
	Tag    float64            `json:"tag_us,omitempty"`
}

// serve is the server's process: it prints its port, serves until its input ends, and prints what came of it.
func serve(mode string) error {
	if !slices.Contains([]string{"off", "idle", "on", "timed"}, mode) {
		return fmt.Errorf("mode %q: want off, idle, on or timed", mode)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 4096)); err != nil {
		return err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	r := round{Mode: mode, Verdicts: make(map[string]uint64)}
	var tracer *trace.Tracer
	var ended, untagged atomic.Uint64
	var reader, before, tag time.Duration // reader: of its thread, and what that had spent before
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	if mode != "off" {
		tracer, err = trace.Open(trace.Options{Handle: func(e *trace.Event) {
			if e.Session == [16]byte{} {
				untagged.Add(1)
			} else {
				ended.Add(1)
			}
			r.Verdicts[e.Life.Verdict().String()]++
		}, Idle: func() { reader = cpu(syscall.RUSAGE_THREAD) }})
		if err != nil {
			return err
		}
		if tracer.Level() != trace.LevelBPF {
			return fmt.Errorf("no probes: %v", tracer.Refused())
		}
		if mode != "idle" {
			if err := tracer.TrackListener(fd); err != nil {
				return err
			}
		}
		go func() {
			runtime.LockOSThread() // so that its time is the thread's
			before = cpu(syscall.RUSAGE_THREAD)
			done <- tracer.Run(ctx)
		}()
	} else {
		done <- nil
	}
	var conns atomic.Uint64
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		failed <- loop(fd, func(conn int) error {
			n := conns.Add(1)
			if mode != "on" && mode != "timed" {
				return nil
			}
			var id [16]byte
			binary.LittleEndian.PutUint64(id[:], n)
			if mode == "on" {
				return tracer.Tag(conn, id)
			}
			began := threadTime()
			err := tracer.Tag(conn, id)
			tag += threadTime() - began
			return err
		})
	}()
	if mode == "timed" {
		stats, err := ebpf.EnableStats(0) // BPF_STATS_RUN_TIME
		if err != nil {
			return err
		}
		defer func() { _ = stats.Close() }()
	}
	began := cpu(syscall.RUSAGE_SELF)
	fmt.Println(name.(*syscall.SockaddrInet4).Port)
	input := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(input) }()
	select {
	case err := <-failed:
		return err
	case <-input: // all connections are closed by the client then
	}
	// What is left is the tail of the last connections. It is over when nothing has changed for a while, within two seconds.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for last, quiet, ticks := uint64(0), 0, 0; quiet < 15 && ticks < 200; ticks++ {
		<-tick.C
		n := conns.Load() + ended.Load() + untagged.Load()
		if n != last {
			quiet = 0
		}
		last, quiet = n, quiet+1
	}
	spent := cpu(syscall.RUSAGE_SELF) - began
	if err := errors.Join(syscall.Shutdown(fd, syscall.SHUT_RD), <-failed); err != nil { // accept returns
		return err
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	r.Conns, r.Ended, r.Untagged = conns.Load(), ended.Load(), untagged.Load()
	r.ServerCPU = perConn(spent, r.Conns)
	if r.Resident, err = resident(); err != nil {
		return err
	}
	if tracer != nil {
		s, err := tracer.Stats()
		if err != nil {
			return err
		}
		r.Lost, r.Missed = s.Lost, s.Missed
		if mode == "timed" {
			if r.Probes, err = probes(r.Conns); err != nil {
				return err
			}
			r.Reader, r.Tag = perConn(reader-before, r.Conns), perConn(tag, r.Conns)-asking()
		}
		if err := tracer.Close(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// probes is what each probe of this machine took, for each connection. Those of other processes that trace would count, too.
func probes(conns uint64) (map[string]float64, error) {
	spent := make(map[string]float64)
	id := ebpf.ProgramID(0)
	for range 100000 {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it has gone meanwhile
		}
		info, err := p.Info()
		stats, err2 := p.Stats()
		if err := errors.Join(err, err2, p.Close()); err != nil {
			return nil, err
		}
		if info.Type == ebpf.Tracing && strings.HasPrefix(info.Name, "on_") && stats.Runtime > 0 {
			spent[info.Name] += perConn(stats.Runtime, conns)
		}
	}
	return spent, nil
}

// loop accepts connections until the listener is shut down.
func loop(fd int, accepted func(int) error) error {
	b := make([]byte, 64)
	for {
		conn, _, err := syscall.Accept4(fd, syscall.SOCK_CLOEXEC)
		if err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err == syscall.EINVAL {
			return nil
		}
		if err != nil {
			return err
		}
		if err := accepted(conn); err != nil {
			return err
		}
		for {
			n, err := syscall.Read(conn, b)
			if n <= 0 && err != syscall.EINTR {
				break
			}
		}
		if err := syscall.Close(conn); err != nil {
			return err
		}
	}
}

func perConn(d time.Duration, conns uint64) float64 {
	return float64(d.Microseconds()) / float64(max(conns, 1))
}

// resident is this process's resident memory, in bytes.
func resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}

// asking is what asking for the thread's time twice costs, in µs.
func asking() float64 {
	const times = 10000
	began := threadTime()
	for range times {
		_ = threadTime()
	}
	return perConn(threadTime()-began, times)
}

// threadTime is how long the calling thread has computed.
func threadTime() time.Duration {
	const threadClock = 3 // CLOCK_THREAD_CPUTIME_ID of linux/time.h
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// cpu is the time that a process has computed.
func cpu(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// run is one round: a server of its own, and connections at a pace.
func run(mode string, d time.Duration, rate int) (round, error) {
	self, err := os.Executable()
	if err != nil {
		return round{}, err
	}
	server := exec.Command(self, "-serve", mode)
	server.Stderr = os.Stderr
	input, err := server.StdinPipe()
	if err != nil {
		return round{}, err
	}
	output, err := server.StdoutPipe()
	if err != nil {
		return round{}, err
	}
	if err := server.Start(); err != nil {
		return round{}, err
	}
	lines := bufio.NewReader(output)
	line, err := lines.ReadString('\n')
	if err != nil {
		return round{}, errors.Join(err, server.Wait())
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return round{}, err
	}
	began, before := time.Now(), cpu(syscall.RUSAGE_SELF)
	if err := load(port, d, rate); err != nil {
		return round{}, errors.Join(err, server.Process.Kill(), server.Wait())
	}
	took, spent := time.Since(began), cpu(syscall.RUSAGE_SELF)-before
	if err := input.Close(); err != nil {
		return round{}, err
	}
	var r round
	err = json.NewDecoder(lines).Decode(&r)
	if err = errors.Join(err, server.Wait()); err != nil {
		return r, err
	}
	r.Seconds, r.PerSecond, r.ClientCPU = took.Seconds(), float64(r.Conns)/took.Seconds(), perConn(spent, r.Conns)
	return r, nil
}

// load connects and closes at a pace, on two threads.
func load(port int, d time.Duration, rate int) error {
	const threads = 2
	errs := make(chan error, threads)
	var next atomic.Uint64
	var wg sync.WaitGroup
	began := time.Now()
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for {
				n := next.Add(1) - 1
				due := time.Duration(float64(n) / float64(rate) * float64(time.Second))
				if due >= d {
					return
				}
				if wait := due - time.Since(began); wait > 0 {
					t := syscall.NsecToTimespec(int64(wait))
					_ = syscall.Nanosleep(&t, nil)
				}
				if err := connect(port, n); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// connect opens a connection and closes it, from one of many addresses: a closed one keeps its port for a minute.
func connect(port int, n uint64) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT of linux/in.h
	from := n / 4000 % 60000
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1),
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 1, byte(from >> 8), byte(from)}}),
		syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}),
	)
	return errors.Join(err, syscall.Close(fd))
}

// result is all that was measured.
type result struct {
	Rounds []round `json:"rounds"`
	Long   *round  `json:"long,omitempty"`
	Added  float64 `json:"added_us"`        // CPU for each connection, of both processes: median with less median without
	Share  float64 `json:"share_of_server"` // of what the server's process alone spends without tracing
	Timed  *round  `json:"timed"`

	Gateway     []gatewayRound     `json:"gateway,omitempty"`
	Established []establishedRound `json:"established,omitempty"`
}

// timed is the round that adds up.
func (all *result) timed(d time.Duration, rate int, without float64) error {
	r, err := run("timed", d, rate)
	if err != nil {
		return err
	}
	all.Timed = &r
	sum := r.Reader + r.Tag
	fmt.Printf("timed: ")
	for _, name := range slices.Sorted(maps.Keys(r.Probes)) {
		sum += r.Probes[name]
		fmt.Printf("%s %.2f, ", name, r.Probes[name])
	}
	fmt.Printf("Tag %.2f, reading events %.2f: %.1f µs a connection, %.0f %% of the server's process without (%.1f µs)\n", r.Tag, r.Reader, sum, 100*sum/without, without)
	return nil
}

func measure(modes []string, rounds int, each, long time.Duration, rate int, out, longwire string) error {
	var all result
	fmt.Printf("%-5s %8s %9s %12s %12s %9s %6s %6s\n", "mode", "conns", "conn/s", "server µs", "client µs", "ended", "lost", "MB")
	show := func(r round) {
		fmt.Printf("%-5s %8d %9.0f %12.1f %12.1f %9d %6d %6.1f\n", r.Mode, r.Conns, r.PerSecond, r.ServerCPU, r.ClientCPU, r.Ended, r.Lost, float64(r.Resident)/(1<<20))
	}
	for range rounds {
		for _, mode := range modes {
			r, err := run(mode, each, rate)
			if err != nil {
				return err
			}
			show(r)
			all.Rounds = append(all.Rounds, r)
		}
	}
	median := func(mode string, f func(round) float64) float64 {
		var list []float64
		for _, r := range all.Rounds {
			if r.Mode == mode {
				list = append(list, f(r))
			}
		}
		if len(list) == 0 {
			return 0
		}
		slices.Sort(list)
		return (list[len(list)/2] + list[(len(list)-1)/2]) / 2
	}
	server := func(r round) float64 { return r.ServerCPU }
	both := func(r round) float64 { return r.ServerCPU + r.ClientCPU }
	for _, mode := range modes {
		if mode == "off" || mode == "timed" || !slices.Contains(modes, "off") {
			continue
		}
		added := median(mode, both) - median("off", both)
		share := added / median("off", server)
		fmt.Printf("%s: %+.1f µs a connection, server's process %+.1f µs; %.0f %% of what the server's process spends without (%.1f µs), %.0f %% of both (%.1f µs)\n", mode, added,
			median(mode, server)-median("off", server), 100*share, median("off", server), 100*added/median("off", both), median("off", both))
		if mode == "on" {
			all.Added, all.Share = added, share
		}
	}
	if err := all.timed(each, rate, median("off", server)); err != nil {
		return err
	}
	if longwire != "" {
		g, err := measureGateway(longwire, rounds, each)
		if err != nil {
			return err
		}
		all.Gateway = g
		if all.Established, err = measureEstablished(longwire, rounds, each); err != nil {
			return err
		}
	}
	lost := false
	if long > 0 {
		r, err := run("on", long, rate)
		if err != nil {
			return err
		}
		show(r)
		fmt.Printf("of %d connections in %.1f s: %d ends told with their session, %d without, %d lost; %d steps missed; %v\n", r.Conns, r.Seconds, r.Ended, r.Untagged, r.Lost, r.Missed, r.Verdicts)
		all.Long = &r
		lost = r.Lost > 0 || r.Ended != r.Conns
	}
	if out != "" {
		b, err := json.MarshalIndent(all, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
			return err
		}
	}
	if lost {
		return errors.New("not every end was told")
	}
	return nil
}
