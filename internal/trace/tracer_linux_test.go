package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/waittest"
)

// listenHere listens on loopback, with TCP and not MPTCP.
func listenHere() (*net.TCPListener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// connect makes a connection with it.
func connect(l *net.TCPListener) (client, server *net.TCPConn, err error) {
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	s, err := l.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c.(*net.TCPConn), s.(*net.TCPConn), nil
}

// report is what a child without privileges says.
type report struct {
	Level   Level
	Refused []string
	Verdict string
	Tagged  bool
	Failed  string
}

// unprivileged is a process that drops its privileges, before or after it opens its tracer, or has a kernel without type
// information, and then traces a connection.
func unprivileged(mode string) (r report) {
	fail := func(err error) report {
		r.Failed = err.Error()
		return r
	}
	switch mode {
	case "drop-first":
		if err := DropPrivileges(); err != nil {
			return fail(err)
		}
	case "no-btf": // in a mount namespace of its own
		if err := errors.Join(unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", "/sys/kernel/btf", "tmpfs", 0, "")); err != nil {
			return fail(err)
		}
	case "filtered":
		if err := refuseBPF(); err != nil {
			return fail(err)
		}
	}
	l, err := listenHere()
	if err != nil {
		return fail(err)
	}
	told := make(chan Life, 1)
	id := [16]byte{7}
	o := Options{Handle: func(e *Event) {
		if e.Kind == KindEnded {
			told <- *e.Life
		}
	}}
	if mode == "setcap" { // as longwire trace does, which looks up its own network
		o.Port = uint16(l.Addr().(*net.TCPAddr).Port)
	}
	tracer, err := Open(o)
	if err != nil {
		return fail(err)
	}
	r.Level = tracer.Level()
	for _, x := range tracer.Refused() {
		r.Refused = append(r.Refused, x.String())
	}
	descriptor := func(c interface {
		File() (*os.File, error)
	}) int {
		f, err := c.File()
		if err != nil {
			return -1
		}
		return int(f.Fd())
	}
	if err := tracer.TrackListener(descriptor(l)); err != nil {
		return fail(err)
	}
	if mode == "drop-later" {
		if err := DropPrivileges(); err != nil {
			return fail(err)
		}
		if have, err := sys.Capabilities(); err != nil || have != 0 {
			return fail(fmt.Errorf("capabilities left: %x, %v", have, err))
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx) }()
	c, s, err := connect(l)
	if err != nil {
		return fail(err)
	}
	f, err := s.File()
	if err != nil {
		return fail(err)
	}
	if err := tracer.Tag(int(f.Fd()), id); err != nil {
		return fail(err)
	}
	_ = c.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		return fail(errors.New("the client sent something"))
	}
	if err := tracer.Closing(int(f.Fd()), id, Seen{EOF: true}); err != nil {
		return fail(err)
	}
	_, _ = f.Close(), s.Close()
	select {
	case life := <-told:
		r.Verdict, r.Tagged = life.Verdict().String(), life.Session == id
	case <-time.After(patience):
		return fail(errors.New("the end was not told"))
	}
	stop()
	if err := errors.Join(<-done, tracer.Close()); err != nil {
		return fail(err)
	}
	return r
}

// refuseBPF has bpf(2) fail from now on in every thread, as filters of containers do.
func refuseBPF() error {
	f := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // struct seccomp_data: the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_BPF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	p := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	runtime.LockOSThread() // the thread that may is the one that does
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return fmt.Errorf("filter: %w", errno)
	}
	return nil
}

// granted is a copy of this program that has the capabilities which docs/trace.md says to give it, for any user. It skips the
// test where files can't have any.
func granted(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/trace.md")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile(`(?m)^setcap (\S+) /usr/local/bin/longwire$`).FindSubmatch(page)
	if recipe == nil {
		t.Fatal("docs/trace.md has no recipe with setcap")
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "longwire")
	// Others may not look into a test's directories.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(name, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", string(recipe[1]), name).CombinedOutput(); err != nil {
		t.Skipf("no file capabilities here: %v %s", err, out)
	}
	return name
}

