package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"hash"
	"unicode/utf8"
)

// encoding is that of a token's three parts. It refuses padding and bits that mean nothing, so that a token has
// one spelling.
var encoding = base64.RawURLEncoding.Strict()

var dot = []byte{'.'}

// parsed is a token taken apart. Its bytes alias the token and the scratch.
type parsed struct {
	alg     algorithm
	kid     []byte
	signed  []byte // the bytes under the signature
	payload []byte // in base64
	sig     []byte // in base64, or decoded where alg is not of familyHMAC
}

// fromSet tells whether the key set has the token's key, if there is a set.
func (t parsed) fromSet() bool { return t.alg.family != familyHMAC && len(t.kid) > 0 }

// scratch is the memory that verifying one token takes.
type scratch struct {
	buf    []byte // the decoded parts of the token
	header header // aliases buf, as do claims
	claims claims
	macs   [3]hash.Hash
	sum    [sha512.Size]byte
}

// header is the raw JSON values of the header parameters that count, nil for what is absent.
type header struct {
	alg, kid, crit []byte
}

func (h *header) slot(key []byte) *[]byte {
	switch string(key) {
	case "alg":
		return &h.alg
	case "kid":
		return &h.kid
	case "crit":
		return &h.crit
	}
	return nil
}

// parse takes a token apart and reads its header.
func (s *scratch) parse(token []byte) (t parsed, err error) {
	if len(token) > MaxSize {
		return t, invalid("too long")
	}
	// encoding/base64 would skip line ends.
	if bytes.IndexByte(token, '\n') >= 0 || bytes.IndexByte(token, '\r') >= 0 {
		return t, invalid("line end")
	}
	var ok bool
	head, rest, _ := bytes.Cut(token, dot)
	if t.payload, t.sig, ok = bytes.Cut(rest, dot); !ok { // a third dot is no base64
		return t, invalid("not of three parts")
	}
	t.signed = token[:len(head)+1+len(t.payload)]
	if s.buf, err = encoding.AppendDecode(s.buf[:0], head); err != nil {
		return t, invalid("header")
	}
	h := &s.header
	*h = header{}
	if !object(s.buf, h.slot) {
		return t, invalid("header")
	}
	if h.crit != nil { // RFC 7515 section 4.1.11: we understand no extension
		return t, invalid("crit")
	}
	alg, err := text(h.alg)
	if err != nil {
		return t, invalid("alg")
	}
	if t.alg, ok = algorithms[string(alg)]; !ok {
		return t, ErrUnverifiable
	}
	if t.kid, err = text(h.kid); err != nil {
		return t, invalid("kid")
	}
	if t.sig, err = s.decode(t.sig); err != nil {
		return t, invalid("signature")
	}
	return t, nil
}

// decode decodes a part into memory of s that lasts until the next parse.
func (s *scratch) decode(part []byte) ([]byte, error) {
	at := len(s.buf)
	var err error
	s.buf, err = encoding.AppendDecode(s.buf, part)
	return s.buf[at:], err
}

// hmac tells whether sig is that of signed. secret must always be the same.
func (s *scratch) hmac(alg algorithm, secret, signed, sig []byte) bool {
	var i int
	switch alg.name {
	case "HS384":
		i = 1
	case "HS512":
		i = 2
	}
	mac := s.macs[i]
	if mac == nil {
		mac = hmac.New([]func() hash.Hash{sha256.New, sha512.New384, sha512.New}[i], secret)
		s.macs[i] = mac
	}
	mac.Reset()
	mac.Write(signed)
	return hmac.Equal(mac.Sum(s.sum[:0]), sig)
}

// object reads the JSON object b, strictly: one object, in UTF-8, and nothing after it. It puts the raw value of
// each member where slot has a place for its key, nil for none. A null counts as absent. It reports false for what
// is no object, and for a member that comes twice (RFC 7519 section 4).
func object(b []byte, slot func(key []byte) *[]byte) bool {
	if !json.Valid(b) || !utf8.Valid(b) {
		return false
	}
	w := walk{b: b}
	if w.next() != '{' {
		return false
	}
	for w.more() {
		key, err := text(w.value())
		if err != nil {
			return false
		}
		value := w.value()
		to := slot(key)
		if to == nil || string(value) == "null" {
			continue
		}
		if *to != nil {
			return false
		}
		*to = value
	}
	return true
}

// walk walks over one JSON object or array that encoding/json has found valid: it need not look out for errors.
type walk struct {
	b  []byte
	at int
}

// next skips what stands between values, and takes a byte.
func (w *walk) next() byte {
	for {
		c := w.b[w.at]
		w.at++
		switch c {
		case ' ', '\t', '\n', '\r', ',', ':':
		default:
			return c
		}
	}
}

// more tells whether there is another value before the end of the object or array.
func (w *walk) more() bool {
	c := w.next()
	w.at--
	return c != '}' && c != ']'
}

// value takes a value and returns its text.
func (w *walk) value() []byte {
	c := w.next()
	start := w.at - 1
	switch c {
	case '"':
		w.str()
	case '{', '[':
		for depth := 1; depth > 0; {
			switch c := w.b[w.at]; c {
			case '"':
				w.at++
				w.str()
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			w.at++
		}
	default:
		for {
			switch w.b[w.at] {
			case ' ', '\t', '\n', '\r', ',', '}', ']':
				return w.b[start:w.at]
			}
			w.at++
		}
	}
	return w.b[start:w.at]
}

// str takes the rest of a string, after its first quote.
func (w *walk) str() {
	for ; w.b[w.at] != '"'; w.at++ {
		if w.b[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
}

// text returns the string that a raw value is, and nil for nil. It may alias the value.
func text(raw []byte) ([]byte, error) {
	if raw == nil {
		return nil, nil
	}
	if raw[0] != '"' {
		return nil, ErrInvalid
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	return []byte(s), nil
}
