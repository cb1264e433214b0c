package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

const (
	mine   = "00000000000000aa"
	theirs = "00000000000000bb"
)

// line is one TCP connection that is held to a deadline.
type line struct {
	t *testing.T
	*net.TCPConn
}

func newLine(t *testing.T, c net.Conn) *line {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &line{t, c.(*net.TCPConn)}
}

func (l *line) say(text string) {
	l.t.Helper()
	if _, err := io.WriteString(l, text); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) hear(want string) {
	l.t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(l, b); err != nil || string(b) != want {
		l.t.Fatalf("hear %q, %v, want %q", b[:n], err, want)
	}
}

// end wants the connection to be over: by a FIN if want is nil.
func (l *line) end(want error) {
	l.t.Helper()
	if b, err := io.ReadAll(l); !errors.Is(err, want) || len(b) > 0 {
		l.t.Fatalf("read %q, %v, want the end by %v", b, err, want)
	}
}

// setup is a proxy that listens, and what it takes for the gateway.
type setup struct {
	*proxy
	t       *testing.T
	addr    string
	gateway net.Listener
	stop    func()
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	var l [2]net.Listener
	for i := range l {
		var err error
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l[i].Close() })
		if err := l[i].(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l[0].(*net.TCPListener).SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	s := &setup{proxy: newProxy(l[1].Addr().String()), t: t, addr: l[0].Addr().String(), gateway: l[1]}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, l[0]) }()
	s.stop = func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			ended <- nil
		case <-time.After(30 * time.Second):
			t.Error("the proxy waits for something")
		}
	}
	t.Cleanup(s.stop)
	return s
}

func request(id string) string {
	return "GET /connection/websocket?cable=" + id + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
}

// dial is a connection whose page has said what a page says first.
func (s *setup) dial(id string) *line {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	l := newLine(s.t, c)
	l.say(request(id))
	return l
}

// accept is the other end of a connection that was dialled.
func (s *setup) accept(id string) *line {
	s.t.Helper()
	c, err := s.gateway.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	l := newLine(s.t, c)
	l.hear(request(id))
	return l
}

// do carries out what a button of a page asks for.
func (s *setup) do(id, action string) (status int, c cableState) {
	s.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /cable/{id}", s.control)
	mux.HandleFunc("GET /cable/{id}", s.control)
	method := http.MethodPost
	if action == "" {
		method = http.MethodGet
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(method, "/cable/"+id+"?do="+action, nil))
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil {
			s.t.Fatal(err)
		}
	}
	return w.Code, c
}

// connections waits until a cable has so many.
func (s *setup) connections(id string, want int) {
	s.t.Helper()
	for range 30_000 {
		if _, c := s.do(id, ""); c.Connections == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("the cable never has %d connections", want)
}

func TestCableIn(t *testing.T) {
	s := newSetup(t)
	page := s.dial(mine)
	gateway := s.accept(mine)
	page.say("up")
	gateway.hear("up")
	gateway.say("down")
	page.hear("down")
	if err := page.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	gateway.end(nil)
	gateway.say("still here")
	page.hear("still here")
	_ = gateway.Close()
	page.end(nil)
	s.connections(mine, 0)
}

// end is one end of a wire in a bubble: what it has heard, and whether the other has left.
type end struct {
	net.Conn
	mu    sync.Mutex
	heard string // guarded by mu
	over  bool   // guarded by mu
}

// bubble has f use a wire through a cable whose time is that of a synctest bubble, and whose connections are pipes. The
// wire is over when f returns.
func bubble(t *testing.T, f func(c *cable, page, gateway *end, done <-chan struct{})) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		var near, far [2]end
		for i := range 2 {
			near[i].Conn, far[i].Conn = net.Pipe()
		}
		var reading sync.WaitGroup
		for i := range near {
			e := &near[i]
			reading.Go(func() {
				b := make([]byte, 100)
				for {
					n, err := e.Read(b)
					e.mu.Lock()
					e.heard += string(b[:n])
					e.over = err != nil
					e.mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		w := &wire{ctx: ctx, cancel: cancel, page: far[0].Conn, ends: 1}
		w.cable = newProxy("").cable(mine, w)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run([]byte("head "), func(context.Context) (net.Conn, error) { return far[1].Conn, nil })
		}()
		synctest.Wait()
		f(w.cable, &near[0], &near[1], done)
		cancel()
		w.close(net.Conn.Close)
		_, _ = near[0].Close(), near[1].Close()
		reading.Wait()
		<-done
	})
}

// say has the wire take some bytes.
func (e *end) say(text string) { _, _ = io.WriteString(e, text) } // what came of it shows at the other end

// has checks what an end has heard until now, with nothing under way any more.
func (e *end) has(t *testing.T, want string, over bool) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heard != want || e.over != over {
		t.Errorf("heard %q, over: %v, want %q, %v", e.heard, e.over, want, over)
	}
}

