package interop

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	cws "github.com/coder/websocket"
	gws "github.com/gorilla/websocket"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// serveGorilla is the address of an echo server of gorilla's.
func serveGorilla(t *testing.T) string {
	t.Helper()
	up := gws.Upgrader{EnableCompression: true, Subprotocols: []string{"echo"}, CheckOrigin: func(*http.Request) bool { return true }}
	return serveEcho(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if string(b) == "close me" {
				_ = c.WriteControl(gws.CloseMessage, gws.FormatCloseMessage(4002, "as you wish"), time.Now().Add(10*time.Second))
				continue
			}
			if string(b) == "ping me" {
				_ = c.WriteControl(gws.PingMessage, []byte("ping"), time.Now().Add(10*time.Second))
			}
			if string(b) == "in fragments" { // the buffer is 4 KiB
				b = pattern(50_000)
			}
			if err := c.WriteMessage(kind, b); err != nil {
				return
			}
		}
	})
}

// serveCoder is the address of an echo server of coder's.
func serveCoder(t *testing.T) string {
	t.Helper()
	opts := &cws.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"echo"}, CompressionMode: cws.CompressionNoContextTakeover, CompressionThreshold: 1}
	return serveEcho(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := cws.Accept(w, r, opts)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(64 << 20)
		ctx := context.Background()
		for {
			kind, b, err := c.Read(ctx)
			if err != nil {
				return
			}
			switch string(b) {
			case "close me":
				_ = c.Close(4002, "as you wish")
				return
			case "in fragments":
				out, err := c.Writer(ctx, kind)
				if err != nil {
					return
				}
				for rest := pattern(50_000); len(rest) > 0; rest = rest[5000:] {
					_, _ = out.Write(rest[:5000])
				}
				_ = out.Close()
				continue
			case "ping me":
				go func() { _ = c.Ping(ctx) }() // the answer is seen by the next Read
			}
			if err := c.Write(ctx, kind, b); err != nil {
				return
			}
		}
	})
}

func serveEcho(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	return strings.Replace(srv.URL, "http://", "ws://", 1) + "/echo"
}

// eachServer runs f against each library's server.
func eachServer(t *testing.T, f func(t *testing.T, addr string)) {
	for name, serve := range map[string]func(*testing.T) string{"gorilla": serveGorilla, "coder": serveCoder} {
		t.Run(name, func(t *testing.T) {
			f(t, strings.TrimSuffix(strings.TrimPrefix(serve(t), "ws://"), "/echo"))
		})
	}
}

// ours is package ws as a client over a net.Conn, with another mask for each frame, that compresses every other message.
type ours struct {
	*wstest.Client
	t    *testing.T
	mask byte
}

func dialOurs(t *testing.T, addr string, d ws.Dial) *ours {
	t.Helper()
	return &ours{Client: wstest.Dial(t, addr, "/echo", d), t: t}
}

func (o *ours) key() [4]byte {
	o.mask += 7
	return [4]byte{o.mask, o.mask + 1, o.mask + 2, o.mask + 3}
}

func (o *ours) write(b []byte) {
	if _, err := o.Write(b); err != nil {
		o.t.Errorf("write: %v", err)
	}
}

func (o *ours) send(op ws.Opcode, payload []byte) {
	if o.Agreed.Deflate.On && len(payload)%2 == 0 && op.Data() {
		o.write(ws.AppendCompressed(nil, ws.Client, op, payload, o.Agreed.Deflate.Window, o.key()))
		return
	}
	o.write(ws.AppendFrame(nil, ws.Client, op, payload, o.key()))
}

func (o *ours) want(op ws.Opcode, payload []byte) {
	o.t.Helper()
	if gotOp, got, code := o.Next(); gotOp != op || got != string(payload) {
		o.t.Fatalf("got %v %s %d, want %v %s", gotOp, show([]byte(got)), code, op, show(payload))
	}
}

