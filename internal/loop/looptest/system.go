// Package looptest is a kernel in memory for tests of what runs on loops: deterministic, with a clock that
// the test moves, sockets whose other ends (Peer) the test holds, and failures on demand. No test needs to
// sleep: Settle waits until every loop is asleep with nothing to do.
//
// It keeps the kernel's rules where they bite: readiness is told by level, or with sys.Edge only when
// something changes, and round robin; a descriptor is a number in a table, the lowest free one; a file lives
// until its last descriptor is closed in all tables and is watched until then; closing a socket with unread
// bytes resets it.
package looptest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
)

// Op is a call that can be made to fail.
type Op string

// The calls that Fail knows.
const (
	Accept   Op = "accept"
	Connect  Op = "connect"
	Read     Op = "read"
	Write    Op = "write"
	Add      Op = "epoll add"
	Modify   Op = "epoll modify"
	Remove   Op = "epoll remove"
	Wait     Op = "epoll wait"
	Pass     Op = "pass"
	Receive  Op = "receive"
	Enter    Op = "enter"
	Listen   Op = "listen"
	NewWaker Op = "new waker"
	NewChute Op = "new chute"
	Map      Op = "map"
)

// spins is how many times loops may call Wait before Settle calls it a spin.
const spins = 1 << 20

// chuteRoom bounds the messages in a chute.
const chuteRoom = 256

// System is a loop.System in memory. Any goroutine may call its methods, but no loop's thread those that
// wait: Settle, Advance, and what settles before it answers.
type System struct {
	limit   int
	private bool

	mu        sync.Mutex
	cond      *sync.Cond // anything changed
	now       time.Duration
	process   *table
	keep      map[int32]bool // what private tables keep
	pollers   []*poller      // entered and not closed
	waits     int
	faults    map[Op]*fault
	listeners []*listener // open, in the order of Listen
	turn      int         // of the listeners
	port      uint16      // the last one given out
	serial    uint32      // of peers
	pending   []*Peer     // connects that nobody has answered
}

type fault struct {
	err error
	n   int // calls that fail; < 0: all
}

// New makes a system whose descriptor tables hold 1<<20 descriptors, and where threads can have their own.
func New() *System { return NewLimited(1 << 20) }

// NewLimited is New with another limit of a table.
func NewLimited(limit int) *System {
	s := &System{limit: limit, private: true, now: time.Hour, keep: make(map[int32]bool), faults: make(map[Op]*fault), port: 40000}
	s.cond = sync.NewCond(&s.mu)
	s.process = &table{limit: limit, fds: make(map[int32]*file)}
	return s
}

// Fail makes the next n calls of op fail with err, all from now on with n < 0, none with n == 0.
func (s *System) Fail(op Op, err error, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faults, op)
	if n != 0 {
		s.faults[op] = &fault{err: err, n: n}
	}
	s.cond.Broadcast()
}

// fails takes one failure of op. s.mu is held.
func (s *System) fails(op Op) error {
	f := s.faults[op]
	if f == nil {
		return nil
	}
	if f.n > 0 {
		if f.n--; f.n == 0 {
			delete(s.faults, op)
		}
	}
	return f.err
}

// Settle waits until every loop is asleep with nothing ready. It panics when one spins instead.
func (s *System) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

func (s *System) settle() {
	for start := s.waits; !s.settled(); s.cond.Wait() {
		if s.waits-start > spins {
			panic("looptest: a loop spins: it wakes again and again and finds nothing to do")
		}
	}
}

func (s *System) settled() bool {
	for _, p := range s.pollers {
		if !p.asleep || p.due() {
			return false
		}
	}
	return true
}

// Advance moves the clock by d, stopping wherever a loop wants to wake, and settles.
func (s *System) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.now + d
	for {
		s.settle()
		next := end
		for _, p := range s.pollers {
			if p.deadline >= 0 {
				next = min(next, p.deadline)
			}
		}
		s.now = max(s.now, next)
		s.cond.Broadcast()
		if s.now >= end {
			s.settle()
			return
		}
	}
}

// Jump moves the clock by d at once and waits for nothing, as when the machine or a loop was held up.
func (s *System) Jump(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += d
	s.cond.Broadcast()
}

// Waits counts how often loops have called Wait.
func (s *System) Waits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits
}

// Open counts the descriptors of the process's table.
func (s *System) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.process.fds)
}

// Listening counts the listeners that the kernel still hands connections to.
func (s *System) Listening() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners)
}

// Dial connects to the address that was listened on first; listeners take turns. Without one, the peer
// finds itself reset.
func (s *System) Dial() *Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(s.serial >> 16), byte(s.serial >> 8), byte(s.serial)}), 50000)
	return s.dial(from, netip.AddrPort{})
}

// DialFrom is Dial from an address, to an address (the zero AddrPort: the first one that was listened on).
func (s *System) DialFrom(from, to netip.AddrPort) *Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dial(from, to)
}

func (s *System) dial(from, to netip.AddrPort) *Peer {
	near, far := s.pair()
	near.limit = -1
	p := &Peer{system: s, end: near, From: from, To: to}
	ln := s.listener(to)
	if ln == nil {
		near.wasReset, near.err = true, syscall.ECONNREFUSED
		return p
	}
	p.To = ln.addr
	ln.queue = append(ln.queue, arrival{end: far, from: from})
	s.touch(ln.file)
	return p
}

