package loop

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Special poller keys: their Slot lies above any slot's.
const (
	chuteSlot    = sys.WakeSlot - 1
	listenerSlot = sys.WakeSlot - 2 // Gen is the listener's number in the group
)

const (
	acceptBatch  = 64        // accepts per readiness of a listener
	readBudget   = 256 << 10 // bytes per readiness of a conn, so that a fast sender doesn't starve the others
	scratchFlush = 64 << 10  // bytes for one conn that are written before its handler is done
	keepQueue    = 16 << 10  // a larger write queue's buffer is given to the collector when it is empty
	maxKept      = 1024      // empty write queues whose buffers are kept

	lingerTicks  = 20 // how long a finished conn waits for the peer's FIN
	refusedTicks = 10 // the same for a refused one
	acceptPause  = 500 * time.Millisecond
)

// Loop is one thread's conns. Methods without another word belong to the loop's thread.
type Loop struct {
	// Frozen.
	group  *Group
	index  int
	budget int // conns, without the reserve for refusals

	// Shared.
	Stats Stats
	inbox inbox
	waker Waker
	in    int32        // chute: where others drop descriptors
	out   int32        // chute: where the loop takes them out
	state atomic.Int32 // of the loop in its group; changes under Group.mu

	// Loop-owned.
	handler   Handler
	poller    Poller
	slab      slab
	wheel     wheel
	now       time.Duration
	tick      uint32 // now in ticks; wheel.tick follows when the events of the iteration are served
	events    []sys.Event
	rbuf      []byte
	cur       uint32 // the conn whose data is being handled, or none
	scratch   []byte // what cur's handler wrote
	queues    []queue
	idle      []uint32 // empty queues
	dirty     []uint32 // conns whose queue has to be tried at the end of the iteration
	doomed    []doom
	listeners map[uint32]int32 // number → descriptor
	resume    time.Duration    // when to take up accepting again after a shed; 0 when not paused
	stopping  bool
	emptied   time.Duration // since when no conn is left
}

// queue is what waits for one conn's socket.
type queue struct {
	buf  []byte
	head int
}

func (q *queue) len() int { return len(q.buf) - q.head }

type doom struct {
	i   uint32
	gen uint32
	end End
}

// Index is the loop's number in its group. Any goroutine may call it.
func (l *Loop) Index() int { return l.index }

// Now is the group's time at the last wake-up.
func (l *Loop) Now() time.Duration { return l.now }

// Tick is Now in ticks.
func (l *Loop) Tick() uint32 { return l.tick }

// ID is conn i's name for the world outside the loop.
func (l *Loop) ID(i uint32) ID { return makeID(l.index, i, l.slab.slots[i].gen) }

// Find is the slot of the conn that id names, if it is here and not on its way out.
func (l *Loop) Find(id ID) (i uint32, ok bool) {
	i = id.Slot()
	if id.Loop() != l.index || int(i) >= len(l.slab.slots) {
		return none, false
	}
	s := &l.slab.slots[i]
	if s.gen != id.Gen() || s.gen == 0 || s.flags&(flagDoomed|flagRefused) != 0 {
		return none, false
	}
	return i, true
}

// Live is the number of conns. Any goroutine may read Stats.Live instead.
func (l *Loop) Live() int { return l.slab.live }

// Each calls f for every conn that is not on its way out.
func (l *Loop) Each(f func(i uint32)) {
	for i := range l.slab.fresh {
		if s := &l.slab.slots[i]; s.gen != 0 && s.flags&(flagDoomed|flagRefused|flagLingering) == 0 {
			f(i)
		}
	}
}

// Post leaves a record for the handler's Post and wakes the loop if it sleeps. payload is copied. Any
// goroutine may call it; it never blocks: the error is ErrFull or ErrStopped.
func (l *Loop) Post(id ID, kind uint8, payload []byte) error {
	wake, err := l.inbox.post(id, kind, payload)
	if wake {
		l.waker.Wake()
	}
	return err
}

