package hub

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/arena"
)

// Shard is the subscriptions of one loop's conns. Methods without another word belong to the loop's thread.
type Shard struct {
	hub  *Hub
	loop int // frozen

	mu      sync.Mutex
	queue   []*Push // guarded by mu: in the order of delivery
	waking  bool    // guarded by mu: a Drain is under way or asked for
	waiting atomic.Int64

	// Loop-owned.
	spare    []*Push // the queue that was drained last, emptied
	draining bool
	more     bool // another push follows the one that is being delivered
	channels arena.Slab[channel]
	byName   arena.Table
	names    arena.Arena
	subs     arena.Slab[Sub]
	serial   uint32
	bases    map[uint32]*engine.Publication // by channel: the last publication, where somebody gets deltas
}

// channel is a channel with subscribers here. It has no pointers.
type channel struct {
	name  uint32 // arena
	hash  uint32
	chain uint32 // next in byName
	first uint32 // of its subs
	count uint32
	delta uint32 // subs with SubDelta
}

// Sub is one subscription: a conn of this loop and a channel. It has no pointers. The fields below are for the session;
// the hub only keeps them.
type Sub struct {
	Offset  uint64   // of the last publication that it got, where it is positioned
	Epoch   uint32   // EpochHash of the stream, where it is positioned
	Slot    uint32   // the conn
	Serial  uint32   // tells the users of one reference apart; 0: it has ended
	Expires uint32   // Unix seconds; 0: never
	Info    uint32   // the session's reference to its ChanInfo; 0: none
	Sibling uint32   // the session's next subscription
	Flags   SubFlags // of the session
	Options uint16   // index of its namespace

	channel    uint32
	next, prev uint32 // in the channel
}

// SubFlags are what the session knows of a subscription.
type SubFlags uint16

// The flags.
const (
	SubHeld       SubFlags = 1 << iota // publications are held back until its history is read
	SubPositioned                      // offsets are checked
	SubRecoverable
	SubServer    // made by the server
	SubJoinLeave // gets joins and leaves
	SubPresence  // is in the engine's presence
	SubEmits     // its join and leave are published
	SubDelta     // gets deltas
	SubBased     // has got a publication that a delta can build on
	SubBehind    // publications wait for it because its conn is slow
	SubRefreshes // the server prolongs it by a hook
	SubAsked     // that hook was asked and has not answered yet
)

// EpochHash is a short stand-in for an epoch.
func EpochHash(epoch string) uint32 {
	h := uint32(2166136261)
	for i := range len(epoch) {
		h = (h ^ uint32(epoch[i])) * 16777619
	}
	return h
}

// enqueue leaves a push. Any goroutine may call it.
func (s *Shard) enqueue(p *Push) {
	s.mu.Lock()
	s.queue = append(s.queue, p)
	wake := !s.waking
	s.waking = true
	s.mu.Unlock()
	s.waiting.Add(int64(p.size()))
	if wake {
		s.hub.wake(s.loop)
	}
}

// Waiting is the bytes that wait for Drain. Any goroutine may call it.
func (s *Shard) Waiting() int { return int(s.waiting.Load()) }

// maxBatches bounds one Drain: who publishes faster than a loop delivers must not keep it from reading and from its timers.
const maxBatches = 8

// Drain hands what waits to deliver, push by push and for each push to every subscriber of its channel. deliver may
// unsubscribe sub and those of other channels, but no other one of this channel. It may be called at any time on the
// loop's thread; within deliver it does nothing. What waited when it was called is delivered when it returns; of what
// came meanwhile the rest may be left for another wake-up.
func (s *Shard) Drain(deliver func(sub uint32, p *Push)) {
	if s.draining {
		return
	}
	s.draining = true
	for batch := 0; ; batch++ {
		s.mu.Lock()
		queue := s.queue
		if len(queue) == 0 {
			s.waking = false
			s.mu.Unlock()
			break
		}
		if batch == maxBatches {
			s.waking = true
			s.mu.Unlock()
			s.hub.wake(s.loop)
			break
		}
		s.queue = s.spare[:0]
		s.mu.Unlock()
		for k, p := range queue {
			s.more = k+1 < len(queue)
			s.fanOut(p, deliver)
			s.waiting.Add(-int64(p.size()))
		}
		clear(queue)
		if s.spare = queue; cap(queue) > 1<<12 {
			s.spare = nil
		}
	}
	s.draining, s.more = false, false
}

// More reports, within deliver, whether another push follows, so that what a conn gets can leave together.
func (s *Shard) More() bool { return s.more }

func (s *Shard) fanOut(p *Push, deliver func(sub uint32, p *Push)) {
	c := s.find(maphash.String(s.hub.seed, p.Channel), []byte(p.Channel))
	if c == 0 {
		return
	}
	ch := s.channels.At(c)
	if ch.delta > 0 && p.Kind == KindPublication {
		p.setBase(s.bases[c])
	}
	for sub := ch.first; sub != 0; {
		next := s.subs.At(sub).next
		deliver(sub, p)
		sub = next
	}
	// The last subscriber may have gone, and the channel with it.
	if p.Kind == KindPublication && ch.count > 0 && ch.delta > 0 {
		s.bases[c] = p.Publication
	}
}

