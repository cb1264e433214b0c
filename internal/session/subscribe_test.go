package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

func subscribeWith(id int, channel string, claims map[string]any) string {
	return fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q,"token":%q}}`, id, channel, sign("HS256", testSecret, claims))
}

func TestSubscribeToken(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims map[string]any
		closed uint16
		want   []string
	}{
		{"good", map[string]any{"sub": "ann", "channel": "$x"}, 0, []string{"2 subscribe"}},
		{"another channel", map[string]any{"sub": "ann", "channel": "$y"}, 3500, nil},
		{"another user", map[string]any{"sub": "bob", "channel": "$x"}, 3500, nil},
		{"another client", map[string]any{"sub": "ann", "channel": "$x", "client": "someone"}, 3500, nil},
		{"no channel", map[string]any{"sub": "ann"}, 0, []string{"2 error 103"}},
		{"expired", map[string]any{"sub": "ann", "channel": "$x", "exp": testStart - 1}, 0, []string{"2 error 109"}},
		{"expired at", map[string]any{"sub": "ann", "channel": "$x", "expire_at": testStart - 1}, 0, []string{"2 error 110"}},
		{"not yet", map[string]any{"sub": "ann", "channel": "$x", "nbf": testStart + 1}, 0, []string{"2 error 103"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothFormats(t, func(t *testing.T, p Protocol) {
				b := newBench(t, setup{channels: open})
				conn := b.connect(p, "ann")
				conn.send(subscribeWith(2, "$x", c.claims))
				conn.expect(c.closed, c.want...)
				b.check()
				b.empty()
			})
		})
	}
	t.Run("this client", func(t *testing.T) {
		b := newBench(t, setup{channels: open})
		conn := b.connect(JSON, "ann")
		conn.send(subscribeWith(2, "$x", map[string]any{"sub": "ann", "channel": "$x", "client": b.n.ID(conn.id)}))
		conn.expect(0, "2 subscribe")
		b.empty()
	})
}

func TestSubscriptionExpires(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		b := newBench(t, setup{channels: open, o: Options{Pong: -1}})
		refresh := func(claims map[string]any) string {
			return fmt.Sprintf(`{"id":3,"sub_refresh":{"channel":"x","token":%q}}`, sign("HS256", testSecret, claims))
		}
		c := b.connect(p, "ann")
		c.send(subscribeWith(2, "x", map[string]any{"sub": "ann", "channel": "x", "exp": testStart + 60}))
		if r := c.last().Subscribe; !r.Expires || r.TTL != 60 {
			t.Errorf("subscribe result %+v", r)
		}
		c.expect(0, "2 subscribe")
		b.advance(70 * time.Second)
		c.send(refresh(map[string]any{"sub": "ann", "channel": "x", "exp": testStart + 100}))
		c.send(refresh(map[string]any{"sub": "ann", "channel": "x", "exp": testStart - 1}))
		c.send(refresh(map[string]any{"sub": "ann", "channel": "x", "expire_at": testStart - 1}))
		c.send(refresh(map[string]any{"sub": "ann"}))
		c.expect(0, "3 sub_refresh 30", "3 error 109", "3 error 110", "3 error 103")
		b.advance(54 * time.Second)
		c.expect(0)
		b.advance(time.Second)
		c.expect(0, "x unsubscribe 2501")
		for _, claims := range []map[string]any{{"sub": "bob", "channel": "y"}, {"sub": "ann", "channel": "z"}, {"sub": "ann", "channel": "y", "client": "other"}} {
			c := b.connect(p, "ann")
			c.send(subscribeWith(2, "y", map[string]any{"sub": "ann", "channel": "y"}))
			c.got = nil
			c.send(fmt.Sprintf(`{"id":3,"sub_refresh":{"channel":"y","token":%q}}`, sign("HS256", testSecret, claims)))
			c.expect(3500)
		}
		// A client does not subscribe by itself to what the server did: it has to connect again.
		s := b.connect(p, "eve")
		b.table.Do(&Control{Target: Target{User: "eve"}, Channel: "x", Subscribe: &SubscribeAs{ExpireAt: b.now().Add(time.Minute)}})
		b.run()
		b.advance(85 * time.Second)
		s.expect(3006, "x subscribe at 0")
		b.empty()
	})
}

func TestSubscribeHook(t *testing.T) {
	hooked := open
	hooked.SubscribeHook, hooked.SubRefreshHook, hooked.PublishHook = true, true, true
	for _, c := range []struct {
		name   string
		reply  SubscribeReply
		err    error
		closed uint16
		want   []string
	}{
		{"allow", SubscribeReply{Options: SubscribeOptions{Data: []byte(`{"d":1}`)}}, nil, 0, []string{"2 subscribe", "3 rpc 7"}},
		{"deny", SubscribeReply{}, &Error{Code: 403}, 0, []string{"2 error 403", "3 rpc 7"}},
		{"disconnect", SubscribeReply{}, &Disconnect{Code: 4501}, 4501, nil},
		{"fails", SubscribeReply{}, errors.New("boom"), 0, []string{"2 error 100", "3 rpc 7"}},
		{"timeout", SubscribeReply{}, context.DeadlineExceeded, 0, []string{"2 error 100", "3 rpc 7"}},
		{"expired", SubscribeReply{ExpireAt: time.Unix(5, 0)}, nil, 0, []string{"2 error 110", "3 rpc 7"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothFormats(t, func(t *testing.T, p Protocol) {
				b := newBench(t, setup{manual: true, channels: hooked, o: Options{Hooks: Hooks{
					Subscribe: func(_ context.Context, cl Client, r SubscribeRequest) (SubscribeReply, error) {
						if cl.User != "ann" || r.Channel != "x" || string(r.Data) != `1` {
							t.Errorf("hook got %+v %+v", cl, r)
						}
						return c.reply, c.err
					},
					RPC: func(context.Context, Client, string, []byte) ([]byte, error) { return []byte("7"), nil },
				}}})
				conn := b.connect(p, "ann")
				// All in one message, and another one behind it: the order holds.
				conn.send(`{"id":2,"subscribe":{"channel":"x","data":1}}`, `{"id":3,"rpc":{"method":"m","data":1}}`)
				conn.send(`{"id":4,"presence_stats":{"channel":"x"}}`)
				conn.expect(0)
				b.runAll()
				want := c.want
				if c.closed == 0 {
					want = append(slices.Clone(want), map[bool]string{true: "4 presence_stats 1 1", false: "4 presence_stats 0 0"}[c.name == "allow"])
				}
				conn.expect(c.closed, want...)
				b.check()
				b.empty()
			})
		})
	}
}

// TestSubscribedMeanwhile has the application subscribe what a hook is asked about.
func TestSubscribedMeanwhile(t *testing.T) {
	hooked := open
	hooked.SubscribeHook = true
	b := newBench(t, setup{manual: true, channels: hooked, o: Options{Hooks: Hooks{
		Subscribe: func(context.Context, Client, SubscribeRequest) (SubscribeReply, error) { return SubscribeReply{}, nil }}}})
	c := b.connect(JSON, "ann")
	c.send(`{"id":2,"subscribe":{"channel":"x"}}`)
	b.table.Do(&Control{Target: Target{User: "ann"}, Channel: "x", Subscribe: &SubscribeAs{}})
	b.runAll()
	c.expect(0, "x subscribe at 0", "2 error 105")
	b.check()
	b.publish("x", "1")
	b.runAll()
	c.expect(0, "x pub 1 at 1")
	b.empty()
}

func TestSubRefreshHook(t *testing.T) {
	hooked := open
	hooked.SubscribeHook, hooked.SubRefreshHook = true, true
	for _, c := range []struct {
		name   string
		reply  RefreshReply
		err    error
		asked  int // for three subscriptions
		closed uint16
		want   []string
	}{
		{"prolong", RefreshReply{ExpireAt: time.Unix(testStart+10_000, 0), Info: []byte("9")}, nil, 3, 0, nil},
		{"expired", RefreshReply{Expired: true}, nil, 3, 0, []string{"unsubscribe 2501"}},
		{"fails", RefreshReply{}, errors.New("boom"), 9, 0, []string{"unsubscribe 2501"}},
		{"disconnect", RefreshReply{}, &Disconnect{Code: 4502}, 1, 4502, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			b := newBench(t, setup{channels: hooked, o: Options{Pong: -1, Hooks: Hooks{
				Subscribe: func(context.Context, Client, SubscribeRequest) (SubscribeReply, error) {
					return SubscribeReply{ExpireAt: time.Unix(testStart+60, 0)}, nil
				},
				SubRefresh: func(context.Context, Client, string) (RefreshReply, error) { asked++; return c.reply, c.err },
			}}})
			conn := b.connect(JSON, "ann")
			conn.send(subscribes("x", "y", "z")...)
			conn.expect(0, "2 subscribe", "3 subscribe", "4 subscribe")
			conn.send(`{"id":5,"history":{"channel":"x"}}`)
			conn.got = nil
			b.advance(120 * time.Second)
			got := conn.brief()
			for _, ch := range []string{"x", "y", "z"} {
				if has := slices.Contains(got, ch+" unsubscribe 2501"); has != (c.want != nil) {
					t.Errorf("got %q", got)
				}
			}
			conn.got = nil
			conn.expect(c.closed)
			// The first that ends a session ends what the others would ask; those that were asked already were.
			if asked != c.asked && c.closed == 0 {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
			b.check()
			b.empty()
		})
	}
}

// positioned is a subscribe that wants to recover.
func positioned(id int, channel string, since *engine.Position) string {
	if since == nil {
		return fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q,"recoverable":true,"positioned":true}}`, id, channel)
	}
	return fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q,"recoverable":true,"recover":true,"offset":%d,"epoch":%q}}`, id, channel, since.Offset, since.Epoch)
}

func (b *bench) top(channel string) engine.Position {
	_, top, err := b.mem.History(b.t.Context(), channel, engine.HistoryFilter{}, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return top
}

// TestRecovery plays publications into each moment of a subscribe.
func TestRecovery(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for before := range 3 {
			for inside := range 3 {
				for after := range 3 {
					b := newBench(t, setup{waits: true, manual: true, channels: open})
					b.publish("x", "0")
					since := b.top("x")
					want := 1 + before + inside + after
					for range before {
						b.publish("x", "1")
					}
					b.woken = false // delivered late
					c := b.connect(p, "ann")
					c.send(positioned(2, "x", &since))
					for range inside {
						b.publish("x", "2") // after the subscription, before the history
					}
					b.table.Drain()
					c.serial.step() // the history is read
					for range after {
						b.publish("x", "3")
					}
					b.table.Drain()
					c.expect(0)
					b.runAll()
					if len(c.got) == 0 || c.got[0].Subscribe == nil {
						t.Fatalf("got %q", c.brief())
					}
					r := c.got[0].Subscribe
					if !r.Recovered || !r.WasRecovering || !r.Positioned || !r.Recoverable || r.Offset != since.Offset {
						t.Errorf("subscribe result %+v", r)
					}
					next := since.Offset
					for _, pub := range r.Publications {
						if next++; pub.Offset != next {
							t.Errorf("recovered %d, want %d", pub.Offset, next)
						}
					}
					for _, g := range c.got[1:] {
						if next++; g.Push == nil || g.Push.Pub == nil || g.Push.Pub.Offset != next {
							t.Errorf("got %s, want offset %d", g.brief(), next)
						}
					}
					if int(next) != want {
						t.Errorf("%d+%d+%d: got up to %d, want %d", before, inside, after, next, want)
					}
					if n := b.n.Recovered.Load(); n != 1 {
						t.Errorf("%d recovered", n)
					}
					b.check()
					b.empty()
				}
			}
		}
	})
}

func TestUnrecovered(t *testing.T) {
	for _, c := range []struct {
		name  string
		since func(top engine.Position) engine.Position
		ok    bool
	}{
		{"another epoch", func(top engine.Position) engine.Position { return engine.Position{Offset: 3, Epoch: "other"} }, false},
		{"no epoch", func(top engine.Position) engine.Position { return engine.Position{Offset: 25} }, true},
		{"from the future", func(top engine.Position) engine.Position { return engine.Position{Offset: 99, Epoch: top.Epoch} }, false},
		{"too old", func(top engine.Position) engine.Position { return engine.Position{Offset: 3, Epoch: top.Epoch} }, false},
		{"more than may be", func(top engine.Position) engine.Position { return engine.Position{Offset: 21, Epoch: top.Epoch} }, false},
		{"as many as may be", func(top engine.Position) engine.Position { return engine.Position{Offset: 25, Epoch: top.Epoch} }, true},
		{"nothing missed", func(top engine.Position) engine.Position { return top }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothFormats(t, func(t *testing.T, p Protocol) {
				few := open
				few.HistorySize, few.RecoverMax = 10, 5
				b := newBench(t, setup{channels: few})
				for range 30 {
					b.publish("x", "1")
				}
				top := b.top("x")
				since := c.since(top)
				conn := b.connect(p, "ann")
				conn.send(positioned(2, "x", &since))
				r := conn.last().Subscribe
				switch {
				case r.Recovered != c.ok || !r.WasRecovering:
					t.Errorf("recovered %v, want %v", r.Recovered, c.ok)
				case c.ok && (r.Offset != since.Offset || len(r.Publications) != int(top.Offset-since.Offset)):
					t.Errorf("offset %d with %d publications", r.Offset, len(r.Publications))
				case !c.ok && (r.Offset != top.Offset || len(r.Publications) != 0 || r.Epoch != top.Epoch):
					t.Errorf("unrecovered at %d with %d publications", r.Offset, len(r.Publications))
				}
				conn.got = nil
				// Whatever it was told, it goes on from there.
				b.publish("x", "2")
				conn.expect(0, "x pub 2 at 31")
				// Rather an error than that.
				again := b.connect(p, "ann")
				again.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"x","recoverable":true,"recover":true,"offset":%d,"epoch":%q,"flag":%d}}`,
					since.Offset, since.Epoch, centrifuge.FlagRejectUnrecovered))
				if c.ok && since.Offset > 25 || c.name == "as many as may be" || c.name == "no epoch" {
					again.got = nil // one more was published
				} else {
					again.expect(0, "2 error 112")
				}
				b.check()
				b.empty()
			})
		})
	}
}

