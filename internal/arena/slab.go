package arena

import "unsafe"

// Slab keeps records of one type without pointers, addressed from 1. The zero value is ready. A record stays where it is
// until it is freed.
type Slab[T any] struct {
	Memory Memory // set before the first use

	records []*[slabChunk]T // what chunks hold
	chunks  []chunk
	free    []uint32
	fresh   uint32 // records that were ever used
}

const slabChunk = 1 << 12

// New gives the reference of a zeroed record. It is never 0.
func (s *Slab[T]) New() uint32 {
	var zero T
	if n := len(s.free); n > 0 {
		ref := s.free[n-1]
		s.free = s.free[:n-1]
		*s.At(ref) = zero
		return ref
	}
	if s.fresh%slabChunk == 0 {
		b, mapped := s.Memory.take(slabChunk * int(unsafe.Sizeof(zero)))
		s.chunks = append(s.chunks, chunk{b, mapped})
		s.records = append(s.records, (*[slabChunk]T)(unsafe.Pointer(unsafe.SliceData(b))))
	}
	s.fresh++
	return s.fresh
}

// At is the record of ref.
func (s *Slab[T]) At(ref uint32) *T { return &s.records[(ref-1)/slabChunk][(ref-1)%slabChunk] }

// Free gives a record back.
func (s *Slab[T]) Free(ref uint32) { s.free = append(s.free, ref) }

// Used is the highest reference that was ever given: those up to it can be walked through, free ones among them, which hold
// what their last user left.
func (s *Slab[T]) Used() uint32 { return s.fresh }

// Len is the number of records in use.
func (s *Slab[T]) Len() int { return int(s.fresh) - len(s.free) }

// Reset forgets everything and keeps no memory.
func (s *Slab[T]) Reset() {
	for _, c := range s.chunks {
		s.Memory.give(c.b, c.mapped)
	}
	*s = Slab[T]{Memory: s.Memory}
}
