package trace

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/trace/tracetest"
	"github.com/longwire/longwire/internal/waittest"
)

const patience = 60 * time.Second

// childVariable makes the test binary another process: a server that is going to be killed, or unprivileged.
const childVariable = "LONGWIRE_TRACE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(childVariable); mode {
	case "":
	case "drop-first", "drop-later", "no-btf", "filtered", "setcap":
		if err := json.NewEncoder(os.Stdout).Encode(unprivileged(mode)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	default:
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// child accepts one connection of the listener that it inherited, says so, and waits for its end.
func child() int {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err == nil {
		var c net.Conn
		if c, err = l.Accept(); err == nil {
			fmt.Println("accepted")
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = c.Close()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

type pair = tracetest.Pair

// What becomes of a socket's packets.
const (
	arrives = tracetest.Arrives
	lost    = tracetest.Lost
	away    = tracetest.Away
)

// listen listens in the server's namespace, without keepalive.
func listen(t *testing.T, p *pair) *net.TCPListener {
	t.Helper()
	return p.Listen(t, net.ListenConfig{KeepAlive: -1})
}

// fd is a socket's descriptor, which stays the connection's.
func fd(t *testing.T, c syscall.Conn) int {
	t.Helper()
	return tracetest.Descriptor(t, c)
}

// ends collects the ends that a tracer tells.
type ends struct {
	mu    sync.Mutex
	lives map[[16]byte]Life
	by    map[netip.AddrPort]Life
	twice int
}

func newEnds() *ends {
	return &ends{lives: make(map[[16]byte]Life), by: make(map[netip.AddrPort]Life)}
}

func (e *ends) handle(v *Event) {
	if v.Kind != KindEnded {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.lives[v.Session]; ok && v.Session != [16]byte{} {
		e.twice++
	}
	e.lives[v.Session] = *v.Life
	e.by[v.Remote] = *v.Life
}

func (e *ends) of(id [16]byte) (Life, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, ok := e.lives[id]
	return l, ok
}

// start opens a tracer and runs it until the test ends.
func start(t *testing.T, o Options, network *sys.Network) *Tracer {
	t.Helper()
	var tracer *Tracer
	open := func() (err error) {
		tracer, err = Open(o)
		return err
	}
	var err error
	if network != nil {
		err = network.Do(open)
	} else {
		err = open()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- tracer.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
	})
	return tracer
}

// needBPF skips a test where the probes are refused.
func needBPF(t *testing.T, tracer *Tracer) {
	t.Helper()
	if tracer.Level() != LevelBPF {
		t.Skipf("the probes are not to be had here: %v", tracer.Refused())
	}
}

// scene is one connection of one ending.
type scene struct {
	*testing.T
	*pair
	c, s     *net.TCPConn
	port     int // the client's
	fd       int // the server's
	clientFD int
	id       [16]byte
	told     []*Tracer // below LevelBPF

	local net.Addr
}

// fate says what becomes of what a side sends from now on: of the client's and the server's.
func (s *scene) fate(client, server tracetest.Fate) {
	s.Helper()
	if err := errors.Join(client.Befall(s.clientFD), server.Befall(s.fd)); err != nil {
		s.Fatal(err)
	}
}

// hear lets what the server sends arrive again.
func (s *scene) hear() {
	s.Helper()
	if err := arrives.Befall(s.fd); err != nil {
		s.Fatal(err)
	}
}

// finish closes the server's side as the gateway does: having told what it saw.
func (s *scene) finish(seen Seen) {
	s.Helper()
	for _, t := range s.told {
		if err := t.Closing(s.fd, s.id, seen); err != nil {
			s.Errorf("Closing: %v", err)
		}
	}
	if err := s.s.Close(); err != nil {
		s.Errorf("close: %v", err)
	}
}

// read waits for the end of what the client sends.
func (s *scene) read() Seen {
	s.Helper()
	if err := s.s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.Fatal(err)
	}
	_, err := io.Copy(io.Discard, s.s)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.Fatal("the server's read neither ends nor fails")
	}
	return Seen{Err: err, EOF: err == nil}
}

func (s *scene) write(c *net.TCPConn, text string) {
	s.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		s.Fatalf("write: %v", err)
	}
}

func (s *scene) info() sys.TCPInfo {
	s.Helper()
	i, err := sys.SocketInfo(s.fd)
	if err != nil {
		s.Fatal(err)
	}
	return i
}

// abort has the client forget the connection: its RST is lost while the network is.
func (s *scene) abort() {
	s.Helper()
	if err := errors.Join(s.c.SetLinger(0), s.c.Close()); err != nil {
		s.Fatal(err)
	}
}

// judge waits for what a level tells of the connection, and compares.
func (s *scene) judge(level Level, ends *ends, want Verdict, show bool) {
	s.Helper()
	var life Life
	waittest.Until(s.T, fmt.Sprintf("its end, at level %v", level), func() (ok bool) { life, ok = ends.of(s.id); return ok })
	if got := life.Verdict(); got != want || life.Level != level {
		s.Errorf("level %v says %v, want %v of %v: %+v", life.Level, got, want, level, life)
	}
	if show {
		s.Logf("%-5v %s", level, life.Explain())
	}
	// The first retransmission comes early, the third only after our close.
	least := map[Verdict]uint32{VerdictRetransmissionTimeout: 2, VerdictHalfOpen: 3}[want]
	if life.Retransmits < least {
		s.Errorf("level %v counts %d segments that were sent anew, want at least %d", level, life.Retransmits, least)
	}
	if level != LevelBPF {
		return
	}
	local, remote := netip.MustParseAddrPort(s.local.String()), netip.AddrPortFrom(netip.MustParseAddr(tracetest.ClientAddr), uint16(s.port))
	if life.Local != local || life.Remote != remote {
		s.Errorf("it was between %v and %v, want %v and %v", life.Local, life.Remote, local, remote)
	}
	if life.Established.IsZero() || life.Closed.Before(life.Established) || life.Closed.After(time.Now().Add(time.Second)) {
		s.Errorf("established %v, closed %v", life.Established, life.Closed)
	}
	if life.Path.Last() != sys.SocketClosed {
		s.Errorf("its states were %v", life.Path)
	}
}

// hearEnd waits until the client sees our FIN, and closes.
func (s *scene) hearEnd() {
	s.Helper()
	if _, err := io.Copy(io.Discard, s.c); err != nil {
		s.Errorf("the client reads: %v", err)
	}
}

// endings are the ways in which a connection may end, and what each level says. VerdictUnknown of LevelDiag or LevelErrno
// says that it tells nothing. docs/trace.md has the table.
var endings = []struct {
	name             string
	bpf, diag, errno Verdict
	run              func(*scene)
}{
	{"client FIN", VerdictClientFIN, VerdictClientFIN, VerdictClientFIN, func(s *scene) {
		_ = s.c.Close()
		s.finish(s.read())
	}},
	{"server FIN", VerdictServerFIN, VerdictServerFIN, VerdictServerFIN, func(s *scene) {
		s.finish(Seen{})
		s.hearEnd()
		_ = s.c.Close()
	}},
	{"client FIN, then data and FIN of ours", VerdictClientFIN, VerdictClientFIN, VerdictClientFIN, func(s *scene) {
		_ = s.c.CloseWrite()
		seen := s.read()
		s.write(s.s, "bye")
		s.finish(seen)
		s.hearEnd()
		_ = s.c.Close()
	}},
	{"RST received", VerdictClientReset, VerdictClientReset, VerdictClientReset, func(s *scene) {
		s.abort()
		s.finish(s.read())
	}},
	{"RST received after the client's FIN", VerdictClientResetAfterFIN, VerdictClientResetAfterFIN, VerdictClientResetAfterFIN, func(s *scene) {
		_ = s.c.Close()
		seen := s.read()
		waittest.Until(s.T, "an RST answers data", func() bool {
			_, seen.Err = s.s.Write([]byte("data"))
			return seen.Err != nil
		})
		s.finish(seen)
	}},
	{"RST received, client had forgotten", VerdictClientResetUnacked, VerdictClientResetUnacked, VerdictClientResetUnacked, func(s *scene) {
		s.fate(lost, lost)
		s.abort()
		s.hear()
		s.write(s.s, "ping")
		s.finish(s.read())
	}},
	{"RST received after retransmissions", VerdictClientResetUnacked, VerdictClientResetUnacked, VerdictClientResetUnacked, func(s *scene) {
		s.fate(lost, lost)
		s.abort()
		s.write(s.s, "still there?")
		waittest.Until(s.T, "retransmission", func() bool { return s.info().Timeouts > 0 })
		s.hear()
		s.finish(s.read())
	}},
	{"RST sent: SO_LINGER 0", VerdictServerResetAborted, VerdictServerResetAborted, VerdictServerResetAborted, func(s *scene) {
		if err := s.s.SetLinger(0); err != nil {
			s.Fatal(err)
		}
		s.finish(Seen{Aborted: true})
	}},
	{"RST sent: closed with unread data", VerdictServerResetUnread, VerdictServerResetUnread, VerdictServerResetUnread, func(s *scene) {
		s.write(s.c, "unread")
		waittest.Until(s.T, "data", func() bool { n, err := sys.UnreadBytes(s.fd); return err == nil && n > 0 })
		s.finish(Seen{})
	}},
	{"RST sent: data after our FIN", VerdictServerResetLate, VerdictServerFIN, VerdictServerFIN, func(s *scene) {
		s.fate(arrives, lost)
		s.finish(Seen{})
		s.write(s.c, "late")
	}},
	{"data when all was over (TIME_WAIT)", VerdictServerFIN, VerdictServerFIN, VerdictServerFIN, func(s *scene) {
		s.finish(Seen{})
		s.hearEnd()
		s.write(s.c, "late")
		_ = s.c.Close()
	}},
	{"retransmission timeout", VerdictRetransmissionTimeout, VerdictRetransmissionTimeout, VerdictRetransmissionTimeout, func(s *scene) {
		s.fate(lost, lost)
		s.write(s.s, "hello?")
		s.finish(s.read())
	}},
	{"TCP_USER_TIMEOUT", VerdictRetransmissionTimeout, VerdictRetransmissionTimeout, VerdictRetransmissionTimeout, func(s *scene) {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1000); err != nil {
			s.Fatal(err)
		}
		s.fate(lost, lost)
		s.write(s.s, "hello?")
		s.finish(s.read())
	}},
	{"keepalive timeout", VerdictKeepaliveTimeout, VerdictKeepaliveTimeout, VerdictKeepaliveTimeout, func(s *scene) {
		if err := s.s.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}); err != nil {
			s.Fatal(err)
		}
		s.fate(lost, lost)
		s.finish(s.read())
	}},
	{"zero window", VerdictZeroWindow, VerdictZeroWindow, VerdictZeroWindow, func(s *scene) {
		if err := s.s.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			s.Fatal(err)
		}
		for range 1000 {
			if _, err := s.s.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		tracetest.ShutWindow(s.T, s.fd)
		s.fate(lost, lost)
		s.finish(s.read())
	}},
	{"ICMP unreachable", VerdictUnreachable, VerdictUnreachable, VerdictUnreachable, func(s *scene) {
		s.fate(arrives, away)
		s.write(s.s, "hello?")
		s.finish(s.read())
	}},
	{"FIN never acknowledged", VerdictHalfOpen, VerdictHalfOpen, VerdictServerFIN, func(s *scene) {
		s.fate(lost, lost)
		s.write(s.s, "ping")
		waittest.Until(s.T, "retransmission", func() bool { return s.info().Timeouts > 0 })
		s.finish(Seen{})
	}},
	{"SOCK_DESTROY", VerdictDestroyed, VerdictDestroyed, VerdictDestroyed, func(s *scene) {
		tracetest.Run(s.T, "ip", "netns", "exec", s.Names[0], "ss", "-K", "dport", "=", fmt.Sprint(s.port))
		s.finish(s.read())
	}},
	{"silence, and then we give up", VerdictServerResetAborted, VerdictServerResetAborted, VerdictServerResetAborted, func(s *scene) {
		s.fate(lost, lost)
		s.write(s.s, "ping")
		waittest.Until(s.T, "retransmission", func() bool { return s.info().Timeouts > 0 })
		if err := s.s.SetLinger(0); err != nil {
			s.Fatal(err)
		}
		s.finish(Seen{Aborted: true})
	}},
}

