package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SocketCookie is the number that names a socket of the calling thread's table for good, on both sides of the kernel's door.
func SocketCookie(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return c, os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// SocketInfo is TCP_INFO of a socket of the calling thread's table; it is there after an error, too.
func SocketInfo(fd int) (TCPInfo, error) {
	var b [tcpInfoSize]byte
	n := uint32(len(b))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return TCPInfo{}, os.NewSyscallError("getsockopt TCP_INFO", errno)
	}
	return parseTCPInfo(b[:min(int(n), len(b))]), nil
}

// SocketPeer is the address at the other end of a socket of the calling thread's table; the zero value when it has none.
func SocketPeer(fd int) netip.AddrPort {
	var b [unix.SizeofSockaddrInet6]byte
	n := uint32(len(b))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n))); errno != 0 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// IsMPTCP reports whether a socket of the calling thread's table speaks Multipath TCP.
func IsMPTCP(fd int) bool {
	p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && p == unix.IPPROTO_MPTCP
}

// UnreadBytes is how many received bytes nobody has read yet of a socket of the calling thread's table.
func UnreadBytes(fd int) (int, error) {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return n, os.NewSyscallError("ioctl TIOCINQ", err)
}

// Sockets calls each for the conns with a local port, or with any if it is 0: those in TIME_WAIT and listeners are left out.
func (d *Diag) Sockets(port uint16, each func(Socket)) error {
	const states = (1<<len(SocketCounts{}) - 1) &^ (1<<SocketListening | 1<<SocketTimeWait)
	return d.dump(states, port, 0, 1<<(diagInfo-1), func(body []byte) {
		if s := parseSocket(body); port == 0 || s.Local.Port() == port {
			each(s)
		}
	})
}

// Destroyed tells of every TCP socket of a network namespace that is destroyed, with its last figures: that of the thread
// which opened it. It needs no rights. It is for one goroutine at a time, but Close.
type Destroyed struct {
	file   *os.File
	buffer []byte
}

// OpenDestroyed begins to listen, in the calling thread's network namespace; Network.Do opens another's.
// ErrUnsupported says that the kernel does not tell.
func OpenDestroyed() (*Destroyed, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err == nil {
		const tcpDestroy = 1 // SKNLGRP_INET_TCP_DESTROY of linux/sock_diag.h
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (tcpDestroy - 1)}); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("destroyed sockets: %w (%w)", os.NewSyscallError("netlink socket", err), ErrUnsupported)
	}
	// As much as it gets: what does not fit is lost. The first way is beyond the administrator's limit, and may be refused.
	const room = 4 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	return &Destroyed{file: os.NewFile(uintptr(fd), "destroyed sockets"), buffer: make([]byte, 64<<10)}, nil
}

// Read waits until the deadline for the next datagram and calls each for its sockets. lost says that the kernel had no
// room for some since the last Read. It returns os.ErrDeadlineExceeded when none came.
func (d *Destroyed) Read(deadline time.Time, each func(Socket)) (lost bool, err error) {
	if err := d.file.SetReadDeadline(deadline); err != nil {
		return false, fmt.Errorf("destroyed sockets: %w", err)
	}
	n, err := d.file.Read(d.buffer)
	if errors.Is(err, syscall.ENOBUFS) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("destroyed sockets: %w", err)
	}
	_, err = walkDiag(d.buffer[:n], func(body []byte) { each(parseSocket(body)) })
	return false, err
}

// Close releases it and ends a Read.
func (d *Destroyed) Close() error { return d.file.Close() }

// Info is what TCP knows of a conn.
func (e *Epoll) Info(fd int32) (TCPInfo, bool) {
	x, err := SocketInfo(int(fd))
	return x, err == nil
}

// Peer is the other end's address.
func (e *Epoll) Peer(fd int32) netip.AddrPort { return SocketPeer(int(fd)) }
