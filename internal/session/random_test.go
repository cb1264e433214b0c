package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
)

// model is what the clients of a random run must see.
type model struct {
	b       *bench
	rand    *rand.Rand
	lossy   bool
	data    map[string]string // by channel, epoch and offset: what was published
	clients []*modelClient
	n       int // publications
	checked int // publications that clients got in order
	told    int // subscriptions that were told of a loss
}

type modelClient struct {
	c    *conn
	id   int
	asks map[uint32]string // by id: the channel of a subscribe
	ends map[uint32]string // by id: that of an unsubscribe
	subs map[string]*position
	seen map[string]engine.Position // where it was, to recover from
}

// position is where a subscription stands, as its client knows.
type position struct {
	positioned bool
	at         engine.Position
}

var randomChannels = []string{"a", "b", "hist:a", "hist:b", "hook:a", "slow:a", "bare:a"}

func newModel(t *testing.T, seed uint64, waits bool) *model {
	hist := open
	hist.Name, hist.HistorySize, hist.RecoverMax = "hist", 20, 8
	hook := open
	hook.Name, hook.SubscribeHook, hook.PublishHook, hook.SubRefreshHook = "hook", true, true, true
	slow := open
	slow.Name, slow.Slow = "slow", channel.SlowConflate
	bare := channel.Options{Name: "bare", SubscribeForClient: true, PublishForClient: true, PublishRate: 1}
	m := &model{rand: rand.New(rand.NewPCG(seed, 7)), data: make(map[string]string)}
	answer := func() error {
		switch m.rand.IntN(12) {
		case 0:
			return errors.New("boom")
		case 1:
			return &Error{Code: 4000}
		case 2:
			return &Disconnect{Code: 4001}
		}
		return nil
	}
	soon := func() time.Time {
		if m.rand.IntN(3) > 0 {
			return time.Time{}
		}
		return m.b.now().Add(time.Duration(m.rand.IntN(40)-2) * time.Second)
	}
	m.b = newBench(t, setup{waits: waits, manual: true, slots: 24, channels: open, namespaces: []channel.Options{hist, hook, slow, bare},
		o: Options{ChannelLimit: 6, Hooks: Hooks{
			Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
				return ConnectReply{User: fmt.Sprint("h", m.rand.IntN(3)), ExpireAt: soon(), Channels: []string{"hist:a", "a"}}, answer()
			},
			Refresh: func(context.Context, Client) (RefreshReply, error) {
				return RefreshReply{ExpireAt: soon(), Info: []byte(`1`)}, answer()
			},
			Subscribe: func(context.Context, Client, SubscribeRequest) (SubscribeReply, error) {
				return SubscribeReply{ExpireAt: soon()}, answer()
			},
			SubRefresh: func(context.Context, Client, string) (RefreshReply, error) {
				return RefreshReply{ExpireAt: soon(), Info: []byte(`2`)}, answer()
			},
			Publish: func(context.Context, Client, PublishRequest) (PublishReply, error) {
				return PublishReply{SkipHistory: m.rand.IntN(4) == 0}, answer()
			},
			RPC: func(context.Context, Client, string, []byte) ([]byte, error) { return []byte(`3`), answer() },
		}}})
	m.b.drop = func(channel string, p *engine.Publication, epoch string) bool {
		m.data[fmt.Sprint(channel, epoch, p.Offset)] = string(p.Data)
		return m.lossy && m.rand.IntN(12) == 0
	}
	if waits {
		m.b.slow.fails = func() bool { return m.lossy && m.rand.IntN(15) == 0 }
	}
	return m
}

func (m *model) channel() string { return randomChannels[m.rand.IntN(len(randomChannels))] }

func (m *model) open() []*modelClient {
	return slices.DeleteFunc(slices.Clone(m.clients), func(c *modelClient) bool { return !c.c.open })
}

func (m *model) step() {
	b := m.b
	clients := m.open()
	var c *modelClient
	if len(clients) > 0 {
		c = clients[m.rand.IntN(len(clients))]
	}
	switch n := m.rand.IntN(100); {
	case n < 8 || c == nil:
		if slices.Contains(b.conns, nil) {
			m.connect()
		}
	case n < 40:
		m.command(c)
	case n < 55:
		m.n++
		_, _ = m.publish(m.channel(), &engine.Publication{Data: fmt.Appendf(nil, "%d", m.n)})
	case n < 75:
		if len(b.serials) > 0 {
			b.serials[m.rand.IntN(len(b.serials))].step()
		}
	case n < 85:
		b.table.Drain()
	case n < 88:
		b.advance(time.Duration(m.rand.IntN(9000)) * time.Millisecond)
	case n < 90:
		c.c.open = false
	case n < 92:
		for _, o := range b.conns {
			if o != nil && !o.open {
				o.end()
			}
		}
	case n < 95:
		if c.c.backlog = 0; m.rand.IntN(2) == 0 {
			c.c.backlog = slowAbove * 2
		} else {
			b.table.Drained(c.c.i)
		}
	case n < 96:
		_ = b.mem.RemoveHistory(b.t.Context(), m.channel())
	default:
		m.control()
	}
	m.read()
}

