package centrifuge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire/client"
)

// Options say who connects, and how. The zero value connects without a token, in JSON; a nil *Options does too.
type Options struct {
	// Token is what is shown to the server first. GetToken, if set, is asked for one where there is none or where it has
	// expired, and for the next before it expires.
	Token    string
	GetToken func(ctx context.Context) (string, error)
	// Name and Version are the program's, for the server's logs.
	Name, Version string
	// Data goes to the server with connect: JSON, unless Protobuf is set.
	Data []byte
	// Headers are the client's stand-ins for HTTP headers, for servers that forward them.
	Headers map[string]string
	// Protobuf has the protocol spoken in Protobuf: data may then be any bytes. In JSON all data is JSON.
	Protobuf bool
	// Timeout is for the reply to a command. Zero means 5 s.
	Timeout time.Duration

	// Handler has what happens to the server-side subscriptions.
	Handler Handler
	// OnMessage has what the server sends to this client alone.
	OnMessage func(data []byte)
	// OnConnected is called with each session.
	OnConnected func(Connected)

	// Socket says how the line is kept. Its Hello, Once, Queue, Resend and Subprotocols are set by this package, and so
	// are its Codes if Terminal is nil.
	Socket client.Options
}

// Handler is told what happens in a channel. Nil functions are not called.
type Handler struct {
	// Publication has each publication, in order.
	Publication func(channel string, p Publication)
	// Join and Leave tell of other clients, where the channel does.
	Join, Leave func(channel string, info ClientInfo)
	// Subscribed is called with each subscription, also after a reconnect, before the publications that were recovered.
	Subscribed func(channel string, s Subscribed)
	// Unsubscribed is called when a subscription is at its end: by the server, with its code. It is not called for
	// Subscription.Unsubscribe, nor when the Client ends.
	Unsubscribed func(channel string, code uint32, reason string)
}

// SubscribeOptions say how a channel is subscribed to.
type SubscribeOptions struct {
	Handler
	// Token is for channels that want one. GetToken, if set, is asked where there is none or where it has expired.
	Token    string
	GetToken func(ctx context.Context, channel string) (string, error)
	// Data goes to the server with subscribe.
	Data []byte
	// Recoverable and Positioned ask for what the channel may do without being asked; JoinLeave for joins and leaves.
	Recoverable, Positioned, JoinLeave bool
	// Delta asks for publications that are like the one before to travel as the difference (Fossil deltas), where the
	// channel allows it. Handlers see no difference. A delta that does not fit, which a server does not send, makes the
	// Client connect anew and recover, and ask for no more of them in this Subscription.
	Delta bool
	// Since, if not nil, recovers from a position that was kept from an earlier Client.
	Since *Position
}

// Position is a place in a channel's stream: the publication with that offset was seen, the next was not.
type Position struct {
	Offset uint64 `json:"offset,omitempty" number:"1"`
	Epoch  string `json:"epoch,omitempty" number:"2"` // of one incarnation of the stream
}

// Publication is one message of a channel. It is the handler's to keep. With Options.Protobuf its Data, and those of
// ClientInfo, may be any bytes.
type Publication struct {
	Data   json.RawMessage   `json:"data" number:"4"`
	Info   *ClientInfo       `json:"info" number:"5"`   // of the client that published; nil: the server did
	Offset uint64            `json:"offset" number:"6"` // 0: nothing is kept of the channel
	Tags   map[string]string `json:"tags" number:"7"`
}

// ClientInfo is who published, is present, has joined or left.
type ClientInfo struct {
	User     string          `json:"user" number:"1"`
	Client   string          `json:"client" number:"2"`
	ConnInfo json.RawMessage `json:"conn_info" number:"3"` // nil where there is none
	ChanInfo json.RawMessage `json:"chan_info" number:"4"`
}

// PresenceStats is how many are present.
type PresenceStats struct {
	Clients uint32 `json:"num_clients" number:"1"`
	Users   uint32 `json:"num_users" number:"2"`
}

// Connected is a session with the server.
type Connected struct {
	Client  string // its id
	Version string // the server's
	Data    []byte
}

// Subscribed is a subscription that has come into force.
type Subscribed struct {
	Position      Position // the top of the stream, or where recovery begins; zero where nothing is kept
	WasRecovering bool     // a position was given
	Recovered     bool     // nothing is missing since then
	Delta         bool     // publications come as deltas
	Data          []byte
}

// HistoryOptions choose from a stream. The zero value asks for its position alone.
type HistoryOptions struct {
	Limit   int // at most so many; negative: all that the server gives
	Since   *Position
	Reverse bool // the newest first
}

// Error is what the server answers to a command that failed.
type Error struct {
	Code      uint32 `json:"code" number:"1"`
	Message   string `json:"message" number:"2"`
	Temporary bool   `json:"temporary" number:"3"`
}

// Error returns code and message.
func (e *Error) Error() string { return fmt.Sprintf("centrifuge: %d %s", e.Code, e.Message) }

const tokenExpired = 109

func (e *Error) retry() bool { return e.Temporary || e.Code < 100 || e.Code == tokenExpired }

// Errors of commands.
var (
	// ErrDisconnected says that the connection was lost before the reply, so the command may have been carried out or not; or
	// that the network was down (client.Network), and then it has not.
	ErrDisconnected = errors.New("centrifuge: disconnected before the reply")
	// ErrSubscribed says that there is a subscription to the channel.
	ErrSubscribed = errors.New("centrifuge: already subscribed")
	// ErrUnsubscribed says that the subscription was ended meanwhile.
	ErrUnsubscribed = errors.New("centrifuge: unsubscribed")
)
