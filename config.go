package longwire

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// Config describes a Gateway. The zero value serves the plain protocol at /ws on port 8000.
type Config struct {
	// Addr is where to listen, host:port. Empty means ":8000"; port 0 lets the system choose.
	Addr string

	// Endpoints are the WebSocket endpoints. Nil means Plain("/ws") alone.
	Endpoints []Endpoint

	// HTTP serves the requests on the same port that are for no endpoint, except /healthz and /readyz.
	// Nil answers 404. Its connections belong to net/http.
	HTTP http.Handler
	// WrapHTTP, if it is set, is called once by New with the handler of all plain HTTP on that port, health included, and
	// returns what serves it instead: to time requests, say. Request.Pattern is the route, once the handler has returned.
	// Upgrades of endpoints do not pass it.
	WrapHTTP func(http.Handler) http.Handler

	// MaxConns bounds the connections. Zero means what one descriptor table holds (RLIMIT_NOFILE), at
	// most 1,000,000. Beyond it a client gets 503 with Retry-After.
	MaxConns int

	// Loops is the number of loops that start at once. Zero means GOMAXPROCS.
	Loops int

	// Tables says whether each loop has a descriptor table of its own, which lets one process hold more
	// connections than RLIMIT_NOFILE. Zero means only if MaxConns needs it.
	Tables Tables

	// MaxMemory is the ceiling in bytes for what connections cost: the process's resident memory and the
	// kernel's share for each socket. Beyond it a client gets 503. Zero means 90 % of what cgroup and
	// machine allow at the start; negative means no ceiling.
	MaxMemory int64

	// ConnsPerAddress bounds the connections of one client address (IPv6: of one /64). Zero means no bound.
	ConnsPerAddress int

	// RatePerAddress bounds the new connections a second of one client address, with bursts of as many as
	// four seconds give. Zero means no bound.
	RatePerAddress float64

	// HandshakeTimeout is the time from accept to the complete request. Zero means 5 s.
	HandshakeTimeout time.Duration

	// MaxHeader bounds the request head in bytes. Zero means 8 KiB, at most 32 KiB.
	MaxHeader int

	// UserTimeout is TCP_USER_TIMEOUT: how long written data may stay unacknowledged before the kernel ends
	// the connection. Zero means 30 s; negative leaves the kernel's default.
	UserTimeout time.Duration

	// Drain is over how long ListenAndServe spreads the closing of connections when its context ends. Zero
	// means 10 s; negative closes all at once.
	Drain time.Duration

	// RetryAfter is what refused clients are told, rounded up to seconds. Zero means 5 s.
	RetryAfter time.Duration

	// Workers bounds the goroutines that run what may block (Endpoint.Blocking, Conn.Go). Zero means 256.
	Workers int

	// Backlog bounds the queue of connections that wait to be accepted, of each listener. Zero means 65,535; the
	// kernel's somaxconn bounds it too.
	Backlog int

	// Log gets the gateway's own messages. Nil means slog.Default().
	Log *slog.Logger

	// Channels are the options of channels without a namespace, Namespaces those of the others: one that is called chat
	// holds for chat:room1.
	Channels   ChannelOptions
	Namespaces []ChannelOptions

	// Sessions say how clients that subscribe are served, on Plain and Centrifuge endpoints.
	Sessions Sessions

	// Tokens verify what clients show when they connect, SubTokens, if set, what they show when they subscribe.
	Tokens    TokenOptions
	SubTokens *TokenOptions

	// Hooks are the application's say about sessions.
	Hooks Hooks

	// Engine keeps what all nodes share. Nil means one in memory, for this process alone. The gateway starts and
	// closes it.
	Engine engine.Engine

	// FlightRecorder says how much of what happened to connections is remembered, for Gateway.Why.
	FlightRecorder FlightRecorder

	// MaskAddresses keeps of clients' addresses only the network, /24 of IPv4 and /48 of IPv6, and no port, in the flight
	// recorder and in the log. Hooks are still told the address.
	MaskAddresses bool

	// Journal says who is told of single connections and calls while they go on.
	Journal Journal

	// Tracer, if not nil, is told of sockets, and tells what the kernel saw of their ends. It is opened before New, and closed
	// after Close.
	Tracer Tracer

	system loop.System      // of tests
	clock  func() time.Time // of tests, for the flight recorder; nil: time.Now
}

