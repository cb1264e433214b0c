package longwire

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/flight"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/ws"
)

// What the gateway remembers of connections, so that somebody can ask later why one ended.

// FlightRecorder says how much is remembered. An event is 64 bytes; a connection that comes, subscribes and goes has three
// to five.
type FlightRecorder struct {
	// Bytes is the memory for all events; the newest take the place of the oldest. Zero means 16 bytes for each connection that
	// may come (Config.MaxConns), and at least 1 MiB; negative records nothing. What the loops need at least, 128 bytes each, they get.
	Bytes int
	// Dir keeps the events in a file there, of the same size, so that the next process can tell of this one, whatever became
	// of it. It is made where it is missing, and belongs to one gateway at a time: New fails where another has it, where it
	// cannot be written, and where what lies there is no flight recorder's. Empty keeps the events in memory.
	Dir string
}

// What is recorded by default: an event for every fourth connection that may come.
const (
	recordPerConn = 16
	leastRecord   = 1 << 20
)

// openRecorder makes the flight recorder.
func (g *Gateway) openRecorder() error {
	c := g.config.FlightRecorder
	if c.Bytes < 0 {
		return nil
	}
	if c.Bytes == 0 {
		c.Bytes = max(leastRecord, recordPerConn*g.loops.Layout().MaxConns)
	}
	tracks := len(g.loops.Loops()) + 1 // the last is the tracer's
	r, err := flight.Open(flight.Options{
		Tracks: tracks, Bytes: max(c.Bytes, flight.MinBytes(tracks)), Map: g.options.System.Map, Unmap: g.options.System.Unmap,
		MapFile: sys.MapFile, Lock: sys.LockFile, Dir: c.Dir, Process: g.introduction(),
	})
	if err != nil {
		return fmt.Errorf("longwire: %w", err)
	}
	g.recorder, g.recorded = r, max(c.Bytes, flight.MinBytes(tracks))
	if said, ok := r.Before(); ok {
		g.before = parseIntroduction(said)
	}
	return nil
}

// predecessor is what the process before said of itself: what events do not tell.
type predecessor struct {
	ids       *session.IDs // of its sessions; nil: it had none
	endpoints []recordedEndpoint
}

type recordedEndpoint struct {
	path     string
	sessions bool
}

// introduction is what the process after this one is told: the key of session ids, and for each endpoint whether it has
// sessions, and its path; a byte with its length before each. Paths that do not fit are left out.
func (g *Gateway) introduction() []byte {
	var key []byte
	if g.node != nil {
		key = g.node.IDs().Key()
	}
	b := append([]byte{byte(len(key))}, key...)
	for i := range g.endpoints {
		e := &g.endpoints[i]
		path := e.Path[:min(len(e.Path), 255)]
		if len(b)+2+len(path) > flight.MaxProcess {
			break
		}
		sessions := byte(0)
		if e.protocol != protocolNone {
			sessions = 1
		}
		b = append(append(b, sessions, byte(len(path))), path...)
	}
	return b
}

// parseIntroduction reads an introduction, as far as it is one.
func parseIntroduction(b []byte) *predecessor {
	p := new(predecessor)
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return p
	}
	if key := b[1 : 1+int(b[0])]; len(key) > 0 {
		p.ids, _ = session.NewIDs(key) // without a good key its clients have no ids that are known
	}
	for b = b[1+int(b[0]):]; len(b) >= 2; {
		sessions, n := b[0] == 1, int(b[1])
		if b = b[2:]; len(b) < n {
			break
		}
		p.endpoints = append(p.endpoints, recordedEndpoint{path: string(b[:n]), sessions: sessions})
		b = b[n:]
	}
	return p
}

// mask is an address as records and logs may have it: whole, or, where Config.MaskAddresses is set, its network without a port.
func (g *Gateway) mask(a netip.AddrPort) netip.AddrPort {
	if !g.config.MaskAddresses || !a.IsValid() {
		return a
	}
	bits := 48
	if a.Addr().Unmap().Is4() {
		bits = 24
	}
	network, err := a.Addr().Unmap().WithZone("").Prefix(bits)
	if err != nil {
		return netip.AddrPort{} // cannot be: every address has as many bits
	}
	return netip.AddrPortFrom(network.Addr(), 0)
}

