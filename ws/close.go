package ws

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// StatusCode is the reason of a closure as a number (RFC 6455 section 7.4).
type StatusCode uint16

// The registered status codes (RFC 6455 section 7.4.1 and the IANA WebSocket Close Code Number
// Registry). StatusNoStatus, StatusAbnormal and StatusTLSHandshake are never on the wire: they are
// how an endpoint says to its application what it did not receive.
const (
	StatusNormalClosure      StatusCode = 1000
	StatusGoingAway          StatusCode = 1001
	StatusProtocolError      StatusCode = 1002
	StatusUnsupportedData    StatusCode = 1003
	StatusNoStatus           StatusCode = 1005
	StatusAbnormal           StatusCode = 1006
	StatusInvalidPayload     StatusCode = 1007
	StatusPolicyViolation    StatusCode = 1008
	StatusMessageTooBig      StatusCode = 1009
	StatusMandatoryExtension StatusCode = 1010
	StatusInternalError      StatusCode = 1011
	StatusServiceRestart     StatusCode = 1012
	StatusTryAgainLater      StatusCode = 1013
	StatusBadGateway         StatusCode = 1014
	StatusTLSHandshake       StatusCode = 1015
)

// Valid reports whether c may appear in a close frame: 1000-1003, 1007-1014 and 3000-4999. Not
// 1004, 1005, 1006 and 1015, which are reserved, nor what nobody has registered.
func (c StatusCode) Valid() bool {
	return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
}

// Sendable is Valid as a writer asks it: AppendClose puts no other code on the wire.
func (c StatusCode) Sendable() bool { return c.Valid() }

var statusNames = [...]string{
	"normal closure", "going away", "protocol error", "unsupported data", "reserved", "no status received",
	"abnormal closure", "invalid frame payload data", "policy violation", "message too big",
	"mandatory extension", "internal error", "service restart", "try again later", "bad gateway", "TLS handshake",
}

// String returns the number and, where it is registered, the name: "1001 going away".
func (c StatusCode) String() string {
	s := strconv.Itoa(int(c))
	if c >= 1000 && int(c-1000) < len(statusNames) {
		s += " " + statusNames[c-1000]
	}
	return s
}

const maxReason = maxControl - 2

// cutReason returns the longest prefix of reason that fits into a close frame, ends on a rune
// boundary and is valid UTF-8, so that no reason can make us violate the protocol.
func cutReason(reason string) string {
	end := 0
	for end < len(reason) {
		r, size := utf8.DecodeRuneInString(reason[end:])
		if r == utf8.RuneError && size == 1 || end+size > maxReason {
			break
		}
		end += size
	}
	return reason[:end]
}

// AppendClose appends a close frame (RFC 6455 section 5.5.1) as written by r. Code 0 and 1005 give a
// frame without a payload, and so does any other code that is not Sendable. The reason is cut at 123
// bytes on a rune boundary, and before a byte that is not UTF-8. The key is used only by a Client.
func AppendClose(dst []byte, r Role, code StatusCode, reason string, key [4]byte) []byte {
	h := Header{Fin: true, Opcode: OpClose, Masked: r == Client, Key: key}
	if !code.Sendable() {
		return AppendHeader(dst, h)
	}
	reason = cutReason(reason)
	h.Length = int64(2 + len(reason))
	dst = AppendHeader(dst, h)
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	dst = append(dst, reason...)
	if h.Masked {
		Mask(dst[start:], key, 0)
	}
	return dst
}

// ParseClose reads the unmasked payload of a close frame (section 5.5.1). No payload is
// StatusNoStatus. The reason aliases payload. The error is a *CloseError: a payload of one byte
// (bad_close_payload), a code that must not be sent (bad_close_code), a reason that is not UTF-8
// (invalid_utf8, with 1007).
func ParseClose(payload []byte) (code StatusCode, reason []byte, err error) {
	switch {
	case len(payload) == 0:
		return StatusNoStatus, nil, nil
	case len(payload) == 1 || len(payload) > maxControl:
		return 0, nil, errBadClosePayload
	}
	code = StatusCode(binary.BigEndian.Uint16(payload))
	if !code.Valid() {
		return 0, nil, errBadCloseCode
	}
	reason = payload[2:]
	if !utf8.Valid(reason) {
		return 0, nil, errInvalidUTF8
	}
	return code, reason, nil
}
