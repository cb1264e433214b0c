// Package checker is the proof that subscribers get what they are promised: many simulated clients subscribe over real
// TCP connections to a gateway, all sorts of things happen to them and to its engine, and each publication that arrives is
// held against what was published. Per channel and subscription there is no gap, no duplicate and no reorder, or the
// client was told.
package checker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/ws"
)

// Options describe a run. The zero value is a small one.
type Options struct {
	Seed     uint64 // of all that is random here; what the system's scheduling does comes on top
	Clients  int    // zero: 100
	Channels int    // zero: 64
	Loops    int    // of the gateway; zero: 2
	Tables   longwire.Tables
	Faults   Faults // of the engine

	// Publications is how many are made in all before the run comes to its end; zero: 4000. With For, it is that
	// time instead.
	Publications int
	For          time.Duration
	RestartEvery int // publications between two restarts of the engine; zero: 2500; negative: none
	Calm         int // messages that a client gets between two of its actions, about; zero: 15
	Stall        int // publications of all channels for which a client stops reading, at most; zero: 500
	DrainEvery   int // publications until another gateway takes over and the one before drains; zero: never
	CrowdEvery   int // publications until all sessions of one user are disconnected at once; zero: never
	// Patience bounds the end of a run, when all clients have to come to rest. Zero means 2 minutes.
	Patience time.Duration
	Log      *slog.Logger // of the gateway; nil: none

	spoil func(m *message) // tests: changes what clients hear, before they judge it; the run ends with the first violation
}

// Report is what came of a run.
type Report struct {
	Seed         uint64
	Conns        int64 // that clients made
	Published    int64 // as the engine counts, by clients and otherwise
	ByClients    int64 // of these, that clients made and that were confirmed
	Received     int64
	Deltas       int64 // of these
	Cuts         int64 // connections that clients ended
	Stalls       int64
	Slow         int64 // connections that the gateway ended because the client was slow
	Recovered    int64
	Unrecovered  int64 // subscriptions that asked and were told that they could not
	Insufficient int64 // subscriptions that were ended with 2500
	Served       int64 // subscriptions that the server made
	Crowds       int64 // times that all sessions of one user were disconnected
	Drains       int64
	Dropped      uint64 // publications that slow subscribers did not get, by policy
	Restarts     int64
	Removed      int64 // histories
	Lost         uint64
	Waits        int64 // publications for which the run waited in vain to be seen
	Took         time.Duration

	Violations []Violation // the first of them
	Total      int64       // violations
}

// String is the report in a few lines.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d conns, %d cuts, %d stalls, %d slow; %d published (%d by clients), %d lost, %d received (%d as deltas); %d recovered, %d not, %d told of a gap; %d subscriptions by the server, %d crowds, %d drains, %d dropped by policy; %d restarts, %d histories removed; %d waits in vain; %v; %d violations",
		r.Seed, r.Conns, r.Cuts, r.Stalls, r.Slow, r.Published, r.ByClients, r.Lost, r.Received, r.Deltas, r.Recovered, r.Unrecovered, r.Insufficient,
		r.Served, r.Crowds, r.Drains, r.Dropped, r.Restarts, r.Removed, r.Waits, r.Took.Round(time.Millisecond), r.Total)
	for i := range r.Violations {
		fmt.Fprintf(&b, "\n%v", &r.Violations[i])
	}
	return b.String()
}

// maxViolations is how many a report has in full.
const maxViolations = 20

// namespace is what holds for a channel.
type namespace string

const (
	namespaceKept  namespace = "kept"
	namespaceShort namespace = "short" // so little is kept that recoveries fail
	namespaceDelta namespace = "delta"
	namespaceLive  namespace = "live"  // nothing is kept
	namespaceLarge namespace = "large" // of large publications, which fill the queues of those who stall

	// Of large publications too: who stalls keeps its connection and loses some of them.
	namespaceOldest    namespace = "oldest"
	namespaceConflated namespace = "conflated"
)

// namespaces are those that have as many channels as others. Beside them are the large channels: one for those who are
// disconnected when they are slow, and those where a policy drops.
var (
	namespaces      = []namespace{namespaceKept, namespaceShort, namespaceDelta, namespaceLive}
	largeNamespaces = []namespace{namespaceLarge, namespaceOldest, namespaceConflated}
	largeChannels   = []string{"large:0", "oldest:0", "conflated:0"}
)

