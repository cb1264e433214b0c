package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// crew is the clients of one loop: its handler. All of it belongs to the loop's thread.
type crew struct {
	f *Fleet
	l *loop.Loop
	k *counts

	mem      []byte // what member lies in
	member   []member
	reader   *ws.Reader // for members between messages
	partials loop.Loans[partial]
	latency  *hdrhistogram.Histogram
	seed     uint64

	want   int64 // conns to open in all
	window int64 // conns being opened at a time
	echo   Exchange
	frames []byte // the masked messages of one round of the exchange
	batch  int    // how many they are

	speaker Speaker  // nil: clients only count
	number  []uint32 // by slot: of the client, where there is a speaker
	free    []uint32 // numbers without a conn
}

// member is one simulated client. It has no pointers.
type member struct {
	sent    uint64 // ns of the loop's group when the round under way left
	partial uint32 // loan
	due     uint16 // replies of the round that are outstanding
	phase   phase
	deflate bool
}

type phase uint8

const (
	phaseConnect phase = iota
	phaseRequest
	phaseOpen
	phaseClosing
	phaseOver // counted
)

type partial struct {
	reader ws.Reader
	head   []byte
}

const memberSize = int(unsafe.Sizeof(member{}))

func newCrew(f *Fleet, l *loop.Loop) *crew {
	w := &crew{f: f, l: l, k: &f.counts[l.Index()], reader: new(ws.Reader), latency: newHistogram(), seed: rand.Uint64()}
	mem, err := l.Map(l.Slots() * memberSize)
	if err != nil {
		panic(err) // the loop's own slab of about the same size was mapped a moment ago
	}
	w.mem = mem
	w.member = unsafe.Slice((*member)(unsafe.Pointer(&mem[0])), l.Slots())
	f.crews[l.Index()] = w
	if f.config.Speak != nil {
		w.enlist()
	}
	return w
}

// Stopped implements loop.Handler.
func (w *crew) Stopped() {
	w.l.Unmap(w.mem)
	w.mem, w.member = nil, nil
}

// Lost implements loop.Handler; a fleet adopts nobody.
func (w *crew) Lost([]byte) {}

// Emptied implements loop.Handler.
func (w *crew) Emptied() { w.partials.Reset() }

// Admit implements loop.Handler; a fleet does not listen.
func (w *crew) Admit(netip.AddrPort, bool) []byte { return []byte("a fleet accepts nobody") }

// Drained implements loop.Handler.
func (w *crew) Drained(uint32) {}

// Post implements loop.Handler; nobody posts to a fleet.
func (w *crew) Post(loop.ID, uint8, []byte) {}

// launch opens conns while window, quota and rate allow.
func (w *crew) launch() {
	for w.k.pending.Load() < w.window && w.k.dialled.Load() < w.want {
		if w.speaker != nil && len(w.free) == 0 {
			return // a conn that is over lingers with its client's number; the next tick tries again
		}
		ticket := w.f.dials.Add(1) - 1
		if w.f.config.Rate > 0 && ticket >= w.f.tokens.Load() {
			w.f.dials.Add(-1)
			return
		}
		w.k.dialled.Add(1)
		i, err := w.l.Dial(w.f.source(ticket), w.f.config.Target)
		if errors.Is(err, loop.ErrFull) {
			w.k.dialled.Add(-1) // churned conns still close: the next tick tries again
			w.f.dials.Add(-1)
			return
		}
		if err != nil {
			w.k.note(&w.k.failed, errorReason(err))
			return // more of the same would follow; the next tick tries again
		}
		w.k.pending.Add(1)
		w.member[i] = member{phase: phaseConnect}
		if w.speaker != nil {
			n := len(w.free) - 1
			w.number[i], w.free = w.free[n], w.free[:n]
		}
		w.l.SetTimer(i, w.f.config.Timeout)
	}
}

// source is the local address of the conn with that ticket.
func (f *Fleet) source(ticket int64) netip.AddrPort {
	turn := int(ticket) / f.config.PerSource
	if n := len(f.config.Sources); n > 0 {
		return netip.AddrPortFrom(f.config.Sources[turn%n], 0)
	}
	if t := f.config.Target.Addr(); !t.Is4() || !t.IsLoopback() {
		return netip.AddrPort{}
	}
	// 127.1.0.1 and on, 250 addresses in each of 250 groups: clear of what people use themselves.
	turn %= 250 * 250
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(turn / 250), byte(turn%250 + 1)}), 0)
}

// key is the nonce of conn i's handshake, derived so that nobody has to keep it.
func (w *crew) key(i uint32) (key [16]byte) {
	x := w.seed ^ uint64(w.l.ID(i))
	for k := range key {
		x = x*6364136223846793005 + 1442695040888963407
		key[k] = byte(x >> 56)
	}
	return key
}

// Opened implements loop.Handler.
func (w *crew) Opened(i uint32, _ loop.Opening) {
	w.member[i].phase = phaseRequest
	w.l.Commit(i, ws.AppendRequest(w.l.Buffer(i), &w.f.config.Dial, w.key(i)))
}

