package longwire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/loop/looptest"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// header is the bytes of a frame's header as a client writes it, however wrong it is.
func header(fin bool, rsv uint8, op ws.Opcode, n int64) []byte {
	return ws.AppendHeader(nil, ws.Header{Fin: fin, Rsv: rsv, Opcode: op, Masked: true, Key: maskKey, Length: n})
}

// frame is a frame as a client writes it, however wrong it is.
func frame(fin bool, rsv uint8, op ws.Opcode, payload string) []byte {
	b := []byte(payload)
	ws.Mask(b, maskKey, 0)
	return append(header(fin, rsv, op, int64(len(b))), b...)
}

func closePayload(code ws.StatusCode, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// A handshake that does not come costs a slot until its time is over.
func TestHandshakeSilence(t *testing.T) {
	half := string(requestFor("/echo", ws.Dial{}))[:40]
	for name, sent := range map[string]string{"nothing": "", "half": half, "one byte": "G"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.raw()
			if sent != "" {
				p.Write([]byte(sent))
			}
			w.sys.Advance(4900 * time.Millisecond)
			if got := p.Read(); len(got) > 0 || p.EOF() {
				t.Errorf("after 4.9 s: %q, FIN %t; want patience", got, p.EOF())
			}
			w.sys.Advance(200 * time.Millisecond)
			if status, _, body := parseAnswer(t, p.Read()); status != 408 || !strings.Contains(body, "did not come in time") {
				t.Errorf("after 5.1 s: %d %q, want 408", status, body)
			}
			p.finish()
			w.wantCloses(map[string]uint64{"handshake_timeout": 1})
			if n := w.g.Stats().Partials; n != 0 {
				t.Errorf("%d partials are left", n)
			}
			b.check()
		})
	}
}

// A client that drips its request gains no time by it.
func TestHandshakeDrips(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.raw()
	sent := 0
	for req := requestFor("/echo", ws.Dial{}); !p.EOF(); sent++ {
		p.Write(req[sent : sent+1])
		w.sys.Advance(time.Second)
	}
	if sent < 4 || sent > 6 {
		t.Errorf("the request was cut off after %d s, want 5", sent)
	}
	if status, _, _ := parseAnswer(t, p.Read()); status != 408 {
		t.Errorf("status %d, want 408", status)
	}
	p.Close()
	w.wantCloses(map[string]uint64{"handshake_timeout": 1})
	b.check()
}

func TestHandshakeCutOff(t *testing.T) {
	req := requestFor("/echo", ws.Dial{})
	for _, x := range []struct {
		name  string
		end   func(*peer)
		cause string
	}{
		{"FIN", func(p *peer) { p.CloseWrite() }, "client_fin"},
		{"close", func(p *peer) { p.Close() }, "client_fin"},
		{"RST", func(p *peer) { p.Reset() }, "reset"},
	} {
		for _, n := range []int{0, 1, len(req) / 2, len(req) - 1} {
			t.Run(fmt.Sprintf("%s after %d bytes", x.name, n), func(t *testing.T) {
				w := newWorld(t, Config{})
				b := w.bystander("/echo")
				p := w.raw()
				p.Write(req[:n])
				w.sys.Settle()
				x.end(p)
				w.wantCloses(map[string]uint64{x.cause: 1})
				if !p.Gone() {
					t.Error("the socket is open")
				}
				if s := w.g.Stats(); s.Partials != 0 || s.Conns != 1 {
					t.Errorf("%d partials and %d conns are left, want 0 and 1", s.Partials, s.Conns)
				}
				b.check()
			})
		}
	}
}

