package sys

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Socket is one TCP socket that is no listener, as the kernel tells of it.
type Socket struct {
	Cookie        uint64         // names it for good: SO_COOKIE
	Local, Remote netip.AddrPort // a port of one that is over may be 0
	State         SocketState
	Info          TCPInfo
}

// TCPInfo is what TCP_INFO and socket diagnosis tell of a connection (struct tcp_info of linux/tcp.h), as far as it is
// used. An older kernel leaves the last ones 0.
type TCPInfo struct {
	State              SocketState
	Timeouts           uint8         // retransmission timeouts in a row
	Probes             uint8         // keepalive or zero-window probes without an answer
	Unacked            uint32        // segments under way; 0 once it is closed
	LastAck            time.Duration // since the peer's last acknowledgement
	RTT                time.Duration // smoothed
	Retransmits        uint32        // segments that were sent anew, in all
	BytesAcked         uint64        // a FIN counts as one
	BytesReceived      uint64        // a FIN counts as one
	NotSent            uint32        // bytes that were written and never sent
	BytesSent          uint64        // with those that were sent anew
	BytesRetransmitted uint64
}

// tcpInfoSize is how much of struct tcp_info is read.
const tcpInfoSize = 216

// parseTCPInfo reads a struct tcp_info; what b lacks is 0.
func parseTCPInfo(b []byte) TCPInfo {
	var full [tcpInfoSize]byte
	copy(full[:], b)
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(full[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(full[at:]) }
	return TCPInfo{
		State:              SocketState(full[0]),
		Timeouts:           full[2],
		Probes:             full[3],
		Unacked:            u32(24),
		LastAck:            time.Duration(u32(56)) * time.Millisecond,
		RTT:                time.Duration(u32(68)) * time.Microsecond,
		Retransmits:        u32(100),
		BytesAcked:         u64(120),
		BytesReceived:      u64(128),
		NotSent:            u32(144),
		BytesSent:          u64(200),
		BytesRetransmitted: u64(208),
	}
}

// What is asked for of a socket, and how the answer marks it: INET_DIAG_INFO of linux/inet_diag.h.
const diagInfo = 2

// parseSocket reads struct inet_diag_msg and the attributes behind it. b has at least diagMessage bytes.
func parseSocket(b []byte) Socket {
	address := func(at int) netip.Addr {
		if b[0] == familyIPv4 {
			return netip.AddrFrom4([4]byte(b[at:]))
		}
		return netip.AddrFrom16([16]byte(b[at:]))
	}
	s := Socket{
		State:  SocketState(b[1]),
		Local:  netip.AddrPortFrom(address(8), binary.BigEndian.Uint16(b[4:])),
		Remote: netip.AddrPortFrom(address(24), binary.BigEndian.Uint16(b[6:])),
		// Two halves, the lower one first, each in the machine's order.
		Cookie: uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32,
	}
	for a := b[diagMessage:]; len(a) >= 4; {
		n := int(binary.NativeEndian.Uint16(a))
		if n < 4 || n > len(a) {
			break
		}
		if binary.NativeEndian.Uint16(a[2:]) == diagInfo {
			s.Info = parseTCPInfo(a[4:n])
		}
		a = a[min((n+3)&^3, len(a)):]
	}
	return s
}
