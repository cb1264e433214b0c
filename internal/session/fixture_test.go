package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/internal/token/tokentest"
	"github.com/longwire/longwire/ws"
)

// bench is a table with everything around it: a loop that is not one, a real hub, a real engine and clients. Time stands
// until the test moves it, and work that waits runs when the test says so.
type bench struct {
	t     testing.TB
	clock atomic.Int64 // Unix nanoseconds; engines read it from goroutines of theirs
	n     *Node
	hub   *hub.Hub
	table *Table
	mem   *memengine.Engine
	slow  *slowEngine                                                    // nil: the engine is immediate
	drop  func(channel string, p *engine.Publication, epoch string) bool // what gets lost on the way to the node

	conns   []*conn // by slot; nil: free
	byID    map[uint64]*conn
	lastID  uint64
	woken   bool
	manual  bool // work runs by step, not by itself
	timers  int  // calls of Table.Timer
	serials []*serial
	called  []Call          // what Host.Called was told
	context journal.Context // of Host.Context
}

// conn is a client and its connection.
type conn struct {
	b        *bench
	i        uint32
	id       uint64
	protocol Protocol
	frames   bool
	serial   *serial

	open    bool // as the front sees it
	over    bool // Table.Closed was called
	closed  *Disconnect
	paused  bool
	inbox   [][]byte // came while it was paused
	unread  []byte   // waits in its socket: the loop has not come to it yet
	timer   time.Time
	backlog int // bytes its socket does not take
	window  uint8

	got     []reply
	pings   int
	answers bool // with pongs, at once
	raw     [][]byte
	count   bool // only count what is pushed
	sent    int
}

// serial is the work of one conn, in order.
type serial struct {
	c    *conn
	work []func()
}

type setup struct {
	o          Options
	channels   channel.Options
	namespaces []channel.Options
	waits      bool // the engine is not immediate
	manual     bool
	slots      int
}

const (
	testSecret = "a secret of the tests"
	testStart  = 1_700_000_000
)

func newBench(t testing.TB, s setup) *bench {
	b := &bench{t: t, byID: make(map[uint64]*conn), manual: s.manual}
	b.clock.Store(testStart * 1e9)
	b.mem = memengine.New(&memengine.Options{Now: b.now})
	var e engine.Engine = b.mem
	if s.waits {
		b.slow = &slowEngine{Engine: b.mem}
		e = b.slow
	}
	b.hub = hub.New(hub.Options{Loops: 1, Wake: func(int) { b.woken = true }})
	if err := e.Start(t.Context(), handler{b}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	o := s.o
	var err error
	if o.Rules, err = channel.NewRules(s.channels, s.namespaces); err != nil {
		t.Fatal(err)
	}
	o.Engine, o.Hub = e, b.hub
	if o.Tokens == nil {
		o.Tokens = b.verifier(token.Options{HMACSecret: []byte(testSecret)})
	}
	o.Log = slog.New(slog.DiscardHandler)
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Ping, 25*time.Second)
	def(&o.Pong, 8*time.Second)
	o.Pong = max(o.Pong, 0)
	def(&o.Grace, 25*time.Second)
	def(&o.Stale, 10*time.Second)
	if o.ChannelLimit == 0 {
		o.ChannelLimit = 128
	}
	o.ChannelLength = 255
	if o.CompressAbove == 0 {
		o.CompressAbove = 256
	}
	if b.n, err = NewNode(o); err != nil {
		t.Fatal(err)
	}
	b.n.setRates(b.now())
	if s.slots == 0 {
		s.slots = 16
	}
	b.conns = make([]*conn, s.slots)
	b.table = NewTable(b.n, host{b}, b.hub.Shard(0), make([]byte, s.slots*StateSize))
	return b
}

func (b *bench) verifier(o token.Options) *token.Verifier {
	o.Now = b.now
	v, err := token.New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(v.Close)
	return v
}

func (b *bench) now() time.Time { return time.Unix(0, b.clock.Load()) }

// handler is the node's side of the engine.
type handler struct{ b *bench }

