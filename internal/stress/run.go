package stress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/avalanche"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
)

// Options are what a run is told beside its script. The zero value has defaults.
type Options struct {
	Name         string
	Version      string       // of Longwire, for the report
	Sources      []netip.Addr // local addresses; nil: loopback addresses by themselves, else the system's choice
	Pending      int          // conns that are being opened at a time: 4096 when zero
	Origin       string
	Subprotocols []string
	Deflate      bool     // offer permessage-deflate
	Headers      []Header // of every request and handshake
	Token        string   // that clients of the Centrifuge protocol connect with
	Insecure     bool     // accept any certificate
	Authorities  *x509.CertPool
	OwnTarget    bool          // the target may be anywhere
	Metrics      string        // URL of the target's metrics; empty: /metrics of the target, where it is there
	PID          int           // the server's process; 0: whoever listens, where that can be seen
	Network      *sys.Network  // the server's network namespace, where it is another than ours; it stays the caller's
	NetworkPath  string        // the same by its path
	Every        time.Duration // between samples: 1 s when zero
	PastLimits   bool          // run though a limit stands in the way, which is said in a note: for those who want to see it hit
	// Progress, if not nil, gets each sample on the goroutine of Run. Warn gets what the user should know before the run.
	Progress func(Sample)
	Warn     func(string)
}

// run is one run. It belongs to the goroutine of Run.
type run struct {
	s      Script
	o      Options
	begin  time.Time
	target target
	scenes []*scene
	total  int // weights

	sampler *avalanche.Sampler
	metrics *scraper
	report  *Report
	seen    []avalanche.Sample
	steps   []avalanche.Step

	whole    gathered      // of the whole run
	interval gathered      // since the last sample
	stretch  *stepBegin    // the step under way
	sampled  time.Duration // when the last sample was taken
	level    int64         // conns wanted now
	aimed    time.Duration // when the fleets were last told
	rate     float64       // exchanges a second that are due now
	stage    string        //
	storms   []*stormWatch //
	peak     int64         // most conns open at a time
	openedAt time.Duration // when the number of opened conns last grew
	opened   int64         // then
	cpu      time.Duration // of this process, before the run
	openCPU  float64       // s of CPU at the sample after the last conn stood
	resident int64         // before the first conn
}

// gathered is distributions that are added up over a stretch of time.
type gathered struct {
	scenes  []Samples // by scene
	connect Distribution
	tcp     Distribution
}

func newGathered(scenes int) gathered { return gathered{scenes: make([]Samples, scenes)} }

// all is the samples of all scenes in one.
func (t *gathered) all() *Samples {
	if len(t.scenes) == 1 {
		return &t.scenes[0]
	}
	sum := new(Samples)
	for i := range t.scenes {
		sum.Merge(&t.scenes[i])
	}
	return sum
}

// totals are counters at one moment.
type totals struct {
	attempted, opened, open, pending, failed, lost, closed int64
	sent, done, exchangesFailed, delivered, bytesIn        int64
}

// errors is all that failed.
func (t totals) errors() int64 { return t.failed + t.lost + t.exchangesFailed }

// closesPerSecond paces the end of a run.
const closesPerSecond = 20_000

// Run carries a script out. When ctx ends, the run ends early, with a report of what was measured. The error is nil where
// there is a report; a *UsageError where the script or an option cannot be run.
func Run(ctx context.Context, s Script, o Options) (*Report, error) {
	r := &run{s: s, o: o}
	r.o.Pending, r.o.Every = fallback(o.Pending, 4096), fallback(o.Every, time.Second)
	r.s.fill()
	if err := r.s.Check(); err != nil {
		return nil, bad("", "%w", err)
	}
	if err := validHeaders(append(slices.Clip(o.Headers), Header{Name: "Origin", Value: o.Origin})); err != nil {
		return nil, err
	}
	var err error
	if o.NetworkPath != "" && o.Network == nil {
		if r.o.Network, err = sys.OpenNetwork(o.NetworkPath); err != nil {
			return nil, bad("give a path such as /proc/1234/ns/net or /run/netns/name; to enter it takes root", "network namespace: %w", err)
		}
		defer func() { _ = r.o.Network.Close() }()
	}
	if r.target, err = resolve(ctx, s.Target, &r.o); err != nil {
		return nil, err
	}
	if r.s.Seed == 0 {
		r.s.Seed = rand.Uint64()
	}
	r.report = &Report{Format: Format, Name: o.Name, Target: s.Target, Address: r.target.addr.String(), Plan: r.s.lines(),
		Timeout: r.s.Timeout.Seconds(), Seed: r.s.Seed, Held: true, Errors: map[string]int64{}, Steps: []Step{}, Samples: []Sample{}}
	conns, rate := r.s.Curves()
	most := r.most(conns)
	if err := r.limits(most); err != nil {
		return nil, err
	}
	r.report.Environment = environment(o.Version, r.sampler.Limits(), r.target.addr)
	defer func() { _ = r.sampler.Close() }()
	r.metrics = newScraper(ctx, &r.o, r.target)
	r.cpu, r.resident = processCPU(), int64(sys.Resident())
	defer r.close()
	if err := r.open(most); err != nil {
		return nil, err
	}
	r.whole, r.interval = newGathered(len(r.scenes)), newGathered(len(r.scenes))
	r.start()
	r.sample(ctx, "start")
	// Again: the first look takes a while, and the plan's first conns are not to be late for it.
	r.start()
	r.report.Samples[0].At, r.seen[0].At = 0, 0

	err = r.drive(ctx, conns, rate)
	if err == nil && r.s.Find != nil {
		err = r.find(ctx)
	}
	r.report.Interrupted = ctx.Err() != nil
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	// What follows must come to an end even after an interrupt, and take no longer than the timeout.
	r.finish(context.WithoutCancel(ctx), !r.report.Interrupted)
	return r.report, nil
}

