package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	cws "github.com/coder/websocket"
	gws "github.com/gorilla/websocket"

	"github.com/longwire/longwire"
)

// client is what the other libraries' clients have in common.
type client interface {
	write(t *testing.T, binary bool, b []byte)
	// pieces writes one message in fragments.
	pieces(t *testing.T, binary bool, b []byte, size int)
	read(t *testing.T) (binary bool, b []byte)
	ping(t *testing.T)
	// close does the closing handshake and tells what the server answered.
	close(t *testing.T, code int, reason string) (answer int)
	// ended reads until the server's close frame and tells what it says.
	ended(t *testing.T) (code int, reason string)
	subprotocol() string
}

// dialer connects a client; the error is that of the handshake, with its status.
type dialer func(url string, o dialOptions) (client, int, error)

type dialOptions struct {
	compress     bool
	subprotocols []string
	origin       string
	small        bool // writes in fragments of a few bytes wherever it can
}

var clients = map[string]dialer{"gorilla": dialGorilla, "coder": dialCoder}

type gorillaClient struct{ c *gws.Conn }

func dialGorilla(url string, o dialOptions) (client, int, error) {
	d := gws.Dialer{EnableCompression: o.compress, Subprotocols: o.subprotocols}
	if o.small {
		d.WriteBufferSize = 100
	}
	h := http.Header{}
	if o.origin != "" {
		h.Set("Origin", o.origin)
	}
	c, resp, err := d.Dial(url, h)
	if err != nil {
		if resp == nil {
			return nil, 0, err
		}
		return nil, resp.StatusCode, err
	}
	c.SetReadLimit(64 << 20)
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	return &gorillaClient{c}, resp.StatusCode, nil
}

func gorillaType(binary bool) int {
	if binary {
		return gws.BinaryMessage
	}
	return gws.TextMessage
}

func (g *gorillaClient) write(t *testing.T, binary bool, b []byte) {
	if err := g.c.WriteMessage(gorillaType(binary), b); err != nil {
		t.Errorf("write: %v", err)
	}
}

// The writer sends a fragment whenever its buffer is full.
func (g *gorillaClient) pieces(t *testing.T, binary bool, b []byte, size int) {
	w, err := g.c.NextWriter(gorillaType(binary))
	if err != nil {
		t.Errorf("write: %v", err)
		return
	}
	for len(b) > 0 {
		n := min(size, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			t.Errorf("write: %v", err)
			return
		}
		b = b[n:]
	}
	if err := w.Close(); err != nil {
		t.Errorf("write: %v", err)
	}
}

func (g *gorillaClient) read(t *testing.T) (bool, []byte) {
	kind, b, err := g.c.ReadMessage()
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return kind == gws.BinaryMessage, b
}

func (g *gorillaClient) ping(t *testing.T) {
	got := ""
	g.c.SetPongHandler(func(s string) error { got = s; return nil })
	if err := g.c.WriteControl(gws.PingMessage, []byte("are you there?"), time.Now().Add(10*time.Second)); err != nil {
		t.Errorf("ping: %v", err)
	}
	g.write(t, false, []byte("behind the ping"))
	if _, b := g.read(t); string(b) != "behind the ping" || got != "are you there?" {
		t.Errorf("pong %q, then %s", got, show(b))
	}
}

func (g *gorillaClient) close(t *testing.T, code int, reason string) int {
	if err := g.c.WriteControl(gws.CloseMessage, gws.FormatCloseMessage(code, reason), time.Now().Add(10*time.Second)); err != nil {
		t.Errorf("close: %v", err)
	}
	answer, _ := g.ended(t)
	return answer
}

func (g *gorillaClient) ended(t *testing.T) (int, string) {
	defer g.c.Close()
	for {
		if _, _, err := g.c.ReadMessage(); err != nil {
			var ce *gws.CloseError
			if !errors.As(err, &ce) {
				t.Errorf("the end: %v, want a close frame", err)
				return 0, ""
			}
			return ce.Code, ce.Text
		}
	}
}

func (g *gorillaClient) subprotocol() string { return g.c.Subprotocol() }

