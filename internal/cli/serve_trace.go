package cli

import (
	"context"
	"log/slog"
	"runtime/pprof"
	"sync/atomic"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/trace"
)

// serveTrace is the kernel's side of a gateway's connections. A nil one traces nothing.
type serveTrace struct {
	*trace.Tracer
	gateway func() *longwire.Gateway // nil until it is made
	log     *slog.Logger
	ends    []atomic.Uint64 // by verdict, of connections that the gateway named
	cancel  context.CancelFunc
	over    chan struct{}
}

// newServeTrace opens a tracer at the highest level that the kernel allows; the log says why not at a higher one.
func newServeTrace(log *slog.Logger, gateway func() *longwire.Gateway) *serveTrace {
	return newServeTraceUpTo(trace.LevelBPF, log, gateway)
}

// newServeTraceUpTo is newServeTrace that does not try higher levels than most.
func newServeTraceUpTo(most trace.Level, log *slog.Logger, gateway func() *longwire.Gateway) *serveTrace {
	t := &serveTrace{gateway: gateway, log: log, ends: make([]atomic.Uint64, len(trace.Verdicts())), over: make(chan struct{})}
	var err error
	t.Tracer, err = trace.Open(trace.Options{Level: most, Handle: t.ended})
	if err != nil {
		log.Warn("connections are not traced", "error", err)
		return nil
	}
	for _, r := range t.Refused() {
		log.Warn("a level of tracing is refused", "level", r.Level.String(), "why", r.Err)
	}
	log.Info("connections are traced", "level", t.Level().String())
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(t.over)
		pprof.Do(ctx, pprof.Labels("subsystem", "trace"), func(ctx context.Context) {
			if err := t.Run(ctx); err != nil {
				log.Error("tracing ended", "error", err)
			}
		})
	}()
	return t
}

// tracer is what the gateway is given. Where the kernel tells little, the gateway has to tell what it sees, which costs it a few
// system calls for each end.
func (t *serveTrace) tracer() longwire.Tracer {
	if t.Level() == trace.LevelBPF {
		return t
	}
	return toldTrace{t}
}

// toldTrace is a longwire.ClosingTracer.
type toldTrace struct{ *serveTrace }

// Closing passes on what the gateway saw. A socket that tells nothing any more has no end here.
func (t toldTrace) Closing(fd int, id [16]byte, e longwire.SocketEnd) {
	_ = t.Tracer.Closing(fd, id, trace.Seen{Err: e.Err, EOF: e.EOF, Aborted: e.Aborted})
}

// ended hands an end on.
func (t *serveTrace) ended(e *trace.Event) {
	g := t.gateway()
	if e.Kind != trace.KindEnded || e.Life == nil || e.Life.Session == [16]byte{} || g == nil {
		return
	}
	l := e.Life
	v := l.Verdict()
	t.ends[v].Add(1)
	g.KernelEnded(l.Session, e.Time, longwire.KernelEnd{
		Verdict: uint8(v), Level: uint8(l.Level), Err: uint8(l.Err), Retransmits: uint16(min(l.Retransmits, 1<<16-1)),
		Unacked: uint32(min(l.Unacked, 1<<32-1)), RTT: l.RTT, Path: uint64(l.Path),
	})
}

// Verdict is a verdict in words.
func (t *serveTrace) Verdict(n uint8) string {
	switch v := trace.Verdict(n); {
	case v == trace.VerdictUnknown:
		return ""
	case v == trace.VerdictServerFIN && t.Level() < trace.LevelBPF:
		return "our FIN went first" // what became of it is not known
	default:
		return v.Text()
	}
}

// figures are what /metrics shows.
func (t *serveTrace) figures() metrics.TraceStats {
	s := metrics.TraceStats{Level: "off"}
	if t != nil {
		s.Level = t.Level().String()
		if x, err := t.Stats(); err == nil {
			s.Events, s.Lost, s.Missed = x.Events, x.Lost, x.Missed
		}
		if g := t.gateway(); g != nil {
			s.Untraced = g.Stats().Untraced
		}
	}
	for i, v := range trace.Verdicts() {
		n := uint64(0)
		if t != nil {
			n = t.ends[i].Load()
		}
		s.Ends = append(s.Ends, metrics.TraceEnds{Verdict: v.String(), Count: n})
	}
	return s
}

// dropCapabilities gives up what it took to attach the probes, and to listen: from now on nothing needs a capability.
func (t *serveTrace) dropCapabilities() {
	if t == nil {
		return
	}
	switch dropped, err := t.DropCapabilities(); {
	case err != nil:
		t.log.Info("the process keeps its capabilities", "why", err)
	case dropped:
		t.log.Info("capabilities are dropped")
	}
}

// stop ends it, when the gateway is closed: what the kernel has told until then is handed on.
func (t *serveTrace) stop() {
	if t == nil {
		return
	}
	t.cancel()
	<-t.over
	_ = t.Tracer.Close()
}

var (
	_ longwire.Tracer        = (*serveTrace)(nil)
	_ longwire.ClosingTracer = toldTrace{}
)
