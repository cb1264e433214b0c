package longwire_test

import (
	"net"
	"time"

	"github.com/longwire/longwire/ws"
)

// client is a WebSocket client for the examples. It panics on what does not happen.
type client struct {
	conn net.Conn
	r    ws.Reader
	left []byte // read and not consumed
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// dial opens a connection to ws://addr/path.
func dial(addr, path string) *client {
	c := &client{conn: must(net.Dial("tcp", addr))}
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		panic(err)
	}
	d, key := ws.Dial{Host: addr, Target: path}, [16]byte{}
	must(c.conn.Write(ws.AppendRequest(nil, &d, key)))
	for {
		resp, n, err := ws.ParseResponse(c.left, 0)
		if err != nil {
			panic(err)
		}
		if n > 0 {
			must(d.Check(&resp, key))
			c.left = c.left[n:]
			c.r.Reset(ws.ReaderConfig{Role: ws.Client})
			return c
		}
		c.fill()
	}
}

func (c *client) fill() {
	b := make([]byte, 4096)
	n := must(c.conn.Read(b))
	c.left = append(c.left, b[:n]...)
}

// send sends one text message.
func (c *client) send(text string) {
	must(c.conn.Write(ws.AppendFrame(nil, ws.Client, ws.OpText, []byte(text), [4]byte{1, 2, 3, 4})))
}

// next waits for a message, or for the server's close frame.
func (c *client) next() (op ws.Opcode, text string, code ws.StatusCode) {
	for {
		ev, n, err := c.r.Next(c.left)
		if err != nil {
			panic(err)
		}
		op, text, code = ev.Op, string(ev.Payload), ev.Code
		c.left = c.left[n:]
		if op != ws.NoEvent {
			return op, text, code
		}
		c.fill()
	}
}

// ask sends a message and returns the reply.
func (c *client) ask(text string) string {
	c.send(text)
	_, reply, _ := c.next()
	return reply
}

// close does the closing handshake and ends the TCP connection.
func (c *client) close(code ws.StatusCode) {
	must(c.conn.Write(ws.AppendClose(nil, ws.Client, code, "", [4]byte{1, 2, 3, 4})))
	if op, _, _ := c.next(); op != ws.OpClose {
		panic("the server does not answer the close frame")
	}
	c.quit()
}

// quit ends the TCP connection.
func (c *client) quit() { _ = c.conn.Close() }
