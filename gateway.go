package longwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/flight"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/ws"
)

// Gateway holds connections. Its methods may be called from any goroutine.
type Gateway struct {
	// Frozen after New.
	config    Config
	options   loop.Options
	log       *slog.Logger
	endpoints []endpoint
	paths     map[string]int
	refusals  [refusalKinds][]byte // whole responses, but to those who come while it drains: see refusal
	late      []byte               // the response to a request that did not come in time

	loops     *loop.Group
	fronts    []*front   // by loop; each entry belongs to its loop's thread
	counters  []counters // by loop
	admission admission
	notices   notices
	contexts  contexts
	searching *searches
	pool      *pool
	draining  atomic.Int64 // nanoseconds over which it drains; 0: it does not, or all at once
	drains    drains
	closeLog  closeLog
	journal   *journal.Journal // nil: nobody wants to know of single connections
	noting    bool             // loops write it
	traces    journal.IDs      // of conns that bring none
	hub       *hub.Hub         // nil where no endpoint has sessions, and so the next two
	node      *session.Node
	engine    engine.Engine
	recorder  *flight.Recorder // nil: nothing is recorded
	recorded  int              // bytes that it has
	before    *predecessor     // the process before, where the recorder has something of it
	rules     *channel.Rules
	verifiers []*token.Verifier // of Config.Tokens and SubTokens
	ctx       context.Context   // of all work; ends with Close
	cancel    context.CancelFunc
	plain     *plainHTTP

	mu      sync.Mutex
	state   gatewayState // guarded by mu
	addr    netip.AddrPort
	started time.Time
	stop    chan struct{} // closed by Close
}

type gatewayState uint8

const (
	stateNew gatewayState = iota
	stateStarted
	stateClosed
)

// endpoint is an Endpoint with what is derived from it.
type endpoint struct {
	Endpoint
	policy ws.Policy
}

// New makes a gateway of c. It does not listen yet, and starts no thread.
func New(c Config) (*Gateway, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{config: c, log: c.Log, paths: make(map[string]int), searching: newSearches(), stop: make(chan struct{})}
	for i, e := range c.Endpoints {
		g.endpoints = append(g.endpoints, endpoint{Endpoint: e, policy: ws.Policy{Origins: e.Origins, Subprotocols: e.Subprotocols, Deflate: e.Compression}})
		g.paths[e.Path] = i
	}
	if g.options.System = c.system; c.system == nil {
		if g.options.System, err = loop.NewSystem(); err != nil {
			return nil, err
		}
	}
	g.options.MaxConns, g.options.Loops, g.options.Table = c.MaxConns, c.Loops, c.Tables
	g.options.Socket = sys.ListenOptions{Backlog: c.Backlog, UserTimeout: max(0, c.UserTimeout)}
	g.options.Log = c.Log
	if c.Tracer != nil {
		g.options.Keep = c.Tracer.Descriptors()
		if t, ok := c.Tracer.(ClosingTracer); ok {
			g.options.Closing = func(l *loop.Loop, i uint32, e loop.End, abort bool) { g.fronts[l.Index()].closing(t, i, e, abort) }
		}
	}
	g.options.NewHandler = func(l *loop.Loop) loop.Handler {
		f := newFront(g, l)
		g.fronts[l.Index()] = f
		return f
	}
	if g.loops, err = loop.NewGroup(g.options); err != nil {
		return nil, err
	}
	y := g.loops.Layout()
	g.fronts = make([]*front, y.MaxLoops)
	g.counters = make([]counters, y.MaxLoops)
	now := g.options.System.Now
	g.notices.now = now
	g.admission.maxConns = int64(y.MaxConns)
	g.admission.perAddress = uint32(c.ConnsPerAddress)
	g.admission.rate = c.RatePerAddress
	g.admission.burst = max(1, 4*c.RatePerAddress)
	g.admission.now = now
	g.admission.notify = g.logRefusal
	g.pool = newPool(c.Workers)
	g.ctx, g.cancel = context.WithCancel(poolLabels)
	g.openJournal()
	if err = g.newNode(); err == nil {
		err = g.openRecorder()
	}
	if err != nil {
		g.cancel()
		return nil, errors.Join(err, g.loops.Close())
	}
	g.renderRefusals()
	g.plain = newPlainHTTP(g)
	return g, nil
}

// retryAfter is what clients are told that are turned away, in seconds: Config.RetryAfter, and while the gateway drains the
// jitter that those get whose connections it closes.
func (g *Gateway) retryAfter() int {
	wait := g.config.RetryAfter + session.Jitter(time.Duration(g.draining.Load()))
	return int((wait + time.Second - 1) / time.Second)
}