// Call has f run on the loop's thread, in order with the posts. Any goroutine may call it.
func (l *Loop) Call(f func()) error {
	wake, err := l.inbox.call(f)
	if wake {
		l.waker.Wake()
	}
	return err
}

// SetTimer has Handler.Timer called for conn i after d, rounded up to ticks, instead of when it was set
// before.
func (l *Loop) SetTimer(i uint32, d time.Duration) {
	l.SetTimerTick(i, l.tick+1+uint32((d-1)/Tick))
}

// SetTimerTick is SetTimer with the tick that it is due at.
func (l *Loop) SetTimerTick(i uint32, tick uint32) {
	if l.slab.slots[i].flags&(flagFinishing|flagDoomed) == 0 {
		l.wheel.set(l.slab.slots, i, tick)
	}
}

// ClearTimer takes conn i's timer back.
func (l *Loop) ClearTimer(i uint32) {
	if l.slab.slots[i].flags&flagFinishing == 0 {
		l.wheel.clear(l.slab.slots, i)
	}
}

// Buffer is where bytes for conn i are appended: take it, append, give it back with Commit, all without
// another call for the loop between. What one iteration has for a conn leaves in one write.
func (l *Loop) Buffer(i uint32) []byte {
	s := &l.slab.slots[i]
	if s.queue == 0 {
		if i == l.cur {
			return l.scratch
		}
		l.takeQueue(i)
	}
	return l.queues[s.queue-1].buf
}

// Commit gives the buffer back that Buffer lent. Bytes for a conn on its way out are dropped.
func (l *Loop) Commit(i uint32, b []byte) {
	s := &l.slab.slots[i]
	if s.queue == 0 {
		if s.flags&(flagFinishing|flagDoomed) != 0 {
			b = b[:0]
		}
		l.scratch = b
		if len(b) >= scratchFlush {
			if err := l.flushScratch(); err != nil {
				l.ended(i, err)
			}
		}
		return
	}
	q := &l.queues[s.queue-1]
	if s.flags&(flagFinishing|flagDoomed) != 0 {
		b = b[:len(q.buf)]
	}
	l.Stats.QueueBytes.Add(int64(len(b) - len(q.buf)))
	q.buf = b
	if s.flags&(flagBlocked|flagDirty) == 0 {
		s.flags |= flagDirty
		l.dirty = append(l.dirty, i)
	}
}

// Write appends b, which is copied, to what leaves for conn i.
func (l *Loop) Write(i uint32, b []byte) { l.Commit(i, append(l.Buffer(i), b...)) }

// Queued is the number of bytes that conn i's socket did not take yet.
func (l *Loop) Queued(i uint32) int {
	s := &l.slab.slots[i]
	if s.queue == 0 {
		return 0
	}
	return l.queues[s.queue-1].len()
}

// Pause keeps conn i's data in the kernel, so that the peer's window closes, until Resume.
func (l *Loop) Pause(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&(flagPaused|flagFinishing|flagDoomed) == 0 {
		s.flags |= flagPaused
		l.watch(i)
	}
}

// Paused reports whether Pause is in force.
func (l *Loop) Paused(i uint32) bool { return l.slab.slots[i].flags&flagPaused != 0 }

// Resume ends Pause.
func (l *Loop) Resume(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&flagPaused != 0 {
		s.flags &^= flagPaused
		l.watch(i)
	}
}

// Finish ends conn i in good order: what is queued is written, then our FIN is sent, then the peer's is
// awaited for two seconds. The handler gets no more data of it.
func (l *Loop) Finish(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&(flagFinishing|flagDoomed) != 0 {
		return
	}
	s.flags |= flagFinishing
	if s.flags&flagPaused != 0 {
		s.flags &^= flagPaused
		l.watch(i)
	}
	l.wheel.set(l.slab.slots, i, l.tick+1+lingerTicks)
	if s.queue == 0 && i != l.cur {
		l.linger(i)
	}
}

