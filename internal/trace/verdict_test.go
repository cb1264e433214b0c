package trace

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// path is the path through some states.
func path(states ...sys.SocketState) Path {
	var p Path
	for _, s := range states {
		p = p.Then(s)
	}
	return p
}

var (
	clientFirst = path(sys.SocketSynReceived, sys.SocketEstablished, sys.SocketCloseWait, sys.SocketLastAck, sys.SocketClosed)
	serverFirst = path(sys.SocketSynReceived, sys.SocketEstablished, sys.SocketFinWait1, sys.SocketFinWait2, sys.SocketClosed)
	neither     = path(sys.SocketSynReceived, sys.SocketEstablished, sys.SocketClosed)
)

// TestVerdict judges records as the kernel was seen to leave them, and those of older kernels that say less.
func TestVerdict(t *testing.T) {
	at := time.Unix(1e9, 0)
	for _, c := range []struct {
		name string
		life Life
		want Verdict
		say  string
	}{
		{"nothing known", Life{Level: LevelDiag}, VerdictUnknown, "can't be told"},
		{"nothing known, and silence", Life{Level: LevelDiag, Timeouts: 3}, VerdictUnknown, "3 times without an answer"},
		{"nothing known, but in order", Life{Level: LevelDiag, Ended: true, FINAcked: true}, VerdictUnknown, "in order"},
		{"an error of no kind", Life{Level: LevelBPF, Path: neither, Err: syscall.EIO}, VerdictUnknown, "can't be told"},
		{"client FIN", Life{Level: LevelBPF, Path: clientFirst}, VerdictClientFIN, "The client closed the connection."},
		{"client FIN, ours lost", Life{Level: LevelBPF, Path: clientFirst, Err: syscall.ETIMEDOUT, Timeouts: 3, Unacked: 1}, VerdictClientFIN, "was gone before"},
		{"client FIN, data lost", Life{Level: LevelBPF, Path: clientFirst, Err: syscall.ETIMEDOUT, Timeouts: 3, Unacked: 8}, VerdictRetransmissionTimeout, "8 bytes"},
		{"client FIN, then killed", Life{Level: LevelBPF, Path: clientFirst, ByExit: true}, VerdictClientFIN, "client"},
		{"server FIN", Life{Level: LevelBPF, Path: serverFirst}, VerdictServerFIN, "acknowledged"},
		{"server FIN, RST", Life{Level: LevelBPF, Path: serverFirst, RSTReceived: at, Err: syscall.ECONNRESET}, VerdictServerFIN, "answered with an RST"},
		{"server FIN, RST at the end of waiting", Life{Level: LevelBPF, Path: serverFirst, RSTSent: at}, VerdictServerFIN, "closed"},
		{"killed", Life{Level: LevelBPF, Path: serverFirst, ByExit: true}, VerdictProcessKilled, "process ended"},
		{"killed with unread data", Life{Level: LevelBPF, Path: neither, ByExit: true, RSTSent: at, ResetReason: reasonUnread}, VerdictProcessKilled, "process ended"},
		{"killed, and the client gone", Life{Level: LevelBPF, Path: serverFirst, ByExit: true, Err: syscall.ETIMEDOUT, Timeouts: 3}, VerdictProcessKilled, "process ended"},
		{"RST", Life{Level: LevelBPF, Path: neither, RSTReceived: at, Err: syscall.ECONNRESET}, VerdictClientReset, "reset"},
		{"RST, error read already", Life{Level: LevelBPF, Path: neither, RSTReceived: at}, VerdictClientReset, "reset"},
		{"RST, unacked", Life{Level: LevelBPF, Path: neither, RSTReceived: at, Err: syscall.ECONNRESET, Unacked: 1}, VerdictClientResetUnacked, "1 byte not"},
		{"RST after FIN", Life{Level: LevelBPF, Path: clientFirst, RSTReceived: at, Err: syscall.EPIPE, Unacked: 4}, VerdictClientResetAfterFIN, "4 bytes"},
		{"RST in answer to our FIN after the client's", Life{Level: LevelBPF, Path: clientFirst, FINSent: at, RSTReceived: at, Err: syscall.EPIPE, Unacked: 1}, VerdictClientFIN, "was gone before"},
		{"a step missing: ICMP", Life{Level: LevelBPF, Path: neither, SoftErr: syscall.EHOSTUNREACH, Timeouts: 4, Unacked: 6}, VerdictUnreachable, "no route to host"},
		{"a step missing: silence", Life{Level: LevelBPF, Path: neither, Timeouts: 4, Unacked: 6}, VerdictRetransmissionTimeout, "silent"},
		{"a step missing: window", Life{Level: LevelBPF, Path: neither, Probes: 4, Unacked: 6}, VerdictZeroWindow, "window"},
		{"a step missing: keepalive", Life{Level: LevelBPF, Path: neither, Probes: 4}, VerdictKeepaliveTimeout, "keepalive"},
		{"a step missing: all", Life{Level: LevelBPF, Path: neither}, VerdictUnknown, "can't be told"},
		{"RST after FIN, for nothing", Life{Level: LevelBPF, Path: clientFirst, RSTReceived: at, Err: syscall.EPIPE}, VerdictClientResetAfterFIN, "then reset it"},
		{"aborted", Life{Level: LevelBPF, Path: neither, RSTSent: at, ResetReason: "TCP_STATE", Err: syscall.ECONNRESET}, VerdictServerResetAborted, "lingering"},
		{"aborted, no reasons", Life{Level: LevelBPF, Path: neither, RSTSent: at, Err: syscall.ECONNRESET}, VerdictServerResetAborted, "lingering"},
		{"unread", Life{Level: LevelBPF, Path: neither, RSTSent: at, ResetReason: reasonUnread}, VerdictServerResetUnread, "read all"},
		{"unread, no reasons", Life{Level: LevelBPF, Path: neither, RSTSent: at}, VerdictServerResetUnread, "read all"},
		{"no memory", Life{Level: LevelBPF, Path: neither, RSTSent: at, ResetReason: "TCP_ABORT_ON_MEMORY"}, VerdictServerReset, "TCP_ABORT_ON_MEMORY"},
		{"late data", Life{Level: LevelBPF, Path: serverFirst, RSTReceived: at, RSTSent: at, ResetReason: reasonLate, Err: syscall.ECONNRESET}, VerdictServerResetLate, "sent more"},
		{"late data, no reasons", Life{Level: LevelBPF, Path: serverFirst, RSTReceived: at, RSTSent: at, Err: syscall.ECONNRESET}, VerdictServerResetLate, "sent more"},
		{"silence", Life{Level: LevelBPF, Path: neither, Err: syscall.ETIMEDOUT, Timeouts: 4, Retransmits: 5, Unacked: 6}, VerdictRetransmissionTimeout, "5 times"},
		{"silence, user timeout", Life{Level: LevelErrno, Seen: true, Err: syscall.ETIMEDOUT, Unacked: 6}, VerdictRetransmissionTimeout, "silent"},
		{"keepalive", Life{Level: LevelBPF, Path: neither, Err: syscall.ETIMEDOUT, Probes: 2, RSTSent: at, ResetReason: reasonKeepalive}, VerdictKeepaliveTimeout, "2 probes"},
		{"keepalive, no reasons", Life{Level: LevelBPF, Path: neither, Err: syscall.ETIMEDOUT, Probes: 1, RSTSent: at}, VerdictKeepaliveTimeout, "1 probe of"},
		{"a timeout without a sign", Life{Level: LevelErrno, Seen: true, Err: syscall.ETIMEDOUT}, VerdictUnknown, "can't be told"},
		{"zero window", Life{Level: LevelBPF, Path: neither, Err: syscall.ETIMEDOUT, Probes: 3, Unacked: 600}, VerdictZeroWindow, "took nothing"},
		{"half open", Life{Level: LevelBPF, Path: serverFirst, Err: syscall.ETIMEDOUT, Timeouts: 3, Unacked: 5}, VerdictHalfOpen, "never acknowledged"},
		{"ICMP", Life{Level: LevelBPF, Path: neither, Err: syscall.EHOSTUNREACH, SoftErr: syscall.EHOSTUNREACH}, VerdictUnreachable, "no route to host"},
		{"destroyed", Life{Level: LevelBPF, Path: neither, Err: syscall.ECONNABORTED, RSTSent: at, ResetReason: "TCP_STATE"}, VerdictDestroyed, "administrator"},

		{"errno: EOF", Life{Level: LevelErrno, Seen: true, First: SideClient}, VerdictClientFIN, "client"},
		{"errno: closed", Life{Level: LevelErrno, Seen: true, First: SideServer}, VerdictServerFIN, "We closed the connection."},
		{"errno: closed while silent", Life{Level: LevelErrno, Seen: true, First: SideServer, Timeouts: 1}, VerdictServerFIN, "We closed"},
		{"diag: closed while silent", Life{Level: LevelDiag, Seen: true, Ended: true, First: SideServer, Timeouts: 4}, VerdictHalfOpen, "never"},
		{"diag: data of ours lost after its FIN", Life{Level: LevelDiag, Seen: true, Ended: true, First: SideClient, Timeouts: 4, Unacked: 9}, VerdictRetransmissionTimeout, "silent"},
		{"diag: a stranger's", Life{Level: LevelDiag, Ended: true, Path: path(sys.SocketEstablished, sys.SocketClosed)}, VerdictUnknown, "diag"},
		{"diag: a stranger's, seen closing", Life{Level: LevelDiag, Ended: true, Path: path(sys.SocketEstablished, sys.SocketCloseWait, sys.SocketClosed)}, VerdictClientFIN, "client"},
	} {
		if c.life.First == SideNone {
			c.life.First = c.life.Path.FirstFIN()
		}
		if got := c.life.Verdict(); got != c.want {
			t.Errorf("%s: verdict %v, want %v", c.name, got, c.want)
		}
		if got := c.life.Explain(); !strings.Contains(got, c.say) || !strings.HasSuffix(got, ".") {
			t.Errorf("%s: %q does not say %q", c.name, got, c.say)
		}
	}
}

func TestVerdictNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range Verdicts() {
		b, err := v.MarshalText()
		if err != nil || len(b) == 0 || seen[string(b)] {
			t.Errorf("verdict %d is %q, %v", v, b, err)
		}
		seen[string(b)] = true
		var back Verdict
		if err := back.UnmarshalText(b); err != nil || back != v {
			t.Errorf("%q is read as %v, %v", b, back, err)
		}
	}
	if v := Verdict(200); v.String() != "unknown" || v.UnmarshalText([]byte("bored")) == nil {
		t.Errorf("what is no verdict is %v", v)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		path  Path
		text  string
		first Side
	}{
		{0, "", SideNone},
		{neither, "SYN_RECV>ESTABLISHED>CLOSE", SideNone},
		{clientFirst, "SYN_RECV>ESTABLISHED>CLOSE_WAIT>LAST_ACK>CLOSE", SideClient},
		{serverFirst, "SYN_RECV>ESTABLISHED>FIN_WAIT1>FIN_WAIT2>CLOSE", SideServer},
		{path(sys.SocketFinWait1, sys.SocketClosing, sys.SocketClosed), "FIN_WAIT1>CLOSING>CLOSE", SideServer},
		{path(sys.SocketLastAck), "LAST_ACK", SideClient},
		{path(sys.SocketEstablished, sys.SocketEstablished), "ESTABLISHED", SideNone},
	} {
		if c.path.String() != c.text || c.path.FirstFIN() != c.first {
			t.Errorf("path %x is %q, first FIN of %v; want %q, %v", uint64(c.path), c.path, c.path.FirstFIN(), c.text, c.first)
		}
	}
}

func TestLevelNames(t *testing.T) {
	for _, l := range []Level{LevelErrno, LevelDiag, LevelBPF} {
		var back Level
		if b, err := l.MarshalText(); err != nil || back.UnmarshalText(b) != nil || back != l {
			t.Errorf("level %d is %q, which is read as %v", l, b, back)
		}
	}
	if l := Level(9); l.String() != "unknown" || l.UnmarshalText([]byte("")) == nil || l.UnmarshalText([]byte("best")) == nil {
		t.Errorf("what is no level is %v", l)
	}
	for k := KindState; k < kinds; k++ {
		if k.String() == "unknown" {
			t.Errorf("kind %d has no name", k)
		}
	}
}

// TestVerdictText checks that each verdict has a text of its own.
func TestVerdictText(t *testing.T) {
	seen := make(map[string]Verdict)
	for _, v := range Verdicts() {
		if v.Text() == "" {
			t.Errorf("%v has no text", v)
		}
		if other, ok := seen[v.Text()]; ok {
			t.Errorf("%v and %v are both %q", v, other, v.Text())
		}
		seen[v.Text()] = v
	}
}
