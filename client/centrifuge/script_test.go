package centrifuge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

// server is the other end of a Client's connections, run by the test: what it gets and sends is written out.
type server struct {
	t     *testing.T
	conns chan net.Conn
	conn  net.Conn
	r     ws.Reader
	left  []byte
}

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case s.conns <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *server) fill() {
	s.t.Helper()
	b := make([]byte, 4096)
	n, err := s.conn.Read(b)
	if err != nil {
		s.t.Fatalf("the server reads: %v", err)
	}
	s.left = append(s.left, b[:n]...)
}

// accept answers the next handshake.
func (s *server) accept() {
	s.t.Helper()
	s.conn, s.left = <-s.conns, nil
	for {
		req, n, err := ws.ParseRequest(s.left, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		if n == 0 {
			s.fill()
			continue
		}
		h, refusal := ws.Negotiate(&req, &ws.Policy{})
		if refusal != nil {
			s.t.Fatal(refusal)
		}
		s.left = s.left[n:]
		s.r.Reset(ws.ReaderConfig{})
		s.write(ws.AppendResponse(nil, &h, ""))
		return
	}
}

func (s *server) write(b []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(b); err != nil {
		s.t.Fatalf("the server writes: %v", err)
	}
}

func (s *server) send(messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		s.write(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte(m), [4]byte{}))
	}
}

func (s *server) close(code ws.StatusCode, reason string) {
	s.t.Helper()
	s.write(ws.AppendClose(nil, ws.Server, code, reason, [4]byte{}))
	s.want(fmt.Sprintf("close %d", code))
	_ = s.conn.Close()
}

// want reads messages, or close frames.
func (s *server) want(messages ...string) {
	s.t.Helper()
	for _, want := range messages {
		if got := s.next(); got != want {
			s.t.Fatalf("the server got %s, want %s", got, want)
		}
	}
}

// next returns the next message, or close frame. It answers pings.
func (s *server) next() string {
	s.t.Helper()
	for {
		ev, n, err := s.r.Next(s.left)
		if err != nil {
			s.t.Fatal(err)
		}
		s.left = bytes.Clone(s.left[n:])
		switch ev.Op {
		case ws.NoEvent:
			s.fill()
		case ws.OpPing:
			s.write(ws.AppendFrame(nil, ws.Server, ws.OpPong, ev.Payload, [4]byte{}))
		case ws.OpText:
			return string(ev.Payload)
		case ws.OpClose:
			return fmt.Sprintf("close %d", ev.Code)
		}
	}
}

// notes is what handlers were told.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

func (n *notes) handler() Handler {
	return Handler{
		Publication: func(channel string, p Publication) { n.add("%s pub %d %s", channel, p.Offset, p.Data) },
		Join:        func(channel string, i ClientInfo) { n.add("%s join %s", channel, i.Client) },
		Leave:       func(channel string, i ClientInfo) { n.add("%s leave %s", channel, i.Client) },
		Subscribed: func(channel string, s Subscribed) {
			n.add("%s subscribed %d%s recovered=%v", channel, s.Position.Offset, s.Position.Epoch, s.Recovered)
		},
		Unsubscribed: func(channel string, code uint32, reason string) {
			n.add("%s unsubscribed %d %s", channel, code, reason)
		},
	}
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.list, want) {
		t.Errorf("handlers were told\n%q, want\n%q", n.list, want)
	}
	n.list = nil
}

// start dials a server in a bubble, which answers connect.
func start(t *testing.T, o *Options, connect, answer string) (*Client, *server, *notes) {
	t.Helper()
	s, n := &server{t: t, conns: make(chan net.Conn)}, &notes{}
	o.Socket.NetDial = s.dial
	o.Handler = n.handler()
	o.OnMessage = func(data []byte) { n.add("message %s", data) }
	o.OnConnected = func(c Connected) { n.add("connected %s", c.Client) }
	result := make(chan *Client)
	go func() {
		c, err := Dial(t.Context(), "ws://server.example", o)
		if err != nil {
			t.Error(err)
		}
		result <- c
	}()
	s.accept()
	s.want(connect)
	s.send(answer)
	c := <-result
	if c == nil {
		t.FailNow()
	}
	n.want(t, "connected i")
	return c, s, n
}