func namespaceOf(channel string) namespace {
	name, _, _ := strings.Cut(channel, ":")
	return namespace(name)
}

func (n namespace) options() longwire.ChannelOptions {
	o := longwire.ChannelOptions{Name: string(n), Presence: n == namespaceShort}
	switch n {
	case namespaceKept:
		o.HistorySize = 200
	case namespaceShort:
		o.HistorySize = 5
	case namespaceLarge:
		o.HistorySize = 40
	case namespaceOldest:
		o.Slow, o.SlowKeep = longwire.SlowDropOldest, 4
	case namespaceConflated:
		o.Slow = longwire.SlowConflate
	case namespaceDelta:
		o.HistorySize, o.AllowDelta, o.DeltaPublish = 100, true, true
	}
	if o.HistorySize > 0 {
		o.HistoryTTL = time.Hour
	}
	return o
}

// drops reports whether slow subscribers of the namespace lose publications without being told.
func (n namespace) drops() bool { return n == namespaceOldest || n == namespaceConflated }

// large reports whether its publications are.
func (n namespace) large() bool { return n == namespaceLarge || n.drops() }

// The phases of a run.
const (
	phaseStarting int32 = iota // all subscribe
	phaseRunning
	phaseSettling // no faults any more; all come back and subscribe
	phaseFinal    // the last publications are made; all have to get them
)

// run is a run under way.
type run struct {
	o        Options
	ledger   *Ledger
	engine   *Engine
	gateway  atomic.Pointer[served]
	handing  sync.Mutex     // held while another one takes over
	before   sync.WaitGroup // gateways that drain
	channels []string       // by namespace in turn, without the large ones
	pads     pads
	bell     chan struct{} // has one when clients got on: publishers wait for them
	moves    atomic.Int64
	patience time.Duration // for one message, before a client does something by itself

	phase   atomic.Int32
	late    atomic.Bool                      // the end has taken too long
	ready   [phaseSettling + 1]chan struct{} // by phase: has one for each client that has all its subscriptions, or never will
	clients []*client
	removed []atomic.Uint64 // by channel: what is above this offset was not removed from its history
	made    atomic.Int64    // publications, by publishers
	large   counter         // large ones
	asked   atomic.Int64    // publications that clients wanted to make

	count struct {
		conns, published, received, deltas, cuts, stalls, slow, recovered, unrecovered, insufficient, restarts, removed, waits, served, crowds, drains atomic.Int64
	}
	dropped atomic.Uint64

	mu         sync.Mutex
	violations []Violation         // guarded by mu
	total      int64               // guarded by mu
	conns      map[connOf]lifeOf   // guarded by mu
	ends       map[lifeOf]endCause // guarded by mu: those that need a reason
}

// served is a gateway of a run. There is another one after each drain.
type served struct {
	*longwire.Gateway
	addr string
}

// connOf names a connection of a gateway.
type connOf struct {
	gateway int
	id      string // Conn.ID
}

// lifeOf names one connection of a client.
type lifeOf struct{ client, life int }

type endCause = longwire.Cause

// Run makes a run. The error is for what kept it from being one; violations are in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	for _, d := range []struct {
		n *int
		v int
	}{{&o.Clients, 100}, {&o.Channels, 64}, {&o.Loops, 2}, {&o.Publications, 4000}, {&o.RestartEvery, 2500}, {&o.Calm, 15}, {&o.Stall, 500}} {
		if *d.n == 0 {
			*d.n = d.v
		}
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	r := &run{o: o, bell: make(chan struct{}, 1), patience: 500 * time.Millisecond,
		conns: make(map[connOf]lifeOf), ends: make(map[lifeOf]endCause)}
	r.removed = make([]atomic.Uint64, o.Channels+len(largeChannels))
	for i := range r.ready {
		r.ready[i] = make(chan struct{}, o.Clients+steady)
	}
	for i := range o.Channels {
		ch := fmt.Sprintf("%s:%d", namespaces[i%len(namespaces)], i)
		r.channels = append(r.channels, ch)
	}
	r.ledger = NewLedger(r.allChannels())
	r.engine = NewEngine(r.ledger, o.Faults, o.Seed)
	r.pads = newPads(rand.New(rand.NewPCG(o.Seed, 1)))
	if err := r.start(); err != nil {
		return nil, err
	}
	began := time.Now()
	err := r.play(ctx)
	r.before.Wait()
	last := r.gateway.Load()
	r.dropped.Add(last.Stats().Dropped)
	if err := errors.Join(err, last.Close(), r.ledger.Fault()); err != nil {
		return nil, fmt.Errorf("checker: %w", err)
	}
	r.judgeEnds()
	c := &r.count
	return &Report{Seed: o.Seed, Conns: c.conns.Load(), Published: r.ledger.taken.load(), ByClients: c.published.Load(), Received: c.received.Load(),
		Deltas: c.deltas.Load(), Cuts: c.cuts.Load(), Stalls: c.stalls.Load(), Slow: c.slow.Load(), Recovered: c.recovered.Load(),
		Unrecovered: c.unrecovered.Load(), Insufficient: c.insufficient.Load(), Served: c.served.Load(), Crowds: c.crowds.Load(),
		Drains: c.drains.Load(), Dropped: r.dropped.Load(), Restarts: c.restarts.Load(), Removed: c.removed.Load(),
		Lost: r.engine.Lost(), Waits: c.waits.Load(), Took: time.Since(began), Violations: r.violations, Total: r.total}, nil
}

