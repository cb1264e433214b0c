package longwire

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/arena"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/ws"
)

// What a gateway with sessions is made of, and what stands between a loop's sessions and its conns.

type (
	// ChannelOptions are what holds for the channels of one namespace.
	ChannelOptions = channel.Options
	// SlowPolicy is what happens to a subscriber that does not keep up: ChannelOptions.Slow.
	SlowPolicy = channel.SlowPolicy
	// TokenOptions say which tokens are good. The zero value: none is.
	TokenOptions = token.Options
	// Hooks are the application's say about sessions.
	Hooks = session.Hooks
	// Client is a session as Hooks see it; the others are what they are asked and answer.
	Client           = session.Client
	ConnectRequest   = session.ConnectRequest
	ConnectReply     = session.ConnectReply
	SubscribeRequest = session.SubscribeRequest
	SubscribeReply   = session.SubscribeReply
	RefreshReply     = session.RefreshReply
	PublishRequest   = session.PublishRequest
	PublishReply     = session.PublishReply
	// Error is what a client's command is answered with, and what Hooks return for that.
	Error = session.Error
	// Disconnect ends a session with a code that tells its client whether to come back.
	Disconnect = session.Disconnect
)

// The values of ChannelOptions.Slow.
const (
	SlowDisconnect = channel.SlowDisconnect
	SlowDropOldest = channel.SlowDropOldest
	SlowConflate   = channel.SlowConflate
)

// Sessions say how clients that subscribe are served.
type Sessions struct {
	// Insecure lets everybody connect without a token, and subscribe, publish and ask in every channel: for tests and
	// development. Anonymous lets clients connect without a token, with an empty user.
	Insecure  bool
	Anonymous bool

	Ping  time.Duration // between the server's pings; zero means 25 s
	Pong  time.Duration // for the client's answer; zero means 8 s, negative asks for none
	Grace time.Duration // after a token's expiry, for another one; zero means 25 s
	Stale time.Duration // from the upgrade to the connect command; zero means 10 s

	ChannelLimit  int     // subscriptions of one session; zero means 128
	ChannelLength int     // bytes of a channel's name; zero means 255
	ConnectRate   float64 // connect commands a second, beyond which clients are told to come back later; zero: no bound

	Name    string // of this node; zero means the host's name
	Version string // told to clients; zero means "longwire"
}

func (s Sessions) withDefaults() (Sessions, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&s.Ping, 25*time.Second)
	def(&s.Pong, 8*time.Second)
	def(&s.Grace, 25*time.Second)
	def(&s.Stale, 10*time.Second)
	s.Pong = max(0, s.Pong)
	if s.ChannelLimit == 0 {
		s.ChannelLimit = 128
	}
	if s.ChannelLength == 0 {
		s.ChannelLength = channel.NameMax
	}
	if s.Version == "" {
		s.Version = "longwire"
	}
	if s.Name == "" {
		s.Name, _ = os.Hostname() // or none
	}
	switch {
	case s.Ping < time.Second || s.Pong >= s.Ping || s.Grace < 0 || s.Stale < 0:
		return s, fmt.Errorf("config: Sessions: Ping %v, Pong %v, Grace %v, Stale %v: want a ping of at least a second, a pong before the next ping, and no negative times", s.Ping, s.Pong, s.Grace, s.Stale)
	case s.ChannelLimit < 0 || s.ChannelLimit > 1<<15 || s.ChannelLength < 0 || s.ChannelLength > 1<<12 || s.ConnectRate < 0:
		return s, fmt.Errorf("config: Sessions: ChannelLimit %d, ChannelLength %d, ConnectRate %v: want 1 to 32768, 1 to 4096, at least 0", s.ChannelLimit, s.ChannelLength, s.ConnectRate)
	}
	return s, nil
}

