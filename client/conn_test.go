package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/ws"
)

// TestMain checks that the tests leave no goroutine behind.
func TestMain(m *testing.M) { leaktest.Main(m, leaktest.Goroutines) }

// pipes is a network of net.Pipe, whose other ends the test has.
type pipes chan net.Conn

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// peer is the server's end of a connection, run by the test.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    ws.Reader
	left []byte
}

// accept answers the next handshake.
func (p pipes) accept(t testing.TB) *peer {
	t.Helper()
	s := &peer{t: t, conn: <-p}
	s.upgrade(&ws.Policy{Deflate: true, Subprotocols: []string{"b"}})
	return s
}

func (s *peer) request() ws.Request {
	s.t.Helper()
	for {
		req, n, err := ws.ParseRequest(s.left, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		if n > 0 {
			s.left = s.left[n:]
			return req
		}
		s.fill()
	}
}

func (s *peer) upgrade(policy *ws.Policy) {
	s.t.Helper()
	req := s.request()
	h, refusal := ws.Negotiate(&req, policy)
	if refusal != nil {
		s.t.Fatal(refusal)
	}
	s.r.Reset(ws.ReaderConfig{Role: ws.Server, Deflate: h.Deflate.On})
	s.write(ws.AppendResponse(nil, &h, ""))
}

func (s *peer) fill() {
	s.t.Helper()
	b := make([]byte, 4096)
	n, err := s.conn.Read(b)
	if err != nil {
		panic(fmt.Sprintf("the server reads: %v", err)) // on any goroutine
	}
	s.left = append(s.left, b[:n]...)
}

func (s *peer) write(b []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(b); err != nil {
		panic(fmt.Sprintf("the server writes: %v", err))
	}
}

func (s *peer) send(op ws.Opcode, payload string) {
	s.t.Helper()
	s.write(ws.AppendFrame(nil, ws.Server, op, []byte(payload), [4]byte{}))
}

// next returns the next event.
func (s *peer) next() ws.Event {
	s.t.Helper()
	for {
		ev, n, err := s.r.Next(s.left)
		if err != nil {
			s.t.Fatal(err)
		}
		ev.Payload = bytes.Clone(ev.Payload)
		s.left = s.left[n:]
		if ev.Op != ws.NoEvent {
			return ev
		}
		s.fill()
	}
}

func (s *peer) want(op ws.Opcode, payload string) {
	s.t.Helper()
	if ev := s.next(); ev.Op != op || string(ev.Payload) != payload {
		s.t.Fatalf("the server got %v %q, want %v %q", ev.Op, ev.Payload, op, payload)
	}
}

// log notes transitions.
type log struct {
	mu   sync.Mutex
	list []string
}

func (l *log) note(t Transition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf("%s: %s", t.To, t.Reason))
}

// take returns what was noted since the last call.
func (l *log) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list
	l.list = nil
	return list
}

func (l *log) want(t *testing.T, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("transitions are %q, want %q", got, want)
	}
}

// connect dials a peer in a bubble. Options may be changed.
func connect(t *testing.T, o *Options) (*Conn, *peer, pipes, *log) {
	t.Helper()
	network, l := make(pipes), &log{}
	o.NetDial, o.OnState = network.dial, l.note
	o.random = func() float64 { return 0.5 }
	peers := make(chan *peer)
	go func() { peers <- network.accept(t) }()
	c, err := Dial(t.Context(), "ws://server.example/socket?x=1", o)
	if err != nil {
		t.Fatal(err)
	}
	s := <-peers
	l.want(t, "connecting: start", "idle: open")
	return c, s, network, l
}

// end closes both ends.
func end(t *testing.T, c *Conn, s *peer) {
	t.Helper()
	synctest.Wait() // the handshake may be under way on the client's side
	done := make(chan error)
	go func() { done <- c.Close(t.Context(), 1000, "bye") }()
	for {
		ev := s.next()
		if ev.Op == ws.OpClose {
			if ev.Code != 1000 || string(ev.Payload) != "bye" {
				t.Errorf("the server got close %v %q", ev.Code, ev.Payload)
			}
			break
		}
	}
	s.write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
	if err := <-done; err != nil {
		t.Errorf("Close: %v", err)
	}
	_ = s.conn.Close()
}

