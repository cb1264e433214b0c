package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/gorilla/websocket"

	"github.com/longwire/longwire/internal/report"
)

func bodyExperiment() Experiment {
	return Experiment{
		Name:   "body",
		Title:  "Reading r.Body after the upgrade",
		Claims: claimsOf("body"),
		About: "The article's handler upgrades with gorilla/websocket and copies r.Body to nowhere. It meets clients without a body, and clients that " +
			"declare one and never send it. Other handlers keep a connection in other ways. All clients leave, collections run, and weak pointers " +
			"tell which connections are still there.",
		Run:      runBody,
		subjects: map[string]maker{"body": makes(newBodySubject)},
	}
}

// The ways in which a handler treats its connection.
const (
	bodyArticle  = "article"  // reads r.Body after the upgrade and returns, as the article's does
	bodyDropped  = "dropped"  // returns at once
	bodyMended   = "mended"   // leaves r.Body alone, reads messages until the end, closes
	bodyCycle    = "cycle"    // makes the connection part of a cycle, and returns
	bodyRequest  = "request"  // mended, but keeps the *http.Request
	bodyRegistry = "registry" // mended, but stays in a map
	bodyTimer    = "timer"    // mended, but a timer of an hour has it
)

// bodyWatch is how long handlers are left alone before it is looked at which of them still read.
const bodyWatch = 500 * time.Millisecond

type bodyConfig struct{ Way string }

// bodyState is what a subject knows of the connections that it had.
type bodyState struct {
	Upgraded int
	Reading  int            // handlers that are in a read of r.Body
	Types    map[string]int // of r.Body
	Ends     map[string]int // how reads of r.Body ended
	Conns    int            // *websocket.Conn that are still there
	Sockets  int            // *net.TCPConn
}

// bodySubject is a server of one way.
type bodySubject struct {
	way      string
	upgrader websocket.Upgrader
	reading  atomic.Int64

	mu       sync.Mutex // guards all below
	conns    []weak.Pointer[websocket.Conn]
	sockets  []weak.Pointer[net.TCPConn]
	types    map[string]int
	ends     map[string]int
	requests map[int]*http.Request
	registry map[int]*websocket.Conn
	timers   []*time.Timer
}

func newBodySubject(_ context.Context, c bodyConfig) (*subject, error) {
	b := &bodySubject{way: c.Way, types: map[string]int{}, ends: map[string]int{}, requests: map[int]*http.Request{}, registry: map[int]*websocket.Conn{}}
	if c.Way == bodyRegistry {
		// Sizes of its own, as in gorilla's examples: without them a connection keeps the buffers that net/http made before
		// the handler ran, and no profile has a line of the program for those.
		b.upgrader.ReadBufferSize, b.upgrader.WriteBufferSize = 4096, 4096
	}
	addr, stop, err := serveHTTP(&http.Server{Handler: b})
	if err != nil {
		return nil, err
	}
	return &subject{addr: addr, close: stop, ask: func(_ context.Context, what string, _ json.RawMessage) (any, error) {
		if what != "state" {
			return nil, fmt.Errorf("asked for %q, which it does not know", what)
		}
		return b.state(), nil
	}}, nil
}

// ServeHTTP is the handler.
func (b *bodySubject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := b.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	id := b.seen(conn, r)
	switch b.way {
	case bodyArticle:
		b.reading.Add(1)
		_, err := io.Copy(io.Discard, r.Body) // the article's line
		b.reading.Add(-1)
		b.ended(err)
		return
	case bodyDropped:
		return
	case bodyCycle:
		type node struct {
			conn *websocket.Conn
			next *node
		}
		n := &node{conn: conn}
		n.next = n
		conn.SetCloseHandler(func(int, string) error { return n.next.conn.Close() })
		return
	case bodyRequest:
		b.mu.Lock()
		b.requests[id] = r
		b.mu.Unlock()
	case bodyRegistry:
		b.mu.Lock()
		b.registry[id] = conn // the fault: nobody takes it out again
		b.mu.Unlock()
	case bodyTimer:
		b.mu.Lock()
		b.timers = append(b.timers, time.AfterFunc(time.Hour, func() { _ = conn.Close() }))
		b.mu.Unlock()
	}
	defer func() { _ = conn.Close() }()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

// seen remembers a connection without keeping it.
func (b *bodySubject) seen(conn *websocket.Conn, r *http.Request) (id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, weak.Make(conn))
	if t, ok := conn.NetConn().(*net.TCPConn); ok {
		b.sockets = append(b.sockets, weak.Make(t))
	}
	b.types[fmt.Sprintf("%T", r.Body)]++
	return len(b.conns)
}

