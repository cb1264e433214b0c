package sys

import (
	"fmt"
	"io"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Chute carries descriptors, each with a few kilobytes of data, into another table: what is dropped in
// at In by any thread comes out at Out. Both ends have to exist before the tables split, so that their
// numbers hold in all of them.
type Chute struct {
	In, Out int32
}

// chuteBuffer bounds the messages waiting in a chute; it also bounds the size of one.
const chuteBuffer = 1 << 20

// NewChute makes a chute; both ends are non-blocking.
func NewChute() (*Chute, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, chuteBuffer)
	return &Chute{In: int32(fds[0]), Out: int32(fds[1])}, nil
}

// Close closes both ends in the calling thread's table.
func (c *Chute) Close() {
	_ = unix.Close(int(c.In))
	_ = unix.Close(int(c.Out))
}

// Pass drops fd with data (at least one byte, at most MaxPassed) into the chute. The caller still owns
// its own descriptor and closes it. ErrWouldBlock means that the chute is full.
func Pass(in int32, fd int32, data []byte) error {
	if len(data) == 0 || len(data) > MaxPassed {
		return fmt.Errorf("pass a descriptor with %d bytes: want 1 to %d", len(data), MaxPassed)
	}
	oob := unix.UnixRights(int(fd))
	for {
		err := unix.Sendmsg(int(in), data, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			return ErrWouldBlock
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// PassConn drops a duplicate of c's socket into the chute and leaves c open; the caller closes it.
func PassConn(in int32, c net.Conn, data []byte) error {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("pass a %T: %w: only TCP sockets move between tables", c, ErrUnsupported)
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return err
	}
	var passErr error
	if err := raw.Control(func(fd uintptr) { passErr = Pass(in, int32(fd), data) }); err != nil {
		return err
	}
	return passErr
}

// Receive takes one descriptor and its data (into b) out of a chute. ErrWouldBlock means that it is
// empty, io.EOF that its In end is closed everywhere; fd < 0 with a nil error means that the message came without its descriptor because the table is
// full.
func Receive(out int32, b []byte) (fd int32, n int, err error) {
	var oob [64]byte
	for {
		n, oobn, _, _, err := unix.Recvmsg(int(out), b, oob[:], unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return -1, 0, ErrWouldBlock
		default:
			return -1, 0, os.NewSyscallError("recvmsg", err)
		}
		if n == 0 && oobn == 0 {
			return -1, 0, io.EOF
		}
		if oobn < unix.CmsgLen(4) {
			return -1, n, nil
		}
		return *(*int32)(unsafe.Pointer(&oob[unix.CmsgLen(0)])), n, nil
	}
}

// ConnFromFD turns a received socket into a net.Conn of the calling thread's table and consumes fd.
func ConnFromFD(fd int32) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "passed")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// ChuteReader reads a chute from ordinary goroutines, through the runtime's poller.
type ChuteReader struct {
	f   *os.File
	raw interface {
		Read(func(uintptr) bool) error
	}
}

// NewChuteReader takes over a chute's Out end in the process's table.
func NewChuteReader(out int32) (*ChuteReader, error) {
	f := os.NewFile(uintptr(out), "chute")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &ChuteReader{f: f, raw: raw}, nil
}

// Receive waits for one descriptor; it ends with os.ErrClosed when Close is called.
func (r *ChuteReader) Receive(b []byte) (fd int32, n int, err error) {
	rerr := r.raw.Read(func(out uintptr) bool {
		fd, n, err = Receive(int32(out), b)
		return err != ErrWouldBlock
	})
	if rerr != nil {
		return -1, 0, os.ErrClosed // nothing else ends the wait
	}
	return fd, n, err
}

// Close ends Receive and closes the Out end.
func (r *ChuteReader) Close() error { return r.f.Close() }
