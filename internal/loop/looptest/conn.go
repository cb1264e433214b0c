package looptest

import (
	"io"
	"net"
	"os"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// netConn is a socket in the process's hands. Deadlines in the past are kept, later ones never come: the
// test's clock is not the wall's.
type netConn struct {
	system       *System
	file         *file
	closed       bool // guarded by System.mu
	noRead, noWr bool // guarded by System.mu: the deadline is over
}

func (c *netConn) Read(b []byte) (int, error) {
	s := c.system
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.noRead:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		n, err := c.file.socket.read(s, b)
		switch {
		case err == sys.ErrWouldBlock:
			s.cond.Wait()
		case err == nil && n == 0:
			return 0, io.EOF
		default:
			return n, err
		}
	}
}

func (c *netConn) Write(b []byte) (n int, err error) {
	s := c.system
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(b) {
		switch {
		case c.closed:
			return n, net.ErrClosed
		case c.noWr:
			return n, os.ErrDeadlineExceeded
		}
		m, err := c.file.socket.write(s, b[n:])
		n += m
		if err == sys.ErrWouldBlock {
			s.cond.Wait()
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *netConn) Close() error {
	c.system.mu.Lock()
	defer c.system.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.system.release(c.file)
	c.system.cond.Broadcast()
	return nil
}

// CloseWrite is TCPConn's.
func (c *netConn) CloseWrite() error {
	c.system.mu.Lock()
	defer c.system.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.file.socket.shutdown(c.system)
	return nil
}

func (c *netConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
func (c *netConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }

func (c *netConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *netConn) SetReadDeadline(t time.Time) error {
	c.system.mu.Lock()
	defer c.system.mu.Unlock()
	c.noRead = !t.IsZero() && !t.After(time.Now())
	c.system.cond.Broadcast()
	return nil
}

func (c *netConn) SetWriteDeadline(t time.Time) error {
	c.system.mu.Lock()
	defer c.system.mu.Unlock()
	c.noWr = !t.IsZero() && !t.After(time.Now())
	c.system.cond.Broadcast()
	return nil
}
