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
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
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

// unprivileged is a process that drops its privileges, before or after it opens its tracer, and then traces a connection.
func unprivileged(first bool) (r report) {
	fail := func(err error) report {
		r.Failed = err.Error()
		return r
	}
	if first {
		if err := DropPrivileges(); err != nil {
			return fail(err)
		}
	}
	told := make(chan Life, 1)
	id := [16]byte{7}
	tracer, err := Open(Options{Handle: func(e *Event) {
		if e.Kind == KindEnded {
			told <- *e.Life
		}
	}})
	if err != nil {
		return fail(err)
	}
	r.Level = tracer.Level()
	for _, x := range tracer.Refused() {
		r.Refused = append(r.Refused, x.String())
	}
	l, err := listenHere()
	if err != nil {
		return fail(err)
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
	if !first {
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

// TestPrivileges has a process without capabilities work at a lower level and say why, and one that drops them afterwards go on.
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
		mode string
		want Level
	}{{"drop-first", LevelDiag}, {"drop-later", LevelBPF}} {
		child := exec.Command(self)
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
		if c.want == LevelBPF && r.Level < LevelBPF {
			t.Skipf("the probes are not to be had here: %v", r.Refused)
		}
		if r.Failed != "" || r.Level != c.want || r.Verdict != "client_fin" || !r.Tagged {
			t.Errorf("%s: %+v, want level %v and client_fin", c.mode, r, c.want)
		}
		if c.want == LevelDiag && (len(r.Refused) != 1 || !strings.Contains(r.Refused[0], "CAP_BPF and CAP_PERFMON")) {
			t.Errorf("%s: refused %q, want the capabilities by name", c.mode, r.Refused)
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
	until(t, "its end", func() bool { _, ok := all.of(id); return ok })
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
		until(t, "its end", func() bool {
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