// While a cable is out nothing comes through and nothing ends. Then all of it comes, in order.
func TestCableOut(t *testing.T) {
	bubble(t, func(c *cable, page, gateway *end, done <-chan struct{}) {
		page.say("up 0 ")
		gateway.has(t, "head up 0 ", false)
		c.set(func() { c.out = true })
		page.say("up 1 ")
		gateway.say("down 1 ")
		time.Sleep(time.Hour)
		page.say("up 2")
		gateway.say("down 2")
		gateway.has(t, "head up 0 ", false)
		page.has(t, "", false)
		c.set(func() { c.out = false })
		gateway.has(t, "head up 0 up 1 up 2", false)
		page.has(t, "down 1 down 2", false)
	})
}

// An end that has left does so unheard while the cable is out: the other's is half open, until it leaves too.
func TestCableHalfOpen(t *testing.T) {
	over := func(done <-chan struct{}) bool {
		synctest.Wait()
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
	bubble(t, func(c *cable, page, gateway *end, done <-chan struct{}) {
		c.set(func() { c.out = true })
		page.say("last words")
		_ = page.Close()
		time.Sleep(time.Hour)
		gateway.say("nobody hears this")
		if gateway.has(t, "head ", false); over(done) {
			t.Error("the wire is over while the gateway has not left")
		}
		if _ = gateway.Close(); !over(done) {
			t.Error("both have left, and the wire is not over")
		}
	})
	bubble(t, func(c *cable, page, gateway *end, done <-chan struct{}) {
		c.set(func() { c.out = true })
		page.say("last words")
		_ = page.Close()
		gateway.has(t, "head ", false)
		c.set(func() { c.out = false })
		gateway.has(t, "head last words", true)
	})
	// Both have left, what they said is still on its way, and then the cable is pulled: nobody waits for it.
	bubble(t, func(c *cable, page, gateway *end, done <-chan struct{}) {
		c.set(func() { c.slow = true })
		page.say("last words")
		_ = page.Close()
		if _ = gateway.Close(); over(done) {
			t.Error("the wire is over before its time")
		}
		if c.set(func() { c.out = true }); !over(done) {
			t.Error("both have left, and the wire is not over")
		}
	})
}

// A page that dials while the cable is out is not heard of, and may leave.
func TestCableDial(t *testing.T) {
	s := newSetup(t)
	s.do(mine, "pull")
	gone, page := s.dial(mine), s.dial(mine)
	s.connections(mine, 2)
	_ = gone.Close()
	s.connections(mine, 1)
	other := s.dial(theirs)
	s.accept(theirs).say("quite well") // the first that the gateway hears of
	other.hear("quite well")
	s.do(mine, "plug")
	s.accept(mine).say("at last")
	page.hear("at last")
}

func TestCableCut(t *testing.T) {
	s := newSetup(t)
	for _, before := range []string{"plug", "slow", "pull"} {
		s.do(mine, "plug")
		page := s.dial(mine)
		gateway := s.accept(mine)
		other := s.dial(theirs)
		otherEnd := s.accept(theirs)
		s.do(mine, before)
		page.say("never heard, or hardly")
		s.do(mine, "cut")
		page.end(syscall.ECONNRESET)
		if before == "pull" {
			gateway.end(syscall.ECONNRESET)
		}
		other.say("quite well")
		otherEnd.hear("quite well")
		s.connections(mine, 0)
	}
}

// A reset is passed on as one.
func TestCableReset(t *testing.T) {
	s := newSetup(t)
	page := s.dial(mine)
	gateway := s.accept(mine)
	_ = reset(gateway)
	page.end(syscall.ECONNRESET)
}

func TestCableSlow(t *testing.T) {
	bubble(t, func(c *cable, page, gateway *end, _ <-chan struct{}) {
		want := "head "
		took := func(n int) time.Duration {
			t.Helper()
			start := time.Now()
			for i := range n {
				want += fmt.Sprintf("%d ", i)
				page.say(fmt.Sprintf("%d ", i))
			}
			for range 2000 {
				synctest.Wait()
				gateway.mu.Lock()
				all := len(gateway.heard) >= len(want)
				gateway.mu.Unlock()
				if all {
					break
				}
				time.Sleep(time.Millisecond)
			}
			gateway.has(t, want, false) // in order, whatever the jitter
			return time.Since(start)
		}
		if d := took(20); d != 0 {
			t.Errorf("fast takes %v", d)
		}
		c.set(func() { c.slow = true })
		seen := make(map[time.Duration]bool)
		for n := range 30 {
			d := took(n + 1)
			if seen[d] = true; d < slowBy-slowJitter || d > slowBy+slowJitter {
				t.Errorf("slow takes %v, want %v, %v more or less", d, slowBy, slowJitter)
			}
		}
		if len(seen) < 5 {
			t.Errorf("slow has %d different times in 30: want jitter", len(seen))
		}
		c.set(func() { c.slow = false })
		if d := took(1); d != 0 {
			t.Errorf("fast again takes %v", d)
		}
	})
}

// Connections without a good id have no cable, and everybody's requests come through.
func TestNoCable(t *testing.T) {
	s := newSetup(t)
	for _, head := range []string{
		request(""), request("short"), request(strings.Repeat("0", 65)), request(strings.ToUpper(mine)),
		"GET /?cable=" + mine + " HTTP/1.1\r\nHost: x\r\n\r\n", // no WebSocket
		"GET /%zz?%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01 nothing that a gateway of HTTP would take\r\n\r\n",
	} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		page := newLine(t, c)
		page.say(head[:3])
		page.say(head[3:] + "and a body")
		c, err = s.gateway.Accept()
		if err != nil {
			t.Fatal(err)
		}
		gateway := newLine(t, c)
		gateway.hear(head + "and a body")
		gateway.say("yes?")
		page.hear("yes?")
		if n := len(s.cables); n != 0 {
			t.Fatalf("%q has made a cable", head)
		}
	}
}

