package sys

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Epoll is one epoll instance with an eventfd to wake it. All methods but Wake belong to one thread.
//
// System calls that cannot block are made raw, without telling the scheduler: a hand-off costs more than
// the call. Only an epoll_wait that may sleep goes through the scheduler.
type Epoll struct {
	fd     int
	wakeFD int
	events []unix.EpollEvent
	coarse bool // no epoll_pwait2
	closed atomic.Bool
}

// EpollWaker holds what has to exist before the thread that will use an Epoll takes a descriptor table of
// its own: the eventfd, known under the same number in every table that is split off later.
type EpollWaker struct {
	fd int

	mu     sync.RWMutex // a late Wake must not write to whoever got the number after Close
	closed bool         // guarded by mu
}

// NewEpollWaker makes the wake-up descriptor of one later Epoll.
func NewEpollWaker() (*EpollWaker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &EpollWaker{fd: fd}, nil
}

// FD is the descriptor number, the same in every table.
func (w *EpollWaker) FD() int { return w.fd }

// Wake makes the Epoll's Wait return. Any thread may call it. The counter of an eventfd saturates
// instead of blocking, so a failed write means that a wake-up is already under way.
func (w *EpollWaker) Wake() {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return
	}
	one := uint64(1)
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(w.fd), uintptr(unsafe.Pointer(&one)), 8)
}

// Close releases the descriptor in the calling thread's table.
func (w *EpollWaker) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		_ = unix.Close(w.fd)
	}
}

// NewEpoll makes an epoll instance in the calling thread's descriptor table. batch bounds the events of
// one Wait.
func NewEpoll(w *EpollWaker, batch int) (*Epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	e := &Epoll{fd: fd, wakeFD: w.fd, events: make([]unix.EpollEvent, batch)}
	if err := e.Add(int32(w.fd), Key{Slot: WakeSlot}, Readable); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return e, nil
}

// Wait fills events with what is ready and reports how many. timeout < 0 waits for ever, 0 not at all; where the kernel
// has no epoll_pwait2 (it came with 5.11), it is rounded up to milliseconds. It may return 0 early.
func (e *Epoll) Wait(events []Event, timeout time.Duration) (int, error) {
	max := min(len(events), len(e.events))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), uintptr(max), 0, 0, 0)
	if errno == 0 && n == 0 && timeout != 0 {
		n, errno = e.sleep(max, timeout)
	}
	if errno != 0 {
		if errno == unix.EINTR {
			return 0, nil
		}
		return 0, os.NewSyscallError("epoll_wait", errno)
	}
	out := 0
	for i := range e.events[:n] {
		ev := &e.events[i]
		if uint32(ev.Fd) == WakeSlot {
			var b [8]byte
			_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(e.wakeFD), uintptr(unsafe.Pointer(&b)), 8)
			continue
		}
		var r Ready
		if ev.Events&unix.EPOLLIN != 0 {
			r |= ReadyRead
		}
		if ev.Events&unix.EPOLLOUT != 0 {
			r |= ReadyWrite
		}
		if ev.Events&unix.EPOLLRDHUP != 0 {
			r |= Ended | ReadyRead
		}
		if ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			r |= Failed | ReadyRead
		}
		events[out] = Event{Key: Key{Slot: uint32(ev.Fd), Gen: uint32(ev.Pad)}, Ready: r}
		out++
	}
	return out, nil
}

// sleep is Wait when nothing is ready.
func (e *Epoll) sleep(max int, timeout time.Duration) (n uintptr, errno unix.Errno) {
	if timeout > 0 && !e.coarse {
		ts := [2]int64{int64(timeout / time.Second), int64(timeout % time.Second)} // the call's seconds are of 64 bits everywhere
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), uintptr(max), uintptr(unsafe.Pointer(&ts)), 0, 0)
		if errno != unix.ENOSYS && errno != unix.EPERM { // EPERM: a container's filter that does not know the call
			return n, errno
		}
		e.coarse = true
	}
	ms := -1
	if timeout > 0 {
		ms = int(min((timeout-1)/time.Millisecond+1, math.MaxInt32))
	}
	n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(e.fd), uintptr(unsafe.Pointer(&e.events[0])), uintptr(max), uintptr(ms), 0, 0)
	return n, errno
}