// TestEndings brings about every ending three times, at once, and has each level judge it.
func TestEndings(t *testing.T) {
	t.Parallel()
	p := tracetest.NewPair(t)
	bpf, diag, errno := newEnds(), newEnds(), newEnds()
	kernel := start(t, Options{Handle: bpf.handle}, nil)
	needBPF(t, kernel)
	l := listen(t, p)
	var mu sync.Mutex
	steps := make(map[int]map[string]bool) // by the client's port
	start(t, Options{Port: uint16(l.Addr().(*net.TCPAddr).Port), Network: "/run/netns/" + p.Names[0], Steps: true, Handle: func(e *Event) {
		mu.Lock()
		defer mu.Unlock()
		port := int(e.Remote.Port())
		if steps[port] == nil {
			steps[port] = make(map[string]bool)
		}
		what := e.Kind.String()
		switch e.Kind {
		case KindError:
			what += " " + e.Err.Error()
		case KindRSTSent:
			if e.ResetReason == "" { // before Linux 6.10
				what += " " + reasonUnread
			} else {
				what += " " + e.ResetReason
			}
		case KindRetransmit:
			what = fmt.Sprintf("%s %d", what, min(e.Retransmits, 2))
		}
		steps[port][what] = true
	}}, nil)
	watch := start(t, Options{Level: LevelDiag, Handle: diag.handle}, p.Server)
	own := start(t, Options{Level: LevelErrno, Handle: errno.handle}, nil)
	if watch.Level() != LevelDiag || own.Level() != LevelErrno {
		t.Fatalf("levels are %v and %v: %v", watch.Level(), own.Level(), watch.Refused())
	}
	if err := kernel.TrackListener(fd(t, l)); err != nil {
		t.Fatal(err)
	}
	const rounds = 3
	t.Run("all", func(t *testing.T) {
		var all sync.WaitGroup // not t.Parallel, which runs as many as there are CPUs: these wait
		defer all.Wait()
		for i, e := range endings {
			for round := range rounds {
				c := p.Dial(t, l.Addr())
				conn, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				s := &scene{pair: p, c: c, s: conn.(*net.TCPConn), local: l.Addr(), port: c.LocalAddr().(*net.TCPAddr).Port, told: []*Tracer{watch, own}, id: [16]byte{1, byte(i), byte(round)}}
				s.fd, s.clientFD = fd(t, s.s), fd(t, s.c)
				if err := kernel.Tag(s.fd, s.id); err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(e.name, " ", "_"), round+1), func(t *testing.T) {
						s.T = t
						e.run(s)
						for _, level := range []struct {
							level Level
							ends  *ends
							want  Verdict
						}{{LevelBPF, bpf, e.bpf}, {LevelDiag, diag, e.diag}, {LevelErrno, errno, e.errno}} {
							s.judge(level.level, level.ends, level.want, round == 0)
						}
						for _, want := range map[Verdict][]string{
							VerdictClientReset:           {"rst_received", "error connection reset by peer"},
							VerdictServerResetUnread:     {"rst_sent " + reasonUnread},
							VerdictRetransmissionTimeout: {"retransmit 1", "retransmit 2", "error connection timed out"},
						}[e.bpf] {
							waittest.Until(t, "the step "+want, func() bool {
								mu.Lock()
								defer mu.Unlock()
								return steps[s.port][want]
							})
						}
					})
				})
			}
		}
	})
	for _, e := range []*ends{bpf, diag, errno} {
		if e.twice != 0 {
			t.Errorf("%d ends were told twice", e.twice)
		}
	}
	stats, err := kernel.Stats()
	if err != nil || stats.Lost != 0 || stats.Events < uint64(rounds*len(endings)) {
		t.Errorf("stats = %d events, %d lost, %v", stats.Events, stats.Lost, err)
	}
	if stats.Missed > 0 {
		t.Logf("probes missed %d hooks", stats.Missed)
	}
	if n := stats.Transitions[sys.SocketSynReceived][sys.SocketEstablished]; n != uint64(rounds*len(endings)) {
		t.Errorf("%d connections were established, want %d", n, rounds*len(endings))
	}
}

