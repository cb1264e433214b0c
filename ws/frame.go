package ws

// AppendFrame appends one final, uncompressed frame as written by r, masked with key when r is
// Client. A key must be fresh and unpredictable for each frame (RFC 6455 section 5.3); a Server's is
// ignored. The payload is copied, and not changed. The caller keeps the rules of the opcode: at most
// 125 bytes for a control frame, UTF-8 for text.
func AppendFrame(dst []byte, r Role, op Opcode, payload []byte, key [4]byte) []byte {
	if r == Server {
		return append(AppendFrameHeader(dst, op, false, len(payload)), payload...)
	}
	dst = AppendHeader(dst, Header{Fin: true, Opcode: op, Masked: true, Key: key, Length: int64(len(payload))})
	start := len(dst)
	dst = append(dst, payload...)
	Mask(dst[start:], key, 0)
	return dst
}

// AppendFrameHeader appends the header of a final, unmasked frame with n bytes of payload, which the
// caller appends or writes by itself: one payload can so follow many headers. rsv1 marks it compressed.
func AppendFrameHeader(dst []byte, op Opcode, rsv1 bool, n int) []byte {
	h := Header{Fin: true, Opcode: op, Length: int64(n)}
	if rsv1 {
		h.Rsv = Rsv1
	}
	return AppendHeader(dst, h)
}
