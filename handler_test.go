package longwire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// mounted is a gateway in somebody else's net/http server.
type mounted struct {
	g    *Gateway
	srv  *httptest.Server
	addr string
	open recorder
	log  *waittest.Log
}

func mount(t *testing.T, c Config, start func(*httptest.Server)) *mounted {
	t.Helper()
	m := &mounted{log: new(waittest.Log)}
	m.open.closed = make(chan Cause, 1000)
	if c.Endpoints == nil {
		c.Endpoints = []Endpoint{echo("/echo"), echo("/other")}
	}
	for i, ep := range c.Endpoints {
		c.Endpoints[i] = m.open.watch(ep)
	}
	if c.Loops == 0 {
		c.Loops = 2
	}
	if c.MaxConns == 0 {
		c.MaxConns = 500
	}
	c.MaxMemory = -1
	c.Log = slog.New(slog.NewTextHandler(m.log, nil))
	var err error
	if m.g, err = New(c); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	mux.Handle("/", m.g.Handler())
	m.srv = httptest.NewUnstartedServer(mux)
	m.srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	start(m.srv)
	m.addr = m.srv.Listener.Addr().String()
	t.Cleanup(func() {
		m.srv.Close()
		if err := m.g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		m.open.settled(t)
		if n := m.g.Stats().Conns; n != 0 {
			t.Errorf("%d conns are counted after Close", n)
		}
	})
	return m
}

func TestHandlerEchoes(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		m := mount(t, Config{Tables: table}, (*httptest.Server).Start)
		for _, deflate := range []bool{false, true} {
			c := wstest.Dial(t, m.addr, "/echo", ws.Dial{Deflate: deflate, Subprotocols: []string{"a"}})
			c.Echoes()
			for _, size := range []int{0, 125, 126, 65536, 500_000} {
				want := strings.Repeat("x", size)
				go c.Send(ws.OpBinary, want)
				if op, got, _ := c.Next(); op != ws.OpBinary || got != want {
					t.Errorf("echo of %d bytes = %v of %d", size, op, len(got))
				}
			}
			c.Send(ws.OpClose, closePayload(1000, ""))
			if op, _, code := c.Next(); op != ws.OpClose || code != 1000 {
				t.Errorf("got %v %d, want close 1000", op, code)
			}
			c.EOF()
			_ = c.Close()
			if got := <-m.open.closed; got != (Cause{Kind: CauseClientClose, Code: 1000}) {
				t.Errorf("cause = %v", got)
			}
		}
		if s := m.g.Stats(); s.Adopted != 2 || s.Upgraded != 2 || s.Closes["client_close"] != 2 {
			t.Errorf("adopted %d, upgraded %d, closes %v; want 2 each", s.Adopted, s.Upgraded, s.Closes)
		}
	})
}

// Frames that came with the request, in one packet, are the connection's first.
func TestHandlerFramesBehindTheRequest(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		m := mount(t, Config{Tables: table}, (*httptest.Server).Start)
		for _, n := range []int{1, 100} {
			b := requestFor("/echo", ws.Dial{})
			for k := range n {
				b = append(b, frame(true, 0, ws.OpText, fmt.Sprint("early ", k))...)
			}
			b = append(b, frame(false, 0, ws.OpText, "half ")...)
			c := wstest.On(t, dialTCP(t, m.addr, b))
			c.Handshake(ws.Dial{})
			for k := range n {
				if _, got, _ := c.Next(); got != fmt.Sprint("early ", k) {
					t.Fatalf("got %q, want early %d", got, k)
				}
			}
			_, _ = c.Write(frame(true, 0, ws.OpContinuation, "and half"))
			if _, got, _ := c.Next(); got != "half and half" {
				t.Errorf("got %q", got)
			}
		}
	})
}

