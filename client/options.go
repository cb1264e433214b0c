package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/longwire/longwire/ws"
)

// Options say how a Conn connects and how it keeps its line. The zero value works, and so does a nil *Options. Durations
// are counted in whole milliseconds; zero means the default. Functions are called by goroutines of the Conn, except where
// it is said otherwise.
type Options struct {
	// Header is sent with every handshake. Those of the handshake itself can't be set.
	Header http.Header
	// Subprotocols are offered, the preferred one first.
	Subprotocols []string
	// Compress offers permessage-deflate, and compresses messages from 512 bytes on.
	Compress bool
	// ReadLimit bounds a message in bytes, after inflating. A longer one ends the Conn for good with 1009. Zero means
	// 1 MiB.
	ReadLimit int64
	// Inbox is how many messages are kept for Read. When it is full the connection is not read, and not judged either:
	// who does not read can't see a pong. Zero means 16.
	Inbox int
	// TLS is for wss. Nil is the zero Config.
	TLS *tls.Config
	// NetDial makes the connection below, as a net.Dialer does, which is what nil means. A proxy goes here.
	NetDial func(ctx context.Context, network, address string) (net.Conn, error)
	// Hello, if not nil, gives the first message of every connection, such as a login. An error ends the attempt, and
	// the next follows by the policy.
	Hello func(ctx context.Context) (ws.Opcode, []byte, error)

	// Once has the first end be the end: no attempt follows by itself. What the policy learns goes into Record.
	Once bool
	// Record is what Conns to the same endpoint share: when the server wants to be left alone, and the fuse. Nil is one
	// for this Conn alone.
	Record *Record
	// Network is what Conns are told of the network of the machine by the program that has them. Nil is one that is
	// always there.
	Network *Network

	Heartbeat Heartbeat
	Fuse      Fuse
	Backoff   BackoffOptions
	Queue     Queue
	Codes     Codes
	// Resend sends again, after a reconnect, what no pong has confirmed: messages may then arrive twice, and so may one
	// whose Write was cancelled. It needs a Heartbeat that asks.
	Resend bool
	// ConnectTimeout bounds an attempt, up to the end of the handshake and of Hello. Zero means 10 s.
	ConnectTimeout time.Duration
	// CloseTimeout bounds the closing handshake. Zero means 5 s.
	CloseTimeout time.Duration

	// OnState is told every transition, in order and one at a time, by whichever goroutine caused it: it must not wait,
	// and must not call Close. Dial may not have returned yet.
	OnState func(Transition)
	// OnDrop has each message that was queued and will not be sent: the queue was full ("oldest", "newest") or the Conn
	// came to its end ("closed"). The rules of OnState hold.
	OnDrop func(op ws.Opcode, payload []byte, reason string)

	random func() float64   // of tests
	now    func() time.Time // of tests: the wall clock
}

// HeartbeatMode is how the line is watched.
type HeartbeatMode int

// The modes. Whatever the mode, every byte that arrives is a sign of life.
const (
	// HeartbeatPing asks with a ping of RFC 6455, which every server answers.
	HeartbeatPing HeartbeatMode = iota
	// HeartbeatJSON asks with the text message {"type":"ping","ts":N} and takes {"type":"pong","ts":N} for the answer,
	// which Read then does not return.
	HeartbeatJSON
	// HeartbeatMessage asks with Heartbeat.Message.
	HeartbeatMessage
	// HeartbeatTraffic asks nothing: where the server is never silent for longer, silence alone says enough.
	HeartbeatTraffic
	// HeartbeatNone does not watch the line.
	HeartbeatNone
)

// Heartbeat is how the line is watched.
type Heartbeat struct {
	Mode HeartbeatMode
	// Message gives the message that asks, and Pong says whether a message is the answer, which Read then does not
	// return: with HeartbeatMessage. They must not wait, nor use the Conn. Without Pong any message answers.
	Message func() (ws.Opcode, []byte)
	Pong    func(op ws.Opcode, payload []byte) bool

	Interval   time.Duration // silence after which the peer is asked; zero means 30 s
	Timeout    time.Duration // the longest wait for a pong; zero means 5 s
	MinTimeout time.Duration // the shortest that the estimate of the round trip may come to; zero means 1 s
	Late       time.Duration // a timer that is later was asleep, and nothing is concluded; zero means 2 s
	Misses     int           // pongs missed in a row until the line is given up; zero means 2
}

