package checker

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/longwire/longwire/ws"
)

// conn is one WebSocket connection of a client, over the system's TCP.
type conn struct {
	tcp  *net.TCPConn
	r    ws.Reader
	buf  [8 << 10]byte
	left []byte // of buf: read and not consumed
	out  []byte
}

const writeTimeout = 20 * time.Second

var maskKey = [4]byte{0x5a, 0xc3, 0x17, 0x88}

// dial connects and shakes hands. small bounds the receive buffer, which the system makes very large for those who read.
func dial(addr string, d ws.Dial, small bool) (*conn, error) {
	tcp, err := net.DialTimeout("tcp", addr, writeTimeout)
	if err != nil {
		return nil, err
	}
	c := &conn{tcp: tcp.(*net.TCPConn)}
	if small {
		_ = c.tcp.SetReadBuffer(128 << 10) // a wish
	}
	if err := c.handshake(addr, d); err != nil {
		_ = c.tcp.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) handshake(addr string, d ws.Dial) error {
	d.Host = addr
	_ = c.tcp.SetDeadline(time.Now().Add(writeTimeout))
	key := [16]byte{1, 2, 3}
	if _, err := c.tcp.Write(ws.AppendRequest(nil, &d, key)); err != nil {
		return err
	}
	for at := 0; ; {
		n, err := c.tcp.Read(c.buf[at:])
		if err != nil {
			return err
		}
		at += n
		resp, n, err := ws.ParseResponse(c.buf[:at], 0)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		h, err := d.Check(&resp, key)
		if err != nil {
			return err
		}
		c.r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: 16 << 20, Deflate: h.Deflate.On})
		c.left = c.buf[n:at]
		return nil
	}
}

// frameError is a violation of the WebSocket protocol by the server.
type frameError struct{ error }

// next is the next message or control frame; NoEvent when the deadline passed without one. Its payload is valid until
// the next call.
func (c *conn) next(deadline time.Time) (ws.Event, error) {
	for {
		for len(c.left) > 0 {
			ev, n, err := c.r.Next(c.left)
			if err != nil {
				return ws.Event{}, frameError{err}
			}
			c.left = c.left[n:]
			if ev.Op != ws.NoEvent {
				return ev, nil
			}
		}
		_ = c.tcp.SetReadDeadline(deadline)
		n, err := c.tcp.Read(c.buf[:])
		var t net.Error
		switch {
		case n > 0:
			c.left = c.buf[:n]
		case errors.As(err, &t) && t.Timeout():
			return ws.Event{}, nil
		case err != nil:
			return ws.Event{}, err
		}
	}
}

func (c *conn) write(op ws.Opcode, payload []byte) error {
	c.out = ws.AppendFrame(c.out[:0], ws.Client, op, payload, maskKey)
	return c.flush(len(c.out))
}

// flush writes the first n bytes of what was put together.
func (c *conn) flush(n int) error {
	_ = c.tcp.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.tcp.Write(c.out[:n])
	return err
}

func (c *conn) close() { _ = c.tcp.Close() }

// reset ends the connection with a RST.
func (c *conn) reset() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

// half begins a message and ends the connection in the middle of it.
func (c *conn) half(payload []byte, at int) {
	c.out = ws.AppendFrame(c.out[:0], ws.Client, ws.OpText, payload, maskKey)
	_ = c.flush(1 + at%(len(c.out)-1))
	_ = c.tcp.Close()
}

// closeFrame sends one.
func (c *conn) closeFrame(code ws.StatusCode) error {
	c.out = ws.AppendClose(c.out[:0], ws.Client, code, "", maskKey)
	return c.flush(len(c.out))
}

// target is the request's path with what tells the run who connects.
func target(path string, client, life int, more string) string {
	return fmt.Sprintf("%s?c=%d&l=%d%s", path, client, life, more)
}
