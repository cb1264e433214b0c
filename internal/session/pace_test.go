package session

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// advised is the number of seconds that a reason says to wait, as clients/js and client read it; 0: none.
func advised(t *testing.T, reason string) int {
	t.Helper()
	found := regexp.MustCompile(`(?i)retry after (\d{1,9}) ?s`).FindStringSubmatch(reason)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil || n == 0 {
		t.Errorf("advice in %q", reason)
	}
	return n
}

func TestAdvise(t *testing.T) {
	for _, c := range []struct {
		reason string
		wait   time.Duration
		want   string
	}{
		{"shutdown", 0, "shutdown"},
		{"shutdown", -time.Second, "shutdown"},
		{"shutdown", 1, "shutdown, retry after 1 s"},
		{"shutdown", 5 * time.Second, "shutdown, retry after 5 s"},
		{"shutdown", 5*time.Second + 1, "shutdown, retry after 6 s"},
		{"Retry After 9s", 5 * time.Second, "Retry After 9s"}, // clients read the first
		{strings.Repeat("x", 105), 5 * time.Second, strings.Repeat("x", 105) + ", retry after 5 s"},
		{strings.Repeat("x", 106), 5 * time.Second, strings.Repeat("x", 106) + ", retry after 5 s"},
		{strings.Repeat("x", 107), 5 * time.Second, strings.Repeat("x", 107)},
	} {
		if got := Advise(c.reason, c.wait); got != c.want || len(got) > reasonMax {
			t.Errorf("Advise(%q, %v) = %q (%d bytes), want %q", c.reason, c.wait, got, len(got), c.want)
		}
	}
}

// spread counts what falls into each second.
func spread(at []time.Duration) map[int]int {
	m := make(map[int]int)
	for _, d := range at {
		m[int((d-1)/time.Second)]++
	}
	return m
}

// Who is turned away gets a place of his own, and none of them is the end of the line for all the others.
func TestLine(t *testing.T) {
	now := time.Unix(testStart, 0)
	b := newBucket(10, now)
	var at []time.Duration
	for range 2999 {
		at = append(at, b.later(now))
	}
	for s, n := range spread(at) {
		if n > 10 || s >= 300 {
			t.Errorf("%d come back in second %d, want at most 10 of a line of 300 s", n, s)
		}
	}
	at = at[:0]
	for range 6000 {
		at = append(at, b.later(now))
	}
	m := spread(at)
	for s := range 300 {
		if m[s] == 0 || m[s] > 60 {
			t.Errorf("of 6000 beyond the line %d come back in second %d, want about 20", m[s], s)
		}
	}
	if len(m) > 301 {
		t.Errorf("they come back in %d seconds, want 300", len(m))
	}
}

// crowd is n sessions of one user, of all kinds.
func crowd(b *bench, n int) []*conn {
	var conns []*conn
	for k := range n {
		c := b.acceptAs([]Protocol{JSON, Protobuf}[k%2], k%4 > 1)
		c.answers = true
		c.send(connectWith(map[string]any{"sub": "ann"}))
		c.expect(0, "1 connect")
		conns = append(conns, c)
	}
	return conns
}