// allChannels are the channels of the run.
func (r *run) allChannels() []string { return append(slices.Clone(r.channels), largeChannels...) }

// quiet is the time between pings. Clients have as long to answer: hundreds of them are on the same few CPUs, on a machine
// that others may use too, and it is not of them that a heartbeat has to be shown to work.
const quiet = 25 * time.Second

// start makes the gateway and starts it.
func (r *run) start() error {
	number := int(r.count.drains.Load())
	node := r.engine.Node()
	var eng engine.Engine = node
	if !r.o.Faults.Lag {
		eng = Immediate{node}
	}
	c := longwire.Config{Addr: "127.0.0.1:0", Loops: r.o.Loops, Tables: r.o.Tables, MaxConns: 2*r.o.Clients + 1000, MaxMemory: -1, Log: r.o.Log,
		Sessions: longwire.Sessions{Insecure: true, Ping: quiet, Pong: quiet - time.Second},
		Tokens:   longwire.TokenOptions{HMACSecret: []byte(tokenSecret)}, Engine: eng,
		Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection/websocket"), longwire.Plain("/ws")}}
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		e.Compression, e.WriteQueue = true, 64<<10
		e.Heartbeat = longwire.Heartbeat{Ping: quiet, Timeout: 3 * quiet}
		e.OnOpen = func(c longwire.Conn, req *ws.Request) { r.opened(connOf{number, c.ID()}, req) }
		e.OnClose = func(c longwire.Conn, cause longwire.Cause) { r.ended(connOf{number, c.ID()}, cause) }
	}
	for _, n := range slices.Concat(namespaces, largeNamespaces) {
		c.Namespaces = append(c.Namespaces, n.options())
	}
	g, err := longwire.New(c)
	if err != nil {
		return fmt.Errorf("checker: %w", err)
	}
	if err := g.Start(); err != nil {
		return fmt.Errorf("checker: %w", errors.Join(err, g.Close()))
	}
	r.gateway.Store(&served{g, g.Addr().String()})
	return nil
}

// drainOver is how long the clients of a gateway that goes away are spread over.
const drainOver = 500 * time.Millisecond

// handOver has another gateway with the same engine take over. The one before drains meanwhile.
func (r *run) handOver() {
	r.handing.Lock()
	defer r.handing.Unlock()
	r.count.drains.Add(1)
	old := r.gateway.Load()
	if err := r.start(); err != nil {
		r.violate(&Violation{Kind: Broken, Detail: err.Error()})
		return
	}
	r.before.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), r.o.Patience)
		defer cancel()
		err := old.Drain(ctx, drainOver)
		r.dropped.Add(old.Stats().Dropped)
		if err := errors.Join(err, old.Close()); err != nil {
			r.violate(&Violation{Kind: Broken, Detail: "drain: " + err.Error()})
		}
	})
}

// ask has the application ask a gateway for something: the next one, if that is closed by then.
func (r *run) ask(f func(g *served) error) error {
	for {
		g := r.gateway.Load()
		if err := f(g); !errors.Is(err, longwire.ErrClosed) || g == r.gateway.Load() {
			return err
		}
	}
}