func (h handler) Publication(channel string, p *engine.Publication, epoch string) {
	if h.b.drop == nil || !h.b.drop(channel, p, epoch) {
		h.b.hub.Publication(channel, p, epoch)
	}
}
func (h handler) Join(channel string, info *engine.ClientInfo)  { h.b.hub.Join(channel, info) }
func (h handler) Leave(channel string, info *engine.ClientInfo) { h.b.hub.Leave(channel, info) }
func (h handler) Control([]byte)                                {}

// slowEngine is an engine that waits, and may fail.
type slowEngine struct {
	engine.Engine
	fails func() bool
}

func (e *slowEngine) error() error {
	if e.fails != nil && e.fails() {
		return fmt.Errorf("test: %w", engine.ErrUnavailable)
	}
	return nil
}

func (e *slowEngine) Publish(ctx context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	if err := e.error(); err != nil {
		return engine.Published{}, err
	}
	return e.Engine.Publish(ctx, channel, p, o)
}

func (e *slowEngine) History(ctx context.Context, channel string, f engine.HistoryFilter, meta time.Duration) ([]*engine.Publication, engine.Position, error) {
	if err := e.error(); err != nil {
		return nil, engine.Position{}, err
	}
	return e.Engine.History(ctx, channel, f, meta)
}

func (e *slowEngine) Presence(ctx context.Context, channel string) (map[string]*engine.ClientInfo, error) {
	if err := e.error(); err != nil {
		return nil, err
	}
	return e.Engine.Presence(ctx, channel)
}

// host is the loop.
type host struct{ b *bench }

func (h host) conn(i uint32) *conn {
	c := h.b.conns[i]
	if c == nil {
		h.b.t.Fatalf("host: conn %d is none", i)
	}
	return c
}

func (h host) ID(i uint32) uint64 { return h.conn(i).id }
func (h host) Find(id uint64) (uint32, bool) {
	c := h.b.byID[id]
	if c == nil || !c.open {
		return 0, false
	}
	return c.i, true
}
func (h host) Addr(uint32) string          { return "192.0.2.7" }
func (h host) Window(i uint32) uint8       { return h.conn(i).window }
func (h host) Connected(uint32, string)    {}
func (h host) Subscribed(uint32, []byte)   {}
func (h host) Left(uint32, []byte, uint32) {}
func (h host) Ponged(uint32)               {}

func (h host) Called(i uint32, c Call) {
	c.Subject = slices.Clone(c.Subject)
	h.b.called = append(h.b.called, c)
}

func (h host) Context(uint32) journal.Context { return h.b.context }
func (h host) Backlog(i uint32) int           { return h.conn(i).backlog }
func (h host) Look(i uint32) {
	if c := h.conn(i); c.unread != nil {
		m := c.unread
		c.unread = nil
		h.b.table.Message(i, m)
	}
}
func (h host) Now() time.Time { return h.b.now() }

func (h host) Reply(i uint32, op ws.Opcode, payload []byte) {
	c := h.conn(i)
	if !c.open {
		return
	}
	if want := c.op(); op != want {
		h.b.t.Errorf("conn %d: reply as %v, want %v", i, op, want)
	}
	c.take(payload)
}

func (h host) Push(i uint32, frame []byte, more bool) {
	c := h.conn(i)
	if !c.open {
		return
	}
	if c.count {
		c.sent++
		return
	}
	hd, n, err := ws.ParseHeader(frame)
	if err != nil || n == 0 || hd.Opcode != c.op() || !hd.Fin || int(hd.Length) != len(frame)-n {
		h.b.t.Fatalf("conn %d: pushed %x: header %+v, %v", i, frame, hd, err)
	}
	c.take(frame[n:])
}

func (h host) Close(i uint32, d *Disconnect) {
	c := h.conn(i)
	if c.closed != nil {
		h.b.t.Errorf("conn %d: closed with %d after %d", i, d.Code, c.closed.Code)
	}
	c.closed, c.open, c.timer = d, false, time.Time{}
}

func (h host) SetTimer(i uint32, d time.Duration) {
	c := h.conn(i)
	if d < 0 {
		h.b.t.Errorf("conn %d: a timer after %v", i, d)
	}
	if c.open {
		c.timer = h.b.now().Add(d)
	}
}

func (h host) Rearm(i uint32) {
	if c := h.conn(i); c.open {
		c.beat()
	}
}

