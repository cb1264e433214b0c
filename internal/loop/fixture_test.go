package loop_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/loop/looptest"
)

// script is what a test wants of a handler. A nil field does nothing.
type script struct {
	admit   func(h *handler, full bool) []byte
	opened  func(h *handler, i uint32, o loop.Opening)
	data    func(h *handler, i uint32, b []byte)
	timer   func(h *handler, i uint32)
	drained func(h *handler, i uint32)
	closed  func(h *handler, i uint32, e loop.End)
	post    func(h *handler, id loop.ID, kind uint8, payload []byte)
	emptied func(h *handler)
	lost    func(h *handler, data []byte)
}

// record is what happened to one conn, in order.
type record struct {
	id     loop.ID
	loop   int
	slot   uint32
	how    loop.How
	opened bool // false: dialled and not yet connected
	carry  string
	data   []byte
	timers int
	drains int
	end    *loop.End
}

// world is a group with handlers that hold it to its contract.
type world struct {
	t  *testing.T
	g  *loop.Group
	at netip.AddrPort

	mu       sync.Mutex
	cond     *sync.Cond // something happened
	records  []*record
	handlers map[*loop.Loop]*handler
	stopped  int
}

// handler is one loop's. It checks that it is called as promised, does what the script says, and keeps
// the records.
type handler struct {
	w      *world
	l      *loop.Loop
	s      *script
	conns  map[uint32]*record // loop-owned
	inside bool               // loop-owned: a callback runs
}

// newWorld makes a group that listens; opts may leave out all but what it is about.
func newWorld(t *testing.T, opts loop.Options, s script) *world {
	t.Helper()
	w := &world{t: t, handlers: make(map[*loop.Loop]*handler)}
	w.cond = sync.NewCond(&w.mu)
	opts.NewHandler = func(l *loop.Loop) loop.Handler {
		h := &handler{w: w, l: l, s: &s, conns: make(map[uint32]*record)}
		w.mu.Lock()
		w.handlers[l] = h
		w.mu.Unlock()
		return h
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	g, err := loop.NewGroup(opts)
	if err != nil {
		t.Fatal(err)
	}
	w.g = g
	if w.at, err = g.Listen(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.finish)
	return w
}

// finish closes the group and settles accounts.
func (w *world) finish() {
	_ = w.g.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.records {
		if r.end == nil {
			w.t.Errorf("conn %v was never Closed", r.id)
		}
	}
	if n := w.g.Live(); n != 0 {
		w.t.Errorf("%d conns live after Close", n)
	}
	for _, l := range w.g.Loops() {
		if n := l.Stats.QueueBytes.Load(); n != 0 {
			w.t.Errorf("loop %d: %d bytes in queues after Close", l.Index(), n)
		}
	}
}

func (w *world) start() *world {
	w.t.Helper()
	if err := w.g.Start(); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// until waits until ok, which is asked whenever something has happened.
func (w *world) until(ok func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok() {
		w.cond.Wait()
	}
}

// conn is the record of the nth conn.
func (w *world) conn(n int) record {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n >= len(w.records) {
		w.t.Fatalf("only %d conns", len(w.records))
	}
	r := *w.records[n]
	r.data = slices.Clone(r.data)
	return r
}

// count is the number of conns so far.
func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.records)
}

// on runs f on a loop's thread and waits for it.
func (w *world) on(l *loop.Loop, f func(h *handler)) {
	w.t.Helper()
	done := make(chan struct{})
	w.mu.Lock()
	h := w.handlers[l]
	w.mu.Unlock()
	if err := l.Call(func() { defer close(done); f(h) }); err != nil {
		w.t.Fatal(err)
	}
	<-done
}

// wantEnd checks how the nth conn ended.
func (w *world) wantEnd(n int, kind loop.EndKind, err error) {
	w.t.Helper()
	r := w.conn(n)
	switch {
	case r.end == nil:
		w.t.Errorf("conn %d is not Closed", n)
	case r.end.Kind != kind || !errors.Is(r.end.Err, err):
		w.t.Errorf("conn %d ended with %v, want kind %d and %v", n, *r.end, kind, err)
	}
}

func (w *world) wantLive(n int) {
	w.t.Helper()
	if r := w.conn(n); r.end != nil {
		w.t.Errorf("conn %d ended: %v", n, *r.end)
	}
}

// enter checks that callbacks come one at a time.
func (h *handler) enter(what string) func() {
	if h.inside {
		h.w.t.Errorf("%s while another callback runs", what)
	}
	h.inside = true
	h.w.mu.Lock()
	return func() {
		h.inside = false
		h.w.cond.Broadcast()
		h.w.mu.Unlock()
	}
}

// run runs a script's step without the world's lock.
func (h *handler) run(f func()) {
	h.w.mu.Unlock()
	f()
	h.w.mu.Lock()
}

func (h *handler) conn(what string, i uint32) *record {
	r := h.conns[i]
	if r == nil {
		h.w.t.Errorf("%s for slot %d, which holds no conn", what, i)
		r = &record{}
	}
	return r
}

func (h *handler) add(i uint32, how loop.How) *record {
	if h.conns[i] != nil {
		h.w.t.Errorf("slot %d is used twice", i)
	}
	r := &record{id: h.l.ID(i), loop: h.l.Index(), slot: i, how: how}
	h.conns[i] = r
	h.w.records = append(h.w.records, r)
	return r
}

