package journal

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	mathrand "math/rand/v2"
)

// Context is where in a trace something happens (W3C Trace Context).
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool // whoever began the trace records it
}

// contextLen is the length of a traceparent of version 00.
const contextLen = 55

// ParseContext reads a traceparent (W3C Trace Context, section 3.2.2).
func ParseContext[T string | []byte](v T) (c Context, ok bool) {
	// version "-" trace-id "-" parent-id "-" flags, of 2, 32, 16 and 2 digits; later versions may have more behind.
	if len(v) < contextLen || v[2] != '-' || v[35] != '-' || v[52] != '-' || string(v[:2]) == "ff" ||
		len(v) > contextLen && (v[contextLen] != '-' || string(v[:2]) == "00") {
		return Context{}, false
	}
	var version, flags [1]byte
	if !digits(version[:], v[:2]) || !digits(c.Trace[:], v[3:35]) || !digits(c.Span[:], v[36:52]) || !digits(flags[:], v[53:55]) {
		return Context{}, false
	}
	if c.Trace == ([16]byte{}) || c.Span == ([8]byte{}) {
		return Context{}, false
	}
	c.Sampled = flags[0]&1 != 0
	return c, true
}

// digits reads hexadecimal digits, which are lower case.
func digits[T string | []byte](dst []byte, s T) bool {
	for i := range len(s) {
		var d byte
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			d = c - '0'
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		default:
			return false
		}
		dst[i/2] = dst[i/2]<<4 | d
	}
	return true
}

// String is c as a traceparent.
func (c Context) String() string {
	b := append(make([]byte, 0, contextLen), "00-"...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = hex.AppendEncode(append(b, '-'), c.Span[:])
	if c.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// NewSpan is the number of a new span, at random and never 0.
func NewSpan() uint64 {
	for {
		if n := mathrand.Uint64(); n != 0 {
			return n
		}
	}
}

// NewTrace is a new trace, at random.
func NewTrace() (t [16]byte) {
	binary.BigEndian.PutUint64(t[:], NewSpan())
	binary.BigEndian.PutUint64(t[8:], NewSpan())
	return t
}

// IDs are the traces of conns that no client gave one: made of the conn under a key of the process, so that they are
// known as long as the conn's name is, and nothing has to be kept.
type IDs struct{ key [3]uint64 }

// NewIDs makes ids that no other process makes.
func NewIDs() (x IDs) {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails: see its documentation
	for i := range x.key {
		x.key[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return x
}

// Trace is the trace of a conn, and the span of its upgrade.
func (x IDs) Trace(conn uint64) (trace [16]byte, upgrade [8]byte) {
	binary.BigEndian.PutUint64(trace[:], mix(conn^x.key[0]))
	binary.BigEndian.PutUint64(trace[8:], mix(conn^x.key[1]))
	return trace, SpanID(mix(conn^x.key[2]) | 1)
}

// mix is the finalizer of splitmix64: every bit of n decides on every bit of what it returns, and no two have the same.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
