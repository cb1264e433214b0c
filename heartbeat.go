package longwire

import (
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/ws"
)

// What a connection's timer is for.

// arm sets the timer of an open connection to what its heartbeat wants next, or to its turn to go if that is sooner.
func (f *front) arm(i uint32, st *state) {
	tick, ok := f.nextBeat(i, st)
	sooner := func(t uint32) {
		if !ok || int32(t-tick) < 0 {
			tick, ok = t, true
		}
	}
	if st.flags&stateDrain != 0 {
		sooner(f.turn(st))
	}
	if f.g.endpoints[st.endpoint].protocol != protocolNone {
		if left, waits := f.sessions.Turn(i); waits {
			sooner(f.l.Tick() + ticks(max(loop.Tick, left)))
		}
	}
	if ok {
		f.l.SetTimerTick(i, tick)
	} else {
		f.l.ClearTimer(i)
	}
}

// nextBeat is when the heartbeat has something to do.
func (f *front) nextBeat(i uint32, st *state) (tick uint32, ok bool) {
	h := f.g.endpoints[st.endpoint].Heartbeat
	switch {
	case h.Ping > 0 && st.flags&statePinged == 0:
		return st.heard + f.pingAfter(i, h), true
	case h.Ping > 0 && h.Timeout > 0:
		return min(f.l.Tick()+ticks(h.Ping), st.heard+ticks(h.Timeout)), true
	case h.Ping > 0:
		return f.l.Tick() + ticks(h.Ping), true
	case h.Timeout > 0:
		return st.heard + ticks(h.Timeout), true
	}
	return 0, false
}

// pingAfter is after how many ticks of silence conn i is pinged: earlier than h says by up to a 25th, by the slot, so that what
// came at once drifts apart.
func (f *front) pingAfter(i uint32, h Heartbeat) uint32 {
	early := uint64(h.Ping/loop.Tick) / pingSpread * uint64(i*2654435769>>8&0xffff) >> 16
	return uint32(h.Ping/loop.Tick) - uint32(early)
}

// turn is when a connection goes in the drain.
func (f *front) turn(st *state) uint32 {
	return f.drain.start + uint32(uint64(f.drain.over)*uint64(st.code)>>16)
}

// takeTurn gives conn i its turn in the drain, and sets its timer for that. What it is owed until then, as pings, it gets.
func (f *front) takeTurn(i uint32, share uint16) {
	st := &f.conn[i]
	st.flags |= stateDrain
	st.code = share
	switch {
	case st.phase == phaseRequest, f.g.endpoints[st.endpoint].protocol == protocolCentrifuge && !f.sessions.Arm(i):
		f.l.SetTimerTick(i, f.turn(st))
	case f.g.endpoints[st.endpoint].protocol != protocolCentrifuge:
		f.arm(i, st)
	}
}

// goAway closes a connection whose turn in the drain has come.
func (f *front) goAway(i uint32, st *state) {
	over := time.Duration(f.drain.over) * loop.Tick
	if f.g.endpoints[st.endpoint].protocol == protocolCentrifuge {
		f.sessions.Shutdown(i, over)
		return
	}
	f.closeWith(i, st, Cause{Kind: CauseDrain, Code: ws.StatusGoingAway}, session.Advise("the server is going away", session.Jitter(over)))
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
		f.end(i, st, Cause{Kind: CauseHandshakeTimeout})
		f.l.Commit(i, append(f.l.Buffer(i), f.g.late...))
		st.phase = phaseOver
		f.l.Finish(i)
		return
	case st.phase == phaseClosing:
		st.phase = phaseOver // the client's close frame does not come
		f.l.Finish(i)
		return
	case st.flags&stateDrain != 0 && int32(now-f.turn(st)) >= 0:
		f.goAway(i, st)
		return
	}
	if f.g.endpoints[st.endpoint].protocol != protocolNone {
		handled := f.sessions.Timer(i)
		f.publish()
		if handled || st.phase != phaseOpen {
			return
		}
	}
	f.beat(i, st, now)
}

// beat is an open connection's timer: it pings the silent, and closes those that were pinged and stay silent.
func (f *front) beat(i uint32, st *state, now uint32) {
	h := f.g.endpoints[st.endpoint].Heartbeat
	if st.flags&stateWorking != 0 {
		st.heard = now // we do not listen; TCP_USER_TIMEOUT still watches
		st.flags &^= statePonged
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
	case due && st.flags&stateQueued != 0 && f.reads(i, st):
		st.heard = now
		st.flags &^= statePinged | statePonged
	case due && st.flags&stateQueued != 0:
		f.end(i, st, Cause{Kind: CauseSlow, Detail: detailReplies})
		st.phase = phaseOver
		f.l.Abort(i)
		return
	case due:
		f.end(i, st, Cause{Kind: CauseHeartbeat, Code: ws.StatusPolicyViolation})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ws.StatusPolicyViolation, "heartbeat timeout", [4]byte{}))
		st.phase = phaseOver
		f.l.Finish(i)
		return
	case h.Ping > 0 && st.flags&statePinged == 0 && now-st.heard+ticks(h.Ping)/pingSpread+1 >= ticks(h.Ping):
		st.flags |= statePinged
		// However late this ping is, the client has its time to answer it.
		if p := ticks(h.Ping); now-st.heard > p {
			st.heard = now - p
			st.flags &^= statePonged
		}
		f.reads(i, st)
		if f.l.Queued(i) == 0 { // else a ping waits behind data that is not acknowledged either
			f.l.Commit(i, append(f.l.Buffer(i), pingFrame[:]...))
			f.count.pings.Add(1)
		}
	}
	f.arm(i, st)
}

// reads reports whether conn i has taken some of what waits for it, however slowly, since it was asked last.
func (f *front) reads(i uint32, st *state) bool {
	before := st.waits
	st.waits = uint16(min(f.l.Queued(i)>>12, 1<<16-2)) + 1
	return before == 0 || st.waits < before
}

var pingFrame = [2]byte{0x80 | byte(ws.OpPing), 0}
