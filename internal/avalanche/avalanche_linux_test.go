package avalanche

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/sys"
)

// childRole, in the environment, makes this program the server of a test: "descriptors" or "memory".
const childRole = "LONGWIRE_AVALANCHE_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := serve(role); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m, leaktest.Descriptors)
}

// serve listens with a backlog of 128, says on which port, accepts until it may not or, for "memory", until its
// memory is nearly used up, says "full", and stays until its standard input ends.
func serve(role string) error {
	kind, argument, _ := strings.Cut(role, " ")
	if kind == "descriptors" {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 32, Max: 32}); err != nil {
			return err
		}
	}
	listener, port, err := listen(128)
	if err != nil {
		return err
	}
	fmt.Println(port)
	switch kind {
	case "descriptors":
		if err := unix.SetNonblock(listener, false); err != nil {
			return err
		}
		for {
			if _, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC); err == unix.EMFILE {
				break
			} else if err != nil {
				return err
			}
		}
	case "memory":
		limit, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		var p sys.Process
		look := func() error {
			var err error
			p, err = sys.ReadProcess(os.DirFS("/"), os.Getpid())
			return err
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range 2000 { // until it is in its cgroup
			if err := look(); err != nil {
				return err
			}
			if p.MemoryLimit == uint64(limit) {
				break
			}
			<-tick.C
		}
		for p.MemoryUsed < uint64(limit)/100*96 {
			b, err := unix.Mmap(-1, 0, 256<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			if err := look(); err != nil {
				return err
			}
		}
	}
	fmt.Println("full")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// listen on a port of loopback, not blocking.
func listen(backlog int) (fd, port int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, 0, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err == nil {
		var sa unix.Sockaddr
		if sa, err = unix.Getsockname(fd); err == nil {
			port = sa.(*unix.SockaddrInet4).Port
		}
	}
	return fd, port, err
}

// stage is a network namespace with a server in it, clients, and what is seen of them. Its clock moves by an interval
// with each look.
type stage struct {
	t        *testing.T
	network  *sys.Network
	listener int // -1: the server is a process of its own
	port     int
	fds      []int
	clients  Clients
	sampler  *Sampler
	samples  []Sample
	steps    []Step
}

func newStage(t *testing.T, backlog int) *stage {
	t.Helper()
	network, err := sys.NewNetwork()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skipf("a network namespace of its own needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, network: network, listener: -1}
	t.Cleanup(func() {
		for _, fd := range s.fds {
			_ = unix.Close(fd)
		}
		_ = network.Close()
	})
	if backlog > 0 {
		s.do(func() (err error) {
			s.listener, s.port, err = listen(backlog)
			s.fds = append(s.fds, s.listener)
			return err
		})
		s.watch(0)
	}
	return s
}

func (s *stage) watch(pid int) {
	s.sampler = NewSampler(Options{Port: uint16(s.port), Network: s.network, PID: pid})
	s.t.Cleanup(func() { _ = s.sampler.Close() })
	if m := s.sampler.Missing(); len(m) > 0 {
		s.t.Fatalf("not everything can be seen: %q", m)
	}
}

func (s *stage) do(f func() error) {
	s.t.Helper()
	if err := s.network.Do(f); err != nil {
		s.t.Fatal(err)
	}
}

// connect begins n connects.
func (s *stage) connect(n int) {
	s.t.Helper()
	s.do(func() error {
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			s.fds = append(s.fds, fd)
			s.clients.Attempted++
			switch err := unix.Connect(fd, &unix.SockaddrInet4{Port: s.port, Addr: [4]byte{127, 0, 0, 1}}); err {
			case nil, unix.EINPROGRESS:
			case unix.EADDRNOTAVAIL:
				s.clients.Failed.NoPort++
			default:
				return err
			}
		}
		return nil
	})
}

// accept takes at most n conns, and says how many.
func (s *stage) accept(n int) (accepted int) {
	s.t.Helper()
	for range n {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.fds = append(s.fds, fd)
		accepted++
	}
	return accepted
}

// answer accepts at most n conns, and has their clients count them as open.
func (s *stage) answer(n int) {
	s.t.Helper()
	k := int64(s.accept(n))
	s.clients.Opened += k
	s.clients.Open += k
}

// look samples everything.
func (s *stage) look() Sample {
	x := s.sampler.Sample(time.Duration(len(s.samples)+1)*interval, s.clients)
	s.samples = append(s.samples, x)
	return x
}

// step is what f does, at one level of load.
func (s *stage) step(broken bool, f func()) {
	begin := time.Duration(len(s.samples)) * interval
	f()
	s.steps = append(s.steps, Step{Begin: begin, End: time.Duration(len(s.samples)) * interval, Conns: s.clients.Attempted, Broken: broken})
}

// held is a step of four conns that all went well.
func (s *stage) held() {
	s.step(false, func() {
		s.connect(4)
		s.answer(4)
		s.look()
		s.look()
	})
}

// explain checks what is made of it.
func (s *stage) explain(cause Cause, confidence Confidence, links ...string) Explanation {
	s.t.Helper()
	e := Explain(s.steps, s.samples)
	if e.FirstCause != cause || e.Confidence != confidence {
		s.t.Errorf("first cause %q (%s): %s; want %q (%s)", string(e.FirstCause), e.Confidence, e.Why, string(cause), confidence)
	}
	at := 0
	for _, l := range e.Chain {
		if at < len(links) && l.What == links[at] {
			at++
		}
	}
	if at < len(links) {
		s.t.Errorf("%q is not in its place in %+v", links[at], e.Chain)
	}
	return e
}

func TestRealSmallBacklog(t *testing.T) {
	s := newStage(t, 8)
	s.held()
	s.held()
	s.step(true, func() {
		s.connect(100)
		s.look()
		s.answer(100)
		s.clients.Failed.Connect = s.clients.Attempted - s.clients.Opened
		s.look()
		// The kernel sends the SYNs again after a second.
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 500 {
			var c sys.NetCounters
			s.do(func() (err error) { c, err = sys.ReadNetCounters(os.DirFS("/"), 0); return err })
			if c.SynRetrans >= 50 {
				break
			}
			<-tick.C
		}
		s.answer(100)
		s.look()
	})
	s.explain(SmallBacklog, High, "load rises", "the accept queue is full", "the accept queue overflows", "SYNs are dropped", "SYNs are sent again", "retransmission storm")
	if q := s.samples[4].Queue; q != (Queue{true, 9, 8}) {
		t.Errorf("accept queue after 100 connects = %+v, want 9 of 8", q)
	}
	if pid := s.sampler.PID(); pid != os.Getpid() {
		t.Errorf("the server's process is %d, want %d", pid, os.Getpid())
	}
}

func TestRealSlowAccept(t *testing.T) {
	s := newStage(t, 64)
	s.held()
	s.step(true, func() {
		for range 12 {
			s.connect(10)
			s.answer(1)
			s.look()
		}
	})
	s.explain(SlowAccept, High, "load rises", "the accept queue is full", "the accept queue overflows", "SYNs are dropped")
}

func TestRealPortExhaustion(t *testing.T) {
	s := newStage(t, 512)
	s.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("41000 41009"), 0)
	})
	s.held()
	s.held()
	s.step(true, func() {
		s.connect(20)
		s.answer(20)
		s.look()
	})
	s.explain(PortExhaustion, High, "load rises", "local ports run out", "attempts fail")
	if n := s.clients.Failed.NoPort; n != 18 {
		t.Errorf("%d of 28 attempts found no port of ten, want 18", n)
	}
}

