package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/trace"
)

// tracing is longwire trace as a process of its own: it gives up its privileges.
type tracing struct {
	*exec.Cmd
	out  *bufio.Reader
	info bytes.Buffer // what it said before it began
}

// startTracing runs longwire trace until it has begun.
func startTracing(t *testing.T, args ...string) *tracing {
	t.Helper()
	p := &tracing{Cmd: exec.Command("longwire", append([]string{"trace"}, args...)...)}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	info, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	t.Cleanup(func() { late.Stop() })
	lines := bufio.NewReader(info)
	for {
		line, err := lines.ReadString('\n')
		p.info.WriteString(line)
		if strings.Contains(line, "longwire: tracing port") {
			return p
		}
		if err != nil {
			t.Fatalf("longwire trace %s: %s%v", strings.Join(args, " "), p.info.Bytes(), errors.Join(err, p.Wait()))
		}
	}
}

// stop interrupts it and returns all that it still had to say.
func (p *tracing) stop(t *testing.T) string {
	t.Helper()
	if err := p.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	return p.rest(t)
}

// rest waits for its end.
func (p *tracing) rest(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(p.out)
	if err := errors.Join(err, p.Wait()); err != nil {
		t.Fatalf("longwire trace: %v\n%s", err, b)
	}
	return string(b)
}

// needProbes skips a test where trace works at a lower level.
func (p *tracing) needProbes(t *testing.T) {
	t.Helper()
	if !strings.Contains(p.info.String(), "at level bpf") {
		p.stop(t)
		t.Skipf("the probes are not to be had here: %s", p.info.Bytes())
	}
}

func traced(t *testing.T) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// conn makes a connection that its client will end, or with reset its server without lingering.
func conn(t *testing.T, l *net.TCPListener) (client string, end func(reset bool)) {
	t.Helper()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return c.LocalAddr().String(), func(reset bool) {
		if reset {
			_ = s.SetLinger(0)
			_, _ = s.Close(), c.Close()
			return
		}
		_ = c.Close()
		_, _ = io.Copy(io.Discard, s)
		_ = s.Close()
	}
}

func TestTraceLive(t *testing.T) {
	t.Parallel()
	l, port := traced(t)
	p := startTracing(t, "--port", port, "--json")
	p.needProbes(t)
	client, end := conn(t, l)
	end(false)
	var ended bool
	for range 100 {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			Kind, Remote, To string
			Life             struct {
				Verdict trace.Verdict
				Why     string
				Path    []string
			}
		}
		if err := json.Unmarshal(line, &e); err != nil || e.Remote != client {
			t.Fatalf("event %s of %s: %v", line, client, err)
		}
		if ended = e.Kind == "ended"; ended {
			if e.Life.Verdict != trace.VerdictClientFIN || e.Life.Why != "The client closed the connection." || strings.Join(e.Life.Path, " ") != "SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE" {
				t.Errorf("the end is %s", line)
			}
			break
		}
	}
	if !ended {
		t.Error("a hundred events, and no end")
	}
	if more := p.stop(t); more != "" {
		t.Errorf("after the end came %q", more)
	}

	// The same for people.
	p = startTracing(t, "--port", port)
	client, end = conn(t, l)
	end(true)
	for range 100 {
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(line, "  "+client+" ") {
			t.Errorf("line %q does not name %s", line, client)
		}
		if strings.Contains(line, "ended, server_reset_aborted after ") {
			p.stop(t)
			return
		}
	}
	t.Error("a hundred lines, and no end")
}

func TestTraceSummary(t *testing.T) {
	t.Parallel()
	l, port := traced(t)
	p := startTracing(t, "--port", port, "--summary", "--for", "10m", "--json", "--netns", fmt.Sprint(os.Getpid()))
	p.needProbes(t)
	_, first := conn(t, l)
	_, second := conn(t, l)
	_, third := conn(t, l)
	defer third(true)
	first(true)
	second(true)
	text := p.stop(t)
	var s trace.Summary
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if s.Level.String() != "bpf" || s.Lost != 0 || s.States["ESTABLISHED"] != 1 || len(s.Endings) != 1 || s.Endings[0].Verdict != trace.VerdictServerResetAborted || s.Endings[0].Count != 2 || s.Seconds <= 0 {
		t.Errorf("summary %s", text)
	}
	var opened, aborted uint64
	for _, x := range s.Transitions {
		switch x.From + ">" + x.To {
		case "SYN_RECV>ESTABLISHED":
			opened = x.Count
		case "ESTABLISHED>CLOSE":
			aborted = x.Count
		}
	}
	if opened != 3 || aborted != 2 {
		t.Errorf("%d opened, %d aborted, want 3 and 2: %s", opened, aborted, text)
	}

	text = startTracing(t, "--port", port, "--summary").stop(t)
	for _, want := range []string{"states now\n  ESTABLISHED  1\n", "endings  ", "level bpf: 0 events, 0 lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestTraceConn(t *testing.T) {
	t.Parallel()
	l, port := traced(t)
	client, end := conn(t, l)
	p := startTracing(t, "--port", port, "--conn", client)
	p.needProbes(t)
	_, other := conn(t, l)
	other(true)
	end(false)
	text := p.rest(t) // it ends with the connection
	for _, want := range []string{client + " → " + l.Addr().String(), "ESTABLISHED → CLOSE_WAIT", "LAST_ACK → CLOSE", "ended, client_fin", "The client closed the connection.", "states          ESTABLISHED>CLOSE_WAIT>LAST_ACK>CLOSE"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "reset") {
		t.Errorf("another connection's end is in\n%s", text)
	}

	// One of which nothing is seen.
	c := exec.Command("longwire", "trace", "--port", port, "--conn", "192.0.2.9", "--for", "100ms")
	out, err := c.CombinedOutput()
	var ee *exec.ExitError
	if !errors.As(err, &ee) || ee.ExitCode() != exitFailed || !strings.Contains(string(out), "nothing was seen of a connection from 192.0.2.9") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTraceUnprivileged works at the level below, and says what is missing.
func TestTraceUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("becoming somebody else needs root")
	}
	l, port := traced(t)
	client, end := conn(t, l)
	name, err := exec.LookPath("longwire")
	if err != nil {
		t.Fatal(err)
	}
	// The file is open before the privileges are gone: nobody may not look into the test's directory.
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c := &tracing{Cmd: &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"longwire", "trace", "--port", port, "--json"}, ExtraFiles: []*os.File{f}, Env: os.Environ()}}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Skipf("nobody can't run the test's binary here: %v", err)
	}
	late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer late.Stop()
	said := bufio.NewReader(info)
	for range 3 {
		line, err := said.ReadString('\n')
		c.info.WriteString(line)
		if err != nil || strings.Contains(line, "tracing port") {
			break
		}
	}
	if got := c.info.String(); !strings.Contains(got, "level bpf: this process lacks CAP_BPF and CAP_PERFMON") || !strings.Contains(got, "at level diag") {
		t.Errorf("it says %q", got)
	}
	// It looks once a second: the first look finds the connection.
	if line, err := c.out.ReadString('\n'); err != nil || !strings.Contains(line, `"to":"ESTABLISHED"`) || !strings.Contains(line, client) {
		t.Errorf("event %q, %v", line, err)
	}
	end(false)
	for range 100 {
		line, err := c.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, `"kind":"ended"`) {
			if !strings.Contains(line, client) || !strings.Contains(line, `"level":"diag"`) {
				t.Errorf("the end is %s", line)
			}
			break
		}
	}
	c.stop(t)
}