func TestByteByByte(t *testing.T) {
	for _, deflate := range []bool{false, true} {
		t.Run(fmt.Sprintf("deflate=%t", deflate), func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.raw()
			drip := func(b []byte) {
				for k := range b {
					p.Write(b[k : k+1])
					w.sys.Settle()
				}
			}
			d := ws.Dial{Deflate: deflate}
			drip(requestFor("/echo", d))
			p.upgraded("/echo", d)
			text := strings.Repeat("grüße ", 50)
			drip(ws.AppendFrame(nil, ws.Client, ws.OpText, []byte(text), maskKey))
			p.want(ws.OpText, text)
			drip(frame(false, 0, ws.OpBinary, "one, "))
			drip(frame(true, 0, ws.OpPing, "between"))
			drip(frame(true, 0, ws.OpContinuation, "two"))
			p.want(ws.OpPong, "between")
			p.want(ws.OpBinary, "one, two")
			if deflate {
				drip(ws.AppendCompressed(nil, ws.Client, ws.OpText, []byte(text), 15, maskKey))
				p.want(ws.OpText, text)
			}
			if n := w.g.Stats().Partials; n != 0 {
				t.Errorf("%d partials are left between messages", n)
			}
			drip(frame(true, 0, ws.OpClose, closePayload(1000, "bye")))
			p.wantClose(1000)
			p.finish()
			p.wantCause(Cause{Kind: CauseClientClose, Code: 1000})
			b.check()
		})
	}
}

// What follows the request in the same packet is frames.
func TestFramesBehindTheRequest(t *testing.T) {
	for _, cut := range []int{0, 10} { // of the request: in one piece, and in two
		w := newWorld(t, Config{})
		p := w.raw()
		req := requestFor("/echo", ws.Dial{})
		p.Write(req[:cut])
		w.sys.Settle()
		b := bytes.Clone(req[cut:])
		b = append(b, frame(true, 0, ws.OpText, "at once")...)
		b = append(b, frame(false, 0, ws.OpText, "and ")...)
		p.Write(b)
		p.upgraded("/echo", ws.Dial{})
		p.want(ws.OpText, "at once")
		p.Write(frame(true, 0, ws.OpContinuation, "later"))
		p.want(ws.OpText, "and later")
	}
}

// Ten thousand conns that send nothing cost slots, and neither goroutines nor threads.
func TestSilentConns(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		// Both ends are in this process, with shared tables in one table.
		limit, _ := sys.Descriptors()
		n := min(10_000, limit-2000)
		if table == TablesShared {
			n = min(10_000, limit/2-1000)
		}
		var r recorder
		g := startGateway(t, Config{Tables: table, MaxConns: n + 100, Loops: 1, MaxMemory: -1, Endpoints: []Endpoint{r.watch(echo("/echo"))},
			HandshakeTimeout: time.Hour})
		b := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
		b.Echoes()
		goroutines, ths := runtime.NumGoroutine(), threads()
		for range n {
			dialTCP(t, g.Addr().String(), nil)
		}
		waittest.Until(t, "all conns in their slots", func() bool { return g.Stats().Conns == int64(n)+1 })
		if got := runtime.NumGoroutine(); got > goroutines {
			t.Errorf("%d goroutines, %d before", got, goroutines)
		}
		if got := threads(); got > ths+2 { // the runtime's own come and go
			t.Errorf("%d threads, %d before", got, ths)
		}
		if s := g.Stats(); s.Partials != 0 || s.QueueBytes != 0 {
			t.Errorf("%d partials, %d bytes in queues, want none", s.Partials, s.QueueBytes)
		}
		b.Echoes()
	})
}

func TestHeaderTooLarge(t *testing.T) {
	long := "GET /echo HTTP/1.1\r\nHost: h\r\nX-Long: "
	for _, step := range []int{1 << 20, 1000, 7} {
		t.Run(fmt.Sprintf("%d bytes at a time", step), func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.raw()
			req := long + strings.Repeat("a", 9<<10)
			sent := 0
			for sent < len(req) && !p.EOF() {
				n := min(step, len(req)-sent)
				p.Write([]byte(req[sent : sent+n]))
				sent += n
			}
			if step < 1<<20 && (sent <= 8<<10-step || sent > 8<<10+step) {
				t.Errorf("it was refused after %d bytes, want about 8 KiB", sent)
			}
			if status, _, body := parseAnswer(t, p.Read()); status != 431 || body == "" {
				t.Errorf("status %d %q, want 431 with a sentence", status, body)
			}
			p.finish()
			w.wantCloses(map[string]uint64{"refused": 1})
			if n := w.g.Stats().Refused["header_too_large"]; n != 1 {
				t.Errorf("Refused = %v", w.g.Stats().Refused)
			}
			b.check()
		})
	}
	t.Run("fits", func(t *testing.T) {
		w := newWorld(t, Config{})
		room := 8<<10 - len(requestFor("/echo", ws.Dial{})) - len("X-Long: \r\n")
		w.dialWith("/echo", ws.Dial{Header: "X-Long: " + strings.Repeat("a", room) + "\r\n"}).echoes()
	})
}

