package hook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// client is a session in the tests.
var client = session.Client{ID: "c1", User: "u1", Transport: "websocket", Protocol: "json", Name: "js", Version: "5.8.0"}

// binaryClient may have data of any bytes.
var binaryClient = session.Client{ID: "c2", Transport: "websocket", Protocol: "protobuf"}

// clock is a time that moves when told.
type clock struct{ now atomic.Int64 } // Unix nanoseconds

func (c *clock) Now() time.Time           { return time.Unix(0, c.now.Load()) }
func (c *clock) forward(by time.Duration) { c.now.Add(int64(by)) }

// newBackend is a Backend that is closed at the end of the test. Without endpoints, all methods are at url.
func newBackend(t *testing.T, url string, o Options) *Backend {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := []*Endpoint{&o.Connect, &o.Refresh, &o.Subscribe, &o.SubRefresh, &o.Publish, &o.RPC}
	if !slices.ContainsFunc(e, func(e *Endpoint) bool { return e.URL != "" }) {
		for _, e := range e {
			e.URL = url
			if e.Timeout == 0 {
				e.Timeout = time.Minute // no test is to end by it unless it says so
			}
		}
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// serve is a server that is closed at the end of the test, which waits for its handlers.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// body is a handler that replies with s.
func body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// asks are all hooks, each with a request for c.
var asks = map[string]func(ctx context.Context, h session.Hooks, c session.Client, data []byte) (any, error){
	"connect": func(ctx context.Context, h session.Hooks, c session.Client, data []byte) (any, error) {
		return h.Connect(ctx, c, session.ConnectRequest{Data: data})
	},
	"refresh": func(ctx context.Context, h session.Hooks, c session.Client, _ []byte) (any, error) {
		return h.Refresh(ctx, c)
	},
	"subscribe": func(ctx context.Context, h session.Hooks, c session.Client, data []byte) (any, error) {
		return h.Subscribe(ctx, c, session.SubscribeRequest{Channel: "news", Token: "t.t.t", Data: data})
	},
	"sub_refresh": func(ctx context.Context, h session.Hooks, c session.Client, _ []byte) (any, error) {
		return h.SubRefresh(ctx, c, "news")
	},
	"publish": func(ctx context.Context, h session.Hooks, c session.Client, data []byte) (any, error) {
		return h.Publish(ctx, c, session.PublishRequest{Channel: "news", Data: data})
	},
	"rpc": func(ctx context.Context, h session.Hooks, c session.Client, data []byte) (any, error) {
		return h.RPC(ctx, c, "sum", data)
	},
}

// counted are the outcomes of b's calls, those that never were left out.
func counted(b *Backend) map[string]uint64 {
	n := make(map[string]uint64)
	for _, c := range b.Stats().Calls {
		if c.Count > 0 {
			n[c.Method+" "+c.Outcome] = c.Count
		}
	}
	return n
}

func TestRequests(t *testing.T) {
	var got string
	b := newBackend(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(sent)
		_, _ = io.WriteString(w, `{"result":{}}`)
	})+"/hook", Options{})
	h := b.Hooks()
	const start = "POST /hook application/json "
	for _, c := range []struct {
		ask    string
		client session.Client
		data   string
		want   string
	}{
		{"connect", client, `{"a": "<b>"}`, `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","name":"js","version":"5.8.0","data":{"a":"<b>"}}`},
		{"connect", binaryClient, "", `{"client":"c2","transport":"websocket","protocol":"protobuf","encoding":"json"}`},
		{"refresh", client, "", `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"u1"}`},
		{"refresh", binaryClient, "", `{"client":"c2","transport":"websocket","protocol":"protobuf","encoding":"json","user":""}`},
		{"subscribe", client, `1e400`, `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"u1","channel":"news","token":"t.t.t","data":1e400}`},
		{"sub_refresh", client, "", `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"u1","channel":"news"}`},
		{"publish", client, `"x"`, `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"u1","channel":"news","data":"x"}`},
		{"publish", binaryClient, "\x00\xff", `{"client":"c2","transport":"websocket","protocol":"protobuf","encoding":"binary","user":"","channel":"news","b64data":"AP8="}`},
		{"publish", binaryClient, "\"\xff\"", `{"client":"c2","transport":"websocket","protocol":"protobuf","encoding":"binary","user":"","channel":"news","b64data":"Iv8i"}`},
		{"rpc", client, `[1,2]`, `{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"u1","method":"sum","data":[1,2]}`},
		{"rpc", binaryClient, `[1,2]`, `{"client":"c2","transport":"websocket","protocol":"protobuf","encoding":"json","user":"","method":"sum","data":[1,2]}`},
	} {
		got = ""
		if _, err := asks[c.ask](t.Context(), h, c.client, []byte(c.data)); err != nil {
			t.Errorf("%s: %v", c.ask, err)
		}
		if got != start+c.want {
			t.Errorf("%s of %s sent\n%s, want\n%s", c.ask, c.client.Protocol, got, start+c.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	var got http.Header
	b := newBackend(t, "", Options{
		RPC: Endpoint{
			URL:         serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header; _, _ = io.WriteString(w, `{}`) }),
			Headers:     map[string]string{"x-key": "k", "X-Tenant": "default"},
			PassHeaders: []string{"x-request-id", "Cookie", "X-Request-ID", "x-tenant", "Origin"},
		},
		Connect: Endpoint{URL: "http://127.0.0.1:1", PassHeaders: []string{"Authorization"}},
	})
	if h, want := b.Hooks().Headers, []string{"Authorization", "Cookie", "Origin", "X-Request-Id", "X-Tenant"}; !slices.Equal(h, want) {
		t.Errorf("Hooks().Headers = %q, want %q", h, want)
	}
	call := func(headers map[string]string) {
		t.Helper()
		c := client
		c.Headers = headers
		if _, err := b.Hooks().RPC(t.Context(), c, "m", nil); err != nil {
			t.Fatal(err)
		}
	}
	call(map[string]string{"X-Request-Id": "r1", "X-Tenant": "t1", "Cookie": "a=b\r\nX-Key: evil", "Authorization": "other hook's", "X-Key": "evil"})
	for name, want := range map[string][]string{
		"X-Key": {"k"}, "X-Tenant": {"t1"}, "X-Request-Id": {"r1"}, "Cookie": nil, "Authorization": nil, "Origin": nil,
		"User-Agent": {"longwire"}, "Content-Type": {"application/json"},
	} {
		if !slices.Equal(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	call(map[string]string{"X-Request-Id": "r2", "Cookie": strings.Repeat("c", maxPassed), "Origin": "o"})
	if got.Get("X-Tenant") != "default" || got.Get("X-Request-Id") != "r2" || got.Get("Origin") != "o" || got.Get("Cookie") != "" {
		t.Errorf("headers with a huge one: %q", got)
	}
}

func TestReplies(t *testing.T) {
	yes, no := true, false
	when := time.Unix(1700000000, 0)
	for _, c := range []struct {
		ask    string
		client session.Client
		body   string
		want   any
	}{
		{"connect", client, `{"result":{"user":"42","expire_at":1700000000,"info":{"n": "é"},"data":[1,
			2],"channels":["a","b"],"subs":{"c":{"info":1,"b64data":"eyJhIjogMX0=","override":{"presence":{"value":true},"join_leave":{}}},"d":null},"meta":{},"caps":[]}}`,
			session.ConnectReply{User: "42", ExpireAt: when, Info: []byte(`{"n":"é"}`), Data: []byte(`[1,2]`), Channels: []string{"a", "b"},
				Subs: map[string]session.SubscribeOptions{"c": {Info: []byte(`1`), Data: []byte(`{"a":1}`), Presence: &yes, JoinLeave: &no}, "d": {}}}},
		{"connect", client, ` {"result":{},"error":null,"disconnect":null}`, session.ConnectReply{}},
		{"connect", binaryClient, `{"result":{"b64info":"eyJhIjogMX0=","b64data":"AP8="}}`, session.ConnectReply{Info: []byte(`{"a":1}`), Data: []byte("\x00\xff")}},
		{"refresh", client, `{"result":{"expire_at":1700000000,"info":"x"}}`, session.RefreshReply{ExpireAt: when, Info: []byte(`"x"`)}},
		{"refresh", client, `{"result":{"expired":true,"expire_at":1700000000}}`, session.RefreshReply{Expired: true}},
		{"refresh", client, `{}`, session.RefreshReply{Expired: true}},
		{"subscribe", client, `{"result":{"expire_at":1700000000,"info":{},"data":"d","override":{"presence":{"value":false},"join_leave":{"value":true},
			"force_recovery":{"value":true},"force_positioning":{"value":false},"force_push_join_leave":{"value":true}}}}`,
			session.SubscribeReply{ExpireAt: when, Options: session.SubscribeOptions{Info: []byte(`{}`), Data: []byte(`"d"`), Presence: &no, JoinLeave: &yes,
				ForceRecovery: &yes, ForcePositioning: &no, ForceJoinLeave: &yes}}},
		{"subscribe", client, `{"result":{"override":{"presence":null}}}`, session.SubscribeReply{}},
		{"subscribe", client, `{}`, session.SubscribeReply{}},
		{"sub_refresh", client, `{"result":{"expire_at":1700000000,"b64info":"MQ=="}}`, session.RefreshReply{ExpireAt: when, Info: []byte(`1`)}},
		{"sub_refresh", client, `{"result":null}`, session.RefreshReply{Expired: true}},
		{"publish", client, `{"result":{"data":{"x": 1},"skip_history":true}}`, session.PublishReply{Data: []byte(`{"x":1}`), SkipHistory: true}},
		{"publish", binaryClient, `{"result":{"b64data":"AP8="}}`, session.PublishReply{Data: []byte("\x00\xff")}},
		{"publish", client, `{"result":{}}`, session.PublishReply{}},
		{"publish", client, `{}`, session.PublishReply{}},
		{"rpc", client, `{"result":{"data":null}}`, []byte(`null`)},
		{"rpc", binaryClient, `{"result":{"b64data":"AP8="}}`, []byte("\x00\xff")},
		{"rpc", client, `{}`, []byte(nil)},
	} {
		b := newBackend(t, serve(t, body(c.body)), Options{})
		got, err := asks[c.ask](t.Context(), b.Hooks(), c.client, nil)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s of %s: %+v, %v; want %+v", c.ask, c.body, got, err, c.want)
		}
		if n := counted(b); n[c.ask+" ok"] != 1 || len(n) != 1 {
			t.Errorf("%s: counted %v", c.ask, n)
		}
	}
}

// TestDenials has replies that are no, which say nothing bad about the backend.
func TestDenials(t *testing.T) {
	for ask, do := range asks {
		for _, c := range []struct {
			body, outcome string
			want          error
		}{
			{`{"error":{"code":1000,"message":"no","temporary":true}}`, "error", &centrifuge.Error{Code: 1000, Message: "no", Temporary: true}},
			{`{"error":{"code":103},"result":{"user":"u"}}`, "error", &centrifuge.Error{Code: 103}},
			{`{"disconnect":{"code":4501,"reason":"banned"}}`, "disconnect", &centrifuge.Disconnect{Code: 4501, Reason: "banned"}},
			{`{"disconnect":{"code":4000},"error":{"code":1}}`, "disconnect", &centrifuge.Disconnect{Code: 4000}},
			{`{"disconnect":{"code":3000,"reason":"` + strings.Repeat("é", 100) + `"}}`, "disconnect", &centrifuge.Disconnect{Code: 3000, Reason: strings.Repeat("é", 61)}},
		} {
			b := newBackend(t, serve(t, body(c.body)), Options{Breaker: Breaker{Failures: 1}})
			got, err := do(t.Context(), b.Hooks(), client, nil)
			if !reflect.DeepEqual(err, c.want) {
				t.Errorf("%s of %s: %+v, error %#v; want %#v", ask, c.body, got, err, c.want)
			}
			if n := counted(b); n[ask+" "+c.outcome] != 1 || len(n) != 1 || b.Stats().Breaker != Closed {
				t.Errorf("%s of %s: counted %v, breaker %v", ask, c.body, n, b.Stats().Breaker)
			}
		}
	}
	// Nobody is not the same as somebody without a name.
	b := newBackend(t, serve(t, body(`{}`)), Options{})
	if got, err := b.Hooks().Connect(t.Context(), client, session.ConnectRequest{}); err != centrifuge.DisconnectBadRequest {
		t.Errorf("connect of {}: %+v, %v", got, err)
	}
}

// TestFailures has all that is no reply: the client gets an internal error, and the breaker opens.
func TestFailures(t *testing.T) {
	var redirected atomic.Int32
	elsewhere := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		redirected.Add(1)
		_, _ = io.WriteString(w, `{"result":{}}`)
	})
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"result":{}}`)
		}
	}
	huge := `{"result":{}}` + strings.Repeat(" ", maxReply)
	for _, c := range []struct {
		name    string
		h       http.HandlerFunc
		outcome string
	}{
		{"302", status(302), "status"},
		{"307", status(307), "status"},
		{"404", status(404), "status"},
		{"500", status(500), "status"},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, huge)
		}, "reply"},
		{"huge by its length", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "9000000000")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done() // nobody waits for the rest
		}, "reply"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"result":{}}`)
		}, "connection"},
		{"no reply", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "connection"},
		{"nothing", body(``), "reply"},
		{"null", body(`null`), "reply"},
		{"array", body(`[]`), "reply"},
		{"HTML", body(`<html>`), "reply"},
		{"two", body(`{"result":{}} {}`), "reply"},
		{"not UTF-8", body("{\"result\":{\"x\":\"\xff\"}}"), "reply"},
		{"a string", body(`{"result":"ok"}`), "reply"},
		{"error without code", body(`{"error":{}}`), "reply"},
		{"error with code -1", body(`{"error":{"code":-1}}`), "reply"},
		{"disconnect without code", body(`{"disconnect":{}}`), "reply"},
		{"disconnect with code 1000", body(`{"disconnect":{"code":1000}}`), "reply"},
		{"disconnect with code 5000", body(`{"disconnect":{"code":5000}}`), "reply"},
		{"disconnect with code 70000", body(`{"disconnect":{"code":70000}}`), "reply"},
	} {
		for ask, do := range asks {
			b := newBackend(t, serve(t, c.h), Options{Breaker: Breaker{Failures: 1}})
			got, err := do(t.Context(), b.Hooks(), client, nil)
			if err != centrifuge.ErrInternal {
				t.Errorf("%s of %s: %+v, %v", ask, c.name, got, err)
			}
			if n := counted(b); n[ask+" "+c.outcome] != 1 || len(n) != 1 || b.Stats().Breaker != Open {
				t.Errorf("%s of %s: counted %v, breaker %v", ask, c.name, n, b.Stats().Breaker)
			}
		}
	}
	if n := redirected.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
	gone := httptest.NewServer(body(`{}`))
	gone.Close()
	b := newBackend(t, gone.URL, Options{})
	if _, err := b.Hooks().RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal || counted(b)["rpc connection"] != 1 {
		t.Errorf("without a server: %v, counted %v", err, counted(b))
	}
}

