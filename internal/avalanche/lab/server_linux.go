package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

// server is one that is broken. It lives as long as its process.
type server struct {
	fault
	slots chan struct{} // handshakes that it works on; nil: any number

	mu   sync.Mutex
	held [][]byte // memory of conns, never given back
}

// serve listens, writes a line to out when it does, and serves until in ends. The first line of in names the cgroup that it
// is to enter; empty for none.
func serve(f fault, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the name of a cgroup: %w", err)
	}
	if group := strings.TrimSpace(line); group != "" {
		// Memory is charged to the group of whoever touches it first: what is held from now on.
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return fmt.Errorf("enter a cgroup: %w", err)
		}
	}
	if f.backlog == 0 {
		f.backlog = 4096
	}
	fds, _, err := sys.Listen(netip.AddrPortFrom(loopback, port), 1, sys.ListenOptions{Backlog: f.backlog})
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fds[0]), "listener")
	listener, err := net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := &server{fault: f}
	if f.answers > 0 {
		s.slots = make(chan struct{}, f.answers)
	}
	if f.descriptors > 0 {
		if err := sys.LimitDescriptors(f.descriptors); err != nil {
			return err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.accept(listener) }()
	if _, err := fmt.Fprintln(out, "listening"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, lines)
	return errors.Join(err, listener.Close(), <-ended) // conns end with the process
}

// accept takes conns until the listener is closed.
func (s *server) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // no descriptor is left: they wait in the queue
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go func() {
			defer func() { _ = c.Close() }()
			s.conn(c)
		}()
		time.Sleep(s.pause)
	}
}

// conn answers a handshake, pings and the closing handshake; or a request, behind which it leaves it to the client to
// close first, so that TIME_WAIT is the client's.
func (s *server) conn(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(time.Minute)) // longer than any experiment
	b := make([]byte, 0, 2048)
	var request ws.Request
	for {
		n, err := c.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			return
		}
		if request, n, err = ws.ParseRequest(b, cap(b)-1); err != nil {
			return
		}
		if n > 0 {
			break
		}
	}
	if s.slots != nil {
		s.slots <- struct{}{}
		time.Sleep(s.work)
		<-s.slots
	}
	if !request.Upgrade() {
		time.Sleep(s.answer)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n")
		_, _ = io.Copy(io.Discard, c)
		return
	}
	h, refusal := ws.Negotiate(&request, &ws.Policy{})
	if refusal != nil {
		_, _ = c.Write(ws.AppendRefusal(nil, refusal))
		return
	}
	if s.perConn > 0 && !s.hold(s.perConn) {
		return
	}
	if _, err := c.Write(ws.AppendResponse(nil, &h, "")); err != nil {
		return
	}
	var r ws.Reader
	b = b[:cap(b)]
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		for in := b[:n]; ; {
			e, n, err := r.Next(in)
			if err != nil {
				return
			}
			in = in[n:]
			var out []byte
			switch e.Op {
			case ws.OpPing:
				out = ws.AppendFrame(nil, ws.Server, ws.OpPong, e.Payload, [4]byte{})
			case ws.OpClose:
				out = ws.AppendClose(nil, ws.Server, e.Code, "", [4]byte{})
			}
			if len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return
				}
			}
			if e.Op == ws.OpClose {
				return
			}
			if e.Op == ws.NoEvent {
				break
			}
		}
	}
}

// hold uses up memory.
func (s *server) hold(n int) bool {
	b, err := sys.Map(n)
	if err != nil {
		return false
	}
	for i := 0; i < n; i += os.Getpagesize() {
		b[i] = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, b)
	return true
}
