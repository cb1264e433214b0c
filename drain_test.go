package longwire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// drain starts a drain and returns when every conn has its turn; over has Drain's result.
func (w *world) drain(over time.Duration) (done chan error) {
	w.t.Helper()
	done = make(chan error, 1)
	go func() { done <- w.g.Drain(context.Background(), over) }()
	waittest.Until(w.t, "every conn's turn in the drain", func() bool {
		if !w.g.Stats().Draining || w.sys.Listening() > 0 {
			return false
		}
		all := true
		for _, l := range w.g.loops.Loops() {
			answer := make(chan bool, 1)
			if l.Call(func() {
				ok := true
				l.Each(func(i uint32) {
					st := &w.g.fronts[l.Index()].conn[i]
					ok = ok && (st.flags&stateDrain != 0 || st.phase >= phaseClosing)
				})
				answer <- ok
			}) == nil {
				all = <-answer && all
			}
		}
		return all
	})
	return done
}

// Close frames go out evenly over the window.
func TestDrainPaces(t *testing.T) {
	const n = 100
	for _, loops := range []int{1, 3} {
		w := newWorld(t, Config{Loops: loops})
		var peers []*peer
		for range n {
			peers = append(peers, w.dial("/echo"))
		}
		done := w.drain(10 * time.Second)
		told := 0
		advice := make(map[int]int) // seconds → how many were told so
		for step := 1; step <= 10; step++ {
			w.sys.Advance(time.Second)
			rest := peers[:0]
			for _, p := range peers {
				op, reason, code, ok := p.next()
				if !ok {
					rest = append(rest, p)
					continue
				}
				if op != ws.OpClose || code != 1001 || !strings.HasPrefix(reason, "the server is going away, retry after ") {
					t.Errorf("got %v %q %d, want close 1001 with advice", op, reason, code)
				}
				advice[advised(t, reason)]++
				told++
				p.send(ws.OpClose, closePayload(1001, ""))
				p.finish()
				p.wantCause(Cause{Kind: CauseDrain, Code: 1001})
			}
			peers = rest
			if want := n * step / 10; told < want-5 || told > want+5 {
				t.Errorf("%d loops: after %d of 10 s %d of %d conns were told, want about %d", loops, step, told, n, want)
			}
			for _, p := range peers { // who waits for its turn is served
				p.echoes()
			}
		}
		w.sys.Advance(200 * time.Millisecond)
		if err := <-done; err != nil {
			t.Errorf("Drain = %v", err)
		}
		if told != n {
			t.Errorf("%d of %d conns were told", told, n)
		}
		for s, k := range advice {
			if s < 1 || s > 10 || k > 40 {
				t.Errorf("%d of %d clients are to come back after %d s, want them spread over 10 s", k, n, s)
			}
		}
		if len(advice) < 5 {
			t.Errorf("the clients are to come back after %v, want them spread over 10 s", advice)
		}
		w.wantCloses(map[string]uint64{"drain": n})
		if s := w.g.Stats(); s.Sockets != 0 {
			t.Errorf("%d sockets after the drain", s.Sockets)
		}
	}
}

