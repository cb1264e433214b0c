package enginetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
)

// hub is what the nodes of a cluster share: a memengine, whose deliveries it hands on to each.
type hub struct {
	inner engine.Engine
	mu    sync.Mutex
	nodes []*node
}

// node is an engine that gets its deliveries a moment later, as over a network. The memengine serves its calls; before
// Start and after Close, one that refuses.
type node struct {
	hub     *hub
	mu      sync.Mutex
	queue   []func(h engine.Handler)
	wake    *sync.Cond
	serving bool
	stopped chan struct{}
}

var refusing = memengine.New(nil) // is not started, so it refuses all

func newHub(nodes int, now func() time.Time) []engine.Engine {
	h := &hub{inner: memengine.New(&memengine.Options{Now: now})}
	list := make([]engine.Engine, nodes)
	for i := range list {
		n := &node{hub: h}
		n.wake = sync.NewCond(&n.mu)
		list[i] = n
	}
	return list
}

func (h *hub) each(f func(h engine.Handler)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.nodes {
		n.mu.Lock()
		n.queue = append(n.queue, f)
		n.wake.Signal()
		n.mu.Unlock()
	}
}

func (h *hub) Publication(channel string, p *engine.Publication, epoch string) {
	h.each(func(to engine.Handler) { to.Publication(channel, p, epoch) })
}
func (h *hub) Join(channel string, info *engine.ClientInfo) {
	h.each(func(to engine.Handler) { to.Join(channel, info) })
}
func (h *hub) Leave(channel string, info *engine.ClientInfo) {
	h.each(func(to engine.Handler) { to.Leave(channel, info) })
}
func (h *hub) Control(data []byte) { h.each(func(to engine.Handler) { to.Control(data) }) }

func (n *node) Start(ctx context.Context, to engine.Handler) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if len(n.hub.nodes) == 0 {
		if err := n.hub.inner.Start(ctx, n.hub); err != nil {
			return err
		}
	}
	n.hub.nodes = append(n.hub.nodes, n)
	n.serving, n.stopped = true, make(chan struct{})
	go func() {
		defer close(n.stopped)
		for {
			n.mu.Lock()
			for n.serving && len(n.queue) == 0 {
				n.wake.Wait()
			}
			if !n.serving {
				n.mu.Unlock()
				return
			}
			f := n.queue[0]
			n.queue = n.queue[1:]
			n.mu.Unlock()
			f(to)
		}
	}()
	return nil
}

func (n *node) Close() error {
	n.mu.Lock()
	was := n.serving
	n.serving = false
	n.wake.Signal()
	n.mu.Unlock()
	if !was {
		return nil
	}
	<-n.stopped
	n.hub.mu.Lock()
	n.hub.nodes = slices.DeleteFunc(n.hub.nodes, func(o *node) bool { return o == n })
	last := len(n.hub.nodes) == 0
	n.hub.mu.Unlock()
	if last {
		return n.hub.inner.Close()
	}
	return nil
}

// engine is who serves a call.
func (n *node) engine() engine.Engine {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.serving {
		return n.hub.inner
	}
	return refusing
}

func (n *node) Publish(ctx context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	return n.engine().Publish(ctx, channel, p, o)
}
func (n *node) PublishJoin(ctx context.Context, channel string, info *engine.ClientInfo) error {
	return n.engine().PublishJoin(ctx, channel, info)
}
func (n *node) PublishLeave(ctx context.Context, channel string, info *engine.ClientInfo) error {
	return n.engine().PublishLeave(ctx, channel, info)
}
func (n *node) History(ctx context.Context, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
	return n.engine().History(ctx, channel, f, metaTTL)
}
func (n *node) RemoveHistory(ctx context.Context, channel string) error {
	return n.engine().RemoveHistory(ctx, channel)
}
func (n *node) AddPresence(ctx context.Context, channel string, info *engine.ClientInfo, ttl time.Duration) error {
	return n.engine().AddPresence(ctx, channel, info, ttl)
}
func (n *node) RemovePresence(ctx context.Context, channel, client string) error {
	return n.engine().RemovePresence(ctx, channel, client)
}
func (n *node) Presence(ctx context.Context, channel string) (map[string]*engine.ClientInfo, error) {
	return n.engine().Presence(ctx, channel)
}
func (n *node) PresenceStats(ctx context.Context, channel string) (engine.PresenceStats, error) {
	return n.engine().PresenceStats(ctx, channel)
}
func (n *node) Control(ctx context.Context, data []byte) error { return n.engine().Control(ctx, data) }

// TestNodes runs the suite over several nodes that get everything a moment later.
func TestNodes(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	Run(t, Options{
		New: func(_ *testing.T, nodes int) []engine.Engine {
			return newHub(nodes, func() time.Time { return time.Unix(0, now.Load()) })
		},
		MaxNodes: 3,
		Advance:  func(d time.Duration) { now.Add(int64(d)) },
	})
}