// Data implements loop.Handler.
func (w *crew) Data(i uint32, b []byte) {
	m := &w.member[i]
	w.k.bytesIn.Add(int64(len(b)))
	switch m.phase {
	case phaseRequest:
		w.response(i, m, b)
	case phaseOpen, phaseClosing:
		w.read(i, m, b)
	}
}

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
	m.phase, m.deflate = phaseOpen, h.Deflate.On
	w.l.ClearTimer(i)
	w.k.pending.Add(-1)
	w.k.opened.Add(1)
	w.k.open.Add(1)
	if w.speaker != nil {
		w.speaker.Opened(w.client(i))
	}
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
		r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: w.f.config.MaxMessage, Deflate: m.deflate})
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
			w.k.pings.Add(1)
			w.l.Commit(i, ws.AppendFrame(w.l.Buffer(i), ws.Client, ws.OpPong, ev.Payload, w.mask()))
		case ws.OpClose:
			if m.phase == phaseOpen {
				w.lose(m, fmt.Sprintf("close_%d", ev.Code))
				w.l.Commit(i, ws.AppendClose(w.l.Buffer(i), ws.Client, ev.Code, "", w.mask()))
			} else {
				w.k.open.Add(-1)
				w.k.closed.Add(1)
				m.phase = phaseOver
			}
			// The server closes the stream first (RFC 6455 section 7.1.1), so that TIME_WAIT is its.
			w.l.SetTimer(i, 2*time.Second)
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

// exchange starts rounds on the first n conns that are open.
func (w *crew) exchange(x Exchange, n int) {
	if x.InFlight < 1 || x.Size < 0 {
		return
	}
	w.echo, w.batch = x, x.InFlight
	op := ws.OpText
	if x.Binary {
		op = ws.OpBinary
	}
	payload := make([]byte, x.Size)
	for i := range payload {
		payload[i] = 'a' + byte(i%26)
	}
	w.frames = w.frames[:0]
	for range x.InFlight {
		w.frames = ws.AppendFrame(w.frames, ws.Client, op, payload, w.mask())
	}
	w.l.Each(func(i uint32) {
		if m := &w.member[i]; n > 0 && m.phase == phaseOpen && m.due == 0 {
			n--
			w.round(i, m)
		}
	})
}

// round sends one round of the exchange.
func (w *crew) round(i uint32, m *member) {
	m.due = uint16(w.echo.InFlight)
	m.sent = uint64(w.l.Clock())
	w.k.sent.Add(int64(w.echo.InFlight))
	w.l.Write(i, w.frames)
}

// replied is called when all replies of a round are there.
func (w *crew) replied(i uint32, m *member) {
	us := (uint64(w.l.Clock()) - m.sent) / uint64(time.Microsecond)
	_ = w.latency.RecordValues(int64(max(1, us)), int64(w.batch))
	if w.echo.InFlight > 0 && m.phase == phaseOpen {
		w.round(i, m)
	}
}

// close starts the closing handshake of an open conn.
func (w *crew) close(i uint32, m *member) {
	m.phase = phaseClosing
	w.l.Commit(i, ws.AppendClose(w.l.Buffer(i), ws.Client, ws.StatusNormalClosure, "", w.mask()))
	w.l.SetTimer(i, 10*time.Second)
}

// closeAll has each conn closed in the time to come, by its timer.
func (w *crew) closeAll(over time.Duration) {
	w.want = 0
	n, live := uint32(0), uint32(max(1, w.l.Live()))
	ticks := uint32(over / loop.Tick)
	w.l.Each(func(i uint32) {
		m := &w.member[i]
		switch {
		case m.phase == phaseConnect || m.phase == phaseRequest:
			w.l.Drop(i)
		case m.phase == phaseOpen && ticks == 0:
			w.close(i, m)
		case m.phase == phaseOpen:
			w.l.SetTimerTick(i, w.l.Tick()+1+uint32(uint64(ticks)*uint64(n)/uint64(live)))
			n++
		}
	})
}

// Timer implements loop.Handler.
func (w *crew) Timer(i uint32) {
	switch m := &w.member[i]; m.phase {
	case phaseConnect:
		w.fail(i, m, "connect_timeout")
	case phaseRequest:
		w.fail(i, m, "handshake_timeout")
	case phaseOpen:
		w.close(i, m) // its turn in closeAll
	case phaseClosing:
		w.lose(m, "close_timeout")
		w.l.Abort(i)
	case phaseOver:
		w.l.Drop(i)
	}
}

// fail counts a conn that never stood and ends it.
func (w *crew) fail(i uint32, m *member, why string) {
	m.phase = phaseOver
	w.k.pending.Add(-1)
	w.k.note(&w.k.failed, why)
	w.l.Abort(i)
	w.launch()
}

// lose counts a conn that stood and ended against our will.
func (w *crew) lose(m *member, why string) {
	m.phase = phaseOver
	w.k.open.Add(-1)
	w.k.note(&w.k.lost, why)
}

// Closed implements loop.Handler.
func (w *crew) Closed(i uint32, e loop.End) {
	m := &w.member[i]
	if m.partial != 0 {
		p := w.partials.Return(m.partial)
		p.reader.Release()
		w.partials.Keep(p)
	}
	was := m.phase
	if w.speaker != nil {
		w.speaker.Gone(int(w.number[i]))
		w.free = append(w.free, w.number[i])
	}
	*m = member{phase: phaseOver}
	switch was {
	case phaseConnect, phaseRequest:
		w.k.pending.Add(-1)
		if e.Kind == loop.EndEOF || e.Kind == loop.EndError {
			w.k.note(&w.k.failed, reason(e))
		}
	case phaseOpen:
		if e.Kind != loop.EndStopped {
			w.k.note(&w.k.lost, reason(e))
		}
		w.k.open.Add(-1)
	case phaseClosing:
		w.k.open.Add(-1)
		if e.Kind == loop.EndEOF || e.Kind == loop.EndStopped {
			w.k.closed.Add(1)
		} else {
			w.k.note(&w.k.lost, "closing_"+reason(e))
		}
	}
	w.launch()
}