// beat sets the timer as a front's own heartbeat does.
func (c *conn) beat() {
	d := c.b.n.o.Ping
	if left, ok := c.b.table.Turn(c.i); ok {
		d = max(100*time.Millisecond, min(d, left))
	}
	c.timer = c.b.now().Add(d)
}

func (h host) Pause(i uint32) { h.conn(i).paused = true }

func (h host) Resume(i uint32) {
	c := h.conn(i)
	c.paused = false
	for len(c.inbox) > 0 && !c.paused && c.open {
		m := c.inbox[0]
		c.inbox = c.inbox[1:]
		c.deliver(m)
	}
}

func (h host) Go(i uint32, work func(ctx context.Context) (then func())) {
	c := h.conn(i)
	c.serial.work = append(c.serial.work, func() {
		then := work(context.Background())
		// In front of everything else of the conn: the next work does not begin before.
		c.serial.work = slices.Insert(c.serial.work, 0, func() {
			if c.open {
				then()
			}
		})
	})
}

func (h host) Later(i uint32, work func(ctx context.Context)) {
	c := h.conn(i)
	c.serial.work = append(c.serial.work, func() { work(context.Background()) })
}

func (c *conn) op() ws.Opcode {
	if c.protocol == Protobuf {
		return ws.OpBinary
	}
	return ws.OpText
}

// take reads what the client gets.
func (c *conn) take(payload []byte) {
	c.raw = append(c.raw, slices.Clone(payload))
	if c.protocol == Plain {
		return
	}
	var text []byte
	if c.protocol == Protobuf {
		length, n := protowire.ConsumeVarint(payload)
		if n < 0 || int(length) != len(payload)-n {
			c.b.t.Fatalf("conn %d: got %x", c.i, payload)
		}
		var err error
		if text, err = json.Marshal(decode(c.b.t, payload[n:], replySchema)); err != nil {
			c.b.t.Fatal(err)
		}
	} else {
		text = payload
	}
	var r reply
	if err := json.Unmarshal(text, &r); err != nil {
		c.b.t.Fatalf("conn %d: got %s: %v", c.i, text, err)
	}
	if string(text) == "{}" {
		c.pings++
		return
	}
	c.got = append(c.got, r)
}

// accept makes a conn.
func (b *bench) accept(p Protocol) *conn { return b.acceptAs(p, false) }

func (b *bench) acceptAs(p Protocol, frames bool) *conn {
	i := slices.Index(b.conns, nil)
	if i < 0 {
		b.t.Fatal("no slot is free")
	}
	b.lastID++
	c := &conn{b: b, i: uint32(i), id: b.lastID<<20 | uint64(i), protocol: p, frames: frames, open: true}
	c.serial = &serial{c: c}
	b.serials = append(b.serials, c.serial)
	b.conns[i], b.byID[c.id] = c, c
	if p != Plain {
		b.table.Open(c.i, Opening{Protocol: p, Frames: frames, Header: func(name string) []byte {
			if name == "X-Test" {
				return []byte("from the handshake")
			}
			return nil
		}})
	}
	return c
}

// send has the client send commands, in JSON; they are translated where it speaks Protobuf.
func (c *conn) send(commands ...string) {
	c.b.t.Helper()
	c.message(c.encode(commands...))
	c.b.run()
}

func (c *conn) encode(commands ...string) []byte {
	var m []byte
	for n, s := range commands {
		if c.protocol == Protobuf {
			m = protowire.AppendBytes(m, encode(c.b.t, []byte(s), commandSchema))
			continue
		}
		if n > 0 {
			m = append(m, '\n')
		}
		m = append(m, s...)
	}
	return m
}

func (c *conn) message(m []byte) {
	switch {
	case !c.open:
	case c.paused:
		c.inbox = append(c.inbox, m)
	default:
		c.deliver(m)
	}
}

func (c *conn) deliver(m []byte) {
	m = slices.Clone(m)
	if c.protocol == Plain {
		c.b.table.PlainMessage(c.i, m)
	} else {
		c.b.table.Message(c.i, m)
	}
	for k := range m {
		m[k] = 0xff // what was kept of it is wrong from now on
	}
}

// cut ends the connection as the network does.
func (c *conn) cut() {
	c.open = false
	c.b.run()
}

