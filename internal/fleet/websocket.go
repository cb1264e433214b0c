package fleet

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/longwire/longwire/ws"
)

// The client's side of RFC 6455 for the conns of a crew.

// key is the nonce of conn i's handshake, derived so that nobody has to keep it.
func (w *crew) key(i uint32) (key [16]byte) {
	x := w.seed ^ uint64(w.l.ID(i))
	for k := range key {
		x = x*6364136223846793005 + 1442695040888963407
		key[k] = byte(x >> 56)
	}
	return key
}

// halfResponse is why a conn failed whose server began to answer the handshake, and said no more or closed.
const halfResponse = "half_response"

// response takes bytes of the handshake's response.
func (w *crew) response(i uint32, m *member, b []byte) {
	head := b
	if m.partial != 0 {
		p := w.partials.At(m.partial)
		p.head = append(p.head, b...)
		head = p.head
	}
	resp, n, err := ws.ParseResponse(head, 0)
	if err != nil {
		w.fail(i, m, "bad_response")
		return
	}
	if n == 0 {
		if m.partial == 0 {
			p := w.partials.Spare()
			p.head = append(p.head[:0], b...)
			m.partial = w.partials.Lend(p)
		}
		return
	}
	h, err := w.f.config.Dial.Check(&resp, w.key(i))
	if err != nil {
		if s := resp.Status(); s != 101 {
			w.fail(i, m, fmt.Sprintf("http_%d", s))
		} else {
			w.fail(i, m, "bad_handshake")
		}
		return
	}
	if h.Deflate.On {
		m.flags |= flagDeflate
	}
	w.stands(i, m)
	rest := head[n:]
	var held *partial
	if m.partial != 0 {
		held = w.partials.Return(m.partial)
		m.partial = 0
	}
	if len(rest) > 0 {
		w.read(i, m, rest)
	}
	if held != nil {
		w.partials.Keep(held)
	}
	if w.f.config.Churn > 0 && m.phase == phaseOpen {
		w.close(i, m)
	}
	w.launch()
}

// read takes bytes behind the handshake.
func (w *crew) read(i uint32, m *member, b []byte) {
	r := w.reader
	if m.partial != 0 {
		r = &w.partials.At(m.partial).reader
	} else {
		r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: w.f.config.MaxMessage, Deflate: m.flags&flagDeflate != 0})
	}
	for len(b) > 0 && m.phase != phaseOver {
		ev, n, err := r.Next(b)
		b = b[n:]
		if err != nil {
			w.lose(m, "protocol_error")
			w.l.Abort(i)
			break
		}
		switch ev.Op {
		case ws.OpText, ws.OpBinary:
			w.k.received.Add(1)
			if w.speaker != nil {
				w.speaker.Heard(w.client(i), ev.Op, ev.Payload)
			}
			if m.due > 0 {
				if m.due--; m.due == 0 {
					w.replied(i, m)
				}
			}
		case ws.OpPing:
			if w.k.pings.Add(1); m.flags&flagMute != 0 {
				continue
			}
			w.l.Commit(i, ws.AppendFrame(w.l.Buffer(i), ws.Client, ws.OpPong, ev.Payload, w.mask()))
		case ws.OpClose:
			if m.flags&flagMute != 0 {
				w.lose(m, fmt.Sprintf("close_%d", ev.Code))
				w.l.Abort(i)
				continue
			}
			if m.phase == phaseOpen {
				w.lose(m, fmt.Sprintf("close_%d", ev.Code))
				w.l.Commit(i, ws.AppendClose(w.l.Buffer(i), ws.Client, ev.Code, "", w.mask()))
			} else {
				w.closing--
				w.k.open.Add(-1)
				w.k.closed.Add(1)
				m.phase = phaseOver
			}
			// The server closes the stream first (RFC 6455 section 7.1.1), so that TIME_WAIT is its. One that does not must
			// not keep the client's place for long.
			w.l.SetTimer(i, 500*time.Millisecond)
		}
	}
	switch {
	case r.Idle() || m.phase == phaseOver:
		if m.partial != 0 {
			p := w.partials.Return(m.partial)
			m.partial = 0
			p.reader.Release()
			w.partials.Keep(p)
		} else {
			r.Release()
		}
	case m.partial == 0:
		p := w.partials.Spare()
		*w.reader, p.reader = p.reader, *w.reader
		m.partial = w.partials.Lend(p)
	}
}

func (w *crew) mask() (key [4]byte) {
	v := rand.Uint32()
	return [4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
}

// close ends an open conn in good order: with the closing handshake, where there is one.
func (w *crew) close(i uint32, m *member) {
	m.phase = phaseClosing
	m.flags &^= flagMute
	w.closing++
	w.l.Resume(i) // it hears the answer, slow or not
	if w.f.config.HTTP {
		w.l.Drop(i)
		return
	}
	w.l.Commit(i, ws.AppendClose(w.l.Buffer(i), ws.Client, ws.StatusNormalClosure, "", w.mask()))
	w.l.SetTimer(i, 10*time.Second)
}