// TestResultsRefused has results that no client could be given.
func TestResultsRefused(t *testing.T) {
	for _, c := range []struct {
		ask    string
		client session.Client
		body   string
	}{
		{"connect", client, `{"result":{"b64data":"AP8="}}`},
		{"connect", client, `{"result":{"b64data":"Iv8i"}}`}, // JSON, but for UTF-8
		{"connect", binaryClient, `{"result":{"b64info":"AP8="}}`},
		{"connect", binaryClient, `{"result":{"b64info":"?"}}`},
		{"connect", client, `{"result":{"subs":{"a":{"b64info":"AP8="}}}}`},
		{"connect", client, `{"result":{"subs":{"a":{"b64data":"AP8="}}}}`},
		{"connect", client, `{"result":{"user":42}}`},
		{"connect", client, `{"result":{"expire_at":1700000000000}}`},
		{"connect", client, `{"result":{"expire_at":-1}}`},
		{"refresh", client, `{"result":{"expire_at":1.5}}`},
		{"refresh", client, `{"result":{"expire_at":1700000000000}}`},
		{"sub_refresh", client, `{"result":{"b64info":"AP8="}}`},
		{"subscribe", client, `{"result":{"override":{"presence":true}}}`},
		{"subscribe", client, `{"result":{"expire_at":-1}}`},
		{"subscribe", client, `{"result":{"b64data":"AP8="}}`},
		{"publish", client, `{"result":{"b64data":"AP8="}}`},
		{"rpc", client, `{"result":{"b64data":"AP8="}}`},
	} {
		b := newBackend(t, serve(t, body(c.body)), Options{})
		if got, err := asks[c.ask](t.Context(), b.Hooks(), c.client, nil); err != centrifuge.ErrInternal || counted(b)[c.ask+" reply"] != 1 {
			t.Errorf("%s of %s: %+v, %v; counted %v", c.ask, c.body, got, err, counted(b))
		}
	}
}