func read(t *testing.T, c *Conn, want string) {
	t.Helper()
	if _, payload, err := c.Read(t.Context()); err != nil || string(payload) != want {
		t.Fatalf("Read: %q, %v; want %q", payload, err, want)
	}
}

func write(t *testing.T, c *Conn, payload string) {
	t.Helper()
	if err := c.Write(t.Context(), ws.OpText, []byte(payload)); err != nil {
		t.Errorf("Write: %v", err)
	}
}

func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{Subprotocols: []string{"a", "b"}, Compress: true})
		if got := c.Subprotocol(); got != "b" {
			t.Errorf("subprotocol is %q, want b", got)
		}
		long := strings.Repeat("long ", 1000)
		for _, m := range []string{"hello", "", long} {
			go write(t, c, m)
			s.want(ws.OpText, m)
			s.send(ws.OpText, m)
			read(t, c, m)
		}
		go s.send(ws.OpPing, "are you there")
		s.want(ws.OpPong, "are you there")
		end(t, c, s)
		l.want(t, "closing: shut", "closed: close 1000")
		var e *CloseError
		if _, _, err := c.Read(t.Context()); !errors.As(err, &e) || e.Code != 1000 || e.Err != nil {
			t.Errorf("Read after Close: %v", err)
		}
		if err := c.Write(t.Context(), ws.OpText, nil); !errors.As(err, &e) {
			t.Errorf("Write after Close: %v", err)
		}
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

func TestHeartbeatPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, l := connect(t, &Options{})
		at := time.Now()
		ev := s.next()
		if ev.Op != ws.OpPing || time.Since(at) != 30*time.Second {
			t.Fatalf("after %v: %v, want a ping after 30s", time.Since(at), ev.Op)
		}
		l.want(t, "waiting-pong: interval")
		time.Sleep(200 * time.Millisecond)
		s.send(ws.OpPong, string(ev.Payload))
		l.want(t, "idle: pong")
		if got := c.RTT(); got != 200*time.Millisecond {
			t.Errorf("RTT is %v, want 200ms", got)
		}
		// Now the server is silent. 4 × (200 + 4 × 100) ms are 2.4 s, and twice as much for the second.
		at = time.Now()
		s.next()
		s.next()
		l.want(t, "waiting-pong: interval", "retry-pending: no pong")
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 4001 || time.Since(at) != 30*time.Second+2400*time.Millisecond+4800*time.Millisecond {
			t.Errorf("after %v: %v %v, want close 4001 after 37.2s", time.Since(at), ev.Op, ev.Code)
		}
		l.want(t, "backoff: no pong")
		_ = s.conn.Close()
		s = network.accept(t)
		s.next() // the trial of a line that follows one that missed
		l.want(t, "connecting: retry", "retry-pending: open")
		s.send(ws.OpText, "back")
		read(t, c, "back")
		l.want(t, "idle: message")
		end(t, c, s)
	})
}

func TestHeartbeatJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{Heartbeat: Heartbeat{Mode: HeartbeatJSON, Interval: time.Minute}})
		ev := s.next()
		ts, ok := strings.CutPrefix(string(ev.Payload), `{"type":"ping","ts":`)
		if ev.Op != ws.OpText || !ok {
			t.Fatalf("the server got %v %q", ev.Op, ev.Payload)
		}
		time.Sleep(30 * time.Millisecond)
		s.send(ws.OpText, `{"type":"pong","ts":`+ts)
		s.send(ws.OpText, "a message")
		read(t, c, "a message")
		l.want(t, "waiting-pong: interval", "idle: pong")
		if got := c.RTT(); got != 30*time.Millisecond {
			t.Errorf("RTT is %v, want 30ms", got)
		}
		end(t, c, s)
	})
}

func TestHeartbeatMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{Heartbeat: Heartbeat{
			Mode:    HeartbeatMessage,
			Message: func() (ws.Opcode, []byte) { return ws.OpBinary, []byte{0xc0, 0} },
			Pong:    func(op ws.Opcode, b []byte) bool { return op == ws.OpBinary && string(b) == "\xd0\x00" },
		}})
		s.want(ws.OpBinary, "\xc0\x00")
		time.Sleep(10 * time.Millisecond)
		s.send(ws.OpBinary, "\xd0\x00")
		l.want(t, "waiting-pong: interval", "idle: pong")
		if got := c.RTT(); got != 10*time.Millisecond {
			t.Errorf("RTT is %v, want 10ms", got)
		}
		end(t, c, s)
	})
}

func TestHeartbeatTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, l := connect(t, &Options{Heartbeat: Heartbeat{Mode: HeartbeatTraffic}})
		for range 3 {
			time.Sleep(29 * time.Second)
			s.send(ws.OpPing, "")
			s.want(ws.OpPong, "")
		}
		l.want(t)
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 4001 {
			t.Errorf("the server got %v %v, want close 4001", ev.Op, ev.Code)
		}
		l.want(t, "waiting-pong: interval", "retry-pending: no pong", "backoff: no pong")
		end(t, c, network.accept(t))
	})
}

// TestBadServers has servers that do not do what they should.
func TestBadServers(t *testing.T) {
	refuse := func(head string) func(*peer) {
		return func(s *peer) {
			s.request()
			s.write([]byte("HTTP/1.1 " + head + "\r\nContent-Length: 0\r\n\r\n"))
		}
	}
	for _, c := range []struct {
		name   string
		server func(s *peer)
		final  bool
		status int
		state  string
		wait   time.Duration // from the attempt to the next one, with random numbers of 0.5
	}{
		{"never completes the upgrade", func(s *peer) { s.request() }, false, 0, "backoff: connect timeout", 10*time.Second + 500*time.Millisecond},
		{"never reads", func(*peer) {}, false, 0, "backoff: connect timeout", 10*time.Second + 500*time.Millisecond},
		{"closes at once", func(s *peer) { _ = s.conn.Close() }, false, 0, "backoff: error", 500 * time.Millisecond},
		{"speaks another protocol", func(s *peer) { s.request(); s.write([]byte("220 mail ready\r\n")) }, false, 0, "backoff: error", 500 * time.Millisecond},
		{"400", refuse("400 Bad Request"), true, 400, "closed: status 400", 0},
		{"401", refuse("401 Unauthorized"), true, 401, "closed: status 401", 0},
		{"403", refuse("403 Forbidden"), true, 403, "closed: status 403", 0},
		{"404", refuse("404 Not Found"), false, 404, "backoff: status 404", 500 * time.Millisecond},
		{"429", refuse("429 Too Many Requests\r\nRetry-After: 7"), false, 429, "backoff: status 429", 10500 * time.Millisecond},
		{"503", refuse("503 Service Unavailable\r\nRetry-After: 20"), false, 503, "backoff: status 503", 30 * time.Second},
		{"503 with a date", refuse("503 Service Unavailable\r\nRetry-After: Sat, 01 Jan 2000 00:00:20 GMT"), false, 503, "backoff: status 503", 30 * time.Second},
		{"503 without advice", refuse("503 Service Unavailable"), false, 503, "backoff: status 503", 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network, l := make(pipes), &log{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := make(chan error)
				go func() {
					_, err := Dial(ctx, "ws://server.example", &Options{NetDial: network.dial, OnState: l.note, random: func() float64 { return 0.5 }})
					result <- err
				}()
				first := <-network
				at := time.Now()
				c.server(&peer{t: t, conn: first})
				defer first.Close()
				if !c.final {
					second := <-network
					if got := time.Since(at); got != c.wait {
						t.Errorf("the second attempt is after %v, want %v", got, c.wait)
					}
					defer second.Close()
					l.want(t, "connecting: start", c.state, "connecting: retry")
					cancel()
				}
				err := <-result
				var refused *ws.HandshakeError
				if errors.As(err, &refused); c.status != 0 && (refused == nil || refused.Status != c.status) {
					t.Errorf("Dial: %v, want status %d", err, c.status)
				}
				if c.final {
					var e *CloseError
					if !errors.As(err, &e) {
						t.Errorf("Dial: %v, want a CloseError", err)
					}
					l.want(t, "connecting: start", c.state)
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("Dial: %v, want %v", err, context.Canceled)
				}
			})
		})
	}
}

