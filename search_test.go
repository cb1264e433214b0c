package longwire_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/ws"
)

// searched is a gateway with all kinds of endpoints and loops of both kinds of tables.
func searched(t *testing.T, c longwire.Config) *longwire.Gateway {
	t.Helper()
	c.Addr, c.MaxMemory = "127.0.0.1:0", -1
	c.Tokens, c.Sessions.Stale = longwire.TokenOptions{HMACSecret: []byte("s")}, time.Hour
	c.Channels = longwire.ChannelOptions{SubscribeForClient: true, SubscribeForAnonymous: true, PublishForClient: true, PublishForAnonymous: true}
	if c.Endpoints == nil {
		c.Endpoints = []longwire.Endpoint{longwire.Centrifuge("/connection/websocket"), longwire.Plain("/ws"), longwire.Echo("/echo")}
	}
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

// all is what a search finds, page by page.
func all(t *testing.T, g *longwire.Gateway, q longwire.Search) (conns []longwire.OpenConn, scanned int) {
	t.Helper()
	for range 10_000 {
		f, err := g.Search(t.Context(), q)
		if err != nil {
			t.Fatalf("search %+v: %v", q, err)
		}
		conns, scanned = append(conns, f.Conns...), scanned+f.Scanned
		if q.Cursor = f.Cursor; q.Cursor == "" {
			return conns, scanned
		}
	}
	t.Fatalf("search %+v: it has no end", q)
	return nil, 0
}

// local is the client's address as the gateway sees it.
func local(c *client) string { return c.conn.LocalAddr().String() }

func TestSearch(t *testing.T) {
	for name, tables := range map[string]longwire.Tables{"shared": longwire.TablesShared, "private": longwire.TablesPrivate} {
		t.Run(name, func(t *testing.T) { testSearch(t, tables) })
	}
}

func testSearch(t *testing.T, tables longwire.Tables) {
	g := searched(t, longwire.Config{MaxConns: 1000, Loops: 3, Tables: tables})
	addr := g.Addr().String()
	var anns []*client
	for range 5 {
		anns = append(anns, user(t, g, "ann", ""))
	}
	bob := user(t, g, "bob", "?cf_ws_frame_ping_pong=true")
	binary := dial(addr, "/connection/websocket?format=protobuf") // it never connects
	t.Cleanup(binary.quit)
	reader := dial(addr, "/ws?subscribe=news&subscribe=sport")
	t.Cleanup(reader.quit)
	reader.next()
	reader.next()
	if got := anns[0].outcome(t, subscribeCommand("news", "")); got != "" {
		t.Fatalf("subscribe: %s", got)
	}
	bare := dial(addr, "/echo")
	t.Cleanup(bare.quit)
	bare.ask("hello")
	quiet := dial(addr, "/ws")
	t.Cleanup(quiet.quit)
	quiet.ask(`{"type":"ping","ts":1}`)

	addresses := func(cs ...*client) []string {
		var list []string
		for _, c := range cs {
			list = append(list, local(c))
		}
		slices.Sort(list)
		return list
	}
	everybody := append(slices.Clone(anns), bob, reader, bare, quiet, binary)
	_, port, _ := net.SplitHostPort(local(bob))
	for _, c := range []struct {
		name string
		q    longwire.Search
		want []string
	}{
		{"all", longwire.Search{}, addresses(everybody...)},
		{"all in pages of 2", longwire.Search{Limit: 2}, addresses(everybody...)},
		{"a user", longwire.Search{User: "ann"}, addresses(anns...)},
		{"a user in pages of 1", longwire.Search{User: "ann", Limit: 1}, addresses(anns...)},
		{"nobody", longwire.Search{User: "an"}, nil},
		{"a channel", longwire.Search{Channel: "news"}, addresses(anns[0], reader)},
		{"another channel", longwire.Search{Channel: "sport"}, addresses(reader)},
		{"no channel", longwire.Search{Channel: "new"}, nil},
		{"a channel and a user", longwire.Search{Channel: "news", User: "ann"}, addresses(anns[0])},
		{"a channel and another user", longwire.Search{Channel: "sport", User: "ann"}, nil},
		{"an endpoint", longwire.Search{Endpoint: "/ws"}, addresses(reader, quiet)},
		{"an endpoint and a channel", longwire.Search{Endpoint: "/ws", Channel: "news"}, addresses(reader)},
		{"an address", longwire.Search{Address: "127.0.0.1"}, addresses(everybody...)},
		{"another address", longwire.Search{Address: "127.0.0.2"}, nil},
		{"an address with its port", longwire.Search{Address: "127.0.0.1:" + port}, addresses(bob)},
		{"a network", longwire.Search{Address: "127.0.0.0/8"}, addresses(everybody...)},
		{"another network", longwire.Search{Address: "128.0.0.0/8"}, nil},
		{"the beginning of an address", longwire.Search{Address: "127."}, addresses(everybody...)},
		{"the beginning of another", longwire.Search{Address: "127.0.1."}, nil},
		{"an IPv6 address", longwire.Search{Address: "[::1]"}, nil},
		{"slow ones", longwire.Search{Slow: true}, nil},
	} {
		found, scanned := all(t, g, c.q)
		var got []string
		for _, x := range found {
			got = append(got, x.Address)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, want %v", c.name, got, c.want)
		}
		if scanned < len(got) || scanned > 3*len(everybody) {
			t.Errorf("%s: %d were looked at", c.name, scanned)
		}
	}

	// What is told of each.
	by := make(map[string]longwire.OpenConn)
	found, err := g.Search(t.Context(), longwire.Search{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range found.Conns {
		by[x.Address] = x
	}
	if found.Total != len(everybody) {
		t.Errorf("total %d, want %d", found.Total, len(everybody))
	}
	for _, c := range []struct {
		c    *client
		want longwire.OpenConn
	}{
		{anns[0], longwire.OpenConn{Session: true, User: "ann", Endpoint: "/connection/websocket", Protocol: "centrifuge-json", Subscriptions: 1}},
		{anns[1], longwire.OpenConn{Session: true, User: "ann", Endpoint: "/connection/websocket", Protocol: "centrifuge-json"}},
		{bob, longwire.OpenConn{Session: true, User: "bob", Endpoint: "/connection/websocket", Protocol: "centrifuge-json"}},
		{binary, longwire.OpenConn{Endpoint: "/connection/websocket", Protocol: "centrifuge-protobuf"}},
		{reader, longwire.OpenConn{Session: true, Endpoint: "/ws", Protocol: "plain", Subscriptions: 2}},
		{quiet, longwire.OpenConn{Endpoint: "/ws", Protocol: "plain"}},
		{bare, longwire.OpenConn{Endpoint: "/echo", Protocol: "websocket"}},
	} {
		got := by[local(c.c)]
		if got.Client == "" || got.Age < 0 || got.Silent < 0 || got.Silent > got.Age {
			t.Errorf("%+v: want a client, an age, and no longer silence than that", got)
		}
		// By its id it is found alone, and as that the record knows it.
		alone, err := g.Search(t.Context(), longwire.Search{Client: got.Client})
		if err != nil || len(alone.Conns) != 1 || alone.Conns[0].Address != local(c.c) || alone.Scanned != 1 || alone.Cursor != "" {
			t.Errorf("by its id: %+v, %v", alone, err)
		}
		spans, err := g.Why(longwire.Question{Client: got.Client})
		if err != nil || len(spans) != 1 || spans[0].Client != got.Client || !spans[0].Open {
			t.Errorf("why %s: %+v, %v", got.Client, spans, err)
		}
		if _, ok := g.Find(got.Client); !ok {
			t.Errorf("%s is no client", got.Client)
		}
		c.want.Client, c.want.Address, c.want.Age, c.want.Silent = got.Client, local(c.c), got.Age, got.Silent
		if got != c.want {
			t.Errorf("found %+v, want %+v", got, c.want)
		}
	}

	// An id together with something that does not hold, one of nobody, and one whose connection is over.
	id := by[local(bob)].Client
	for _, q := range []longwire.Search{{Client: id, User: "ann"}, {Client: id, Channel: "news"}, {Client: id, Endpoint: "/ws"}, {Client: id, Slow: true}, {Client: "zzzzzzzzzzz"}} {
		if f, err := g.Search(t.Context(), q); err != nil || len(f.Conns) != 0 {
			t.Errorf("search %+v: %+v, %v; want nobody", q, f, err)
		}
	}
	bob.close(1000)
	waittest.Until(t, "bob to be gone", func() bool {
		f, err := g.Search(t.Context(), longwire.Search{Client: id})
		return err == nil && len(f.Conns) == 0
	})

	// A connection without a session is ended through its handle.
	c, ok := g.Find(by[local(quiet)].Client)
	if !ok || c.Close(4000, "by hand") != nil {
		t.Error("quiet cannot be closed")
	}
	if op, reason, code := quiet.next(); op != ws.OpClose || code != 4000 || reason != "by hand" {
		t.Errorf("got %v %q %d, want a close frame", op, reason, code)
	}
}

func TestSearchQuestions(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 64, Loops: 1})
	for _, q := range []longwire.Search{
		{Client: "no such"}, {Client: "-"}, {Limit: -1}, {Limit: 201}, {Endpoint: "/nowhere"}, {Cursor: "x"}, {Cursor: "AAAAAAAAAAAAAAAA"},
		{Address: "host"}, {Address: "1.2.3.4.5"}, {Address: "1.2.3.4."}, {Address: "256."}, {Address: "."}, {Address: "10.0.0.0/40"}, {Address: "2001:db8::/80"}, {Address: "::ffff:10.0.0.0/104"},
	} {
		if f, err := g.Search(t.Context(), q); !errors.Is(err, longwire.ErrBadQuestion) {
			t.Errorf("search %+v: %+v, %v; want ErrBadQuestion", q, f, err)
		}
	}
	for _, q := range []longwire.ChannelQuery{{Limit: -1}, {Limit: 201}, {Cursor: "x"}} {
		if p, err := g.ChannelPage(t.Context(), q); !errors.Is(err, longwire.ErrBadQuestion) {
			t.Errorf("channels %+v: %+v, %v; want ErrBadQuestion", q, p, err)
		}
	}
	for _, cursor := range []string{"AAAAAAAAAAA", "AAAAAP____8", "_____wAAAAA", "__________8"} { // within, behind the slots, behind the loops
		if f, err := g.Search(t.Context(), longwire.Search{Cursor: cursor}); err != nil || len(f.Conns) != 0 || f.Cursor != "" {
			t.Errorf("search from %s: %+v, %v", cursor, f, err)
		}
		if p, err := g.ChannelPage(t.Context(), longwire.ChannelQuery{Cursor: cursor}); err != nil || len(p.Channels) != 0 || p.Cursor != "" {
			t.Errorf("channels from %s: %+v, %v", cursor, p, err)
		}
	}
	if _, ok := g.Find("no such"); ok {
		t.Error("a client of that id")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Search(ctx, longwire.Search{}); !errors.Is(err, context.Canceled) {
		t.Errorf("search that nobody waits for: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Search(t.Context(), longwire.Search{}); !errors.Is(err, longwire.ErrClosed) {
		t.Errorf("search after Close: %v", err)
	}
	if _, err := g.ChannelPage(t.Context(), longwire.ChannelQuery{}); !errors.Is(err, longwire.ErrClosed) {
		t.Errorf("channels after Close: %v", err)
	}
}

// Where addresses are masked nobody is found by more than is shown.
func TestSearchMasked(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 64, Loops: 1, MaskAddresses: true})
	c := dial(g.Addr().String(), "/ws")
	t.Cleanup(c.quit)
	_, port, _ := net.SplitHostPort(local(c))
	for address, want := range map[string]int{"127.0.0.1": 1, "127.0.0.77": 1, "127.0.0.77:" + port: 1, "127.0.0.128/25": 1, "127.": 1, "127.0.1.1": 0} {
		found, _ := all(t, g, longwire.Search{Address: address})
		if len(found) != want {
			t.Errorf("%s: %d found, want %d", address, len(found), want)
		}
		for _, x := range found {
			if x.Address != "127.0.0.0" {
				t.Errorf("%s: its address is told as %s", address, x.Address)
			}
		}
	}
}

// One user and one channel with more connections on a loop than an index is asked for in one turn.
func TestSearchMany(t *testing.T) {
	const n = 1300
	g := searched(t, longwire.Config{MaxConns: 4000, Loops: 1})
	for k := range n {
		c := user(t, g, []string{"ann", "bob"}[k%20/19], "")
		if k%2 == 0 {
			c.outcome(t, subscribeCommand("even", ""))
		}
		c.outcome(t, subscribeCommand("all", ""))
		c.outcome(t, subscribeCommand("n"+strconv.Itoa(k), ""))
	}
	for _, c := range []struct {
		q    longwire.Search
		want int
	}{
		{longwire.Search{Limit: 200}, n}, {longwire.Search{User: "ann", Limit: 200}, n - n/20}, {longwire.Search{User: "bob", Limit: 7}, n / 20},
		{longwire.Search{Channel: "all", Limit: 100}, n}, {longwire.Search{Channel: "even", Limit: 100}, n / 2}, {longwire.Search{Channel: "n1234"}, 1},
		{longwire.Search{Channel: "all", User: "bob"}, n / 20}, {longwire.Search{Channel: "even", User: "ann", Limit: 200}, n / 2},
	} {
		found, _ := all(t, g, c.q)
		ids := make(map[string]bool)
		for _, x := range found {
			ids[x.Client] = true
		}
		if len(found) != c.want || len(ids) != c.want {
			t.Errorf("search %+v: %d found, %d of them different, want %d", c.q, len(found), len(ids), c.want)
		}
	}
	names := make(map[string]int)
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		p, err := g.ChannelPage(t.Context(), longwire.ChannelQuery{Limit: 200, Cursor: cursor})
		if err != nil || p.Total != n+2 || pages > n {
			t.Fatalf("channels: total %d, want %d; page %d, %v", p.Total, n+2, pages, err)
		}
		for _, c := range p.Channels {
			if names[c.Name] != 0 {
				t.Errorf("%s is there twice", c.Name)
			}
			names[c.Name] = c.Subscribers
		}
		cursor = p.Cursor
	}
	if len(names) != n+2 || names["all"] != n || names["even"] != n/2 || names["n77"] != 1 {
		t.Errorf("%d channels, of all %d, even %d, n77 %d", len(names), names["all"], names["even"], names["n77"])
	}
}

