package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/token"
)

// open is what channels of most tests are like.
var open = channel.Options{SubscribeForClient: true, SubscribeForAnonymous: true, PublishForClient: true, PublishForAnonymous: true,
	PresenceForClient: true, PresenceForAnonymous: true, HistoryForClient: true, HistoryForAnonymous: true,
	Presence: true, JoinLeave: true, HistorySize: 100, HistoryTTL: time.Hour, AllowRecovery: true, AllowDelta: true}

// TestBadInput has what a client gets for what it must not send, and that nothing is kept of it.
func TestBadInput(t *testing.T) {
	const (
		anonymous = `{"id":1,"connect":{}}`
		last      = testStart - 1
	)
	rsa := "-----BEGIN PUBLIC KEY-----\n"
	for _, c := range []struct {
		name   string
		send   []string
		raw    string // instead
		closed uint16
		want   []string
	}{
		{name: "not JSON", raw: `{"id":1,`, closed: 3501},
		{name: "an empty message", raw: "", closed: 3501},
		{name: "an array", raw: `[]`, closed: 3501},
		{name: "two without space", raw: `{"id":1,"connect":{}}{"id":2,"rpc":{}}`, closed: 3501},
		{name: "garbage after a command", raw: anonymous + "\n%", closed: 3501, want: []string{"1 connect"}},
		{name: "bytes", raw: "\xff\x00\x80", closed: 3501},
		{name: "before connect", send: []string{`{"id":1,"subscribe":{"channel":"news"}}`}, closed: 3501},
		{name: "a pong before connect", send: []string{`{}`}, closed: 3501},
		{name: "connect without id", send: []string{`{"connect":{}}`}, closed: 3501},
		{name: "connect twice", send: []string{anonymous, anonymous}, closed: 3501, want: []string{"1 connect"}},
		{name: "id 0", send: []string{anonymous, `{"subscribe":{"channel":"news"}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "unknown method", send: []string{anonymous, `{"id":2,"dance":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "ping of a client", send: []string{anonymous, `{"id":2,"ping":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "a pong to no ping", send: []string{anonymous, `{}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "a pong with an id", send: []string{anonymous, `{"id":2}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "send to nobody", send: []string{anonymous, `{"send":{"data":{}}}`}, closed: 3508, want: []string{"1 connect"}},
		{name: "no channel", send: []string{anonymous, `{"id":2,"subscribe":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "unsubscribe no channel", send: []string{anonymous, `{"id":2,"unsubscribe":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "publish no data", send: []string{anonymous, `{"id":2,"publish":{"channel":"news"}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "presence no channel", send: []string{anonymous, `{"id":2,"presence":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "history no channel", send: []string{anonymous, `{"id":2,"history":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "sub_refresh no channel", send: []string{anonymous, `{"id":2,"sub_refresh":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "refresh no token", send: []string{anonymous, `{"id":2,"refresh":{}}`}, closed: 3501, want: []string{"1 connect"}},
		{name: "sub_refresh of none", send: []string{anonymous, `{"id":2,"sub_refresh":{"channel":"news","token":"x"}}`}, want: []string{"1 connect", "2 error 103"}},
		{name: "a channel too long", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"` + strings.Repeat("x", 256) + `"}}`}, want: []string{"1 connect", "2 error 107"}},
		{name: "no namespace", send: []string{anonymous, `{"id":2,"publish":{"channel":"none:x","data":1}}`}, want: []string{"1 connect", "2 error 102"}},
		{name: "private", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"$x"}}`}, want: []string{"1 connect", "2 error 103"}},
		{name: "of others", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"x#42"}}`}, want: []string{"1 connect", "2 error 103"}},
		{name: "another kind", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"news","type":1}}`}, want: []string{"1 connect", "2 error 108"}},
		{name: "no rpc", send: []string{anonymous, `{"id":2,"rpc":{"method":"x"}}`}, want: []string{"1 connect", "2 error 108"}},
		{name: "twice", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"news"}}`, `{"id":3,"subscribe":{"channel":"news"}}`}, want: []string{"1 connect", "2 subscribe", "3 error 105"}},
		{name: "a bad token for a channel", send: []string{anonymous, `{"id":2,"subscribe":{"channel":"news","token":"x.y.z"}}`}, want: []string{"1 connect", "2 error 103"}},
		{name: "no token at all", send: []string{`{"id":1,"connect":{"token":"x"}}`}, closed: 3500},
		{name: "another secret", send: []string{fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, sign("HS256", "guess", map[string]any{"sub": "ann"}))}, closed: 3500},
		{name: "alg none", send: []string{fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, sign("none", "", map[string]any{"sub": "ann"}))}, closed: 3500},
		{name: "alg RS256 signed as HS256", send: []string{fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, sign("RS256", testSecret, map[string]any{"sub": "ann"}))}, closed: 3500},
		{name: "signed with the public key", send: []string{fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, sign("HS256", rsa, map[string]any{"sub": "ann"}))}, closed: 3500},
		{name: "expired", send: []string{connectWith(map[string]any{"sub": "ann", "exp": last})}, want: []string{"1 error 109"}},
		{name: "expired at", send: []string{connectWith(map[string]any{"sub": "ann", "expire_at": last})}, want: []string{"1 error 110"}},
		{name: "not yet", send: []string{connectWith(map[string]any{"sub": "ann", "nbf": testStart + 5})}, closed: 3500},
		{name: "a token for a channel", send: []string{connectWith(map[string]any{"sub": "ann", "channel": "news"})}, closed: 3500},
		{name: "too many server-side", send: []string{connectWith(map[string]any{"channels": []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}})}, closed: 3505},
		{name: "no namespace, server-side", send: []string{connectWith(map[string]any{"sub": "ann", "channels": []string{"a", "none:x"}})}, want: []string{"1 error 102"}},
		{name: "a bad name, server-side", send: []string{connectWith(map[string]any{"sub": "ann", "channels": []string{"a", "\n"}})}, closed: 3501},
		{name: "info too long", send: []string{connectWith(map[string]any{"sub": strings.Repeat("x", 33<<10)})}, closed: 3500}, // longer than a token may be
		{name: "nine channels", closed: 0,
			send: append([]string{anonymous}, subscribes("a", "b", "c", "d", "e", "f", "g", "h", "i")...),
			want: []string{"1 connect", "2 subscribe", "3 subscribe", "4 subscribe", "5 subscribe", "6 subscribe", "7 subscribe", "8 subscribe", "9 subscribe", "10 error 106"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothFormats(t, func(t *testing.T, p Protocol) {
				for _, waits := range []bool{false, true} {
					b := newBench(t, setup{channels: open, waits: waits, o: Options{Anonymous: true, ChannelLimit: 8}})
					conn := b.accept(p)
					switch {
					case c.send != nil:
						conn.send(c.send...)
					case p == Protobuf && strings.HasPrefix(c.raw, "{"):
						t.Skip("JSON")
					default:
						conn.message([]byte(c.raw))
						b.run()
					}
					conn.expect(c.closed, c.want...)
					b.check()
					b.empty()
				}
			})
		})
	}
}

