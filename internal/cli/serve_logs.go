package cli

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/hook"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/sampling"
)

// newHandler is the handler of the gateway's log, with lines about single connections and calls as log-sampling says.
func newHandler(w io.Writer, s *config.Serve) slog.Handler {
	level := slog.Level(s.LogLevel)
	dynamic := s.LogSampling == "dynamic" && level <= slog.LevelInfo
	o := &slog.HandlerOptions{Level: level}
	if dynamic {
		o.Level = slog.LevelDebug
	}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if s.LogFormat == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	if dynamic {
		h = sampling.New(h, sampling.Options{Level: level, Share: sampling.Share(s.LogShare), Slow: time.Duration(s.SlowCall)})
	}
	return h
}

// watch tells the journal's readers of what happens beside the loops, and counts what was written.
func (s *server) watch(o *config.Serve, c *longwire.Config) {
	c.Journal.KernelOnly = o.LogSampling == "kernel-only"
	if s.spans != nil {
		c.Journal.Entries, c.Journal.Sampled = s.spans.entries, s.spans.sampled
	}
	if o.Metrics {
		s.more = append(s.more, metrics.Journal(func() (entries, lost uint64) { return s.gateway.JournalStats() }))
		if h, ok := s.log.Handler().(*sampling.Handler); ok {
			s.more = append(s.more, metrics.Sampling(h.Stats))
		}
		if s.spans != nil {
			s.more = append(s.more, metrics.OTLP(s.spans.exporter.Stats, s.spans.stats))
		}
	}
}

// hooked notes a call of the application's backend.
func (s *server) hooked(c *hook.Call) {
	g := s.made.Load()
	if g == nil || !g.Notes() {
		return
	}
	e := longwire.Entry{At: c.Began.Add(c.Took).UnixNano(), Took: int64(c.Took), Kind: journal.KindHook, Endpoint: journal.NoEndpoint,
		Trace: c.Context.Trace, Span: c.Context.Span, Parent: c.Parent}
	if c.Context.Sampled {
		e.Flags |= journal.FlagSampled
	}
	if c.Failed {
		e.Flags |= journal.FlagFailed
	}
	e.SetName(c.Method)
	e.SetOutcome(c.Outcome)
	journal.SetText(&e, c.Channel)
	g.Note(c.Client, &e)
}

// requested notes a plain HTTP request.
func (s *server) requested(r *http.Request, route string, status int, took time.Duration) {
	g := s.made.Load()
	if g == nil || !g.Notes() {
		return
	}
	e := longwire.Entry{At: time.Now().UnixNano(), Took: int64(took), Kind: journal.KindHTTP, Endpoint: journal.NoEndpoint, Code: uint32(status),
		Flags: journal.FlagFirst | journal.FlagLast, Trace: journal.NewTrace(), Span: journal.SpanID(journal.NewSpan())}
	if p, ok := journal.ParseContext(r.Header.Get("Traceparent")); ok {
		e.Trace, e.Parent = p.Trace, p.Span
		if e.Flags |= journal.FlagParent; p.Sampled {
			e.Flags |= journal.FlagSampled
		}
	}
	if status >= http.StatusInternalServerError {
		e.Flags |= journal.FlagFailed
	}
	e.SetName(metrics.Method(r.Method))
	journal.SetText(&e, route)
	g.Note("", &e)
}