// TestSearchWide looks for few on many loops, several of which are asked at once: none is missed or told twice, whatever the size of a page.
func TestSearchWide(t *testing.T) {
	const n, users = 300, 50
	g := searched(t, longwire.Config{MaxConns: 2000, Loops: 24})
	for k := range n {
		user(t, g, strconv.Itoa(k%users), "")
	}
	type search struct {
		q       longwire.Search
		want    int
		scanned int // at least
	}
	searches := []search{{longwire.Search{Limit: 200}, n, n}, {longwire.Search{Address: "203.0.113.9"}, 0, n}, {longwire.Search{User: "nobody"}, 0, 0}}
	for k := range users {
		for limit := range 4 {
			searches = append(searches, search{longwire.Search{User: strconv.Itoa(k), Limit: limit}, n / users, n / users})
		}
	}
	for _, c := range searches {
		found, scanned := all(t, g, c.q)
		ids := make(map[string]bool)
		for _, x := range found {
			ids[x.Client] = true
		}
		if len(found) != c.want || len(ids) != c.want || scanned < c.scanned {
			t.Errorf("search %+v: %d found, %d of them different, want %d; %d looked at, want at least %d", c.q, len(found), len(ids), c.want, scanned, c.scanned)
		}
	}
}

// A channel with subscribers on several loops is told once.
func TestChannelPage(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 1000, Loops: 4})
	want := make(map[string]int)
	for k := range 64 {
		own := "own" + strconv.Itoa(k)
		c := dial(g.Addr().String(), "/ws?subscribe=all&subscribe="+own)
		t.Cleanup(c.quit)
		c.next()
		c.next()
		want["all"]++
		want[own]++
	}
	for pattern, n := range map[string]int{"": 65, "*": 65, "all": 1, "own1*": 11, "*9": 6, "none": 0} {
		got := make(map[string]int)
		for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
			p, err := g.ChannelPage(t.Context(), longwire.ChannelQuery{Pattern: pattern, Limit: 10, Cursor: cursor})
			if err != nil || pages > 100 || p.Total != 65 {
				t.Fatalf("%q: page %d, total %d, %v", pattern, pages, p.Total, err)
			}
			for _, c := range p.Channels {
				got[c.Name] += c.Subscribers
			}
			cursor = p.Cursor
		}
		match := maps.Clone(want)
		maps.DeleteFunc(match, func(name string, _ int) bool { return got[name] == 0 })
		if len(got) != n || !maps.Equal(got, match) {
			t.Errorf("%q: %v, want %d of %v", pattern, got, n, want)
		}
	}
	bare := searched(t, longwire.Config{MaxConns: 64, Loops: 1, Endpoints: []longwire.Endpoint{longwire.Echo("/echo")}})
	if p, err := bare.ChannelPage(t.Context(), longwire.ChannelQuery{}); err != nil || len(p.Channels) != 0 || p.Total != 0 {
		t.Errorf("channels of a gateway without sessions: %+v, %v", p, err)
	}
	if f, err := bare.Search(t.Context(), longwire.Search{User: "ann"}); err != nil || len(f.Conns) != 0 {
		t.Errorf("a user of a gateway without sessions: %+v, %v", f, err)
	}
}