func subscribes(channels ...string) (out []string) {
	for n, ch := range channels {
		out = append(out, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q}}`, n+2, ch))
	}
	return out
}

func TestTokenNotAnonymous(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`)
	c.expect(3501)
	b.empty()
}

func TestWrongAudience(t *testing.T) {
	b := newBench(t, setup{channels: open})
	b.n.o.Tokens = b.verifier(token.Options{HMACSecret: []byte(testSecret), Audience: "us"})
	for aud, code := range map[string]uint16{"us": 0, "them": 3500, "": 3500} {
		c := b.accept(JSON)
		claims := map[string]any{"sub": "ann"}
		if aud != "" {
			claims["aud"] = aud
		}
		c.send(connectWith(claims))
		if code == 0 {
			c.expect(0, "1 connect")
		} else {
			c.expect(code)
		}
	}
	b.empty()
}

// TestEveryByteInAName subscribes to a channel with each value of a byte in its name: it is a name, or error 107.
func TestEveryByteInAName(t *testing.T) {
	b := newBench(t, setup{channels: open, o: Options{ChannelLimit: 300}})
	c := b.connect(Protobuf, "ann")
	for v := range 256 {
		name := "x" + string([]byte{byte(v)}) + "y"
		raw := []byte{5<<3 | 2, byte(len(name) + 2), 1<<3 | 2, byte(len(name))}
		raw = append(raw, name...)
		raw = append([]byte{byte(len(raw) + 2), 1 << 3, 2}, raw...)
		c.message(raw)
		b.run()
		want := "2 subscribe"
		switch {
		case v >= 0x80 && c.closed != nil: // no UTF-8: Protobuf has no such string
			c.expect(3501)
			c = b.connect(Protobuf, "ann")
			continue
		case v < 0x20 || v >= 0x7f:
			want = "2 error 107"
		case v == ':':
			want = "2 error 102"
		case v == '#':
			want = "2 error 103"
		}
		c.expect(0, want)
	}
	b.check()
	b.empty()
}

