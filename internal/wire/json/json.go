// Package json walks over JSON text (RFC 8259) in place, strictly and without allocating, and appends what needs care
// when JSON is written. A value is not decoded before somebody asks for it: what a message carries for others stays the
// bytes it came as.
//
// A Walker takes the bytes inside a string as they are. That they are UTF-8 is for its caller to know: a WebSocket text
// message was validated as it came in. Valid asks for UTF-8 by itself.
package json

import (
	"errors"
	"unicode/utf8"
)

// Errors of a Walker.
var (
	ErrSyntax = errors.New("json: syntax error")
	ErrType   = errors.New("json: a value of another type or range than expected")
	ErrDeep   = errors.New("json: nested too deeply")
)

// MaxDepth is how deeply objects and arrays may be nested in one value, at the most.
const MaxDepth = 512

// Walker walks over JSON text. The first error stays: whatever is asked afterwards answers with zero values, so that
// Err need be asked once only, at the end. What it returns aliases the text unless said otherwise.
type Walker struct {
	b     []byte
	at    int
	depth int
	key   []byte
	first bool // no member of the innermost object was taken yet
	err   error
}

// Walk returns a Walker over b whose values may be nested depth deep, which is at most MaxDepth.
func Walk(b []byte, depth int) Walker {
	return Walker{b: b, depth: min(depth, MaxDepth)}
}

// Valid reports whether b is one JSON value in UTF-8 that is nested at most MaxDepth deep.
func Valid(b []byte) bool {
	w := Walk(b, MaxDepth)
	w.Value()
	return w.End() && w.err == nil && utf8.Valid(b)
}

// Err returns the first error.
func (w *Walker) Err() error { return w.err }

// Fail makes err the error, unless there is one.
func (w *Walker) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// End reports, after white space, whether the text is at its end.
func (w *Walker) End() bool {
	w.Space()
	return w.at == len(w.b)
}

// Rest returns what was not taken yet.
func (w *Walker) Rest() []byte { return w.b[w.at:] }

// Space takes white space, and reports whether there was any.
func (w *Walker) Space() bool {
	start := w.at
	for w.at < len(w.b) {
		switch w.b[w.at] {
		case ' ', '\t', '\n', '\r':
			w.at++
			continue
		}
		break
	}
	return w.at > start
}

// Object takes the opening of an object. Its members follow by Member.
func (w *Walker) Object() {
	if w.Peek() != '{' {
		w.mismatch()
		return
	}
	w.at++
	w.first = true
}

// Member takes the name of the next member of the innermost object, which Key has then, and reports whether there is
// one; its value must be taken before the next. Where there is none it takes the end of the object.
func (w *Walker) Member() bool {
	if w.err != nil {
		return false
	}
	first := w.first
	w.first = false
	if w.take('}') {
		return false
	}
	if !first && !w.take(',') {
		w.Fail(ErrSyntax)
		return false
	}
	key, ok := w.str()
	if !ok || !w.take(':') {
		w.Fail(ErrSyntax)
		return false
	}
	w.key = key
	return true
}

// Key is the name that Member took, escapes as they were written: a name with an escape is none that anybody knows.
func (w *Walker) Key() []byte { return w.key }

// Peek returns the first byte of what comes next, after white space; 0 at the end and after an error.
func (w *Walker) Peek() byte {
	w.Space()
	if w.err != nil || w.at == len(w.b) {
		return 0
	}
	return w.b[w.at]
}

// Null takes a null, and reports whether it was one that came next.
func (w *Walker) Null() bool {
	return w.Peek() == 'n' && w.word("null")
}

// Value takes any value and returns its text.
func (w *Walker) Value() []byte {
	w.Space()
	start := w.at
	if w.err == nil {
		w.err = w.value()
	}
	if w.err != nil {
		return nil
	}
	return w.b[start:w.at]
}

// Raw takes a string and returns what stands between its quotes, escapes as they were written.
func (w *Walker) Raw() []byte {
	if w.Peek() != '"' {
		w.mismatch()
		return nil
	}
	raw, ok := w.str()
	if !ok {
		w.Fail(ErrSyntax)
	}
	return raw
}

// Text takes a string and returns its characters. Where it has escapes they are appended to buf, and the result
// aliases it.
func (w *Walker) Text(buf *[]byte) []byte {
	raw := w.Raw()
	if !Escaped(raw) {
		return raw
	}
	start := len(*buf)
	*buf = Unescape(*buf, raw)
	return (*buf)[start:len(*buf):len(*buf)]
}

// Bool takes true or false.
func (w *Walker) Bool() bool {
	switch c := w.Peek(); {
	case c == 't' && w.word("true"):
		return true
	case c == 'f' && w.word("false"):
	default:
		w.mismatch()
	}
	return false
}

// Uint64 takes a number of digits alone that is in range.
func (w *Walker) Uint64() uint64 {
	c := w.Peek()
	if c < '0' || c > '9' {
		w.mismatch()
		return 0
	}
	return w.magnitude()
}

// Uint32 takes a number of digits alone that is in range.
func (w *Walker) Uint32() uint32 {
	v := w.Uint64()
	if v > 1<<32-1 {
		w.Fail(ErrType)
		return 0
	}
	return uint32(v)
}

