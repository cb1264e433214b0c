package longwire

import (
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// What a connection's timer is for.

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
		st.phase = phaseOver
		f.l.Finish(i)
		return
	case st.phase == phaseClosing:
		st.phase = phaseOver // the client's close frame does not come
		f.l.Finish(i)
		return
	case st.flags&stateDrain != 0 && f.g.endpoints[st.endpoint].protocol == protocolCentrifuge:
		f.sessions.Shutdown(i)
		return
	case st.flags&stateDrain != 0:
		f.closeWith(i, st, Cause{Kind: CauseDrain, Code: ws.StatusGoingAway}, "the server is going away")
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
		st.flags &^= statePinged
	case due && st.flags&stateQueued != 0:
		f.end(st, Cause{Kind: CauseSlow, Detail: detailReplies})
		st.phase = phaseOver
		f.l.Abort(i)
		return
	case due:
		f.end(st, Cause{Kind: CauseHeartbeat, Code: ws.StatusPolicyViolation})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ws.StatusPolicyViolation, "heartbeat timeout", [4]byte{}))
		st.phase = phaseOver
		f.l.Finish(i)
		return
	case h.Ping > 0 && st.flags&statePinged == 0 && now-st.heard+ticks(h.Ping)/pingSpread+1 >= ticks(h.Ping):
		st.flags |= statePinged
		// However late this ping is, the client has its time to answer it.
		if p := ticks(h.Ping); now-st.heard > p {
			st.heard = now - p
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
