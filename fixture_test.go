package longwire

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/longwire/longwire/internal/loop/looptest"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/ws"
)

// world is a gateway on the kernel in memory: one loop unless the Config says otherwise, and a clock that the
// test moves. What a peer asks about is answered when the loop has nothing left to do.
type world struct {
	t    *testing.T
	sys  *looptest.System
	g    *Gateway
	log  *waittest.Log
	open recorder
}

// recorder notes what the endpoints' OnOpen and OnClose are told.
type recorder struct {
	mu     sync.Mutex
	conns  []Conn             // guarded by mu: in the order of their opening
	ends   map[string][]Cause // guarded by mu: by Conn.ID
	closed chan Cause         // if not nil: each cause
}

// watch has r told of an endpoint's connections.
func (r *recorder) watch(ep Endpoint) Endpoint {
	onOpen, onClose := ep.OnOpen, ep.OnClose
	ep.OnOpen = func(c Conn, req *ws.Request) {
		r.mu.Lock()
		r.conns = append(r.conns, c)
		r.mu.Unlock()
		if onOpen != nil {
			onOpen(c, req)
		}
	}
	ep.OnClose = func(c Conn, cause Cause) {
		r.mu.Lock()
		if r.ends == nil {
			r.ends = make(map[string][]Cause)
		}
		r.ends[c.ID()] = append(r.ends[c.ID()], cause)
		r.mu.Unlock()
		if onClose != nil {
			onClose(c, cause)
		}
		if r.closed != nil {
			r.closed <- cause
		}
	}
	return ep
}

// last is the connection that was opened last.
func (r *recorder) last() Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) == 0 {
		return Conn{}
	}
	return r.conns[len(r.conns)-1]
}

// causes are all that c's OnClose was told.
func (r *recorder) causes(c Conn) []Cause {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ends[c.ID()])
}

// settled checks that every connection that was opened was closed once.
func (r *recorder) settled(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		if n := len(r.ends[c.ID()]); n != 1 {
			t.Errorf("conn %s: %d calls of OnClose, want 1: %v", c.ID(), n, r.ends[c.ID()])
		}
	}
	if len(r.ends) != len(r.conns) {
		t.Errorf("%d conns were closed, %d opened", len(r.ends), len(r.conns))
	}
}

// echo is an endpoint with small limits that sends each message back.
func echo(path string) Endpoint {
	return Endpoint{
		Path: path, Compression: true, MaxMessage: 1 << 20, WriteQueue: 64 << 10,
		OnMessage: func(_ Conn, m Message) { m.Reply(m.Op, m.Payload) },
	}
}

// newWorld starts a gateway in memory. Without endpoints it has echo at /echo.
func newWorld(t *testing.T, c Config) *world {
	t.Helper()
	w := &world{t: t, sys: looptest.New(), log: new(waittest.Log)}
	if sys, ok := c.system.(*looptest.System); ok {
		w.sys = sys
	}
	c.system = w.sys
	if c.Loops == 0 {
		c.Loops = 1
	}
	if c.MaxConns == 0 {
		c.MaxConns = 512
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = -1
	}
	if c.Endpoints == nil {
		c.Endpoints = []Endpoint{echo("/echo")}
	}
	for i, ep := range c.Endpoints {
		c.Endpoints[i] = w.open.watch(ep)
	}
	c.Log = slog.New(slog.NewTextHandler(w.log, nil))
	w.g = startGateway(t, c)
	t.Cleanup(func() {
		_ = w.g.Close()
		w.open.settled(t)
		if n := w.g.Stats().Conns; n != 0 {
			t.Errorf("%d conns are counted after Close", n)
		}
		if n := w.g.Stats().QueueBytes; n != 0 {
			t.Errorf("%d queue bytes are counted after Close", n)
		}
		if n := w.g.Stats().Partials; n != 0 {
			t.Errorf("%d partials are counted after Close", n)
		}
	})
	return w
}

// peer is a client in memory.
type peer struct {
	*looptest.Peer
	w    *world
	conn Conn // once it is upgraded
	r    ws.Reader
	left []byte
}