// TestRefused has names that JSON cannot carry.
func TestRefused(t *testing.T) {
	b := newBackend(t, "http://127.0.0.1:1", Options{Breaker: Breaker{Failures: 1}})
	h := b.Hooks()
	_, err := h.Subscribe(t.Context(), client, session.SubscribeRequest{Channel: "a\xff"})
	_, err2 := h.RPC(t.Context(), client, "m\xff", nil)
	if n := counted(b); err != centrifuge.ErrBadRequest || err2 != centrifuge.ErrBadRequest || n["subscribe refused"] != 1 || n["rpc refused"] != 1 || len(n) != 2 {
		t.Errorf("%v, %v, counted %v", err, err2, n)
	}
}

// TestHang has a server that never replies, and one that stops in the middle. The call ends with the endpoint's timeout
// or with the session, and then so does the server's handler: else the server's Close would not return.
func TestHang(t *testing.T) {
	for _, start := range []string{"", `{"result":`} {
		hang := func(entered chan<- struct{}) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server see that the client went away
				if start != "" {
					_, _ = io.WriteString(w, start)
					_ = http.NewResponseController(w).Flush()
				}
				entered <- struct{}{}
				<-r.Context().Done()
			}
		}
		entered := make(chan struct{}, 1)
		b := newBackend(t, "", Options{RPC: Endpoint{URL: serve(t, hang(entered)), Timeout: 50 * time.Millisecond}, Breaker: Breaker{Failures: 1}})
		if _, err := b.Hooks().RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal {
			t.Errorf("RPC of a hung server: %v", err)
		}
		if n := counted(b); n["rpc timeout"] != 1 || b.Stats().Breaker != Open {
			t.Errorf("after a timeout: counted %v, breaker %v", n, b.Stats().Breaker)
		}

		entered = make(chan struct{}, 1)
		b = newBackend(t, serve(t, hang(entered)), Options{Breaker: Breaker{Failures: 1}})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		if _, err := b.Hooks().RPC(ctx, client, "m", nil); err != centrifuge.ErrInternal {
			t.Errorf("RPC of a session that ended: %v", err)
		}
		if n := counted(b); n["rpc canceled"] != 1 || b.Stats().Breaker != Closed || b.Stats().InFlight != 0 {
			t.Errorf("after a session ended: counted %v, %+v", n, b.Stats())
		}
	}
}