func TestRealSlowHandshake(t *testing.T) {
	s := newStage(t, 512)
	s.held()
	s.step(true, func() {
		s.connect(40)
		for i := range int64(4) { // accepted, not answered
			s.accept(40)
			s.clients.Failed.Handshake = 10 * (i + 1)
			s.look()
		}
	})
	s.explain(SlowHandshake, High, "load rises", "attempts fail")
}

func TestRealHealthy(t *testing.T) {
	for _, broken := range []bool{false, true} {
		s := newStage(t, 512)
		for range 4 {
			s.held()
		}
		s.step(broken, func() {
			s.connect(200)
			s.look() // all of them wait, for a moment
			s.answer(200)
			s.look()
			s.look()
		})
		if e := s.explain(None, ""); s.clients.Open != 216 {
			t.Errorf("%d conns are open, want 216: %+v", s.clients.Open, e)
		}
	}
}

// child starts this program as a server in the stage's namespace.
func (s *stage) child(role string) (pid int, out *bufio.Reader) {
	s.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childRole+"="+role)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.do(c.Start)
	s.t.Cleanup(func() {
		_ = in.Close()
		_ = c.Wait()
	})
	return c.Process.Pid, bufio.NewReader(stdout)
}

func (s *stage) line(out *bufio.Reader) string {
	s.t.Helper()
	text, err := out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("the server says %q: %v", text, err)
	}
	return strings.TrimSpace(text)
}