// refusal is the whole answer to a client that is turned away before anything is known of its request.
func (g *Gateway) refusal(why refusalKind) []byte {
	if why == refusedDrain {
		return g.renderRefusal("the server is going away")
	}
	return g.refusals[why]
}

func (g *Gateway) renderRefusal(reason string) []byte {
	return ws.AppendRefusal(nil, &ws.Refusal{Status: http.StatusServiceUnavailable, Reason: reason, RetryAfter: g.retryAfter()})
}

// renderRefusals prepares the answers that are given before anything is known of the request.
func (g *Gateway) renderRefusals() {
	for k, reason := range map[refusalKind]string{
		refusedConns:        "the server holds as many connections as it may",
		refusedDescriptors:  "the server has no descriptor left",
		refusedMemory:       "the server has no memory for another connection",
		refusedAddressConns: "too many connections from your address",
		refusedAddressRate:  "too many new connections from your address",
	} {
		g.refusals[k] = g.renderRefusal(reason)
	}
	g.late = ws.AppendRefusal(nil, &ws.Refusal{Status: http.StatusRequestTimeout, Reason: "the request did not come in time"})
}

// endpoint is the index of the endpoint at path, or -1.
func (g *Gateway) endpoint(path []byte) int {
	if i, ok := g.paths[string(path)]; ok {
		return i
	}
	return -1
}

// call runs f on the thread of the loop that id is on.
func (g *Gateway) call(id loop.ID, f func(*front)) error {
	l := g.loops.Loops()[id.Loop()]
	return l.Call(func() { f(g.fronts[l.Index()]) })
}

// start starts the loops, once, listening on addr if it is not empty.
func (g *Gateway) start(addr string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.state {
	case stateClosed:
		return ErrClosed
	case stateStarted:
		if addr != "" {
			return errors.New("longwire: the gateway runs already")
		}
		return nil
	}
	if addr != "" {
		ap, err := resolve(addr)
		if err != nil {
			return err
		}
		if g.addr, err = g.loops.Listen(ap); err != nil {
			return err
		}
		g.trackListeners()
	}
	g.closeLog.start(g.log) // the first connection may have something to say
	g.journal.Start()
	if g.engine != nil {
		if err := g.engine.Start(g.ctx, handler{g.hub, g}); err != nil {
			return fmt.Errorf("longwire: start the engine: %w", err)
		}
	}
	if err := g.loops.Start(); err != nil {
		return err
	}
	g.state, g.started = stateStarted, time.Now()
	g.plain.start()
	if ceiling, source := g.ceiling(); ceiling > 0 {
		g.log.Debug("memory ceiling", "bytes", ceiling, "of", source)
		go g.admission.watchMemory(ceiling, sys.Resident, g.stop, g.log)
	}
	return nil
}

// ceiling is what connections may cost in bytes, and where that comes from; 0 for no ceiling.
func (g *Gateway) ceiling() (int64, string) {
	if g.config.MaxMemory != 0 {
		return max(0, g.config.MaxMemory), "configuration"
	}
	root := os.DirFS("/")
	limit, source := sys.MemoryLimit(root)
	if limit == 0 {
		return 0, ""
	}
	// What others use already is not there for connections.
	if free := sys.MemoryAvailable(root) + sys.Resident(); free < limit {
		limit = free
	}
	return int64(limit / 10 * 9), source
}

// resolve turns host:port into an address. No host means all addresses, of both families.
func resolve(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("longwire: address %q: want host:port or :port", addr)
	}
	if host == "" {
		host = "::"
		if !hasIPv6() {
			host = "0.0.0.0"
		}
	}
	a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("longwire: address %q: %w", addr, err)
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

func hasIPv6() bool {
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

// Start listens on Config.Addr and returns. Addr tells where.
func (g *Gateway) Start() error {
	if err := g.start(g.config.Addr); err != nil {
		return err
	}
	g.log.Info("listening", "addr", g.addr.String(), "layout", g.loops.Layout().String())
	return nil
}

// ListenAndServe listens on Config.Addr and serves until ctx ends; then it drains for Config.Drain and
// returns nil. Another error means that the gateway could not start or go on.
func (g *Gateway) ListenAndServe(ctx context.Context) error {
	if err := g.Start(); err != nil {
		_ = g.Close()
		return err
	}
	return g.Run(ctx)
}

// Run is the rest of ListenAndServe, for who has something to do between Start and serving. It closes the gateway.
func (g *Gateway) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		drainErr := g.Drain(context.WithoutCancel(ctx), max(0, g.config.Drain))
		return errors.Join(drainErr, g.Close())
	case <-g.loops.Failed():
		return g.Close()
	case <-g.stop:
		return nil
	}
}