// Searches while clients come and go find those who stay, each once, and hold nobody up.
func TestSearchChurn(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 2000, Loops: 2})
	addr := g.Addr().String()
	stay := make(map[string]bool)
	for k := range 300 {
		c := dial(addr, "/ws?subscribe=stay&subscribe=all")
		t.Cleanup(c.quit)
		c.next()
		c.next()
		if k%3 == 0 {
			stay[local(c)] = true
			continue
		}
		c.quit() // it leaves a slot for those who come
	}
	var wg sync.WaitGroup
	var over atomic.Bool
	for range 4 {
		wg.Go(func() {
			for !over.Load() {
				c := dial(addr, "/ws?subscribe=all&subscribe=go")
				c.next()
				c.quit()
			}
		})
	}
	defer wg.Wait()
	defer over.Store(true)
	for round := range 20 {
		for _, q := range []longwire.Search{{Limit: 30}, {Channel: "stay", Limit: 30}, {Channel: "all", Limit: 200}, {Address: "127.0.0.1", Endpoint: "/ws", Limit: 100}} {
			found, _ := all(t, g, q)
			seen := make(map[string]int)
			for _, x := range found {
				seen[x.Address]++
			}
			for a := range stay {
				if seen[a] != 1 {
					t.Fatalf("round %d: search %+v: %s stays and was found %d times", round, q, a, seen[a])
				}
			}
		}
		if _, err := g.ChannelPage(t.Context(), longwire.ChannelQuery{}); err != nil {
			t.Fatal(err)
		}
	}
}