// MaskAddress is an address as records and logs may have it: see Config.MaskAddresses.
func (g *Gateway) MaskAddress(a netip.Addr) netip.Addr {
	return g.mask(netip.AddrPortFrom(a, 0)).Addr()
}

// RecorderBytes is the memory of the flight recorder; 0 where nothing is recorded.
func (g *Gateway) RecorderBytes() int64 { return int64(g.recorded) }

// recordOpen tells the recorder of a connection whose handshake is agreed.
func (f *front) recordOpen(i uint32, st *state, e int, req *ws.Request) {
	if f.track == nil {
		return
	}
	now, id := f.g.config.clock(), uint64(f.l.ID(i))
	peer := f.l.Peer(i)
	if !peer.IsValid() {
		peer = netip.AddrPortFrom(keyAddress(st.addr), 0)
	}
	f.track.Opened(now, id, f.g.mask(peer), e, time.Duration(f.l.Tick()-st.opened)*loop.Tick)
	if v := req.Header("X-Request-ID"); len(v) > 0 {
		f.track.Request(now, id, v)
	}
	if trace, span, ok := traceContext(req.Header("Traceparent")); ok {
		f.track.Trace(now, id, trace, span)
	}
}

// traceContext reads a traceparent (W3C Trace Context, section 3.2.2).
func traceContext(v []byte) (trace [16]byte, span [8]byte, ok bool) {
	c, ok := journal.ParseContext(v)
	return c.Trace, c.Span, ok
}

// recordEnd tells the recorder why an open connection ends, with what the process and, if known, TCP know of it at this moment.
func (f *front) recordEnd(i uint32, st *state, c Cause, x sys.TCPInfo, known bool) {
	tick := f.l.Tick()
	e := flight.Ended{
		Cause: uint8(c.Kind), Detail: detailIndex(c.Detail), Code: uint16(c.Code),
		Age: time.Duration(tick-st.opened) * loop.Tick, Silent: time.Duration(tick-st.heard) * loop.Tick, Pinged: -1,
		Ponged: st.flags&statePonged != 0, Queued: uint32(f.l.Queued(i)),
	}
	ep := &f.g.endpoints[st.endpoint]
	if st.flags&statePinged != 0 {
		after := time.Duration(f.pingAfter(i, ep.Heartbeat)) * loop.Tick
		if c.Kind == CauseHeartbeat || e.Silent >= after && e.Queued == 0 { // else nobody listened for a while, or the ping may wait too
			e.Pinged = max(0, e.Silent-after)
		}
	}
	if ep.protocol == protocolCentrifuge {
		if ago, ok := f.sessions.Pinged(i); ok {
			e.Pinged = ago
		}
	}
	if c.Kind == CauseHeartbeat && c.Code == ws.StatusCode(centrifuge.DisconnectNoPong.Code) {
		e.Pinged = f.g.node.Pong()
	}
	if known {
		e.Info, e.RTT, e.LastAck = true, x.RTT, x.LastAck
		e.Timeouts, e.Retransmits = x.Timeouts, uint16(min(x.Retransmits, 1<<16-1))
		e.Unacked = uint32(min(unacknowledged(x), 1<<32-1))
	}
	f.track.Ended(f.g.config.clock(), uint64(f.l.ID(i)), &e)
}

// recordSlow tells the recorder, once, that so many bytes wait for a connection, half of what may.
func (f *front) recordSlow(i uint32, st *state, queued int) {
	if st.flags&stateSlow == 0 {
		st.flags |= stateSlow
		f.track.Slow(f.g.config.clock(), uint64(f.l.ID(i)), queued)
		f.noteChannel(i, journal.KindSlow, nil, uint32(queued))
	}
}

func (h host) Connected(i uint32, user string) {
	h.track.Connected(h.g.config.clock(), uint64(h.l.ID(i)), user)
}

func (h host) Subscribed(i uint32, channel []byte) {
	h.track.Subscribed(h.g.config.clock(), uint64(h.l.ID(i)), channel)
}

func (h host) Left(i uint32, channel []byte, code uint32) {
	if code != 0 {
		h.noteChannel(i, journal.KindUnsubscribed, channel, code)
	}
	h.track.Left(h.g.config.clock(), uint64(h.l.ID(i)), channel, uint16(code))
}

