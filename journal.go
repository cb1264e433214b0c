package longwire

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sampling"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/ws"
)

// What the gateway tells of single connections and calls while it goes on: to its log, and to who sends it to a collector of traces.

type (
	// Entry is one thing that happened: a handshake, a command, a call of the backend, an end. It is of fixed size and has no
	// payloads.
	Entry = journal.Entry
	// TraceContext is a place in a trace (W3C Trace Context). Its String is a traceparent.
	TraceContext = session.TraceContext
)

// Journal says who is told of single connections and calls. The zero value: the log, a line for each where it is enabled at
// slog.LevelDebug. Where nobody wants to know, loops do nothing for it.
type Journal struct {
	// Entries, if not nil, has what happens, in batches, those of one connection in order. One goroutine calls it. It may block:
	// then entries are lost, and counted, and nothing else waits. They are lent. Gateway.Describe tells what their numbers mean.
	Entries func([]Entry)
	// Sampled says of a trace that begins here whether it is recorded whatever happens in it; hooks are told
	// (Client.Context). Any goroutine may call it. Nil: none is.
	Sampled func(trace [16]byte) bool
	// KernelOnly keeps single connections out of the log, but for what Config.Tracer tells of their ends.
	KernelOnly bool
}

// traceState is what the journal keeps of a conn. It has no pointers.
type traceState struct {
	trace  [16]byte
	parent [8]byte // of its spans
	began  int64   // when it was accepted, in ns since 1970
	lines  uint32  // entries that were written of it
	flags  journal.Flags
}

const traceStateSize = int(unsafe.Sizeof(traceState{}))

// openJournal makes the journal, if anybody wants to know.
func (g *Gateway) openJournal() {
	c := &g.config.Journal
	lines := !c.KernelOnly && g.log.Enabled(context.Background(), slog.LevelDebug)
	if g.noting = lines || c.Entries != nil; !g.noting && !c.KernelOnly {
		return
	}
	g.traces = journal.NewIDs()
	line, ends := &entryLine{g: g}, recentEnds{traces: make(map[uint64][16]byte)}
	g.journal = journal.New(journal.Options{Tracks: len(g.loops.Loops()), Handle: func(entries []Entry) {
		if g.config.Tracer != nil {
			ends.join(entries)
		}
		if c.Entries != nil {
			c.Entries(entries)
		}
		for i := range entries {
			g.write(line, &entries[i])
		}
	}})
}

// recentEnds are the traces of conns that brought one and ended a moment ago: by the time that the kernel tells of the end, the
// conn is nobody's any more.
type recentEnds struct {
	traces map[uint64][16]byte // by conn
	order  [4096]uint64        // conns, the oldest at next
	next   int
}

// join gives what the kernel tells of conns their traces.
func (r *recentEnds) join(entries []Entry) {
	for i := range entries {
		switch e := &entries[i]; {
		case e.Kind == journal.KindKernel:
			if t, ok := r.traces[e.Conn]; ok {
				e.Trace, e.Parent = t, [8]byte{}
			}
		case e.Kind == journal.KindEnded && e.Flags&journal.FlagParent != 0:
			delete(r.traces, r.order[r.next])
			r.traces[e.Conn], r.order[r.next] = e.Trace, e.Conn
			r.next = (r.next + 1) % len(r.order)
		}
	}
}

// write writes an entry to the log, by way of line, which is the caller's.
func (g *Gateway) write(line *entryLine, e *Entry) {
	level, ctx := entryLevel(e), context.Background()
	if g.config.Journal.KernelOnly {
		if e.Kind != journal.KindKernel {
			return
		}
		level = slog.LevelInfo
	}
	h := g.log.Handler()
	if !h.Enabled(ctx, level) {
		return
	}
	line.e = e
	r := slog.NewRecord(e.Time(), level, e.Kind.String(), 0)
	r.AddAttrs(slog.Any("", line))
	_ = h.Handle(ctx, r) // as with Logger.Log there is nobody to tell
}