// deliver hands pushes to the hub as an engine that loses or repeats some.
func (b *bench) deliver(channel, epoch string, offsets ...uint64) {
	for _, o := range offsets {
		b.hub.Publication(channel, &engine.Publication{Offset: o, Data: []byte("9")}, epoch)
	}
	b.table.Drain()
}

// TestGap: a gap or another epoch ends a subscription with 2500, and a publication twice is one.
func TestGap(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for _, c := range []struct {
			name    string
			epoch   string
			offsets []uint64
			want    []string
		}{
			{"in order", "", []uint64{2, 3}, []string{"x pub 9 at 2", "x pub 9 at 3"}},
			{"twice", "", []uint64{1, 2, 2, 1, 3}, []string{"x pub 9 at 2", "x pub 9 at 3"}},
			{"gap", "", []uint64{2, 4, 5}, []string{"x pub 9 at 2", "x unsubscribe 2500"}},
			{"epoch", "other", []uint64{2, 3}, []string{"x unsubscribe 2500"}},
			{"no offset", "", []uint64{0, 2}, []string{"x pub 9 at 0", "x pub 9 at 2"}},
		} {
			for _, held := range []bool{false, true} {
				b := newBench(t, setup{channels: open, waits: true, manual: true})
				b.publish("x", "1")
				top := b.top("x")
				epoch := c.epoch
				if epoch == "" {
					epoch = top.Epoch
				}
				conn := b.connect(p, "ann")
				conn.send(positioned(2, "x", nil))
				if !held {
					b.runAll()
				}
				b.deliver("x", epoch, c.offsets...)
				b.runAll()
				conn.expect(0, append([]string{"2 subscribe"}, c.want...)...)
				b.check()
				// It comes back and is whole.
				b.publish("x", "3")
				conn.send(`{"id":3,"unsubscribe":{"channel":"x"}}`, positioned(4, "x", &top))
				b.runAll()
				if r := conn.last().Subscribe; r == nil || !r.Recovered {
					t.Errorf("%s: subscribed again: %q", c.name, conn.brief())
				}
				b.empty()
			}
		}
	})
}