// raw connects and sends nothing.
func (w *world) raw() *peer {
	w.t.Helper()
	return &peer{w: w, Peer: w.sys.Dial()}
}

// dial connects and does the handshake.
func (w *world) dial(path string) *peer { w.t.Helper(); return w.dialWith(path, ws.Dial{}) }

func (w *world) dialWith(path string, d ws.Dial) *peer {
	w.t.Helper()
	p := w.raw()
	p.upgrade(path, d)
	return p
}

func requestFor(path string, d ws.Dial) []byte {
	d.Host, d.Target = "gateway.example", path
	return ws.AppendRequest(nil, &d, [16]byte{})
}

// upgrade does the handshake.
func (p *peer) upgrade(path string, d ws.Dial) {
	p.w.t.Helper()
	p.Write(requestFor(path, d))
	p.upgraded(path, d)
}

// upgraded reads the answer to the handshake.
func (p *peer) upgraded(path string, d ws.Dial) {
	p.w.t.Helper()
	d.Host, d.Target = "gateway.example", path
	b := p.Read()
	resp, n, err := ws.ParseResponse(b, 0)
	if err != nil || n == 0 {
		p.w.t.Fatalf("response %q: %v", b, err)
	}
	h, err := d.Check(&resp, [16]byte{})
	if err != nil {
		p.w.t.Fatalf("response %q: %v", b, err)
	}
	p.r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: 64 << 20, Deflate: h.Deflate.On})
	p.left = b[n:]
	p.conn = p.w.open.last()
}

var maskKey = [4]byte{1, 2, 3, 4}

// setClock is at as a clock tells it that was set by d: its monotonic reading stays.
func setClock(at time.Time, d time.Duration) time.Time {
	was := at
	// The first word of a time that has a monotonic reading: a flag, 33 bits of seconds, 30 of nanoseconds.
	*(*uint64)(unsafe.Pointer(&at)) += uint64(d/time.Second) << 30
	if at.Sub(was) != 0 || at.UnixNano()-was.UnixNano() != int64(d) {
		panic("has time.Time changed?")
	}
	return at
}

func (p *peer) send(op ws.Opcode, payload string) {
	p.Write(ws.AppendFrame(nil, ws.Client, op, []byte(payload), maskKey))
}

// next is the next event; false if there is none.
func (p *peer) next() (op ws.Opcode, payload string, code ws.StatusCode, ok bool) {
	p.w.t.Helper()
	for more := false; ; more = true {
		for len(p.left) > 0 {
			ev, n, err := p.r.Next(p.left)
			if err != nil {
				p.w.t.Fatalf("what the gateway sent: %v", err)
			}
			op, payload, code = ev.Op, string(ev.Payload), ev.Code
			p.left = p.left[n:]
			if op != ws.NoEvent {
				return op, payload, code, true
			}
		}
		if more {
			return 0, "", 0, false
		}
		p.left = p.Read()
	}
}

// want checks the next message or control frame.
func (p *peer) want(op ws.Opcode, payload string) {
	p.w.t.Helper()
	gotOp, got, code, ok := p.next()
	if !ok {
		p.w.t.Errorf("got nothing, want %v %s", op, brief(payload))
	} else if gotOp != op || got != payload {
		p.w.t.Errorf("got %v %s %d, want %v %s", gotOp, brief(got), code, op, brief(payload))
	}
}

// nothing checks that nothing came.
func (p *peer) nothing() {
	p.w.t.Helper()
	if op, payload, code, ok := p.next(); ok {
		p.w.t.Errorf("got %v %s %d, want nothing", op, brief(payload), code)
	}
}

// echoes checks that the connection works.
func (p *peer) echoes() {
	p.w.t.Helper()
	p.send(ws.OpText, "are you there?")
	p.want(ws.OpText, "are you there?")
}

// wantClose checks that a close frame with code is next, and the last thing before the FIN.
func (p *peer) wantClose(code ws.StatusCode) {
	p.w.t.Helper()
	op, payload, got, ok := p.next()
	switch {
	case !ok:
		p.w.t.Errorf("got nothing, want a close frame with %d", code)
	case op != ws.OpClose || got != code:
		p.w.t.Errorf("got %v %s %d, want a close frame with %d", op, brief(payload), got, code)
	}
	if len(p.left) > 0 {
		p.w.t.Errorf("%d bytes behind the close frame", len(p.left))
	}
}

