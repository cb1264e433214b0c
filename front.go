package longwire

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// front is the handler of one loop: it makes WebSocket connections of what the loop holds. All of it but its
// counters belongs to the loop's thread.
type front struct {
	g    *Gateway
	l    *loop.Loop
	mem  []byte  // what conns lies in
	conn []state // by slot

	reader    *ws.Reader  // for connections that are between messages
	head      ws.Request  // the one that is being answered
	verdict   refusalKind // of Admit on the connection that Opened is called for next
	overLimit int         // connections with stateOverLimit
	partials  loop.Loans[partial]
	count     *counters // of this loop; survives the loop's thread
	sent      uint64    // messages appended since count was brought up to date
}

// state is what a connection is to the gateway. It has no pointers.
type state struct {
	addr     uint64 // addressKey of the peer
	heard    uint32 // tick of the last bytes from the client
	opened   uint32 // tick of the accept
	partial  uint32 // loan: what is held of a request or message that is incomplete; 0: nothing
	code     uint16 // of the cause
	flags    stateFlags
	endpoint uint8
	phase    phase
	cause    CauseKind // 0 until the end is certain
	detail   uint8     // of the cause: index into details
	window   uint8     // log2 of the compression window; 0: no compression
	verdict  refusalKind
}

const stateSize = int(unsafe.Sizeof(state{}))

type phase uint8

const (
	phaseRequest phase = iota // waits for the request
	phaseOpen
	phaseClosing // our close frame is sent, the client's awaited
	phaseOver    // both are sent, or there is no point
)

type stateFlags uint16

const (
	stateWatched   stateFlags = 1 << iota // has a context
	statePinged                           // since it was heard last
	stateQueued                           // paused because its own replies fill the write queue
	stateWorking                          // paused because its blocking work lags
	stateDrain                            // its timer is its turn in the drain
	stateUpgraded                         // OnOpen was called
	stateCounted                          // counted in Gateway.conns and in the address table
	stateOverLimit                        // let in only to say whether it wants plain HTTP; see state.verdict
)

// partial is what is held of a connection whose request or message is incomplete.
type partial struct {
	reader ws.Reader
	head   []byte
}

// counters are what the fronts of one loop count. The loop writes, anybody reads.
type counters struct {
	upgraded    atomic.Uint64
	messagesIn  atomic.Uint64
	messagesOut atomic.Uint64
	pings       atomic.Uint64 // sent by us
	pongs       atomic.Uint64 // received
	passed      atomic.Uint64 // requests that went to net/http
	refused     [refusalKinds]atomic.Uint64
	causes      [causeKinds]atomic.Uint64
	partials    atomic.Int64 // connections with an incomplete request or message
}

const (
	closingTimeout = 5 * time.Second // for the client's close frame
	pingSpread     = 25              // a ping is sent up to this fraction of Heartbeat.Ping earlier
	maxOverLimit   = 256             // connections of one loop that are let in over a limit, to say what they want
)

func newFront(g *Gateway, l *loop.Loop) *front {
	f := &front{g: g, l: l, reader: new(ws.Reader), count: &g.counters[l.Index()]}
	mem, err := l.Map(l.Slots() * stateSize)
	if err != nil {
		panic(err) // the loop's own slab of about the same size was mapped a moment ago
	}
	f.mem = mem
	f.conn = unsafe.Slice((*state)(unsafe.Pointer(&mem[0])), l.Slots())
	return f
}

// Stopped implements loop.Handler.
func (f *front) Stopped() {
	f.l.Unmap(f.mem)
	f.mem, f.conn = nil, nil
}

// Emptied implements loop.Handler.
func (f *front) Emptied() {
	f.l.Discard(f.mem)
	f.partials.Reset()
}

func (f *front) handle(i uint32) Conn { return Conn{g: f.g, id: f.l.ID(i)} }

// Admit implements loop.Handler: limits are checked before anything is kept. Who is over one may still have come
// for /healthz or /metrics, which must answer at a full gateway too: while there is room, such a connection is let
// in to say what it wants, counted nowhere, and its handshake gets the refusal then.
func (f *front) Admit(peer netip.AddrPort, full bool) []byte {
	f.verdict = f.g.admission.admit(addressKey(peer.Addr()), full)
	if f.verdict == admitted {
		return nil
	}
	f.g.admission.log(f.verdict)
	if f.overLimit < maxOverLimit && f.l.Live() < f.l.Slots() {
		return nil
	}
	f.count.refused[f.verdict].Add(1)
	f.count.causes[CauseRefused].Add(1)
	return f.g.refusals[f.verdict]
}

