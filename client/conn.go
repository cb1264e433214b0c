package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/longwire/longwire/ws"
)

// Errors of Write.
var (
	// ErrQueueFull says that there is no connection, and that the queue holds what it may.
	ErrQueueFull = errors.New("client: the queue is full")
	// ErrNotOpen says that there is no connection, and that there will be none (Options.Once).
	ErrNotOpen = errors.New("client: not open")
	// ErrClosing says that Close was called.
	ErrClosing = errors.New("client: closing")
)

// CloseError is the end of a Conn: what Read and Write return from then on, and the error of a Dial whose attempt is final.
type CloseError struct {
	// Code is the server's, or that of Close; 1006 where there was no close frame, 4001 where the fuse has melted for good.
	Code   ws.StatusCode
	Reason string
	// Err is what went wrong below, if anything did: a *ws.HandshakeError of a refused handshake, a *ws.CloseError of a
	// server that breaks the protocol, an error of the network.
	Err error
}

// Error returns code, reason and cause.
func (e *CloseError) Error() string {
	s := "client: closed: " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }

// Conn is a WebSocket that comes back. Any goroutine may call its methods, at any time.
type Conn struct {
	options Options // frozen, as are all up to mu
	target  *target
	record  *Record
	ctx     context.Context // ends with the Conn
	cancel  context.CancelFunc
	base    time.Time // of the policy's clock
	start   int64     // its milliseconds at base

	dials  chan *line    // to the goroutine
	in     chan inbound  // to Read
	opened chan struct{} // closed with the first connection
	over   chan struct{} // closed with the state closed
	ended  chan struct{} // closed when, after that, nothing of the Conn runs any more

	mu      sync.Mutex // held for moments; before Record.mu and Network.mu
	policy  *policy
	wall    time.Duration // how far the wall clock was ahead of the monotonic one, as last looked
	asleep  int64         // milliseconds that the monotonic clock did not count
	offline bool          // what Options.Network said last
	line    *line         // the attempt or the connection that the policy knows of
	timer   *time.Timer
	armed   int // counts the timers, to tell a late one
	due     time.Time
	sending *message
	first   bool        // a connection was there
	lost    error       // why the attempt or connection before the one at hand ended
	end     *CloseError // set before over is closed
	notes   []func()    // listeners to call
	telling bool        // somebody calls them
	busy    int         // goroutines, timers and Writes under way
}

type inbound struct {
	op      ws.Opcode
	payload []byte
}

// line is one attempt, and the connection that comes of it.
type line struct {
	ctx    context.Context
	cancel context.CancelFunc
	shut   chan struct{} // closed with the closing handshake
	turn   chan struct{} // holds one: whoever put it in may write

	// Guarded by Conn.mu until open, frozen then.
	conn        net.Conn
	raw         net.Conn // below TLS; its Close never waits
	deflate     ws.Deflate
	subprotocol string

	// Guarded by Conn.mu.
	open      bool
	closeSent bool
	last      bool   // what is in out is the last; who has the turn closes conn after it, and keeps the turn
	stalled   bool   // the inbox is full
	out       []byte // frames that nobody waits for
	pong      []byte // the latest ping that is to be answered
	ponging   bool

	buf []byte // of who has the turn
}

// leaveTime is for how long a close frame may wait for the network on a connection that is left.
const leaveTime = time.Second

// compressFrom is the size from which a message is worth compressing.
const compressFrom = 512

// lookEvery is how often the clocks are compared while something is waited for.
const lookEvery = 5 * time.Second

// keepBuffer is how large a buffer a line keeps from one write to the next.
const keepBuffer = 64 << 10

var past = time.Unix(1, 0)

