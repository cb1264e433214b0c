package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Diag asks the kernel about the TCP sockets of one network namespace: that of the thread which opened it. It needs no
// rights. It is for one goroutine at a time.
type Diag struct {
	fd     int
	buffer []byte
}

// OpenDiag opens it for the calling thread's network namespace; Network.Do opens another's. ErrUnsupported says
// that the kernel has no inet_diag.
func OpenDiag() (*Diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("socket diagnosis: %w (%w)", os.NewSyscallError("socket", err), ErrUnsupported)
	}
	// The kernel answers within the call; this is against a wait that nobody expects.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("socket diagnosis: %w", os.NewSyscallError("setsockopt", err))
	}
	return &Diag{fd: fd, buffer: make([]byte, 64<<10)}, nil
}

// Close releases it.
func (d *Diag) Close() error { return os.NewSyscallError("close", unix.Close(d.fd)) }

// Listeners are the sockets that listen on a port, or on any if it is 0: several when they share it (SO_REUSEPORT).
func (d *Diag) Listeners(port uint16) ([]Listener, error) {
	var list []Listener
	err := d.dump(1<<SocketListening, port, 0, 0, func(body []byte) {
		s := parseDiagSocket(body)
		if s.state == SocketListening && (port == 0 || s.addr.Port() == port) {
			list = append(list, Listener{Addr: s.addr, Queue: s.rqueue, Backlog: s.wqueue, Inode: s.inode})
		}
	})
	return list, err
}

// States counts the sockets by state: with a local and a remote port, where those are not 0. A server's conns
// are those with its local port, a client's those with its remote port. The kernel walks all sockets of the namespace: a million take it about
// a second.
func (d *Diag) States(local, remote uint16) (SocketCounts, error) {
	var c SocketCounts
	err := d.dump(1<<len(c)-1, local, remote, 0, func(body []byte) {
		if s := parseDiagSocket(body); int(s.state) < len(c) {
			c[s.state]++
		}
	})
	return c, err
}

// dump asks for the sockets in some states; with is what to tell of them beside that: bit n-1 for INET_DIAG_ n.
func (d *Diag) dump(states uint32, local, remote uint16, with uint8, each func(body []byte)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := d.dumpFamily(family, states, local, remote, with, each)
		if errors.Is(err, unix.ENOENT) { // no module for it
			err = fmt.Errorf("%w (%w)", err, ErrUnsupported)
		}
		if err != nil {
			return fmt.Errorf("socket diagnosis: %w", err)
		}
	}
	return nil
}

func (d *Diag) dumpFamily(family uint8, states uint32, local, remote uint16, with uint8, each func(body []byte)) error {
	// struct nlmsghdr, then struct inet_diag_req_v2; the kernel leaves out other ports by itself.
	var b [netlinkHeader + 56]byte
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], diagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[netlinkHeader:]
	r[0], r[1], r[2] = family, unix.IPPROTO_TCP, with
	binary.NativeEndian.PutUint32(r[4:], states)
	binary.BigEndian.PutUint16(r[8:], local)
	binary.BigEndian.PutUint16(r[10:], remote)
	if err := unix.Sendto(d.fd, b[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	const most = 1 << 20 // datagrams of some dozens of sockets
	for range most {
		n, _, err := unix.Recvfrom(d.fd, d.buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if n == 0 {
			return errDiag
		}
		if done, err := walkDiag(d.buffer[:n], each); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("the answer has more than %d parts", most)
}