// Drop ends conn i at once; what its socket holds is still sent by the kernel.
func (l *Loop) Drop(i uint32) { l.doom(i, End{Kind: EndLocal}) }

// Abort ends conn i at once with a reset.
func (l *Loop) Abort(i uint32) {
	if fd := l.slab.slots[i].fd; fd >= 0 && l.slab.slots[i].flags&flagDoomed == 0 {
		l.poller.CloseSocket(fd, true)
		l.slab.slots[i].fd = -1
	}
	l.doom(i, End{Kind: EndLocal})
}

// PassTo moves conn i's descriptor with data into a chute and ends the conn here. On error it stays.
func (l *Loop) PassTo(i uint32, in int32, data []byte) error {
	s := &l.slab.slots[i]
	// The file lives on in another table, and an epoll watches files: take it out first.
	if s.flags&flagUnwatched == 0 {
		if err := l.poller.Remove(s.fd); err != nil {
			return err
		}
		s.flags |= flagUnwatched
	}
	if err := l.poller.Pass(in, s.fd, data); err != nil {
		l.watch(i)
		return err
	}
	l.Stats.Passed.Add(1)
	l.doom(i, End{Kind: EndPassed})
	return nil
}

// Dial starts a connection. Opened tells when it stands, Closed when it failed.
func (l *Loop) Dial(from, to netip.AddrPort) (uint32, error) {
	if l.slab.live >= l.budget {
		return none, ErrFull
	}
	fd, err := l.poller.Connect(from, to)
	if err != nil {
		return none, err
	}
	i := l.slab.take()
	if i == none {
		l.poller.CloseSocket(fd, true)
		return none, ErrFull
	}
	s := &l.slab.slots[i]
	s.fd = fd
	s.flags = flagConnecting
	l.Stats.Live.Add(1)
	if err := l.poller.Add(fd, sys.Key{Slot: i, Gen: s.gen}, sys.Writable); err != nil {
		s.flags |= flagUnwatched
		l.doom(i, End{Kind: EndError, Err: err})
	}
	return i, nil
}

// run serves until stopped. It is entered on the loop's locked thread with poller and handler made.
func (l *Loop) run() error {
	l.now = l.group.system.Now()
	l.tick = uint32(l.now / Tick)
	l.wheel.tick = l.tick
	for {
		l.inbox.drain(l.dispatchPost)
		l.reap()
		l.flushDirty()
		l.reap()
		if l.stopping || l.retired() {
			return nil
		}
		busy := l.group.system.Now() - l.now
		l.Stats.iteration(busy)
		l.inbox.asleep.Store(true)
		timeout := l.timeout()
		if l.inbox.pending.Load() {
			timeout = 0
		}
		n, err := l.poller.Wait(l.events, timeout)
		l.inbox.asleep.Store(false)
		l.now = l.group.system.Now()
		l.tick = uint32(l.now / Tick)
		if err != nil {
			return err
		}
		for k := range l.events[:n] {
			l.dispatch(&l.events[k])
			if len(l.doomed) > 0 {
				l.reap()
			}
		}
		// After the events: who spoke while the loop was busy or stopped is not called silent.
		if l.tick != l.wheel.tick {
			l.wheel.advance(l.slab.slots, l.tick, l.fire)
			l.reap()
		}
		if l.resume != 0 && l.now >= l.resume {
			l.resumeAccepting()
		}
	}
}

// timeout is how long Wait may sleep.
func (l *Loop) timeout() time.Duration {
	d := time.Duration(-1)
	if n := l.wheel.idle(); n >= 0 {
		d = max(0, time.Duration(l.wheel.tick+uint32(n))*Tick-l.now)
	}
	if l.resume != 0 {
		if r := max(0, l.resume-l.now); d < 0 || r < d {
			d = r
		}
	}
	if l.slab.live == 0 && l.group.retires(l) {
		if r := max(Tick, l.emptied+retireAfter-l.now); d < 0 || r < d {
			d = r
		}
	}
	return d
}

