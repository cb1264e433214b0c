package ws

import "bytes"

// Proto is the version of HTTP that a message is in. Every 1.x from 1.1 on is HTTP11 (RFC 9110
// section 2.5).
type Proto uint8

// The versions that ParseRequest and ParseResponse accept.
const (
	HTTP10 Proto = 10
	HTTP11 Proto = 11
)

// A Request is the head of an HTTP/1.x request. It is a set of views into the bytes that it was parsed
// from, valid as long as those; whatever its methods return aliases them and must not be changed.
type Request struct {
	head
	method, target int // ends of what starts at begin, and one behind it
	begin          int
	proto          Proto
}

// ParseRequest reads one request head from the front of b, n bytes with the empty line that ends it; a body or
// frames may follow. n == 0 with a nil error means "call again with more"; b must then start with
// the same bytes. A head longer than max bytes (max is at most 65535, which zero or less mean) is
// refused with 431, and so are more than 100 field lines.
//
// It is strict wherever two parsers could disagree (RFC 9112): each line ends in CRLF, no bare LF or
// CR, no NUL or other control character, no folding, no space before a colon, one Host in HTTP/1.1,
// one Content-Length and not together with Transfer-Encoding, no Transfer-Encoding in 1.0. One empty
// line before the request is skipped (section 2.2). Bytes that can never become a good head are
// refused before the head is complete. The error is always a *Refusal: 400, 431, or 505 for a
// version other than 1.x.
func ParseRequest(b []byte, max int) (req Request, n int, err error) {
	if ref := req.parse(b, max, &n); ref != nil {
		return Request{}, 0, ref
	}
	return req, n, nil
}

func (r *Request) parse(b []byte, max int, n *int) *Refusal {
	if max <= 0 || max > maxHead {
		max = maxHead
	}
	full := len(b) >= max
	if full {
		b = b[:max]
	}
	more := func() *Refusal {
		if full {
			return errHeadTooLarge
		}
		return nil
	}
	if len(b) == 0 {
		return more()
	}
	if b[0] == '\r' {
		if len(b) == 1 {
			return more()
		}
		if b[1] != '\n' {
			return errControlChar
		}
		r.begin = 2
	}
	// What does not start like a method is another protocol, a TLS hello for example.
	if len(b) > r.begin && charClass[b[r.begin]]&isToken == 0 {
		return errRequestLine
	}
	end, s := line(b, r.begin)
	if s == 0 {
		if ref := r.requestLine(b[r.begin:end]); ref != nil {
			return ref
		}
		*n, s = r.head.parse(b, end+2)
	}
	switch s {
	case 0:
		return r.check()
	case syntaxMore:
		return more()
	case syntaxBareLF:
		return errBareLF
	case syntaxControl:
		return errControlChar
	case syntaxFold:
		return errFold
	case syntaxTooMany:
		return errTooManyFields
	default:
		return errFieldName
	}
}

// requestLine reads method SP target SP version (RFC 9112 section 3).
func (r *Request) requestLine(l []byte) *Refusal {
	sp := bytes.IndexByte(l, ' ')
	if sp < 0 {
		return errRequestLine
	}
	if !token(l[:sp]) {
		return errMethod
	}
	r.method = sp
	rest := l[sp+1:]
	sp = bytes.IndexByte(rest, ' ')
	if sp < 0 {
		return errRequestLine
	}
	target, version := rest[:sp], rest[sp+1:]
	r.target = r.method + 1 + sp
	var ok bool
	if r.proto, ok = parseProto(version); !ok {
		return errRequestLine
	}
	if r.proto == 0 {
		return errVersion
	}
	if len(target) == 0 || !all(target, isTarget) {
		return errTarget
	}
	switch {
	case target[0] == '/':
	case string(l[:r.method]) == "CONNECT":
	case string(target) == "*" && string(l[:r.method]) == "OPTIONS":
	default:
		authority, _ := splitAbsolute(target)
		if len(authority) == 0 || !validHost(authority) {
			return errTarget
		}
	}
	return nil
}

// parseProto reads "HTTP/d.d". ok is false when v is not of this form; the version is 0 when it is not 1.x.
func parseProto(v []byte) (p Proto, ok bool) {
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' ||
		v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9' {
		return 0, false
	}
	switch {
	case v[5] != '1':
		return 0, true
	case v[7] == '0':
		return HTTP10, true
	}
	return HTTP11, true
}

