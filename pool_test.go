package longwire

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/ws"
)

// A Blocking endpoint that lags is not read: its messages wait in the kernel, in order, and none is lost.
func TestBlockingPauses(t *testing.T) {
	const n = 20_000
	gate := make(chan struct{})
	var got []int
	done := make(chan struct{})
	ep := Endpoint{Path: "/", Blocking: true, OnMessage: func(c Conn, m Message) {
		<-gate
		var k int
		_, _ = fmt.Sscan(string(m.Payload), &k)
		if got = append(got, k); k == n-1 {
			m.Reply(ws.OpText, []byte("all"))
			close(done)
		}
	}}
	w := newWorld(t, Config{Endpoints: []Endpoint{ep, echo("/echo")}, Workers: 2})
	b := w.bystander("/echo")
	p := w.dial("/")
	for k := range n {
		p.send(ws.OpText, fmt.Sprint(k, strings.Repeat(" ", 50)))
	}
	w.sys.Settle()
	if p.Unread() < n*50/2 {
		t.Errorf("%d bytes are left in the socket of a conn whose callback stands still", p.Unread())
	}
	b.check()
	b.pass(60e9) // it is not called silent while nobody listens to it
	if p.Gone() {
		t.Errorf("it ended: %v", w.open.causes(p.conn))
	}
	close(gate)
	<-done
	if len(got) != n || !slices.IsSorted(got) {
		t.Errorf("%d messages, want %d; in order: %t", len(got), n, slices.IsSorted(got))
	}
	waittest.Until(t, "the reply", func() bool {
		op, text, _, _ := p.next()
		if op == ws.OpPing {
			p.send(ws.OpPong, "")
		}
		return text == "all"
	})
	if p.Unread() != 0 {
		t.Errorf("%d bytes are unread: it was not resumed", p.Unread())
	}
}

// The callbacks of one conn of a Blocking endpoint come one at a time, open first and close last, although
// the pool has many goroutines.
func TestBlockingOrder(t *testing.T) {
	const conns, messages = 50, 40
	type life struct {
		inside atomic.Int32
		log    []string
	}
	var mu sync.Mutex
	lives := make(map[Conn]*life)
	enter := func(c Conn, what string) {
		mu.Lock()
		l := lives[c]
		if l == nil {
			l = &life{}
			lives[c] = l
		}
		mu.Unlock()
		if l.inside.Add(1) != 1 {
			t.Error("two callbacks of one conn at a time")
		}
		l.log = append(l.log, what)
		l.inside.Add(-1)
	}
	var r recorder
	r.closed = make(chan Cause, conns)
	ep := Endpoint{Path: "/", Blocking: true,
		OnOpen:    func(c Conn, req *ws.Request) { enter(c, "open "+string(req.Header("X-Name"))) },
		OnMessage: func(c Conn, m Message) { enter(c, string(m.Payload)); m.Reply(m.Op, m.Payload) },
		OnClose:   func(c Conn, _ Cause) { enter(c, "close") },
	}
	w := newWorld(t, Config{Endpoints: []Endpoint{r.watch(ep)}, Workers: 8})
	var peers []*peer
	for k := range conns {
		p := w.raw()
		d := ws.Dial{Header: fmt.Sprintf("X-Name: %d\r\n", k)}
		b := requestFor("/", d)
		for m := range messages {
			b = append(b, frame(true, 0, ws.OpText, fmt.Sprint(m))...)
		}
		p.Write(b)
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.upgraded("/", ws.Dial{})
		for m := range messages {
			waittest.Until(t, "an echo", func() bool {
				_, text, _, ok := p.next()
				if ok && text != fmt.Sprint(m) {
					t.Fatalf("echo %q, want %d", text, m)
				}
				return ok
			})
		}
		p.Close()
	}
	for range conns {
		<-r.closed
	}
	mu.Lock()
	defer mu.Unlock()
	for _, l := range lives {
		if len(l.log) != messages+2 || !strings.HasPrefix(l.log[0], "open ") || l.log[messages+1] != "close" {
			t.Fatalf("callbacks: %q", l.log)
		}
		for m := range messages {
			if l.log[m+1] != fmt.Sprint(m) {
				t.Fatalf("callbacks: %q", l.log)
			}
		}
	}
	if len(lives) != conns {
		t.Errorf("%d conns, want %d", len(lives), conns)
	}
}

// What Conn.Go is given runs in order for one conn, beside the loop, and not after more than its share of
// goroutines.
func TestConnGo(t *testing.T) {
	const n = 1000
	w := newWorld(t, Config{Workers: 3})
	a, b := w.dial("/echo"), w.dial("/echo")
	gate := make(chan struct{})
	a.conn.Go(func(context.Context) { <-gate })
	var got []int
	done := make(chan struct{})
	for k := range n {
		a.conn.Go(func(context.Context) {
			if got = append(got, k); k == n-1 {
				close(done)
			}
		})
	}
	other := make(chan struct{})
	b.conn.Go(func(context.Context) { close(other) })
	<-other // not held up by a's work
	a.echoes()
	if len(got) != 0 {
		t.Error("the second piece of work ran before the first had ended")
	}
	close(gate)
	<-done
	if !slices.IsSorted(got) {
		t.Error("out of order")
	}
	told := make(chan error, 1)
	asked := make(chan struct{})
	a.conn.Go(func(ctx context.Context) { close(asked); <-ctx.Done(); told <- context.Cause(ctx) })
	<-asked
	a.echoes() // and the loop knows that it was asked
	a.Close()
	if err := <-told; err != (Cause{Kind: CauseClientFIN}) {
		t.Errorf("the work was told %v", err)
	}
}

// The pool's goroutines are bounded, come with work and go with it.
func TestPoolWorkers(t *testing.T) {
	p := newPool(4)
	var running, most atomic.Int32
	gate := make(chan struct{})
	for k := range 100 {
		p.submit(loop.ID(k+1), func() {
			n := running.Add(1)
			for {
				m := most.Load()
				if n <= m || most.CompareAndSwap(m, n) {
					break
				}
			}
			<-gate
			running.Add(-1)
		})
	}
	waittest.Until(t, "four pieces of work at a time", func() bool { return running.Load() == 4 })
	close(gate)
	p.wait()
	if most.Load() != 4 || p.workers != 0 || p.pending != 0 || len(p.serials) != 0 {
		t.Errorf("%d at a time, then %d workers, %d pending, %d serials; want 4 and none", most.Load(), p.workers, p.pending, len(p.serials))
	}
}

// A conn that asks to be told when its work is done is told once, also when it is done already.
func TestPoolWhenIdle(t *testing.T) {
	p := newPool(1)
	told := 0
	p.whenIdle(1, func() { told++ })
	if told != 1 {
		t.Errorf("told %d times about no work", told)
	}
	gate := make(chan struct{})
	full := false
	for range 2 * poolPerConn {
		full = p.submit(1, func() { <-gate }) || full
	}
	if !full {
		t.Error("nobody was asked to pause")
	}
	p.whenIdle(1, func() { told++ })
	close(gate)
	p.wait()
	if told != 2 {
		t.Errorf("told %d times, want twice", told)
	}
}
