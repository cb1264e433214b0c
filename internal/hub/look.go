package hub

import (
	"encoding/binary"
	"math/bits"
)

// What an operator asks of the hub.

// Loops calls f for the loops that may have a subscriber of channel.
func (h *Hub) Loops(channel string, f func(loop int)) {
	h.interested(channel, func(s *Shard) { f(s.loop) })
}

// Channels is the number of channels with a subscriber; with more than 64 loops, those are counted once for each 64. Channels
// whose names have one hash count as one.
func (h *Hub) Channels() (n int) {
	for i := range h.index {
		for k := range h.index[i] {
			p := &h.index[i][k]
			p.mu.RLock()
			n += len(p.loops)
			p.mu.RUnlock()
		}
	}
	return n
}

// first is the first loop that has a subscriber of the channel with that hash, or -1.
func (h *Hub) first(hash uint64) int {
	for first := 0; first < len(h.shards); first += 64 {
		p := h.part(hash, first)
		p.mu.RLock()
		mask := p.loops[hash]
		p.mu.RUnlock()
		if mask != 0 {
			return first + bits.TrailingZeros64(mask)
		}
	}
	return -1
}

// Slots are the conns that are subscribed to a channel of this loop, the one of a reference that Find gave. It reports false
// if there are more than most.
func (s *Shard) Slots(channel uint32, most int) (slots []uint32, ok bool) {
	ch := s.channels.At(channel)
	if int(ch.count) > most {
		return nil, false
	}
	for sub := ch.first; sub != 0; sub = s.subs.At(sub).next {
		slots = append(slots, s.subs.At(sub).Slot)
	}
	return slots, true
}

// Subscribers is how many subscriptions to a channel this loop has.
func (s *Shard) Subscribers(name []byte) int {
	if c := s.Find(name); c != 0 {
		return int(s.channels.At(c).count)
	}
	return 0
}

// Walk calls f for the channels of this loop from reference from on, those left out that a loop with a lower number has too,
// until it has been through n references or f returns false. name is valid during the call. next is where to go on, where
// there is more. Channels that come and go between two calls may be left out; none that stays is.
func (s *Shard) Walk(from uint32, n int, f func(name []byte) bool) (next uint32, more bool) {
	last := s.channels.Used()
	for c := max(1, from); c <= last; c++ {
		if n--; n < 0 {
			return c, true
		}
		ch := s.channels.At(c)
		if ch.count == 0 {
			continue // free
		}
		name := s.names.At(ch.name)
		if s.hub.first(binary.LittleEndian.Uint64(name)) == s.loop && !f(name[8:]) {
			return c + 1, c < last
		}
	}
	return 0, false
}
