package ws

import (
	"sync"

	"github.com/klauspost/compress/flate"
)

// Window bounds of permessage-deflate, as base-2 logarithms of bytes (RFC 7692 section 7.1.2).
const (
	MinWindow = 8
	MaxWindow = 15
)

// A deflater is a compressor that appends to out.
type deflater struct {
	w   *flate.Writer
	out []byte
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

var deflaters [MaxWindow + 1]sync.Pool

// compressionLevel is the fastest one. What a higher one saves on messages of a few hundred bytes is
// less than what it costs.
const compressionLevel = 1

func getDeflater(window uint8) *deflater {
	if v := deflaters[window].Get(); v != nil {
		return v.(*deflater)
	}
	d := new(deflater)
	var err error
	if window == MaxWindow {
		d.w, err = flate.NewWriter(d, compressionLevel)
	} else {
		d.w, err = flate.NewWriterWindow(d, 1<<window)
	}
	if err != nil {
		panic("ws: " + err.Error()) // the arguments are constants and in range
	}
	return d
}

// clampWindow turns anything into a window that every peer can read: what is not in 8..15 is 15.
func clampWindow(window uint8) uint8 {
	if window < MinWindow || window > MaxWindow {
		return MaxWindow
	}
	return window
}

// Compress appends payload, compressed as one message without context (RFC 7692 section 7.2.1), to
// dst: raw deflate, flushed, the trailing 00 00 ff ff removed. No distance in it exceeds 1<<window; a
// window outside 8..15 means 15. An empty payload becomes a single 0x00 (section 7.2.3.6). The
// result is the same for every connection with that window, so one may go to many. payload is not
// retained and must not overlap dst's free space.
func Compress(dst, payload []byte, window uint8) []byte {
	if len(payload) == 0 {
		return append(dst, 0)
	}
	window = clampWindow(window)
	d := getDeflater(window)
	d.out = dst
	d.w.Reset(d)
	// Neither can fail, as the sink cannot.
	_, _ = d.w.Write(payload)
	_ = d.w.Flush()
	dst = d.out
	d.out = nil
	deflaters[window].Put(d)
	return dst[:len(dst)-4]
}

// AppendCompressed appends one final frame as written by r that carries payload compressed (RSV1,
// RFC 7692 section 6), masked with key when r is Client. window is that of Compress: a connection's
// Deflate.Window.
func AppendCompressed(dst []byte, r Role, op Opcode, payload []byte, window uint8, key [4]byte) []byte {
	// The header's size depends on what the payload compresses to: guess, and move it if wrong.
	start := len(dst)
	guess := headerSize(len(payload), r == Client)
	var gap [MaxHeaderSize]byte
	dst = append(dst, gap[:guess]...)
	dst = Compress(dst, payload, window)
	n := len(dst) - start - guess
	h := Header{Fin: true, Rsv: Rsv1, Opcode: op, Masked: r == Client, Key: key, Length: int64(n)}
	size := headerSize(n, h.Masked)
	if size > guess {
		dst = append(dst, gap[:size-guess]...)
	}
	if size != guess {
		copy(dst[start+size:], dst[start+guess:start+guess+n])
		dst = dst[:start+size+n]
	}
	AppendHeader(dst[:start], h)
	if h.Masked {
		Mask(dst[start+size:], key, 0)
	}
	return dst
}
