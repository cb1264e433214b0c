package longwire

import (
	"errors"
	"syscall"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/ws"
)

// How connections end, each with one cause.

// clientClose answers the client's close frame.
func (f *front) clientClose(i uint32, st *state, code ws.StatusCode) {
	if st.phase == phaseOpen {
		f.end(i, st, Cause{Kind: CauseClientClose, Code: code})
		reply := code
		if !reply.Sendable() {
			reply = ws.StatusNoStatus
		}
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, reply, "", [4]byte{}))
	} else if st.phase == phaseClosing {
		f.track.Answered(f.g.config.clock(), uint64(f.l.ID(i)), uint16(code))
	}
	f.leave(i, st)
	st.phase = phaseOver
	f.l.Finish(i)
}

// leave ends the session of a conn that is as good as over: others see it go now, not when its socket does.
func (f *front) leave(i uint32, st *state) {
	if f.g.endpoints[st.endpoint].protocol != protocolNone {
		f.sessions.Closed(i)
	}
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
		f.end(i, st, Cause{Kind: kind, Code: ce.Code, Detail: ce.Rule})
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, ce.Code, ce.Rule, [4]byte{}))
	}
	f.leave(i, st)
	st.phase = phaseOver
	f.l.Finish(i)
}

// closeWith starts the closing handshake.
func (f *front) closeWith(i uint32, st *state, cause Cause, reason string) {
	switch st.phase {
	case phaseRequest:
		f.end(i, st, cause)
		st.phase = phaseOver
		f.l.Finish(i)
	case phaseOpen:
		if cause.Code != 0 && !cause.Code.Sendable() {
			cause.Code = ws.StatusNormalClosure
		}
		f.end(i, st, cause)
		f.l.Commit(i, ws.AppendClose(f.l.Buffer(i), ws.Server, cause.Code, reason, [4]byte{}))
		st.phase = phaseClosing
		f.l.SetTimer(i, closingTimeout)
		if f.l.Paused(i) {
			st.flags &^= stateQueued | stateWorking
			f.unhold(i, st) // its close frame is awaited
		}
	}
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

// end notes the cause, if there is none yet.
func (f *front) end(i uint32, st *state, c Cause) {
	if st.cause != CauseUnknown {
		return
	}
	var tcp sys.TCPInfo
	known := false
	if st.flags&stateUpgraded != 0 && (f.track != nil || c.Kind == CauseHeartbeat) {
		// In good order there is nothing to ask TCP: it would cost each end a system call.
		switch c.Kind {
		case CauseHeartbeat, CauseReset, CauseKernelTimeout, CauseSlow, CauseInternal:
			tcp, known = f.l.Info(i)
		}
	}
	if known && c.Kind == CauseHeartbeat {
		c.Detail = silence(c, tcp, st.flags&statePinged != 0)
	}
	st.cause, st.code, st.detail = c.Kind, uint16(c.Code), detailIndex(c.Detail)
	if st.flags&stateUpgraded != 0 {
		f.count.ended.Add(1)
		if f.track != nil {
			f.recordEnd(i, st, c, tcp, known)
		}
	}
}

// silence is the detail of a heartbeat without an answer: whether the client's machine, or a proxy before it, still took what we
// had sent. Without a ping that says nothing.
func silence(c Cause, x sys.TCPInfo, pinged bool) string {
	switch {
	case unacknowledged(x) > 0, x.Probes > 1:
		return detailNetwork
	case pinged, c.Code == ws.StatusCode(centrifuge.DisconnectNoPong.Code):
		return detailProgram
	}
	return c.Detail
}

// unacknowledged is how many bytes were sent and never acknowledged.
func unacknowledged(x sys.TCPInfo) uint64 {
	if sent := x.BytesSent - x.BytesRetransmitted; sent > x.BytesAcked {
		return sent - x.BytesAcked
	}
	return 0
}

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
	cut := st.cause == CauseUnknown
	f.end(i, st, causeOf(e))
	if st.flags&stateUpgraded != 0 {
		f.leave(i, st) // after the end, for which the session tells of its ping
		if cut {
			f.count.cut.Add(1)
		}
		f.count.closed.Add(1)
	}
	f.count.causes[st.cause].Add(1)
	cause := Cause{Kind: st.cause, Code: ws.StatusCode(st.code), Detail: details[st.detail]}
	id := f.l.ID(i)
	if st.flags&stateWatched != 0 {
		f.g.contexts.end(id, cause)
	}
	if f.journal != nil {
		f.noteEnded(i, st, cause)
	} else {
		f.g.logClose(id, f, st, cause)
	}
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