func TestServersEcho(t *testing.T) {
	eachServer(t, func(t *testing.T, addr string) {
		for _, compress := range []bool{false, true} {
			o := dialOurs(t, addr, ws.Dial{Deflate: compress, Subprotocols: []string{"none", "echo"}})
			if o.Agreed.Deflate.On != compress || o.Agreed.Subprotocol != "echo" {
				t.Errorf("agreed on %+v", o.Agreed)
			}
			for _, op := range []ws.Opcode{ws.OpText, ws.OpBinary} {
				for _, n := range sizes {
					want := pattern(n)
					go o.send(op, want)
					o.want(op, want)
				}
			}
			o.send(ws.OpPing, []byte("ping"))
			o.want(ws.OpPong, []byte("ping"))
			// Our fragments with a ping between.
			key := o.key()
			for k, part := range []string{"one ", "two ", "three"} {
				op := ws.OpContinuation
				if k == 0 {
					op = ws.OpText
				}
				b := []byte(part)
				ws.Mask(b, key, 0)
				o.write(append(ws.AppendHeader(nil, ws.Header{Fin: k == 2, Opcode: op, Masked: true, Key: key, Length: int64(len(b))}), b...))
				o.send(ws.OpPing, nil)
			}
			for range 2 {
				o.want(ws.OpPong, nil)
			}
			// The last ping is behind the message; which answer is first is the server's.
			op1, p1, _ := o.Next()
			op2, p2, _ := o.Next()
			if op1 == ws.OpPong {
				op1, p1, op2, p2 = op2, p2, op1, p1
			}
			if op1 != ws.OpText || p1 != "one two three" || op2 != ws.OpPong || len(p2) > 0 {
				t.Errorf("got %v %s and %v %s", op1, show([]byte(p1)), op2, show([]byte(p2)))
			}
			// Theirs.
			o.send(ws.OpText, []byte("in fragments"))
			o.want(ws.OpText, pattern(50_000))
			o.send(ws.OpText, []byte("ping me"))
			for range 2 {
				switch op, p, _ := o.Next(); op {
				case ws.OpPing:
					o.send(ws.OpPong, []byte(p))
				case ws.OpText:
				default:
					t.Errorf("got %v", op)
				}
			}
			o.write(ws.AppendClose(nil, ws.Client, 3500, "bye", o.key()))
			if op, _, code := o.Next(); op != ws.OpClose || code != 3500 {
				t.Errorf("got %v %d, want close 3500", op, code)
			}
			o.EOF()
		}
	})
}

func TestServersClose(t *testing.T) {
	eachServer(t, func(t *testing.T, addr string) {
		o := dialOurs(t, addr, ws.Dial{})
		o.send(ws.OpText, []byte("close me"))
		op, reason, code := o.Next()
		if op != ws.OpClose || code != 4002 || reason != "as you wish" {
			t.Errorf("got %v %d %q", op, code, reason)
		}
		o.write(ws.AppendClose(nil, ws.Client, code, "", o.key()))
		if _, err := o.Read(make([]byte, 1)); err == nil {
			t.Error("data behind the close frame")
		}
	})
}

// A fleet of our clients exchanges messages with the others' servers and closes in good order.
func TestServersFleet(t *testing.T) {
	eachServer(t, func(t *testing.T, addr string) {
		for _, deflate := range []bool{false, true} {
			const conns = 20
			f, err := fleet.New(fleet.Config{Target: netip.MustParseAddrPort(addr), Conns: conns, Loops: 1,
				Dial: ws.Dial{Target: "/echo", Deflate: deflate}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			if err := f.Open(ctx); err != nil {
				t.Fatal(err)
			}
			f.Echo(fleet.Exchange{Conns: conns, InFlight: 4, Size: 2000})
			for f.Counts().Received < 1000 && ctx.Err() == nil {
				if _, err := f.Latency(ctx); err != nil { // asks each loop, which takes its time
					t.Error(err)
				}
			}
			if err := f.EndEcho(ctx); err != nil {
				t.Error(err)
			}
			if err := f.CloseAll(ctx, 0); err != nil {
				t.Error(err)
			}
			c := f.Counts()
			if c.Opened != conns || c.Failures() != 0 || c.Losses() != 0 || c.Closed != conns {
				t.Errorf("deflate=%t: %s", deflate, fmt.Sprintf("%+v", c))
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			cancel()
		}
	})
}
