package fleet_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// large is a message of 64 KiB in a frame.
func large() []byte {
	b := make([]byte, 64<<10+10)
	copy(b, []byte{0x82, 127})
	binary.BigEndian.PutUint64(b[2:], 64<<10)
	return b
}

// TestReadsNothing has a server that sees the window of a client close.
func TestReadsNothing(t *testing.T) {
	for _, http := range []bool{false, true} {
		shut := make(chan int, 1)
		h := serve(t, func(_ int, c *net.TCPConn) {
			if !http {
				if _, err := upgrade(c); err != nil {
					return
				}
			}
			sent := 0
			for b := large(); sent < 1<<30; {
				_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				n, err := c.Write(b)
				if sent += n; errors.Is(err, os.ErrDeadlineExceeded) {
					break
				} else if err != nil {
					sent = -1
					break
				}
			}
			shut <- sent
			_, _ = io.Copy(io.Discard, c)
		})
		ctx := timeout(t)
		f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 1, ReadRate: -1, HTTP: http, Speak: func(fleet.Squad) fleet.Speaker { return &asker{} }})
		reach(t, ctx, f, 1, 1)
		select {
		case n := <-shut:
			if n < 0 || n >= 1<<30 {
				t.Errorf("the server sent %d bytes: the window did not close", n)
			}
		case <-ctx.Done():
			t.Fatal("the server neither sends nor waits")
		}
		// Of WebSocket's first bytes some may have come with the handshake.
		if c := f.Counts(); c.BytesIn > 64<<10 || c.Open != 1 {
			t.Errorf("%+v, want nothing read", c)
		}
		if err := f.Cut(ctx); err != nil {
			t.Fatal(err)
		}
		consistent(t, f)
	}
}

// TestReadsSlowly holds a conn to its rate, from above; that it is reached is a matter of time.
func TestReadsSlowly(t *testing.T) {
	const rate, want = 4 << 20, 3 << 20
	h := serve(t, func(_ int, c *net.TCPConn) {
		r, err := upgrade(c)
		if err != nil {
			return
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			for b := large(); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
		frames(r, func(op ws.Opcode) bool { return op != ws.OpClose })
		_ = c.Close()
		<-written
	})
	ctx := timeout(t)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 1, ReadRate: rate})
	begin := time.Now()
	reach(t, ctx, f, 1, 1)
	until(t, ctx, f, "bytes", func(c fleet.Counts) bool {
		// Two ticks ahead of time, a timer that is up to a tick early, and one read. The counts are older than the clock.
		most := int64((time.Since(begin)+3*loop.Tick).Seconds()*rate) + 64<<10
		if c.BytesIn > most {
			t.Fatalf("%d bytes by now, of at most %d", c.BytesIn, most)
		}
		return c.BytesIn >= want
	})
	// It ends in good order whatever is due: nobody waits for a slow reader's turn.
	if err := f.CloseAll(ctx, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	consistent(t, f)
}

