package ws

import (
	"errors"
	"strconv"
)

// A CloseError is a violation of the protocol by the peer, and what the peer is told about it: Code goes
// into the close frame that ends the connection (RFC 6455 section 7.1.7). The errors of ParseHeader,
// CheckHeader, ParseClose, Inflate and Reader.Next are of type *CloseError. They are shared and must
// not be modified; making one does not allocate.
type CloseError struct {
	// Code is the status code to close with: 1002, 1007 or 1009.
	Code StatusCode
	// Rule is a short, stable, snake_case name of the rule that was violated, fit for a metric label.
	Rule string
	// Err is the rule in words. It is not sent.
	Err error
}

// Error returns the code, the rule and the words.
func (e *CloseError) Error() string {
	s := "ws: " + strconv.Itoa(int(e.Code)) + " " + e.Rule
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }

func rule(code StatusCode, name, words string) *CloseError {
	return &CloseError{Code: code, Rule: name, Err: errors.New(words)}
}

// Every rule that a peer can violate. Allocated once, so that a flood of bad frames makes no garbage.
var (
	errReservedBit            = rule(StatusProtocolError, "reserved_bit", "reserved bit set without an extension that defines it there")
	errReservedOpcode         = rule(StatusProtocolError, "reserved_opcode", "opcode is reserved")
	errFragmentedControl      = rule(StatusProtocolError, "fragmented_control", "control frame without FIN")
	errControlTooLong         = rule(StatusProtocolError, "control_too_long", "control frame with more than 125 bytes")
	errUnexpectedContinuation = rule(StatusProtocolError, "unexpected_continuation", "continuation frame without a message to continue")
	errExpectedContinuation   = rule(StatusProtocolError, "expected_continuation", "new message before the fragmented one has ended")
	errUnmaskedFrame          = rule(StatusProtocolError, "unmasked_frame", "frame from a client is not masked")
	errMaskedFrame            = rule(StatusProtocolError, "masked_frame", "frame from a server is masked")
	errNonMinimalLength       = rule(StatusProtocolError, "non_minimal_length", "length is not in its shortest form")
	errLengthHighBit          = rule(StatusProtocolError, "length_high_bit", "most significant bit of a 64-bit length is set")
	errBadClosePayload        = rule(StatusProtocolError, "bad_close_payload", "close frame with a payload of one byte or of more than 125")
	errBadCloseCode           = rule(StatusProtocolError, "bad_close_code", "status code must not appear in a close frame")
	errInvalidUTF8            = rule(StatusInvalidPayload, "invalid_utf8", "text is not valid UTF-8")
	errBadDeflate             = rule(StatusInvalidPayload, "bad_deflate", "compressed message is not valid deflate data")
	errMessageTooBig          = rule(StatusMessageTooBig, "message_too_big", "message is larger than the limit")
)
