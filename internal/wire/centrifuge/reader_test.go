package centrifuge

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestReaderJSON(t *testing.T) {
	many := func(n int, entry string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, entry, i)
		}
		return b.String()
	}
	for _, c := range []struct {
		in, want string // commands, or the error
	}{
		{"", ""},
		{" \n\n ", ""},
		{"{}", "0 none"},
		{"\n{}\n", "0 none"},
		{`{"id":7}`, "7 none"},
		{`{"id":null,"connect":null}`, "0 none"},
		{`{"id":1,"connect":{}}` + "\r\n" + `{"id":2,"ping":{}} {"send":{"data":"x"}}`, `1 connect|2 ping|0 send data="x"`},
		{`{"id":1}{"id":2}`, errSeparator.Error()},
		{`{"id":1},{"id":2}`, errSeparator.Error()},
		{`{"subscribe":{"channel":"c"},"id":2}`, "2 subscribe channel=c"},
		{`{"id":1,"id":2,"presence":{"channel":"a","channel":"b"}}`, "2 presence channel=b"},
		{`{"id":1,"subscribe":{},"publish":{}}`, errMethods.Error()},
		{`{"id":1,"ping":{},"ping":{}}`, errMethods.Error()},
		{`{"id":1,"subscribe":{},"publish":null}`, "1 subscribe"},
		{`{"id":1,"dance":{"x":[1]}}`, "1 unknown"},
		{`{"id":1,"dance":{},"ping":{}}`, "1 ping"},
		{`{"id":1,"dance":7,"\u0070ing":null}`, "1 none"},
		{`{"id":1,"connect":{"token":null,"data":null,"subs":null,"headers":null,"name":"js","version":"5","flag":3,"more":[1]}}`,
			"1 connect name=js version=5"},
		{`{"id":1,"connect":{"data":{"a":[1, 2]},"subs":{"a\n":{"recover":true,"epoch":"e","offset":18446744073709551615},"b":null,"c":{}},` +
			`"headers":{"x-\u0041":"1","y":null}}}`,
			`1 connect data={"a":[1, 2]} sub(a` + "\n" + ` recover offset=-1 epoch=e) sub(b) sub(c) header(x-A: 1) header(y: )`},
		{`{"id":2,"subscribe":{"channel":"\ud83d\ude00\"x","token":"t","data":[],"recover":false,"positioned":true,"recoverable":true,` +
			`"join_leave":true,"delta":"fossil","flag":3,"type":1,"tf":{"op":"and"}}}`,
			`2 subscribe channel=😀"x token=t data=[] positioned recoverable join_leave delta=fossil flag=3 type=1 filter`},
		{`{"id":3,"history":{"channel":"c","limit":-1,"since":{"offset":3,"epoch":"e","x":1},"reverse":true}}`,
			"3 history channel=c limit=-1 since(3 e) reverse"},
		{`{"id":3,"history":{"channel":"c","since":{}}}`, "3 history channel=c since(0 )"},
		{`{"id":4,"sub_refresh":{"channel":"c","token":"t","type":2}}`, "4 sub_refresh channel=c token=t type=2"},
		{`{"id":4,"unsubscribe":{"channel":"c","token":"t"}}`, "4 unsubscribe channel=c"},
		{`{"id":5,"connect":{"subs":{` + many(maxSubs+1, `"c%d":{}`) + `}}}`, errSubs.Error()},
		{`{"id":5,"connect":{"headers":{` + many(maxHeaders+1, `"h%d":""`) + `}}}`, errHeaders.Error()},
		{`{"id":4294967296}`, "json: a value of another type or range than expected"},
		{`{"id":-1}`, "json: a value of another type or range than expected"},
		{`{"id":"1"}`, "json: a value of another type or range than expected"},
		{`{"id":1,"ping":[]}`, "json: a value of another type or range than expected"},
		{`{"id":1,"presence":{"channel":5}}`, "json: a value of another type or range than expected"},
		{`{"id":1,"history":{"limit":2147483648}}`, "json: a value of another type or range than expected"},
		{`{"id":1,"subscribe":{"recover":1}}`, "json: a value of another type or range than expected"},
		{`[]`, "json: a value of another type or range than expected"},
		{`{"id":1,"ping":{}`, "json: syntax error"},
		{`{"id":1,"ping":{},}`, "json: syntax error"},
		{`{"id":01}`, "json: syntax error"},
		{`{"id":1,"rpc":{"data":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}}`, "json: nested too deeply"},
	} {
		var r Reader
		commands, err := readAll(&r, JSON, []byte(c.in))
		got := strings.Join(commands, "|")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%.200s\n got %s\nwant %s", c.in, got, c.want)
		}
		if err == nil {
			continue
		}
		if _, again := r.Next(); again != err {
			t.Errorf("%.200s: the error %v became %v", c.in, err, again)
		}
	}
}

