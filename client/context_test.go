package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/ws"
)

// TestDialCancelled ends a Dial wherever it may stand, over TCP: it returns, and leaves no goroutine.
func TestDialCancelled(t *testing.T) {
	reached := make(chan struct{}, 1)
	at := func() {
		select {
		case reached <- struct{}{}:
		default:
		}
	}
	for _, c := range []struct {
		name   string
		scheme string
		server func(*peer)
		o      Options
	}{
		{"connecting", "ws", hold, Options{NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			at()
			<-ctx.Done()
			return nil, ctx.Err()
		}}},
		{"the handshake of TLS", "wss", func(s *peer) {
			_, _ = s.conn.Read(make([]byte, 1))
			at()
			hold(s)
		}, Options{TLS: &tls.Config{InsecureSkipVerify: true}}},
		{"the upgrade", "ws", func(s *peer) { s.request(); at(); hold(s) }, Options{}},
		{"hello", "ws", good, Options{Hello: func(ctx context.Context) (ws.Opcode, []byte, error) {
			at()
			<-ctx.Done()
			return 0, nil, ctx.Err()
		}}},
		{"backoff", "ws", func(*peer) {}, Options{Backoff: BackoffOptions{Min: time.Hour, Max: time.Hour}, random: func() float64 { return 1 },
			OnState: func(t Transition) {
				if t.To == Backoff {
					at()
				}
			}}},
		{"melted", "ws", func(*peer) {}, Options{Fuse: Fuse{Failures: 1, CoolDown: time.Hour}, OnState: func(t Transition) {
			if t.To == Melted {
				at()
			}
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := c.scheme + strings.TrimPrefix(listen(t, c.server), "ws")
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() {
				_, err := Dial(ctx, url, &c.o)
				result <- err
			}()
			select {
			case <-reached:
			case <-time.After(deadline):
				t.Fatal("it does not get there")
			}
			cancel()
			select {
			case err := <-result:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Dial: %v, want %v", err, context.Canceled)
				}
			case <-time.After(deadline):
				t.Fatal("Dial goes on")
			}
			if !leaktest.Settles(before) {
				t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		})
	}
}

// TestContextsOnSockets: what is cancelled leaves the connection as it was, and messages are neither lost nor sent in
// part, unless the frame was on its way.
func TestContextsOnSockets(t *testing.T) {
	midway, proceed := make(chan struct{}), make(chan struct{})
	o := &Options{Backoff: BackoffOptions{Min: time.Millisecond}, Heartbeat: Heartbeat{Mode: HeartbeatNone}}
	states := watch(o)
	c, err := Dial(t.Context(), listen(t, afterwards(func(s *peer) {
		for range 3 {
			ev := s.next()
			s.send(ev.Op, string(ev.Payload))
		}
		if _, err := s.conn.Read(make([]byte, 1)); err == nil {
			close(midway)
		}
		<-proceed // and nothing more is read
	}), good), o)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, states, "connecting: start", "idle: open")

	// A Read that is cancelled while it waits, and one that is over before: the message that comes afterwards is there.
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, _, err := c.Read(ctx)
		result <- err
	}()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v, want %v", err, context.Canceled)
	}
	write(t, c, "one")
	if _, _, err := c.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v, want %v", err, context.Canceled)
	}
	read(t, c, "one")
	if err := c.Write(ctx, ws.OpText, []byte("never")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write: %v, want %v", err, context.Canceled)
	}
	write(t, c, "two")
	read(t, c, "two")
	write(t, c, "three")
	read(t, c, "three")

	// A Write in the middle of a frame that the kernel has no room for, and one behind it that waits for its turn. That one
	// can be taken back; the other is the connection's end, and another connection follows.
	big := make([]byte, 24<<20)
	firstCtx, cancelFirst := context.WithCancel(t.Context())
	defer cancelFirst()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.Write(firstCtx, ws.OpBinary, big) }()
	select {
	case <-midway:
	case <-time.After(deadline):
		t.Fatal("nothing of the frame comes")
	}
	secondCtx, cancelSecond := context.WithCancel(t.Context())
	go func() { second <- c.Write(secondCtx, ws.OpText, []byte("never")) }()
	cancelSecond()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the second Write: %v, want %v", err, context.Canceled)
	}
	select {
	case s := <-states:
		t.Fatalf("%v, with nothing wrong", s)
	default:
	}
	cancelFirst()
	err = <-first
	close(proceed)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "in the middle of a frame") {
		t.Errorf("the first Write: %v, want %v in the middle of a frame", err, context.Canceled)
	}
	follow(t, states, "backoff: error", "connecting: retry", "idle: open")
	write(t, c, "back")
	read(t, c, "back")
	if err := c.Close(t.Context(), 0, ""); err != nil {
		t.Error(err)
	}
}

