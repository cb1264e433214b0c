// Package engine is the contract between a node and what all nodes share: publications with their history, presence,
// and control messages. A node is one gateway process. enginetest holds an implementation to every sentence here;
// memengine is the one for a single process.
//
// # Streams
//
// A channel whose publications are kept has a stream. Its publications are numbered from 1 without a gap; the number is
// the offset. The epoch names one incarnation of the stream: as long as it is the same, an offset means the same
// publication. An engine that no longer knows which offsets it gave must change the epoch. Publications may leave a
// stream at its old end (size, age, memory), which changes neither epoch nor top; offsets are never given again
// within an epoch.
//
// # Delivery
//
// Every publication, join and leave is handed to the Handler of every node, at most once, for one channel in the order
// of offsets and one at a time. A publication without an offset (nothing is kept of its channel) has a place in that
// order too. Delivery may be lost between nodes; offsets show it, and the node recovers from History. What Publish
// returned is in History for whoever asks afterwards, on the node that published; other nodes may see it a moment
// later, but never see offset n+1 without n (unless n has left the stream). The same holds for what RemoveHistory,
// AddPresence and RemovePresence did: seen at once on that node, a moment later on others. Whether a node's own
// Handler had a publication before Publish returned is up to the engine.
//
// # Time
//
// Methods may wait (a network), so they take a context and are called from goroutines that may wait. An engine
// whose methods never wait also has the method of Immediate; a node then calls it from its loops. TTLs count from
// the call that gave them, by the engine's clock; to a millisecond, rounded up.
//
// # Names
//
// A channel's name is 1 to 255 bytes of any value. An engine checks neither that nor what it is given to keep.
package engine

import (
	"context"
	"errors"
	"time"
)

// Position is a place in a channel's stream: the publication with that offset was seen, the next was not.
type Position struct {
	Offset uint64 // 0: before the first
	Epoch  string // 1 to 32 printable ASCII characters that need no escape in JSON; empty: nothing is kept, or the client knows none
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
	Delta  bool              // the application's wish: who asked for deltas gets this one as a delta
	Time   int64             // when the engine took it, in Unix milliseconds; set by the engine
}

// PublishOptions say what an engine does with a publication beyond delivering it.
type PublishOptions struct {
	// HistorySize is how many publications the channel's stream keeps, HistoryTTL for how long. Nothing is kept, and
	// no offset given, unless both are more than 0; a stream that the channel has stays as it is then. The values of
	// the latest kept publication hold for its whole stream, at once. One that is older than HistoryTTL may be kept
	// as long as a younger one of its stream is.
	HistorySize int
	HistoryTTL  time.Duration
	// IdempotencyKey, if not empty, makes a second Publish with the same channel and key within IdempotencyTTL
	// (zero means 5 minutes) do nothing but return what the first one did. An engine bounds how many keys it
	// remembers, and says how.
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
	// Since, if not nil, leaves only offsets above Since.Offset (in Reverse: below it). The epoch is not compared, and
	// the offset may be any number.
	Since *Position
	Limit int // at most so many, counted from the oldest (in Reverse: the newest) that Since leaves; 0: none, for the position alone; negative: all
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

// Handler is the node's side. Its methods are called by the engine, from any goroutine and for different channels at
// the same time, must not wait, and must not call the engine, which may hold locks. They may keep what they are given
// but must not change it.
type Handler interface {
	// Publication has a publication of channel. epoch is of its stream; empty where Offset is 0.
	Publication(channel string, p *Publication, epoch string)
	// Join tells that a client has come to channel, Leave that one has left.
	Join(channel string, info *ClientInfo)
	Leave(channel string, info *ClientInfo)
	// Control has what some node gave to Engine.Control.
	Control(data []byte)
}

// Engine is what all nodes share. Any goroutine may call its methods, after Start and before Close; at other times, and
// when Close comes in between, they return an error that is ErrUnavailable.
type Engine interface {
	// Start connects the engine with its node, and returns when it is ready to serve. It is called once; ctx bounds
	// only the call.
	Start(ctx context.Context, h Handler) error
	// Close ends what Start began and waits for it, calls of Handler included. Handler is not called afterwards. A
	// second Close does nothing.
	Close() error

	// Publish delivers p to every node and keeps it as o says. p with all that it points to is the engine's from the
	// call on: Offset and Time, whatever they were, are set in p or in a copy, so p is good for one call and one
	// channel. On an error nothing is known of what became of it, but with ErrUnavailable it was surely not
	// delivered, and p is the caller's again.
	Publish(ctx context.Context, channel string, p *Publication, o PublishOptions) (Published, error)
	// PublishJoin and PublishLeave deliver to every node; nothing is kept.
	PublishJoin(ctx context.Context, channel string, info *ClientInfo) error
	PublishLeave(ctx context.Context, channel string, info *ClientInfo) error

	// History reads a stream. top is its end at the moment of reading: publications with Since.Offset < offset ≤ top
	// that are missing from a forward result without limit are lost for good. The slice is the caller's.
	//
	// metaTTL is for how long a stream that holds no publication any more must keep its epoch and offset at the
	// least, from this call or from when it became empty, whichever is later; zero means a day, as for a stream that
	// History was never called for, and the latest call's holds. An engine that is short of memory may forget sooner.
	// When it forgets, the epoch changes.
	//
	// A channel that never had a publication (or is forgotten) has a position too: offset 0 and an epoch, which its
	// first publication continues. An engine that notes nothing for such channels may change their epoch when it
	// forgets streams; that costs a subscriber a needless recovery, never a publication.
	History(ctx context.Context, channel string, f HistoryFilter, metaTTL time.Duration) (pubs []*Publication, top Position, err error)
	// RemoveHistory drops the publications of a stream. Its offset and epoch stay, for metaTTL from now.
	RemoveHistory(ctx context.Context, channel string) error

	// AddPresence notes that a client is in channel, for ttl, which is more than 0; a node repeats it in time, and the
	// latest info and ttl hold. RemovePresence takes it back, if it is there. Neither is delivered to anybody.
	AddPresence(ctx context.Context, channel string, info *ClientInfo, ttl time.Duration) error
	RemovePresence(ctx context.Context, channel, client string) error
	// Presence is who is in channel, by client; the map is the caller's, and nil or empty where nobody is.
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

// Recover judges a client's position against what History returned for it, forward (Since: since, Limit: negative or
// more than it can need). It reports whether pubs is all that the client missed. A client without an epoch has
// never seen one: it is taken at its offset.
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