// A connection may speak plain HTTP first and upgrade later: in a server of others, and on the gateway's own port.
func TestUpgradeAfterPlainHTTP(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		m := mount(t, Config{Tables: table}, (*httptest.Server).Start)
		own := startGateway(t, Config{Tables: table, Loops: 1, MaxConns: 50, MaxMemory: -1, Endpoints: []Endpoint{echo("/echo"), echo("/other")},
			HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })})
		for name, addr := range map[string]string{"mounted": m.addr, "own port": own.Addr().String()} {
			t.Run(name, func(t *testing.T) {
				c := dialTCP(t, addr, nil)
				br := bufio.NewReader(c)
				for range 3 {
					_, _ = c.Write([]byte("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"))
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatal(err)
					}
					if b, _ := io.ReadAll(resp.Body); string(b) != "hello" {
						t.Errorf("GET = %q", b)
					}
				}
				// A refused handshake ends the connection, so this is the last word of HTTP on it.
				_, _ = c.Write(append(requestFor("/echo", ws.Dial{}), frame(true, 0, ws.OpText, "early")...))
				tc := wstest.On(t, c)
				tc.Handshake(ws.Dial{})
				if _, got, _ := tc.Next(); got != "early" {
					t.Errorf("got %q", got)
				}
				tc.Echoes()
			})
		}
		if n := own.Stats().HTTP; n != 0 {
			t.Errorf("%d plain HTTP connections are counted after the upgrade", n)
		}
	})
}

// The rules of the handshake are the same under net/http.
func TestHandlerRefusals(t *testing.T) {
	private := echo("/private")
	private.Authorize = func(*ws.Request) *ws.Refusal { return &ws.Refusal{Status: 401, Reason: "who are you?"} }
	m := mount(t, Config{Endpoints: []Endpoint{echo("/echo"), private}}, (*httptest.Server).Start)
	const good = "GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, x := range []struct {
		name, request string
		status        int
		label, head   string
	}{
		{"no Upgrade", edit("Upgrade: websocket\r\n", ""), 426, "version", "Sec-Websocket-Version: 13"},
		{"version 8", edit("Version: 13", "Version: 8"), 426, "version", "Sec-Websocket-Version: 13"},
		{"POST", edit("GET", "POST"), 405, "method", "Allow: GET"},
		{"no key", edit("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", ""), 400, "bad_request", ""},
		{"two keys", edit("Host: h\r\n", "Host: h\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"), 400, "bad_request", ""},
		{"HTTP/1.0", edit("HTTP/1.1", "HTTP/1.0"), 400, "bad_request", ""},
		{"a body", edit("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"), 400, "bad_request", ""},
		{"foreign Origin", edit("Host: h\r\n", "Host: h\r\nOrigin: https://evil.example\r\n"), 403, "forbidden", ""},
		{"not authorized", edit("/echo", "/private"), 401, "unauthorized", "Www-Authenticate: Bearer"},
		{"nowhere", edit("/echo", "/nowhere"), 404, "other", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := m.g.Stats().Refused[x.label]
			status, head, body := parseAnswer(t, readAll(t, dialTCP(t, m.addr, []byte(x.request))))
			if status != x.status || body == "" {
				t.Errorf("status %d %q, want %d with a sentence", status, body, x.status)
			}
			if !strings.Contains(head, x.head) {
				t.Errorf("head %q, want %q in it", head, x.head)
			}
			if n := m.g.Stats().Refused[x.label] - before; n != 1 {
				t.Errorf("%s counted %d times, want once", x.label, n)
			}
		})
	}
	if n := m.g.Stats().Upgraded; n != 0 {
		t.Errorf("%d conns were upgraded", n)
	}
}

