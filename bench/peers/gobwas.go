package main

import (
	"bufio"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/gobwas/ws"
)

// serveGobwas answers each frame by a write of its own.
func serveGobwas(ln net.Listener) error {
	return accept(ln, func(conn net.Conn) { echoGobwas(conn, 1024, false) })
}

// serveGobwasBatched answers all frames that one read brought by one write. The library leaves reading
// and writing to its user, so it is the only one of the peers that can.
func serveGobwasBatched(ln net.Listener) error {
	return accept(ln, func(conn net.Conn) { echoGobwas(conn, 4096, true) })
}

// echoGobwas echoes frame by frame. The header is read into space that lives as long as the
// connection; the payload passes through a pooled buffer that is held only while there is something
// to answer.
func echoGobwas(conn net.Conn, readBuffer int, batched bool) {
	defer conn.Close()
	if _, err := ws.Upgrade(conn); err != nil {
		return
	}
	var (
		out     = answers{conn: conn}
		in      = bufio.NewReaderSize(&out, readBuffer)
		scratch [ws.MaxHeaderSize]byte
		state   = ws.StateServerSide
	)
	defer out.flush()
	for {
		h, err := ws.ReadHeaderBuffer(in, scratch[:])
		if err != nil || ws.CheckHeader(h, state) != nil {
			return
		}
		switch {
		case h.OpCode == ws.OpPong:
			if _, err := in.Discard(int(h.Length)); err != nil {
				return
			}
			continue
		case h.OpCode == ws.OpPing:
			h.OpCode = ws.OpPong
		case h.OpCode.IsControl(): // a close, answered by its like
		case h.Fin:
			state = state.Clear(ws.StateFragmented)
		default:
			state = state.Set(ws.StateFragmented)
		}
		if err := out.add(h, in, scratch[:]); err != nil || h.OpCode == ws.OpClose {
			return
		}
		if !batched {
			if err := out.flush(); err != nil {
				return
			}
		}
	}
}

// maxFrame is the length from which on a frame is refused rather than believed.
const maxFrame = 64 << 20

// answers collects frames to write. It is also what the connection is read through, so that every
// whole frame is written before a read can block.
type answers struct {
	conn  net.Conn
	buf   *[]byte // borrowed from frameBuffers while there is something to write
	whole int     // bytes of buf that are whole frames
	sent  int     // bytes of buf that are written
}

var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (a *answers) Read(p []byte) (int, error) {
	if err := a.flush(); err != nil {
		return 0, err
	}
	return a.conn.Read(p)
}

// Write appends p, as ws.WriteHeaderBuffer needs it.
func (a *answers) Write(p []byte) (int, error) {
	if a.buf == nil {
		a.buf = frameBuffers.Get().(*[]byte)
	}
	*a.buf = append(*a.buf, p...)
	return len(p), nil
}

// add appends the server's form of the frame whose header is h and whose masked payload is next in r.
func (a *answers) add(h ws.Header, r io.Reader, scratch []byte) error {
	if h.Length > maxFrame {
		return ws.ErrHeaderLengthUnexpected
	}
	mask := h.Mask
	h.Masked, h.Mask = false, [4]byte{}
	if err := ws.WriteHeaderBuffer(a, h, scratch); err != nil {
		return err
	}
	start := len(*a.buf)
	*a.buf = slices.Grow(*a.buf, int(h.Length))[:start+int(h.Length)]
	payload := (*a.buf)[start:]
	if _, err := io.ReadFull(r, payload); err != nil {
		return err
	}
	ws.Cipher(payload, mask, 0)
	a.whole = len(*a.buf)
	return nil
}

// flush writes the whole frames and gives the buffer back unless a frame is being added.
func (a *answers) flush() error {
	if a.whole > a.sent {
		if _, err := a.conn.Write((*a.buf)[a.sent:a.whole]); err != nil {
			return err
		}
		a.sent = a.whole
	}
	if a.buf != nil && a.sent == len(*a.buf) {
		if cap(*a.buf) <= 64<<10 {
			*a.buf = (*a.buf)[:0]
			frameBuffers.Put(a.buf)
		}
		a.buf, a.whole, a.sent = nil, 0, 0
	}
	return nil
}
