package ws

import (
	"encoding/binary"
	"errors"
)

var errState = errors.New("ws: restore reader: malformed state")

const (
	stateVersion = 1
	stateSize    = 1 + 1 + 2 + 4 + 1 + 3 + 2 + 8 + 8 // what precedes the bytes that are held
)

// The flags of a state.
const (
	stateInFrame = 1 << iota
	stateFin
	stateCompressed
	stateClosed
)

// AppendState appends what r knows of its connection, for another process to Restore: a connection
// that is handed over in the middle of a message goes on there. The payload of the last event is not
// part of it, nor is the configuration. A Reader that is dead is written as one that has seen a
// close frame. The form is private to this package.
func (r *Reader) AppendState(dst []byte) []byte {
	flags := byte(0)
	for _, f := range [...]struct {
		on  bool
		bit byte
	}{{r.inFrame, stateInFrame}, {r.fin, stateFin}, {r.compressed, stateCompressed}, {r.closed || r.err != nil, stateClosed}} {
		if f.on {
			flags |= f.bit
		}
	}
	dst = append(dst, stateVersion, flags, byte(r.op), byte(r.msg))
	dst = append(dst, r.key[:]...)
	dst = append(dst, r.pos, r.utf8.need, r.utf8.lo, r.utf8.hi, r.nhdr, r.nctl)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.remain))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.size))
	dst = append(dst, r.hdr[:r.nhdr]...)
	dst = append(dst, r.ctl[:r.nctl]...)
	if r.buf != nil && !r.delivered {
		dst = append(dst, r.buf.b...)
	}
	return dst
}

// Restore is Reset followed by all that a Reader with the same configuration had seen when its
// AppendState wrote state. It fails when state cannot be that; r is then as after Reset.
// state is not retained.
func (r *Reader) Restore(c ReaderConfig, state []byte) error {
	r.Reset(c)
	if len(state) < stateSize || state[0] != stateVersion {
		return errState
	}
	flags, op, msg := state[1], Opcode(state[2]), Opcode(state[3])
	pos, nhdr, nctl := state[8], int(state[12]), int(state[13])
	remain := int64(binary.BigEndian.Uint64(state[14:]))
	size := int64(binary.BigEndian.Uint64(state[22:]))
	held := state[stateSize:]
	if flags&stateClosed != 0 {
		r.closed = true
		return nil
	}
	if op.Reserved() || msg > OpBinary || pos > 3 || nhdr >= MaxHeaderSize || nctl > maxControl ||
		len(held) < nhdr+nctl || remain < 0 || size < 0 {
		return errState
	}
	inFrame := flags&stateInFrame != 0
	message := held[nhdr+nctl:]
	r.compressed = flags&stateCompressed != 0
	ok := int64(len(message)) <= size && size <= r.limit() && (msg != 0 || len(message) == 0)
	switch {
	case !ok || !inFrame:
	case op.Control():
		ok = remain <= int64(maxControl-nctl)
	default:
		ok = msg != 0 && remain <= size-int64(len(message))
	}
	if nhdr > 0 && ok {
		// It must be the part of a header that more bytes can complete.
		r.msg = msg
		_, n, err := r.parse(held[:nhdr])
		ok = !inFrame && n == 0 && err == nil
	}
	if !ok {
		r.compressed, r.msg = false, 0
		return errState
	}
	r.inFrame, r.fin = inFrame, flags&stateFin != 0
	r.op, r.msg, r.pos, r.nhdr, r.nctl, r.remain, r.size = op, msg, pos, state[12], state[13], remain, size
	r.key = [4]byte(state[4:])
	r.utf8 = UTF8{state[9], state[10], state[11]}
	copy(r.hdr[:], held[:nhdr])
	copy(r.ctl[:], held[nhdr:nhdr+nctl])
	if len(message) > 0 {
		r.buf = growBuffer(nil, len(message))
		r.buf.b = append(r.buf.b, message...)
	}
	return nil
}
