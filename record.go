package longwire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/flight"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

// What the gateway remembers of connections, so that somebody can ask later why one ended.

// FlightRecorder says how much is remembered. An event is 64 bytes; a connection that comes, subscribes and goes has three
// to five.
type FlightRecorder struct {
	// Bytes is the memory for all events; the oldest make room. Zero means 16 MiB, which is 262,144 events; negative records
	// nothing.
	Bytes int
	// Dir keeps the events in files there, of the same size, so that the next process can tell of this one, whatever became
	// of it. Empty keeps them in memory.
	Dir string
}

const defaultRecord = 16 << 20

// openRecorder makes the flight recorder.
func (g *Gateway) openRecorder() error {
	c := g.config.FlightRecorder
	if c.Bytes < 0 {
		return nil
	}
	if c.Bytes == 0 {
		c.Bytes = defaultRecord
	}
	var name []byte
	if g.node != nil {
		name = g.node.IDs().Key()
	}
	tracks := len(g.loops.Loops())
	r, err := flight.Open(flight.Options{
		Tracks: tracks, Bytes: max(c.Bytes, tracks*flight.EventSize), Map: g.options.System.Map, Unmap: g.options.System.Unmap, MapFile: sys.MapFile,
		Dir: c.Dir, Process: name,
	})
	if err != nil {
		return fmt.Errorf("longwire: %w", err)
	}
	g.recorder = r
	if before := r.Before(); len(before) > 0 {
		g.idsBefore, _ = session.NewIDs(before)
	}
	return nil
}

// recordOpen tells the recorder of a connection whose handshake is agreed.
func (f *front) recordOpen(i uint32, st *state, e int, req *ws.Request) {
	if f.track == nil {
		return
	}
	now, id := time.Now(), uint64(f.l.ID(i))
	peer := f.l.Peer(i)
	if !peer.IsValid() {
		peer = netip.AddrPortFrom(keyAddress(st.addr), 0)
	}
	f.track.Opened(now, id, peer, e, time.Duration(f.l.Tick()-st.opened)*loop.Tick)
	if v := req.Header("X-Request-ID"); len(v) > 0 {
		f.track.Request(now, id, v)
	}
	if trace, span, ok := traceContext(req.Header("Traceparent")); ok {
		f.track.Trace(now, id, trace, span)
	}
}

// traceContext reads a traceparent (W3C Trace Context, section 3.2.2).
func traceContext(v []byte) (trace [16]byte, span [8]byte, ok bool) {
	// version "-" trace-id "-" parent-id "-" flags, of 2, 32, 16 and 2 digits; later versions may have more behind.
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || len(v) > 55 && v[55] != '-' || string(v[:2]) == "ff" {
		return trace, span, false
	}
	_, err1 := hex.Decode(trace[:], v[3:35])
	_, err2 := hex.Decode(span[:], v[36:52])
	return trace, span, err1 == nil && err2 == nil && trace != [16]byte{} && span != [8]byte{}
}

// recordEnd tells the recorder why an open connection ends, with what the process and TCP know of it at this moment.
func (f *front) recordEnd(i uint32, st *state, c Cause) {
	if f.track == nil {
		return
	}
	tick := f.l.Tick()
	e := flight.Ended{
		Cause: uint8(c.Kind), Detail: detailIndex(c.Detail), Code: uint16(c.Code),
		Age: time.Duration(tick-st.opened) * loop.Tick, Silent: time.Duration(tick-st.heard) * loop.Tick, Pinged: -1,
		Queued: uint32(f.l.Queued(i)),
	}
	ep := &f.g.endpoints[st.endpoint]
	switch {
	case c.Kind != CauseHeartbeat:
	case ep.protocol == protocolCentrifuge:
		e.Pinged = f.g.node.Pong()
	case st.flags&statePinged != 0:
		e.Pinged = max(0, e.Silent-ep.Heartbeat.Ping)
	}
	// In good order there is nothing to ask TCP: it would cost each end a system call.
	switch c.Kind {
	case CauseHeartbeat, CauseReset, CauseKernelTimeout, CauseSlow, CauseInternal, CauseClientFIN:
		if x, ok := f.l.Info(i); ok {
			e.Info, e.RTT = true, x.RTT
			e.Unacked, e.Retransmits, e.Lost = uint16(min(x.Unacked, 1<<16-1)), uint16(x.Timeouts), uint16(min(x.Retransmits, 1<<16-1))
			e.Received = x.LastAck
		}
	}
	f.track.Ended(time.Now(), uint64(f.l.ID(i)), &e)
}

