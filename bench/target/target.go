// Package target runs the server under test as a process of its own and reads what the kernel counts of it.
package target

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Target is a server process.
type Target struct {
	Name string
	Addr netip.AddrPort
	// Started is how long it took from exec to the first answer on the port.
	Started time.Duration

	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // of the process; after done
}

var listening = regexp.MustCompile(`(?:listening on |msg=listening addr=)(\[?[0-9a-f.:]+\]?:[0-9]+)`)

// Start runs argv and waits until it says where it listens, on stdout or stderr, and answers a WebSocket
// handshake at path.
func Start(ctx context.Context, name, path string, argv ...string) (*Target, error) {
	t := &Target{Name: name, done: make(chan struct{}), log: &tail{}}
	t.cmd = exec.Command(argv[0], argv[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	t.cmd.Stdout, t.cmd.Stderr = w, w
	begin := time.Now()
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	_ = w.Close()
	found := make(chan string, 1)
	go func() {
		sc := bufio.NewScanner(io.TeeReader(r, t.log))
		for sc.Scan() {
			if m := listening.FindStringSubmatch(sc.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
		_ = r.Close()
	}()
	go func() {
		t.err = t.cmd.Wait()
		close(t.done)
	}()
	select {
	case a := <-found:
		if t.Addr, err = netip.ParseAddrPort(a); err != nil {
			return nil, errors.Join(err, t.Stop())
		}
	case <-t.done:
		return nil, fmt.Errorf("%s ended before it listened: %v\n%s", name, t.err, t.log)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("%s does not say where it listens\n%s", name, t.log), t.Stop())
	}
	if err := upgrade(t.Addr, path); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", name, err, t.log), t.Stop())
	}
	t.Started = time.Since(begin)
	return t, nil
}

// upgrade makes one handshake.
func upgrade(a netip.AddrPort, path string) error {
	c, err := net.DialTimeout("tcp", a.String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %v\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, a); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != 101 {
		return fmt.Errorf("handshake at %s: %s", path, resp.Status)
	}
	return nil
}

// PID is the process.
func (t *Target) PID() int { return t.cmd.Process.Pid }

// Stop ends the process: politely, then not.
func (t *Target) Stop() error {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-t.done:
	case <-time.After(3 * time.Second):
		_ = t.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-t.done:
		case <-time.After(2 * time.Second):
			_ = t.cmd.Process.Kill()
			<-t.done
		}
	}
	return nil
}

// Done is closed when the process has ended.
func (t *Target) Done() <-chan struct{} { return t.done }

// Log is the end of what it printed.
func (t *Target) Log() string { return t.log.String() }

// CPU is the processor time that the process has used, user and system.
func (t *Target) CPU() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.PID()))
	if err != nil {
		return 0, err
	}
	// The command's name may hold spaces and brackets; the figures follow the last bracket.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	ut, err1 := strconv.ParseInt(f[11], 10, 64)
	st, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(ut+st) * (time.Second / 100), errors.Join(err1, err2)
}

// Memory is the resident memory in bytes: all, and the anonymous part (without the pages of the binary).
func (t *Target) Memory() (rss, anon int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.PID()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		kb, _ := strconv.ParseInt(f[0], 10, 64)
		switch name {
		case "VmRSS":
			rss = kb << 10
		case "RssAnon":
			anon = kb << 10
		}
	}
	return rss, anon, nil
}

// Threads is how many threads the process has.
func (t *Target) Threads() int {
	e, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.PID()))
	return len(e)
}

// Descriptors is the size of the fullest descriptor table of the process.
func (t *Target) Descriptors() int {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.PID()))
	most := 0
	for _, k := range tasks {
		e, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task/%s/fd", t.PID(), k.Name()))
		most = max(most, len(e))
	}
	return most
}

// tail keeps the end of a log.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 16<<10 {
		t.b = append(t.b[:0], t.b[len(t.b)-8<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
