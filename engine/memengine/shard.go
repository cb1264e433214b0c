package memengine

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
)

const (
	shardCount  = 64   // a power of 2
	bucketCount = 1024 // of generations in a shard; a power of 2
)

// Defaults that the contract names.
const (
	defaultMetaTTL        = 24 * time.Hour
	defaultIdempotencyTTL = 5 * time.Minute
)

// batch is how many things the sweep does before it lets others have the lock.
const batch = 256

// shard is the channels of one part of the hash. Its lock orders what the channels deliver.
type shard struct {
	engine *Engine // frozen

	// oldest is a time at or before that of the oldest publication or idle stream, MaxInt64 where there is none. It
	// is written under mu and read without, by those who look for a shard that has to give.
	oldest atomic.Int64

	mu      sync.Mutex
	handler engine.Handler // nil: not started, or closed
	streams map[string]*stream
	due     queue[*stream] // by the time at which a publication or the stream is over
	ages    queue[*stream] // by age: who gives first when memory is short
	keys    map[key]*answer
	answers queue[*answer] // by the time at which it is forgotten

	// generations counts, by a part of the hash, the streams that were dropped there. A new stream's epoch holds its
	// count, so that a channel which comes back is in another epoch, at no cost for what is gone. Nil until one is.
	generations []uint32

	publications int
	dropped      uint64 // publications, by the bound
	forgotten    uint64 // streams, by the bound
	evicted      uint64 // keys, by the bound
}

// key is an idempotency key, which counts in its channel.
type key struct{ channel, key string }

// answer is what a Publish with a key returned.
type answer struct {
	key    key
	result engine.Published
	over   slot[*answer]
}

// publish is Publish of a channel with that hash.
func (s *shard) publish(hash uint64, channel string, p *engine.Publication, o *engine.PublishOptions) (engine.Published, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return engine.Published{}, errClosed
	}
	now := s.engine.milliseconds()
	if o.IdempotencyKey != "" {
		if a := s.keys[key{channel, o.IdempotencyKey}]; a != nil && a.over.at > now {
			r := a.result
			r.Repeated = true
			return r, nil
		}
	}
	p.Time, p.Offset = now, 0
	var result engine.Published
	if o.HistorySize > 0 && o.HistoryTTL > 0 {
		result.Position = s.keep(hash, channel, p, o, now)
	}
	if o.IdempotencyKey != "" {
		s.remember(key{channel, o.IdempotencyKey}, result, now, o.IdempotencyTTL)
	}
	s.handler.Publication(channel, p, result.Epoch)
	return result, nil
}

// keep gives p its offset and puts it into the channel's stream.
func (s *shard) keep(hash uint64, channel string, p *engine.Publication, o *engine.PublishOptions, now int64) engine.Position {
	st := s.stream(hash, channel, now)
	if st == nil {
		st = &stream{channel: channel, epoch: s.epoch(hash), meta: milliseconds(defaultMetaTTL)}
		st.due.owner, st.age.owner = st, st
		s.streams[channel] = st
		s.engine.bytes.Add(streamOverhead + int64(len(channel)))
	}
	for st.n >= o.HistorySize {
		s.pop(st)
	}
	if len(st.ring) > o.HistorySize {
		st.resize(o.HistorySize)
	}
	st.top++
	p.Offset = st.top
	st.ttl = milliseconds(o.HistoryTTL)
	st.idle = now
	if n := cost(p); s.engine.maxBytes < 0 || n <= s.engine.maxBytes {
		st.push(p, o.HistorySize)
		s.publications++
		s.engine.bytes.Add(n)
	} else {
		// It would take everything else with it, and then go. What is before it in the stream goes: a stream loses
		// publications at its old end only.
		s.dropped += uint64(st.n) + 1
		for st.n > 0 {
			s.pop(st)
		}
		st.fit()
	}
	s.schedule(st)
	return engine.Position{Offset: st.top, Epoch: st.epoch}
}

// stream is the channel's stream without what time has taken; nil: there is none.
func (s *shard) stream(hash uint64, channel string, now int64) *stream {
	st := s.streams[channel]
	if st == nil || st.due.at > now || s.expire(hash, st, now) {
		return st
	}
	return nil
}

// expire takes from the stream what is over, and reports whether the stream itself is left.
func (s *shard) expire(hash uint64, st *stream, now int64) bool {
	for st.n > 0 && st.dueAt() <= now {
		// The stream is empty from then on, not from when somebody looks.
		st.idle = max(st.idle, st.dueAt())
		s.pop(st)
	}
	st.fit()
	if st.n == 0 && st.dueAt() <= now {
		s.forget(hash, st)
		return false
	}
	s.due.put(&st.due, st.dueAt())
	s.schedule(st)
	return true
}

