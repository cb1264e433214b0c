package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	fdelta "github.com/shadowspore/fossil-delta"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/ws"
)

// TestTimers has pings and pongs in, out of and beyond their time.
func TestTimers(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		t.Run("stale", func(t *testing.T) {
			b := newBench(t, setup{channels: open})
			c := b.accept(p)
			b.advance(9999 * time.Millisecond)
			c.expect(0)
			b.advance(time.Millisecond)
			c.expect(3502)
			b.empty()
		})
		t.Run("spread", func(t *testing.T) {
			b := newBench(t, setup{channels: open, slots: 200})
			first := make(map[time.Time]bool)
			for range 200 {
				c := b.connect(p, "")
				d := c.timer.Sub(b.now())
				if d < 12500*time.Millisecond || d > 25*time.Second+time.Millisecond {
					t.Fatalf("the first ping is after %v", d)
				}
				first[c.timer] = true
			}
			if len(first) < 100 {
				t.Errorf("200 clients have their first ping at %d times", len(first))
			}
			b.empty()
		})
		t.Run("no pong", func(t *testing.T) {
			b := newBench(t, setup{channels: open})
			c := b.connect(p, "ann")
			for range 250 {
				if b.advance(100 * time.Millisecond); c.pings > 0 {
					break
				}
			}
			if c.pings != 1 {
				t.Fatalf("%d pings", c.pings)
			}
			b.advance(7 * time.Second)
			c.send(`{}`) // late, but not too late
			if d := c.timer.Sub(b.now()); d != 25*time.Second {
				t.Errorf("the next ping is in %v", d)
			}
			b.advance(25 * time.Second)
			c.expect(0)
			b.advance(8 * time.Second)
			c.expect(3012)
			if c.pings != 2 {
				t.Errorf("%d pings", c.pings)
			}
			b.empty()
		})
		t.Run("unasked", func(t *testing.T) {
			b := newBench(t, setup{channels: open})
			c := b.connect(p, "ann")
			c.answers = true
			b.advance(25 * time.Second)
			c.expect(0)
			c.send(`{}`)
			c.expect(3501)
			b.empty()
		})
		t.Run("none asked for", func(t *testing.T) {
			b := newBench(t, setup{channels: open, o: Options{Pong: -1}})
			c := b.accept(p)
			c.send(connectWith(map[string]any{}))
			if c.last().Connect.Pong {
				t.Error("a pong is asked for")
			}
			c.got = nil
			b.advance(100 * time.Second)
			if c.pings < 4 || c.pings > 5 {
				t.Errorf("%d pings in 100 s", c.pings)
			}
			c.expect(0)
			b.empty()
		})
		t.Run("frames", func(t *testing.T) {
			b := newBench(t, setup{channels: open})
			c := b.acceptAs(p, true)
			c.send(connectWith(map[string]any{"sub": "ann", "exp": testStart + 30}), `{"id":2,"subscribe":{"channel":"x"}}`)
			if r := c.got[0].Connect; r.Ping != 0 || r.Pong {
				t.Errorf("connect result %+v", r)
			}
			c.got = nil
			c.timer = b.now().Add(25 * time.Second)
			b.advance(50 * time.Second)
			if c.pings != 0 {
				t.Errorf("%d pings", c.pings)
			}
			c.send(`{"id":3,"presence_stats":{"channel":"x"}}`)
			c.expect(0, "3 presence_stats 1 1")
			b.advance(25 * time.Second)
			c.expect(3005)
			b.empty()
		})
		t.Run("after the end", func(t *testing.T) {
			b := newBench(t, setup{channels: open, manual: true})
			c := b.connect(p, "ann")
			c.message([]byte{0xff})
			if !b.table.Timer(c.i) || !c.timer.IsZero() {
				t.Error("the timer of a conn that is over does something")
			}
			c.got, c.closed = nil, nil
			b.empty()
		})
	})
}

