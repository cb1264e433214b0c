package ws

import "unicode/utf8"

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
	if u.need != 0 {
		n := u.finish(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	// All but a last sequence that is cut is for the standard library, which takes many bytes at a time.
	cut := len(b)
	for i := len(b) - 1; i >= 0 && i >= len(b)-3 && b[i] >= 0x80; i-- {
		if b[i] >= 0xc0 {
			if i+int(utf8Lead[b[i]].need) >= len(b) {
				cut = i
			}
			break
		}
	}
	if !utf8.Valid(b[:cut]) {
		*u = UTF8{need: utf8Dead}
		return false
	}
	if cut == len(b) {
		return true
	}
	*u = utf8Lead[b[cut]]
	return u.finish(b[cut+1:]) >= 0
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
