package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/internal/otlp/otlptest"
	"github.com/longwire/longwire/internal/waittest"
)

// names are those of the spans that came, in order.
func names(c *otlptest.Collector) (list []string) {
	for _, s := range c.Spans() {
		list = append(list, s.Name)
	}
	return list
}

// exporter is one that waits for nothing long. Its log is in the buffer.
func exporter(t *testing.T, o Options) (*Exporter, *waittest.Log) {
	t.Helper()
	l := new(waittest.Log)
	o.Log = slog.New(slog.NewTextHandler(l, nil))
	if o.Interval == 0 {
		o.Interval = 5 * time.Millisecond
	}
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e, l
}

func span(name string) *Span {
	return &Span{Trace: [16]byte{1, 2, 3}, ID: [8]byte{4, 5}, Name: name, Kind: Server, Start: 1_000, End: 2_000}
}

// TestSpan reads a span back with the official messages.
func TestSpan(t *testing.T) {
	c := otlptest.New(t, nil)
	e, _ := exporter(t, Options{URL: c.Serve(), Headers: map[string]string{"Authorization": "Bearer x", "Content-Type": "no"}, Scope: "longwire", Version: "1.2",
		Resource: []Attr{String("service.name", "longwire"), Int("process.pid", 77)}})
	long := strings.Repeat("ä", 5000) // lengths of two and of three bytes
	e.Add(&Span{Trace: [16]byte{15: 1}, ID: [8]byte{7: 2}, Parent: [8]byte{7: 3}, Remote: true, Sampled: true, Name: "hook publish", Kind: Client,
		Start: 1_700_000_000_000_000_001, End: 1_700_000_000_000_000_002, Failed: true, Message: "timeout", Attrs: []Attr{String("a", long), Int("b", -3), String("c", "")}})
	e.Add(span("plain"))
	e.Close()
	if n := len(c.Resources()); n != 1 {
		t.Fatalf("%d resources came, want 1", n)
	}
	r := c.Resources()[0]
	if a := r.Resource.Attributes; len(a) != 2 || a[0].Key != "service.name" || a[0].Value.GetStringValue() != "longwire" || a[1].Value.GetIntValue() != 77 {
		t.Errorf("the resource is %v", r.Resource)
	}
	if s := r.ScopeSpans[0].Scope; s.Name != "longwire" || s.Version != "1.2" {
		t.Errorf("the scope is %v", s)
	}
	s := r.ScopeSpans[0].Spans[0]
	if !bytes.Equal(s.TraceId, []byte{15: 1}) || !bytes.Equal(s.SpanId, []byte{7: 2}) || !bytes.Equal(s.ParentSpanId, []byte{7: 3}) || s.Name != "hook publish" ||
		s.Kind != tracepb.Span_SPAN_KIND_CLIENT || s.StartTimeUnixNano != 1_700_000_000_000_000_001 || s.EndTimeUnixNano != 1_700_000_000_000_000_002 ||
		s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message != "timeout" || s.Flags != 0x301 {
		t.Errorf("the span is %v", s)
	}
	if a := s.Attributes; len(a) != 3 || a[0].Value.GetStringValue() != long || a[1].Value.GetIntValue() != -3 || a[2].Key != "c" {
		t.Errorf("the attributes are %v", a)
	}
	s = r.ScopeSpans[0].Spans[1]
	if s.Status != nil || s.ParentSpanId != nil || s.Flags != 0x100 || s.Kind != tracepb.Span_SPAN_KIND_SERVER || len(s.ProtoReflect().GetUnknown()) > 0 {
		t.Errorf("the plain span is %v", s)
	}
	if r := c.Requests()[0]; r.Line != "POST /v1/traces" || r.Header.Get("Authorization") != "Bearer x" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("the request was %s with %v", r.Line, r.Header)
	}
}

func TestURL(t *testing.T) {
	for url, want := range map[string]string{
		"http://c:4318": "http://c:4318/v1/traces", "http://c/": "http://c/v1/traces", "https://c/x": "https://c/x/v1/traces",
		"https://c/x/v1/traces": "https://c/x/v1/traces", "http://c?k=v": "http://c/v1/traces?k=v",
		"c:4318": "", "ftp://c": "", "http://": "", "http://user:pw@%zz": "",
	} {
		e, err := New(Options{URL: url})
		switch {
		case err != nil && want != "":
			t.Errorf("%s: %v", url, err)
		case err != nil && strings.Contains(err.Error(), "pw"):
			t.Errorf("%s: the password is in %v", url, err)
		case err == nil:
			if e.Close(); e.url != want {
				t.Errorf("%s is %s, want %s", url, e.url, want)
			}
		}
	}
}