// Int64 takes a number of digits, and maybe a minus before them, that is in range.
func (w *Walker) Int64() int64 {
	if w.Peek() != '-' {
		v := w.Uint64()
		if v > 1<<63-1 {
			w.Fail(ErrType)
			return 0
		}
		return int64(v)
	}
	w.at++
	if w.at == len(w.b) || w.b[w.at] < '0' || w.b[w.at] > '9' {
		w.Fail(ErrSyntax)
		return 0
	}
	v := w.magnitude()
	if v > 1<<63 {
		w.Fail(ErrType)
		return 0
	}
	return int64(-v)
}

// Int32 takes a number of digits, and maybe a minus before them, that is in range.
func (w *Walker) Int32() int32 {
	v := w.Int64()
	if v != int64(int32(v)) {
		w.Fail(ErrType)
		return 0
	}
	return int32(v)
}

// magnitude takes digits, the first of which is there.
func (w *Walker) magnitude() (v uint64) {
	start := w.at
	for ; w.at < len(w.b) && w.b[w.at] >= '0' && w.b[w.at] <= '9'; w.at++ {
		d := uint64(w.b[w.at] - '0')
		if v > (1<<64-1-d)/10 {
			w.Fail(ErrType)
			return 0
		}
		v = v*10 + d
	}
	if w.b[start] == '0' && w.at > start+1 {
		w.Fail(ErrSyntax)
		return 0
	}
	if w.at < len(w.b) && (w.b[w.at] == '.' || w.b[w.at]|0x20 == 'e') {
		w.Fail(ErrType)
		return 0
	}
	return v
}

// mismatch fails for a value that is not of the type asked for: as a matter of type where it is a value at all.
func (w *Walker) mismatch() {
	if w.err != nil {
		return
	}
	if w.err = w.value(); w.err == nil {
		w.err = ErrType
	}
}

// take takes c, after white space, if it comes next.
func (w *Walker) take(c byte) bool {
	w.Space()
	if w.at < len(w.b) && w.b[w.at] == c {
		w.at++
		return true
	}
	return false
}

// value takes any value. Instead of calling itself it keeps a bit for every object or array that is open, so that
// depth costs no stack.
func (w *Walker) value() error {
	var objects [MaxDepth / 64]uint64 // a bit for each open one: 1 for an object, 0 for an array
	for depth := 0; ; {
		w.Space()
		if w.at == len(w.b) {
			return ErrSyntax
		}
		switch c := w.b[w.at]; {
		case c == '"':
			if _, ok := w.str(); !ok {
				return ErrSyntax
			}
		case c == '{' || c == '[':
			if depth == w.depth {
				return ErrDeep
			}
			w.at++
			word, bit := &objects[depth/64], uint64(1)<<(depth%64)
			depth++
			if c == '[' {
				*word &^= bit
				if !w.take(']') {
					continue
				}
			} else {
				*word |= bit
				if !w.take('}') {
					if !w.name() {
						return ErrSyntax
					}
					continue
				}
			}
			depth--
		case c == '-' || c >= '0' && c <= '9':
			if !w.number() {
				return ErrSyntax
			}
		case w.word("true") || w.word("false") || w.word("null"):
		default:
			return ErrSyntax
		}
		// A value has ended, and with it maybe those it is the last one of.
		for ; depth > 0; depth-- {
			object := objects[(depth-1)/64]>>((depth-1)%64)&1 == 1
			if w.take(',') {
				if object && !w.name() {
					return ErrSyntax
				}
				break
			}
			closing := byte(']')
			if object {
				closing = '}'
			}
			if !w.take(closing) {
				return ErrSyntax
			}
		}
		if depth == 0 {
			return nil
		}
	}
}

// name takes the name of a member and the colon after it.
func (w *Walker) name() bool {
	_, ok := w.str()
	return ok && w.take(':')
}

// str takes a string and returns what stands between its quotes.
func (w *Walker) str() ([]byte, bool) {
	if !w.take('"') {
		return nil, false
	}
	start := w.at
	for i := start; i < len(w.b); {
		switch c := w.b[i]; {
		case c == '"':
			w.at = i + 1
			return w.b[start:i:i], true
		case c < 0x20:
			return nil, false
		case c == '\\':
			n := escape(w.b[i:])
			if n == 0 {
				return nil, false
			}
			i += n
		default:
			i++
		}
	}
	return nil, false
}

// escape returns the length of the escape that b begins with, 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (w *Walker) word(s string) bool {
	if len(w.b)-w.at >= len(s) && string(w.b[w.at:w.at+len(s)]) == s {
		w.at += len(s)
		return true
	}
	return false
}

func (w *Walker) digits() bool {
	start := w.at
	for w.at < len(w.b) && w.b[w.at] >= '0' && w.b[w.at] <= '9' {
		w.at++
	}
	return w.at > start
}

func (w *Walker) number() bool {
	if w.b[w.at] == '-' {
		w.at++
	}
	if w.at < len(w.b) && w.b[w.at] == '0' {
		w.at++
	} else if !w.digits() {
		return false
	}
	if w.at < len(w.b) && w.b[w.at] == '.' {
		w.at++
		if !w.digits() {
			return false
		}
	}
	if w.at < len(w.b) && w.b[w.at]|0x20 == 'e' {
		w.at++
		if w.at < len(w.b) && (w.b[w.at] == '+' || w.b[w.at] == '-') {
			w.at++
		}
		return w.digits()
	}
	return true
}