// entryLevel is debug, but for ends that are somebody's fault.
func entryLevel(e *Entry) slog.Level {
	switch {
	case e.Kind == journal.KindEnded:
		return endLevel(CauseKind(e.Cause))
	case e.Kind == journal.KindKernel && e.Flags&journal.FlagFailed != 0:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// endLevel is the level of the line about an end.
func endLevel(k CauseKind) slog.Level {
	switch k {
	case CauseProtocol, CauseTooBig, CauseSlow, CauseInternal:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// failure reports whether an end is one to look into: all but those that a client or the application wanted, or that are in the
// nature of connections.
func failure(k CauseKind) bool {
	switch k {
	case CauseClientClose, CauseClientFIN, CauseExpired, CauseDrain, CauseApplication:
		return false
	}
	return true
}

// entryLine is an entry as an attribute of a log line, whose own attributes are made when they are needed.
type entryLine struct {
	g *Gateway
	e *Entry
}

// heldLines are of entryLine.Hold, each with an entry of its own.
var heldLines = sync.Pool{New: func() any { return &entryLine{e: new(Entry)} }}

// Trace implements sampling.Line.
func (l *entryLine) Trace() sampling.Trace {
	e := l.e
	t := sampling.Trace{ID: e.Trace, Failed: e.Flags&journal.FlagFailed != 0, First: e.Flags&journal.FlagFirst != 0, Last: e.Flags&journal.FlagLast != 0}
	if e.Kind.Call() {
		t.Took = e.Duration()
	}
	return t
}

// Hold implements sampling.Line.
func (l *entryLine) Hold() sampling.Line {
	held := heldLines.Get().(*entryLine)
	held.g, *held.e = l.g, *l.e
	return held
}

// Release implements sampling.Line.
func (l *entryLine) Release() {
	l.g = nil
	heldLines.Put(l)
}

// LogValue implements slog.LogValuer: the attributes of the line.
func (l *entryLine) LogValue() slog.Value {
	e, d := l.e, l.g.Describe(l.e)
	a := make([]slog.Attr, 0, 12)
	text := func(key, value string) {
		if value != "" {
			a = append(a, slog.String(key, value))
		}
	}
	text("client", d.Client)
	if e.Trace != [16]byte{} {
		text(sampling.TraceKey, hex.EncodeToString(e.Trace[:]))
	}
	if e.Kind == journal.KindEnded || e.Kind == journal.KindKernel {
		text("conn", loop.ID(e.Conn).String())
	}
	text("addr", d.Address)
	text("path", d.Endpoint)
	switch e.Kind {
	case journal.KindEnded:
		a = append(a, slog.String("cause", d.Cause), slog.Int("code", int(e.Code)), slog.String("detail", d.Detail),
			slog.Duration("age", e.Duration()), slog.Int("lines", int(e.Lines)))
		return slog.GroupValue(a...)
	case journal.KindConnect:
		text("user", e.Text())
	case journal.KindRPC:
		text("method", e.Text())
	case journal.KindHTTP:
		text("method", e.Name())
		text("route", e.Text())
	case journal.KindHook:
		text("hook", e.Name())
		text("channel", e.Text())
		text("outcome", e.Outcome())
	case journal.KindKernel:
		text("verdict", e.Text())
	case journal.KindUpgrade:
		text("cause", d.Cause)
		text("detail", d.Detail)
	default:
		text("channel", e.Text())
	}
	switch {
	case e.Kind == journal.KindSlow:
		a = append(a, slog.Int("bytes", int(e.Code)))
	case e.Kind == journal.KindKernel:
		a = append(a, slog.Int("errno", int(e.Code)))
	case e.Code != 0:
		a = append(a, slog.Int("code", int(e.Code)))
	}
	if e.Kind.Call() {
		a = append(a, slog.Duration(sampling.TookKey, e.Duration()))
	}
	if e.Flags&journal.FlagLast != 0 && e.Conn != 0 {
		a = append(a, slog.Int("lines", int(e.Lines)))
	}
	return slog.GroupValue(a...)
}

// Description is an Entry's numbers in words; what it does not tell is empty.
type Description struct {
	Client   string // the session's id; Conn.ID on an endpoint without sessions
	Endpoint string // its path
	Address  string
	Cause    string
	Detail   string
}

// Describe tells what the numbers of an entry of this gateway mean. Any goroutine may call it.
func (g *Gateway) Describe(e *Entry) (d Description) {
	sessions := g.node != nil
	if int(e.Endpoint) < len(g.endpoints) {
		d.Endpoint = g.endpoints[e.Endpoint].Path
		sessions = g.endpoints[e.Endpoint].protocol != protocolNone
	} else if e.Kind == journal.KindEnded || e.Kind == journal.KindUpgrade {
		sessions = false // it did not get that far
	}
	switch {
	case e.Conn == 0:
	case sessions:
		d.Client = g.node.ID(e.Conn)
	default:
		d.Client = loop.ID(e.Conn).String()
	}
	if a := e.AddrPort(); a.Port() != 0 {
		d.Address = a.String()
	} else if a.IsValid() && !a.Addr().IsUnspecified() {
		d.Address = a.Addr().String()
	}
	if e.Cause != 0 {
		d.Cause = CauseKind(e.Cause).String()
		d.Detail = words.Detail(e.Detail)
	}
	return d
}

// Note adds an entry about what happened beside the loops, such as a call of a backend. client, if not empty, is the session's id
// that it is about. e is not kept. Any goroutine may call it; it never waits.
func (g *Gateway) Note(client string, e *Entry) {
	if !g.noting {
		return
	}
	if client != "" && g.node != nil {
		if conn, ok := g.node.Conn(client); ok {
			e.Conn = conn
		}
	}
	g.journal.Put(e)
}

// Notes reports whether anybody wants to know of single connections and calls: else Note does nothing.
func (g *Gateway) Notes() bool { return g.noting }

// JournalStats are how many entries were written, and how many lost since who has them did not keep up.
func (g *Gateway) JournalStats() (entries, lost uint64) {
	s := g.journal.Stats()
	return s.Entries, s.Lost
}

// journalAccepted begins a trace for conn i, in case its request has none.
func (f *front) journalAccepted(i uint32) {
	if f.journal == nil {
		return
	}
	t := &f.traces[i]
	*t = traceState{began: time.Now().UnixNano()}
	t.trace, t.parent = f.g.traces.Trace(uint64(f.l.ID(i)))
}

// journalRequest takes the trace of conn i's request, if it has one.
func (f *front) journalRequest(i uint32, req *ws.Request) {
	if f.journal == nil {
		return
	}
	if c, ok := journal.ParseContext(req.Header("Traceparent")); ok {
		t := &f.traces[i]
		t.trace, t.parent, t.flags = c.Trace, c.Span, journal.FlagParent
		if c.Sampled {
			t.flags |= journal.FlagSampled
		}
	}
}

// note is an entry to fill in and finish with f.journal.Done; nil: nobody wants it, or there is no room.
func (f *front) note(i uint32, k journal.Kind) *Entry {
	if f.journal == nil {
		return nil
	}
	t, st := &f.traces[i], &f.conn[i]
	t.lines++
	e := f.journal.Next()
	if e == nil {
		return nil
	}
	*e = Entry{At: time.Now().UnixNano(), Conn: uint64(f.l.ID(i)), Trace: t.trace, Parent: t.parent, Kind: k, Flags: t.flags, Endpoint: st.endpoint, Lines: t.lines}
	return e
}

// noteUpgrade tells of conn i's handshake. Its span is the parent of the others where the request brought none.
func (f *front) noteUpgrade(i uint32, st *state) {
	if e := f.note(i, journal.KindUpgrade); e != nil {
		f.upgradeSpan(i, e)
		e.Flags |= journal.FlagFirst
		e.SetAddress(f.peer(i, st))
		f.journal.Done()
	}
}

func (f *front) upgradeSpan(i uint32, e *Entry) {
	_, e.Span = f.g.traces.Trace(e.Conn)
	if e.Flags&journal.FlagParent == 0 {
		e.Parent = [8]byte{}
	}
	e.Took = e.At - f.traces[i].began
}

// noteEnded tells of conn i's end, or of the end of what never became a connection.
func (f *front) noteEnded(i uint32, st *state, c Cause) {
	t := &f.traces[i]
	upgraded := st.flags&stateUpgraded != 0
	if !upgraded && st.verdict != admitted {
		return // a limit was reached: there is a notice for all, and the metric
	}
	kind := journal.KindEnded
	if !upgraded && failure(c.Kind) {
		kind = journal.KindUpgrade
	}
	e := f.note(i, kind)
	if e == nil {
		return
	}
	e.Took = e.At - t.began
	e.Cause, e.Detail, e.Code = uint8(c.Kind), detailIndex(c.Detail), uint32(c.Code)
	if e.Flags |= journal.FlagLast; !upgraded {
		e.Flags |= journal.FlagFirst
		e.Endpoint = journal.NoEndpoint
		f.upgradeSpan(i, e)
	} else {
		e.Span = journal.SpanID(journal.NewSpan())
	}
	if failure(c.Kind) {
		e.Flags |= journal.FlagFailed
	}
	e.SetAddress(f.g.mask(netip.AddrPortFrom(keyAddress(st.addr), 0)))
	f.journal.Done()
}

// peer is the address of conn i as it may be written down.
func (f *front) peer(i uint32, st *state) netip.AddrPort {
	peer := f.l.Peer(i)
	if !peer.IsValid() {
		peer = netip.AddrPortFrom(keyAddress(st.addr), 0)
	}
	return f.g.mask(peer)
}

// noteChannel tells what became of a channel, or of the write queue, without a command.
func (f *front) noteChannel(i uint32, k journal.Kind, channel []byte, code uint32) {
	if e := f.note(i, k); e != nil {
		e.Code = code
		journal.SetText(e, channel)
		f.journal.Done()
	}
}

// noteKernel tells what the kernel saw of an end.
func (g *Gateway) noteKernel(conn uint64, at time.Time, k *KernelEnd) {
	if g.journal == nil {
		return
	}
	e := Entry{At: at.UnixNano(), Conn: conn, Kind: journal.KindKernel, Endpoint: journal.NoEndpoint, Code: uint32(k.Err)}
	e.Trace, e.Parent = g.traces.Trace(conn) // unless the client brought one: see recentEnds
	journal.SetText(&e, g.words().Verdict(k.Verdict))
	if k.Err != 0 {
		e.Flags |= journal.FlagFailed
	}
	g.journal.Put(&e)
}

// callKinds are the kinds of commands.
var callKinds = [...]journal.Kind{
	centrifuge.Connect: journal.KindConnect, centrifuge.Subscribe: journal.KindSubscribe, centrifuge.Unsubscribe: journal.KindUnsubscribe,
	centrifuge.Publish: journal.KindPublish, centrifuge.Presence: journal.KindPresence, centrifuge.PresenceStats: journal.KindPresenceStats,
	centrifuge.History: journal.KindHistory, centrifuge.RPC: journal.KindRPC, centrifuge.Refresh: journal.KindRefresh, centrifuge.SubRefresh: journal.KindSubRefresh,
}

func (h host) Called(i uint32, c session.Call) {
	if h.conn[i].flags&stateUpgraded == 0 {
		return // the reply found that the conn is over, and its end was told
	}
	e := h.note(i, callKinds[c.Method])
	if e == nil {
		return
	}
	e.Code = c.Code
	if c.Began != 0 {
		e.Span, e.Took = journal.SpanID(c.Span), e.At-c.Began
	}
	if c.Code != 0 {
		e.Flags |= journal.FlagFailed
	}
	journal.SetText(e, c.Subject)
	h.journal.Done()
}

func (h host) Context(i uint32) (c TraceContext) {
	if h.journal == nil {
		return c
	}
	t := &h.traces[i]
	c.Trace, c.Span, c.Sampled = t.trace, t.parent, t.flags&journal.FlagSampled != 0
	if s := h.g.config.Journal.Sampled; s != nil && t.flags&journal.FlagParent == 0 {
		c.Sampled = s(t.trace)
	}
	return c
}

var _ sampling.Line = (*entryLine)(nil)
