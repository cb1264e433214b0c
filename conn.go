package longwire

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// Conn is a handle on one connection. Any goroutine may hold, copy, compare and use it; its methods post to
// the connection's loop and never block. A handle whose connection is over is harmless: what it sends is
// dropped.
type Conn struct {
	g  *Gateway
	id loop.ID
}

// ErrBusy is returned when the connection's loop has as much to do as it may take on: the caller sheds or
// tries later. ErrClosed is returned when the gateway is closed.
var (
	ErrBusy   = errors.New("longwire: the loop's inbox is full")
	ErrClosed = errors.New("longwire: the gateway is closed")
)

// errOver is the cause of a context that was asked for when its connection was over: nobody keeps the causes of
// connections that are.
var errOver = errors.New("longwire: the connection was over when its context was asked for")

// Kinds of posts to a loop.
const (
	postSend   uint8 = iota // opcode byte, payload
	postClose               // code (2 bytes), reason
	postWatch               // its context is wanted
	postResume              // its blocking work has caught up
)

// ID identifies the connection in this process, in a short form without spaces. No other connection of the
// process has it, before or after.
func (c Conn) ID() string { return c.id.String() }

// Send queues one message: op is ws.OpText or ws.OpBinary. payload is copied. A nil error does not mean
// that the client has it: a connection that ended, or is a slow consumer, drops it.
func (c Conn) Send(op ws.Opcode, payload []byte) error {
	// The opcode leads the payload; small messages are put together without a heap object.
	var room [1024]byte
	var b []byte
	if len(payload) < len(room) {
		b = append(append(room[:0], byte(op)), payload...)
	} else {
		b = append(append(make([]byte, 0, len(payload)+1), byte(op)), payload...)
	}
	return c.post(postSend, b)
}

// Close starts the closing handshake with code and reason (cut at 123 bytes). Messages sent before it
// leave before it; messages sent after it are dropped. The connection ends with CauseApplication.
func (c Conn) Close(code ws.StatusCode, reason string) error {
	b := binary.LittleEndian.AppendUint16(make([]byte, 0, 2+len(reason)), uint16(code))
	return c.post(postClose, append(b, reason...))
}

func (c Conn) post(kind uint8, b []byte) error {
	switch err := c.g.loops.Post(c.id, kind, b); err {
	case nil:
		return nil
	case loop.ErrFull:
		return ErrBusy
	default:
		return ErrClosed
	}
}

// Go runs f on the gateway's pool of goroutines, after all that was handed over for this connection before, by
// Go or by a Blocking endpoint. ctx is Context().
func (c Conn) Go(f func(ctx context.Context)) {
	c.g.pool.submit(c.id, func() { f(c.Context()) })
}

// Context is a context that is cancelled when the connection ends, with its Cause as context.Cause. It is
// made at the first call; connections that nobody asks it of cost nothing. If the connection is over by then, so
// is the context, at once or a moment later, and its cause is another error: the Cause is not kept.
func (c Conn) Context() context.Context { return c.g.contexts.get(c) }

// contexts are the contexts of those connections that were asked for theirs.
type contexts struct {
	mu   sync.Mutex
	made map[loop.ID]connContext // guarded by mu
}

type connContext struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (x *contexts) get(c Conn) context.Context {
	x.mu.Lock()
	cc, ok := x.made[c.id]
	if !ok {
		cc.ctx, cc.cancel = context.WithCancelCause(context.Background())
		if x.made == nil {
			x.made = make(map[loop.ID]connContext)
		}
		x.made[c.id] = cc
	}
	x.mu.Unlock()
	if !ok {
		// The loop notes that there is one to cancel, or cancels it at once if the connection is over.
		switch c.post(postWatch, nil) {
		case ErrClosed:
			x.end(c.id, ErrClosed)
		case ErrBusy:
			_ = c.g.call(c.id, func(f *front) { f.watch(c.id) })
		}
	}
	return cc.ctx
}

// end cancels the context of id, if there is one.
func (x *contexts) end(id loop.ID, cause error) {
	x.mu.Lock()
	cc, ok := x.made[id]
	delete(x.made, id)
	x.mu.Unlock()
	if ok {
		cc.cancel(cause)
	}
}

// Message is one message of a client. It is valid during the callback that has it.
type Message struct {
	Op      ws.Opcode // ws.OpText (then Payload is valid UTF-8) or ws.OpBinary
	Payload []byte    // the callback may change it, not keep it

	// Few words, so that it travels in registers.
	slot  uint32
	front *front // nil on the pool
	conn  *Conn  // on the pool
}

// Reply sends a message back on the connection that m came from. It is Conn.Send without the detour: on the
// loop, all replies to what came in one read leave in one write. payload is copied.
func (m Message) Reply(op ws.Opcode, payload []byte) {
	if m.front == nil {
		_ = m.conn.Send(op, payload)
		return
	}
	m.front.send(m.slot, op, payload)
}
