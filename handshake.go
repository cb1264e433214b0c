package longwire

import (
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// From the bytes of a request to an open connection, a refusal, or net/http.

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
	f.journalRequest(i, req)
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
	f.recordOpen(i, st, e, req)
	f.noteUpgrade(i, st)
	f.tagConn(i)
	if ep.protocol == protocolCentrifuge {
		f.openSession(i, h, req)
	}
	if f.g.admission.draining.Load() {
		// It came from net/http after the turns were given out.
		st.flags |= stateDrain
		f.l.SetTimer(i, loop.Tick)
	} else if ep.protocol != protocolCentrifuge {
		f.arm(i, st)
	}
	if ep.protocol == protocolPlain && len(req.Query()) > 0 {
		f.openPlain(i, st, req)
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

// refuse answers a request with r and ends the connection.
func (f *front) refuse(i uint32, st *state, kind refusalKind, r *ws.Refusal) {
	f.count.refused[kind].Add(1)
	f.end(i, st, Cause{Kind: CauseRefused, Detail: kind.String()})
	f.l.Commit(i, ws.AppendRefusal(f.l.Buffer(i), r))
	f.uncount(st)
	st.phase = phaseOver
	f.l.Finish(i)
}

// refuseOverLimit answers a connection that Admit was against, or would be by now.
func (f *front) refuseOverLimit(i uint32, st *state) {
	f.count.refused[st.verdict].Add(1)
	f.end(i, st, Cause{Kind: CauseRefused, Detail: st.verdict.String()})
	f.l.Commit(i, append(f.l.Buffer(i), f.g.refusal(st.verdict)...))
	st.phase = phaseOver
	f.l.Finish(i)
}

// pass moves a plain HTTP request to net/http.
func (f *front) pass(i uint32, st *state, head []byte) {
	if err := f.l.PassTo(i, f.g.loops.Outlet(), head); err != nil {
		f.refuse(i, st, refusedPlain, &ws.Refusal{Status: 503, Reason: "too many plain HTTP requests", RetryAfter: f.g.retryAfter()})
		return
	}
	f.count.passed.Add(1)
	st.phase = phaseOver
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
