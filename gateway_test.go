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

	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

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
	c := wstest.Dial(t, g.Addr().String(), "/ws", ws.Dial{})
	c.Send(ws.OpText, `{"type":"ping","ts":17}`)
	if op, p, _ := c.Next(); op != ws.OpText || p != `{"type":"pong","ts":17}` {
		t.Errorf("reply = %v %s", op, p)
	}
	c.Send(ws.OpClose, "\x03\xe8bye")
	if op, _, code := c.Next(); op != ws.OpClose || code != 1000 {
		t.Errorf("close = %v %d, want close 1000", op, code)
	}
	c.EOF()
}

func TestEcho(t *testing.T) {
	for _, deflate := range []bool{false, true} {
		t.Run(fmt.Sprintf("deflate=%v", deflate), func(t *testing.T) {
			g := startGateway(t, Config{Endpoints: []Endpoint{Echo("/echo")}})
			c := wstest.Dial(t, g.Addr().String(), "/echo", ws.Dial{Deflate: deflate})
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, 3 << 20} {
				want := strings.Repeat("x", size)
				go c.Send(ws.OpBinary, want)
				if op, p, _ := c.Next(); op != ws.OpBinary || p != want {
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
	c := wstest.Dial(t, strings.TrimPrefix(srv.URL, "http://"), "/chat", ws.Dial{})
	c.Send(ws.OpText, "hello")
	if _, p, _ := c.Next(); p != "hello" {
		t.Errorf("echo = %q", p)
	}
	_ = c.Close()
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
