package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/token/tokentest"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// world is a gateway with its admin API on a listener of its own.
type world struct {
	t    *testing.T
	g    *longwire.Gateway
	api  *API
	url  string
	http *http.Client
	log  *waittest.Log

	limit   *Limit
	drained chan time.Duration
}

const secret = "what tokens are signed with"

func newWorld(t *testing.T, c longwire.Config) *world {
	t.Helper()
	w := &world{t: t, log: new(waittest.Log), drained: make(chan time.Duration, 1)}
	c.Addr, c.MaxConns, c.Loops, c.MaxMemory, c.Log = "127.0.0.1:0", 64, 2, -1, slog.New(slog.NewTextHandler(w.log, nil))
	echo := longwire.Echo("/echo")
	echo.Heartbeat = longwire.Heartbeat{Ping: -1, Timeout: -1} // a test's client answers only while the test reads
	c.Endpoints = []longwire.Endpoint{longwire.Centrifuge("/connection/websocket"), longwire.Plain("/ws"), echo}
	c.Channels = longwire.ChannelOptions{SubscribeForClient: true, SubscribeForAnonymous: true}
	c.Tokens = longwire.TokenOptions{HMACSecret: []byte(secret)}
	var err error
	if w.g, err = longwire.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.g.Close() })
	if err := w.g.Start(); err != nil {
		t.Fatal(err)
	}
	w.api = New(Options{Gateway: func() Gateway { return w.g }, Mask: w.g.MaskAddress, Log: c.Log,
		Node: func() Node { return Node{Version: "v", Features: Features{Trace: "off"}} },
		Drain: func(_ context.Context, over time.Duration) (Drained, error) {
			w.drained <- over
			return Drained{Length: over.Seconds(), Conns: 3}, nil
		}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.limit = NewLimit(ln)
	guard := NewGuard(GuardOptions{Token: token, Mask: w.g.MaskAddress, Log: c.Log})
	s := &http.Server{Handler: w.limit.Wrap(guard.Wrap(w.api))}
	over := make(chan struct{})
	go func() { _ = s.Serve(w.limit); close(over) }()
	transport := &http.Transport{}
	w.http = &http.Client{Timeout: time.Minute, Transport: transport}
	t.Cleanup(func() { transport.CloseIdleConnections(); _ = s.Close(); <-over; w.api.Close() })
	w.url = "http://" + ln.Addr().String()
	return w
}

// ask sends a request with the token.
func (w *world) ask(method, path, body string) (int, string, http.Header) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+Prefix+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if h := resp.Header; h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s %s: header %v", method, path, h)
	}
	return resp.StatusCode, string(b), resp.Header
}

