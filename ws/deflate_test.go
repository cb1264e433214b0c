package ws

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// slowInflate is RFC 1951 read slowly: a bit at a time, codes searched one by one. It returns the data, and
// the farthest that a copy reached back.
func slowInflate(src []byte, limit int) (out []byte, far int, err error) {
	bad := errors.New("bad")
	pos := 0
	bit := func() int {
		if pos>>3 >= len(src) {
			panic(bad)
		}
		v := int(src[pos>>3]>>(pos&7)) & 1
		pos++
		return v
	}
	num := func(n int) (v int) {
		for i := range n {
			v |= bit() << i
		}
		return v
	}
	type code map[[2]int]int // length and bits, to symbol
	build := func(lens []int) code {
		c := code{}
		next, kraft := 0, 0
		for n := 1; n <= 15; n++ {
			next <<= 1
			for sym, l := range lens {
				if l == n {
					c[[2]int{n, next}] = sym
					next++
					kraft += 1 << (15 - n)
				}
			}
		}
		if kraft > 1<<15 {
			panic(bad)
		}
		return c
	}
	symbol := func(c code) int {
		v := 0
		for n := 1; n <= 15; n++ {
			v = v<<1 | bit()
			if s, ok := c[[2]int{n, v}]; ok {
				return s
			}
		}
		panic(bad)
	}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case error:
			if e != bad {
				panic(e)
			}
			err = bad
		default:
			panic(e)
		}
	}()
	put := func(b byte) {
		if len(out) == limit {
			panic(bad)
		}
		out = append(out, b)
	}
	for {
		final := bit()
		var lit, dist code
		switch num(2) {
		case 0:
			pos = (pos + 7) &^ 7
			if pos>>3 == len(src) {
				return out, far, nil
			}
			n, c := num(16), num(16)
			if n != c^0xffff {
				panic(bad)
			}
			for range n {
				put(byte(num(8)))
			}
		case 1:
			lens := slices.Concat(slices.Repeat([]int{8}, 144), slices.Repeat([]int{9}, 112), slices.Repeat([]int{7}, 24), slices.Repeat([]int{8}, 8))
			lit, dist = build(lens), build(slices.Repeat([]int{5}, 30))
		case 2:
			nlit, ndist, ncode := num(5)+257, num(5)+1, num(4)+4
			if nlit > 286 || ndist > 30 {
				panic(bad)
			}
			cl := make([]int, 19)
			for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:ncode] {
				cl[i] = num(3)
			}
			c := build(cl)
			var lens []int
			for len(lens) < nlit+ndist {
				switch s := symbol(c); s {
				case 16:
					if len(lens) == 0 {
						panic(bad)
					}
					lens = append(lens, slices.Repeat(lens[len(lens)-1:], 3+num(2))...)
				case 17:
					lens = append(lens, make([]int, 3+num(3))...)
				case 18:
					lens = append(lens, make([]int, 11+num(7))...)
				default:
					lens = append(lens, s)
				}
			}
			if len(lens) > nlit+ndist {
				panic(bad)
			}
			lit, dist = build(lens[:nlit]), build(lens[nlit:])
		default:
			panic(bad)
		}
		for lit != nil {
			s := symbol(lit)
			if s == 256 {
				break
			}
			if s < 256 {
				put(byte(s))
				continue
			}
			if s > 285 {
				panic(bad)
			}
			length := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}[s-257] +
				num([]int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}[s-257])
			d := symbol(dist)
			back := []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}[d] + num(max(0, d/2-1))
			if back > len(out) {
				panic(bad)
			}
			far = max(far, back)
			for range length {
				put(out[len(out)-back])
			}
		}
		if final == 1 {
			pos = (pos + 7) &^ 7
			if pos>>3 == len(src) {
				return out, far, nil
			}
		}
	}
}

// sample makes data that deflate finds something in, of n bytes.
func sample(rnd *rand.Rand, n int) []byte {
	b := make([]byte, 0, n)
	span := 1 << (1 + rnd.IntN(8))
	for len(b) < n {
		if len(b) > 4 && rnd.IntN(3) == 0 {
			from := rnd.IntN(len(b))
			if rnd.IntN(2) == 0 {
				from = max(0, len(b)-1-rnd.IntN(40))
			}
			for i, l := 0, 3+rnd.IntN(300); i < l; i++ {
				b = append(b, b[from+i])
			}
			continue
		}
		for range 1 + rnd.IntN(60) {
			b = append(b, byte(rnd.IntN(span)))
		}
	}
	return b[:n]
}

