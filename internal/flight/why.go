package flight

import (
	"fmt"
	"strings"
	"time"
)

// Words are the names behind the numbers in events.
type Words struct {
	Cause, Detail func(uint8) string
	// Verdict says in a few words what the kernel saw, such as "the client's FIN came first"; empty for one that it does not know.
	Verdict func(uint8) string
	// Level is the name of how the kernel's side was seen: bpf, diag, errno.
	Level func(uint8) string
}

// Why says in one or two sentences why the conn ended, for somebody who has not read its events.
func (s *Span) Why(w Words) string {
	end := s.Ended()
	switch {
	case end == nil && s.Before:
		return "It was open when the process ended: nobody was told anything, and the kernel closed it."
	case end == nil && len(s.Events) == 0:
		return "Nothing is known of it."
	case end == nil:
		return "It is open."
	}
	e := end.Ended
	text := s.sentence(end, e, w.Cause(e.Cause), w)
	if k := s.Kernel(); k != nil {
		if v := w.Verdict(k.Verdict); v != "" {
			text += says(w.Level(k.Level)) + v
			if k.Retransmits > 0 {
				text += fmt.Sprintf(", %s sent again", count(int(k.Retransmits), "segment", "segments"))
			}
			if k.Unacked > 0 {
				text += fmt.Sprintf(", %d bytes never acknowledged", k.Unacked)
			}
			text += "."
		}
	}
	return text + s.came(end.Time)
}

// says is who says what was seen at a level: a guess from our own socket is not the kernel's word.
func says(level string) string {
	switch level {
	case "errno":
		return " Our socket's last state says: "
	case "diag":
		return " The kernel's socket diagnosis says: "
	}
	return " The kernel says: "
}

// sentence is what the process knows of an end.
func (s *Span) sentence(end *Event, e *Ended, cause string, w Words) string {
	detail := w.Detail(e.Detail)
	switch cause {
	case "client_close":
		switch e.Code {
		case 1000:
			return "The client closed it, in good order (1000)."
		case 1001:
			return "The client went away (1001): its page was closed or left, or its program ended."
		case 1005:
			return "The client closed it, without a code."
		}
		return fmt.Sprintf("The client closed it with code %d.", e.Code)
	case "client_fin":
		text := "The client's side ended the stream without a closing handshake: its program ended or dropped the connection"
		if e.Silent > 10*time.Second {
			text += fmt.Sprintf(", after %s of silence", round(e.Silent))
		}
		return text + "."
	case "reset":
		if detail == "ECONNABORTED" {
			return "Somebody had this machine's kernel end the connection" + parenthesis(detail) + ", as ss -K does."
		}
		if e.Info && e.Unacked > 0 {
			return fmt.Sprintf("The connection was reset while %s of ours were on their way: the other side, or a NAT between, did not know it any more, or had closed it before it read all.", size(int(e.Unacked)))
		}
		return "The connection was reset by the other side or by something between" + parenthesis(detail) + "."
	case "heartbeat_timeout":
		return s.silence(end, e)
	case "kernel_timeout":
		text := "The kernel gave up" + parenthesis(detail)
		if e.Info && e.Unacked == 0 { // keepalive, or a window that stayed shut
			return text + ": nothing of ours was on its way, and its probes had no answer. The client's machine or its network was gone."
		}
		text += ": what we had sent was not acknowledged in time"
		if e.Retransmits > 0 {
			text += fmt.Sprintf(", though %s sent again", count(int(e.Retransmits), "segment was", "segments were"))
		}
		return text + ". The client's machine or its network was gone."
	case "protocol_error":
		return fmt.Sprintf("The client broke the protocol%s, and was told so with %d.", parenthesis(detail), e.Code)
	case "message_too_big":
		return fmt.Sprintf("The client sent a message beyond the limit, and was told so with %d.", e.Code)
	case "slow_consumer":
		text := "The client took its messages more slowly than they came"
		if detail == "replies_unread" {
			text = "The client sent messages and did not read the replies"
		}
		if e.Queued > 0 {
			text += fmt.Sprintf(": %s waited for it", size(int(e.Queued)))
		}
		if e.Code == 0 {
			return text + ". It was cut off: whoever does not read cannot be told."
		}
		return text + fmt.Sprintf(", and it was told so with %d.", e.Code)
	case "unauthorized":
		if detail == "stale" {
			return fmt.Sprintf("The client did not say in time who it is, and was closed with %d.", e.Code)
		}
		return fmt.Sprintf("The session was not allowed%s, and was told so with %d.", parenthesis(detail), e.Code)
	case "expired":
		if detail == "subscription_expired" {
			return fmt.Sprintf("The token of a subscription ran out and was not prolonged (%d).", e.Code)
		}
		return fmt.Sprintf("The session's token ran out and was not prolonged (%d).", e.Code)
	case "handshake_timeout":
		return "The request was not complete in time."
	case "refused":
		if e.Code == 0 {
			return "The handshake was refused" + parenthesis(detail) + "."
		}
		return fmt.Sprintf("The session was refused%s, and was told so with %d.", parenthesis(detail), e.Code)
	case "drain":
		if e.Code == 0 {
			return "The gateway was closed at once, without a word to the client."
		}
		return "The gateway was going away, and asked the client to come back elsewhere" + code(e.Code) + "."
	case "application":
		return "Our application ended it" + code(e.Code) + parenthesis(detail) + "."
	case "internal":
		return "Something failed on our side" + parenthesis(detail) + "."
	}
	return "It ended: " + cause + parenthesis(detail) + code(e.Code) + "."
}