// dial dials and keeps a record; it is called on the loop's thread.
func (h *handler) dial(to netip.AddrPort) (uint32, error) {
	i, err := h.l.Dial(netip.AddrPort{}, to)
	if err == nil {
		h.w.mu.Lock()
		h.add(i, loop.Connected)
		h.w.mu.Unlock()
	}
	return i, err
}

func (h *handler) Admit(_ netip.AddrPort, full bool) (refusal []byte) {
	defer h.enter("Admit")()
	if h.s.admit != nil {
		h.run(func() { refusal = h.s.admit(h, full) })
	}
	return refusal
}

func (h *handler) Opened(i uint32, o loop.Opening) {
	defer h.enter("Opened")()
	var r *record
	if o.How == loop.Connected {
		r = h.conn("Opened", i)
	} else {
		r = h.add(i, o.How)
	}
	if r.opened {
		h.w.t.Errorf("slot %d is Opened twice", i)
	}
	r.opened, r.carry = true, string(o.Data)
	if h.s.opened != nil {
		h.run(func() { h.s.opened(h, i, o) })
	}
}

func (h *handler) Data(i uint32, b []byte) {
	defer h.enter("Data")()
	r := h.conn("Data", i)
	if !r.opened || len(b) == 0 {
		h.w.t.Errorf("%d bytes of Data for slot %d, opened: %t", len(b), i, r.opened)
	}
	r.data = append(r.data, b...)
	if h.s.data != nil {
		h.run(func() { h.s.data(h, i, b) })
	}
}

func (h *handler) Timer(i uint32) {
	defer h.enter("Timer")()
	h.conn("Timer", i).timers++
	if h.s.timer != nil {
		h.run(func() { h.s.timer(h, i) })
	}
}

func (h *handler) Drained(i uint32) {
	defer h.enter("Drained")()
	h.conn("Drained", i).drains++
	if n := h.l.Queued(i); n != 0 {
		h.w.t.Errorf("Drained with %d bytes queued", n)
	}
	if h.s.drained != nil {
		h.run(func() { h.s.drained(h, i) })
	}
}

func (h *handler) Closed(i uint32, e loop.End) {
	defer h.enter("Closed")()
	r := h.conn("Closed", i)
	if r.end != nil {
		h.w.t.Errorf("conn %v is Closed twice", r.id)
	}
	if _, ok := h.l.Find(r.id); ok {
		h.w.t.Errorf("conn %v is found in Closed", r.id)
	}
	r.end = &e
	if h.s.closed != nil {
		h.run(func() { h.s.closed(h, i, e) })
	}
	delete(h.conns, i)
}

func (h *handler) Post(id loop.ID, kind uint8, payload []byte) {
	defer h.enter("Post")()
	if h.s.post != nil {
		h.run(func() { h.s.post(h, id, kind, payload) })
	}
}

func (h *handler) Lost(data []byte) {
	defer h.enter("Lost")()
	if h.s.lost != nil {
		h.run(func() { h.s.lost(h, data) })
	}
}

func (h *handler) Emptied() {
	defer h.enter("Emptied")()
	if h.s.emptied != nil {
		h.run(func() { h.s.emptied(h) })
	}
}

func (h *handler) Stopped() {
	defer h.enter("Stopped")()
	if len(h.conns) > 0 {
		h.w.t.Errorf("Stopped with %d conns", len(h.conns))
	}
	h.w.stopped++
}

// echo writes back what comes.
func echo(h *handler, i uint32, b []byte) { h.l.Write(i, b) }

// writePost writes a post's payload to its conn.
func writePost(h *handler, id loop.ID, _ uint8, payload []byte) {
	if i, ok := h.l.Find(id); ok {
		h.l.Write(i, payload)
	}
}

// fake is a world in memory, one loop unless opts say otherwise.
type fake struct {
	*world
	sys *looptest.System
}

func newFake(t *testing.T, opts loop.Options, s script) *fake {
	t.Helper()
	f := &fake{}
	if opts.System == nil {
		opts.System = looptest.New()
	}
	if opts.Loops == 0 {
		opts.Loops = 1
	}
	f.sys = opts.System.(*looptest.System)
	t.Cleanup(func() {
		if n := f.sys.Open(); n != 0 {
			t.Errorf("%d descriptors open after Close", n)
		}
		if n := f.sys.Listening(); n != 0 {
			t.Errorf("%d listeners open after Close", n)
		}
	})
	f.world = newWorld(t, opts, s)
	f.start()
	// Start leaves the listeners to the loops; a call that a test makes to fail would otherwise be one of theirs.
	f.sys.Settle()
	return f
}

// dial is a peer whose conn is open.
func (f *fake) dial() *looptest.Peer {
	f.t.Helper()
	n := f.count()
	p := f.sys.Dial()
	f.sys.Settle()
	if f.count() != n+1 {
		f.t.Fatal("the conn did not open")
	}
	return p
}

// only is the one loop.
func (f *fake) only() *loop.Loop { return f.g.Loops()[0] }

func wantRead(t *testing.T, p *looptest.Peer, want string) {
	t.Helper()
	if got := string(p.Read()); got != want {
		t.Errorf("the peer read %s, want %s", brief(got), brief(want))
	}
}

func brief(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", s[:50], len(s))
	}
	return fmt.Sprintf("%q", s)
}
