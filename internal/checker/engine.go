package checker

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
)

// Faults are what an Engine does beyond memengine. All of it is within the contract of engine.Engine.
type Faults struct {
	// Lag has calls wait before and after they are done, so that what they return is a moment old, and deliveries come
	// on goroutines of their own, after Publish has returned and History shows them.
	Lag bool
	// Lose is the share of deliveries that never reach the node.
	Lose float64
}

// Engine is memengine with faults, and with a ledger of what was published. It can be restarted, with all that it kept lost.
type Engine struct {
	ledger *Ledger
	faults Faults
	losing atomic.Bool
	lost   atomic.Uint64
	lanes  [4]lane
	spin   sync.WaitGroup

	random struct {
		mu  sync.Mutex
		rnd *rand.Rand // guarded by mu
	}

	mu    sync.RWMutex // held for reading during every call
	inner *memengine.Engine

	nodes   sync.RWMutex
	members []*Member // guarded by nodes: those that were started
}

// Member is an Engine as one node has it. Several nodes may have the same one, one after the other or at a time.
type Member struct {
	*Engine
	handler engine.Handler // guarded by Engine.nodes
}

// Node is a Member for one more node.
func (e *Engine) Node() *Member { return &Member{Engine: e} }

// Immediate is a Member of an Engine whose faults do not include Lag.
type Immediate struct{ *Member }

// Immediate marks that no method waits.
func (Immediate) Immediate() {}

var (
	_ engine.Engine    = (*Member)(nil)
	_ engine.Immediate = Immediate{}
)

// NewEngine makes an engine that notes in l what it delivers.
func NewEngine(l *Ledger, f Faults, seed uint64) *Engine {
	e := &Engine{ledger: l, faults: f}
	e.losing.Store(true)
	e.random.rnd = rand.New(rand.NewPCG(seed, 7))
	for i := range e.lanes {
		e.lanes[i].init()
	}
	return e
}

// chance is a random number below n.
func (e *Engine) chance(n int) int {
	e.random.mu.Lock()
	defer e.random.mu.Unlock()
	return e.random.rnd.IntN(n)
}

// lag lets others go on for a while.
func (e *Engine) lag() {
	if !e.faults.Lag {
		return
	}
	for range e.chance(12) {
		hop := make(chan struct{})
		go close(hop)
		<-hop
	}
	for range e.chance(12) {
		runtime.Gosched()
	}
}

// StopLosing has all that is delivered from now on reach the node.
func (e *Engine) StopLosing() { e.losing.Store(false) }

// Lost is how many deliveries were lost.
func (e *Engine) Lost() uint64 { return e.lost.Load() }

// Start begins to serve a node. The first of them starts the engine.
func (m *Member) Start(_ context.Context, h engine.Handler) error {
	e := m.Engine
	e.nodes.Lock()
	m.handler = h
	e.members = append(e.members, m)
	first := len(e.members) == 1
	e.nodes.Unlock()
	if !first {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.faults.Lag {
		for i := range e.lanes {
			e.spin.Go(func() { e.lanes[i].run(e.lag) })
		}
	}
	e.inner = memengine.New(nil)
	return e.inner.Start(context.Background(), delivery{e}) // which outlives the first node
}

// Restart loses all that is kept: streams begin anew, in another epoch.
func (e *Engine) Restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.inner.Close(); err != nil {
		return err
	}
	e.inner = memengine.New(nil)
	return e.inner.Start(context.Background(), delivery{e})
}