// Question says which connections Why is asked about: those of which all hold that are not empty.
type Question struct {
	Client  string    // a session's id, or Conn.ID
	User    string    // the first 36 bytes of it count
	Address string    // an address, or one with a port; where addresses are masked, one of the same network will do
	Request string    // X-Request-ID of the handshake; the first 36 bytes of it count
	Trace   string    // trace id of its traceparent, 32 hexadecimal digits
	Cause   CauseKind // of those that ended
	Since   time.Time // whose last event is no older
	Limit   int       // the most answers, up to 1000; zero means 100
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
	Before   bool        `json:"before,omitempty"` // it was of the process before this one: see FlightRecorder.Dir
	Why      string      `json:"why"`              // in a sentence or two
	Cause    string      `json:"cause,omitempty"`
	Code     int         `json:"code,omitempty"`
	Detail   string      `json:"detail,omitempty"`
	Evidence *Evidence   `json:"evidence,omitempty"`
	Kernel   *KernelWord `json:"kernel,omitempty"` // what Config.Tracer told of the end
	Events   []SpanEvent `json:"events"`           // in the order of time
}

// SpanEvent is one thing that happened to a connection.
type SpanEvent struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // opened, request, trace, connected, subscribed, left, slow, pinged, ended, answered, kernel
	Text string    `json:"text"`
}

// Evidence is what was known of a connection when its end was certain. What is not known is -1: of TCP where it was not asked,
// since the end was in good order, or does not tell.
type Evidence struct {
	Age         int64 `json:"age_ms"`        // since the accept
	Silent      int64 `json:"silent_ms"`     // since the client was heard last
	Pinged      int64 `json:"pinged_ms"`     // since our ping that had no answer
	Queued      int64 `json:"queue_bytes"`   // that waited for the socket
	RTT         int64 `json:"rtt_us"`        // smoothed, in microseconds
	Unacked     int64 `json:"unacked_bytes"` // sent, and never acknowledged
	Timeouts    int64 `json:"timeouts"`      // retransmission timeouts in a row
	Retransmits int64 `json:"retransmits"`   // segments that were sent again, in all
	LastAck     int64 `json:"last_ack_ms"`   // since the client's kernel acknowledged something
	Ponged      int64 `json:"pong_ms"`       // since the client's last pong, where nothing else was heard after it
	// Status codes of both sides' close frames: 1005 of one without a code, -1 where none was sent.
	CloseSent     int64 `json:"close_sent"`
	CloseReceived int64 `json:"close_received"`
}

// KernelWord is how the kernel saw a connection end, by a Tracer. What its level does not see is empty, -1 or 0.
type KernelWord struct {
	Level       string   `json:"level"`           // how it was seen: bpf, diag, or errno, which is of our own socket and knows least
	Verdict     string   `json:"verdict"`         // in a few words
	Path        []string `json:"path"`            // the states of TCP that it went through, the last 16, the oldest first; empty at other levels than bpf
	Error       string   `json:"error,omitempty"` // the socket's, such as ECONNRESET
	RTT         int64    `json:"rtt_us"`          // smoothed, in microseconds
	Unacked     int64    `json:"unacked_bytes"`   // sent, and never acknowledged, also after our close; a FIN may count as one
	Retransmits int64    `json:"retransmits"`     // segments that were sent again, in all
}

// ErrNoRecord is returned by Why when the gateway records nothing, ErrBadQuestion when the question cannot be read.
var (
	ErrNoRecord    = errors.New("longwire: the flight recorder is off")
	ErrBadQuestion = errors.New("longwire: bad question")
)

