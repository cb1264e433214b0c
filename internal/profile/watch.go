package profile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"time"
)

// Options say what a Watch looks for and where it keeps what it captures.
type Options struct {
	// Dir is where captures are kept. It is made where it is missing, and belongs to one process at a time.
	Dir string
	// MaxBytes bounds all captures together, MaxCaptures their number: the oldest go. Zero means 256 MiB and 64.
	MaxBytes    int64
	MaxCaptures int
	// Jump captures when resident memory grows by this share within a minute, and by 64 MiB at least. Zero does not.
	Jump float64
	// Pause captures when the collector stops the world for so long, or a loop's iteration takes so long. Zero does not.
	Pause time.Duration
	// Trace keeps the execution trace of the time before, about so much of it and at most 16 MiB, for captures. Zero keeps none. One
	// Watch of a process can.
	Trace time.Duration
	// Iterations are the counts of loop iterations by duration: the number i of those that took less than 2^i µs, the last one of
	// all others. Nil, or none, is nothing to watch. It is called once a second.
	Iterations func() []uint64
	// Gateway is what captures tell of the gateway: anything that JSON can hold. Nil is nothing.
	Gateway func() any
	// Version of the program, for captures.
	Version string
	// Log is told of captures, and once of the first that fails, until one succeeds. Nil means slog.Default.
	Log *slog.Logger
}

const (
	defaultBytes    = 256 << 20
	defaultCaptures = 64
	traceBytes      = 16 << 20
	cpuFor          = 5 * time.Second
	lookEvery       = time.Second
	captureEvery    = time.Minute
)

// Watch looks at the process once a second, and captures what it does when something goes wrong: at most once a minute. Run does
// the work; the other methods may be called from any goroutine until Close.
type Watch struct {
	options    Options
	log        *slog.Logger
	store      *store
	recorder   *trace.FlightRecorder              // nil: there is no trace
	next       func(context.Context) (Look, bool) // the next look, when it is due; false: no more
	profileFor time.Duration                      // of the processor
	failing    bool                               // the last capture failed
}

// Open opens the directory of captures and starts the trace. The caller Closes it, when Run has returned. Its errors are those of
// the directory; that there is no trace to be had is only logged.
func Open(o Options) (*Watch, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	if o.MaxCaptures == 0 {
		o.MaxCaptures = defaultCaptures
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s, err := openStore(o.Dir, o.MaxCaptures, o.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("profiles in %s: %w", o.Dir, err)
	}
	w := &Watch{options: o, log: o.Log, store: s, profileFor: cpuFor}
	if o.Trace > 0 {
		w.recorder = trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: o.Trace, MaxBytes: traceBytes})
		if err := w.recorder.Start(); err != nil {
			w.log.Warn("captures have no execution trace", "error", err)
			w.recorder = nil
		}
	}
	w.next = ticking(newMeter(o.Iterations))
	return w, nil
}

// ticking looks every second.
func ticking(m *meter) func(context.Context) (Look, bool) {
	var tick *time.Ticker
	return func(ctx context.Context) (Look, bool) {
		if tick == nil {
			tick = time.NewTicker(lookEvery)
			return m.look(time.Now()), true
		}
		select {
		case now := <-tick.C:
			return m.look(now), true
		case <-ctx.Done():
			tick.Stop()
			return Look{}, false
		}
	}
}

// Run looks and captures until ctx ends. A capture that is being taken then ends early. It is called once.
func (w *Watch) Run(ctx context.Context) {
	pprof.Do(ctx, pprof.Labels("subsystem", "profile"), w.run)
}

func (w *Watch) run(ctx context.Context) {
	judge := trigger{jump: w.options.Jump, pause: w.options.Pause}
	var last time.Time // of a capture, or of one that failed
	skipped := 0
	for {
		l, ok := w.next(ctx)
		if !ok {
			return
		}
		why, due := judge.judge(l)
		if !due {
			continue
		}
		// A clock that was set back must not keep captures away.
		if d := l.Time.Sub(last); !last.IsZero() && d >= 0 && d < captureEvery {
			skipped++
			continue
		}
		why.Skipped = skipped
		skipped, last = 0, l.Time
		w.capture(ctx, l.Time, why)
		judge.forget()
	}
}

// capture takes one. A directory that takes none is said once, until it does again.
func (w *Watch) capture(ctx context.Context, at time.Time, why Reason) {
	name, err := w.take(ctx, at, why)
	if err != nil {
		if !w.failing {
			w.failing = true
			w.log.Error("no capture", "why", why.Text, "error", err, "hint", "see that "+w.options.Dir+" has room; it is tried again")
		}
		return
	}
	w.failing = false
	w.log.Warn("captured", "capture", name, "why", why.Text)
}

// Captures are those that are kept, the newest first, without what the runtime and the gateway counted.
func (w *Watch) Captures() ([]Capture, error) {
	all, err := w.store.list()
	if err != nil {
		return nil, fmt.Errorf("captures: %w", err)
	}
	list := []Capture{}
	for _, k := range slices.Backward(all) {
		c, ok := w.describe(k.name)
		if ok {
			list = append(list, c)
		}
	}
	return list, nil
}

// maxDescription is more than a capture.json has.
const maxDescription = 4 << 20

// describe reads a capture.json. One that was removed meanwhile, or written by nobody of us, is none.
func (w *Watch) describe(name string) (Capture, bool) {
	f, err := w.store.open(name, fileCapture)
	if err != nil {
		return Capture{}, false
	}
	defer func() { _ = f.Close() }()
	var c Capture
	if json.NewDecoder(io.LimitReader(f, maxDescription)).Decode(&c) != nil {
		return Capture{}, false
	}
	c.Name, c.Runtime, c.Gateway = name, nil, nil
	return c, true
}

// Close stops the trace and gives the directory back. Run has returned.
func (w *Watch) Close() error {
	if w.recorder != nil {
		w.recorder.Stop()
	}
	return w.store.close()
}