// advised is the number of seconds that the reason of a close says to wait, as clients read it; 0: none.
func advised(t *testing.T, reason string) int {
	t.Helper()
	found := regexp.MustCompile(`(?i)retry after (\d{1,9}) ?s`).FindStringSubmatch(reason)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantRetryAfter checks that b is a 503 that says to wait so long, and returns how long.
func wantRetryAfter(t *testing.T, b []byte, least, most int) int {
	t.Helper()
	resp, n, err := ws.ParseResponse(b, 0)
	if err != nil || n == 0 || resp.Status() != 503 {
		t.Fatalf("got %q, want a 503", b)
	}
	s, err := strconv.Atoi(string(resp.Header("Retry-After")))
	if err != nil || s < least || s > most {
		t.Errorf("Retry-After: %s, want %d to %d", resp.Header("Retry-After"), least, most)
	}
	return s
}

// Who is turned away while the gateway drains is told to come back at random times.
func TestDrainRefuses(t *testing.T) {
	w := newWorld(t, Config{})
	stay := w.dial("/echo")
	var requests []*peer
	for range 40 {
		requests = append(requests, w.raw())
	}
	done := w.drain(100 * time.Second)
	seen := make(map[int]bool)
	for _, p := range requests {
		p.Write(requestFor("/echo", ws.Dial{}))
		seen[wantRetryAfter(t, p.Read(), 6, 15)] = true
		p.finish()
	}
	if len(seen) < 5 {
		t.Errorf("40 clients are to come back after %v s, want them spread over 10 s", slices.Sorted(maps.Keys(seen)))
	}
	w.sys.Advance(100 * time.Second)
	stay.wantClose(1001)
	stay.Close()
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
}

// Who waits long for its turn gets its pings until then, and whoever does not answer them is gone before.
func TestDrainPings(t *testing.T) {
	w := newWorld(t, Config{})
	first, silent, long := w.dial("/echo"), w.dial("/echo"), w.bystander("/echo")
	done := w.drain(30 * time.Minute) // turns at 0, 10 and 20 minutes
	first.Write(nil)
	w.sys.Advance(time.Second)
	first.wantClose(1001)
	first.Close()
	long.pass(8 * time.Minute)
	if long.pings < 15 {
		t.Errorf("%d pings in 8 minutes of a drain, want one in 25 s", long.pings)
	}
	silent.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008})
	long.pass(11*time.Minute + 30*time.Second)
	w.sys.Advance(35 * time.Second)
	op, reason, code, _ := long.next()
	if op == ws.OpPing {
		_, reason, code, _ = long.next()
	}
	if code != 1001 || advised(t, reason) < 1 || advised(t, reason) > 10 {
		t.Errorf("at its turn: close %d %q, want 1001 and at most 10 s", code, reason)
	}
	long.Close()
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
}

// A client that never answers the close frame is waited for as long as for any closing handshake.
func TestDrainDeafClient(t *testing.T) {
	w := newWorld(t, Config{})
	deaf, blocked := w.dial("/echo"), w.dial("/echo")
	blocked.Limit(10)
	_ = blocked.conn.Send(ws.OpBinary, make([]byte, 10_000))
	done := w.drain(0)
	w.sys.Advance(time.Second)
	deaf.wantClose(1001)
	w.sys.Advance(closingTimeout + 5*time.Second)
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
	deaf.wantCause(Cause{Kind: CauseDrain, Code: 1001})
	blocked.wantCause(Cause{Kind: CauseDrain, Code: 1001})
}

// A drain of one conn, or of none, does not wait for the end of the window.
func TestDrainFew(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	done := w.drain(time.Hour)
	w.sys.Advance(300 * time.Millisecond)
	p.wantClose(1001)
	p.Close()
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
	if err := <-newWorld(t, Config{}).drain(time.Hour); err != nil {
		t.Errorf("Drain = %v", err)
	}
}

// A handshake under way when the drain begins is not answered with a conn that nobody drains.
func TestDrainHandshakeUnderWay(t *testing.T) {
	w := newWorld(t, Config{})
	p, silent := w.raw(), w.raw()
	stay := w.dial("/echo")
	req := requestFor("/echo", ws.Dial{})
	p.Write(req[:30])
	w.sys.Settle()
	done := w.drain(4 * time.Second)
	p.Write(req[30:])
	wantRetryAfter(t, p.Read(), 6, 9)
	p.finish()
	w.sys.Advance(5 * time.Second)
	wantRetryAfter(t, silent.Read(), 6, 9)
	silent.Close()
	stay.wantClose(1001)
	stay.Close()
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
	w.wantCloses(map[string]uint64{"refused": 2, "drain": 1})
	if got := w.g.Stats().Refused["drain"]; got != 2 {
		t.Errorf("Refused = %v, want drain twice", w.g.Stats().Refused)
	}
}

