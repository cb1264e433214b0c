package trace

import (
	"cmp"
	"fmt"
	"time"
)

// Explain says in a sentence why the connection ended.
func (l *Life) Explain() string {
	switch l.Verdict() {
	case VerdictClientFIN:
		if l.Err != 0 || !l.RSTReceived.IsZero() {
			return "The client closed the connection, and was gone before it acknowledged that we did so, too."
		}
		return "The client closed the connection."
	case VerdictServerFIN:
		switch {
		case !l.RSTReceived.IsZero():
			return "We closed the connection, and the client answered with an RST."
		case l.Level == LevelBPF:
			return "We closed the connection, and the client acknowledged it."
		}
		return "We closed the connection."
	case VerdictClientReset:
		return "The client, or something on the way to it, reset the connection; all that we had sent was acknowledged."
	case VerdictClientResetUnacked:
		return "An RST answered what we sent" + l.retransmitted() + ": the client, or something on the way to it, did not know the connection any more" + l.unacked() + "."
	case VerdictClientResetAfterFIN:
		if l.Unacked == 0 {
			return "The client closed the connection, and then reset it."
		}
		return "The client closed the connection, and answered what we still sent with an RST" + l.unacked() + "."
	case VerdictServerReset:
		why := l.ResetReason
		if why == "" {
			why = "for a reason that this kernel does not tell"
		}
		return "We reset the connection: " + why + "."
	case VerdictServerResetAborted:
		return "We reset the connection by closing it without lingering."
	case VerdictServerResetUnread:
		return "We closed the connection before we had read all that the client sent, which resets it."
	case VerdictServerResetLate:
		return "We closed the connection, and reset it when the client sent more."
	case VerdictRetransmissionTimeout:
		return "The network went silent: what we sent" + l.retransmitted() + " was never acknowledged" + l.unacked() + "."
	case VerdictKeepaliveTimeout:
		return fmt.Sprintf("The network went silent: nothing was under way, and %s of the kernel's keepalive got no answer.", count(int(l.Probes), "probe"))
	case VerdictZeroWindow:
		return fmt.Sprintf("The client took nothing any more%s, and %s of its window got no answer.", l.unacked(), count(int(l.Probes), "probe"))
	case VerdictUnreachable:
		return fmt.Sprintf("The network said that the client can't be reached: %v.", cmp.Or(l.Err, l.SoftErr))
	case VerdictDestroyed:
		return "An administrator had the kernel destroy the connection."
	case VerdictHalfOpen:
		return "We closed the connection, and the client never acknowledged it" + l.retransmitted() + ": it had gone before" + l.unacked() + "."
	case VerdictProcessKilled:
		return "Our process ended, and the kernel closed the connection for it."
	}
	s := fmt.Sprintf("At level %s it can't be told why the connection ended", l.Level)
	if l.FINAcked {
		s += "; it was closed in order, the client having acknowledged that we did so"
	} else if l.Timeouts > 0 {
		s += fmt.Sprintf("; what we sent last was sent anew %s without an answer", times(int(l.Timeouts)))
	}
	return s + "."
}

func (l *Life) retransmitted() string {
	if l.Retransmits == 0 {
		return ""
	}
	return fmt.Sprintf(" (sent anew %s)", times(int(l.Retransmits)))
}

func (l *Life) unacked() string {
	if l.Unacked == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s not acknowledged)", count(int(l.Unacked), "byte"))
}

// Age is how long the connection was established; 0 if that is not known.
func (l *Life) Age() time.Duration {
	if l.Established.IsZero() || l.Closed.IsZero() {
		return 0
	}
	return l.Closed.Sub(l.Established)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