// Dial connects to url (ws or wss), and returns when there is a connection. Attempts follow each other by the policy until
// then; ctx bounds them all, but nothing after Dial has returned. The error is a *CloseError where the server has said
// that there is no use in trying, or with Options.Once. o is read only, and may be nil.
func Dial(ctx context.Context, url string, o *Options) (*Conn, error) {
	if o == nil {
		o = &Options{}
	}
	t, err := newTarget(url, o)
	if err != nil {
		return nil, fmt.Errorf("client: dial: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("client: dial %s: %w", t.address, err)
	}
	inbox := o.Inbox
	if inbox <= 0 {
		inbox = 16
	}
	c := &Conn{
		options: *o, target: t, record: o.Record, base: time.Now(),
		dials: make(chan *line, 1), in: make(chan inbound, inbox),
		opened: make(chan struct{}), over: make(chan struct{}), ended: make(chan struct{}),
		busy: 1, // for run
	}
	if c.record == nil {
		c.record = &Record{}
	}
	c.start = c.base.UnixMilli()
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	random := o.random
	if random == nil {
		random = rand.Float64
	}
	if c.options.now == nil {
		c.options.now = time.Now
	}
	c.wall = c.ahead()
	c.record.mu.Lock()
	c.policy = newPolicy(o.settings(), random, &c.record.m)
	c.record.mu.Unlock()

	go c.run()
	if n := o.Network; n != nil {
		n.add(c)
		c.heed()
	}
	c.do(event{kind: "start"})
	select {
	case <-c.opened:
		return c, nil
	case <-c.over:
		<-c.ended
		c.tell()
		return nil, fmt.Errorf("client: dial %s: %w", t.address, c.end)
	case <-ctx.Done():
		c.mu.Lock()
		lost := c.lost
		c.mu.Unlock()
		c.do(event{kind: "abort"})
		<-c.ended
		c.tell()
		if lost != nil {
			return nil, fmt.Errorf("client: dial %s: %w; the last attempt: %w", t.address, ctx.Err(), lost)
		}
		return nil, fmt.Errorf("client: dial %s: %w", t.address, ctx.Err())
	}
}

// Read returns the next message, OpText or OpBinary. The payload is the caller's. Cancelling ctx ends the call and loses
// no message. Messages of one connection come in order; OnState tells of what lies between connections. When the Conn is
// at its end, and all that came was read, the error is a *CloseError.
func (c *Conn) Read(ctx context.Context) (op ws.Opcode, payload []byte, err error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, fmt.Errorf("client: read: %w", err)
	}
	select {
	case m := <-c.in:
		return m.op, m.payload, nil
	case <-ctx.Done():
		return 0, nil, fmt.Errorf("client: read: %w", ctx.Err())
	case <-c.over:
		select {
		case m := <-c.in:
			return m.op, m.payload, nil
		default:
			return 0, nil, c.end
		}
	}
}

// Write sends one message, OpText (which must be UTF-8) or OpBinary. payload is not retained. It returns when the
// network has taken the message, or, while there is no connection, when the queue has. Writes of several goroutines go
// out one after the other.
//
// When ctx ends before the message has begun to go out, nothing has happened. When it ends in the middle of its frame, the
// connection is lost with it: see the package's comment.
func (c *Conn) Write(ctx context.Context, op ws.Opcode, payload []byte) error {
	if op != ws.OpText && op != ws.OpBinary {
		return fmt.Errorf("client: write: opcode is %v, want text or binary", op)
	}
	m := &message{bytes: len(payload), op: op}
	for { // again only when a connection was lost meanwhile
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("client: write: %w", err)
		}
		c.mu.Lock()
		l := c.line
		if l == nil || !l.open || !c.policy.writes() {
			m.payload = bytes.Clone(payload)
			c.send(m)
			c.mu.Unlock()
			c.tell()
			return m.err
		}
		select {
		case l.turn <- struct{}{}:
		default:
			c.mu.Unlock()
			select {
			case l.turn <- struct{}{}:
			case <-l.ctx.Done():
				continue
			case <-ctx.Done():
				return fmt.Errorf("client: write: %w", ctx.Err())
			}
			c.mu.Lock()
			if c.line != l || !c.policy.writes() {
				c.yield(l)
				c.mu.Unlock()
				continue
			}
		}
		if c.options.Resend {
			m.payload = bytes.Clone(payload)
		}
		c.busy++
		m.direct = true
		c.send(m)
		m.direct = false
		l.buf = append(l.buf[:0], l.out...)
		before := len(l.buf)
		l.out = l.out[:0]
		c.mu.Unlock()
		c.tell()
		l.buf = l.append(l.buf, op, payload)
		return c.write(ctx, l, before)
	}
}

