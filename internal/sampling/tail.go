package sampling

import "time"

// Bounds are of what is held back. Zero fields mean the defaults.
type Bounds struct {
	Traces int           // 100,000
	Lines  int           // of one trace: 64; beyond it the first 16 and the newest are held
	Bytes  int           // of all: 64 MiB
	Age    time.Duration // since the first that is held of a trace: 10 minutes
}

func (b Bounds) withDefaults() Bounds {
	if b.Traces <= 0 {
		b.Traces = 100_000
	}
	if b.Lines <= 0 {
		b.Lines = 64
	}
	if b.Bytes <= 0 {
		b.Bytes = 64 << 20
	}
	if b.Age <= 0 {
		b.Age = 10 * time.Minute
	}
	return b
}

// Tail holds back what belongs to traces of which it is not known yet whether they are worth keeping. One goroutine at a time may
// use it. T is what is held.
type Tail[T any] struct {
	b      Bounds
	drop   func(T) // has what is not kept
	size   func(T) int
	traces map[ID]*held[T]
	// All traces by age: the list begins behind oldest, whose prev is the newest.
	oldest held[T]
	spare  *held[T] // by next
	spares int
	n      TailStats
}

// TailStats are a Tail's numbers.
type TailStats struct {
	Traces, Lines, Bytes int    // held now; Traces with those that are known to be kept
	Dropped              uint64 // of traces that were over without anything to keep them for
	Expired              uint64 // older than Bounds.Age
	Crowded              uint64 // beyond another bound
}

// held is a trace.
type held[T any] struct {
	id         ID
	items      []T
	born       time.Time
	open       int  // parts that have begun and not ended
	kept       bool // its items are gone where they belong, and so go later ones
	prev, next *held[T]
}

// costs of a trace and of an item in it, beside the item's own size: of the map, the list and the slice.
const (
	traceCost = 200
	itemCost  = 16
	maxSpares = 4096
)

// NewTail makes a tail. size is the bytes of an item, and drop has each that is not kept; it may be nil.
func NewTail[T any](b Bounds, size func(T) int, drop func(T)) *Tail[T] {
	if drop == nil {
		drop = func(T) {}
	}
	t := &Tail[T]{b: b.withDefaults(), size: size, drop: drop, traces: make(map[ID]*held[T])}
	t.oldest.next, t.oldest.prev = &t.oldest, &t.oldest
	return t
}

// Stats are the numbers now.
func (t *Tail[T]) Stats() TailStats { return t.n }

// Kept reports whether a trace is known to be kept.
func (t *Tail[T]) Kept(id ID) bool {
	h := t.traces[id]
	return h != nil && h.kept
}

// Over reports whether a trace is over with the part of it that ends now.
func (t *Tail[T]) Over(id ID) bool {
	h := t.traces[id]
	return h == nil || h.open <= 1
}

// Pass counts an item as dropped that was not held, since its trace is over.
func (t *Tail[T]) Pass() { t.n.Dropped++ }

// Begin notes that a part of a trace has begun.
func (t *Tail[T]) Begin(id ID, now time.Time) { t.trace(id, now).open++ }

// Hold holds an item back.
func (t *Tail[T]) Hold(id ID, item T, now time.Time) {
	h := t.trace(id, now)
	if len(h.items) >= t.b.Lines {
		// The first say who it is, and the newest what led to what will happen: the middle goes.
		at := min(16, t.b.Lines/4)
		t.forget(h.items[at])
		t.n.Crowded++
		copy(h.items[at:], h.items[at+1:])
		h.items = h.items[:len(h.items)-1]
	}
	h.items = append(h.items, item)
	t.n.Lines++
	t.n.Bytes += itemCost + t.size(item)
	for t.n.Bytes > t.b.Bytes && t.oldest.next != h {
		t.remove(t.oldest.next, &t.n.Crowded)
	}
}

// Keep marks a trace as one to keep, and gives emit what was held of it, which is the caller's then.
func (t *Tail[T]) Keep(id ID, now time.Time, emit func(T)) {
	h := t.trace(id, now)
	for i, item := range h.items {
		t.n.Lines--
		t.n.Bytes -= itemCost + t.size(item)
		emit(item)
		clear(h.items[i : i+1])
	}
	h.items, h.kept = h.items[:0], true
	// What comes later is to find it: it is as if it were new.
	h.born = now
	t.unlink(h)
	t.link(h)
}

// End notes that a part of a trace is over. With the last, what is held of it is dropped; that a trace is kept is remembered
// for a while, for what comes late.
func (t *Tail[T]) End(id ID) {
	h := t.traces[id]
	if h == nil {
		return
	}
	if h.open--; h.open <= 0 && !h.kept {
		t.remove(h, &t.n.Dropped)
	}
}

// Expire drops what is too old. Hold, Begin and Keep do so too.
func (t *Tail[T]) Expire(now time.Time) {
	for h := t.oldest.next; h != &t.oldest && now.Sub(h.born) > t.b.Age; h = t.oldest.next {
		t.remove(h, &t.n.Expired)
	}
}

// trace is the trace with an id, made if need be.
func (t *Tail[T]) trace(id ID, now time.Time) *held[T] {
	t.Expire(now)
	if h := t.traces[id]; h != nil {
		return h
	}
	for len(t.traces) >= t.b.Traces {
		t.remove(t.oldest.next, &t.n.Crowded)
	}
	h := t.spare
	if h != nil {
		t.spare = h.next
		t.spares--
	} else {
		h = new(held[T])
	}
	h.id, h.born, h.open, h.kept = id, now, 0, false
	t.traces[id] = h
	t.link(h)
	t.n.Traces++
	t.n.Bytes += traceCost
	return h
}

func (t *Tail[T]) link(h *held[T]) {
	h.prev, h.next = t.oldest.prev, &t.oldest
	h.prev.next, h.next.prev = h, h
}

func (t *Tail[T]) unlink(h *held[T]) { h.prev.next, h.next.prev = h.next, h.prev }

// remove forgets a trace and what is held of it.
func (t *Tail[T]) remove(h *held[T], count *uint64) {
	for _, item := range h.items {
		t.forget(item)
		*count++
	}
	clear(h.items)
	h.items = h.items[:0]
	delete(t.traces, h.id)
	t.unlink(h)
	t.n.Traces--
	t.n.Bytes -= traceCost
	if t.spares < maxSpares {
		h.prev, h.next = nil, t.spare
		t.spare = h
		t.spares++
	}
}

func (t *Tail[T]) forget(item T) {
	t.n.Lines--
	t.n.Bytes -= itemCost + t.size(item)
	t.drop(item)
}
