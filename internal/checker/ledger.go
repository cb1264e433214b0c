package checker

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strconv"
	"sync"

	"github.com/longwire/longwire/engine"
)

// Ledger is the truth: every publication of a run, as the engine took it. Its data begins with a number that is its own
// in its channel (see payloads), so that it is known again wherever it turns up. Any goroutine may use it.
type Ledger struct {
	seed     maphash.Seed
	channels map[string]*record // frozen
	taken    counter            // publications of all channels

	mu    sync.Mutex
	fault error // guarded by mu: the first thing that no engine may do
}

// record is the publications of one channel.
type record struct {
	mu      sync.RWMutex
	numbers uint64           // given to publishers
	order   []entry          // as the engine took them
	places  map[uint64]int   // number → place in order
	streams map[string][]int // epoch → place, by offset - 1
	epoch   string           // of the last one that has an offset
}

type entry struct {
	offset uint64
	hash   uint64 // of the data
}

// NewLedger makes the ledger of these channels.
func NewLedger(channels []string) *Ledger {
	l := &Ledger{seed: maphash.MakeSeed(), channels: make(map[string]*record, len(channels))}
	for _, ch := range channels {
		l.channels[ch] = &record{places: make(map[uint64]int), streams: make(map[string][]int)}
	}
	return l
}

// Number is what the next publication of channel is to begin with: its data is {"n":number, and anything behind that.
func (l *Ledger) Number(channel string) uint64 {
	r := l.channels[channel]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers++
	return r.numbers
}

var numberPrefix = []byte(`{"n":`)

// number is what data begins with.
func number(data []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(data, numberPrefix)
	if !ok {
		return 0, false
	}
	end := bytes.IndexAny(rest, ",}")
	if end < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	return n, err == nil
}

// Note takes a publication from the engine, in the order of its channel and before anybody else can see it.
func (l *Ledger) Note(channel string, p *engine.Publication, epoch string) {
	r := l.channels[channel]
	n, ok := number(p.Data)
	if r == nil || !ok {
		l.blame(fmt.Errorf("engine: publication of %q that nobody made: %.60q", channel, p.Data))
		return
	}
	r.mu.Lock()
	if _, ok := r.places[n]; ok {
		l.blame(fmt.Errorf("engine: %q has publication %d twice", channel, n))
	}
	place := len(r.order)
	r.order = append(r.order, entry{offset: p.Offset, hash: maphash.Bytes(l.seed, p.Data)})
	r.places[n] = place
	if p.Offset != 0 {
		s := r.streams[epoch]
		if p.Offset != uint64(len(s))+1 {
			l.blame(fmt.Errorf("engine: %q has offset %d of epoch %s after %d", channel, p.Offset, epoch, len(s)))
		}
		r.streams[epoch], r.epoch = append(s, place), epoch
	}
	r.mu.Unlock()
	l.taken.add()
}

func (l *Ledger) blame(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == nil {
		l.fault = err
	}
}

// Fault is the first thing that the engine did against its contract; nil: none.
func (l *Ledger) Fault() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// find is the place and offset of the publication with that data, by its number. same tells whether the rest of the data
// is right, too.
func (l *Ledger) find(channel string, data []byte) (place int, offset uint64, same, ok bool) {
	n, ok := number(data)
	if !ok {
		return 0, 0, false, false
	}
	r := l.channels[channel]
	r.mu.RLock()
	defer r.mu.RUnlock()
	if place, ok = r.places[n]; !ok {
		return 0, 0, false, false
	}
	e := &r.order[place]
	return place, e.offset, e.hash == maphash.Bytes(l.seed, data), true
}

// placeOf is the place of the publication with that number.
func (l *Ledger) placeOf(channel string, number uint64) (place int, ok bool) {
	r := l.channels[channel]
	r.mu.RLock()
	defer r.mu.RUnlock()
	place, ok = r.places[number]
	return place, ok
}

// at is the place of the publication at a position; ok is false if there never was one.
func (l *Ledger) at(channel, epoch string, offset uint64) (place int, ok bool) {
	r := l.channels[channel]
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.streams[epoch]
	if offset == 0 || offset > uint64(len(s)) {
		return 0, false
	}
	return s[offset-1], true
}

// Top is the last position that a publication of channel got, and how many publications it has had.
func (l *Ledger) Top(channel string) (top engine.Position, n int) {
	r := l.channels[channel]
	r.mu.RLock()
	defer r.mu.RUnlock()
	return engine.Position{Epoch: r.epoch, Offset: uint64(len(r.streams[r.epoch]))}, len(r.order)
}

// counter counts up, and somebody may wait for it.
type counter struct {
	mu   sync.Mutex
	cond *sync.Cond
	n    int64
	over bool
}

// add counts one.
func (c *counter) add() {
	c.mu.Lock()
	if c.n++; c.cond != nil && c.n%16 == 0 {
		c.cond.Broadcast()
	}
	c.mu.Unlock()
}

func (c *counter) load() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// wait returns when about so many more were counted, or nobody counts any more.
func (c *counter) wait(more int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cond == nil {
		c.cond = sync.NewCond(&c.mu)
	}
	for until := c.n + more; c.n < until && !c.over; {
		c.cond.Wait()
	}
}

// end lets all go who wait.
func (c *counter) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over = true; c.cond != nil {
		c.cond.Broadcast()
	}
}
