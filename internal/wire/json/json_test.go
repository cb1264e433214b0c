package json

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValid(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		in string
		ok bool
	}{
		{`{}`, true},
		{` { "a" : [ 1 , -0.5e+3 , "x\u00e9\n" , { } , [ ] , null , true , false ] } `, true},
		{`"é"`, true},
		{`0`, true},
		{`{"a":{"b":[{"c":[]}]},"d":[[],{}]}`, true},
		{deep(MaxDepth), true},
		{deep(MaxDepth + 1), false},
		{``, false},
		{` `, false},
		{`{`, false},
		{`{]`, false},
		{`[}`, false},
		{`[1,]`, false},
		{`[,1]`, false},
		{`{"a":1,}`, false},
		{`{"a"}`, false},
		{`{1:2}`, false},
		{`[1}`, false},
		{`{"a":[1}]`, false},
		{`01`, false},
		{`1.`, false},
		{`-`, false},
		{`1e`, false},
		{`+1`, false},
		{`nul`, false},
		{`truex`, false},
		{`1 2`, false},
		{`"\x"`, false},
		{`"\u12g4"`, false},
		{`"\u12`, false},
		{`"a`, false},
		{"\"a\nb\"", false},
		{"\"\xff\"", false},
	} {
		if got := Valid([]byte(c.in)); got != c.ok {
			t.Errorf("Valid(%.60s) = %v, want %v", c.in, got, c.ok)
		}
	}
}