func TestControl(t *testing.T) {
	s := newSetup(t)
	for _, c := range []struct {
		id, do string
		status int
		state  cableState
	}{
		{"unknown", "pull", 404, cableState{}},
		{mine, "nonsense", 400, cableState{}},
		{mine, "", 200, cableState{}},
		{mine, "pull", 200, cableState{Out: true}}, // before its first connection
		{mine, "slow", 200, cableState{Out: true, Slow: true}},
		{mine, "plug", 200, cableState{Slow: true}},
		{theirs, "", 200, cableState{}},
		{mine, "fast", 200, cableState{}},
		{mine, "cut", 200, cableState{}},
	} {
		if status, state := s.do(c.id, c.do); status != c.status || state != c.state {
			t.Errorf("%s %s: %d, %+v, want %d, %+v", c.do, c.id, status, state, c.status, c.state)
		}
	}
}

// There is an end to what pages can make the process hold.
func TestBounds(t *testing.T) {
	s := newSetup(t)
	page := s.dial(mine)
	s.accept(mine)
	for i := range maxCables {
		s.do(fmt.Sprintf("%016x", 0xf000+i), "pull")
	}
	if n := len(s.cables); n != maxCables {
		t.Errorf("%d cables, want %d", n, maxCables)
	}
	if _, c := s.do(mine, ""); c.Connections != 1 {
		t.Error("a cable in use was forgotten")
	}
	if _, c := s.do(fmt.Sprintf("%016x", 0xf000), ""); c.Out {
		t.Error("the cable that was not used for the longest time was not forgotten")
	}
	if _, c := s.do(fmt.Sprintf("%016x", 0xf000+maxCables-1), ""); !c.Out {
		t.Error("a cable that was used lately was forgotten")
	}
	s.do(theirs, "pull")
	for range maxWires {
		s.dial(theirs)
	}
	s.connections(theirs, maxWires)
	s.dial(theirs).end(nil)
	s.do(theirs, "cut")
	s.connections(theirs, 0)
	page.say("still here")
}

// serve returns when nothing of it runs any more, whatever its connections are about.
func TestStop(t *testing.T) {
	s := newSetup(t)
	page := s.dial(mine)
	gateway := s.accept(mine)
	s.do(mine, "pull")
	waiting := s.dial(mine) // for the gateway
	s.connections(mine, 2)
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	silent := newLine(t, c)
	silent.say("GET / HT") // and never the rest
	fast := s.dial(theirs)
	fastEnd := s.accept(theirs)
	s.stop()
	for _, l := range []*line{page, gateway, waiting, fast, fastEnd} {
		l.end(syscall.ECONNRESET)
	}
}
