package loop

import (
	"net/netip"

	"github.com/longwire/longwire/internal/sys"
)

// How conns come in: accepted, dialled, adopted.

// listening is one listener of a loop.
type listening struct {
	fd      int32
	watched bool // in the poller; not while accepting pauses
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
		l.handler.Lost(data)
		return
	}
	i := l.slab.take()
	if i == none {
		l.poller.CloseSocket(fd, true)
		l.group.logSeldom("conns are lost", l.index, ErrFull)
		l.handler.Lost(data)
		return
	}
	s := &l.slab.slots[i]
	s.fd, s.flags = fd, flagUnwatched
	l.Stats.Live.Add(1)
	l.Stats.Adopted.Add(1)
	if l.group.options.Socket.UserTimeout > 0 {
		l.poller.SetUserTimeout(fd, l.group.options.Socket.UserTimeout)
	}
	_ = l.watch(i) // where that fails, the handler is told all the same: whoever dropped it counts on that
	l.cur = i
	l.handler.Opened(i, Opening{How: Adopted, Data: data})
	l.served(i)
	if len(l.doomed) > 0 {
		l.reap()
	}
}