// Every refusal of a handshake: its answer, its count and that the conn ends.
func TestHandshakeRefusals(t *testing.T) {
	const good = "GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	with := func(field string) string { return strings.Replace(good, "Host: h\r\n", "Host: h\r\n"+field+"\r\n", 1) }
	without := func(name string) string {
		var b strings.Builder
		for line := range strings.Lines(good) {
			if !strings.HasPrefix(line, name+":") {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	for _, x := range []struct {
		name, request string
		status        int
		label         string
		head          string // what the head must have
	}{
		{"no request line", "nonsense\r\n\r\n", 400, "bad_request", ""},
		{"bytes that are no HTTP", "\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request", ""},
		{"bare LF", strings.ReplaceAll(good, "\r\n", "\n"), 400, "bad_request", ""},
		{"NUL", with("X: a\x00b"), 400, "bad_request", ""},
		{"folded field", with("X: a\r\n b"), 400, "bad_request", ""},
		{"space before the colon", with("X : a"), 400, "bad_request", ""},
		{"no Host", without("Host"), 400, "bad_request", ""},
		{"two Hosts", with("Host: other"), 400, "bad_request", ""},
		{"no Connection", without("Connection"), 400, "bad_request", ""},
		{"no key", without("Sec-WebSocket-Key"), 400, "bad_request", ""},
		{"two keys", with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400, "bad_request", ""},
		{"short key", strings.Replace(good, "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", 1), 400, "bad_request", ""},
		{"a body", with("Content-Length: 5"), 400, "bad_request", ""},
		{"HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 400, "bad_request", ""},
		{"bad subprotocols", with("Sec-WebSocket-Protocol: a b"), 400, "bad_request", ""},
		{"a subprotocol twice", with("Sec-WebSocket-Protocol: a, a"), 400, "bad_request", ""},
		{"bad extensions", with("Sec-WebSocket-Extensions: ;"), 400, "bad_request", ""},
		{"two Origins", with("Origin: http://h\r\nOrigin: http://h"), 400, "bad_request", ""},
		{"foreign Origin", with("Origin: https://evil.example"), 403, "forbidden", ""},
		{"opaque Origin", with("Origin: null"), 403, "forbidden", ""},
		{"POST", strings.Replace(good, "GET", "POST", 1), 405, "method", "Allow: GET"},
		{"no version", without("Sec-WebSocket-Version"), 426, "version", "Sec-WebSocket-Version: 13"},
		{"version 8", strings.Replace(good, "Version: 13", "Version: 8", 1), 426, "version", "Sec-WebSocket-Version: 13"},
		{"HTTP/2.0", strings.Replace(good, "HTTP/1.1", "HTTP/2.0", 1), 505, "version", ""},
		{"101 fields", strings.Replace(good, "Host: h\r\n", "Host: h\r\n"+strings.Repeat("A: b\r\n", 101), 1), 431, "header_too_large", ""},
		{"not authorized", strings.Replace(good, "/echo", "/private", 1), 401, "unauthorized", `WWW-Authenticate: Basic realm="x"`},
		{"turned away by the application", strings.Replace(good, "/echo", "/busy", 1), 503, "other", "Retry-After: 7"},
	} {
		t.Run(x.name, func(t *testing.T) {
			private, busy := echo("/private"), echo("/busy")
			private.Authorize = func(*ws.Request) *ws.Refusal {
				return &ws.Refusal{Status: 401, Reason: "who are you?", Challenge: `Basic realm="x"`}
			}
			busy.Authorize = func(*ws.Request) *ws.Refusal {
				return &ws.Refusal{Status: 503, Reason: "later", RetryAfter: 7}
			}
			w := newWorld(t, Config{Endpoints: []Endpoint{echo("/echo"), private, busy}})
			b := w.bystander("/echo")
			p := w.raw()
			p.Write([]byte(x.request))
			status, head, body := parseAnswer(t, p.Read())
			if status != x.status || body == "" {
				t.Errorf("status %d %q, want %d with a sentence", status, body, x.status)
			}
			if !strings.Contains(head, x.head) || !strings.Contains(head, "\r\nConnection: ") || !strings.Contains(head, "close") {
				t.Errorf("head %q, want %q and Connection: close in it", head, x.head)
			}
			p.finish()
			w.wantCloses(map[string]uint64{"refused": 1})
			if got := w.g.Stats().Refused; len(got) != 1 || got[x.label] != 1 {
				t.Errorf("Refused = %v, want %s once", got, x.label)
			}
			b.check()
		})
	}
}

// An announced length is refused from the header alone.
func TestHugeLengths(t *testing.T) {
	for _, n := range []int64{1<<20 + 1, 2 << 30, 1 << 32, 1 << 62} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.dial("/echo")
			p.Write(header(true, 0, ws.OpBinary, n))
			p.wantClose(1009)
			p.finish()
			p.wantCause(Cause{Kind: CauseTooBig, Code: 1009, Detail: "message_too_big"})
			w.wantCloses(map[string]uint64{"message_too_big": 1})
			b.check()
		})
	}
	t.Run("in fragments", func(t *testing.T) {
		w := newWorld(t, Config{})
		b := w.bystander("/echo")
		p := w.dial("/echo")
		piece := strings.Repeat("x", 300<<10)
		p.Write(frame(false, 0, ws.OpBinary, piece))
		p.Write(frame(false, 0, ws.OpContinuation, piece))
		p.Write(frame(false, 0, ws.OpContinuation, piece))
		p.nothing()
		p.Write(header(true, 0, ws.OpContinuation, 300<<10))
		p.wantClose(1009)
		p.finish()
		p.wantCause(Cause{Kind: CauseTooBig, Code: 1009, Detail: "message_too_big"})
		b.check()
	})
}

func TestBomb(t *testing.T) {
	bomb := ws.AppendCompressed(nil, ws.Client, ws.OpText, make([]byte, 256<<20), 15, maskKey)
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb is %d bytes long", len(bomb))
	}
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dialWith("/echo", ws.Dial{Deflate: true})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.Write(bomb)
	w.sys.Settle()
	runtime.ReadMemStats(&after)
	// The limit is 1 MiB; the fake kernel's copy of the bomb and buffers that grow by doubling count too.
	if n := after.TotalAlloc - before.TotalAlloc; n > 12<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	p.wantClose(1009)
	p.finish()
	p.wantCause(Cause{Kind: CauseTooBig, Code: 1009, Detail: "message_too_big"})
	b.check()
}

