package loop

import (
	"errors"
	"runtime/pprof"
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
	buffers   []byte // what rbuf and pbuf lie in
	rbuf      []byte
	pbuf      []byte // what comes with an adopted descriptor
	cur       uint32 // the conn whose data is being handled, or none
	scratch   []byte // what cur's handler wrote
	writes    uint64 // of Send, not yet in Stats: three atomics for each would be a share of its cost
	bytesOut  uint64
	queues    []queue
	idle      []uint32 // empty queues
	dirty     []uint32 // conns whose queue has to be tried at the end of the iteration
	doomed    []doom
	unread    []unread
	listeners map[uint32]listening
	resume    time.Duration // when to take up accepting again after a shed; 0 when not paused
	stopping  bool
	emptied   time.Duration // since when no conn is left
	last      sys.TCPInfo   // of the conn whose Closed is being called, if lastKnown
	lastKnown bool
	alarm     time.Duration // when ring is due; meaningless without it
	ring      func()        // nil: no alarm is set
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

// Slots bounds the slot indexes, for a handler's own tables.
func (l *Loop) Slots() int { return len(l.slab.slots) }

// Live is the number of conns. Any goroutine may read Stats.Live instead.
func (l *Loop) Live() int { return l.slab.live }

// Post leaves a record for the handler's Post and wakes the loop if it sleeps. payload is copied; kind is
// below 255. Any goroutine may call it, another group's loops included. It never blocks: the error is ErrFull or ErrStopped. What was taken is
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
		if l.writes > 0 {
			l.Stats.Writes.Add(l.writes)
			l.Stats.BytesOut.Add(l.bytesOut)
			l.writes, l.bytesOut = 0, 0
		}
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
			pprof.SetGoroutineLabels(timerLabels)
			l.wheel.advance(l.slab.slots, l.tick, l.fire)
			l.reap()
			pprof.SetGoroutineLabels(loopLabels)
		}
		if l.resume != 0 && l.now >= l.resume {
			l.resumeAccepting()
		}
		if ring := l.ring; ring != nil && l.now >= l.alarm {
			l.ring = nil
			ring()
		}
	}
}

// SetAlarm has ring called once on the loop's thread after d, instead of what was set before, as exactly as the kernel wakes
// a thread: it is for what a tick is too coarse for. nil takes the alarm back. A loop that ends does not ring.
func (l *Loop) SetAlarm(d time.Duration, ring func()) {
	l.alarm, l.ring = l.Clock()+min(d, maxTimer), ring
}

// timeout is how long Wait may sleep.
func (l *Loop) timeout() time.Duration {
	d := time.Duration(-1)
	if l.ring != nil {
		d = max(0, l.alarm-l.Clock())
	}
	if n := l.wheel.idle(); n >= 0 {
		if r := max(0, time.Duration(l.wheel.tick+uint32(n))*Tick-l.now); d < 0 || r < d {
			d = r
		}
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