// wantFIN checks that the gateway ended the stream in good order.
func (p *peer) wantFIN() {
	p.w.t.Helper()
	if b := p.Read(); len(b) > 0 {
		p.w.t.Errorf("%d more bytes", len(b))
	}
	if !p.EOF() || p.WasReset() {
		p.w.t.Errorf("FIN: %t, reset: %t; want a FIN and no reset", p.EOF(), p.WasReset())
	}
}

// wantCause checks what OnClose was told, once.
func (p *peer) wantCause(want Cause) {
	p.w.t.Helper()
	p.w.sys.Settle()
	got := p.w.open.causes(p.conn)
	if len(got) != 1 || got[0] != want {
		p.w.t.Errorf("OnClose was told %+v, want %+v once", got, want)
	}
}

// finish plays the end of a client that was sent a close frame: it closes, and nothing is left of it.
func (p *peer) finish() {
	p.w.t.Helper()
	p.wantFIN()
	p.Close()
	if !p.Gone() {
		p.w.t.Error("the gateway holds a socket that both ends have closed")
	}
}

// wantCloses checks Stats.Closes, all of it.
func (w *world) wantCloses(want map[string]uint64) {
	w.t.Helper()
	w.sys.Settle()
	if got := w.g.Stats().Closes; !maps.Equal(got, want) {
		w.t.Errorf("Stats.Closes = %v, want %v", got, want)
	}
}

// bystander is a connection on the same loop that must notice nothing of what happens to others. It is checked
// when the test ends, and by its check method.
type bystander struct {
	*peer
	pings int
}

func (w *world) bystander(path string) *bystander {
	w.t.Helper()
	b := &bystander{peer: w.dial(path)}
	b.echoes()
	return b
}

// check echoes, answering pings on the way.
func (b *bystander) check() {
	b.w.t.Helper()
	b.answer()
	b.echoes()
	if got := b.w.open.causes(b.conn); got != nil {
		b.w.t.Errorf("the bystander ended: %v", got)
	}
}

// answer answers the pings that have come.
func (b *bystander) answer() {
	b.w.t.Helper()
	for {
		op, payload, code, ok := b.next()
		if !ok {
			return
		}
		if op != ws.OpPing {
			b.w.t.Errorf("the bystander got %v %s %d", op, brief(payload), code)
		}
		b.pings++
		b.send(ws.OpPong, payload)
	}
}

// pass moves the clock by d, and b keeps its side of the heartbeat.
func (b *bystander) pass(d time.Duration) {
	b.w.t.Helper()
	for d > 0 {
		step := min(d, 4*time.Second)
		b.w.sys.Advance(step)
		b.answer()
		d -= step
	}
}

// status is the status line's code and the head of an HTTP response, and its body.
func parseAnswer(t *testing.T, b []byte) (status int, head, body string) {
	t.Helper()
	resp, n, err := ws.ParseResponse(b, 0)
	if err != nil || n == 0 {
		t.Fatalf("response %q: %v", b, err)
	}
	return resp.Status(), string(b[:n]), string(b[n:])
}

func brief(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:50], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// tables are the layouts of descriptors that tests on real sockets run in.
var tables = []struct {
	name  string
	table Tables
}{{"shared", TablesShared}, {"private", TablesPrivate}}

// onTables runs f in each layout.
func onTables(t *testing.T, f func(t *testing.T, table Tables)) {
	for _, x := range tables {
		t.Run(x.name, func(t *testing.T) { f(t, x.table) })
	}
}

// dialTCP connects and sends b.
func dialTCP(t *testing.T, addr string, b []byte) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if len(b) > 0 {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	return c.(*net.TCPConn)
}

// reset ends c with a RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// readAll reads up to the FIN; a reset is an error.
func readAll(t *testing.T, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read up to the end: %v after %d bytes", err, len(b))
	}
	return b
}

// threads is the number of threads of this process; 0 where that is not known.
func threads() int {
	e, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0
	}
	return len(e)
}