// start begins to count the time of the run. No client has been told anything yet.
func (r *run) start() {
	r.begin, r.sampled = time.Now(), 0
	r.report.Begun = r.begin.UTC().Truncate(time.Millisecond)
	for _, s := range r.scenes {
		s.begin = r.begin
	}
}

// most is the highest number of conns at a time.
func (r *run) most(conns Curve) int {
	most := conns.Max()
	if f := r.s.Find; f != nil && f.Of == OfConns {
		if f.To == 0 {
			f.To = 1_000_000
		}
		most = max(most, f.To)
	}
	return int(math.Ceil(most))
}

// share is what scene i has of a number that is split by weight.
func (r *run) share(n int64, i int) int64 {
	before := 0
	for _, s := range r.scenes[:i] {
		before += s.Weight
	}
	after := before + r.scenes[i].Weight
	return n*int64(after)/int64(r.total) - n*int64(before)/int64(r.total)
}

// open makes the fleets and starts their loops.
func (r *run) open(most int) error {
	nonce := rand.Uint64() >> 1
	for i := range r.s.Scenarios {
		r.total += r.s.Scenarios[i].Weight
	}
	for i := range r.s.Scenarios {
		c := r.s.Scenarios[i]
		s := &scene{Scenario: c, run: nonce, timeout: r.s.Timeout, token: r.o.Token, inFlight: max(1, c.InFlight)}
		r.scenes = append(r.scenes, s)
		s.most = most
		if c.Kind == SlowKind && c.Channels == 0 {
			s.Channels = 1
		}
	}
	for i, s := range r.scenes {
		s.most = int(r.share(int64(most), i))
		if s.most == 0 {
			return bad("more conns, or fewer scenarios", "scenario %s gets none of %d conns", s.Name, most)
		}
		switch s.Protocol {
		case Centrifuge:
			s.dialect = centrifugeDialect{}
		case Plain:
			s.dialect = plainDialect{}
		}
		s.byID = s.dialect != nil || s.Kind == EchoKind && s.Size >= rawHead
		if s.Kind == PublishKind {
			s.subscribers = make([]atomic.Int64, s.Channels)
			s.Publishers = min(s.Publishers, s.most)
		}
		config := fleet.Config{
			Target: r.target.addr, Dial: r.target.dial(&s.Scenario, &r.o), Conns: s.most, Pending: r.o.Pending, Timeout: s.timeout,
			Sources: r.o.Sources, Private: len(r.scenes) > 1, TLS: r.target.tls, OnDemand: s.onDemand(),
			Refill: s.refills() || r.s.Find != nil && !s.onDemand(), Log: slog.New(slog.DiscardHandler),
		}
		if n := len(r.o.Sources); n > 1 && !s.refills() && !s.onDemand() {
			config.PerSource = max(1, min(13_000, (s.most+n-1)/n))
		}
		if s.Kind == HTTPKind {
			config.HTTP, config.NoBody = true, s.Method == "HEAD"
			s.request = r.target.request(&s.Scenario, &r.o)
		}
		if s.Kind == SlowKind {
			if config.ReadRate = s.ReadRate; s.ReadRate == 0 {
				config.ReadRate = -1
			}
		}
		if s.speaks() {
			config.Speak = s.speak
		}
		var err error
		if s.fleet, err = fleet.New(config); err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		r.report.Generator.Loops += s.fleet.Loops()
		if err := s.fleet.Start(); err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		if s.Kind == StormKind {
			r.storms = append(r.storms, &stormWatch{scene: s, next: s.Every})
		}
	}
	return nil
}

