package ws

import "bytes"

// A Response is the head of an HTTP/1.x response. Like a Request it is a set of views into the bytes
// that it was parsed from.
type Response struct {
	head
	status int
	proto  Proto
}

// A HandshakeError says why a handshake failed for the client.
type HandshakeError struct {
	// Status is that of the response, zero when it could not be parsed.
	Status int
	// Reason says in one line what is wrong.
	Reason string
}

// Error returns the reason.
func (e *HandshakeError) Error() string { return "ws: handshake: " + e.Reason }

// ParseResponse reads one response head from the front of b, n bytes with the empty line that ends it; frames or
// a body follow. n == 0 with a nil error means "call again with more". It is as strict as
// ParseRequest about lines and fields; max is as there. The error is a *HandshakeError. Whoever gets
// an interim response (1xx other than 101) should go on with what follows it.
func ParseResponse(b []byte, max int) (resp Response, n int, err error) {
	if e := resp.parse(b, max, &n); e != nil {
		return Response{}, 0, e
	}
	return resp, n, nil
}

var (
	errResponseTooLarge = &HandshakeError{Reason: "response head is too large"}
	errStatusLine       = &HandshakeError{Reason: "malformed status line"}
	errResponseVersion  = &HandshakeError{Reason: "HTTP version of the response is not 1.x"}
	errResponseLF       = &HandshakeError{Reason: "response line does not end in CRLF"}
	errResponseControl  = &HandshakeError{Reason: "control character in the response head"}
	errResponseFold     = &HandshakeError{Reason: "folded field line in the response"}
	errResponseName     = &HandshakeError{Reason: "malformed field name in the response"}
	errResponseFields   = &HandshakeError{Reason: "response has too many field lines"}
)

func (r *Response) parse(b []byte, max int, n *int) *HandshakeError {
	if max <= 0 || max > maxHead {
		max = maxHead
	}
	full := len(b) >= max
	if full {
		b = b[:max]
	}
	// What does not begin like HTTP will never end like it.
	if k := min(len(b), 5); string(b[:k]) != "HTTP/"[:k] {
		return errStatusLine
	}
	end, s := line(b, 0)
	if s == 0 {
		if e := r.statusLine(b[:end]); e != nil {
			return e
		}
		*n, s = r.head.parse(b, end+2)
	}
	switch s {
	case 0:
		return nil
	case syntaxMore:
		if full {
			return errResponseTooLarge
		}
		return nil
	case syntaxBareLF:
		return errResponseLF
	case syntaxControl:
		return errResponseControl
	case syntaxFold:
		return errResponseFold
	case syntaxTooMany:
		return errResponseFields
	default:
		return errResponseName
	}
}

// statusLine reads version SP 3DIGIT [ SP reason ] (RFC 9112 section 4).
func (r *Response) statusLine(l []byte) *HandshakeError {
	if len(l) < 12 || l[8] != ' ' || len(l) > 12 && l[12] != ' ' {
		return errStatusLine
	}
	p, ok := parseProto(l[:8])
	if !ok {
		return errStatusLine
	}
	if p == 0 {
		return errResponseVersion
	}
	r.proto = p
	for _, c := range l[9:12] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		r.status = r.status*10 + int(c-'0')
	}
	if r.status < 100 || r.status > 599 {
		return errStatusLine
	}
	return nil
}

// Status returns the status code, 100 to 599.
func (r *Response) Status() int { return r.status }

// Proto returns the version of HTTP.
func (r *Response) Proto() Proto { return r.proto }

// reason returns the text behind the status code.
func (r *Response) reason() []byte {
	l, _, _ := bytes.Cut(r.b, []byte("\r\n"))
	return bytes.TrimSpace(l[12:])
}