// TestHeldOverflow: who would have to hold too much begins anew.
func TestHeldOverflow(t *testing.T) {
	for _, size := range []int{0, 2 << 20} {
		b := newBench(t, setup{channels: open, waits: true, manual: true})
		c := b.connect(Protobuf, "ann")
		c.send(positioned(2, "x", nil))
		data := append([]byte("1"), make([]byte, size)...)
		for o := range uint64(maxHeldPushes + 10) {
			if size > 0 && o > 5 {
				break
			}
			b.hub.Publication("x", &engine.Publication{Offset: o + 1, Data: data}, b.top("x").Epoch)
		}
		b.table.Drain()
		h := b.table.held
		for _, x := range h {
			if !x.lost || x.pushes != nil {
				t.Errorf("held: lost %v, %d pushes", x.lost, len(x.pushes))
			}
		}
		b.runAll()
		c.expect(0, "2 subscribe", "x unsubscribe 2500")
		b.check()
		b.empty()
	}
}

func TestEngineUnavailable(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		b := newBench(t, setup{channels: open, waits: true})
		c := b.connect(p, "ann")
		b.slow.fails = func() bool { return true }
		c.send(positioned(2, "x", nil), `{"id":3,"publish":{"channel":"x","data":1}}`, `{"id":4,"presence":{"channel":"x"}}`, `{"id":5,"history":{"channel":"x"}}`)
		if e := c.got[0].Error; e == nil || !e.Temporary {
			t.Error("the client is not told to try again")
		}
		c.expect(0, "2 error 100", "3 error 100", "4 error 100", "5 error 100")
		b.check()
		// Server-side subscriptions of connect too: nothing is left of those before.
		d := b.accept(p)
		forced := map[string]any{"sub": "bob", "subs": map[string]any{"a": map[string]any{}, "x": map[string]any{"override": map[string]any{"force_recovery": map[string]any{"value": true}}}}}
		d.send(connectWith(forced))
		d.expect(0, "1 error 100")
		if n := b.table.shard.Subs(); n != 0 {
			t.Errorf("%d subscriptions of a connect that failed", n)
		}
		b.slow.fails = nil
		d.send(connectWith(forced))
		d.expect(0, "1 connect")
		b.check()
		b.empty()
	})
}