// transport is a http.RoundTripper without a network, for what depends on real time.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hung never replies.
func hung(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, "", Options{
			Connect: Endpoint{URL: "http://app"}, RPC: Endpoint{URL: "http://app", Timeout: 3 * time.Second},
			HTTP: &http.Client{Transport: transport(hung)}, MaxConcurrent: 1,
		})
		h := b.Hooks()
		if h.Refresh != nil || h.Subscribe != nil || h.SubRefresh != nil || h.Publish != nil {
			t.Error("a method without endpoint has a hook")
		}
		took := func(f func()) time.Duration { t.Helper(); start := time.Now(); f(); return time.Since(start) }
		connect := func(ctx context.Context) {
			t.Helper()
			if _, err := h.Connect(ctx, client, session.ConnectRequest{}); err != centrifuge.ErrInternal {
				t.Errorf("connect: %v", err)
			}
		}
		if d := took(func() { connect(t.Context()) }); d != time.Second {
			t.Errorf("a hung connect took %v, want the default of 1s", d)
		}
		// A caller's own deadline that passes is the backend's fault too.
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if d := took(func() { connect(short) }); d != 100*time.Millisecond {
			t.Errorf("a connect with 100ms took %v", d)
		}
		if d := took(func() { connect(short) }); d != 0 {
			t.Errorf("a connect of a session that had ended took %v", d)
		}
		// The one place is taken for 3 s: another waits its second.
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = h.RPC(t.Context(), client, "m", nil) })
		synctest.Wait()
		if d := took(func() { connect(t.Context()) }); d != time.Second {
			t.Errorf("a connect without a place took %v, want 1s", d)
		}
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { connect(ctx) })
		synctest.Wait()
		if s := b.Stats(); s.InFlight != 1 || s.Waiting != 1 {
			t.Errorf("in flight %d, waiting %d; want 1 and 1", s.InFlight, s.Waiting)
		}
		stop()
		synctest.Wait()
		if s := b.Stats(); s.InFlight != 1 || s.Waiting != 0 {
			t.Errorf("in flight %d, waiting %d; want 1 and 0", s.InFlight, s.Waiting)
		}
		wg.Wait()
		want := map[string]uint64{"connect timeout": 2, "connect canceled": 2, "connect busy": 1, "rpc timeout": 1}
		if got := counted(b); !reflect.DeepEqual(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
		if calls := b.Stats().Calls; len(calls) != 2*int(outcomes) || calls[0] != (CallStats{Method: "connect", Outcome: "ok"}) {
			t.Errorf("stats of two methods: %+v", calls)
		}
	})
}

