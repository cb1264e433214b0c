package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/otlp/otlptest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// spansOf are the spans of a trace that a collector took, by name.
func spansOf(c *otlptest.Collector, trace string) map[string]*tracepb.Span {
	m := make(map[string]*tracepb.Span)
	for _, s := range c.Spans() {
		if hex.EncodeToString(s.TraceId) == trace {
			m[s.Name] = s
		}
	}
	return m
}

func names(m map[string]*tracepb.Span) string {
	var list []string
	for n := range m {
		list = append(list, n)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// serving runs a gateway with options, and returns its address and what ends it.
func serving(t *testing.T, environ ...string) (addr string, end func()) {
	t.Helper()
	l, err := config.Load(config.Input{Environ: append([]string{"LONGWIRE_ADDR=127.0.0.1:0", "LONGWIRE_MAX_CONNS=100", "LONGWIRE_DRAIN=off"}, environ...)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(&l, slog.New(newHandler(io.Discard, &l.Serve)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	for deadline := time.Now().Add(patience); !s.gateway.Ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gateway does not become ready")
		}
	}
	return s.gateway.Addr().String(), end
}

const upstream = "00f067aa0ba902b7"

func TestServeSpans(t *testing.T) {
	collector := otlptest.New(t, nil)
	var mu sync.Mutex
	var told []string // traceparents that the backend got
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		told = append(told, r.Header.Get("Traceparent"))
		mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), `"fail"`) {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{"result":{"data":{"text":"sesame"}}}`)
	}))
	defer backend.Close()
	addr, end := serving(t, "LONGWIRE_INSECURE=true", "LONGWIRE_API_INSECURE=true", "LONGWIRE_TRACE_SAMPLING=0", "LONGWIRE_SLOW_CALL=off", "LONGWIRE_HOOK_RPC="+backend.URL,
		"LONGWIRE_OTLP_ENDPOINT="+collector.Serve(), "LONGWIRE_OTLP_HEADERS=Authorization=Bearer%20open%20sesame")
	trace := func(n int) string { return fmt.Sprintf("%032x", n) }
	// The first is recorded by whoever began its trace; of the others only the one in which something fails is sent.
	for n, method := range []string{1: "sum", 2: "sum", 3: "fail", 4: "fail"} {
		if n == 0 {
			continue
		}
		flags, header := "00", ""
		if n == 1 {
			flags = "01"
		}
		if n < 4 {
			header = "Traceparent: 00-" + trace(n) + "-" + upstream + "-" + flags + "\r\n"
		}
		s := wstest.Dial(t, addr, "/connection/websocket", ws.Dial{Header: header})
		s.Ask(`{"id":1,"connect":{"data":{"text":"sesame"}}}`)
		s.Ask(`{"id":2,"subscribe":{"channel":"news"}}`)
		s.Ask(`{"id":3,"rpc":{"method":"` + method + `","data":{"text":"sesame"}}}`)
		s.Ask(`{"id":4,"unsubscribe":{"channel":"news"}}`)
		s.Ask(`{"id":5,"publish":{"channel":"other","data":{"text":"sesame"}}}`)
		s.Leave()
	}
	r, err := http.NewRequest("POST", "http://"+addr+"/api/publish", strings.NewReader(`{"channel":"news","data":{"text":"sesame"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Traceparent", "00-"+trace(5)+"-"+upstream+"-01")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	end()

	const all = "closed, connect, hook rpc, publish, rpc, subscribe, unsubscribe, upgrade"
	for n, want := range []string{1: all, 2: "", 3: all, 5: "POST /api/publish"} {
		if got := names(spansOf(collector, trace(n))); n > 0 && n != 4 && got != want {
			t.Errorf("trace %d has %q, want %q", n, got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for n, at := range map[int]int{1: 0, 3: 2} {
		spans := spansOf(collector, trace(n))
		for name, s := range spans {
			want := upstream
			if name == "hook rpc" {
				want = hex.EncodeToString(spans["rpc"].SpanId)
			}
			if got := hex.EncodeToString(s.ParentSpanId); got != want {
				t.Errorf("trace %d: the parent of %s is %s, want %s", n, name, got, want)
			}
			if s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano || time.Since(time.Unix(0, int64(s.StartTimeUnixNano))) > time.Minute {
				t.Errorf("trace %d: %s is from %d to %d", n, name, s.StartTimeUnixNano, s.EndTimeUnixNano)
			}
			if failed, want := s.Status != nil, n == 3 && (name == "rpc" || name == "hook rpc"); failed != want {
				t.Errorf("trace %d: %s failed: %v, want %v", n, name, failed, want)
			}
		}
		flags := map[int]string{1: "01", 3: "00"}[n]
		if h := spans["hook rpc"]; h == nil || told[at] != "00-"+trace(n)+"-"+hex.EncodeToString(h.SpanId)+"-"+flags {
			t.Errorf("trace %d: the backend was told %q", n, told[at])
		}
		attrs := make(map[string]string)
		if s := spans["subscribe"]; s != nil {
			for _, a := range s.Attributes {
				attrs[a.Key] = a.Value.GetStringValue()
			}
		}
		if attrs["longwire.channel"] != "news" || attrs["longwire.endpoint"] != "/connection/websocket" || len(attrs["longwire.client"]) != 36 {
			t.Errorf("trace %d: subscribe has %v", n, attrs)
		}
	}
	// The fourth brought no trace: its upgrade is the root.
	roots := 0
	for _, s := range collector.Spans() {
		if len(s.ParentSpanId) == 0 {
			if roots++; s.Name != "upgrade" {
				t.Errorf("%s is a root", s.Name)
			}
		}
	}
	if n := len(collector.Spans()); roots != 1 || n != 3*8+1 {
		t.Errorf("%d roots among %d spans, want 1 among 25", roots, n)
	}
	for _, r := range collector.Requests() {
		if r.Line != "POST /v1/traces" || r.Header.Get("Authorization") != "Bearer open sesame" {
			t.Errorf("the collector got %s with Authorization: %s", r.Line, r.Header.Get("Authorization"))
		}
		if strings.Contains(string(r.Body), "sesame") {
			t.Error("payloads are in spans")
		}
	}
}

// TestServeWithoutCollector: a collector that is not there changes nothing but a count.
func TestServeWithoutCollector(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	addr, end := serving(t, "LONGWIRE_INSECURE=true", "LONGWIRE_OTLP_ENDPOINT=http://"+ln.Addr().String())
	s := wstest.Dial(t, addr, "/connection/websocket", ws.Dial{})
	if got := s.Ask(`{"id":1,"connect":{}}`); !strings.Contains(got, `"client"`) {
		t.Errorf("connect is answered %s", got)
	}
	answer, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	for _, want := range []string{`longwire_otlp_spans_total{outcome="sent"} 0`, `longwire_otlp_requests_total{outcome="ok"} 0`, "longwire_journal_lost_total 0"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	s.Leave()
	end()
}
