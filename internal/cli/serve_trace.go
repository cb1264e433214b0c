package cli

import (
	"context"
	"log/slog"
	"strings"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/trace"
)

// serveTrace is the kernel's side of a gateway's connections.
type serveTrace struct {
	*trace.Tracer
	gateway func() *longwire.Gateway // nil until it is made
	cancel  context.CancelFunc
	over    chan struct{}
}

// newServeTrace opens a tracer at the highest level that the kernel allows. Where that tells nothing beyond what the gateway
// sees by itself, there is none, and the log says why.
func newServeTrace(log *slog.Logger, gateway func() *longwire.Gateway) *serveTrace {
	t := &serveTrace{gateway: gateway, over: make(chan struct{})}
	var err error
	t.Tracer, err = trace.Open(trace.Options{Handle: t.ended})
	if err != nil {
		log.Warn("connections are not traced", "error", err)
		return nil
	}
	for _, r := range t.Refused() {
		log.Warn("a level of tracing is refused", "level", r.Level.String(), "why", r.Err)
	}
	if t.Level() != trace.LevelBPF {
		_ = t.Tracer.Close()
		return nil
	}
	log.Info("connections are traced", "level", t.Level().String())
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(t.over)
		if err := t.Run(ctx); err != nil {
			log.Error("tracing ended", "error", err)
		}
	}()
	return t
}

// ended hands an end on.
func (t *serveTrace) ended(e *trace.Event) {
	g := t.gateway()
	if e.Kind != trace.KindEnded || e.Life == nil || g == nil {
		return
	}
	l := e.Life
	g.KernelEnded(l.Session, e.Time, longwire.KernelEnd{
		Verdict: uint8(l.Verdict()), Level: uint8(l.Level), Err: uint8(l.Err), Retransmits: uint16(min(l.Retransmits, 1<<16-1)),
		Unacked: uint32(min(l.Unacked, 1<<32-1)), RTT: l.RTT, Path: uint64(l.Path),
	})
}

// Verdict is a verdict in words.
func (t *serveTrace) Verdict(n uint8) string {
	if v := trace.Verdict(n); v != trace.VerdictUnknown {
		return strings.ReplaceAll(v.String(), "_", " ")
	}
	return ""
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

var _ longwire.Tracer = (*serveTrace)(nil)