// opened notes which client a conn is of.
func (r *run) opened(c connOf, req *ws.Request) {
	q, _ := url.ParseQuery(string(req.Query()))
	client, _ := strconv.Atoi(q.Get("c"))
	life, _ := strconv.Atoi(q.Get("l"))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = lifeOf{client, life}
}

// ended notes why a conn ended, if that is not what clients do all the time.
func (r *run) ended(c connOf, cause longwire.Cause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.conns[c]
	delete(r.conns, c)
	switch cause.Kind {
	case longwire.CauseClientClose, longwire.CauseClientFIN, longwire.CauseReset, longwire.CauseDrain, longwire.CauseApplication:
	default:
		r.ends[of] = cause
	}
}

// judgeEnds checks that nobody was ended without having asked for it.
func (r *run) judgeEnds() {
	for of, cause := range r.ends {
		c := r.clients[of.client]
		if cause.Kind == longwire.CauseSlow {
			r.count.slow.Add(1)
		}
		switch kind := cause.Kind; {
		case kind == longwire.CauseSlow && c.maySlow(of.life), cause.Code == insufficient && c.by != bySelf:
			continue // as its close frame was judged
		case (kind == longwire.CauseHeartbeat || kind == longwire.CauseKernelTimeout) && c.stalled[of.life]:
			continue // where the run takes long, a stall may be longer than either waits
		}
		r.violate(&Violation{Kind: Ended, Client: of.client, Detail: fmt.Sprintf("the gateway ended life %d: %v", of.life, cause)})
	}
}

func (r *run) violate(v *Violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total++; len(r.violations) < maxViolations {
		r.violations = append(r.violations, *v)
	}
	if r.o.spoil != nil {
		r.late.Store(true) // that is what it was for
	}
}

func (r *run) disconnect(session string, code ws.StatusCode) {
	err := r.ask(func(g *served) error {
		return g.Disconnect(context.Background(), longwire.Target{Client: session}, longwire.DisconnectAs{Code: uint16(code), Reason: "checker"})
	})
	if err != nil {
		r.violate(&Violation{Kind: Broken, Detail: err.Error()})
	}
}

func (r *run) unsubscribe(session, channel string) {
	err := r.ask(func(g *served) error {
		return g.Unsubscribe(context.Background(), longwire.Target{Client: session}, channel)
	})
	if err != nil {
		r.violate(&Violation{Kind: Broken, Channel: channel, Detail: err.Error()})
	}
}

// subscribeAs has the server subscribe a session, from the position since if known.
func (r *run) subscribeAs(session, channel string, positioned bool, since engine.Position, known bool) error {
	as := longwire.SubscribeAs{Recover: known, RecoverOffset: since.Offset, RecoverEpoch: since.Epoch,
		Options: longwire.SubscribeOptions{ForceRecovery: &positioned}}
	err := r.ask(func(g *served) error {
		return g.Subscribe(context.Background(), longwire.Target{Client: session}, channel, as)
	})
	if err != nil {
		r.violate(&Violation{Kind: Broken, Channel: channel, Detail: err.Error()})
	}
	return err
}

// crowdUser is whose sessions are many, and crowdCode what all of them are disconnected with.
const (
	crowdUser = "crowd"
	crowdCode = 4400
)

// scatter disconnects all sessions of one user at once.
func (r *run) scatter() {
	r.count.crowds.Add(1)
	err := r.ask(func(g *served) error {
		return g.Disconnect(context.Background(), longwire.Target{User: crowdUser}, longwire.DisconnectAs{Code: crowdCode, Reason: "checker"})
	})
	if err != nil {
		r.violate(&Violation{Kind: Broken, Detail: err.Error()})
	}
}

// steady is how many clients without faults there are beside the others. Together they have all channels.
const steady = 4