// splitAbsolute splits a target in absolute form (section 3.2.2) into authority and path with query.
// authority is nil when the target is not in that form.
func splitAbsolute(target []byte) (authority, path []byte) {
	for _, scheme := range [...]string{"http://", "https://", "ws://", "wss://"} {
		if len(target) >= len(scheme) && equalFold(target[:len(scheme)], scheme) {
			rest := target[len(scheme):]
			if i := bytes.IndexAny(rest, "/?"); i >= 0 {
				return rest[:i], rest[i:]
			}
			return rest, rest[len(rest):]
		}
	}
	return nil, nil
}

// check holds the fields against what a recipient must not let pass (sections 3.2, 6.1, 6.3).
func (r *Request) check() *Refusal {
	host, hosts := []byte(nil), 0
	length, lengths := []byte(nil), 0
	transfer := false
	for i := range r.n {
		f := r.fields[i]
		switch f.nameEnd - f.name { // most names differ in length already
		case 4:
			if r.is(i, "Host") {
				host = r.value(i)
				hosts++
			}
		case 14:
			if r.is(i, "Content-Length") {
				length = r.value(i)
				lengths++
			}
		case 17:
			if r.is(i, "Transfer-Encoding") {
				transfer = true
			}
		}
	}
	switch {
	case hosts > 1:
		return errHostRepeated
	case hosts == 0 && r.proto == HTTP11:
		return errHostMissing
	case !validHost(host):
		return errHostInvalid
	case lengths > 1:
		return errLengthRepeated
	case lengths == 1 && transfer:
		return errLengthTransfer
	case lengths == 1 && !digits(length):
		return errLengthInvalid
	case transfer && r.proto == HTTP10:
		return errTransfer10
	}
	return nil
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 18
}

// validHost reports whether h is uri-host [ ":" port ] (RFC 9110 section 7.2), which may be empty.
func validHost(h []byte) bool {
	port := -1
	if len(h) > 0 && h[0] == '[' { // an IP literal
		end := bytes.IndexByte(h, ']')
		if end < 2 {
			return false
		}
		for _, c := range h[1:end] {
			if charClass[c]&isToken == 0 && c != ':' {
				return false
			}
		}
		if end+1 < len(h) {
			if h[end+1] != ':' {
				return false
			}
			port = end + 2
		}
	} else {
		for i, c := range h {
			if c == ':' {
				port = i + 1
				break
			}
			// reg-name: unreserved, sub-delims and percent-encoding (RFC 3986 section 3.2.2)
			if charClass[c]&isToken == 0 && c != '(' && c != ')' && c != ';' && c != '=' ||
				c == '^' || c == '`' || c == '|' || c == '#' {
				return false
			}
		}
	}
	if port >= 0 && port < len(h) {
		return digits(h[port:])
	}
	return true
}

// Method returns the method, as sent: methods are case-sensitive.
func (r *Request) Method() []byte { return r.b[r.begin : r.begin+r.method] }

// Target returns the request target as sent (RFC 9112 section 3.2).
func (r *Request) Target() []byte { return r.b[r.begin+r.method+1 : r.begin+r.target] }

// Path returns the path of the target, still percent-encoded: all in front of the query, without
// scheme and authority. It is "/" for an absolute target without one.
func (r *Request) Path() []byte {
	path, _, _ := bytes.Cut(r.pathQuery(), []byte{'?'})
	if len(path) == 0 {
		return slash
	}
	return path
}

var slash = []byte("/")

// Query returns what follows the first question mark of the target, still encoded; nil without one.
func (r *Request) Query() []byte {
	if _, query, ok := bytes.Cut(r.pathQuery(), []byte{'?'}); ok {
		return query
	}
	return nil
}

func (r *Request) pathQuery() []byte {
	t := r.Target()
	if t[0] != '/' {
		if authority, rest := splitAbsolute(t); authority != nil {
			return rest
		}
	}
	return t
}

// Proto returns the version of HTTP.
func (r *Request) Proto() Proto { return r.proto }

// Host returns the host and port that the request is for: the authority of an absolute target, else
// the Host field (RFC 9112 section 3.3). It is nil in HTTP/1.0 without one.
func (r *Request) Host() []byte {
	if t := r.Target(); t[0] != '/' {
		if authority, _ := splitAbsolute(t); authority != nil {
			return authority
		}
	}
	return r.Header("Host")
}

// Upgrade reports whether the request asks for a WebSocket: Upgrade has the element "websocket". It
// decides only whose the request is; Negotiate says what is wrong with it.
func (r *Request) Upgrade() bool { return r.HasToken("Upgrade", "websocket") }
