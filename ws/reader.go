package ws

import (
	"math"
	"unicode/utf8"
)

// DefaultMaxMessage is the limit of a Reader whose ReaderConfig sets none: 1 MiB.
const DefaultMaxMessage = 1 << 20

// ReaderConfig says what a Reader reads. The zero value reads for a Server, up to
// DefaultMaxMessage, without compression.
type ReaderConfig struct {
	// Role is the reader's own: a Server wants masked frames, a Client unmasked ones.
	Role Role
	// MaxMessage bounds a message in bytes, after inflating; more is message_too_big (1009). An
	// announced length beyond it is refused from the header alone. The compressed form of a message
	// may exceed it by an eighth and 64 bytes, as deflate data that does not compress does.
	// Zero or less means DefaultMaxMessage.
	MaxMessage int64
	// Deflate says that permessage-deflate was agreed, without context takeover.
	Deflate bool
}

// An Event is what Reader.Next found: a message, a control frame or nothing yet.
type Event struct {
	// Op is OpText, OpBinary, OpClose, OpPing or OpPong; NoEvent when more bytes are needed.
	Op Opcode
	// Payload is the message, inflated and, for OpText, valid UTF-8; the application data of a
	// ping or pong; the reason of a close. See Reader.Next for its lifetime.
	Payload []byte
	// Code is the status code of an OpClose, StatusNoStatus if it carried none; else zero.
	Code StatusCode
}

// A Reader turns the bytes of one direction of one connection into messages and control frames
// (RFC 6455 sections 5 to 8, RFC 7692). It belongs to one goroutine at a time. It is a value to pool:
// a connection that is between messages needs none, and Idle says when. The zero value reads as
// Reset with the zero ReaderConfig.
//
// After a close frame nothing that follows counts (section 1.4): Next consumes it silently.
type Reader struct {
	max     int64 // of ReaderConfig, zero until Reset
	remain  int64 // payload bytes of the current frame yet to come
	size    int64 // announced payload bytes of the current message
	err     error // why the Reader is dead
	buf     *buffer
	infl    *buffer
	key     [4]byte
	pos     uint8 // offset into key
	role    Role
	deflate bool

	inFrame    bool
	fin        bool
	op         Opcode // of the current frame
	msg        Opcode // of the current message, 0 between messages
	compressed bool
	delivered  bool // buf or infl was handed out and is free again
	closed     bool

	utf8 UTF8
	nhdr uint8
	nctl uint8
	hdr  [MaxHeaderSize]byte
	ctl  [maxControl]byte
}

// Reset makes r read another connection from its first byte. Buffers that it holds go back to the pool.
func (r *Reader) Reset(c ReaderConfig) {
	r.Release()
	r.max = c.MaxMessage
	r.role = c.Role
	r.deflate = c.Deflate
	r.err = nil
	r.closed = false
}

// Release gives up the payload that Next returned last, and all that is held of an unfinished frame or
// message, which is lost with it: the buffers go back to the pool, and r is Idle. It keeps the
// configuration, and whether the Reader is dead or has seen a close frame.
func (r *Reader) Release() {
	r.drop()
	r.inFrame, r.msg, r.nhdr, r.nctl, r.remain, r.size = false, 0, 0, 0, 0, 0
}

// drop returns the buffers.
func (r *Reader) drop() {
	if r.buf != nil {
		putBuffer(r.buf)
		r.buf = nil
	}
	if r.infl != nil {
		putBuffer(r.infl)
		r.infl = nil
	}
	r.delivered = false
}

// Idle reports whether r knows nothing that the connection's next bytes depend on: it is between
// messages and holds no part of a header. The caller may then Release and pool it, once it is done
// with the last event's payload. A message between two of its fragments is not idle. A Reader that
// is dead or has seen a close frame is idle; the caller remembers that.
func (r *Reader) Idle() bool {
	return r.err != nil || r.closed || !r.inFrame && r.msg == 0 && r.nhdr == 0
}

// Held returns the bytes of buffer memory that r holds now, beside itself. It is at most about twice
// what was received of the current message, and for a compressed one twice of what it inflated to.
func (r *Reader) Held() int {
	n := 0
	if r.buf != nil {
		n += cap(r.buf.b)
	}
	if r.infl != nil {
		n += cap(r.infl.b)
	}
	return n
}

