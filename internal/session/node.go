// Package session is the life of one client: connect, subscribe, publish, recover, expire, leave. A Table has the sessions
// of one loop, each a slot of memory without pointers; it has no descriptor and no goroutine, and is told the time.
package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/arena"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Error is the error of a reply, Disconnect the end of a connection, both with the protocol's codes.
type (
	Error      = centrifuge.Error
	Disconnect = centrifuge.Disconnect
)

// Options describe how sessions are served. They are frozen once NewNode has them.
type Options struct {
	Rules     *channel.Rules  // required
	Engine    engine.Engine   // required
	Hub       *hub.Hub        // required
	Tokens    *token.Verifier // nil: every token is invalid
	SubTokens *token.Verifier // of subscriptions; nil: Tokens
	Hooks     Hooks
	Log       *slog.Logger // required
	Memory    arena.Memory // where what sessions know of their users is kept

	// Insecure lets everybody connect without a token, and subscribe, publish and ask in every channel.
	Insecure bool
	// Anonymous lets clients connect without a token, with an empty user.
	Anonymous bool

	Version string // told to clients
	Name    string // of the node

	Ping          time.Duration // between the server's pings; at least a second
	Beat          time.Duration // the longest time from one Timer to the next, of sessions with pings of the loop's; 0: Ping
	Pong          time.Duration // for the client's answer; 0: none is asked for
	Grace         time.Duration // after an expiry, for a refresh
	Stale         time.Duration // from the upgrade to the connect command
	ChannelLimit  int           // subscriptions of a session
	ChannelLength int           // bytes of a channel's name
	ConnectRate   float64       // connects a second; 0: no bound
	CompressAbove int           // bytes, of pushes

	Calls bool // Host.Called wants to know of commands
}

// Node is what the tables of one gateway share.
type Node struct {
	o         Options
	immediate bool
	ids       *IDs // makes session ids of conns
	uid       string
	connects  bucket
	ends      bucket // of sessions that are ended with many others

	// Shared counters.
	Sessions  atomic.Int64 // connected
	Subs      atomic.Int64
	Published atomic.Uint64
	Recovered atomic.Uint64 // subscriptions that got all they had missed
	Lost      atomic.Uint64 // that could not
	Slow      atomic.Uint64 // publications that slow subscribers did not get, by policy
}

// NewNode makes a node of o.
func NewNode(o Options) (*Node, error) {
	n := &Node{o: o}
	_, n.immediate = o.Engine.(engine.Immediate)
	if n.o.Tokens == nil {
		none, err := token.New(token.Options{})
		if err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		n.o.Tokens = none
	}
	if n.o.SubTokens == nil {
		n.o.SubTokens = n.o.Tokens
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("session: key for ids: %w", err)
	}
	var err error
	if n.ids, err = NewIDs(key[:16]); err != nil {
		return nil, err
	}
	n.uid = uuid([16]byte(key[16:]))
	n.setRates(time.Now())
	return n, nil
}

// setRates fills the buckets. What comes back connects: many sessions are ended no faster than that may be.
func (n *Node) setRates(now time.Time) {
	n.connects = newBucket(n.o.ConnectRate, now)
	n.ends = newBucket(cmp.Or(n.o.ConnectRate, defaultEndRate), now)
}

// UID is the node's id.
func (n *Node) UID() string { return n.uid }

// Engine is the engine that the node was made with.
func (n *Node) Engine() engine.Engine { return n.o.Engine }

// IDs makes the node's session ids.
func (n *Node) IDs() *IDs { return n.ids }

// ID is the session id of a conn.
func (n *Node) ID(conn uint64) string { return n.ids.ID(conn) }

// Conn is the conn of a session id of this node.
func (n *Node) Conn(id string) (conn uint64, ok bool) { return n.ids.Conn(id) }

// Pong is how long a client has for the answer to a ping.
func (n *Node) Pong() time.Duration { return n.o.Pong }

// replyError is what a client is told of err.
func (n *Node) replyError(err error) (*Error, *Disconnect) {
	var e *Error
	var d *Disconnect
	switch {
	case errors.As(err, &d):
		return nil, d
	case errors.As(err, &e):
		return e, nil
	case errors.Is(err, ErrBusy):
		return centrifuge.ErrTooManyRequests, nil
	case errors.Is(err, engine.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return centrifuge.ErrInternal, nil
	}
	n.o.Log.Error("a command failed", "error", err.Error())
	return centrifuge.ErrInternal, nil
}

// bucket lets a number of things a second through, in bursts of as many as one second gives, and at least one. Any goroutine may use it.
type bucket struct {
	rate        float64
	cost, burst int64 // nanoseconds
	start       time.Time
	used        atomic.Int64 // nanoseconds since start up to which what was let through is paid for
	line        atomic.Int64 // nanoseconds since start up to which places were given to who was turned away
}

// newBucket is a full bucket.
func newBucket(rate float64, now time.Time) bucket {
	if rate <= 0 {
		return bucket{}
	}
	cost := int64(min(float64(time.Second)/rate, float64(365*24*time.Hour)))
	burst := max(int64(time.Second), cost)
	return bucket{rate: rate, cost: cost, burst: burst, start: now.Add(-time.Duration(burst))}
}

// take reports whether one more may pass. A bucket without a rate lets all pass.
func (b *bucket) take(now time.Time) bool {
	if b.rate <= 0 {
		return true
	}
	t := int64(now.Sub(b.start))
	for {
		used := b.used.Load()
		next := max(used, t-b.burst) + b.cost
		if next > t {
			return false
		}
		if b.used.CompareAndSwap(used, next) {
			return true
		}
	}
}

// lineMax is the longest that anybody is told to wait in line.
const lineMax = 5 * time.Minute

// later is when one that was turned away may come again: everybody gets a place of his own, one after the other at the
// rate, so that they do not all come back together. Once the line is five minutes long the next get any place in it, at
// random: then more come in a second than the rate, but never all of the rest at its end.
func (b *bucket) later(now time.Time) time.Duration {
	t := int64(now.Sub(b.start))
	for {
		line := b.line.Load()
		at := max(line, t) + b.cost
		if at > t+int64(lineMax) {
			return 1 + mathrand.N(lineMax)
		}
		if b.line.CompareAndSwap(line, at) {
			return time.Duration(at - t)
		}
	}
}
