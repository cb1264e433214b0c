package cli

import (
	"log/slog"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/otlp"
	"github.com/longwire/longwire/internal/sampling"
)

// serveSpans makes spans of what happens, and has them sent. A nil one does nothing.
type serveSpans struct {
	exporter *otlp.Exporter
	gateway  func() *longwire.Gateway // nil until it is made
	share    sampling.Share           // of traces that begin here
	slow     time.Duration            // from which a call is; 0: none is

	mu    sync.Mutex                      // entries has one caller; stats others
	tail  *sampling.Tail[*longwire.Entry] // guarded by mu
	spare sync.Pool                       // of *longwire.Entry
}

// newServeSpans starts what sends spans to a collector; nil where there is none.
func newServeSpans(s *config.Serve, log *slog.Logger, gateway func() *longwire.Gateway) (*serveSpans, error) {
	if s.OTLPEndpoint == "" {
		return nil, nil
	}
	headers, err := s.OTLPHeaderMap()
	if err != nil {
		return nil, err
	}
	b := readBuild()
	resource := []otlp.Attr{otlp.String("service.name", "longwire"), otlp.String("service.version", b.Version), otlp.Int("process.pid", int64(os.Getpid()))}
	if name, err := os.Hostname(); err == nil {
		resource = append(resource, otlp.String("host.name", name), otlp.String("service.instance.id", name+"/"+s.Addr))
	}
	t := &serveSpans{gateway: gateway, share: sampling.Share(s.TraceSampling), slow: time.Duration(s.SlowCall)}
	t.spare = sync.Pool{New: func() any { return new(longwire.Entry) }}
	t.tail = sampling.NewTail(sampling.Bounds{}, func(*longwire.Entry) int { return int(unsafe.Sizeof(longwire.Entry{})) }, func(e *longwire.Entry) { t.spare.Put(e) })
	t.exporter, err = otlp.New(otlp.Options{URL: s.OTLPEndpoint, Headers: headers, Resource: resource, Scope: "longwire", Version: b.Version, Log: log})
	return t, err
}

// sampled reports whether a trace that begins here is one whose spans are sent whatever happens.
func (t *serveSpans) sampled(trace [16]byte) bool { return t.share.Has(trace) }

// stats are the numbers of what is held back.
func (t *serveSpans) stats() sampling.TailStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tail.Stats()
}

// entries takes what happened: spans that are to be sent now, or are held until it is known whether something in their trace
// fails or is slow.
func (t *serveSpans) entries(list []longwire.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for i := range list {
		t.entry(&list[i], now)
	}
}

func (t *serveSpans) entry(e *longwire.Entry, now time.Time) {
	if e.Trace == ([16]byte{}) || spanKinds[e.Kind] == 0 {
		return
	}
	sampled := e.Flags&journal.FlagSampled != 0
	if e.Flags&journal.FlagParent == 0 && e.Kind != journal.KindHook { // a hook's flag is that of its client
		sampled = t.share.Has(e.Trace)
	}
	if sampled {
		t.send(e, true)
		return
	}
	first, last := e.Flags&journal.FlagFirst != 0, e.Flags&journal.FlagLast != 0
	if first {
		t.tail.Begin(e.Trace, now)
	}
	worth := e.Flags&journal.FlagFailed != 0 || t.slow > 0 && e.Kind.Call() && e.Duration() >= t.slow
	switch {
	case worth || t.tail.Kept(e.Trace):
		t.tail.Keep(e.Trace, now, func(held *longwire.Entry) {
			t.send(held, false)
			t.spare.Put(held)
		})
		t.send(e, false)
	case last && t.tail.Over(e.Trace):
		t.tail.Pass()
	default:
		own := t.spare.Get().(*longwire.Entry)
		*own = *e
		t.tail.Hold(e.Trace, own, now)
	}
	if last {
		t.tail.End(e.Trace)
	}
}

// spanKinds are the kinds of entries that are spans. What happens at once is one too, without a length.
var spanKinds = map[journal.Kind]otlp.Kind{
	journal.KindUpgrade: otlp.Server, journal.KindConnect: otlp.Server, journal.KindSubscribe: otlp.Server, journal.KindUnsubscribe: otlp.Server,
	journal.KindPublish: otlp.Server, journal.KindPresence: otlp.Server, journal.KindPresenceStats: otlp.Server, journal.KindHistory: otlp.Server,
	journal.KindRPC: otlp.Server, journal.KindRefresh: otlp.Server, journal.KindSubRefresh: otlp.Server, journal.KindHTTP: otlp.Server,
	journal.KindHook: otlp.Client, journal.KindEnded: otlp.Internal, journal.KindUnsubscribed: otlp.Internal,
}

// send hands a span to the exporter.
func (t *serveSpans) send(e *longwire.Entry, sampled bool) {
	g := t.gateway()
	if g == nil {
		return // it has nothing to tell before it is made
	}
	d := g.Describe(e)
	s := otlp.Span{Trace: e.Trace, ID: e.Span, Parent: e.Parent, Remote: e.Flags&journal.FlagParent != 0, Sampled: sampled,
		Name: e.Kind.String(), Kind: spanKinds[e.Kind], Start: e.Began(), End: e.At, Failed: e.Flags&journal.FlagFailed != 0}
	if s.ID == ([8]byte{}) {
		s.ID = journal.SpanID(journal.NewSpan())
	}
	text := func(key, value string) {
		if value != "" {
			s.Attrs = append(s.Attrs, otlp.String(key, value))
		}
	}
	number := func(key string, n int64) { s.Attrs = append(s.Attrs, otlp.Int(key, n)) }
	text("longwire.client", d.Client)
	text("longwire.endpoint", d.Endpoint)
	text("client.address", d.Address)
	if e.Code != 0 && e.Kind != journal.KindHTTP {
		number("longwire.code", int64(e.Code))
	}
	switch e.Kind {
	case journal.KindEnded:
		s.Start = e.At // its length is the connection's, which would hide all others
		number("longwire.age_ms", e.Duration().Milliseconds())
	case journal.KindConnect:
		text("user.id", e.Text())
	case journal.KindRPC:
		text("longwire.method", e.Text())
	case journal.KindHTTP:
		s.Name = e.Name() + " " + e.Text()
		text("http.request.method", e.Name())
		text("http.route", e.Text())
		number("http.response.status_code", int64(e.Code))
	case journal.KindHook:
		s.Name = "hook " + e.Name()
		text("longwire.channel", e.Text())
		text("longwire.outcome", e.Outcome())
	default:
		text("longwire.channel", e.Text())
	}
	text("longwire.cause", d.Cause)
	text("longwire.detail", d.Detail)
	if s.Failed {
		s.Message = d.Cause
		if e.Kind == journal.KindHook {
			s.Message = e.Outcome()
		}
	}
	t.exporter.Add(&s)
}

// stop sends what is left, when the gateway is closed.
func (t *serveSpans) stop() {
	if t != nil {
		t.exporter.Close()
	}
}