// TestWalker takes an object apart.
func TestWalker(t *testing.T) {
	in := ` { "id" : 7 , "none" : null , "sub" : { "name" : "a\u0041\"\ud83d\ude00" , "on" : true , "off" : false } , "empty" : { } ,` +
		` "big" : 18446744073709551615 , "least" : -9223372036854775808 , "raw" : [ 1 , {"x":2} ] } `
	w := Walk([]byte(in), 4)
	var got []string
	var buf []byte
	note := func(v any) { got = append(got, fmt.Sprintf("%s=%v", w.Key(), v)) }
	w.Object()
	for w.Member() {
		if w.Null() {
			note("null")
			continue
		}
		switch string(w.Key()) {
		case "id":
			note(w.Uint32())
		case "sub":
			w.Object()
			for w.Member() {
				if string(w.Key()) == "name" {
					note(string(w.Text(&buf)))
				} else {
					note(w.Bool())
				}
			}
		case "empty":
			w.Object()
			for w.Member() {
				t.Errorf("a member %q in an empty object", w.Key())
			}
		case "big":
			note(w.Uint64())
		case "least":
			note(w.Int64())
		case "raw":
			note(string(w.Value()))
		}
	}
	if !w.End() || w.Err() != nil {
		t.Fatalf("end = %v, error = %v", w.End(), w.Err())
	}
	want := `id=7|none=null|name=aA"😀|on=true|off=false|big=18446744073709551615|least=-9223372036854775808|raw=[ 1 , {"x":2} ]`
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

// TestTypes asks for types that are not there.
func TestTypes(t *testing.T) {
	takes := map[string]func(*Walker){
		"uint64": func(w *Walker) { w.Uint64() },
		"uint32": func(w *Walker) { w.Uint32() },
		"int64":  func(w *Walker) { w.Int64() },
		"int32":  func(w *Walker) { w.Int32() },
		"bool":   func(w *Walker) { w.Bool() },
		"string": func(w *Walker) { w.Raw() },
		"object": func(w *Walker) {
			w.Object()
			for w.Member() {
				w.Value()
			}
		},
	}
	for _, c := range []struct {
		in, ok string // ok: the types it has
		err    error  // what the others say
	}{
		{`0`, "uint64 uint32 int64 int32", ErrType},
		{`4294967295`, "uint64 uint32 int64", ErrType},
		{`4294967296`, "uint64 int64", ErrType},
		{`18446744073709551615`, "uint64", ErrType},
		{`18446744073709551616`, "", ErrType},
		{`9223372036854775807`, "uint64 int64", ErrType},
		{`9223372036854775808`, "uint64", ErrType},
		{`-1`, "int64 int32", ErrType},
		{`-2147483648`, "int64 int32", ErrType},
		{`-9223372036854775808`, "int64", ErrType},
		{`-9223372036854775809`, "", ErrType},
		{`1.0`, "", ErrType},
		{`1e3`, "", ErrType},
		{`01`, "", ErrSyntax},
		{`-`, "", ErrSyntax},
		{`-x`, "", ErrSyntax},
		{`true`, "bool", ErrType},
		{`"1"`, "string", ErrType},
		{`{"a":1}`, "object", ErrType},
		{`null`, "", ErrType},
		{`nul`, "", ErrSyntax},
		{``, "", ErrSyntax},
	} {
		for name, take := range takes {
			w := Walk([]byte(c.in), 4)
			take(&w)
			if strings.Contains(" "+c.ok+" ", " "+name+" ") {
				if w.Err() != nil || !w.End() {
					t.Errorf("%s as %s: %v", c.in, name, w.Err())
				}
				continue
			}
			// A number that is none by its second digit is found out at the end by whoever asked for a number.
			if err := w.Err(); !errors.Is(err, c.err) && (err == nil && w.End() || c.err == ErrType) {
				t.Errorf("%s as %s: %v, want %v", c.in, name, err, c.err)
			}
			if w.Member() || w.Value() != nil || w.Raw() != nil || w.Bool() || w.Int64() != 0 {
				t.Errorf("%s as %s: something comes after the error", c.in, name)
			}
		}
	}
}

func TestUnescape(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{``, ""},
		{`plain é`, "plain é"},
		{`\"\\\/\b\f\n\r\t`, "\"\\/\b\f\n\r\t"},
		{`\u0041\u00e9\u20aC`, "Aé€"},
		{`x\ud83d\ude00y`, "x😀y"},
		{`\ud83d`, "\uFFFD"},
		{`\ude00`, "\uFFFD"},
		{`\ud83d\ud83d\ude00`, "\uFFFD😀"},
		{`\ud83dx`, "\uFFFDx"},
		{`\ud83d\n`, "\uFFFD\n"},
		{`\ud83d\u0041`, "\uFFFDA"},
		{`\u0000`, "\x00"},
	} {
		if got := string(Unescape([]byte("-"), []byte(c.raw))); got != "-"+c.want {
			t.Errorf("Unescape(%s) = %q, want %q", c.raw, got, "-"+c.want)
		}
		var std string
		if err := json.Unmarshal([]byte(`"`+c.raw+`"`), &std); err != nil || std != c.want {
			t.Errorf("encoding/json has %q, %v for %s; the table %q", std, err, c.raw, c.want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`},
		{"news", `"news"`},
		{"a\"b\\c\nd\re\tf\x00g\x1f", `"a\"b\\c\nd\re\tf\u0000g\u001f"`},
		{"é😀\u2028", `"é😀` + "\u2028" + `"`},
		{"a\xffb\xc3", `"a` + "\uFFFD" + `b` + "\uFFFD" + `"`},
	} {
		if got := string(AppendString(nil, c.in)); got != c.want {
			t.Errorf("AppendString(%q) = %s, want %s", c.in, got, c.want)
		}
		if got := string(AppendString([]byte("x"), []byte(c.in))); got != "x"+c.want {
			t.Errorf("AppendString of bytes %q = %s, want x%s", c.in, got, c.want)
		}
	}
}

func TestAppendCompact(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a":1}`, `{"a":1}`},
		{"{\n  \"a\\n\": 1\r\n}", `{   "a\n": 1  }`},
	} {
		// The line break that is there already is none of ours.
		if got := string(AppendCompact([]byte("x\n"), []byte(c.in))); got != "x\n"+c.want {
			t.Errorf("AppendCompact(%q) = %q, want %q", c.in, got, "x\n"+c.want)
		}
	}
}

func TestAllocations(t *testing.T) {
	doc := []byte(`{"id":7,"name":"a\u0041","data":{"x":[1,2,{"y":null}]},"on":true}`)
	buf := make([]byte, 0, 64)
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		if !Valid(doc) {
			t.Fatal("not valid")
		}
		w := Walk(doc, 8)
		w.Object()
		for w.Member() {
			switch string(w.Key()) {
			case "id":
				w.Uint32()
			case "name":
				out = AppendString(out[:0], w.Text(&buf))
				buf = buf[:0]
			case "data":
				out = AppendCompact(out[:0], w.Value())
			case "on":
				w.Bool()
			}
		}
		if w.Err() != nil {
			t.Fatal(w.Err())
		}
	}); n != 0 {
		t.Errorf("a walk allocates %v times", n)
	}
}