func TestPingFlood(t *testing.T) {
	const n = 20_000
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dial("/echo")
	var flood []byte
	for k := range n {
		flood = append(flood, frame(true, 0, ws.OpPing, fmt.Sprint(k))...)
	}
	p.Write(flood)
	for k := range n {
		op, payload, _, ok := p.next()
		if !ok || op != ws.OpPong || payload != fmt.Sprint(k) {
			t.Fatalf("answer to ping %d: %v %s, %t", k, op, brief(payload), ok)
		}
	}
	p.nothing()
	p.echoes()
	b.check()
}

// A client that floods with pings and does not read the pongs is not fed memory: it is paused.
func TestPingFloodUnread(t *testing.T) {
	const n = 50_000
	payload := strings.Repeat("p", 100)
	flood := bytes.Repeat(frame(true, 0, ws.OpPing, payload), n)
	start := func(t *testing.T) (*world, *bystander, *peer) {
		w := newWorld(t, Config{})
		b := w.bystander("/echo")
		p := w.dial("/echo")
		p.Limit(4096)
		p.Write(flood)
		w.sys.Settle()
		if q := w.g.Stats().QueueBytes; q > 3*64<<10 {
			t.Errorf("%d bytes wait, with a write queue of 64 KiB", q)
		}
		if p.Unread() < len(flood)/2 {
			t.Errorf("the gateway read %d bytes of a client that reads nothing", len(flood)-p.Unread())
		}
		b.check()
		return w, b, p
	}
	t.Run("it reads after all", func(t *testing.T) {
		w, b, p := start(t)
		p.Limit(-1)
		for k := range n {
			if op, got, _, ok := p.next(); !ok || op != ws.OpPong || got != payload {
				t.Fatalf("pong %d: %v %s, %t", k, op, brief(got), ok)
			}
		}
		p.echoes()
		if s := w.g.Stats(); s.QueueBytes != 0 {
			t.Errorf("%d bytes wait", s.QueueBytes)
		}
		b.check()
	})
	t.Run("it never reads", func(t *testing.T) {
		w, b, p := start(t)
		b.pass(29 * time.Second)
		if w.open.causes(p.conn) != nil {
			t.Fatalf("after 29 s it ended: %v", w.open.causes(p.conn))
		}
		b.pass(7 * time.Second)
		p.wantCause(Cause{Kind: CauseSlow, Detail: "replies_unread"})
		if !p.WasReset() {
			t.Error("want a reset: a FIN would wait behind what it does not read")
		}
		if s := w.g.Stats(); s.QueueBytes != 0 {
			t.Errorf("%d bytes wait for nobody", s.QueueBytes)
		}
		w.wantCloses(map[string]uint64{"slow_consumer": 1})
		b.check()
	})
	t.Run("it resets", func(t *testing.T) {
		_, b, p := start(t)
		p.Reset()
		p.wantCause(Cause{Kind: CauseReset, Detail: "ECONNRESET"})
		b.check()
	})
}