// end tells the table of an end.
func (c *conn) end() {
	if c.over {
		return
	}
	c.over = true
	c.b.table.Closed(c.i)
	c.b.conns[c.i] = nil
	delete(c.b.byID, c.id)
}

// step runs the next piece of work of a conn, and reports whether there was one.
func (s *serial) step() bool {
	if len(s.work) == 0 {
		return false
	}
	f := s.work[0]
	s.work = s.work[1:]
	f()
	return true
}

// run does what a loop would do by itself, unless the test is to say when.
func (b *bench) run() {
	if !b.manual {
		b.runAll()
	}
}

func (b *bench) runAll() {
	b.t.Helper()
	for range 100_000 {
		busy := b.woken
		if b.woken {
			b.woken = false
			b.table.Drain()
		}
		for _, c := range b.conns {
			if c != nil && !c.open {
				c.end()
				busy = true
			}
		}
		for _, s := range b.serials {
			busy = s.step() || busy
		}
		b.serials = slices.DeleteFunc(b.serials, func(s *serial) bool { return s.c.over && len(s.work) == 0 })
		if !busy {
			return
		}
	}
	b.t.Fatal("it does not come to rest")
}

// advance moves the clock and runs the timers on the way.
func (b *bench) advance(d time.Duration) {
	b.t.Helper()
	end := b.now().Add(d)
	for range 100_000 {
		var next *conn
		for _, c := range b.conns {
			if c != nil && c.open && !c.timer.IsZero() && !c.timer.After(end) && (next == nil || c.timer.Before(next.timer)) {
				next = c
			}
		}
		if next == nil {
			b.clock.Store(end.UnixNano())
			return
		}
		if next.timer.After(b.now()) {
			b.clock.Store(next.timer.UnixNano())
		}
		b.fire(next)
		b.run()
	}
	b.t.Fatal("timers without end")
}

// fire is the timer of c.
func (b *bench) fire(c *conn) {
	c.timer = time.Time{}
	b.timers++
	defer func() {
		for ; c.answers && c.pings > 0; c.pings-- {
			c.message(c.encode(`{}`))
		}
	}()
	if !b.table.Timer(c.i) && c.open {
		c.beat()
	}
}

func (b *bench) publish(channel, data string) {
	b.t.Helper()
	b.publishAs(channel, &engine.Publication{Data: []byte(data)}, PublishOptions{})
	b.run()
}

func (b *bench) publishAs(channel string, p *engine.Publication, by PublishOptions) {
	b.t.Helper()
	o, _, ok := b.n.o.Rules.Lookup([]byte(channel))
	if !ok {
		b.t.Fatalf("no rules for %s", channel)
	}
	p.Delta = p.Delta || by.Delta || o.DeltaPublish
	if _, err := b.n.Publish(b.t.Context(), channel, p, o, by); err != nil {
		b.t.Fatal(err)
	}
}

// check recounts what there is.
func (b *bench) check() {
	b.t.Helper()
	t := b.table
	sessions, subs, users := 0, 0, 0
	live := make(map[uint32]bool)
	for i := range t.conn {
		st := &t.conn[i]
		if b.conns[i] == nil && *st != (state{}) {
			b.t.Errorf("slot %d of nobody has %+v", i, *st)
		}
		if st.phase == phaseConnected {
			sessions++
		}
		n := 0
		for sub := st.subs; sub != 0; sub = t.shard.At(sub).Sibling {
			n++
			live[sub] = true
			if s := t.shard.At(sub).Slot; s != uint32(i) {
				b.t.Fatalf("slot %d has subscription %d of slot %d", i, sub, s)
			}
			if n > 1<<16 {
				b.t.Fatalf("slot %d has subscriptions in a ring", i)
			}
		}
		if n != int(st.count) {
			b.t.Errorf("slot %d has %d subscriptions and counts %d", i, n, st.count)
		}
		if st.phase != phaseConnected && (n > 0 || st.hash != 0 || st.who != 0) {
			b.t.Errorf("slot %d is not connected and has %+v", i, *st)
		}
		subs += n
		if st.hash != 0 {
			users++
		}
		if _, ok := t.turns[uint32(i)]; ok != (st.flags&flagTurn != 0) || ok && st.phase != phaseConnected {
			b.t.Errorf("slot %d in phase %d: its turn is kept: %t, flags %x", i, st.phase, ok, st.flags)
		}
		if !st.open() && (t.rest[uint32(i)] != nil || t.rates[uint32(i)] != nil || t.headers[uint32(i)] != nil) {
			b.t.Errorf("slot %d is over and something waits for it", i)
		}
	}
	if got := b.n.Sessions.Load(); got != int64(sessions) {
		b.t.Errorf("%d sessions counted, there are %d", got, sessions)
	}
	if got := b.n.Subs.Load(); got != int64(subs) || t.shard.Subs() != subs {
		b.t.Errorf("%d subscriptions counted, the hub has %d, there are %d", got, t.shard.Subs(), subs)
	}
	if t.users.Len() != users {
		b.t.Errorf("%d users in the table, there are %d", t.users.Len(), users)
	}
	for sub := range t.held {
		if !live[sub] {
			b.t.Errorf("something is held for subscription %d, which is none", sub)
		}
	}
	for sub := range t.behind {
		if !live[sub] {
			b.t.Errorf("something waits for subscription %d, which is none", sub)
		}
	}
}