// Opened implements loop.Handler.
func (f *front) Opened(i uint32, o loop.Opening) {
	st := &f.conn[i]
	*st = state{heard: f.l.Tick(), opened: f.l.Tick(), flags: stateCounted}
	if o.How == loop.Adopted {
		f.adopted(i, st, o.Data)
		return
	}
	st.addr = addressKey(o.Peer.Addr())
	if f.verdict != admitted {
		st.flags = stateOverLimit
		st.verdict = f.verdict
		f.overLimit++
		f.l.SetTimer(i, min(time.Second, f.g.config.HandshakeTimeout))
		return
	}
	f.l.SetTimer(i, f.g.config.HandshakeTimeout)
}

// Data implements loop.Handler.
func (f *front) Data(i uint32, b []byte) {
	st := &f.conn[i]
	st.heard = f.l.Tick()
	st.flags &^= statePinged
	switch st.phase {
	case phaseRequest:
		f.request(i, st, b)
	case phaseOpen, phaseClosing:
		f.frames(i, st, b)
	}
}

// request takes bytes of the request head.
func (f *front) request(i uint32, st *state, b []byte) {
	head := b
	if st.partial != 0 {
		p := f.partials.At(st.partial)
		p.head = append(p.head, b...)
		head = p.head
	}
	req := &f.head // callbacks see it, so a variable here would lie on the heap for each handshake
	var n int
	var err error
	*req, n, err = ws.ParseRequest(head, f.g.config.MaxHeader)
	if err != nil {
		ref := refusalOf(err)
		f.refuse(i, st, refusalKindOf(ref.Status), ref)
		return
	}
	if n == 0 {
		if st.partial == 0 {
			p := f.attach(st)
			p.head = append(p.head[:0], b...)
		}
		return
	}
	e := f.g.endpoint(req.Path())
	if e < 0 || !req.Upgrade() {
		f.pass(i, st, head)
		return
	}
	if f.g.admission.draining.Load() && st.flags&stateOverLimit == 0 {
		st.verdict = refusedDrain
	}
	if st.verdict != admitted {
		f.refuseOverLimit(i, st)
		return
	}
	ep := &f.g.endpoints[e]
	h, ref := ws.Negotiate(req, &ep.policy)
	if ref == nil && ep.Authorize != nil {
		ref = ep.Authorize(req)
	}
	if ref != nil {
		f.refuse(i, st, refusalKindOf(ref.Status), ref)
		return
	}
	f.l.Commit(i, ws.AppendResponse(f.l.Buffer(i), &h, ""))
	f.open(i, st, e, &h, req)
	// What follows the head are frames already. They alias the partial's head if there was one.
	rest := head[n:]
	if st.partial != 0 {
		p := f.unhook(st)
		if len(rest) > 0 && st.phase != phaseOver {
			f.frames(i, st, rest)
		}
		f.recycle(p)
		return
	}
	if len(rest) > 0 && st.phase != phaseOver {
		f.frames(i, st, rest)
	}
}

// open makes an endpoint's connection of conn i, whose handshake is agreed.
func (f *front) open(i uint32, st *state, e int, h *ws.Handshake, req *ws.Request) {
	ep := &f.g.endpoints[e]
	st.phase = phaseOpen
	st.endpoint = uint8(e)
	if h.Deflate.On {
		st.window = h.Deflate.Window
	}
	st.flags |= stateUpgraded
	f.count.upgraded.Add(1)
	if f.g.admission.draining.Load() {
		// It came from net/http after the turns were given out.
		st.flags |= stateDrain
		f.l.SetTimer(i, loop.Tick)
	} else {
		f.arm(i, st)
	}
	if ep.OnOpen == nil {
		return
	}
	c := f.handle(i)
	if ep.Blocking {
		r := ownedRequest(req)
		f.submit(i, st, func() { ep.OnOpen(c, r) })
		return
	}
	ep.OnOpen(c, req)
}

