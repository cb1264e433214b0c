package loop

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// linux is the System of Linux: epoll, and descriptor tables of threads.
type linux struct {
	runtime sys.Runtime
	start   time.Time

	mu      sync.Mutex
	keep    map[int]bool               // guarded by mu: what every private table keeps
	readers map[int32]*sys.ChuteReader // guarded by mu, by Out end
}

// NewSystem is the kernel underneath.
func NewSystem() (System, error) {
	r, err := sys.StartRuntimePoller()
	if err != nil {
		return nil, err
	}
	systems.Add(1)
	return &linux{runtime: r, start: time.Now(), keep: make(map[int]bool), readers: make(map[int32]*sys.ChuteReader)}, nil
}

func (x *linux) Now() time.Duration { return time.Since(x.start) }

func (x *linux) Tables() (limit int, private bool) {
	limit, _ = sys.Descriptors()
	return limit, true
}

func (x *linux) retain(fds ...int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, fd := range fds {
		x.keep[fd] = true
	}
}

// Keep has every private table keep the caller's descriptors.
func (x *linux) Keep(fds ...int) { x.retain(fds...) }

func (x *linux) forget(fds ...int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, fd := range fds {
		delete(x.keep, fd)
	}
}

func (x *linux) Listen(addr netip.AddrPort, count int, o sys.ListenOptions) ([]int32, netip.AddrPort, error) {
	if err := sys.PortTaken(addr); err != nil {
		return nil, addr, err
	}
	fds, bound, err := sys.Listen(addr, count, o)
	for _, fd := range fds {
		x.retain(int(fd))
	}
	return fds, bound, err
}

func (x *linux) CloseListener(fd int32) {
	x.forget(int(fd))
	sys.CloseFD(fd)
}

func (x *linux) NewWaker() (Waker, error) {
	w, err := sys.NewEpollWaker()
	if err != nil {
		return nil, err
	}
	x.retain(w.FD())
	return &waker{EpollWaker: w, system: x}, nil
}

type waker struct {
	*sys.EpollWaker
	system *linux
}

// Wake is EpollWaker's, from any thread: in the table of another group's loop the descriptor's number may stand for a client's
// socket, so there a goroutine does it, which runs on a thread of the process's own table.
func (w *waker) Wake() {
	if systems.Load() > 1 {
		if of, ok := tables.Load(sys.ThreadID()); ok && of != w.system {
			go w.EpollWaker.Wake()
			return
		}
	}
	w.EpollWaker.Wake()
}

// tables has the threads with a descriptor table of their own, by number, with the system whose they are. systems is how many
// systems were ever made: while there is one, no thread has to be looked up.
var (
	tables  sync.Map
	systems atomic.Int32
)

func (w *waker) Close() {
	w.system.forget(w.FD())
	w.EpollWaker.Close()
}

func (x *linux) NewChute() (in, out int32, err error) {
	c, err := sys.NewChute()
	if err != nil {
		return -1, -1, err
	}
	x.retain(int(c.In), int(c.Out))
	return c.In, c.Out, nil
}

func (x *linux) CloseChute(in, out int32) {
	x.forget(int(in), int(out))
	sys.CloseFD(in)
	x.mu.Lock()
	r := x.readers[out]
	delete(x.readers, out)
	x.mu.Unlock()
	if r != nil {
		_ = r.Close()
		return
	}
	sys.CloseFD(out)
}

func (x *linux) Enter(w Waker, private bool, batch int) (Poller, error) {
	if private {
		x.mu.Lock()
		keep := make([]int, 0, len(x.keep))
		for fd := range x.keep {
			keep = append(keep, fd)
		}
		x.mu.Unlock()
		if err := sys.PrivateTable(x.runtime, keep); err != nil {
			return nil, err
		}
		tables.Store(sys.ThreadID(), x)
	}
	p, err := newEpollPoller(w.(*waker).EpollWaker, batch)
	if err != nil {
		tables.Delete(sys.ThreadID())
		return nil, err
	}
	return p, nil
}

func (x *linux) PassConn(in int32, c net.Conn, data []byte) error {
	if err := sys.PassConn(in, c, data); err != nil {
		return err
	}
	_ = c.Close()
	return nil
}

func (x *linux) ReceiveConn(out int32, b []byte) (net.Conn, int, error) {
	x.mu.Lock()
	r := x.readers[out]
	if r == nil {
		if !x.keep[int(out)] {
			x.mu.Unlock()
			return nil, 0, os.ErrClosed
		}
		var err error
		if r, err = sys.NewChuteReader(out); err != nil {
			x.mu.Unlock()
			return nil, 0, err
		}
		x.readers[out] = r
	}
	x.mu.Unlock()
	for {
		fd, n, err := r.Receive(b)
		if err != nil {
			return nil, 0, err
		}
		if fd < 0 {
			continue // the table was full; the peer sees its connection closed
		}
		c, err := sys.ConnFromFD(fd)
		if err != nil {
			continue
		}
		return c, n, nil
	}
}

func (x *linux) Map(n int) ([]byte, error) { return sys.Map(n) }
func (x *linux) Discard(b []byte)          { sys.Discard(b) }
func (x *linux) Unmap(b []byte)            { sys.Unmap(b) }

// epollPoller is an Epoll with the chutes' verbs.
type epollPoller struct{ *sys.Epoll }

func newEpollPoller(w *sys.EpollWaker, batch int) (Poller, error) {
	e, err := sys.NewEpoll(w, batch)
	if err != nil {
		return nil, err
	}
	return epollPoller{e}, nil
}

// Close ends it with the loop's thread, whose number another one may get.
func (p epollPoller) Close() error {
	tables.Delete(sys.ThreadID())
	return p.Epoll.Close()
}

func (epollPoller) Pass(in, fd int32, data []byte) error { return sys.Pass(in, fd, data) }
func (epollPoller) Receive(out int32, b []byte) (int32, int, error) {
	return sys.Receive(out, b)
}