// newNode makes what sessions need, if an endpoint has them.
func (g *Gateway) newNode() error {
	found := false
	for _, e := range g.endpoints {
		found = found || e.protocol != protocolNone
	}
	if !found {
		return nil
	}
	c := &g.config
	s, err := c.Sessions.withDefaults()
	if err != nil {
		return err
	}
	if g.rules, err = channel.NewRules(c.Channels, c.Namespaces); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	o := session.Options{Rules: g.rules, Hooks: c.Hooks, Log: c.Log, Insecure: s.Insecure, Anonymous: s.Anonymous, Version: s.Version,
		Name: s.Name, Ping: s.Ping, Pong: s.Pong, Grace: s.Grace, Stale: s.Stale, ChannelLimit: s.ChannelLimit,
		ChannelLength: s.ChannelLength, ConnectRate: s.ConnectRate, CompressAbove: 256, Calls: g.noting}
	if o.Tokens, err = token.New(c.Tokens); err != nil {
		return fmt.Errorf("config: Tokens: %w", err)
	}
	g.verifiers = append(g.verifiers, o.Tokens)
	if c.SubTokens != nil {
		if o.SubTokens, err = token.New(*c.SubTokens); err != nil {
			return fmt.Errorf("config: SubTokens: %w", err)
		}
		g.verifiers = append(g.verifiers, o.SubTokens)
	}
	for _, e := range g.endpoints {
		if e.protocol == protocolNone {
			continue
		}
		if o.Beat = max(o.Beat, e.Heartbeat.Ping); e.Heartbeat.Ping < 0 {
			o.Beat = max(o.Beat, 12*time.Hour) // nobody comes by to repeat that a client is there
		}
	}
	if g.engine = c.Engine; g.engine == nil {
		g.engine = memengine.New(nil)
	}
	loops := g.loops.Loops()
	drains := make([]func(), len(loops))
	for i := range loops {
		drains[i] = func() {
			if f := g.fronts[i]; f != nil && f.sessions != nil {
				f.sessions.Drain()
				f.publish()
			}
		}
	}
	memory := arena.Memory{Map: g.options.System.Map, Unmap: g.options.System.Unmap}
	o.Memory = memory
	g.hub = hub.New(hub.Options{Loops: len(loops), Memory: memory, Wake: func(i int) { _ = loops[i].Call(drains[i]) }})
	o.Hub, o.Engine = g.hub, g.engine
	g.node, err = session.NewNode(o)
	return err
}

// handler is the engine's view of the gateway.
type handler struct {
	*hub.Hub
	g *Gateway
}

// Control implements engine.Handler.
func (h handler) Control(data []byte) {
	c, err := session.DecodeControl(data)
	if err != nil {
		h.g.log.Error("control message", "error", err)
		return
	}
	h.g.eachLoop(func(f *front) {
		f.sessions.Do(c)
		f.publish()
	})
}

// eachLoop has f called on every loop that runs, soon.
func (g *Gateway) eachLoop(f func(*front)) {
	for i, l := range g.loops.Loops() {
		_ = l.Call(func() {
			if fr := g.fronts[i]; fr != nil && fr.sessions != nil {
				f(fr)
			}
		}) // a loop that does not run has no sessions
	}
}

// openSession makes a session of a conn of a Centrifuge endpoint.
func (f *front) openSession(i uint32, h *ws.Handshake, req *ws.Request) {
	o := session.Opening{Protocol: session.JSON, Header: func(name string) []byte {
		for n, v := range req.Each() {
			if strings.EqualFold(string(n), name) {
				return v
			}
		}
		return nil
	}}
	q := req.Query()
	if h.Subprotocol == "centrifuge-protobuf" || hasParameter(q, "format=protobuf") || hasParameter(q, "cf_protocol=protobuf") {
		o.Protocol = session.Protobuf
	}
	o.Frames = hasParameter(q, "cf_ws_frame_ping_pong=true")
	f.sessions.Open(i, o)
}

func hasParameter(query []byte, p string) bool {
	for part := range bytes.SplitSeq(query, []byte("&")) {
		if string(part) == p {
			return true
		}
	}
	return false
}

// openPlain subscribes a conn of a Plain endpoint to the channels that its URL names.
func (f *front) openPlain(i uint32, st *state, req *ws.Request) {
	q, err := url.ParseQuery(string(req.Query()))
	if err != nil {
		return // what cannot be read names no channel
	}
	for _, ch := range q["subscribe"] {
		if st.phase == phaseOpen {
			f.sessions.PlainSubscribe(i, []byte(ch))
		}
	}
	f.publish()
}