func TestBadConnections(t *testing.T) {
	for _, c := range []struct {
		name  string
		send  []byte
		state []string
		code  ws.StatusCode // that the server is told
	}{
		{"half a frame", []byte{0x81, 10, 'a', 'b'}, []string{"waiting-pong: interval", "retry-pending: no pong", "backoff: no pong"}, 4001},
		{"half a header", []byte{0x81}, []string{"waiting-pong: interval", "retry-pending: no pong", "backoff: no pong"}, 4001},
		{"a masked frame", []byte{0x81, 0x81, 1, 2, 3, 4, 5}, []string{"backoff: close 1002"}, 1002},
		{"a message beyond the limit", []byte{0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}, []string{"closed: close 1009"}, 1009},
		{"text that is none", []byte{0x81, 1, 0xff}, []string{"closed: close 1007"}, 1007},
		{"a drain", ws.AppendClose(nil, ws.Server, 1001, "going away: retry after 4 s", [4]byte{}), []string{"backoff: close 1001"}, 1001},
		{"a close that is final", ws.AppendClose(nil, ws.Server, 3500, "invalid token", [4]byte{}), []string{"closed: close 3500"}, 3500},
		{"a close without a code", ws.AppendClose(nil, ws.Server, 0, "", [4]byte{}), []string{"backoff: close 1005"}, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, s, _, l := connect(t, &Options{})
				s.write(c.send)
				for {
					ev := s.next()
					if ev.Op == ws.OpPing {
						continue
					}
					if ev.Op != ws.OpClose || ev.Code != c.code {
						t.Errorf("the server got %v %v, want close %v", ev.Op, ev.Code, c.code)
					}
					break
				}
				_ = s.conn.Close()
				l.want(t, c.state...)
				if err := conn.Close(t.Context(), 1000, ""); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestUnaskedPongs: they are signs of life, and no measurement.
func TestUnaskedPongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{})
		for _, payload := range []string{"", "1", "x", fmt.Sprint(time.Now().UnixMilli()), "99999999999999999999"} {
			s.send(ws.OpPong, payload)
		}
		l.want(t)
		if got := c.RTT(); got != 0 {
			t.Errorf("RTT is %v, want 0", got)
		}
		end(t, c, s)
	})
}

// TestFlood: messages that nobody reads do not grow, and a line with messages unread is not taken for dead.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{Inbox: 4})
		const messages = 1000
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range messages {
				s.send(ws.OpText, fmt.Sprint(i))
			}
		}()
		time.Sleep(10 * time.Minute)
		l.want(t)
		for i := range messages {
			read(t, c, fmt.Sprint(i))
		}
		<-sent
		end(t, c, s)
	})
}

// TestCloseUnread: Close does not wait for messages that nobody reads.
func TestCloseUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, _ := connect(t, &Options{Inbox: 1})
		go func() {
			for range 3 {
				s.send(ws.OpText, "x")
			}
		}()
		synctest.Wait()
		end(t, c, s)
	})
}

func TestReadCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read: %v, want %v", err, context.DeadlineExceeded)
		}
		s.send(ws.OpText, "later")
		if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Read: %v, want %v", err, context.DeadlineExceeded)
		}
		read(t, c, "later")
		l.want(t)
		end(t, c, s)
	})
}

func TestWriteCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, l := connect(t, &Options{})
		// The server does not read: nothing of the frame goes out, and the connection stays.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := c.Write(ctx, ws.OpText, []byte("never")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Write: %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
		go write(t, c, "first")
		s.want(ws.OpText, "first")
		l.want(t)

		// One that waits for its turn is taken back too.
		go write(t, c, "second")
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		if err := c.Write(ctx, ws.OpText, []byte("never")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Write: %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
		s.want(ws.OpText, "second")

		// A part of the frame is out: the connection is lost, and another one follows.
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		go func() { _, _ = s.conn.Read(make([]byte, 3)) }()
		if err := c.Write(ctx, ws.OpText, []byte("in the middle")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Write: %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
		l.want(t, "backoff: error")
		_ = s.conn.Close()
		s = network.accept(t)
		go write(t, c, "third")
		s.want(ws.OpText, "third")
		end(t, c, s)
	})
}

func TestCloseCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := c.Close(ctx, 1000, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, want %v", err, context.DeadlineExceeded)
		}
		l.want(t, "closing: shut", "closed: abort")
		_ = s.conn.Close()
	})
}

func TestCloseTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _, l := connect(t, &Options{})
		at := time.Now()
		go func() { _, _ = io.Copy(io.Discard, s.conn) }()
		if err := c.Close(t.Context(), 0, ""); err != nil {
			t.Error(err)
		}
		if got := time.Since(at); got != 5*time.Second {
			t.Errorf("Close took %v, want 5s", got)
		}
		l.want(t, "closing: shut", "closed: close timeout")
		if err := c.Close(t.Context(), 1006, ""); err == nil {
			t.Error("Close with 1006: no error")
		}
		_ = s.conn.Close()
	})
}

func TestQueue(t *testing.T) {
	for _, c := range []struct {
		name    string
		policy  QueuePolicy
		err     error
		dropped string
		want    []string
	}{
		{"reject", QueueReject, ErrQueueFull, "", []string{"a", "b"}},
		{"oldest", QueueDropOldest, nil, "a: oldest", []string{"b", "c"}},
		{"newest", QueueDropNewest, nil, "c: newest", []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dropped := ""
				hellos := 0
				conn, s, network, _ := connect(t, &Options{
					Queue:  Queue{Policy: c.policy, Limit: 2},
					OnDrop: func(_ ws.Opcode, payload []byte, reason string) { dropped += string(payload) + ": " + reason },
				})
				conn.options.Hello = func(context.Context) (ws.Opcode, []byte, error) {
					hellos++
					return ws.OpText, []byte("hello"), nil
				}
				_ = s.conn.Close()
				synctest.Wait()
				var err error
				for _, m := range []string{"a", "b", "c"} {
					b := []byte(m)
					err = conn.Write(t.Context(), ws.OpText, b)
					b[0] = '?' // the caller's again
				}
				if !errors.Is(err, c.err) || dropped != c.dropped {
					t.Errorf("the third Write: %v, dropped %q; want %v, %q", err, dropped, c.err, c.dropped)
				}
				s = network.accept(t)
				s.want(ws.OpText, "hello")
				for _, m := range c.want {
					s.want(ws.OpText, m)
				}
				if hellos != 1 {
					t.Errorf("%d hellos, want 1", hellos)
				}
				end(t, conn, s)
			})
		})
	}
}

// TestQueueClosed: what waits when the Conn ends is handed back.
func TestQueueClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped []string
		c, s, _, l := connect(t, &Options{OnDrop: func(_ ws.Opcode, payload []byte, reason string) {
			dropped = append(dropped, string(payload)+": "+reason)
		}})
		_ = s.conn.Close()
		l.want(t, "backoff: error")
		write(t, c, "a")
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Error(err)
		}
		if want := []string{"a: closed"}; !slices.Equal(dropped, want) {
			t.Errorf("dropped %q, want %q", dropped, want)
		}
	})
}

