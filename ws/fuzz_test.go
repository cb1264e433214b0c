package ws

import (
	"bufio"
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Every fuzz target has seeds, and they are read: go test would pass without them, and say nothing.
func TestFuzzCorpus(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllSubmatch(src, -1) {
			targets = append(targets, string(m[1]))
		}
	}
	if len(targets) < 8 {
		t.Errorf("only %d targets: %v", len(targets), targets)
	}
	for _, target := range targets {
		seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		if err != nil || len(seeds) < 3 {
			t.Errorf("%s has %d seeds: %v", target, len(seeds), err)
			continue
		}
		for _, s := range seeds {
			b, err := os.ReadFile(filepath.Join("testdata", "fuzz", target, s.Name()))
			if err != nil || !bytes.HasPrefix(b, []byte("go test fuzz v1\n")) {
				t.Errorf("%s/%s is no seed: %v", target, s.Name(), err)
			}
		}
	}
	dirs, err := os.ReadDir("testdata/fuzz")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if !slices.Contains(targets, d.Name()) {
			t.Errorf("testdata/fuzz/%s belongs to no target", d.Name())
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		if err != nil {
			if n != 0 || h != (Header{}) {
				t.Fatalf("% x: %+v, %d with %v", b, h, n, err)
			}
			// More bytes make it no better.
			if _, _, again := ParseHeader(append(bytes.Clone(b), 0xff)); again != err {
				t.Fatalf("% x: %v, then %v", b, err, again)
			}
			return
		}
		if n == 0 {
			if len(b) >= MaxHeaderSize {
				t.Fatalf("% x wants more", b)
			}
			return
		}
		if got := AppendHeader(nil, h); !bytes.Equal(got, b[:n]) {
			t.Fatalf("% x is written as % x", b[:n], got)
		}
		for i := range n {
			if _, k, err := ParseHeader(b[:i]); k != 0 || err != nil {
				t.Fatalf("% x: %d bytes are enough", b[:n], i)
			}
		}
		for r := range Client + 1 {
			for state := range 4 {
				got := ruleOf(CheckHeader(h, r, state&1 != 0, state&2 != 0))
				if want := oracle(h, r, state&1 != 0, state&2 != 0); got != want {
					t.Fatalf("%+v: %q, want %q", h, got, want)
				}
			}
		}
	})
}

// What a Reader says does not depend on how the bytes are cut, and it never holds too much.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, mode byte, seed uint64) {
		c := ReaderConfig{Role: Role(mode & 1), Deflate: mode&2 != 0, MaxMessage: 1 << (mode >> 4)}
		want, _ := feed(t, c, b, whole)
		for _, way := range []func(int) int{single, random(rand.New(rand.NewPCG(seed, 0)))} {
			if got, _ := feed(t, c, b, way); !slices.Equal(got, want) {
				t.Fatalf("%+v % x:\n got %q\nwant %q", c, b, got, want)
			}
		}
		// The payloads keep to the limit, and text is text.
		var r Reader
		r.Reset(c)
		for rest := bytes.Clone(b); len(rest) > 0; {
			ev, n, err := r.Next(rest)
			if err != nil {
				break
			}
			if int64(len(ev.Payload)) > c.MaxMessage && ev.Op < OpClose || len(ev.Payload) > 125 && ev.Op >= OpClose {
				t.Fatalf("%v with %d bytes", ev.Op, len(ev.Payload))
			}
			if (ev.Op == OpText || ev.Op == OpClose) && !utf8.Valid(ev.Payload) {
				t.Fatalf("%v with %q", ev.Op, ev.Payload)
			}
			rest = rest[n:]
		}
		if r.Held() > 2*len(b)+128+2*int(c.MaxMessage)+4*len(b) {
			t.Fatalf("holds %d bytes after %d", r.Held(), len(b))
		}
	})
}