// Addr is the address that the gateway listens on; the zero value before Start.
func (g *Gateway) Addr() netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.addr
}

// Layout says in words how connections are spread over loops and descriptor tables.
func (g *Gateway) Layout() string { return g.loops.Layout().String() }

// Ready reports whether the gateway takes new connections.
func (g *Gateway) Ready() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == stateStarted && !g.admission.draining.Load()
}

// drains is the drain that is under way.
type drains struct {
	mu  sync.Mutex
	end time.Time // guarded by mu: of the last turn; zero: there is none
}

// Drain stops accepting and closes all connections, with 1001 or what their protocol has for it (3001), spread evenly over
// a duration so that the clients don't come back elsewhere in one wave. Until its turn a connection is served as ever. The
// reason of its close ends with "retry after N s" for clients that listen: N is random, up to the duration and up to 10 s,
// and more where Sessions.ConnectRate lets fewer in than go; where both are 0 it is not said. Drain returns when the last
// is gone; those that don't answer the close frame are given a few seconds more. If ctx ends first, it returns the context's
// cause. Called again meanwhile, it gives those that are left new turns where that has the last of them go sooner, and waits
// as the first call does.
func (g *Gateway) Drain(ctx context.Context, over time.Duration) error {
	if !g.running() {
		return nil
	}
	g.StartDrain(over)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for g.loops.Live() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-g.loops.Failed():
			return nil
		case <-g.stop:
			return nil
		}
	}
	g.plain.drain(ctx)
	g.pool.wait()
	return nil
}

// running reports whether the gateway was started and is not closed.
func (g *Gateway) running() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state == stateStarted
}

// StartDrain begins what Drain does and waits for none of it; Drain or ListenAndServe does. left is the time until the last
// connection has its turn, again whether a drain was under way already: then left is no longer than it was.
func (g *Gateway) StartDrain(over time.Duration) (left time.Duration, again bool) {
	if !g.running() {
		return 0, false
	}
	over = max(0, over)
	g.drains.mu.Lock()
	defer g.drains.mu.Unlock()
	end := time.Now().Add(over)
	if again = !g.drains.end.IsZero(); again && !end.Before(g.drains.end) {
		return max(0, time.Until(g.drains.end)), true
	}
	g.drains.end = end
	g.draining.Store(int64(over))
	g.admission.draining.Store(true)
	g.log.Info("draining", "conns", g.loops.Live(), "over", over)
	g.loops.StopAccepting()
	total := max(1, g.loops.Live())
	var next atomic.Int64
	g.loops.Running(func(l *loop.Loop) {
		f := g.fronts[l.Index()]
		f.drain.start, f.drain.over = l.Tick()+1, uint32(min(over/loop.Tick, math.MaxInt32))
		l.Each(func(i uint32) {
			// The first at once: nobody waits for one connection's turn. Slots of several loops interleave, so that none of
			// them has all of its at the end.
			if f.conn[i].phase < phaseClosing { // else it has its time already
				f.takeTurn(i, uint16(min((next.Add(1)-1)<<16/int64(total), math.MaxUint16)))
			}
		})
	})
	return over, again
}

// Close ends everything at once: connections that are left are cut with CauseDrain. It waits until all threads
// and callbacks are done, so it must not be called from a callback.
func (g *Gateway) Close() error {
	g.mu.Lock()
	if g.state == stateClosed {
		g.mu.Unlock()
		return nil
	}
	g.state = stateClosed
	close(g.stop)
	g.mu.Unlock()
	g.cancel()
	err := g.loops.Close()
	g.plain.close()
	g.pool.wait()
	for _, v := range g.verifiers {
		v.Close()
	}
	if g.engine != nil {
		err = errors.Join(err, g.engine.Close())
	}
	g.journal.Close()
	g.closeLog.close()
	g.recorder.Close()
	return err
}