// write writes l.buf, of which the caller has the turn. Its first bytes, before in number, are frames of others.
func (c *Conn) write(ctx context.Context, l *line, before int) error {
	cancelled := false
	var n int
	var err error
	if ctx.Done() == nil {
		n, err = l.conn.Write(l.buf)
	} else {
		ran := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			_ = l.conn.SetWriteDeadline(past)
			close(ran)
		})
		n, err = l.conn.Write(l.buf)
		if !stop() {
			<-ran
			cancelled = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.release()
	switch {
	case cancelled && l.last: // what the deadline was before
		_ = l.conn.SetWriteDeadline(time.Now().Add(leaveTime))
	case cancelled:
		_ = l.conn.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		c.yield(l)
		return nil
	case cancelled && n == 0 && c.target.tls == nil:
		l.out = append(bytes.Clone(l.buf[:before]), l.out...)
		c.yield(l)
		return fmt.Errorf("client: write: %w", ctx.Err())
	}
	l.last = true // nobody else has the turn any more
	_ = l.raw.Close()
	if cancelled {
		return fmt.Errorf("client: write: %w in the middle of a frame", ctx.Err())
	}
	return fmt.Errorf("client: write: %w", err)
}

// send gives m to the policy, and leaves in m.err what it said. The caller holds mu.
func (c *Conn) send(m *message) {
	c.sending = m
	c.step(event{kind: "send", message: m})
	c.sending = nil
}

// Close ends the Conn: with the closing handshake if there is a connection, bounded by ctx and Options.CloseTimeout. It
// returns when nothing of the Conn runs any more, which after the end of ctx takes a second at most. Code 0 means 1000. A
// second Close waits for the first. The error is that of ctx, or says that code can't be sent, with nothing done.
func (c *Conn) Close(ctx context.Context, code ws.StatusCode, reason string) error {
	if code == 0 {
		code = ws.StatusNormalClosure
	}
	if !code.Sendable() {
		return fmt.Errorf("client: close: code %v can't be sent", code)
	}
	c.do(event{kind: "shut", code: int(code), reason: reason})
	var err error
	select {
	case <-c.over:
	case <-ctx.Done():
		c.do(event{kind: "abort"})
		err = fmt.Errorf("client: close: %w", ctx.Err())
	}
	<-c.ended
	c.tell()
	return err
}

// Reconnect leaves the connection and comes back: after that time and up to as much more, or, with a negative one, spread
// over Backoff.Spread. It does nothing while there is no connection.
func (c *Conn) Reconnect(after time.Duration) {
	ms := int64(-1)
	if after >= 0 {
		ms = after.Milliseconds()
	}
	c.do(event{kind: "advice", after: ms})
}

// State returns where the state machine stands.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.state
}

// Open reports whether there is a connection. The states Trial, Offline and Closing alone do not say so.
func (c *Conn) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.up
}

// RTT returns the estimate of the round trip; zero before the first pong.
func (c *Conn) RTT() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.policy.rtt * float64(time.Millisecond))
}

// Subprotocol returns what the server has chosen for the connection at hand; empty without one.
func (c *Conn) Subprotocol() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line == nil || !c.line.open {
		return ""
	}
	return c.line.subprotocol
}

// do gives an event to the policy.
func (c *Conn) do(e event) {
	c.mu.Lock()
	c.step(e)
	c.mu.Unlock()
	c.tell()
}

// on gives an event of l to the policy, unless l was left.
func (c *Conn) on(l *line, e event) bool {
	c.mu.Lock()
	ok := c.line == l
	if ok {
		c.step(e)
	}
	c.mu.Unlock()
	c.tell()
	return ok
}

// step gives an event to the policy and does what it says. Nothing of it waits. The caller holds mu, and calls tell when
// it has let go of it.
func (c *Conn) step(e event) {
	e.at = max(e.at, c.now())
	from := c.policy.state
	c.record.mu.Lock()
	actions := c.policy.step(e)
	c.record.mu.Unlock()
	for _, a := range actions {
		c.act(a, from)
	}
}

// now is the policy's time in milliseconds: the monotonic clock, and what it has slept through.
func (c *Conn) now() int64 { return c.start + c.asleep + time.Since(c.base).Milliseconds() }

// ahead is how far the wall clock has gone on further than the monotonic one since base.
func (c *Conn) ahead() time.Duration {
	return c.options.now().Round(0).Sub(c.base.Round(0)) - time.Since(c.base)
}

