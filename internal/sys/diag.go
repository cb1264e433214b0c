package sys

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
)

// Listener is a listening TCP socket.
type Listener struct {
	Addr    netip.AddrPort
	Queue   uint32 // conns that wait to be accepted; one more than Backlog is a full queue
	Backlog uint32 // what it was given, within somaxconn
	Inode   uint32
}

// SocketState is a TCP socket's state, as the kernel numbers them.
type SocketState uint8

// The states.
const (
	SocketEstablished SocketState = 1 + iota
	SocketSynSent
	SocketSynReceived
	SocketFinWait1
	SocketFinWait2
	SocketTimeWait
	SocketClosed
	SocketCloseWait
	SocketLastAck
	SocketListening
	SocketClosing
)

// SocketCounts is how many sockets are in each state.
type SocketCounts [SocketClosing + 1]int

// diagSocket is one record of a SOCK_DIAG dump: struct inet_diag_msg of linux/inet_diag.h, as far as it is used.
type diagSocket struct {
	addr           netip.AddrPort
	state          SocketState
	rqueue, wqueue uint32
	inode          uint32
}

// What the netlink answers hold, sock_diag(7) and netlink(7).
const (
	netlinkHeader = 16
	netlinkError  = 2
	netlinkDone   = 3
	diagByFamily  = 20
	diagMessage   = 72
)

var errDiag = errors.New("socket diagnosis: malformed answer")

// parseDiag reads one datagram of an answer and calls each for its sockets. done is true once the answer is complete.
// b is not retained. A refusal of the kernel is a syscall.Errno.
func parseDiag(b []byte, each func(diagSocket)) (done bool, err error) {
	return walkDiag(b, func(body []byte) { each(parseDiagSocket(body)) })
}

// walkDiag is parseDiag for messages as they are: at least diagMessage bytes, lent until each returns.
func walkDiag(b []byte, each func(body []byte)) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < netlinkHeader {
			return false, errDiag
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < netlinkHeader || n > len(b) {
			return false, errDiag
		}
		body := b[netlinkHeader:n]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case netlinkDone:
			// A dump that failed midway says so here.
			if len(body) >= 4 {
				if e := int32(binary.NativeEndian.Uint32(body)); e < 0 {
					return true, syscall.Errno(-e)
				}
			}
			return true, nil
		case netlinkError:
			if len(body) < 4 {
				return false, errDiag
			}
			if e := int32(binary.NativeEndian.Uint32(body)); e < 0 {
				return true, syscall.Errno(-e)
			}
		case diagByFamily:
			if len(body) < diagMessage {
				return false, errDiag
			}
			each(body)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return false, nil
}

func parseDiagSocket(b []byte) diagSocket {
	addr := netip.AddrFrom4([4]byte(b[8:]))
	if b[0] != familyIPv4 {
		addr = netip.AddrFrom16([16]byte(b[8:]))
	}
	return diagSocket{
		addr:   netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[4:])),
		state:  SocketState(b[1]),
		rqueue: binary.NativeEndian.Uint32(b[56:]),
		wqueue: binary.NativeEndian.Uint32(b[60:]),
		inode:  binary.NativeEndian.Uint32(b[68:]),
	}
}

// familyIPv4 is Linux's AF_INET.
const familyIPv4 = 2