// TestOddTimes has what takes 49 days to wrap pass many times.
func TestOddTimes(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.connect(JSON, "ann")
	c.answers = true
	for range 5 {
		// The conn's next ping is due just before, at, and after the wrap.
		st := &b.table.conn[c.i]
		b.table.start = b.now().Add(-((1<<32)*time.Millisecond - 10*time.Second))
		st.due = b.table.tick(5 * time.Second)
		b.table.arm(c.i, st)
		b.timers = 0
		b.advance(100 * time.Second)
		c.expect(0)
		if b.timers < 4 || b.timers > 5 {
			t.Errorf("%d timers in 100 s", b.timers)
		}
	}
	b.empty()
}

// TestBusyPings: however pings, pongs and a command that waits fall together, a client that answers stays.
func TestBusyPings(t *testing.T) {
	for start := time.Duration(0); start < 40*time.Second; start += 1500 * time.Millisecond {
		for _, length := range []time.Duration{time.Second, 7 * time.Second, 9 * time.Second, 40 * time.Second, 2 * time.Minute} {
			b := newBench(t, setup{channels: open, waits: true, manual: true})
			c := b.connect(JSON, "ann")
			c.answers = true
			b.advance(start)
			c.send(`{"id":2,"history":{"channel":"x"}}`)
			pings := len(c.inbox)
			b.advance(length)
			if got := len(c.inbox) - pings; got < int(length/(25*time.Second)) || got > int(length/(25*time.Second))+2 {
				t.Errorf("busy from %v for %v: %d pings", start, length, got)
			}
			b.runAll()
			b.advance(2 * time.Minute)
			c.expect(0, "2 history 0 at 0")
			if c.paused {
				t.Error("it is not read any more")
			}
			c.answers = false
			b.advance(time.Minute)
			c.expect(3012)
			b.empty()
		}
	}
}

// TestLatePongs: a client whose pongs could not be read has its time when they can be.
func TestLatePongs(t *testing.T) {
	for length := 100 * time.Second; length < 130*time.Second; length += time.Second {
		b := newBench(t, setup{channels: open, waits: true, manual: true})
		c := b.connect(JSON, "ann")
		c.send(`{"id":2,"history":{"channel":"x"}}`)
		b.advance(length)
		pings := c.pings
		b.runAll()
		b.advance(7 * time.Second)
		if c.pings != pings || pings < 3 {
			t.Errorf("busy for %v: %d pings, then %d in all", length, pings, c.pings)
		}
		for range pings {
			c.send(`{}`)
		}
		c.expect(0, "2 history 0 at 0")
		b.empty()
	}
}

func TestPublish(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for _, waits := range []bool{false, true} {
			b := newBench(t, setup{channels: open, waits: waits})
			ann, bob := b.connect(p, "ann"), b.connect(JSON, "bob")
			ann.send(`{"id":2,"subscribe":{"channel":"x"}}`)
			bob.send(`{"id":2,"subscribe":{"channel":"x"}}`)
			// Its own publication comes before the reply.
			ann.send(`{"id":3,"publish":{"channel":"x","data":{"a":1}}}`, `{"id":4,"publish":{"channel":"x","data":2}}`)
			ann.expect(0, "2 subscribe", `x pub {"a":1} at 1`, "3 publish", "x pub 2 at 2", "4 publish")
			if i := bob.got[1].Push.Pub.Info; i == nil || i.User != "ann" || i.Client != b.n.ID(ann.id) {
				t.Errorf("published by %+v", i)
			}
			bob.expect(0, "2 subscribe", `x pub {"a":1} at 1`, "x pub 2 at 2")
			b.empty()
		}
	})
}

