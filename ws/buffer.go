package ws

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two from 128 bytes to 16 MiB, one pool a size. What is larger is left to
// the garbage collector.
const (
	minBufferBits = 7
	maxBufferBits = 24
)

// A buffer is held by pointer, so that putting it into a pool does not allocate.
type buffer struct{ b []byte }

var bufferPools [maxBufferBits - minBufferBits + 1]sync.Pool

// bufferClass returns the pool whose buffers hold n bytes; it may be past the last one.
func bufferClass(n int) int {
	if n <= 1<<minBufferBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minBufferBits
}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) *buffer {
	class := bufferClass(n)
	if class >= len(bufferPools) {
		return &buffer{make([]byte, 0, 1<<(class+minBufferBits))}
	}
	if v := bufferPools[class].Get(); v != nil {
		return v.(*buffer)
	}
	return &buffer{make([]byte, 0, 1<<(class+minBufferBits))}
}

func putBuffer(p *buffer) {
	if class := bufferClass(cap(p.b)); class < len(bufferPools) && cap(p.b) == 1<<(class+minBufferBits) {
		p.b = p.b[:0]
		bufferPools[class].Put(p)
	}
}

// growBuffer returns a buffer with the bytes of p and room for n more, p itself where it has it.
// Since sizes double, appending costs O(1) a byte whatever the pieces.
func growBuffer(p *buffer, n int) *buffer {
	if p == nil {
		return getBuffer(n)
	}
	if cap(p.b)-len(p.b) >= n {
		return p
	}
	q := getBuffer(len(p.b) + n)
	q.b = append(q.b, p.b...)
	putBuffer(p)
	return q
}
