package longwire_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

// In these examples dial, ask, close and quit are those of a small client in client_test.go.

// The zero Config serves the plain protocol at /ws. Here only the port is a free one.
func Example() {
	g, err := longwire.New(longwire.Config{Addr: "localhost:0"})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/ws")
	defer c.quit()
	fmt.Println(c.ask(`{"type":"ping","ts":1700000000000}`))
	// Output: {"type":"pong","ts":1700000000000}
}

// Callbacks run on the connection's loop and must not block.
func ExampleEndpoint() {
	ended := make(chan longwire.Cause, 1)
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:0",
		Endpoints: []longwire.Endpoint{{
			Path: "/shout",
			OnMessage: func(_ longwire.Conn, m longwire.Message) {
				m.Reply(m.Op, []byte(strings.ToUpper(string(m.Payload))))
			},
			OnClose: func(_ longwire.Conn, cause longwire.Cause) { ended <- cause },
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/shout")
	defer c.quit()
	fmt.Println(c.ask("hello"))
	c.close(ws.StatusNormalClosure)
	fmt.Println(<-ended)
	// Output:
	// HELLO
	// connection ended: client_close (1000)
}

// With Blocking, callbacks run on a pool of goroutines and may wait; one connection's keep their order.
func ExampleEndpoint_blocking() {
	slow := func(question string) string { return "the answer to " + question } // say, a database
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:0",
		Endpoints: []longwire.Endpoint{{
			Path:     "/ask",
			Blocking: true,
			OnMessage: func(_ longwire.Conn, m longwire.Message) {
				m.Reply(ws.OpText, []byte(slow(string(m.Payload))))
			},
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/ask")
	defer c.quit()
	fmt.Println(c.ask("one"))
	fmt.Println(c.ask("two"))
	// Output:
	// the answer to one
	// the answer to two
}

// An application says who may come in before there is a connection.
func ExampleEndpoint_authorize() {
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:0",
		Endpoints: []longwire.Endpoint{{
			Path: "/private",
			Authorize: func(r *ws.Request) *ws.Refusal {
				if string(r.Header("Authorization")) != "Bearer secret" {
					return &ws.Refusal{Status: http.StatusUnauthorized, Reason: "a token is needed"}
				}
				return nil
			},
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	req, _ := http.NewRequest("GET", "http://"+g.Addr().String()+"/private", nil)
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		req.Header.Set(name, value)
	}
	t := &http.Transport{DisableKeepAlives: true}
	for _, token := range []string{"Bearer guess", "Bearer secret"} {
		req.Header.Set("Authorization", token)
		resp, err := t.RoundTrip(req)
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 401 Unauthorized
	// 101 Switching Protocols
}

// A Handler serves the endpoints in anyone's net/http server.
func ExampleGateway_Handler() {
	g, err := longwire.New(longwire.Config{
		Endpoints: []longwire.Endpoint{{
			Path:      "/echo",
			OnMessage: func(_ longwire.Conn, m longwire.Message) { m.Reply(m.Op, m.Payload) },
		}},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	mux := http.NewServeMux()
	mux.Handle("/echo", g.Handler())
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := dial(srv.Listener.Addr().String(), "/echo")
	defer c.quit()
	fmt.Println(c.ask("hello"))
	// Output: hello
}

// A broadcast reaches every connection of an endpoint, whatever loop it is on.
func ExampleGateway_Broadcast() {
	opened := make(chan struct{}, 2)
	g, err := longwire.New(longwire.Config{
		Addr:      "localhost:0",
		Endpoints: []longwire.Endpoint{{Path: "/news", OnOpen: func(longwire.Conn, *ws.Request) { opened <- struct{}{} }}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	a, b := dial(g.Addr().String(), "/news"), dial(g.Addr().String(), "/news")
	<-opened
	<-opened
	if err := g.Broadcast("/news", ws.OpText, []byte("it rains")); err != nil {
		panic(err)
	}
	for _, c := range []*client{a, b} {
		defer c.quit()
		_, text, _ := c.next()
		fmt.Println(text)
	}
	// Output:
	// it rains
	// it rains
}

// Go hands work over that may block, with a context that ends with the connection.
func ExampleConn_Go() {
	told := make(chan error, 1)
	g, err := longwire.New(longwire.Config{
		Addr: "localhost:0",
		Endpoints: []longwire.Endpoint{{
			Path: "/work",
			OnMessage: func(c longwire.Conn, m longwire.Message) {
				c.Go(func(ctx context.Context) {
					_ = c.Send(ws.OpText, []byte("started"))
					<-ctx.Done() // say, a query that runs for as long as somebody waits for it
					told <- context.Cause(ctx)
				})
			},
		}},
	})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/work")
	defer c.quit()
	fmt.Println(c.ask("go"))
	c.close(ws.StatusGoingAway)
	cause := <-told
	fmt.Println(cause)
	fmt.Println(errors.Is(cause, longwire.Cause{Kind: longwire.CauseClientClose}))
	// Output:
	// started
	// connection ended: client_close (1001)
	// true
}

// Drain closes connections with 1001, spread over a time.
func ExampleGateway_Drain() {
	g, err := longwire.New(longwire.Config{Addr: "localhost:0"})
	if err != nil {
		panic(err)
	}
	if err := g.Start(); err != nil {
		panic(err)
	}
	defer g.Close()
	c := dial(g.Addr().String(), "/ws")
	defer c.quit()
	go func() {
		if err := g.Drain(context.Background(), 100*time.Millisecond); err != nil {
			panic(err)
		}
	}()
	_, _, code := c.next()
	fmt.Println(uint16(code))
	// Output: 1001
}
