package ws

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// An inflater decodes raw deflate data (RFC 1951) from one slice to another. A message is whole when
// it is inflated and starts with an empty window (no context takeover), so the output is the window,
// and all that is kept between messages is room for two code tables.
type inflater struct {
	src   []byte
	pos   int
	bits  uint64 // unread bits, the next one lowest
	nbits uint   // how many of them count

	out    *buffer
	start  int  // where the message begins in out
	max    int  // how many bytes out may come to hold
	pooled bool // out may be exchanged for one of the pool's
	own    buffer

	lit  [litSpace]uint32
	dist [distSpace]uint32
	lens [maxLitCodes + maxDistCodes]uint8
}

const (
	litBits   = 9
	distBits  = 8
	litSpace  = 1024 // 852 suffice for 286 symbols of up to 15 bits behind a root of 9
	distSpace = 512  // 402 suffice for 32 symbols of up to 15 bits behind a root of 8

	maxLitCodes  = 286 // RFC 1951 section 3.2.7, without the two that never occur
	maxDistCodes = 30
	maxCodeBits  = 15
)

// A table entry: bits 0-3 how many bits the code has (0: no such code), 4-7 how many extra bits follow
// it, or how many bits index the second table, 8-9 its kind, 16-31 its value.
const (
	kindLiteral = 0 << 8
	kindBase    = 1 << 8 // of a length or distance
	kindEnd     = 2 << 8
	kindTable   = 3 << 8
	kindMask    = 3 << 8
)

// The entries for the symbols, still without the bits of the code (RFC 1951 section 3.2.5).
var litSymbols, distSymbols = func() (lit [288]uint32, dist [32]uint32) {
	for i := range 256 {
		lit[i] = kindLiteral | uint32(i)<<16
	}
	lit[256] = kindEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		lit[257+i] = kindBase | extra<<4 | base<<16
		base += 1 << extra
	}
	lit[285] = kindBase | 258<<16
	base = 1
	for i := range 30 {
		extra := uint32(max(0, i/2-1))
		dist[i] = kindBase | extra<<4 | base<<16
		base += 1 << extra
	}
	return lit, dist
}()

// The fixed codes (section 3.2.6).
var fixedLit, fixedDist = func() (lit [litSpace]uint32, dist [distSpace]uint32) {
	var l [288]uint8
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	symbols := litSymbols // 286 and 287 take part in the code, and are refused when they occur
	makeTable(lit[:], litBits, l[:], symbols[:], false)
	var d [32]uint8
	for i := range d {
		d[i] = 5
	}
	makeTable(dist[:], distBits, d[:], distSymbols[:], false)
	return lit, dist
}()

// makeTable builds a decoding table of 1<<root entries, followed by the second tables, for the canonical
// code with these lengths (section 3.2.2), and reports whether the lengths make a code: neither
// oversubscribed nor incomplete, except for a code of a single bit, or of none at all, when lone is set.
func makeTable(table []uint32, root uint, lens []uint8, symbols []uint32, lone bool) bool {
	var count, next [maxCodeBits + 1]int
	longest := uint(0)
	for _, n := range lens {
		if n != 0 {
			count[n&15]++
			longest = max(longest, uint(n))
		}
	}
	clear(table[:1<<root])
	if longest == 0 {
		return lone
	}
	left, code := 1, 0
	for n := 1; n <= maxCodeBits; n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
		left = left<<1 - count[n]
		if left < 0 {
			return false
		}
	}
	if left > 0 && (!lone || longest != 1) {
		return false
	}
	free := uint(1) << root
	if longest > root {
		// A first pass finds how wide the second table behind each root entry has to be.
		again := next
		for _, l := range lens {
			n := uint(l & 15)
			if n == 0 {
				continue
			}
			rev := reverse(again[n], n)
			again[n]++
			if n > root {
				low := rev & (1<<root - 1)
				table[low] = max(table[low], uint32(n-root))
			}
		}
		for low, width := range table[:1<<root] {
			if width != 0 {
				if free+1<<width > uint(len(table)) {
					return false
				}
				table[low] = kindTable | width<<4 | uint32(root) | uint32(free)<<16
				clear(table[free : free+1<<width])
				free += 1 << width
			}
		}
	}
	for sym, l := range lens {
		n := uint(l & 15)
		if n == 0 {
			continue
		}
		rev := reverse(next[n], n)
		next[n]++
		e := symbols[sym]
		if e == 0 && sym != 0 {
			continue // 286, 287 and the distances 30, 31 have a place in the fixed codes and no meaning
		}
		if n <= root {
			e |= uint32(n)
			for i := rev; i < 1<<root; i += 1 << n {
				table[i] = e
			}
			continue
		}
		t := table[rev&(1<<root-1)]
		sub := table[t>>16:][:1<<(t>>4&15)]
		e |= uint32(n - root)
		for i := rev >> root; i < uint(len(sub)); i += 1 << (n - root) {
			sub[i] = e
		}
	}
	return true
}

