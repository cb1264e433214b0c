package loop

import (
	"errors"
	"net/netip"
	"os"
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
	keepSlots    = 1024      // slots whose pages an empty loop keeps
	maxKept      = 1024      // empty write queues whose buffers are kept

	lingerTicks  = 20 // how long a finished conn waits for the peer's FIN
	refusedTicks = 10 // the same for a refused one
	acceptPause  = 500 * time.Millisecond

	// maxTimer is the longest timer, well within half of what a tick counter spans.
	maxTimer = 1 << 30 * Tick
)

var errAdoptFull = errors.New("adopt: the descriptor table is full")

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
	pbuf      []byte // what comes with an adopted descriptor; rbuf if that is large enough
	cur       uint32 // the conn whose data is being handled, or none
	scratch   []byte // what cur's handler wrote
	queues    []queue
	idle      []uint32 // empty queues
	dirty     []uint32 // conns whose queue has to be tried at the end of the iteration
	doomed    []doom
	unread    []unread
	listeners map[uint32]listening
	resume    time.Duration // when to take up accepting again after a shed; 0 when not paused
	stopping  bool
	emptied   time.Duration // since when no conn is left
}

// queue is what waits for one conn's socket.
type queue struct {
	buf  []byte
	head int
}

func (q *queue) len() int { return len(q.buf) - q.head }

// compact drops what is written once it outweighs what waits: a queue that never runs empty must not grow.
func (q *queue) compact() {
	if q.head > len(q.buf)/2 {
		n := copy(q.buf, q.buf[q.head:])
		q.buf, q.head = q.buf[:n], 0
	}
}

// listening is one listener of a loop.
type listening struct {
	fd      int32
	watched bool // in the poller; not while accepting pauses
}

// unread is a conn whose budget was used up before its data.
type unread struct {
	i     uint32
	gen   uint32
	ended bool
}

type doom struct {
	i      uint32
	gen    uint32
	broken bool // a write failed: what the peer said before it went may still be in the socket
	end    End
}

// Index is the loop's number in its group. Any goroutine may call it.
func (l *Loop) Index() int { return l.index }

// Now is the group's time at the last wake-up.
func (l *Loop) Now() time.Duration { return l.now }

// Clock is the group's time at this moment, for measuring; Now costs nothing.
func (l *Loop) Clock() time.Duration { return l.group.system.Now() }

// Map reserves zeroed memory for a handler's own tables without pointers; Discard empties it, Unmap
// releases it.
func (l *Loop) Map(n int) ([]byte, error) { return l.group.system.Map(n) }

// Discard gives the pages of b back; they read as zero afterwards.
func (l *Loop) Discard(b []byte) { l.group.system.Discard(b) }

// Unmap releases what Map gave.
func (l *Loop) Unmap(b []byte) { l.group.system.Unmap(b) }

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

// Slots bounds the slot indexes, for a handler's own tables.
func (l *Loop) Slots() int { return len(l.slab.slots) }

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

// Post leaves a record for the handler's Post and wakes the loop if it sleeps. payload is copied; kind is
// below 255. Any goroutine may call it, but no thread of another group's loop, in whose table the wake-up's
// descriptor means something else. It never blocks: the error is ErrFull or ErrStopped. What was taken is
// delivered, even if the loop ends meanwhile.
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
	l.SetTimerTick(i, l.tick+1+uint32((min(d, maxTimer)-1)/Tick))
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
			b = b[:len(l.scratch)]
		}
		l.scratch = b
		if len(b) >= scratchFlush {
			l.flushScratch()
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

// Flush writes what waits for conn i as far as its socket takes it now, instead of at the end of the
// iteration. The conn may be on its way out afterwards.
func (l *Loop) Flush(i uint32) {
	s := &l.slab.slots[i]
	switch {
	case s.queue == 0 && i == l.cur:
		l.flushScratch()
	case s.queue != 0 && s.flags&(flagBlocked|flagDoomed) == 0:
		l.flushQueue(i)
	}
}

// Look reads what conn i has right now: Data may be called before it returns. It is for Handler.Timer, when it
// is about to judge a silence of i. The conn may be on its way out afterwards.
func (l *Loop) Look(i uint32) {
	if l.slab.slots[i].flags&(flagDoomed|flagFinishing|flagPaused|flagConnecting) == 0 {
		l.readable(i, false)
		l.cur = i // its timer's turn goes on
	}
}

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
		_ = l.watch(i)
	}
}