func stop(t *testing.T, c *Client, s *server) {
	t.Helper()
	done := make(chan error)
	go func() { done <- c.Close(t.Context()) }()
	s.want("close 1000")
	s.write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
	if err := <-done; err != nil {
		t.Errorf("Close: %v", err)
	}
	_ = s.conn.Close()
}

const plainConnect, plainAnswer = `{"id":1,"connect":{}}`, `{"id":1,"connect":{"client":"i","ping":25,"pong":true}}`

// sub subscribes with the server's help.
func sub(t *testing.T, c *Client, s *server, n *notes, o *SubscribeOptions, command, answer string) *Subscription {
	t.Helper()
	o.Handler = n.handler()
	result := make(chan *Subscription)
	go func() {
		sub, err := c.Subscribe(t.Context(), "c", o)
		if err != nil {
			t.Error(err)
		}
		result <- sub
	}()
	s.want(command)
	s.send(answer)
	return <-result
}

func TestScriptPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, n := start(t, &Options{}, plainConnect, plainAnswer)
		for range 10 {
			time.Sleep(25 * time.Second)
			s.send("{}")
			s.want("{}")
		}
		s.send(`{"push":{"message":{"data":{"a":1}}}}`)
		n.want(t, `message {"a":1}`)
		stop(t, c, s)
		var e *client.CloseError
		if err := c.Err(); !errors.As(err, &e) || e.Code != 1000 {
			t.Errorf("Err is %v", err)
		}
		if err := c.Publish(t.Context(), "c", []byte("1")); !errors.As(err, &e) {
			t.Errorf("Publish after Close: %v", err)
		}
	})
}

// TestScriptRecovery: what was missed comes once, in order, and what comes twice is not told twice.
func TestScriptRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, n := start(t, &Options{}, plainConnect, plainAnswer)
		sb := sub(t, c, s, n, &SubscribeOptions{}, `{"id":2,"subscribe":{"channel":"c"}}`,
			`{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":5}}`)
		s.send(`{"push":{"channel":"c","pub":{"data":6,"offset":6}}}`, `{"push":{"channel":"d","pub":{"data":0}}}`)
		n.want(t, "c subscribed 5e recovered=false", "c pub 6 6")
		if _, err := c.Subscribe(t.Context(), "c", nil); !errors.Is(err, ErrSubscribed) {
			t.Errorf("a second Subscribe: %v", err)
		}

		// The connection is lost.
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":3,"connect":{}}`)
		s.send(`{"id":3,"connect":{"client":"j"}}`)
		s.want(`{"id":4,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":6}}`)
		s.send(`{"id":4,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e","offset":6,"was_recovering":true,"recovered":true,`+
			`"publications":[{"data":7,"offset":7},{"data":8,"offset":8}]}}`,
			`{"push":{"channel":"c","pub":{"data":8,"offset":8}}}`, `{"push":{"channel":"c","pub":{"data":9,"offset":9}}}`)
		n.want(t, "connected j", "c subscribed 6e recovered=true", "c pub 7 7", "c pub 8 8", "c pub 9 9")

		// The server has lost the state of the subscription.
		s.send(`{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}}}`)
		s.want(`{"id":5,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":9}}`)
		s.send(`{"push":{"channel":"c","pub":{"data":0,"offset":10}}}`, // of the old subscription: comes again, if it counts
			`{"id":5,"subscribe":{"recoverable":true,"positioned":true,"epoch":"f","offset":1,"was_recovering":true}}`,
			`{"push":{"channel":"c","pub":{"data":2,"offset":2}}}`)
		n.want(t, "c subscribed 1f recovered=false", "c pub 2 2")
		if got, ok := sb.Position(); !ok || got != (Position{2, "f"}) {
			t.Errorf("Position is %v, %v", got, ok)
		}

		// The server ends it.
		s.send(`{"push":{"channel":"c","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`, `{"push":{"channel":"c","pub":{"data":3,"offset":3}}}`)
		n.want(t, "c unsubscribed 2000 server unsubscribe")
		stop(t, c, s)
	})
}

func TestScriptSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, n := start(t, &Options{}, plainConnect, plainAnswer)
		sb := sub(t, c, s, n, &SubscribeOptions{Since: &Position{3, "e"}, JoinLeave: true, Data: []byte(`"d"`)},
			`{"id":2,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":3,"data":"d","join_leave":true}}`,
			`{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":3,"was_recovering":true,"recovered":true,"publications":[{"data":4,"offset":4}]}}`)
		s.send(`{"push":{"channel":"c","join":{"info":{"user":"u","client":"x"}}}}`, `{"push":{"channel":"c","leave":{"info":{"user":"u","client":"x"}}}}`)
		n.want(t, "c subscribed 3e recovered=true", "c pub 4 4", "c join x", "c leave x")
		done := make(chan error)
		go func() { done <- sb.Unsubscribe(t.Context()) }()
		s.want(`{"id":3,"unsubscribe":{"channel":"c"}}`)
		s.send(`{"push":{"channel":"c","pub":{"data":5,"offset":5}}}`, `{"id":3,"unsubscribe":{}}`)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := sb.Unsubscribe(t.Context()); err != nil {
			t.Errorf("a second Unsubscribe: %v", err)
		}
		n.want(t)
		stop(t, c, s)
	})
}

// TestScriptTokens: one that has expired is replaced, and one that will expire is replaced before.
func TestScriptTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		get := func(context.Context) (string, error) {
			tokens++
			return fmt.Sprint("new", tokens), nil
		}
		s, n := &server{t: t, conns: make(chan net.Conn)}, &notes{}
		o := &Options{Token: "old", GetToken: get, Socket: client.Options{NetDial: s.dial},
			OnConnected: func(c Connected) { n.add("connected %s", c.Client) }}
		result := make(chan *Client)
		go func() {
			c, err := Dial(t.Context(), "ws://server.example", o)
			if err != nil {
				t.Error(err)
			}
			result <- c
		}()
		s.accept()
		s.want(`{"id":1,"connect":{"token":"old"}}`)
		s.send(`{"id":1,"error":{"code":109,"message":"token expired"}}`)
		s.want("close 1000")
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":2,"connect":{"token":"new1"}}`)
		s.send(`{"id":2,"connect":{"client":"i","expires":true,"ttl":20}}`)
		c := <-result
		n.want(t, "connected i")
		at := time.Now()
		s.want(`{"id":3,"refresh":{"token":"new2"}}`)
		if got := time.Since(at); got != 20*time.Second {
			t.Errorf("the token was refreshed after %v, want 20s", got)
		}
		s.send(`{"id":3,"refresh":{"expires":true}}`) // at once, says the server
		s.want(`{"id":4,"refresh":{"token":"new3"}}`)
		if got := time.Since(at); got != 21*time.Second {
			t.Errorf("the token was refreshed again after %v, want 21s", got)
		}
		s.send(`{"id":4,"refresh":{}}`)

		// The same for a subscription.
		subTokens := 0
		o2 := &SubscribeOptions{Token: "old", GetToken: func(_ context.Context, channel string) (string, error) {
			subTokens++
			return fmt.Sprint(channel, subTokens), nil
		}}
		sb := make(chan error)
		go func() {
			_, err := c.Subscribe(t.Context(), "c", o2)
			sb <- err
		}()
		s.want(`{"id":5,"subscribe":{"channel":"c","token":"old"}}`)
		s.send(`{"id":5,"error":{"code":109,"message":"token expired"}}`)
		s.want(`{"id":6,"subscribe":{"channel":"c","token":"c1"}}`)
		s.send(`{"id":6,"subscribe":{"expires":true,"ttl":10}}`)
		if err := <-sb; err != nil {
			t.Error(err)
		}
		s.want(`{"id":7,"sub_refresh":{"channel":"c","token":"c2"}}`)
		s.send(`{"id":7,"sub_refresh":{}}`)
		stop(t, c, s)
	})
}