// Next consumes n bytes from the front of b and returns the event that they completed. When more
// bytes are needed, Op is NoEvent and n is len(b); else the caller calls again with b[n:].
//
// b is unmasked in place. The payload aliases b when the message lay whole in it, else the Reader's
// buffer; either way it is valid until the next call to Next, Release or Reset, the caller may change
// it, and appending to it does not reach the bytes behind. b is not retained otherwise.
//
// The error is a *CloseError, given as soon as the offending bit is seen: for a length, from the
// short is the whole of Next for what most traffic is: an uncompressed message of at most 125 bytes in one
// frame that lies whole in b, with nothing before it. For all else n is 0 and nothing has happened. It knows
// no rule that header and CheckHeader do not; it only spares their bookkeeping. The text is not checked.
func (r *Reader) short(b []byte) (ev Event, n int) {
	if len(b) < 6 || r.inFrame || r.nhdr|uint8(r.msg) != 0 || r.role != Server {
		return Event{}, 0
	}
	op := Opcode(b[0] ^ 0x80)
	size := int(b[1] ^ 0x80)
	if op != OpText && op != OpBinary || size > 125 || len(b) < 6+size || int64(size) > r.limit() {
		return Event{}, 0
	}
	n = 6 + size
	p := b[6:n:n]
	Mask(p, [4]byte(b[2:6]), 0)
	return Event{Op: op, Payload: p}, n
}

// header alone; for text, at the first byte that cannot be UTF-8, wherever the frame or b ends. The
// Reader is then dead: its buffers are gone, and Next returns the same error always.
func (r *Reader) Next(b []byte) (ev Event, n int, err error) {
	if r.delivered {
		r.drop()
	}
	if r.err != nil {
		return Event{}, 0, r.err
	}
	if r.closed {
		return Event{}, len(b), nil
	}
	if ev, n := r.short(b); n != 0 {
		if ev.Op == OpText && !utf8.Valid(ev.Payload) {
			return Event{}, 0, r.fail(errInvalidUTF8)
		}
		return ev, n, nil
	}
	i := 0
	for {
		if !r.inFrame {
			n, err := r.header(b[i:])
			if err != nil {
				return Event{}, i, r.fail(err)
			}
			i += n
			if !r.inFrame {
				return Event{}, i, nil
			}
		}
		p := b[i:]
		whole := int64(len(p)) >= r.remain
		if whole {
			p = p[:r.remain:r.remain]
		}
		i += len(p)
		r.remain -= int64(len(p))
		if r.role == Server {
			r.pos = uint8(Mask(p, r.key, int(r.pos)))
		}
		if r.op >= OpClose {
			if !whole || r.nctl > 0 {
				r.nctl += uint8(copy(r.ctl[r.nctl:], p))
				if !whole {
					return Event{}, i, nil
				}
				p = r.ctl[:r.nctl:r.nctl]
				r.nctl = 0
			}
			r.inFrame = false
			ev, err := r.control(p)
			return ev, i, err
		}
		if r.msg == OpText && !r.compressed && !r.utf8.Write(p) {
			return Event{}, i, r.fail(errInvalidUTF8)
		}
		if whole && r.fin && r.buf == nil {
			ev, err := r.message(p)
			return ev, i, err
		}
		if len(p) > 0 {
			r.buf = growBuffer(r.buf, len(p))
			r.buf.b = append(r.buf.b, p...)
		}
		if !whole {
			return Event{}, i, nil
		}
		r.inFrame = false
		if r.fin {
			r.delivered = true
			ev, err := r.message(r.buf.b)
			return ev, i, err
		}
	}
}

// header consumes a header from the front of b, together with the part of it that is held, and
// begins its frame. Of a part it keeps a copy, and judges the bytes that it has.
func (r *Reader) header(b []byte) (n int, err error) {
	var h Header
	if r.nhdr == 0 {
		h, n, err = r.parse(b)
		if n == 0 {
			r.nhdr = uint8(copy(r.hdr[:], b))
			return len(b), err
		}
	} else {
		c := copy(r.hdr[r.nhdr:], b)
		h, n, err = r.parse(r.hdr[:int(r.nhdr)+c])
		if n == 0 {
			r.nhdr += uint8(c)
			return c, err
		}
		n -= int(r.nhdr)
		r.nhdr = 0
	}
	if err != nil {
		return n, err
	}
	if h.Opcode < OpClose {
		if h.Opcode != OpContinuation {
			r.msg = h.Opcode
			r.compressed = h.Rsv != 0
			r.size = 0
			r.utf8 = UTF8{}
		}
		if h.Length > r.limit()-r.size {
			return n, errMessageTooBig
		}
		r.size += h.Length
		r.fin = h.Fin
	}
	r.inFrame = true
	r.op = h.Opcode
	r.key = h.Key
	r.pos = 0
	r.remain = h.Length
	return n, nil
}