// What cannot leave net/http is answered with 501 and a sentence.
func TestHandlerCannotLeave(t *testing.T) {
	t.Run("TLS", func(t *testing.T) {
		m := mount(t, Config{}, (*httptest.Server).StartTLS)
		c, err := tls.Dial("tcp", m.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = c.Write(requestFor("/echo", ws.Dial{}))
		b, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		if status, _, body := parseAnswer(t, b); status != 501 || !strings.Contains(body, "TLS") {
			t.Errorf("%d %q, want 501 and the reason", status, body)
		}
		if s := m.g.Stats(); s.Conns != 0 || s.Refused["other"] != 1 {
			t.Errorf("%d conns, refused %v; want none and other once", s.Conns, s.Refused)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		m := mount(t, Config{}, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
		req, _ := http.NewRequest("GET", m.srv.URL+"/echo", nil)
		resp, err := m.srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.ProtoMajor != 2 || resp.StatusCode != 501 || !strings.Contains(string(body), "HTTP/2") {
			t.Errorf("%s: %d %q, want 501 and the reason", resp.Proto, resp.StatusCode, body)
		}
		if s := m.g.Stats(); s.Conns != 0 {
			t.Errorf("%d conns", s.Conns)
		}
	})
}

// At the upgrade a connection leaves net/http with its goroutine; many at once, and none is lost.
func TestHandlerLeavesNoGoroutine(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		const n = 200
		m := mount(t, Config{Tables: table}, (*httptest.Server).Start)
		wstest.Dial(t, m.addr, "/echo", ws.Dial{}).Echoes() // the loops run
		before := runtime.NumGoroutine()
		clients := make([]*wstest.Client, n)
		var wg sync.WaitGroup
		for k := range clients {
			wg.Go(func() {
				c, err := net.Dial("tcp", m.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write(append(requestFor("/echo", ws.Dial{}), frame(true, 0, ws.OpText, fmt.Sprint(k))...))
				clients[k] = wstest.On(t, c)
			})
		}
		wg.Wait()
		for k, c := range clients {
			c.Handshake(ws.Dial{})
			if _, got, _ := c.Next(); got != fmt.Sprint(k) {
				t.Errorf("conn %d got %q", k, got)
			}
		}
		waittest.Until(t, "the goroutines of net/http gone", func() bool { return runtime.NumGoroutine() <= before })
		for _, c := range clients {
			c.Echoes()
			_ = c.Close()
		}
		for range clients {
			if got := <-m.open.closed; got.Kind != CauseClientFIN {
				t.Errorf("cause = %v", got)
			}
		}
	})
}

// Limits hold under net/http as well.
func TestHandlerLimits(t *testing.T) {
	m := mount(t, Config{ConnsPerAddress: 2}, (*httptest.Server).Start)
	a := wstest.Dial(t, m.addr, "/echo", ws.Dial{})
	wstest.Dial(t, m.addr, "/echo", ws.Dial{}).Echoes()
	refused := func(label string, most int) {
		t.Helper()
		wantRetryAfter(t, readAll(t, dialTCP(t, m.addr, requestFor("/echo", ws.Dial{}))), 5, most)
		if m.g.Stats().Refused[label] == 0 {
			t.Errorf("Refused = %v, want %s", m.g.Stats().Refused, label)
		}
	}
	refused("conns_per_address", 5)
	m.log.Want(t, "msg=refused", "limit=conns_per_address")
	_ = a.Close()
	<-m.open.closed
	wstest.Dial(t, m.addr, "/echo", ws.Dial{}).Echoes()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { done <- m.g.Drain(ctx, time.Hour) }()
	waittest.Until(t, "the drain", func() bool { return !m.g.Ready() })
	refused("drain", 15)
	cancel(errors.New("enough"))
	<-done
	_ = m.g.Close()
	if status, _, _ := parseAnswer(t, readAll(t, dialTCP(t, m.addr, requestFor("/echo", ws.Dial{})))); status != 503 {
		t.Errorf("after Close: %d, want 503", status)
	}
}

// With one endpoint, any path that the mux sends here will do.
func TestHandlerAnyPath(t *testing.T) {
	m := mount(t, Config{Endpoints: []Endpoint{echo("/echo")}}, (*httptest.Server).Start)
	wstest.Dial(t, m.addr, "/somewhere/else", ws.Dial{}).Echoes()
}

// The paths of endpoints are not patterns: what net/http's mux reads into a path must not matter.
func TestPathsAreNoPatterns(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "page %s", r.URL.Path) })
	for _, path := range []string{"/", "/healthz", "/a/{b}", "/a/{b...}", "/a/", "/{", "/a%20b", "/a//b"} {
		t.Run(path, func(t *testing.T) {
			g := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{echo(path)}, HTTP: page})
			wstest.Dial(t, g.Addr().String(), path, ws.Dial{}).Echoes()
			// After plain HTTP on the same connection.
			c := dialTCP(t, g.Addr().String(), []byte("GET /page HTTP/1.1\r\nHost: h\r\n\r\n"))
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != "page /page" {
				t.Errorf("GET /page = %q", b)
			}
			_, _ = c.Write(requestFor(path, ws.Dial{}))
			tc := wstest.On(t, c)
			tc.Handshake(ws.Dial{})
			tc.Echoes()
		})
	}
}