func (m *model) publish(channel string, p *engine.Publication) (engine.Published, error) {
	o, _, _ := m.b.n.o.Rules.Lookup([]byte(channel))
	return m.b.n.Publish(m.b.t.Context(), channel, p, o, PublishOptions{})
}

func (m *model) connect() {
	c := &modelClient{c: m.b.acceptAs([]Protocol{JSON, Protobuf}[m.rand.IntN(2)], m.rand.IntN(5) == 0), id: 1,
		asks: make(map[uint32]string), ends: make(map[uint32]string), subs: make(map[string]*position), seen: make(map[string]engine.Position)}
	c.c.answers = m.rand.IntN(10) > 0
	m.clients = append(m.clients, c)
	switch m.rand.IntN(4) {
	case 0:
		c.c.message(c.c.encode(`{"id":1,"connect":{}}`)) // the hook decides
	case 1:
		yes := map[string]any{"override": map[string]any{"force_recovery": map[string]any{"value": true}}}
		c.c.message(c.c.encode(connectWith(map[string]any{"sub": "srv", "subs": map[string]any{"a": yes, "hist:b": yes, "bare:a": map[string]any{}}})))
	default:
		c.c.message(c.c.encode(connectWith(map[string]any{"sub": fmt.Sprint("u", m.rand.IntN(4)), "exp": m.b.now().Unix() + int64(m.rand.IntN(300)+1), "info": 1})))
	}
	if m.rand.IntN(2) == 0 {
		c.c.answers = true
	}
}