// Data behind a close frame does not count.
func TestDataAfterClose(t *testing.T) {
	for name, after := range map[string][]byte{
		"message":       frame(true, 0, ws.OpText, "too late"),
		"ping":          frame(true, 0, ws.OpPing, "too late"),
		"close again":   frame(true, 0, ws.OpClose, closePayload(1001, "")),
		"nonsense":      bytes.Repeat([]byte{0xff}, 5000),
		"a huge length": header(true, 0, ws.OpBinary, 1<<40),
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, together=%t", name, together), func(t *testing.T) {
				w := newWorld(t, Config{})
				b := w.bystander("/echo")
				p := w.dial("/echo")
				bye := frame(true, 0, ws.OpClose, closePayload(3001, "bye"))
				messages := w.g.Stats().MessagesIn
				if together {
					p.Write(append(bye, after...))
				} else {
					p.Write(bye)
					w.sys.Settle()
					p.Write(after)
				}
				p.wantClose(3001)
				p.finish()
				p.wantCause(Cause{Kind: CauseClientClose, Code: 3001})
				if got := w.g.Stats().MessagesIn; got != messages {
					t.Errorf("%d messages counted behind the close frame", got-messages)
				}
				b.check()
			})
		}
	}
}

// What the client's close frame says is what we answer and note.
func TestClientClose(t *testing.T) {
	for _, x := range []struct {
		payload string
		answer  ws.StatusCode
		cause   ws.StatusCode
	}{
		{"", ws.StatusNoStatus, ws.StatusNoStatus},
		{closePayload(1000, ""), 1000, 1000},
		{closePayload(1001, "going"), 1001, 1001},
		{closePayload(1011, strings.Repeat("r", 123)), 1011, 1011},
		{closePayload(3000, ""), 3000, 3000},
		{closePayload(4999, "grüße"), 4999, 4999},
	} {
		w := newWorld(t, Config{})
		p := w.dial("/echo")
		p.send(ws.OpText, "before")
		p.Write(frame(true, 0, ws.OpClose, x.payload))
		p.want(ws.OpText, "before")
		p.wantClose(x.answer)
		p.finish()
		p.wantCause(Cause{Kind: CauseClientClose, Code: x.cause})
		w.wantCloses(map[string]uint64{"client_close": 1})
	}
}

// A client may end at any place; nobody else notices, and the cause is noted.
func TestCutOff(t *testing.T) {
	whole := frame(true, 0, ws.OpText, "hello, world")
	places := []struct {
		name string
		sent []byte
	}{
		{"between messages", nil},
		{"in a header", whole[:3]},
		{"in a frame", whole[:10]},
		{"in a long frame", header(true, 0, ws.OpBinary, 1<<20)},
		{"in a message", frame(false, 0, ws.OpText, "first")},
		{"in the second fragment", append(frame(false, 0, ws.OpText, "first"), frame(true, 0, ws.OpContinuation, "second")[:9]...)},
		{"in a compressed message", frame(false, ws.Rsv1, ws.OpText, "\xf2")},
	}
	ends := []struct {
		name  string
		end   func(*peer)
		cause Cause
	}{
		{"RST", func(p *peer) { p.Reset() }, Cause{Kind: CauseReset, Detail: "ECONNRESET"}},
		{"FIN", func(p *peer) { p.CloseWrite() }, Cause{Kind: CauseClientFIN}},
		{"close", func(p *peer) { p.Close() }, Cause{Kind: CauseClientFIN}},
	}
	for _, x := range places {
		for _, e := range ends {
			t.Run(e.name+" "+x.name, func(t *testing.T) {
				w := newWorld(t, Config{})
				b := w.bystander("/echo")
				p := w.dialWith("/echo", ws.Dial{Deflate: true})
				if len(x.sent) > 0 {
					p.Write(x.sent)
				}
				w.sys.Settle()
				e.end(p)
				p.wantCause(e.cause)
				if !p.Gone() {
					t.Error("the socket is open")
				}
				if s := w.g.Stats(); s.Partials != 0 || s.Conns != 1 {
					t.Errorf("%d partials and %d conns are left, want 0 and 1", s.Partials, s.Conns)
				}
				w.wantCloses(map[string]uint64{e.cause.Kind.String(): 1})
				b.check()
			})
		}
	}
}

