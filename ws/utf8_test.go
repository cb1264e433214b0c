package ws

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// newRand is random in a way that a failure can be repeated with.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// viable reports whether b can be continued to valid UTF-8, by trying: the bounds of all ranges of
// continuation bytes are enough.
func viable(b []byte) bool {
	if utf8.Valid(b) {
		return true
	}
	var try func(b []byte, depth int) bool
	try = func(b []byte, depth int) bool {
		for _, c := range []byte{0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf} {
			next := append(b[:len(b):len(b)], c)
			if utf8.Valid(next) || depth > 1 && try(next, depth-1) {
				return true
			}
		}
		return false
	}
	return try(b, 3)
}

// failsAt returns the index of the first byte after which b is no longer viable, or -1.
func failsAt(b []byte) int {
	for i := range b {
		if !viable(b[:i+1]) {
			return i
		}
	}
	return -1
}

func checkUTF8(t *testing.T, b []byte) {
	t.Helper()
	var whole UTF8
	ok := whole.Write(b)
	if got, want := ok && whole.Complete(), utf8.Valid(b); got != want {
		t.Fatalf("% x: valid is %v, want %v", b, got, want)
	}
	if want := failsAt(b) < 0; ok != want {
		t.Fatalf("% x: Write says %v, want %v", b, ok, want)
	}
}

// Every string of up to two bytes, and all of three and four whose first byte begins a sequence and
// whose others are near a bound.
func TestUTF8Short(t *testing.T) {
	for a := range 256 {
		checkUTF8(t, []byte{byte(a)})
		for b := range 256 {
			checkUTF8(t, []byte{byte(a), byte(b)})
		}
	}
	near := []byte{0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff}
	step := 1
	if raceEnabled {
		step = 5
	}
	for a := 0xc0; a < 256; a += step {
		for _, b := range near {
			for _, c := range near {
				checkUTF8(t, []byte{byte(a), b, c})
				for _, d := range near {
					checkUTF8(t, []byte{byte(a), b, c, d})
				}
			}
		}
	}
}

// Every code point, and what would be the encoding of every surrogate.
func TestUTF8Runes(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r >= 0xd800 && r < 0xe000 {
			b := []byte{0xe0 | byte(r>>12), 0x80 | byte(r>>6&0x3f), 0x80 | byte(r&0x3f)}
			var u UTF8
			if u.Write(b[:2]) {
				t.Fatalf("surrogate %x is not refused at its second byte", r)
			}
			continue
		}
		var buf [4]byte
		b := utf8.AppendRune(buf[:0], r)
		var u UTF8
		for i := range b {
			if u.Complete() != (i == 0) || !u.Write(b[i:i+1]) {
				t.Fatalf("%x is refused at byte %d", r, i)
			}
		}
		if !u.Complete() {
			t.Fatalf("%x is not complete", r)
		}
	}
}

// The strings of testdata/utf8.txt, with where they fail, at every pair of splits.
func TestUTF8Vectors(t *testing.T) {
	for _, v := range readUTF8(t) {
		if got := failsAt(v.b); got != v.fails {
			t.Fatalf("%s: testdata says that it fails at %d, the definition says %d", v.name, v.fails, got)
		}
		if got := utf8.Valid(v.b); got != v.valid {
			t.Fatalf("%s: testdata says valid %v", v.name, v.valid)
		}
		for i := range len(v.b) + 1 {
			for j := i; j <= len(v.b); j++ {
				var u UTF8
				ok := true
				for k, p := range [][]byte{v.b[:i], v.b[i:j], v.b[j:]} {
					ok = u.Write(p)
					end := []int{i, j, len(v.b)}[k]
					if want := v.fails < 0 || v.fails >= end; ok != want {
						t.Fatalf("%s split at %d, %d: Write up to %d says %v, want %v", v.name, i, j, end, ok, want)
					}
				}
				if ok && u.Complete() != v.valid {
					t.Fatalf("%s split at %d, %d: complete is %v", v.name, i, j, u.Complete())
				}
				if !ok && (u.Complete() || u.Write([]byte("a")) || u.Write(nil)) {
					t.Fatalf("%s: a failure does not last", v.name)
				}
			}
		}
	}
}

type utf8Vector struct {
	name  string
	b     []byte
	valid bool
	fails int // index of the byte that must be refused, -1 for none
}

func readUTF8(t testing.TB) (vs []utf8Vector) {
	t.Helper()
	data, err := os.ReadFile("testdata/utf8.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		v := utf8Vector{name: f[0], fails: -1}
		switch f[1] {
		case "valid":
			v.valid = true
		case "cut":
		default:
			v.fails = atoi(t, f[1])
		}
		v.b = unhex(t, strings.Join(f[2:], ""))
		vs = append(vs, v)
	}
	if len(vs) < 100 {
		t.Fatalf("testdata/utf8.txt has %d vectors", len(vs))
	}
	return vs
}

// Random text with a little damage, whole and at random splits.
func TestUTF8Random(t *testing.T) {
	rnd := newRand(t)
	for range 20000 {
		var b []byte
		for len(b) < rnd.IntN(120) {
			switch rnd.IntN(5) {
			case 0:
				b = utf8.AppendRune(b, rune(rnd.IntN(0x800)))
			case 1:
				b = utf8.AppendRune(b, rune(rnd.IntN(utf8.MaxRune+1)))
			default:
				b = append(b, bytes.Repeat([]byte{'a'}, rnd.IntN(40))...)
			}
		}
		if len(b) > 0 && rnd.IntN(2) == 0 {
			b[rnd.IntN(len(b))] ^= byte(1 << rnd.IntN(8))
		}
		if len(b) > 0 && rnd.IntN(4) == 0 {
			b = b[:rnd.IntN(len(b))]
		}
		var u UTF8
		ok := true
		for rest := b; len(rest) > 0 && ok; {
			n := 1 + rnd.IntN(len(rest))
			ok = u.Write(rest[:n])
			rest = rest[n:]
		}
		if got, want := ok && u.Complete(), utf8.Valid(b); got != want {
			t.Fatalf("% x: valid is %v, want %v", b, got, want)
		}
		var w UTF8
		if got, want := w.Write(b) && w.Complete(), utf8.Valid(b); got != want {
			t.Fatalf("% x: valid as a whole is %v, want %v", b, got, want)
		}
	}
}
