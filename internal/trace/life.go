package trace

import (
	"encoding/json"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Side is one end of a connection.
type Side uint8

// The sides. The server's is the one that is traced.
const (
	SideNone Side = iota
	SideClient
	SideServer
)

// String is none, client or server.
func (s Side) String() string {
	switch s {
	case SideClient:
		return "client"
	case SideServer:
		return "server"
	}
	return "none"
}

// MarshalText is String.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Path is the last 16 states of a connection, 4 bits each, the newest lowest.
type Path uint64

// Then is the path with one more state, unless that is the newest already.
func (p Path) Then(s sys.SocketState) Path {
	if p.Last() == s {
		return p
	}
	return p<<4 | Path(s&15)
}

// Last is the newest state; 0 if there is none.
func (p Path) Last() sys.SocketState { return sys.SocketState(p & 15) }

// String lists the states, the oldest first: SYN_RECV>ESTABLISHED>CLOSE.
func (p Path) String() string {
	var b strings.Builder
	for shift := 60; shift >= 0; shift -= 4 {
		if s := sys.SocketState(p >> shift & 15); s != 0 {
			if b.Len() > 0 {
				b.WriteByte('>')
			}
			b.WriteString(s.String())
		}
	}
	return b.String()
}

// MarshalJSON lists the states' names, the oldest first.
func (p Path) MarshalJSON() ([]byte, error) {
	names := []string{}
	if p != 0 {
		names = strings.Split(p.String(), ">")
	}
	return json.Marshal(names)
}

// Life is the record of one connection, as seen from its server's side. What its level can't see is zero; the times of
// what did not happen are zero.
type Life struct {
	Level   Level
	Session [16]byte // what Tag or Closing called it; zero if neither did
	Cookie  uint64   // names the socket for good: SO_COOKIE
	Local   netip.AddrPort
	Remote  netip.AddrPort

	Path  Path // at LevelDiag as far as it was looked at
	First Side // whose FIN was first

	Established   time.Time
	FINReceived   time.Time
	FINSent       time.Time
	RSTReceived   time.Time
	RSTSent       time.Time
	Retransmitted time.Time // last
	Closed        time.Time // when the state became CLOSE; below LevelBPF, when that was told

	Retransmits uint32        // segments that were sent anew, in all
	Timeouts    uint8         // retransmission timeouts in a row at the end
	Probes      uint8         // keepalive or zero-window probes without an answer at the end
	Unacked     uint64        // bytes that were written and not acknowledged at the end; at LevelBPF a FIN counts as one
	Unread      int           // bytes that were received and not read when it was closed; below LevelBPF
	RTT         time.Duration // smoothed

	BytesReceived uint64 // a FIN counts as one
	BytesAcked    uint64 // a FIN counts as one

	Err         syscall.Errno // the socket's first error
	SoftErr     syscall.Errno // an error that was not final: ICMP
	ResetReason string        // why an RST was sent, as the kernel names it, without its prefix: TCP_ABORT_ON_CLOSE; from Linux 6.10
	ByExit      bool          // closed by a process that was ending

	FINAcked bool // our FIN was acknowledged; below LevelBPF, where the states do not say

	Seen    bool // the connection's own process told what it saw (Tracer.Closing)
	Aborted bool // it said that it closes with SO_LINGER 0
	Ended   bool // the kernel told the end; below LevelBPF it may not have
}

// FirstFIN is whose FIN was first, by the states.
func (p Path) FirstFIN() Side {
	for shift := 60; shift >= 0; shift -= 4 {
		switch sys.SocketState(p >> shift & 15) {
		case sys.SocketCloseWait, sys.SocketLastAck:
			return SideClient
		case sys.SocketFinWait1, sys.SocketFinWait2, sys.SocketClosing:
			return SideServer
		}
	}
	return SideNone
}
