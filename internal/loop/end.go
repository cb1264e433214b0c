package loop

// How conns end: marked first, taken out when no callback is under way.

type doom struct {
	i      uint32
	gen    uint32
	broken bool // a write failed: what the peer said before it went may still be in the socket
	end    End
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
		l.lastKnown = false
		if s.fd >= 0 {
			if d.end.Kind == EndError {
				l.last, l.lastKnown = l.poller.Info(s.fd)
			}
			l.closing(d.i, d.end, false)
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

// closing says that conn i's socket is about to be closed.
func (l *Loop) closing(i uint32, e End, abort bool) {
	if f := l.group.options.Closing; f != nil && e.Kind != EndPassed && l.slab.slots[i].flags&flagRefused == 0 {
		f(l, i, e, abort)
	}
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
