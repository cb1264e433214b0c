package sampling

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"
)

// Options are of New.
type Options struct {
	// Level is the least level of lines that belong to no trace.
	Level slog.Level
	// Share is the part of all traces that is written whatever happens in them.
	Share Share
	// Slow is the duration from which a call is slow. Zero: none is.
	Slow time.Duration
	// Bounds are of what is held back until it is known what becomes of its trace.
	Bounds Bounds
	// Now is the clock of Bounds.Age. Nil means time.Now.
	Now func() time.Time
}

// Line is the value of an attribute, the only one of its record, that says itself how the line stands to its trace, and whose
// attributes are not made before they are needed. With it a line that is dropped costs no allocation.
type Line interface {
	slog.LogValuer
	// Trace is how the line stands to its trace; of none where the ID is zero.
	Trace() Trace
	// Hold is the line for later: what Handle had may be used anew by then.
	Hold() Line
	// Release takes back what Hold gave.
	Release()
}

// Keys of attributes by which lines that have no Line tell the same: a trace's id in 32 hexadecimal digits, and how long the
// call took. A line of at least slog.LevelWarn is one of a failure.
const (
	TraceKey = "trace"
	TookKey  = "took"
)

// Handler is an slog.Handler that writes all lines of a trace or none: all where one of them tells of a failure or a slow call,
// those before it too, and all of Options.Share of the other traces. Lines of no trace are written by their level. Lines are held
// back until their trace is over; what a bound does not leave room for is dropped, and counted.
type Handler struct {
	*core
	inner slog.Handler
	trace Trace // of WithAttrs
	group bool  // WithGroup was called: later attributes are not ours
}

// core is what the handlers of one logger share.
type core struct {
	o Options

	mu    sync.Mutex
	tail  *Tail[*line]  // guarded by mu
	spare []*line       // guarded by mu
	err   error         // guarded by mu: of the lines that were held
	emit  func(l *line) // Tail.Keep's

	// A writer may hold mu for as long as the log's reader does nothing; who asks for numbers does not wait for that.
	counts sync.Mutex // after mu
	stats  Stats      // guarded by counts
}

// line is one that is held. There may be many, and a record is large: that of a Line is made anew when it is written.
type line struct {
	to     slog.Handler
	record *slog.Record // nil: it has a Line
	line   Line
	time   time.Time
	level  slog.Level
	msg    string
	pc     uintptr
}

// lineSize is about what a held line takes, with a few attributes.
const lineSize = 512

// New makes a handler that writes to inner.
func New(inner slog.Handler, o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &core{o: o}
	c.tail = NewTail(o.Bounds, func(*line) int { return lineSize }, c.release)
	c.emit = func(l *line) {
		r := slog.NewRecord(l.time, l.level, l.msg, l.pc)
		if l.record != nil {
			r = *l.record
		} else {
			r.AddAttrs(slog.Any("", l.line))
		}
		if err := l.to.Handle(context.Background(), r); err != nil && c.err == nil {
			c.err = err
		}
		c.release(l)
		c.count(&c.stats.Traced)
	}
	return &Handler{core: c, inner: inner}
}

// Stats are a Handler's numbers.
type Stats struct {
	Untraced uint64 // lines of no trace that were written
	Traced   uint64 // lines of traces that were written
	Below    uint64 // lines of no trace that were below the level
	TailStats
}

// Stats is a snapshot.
func (h *Handler) Stats() Stats {
	h.counts.Lock()
	defer h.counts.Unlock()
	return h.stats
}

// count counts one line.
func (c *core) count(n *uint64) {
	c.counts.Lock()
	defer c.counts.Unlock()
	*n++
}

// held brings the numbers of what is held up to date. The caller has mu.
func (c *core) held() {
	c.counts.Lock()
	defer c.counts.Unlock()
	c.stats.TailStats = c.tail.Stats()
}

// Enabled implements slog.Handler. Lines of traces are wanted from slog.LevelDebug on, whatever Options.Level is.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= min(h.o.Level, slog.LevelDebug)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.inner = h.inner.WithAttrs(attrs)
	if !h.group {
		for _, a := range attrs {
			n.trace.take(a)
		}
	}
	return &n
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	n := *h
	n.inner, n.group = h.inner.WithGroup(name), h.group || name != ""
	return &n
}

// take reads one of the keys.
func (t *Trace) take(a slog.Attr) {
	switch {
	case a.Key == TraceKey && a.Value.Kind() == slog.KindString:
		s := a.Value.String()
		if len(s) != 2*len(t.ID) {
			return
		}
		if _, err := hex.Decode(t.ID[:], []byte(s)); err != nil {
			t.ID = ID{}
		}
	case a.Key == TookKey && a.Value.Kind() == slog.KindDuration:
		t.Took = a.Value.Duration()
	}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	t, own := h.trace, Line(nil)
	if !h.group {
		r.Attrs(func(a slog.Attr) bool {
			if a.Value.Kind() == slog.KindLogValuer {
				if l, ok := a.Value.Any().(Line); ok {
					own, t = l, l.Trace()
					return false
				}
			}
			t.take(a)
			return true
		})
	}
	if own == nil && r.Level >= slog.LevelWarn {
		t.Failed = true
	}
	if t.ID == (ID{}) {
		if r.Level < h.o.Level && !(own != nil && t.Failed) {
			h.count(&h.stats.Below)
			return nil
		}
		h.count(&h.stats.Untraced)
		return h.inner.Handle(ctx, r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.o.Now()
	var err error
	write := func() {
		h.count(&h.stats.Traced)
		err = h.inner.Handle(ctx, r)
	}
	worth := t.Failed || h.o.Slow > 0 && t.Took >= h.o.Slow
	switch {
	case h.o.Share.Has(t.ID):
		write()
		return err // its others are written too: nothing is to be remembered
	case t.First:
		h.tail.Begin(t.ID, now)
	}
	switch {
	case worth:
		h.tail.Keep(t.ID, now, h.emit)
		write()
	case h.tail.Kept(t.ID):
		h.tail.Keep(t.ID, now, h.emit) // it goes on
		write()
	case t.Last && h.tail.Over(t.ID):
		h.tail.Pass()
	default:
		h.tail.Hold(t.ID, h.hold(r, own), now)
	}
	if t.Last {
		h.tail.End(t.ID)
	}
	h.held()
	if err == nil {
		err, h.err = h.err, nil
	}
	return err
}

// hold makes a line to hold of a record. The caller has mu.
func (h *Handler) hold(r slog.Record, own Line) *line {
	var l *line
	if n := len(h.spare); n > 0 {
		l = h.spare[n-1]
		h.spare[n-1], h.spare = nil, h.spare[:n-1]
	} else {
		l = new(line)
	}
	l.to = h.inner
	if own == nil {
		clone := r.Clone()
		l.record = &clone
		return l
	}
	l.line, l.time, l.level, l.msg, l.pc = own.Hold(), r.Time, r.Level, r.Message, r.PC
	return l
}

// release takes a line back that was written or dropped. The caller has mu.
func (c *core) release(l *line) {
	if l.line != nil {
		l.line.Release()
	}
	*l = line{}
	if len(c.spare) < maxSpares {
		c.spare = append(c.spare, l)
	}
}

// Flush drops what is held and too old. It need not be called while lines come.
func (h *Handler) Flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tail.Expire(h.o.Now())
	h.held()
}
