// Package memengine is the engine of a single process: what is kept is in its memory and gone with it. It implements
// engine.Engine and engine.Immediate; its methods never wait, and ignore their context.
//
// A publication is delivered before Publish returns, on the goroutine that called it and under a lock that orders the
// channel's deliveries. A channel of which nothing is kept costs nothing.
//
// # Epochs
//
// An Engine has a random epoch, which all its streams share until one is forgotten: its metaTTL has passed, or memory
// was short. From then on, streams that begin in the same 65,536th of all channels (a part of their hash) are in
// another epoch, the engine's with a count; streams that exist keep theirs. So a channel that comes back begins with
// offset 1 in an epoch it never had, and nothing is remembered of the one that went. A channel that never had a
// publication is in the epoch that its stream would begin with now.
//
// # Memory
//
// Expired publications, streams, keys and clients are never seen again, and are freed by a sweep every second.
// Options.MaxBytes bounds the rest: above it, what is oldest in the whole engine goes first. A stream whose publications
// went so keeps its offset and epoch, and counts as new among what can still go.
package memengine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
)

// sweepEvery is how long expired things may hold memory.
const sweepEvery = time.Second

// Options of an Engine. The zero value serves.
type Options struct {
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// MaxBytes bounds the memory of publications with all that they point to, and of their streams, by an estimate.
	// Publications in flight come on top of it. Above it the oldest publications go, of whatever channel, and streams
	// that were idle for as long. A publication that is larger by itself gets its offset and is not kept, nor then is
	// what was before it in its stream. Zero means 1 GiB, negative no bound.
	MaxBytes int64
	// MaxKeys bounds the idempotency keys that are remembered at a time, about 200 bytes each. Beyond it, the one that
	// would be forgotten next is forgotten. A 64th of the bound holds for a 64th of the channels. Zero means 262144.
	MaxKeys int
}

// errClosed is returned by all methods outside Start and Close.
var errClosed = fmt.Errorf("memengine: not running: %w", engine.ErrUnavailable)

// Engine is the engine of a single process.
type Engine struct {
	now      func() time.Time // frozen, as are seed, epoch, maxBytes and maxKeys
	seed     maphash.Seed
	epoch    string // of streams in buckets where none was forgotten
	maxBytes int64  // negative: no bound
	maxKeys  int    // of one shard

	bytes     atomic.Int64 // of all shards
	shards    [shardCount]shard
	presences [shardCount]presence

	control struct {
		mu      sync.Mutex     // orders deliveries
		handler engine.Handler // nil: not started, or closed
	}

	life struct {
		mu      sync.Mutex
		started bool
		stop    chan struct{} // closed by Close; nil: not started, or closed
		stopped chan struct{} // closed when sweeping has ended
	}
}

var _ engine.Immediate = (*Engine)(nil)

// New returns an engine; nil means the zero Options.
func New(o *Options) *Engine {
	if o == nil {
		o = new(Options)
	}
	e := &Engine{now: o.Now, seed: maphash.MakeSeed(), epoch: rand.Text()[:8], maxBytes: o.MaxBytes, maxKeys: o.MaxKeys}
	if e.now == nil {
		e.now = time.Now
	}
	if e.maxBytes == 0 {
		e.maxBytes = 1 << 30
	}
	if e.maxKeys <= 0 {
		e.maxKeys = 1 << 18
	}
	e.maxKeys = (e.maxKeys + shardCount - 1) / shardCount
	for i := range e.shards {
		s := &e.shards[i]
		s.engine = e
		s.oldest.Store(math.MaxInt64)
		s.streams = make(map[string]*stream)
		s.keys = make(map[key]*answer)
		e.presences[i].channels = make(map[string]*room)
	}
	return e
}

// Immediate marks that no method waits.
func (e *Engine) Immediate() {}

// Start begins to serve. An Engine starts once.
func (e *Engine) Start(_ context.Context, h engine.Handler) error {
	e.life.mu.Lock()
	defer e.life.mu.Unlock()
	if e.life.started {
		return errors.New("memengine: start: started before")
	}
	e.life.started = true
	e.serve(h)
	e.life.stop, e.life.stopped = make(chan struct{}), make(chan struct{})
	go e.run(e.life.stop, e.life.stopped)
	return nil
}

// Close ends what Start began, waits for calls of the Handler to return, and keeps others from being made.
func (e *Engine) Close() error {
	e.life.mu.Lock()
	defer e.life.mu.Unlock()
	e.life.started = true // it cannot be, from now on
	if e.life.stop == nil {
		return nil
	}
	close(e.life.stop)
	<-e.life.stopped
	e.life.stop = nil
	e.serve(nil)
	return nil
}

// serve opens all with h, or closes all with nil.
func (e *Engine) serve(h engine.Handler) {
	for i := range e.shards {
		s, p := &e.shards[i], &e.presences[i]
		s.mu.Lock()
		s.handler = h
		s.mu.Unlock()
		p.mu.Lock()
		p.open = h != nil
		p.mu.Unlock()
	}
	e.control.mu.Lock()
	e.control.handler = h
	e.control.mu.Unlock()
}

