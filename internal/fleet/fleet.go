// Package fleet is simulated clients by the hundred thousand, on the same loops as the gateway's
// connections: no goroutine, no buffer and a few words of state each. The tools and tests drive it.
package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

// Config describes a fleet. Target and Conns are required.
type Config struct {
	// Target is where all conns go; Dial is what they ask for there.
	Target netip.AddrPort
	Dial   ws.Dial
	// Conns is how many conns are wanted at a time.
	Conns int
	// Pending bounds the conns that are being opened at a time. Zero means 256.
	Pending int
	// Rate bounds the connects a second, but for those of Squad.Dial. Zero means no bound but Pending.
	Rate float64
	// Timeout is the time from connect to the complete handshake. Zero means 10 s.
	Timeout time.Duration
	// Sources are the local addresses. Nil means, for a target in 127.0.0.0/8, as many loopback addresses as are
	// needed, else the system's choice.
	Sources []netip.Addr
	// PerSource is how many conns one source address takes before the next one's turn. Zero means 13,000: beyond
	// about 14,000 the kernel searches for a free port ever longer.
	PerSource int
	// Loops is how many loops start. Zero means as many as Conns need descriptors for.
	Loops int
	// Churn closes each conn as soon as it stands and opens another, until Churn were opened in all.
	Churn int
	// Private gives each loop a descriptor table of its own even where one table would do, so that several fleets fit
	// into one process.
	Private bool
	// Speak makes what the clients of one loop say and hear behind the handshake, on the loop's thread. Nil has them only
	// count what comes. It does not go with Churn.
	Speak func(q Squad) Speaker
	// HTTP has conns carry HTTP/1.1 instead of WebSocket: what a Speaker, which must be an Answerer, says are requests.
	// NoBody tells that they are HEAD requests, whose answers have no body.
	HTTP, NoBody bool
	// Refill has conns that are over replaced while Aim wants as many: at once those that stood for a tenth of a second, or
	// that we ended, and at the next tick those that could not be opened or were lost sooner.
	Refill bool
	// OnDemand leaves it to the Speaker, which must be a Leveller, to open conns by Squad.Dial, at most Conns at a time.
	OnDemand bool
	// TLS has conns go over TLS. They cost a goroutine and some 40 KB each then.
	TLS *tls.Config
	// ReadRate is how many bytes a second a conn reads, on average; zero means as fast as they come, and below zero none.
	ReadRate int
	// MaxMessage bounds a received message. Zero means 64 MiB.
	MaxMessage int64
	// Log gets what cannot be said otherwise. Nil means slog.Default().
	Log *slog.Logger
}

// Fleet is a set of simulated clients.
type Fleet struct {
	config Config
	loops  *loop.Group
	crews  []*crew // by loop; the crew's own fields belong to its loop's thread
	each   []int64 // conns that each loop holds when all stand; frozen
	quota  []int64 // conns that each loop is to open, those that it did included
	aims   []int64 // conns that Aim told each loop

	paced time.Time // when Aim last added to tokens
	due   float64   // the part of a connect that was left then

	dials  atomic.Int64 // tickets for source addresses
	tokens atomic.Int64 // connects that the rate allows now
	counts []counts     // by loop
}