// close ends what is left, at once.
func (r *run) close() {
	for _, s := range r.scenes {
		if s.fleet != nil {
			_ = s.fleet.Close()
		}
	}
	if r.metrics != nil {
		r.metrics.close()
	}
}

// tick is how often levels are looked at. Exchanges have due times of their own.
const tick = 5 * time.Millisecond

// drive goes along the curves.
func (r *run) drive(ctx context.Context, conns, rate Curve) error {
	if conns.End() == 0 { // they are there at once, for a search
		r.aim(int64(conns.Last()))
		return nil
	}
	r.setPace(0, rate)
	stretches := r.s.stretches()
	at, begin := 0, r.beginStep()
	return r.until(ctx, conns.End(), func(now time.Duration) {
		for at < len(stretches) && now >= stretches[at].end {
			r.endStep(ctx, begin, stretches[at])
			at++
			begin = r.beginStep()
		}
		if at < len(stretches) {
			r.stage = stretches[at].stage
		}
		r.aim(int64(math.Round(conns.At(min(now, conns.End()-1)))))
		r.rate = rate.At(now)
	}, func(now time.Duration) {
		for ; at < len(stretches) && stretches[at].begin < now; at++ {
			r.endStep(ctx, begin, stretches[at])
			begin = r.beginStep()
		}
	})
}

// until calls step each tick until the end, in run time, or until ctx ends; then done.
func (r *run) until(ctx context.Context, end time.Duration, step, done func(now time.Duration)) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		now := r.now()
		if now >= end || ctx.Err() != nil {
			if end != Forever && now >= end {
				now = end
			}
			done(now)
			return ctx.Err()
		}
		step(now)
		r.watch(ctx, now)
		if now >= r.nextSample() {
			r.sample(ctx, r.stage)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		for _, s := range r.scenes {
			select {
			case <-s.fleet.Failed():
				if err := s.fleet.Close(); err != nil {
					return fmt.Errorf("scenario %s: %w", s.Name, err)
				}
				return errors.New("a loop ended")
			default:
			}
		}
	}
}

func (r *run) now() time.Duration { return time.Since(r.begin) }

// aim sets the level of conns. What is to be replaced, or could not be opened at once, is looked at each tenth of a second.
func (r *run) aim(n int64) {
	now := r.now()
	if n == r.level && now-r.aimed < scanEvery {
		return
	}
	r.level, r.aimed = n, now
	for i, s := range r.scenes {
		s.fleet.Aim(int(r.share(n, i)))
	}
	r.report.Conns.Wanted = max(r.report.Conns.Wanted, n)
}

// setPace has the exchanges of the open model arrive along a curve from begin on.
func (r *run) setPace(begin time.Duration, rate Curve) {
	weights := 0
	for _, s := range r.scenes {
		if s.Model == OpenModel {
			weights += s.Weight
		}
	}
	for i, s := range r.scenes {
		if s.Model != OpenModel || rate.Max() == 0 {
			s.pace.Store(nil)
			continue
		}
		s.pace.Store(&pace{begin: begin, rate: rate.scaled(float64(s.Weight) / float64(weights)), seed: r.s.Seed + uint64(i)})
		s.fleet.Call(func(sp fleet.Speaker) { sp.(*part).begin() })
	}
}

// stormWatch is what a scenario of storms is at.
type stormWatch struct {
	scene *scene
	next  time.Duration // when the next one is due
	under *Storm        // nil: none is under way
	begun time.Duration
	want  int64 // conns that stood before
	fails int64 // until it began
	all   []Storm
}

// watch looks after storms, and notes how many conns stand.
func (r *run) watch(ctx context.Context, now time.Duration) {
	for _, w := range r.storms {
		c := w.scene.fleet.Counts()
		if w.under != nil && c.Open >= w.want {
			took := (now - w.begun).Seconds()
			w.under.Recovered, w.under.Failed = &took, c.Failures()-w.fails
			w.all, w.under = append(w.all, *w.under), nil
		}
		if now < w.next {
			continue
		}
		if w.under != nil {
			w.under.Failed = c.Failures() - w.fails
			w.all, w.under = append(w.all, *w.under), nil
		}
		w.next += w.scene.Every
		if c.Open == 0 {
			continue
		}
		w.want, w.fails = c.Open, c.Failures()
		cut, err := w.scene.fleet.CutShare(ctx, w.scene.Share)
		if err != nil {
			continue
		}
		w.begun = r.now()
		w.under = &Storm{At: w.begun.Seconds(), Cut: cut}
	}
	r.progress(now)
}