// Close ends what Start began. The last node ends the engine.
func (m *Member) Close() error {
	e := m.Engine
	e.nodes.Lock()
	e.members = slices.DeleteFunc(e.members, func(x *Member) bool { return x == m })
	last := len(e.members) == 0
	e.nodes.Unlock()
	if !last {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inner == nil {
		return nil // it never started
	}
	err := e.inner.Close()
	for i := range e.lanes {
		e.lanes[i].close()
	}
	e.spin.Wait()
	return err
}

// delivery is the Handler that memengine has.
type delivery struct{ *Engine }

// each calls f for each node.
func (d delivery) each(f func(engine.Handler)) {
	d.nodes.RLock()
	defer d.nodes.RUnlock()
	for _, m := range d.members {
		f(m.handler)
	}
}

// pass hands a delivery on, in the order of its channel.
func (d delivery) pass(channel string, f func()) {
	if d.faults.Lose > 0 && d.losing.Load() && d.chance(1<<20) < int(d.faults.Lose*(1<<20)) {
		d.lost.Add(1)
		return
	}
	if !d.faults.Lag {
		f()
		return
	}
	sum := 0
	for i := range len(channel) {
		sum = sum*31 + int(channel[i])
	}
	d.lanes[uint(sum)%uint(len(d.lanes))].put(f)
}

// Publication implements engine.Handler.
func (d delivery) Publication(channel string, p *engine.Publication, epoch string) {
	d.ledger.Note(channel, p, epoch)
	d.pass(channel, func() { d.each(func(h engine.Handler) { h.Publication(channel, p, epoch) }) })
}

// Join implements engine.Handler.
func (d delivery) Join(channel string, info *engine.ClientInfo) {
	d.pass(channel, func() { d.each(func(h engine.Handler) { h.Join(channel, info) }) })
}

// Leave implements engine.Handler.
func (d delivery) Leave(channel string, info *engine.ClientInfo) {
	d.pass(channel, func() { d.each(func(h engine.Handler) { h.Leave(channel, info) }) })
}

// Control implements engine.Handler.
func (d delivery) Control(data []byte) { d.each(func(h engine.Handler) { h.Control(data) }) }

// lane is deliveries in a row, made by one goroutine.
type lane struct {
	mu    sync.Mutex
	ready *sync.Cond
	queue []func() // guarded by mu
	over  bool     // guarded by mu
}

func (l *lane) init() { l.ready = sync.NewCond(&l.mu) }

func (l *lane) put(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, f)
	l.ready.Signal()
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over, l.queue = true, nil
	l.ready.Signal()
}

func (l *lane) run(lag func()) {
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && !l.over {
			l.ready.Wait()
		}
		queue := l.queue
		l.queue = nil
		over := l.over
		l.mu.Unlock()
		if over {
			return
		}
		for _, f := range queue {
			lag()
			f()
		}
	}
}

// call makes one call of memengine.
func call[T any](e *Engine, f func(in *memengine.Engine) (T, error)) (T, error) {
	e.lag()
	e.mu.RLock()
	r, err := f(e.inner)
	e.mu.RUnlock()
	e.lag()
	return r, err
}

// do is call for what returns nothing.
func do(e *Engine, f func(in *memengine.Engine) error) error {
	_, err := call(e, func(in *memengine.Engine) (struct{}, error) { return struct{}{}, f(in) })
	return err
}

// Publish implements engine.Engine.
func (e *Engine) Publish(ctx context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	return call(e, func(in *memengine.Engine) (engine.Published, error) { return in.Publish(ctx, channel, p, o) })
}

// PublishJoin implements engine.Engine.
func (e *Engine) PublishJoin(ctx context.Context, channel string, info *engine.ClientInfo) error {
	return do(e, func(in *memengine.Engine) error { return in.PublishJoin(ctx, channel, info) })
}

// PublishLeave implements engine.Engine.
func (e *Engine) PublishLeave(ctx context.Context, channel string, info *engine.ClientInfo) error {
	return do(e, func(in *memengine.Engine) error { return in.PublishLeave(ctx, channel, info) })
}

// History implements engine.Engine.
func (e *Engine) History(ctx context.Context, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
	var top engine.Position
	pubs, err := call(e, func(in *memengine.Engine) (pubs []*engine.Publication, err error) {
		pubs, top, err = in.History(ctx, channel, f, metaTTL)
		return pubs, err
	})
	return pubs, top, err
}

// RemoveHistory implements engine.Engine.
func (e *Engine) RemoveHistory(ctx context.Context, channel string) error {
	return do(e, func(in *memengine.Engine) error { return in.RemoveHistory(ctx, channel) })
}

// AddPresence implements engine.Engine.
func (e *Engine) AddPresence(ctx context.Context, channel string, info *engine.ClientInfo, ttl time.Duration) error {
	return do(e, func(in *memengine.Engine) error { return in.AddPresence(ctx, channel, info, ttl) })
}

// RemovePresence implements engine.Engine.
func (e *Engine) RemovePresence(ctx context.Context, channel, client string) error {
	return do(e, func(in *memengine.Engine) error { return in.RemovePresence(ctx, channel, client) })
}

// Presence implements engine.Engine.
func (e *Engine) Presence(ctx context.Context, channel string) (map[string]*engine.ClientInfo, error) {
	return call(e, func(in *memengine.Engine) (map[string]*engine.ClientInfo, error) { return in.Presence(ctx, channel) })
}

// PresenceStats implements engine.Engine.
func (e *Engine) PresenceStats(ctx context.Context, channel string) (engine.PresenceStats, error) {
	return call(e, func(in *memengine.Engine) (engine.PresenceStats, error) { return in.PresenceStats(ctx, channel) })
}

// Control implements engine.Engine.
func (e *Engine) Control(ctx context.Context, data []byte) error {
	return do(e, func(in *memengine.Engine) error { return in.Control(ctx, data) })
}
