package looptest

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/longwire/longwire/internal/sys"
)

// table is a descriptor table.
type table struct {
	limit int
	fds   map[int32]*file
	hint  int32 // no number below is free
}

// put gives f the lowest free number, or -1 when the table is full.
func (t *table) put(f *file) int32 {
	if len(t.fds) >= t.limit {
		return -1
	}
	fd := max(t.hint, 3)
	for t.fds[fd] != nil {
		fd++
	}
	t.fds[fd] = f
	t.hint = fd + 1
	f.refs++
	return fd
}

// file is what descriptors stand for: one of socket, listener, chute and waker. System.mu guards all of it.
type file struct {
	refs    int // descriptors in all tables, and messages in chutes
	watches []*registration

	socket   *end
	listener *listener
	chute    *chute
	waker    *waker
}

// listener is one of the sockets that share an address.
type listener struct {
	system *System
	file   *file
	addr   netip.AddrPort
	queue  []arrival
}

type arrival struct {
	end  *end
	from netip.AddrPort
}

// chute carries files between tables.
type chute struct {
	in, out *file
	queue   []message
}

type message struct {
	file *file
	data []byte
}

// waker makes one poller's Wait return.
type waker struct {
	system *System
	file   *file
	fd     int32
	posted bool
	closed bool
}

// Wake implements loop.Waker.
func (w *waker) Wake() {
	w.system.mu.Lock()
	defer w.system.mu.Unlock()
	if !w.closed {
		w.posted = true
		w.system.touch(w.file)
	}
}

// Close implements loop.Waker.
func (w *waker) Close() {
	w.system.mu.Lock()
	defer w.system.mu.Unlock()
	w.closed = true
	delete(w.system.keep, w.fd)
	w.system.close(w.system.process, w.fd)
}

// end is one end of a connection.
type end struct {
	file  *file // nil for a peer's
	other *end

	in    []byte // sent by the other end, not read
	limit int    // of in; < 0: none
	fin   bool   // the other end's FIN comes after in
	shut  bool   // our FIN is sent
	err   error  // reported once, after in
	over  bool   // err was reported
	done  bool   // closed

	connecting bool
	linger0    bool // a close resets
	wasReset   bool // the other end reset it
	failRead   error
	failWrite  error
	writes     []int        // sizes of the other end's writes
	info       *sys.TCPInfo // nil: nothing is known
}

// defaultLimit bounds what a loop's end holds unread from another loop's; a test's peer writes beyond it.
const defaultLimit = 256 << 10

func (s *System) pair() (a, b *end) {
	a, b = &end{limit: defaultLimit}, &end{limit: defaultLimit}
	a.other, b.other = b, a
	return a, b
}

func (f *file) ready() sys.Ready {
	var r sys.Ready
	switch {
	case f.socket != nil:
		e := f.socket
		if e.connecting {
			return 0
		}
		if len(e.in) > 0 || e.fin || e.err != nil || e.over || e.failRead != nil {
			r |= sys.ReadyRead
		}
		if e.room() != 0 || e.err != nil || e.over || e.other.done || e.failWrite != nil {
			r |= sys.ReadyWrite
		}
		if e.err != nil || e.over || e.fin && e.shut {
			r |= sys.Failed | sys.ReadyRead
		}
	case f.listener != nil:
		if len(f.listener.queue) > 0 {
			r = sys.ReadyRead
		}
	case f.chute != nil:
		if f == f.chute.out && len(f.chute.queue) > 0 {
			r = sys.ReadyRead
		}
	case f.waker != nil:
		if f.waker.posted {
			r = sys.ReadyRead
		}
	}
	return r
}

// room is how much the other end takes now; < 0: anything.
func (e *end) room() int {
	if e.other.limit < 0 {
		return -1
	}
	return max(0, e.other.limit-len(e.other.in))
}