func (s *Shard) link(c uint32) *uint32  { return &s.channels.At(c).chain }
func (s *Shard) hashOf(c uint32) uint32 { return s.channels.At(c).hash }

// find is the channel of that name, or 0.
func (s *Shard) find(hash uint64, name []byte) uint32 {
	for c := s.byName.First(uint32(hash)); c != 0; c = s.channels.At(c).chain {
		ch := s.channels.At(c)
		if ch.hash == uint32(hash) && string(s.names.At(ch.name)[8:]) == string(name) {
			return c
		}
	}
	return 0
}

// Find is the channel's reference here, or 0 if nobody of this loop is subscribed to it.
func (s *Shard) Find(name []byte) uint32 { return s.find(s.hub.hash(name), name) }

// Channel is the reference of the channel that sub is of.
func (s *Shard) Channel(sub uint32) uint32 { return s.subs.At(sub).channel }

// Name is the name of the channel that sub is of, valid until the subscription ends.
func (s *Shard) Name(sub uint32) []byte {
	return s.names.At(s.channels.At(s.subs.At(sub).channel).name)[8:]
}

// At is a subscription, until it ends.
func (s *Shard) At(sub uint32) *Sub { return s.subs.At(sub) }

// Subscribe makes a subscription of the conn in slot. From now on publications of the channel reach it.
func (s *Shard) Subscribe(slot uint32, name []byte, flags SubFlags) (sub uint32) {
	hash := s.hub.hash(name)
	c := s.find(hash, name)
	if c == 0 {
		c = s.channels.New()
		ch := s.channels.At(c)
		ch.hash = uint32(hash)
		// The whole hash stands before the name: withdrawing needs it.
		ch.name = s.names.Make(8 + len(name))
		b := s.names.At(ch.name)
		binary.LittleEndian.PutUint64(b, hash)
		copy(b[8:], name)
		s.byName.Add(c, ch.hash, s.link, s.hashOf)
		s.hub.announce(hash, s.loop)
	}
	sub = s.subs.New()
	sb := s.subs.At(sub)
	if s.serial++; s.serial == 0 {
		s.serial = 1
	}
	sb.Slot, sb.Flags, sb.channel, sb.Serial = slot, flags, c, s.serial
	ch := s.channels.At(c)
	if sb.next = ch.first; ch.first != 0 {
		s.subs.At(ch.first).prev = sub
	}
	ch.first = sub
	ch.count++
	return sub
}

// SetDelta makes sub one that gets deltas.
func (s *Shard) SetDelta(sub uint32) {
	sb := s.subs.At(sub)
	if sb.Flags&SubDelta != 0 {
		return
	}
	sb.Flags |= SubDelta
	s.channels.At(sb.channel).delta++
	if s.bases == nil {
		s.bases = make(map[uint32]*engine.Publication)
	}
}

// Unsubscribe ends a subscription.
func (s *Shard) Unsubscribe(sub uint32) {
	sb := s.subs.At(sub)
	c := sb.channel
	ch := s.channels.At(c)
	if sb.prev != 0 {
		s.subs.At(sb.prev).next = sb.next
	} else {
		ch.first = sb.next
	}
	if sb.next != 0 {
		s.subs.At(sb.next).prev = sb.prev
	}
	if sb.Flags&SubDelta != 0 {
		if ch.delta--; ch.delta == 0 {
			delete(s.bases, c)
		}
	}
	*sb = Sub{} // who still has the reference sees that its serial is another
	s.subs.Free(sub)
	if ch.count--; ch.count > 0 {
		return
	}
	hash := binary.LittleEndian.Uint64(s.names.At(ch.name))
	s.byName.Remove(c, ch.hash, s.link)
	s.names.Free(ch.name)
	s.channels.Free(c)
	// Another channel here may have the same hash.
	for o := s.byName.First(uint32(hash)); o != 0; o = s.channels.At(o).chain {
		if binary.LittleEndian.Uint64(s.names.At(s.channels.At(o).name)) == hash {
			return
		}
	}
	s.hub.withdraw(hash, s.loop)
}

// Subs is the number of subscriptions, Channels that of channels.
func (s *Shard) Subs() int { return s.subs.Len() }

// Channels is the number of channels with a subscriber here.
func (s *Shard) Channels() int { return s.channels.Len() }

// EachChannel calls f for every channel; name is valid during the call.
func (s *Shard) EachChannel(f func(name []byte, subs int)) {
	s.byName.Each(s.link, func(c uint32) bool {
		ch := s.channels.At(c)
		f(s.names.At(ch.name)[8:], int(ch.count))
		return true
	})
}

// Reset gives all memory back, and forgets what waits. No subscription is left.
func (s *Shard) Reset() {
	s.mu.Lock()
	for _, p := range s.queue {
		s.waiting.Add(-int64(p.size()))
	}
	s.queue, s.waking = nil, false
	s.mu.Unlock()
	s.spare = nil
	s.channels.Reset()
	s.byName.Reset()
	s.names.Reset()
	s.subs.Reset()
	s.bases = nil
}
