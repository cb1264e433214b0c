package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// do carries a control message out as it comes from the engine.
func (b *bench) do(c *Control) {
	b.t.Helper()
	data, err := c.Encode()
	if err != nil {
		b.t.Fatal(err)
	}
	back, err := DecodeControl(data)
	if err != nil {
		b.t.Fatal(err)
	}
	b.table.Do(back)
	b.run()
}

func TestControl(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for _, waits := range []bool{false, true} {
			b := newBench(t, setup{channels: open, waits: waits})
			a1, a2, bob := b.connect(p, "ann"), b.connect(p, "ann"), b.connect(p, "bob")
			ann := Target{User: "ann"}
			b.publish("x", "1")
			b.do(&Control{Target: ann, Channel: "x", Subscribe: &SubscribeAs{Options: SubscribeOptions{Data: []byte(`7`)}}})
			b.do(&Control{Target: ann, Channel: "x", Subscribe: &SubscribeAs{}}) // delivered twice
			b.do(&Control{Target: ann, Channel: "none:x", Subscribe: &SubscribeAs{}})
			if s := a1.last().Push.Subscribe; string(s.Data) != "7" {
				t.Errorf("subscribe push %+v", s)
			}
			a1.expect(0, "x subscribe at 0")
			a2.expect(0, "x subscribe at 0")
			b.publish("x", "2")
			b.do(&Control{Target: Target{User: "ann", Client: b.n.ID(a1.id)}, Channel: "x", Unsubscribe: true})
			b.do(&Control{Target: Target{User: "bob", Client: b.n.ID(a2.id)}, Channel: "x", Unsubscribe: true}) // not bob's
			b.publish("x", "3")
			a1.expect(0, "x pub 2 at 2", "x unsubscribe 2000")
			a2.expect(0, "x pub 2 at 2", "x pub 3 at 3")
			// What it missed since a position comes behind the news.
			since := b.top("x")
			b.publish("x", "4")
			b.publish("x", "5")
			b.do(&Control{Target: Target{Client: b.n.ID(a1.id)}, Channel: "x", Subscribe: &SubscribeAs{Recover: true, RecoverOffset: since.Offset, RecoverEpoch: since.Epoch}})
			b.publish("x", "6")
			a1.expect(0, "x subscribe at 3", "x pub 4 at 4", "x pub 5 at 5", "x pub 6 at 6")
			b.do(&Control{Target: ann, Refresh: &RefreshAs{ExpireAt: b.now().Add(time.Minute), Info: []byte(`9`)}})
			if r := a1.last().Push.Refresh; !r.Expires || r.TTL != 60 {
				t.Errorf("refresh push %+v", r)
			}
			a1.got = nil
			a1.send(`{"id":5,"presence":{"channel":"x"}}`)
			a1.expect(0, "5 presence 2")
			b.do(&Control{Target: ann, Disconnect: &DisconnectAs{Whitelist: []string{b.n.ID(a2.id)}}})
			a1.expect(3503)
			a2.expect(0, "x pub 4 at 4", "x pub 5 at 5", "x pub 6 at 6", "refresh 60")
			b.do(&Control{Target: ann, Disconnect: &DisconnectAs{Code: 4000, Reason: "r"}})
			a2.expect(4000)
			b.do(&Control{Target: Target{User: "bob"}, Refresh: &RefreshAs{Expired: true}})
			bob.expect(3005)
			b.do(&Control{Target: ann, Disconnect: &DisconnectAs{}}) // nobody is left
			b.check()
			b.empty()
		}
	})
}

