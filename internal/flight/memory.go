package flight

import "unsafe"

// copyWords copies bytes into words, and gives those as bytes.
func copyWords(words []uint64, b []byte) []byte {
	if len(words) == 0 {
		return nil
	}
	to := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
	copy(to, b)
	return to
}

// whole is a mapped file whose ring is given: the head lies before it.
func whole(ring []byte) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(&ring[0]), -headSize)), headSize+len(ring))
}