// TestConcurrent has more callers than places. The server lets nobody go before all places are taken.
func TestConcurrent(t *testing.T) {
	const callers, places = 40, 4
	var now, most, entered atomic.Int32
	full := make(chan struct{})
	b := newBackend(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if entered.Add(1) == places {
			close(full)
		}
		<-full
		_, _ = io.WriteString(w, `{"result":{"data":1}}`)
	}), Options{MaxConcurrent: places})
	h := b.Hooks()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if got, err := h.RPC(t.Context(), client, "m", nil); err != nil || string(got) != "1" {
				t.Errorf("RPC = %s, %v", got, err)
			}
		})
	}
	wg.Wait()
	if got := most.Load(); got != places {
		t.Errorf("at most %d calls at a time, want %d", got, places)
	}
	if s := b.Stats(); counted(b)["rpc ok"] != callers || s.InFlight != 0 || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestBreaker goes through the states by a fake clock, and counts what the server sees.
func TestBreaker(t *testing.T) {
	var calls atomic.Int32
	var bad atomic.Bool
	var out bytes.Buffer
	var time0 clock
	time0.forward(time.Hour)
	b := newBackend(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		if bad.Load() {
			w.WriteHeader(500)
			return
		}
		_, _ = io.WriteString(w, `{"error":{"code":103}}`)
	}), Options{Now: time0.Now, Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))})
	h := b.Hooks()
	// step calls n times and looks at what the server saw, the state and the log.
	step := func(name string, n int, sees int32, s State, lines ...string) {
		t.Helper()
		before := calls.Load()
		out.Reset()
		for range n {
			_, err := h.SubRefresh(t.Context(), client, "news")
			if want := (&centrifuge.Error{Code: 103}); !bad.Load() && calls.Load() > before && !reflect.DeepEqual(err, want) {
				t.Errorf("%s: error %v, want %v", name, err, want)
			} else if (bad.Load() || sees == 0) && err != centrifuge.ErrInternal {
				t.Errorf("%s: error %v, want %v", name, err, centrifuge.ErrInternal)
			}
		}
		if got := calls.Load() - before; got != sees || b.Stats().Breaker != s {
			t.Errorf("%s: the server saw %d calls, want %d; breaker %v, want %v", name, got, sees, b.Stats().Breaker, s)
		}
		var want string
		for _, l := range lines {
			want += l + "\n"
		}
		if out.String() != want {
			t.Errorf("%s: logged\n%swant\n%s", name, out.String(), want)
		}
	}
	const (
		failure = `level=WARN msg="hook failed" method=sub_refresh outcome=status error="status 500"`
		opened  = `level=WARN msg="hook breaker open" for=5s error="status 500"`
		trial   = `level=INFO msg="hook breaker half-open: a trial"`
		closed  = `level=INFO msg="hook breaker closed"`
	)
	bad.Store(true)
	step("four failures", 4, 4, Closed, failure)
	bad.Store(false)
	step("a denial is no failure", 1, 1, Closed)
	bad.Store(true)
	step("four more", 4, 4, Closed)
	step("the fifth", 1, 1, Open, opened)
	step("open", 10, 0, Open)
	time0.forward(5*time.Second - 1)
	step("still open", 10, 0, Open)
	time0.forward(1)
	step("a trial that fails", 10, 1, Open, trial, failure, opened)
	bad.Store(false)
	step("open again", 10, 0, Open)
	time0.forward(5 * time.Second)
	step("a trial that succeeds", 1, 1, Closed, trial, closed)
	bad.Store(true)
	step("a new count", 4, 4, Closed, failure)
	if got, want := counted(b), map[string]uint64{"sub_refresh status": 14, "sub_refresh error": 2, "sub_refresh open": 39}; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// TestTrial has a trial that waits: no other call is let through, and one that ends without a verdict leaves the next
