package otlp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options are of New. Only URL has to be set.
type Options struct {
	// URL is that of the collector, http or https; /v1/traces is added where it is not there.
	URL string
	// Headers are sent with every request.
	Headers map[string]string
	// Resource is what all spans come from.
	Resource []Attr
	// Scope and Version say who made the spans.
	Scope, Version string

	QueueBytes int           // that wait to be sent, beyond which spans are lost; zero means 8 MiB
	Batch      int           // spans of one request; zero means 512
	Interval   time.Duration // after which fewer are sent; zero means 1 s
	Timeout    time.Duration // of one request; zero means 10 s
	Backoff    time.Duration // before the first repetition, doubled with each; zero means 1 s
	BackoffMax time.Duration // zero means 30 s
	Patience   time.Duration // for which one batch is sent again and again; zero means 1 minute
	Linger     time.Duration // for what is left when the exporter is closed; zero means 2 s

	// HTTP makes the requests. It is copied; redirects are never followed. Nil means one of its own, without the environment's
	// proxies.
	HTTP *http.Client
	// Log is told when the collector takes nothing, at most once a minute, and when it does again. Nil means slog.Default().
	Log *slog.Logger
}

// Exporter sends spans. Any goroutine may use it.
type Exporter struct {
	o       Options       // frozen
	url     string        // frozen
	head    []byte        // frozen: the resource
	scope   []byte        // frozen
	client  *http.Client  // frozen
	full    chan struct{} // somebody should look: a batch is full
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when the goroutine has ended
	closing sync.Once

	mu      sync.Mutex
	batches []batch // guarded by mu: the last one is being filled
	bytes   int     // guarded by mu: of all batches
	closed  bool    // guarded by mu

	sent, crowded, refused, failed atomic.Uint64
	requests                       [outcomes]atomic.Uint64

	// Of the goroutine.
	notBefore time.Time // the collector asked to be left alone until then
	warned    time.Time
	silent    bool // the last batch was lost
}

// batch is spans as appendSpan wrote them.
type batch struct {
	spans []byte
	n     int
}

// outcome is how a request ended.
type outcome uint8

const (
	outcomeOK      outcome = iota
	outcomePartial         // some spans were not taken
	outcomeRetry           // the collector asked for a repetition
	outcomeRefused         // it refused the batch for good
	outcomeBroken          // no answer
	outcomes
)

var outcomeNames = [outcomes]string{"ok", "partial", "retry", "refused", "broken"}

// New makes an exporter, and starts its goroutine. The caller ends it with Close.
func New(o Options) (*Exporter, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	num(&o.QueueBytes, 8<<20)
	num(&o.Batch, 512)
	def(&o.Interval, time.Second)
	def(&o.Timeout, 10*time.Second)
	def(&o.Backoff, time.Second)
	def(&o.BackoffMax, 30*time.Second)
	def(&o.Patience, time.Minute)
	def(&o.Linger, 2*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("otlp: the collector's URL is none: want one such as http://127.0.0.1:4318") // it may hold a password
	}
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1/traces")
	}
	e := &Exporter{o: o, url: u.String(), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		head: appendResource(nil, o.Resource), scope: appendScope(nil, o.Scope, o.Version)}
	if o.HTTP != nil {
		e.client = new(*o.HTTP)
	} else {
		e.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, ForceAttemptHTTP2: true}}
	}
	// Headers may hold a secret, which belongs to this collector alone.
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	go e.run()
	return e, nil
}

// Add takes a span. It never waits: a span for which there is no room is lost.
func (e *Exporter) Add(s *Span) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.bytes >= e.o.QueueBytes {
		e.crowded.Add(1)
		return
	}
	if n := len(e.batches); n == 0 || e.batches[n-1].n >= e.o.Batch {
		e.batches = append(e.batches, batch{})
	}
	b := &e.batches[len(e.batches)-1]
	before := len(b.spans)
	b.spans = appendSpan(b.spans, s)
	e.bytes += len(b.spans) - before
	if b.n++; b.n == e.o.Batch {
		select {
		case e.full <- struct{}{}:
		default:
		}
	}
}

// Stats are an exporter's numbers.
type Stats struct {
	Sent    uint64 // spans that the collector took
	Crowded uint64 // spans lost, since too many waited
	Refused uint64 // spans lost, since the collector refused them
	Failed  uint64 // spans lost, since the collector did not answer, or asked for patience beyond ours
	Waiting int    // bytes
	// Requests by how they ended: ok, partial, retry, refused, broken.
	Requests map[string]uint64
}

// Stats is a snapshot.
func (e *Exporter) Stats() Stats {
	s := Stats{Sent: e.sent.Load(), Crowded: e.crowded.Load(), Refused: e.refused.Load(), Failed: e.failed.Load(), Requests: make(map[string]uint64)}
	for i := range e.requests {
		s.Requests[outcomeNames[i]] = e.requests[i].Load()
	}
	e.mu.Lock()
	s.Waiting = e.bytes
	e.mu.Unlock()
	return s
}

