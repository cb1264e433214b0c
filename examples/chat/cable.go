package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"github.com/longwire/longwire/ws"
)

// Slow adds to each direction of a cable slowBy, and up to slowJitter more or less.
const (
	slowBy     = 300 * time.Millisecond
	slowJitter = 100 * time.Millisecond
)

// Bounds, so that no page can make the process hold without end.
const (
	maxCables  = 1000
	maxWires   = 64       // of one cable
	maxHead    = 16 << 10 // bytes of a request
	maxRead    = 16 << 10 // bytes at a time
	maxWaiting = 64       // reads, in each direction of a wire
	headTime   = 10 * time.Second
	dialTime   = 10 * time.Second
)

// proxy stands between the pages and the gateway. Every connection runs through it; a WebSocket whose URL has ?cable=ID
// runs through the cable of that id, which its page can pull.
type proxy struct {
	gateway string // host:port

	mu     sync.Mutex
	cables map[string]*cable // guarded by mu, which is locked before a cable's
	turn   uint64            // guarded by mu: counts the uses of cables
}

func newProxy(gateway string) *proxy {
	return &proxy{gateway: gateway, cables: make(map[string]*cable)}
}

// serve passes on what l accepts until ctx ends. When it returns l is closed and nothing of it runs any more.
func (p *proxy) serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err != nil:
			return err
		}
		running.Go(func() { p.pass(ctx, c) })
	}
}

// pass carries one connection to the gateway and back.
func (p *proxy) pass(ctx context.Context, page net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	w := &wire{ctx: ctx, cancel: cancel, page: page, ends: 1}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	defer w.close((net.Conn).Close) // before cancel, which would throw away what is still on its way
	watching.Go(func() {
		<-ctx.Done()
		w.close(reset)
	})
	head, id, err := readHead(page)
	if err != nil {
		return
	}
	if w.cable = p.cable(id, w); w.cable == nil {
		return
	}
	defer w.cable.detach(w)
	w.run(head, p.dial)
}

func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", p.gateway)
}

var goodID = regexp.MustCompile(`^[0-9a-f]{16,64}$`)

// readHead reads up to the end of the first request, and no further than the read that has it. id is that of its cable;
// it is empty for everything but a WebSocket with a good one. Browsers open a connection of its own for each WebSocket, so
// what follows on one that began with a page needs no look.
func readHead(page net.Conn) (head []byte, id string, err error) {
	if err := page.SetReadDeadline(time.Now().Add(headTime)); err != nil {
		return nil, "", err
	}
	for b := make([]byte, maxRead); ; {
		n, err := page.Read(b)
		head = append(head, b[:n]...)
		r, size, refusal := ws.ParseRequest(head, maxHead)
		switch {
		case refusal != nil: // the gateway will say so
			return head, "", page.SetReadDeadline(time.Time{})
		case size > 0:
			if q, err := url.ParseQuery(string(r.Query())); err == nil && r.Upgrade() && goodID.MatchString(q.Get("cable")) {
				id = q.Get("cable")
			}
			return head, id, page.SetReadDeadline(time.Time{})
		case err != nil:
			return nil, "", err
		}
	}
}

// cable returns the cable of an id, with w attached if it is not nil. Without an id it is one that nobody can pull. It
// returns nil when there are too many.
func (p *proxy) cable(id string, w *wire) *cable {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cables[id]
	if c == nil {
		c = &cable{changed: make(chan struct{}), wires: make(map[*wire]struct{})}
		if id != "" {
			if len(p.cables) >= maxCables && !p.forget() {
				return nil
			}
			p.cables[id] = c
		}
	}
	p.turn++
	c.used = p.turn
	if w != nil && !c.attach(w) {
		return nil
	}
	return c
}

// forget drops the cable that was not used for the longest time of those without a connection. p.mu is locked.
func (p *proxy) forget() bool {
	oldest := ""
	for id, c := range p.cables {
		if c.state().Connections == 0 && (oldest == "" || c.used < p.cables[oldest].used) {
			oldest = id
		}
	}
	delete(p.cables, oldest)
	return oldest != ""
}

// control answers GET /cable/{id} with the state of a cable, and POST, with do=pull, plug, slow, fast or cut, after it has
// done that. An id that is new is that of a new cable: pages choose their ids, which nobody else can guess.
func (p *proxy) control(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !goodID.MatchString(id) {
		http.Error(w, "cable: want an id of 16 to 64 hexadecimal digits", http.StatusNotFound)
		return
	}
	c := p.cable(id, nil)
	if c == nil {
		http.Error(w, "cable: too many cables: close a page", http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodPost {
		switch do := r.FormValue("do"); do {
		case "pull", "plug":
			c.set(func() { c.out = do == "pull" })
		case "slow", "fast":
			c.set(func() { c.slow = do == "slow" })
		case "cut":
			c.cut()
		default:
			http.Error(w, "cable: want do=pull, plug, slow, fast or cut", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(c.state()) // who has left needs no answer
}

// cable is what the connections of one page run through. While it is out nothing comes through, in either direction, and
// nothing is closed: to both ends the line is silent. As with TCP over a real one, what was sent meanwhile is delivered
// when the cable is back, to whoever still waits for it.
type cable struct {
	used uint64 // guarded by proxy.mu

	mu      sync.Mutex
	out     bool
	slow    bool
	changed chan struct{} // closed by the next change of out or slow
	wires   map[*wire]struct{}
}

// cableState is a cable's state as pages get it.
type cableState struct {
	Out         bool `json:"out"`
	Slow        bool `json:"slow"`
	Connections int  `json:"connections"`
}

func (c *cable) state() cableState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cableState{Out: c.out, Slow: c.slow, Connections: len(c.wires)}
}

// set changes out or slow, and wakes whoever waits. Wires that both ends have left do not wait for a cable that is out.
func (c *cable) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
	for w := range c.wires {
		if c.out && w.ends == 0 {
			w.cancel()
		}
	}
}

// cut resets all connections, at both ends.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.wires {
		w.cancel()
	}
}

func (c *cable) attach(w *wire) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wires) >= maxWires {
		return false
	}
	c.wires[w] = struct{}{}
	return true
}