// newClient makes client k.
func (r *run) newClient(k int) *client {
	c := &client{r: r, number: k, rnd: rand.New(rand.NewPCG(r.o.Seed, uint64(k)+100)), byName: make(map[string]*sub)}
	var channels []int
	large := len(r.channels)
	if c.steady = k < steady; c.steady {
		for i := k; i < large+len(largeChannels); i += steady {
			channels = append(channels, i)
		}
	} else {
		c.codec = []codec{codecJSON, codecJSON, codecProtobuf, codecPlain}[c.rnd.IntN(4)]
		c.deflate, c.frames = c.rnd.IntN(4) == 0, c.rnd.IntN(8) == 0
		channels = c.rnd.Perm(large)[:1+c.rnd.IntN(min(5, large))]
		switch {
		case k%75 == 50:
			// A publication of any other channel would end it while it stalls.
			channels, c.large, c.lenient, c.deflate, c.codec = []int{large + 1, large + 2}, true, true, false, codecProtobuf
		case k%25 == 0:
			channels, c.large, c.deflate, c.codec = append(channels, large), true, false, codecProtobuf
		case c.codec != codecPlain && k%6 == 1:
			c.by = byAPI
		case c.codec != codecPlain && k%6 == 3:
			c.by = byToken
		}
	}
	for _, i := range channels {
		ch := r.channel(i)
		s := &sub{kind: namespaceOf(ch), index: i, Track: Track{Ledger: r.ledger, Client: k, Channel: ch, Lossless: r.o.Faults.Lose == 0 && !namespaceOf(ch).drops()}}
		c.subs = append(c.subs, s)
		c.byName[ch] = s
	}
	return c
}

// play is the run between start and end of the gateway.
func (r *run) play(ctx context.Context) error {
	var clients sync.WaitGroup
	for k := range r.o.Clients + steady {
		r.clients = append(r.clients, r.newClient(k))
	}
	for _, c := range r.clients {
		clients.Go(c.live)
	}
	patience := time.AfterFunc(r.o.Patience, func() { r.late.Store(true) })
	defer patience.Stop()
	r.await(phaseStarting)
	if r.late.Load() {
		clients.Wait()
		return errors.New("the clients did not subscribe in time")
	}
	patience.Stop()
	r.phase.Store(phaseRunning)

	var publishers sync.WaitGroup
	end := time.Now().Add(r.o.For)
	more := func() bool {
		n := r.made.Add(1)
		if r.o.RestartEvery > 0 && n%int64(r.o.RestartEvery) == 0 {
			r.restart()
		}
		if r.o.CrowdEvery > 0 && n%int64(r.o.CrowdEvery) == 0 {
			r.scatter()
		}
		if r.o.DrainEvery > 0 && n%int64(r.o.DrainEvery) == 0 {
			r.handOver()
		}
		if r.late.Load() {
			return false
		}
		if r.o.For > 0 {
			return ctx.Err() == nil && time.Now().Before(end)
		}
		return ctx.Err() == nil && n <= int64(r.o.Publications)
	}
	for k := range publisherCount {
		publishers.Go(func() { r.publish(k, more) })
	}
	publishers.Wait()
	r.engine.StopLosing()
	patience.Reset(r.o.Patience)
	r.phase.Store(phaseSettling)
	r.ledger.taken.end()
	r.large.end()
	r.await(phaseSettling)
	// The phase first: who subscribes from now on may have missed them.
	r.phase.Store(phaseFinal)
	rnd := rand.New(rand.NewPCG(r.o.Seed, 3))
	for _, ch := range r.allChannels() {
		r.publishOne(rnd, ch)
	}
	clients.Wait()
	return ctx.Err()
}

// await waits for all clients.
func (r *run) await(phase int32) {
	for range r.o.Clients + steady {
		<-r.ready[phase]
	}
}

// mayPublish reports whether a client may publish: one for four of the publishers', or what clients do because of
// publications would make ever more of them.
func (r *run) mayPublish() bool { return r.asked.Add(1) <= r.made.Load()/4 }

const publisherCount = 4

// publish makes publications in every publisherCount-th channel and in the large ones, and faults of the engine.
func (r *run) publish(k int, more func() bool) {
	rnd := rand.New(rand.NewPCG(r.o.Seed, uint64(k)+10))
	var channels []int
	for i := k; i < len(r.channels); i += publisherCount {
		channels = append(channels, i)
	}
	if len(channels) == 0 {
		return
	}
	for n := 0; more(); n++ {
		i := channels[rnd.IntN(len(channels))]
		if n%8 == 3 {
			i = len(r.channels)
			r.publishOne(rnd, r.channel(i+1+n/8%(len(largeChannels)-1)))
			r.large.add()
		}
		r.publishOne(rnd, r.channel(i))
		if n%8 == 7 && !r.keepTogether() {
			r.count.waits.Add(1)
		}
		if rnd.IntN(400) == 0 && namespaceOf(r.channel(i)).options().HistorySize > 0 {
			r.removeHistory(i)
		}
	}
}

