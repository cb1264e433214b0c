package longwire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// Messages of one goroutine arrive in its order, and before the close that it asks for afterwards.
func TestSendOrder(t *testing.T) {
	const senders, messages = 4, 2000
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dial("/echo")
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for k := range messages {
				if err := p.conn.Send(ws.OpText, fmt.Appendf(nil, "%d %d", s, k)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_ = p.conn.Close(1000, "done")
	_ = p.conn.Send(ws.OpText, []byte("behind the close"))
	_ = p.conn.Close(4000, "twice")
	var next [senders]int
	for range senders * messages {
		_, text, _, _ := p.next()
		var s, k int
		if _, err := fmt.Sscan(text, &s, &k); err != nil {
			t.Fatalf("got %q: %v", text, err)
		}
		if k != next[s] {
			t.Fatalf("message %d of sender %d, want %d", k, s, next[s])
		}
		next[s]++
	}
	p.wantClose(1000)
	p.nothing()
	p.send(ws.OpClose, closePayload(1000, ""))
	p.finish()
	p.wantCause(Cause{Kind: CauseApplication, Code: 1000})
	b.check()
}

// All that was sent before Close arrives, on real sockets, even where it is more than the socket takes at once,
// and whether Close comes from the loop or from elsewhere.
func TestCloseLosesNothing(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		const n, size = 100, 50_000
		burst := func(c Conn) {
			for k := range n {
				_ = c.Send(ws.OpBinary, bytes.Repeat([]byte{byte(k)}, size))
			}
			_ = c.Close(1000, "that was all")
		}
		ep := Endpoint{Path: "/burst", WriteQueue: 2 * n * size, OnMessage: func(c Conn, m Message) {
			if string(m.Payload) == "loop" {
				burst(c)
			} else {
				go burst(c)
			}
		}}
		var r recorder
		r.closed = make(chan Cause, 1)
		g := startGateway(t, Config{Tables: table, Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{r.watch(ep)}})
		for _, from := range []string{"loop", "goroutine"} {
			c := wstest.Dial(t, g.Addr().String(), "/burst", ws.Dial{})
			c.Send(ws.OpText, from)
			for k := range n {
				op, got, code := c.Next()
				if op != ws.OpBinary || len(got) != size || got[0] != byte(k) || got[size-1] != byte(k) {
					t.Fatalf("message %d: %v of %d bytes, %d", k, op, len(got), code)
				}
			}
			if op, reason, code := c.Next(); op != ws.OpClose || code != 1000 || reason != "that was all" {
				t.Errorf("got %v %q %d, want our close frame", op, reason, code)
			}
			c.Send(ws.OpClose, closePayload(1000, ""))
			c.EOF()
			_ = c.Close()
			if got, want := <-r.closed, (Cause{Kind: CauseApplication, Code: 1000}); got != want {
				t.Errorf("cause = %v, want %v", got, want)
			}
		}
	})
}

// Who does not take what others send is a slow consumer, and costs at most its queue.
func TestSlowConsumer(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dial("/echo")
	p.Limit(1000)
	payload := bytes.Repeat([]byte("x"), 10_000)
	sent := 0
	for ; w.open.causes(p.conn) == nil && sent < 1000; sent++ {
		if err := p.conn.Send(ws.OpBinary, payload); err != nil {
			t.Fatal(err)
		}
		w.sys.Settle()
		if q := w.g.Stats().QueueBytes; q > 64<<10+10_100 {
			t.Fatalf("%d bytes wait, with a write queue of 64 KiB", q)
		}
	}
	if sent < 7 || sent > 9 {
		t.Errorf("it was closed at message %d of 10,000 bytes, want 8, with a write queue of 64 KiB", sent)
	}
	p.wantCause(Cause{Kind: CauseSlow, Detail: "write_queue"})
	if !p.WasReset() {
		t.Error("want a reset: a FIN would wait behind what it does not read")
	}
	w.wantCloses(map[string]uint64{"slow_consumer": 1})
	w.log.Want(t, "cause=slow_consumer", "detail=write_queue")
	if q := w.g.Stats().QueueBytes; q != 0 {
		t.Errorf("%d bytes wait for nobody", q)
	}
	if err := p.conn.Send(ws.OpBinary, payload); err != nil {
		t.Errorf("send to a conn that is over: %v", err)
	}
	b.check()
}