// Broadcast sends a message to every connection of the endpoint at path, whatever loop it is on. payload is
// copied; it is framed once, and compressed once for each window that connections have agreed on. It returns
// when all loops have been told.
func (g *Gateway) Broadcast(path string, op ws.Opcode, payload []byte) error {
	e := g.endpoint([]byte(path))
	if e < 0 {
		return fmt.Errorf("longwire: broadcast: no endpoint %q", path)
	}
	m := newEncoded(op, payload, g.endpoints[e].CompressAbove)
	g.loops.Running(func(l *loop.Loop) {
		f := g.fronts[l.Index()]
		l.Each(func(i uint32) {
			if st := &f.conn[i]; st.phase == phaseOpen && int(st.endpoint) == e {
				f.push(i, st, m)
			}
		})
		f.publish()
	})
	return nil
}

// logRefusal says which limit was reached, once a second for each.
func (g *Gateway) logRefusal(why refusalKind) {
	if held, ok := g.notices.next(why); ok {
		g.closeLog.put(func() {
			g.log.Warn("refused", "limit", why.String(), "conns", g.admission.conns.Load(), "and_before", held)
		})
	}
}

// logClose logs one end where there is no journal: at debug level, the ones that are somebody's fault at info.
func (g *Gateway) logClose(id loop.ID, f *front, st *state, cause Cause) {
	level := endLevel(cause.Kind)
	if g.config.Journal.KernelOnly || !g.log.Enabled(context.Background(), level) {
		return
	}
	age := time.Duration(f.l.Tick()-st.opened) * loop.Tick
	path := ""
	if st.flags&stateUpgraded != 0 {
		path = g.endpoints[st.endpoint].Path
	}
	addr := g.mask(netip.AddrPortFrom(keyAddress(st.addr), 0)).Addr()
	g.closeLog.put(func() {
		g.log.Log(context.Background(), level, "closed", "conn", id.String(), "addr", addr, "path", path,
			"cause", cause.Kind.String(), "code", int(cause.Code), "detail", cause.Detail, "age", age)
	})
}

// closeLog writes log lines away from the loops: a log may block, and on a loop's thread its file may not even
// be open. What does not fit is counted.
type closeLog struct {
	lines chan func()
	lost  atomic.Uint64
	done  chan struct{}
}

func (c *closeLog) start(log *slog.Logger) {
	if c.lines != nil {
		return
	}
	c.lines, c.done = make(chan func(), 1024), make(chan struct{})
	go func() {
		defer close(c.done)
		pprof.SetGoroutineLabels(logLabels)
		for f := range c.lines {
			if f == nil {
				return
			}
			f()
			if n := c.lost.Swap(0); n > 0 {
				log.Warn("log lines were dropped", "lines", n)
			}
		}
	}()
}

func (c *closeLog) put(f func()) {
	select {
	case c.lines <- f:
	default:
		c.lost.Add(1)
	}
}

func (c *closeLog) close() {
	if c.lines == nil {
		return
	}
	c.lines <- nil
	<-c.done
}

// adoption is what travels with a socket that net/http upgraded: where it goes, and the bytes that were read.
//
//	endpoint (1) window (1) address key (8) head length (4) head … frames …
const adoptionHeader = 14

func appendAdoption(b []byte, e int, window uint8, key uint64, head, rest []byte) []byte {
	b = append(b, byte(e), window)
	b = binary.LittleEndian.AppendUint64(b, key)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	b = append(b, head...)
	return append(b, rest...)
}

// adoptionKey is the address key in an adoption.
func adoptionKey(data []byte) uint64 { return binary.LittleEndian.Uint64(data[2:]) }

// adopted takes over a connection whose handshake net/http has done.
func (f *front) adopted(i uint32, st *state, data []byte) {
	e, window := int(data[0]), data[1]
	st.addr = adoptionKey(data)
	n := int(binary.LittleEndian.Uint32(data[10:]))
	head, rest := data[adoptionHeader:adoptionHeader+n], data[adoptionHeader+n:]
	req, _, err := ws.ParseRequest(head, 0)
	if err != nil {
		f.end(i, st, Cause{Kind: CauseInternal})
		st.phase = phaseOver
		f.l.Finish(i)
		return
	}
	f.journalRequest(i, &req)
	h, ref := ws.Negotiate(&req, &f.g.endpoints[e].policy)
	if ref != nil {
		h = ws.Handshake{} // cannot be: net/http's side asked it before
	}
	h.Deflate = ws.Deflate{On: window != 0, Window: window}
	f.open(i, st, e, &h, &req)
	if len(rest) > 0 {
		f.frames(i, st, rest)
	}
}

// Path reports the paths of the endpoints, for messages.
func (g *Gateway) pathList() string {
	var s []string
	for _, e := range g.endpoints {
		s = append(s, e.Path)
	}
	return strings.Join(s, ", ")
}
