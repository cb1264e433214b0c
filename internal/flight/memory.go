package flight

import "unsafe"

// whole is a mapped file whose ring is given: the head lies before it.
func whole(ring []byte) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(&ring[0]), -headSize)), headSize+len(ring))
}