// TestEndingsPage holds the table of docs/trace.md to what is tested, and its list of verdicts to what there is.
func TestEndingsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/trace.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	want := []string{"| ending | bpf | diag | errno |", "|---|---|---|---|"}
	for _, e := range endings {
		want = append(want, fmt.Sprintf("| %s | `%s` | `%s` | `%s` |", e.name, e.bpf, e.diag, e.errno))
	}
	want = append(want, fmt.Sprintf("| process killed | `%s` | – | – |", VerdictProcessKilled), "")
	if table := strings.Join(want, "\n"); !strings.Contains(page, table) {
		t.Errorf("docs/trace.md has another table of endings than this one:\n%s", table)
	}
	for _, v := range Verdicts() {
		if !strings.Contains(page, fmt.Sprintf("\n| `%s` | ", v)) {
			t.Errorf("docs/trace.md does not say what %s means", v)
		}
	}
	for _, record := range []any{lifeJSON{}, eventJSON{}, Summary{}, Span{}} {
		for i := range reflect.TypeOf(record).NumField() {
			name, _, _ := strings.Cut(reflect.TypeOf(record).Field(i).Tag.Get("json"), ",")
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/trace.md does not name the field %s of %T", name, record)
			}
		}
	}
}

// TestNetwork traces a port of one network namespace, and not that of another.
func TestNetwork(t *testing.T) {
	t.Parallel()
	p := tracetest.NewPair(t)
	l := listen(t, p)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	there, diag, elsewhere, here := newEnds(), newEnds(), newEnds(), newEnds()
	needBPF(t, start(t, Options{Port: port, Network: "/run/netns/" + p.Names[0], Handle: there.handle}, nil))
	start(t, Options{Level: LevelDiag, Port: port, Network: "/run/netns/" + p.Names[0], Handle: diag.handle}, nil)
	start(t, Options{Port: port, Network: "/run/netns/" + p.Names[1], Handle: elsewhere.handle}, nil)
	start(t, Options{Port: port, Handle: here.handle}, nil)
	for range 2 {
		c := p.Dial(t, l.Addr())
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		_, _ = io.Copy(io.Discard, s)
		_ = s.Close()
		remote := c.LocalAddr().(*net.TCPAddr).AddrPort()
		for _, e := range []*ends{there, diag} {
			waittest.Until(t, "its end", func() bool {
				e.mu.Lock()
				defer e.mu.Unlock()
				_, ok := e.by[remote]
				return ok
			})
		}
	}
	for _, e := range []*ends{elsewhere, here} {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.by) != 0 {
			t.Errorf("another namespace's tracer tells %+v", e.by)
		}
	}
}