// post sends a request and reads the answer into v.
func (w *world) post(path, body string, v any) {
	w.t.Helper()
	status, text, _ := w.ask("POST", path, body)
	if status != 200 {
		w.t.Fatalf("%s %s: %d %s", path, body, status, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		w.t.Fatalf("%s %s: %s: %v", path, body, text, err)
	}
}

// dial opens a WebSocket connection to an endpoint. It has time: some tests keep the machine busy meanwhile.
func (w *world) dial(path string) *wstest.Client {
	w.t.Helper()
	c := wstest.Dial(w.t, w.g.Addr().String(), path, ws.Dial{})
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	return c
}

// user connects a session of that user, subscribed to a channel.
func (w *world) user(name, channel string) *wstest.Client {
	w.t.Helper()
	p := w.dial("/connection/websocket")
	if got := p.Ask(`{"id":1,"connect":{"token":"` + tokentest.HS256(secret, `{"sub":"`+name+`"}`) + `"}}`); !strings.Contains(got, `"client":"`) {
		w.t.Fatalf("connect: %s", got)
	}
	if got := p.Ask(`{"id":2,"subscribe":{"channel":"` + channel + `"}}`); !strings.Contains(got, `"subscribe":{`) {
		w.t.Fatalf("subscribe: %s", got)
	}
	return p
}

type page struct {
	Sessions []session `json:"sessions"`
	Cursor   string    `json:"cursor"`
	Scanned  int       `json:"scanned"`
	Total    int       `json:"total"`
	Took     float64   `json:"took_ms"`
}

func TestSessions(t *testing.T) {
	w := newWorld(t, longwire.Config{})
	ann, bob, echo := w.user("ann", "news"), w.user("bob", "news"), w.dial("/echo")
	echo.Ask("hello")
	var p page
	w.post("sessions", `{"user":"ann"}`, &p)
	if len(p.Sessions) != 1 || p.Scanned != 1 || p.Total != 3 || p.Took <= 0 {
		t.Fatalf("ann: %+v", p)
	}
	s := p.Sessions[0]
	if s.User != "ann" || s.Address != ann.LocalAddr().String() || s.Endpoint != "/connection/websocket" || s.Protocol != "centrifuge-json" || s.Subscriptions != 1 {
		t.Errorf("ann: %+v", s)
	}
	client := s.Client
	for body, want := range map[string]int{``: 3, `{}`: 3, `{"channel":"news"}`: 2, `{"endpoint":"/echo"}`: 1, `{"address":"127.0.0.0/8","channel":"news","user":"bob"}`: 1,
		`{"slow":true}`: 0, `{"client":"` + client + `"}`: 1, `{"client":"00000000-0000-0000-0000-000000000000"}`: -1, `{"client":"zzzzzzzzzzz"}`: 0} {
		if want < 0 {
			if status, text, _ := w.ask("POST", "sessions", body); status != 400 || !strings.Contains(text, `"code":"bad_request"`) {
				t.Errorf("%s: %d %s", body, status, text)
			}
			continue
		}
		var p page
		if w.post("sessions", body, &p); len(p.Sessions) != want {
			t.Errorf("%s: %+v, want %d", body, p, want)
		}
	}
	seen, cursor := 0, ""
	for range 10 {
		var p page
		w.post("sessions", `{"limit":1,"cursor":"`+cursor+`"}`, &p)
		seen += len(p.Sessions)
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	if seen != 3 || cursor != "" {
		t.Errorf("page by page: %d", seen)
	}

	// Why, as /api/why has it.
	var why struct {
		Result struct {
			Spans []longwire.Span `json:"spans"`
		} `json:"result"`
	}
	if w.post("why", `{"client":"`+client+`"}`, &why); len(why.Result.Spans) != 1 || !why.Result.Spans[0].Open {
		t.Errorf("why: %+v", why)
	}

	// Channels.
	var ch struct {
		Channels []struct {
			Channel     string `json:"channel"`
			Subscribers int    `json:"subscribers"`
		} `json:"channels"`
		Total int `json:"total"`
	}
	if w.post("channels", `{"pattern":"n*"}`, &ch); len(ch.Channels) != 1 || ch.Channels[0].Channel != "news" || ch.Channels[0].Subscribers != 2 || ch.Total != 1 {
		t.Errorf("channels: %+v", ch)
	}

	// Publish.
	if status, text, _ := w.ask("POST", "publish", `{"channel":"news","data":{"card number":4111}}`); status != 200 || text != `{"result":{}}` {
		t.Errorf("publish: %d %s", status, text)
	}
	if _, text, _ := bob.Next(); !strings.Contains(text, `"data":{"card number":4111}`) {
		t.Errorf("bob got %s", text)
	}

	// Disconnect.
	var done struct{}
	w.post("disconnect", `{"client":"`+client+`","code":4001,"reason":"by hand"}`, &done)
	ann.Next() // the publication
	if op, reason, code := ann.Next(); op != ws.OpClose || code != 4001 || reason != "by hand" {
		t.Errorf("ann: %v %q %d", op, reason, code)
	}
	w.post("disconnect", `{"user":"bob"}`, &done)
	if op, _, code := bob.Next(); op != ws.OpClose || code != 3503 {
		t.Errorf("bob: %v %d", op, code)
	}
	w.post("sessions", `{"endpoint":"/echo"}`, &p)
	w.post("disconnect", `{"client":"`+p.Sessions[0].Client+`"}`, &done)
	if op, reason, code := echo.Next(); op != ws.OpClose || code != 3503 || reason != "force disconnect" {
		t.Errorf("echo: %v %q %d", op, reason, code)
	}
	_ = ann.Close()
	waittest.Until(t, "ann to be gone", func() bool {
		status, text, _ := w.ask("POST", "disconnect", `{"client":"`+client+`"}`)
		return status == 404 && strings.Contains(text, `"code":"not_found"`)
	})
	for _, want := range []string{`msg="by hand: publish" by=127.0.0.1 channel=news bytes=20`, `msg="by hand: disconnect" by=127.0.0.1 client=` + client + ` user="" code=4001`, "user=bob"} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, w.log)
		}
	}
	for _, never := range []string{"card number", "4111", token} {
		if strings.Contains(w.log.String(), never) {
			t.Errorf("the log has %s:\n%s", never, w.log)
		}
	}
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t, longwire.Config{FlightRecorder: longwire.FlightRecorder{Bytes: -1}})
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "node", "", 405, "method_not_allowed"},
		{"GET", "sessions", "", 405, "method_not_allowed"},
		{"POST", "nothing", "", 404, "not_found"},
		{"POST", "", "", 404, "not_found"},
		{"POST", "sessions", `{"usr":"ann"}`, 400, "bad_request"},
		{"POST", "sessions", `{"user":1}`, 400, "bad_request"},
		{"POST", "sessions", `[]`, 400, "bad_request"},
		{"POST", "sessions", `{} {}`, 400, "bad_request"},
		{"POST", "sessions", `{`, 400, "bad_request"},
		{"POST", "sessions", `{"limit":201}`, 400, "bad_request"},
		{"POST", "sessions", `{"address":"here"}`, 400, "bad_request"},
		{"POST", "sessions", `{"user":"` + strings.Repeat("x", bodyMost) + `"}`, 413, "too_large"},
		{"POST", "channels", `{"cursor":"?"}`, 400, "bad_request"},
		{"POST", "why", `{"since":"x"}`, 400, "bad_request"},
		{"POST", "why", `{"since":1}`, 400, "bad_request"},
		{"POST", "why", `{}`, 409, "not_available"},
		{"POST", "publish", `{"channel":"no:where","data":1}`, 404, "unknown_channel"},
		{"POST", "publish", `{"channel":"news"}`, 400, "bad_request"},
		{"POST", "publish", `{"data":1}`, 400, "bad_request"},
		{"POST", "publish", `{"channel":"news","data":1,"tags":{}}`, 400, "bad_request"},
		{"POST", "disconnect", `{}`, 400, "bad_request"},
		{"POST", "disconnect", `{"client":"a","user":"b"}`, 400, "bad_request"},
		{"POST", "disconnect", `{"client":"no id"}`, 400, "bad_request"},
		{"POST", "disconnect", `{"client":"zzzzzzzzzzz"}`, 404, "not_found"},
		{"POST", "disconnect", `{"user":"b","code":1000}`, 400, "bad_request"},
		{"POST", "disconnect", `{"user":"b","reason":"` + strings.Repeat("x", 124) + `"}`, 400, "bad_request"},
		{"POST", "drain", `{"length_s":-1}`, 400, "bad_request"},
		{"POST", "drain", `{"length_s":1e12}`, 400, "bad_request"},
		{"POST", "drain", `{"length":1}`, 400, "bad_request"},
		{"GET", "live?after=x", "", 400, "bad_request"},
	} {
		status, text, _ := w.ask(c.method, c.path, c.body)
		if status != c.status || !strings.HasPrefix(text, `{"error":{"code":"`+c.code+`","message":"`) {
			t.Errorf("%s %s %.60s: %d %s, want %d %s", c.method, c.path, c.body, status, text, c.status, c.code)
		}
	}
	if strings.Contains(w.log.String(), "by hand") {
		t.Errorf("something was done:\n%s", w.log)
	}
	if err := w.g.Close(); err != nil {
		t.Fatal(err)
	}
	if status, text, _ := w.ask("POST", "sessions", `{}`); status != 503 || !strings.Contains(text, `"code":"closed"`) {
		t.Errorf("after Close: %d %s", status, text)
	}
}

