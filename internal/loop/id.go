package loop

import "strconv"

// ID names one conn for its whole life in this process: loop, slot and generation. It is never reused
// within 2^32 conns of one loop, so a stale ID addresses nobody. The zero ID is no conn's.
type ID uint64

const (
	indexBits = 22
	genBits   = 32

	// MaxLoops and MaxSlots bound what an ID can name.
	MaxLoops = 1 << (64 - indexBits - genBits)
	MaxSlots = 1 << indexBits
)

func makeID(loop int, index, gen uint32) ID {
	return ID(uint64(loop)<<(indexBits+genBits) | uint64(index)<<genBits | uint64(gen))
}

// Loop is the index of the loop in its group.
func (id ID) Loop() int { return int(id >> (indexBits + genBits)) }

// Slot is the index of the conn in its loop.
func (id ID) Slot() uint32 { return uint32(id>>genBits) & (MaxSlots - 1) }

// Gen tells the users of one slot apart.
func (id ID) Gen() uint32 { return uint32(id) }

// String is the short form that logs and the console show.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 36) }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 36, 64)
	return ID(n), err
}
