package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Table says whether a loop's thread has a descriptor table of its own.
type Table uint8

// The tables: TableAuto is private where the process's one table cannot hold MaxConns.
const (
	TableAuto Table = iota
	TableShared
	TablePrivate
)

// Options describe a group. NewHandler is required; the zero value of the rest serves.
type Options struct {
	// MaxConns bounds the conns of all loops together. Zero means what one descriptor table holds, at
	// most a million.
	MaxConns int
	// Loops is how many loops start. Zero means one for each CPU that Go uses; more start by themselves when
	// these are full and tables are private.
	Loops int
	// Table chooses the descriptor tables.
	Table Table
	// NewHandler makes a loop's handler, on the loop's thread.
	NewHandler func(l *Loop) Handler
	// Socket is set on the listeners.
	Socket sys.ListenOptions
	// ReadBuffer is a loop's one read buffer, in bytes. Zero means 64 KiB.
	ReadBuffer int
	// Inbox bounds the bytes that wait in one loop's inbox. Zero means 16 MiB.
	Inbox int
	// Log gets what a loop cannot say otherwise. Nil means slog.Default().
	Log *slog.Logger
	// System is the kernel. Nil means NewSystem().
	System System
}

// Layout is how a group spreads conns over loops, derived from MaxConns and the descriptor limit.
type Layout struct {
	MaxConns    int
	Loops       int // started at once
	MaxLoops    int // started when needed
	Budget      int // conns of one loop
	Descriptors int // limit of one table, RLIMIT_NOFILE
	Private     bool
}

func (y Layout) String() string {
	if !y.Private {
		return fmt.Sprintf("%d conns on %d loops, %d descriptors in one table", y.MaxConns, y.Loops, y.Descriptors)
	}
	return fmt.Sprintf("%d conns on %d to %d loops, each with a table of %d descriptors (%d conns)", y.MaxConns, y.Loops, y.MaxLoops, y.Descriptors, y.Budget)
}

const (
	// reserveFDs stay free in each table for what is not a conn: logs, profiles, an application's files.
	reserveFDs = 256
	// fdsPerLoop are a loop's waker and the two ends of its chute, known in every table.
	fdsPerLoop = 3
	// refusals is how many refused conns may linger in one loop beyond its budget.
	refusals = 512
	// retireAfter is how long an extra loop stays after its last conn.
	retireAfter = 5 * time.Second

	defaultMaxConns = 1_000_000
)

// Plan derives a layout from limits: maxConns and loops as in Options, the descriptor limit of a table,
// and the number of CPUs.
func Plan(maxConns, loops int, table Table, limit, cpus int) (Layout, error) {
	if loops == 0 {
		loops = cpus
	}
	if loops < 0 || loops > MaxLoops {
		return Layout{}, fmt.Errorf("plan loops: %d loops: want 1 to %d", loops, MaxLoops)
	}
	shared := limit - reserveFDs - fdsPerLoop*loops - refusals
	if maxConns == 0 {
		maxConns = defaultMaxConns
		if table != TablePrivate {
			maxConns = min(maxConns, shared)
		}
	}
	if maxConns < 1 {
		return Layout{}, fmt.Errorf("plan loops: %d descriptors hold no conn: raise the limit of open files (ulimit -n)", limit)
	}
	y := Layout{MaxConns: maxConns, Loops: loops, MaxLoops: loops, Budget: maxConns, Descriptors: limit}
	y.Private = table == TablePrivate || table == TableAuto && maxConns > shared
	if !y.Private {
		if maxConns > shared {
			return Layout{}, fmt.Errorf("plan loops: %d conns do not fit into one table of %d descriptors (%d are ours): raise the limit (ulimit -n), or allow private tables", maxConns, limit, limit-shared)
		}
		if y.Budget > MaxSlots-refusals {
			return Layout{}, fmt.Errorf("plan loops: %d conns in one loop: at most %d", y.Budget, MaxSlots-refusals)
		}
		return y, nil
	}
	// The chutes and wakers of all loops lie in each table, so the budget depends on their number.
	for n := loops; ; n++ {
		budget := limit - reserveFDs - refusals - fdsPerLoop*n
		if n > MaxLoops || budget < 64 {
			return Layout{}, fmt.Errorf("plan loops: %d conns need more than %d loops with %d descriptors each: raise the limit (ulimit -n)", maxConns, min(n-1, MaxLoops), limit)
		}
		budget = min(budget, MaxSlots-refusals)
		if budget*n >= maxConns {
			y.MaxLoops, y.Budget = n, budget
			return y, nil
		}
	}
}

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

// States of a loop in its group; they change under Group.mu.
const (
	stateIdle int32 = iota // no thread
	stateRunning
	stateEnding // retired, its thread not yet gone
)

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

func (g *Group) serve(l *Loop, ready chan<- error) {
	defer g.wg.Done()
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
	if l.slab, err = newSlab(g.system, l.budget+refusals); err != nil {
		_ = l.poller.Close()
		return err
	}
	l.slab.gen = gen // ids of an earlier life of the loop stay stale
	l.wheel.reset()
	l.events = make([]sys.Event, 512)
	l.rbuf = make([]byte, g.options.ReadBuffer)
	if l.pbuf = l.rbuf; len(l.pbuf) < sys.MaxPassed {
		l.pbuf = make([]byte, sys.MaxPassed)
	}
	l.listeners = make(map[uint32]listening)
	l.resume = 0
	l.emptied = g.system.Now()
	if err := l.poller.Add(l.out, sys.Key{Slot: chuteSlot}, sys.Readable); err != nil {
		_ = l.poller.Close()
		g.system.Unmap(l.slab.mem)
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
	l.slab = slab{gen: l.slab.gen}
	l.handler, l.poller, l.events, l.rbuf, l.pbuf, l.scratch = nil, nil, nil, nil, nil, nil
	l.queues, l.idle, l.dirty, l.doomed, l.unread, l.listeners = nil, nil, nil, nil, nil, nil
	l.wheel = wheel{}
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

// Post leaves a record for the conn that id names. See Loop.Post.
func (g *Group) Post(id ID, kind uint8, payload []byte) error {
	if id.Loop() >= len(g.loops) {
		return nil
	}
	return g.loops[id.Loop()].Post(id, kind, payload)
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