func (l *Loop) dispatch(ev *sys.Event) {
	i := ev.Key.Slot
	if i >= listenerSlot {
		if i == chuteSlot {
			l.takeIn()
		} else {
			l.accept(ev.Key.Gen)
		}
		return
	}
	s := &l.slab.slots[i]
	if s.gen != ev.Key.Gen || s.flags&flagDoomed != 0 {
		return // ended earlier in this batch
	}
	if s.flags&flagConnecting != 0 {
		l.connected(i)
		return
	}
	if ev.Ready&sys.ReadyWrite != 0 && s.flags&flagBlocked != 0 {
		l.flushQueue(i)
	}
	if ev.Ready&sys.ReadyRead != 0 && s.flags&flagDoomed == 0 {
		if s.flags&flagPaused == 0 {
			l.readable(i)
		} else if ev.Ready&sys.Failed != 0 {
			// Nobody reads, and it would be reported for ever.
			err := l.poller.ConnectError(s.fd)
			if err == nil {
				err = syscall.EPIPE
			}
			l.doom(i, End{Kind: EndError, Err: err})
		}
	}
}

func (l *Loop) dispatchPost(id ID, kind uint8, payload []byte) {
	l.Stats.Posts.Add(1)
	l.handler.Post(id, kind, payload)
	if len(l.doomed) > 0 {
		l.reap()
	}
}

func (l *Loop) fire(i uint32) {
	s := &l.slab.slots[i]
	switch {
	case s.flags&flagDoomed != 0 || s.gen == 0:
	case s.flags&flagFinishing != 0 || s.flags&flagRefused != 0:
		l.doom(i, End{Kind: EndLocal}) // the peer does not send its FIN, or does not take what is queued
	default:
		l.handler.Timer(i)
	}
}

// readable reads what conn i has, up to the budget, and hands it on.
func (l *Loop) readable(i uint32) {
	s := &l.slab.slots[i]
	l.cur = i
	for budget := readBudget; ; {
		n, err := l.poller.Read(s.fd, l.rbuf)
		if err == nil && n > 0 {
			l.Stats.Reads.Add(1)
			l.Stats.BytesIn.Add(uint64(n))
			if s.flags&(flagFinishing|flagRefused) == 0 {
				l.handler.Data(i, l.rbuf[:n])
			}
			budget -= n
			if n == len(l.rbuf) && budget > 0 && s.flags&(flagDoomed|flagPaused) == 0 {
				continue
			}
			break
		}
		if err != sys.ErrWouldBlock {
			l.ended(i, err)
		}
		break
	}
	l.served(i)
}

// served ends the time in which conn i is the current one: what its handler wrote leaves.
func (l *Loop) served(i uint32) {
	if err := l.flushScratch(); err != nil {
		l.broken(i, err)
	}
	l.cur = none
	s := &l.slab.slots[i]
	if s.flags&(flagFinishing|flagLingering|flagDoomed) == flagFinishing && s.queue == 0 {
		l.linger(i)
	}
}

// ended is called when reading told that conn i is over. err is nil for the end of the stream.
func (l *Loop) ended(i uint32, err error) {
	s := &l.slab.slots[i]
	switch {
	case s.flags&(flagFinishing|flagRefused) != 0:
		l.doom(i, End{Kind: EndLocal})
	case err == nil:
		l.doom(i, End{Kind: EndEOF})
	default:
		l.doom(i, End{Kind: EndError, Err: err})
	}
}

// linger sends our FIN and waits for the peer's, so that what we wrote is not destroyed by a reset.
func (l *Loop) linger(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&(flagLingering|flagDoomed) != 0 {
		return
	}
	s.flags |= flagLingering
	l.poller.ShutdownWrite(s.fd)
}

