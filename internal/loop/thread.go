package loop

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/pprof"

	"github.com/longwire/longwire/internal/sys"
)

// The life of a loop's thread.

// States of a loop in its group; they change under Group.mu.
const (
	stateIdle int32 = iota // no thread
	stateRunning
	stateEnding // retired, its thread not yet gone
)

// startLoop starts loop i's thread and waits until it runs. g.mu is held.
func (g *Group) startLoop(i int) error {
	l := g.loops[i]
	ready := make(chan error, 1)
	g.wg.Add(1)
	go g.thread(l, ready)
	if err := <-ready; err != nil {
		return fmt.Errorf("start loop %d: %w", i, err)
	}
	return nil
}

// thread is a loop's goroutine. It stays locked, so its thread, with the descriptor table, ends with it.
func (g *Group) thread(l *Loop, ready chan<- error) {
	runtime.LockOSThread()
	if sys.OnLeader() {
		// The leader's table must stay whole; while this goroutine holds it, another gets another thread.
		again := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(again)
			g.serve(l, ready)
		}()
		<-again
		runtime.UnlockOSThread()
		return
	}
	g.serve(l, ready)
}

// Labels of a loop's thread in profiles. They change with what it does where that costs nothing: not for each event.
var (
	loopLabels  = pprof.WithLabels(context.Background(), pprof.Labels("subsystem", "loop"))
	timerLabels = pprof.WithLabels(context.Background(), pprof.Labels("subsystem", "timer"))
)

func (g *Group) serve(l *Loop, ready chan<- error) {
	defer g.wg.Done()
	pprof.SetGoroutineLabels(loopLabels)
	err := l.open()
	if err != nil {
		ready <- err
		return
	}
	l.inbox.start()
	l.state.Store(stateRunning)
	ready <- nil
	err = l.run()
	l.close(err)
	if err != nil {
		g.fail(fmt.Errorf("loop %d: %w", l.index, err))
	}
}

// open makes what a running loop needs, on its thread.
func (l *Loop) open() (err error) {
	g := l.group
	if l.poller, err = g.system.Enter(l.waker, g.layout.Private, 512); err != nil {
		return err
	}
	gen := l.slab.gen
	// The buffers are mapped too: what an extra loop leaves in the Go heap stays with the process.
	if l.buffers, err = g.system.Map(g.options.ReadBuffer + sys.MaxPassed); err != nil {
		_ = l.poller.Close()
		return err
	}
	l.rbuf, l.pbuf = l.buffers[:g.options.ReadBuffer:g.options.ReadBuffer], l.buffers[g.options.ReadBuffer:]
	if l.slab, err = newSlab(g.system, l.budget+refusals); err != nil {
		g.system.Unmap(l.buffers)
		_ = l.poller.Close()
		return err
	}
	l.slab.gen = gen // ids of an earlier life of the loop stay stale
	l.wheel.reset()
	l.events = make([]sys.Event, 512)
	l.listeners = make(map[uint32]listening)
	l.resume = 0
	l.emptied = g.system.Now()
	if err := l.poller.Add(l.out, sys.Key{Slot: chuteSlot}, sys.Readable); err != nil {
		_ = l.poller.Close()
		g.system.Unmap(l.slab.mem)
		g.system.Unmap(l.buffers)
		l.slab = slab{gen: gen}
		return err
	}
	l.handler = g.options.NewHandler(l)
	return nil
}

// close ends what open made. err is why the loop failed, nil in good order.
func (l *Loop) close(err error) {
	l.stopping = true
	l.state.Store(stateEnding)
	end := End{Kind: EndStopped}
	if err != nil {
		end = End{Kind: EndError, Err: err}
	}
	l.endAll(end)
	// Who was told that a post or call is taken may wait for what it does.
	l.inbox.stop(true)
	l.inbox.drain(l.dispatchPost, l.endTurn)
	l.inbox.release()
	l.endAll(end)
	l.handler.Stopped()
	_ = l.poller.Close()
	l.group.system.Unmap(l.slab.mem)
	l.group.system.Unmap(l.buffers)
	l.slab = slab{gen: l.slab.gen}
	l.handler, l.poller, l.events, l.buffers, l.rbuf, l.pbuf, l.scratch = nil, nil, nil, nil, nil, nil, nil
	l.queues, l.idle, l.dirty, l.doomed, l.unread, l.listeners = nil, nil, nil, nil, nil, nil
	l.wheel, l.ring = wheel{}, nil
	l.stopping = false
	l.state.Store(stateIdle)
	if g := l.group; g.retires(l) && g.Active() == g.layout.Loops {
		// The crowd is gone. What it left in the heap is little, but the collector may not come by for minutes.
		go debug.FreeOSMemory()
	}
}

// retires reports whether l is one of the loops that end when nobody is left on them.
func (g *Group) retires(l *Loop) bool { return l.index >= g.layout.Loops }

// retired ends an extra loop that has been empty for a while. It is called on its thread.
func (l *Loop) retired() bool {
	g := l.group
	if l.slab.live > 0 || !g.retires(l) || l.now-l.emptied < retireAfter || !g.mu.TryLock() {
		return false
	}
	// The listener that the loop was started for goes to one that stays.
	for k := range l.listeners {
		to, room := g.roomiest(g.layout.Loops)
		if room < g.layout.Budget/4 || g.giveListener(l, k, to) != nil {
			l.emptied = l.now // ask again later
			g.mu.Unlock()
			return false
		}
	}
	// Nobody drops anything into the chute while the lock is ours, but a handler must not run under it.
	if fd, n, err := l.poller.Receive(l.out, l.pbuf); err == nil {
		g.mu.Unlock()
		l.adopt(fd, l.pbuf[:n])
		return false
	}
	defer g.mu.Unlock()
	if !l.inbox.stop(false) {
		return false
	}
	l.state.Store(stateEnding)
	return true
}
