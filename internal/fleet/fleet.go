// Package fleet is simulated clients by the hundred thousand, on the same loops as the gateway's
// connections: no goroutine, no buffer and a few words of state each. The tools and tests drive it.
package fleet

import (
	"context"
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
	// Rate bounds the connects a second. Zero means no bound but Pending.
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
	quota  []int64 // conns that each loop is to open

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
	if c.Churn > 0 {
		most *= 2 // conns that close are there for a while yet
	}
	y, err := loop.Plan(most, c.Loops, loop.TableAuto, limit, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	n := y.Loops
	if y.Private {
		n = y.MaxLoops
	}
	f.loops, err = loop.NewGroup(loop.Options{
		MaxConns: most, Loops: n, Log: c.Log,
		NewHandler: func(l *loop.Loop) loop.Handler { return newCrew(f, l) },
	})
	if err != nil {
		return nil, err
	}
	n = f.loops.Layout().Loops
	f.crews = make([]*crew, n)
	f.counts = make([]counts, n)
	f.quota = make([]int64, n)
	for i := range f.quota {
		f.quota[i] = int64((c.Conns + i) / n)
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
	total := int64(f.config.Conns)
	if f.config.Churn > 0 {
		total = int64(f.config.Churn)
	}
	// Loops are filled a few at a time: all at once they would only take turns on the CPUs.
	active := min(len(f.quota), runtime.GOMAXPROCS(0))
	share := int64(max(1, f.config.Pending/active))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	if f.config.Churn > 0 {
		for i := range f.quota {
			f.quota[i] = int64((f.config.Churn + i) / len(f.quota))
		}
		active = len(f.quota)
		share = max(1, int64(f.config.Pending/active))
	}
	for done := int64(0); ; {
		c := f.Counts()
		done = c.Opened + c.Failures()
		if f.config.Churn > 0 {
			done = c.Closed + c.Failures() + c.Losses()
		}
		if done >= total {
			return nil
		}
		allowed := total
		if f.config.Rate > 0 {
			allowed = int64(f.config.Rate * time.Since(begin).Seconds())
		}
		f.tokens.Store(allowed)
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