// message appends a message after its length.
func message(fields ...[]byte) []byte { return protowire.AppendBytes(nil, slices.Concat(fields...)) }

func bytesField(n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
}

func varintField(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func nested(n protowire.Number, fields ...[]byte) []byte {
	return bytesField(n, string(slices.Concat(fields...)))
}

func TestReaderProtobuf(t *testing.T) {
	fixed := protowire.AppendFixed64(protowire.AppendTag(nil, 40, protowire.Fixed64Type), 1)
	fixed = protowire.AppendFixed32(protowire.AppendTag(fixed, 41, protowire.Fixed32Type), 1)
	group := protowire.AppendTag(protowire.AppendTag(nil, 42, protowire.StartGroupType), 42, protowire.EndGroupType)
	minusOne := ^uint64(0)
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"nothing", nil, ""},
		{"a pong", []byte{0}, "0 none"},
		{"two pongs", []byte{0, 0}, "0 none|0 none"},
		{"a length too long", []byte{2, 8}, errLength.Error()},
		{"a length without end", bytes.Repeat([]byte{0xff}, 12), errLength.Error()},
		{"an id", message(varintField(1, 7)), "7 none"},
		{"a method", message(varintField(1, 7), nested(6, bytesField(1, "c"))), "7 unsubscribe channel=c"},
		{"two methods", message(nested(6), nested(7)), errMethods.Error()},
		{"an unknown method", message(varintField(1, 7), nested(33, fixed)), "7 unknown"},
		{"an unknown number", message(varintField(1, 7), varintField(33, 1), fixed), "7 none"},
		{"unknown fields", message(varintField(1, 7), fixed, nested(13, bytesField(2, "m"), fixed, varintField(90, 1), bytesField(91, "x"))),
			"7 rpc method=m"},
		{"a group", message(group), errField.Error()},
		{"an id of another type", message(bytesField(1, "7")), errField.Error()},
		{"a method of another type", message(varintField(4, 7)), errField.Error()},
		{"a string of another type", message(nested(6, varintField(1, 7))), errField.Error()},
		{"a number of another type", message(nested(10, bytesField(7, "x"))), errField.Error()},
		{"a number as fixed", message(nested(5, protowire.AppendFixed64(protowire.AppendTag(nil, 7, protowire.Fixed64Type), 1))), errField.Error()},
		{"a channel that is not UTF-8", message(nested(6, bytesField(1, "\xff"))), errUTF8.Error()},
		{"data that is not UTF-8", message(nested(12, bytesField(1, "\xff\x00"))), "0 send data=\xff\x00"},
		{"a field cut off", message(nested(6, []byte{0x0a, 5, 'c'})), errField.Error()},
		{"history", message(nested(10, bytesField(1, "c"), varintField(7, minusOne), nested(8, varintField(1, 3), bytesField(2, "e")), varintField(9, 1))),
			"0 history channel=c limit=-1 since(3 e) reverse"},
		{"connect", message(nested(4, bytesField(1, "t"), nested(3, bytesField(1, "a"), nested(2, varintField(3, 1), varintField(7, 5))),
			nested(3, nested(2), bytesField(1, "b")), nested(3), nested(6, bytesField(1, "h"), bytesField(2, "v")), varintField(7, 1))),
			"0 connect token=t sub(a recover offset=5) sub(b) sub() header(h: v)"},
		{"an entry of another type", message(nested(4, nested(3, varintField(1, 1)))), errField.Error()},
		{"a key that is not UTF-8", message(nested(4, nested(6, bytesField(1, "\xff")))), errUTF8.Error()},
		{"a header that is not UTF-8", message(nested(4, nested(6, bytesField(2, "\xff")))), errUTF8.Error()},
		{"too many subs", message(nested(4, bytes.Repeat(nested(3), maxSubs+1))), errSubs.Error()},
		{"too many headers", message(nested(4, bytes.Repeat(nested(6), maxHeaders+1))), errHeaders.Error()},
		{"a filter", message(nested(5, nested(13), varintField(15, 2))), "0 subscribe type=2 filter"},
	} {
		var r Reader
		commands, err := readAll(&r, Protobuf, c.in)
		got := strings.Join(commands, "|")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestReaderRest reads one command and hands the rest to another Reader.
func TestReaderRest(t *testing.T) {
	for f, in := range map[Format]string{
		JSON:     "{\"id\":1}\n{\"id\":2}\n{\"id\":3}",
		Protobuf: string(slices.Concat(message(varintField(1, 1)), message(varintField(1, 2)), message(varintField(1, 3)))),
	} {
		var first, second Reader
		first.Reset(f, []byte(in))
		if c, err := first.Next(); err != nil || c.ID != 1 {
			t.Fatalf("%v, %v", c, err)
		}
		rest, err := readAll(&second, f, first.Rest())
		if got := strings.Join(rest, "|"); err != nil || got != "2 none|3 none" {
			t.Errorf("the rest is %s, %v", got, err)
		}
		if got, err := first.Next(); err != nil || got.ID != 2 {
			t.Errorf("the first reader goes on with %v, %v", got, err)
		}
	}
}

// TestReaderReuse sees that nothing of a command is left in the next.
func TestReaderReuse(t *testing.T) {
	var r Reader
	full := `{"id":1,"connect":{"token":"t\n","data":{},"name":"n","version":"v","subs":{"a":{"recover":true}},"headers":{"h":"v"}}}`
	for _, in := range []string{full, `{"id":2,"history":{"channel":"c","limit":1,"since":{"offset":1,"epoch":"e"},"reverse":true}}`,
		`{"id":3,"subscribe":{"recover":true,"offset":1,"epoch":"e","delta":"d","flag":1,"type":1,"tf":{}}}`} {
		commands, err := readAll(&r, JSON, []byte(in+"\n{}"))
		if err != nil || len(commands) != 2 || commands[1] != "0 none" {
			t.Errorf("%v, %v", commands, err)
		}
	}
	r.Reset(Protobuf, message(nested(4, nested(3, bytesField(1, "b")))))
	c, err := r.Next()
	if err != nil || describe(c) != "0 connect sub(b)" {
		t.Errorf("%v, %v", c, err)
	}
	r.Reset(JSON, nil)
	if subs := r.cmd.Subs[:1]; subs[0].Channel != nil {
		t.Error("a Reader that was reset holds on to its last message")
	}
	if c, err := r.Next(); c != nil || err != io.EOF {
		t.Errorf("an empty message has %v, %v", c, err)
	}
}

// A random command is written in both formats, with encoders that share nothing with the Reader, and has to be the
// same in both.
type encoders struct {
	rand *rand.Rand
	json map[string]any
	pb   []byte
}

func (e *encoders) maybe() bool { return e.rand.IntN(3) > 0 }

func (e *encoders) text(n protowire.Number, name string) {
	if !e.maybe() {
		return
	}
	words := []string{"", "news", "a:b#1", "é😀", "quote\"back\\slash\n\x01", strings.Repeat("long", 60)}
	s := words[e.rand.IntN(len(words))]
	e.json[name] = s
	e.pb = append(e.pb, bytesField(n, s)...)
}

func (e *encoders) data(n protowire.Number, name string) {
	if !e.maybe() {
		return
	}
	values := []string{`{}`, `[1,2,{"a":null}]`, `"x"`, `-1.5e3`, `true`, `{"k":"` + strings.Repeat("v", 200) + `"}`}
	v := values[e.rand.IntN(len(values))]
	e.json[name] = stdjson.RawMessage(v)
	e.pb = append(e.pb, bytesField(n, v)...)
}

func (e *encoders) truth(n protowire.Number, name string) {
	if e.maybe() {
		v := e.rand.IntN(2)
		e.json[name] = v == 1
		e.pb = append(e.pb, varintField(n, uint64(v))...)
	}
}

func (e *encoders) number(n protowire.Number, name string, values ...int64) {
	if e.maybe() {
		v := values[e.rand.IntN(len(values))]
		e.json[name] = v
		e.pb = append(e.pb, varintField(n, uint64(v))...)
	}
}

// inner encodes a message within, and returns it in both formats.
func (e *encoders) inner(fields func(*encoders)) (map[string]any, []byte) {
	in := &encoders{rand: e.rand, json: map[string]any{}}
	fields(in)
	return in.json, in.pb
}

func (e *encoders) options() {
	e.truth(3, "recover")
	e.text(6, "epoch")
	e.number(7, "offset", 0, 1, 1<<40)
	e.truth(9, "positioned")
	e.truth(10, "recoverable")
	e.truth(11, "join_leave")
	e.text(12, "delta")
	e.number(14, "flag", 0, 1, 2, 3, -1)
	e.number(15, "type", 0, 1, -5)
}

func (e *encoders) command() (inJSON, inProtobuf []byte) {
	type method struct {
		n      protowire.Number
		name   string
		fields func(*encoders)
	}
	channel := func(e *encoders) { e.text(1, "channel") }
	methods := []method{
		{4, "connect", func(e *encoders) {
			e.text(1, "token")
			e.data(2, "data")
			e.text(4, "name")
			e.text(5, "version")
			// One entry: encoding/json would sort more of them.
			if e.maybe() {
				j, p := e.inner((*encoders).options)
				e.json["subs"] = map[string]any{"a\"b": j}
				e.pb = append(e.pb, nested(3, bytesField(1, "a\"b"), bytesField(2, string(p)))...)
			}
			if e.maybe() {
				e.json["headers"] = map[string]any{"h\n": "v\n"}
				e.pb = append(e.pb, nested(6, bytesField(1, "h\n"), bytesField(2, "v\n"))...)
			}
		}},
		{5, "subscribe", func(e *encoders) {
			channel(e)
			e.text(2, "token")
			e.data(8, "data")
			e.options()
		}},
		{6, "unsubscribe", channel},
		{7, "publish", func(e *encoders) { channel(e); e.data(2, "data") }},
		{8, "presence", channel},
		{9, "presence_stats", channel},
		{10, "history", func(e *encoders) {
			channel(e)
			e.number(7, "limit", 0, 1, -1, 1<<31-1, -1<<31)
			if e.maybe() {
				j, p := e.inner(func(e *encoders) { e.number(1, "offset", 0, 7); e.text(2, "epoch") })
				e.json["since"] = j
				e.pb = append(e.pb, nested(8, p)...)
			}
			e.truth(9, "reverse")
		}},
		{11, "ping", func(*encoders) {}},
		{12, "send", func(e *encoders) { e.data(1, "data") }},
		{13, "rpc", func(e *encoders) { e.data(1, "data"); e.text(2, "method") }},
		{14, "refresh", func(e *encoders) { e.text(1, "token") }},
		{15, "sub_refresh", func(e *encoders) { channel(e); e.text(2, "token") }},
		{77, "dance", func(e *encoders) { e.text(1, "step") }},
	}
	m := methods[e.rand.IntN(len(methods))]
	e.number(1, "id", 0, 1, 127, 128, 1<<32-1)
	j, p := e.inner(m.fields)
	e.json[m.name] = j
	e.pb = append(e.pb, bytesField(m.n, string(p))...)
	inJSON, err := stdjson.Marshal(e.json)
	if err != nil {
		panic(err)
	}
	return inJSON, message(e.pb)
}

func TestFormatsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var one, other Reader
	seen := map[string]bool{}
	for range 5000 {
		j, p := (&encoders{rand: r, json: map[string]any{}}).command()
		a, err := readAll(&one, JSON, j)
		if err != nil {
			t.Fatalf("%s: %v", j, err)
		}
		b, err := readAll(&other, Protobuf, p)
		if err != nil {
			t.Fatalf("%x: %v", p, err)
		}
		if len(a) != 1 || !slices.Equal(a, b) {
			t.Fatalf("JSON     %q\nProtobuf %q", a, b)
		}
		seen[a[0]] = true
	}
	if len(seen) < 1000 {
		t.Errorf("only %d different commands were tried", len(seen))
	}
}

