package looptest

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// poller is one loop's epoll and its thread's view of the kernel.
type poller struct {
	system   *System
	table    *table
	batch    int
	watched  map[watch]*registration
	ready    []*registration // to be looked at, in turn
	asleep   bool
	deadline time.Duration // of the Wait that sleeps; < 0: none
}

type watch struct {
	file *file
	fd   int32
}

type registration struct {
	poller *poller
	file   *file
	fd     int32
	key    sys.Key
	in     sys.Interest
	queued bool // in poller.ready
	gone   bool
}

func (r *registration) events() sys.Ready {
	if r.gone {
		return 0
	}
	ready := r.file.ready()
	out := ready & sys.Failed
	if out != 0 || r.in&sys.Readable != 0 {
		out |= ready & sys.ReadyRead
	}
	if r.in&sys.Writable != 0 {
		out |= ready & sys.ReadyWrite
	}
	if e := r.file.socket; e != nil && e.fin && r.in&(sys.Readable|sys.Edge) == sys.Readable|sys.Edge {
		out |= sys.Ended | sys.ReadyRead
	}
	return out
}

// due reports whether a Wait that sleeps is about to return.
func (p *poller) due() bool {
	if p.deadline >= 0 && p.deadline <= p.system.now || p.system.faults[Wait] != nil {
		return true
	}
	return slices.ContainsFunc(p.ready, func(r *registration) bool { return r.events() != 0 })
}

// Wait implements loop.Poller.
func (p *poller) Wait(events []sys.Event, timeout time.Duration) (int, error) {
	s := p.system
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits++
	p.deadline = -1
	if timeout >= 0 {
		p.deadline = s.now + timeout
	}
	defer func() { p.asleep = false }()
	for {
		if err := s.fails(Wait); err != nil {
			return 0, err
		}
		n, woken := p.collect(events)
		if n > 0 || woken || p.deadline >= 0 && p.deadline <= s.now {
			return n, nil
		}
		p.asleep = true
		s.cond.Broadcast()
		s.cond.Wait()
	}
}

// collect reports what is ready, each in its turn.
func (p *poller) collect(events []sys.Event) (n int, woken bool) {
	room := min(len(events), p.batch)
	looked := len(p.ready)
	for k := range p.ready {
		if n == room {
			looked = k
			break
		}
		r := p.ready[k]
		ready := r.events()
		if ready == 0 {
			r.queued = false
			continue
		}
		if r.file.waker != nil {
			r.file.waker.posted, r.queued, woken = false, false, true
			continue
		}
		events[n] = sys.Event{Key: r.key, Ready: ready}
		n++
		if r.in&sys.Edge != 0 {
			r.queued = false // until something changes
			continue
		}
		p.ready = append(p.ready, r) // it may be ready the next time too
	}
	p.ready = slices.Delete(p.ready, 0, looked)
	return n, woken
}

func (p *poller) add(fd int32, k sys.Key, in sys.Interest) {
	f := p.table.fds[fd]
	r := &registration{poller: p, file: f, fd: fd, key: k, in: in}
	p.watched[watch{f, fd}] = r
	f.watches = append(f.watches, r)
	p.system.touch(f)
}

// Add implements loop.Poller.
func (p *poller) Add(fd int32, k sys.Key, in sys.Interest) error {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Add); err != nil {
		return err
	}
	f := p.table.fds[fd]
	switch {
	case f == nil:
		return syscall.EBADF
	case p.watched[watch{f, fd}] != nil:
		return syscall.EEXIST
	}
	p.add(fd, k, in)
	return nil
}

func (p *poller) registration(fd int32) (*registration, error) {
	f := p.table.fds[fd]
	if f == nil {
		return nil, syscall.EBADF
	}
	r := p.watched[watch{f, fd}]
	if r == nil {
		return nil, syscall.ENOENT
	}
	return r, nil
}

// Modify implements loop.Poller.
func (p *poller) Modify(fd int32, k sys.Key, in sys.Interest) error {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Modify); err != nil {
		return err
	}
	r, err := p.registration(fd)
	if err != nil {
		return err
	}
	r.key, r.in = k, in
	p.system.touch(r.file)
	return nil
}

// Remove implements loop.Poller.
func (p *poller) Remove(fd int32) error {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Remove); err != nil {
		return err
	}
	r, err := p.registration(fd)
	if err != nil {
		return err
	}
	p.remove(r)
	return nil
}

func (p *poller) remove(r *registration) {
	r.gone = true
	delete(p.watched, watch{r.file, r.fd})
	r.file.watches = slices.DeleteFunc(r.file.watches, func(o *registration) bool { return o == r })
}

func (p *poller) socket(fd int32) *end {
	if f := p.table.fds[fd]; f != nil {
		return f.socket
	}
	return nil
}

// Read implements loop.Poller.
func (p *poller) Read(fd int32, b []byte) (int, error) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Read); err != nil {
		return 0, err
	}
	e := p.socket(fd)
	if e == nil {
		return 0, syscall.EBADF
	}
	return e.read(p.system, b)
}

