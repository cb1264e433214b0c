package longwire

import (
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/ws"
)

// Messages: in from the bytes, out from callbacks and other threads.

// frames takes bytes behind the handshake.
func (f *front) frames(i uint32, st *state, b []byte) {
	ep := &f.g.endpoints[st.endpoint]
	r := f.reader
	if st.partial != 0 {
		r = &f.partials.At(st.partial).reader
	} else {
		r.Reset(ws.ReaderConfig{MaxMessage: int64(ep.MaxMessage), Deflate: st.window != 0})
	}
	var held []byte
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
			st.flags |= statePonged
		case ws.OpClose:
			f.clientClose(i, st, ev.Code)
		}
		if st.phase == phaseOver {
			break
		}
		if st.flags&(stateQueued|stateWorking) != 0 && len(b) > 0 {
			held = b // a few bytes can ask for any amount of answers, and the last ones still wait
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
	case held != nil:
		if r.Idle() {
			r.Release()
		}
		if st.partial == 0 {
			p := f.attach(st)
			*f.reader, p.reader = p.reader, *f.reader
		}
		p := f.partials.At(st.partial)
		p.held = append(p.held[:0], held...)
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
	switch ep.protocol {
	case protocolPlain:
		if ev.Op != ws.OpText {
			f.closeWith(i, st, Cause{Kind: CauseProtocol, Code: ws.StatusUnsupportedData}, "the plain protocol is text")
			return
		}
		f.sessions.PlainMessage(i, ev.Payload)
		return
	case protocolCentrifuge:
		f.sessions.Message(i, ev.Payload)
		return
	}
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
		st.flags &^= statePonged
		f.unhold(i, st)
	}
}

// unhold takes what was held back of a connection that was paused, and reads from it again if that does not pause
// it once more.
func (f *front) unhold(i uint32, st *state) {
	if st.phase == phaseOver {
		return
	}
	if st.partial != 0 {
		if p := f.partials.At(st.partial); len(p.held) > 0 {
			b := p.held
			p.held = b[:0]
			f.frames(i, st, b)
			if st.phase == phaseOver || st.flags&(stateQueued|stateWorking) != 0 {
				return
			}
		}
	}
	f.l.Resume(i)
}

// send appends a message to what leaves for conn i, as a reply to its own: a full queue pauses its reading.
func (f *front) send(i uint32, op ws.Opcode, payload []byte) {
	st := &f.conn[i]
	if st.phase != phaseOpen {
		return
	}
	f.append(i, st, op, payload)
	f.hold(i, st)
}

// hold pauses a connection whose replies fill the write queue.
func (f *front) hold(i uint32, st *state) {
	limit := f.g.endpoints[st.endpoint].WriteQueue
	if st.flags&stateQueued != 0 || f.l.Queued(i) <= limit {
		return
	}
	// Not all that is queued was refused by the socket; Drained tells only of what was.
	if f.l.Flush(i); f.l.Queued(i) > limit {
		f.recordSlow(i, st, f.l.Queued(i))
		st.flags |= stateQueued
		st.waits = 0
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
	f.hold(i, st)
}

// Drained implements loop.Handler.
func (f *front) Drained(i uint32) {
	if f.sessions != nil && f.g.endpoints[f.conn[i].endpoint].protocol != protocolNone {
		f.sessions.Drained(i)
		if _, ok := f.l.Find(f.l.ID(i)); !ok {
			return
		}
	}
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
		f.sent++
		f.l.Send(i, m.frame(st.window))
	}
}

// takes reports whether conn i may have a message from elsewhere. It is a slow consumer, and over, if the last
// ones still wait.
func (f *front) takes(i uint32, st *state) bool {
	if st.phase != phaseOpen {
		return false
	}
	queued := f.l.Queued(i)
	if queued == 0 {
		return true
	}
	limit := f.g.endpoints[st.endpoint].WriteQueue
	if queued < limit/2 || queued < limit && st.flags&stateSlow != 0 {
		return true
	}
	f.l.Flush(i)
	if _, ok := f.l.Find(f.l.ID(i)); !ok {
		return false
	}
	if queued = f.l.Queued(i); queued >= limit/2 {
		f.recordSlow(i, st, queued)
	}
	if queued < limit {
		return true
	}
	if f.g.endpoints[st.endpoint].protocol == protocolCentrifuge {
		// Its client comes back and recovers; it is told so behind what waits, for which it has two seconds.
		slow := centrifuge.DisconnectSlow
		f.end(i, st, Cause{Kind: CauseSlow, Code: ws.StatusCode(slow.Code), Detail: detailQueue})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ws.StatusCode(slow.Code), slow.Reason, [4]byte{}))
		st.phase = phaseOver
		f.l.Finish(i)
		return false
	}
	f.end(i, st, Cause{Kind: CauseSlow, Detail: detailQueue})
	st.phase = phaseOver
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
