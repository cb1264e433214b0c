// Package hook asks an application over HTTP: it is internal/session's Hooks as POST requests to the application's
// backend, in the JSON of Centrifugo's HTTP proxy.
//
// A backend that fails is left alone for a while: calls beyond a bound wait, and after some failures in a row a breaker
// answers in its place. Whatever goes wrong between here and the backend is an internal error that the client may try
// again, never a yes.
package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Endpoint is where one method of the backend is called.
type Endpoint struct {
	// URL is http or https. Empty: the method has no hook.
	URL string
	// Timeout is for the call, and again for the wait for a free place before it. Zero means 1 s.
	Timeout time.Duration
	// Headers are sent with every call.
	Headers map[string]string
	// PassHeaders are the names of the client's headers that are passed to the backend, in place of those in Headers. A
	// value that HTTP does not allow, and what is beyond 8 KiB in one call, is left out.
	PassHeaders []string
}

// Breaker is when a failing backend is no longer called.
type Breaker struct {
	// Failures in a row open the breaker. Zero means 5.
	Failures int
	// Open is how long nothing is called, before one call is let through as a trial. Zero means 5 s.
	Open time.Duration
}

// Options are of New. Only endpoints have to be set.
type Options struct {
	Connect    Endpoint
	Refresh    Endpoint
	Subscribe  Endpoint
	SubRefresh Endpoint
	Publish    Endpoint
	RPC        Endpoint

	// MaxConcurrent bounds the calls at one time, of all methods together. Zero means 64.
	MaxConcurrent int
	// Breaker is one for all methods.
	Breaker Breaker
	// Now is the breaker's clock. Nil means time.Now.
	Now func() time.Time
	// HTTP makes the calls. It is copied; redirects are never followed. Nil means one of its own, without the
	// environment's proxies.
	HTTP *http.Client
	// Observe, if not nil, is told of each call when it is over. Any goroutine may call it.
	Observe func(c *Call)
	// Propagate sends a traceparent with calls for clients that belong to a trace.
	Propagate bool
	// Log gets failed calls, at most one a second, and the breaker's changes. Nil means slog.Default().
	Log *slog.Logger
}

// Backend is an application's HTTP backend. Its methods may be called by any goroutine.
type Backend struct {
	endpoints [methods]*endpoint // frozen; nil: no hook
	client    *http.Client       // frozen
	own       *http.Transport    // frozen; nil: the caller's
	log       *slog.Logger       // frozen
	now       func() time.Time   // frozen
	places    chan struct{}      // holds one value for each call that runs
	breaker   breaker
	observe   func(c *Call) // frozen; may be nil
	propagate bool          // frozen

	calls   [methods][outcomes]atomic.Uint64
	waiting atomic.Int64
	warned  atomic.Int64 // when a failed call was last logged, in Unix nanoseconds
}

// endpoint is an Endpoint as calls use it.
type endpoint struct {
	url     string
	timeout time.Duration
	header  http.Header // of every call; not to be changed
	pass    []string    // canonical
}