// listener is the next one on an address, or nil.
func (s *System) listener(to netip.AddrPort) *listener {
	for range s.listeners {
		ln := s.listeners[s.turn%len(s.listeners)]
		s.turn++
		if !to.IsValid() && ln.addr == s.listeners[0].addr || ln.addr == to ||
			ln.addr.Port() == to.Port() && ln.addr.Addr().IsUnspecified() {
			return ln
		}
	}
	return nil
}

// Dialling is the oldest connect of a loop to an address on which nobody listens, for Peer.Accept or
// Peer.Refuse; nil when there is none.
func (s *System) Dialling() *Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	if len(s.pending) == 0 {
		return nil
	}
	p := s.pending[0]
	s.pending = s.pending[1:]
	return p
}

// Pipe makes a connection whose one end is a net.Conn, as net/http has them, for Group.Adopt.
func (s *System) Pipe() (net.Conn, *Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	near, far := s.pair()
	near.limit = -1
	f := &file{socket: far, refs: 1}
	far.file = f
	s.serial++
	return &netConn{system: s, file: f}, &Peer{system: s, end: near}
}

// Tables implements loop.System.
func (s *System) Tables() (limit int, private bool) { return s.limit, s.private }

// Now implements loop.System.
func (s *System) Now() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Listen implements loop.System. Addresses are only compared.
func (s *System) Listen(addr netip.AddrPort, count int, _ sys.ListenOptions) ([]int32, netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(Listen); err != nil {
		return nil, addr, err
	}
	if addr.Port() == 0 {
		s.port++
		addr = netip.AddrPortFrom(addr.Addr(), s.port)
	}
	for _, ln := range s.listeners {
		if ln.addr == addr {
			return nil, addr, fmt.Errorf("listen on %v: %w", addr, syscall.EADDRINUSE)
		}
	}
	var fds []int32
	for range count {
		ln := &listener{system: s, addr: addr}
		ln.file = &file{listener: ln}
		fds = append(fds, s.process.put(ln.file))
		s.keep[fds[len(fds)-1]] = true
		s.listeners = append(s.listeners, ln)
	}
	return fds, addr, nil
}

// CloseListener implements loop.System.
func (s *System) CloseListener(fd int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keep, fd)
	s.close(s.process, fd)
}

// NewWaker implements loop.System.
func (s *System) NewWaker() (loop.Waker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(NewWaker); err != nil {
		return nil, err
	}
	w := &waker{system: s, file: &file{}}
	w.file.waker = w
	w.fd = s.process.put(w.file)
	s.keep[w.fd] = true
	return w, nil
}

// NewChute implements loop.System.
func (s *System) NewChute() (in, out int32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(NewChute); err != nil {
		return -1, -1, err
	}
	c := &chute{}
	c.in, c.out = &file{chute: c}, &file{chute: c}
	in, out = s.process.put(c.in), s.process.put(c.out)
	s.keep[in], s.keep[out] = true, true
	return in, out, nil
}

// CloseChute implements loop.System.
func (s *System) CloseChute(in, out int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keep, in)
	delete(s.keep, out)
	s.close(s.process, in)
	s.close(s.process, out)
	s.cond.Broadcast()
}

// Enter implements loop.System.
func (s *System) Enter(w loop.Waker, private bool, batch int) (loop.Poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(Enter); err != nil {
		return nil, err
	}
	p := &poller{system: s, table: s.process, batch: batch, deadline: -1, watched: make(map[watch]*registration)}
	if private {
		p.table = &table{limit: s.limit, fds: make(map[int32]*file)}
		for fd := range s.keep {
			f := s.process.fds[fd]
			f.refs++
			p.table.fds[fd] = f
		}
	}
	fd := w.(*waker).fd
	p.add(fd, sys.Key{Slot: sys.WakeSlot}, sys.Readable)
	s.pollers = append(s.pollers, p)
	return p, nil
}

// PassConn implements loop.System for the conns that Pipe and ReceiveConn make.
func (s *System) PassConn(in int32, c net.Conn, data []byte) error {
	nc, ok := c.(*netConn)
	if !ok {
		return fmt.Errorf("pass a %T: %w", c, sys.ErrUnsupported)
	}
	s.mu.Lock()
	if nc.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	err := s.pass(s.process, in, nc.file, data)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return nc.Close()
}

// ReceiveConn implements loop.System.
func (s *System) ReceiveConn(out int32, b []byte) (net.Conn, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		f := s.process.fds[out]
		if f == nil || !s.keep[out] {
			return nil, 0, os.ErrClosed
		}
		if c := f.chute; len(c.queue) > 0 {
			m := c.queue[0]
			c.queue = c.queue[1:]
			return &netConn{system: s, file: m.file}, copy(b, m.data), nil
		}
		s.cond.Wait()
	}
}

// Map implements loop.System.
func (s *System) Map(n int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(Map); err != nil {
		return nil, err
	}
	return make([]byte, n), nil
}

// Discard implements loop.System.
func (s *System) Discard(b []byte) { clear(b) }

// Unmap implements loop.System.
func (s *System) Unmap([]byte) {}
