package loop

import (
	"github.com/longwire/longwire/internal/sys"
)

// From readiness to Handler.Data.

// unread is a conn whose budget was used up before its data.
type unread struct {
	i     uint32
	gen   uint32
	ended bool
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