// silence is the sentence of a heartbeat that had no answer.
func (s *Span) silence(end *Event, e *Ended) string {
	nothing := fmt.Sprintf(" Nothing had come for %s.", round(e.Silent))
	if e.Pinged < 0 {
		return fmt.Sprintf("The client was silent for %s.", round(e.Silent))
	}
	ping := "our ping of " + end.Time.Add(-e.Pinged).UTC().Format("15:04:05")
	if e.Queued > 0 {
		ping = "what we had sent" // a ping would wait behind it
	}
	switch {
	case !e.Info:
		return fmt.Sprintf("The client was silent for %s, and did not answer %s.", round(e.Silent), ping)
	case e.Unacked > 0:
		again := ""
		if e.Timeouts > 0 {
			again = "was sent again " + times(int(e.Timeouts)) + " and "
		}
		return "The network went silent: " + ping + " " + again + "was never acknowledged." + nothing
	case e.Queued > 0:
		return "The client's machine answers, but its program does not read: it hangs or sleeps." + nothing
	}
	return "The client's machine took " + ping + ", but its program did not answer it: it hangs, sleeps, or does not answer pings." + nothing
}

// came is how the user came back.
func (s *Span) came(end time.Time) string {
	if s.Back == nil || end.IsZero() {
		return ""
	}
	text := fmt.Sprintf(" The client came back %s later", round(s.Back.After))
	if s.Back.Moved {
		text += " from another address"
	}
	return text + "."
}

func parenthesis(s string) string {
	if s == "" {
		return ""
	}
	return " (" + strings.ReplaceAll(s, "_", " ") + ")"
}

func code(c uint16) string {
	if c == 0 {
		return ""
	}
	return fmt.Sprintf(" with code %d", c)
}

func times(n int) string { return count(n, "time", "times") }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// round is a time as people say it.
func round(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	d = d.Round(time.Second)
	text := fmt.Sprintf("%d min", d/time.Minute)
	if d >= time.Hour {
		text = fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	} else if rest := d % time.Minute; rest > 0 {
		text += fmt.Sprintf(" %d s", rest/time.Second)
	}
	return text
}

func size(n int) string {
	if n < 10_000 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d KB", n/1000)
}
