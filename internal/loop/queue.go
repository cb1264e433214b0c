package loop

import (
	"github.com/longwire/longwire/internal/sys"
)

// What waits for sockets: the scratch of the current conn, and the queues of those that are full.

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
		l.wait(i, b)
	}
}

// wait queues what conn i's socket did not take.
func (l *Loop) wait(i uint32, b []byte) {
	l.takeQueue(i)
	s := &l.slab.slots[i]
	q := &l.queues[s.queue-1]
	q.buf = append(q.buf, b...)
	l.Stats.QueueBytes.Add(int64(len(b)))
	s.flags |= flagBlocked
	_ = l.watch(i)
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
