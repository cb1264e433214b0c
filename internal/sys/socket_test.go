package sys

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// wholeSocket is a struct inet_diag_msg with a struct tcp_info behind it.
func wholeSocket(family byte) []byte {
	b := make([]byte, diagMessage+4+tcpInfoSize)
	b[0], b[1] = family, byte(SocketFinWait1)
	binary.BigEndian.PutUint16(b[4:], 8000)
	binary.BigEndian.PutUint16(b[6:], 40001)
	copy(b[8:], []byte{192, 0, 2, 1})
	copy(b[24:], []byte{192, 0, 2, 2})
	binary.NativeEndian.PutUint32(b[44:], 7)
	binary.NativeEndian.PutUint32(b[48:], 1)
	a := b[diagMessage:]
	binary.NativeEndian.PutUint16(a, 4+tcpInfoSize)
	binary.NativeEndian.PutUint16(a[2:], diagInfo)
	a = a[4:]
	a[0], a[2], a[3] = byte(SocketFinWait1), 3, 4
	binary.NativeEndian.PutUint32(a[56:], 250)
	binary.NativeEndian.PutUint64(a[208:], 99)
	return b
}

func TestParseSocket(t *testing.T) {
	s := parseSocket(wholeSocket(familyIPv4))
	want := Socket{
		Cookie: 1<<32 | 7, Local: netip.MustParseAddrPort("192.0.2.1:8000"), Remote: netip.MustParseAddrPort("192.0.2.2:40001"), State: SocketFinWait1,
		Info: TCPInfo{State: SocketFinWait1, Timeouts: 3, Probes: 4, LastAck: 250 * time.Millisecond, BytesRetransmitted: 99},
	}
	if s != want {
		t.Errorf("parseSocket = %+v, want %+v", s, want)
	}
	if s := parseSocket(wholeSocket(10)); !s.Local.Addr().Is6() || s.Local.Port() != 8000 {
		t.Errorf("local address of IPv6 = %v", s.Local)
	}
	// An older kernel's is shorter.
	if i := parseTCPInfo([]byte{1, 0, 2}); i != (TCPInfo{State: SocketEstablished, Timeouts: 2}) {
		t.Errorf("three bytes of struct tcp_info = %+v", i)
	}
}

func TestStateNames(t *testing.T) {
	for s, want := range map[SocketState]string{SocketEstablished: "ESTABLISHED", SocketClosing: "CLOSING", 0: "UNKNOWN", 99: "UNKNOWN"} {
		if got := s.String(); got != want {
			t.Errorf("state %d is %q, want %q", s, got, want)
		}
	}
}

func FuzzSocket(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < diagMessage {
			return
		}
		if s := parseSocket(b); s.Local.Port() != binary.BigEndian.Uint16(b[4:]) || s.State != SocketState(b[1]) {
			t.Errorf("parseSocket = %+v of % x", s, b[:8])
		}
	})
}
