// Package journal takes what happens on loops to whoever writes it down: to the log, to a collector of traces. A loop puts an
// entry of fixed size into a ring of its own, without waiting and without an allocation; one goroutine hands the entries on.
// What a full ring has no room for is lost, and counted.
package journal

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options are of New.
type Options struct {
	// Tracks is how many there are, one for each loop.
	Tracks int
	// Size is the entries that wait in one track, a power of two. Zero means 2048, which are half a megabyte.
	Size int
	// Gather is how long entries gather between two calls of Handle, so that a busy loop wakes nobody for each. Zero means 20 ms.
	Gather time.Duration
	// Handle has the entries, those of one conn in order. It is called by one goroutine, and may block: entries are lost then,
	// and nothing else. They are lent.
	Handle func(entries []Entry)
}

// Journal is made by New, and begins to hand on with Start. Any goroutine may use it; a Track has one writer.
type Journal struct {
	o      Options
	tracks []*Track
	mu     sync.Mutex // held to write shared
	shared *Track
	noted  atomic.Uint64 // entries that were handed on

	asleep atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{} // nil: it was not started
	upTo   []uint64      // of one round, by track
}

// New makes a journal. It starts no goroutine.
func New(o Options) *Journal {
	if o.Size == 0 {
		o.Size = 2048
	}
	if o.Gather == 0 {
		o.Gather = 20 * time.Millisecond
	}
	j := &Journal{o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), upTo: make([]uint64, o.Tracks)}
	for range o.Tracks {
		j.tracks = append(j.tracks, &Track{j: j})
	}
	j.shared = &Track{j: j}
	return j
}

// Start begins to hand entries on.
func (j *Journal) Start() {
	if j == nil || j.done != nil {
		return
	}
	j.done = make(chan struct{})
	go j.run()
}

// Close hands on what is there, and ends. Nobody writes a track any more; Put may be called, and loses what it gets.
func (j *Journal) Close() {
	if j == nil || j.done == nil {
		return
	}
	close(j.stop)
	<-j.done
}

// Track is track i; nil of a nil journal. Its memory is made with the first entry.
func (j *Journal) Track(i int) *Track {
	if j == nil {
		return nil
	}
	return j.tracks[i]
}

// Put takes an entry of which no loop knows. Any goroutine may call it.
func (j *Journal) Put(e *Entry) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if to := j.shared.Next(); to != nil {
		*to = *e
		j.shared.Done()
	}
}

// Stats are a journal's numbers.
type Stats struct {
	Entries uint64 // handed on
	Lost    uint64 // for which a ring had no room
}

// Stats is a snapshot; zero of a nil journal.
func (j *Journal) Stats() (s Stats) {
	if j == nil {
		return s
	}
	s.Entries, s.Lost = j.noted.Load(), j.shared.lost.Load()
	for _, t := range j.tracks {
		s.Lost += t.lost.Load()
	}
	return s
}

// Track is a ring with one writer at a time. A nil Track takes everything and keeps nothing.
type Track struct {
	j    *Journal
	ring atomic.Pointer[[]Entry]
	_    [64]byte // what the writer writes and what the reader writes are on lines of their own
	head atomic.Uint64
	lost atomic.Uint64
	_    [64]byte
	tail atomic.Uint64
	_    [64]byte
}

// Next is where the next entry is written, all of it, before Done; nil if there is no room, which is counted.
func (t *Track) Next() *Entry {
	if t == nil {
		return nil
	}
	ring := t.ring.Load()
	if ring == nil {
		made := make([]Entry, t.j.o.Size)
		ring = &made
		t.ring.Store(ring)
	}
	head := t.head.Load()
	if head-t.tail.Load() == uint64(len(*ring)) {
		t.lost.Add(1)
		return nil
	}
	return &(*ring)[head&uint64(len(*ring)-1)]
}

// Done hands over the entry that Next gave.
func (t *Track) Done() {
	t.head.Add(1)
	if j := t.j; j.asleep.Load() && j.asleep.CompareAndSwap(true, false) {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

func (j *Journal) run() {
	defer close(j.done)
	gather := time.NewTimer(j.o.Gather)
	defer gather.Stop()
	for {
		if j.round() == 0 {
			// Who writes after this sees that it sleeps; what was written before is seen by the second look.
			j.asleep.Store(true)
			if j.waiting() && j.asleep.CompareAndSwap(true, false) {
				continue
			}
			select {
			case <-j.wake:
			case <-j.stop:
				j.last()
				return
			}
		}
		gather.Reset(j.o.Gather)
		select {
		case <-gather.C:
		case <-j.stop:
			j.last()
			return
		}
	}
}

// last hands on all that there is.
func (j *Journal) last() {
	for j.round() > 0 {
	}
}

func (j *Journal) waiting() bool {
	for _, t := range j.tracks {
		if t.head.Load() != t.tail.Load() {
			return true
		}
	}
	return j.shared.head.Load() != j.shared.tail.Load()
}

// round hands on what there is, and returns how many entries that were. What a loop wrote after somebody else had put an
// entry comes behind that: a hook's call behind the command that it was for would be too late for its trace.
func (j *Journal) round() (n int) {
	for i, t := range j.tracks {
		j.upTo[i] = t.head.Load()
	}
	n = j.shared.hand(j.shared.head.Load())
	for i, t := range j.tracks {
		n += t.hand(j.upTo[i])
	}
	return n
}

// hand hands on the entries of one track.
func (t *Track) hand(head uint64) (n int) {
	tail := t.tail.Load()
	if tail == head {
		return 0
	}
	ring := *t.ring.Load()
	for tail != head {
		at := tail & uint64(len(ring)-1)
		part := min(head-tail, uint64(len(ring))-at)
		t.j.o.Handle(ring[at : at+part])
		tail += part
		t.tail.Store(tail)
		n += int(part)
	}
	t.j.noted.Add(uint64(n))
	return n
}