// Why tells what became of connections, the latest first: what happened to each, and why it ended. It knows what the flight
// recorder of this node still holds, and nothing of other nodes. Of a client, a user or an address it also tells which connections
// are open though the record has forgotten how they began; those come last. It must not be called on a loop. It stops none, but reads the
// whole record, which takes some milliseconds for each MiB, and asks the loops in turns, as Search does. After Close it returns ErrClosed.
func (g *Gateway) Why(q Question) ([]Span, error) {
	if err := g.remembers(); err != nil {
		return nil, err
	}
	if q.Limit < 0 || q.Limit > maxAnswers {
		return nil, fmt.Errorf("%w: limit %d: want at most %d", ErrBadQuestion, q.Limit, maxAnswers)
	}
	if q.Cause >= causeKinds {
		return nil, fmt.Errorf("%w: there is no cause %d", ErrBadQuestion, q.Cause)
	}
	f := flight.Query{User: q.User, Request: q.Request, Cause: uint8(q.Cause), Since: q.Since, Limit: q.Limit}
	if q.Client != "" {
		var ok bool
		if f.Conn, f.Before, ok = g.connOf(q.Client); !ok {
			return nil, fmt.Errorf("%w: %q is no id of a client of this gateway, nor of the process before it", ErrBadQuestion, q.Client)
		}
	}
	if q.Address != "" {
		ap, err := netip.ParseAddrPort(q.Address)
		if err != nil {
			a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(q.Address, "["), "]"))
			if err != nil {
				return nil, fmt.Errorf("%w: address %q: want one such as 192.0.2.7 or [2001:db8::7]:443", ErrBadQuestion, q.Address)
			}
			ap = netip.AddrPortFrom(a, 0)
		}
		ap = g.mask(ap)
		f.Address, f.Port = ap.Addr().WithZone(""), ap.Port()
	}
	if q.Trace != "" {
		b, err := hex.DecodeString(q.Trace)
		if err != nil || len(b) != len(f.TraceID) {
			return nil, fmt.Errorf("%w: trace %q: want 32 hexadecimal digits", ErrBadQuestion, q.Trace)
		}
		f.TraceID = [16]byte(b)
	}
	spans, at := []Span{}, make(map[uint64]int) // of the conns of this process
	for i, s := range g.recorder.Find(f) {
		spans = append(spans, g.span(&s))
		if !s.Before {
			at[s.Conn] = i
		}
	}
	if (q.Client != "" || q.User != "" || q.Address != "") && q.Request == "" && q.Trace == "" && q.Cause == CauseUnknown && q.Since.IsZero() {
		spans = g.withOpen(spans, at, q)
	}
	return spans, nil
}

// withOpen adds what q asks about that is open, and of which the record has not all. at is where the spans of conns are.
func (g *Gateway) withOpen(spans []Span, at map[uint64]int, q Question) []Span {
	limit := q.Limit
	if limit == 0 {
		limit = defaultAnswers
	}
	var unknown []OpenConn
	var conns []uint64 // of unknown
	s := Search{Client: q.Client, User: q.User, Address: q.Address, Limit: searchMost}
	for over := time.Now().Add(searchTime); ; {
		found, err := g.Search(context.Background(), s)
		if err != nil {
			break // too many searches, or the gateway is closed: the record is all there is
		}
		for i := range found.Conns {
			c := &found.Conns[i]
			conn, before, ok := g.connOf(c.Client)
			if !ok || before {
				continue // cannot be: it is one of this process
			}
			if k, ok := at[conn]; ok {
				spans[k].complete(c)
			} else if len(spans)+len(unknown) < limit {
				unknown, conns = append(unknown, *c), append(conns, conn)
			}
		}
		if s.Cursor = found.Cursor; s.Cursor == "" || len(spans)+len(unknown) >= limit || time.Now().After(over) {
			break
		}
	}
	if len(unknown) == 0 {
		return spans
	}
	// What is left of them in the record, by which they could not be found.
	left := make(map[uint64]Span)
	for _, s := range g.recorder.Find(flight.Query{Conns: conns, Limit: limit}) {
		left[s.Conn] = g.span(&s)
	}
	for i := range unknown {
		x, ok := left[conns[i]]
		if !ok {
			x = Span{Open: true}
		}
		x.complete(&unknown[i])
		spans = append(spans, x)
	}
	return spans
}

// complete adds to the span of an open connection what the record does not know any more.
func (s *Span) complete(c *OpenConn) {
	if !s.Open || len(s.Events) > 0 && s.Events[0].Kind == flight.KindOpened.String() {
		return
	}
	s.Client, s.User, s.Address, s.Endpoint = c.Client, c.User, c.Address, c.Endpoint
	s.Why = fmt.Sprintf("It is open, and has been for %v: the record does not go back to its beginning.", c.Age.Round(max(loop.Tick, min(c.Age/100, time.Second))))
	opened := SpanEvent{Time: time.Now().Add(-c.Age).UTC(), Kind: flight.KindOpened.String(), Text: c.Address + " " + c.Endpoint}
	s.Events = slices.Insert(s.Events, 0, opened)
}

