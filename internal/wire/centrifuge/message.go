// Package centrifuge is the Centrifuge client protocol, version 2, in JSON and in Protobuf, on bytes: commands of a
// client are read, replies and pushes are appended. It has no socket, no clock and no state.
//
// Field numbers and names are those of client.proto of centrifugal/protocol v0.21.1. What a client sends beyond them is
// ignored.
package centrifuge

import "github.com/longwire/longwire/engine"

// Format is how messages are written.
type Format uint8

// The formats. In JSON a WebSocket text message holds one or more objects, a line each; in Protobuf a binary one holds one
// or more messages, each after its length as a varint.
const (
	JSON Format = iota
	Protobuf
)

// Method is what a command asks for.
type Method uint8

// The methods. None is an empty command, which is a pong. Unknown is one whose method this version does not have.
const (
	None Method = iota
	Connect
	Subscribe
	Unsubscribe
	Publish
	Presence
	PresenceStats
	History
	Ping
	Send
	RPC
	Refresh
	SubRefresh
	Unknown
)

// String is the method's name in JSON.
func (m Method) String() string {
	return [...]string{"none", "connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history",
		"ping", "send", "rpc", "refresh", "sub_refresh", "unknown"}[m]
}

// Command is one command of a client. Its bytes alias the message, or a buffer of the Reader's where a JSON string had
// escapes; they are valid until the Reader's next call. Fields that the method does not have are zero.
type Command struct {
	ID     uint32
	Method Method

	Channel []byte
	Token   []byte
	Data    []byte // JSON: the value as it was written; nil when absent

	// connect
	Name, Version []byte
	Subs          []ChannelSubscribe // server-side subscriptions to recover
	// Headers are the client's stand-ins for HTTP headers, in the order sent.
	Headers []Header

	// subscribe; Subs has the same for connect
	SubscribeOptions

	// history
	Limit    int32
	Since    Since
	HasSince bool
	Reverse  bool

	RPCMethod []byte
}

// SubscribeOptions is how a client wants to subscribe.
type SubscribeOptions struct {
	Recover     bool
	Positioned  bool
	Recoverable bool
	JoinLeave   bool
	Offset      uint64
	Epoch       []byte
	Delta       []byte // "fossil" or empty
	Flag        int64
	Type        int32 // other than 0: a kind of subscription that this version does not have; also of publish and sub_refresh
	Filter      bool  // there is a filter by tags, which this version does not have
}

// Flags of SubscribeOptions.
const (
	FlagCompact           = 1 << 0 // channels may be named by number in pushes
	FlagRejectUnrecovered = 1 << 1 // error 112 rather than an unrecovered subscription
)

// ChannelSubscribe is the recovery of one server-side subscription.
type ChannelSubscribe struct {
	Channel []byte
	SubscribeOptions
}

// Since is where a history begins.
type Since struct {
	Offset uint64
	Epoch  []byte
}

// Header is one entry of connect's headers.
type Header struct{ Name, Value []byte }