// empty ends all and checks that nothing is kept.
func (b *bench) empty() {
	b.t.Helper()
	for _, c := range b.conns {
		if c != nil {
			c.open = false
		}
	}
	b.runAll()
	b.check()
	t := b.table
	if n := t.bytes.Used(); n != 0 {
		b.t.Errorf("%d bytes of users are kept", n)
	}
	if t.shard.Subs() != 0 || t.shard.Channels() != 0 || b.n.Sessions.Load() != 0 || b.n.Subs.Load() != 0 || t.shard.Waiting() != 0 {
		b.t.Errorf("kept: %d subscriptions, %d channels, %d sessions, %d bytes that wait", t.shard.Subs(), t.shard.Channels(), b.n.Sessions.Load(), t.shard.Waiting())
	}
	if len(t.rest)+len(t.held)+len(t.behind)+len(t.rates)+len(t.headers) != 0 {
		b.t.Errorf("kept: rest %v, held %v, behind %v, rates %v, headers %v", t.rest, t.held, t.behind, t.rates, t.headers)
	}
	if t.turns != nil {
		b.t.Errorf("kept: turns %v", t.turns)
	}
	if n := b.mem.Stats().Clients; n != 0 {
		b.t.Errorf("%d are present", n)
	}
}

// What clients get.

type reply struct {
	ID    uint32
	Error *struct {
		Code      uint32
		Message   string
		Temporary bool
	}
	Push    *push
	Connect *struct {
		Client, Version string
		Expires         bool
		TTL             uint32
		Data            json.RawMessage
		Subs            map[string]subscribed
		Ping            uint32
		Pong            bool
	}
	Subscribe     *subscribed
	Unsubscribe   *struct{}
	Publish       *struct{}
	Presence      *struct{ Presence map[string]clientInfo }
	PresenceStats *struct {
		Clients int `json:"num_clients"`
		Users   int `json:"num_users"`
	} `json:"presence_stats"`
	History *struct {
		Publications []publication
		Epoch        string
		Offset       uint64
	}
	RPC     *struct{ Data json.RawMessage }
	Refresh *struct {
		Expires bool
		TTL     uint32
	}
	SubRefresh *struct {
		Expires bool
		TTL     uint32
	} `json:"sub_refresh"`
}

type subscribed struct {
	Expires, Recoverable, Recovered, Positioned, Delta bool
	WasRecovering                                      bool `json:"was_recovering"`
	TTL                                                uint32
	Epoch                                              string
	Offset                                             uint64
	Publications                                       []publication
	Data                                               json.RawMessage
}

type publication struct {
	Data   json.RawMessage
	Info   *clientInfo
	Offset uint64
	Delta  bool
	Epoch  string
}

type clientInfo struct {
	User, Client string
	ConnInfo     json.RawMessage `json:"conn_info"`
	ChanInfo     json.RawMessage `json:"chan_info"`
}

type push struct {
	Channel     string
	Pub         *publication
	Join, Leave *struct{ Info clientInfo }
	Unsubscribe *struct {
		Code   uint32
		Reason string
	}
	Subscribe *subscribed
	Refresh   *struct {
		Expires bool
		TTL     uint32
	}
}