func TestRealDescriptorLimit(t *testing.T) {
	s := newStage(t, 0)
	pid, out := s.child("descriptors")
	var err error
	if s.port, err = strconv.Atoi(s.line(out)); err != nil {
		t.Fatal(err)
	}
	s.watch(pid)
	open := func(n int) {
		s.connect(n)
		s.clients.Opened += int64(n)
		s.clients.Open = s.clients.Opened
	}
	for range 2 {
		s.step(false, func() {
			open(4)
			s.look()
		})
	}
	s.step(true, func() {
		s.connect(60)
		if text := s.line(out); text != "full" {
			t.Fatalf("the server says %q", text)
		}
		x := s.look()
		s.clients.Failed.Handshake = x.Queue.Length
		s.clients.Opened = s.clients.Attempted - x.Queue.Length
		s.look()
		s.look()
		if x.Queue.Length < 30 || x.Target.Descriptors < 32 { // it may have inherited one above its limit
			t.Errorf("%d conns wait and %d descriptors are open, want 30 and 32 at least", x.Queue.Length, x.Target.Descriptors)
		}
	})
	s.explain(DescriptorLimit, High, "load rises", "the server's descriptors run out", "attempts fail")
}

func TestRealMemoryLimit(t *testing.T) {
	const limit = 64 << 20
	group := memoryGroup(t, limit)
	s := newStage(t, 0)
	pid, out := s.child(fmt.Sprint("memory ", limit))
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Skipf("a process can't be put into a cgroup here: %v", err)
	}
	var err error
	if s.port, err = strconv.Atoi(s.line(out)); err != nil {
		t.Fatal(err)
	}
	s.watch(pid)
	// A sample of before it grew.
	s.samples = append(s.samples, Sample{At: interval, Clients: s.clients, Target: Target{Known: true, Resident: 1 << 20, MemoryUsed: 1 << 20, MemoryLimit: limit}})
	s.steps = append(s.steps, Step{End: interval, Conns: 4})
	s.step(true, func() {
		s.connect(20)
		if text := s.line(out); text != "full" {
			t.Fatalf("the server says %q", text)
		}
		s.clients.Failed.Handshake = 20
		if x := s.look(); x.Target.MemoryLimit != limit {
			t.Errorf("the server's memory limit is %d, want %d", x.Target.MemoryLimit, limit)
		}
		s.look()
	})
	s.explain(MemoryLimit, High, "load rises", "memory runs out")
}

// memoryGroup makes a cgroup with a memory limit, of either version, or skips the test.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("longwire-test-%d", os.Getpid())
	var problems []error
	for _, g := range [][2]string{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir := filepath.Join(g[0], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			problems = append(problems, err)
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, g[1]), os.O_WRONLY, 0) // not created where the directory is no cgroup
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(limit))
			err = errors.Join(err, f.Close())
		}
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			return dir
		}
		problems = append(problems, err, os.Remove(dir))
	}
	t.Skipf("a cgroup with a memory limit can't be made here: %v", errors.Join(problems...))
	return ""
}