func FuzzRequest(f *testing.F) {
	policy := &Policy{Deflate: true, Subprotocols: []string{"a"}, Origins: []string{"https://*.example.com"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		r, n, err := parseSplit(t, string(b), 2000)
		if err != nil || n == 0 {
			return
		}
		if !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
			t.Fatalf("head ends with %q", b[:n])
		}
		// Everything may be asked of it.
		if len(r.Path()) == 0 || len(r.Method()) == 0 {
			t.Fatalf("%q has no path or method", b)
		}
		_, _ = r.Query(), r.Host()
		h, ref := Negotiate(&r, policy)
		if (ref == nil) != (h.accept[0] != 0) {
			t.Fatalf("%+v, %v", h, ref)
		}
		if ref == nil {
			res := AppendResponse(nil, &h, "")
			p, k, err := ParseResponse(res, 0)
			if k != len(res) || err != nil {
				t.Fatalf("our response %q: %d, %v", res, k, err)
			}
			d := &Dial{Deflate: true, Subprotocols: []string{"a"}}
			if reason := d.check(&p, [16]byte{}, new(Handshake)); reason != "" && !strings.HasPrefix(reason, "Sec-WebSocket-Accept") {
				t.Fatalf("our client refuses %q: %s", res, reason)
			}
		} else if p, k, err := ParseResponse(AppendRefusal(nil, ref), 0); k == 0 || err != nil || p.Status() != ref.Status {
			t.Fatalf("our refusal: %d, %v", k, err)
		}
		// If net/http takes it too, it sees the same.
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(b, []byte("\r\n")))))
		if err != nil {
			return
		}
		if std.Method != string(r.Method()) || std.RequestURI != string(r.Target()) {
			t.Fatalf("%q: net/http sees %s %s", b, std.Method, std.RequestURI)
		}
		for name, values := range std.Header {
			i := 0
			for v := range r.Values(name) {
				if i >= len(values) || values[i] != string(v) {
					t.Fatalf("%q: %s is %q for net/http, %q here", b, name, values, v)
				}
				i++
			}
			if i != len(values) {
				t.Fatalf("%q: %s is there %d times, net/http says %d", b, name, i, len(values))
			}
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, n, err := ParseResponse(b, 2000)
		for i := range b {
			q, k, e := ParseResponse(b[:i], 2000)
			if e != nil && (err == nil || e.Error() != err.Error()) || k != 0 && (k != n || q.Status() != p.Status()) {
				t.Fatalf("%q: %d, %v; %d bytes of it: %d, %v", b, n, err, i, k, e)
			}
			if e != nil {
				break
			}
		}
		if n == 0 || err != nil {
			return
		}
		d := &Dial{Deflate: true, Subprotocols: []string{"a", "b"}}
		h, err := d.Check(&p, sampleNonce)
		if err != nil {
			if h != (Handshake{}) {
				t.Fatalf("%+v with %v", h, err)
			}
			return
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			t.Fatalf("%q is good, and net/http says %v", b, err)
		}
		if std.StatusCode != 101 || std.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || std.Header.Get("Sec-WebSocket-Protocol") != h.Subprotocol {
			t.Fatalf("%q is not good", b)
		}
	})
}

// The grammar of RFC 6455 section 9.1 as a regular expression.
var extensionList = func() *regexp.Regexp {
	const tok = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]"
	const ows = `[ \t]*`
	param := tok + `+(?:` + ows + `=` + ows + `(?:` + tok + `+|"(?:` + tok + `|\\` + tok + `)+"))?`
	ext := tok + `+(?:` + ows + `;` + ows + param + `)*`
	return regexp.MustCompile(`^(?:` + ows + `,)*` + ows + ext + `(?:` + ows + `,(?:` + ows + ext + `)?)*` + ows + `$`)
}()

func FuzzExtensions(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		if !all([]byte(s), isValue) || len(s) > 2000 {
			return
		}
		h, ref := negotiate(t, shake("+Sec-WebSocket-Extensions: "+s), &Policy{Deflate: true})
		if want := extensionList.MatchString(s); (ref == nil) != want {
			t.Fatalf("%q: %v, the grammar says %v", s, ref, want)
		}
		if ref != nil {
			return
		}
		if d := h.Deflate; d.On != (d.Window != 0) || d.On && (d.Window < 8 || d.Window > 15) {
			t.Fatalf("%q: %+v", s, d)
		}
		if h.Deflate.On && !strings.Contains(s, deflateName) {
			t.Fatalf("%q: agreed to what was not offered", s)
		}
	})
}

func FuzzInflate(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		out, err := Inflate(nil, b, int64(limit)+1)
		slow, _, slowErr := slowInflate(b, int(limit)+1)
		if err == nil {
			if slowErr != nil || !bytes.Equal(out, slow) {
				t.Fatalf("% x: %d bytes, slowInflate %d, %v", b, len(out), len(slow), slowErr)
			}
		} else if len(out) != 0 {
			t.Fatalf("% x: %d bytes with %v", b, len(out), err)
		}
		// The other way round: what is data is compressed and comes back.
		for _, w := range []uint8{8, 15} {
			z := Compress(nil, b, w)
			back, err := Inflate(nil, z, int64(len(b)))
			if err != nil || !bytes.Equal(back, b) {
				t.Fatalf("% x, window %d: comes back as % x, %v", b, w, back, err)
			}
			std, err := io.ReadAll(flate.NewReader(bytes.NewReader(append(z, "\x00\x00\xff\xff\x01\x00\x00\xff\xff"...))))
			if err != nil || !bytes.Equal(std, b) {
				t.Fatalf("% x, window %d: compress/flate has % x, %v", b, w, std, err)
			}
		}
	})
}

func FuzzUTF8(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, i, j uint8) {
		if len(b) > 300 {
			return
		}
		checkUTF8(t, b)
		x, y := min(int(i), len(b)), min(int(j), len(b))
		x, y = min(x, y), max(x, y)
		var u UTF8
		ok := u.Write(b[:x]) && u.Write(b[x:y]) && u.Write(b[y:])
		if got, want := ok && u.Complete(), utf8.Valid(b); got != want {
			t.Fatalf("% x split at %d, %d: %v, want %v", b, x, y, got, want)
		}
	})
}
