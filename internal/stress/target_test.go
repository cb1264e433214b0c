package stress

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/token/tokentest"
	"github.com/longwire/longwire/internal/wstest"
)

const fewEchoes = "timeout: 20s\nscenarios: [{kind: echo, think: 5ms}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak}]"

// TestTLS has runs go over TLS, with an authority and without.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	ln := func() net.Listener { return a.listen(t, net.IPv4(127, 0, 0, 1), time.Now().Add(time.Hour)) }
	ws := "wss://" + serve(t, ln(), echo) + "/"
	web := "https://" + serve(t, ln(), answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)) + "/"
	for _, o := range []Options{{Authorities: a.pool()}, {Insecure: true}} {
		o.Every = 50 * time.Millisecond
		exchanged(5)(t, carryOutUntil(t, decode(t, ws, fewEchoes), o, done(20, 5)))
		r := carryOutUntil(t, decode(t, web, strings.Replace(fewEchoes, "echo", "http", 1)), o, done(20, 5))
		if exchanged(5)(t, r); r.Scenarios[0].Reuse < 2 {
			t.Errorf("reuse %g", r.Scenarios[0].Reuse)
		}
	}
}

// TestIPv6 has runs go to a literal address and to a name.
func TestIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("there is no IPv6 here: %v", err)
	}
	host := serve(t, ln, echo)
	r := carryOutUntil(t, decode(t, "ws://"+host+"/", fewEchoes), Options{Every: 50 * time.Millisecond}, done(20, 5))
	if exchanged(5)(t, r); r.Address != host || !r.Environment.Local {
		t.Errorf("address %s, local %v; want %s", r.Address, r.Environment.Local, host)
	}
	gate := gateway(t, func(c *longwire.Config) { c.Addr = "[::1]:0" })
	exchanged(5)(t, carryOutUntil(t, decode(t, "ws://"+gate+"/echo", fewEchoes), Options{Every: 50 * time.Millisecond}, done(20, 5)))
}

// TestRequestHead has what the user asks for stand in requests and handshakes.
func TestRequestHead(t *testing.T) {
	var mu sync.Mutex
	var seen *http.Request
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = r
	}
	host := serve(t, nil, func(c net.Conn) {
		if req, r, err := wstest.Upgrade(c); err == nil {
			note(req)
			messages(c, r, func([]byte) {})
		}
	})
	o := Options{
		Every: 50 * time.Millisecond, Origin: "https://example.com", Deflate: true,
		Headers: []Header{{"X-Load", "a b"}, {"Cookie", "k=v"}},
	}
	carryOutUntil(t, decode(t, "ws://"+host+"/a%20path?q=1", "timeout: 20s\nscenarios: [hold]\nstages: [{kind: ramp, to: 1, for: 0s}, {kind: soak}]"), o, done(0, 1))
	mu.Lock()
	defer mu.Unlock()
	for name, want := range map[string]string{"X-Load": "a b", "Cookie": "k=v", "Origin": "https://example.com"} {
		if got := seen.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if seen.RequestURI != "/a%20path?q=1" || seen.Host != host || !strings.Contains(seen.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		t.Errorf("%s at %s, header %v", seen.RequestURI, seen.Host, seen.Header)
	}

	// A gateway that is particular about it.
	gate := gateway(t, func(c *longwire.Config) {
		c.Endpoints[0].Origins = []string{"https://example.com"}
		c.Endpoints[0].Subprotocols = []string{"chat"}
	})
	plan := strings.Replace(fewEchoes, "kind: echo", "kind: echo, size: 10000", 1)
	for name, c := range map[string]struct {
		o    Options
		want string // error
	}{
		"as it likes":    {Options{Origin: "https://example.com", Subprotocols: []string{"other", "chat"}, Deflate: true}, ""},
		"another origin": {Options{Origin: "https://example.org", Subprotocols: []string{"chat"}}, "connect_http_403"},
		"not compressed": {Options{Subprotocols: []string{"chat"}}, ""},
	} {
		c.o.Every = 50 * time.Millisecond
		enough := done(20, 5)
		if c.want != "" {
			enough = func(s Sample) bool { return s.Failed >= 5 }
		}
		r := carryOutUntil(t, decode(t, "ws://"+gate+"/echo", plan), c.o, enough)
		switch o := r.Scenarios[0]; {
		case c.want != "":
			if r.Errors[c.want] < 5 || len(r.Errors) > 1 {
				t.Errorf("%s: errors %v, want %s", name, r.Errors, c.want)
			}
		case o.Done < 20 || len(r.Errors) > 0 || c.o.Deflate != (o.BytesIn < o.Done*5000):
			t.Errorf("%s: %d bytes in %d messages, errors %v", name, o.BytesIn, o.Done, r.Errors)
		}
	}
}

