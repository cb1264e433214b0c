package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// consistent has each conn that was dialled counted once. It is for when nothing is under way.
func consistent(t *testing.T, f *fleet.Fleet) {
	t.Helper()
	if c := f.Counts(); c.Dialled != c.Open+c.Pending+c.Failures()+c.Losses()+c.Closed || c.Open < 0 || c.Pending < 0 {
		t.Errorf("%d dialled, but %+v", c.Dialled, c)
	}
}

// reach aims at a level, again and again, until so many stand and nothing is under way.
func reach(t *testing.T, ctx context.Context, f *fleet.Fleet, aim, want int) {
	t.Helper()
	until(t, ctx, f, fmt.Sprintf("aimed at %d", aim), func(c fleet.Counts) bool {
		f.Aim(aim)
		return c.Open == int64(want) && c.Pending == 0
	})
	if n := standing(t, ctx, f); n != want {
		t.Fatalf("aimed at %d: %d stand, want %d", aim, n, want)
	}
	consistent(t, f)
}

func standing(t *testing.T, ctx context.Context, f *fleet.Fleet) int {
	t.Helper()
	var n atomic.Int64
	if err := f.Each(ctx, func(fleet.Client) { n.Add(1) }); err != nil {
		t.Fatal(err)
	}
	return int(n.Load())
}

func startFleet(t *testing.T, c fleet.Config) *fleet.Fleet {
	t.Helper()
	if c.Log == nil {
		c.Log = quiet()
	}
	f := newFleet(t, c)
	if err := f.Start(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAim(t *testing.T) {
	for _, loops := range []int{1, 3} {
		for _, refill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d loops, refill %t", loops, refill), func(t *testing.T) {
				ctx := timeout(t)
				h := serve(t, polite)
				f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 50, Loops: loops, Refill: refill, Pending: 10})
				for _, s := range []struct{ aim, want int }{{30, 30}, {10, 10}, {50, 50}, {11, 11}, {90, 50}, {0, 0}, {1, 1}, {-5, 0}, {20, 20}} {
					reach(t, ctx, f, s.aim, s.want)
				}
				c := f.Counts()
				if c.Closed != c.Opened-20 || len(c.Failed)+len(c.Lost) > 0 {
					t.Errorf("%+v: want all closed but 20", c)
				}
				if !refill && c.Dialled != 30+40+39+1+20 {
					t.Errorf("%d dialled, want each level's rise and no more", c.Dialled)
				}
				if err := f.CloseAll(ctx, 0); err != nil {
					t.Fatal(err)
				}
				consistent(t, f)
			})
		}
	}
}

// TestAimShares has each level split over loops: no conn is lost to rounding, and loops are filled a few at a time.
func TestAimShares(t *testing.T) {
	active := runtime.GOMAXPROCS(0)
	for loops := 1; loops <= 7; loops++ {
		for conns := loops; conns <= 12; conns++ {
			f := newFleet(t, fleet.Config{Target: netip.MustParseAddrPort("127.0.0.1:1"), Conns: conns, Loops: loops, Log: quiet()})
			for n := -1; n <= conns+3; n++ {
				f.Aim(n)
				aims, each := f.Shares()
				sum, full := int64(0), true // full: all groups before are
				for begin := 0; begin < loops; begin += active {
					here, most := int64(0), int64(0)
					low, high := int64(1<<62), int64(0)
					for i := begin; i < min(loops, begin+active); i++ {
						if aims[i] < 0 || aims[i] > each[i] {
							t.Fatalf("%d of %d conns on loops of %v: %v", n, conns, each, aims)
						}
						here, most = here+aims[i], most+each[i]
						low, high = min(low, aims[i]), max(high, aims[i])
					}
					if here > 0 && !full || high-low > 1 {
						t.Fatalf("%d of %d conns on loops of %v, %d at a time: %v", n, conns, each, active, aims)
					}
					full = here == most
					sum += here
				}
				if want := int64(min(max(0, n), conns)); sum != want {
					t.Fatalf("%d of %d conns on loops of %v: %v, which is %d", n, conns, each, aims, sum)
				}
			}
		}
	}
}