// doom marks conn i: it ends when the current callback has returned.
func (l *Loop) doom(i uint32, e End) {
	s := &l.slab.slots[i]
	if s.flags&flagDoomed != 0 {
		return
	}
	s.flags |= flagDoomed
	l.doomed = append(l.doomed, doom{i: i, gen: s.gen, end: e})
}

// reap ends the doomed.
func (l *Loop) reap() {
	for k := 0; k < len(l.doomed); k++ { // Closed may doom more
		d := l.doomed[k]
		s := &l.slab.slots[d.i]
		if s.gen != d.gen {
			continue
		}
		if s.queue != 0 {
			// A dropped conn's queue gets one last try: the kernel may have room.
			if d.end.Kind == EndLocal && s.fd >= 0 && s.flags&flagBlocked == 0 {
				q := &l.queues[s.queue-1]
				if n, err := l.poller.Write(s.fd, q.buf[q.head:]); err == nil {
					l.Stats.BytesOut.Add(uint64(n))
				}
			}
			l.giveQueue(d.i)
		}
		l.wheel.clear(l.slab.slots, d.i)
		if s.fd >= 0 {
			l.poller.CloseSocket(s.fd, false)
		}
		if s.flags&flagRefused == 0 {
			l.handler.Closed(d.i, d.end)
			l.Stats.Closed.Add(1)
		}
		l.slab.put(d.i)
		l.Stats.Live.Add(-1)
		if l.slab.live == 0 {
			l.empty()
		}
	}
	l.doomed = l.doomed[:0]
}

// empty gives back what a loop without conns does not need.
func (l *Loop) empty() {
	l.emptied = l.now
	l.group.system.Discard(l.slab.mem)
	l.queues, l.idle = nil, nil
	if cap(l.scratch) > scratchFlush {
		l.scratch = nil
	}
}

// watch tells the poller what conn i waits for now.
func (l *Loop) watch(i uint32) {
	s := &l.slab.slots[i]
	var in sys.Interest
	if s.flags&flagPaused == 0 {
		in |= sys.Readable
	}
	if s.flags&flagBlocked != 0 {
		in |= sys.Writable
	}
	k := sys.Key{Slot: i, Gen: s.gen}
	var err error
	if s.flags&flagUnwatched != 0 {
		err = l.poller.Add(s.fd, k, in)
		s.flags &^= flagUnwatched
	} else {
		err = l.poller.Modify(s.fd, k, in)
	}
	if err != nil {
		l.doom(i, End{Kind: EndError, Err: err})
	}
}

func (l *Loop) takeQueue(i uint32) {
	if n := len(l.idle); n > 0 {
		l.slab.slots[i].queue = l.idle[n-1]
		l.idle = l.idle[:n-1]
		return
	}
	l.queues = append(l.queues, queue{})
	l.slab.slots[i].queue = uint32(len(l.queues))
}

func (l *Loop) giveQueue(i uint32) {
	s := &l.slab.slots[i]
	q := &l.queues[s.queue-1]
	l.Stats.QueueBytes.Add(-int64(q.len()))
	if cap(q.buf) > keepQueue || len(l.idle) >= maxKept {
		q.buf = nil
	}
	q.buf, q.head = q.buf[:0], 0
	l.idle = append(l.idle, s.queue)
	s.queue = 0
}

// flushScratch writes what the current conn's handler appended. The error is the kernel's.
func (l *Loop) flushScratch() error {
	if len(l.scratch) == 0 {
		return nil
	}
	i, b := l.cur, l.scratch
	if cap(b) > 4*scratchFlush {
		l.scratch = nil
	} else {
		l.scratch = b[:0]
	}
	s := &l.slab.slots[i]
	if s.fd < 0 {
		return nil
	}
	n, err := l.poller.Write(s.fd, b)
	l.Stats.Writes.Add(1)
	if err != nil && err != sys.ErrWouldBlock {
		return err
	}
	l.Stats.BytesOut.Add(uint64(n))
	if b = b[n:]; len(b) > 0 && s.flags&flagDoomed == 0 {
		l.takeQueue(i)
		q := &l.queues[s.queue-1]
		q.buf = append(q.buf, b...)
		l.Stats.QueueBytes.Add(int64(len(b)))
		s.flags |= flagBlocked
		l.watch(i)
	}
	return nil
}

