package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"strconv"
)

// A Policy is what a server agrees to in a handshake. The zero value accepts browsers on pages of the
// same host and everyone who is not a browser, without subprotocol and compression. It is read only.
type Policy struct {
	// Origins says which pages may connect (RFC 6455 section 10.2). A request without an Origin
	// does not come from a browser and is always let in. nil means the same host as the
	// request's, whatever the scheme. Otherwise each element is "*" (any), an exact origin such as
	// "https://a.example" or "https://a.example:8443", or one with a wildcard for one or more
	// labels, "https://*.example.com", which does not include example.com itself. A default port
	// may be left out on both sides. The opaque origin "null" has to be listed by that name.
	Origins []string
	// Subprotocols lists those that the server speaks, the preferred one first. The first that
	// the client offers too is chosen; without one the handshake succeeds without a subprotocol.
	Subprotocols []string
	// Deflate lets clients have permessage-deflate.
	Deflate bool
}

// A Handshake is one that succeeded.
type Handshake struct {
	// Subprotocol is the chosen one, "" for none. It is one of the strings of the Policy or Dial.
	Subprotocol string
	// Deflate is what was agreed on about compression.
	Deflate Deflate

	accept [28]byte
	echo   bool // the offer had server_max_window_bits: the response has it too
}

const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// acceptKey returns Sec-WebSocket-Accept for a key as sent (RFC 6455 section 4.2.2).
func acceptKey(key *[24]byte) (accept [28]byte) {
	var b [24 + len(acceptGUID)]byte
	copy(b[:], key[:])
	copy(b[24:], acceptGUID)
	sum := sha1.Sum(b[:])
	base64.StdEncoding.Encode(accept[:], sum[:])
	return accept
}

// validKey reports whether key is the base64 of 16 bytes.
func validKey(key []byte) bool {
	if len(key) != 24 {
		return false
	}
	var b [18]byte
	n, err := base64.StdEncoding.Decode(b[:], key)
	return err == nil && n == 16
}

// Negotiate decides on the handshake that r asks for (RFC 6455 section 4.2, RFC 7692 section 7.1). One
// of the results is set: the Handshake, to be answered with AppendResponse, or the Refusal, for
// AppendRefusal: 405 for a method other than GET, 426 when Upgrade or version 13 is missing, 403 for
// an Origin that p does not allow, and 400 for everything that is malformed, repeated or missing.
// The Handshake does not alias r.
func Negotiate(r *Request, p *Policy) (h Handshake, ref *Refusal) {
	if ref := r.checkUpgrade(); ref != nil {
		return Handshake{}, ref
	}
	key, keys := r.single("Sec-WebSocket-Key")
	switch {
	case keys == 0:
		return Handshake{}, errKeyMissing
	case keys > 1:
		return Handshake{}, errKeyRepeated
	case !validKey(key):
		return Handshake{}, errKeyInvalid
	}
	if ref := r.checkOrigin(p.Origins); ref != nil {
		return Handshake{}, ref
	}
	if h.Subprotocol, ref = r.subprotocol(p.Subprotocols); ref != nil {
		return Handshake{}, ref
	}
	if ref := r.deflate(&h, p.Deflate); ref != nil {
		return Handshake{}, ref
	}
	h.accept = acceptKey((*[24]byte)(key))
	return h, nil
}

// checkUpgrade holds against section 4.2.1 what is not about the WebSocket's own fields, and the version.
func (r *Request) checkUpgrade() *Refusal {
	if string(r.Method()) != "GET" {
		return errNotGet
	}
	if r.proto != HTTP11 {
		return errHTTP10
	}
	if !r.Upgrade() {
		return errNoUpgrade
	}
	if !r.HasToken("Connection", "upgrade") {
		return errNoConnection
	}
	for _, c := range r.Header("Content-Length") {
		if c != '0' {
			return errBody
		}
	}
	if r.find("Transfer-Encoding", 0) >= 0 {
		return errBody
	}
	switch version, n := r.single("Sec-WebSocket-Version"); {
	case n == 0:
		return errVersionMissing
	case n > 1:
		return errVersionRepeated
	case string(version) != "13":
		return errVersionOther
	}
	return nil
}

func (r *Request) checkOrigin(allowed []string) *Refusal {
	origin, n := r.single("Origin")
	switch {
	case n == 0:
		return nil
	case n > 1:
		return errOriginRepeated
	case allowed == nil:
		if !sameHost(origin, r.Host()) {
			return errOrigin
		}
		return nil
	}
	for _, a := range allowed {
		if a == "*" || originMatches(origin, a) {
			return nil
		}
	}
	return errOrigin
}