// TestMassDisconnect ends 2,000 sessions of one user: they go one after the other, each is told when to come back, nobody is
// forgotten and nobody else notices.
func TestMassDisconnect(t *testing.T) {
	const n = 2000
	for _, r := range []struct {
		rate, want float64 // ConnectRate, and how many may go and come in a second
	}{{0, 1000}, {500, 500}, {40, 40}} {
		b := newBench(t, setup{channels: open, slots: n + 8, o: Options{ConnectRate: r.rate}})
		b.n.connects = bucket{} // let them in
		conns, bob := crowd(b, n), b.connect(JSON, "bob")
		bob.answers = true
		b.n.setRates(b.now())
		start := b.now()
		ended := make(map[*conn]time.Duration)
		var closes, returns []time.Duration
		b.do(&Control{Target: Target{User: "ann"}, Disconnect: &DisconnectAs{Code: 4100, Reason: "moved", Whitelist: []string{b.n.ID(conns[7].id)}}})
		last := time.Duration(float64(n) / r.want * float64(time.Second))
		for step := 0; b.now().Sub(start) < last+2*time.Second; step++ {
			b.advance(100 * time.Millisecond)
			for k, c := range conns {
				if c.closed == nil || ended[c] > 0 {
					continue
				}
				at := b.now().Sub(start)
				if ended[c] = at; c.closed.Code != 4100 || !strings.HasPrefix(c.closed.Reason, "moved, retry after ") {
					t.Fatalf("session %d is closed with %+v", k, c.closed)
				}
				closes = append(closes, at)
				wait := advised(t, c.closed.Reason)
				if most := int(last/time.Second) + 2; wait < 1 || wait > most {
					t.Errorf("rate %v: session %d is told to come back after %d s, want 1 to %d", r.rate, k, wait, most)
				}
				returns = append(returns, at+time.Duration(wait)*time.Second)
			}
			if step == 9 {
				// One that waits for its turn is served as ever.
				for _, c := range conns {
					if c.closed == nil {
						c.got = nil
						c.send(`{"id":9,"publish":{"channel":"x","data":1}}`)
						c.expect(0, "9 publish")
						break
					}
				}
				b.check()
			}
		}
		if len(ended) != n-1 || conns[7].closed != nil || bob.closed != nil {
			t.Errorf("rate %v: %d of %d sessions were ended, want all but one", r.rate, len(ended), n)
		}
		if got := b.n.Sessions.Load(); got != 2 {
			t.Errorf("rate %v: %d sessions are left, want 2", r.rate, got)
		}
		for s, k := range spread(closes) {
			if float64(k) > 1.1*r.want+1 {
				t.Errorf("rate %v: %d go in second %d, want %v", r.rate, k, s, r.want)
			}
		}
		// The seconds of the advice are whole, so that a few of the next ones come too.
		for s, k := range spread(returns) {
			if float64(k) > 1.7*r.want {
				t.Errorf("rate %v: %d come back in second %d, want about %v", r.rate, k, s, r.want)
			}
		}
		b.check()
		b.empty()
	}
}

// TestDisconnectAtOnce has those go at once who are few or are not to come back, without advice.
func TestDisconnectAtOnce(t *testing.T) {
	for _, c := range []struct {
		n      int
		code   uint16
		reason string
		now    bool
	}{
		{endAtOnce, 4100, "moved", true},
		{endAtOnce + 1, 4100, "moved", false},
		{endAtOnce + 1, 3011, "force reconnect", false},
		{100, 0, "", true},
		{100, 3503, "go", true},
		{100, 4500, "account closed", true},
		{100, 4999, "", true},
	} {
		b := newBench(t, setup{channels: open, slots: 128})
		conns := crowd(b, c.n)
		b.do(&Control{Target: Target{User: "ann"}, Disconnect: &DisconnectAs{Code: c.code, Reason: c.reason}})
		gone := 0
		for _, k := range conns {
			if k.closed == nil {
				continue
			}
			gone++
			if c.code != 0 && k.closed.Reason != c.reason {
				t.Errorf("%d with %d: reason %q, want %q", c.n, c.code, k.closed.Reason, c.reason)
			}
		}
		if now := gone == c.n; now != c.now || !now && gone > 0 {
			t.Errorf("%d of %d were ended with %d at once, want all: %t", gone, c.n, c.code, c.now)
		}
		b.check()
		b.empty()
	}
}