func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, _ := connect(t, &Options{Resend: true})
		go write(t, c, "confirmed")
		s.want(ws.OpText, "confirmed")
		ping := s.next()
		go write(t, c, "lost")
		s.want(ws.OpText, "lost")
		s.send(ws.OpPong, string(ping.Payload))
		synctest.Wait()
		_ = s.conn.Close()
		s = network.accept(t)
		s.want(ws.OpText, "lost")
		end(t, c, s)
	})
}

// TestOnce: the first end is the end, and a shared Record holds what it taught.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record := &Record{}
		c, s, network, l := connect(t, &Options{Once: true, Record: record})
		time.Sleep(10 * time.Second)
		s.write(ws.AppendClose(nil, ws.Server, 1012, "retry after 60 s", [4]byte{}))
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 1012 {
			t.Errorf("the server got %v %v", ev.Op, ev.Code)
		}
		_ = s.conn.Close()
		l.want(t, "closed: close 1012")
		var e *CloseError
		if _, _, err := c.Read(t.Context()); !errors.As(err, &e) || e.Code != 1012 || e.Reason != "retry after 60 s" {
			t.Errorf("Read: %v", err)
		}
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Error(err)
		}
		at := time.Now()
		go func() {
			conn := <-network
			_ = conn.Close()
		}()
		_, err := Dial(t.Context(), "ws://server.example", &Options{Once: true, Record: record, NetDial: network.dial})
		if !errors.As(err, &e) || e.Code != 1006 {
			t.Errorf("Dial: %v", err)
		}
		if got := time.Since(at); got < 60*time.Second || got > 2*60*time.Second {
			t.Errorf("the second Dial came after %v, want it 60s to 120s later", got)
		}
	})
}

func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, l := connect(t, &Options{})
		c.Reconnect(2 * time.Second)
		at := time.Now()
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 1000 {
			t.Errorf("the server got %v %v", ev.Op, ev.Code)
		}
		_ = s.conn.Close()
		s = network.accept(t)
		if got := time.Since(at); got != 3*time.Second {
			t.Errorf("back after %v, want 3s", got)
		}
		l.want(t, "backoff: advice", "connecting: retry", "idle: open")
		end(t, c, s)
	})
}

// TestHelloFails: the attempt has failed, and the next asks again.
func TestHelloFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, l := make(pipes), &log{}
		calls := 0
		o := &Options{NetDial: network.dial, OnState: l.note, random: func() float64 { return 0 },
			Hello: func(context.Context) (ws.Opcode, []byte, error) {
				if calls++; calls == 1 {
					return 0, nil, errors.New("no token yet")
				}
				return ws.OpText, []byte("token"), nil
			}}
		result := make(chan *Conn)
		go func() {
			c, err := Dial(t.Context(), "ws://server.example", o)
			if err != nil {
				t.Error(err)
			}
			result <- c
		}()
		s := network.accept(t)
		_ = s.conn.Close()
		s = network.accept(t)
		s.want(ws.OpText, "token")
		c := <-result
		l.want(t, "connecting: start", "backoff: error", "connecting: retry", "idle: open")
		end(t, c, s)
	})
}