// More searches than may wait are refused at once, while a loop keeps the first from going on.
func TestSearchesWait(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan struct{}, 1)
	e := longwire.Echo("/echo")
	e.OnMessage = func(longwire.Conn, longwire.Message) { entered <- struct{}{}; <-hold }
	g := searched(t, longwire.Config{MaxConns: 64, Loops: 1, Endpoints: []longwire.Endpoint{e}})
	c := dial(g.Addr().String(), "/echo")
	t.Cleanup(c.quit)
	c.send("hold")
	<-entered
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			_, err := g.Search(context.Background(), longwire.Search{})
			results <- err
		}()
	}
	for range cap(results) - 5 {
		if err := <-results; !errors.Is(err, longwire.ErrSearches) || !errors.Is(err, longwire.ErrBusy) {
			t.Errorf("a search beyond those that may wait: %v", err)
		}
	}
	// Who stops waiting makes room.
	close(hold)
	for range 5 {
		if err := <-results; err != nil {
			t.Errorf("a search that waited: %v", err)
		}
	}
	if _, err := g.Search(t.Context(), longwire.Search{}); err != nil {
		t.Error(err)
	}
}

// The states of connections add up.
func TestStatsOfStates(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 64, Loops: 1})
	addr := g.Addr().String()
	states := func() string {
		s := g.Stats()
		return fmt.Sprintf("conns %d open %d closing %d ended %d cut %d", s.Conns, s.Open, s.Closing, s.Ended, s.Cut)
	}
	want := func(text string) {
		t.Helper()
		waittest.Until(t, text+", not "+states(), func() bool { return states() == text })
	}
	shake := must(net.Dial("tcp", addr))
	defer func() { _ = shake.Close() }()
	a, b, c := dial(addr, "/echo"), dial(addr, "/echo"), dial(addr, "/echo")
	defer b.quit()
	want("conns 4 open 3 closing 0 ended 0 cut 0")
	a.close(1000)
	want("conns 3 open 2 closing 0 ended 1 cut 0")
	c.quit()
	want("conns 2 open 1 closing 0 ended 2 cut 1")
	f, err := g.Search(t.Context(), longwire.Search{})
	if err != nil || len(f.Conns) != 1 {
		t.Fatalf("%+v, %v; want the one that is open", f, err)
	}
	conn, _ := g.Find(f.Conns[0].Client)
	if err := conn.Close(4000, ""); err != nil {
		t.Fatal(err)
	}
	want("conns 2 open 0 closing 1 ended 3 cut 1")
	b.next()
	b.quit()
	want("conns 1 open 0 closing 0 ended 3 cut 1")
}

