// Package wstest is WebSocket over TCP for tests: a client to speak to a server, and servers that do with each connection
// what a test says.
package wstest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// patience bounds all that a client waits for, so that no test hangs.
const patience = time.Minute

// mask is the key of every frame that a Client sends.
var mask = [4]byte{1, 2, 3, 4}

// Client is a client whose test ends when something fails. One goroutine may write while another reads. What is written to
// and read from its connection directly goes past it. It is closed when the test ends.
type Client struct {
	net.Conn
	Agreed ws.Handshake // what the server chose

	t    testing.TB
	r    ws.Reader
	left []byte // read, and not handed on
	buf  []byte
}

// Dial connects to addr, and does a handshake for path: d.Host and d.Target are set.
func Dial(t testing.TB, addr, path string, d ws.Dial) *Client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := On(t, conn)
	d.Host, d.Target = addr, path
	if _, err := conn.Write(ws.AppendRequest(nil, &d, [16]byte{})); err != nil {
		t.Fatal(err)
	}
	c.Handshake(d)
	return c
}

// On is a client on a connection that it owns from here on. Handshake comes next.
func On(t testing.TB, conn net.Conn) *Client {
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &Client{Conn: conn, t: t, buf: make([]byte, 64<<10)}
}

// Handshake reads the answer to a request with d, whose key is sixteen zeros.
func (c *Client) Handshake(d ws.Dial) {
	c.t.Helper()
	for {
		resp, n, err := ws.ParseResponse(c.left, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		if n == 0 {
			c.fill()
			continue
		}
		if c.Agreed, err = d.Check(&resp, [16]byte{}); err != nil {
			c.t.Fatal(err)
		}
		c.r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: 64 << 20, Deflate: c.Agreed.Deflate.On})
		c.left = c.left[n:]
		return
	}
}

func (c *Client) fill() {
	c.t.Helper()
	n, err := c.Read(c.buf)
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	c.left = append(c.left, c.buf[:n]...)
}

// Send sends a message or a control frame in one frame, uncompressed.
func (c *Client) Send(op ws.Opcode, payload string) {
	c.t.Helper()
	c.write(ws.AppendFrame(nil, ws.Client, op, []byte(payload), mask))
}

// SendClose sends a close frame.
func (c *Client) SendClose(code ws.StatusCode, reason string) {
	c.t.Helper()
	c.write(ws.AppendClose(nil, ws.Client, code, reason, mask))
}

func (c *Client) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// Next waits for the next message or control frame. A close frame's payload is its reason.
func (c *Client) Next() (op ws.Opcode, payload string, code ws.StatusCode) {
	c.t.Helper()
	for {
		if len(c.left) == 0 {
			c.fill()
		}
		ev, n, err := c.r.Next(c.left)
		if err != nil {
			c.t.Fatal(err)
		}
		op, payload, code = ev.Op, string(ev.Payload), ev.Code
		c.left = c.left[n:]
		if op != ws.NoEvent {
			return op, payload, code
		}
	}
}

// Ask sends a text and returns what comes next. Pings that come before it are answered.
func (c *Client) Ask(text string) string {
	c.t.Helper()
	_, reply := c.ask(text)
	return reply
}

func (c *Client) ask(text string) (op ws.Opcode, reply string) {
	c.t.Helper()
	c.Send(ws.OpText, text)
	for {
		if op, reply, _ = c.Next(); op != ws.OpPing {
			return op, reply
		}
		c.Send(ws.OpPong, reply)
	}
}

// Echoes checks that a server of echoes answers.
func (c *Client) Echoes() {
	c.t.Helper()
	const text = "are you there?"
	if op, reply := c.ask(text); op != ws.OpText || reply != text {
		c.t.Errorf("the echo is %v %.60q", op, reply)
	}
}

// EOF checks that nothing more comes but the server's FIN.
func (c *Client) EOF() {
	c.t.Helper()
	if n, err := c.Read(c.buf); err != io.EOF || len(c.left) > 0 {
		c.t.Errorf("read after the close: %d bytes, %v; want EOF", len(c.left)+n, err)
	}
}

// Leave closes with 1000, waits for the server's close frame, whatever comes before it, and for its FIN.
func (c *Client) Leave() {
	c.t.Helper()
	c.SendClose(ws.StatusNormalClosure, "")
	for {
		if op, _, _ := c.Next(); op == ws.OpClose {
			break
		}
	}
	c.EOF()
	if err := c.Close(); err != nil {
		c.t.Error(err)
	}
}