func (r *run) removeHistory(i int) {
	r.count.removed.Add(1)
	r.removed[i].Store(math.MaxUint64)
	err := r.ask(func(g *served) error { return g.RemoveHistory(context.Background(), r.channel(i)) })
	if err != nil {
		r.violate(&Violation{Kind: Broken, Channel: r.channel(i), Detail: err.Error()})
	}
	top, _ := r.ledger.Top(r.channel(i))
	r.removed[i].Store(top.Offset)
}

func (r *run) restart() {
	r.count.restarts.Add(1)
	if err := r.engine.Restart(); err != nil {
		r.violate(&Violation{Kind: Broken, Detail: "restart: " + err.Error()})
	}
}

// publishOne makes one publication. A gateway that is busy may refuse it: then its number is never seen.
func (r *run) publishOne(rnd *rand.Rand, channel string) {
	data := r.pads.payload(rnd, r.ledger.Number(channel), namespaceOf(channel).large())
	err := r.ask(func(g *served) error {
		_, err := g.Publish(context.Background(), channel, data, longwire.PublishOptions{})
		return err
	})
	if err != nil && !errors.Is(err, longwire.ErrBusy) {
		r.violate(&Violation{Kind: Broken, Channel: channel, Detail: err.Error()})
	}
}

// moved is called when a client has got on. It has publishers look once for as many clients as a look takes long.
func (r *run) moved() {
	if r.moves.Add(1)%int64(1+len(r.clients)/32) == 0 {
		r.ring()
	}
}

// ring wakes one publisher that waits.
func (r *run) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// keepTogether returns when clients are together again. It is for pacing, so it gives up after a while, and reports false.
func (r *run) keepTogether() bool {
	if r.together() {
		return true
	}
	patience, look := time.NewTimer(5*time.Second), time.NewTicker(100*time.Millisecond)
	defer patience.Stop()
	defer look.Stop()
	for !r.together() {
		select {
		case <-r.bell:
		case <-look.C: // the last move may not have rung
		case <-patience.C:
			return false
		}
	}
	r.ring() // others may wait, too
	return true
}

// ahead is how many publications of a channel a subscription may be behind before publishers wait for it.
const ahead = 12

// together reports whether all but a few subscriptions are there and near the end of their channel, but for those whose
// clients stall.
func (r *run) together() bool {
	ends := make([]int64, len(r.channels)+len(largeChannels))
	for i := range ends {
		_, n := r.ledger.Top(r.channel(i))
		ends[i] = int64(n)
	}
	subs, behind := 0, 0
	for _, c := range r.clients {
		subs += len(c.subs)
		if c.paused.Load() {
			continue
		}
		for _, s := range c.subs {
			if !s.online.Load() || s.seen.Load() < ends[s.index]-ahead {
				behind++
			}
		}
	}
	return behind <= subs/20
}

// channel is the i-th one, the large ones being the last.
func (r *run) channel(i int) string {
	if i >= len(r.channels) {
		return largeChannels[i-len(r.channels)]
	}
	return r.channels[i]
}

// pads are what publications consist of behind their number: pieces of one text, so that deltas are worth making, with
// characters of every length.
type pads []string

func newPads(rnd *rand.Rand) pads {
	letters := []rune("abcdefghijklmnopqrstuvwxyz .,äöüß€漢字😀")
	text := make([]rune, 6000)
	for i := range text {
		text[i] = letters[rnd.IntN(len(letters))]
	}
	var p pads
	for i := range 64 {
		piece := slices.Clone(text)
		size := rnd.IntN(60)
		switch {
		case i%16 == 0:
			size = 1000 + rnd.IntN(3000)
		case i%4 == 0:
			size = 60 + rnd.IntN(1000)
		}
		for range 5 {
			piece[rnd.IntN(len(piece))] = 'X'
		}
		at := rnd.IntN(100)
		p = append(p, string(piece[at:at+size]))
	}
	return p
}

// payload is the data of the publication with that number.
func (p pads) payload(rnd *rand.Rand, n uint64, large bool) []byte {
	b := fmt.Appendf(nil, `{"n":%d,"p":"%s`, n, p[rnd.IntN(len(p))])
	for large && len(b) < 96<<10 {
		b = append(b, p[0]...)
	}
	return append(b, `"}`...)
}
