package trace

import (
	"fmt"
	"syscall"
)

// Verdict is why a connection ended, as the kernel saw it: one of a closed list. Its String is the label in metrics and
// in JSON.
type Verdict uint8

// The verdicts. "We" are the server, whose side is traced.
const (
	// VerdictUnknown: the level does not tell.
	VerdictUnknown Verdict = iota
	// VerdictClientFIN: the client closed first.
	VerdictClientFIN
	// VerdictServerFIN: we closed first, and the client acknowledged that. At LevelErrno: we closed first.
	VerdictServerFIN
	// VerdictClientReset: an RST was received, and all that we had sent was acknowledged.
	VerdictClientReset
	// VerdictClientResetUnacked: an RST was received while something that we had sent was not acknowledged: the client, or
	// something on the way, did not know the connection any more, or refused the data.
	VerdictClientResetUnacked
	// VerdictClientResetAfterFIN: the client closed, and then an RST came, mostly in answer to what we still sent.
	VerdictClientResetAfterFIN
	// VerdictServerReset: we sent an RST; Life.ResetReason says why, where the kernel does.
	VerdictServerReset
	// VerdictServerResetAborted: we closed without lingering (SO_LINGER 0), which sends an RST.
	VerdictServerResetAborted
	// VerdictServerResetUnread: we closed before we had read all, which sends an RST.
	VerdictServerResetUnread
	// VerdictServerResetLate: the client sent something after we had closed, which is answered with an RST.
	VerdictServerResetLate
	// VerdictRetransmissionTimeout: what we sent was never acknowledged, however often it was sent anew.
	VerdictRetransmissionTimeout
	// VerdictKeepaliveTimeout: nothing was under way, and the kernel's keepalive probes were not answered.
	VerdictKeepaliveTimeout
	// VerdictZeroWindow: the client took nothing any more, and then did not answer the probes of its window.
	VerdictZeroWindow
	// VerdictUnreachable: the network said that there is no way to the client (ICMP).
	VerdictUnreachable
	// VerdictDestroyed: an administrator had the kernel destroy the socket (ss -K).
	VerdictDestroyed
	// VerdictHalfOpen: we closed, and the client never acknowledged that: it had gone before.
	VerdictHalfOpen
	// VerdictProcessKilled: our process ended, and the kernel closed for it.
	VerdictProcessKilled

	verdicts
)

var verdictNames = [verdicts]string{
	VerdictUnknown:               "unknown",
	VerdictClientFIN:             "client_fin",
	VerdictServerFIN:             "server_fin",
	VerdictClientReset:           "client_reset",
	VerdictClientResetUnacked:    "client_reset_unacked",
	VerdictClientResetAfterFIN:   "client_reset_after_fin",
	VerdictServerReset:           "server_reset",
	VerdictServerResetAborted:    "server_reset_aborted",
	VerdictServerResetUnread:     "server_reset_unread",
	VerdictServerResetLate:       "server_reset_late_data",
	VerdictRetransmissionTimeout: "retransmission_timeout",
	VerdictKeepaliveTimeout:      "keepalive_timeout",
	VerdictZeroWindow:            "zero_window",
	VerdictUnreachable:           "unreachable",
	VerdictDestroyed:             "destroyed",
	VerdictHalfOpen:              "half_open",
	VerdictProcessKilled:         "process_killed",
}

// String is the verdict as metrics and JSON show it.
func (v Verdict) String() string {
	if v >= verdicts {
		return verdictNames[VerdictUnknown]
	}
	return verdictNames[v]
}

// verdictText has a line for each.
var verdictText = [verdicts]string{
	VerdictUnknown:               "nothing",
	VerdictClientFIN:             "the client's FIN came first",
	VerdictServerFIN:             "our FIN went first, and was acknowledged",
	VerdictClientReset:           "an RST came from the client",
	VerdictClientResetUnacked:    "an RST came, with bytes of ours not acknowledged",
	VerdictClientResetAfterFIN:   "the client's FIN came, then an RST",
	VerdictServerReset:           "we sent an RST",
	VerdictServerResetAborted:    "we aborted it with an RST",
	VerdictServerResetUnread:     "we closed it with bytes unread, which sends an RST",
	VerdictServerResetLate:       "bytes came after we had closed, which an RST answered",
	VerdictRetransmissionTimeout: "what we sent was never acknowledged",
	VerdictKeepaliveTimeout:      "keepalive probes had no answer",
	VerdictZeroWindow:            "the client's window stayed shut",
	VerdictUnreachable:           "the network had no way to the client",
	VerdictDestroyed:             "somebody had the socket destroyed",
	VerdictHalfOpen:              "our FIN was never acknowledged",
	VerdictProcessKilled:         "our process ended, and the kernel closed it",
}

// Text is the verdict in a few words, to stand behind "the kernel says".
func (v Verdict) Text() string {
	if v >= verdicts {
		v = VerdictUnknown
	}
	return verdictText[v]
}