// seeds fails where the seeds of a fuzz target are gone: it would pass without having tried anything.
func seeds(f *testing.F, target string) {
	if seeds, err := filepath.Glob("testdata/fuzz/" + target + "/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
}

// FuzzValid holds Valid against encoding/json, and a walk through an object against Valid.
func FuzzValid(f *testing.F) {
	seeds(f, "FuzzValid")
	f.Fuzz(func(t *testing.T, b []byte) {
		w := Walk(b, MaxDepth)
		value := w.Value()
		if errors.Is(w.Err(), ErrDeep) {
			return
		}
		want := json.Valid(b)
		if got := w.End() && w.Err() == nil; got != want {
			t.Fatalf("%q: %v (%v), want %v", b, got, w.Err(), want)
		}
		if got := Valid(b); got != (want && utf8.Valid(b)) {
			t.Fatalf("Valid(%q) = %v", b, got)
		}
		if !want {
			return
		}
		if trimmed := bytes.Trim(b, " \t\r\n"); !bytes.Equal(value, trimmed) {
			t.Fatalf("the value of %q is %q", b, value)
		}
		var compact, std bytes.Buffer
		if err := json.Compact(&std, b); err != nil {
			t.Fatal(err)
		}
		one := AppendCompact(nil, b)
		if bytes.ContainsAny(one, "\r\n") {
			t.Fatalf("%q has a line break", one)
		}
		if err := json.Compact(&compact, one); err != nil || !bytes.Equal(compact.Bytes(), std.Bytes()) {
			t.Fatalf("%q became %q: %v", b, one, err)
		}
		if value[0] != '{' {
			return
		}
		w = Walk(b, MaxDepth)
		w.Object()
		for w.Member() {
			if v := w.Value(); w.Err() == nil && !json.Valid(v) {
				t.Fatalf("%q has a member %q", b, v)
			}
		}
		if !w.End() || w.Err() != nil {
			t.Fatalf("a walk through %q: %v", b, w.Err())
		}
	})
}

// FuzzString holds the two directions of a string against encoding/json.
func FuzzString(f *testing.F) {
	seeds(f, "FuzzString")
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendString(nil, s)
		if !utf8.Valid(quoted) || bytes.IndexByte(quoted, '\n') >= 0 {
			t.Fatalf("%q is not fit for a text frame", quoted)
		}
		var std string
		if err := json.Unmarshal(quoted, &std); err != nil || std != strings.ToValidUTF8(s, "\uFFFD") && utf8.ValidString(s) {
			t.Fatalf("encoding/json reads %s as %q: %v", quoted, std, err)
		}
		if both := AppendString(nil, []byte(s)); !bytes.Equal(both, quoted) {
			t.Fatalf("bytes as %s, a string as %s", both, quoted)
		}
		var buf []byte
		w := Walk(quoted, 1)
		if got := string(w.Text(&buf)); got != std || w.Err() != nil || !w.End() {
			t.Fatalf("%s is %q, encoding/json has %q: %v", quoted, got, std, w.Err())
		}
		// The same as text between quotes, which may have any escapes.
		text := []byte(`"` + s + `"`)
		w = Walk(text, 1)
		got := w.Text(&buf)
		if ok := w.Err() == nil && w.End(); ok != json.Valid(text) {
			t.Fatalf("%q: %v, encoding/json says %v", text, w.Err(), !ok)
		} else if ok && utf8.Valid(text) {
			if err := json.Unmarshal(text, &std); err != nil || string(got) != std || len(got) > len(s) {
				t.Fatalf("%s is %q, encoding/json has %q: %v", text, got, std, err)
			}
		}
	})
}

func BenchmarkValid(b *testing.B) {
	doc := []byte(`{"id":123456,"user":{"name":"someone","tags":["a","b","c"]},"text":"` + strings.Repeat("lorem ipsum ", 30) + `","at":1700000000.25}`)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if !Valid(doc) {
			b.Fatal("not valid")
		}
	}
}
