package loop

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
)

// ErrFull is returned by Post and Adopt when the loop's inbox or chute holds all that it may: the caller
// sheds. ErrStopped is returned when the loop does not run.
var (
	ErrFull    = errors.New("post to loop: inbox is full")
	ErrStopped = errors.New("post to loop: stopped")
)

// inbox takes what other threads have for a loop, in order, as bytes: a post allocates nothing once the
// two buffers have grown, and holds no pointers.
type inbox struct {
	limit int // bytes; frozen

	mu      sync.Mutex
	buf     []byte   // guarded by mu
	calls   []func() // guarded by mu; each has a record in buf
	stopped bool     // guarded by mu

	pending  atomic.Bool // buf is not empty
	asleep   atomic.Bool // the loop is in Wait or on its way there
	notified atomic.Bool // a wake-up is under way

	spare      []byte   // loop-owned: the buffer that was drained last
	spareCalls []func() // loop-owned
}

const (
	recordHeader = 8 + 4 + 1
	callKind     = 0xff
	keepInbox    = 64 << 10 // a larger drained buffer is given to the collector
)

// post appends one record; payload is copied. It reports whether the loop has to be woken.
func (b *inbox) post(id ID, kind uint8, payload []byte) (wake bool, err error) {
	if kind == callKind {
		panic("post to loop: kind 255 is the loop's own")
	}
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return false, ErrStopped
	}
	if len(b.buf) > 0 && len(b.buf)+recordHeader+len(payload) > b.limit {
		b.mu.Unlock()
		return false, ErrFull
	}
	b.buf = binary.LittleEndian.AppendUint64(b.buf, uint64(id))
	b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(len(payload)))
	b.buf = append(b.buf, kind)
	b.buf = append(b.buf, payload...)
	b.mu.Unlock()
	return b.announce(), nil
}

// call appends a function; calls are few and never refused for want of room.
func (b *inbox) call(f func()) (wake bool, err error) {
	b.mu.Lock()
	if b.stopped {
		b.mu.Unlock()
		return false, ErrStopped
	}
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, callKind)
	b.calls = append(b.calls, f)
	b.mu.Unlock()
	return b.announce(), nil
}

func (b *inbox) announce() bool {
	b.pending.Store(true)
	return b.asleep.Load() && !b.notified.Swap(true)
}

// drain hands each record to record, in order, on the loop's thread, and makes each call after before.
// payload is valid during the call.
func (b *inbox) drain(record func(id ID, kind uint8, payload []byte), before func()) {
	b.notified.Store(false)
	if !b.pending.Load() {
		return
	}
	b.mu.Lock()
	b.pending.Store(false)
	buf, calls := b.buf, b.calls
	b.buf, b.calls = b.spare[:0], b.spareCalls[:0]
	b.mu.Unlock()
	b.spare, b.spareCalls = nil, nil
	for at, call := 0, 0; at < len(buf); {
		id := ID(binary.LittleEndian.Uint64(buf[at:]))
		n := int(binary.LittleEndian.Uint32(buf[at+8:]))
		kind := buf[at+12]
		at += recordHeader
		if kind == callKind {
			before()
			calls[call]()
			call++
		} else {
			record(id, kind, buf[at:at+n])
		}
		at += n
	}
	clear(calls)
	if cap(buf) <= keepInbox {
		b.spare = buf
	}
	b.spareCalls = calls
}

// stop refuses posts from now on, unless something is waiting and force is not set. What was taken before
// stays to be drained.
func (b *inbox) stop(force bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.buf) > 0 && !force {
		return false
	}
	b.stopped = true
	return true
}

// release gives the buffers of a stopped and drained inbox to the collector.
func (b *inbox) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf, b.calls = nil, nil
	b.spare, b.spareCalls = nil, nil
}

func (b *inbox) start() {
	b.mu.Lock()
	b.stopped = false
	b.mu.Unlock()
}