func (e *end) read(s *System, b []byte) (int, error) {
	switch {
	case e.failRead != nil:
		return 0, e.failRead
	case len(e.in) > 0:
		n := copy(b, e.in)
		if e.in = e.in[n:]; len(e.in) == 0 {
			e.in = nil
		}
		s.touch(e.other.file)
		return n, nil
	case e.err != nil:
		err := e.err
		e.err, e.over = nil, true
		return 0, err
	case e.fin || e.over:
		return 0, nil
	}
	return 0, sys.ErrWouldBlock
}

func (e *end) write(s *System, b []byte) (int, error) {
	switch {
	case e.failWrite != nil:
		return 0, e.failWrite
	case e.connecting:
		return 0, sys.ErrWouldBlock
	case e.err != nil:
		err := e.err
		e.err, e.over = nil, true
		return 0, err
	case e.over || e.shut:
		return 0, syscall.EPIPE
	case e.other.done:
		// The other end answers with a reset.
		e.err = syscall.ECONNRESET
		if e.fin {
			e.err = syscall.EPIPE
		}
		e.wasReset = true
		s.touch(e.file)
		return len(b), nil
	}
	if n := e.room(); n >= 0 {
		if n == 0 {
			return 0, sys.ErrWouldBlock
		}
		b = b[:min(n, len(b))]
	}
	e.other.in = append(e.other.in, b...)
	e.other.writes = append(e.other.writes, len(b))
	s.touch(e.other.file)
	return len(b), nil
}

func (e *end) shutdown(s *System) {
	if !e.shut && !e.done {
		e.shut, e.other.fin = true, true
		s.touch(e.file)
		s.touch(e.other.file)
	}
}

// close is the kernel's, of the last descriptor.
func (e *end) close(s *System, reset bool) {
	if e.done {
		return
	}
	e.done = true
	if reset || len(e.in) > 0 {
		e.other.reset(s, syscall.ECONNRESET)
	} else if !e.shut {
		e.other.fin = true
	}
	s.touch(e.other.file)
}

func (e *end) reset(s *System, err error) {
	if !e.done && !e.over {
		e.err, e.wasReset, e.connecting = err, true, false
		s.touch(e.file)
	}
}

// touch has the pollers that watch f look at it.
func (s *System) touch(f *file) {
	if f != nil {
		for _, r := range f.watches {
			if !r.queued {
				r.queued = true
				r.poller.ready = append(r.poller.ready, r)
			}
		}
	}
	s.cond.Broadcast()
}

// close closes a descriptor.
func (s *System) close(t *table, fd int32) {
	f := t.fds[fd]
	if f == nil {
		return
	}
	delete(t.fds, fd)
	t.hint = min(t.hint, fd)
	s.release(f)
}

func (s *System) release(f *file) {
	if f.refs--; f.refs > 0 {
		return
	}
	for _, r := range f.watches {
		r.gone = true
		delete(r.poller.watched, watch{f, r.fd})
	}
	f.watches = nil
	switch {
	case f.socket != nil:
		f.socket.close(s, f.socket.linger0)
	case f.listener != nil:
		s.listeners = slices.DeleteFunc(s.listeners, func(ln *listener) bool { return ln == f.listener })
		for _, a := range f.listener.queue {
			a.end.close(s, true)
		}
	case f.chute != nil && f == f.chute.out:
		q := f.chute.queue
		f.chute.queue = nil
		for _, m := range q {
			s.release(m.file)
		}
	}
}

// pass puts a file into a chute.
func (s *System) pass(t *table, in int32, f *file, data []byte) error {
	if err := s.fails(Pass); err != nil {
		return err
	}
	cf := t.fds[in]
	if cf == nil || cf.chute == nil || cf != cf.chute.in {
		return syscall.EBADF
	}
	if len(data) == 0 || len(data) > sys.MaxPassed {
		return syscall.EMSGSIZE
	}
	if len(cf.chute.queue) >= chuteRoom {
		return sys.ErrWouldBlock
	}
	f.refs++
	cf.chute.queue = append(cf.chute.queue, message{file: f, data: slices.Clone(data)})
	s.touch(cf.chute.out)
	return nil
}
