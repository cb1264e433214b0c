package ws

import "encoding/binary"

// MaxHeaderSize is the size of the longest frame header: two bytes, a 64-bit length and a masking key.
const MaxHeaderSize = 14

// maxControl is the longest payload of a control frame (RFC 6455 section 5.5).
const maxControl = 125

// A Header is the header of one frame (RFC 6455 section 5.2).
type Header struct {
	// Fin says that the frame is the last of its message.
	Fin bool
	// Rsv holds the three reserved bits: RSV1 is 4, RSV2 is 2, RSV3 is 1.
	Rsv uint8
	// Opcode is the opcode, four bits.
	Opcode Opcode
	// Masked says that Key is present, and that the payload is masked with it.
	Masked bool
	// Key is the masking key, zero unless Masked.
	Key [4]byte
	// Length is the length of the payload in bytes, never negative.
	Length int64
}

// The reserved bits as Header.Rsv holds them. RSV1 marks a compressed message (RFC 7692 section 6).
const (
	Rsv1 = 4
	Rsv2 = 2
	Rsv3 = 1
)

const (
	bitFin  = 0x80
	bitMask = 0x80
)

// ParseHeader reads one header of n bytes from the front of b, and no payload. n == 0 with a nil
// error means "call again with more". A length that is not in its shortest form, or has its most
// significant bit set, is a *CloseError (section 5.2), as soon as the length has been read. All
// other rules are CheckHeader's. b is not retained.
func ParseHeader(b []byte) (h Header, n int, err error) {
	if len(b) < 2 {
		return Header{}, 0, nil
	}
	n = 2
	length := int64(b[1] & 0x7f)
	switch length {
	case 126:
		if len(b) < 4 {
			return Header{}, 0, nil
		}
		n = 4
		length = int64(binary.BigEndian.Uint16(b[2:]))
		if length < 126 {
			return Header{}, 0, errNonMinimalLength
		}
	case 127:
		if len(b) < 10 {
			return Header{}, 0, nil
		}
		n = 10
		length = int64(binary.BigEndian.Uint64(b[2:]))
		if length < 0 {
			return Header{}, 0, errLengthHighBit
		}
		if length <= 0xffff {
			return Header{}, 0, errNonMinimalLength
		}
	}
	if b[1]&bitMask != 0 {
		if len(b) < n+4 {
			return Header{}, 0, nil
		}
		h.Key = [4]byte(b[n:])
		h.Masked = true
		n += 4
	}
	h.Fin = b[0]&bitFin != 0
	h.Rsv = b[0] >> 4 & 7
	h.Opcode = Opcode(b[0] & 0xf)
	h.Length = length
	return h, n, nil
}

// CheckHeader holds a header against the rules of RFC 6455 section 5 and RFC 7692 section 6, for a
// reader of role r. fragmented says that a message has begun and not ended; deflate says that
// permessage-deflate was agreed. It is a pure function of its arguments and returns nil or a
// *CloseError with 1002. Of several violations it names the one whose bits come first.
func CheckHeader(h Header, r Role, fragmented, deflate bool) error {
	// The first byte is judged before the second, so that a Reader may refuse it on its own.
	if h.Rsv != 0 && (h.Rsv != Rsv1 || !deflate || h.Opcode != OpText && h.Opcode != OpBinary) {
		return errReservedBit
	}
	switch h.Opcode {
	case OpText, OpBinary:
		if fragmented {
			return errExpectedContinuation
		}
	case OpContinuation:
		if !fragmented {
			return errUnexpectedContinuation
		}
	case OpClose, OpPing, OpPong:
		if !h.Fin {
			return errFragmentedControl
		}
	default:
		return errReservedOpcode
	}
	if h.Masked != (r == Server) {
		if r == Server {
			return errUnmaskedFrame
		}
		return errMaskedFrame
	}
	if h.Length > maxControl && h.Opcode >= OpClose {
		return errControlTooLong
	}
	if h.Length < 0 {
		return errLengthHighBit
	}
	return nil
}

// AppendHeader appends h in its shortest form. It does not judge it: tests write bad headers too.
// Only the low bits of Rsv and Opcode are used; a negative Length is written as its 64 bits.
func AppendHeader(dst []byte, h Header) []byte {
	b0 := byte(h.Opcode&0xf) | h.Rsv&7<<4
	if h.Fin {
		b0 |= bitFin
	}
	var m byte
	if h.Masked {
		m = bitMask
	}
	switch {
	case uint64(h.Length) < 126:
		dst = append(dst, b0, m|byte(h.Length))
	case uint64(h.Length) <= 0xffff:
		dst = append(dst, b0, m|126, byte(h.Length>>8), byte(h.Length))
	default:
		dst = append(dst, b0, m|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(h.Length))
	}
	if h.Masked {
		dst = append(dst, h.Key[:]...)
	}
	return dst
}

// headerSize is what AppendHeader writes for a payload of n bytes.
func headerSize(n int, masked bool) int {
	size := 2
	switch {
	case n > 0xffff:
		size = 10
	case n >= 126:
		size = 4
	}
	if masked {
		size += 4
	}
	return size
}
