// Package stress puts load on a WebSocket server, whoever's it is, and says what came of it. It is the first
// part of the load tester: it opens conns, holds them, has them echo, or churns them.
package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

// Mode is what conns do once they stand.
type Mode string

// The modes.
const (
	Hold  Mode = "hold"  // nothing but answer pings
	Echo  Mode = "echo"  // messages to an endpoint that sends them back
	Churn Mode = "churn" // close at once, and open another
)

// Plan is one run. Target is required; the zero value of the rest holds one conn until ctx ends.
type Plan struct {
	Target   string // ws:// or http:// URL
	Conns    int    // conns at a time; churn: conns that are opened at a time
	Mode     Mode   // zero means Hold
	Duration time.Duration
	// Rate bounds the connects a second; Pending the conns that are being opened at a time. Zero means no bound,
	// and 256.
	Rate    float64
	Pending int
	// Timeout is the time from connect to the complete handshake. Zero means 10 s.
	Timeout time.Duration
	// Active is how many conns echo, InFlight how many messages each has under way, Size their bytes. Zero means
	// all, 1 and 64.
	Active, InFlight, Size int
	Binary                 bool
	Deflate                bool
	Origin                 string
	Subprotocols           []string
	Sources                []netip.Addr // nil: loopback addresses by themselves, else the system's choice
}

// Progress is a look at a run under way.
type Progress struct {
	Stage   string // open, hold, echo, churn, close
	Elapsed time.Duration
	fleet.Counts
}

// Latency is round-trip times in µs: service times, from when a message was sent.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p999_us"`
	P9999 int64   `json:"p9999_us"`
	Max   int64   `json:"max_us"`
}

// Result is what came of a run. Its JSON form is stable.
type Result struct {
	Target        string           `json:"target"`
	Mode          Mode             `json:"mode"`
	Conns         int              `json:"conns"`
	OpenSeconds   float64          `json:"open_seconds"`
	LoadSeconds   float64          `json:"load_seconds"`
	Connected     int64            `json:"connected"`
	ConnectRate   float64          `json:"connects_per_second"`
	Failed        map[string]int64 `json:"failed"`
	Survived      int64            `json:"survived"` // hold and echo: still open at the end
	Lost          map[string]int64 `json:"lost"`
	Closed        int64            `json:"closed"` // in good order, by us
	Sent          int64            `json:"messages_sent"`
	Received      int64            `json:"messages_received"`
	MessageRate   float64          `json:"messages_per_second"`
	PingsReceived int64            `json:"pings_received"`
	Latency       *Latency         `json:"latency,omitempty"`
	Interrupted   bool             `json:"interrupted,omitempty"` // ended before its time
}

// UsageError is a plan that cannot be run, with what to do about it.
type UsageError struct {
	Err  error
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }

func bad(hint, format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...), Hint: hint}
}

// target is where a URL points.
func target(ctx context.Context, raw string) (netip.AddrPort, ws.Dial, error) {
	var d ws.Dial
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return netip.AddrPort{}, d, bad("give a URL like ws://127.0.0.1:8000/ws", "target %q is not a URL with a host", raw)
	}
	port := u.Port()
	switch u.Scheme {
	case "ws", "http":
		if port == "" {
			port = "80"
		}
	case "wss", "https":
		return netip.AddrPort{}, d, bad("aim at the plain port behind the TLS proxy", "target %q: TLS is not supported yet", raw)
	default:
		return netip.AddrPort{}, d, bad("give a URL like ws://127.0.0.1:8000/ws", "target %q: scheme %q: want ws or http", raw, u.Scheme)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, d, bad("", "target %q: port %q: want 1 to 65535", raw, port)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return netip.AddrPort{}, d, err
	}
	a := addrs[0].Unmap()
	for _, other := range addrs { // IPv4 first: loopback has many source addresses there
		if other.Unmap().Is4() {
			a = other.Unmap()
			break
		}
	}
	d.Host, d.Target = u.Host, u.RequestURI()
	return netip.AddrPortFrom(a, uint16(p)), d, nil
}

// closesPerSecond paces the end of a run.
const closesPerSecond = 20_000