func TestCompressInflate(t *testing.T) {
	rnd := newRand(t)
	sizes := []int{0, 1, 2, 3, 100, 255, 256, 257, 1000, 32767, 32768, 32769, 65535, 65536, 100000}
	for window := uint8(0); window <= 17; window++ {
		for _, n := range sizes {
			if n > 1000 && window%4 != 0 {
				n /= 16
			}
			p := sample(rnd, n)
			z := Compress([]byte("dst"), p, window)
			if !bytes.HasPrefix(z, []byte("dst")) {
				t.Fatal("dst is lost")
			}
			z = z[3:]
			if n == 0 && !bytes.Equal(z, []byte{0}) {
				t.Errorf("an empty message becomes % x", z)
			}
			out, err := Inflate([]byte("dst"), z, int64(max(n, 1)))
			if err != nil || string(out[:3]) != "dst" || !bytes.Equal(out[3:], p) {
				t.Fatalf("window %d, %d bytes: %v", window, n, err)
			}
			slow, far, err := slowInflate(z, n)
			if err != nil || !bytes.Equal(slow, p) {
				t.Fatalf("window %d, %d bytes: slowInflate: %v", window, n, err)
			}
			w := window
			if w < 8 || w > 15 {
				w = 15
			}
			if far > 1<<w {
				t.Errorf("window %d: a copy reaches back %d bytes", window, far)
			}
			// And as every other implementation does it (RFC 7692 section 7.2.2).
			std, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(bytes.Clone(z), "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))))
			if err != nil || !bytes.Equal(std, p) {
				t.Fatalf("window %d, %d bytes: compress/flate: %v", window, n, err)
			}
			if n > 1 {
				if out, err := Inflate([]byte("dst"), z, int64(n-1)); ruleOf(err) != "1009 message_too_big" || string(out) != "dst" {
					t.Errorf("window %d, %d bytes with limit %d: %v", window, n, n-1, err)
				}
			}
		}
	}
}

// What a larger window allows, it uses: else the test above proves nothing.
func TestWindowMatters(t *testing.T) {
	noise := sample(rand.New(rand.NewPCG(1, 1)), 0)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 6000 {
		noise = append(noise, byte(rnd.Uint32()))
	}
	p := slices.Concat(noise, noise)
	for w, reaches := range map[uint8]bool{8: false, 12: false, 13: true, 15: true} {
		_, far, err := slowInflate(Compress(nil, p, w), len(p))
		if err != nil || far >= 6000 != reaches {
			t.Errorf("window %d reaches back %d bytes, %v", w, far, err)
		}
	}
}

// The same message compressed twice is the same: one may go to many.
func TestCompressIsStable(t *testing.T) {
	rnd := newRand(t)
	for _, w := range []uint8{8, 15} {
		p := sample(rnd, 5000)
		want := Compress(nil, p, w)
		for range 20 {
			Compress(nil, sample(rnd, rnd.IntN(70000)), w)
			got := Compress(nil, p, w)
			out, err := Inflate(nil, got, 5000)
			if err != nil || !bytes.Equal(out, p) || len(got) != len(want) {
				t.Fatalf("window %d: %d bytes, then %d, %v", w, len(want), len(got), err)
			}
		}
	}
}

// Data of compress/flate at all its levels, flushed in the middle, and with final blocks.
func TestInflateForeign(t *testing.T) {
	rnd := newRand(t)
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		var z bytes.Buffer
		w, err := flate.NewWriter(&z, level)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 50, 3000, 70000} {
			z.Reset()
			w.Reset(&z)
			p := sample(rnd, n)
			for rest := p; len(rest) > 0; {
				k := 1 + rnd.IntN(len(rest))
				if _, err := w.Write(rest[:k]); err != nil {
					t.Fatal(err)
				}
				if rnd.IntN(2) == 0 {
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				rest = rest[k:]
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			flushed := bytes.Clone(z.Bytes()[:z.Len()-4])
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			for i, src := range [][]byte{flushed, z.Bytes(), append(z.Bytes(), 0)} {
				out, err := Inflate(nil, src, int64(n))
				if err != nil || !bytes.Equal(out, p) {
					t.Fatalf("level %d, %d bytes, way %d: %v", level, n, i, err)
				}
			}
			// Cut anywhere it is not a message.
			for range 20 {
				cut := rnd.IntN(len(flushed))
				out, err := Inflate(nil, flushed[:cut], int64(n))
				if err == nil && !bytes.HasPrefix(p, out) || err != nil && ruleOf(err) != "1007 bad_deflate" {
					t.Fatalf("level %d, cut at %d: %d bytes, %v", level, cut, len(out), err)
				}
			}
		}
	}
}

// bitWriter writes deflate data by hand.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) bits(v, n int) {
	for i := range n {
		if w.n&7 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n>>3] |= byte(v>>i&1) << (w.n & 7)
		w.n++
	}
}

