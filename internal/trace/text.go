package trace

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Text is what happened, without time and addresses.
func (e *Event) Text() string {
	switch e.Kind {
	case KindState:
		if e.From == 0 {
			return e.To.String()
		}
		return fmt.Sprintf("%s → %s", e.From, e.To)
	case KindRetransmit:
		return fmt.Sprintf("a segment was sent anew: %d so far", e.Retransmits)
	case KindRSTReceived:
		return "an RST was received"
	case KindRSTSent:
		if e.ResetReason == "" {
			return "an RST was sent"
		}
		return "an RST was sent: " + e.ResetReason
	case KindError:
		return "error: " + e.Err.Error()
	case KindEnded:
		text := fmt.Sprintf("ended, %s", e.Life.Verdict())
		if age := e.Life.Age(); age > 0 {
			text += fmt.Sprintf(" after %v", age.Round(time.Millisecond))
		}
		return text + ": " + e.Life.Explain()
	}
	return "unknown"
}

// Span is all that was seen of one connection.
type Span struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Cookie uint64         `json:"cookie"`
	*Names                // nil: they are not known
	Steps  []*Event       `json:"steps"` // the oldest first, the end not among them; the first spanSteps of them
	More   int            `json:"more"`  // steps beyond those
	Life   *Life          `json:"life"`  // nil as long as it has not ended
}

// spanSteps bounds what a span keeps of a connection that suffers for long.
const spanSteps = 1000

// Add takes an event of the connection.
func (s *Span) Add(e *Event) {
	if s.Cookie == 0 {
		s.Local, s.Remote, s.Cookie = e.Local, e.Remote, e.Cookie
	}
	if e.Kind == KindEnded {
		l := *e.Life
		s.Life = &l
		return
	}
	if len(s.Steps) == spanSteps {
		s.More++
		return
	}
	step := *e
	s.Steps = append(s.Steps, &step)
}

// WriteText writes it for people.
func (s *Span) WriteText(w io.Writer) error {
	p := printer{w: w}
	p.f("%v → %v\n", s.Remote, s.Local)
	for _, e := range s.Steps {
		p.f("  %s  %s\n", e.Time.Format(timeFormat), e.Text())
	}
	if s.More > 0 {
		p.f("  and %d more steps\n", s.More)
	}
	l := s.Life
	if l == nil {
		p.f("  not ended\n")
		return p.err
	}
	p.f("  %s  ended, %s\n", l.Closed.Format(timeFormat), l.Verdict())
	p.f("%s\n", l.Explain())
	s.Names.each(func(name, value string) { p.f("  %-14s  %s\n", name, value) })
	p.f("  states          %s\n", l.Path)
	if age := l.Age(); age > 0 {
		p.f("  age             %v\n", age.Round(time.Millisecond))
	}
	p.f("  round trip      %v\n", l.RTT)
	p.f("  bytes           %d received, %d acknowledged, %d not acknowledged\n", l.BytesReceived, l.BytesAcked, l.Unacked)
	p.f("  sent anew       %d segments, %d timeouts in a row at the end, %d probes without an answer\n", l.Retransmits, l.Timeouts, l.Probes)
	if l.Err != 0 {
		p.f("  error           %v\n", l.Err)
	}
	if l.ResetReason != "" {
		p.f("  RST sent        %s\n", l.ResetReason)
	}
	p.f("  seen at level   %s\n", l.Level)
	return p.err
}

// WriteText writes the event in a line.
func (e *Event) WriteText(w io.Writer) error {
	p := printer{w: w}
	p.f("%s  %-21v  %s", e.Time.Format(timeFormat), e.Remote, e.Text())
	e.Names.each(func(name, value string) { p.f("  %s=%s", name, value) })
	p.f("\n")
	return p.err
}

const timeFormat = "15:04:05.000000"

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
