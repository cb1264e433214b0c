package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// deadline is how long a test of real sockets waits for what must come.
const deadline = 30 * time.Second

// seen is a transition and when it was told.
type seen struct {
	Transition
	at time.Time
}

func (s seen) String() string { return fmt.Sprintf("%s: %s", s.To, s.Reason) }

// watch has transitions sent to a channel.
func watch(o *Options) chan seen {
	states := make(chan seen, 10_000)
	o.OnState = func(t Transition) { states <- seen{t, time.Now()} }
	return states
}

// follow waits for transitions, one after the other, and returns them.
func follow(t *testing.T, states chan seen, want ...string) []seen {
	t.Helper()
	late := time.After(deadline)
	var list []seen
	for _, w := range want {
		select {
		case s := <-states:
			list = append(list, s)
			if s.String() != w {
				t.Fatalf("transitions are %v, want %q", list, want)
			}
		case <-late:
			t.Fatalf("transitions are %v, want %q", list, want)
		}
	}
	return list
}

// listen serves connections on loopback, each with the next of the servers, and returns the address. The last of them
// serves all that come after.
func listen(t *testing.T, servers ...func(*peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(accept(t, l, servers...))
	return "ws://" + l.Addr().String() + "/"
}

// accept is the rest of listen, for a listener. Its end closes it and all its connections.
func accept(t *testing.T, l net.Listener, servers ...func(*peer)) (end func()) {
	var mu sync.Mutex
	var conns []net.Conn
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; ; i++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			group.Go(func() {
				defer conn.Close()
				defer func() { _ = recover() }() // a peer that can't go on
				servers[min(i, len(servers)-1)](&peer{t: t, conn: conn})
			})
		}
	})
	return func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		group.Wait()
	}
}

// hold keeps a connection until the other end closes it.
func hold(s *peer) { _, _ = io.Copy(io.Discard, s.conn) }

// good is a server as it should be: it answers pings and messages, and the closing handshake.
func good(s *peer) {
	s.upgrade(&ws.Policy{})
	serveGood(s)
}

func serveGood(s *peer) {
	for {
		switch ev := s.next(); ev.Op {
		case ws.OpPing:
			s.write(ws.AppendFrame(nil, ws.Server, ws.OpPong, ev.Payload, [4]byte{}))
		case ws.OpClose:
			s.write(ws.AppendClose(nil, ws.Server, ws.StatusNormalClosure, "", [4]byte{}))
			return
		case ws.OpText, ws.OpBinary:
			s.send(ev.Op, string(ev.Payload))
		}
	}
}

// answer is a server that answers the handshake with something, and then nothing.
func answer(head string) func(*peer) {
	return func(s *peer) {
		s.request()
		s.write([]byte(head))
		hold(s)
	}
}

// afterwards is a server that does the handshake as it should, and then something else.
func afterwards(f func(*peer)) func(*peer) {
	return func(s *peer) {
		s.upgrade(&ws.Policy{})
		f(s)
	}
}