func TestConnectResult(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		b := newBench(t, setup{channels: open, o: Options{Version: "longwire 1"}})
		c := b.accept(p)
		c.send(connectWith(map[string]any{"sub": "ann", "exp": testStart + 60, "info": map[string]any{"name": "Ann"}, "channels": []string{"b", "a", "a"}}))
		r := c.last().Connect
		if r == nil || !r.Expires || r.TTL != 60 || r.Ping != 25 || !r.Pong || r.Version != "longwire 1" || len(r.Subs) != 2 {
			t.Fatalf("connect result %+v", r)
		}
		if id, ok := b.n.Conn(r.Client); !ok || id != c.id {
			t.Errorf("client id %s is conn %d, want %d", r.Client, id, c.id)
		}
		c.got = nil
		// It is subscribed, and others see its info.
		c.send(`{"id":2,"presence":{"channel":"a"}}`)
		if p := c.last().Presence.Presence[r.Client]; p.User != "ann" || string(p.ConnInfo) != `{"name":"Ann"}` {
			t.Errorf("presence %+v", p)
		}
		c.got = nil
		b.publish("b", `{"x":1}`)
		c.expect(0, `b pub {"x":1} at 1`)
		b.check()
		b.empty()
	})
}

// TestFarExpiry: a time beyond 32 bits is far away, not long ago.
func TestFarExpiry(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.accept(JSON)
	c.send(connectWith(map[string]any{"sub": "ann", "exp": 9_999_999_999}))
	c.expect(0, "1 connect")
	c.answers = true
	b.advance(time.Hour)
	c.expect(0)
	b.empty()
}

func TestConnectRate(t *testing.T) {
	for _, r := range []struct {
		rate  float64
		burst int
		after time.Duration
	}{{0, 40, time.Second}, {10, 10, 100 * time.Millisecond}, {0.5, 1, 2 * time.Second}} {
		b := newBench(t, setup{slots: 64, channels: open, o: Options{ConnectRate: r.rate, Anonymous: true}})
		try := func() uint16 {
			c := b.accept(JSON)
			c.send(`{"id":1,"connect":{}}`)
			if c.closed != nil {
				return c.closed.Code
			}
			return 0
		}
		for k := range r.burst {
			if code := try(); code != 0 {
				t.Fatalf("rate %v: connect %d is closed with %d", r.rate, k, code)
			}
		}
		if r.rate == 0 {
			continue
		}
		if code := try(); code != 3013 {
			t.Errorf("rate %v: connect beyond the burst: %d, want 3013", r.rate, code)
		}
		b.clock.Add(int64(r.after))
		if code := try(); code != 0 {
			t.Errorf("rate %v: connect after %v is closed with %d", r.rate, r.after, code)
		}
		if code := try(); code != 3013 {
			t.Errorf("rate %v: second connect after %v: %d, want 3013", r.rate, r.after, code)
		}
	}
}