// progress notes how many conns stand.
func (r *run) progress(now time.Duration) {
	var t totals
	for _, s := range r.scenes {
		x := s.totals()
		s.peak = max(s.peak, x.open)
		t.add(x)
	}
	if t.opened != r.opened {
		r.opened, r.openedAt = t.opened, now
	}
	r.peak = max(r.peak, t.open)
}

// totals are the counters of all scenes now.
func (r *run) totals() (t totals) {
	for _, s := range r.scenes {
		t.add(s.totals())
	}
	return t
}

func (s *scene) totals() totals {
	c := s.fleet.Counts()
	return totals{
		attempted: c.Dialled, opened: c.Opened, open: c.Open, pending: c.Pending, failed: c.Failures(), lost: c.Losses(), closed: c.Closed,
		sent: s.sent.Load(), done: s.done.Load(), exchangesFailed: s.failed.Load(), delivered: s.delivered.Load(), bytesIn: c.BytesIn,
	}
}

func (t *totals) add(o totals) {
	t.attempted += o.attempted
	t.opened += o.opened
	t.open += o.open
	t.pending += o.pending
	t.failed += o.failed
	t.lost += o.lost
	t.closed += o.closed
	t.sent += o.sent
	t.done += o.done
	t.exchangesFailed += o.exchangesFailed
	t.delivered += o.delivered
	t.bytesIn += o.bytesIn
}

// finish ends the load, waits for what is under way, closes the conns and completes the report. patient has it wait for conns
// that are being opened, too.
func (r *run) finish(ctx context.Context, patient bool) {
	end := r.now()
	for _, s := range r.scenes {
		s.stopped.Store(true)
	}
	r.halt(ctx, false)
	r.charge(end)
	r.settle(patient)
	r.halt(ctx, true) // nothing moves while the report is made
	r.progress(r.now())
	r.complete(ctx, end)
	over := time.Duration(r.totals().open) * time.Second / closesPerSecond
	if over < loop.Tick {
		over = 0
	}
	ctx, cancel := context.WithTimeout(ctx, min(r.s.Timeout, 5*time.Second)+3*over)
	defer cancel()
	closing := make(chan struct{}, len(r.scenes))
	for _, s := range r.scenes {
		go func() { _ = s.fleet.CloseAll(ctx, over); closing <- struct{}{} }()
	}
	for range r.scenes {
		<-closing
	}
	r.report.Conns.Closed = r.totals().closed
	for i, s := range r.scenes {
		r.report.Scenarios[i].Conns.Closed = s.totals().closed
	}
}

// halt has no further conn opened. pending has those given up that are being opened.
func (r *run) halt(ctx context.Context, pending bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, s := range r.scenes {
		_ = s.fleet.Halt(ctx, pending) // a loop that does not answer has failed, or lags beyond help
	}
}

// settle waits for what is under way, which may come within its timeout. conns has it wait for those that are being opened.
func (r *run) settle(conns bool) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for end := r.now() + r.s.Timeout + 2*scanEvery; r.now() < end && (r.underWay() || conns && r.totals().pending > 0); {
		<-ticker.C
	}
}

// charge ends the arrivals of the open model. What was due by end and never sent, for want of a free conn, is no less late
// than what was.
func (r *run) charge(end time.Duration) {
	for i, s := range r.scenes {
		w := s.pace.Swap(nil)
		if w == nil {
			continue
		}
		var missed Recorder
		unsent := int64(0)
		pacer := NewPacer(w.rate, s.Spacing, w.seed)
		for n := w.next.Load(); ; n++ {
			due, ok := pacer.Due(n)
			if due += w.begin; !ok || due > end {
				break
			}
			missed.Unsent(due, end)
			unsent++
		}
		if unsent == 0 {
			continue
		}
		into := []*Samples{&r.whole.scenes[i], &r.interval.scenes[i]}
		if r.stretch != nil {
			into = append(into, &r.stretch.measured.scenes[i])
		}
		missed.Take(into...)
		s.sent.Add(unsent) // so that they count among what was tried
		s.failed.Add(unsent)
		s.unsent += unsent
		s.noteMany("unsent", unsent)
	}
}

// underWay tells whether an exchange or a delivery is.
func (r *run) underWay() bool {
	for _, s := range r.scenes {
		if s.underWay.Load() > 0 || s.delivered.Load() < s.expected.Load() {
			return true
		}
	}
	return false
}

// processCPU is the CPU time of this process.
func processCPU() time.Duration {
	p, err := sys.ReadProcess(os.DirFS("/"), os.Getpid())
	if err != nil {
		return 0
	}
	return p.CPU
}