// flushDirty writes what posts and timers left for conns.
func (l *Loop) flushDirty() {
	for _, i := range l.dirty {
		s := &l.slab.slots[i]
		if s.flags&flagDirty == 0 {
			continue // ended, and the slot perhaps used again
		}
		s.flags &^= flagDirty
		if s.flags&(flagDoomed|flagBlocked) == 0 && s.queue != 0 {
			l.flushQueue(i)
		}
	}
	l.dirty = l.dirty[:0]
}

// flushQueue writes what waits for conn i.
func (l *Loop) flushQueue(i uint32) {
	s := &l.slab.slots[i]
	q := &l.queues[s.queue-1]
	for q.len() > 0 {
		n, err := l.poller.Write(s.fd, q.buf[q.head:])
		l.Stats.Writes.Add(1)
		if err == sys.ErrWouldBlock || (err == nil && n == 0) {
			if s.flags&flagBlocked == 0 {
				s.flags |= flagBlocked
				l.watch(i)
			}
			return
		}
		if err != nil {
			l.broken(i, err)
			return
		}
		q.head += n
		l.Stats.BytesOut.Add(uint64(n))
		l.Stats.QueueBytes.Add(-int64(n))
	}
	l.giveQueue(i)
	blocked := s.flags&flagBlocked != 0
	if blocked {
		s.flags &^= flagBlocked
		l.watch(i)
	}
	switch {
	case s.flags&flagFinishing != 0:
		l.linger(i)
	case s.flags&flagRefused != 0:
		l.linger(i)
	case blocked:
		l.handler.Drained(i)
	}
}

// broken is called when a write told that conn i is over. What the peer said before it went is still in
// the socket and may tell why: it is read first.
func (l *Loop) broken(i uint32, err error) {
	s := &l.slab.slots[i]
	if s.flags&(flagDoomed|flagFinishing|flagRefused) == 0 {
		for range 16 {
			n, rerr := l.poller.Read(s.fd, l.rbuf)
			if rerr != nil || n == 0 {
				break
			}
			l.Stats.BytesIn.Add(uint64(n))
			l.handler.Data(i, l.rbuf[:n])
			if s.flags&(flagDoomed|flagFinishing) != 0 {
				break
			}
		}
		l.scratch = l.scratch[:0]
	}
	l.ended(i, err)
}

// connected is called when a dialled conn's socket is ready.
func (l *Loop) connected(i uint32) {
	s := &l.slab.slots[i]
	if err := l.poller.ConnectError(s.fd); err != nil {
		l.doom(i, End{Kind: EndError, Err: err})
		return
	}
	s.flags &^= flagConnecting
	l.watch(i)
	l.Stats.Connected.Add(1)
	l.cur = i
	l.handler.Opened(i, Opening{How: Connected})
	l.served(i)
}

