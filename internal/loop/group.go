package loop

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Group is a set of loops.
type Group struct {
	options Options
	layout  Layout
	system  System
	log     *slog.Logger
	loops   []*Loop
	out     int32 // chute to the process's table: In
	outEnd  int32

	mu        sync.Mutex
	listeners []listener // guarded by mu
	running   bool       // guarded by mu
	closed    bool       // guarded by mu
	failed    error      // guarded by mu
	wg        sync.WaitGroup
	done      chan struct{} // closed when a loop failed
	over      chan struct{} // closed when Close is done

	startAgain time.Duration // guarded by mu: when to try again to start a loop after that failed

	lastShed atomic.Int64
}

type listener struct {
	fd    int32
	owner int
}

// NewGroup makes a group, its descriptors included, and starts no loop yet.
func NewGroup(o Options) (*Group, error) {
	if o.System == nil {
		s, err := NewSystem()
		if err != nil {
			return nil, err
		}
		o.System = s
	}
	if o.ReadBuffer == 0 {
		o.ReadBuffer = 64 << 10
	}
	if o.Inbox == 0 {
		o.Inbox = 16 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	limit, private := o.System.Tables()
	if !private && o.Table == TableAuto {
		o.Table = TableShared
	}
	y, err := Plan(o.MaxConns, o.Loops, o.Table, limit, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	if k, ok := o.System.(keeper); ok {
		k.Keep(o.Keep...)
	}
	g := &Group{options: o, layout: y, system: o.System, log: o.Log, done: make(chan struct{}), over: make(chan struct{}), out: -1, outEnd: -1}
	if g.out, g.outEnd, err = o.System.NewChute(); err != nil {
		return nil, err
	}
	for i := range y.MaxLoops {
		l := &Loop{group: g, index: i, budget: y.Budget, cur: none, inbox: inbox{limit: o.Inbox}}
		l.inbox.stopped = true
		if l.waker, err = o.System.NewWaker(); err != nil {
			g.release()
			return nil, err
		}
		if l.in, l.out, err = o.System.NewChute(); err != nil {
			l.waker.Close()
			g.release()
			return nil, err
		}
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Layout is how conns are spread.
func (g *Group) Layout() Layout { return g.layout }

// Loops are all loops, idle ones included, by index.
func (g *Group) Loops() []*Loop { return g.loops }

// Outlet is the chute that carries descriptors to the process's own table, for Loop.PassTo.
func (g *Group) Outlet() int32 { return g.out }

// Strays waits for a conn that a loop passed to Outlet, with what came along in b. It ends with an error
// after Close. One goroutine calls it.
func (g *Group) Strays(b []byte) (net.Conn, int, error) { return g.system.ReceiveConn(g.outEnd, b) }

// Listen opens addr for the loops that start at once. It must be called before Start.
func (g *Group) Listen(addr netip.AddrPort) (netip.AddrPort, error) {
	fds, bound, err := g.system.Listen(addr, g.layout.Loops, g.options.Socket)
	if err != nil {
		return addr, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, fd := range fds {
		g.listeners = append(g.listeners, listener{fd: fd, owner: k % g.layout.Loops})
	}
	return bound, nil
}

// Listeners are the descriptors of what Listen opened.
func (g *Group) Listeners() (fds []int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ln := range g.listeners {
		fds = append(fds, ln.fd)
	}
	return fds
}

// keeper is a System whose threads may have descriptor tables of their own.
type keeper interface {
	// Keep has each table that is made from now on keep these descriptors.
	Keep(fds ...int)
}

// Start starts the first loops; they accept what Listen opened.
func (g *Group) Start() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrStopped
	}
	g.running = true
	for i := range g.layout.Loops {
		if err := g.startLoop(i); err != nil {
			return err
		}
	}
	for k, ln := range g.listeners {
		l := g.loops[ln.owner]
		if err := l.Call(func() { l.listen(uint32(k), ln.fd) }); err != nil {
			return err
		}
	}
	return nil
}

// Post leaves a record for the conn that id names. See Loop.Post.
func (g *Group) Post(id ID, kind uint8, payload []byte) error {
	if id.Loop() >= len(g.loops) {
		return nil
	}
	err := g.loops[id.Loop()].Post(id, kind, payload)
	if err == ErrStopped && g.open() {
		return nil // an extra loop that has retired: its conns are over, and a stale handle is harmless
	}
	return err
}

// open reports whether the group runs, with no loop failed.
func (g *Group) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running && !g.closed && g.failed == nil
}

// Running calls f on the thread of each running loop, and returns without waiting for it.
func (g *Group) Running(f func(l *Loop)) {
	for _, l := range g.loops {
		_ = l.Call(func() { f(l) })
	}
}

// Ask calls f on the thread of each running loop and waits until all have answered or ctx ends.
func (g *Group) Ask(ctx context.Context, f func(l *Loop)) error {
	answers := make(chan struct{}, len(g.loops))
	asked := 0
	for _, l := range g.loops {
		if l.Call(func() { f(l); answers <- struct{}{} }) == nil {
			asked++
		}
	}
	for range asked {
		select {
		case <-answers:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// StopAccepting closes the listeners: what the kernel has queued is accepted first, by the loops that own
// them.
func (g *Group) StopAccepting() {
	g.mu.Lock()
	lns := g.listeners
	g.listeners = nil
	if g.layout.Private {
		// Before the lock is released: a loop that starts from now on must not get descriptors of them.
		for _, ln := range lns {
			g.system.CloseListener(ln.fd)
		}
	}
	g.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range g.loops {
		// Every table has a descriptor of each listener; the port is free when the last is closed.
		wg.Add(1)
		if l.Call(func() {
			defer wg.Done()
			for k, ln := range lns {
				if _, ok := l.listeners[uint32(k)]; ok {
					for range 1024 {
						if !l.accept(uint32(k)) {
							break
						}
					}
					l.unlisten(uint32(k))
				}
				if g.layout.Private {
					l.poller.CloseSocket(ln.fd, false)
				}
			}
		}) != nil {
			wg.Done()
		}
	}
	wg.Wait()
	if !g.layout.Private {
		for _, ln := range lns {
			g.system.CloseListener(ln.fd)
		}
	}
}

// Active is the number of loops that run now.
func (g *Group) Active() int {
	n := 0
	for _, l := range g.loops {
		if l.state.Load() == stateRunning {
			n++
		}
	}
	return n
}

// Live is the number of conns on all loops.
func (g *Group) Live() int {
	n := int64(0)
	for _, l := range g.loops {
		n += l.Stats.Live.Load()
	}
	return int(n)
}

// Failed is closed when a loop could not go on; Close then returns why.
func (g *Group) Failed() <-chan struct{} { return g.done }

func (g *Group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = err
		close(g.done)
	}
}

// Close ends all loops and waits for their threads: every conn gets Closed with EndStopped. It returns
// why a loop failed, if one did.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		<-g.over
		return g.failed
	}
	g.closed, g.running = true, false
	g.mu.Unlock()
	g.StopAccepting()
	for _, l := range g.loops {
		_ = l.stop()
	}
	g.wg.Wait()
	g.release()
	close(g.over)
	return g.failed // nobody is left who could set it
}

func (g *Group) release() {
	if g.out >= 0 {
		g.system.CloseChute(g.out, g.outEnd)
	}
	for _, l := range g.loops {
		l.waker.Close()
		g.system.CloseChute(l.in, l.out)
	}
}

// logSeldom says, at most once a second, what a loop cannot do.
func (g *Group) logSeldom(what string, loop int, err error) {
	now := int64(g.system.Now())
	last := g.lastShed.Load()
	if last != 0 && now-last < int64(time.Second) || !g.lastShed.CompareAndSwap(last, now) {
		return
	}
	// Not on the loop's thread: a log handler may open files.
	go g.log.Error(what, "loop", loop, "error", err)
}