// TestBadServersOnSockets has the servers of the list over TCP, and with real timers: what becomes of each, when the next
// attempt is due, and that the client is back with a server that does what it should.
func TestBadServersOnSockets(t *testing.T) {
	const window = 40 * time.Millisecond // of the first backoff; random numbers are 0.5
	refuse := func(head string) func(*peer) { return answer("HTTP/1.1 " + head + "\r\nContent-Length: 0\r\n\r\n") }
	reset := func(s *peer) { _ = s.conn.(*net.TCPConn).SetLinger(0) }
	send := func(b ...byte) func(*peer) {
		return afterwards(func(s *peer) {
			s.write(b)
			hold(s)
		})
	}
	silent := []string{"idle: open", "waiting-pong: interval", "retry-pending: no pong", "backoff: no pong"}
	asked := []string{"connecting: retry", "retry-pending: open", "idle: pong"} // after a line that missed pongs
	back := []string{"connecting: retry", "idle: open"}
	for _, c := range []struct {
		name   string
		server func(*peer)
		states []string      // up to the first that waits, or the end
		wait   time.Duration // from there to the next attempt
		then   []string      // nil: not waited for
		status int           // of the error, with which it ends
	}{
		{"never completes the upgrade", func(s *peer) { s.request(); hold(s) }, []string{"backoff: connect timeout"}, window, back, 0},
		{"half an answer", answer("HTTP/1.1 101 Switching Pro"), []string{"backoff: connect timeout"}, window, back, 0},
		{"an interim answer, then nothing", answer("HTTP/1.1 103 Early Hints\r\n\r\n"), []string{"backoff: connect timeout"}, window, back, 0},
		{"closes at once", func(*peer) {}, []string{"backoff: error"}, window, back, 0},
		{"resets at once", reset, []string{"backoff: error"}, window, back, 0},
		{"closes after the request", func(s *peer) { s.request() }, []string{"backoff: error"}, window, back, 0},
		{"401", refuse("401 Unauthorized"), []string{"closed: status 401"}, 0, nil, 401},
		{"403", refuse("403 Forbidden"), []string{"closed: status 403"}, 0, nil, 403},
		{"429 with Retry-After", refuse("429 Too Many Requests\r\nRetry-After: 7"), []string{"backoff: status 429"}, 10500 * time.Millisecond, nil, 429},
		{"503 with Retry-After", refuse("503 Service Unavailable\r\nRetry-After: 1"), []string{"backoff: status 503"}, 1500 * time.Millisecond, back, 0},
		{"503 without", refuse("503 Service Unavailable"), []string{"backoff: status 503"}, window, back, 0},
		{"closes after the handshake", afterwards(func(*peer) {}), []string{"idle: open", "backoff: error"}, window, back, 0},
		{"resets after the handshake", afterwards(reset), []string{"idle: open", "backoff: error"}, window, back, 0},
		{"half a frame, then nothing", send(0x81, 10, 'a', 'b'), silent, window, asked, 0},
		{"half a header, then nothing", send(0x82, 126, 1), silent, window, asked, 0},
		{"half a frame, then the end", afterwards(func(s *peer) { s.write([]byte{0x81, 10, 'a'}) }), []string{"idle: open", "backoff: error"}, window, back, 0},
		{"silence", afterwards(hold), silent, window, asked, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Where nothing is asked, the heartbeat leaves time for a machine that is busy.
			heartbeat := Heartbeat{Interval: deadline}
			if slices.Contains(c.states, "backoff: no pong") {
				heartbeat = Heartbeat{Interval: 50 * time.Millisecond, Timeout: 500 * time.Millisecond, MinTimeout: 500 * time.Millisecond, Late: deadline}
			}
			o := &Options{Heartbeat: heartbeat, ConnectTimeout: deadline, Backoff: BackoffOptions{Min: window}, random: func() float64 { return 0.5 }}
			if c.states[0] == "backoff: connect timeout" {
				o.ConnectTimeout = 500 * time.Millisecond
			}
			states := watch(o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			type result struct {
				c   *Conn
				err error
			}
			dialled := make(chan result, 1)
			go func() {
				conn, err := Dial(ctx, listen(t, c.server, good), o)
				dialled <- result{conn, err}
			}()
			list := follow(t, states, append([]string{"connecting: start"}, c.states...)...)
			last, before := list[len(list)-1], list[len(list)-2]
			if c.wait > 0 {
				// The event came between the two transitions.
				if low, high := before.at.Add(c.wait-2*time.Millisecond), last.at.Add(c.wait); last.Due.Before(low) || last.Due.After(high) {
					t.Errorf("the next attempt is due %v after the last transition, want %v", last.Due.Sub(last.at), c.wait)
				}
			} else if !last.Due.IsZero() {
				t.Errorf("something is due %v after the end", last.Due.Sub(last.at))
			}
			if last.Err == nil {
				t.Error("the transition has no error")
			}
			if c.then == nil {
				cancel()
				r := <-dialled
				var refused *ws.HandshakeError
				if !errors.As(r.err, &refused) || refused.Status != c.status {
					t.Errorf("Dial: %v, want status %d", r.err, c.status)
				}
				var end *CloseError
				if errors.As(r.err, &end) != (c.wait == 0) {
					t.Errorf("Dial: %v, want a CloseError: %v", r.err, c.wait == 0)
				}
				return
			}
			follow(t, states, c.then...)
			r := <-dialled
			if r.err != nil {
				t.Fatal(r.err)
			}
			write(t, r.c, "hello")
			read(t, r.c, "hello")
			if err := r.c.Close(ctx, 0, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFloods has servers send over TCP what nobody asked for: none of it is taken for an answer, and no message is lost,
// though the inbox holds four.
func TestFloods(t *testing.T) {
	const many = 20_000
	for _, c := range []struct {
		name  string
		flood func(s *peer)
		read  int // messages
	}{
		{"pongs", func(s *peer) {
			for i := range many {
				s.write(ws.AppendFrame(nil, ws.Server, ws.OpPong, fmt.Append(nil, i), [4]byte{}))
			}
		}, 0},
		{"pings", func(s *peer) {
			var b []byte
			for i := range many {
				b = ws.AppendFrame(b, ws.Server, ws.OpPing, fmt.Append(nil, i), [4]byte{})
			}
			s.write(b)
		}, 0},
		{"messages", func(s *peer) {
			for i := range many {
				s.send(ws.OpText, fmt.Sprint(i))
			}
		}, many},
		{"empty fragments", func(s *peer) {
			s.write([]byte{0x01, 0})
			for range many {
				s.write([]byte{0x00, 0})
			}
			s.write([]byte{0x80, 1, '0'})
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := &Options{Heartbeat: Heartbeat{Interval: deadline}, Inbox: 4}
			states := watch(o)
			conn, err := Dial(t.Context(), listen(t, afterwards(func(s *peer) {
				c.flood(s)
				s.send(ws.OpText, "the end")
				serveGood(s)
			})), o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.read {
				read(t, conn, fmt.Sprint(i))
			}
			read(t, conn, "the end")
			if got := conn.RTT(); got != 0 {
				t.Errorf("RTT is %v, want 0", got)
			}
			if err := conn.Close(t.Context(), 0, ""); err != nil {
				t.Error(err)
			}
			follow(t, states, "connecting: start", "idle: open", "closing: shut", "closed: close 1000")
		})
	}
}
