package loop

import (
	"net/netip"
	"os"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// What a handler does with a conn: name it, write to it, time it, pause it, end it.

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

// Each calls f for every conn that is not on its way out.
func (l *Loop) Each(f func(i uint32)) {
	for i := range l.slab.fresh {
		if s := &l.slab.slots[i]; s.gen != 0 && s.flags&(flagDoomed|flagRefused|flagLingering) == 0 {
			f(i)
		}
	}
}

// Walk is Each in parts: it calls f for the conns from slot from on until it has been through n slots or f returns false. next
// is where to go on, where there is more. A conn that stays is called for once by calls that go on from one another.
func (l *Loop) Walk(from uint32, n int, f func(i uint32) bool) (next uint32, more bool) {
	for i := from; i < l.slab.fresh; i++ {
		if n--; n < 0 {
			return i, true
		}
		if s := &l.slab.slots[i]; s.gen != 0 && s.flags&(flagDoomed|flagRefused|flagLingering) == 0 && !f(i) {
			return i + 1, i+1 < l.slab.fresh
		}
	}
	return 0, false
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

// Send is Write and Flush in one, for what goes to many conns: where nothing waits for conn i, b goes to its socket
// without a copy. The conn may be on its way out afterwards.
func (l *Loop) Send(i uint32, b []byte) {
	s := &l.slab.slots[i]
	if s.queue != 0 || i == l.cur || s.flags&(flagFinishing|flagDoomed|flagConnecting) != 0 {
		l.Write(i, b)
		if i != l.cur {
			l.Flush(i)
		}
		return
	}
	n, err := l.poller.Write(s.fd, b)
	l.writes++
	if err != nil && err != sys.ErrWouldBlock {
		l.broken(i, err)
		return
	}
	if l.bytesOut += uint64(n); n < len(b) {
		l.wait(i, b[n:])
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

// Descriptor is conn i's, in the table of the loop's thread; -1 when it is closed. It stays the loop's.
func (l *Loop) Descriptor(i uint32) int32 { return l.slab.slots[i].fd }

// Info is what TCP knows of conn i now, or, while Closed is called for it, what it knew at the end, where the kernel ended it.
// It is false where that is not known.
func (l *Loop) Info(i uint32) (sys.TCPInfo, bool) {
	if fd := l.slab.slots[i].fd; fd >= 0 {
		return l.poller.Info(fd)
	}
	return l.last, l.lastKnown
}

// Peer is the address of conn i's other end; the zero value when it is not known.
func (l *Loop) Peer(i uint32) netip.AddrPort {
	if fd := l.slab.slots[i].fd; fd >= 0 {
		return l.poller.Peer(fd)
	}
	return netip.AddrPort{}
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
		l.closing(i, End{Kind: EndLocal}, true)
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