// Error is the error of a reply.
type Error struct {
	Code      uint32
	Message   string
	Temporary bool // the client may try again
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// The errors of the protocol.
var (
	ErrInternal             = &Error{100, "internal server error", true}
	ErrUnauthorized         = &Error{101, "unauthorized", false}
	ErrUnknownChannel       = &Error{102, "unknown channel", false}
	ErrPermissionDenied     = &Error{103, "permission denied", false}
	ErrMethodNotFound       = &Error{104, "method not found", false}
	ErrAlreadySubscribed    = &Error{105, "already subscribed", false}
	ErrLimitExceeded        = &Error{106, "limit exceeded", false}
	ErrBadRequest           = &Error{107, "bad request", false}
	ErrNotAvailable         = &Error{108, "not available", false}
	ErrTokenExpired         = &Error{109, "token expired", false}
	ErrExpired              = &Error{110, "expired", false}
	ErrTooManyRequests      = &Error{111, "too many requests", true}
	ErrUnrecoverable        = &Error{112, "unrecoverable position", false}
	ErrConcurrentPagination = &Error{113, "concurrent pagination", true}
)

// Disconnect is why a server ends a connection: a WebSocket status code that tells the client whether to come back, and
// a reason. Codes of 3000 to 3499 and 4000 to 4499 mean: reconnect; 3500 to 3999 and 4500 to 4999: do not.
type Disconnect struct {
	Code   uint16
	Reason string // at most 123 bytes
}

// Error implements error.
func (d *Disconnect) Error() string { return d.Reason }

// Reconnect reports whether the client comes back by itself.
func (d *Disconnect) Reconnect() bool { return d.Code/500%2 == 0 }

// The disconnects of the protocol.
var (
	DisconnectClosed            = &Disconnect{3000, "connection closed"}
	DisconnectShutdown          = &Disconnect{3001, "shutdown"}
	DisconnectServerError       = &Disconnect{3004, "internal server error"}
	DisconnectExpired           = &Disconnect{3005, "connection expired"}
	DisconnectSubExpired        = &Disconnect{3006, "subscription expired"}
	DisconnectSlow              = &Disconnect{3008, "slow"}
	DisconnectInsufficientState = &Disconnect{3010, "insufficient state"}
	DisconnectForceReconnect    = &Disconnect{3011, "force reconnect"}
	DisconnectNoPong            = &Disconnect{3012, "no pong"}
	DisconnectTooManyRequests   = &Disconnect{3013, "too many requests"}
	DisconnectStateInvalidated  = &Disconnect{3014, "state invalidated"}
	DisconnectInvalidToken      = &Disconnect{3500, "invalid token"}
	DisconnectBadRequest        = &Disconnect{3501, "bad request"}
	DisconnectStale             = &Disconnect{3502, "stale"}
	DisconnectForced            = &Disconnect{3503, "force disconnect"}
	DisconnectConnectionLimit   = &Disconnect{3504, "connection limit"}
	DisconnectChannelLimit      = &Disconnect{3505, "channel limit"}
	DisconnectInappropriate     = &Disconnect{3506, "inappropriate protocol"}
	DisconnectPermissionDenied  = &Disconnect{3507, "permission denied"}
	DisconnectNotAvailable      = &Disconnect{3508, "not available"}
	DisconnectTooManyErrors     = &Disconnect{3509, "too many errors"}
)

// UnsubscribeReason is why a server ends a subscription. A client resubscribes by itself where Code is 2500 or more.
type UnsubscribeReason struct {
	Code   uint32
	Reason string
}

// The unsubscribes of the protocol.
var (
	UnsubscribeServer            = UnsubscribeReason{2000, "server unsubscribe"}
	UnsubscribeInsufficientState = UnsubscribeReason{2500, "insufficient state"}
	UnsubscribeExpired           = UnsubscribeReason{2501, "subscription expired"}
	UnsubscribeStateInvalidated  = UnsubscribeReason{2502, "state invalidated"}
)

// ConnectResult is the reply to connect. Zero values are left out of what is written, here and below.
type ConnectResult struct {
	Client  string
	Version string
	Expires bool
	TTL     uint32 // seconds
	Data    []byte
	Subs    []ChannelResult
	Ping    uint32 // seconds between the server's pings
	Pong    bool   // the client answers pings
	Node    string
}

// SubscribeResult is the reply to subscribe, and the push of a server-side subscription.
type SubscribeResult struct {
	Expires       bool
	TTL           uint32 // seconds
	Recoverable   bool
	Positioned    bool
	Epoch         string
	Offset        uint64
	Publications  []Publication
	Recovered     bool
	WasRecovering bool
	Delta         bool
	Data          []byte
}

// ChannelResult is the state of one server-side subscription in a ConnectResult.
type ChannelResult struct {
	Channel string
	SubscribeResult
}

// Publication is a publication as a client gets it.
type Publication struct {
	*engine.Publication
	// Epoch is written if it is not empty. Servers of this protocol write it with the first publication of a stream, the
	// one with offset 1, where clients may not know it yet.
	Epoch string

	// Delta has Data hold a Fossil delta to the publication before, instead of Publication.Data; IsDelta marks it so. In a
	// channel with delta, JSON has data as a string: Stringed. Where the delta is no text, a string of Publication.Data
	// takes its place.
	Delta    []byte
	IsDelta  bool
	Stringed bool
}

// HistoryResult is the reply to history.
type HistoryResult struct {
	Publications []Publication
	Epoch        string
	Offset       uint64
}