// look compares the clocks. The monotonic one stands still while the machine sleeps, so where the wall clock has gone on
// without it, that was so. It may also have been set; then one ping goes out that nobody needs. Where the monotonic clock
// counts sleep, or the program alone was stopped, it is the look that comes too late, by so much. That may also be because
// the machine has too much to do, and so it ends no backoff: many clients in one program would come back at once. The
// caller holds mu.
func (c *Conn) look(late time.Duration) {
	ahead := c.ahead()
	jump := (ahead - c.wall).Milliseconds()
	c.wall = ahead
	most := c.policy.Heartbeat.Late
	if jump > most {
		c.asleep += jump
	}
	if jump > most || late.Milliseconds() > most && c.policy.up {
		c.step(event{kind: "wake"})
	}
}

func (c *Conn) act(a action, from State) {
	switch a.do {
	case "timer":
		c.arm(a.name, a.at)
	case "clear":
		c.armed++
		c.due = time.Time{}
		if c.timer.Stop() {
			c.release()
		}
	case "connect":
		l := &line{shut: make(chan struct{}), turn: make(chan struct{}, 1)}
		l.ctx, l.cancel = context.WithCancel(c.ctx)
		c.line = l
		select {
		case <-c.dials: // one that was left before the goroutine had it
		default:
		}
		c.dials <- l
	case "ping":
		c.ping(a.at)
	case "close":
		if a.reason != "abort" {
			c.lost = errors.New("client: " + a.reason)
		}
		c.leave(c.line, ws.StatusCode(a.code), a.reason)
	case "shut":
		c.shut(ws.StatusCode(a.code), a.reason)
	case "write":
		if m := a.message; !m.direct {
			c.line.out = c.line.append(c.line.out, m.op, m.payload)
			c.post(c.line)
		}
	case "reject":
		a.message.err = ErrNotOpen
		if a.reason == "full" {
			a.message.err = ErrQueueFull
		}
	case "drop":
		c.drop(a.message, a.reason)
	case "state":
		if c.options.OnState != nil {
			t := Transition{From: from, To: a.state, Reason: a.reason, Due: c.due, Err: c.lost}
			c.notes = append(c.notes, func() { c.options.OnState(t) })
		}
	case "open":
		if !c.first {
			c.first = true
			close(c.opened)
		}
	case "end":
		c.end = &CloseError{Code: ws.StatusCode(a.code), Reason: a.reason, Err: c.lost}
		if e, ok := c.lost.(*CloseError); ok && e.Code == c.end.Code {
			c.end.Err = nil
		}
		c.cancel()
		close(c.over)
		if n := c.options.Network; n != nil {
			n.remove(c)
		}
	}
}

func (c *Conn) drop(m *message, reason string) {
	if m == c.sending && reason == "closed" {
		m.err = ErrClosing
		if c.end != nil {
			m.err = c.end
		}
		return
	}
	if c.options.OnDrop != nil {
		c.notes = append(c.notes, func() { c.options.OnDrop(m.op, m.payload, reason) })
	}
}

// arm sets the timer, of which there is none.
func (c *Conn) arm(name string, at int64) {
	c.armed++
	c.due = time.Now().Add(c.until(at))
	c.wait(c.armed, name, at)
}

// until is the time up to at.
func (c *Conn) until(at int64) time.Duration {
	return time.Duration(at-c.start-c.asleep)*time.Millisecond - time.Since(c.base)
}

// wait waits for what was armed, and looks at the clocks on the way.
func (c *Conn) wait(armed int, name string, at int64) {
	left := c.until(at)
	next := min(left, lookEvery)
	due := time.Since(c.base) + next
	c.busy++
	c.timer = time.AfterFunc(next, func() {
		defer c.done()
		c.mu.Lock()
		if c.armed == armed {
			late := time.Since(c.base) - due
			if next == left {
				late = 0 // the policy sees that by itself
			}
			c.look(late)
		}
		switch {
		case c.armed != armed: // cleared, or armed anew because of what look saw
		case c.until(at) > 0:
			c.wait(armed, name, at)
		default:
			if c.line != nil && c.line.stalled && (name == "ping" || name == "pong") {
				c.step(event{at: at, kind: "message"}) // it lies unread
			}
			c.due = time.Time{}
			c.step(event{at: at, kind: "timer", name: name})
		}
		c.mu.Unlock()
		c.tell()
	})
}

