package longwire_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/session"
)

// A publication reaches all who are subscribed, and is kept as the options of the channel's namespace say.
func ExampleGateway_Publish() {
	g, err := longwire.New(longwire.Config{
		Addr:     "localhost:0",
		Channels: longwire.ChannelOptions{SubscribeForClient: true, SubscribeForAnonymous: true, HistorySize: 10, HistoryTTL: time.Minute},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/ws")
	defer c.quit()
	c.ask(`{"type":"subscribe","channel":"news"}`)
	p, err := g.Publish(context.Background(), "news", []byte(`{"text":"it rains"}`), longwire.PublishOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println("offset", p.Offset)
	_, text, _ := c.next()
	fmt.Println(strings.Contains(text, `"data":{"text":"it rains"}`))
	// Output:
	// offset 1
	// true
}

// application is a gateway with sessions, and what a test asks of it.
func application(t *testing.T, c longwire.Config) *longwire.Gateway {
	t.Helper()
	c.Addr, c.MaxConns, c.Loops = "127.0.0.1:0", 64, 2
	c.Sessions.Insecure = true
	g, err := longwire.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

var everything = longwire.ChannelOptions{Presence: true, JoinLeave: true, HistorySize: 3, HistoryTTL: time.Minute}

// subscriber is a client with the plain protocol in a channel.
func subscriber(t *testing.T, g *longwire.Gateway, channel string) *client {
	t.Helper()
	c := dial(g.Addr().String(), "/ws")
	t.Cleanup(c.quit)
	if got := c.ask(`{"type":"subscribe","channel":"` + channel + `"}`); !strings.Contains(got, `"subscribed"`) {
		t.Fatalf("subscribe to %s: %s", channel, got)
	}
	return c
}

// code is that of the protocol's error in err, or 0.
func code(err error) uint32 {
	var e *longwire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestPublish(t *testing.T) {
	g := application(t, longwire.Config{Channels: everything, Namespaces: []longwire.ChannelOptions{{Name: "bare"}}})
	ctx := t.Context()
	c := subscriber(t, g, "a")
	data, tags := []byte(`{"n":1}`), map[string]string{"k": "v"}
	first, err := g.Publish(ctx, "a", data, longwire.PublishOptions{Tags: tags, IdempotencyKey: "once"})
	if err != nil || first.Offset != 1 || first.Epoch == "" || first.Repeated {
		t.Fatalf("Publish = %+v, %v", first, err)
	}
	// What the caller does with its bytes afterwards is its own affair.
	clear(data)
	clear(tags)
	if _, text, _ := c.next(); !strings.Contains(text, `"data":{"n":1}`) {
		t.Errorf("the subscriber got %s", text)
	}
	again, err := g.Publish(ctx, "a", []byte(`{"n":1}`), longwire.PublishOptions{IdempotencyKey: "once"})
	if err != nil || !again.Repeated || again.Position != first.Position {
		t.Errorf("with the same key: %+v, %v; want %+v, repeated", again, err, first.Position)
	}
	if p, err := g.Publish(ctx, "a", []byte(`2`), longwire.PublishOptions{SkipHistory: true}); err != nil || p.Position != (engine.Position{}) {
		t.Errorf("without history: %+v, %v", p, err)
	}
	if p, err := g.Publish(ctx, "bare:x", []byte{0xff}, longwire.PublishOptions{}); err != nil || p.Position != (engine.Position{}) {
		t.Errorf("in a namespace that keeps nothing: %+v, %v", p, err)
	}
	pubs, top, err := g.History(ctx, "a", engine.HistoryFilter{Limit: -1})
	if err != nil || top != first.Position || len(pubs) != 1 || string(pubs[0].Data) != `{"n":1}` || pubs[0].Tags["k"] != "v" || pubs[0].Info != nil {
		t.Errorf("History = %+v, %+v, %v", pubs, top, err)
	}
	results := g.PublishAll(ctx, []string{"b", "nowhere:b", "c", ""}, []byte(`3`), longwire.PublishOptions{})
	if len(results) != 4 || results[0].Err != nil || results[0].Offset != 1 || results[2].Err != nil || results[2].Offset != 1 ||
		code(results[1].Err) != 102 || code(results[3].Err) != 107 {
		t.Errorf("PublishAll = %+v", results)
	}
	if err := g.RemoveHistory(ctx, "a"); err != nil {
		t.Error(err)
	}
	if pubs, top, err := g.History(ctx, "a", engine.HistoryFilter{Limit: -1}); err != nil || len(pubs) != 0 || top != first.Position {
		t.Errorf("History after RemoveHistory = %v, %+v, %v", pubs, top, err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := g.Publish(over, "a", []byte(`4`), longwire.PublishOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish when the context is over: %v", err)
	}
}

// remote is an engine whose methods may wait.
type remote struct {
	engine.Engine // without the method of engine.Immediate
	busy          bool
}

func (r *remote) Publish(ctx context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	if r.busy {
		return engine.Published{}, session.ErrBusy
	}
	return r.Engine.Publish(ctx, channel, p, o)
}

// TestPublishAll publishes in more channels than an engine that waits is asked about at a time.
func TestPublishAll(t *testing.T) {
	e := &remote{Engine: memengine.New(nil)}
	g := application(t, longwire.Config{Channels: everything, Engine: e})
	channels := make([]string, 200)
	for i := range channels {
		channels[i] = fmt.Sprint("c", i)
		for range i % 3 {
			if _, err := g.Publish(t.Context(), channels[i], []byte(`0`), longwire.PublishOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, r := range g.PublishAll(t.Context(), channels, []byte(`1`), longwire.PublishOptions{}) {
		if r.Err != nil || r.Offset != uint64(i%3+1) {
			t.Errorf("result %d = %+v, want the offset %d", i, r, i%3+1)
		}
	}
	if got := g.PublishAll(t.Context(), nil, []byte(`1`), longwire.PublishOptions{}); len(got) != 0 {
		t.Errorf("PublishAll in no channel = %v", got)
	}
	e.busy = true
	if _, err := g.Publish(t.Context(), "c", []byte(`1`), longwire.PublishOptions{}); !errors.Is(err, longwire.ErrBusy) || code(err) != 111 {
		t.Errorf("Publish when there is too much to deliver: %v, want ErrBusy with code 111", err)
	}
}

// TestApplicationMistakes has each method refuse what makes no sense, with the protocol's code.
func TestApplicationMistakes(t *testing.T) {
	g := application(t, longwire.Config{Channels: everything, Namespaces: []longwire.ChannelOptions{{Name: "bare"}}})
	ctx := t.Context()
	user := longwire.Target{User: "u"}
	publish := func(name, data string) error {
		_, err := g.Publish(ctx, name, []byte(data), longwire.PublishOptions{})
		return err
	}
	presence := func(name string) error { _, err := g.Presence(ctx, name); return err }
	stats := func(name string) error { _, err := g.PresenceStats(ctx, name); return err }
	history := func(name string, since *engine.Position) error {
		_, _, err := g.History(ctx, name, engine.HistoryFilter{Since: since})
		return err
	}
	subscribe := func(to longwire.Target, name string, as longwire.SubscribeAs) error {
		return g.Subscribe(ctx, to, name, as)
	}
	for what, c := range map[string]struct {
		err  error
		want uint32
	}{
		"publish nowhere":                  {publish("", "1"), 107},
		"publish in a name too long":       {publish(strings.Repeat("x", 256), "1"), 107},
		"publish in a name with a NUL":     {publish("a\x00", "1"), 107},
		"publish in an unknown namespace":  {publish("nowhere:a", "1"), 102},
		"publish nothing":                  {publish("a", ""), 107},
		"presence of nothing":              {presence(""), 107},
		"presence where it is not kept":    {presence("bare:a"), 108},
		"stats of an unknown namespace":    {stats("nowhere:a"), 102},
		"stats where it is not kept":       {stats("bare:a"), 108},
		"history of an unknown namespace":  {history("nowhere:a", nil), 102},
		"history where it is not kept":     {history("bare:a", nil), 108},
		"history since another epoch":      {history("a", &engine.Position{Offset: 1, Epoch: "none"}), 112},
		"remove history that is not kept":  {g.RemoveHistory(ctx, "bare:a"), 108},
		"subscribe nobody":                 {subscribe(longwire.Target{}, "a", longwire.SubscribeAs{}), 107},
		"subscribe to an unknown one":      {subscribe(user, "nowhere:a", longwire.SubscribeAs{}), 102},
		"subscribe with info that is none": {subscribe(user, "a", longwire.SubscribeAs{Options: longwire.SubscribeOptions{Info: []byte("{")}}), 107},
		"subscribe with data not in UTF-8": {subscribe(user, "a", longwire.SubscribeAs{Options: longwire.SubscribeOptions{Data: []byte("\"\xff\"")}}), 107},
		"unsubscribe nobody":               {g.Unsubscribe(ctx, longwire.Target{}, "a"), 107},
		"unsubscribe from nothing":         {g.Unsubscribe(ctx, user, ""), 107},
		"disconnect nobody":                {g.Disconnect(ctx, longwire.Target{}, longwire.DisconnectAs{}), 107},
		"disconnect with another's code":   {g.Disconnect(ctx, user, longwire.DisconnectAs{Code: 1001}), 107},
		"disconnect with a code too high":  {g.Disconnect(ctx, user, longwire.DisconnectAs{Code: 5000}), 107},
		"disconnect with a long reason":    {g.Disconnect(ctx, user, longwire.DisconnectAs{Code: 4000, Reason: strings.Repeat("x", 124)}), 107},
		"refresh nobody":                   {g.Refresh(ctx, longwire.Target{}, longwire.RefreshAs{}), 107},
		"refresh with empty info":          {g.Refresh(ctx, user, longwire.RefreshAs{Info: []byte{}}), 107},
	} {
		if got := code(c.err); got != c.want {
			t.Errorf("%s: %v, want an error with code %d", what, c.err, c.want)
		} else if !strings.HasPrefix(c.err.Error(), "longwire: ") {
			t.Errorf("%s: %v does not say whose it is", what, c.err)
		}
	}
	// Nobody of that name is no mistake: who is there changes all the time.
	if err := errors.Join(g.Subscribe(ctx, user, "a", longwire.SubscribeAs{}), g.Disconnect(ctx, user, longwire.DisconnectAs{}),
		g.Unsubscribe(ctx, longwire.Target{Client: "no id"}, "a"), g.Refresh(ctx, user, longwire.RefreshAs{Expired: true})); err != nil {
		t.Error(err)
	}
}

func TestChannelsAndInfo(t *testing.T) {
	g := application(t, longwire.Config{Channels: everything})
	ctx := t.Context()
	for _, name := range []string{"a", "a", "ab", "b/c"} {
		subscriber(t, g, name)
	}
	for pattern, want := range map[string]map[string]int{
		"":     {"a": 2, "ab": 1, "b/c": 1},
		"*":    {"a": 2, "ab": 1, "b/c": 1},
		"a":    {"a": 2},
		"a*":   {"a": 2, "ab": 1},
		"*c":   {"b/c": 1},
		"b*c":  {"b/c": 1},
		"*b*":  {"ab": 1, "b/c": 1},
		"*a*b": {"ab": 1},
		"a*a":  {},
		"*b*b": {},
		"**":   {"a": 2, "ab": 1, "b/c": 1},
		"none": {},
	} {
		if got, err := g.Channels(ctx, pattern); err != nil || !maps.Equal(got, want) {
			t.Errorf("Channels(%q) = %v, %v; want %v", pattern, got, err, want)
		}
	}
	nodes, err := g.Info(ctx)
	if err != nil || len(nodes) != 1 {
		t.Fatalf("Info = %v, %v", nodes, err)
	}
	if n := nodes[0]; n.UID == "" || n.Version != "longwire" || n.Clients != 4 || n.Users != 0 || n.Subs != 4 || n.Channels != 3 || n.Uptime < 0 {
		t.Errorf("Info = %+v", n)
	}
}

// TestApplicationToSession subscribes and disconnects a session that is known by its id.
func TestApplicationToSession(t *testing.T) {
	g := application(t, longwire.Config{Channels: everything})
	ctx := t.Context()
	c := subscriber(t, g, "a")
	present, err := g.Presence(ctx, "a")
	if err != nil || len(present) != 1 {
		t.Fatalf("Presence = %v, %v", present, err)
	}
	to := longwire.Target{Client: slices.Collect(maps.Keys(present))[0]}
	if s, err := g.PresenceStats(ctx, "a"); err != nil || s != (engine.PresenceStats{Clients: 1, Users: 1}) {
		t.Errorf("PresenceStats = %+v, %v", s, err)
	}
	if err := g.Subscribe(ctx, to, "b", longwire.SubscribeAs{}); err != nil {
		t.Fatal(err)
	}
	if _, text, _ := c.next(); !strings.Contains(text, `"subscribed"`) || !strings.Contains(text, `"channel":"b"`) {
		t.Errorf("after Subscribe: %s", text)
	}
	if err := g.Unsubscribe(ctx, to, "a"); err != nil {
		t.Fatal(err)
	}
	if _, text, _ := c.next(); !strings.Contains(text, `"unsubscribed"`) || !strings.Contains(text, `"channel":"a"`) {
		t.Errorf("after Unsubscribe: %s", text)
	}
	if err := g.Disconnect(ctx, to, longwire.DisconnectAs{Code: 4242, Reason: "enough", Whitelist: []string{to.Client}}); err != nil {
		t.Fatal(err)
	}
	if err := g.Disconnect(ctx, to, longwire.DisconnectAs{Code: 4243, Reason: "enough"}); err != nil {
		t.Fatal(err)
	}
	if _, _, code := c.next(); code != 4243 {
		t.Errorf("close code %d, want 4243", code)
	}
}

// calls are all methods, each once.
func calls(ctx context.Context, g *longwire.Gateway) map[string]error {
	_, publish := g.Publish(ctx, "a", []byte(`1`), longwire.PublishOptions{})
	_, presence := g.Presence(ctx, "a")
	_, stats := g.PresenceStats(ctx, "a")
	_, _, history := g.History(ctx, "a", engine.HistoryFilter{})
	_, channels := g.Channels(ctx, "")
	_, info := g.Info(ctx)
	to := longwire.Target{User: "u"}
	return map[string]error{
		"Publish": publish, "PublishAll": g.PublishAll(ctx, []string{"a"}, []byte(`1`), longwire.PublishOptions{})[0].Err,
		"Presence": presence, "PresenceStats": stats, "History": history, "RemoveHistory": g.RemoveHistory(ctx, "a"),
		"Channels": channels, "Info": info, "Subscribe": g.Subscribe(ctx, to, "a", longwire.SubscribeAs{}),
		"Unsubscribe": g.Unsubscribe(ctx, to, "a"), "Disconnect": g.Disconnect(ctx, to, longwire.DisconnectAs{}),
		"Refresh": g.Refresh(ctx, to, longwire.RefreshAs{}),
	}
}

// TestApplicationLife calls every method at every stage of a gateway's life, and of a gateway without sessions.
func TestApplicationLife(t *testing.T) {
	ctx := t.Context()
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Channels: everything})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(ctx, g) {
		if !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%s before Start: %v", name, err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(ctx, g) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.Drain(ctx, -1); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(ctx, g) {
		if err != nil {
			t.Errorf("%s after Drain: %v", name, err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(ctx, g) {
		if !errors.Is(err, longwire.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	bare, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Endpoints: []longwire.Endpoint{longwire.Echo("/echo")}})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	for name, err := range calls(ctx, bare) {
		if code(err) != 108 || !strings.Contains(err.Error(), "no endpoint of this gateway has sessions") {
			t.Errorf("%s without sessions: %v", name, err)
		}
	}
}

// TestApplicationRaces closes a gateway while others ask it things.
func TestApplicationRaces(t *testing.T) {
	g := application(t, longwire.Config{Channels: everything})
	subscriber(t, g, "a")
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() {
			for {
				for name, err := range calls(t.Context(), g) {
					switch {
					case err == nil:
					case errors.Is(err, longwire.ErrClosed):
						ended <- nil
						return
					default:
						ended <- fmt.Errorf("%s: %w", name, err)
						return
					}
				}
			}
		}()
	}
	if _, err := g.Publish(t.Context(), "a", []byte(`1`), longwire.PublishOptions{}); err != nil {
		t.Error(err)
	}
	_ = g.Close()
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
