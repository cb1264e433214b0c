package loop

import (
	"net"
	"net/netip"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Poller is the kernel as one loop sees it. Its methods belong to the loop's thread. No method but Wait
// blocks. Readiness is level-triggered, what is still ready is reported again, unless sys.Edge is asked for.
type Poller interface {
	// Wait fills events with what is ready. timeout < 0 waits for ever, 0 not at all. It may return 0 early.
	Wait(events []sys.Event, timeout time.Duration) (int, error)
	Add(fd int32, k sys.Key, in sys.Interest) error
	Modify(fd int32, k sys.Key, in sys.Interest) error
	Remove(fd int32) error

	// Read's n == 0 with a nil error is the end of the stream. Read, Write, Accept and Receive return
	// sys.ErrWouldBlock when not ready; other errors are syscall.Errno where the kernel gave one.
	Read(fd int32, b []byte) (int, error)
	Write(fd int32, b []byte) (int, error)
	Accept(listener int32) (int32, netip.AddrPort, error)
	Connect(from, to netip.AddrPort) (int32, error)
	ConnectError(fd int32) error
	ShutdownWrite(fd int32)
	CloseSocket(fd int32, abort bool)
	SetUserTimeout(fd int32, d time.Duration)
	// Info is what TCP knows of a conn, an error included that was read already; false where the system does not say.
	Info(fd int32) (sys.TCPInfo, bool)
	// Peer is the other end's address; the zero value when it is not known.
	Peer(fd int32) netip.AddrPort

	// Pass drops a duplicate of fd with data into a chute; Receive takes one out.
	Pass(in, fd int32, data []byte) error
	Receive(out int32, b []byte) (fd int32, n int, err error)
	Close() error
}

// Waker makes one poller's Wait return. Any goroutine may call Wake.
type Waker interface {
	Wake()
	Close()
}

// System is the kernel as a group sees it: it makes what has to exist before any loop runs. The real one
// is chosen by NewSystem; tests bring their own.
type System interface {
	// Tables tells how many descriptors one table holds, and whether threads can have tables of their own.
	Tables() (limit int, private bool)
	// Listen opens count sockets on one address between which the system spreads connections.
	Listen(addr netip.AddrPort, count int, o sys.ListenOptions) ([]int32, netip.AddrPort, error)
	CloseListener(fd int32)
	NewWaker() (Waker, error)
	NewChute() (in, out int32, err error)
	CloseChute(in, out int32)
	// Enter prepares the calling thread (locked) for a loop and makes its poller; with private, the thread
	// gets a descriptor table of its own that keeps the descriptors made by Listen, NewWaker and NewChute.
	Enter(w Waker, private bool, batch int) (Poller, error)
	// PassConn drops c's socket into a chute from any goroutine. On success c is used up.
	PassConn(in int32, c net.Conn, data []byte) error
	// ReceiveConn waits, on any goroutine, for a conn in the chute, until CloseChute.
	ReceiveConn(out int32, b []byte) (c net.Conn, n int, err error)
	// Now is monotonic time since some start.
	Now() time.Duration
	// Map reserves zeroed memory for tables without pointers; Discard empties, Unmap releases it.
	Map(n int) ([]byte, error)
	Discard(b []byte)
	Unmap(b []byte)
}