func (h host) Connected(i uint32, user string) {
	h.track.Connected(time.Now(), uint64(h.l.ID(i)), user)
}

func (h host) Subscribed(i uint32, channel []byte) {
	h.track.Subscribed(time.Now(), uint64(h.l.ID(i)), channel)
}

func (h host) Left(i uint32, channel []byte, code uint32) {
	h.track.Left(time.Now(), uint64(h.l.ID(i)), channel, uint16(code))
}

// Question says which connections Why is asked about: those of which all hold that are not empty.
type Question struct {
	Client  string    // a session's id, or Conn.ID
	User    string    // the first 32 bytes of it count
	Address string    // an address, or one with a port
	Request string    // X-Request-ID of the handshake; the first 32 bytes of it count
	Trace   string    // trace id of its traceparent, 32 hexadecimal digits
	Cause   CauseKind // of those that ended
	Since   time.Time // whose last event is no older
	Limit   int       // the most answers; zero means 100
}

// Span is what the gateway remembers of one connection. Its JSON form is stable.
type Span struct {
	Client   string      `json:"client"` // the session's id; Conn.ID on an endpoint without sessions
	User     string      `json:"user,omitempty"`
	Address  string      `json:"address,omitempty"`
	Endpoint string      `json:"endpoint,omitempty"` // its path
	Request  string      `json:"request,omitempty"`
	Trace    string      `json:"trace,omitempty"`
	Open     bool        `json:"open"`             // it is, now
	Before   bool        `json:"before,omitempty"` // it was of the process before this one
	Why      string      `json:"why"`              // in a sentence or two
	Cause    string      `json:"cause,omitempty"`
	Code     int         `json:"code,omitempty"`
	Detail   string      `json:"detail,omitempty"`
	Evidence *Evidence   `json:"evidence,omitempty"`
	Events   []SpanEvent `json:"events"` // in the order of time
}

// SpanEvent is one thing that happened to a connection.
type SpanEvent struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // opened, connected, subscribed, left, slow, ended, kernel
	Text string    `json:"text"`
}

// Evidence is what was known of a connection when its end was certain. Times are in milliseconds, and -1 where unknown.
type Evidence struct {
	Age         int64 `json:"age_ms"`
	Silent      int64 `json:"silent_ms"`  // since the client was heard last
	Pinged      int64 `json:"pinged_ms"`  // since our ping that had no answer
	Queued      int64 `json:"queue_bytes"`
	RTT         int64 `json:"rtt_us"`
	Unacked     int64 `json:"unacked_segments"`
	Timeouts    int64 `json:"timeouts_in_a_row"`
	Retransmits int64 `json:"retransmits"`
	LastAck     int64 `json:"last_ack_ms"`
}

// ErrNoRecord is returned by Why when the gateway records nothing, ErrBadQuestion when the question cannot be read.
var (
	ErrNoRecord    = errors.New("longwire: the flight recorder is off")
	ErrBadQuestion = errors.New("longwire: bad question")
)

// Why tells what became of connections, the latest first: what happened to each, and why it ended. It knows what the flight
// recorder still holds. Any goroutine may call it; it stops no loop.
func (g *Gateway) Why(q Question) ([]Span, error) {
	if g.recorder == nil {
		return nil, ErrNoRecord
	}
	f := flight.Query{User: q.User, Request: q.Request, Cause: uint8(q.Cause), Since: q.Since, Limit: q.Limit}
	if q.Client != "" {
		var ok bool
		if f.Conn, f.Before, ok = g.connOf(q.Client); !ok {
			return nil, fmt.Errorf("%w: %q is no id of a client of this gateway, nor of the process before it", ErrBadQuestion, q.Client)
		}
	}
	if q.Address != "" {
		if ap, err := netip.ParseAddrPort(q.Address); err == nil {
			f.Address, f.Port = ap.Addr(), ap.Port()
		} else if f.Address, err = netip.ParseAddr(strings.Trim(q.Address, "[]")); err != nil {
			return nil, fmt.Errorf("%w: address %q: want one such as 192.0.2.7 or [2001:db8::7]:443", ErrBadQuestion, q.Address)
		}
	}
	if q.Trace != "" {
		if n, err := hex.Decode(f.TraceID[:], []byte(q.Trace[:min(len(q.Trace), 32)])); err != nil || n != 16 || len(q.Trace) != 32 {
			return nil, fmt.Errorf("%w: trace %q: want 32 hexadecimal digits", ErrBadQuestion, q.Trace)
		}
	}
	spans := []Span{}
	for _, s := range g.recorder.Find(f) {
		spans = append(spans, g.span(&s))
	}
	return spans, nil
}

