package longwire

import (
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// ahead is the real kernel with a clock that can be put forward.
type ahead struct {
	loop.System
	by atomic.Int64
}

func (a *ahead) Now() time.Duration { return a.System.Now() + time.Duration(a.by.Load()) }

// mallocs is the number of heap objects that f makes, everybody's.
func mallocs(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// few is what the runtime and the test's own goroutine may make while thousands of messages pass.
const few = 50

func exchange(t *testing.T, c net.Conn, out, in []byte) {
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, in); err != nil {
		t.Fatal(err)
	}
}

// A message costs no heap object: alone, in a batch, in pieces, compressed, as a ping.
func TestMessagesAllocateNothing(t *testing.T) {
	ep := echo("/echo")
	ep.CompressAbove = 1
	g := startGateway(t, Config{Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{ep}})
	text := make([]byte, 64)
	for i := range text {
		text[i] = 'a' + byte(i%7)
	}
	small := ws.AppendFrame(nil, ws.Client, ws.OpText, text, maskKey)
	var batch []byte
	for range 16 {
		batch = append(batch, small...)
	}
	echoed := len(ws.AppendFrame(nil, ws.Server, ws.OpText, text, [4]byte{}))
	large := ws.AppendFrame(nil, ws.Client, ws.OpBinary, make([]byte, 20_000), maskKey)
	for _, x := range []struct {
		name     string
		deflate  bool
		out      []byte
		in       int
		messages int
	}{
		{"64 bytes", false, small, echoed, 1},
		{"16 at a time", false, batch, 16 * echoed, 16},
		{"20,000 bytes", false, large, 20_004, 1},
		{"ping", false, ws.AppendFrame(nil, ws.Client, ws.OpPing, text, maskKey), echoed, 1},
		{"compressed", true, ws.AppendCompressed(nil, ws.Client, ws.OpText, text, 15, maskKey), len(ws.AppendCompressed(nil, ws.Server, ws.OpText, text, 15, [4]byte{})), 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			if raceEnabled && (x.deflate || len(x.out) > 10_000) {
				t.Skip("under the race detector pools drop what they like")
			}
			c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{Deflate: x.deflate})
			in := make([]byte, x.in)
			rounds := 4000 / x.messages
			for range 50 {
				exchange(t, c, x.out, in)
			}
			if n := mallocs(func() {
				for range rounds {
					exchange(t, c, x.out, in)
				}
			}); n > few {
				t.Errorf("%d heap objects for %d messages", n, rounds*x.messages)
			}
		})
	}
}

// A message that arrives in two packets waits in a buffer that is lent.
func TestSplitMessagesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector pools drop what they like")
	}
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	f := frame(true, 0, ws.OpText, "in two pieces")
	one := func() {
		p.Write(f[:8])
		w.sys.Settle()
		p.Write(f[8:])
		_ = p.Read()
	}
	base := mallocs(func() {
		for range 1000 {
			p.Write(f)
			_ = p.Read()
		}
	})
	one()
	if n := mallocs(func() {
		for range 1000 {
			one()
		}
	}); n > 2*base+few { // the fake kernel's own, for two writes
		t.Errorf("%d heap objects for 1000 messages in two pieces, %d in one", n, base)
	}
}

// A message from elsewhere costs no heap object either.
func TestSendAllocatesNothing(t *testing.T) {
	var r recorder
	g := startGateway(t, Config{Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{r.watch(echo("/echo"))}})
	c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
	c.Echoes()
	conn := r.last()
	payload := make([]byte, 100)
	in := make([]byte, 102)
	one := func() {
		if err := conn.Send(ws.OpBinary, payload); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		one()
	}
	if n := mallocs(func() {
		for range 4000 {
			one()
		}
	}); n > few {
		t.Errorf("%d heap objects for 4000 messages", n)
	}
}

// A heartbeat, ping and pong, costs no heap object.
func TestHeartbeatsAllocateNothing(t *testing.T) {
	const conns = 50
	real, err := loop.NewSystem()
	if err != nil {
		t.Fatal(err)
	}
	clock := &ahead{System: real}
	g := startGateway(t, Config{Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{echo("/echo")}, system: clock})
	var clients []net.Conn
	for range conns {
		c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
		c.Echoes()
		clients = append(clients, c)
	}
	waker := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
	pong := frame(true, 0, ws.OpPong, "")
	in := make([]byte, 2)
	pongs := uint64(0)
	round := func() {
		for g.counters[0].pongs.Load() != pongs { // what is heard after the clock moved counts as heard then
			runtime.Gosched()
		}
		pongs += conns + 1
		clock.by.Add(int64(26 * time.Second))
		_, _ = waker.Write(pong) // wakes the loop, which sees what time it is
		for _, c := range clients {
			if _, err := io.ReadFull(c, in); err != nil || in[0] != 0x89 {
				t.Fatalf("got % x, %v; want a ping", in, err)
			}
			if _, err := c.Write(pong); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		round()
	}
	before := g.Stats().Pings
	const rounds = 40
	n := mallocs(func() {
		for range rounds {
			round()
		}
	})
	if got := g.Stats().Pings - before; got < conns*rounds {
		t.Errorf("%d pings, want %d", got, conns*rounds)
	}
	if n > few {
		t.Errorf("%d heap objects for %d heartbeats", n, conns*rounds)
	}
	if got := g.Stats().Closes; len(got) != 0 {
		t.Errorf("closes: %v", got)
	}
}
