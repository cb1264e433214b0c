// Package engine is the contract between a node and what all nodes share: publications with their history, presence,
// and control messages. A node is one gateway process. enginetest holds an implementation to every sentence here;
// memengine is the one for a single process.
//
// # Streams
//
// A channel whose publications are kept has a stream. Its publications are numbered from 1 without a gap; the number is
// the offset. The epoch names one incarnation of the stream: as long as it is the same, an offset means the same
// publication. An engine that lost publications it had numbered must change the epoch. Publications may leave a
// stream at its old end (size, age, memory); offsets are never given again within an epoch.
//
// # Delivery
//
// Every publication, join and leave is handed to the Handler of every node, at most once, for one channel in the order
// of offsets and one at a time. A publication without an offset (nothing is kept of its channel) has a place in that
// order too. Delivery may be lost between nodes; offsets show it, and the node recovers from History. What Publish
// returned is in History for whoever asks afterwards, on the node that published; other nodes may see it a moment
// later, but never see offset n+1 without n.
//
// # Time
//
// Methods may wait (a network), so they take a context and are called from goroutines that may wait. An engine
// whose methods never wait also has the method of Immediate; a node then calls it from its loops.
package engine

import (
	"context"
	"errors"
	"time"
)

// Position is a place in a channel's stream: the publication with that offset was seen, the next was not.
type Position struct {
	Offset uint64 // 0: before the first
	Epoch  string // 1 to 32 characters that need no escape in JSON; empty: the channel has no stream
}

// ClientInfo is who published, joined or left. It is frozen: those who have it share its bytes.
type ClientInfo struct {
	Client   string // session id
	User     string // empty: anonymous
	ConnInfo []byte // JSON, or nil
	ChanInfo []byte // JSON, or nil
}

// Publication is one message in a channel. It is frozen once it was handed to an engine: those who have it share its
// bytes.
type Publication struct {
	Offset uint64 // set by the engine; 0: nothing is kept of the channel
	Data   []byte
	Info   *ClientInfo       // of the client that published; nil: the application did
	Tags   map[string]string // the application's; nil: none
	Time   int64             // when the engine took it, in Unix milliseconds; set by the engine
}

// PublishOptions say what an engine does with a publication beyond delivering it.
type PublishOptions struct {
	// HistorySize is how many publications the channel's stream keeps, HistoryTTL for how long. Nothing is kept, and
	// no offset given, unless both are more than 0.
	HistorySize int
	HistoryTTL  time.Duration
	// IdempotencyKey, if not empty, makes a second Publish with the same channel and key within IdempotencyTTL
	// (zero means 5 minutes) do nothing but return what the first one did.
	IdempotencyKey string
	IdempotencyTTL time.Duration
}

// Published is what became of a publication.
type Published struct {
	Position      // of the publication; the zero value where nothing is kept
	Repeated bool // its idempotency key was known: nothing was published now
}

// HistoryFilter chooses from a stream.
type HistoryFilter struct {
	Since *Position // only what comes after it (in Reverse: before it); nil: from the oldest (newest) that is kept. The epoch is not compared.
	Limit int       // at most so many; 0: none, for the position alone; negative: all
	// Reverse has the newest first.
	Reverse bool
}

// PresenceStats is how many are present.
type PresenceStats struct {
	Clients int
	Users   int // different ones; all anonymous clients together are one
}

// ErrUnavailable is returned, wrapped or not, where trying again later may help: the caller tells its client so.
var ErrUnavailable = errors.New("engine: not available at the moment")

// Handler is the node's side. Its methods are called by the engine, from any goroutine, must not wait, and must not
// call the engine. They keep what they are given.
type Handler interface {
	// Publication has a publication of channel. epoch is of its stream; empty where Offset is 0.
	Publication(channel string, p *Publication, epoch string)
	// Join tells that a client has come to channel, Leave that one has left.
	Join(channel string, info *ClientInfo)
	Leave(channel string, info *ClientInfo)
	// Control has what some node gave to Engine.Control.
	Control(data []byte)
}

// Engine is what all nodes share. Any goroutine may call its methods, after Start and before Close.
type Engine interface {
	// Start connects the engine with its node, and returns when it is ready to serve. It is called once.
	Start(ctx context.Context, h Handler) error
	// Close ends what Start began and waits for it. Handler is not called afterwards.
	Close() error

	// Publish delivers data to every node and keeps it as o says. p.Offset and p.Time are set in a copy or in p.
	// On an error nothing is known of what became of it, but with ErrUnavailable it was surely not delivered.
	Publish(ctx context.Context, channel string, p *Publication, o PublishOptions) (Published, error)
	// PublishJoin and PublishLeave deliver to every node; nothing is kept.
	PublishJoin(ctx context.Context, channel string, info *ClientInfo) error
	PublishLeave(ctx context.Context, channel string, info *ClientInfo) error

	// History reads a stream. top is its end at the moment of reading: publications with Since.Offset < offset ≤ top
	// that are missing from a forward result without limit are lost for good. metaTTL is for how long a stream that
	// holds no publication any more must keep its epoch and offset at the least; zero means a day. A channel that
	// never had a publication has a position too: offset 0 and an epoch, which its first publication continues.
	History(ctx context.Context, channel string, f HistoryFilter, metaTTL time.Duration) (pubs []*Publication, top Position, err error)
	// RemoveHistory drops the publications of a stream. Its offset and epoch stay.
	RemoveHistory(ctx context.Context, channel string) error

	// AddPresence notes that a client is in channel, for ttl; a node repeats it in time. RemovePresence takes it
	// back. Neither is delivered to anybody.
	AddPresence(ctx context.Context, channel string, info *ClientInfo, ttl time.Duration) error
	RemovePresence(ctx context.Context, channel, client string) error
	// Presence is who is in channel, by client; the map is the caller's.
	Presence(ctx context.Context, channel string) (map[string]*ClientInfo, error)
	PresenceStats(ctx context.Context, channel string) (PresenceStats, error)

	// Control hands data to every node, this one included, at least once.
	Control(ctx context.Context, data []byte) error
}

// Immediate marks an engine whose methods never wait for anything outside the process, nor long for a lock.
type Immediate interface {
	Engine
	Immediate()
}

// Recover judges a client's position against what History returned for it (Since: since, Limit: negative or more
// than it can need). It reports whether pubs is all that the client missed.
func Recover(since Position, pubs []*Publication, top Position) bool {
	if since.Epoch != "" && since.Epoch != top.Epoch || since.Offset > top.Offset {
		return false
	}
	next := since.Offset + 1
	for _, p := range pubs {
		if p.Offset != next {
			return false
		}
		next++
	}
	return next == top.Offset+1
}