func (c *cable) detach(w *wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.wires, w)
}

// due is when something that is read now may come out at the other end; what was read before it comes out before it.
func (c *cable) due() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now()
	if c.slow {
		t = t.Add(slowBy - slowJitter + rand.N(2*slowJitter))
	}
	return t
}

// wait waits until the cable is in and the time has come. It reports false if ctx ends before.
func (c *cable) wait(ctx context.Context, due time.Time) bool {
	for {
		c.mu.Lock()
		out, changed := c.out, c.changed
		c.mu.Unlock()
		var timer <-chan time.Time
		if !out {
			d := time.Until(due)
			if d <= 0 {
				return true
			}
			timer = time.After(d)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-timer:
		}
	}
}

// wire is one connection that runs through a cable: what is read at one end waits in a queue until the cable lets it
// through to the other. The end of ctx resets both ends.
type wire struct {
	cable  *cable
	ctx    context.Context
	cancel context.CancelFunc
	page   net.Conn
	ends   int // guarded by cable.mu: those that may still send

	mu      sync.Mutex
	gateway net.Conn // guarded by mu; nil until it is dialled
}

// run carries until both directions have ended. head is what the page has said already; dial makes the connection to the
// gateway, when the cable lets it.
func (w *wire) run(head []byte, dial func(context.Context) (net.Conn, error)) {
	up, down := make(chan piece, maxWaiting), make(chan piece, maxWaiting)
	var carrying sync.WaitGroup
	defer carrying.Wait()
	up <- piece{data: head, due: w.cable.due()}
	carrying.Go(func() { w.read(w.page, up) })
	if !w.cable.wait(w.ctx, time.Time{}) {
		return
	}
	gateway, err := dial(w.ctx)
	if err != nil || !w.reaches(gateway) {
		w.cancel()
		return
	}
	carrying.Go(func() { w.read(gateway, down) })
	carrying.Go(func() { w.write(up, gateway) })
	carrying.Go(func() { w.write(down, w.page) })
}

// reaches has the gateway be the other end, and reports whether there still is one on this side.
func (w *wire) reaches(gateway net.Conn) bool {
	w.cable.mu.Lock()
	w.ends++
	w.cable.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gateway = gateway
	return w.ctx.Err() == nil
}

// close closes both ends by a function that may be called more than once.
func (w *wire) close(by func(net.Conn) error) {
	_ = by(w.page)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gateway != nil {
		_ = by(w.gateway)
	}
}

// piece is what one read has brought: some bytes, or the end.
type piece struct {
	data []byte
	err  error // io.EOF, or how the connection broke
	due  time.Time
}

func (w *wire) read(from net.Conn, to chan<- piece) {
	b := make([]byte, maxRead)
	for {
		n, err := from.Read(b)
		due := w.cable.due()
		if n > 0 {
			select {
			case to <- piece{data: bytes.Clone(b[:n]), due: due}:
			case <-w.ctx.Done():
				return
			}
		}
		if err != nil {
			select {
			case to <- piece{err: err, due: due}:
			case <-w.ctx.Done():
			}
			w.ended()
			return
		}
	}
}

// ended takes note that one end says nothing more. When both have left, nobody waits for the cable.
func (w *wire) ended() {
	w.cable.mu.Lock()
	defer w.cable.mu.Unlock()
	if w.ends--; w.ends == 0 && w.cable.out {
		w.cancel()
	}
}

func (w *wire) write(from <-chan piece, to net.Conn) {
	for {
		select {
		case <-w.ctx.Done():
			return
		case p := <-from:
			if !w.cable.wait(w.ctx, p.due) {
				return
			}
			switch {
			case errors.Is(p.err, io.EOF):
				closeWrite(to)
				return
			case p.err != nil:
				w.cancel()
				return
			}
			if _, err := to.Write(p.data); err != nil {
				w.cancel()
				return
			}
		}
	}
}

// closeWrite passes on that the other end says nothing more, and still hears what this one says.
func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	} else {
		_ = c.Close()
	}
}

// reset closes a connection without a word of goodbye: with TCP, by a RST.
func reset(c net.Conn) error {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0)
	}
	return c.Close()
}
