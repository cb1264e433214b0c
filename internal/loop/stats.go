package loop

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Stats counts what one loop did. The loop writes; anybody may read at any time.
type Stats struct {
	Live       atomic.Int64  // conns now, refusals on their way included
	Accepted   atomic.Uint64 // taken from a listener, refused ones included
	Refused    atomic.Uint64 // accepted and turned away by Handler.Admit
	Adopted    atomic.Uint64 // entered by descriptor
	Connected  atomic.Uint64 // dialled
	Passed     atomic.Uint64 // left by descriptor
	Closed     atomic.Uint64
	Reads      atomic.Uint64 // read system calls that brought bytes
	Writes     atomic.Uint64
	BytesIn    atomic.Uint64
	BytesOut   atomic.Uint64
	QueueBytes atomic.Int64  // waiting in write queues now
	Shed       atomic.Uint64 // accepts that the kernel refused (descriptors or memory exhausted)
	Posts      atomic.Uint64
	Busy       atomic.Int64 // ns spent outside Wait
	Iteration  [IterationBuckets]atomic.Uint64
}

// IterationBuckets is the number of buckets of Stats.Iteration: bucket i counts iterations of less than
// 2^i µs (and not less than 2^(i-1)), the last one all that took longer.
const IterationBuckets = 24

func (s *Stats) iteration(d time.Duration) {
	s.Busy.Add(int64(d))
	b := bits.Len64(uint64(d / time.Microsecond))
	s.Iteration[min(b, IterationBuckets-1)].Add(1)
}