// pop removes the stream's oldest publication.
func (s *shard) pop(st *stream) {
	s.engine.bytes.Add(-cost(st.pop()))
	s.publications--
}

// forget drops a stream without publications.
func (s *shard) forget(hash uint64, st *stream) {
	delete(s.streams, st.channel)
	s.due.remove(&st.due)
	s.ages.remove(&st.age)
	s.noteOldest()
	s.engine.bytes.Add(-streamOverhead - int64(len(st.channel)))
	if s.generations == nil {
		s.generations = make([]uint32, bucketCount)
	}
	s.generations[bucket(hash)]++
}

// epoch is of streams that begin now.
func (s *shard) epoch(hash uint64) string {
	if s.generations == nil || s.generations[bucket(hash)] == 0 {
		return s.engine.epoch
	}
	return s.engine.epoch + "-" + strconv.FormatUint(uint64(s.generations[bucket(hash)]), 36)
}

// bucket is the part of the hash that did not choose the shard.
func bucket(hash uint64) uint64 { return hash / shardCount % bucketCount }

// schedule puts the stream into its queues, or moves it forward where it is too late in them.
func (s *shard) schedule(st *stream) {
	if at := st.dueAt(); st.due.index == 0 || at < st.due.at {
		s.due.put(&st.due, at)
	}
	if s.engine.maxBytes < 0 {
		return
	}
	if at := st.agedAt(); st.age.index == 0 || at < st.age.at {
		s.ages.put(&st.age, at)
		s.noteOldest()
	}
}

// noteOldest tells the other shards of the head of ages.
func (s *shard) noteOldest() {
	at := int64(math.MaxInt64)
	if head := s.ages.head(); head != nil {
		at = head.at
	}
	if s.oldest.Load() != at {
		s.oldest.Store(at)
	}
}

// shed gives memory back, oldest first, until there is enough or another shard has older, from next on.
func (s *shard) shed(next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.noteOldest()
	now := s.engine.milliseconds()
	for s.engine.bytes.Load() > s.engine.maxBytes {
		head := s.ages.head()
		if head == nil || head.at > next {
			return
		}
		st := head.owner
		if at := st.agedAt(); at > head.at {
			s.ages.put(head, at) // it was left behind: see queue
			continue
		}
		if st.n == 0 {
			s.forget(s.engine.hash(st.channel), st)
			s.forgotten++
			continue
		}
		s.pop(st)
		s.dropped++
		if st.n == 0 {
			// It has just lost its publications: who comes to recover is told so for as long as memory allows.
			st.idle = max(st.idle, now)
		}
		st.fit()
		s.ages.put(head, st.agedAt())
		s.schedule(st)
	}
}

// remember keeps the result for whoever repeats the key.
func (s *shard) remember(k key, r engine.Published, now int64, ttl time.Duration) {
	if ttl <= 0 {
		ttl = defaultIdempotencyTTL
	}
	a := s.keys[k]
	if a == nil {
		if len(s.answers) >= s.engine.maxKeys {
			if head := s.answers.head(); head.at > now {
				s.evicted++
			}
			s.unremember(s.answers.head().owner)
		}
		a = &answer{key: k}
		a.over.owner = a
		s.keys[k] = a
	}
	a.result = r
	s.answers.put(&a.over, now+milliseconds(ttl))
}

func (s *shard) unremember(a *answer) {
	delete(s.keys, a.key)
	s.answers.remove(&a.over)
}

// history is History of a channel with that hash.
func (s *shard) history(hash uint64, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return nil, engine.Position{}, errClosed
	}
	now := s.engine.milliseconds()
	st := s.stream(hash, channel, now)
	if st == nil {
		return nil, engine.Position{Epoch: s.epoch(hash)}, nil
	}
	if metaTTL <= 0 {
		metaTTL = defaultMetaTTL
	}
	st.meta = milliseconds(metaTTL)
	st.idle = max(st.idle, now)
	s.schedule(st)
	return st.history(f), engine.Position{Offset: st.top, Epoch: st.epoch}, nil
}

// removeHistory is RemoveHistory of a channel with that hash.
func (s *shard) removeHistory(hash uint64, channel string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handler == nil {
		return errClosed
	}
	now := s.engine.milliseconds()
	st := s.stream(hash, channel, now)
	if st == nil {
		return nil
	}
	for st.n > 0 {
		s.pop(st)
	}
	st.fit()
	st.idle = max(st.idle, now)
	s.schedule(st)
	return nil
}

// sweep frees what is over, and reports whether that was all.
func (s *shard) sweep(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range batch {
		st, a := s.due.head(), s.answers.head()
		switch {
		case st != nil && st.at <= now:
			s.expire(s.engine.hash(st.owner.channel), st.owner, now)
		case a != nil && a.at <= now:
			s.unremember(a.owner)
		default:
			return true
		}
	}
	return false
}