// TestAimWithoutHaste has a level fall and rise while what was told to close does not: it is neither told again nor
// counted on.
func TestAimWithoutHaste(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, deaf)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 20, Loops: 1, Refill: true})
	reach(t, ctx, f, 20, 20)
	for range 5 {
		f.Aim(15)
		if n := standing(t, ctx, f); n != 15 {
			t.Fatalf("%d stand, want 15", n)
		}
	}
	for _, n := range []int{14, 20} {
		until(t, ctx, f, "a level while some close", func(c fleet.Counts) bool {
			f.Aim(n)
			return c.Pending == 0 && standing(t, ctx, f) == n
		})
	}
	if c := f.Counts(); c.Dialled != 26 || c.Open != 26 {
		t.Errorf("%+v: want 20 that stand, and 6 that close", c)
	}
}

// TestAimAtFullSlots has a level fall and rise, told once each, while the loop has no slot but those of conns that close.
func TestAimAtFullSlots(t *testing.T) {
	ctx := timeout(t)
	let := make(chan struct{})
	h := serve(t, func(_ int, c *net.TCPConn) {
		r, err := upgrade(c)
		if err != nil {
			return
		}
		frames(r, func(op ws.Opcode) bool { return op != ws.OpClose })
		<-let
	})
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 8, Loops: 1})
	reach(t, ctx, f, 8, 8)
	f.Aim(3)
	f.Aim(8)
	if n := standing(t, ctx, f); n != 3 {
		t.Errorf("%d stand, want 3: five close still", n)
	}
	close(let)
	until(t, ctx, f, "eight", func(c fleet.Counts) bool { return c.Open == 8 && c.Pending == 0 && c.Closed == 5 })
}

// TestRefill has conns that are over replaced, and only with Refill.
func TestRefill(t *testing.T) {
	for _, refill := range []bool{false, true} {
		ctx := timeout(t)
		h := serve(t, polite)
		f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 40, Loops: 2, Refill: refill})
		reach(t, ctx, f, 40, 40)
		n, err := f.CutShare(ctx, 0.25)
		if err != nil || n != 10 {
			t.Fatalf("%d cut, %v; want 10", n, err)
		}
		if refill {
			// At once: nobody calls Aim.
			until(t, ctx, f, "refilled", func(c fleet.Counts) bool { return c.Open == 40 && c.Opened == 50 })
		} else {
			f.Aim(40)
			until(t, ctx, f, "cut", func(c fleet.Counts) bool { return c.Open == 30 && c.Pending == 0 })
			if c := f.Counts(); c.Dialled != 40 {
				t.Errorf("%d dialled, want 40", c.Dialled)
			}
		}
		consistent(t, f)
	}
}

func TestCutShare(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, polite)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 100, Loops: 1})
	reach(t, ctx, f, 100, 100)
	left := int64(100)
	for _, s := range []struct {
		share float64
		want  int64
	}{{0, 0}, {0.1, 10}, {1.0 / 3, 30}, {0.5, 30}, {0.01, 0}, {1, 30}, {1, 0}} {
		n, err := f.CutShare(ctx, s.share)
		if err != nil || n != s.want {
			t.Fatalf("%d of %d cut for %v, %v; want %d", n, left, s.share, err, s.want)
		}
		left -= n
		until(t, ctx, f, "cut", func(c fleet.Counts) bool { return c.Open == left && c.Closed == 100-left })
	}
	consistent(t, f)
}

// TestAimWithRate bounds how fast a level is reached, and reaches it.
func TestAimWithRate(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, polite)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 40, Loops: 2, Rate: 100})
	begin := time.Now()
	f.Aim(0)
	reach(t, ctx, f, 40, 40)
	// A lower bound only: a slow machine may take longer.
	if d := time.Since(begin); d < 390*time.Millisecond {
		t.Errorf("40 conns at 100 a second after %v, want at least 0.4 s", d)
	}
}