// The cause is what made the end certain first: what happens during our close does not change it.
func TestCutOffDuringOurClose(t *testing.T) {
	for name, end := range map[string]func(*peer){
		"RST":       func(p *peer) { p.Reset() },
		"FIN":       func(p *peer) { p.CloseWrite() },
		"close":     func(p *peer) { p.send(ws.OpClose, closePayload(4000, "")) },
		"violation": func(p *peer) { p.Write(header(true, 7, ws.OpText, 1)) },
		"silence":   func(p *peer) { p.w.sys.Advance(8 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.dial("/echo")
			if err := p.conn.Close(4000, "enough"); err != nil {
				t.Fatal(err)
			}
			if op, reason, code, _ := p.next(); op != ws.OpClose || code != 4000 || reason != "enough" {
				t.Errorf("got %v %q %d, want our close frame", op, reason, code)
			}
			if w.open.causes(p.conn) != nil {
				t.Error("OnClose was called before the client answered")
			}
			end(p)
			if name == "close" || name == "violation" {
				p.finish()
			}
			p.wantCause(Cause{Kind: CauseApplication, Code: 4000})
			w.wantCloses(map[string]uint64{"application": 1})
			b.check()
		})
	}
}

// A message that was on its way when we closed is not an answer to wait for, and not delivered.
func TestMessagesDuringOurClose(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	_ = p.conn.Close(1000, "")
	p.wantClose(1000)
	p.send(ws.OpText, "crossed")
	p.send(ws.OpPing, "crossed")
	p.nothing()
	p.send(ws.OpClose, closePayload(1000, ""))
	p.finish()
	p.wantCause(Cause{Kind: CauseApplication, Code: 1000})
}

