package client

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/ws"
)

// lid is a machine that can be shut: its wall clock goes on while the clock of the bubble stands still.
type lid struct{ slept atomic.Int64 }

func (l *lid) sleep(d time.Duration) { l.slept.Add(int64(d)) }

func (l *lid) now() time.Time { return time.Now().Round(0).Add(time.Duration(l.slept.Load())) }

// TestSleep: a machine that was asleep asks its connection when it wakes up, and blames nobody.
func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := &lid{}
		c, s, network, l := connect(t, &Options{now: machine.now})
		start := time.Now()
		time.Sleep(12 * time.Second)
		machine.sleep(time.Hour)
		ping := s.next() // at the next look, and not after 30 s
		if got := time.Since(start); ping.Op != ws.OpPing || got != 15*time.Second {
			t.Fatalf("after %v: %v, want a ping after 15s", got, ping.Op)
		}
		l.want(t, "waiting-pong: wake")
		time.Sleep(40 * time.Millisecond)
		s.send(ws.OpPong, string(ping.Payload))
		l.want(t, "idle: pong")
		if got := c.RTT(); got != 40*time.Millisecond {
			t.Errorf("RTT is %v, want 40ms", got)
		}

		// Asleep while a pong is awaited: it is not missed. The line has not outlived this one.
		start = time.Now()
		s.next()
		l.want(t, "waiting-pong: interval")
		time.Sleep(500 * time.Millisecond)
		machine.sleep(time.Minute)
		s.next()
		l.want(t, "waiting-pong: wake")
		s.next()
		l.want(t, "retry-pending: no pong")
		if ev := s.next(); ev.Op != ws.OpClose || ev.Code != 4001 {
			t.Fatalf("the server got %v %v, want close 4001", ev.Op, ev.Code)
		}
		l.want(t, "backoff: no pong")
		if got := time.Since(start); got != 34*time.Second {
			t.Errorf("found out after %v, want the interval, the timeout on whose end it woke up, and two more: 34s", got)
		}
		_ = s.conn.Close()
		end(t, c, network.accept(t))
	})
}

// TestSleepBackoff: who wakes up waits no longer, unless the server has asked for that; and a time that the server has
// given passes in sleep too.
func TestSleepBackoff(t *testing.T) {
	for _, test := range []struct {
		name  string
		send  []byte
		sleep time.Duration
		want  time.Duration // after the loss of the connection, in the time that the machine was awake
		state string
	}{
		{"no advice", nil, time.Minute, 5 * time.Second, "connecting: wake"},
		{"advice", ws.AppendClose(nil, ws.Server, 1012, "retry after 100 s", [4]byte{}), 70 * time.Second, 80 * time.Second, "connecting: retry"},
		{"advice, slept through", ws.AppendClose(nil, ws.Server, 1012, "retry after 100 s", [4]byte{}), time.Hour, 5 * time.Second, "connecting: wake"},
		{"a clock that is slewed", nil, 2 * time.Second, 30 * time.Second, "connecting: retry"},
		{"a clock that is set back", nil, -time.Hour, 30 * time.Second, "connecting: retry"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				machine := &lid{}
				c, s, network, l := connect(t, &Options{now: machine.now, Backoff: BackoffOptions{Min: time.Minute, Max: time.Minute}})
				time.Sleep(6 * time.Second)
				if test.send != nil {
					s.write(test.send)
					s.next()
				}
				_ = s.conn.Close()
				synctest.Wait()
				start := time.Now()
				l.take()
				time.Sleep(time.Second)
				machine.sleep(test.sleep)
				s = network.accept(t)
				if got := time.Since(start); got != test.want {
					t.Errorf("back after %v, want %v", got, test.want)
				}
				l.want(t, test.state, "idle: open")
				end(t, c, s)
			})
		})
	}
}

// TestStopped: a program that was stopped, on a machine that was not, notices by looks that come late.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, network, l := connect(t, &Options{})
		look := func(late time.Duration) {
			c.mu.Lock()
			c.look(late)
			c.mu.Unlock()
			c.tell()
		}
		look(2 * time.Second) // a machine may be busy
		l.want(t)
		look(2001 * time.Millisecond)
		ping := s.next()
		l.want(t, "waiting-pong: wake")
		s.send(ws.OpPong, string(ping.Payload))
		l.want(t, "idle: pong")

		_ = s.conn.Close()
		l.want(t, "backoff: error")
		look(time.Minute) // is no reason to be back before the others
		l.want(t)
		end(t, c, network.accept(t))
	})
}

