// Package plain is the protocol for a person with a WebSocket console and for small firmware: JSON text
// messages, an object each, with a "type".
//
//	client → gateway   {"type":"ping","ts":1700000000000}
//	gateway → client   {"type":"pong","ts":1700000000000}
//	gateway → client   {"type":"error","message":"unknown type"}
//
// It works on bytes: no socket, no clock. Unknown members are ignored.
package plain

import "errors"

// Kind is what a command asks for.
type Kind uint8

// The commands. Unknown is one whose type this version does not know.
const (
	Unknown Kind = iota
	Ping
	Pong // a client's answer to a ping of ours, or a bare sign of life; needs no reply
)

// Command is one message of a client. Its bytes alias the message.
type Command struct {
	Kind Kind
	TS   []byte // the raw JSON value of "ts", nil when absent
}

// Errors of Parse, in the words that AppendError sends.
var (
	ErrSyntax = errors.New("not a JSON object")
	ErrType   = errors.New("no type")
	ErrDeep   = errors.New("nested too deeply")
)

// maxDepth bounds the nesting of a value, so that a message cannot exhaust the stack.
const maxDepth = 32

// Parse reads one message, strictly: one JSON object (RFC 8259) and nothing after it. It allocates nothing.
func Parse(b []byte) (c Command, err error) {
	p := parser{b: b}
	if !p.next('{') {
		return c, ErrSyntax
	}
	var typ []byte
	for first := true; !p.next('}'); first = false {
		if !first && !p.next(',') {
			return c, ErrSyntax
		}
		key, ok := p.str()
		if !ok || !p.next(':') {
			return c, ErrSyntax
		}
		value, err := p.value(0)
		if err != nil {
			return c, err
		}
		switch string(key) {
		case "type":
			typ = value
		case "ts":
			c.TS = value
		}
	}
	p.space()
	if p.at != len(b) {
		return c, ErrSyntax
	}
	switch string(typ) {
	case "":
		return c, ErrType
	case `"ping"`:
		c.Kind = Ping
	case `"pong"`:
		c.Kind = Pong
	}
	return c, nil
}

// AppendPong appends the reply to a ping with its ts, which may be nil.
func AppendPong(dst, ts []byte) []byte {
	dst = append(dst, `{"type":"pong"`...)
	if ts != nil {
		dst = append(dst, `,"ts":`...)
		dst = append(dst, ts...)
	}
	return append(dst, '}')
}

// AppendError appends an error reply. message must need no escape in JSON.
func AppendError(dst []byte, message string) []byte {
	dst = append(dst, `{"type":"error","message":"`...)
	dst = append(dst, message...)
	return append(dst, `"}`...)
}

// parser walks over JSON text.
type parser struct {
	b  []byte
	at int
}

func (p *parser) space() {
	for p.at < len(p.b) {
		switch p.b[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next takes c, after white space, if it comes next.
func (p *parser) next(c byte) bool {
	p.space()
	if p.at < len(p.b) && p.b[p.at] == c {
		p.at++
		return true
	}
	return false
}

// str takes a string and returns what stands between its quotes, escapes as written.
func (p *parser) str() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	start := p.at
	for p.at < len(p.b) {
		switch c := p.b[p.at]; {
		case c == '"':
			p.at++
			return p.b[start : p.at-1], true
		case c < 0x20:
			return nil, false
		case c == '\\':
			if !p.escape() {
				return nil, false
			}
		default:
			p.at++
		}
	}
	return nil, false
}

func (p *parser) escape() bool {
	if p.at+1 >= len(p.b) {
		return false
	}
	switch p.b[p.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.at += 2
		return true
	case 'u':
		if p.at+6 > len(p.b) {
			return false
		}
		for _, c := range p.b[p.at+2 : p.at+6] {
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return false
			}
		}
		p.at += 6
		return true
	}
	return false
}

// value takes any value and returns its text.
func (p *parser) value(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, ErrDeep
	}
	p.space()
	start := p.at
	if p.at == len(p.b) {
		return nil, ErrSyntax
	}
	switch c := p.b[p.at]; {
	case c == '"':
		if _, ok := p.str(); !ok {
			return nil, ErrSyntax
		}
	case c == '{' || c == '[':
		if err := p.composite(c, depth); err != nil {
			return nil, err
		}
	case c == '-' || c >= '0' && c <= '9':
		if !p.number() {
			return nil, ErrSyntax
		}
	case p.word("true") || p.word("false") || p.word("null"):
	default:
		return nil, ErrSyntax
	}
	return p.b[start:p.at], nil
}

// composite takes an object or an array.
func (p *parser) composite(open byte, depth int) error {
	closing := open + 2 // '{' and '}', '[' and ']' are two apart
	p.at++
	for first := true; !p.next(closing); first = false {
		if !first && !p.next(',') {
			return ErrSyntax
		}
		if open == '{' {
			if _, ok := p.str(); !ok || !p.next(':') {
				return ErrSyntax
			}
		}
		if _, err := p.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) word(w string) bool {
	if len(p.b)-p.at >= len(w) && string(p.b[p.at:p.at+len(w)]) == w {
		p.at += len(w)
		return true
	}
	return false
}

func (p *parser) digits() bool {
	start := p.at
	for p.at < len(p.b) && p.b[p.at] >= '0' && p.b[p.at] <= '9' {
		p.at++
	}
	return p.at > start
}

func (p *parser) number() bool {
	if p.b[p.at] == '-' {
		p.at++
	}
	if p.at < len(p.b) && p.b[p.at] == '0' {
		p.at++
	} else if !p.digits() {
		return false
	}
	if p.at < len(p.b) && p.b[p.at] == '.' {
		p.at++
		if !p.digits() {
			return false
		}
	}
	if p.at < len(p.b) && p.b[p.at]|0x20 == 'e' {
		p.at++
		if p.at < len(p.b) && (p.b[p.at] == '+' || p.b[p.at] == '-') {
			p.at++
		}
		return p.digits()
	}
	return true
}
