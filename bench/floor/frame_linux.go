//go:build linux

package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"math/bits"
)

const (
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa
)

// conn is the state of one connection. It has no pointers, so that a million of them cost the garbage
// collector nothing, and no descriptor, since that is its index in the loop's slab.
type conn struct {
	left  uint64   // payload bytes of the current frame that are still to come
	key   uint32   // its masking key, turned so that the lowest byte masks the next byte
	head  [13]byte // the front of a frame header whose end has not come yet
	nHead uint8    // how many bytes of head are used
	op    uint8    // opcode of the current frame
	phase phase
	ended bool // nothing more is read, and what is written now is the last
}

type phase uint8

const (
	closed    phase = iota
	handshake       // the request has not come completely
	open            // frames
	full            // the socket takes no more: nothing is read until the blocked bytes are out
)

// echo turns the client's frames in b into the server's answer, in place, and returns its length. An
// answer is never longer than what it answers, since a server does not mask. A frame whose end has not
// come is answered as far as it has: its length is known, so nothing is kept but the count. echo
// reports false when the client broke the protocol.
func (c *conn) echo(b []byte) (int, bool) {
	r, w := 0, 0 // read and written so far; w <= r
	for {
		n := int(min(c.left, uint64(len(b)-r)))
		if c.op != opPong { // a pong is an answer to nothing, and gets none
			c.key = unmask(b[w:w+n], b[r:r+n], c.key)
			w += n
		}
		r += n
		c.left -= uint64(n)
		c.ended = c.op == opClose && c.left == 0
		if c.left > 0 || c.ended || r == len(b) {
			return w, true
		}

		h := b[r:]
		if len(h) >= 2 && !allowed(h[0], h[1]) {
			return w, false
		}
		size := headerSize(h)
		if size > len(h) {
			c.nHead = uint8(copy(c.head[:], h))
			return w, true
		}
		c.op = h[0] & 0xf
		switch n := h[1] & 0x7f; n {
		case 126:
			c.left = uint64(binary.BigEndian.Uint16(h[2:]))
		case 127:
			c.left = binary.BigEndian.Uint64(h[2:])
		default:
			c.left = uint64(n)
		}
		c.key = binary.LittleEndian.Uint32(h[size-4:])
		r += size
		if c.op == opPong {
			continue
		}
		w += copy(b[w:], h[:size-4])
		b[w-size+5] &^= 0x80
		if c.op == opPing {
			b[w-size+4] ^= opPing ^ opPong
		}
	}
}

// allowed reports whether a client may send a frame that starts with these two bytes.
func allowed(b0, b1 byte) bool {
	op, length := b0&0xf, b1&0x7f
	switch {
	case b0&0x70 != 0: // an extension, and none was agreed
		return false
	case b1&0x80 == 0: // no mask
		return false
	case op >= opClose:
		return op <= opPong && b0&0x80 != 0 && length <= 125
	}
	return op <= opBinary
}

// headerSize returns the length of the masked frame header at the front of b, or 2 if b is shorter.
func headerSize(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	switch b[1] & 0x7f {
	case 126:
		return 8
	case 127:
		return 14
	}
	return 6
}

// unmask writes src, unmasked with key, to dst and returns the key for the byte after it. Both are
// equally long, and dst may start before src in the same array.
func unmask(dst, src []byte, key uint32) uint32 {
	next := bits.RotateLeft32(key, -8*(len(src)&3))
	k := uint64(key)<<32 | uint64(key)
	for len(src) >= 8 && len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^k)
		dst, src = dst[8:], src[8:]
	}
	for i := range src {
		dst[i] = src[i] ^ byte(k>>(8*i))
	}
	return next
}

var keyHeader = []byte("Sec-WebSocket-Key:")

// acceptKey returns what Sec-WebSocket-Accept has to be for a request, and false if it is no upgrade.
func acceptKey(request []byte) (accept [28]byte, ok bool) {
	for len(request) > 0 {
		var line []byte
		line, request, _ = bytes.Cut(request, []byte("\n"))
		if len(line) < len(keyHeader) || !bytes.EqualFold(line[:len(keyHeader)], keyHeader) {
			continue
		}
		key := bytes.TrimSpace(line[len(keyHeader):])
		if len(key) != 24 {
			break
		}
		var b [24 + 36]byte
		copy(b[copy(b[:], key):], "258EAFA5-E914-47DA-95CA-C5AB0DC85B11") // RFC 6455 section 1.3
		sum := sha1.Sum(b[:])
		base64.StdEncoding.Encode(accept[:], sum[:])
		return accept, true
	}
	return accept, false
}
