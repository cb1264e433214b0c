package centrifuge

import (
	"encoding/binary"
	"errors"
	"math"
)

// errDelta is the error of a delta that is none, or of one to something else.
var errDelta = errors.New("centrifuge: a delta that does not fit")

// applyDelta returns what a Fossil delta makes of base: memory of its own, not longer than limit. The format is that of
// https://fossil-scm.org/home/doc/tip/www/delta_format.wiki: the length of the result and a newline; then N@P, (copy N
// bytes of base from P) and N: (insert the N bytes that follow); then the checksum of the result and a semicolon.
func applyDelta(base, delta []byte, limit int64) ([]byte, error) {
	size, op, b, ok := deltaNumber(delta)
	if !ok || op != '\n' || int64(size) > limit {
		return nil, errDelta
	}
	out := make([]byte, 0, size)
	for {
		var n uint32
		if n, op, b, ok = deltaNumber(b); !ok {
			return nil, errDelta
		}
		room := uint64(size) - uint64(len(out))
		switch op {
		case '@':
			var from uint32
			if from, op, b, ok = deltaNumber(b); !ok || op != ',' || uint64(n) > room || uint64(from)+uint64(n) > uint64(len(base)) {
				return nil, errDelta
			}
			out = append(out, base[from:uint64(from)+uint64(n)]...)
		case ':':
			if uint64(n) > room || uint64(n) > uint64(len(b)) {
				return nil, errDelta
			}
			out = append(out, b[:n]...)
			b = b[n:]
		case ';':
			if room != 0 || len(b) > 0 || n != deltaSum(out) {
				return nil, errDelta
			}
			return out, nil
		default:
			return nil, errDelta
		}
	}
}

// deltaNumber reads a number of 32 bits in base 64, and the byte behind it. A number without digits is 0.
func deltaNumber(b []byte) (n uint32, op byte, rest []byte, ok bool) {
	for i, c := range b {
		d := uint32(0)
		switch {
		case c >= '0' && c <= '9':
			d = uint32(c - '0')
		case c >= 'A' && c <= 'Z':
			d = uint32(c-'A') + 10
		case c == '_':
			d = 36
		case c >= 'a' && c <= 'z':
			d = uint32(c-'a') + 37
		case c == '~':
			d = 63
		default:
			return n, c, b[i+1:], true
		}
		if n > math.MaxUint32>>6 {
			return 0, 0, nil, false
		}
		n = n<<6 | d
	}
	return 0, 0, nil, false
}

// deltaSum is the sum of b as big-endian words of 32 bits, with zeros behind the end.
func deltaSum(b []byte) (sum uint32) {
	for ; len(b) >= 4; b = b[4:] {
		sum += binary.BigEndian.Uint32(b)
	}
	var last [4]byte
	copy(last[:], b)
	return sum + binary.BigEndian.Uint32(last[:])
}
