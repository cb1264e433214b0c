package longwire

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// Under a random load of clients that behave well, badly and not at all, and of senders from elsewhere, every
// conn that was opened is closed exactly once, with a cause, and nothing is left.
func TestRandomLoad(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		const clients, lives = 16, 25
		var r recorder
		blocking, small := echo("/blocking"), echo("/small")
		blocking.Blocking = true
		small.WriteQueue = 1000
		g := startGateway(t, Config{Tables: table, Loops: 2, MaxConns: 100, MaxMemory: -1, Workers: 4,
			Endpoints: []Endpoint{r.watch(echo("/echo")), r.watch(blocking), r.watch(small)}})
		addr := g.Addr().String()

		turns := make(chan struct{}, 64) // what clients do lets the senders do something
		var senders sync.WaitGroup
		for range 2 {
			senders.Go(func() {
				rnd := rand.New(rand.NewPCG(1, 2))
				payload := make([]byte, 2000)
				for range turns {
					r.mu.Lock()
					var c Conn
					if n := len(r.conns); n > 0 {
						c = r.conns[n-1-rnd.IntN(min(n, 30))] // some of them are over
					}
					r.mu.Unlock()
					if c == (Conn{}) {
						continue
					}
					switch rnd.IntN(20) {
					case 0:
						_ = c.Close(4000, "random")
					case 1:
						_ = c.Context()
					case 2:
						c.Go(func(context.Context) { _ = c.Send(ws.OpText, []byte("from the pool")) })
					case 3:
						_ = g.Broadcast("/small", ws.OpBinary, payload)
					default:
						_ = c.Send(ws.OpBinary, payload[:rnd.IntN(len(payload))])
					}
				}
			})
		}
		var handshakes atomic.Int64
		var wg sync.WaitGroup
		for k := range clients {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(k), 3))
				for range lives {
					if randomLife(t, rnd, addr, turns) {
						handshakes.Add(1)
					}
				}
			})
		}
		wg.Wait()
		close(turns)
		senders.Wait()
		drained := make(chan error, 1)
		go func() { drained <- g.Drain(context.Background(), 0) }()
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		r.settled(t)
		for id, causes := range r.ends {
			if causes[0].Kind == CauseUnknown || causes[0].Kind == CauseInternal {
				t.Errorf("conn %s: %v", id, causes[0])
			}
		}
		s := g.Stats()
		if s.Conns != 0 || s.Sockets != 0 || s.Partials != 0 || s.QueueBytes != 0 {
			t.Errorf("left: %d conns, %d sockets, %d partials, %d bytes in queues", s.Conns, s.Sockets, s.Partials, s.QueueBytes)
		}
		var ends uint64
		for _, n := range s.Closes {
			ends += n
		}
		if ends != s.Accepted-s.Passed {
			t.Errorf("%d ends, %d accepted, %d passed on: %v", ends, s.Accepted, s.Passed, s.Closes)
		}
		if n := uint64(len(r.conns)); n != s.Upgraded || n < uint64(handshakes.Load()) {
			t.Errorf("%d conns opened, %d upgraded, %d seen by clients", n, s.Upgraded, handshakes.Load())
		}
	})
}

// randomLife is one connection of a client; it reports whether the handshake succeeded.
func randomLife(t *testing.T, rnd *rand.Rand, addr string, turns chan<- struct{}) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("dial: %v", err)
		return false
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	end := func() {
		if rnd.IntN(2) == 0 {
			reset(c)
		} else {
			_ = c.Close()
		}
	}
	path := []string{"/echo", "/blocking", "/small"}[rnd.IntN(3)]
	req := requestFor(path, ws.Dial{Deflate: rnd.IntN(2) == 0})
	if rnd.IntN(10) == 0 {
		_, _ = c.Write(req[:rnd.IntN(len(req))])
		end()
		return false
	}
	if _, err := c.Write(req); err != nil {
		return false
	}
	if rnd.IntN(10) == 0 {
		end()
		return false
	}
	in := make([]byte, 32<<10)
	n, err := c.Read(in) // the head; what follows is read by whom it concerns
	if err != nil || n < 12 || string(in[9:12]) != "101" {
		t.Errorf("handshake: %q, %v", in[:n], err)
		return false
	}
	for k := range rnd.IntN(20) {
		turns <- struct{}{}
		var b []byte
		switch rnd.IntN(8) {
		case 0:
			b = frame(true, 0, ws.OpPing, "ping")
		case 1:
			b = append(frame(false, 0, ws.OpText, "a"), frame(true, 0, ws.OpContinuation, "b")...)
		case 2:
			b = frame(true, 0, ws.OpBinary, string(make([]byte, rnd.IntN(30_000))))
		case 3:
			b = frame(true, 0, ws.OpText, fmt.Sprint(k))
			b = b[:1+rnd.IntN(len(b)-1)] // and the next one makes nonsense of it
		default:
			b = frame(true, 0, ws.OpText, fmt.Sprint(k))
		}
		if _, err := c.Write(b); err != nil {
			return true
		}
		if rnd.IntN(3) > 0 {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = c.Read(in)
		}
	}
	switch rnd.IntN(4) {
	case 0:
		_, _ = c.Write(frame(true, 0, ws.OpClose, closePayload(1000, "")))
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // what came before may have eaten the close frame
		for err == nil {
			_, err = c.Read(in)
		}
	case 1:
		_, _ = c.Write([]byte{0xff, 0xff, 0xff})
	}
	end()
	return true
}
