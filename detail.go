package longwire

import "syscall"

// details are the words that Cause.Detail is made of, so that a connection's cause fits into its state. The
// rules of package ws are among them.
var details = []string{
	"",
	"other",
	// The rules of package ws.
	"reserved_bit", "reserved_opcode", "fragmented_control", "control_too_long", "unexpected_continuation",
	"expected_continuation", "unmasked_frame", "masked_frame", "non_minimal_length", "length_high_bit",
	"bad_close_payload", "bad_close_code", "invalid_utf8", "bad_deflate", "message_too_big",
	// What the kernel said.
	"ECONNRESET", "EPIPE", "ECONNABORTED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH",
	// Ours.
	detailQueue, detailStopped, detailPoller, detailReplies,
	// Of sessions.
	"bad_request", "inappropriate_protocol", "invalid_token", "stale", "permission_denied", "not_available",
	"too_many_requests", "too_many_errors", "connection_limit", "channel_limit", "insufficient_state",
	"state_invalidated", "internal_server_error", "no_pong", "connection_expired", "subscription_expired",
	"force_disconnect", "force_reconnect",
	// The refusals.
	refusedConns.String(), refusedDescriptors.String(), refusedMemory.String(), refusedAddressConns.String(),
	refusedAddressRate.String(), refusedDrain.String(), refusedRequest.String(), refusedUnauthorized.String(),
	refusedOrigin.String(), refusedMethod.String(), refusedVersion.String(), refusedHeader.String(),
	refusedPlain.String(), refusedOther.String(),
	// Of heartbeats. They stand here since records on disk have the numbers.
	detailNetwork, detailProgram,
}

const (
	detailQueue   = "write_queue"    // messages of others filled it
	detailReplies = "replies_unread" // its own replies filled it and it did not read for the heartbeat's time
	detailStopped = "stopped"        // the gateway was closed without a drain
	detailPoller  = "poller"         // the poller or socket failed in a way that no peer can bring about
	detailNetwork = "network_silent" // what we had sent was not acknowledged
	detailProgram = "program_silent" // it was, but had no answer
)

var detailIndexes = func() map[string]uint8 {
	m := make(map[string]uint8, len(details))
	for i, s := range details {
		m[s] = uint8(i)
	}
	return m
}()

// detailIndex is the place of s in details, that of "other" if it has none.
func detailIndex(s string) uint8 {
	i, ok := detailIndexes[s]
	if !ok {
		return detailIndexes["other"]
	}
	return i
}

func errnoDetail(e syscall.Errno) string {
	switch e {
	case syscall.ECONNRESET:
		return "ECONNRESET"
	case syscall.EPIPE:
		return "EPIPE"
	case syscall.ECONNABORTED:
		return "ECONNABORTED"
	case syscall.ETIMEDOUT:
		return "ETIMEDOUT"
	case syscall.EHOSTUNREACH:
		return "EHOSTUNREACH"
	case syscall.ENETUNREACH:
		return "ENETUNREACH"
	}
	return "other"
}