// TestNotJSON: who speaks JSON cannot have what is none.
func TestNotJSON(t *testing.T) {
	b := newBench(t, setup{channels: open})
	j, p := b.connect(JSON, "j"), b.connect(Protobuf, "p")
	plain := b.connect(Plain, "")
	for _, c := range []*conn{j, p} {
		c.send(`{"id":2,"subscribe":{"channel":"x"}}`)
	}
	plain.message([]byte(`{"type":"subscribe","channel":"x"}`))
	b.publish("x", "\xff{")
	j.expect(3506, "2 subscribe")
	if plain.closed == nil || plain.closed.Code != 3506 {
		t.Errorf("plain: closed with %v", plain.closed)
	}
	if len(p.got) != 2 || p.closed != nil {
		t.Errorf("protobuf: got %q, %v", p.brief(), p.closed)
	}
	// Nor a history with it in.
	again := b.connect(JSON, "j")
	again.send(positioned(2, "x", &engine.Position{Epoch: b.top("x").Epoch}))
	if r := again.last().Subscribe; r.Recovered {
		t.Error("recovered what is not JSON")
	}
	again.got = nil
	again.send(`{"id":3,"history":{"channel":"x","limit":-1}}`)
	again.expect(3506)
	b.check()
	b.empty()
}

func TestPublishRate(t *testing.T) {
	rated := open
	rated.PublishRate, rated.PublishBurst = 2, 3
	b := newBench(t, setup{channels: rated, o: Options{ChannelLimit: 4}})
	c := b.connect(JSON, "ann")
	publish := func(ch string) bool {
		c.send(fmt.Sprintf(`{"id":9,"publish":{"channel":%q,"data":1}}`, ch))
		r := c.last()
		c.got = nil
		if r.Error != nil && r.Error.Code != 111 {
			t.Fatalf("error %+v", r.Error)
		}
		return r.Publish != nil
	}
	for k, want := range []bool{true, true, true, false, false} {
		if publish("a") != want {
			t.Errorf("publication %d passes: %v", k, !want)
		}
	}
	if !publish("b") {
		t.Error("another channel pays")
	}
	b.advance(500 * time.Millisecond)
	if !publish("a") || publish("a") {
		t.Error("after half a second there is not one more")
	}
	publish("b")
	publish("c")
	publish("d")
	if publish("e") {
		t.Error("a fifth channel passes")
	}
	b.advance(4 * time.Second)
	if !publish("f") || !publish("a") {
		t.Error("what was paid for is not forgotten")
	}
	if n := len(b.table.rates[c.i]); n > 4 {
		t.Errorf("%d rates are kept", n)
	}
	b.empty()
}

func TestPublishRights(t *testing.T) {
	closed := channel.Options{SubscribeForClient: true, PublishForSubscriber: true, PresenceForSubscriber: true, Presence: true,
		HistoryForSubscriber: true, HistorySize: 1, HistoryTTL: time.Minute}
	b := newBench(t, setup{channels: closed, o: Options{Anonymous: true}})
	c := b.connect(JSON, "ann")
	ask := []string{`{"id":3,"publish":{"channel":"x","data":1}}`, `{"id":4,"presence":{"channel":"x"}}`, `{"id":5,"history":{"channel":"x"}}`, `{"id":6,"presence_stats":{"channel":"x"}}`}
	c.send(ask...)
	c.expect(0, "3 error 103", "4 error 103", "5 error 103", "6 error 103")
	c.send(`{"id":2,"subscribe":{"channel":"x"}}`)
	c.send(ask...)
	c.expect(0, "2 subscribe", "x pub 1 at 1", "3 publish", "4 presence 1", "5 history 0 at 1", "6 presence_stats 1 1")
	a := b.accept(JSON)
	a.send(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"x"}}`)
	a.expect(0, "1 connect", "2 error 103")
	b.empty()
}

// TestSlow: what a policy does for a conn whose socket is full.
func TestSlow(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for _, c := range []struct {
			policy channel.SlowPolicy
			want   []string
			lost   uint64
		}{
			{channel.SlowConflate, []string{"x pub 5 at 0"}, 4},
			{channel.SlowDropOldest, []string{"x pub 3 at 0", "x pub 4 at 0", "x pub 5 at 0"}, 2},
			{channel.SlowDisconnect, []string{"x pub 1 at 0", "x pub 2 at 0", "x pub 3 at 0", "x pub 4 at 0", "x pub 5 at 0"}, 0},
		} {
			o := channel.Options{SubscribeForClient: true, Slow: c.policy, SlowKeep: 3}
			b := newBench(t, setup{channels: o})
			conn := b.connect(p, "ann")
			conn.send(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"subscribe":{"channel":"y"}}`)
			conn.got = nil
			conn.backlog = slowAbove + 1
			for k := range 5 {
				b.publish("x", fmt.Sprint(k+1))
			}
			b.publish("y", "0")
			if c.policy == channel.SlowDisconnect {
				conn.expect(0, append(c.want, "y pub 0 at 0")...)
				b.empty()
				continue
			}
			conn.expect(0)
			b.check()
			b.table.Drained(conn.i) // still full
			conn.expect(0)
			conn.backlog = 0
			b.table.Drained(conn.i)
			got := conn.brief()
			slices.Sort(got)
			conn.got = nil
			if want := append(slices.Clone(c.want), "y pub 0 at 0"); !slices.Equal(got, want) {
				t.Errorf("%v: got %q, want %q", c.policy, got, want)
			}
			if n := b.n.Slow.Load(); n != c.lost {
				t.Errorf("%v: %d lost, want %d", c.policy, n, c.lost)
			}
			b.publish("x", "6")
			conn.expect(0, "x pub 6 at 0")
			conn.backlog = slowAbove + 1
			b.publish("x", "7")
			conn.send(`{"id":4,"unsubscribe":{"channel":"x"}}`)
			conn.expect(0, "4 unsubscribe")
			b.check()
			b.publish("y", "8")
			b.empty()
		}
	})
}

