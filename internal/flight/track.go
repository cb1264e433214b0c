package flight

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"
)

// Track is where one loop tells the events of its conns. One goroutine or thread at a time writes it. A nil Track takes
// everything and keeps nothing.
type Track struct {
	r        *Recorder
	segment  int    // of the ring: the one that is written; -1: none yet
	left     []byte // what is free of it, whole events
	sequence uint64 // of the last event
	_        [16]byte
}

// begin is the slot of the next event, marked as being written.
func (t *Track) begin() *slot {
	if len(t.left) == 0 {
		t.left, t.segment, t.sequence = t.r.claim(t.segment)
	}
	s := (*slot)(t.left)
	atomic.StoreUint64(sequence(s), 0)
	return s
}

// done publishes it.
func (t *Track) done(s *slot) {
	t.sequence++
	atomic.StoreUint64(sequence(s), t.sequence)
	t.left = t.left[EventSize:]
}

// sequence is the word of a slot that tells readers whether it is whole. The ring is mapped, so it is aligned.
func sequence(s *slot) *uint64 { return (*uint64)(unsafe.Pointer(s)) }

// Opened tells that a conn's handshake was answered; took is the time since its accept.
func (t *Track) Opened(at time.Time, conn uint64, peer netip.AddrPort, endpoint int, took time.Duration) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, KindOpened, uint8(endpoint), peer.Port(), uint32(took/time.Microsecond))
	a := peer.Addr().As16()
	copy(s[32:], a[:])
	t.done(s)
}

// Request tells the X-Request-ID of a conn's handshake.
func (t *Track) Request(at time.Time, conn uint64, id []byte) { named(t, at, conn, KindRequest, 0, id) }

// Connected tells that a conn's session is connected as a user.
func (t *Track) Connected(at time.Time, conn uint64, user string) {
	named(t, at, conn, KindConnected, 0, user)
}

// Subscribed tells that a session has a channel.
func (t *Track) Subscribed(at time.Time, conn uint64, channel []byte) {
	named(t, at, conn, KindSubscribed, 0, channel)
}

// Left tells that a session lost a channel, or left it: then code is 0.
func (t *Track) Left(at time.Time, conn uint64, channel []byte, code uint16) {
	named(t, at, conn, KindLeft, code, channel)
}

func named[T string | []byte](t *Track, at time.Time, conn uint64, k Kind, b uint16, name T) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, k, 0, b, 0)
	s[25] = byte(copy(s[textAt:], name))
	t.done(s)
}

// Trace tells the trace context of a conn's handshake (W3C Trace Context).
func (t *Track) Trace(at time.Time, conn uint64, trace [16]byte, span [8]byte) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, KindTrace, 0, 0, 0)
	copy(s[32:], trace[:])
	copy(s[48:], span[:])
	t.done(s)
}

// Slow tells that a conn's write queue has passed half its limit.
func (t *Track) Slow(at time.Time, conn uint64, queued int) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, KindSlow, 0, 0, uint32(queued))
	t.done(s)
}

// Ended tells that a conn is over. e is not kept.
func (t *Track) Ended(at time.Time, conn uint64, e *Ended) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, KindEnded, e.Cause, e.Code, uint32(e.Detail))
	s.ended(e)
	t.done(s)
}

// Answered tells the code of the close frame by which a client answered ours.
func (t *Track) Answered(at time.Time, conn uint64, code uint16) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.note(at), conn, KindAnswered, 0, code, 0)
	t.done(s)
}

// Kernel tells what the kernel saw of the end. k is not kept. at may have been reckoned before the clock was set.
func (t *Track) Kernel(at time.Time, conn uint64, k *Kernel) {
	if t == nil {
		return
	}
	s := t.begin()
	s.head(t.r.clock.stamp(at), conn, KindKernel, k.Verdict, k.Retransmits, k.Unacked)
	p := s[32:]
	p[0], p[1] = k.Level, k.Err
	binary.LittleEndian.PutUint32(p[4:], uint32(k.RTT/time.Microsecond))
	binary.LittleEndian.PutUint64(p[8:], k.Path)
	t.done(s)
}

// scan calls f with each whole event of a ring, in no order. f must not keep s.
func scan(ring []byte, f func(s *slot)) {
	var copied slot
	words := (*[EventSize / 8]uint64)(unsafe.Pointer(&copied))
	for i := 0; i+EventSize <= len(ring); i += EventSize {
		from := (*[EventSize / 8]uint64)(unsafe.Pointer(&ring[i]))
		before := atomic.LoadUint64(&from[0])
		if before == 0 {
			continue
		}
		for w := range words {
			words[w] = atomic.LoadUint64(&from[w])
		}
		if atomic.LoadUint64(&from[0]) == before && before == words[0] {
			f(&copied)
		}
	}
}
