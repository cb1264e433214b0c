package interop

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"testing"
)

// inflate is the message that b is the compressed form of. It checks that no distance exceeds the window.
func inflate(t *testing.T, b []byte, window int) []byte {
	t.Helper()
	full := append(bytes.Clone(b), 0, 0, 0xff, 0xff)
	if reach, err := maxDistance(full); err != nil {
		t.Fatalf("deflate data: %v", err)
	} else if reach > 1<<window {
		t.Fatalf("a distance of %d in a window of %d", reach, 1<<window)
	}
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(full, 1, 0, 0, 0xff, 0xff))))
	if err != nil {
		t.Fatalf("inflate: %v", err)
	}
	return out
}

// deflate compresses b as one message without context. A window of less than 15 has compress/flate, which knows
// only the largest, leave out all distances.
func deflate(t *testing.T, b []byte, level, window int) []byte {
	t.Helper()
	if window < 15 {
		level = flate.HuffmanOnly
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	z, ok := bytes.CutSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
	if !ok {
		t.Fatal("a flush that does not end in 00 00 ff ff")
	}
	return z
}

// maxDistance reads raw deflate data (RFC 1951) that ends on a block boundary, and tells how far back it reaches.
func maxDistance(b []byte) (reach int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed: %v", r)
		}
	}()
	d := &deflateBits{b: b}
	for d.at < 8*len(b) {
		last := d.bits(1)
		switch d.bits(2) {
		case 0:
			d.at = (d.at + 7) &^ 7
			n, not := d.bits(16), d.bits(16)
			if n != ^not&0xffff {
				panic("stored length")
			}
			d.at += 8 * n
			d.out += n
		case 1:
			lens := make([]int, 288+30)
			for i := range lens {
				switch {
				case i < 144:
					lens[i] = 8
				case i < 256:
					lens[i] = 9
				case i < 280:
					lens[i] = 7
				case i < 288:
					lens[i] = 8
				default:
					lens[i] = 5
				}
			}
			reach = max(reach, d.block(newHuffman(lens[:288]), newHuffman(lens[288:])))
		case 2:
			nl, nd, nc := d.bits(5)+257, d.bits(5)+1, d.bits(4)+4
			order := [19]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
			cl := make([]int, 19)
			for _, k := range order[:nc] {
				cl[k] = d.bits(3)
			}
			h := newHuffman(cl)
			lens := make([]int, 0, nl+nd)
			for len(lens) < nl+nd {
				switch s := d.symbol(h); {
				case s < 16:
					lens = append(lens, s)
				case s == 16:
					for prev := lens[len(lens)-1]; ; {
						for range 3 + d.bits(2) {
							lens = append(lens, prev)
						}
						break
					}
				case s == 17:
					lens = append(lens, make([]int, 3+d.bits(3))...)
				default:
					lens = append(lens, make([]int, 11+d.bits(7))...)
				}
			}
			reach = max(reach, d.block(newHuffman(lens[:nl]), newHuffman(lens[nl:nl+nd])))
		default:
			panic("block type 3")
		}
		if last == 1 {
			d.at = (d.at + 7) &^ 7
		}
	}
	return reach, nil
}

type deflateBits struct {
	b   []byte
	at  int // in bits
	out int // bytes that came out
}

func (d *deflateBits) bits(n int) (v int) {
	for i := range n {
		v |= int(d.b[d.at>>3]>>(d.at&7)&1) << i
		d.at++
	}
	return v
}

type huffman map[[2]int]int // length and code → symbol

func newHuffman(lens []int) huffman {
	h := make(huffman)
	code := 0
	for n := 1; n < 16; n++ {
		for s, l := range lens {
			if l == n {
				h[[2]int{n, code}] = s
				code++
			}
		}
		code <<= 1
	}
	return h
}

func (d *deflateBits) symbol(h huffman) int {
	code := 0
	for n := 1; n < 16; n++ {
		code = code<<1 | d.bits(1)
		if s, ok := h[[2]int{n, code}]; ok {
			return s
		}
	}
	panic("no such code")
}

func (d *deflateBits) block(lit, dist huffman) (reach int) {
	for {
		s := d.symbol(lit)
		switch {
		case s < 256:
			d.out++
			continue
		case s == 256:
			return reach
		}
		length := 258
		switch {
		case s < 265:
			length = s - 254
		case s < 285:
			k := s - 261
			length = 3 + (4+k&3)<<(k>>2) + d.bits(k>>2)
		}
		k := d.symbol(dist)
		distance := k + 1
		if k > 3 {
			distance = 1 + (2+k&1)<<(k>>1-1) + d.bits(k>>1-1)
		}
		if distance > d.out {
			panic("a distance before the beginning")
		}
		reach = max(reach, distance)
		d.out += length
	}
}

func TestMaxDistance(t *testing.T) {
	for _, x := range []struct {
		plain string
		want  int
	}{
		{"", 0},
		{"abc", 0},
		{"abcdefabcdef", 6},
		{string(bytes.Repeat([]byte("x"), 1000)), 1},
		{string(pattern(3000)) + string(pattern(100)), 3000},
	} {
		z := append(deflate(t, []byte(x.plain), 9, 15), 0, 0, 0xff, 0xff)
		got, err := maxDistance(z)
		if err != nil || got < x.want {
			t.Errorf("%s: distance %d, %v; want at least %d", show([]byte(x.plain)), got, err, x.want)
		}
	}
	if _, err := maxDistance([]byte{0x07}); err == nil {
		t.Error("block type 3 was read")
	}
	random := pattern(200_000)
	for level := -2; level <= 9; level++ {
		if got := inflate(t, deflate(t, random, level, 15), 15); !bytes.Equal(got, random) {
			t.Errorf("level %d: not the same", level)
		}
	}
}