// TestToken has clients of the Centrifuge protocol show a token, and send commands that have replies.
func TestToken(t *testing.T) {
	const secret = "a secret of thirty-two bytes or so"
	gate := gateway(t, func(c *longwire.Config) {
		c.Sessions.Insecure = false
		c.Tokens.HMACSecret = []byte(secret)
	})
	const plan = "timeout: 20s\nscenarios: [{kind: request, protocol: centrifuge, think: 5ms, in-flight: 3}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak}]"
	o := Options{Every: 50 * time.Millisecond, Token: tokentest.HS256(secret, `{"sub":"42"}`)}
	// This gateway's application answers no rpc: each is an error, and a reply for all that.
	r := carryOutUntil(t, decode(t, "ws://"+gate+"/connection/websocket", plan), o, func(s Sample) bool { return s.Sent > 20 && s.Open == 5 })
	x := r.Scenarios[0]
	if x.Done != 0 || x.Failed != r.Errors["exchange_error_108"] || len(r.Errors) != 1 || x.Conns.Survived != 5 {
		t.Errorf("%+v, errors %v", x, r.Errors)
	}
	for name, token := range map[string]string{"none": "", "another's": tokentest.HS256("another secret of that very length", `{"sub":"42"}`)} {
		o.Token = token
		r := carryOutUntil(t, decode(t, "ws://"+gate+"/connection/websocket", plan), o, func(s Sample) bool { return s.Lost >= 3 })
		if r.Scenarios[0].Sent != 0 || !slices.ContainsFunc(slices.Collect(maps.Keys(r.Errors)), func(why string) bool {
			return why == "lost_close_3500" || why == "lost_close_3501" || why == "lost_close_3000"
		}) {
			t.Errorf("%s: %d sent, errors %v", name, r.Scenarios[0].Sent, r.Errors)
		}
	}
}

// TestMissing has a server that does not deliver every third publication: as many are missing.
func TestMissing(t *testing.T) {
	var mu sync.Mutex
	withheld, published := int64(0), int64(0)
	host := serve(t, nil, func(c net.Conn) {
		_, r, err := wstest.Upgrade(c)
		if err != nil {
			return
		}
		messages(c, r, func(payload []byte) {
			var m struct {
				Type, Channel string
				ID            int
				Data          json.RawMessage
			}
			if err := json.Unmarshal(payload, &m); err != nil {
				t.Error(err)
				return
			}
			if m.Type == "subscribe" {
				say(c, fmt.Appendf(nil, `{"type":"subscribed","id":%d,"channel":%q}`, m.ID, m.Channel))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if published++; published%3 == 0 {
				withheld++
			} else {
				say(c, fmt.Appendf(nil, `{"type":"message","channel":%q,"data":%s}`, m.Channel, m.Data))
			}
			say(c, fmt.Appendf(nil, `{"type":"published","id":%d}`, m.ID))
		})
	})
	s := decode(t, "ws://"+host+"/", "timeout: 1s\nscenarios: [{kind: publish, protocol: plain, think: 5ms}]\nstages: [{kind: ramp, to: 1, for: 0s}, {kind: soak}]")
	r := carryOutUntil(t, s, Options{Every: 50 * time.Millisecond}, func(s Sample) bool { return s.Done > 20 })
	if o := sound(t, r); o.Missing != withheld || withheld < 6 || o.Delivered != published-withheld {
		t.Errorf("%d delivered, %d missing; the server had %d and withheld %d", o.Delivered, o.Missing, published, withheld)
	}
}

// TestHalfOpen has a gateway's heartbeat find clients that have fallen silent.
func TestHalfOpen(t *testing.T) {
	host := gateway(t, func(c *longwire.Config) {
		c.Endpoints[0].Heartbeat = longwire.Heartbeat{Ping: 300 * time.Millisecond, Timeout: 600 * time.Millisecond}
	})
	s := decode(t, "ws://"+host+"/echo", "timeout: 20s\nscenarios: [{kind: halfopen, after: 100ms}]\nstages: [{kind: ramp, to: 10, for: 0s}, {kind: soak}]")
	r := carryOutUntil(t, s, Options{Every: 50 * time.Millisecond}, func(s Sample) bool { return s.Lost == 10 })
	if o := r.Scenarios[0]; o.Detection == nil || o.Detection.Count != 10 || o.Detection.Max > 1e6*patience.Seconds() || o.Detection.Min <= 0 || o.Conns.Survived != 0 {
		t.Errorf("conns %+v, detection %+v, errors %v", o.Conns, o.Detection, r.Errors)
	}
}

// TestSlow has clients that read nothing of what is published beside them: the gateway ends them, and nobody else.
func TestSlow(t *testing.T) {
	host := gateway(t, func(c *longwire.Config) { c.Endpoints[1].WriteQueue = 64 << 10 })
	s := decode(t, "ws://"+host+"/ws", "timeout: 20s\nprotocol: plain\nscenarios:\n  - {kind: slow, channel: stress}\n  - {kind: publish, size: 60000, think: 5ms}\nstages: [{kind: ramp, to: 4, for: 0s}, {kind: soak}]")
	r := carryOutUntil(t, s, Options{Every: 50 * time.Millisecond}, func(s Sample) bool { return s.Lost >= 2 })
	slow, fast := r.Scenarios[0], r.Scenarios[1]
	if slow.Conns.Lost != 2 || slow.Sent != 0 || fast.Conns.Lost != 0 || fast.Missing != 0 || len(fast.Errors) > 0 || fast.Done == 0 {
		t.Errorf("slow: %+v, %v\nfast: %+v, %v", slow.Conns, slow.Errors, fast.Conns, fast.Errors)
	}

	// Those that read a little hear the gateway all the same.
	r = carryOutUntil(t, decode(t, "ws://"+host+"/echo", "timeout: 20s\nscenarios: [{kind: slow, read-rate: 1000}]\nstages: [{kind: ramp, to: 3, for: 0s}, {kind: soak}]"), Options{Every: 50 * time.Millisecond}, done(0, 3))
	if o := sound(t, r); o.Conns.Survived != 3 {
		t.Errorf("%+v", o.Conns)
	}
}