// TestNetwork: a program that knows of its network has its Conns wait for it.
func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		c, s, network, l := connect(t, &Options{Network: n})

		// A cable out for a moment. The line is not asked meanwhile, and what is written waits.
		n.SetOnline(false)
		n.SetOnline(false)
		l.want(t, "offline: offline")
		if !c.Open() {
			t.Error("not open, though the connection is there")
		}
		time.Sleep(10 * time.Minute)
		write(t, c, "queued")
		l.want(t)
		n.SetOnline(true)
		ping := s.next()
		l.want(t, "waiting-pong: online")
		s.send(ws.OpPong, string(ping.Payload))
		s.want(ws.OpText, "queued")
		l.want(t, "idle: pong")

		// A message says better than the network whether there is one.
		n.SetOnline(false)
		write(t, c, "queued too")
		s.send(ws.OpText, "here")
		s.want(ws.OpText, "queued too")
		read(t, c, "here")
		l.want(t, "offline: offline", "idle: message")
		n.SetOnline(false)
		s.send(ws.OpText, "still here")
		read(t, c, "still here")
		l.want(t, "offline: offline", "idle: message")
		n.SetOnline(true)
		s.next()
		s.send(ws.OpPong, "")
		l.want(t, "waiting-pong: online", "idle: pong")

		// Lost without a network: nothing is tried until it is back.
		n.SetOnline(false)
		_ = s.conn.Close()
		l.want(t, "offline: offline", "offline: error")
		if c.Open() {
			t.Error("open without a connection")
		}
		time.Sleep(time.Hour)
		l.want(t)
		at := time.Now()
		n.SetOnline(true)
		s = network.accept(t)
		if got := time.Since(at); got != 250*time.Millisecond {
			t.Errorf("back after %v, want half of 500ms", got)
		}
		l.want(t, "backoff: online", "connecting: retry", "idle: open")

		n.Wake()
		s.next()
		s.send(ws.OpText, "still here")
		read(t, c, "still here")
		l.want(t, "waiting-pong: wake", "idle: message")
		end(t, c, s)
		n.SetOnline(false) // of which nobody is left to hear
		l.want(t, "closing: shut", "closed: close 1000")
		if len(n.conns) != 0 {
			t.Errorf("the network has %d conns left", len(n.conns))
		}
	})
}

// TestNetworkDial: a Dial without a network tries once, for a program may be mistaken, and then waits for it.
func TestNetworkDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, network, l := &Network{}, make(pipes), &log{}
		n.SetOnline(false)
		dialled := make(chan *Conn)
		go func() {
			c, err := Dial(t.Context(), "ws://server.example", &Options{Network: n, NetDial: network.dial, OnState: l.note, random: func() float64 { return 0 }})
			if err != nil {
				t.Error(err)
			}
			dialled <- c
		}()
		_ = (<-network).Close()
		l.want(t, "connecting: start", "offline: error")
		time.Sleep(time.Hour)
		l.want(t)
		n.SetOnline(true)
		s := network.accept(t)
		c := <-dialled
		l.want(t, "backoff: online", "connecting: retry", "idle: open")
		end(t, c, s)
	})
}

// TestNetworkCallers: callers who contradict each other leave all Conns with what was said last.
func TestNetworkCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{}
		c, s, _, l := connect(t, &Options{Network: n, Heartbeat: Heartbeat{Mode: HeartbeatNone}})
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				for j := range 100 {
					n.SetOnline((i+j)%2 == 0)
				}
			})
		}
		callers.Wait()
		n.SetOnline(false)
		l.take()
		if got := c.State(); got != Offline {
			t.Errorf("state is %s, want offline", got)
		}
		end(t, c, s)
		if err := c.Write(t.Context(), ws.OpText, nil); !errors.As(err, new(*CloseError)) {
			t.Errorf("Write: %v", err)
		}
	})
}