// Fuse is when the policy stops trying, and for how long.
type Fuse struct {
	Misses      int           // pongs missed in a row, over all connections, that open it; zero means 3
	Failures    int           // connections and attempts lost in a row that open it; zero means 10
	CoolDown    time.Duration // before a trial, and up to as much again; doubles with each that fails; zero means 30 s
	MaxCoolDown time.Duration // the bound of the doubling; zero means 5 min
	Trials      int           // failed trials until the end is final; zero is never
}

// BackoffOptions are how the way back is spread.
type BackoffOptions struct {
	Min      time.Duration // the first window, which doubles; zero means 500 ms
	Max      time.Duration // the bound of the doubling; zero means 20 s
	Stable   time.Duration // a connection that was open this long was a success; zero means 5 s
	Spread   time.Duration // the window after a drain that came without advice; zero means 10 s
	MaxAfter time.Duration // the bound of what a server may ask for; zero means 1 h
}

// QueuePolicy is what happens to a message that finds the queue full.
type QueuePolicy int

// The policies: Write fails with ErrQueueFull, the oldest queued message makes room, or the new one is dropped.
const (
	QueueReject QueuePolicy = iota
	QueueDropOldest
	QueueDropNewest
)

// Queue holds messages while there is no connection. Write has then returned.
type Queue struct {
	Policy QueuePolicy
	Limit  int // messages; zero means 256, negative none
	Bytes  int // zero means 1 MiB
}

// Codes are what a server's codes mean. A list that is not nil takes the place of the default.
type Codes struct {
	Terminal [][2]int // ranges of close codes after which there is no coming back
	Status   []int    // HTTP statuses that say the same
	Drain    []int    // close codes of a server that goes away and will be back
}

// Record is what Conns to the same endpoint share. The zero value knows nothing. It must not be copied.
type Record struct {
	mu sync.Mutex
	m  memory
}

// Transition is a change of state.
type Transition struct {
	From, To State
	// Reason is what led to it: "open", "pong", "no pong", "close 1006", "status 503", "error", "retry"…
	Reason string
	// Due is when something is next done by itself; zero for never.
	Due time.Time
	// Err is why the attempt or the connection before was lost, if that is what led to it.
	Err error
}

func milliseconds(to *int64, d time.Duration) {
	if d > 0 {
		*to = max(d.Milliseconds(), 1)
	}
}

func count(to *int, n int) {
	if n > 0 {
		*to = n
	}
}

// settings returns the options of the policy.
func (o *Options) settings() settings {
	s := defaults()
	s.Reconnect, s.Resend = !o.Once, o.Resend
	h := &s.Heartbeat
	switch o.Heartbeat.Mode {
	case HeartbeatTraffic:
		h.Mode = "traffic"
	case HeartbeatNone:
		h.Mode = "none"
	default:
		h.Mode = "custom"
	}
	milliseconds(&h.Interval, o.Heartbeat.Interval)
	milliseconds(&h.Timeout, o.Heartbeat.Timeout)
	milliseconds(&h.MinTimeout, o.Heartbeat.MinTimeout)
	milliseconds(&h.Late, o.Heartbeat.Late)
	count(&h.Misses, o.Heartbeat.Misses)
	f := &s.Fuse
	count(&f.Misses, o.Fuse.Misses)
	count(&f.Failures, o.Fuse.Failures)
	count(&f.Trials, o.Fuse.Trials)
	milliseconds(&f.CoolDown, o.Fuse.CoolDown)
	milliseconds(&f.MaxCoolDown, o.Fuse.MaxCoolDown)
	b := &s.Backoff
	milliseconds(&b.Min, o.Backoff.Min)
	milliseconds(&b.Max, o.Backoff.Max)
	milliseconds(&b.Stable, o.Backoff.Stable)
	milliseconds(&b.Spread, o.Backoff.Spread)
	milliseconds(&b.MaxAfter, o.Backoff.MaxAfter)
	switch o.Queue.Policy {
	case QueueDropOldest:
		s.Queue.Policy = "oldest"
	case QueueDropNewest:
		s.Queue.Policy = "newest"
	}
	count(&s.Queue.Limit, o.Queue.Limit)
	count(&s.Queue.Bytes, o.Queue.Bytes)
	if o.Queue.Limit < 0 {
		s.Queue.Limit = 0
	}
	milliseconds(&s.ConnectTimeout, o.ConnectTimeout)
	milliseconds(&s.CloseTimeout, o.CloseTimeout)
	if o.Codes.Terminal != nil {
		s.Codes.Terminal = o.Codes.Terminal
	}
	if o.Codes.Status != nil {
		s.Codes.Status = o.Codes.Status
	}
	if o.Codes.Drain != nil {
		s.Codes.Drain = o.Codes.Drain
	}
	return s
}
