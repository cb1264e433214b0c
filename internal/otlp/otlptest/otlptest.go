// Package otlptest is a collector of OpenTelemetry for tests. It reads what it gets with the official messages.
package otlptest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector receives spans, and answers as it is told. It is a handler; Serve gives it a server. What it cannot read fails
// the test. Any goroutine may ask it what came.
type Collector struct {
	t      testing.TB
	answer func(w http.ResponseWriter, n int)

	mu       sync.Mutex
	requests []Request                // guarded by mu
	taken    []*tracepb.ResourceSpans // guarded by mu
}

// Request is one that came, whatever it was answered.
type Request struct {
	Line   string // method and URL
	Header http.Header
	Body   []byte
}

// New is a collector whose n-th request, from 0, gets the answer that is written to w; what is answered with a status above
// 299 is not taken. Without an answer all is well.
func New(t testing.TB, answer func(w http.ResponseWriter, n int)) *Collector {
	return &Collector{t: t, answer: answer}
}

// Serve has a server on loopback until the test ends, and returns its URL.
func (c *Collector) Serve() (url string) {
	s := httptest.NewServer(c)
	c.t.Cleanup(s.Close)
	return s.URL
}

// ServeHTTP implements http.Handler. An ExportTraceServiceRequest has the fields of TracesData.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var m tracepb.TracesData
	if err2 := proto.Unmarshal(body, &m); err != nil || err2 != nil {
		c.t.Errorf("the collector cannot read a request: %v, %v", err, err2)
	}
	if n := len(m.ProtoReflect().GetUnknown()); n > 0 {
		c.t.Errorf("a request has %d bytes that no field is for", n)
	}
	c.mu.Lock()
	n := len(c.requests)
	c.requests = append(c.requests, Request{Line: r.Method + " " + r.URL.String(), Header: r.Header.Clone(), Body: body})
	c.mu.Unlock()
	if c.answer != nil {
		rec := httptest.NewRecorder()
		c.answer(rec, n)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		if rec.Code > 299 {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = append(c.taken, m.ResourceSpans...)
}

// Requests are all that came, in their order.
func (c *Collector) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// Resources are all that was taken, in its order, as it came.
func (c *Collector) Resources() []*tracepb.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.taken)
}

// Spans are all that were taken, in their order.
func (c *Collector) Spans() (list []*tracepb.Span) {
	for _, r := range c.Resources() {
		for _, s := range r.ScopeSpans {
			list = append(list, s.Spans...)
		}
	}
	return list
}