// tell calls the listeners, unless somebody does already, who then goes on with what has come.
func (c *Conn) tell() {
	c.mu.Lock()
	for len(c.notes) > 0 && !c.telling {
		note := c.notes[0]
		c.notes = c.notes[1:]
		c.telling = true
		c.mu.Unlock()
		note()
		c.mu.Lock()
		c.telling = false
	}
	c.mu.Unlock()
}

func (c *Conn) done() {
	c.mu.Lock()
	c.release()
	c.mu.Unlock()
}

// release ends what busy has counted. The caller holds mu.
func (c *Conn) release() {
	if c.busy--; c.busy == 0 {
		close(c.ended)
	}
}

// ping sends what asks the peer.
func (c *Conn) ping(at int64) {
	l := c.line
	switch h := &c.options.Heartbeat; {
	case h.Mode == HeartbeatJSON:
		l.out = l.append(l.out, ws.OpText, append(strconv.AppendInt([]byte(`{"type":"ping","ts":`), at, 10), '}'))
	case h.Mode == HeartbeatMessage && h.Message != nil:
		op, payload := h.Message()
		l.out = l.append(l.out, op, payload)
	default:
		l.out = ws.AppendFrame(l.out, ws.Client, ws.OpPing, strconv.AppendInt(nil, at, 10), key())
	}
	c.post(l)
}

// leave ends an attempt or a connection at once: whatever still comes from it is not heard.
func (c *Conn) leave(l *line, code ws.StatusCode, reason string) {
	if l == nil {
		return
	}
	c.line = nil
	l.cancel()
	if !l.open {
		if l.raw != nil {
			_ = l.raw.Close()
		}
		return
	}
	c.part(l, code, reason)
	_ = l.conn.SetReadDeadline(past)
}

// shut begins the closing handshake, or ends an attempt, which is then told as an error.
func (c *Conn) shut(code ws.StatusCode, reason string) {
	l := c.line
	if l == nil {
		return
	}
	close(l.shut)
	if !l.open {
		l.cancel()
		if l.raw != nil {
			_ = l.raw.Close()
		}
		return
	}
	l.closeSent, l.ponging = true, false
	l.out = ws.AppendClose(l.out, ws.Client, code, reason, key())
	c.post(l)
}

// part has a connection closed when what waits in out, and a close frame (with code 0: none), have gone out.
func (c *Conn) part(l *line, code ws.StatusCode, reason string) {
	if l.last {
		return
	}
	l.last = true
	if code != 0 && !l.closeSent {
		l.closeSent, l.ponging = true, false
		l.out = ws.AppendClose(l.out, ws.Client, code, reason, key())
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(leaveTime))
	c.post(l)
}

// post has l.out written, by who has the turn or else by a goroutine.
func (c *Conn) post(l *line) {
	select {
	case l.turn <- struct{}{}:
		c.yield(l)
	default:
	}
}

// yield gives the turn up: to a goroutine, if there is something to write. The caller holds mu.
func (c *Conn) yield(l *line) {
	if len(l.out) == 0 && !l.ponging && !l.last {
		<-l.turn
		return
	}
	c.busy++
	go c.flush(l)
}

// flush writes what nobody waits for. It has the turn.
func (c *Conn) flush(l *line) {
	defer c.done()
	for {
		c.mu.Lock()
		if l.ponging {
			l.out = ws.AppendFrame(l.out, ws.Client, ws.OpPong, l.pong, key())
			l.ponging = false
		}
		if len(l.out) == 0 {
			last := l.last
			if !last {
				<-l.turn
			}
			c.mu.Unlock()
			if last {
				_ = l.conn.Close()
			}
			return
		}
		if cap(l.buf) > keepBuffer {
			l.buf = nil
		}
		l.buf, l.out = l.out, l.buf[:0]
		c.mu.Unlock()
		if _, err := l.conn.Write(l.buf); err != nil {
			c.mu.Lock()
			l.last = true // nobody else has the turn any more
			c.mu.Unlock()
			_ = l.raw.Close()
			return
		}
	}
}

// append appends the frame of a message.
func (l *line) append(dst []byte, op ws.Opcode, payload []byte) []byte {
	if l.deflate.On && len(payload) >= compressFrom {
		return ws.AppendCompressed(dst, ws.Client, op, payload, l.deflate.Window, key())
	}
	return ws.AppendFrame(dst, ws.Client, op, payload, key())
}