// dynamic writes the head of a dynamic block whose code lengths are each written with four bits.
func dynamic(lit, dist []int) *bitWriter {
	w := &bitWriter{}
	w.bits(0b100, 3)
	w.bits(len(lit)-257, 5)
	w.bits(len(dist)-1, 5)
	w.bits(15, 4)
	for range 3 {
		w.bits(0, 3) // 16, 17, 18
	}
	for range 16 {
		w.bits(4, 3)
	}
	for _, l := range slices.Concat(lit, dist) {
		for i := 3; i >= 0; i-- { // codes come with their highest bit first
			w.bits(l>>i&1, 1)
		}
	}
	return w
}

func lens(n int, set map[int]int) []int {
	l := make([]int, n)
	for i, v := range set {
		l[i] = v
	}
	return l
}

func TestInflateBad(t *testing.T) {
	end := func(w *bitWriter, bits ...int) []byte {
		for _, b := range bits {
			w.bits(b, 1)
		}
		w.bits(0, 3) // the empty block
		return w.b
	}
	good := []struct {
		name string
		src  []byte
		want string
	}{
		{"one code of one bit", end(dynamic(lens(257, map[int]int{256: 1}), []int{0}), 0), ""},
		{"no distance codes", end(dynamic(lens(257, map[int]int{'a': 1, 256: 1}), []int{0}), 0, 0, 1), "aa"},
		{"one distance code", end(dynamic(lens(258, map[int]int{'a': 1, 256: 2, 257: 2}), []int{1}), 0, 1, 1, 0, 1, 0), "aaaa"},
		{"longest codes", end(dynamic(lens(257, map[int]int{0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 10: 11, 11: 12, 12: 13, 13: 14, 14: 15, 256: 15}), []int{0}),
			1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), "\x0e\x00"},
		{"stored", []byte("\x00\x03\x00\xfc\xffabc\x00"), "abc"},
		{"stored and empty", []byte("\x00\x00\x00\xff\xff\x00"), ""},
		{"final empty block whose length was removed", []byte("\x01"), ""},
	}
	for _, g := range good {
		out, err := Inflate(nil, g.src, 1000)
		if err != nil || string(out) != g.want {
			t.Errorf("%s: %q, %v, want %q", g.name, out, err, g.want)
		}
		for i := range g.src {
			if i == 1 && g.src[0] == 0 {
				continue // the header of an empty block: complete
			}
			if out, err := Inflate(nil, g.src[:i], 1000); err == nil {
				t.Errorf("%s, cut at %d: %q", g.name, i, out)
			}
		}
	}
	for _, b := range []struct {
		name string
		src  []byte
	}{
		{"nothing", nil},
		{"block type 3", []byte{0x06}},
		{"stored length and complement differ", []byte("\x00\x03\x00\xfc\xfeabc\x00")},
		{"stored block is short", []byte("\x00\x03\x00\xfc\xffab")},
		{"stored header is short", []byte("\x00\x03\x00\xfc")},
		{"the tail is data", []byte("\x00\x04\x00\xfb\xff")},
		{"tail not removed", []byte("\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff")},
		{"no header of the empty block", []byte("\xf2\x48\xcd\xc9\xc9\x07")},
		{"287 literal codes", end(dynamic(lens(287, map[int]int{256: 1}), []int{0}), 0)},
		{"31 distance codes", end(dynamic(lens(257, map[int]int{256: 1}), make([]int, 31)), 0)},
		{"no end of block", end(dynamic(lens(257, map[int]int{0: 1, 1: 1}), []int{0}), 0)},
		{"literal code incomplete", end(dynamic(lens(257, map[int]int{256: 2}), []int{0}), 0, 0)},
		{"literal code oversubscribed", end(dynamic(lens(257, map[int]int{0: 1, 1: 1, 256: 1}), []int{0}), 0)},
		{"distance code incomplete", end(dynamic(lens(257, map[int]int{256: 1}), []int{2}), 0)},
		{"distance code oversubscribed", end(dynamic(lens(257, map[int]int{256: 1}), []int{1, 1, 1}), 0)},
		{"the missing half of a lone code", end(dynamic(lens(257, map[int]int{256: 1}), []int{0}), 1)},
		{"a copy without distance codes", end(dynamic(lens(258, map[int]int{'a': 1, 256: 2, 257: 2}), []int{0}), 0, 1, 1, 0, 1, 0)},
		{"before the beginning", end(dynamic(lens(258, map[int]int{'a': 1, 256: 2, 257: 2}), []int{0, 1}), 0, 1, 1, 0, 1, 0)},
		{"length codes incomplete", []byte{0x04, 0x00, 0x02, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"all ones", bytes.Repeat([]byte{0xff}, 100)},
	} {
		if out, err := Inflate([]byte("x"), b.src, 1000); ruleOf(err) != "1007 bad_deflate" || string(out) != "x" {
			t.Errorf("%s: %q, %v", b.name, out, err)
		}
	}
	// The symbols of the fixed codes that mean nothing: 286, 287, and the distances 30, 31.
	for _, sym := range []int{0b11000110, 0b11000111} {
		w := &bitWriter{}
		w.bits(0b010, 3)
		for i := 7; i >= 0; i-- {
			w.bits(sym>>i&1, 1)
		}
		if _, err := Inflate(nil, append(w.b, 0, 0, 0), 1000); ruleOf(err) != "1007 bad_deflate" {
			t.Errorf("fixed literal code %b: %v", sym, err)
		}
	}
	for _, d := range []int{30, 31} {
		w := &bitWriter{}
		w.bits(0b010, 3)
		w.bits(0b00001100, 8) // literal 0, reversed
		w.bits(0b1000000, 7)  // 257
		for i := 4; i >= 0; i-- {
			w.bits(d>>i&1, 1)
		}
		if _, err := Inflate(nil, append(w.b, 0, 0, 0), 1000); ruleOf(err) != "1007 bad_deflate" {
			t.Errorf("fixed distance code %d: %v", d, err)
		}
	}
}

// Whatever complete code there is finds room in the tables, and each symbol its code.
func TestMakeTable(t *testing.T) {
	rnd := newRand(t)
	for range 3000 {
		for _, kind := range []struct {
			symbols, room int
			root          uint
		}{{maxLitCodes, litSpace, litBits}, {maxDistCodes, distSpace, distBits}, {19, 128, 7}} {
			longest := maxCodeBits
			if kind.symbols == 19 {
				longest = 7
			}
			depths := []uint8{1, 1}
			deep := rnd.IntN(2) == 0
			for len(depths) < kind.symbols {
				i := rnd.IntN(len(depths))
				if deep && rnd.IntN(3) > 0 {
					i = len(depths) - 1
				}
				if int(depths[i]) == longest {
					if rnd.IntN(50) == 0 {
						break
					}
					continue
				}
				depths[i]++
				depths = append(depths, depths[i])
			}
			rnd.Shuffle(len(depths), func(i, j int) { depths[i], depths[j] = depths[j], depths[i] })
			symbols := make([]uint32, len(depths))
			for i := range symbols {
				symbols[i] = uint32(i) << 16
			}
			table := make([]uint32, kind.room)
			if !makeTable(table, kind.root, depths, symbols, false) {
				t.Fatalf("no room for %d", depths)
			}
			code := 0
			for n := uint8(1); n <= maxCodeBits; n++ {
				code <<= 1
				for sym, l := range depths {
					if l != n {
						continue
					}
					rev := reverse(code, uint(n)) | uint(rnd.Uint32())<<n
					e := table[rev&(1<<kind.root-1)]
					got := e & 15
					if e&kindMask == kindTable {
						e = table[uint(e>>16)+rev>>kind.root&(1<<(e>>4&15)-1)]
						got = e&15 + uint32(kind.root)
					}
					if int(e>>16) != sym || got != uint32(n) {
						t.Fatalf("symbol %d of %d bits reads as %d of %d", sym, n, e>>16, got)
					}
					code++
				}
			}
		}
	}
}

// A bomb: nothing is made beyond the limit, whatever it is made of.
func TestInflateBomb(t *testing.T) {
	stored := bytes.Repeat(append([]byte{0, 0xff, 0xff, 0, 0}, make([]byte, 65535)...), 3)
	for name, src := range map[string][]byte{
		"zeros":  Compress(nil, make([]byte, 32<<20), 15),
		"json":   Compress(nil, bytes.Repeat([]byte(`{"a":1},`), 1<<20), 15),
		"stored": append(stored, 0),
	} {
		for _, limit := range []int64{1, 100, 4096, 65535, 65536, 100000} {
			out, err := Inflate(make([]byte, 0, 64), src, limit)
			if ruleOf(err) != "1009 message_too_big" || len(out) != 0 {
				t.Errorf("%s, limit %d: %d bytes, %v", name, limit, len(out), err)
			}
			z := new(inflater)
			buf, err := z.inflate(&buffer{}, src, limit, false)
			if err == nil || int64(len(buf.b)) > limit || int64(cap(buf.b)) > 2*limit+1024 {
				t.Errorf("%s, limit %d: made %d bytes in %d", name, limit, len(buf.b), cap(buf.b))
			}
		}
		if _, err := Inflate(nil, src, 0); name != "stored" && ruleOf(err) != "1009 message_too_big" {
			t.Errorf("%s without a limit: %v", name, err)
		}
	}
}

func TestAppendCompressed(t *testing.T) {
	rnd := newRand(t)
	key := [4]byte{9, 8, 7, 6}
	for _, role := range []Role{Server, Client} {
		// Sizes at which the header's size is guessed right, too large and too small.
		for _, n := range []int{0, 1, 120, 121, 122, 123, 124, 125, 126, 127, 130, 1000, 65520, 65530, 65535, 65536, 70000, 200000} {
			for _, kind := range []string{"noise", "same"} {
				p := make([]byte, n)
				if kind == "noise" {
					for i := range p {
						p[i] = byte(rnd.Uint32())
					}
				}
				z := Compress(nil, p, 15)
				h := Header{Fin: true, Rsv: Rsv1, Opcode: OpBinary, Length: int64(len(z))}
				if role == Client {
					h.Masked, h.Key = true, key
					Mask(z, key, 0)
				}
				want := append(AppendHeader([]byte("before"), h), z...)
				got := AppendCompressed([]byte("before"), role, OpBinary, p, 15, key)
				if !bytes.Equal(got, want) {
					t.Fatalf("%v, %d bytes of %s: frames differ: % .20x, want % .20x", role, n, kind, got, want)
				}
				ev, _, err := func() (Event, int, error) {
					var r Reader
					r.Reset(ReaderConfig{Role: 1 - role, Deflate: true})
					return r.Next(got[6:])
				}()
				if err != nil || !bytes.Equal(ev.Payload, p) {
					t.Fatalf("%v, %d bytes of %s: %v", role, n, kind, err)
				}
			}
		}
	}
}

func ExampleCompress() {
	payload := []byte(strings.Repeat("to whom it may concern ", 20))
	z := Compress(nil, payload, MaxWindow)
	// One compression serves every conn: each gets the header and the same bytes.
	frame := append(AppendFrameHeader(nil, OpText, true, len(z)), z...)
	_ = frame
	back, err := Inflate(nil, z, 64<<10)
	fmt.Println(len(payload), len(z) < 60, bytes.Equal(back, payload), err)
	// Output: 460 true true <nil>
}