// call as the trial. Calls from before have no say.
func TestTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var replies [6]chan string // of the calls, in the order of their coming
		for i := range replies {
			replies[i] = make(chan string)
		}
		b := newBackend(t, "", Options{
			RPC: Endpoint{URL: "http://app", Timeout: time.Hour}, Breaker: Breaker{Failures: 1, Open: time.Minute},
			HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
				select {
				case s := <-replies[calls.Add(1)-1]:
					if s == "" {
						return nil, errors.New("connection reset")
					}
					return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(s))}, nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			})},
		})
		h := b.Hooks()
		done := make(chan error, len(replies))
		call := func(ctx context.Context) {
			go func() { _, err := h.RPC(ctx, client, "m", nil); done <- err }()
			synctest.Wait()
		}
		check := func(name string, n int32, s State) {
			t.Helper()
			synctest.Wait()
			if calls.Load() != n || b.Stats().Breaker != s {
				t.Fatalf("%s: %d calls, breaker %v; want %d, %v", name, calls.Load(), b.Stats().Breaker, n, s)
			}
		}
		ended := func(want error) {
			t.Helper()
			if err := <-done; err != want {
				t.Errorf("a call ended with %v, want %v", err, want)
			}
		}
		for range 4 {
			call(t.Context())
		}
		replies[0] <- ""
		check("one of four failed", 4, Open)
		ended(centrifuge.ErrInternal)
		time.Sleep(time.Minute) // in the bubble
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx)
		check("a trial runs", 5, HalfOpen)
		if _, err := h.RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal {
			t.Errorf("beside a trial: %v", err)
		}
		check("beside a trial", 5, HalfOpen)
		replies[1] <- `{}`
		ended(nil)
		check("an old call succeeded", 5, HalfOpen)
		replies[2] <- ""
		ended(centrifuge.ErrInternal)
		check("an old call failed", 5, HalfOpen)
		cancel()
		ended(centrifuge.ErrInternal)
		check("the trial's session ended", 5, HalfOpen)
		call(t.Context())
		check("another trial runs", 6, HalfOpen)
		replies[5] <- `{"result":{}}`
		ended(nil)
		check("it succeeded", 6, Closed)
		replies[3] <- ""
		ended(centrifuge.ErrInternal)
		check("the last old call failed", 6, Closed)
	})
}