// A conn whose closing handshake was under way keeps its cause and its time.
func TestDrainDuringClose(t *testing.T) {
	w := newWorld(t, Config{})
	p, other := w.dial("/echo"), w.dial("/echo")
	_ = p.conn.Close(4000, "")
	p.wantClose(4000)
	w.sys.Advance(2 * time.Second)
	done := w.drain(time.Minute)
	w.sys.Advance(2 * time.Second)
	if p.EOF() {
		t.Error("cut off by the drain before its time was over")
	}
	w.sys.Advance(closingTimeout)
	p.wantCause(Cause{Kind: CauseApplication, Code: 4000})
	w.sys.Advance(time.Minute)
	other.Close()
	w.sys.Settle()
	if err := <-done; err != nil {
		t.Errorf("Drain = %v", err)
	}
}

func TestDrainContext(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	cancel(enough)
	if err := w.g.Drain(ctx, time.Hour); err != enough {
		t.Errorf("Drain = %v, want the context's cause", err)
	}
	_ = w.g.Close()
	if got := w.open.causes(p.conn); len(got) != 1 || got[0].Kind != CauseDrain {
		t.Errorf("OnClose was told %v", got)
	}
	if err := w.g.Drain(context.Background(), time.Hour); err != nil {
		t.Errorf("Drain after Close = %v", err)
	}
}

func TestCloseCutsAll(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		var r recorder
		blocking := echo("/blocking")
		blocking.Blocking = true
		g := startGateway(t, Config{Tables: table, Loops: 2, MaxConns: 200, MaxMemory: -1,
			Endpoints: []Endpoint{r.watch(echo("/echo")), r.watch(blocking)}})
		for range 20 {
			wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{}).Echoes()
			wstest.Dial(t, g.Addr().String(), "/blocking", ws.Dial{}).Echoes()
			dialTCP(t, g.Addr().String(), []byte("GET /"))
		}
		ctx := r.last().Context()
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		r.settled(t)
		for id, causes := range r.ends {
			if causes[0] != (Cause{Kind: CauseDrain, Detail: "stopped"}) {
				t.Errorf("conn %s: cause = %+v, want drain: stopped", id, causes[0])
			}
		}
		wantContextCause(t, ctx, Cause{Kind: CauseDrain, Detail: "stopped"})
		if got := g.Stats().Closes; got["drain"] != 60 || len(got) != 1 {
			t.Errorf("Closes = %v, want drain for all 60", got)
		}
		if err := g.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
		if err := g.Start(); !errors.Is(err, ErrClosed) {
			t.Errorf("start after Close: %v, want ErrClosed", err)
		}
	})
}

// On real sockets: new clients are turned away, requests that net/http has finish, and the port is free when
// ListenAndServe has returned.
func TestListenAndServeDrains(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		inside, goOn := make(chan struct{}), make(chan struct{})
		r := recorder{}
		g, err := New(Config{Addr: "127.0.0.1:0", Tables: table, Loops: 2, MaxConns: 200, MaxMemory: -1, Drain: 200 * time.Millisecond,
			Endpoints: []Endpoint{r.watch(echo("/echo"))},
			HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(inside)
				<-goOn
				_, _ = w.Write([]byte("finished"))
			})})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		served := make(chan error, 1)
		go func() { served <- g.ListenAndServe(ctx) }()
		waittest.Until(t, "it listens", func() bool { return g.Ready() && g.Addr().IsValid() })
		addr := g.Addr().String()
		c := wstest.Dial(t, addr, "/echo", ws.Dial{})
		c.Echoes()
		plain := dialTCP(t, addr, []byte("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"))
		<-inside
		cancel()
		if op, _, code := c.Next(); op != ws.OpClose || code != 1001 {
			t.Errorf("got %v %d, want close 1001", op, code)
		}
		// Between the end of accepting and the end of the drain the port refuses.
		if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a new client during the drain: %v, want connection refused", err)
		}
		if g.Ready() {
			t.Error("ready during the drain")
		}
		close(goOn)
		resp, err := http.ReadResponse(bufio.NewReader(plain), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "finished" {
			t.Errorf("the request in flight got %q, %v", body, err)
		}
		c.Send(ws.OpClose, closePayload(1001, ""))
		c.EOF()
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("ListenAndServe = %v", err)
		}
		r.settled(t)
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("the port is not free: %v", err)
		}
		_ = ln.Close()
	})
}
