// Package sampling decides which lines of a log are written, and which spans are sent: all of a trace in which something failed
// or was slow, and all of a share of the others.
package sampling

import (
	"encoding/binary"
	"math"
	"time"
)

// ID names a trace. The zero ID names none.
type ID = [16]byte

// Trace is how a line stands to its trace.
type Trace struct {
	ID     ID
	Took   time.Duration // what the line tells of; 0: it is no call
	Failed bool
	First  bool // the trace has a new part, such as a conn, that ends with a line that is Last
	Last   bool // a part of the trace is over; where no other is open, the trace is
}

// Share is the part of all traces, from 0 to 1, that is kept whatever happens in them.
type Share float64

// Has reports whether a trace is in the share: always the same for one trace, here and in every other process.
func (s Share) Has(id ID) bool {
	switch {
	case s >= 1:
		return true
	case !(s > 0):
		return false
	}
	// Ids of others need not be random in every bit: mixed, all of an id decides.
	n := binary.BigEndian.Uint64(id[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(id[8:])
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	n ^= n >> 31
	return float64(n) < float64(s)*math.MaxUint64
}