// TestScriptErrors: what passes is tried again, what does not is told.
func TestScriptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := start(t, &Options{}, plainConnect, plainAnswer)
		result := make(chan error)
		go func() {
			_, err := c.Subscribe(t.Context(), "c", nil)
			result <- err
		}()
		s.want(`{"id":2,"subscribe":{"channel":"c"}}`)
		s.send(`{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}`)
		s.want(`{"id":3,"subscribe":{"channel":"c"}}`)
		s.send(`{"id":3,"error":{"code":103,"message":"permission denied"}}`)
		var e *Error
		if err := <-result; !errors.As(err, &e) || e.Code != 103 {
			t.Errorf("Subscribe: %v, want 103", err)
		}

		// A command whose connection is lost.
		go func() { result <- c.Publish(t.Context(), "c", []byte("1")) }()
		s.want(`{"id":4,"publish":{"channel":"c","data":1}}`)
		_ = s.conn.Close()
		if err := <-result; !errors.Is(err, ErrDisconnected) {
			t.Errorf("Publish: %v, want %v", err, ErrDisconnected)
		}

		// One that begins while there is no session waits for it. One that gets no answer ends.
		go func() { result <- c.Publish(t.Context(), "c", []byte("2")) }()
		s.accept()
		s.want(`{"id":5,"connect":{}}`)
		s.send(`{"id":5,"error":{"code":100,"message":"internal server error","temporary":true}}`)
		s.want("close 1000")
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":6,"connect":{}}`)
		s.send(`{"id":6,"connect":{"client":"i"}}`)
		s.want(`{"id":7,"publish":{"channel":"c","data":2}}`)
		if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish: %v, want %v", err, context.DeadlineExceeded)
		}
		s.send(`{"id":7,"publish":{}}`) // too late, and no harm
		if err := c.Publish(t.Context(), "c", []byte("{")); err == nil {
			t.Error("Publish of what is no JSON: no error")
		}

		// A subscribe that is not answered: a new session clears it up.
		go func() {
			_, err := c.Subscribe(t.Context(), "c", nil)
			result <- err
		}()
		s.want(`{"id":9,"subscribe":{"channel":"c"}}`)
		s.want("close 1000")
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":10,"connect":{}}`)
		s.send(`{"id":10,"connect":{"client":"i"}}`)
		s.want(`{"id":11,"subscribe":{"channel":"c"}}`)
		s.send(`{"id":11,"subscribe":{}}`)
		if err := <-result; err != nil {
			t.Errorf("Subscribe: %v", err)
		}
		stop(t, c, s)
	})
}

// TestScriptEnd: codes after which there is no coming back, and those after which there is.
func TestScriptEnd(t *testing.T) {
	for _, code := range []ws.StatusCode{1009, 3500, 3503, 4500} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := start(t, &Options{}, plainConnect, plainAnswer)
			s.close(code, "go")
			<-c.Done()
			var e *client.CloseError
			if err := c.Err(); !errors.As(err, &e) || e.Code != code {
				t.Errorf("after close %d: %v", code, err)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for _, code := range []ws.StatusCode{1000, 1001, 3000, 3005, 3012, 4000} {
		synctest.Test(t, func(t *testing.T) {
			c, s, n := start(t, &Options{}, plainConnect, plainAnswer)
			s.close(code, "come back")
			s.accept()
			s.want(`{"id":2,"connect":{}}`)
			s.send(`{"id":2,"connect":{"client":"j"}}`)
			n.want(t, "connected j")
			stop(t, c, s)
		})
	}
	// A disconnect that comes as a message, an error of connect, and what is not of the protocol.
	for _, last := range []string{`{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}`, "no JSON"} {
		synctest.Test(t, func(t *testing.T) {
			c, s, _ := start(t, &Options{}, plainConnect, plainAnswer)
			s.send(last)
			s.want("close 1000")
			s.write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
			_ = s.conn.Close()
			<-c.Done()
			if c.Err() == nil {
				t.Error("no error")
			}
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, conns: make(chan net.Conn)}
		result := make(chan error)
		go func() {
			_, err := Dial(t.Context(), "ws://server.example", &Options{Socket: client.Options{NetDial: s.dial}})
			result <- err
		}()
		s.accept()
		s.want(plainConnect)
		s.send(`{"id":1,"error":{"code":101,"message":"unauthorized"}}`)
		s.want("close 1000")
		s.write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
		_ = s.conn.Close()
		var e *Error
		if err := <-result; !errors.As(err, &e) || e.Code != 101 {
			t.Errorf("Dial: %v, want 101", err)
		}
	})
}

// TestScriptServerSide: server-side subscriptions come with connect or later, and are recovered.
func TestScriptServerSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := &server{t: t, conns: make(chan net.Conn)}, &notes{}
		result := make(chan *Client)
		go func() {
			c, err := Dial(t.Context(), "ws://server.example", &Options{Handler: n.handler(), Socket: client.Options{NetDial: s.dial}})
			if err != nil {
				t.Error(err)
			}
			result <- c
		}()
		s.accept()
		s.want(plainConnect)
		s.send(`{"id":1,"connect":{"client":"i","subs":{"a":{"recoverable":true,"epoch":"e","offset":1}}}}`)
		c := <-result
		s.send(`{"push":{"channel":"b","subscribe":{}}}`, `{"push":{"channel":"a","pub":{"data":2,"offset":2}}}`, `{"push":{"channel":"b","pub":{"data":0}}}`)
		n.want(t, "a subscribed 1e recovered=false", "b subscribed 0 recovered=false", "a pub 2 2", "b pub 0 0")
		_ = s.conn.Close()
		s.accept()
		s.want(`{"id":2,"connect":{"subs":{"a":{"recover":true,"epoch":"e","offset":2}}}}`)
		s.send(`{"id":2,"connect":{"client":"i","subs":{"a":{"recoverable":true,"epoch":"e","offset":2,"recovered":true,"was_recovering":true,"publications":[{"data":3,"offset":3}]}}}}`)
		n.want(t, "a subscribed 2e recovered=true", "a pub 3 3", "b unsubscribed 0 ")
		s.send(`{"push":{"channel":"a","unsubscribe":{"code":2000}}}`)
		n.want(t, "a unsubscribed 2000 ")
		stop(t, c, s)
	})
}