func TestRefresh(t *testing.T) {
	bothFormats(t, func(t *testing.T, p Protocol) {
		refresh := func(claims map[string]any) string {
			return fmt.Sprintf(`{"id":2,"refresh":{"token":%q}}`, sign("HS256", testSecret, claims))
		}
		start := func(t *testing.T) (*bench, *conn) {
			b := newBench(t, setup{channels: open, o: Options{Pong: -1}})
			c := b.accept(p)
			c.send(connectWith(map[string]any{"sub": "ann", "exp": testStart + 60}))
			c.expect(0, "1 connect")
			return b, c
		}
		t.Run("in time", func(t *testing.T) {
			b, c := start(t)
			b.advance(70 * time.Second) // within the grace
			c.send(refresh(map[string]any{"sub": "ann", "exp": testStart + 300}))
			c.expect(0, "2 refresh 230")
			b.advance(230 * time.Second)
			c.expect(0)
			b.advance(25 * time.Second)
			c.expect(3005)
			b.empty()
		})
		t.Run("never", func(t *testing.T) {
			b, c := start(t)
			b.advance(84 * time.Second)
			c.expect(0)
			b.advance(time.Second)
			c.expect(3005)
			b.empty()
		})
		t.Run("expired", func(t *testing.T) {
			b, c := start(t)
			c.send(refresh(map[string]any{"sub": "ann", "exp": testStart - 1}))
			c.send(refresh(map[string]any{"sub": "ann", "exp": testStart + 1, "expire_at": testStart - 1}))
			c.expect(0, "2 error 109", "2 error 110")
			b.empty()
		})
		t.Run("another user", func(t *testing.T) {
			b, c := start(t)
			c.send(refresh(map[string]any{"sub": "bob", "exp": testStart + 300}))
			c.expect(3500)
			b.empty()
		})
		t.Run("without end", func(t *testing.T) {
			b, c := start(t)
			c.send(refresh(map[string]any{"sub": "ann"}))
			b.advance(time.Hour)
			c.expect(0, "2 refresh 0")
			b.empty()
		})
	})
}

func TestRefreshKeepsInfo(t *testing.T) {
	b := newBench(t, setup{channels: open})
	c := b.accept(JSON)
	c.send(connectWith(map[string]any{"sub": "ann", "info": 7}), `{"id":2,"subscribe":{"channel":"a"}}`)
	for _, step := range []struct {
		claims map[string]any
		want   string
	}{{map[string]any{"sub": "ann"}, "7"}, {map[string]any{"sub": "ann", "info": 8}, "8"}} {
		c.send(fmt.Sprintf(`{"id":3,"refresh":{"token":%q}}`, sign("HS256", testSecret, step.claims)), `{"id":4,"publish":{"channel":"a","data":1}}`)
		c.got = nil
		c.send(`{"id":5,"history":{"channel":"a","limit":1,"reverse":true}}`)
		if got := c.last().History.Publications[0].Info; got == nil || string(got.ConnInfo) != step.want || got.User != "ann" {
			t.Errorf("info %+v, want %s", got, step.want)
		}
	}
	b.empty()
}

func TestConnectHook(t *testing.T) {
	deny := &Error{Code: 4242, Message: "no"}
	for _, c := range []struct {
		name   string
		reply  ConnectReply
		err    error
		closed uint16
		want   []string
	}{
		{name: "allow", reply: ConnectReply{User: "ann", Channels: []string{"b"}, Subs: map[string]SubscribeOptions{"a": {}}}, want: []string{"1 connect", "2 subscribe"}},
		{name: "deny", err: deny, want: []string{"1 error 4242"}}, // the subscribe behind it is let go
		{name: "disconnect", err: &Disconnect{Code: 4500, Reason: "go"}, closed: 4500},
		{name: "fails", err: errors.New("boom"), want: []string{"1 error 100"}},
		{name: "expired", reply: ConnectReply{ExpireAt: time.Unix(testStart-1, 0)}, want: []string{"1 error 110"}},
		{name: "too long", reply: ConnectReply{User: strings.Repeat("x", 40<<10)}, want: []string{"1 error 106"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothFormats(t, func(t *testing.T, p Protocol) {
				var seen Client
				var data string
				b := newBench(t, setup{manual: true, channels: open, o: Options{Hooks: Hooks{Headers: []string{"X-Test"},
					Connect: func(_ context.Context, cl Client, r ConnectRequest) (ConnectReply, error) {
						seen, data = cl, string(r.Data)
						return c.reply, c.err
					}}}})
				conn := b.accept(p)
				conn.send(`{"id":1,"connect":{"data":{"k":1},"name":"js","version":"5"}}`, `{"id":2,"subscribe":{"channel":"z"}}`)
				conn.expect(0) // the hook is asked
				b.advance(time.Minute)
				conn.expect(0) // a hook that hangs is no stale client
				if !conn.paused {
					t.Error("it reads on while the hook is asked")
				}
				b.runAll()
				conn.expect(c.closed, c.want...)
				if seen.ID != b.n.ID(conn.id) || seen.Headers["X-Test"] != "from the handshake" || data != `{"k":1}` || seen.Name != "js" || seen.Addr != "192.0.2.7" {
					t.Errorf("the hook saw %+v with %s", seen, data)
				}
				if conn.paused && conn.open {
					t.Error("it is paused")
				}
				b.check()
				b.empty()
			})
		})
	}
}