func TestDialRefuses(t *testing.T) {
	for _, c := range []struct {
		url string
		o   Options
	}{
		{url: "ftp://server.example"},
		{url: "ws://"},
		{url: "ws://a b"},
		{url: "://"},
		{url: "ws://server.example", o: Options{Header: http.Header{"X": {"a\r\nb"}}}},
		{url: "ws://server.example", o: Options{Header: http.Header{"X Y": {"a"}}}},
		{url: "ws://server.example", o: Options{Header: http.Header{"Sec-Websocket-Key": {"a"}}}},
		{url: "ws://server.example", o: Options{Subprotocols: []string{"a, b"}}},
	} {
		if _, err := Dial(t.Context(), c.url, &c.o); err == nil {
			t.Errorf("Dial %s with %v: no error", c.url, c.o.Header)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct{ url, address, host, target string }{
		{"ws://server.example", "server.example:80", "server.example", "/"},
		{"wss://server.example:8443/a%20b?c=d#e", "server.example:8443", "server.example:8443", "/a%20b?c=d"},
		{"wss://[::1]/x", "[::1]:443", "[::1]", "/x"},
		{"ws://user:secret@server.example?q", "server.example:80", "server.example", "/?q"},
	} {
		got, err := newTarget(c.url, &Options{})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if got.address != c.address || got.ask.Host != c.host || got.ask.Target != c.target || (got.tls != nil) != strings.HasPrefix(c.url, "wss") {
			t.Errorf("%s: %q, %q, %q; want %q, %q, %q", c.url, got.address, got.ask.Host, got.ask.Target, c.address, c.host, c.target)
		}
		if strings.Contains(c.url, "secret") && got.ask.Header != "Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" {
			t.Errorf("%s: header is %q", c.url, got.ask.Header)
		}
	}
}

// echo serves a connection of net/http as a WebSocket that sends back what it gets.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_ = rw.Flush()
		var head bytes.Buffer
		fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
		_ = r.Header.Write(&head)
		head.WriteString("\r\n")
		s := &peer{t: t, conn: conn, left: head.Bytes()}
		s.upgrade(&ws.Policy{})
		for {
			ev := s.next()
			if ev.Op == ws.OpClose {
				s.write(ws.AppendClose(nil, ws.Server, ev.Code, "", [4]byte{}))
				return
			}
			s.send(ev.Op, string(ev.Payload))
		}
	}
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(echo(t))
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	transport := server.Client().Transport.(*http.Transport)
	url := "wss" + strings.TrimPrefix(server.URL, "https")
	c, err := Dial(t.Context(), url, &Options{TLS: transport.TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, "over TLS")
	read(t, c, "over TLS")
	if err := c.Close(t.Context(), 1000, ""); err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), url, &Options{Once: true}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Dial without the certificate: %v", err)
	}
}

// TestLeaks: nothing is left of connections that came and went.
func TestLeaks(t *testing.T) {
	cycles := 10_000
	if testing.Short() || raceEnabled {
		cycles = 1000
	}
	network := make(pipes)
	stop := make(chan struct{})
	var servers sync.WaitGroup
	servers.Go(func() {
		for {
			select {
			case conn := <-network:
				s := &peer{t: t, conn: conn}
				s.upgrade(&ws.Policy{})
				if ev := s.next(); ev.Op != ws.OpClose {
					t.Errorf("the server got %v", ev.Op)
				}
				s.write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
				_ = conn.Close()
			case <-stop:
				return
			}
		}
	})
	before := runtime.NumGoroutine()
	for range cycles {
		c, err := Dial(t.Context(), "ws://server.example", &Options{NetDial: network.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Fatal(err)
		}
	}
	if !leaktest.Settles(before) {
		t.Errorf("%d goroutines, %d at the start", runtime.NumGoroutine(), before)
	}
	t.Logf("figure: after %d connections over pipes: %d goroutines more than before", cycles, max(runtime.NumGoroutine()-before, 0))
	close(stop)
	servers.Wait()
}

// TestWriteAllocs holds the way out to what it takes: the message that the policy sees.
func TestWriteAllocs(t *testing.T) {
	network := make(pipes)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s := network.accept(t)
		_, _ = io.Copy(io.Discard, s.conn)
	}()
	c, err := Dial(t.Context(), "ws://server.example", &Options{NetDial: network.dial})
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 100)
	ctx := context.Background()
	if n := testing.AllocsPerRun(200, func() {
		if err := c.Write(ctx, ws.OpBinary, payload); err != nil {
			t.Fatal(err)
		}
	}); n > 2 && !raceEnabled {
		t.Errorf("%v allocations for a Write, want 2 at most", n)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_ = c.Close(ctx, 1000, "")
	<-gone
}