// accept takes some connections from listener number k; more tells that there may be others.
func (l *Loop) accept(k uint32) (more bool) {
	fd, ok := l.listeners[k]
	if !ok {
		return false
	}
	for range acceptBatch {
		if l.slab.live >= l.budget && l.group.moveListener(l, k) {
			return false
		}
		c, peer, err := l.poller.Accept(fd)
		if err == sys.ErrWouldBlock {
			return false
		}
		if err != nil {
			l.shed(err)
			return false
		}
		l.Stats.Accepted.Add(1)
		refusal := l.handler.Admit(peer, l.slab.live >= l.budget)
		i := l.slab.take()
		if i == none {
			// Not even a slot to wait for the peer's FIN: the refusal may be lost with the reset.
			if len(refusal) > 0 {
				_, _ = l.poller.Write(c, refusal)
			}
			l.poller.CloseSocket(c, false)
			l.Stats.Refused.Add(1)
			continue
		}
		s := &l.slab.slots[i]
		s.fd = c
		l.Stats.Live.Add(1)
		if err := l.poller.Add(c, sys.Key{Slot: i, Gen: s.gen}, sys.Readable); err != nil {
			s.flags |= flagRefused | flagUnwatched
			l.doom(i, End{Kind: EndError, Err: err})
			l.reap()
			l.shed(err)
			return false
		}
		if len(refusal) > 0 {
			l.Stats.Refused.Add(1)
			s.flags |= flagRefused
			l.wheel.set(l.slab.slots, i, l.tick+1+refusedTicks)
			_, _ = l.poller.Write(c, refusal)
			l.linger(i)
			continue
		}
		l.handler.Opened(i, Opening{How: Accepted, Peer: peer})
		// The request is usually there by now: reading it at once spares a round through the poller.
		if s.flags&flagDoomed == 0 {
			l.readable(i)
		}
		if len(l.doomed) > 0 {
			l.reap()
		}
	}
	return true
}

// shed stops accepting for a while: the kernel has no descriptor or no memory for another connection.
func (l *Loop) shed(err error) {
	l.Stats.Shed.Add(1)
	l.group.logShed(l.index, err)
	l.resume = l.now + acceptPause
	for _, fd := range l.listeners {
		_ = l.poller.Remove(fd)
	}
}

func (l *Loop) resumeAccepting() {
	l.resume = 0
	for k, fd := range l.listeners {
		if err := l.poller.Add(fd, sys.Key{Slot: listenerSlot, Gen: k}, sys.Readable); err != nil {
			l.resume = l.now + acceptPause
		}
	}
}

// listen takes over listener number k.
func (l *Loop) listen(k uint32, fd int32) {
	l.listeners[k] = fd
	if l.resume != 0 {
		return
	}
	if err := l.poller.Add(fd, sys.Key{Slot: listenerSlot, Gen: k}, sys.Readable); err != nil {
		l.resume = l.now + acceptPause
	}
}

// unlisten lets go of listener number k.
func (l *Loop) unlisten(k uint32) {
	if fd, ok := l.listeners[k]; ok {
		if l.resume == 0 {
			_ = l.poller.Remove(fd)
		}
		delete(l.listeners, k)
	}
}

// takeIn adopts what others dropped into the chute.
func (l *Loop) takeIn() {
	for range acceptBatch {
		fd, n, err := l.poller.Receive(l.out, l.rbuf)
		if err != nil {
			return
		}
		if fd < 0 {
			l.group.logShed(l.index, errors.New("adopt: the descriptor table is full"))
			continue
		}
		i := l.slab.take()
		if i == none {
			l.poller.CloseSocket(fd, true)
			continue
		}
		s := &l.slab.slots[i]
		s.fd = fd
		l.Stats.Live.Add(1)
		l.Stats.Adopted.Add(1)
		if l.group.options.Socket.UserTimeout > 0 {
			l.poller.SetUserTimeout(fd, l.group.options.Socket.UserTimeout)
		}
		if err := l.poller.Add(fd, sys.Key{Slot: i, Gen: s.gen}, sys.Readable); err != nil {
			s.flags |= flagUnwatched | flagRefused
			l.doom(i, End{Kind: EndError, Err: err})
			l.reap()
			continue
		}
		l.cur = i
		l.handler.Opened(i, Opening{How: Adopted, Data: l.rbuf[:n]})
		l.served(i)
		if len(l.doomed) > 0 {
			l.reap()
		}
	}
}

// Stop ends the loop: every conn gets Closed with EndStopped. Any goroutine may call it.
func (l *Loop) stop() error {
	return l.Call(func() {
		for i := range l.slab.fresh {
			if s := &l.slab.slots[i]; s.gen != 0 {
				l.doom(i, End{Kind: EndStopped})
			}
		}
		l.reap()
		l.stopping = true
	})
}