// frames takes bytes behind the handshake.
func (f *front) frames(i uint32, st *state, b []byte) {
	ep := &f.g.endpoints[st.endpoint]
	r := f.reader
	if st.partial != 0 {
		r = &f.partials.At(st.partial).reader
	} else {
		r.Reset(ws.ReaderConfig{MaxMessage: int64(ep.MaxMessage), Deflate: st.window != 0})
	}
	received := uint64(0) // counted once for all of b: an atomic for each message is a share of its cost
	for len(b) > 0 {
		ev, n, err := r.Next(b)
		b = b[n:]
		if err != nil {
			f.violation(i, st, err)
			break
		}
		switch ev.Op {
		case ws.OpText, ws.OpBinary:
			received++
			if st.phase == phaseOpen {
				f.message(i, st, ep, ev)
			}
		case ws.OpPing:
			if st.phase == phaseOpen {
				f.control(i, st, ws.OpPong, ev.Payload)
			}
		case ws.OpPong:
			f.count.pongs.Add(1)
		case ws.OpClose:
			f.clientClose(i, st, ev.Code)
		}
		if st.phase == phaseOver {
			break
		}
	}
	if received > 0 {
		f.count.messagesIn.Add(received)
	}
	f.publish()
	switch {
	case st.phase == phaseOver:
		// The end releases what is attached.
	case r.Idle():
		if st.partial != 0 {
			f.recycle(f.unhook(st))
		} else {
			r.Release()
		}
	case st.partial == 0:
		// The spare reader becomes the connection's, another one becomes spare.
		p := f.attach(st)
		*f.reader, p.reader = p.reader, *f.reader
	}
}

func (f *front) message(i uint32, st *state, ep *endpoint, ev ws.Event) {
	if ep.OnMessage == nil {
		return
	}
	if !ep.Blocking {
		ep.OnMessage(f.handle(i), Message{Op: ev.Op, Payload: ev.Payload, front: f, slot: i})
		return
	}
	// Variables of its own: what the closure captures lies on the heap.
	c, op, payload := f.handle(i), ev.Op, append([]byte(nil), ev.Payload...)
	f.submit(i, st, func() { ep.OnMessage(c, Message{Op: op, Payload: payload, conn: &c}) })
}

// submit hands work of conn i to the pool, and stops reading from it when it lags.
func (f *front) submit(i uint32, st *state, work func()) {
	id := f.l.ID(i)
	if f.g.pool.submit(id, work) && st.flags&stateWorking == 0 {
		st.flags |= stateWorking
		f.l.Pause(i)
		f.g.pool.whenIdle(id, func() { _ = f.g.call(id, func(f *front) { f.resume(id, stateWorking) }) })
	}
}

// resume ends one of the reasons for which a connection is paused.
func (f *front) resume(id loop.ID, why stateFlags) {
	i, ok := f.l.Find(id)
	if !ok {
		return
	}
	st := &f.conn[i]
	st.flags &^= why
	if st.flags&(stateQueued|stateWorking) == 0 {
		st.heard = f.l.Tick() // nobody listened
		f.l.Resume(i)
	}
}

// send appends a message to what leaves for conn i, as a reply to its own: a full queue pauses its reading.
func (f *front) send(i uint32, op ws.Opcode, payload []byte) {
	st := &f.conn[i]
	if st.phase != phaseOpen {
		return
	}
	f.append(i, st, op, payload)
	if st.flags&stateQueued == 0 && f.l.Queued(i) > f.g.endpoints[st.endpoint].WriteQueue {
		st.flags |= stateQueued
		f.l.Pause(i)
	}
}

func (f *front) append(i uint32, st *state, op ws.Opcode, payload []byte) {
	b := f.l.Buffer(i)
	if st.window != 0 && len(payload) >= f.g.endpoints[st.endpoint].CompressAbove {
		b = ws.AppendCompressed(b, ws.Server, op, payload, st.window, [4]byte{})
	} else {
		b = ws.AppendFrame(b, ws.Server, op, payload, [4]byte{})
	}
	f.l.Commit(i, b)
	f.sent++
}

// publish brings the counters that others read up to date.
func (f *front) publish() {
	if f.sent > 0 {
		f.count.messagesOut.Add(f.sent)
		f.sent = 0
	}
}

// control appends a ping or pong.
func (f *front) control(i uint32, st *state, op ws.Opcode, payload []byte) {
	f.l.Commit(i, ws.AppendFrame(f.l.Buffer(i), ws.Server, op, payload, [4]byte{}))
	if st.flags&stateQueued == 0 && f.l.Queued(i) > f.g.endpoints[st.endpoint].WriteQueue {
		st.flags |= stateQueued
		f.l.Pause(i)
	}
}