// Close sends what is left, for as long as Options.Linger, and ends. Spans that are added later are lost.
func (e *Exporter) Close() {
	e.closing.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		close(e.stop)
	})
	<-e.done
}

func (e *Exporter) run() {
	defer close(e.done)
	defer e.client.CloseIdleConnections()
	// A request that runs when the exporter is closed gets what is left of Linger.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-e.stop:
		case <-ctx.Done():
			return
		}
		linger := time.NewTimer(e.o.Linger)
		defer linger.Stop()
		select {
		case <-linger.C:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-over }()
	tick := time.NewTicker(e.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-e.full:
			e.sendAll(ctx, false)
		case <-tick.C:
			e.sendAll(ctx, true)
		case <-e.stop:
			e.sendAll(ctx, true)
			return
		}
	}
}

// sendAll sends the batches that wait, one that is not full only where all are meant.
func (e *Exporter) sendAll(ctx context.Context, all bool) {
	for {
		e.mu.Lock()
		if len(e.batches) == 0 || !all && e.batches[0].n < e.o.Batch {
			e.mu.Unlock()
			return
		}
		b := e.batches[0]
		e.batches[0] = batch{}
		e.batches = e.batches[1:]
		e.mu.Unlock()
		e.deliver(ctx, b)
		// What is on its way takes its room until then.
		e.mu.Lock()
		e.bytes -= len(b.spans)
		e.mu.Unlock()
	}
}

// deliver sends a batch until it is taken, refused, or patience is at an end.
func (e *Exporter) deliver(ctx context.Context, b batch) {
	body := request(e.head, b.spans, e.scope)
	start, backoff := time.Now(), e.o.Backoff
	for {
		if !e.wait(ctx, time.Until(e.notBefore)) {
			e.lose(&e.failed, b.n, errors.New("the gateway ended before the collector took them"))
			return
		}
		out, refused, after, err := e.post(ctx, body)
		e.requests[out].Add(1)
		switch out {
		case outcomeOK, outcomePartial:
			refused = min(refused, b.n)
			e.sent.Add(uint64(b.n - refused))
			if e.silent {
				e.silent = false
				e.o.Log.Info("the collector takes spans again")
			}
			if refused > 0 {
				e.lose(&e.refused, refused, err)
			}
			return
		case outcomeRefused:
			e.lose(&e.refused, b.n, err)
			return
		}
		if after == 0 {
			// Half of it at random, so that many gateways do not come back together.
			after = backoff/2 + rand.N(backoff/2+1)
			backoff = min(2*backoff, e.o.BackoffMax)
		}
		e.notBefore = time.Now().Add(min(after, e.o.Patience))
		if time.Since(start)+after > e.o.Patience || e.ended() {
			e.lose(&e.failed, b.n, err)
			return
		}
	}
}

// ended reports whether the exporter was closed.
func (e *Exporter) ended() bool {
	select {
	case <-e.stop:
		return true
	default:
		return false
	}
}

// wait waits, and reports false where that was broken off. Who closes the exporter has no time for waits.
func (e *Exporter) wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.stop:
		e.notBefore = time.Time{} // one last attempt for each batch
		return true
	case <-ctx.Done():
		return false
	}
}

// lose counts spans that are lost, and says so.
func (e *Exporter) lose(count *atomic.Uint64, n int, err error) {
	count.Add(uint64(n))
	e.silent = e.silent || count == &e.failed
	if now := time.Now(); e.warned.IsZero() || now.Sub(e.warned) >= time.Minute {
		e.warned = now
		e.o.Log.Warn("spans were lost", "spans", n, "why", err)
	}
}

// maxAnswer is the most that is read of an answer, in bytes.
const maxAnswer = 64 << 10

// post makes one request. after is for how long the collector asks to be left alone, 0 where it does not say.
func (e *Exporter) post(ctx context.Context, body []byte) (out outcome, refused int, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return outcomeRefused, 0, 0, bare(err)
	}
	for name, value := range e.o.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "longwire")
	answer, err := e.client.Do(r)
	if err != nil {
		return outcomeBroken, 0, 0, bare(err)
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return outcomeRetry, 0, retryAfter(answer.Header.Get("Retry-After"), time.Now()), fmt.Errorf("status %d", answer.StatusCode)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return outcomeRefused, 0, 0, fmt.Errorf("status %d", answer.StatusCode)
	}
	if err != nil {
		return outcomeOK, 0, 0, nil // it took them: that its word for it broke off changes nothing
	}
	if n, message := rejected(said); n > 0 {
		return outcomePartial, int(min(n, 1<<30)), 0, fmt.Errorf("the collector refused some: %q", message[:min(len(message), 200)])
	}
	return outcomeOK, 0, 0, nil
}

// retryAfter reads Retry-After: seconds or a date; 0 where it says nothing.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 32); err == nil {
		return time.Duration(max(0, n)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// bare is err without the URL, whose query may hold a secret.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