// portsPerSource is about how many conns the system's own choice of ports allows from one address to one
// destination.
const portsPerSource = 28_000

// Run runs a plan. progress, if not nil, is called about once a second on the calling goroutine. When ctx ends,
// the run ends early with what it has.
func Run(ctx context.Context, p Plan, progress func(Progress)) (Result, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	if p.Mode == "" {
		p.Mode = Hold
	}
	if p.Conns < 1 {
		p.Conns = 1
	}
	if p.InFlight == 0 {
		p.InFlight = 1
	}
	if p.Active == 0 || p.Active > p.Conns {
		p.Active = p.Conns
	}
	if p.InFlight < 1 || p.InFlight > 65535 || p.Size < 0 || p.Rate < 0 || p.Pending < 0 || p.Active < 0 {
		return Result{}, bad("", "in flight %d, size %d, rate %v, pending %d, active %d: want numbers that are not negative, and 1 to 65535 in flight", p.InFlight, p.Size, p.Rate, p.Pending, p.Active)
	}
	if !slices.Contains([]Mode{Hold, Echo, Churn}, p.Mode) {
		return Result{}, bad("want hold, echo or churn", "mode %q is unknown", p.Mode)
	}
	to, dial, err := target(ctx, p.Target)
	if err != nil {
		return Result{}, err
	}
	dial.Origin, dial.Subprotocols, dial.Deflate = p.Origin, p.Subprotocols, p.Deflate
	if err := enough(p, to); err != nil {
		return Result{}, err
	}
	c := fleet.Config{Target: to, Dial: dial, Conns: p.Conns, Rate: p.Rate, Pending: p.Pending, Timeout: p.Timeout, Sources: p.Sources, Log: slog.New(slog.DiscardHandler)}
	if len(p.Sources) > 1 && p.Mode != Churn {
		c.PerSource = max(1, min(13_000, (p.Conns+len(p.Sources)-1)/len(p.Sources)))
	}
	if p.Mode == Churn {
		if c.Churn = 1 << 40; p.Duration <= 0 {
			return Result{}, bad("give --duration", "churn without an end")
		}
		c.Pending = p.Conns
	}
	f, err := fleet.New(c)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = f.Close() }()
	r := Result{Target: p.Target, Mode: p.Mode, Conns: p.Conns}
	begin := time.Now()

	// Opening; in churn it is the load.
	openCtx, cancel := ctx, context.CancelFunc(func() {})
	stage := "open"
	if p.Mode == Churn {
		openCtx, cancel = context.WithTimeout(ctx, p.Duration)
		stage = "churn"
	}
	opened := make(chan error, 1)
	go func() { opened <- f.Open(openCtx) }()
	err = watch(begin, stage, f, progress, opened)
	cancel()
	r.OpenSeconds = time.Since(begin).Seconds()
	if err != nil && openCtx.Err() == nil {
		return r, err
	}
	r.Interrupted = ctx.Err() != nil

	opening := f.Counts()
	if p.Mode != Churn && !r.Interrupted && opening.Open > 0 {
		load := time.Now()
		if p.Mode == Echo {
			f.Echo(fleet.Exchange{Conns: p.Active, InFlight: p.InFlight, Size: p.Size, Binary: p.Binary})
		}
		loadCtx, cancel := context.WithCancel(ctx)
		if p.Duration > 0 {
			loadCtx, cancel = context.WithTimeout(ctx, p.Duration)
		}
		over := make(chan error, 1)
		go func() { <-loadCtx.Done(); over <- nil }()
		_ = watch(begin, string(p.Mode), f, progress, over)
		cancel()
		r.LoadSeconds = time.Since(load).Seconds()
		r.Interrupted = ctx.Err() != nil && p.Duration > 0
	}
	end := f.Counts()
	r.fill(end, opening)
	if p.Mode == Churn {
		r.Survived = 0
	}

	// What follows must come to an end even after an interrupt. The end of a test shall be no storm of closing.
	over := time.Duration(end.Open) * time.Second / closesPerSecond
	if over < loop.Tick {
		over = 0
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second+3*over)
	defer cancel()
	if p.Mode == Echo {
		h, err := f.Latency(after)
		if err != nil {
			return r, err
		}
		r.Latency = latencyOf(h)
		if err := f.EndEcho(after); err != nil {
			return r, err
		}
	}
	if end.Open > 0 {
		closed := make(chan error, 1)
		go func() { closed <- f.CloseAll(after, over) }()
		if err := watch(begin, "close", f, progress, closed); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return r, err
		}
		r.Closed = f.Counts().Closed
	}
	return r, nil
}

