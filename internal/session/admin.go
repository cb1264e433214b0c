package session

import (
	"time"

	"github.com/longwire/longwire/engine"
)

// What an application asks of a gateway, in Go and through the HTTP API.

// PublishOptions are what publishing does beyond delivering. The zero value keeps what the namespace keeps.
type PublishOptions struct {
	Tags           map[string]string
	SkipHistory    bool
	IdempotencyKey string
	Delta          bool // sent as a delta to those who asked for deltas
}

// PublishResult is what became of one publication of several.
type PublishResult struct {
	engine.Published
	Err error // nil: it was published
}

// Target is whom a command is for: all sessions of User, narrowed to one session if Client is set. Anonymous sessions can
// be named by Client alone.
type Target struct {
	User   string
	Client string
}

// SubscribeAs is how Subscribe makes a server-side subscription.
type SubscribeAs struct {
	Options  SubscribeOptions
	ExpireAt time.Time // zero: never
	// RecoverSince, if its epoch or offset is set, brings what came since.
	RecoverOffset uint64
	RecoverEpoch  string
	Recover       bool
}

// DisconnectAs is how Disconnect ends connections.
type DisconnectAs struct {
	Code      uint16 // zero: 3503, force disconnect
	Reason    string
	Whitelist []string // session ids that stay
}

// RefreshAs is how Refresh prolongs sessions, or ends them.
type RefreshAs struct {
	Expired  bool
	ExpireAt time.Time // zero: never
	Info     []byte    // JSON that replaces what was; nil: as it was
}

// NodeInfo is one node in the answer of info.
type NodeInfo struct {
	UID      string `json:"uid"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	Clients  int    `json:"num_clients"`
	Users    int    `json:"num_users"`
	Subs     int    `json:"num_subs"`
	Channels int    `json:"num_channels"`
	Uptime   int64  `json:"uptime"` // seconds
}