// Tables says how many descriptor tables a gateway has.
type Tables = loop.Table

// The values of Config.Tables.
const (
	TablesAuto    = loop.TableAuto
	TablesShared  = loop.TableShared
	TablesPrivate = loop.TablePrivate
)

// Heartbeat is the policy against silent connections.
type Heartbeat struct {
	// Ping is after how long a silence a ping is sent; it is sent up to a 25th earlier, different for each
	// connection, so that pings never come in one burst. Zero means 25 s; negative sends none.
	Ping time.Duration
	// Timeout is after how long a silence the connection is closed. Zero means 30 s, or Ping plus 5 s where
	// that is more; negative never closes.
	Timeout time.Duration
}

// Endpoint is what happens on one path. The zero value of every field but Path serves: it takes and
// ignores messages.
//
// Callbacks run on the loop, one at a time for all connections of that loop, and must not block, unless Blocking is
// set. A panic in one ends the process, as in any goroutine.
type Endpoint struct {
	// Path is the path of the request, exactly, percent-encoding and all.
	Path string

	// Authorize decides on a good handshake; a non-nil Refusal is sent and no connection comes into being.
	// It always runs on the loop (or, under Gateway.Handler, on the request's goroutine). r is valid during
	// the call. Nil admits everybody whose Origin is allowed.
	Authorize func(r *ws.Request) *ws.Refusal

	// OnOpen has a new connection and its request, which is valid during the call.
	OnOpen func(c Conn, r *ws.Request)

	// OnMessage has each message, in order.
	OnMessage func(c Conn, m Message)

	// OnClose has the cause, once for each connection that was opened, after all its other callbacks. c only
	// identifies it by then.
	OnClose func(c Conn, cause Cause)

	// Blocking has OnOpen, OnMessage and OnClose run on a bounded pool of goroutines (Config.Workers)
	// instead of the loop, where they may block; the order of one connection's callbacks is kept. A
	// connection whose callbacks do not keep up is not read until they do.
	Blocking bool

	// Origins are the Origin values of browsers that are welcome: exact, "*" for any, or like
	// "https://*.example.com". Nil means the same host as the request's. A request without Origin does not come
	// from a browser and is always welcome.
	Origins []string

	// Subprotocols are those that the endpoint speaks, best first.
	Subprotocols []string

	// Compression agrees to permessage-deflate where the client offers it. Nothing is kept between messages.
	Compression bool

	// CompressAbove is the size in bytes from which a message is worth compressing. Zero means 256.
	CompressAbove int

	// MaxMessage bounds a message in bytes, after inflating. Zero means 1 MiB.
	MaxMessage int

	// WriteQueue bounds the bytes that wait for one connection beyond what its socket holds. A connection
	// whose own replies fill it is not read any further until they are gone; one that other senders fill is
	// closed as a slow consumer when another message comes. One message may exceed it. Zero means 1 MiB.
	WriteQueue int

	// Heartbeat is the policy against silence.
	Heartbeat Heartbeat

	protocol protocol // what messages mean; OnMessage has them where there is none
}

// protocol is how clients of an endpoint speak with their sessions.
type protocol uint8

const (
	protocolNone protocol = iota
	protocolPlain
	protocolCentrifuge
)

// Protocol is what messages mean there: plain, centrifuge, or websocket where the application says it.
func (e Endpoint) Protocol() string {
	switch e.protocol {
	case protocolPlain:
		return "plain"
	case protocolCentrifuge:
		return "centrifuge"
	}
	return "websocket"
}

// Plain is an endpoint for the plain protocol, with anonymous sessions: JSON text messages such as
// {"type":"subscribe","channel":"news"}, and {"type":"ping","ts":…} for which there is {"type":"pong","ts":…}.
// docs/plain.md has all of it.
func Plain(path string) Endpoint {
	return Endpoint{Path: path, Origins: []string{"*"}, protocol: protocolPlain}
}