// ended remembers how a read of r.Body ended.
func (b *bodySubject) ended(err error) {
	how := "end of the body"
	switch {
	case errors.Is(err, http.ErrBodyReadAfterClose):
		how = "body closed"
	case errors.Is(err, io.ErrUnexpectedEOF):
		how = "the client left"
	case err != nil:
		how = "another error"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends[how]++
}

// state collects, so that what can be freed is, and says what is left.
func (b *bodySubject) state() bodyState {
	// What a finalizer had goes with the collection after it ran.
	for range 4 {
		runtime.GC()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := bodyState{Upgraded: len(b.conns), Reading: int(b.reading.Load()), Types: maps.Clone(b.types), Ends: maps.Clone(b.ends)}
	for _, w := range b.conns {
		if w.Value() != nil {
			s.Conns++
		}
	}
	for _, w := range b.sockets {
		if w.Value() != nil {
			s.Sockets++
		}
	}
	return s
}

// bodyCase is one way with one kind of client.
type bodyCase struct {
	name   string
	way    string
	header string // of the client's request
}

var bodyCases = []bodyCase{
	{"the article's handler", bodyArticle, ""},
	{"the article's handler, the client declares a body", bodyArticle, "Content-Length: 1000\r\n"},
	{"returns without reading", bodyDropped, ""},
	{"mended: leaves r.Body alone", bodyMended, ""},
	{"mended, the client declares a body", bodyMended, "Content-Length: 1000\r\n"},
	{"a cycle through the connection", bodyCycle, ""},
	{"keeps *http.Request", bodyRequest, ""},
	{"stays in a map", bodyRegistry, ""},
	{"a timer of an hour has it", bodyTimer, ""},
}

// bodyFigures is what was measured of one case.
type bodyFigures struct {
	conns   int
	during  bodyState // while the clients were there, bodyWatch after the last upgrade
	open    int       // clients whose connection stood then
	after   bodyState // when the clients were gone
	samples [3]Sample // before, during, after
}

func runBody(ctx context.Context, r *Run) error {
	n := r.Of(100)
	t := r.Table("Handlers, while their clients are there and after they left",
		"handler", "connections", "type of r.Body", "in a read of r.Body", "still open to the client", "goroutines each",
		"after: websocket.Conn alive", "TCPConn alive", "goroutines left", "descriptors left")
	all := map[string]bodyFigures{}
	for _, c := range bodyCases {
		r.Log("%s: %d connections", c.name, n)
		f, err := measureBody(ctx, r, c, n)
		if err != nil {
			return err
		}
		all[c.name] = f
		t.Row(c.name, f.during.Upgraded, kinds(f.during.Types), f.during.Reading, f.open,
			each(uint64(f.samples[0].Goroutines), uint64(f.samples[1].Goroutines), n),
			f.after.Conns, f.after.Sockets, f.samples[2].Goroutines-f.samples[0].Goroutines, f.samples[2].Descriptors-f.samples[0].Descriptors)
		r.Figure("alive after: "+c.name, float64(f.after.Conns), report.Count)
	}
	judgeBody(r, all)
	return nil
}

// kinds are the names.
func kinds(m map[string]int) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

func measureBody(ctx context.Context, r *Run, c bodyCase, n int) (f bodyFigures, err error) {
	p, err := r.Start(ctx, "body", bodyConfig{c.way}, nil)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	f.conns = n
	if f.samples[0], err = p.Sample(ctx, 2); err != nil {
		return f, err
	}
	cl, err := dial(ctx, p.Addr(), n, upgrade(c.header))
	defer cl.close()
	if err != nil {
		return f, err
	}
	// A client has its answer a moment before the handler has the connection.
	for late := time.Now().Add(answerLimit); f.during.Upgraded < n && time.Now().Before(late); {
		if err := p.Ask(ctx, "state", nil, &f.during); err != nil {
			return f, err
		}
	}
	// A read that is not over by then, with nothing under way, waits for something.
	if err := pause(ctx, bodyWatch); err != nil {
		return f, err
	}
	f.during = bodyState{} // maps are not emptied by what is read into them
	if err := p.Ask(ctx, "state", nil, &f.during); err != nil {
		return f, err
	}
	if f.samples[1], err = p.Sample(ctx, 1); err != nil {
		return f, err
	}
	f.open = cl.open()
	cl.close()
	// Whatever ends with the client has its time to; what is kept is still there afterwards.
	if _, err := p.Settle(ctx, 1, 2*time.Second, func(s Sample) bool {
		return s.Goroutines <= f.samples[0].Goroutines && s.Descriptors <= f.samples[0].Descriptors
	}); err != nil {
		return f, err
	}
	if err := p.Ask(ctx, "state", nil, &f.after); err != nil {
		return f, err
	}
	f.samples[2], err = p.Sample(ctx, 1)
	return f, err
}

// judgeBody holds the article's claims against what was measured, by the case's name.
func judgeBody(r *Run, all map[string]bodyFigures) {
	plain, declared := all[bodyCases[0].name], all[bodyCases[1].name]
	dropped, cycle := all[bodyCases[2].name], all[bodyCases[5].name]
	says := fmt.Sprintf("of %d handlers %d were in the read %v after the upgrade when the client had no body (r.Body was %s), and %d of %d when it had declared one and sent nothing. "+
		"Connections alive after the clients left: %d and %d, without the read %d. "+
		"Of those without a body %d stood: the handler returned, nobody had the connection any more, and the collector closed it",
		plain.conns, plain.during.Reading, bodyWatch, kinds(plain.during.Types), declared.during.Reading, declared.conns, plain.after.Conns, declared.after.Conns, dropped.after.Conns, plain.open)
	most := func(n, of int) bool { return of > 0 && n*10 >= of*9 }
	kept := most(plain.after.Conns-dropped.after.Conns, plain.conns)
	switch {
	case most(plain.during.Reading, plain.conns) && kept:
		r.Verdict("body-blocks", Holds, says)
	case most(plain.during.Reading, plain.conns) || most(declared.during.Reading, declared.conns) || kept:
		r.Verdict("body-blocks", HoldsInPart, says)
	default:
		r.Verdict("body-blocks", DoesNotHold, says)
	}

	const closed = "body closed"
	says = fmt.Sprintf("of %d reads after the upgrade %d said that the body was closed; without a body they ended with %s, and %d of those with a declared body waited for it",
		plain.conns+declared.conns, plain.during.Ends[closed]+declared.during.Ends[closed], ends(plain.during.Ends), declared.during.Reading)
	switch n := plain.during.Ends[closed] + declared.during.Ends[closed]; {
	case most(n, plain.conns+declared.conns):
		r.Verdict("body-closed", Holds, "Upgrade takes the connection over, and closes the body: "+says)
	case plain.during.Upgraded == plain.conns:
		r.Verdict("body-closed", HoldsInPart, "Upgrade takes the connection over, but leaves r.Body as it is: "+says)
	default:
		r.Verdict("body-closed", DoesNotHold, says)
	}

	signal := 0
	for _, f := range []bodyFigures{plain, declared} {
		for name, n := range f.during.Types {
			if strings.Contains(name, "bodyEOFSignal") {
				signal += n
			}
		}
	}
	says = fmt.Sprintf("r.Body was a bodyEOFSignal, which belongs to net/http's client, for %d of %d requests; of %d connections in a cycle %d were there after collections: "+
		"Go's collector follows what is reachable and does not count references", signal, plain.conns+declared.conns, cycle.conns, cycle.after.Conns)
	kept = most(cycle.after.Conns, cycle.conns)
	switch {
	case signal > 0 && kept:
		r.Verdict("body-cycle", Holds, says)
	case signal > 0 || kept:
		r.Verdict("body-cycle", HoldsInPart, says)
	default:
		r.Verdict("body-cycle", DoesNotHold, says)
	}
}

// ends says how reads ended.
func ends(m map[string]int) string {
	if len(m) == 0 {
		return "nothing"
	}
	return kinds(m)
}