// Write implements loop.Poller.
func (p *poller) Write(fd int32, b []byte) (int, error) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Write); err != nil {
		return 0, err
	}
	e := p.socket(fd)
	if e == nil {
		return 0, syscall.EBADF
	}
	return e.write(p.system, b)
}

// Accept implements loop.Poller.
func (p *poller) Accept(fd int32) (int32, netip.AddrPort, error) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if err := p.system.fails(Accept); err != nil {
		return -1, netip.AddrPort{}, err
	}
	f := p.table.fds[fd]
	if f == nil || f.listener == nil {
		return -1, netip.AddrPort{}, syscall.EBADF
	}
	ln := f.listener
	if len(ln.queue) == 0 {
		return -1, netip.AddrPort{}, sys.ErrWouldBlock
	}
	a := ln.queue[0]
	c := p.open(a.end)
	if c < 0 {
		return -1, netip.AddrPort{}, syscall.EMFILE
	}
	ln.queue = ln.queue[1:]
	return c, a.from, nil
}

func (p *poller) open(e *end) int32 {
	f := &file{socket: e}
	fd := p.table.put(f)
	if fd >= 0 {
		e.file = f
	}
	return fd
}

// Connect implements loop.Poller.
func (p *poller) Connect(from, to netip.AddrPort) (int32, error) {
	s := p.system
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails(Connect); err != nil {
		return -1, err
	}
	near, far := s.pair()
	fd := p.open(near)
	if fd < 0 {
		return -1, syscall.EMFILE
	}
	if from.Port() == 0 {
		if !from.IsValid() {
			from = netip.MustParseAddrPort("10.0.0.1:0")
		}
		s.port++
		from = netip.AddrPortFrom(from.Addr(), s.port)
	}
	if ln := s.listener(to); ln != nil {
		ln.queue = append(ln.queue, arrival{end: far, from: from})
		s.touch(ln.file)
		return fd, nil
	}
	near.connecting = true
	far.limit = -1
	s.pending = append(s.pending, &Peer{system: s, end: far, From: from, To: to})
	return fd, nil
}

// ConnectError implements loop.Poller.
func (p *poller) ConnectError(fd int32) error {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	e := p.socket(fd)
	if e == nil {
		return syscall.EBADF
	}
	err := e.err
	if err != nil {
		e.err, e.over = nil, true
	}
	return err
}

// ShutdownWrite implements loop.Poller.
func (p *poller) ShutdownWrite(fd int32) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if e := p.socket(fd); e != nil {
		e.shutdown(p.system)
	}
}

// CloseSocket implements loop.Poller.
func (p *poller) CloseSocket(fd int32, abort bool) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if e := p.socket(fd); e != nil && abort {
		e.linger0 = true
	}
	p.system.close(p.table, fd)
}

// SetUserTimeout implements loop.Poller.
func (p *poller) SetUserTimeout(int32, time.Duration) {}

// Info implements loop.Poller: what Peer.Tell said.
func (p *poller) Info(fd int32) (sys.TCPInfo, bool) {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	if e := p.socket(fd); e != nil && e.info != nil {
		return *e.info, true
	}
	return sys.TCPInfo{}, false
}

func (p *poller) Peer(int32) netip.AddrPort { return netip.AddrPort{} }

// Pass implements loop.Poller.
func (p *poller) Pass(in, fd int32, data []byte) error {
	p.system.mu.Lock()
	defer p.system.mu.Unlock()
	f := p.table.fds[fd]
	if f == nil {
		return syscall.EBADF
	}
	return p.system.pass(p.table, in, f, data)
}

// Receive implements loop.Poller.
func (p *poller) Receive(out int32, b []byte) (int32, int, error) {
	s := p.system
	s.mu.Lock()
	defer s.mu.Unlock()
	full := false
	if err := s.fails(Receive); errors.Is(err, syscall.EMFILE) {
		full = true // as the kernel: the message comes without its descriptor
	} else if err != nil {
		return -1, 0, err
	}
	f := p.table.fds[out]
	if f == nil || f.chute == nil {
		return -1, 0, syscall.EBADF
	}
	if len(f.chute.queue) == 0 {
		return -1, 0, sys.ErrWouldBlock
	}
	m := f.chute.queue[0]
	f.chute.queue = f.chute.queue[1:]
	fd := int32(-1)
	if !full {
		fd = p.table.put(m.file)
	}
	s.release(m.file) // the message's
	return fd, copy(b, m.data), nil
}

// Close implements loop.Poller. A table of its own goes with it, as with the thread.
func (p *poller) Close() error {
	s := p.system
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range p.watched {
		p.remove(r)
	}
	s.pollers = slices.DeleteFunc(s.pollers, func(o *poller) bool { return o == p })
	if p.table != s.process {
		for fd := range p.table.fds {
			s.close(p.table, fd)
		}
	}
	s.cond.Broadcast()
	return nil
}
