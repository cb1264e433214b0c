package fleet

import (
	"errors"
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
	answer   answer     // for members between responses
	partials loop.Loans[partial]
	latency  *hdrhistogram.Histogram
	seed     uint64

	want   int64         // conns to open in all
	window int64         // conns being opened at a time
	aim    int64         // conns that are to stand, as Aim said; -1: it did not
	again  time.Duration // with Refill: no attempt before, after one failed

	closing int64           // conns that are counted as open, and are in phaseClosing
	paid    []time.Duration // by slot, with a ReadRate: until when the conn has had what it may read

	connects, tcps *hdrhistogram.Histogram // nil until there is one
	echo           Exchange
	frames         []byte // the masked messages of one round of the exchange
	batch          int    // how many they are

	speaker Speaker  // nil: clients only count
	first   int      // number of the loop's first client
	number  []uint32 // by slot: of the client, where there is a speaker
	slot    []uint32 // by number - first: of its conn; none
	free    []uint32 // numbers without a conn
}

// member is one simulated client. It has no pointers.
type member struct {
	sent    uint64 // ns of the loop's group: when it was dialled; when it stands, since when, or when the round under way left
	partial uint32 // loan
	due     uint16 // replies of the round that are outstanding
	phase   phase
	flags   uint8
}

const (
	flagDeflate = 1 << iota
	flagMute    // it answers nothing any more
	flagTurn    // its timer is its turn to close
	flagHeard   // something came since it stands
)

type phase uint8

const (
	phaseConnect phase = iota
	phaseRequest
	phaseOpen
	phaseClosing
	phaseOver // counted
)

// partial is what a conn needs that is in the middle of something.
type partial struct {
	reader ws.Reader
	head   []byte
	answer answer
}

const memberSize = int(unsafe.Sizeof(member{}))

func newCrew(f *Fleet, l *loop.Loop) *crew {
	w := &crew{f: f, l: l, k: &f.counts[l.Index()], reader: new(ws.Reader), latency: newHistogram(), seed: rand.Uint64(), aim: -1}
	mem, err := l.Map(l.Slots() * memberSize)
	if err != nil {
		panic(err) // the loop's own slab of about the same size was mapped a moment ago
	}
	w.mem = mem
	w.member = unsafe.Slice((*member)(unsafe.Pointer(&mem[0])), l.Slots())
	f.crews[l.Index()] = w
	if f.config.ReadRate > 0 {
		w.paid = make([]time.Duration, l.Slots())
	}
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
	defer func() { w.k.missing.Store(w.want - w.k.dialled.Load()) }()
	for w.k.pending.Load() < w.window && w.k.dialled.Load() < w.want {
		if w.speaker != nil && len(w.free) == 0 {
			return // a conn that is over lingers with its client's number; the next tick tries again
		}
		ticket := w.f.dials.Add(1) - 1
		if w.f.config.Rate > 0 && ticket >= w.f.tokens.Load() {
			w.f.dials.Add(-1)
			return
		}
		if _, err := w.dial(ticket); err != nil {
			return // more of the same would follow, or churned conns still close; the next tick tries again
		}
	}
}

// dial opens one conn and counts it.
func (w *crew) dial(ticket int64) (i uint32, err error) {
	begin := w.l.Clock()
	i, err = w.l.Dial(w.f.source(ticket), w.f.config.Target)
	if errors.Is(err, loop.ErrFull) || errors.Is(err, loop.ErrStopped) {
		w.f.dials.Add(-1)
		return i, err
	}
	w.k.dialled.Add(1)
	if err != nil {
		w.failed(errorReason(err))
		return i, err
	}
	w.k.pending.Add(1)
	w.member[i] = member{phase: phaseConnect, sent: uint64(begin)}
	if w.speaker != nil {
		n := len(w.free) - 1
		w.number[i], w.free = w.free[n], w.free[:n]
		w.slot[int(w.number[i])-w.first] = i
	}
	limit := w.f.config.Timeout
	if w.f.config.TLS != nil {
		limit += 2 * loop.Tick // the dialler has the same limit, and knows where it was reached
	}
	w.l.SetTimer(i, limit)
	return i, nil
}