// splitOrigin splits scheme://host[:port], and drops a port that is the scheme's default.
func splitOrigin[T string | []byte](o T) (scheme, host T) {
	for i := 0; i+2 < len(o); i++ {
		if o[i] == ':' && o[i+1] == '/' && o[i+2] == '/' {
			scheme, host = o[:i], o[i+3:]
			return scheme, host[:len(host)-defaultPort(scheme, host)]
		}
	}
	return o[:0], o[:0]
}

// defaultPort returns how long the ":port" of host is if it is the default of an HTTP scheme, else zero.
func defaultPort[T, U string | []byte](scheme T, host U) int {
	s, port := []byte(nil), ""
	switch len(scheme) {
	case 4:
		s, port = httpScheme, ":80"
	case 5:
		s, port = httpsScheme, ":443"
	default:
		return 0
	}
	if equalFold(s, scheme) && len(host) > len(port) && string(host[len(host)-len(port):]) == port {
		return len(port)
	}
	return 0
}

var httpScheme, httpsScheme = []byte("http"), []byte("https")

func sameHost(origin, host []byte) bool {
	scheme, h := splitOrigin(origin)
	if len(h) == 0 {
		return false
	}
	return equalFold(h, host[:len(host)-defaultPort(scheme, host)])
}

func originMatches(origin []byte, allowed string) bool {
	if string(origin) == allowed {
		return true
	}
	scheme, host := splitOrigin(origin)
	wantScheme, want := splitOrigin(allowed)
	if len(host) == 0 || len(want) == 0 || !equalFold(scheme, wantScheme) {
		return false
	}
	if len(want) > 2 && want[0] == '*' && want[1] == '.' {
		suffix := want[1:]
		if len(host) <= len(suffix) || !equalFold(host[len(host)-len(suffix):], suffix) {
			return false
		}
		// What the star stands for is made of labels, so "https://evil/.example.com" is none.
		for _, c := range host[:len(host)-len(suffix)] {
			if c == '/' || c == ':' || c == '@' || c == '?' || c == '#' || c == '[' || c == '\\' || c <= ' ' {
				return false
			}
		}
		return host[0] != '.'
	}
	return equalFold(host, want)
}

// maxOffered bounds the subprotocols of one request, since each is compared to the others.
const maxOffered = 64

// subprotocol chooses one (section 4.2.2), after holding the field against its grammar: 1#token, all
// different (section 4.1).
func (r *Request) subprotocol(speak []string) (string, *Refusal) {
	const name = "Sec-WebSocket-Protocol"
	i := r.find(name, 0)
	if i < 0 {
		return "", nil
	}
	var offered [maxOffered][]byte
	n := 0
	for ; i >= 0; i = r.find(name, i+1) {
		for v := r.value(i); len(v) > 0; {
			var e []byte
			if e, v = cutList(v); len(e) == 0 {
				continue
			}
			if !token(e) {
				return "", errProtocolInvalid
			}
			if n == maxOffered {
				return "", errProtocolMany
			}
			for _, o := range offered[:n] {
				if bytes.Equal(o, e) {
					return "", errProtocolRepeated
				}
			}
			offered[n] = e
			n++
		}
	}
	if n == 0 {
		return "", errProtocolInvalid
	}
	for _, s := range speak {
		for _, o := range offered[:n] {
			if string(o) == s {
				return s, nil
			}
		}
	}
	return "", nil
}

// deflate takes the first acceptable offer of permessage-deflate (RFC 7692 section 5.1).
func (r *Request) deflate(h *Handshake, allowed bool) *Refusal {
	ok := r.extensions(func(e extension) bool {
		if !allowed || e.bad || string(e.name) != deflateName {
			return allowed
		}
		h.Deflate = Deflate{On: true, Window: MaxWindow}
		if e.serverWindow != 0 {
			h.Deflate.Window = e.serverWindow
			h.echo = true
		}
		return false
	})
	if !ok {
		return errExtensionsInvalid
	}
	return nil
}

// AppendResponse appends the 101 response that agrees to h (RFC 6455 section 4.2.2). extra is put in
// as it is: more field lines, each with its CRLF, or "".
func AppendResponse(dst []byte, h *Handshake, extra string) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = append(dst, h.accept[:]...)
	if h.Subprotocol != "" {
		dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		dst = append(dst, h.Subprotocol...)
	}
	if h.Deflate.On {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
		if h.echo {
			dst = append(dst, "; server_max_window_bits="...)
			dst = strconv.AppendUint(dst, uint64(h.Deflate.Window), 10)
		}
	}
	dst = append(dst, "\r\n"...)
	dst = append(dst, extra...)
	return append(dst, "\r\n"...)
}