func TestBatches(t *testing.T) {
	c := otlptest.New(t, nil)
	e, _ := exporter(t, Options{URL: c.Serve(), Batch: 10, Interval: time.Hour})
	var want []string
	for n := range 95 {
		want = append(want, fmt.Sprint(n))
		e.Add(span(want[n]))
	}
	waittest.Until(t, "the full batches", func() bool { return len(names(c)) == 90 })
	e.Close() // the rest goes with the end
	if got := names(c); !slices.Equal(got, want) {
		t.Errorf("%d spans came, want 95 in order", len(got))
	}
	if n := len(c.Requests()); n != 10 {
		t.Errorf("%d requests, want 10", n)
	}
	if s := e.Stats(); s.Sent != 95 || s.Waiting != 0 || s.Requests["ok"] != 10 {
		t.Errorf("stats are %+v", s)
	}
	e.Add(span("late"))
	if s := e.Stats(); s.Crowded != 1 {
		t.Errorf("a span after the end: %+v", s)
	}
}

// TestCollectorTroubles: what becomes of spans when the collector answers otherwise than well.
func TestCollectorTroubles(t *testing.T) {
	status := func(codes ...int) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, n int) {
			if n < len(codes) {
				w.WriteHeader(codes[n])
			}
		}
	}
	for _, c := range []struct {
		name              string
		answer            func(http.ResponseWriter, int)
		sent, refused, no uint64 // no: failed
		requests          int    // 0: any number
		says              string
	}{
		{"well", nil, 3, 0, 0, 1, ""},
		{"503, 429, 502, 504 and then well", status(503, 429, 502, 504), 3, 0, 0, 5, ""},
		{"400", status(400), 0, 3, 0, 1, "status 400"},
		{"404", status(404), 0, 3, 0, 1, "status 404"},
		{"500, which is for good", status(500), 0, 3, 0, 1, "status 500"},
		{"a redirect, which is not followed", func(w http.ResponseWriter, n int) {
			w.Header().Set("Location", "/v1/elsewhere")
			w.WriteHeader(307)
		}, 0, 3, 0, 1, "status 307"},
		{"garbage with 200", func(w http.ResponseWriter, n int) { _, _ = w.Write([]byte("\xff\xff<html>")) }, 3, 0, 0, 1, ""},
		{"no end of garbage", func(w http.ResponseWriter, n int) { _, _ = w.Write(bytes.Repeat([]byte{0xff}, 1<<20)) }, 3, 0, 0, 1, ""},
		{"two refused of three", func(w http.ResponseWriter, n int) { _, _ = w.Write(partial(2, "too old")) }, 1, 2, 0, 1, "too old"},
		{"more refused than were sent", func(w http.ResponseWriter, n int) { _, _ = w.Write(partial(200, "")) }, 0, 3, 0, 1, "refused some"},
		{"a warning without a refusal", func(w http.ResponseWriter, n int) { _, _ = w.Write(partial(0, "slow down")) }, 3, 0, 0, 1, ""},
		{"always 503", func(w http.ResponseWriter, n int) { w.WriteHeader(503) }, 0, 0, 3, 0, "status 503"},
		{"503 for an hour", func(w http.ResponseWriter, n int) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(503)
		}, 0, 0, 3, 1, "status 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := otlptest.New(t, c.answer)
			e, log := exporter(t, Options{URL: to.Serve(), Batch: 3, Interval: time.Hour, Patience: 100 * time.Millisecond})
			for range 3 {
				e.Add(span("x"))
			}
			waittest.Until(t, "the spans", func() bool { s := e.Stats(); return s.Sent+s.Refused+s.Failed+s.Crowded == 3 && s.Waiting == 0 })
			s, requests := e.Stats(), len(to.Requests())
			if s.Sent != c.sent || s.Refused != c.refused || s.Failed != c.no || c.requests > 0 && requests != c.requests {
				t.Errorf("stats are %+v after %d requests, want %d sent, %d refused, %d failed after %d", s, requests, c.sent, c.refused, c.no, c.requests)
			}
			if got := log.String(); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
				t.Errorf("the log says %q, want %q", got, c.says)
			}
		})
	}
}

// partial is an ExportTraceServiceResponse.
func partial(rejected int64, message string) []byte {
	return appendMessage(nil, responsePartial, func(b []byte) []byte {
		b = protowire.AppendVarint(protowire.AppendTag(b, partialRejected, protowire.VarintType), uint64(rejected))
		return appendString(b, partialMessage, message)
	})
}