// reverse returns the low n bits of code in the order in which they are read.
func reverse(code int, n uint) uint { return uint(bits.Reverse16(uint16(code)) >> (16 - n)) }

// inflate appends the message that src is the compressed form of to out, which it may exchange for a
// larger one of the pool when pooled, and returns it. The last block must be an empty stored one whose
// four bytes of length were removed (RFC 7692 section 7.2.1), or a final one with nothing behind it.
func (z *inflater) inflate(out *buffer, src []byte, limit int64, pooled bool) (*buffer, error) {
	z.src, z.pos, z.bits, z.nbits = src, 0, 0, 0
	z.out, z.start, z.pooled = out, len(out.b), pooled
	z.max = z.start + int(min(limit, int64(maxInt-z.start)))
	err := z.blocks()
	out = z.out
	z.src, z.out = nil, nil
	return out, err
}

const maxInt = int(^uint(0) >> 1)

func (z *inflater) blocks() error {
	for {
		z.refill()
		if z.nbits < 3 {
			return errBadDeflate
		}
		final := z.bits&1 != 0
		kind := z.bits >> 1 & 3
		z.take(3)
		var err error
		switch kind {
		case 0:
			z.take(z.nbits & 7)
			if z.nbits == 0 && z.pos == len(z.src) {
				return nil // what follows is the removed 00 00 ff ff
			}
			err = z.stored()
		case 1:
			err = z.block(&fixedLit, &fixedDist)
		case 2:
			if err = z.codes(); err == nil {
				err = z.block(&z.lit, &z.dist)
			}
		default:
			err = errBadDeflate
		}
		if err != nil {
			return err
		}
		if final {
			// A final block ends a stream on a byte boundary. Section 7.2.3.5: another one follows, if
			// only the header of the empty block. The window goes on.
			z.take(z.nbits & 7)
			if z.nbits == 0 && z.pos == len(z.src) {
				return nil
			}
		}
	}
}

// take consumes n bits, of which there must be as many.
func (z *inflater) take(n uint) {
	z.bits >>= n
	z.nbits -= n
}

// refill makes at least 56 bits ready, or all that are left.
func (z *inflater) refill() {
	if len(z.src)-z.pos >= 8 {
		z.bits |= binary.LittleEndian.Uint64(z.src[z.pos:]) << z.nbits
		z.pos += int(63-z.nbits) >> 3
		z.nbits |= 56
		return
	}
	for z.nbits < 56 && z.pos < len(z.src) {
		z.bits |= uint64(z.src[z.pos]) << z.nbits
		z.pos++
		z.nbits += 8
	}
}

// stored copies a stored block (RFC 1951 section 3.2.4), the bits being at a byte boundary.
func (z *inflater) stored() error {
	// Give back the bytes that were read ahead.
	z.pos -= int(z.nbits / 8)
	z.bits, z.nbits = 0, 0
	if len(z.src)-z.pos < 4 {
		return errBadDeflate
	}
	n := int(binary.LittleEndian.Uint16(z.src[z.pos:]))
	if n^0xffff != int(binary.LittleEndian.Uint16(z.src[z.pos+2:])) {
		return errBadDeflate
	}
	z.pos += 4
	if n > len(z.src)-z.pos {
		return errBadDeflate
	}
	if n > z.max-len(z.out.b) {
		return errMessageTooBig
	}
	z.room(n)
	z.out.b = append(z.out.b, z.src[z.pos:z.pos+n]...)
	z.pos += n
	return nil
}

// room makes room for n bytes in out.
func (z *inflater) room(n int) {
	switch {
	case cap(z.out.b)-len(z.out.b) >= n:
	case z.pooled:
		z.out = growBuffer(z.out, n)
	default:
		b := make([]byte, len(z.out.b), max(len(z.out.b)+n, min(2*cap(z.out.b), z.max), 64))
		copy(b, z.out.b)
		z.out.b = b
	}
}

// codeOrder is the order in which the lengths of the code length code come (section 3.2.7).
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

var codeSymbols = func() (s [19]uint32) {
	for i := range s {
		s[i] = uint32(i) << 16
	}
	return s
}()