// A consumer that takes its messages in time may get any number.
func TestSlowConsumerCatchesUp(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	payload := strings.Repeat("x", 10_000)
	for range 20 {
		p.Limit(100)
		for range 5 {
			_ = p.conn.Send(ws.OpBinary, []byte(payload))
		}
		w.sys.Settle()
		p.Limit(-1)
		for range 5 {
			p.want(ws.OpBinary, payload)
		}
	}
	p.echoes()
}

// One message may be larger than the queue, and arrives.
func TestMessageLargerThanQueue(t *testing.T) {
	for _, how := range []string{"send", "reply", "broadcast"} {
		t.Run(how, func(t *testing.T) {
			large := strings.Repeat("large", 100_000)
			ep := Endpoint{Path: "/", WriteQueue: 1000, OnMessage: func(c Conn, m Message) { m.Reply(ws.OpText, []byte(large)) }}
			w := newWorld(t, Config{Endpoints: []Endpoint{ep}})
			p := w.dial("/")
			p.Limit(100)
			switch how {
			case "send":
				_ = p.conn.Send(ws.OpText, []byte(large))
			case "reply":
				p.send(ws.OpText, "more")
			case "broadcast":
				if err := w.g.Broadcast("/", ws.OpText, []byte(large)); err != nil {
					t.Fatal(err)
				}
			}
			w.sys.Settle()
			p.Limit(-1)
			p.want(ws.OpText, large)
			p.send(ws.OpText, "again")
			p.want(ws.OpText, large)
		})
	}
}

// Replies that the client does not read pause it; nothing is lost when it reads again.
func TestRepliesUnread(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dial("/echo")
	p.Limit(1000)
	const n = 500
	text := func(k int) string { return fmt.Sprint(k, strings.Repeat(" x", 1000)) }
	for k := range n {
		p.send(ws.OpText, text(k))
	}
	w.sys.Settle()
	if q := w.g.Stats().QueueBytes; q > 64<<10+3*64<<10 {
		t.Errorf("%d bytes wait, with a write queue of 64 KiB", q)
	}
	if p.Unread() == 0 {
		t.Error("the gateway goes on reading")
	}
	b.check()
	p.Limit(-1)
	for k := range n {
		p.want(ws.OpText, text(k))
	}
	p.echoes()
}