// TestConnectHookGone has the connection end while its hook is asked.
func TestConnectHookGone(t *testing.T) {
	b := newBench(t, setup{manual: true, channels: open, o: Options{Hooks: Hooks{
		Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
			return ConnectReply{User: "ann", Channels: []string{"a"}}, nil
		}}}})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"z"}}`)
	c.serial.step() // the hook has answered
	c.open = false
	b.runAll()
	c.expect(0)
	b.check()
	b.empty()
}

func TestRefreshHook(t *testing.T) {
	for _, c := range []struct {
		name   string
		reply  RefreshReply
		err    error
		asked  int // by the time, after a minute beyond the expiry
		closed uint16
	}{
		{name: "prolong", reply: RefreshReply{ExpireAt: time.Unix(testStart+10_000, 0)}, asked: 1},
		{name: "for ever", asked: 1},
		{name: "expired", reply: RefreshReply{Expired: true}, asked: 1, closed: 3005},
		{name: "in the past", reply: RefreshReply{ExpireAt: time.Unix(testStart, 0)}, asked: 1, closed: 3005},
		{name: "disconnect", err: &Disconnect{Code: 4500}, asked: 1, closed: 4500},
		// At the expiry, with the ping in the grace, at the end of the grace.
		{name: "fails", err: errors.New("boom"), asked: 3, closed: 3005},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			b := newBench(t, setup{channels: open, o: Options{Pong: -1, Hooks: Hooks{
				Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
					return ConnectReply{User: "ann", ExpireAt: time.Unix(testStart+60, 0)}, nil
				},
				Refresh: func(_ context.Context, cl Client) (RefreshReply, error) {
					asked++
					return c.reply, c.err
				}}}})
			conn := b.accept(JSON)
			conn.send(`{"id":1,"connect":{}}`)
			if conn.last().Connect.Expires {
				t.Error("the client is told of an expiry that is not its affair")
			}
			conn.expect(0, "1 connect")
			b.advance(120 * time.Second)
			conn.expect(c.closed)
			if asked != c.asked {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
			if b.timers > 12 {
				t.Errorf("%d timers in two minutes", b.timers)
			}
			b.empty()
		})
	}
}

// TestRefreshHookHangs: it is asked once, and pings go on meanwhile as they do.
func TestRefreshHookHangs(t *testing.T) {
	asked := 0
	b := newBench(t, setup{manual: true, channels: open, o: Options{Hooks: Hooks{
		Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
			return ConnectReply{User: "ann", ExpireAt: time.Unix(testStart+5, 0)}, nil
		},
		Refresh: func(context.Context, Client) (RefreshReply, error) { asked++; return RefreshReply{}, nil }}}})
	c := b.accept(JSON)
	c.send(`{"id":1,"connect":{}}`)
	b.runAll()
	c.got = nil
	b.timers = 0
	b.advance(60 * time.Second)
	if b.timers > 5 || c.pings < 2 || c.pings > 3 {
		t.Errorf("in a minute of waiting: %d timers, %d pings", b.timers, c.pings)
	}
	pings := c.pings
	b.runAll()
	// Now it is read again: its pongs are all welcome, and one more is not.
	for range pings {
		c.send(`{}`)
		b.runAll()
	}
	c.expect(0)
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	c.send(`{}`)
	c.expect(3501)
	b.empty()
}

// What comes with a connect command that gets an error is not held against the client, which may connect again.
func TestCommandsBehindAFailedConnect(t *testing.T) {
	b := newBench(t, setup{channels: open, o: Options{Pong: -1}})
	c := b.accept(JSON)
	expired := sign("HS256", testSecret, map[string]any{"sub": "ann", "exp": 1})
	c.send(fmt.Sprintf("{\"id\":1,\"connect\":{\"token\":%q}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}", expired))
	if c.closed != nil {
		t.Fatalf("closed with %v", c.closed)
	}
	c.send(fmt.Sprintf(`{"id":3,"connect":{"token":%q}}`, sign("HS256", testSecret, map[string]any{"sub": "ann"})))
	c.send(`{"id":4,"subscribe":{"channel":"news"}}`)
	if c.closed != nil || b.n.Subs.Load() != 1 {
		t.Errorf("closed %v, %d subscriptions after the second try, want open and 1", c.closed, b.n.Subs.Load())
	}
}