// TestPrivileges has a process without capabilities, one on a kernel without type information, and one behind a filter work at a
// lower level and say why, and one that drops its privileges afterwards go on. One of another user has what its file was given.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("dropping privileges needs some")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode    string
		want    Level
		refused string
	}{
		{"drop-first", LevelDiag, "level bpf: this process lacks CAP_BPF and CAP_PERFMON"},
		{"no-btf", LevelDiag, "level bpf: type information of the kernel (CONFIG_DEBUG_INFO_BTF"},
		{"drop-later", LevelBPF, ""},
		{"filtered", LevelDiag, "level bpf: the kernel refuses BPF although the capabilities are there (a container's filter, or lockdown=confidentiality): "},
		{"setcap", LevelBPF, ""},
	} {
		child := exec.Command(self)
		switch c.mode {
		case "no-btf":
			child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		case "setcap":
			child = exec.Command(granted(t))
			child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		child.Env = append(os.Environ(), childVariable+"="+c.mode)
		var out, stderr bytes.Buffer
		child.Stdout, child.Stderr = &out, &stderr
		if err := child.Run(); err != nil {
			t.Fatalf("%s: %v %s", c.mode, err, stderr.Bytes())
		}
		var r report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%s says %q: %v", c.mode, out.Bytes(), err)
		}
		if c.mode == "drop-later" && r.Level < LevelBPF {
			t.Skipf("the probes are not to be had here: %v", r.Refused)
		}
		if r.Failed != "" || r.Level != c.want || r.Verdict != "client_fin" || !r.Tagged {
			t.Errorf("%s: %+v, want level %v and client_fin", c.mode, r, c.want)
		}
		if got := strings.Join(r.Refused, "; "); !strings.HasPrefix(got, c.refused) || (got == "") != (c.refused == "") {
			t.Errorf("%s: refused %q, want %q", c.mode, got, c.refused)
		}
	}
}