// Drained implements loop.Handler.
func (f *front) Drained(i uint32) {
	if f.conn[i].flags&stateQueued != 0 {
		f.resume(f.l.ID(i), stateQueued)
	}
}

// Post implements loop.Handler.
func (f *front) Post(id loop.ID, kind uint8, payload []byte) {
	i, ok := f.l.Find(id)
	if !ok {
		if kind == postWatch {
			f.watch(id) // ends the context
		}
		return
	}
	st := &f.conn[i]
	switch kind {
	case postSend:
		if f.takes(i, st) {
			f.append(i, st, ws.Opcode(payload[0]), payload[1:])
			f.publish()
		}
	case postClose:
		code := ws.StatusCode(uint16(payload[0]) | uint16(payload[1])<<8)
		f.closeWith(i, st, Cause{Kind: CauseApplication, Code: code}, string(payload[2:]))
	case postWatch:
		f.watch(id)
	}
}

// push is a message from elsewhere, encoded once for many.
func (f *front) push(i uint32, st *state, m *encoded) {
	if f.takes(i, st) {
		f.l.Write(i, m.frame(st.window))
		f.count.messagesOut.Add(1)
	}
}

// takes reports whether conn i may have a message from elsewhere. It is a slow consumer, and over, if the last
// ones still wait.
func (f *front) takes(i uint32, st *state) bool {
	if st.phase != phaseOpen {
		return false
	}
	limit := f.g.endpoints[st.endpoint].WriteQueue
	if f.l.Queued(i) < limit {
		return true
	}
	f.l.Flush(i)
	if _, ok := f.l.Find(f.l.ID(i)); !ok {
		return false
	}
	if f.l.Queued(i) < limit {
		return true
	}
	f.end(st, Cause{Kind: CauseSlow, Detail: detailQueue})
	f.over(i, st)
	f.l.Abort(i) // a FIN would wait behind all that it does not read
	return false
}

// watch notes that a context of the connection exists, or ends it if the connection is over.
func (f *front) watch(id loop.ID) {
	i, ok := f.l.Find(id)
	if !ok || f.conn[i].flags&stateUpgraded == 0 {
		f.g.contexts.end(id, errOver)
		return
	}
	f.conn[i].flags |= stateWatched
}

// arm sets the timer of an open connection to what its heartbeat wants next.
func (f *front) arm(i uint32, st *state) {
	h := f.g.endpoints[st.endpoint].Heartbeat
	switch {
	case h.Ping > 0 && st.flags&statePinged == 0:
		// Earlier by up to a 25th, by the slot: what came at once drifts apart.
		early := uint64(h.Ping/loop.Tick) / pingSpread * uint64(i*2654435769>>8&0xffff) >> 16
		f.l.SetTimerTick(i, st.heard+uint32(h.Ping/loop.Tick)-uint32(early))
	case h.Ping > 0 && h.Timeout > 0:
		f.l.SetTimerTick(i, min(f.l.Tick()+ticks(h.Ping), st.heard+ticks(h.Timeout)))
	case h.Ping > 0:
		f.l.SetTimerTick(i, f.l.Tick()+ticks(h.Ping))
	case h.Timeout > 0:
		f.l.SetTimerTick(i, st.heard+ticks(h.Timeout))
	default:
		f.l.ClearTimer(i)
	}
}

func ticks(d time.Duration) uint32 { return uint32((d + loop.Tick - 1) / loop.Tick) }

// Timer implements loop.Handler.
func (f *front) Timer(i uint32) {
	st := &f.conn[i]
	now := f.l.Tick()
	switch {
	case st.phase == phaseRequest && st.flags&stateOverLimit != 0:
		f.refuseOverLimit(i, st)
		return
	case st.phase == phaseRequest && st.flags&stateDrain != 0:
		st.verdict = refusedDrain
		f.refuseOverLimit(i, st)
		return
	case st.phase == phaseRequest:
		f.end(st, Cause{Kind: CauseHandshakeTimeout})
		f.l.Commit(i, append(f.l.Buffer(i), f.g.late...))
		f.over(i, st)
		f.l.Finish(i)
		return
	case st.phase == phaseClosing:
		f.over(i, st) // the client's close frame does not come
		f.l.Finish(i)
		return
	case st.flags&stateDrain != 0:
		f.closeWith(i, st, Cause{Kind: CauseDrain, Code: ws.StatusGoingAway}, "the server is going away")
		return
	}
	f.beat(i, st, now)
}