// New makes a fleet; Open lets it go.
func New(c Config) (*Fleet, error) {
	if !c.Target.IsValid() {
		return nil, errors.New("fleet: no target")
	}
	if c.Conns < 1 {
		return nil, fmt.Errorf("fleet: %d conns: want at least 1", c.Conns)
	}
	if c.Speak != nil && c.Churn > 0 {
		return nil, errors.New("fleet: clients that speak do not churn")
	}
	if (c.HTTP || c.OnDemand) && c.Speak == nil {
		return nil, errors.New("fleet: clients of HTTP, and those on demand, need a speaker")
	}
	if c.Pending == 0 {
		c.Pending = 256
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.PerSource == 0 {
		c.PerSource = 13_000
	}
	if c.MaxMessage == 0 {
		c.MaxMessage = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Dial.Host == "" {
		c.Dial.Host = c.Target.String()
	}
	f := &Fleet{config: c}
	limit, _ := sys.Descriptors()
	most := c.Conns
	if c.Churn > 0 || c.Refill || c.OnDemand {
		most *= 2 // conns that close are there for a while yet
	}
	options := loop.Options{Log: c.Log}
	if c.TLS != nil {
		options.System = loop.NewDialingSystem(dialTLS(c.TLS, c.Timeout))
	}
	table := loop.TableAuto
	if c.Private && c.TLS == nil {
		table = loop.TablePrivate
	}
	y, err := loop.Plan(most, c.Loops, table, limit, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	n := y.Loops
	if y.Private {
		n = y.MaxLoops
	}
	options.MaxConns, options.Loops, options.Table = most, n, table
	options.NewHandler = func(l *loop.Loop) loop.Handler { return newCrew(f, l) }
	f.loops, err = loop.NewGroup(options)
	if err != nil {
		return nil, err
	}
	n = f.loops.Layout().Loops
	f.crews = make([]*crew, n)
	f.counts = make([]counts, n)
	f.quota = make([]int64, n)
	f.each = make([]int64, n)
	f.aims = make([]int64, n)
	for i := range f.quota {
		f.each[i] = int64((c.Conns + i) / n)
		f.quota[i] = f.each[i]
		if f.quota[i] > int64(f.loops.Layout().Budget) {
			return nil, fmt.Errorf("fleet: %d conns do not fit on %d loops", c.Conns, n)
		}
	}
	return f, nil
}

// Layout says how conns are spread over loops.
func (f *Fleet) Layout() string { return f.loops.Layout().String() }

// Open starts the loops and opens conns until Conns stand (or failed), or, with Churn, were opened and
// closed, or ctx ends. Pending and Rate pace it.
func (f *Fleet) Open(ctx context.Context) error {
	if err := f.loops.Start(); err != nil {
		return err
	}
	if f.config.Churn == 0 {
		// Loops are filled a few at a time: all at once they would only take turns on the CPUs.
		return f.fill(ctx, min(len(f.quota), runtime.GOMAXPROCS(0)), func(c *Counts) bool { return c.Opened+c.Failures() >= int64(f.config.Conns) })
	}
	for i := range f.quota {
		f.quota[i] = int64((f.config.Churn + i) / len(f.quota))
	}
	return f.fill(ctx, len(f.quota), func(c *Counts) bool { return c.Closed+c.Failures()+c.Losses() >= int64(f.config.Churn) })
}

// Reopen opens as many conns as are missing, until they stand or failed, or ctx ends. Clients that speak come back
// under their numbers. It follows Open, and does not go with Churn.
func (f *Fleet) Reopen(ctx context.Context) error {
	c := f.Counts()
	want := c.Opened + c.Failures()
	for i := range f.quota {
		k := &f.counts[i]
		missing := max(0, f.each[i]-k.open.Load()-k.pending.Load())
		f.quota[i] = k.dialled.Load() + missing
		want += missing
	}
	return f.fill(ctx, min(len(f.quota), runtime.GOMAXPROCS(0)), func(c *Counts) bool { return c.Opened+c.Failures() >= want })
}

// fill opens conns up to the loops' quotas, on so many loops at a time, until done.
func (f *Fleet) fill(ctx context.Context, active int, done func(*Counts) bool) error {
	share := int64(max(1, f.config.Pending/active))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin, dials := time.Now(), f.dials.Load()
	for {
		if c := f.Counts(); done(&c) {
			return nil
		}
		f.tokens.Store(dials + int64(f.config.Rate*time.Since(begin).Seconds())) // looked at only where there is a rate
		turns := active
		for i := range f.quota {
			if turns == 0 {
				break
			}
			k := &f.counts[i]
			if k.dialled.Load() < f.quota[i] {
				turns--
				f.on(i, func(w *crew) { w.want, w.window = f.quota[i], share; w.launch() })
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.loops.Failed():
			return f.loops.Close()
		}
	}
}

// Each calls g for every client that stands, on its loop's thread, and waits until all are through.
func (f *Fleet) Each(ctx context.Context, g func(Client)) error {
	return f.loops.Ask(ctx, func(l *loop.Loop) {
		w := f.crews[l.Index()]
		l.Each(func(i uint32) {
			if w.member[i].phase == phaseOpen {
				g(w.client(i))
				l.Flush(i) // at once, so that one queue serves all
			}
		})
	})
}

// Cut ends all conns that stand, at once and with a reset, as a network does that goes away. They count as closed.
func (f *Fleet) Cut(ctx context.Context) error {
	if _, err := f.CutShare(ctx, 1); err != nil {
		return err
	}
	// The loops have forgotten them when they answer again.
	return f.loops.Ask(ctx, func(*loop.Loop) {})
}

// CutShare is Cut of a share of them, from 0 to 1, and returns how many. Where Aim wants as many, it returns them.
func (f *Fleet) CutShare(ctx context.Context, share float64) (n int64, err error) {
	var sum atomic.Int64
	err = f.loops.Ask(ctx, func(l *loop.Loop) { sum.Add(f.crews[l.Index()].cut(share)) })
	return sum.Load(), err
}

// Start starts the loops, for Aim.
func (f *Fleet) Start() error { return f.loops.Start() }

// Failed is closed when a loop failed; Close tells why.
func (f *Fleet) Failed() <-chan struct{} { return f.loops.Failed() }

// Aim sets how many conns are to stand from now on, and returns at once: those that are missing are opened, at most
// Config.Pending at a time, and those that are too many closed. With Refill or a Rate it is to be called again from time to
// time, by one goroutine. It follows Start, and does not go with Open. Loops are filled a few at a time, each as full as it
// may be.
func (f *Fleet) Aim(n int) {
	active := min(len(f.each), runtime.GOMAXPROCS(0))
	share := int64(max(1, f.config.Pending/active))
	if f.config.Rate > 0 {
		f.pace()
	}
	left := int64(max(0, n))
	for begin := 0; begin < len(f.each); begin += active {
		group := f.each[begin:min(begin+active, len(f.each))]
		for k, most := range group {
			// An equal share of what is left, rounded up: later loops may hold one more than the first.
			rest := int64(len(group) - k)
			here := min(most, (left+rest-1)/rest)
			left -= here
			if i := begin + k; f.aims[i] != here || f.config.Refill || f.counts[i].missing.Load() > 0 {
				f.aims[i] = here
				f.on(i, func(w *crew) { w.tend(here, share) })
			}
		}
	}
}

// Halt has no further conn dialled, whatever Aim wanted last, and waits until the loops know; Aim is not called any more. With
// pending, conns that are being opened are given up as well, and count as closed.
func (f *Fleet) Halt(ctx context.Context, pending bool) error {
	err := f.loops.Ask(ctx, func(l *loop.Loop) { f.crews[l.Index()].halt(pending) })
	if err != nil || !pending {
		return err
	}
	return f.loops.Ask(ctx, func(*loop.Loop) {}) // by now they have forgotten them
}

// pace adds the connects that were due since the last call to those allowed. What is not used is kept for a quarter of a
// second, so that a level that rises late does not rise at once.
func (f *Fleet) pace() {
	now := time.Now()
	if f.paced.IsZero() {
		f.paced = now
	}
	f.due += f.config.Rate * now.Sub(f.paced).Seconds()
	f.paced = now
	whole := int64(f.due)
	f.due -= float64(whole)
	// A ticket that is drawn and given back makes dials too large for a moment, so only the bound may depend on it.
	f.tokens.Store(min(f.tokens.Load()+whole, f.dials.Load()+max(1, int64(f.config.Rate/4))))
}

// Connects is how long conns took to stand since the last call, in µs, to two digits: tcp until the kernel had
// the conn (over TLS, until that was through), whole until the handshake was complete. nil where there was none.
func (f *Fleet) Connects(ctx context.Context) (tcp, whole *hdrhistogram.Histogram, err error) {
	var mu sync.Mutex
	err = f.loops.Ask(ctx, func(l *loop.Loop) {
		w := f.crews[l.Index()]
		mu.Lock()
		defer mu.Unlock()
		take(&tcp, w.tcps)
		take(&whole, w.connects)
	})
	mu.Lock()
	defer mu.Unlock()
	return tcp, whole, err
}

// Ask calls g with the Speaker of each loop, on its thread, and waits until all are through.
func (f *Fleet) Ask(ctx context.Context, g func(Speaker)) error {
	return f.loops.Ask(ctx, func(l *loop.Loop) { g(f.crews[l.Index()].speaker) })
}

// Loops is how many loops there are.
func (f *Fleet) Loops() int { return len(f.crews) }

// Sources is how many local addresses have been used.
func (f *Fleet) Sources() int {
	turns := (int(f.dials.Load()) + f.config.PerSource - 1) / f.config.PerSource
	switch n := len(f.config.Sources); {
	case n > 0:
		return min(n, turns)
	case f.config.Target.Addr().Is4() && f.config.Target.Addr().IsLoopback():
		return turns
	}
	return min(1, turns)
}

// on runs g on the thread of loop i.
func (f *Fleet) on(i int, g func(*crew)) {
	_ = f.loops.Loops()[i].Call(func() { g(f.crews[i]) })
}

// Exchange is request and reply: the first Conns of the fleet keep InFlight messages of Size bytes under way
// each, against an endpoint that echoes.
type Exchange struct {
	Conns    int
	InFlight int
	Size     int
	Binary   bool
}

// Echo starts an exchange on conns that are open; EndEcho ends it.
func (f *Fleet) Echo(x Exchange) {
	for i := range f.crews {
		n := x.Conns / len(f.crews)
		if i < x.Conns%len(f.crews) {
			n++
		}
		f.on(i, func(w *crew) { w.exchange(x, n) })
	}
}

// EndEcho lets the exchanges run out and returns when the loops know.
func (f *Fleet) EndEcho(ctx context.Context) error {
	return f.loops.Ask(ctx, func(l *loop.Loop) { f.crews[l.Index()].echo = Exchange{} })
}

// Latency is the round-trip times since the last call, in µs.
func (f *Fleet) Latency(ctx context.Context) (*hdrhistogram.Histogram, error) {
	sum := newHistogram()
	var mu sync.Mutex
	err := f.loops.Ask(ctx, func(l *loop.Loop) {
		w := f.crews[l.Index()]
		mu.Lock()
		defer mu.Unlock()
		sum.Merge(w.latency)
		w.latency.Reset()
	})
	mu.Lock()
	defer mu.Unlock()
	return sum, err
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

// record adds a time to a coarse histogram, which is made with the first: there is one for each loop.
func record(h **hdrhistogram.Histogram, d time.Duration) {
	if *h == nil {
		*h = hdrhistogram.New(1, 600_000_000, 2)
	}
	_ = (*h).RecordValue(min(600_000_000, int64(max(1, d/time.Microsecond))))
}

// take moves what a loop recorded to a sum.
func take(sum **hdrhistogram.Histogram, from *hdrhistogram.Histogram) {
	if from == nil || from.TotalCount() == 0 {
		return
	}
	if *sum == nil {
		*sum = hdrhistogram.New(1, 600_000_000, 2)
	}
	(*sum).Merge(from)
	from.Reset()
}

// CloseAll closes all conns with the closing handshake, over a duration, and waits until they are gone.
func (f *Fleet) CloseAll(ctx context.Context, over time.Duration) error {
	f.loops.Running(func(l *loop.Loop) { f.crews[l.Index()].closeAll(over) })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.loops.Live() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.loops.Failed():
			return nil
		}
	}
	return nil
}

// Close ends everything at once.
func (f *Fleet) Close() error {
	return f.loops.Close()
}