// tend opens and closes conns towards the level that is aimed at.
func (w *crew) tend(aim, window int64) {
	was := max(0, w.aim)
	w.aim, w.window = aim, window
	if w.f.config.OnDemand {
		if l, ok := w.speaker.(Leveller); ok && was != aim {
			l.Level(int(aim))
		}
		return
	}
	dialled, short := w.k.dialled.Load(), aim-w.alive()
	switch {
	case short <= 0:
		w.want = dialled
		w.shrink(-short)
	case w.f.config.Refill && w.l.Now() >= w.again:
		w.want = dialled + short
	case w.f.config.Refill:
		w.want = min(w.want, dialled+short)
	case aim >= was:
		w.want = max(w.want, dialled) + aim - was
	default:
		w.want = max(w.want-(was-aim), dialled) // those that were not dialled yet
	}
	w.launch()
}

// alive is how many conns stand, or are to, and are not on their way out.
func (w *crew) alive() int64 { return w.k.open.Load() + w.k.pending.Load() - w.closing }

// shrink ends n conns in good order, those first that do not stand yet.
func (w *crew) shrink(n int64) {
	if n == 0 {
		return
	}
	w.l.Each(func(i uint32) {
		if m := &w.member[i]; n > 0 && (m.phase == phaseConnect || m.phase == phaseRequest) {
			w.l.Drop(i)
			n--
		}
	})
	w.l.Each(func(i uint32) {
		if m := &w.member[i]; n > 0 && m.phase == phaseOpen {
			w.close(i, m)
			n--
		}
	})
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

// Opened implements loop.Handler.
func (w *crew) Opened(i uint32, _ loop.Opening) {
	m := &w.member[i]
	record(&w.tcps, w.l.Clock()-time.Duration(m.sent))
	if w.f.config.HTTP {
		w.stands(i, m)
		return
	}
	m.phase = phaseRequest
	w.l.Commit(i, ws.AppendRequest(w.l.Buffer(i), &w.f.config.Dial, w.key(i)))
}

// stands counts a conn that is ready for use.
func (w *crew) stands(i uint32, m *member) {
	now := w.l.Clock()
	record(&w.connects, now-time.Duration(m.sent))
	m.phase, m.sent = phaseOpen, uint64(now)
	if w.paid != nil {
		w.paid[i] = 0
	}
	w.l.ClearTimer(i)
	w.k.pending.Add(-1)
	w.k.opened.Add(1)
	w.k.open.Add(1)
	if w.f.config.ReadRate < 0 {
		w.l.Pause(i)
	}
	if w.speaker != nil {
		w.speaker.Opened(w.client(i))
	}
}

// Data implements loop.Handler.
func (w *crew) Data(i uint32, b []byte) {
	m := &w.member[i]
	w.k.bytesIn.Add(int64(len(b)))
	switch {
	case m.phase == phaseRequest:
		w.response(i, m, b)
	case m.phase != phaseOpen && m.phase != phaseClosing:
	case w.f.config.HTTP:
		m.flags |= flagHeard
		w.answers(i, m, b)
	default:
		w.read(i, m, b)
	}
	if rate := w.f.config.ReadRate; rate > 0 && m.phase == phaseOpen && m.flags&flagTurn == 0 {
		// Timers have a tick, and come up to two after a conn might have read on: it makes up for that.
		now := w.l.Clock()
		w.paid[i] = max(w.paid[i], now-2*loop.Tick) + time.Duration(float64(len(b))/float64(rate)*float64(time.Second))
		if d := w.paid[i] - now; d > 0 {
			w.l.Pause(i)
			w.l.SetTimer(i, d)
		}
	}
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

// halt has no further conn opened; pending has those given up that do not stand yet.
func (w *crew) halt(pending bool) {
	w.want, w.aim = w.k.dialled.Load(), -1
	w.k.missing.Store(0)
	if !pending {
		return
	}
	w.l.Each(func(i uint32) {
		if m := &w.member[i]; m.phase == phaseConnect || m.phase == phaseRequest {
			w.l.Drop(i)
		}
	})
}

// closeAll has each conn closed in the time to come, by its timer.
func (w *crew) closeAll(over time.Duration) {
	w.want, w.aim = 0, -1
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
			m.flags |= flagTurn
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
		why := "handshake_timeout"
		if m.partial != 0 {
			why = halfResponse
		}
		w.fail(i, m, why)
	case phaseOpen:
		if m.flags&flagTurn != 0 {
			w.close(i, m)
		} else {
			w.l.Resume(i) // it reads slowly
		}
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
	w.failed(why)
	w.l.Abort(i)
	w.launch()
}

// failed counts an attempt.
func (w *crew) failed(why string) {
	w.k.note(&w.k.failed, why)
	w.again = w.l.Now() + loop.Tick
}

// lose counts a conn that stood and ended against our will.
func (w *crew) lose(m *member, why string) {
	if m.phase == phaseClosing {
		w.closing--
	}
	m.phase = phaseOver
	w.k.open.Add(-1)
	w.lost(m.sent, why)
}

// lost counts a conn that stood since then. One that did not stand for long is not to be followed by another at once.
func (w *crew) lost(since uint64, why string) {
	w.k.note(&w.k.lost, why)
	if now := w.l.Now(); now-time.Duration(since) < loop.Tick {
		w.again = now + loop.Tick
	}
}

// Closed implements loop.Handler.
func (w *crew) Closed(i uint32, e loop.End) {
	m := &w.member[i]
	was, idle, heard, since := m.phase, m.partial == 0, m.flags&flagHeard != 0, m.sent
	why := reason(e)
	if was == phaseRequest && !idle {
		why = halfResponse
	}
	if !idle {
		p := w.partials.Return(m.partial)
		p.reader.Release()
		if m.partial = 0; p.answer.in == inRest && was == phaseOpen && e.Kind == loop.EndEOF {
			idle = true // the end of the conn is that of the response
			w.k.received.Add(1)
			m.phase = phaseClosing
			w.speaker.(Answerer).Answered(w.client(i), p.answer.status)
		}
		p.answer.reset()
		w.partials.Keep(p)
	}
	if w.speaker != nil {
		n := w.number[i]
		w.slot[int(n)-w.first] = none
		w.free = append(w.free, n)
		*m = member{phase: phaseOver}
		w.speaker.Gone(int(n))
	}
	*m = member{phase: phaseOver}
	switch was {
	case phaseConnect, phaseRequest:
		w.k.pending.Add(-1)
		if e.Kind == loop.EndEOF || e.Kind == loop.EndError {
			w.failed(why)
		} else {
			w.k.closed.Add(1) // we gave it up
		}
	case phaseOpen:
		switch {
		case w.f.config.HTTP && e.Kind == loop.EndEOF && idle:
			w.k.closed.Add(1) // as servers do with conns that have served a while
		case e.Kind == loop.EndStopped:
			w.k.closed.Add(1)
		default:
			w.lost(since, reason(e))
		}
		if w.f.config.HTTP && !heard {
			w.again = w.l.Now() + loop.Tick // a server that takes conns and serves none is not to be hammered
		}
		w.k.open.Add(-1)
	case phaseClosing:
		w.closing--
		w.k.open.Add(-1)
		if e.Kind == loop.EndEOF || e.Kind == loop.EndStopped || w.f.config.HTTP {
			w.k.closed.Add(1)
		} else {
			w.k.note(&w.k.lost, "closing_"+reason(e))
		}
	}
	if w.f.config.Refill && w.aim >= 0 && (was == phaseOpen || was == phaseClosing || was == phaseOver) && w.l.Now() >= w.again {
		// At once, as whoever needs a conn does; after a failure the next tick tries again.
		w.want = w.k.dialled.Load() + max(0, w.aim-w.alive())
	}
	w.launch()
}
