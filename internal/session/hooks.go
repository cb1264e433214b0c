package session

import (
	"context"
	"errors"
	"time"

	"github.com/longwire/longwire/internal/journal"
)

// Client is a session as hooks see it. It is a copy.
type Client struct {
	ID        string            // session id, a UUID
	User      string            // empty: anonymous, or not yet known
	Info      []byte            // JSON that others see in presence and publications, or nil
	Transport string            // websocket
	Protocol  string            // json or protobuf
	Name      string            // of the SDK, as it says; connect only
	Version   string            // of the SDK, as it says; connect only
	Headers   map[string]string // of the handshake, and those of connect; only the names that Hooks.Headers has
	Addr      string            // of the client, without port
	Context   TraceContext      // where the hook stands in its client's trace; zero where the gateway tells nobody of traces
}

// TraceContext is a place in a trace (W3C Trace Context). Its String is a traceparent.
type TraceContext = journal.Context

// Hooks are the application's say. Each may be nil: then what the namespace and the tokens say holds. They run on the
// gateway's pool, may wait until ctx ends, and the order of one session's hooks is kept.
//
// An *Error that a hook returns is the reply's error, a *Disconnect ends the connection; any other error is ErrInternal.
type Hooks struct {
	// Headers are the names of headers that Client.Headers has, in canonical form.
	Headers []string

	// Connect decides on a client without token.
	Connect func(ctx context.Context, c Client, r ConnectRequest) (ConnectReply, error)
	// Refresh prolongs a session that Connect gave an expiry.
	Refresh func(ctx context.Context, c Client) (RefreshReply, error)
	// Subscribe decides on channels of namespaces with SubscribeHook.
	Subscribe func(ctx context.Context, c Client, r SubscribeRequest) (SubscribeReply, error)
	// SubRefresh prolongs a subscription that Subscribe gave an expiry.
	SubRefresh func(ctx context.Context, c Client, channel string) (RefreshReply, error)
	// Publish decides on publications in channels of namespaces with PublishHook, and may change them.
	Publish func(ctx context.Context, c Client, r PublishRequest) (PublishReply, error)
	// Send has what clients send without wanting an answer; without it they are disconnected with 3508, since nothing else
	// could tell them that nobody listens. Of its errors only a *Disconnect reaches the client.
	Send func(ctx context.Context, c Client, data []byte) error
	// RPC answers the client's rpc commands; without it they get ErrNotAvailable.
	RPC func(ctx context.Context, c Client, method string, data []byte) ([]byte, error)
}

// ConnectRequest is what Connect decides on.
type ConnectRequest struct {
	Data []byte // of the client's connect command, or nil
}

// ConnectReply is what Connect decides.
type ConnectReply struct {
	User     string
	ExpireAt time.Time // zero: never
	Info     []byte    // JSON
	Data     []byte    // for the client
	Channels []string  // server-side subscriptions
	Subs     map[string]SubscribeOptions
}

// SubscribeRequest is what Subscribe decides on.
type SubscribeRequest struct {
	Channel string
	Token   string
	Data    []byte
}

// SubscribeReply is what Subscribe decides.
type SubscribeReply struct {
	ExpireAt time.Time // zero: never
	Options  SubscribeOptions
}

// SubscribeOptions override the namespace's for one subscription. Nil means as the namespace says.
type SubscribeOptions struct {
	Info             []byte // JSON: ChanInfo
	Data             []byte // for the client, in the subscribe reply
	Presence         *bool
	JoinLeave        *bool
	ForceJoinLeave   *bool
	ForceRecovery    *bool
	ForcePositioning *bool
}

// RefreshReply is what Refresh and SubRefresh decide.
type RefreshReply struct {
	Expired  bool      // it ends now
	ExpireAt time.Time // zero: never
	Info     []byte    // JSON that replaces what was; nil: as it was
}

// PublishRequest is what Publish decides on.
type PublishRequest struct {
	Channel string
	Data    []byte
}

// PublishReply is what Publish decides.
type PublishReply struct {
	Data        []byte // instead of the client's; nil: as it came
	SkipHistory bool
}

// The errors of Admin's methods, beside *Error.
var (
	// ErrBusy is returned when a loop has more to deliver than it may hold: publish later.
	ErrBusy = errors.New("too many publications wait to be delivered")
)