func (m *model) command(c *modelClient) {
	var out []string
	for range 1 + m.rand.IntN(3) {
		c.id++
		ch := m.channel()
		switch m.rand.IntN(10) {
		case 0, 1, 2, 3:
			c.asks[uint32(c.id)] = ch
			var since *engine.Position
			if at, ok := c.seen[ch]; ok && m.rand.IntN(3) > 0 {
				since = &at
			}
			out = append(out, positioned(c.id, ch, since))
		case 4, 5:
			c.ends[uint32(c.id)] = ch
			out = append(out, fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":%q}}`, c.id, ch))
		case 6, 7:
			m.n++
			out = append(out, fmt.Sprintf(`{"id":%d,"publish":{"channel":%q,"data":%d}}`, c.id, ch, m.n))
		case 8:
			out = append(out, fmt.Sprintf(`{"id":%d,"history":{"channel":%q,"limit":3}}`, c.id, ch), fmt.Sprintf(`{"id":%d,"presence":{"channel":%q}}`, c.id, ch))
		case 9:
			out = append(out, fmt.Sprintf(`{"id":%d,"rpc":{"method":"m","data":1}}`, c.id))
		}
	}
	c.c.message(c.c.encode(out...))
}

func (m *model) control() {
	c := &Control{Target: Target{User: fmt.Sprint("u", m.rand.IntN(4))}, Channel: m.channel()}
	switch m.rand.IntN(8) {
	case 0:
		c.Disconnect = &DisconnectAs{}
	case 1, 2:
		c.Unsubscribe = true
	case 3:
		c.Refresh = &RefreshAs{ExpireAt: m.b.now().Add(time.Minute), Info: []byte(`4`)}
	default:
		yes := true
		c.Subscribe = &SubscribeAs{Options: SubscribeOptions{ForceRecovery: &yes}}
	}
	m.b.table.Do(c)
}

// read has the clients read what they got, and checks it.
func (m *model) read() {
	for _, c := range m.clients {
		for _, r := range c.c.got {
			c.read(m, &r)
		}
		c.c.got, c.c.raw = nil, nil
	}
	m.clients = slices.DeleteFunc(m.clients, func(c *modelClient) bool { return c.c.over })
}

func (c *modelClient) read(m *model, r *reply) {
	t := m.b.t
	switch p := r.Push; {
	case r.Connect != nil:
		for ch, s := range r.Connect.Subs {
			c.begin(m, ch, &s)
		}
	case r.Subscribe != nil:
		ch, ok := c.asks[r.ID]
		if !ok {
			t.Fatalf("a reply to %d, which was no subscribe", r.ID)
		}
		c.begin(m, ch, r.Subscribe)
	case r.Unsubscribe != nil:
		delete(c.subs, c.ends[r.ID])
	case p == nil:
	case p.Subscribe != nil:
		c.begin(m, p.Channel, p.Subscribe)
	case p.Unsubscribe != nil:
		if c.subs[p.Channel] == nil && p.Unsubscribe.Code != 2000 {
			t.Fatalf("conn %d: unsubscribed from %s, where it is not", c.c.i, p.Channel)
		}
		if p.Unsubscribe.Code == 2500 {
			m.told++
		}
		delete(c.subs, p.Channel)
	case p.Pub != nil:
		s := c.subs[p.Channel]
		if s == nil {
			t.Fatalf("conn %d: a publication in %s, where it is not subscribed", c.c.i, p.Channel)
		}
		c.publication(m, p.Channel, s, p.Pub)
	}
}

func (c *modelClient) begin(m *model, ch string, r *subscribed) {
	if c.subs[ch] != nil {
		m.b.t.Fatalf("conn %d: subscribed to %s twice", c.c.i, ch)
	}
	s := &position{positioned: r.Positioned || r.Recoverable, at: engine.Position{Offset: r.Offset, Epoch: r.Epoch}}
	c.subs[ch] = s
	for k := range r.Publications {
		c.publication(m, ch, s, &r.Publications[k])
	}
	if s.positioned {
		c.seen[ch] = s.at
	}
}

func (c *modelClient) publication(m *model, ch string, s *position, p *publication) {
	t := m.b.t
	if !s.positioned || p.Offset == 0 {
		return
	}
	conflated := ch == "slow:a" // may leave some out
	if p.Offset != s.at.Offset+1 && (!conflated || p.Offset <= s.at.Offset) {
		t.Fatalf("conn %d: %s at %d after %d", c.c.i, ch, p.Offset, s.at.Offset)
	}
	if want := m.data[fmt.Sprint(ch, s.at.Epoch, p.Offset)]; string(p.Data) != want {
		t.Fatalf("conn %d: %s at %d is %s, want %s", c.c.i, ch, p.Offset, p.Data, want)
	}
	m.checked++
	s.at.Offset = p.Offset
	c.seen[ch] = s.at
}

// finish has all come to rest without losses, and compares where everybody stands.
func (m *model) finish() {
	b := m.b
	m.lossy = false
	for _, c := range m.clients {
		if c.c.open {
			c.c.backlog = 0
			b.table.Drained(c.c.i)
		}
	}
	b.runAll()
	m.read()
	for _, ch := range randomChannels {
		if _, err := m.publish(ch, &engine.Publication{Data: []byte("0")}); err != nil {
			b.t.Fatal(err)
		}
	}
	b.runAll()
	m.read()
	b.check()
	for _, c := range m.open() {
		if c.c.paused {
			b.t.Errorf("conn %d is not read any more", c.c.i)
		}
		for ch, s := range c.subs {
			if top := b.top(ch); s.positioned && s.at != top {
				b.t.Errorf("conn %d stands at %+v in %s, the top is %+v", c.c.i, s.at, ch, top)
			}
			if b.table.find(c.c.i, []byte(ch)) == 0 {
				b.t.Errorf("conn %d believes to be subscribed to %s", c.c.i, ch)
			}
		}
		if n := int(b.table.conn[c.c.i].count); n != len(c.subs) && b.table.conn[c.c.i].phase == phaseConnected {
			b.t.Errorf("conn %d knows of %d subscriptions, has %d", c.c.i, len(c.subs), n)
		}
	}
	b.empty()
}

// TestRandom plays whatever comes in whatever order.
func TestRandom(t *testing.T) {
	runs, steps := 40, 1500
	if testing.Short() {
		runs = 8
	}
	checked, told := 0, 0
	for seed := range uint64(runs) {
		m := newModel(t, seed, seed%2 == 0)
		m.lossy = seed%4 < 2
		for k := range steps {
			m.step()
			if k%20 == 0 {
				m.b.check()
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, k)
			}
		}
		m.finish()
		if t.Failed() {
			t.Fatalf("seed %d, at the end", seed)
		}
		checked += m.checked
		told += m.told
	}
	if checked < runs*50 || told == 0 {
		t.Errorf("%d publications were checked and %d losses told: the test tests little", checked, told)
	}
	t.Logf("%d publications in order, %d losses told", checked, told)
}

// FuzzMessage has any bytes come from a client that has connected, after the format and whether the engine waits.
func FuzzMessage(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzMessage/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Add(byte(0), []byte(`{"id":2,"subscribe":{"channel":"x","recover":true}}`+"\n"+`{"id":3,"publish":{"channel":"x","data":1}}`))
	f.Fuzz(func(t *testing.T, how byte, message []byte) {
		b := newBench(t, setup{slots: 3, channels: open, waits: how&1 != 0})
		p := JSON
		if how&2 != 0 {
			p = Protobuf
		}
		other := b.connect(Protobuf, "bob")
		other.send(`{"id":2,"subscribe":{"channel":"x"}}`)
		c := b.connect(p, "ann")
		if how&4 != 0 {
			b.advance(25 * time.Second) // it may answer a ping
		}
		c.message(message)
		b.run()
		b.check()
		c.message(message)
		b.run()
		b.check()
		b.empty()
	})
}