// TestScriptOffline: a program that knows its network takes it away. The session outlives that as long as its connection
// does; when that is lost, what waits for a reply hears of it, and nothing is tried before the network is back.
func TestScriptOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &client.Network{}
		c, s, n := start(t, &Options{Socket: client.Options{Network: network}}, plainConnect, plainAnswer)
		sub(t, c, s, n, &SubscribeOptions{}, `{"id":2,"subscribe":{"channel":"c"}}`, `{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"e"}}`)
		n.want(t, "c subscribed 0e recovered=false")
		result := make(chan error)
		publish := func() { result <- c.Publish(t.Context(), "c", []byte("1")) }

		network.SetOnline(false)
		go publish()
		if err := <-result; !errors.Is(err, ErrDisconnected) {
			t.Errorf("Publish without a network: %v, want %v", err, ErrDisconnected)
		}
		s.send(`{"push":{"channel":"c","pub":{"data":1,"offset":1}}}`) // so there is one
		n.want(t, "c pub 1 1")
		go publish()
		s.want(`{"id":4,"publish":{"channel":"c","data":1}}`)
		network.SetOnline(false)
		_ = s.conn.Close()
		if err := <-result; !errors.Is(err, ErrDisconnected) {
			t.Errorf("Publish on a connection that is lost: %v, want %v", err, ErrDisconnected)
		}
		time.Sleep(time.Hour)
		go publish() // waits for a session

		network.SetOnline(true)
		s.accept()
		s.want(`{"id":5,"connect":{}}`)
		s.send(`{"id":5,"connect":{"client":"j"}}`)
		var got []string
		for range 2 { // in either order
			got = append(got, s.next())
		}
		slices.Sort(got)
		if want := []string{`{"id":6,"publish":{"channel":"c","data":1}}`, `{"id":7,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":1}}`}; !slices.Equal(got, want) {
			if want = []string{`{"id":6,"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":1}}`, `{"id":7,"publish":{"channel":"c","data":1}}`}; !slices.Equal(got, want) {
				t.Fatalf("the server got %q", got)
			}
		}
		s.send(`{"id":6,"publish":{},"subscribe":{}}`, `{"id":7,"publish":{},"subscribe":{}}`)
		if err := <-result; err != nil {
			t.Errorf("Publish with a network: %v", err)
		}
		stop(t, c, s)
	})
}