// beat is an open connection's timer: it pings the silent, and closes those that were pinged and stay silent.
func (f *front) beat(i uint32, st *state, now uint32) {
	h := f.g.endpoints[st.endpoint].Heartbeat
	if st.flags&stateWorking != 0 {
		st.heard = now // we do not listen; TCP_USER_TIMEOUT still watches
	}
	due := h.Timeout > 0 && now-st.heard >= ticks(h.Timeout) && (st.flags&statePinged != 0 || h.Ping < 0)
	if due && st.flags&stateQueued == 0 {
		// The answer may wait in the socket: a loop that lags must not call its connections silent.
		f.l.Look(i)
		if _, ok := f.l.Find(f.l.ID(i)); !ok || st.phase != phaseOpen {
			return
		}
		due = now-st.heard >= ticks(h.Timeout)
	}
	switch {
	case due && st.flags&stateQueued != 0:
		f.end(st, Cause{Kind: CauseSlow, Detail: detailReplies})
		f.over(i, st)
		f.l.Abort(i)
		return
	case due:
		f.end(st, Cause{Kind: CauseHeartbeat, Code: ws.StatusPolicyViolation})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ws.StatusPolicyViolation, "heartbeat timeout", [4]byte{}))
		f.over(i, st)
		f.l.Finish(i)
		return
	case h.Ping > 0 && st.flags&statePinged == 0 && now-st.heard+ticks(h.Ping)/pingSpread+1 >= ticks(h.Ping):
		st.flags |= statePinged
		// However late this ping is, the client has its time to answer it.
		if p := ticks(h.Ping); now-st.heard > p {
			st.heard = now - p
		}
		if f.l.Queued(i) == 0 { // else a ping waits behind data that is not acknowledged either
			f.l.Commit(i, append(f.l.Buffer(i), pingFrame[:]...))
			f.count.pings.Add(1)
		}
	}
	f.arm(i, st)
}

var pingFrame = [2]byte{0x80 | byte(ws.OpPing), 0}

// clientClose answers the client's close frame.
func (f *front) clientClose(i uint32, st *state, code ws.StatusCode) {
	if st.phase == phaseOpen {
		f.end(st, Cause{Kind: CauseClientClose, Code: code})
		reply := code
		if !reply.Sendable() {
			reply = ws.StatusNoStatus
		}
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, reply, "", [4]byte{}))
	}
	f.over(i, st)
	f.l.Finish(i)
}

// violation ends a connection whose client broke the protocol.
func (f *front) violation(i uint32, st *state, err error) {
	var ce *ws.CloseError
	if !errors.As(err, &ce) {
		ce = &ws.CloseError{Code: ws.StatusInternalError, Rule: "internal"}
	}
	kind := CauseProtocol
	if ce.Code == ws.StatusMessageTooBig {
		kind = CauseTooBig
	}
	if st.phase == phaseOpen {
		f.end(st, Cause{Kind: kind, Code: ce.Code, Detail: ce.Rule})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ce.Code, ce.Rule, [4]byte{}))
	}
	f.over(i, st)
	f.l.Finish(i)
}

// closeWith starts the closing handshake.
func (f *front) closeWith(i uint32, st *state, cause Cause, reason string) {
	switch st.phase {
	case phaseRequest:
		f.end(st, cause)
		f.over(i, st)
		f.l.Finish(i)
	case phaseOpen:
		if cause.Code != 0 && !cause.Code.Sendable() {
			cause.Code = ws.StatusNormalClosure
		}
		f.end(st, cause)
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, cause.Code, reason, [4]byte{}))
		st.phase = phaseClosing
		f.l.SetTimer(i, closingTimeout)
		if f.l.Paused(i) {
			st.flags &^= stateQueued | stateWorking
			f.l.Resume(i) // its close frame is awaited
		}
	}
}

// refuse answers a request with r and ends the connection.
func (f *front) refuse(i uint32, st *state, kind refusalKind, r *ws.Refusal) {
	f.count.refused[kind].Add(1)
	f.end(st, Cause{Kind: CauseRefused, Detail: kind.String()})
	f.l.Commit(i, ws.AppendRefusal(f.l.Buffer(i), r))
	f.uncount(st)
	f.over(i, st)
	f.l.Finish(i)
}