// TestNoHammering has servers that let nobody stand tried at most once a tick for each conn that is wanted.
func TestNoHammering(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().(*net.TCPAddr).AddrPort()
	_ = ln.Close()
	closing := func(int, *net.TCPConn) {}
	brief := func(_ int, c *net.TCPConn) { _, _ = upgrade(c) }
	rude := func(_ int, c *net.TCPConn) { _, _ = c.Write([]byte("garbage\r\n")) }
	busy := func(_ int, c *net.TCPConn) {
		if _, _, err := head(c); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 503 Busy\r\n\r\n"))
		}
	}
	for _, s := range []struct {
		name string
		c    fleet.Config
	}{
		{"refused", fleet.Config{Target: nobody}},
		{"503", fleet.Config{Target: serve(t, busy).Addr}},
		{"closed at once", fleet.Config{Target: serve(t, closing).Addr}},
		{"closed after the handshake", fleet.Config{Target: serve(t, brief).Addr}},
		{"HTTP, garbage", fleet.Config{Target: serve(t, rude).Addr, HTTP: true, Speak: func(fleet.Squad) fleet.Speaker { return &asker{} }}},
		{"HTTP, closed at once", fleet.Config{Target: serve(t, closing).Addr, HTTP: true, Speak: func(fleet.Squad) fleet.Speaker { return &asker{} }}},
	} {
		t.Run(s.name, func(t *testing.T) {
			ctx := timeout(t)
			s.c.Conns, s.c.Loops, s.c.Refill = 25, 1, true
			begin := time.Now() // before the loop's own time begins
			f := startFleet(t, s.c)
			until(t, ctx, f, "attempts", func(c fleet.Counts) bool { f.Aim(25); return c.Dialled > 75 })
			if d := time.Since(begin); d < 3*loop.Tick {
				t.Errorf("more than 75 attempts for 25 conns within %v", d)
			}
			f.Aim(0)
			until(t, ctx, f, "the end", func(c fleet.Counts) bool { return c.Open == 0 && c.Pending == 0 })
			consistent(t, f)
		})
	}
}

// TestClosingServer has a server that ends each conn after two messages: conns come back, never more than wanted.
func TestClosingServer(t *testing.T) {
	ctx := timeout(t)
	var now, most atomic.Int64
	h := serve(t, func(_ int, c *net.TCPConn) {
		r, err := upgrade(c)
		if err != nil {
			return
		}
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		heard := 0
		frames(r, func(ws.Opcode) bool { heard++; return heard < 2 })
		now.Add(-1)
	})
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 6, Loops: 2, Refill: true, Speak: func(fleet.Squad) fleet.Speaker { return twice{} }})
	f.Aim(6)
	until(t, ctx, f, "40 conns", func(c fleet.Counts) bool { f.Aim(6); return c.Opened >= 40 })
	f.Aim(0)
	until(t, ctx, f, "the end", func(c fleet.Counts) bool { return c.Open == 0 && c.Pending == 0 })
	consistent(t, f)
	if most.Load() > 6+1 { // the server learns of an end after the client
		t.Errorf("%d conns at a time, want 6", most.Load())
	}
}

// twice says two things as soon as it may.
type twice struct{}

func (twice) Opened(c fleet.Client) {
	c.Say(ws.OpText, []byte("one"))
	c.Say(ws.OpText, []byte("two"))
}
func (twice) Heard(fleet.Client, ws.Opcode, []byte) {}
func (twice) Gone(int)                              {}

// caller opens as many conns as its level, one with each ring of its alarm.
type caller struct {
	q       fleet.Squad
	level   int
	alive   map[int]bool // numbers that have a conn
	refused int          // times that every client had one
	faults  []string
}

func (s *caller) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *caller) Level(n int) {
	s.level = n
	s.ring()
}

func (s *caller) ring() {
	if len(s.alive) < s.level {
		n, err := s.q.Dial()
		switch {
		case errors.Is(err, fleet.ErrNoClient):
			s.refused++
			return
		case err != nil:
			s.fault("dial: %v", err)
		case s.alive[n] || n < s.q.First || n >= s.q.First+s.q.Count:
			s.fault("client %d of %d to %d, taken: %t", n, s.q.First, s.q.First+s.q.Count, s.alive[n])
		default:
			s.alive[n] = true
		}
		s.q.SetAlarm(100*time.Microsecond, s.ring)
		return
	}
	for n := range s.alive {
		if len(s.alive) == s.level {
			break
		}
		if c, ok := s.q.Client(n); ok {
			if c.Number != n || !c.Stands() {
				s.fault("client %d is %+v", n, c)
			}
			if c.Close(); c.Stands() {
				s.fault("client %d stands after Close", n)
			}
			delete(s.alive, n)
		}
	}
	if len(s.alive) > s.level {
		s.q.SetAlarm(time.Millisecond, s.ring)
	}
}