// TestRetryAfter: a collector that asks for patience is left alone for as long.
func TestRetryAfter(t *testing.T) {
	var mu sync.Mutex
	var at []time.Time
	c := otlptest.New(t, func(w http.ResponseWriter, n int) {
		mu.Lock()
		defer mu.Unlock()
		if at = append(at, time.Now()); n == 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		}
	})
	e, _ := exporter(t, Options{URL: c.Serve()})
	e.Add(span("x"))
	waittest.Until(t, "the span", func() bool { return e.Stats().Sent == 1 })
	mu.Lock()
	defer mu.Unlock()
	if len(at) != 2 || at[1].Sub(at[0]) < time.Second {
		t.Errorf("requests came at %v, want one, and another a second later", at)
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "x": 0, "99999999999999": 0,
		"Sun, 01 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sun, 01 Nov 2026 11:00:30 GMT": 0} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", v, got, want)
		}
	}
}

// TestCollectorDown: nobody is there, then somebody is. Add never waits, what does not fit is lost, and the log says each once.
func TestCollectorDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	e, log := exporter(t, Options{URL: "http://" + addr, QueueBytes: 4000, Batch: 5, Patience: 20 * time.Millisecond, BackoffMax: 2 * time.Millisecond})
	for range 1000 {
		e.Add(span("x"))
	}
	if s := e.Stats(); s.Crowded == 0 || s.Waiting > 4100 {
		t.Errorf("1000 spans in 4000 bytes: %+v", s)
	}
	waittest.Until(t, "the end of patience", func() bool { return e.Stats().Failed > 0 })
	if ln, err = net.Listen("tcp", addr); err != nil {
		t.Skipf("the port is somebody else's now: %v", err)
	}
	server := &http.Server{Handler: otlptest.New(t, nil)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	defer func() { _ = server.Close(); <-done }()
	sent := uint64(0)
	waittest.Until(t, "a span that is sent", func() bool {
		e.Add(span("y"))
		sent = e.Stats().Sent
		return sent > 0
	})
	e.Close()
	if got := log.String(); strings.Count(got, "spans were lost") != 1 || strings.Count(got, "takes spans again") != 1 {
		t.Errorf("the log says\n%s", got)
	}
}

// hung is a transport that never answers.
type hung struct{ in chan struct{} }

func (h hung) RoundTrip(r *http.Request) (*http.Response, error) {
	h.in <- struct{}{}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestCollectorHangs: Close does not wait for it longer than Linger, and Add not at all.
func TestCollectorHangs(t *testing.T) {
	h := hung{in: make(chan struct{}, 100)}
	e, _ := exporter(t, Options{URL: "http://c.example", HTTP: &http.Client{Transport: h}, Linger: time.Millisecond, Timeout: time.Hour})
	e.Add(span("x"))
	<-h.in
	for range 100 {
		e.Add(span("y"))
	}
	e.Close() // the test hangs if it waits
	if s := e.Stats(); s.Failed != 101 || s.Waiting != 0 {
		t.Errorf("stats are %+v, want 101 failed", s)
	}
}

// TestTimeout: a request has its time, and then it is repeated.
func TestTimeout(t *testing.T) {
	h := hung{in: make(chan struct{}, 100)}
	e, _ := exporter(t, Options{URL: "http://c.example", HTTP: &http.Client{Transport: h}, Timeout: time.Millisecond})
	e.Add(span("x"))
	<-h.in
	<-h.in
	if s := e.Stats(); s.Requests["broken"] == 0 {
		t.Errorf("stats are %+v", s)
	}
}

// TestSecrets: neither the URL's query nor a header is in an error or the log.
func TestSecrets(t *testing.T) {
	fails := failing{}
	e, log := exporter(t, Options{URL: "http://c.example/?key=sesame", Headers: map[string]string{"X-Key": "sesame"}, HTTP: &http.Client{Transport: fails}, Patience: time.Nanosecond})
	e.Add(span("x"))
	waittest.Until(t, "the loss", func() bool { return e.Stats().Failed == 1 })
	e.Close()
	if got := log.String(); strings.Contains(got, "sesame") || !strings.Contains(got, "no route") {
		t.Errorf("the log says %q", got)
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }

// FuzzRejected reads answers of collectors.
func FuzzRejected(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(partial(3, "too old"))
	f.Add(partial(-1, ""))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, _ := rejected(b); n < 0 {
			t.Errorf("%d were refused", n)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	e, err := New(Options{URL: "http://c.example", HTTP: &http.Client{Transport: failing{}}, Interval: time.Hour, Log: slog.New(slog.DiscardHandler), Linger: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	s := span("subscribe")
	s.Attrs = []Attr{String("longwire.client", "0123456789"), String("longwire.channel", "news")}
	b.ReportAllocs()
	for b.Loop() {
		e.Add(s)
	}
}

var _ http.RoundTripper = hung{}