// parse is ParseHeader and CheckHeader, each byte judged when it is there. The order of the checks is
// that of the bytes, so that the error does not depend on how they were cut.
func (r *Reader) parse(b []byte) (Header, int, error) {
	if len(b) == 0 {
		return Header{}, 0, nil
	}
	state := 0
	if r.msg != 0 {
		state |= stateFragmented
	}
	if r.deflate {
		state |= stateDeflate
	}
	if err := badFirst[state][b[0]]; err != nil {
		return Header{}, 0, err
	}
	if len(b) > 1 {
		state = int(r.role)
		if b[0]&8 != 0 {
			state |= stateControl
		}
		if err := badSecond[state][b[1]]; err != nil {
			return Header{}, 0, err
		}
	}
	return ParseHeader(b)
}

const (
	stateFragmented = 1
	stateDeflate    = 2

	stateControl = 2 // with a Role
)

// What CheckHeader says about each first byte by itself, and about each second one behind a good first.
var badFirst, badSecond = func() (first, second [4][256]*CloseError) {
	check := func(h Header, r Role, fragmented, deflate bool) *CloseError {
		err, _ := CheckHeader(h, r, fragmented, deflate).(*CloseError)
		return err
	}
	for b := range 256 {
		for state := range 4 {
			h := Header{Fin: b&bitFin != 0, Rsv: uint8(b >> 4 & 7), Opcode: Opcode(b & 0xf)}
			first[state][b] = check(h, Client, state&stateFragmented != 0, state&stateDeflate != 0)
			h = Header{Fin: true, Opcode: OpText, Masked: b&bitMask != 0, Length: int64(b & 0x7f)}
			if state&stateControl != 0 {
				h.Opcode = OpPing
			}
			second[state][b] = check(h, Role(state&1), false, false)
		}
	}
	return first, second
}()

// limit is what the frames of the current message may announce in total.
func (r *Reader) limit() int64 {
	limit := r.maxMessage()
	if r.compressed {
		limit += limit>>3 + 64
	}
	return limit
}

func (r *Reader) maxMessage() int64 {
	if r.max <= 0 {
		return DefaultMaxMessage
	}
	return min(r.max, math.MaxInt/4) // so that no sum of lengths overflows
}

// message ends the current message, whose frames carried p.
func (r *Reader) message(p []byte) (Event, error) {
	op := r.msg
	r.inFrame, r.msg = false, 0
	if !r.compressed {
		if op == OpText && !r.utf8.Complete() {
			return Event{}, r.fail(errInvalidUTF8)
		}
		return Event{Op: op, Payload: p[:len(p):len(p)]}, nil
	}
	z := inflaters.Get().(*inflater)
	limit := r.maxMessage()
	out, err := z.inflate(getBuffer(int(min(4*int64(len(p)), limit))), p, limit, true)
	inflaters.Put(z)
	r.infl, r.delivered = out, true
	if err != nil {
		return Event{}, r.fail(err)
	}
	if op == OpText {
		var u UTF8
		if !u.Write(out.b) || !u.Complete() {
			return Event{}, r.fail(errInvalidUTF8)
		}
	}
	if r.buf != nil {
		putBuffer(r.buf)
		r.buf = nil
	}
	return Event{Op: op, Payload: out.b[:len(out.b):len(out.b)]}, nil
}

// control ends a control frame with the payload p.
func (r *Reader) control(p []byte) (Event, error) {
	if r.op != OpClose {
		return Event{Op: r.op, Payload: p}, nil
	}
	code, reason, err := ParseClose(p)
	if err != nil {
		return Event{}, r.fail(err)
	}
	r.Release()
	r.closed = true
	return Event{Op: OpClose, Payload: reason, Code: code}, nil
}

// fail makes the Reader dead.
func (r *Reader) fail(err error) error {
	r.Release()
	r.err = err
	return err
}