// TestServerSideRecovery: connect brings what server-side subscriptions missed.
func TestServerSideRecovery(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		forced := open
		forced.ForceRecovery = true
		for _, waits := range []bool{false, true} {
			b := newBench(t, setup{channels: forced, waits: waits})
			for _, ch := range []string{"a", "b"} {
				b.publish(ch, "1")
				b.publish(ch, "2")
			}
			c := b.accept(p)
			c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q,"subs":{"a":{"recover":true,"offset":1,"epoch":%q},"b":{"recover":true,"offset":1,"epoch":"other"},"z":{"recover":true}}}}`,
				sign("HS256", testSecret, map[string]any{"sub": "ann", "channels": []string{"a", "b", "c"}}), b.top("a").Epoch))
			subs := c.last().Connect.Subs
			if len(subs) != 3 || !subs["a"].Recovered || len(subs["a"].Publications) != 1 || subs["b"].Recovered || !subs["b"].WasRecovering || subs["c"].WasRecovering {
				t.Errorf("subs %+v", subs)
			}
			c.got = nil
			b.publish("a", "3")
			b.publish("b", "3")
			c.expect(0, "a pub 3 at 3", "b pub 3 at 3")
			b.deliver("a", b.top("a").Epoch, 9)
			b.run()
			c.expect(3010)
			b.check()
			b.empty()
		}
	})
}

// TestSettleEnds has one server-side subscription end the session while others wait to be settled.
func TestSettleEnds(t *testing.T) {
	b := newBench(t, setup{channels: open, manual: true})
	other := b.connect(JSON, "bob")
	other.send(`{"id":2,"subscribe":{"channel":"a"}}`)
	// It waits in the queue of the loop while c connects, and is delivered when its first subscription's join is.
	b.publish("a", "\xff")
	c := b.accept(JSON)
	c.send(connectWith(map[string]any{"sub": "ann", "channels": []string{"b", "a", "c"}}))
	b.check()
	b.runAll()
	c.expect(3506, "1 connect")
	if other.closed == nil || other.closed.Code != 3506 {
		t.Errorf("closed with %v, want 3506", other.closed)
	}
	b.check()
	b.empty()
}

// TestReusedReference ends a subscription while its history is read, and begins another that has its reference.
func TestReusedReference(t *testing.T) {
	b := newBench(t, setup{channels: open, waits: true, manual: true})
	b.publish("x", "1")
	c := b.connect(JSON, "ann")
	c.send(positioned(2, "x", nil))
	c.serial.step()
	yes := true
	b.table.Do(&Control{Target: Target{User: "ann"}, Channel: "x", Unsubscribe: true})
	b.table.Do(&Control{Target: Target{User: "ann"}, Channel: "x", Subscribe: &SubscribeAs{Options: SubscribeOptions{ForceRecovery: &yes}}})
	b.publish("x", "2")
	b.runAll()
	c.expect(0, "x unsubscribe 2000", "2 error 100", "x subscribe at 2")
	b.publish("x", "3")
	b.runAll()
	c.expect(0, "x pub 3 at 3")
	b.check()
	b.empty()
}

func TestPresenceJoinLeave(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		for _, waits := range []bool{false, true} {
			b := newBench(t, setup{channels: open, waits: waits})
			ann := b.connect(p, "ann")
			ann.send(`{"id":2,"subscribe":{"channel":"x","join_leave":true}}`)
			ann.expect(0, "2 subscribe", "x join ann")
			bob := b.connect(p, "bob")
			bob.send(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"presence":{"channel":"x"}}`, `{"id":4,"presence_stats":{"channel":"x"}}`)
			bob.expect(0, "2 subscribe", "3 presence 2", "4 presence_stats 2 2")
			ann.expect(0, "x join bob")
			bob.send(`{"id":5,"unsubscribe":{"channel":"x"}}`, `{"id":6,"unsubscribe":{"channel":"x"}}`)
			bob.expect(0, "5 unsubscribe", "6 unsubscribe")
			ann.expect(0, "x leave bob")
			bob.send(`{"id":7,"subscribe":{"channel":"x"}}`)
			bob.cut()
			ann.expect(0, "x join bob", "x leave bob")
			// Its pings renew it.
			ann.answers = true
			b.advance(200 * time.Second)
			ann.send(`{"id":8,"presence_stats":{"channel":"x"}}`)
			ann.expect(0, "8 presence_stats 1 1")
			b.check()
			b.empty()
		}
	})
}

