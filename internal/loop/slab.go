package loop

import "unsafe"

// none is no slot.
const none = ^uint32(0)

// slot is one conn: no pointers, so that a million of them are nothing to the collector. Loop-owned.
type slot struct {
	fd    int32
	gen   uint32 // of the conn in it; 0 when free
	next  uint32 // in the wheel's bucket, or in the free list
	prev  uint32 // in the wheel's bucket
	due   uint32 // tick of the timer, when flagTimer
	queue uint32 // write queue + 1; 0 when nothing waits
	flags slotFlags
}

type slotFlags uint16

const (
	flagTimer      slotFlags = 1 << iota // in the wheel
	flagBlocked                          // the socket is full; waits for write readiness
	flagDirty                            // in Loop.dirty
	flagPaused                           // the handler wants no data
	flagFinishing                        // no more data to the handler; ends when the queue is written
	flagLingering                        // our FIN is sent; waits for the peer's
	flagDoomed                           // in Loop.doomed, ends before the next event
	flagConnecting                       // waits for connect to end
	flagRefused                          // has no handler state: a refusal is on its way
	flagUnwatched                        // not in the poller
	flagDue                              // taken out of the wheel, fires in this tick
)

const slotSize = int(unsafe.Sizeof(slot{}))

// slab is the table of a loop's conns.
type slab struct {
	mem   []byte // what slots lies in
	slots []slot
	free  uint32 // list of freed slots
	fresh uint32 // slots from here on were never used since the last reset
	live  int
	gen   uint32
}

func newSlab(sys System, n int) (slab, error) {
	mem, err := sys.Map(n * slotSize)
	if err != nil {
		return slab{}, err
	}
	return slab{mem: mem, slots: unsafe.Slice((*slot)(unsafe.Pointer(&mem[0])), n), free: none}, nil
}

// take gives a slot with a new generation, or none when the slab is full.
func (s *slab) take() uint32 {
	i := s.free
	if i != none {
		s.free = s.slots[i].next
	} else {
		if int(s.fresh) == len(s.slots) {
			return none
		}
		i = s.fresh
		s.fresh++
	}
	s.gen++
	if s.gen == 0 {
		s.gen = 1
	}
	s.slots[i] = slot{fd: -1, gen: s.gen, next: none, prev: none}
	s.live++
	return i
}

// put frees slot i.
func (s *slab) put(i uint32) {
	s.slots[i] = slot{fd: -1, next: s.free}
	s.free = i
	s.live--
	if s.live == 0 {
		s.free, s.fresh = none, 0
	}
}
