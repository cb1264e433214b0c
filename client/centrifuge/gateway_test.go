package centrifuge_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/client/centrifuge"
	"github.com/longwire/longwire/internal/leaktest"
)

// serve starts a gateway whose channels keep everything, and let everybody do everything.
func serve(h longwire.Hooks) (*longwire.Gateway, string) {
	g, err := longwire.New(longwire.Config{
		Addr:      "localhost:0",
		Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection/websocket")},
		Channels: longwire.ChannelOptions{HistorySize: 1000, HistoryTTL: time.Minute, ForceRecovery: true, RecoverMax: 1000, Presence: true, JoinLeave: true, ForceJoinLeave: true,
			AllowDelta: true, DeltaPublish: true},
		Sessions: longwire.Sessions{Insecure: true},
		Hooks:    h,
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	return g, "ws://" + g.Addr().String() + "/connection/websocket"
}

// quick has the way back take milliseconds.
var quick = client.Options{
	Backoff: client.BackoffOptions{Min: time.Millisecond, Max: 5 * time.Millisecond, Spread: 5 * time.Millisecond},
	Fuse:    client.Fuse{Failures: 1000},
}

func TestGateway(t *testing.T) {
	sent := make(chan string, 1)
	g, url := serve(longwire.Hooks{
		RPC: func(_ context.Context, _ longwire.Client, method string, data []byte) ([]byte, error) {
			return []byte(fmt.Sprintf(`{"method":%q,"data":%s}`, method, data)), nil
		},
		Send: func(_ context.Context, _ longwire.Client, data []byte) error { sent <- string(data); return nil },
	})
	defer g.Close()
	for _, protobuf := range []bool{false, true} {
		t.Run(fmt.Sprintf("protobuf %v", protobuf), func(t *testing.T) {
			ctx := t.Context()
			channel := fmt.Sprintf("c%v", protobuf)
			ids := make(chan string, 1)
			serverSide := make(chan string, 10)
			c, err := centrifuge.Dial(ctx, url, &centrifuge.Options{Protobuf: protobuf,
				OnConnected: func(s centrifuge.Connected) { ids <- s.Client },
				Handler: centrifuge.Handler{
					Subscribed:   func(channel string, _ centrifuge.Subscribed) { serverSide <- "subscribed " + channel },
					Publication:  func(channel string, p centrifuge.Publication) { serverSide <- "pub " + string(p.Data) },
					Unsubscribed: func(channel string, _ uint32, _ string) { serverSide <- "unsubscribed " + channel },
				}})
			if err != nil {
				t.Fatal(err)
			}
			id := <-ids
			pubs := make(chan centrifuge.Publication, 10)
			sub, err := c.Subscribe(ctx, channel, &centrifuge.SubscribeOptions{Handler: centrifuge.Handler{
				Publication: func(_ string, p centrifuge.Publication) { pubs <- p },
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Publish(ctx, channel, []byte(`{"n":1}`)); err != nil {
				t.Fatal(err)
			}
			if p := <-pubs; string(p.Data) != `{"n":1}` || p.Offset != 1 || p.Info == nil || p.Info.Client != id {
				t.Errorf("publication is %+v", p)
			}
			history, top, err := c.History(ctx, channel, centrifuge.HistoryOptions{Limit: -1})
			if err != nil || len(history) != 1 || string(history[0].Data) != `{"n":1}` || top.Offset != 1 {
				t.Errorf("History: %+v, %+v, %v", history, top, err)
			}
			if got, ok := sub.Position(); !ok || got != top {
				t.Errorf("Position is %+v, want %+v", got, top)
			}
			present, err := c.Presence(ctx, channel)
			if err != nil || len(present) != 1 || present[id].Client != id {
				t.Errorf("Presence: %+v, %v", present, err)
			}
			if stats, err := c.PresenceStats(ctx, channel); err != nil || stats.Clients != 1 {
				t.Errorf("PresenceStats: %+v, %v", stats, err)
			}
			if got, err := c.RPC(ctx, "m", []byte("[1]")); err != nil || string(got) != `{"method":"m","data":[1]}` {
				t.Errorf("RPC: %s, %v", got, err)
			}
			if err := c.Send(ctx, []byte(`"s"`)); err != nil || <-sent != `"s"` {
				t.Errorf("Send: %v", err)
			}
			if err := sub.Unsubscribe(ctx); err != nil {
				t.Error(err)
			}

			if err := g.Subscribe(ctx, longwire.Target{Client: id}, "side", longwire.SubscribeAs{}); err != nil {
				t.Fatal(err)
			}
			if got := <-serverSide; got != "subscribed side" {
				t.Errorf("the handler was told %s", got)
			}
			if _, err := g.Publish(ctx, "side", []byte("7"), longwire.PublishOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := <-serverSide; got != "pub 7" {
				t.Errorf("the handler was told %s", got)
			}
			if err := g.Unsubscribe(ctx, longwire.Target{Client: id}, "side"); err != nil {
				t.Fatal(err)
			}
			if got := <-serverSide; got != "unsubscribed side" {
				t.Errorf("the handler was told %s", got)
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGatewayRecovery disconnects a client again and again while somebody publishes: it has every publication, once, in
// order, and is told that nothing is missing.
func TestGatewayRecovery(t *testing.T) {
	g, url := serve(longwire.Hooks{})
	defer g.Close()
	for _, protobuf := range []bool{false, true} {
		t.Run(fmt.Sprintf("protobuf %v", protobuf), func(t *testing.T) {
			ctx := t.Context()
			channel := fmt.Sprintf("r%v", protobuf)
			ids := make(chan string, 1000)
			c, err := centrifuge.Dial(ctx, url, &centrifuge.Options{Protobuf: protobuf, Socket: quick,
				OnConnected: func(s centrifuge.Connected) { ids <- s.Client }})
			if err != nil {
				t.Fatal(err)
			}
			const publications, disconnects = 500, 10
			var mu sync.Mutex
			var got []uint64
			recovered, unrecovered := 0, 0
			all := make(chan struct{})
			back := make(chan struct{}, 1000)
			_, err = c.Subscribe(ctx, channel, &centrifuge.SubscribeOptions{Handler: centrifuge.Handler{
				Subscribed: func(_ string, s centrifuge.Subscribed) {
					mu.Lock()
					defer mu.Unlock()
					if s.Recovered {
						recovered++
					} else {
						unrecovered++
					}
					back <- struct{}{}
				},
				Publication: func(_ string, p centrifuge.Publication) {
					mu.Lock()
					defer mu.Unlock()
					if got = append(got, p.Offset); p.Offset == publications {
						close(all)
					}
				},
			}})
			if err != nil {
				t.Fatal(err)
			}
			<-back
			for i := range publications {
				if i%(publications/disconnects) == 25 {
					if err := g.Disconnect(ctx, longwire.Target{Client: <-ids}, longwire.DisconnectAs{Code: 3011, Reason: "force reconnect"}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := g.Publish(ctx, channel, []byte(fmt.Sprint(i+1)), longwire.PublishOptions{}); err != nil {
					t.Fatal(err)
				}
				if i%(publications/disconnects) == 45 {
					<-back
				}
			}
			<-all
			mu.Lock()
			defer mu.Unlock()
			for i, offset := range got {
				if offset != uint64(i+1) {
					t.Fatalf("publication %d has offset %d", i+1, offset)
				}
			}
			if len(got) != publications || recovered != disconnects || unrecovered != 1 {
				t.Errorf("%d publications, %d subscriptions recovered, %d not; want %d, %d, 1", len(got), recovered, unrecovered, publications, disconnects)
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// counted counts what comes in.
type counted struct {
	net.Conn
	in *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(int64(n))
	return n, err
}

// TestGatewayDelta has publications come as deltas while the client is disconnected again and again: it has every one of
// them, as it was published, and far fewer bytes were sent.
func TestGatewayDelta(t *testing.T) {
	g, url := serve(longwire.Hooks{})
	defer g.Close()
	const publications, disconnects = 300, 6
	for _, protobuf := range []bool{false, true} {
		t.Run(fmt.Sprintf("protobuf %v", protobuf), func(t *testing.T) {
			ctx := t.Context()
			channel := fmt.Sprintf("d%v", protobuf)
			text := func(i int) []byte { // with characters of several bytes, which some deltas would cut, and bytes that are none
				b := []byte(fmt.Sprintf(`{"n":%d,"text":"%s%c%s"}`, i, strings.Repeat("größer als gestern, ", 50), 'à'+rune(i/8%8), strings.Repeat("日本語", 100)))
				if protobuf {
					b = append(b, 0xff, byte(i), 0)
				}
				return b
			}
			var in atomic.Int64
			socket := quick
			socket.NetDial = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return counted{conn, &in}, nil
			}
			ids := make(chan string, 1000)
			c, err := centrifuge.Dial(ctx, url, &centrifuge.Options{Protobuf: protobuf, Socket: socket,
				OnConnected: func(s centrifuge.Connected) { ids <- s.Client }})
			if err != nil {
				t.Fatal(err)
			}
			type got struct {
				offset uint64
				data   string
			}
			pubs := make(chan got, publications+1)
			back := make(chan centrifuge.Subscribed, 1000)
			_, err = c.Subscribe(ctx, channel, &centrifuge.SubscribeOptions{Delta: true, Handler: centrifuge.Handler{
				Subscribed: func(_ string, s centrifuge.Subscribed) { back <- s },
				Publication: func(_ string, p centrifuge.Publication) {
					pubs <- got{p.Offset, string(p.Data)}
					clear(p.Data) // it is the handler's
				},
			}})
			if err != nil {
				t.Fatal(err)
			}
			if s := <-back; !s.Delta {
				t.Fatalf("no deltas: %+v", s)
			}
			size, seen := 0, 0
			see := func(upTo int) {
				for seen < upTo {
					seen++
					if p := <-pubs; p.offset != uint64(seen) || p.data != string(text(seen)) {
						t.Fatalf("publication %d is %d: %q", seen, p.offset, p.data)
					}
				}
			}
			for i := 1; i <= publications; i++ {
				if i%(publications/disconnects) == 25 {
					see(i - 1) // so that no more is recovered, and so comes whole, than is published in between
					if err := g.Disconnect(ctx, longwire.Target{Client: <-ids}, longwire.DisconnectAs{Code: 3011, Reason: "force reconnect"}); err != nil {
						t.Fatal(err)
					}
				}
				size += len(text(i))
				if _, err := g.Publish(ctx, channel, text(i), longwire.PublishOptions{}); err != nil {
					t.Fatal(err)
				}
				if i%(publications/disconnects) == 35 {
					if s := <-back; !s.Delta || !s.Recovered {
						t.Errorf("after a disconnect: %+v, want it recovered and with deltas", s)
					}
				}
			}
			see(publications)
			if in := in.Load(); in > int64(size)/2 {
				t.Errorf("%d bytes came for %d bytes of publications, want half of it at most", in, size)
			} else {
				t.Logf("%d bytes came for %d bytes of publications", in, size)
			}
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that subscribes, and is told what others publish.
func ExampleClient_Subscribe() {
	g, url := serve(longwire.Hooks{})
	defer g.Close()
	ctx := context.Background()
	c, err := centrifuge.Dial(ctx, url, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	got := make(chan string, 1) // room, so that the handler does not wait
	_, err = c.Subscribe(ctx, "news", &centrifuge.SubscribeOptions{Handler: centrifuge.Handler{
		Publication: func(channel string, p centrifuge.Publication) { got <- channel + ": " + string(p.Data) },
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Publish(ctx, "news", []byte(`"hello"`)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-got)
	fmt.Println(c.Close(ctx))
	// Output:
	// news: "hello"
	// <nil>
}

// A position that is kept lets another Client, even of another process, go on where the last has stopped. With Delta,
// publications that are like the one before travel as differences.
func ExampleSubscribeOptions() {
	g, url := serve(longwire.Hooks{})
	defer g.Close()
	ctx := context.Background()
	publish := func(data string) {
		if _, err := g.Publish(ctx, "news", []byte(data), longwire.PublishOptions{}); err != nil {
			fmt.Println(err)
		}
	}
	var since *centrifuge.Position
	for range 2 {
		c, err := centrifuge.Dial(ctx, url, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		got := make(chan string, 10) // room, so that the handler does not wait
		news, err := c.Subscribe(ctx, "news", &centrifuge.SubscribeOptions{
			Since: since,
			Delta: true,
			Handler: centrifuge.Handler{
				Subscribed:  func(_ string, s centrifuge.Subscribed) { got <- fmt.Sprint("recovered: ", s.Recovered) },
				Publication: func(_ string, p centrifuge.Publication) { got <- string(p.Data) },
			},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		publish(`"while it is there"`)
		for message := ""; message != `"while it is there"`; {
			message = <-got
			fmt.Println(message)
		}
		position, _ := news.Position()
		since = &position
		_ = c.Close(ctx)
		publish(`"while it is away"`)
	}
	// Output:
	// recovered: false
	// "while it is there"
	// recovered: true
	// "while it is away"
	// "while it is there"
}

// TestGoroutines holds a Client to the goroutines that the package's comment promises.
func TestGoroutines(t *testing.T) {
	const clients = 20
	g, url := serve(longwire.Hooks{})
	defer g.Close()
	dial := func() *centrifuge.Client {
		c, err := centrifuge.Dial(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(t.Context(), "c", nil); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := dial() // what the gateway starts once is there now
	if err := first.Close(t.Context()); err != nil {
		t.Error(err)
	}
	before := runtime.NumGoroutine()
	list := make([]*centrifuge.Client, clients)
	for i := range list {
		list[i] = dial()
	}
	if !leaktest.Settles(before + 2*clients) {
		t.Errorf("%d goroutines for %d clients", runtime.NumGoroutine()-before, clients)
	}
	for _, c := range list {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !leaktest.Settles(before) {
		t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
	}
}