// connOf is the conn that a client's id names.
func (g *Gateway) connOf(id string) (conn uint64, before, ok bool) {
	if g.node != nil {
		if conn, ok := g.node.Conn(id); ok {
			return conn, false, true
		}
	}
	if g.idsBefore != nil {
		if conn, ok := g.idsBefore.Conn(id); ok {
			return conn, true, true
		}
	}
	c, err := loop.ParseID(id)
	return uint64(c), false, err == nil
}

// words are the names behind the numbers of the recorder's events.
var words = flight.Words{
	Cause: func(n uint8) string { return CauseKind(n).String() },
	Detail: func(n uint8) string {
		if int(n) < len(details) {
			return details[n]
		}
		return "other"
	},
	Verdict: func(uint8) string { return "" },
}

func (g *Gateway) span(s *flight.Span) Span {
	x := Span{User: s.User(), Request: s.Request(), Before: s.Before, Why: s.Why(words), Open: s.Ended() == nil && !s.Before, Events: []SpanEvent{}}
	switch {
	case s.Before && g.idsBefore != nil:
		x.Client = g.idsBefore.ID(s.Conn)
	case !s.Before && g.node != nil && g.hasSession(s):
		x.Client = g.node.ID(s.Conn)
	default:
		x.Client = loop.ID(s.Conn).String()
	}
	if a := s.Address(); a.Port() != 0 {
		x.Address = a.String()
	} else if a.Addr().IsValid() {
		x.Address = a.Addr().String()
	}
	for i := range s.Events {
		e := &s.Events[i]
		y := SpanEvent{Time: e.Time.UTC(), Kind: e.Kind.String(), Text: e.Text}
		switch e.Kind {
		case flight.KindOpened:
			if !s.Before && e.Endpoint < len(g.endpoints) {
				x.Endpoint = g.endpoints[e.Endpoint].Path
			}
			y.Text = strings.TrimSpace("from " + x.Address + " " + x.Endpoint)
		case flight.KindTrace:
			x.Trace = hex.EncodeToString(e.TraceID[:])
			y.Text = x.Trace
		case flight.KindLeft:
			y.Text = fmt.Sprintf("%s (%d)", e.Text, e.Code)
		case flight.KindSlow:
			y.Text = fmt.Sprintf("%d bytes wait", e.Bytes)
		case flight.KindEnded:
			d := e.Ended
			x.Cause, x.Code, x.Detail = words.Cause(d.Cause), int(d.Code), words.Detail(d.Detail)
			y.Text = Cause{Kind: CauseKind(d.Cause), Code: ws.StatusCode(d.Code), Detail: x.Detail}.Error()
			x.Evidence = evidence(d)
		}
		x.Events = append(x.Events, y)
	}
	return x
}

// hasSession tells whether the conn's endpoint has sessions, as far as it is known.
func (g *Gateway) hasSession(s *flight.Span) bool {
	for i := range s.Events {
		if e := &s.Events[i]; e.Kind == flight.KindOpened && e.Endpoint < len(g.endpoints) {
			return g.endpoints[e.Endpoint].protocol != protocolNone
		}
	}
	return true
}

func evidence(d *flight.Ended) *Evidence {
	e := &Evidence{Age: d.Age.Milliseconds(), Silent: d.Silent.Milliseconds(), Pinged: -1, Queued: int64(d.Queued), RTT: -1, Unacked: -1, Timeouts: -1, Retransmits: -1, LastAck: -1}
	if d.Pinged >= 0 {
		e.Pinged = d.Pinged.Milliseconds()
	}
	if d.Info {
		e.RTT, e.Unacked, e.Timeouts, e.Retransmits, e.LastAck = d.RTT.Microseconds(), int64(d.Unacked), int64(d.Retransmits), int64(d.Lost), d.Received.Milliseconds()
	}
	return e
}

// MarshalText is String.
func (k CauseKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a cause's name.
func (k *CauseKind) UnmarshalText(b []byte) error {
	for i, name := range causeNames {
		if string(b) == name {
			*k = CauseKind(i)
			return nil
		}
	}
	return fmt.Errorf("cause %q: want one of %s", bytes.TrimSpace(b), strings.Join(causeNames[1:], ", "))
}