// defaultAnswers is how many Question.Limit means by 0, as the recorder has it.
const defaultAnswers = 100

const maxAnswers = 1000

// Recorded is the time of the oldest event that Why still knows; zero before the first. Its errors are those of Why.
func (g *Gateway) Recorded() (time.Time, error) {
	if err := g.remembers(); err != nil {
		return time.Time{}, err
	}
	return g.recorder.From(), nil
}

// remembers is nil while there is a record to ask.
func (g *Gateway) remembers() error {
	if g.recorder == nil {
		return ErrNoRecord
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == stateClosed {
		return ErrClosed
	}
	return nil
}

// connOf is the conn that a client's id names.
func (g *Gateway) connOf(id string) (conn uint64, before, ok bool) {
	if g.node != nil {
		if conn, ok := g.node.Conn(id); ok {
			return conn, false, true
		}
	}
	if g.before != nil && g.before.ids != nil {
		if conn, ok := g.before.ids.Conn(id); ok {
			return conn, true, true
		}
	}
	c, err := loop.ParseID(id)
	return uint64(c), false, err == nil && c != 0
}

// words are the names behind the numbers, with those of the tracer.
func (g *Gateway) words() flight.Words {
	w := words
	if t := g.config.Tracer; t != nil {
		w.Verdict = t.Verdict
	}
	return w
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
	Level: func(n uint8) string {
		if int(n) < len(kernelLevels) {
			return kernelLevels[n]
		}
		return kernelLevels[0]
	},
}

func (g *Gateway) span(s *flight.Span) Span {
	x := Span{User: s.User(), Request: s.Request(), Before: s.Before, Why: s.Why(g.words()), Open: s.Ended() == nil && !s.Before, Events: []SpanEvent{}}
	path, sessions := g.recordedEndpoint(s)
	x.Endpoint = path
	switch {
	case !sessions:
		x.Client = loop.ID(s.Conn).String()
	case s.Before:
		x.Client = g.before.ids.ID(s.Conn)
	default:
		x.Client = g.node.ID(s.Conn)
	}
	if a := s.Address(); a.Port() != 0 {
		x.Address = a.String()
	} else if a.IsValid() && !a.Addr().IsUnspecified() {
		x.Address = a.Addr().String()
	}
	for i := range s.Events {
		e := &s.Events[i]
		y := SpanEvent{Time: e.Time.UTC(), Kind: e.Kind.String(), Text: e.Text}
		switch e.Kind {
		case flight.KindOpened:
			y.Text = strings.TrimPrefix(x.Address+" "+x.Endpoint, " ")
			if e.Took > 0 {
				y.Text += fmt.Sprintf(", %v after its accept", e.Took)
			}
		case flight.KindTrace:
			x.Trace = hex.EncodeToString(e.TraceID[:])
			y.Text = x.Trace + " " + hex.EncodeToString(e.SpanID[:])
		case flight.KindLeft:
			if e.Code != 0 {
				y.Text = fmt.Sprintf("%s (%d)", e.Text, e.Code)
			}
		case flight.KindSlow:
			y.Text = fmt.Sprintf("%d bytes wait for it", e.Bytes)
		case flight.KindKernel:
			x.Kernel = g.kernelWord(e.Kernel)
			y.Text = x.Kernel.Verdict
			if e.Kernel.Retransmits > 0 {
				y.Text += fmt.Sprintf(", %d segments sent again", e.Kernel.Retransmits)
			}
			if e.Kernel.Unacked > 0 {
				y.Text += fmt.Sprintf(", %d bytes never acknowledged", e.Kernel.Unacked)
			}
		case flight.KindAnswered:
			y.Text = fmt.Sprintf("with code %d", e.Code)
			if e.Code == uint16(ws.StatusNoStatus) {
				y.Text = "without a code"
			}
		case flight.KindEnded:
			d := e.Ended
			x.Cause, x.Code, x.Detail = words.Cause(d.Cause), int(d.Code), words.Detail(d.Detail)
			y.Text = strings.TrimPrefix(Cause{Kind: CauseKind(d.Cause), Code: ws.StatusCode(d.Code), Detail: x.Detail}.Error(), causePrefix)
			x.Evidence = evidence(d, s.Answered())
			if d.Pinged >= 0 && d.Queued == 0 { // pings are too many to record: this one is known by its not being answered
				x.Events = append(x.Events, SpanEvent{Time: y.Time.Add(-d.Pinged), Kind: "pinged", Text: "no answer"})
			}
		}
		x.Events = append(x.Events, y)
	}
	return x
}

// recordedEndpoint is the path of a span's endpoint, and whether that has sessions, as far as both are known. Without the
// event that tells the endpoint, a conn that has a user or channels has a session.
func (g *Gateway) recordedEndpoint(s *flight.Span) (path string, sessions bool) {
	has := g.node != nil
	if s.Before {
		has = g.before != nil && g.before.ids != nil
	}
	for i := range s.Events {
		switch e := &s.Events[i]; e.Kind {
		case flight.KindOpened:
			switch {
			case s.Before && g.before != nil && e.Endpoint < len(g.before.endpoints):
				ep := g.before.endpoints[e.Endpoint]
				return ep.path, ep.sessions && has
			case !s.Before && e.Endpoint < len(g.endpoints):
				ep := &g.endpoints[e.Endpoint]
				return ep.Path, ep.protocol != protocolNone
			}
		case flight.KindConnected, flight.KindSubscribed, flight.KindLeft:
			return "", has
		}
	}
	if has && !s.Before { // whichever most clients have: it is one id or the other
		return "", g.endpoints[0].protocol != protocolNone
	}
	return "", has
}

// evidence is that of an end, with the code of the close frame by which the client answered ours, if it did.
func evidence(d *flight.Ended, answered uint16) *Evidence {
	e := &Evidence{Age: d.Age.Milliseconds(), Silent: d.Silent.Milliseconds(), Pinged: -1, Queued: int64(d.Queued), RTT: -1, Unacked: -1, Timeouts: -1, Retransmits: -1, LastAck: -1,
		Ponged: -1, CloseSent: -1, CloseReceived: -1}
	if d.Pinged >= 0 {
		e.Pinged = d.Pinged.Milliseconds()
	}
	if d.Ponged {
		e.Ponged = e.Silent
	}
	if d.Code != 0 {
		e.CloseSent = int64(d.Code)
	}
	switch {
	case CauseKind(d.Cause) == CauseClientClose: // which we answer with its own code
		e.CloseReceived = int64(d.Code)
		if !ws.StatusCode(d.Code).Sendable() {
			e.CloseSent = int64(ws.StatusNoStatus)
		}
	case answered != 0:
		e.CloseReceived = int64(answered)
	}
	if d.Info {
		e.RTT, e.Unacked, e.Timeouts, e.Retransmits, e.LastAck = d.RTT.Microseconds(), int64(d.Unacked), int64(d.Timeouts), int64(d.Retransmits), d.LastAck.Milliseconds()
	}
	return e
}

// kernelWord is what the tracer told of an end.
func (g *Gateway) kernelWord(k *flight.Kernel) *KernelWord {
	w := g.words()
	x := &KernelWord{Level: w.Level(k.Level), Verdict: w.Verdict(k.Verdict), Path: []string{}, RTT: -1, Unacked: int64(k.Unacked), Retransmits: int64(k.Retransmits)}
	for shift := 60; shift >= 0; shift -= 4 {
		if s := sys.SocketState(k.Path >> shift & 15); s != 0 {
			x.Path = append(x.Path, s.String())
		}
	}
	if e := syscall.Errno(k.Err); e != 0 {
		if x.Error = errnoDetail(e); x.Error == "other" {
			x.Error = e.Error()
		}
	}
	if k.RTT > 0 {
		x.RTT = k.RTT.Microseconds()
	}
	return x
}

// MarshalText is String.
func (k CauseKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a cause's name.
func (k *CauseKind) UnmarshalText(b []byte) error {
	for _, kind := range CauseKinds() {
		if string(b) == kind.String() {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("cause %q: want one of %s", b, strings.Join(causeNames[1:], ", "))
}