func TestReaderAllocates(t *testing.T) {
	in := map[Format][]byte{
		JSON: []byte(`{"id":1,"connect":{"token":"t\u0041","subs":{"a":{"recover":true},"b":{}},"headers":{"h":"v"}}}` + "\n" +
			`{"id":2,"subscribe":{"channel":"c","recover":true,"offset":1,"epoch":"e"}}` + "\n" +
			`{"id":3,"publish":{"channel":"c\n","data":{"x":[1,2,3]}}}` + "\n{}"),
		Protobuf: slices.Concat(
			message(varintField(1, 1), nested(4, bytesField(1, "t"), nested(3, bytesField(1, "a"), nested(2, varintField(3, 1))), nested(6, bytesField(1, "h")))),
			message(varintField(1, 2), nested(5, bytesField(1, "c"), varintField(3, 1), bytesField(6, "e"))),
			message(varintField(1, 3), nested(7, bytesField(1, "c"), bytesField(2, "data"))),
			[]byte{0}),
	}
	for f, b := range in {
		var r Reader
		if n := testing.AllocsPerRun(100, func() {
			r.Reset(f, b)
			for range 4 {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("format %d: four commands allocate %v times", f, n)
		}
	}
}

// seeds fails where the seeds of a fuzz target are gone: it would pass without having tried anything.
func seeds(f *testing.F, target string) {
	if seeds, err := filepath.Glob("testdata/fuzz/" + target + "/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
}

// FuzzReaderJSON holds the Reader against encoding/json: what it takes is JSON, and has as many objects.
func FuzzReaderJSON(f *testing.F) {
	seeds(f, "FuzzReaderJSON")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var r Reader
		commands, err := readAll(&r, JSON, b[:len(b):len(b)])
		if !bytes.Equal(b, before) {
			t.Fatalf("the message %q became %q", before, b)
		}
		if err != nil {
			return
		}
		d := stdjson.NewDecoder(bytes.NewReader(b))
		for i := range commands {
			var object map[string]stdjson.RawMessage
			if err := d.Decode(&object); err != nil {
				t.Fatalf("took %q, but encoding/json says of command %d: %v", b, i, err)
			}
		}
		if err := d.Decode(new(any)); err != io.EOF {
			t.Fatalf("took %q, but encoding/json sees more after %d commands: %v", b, len(commands), err)
		}
	})
}

// FuzzReaderProtobuf holds the Reader against a plain walk over the lengths.
func FuzzReaderProtobuf(f *testing.F) {
	seeds(f, "FuzzReaderProtobuf")
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var r Reader
		commands, err := readAll(&r, Protobuf, b[:len(b):len(b)])
		if !bytes.Equal(b, before) {
			t.Fatalf("the message %x became %x", before, b)
		}
		if err != nil {
			return
		}
		for i := range commands {
			m, n := protowire.ConsumeBytes(b)
			if n < 0 {
				t.Fatalf("took %x, but there is no command %d", before, i)
			}
			b = b[n:]
			for len(m) > 0 {
				_, _, n := protowire.ConsumeField(m)
				if n < 0 {
					t.Fatalf("took %x, but command %d is malformed", before, i)
				}
				m = m[n:]
			}
		}
		if len(b) > 0 {
			t.Fatalf("took %x, but left %x", before, b)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, c := range []struct {
		name string
		f    Format
		in   []byte
	}{
		{"json/publish", JSON, []byte(`{"id":3,"publish":{"channel":"chat:index","data":{"text":"hello, world","at":1700000000}}}`)},
		{"json/connect", JSON, []byte(`{"id":1,"connect":{"token":"` + strings.Repeat("x", 200) + `","name":"js"}}`)},
		{"json/pong", JSON, []byte(`{}`)},
		{"protobuf/publish", Protobuf, message(varintField(1, 3), nested(7, bytesField(1, "chat:index"), bytesField(2, `{"text":"hello, world","at":1700000000}`)))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.in)))
			var r Reader
			for b.Loop() {
				r.Reset(c.f, c.in)
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