// TestDelta rebuilds what was published from what a client with deltas gets.
func TestDelta(t *testing.T) {
	conflated := open
	conflated.Slow, conflated.DeltaPublish = channel.SlowConflate, true
	for _, o := range []channel.Options{open, conflated} {
		o.DeltaPublish = true
		b := newBench(t, setup{channels: o, slots: 32})
		var c, late *conn
		// A window that slides: a delta on any other than the one before gives something else.
		text := func(k int) string {
			w := []byte(`"`)
			for n := k; n < k+60; n++ {
				w = fmt.Appendf(w, "%x.", n*n*7919)
			}
			return string(append(w, '"'))
		}
		subscribe := `{"id":2,"subscribe":{"channel":"x","delta":"fossil"}}`
		c = b.connect(JSON, "ann")
		c.send(subscribe)
		if !c.last().Subscribe.Delta {
			t.Fatal("no deltas")
		}
		c.got = nil
		base := map[*conn][]byte{}
		deltas := 0
		read := func(c *conn, want string) {
			t.Helper()
			for _, r := range c.got {
				if r.Push == nil || r.Push.Pub == nil {
					continue
				}
				var s string
				if err := json.Unmarshal(r.Push.Pub.Data, &s); err != nil {
					t.Fatalf("data %s: %v", r.Push.Pub.Data, err)
				}
				data := []byte(s)
				if r.Push.Pub.Delta {
					deltas++
					var err error
					if data, err = fdelta.Apply(base[c], data); err != nil {
						t.Fatalf("delta %q on %q: %v", s, base[c], err)
					}
				}
				base[c] = data
			}
			c.got = nil
			if want != "" && string(base[c]) != want {
				t.Fatalf("rebuilt %q, want %q", base[c], want)
			}
		}
		for k := range 30 {
			if k == 10 {
				late = b.connect(JSON, "bob")
				late.send(subscribe)
				late.got = nil
			}
			slow := o.Slow == channel.SlowConflate && k%7 > 4
			if c.backlog = 0; slow {
				c.backlog = slowAbove + 1
			} else {
				b.table.Drained(c.i)
			}
			b.publish("x", text(k))
			if want := text(k); slow {
				read(c, "")
			} else {
				read(c, want)
			}
			if late != nil {
				read(late, text(k))
			}
		}
		if deltas < 30 {
			t.Errorf("%d deltas", deltas)
		}
		b.check()
		b.empty()
	}
}

