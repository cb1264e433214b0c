package longwire

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// testClient is a WebSocket client on a plain connection.
type testClient struct {
	t    *testing.T
	c    net.Conn
	r    ws.Reader
	left []byte
	buf  []byte
}

func dialWS(t *testing.T, addr, path string, d ws.Dial) *testClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	d.Host, d.Target = addr, path
	var key [16]byte
	if _, err := c.Write(ws.AppendRequest(nil, &d, key)); err != nil {
		t.Fatal(err)
	}
	tc := &testClient{t: t, c: c, buf: make([]byte, 64<<10)}
	for {
		resp, n, err := ws.ParseResponse(tc.left, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			h, err := d.Check(&resp, key)
			if err != nil {
				t.Fatal(err)
			}
			tc.r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: 64 << 20, Deflate: h.Deflate.On})
			tc.left = tc.left[n:]
			return tc
		}
		tc.fill()
	}
}

func (c *testClient) fill() {
	c.t.Helper()
	n, err := c.c.Read(c.buf)
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	c.left = append(c.left, c.buf[:n]...)
}

func (c *testClient) send(op ws.Opcode, payload string) {
	c.t.Helper()
	if _, err := c.c.Write(ws.AppendFrame(nil, ws.Client, op, []byte(payload), [4]byte{1, 2, 3, 4})); err != nil {
		c.t.Error(err)
	}
}

// next waits for the next event; its payload is copied.
func (c *testClient) next() (ws.Opcode, string, ws.StatusCode) {
	c.t.Helper()
	for {
		if len(c.left) == 0 {
			c.fill()
		}
		ev, n, err := c.r.Next(c.left)
		if err != nil {
			c.t.Fatal(err)
		}
		op, payload, code := ev.Op, string(ev.Payload), ev.Code
		c.left = c.left[n:]
		if op != ws.NoEvent {
			return op, payload, code
		}
	}
}

func (c *testClient) eof() {
	c.t.Helper()
	if n, err := c.c.Read(c.buf); err != io.EOF {
		c.t.Errorf("read after the close: %d bytes, %v; want EOF", n, err)
	}
}

func startGateway(t *testing.T, c Config) *Gateway {
	t.Helper()
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g
}

func TestPlainPing(t *testing.T) {
	g := startGateway(t, Config{})
	c := dialWS(t, g.Addr().String(), "/ws", ws.Dial{})
	c.send(ws.OpText, `{"type":"ping","ts":17}`)
	if op, p, _ := c.next(); op != ws.OpText || p != `{"type":"pong","ts":17}` {
		t.Errorf("reply = %v %s", op, p)
	}
	c.send(ws.OpClose, "\x03\xe8bye")
	if op, _, code := c.next(); op != ws.OpClose || code != 1000 {
		t.Errorf("close = %v %d, want close 1000", op, code)
	}
	c.eof()
}

func TestEcho(t *testing.T) {
	for _, deflate := range []bool{false, true} {
		t.Run(fmt.Sprintf("deflate=%v", deflate), func(t *testing.T) {
			g := startGateway(t, Config{Endpoints: []Endpoint{Echo("/echo")}})
			c := dialWS(t, g.Addr().String(), "/echo", ws.Dial{Deflate: deflate})
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, 3 << 20} {
				want := strings.Repeat("x", size)
				go c.send(ws.OpBinary, want)
				if op, p, _ := c.next(); op != ws.OpBinary || p != want {
					t.Errorf("echo of %d bytes = %v of %d bytes", size, op, len(p))
				}
			}
		})
	}
}

func TestHandlerMovesOut(t *testing.T) {
	closed := make(chan Cause, 1)
	g, err := New(Config{Endpoints: []Endpoint{{Path: "/chat", OnMessage: func(c Conn, m Message) { m.Reply(m.Op, m.Payload) },
		OnClose: func(c Conn, cause Cause) { closed <- cause }}}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	mux := http.NewServeMux()
	mux.Handle("/chat", g.Handler())
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := dialWS(t, strings.TrimPrefix(srv.URL, "http://"), "/chat", ws.Dial{})
	c.send(ws.OpText, "hello")
	if _, p, _ := c.next(); p != "hello" {
		t.Errorf("echo = %q", p)
	}
	_ = c.c.Close()
	if got := <-closed; got.Kind != CauseClientFIN {
		t.Errorf("cause = %v, want client_fin", got)
	}
}

func TestPlainHTTPOnTheSamePort(t *testing.T) {
	g := startGateway(t, Config{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
	})})
	c, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, x := range []struct{ method, path, body, want string }{
		{"GET", "/healthz", "", "ok\n"},
		{"POST", "/api?x=1", "payload", "POST /api?x=1 payload"},
	} {
		req, _ := http.NewRequest(x.method, "http://h"+x.path, strings.NewReader(x.body))
		if err := req.Write(c); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != x.want {
			t.Errorf("%s %s = %q, want %q", x.method, x.path, b, x.want)
		}
	}
}
