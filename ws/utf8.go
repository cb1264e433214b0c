package ws

import (
	"encoding/binary"
	"math/bits"
)

// UTF8 validates text that arrives in pieces (RFC 6455 section 8.1, RFC 3629). The zero value is
// ready to use, and a copy continues by itself. It fails at the first byte that no valid text could
// have at that place: an overlong form, a surrogate or a code point above U+10FFFF is refused at its
// second byte, not at its last.
type UTF8 struct {
	need uint8 // continuation bytes still missing; utf8Dead after a failure
	lo   uint8 // the next of them is in lo..hi
	hi   uint8
}

const utf8Dead = 0xff

// utf8Lead says for each byte that starts a sequence how many follow, and between which bounds the
// first of them lies; need == 0 marks what cannot start one. Table 3-7 of the Unicode Standard.
var utf8Lead = func() (t [256]UTF8) {
	fill := func(from, to int, e UTF8) {
		for c := from; c <= to; c++ {
			t[c] = e
		}
	}
	fill(0xc2, 0xdf, UTF8{1, 0x80, 0xbf})
	fill(0xe0, 0xe0, UTF8{2, 0xa0, 0xbf})
	fill(0xe1, 0xec, UTF8{2, 0x80, 0xbf})
	fill(0xed, 0xed, UTF8{2, 0x80, 0x9f})
	fill(0xee, 0xef, UTF8{2, 0x80, 0xbf})
	fill(0xf0, 0xf0, UTF8{3, 0x90, 0xbf})
	fill(0xf1, 0xf3, UTF8{3, 0x80, 0xbf})
	fill(0xf4, 0xf4, UTF8{3, 0x80, 0x8f})
	return t
}()

// Complete reports whether all that was written ends on a rune boundary. It is false after a failure.
func (u *UTF8) Complete() bool { return u.need == 0 }

// Write takes the next bytes of the text, and reports whether all so far can be the beginning of
// valid UTF-8. After false it stays false. b is not retained.
func (u *UTF8) Write(b []byte) bool {
	i := 0
	if u.need != 0 {
		if i = u.finish(b); i < 0 {
			return false
		}
	}
	for i < len(b) {
		if b[i] < 0x80 {
			i = skipASCII(b, i+1)
			continue
		}
		// Stay in this loop while the text is not ASCII: a run of CJK would pay for the attempt
		// at eight bytes with each rune.
		e := utf8Lead[b[i]]
		if e.need == 0 {
			*u = UTF8{need: utf8Dead}
			return false
		}
		s := b[i+1:]
		if len(s) < int(e.need) {
			*u = e
			return u.finish(s) >= 0
		}
		ok := s[0] >= e.lo && s[0] <= e.hi
		switch e.need {
		case 2:
			ok = ok && s[1]&0xc0 == 0x80
		case 3:
			ok = ok && s[1]&0xc0 == 0x80 && s[2]&0xc0 == 0x80
		}
		if !ok {
			*u = UTF8{need: utf8Dead}
			return false
		}
		i += 1 + int(e.need)
	}
	return true
}

// finish consumes the continuation bytes that are missing, as far as b has them, and returns how
// many it took, or -1.
func (u *UTF8) finish(b []byte) int {
	if u.need == utf8Dead {
		return -1
	}
	for i, c := range b {
		if u.need == 0 {
			return i
		}
		if c < u.lo || c > u.hi {
			*u = UTF8{need: utf8Dead}
			return -1
		}
		u.need--
		u.lo, u.hi = 0x80, 0xbf
	}
	return len(b)
}

// skipASCII returns the index of the first byte at or after i that is not ASCII.
func skipASCII(b []byte, i int) int {
	const high = 0x8080808080808080
	for len(b)-i >= 32 {
		p := b[i : i+32]
		w := binary.LittleEndian.Uint64(p) | binary.LittleEndian.Uint64(p[8:]) |
			binary.LittleEndian.Uint64(p[16:]) | binary.LittleEndian.Uint64(p[24:])
		if w&high != 0 {
			break
		}
		i += 32
	}
	for len(b)-i >= 8 {
		if w := binary.LittleEndian.Uint64(b[i:]) & high; w != 0 {
			return i + bits.TrailingZeros64(w)>>3
		}
		i += 8
	}
	for i < len(b) && b[i] < 0x80 {
		i++
	}
	return i
}
