package ws

import "encoding/binary"

// Mask masks or unmasks b in place (RFC 6455 section 5.3: the same XOR does both). pos is the offset
// of b[0] in the frame's payload, of which only the low two bits count; the result is the pos of the
// byte that follows b, in 0..3. Calling it piece by piece equals calling it once.
func Mask(b []byte, key [4]byte, pos int) int {
	next := (pos + len(b)) & 3
	k32 := binary.LittleEndian.Uint32(key[:])
	shift := uint(pos&3) * 8
	k32 = k32>>shift | k32<<(32-shift)
	k := uint64(k32)<<32 | uint64(k32)
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		binary.LittleEndian.PutUint64(p[0:], binary.LittleEndian.Uint64(p[0:])^k)
		binary.LittleEndian.PutUint64(p[8:], binary.LittleEndian.Uint64(p[8:])^k)
		binary.LittleEndian.PutUint64(p[16:], binary.LittleEndian.Uint64(p[16:])^k)
		binary.LittleEndian.PutUint64(p[24:], binary.LittleEndian.Uint64(p[24:])^k)
		binary.LittleEndian.PutUint64(p[32:], binary.LittleEndian.Uint64(p[32:])^k)
		binary.LittleEndian.PutUint64(p[40:], binary.LittleEndian.Uint64(p[40:])^k)
		binary.LittleEndian.PutUint64(p[48:], binary.LittleEndian.Uint64(p[48:])^k)
		binary.LittleEndian.PutUint64(p[56:], binary.LittleEndian.Uint64(p[56:])^k)
		b = b[64:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	if len(b) >= 4 {
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)^k32)
		b = b[4:]
	}
	for i := range b {
		b[i] ^= byte(k32 >> (8 * uint(i)))
	}
	return next
}
