// Package hub is who on this node is subscribed to what, and how a publication reaches them: each loop keeps its own
// subscriptions (Shard), and a small shared index knows which loops have a subscriber of a channel. A publication is
// encoded once for each way of writing it, and costs one entry in the queue of each loop that has a subscriber.
package hub

import (
	"hash/maphash"
	"math/bits"
	"sync"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/arena"
)

// Options are of New.
type Options struct {
	Loops int // shards
	// Wake has Shard.Drain called soon on the thread of a loop. Any goroutine calls it.
	Wake func(loop int)
	// Memory is where subscriptions and channels are kept.
	Memory arena.Memory
	// QueueBytes bounds what waits to be delivered by one loop. Zero means 64 MiB.
	QueueBytes int
}

// Hub is the registry of one node. It implements engine.Handler but for Control. Any goroutine may call its methods.
type Hub struct {
	seed   maphash.Seed
	limit  int
	wake   func(loop int)
	shards []*Shard // by loop; frozen
	index  []index  // by loop / 64; frozen
}

// index tells which of 64 loops have a subscriber of a channel.
type index [64]indexPart

// indexPart is a part of the shared index. It is keyed by the hash of a channel's name: two channels with one hash only
// cost a loop a look for nothing.
type indexPart struct {
	mu    sync.RWMutex
	loops map[uint64]uint64 // guarded by mu: a bit for each loop
}

// New makes a hub.
func New(o Options) *Hub {
	h := &Hub{seed: maphash.MakeSeed(), limit: o.QueueBytes, wake: o.Wake, shards: make([]*Shard, o.Loops)}
	if h.limit == 0 {
		h.limit = 64 << 20
	}
	for i := range h.shards {
		s := &Shard{hub: h, loop: i}
		s.channels.Memory, s.byName.Memory, s.names.Memory, s.subs.Memory = o.Memory, o.Memory, o.Memory, o.Memory
		h.shards[i] = s
	}
	h.index = make([]index, (o.Loops+63)/64)
	for i := range h.index {
		for k := range h.index[i] {
			h.index[i][k].loops = make(map[uint64]uint64)
		}
	}
	return h
}

// Shard is the part of one loop.
func (h *Hub) Shard(loop int) *Shard { return h.shards[loop] }

func (h *Hub) hash(channel []byte) uint64 { return maphash.Bytes(h.seed, channel) }

func (h *Hub) part(hash uint64, loop int) *indexPart { return &h.index[loop/64][hash>>58] }

// interested calls f for the shards that may have a subscriber of channel.
func (h *Hub) interested(channel string, f func(*Shard)) {
	hash := maphash.String(h.seed, channel)
	for first := 0; first < len(h.shards); first += 64 {
		p := h.part(hash, first)
		p.mu.RLock()
		mask := p.loops[hash]
		p.mu.RUnlock()
		for ; mask != 0; mask &= mask - 1 {
			f(h.shards[first+bits.TrailingZeros64(mask)])
		}
	}
}

// announce notes that loop has a subscriber of the channel with that hash.
func (h *Hub) announce(hash uint64, loop int) {
	p := h.part(hash, loop)
	p.mu.Lock()
	p.loops[hash] |= 1 << (loop % 64)
	p.mu.Unlock()
}

// withdraw notes that loop has none any more.
func (h *Hub) withdraw(hash uint64, loop int) {
	p := h.part(hash, loop)
	p.mu.Lock()
	if m := p.loops[hash] &^ (1 << (loop % 64)); m != 0 {
		p.loops[hash] = m
	} else {
		delete(p.loops, hash)
	}
	p.mu.Unlock()
}

// Busy reports whether a loop with subscribers of channel has as much to deliver as it may hold: who publishes sheds.
func (h *Hub) Busy(channel string) (busy bool) {
	h.interested(channel, func(s *Shard) { busy = busy || s.Waiting() > h.limit })
	return busy
}

// Publication implements engine.Handler.
func (h *Hub) Publication(channel string, p *engine.Publication, epoch string) {
	h.deliver(&Push{Kind: KindPublication, Channel: channel, Publication: p, Epoch: epoch})
}

// Join implements engine.Handler.
func (h *Hub) Join(channel string, info *engine.ClientInfo) {
	h.deliver(&Push{Kind: KindJoin, Channel: channel, Info: info})
}

// Leave implements engine.Handler.
func (h *Hub) Leave(channel string, info *engine.ClientInfo) {
	h.deliver(&Push{Kind: KindLeave, Channel: channel, Info: info})
}

func (h *Hub) deliver(p *Push) { h.interested(p.Channel, func(s *Shard) { s.enqueue(p) }) }