// Each rule of the protocol has its code and its name.
func TestProtocolRules(t *testing.T) {
	long := string(make([]byte, 126))
	unmasked := ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("hi"), [4]byte{})
	for _, x := range []struct {
		name  string
		bytes []byte
		code  ws.StatusCode
		rule  string
	}{
		{"RSV1", frame(true, ws.Rsv1, ws.OpText, "x"), 1002, "reserved_bit"},
		{"RSV2", frame(true, ws.Rsv2, ws.OpText, "x"), 1002, "reserved_bit"},
		{"RSV3 on a ping", frame(true, ws.Rsv3, ws.OpPing, ""), 1002, "reserved_bit"},
		{"opcode 3", frame(true, 0, 3, ""), 1002, "reserved_opcode"},
		{"opcode 11", frame(true, 0, 11, "x"), 1002, "reserved_opcode"},
		{"ping in fragments", frame(false, 0, ws.OpPing, "x"), 1002, "fragmented_control"},
		{"close in fragments", frame(false, 0, ws.OpClose, ""), 1002, "fragmented_control"},
		{"ping of 126 bytes", frame(true, 0, ws.OpPing, long), 1002, "control_too_long"},
		{"continuation of nothing", frame(true, 0, ws.OpContinuation, "x"), 1002, "unexpected_continuation"},
		{"text within a message", append(frame(false, 0, ws.OpText, "x"), frame(true, 0, ws.OpText, "y")...), 1002, "expected_continuation"},
		{"not masked", unmasked, 1002, "unmasked_frame"},
		{"length 5 in 16 bits", []byte{0x82, 0xfe, 0, 5}, 1002, "non_minimal_length"},
		{"length 65535 in 64 bits", []byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 1002, "non_minimal_length"},
		{"length of 2^63", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, 1002, "length_high_bit"},
		{"close with one byte", frame(true, 0, ws.OpClose, "\x03"), 1002, "bad_close_payload"},
		{"close 999", frame(true, 0, ws.OpClose, closePayload(999, "")), 1002, "bad_close_code"},
		{"close 1005", frame(true, 0, ws.OpClose, closePayload(1005, "")), 1002, "bad_close_code"},
		{"close 5000", frame(true, 0, ws.OpClose, closePayload(5000, "")), 1002, "bad_close_code"},
		{"close reason", frame(true, 0, ws.OpClose, closePayload(1000, "\xff")), 1007, "invalid_utf8"},
		{"text", frame(true, 0, ws.OpText, "caf\xe9"), 1007, "invalid_utf8"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.dial("/echo")
			p.send(ws.OpText, "before")
			p.Write(x.bytes)
			p.want(ws.OpText, "before")
			p.wantClose(x.code)
			p.finish()
			p.wantCause(Cause{Kind: CauseProtocol, Code: x.code, Detail: x.rule})
			w.wantCloses(map[string]uint64{"protocol_error": 1})
			w.log.Want(t, "cause=protocol_error", "detail="+x.rule)
			b.check()
		})
	}
	t.Run("deflate", func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.dialWith("/echo", ws.Dial{Deflate: true})
		p.Write(frame(true, ws.Rsv1, ws.OpText, "\xff\xff\xff\xff"))
		p.wantClose(1007)
		p.finish()
		p.wantCause(Cause{Kind: CauseProtocol, Code: 1007, Detail: "bad_deflate"})
	})
}

// A byte that cannot be UTF-8 fails the connection there and then.
func TestInvalidUTF8FailsFast(t *testing.T) {
	for _, x := range []struct {
		name  string
		bytes []byte
	}{
		{"within a frame", append(header(true, 0, ws.OpText, 1000), 'a'^1, 0xff^2)},
		{"within a message", frame(false, 0, ws.OpText, "a\xc0")},
		{"across fragments", append(frame(false, 0, ws.OpText, "\xe2\x82"), frame(false, 0, ws.OpContinuation, "x")...)},
		{"a surrogate, at its second byte", append(header(true, 0, ws.OpText, 1000), 0xed^1, 0xa0^2)},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.dial("/echo")
			p.Write(x.bytes)
			p.wantClose(1007)
			p.finish()
			p.wantCause(Cause{Kind: CauseProtocol, Code: 1007, Detail: "invalid_utf8"})
			b.check()
		})
	}
}

// After a violation the client may go on sending: it gets its close frame whole, and no reset.
func TestViolationAmidData(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		r := recorder{closed: make(chan Cause, 1)}
		g := startGateway(t, Config{Tables: table, Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{r.watch(echo("/echo"))}})
		c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
		b := append(frame(true, 0, 3, ""), bytes.Repeat(frame(true, 0, ws.OpBinary, strings.Repeat("x", 10_000)), 100)...)
		go func() { _, _ = c.Write(b) }()
		if op, reason, code := c.Next(); op != ws.OpClose || code != 1002 || reason != "reserved_opcode" {
			t.Errorf("got %v %q %d, want close 1002", op, reason, code)
		}
		c.EOF()
		_ = c.Close()
		if got, want := <-r.closed, (Cause{Kind: CauseProtocol, Code: 1002, Detail: "reserved_opcode"}); got != want {
			t.Errorf("cause = %v, want %v", got, want)
		}
	})
}

// Resets of real sockets, at once from many clients, are told apart from FINs; nobody else notices.
func TestResetsOnSockets(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		r := recorder{closed: make(chan Cause, 100)}
		g := startGateway(t, Config{Tables: table, Loops: 1, MaxConns: 100, MaxMemory: -1, Endpoints: []Endpoint{r.watch(echo("/echo"))}})
		b := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
		b.Echoes()
		sent := [][]byte{nil, frame(true, 0, ws.OpText, "hello")[:5], frame(false, 0, ws.OpText, "hello")}
		for k := range 30 {
			c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{})
			c.Echoes()
			_, _ = c.Write(sent[k%3])
			tcp := c.Conn.(interface{ SetLinger(int) error })
			want := CauseClientFIN
			if k%2 == 0 {
				want = CauseReset
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
			if got := <-r.closed; got.Kind != want {
				t.Errorf("conn %d: cause = %v, want %v", k, got, want)
			}
			b.Echoes()
		}
	})
}