func TestNodeAndDrain(t *testing.T) {
	w := newWorld(t, longwire.Config{})
	status, text, _ := w.ask("GET", "node", "")
	if status != 200 || !strings.Contains(text, `"version":"v"`) || !strings.Contains(text, `"recorder":true`) || strings.Contains(text, "recorder_from") {
		t.Errorf("node: %d %s", status, text)
	}
	w.user("ann", "news")
	if _, text, _ = w.ask("GET", "node", ""); !strings.Contains(text, `"recorder_from":"2`) {
		t.Errorf("node: %s", text)
	}
	for body, want := range map[string]time.Duration{`{}`: -1, `{"length_s":2.5}`: 2500 * time.Millisecond, `{"length_s":0}`: 0} {
		status, text, _ := w.ask("POST", "drain", body)
		if got := <-w.drained; status != 200 || got != want || !strings.HasSuffix(text, `,"conns":3,"under_way":false}`) {
			t.Errorf("drain %s: %d %s, asked for %v, want %v", body, status, text, got, want)
		}
	}
	if !strings.Contains(w.log.String(), `msg="by hand: drain" by=127.0.0.1 over=2.5s under_way=false`) {
		t.Errorf("the log:\n%s", w.log)
	}
	status, text, _ = w.ask("GET", "live?history=1", "")
	if !strings.Contains(text, `"accept>handshake":0`) {
		t.Errorf("live: %s", text)
	}
	var s struct {
		Snapshot
		History []Scalars `json:"history"`
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil || status != 200 || s.Conns != 1 || s.WS.States["open"] != 1 || s.Sessions != 1 || s.TCP.Available || s.TCP.Why == "" || len(s.History) != 1 || s.Heap == 0 || s.Goroutines == 0 {
		t.Errorf("live: %d %s, %v", status, text, err)
	}
}

// An operator's address is masked as those of clients are.
func TestMasked(t *testing.T) {
	w := newWorld(t, longwire.Config{MaskAddresses: true})
	w.user("ann", "news")
	var p page
	if w.post("sessions", `{"address":"127.0.0.9"}`, &p); len(p.Sessions) != 1 || p.Sessions[0].Address != "127.0.0.0" {
		t.Errorf("%+v", p)
	}
	w.post("disconnect", `{"user":"ann"}`, &struct{}{})
	if !strings.Contains(w.log.String(), "by=127.0.0.0 ") || strings.Contains(w.log.String(), "127.0.0.1 ") {
		t.Errorf("the log:\n%s", w.log)
	}
}

// stuck is a gateway whose searches fail.
type stuck struct {
	*longwire.Gateway
	err error
}

func (s stuck) Search(context.Context, longwire.Search) (longwire.Found, error) {
	return longwire.Found{}, s.err
}

func TestBusy(t *testing.T) {
	w := newWorld(t, longwire.Config{})
	for _, c := range []struct {
		err    error
		status int
		again  string
	}{{longwire.ErrSearches, 503, "1"}, {errors.New("what nobody is told"), 500, ""}} {
		w.api.o.Gateway = func() Gateway { return stuck{w.g, c.err} }
		status, text, h := w.ask("POST", "sessions", `{}`)
		if status != c.status || h.Get("Retry-After") != c.again || strings.Contains(text, "nobody is told") {
			t.Errorf("%v: %d %v %s", c.err, status, h, text)
		}
	}
	if !strings.Contains(w.log.String(), `error="what nobody is told"`) {
		t.Errorf("the log:\n%s", w.log)
	}
}

// TestTabs has 10,000 tabs of a browser that watch at once, on connections of their own: 256 at a time do, the others are told
// when to come back, and neither clients nor descriptors are hurt.
func TestTabs(t *testing.T) {
	const tabs = 10_000
	w := newWorld(t, longwire.Config{})
	w.api.live.interval = time.Hour // who watches waits for as long as one may
	echo := w.dial("/echo")
	if _, text, _ := w.ask("GET", "live", ""); !strings.HasPrefix(text, `{"seq":1,`) {
		t.Fatal(text)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: netip.MustParseAddr("127.0.0.2").AsSlice()}}).DialContext}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Minute}
	var watched, refused, most atomic.Int64
	var wg sync.WaitGroup
	first := make(chan string, tabs)
	for range tabs {
		wg.Go(func() {
			r, err := http.NewRequest("GET", w.url+Prefix+"live?after=1", nil)
			if err != nil {
				first <- err.Error()
				return
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := client.Do(r)
			if err != nil {
				first <- err.Error()
				return
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			most.Store(max(most.Load(), w.limit.open.Load()))
			switch {
			case err != nil:
				first <- err.Error()
			case resp.StatusCode == 200 && bytes.Contains(b, []byte(`"seq":`)):
				watched.Add(1)
			case resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "5" && bytes.Contains(b, []byte(`"too_many_watchers"`)):
				refused.Add(1)
			default:
				first <- fmt.Sprintf("%d %v %s", resp.StatusCode, resp.Header, b)
			}
		})
	}
	wg.Wait()
	close(first)
	for problem := range first {
		t.Fatalf("a tab: %s", problem)
	}
	t.Logf("%d tabs: %d watched, %d were told to come back; at most %d connections", tabs, watched.Load(), refused.Load(), most.Load())
	if watched.Load() < liveWatchers || refused.Load() == 0 || watched.Load()+refused.Load() != tabs {
		t.Errorf("%d watched and %d were told to come back", watched.Load(), refused.Load())
	}
	if most.Load() > maxConns {
		t.Errorf("%d connections at a time, want at most %d", most.Load(), maxConns)
	}
	if got := echo.Ask("are you there?"); got != "are you there?" {
		t.Errorf("a client meanwhile: %s", got)
	}
	if status, text, _ := w.ask("GET", "live", ""); status != 200 {
		t.Errorf("a tab afterwards: %d %s", status, text)
	}
}