// TestControlBusy has the application act on sessions that wait for something, and on those that end.
func TestControlBusy(t *testing.T) {
	rpc := Hooks{RPC: func(context.Context, Client, string, []byte) ([]byte, error) { return []byte("1"), nil }}
	acts := map[string]*Control{
		"subscribe":   {Channel: "x", Subscribe: &SubscribeAs{}},
		"positioned":  {Channel: "x", Subscribe: &SubscribeAs{Recover: true, RecoverOffset: 0}},
		"unsubscribe": {Channel: "y", Unsubscribe: true},
		"disconnect":  {Disconnect: &DisconnectAs{}},
		"refresh":     {Refresh: &RefreshAs{Info: []byte("1")}},
		"expire":      {Refresh: &RefreshAs{Expired: true}},
	}
	for name, act := range acts {
		act.Target = Target{User: "ann"}
		for at := range 6 {
			b := newBench(t, setup{channels: open, waits: true, manual: true, o: Options{Hooks: rpc}})
			c := b.connect(JSON, "ann")
			c.send(positioned(2, "y", nil), `{"id":3,"rpc":{"method":"m","data":1}}`, `{"id":4,"unsubscribe":{"channel":"z"}}`)
			for range at {
				c.serial.step()
			}
			b.table.Do(act)
			b.table.Do(act)
			b.check()
			b.runAll()
			b.check()
			got := c.brief()
			if c.closed == nil {
				// The client's commands are answered in their order, all of them.
				ids := slices.DeleteFunc(slices.Clone(got), func(s string) bool {
					return !strings.HasPrefix(s, "2") && !strings.HasPrefix(s, "3") && !strings.HasPrefix(s, "4")
				})
				if len(ids) != 3 || ids[0][0] != '2' || ids[1][0] != '3' || ids[2][0] != '4' {
					t.Errorf("%s at %d: got %q", name, at, got)
				}
				if c.paused {
					t.Errorf("%s at %d: it is not read any more", name, at)
				}
			}
			// One that is on its way out is nobody's target.
			c.message([]byte(`{`))
			b.table.Do(act)
			b.empty()
		}
	}
}

// TestEachEnds has what is done to one session of a user end others of the same user.
func TestEachEnds(t *testing.T) {
	forced := open
	forced.ForceRecovery = true
	b := newBench(t, setup{channels: forced, manual: true, slots: 64})
	var conns []*conn
	for range 40 {
		conns = append(conns, b.connect(JSON, "ann"))
	}
	seen := 0
	b.table.Each(Target{User: "ann"}, func(i uint32) {
		seen++
		b.table.close(i, &Disconnect{Code: 4000})
		for _, c := range conns { // and its neighbours
			if c.i == i+1 {
				b.table.close(c.i, &Disconnect{Code: 4001})
			}
		}
	})
	ended := 0
	for _, c := range conns {
		if c.closed != nil {
			ended++
		}
	}
	if ended != 40 || seen > 40 || seen < 20 {
		t.Errorf("%d of 40 ended, %d were seen", ended, seen)
	}
	b.runAll()
	users := make(map[string]struct{})
	b.connect(JSON, "bob")
	b.connect(JSON, "bob")
	b.connect(JSON, "")
	b.table.Users(users)
	if len(users) != 1 {
		t.Errorf("users %v", users)
	}
	channels := make(map[string]int)
	b.connect(JSON, "eve").send(subscribes("x", "y")...)
	b.table.Channels(channels)
	if fmt.Sprint(channels) != "map[x:1 y:1]" {
		t.Errorf("channels %v", channels)
	}
	b.runAll()
	b.empty()
}

func TestShutdown(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.connect(JSON, "ann")
	b.table.Shutdown(c.i, 0)
	b.table.Shutdown(c.i, 0)
	c.expect(3001)
	b.empty()
}