func (e *Epoll) ctl(op int, fd int32, k Key, in Interest) error {
	ev := unix.EpollEvent{Fd: int32(k.Slot), Pad: int32(k.Gen)}
	if in&Readable != 0 {
		ev.Events |= unix.EPOLLIN
	}
	if in&Writable != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	if in&Edge != 0 {
		ev.Events |= unix.EPOLLET
		if in&Readable != 0 {
			ev.Events |= unix.EPOLLRDHUP
		}
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(e.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// Add watches fd, level-triggered unless in has Edge. Key comes back with each of its events.
func (e *Epoll) Add(fd int32, k Key, in Interest) error { return e.ctl(unix.EPOLL_CTL_ADD, fd, k, in) }

// Modify changes what fd is watched for.
func (e *Epoll) Modify(fd int32, k Key, in Interest) error {
	return e.ctl(unix.EPOLL_CTL_MOD, fd, k, in)
}

// Remove stops watching fd. It is needed only for a descriptor whose file lives on in another table:
// closing the last descriptor of a file removes it by itself.
func (e *Epoll) Remove(fd int32) error { return e.ctl(unix.EPOLL_CTL_DEL, fd, Key{}, 0) }

// Read reads into b. n == 0 with a nil error is the end of the stream; ErrWouldBlock means not ready.
func (e *Epoll) Read(fd int32, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno == 0 {
			return int(n), nil
		}
		if errno == unix.EAGAIN {
			return 0, ErrWouldBlock
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// Write writes what the socket takes of b. ErrWouldBlock means that it takes nothing now. It never
// raises SIGPIPE: the Go runtime ignores it for descriptors above 2, and the flag asks for it anyway.
func (e *Epoll) Write(fd int32, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), nil
		}
		if errno == unix.EAGAIN {
			return 0, ErrWouldBlock
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// Accept takes one connection from the listener's queue, non-blocking and close-on-exec.
func (e *Epoll) Accept(listener int32) (int32, netip.AddrPort, error) {
	var rsa unix.RawSockaddrAny
	for {
		size := uint32(unsafe.Sizeof(rsa))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&rsa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			return int32(fd), addrOf(&rsa), nil
		case unix.EAGAIN:
			return -1, netip.AddrPort{}, ErrWouldBlock
		case unix.EINTR, unix.ECONNABORTED:
			// The latter: it came and went before we took it. The next one may be there.
		default:
			return -1, netip.AddrPort{}, errno
		}
	}
}

// Connect starts a connection from an address (port 0: the kernel's choice, made at connect so that
// ports are shared between destinations; the zero AddrPort: any address). Writable readiness tells that
// it ended; ConnectError how.
func (e *Epoll) Connect(from, to netip.AddrPort) (int32, error) {
	fam := unix.AF_INET
	if to.Addr().Is6() && !to.Addr().Is4In6() {
		fam = unix.AF_INET6
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(fam), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("socket", errno)
	}
	fail := func(call string, errno syscall.Errno) (int32, error) {
		_ = unix.Close(int(fd))
		return -1, os.NewSyscallError(call, errno)
	}
	one := int32(1)
	setInt := func(level, name uintptr, v *int32) {
		_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, level, name, uintptr(unsafe.Pointer(v)), 4, 0)
	}
	setInt(unix.IPPROTO_TCP, unix.TCP_NODELAY, &one)
	var rsa unix.RawSockaddrAny
	if from.IsValid() {
		if from.Port() == 0 {
			setInt(unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, &one)
		}
		size := rawAddr(&rsa, from)
		if _, _, errno := unix.RawSyscall(unix.SYS_BIND, fd, uintptr(unsafe.Pointer(&rsa)), size); errno != 0 {
			return fail("bind", errno)
		}
	}
	size := rawAddr(&rsa, to)
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&rsa)), size)
	if errno != 0 && errno != unix.EINPROGRESS {
		return fail("connect", errno)
	}
	return int32(fd), nil
}

// ConnectError reports how a connect ended: nil when the connection stands. It also takes (and clears)
// the error that is pending on any socket.
func (e *Epoll) ConnectError(fd int32) error {
	var v, size int32 = 0, 4
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	if v != 0 {
		return syscall.Errno(v)
	}
	return nil
}

// ShutdownWrite sends the FIN after what is queued; reading goes on.
func (e *Epoll) ShutdownWrite(fd int32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// CloseSocket closes fd. With abort, the peer gets a reset and nothing queued is sent any more.
func (e *Epoll) CloseSocket(fd int32, abort bool) {
	if abort {
		l := unix.Linger{Onoff: 1}
		_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// Close releases the epoll instance; the waker stays its owner's.
func (e *Epoll) Close() error {
	if e.closed.Swap(true) {
		return errors.New("close epoll: already closed")
	}
	return os.NewSyscallError("close", unix.Close(e.fd))
}

func addrOf(rsa *unix.RawSockaddrAny) netip.AddrPort {
	switch rsa.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(rsa))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), ntohs(a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(rsa))
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), ntohs(a.Port))
	}
	return netip.AddrPort{}
}

func rawAddr(rsa *unix.RawSockaddrAny, ap netip.AddrPort) uintptr {
	*rsa = unix.RawSockaddrAny{}
	if a := ap.Addr().Unmap(); a.Is4() {
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(rsa))
		p.Family, p.Port, p.Addr = unix.AF_INET, ntohs(ap.Port()), a.As4()
		return unsafe.Sizeof(*p)
	}
	p := (*unix.RawSockaddrInet6)(unsafe.Pointer(rsa))
	p.Family, p.Port, p.Addr = unix.AF_INET6, ntohs(ap.Port()), ap.Addr().As16()
	return unsafe.Sizeof(*p)
}

// ntohs swaps between the kernel's big-endian port and ours; it is its own inverse.
func ntohs(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}