// Paused reports whether Pause is in force.
func (l *Loop) Paused(i uint32) bool { return l.slab.slots[i].flags&flagPaused != 0 }

// Resume ends Pause.
func (l *Loop) Resume(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&flagPaused != 0 && s.flags&flagDoomed == 0 {
		s.flags &^= flagPaused
		_ = l.watch(i)
	}
}

// Finish ends conn i in good order: what is queued is written, for which the peer has two seconds, then our
// FIN is sent, then the peer's is awaited for two seconds. The handler gets no more data of it.
func (l *Loop) Finish(i uint32) {
	s := &l.slab.slots[i]
	if s.flags&(flagFinishing|flagDoomed) != 0 {
		return
	}
	if s.flags&flagConnecting != 0 {
		l.doom(i, End{Kind: EndLocal})
		return
	}
	s.flags |= flagFinishing
	if s.flags&flagPaused != 0 {
		s.flags &^= flagPaused
		_ = l.watch(i)
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

// PassTo moves conn i's descriptor with data into a chute and ends the conn here. On error it stays. What
// is still Queued is lost.
func (l *Loop) PassTo(i uint32, in int32, data []byte) error {
	s := &l.slab.slots[i]
	if s.flags&flagDoomed != 0 {
		return os.ErrClosed
	}
	// The file lives on in another table, and an epoll watches files: take it out first.
	if s.flags&flagUnwatched == 0 {
		if err := l.poller.Remove(s.fd); err != nil {
			return err
		}
		s.flags |= flagUnwatched
	}
	if err := l.poller.Pass(in, s.fd, data); err != nil {
		_ = l.watch(i)
		return err
	}
	l.Stats.Passed.Add(1)
	l.doom(i, End{Kind: EndPassed})
	return nil
}

// Dial starts a connection. Opened tells when it stands, Closed when it failed.
func (l *Loop) Dial(from, to netip.AddrPort) (uint32, error) {
	if l.stopping {
		return none, ErrStopped
	}
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
		l.inbox.drain(l.dispatchPost, l.endTurn)
		l.endTurn()
		l.reap()
		if l.stopping || l.retired() {
			return nil
		}
		// Closed may write to other conns, and a write may end one.
		for len(l.dirty) > 0 || len(l.doomed) > 0 {
			l.flushDirty()
			l.reap()
		}
		busy := l.group.system.Now() - l.now
		l.Stats.iteration(busy)
		l.inbox.asleep.Store(true)
		timeout := l.timeout()
		if len(l.unread) > 0 || l.inbox.pending.Load() {
			timeout = 0
		}
		n, err := l.poller.Wait(l.events, timeout)
		l.inbox.asleep.Store(false)
		l.now = l.group.system.Now()
		l.tick = uint32(l.now / Tick)
		if err != nil {
			return err
		}
		l.readUnread()
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
			l.readable(i, ev.Ready&(sys.Failed|sys.Ended) != 0)
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
	// Records for one conn in a row leave in one write, without a queue.
	if i, ok := l.Find(id); !ok {
		l.endTurn()
	} else if i != l.cur {
		l.endTurn()
		l.cur = i
	}
	l.handler.Post(id, kind, payload)
	if len(l.doomed) > 0 {
		l.endTurn()
		l.reap()
	}
}

// endTurn ends the turn of the current conn, if there is one.
func (l *Loop) endTurn() {
	if l.cur != none {
		l.served(l.cur)
	}
}

func (l *Loop) fire(i uint32) {
	s := &l.slab.slots[i]
	switch {
	case s.flags&flagDoomed != 0 || s.gen == 0:
	case s.flags&flagFinishing != 0 || s.flags&flagRefused != 0:
		l.doom(i, End{Kind: EndLocal}) // the peer does not send its FIN, or does not take what is queued
	default:
		l.cur = i
		l.handler.Timer(i)
		l.served(i)
	}
	// At once, not when all are through: thousands may be due in one tick, and their list would be kept.
	if len(l.doomed) > 0 {
		l.reap()
	}
}

// readable reads what conn i has, up to the budget, and hands it on. ended tells that the stream's end is
// there to be read too. Else less than was asked for is all there is: readiness is told again when there is more.
func (l *Loop) readable(i uint32, ended bool) {
	s := &l.slab.slots[i]
	l.cur = i
	for budget := readBudget; s.flags&(flagDoomed|flagPaused) == 0; {
		if budget <= 0 {
			l.unread = append(l.unread, unread{i: i, gen: s.gen, ended: ended})
			break
		}
		n, err := l.poller.Read(s.fd, l.rbuf)
		if err != nil || n == 0 {
			if err != sys.ErrWouldBlock {
				l.ended(i, err)
			}
			break
		}
		l.Stats.Reads.Add(1)
		l.Stats.BytesIn.Add(uint64(n))
		if s.flags&(flagFinishing|flagRefused) == 0 {
			l.handler.Data(i, l.rbuf[:n])
		}
		budget -= n
		if n < len(l.rbuf) && !ended {
			break
		}
	}
	l.served(i)
}

// readUnread goes on with the conns whose budget was used up in the last iteration.
func (l *Loop) readUnread() {
	if len(l.unread) == 0 {
		return
	}
	again := l.unread
	l.unread = nil
	for _, u := range again {
		if s := &l.slab.slots[u.i]; s.gen == u.gen && s.flags&(flagDoomed|flagPaused) == 0 {
			l.readable(u.i, u.ended)
		}
	}
	l.reap()
}

// served ends the time in which conn i is the current one: what its handler wrote leaves.
func (l *Loop) served(i uint32) {
	l.flushScratch()
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
	if s.flags&flagFinishing != 0 {
		l.wheel.set(l.slab.slots, i, l.tick+1+lingerTicks)
	}
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
		if d.broken {
			l.lastWords(d.i)
		}
		if s.queue != 0 {
			// The queue of one that we end gets a last try: the kernel may have room, and a peer that sent
			// its FIN may still read.
			if d.end.Kind != EndError && d.end.Kind != EndPassed && s.fd >= 0 && s.flags&(flagBlocked|flagConnecting) == 0 {
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
			s.fd = -1
		}
		if s.flags&flagRefused == 0 {
			l.handler.Closed(d.i, d.end)
			l.Stats.Closed.Add(1)
			if s.queue != 0 { // Closed wrote to the conn that is over
				l.giveQueue(d.i)
			}
		}
		used := l.slab.fresh
		l.slab.put(d.i)
		l.Stats.Live.Add(-1)
		if l.slab.live == 0 {
			l.empty(used)
		}
	}
	l.doomed = l.doomed[:0]
}

// empty gives back what a loop without conns does not need. used is how many slots were in use since it
// was empty before: giving back and faulting in the pages of a few would cost more than they are.
func (l *Loop) empty(used uint32) {
	l.emptied = l.now
	if used < keepSlots {
		return
	}
	l.group.system.Discard(l.slab.mem)
	l.queues, l.idle = nil, nil
	if cap(l.scratch) > scratchFlush {
		l.scratch = nil
	}
	l.handler.Emptied()
}

// watch tells the poller what conn i waits for now. A conn that cannot be watched is doomed.
func (l *Loop) watch(i uint32) error {
	s := &l.slab.slots[i]
	in := sys.Edge
	if s.flags&flagPaused == 0 {
		in |= sys.Readable
	}
	if s.flags&(flagBlocked|flagConnecting) != 0 {
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
	return err
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

// flushScratch writes what the current conn's handler appended.
func (l *Loop) flushScratch() {
	if len(l.scratch) == 0 {
		return
	}
	i, b := l.cur, l.scratch
	if cap(b) > 4*scratchFlush {
		l.scratch = nil
	} else {
		l.scratch = b[:0]
	}
	s := &l.slab.slots[i]
	if s.fd < 0 {
		return
	}
	n, err := l.poller.Write(s.fd, b)
	l.Stats.Writes.Add(1)
	if err != nil && err != sys.ErrWouldBlock {
		l.broken(i, err)
		return
	}
	l.Stats.BytesOut.Add(uint64(n))
	if b = b[n:]; len(b) > 0 && s.flags&flagDoomed == 0 {
		l.takeQueue(i)
		q := &l.queues[s.queue-1]
		q.buf = append(q.buf, b...)
		l.Stats.QueueBytes.Add(int64(len(b)))
		s.flags |= flagBlocked
		_ = l.watch(i)
	}
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
			q.compact()
			if s.flags&flagBlocked == 0 {
				s.flags |= flagBlocked
				_ = l.watch(i)
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
		_ = l.watch(i)
	}
	switch {
	case s.flags&flagFinishing != 0:
		l.linger(i)
	case blocked && s.flags&flagDoomed == 0:
		l.handler.Drained(i)
	}
}

// broken is called when a write told that conn i is over. What the peer said before it went is still in
// the socket and may tell why. It is read when the conn ends, since the read buffer may be in use now.
func (l *Loop) broken(i uint32, err error) {
	s := &l.slab.slots[i]
	if s.flags&flagDoomed != 0 {
		return
	}
	l.ended(i, err)
	l.doomed[len(l.doomed)-1].broken = s.flags&(flagFinishing|flagPaused) == 0
}

// lastWords hands on what is left to read of a broken conn.
func (l *Loop) lastWords(i uint32) {
	fd := l.slab.slots[i].fd
	if fd < 0 {
		return
	}
	l.cur = i
	defer func() { l.cur = none }()
	for range 16 {
		n, err := l.poller.Read(fd, l.rbuf)
		if err != nil || n == 0 {
			return
		}
		l.Stats.Reads.Add(1)
		l.Stats.BytesIn.Add(uint64(n))
		l.handler.Data(i, l.rbuf[:n])
	}
}

// connected is called when a dialled conn's socket is ready.
func (l *Loop) connected(i uint32) {
	s := &l.slab.slots[i]
	if err := l.poller.ConnectError(s.fd); err != nil {
		l.doom(i, End{Kind: EndError, Err: err})
		return
	}
	s.flags &^= flagConnecting
	_ = l.watch(i)
	l.Stats.Connected.Add(1)
	l.cur = i
	l.handler.Opened(i, Opening{How: Connected})
	l.served(i)
}

// accept takes some connections from listener number k; more tells that there may be others.
func (l *Loop) accept(k uint32) (more bool) {
	ln, ok := l.listeners[k]
	if !ok {
		return false
	}
	for range acceptBatch {
		if l.slab.live >= l.budget && l.group.moveListener(l, k) {
			return false
		}
		c, peer, err := l.poller.Accept(ln.fd)
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
		s.fd, s.flags = c, flagUnwatched
		l.Stats.Live.Add(1)
		if len(refusal) > 0 {
			l.Stats.Refused.Add(1)
			s.flags |= flagRefused
			l.wheel.set(l.slab.slots, i, l.tick+1+refusedTicks)
			_, _ = l.poller.Write(c, refusal)
			l.linger(i)
		} else {
			l.handler.Opened(i, Opening{How: Accepted, Peer: peer})
			// The request is usually there by now: reading it at once spares a round through the poller.
			if s.flags&flagDoomed == 0 {
				l.readable(i, false)
			}
		}
		var watchErr error
		if s.flags&(flagDoomed|flagUnwatched) == flagUnwatched {
			watchErr = l.watch(i)
		}
		if len(l.doomed) > 0 {
			l.reap()
		}
		if watchErr != nil {
			l.shed(watchErr)
			return false
		}
	}
	return true
}

// shed stops accepting for a while: the kernel has no descriptor or no memory for another connection.
func (l *Loop) shed(err error) {
	l.Stats.Shed.Add(1)
	l.group.logSeldom("accepting pauses", l.index, err)
	l.resume = l.now + acceptPause
	for k, ln := range l.listeners {
		if ln.watched {
			_ = l.poller.Remove(ln.fd)
			l.listeners[k] = listening{fd: ln.fd}
		}
	}
}

func (l *Loop) resumeAccepting() {
	l.resume = 0
	for k, ln := range l.listeners {
		if !ln.watched {
			l.listen(k, ln.fd)
		}
	}
}

// listen takes over listener number k.
func (l *Loop) listen(k uint32, fd int32) {
	ln := listening{fd: fd}
	if l.resume == 0 {
		if err := l.poller.Add(fd, sys.Key{Slot: listenerSlot, Gen: k}, sys.Readable); err != nil {
			l.resume = l.now + acceptPause
		} else {
			ln.watched = true
		}
	}
	l.listeners[k] = ln
}

// unlisten lets go of listener number k.
func (l *Loop) unlisten(k uint32) {
	if ln, ok := l.listeners[k]; ok {
		if ln.watched {
			_ = l.poller.Remove(ln.fd)
		}
		delete(l.listeners, k)
	}
}

// takeIn adopts what others dropped into the chute.
func (l *Loop) takeIn() {
	for range acceptBatch {
		fd, n, err := l.poller.Receive(l.out, l.pbuf)
		if err != nil {
			return
		}
		l.adopt(fd, l.pbuf[:n])
	}
}

// adopt makes a conn of a descriptor that came out of the chute.
func (l *Loop) adopt(fd int32, data []byte) {
	if fd < 0 {
		l.group.logSeldom("conns are lost", l.index, errAdoptFull)
		return
	}
	i := l.slab.take()
	if i == none {
		l.poller.CloseSocket(fd, true)
		l.group.logSeldom("conns are lost", l.index, ErrFull)
		return
	}
	s := &l.slab.slots[i]
	s.fd = fd
	l.Stats.Live.Add(1)
	l.Stats.Adopted.Add(1)
	if l.group.options.Socket.UserTimeout > 0 {
		l.poller.SetUserTimeout(fd, l.group.options.Socket.UserTimeout)
	}
	if err := l.poller.Add(fd, sys.Key{Slot: i, Gen: s.gen}, sys.Readable); err != nil {
		// The handler is told all the same: whoever dropped it counts on that.
		s.flags |= flagUnwatched
		l.doom(i, End{Kind: EndError, Err: err})
	}
	l.cur = i
	l.handler.Opened(i, Opening{How: Adopted, Data: data})
	l.served(i)
	if len(l.doomed) > 0 {
		l.reap()
	}
}

// stop ends the loop: every conn gets Closed with EndStopped. Any goroutine may call it.
func (l *Loop) stop() error {
	return l.Call(func() {
		l.stopping = true
		l.endAll(End{Kind: EndStopped})
	})
}

// endAll ends every conn.
func (l *Loop) endAll(e End) {
	for i := range l.slab.fresh {
		if s := &l.slab.slots[i]; s.gen != 0 {
			l.doom(i, e)
		}
	}
	l.reap()
}