// TestWaitersOfOpen has callers that wait for a place when the breaker opens: they end without a call. While it is open,
// and while a trial has the only place, nobody waits.
func TestWaitersOfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		b := newBackend(t, "", Options{
			RPC: Endpoint{URL: "http://app", Timeout: time.Hour}, Connect: Endpoint{URL: "http://app"}, MaxConcurrent: 1, Breaker: Breaker{Failures: 1},
			HTTP: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) { calls.Add(1); return hung(r) })},
		})
		h := b.Hooks()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = h.Connect(t.Context(), client, session.ConnectRequest{}) })
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if _, err := h.RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal {
					t.Errorf("RPC: %v", err)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if n, d := counted(b), time.Since(start); calls.Load() != 1 || n["rpc open"] != 10 || d != time.Second {
			t.Errorf("%d calls, counted %v after %v; want 1, 10 open after 1s", calls.Load(), n, d)
		}
		time.Sleep(5 * time.Second) // in the bubble
		wg.Go(func() { _, _ = h.Connect(t.Context(), client, session.ConnectRequest{}) })
		synctest.Wait()
		start = time.Now()
		if _, err := h.RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal {
			t.Errorf("RPC beside a trial: %v", err)
		}
		if d := time.Since(start); d != 0 || calls.Load() != 2 || b.Stats().Breaker != HalfOpen {
			t.Errorf("beside a trial: %v, %d calls, breaker %v; want 0, 2, half-open", d, calls.Load(), b.Stats().Breaker)
		}
		wg.Wait()
	})
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{MaxConcurrent: -1}, "hook: max concurrent -1 is negative"},
		{Options{Breaker: Breaker{Failures: -1}}, "hook: breaker: failures -1 are negative"},
		{Options{Breaker: Breaker{Open: -1}}, "hook: breaker: open -1ns is negative"},
		{Options{RPC: Endpoint{URL: "grpc://app"}}, `hook: rpc: url "grpc://app" is not http://host or https://host`},
		{Options{RPC: Endpoint{URL: "ftp://me:secret@app"}}, `hook: rpc: url "ftp://me:xxxxx@app" is not http://host or https://host`},
		{Options{Connect: Endpoint{URL: "http:///x"}}, `hook: connect: url "http:///x" is not http://host or https://host`},
		{Options{Connect: Endpoint{URL: "http://me:secret@app:x"}}, `hook: connect: url: invalid port ":x" after host`},
		{Options{SubRefresh: Endpoint{URL: "http://app", Timeout: -time.Second}}, "hook: sub_refresh: timeout -1s is negative"},
		{Options{Publish: Endpoint{URL: "http://app", PassHeaders: []string{"content-length"}}}, "hook: publish: header Content-Length cannot be set"},
		{Options{Publish: Endpoint{URL: "http://app", PassHeaders: []string{"a b"}}}, `hook: publish: header name "a b" is none`},
		{Options{Refresh: Endpoint{URL: "http://app", Headers: map[string]string{"host": "x"}}}, "hook: refresh: header Host cannot be set"},
		{Options{Subscribe: Endpoint{URL: "http://app", Headers: map[string]string{"X-Key": "secret\n"}}}, "hook: subscribe: header X-Key: its value has control characters"},
	} {
		if b, err := New(c.o); err == nil || err.Error() != c.want || b != nil {
			t.Errorf("New(%+v) = %v, %v; want %s", c.o, b, err, c.want)
		}
	}
}