// host is a front as its sessions see it.
type host struct{ *front }

func (h host) ID(i uint32) uint64 { return uint64(h.l.ID(i)) }

func (h host) Find(id uint64) (uint32, bool) {
	i, ok := h.l.Find(loop.ID(id))
	return i, ok && h.conn[i].phase == phaseOpen
}

func (h host) Addr(i uint32) string { return keyAddress(h.conn[i].addr).String() }

func (h host) Window(i uint32) uint8 { return h.conn[i].window }

func (h host) Reply(i uint32, op ws.Opcode, payload []byte) { h.send(i, op, payload) }

func (h host) Push(i uint32, frame []byte, more bool) {
	st := &h.conn[i]
	if !h.takes(i, st) {
		return
	}
	h.sent++
	if more {
		h.l.Write(i, frame)
	} else {
		h.l.Send(i, frame)
	}
}

func (h host) Backlog(i uint32) int {
	n := h.l.Queued(i)
	if n > 0 {
		h.l.Flush(i)
		if _, ok := h.l.Find(h.l.ID(i)); !ok {
			return 0
		}
		n = h.l.Queued(i)
	}
	return n
}

func (h host) Close(i uint32, d *Disconnect) {
	st := &h.conn[i]
	h.closeWith(i, st, disconnectCause(d), d.Reason)
}

func (h host) Ponged(i uint32) { h.conn[i].flags |= statePonged }

func (h host) SetTimer(i uint32, d time.Duration) {
	st := &h.conn[i]
	switch {
	case st.phase != phaseOpen:
	case st.flags&stateDrain != 0:
		tick := h.l.Tick() + ticks(d)
		if turn := h.turn(st); int32(turn-tick) < 0 {
			tick = turn
		}
		h.l.SetTimerTick(i, tick)
	default:
		h.l.SetTimer(i, d)
	}
}

func (h host) Rearm(i uint32) {
	if st := &h.conn[i]; st.phase == phaseOpen {
		h.arm(i, st)
	}
}

func (h host) Look(i uint32) {
	h.l.Look(i)
}

func (h host) Pause(i uint32) {
	h.conn[i].flags |= stateWorking
	h.l.Pause(i)
}

func (h host) Resume(i uint32) { h.resume(h.l.ID(i), stateWorking) }

func (h host) Now() time.Time { return time.Now() }

func (h host) Go(i uint32, work func(ctx context.Context) (then func())) {
	id, g := h.l.ID(i), h.g
	g.pool.submit(id, func() {
		then := work(g.ctx)
		_ = g.call(id, func(f *front) {
			if i, ok := f.l.Find(id); ok && f.conn[i].phase == phaseOpen {
				then()
				f.publish()
			}
		}) // a loop that has ended has no conns
	})
}

func (h host) Later(i uint32, work func(ctx context.Context)) {
	g := h.g
	g.pool.submit(h.l.ID(i), func() { work(g.ctx) })
}

// disconnectCause is the cause of an end with a code of the protocol.
func disconnectCause(d *Disconnect) Cause {
	c := Cause{Kind: CauseApplication, Code: ws.StatusCode(d.Code), Detail: strings.ReplaceAll(d.Reason, " ", "_")}
	switch d.Code {
	case 3001:
		return Cause{Kind: CauseDrain, Code: c.Code}
	case 3004, 3010, 3014:
		c.Kind = CauseInternal
	case 3005, 3006:
		c.Kind = CauseExpired
	case 3008:
		c.Kind = CauseSlow
	case 3012:
		c.Kind = CauseHeartbeat
	case 3013:
		c.Kind, c.Detail = CauseRefused, "too_many_requests" // the reason has a time in it
	case 3504, 3505, 3508, 3509:
		c.Kind = CauseRefused
	case 3500, 3502, 3507:
		c.Kind = CauseUnauthorized
	case 3501, 3506:
		c.Kind = CauseProtocol
	case 3503, 3011:
	default:
		c.Detail = "" // the application's own words are in its own log
	}
	return c
}

var _ engine.Handler = handler{}