// MarshalText is String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, n := range verdictNames {
		if n == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q is none", b)
}

// Verdicts are all of them, in order, VerdictUnknown first.
func Verdicts() []Verdict {
	all := make([]Verdict, verdicts)
	for i := range all {
		all[i] = Verdict(i)
	}
	return all
}

// Reasons of the RSTs that were sent, as Linux names them since 6.10 (enum sk_rst_reason).
const (
	reasonUnread    = "TCP_ABORT_ON_CLOSE"
	reasonLate      = "TCP_ABORT_ON_DATA"
	reasonKeepalive = "TCP_KEEPALIVE_TIMEOUT"
)

// Verdict says why the connection ended. It depends on nothing but the record.
func (l *Life) Verdict() Verdict {
	if l.ByExit && l.First != SideClient {
		return VerdictProcessKilled
	}
	switch l.Err {
	case 0:
	case syscall.ECONNABORTED:
		return VerdictDestroyed
	case syscall.ETIMEDOUT:
		return l.timeout()
	case syscall.ECONNRESET, syscall.EPIPE:
		return l.reset()
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNREFUSED, syscall.EPROTO, syscall.EACCES:
		return VerdictUnreachable
	default:
		return VerdictUnknown
	}
	if l.Level < LevelBPF {
		return l.told()
	}
	switch {
	case !l.RSTReceived.IsZero():
		return l.reset()
	case !l.RSTSent.IsZero() && l.First == SideNone:
		if l.ResetReason == reasonUnread || l.ResetReason == "" {
			return VerdictServerResetUnread // the one without an error, which tells it where the kernel gives no reason
		}
		return VerdictServerReset
	case l.First == SideClient:
		return VerdictClientFIN
	case l.First == SideServer:
		return VerdictServerFIN
	case !l.RSTSent.IsZero():
		return VerdictServerReset
	}
	return l.silence()
}

// silence is the verdict where no state and no error tells one: the kernel runs no probe where that probe is running already,
// so that a step may be missing, and forgets the error when it is read.
func (l *Life) silence() Verdict {
	switch {
	case l.Timeouts > 0 && l.SoftErr != 0:
		return VerdictUnreachable
	case l.Timeouts > 0:
		return VerdictRetransmissionTimeout
	case l.Probes > 0 && l.Unacked > 0:
		return VerdictZeroWindow
	case l.Probes > 0:
		return VerdictKeepaliveTimeout
	}
	return VerdictUnknown
}

// timeout is the verdict on ETIMEDOUT.
func (l *Life) timeout() Verdict {
	switch {
	case l.First == SideServer:
		return VerdictHalfOpen
	case l.First == SideClient && l.Unacked <= 1:
		return VerdictClientFIN // all that was not acknowledged is our own FIN
	case l.ResetReason == reasonKeepalive:
		return VerdictKeepaliveTimeout
	case l.Timeouts > 0:
		return VerdictRetransmissionTimeout
	case l.Probes > 0 && l.Unacked > 0:
		return VerdictZeroWindow
	case l.Probes > 0:
		return VerdictKeepaliveTimeout
	case l.Unacked > 0:
		return VerdictRetransmissionTimeout // TCP_USER_TIMEOUT before the first retransmission
	}
	return VerdictUnknown
}

// reset is the verdict where an RST was received, or where the socket's error says so.
func (l *Life) reset() Verdict {
	switch {
	case l.First == SideClient && !l.FINSent.IsZero() && l.Unacked <= 1:
		return VerdictClientFIN // all that the RST answers is our own FIN
	// The kernel takes late data for a received RST, too, and then sends one.
	case l.ResetReason == reasonLate, l.First == SideServer && !l.RSTSent.IsZero():
		return VerdictServerResetLate
	case l.Level == LevelBPF && l.RSTReceived.IsZero() && !l.RSTSent.IsZero():
		return VerdictServerResetAborted
	case l.First == SideClient, l.Err == syscall.EPIPE:
		return VerdictClientResetAfterFIN
	case l.First == SideServer:
		return VerdictServerFIN // the RST is an answer to our close
	case l.Unacked > 0 || l.Timeouts > 0:
		return VerdictClientResetUnacked
	}
	return VerdictClientReset
}

// told is the verdict below LevelBPF on a connection of which nobody told an error: what its process did, and what the
// kernel's last figures say.
func (l *Life) told() Verdict {
	switch {
	case l.Seen && l.Aborted:
		return VerdictServerResetAborted
	case l.Seen && l.Unread > 0:
		return VerdictServerResetUnread
	case l.First == SideServer && l.Ended && l.Timeouts > 0:
		return VerdictHalfOpen
	case l.First == SideClient && l.Ended && l.Timeouts > 0 && l.Unacked > 0:
		return VerdictRetransmissionTimeout
	case l.First == SideServer:
		return VerdictServerFIN
	case l.First == SideClient:
		return VerdictClientFIN
	}
	return VerdictUnknown
}
