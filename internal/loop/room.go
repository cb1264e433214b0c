package loop

import (
	"errors"
	"net"

	"github.com/longwire/longwire/internal/sys"
)

// Where there is room: which loop gets a listener or a conn, and when another loop starts.

// roomiest is the running one of the first n loops with the most room, and how much that is; nil when all
// are full. g.mu is held.
func (g *Group) roomiest(n int) (best *Loop, room int) {
	for _, l := range g.loops[:n] {
		if l.state.Load() != stateRunning {
			continue
		}
		if r := l.budget - int(l.Stats.Live.Load()); r > room {
			best, room = l, r
		}
	}
	return best, room
}

// room is the loop with the most room, started if need be; nil when there is none. g.mu is held.
func (g *Group) room() *Loop {
	best, most := g.roomiest(len(g.loops))
	// A loop that is nearly full would be full again at once; better start one that is empty.
	if most < max(1, g.layout.Budget/16) && g.system.Now() >= g.startAgain {
		for i, l := range g.loops {
			if l.state.Load() == stateIdle {
				if err := g.startLoop(i); err != nil {
					g.startAgain = g.system.Now() + acceptPause
					g.logSeldom("another loop is needed and does not start", i, err)
					break
				}
				return l
			}
		}
	}
	return best
}

// giveListener moves listener k between loops. It is called on from's thread; g.mu is held.
func (g *Group) giveListener(from *Loop, k uint32, to *Loop) error {
	if int(k) >= len(g.listeners) {
		return ErrStopped // StopAccepting is under way
	}
	fd := g.listeners[k].fd
	if err := to.Call(func() { to.listen(k, fd) }); err != nil {
		return err
	}
	g.listeners[k].owner = to.index
	from.unlisten(k)
	return nil
}

// moveListener gives a full loop's listener to one with room. It reports false when there is none.
func (g *Group) moveListener(from *Loop, k uint32) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.running {
		return false
	}
	to := g.room()
	if to == nil || to == from {
		return false
	}
	return g.giveListener(from, k, to) == nil
}

// Adopt moves a TCP connection with data (1 to sys.MaxPassed bytes that Handler.Opened gets) into a loop
// with room; c must not be used any more. On error c stays the caller's. Any goroutine but a loop's may
// call it.
func (g *Group) Adopt(c net.Conn, data []byte) error {
	g.mu.Lock()
	if !g.running {
		g.mu.Unlock()
		return ErrStopped
	}
	l := g.room()
	if l == nil {
		g.mu.Unlock()
		return ErrFull
	}
	err := g.system.PassConn(l.in, c, data)
	g.mu.Unlock()
	if errors.Is(err, sys.ErrWouldBlock) {
		return ErrFull
	}
	return err
}