func (s *caller) Opened(c fleet.Client) {
	if !s.alive[c.Number] || !c.Stands() {
		s.fault("client %d stands, and did not dial", c.Number)
	}
}
func (s *caller) Heard(fleet.Client, ws.Opcode, []byte) {}
func (s *caller) Gone(n int) {
	delete(s.alive, n)
	if _, ok := s.q.Client(n); ok {
		s.fault("client %d is gone and stands", n)
	}
}

func TestOnDemand(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, polite)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 21, Loops: 2, OnDemand: true,
		Speak: func(q fleet.Squad) fleet.Speaker { return &caller{q: q, alive: make(map[int]bool)} }})
	if f.Loops() != 2 {
		t.Fatalf("%d loops", f.Loops())
	}
	for _, n := range []int{5, 21, 2, 20, 0, 7} {
		f.Aim(n)
		until(t, ctx, f, fmt.Sprintf("level %d", n), func(c fleet.Counts) bool { return c.Open == int64(n) && c.Pending == 0 })
		if got := standing(t, ctx, f); got != n {
			t.Errorf("%d stand, want %d", got, n)
		}
		consistent(t, f)
	}
	// Beyond its clients a squad has none to open a conn.
	err := f.Ask(ctx, func(s fleet.Speaker) { s.(*caller).Level(100) })
	if err != nil {
		t.Fatal(err)
	}
	until(t, ctx, f, "all", func(c fleet.Counts) bool { return c.Open == 21 })
	until(t, ctx, f, "a refusal each", func(fleet.Counts) bool {
		var refused atomic.Int64
		if err := f.Ask(ctx, func(s fleet.Speaker) { refused.Add(int64(min(1, s.(*caller).refused))) }); err != nil {
			t.Fatal(err)
		}
		return refused.Load() == 2
	})
	faults := make(chan string, 100)
	_ = f.Ask(ctx, func(s fleet.Speaker) {
		for _, w := range s.(*caller).faults {
			faults <- w
		}
	})
	for len(faults) > 0 {
		t.Error(<-faults)
	}
	if c := f.Counts(); c.Dialled > 21+14+18+14+21+60 || len(c.Lost)+len(c.Failed) > 0 {
		t.Errorf("%+v", c)
	}
}

// moody is a server of WebSocket that does anything at all, which n decides.
func moody(n int, c *net.TCPConn) {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	switch r.IntN(8) {
	case 0: // it closes
		return
	case 1:
		_ = c.SetLinger(0)
		return
	case 2:
		if _, _, err := head(c); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 503 Busy\r\n\r\n"))
		}
		return
	case 3:
		_, _ = c.Write([]byte("garbage\r\n"))
		return
	}
	b, err := upgrade(c)
	if err != nil {
		return
	}
	switch r.IntN(6) {
	case 0: // no closing handshake
	case 1:
		_, _ = c.Write([]byte{0x88, 2, 3, 233})
	case 2:
		_, _ = c.Write([]byte{0xff, 0xff})
	case 3:
		_, _ = c.Write([]byte{0x01, 5, 'h'}) // and no more
		_ = c.SetLinger(0)
	default:
		patience := 1 + r.IntN(20)
		frames(b, func(op ws.Opcode) bool {
			if op == ws.OpClose {
				_, _ = c.Write([]byte{0x88, 2, 3, 232})
				return false
			}
			patience--
			return patience > 0
		})
	}
}

// TestCountsAddUp does random things to fleets of a moody server. At rest each conn is counted once.
func TestCountsAddUp(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { t.Parallel(); addUp(t, seed) })
	}
}