// TestTurns has all sorts of things happen to sessions that wait for their turn.
func TestTurns(t *testing.T) {
	const n = 64
	mass := &Control{Target: Target{User: "ann"}, Disconnect: &DisconnectAs{Code: 4100, Reason: "moved"}}
	for name, c := range map[string]struct {
		act  func(b *bench, c *conn)
		want uint16 // the code with which it ends; 0: it was gone before
	}{
		"nothing":        {func(*bench, *conn) {}, 4100},
		"cut":            {func(_ *bench, c *conn) { c.cut() }, 0},
		"a fault":        {func(_ *bench, c *conn) { c.message([]byte{0xff}) }, 3501},
		"the same again": {func(b *bench, _ *conn) { b.do(mass) }, 4100},
		"another reason": {func(b *bench, _ *conn) { b.do(&Control{Target: mass.Target, Disconnect: &DisconnectAs{Code: 4200}}) }, 4100},
		"for good":       {func(b *bench, _ *conn) { b.do(&Control{Target: mass.Target, Disconnect: &DisconnectAs{}}) }, 3503},
		"this one": {func(b *bench, c *conn) {
			b.do(&Control{Target: Target{Client: b.n.ID(c.id)}, Disconnect: &DisconnectAs{Code: 4300}})
		}, 4300},
		"expired":   {func(b *bench, _ *conn) { b.do(&Control{Target: mass.Target, Refresh: &RefreshAs{Expired: true}}) }, 3005},
		"a drain":   {func(b *bench, c *conn) { b.table.Shutdown(c.i, 10*time.Second) }, 3001},
		"prolonged": {func(b *bench, _ *conn) { b.do(&Control{Target: mass.Target, Refresh: &RefreshAs{}}) }, 4100},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{channels: open, slots: n, o: Options{ConnectRate: 1, Ping: 5 * time.Second, Pong: 2 * time.Second}})
			b.n.connects = bucket{}
			conns := crowd(b, n)
			b.n.setRates(b.now())
			b.do(mass)
			b.check()
			c.act(b, conns[n-1])
			b.run()
			b.check()
			// Longer than any of them waits: pings go on until then, and the clients that answer them are not called silent.
			b.advance(2 * n * time.Second)
			for k, x := range conns {
				code := uint16(0)
				if x.closed != nil {
					code = x.closed.Code
				}
				want := c.want
				if k != n-1 && (name == "cut" || name == "a fault" || name == "this one" || name == "a drain") {
					want = 4100
				}
				if code != want {
					t.Errorf("session %d is closed with %d, want %d", k, code, want)
				}
				if advice := advised(t, reasonOf(x)); (advice > 0) != (code == 4100 || code == 3001) {
					t.Errorf("session %d is closed with %+v", k, x.closed)
				}
			}
			b.check()
			// The next in its slot has nothing of it.
			next := b.connect(JSON, "ann")
			next.answers = true
			b.advance(time.Minute)
			next.expect(0)
			b.empty()
		})
	}
}

func reasonOf(c *conn) string {
	if c.closed == nil {
		return ""
	}
	return c.closed.Reason
}

// TestTurnWhileConnecting gives a turn to sessions whose connect is not answered yet, and may be refused.
func TestTurnWhileConnecting(t *testing.T) {
	for at := range 5 {
		b := newBench(t, setup{channels: open, waits: true, manual: true, slots: 32})
		var conns []*conn
		for range endAtOnce + 5 {
			c := b.accept(JSON)
			c.answers = true
			c.message([]byte(connectWith(map[string]any{"sub": "ann", "channels": []string{"x", "nowhere:y"}})))
			for range at {
				c.serial.step()
			}
			conns = append(conns, c)
		}
		b.table.Do(&Control{Target: Target{User: "ann"}, Disconnect: &DisconnectAs{Code: 4100}})
		b.check()
		b.runAll()
		b.check()
		for _, c := range conns {
			if c.expect(0, "1 error 102"); c.paused {
				t.Error("it is not read any more")
			}
		}
		b.empty()
	}
}

// TestShutdownPaces has a drain tell each client when to come back: no more in a second than may connect.
func TestShutdownPaces(t *testing.T) {
	const n, over = 600, 10 * time.Second
	for _, rate := range []float64{0, 30, 5000} {
		b := newBench(t, setup{channels: open, slots: n, o: Options{ConnectRate: rate}})
		b.n.connects = bucket{}
		conns := crowd(b, n)
		b.n.setRates(b.now())
		start := b.now()
		var returns []time.Duration
		for k, c := range conns {
			b.clock.Store(start.Add(over * time.Duration(k) / n).UnixNano())
			b.table.Shutdown(c.i, over)
			if c.closed == nil || c.closed.Code != 3001 || !strings.HasPrefix(c.closed.Reason, "shutdown, retry after ") {
				t.Fatalf("closed with %+v", c.closed)
			}
			returns = append(returns, b.now().Sub(start)+time.Duration(advised(t, c.closed.Reason))*time.Second)
		}
		b.run()
		per, most := 60.0, 21
		if rate == 30 {
			per, most = 30, 31
		}
		for s, k := range spread(returns) {
			if float64(k) > 1.6*per+8 || s > most {
				t.Errorf("rate %v: %d come back in second %d, want at most about %v, until second %d", rate, k, s, per, most)
			}
		}
		if len(spread(returns)) < 17 {
			t.Errorf("rate %v: they come back in %d seconds, want about 20", rate, len(spread(returns)))
		}
		b.empty()
	}
	b := newBench(t, setup{channels: open})
	c := b.connect(JSON, "ann")
	b.table.Shutdown(c.i, 0)
	if c.closed == nil || c.closed.Reason != "shutdown" {
		t.Errorf("without a time to drain in: closed with %+v", c.closed)
	}
	b.empty()
}
