package ws

import (
	"bytes"
	"iter"
)

// Limits of a head, whatever the caller allows.
const (
	maxHead   = 1<<16 - 1 // offsets are 16 bits
	maxFields = 100
)

// A head is the field section that requests and responses share (RFC 9112 sections 2.2 and 5), as
// offsets into the bytes it was parsed from.
type head struct {
	b      []byte
	n      int
	fields [maxFields]field
}

// A field is one field line: b[name:nameEnd] and b[value:valueEnd].
type field struct{ name, nameEnd, value, valueEnd uint16 }

// A syntax is what is wrong with a head; zero is nothing.
type syntax uint8

const (
	syntaxMore syntax = iota + 1 // nothing yet
	syntaxBareLF
	syntaxControl
	syntaxFold
	syntaxName
	syntaxTooMany
)

// Character classes of RFC 9110 section 5.6.2 and 5.5.
const (
	isToken  = 1 << iota // tchar
	isValue              // field-value: visible, obs-text, space, tab
	isTarget             // what a request target may hold: visible ASCII without '#'
)

var charClass = func() (t [256]uint8) {
	for c := range 256 {
		if c >= 0x20 && c != 0x7f || c == '\t' {
			t[c] |= isValue
		}
		if c > 0x20 && c < 0x7f {
			if c != '#' {
				t[c] |= isTarget
			}
			if bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), byte(c)) < 0 {
				t[c] |= isToken
			}
		}
	}
	return t
}()

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if charClass[c]&class == 0 {
			return false
		}
	}
	return true
}

// token reports whether b is one (RFC 9110 section 5.6.2).
func token(b []byte) bool { return len(b) > 0 && all(b, isToken) }

// line returns the end of the line that starts at b[start], without its CRLF. A line that has not
// ended is judged too: what can never become good is refused at once.
func line(b []byte, start int) (end int, s syntax) {
	rest := b[start:]
	nl := bytes.IndexByte(rest, '\n')
	if nl < 0 {
		if n := len(rest); n > 0 && rest[n-1] == '\r' {
			rest = rest[:n-1]
		}
		if !all(rest, isValue) {
			return 0, syntaxControl
		}
		return 0, syntaxMore
	}
	cr := max(nl-1, 0)
	if nl == 0 || rest[cr] != '\r' {
		cr = nl
	}
	// The first byte that is wrong decides, as it does when the line comes in pieces.
	if !all(rest[:cr], isValue) {
		return 0, syntaxControl
	}
	if cr == nl {
		return 0, syntaxBareLF
	}
	return start + cr, 0
}

// parse reads field lines from b[start:] up to the empty line and returns the length of the head.
func (h *head) parse(b []byte, start int) (n int, s syntax) {
	h.n = 0
	for {
		end, s := line(b, start)
		if s != 0 {
			return 0, s
		}
		if end == start {
			h.b = b[: end+2 : end+2]
			return end + 2, 0
		}
		l := b[start:end]
		if l[0] == ' ' || l[0] == '\t' {
			return 0, syntaxFold
		}
		colon := bytes.IndexByte(l, ':')
		if colon < 0 || !token(l[:colon]) {
			return 0, syntaxName
		}
		v, ve := colon+1, len(l)
		for v < ve && (l[v] == ' ' || l[v] == '\t') {
			v++
		}
		for ve > v && (l[ve-1] == ' ' || l[ve-1] == '\t') {
			ve--
		}
		if h.n == maxFields {
			return 0, syntaxTooMany
		}
		h.fields[h.n] = field{uint16(start), uint16(start + colon), uint16(start + v), uint16(start + ve)}
		h.n++
		start = end + 2
	}
}

// is reports whether field i has the name, whose case does not matter.
func (h *head) is(i int, name string) bool {
	f := h.fields[i]
	return int(f.nameEnd-f.name) == len(name) && equalFold(h.b[f.name:f.nameEnd], name)
}

func (h *head) value(i int) []byte {
	f := h.fields[i]
	return h.b[f.value:f.valueEnd:f.valueEnd]
}

// find returns the index of the first field of that name at or after i, or -1.
func (h *head) find(name string, i int) int {
	for ; i < h.n; i++ {
		if h.is(i, name) {
			return i
		}
	}
	return -1
}

// single returns the value of a field that must not be repeated.
func (h *head) single(name string) (value []byte, count int) {
	for i := h.find(name, 0); i >= 0; i = h.find(name, i+1) {
		if count == 0 {
			value = h.value(i)
		}
		count++
	}
	return value, count
}

// Header returns the value of the first field line of that name, in any case, without the white space
// around it; nil if there is none. An empty value is not nil.
func (h *head) Header(name string) []byte {
	if i := h.find(name, 0); i >= 0 {
		return h.value(i)
	}
	return nil
}

// Values ranges over the values of all field lines of that name, in their order. A list that is
// spread over several lines is not joined, and one in one line not split.
func (h *head) Values(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := h.find(name, 0); i >= 0; i = h.find(name, i+1) {
			if !yield(h.value(i)) {
				return
			}
		}
	}
}

// Each ranges over all field lines, name and value, in their order.
func (h *head) Each() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range h.n {
			f := h.fields[i]
			if !yield(h.b[f.name:f.nameEnd:f.nameEnd], h.value(i)) {
				return
			}
		}
	}
}

// HasToken reports whether the list of that name, over all its lines, has the token, both in any case: "Connection:
// keep-alive, close" has "close".
func (h *head) HasToken(name, tok string) bool {
	for i := h.find(name, 0); i >= 0; i = h.find(name, i+1) {
		for v := h.value(i); len(v) > 0; {
			var e []byte
			e, v = cutList(v)
			if equalFold(e, tok) {
				return true
			}
		}
	}
	return false
}

// cutList returns the first element of a comma-separated list of tokens, trimmed, and the rest.
func cutList(v []byte) (element, rest []byte) {
	if i := bytes.IndexByte(v, ','); i >= 0 {
		return trim(v[:i]), v[i+1:]
	}
	return trim(v), nil
}

// trim removes optional white space (RFC 9110 section 5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// equalFold compares as ASCII without regard to case: U+212A KELVIN SIGN is no k here.
func equalFold[T string | []byte](b []byte, s T) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}