// codes reads the two codes of a block (section 3.2.7) into z.lit and z.dist.
func (z *inflater) codes() error {
	z.refill()
	if z.nbits < 14 {
		return errBadDeflate
	}
	nlit := int(z.bits&31) + 257
	ndist := int(z.bits>>5&31) + 1
	ncode := int(z.bits>>10&15) + 4
	z.take(14)
	if nlit > maxLitCodes || ndist > maxDistCodes {
		return errBadDeflate
	}
	var cl [19]uint8
	for i := range ncode {
		if i&15 == 0 {
			z.refill()
		}
		if z.nbits < 3 {
			return errBadDeflate
		}
		cl[codeOrder[i]] = uint8(z.bits & 7)
		z.take(3)
	}
	// The table of the lengths' code is needed only until z.dist is built.
	const root = 7
	if !makeTable(z.dist[:], root, cl[:], codeSymbols[:], false) {
		return errBadDeflate
	}
	lens := z.lens[:nlit+ndist]
	for i := 0; i < len(lens); {
		z.refill()
		e := z.dist[z.bits&(1<<root-1)]
		n := uint(e & 15)
		if n == 0 || n > z.nbits {
			return errBadDeflate
		}
		z.take(n)
		sym := uint8(e >> 16)
		if sym < 16 {
			lens[i] = sym
			i++
			continue
		}
		var value uint8
		var extra uint
		repeat := 3
		switch sym {
		case 16:
			if i == 0 {
				return errBadDeflate
			}
			value, extra = lens[i-1], 2
		case 17:
			extra = 3
		default:
			extra, repeat = 7, 11
		}
		if z.nbits < extra {
			return errBadDeflate
		}
		repeat += int(z.bits & (1<<extra - 1))
		z.take(extra)
		if repeat > len(lens)-i {
			return errBadDeflate
		}
		for range repeat {
			lens[i] = value
			i++
		}
	}
	if lens[256] == 0 {
		return errBadDeflate // the block could never end
	}
	if !makeTable(z.lit[:], litBits, lens[:nlit], litSymbols[:], true) ||
		!makeTable(z.dist[:], distBits, lens[nlit:], distSymbols[:], true) {
		return errBadDeflate
	}
	return nil
}

// block inflates the symbols of one block (section 3.2.3) up to its end.
func (z *inflater) block(lit *[litSpace]uint32, dist *[distSpace]uint32) error {
	out := z.out.b
	for {
		// 48 bits hold the longest pair of length and distance.
		if z.nbits < 48 {
			z.refill()
		}
		e := lit[z.bits&(1<<litBits-1)]
		if e&kindMask == kindTable && z.nbits >= litBits {
			z.take(litBits)
			e = lit[(e>>16+uint32(z.bits)&(1<<(e>>4&15)-1))&(litSpace-1)]
		}
		n := uint(e & 15)
		if n == 0 || n > z.nbits {
			return errBadDeflate
		}
		z.take(n)
		switch e & kindMask {
		case kindLiteral:
			if len(out) == cap(out) || len(out) >= z.max {
				if len(out) >= z.max {
					return errMessageTooBig
				}
				z.out.b = out
				z.room(1)
				out = z.out.b
			}
			out = append(out, byte(e>>16))
			continue
		case kindEnd:
			z.out.b = out
			return nil
		case kindTable:
			return errBadDeflate // the input ended inside a code
		}

		n = uint(e >> 4 & 15)
		if n > z.nbits {
			return errBadDeflate
		}
		length := int(e>>16) + int(z.bits&(1<<n-1))
		z.take(n)

		e = dist[z.bits&(1<<distBits-1)]
		if e&kindMask == kindTable && z.nbits >= distBits {
			z.take(distBits)
			e = dist[(e>>16+uint32(z.bits)&(1<<(e>>4&15)-1))&(distSpace-1)]
		}
		n = uint(e & 15)
		if n == 0 || n > z.nbits || e&kindMask != kindBase {
			return errBadDeflate
		}
		z.take(n)
		n = uint(e >> 4 & 15)
		if n > z.nbits {
			return errBadDeflate
		}
		distance := int(e>>16) + int(z.bits&(1<<n-1))
		z.take(n)

		if distance > len(out)-z.start {
			return errBadDeflate // before the beginning of the message: there is no earlier context
		}
		if length > z.max-len(out) {
			return errMessageTooBig
		}
		if length > cap(out)-len(out) {
			z.out.b = out
			z.room(length)
			out = z.out.b
		}
		from := len(out) - distance
		to := len(out)
		out = out[:to+length]
		if distance >= length {
			copy(out[to:], out[from:from+length])
			continue
		}
		// Each copy doubles what repeats.
		for to < len(out) {
			to += copy(out[to:], out[from:to])
		}
	}
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// Inflate appends the message that src is the compressed form of (RFC 7692 section 7.2.2: raw deflate
// without the trailing 00 00 ff ff, no context taken over) to dst. It never makes more than limit
// bytes: a message that is larger is a *CloseError with 1009 (message_too_big); what is not valid
// or not complete is one with 1007 (bad_deflate). On an error dst is returned as it was. A limit of
// zero or less means DefaultMaxMessage. src is not retained, and must not overlap dst's free space.
func Inflate(dst, src []byte, limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultMaxMessage
	}
	z := inflaters.Get().(*inflater)
	z.own.b = dst
	_, err := z.inflate(&z.own, src, limit, false)
	out := z.own.b
	z.own.b = nil
	inflaters.Put(z)
	if err != nil {
		return dst, err
	}
	return out, nil
}