type coderClient struct {
	c   *cws.Conn
	ctx context.Context
}

func dialCoder(url string, o dialOptions) (client, int, error) {
	opts := &cws.DialOptions{Subprotocols: o.subprotocols, HTTPHeader: http.Header{}}
	if o.compress {
		opts.CompressionMode = cws.CompressionNoContextTakeover
		opts.CompressionThreshold = 1
	}
	if o.origin != "" {
		opts.HTTPHeader.Set("Origin", o.origin)
	}
	c, resp, err := cws.Dial(context.Background(), url, opts)
	if err != nil {
		if resp == nil {
			return nil, 0, err
		}
		return nil, resp.StatusCode, err
	}
	c.SetReadLimit(64 << 20)
	return &coderClient{c, context.Background()}, resp.StatusCode, nil
}

func coderType(binary bool) cws.MessageType {
	if binary {
		return cws.MessageBinary
	}
	return cws.MessageText
}

func (k *coderClient) write(t *testing.T, binary bool, b []byte) {
	if err := k.c.Write(k.ctx, coderType(binary), b); err != nil {
		t.Errorf("write: %v", err)
	}
}

func (k *coderClient) pieces(t *testing.T, binary bool, b []byte, size int) {
	w, err := k.c.Writer(k.ctx, coderType(binary))
	if err != nil {
		t.Errorf("write: %v", err)
		return
	}
	for len(b) > 0 { // each Write is a fragment
		n := min(size, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			t.Errorf("write: %v", err)
			return
		}
		b = b[n:]
	}
	if err := w.Close(); err != nil {
		t.Errorf("write: %v", err)
	}
}

func (k *coderClient) read(t *testing.T) (bool, []byte) {
	kind, b, err := k.c.Read(k.ctx)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return kind == cws.MessageBinary, b
}

func (k *coderClient) ping(t *testing.T) {
	ctx, cancel := context.WithTimeout(k.ctx, 20*time.Second)
	defer cancel()
	read := make(chan error, 1)
	go func() { // a pong is seen by who reads
		_, b, err := k.c.Read(ctx)
		if err == nil && string(b) != "behind the ping" {
			err = fmt.Errorf("read %s", show(b))
		}
		read <- err
	}()
	if err := k.c.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
	k.write(t, false, []byte("behind the ping"))
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func (k *coderClient) close(t *testing.T, code int, reason string) int {
	// Close fails unless the server's close frame has the same code.
	if err := k.c.Close(cws.StatusCode(code), reason); err != nil {
		t.Errorf("close: %v", err)
		return 0
	}
	return code
}

func (k *coderClient) ended(t *testing.T) (int, string) {
	for {
		if _, _, err := k.c.Read(k.ctx); err != nil {
			var ce cws.CloseError
			if !errors.As(err, &ce) {
				t.Errorf("the end: %v, want a close frame", err)
			}
			return int(ce.Code), ce.Reason
		}
	}
}

func (k *coderClient) subprotocol() string { return k.c.Subprotocol() }

// eachClient runs f for each library's client, with and without compression.
func eachClient(t *testing.T, f func(t *testing.T, dial dialer, compress bool)) {
	for name, dial := range clients {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compress=%t", name, compress), func(t *testing.T) { f(t, dial, compress) })
		}
	}
}

func mustDial(t *testing.T, dial dialer, url string, o dialOptions) client {
	t.Helper()
	c, status, err := dial(url, o)
	if err != nil {
		t.Fatalf("dial: %v (status %d)", err, status)
	}
	return c
}

var sizes = []int{0, 1, 125, 126, 127, 4095, 65535, 65536, 1 << 20, 3 << 20}

