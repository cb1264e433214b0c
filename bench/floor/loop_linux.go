//go:build linux

package main

import (
	"bytes"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Readiness is told once for each change (edge-triggered), which spares the kernel asking every socket
// twice. So whoever leaves something unread says so with rearm.
const (
	readable = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	writable = unix.EPOLLOUT | unix.EPOLLET
)

const (
	readSize   = 64 << 10 // bytes that one read takes at most
	slack      = 16       // room before them for the front of a header from the read before
	maxRequest = 16 << 10

	switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
	notFound  = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

// loop is everything that one thread serves. Only that thread touches it.
type loop struct {
	epfd     int
	listener int32
	stalled  bool   // accept found no descriptor or memory: again after a close
	conns    []conn // by descriptor

	// What few connections have at a time, by descriptor.
	requests map[int32][]byte // the front of a request
	blocked  map[int32][]byte // what a full socket did not take

	fan  *fan  // nil: every message goes back to where it came from
	bell int32 // rung when another loop has a message for all; with fan

	events [256]unix.EpollEvent
	reply  [len(switching) + 28 + len("\r\n\r\n")]byte
	buf    [slack + readSize]byte
}

// run serves until epoll_wait fails.
func (l *loop) run() error {
	copy(l.reply[:], switching)
	copy(l.reply[len(switching)+28:], "\r\n\r\n")
	for {
		n, err := l.wait()
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for i := range l.events[:n] {
			if e := &l.events[i]; e.Fd == l.listener {
				l.accept()
			} else if l.fan != nil && e.Fd == l.bell {
				l.rung()
			} else {
				l.serve(e.Fd, &l.conns[e.Fd], e.Events&unix.EPOLLRDHUP != 0)
			}
		}
	}
}

// wait returns how many events there are. As long as there are some it makes the system call raw, like
// all that cannot block: the scheduler is told nothing. Only to sleep does the loop give up its processor.
func (l *loop) wait() (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events)), uintptr(len(l.events)), 0, 0, 0)
	if errno == 0 && n > 0 {
		return int(n), nil
	}
	ready, err := unix.EpollWait(l.epfd, l.events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return ready, err
}

// accept takes what waits at the listener, some at a time so that open connections have their turn.
func (l *loop) accept() {
	for range len(l.events) {
		r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.listener), 0, 0,
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		fd := int32(r)
		switch errno {
		case 0:
			if int(fd) >= len(l.conns) || l.control(unix.EPOLL_CTL_ADD, fd, readable) != nil {
				unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
				continue
			}
			l.conns[fd] = conn{phase: handshake}
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.stalled = true
			return
		case unix.EAGAIN:
			return
		}
	}
	l.rearm(l.listener)
}

// serve does what a readiness event asks for: one read, and one write for all that was read. hangup
// says that the peer will send no more than what waits in the socket.
func (l *loop) serve(fd int32, c *conn, hangup bool) {
	if c.phase == full {
		rest := l.blocked[fd]
		delete(l.blocked, fd)
		c.phase = open
		if l.write(fd, c, rest); c.phase == open {
			l.rearm(fd)
		}
		return
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(&l.buf[slack])), readSize, 0, 0, 0)
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 || r == 0 {
		l.close(fd, c)
		return
	}
	n := int(r)
	more := n == readSize || hangup
	if c.phase == handshake {
		n = l.upgrade(fd, c, l.buf[slack:slack+n])
	}
	if n > 0 && l.fan != nil {
		l.publish(fd, c, l.buf[slack:slack+n])
	} else if n > 0 {
		b := l.buf[slack-int(c.nHead) : slack+n]
		copy(b, c.head[:c.nHead])
		c.nHead = 0
		n, ok := c.echo(b)
		c.ended = c.ended || !ok
		l.write(fd, c, b[:n])
	}
	if more && (c.phase == open || c.phase == handshake) {
		l.rearm(fd)
	}
}

// upgrade answers the request that ends in b, and returns how many bytes of frames came behind it,
// which it moves to where they would have been read.
func (l *loop) upgrade(fd int32, c *conn, b []byte) int {
	if front := l.requests[fd]; front != nil {
		b = append(front, b...)
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 && len(b) <= maxRequest {
		l.requests[fd] = bytes.Clone(b)
		return 0
	}
	delete(l.requests, fd)
	accept, ok := [28]byte{}, false
	if end >= 0 {
		accept, ok = acceptKey(b[:end])
	}
	if !ok {
		c.ended = true
		l.write(fd, c, []byte(notFound))
		return 0
	}
	c.phase = open
	copy(l.reply[len(switching):], accept[:])
	if l.write(fd, c, l.reply[:]); c.phase == full {
		l.close(fd, c) // a new socket that has no room for an answer
	}
	if c.phase == closed {
		return 0
	}
	return copy(l.buf[slack:], b[end+4:])
}

// write sends b. What the socket does not take is kept until it does, and reading stops so long. The
// connection is closed if it is broken, or if b was the last.
func (l *loop) write(fd int32, c *conn, b []byte) {
	if len(b) > 0 {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno == unix.EAGAIN {
			r, errno = 0, 0
		}
		if errno != 0 {
			l.close(fd, c)
			return
		}
		if int(r) < len(b) {
			l.blocked[fd] = bytes.Clone(b[r:])
			c.phase = full
			l.control(unix.EPOLL_CTL_MOD, fd, writable)
			return
		}
	}
	if c.ended {
		l.close(fd, c)
	}
}

func (l *loop) close(fd int32, c *conn) {
	unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	c.phase = closed
	delete(l.requests, fd)
	delete(l.blocked, fd)
	if l.stalled {
		l.stalled = false
		l.rearm(l.listener)
	}
}

// rearm has epoll look again whether fd is readable.
func (l *loop) rearm(fd int32) { l.control(unix.EPOLL_CTL_MOD, fd, readable) }

func (l *loop) control(op int, fd int32, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: fd}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epfd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