// TestFullRing closes more connections than the ring holds before anybody reads it: what is lost is counted, the rest told.
func TestFullRing(t *testing.T) {
	t.Parallel()
	told := 0
	tracer, err := Open(Options{Ring: 64 << 10, Handle: func(*Event) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tracer.Close() }()
	needBPF(t, tracer)
	l, err := listenHere()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := tracer.TrackListener(fd(t, l)); err != nil {
		t.Fatal(err)
	}
	const conns = 800
	for range conns {
		c, s, err := connect(l)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.SetLinger(0), s.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := tracer.Run(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := tracer.Stats()
	if err != nil || s.Lost == 0 || s.Events+s.Lost != conns || s.Events != uint64(told) {
		t.Errorf("%d told, %d events, %d lost, %v; want %d in all, and some lost", told, s.Events, s.Lost, err, conns)
	}
}

// TestLook looks at a connection of which something is not acknowledged yet, of IPv6 and of IPv4 at a listener for both.
func TestLook(t *testing.T) {
	t.Parallel()
	all := newEnds()
	tracer := start(t, Options{Handle: all.handle}, nil)
	needBPF(t, tracer)
	low := start(t, Options{Level: LevelErrno}, nil)
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := tracer.TrackListener(fd(t, l.(*net.TCPListener))); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			t.Logf("no connection to %s: %v", host, err) // a machine without IPv6
			continue
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn := fd(t, s.(*net.TCPConn))
		if _, err := c.Write([]byte("four")); err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "data", func() bool { n, err := sys.UnreadBytes(conn); return err == nil && n == 4 })
		life, err := tracer.Look(conn)
		cookie, err2 := sys.SocketCookie(conn)
		remote := c.LocalAddr().(*net.TCPAddr).AddrPort()
		if err != nil || err2 != nil || life.Remote != remote || life.Cookie != cookie || life.BytesReceived != 4 || life.Path.String() != "SYN_RECV>ESTABLISHED" || life.Established.IsZero() || time.Since(life.Established) > patience {
			t.Errorf("%s: %+v, %v, want 4 bytes of %v", host, life, err, remote)
		}
		if life, err := low.Look(conn); err != nil || life.Level != LevelErrno || life.BytesReceived != 4 || life.Cookie != cookie {
			t.Errorf("%s at level errno: %+v, %v", host, life, err)
		}
		if _, err := tracer.Look(fd(t, c.(*net.TCPConn))); err == nil {
			t.Error("the client's side is traced, too")
		}
		_, _ = s.Close(), c.Close()
		waittest.Until(t, "its end", func() bool {
			all.mu.Lock()
			defer all.mu.Unlock()
			life, ok := all.by[remote]
			return ok && life.Local.Port() == uint16(l.Addr().(*net.TCPAddr).Port)
		})
	}
}

// TestMultipath has a listener refused whose connections would be traced not at all.
func TestMultipath(t *testing.T) {
	t.Parallel()
	tracer := start(t, Options{}, nil)
	needBPF(t, tracer)
	var lc net.ListenConfig
	lc.SetMultipathTCP(true)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn := fd(t, l.(*net.TCPListener))
	if !sys.IsMPTCP(conn) {
		t.Skip("this kernel makes no MPTCP sockets")
	}
	if err := tracer.TrackListener(conn); err == nil || !strings.Contains(err.Error(), "SetMultipathTCP(false)") {
		t.Errorf("TrackListener of an MPTCP socket = %v", err)
	}
}

// TestUntold has the ends of closed connections told of which the kernel says nothing, and bounds them.
func TestUntold(t *testing.T) {
	var told []uint64
	w := &watch{handle: func(e *Event) { told = append(told, e.Cookie) }, closed: make(map[uint64]Life)}
	l, err := listenHere()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, s, err := connect(l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = c.Close(), s.Close() }()
	if err := w.closing(fd(t, s), [16]byte{1}, Seen{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	w.tellClosed(now.Add(-fading))
	if len(told) != 0 {
		t.Errorf("%v is told at once", told)
	}
	w.tellClosed(now.Add(time.Minute))
	w.tellClosed(now.Add(time.Minute))
	if len(told) != 1 {
		t.Errorf("%v are told, want one, once", told)
	}
	for i := range closings {
		w.closed[uint64(i)] = Life{}
	}
	if err := w.closing(fd(t, s), [16]byte{1}, Seen{}); err != nil {
		t.Fatal(err)
	}
	if stats, err := w.stats(); err != nil || stats.Lost != 1 || stats.Events != 1 {
		t.Errorf("stats %+v, %v, want one told and one lost", stats, err)
	}
	if err := w.closing(-1, [16]byte{1}, Seen{}); err == nil {
		t.Error("a descriptor of nothing is closing")
	}
}

// TestPrivateTable tags a connection from a thread whose descriptor table is its own.
func TestPrivateTable(t *testing.T) {
	all := newEnds()
	tracer := start(t, Options{Handle: all.handle}, nil)
	needBPF(t, tracer)
	r, err := sys.StartRuntimePoller()
	if err != nil {
		t.Fatal(err)
	}
	l, err := listenHere()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := tracer.TrackListener(fd(t, l)); err != nil {
		t.Fatal(err)
	}
	c, s, err := connect(l)
	if err != nil {
		t.Fatal(err)
	}
	id := [16]byte{9, 9}
	conn := fd(t, s)
	var tag func() error
	tag = func() error { // on a thread that ends with it
		runtime.LockOSThread()
		if sys.OnLeader() {
			other := make(chan error)
			go func() { other <- tag() }()
			defer runtime.UnlockOSThread()
			return <-other
		}
		if err := sys.PrivateTable(r, append(tracer.Descriptors(), conn)); err != nil {
			return err
		}
		if n := testing.AllocsPerRun(100, func() { err = tracer.Tag(conn, id) }); n != 0 {
			return fmt.Errorf("Tag allocates %v times", n)
		}
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { err = tag() })
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "its end", func() bool { _, ok := all.of(id); return ok })
}

// TestSteps sees each step of one connection of a port that nobody told the tracer of a listener of, established before.
func TestSteps(t *testing.T) {
	t.Parallel()
	l, err := listenHere()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	old, oldServer, err := connect(l)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	steps := make(map[uint16][]string)
	tracer := start(t, Options{Port: uint16(l.Addr().(*net.TCPAddr).Port), Steps: true, Handle: func(e *Event) {
		mu.Lock()
		defer mu.Unlock()
		text := e.Kind.String()
		switch e.Kind {
		case KindState:
			text = e.From.String() + ">" + e.To.String()
		case KindEnded:
			text += " " + e.Life.Verdict().String()
		}
		steps[e.Remote.Port()] = append(steps[e.Remote.Port()], text)
	}}, nil)
	needBPF(t, tracer)
	c, s, err := connect(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		client, server *net.TCPConn
		want           string
	}{
		{old, oldServer, "ESTABLISHED>CLOSE_WAIT CLOSE_WAIT>LAST_ACK LAST_ACK>CLOSE ended client_fin"},
		{c, s, "SYN_RECV>ESTABLISHED ESTABLISHED>CLOSE_WAIT CLOSE_WAIT>LAST_ACK LAST_ACK>CLOSE ended client_fin"},
	} {
		port := uint16(x.client.LocalAddr().(*net.TCPAddr).Port)
		_ = x.client.Close()
		_, _ = x.server.Read(make([]byte, 1))
		_ = x.server.Close()
		var got string
		waittest.Until(t, "its end", func() bool {
			mu.Lock()
			defer mu.Unlock()
			got = strings.Join(steps[port], " ")
			return strings.Contains(got, "ended")
		})
		got = strings.TrimPrefix(got, "LISTEN>SYN_RECV ") // at that step some kernels have no port of the client yet
		if got != x.want {
			t.Errorf("steps %q, want %q", got, x.want)
		}
	}
}