// TestLogHasNoSecret has a failing call to a URL with a password and a key.
func TestLogHasNoSecret(t *testing.T) {
	var out bytes.Buffer
	b := newBackend(t, "http://me:secret@127.0.0.1:1/?key=secret", Options{Log: slog.New(slog.NewTextHandler(&out, nil)), Breaker: Breaker{Failures: 1}})
	if _, err := b.Hooks().RPC(t.Context(), client, "m", nil); err != centrifuge.ErrInternal {
		t.Errorf("RPC: %v", err)
	}
	if s := out.String(); !strings.Contains(s, "hook failed") || !strings.Contains(s, "hook breaker open") || strings.Contains(s, "secret") {
		t.Errorf("logged %s", s)
	}
}

// TestClientIsCopied shows that the caller's http.Client stays as it was.
func TestClientIsCopied(t *testing.T) {
	c := &http.Client{Transport: transport(hung)}
	newBackend(t, "http://app", Options{HTTP: c})
	if c.CheckRedirect != nil {
		t.Error("New changed the caller's client")
	}
}

// TestOpenAllocates bounds what a call costs while the breaker is open, which is when every client tries again.
func TestOpenAllocates(t *testing.T) {
	b := newBackend(t, "http://app", Options{Breaker: Breaker{Failures: 1}, HTTP: &http.Client{Transport: transport(
		func(*http.Request) (*http.Response, error) { return nil, errors.New("down") })}})
	h := b.Hooks()
	data := []byte(`{"a":1}`)
	call := func() {
		if _, err := h.RPC(t.Context(), client, "m", data); err != centrifuge.ErrInternal {
			t.Fatal(err)
		}
	}
	call()
	if n := testing.AllocsPerRun(100, call); n > 10 {
		t.Errorf("a call that is not made allocates %v times", n)
	}
	runtime.KeepAlive(b)
}
