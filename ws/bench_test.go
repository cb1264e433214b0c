package ws

import (
	"bytes"
	"fmt"
	"testing"
	"unicode/utf8"
)

func BenchmarkParseHeader(b *testing.B) {
	h := AppendHeader(nil, Header{Fin: true, Opcode: OpText, Masked: true, Length: 1000})
	for b.Loop() {
		_, _, _ = ParseHeader(h)
	}
}

func BenchmarkMask(b *testing.B) {
	for _, n := range []int{5, 32, 125, 1 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Mask(p, [4]byte{1, 2, 3, 4}, 1)
			}
		})
	}
}

var texts = map[string]string{
	"ascii": "The quick brown fox jumps over the lazy dog, and then some more of it. ",
	"latin": "Größere Übungen für ältere Mädchen, naïve Fiancés et garçons français. ",
	"cjk":   "長連接網關的洩漏,是如何被測量、追蹤與修復的。",
	"emoji": "\U0001F600\U0001F601\U0001F602 ok \U0001F603",
}

func BenchmarkUTF8(b *testing.B) {
	for _, name := range []string{"ascii", "latin", "cjk", "emoji"} {
		p := bytes.Repeat([]byte(texts[name]), 4096/len(texts[name]))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				var u UTF8
				if !u.Write(p) || !u.Complete() {
					b.Fatal("not valid")
				}
			}
		})
		b.Run(name+"/std", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if !utf8.Valid(p) {
					b.Fatal("not valid")
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	for _, n := range []int{16, 125, 1 << 10, 16 << 10, 1 << 20} {
		for _, cut := range []int{0, 4096} {
			if cut >= n {
				continue
			}
			b.Run(fmt.Sprintf("%d/cut-%d", n, cut), func(b *testing.B) {
				in := AppendHeader(nil, Header{Fin: true, Opcode: OpText, Masked: true, Length: int64(n)}) // the zero key, so that it stays text
				in = append(in, text(n)...)
				var r Reader
				step := len(in)
				if cut > 0 {
					step = cut
				}
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					for i := 0; i < len(in); i += step {
						if _, _, err := r.Next(in[i:min(i+step, len(in))]); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	req := []byte(shake("+Origin: https://server.example.com", "+User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"+Accept-Language: en-US,en;q=0.9", "+Accept-Encoding: gzip, deflate, br", "+Cache-Control: no-cache", "+Pragma: no-cache",
		"+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
	p := &Policy{Deflate: true}
	var out []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(req)))
	for b.Loop() {
		r, _, err := ParseRequest(req, 8192)
		if err != nil {
			b.Fatal(err)
		}
		h, ref := Negotiate(&r, p)
		if ref != nil {
			b.Fatal(ref)
		}
		out = AppendResponse(out[:0], &h, "")
	}
}

// json is n bytes of what a gateway sends.
func json(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"push":{"channel":"news:%d","pub":{"offset":%d,"data":{"id":"%08x","text":"message number %d","ok":%v}}}},`, i%7, i, uint32(i)*2654435761, i, i%3 == 0)
	}
	return b.Bytes()[:n]
}

func BenchmarkCompress(b *testing.B) {
	for _, n := range []int{128, 1 << 10, 16 << 10} {
		p := json(n)
		for _, w := range []uint8{8, 12, 15} {
			b.Run(fmt.Sprintf("%d/window-%d", n, w), func(b *testing.B) {
				var out []byte
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					out = Compress(out[:0], p, w)
				}
				b.ReportMetric(float64(len(out))/float64(n), "ratio")
			})
		}
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, n := range []int{128, 1 << 10, 16 << 10} {
		z := Compress(nil, json(n), 15)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var out []byte
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = Inflate(out[:0], z, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