// hooked is a connection that calls a function behind each of its writes.
type hooked struct {
	net.Conn
	wrote func()
}

func (h *hooked) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	h.wrote()
	return n, err
}

// TestLeaveBehindWrite leaves a connection, and cancels a Write, in the moment in which the network has taken its frame:
// the close frame follows all the same.
func TestLeaveBehindWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := make(pipes)
		h := &hooked{wrote: func() {}}
		o := &Options{NetDial: func(ctx context.Context, n, address string) (net.Conn, error) {
			conn, err := network.dial(ctx, n, address)
			h.Conn = conn
			return h, err
		}}
		peers := make(chan *peer)
		go func() { peers <- network.accept(t) }()
		c, err := Dial(t.Context(), "ws://server.example", o)
		if err != nil {
			t.Fatal(err)
		}
		s := <-peers
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.wrote = func() {
			h.wrote = func() {}
			c.Reconnect(time.Hour)
			cancel()
			synctest.Wait() // what the end of ctx does is done
		}
		go func() { _ = c.Write(ctx, ws.OpText, []byte("the last")) }()
		s.want(ws.OpText, "the last")
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 1000 {
			t.Errorf("the server got %v %v, want close 1000", ev.Op, ev.Code)
		}
		_ = s.conn.Close()
		if err := c.Close(t.Context(), 0, ""); err != nil {
			t.Error(err)
		}
	})
}

// TestGoroutines holds a Conn to the one goroutine, and the one timer, that the package's comment promises.
func TestGoroutines(t *testing.T) {
	const conns = 50
	network := make(pipes)
	before := runtime.NumGoroutine()
	list := make([]*Conn, 0, conns)
	peers := make([]*peer, 0, conns)
	for range conns {
		peered := make(chan *peer)
		go func() { peered <- network.accept(t) }()
		c, err := Dial(t.Context(), "ws://server.example", &Options{NetDial: network.dial})
		if err != nil {
			t.Fatal(err)
		}
		list, peers = append(list, c), append(peers, <-peered)
	}
	if !leaktest.Settles(before + conns) {
		t.Errorf("%d goroutines for %d conns", runtime.NumGoroutine()-before, conns)
	}
	for i, c := range list {
		c.mu.Lock()
		if c.busy != 2 { // the goroutine and the timer
			t.Errorf("busy is %d, want 2", c.busy)
		}
		c.mu.Unlock()
		go func() {
			peers[i].next()
			peers[i].write(ws.AppendClose(nil, ws.Server, 1000, "", [4]byte{}))
			_, _ = io.Copy(io.Discard, peers[i].conn)
			_ = peers[i].conn.Close()
		}()
		if err := c.Close(t.Context(), 0, ""); err != nil {
			t.Error(err)
		}
		if c.busy != 0 || c.timer.Stop() {
			t.Errorf("after Close busy is %d, or a timer runs", c.busy)
		}
	}
	if !leaktest.Settles(before) {
		t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
	}
}
