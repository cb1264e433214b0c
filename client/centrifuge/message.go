package centrifuge

import "encoding/json"

// The messages of the protocol, in both formats: a name for JSON, a number for Protobuf. They are those of client.proto of
// centrifugal/protocol v0.21.1; what is not here is not sent, and ignored when it comes. Messages that an application sees as
// they are stand in types.go. That this is not the server's codec is on purpose: docs/decisions/0012-client-codec.md.

type data = json.RawMessage

type command struct {
	ID            uint32           `json:"id,omitempty" number:"1"`
	Connect       *connectRequest  `json:"connect,omitempty" number:"4"`
	Subscribe     *subscribe       `json:"subscribe,omitempty" number:"5"`
	Unsubscribe   *channelRequest  `json:"unsubscribe,omitempty" number:"6"`
	Publish       *publishRequest  `json:"publish,omitempty" number:"7"`
	Presence      *channelRequest  `json:"presence,omitempty" number:"8"`
	PresenceStats *channelRequest  `json:"presence_stats,omitempty" number:"9"`
	History       *historyRequest  `json:"history,omitempty" number:"10"`
	Send          *dataMessage     `json:"send,omitempty" number:"12"`
	RPC           *rpcRequest      `json:"rpc,omitempty" number:"13"`
	Refresh       *refreshRequest  `json:"refresh,omitempty" number:"14"`
	SubRefresh    *channelAndToken `json:"sub_refresh,omitempty" number:"15"`
}

type connectRequest struct {
	Token   string                `json:"token,omitempty" number:"1"`
	Data    data                  `json:"data,omitempty" number:"2"`
	Subs    map[string]*subscribe `json:"subs,omitempty" number:"3"`
	Name    string                `json:"name,omitempty" number:"4"`
	Version string                `json:"version,omitempty" number:"5"`
	Headers map[string]string     `json:"headers,omitempty" number:"6"`
}

type subscribe struct {
	Channel     string `json:"channel,omitempty" number:"1"`
	Token       string `json:"token,omitempty" number:"2"`
	Recover     bool   `json:"recover,omitempty" number:"3"`
	Epoch       string `json:"epoch,omitempty" number:"6"`
	Offset      uint64 `json:"offset,omitempty" number:"7"`
	Data        data   `json:"data,omitempty" number:"8"`
	Positioned  bool   `json:"positioned,omitempty" number:"9"`
	Recoverable bool   `json:"recoverable,omitempty" number:"10"`
	JoinLeave   bool   `json:"join_leave,omitempty" number:"11"`
	Delta       string `json:"delta,omitempty" number:"12"`
}

type channelRequest struct {
	Channel string `json:"channel,omitempty" number:"1"`
}

type publishRequest struct {
	Channel string `json:"channel,omitempty" number:"1"`
	Data    data   `json:"data,omitempty" number:"2"`
}

type historyRequest struct {
	Channel string    `json:"channel,omitempty" number:"1"`
	Limit   int32     `json:"limit,omitempty" number:"7"`
	Since   *Position `json:"since,omitempty" number:"8"`
	Reverse bool      `json:"reverse,omitempty" number:"9"`
}

type dataMessage struct {
	Data data `json:"data,omitempty" number:"1"`
}

type rpcRequest struct {
	Data   data   `json:"data,omitempty" number:"1"`
	Method string `json:"method,omitempty" number:"2"`
}

type refreshRequest struct {
	Token string `json:"token,omitempty" number:"1"`
}

type channelAndToken struct {
	Channel string `json:"channel,omitempty" number:"1"`
	Token   string `json:"token,omitempty" number:"2"`
}

type reply struct {
	ID            uint32           `json:"id" number:"1"`
	Error         *Error           `json:"error" number:"2"`
	Push          *push            `json:"push" number:"4"`
	Connect       *connectResult   `json:"connect" number:"5"`
	Subscribe     *subscribeResult `json:"subscribe" number:"6"`
	Presence      *presenceResult  `json:"presence" number:"9"`
	PresenceStats *PresenceStats   `json:"presence_stats" number:"10"`
	History       *historyResult   `json:"history" number:"11"`
	RPC           *dataMessage     `json:"rpc" number:"13"`
	Refresh       *refreshResult   `json:"refresh" number:"14"`
	SubRefresh    *expiry          `json:"sub_refresh" number:"15"`
}

type connectResult struct {
	Client  string                      `json:"client" number:"1"`
	Version string                      `json:"version" number:"2"`
	Expires bool                        `json:"expires" number:"3"`
	TTL     uint32                      `json:"ttl" number:"4"`
	Data    data                        `json:"data" number:"5"`
	Subs    map[string]*subscribeResult `json:"subs" number:"6"`
	Ping    uint32                      `json:"ping" number:"7"`
	Pong    bool                        `json:"pong" number:"8"`
}

type subscribeResult struct {
	Expires       bool           `json:"expires" number:"1"`
	TTL           uint32         `json:"ttl" number:"2"`
	Recoverable   bool           `json:"recoverable" number:"3"`
	Epoch         string         `json:"epoch" number:"6"`
	Publications  []*publication `json:"publications" number:"7"`
	Recovered     bool           `json:"recovered" number:"8"`
	Offset        uint64         `json:"offset" number:"9"`
	Positioned    bool           `json:"positioned" number:"10"`
	Data          data           `json:"data" number:"11"`
	WasRecovering bool           `json:"was_recovering" number:"12"`
	Delta         bool           `json:"delta" number:"13"`
}

type presenceResult struct {
	Presence map[string]*ClientInfo `json:"presence" number:"1"`
}

type historyResult struct {
	Publications []*publication `json:"publications" number:"1"`
	Epoch        string         `json:"epoch" number:"2"`
	Offset       uint64         `json:"offset" number:"3"`
}

type refreshResult struct {
	Expires bool   `json:"expires" number:"3"`
	TTL     uint32 `json:"ttl" number:"4"`
}

type expiry struct {
	Expires bool   `json:"expires" number:"1"`
	TTL     uint32 `json:"ttl" number:"2"`
}

type publication struct {
	Publication
	Delta bool `json:"delta" number:"8"` // Data is a delta to the publication before
}

type push struct {
	Channel     string           `json:"channel" number:"2"`
	Pub         *publication     `json:"pub" number:"4"`
	Join        *presencePush    `json:"join" number:"5"`
	Leave       *presencePush    `json:"leave" number:"6"`
	Unsubscribe *unsubscribePush `json:"unsubscribe" number:"7"`
	Message     *dataMessage     `json:"message" number:"8"`
	Subscribe   *subscribePush   `json:"subscribe" number:"9"`
	Disconnect  *disconnectPush  `json:"disconnect" number:"11"`
	Refresh     *expiry          `json:"refresh" number:"12"`
}

type presencePush struct {
	Info *ClientInfo `json:"info" number:"1"`
}

type unsubscribePush struct {
	Code   uint32 `json:"code" number:"2"`
	Reason string `json:"reason" number:"3"`
}

type subscribePush struct {
	Recoverable bool   `json:"recoverable" number:"1"`
	Epoch       string `json:"epoch" number:"4"`
	Offset      uint64 `json:"offset" number:"5"`
	Positioned  bool   `json:"positioned" number:"6"`
	Data        data   `json:"data" number:"7"`
}

type disconnectPush struct {
	Code   uint32 `json:"code" number:"1"`
	Reason string `json:"reason" number:"2"`
}
