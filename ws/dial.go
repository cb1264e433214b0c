package ws

import (
	"encoding/base64"
	"fmt"
)

// A Dial is what a client asks for in a handshake. It is read only. None of its strings is checked:
// they must be free of control characters, and Header made of whole lines.
type Dial struct {
	// Host is the host and, unless it is the scheme's default, the port.
	Host string
	// Target is path and query. Empty means "/".
	Target string
	// Origin is sent unless empty; only browsers need one.
	Origin string
	// Subprotocols are offered, the preferred one first. They must be different tokens.
	Subprotocols []string
	// Deflate offers permessage-deflate without context takeover on either side.
	Deflate bool
	// Header is more field lines, each with its CRLF, or "".
	Header string
}

// AppendRequest appends the handshake request of d (RFC 6455 section 4.1). key is the nonce: sixteen
// random bytes, new for each connection, which Check needs again.
func AppendRequest(dst []byte, d *Dial, key [16]byte) []byte {
	dst = append(dst, "GET "...)
	if d.Target == "" {
		dst = append(dst, '/')
	}
	dst = append(dst, d.Target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, d.Host...)
	dst = append(dst, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "...)
	dst = base64.StdEncoding.AppendEncode(dst, key[:])
	if d.Origin != "" {
		dst = append(dst, "\r\nOrigin: "...)
		dst = append(dst, d.Origin...)
	}
	for i, s := range d.Subprotocols {
		if i == 0 {
			dst = append(dst, "\r\nSec-WebSocket-Protocol: "...)
		} else {
			dst = append(dst, ", "...)
		}
		dst = append(dst, s...)
	}
	if d.Deflate {
		dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
	}
	dst = append(dst, "\r\n"...)
	dst = append(dst, d.Header...)
	return append(dst, "\r\n"...)
}

// Check decides whether resp agrees to what d asked for with key (RFC 6455 section 4.1, RFC 7692
// section 7.1). The error is a *HandshakeError that says what does not. The Handshake does not alias
// resp; as a client's it is not for AppendResponse.
func (d *Dial) Check(resp *Response, key [16]byte) (Handshake, error) {
	var h Handshake
	if reason := d.check(resp, key, &h); reason != "" {
		return Handshake{}, &HandshakeError{Status: resp.status, Reason: reason}
	}
	return h, nil
}

func (d *Dial) check(resp *Response, key [16]byte, h *Handshake) string {
	if resp.status != 101 {
		return fmt.Sprintf("status is %d %s, not 101", resp.status, resp.reason())
	}
	if resp.proto != HTTP11 {
		return "a 101 in HTTP/1.0"
	}
	if v, n := resp.single("Upgrade"); n != 1 || !equalFold(v, "websocket") {
		return fmt.Sprintf("Upgrade is %q (%d times), not websocket", v, n)
	}
	if !resp.HasToken("Connection", "upgrade") {
		return fmt.Sprintf("Connection is %q, without upgrade", resp.Header("Connection"))
	}
	var sent [24]byte
	base64.StdEncoding.Encode(sent[:], key[:])
	h.accept = acceptKey(&sent)
	if v, n := resp.single("Sec-WebSocket-Accept"); n != 1 || string(v) != string(h.accept[:]) {
		want := string(h.accept[:]) // a copy, so that h does not escape
		return fmt.Sprintf("Sec-WebSocket-Accept is %q (%d times), not %q", v, n, want)
	}
	switch v, n := resp.single("Sec-WebSocket-Protocol"); {
	case n > 1:
		return "Sec-WebSocket-Protocol is repeated"
	case n == 1:
		for _, s := range d.Subprotocols {
			if string(v) == s {
				h.Subprotocol = s
			}
		}
		if h.Subprotocol == "" {
			return fmt.Sprintf("Sec-WebSocket-Protocol is %q, which was not offered", v)
		}
	}
	reason := ""
	ok := resp.extensions(func(e extension) bool {
		reason = d.checkExtension(e, h)
		return reason == ""
	})
	if !ok {
		return fmt.Sprintf("Sec-WebSocket-Extensions is malformed: %q", resp.Header("Sec-WebSocket-Extensions"))
	}
	return reason
}

// checkExtension holds one element of the response against the offer.
func (d *Dial) checkExtension(e extension, h *Handshake) string {
	switch {
	case string(e.name) != deflateName:
		return fmt.Sprintf("extension %q was not offered", e.name)
	case !d.Deflate:
		return "permessage-deflate was not offered"
	case h.Deflate.On:
		return "permessage-deflate is agreed to twice"
	case e.bad:
		return "permessage-deflate with a parameter that is unknown, repeated or has a bad value"
	case e.hasClientWindow:
		// Only to be answered when offered (RFC 7692 section 7.1.2.2).
		return "permessage-deflate with client_max_window_bits, which was not offered"
	case !e.serverNoContextTakeover:
		return "permessage-deflate without server_no_context_takeover, which was demanded"
	}
	h.Deflate = Deflate{On: true, Window: MaxWindow}
	return ""
}
