package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/pprof"
	"time"

	"github.com/longwire/longwire/internal/session"
)

const (
	maxReply  = 1 << 20 // bytes of a reply's body
	maxPassed = 8 << 10 // bytes of the client's headers in one call; many servers take no more
	maxUnread = 4 << 10 // bytes read of a body that is of no use, so that its connection can be used again
)

// method is what is asked of a backend.
type method uint8

const (
	methodConnect method = iota
	methodRefresh
	methodSubscribe
	methodSubRefresh
	methodPublish
	methodRPC
	methods
)

// String is the method's name in Stats and logs.
func (m method) String() string {
	return [methods]string{"connect", "refresh", "subscribe", "sub_refresh", "publish", "rpc"}[m]
}

// outcome is how a call ended.
type outcome uint8

const (
	outcomeOK         outcome = iota
	outcomeError              // the backend's error
	outcomeDisconnect         // the backend's disconnect
	outcomeTimeout            // no reply in time
	outcomeConnection         // no connection, or one that broke
	outcomeStatus             // an HTTP status other than 2xx
	outcomeReply              // a reply that is none
	outcomeBusy               // no free place in time; not called
	outcomeOpen               // the breaker is open; not called
	outcomeCanceled           // the session ended
	outcomeRefused            // the client's text is not UTF-8; not called
	outcomes
)

// String is the outcome's name in Stats.
func (o outcome) String() string {
	return [outcomes]string{"ok", "error", "disconnect", "timeout", "connection", "status", "reply", "busy", "open", "canceled", "refused"}[o]
}

// verdict is what an outcome says about the backend.
func (o outcome) verdict() verdict {
	switch o {
	case outcomeOK, outcomeError, outcomeDisconnect:
		return healthy
	case outcomeTimeout, outcomeConnection, outcomeStatus, outcomeReply:
		return failed
	}
	return unknown
}

// errOpen and errBusy are why a call was not made.
var (
	errOpen = errors.New("the breaker is open")
	errBusy = errors.New("no free place in time")
)

// labels are those of a goroutine in profiles while it calls; those of its context come back.
var labels = pprof.WithLabels(context.Background(), pprof.Labels("subsystem", "hook"))

// call makes one call within the bounds of b, and has read look at the body of a 2xx reply.
func (b *Backend) call(ctx context.Context, m method, c session.Client, q request, read func(body []byte) (outcome, error)) (out outcome, err error) {
	pprof.SetGoroutineLabels(labels)
	defer pprof.SetGoroutineLabels(ctx)
	e := b.endpoints[m]
	// Looked at before the wait, so that nobody waits for a place that would be of no use.
	if !b.breaker.ready() {
		return outcomeOpen, errOpen
	}
	if out, err := b.take(ctx, e.timeout); err != nil {
		return out, err
	}
	defer func() { <-b.places }()
	pass, ok := b.breaker.enter()
	if !ok {
		return outcomeOpen, errOpen
	}
	out = outcomeConnection // what a panicking transport leaves behind
	defer func() {
		if out.verdict() == failed {
			b.warn(m, out, err)
		}
		b.breaker.leave(pass, out.verdict(), err)
	}()
	body, out, err := b.post(ctx, e, c, q)
	if err != nil {
		return out, err
	}
	return read(body)
}

// take waits for a free place. The caller gives it back by a receive from places.
func (b *Backend) take(ctx context.Context, timeout time.Duration) (outcome, error) {
	if err := ctx.Err(); err != nil {
		return outcomeCanceled, err
	}
	select {
	case b.places <- struct{}{}:
		return outcomeOK, nil
	default:
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case b.places <- struct{}{}:
		return outcomeOK, nil
	case <-t.C:
		return outcomeBusy, errBusy
	case <-ctx.Done():
		return outcomeCanceled, ctx.Err()
	}
}

// post sends q and reads the reply's body.
func (b *Backend) post(parent context.Context, e *endpoint, c session.Client, q request) ([]byte, outcome, error) {
	sent, err := q.encode()
	if err != nil {
		return nil, outcomeRefused, err
	}
	ctx, cancel := context.WithTimeout(parent, e.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(sent))
	if err != nil {
		return nil, outcomeConnection, err
	}
	r.Header = e.headers(c)
	if b.propagate && c.Context.Trace != [16]byte{} {
		r.Header["Traceparent"] = []string{c.Context.String()}
	}
	response, err := b.client.Do(r)
	if err != nil {
		return nil, broken(parent, err), bare(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		_, _ = io.CopyN(io.Discard, response.Body, maxUnread)
		return nil, outcomeStatus, fmt.Errorf("status %d", response.StatusCode)
	}
	if response.ContentLength > maxReply {
		return nil, outcomeReply, fmt.Errorf("a reply of %d bytes, more than %d", response.ContentLength, maxReply)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if err != nil {
		return nil, broken(parent, err), bare(err)
	}
	if len(body) > maxReply {
		return nil, outcomeReply, fmt.Errorf("a reply of more than %d bytes", maxReply)
	}
	return body, outcomeOK, nil
}

// broken is the outcome of a call that err broke off. A session that went away says nothing about the backend, but one
// whose patience ended does.
func broken(parent context.Context, err error) outcome {
	if parent.Err() == context.Canceled {
		return outcomeCanceled
	}
	var late interface{ Timeout() bool }
	if errors.As(err, &late) && late.Timeout() {
		return outcomeTimeout
	}
	return outcomeConnection
}

// bare is err without the URL, whose query may hold a secret.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// headers are those of one call for c.
func (e *endpoint) headers(c session.Client) http.Header {
	h := e.header.Clone()
	left := maxPassed
	for _, name := range e.pass {
		// A client must not be able to make a call fail: what it says in connect is not checked by an HTTP server.
		value, ok := c.Headers[name]
		if size := len(name) + len(value); ok && size <= left && headerValue(value) {
			h[name] = []string{value}
			left -= size
		}
	}
	return h
}

// warn logs a failed call, unless one was logged within the last second.
func (b *Backend) warn(m method, out outcome, err error) {
	now, last := b.now().UnixNano(), b.warned.Load()
	if last != 0 && now-last < int64(time.Second) || !b.warned.CompareAndSwap(last, now) {
		return
	}
	b.log.Warn("hook failed", slog.String("method", m.String()), slog.String("outcome", out.String()), slog.Any("error", err))
}