// The kernel's word is kept in the cause.
func TestSocketErrors(t *testing.T) {
	for _, x := range []struct {
		err  syscall.Errno
		want Cause
	}{
		{syscall.ECONNRESET, Cause{Kind: CauseReset, Detail: "ECONNRESET"}},
		{syscall.ETIMEDOUT, Cause{Kind: CauseKernelTimeout, Detail: "ETIMEDOUT"}},
		{syscall.EHOSTUNREACH, Cause{Kind: CauseKernelTimeout, Detail: "EHOSTUNREACH"}},
		{syscall.ENETUNREACH, Cause{Kind: CauseKernelTimeout, Detail: "ENETUNREACH"}},
		{syscall.EIO, Cause{Kind: CauseInternal, Detail: "poller"}},
	} {
		t.Run("read "+x.err.Error(), func(t *testing.T) {
			w := newWorld(t, Config{})
			b := w.bystander("/echo")
			p := w.dial("/echo")
			p.FailRead(x.err)
			p.wantCause(x.want)
			w.wantCloses(map[string]uint64{x.want.Kind.String(): 1})
			b.check()
		})
	}
	t.Run("write EPIPE", func(t *testing.T) {
		w := newWorld(t, Config{})
		b := w.bystander("/echo")
		p := w.dial("/echo")
		p.FailWrite(syscall.EPIPE)
		_ = p.conn.Send(ws.OpText, []byte("into the void"))
		p.wantCause(Cause{Kind: CauseReset, Detail: "EPIPE"})
		b.check()
	})
}

// An epoll that cannot watch one conn costs that conn, and one that cannot wait ends the gateway with a word.
func TestEpollErrors(t *testing.T) {
	t.Run("add", func(t *testing.T) {
		w := newWorld(t, Config{})
		b := w.bystander("/echo")
		w.sys.Fail(looptest.Add, syscall.ENOSPC, 1)
		p := w.raw()
		w.sys.Settle()
		if !p.Gone() {
			t.Error("the gateway holds a socket that it cannot watch")
		}
		w.wantCloses(map[string]uint64{"internal": 1})
		if s := w.g.Stats(); s.Shed != 1 || s.Conns != 1 {
			t.Errorf("shed %d times, %d conns; want 1 and 1", s.Shed, s.Conns)
		}
		w.log.Want(t, "accepting pauses", "no space left")
		b.check()
		late := w.raw()
		late.Write(requestFor("/echo", ws.Dial{}))
		w.sys.Advance(600 * time.Millisecond)
		late.upgraded("/echo", ws.Dial{})
		late.echoes()
	})
	t.Run("modify", func(t *testing.T) {
		w := newWorld(t, Config{})
		b := w.bystander("/echo")
		p := w.dial("/echo")
		p.Limit(10)
		w.sys.Fail(looptest.Modify, syscall.ENOMEM, 1)
		p.send(ws.OpText, "an answer longer than that")
		p.wantCause(Cause{Kind: CauseInternal, Detail: "poller"})
		b.check()
	})
	t.Run("wait", func(t *testing.T) {
		sys := looptest.New()
		w := &world{t: t, sys: sys, log: new(waittest.Log)}
		c := Config{Addr: "127.0.0.1:0", system: sys, Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{w.open.watch(echo("/echo"))}}
		var err error
		if w.g, err = New(c); err != nil {
			t.Fatal(err)
		}
		over := make(chan error, 1)
		go func() { over <- w.g.ListenAndServe(context.Background()) }()
		waittest.Until(t, "the gateway listens", func() bool { return sys.Listening() > 0 && w.g.Ready() })
		p := w.dial("/echo")
		p.echoes()
		sys.Fail(looptest.Wait, syscall.EBADF, 1)
		if err := <-over; err == nil || !strings.Contains(err.Error(), "bad file descriptor") {
			t.Errorf("ListenAndServe returned %v, want the error of epoll", err)
		}
		p.wantCause(Cause{Kind: CauseInternal, Detail: "poller"})
		w.open.settled(t)
	})
}