// enough refuses, before it begins, what the machine's limits would make fail.
func enough(p Plan, to netip.AddrPort) error {
	if len(p.Sources) == 0 && !to.Addr().IsLoopback() && p.Conns > portsPerSource {
		return bad("give more local addresses with --source-addrs, or run from several machines",
			"%d conns from one address to one destination: the ports of one address allow about %d", p.Conns, portsPerSource)
	}
	const perConn = 4500 // of this end, nearly all in the kernel
	both := uint64(1)
	if to.Addr().IsLoopback() {
		both = 2
	}
	if free, need := sys.MemoryAvailable(memoryRoot), uint64(p.Conns)*perConn*both; p.Mode != Churn && free > 0 && need > free {
		return bad("open fewer, or use a machine with more memory",
			"%d conns need about %d MB of kernel memory on this machine, and %d MB are free", p.Conns, need>>20, free>>20)
	}
	return nil
}

// watch calls progress until done answers.
func watch(begin time.Time, stage string, f *fleet.Fleet, progress func(Progress), done <-chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			progress(Progress{Stage: stage, Elapsed: time.Since(begin), Counts: f.Counts()})
			return err
		case <-tick.C:
			progress(Progress{Stage: stage, Elapsed: time.Since(begin), Counts: f.Counts()})
		}
	}
}

func (r *Result) fill(end, opening fleet.Counts) {
	r.Connected, r.Failed, r.Lost = end.Opened, end.Failed, end.Lost
	r.Survived, r.Closed = end.Open, end.Closed
	r.Sent, r.Received, r.PingsReceived = end.Sent, end.Received, end.Pings
	if r.OpenSeconds > 0 {
		r.ConnectRate = float64(opening.Opened) / r.OpenSeconds
	}
	if r.LoadSeconds > 0 {
		r.MessageRate = float64(end.Received-opening.Received) / r.LoadSeconds
	}
}

func latencyOf(h *hdrhistogram.Histogram) *Latency {
	return &Latency{
		Count: h.TotalCount(), Mean: h.Mean(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), P9999: h.ValueAtQuantile(99.99), Max: h.Max(),
	}
}

// WriteText writes the result for people.
func (r Result) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	line("target", "%s (%s)", r.Target, r.Mode)
	line("connected", "%d in %.1f s, %.0f/s", r.Connected, r.OpenSeconds, r.ConnectRate)
	if len(r.Failed) > 0 {
		line("failed", "%s", reasons(r.Failed))
	}
	if r.Mode != Churn {
		line("survived", "%d of %d for %.1f s", r.Survived, r.Connected, r.LoadSeconds)
	}
	if len(r.Lost) > 0 {
		line("lost", "%s", reasons(r.Lost))
	}
	line("closed", "%d", r.Closed)
	if r.Sent > 0 {
		line("messages", "%d sent, %d received, %.0f/s", r.Sent, r.Received, r.MessageRate)
	}
	if r.PingsReceived > 0 {
		line("pings", "%d answered", r.PingsReceived)
	}
	if l := r.Latency; l != nil && l.Count > 0 {
		line("latency", "mean %.0f µs  p50 %d  p90 %d  p99 %d  p99.9 %d  p99.99 %d  max %d", l.Mean, l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max)
	}
	if r.Interrupted {
		line("", "interrupted before its time")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// reasons writes counts by reason, the largest first.
func reasons(m map[string]int64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return int(m[b] - m[a])
		}
		return strings.Compare(a, b)
	})
	var s []string
	for _, k := range keys {
		s = append(s, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(s, ", ")
}
