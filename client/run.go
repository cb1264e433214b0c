package client

import (
	"bytes"
	"crypto/rand"
	"errors"
	"net"
	"regexp"
	"strconv"

	"github.com/longwire/longwire/ws"
)

// key returns a masking key: fresh and unpredictable for each frame (RFC 6455 section 5.3).
func key() (k [4]byte) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// run is the goroutine of c: it dials and reads.
func (c *Conn) run() {
	defer c.done()
	for {
		select {
		case l := <-c.dials:
			err := c.serve(l)
			c.lose(l, err)
		case <-c.over:
			return
		}
	}
}

// serve connects, and reads up to the end of the connection. The error says which it was: never nil.
func (c *Conn) serve(l *line) error {
	conn, err := c.target.dial(l.ctx, &c.options, func(conn, raw net.Conn) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if l.ctx.Err() != nil {
			return false
		}
		l.conn, l.raw = conn, raw
		return true
	})
	if err != nil {
		return err
	}
	h, rest, err := c.target.shake(conn)
	if err != nil {
		return err
	}
	l.deflate, l.subprotocol = h.Deflate, h.Subprotocol
	if c.options.Hello != nil {
		op, payload, err := c.options.Hello(l.ctx)
		if err != nil {
			return err
		}
		if _, err := conn.Write(l.append(nil, op, payload)); err != nil {
			return err
		}
	}
	c.mu.Lock()
	if l.ctx.Err() != nil {
		c.mu.Unlock()
		return l.ctx.Err()
	}
	l.open = true
	c.lost = nil
	c.step(event{kind: "open"})
	c.mu.Unlock()
	c.tell()
	return c.receive(l, rest)
}

// lose tells the policy of the end of an attempt or of a connection, unless it was the policy that ended it.
func (c *Conn) lose(l *line, err error) {
	c.mu.Lock()
	defer c.tell()
	defer c.mu.Unlock()
	if c.line != l {
		return
	}
	e := event{kind: "error", after: -1}
	var refused *refusal
	var ended *CloseError
	var broken *ws.CloseError
	switch {
	case errors.As(err, &refused):
		e = event{kind: "refused", status: refused.status, after: refused.after}
	case !l.open:
	case errors.As(err, &ended):
		e = event{kind: "close", code: int(ended.Code), reason: ended.Reason, clean: true}
		code := ended.Code
		if !code.Sendable() {
			code = ws.StatusNormalClosure // as good as the empty one that was sent
		}
		c.part(l, code, "")
	case errors.As(err, &broken):
		e = event{kind: "close", code: int(broken.Code), reason: broken.Rule}
		c.part(l, broken.Code, broken.Rule)
	}
	c.line = nil
	c.lost = err
	l.cancel()
	if l.open {
		c.part(l, 0, "")
	} else if l.raw != nil {
		_ = l.raw.Close()
	}
	c.step(e)
}

// receive reads frames. The error is a *CloseError for the server's close frame, a *ws.CloseError for bytes that are not
// of the protocol, or what the network says.
func (c *Conn) receive(l *line, rest []byte) error {
	var r ws.Reader
	r.Reset(ws.ReaderConfig{Role: ws.Client, MaxMessage: c.options.ReadLimit, Deflate: l.deflate.On})
	defer r.Release()
	buf := make([]byte, 4<<10)
	for {
		events := 0
		for b := rest; len(b) > 0; {
			ev, n, err := r.Next(b)
			if err != nil {
				return err
			}
			b = b[n:]
			if ev.Op == ws.NoEvent {
				break
			}
			events++
			if err := c.take(l, ev); err != nil {
				return err
			}
		}
		if len(rest) > 0 && events == 0 && !c.on(l, event{kind: "message"}) {
			return net.ErrClosed
		}
		n, err := l.conn.Read(buf)
		if n == 0 && err != nil {
			return err
		}
		rest = buf[:n]
	}
}

// take handles what was received.
func (c *Conn) take(l *line, ev ws.Event) error {
	life := event{kind: "message"}
	switch ev.Op {
	case ws.OpClose:
		return &CloseError{Code: ev.Code, Reason: string(ev.Payload)}
	case ws.OpPing:
		c.mu.Lock()
		if !l.last && !l.closeSent {
			l.pong = append(l.pong[:0], ev.Payload...)
			l.ponging = true // of several pings the latest is answered (RFC 6455 section 5.5.3)
			c.post(l)
		}
		c.mu.Unlock()
	case ws.OpPong:
		if c.options.Heartbeat.Mode == HeartbeatPing {
			life = event{kind: "pong", hasTS: true, ts: -1}
			if ts, err := strconv.ParseInt(string(ev.Payload), 10, 64); err == nil {
				life.ts = ts
			}
		}
	default:
		var pong bool
		if life, pong = c.pong(ev); pong {
			break
		}
		if !c.on(l, life) || !c.deliver(l, inbound{ev.Op, bytes.Clone(ev.Payload)}) {
			return net.ErrClosed
		}
		return nil
	}
	if !c.on(l, life) {
		return net.ErrClosed
	}
	return nil
}

var jsonPong = regexp.MustCompile(`(?s)^\s*\{\s*"type"\s*:\s*"pong"(?:.*"ts"\s*:\s*(\d+))?`)

// pong tells whether a message answers a ping, and the event that it is.
func (c *Conn) pong(ev ws.Event) (event, bool) {
	switch h := &c.options.Heartbeat; {
	case h.Mode == HeartbeatMessage && h.Pong != nil && h.Pong(ev.Op, ev.Payload):
		return event{kind: "pong"}, true
	case h.Mode == HeartbeatJSON && ev.Op == ws.OpText:
		found := jsonPong.FindSubmatch(ev.Payload)
		if found == nil {
			break
		}
		e := event{kind: "pong"}
		if ts, err := strconv.ParseInt(string(found[1]), 10, 64); err == nil {
			e.ts, e.hasTS = ts, true
		}
		return e, true
	}
	return event{kind: "message"}, false
}

// deliver hands a message to Read. When the inbox is full it waits: a connection that is left ends that, and one that is
// being closed loses the message.
func (c *Conn) deliver(l *line, m inbound) bool {
	select {
	case c.in <- m:
		return true
	default:
	}
	c.stall(l, true)
	defer c.stall(l, false)
	select {
	case c.in <- m:
		return true
	case <-l.shut:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (c *Conn) stall(l *line, stalled bool) {
	c.mu.Lock()
	l.stalled = stalled
	c.mu.Unlock()
}