// refuseOverLimit answers a connection that Admit was against, or would be by now.
func (f *front) refuseOverLimit(i uint32, st *state) {
	f.count.refused[st.verdict].Add(1)
	f.end(st, Cause{Kind: CauseRefused, Detail: st.verdict.String()})
	f.l.Commit(i, append(f.l.Buffer(i), f.g.refusals[st.verdict]...))
	f.over(i, st)
	f.l.Finish(i)
}

// uncount takes a connection out of what limits are compared with, once it is certain that it will not be one.
func (f *front) uncount(st *state) {
	if st.flags&stateCounted != 0 {
		st.flags &^= stateCounted
		f.g.admission.leave(st.addr)
	}
	if st.flags&stateOverLimit != 0 {
		st.flags &^= stateOverLimit
		f.overLimit--
	}
}

// pass moves a plain HTTP request to net/http.
func (f *front) pass(i uint32, st *state, head []byte) {
	if err := f.l.PassTo(i, f.g.loops.Outlet(), head); err != nil {
		f.refuse(i, st, refusedPlain, &ws.Refusal{Status: 503, Reason: "too many plain HTTP requests", RetryAfter: f.g.retryAfter()})
		return
	}
	f.count.passed.Add(1)
	f.over(i, st)
}

// end notes the cause, if there is none yet.
func (f *front) end(st *state, c Cause) {
	if st.cause == CauseUnknown {
		st.cause, st.code, st.detail = c.Kind, uint16(c.Code), detailIndex(c.Detail)
	}
}

func (f *front) over(_ uint32, st *state) { st.phase = phaseOver }

// Closed implements loop.Handler.
func (f *front) Closed(i uint32, e loop.End) {
	st := &f.conn[i]
	if st.partial != 0 {
		f.recycle(f.unhook(st))
	}
	f.uncount(st)
	if e.Kind == loop.EndPassed {
		*st = state{}
		return
	}
	f.end(st, causeOf(e))
	f.count.causes[st.cause].Add(1)
	cause := Cause{Kind: st.cause, Code: ws.StatusCode(st.code), Detail: details[st.detail]}
	id := f.l.ID(i)
	if st.flags&stateWatched != 0 {
		f.g.contexts.end(id, cause)
	}
	f.g.logClose(id, f, st, cause)
	if st.flags&stateUpgraded != 0 {
		if ep := &f.g.endpoints[st.endpoint]; ep.OnClose != nil {
			c := Conn{g: f.g, id: id}
			if ep.Blocking {
				f.g.pool.submit(id, func() { ep.OnClose(c, cause) })
			} else {
				ep.OnClose(c, cause)
			}
		}
	}
	*st = state{}
}

// causeOf is the cause of an end that the kernel told first.
func causeOf(e loop.End) Cause {
	switch e.Kind {
	case loop.EndEOF:
		return Cause{Kind: CauseClientFIN}
	case loop.EndStopped:
		return Cause{Kind: CauseDrain, Detail: detailStopped}
	case loop.EndError:
		var errno syscall.Errno
		if errors.As(e.Err, &errno) {
			switch errno {
			case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
				return Cause{Kind: CauseReset, Detail: errnoDetail(errno)}
			case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
				return Cause{Kind: CauseKernelTimeout, Detail: errnoDetail(errno)}
			}
		}
		return Cause{Kind: CauseInternal, Detail: detailPoller}
	}
	return Cause{Kind: CauseInternal}
}

// attach gives a connection a partial.
func (f *front) attach(st *state) *partial {
	p := f.partials.Spare()
	st.partial = f.partials.Lend(p)
	f.count.partials.Add(1)
	return p
}

// unhook takes a connection's partial away and leaves it to the caller.
func (f *front) unhook(st *state) *partial {
	p := f.partials.Return(st.partial)
	st.partial = 0
	f.count.partials.Add(-1)
	return p
}

// recycle empties a partial for another connection.
func (f *front) recycle(p *partial) {
	p.reader.Release()
	if cap(p.head) > 16<<10 {
		p.head = nil
	}
	f.partials.Keep(p)
}

// ownedRequest is a copy of r that lives on.
func ownedRequest(r *ws.Request) *ws.Request {
	head := appendHead(nil, r)
	c, _, err := ws.ParseRequest(head, 0)
	if err != nil {
		return r // cannot be: it was parsed before
	}
	return &c
}

func appendHead(b []byte, r *ws.Request) []byte {
	b = append(b, r.Method()...)
	b = append(b, ' ')
	b = append(b, r.Target()...)
	b = append(b, " HTTP/1.1\r\n"...)
	for name, value := range r.Each() {
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