func TestBroadcast(t *testing.T) {
	w := newWorld(t, Config{Endpoints: []Endpoint{echo("/echo"), echo("/other")}, Loops: 3})
	var peers []*peer
	for range 9 {
		peers = append(peers, w.dial("/echo"))
	}
	other := w.dial("/other")
	plain, deflate := w.dial("/echo"), w.dialWith("/echo", ws.Dial{Deflate: true})
	text := strings.Repeat("to all ", 100)
	if err := w.g.Broadcast("/echo", ws.OpText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	for _, p := range append(peers, plain, deflate) {
		p.want(ws.OpText, text)
	}
	other.nothing()
	if err := w.g.Broadcast("/nowhere", ws.OpText, nil); err == nil {
		t.Error("broadcast to an endpoint that is not: want an error")
	}
}

// A handle whose conn is over is harmless, also when another conn has its slot.
func TestStaleHandle(t *testing.T) {
	w := newWorld(t, Config{})
	old := w.dial("/echo")
	old.Close()
	old.wantCause(Cause{Kind: CauseClientFIN})
	p := w.dial("/echo")
	if p.conn.id.Slot() != old.conn.id.Slot() {
		t.Fatalf("the new conn is in slot %d, the old one was in %d", p.conn.id.Slot(), old.conn.id.Slot())
	}
	if p.conn == old.conn || p.conn.ID() == old.conn.ID() {
		t.Error("two conns have one handle")
	}
	for _, err := range []error{
		old.conn.Send(ws.OpText, []byte("for nobody")),
		old.conn.Send(ws.OpBinary, make([]byte, 100_000)),
		old.conn.Close(4000, "nobody"),
	} {
		if err != nil {
			t.Errorf("on a stale handle: %v", err)
		}
	}
	<-old.conn.Context().Done()
	p.nothing()
	p.echoes()
	_ = w.g.Close()
	if err := p.conn.Send(ws.OpText, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("send after Close: %v, want ErrClosed", err)
	}
	if err := p.conn.Close(1000, ""); !errors.Is(err, ErrClosed) {
		t.Errorf("close after Close: %v, want ErrClosed", err)
	}
}

// A code that must not be on the wire becomes one that may.
func TestCloseCodes(t *testing.T) {
	for _, x := range []struct{ code, sent, noted ws.StatusCode }{
		{1000, 1000, 1000}, {4321, 4321, 4321}, {0, ws.StatusNoStatus, 0}, {1005, 1000, 1000}, {1006, 1000, 1000}, {99, 1000, 1000},
	} {
		w := newWorld(t, Config{})
		p := w.dial("/echo")
		_ = p.conn.Close(x.code, "")
		p.wantClose(x.sent)
		p.send(ws.OpClose, closePayload(1000, ""))
		p.finish()
		p.wantCause(Cause{Kind: CauseApplication, Code: x.noted})
	}
}

// A Close that overtakes the client's own close frame does not make two causes.
func TestCloseBothSides(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	p.send(ws.OpClose, closePayload(1000, ""))
	w.sys.Settle()
	_ = p.conn.Close(4000, "")
	p.wantClose(1000)
	p.finish()
	p.wantCause(Cause{Kind: CauseClientClose, Code: 1000})
}

// A close in the callback that answers still lets the answers out.
func TestReplyThenClose(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		ep := Endpoint{Path: "/", Blocking: blocking, OnMessage: func(c Conn, m Message) {
			m.Reply(ws.OpText, []byte("one"))
			_ = c.Send(ws.OpText, []byte("two"))
			_ = c.Close(1001, "three")
		}}
		r := recorder{closed: make(chan Cause, 1)}
		g := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{r.watch(ep)}})
		c := wstest.Dial(t, g.Addr().String(), "/", ws.Dial{})
		c.Send(ws.OpText, "go")
		for _, want := range []string{"one", "two", "three"} {
			if _, got, _ := c.Next(); got != want {
				t.Errorf("blocking=%t: got %q, want %q", blocking, got, want)
			}
		}
		c.Send(ws.OpClose, closePayload(1001, ""))
		c.EOF()
		_ = c.Close()
		if got := <-r.closed; got.Kind != CauseApplication {
			t.Errorf("blocking=%t: cause = %v", blocking, got)
		}
	}
}

