// Package arena is memory without pointers for many small things, addressed by 32-bit references: byte strings in an
// Arena, records in a Slab, and a hash table over records in a Table. A million of them are a few large allocations,
// and nothing for the garbage collector to follow. All of it belongs to one thread.
package arena

import (
	"encoding/binary"
	"math/bits"
)

// Memory is where chunks come from: zeroed memory outside the Go heap, whose pages cost something when they are first
// touched. In the heap they would let as much garbage pile up again before the collector runs. The zero value is the Go
// heap all the same.
type Memory struct {
	Map   func(n int) ([]byte, error)
	Unmap func(b []byte)
}

// take gives n bytes, and whether they are mapped: where the system has none, the heap may have some.
func (m *Memory) take(n int) (b []byte, mapped bool) {
	if m.Map != nil {
		if b, err := m.Map(n); err == nil {
			return b, true
		}
	}
	return make([]byte, n), false
}

func (m *Memory) give(b []byte, mapped bool) {
	if mapped {
		m.Unmap(b)
	}
}

// chunk is a piece of Memory.
type chunk struct {
	b      []byte
	mapped bool
}

// Arena keeps byte strings of up to Max bytes. The zero value is ready.
type Arena struct {
	Memory Memory // set before the first use

	chunks []chunk
	free   [classes]uint32 // by class: the first of a list of free blocks, each of which begins with the next's reference
	at     uint32          // units used of the last chunk
	used   int
}

const (
	// Max is the longest byte string, in bytes.
	Max = 1<<15 - header

	unit       = 8 // bytes; references count units
	header     = 2 // bytes before the content: its length
	chunkUnits = 1 << 16
	fine       = 32 // classes of 1 to 32 units, then four to each doubling
	classes    = fine + 4*7
)

// class is the size class of blocks that hold n units, and how many units they have.
func class(n uint32) (c int, units uint32) {
	if n <= fine {
		return int(n - 1), n
	}
	shift := bits.Len32(n-1) - 3 // a quarter of the power of two below n
	units = (n + 1<<shift - 1) >> shift << shift
	// For 32 < units ≤ 64, shift is 3, and units>>shift is 5 to 8.
	return fine + 4*(shift-3) + int(units>>shift) - 5, units
}

func unitsOf(n int) uint32 { return uint32(header+n+unit-1) / unit }

// Put keeps a copy of b, which has at most Max bytes, and gives its reference, which is never 0.
func (a *Arena) Put(b []byte) uint32 {
	ref := a.Make(len(b))
	copy(a.At(ref), b)
	return ref
}

// Make keeps n bytes of any content.
func (a *Arena) Make(n int) uint32 {
	if n > Max {
		panic("arena: too long")
	}
	c, units := class(unitsOf(n))
	a.used += int(units) * unit
	ref := a.free[c]
	if ref != 0 {
		a.free[c] = binary.LittleEndian.Uint32(a.block(ref))
	} else {
		if len(a.chunks) == 0 || a.at+units > chunkUnits {
			a.grow()
		}
		ref = uint32(len(a.chunks)-1)*chunkUnits + a.at
		a.at += units
	}
	binary.LittleEndian.PutUint16(a.block(ref), uint16(n))
	return ref
}

// grow gives what is left of the last chunk to the free lists, and takes another.
func (a *Arena) grow() {
	if len(a.chunks) > 0 {
		for a.at < chunkUnits {
			n := min(chunkUnits-a.at, fine)
			ref := uint32(len(a.chunks)-1)*chunkUnits + a.at
			binary.LittleEndian.PutUint32(a.block(ref), a.free[n-1])
			a.free[n-1] = ref
			a.at += n
		}
	}
	b, mapped := a.Memory.take(chunkUnits * unit)
	a.chunks = append(a.chunks, chunk{b, mapped})
	a.at = 0
	if len(a.chunks) == 1 {
		a.at = 1 // reference 0 is nobody's
	}
}

func (a *Arena) block(ref uint32) []byte {
	return a.chunks[ref/chunkUnits].b[ref%chunkUnits*unit:]
}

// At is the content of ref. It may be changed in place, and is valid until Free.
func (a *Arena) At(ref uint32) []byte {
	b := a.block(ref)
	return b[header : header+int(binary.LittleEndian.Uint16(b))]
}

// Free gives the memory of ref back. 0 is ignored.
func (a *Arena) Free(ref uint32) {
	if ref == 0 {
		return
	}
	b := a.block(ref)
	c, units := class(unitsOf(int(binary.LittleEndian.Uint16(b))))
	a.used -= int(units) * unit
	binary.LittleEndian.PutUint32(b, a.free[c])
	a.free[c] = ref
}

// Used is the number of bytes in use, rounded up to blocks.
func (a *Arena) Used() int { return a.used }

// Reset forgets everything and keeps no memory.
func (a *Arena) Reset() {
	for _, c := range a.chunks {
		a.Memory.give(c.b, c.mapped)
	}
	*a = Arena{Memory: a.Memory}
}