// TestMute has clients that are deaf and dumb: the server's heartbeat finds them.
func TestMute(t *testing.T) {
	e := longwire.Plain("/ws")
	e.Heartbeat = longwire.Heartbeat{Ping: 200 * time.Millisecond, Timeout: 1500 * time.Millisecond}
	addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{e}})
	ctx := timeout(t)
	f := startFleet(t, fleet.Config{Target: addr, Conns: 10, Dial: ws.Dial{Target: "/ws"}})
	reach(t, ctx, f, 10, 10)
	muted := make(chan int, 10)
	err := f.Each(ctx, func(c fleet.Client) {
		if len(muted) < 4 {
			c.Mute()
			c.Say(ws.OpText, []byte("nobody hears this"))
			muted <- 1
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(muted))
	until(t, ctx, f, "the heartbeat", func(c fleet.Counts) bool { return c.Losses() == n })
	c := f.Counts()
	if c.Open != 10-n || len(c.Lost) != 1 {
		t.Errorf("%+v, want %d lost for one reason", c, n)
	}
	for why := range c.Lost {
		t.Logf("lost by the heartbeat: %s", why)
	}
	// A mute client that is told to close does so in good order.
	if err := f.Each(ctx, func(c fleet.Client) { c.Mute() }); err != nil {
		t.Fatal(err)
	}
	if err := f.CloseAll(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if c := f.Counts(); c.Closed != 10-n {
		t.Errorf("%+v, want %d closed", c, 10-n)
	}
	consistent(t, f)
}

// parrot says what it was told, and notes what its clients are.
type parrot struct {
	q     fleet.Squad
	heard map[int][]string
	gone  []int
	wrong []string
}

func (p *parrot) Opened(c fleet.Client) {
	c.Say(ws.OpText, []byte("a"))
	c.Say(ws.OpBinary, []byte("b"))
	c.Flush()
	if !c.Stands() {
		p.wrong = append(p.wrong, "gone after Flush")
	}
	c.Say(ws.OpText, []byte("c"))
}
func (p *parrot) Heard(c fleet.Client, op ws.Opcode, payload []byte) {
	if q, ok := p.q.Client(c.Number); !ok || q != c {
		p.wrong = append(p.wrong, "a client that is another by its number")
	}
	p.heard[c.Number] = append(p.heard[c.Number], op.String()+" "+string(payload))
	if string(payload) == "c" {
		c.Close()
		c.Say(ws.OpText, []byte("too late"))
		c.Close()
		if c.Stands() {
			p.wrong = append(p.wrong, "stands after Close")
		}
		if _, ok := p.q.Client(c.Number); ok {
			p.wrong = append(p.wrong, "found after Close")
		}
	}
}
func (p *parrot) Gone(n int) { p.gone = append(p.gone, n) }

func TestClient(t *testing.T) {
	addr := gateway(t, longwire.Config{Endpoints: []longwire.Endpoint{longwire.Echo("/echo")}})
	ctx := timeout(t)
	f := startFleet(t, fleet.Config{Target: addr, Conns: 9, Loops: 2, Dial: ws.Dial{Target: "/echo"},
		Speak: func(q fleet.Squad) fleet.Speaker { return &parrot{q: q, heard: make(map[int][]string)} }})
	f.Aim(9)
	until(t, ctx, f, "all closed", func(c fleet.Counts) bool { return c.Closed == 9 })
	seen := make(chan int, 9)
	err := f.Ask(ctx, func(s fleet.Speaker) {
		p := s.(*parrot)
		for _, w := range p.wrong {
			t.Error(w)
		}
		if p.q.Of() != 2 || len(p.gone) != p.q.Count {
			t.Errorf("squad %d of %d: %d clients are gone of %d", p.q.Index(), p.q.Of(), len(p.gone), p.q.Count)
		}
		for n, h := range p.heard {
			if len(h) != 3 || h[0] != ws.OpText.String()+" a" || h[1] != ws.OpBinary.String()+" b" || h[2] != ws.OpText.String()+" c" {
				t.Errorf("client %d heard %q", n, h)
			}
			seen <- n
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 9 {
		t.Errorf("%d clients heard something", len(seen))
	}
	if c := f.Counts(); len(c.Lost)+len(c.Failed) > 0 || c.Received != 27 {
		t.Errorf("%+v", c)
	}
	consistent(t, f)
}

// TestAlarmOfSquad has each squad ring by itself.
func TestAlarmOfSquad(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, polite)
	rung := make(chan int, 3)
	startFleet(t, fleet.Config{Target: h.Addr, Conns: 3, Loops: 3, Speak: func(q fleet.Squad) fleet.Speaker {
		q.SetAlarm(time.Hour, func() { t.Error("rung, though another was set instead") })
		q.SetAlarm(50*time.Microsecond, func() { rung <- q.Index() })
		return twice{}
	}})
	seen := make(map[int]bool)
	for range 3 {
		select {
		case n := <-rung:
			seen[n] = true
		case <-ctx.Done():
			t.Fatalf("rung by %v, want three squads", seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("rung by %v, want three squads", seen)
	}
}