// A drain that is asked for again gets shorter, never longer.
func TestDrainAgain(t *testing.T) {
	g := searched(t, longwire.Config{MaxConns: 64, Loops: 2})
	if left, again := g.StartDrain(time.Hour); left != time.Hour || again {
		t.Fatalf("first: %v %t", left, again)
	}
	if g.Ready() {
		t.Error("it is ready")
	}
	if left, again := g.StartDrain(2 * time.Hour); left > time.Hour || left < 30*time.Minute || !again {
		t.Errorf("longer: %v %t", left, again)
	}
	if left, again := g.StartDrain(-1); left != 0 || !again {
		t.Errorf("at once: %v %t", left, again)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if left, again := g.StartDrain(0); left != 0 || again {
		t.Errorf("after Close: %v %t", left, again)
	}

	g = searched(t, longwire.Config{MaxConns: 64, Loops: 2})
	var clients []*client
	for range 10 {
		c := dial(g.Addr().String(), "/echo")
		t.Cleanup(c.quit)
		clients = append(clients, c)
	}
	slow := make(chan error, 1)
	go func() { slow <- g.Drain(context.Background(), time.Hour) }()
	waittest.Until(t, "the drain", func() bool { return !g.Ready() })
	fast := make(chan error, 1)
	go func() { fast <- g.Drain(context.Background(), 0) }()
	for _, c := range clients {
		if op, reason, code := c.next(); op != ws.OpClose || code != 1001 || !strings.HasPrefix(reason, "the server is going away") {
			t.Errorf("got %v %q %d, want close 1001", op, reason, code)
		}
		c.quit()
	}
	if err := errors.Join(<-slow, <-fast); err != nil {
		t.Error(err)
	}
}