// Centrifuge is an endpoint for the Centrifuge client protocol, version 2, in JSON and Protobuf: that of the official
// SDKs. Its pings are the protocol's own (Config.Sessions); Heartbeat holds for clients that ask for WebSocket pings
// instead (cf_ws_frame_ping_pong).
func Centrifuge(path string) Endpoint {
	return Endpoint{Path: path, Origins: []string{"*"}, protocol: protocolCentrifuge, MaxMessage: 64 << 10,
		Subprotocols: []string{"centrifuge-json", "centrifuge-protobuf"}}
}

// Echo is an endpoint that sends each message back, compressed where agreed, with messages of up to 32 MiB.
func Echo(path string) Endpoint {
	return Endpoint{
		Path: path, Origins: []string{"*"}, Compression: true,
		MaxMessage: 32 << 20, WriteQueue: 4 << 20,
		OnMessage: func(_ Conn, m Message) { m.Reply(m.Op, m.Payload) },
	}
}

// withDefaults fills in what is zero and refuses what cannot be.
func (c Config) withDefaults() (Config, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.Addr == "" {
		c.Addr = ":8000"
	}
	if c.Endpoints == nil {
		c.Endpoints = []Endpoint{Plain("/ws")}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	def(&c.HandshakeTimeout, 5*time.Second)
	def(&c.UserTimeout, 30*time.Second)
	def(&c.Drain, 10*time.Second)
	def(&c.RetryAfter, 5*time.Second)
	num(&c.MaxHeader, 8<<10)
	num(&c.Workers, 256)
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("config: "+format, args...)) }
	if c.MaxConns < 0 {
		bad("MaxConns is %d: want at least 0", c.MaxConns)
	}
	if c.MaxHeader < 256 || c.MaxHeader > 32<<10 {
		bad("MaxHeader is %d bytes: want 256 to 32768", c.MaxHeader)
	}
	if c.HandshakeTimeout < 0 {
		bad("HandshakeTimeout is %v: want more than 0", c.HandshakeTimeout)
	}
	if c.Workers < 1 {
		bad("Workers is %d: want at least 1", c.Workers)
	}
	if c.ConnsPerAddress < 0 || c.RatePerAddress < 0 {
		bad("limits per address are %d and %v: want at least 0", c.ConnsPerAddress, c.RatePerAddress)
	}
	if len(c.Endpoints) > maxEndpoints {
		bad("%d endpoints: want at most %d", len(c.Endpoints), maxEndpoints)
	}
	seen := make(map[string]bool)
	eps := make([]Endpoint, len(c.Endpoints))
	for i, e := range c.Endpoints {
		if !strings.HasPrefix(e.Path, "/") {
			bad("endpoint %d: Path is %q: want one that begins with /", i, e.Path)
		}
		if seen[e.Path] {
			bad("endpoint %d: Path %q stands twice", i, e.Path)
		}
		seen[e.Path] = true
		num(&e.MaxMessage, ws.DefaultMaxMessage)
		num(&e.WriteQueue, 1<<20)
		num(&e.CompressAbove, 256)
		def(&e.Heartbeat.Ping, 25*time.Second)
		if e.Heartbeat.Timeout == 0 {
			e.Heartbeat.Timeout = max(30*time.Second, e.Heartbeat.Ping+5*time.Second)
		}
		if h := e.Heartbeat; h.Timeout > 0 && h.Timeout <= h.Ping {
			bad("endpoint %s: Heartbeat.Timeout %v: want more than Ping, %v", e.Path, h.Timeout, h.Ping)
		}
		if e.MaxMessage < 0 || e.WriteQueue < 0 || e.CompressAbove < 0 {
			bad("endpoint %s: MaxMessage %d, WriteQueue %d, CompressAbove %d: want more than 0", e.Path, e.MaxMessage, e.WriteQueue, e.CompressAbove)
		}
		eps[i] = e
	}
	c.Endpoints = eps
	return c, errors.Join(errs...)
}

// maxEndpoints is what the connections' state has room for.
const maxEndpoints = 250