// brief is what was got, in a few words each.
func (c *conn) brief() (out []string) {
	for _, r := range c.got {
		out = append(out, r.brief())
	}
	return out
}

func (r *reply) brief() string {
	switch p := r.Push; {
	case r.Error != nil:
		return fmt.Sprintf("%d error %d", r.ID, r.Error.Code)
	case r.Connect != nil:
		return fmt.Sprintf("%d connect", r.ID)
	case r.Subscribe != nil:
		return fmt.Sprintf("%d subscribe", r.ID)
	case r.Unsubscribe != nil:
		return fmt.Sprintf("%d unsubscribe", r.ID)
	case r.Publish != nil:
		return fmt.Sprintf("%d publish", r.ID)
	case r.Presence != nil:
		return fmt.Sprintf("%d presence %d", r.ID, len(r.Presence.Presence))
	case r.PresenceStats != nil:
		return fmt.Sprintf("%d presence_stats %d %d", r.ID, r.PresenceStats.Clients, r.PresenceStats.Users)
	case r.History != nil:
		return fmt.Sprintf("%d history %d at %d", r.ID, len(r.History.Publications), r.History.Offset)
	case r.RPC != nil:
		return fmt.Sprintf("%d rpc %s", r.ID, r.RPC.Data)
	case r.Refresh != nil:
		return fmt.Sprintf("%d refresh %d", r.ID, r.Refresh.TTL)
	case r.SubRefresh != nil:
		return fmt.Sprintf("%d sub_refresh %d", r.ID, r.SubRefresh.TTL)
	case p == nil:
		return fmt.Sprintf("%d ?", r.ID)
	case p.Pub != nil:
		return fmt.Sprintf("%s pub %s at %d", p.Channel, p.Pub.Data, p.Pub.Offset)
	case p.Join != nil:
		return fmt.Sprintf("%s join %s", p.Channel, p.Join.Info.User)
	case p.Leave != nil:
		return fmt.Sprintf("%s leave %s", p.Channel, p.Leave.Info.User)
	case p.Unsubscribe != nil:
		return fmt.Sprintf("%s unsubscribe %d", p.Channel, p.Unsubscribe.Code)
	case p.Subscribe != nil:
		return fmt.Sprintf("%s subscribe at %d", p.Channel, p.Subscribe.Offset)
	case p.Refresh != nil:
		return fmt.Sprintf("refresh %d", p.Refresh.TTL)
	}
	return "?"
}

// expect compares what the client got since the last time, and how the connection is.
func (c *conn) expect(closed uint16, want ...string) {
	c.b.t.Helper()
	got := c.brief()
	c.got, c.raw = nil, nil
	if !slices.Equal(got, want) {
		c.b.t.Errorf("conn %d got\n\t%q, want\n\t%q", c.i, got, want)
	}
	code := uint16(0)
	if c.closed != nil {
		code = c.closed.Code
	}
	if code != closed {
		c.b.t.Errorf("conn %d is closed with %d, want %d", c.i, code, closed)
	}
}

func (c *conn) last() reply {
	c.b.t.Helper()
	if len(c.got) == 0 {
		c.b.t.Fatalf("conn %d got nothing", c.i)
	}
	return c.got[len(c.got)-1]
}

// connect makes a session, of user if that is not empty.
func (b *bench) connect(p Protocol, user string) *conn {
	b.t.Helper()
	c := b.accept(p)
	if p == Plain {
		return c
	}
	c.send(connectWith(map[string]any{"sub": user}))
	c.expect(0, "1 connect")
	return c
}

func connectWith(claims map[string]any) string {
	return fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, sign("HS256", testSecret, claims))
}

// sign makes a token.
func sign(alg, secret string, claims map[string]any) string {
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return tokentest.Claiming(alg, secret, string(body))
}

// bothFormats runs a test in JSON and in Protobuf.
func bothFormats(t *testing.T, f func(t *testing.T, p Protocol)) {
	t.Run("json", func(t *testing.T) { f(t, JSON) })
	t.Run("protobuf", func(t *testing.T) { f(t, Protobuf) })
}

// The protocol's messages, to translate between JSON and Protobuf.