func addUp(t *testing.T, seed uint64) {
	ctx := timeout(t)
	r := rand.New(rand.NewPCG(seed, 1))
	h := serve(t, moody)
	c := fleet.Config{Target: h.Addr, Conns: 30, Loops: 1 + int(seed)%3, Refill: seed%2 == 0, Pending: 8, Dial: ws.Dial{Deflate: seed == 3}}
	if seed >= 3 {
		c.Speak = func(fleet.Squad) fleet.Speaker { return twice{} }
	}
	f := startFleet(t, c)
	for range 40 {
		before := f.Counts().Dialled
		level := r.IntN(40)
		f.Aim(level)
		switch r.IntN(5) {
		case 0:
			if _, err := f.CutShare(ctx, r.Float64()); err != nil {
				t.Fatal(err)
			}
		case 1:
			x := r.Uint64() | 1 // not r: each loop calls
			var n atomic.Uint64
			err := f.Each(ctx, func(c fleet.Client) {
				switch (n.Add(1) * x >> 20) % 5 {
				case 0:
					c.Close()
				case 1:
					c.Mute()
				case 2:
					c.Say(ws.OpBinary, make([]byte, 100))
					c.Flush()
				case 3:
					c.Say(ws.OpText, []byte("x"))
					c.Close()
					c.Close()
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		default:
			// Until something happened, for a tick at most: with conns that nobody refills nothing may.
			tick := time.NewTicker(time.Millisecond)
			for range int(loop.Tick / time.Millisecond) {
				if f.Counts().Dialled > before+5 {
					break
				}
				f.Aim(level)
				<-tick.C
			}
			tick.Stop()
		}
	}
	if seed != 5 {
		f.Aim(0)
		until(t, ctx, f, "the end", func(c fleet.Counts) bool { return c.Open == 0 && c.Pending == 0 })
		consistent(t, f)
	}
	// In the middle of it all, the end of the loops is one too.
	f.Aim(30)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := f.Counts(); got.Open != 0 || got.Pending != 0 || got.Dialled < 100 {
		t.Errorf("after Close: %+v", got)
	}
	consistent(t, f)
}

func TestSources(t *testing.T) {
	ctx := timeout(t)
	h := serve(t, polite)
	a, b := netip.MustParseAddr("127.3.0.1"), netip.MustParseAddr("127.3.0.2")
	for _, s := range []struct {
		sources []netip.Addr
		conns   int
		want    int
	}{{nil, 25, 3}, {nil, 10, 1}, {[]netip.Addr{a, b}, 25, 2}, {[]netip.Addr{a, b}, 9, 1}} {
		f := startFleet(t, fleet.Config{Target: h.Addr, Conns: s.conns, PerSource: 10, Loops: 1, Sources: s.sources})
		if n := f.Sources(); n != 0 {
			t.Errorf("%d sources before the first conn", n)
		}
		reach(t, ctx, f, s.conns, s.conns)
		if n := f.Sources(); n != s.want {
			t.Errorf("%d conns, 10 from each of %v: %d sources, want %d", s.conns, s.sources, n, s.want)
		}
		seen := make(map[string]int)
		for _, c := range h.Conns() {
			ip := c.RemoteAddr().(*net.TCPAddr).IP.String()
			if seen[ip]++; seen[ip] > 10 && s.sources == nil {
				t.Errorf("%d conns from %s", seen[ip], ip)
			}
		}
		if len(seen) != s.want {
			t.Errorf("the server saw %v, want %d sources", seen, s.want)
		}
		if err := f.CloseAll(ctx, 0); err != nil {
			t.Fatal(err)
		}
		until(t, ctx, f, "the server's end", func(fleet.Counts) bool { return len(h.Conns()) == 0 })
	}
}

// TestConnects has a server that takes its time: what was measured has room for that.
func TestConnects(t *testing.T) {
	const delay = 60 * time.Millisecond
	ctx := timeout(t)
	h := serve(t, func(n int, c *net.TCPConn) {
		<-time.After(delay)
		polite(n, c)
	})
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 10, Loops: 2})
	if tcp, whole, err := f.Connects(ctx); tcp != nil || whole != nil || err != nil {
		t.Errorf("%v, %v, %v before the first conn", tcp, whole, err)
	}
	reach(t, ctx, f, 10, 10)
	tcp, whole, err := f.Connects(ctx)
	if err != nil || tcp == nil || whole == nil {
		t.Fatalf("%v, %v, %v", tcp, whole, err)
	}
	if tcp.TotalCount() != 10 || whole.TotalCount() != 10 || tcp.Min() < 0 || tcp.Max() > whole.Max() {
		t.Errorf("%d conns of %d to %d µs, and %d of %d to %d µs; want 10", tcp.TotalCount(), tcp.Min(), tcp.Max(), whole.TotalCount(), whole.Min(), whole.Max())
	}
	if low := (delay * 98 / 100).Microseconds(); whole.Min() < low {
		t.Errorf("a handshake after %d µs, that takes %v", whole.Min(), delay)
	}
	if tcp, whole, err := f.Connects(ctx); tcp != nil || whole != nil || err != nil {
		t.Errorf("%v, %v, %v: told twice", tcp, whole, err)
	}
}
