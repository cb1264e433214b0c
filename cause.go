package longwire

import (
	"fmt"

	"github.com/longwire/longwire/ws"
)

// CauseKind is why a connection ended: one of a closed list. Its String is the label in metrics and logs.
type CauseKind uint8

// The causes. Every end of a connection has exactly one: the first thing that made the end certain.
const (
	// CauseUnknown is no cause; no ended connection has it.
	CauseUnknown CauseKind = iota
	// CauseClientClose: the client sent a close frame; Cause.Code is its code.
	CauseClientClose
	// CauseClientFIN: the client's stream ended without a close frame.
	CauseClientFIN
	// CauseReset: the peer (or something between) reset the connection.
	CauseReset
	// CauseHeartbeat: the client was silent for longer than Heartbeat.Timeout.
	CauseHeartbeat
	// CauseProtocol: the client broke the rule that Cause.Detail names; Cause.Code is what it was told.
	CauseProtocol
	// CauseTooBig: a message was larger than Endpoint.MaxMessage.
	CauseTooBig
	// CauseSlow: the client took its messages more slowly than they came, beyond Endpoint.WriteQueue.
	CauseSlow
	// CauseUnauthorized: a session without good credentials, or none in time; Cause.Code is what it was told.
	CauseUnauthorized
	// CauseExpired: the session's token, or that of a subscription, was not prolonged.
	CauseExpired
	// CauseHandshakeTimeout: the request was not complete within Config.HandshakeTimeout.
	CauseHandshakeTimeout
	// CauseRefused: the handshake was refused for the reason in Cause.Detail.
	CauseRefused
	// CauseDrain: the gateway is going away.
	CauseDrain
	// CauseApplication: the application closed it; Cause.Code is its code.
	CauseApplication
	// CauseKernelTimeout: the kernel gave up: written data was not acknowledged in time, or keepalive.
	CauseKernelTimeout
	// CauseInternal: something failed on our side; Cause.Detail says what.
	CauseInternal

	causeKinds
)

var causeNames = [causeKinds]string{
	CauseUnknown:          "unknown",
	CauseClientClose:      "client_close",
	CauseClientFIN:        "client_fin",
	CauseReset:            "reset",
	CauseHeartbeat:        "heartbeat_timeout",
	CauseProtocol:         "protocol_error",
	CauseTooBig:           "message_too_big",
	CauseSlow:             "slow_consumer",
	CauseUnauthorized:     "unauthorized",
	CauseExpired:          "expired",
	CauseHandshakeTimeout: "handshake_timeout",
	CauseRefused:          "refused",
	CauseDrain:            "drain",
	CauseApplication:      "application",
	CauseKernelTimeout:    "kernel_timeout",
	CauseInternal:         "internal",
}

// String is the cause as metrics and logs show it.
func (k CauseKind) String() string {
	if k >= causeKinds {
		return causeNames[CauseUnknown]
	}
	return causeNames[k]
}

// CauseKinds are all causes but CauseUnknown, in order.
func CauseKinds() []CauseKind {
	kinds := make([]CauseKind, 0, causeKinds-1)
	for k := CauseUnknown + 1; k < causeKinds; k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// Cause is why one connection ended. It is an error, so that it can be the cause of a context.
type Cause struct {
	Kind CauseKind
	// Code is the status code that ended it: the client's, for CauseClientClose, else the one that we sent;
	// zero when no close frame was sent.
	Code ws.StatusCode
	// Detail is the rule, limit or error behind it, from small sets of fixed words; it may be empty.
	Detail string
}

// causePrefix begins what Cause.Error says.
const causePrefix = "connection ended: "

// Error says it in words.
func (c Cause) Error() string {
	s := causePrefix + c.Kind.String()
	if c.Code != 0 {
		s += fmt.Sprintf(" (%d)", c.Code)
	}
	if c.Detail != "" {
		s += ": " + c.Detail
	}
	return s
}

// Is makes errors.Is(err, Cause{Kind: k}) hold for every cause of that kind.
func (c Cause) Is(target error) bool {
	t, ok := target.(Cause)
	return ok && t.Kind == c.Kind && (t.Code == 0 || t.Code == c.Code) && (t.Detail == "" || t.Detail == c.Detail)
}