type field struct {
	number int32
	name   string
	kind   byte // u: a number, b: a truth, s: text, r: raw JSON, m: message, l: list of messages, d: map of messages
	of     []field
}

var (
	optionsSchema = []field{{3, "recover", 'b', nil}, {6, "epoch", 's', nil}, {7, "offset", 'u', nil}, {9, "positioned", 'b', nil},
		{10, "recoverable", 'b', nil}, {11, "join_leave", 'b', nil}, {12, "delta", 's', nil}, {14, "flag", 'u', nil}, {15, "type", 'u', nil}}
	positionSchema  = []field{{1, "offset", 'u', nil}, {2, "epoch", 's', nil}}
	channelSchema   = []field{{1, "channel", 's', nil}}
	subscribeSchema = append([]field{{1, "channel", 's', nil}, {2, "token", 's', nil}, {8, "data", 'r', nil}}, optionsSchema...)
	commandSchema   = []field{{1, "id", 'u', nil},
		{4, "connect", 'm', []field{{1, "token", 's', nil}, {2, "data", 'r', nil}, {3, "subs", 'd', optionsSchema}, {4, "name", 's', nil}, {5, "version", 's', nil}}},
		{5, "subscribe", 'm', subscribeSchema}, {6, "unsubscribe", 'm', channelSchema},
		{7, "publish", 'm', []field{{1, "channel", 's', nil}, {2, "data", 'r', nil}}},
		{8, "presence", 'm', channelSchema}, {9, "presence_stats", 'm', channelSchema},
		{10, "history", 'm', []field{{1, "channel", 's', nil}, {7, "limit", 'u', nil}, {8, "since", 'm', positionSchema}, {9, "reverse", 'b', nil}}},
		{11, "ping", 'm', nil}, {12, "send", 'm', []field{{1, "data", 'r', nil}}},
		{13, "rpc", 'm', []field{{1, "data", 'r', nil}, {2, "method", 's', nil}}},
		{14, "refresh", 'm', []field{{1, "token", 's', nil}}},
		{15, "sub_refresh", 'm', []field{{1, "channel", 's', nil}, {2, "token", 's', nil}}},
		{99, "dance", 'm', nil}}

	infoSchema        = []field{{1, "user", 's', nil}, {2, "client", 's', nil}, {3, "conn_info", 'r', nil}, {4, "chan_info", 'r', nil}}
	publicationSchema = []field{{4, "data", 'r', nil}, {5, "info", 'm', infoSchema}, {6, "offset", 'u', nil}, {8, "delta", 'b', nil}, {14, "epoch", 's', nil}}
	subscribedSchema  = []field{{1, "expires", 'b', nil}, {2, "ttl", 'u', nil}, {3, "recoverable", 'b', nil}, {6, "epoch", 's', nil},
		{7, "publications", 'l', publicationSchema}, {8, "recovered", 'b', nil}, {9, "offset", 'u', nil}, {10, "positioned", 'b', nil},
		{11, "data", 'r', nil}, {12, "was_recovering", 'b', nil}, {13, "delta", 'b', nil}}
	joinSchema  = []field{{1, "info", 'm', infoSchema}}
	ttlSchema   = []field{{3, "expires", 'b', nil}, {4, "ttl", 'u', nil}}
	ttlFirst    = []field{{1, "expires", 'b', nil}, {2, "ttl", 'u', nil}}
	replySchema = []field{{1, "id", 'u', nil},
		{2, "error", 'm', []field{{1, "code", 'u', nil}, {2, "message", 's', nil}, {3, "temporary", 'b', nil}}},
		{4, "push", 'm', []field{{2, "channel", 's', nil}, {4, "pub", 'm', publicationSchema}, {5, "join", 'm', joinSchema}, {6, "leave", 'm', joinSchema},
			{7, "unsubscribe", 'm', []field{{2, "code", 'u', nil}, {3, "reason", 's', nil}}},
			{9, "subscribe", 'm', []field{{1, "recoverable", 'b', nil}, {4, "epoch", 's', nil}, {5, "offset", 'u', nil}, {6, "positioned", 'b', nil}, {7, "data", 'r', nil}}},
			{12, "refresh", 'm', ttlFirst}}},
		{5, "connect", 'm', append([]field{{1, "client", 's', nil}, {2, "version", 's', nil}, {5, "data", 'r', nil}, {6, "subs", 'd', subscribedSchema},
			{7, "ping", 'u', nil}, {8, "pong", 'b', nil}}, ttlSchema...)},
		{6, "subscribe", 'm', subscribedSchema}, {7, "unsubscribe", 'm', nil}, {8, "publish", 'm', nil},
		{9, "presence", 'm', []field{{1, "presence", 'd', infoSchema}}},
		{10, "presence_stats", 'm', []field{{1, "num_clients", 'u', nil}, {2, "num_users", 'u', nil}}},
		{11, "history", 'm', []field{{1, "publications", 'l', publicationSchema}, {2, "epoch", 's', nil}, {3, "offset", 'u', nil}}},
		{13, "rpc", 'm', []field{{1, "data", 'r', nil}}},
		{14, "refresh", 'm', append([]field{{1, "client", 's', nil}, {2, "version", 's', nil}}, ttlSchema...)},
		{15, "sub_refresh", 'm', ttlFirst}}
)