// TestDeltaRepeated: an engine that delivers twice does not spoil what deltas build on.
func TestDeltaRepeated(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.connect(JSON, "ann")
	c.send(`{"id":2,"subscribe":{"channel":"x","delta":"fossil","recoverable":true}}`)
	c.got = nil
	pubs := make([]*engine.Publication, 5)
	for k := range pubs {
		pubs[k] = &engine.Publication{Offset: uint64(k + 1), Delta: true, Data: fmt.Appendf(nil, `"%s%d"`, bytes.Repeat([]byte("same "), 40), k)}
	}
	for _, k := range []int{0, 1, 2, 1, 3, 4} {
		b.hub.Publication("x", pubs[k], b.top("x").Epoch)
	}
	b.table.Drain()
	var base []byte
	for n, r := range c.got {
		var s string
		if err := json.Unmarshal(r.Push.Pub.Data, &s); err != nil {
			t.Fatal(err)
		}
		if base = []byte(s); r.Push.Pub.Delta {
			var err error
			if base, err = fdelta.Apply(pubs[n-1].Data, base); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(base, pubs[n].Data) {
			t.Errorf("publication %d is %s", n, base)
		}
	}
	if len(c.got) != 5 {
		t.Errorf("got %q", c.brief())
	}
	b.empty()
}

func TestAllocs(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		b := newBench(t, setup{manual: true, channels: open, slots: 64})
		conns := make([]*conn, 50)
		for k := range conns {
			conns[k] = b.connect(p, fmt.Sprint("user", k))
			conns[k].send(`{"id":2,"subscribe":{"channel":"x"}}`)
		}
		b.runAll()
		for _, c := range conns {
			c.count = true
		}
		c := conns[7]
		h := &quietHost{Host: host{b}}
		b.table.host = h
		pong, st := c.encode(`{}`), &b.table.conn[c.i]
		measure := func(name string, f func()) {
			f()
			if n := testing.AllocsPerRun(100, f); n != 0 && !raceEnabled {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
		b.table.leave(c.i) // presence is repeated with pings: not with these
		st.phase = phaseConnected
		b.n.Sessions.Add(1)
		measure("ping and pong", func() {
			st.due = b.table.tick(0)
			b.table.Timer(c.i)
			b.table.Message(c.i, pong)
		})
		if h.replies < 100 || st.pings != 0 {
			t.Fatalf("%d pings, %d without pong", h.replies, st.pings)
		}
		push := &engine.Publication{Data: []byte(`{"x":1}`)}
		b.hub.Publication("x", push, "")
		b.table.Drain()
		sub := b.table.conn[conns[3].i].subs
		one := &hub.Push{Kind: hub.KindPublication, Channel: "x", Publication: push}
		measure("push", func() { b.table.push(sub, one) })
		if h.pushes < 100 {
			t.Fatalf("%d pushes", h.pushes)
		}
		b.table.host = host{b}
	})
}

// quietHost is a host that only counts.
type quietHost struct {
	Host
	replies, pushes int
}

func (h *quietHost) Reply(uint32, ws.Opcode, []byte) { h.replies++ }
func (h *quietHost) Push(uint32, []byte, bool)       { h.pushes++ }
func (h *quietHost) SetTimer(uint32, time.Duration)  {}

// A loop that lags finds the pong in the socket before it judges.
func TestPongThatWaits(t *testing.T) {
	b := newBench(t, setup{channels: open, o: Options{Anonymous: true}})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`)
	for range 3 {
		pings := c.pings
		for range 60 {
			if b.advance(time.Second); c.pings > pings {
				break
			}
		}
		if c.pings == pings {
			t.Fatal("no ping came")
		}
		c.unread = []byte("{}") // and it is read only when the loop looks
		for range 20 {
			b.advance(time.Second)
		}
		if c.closed != nil || c.unread != nil {
			t.Fatalf("closed with %v, unread %q", c.closed, c.unread)
		}
	}
	for range 120 {
		b.advance(time.Second)
	}
	if c.closed == nil || c.closed.Code != 3012 {
		t.Errorf("closed with %v, want 3012", c.closed)
	}
}
