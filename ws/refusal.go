package ws

import "strconv"

// A Refusal is the HTTP answer to a request that does not become a WebSocket, as an error. The ones
// that this package returns are shared and must not be modified; making one does not allocate.
type Refusal struct {
	// Status is the HTTP status, 400 to 599. AppendRefusal writes 500 for anything else.
	Status int
	// Reason says in one line what is wrong. It is the body of the answer, as plain text.
	Reason string
	// RetryAfter is for how many seconds the client should stay away. Zero or less says nothing
	// about it. It suits 503 and 429.
	RetryAfter int
	// Challenge is the WWW-Authenticate of a 401, which must have one (RFC 9110 section 15.5.2).
	// Empty means "Bearer".
	Challenge string
}

// Error returns the status and the reason.
func (r *Refusal) Error() string {
	return "ws: " + strconv.Itoa(r.Status) + " " + statusText(r.Status) + ": " + r.Reason
}

func bad(reason string) *Refusal { return &Refusal{Status: 400, Reason: reason} }

var (
	errRequestLine    = bad("malformed request line")
	errMethod         = bad("method is not a token")
	errTarget         = bad("malformed request target")
	errBareLF         = bad("line does not end in CRLF")
	errControlChar    = bad("control character in the head")
	errFold           = bad("folded field line")
	errFieldName      = bad("field name is missing, is not a token or is not followed by a colon")
	errHostMissing    = bad("Host is missing")
	errHostRepeated   = bad("Host is repeated")
	errHostInvalid    = bad("Host is not a host and port")
	errLengthInvalid  = bad("Content-Length is not a number")
	errLengthRepeated = bad("Content-Length is repeated")
	errLengthTransfer = bad("Content-Length together with Transfer-Encoding")
	errTransfer10     = bad("Transfer-Encoding in HTTP/1.0")
	errHeadTooLarge   = &Refusal{Status: 431, Reason: "request head is too large"}
	errTooManyFields  = &Refusal{Status: 431, Reason: "request has too many field lines"}
	errVersion        = &Refusal{Status: 505, Reason: "HTTP version is not 1.x"}

	errNotGet            = &Refusal{Status: 405, Reason: "a WebSocket handshake is a GET"}
	errHTTP10            = bad("a WebSocket handshake needs HTTP/1.1")
	errNoUpgrade         = &Refusal{Status: 426, Reason: "Upgrade does not name websocket"}
	errNoConnection      = bad("Connection does not name upgrade")
	errBody              = bad("a WebSocket handshake has no body")
	errVersionRepeated   = bad("Sec-WebSocket-Version is repeated")
	errVersionMissing    = &Refusal{Status: 426, Reason: "Sec-WebSocket-Version is missing"}
	errVersionOther      = &Refusal{Status: 426, Reason: "Sec-WebSocket-Version is not 13"}
	errKeyMissing        = bad("Sec-WebSocket-Key is missing")
	errKeyRepeated       = bad("Sec-WebSocket-Key is repeated")
	errKeyInvalid        = bad("Sec-WebSocket-Key is not 16 bytes in base64")
	errProtocolInvalid   = bad("Sec-WebSocket-Protocol is not a list of tokens")
	errProtocolRepeated  = bad("Sec-WebSocket-Protocol names a protocol twice")
	errProtocolMany      = bad("Sec-WebSocket-Protocol names too many protocols")
	errExtensionsInvalid = bad("Sec-WebSocket-Extensions is malformed")
	errOriginRepeated    = bad("Origin is repeated")
	errOrigin            = &Refusal{Status: 403, Reason: "Origin is not allowed"}
)

// AppendRefusal appends the complete HTTP/1.1 response that r stands for; the connection is to be
// closed after it. It has Content-Type and Content-Length, and what the status demands: Allow (405),
// Sec-WebSocket-Version and Upgrade (426), WWW-Authenticate (401). Control characters in Reason and
// Challenge become spaces.
func AppendRefusal(dst []byte, r *Refusal) []byte {
	status := r.Status
	if status < 400 || status > 599 {
		status = 500
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusText(status)...)
	if status == 426 {
		// Whoever sends Upgrade also sends the connection option (RFC 9110 section 7.8).
		dst = append(dst, "\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"...)
	} else {
		dst = append(dst, "\r\nConnection: close"...)
	}
	switch status {
	case 401:
		dst = append(dst, "\r\nWWW-Authenticate: "...)
		if r.Challenge == "" {
			dst = append(dst, "Bearer"...)
		} else {
			dst = appendLine(dst, r.Challenge)
		}
	case 405:
		dst = append(dst, "\r\nAllow: GET"...)
	}
	if r.RetryAfter > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64(r.RetryAfter), 10)
	}
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Reason)+1), 10)
	dst = append(dst, "\r\n\r\n"...)
	dst = appendLine(dst, r.Reason)
	return append(dst, '\n')
}

// appendLine appends s as it may stand in one line.
func appendLine(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if charClass[c]&isValue == 0 {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}

// statusText returns the reason phrase of RFC 9110 section 15 (and RFC 6585), for the statuses that
// a gateway may answer with.
func statusText(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 411:
		return "Length Required"
	case 412:
		return "Precondition Failed"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 421:
		return "Misdirected Request"
	case 422:
		return "Unprocessable Content"
	case 425:
		return "Too Early"
	case 426:
		return "Upgrade Required"
	case 428:
		return "Precondition Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 451:
		return "Unavailable For Legal Reasons"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	case 507:
		return "Insufficient Storage"
	case 511:
		return "Network Authentication Required"
	}
	if status >= 500 {
		return "Server Error"
	}
	return "Refused"
}