// encode translates an object into Protobuf.
func encode(t testing.TB, object []byte, schema []field) (out []byte) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(object, &m); err != nil {
		t.Fatalf("%s: %v", object, err)
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := slices.IndexFunc(schema, func(f field) bool { return f.name == name })
		if at < 0 {
			t.Fatalf("no field %s", name)
		}
		f, v := schema[at], m[name]
		n := protowire.Number(f.number)
		switch f.kind {
		case 'u':
			var u int64
			var big uint64
			if json.Unmarshal(v, &u) == nil {
				big = uint64(u)
			} else if err := json.Unmarshal(v, &big); err != nil {
				t.Fatal(err)
			}
			out = protowire.AppendVarint(protowire.AppendTag(out, n, protowire.VarintType), big)
		case 'b':
			if bytes.Equal(v, []byte("true")) {
				out = protowire.AppendVarint(protowire.AppendTag(out, n, protowire.VarintType), 1)
			}
		case 's':
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				t.Fatal(err)
			}
			out = protowire.AppendString(protowire.AppendTag(out, n, protowire.BytesType), s)
		case 'r':
			out = protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), v)
		case 'm':
			out = protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), encode(t, v, f.of))
		case 'd':
			var entries map[string]json.RawMessage
			if err := json.Unmarshal(v, &entries); err != nil {
				t.Fatal(err)
			}
			for key, e := range entries {
				b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
				b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), encode(t, e, f.of))
				out = protowire.AppendBytes(protowire.AppendTag(out, n, protowire.BytesType), b)
			}
		}
	}
	return out
}

// decode translates from Protobuf.
func decode(t testing.TB, b []byte, schema []field) map[string]any {
	m := make(map[string]any)
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			t.Fatalf("a field of %x", b)
		}
		b = b[size:]
		at := slices.IndexFunc(schema, func(f field) bool { return f.number == int32(n) })
		if at < 0 {
			t.Fatalf("no field %d", n)
		}
		f := schema[at]
		if typ == protowire.VarintType {
			v, size := protowire.ConsumeVarint(b)
			b = b[size:]
			if m[f.name] = any(v); f.kind == 'b' {
				m[f.name] = v != 0
			}
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 {
			t.Fatalf("a field of %x", b)
		}
		b = b[size:]
		switch f.kind {
		case 's':
			m[f.name] = string(v)
		case 'r':
			if m[f.name] = any(v); json.Valid(v) {
				m[f.name] = json.RawMessage(v)
			}
		case 'm':
			m[f.name] = decode(t, v, f.of)
		case 'l':
			list, _ := m[f.name].([]any)
			m[f.name] = append(list, decode(t, v, f.of))
		case 'd':
			e := decode(t, v, []field{{1, "key", 's', nil}, {2, "value", 'm', f.of}})
			entries, _ := m[f.name].(map[string]any)
			if entries == nil {
				entries = make(map[string]any)
			}
			key, _ := e["key"].(string)
			if entries[key] = e["value"]; e["value"] == nil {
				entries[key] = map[string]any{}
			}
			m[f.name] = entries
		}
	}
	return m
}