func TestClientsEcho(t *testing.T) {
	g := serve(t, longwireConfig)
	eachClient(t, func(t *testing.T, dial dialer, compress bool) {
		c := mustDial(t, dial, "ws://"+g.Addr().String()+"/echo", dialOptions{compress: compress})
		for _, binary := range []bool{false, true} {
			for _, n := range sizes {
				want := pattern(n)
				sent := make(chan struct{})
				go func() { defer close(sent); c.write(t, binary, want) }()
				if gotBinary, got := c.read(t); gotBinary != binary || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, binary=%t: echo %s, binary=%t", n, binary, show(got), gotBinary)
				}
				<-sent
			}
		}
		c.ping(t)
		if code := c.close(t, 1000, "bye"); code != 1000 {
			t.Errorf("close answered with %d", code)
		}
	})
}

func TestClientsFragments(t *testing.T) {
	g := serve(t, longwireConfig)
	eachClient(t, func(t *testing.T, dial dialer, compress bool) {
		c := mustDial(t, dial, "ws://"+g.Addr().String()+"/echo", dialOptions{compress: compress, small: true})
		for _, x := range []struct{ n, size int }{{1, 1}, {100, 1}, {1000, 7}, {70_000, 997}, {1 << 20, 65536}} {
			want := pattern(x.n)
			sent := make(chan struct{})
			go func() { defer close(sent); c.pieces(t, true, want, x.size) }()
			if _, got := c.read(t); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in %d: echo %s", x.n, x.size, show(got))
			}
			<-sent
		}
		c.close(t, 1000, "")
	})
}

func TestClientsCloseCodes(t *testing.T) {
	ended := make(chan longwire.Cause, 1)
	ep := longwire.Echo("/echo")
	ep.OnClose = func(_ longwire.Conn, cause longwire.Cause) { ended <- cause }
	g := serve(t, longwire.Config{Endpoints: []longwire.Endpoint{ep}})
	for name, dial := range clients {
		for _, code := range []int{1000, 1001, 1003, 1008, 1011, 3000, 4000, 4999} {
			c := mustDial(t, dial, "ws://"+g.Addr().String()+"/echo", dialOptions{})
			if got := c.close(t, code, strings.Repeat("é", 60)); got != code {
				t.Errorf("%s: close %d is answered with %d", name, code, got)
			}
			if got := <-ended; got.Kind != longwire.CauseClientClose || int(got.Code) != code {
				t.Errorf("%s: close %d: cause %v", name, code, got)
			}
		}
	}
}

// The gateway's close frames are understood, reason and all.
func TestClientsClosed(t *testing.T) {
	ended := make(chan longwire.Cause, 1)
	g := serve(t, longwire.Config{Endpoints: []longwire.Endpoint{{
		Path: "/close", MaxMessage: 1000,
		OnMessage: func(c longwire.Conn, m longwire.Message) { _ = c.Close(4001, "you said "+string(m.Payload)) },
		OnClose:   func(_ longwire.Conn, cause longwire.Cause) { ended <- cause },
	}}})
	for name, dial := range clients {
		url := "ws://" + g.Addr().String() + "/close"
		c := mustDial(t, dial, url, dialOptions{})
		c.write(t, false, []byte("grüße"))
		if code, reason := c.ended(t); code != 4001 || reason != "you said grüße" {
			t.Errorf("%s: closed with %d %q", name, code, reason)
		}
		if got := <-ended; got.Kind != longwire.CauseApplication {
			t.Errorf("%s: cause %v", name, got)
		}
		for _, x := range []struct {
			message string
			code    int
			cause   longwire.CauseKind
		}{{strings.Repeat("x", 1001), 1009, longwire.CauseTooBig}, {"caf\xe9", 1007, longwire.CauseProtocol}} {
			c = mustDial(t, dial, url, dialOptions{})
			c.write(t, false, []byte(x.message))
			if code, _ := c.ended(t); code != x.code {
				t.Errorf("%s: closed with %d, want %d", name, code, x.code)
			}
			if got := <-ended; got.Kind != x.cause {
				t.Errorf("%s: cause %v, want %v", name, got, x.cause)
			}
		}
	}
}

func TestClientsDrained(t *testing.T) {
	for name, dial := range clients {
		g := serve(t, longwireConfig)
		c := mustDial(t, dial, "ws://"+g.Addr().String()+"/echo", dialOptions{})
		c.ping(t)
		done := make(chan error, 1)
		go func() { done <- g.Drain(context.Background(), 0) }()
		if code, reason := c.ended(t); code != 1001 || reason == "" {
			t.Errorf("%s: closed with %d %q, want 1001", name, code, reason)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: drain: %v", name, err)
		}
	}
}