func TestSessionID(t *testing.T) {
	b := newBench(t, setup{channels: open})
	id := b.n.ID(42)
	if conn, ok := b.n.Conn(id); conn != 42 || !ok {
		t.Errorf("Conn(%s) = %d, %v", id, conn, ok)
	}
	for _, other := range []string{"", "x", id[:35], id + "0", strings.Replace(id, "-", "_", 1), "00000000-0000-0000-0000-000000000000", b.n.UID(), strings.Repeat("g", 8) + id[8:]} {
		if _, ok := b.n.Conn(other); ok {
			t.Errorf("%q passes for a session id", other)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, waits := range []bool{false, true} {
		b := newBench(t, setup{channels: open, waits: waits})
		c := b.connect(Plain, "")
		say := func(message string, want ...string) {
			t.Helper()
			c.message([]byte(message))
			b.run()
			var got []string
			for _, m := range c.raw {
				got = append(got, string(m))
			}
			c.raw = nil
			if !slices.Equal(got, want) {
				t.Errorf("%s\n\tgot  %q\n\twant %q", message, got, want)
			}
		}
		if b.table.Timer(c.i) {
			t.Error("the timer of a conn without a session is not left to the loop")
		}
		say(`{"type":"ping","ts":5}`, `{"type":"pong","ts":5}`)
		say(`{"type":"pong"}`)
		say(`{"type":"dance","id":1}`, `{"type":"error","id":1,"message":"unknown type"}`)
		say(`{`, `{"type":"error","message":"not a JSON object"}`)
		if b.n.Sessions.Load() != 0 {
			t.Error("a session without need")
		}
		say(`{"type":"subscribe","id":7,"channel":"$x"}`, `{"type":"error","id":7,"channel":"$x","code":103,"message":"permission denied"}`)
		say(`{"type":"subscribe","id":7,"channel":"none:x"}`, `{"type":"error","id":7,"channel":"none:x","code":102,"message":"unknown channel"}`)
		b.publish("x", "1")
		b.publish("x", "2")
		epoch := b.top("x").Epoch
		say(fmt.Sprintf(`{"type":"subscribe","id":"a","channel":"x","offset":1,"epoch":%q}`, epoch),
			fmt.Sprintf(`{"type":"subscribed","id":"a","channel":"x","offset":2,"epoch":%q,"recovered":true}`, epoch),
			fmt.Sprintf(`{"type":"message","channel":"x","data":2,"offset":2,"epoch":%q}`, epoch))
		say(`{"type":"subscribe","channel":"x"}`, `{"type":"error","channel":"x","code":105,"message":"already subscribed"}`)
		say(`{"type":"publish","id":2,"channel":"x","data":{"a":1}}`,
			fmt.Sprintf(`{"type":"message","channel":"x","data":{"a":1},"offset":3,"epoch":%q,"client":%q}`, epoch, b.n.ID(c.id)),
			fmt.Sprintf(`{"type":"published","id":2,"channel":"x","offset":3,"epoch":%q}`, epoch))
		// Its presence is renewed by the loop's heartbeat.
		c.timer = b.now().Add(25 * time.Second)
		b.advance(10 * time.Minute)
		if n := b.mem.Stats().Clients; n != 1 {
			t.Errorf("%d are present", n)
		}
		b.deliver("x", epoch, 9)
		say(`{"type":"unsubscribe","id":3,"channel":"y"}`, `{"type":"unsubscribed","channel":"x","code":2500,"reason":"insufficient state"}`, `{"type":"unsubscribed","id":3,"channel":"y"}`)
		b.table.PlainSubscribe(c.i, []byte("z"))
		b.run()
		say(`{"type":"unsubscribe","channel":"z"}`, fmt.Sprintf(`{"type":"subscribed","channel":"z","offset":0,"epoch":%q}`, b.top("z").Epoch), `{"type":"unsubscribed","channel":"z"}`)
		b.check()
		b.empty()
	}
	t.Run("several at once", func(t *testing.T) {
		b := newBench(t, setup{channels: open, waits: true, manual: true})
		c := b.connect(Plain, "")
		for _, ch := range []string{"a", "b", "c"} {
			b.table.PlainSubscribe(c.i, []byte(ch))
		}
		c.message([]byte(`{"type":"unsubscribe","channel":"b"}`))
		b.runAll()
		if len(c.raw) != 4 || c.paused || b.table.shard.Subs() != 2 {
			t.Errorf("got %q", c.raw)
		}
		b.empty()
	})
	t.Run("not for anonymous", func(t *testing.T) {
		closed := open
		closed.SubscribeForAnonymous, closed.PublishForAnonymous = false, false
		b := newBench(t, setup{channels: closed})
		c := b.connect(Plain, "")
		c.message([]byte(`{"type":"subscribe","channel":"x"}`))
		c.message([]byte(`{"type":"publish","channel":"x","data":1}`))
		if len(c.raw) != 2 || !strings.Contains(string(c.raw[0]), "103") || !strings.Contains(string(c.raw[1]), "103") {
			t.Errorf("got %q", c.raw)
		}
		b.empty()
	})
	t.Run("no channel", func(t *testing.T) {
		b := newBench(t, setup{channels: open})
		c := b.connect(Plain, "")
		b.table.PlainSubscribe(c.i, nil)
		b.table.PlainSubscribe(c.i, []byte("x"))
		b.run()
		if c.closed == nil || c.closed.Code != 3501 {
			t.Errorf("closed with %v", c.closed)
		}
		b.empty()
	})
}