// A client whose few bytes ask for much does not get more put into memory than its queue and one answer: what it
// has asked for at once is answered as it reads.
func TestAmplifiedRepliesUnread(t *testing.T) {
	const n, size, queue = 2000, 100_000, 64 << 10
	for _, how := range []string{"reads", "closes", "is closed", "resets", "never reads"} {
		t.Run(how, func(t *testing.T) {
			answer := make([]byte, size)
			ep := Endpoint{Path: "/", WriteQueue: queue, OnMessage: func(c Conn, m Message) { m.Reply(ws.OpBinary, append(answer, m.Payload...)) }}
			w := newWorld(t, Config{Endpoints: []Endpoint{ep, echo("/echo")}})
			b := w.bystander("/echo")
			p := w.dial("/")
			p.Limit(1000)
			var ask []byte
			for k := range n {
				ask = append(ask, frame(true, 0, ws.OpText, fmt.Sprint(k))...)
				if k%10 == 0 {
					ask = append(ask, frame(true, 0, ws.OpPong, "")...)
				}
			}
			ask = append(ask, frame(false, 0, ws.OpText, "and ")...)
			ask = append(ask, frame(true, 0, ws.OpContinuation, "last")...)
			if how == "closes" {
				ask = append(ask, frame(true, 0, ws.OpClose, closePayload(1000, ""))...)
			}
			p.Write(ask)
			w.sys.Settle()
			if q := w.g.Stats().QueueBytes; q > queue+2*size {
				t.Fatalf("%d bytes wait, with a write queue of %d", q, queue)
			}
			b.check()
			switch how {
			case "reads", "closes":
				p.Limit(-1)
				for k := range n {
					p.want(ws.OpBinary, string(append(answer, fmt.Sprint(k)...)))
				}
				p.want(ws.OpBinary, string(append(answer, "and last"...)))
				if how == "closes" {
					p.wantClose(1000)
					p.finish()
					p.wantCause(Cause{Kind: CauseClientClose, Code: 1000})
					break
				}
				p.send(ws.OpText, "again")
				p.want(ws.OpBinary, string(append(answer, "again"...)))
			case "is closed":
				_ = p.conn.Close(4000, "")
				w.sys.Settle()
				p.Limit(-1)
				p.want(ws.OpBinary, string(append(answer, '0')))
				p.wantClose(4000)
				p.send(ws.OpClose, closePayload(4000, ""))
				p.finish()
				p.wantCause(Cause{Kind: CauseApplication, Code: 4000})
			case "resets":
				p.Reset()
				p.wantCause(Cause{Kind: CauseReset, Detail: "ECONNRESET"})
			case "never reads":
				b.pass(36 * time.Second)
				p.wantCause(Cause{Kind: CauseSlow, Detail: "replies_unread"})
			}
			b.check()
		})
	}
}

// The pool holds no more of one conn's messages than its share, however many came in one read.
func TestBlockingHoldsBack(t *testing.T) {
	const n = 3000
	gate := make(chan struct{})
	ep := echo("/")
	ep.Blocking = true
	reply := ep.OnMessage
	ep.OnMessage = func(c Conn, m Message) { <-gate; reply(c, m) }
	w := newWorld(t, Config{Endpoints: []Endpoint{ep}})
	p := w.dial("/")
	var b []byte
	for k := range n {
		b = append(b, frame(true, 0, ws.OpText, fmt.Sprint(k))...)
	}
	p.Write(b)
	w.sys.Settle()
	w.g.pool.mu.Lock()
	pending := w.g.pool.pending
	w.g.pool.mu.Unlock()
	if pending > poolPerConn+2 {
		t.Errorf("%d pieces of work wait for one conn, want at most %d", pending, poolPerConn+2)
	}
	close(gate)
	for k := range n {
		waittest.Until(t, "an echo", func() bool {
			_, text, _, ok := p.next()
			if ok && text != fmt.Sprint(k) {
				t.Fatalf("echo %q, want %d", text, k)
			}
			return ok
		})
	}
}

// A client that reads slowly, but reads, is not called a slow consumer for its own replies.
func TestRepliesReadSlowly(t *testing.T) {
	for name, h := range map[string]Heartbeat{"pings": {}, "no pings": {Ping: -1, Timeout: 20 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			ep := echo("/echo")
			ep.Heartbeat = h
			w := newWorld(t, Config{Endpoints: []Endpoint{ep}})
			p := w.dial("/echo")
			p.Limit(1000)
			for range 50 {
				p.send(ws.OpBinary, strings.Repeat("x", 10_000))
			}
			w.sys.Settle()
			got := 0
			for range 300 { // 1 kB a second
				got += len(p.Read())
				w.sys.Advance(time.Second)
			}
			if causes := w.open.causes(p.conn); causes != nil {
				t.Fatalf("after %d bytes it ended: %v", got, causes)
			}
			w.sys.Advance(70 * time.Second)
			p.wantCause(Cause{Kind: CauseSlow, Detail: "replies_unread"})
		})
	}
}