func TestClientsSubprotocols(t *testing.T) {
	ep := longwire.Echo("/echo")
	ep.Subprotocols = []string{"v2.example", "v1.example"}
	g := serve(t, longwire.Config{Endpoints: []longwire.Endpoint{ep}})
	for name, dial := range clients {
		for _, x := range []struct {
			offer []string
			want  string
		}{
			{nil, ""}, {[]string{"other"}, ""}, {[]string{"v1.example"}, "v1.example"}, {[]string{"v1.example", "v2.example"}, "v2.example"},
		} {
			c := mustDial(t, dial, "ws://"+g.Addr().String()+"/echo", dialOptions{subprotocols: x.offer})
			if got := c.subprotocol(); got != x.want {
				t.Errorf("%s: offered %q, got %q, want %q", name, x.offer, got, x.want)
			}
			c.close(t, 1000, "")
		}
	}
}

func TestClientsOrigins(t *testing.T) {
	same, some := longwire.Echo("/same"), longwire.Echo("/some")
	same.Origins, some.Origins = nil, []string{"https://*.example.com"}
	g := serve(t, longwire.Config{Endpoints: []longwire.Endpoint{same, some}})
	host := g.Addr().String()
	for name, dial := range clients {
		for _, x := range []struct {
			path, origin string
			status       int
		}{
			{"/same", "", 101}, {"/same", "http://" + host, 101}, {"/same", "https://evil.example", 403}, {"/same", "http://" + host + ".evil.example", 403},
			{"/some", "https://a.example.com", 101}, {"/some", "https://example.com", 403}, {"/some", "http://a.example.com", 403}, {"/some", "https://aexample.com", 403},
			{"/nowhere", "", 404},
		} {
			c, status, err := dial("ws://"+host+x.path, dialOptions{origin: x.origin})
			if status != x.status || (err == nil) != (x.status == 101) {
				t.Errorf("%s: %s from %q: %d, %v; want %d", name, x.path, x.origin, status, err, x.status)
			}
			if err == nil {
				c.close(t, 1000, "")
			}
		}
	}
}

// A stream of random messages comes back from each of three servers as it went, by each library's client.
func TestRandomStreams(t *testing.T) {
	g := serve(t, longwireConfig)
	servers := map[string]string{"longwire": "ws://" + g.Addr().String() + "/echo", "gorilla": serveGorilla(t), "coder": serveCoder(t)}
	for server, url := range servers {
		for name, dial := range clients {
			for seed, compress := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s → %s, compress=%t", name, server, compress), func(t *testing.T) {
					c := mustDial(t, dial, url, dialOptions{compress: compress})
					stream := func(do func(binary bool, b []byte, fragment int)) {
						rnd := rand.New(rand.NewPCG(uint64(seed), 7))
						for range 60 {
							b := make([]byte, []int{0, 10, 200, 5000, 70_000}[rnd.IntN(5)])
							for i := range b {
								b[i] = 'a' + byte(rnd.IntN(1+rnd.IntN(20)))
							}
							do(rnd.IntN(2) == 0, b, rnd.IntN(3)*(1+rnd.IntN(len(b)+1)))
						}
					}
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						stream(func(binary bool, b []byte, fragment int) {
							if fragment > 0 && len(b) > 0 {
								c.pieces(t, binary, b, fragment)
							} else {
								c.write(t, binary, b)
							}
						})
					}()
					k := 0
					stream(func(binary bool, want []byte, _ int) {
						if gotBinary, got := c.read(t); gotBinary != binary || !bytes.Equal(got, want) {
							t.Fatalf("message %d: got binary=%t %s, want binary=%t %s", k, gotBinary, show(got), binary, show(want))
						}
						k++
					})
					<-sent
					c.close(t, 1000, "")
				})
			}
		}
	}
}