// TestProcessKilled kills a server three times.
func TestProcessKilled(t *testing.T) {
	t.Parallel()
	p := tracetest.NewPair(t)
	bpf, diag := newEnds(), newEnds()
	kernel := start(t, Options{Handle: bpf.handle}, nil)
	needBPF(t, kernel)
	l := listen(t, p)
	start(t, Options{Level: LevelDiag, Port: uint16(l.Addr().(*net.TCPAddr).Port), Handle: diag.handle}, p.Server)
	if err := kernel.TrackListener(fd(t, l)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		server := exec.Command(self)
		server.Env = append(os.Environ(), childVariable+"=server")
		server.ExtraFiles = []*os.File{f}
		server.Stderr = os.Stderr
		stdin, err := server.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdin.Close() }()
		out, err := server.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		c := p.Dial(t, l.Addr())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "accepted\n" {
			t.Fatalf("the server says %q, %v", line, err)
		}
		remote := c.LocalAddr().(*net.TCPAddr).AddrPort()
		if err := server.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = server.Wait()
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("the client reads: %v", err)
		}
		_ = c.Close()
		var life Life
		waittest.Until(t, "its end", func() (ok bool) {
			bpf.mu.Lock()
			defer bpf.mu.Unlock()
			life, ok = bpf.by[remote]
			return ok
		})
		if got := life.Verdict(); got != VerdictProcessKilled {
			t.Errorf("verdict %v, want %v: %+v", got, VerdictProcessKilled, life)
		}
		t.Log(life.Explain())
		// A stranger's, to level diag: it may have looked between the two FINs.
		waittest.Until(t, "its end at level diag", func() (ok bool) {
			diag.mu.Lock()
			defer diag.mu.Unlock()
			life, ok = diag.by[remote]
			return ok
		})
		if got := life.Verdict(); got != VerdictUnknown && got != VerdictServerFIN || life.Level != LevelDiag || !life.FINAcked {
			t.Errorf("level diag says %v of a stranger's: %+v", got, life)
		}
	}
}
