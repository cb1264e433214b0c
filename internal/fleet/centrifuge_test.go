package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// pushing is a gateway whose channels have history, open to all.
func pushing(t *testing.T) (engine.Engine, fleet.Config) {
	t.Helper()
	e := memengine.New(nil)
	addr := gateway(t, longwire.Config{
		Engine:    e,
		Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection")},
		Sessions:  longwire.Sessions{Insecure: true, Ping: time.Second, Pong: 900 * time.Millisecond},
		Channels:  longwire.ChannelOptions{HistorySize: 100, HistoryTTL: time.Hour, ForceRecovery: true, RecoverMax: 300},
	})
	return e, fleet.Config{Target: addr, Dial: ws.Dial{Target: "/connection"}}
}

// script has client n subscribe to a channel of all, and to one of each fifth.
func script() fleet.Script {
	return fleet.Script{Channels: 2, Start: time.Now(), Channel: func(dst []byte, n, k int) []byte {
		if k == 0 {
			return append(dst, "all"...)
		}
		return strconv.AppendInt(append(dst, "fifth"...), int64(n%5), 10)
	}}
}

func publish(t *testing.T, e engine.Engine, channel string, times int) {
	t.Helper()
	for range times {
		p := &engine.Publication{Data: []byte(`{"t":1,"x":"y"}`)}
		if _, err := e.Publish(t.Context(), channel, p, engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
}

// heard waits for that sum, and holds the clients to it.
func heard(t *testing.T, ctx context.Context, f *fleet.Fleet, c *fleet.Centrifuge, want fleet.Heard) {
	t.Helper()
	until(t, ctx, f, "heard", func(fleet.Counts) bool {
		h := c.Heard()
		return h.Connected >= want.Connected && h.Subscribed >= want.Subscribed && h.Publications >= want.Publications && h.Pinged >= want.Pinged
	})
	got := c.Heard()
	if want.Pinged == 0 {
		got.Pinged = 0
	}
	if got.Connected != want.Connected || got.Subscribed != want.Subscribed || got.Publications != want.Publications ||
		got.Recovered != want.Recovered || got.Restored != want.Restored || got.Pinged != want.Pinged || !maps.Equal(got.Wrong, want.Wrong) {
		t.Fatalf("heard %+v, want %+v", got, want)
	}
}

// TestCentrifuge takes clients through connect, subscribe, publications, a ping, a cut and a recovery.
func TestCentrifuge(t *testing.T) {
	e, config := pushing(t)
	ctx := timeout(t)
	c := fleet.NewCentrifuge(script())
	config.Conns, config.Loops, config.Private, config.Speak = 100, 3, true, c.Speak
	f := newFleet(t, config)
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	heard(t, ctx, f, c, fleet.Heard{Connected: 100, Subscribed: 200})
	publish(t, e, "all", 3)
	publish(t, e, "fifth2", 1)
	heard(t, ctx, f, c, fleet.Heard{Connected: 100, Subscribed: 200, Publications: 320})
	heard(t, ctx, f, c, fleet.Heard{Connected: 100, Subscribed: 200, Publications: 320, Pinged: 100})
	h, err := f.Latency(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h.TotalCount() != 320 {
		t.Errorf("%d times recorded, want 320", h.TotalCount())
	}

	if err := f.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	if got := f.Counts(); got.Open != 0 || got.Closed != 100 || got.Losses() != 0 {
		t.Fatalf("after the cut: %+v", got)
	}
	heard(t, ctx, f, c, fleet.Heard{Publications: 320})
	publish(t, e, "all", 2)
	publish(t, e, "fifth0", 1)
	if err := f.Reopen(ctx); err != nil {
		t.Fatal(err)
	}
	want := fleet.Heard{Connected: 100, Subscribed: 200, Publications: 540, Restored: 220, Recovered: 200}
	heard(t, ctx, f, c, want)
	publish(t, e, "all", 1)
	want.Publications += 100
	heard(t, ctx, f, c, want)
	right := func(n, k int, at fleet.Position) bool {
		offset := uint64(6)
		if k == 1 {
			offset = 0
			if n%5 == 0 || n%5 == 2 {
				offset = 1
			}
		}
		return at == fleet.Position{Subscribed: true, Offset: offset, Heard: uint32(offset)}
	}
	if bad, err := c.Check(ctx, f, right); bad != 0 || err != nil {
		t.Errorf("%d subscriptions are not where they should be, %v", bad, err)
	}
	bad, err := c.Check(ctx, f, func(n, k int, at fleet.Position) bool { return n != 42 && right(n, k, at) })
	if bad != 2 || err != nil {
		t.Errorf("a check that says no to client 42 counts %d, %v", bad, err)
	}
	if err := f.CloseAll(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if h := c.Heard(); h.Connected != 0 || h.Subscribed != 0 {
		t.Errorf("after all closed: %+v", h)
	}
}

// TestCentrifugeLater has clients that subscribe when they are told to.
func TestCentrifugeLater(t *testing.T) {
	e, config := pushing(t)
	ctx := timeout(t)
	s := script()
	s.Later = true
	c := fleet.NewCentrifuge(s)
	config.Conns, config.Speak = 50, c.Speak
	f := newFleet(t, config)
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	heard(t, ctx, f, c, fleet.Heard{Connected: 50})
	publish(t, e, "all", 2) // before anybody listens
	if err := c.Subscribe(ctx, f); err != nil {
		t.Fatal(err)
	}
	heard(t, ctx, f, c, fleet.Heard{Connected: 50, Subscribed: 100})
	publish(t, e, "all", 1)
	heard(t, ctx, f, c, fleet.Heard{Connected: 50, Subscribed: 100, Publications: 50})
	bad, err := c.Check(ctx, f, func(_, k int, at fleet.Position) bool { return k == 1 || at.Offset == 3 && at.Heard == 1 })
	if bad != 0 || err != nil {
		t.Errorf("%d subscriptions are not where they should be, %v", bad, err)
	}
}

// TestCentrifugeJudges has a server that makes each mistake that clients must find.
func TestCentrifugeJudges(t *testing.T) {
	pub := func(ch string, offset int) string {
		return fmt.Sprintf(`{"push":{"channel":%q,"pub":{"data":{"x":1},"offset":%d}}}`, ch, offset)
	}
	const (
		connected  = `{"id":1,"connect":{"client":"x","ping":25}}`
		subscribed = `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","offset":4,"positioned":true}}`
	)
	hello := connected + "\n" + subscribed + "\n"
	for name, c := range map[string]struct {
		say          string
		wrong        map[string]int64
		publications int64
	}{
		"good":             {hello + pub("all", 5) + "\n" + pub("all", 6), map[string]int64{}, 2},
		"no offsets":       {hello + `{"push":{"channel":"all","pub":{"data":{}}}}`, map[string]int64{}, 1},
		"gap":              {hello + pub("all", 5) + "\n" + pub("all", 7), map[string]int64{"gap": 1}, 2},
		"double":           {hello + pub("all", 5) + "\n" + pub("all", 5), map[string]int64{"double": 1}, 2},
		"order":            {hello + pub("all", 6) + "\n" + pub("all", 5), map[string]int64{"gap": 1, "double": 1}, 2},
		"other channel":    {hello + pub("most", 5), map[string]int64{"publication of another channel": 1}, 0},
		"unsubscribed":     {hello + `{"push":{"channel":"all","unsubscribe":{"code":2500}}}`, map[string]int64{"push without a publication": 1}, 0},
		"error":            {connected + "\n" + `{"id":2,"error":{"code":103,"message":"permission denied"}}`, map[string]int64{"error: permission denied": 1}, 0},
		"unknown reply":    {`{"id":7,"rpc":{}}`, map[string]int64{"unknown reply": 1}, 0},
		"unknown message":  {`hello`, map[string]int64{"unknown message": 1}, 0},
		"not to this one":  {hello + `{"id":3,"subscribe":{}}`, map[string]int64{"unknown reply": 1}, 0},
		"end of a message": {hello + `{"push":{"channel":"all`, map[string]int64{"push without a publication": 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := timeout(t)
			addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{{Path: "/", OnMessage: func(conn longwire.Conn, _ longwire.Message) {
				if err := conn.Send(ws.OpText, []byte(c.say)); err != nil {
					t.Error(err)
				}
				if err := conn.Close(4001, "that was it"); err != nil {
					t.Error(err)
				}
			}}}})
			s := fleet.Script{Channels: 1, Start: time.Now(), Channel: func(dst []byte, _, _ int) []byte { return append(dst, "all"...) }}
			speech := fleet.NewCentrifuge(s)
			f := newFleet(t, fleet.Config{Target: addr, Conns: 1, Dial: ws.Dial{Target: "/"}, Speak: speech.Speak})
			if err := f.Open(ctx); err != nil {
				t.Fatal(err)
			}
			until(t, ctx, f, "the end", func(k fleet.Counts) bool { return k.Lost["close_4001"] == 1 && k.Open == 0 })
			if h := speech.Heard(); !maps.Equal(h.Wrong, c.wrong) || h.Publications != c.publications {
				t.Errorf("heard %+v, want %v and %d publications", h, c.wrong, c.publications)
			}
		})
	}
}

// TestCentrifugeNotRecovered has a server that forgets.
func TestCentrifugeNotRecovered(t *testing.T) {
	ctx := timeout(t)
	first := true
	addr := gateway(t, longwire.Config{Loops: 1, Endpoints: []longwire.Endpoint{{Path: "/", OnMessage: func(conn longwire.Conn, _ longwire.Message) {
		reply := `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"recoverable":true,"epoch":"B","offset":9,"was_recovering":true}}`
		if first {
			reply = `{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"recoverable":true,"epoch":"A","offset":4}}`
		}
		first = false // on the one loop
		if err := conn.Send(ws.OpText, []byte(reply)); err != nil {
			t.Error(err)
		}
	}}}})
	c := fleet.NewCentrifuge(fleet.Script{Channels: 1, Start: time.Now(), Channel: func(dst []byte, _, _ int) []byte { return append(dst, "all"...) }})
	f := newFleet(t, fleet.Config{Target: addr, Conns: 1, Dial: ws.Dial{Target: "/"}, Speak: c.Speak})
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	heard(t, ctx, f, c, fleet.Heard{Connected: 1, Subscribed: 1})
	if err := f.Cut(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(ctx); err != nil {
		t.Fatal(err)
	}
	heard(t, ctx, f, c, fleet.Heard{Connected: 1, Subscribed: 1, Wrong: map[string]int64{"not recovered": 1}})
	bad, err := c.Check(ctx, f, func(_, _ int, at fleet.Position) bool { return at.Offset == 9 })
	if bad != 0 || err != nil {
		t.Errorf("it does not go on where the server said, %v", err)
	}
}

func TestSpeakWithoutChurn(t *testing.T) {
	c := fleet.NewCentrifuge(script())
	addr := gateway(t, longwire.Config{})
	if _, err := fleet.New(fleet.Config{Target: addr, Conns: 1, Churn: 2, Speak: c.Speak}); err == nil {
		t.Error("clients that speak and churn were made")
	}
}