// TestNoLeaveWithoutJoin: a subscription that is lost before anybody knew of it leaves nobody.
func TestNoLeaveWithoutJoin(t *testing.T) {
	b := newBench(t, setup{channels: open, waits: true, manual: true})
	watcher := b.connect(JSON, "watcher")
	watcher.send(`{"id":2,"subscribe":{"channel":"x","join_leave":true}}`)
	b.runAll()
	watcher.got = nil
	c := b.connect(JSON, "ann")
	c.send(positioned(2, "x", nil))
	b.deliver("x", b.top("x").Epoch, 7)
	b.runAll()
	c.expect(0, "2 subscribe", "x unsubscribe 2500")
	watcher.expect(0, "x pub 9 at 7")
	b.empty()
}

func TestHistory(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		b := newBench(t, setup{channels: open})
		for range 5 {
			b.publish("x", "1")
		}
		c := b.connect(p, "ann")
		c.send(`{"id":2,"history":{"channel":"x"}}`, `{"id":3,"history":{"channel":"x","limit":-1}}`, `{"id":4,"history":{"channel":"x","limit":2,"reverse":true}}`,
			fmt.Sprintf(`{"id":5,"history":{"channel":"x","limit":-1,"since":{"offset":3,"epoch":%q}}}`, b.top("x").Epoch),
			`{"id":6,"history":{"channel":"x","limit":-1,"since":{"offset":3,"epoch":"other"}}}`, `{"id":7,"history":{"channel":"none"}}`)
		if r := c.got[2].History.Publications; r[0].Offset != 5 || r[1].Offset != 4 {
			t.Errorf("reverse: %+v", r)
		}
		c.expect(0, "2 history 0 at 5", "3 history 5 at 5", "4 history 2 at 5", "5 history 2 at 5", "6 error 112", "7 history 0 at 0")
		b.empty()
	})
}

func TestInsecure(t *testing.T) {
	b := newBench(t, setup{o: Options{Insecure: true}})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"subscribe":{"channel":"$x"}}`, `{"id":4,"publish":{"channel":"x","data":1}}`,
		subscribeWith(5, "$x", map[string]any{"channel": "$x"}), `{"id":6,"presence":{"channel":"x"}}`)
	c.expect(0, "1 connect", "2 subscribe", "3 error 103", "x pub 1 at 0", "4 publish", "5 subscribe", "6 error 108")
	e := b.accept(JSON)
	e.send(connectWith(map[string]any{"sub": "ann", "exp": testStart + 1}))
	if e.last().Connect.Expires {
		t.Error("it expires")
	}
	b.empty()
}

// TestState holds the sizes that the goal counts with.
func TestState(t *testing.T) {
	if StateSize > 40 {
		t.Errorf("a session has %d bytes", StateSize)
	}
	n := int(unsafe.Sizeof(hub.Sub{}))
	if n > 56 {
		t.Errorf("a subscription has %d bytes", n)
	}
	t.Logf("session %d bytes, subscription %d", StateSize, n)
}