// Publish delivers p and keeps it as o says. It takes p over: Offset and Time are set in p itself.
func (e *Engine) Publish(_ context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	hash := e.hash(channel)
	r, err := e.shard(hash).publish(hash, channel, p, &o)
	if e.maxBytes >= 0 && e.bytes.Load() > e.maxBytes {
		e.shed()
	}
	return r, err
}

// PublishJoin delivers a join.
func (e *Engine) PublishJoin(_ context.Context, channel string, info *engine.ClientInfo) error {
	s := e.shard(e.hash(channel))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return errClosed
	}
	s.handler.Join(channel, info)
	return nil
}

// PublishLeave delivers a leave.
func (e *Engine) PublishLeave(_ context.Context, channel string, info *engine.ClientInfo) error {
	s := e.shard(e.hash(channel))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return errClosed
	}
	s.handler.Leave(channel, info)
	return nil
}

// History reads a stream. The publications are those that were published, not copies.
func (e *Engine) History(_ context.Context, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
	hash := e.hash(channel)
	return e.shard(hash).history(hash, channel, f, metaTTL)
}

// RemoveHistory drops the publications of a stream.
func (e *Engine) RemoveHistory(_ context.Context, channel string) error {
	hash := e.hash(channel)
	return e.shard(hash).removeHistory(hash, channel)
}

// AddPresence notes that a client is in channel.
func (e *Engine) AddPresence(_ context.Context, channel string, info *engine.ClientInfo, ttl time.Duration) error {
	return e.presence(channel).add(channel, info, ttl, e.milliseconds())
}

// RemovePresence takes back AddPresence.
func (e *Engine) RemovePresence(_ context.Context, channel, client string) error {
	return e.presence(channel).remove(channel, client, e.milliseconds())
}

// Presence is who is in channel.
func (e *Engine) Presence(_ context.Context, channel string) (map[string]*engine.ClientInfo, error) {
	return e.presence(channel).list(channel, e.milliseconds())
}

// PresenceStats is how many are in channel. It costs the same for many as for few.
func (e *Engine) PresenceStats(_ context.Context, channel string) (engine.PresenceStats, error) {
	return e.presence(channel).stats(channel, e.milliseconds())
}

// Control hands data to the Handler.
func (e *Engine) Control(_ context.Context, data []byte) error {
	e.control.mu.Lock()
	defer e.control.mu.Unlock()
	if e.control.handler == nil {
		return errClosed
	}
	e.control.handler.Control(data)
	return nil
}

// Stats is what an Engine holds, and what it could not hold. What is over counts until it is swept.
type Stats struct {
	Streams      int   // channels with an offset and an epoch
	Publications int   // kept
	Bytes        int64 // of streams and publications, by estimate: see Options.MaxBytes
	Keys         int   // idempotency keys
	Clients      int   // present, counted once for every channel

	Dropped   uint64 // publications that MaxBytes took, since the start
	Forgotten uint64 // streams that MaxBytes took
	Evicted   uint64 // idempotency keys that MaxKeys took
}

// Stats may be called at any time.
func (e *Engine) Stats() Stats {
	st := Stats{Bytes: e.bytes.Load()}
	for i := range e.shards {
		s, p := &e.shards[i], &e.presences[i]
		s.mu.Lock()
		st.Streams += len(s.streams)
		st.Publications += s.publications
		st.Keys += len(s.keys)
		st.Dropped += s.dropped
		st.Forgotten += s.forgotten
		st.Evicted += s.evicted
		s.mu.Unlock()
		p.mu.Lock()
		st.Clients += p.clients
		p.mu.Unlock()
	}
	return st
}

// shed gives memory back until MaxBytes holds. It holds one lock at a time.
func (e *Engine) shed() {
	for e.bytes.Load() > e.maxBytes {
		var oldest *shard
		first, second := int64(math.MaxInt64), int64(math.MaxInt64)
		for i := range e.shards {
			switch at := e.shards[i].oldest.Load(); {
			case at < first:
				oldest, first, second = &e.shards[i], at, first
			case at < second:
				second = at
			}
		}
		if oldest == nil {
			return // the rest is in flight
		}
		oldest.shed(second)
	}
}

// run sweeps until stop is closed.
func (e *Engine) run(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("subsystem", "engine")))
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			e.sweep(e.milliseconds())
		}
	}
}

// sweep frees what is over. It holds no lock for long.
func (e *Engine) sweep(now int64) {
	for i := range e.shards {
		for !e.shards[i].sweep(now) {
		}
		for !e.presences[i].sweep(now) {
		}
	}
}

func (e *Engine) hash(channel string) uint64 { return maphash.String(e.seed, channel) }

func (e *Engine) shard(hash uint64) *shard { return &e.shards[hash%shardCount] }

func (e *Engine) presence(channel string) *presence { return &e.presences[e.hash(channel)%shardCount] }

// milliseconds is the time.
func (e *Engine) milliseconds() int64 { return e.now().UnixMilli() }

// milliseconds is d, rounded up, so that what is more than nothing lasts.
func milliseconds(d time.Duration) int64 {
	n := d.Milliseconds()
	if time.Duration(n)*time.Millisecond < d {
		n++
	}
	return n
}