// reserved are headers that belong to the connection or to the body, in canonical form.
var reserved = []string{
	"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// New makes a Backend. It calls nothing yet. The caller ends it with Close.
func New(o Options) (*Backend, error) {
	if o.MaxConcurrent < 0 {
		return nil, fmt.Errorf("hook: max concurrent %d is negative", o.MaxConcurrent)
	}
	if o.Breaker.Failures < 0 {
		return nil, fmt.Errorf("hook: breaker: failures %d are negative", o.Breaker.Failures)
	}
	if o.Breaker.Open < 0 {
		return nil, fmt.Errorf("hook: breaker: open %v is negative", o.Breaker.Open)
	}
	if o.MaxConcurrent == 0 {
		o.MaxConcurrent = 64
	}
	if o.Breaker.Failures == 0 {
		o.Breaker.Failures = 5
	}
	if o.Breaker.Open == 0 {
		o.Breaker.Open = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	b := &Backend{
		log:     o.Log,
		now:     o.Now,
		places:  make(chan struct{}, o.MaxConcurrent),
		breaker: breaker{limit: o.Breaker.Failures, open: o.Breaker.Open, now: o.Now, log: o.Log},
		observe: o.Observe, propagate: o.Propagate,
	}
	for m, e := range [methods]Endpoint{
		methodConnect: o.Connect, methodRefresh: o.Refresh, methodSubscribe: o.Subscribe, methodSubRefresh: o.SubRefresh,
		methodPublish: o.Publish, methodRPC: o.RPC,
	} {
		if e.URL == "" {
			continue
		}
		var err error
		if b.endpoints[m], err = newEndpoint(e); err != nil {
			return nil, fmt.Errorf("hook: %v: %w", method(m), err)
		}
	}
	if o.HTTP != nil {
		b.client = new(*o.HTTP)
	} else {
		b.own = &http.Transport{
			MaxIdleConnsPerHost:    o.MaxConcurrent,
			IdleConnTimeout:        90 * time.Second,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
		b.client = &http.Client{Transport: b.own}
	}
	// A redirected POST would lose its body, or bring the client's headers where nobody sent them.
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b, nil
}

// newEndpoint checks e.
func newEndpoint(e Endpoint) (*endpoint, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		// The text of url's error has the URL, which may hold a password.
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("url: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("url %q is not http://host or https://host", u.Redacted())
	}
	if e.Timeout < 0 {
		return nil, fmt.Errorf("timeout %v is negative", e.Timeout)
	}
	if e.Timeout == 0 {
		e.Timeout = time.Second
	}
	p := &endpoint{url: e.URL, timeout: e.Timeout, header: make(http.Header, len(e.Headers)+2)}
	p.header.Set("User-Agent", "longwire")
	for name, value := range e.Headers {
		canonical, err := headerName(name)
		if err != nil {
			return nil, err
		}
		if !headerValue(value) {
			return nil, fmt.Errorf("header %s: its value has control characters", canonical) // the value may be a secret
		}
		p.header.Set(canonical, value)
	}
	p.header.Set("Content-Type", "application/json")
	for _, name := range e.PassHeaders {
		canonical, err := headerName(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(p.pass, canonical) {
			p.pass = append(p.pass, canonical)
		}
	}
	return p, nil
}

// headerName is name in canonical form, if it can be configured.
func headerName(name string) (string, error) {
	// RFC 9110 section 5.6.2, token.
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}) {
		return "", fmt.Errorf("header name %q is none", name)
	}
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(reserved, name) {
		return "", fmt.Errorf("header %s cannot be set", name)
	}
	return name, nil
}

// headerValue reports whether value can be sent: RFC 9110 section 5.5.
func headerValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Close closes the connections that no call uses; calls that run end by themselves. A client that came with Options is
// the caller's to close.
func (b *Backend) Close() {
	if b.own != nil {
		b.own.CloseIdleConnections()
	}
}

// Hooks are the backend's methods; those without an endpoint are nil. The errors are *centrifuge.Error and
// *centrifuge.Disconnect only.
func (b *Backend) Hooks() session.Hooks {
	h := session.Hooks{Headers: b.headers()}
	if b.endpoints[methodConnect] != nil {
		h.Connect = b.connect
	}
	if b.endpoints[methodRefresh] != nil {
		h.Refresh = b.refresh
	}
	if b.endpoints[methodSubscribe] != nil {
		h.Subscribe = b.subscribe
	}
	if b.endpoints[methodSubRefresh] != nil {
		h.SubRefresh = b.subRefresh
	}
	if b.endpoints[methodPublish] != nil {
		h.Publish = b.publish
	}
	if b.endpoints[methodRPC] != nil {
		h.RPC = b.rpc
	}
	return h
}

// headers are the names that some endpoint passes, sorted.
func (b *Backend) headers() []string {
	var names []string
	for _, e := range b.endpoints {
		if e != nil {
			names = append(names, e.pass...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (b *Backend) connect(ctx context.Context, c session.Client, r session.ConnectRequest) (session.ConnectReply, error) {
	q := newRequest(c, r.Data)
	q.Name, q.Version = c.Name, c.Version
	return ask(ctx, b, methodConnect, c, q, readConnect)
}

func (b *Backend) refresh(ctx context.Context, c session.Client) (session.RefreshReply, error) {
	q := newRequest(c, nil)
	q.User = &c.User
	return ask(ctx, b, methodRefresh, c, q, readRefresh)
}

func (b *Backend) subscribe(ctx context.Context, c session.Client, r session.SubscribeRequest) (session.SubscribeReply, error) {
	q := newRequest(c, r.Data)
	q.User, q.Channel, q.Token = &c.User, r.Channel, r.Token
	return ask(ctx, b, methodSubscribe, c, q, readSubscribe)
}

func (b *Backend) subRefresh(ctx context.Context, c session.Client, channel string) (session.RefreshReply, error) {
	q := newRequest(c, nil)
	q.User, q.Channel = &c.User, channel
	return ask(ctx, b, methodSubRefresh, c, q, readRefresh)
}

func (b *Backend) publish(ctx context.Context, c session.Client, r session.PublishRequest) (session.PublishReply, error) {
	q := newRequest(c, r.Data)
	q.User, q.Channel = &c.User, r.Channel
	return ask(ctx, b, methodPublish, c, q, readPublish)
}

func (b *Backend) rpc(ctx context.Context, c session.Client, name string, data []byte) ([]byte, error) {
	q := newRequest(c, data)
	q.User, q.Method = &c.User, name
	return ask(ctx, b, methodRPC, c, q, readRPC)
}

// ask makes one call: q is sent, and read makes a reply of the result that came.
func ask[R, A any](ctx context.Context, b *Backend, m method, c session.Client, q request, read func(r *R, binary bool) (A, error)) (A, error) {
	var none A
	if !q.valid() {
		b.count(m, outcomeRefused)
		return none, centrifuge.ErrBadRequest
	}
	var reply A
	over := b.begin(m, &c, q.Channel)
	out, err := b.call(ctx, m, c, q, func(body []byte) (outcome, error) {
		var err error
		reply, err = decode(body, c.Protocol == protobuf, read)
		var denied *centrifuge.Error
		var disconnect *centrifuge.Disconnect
		switch {
		case err == nil:
			return outcomeOK, nil
		case errors.As(err, &disconnect):
			return outcomeDisconnect, disconnect
		case errors.As(err, &denied):
			return outcomeError, denied
		}
		return outcomeReply, err
	})
	b.count(m, out)
	over(out)
	switch out {
	case outcomeOK:
		return reply, nil
	case outcomeError, outcomeDisconnect:
		return none, err
	}
	return none, centrifuge.ErrInternal
}
