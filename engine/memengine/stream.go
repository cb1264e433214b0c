package memengine

import (
	"github.com/longwire/longwire/engine"
)

// What things cost beside their own bytes, for Options.MaxBytes: measured by BenchmarkMemoryPerStream, rounded up.
const (
	streamOverhead      = 240 // stream, its entry in the map, its places in the queues
	publicationOverhead = 80  // engine.Publication and its place in the ring
	infoOverhead        = 80  // engine.ClientInfo
	tagOverhead         = 48  // an entry of a map of strings
)

// stream is what is kept of one channel. All is guarded by shard.mu.
type stream struct {
	channel string
	epoch   string
	top     uint64 // the last offset given; never 0
	ring    []*engine.Publication
	first   int   // index in ring of the oldest publication
	n       int   // how many there are; their offsets end with top
	ttl     int64 // of a publication, in milliseconds
	meta    int64 // for how long the stream outlives its publications, in milliseconds
	idle    int64 // since when meta runs if n is 0, in Unix milliseconds

	due slot[*stream] // in shard.due, at dueAt or earlier
	age slot[*stream] // in shard.ages, at agedAt or earlier
}

// at is the publication i places after the oldest.
func (st *stream) at(i int) *engine.Publication {
	i += st.first
	if i >= len(st.ring) {
		i -= len(st.ring)
	}
	return st.ring[i]
}

// dueAt is when time takes the oldest publication, or the stream itself.
func (st *stream) dueAt() int64 {
	if st.n > 0 {
		return st.at(0).Time + st.ttl
	}
	return st.idle + st.meta
}

// agedAt is by what the streams are ordered that have to give when memory is short.
func (st *stream) agedAt() int64 {
	if st.n > 0 {
		return st.at(0).Time
	}
	return st.idle
}

// push adds p as the newest; size is HistorySize, and there is room.
func (st *stream) push(p *engine.Publication, size int) {
	if st.n == len(st.ring) {
		st.resize(min(max(2*st.n, 1), size))
	}
	i := st.first + st.n
	if i >= len(st.ring) {
		i -= len(st.ring)
	}
	st.ring[i] = p
	st.n++
}

// pop removes the oldest.
func (st *stream) pop() *engine.Publication {
	p := st.ring[st.first]
	st.ring[st.first] = nil
	if st.first++; st.first == len(st.ring) {
		st.first = 0
	}
	st.n--
	return p
}

// resize makes the ring hold size publications, which must not be fewer than there are.
func (st *stream) resize(size int) {
	if size == 0 {
		st.ring, st.first = nil, 0
		return
	}
	ring := make([]*engine.Publication, size)
	for i := range st.n {
		ring[i] = st.at(i)
	}
	st.ring, st.first = ring, 0
}

// fit frees a ring that has become much too large.
func (st *stream) fit() {
	switch {
	case st.n == 0:
		st.resize(0)
	case st.n <= len(st.ring)/4:
		st.resize(2 * st.n)
	}
}

// history is what f chooses.
func (st *stream) history(f engine.HistoryFilter) []*engine.Publication {
	// from and to are places after the oldest: what is chosen is from ≤ i < to.
	from, to := 0, st.n
	if f.Since != nil && st.n > 0 {
		oldest := st.top - uint64(st.n) + 1
		switch o := f.Since.Offset; {
		case o < oldest:
			if f.Reverse {
				to = 0
			}
		case o > st.top:
			if !f.Reverse {
				from = st.n
			}
		case f.Reverse:
			to = int(o - oldest)
		default:
			from = int(o-oldest) + 1
		}
	}
	n := to - from
	if f.Limit >= 0 {
		n = min(n, f.Limit)
	}
	if n == 0 {
		return nil
	}
	pubs := make([]*engine.Publication, n)
	for i := range pubs {
		if f.Reverse {
			pubs[i] = st.at(to - 1 - i)
		} else {
			pubs[i] = st.at(from + i)
		}
	}
	return pubs
}

// cost is what p counts for Options.MaxBytes. p is frozen, so it is the same whenever it is asked.
func cost(p *engine.Publication) int64 {
	n := publicationOverhead + len(p.Data)
	if p.Info != nil {
		n += infoOverhead + len(p.Info.Client) + len(p.Info.User) + len(p.Info.ConnInfo) + len(p.Info.ChanInfo)
	}
	for k, v := range p.Tags {
		n += tagOverhead + len(k) + len(v)
	}
	return int64(n)
}
