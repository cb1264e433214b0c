package hook

import (
	"time"

	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/session"
)

// Call is a call that is over, for Options.Observe.
type Call struct {
	Method  string // as in CallStats
	Outcome string // as in CallStats
	Failed  bool   // the backend was to blame, or was not asked
	Client  string // the session's id
	Channel string // what it was about, or empty
	Began   time.Time
	Took    time.Duration        // with the wait for a place
	Context session.TraceContext // the call's own place in the client's trace; zero where there is none
	Parent  [8]byte              // the span that the call is a part of
}

// begin notes that a call begins, and gives the client's context a span for it. over is to be called when it is over.
func (b *Backend) begin(m method, c *session.Client, channel string) (over func(out outcome)) {
	parent := c.Context.Span
	if c.Context.Trace != [16]byte{} {
		c.Context.Span = journal.SpanID(journal.NewSpan())
	}
	if b.observe == nil {
		return func(outcome) {}
	}
	call := &Call{Method: m.String(), Client: c.ID, Channel: channel, Began: time.Now(), Context: c.Context, Parent: parent}
	return func(out outcome) {
		call.Took, call.Outcome = time.Since(call.Began), out.String()
		switch out {
		case outcomeOK, outcomeError, outcomeDisconnect, outcomeCanceled:
		default:
			call.Failed = true
		}
		b.observe(call)
	}
}
