package plain

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		kind Kind
		ts   string
		err  error
	}{
		{in: `{"type":"ping","ts":1700000000000}`, kind: Ping, ts: "1700000000000"},
		{in: ` { "ts" : "a\u0041\"" , "type" : "ping" } `, kind: Ping, ts: `"a\u0041\""`},
		{in: `{"type":"ping"}`, kind: Ping},
		{in: `{"type":"pong","ts":-1.5e+3}`, kind: Pong, ts: "-1.5e+3"},
		{in: `{"type":"dance","x":{"y":[1,{"z":null}]}}`, kind: Unknown},
		{in: `{"type":7}`, kind: Unknown},
		{in: `{}`, err: ErrType},
		{in: ``, err: ErrSyntax},
		{in: `[]`, err: ErrSyntax},
		{in: `{"type":"ping"} x`, err: ErrSyntax},
		{in: `{"type":"ping",}`, err: ErrSyntax},
		{in: `{"type" "ping"}`, err: ErrSyntax},
		{in: `{"type":"ping","ts":01}`, err: ErrSyntax},
		{in: `{"type":"ping","ts":1.}`, err: ErrSyntax},
		{in: `{"type":"ping","ts":"\x"}`, err: ErrSyntax},
		{in: "{\"type\":\"pi\nng\"}", err: ErrSyntax},
		{in: `{"type":"ping","ts":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, err: ErrDeep},
	} {
		got, err := Parse([]byte(c.in))
		if !errors.Is(err, c.err) || err == nil && (got.Kind != c.kind || string(got.TS) != c.ts) {
			t.Errorf("Parse(%s) = %v ts %s, %v; want %v ts %s, %v", c.in, got.Kind, got.TS, err, c.kind, c.ts, c.err)
		}
	}
}

func TestReplies(t *testing.T) {
	if got, want := string(AppendPong(nil, []byte("12"))), `{"type":"pong","ts":12}`; got != want {
		t.Errorf("pong = %s, want %s", got, want)
	}
	if got, want := string(AppendPong(nil, nil)), `{"type":"pong"}`; got != want {
		t.Errorf("pong = %s, want %s", got, want)
	}
	for _, err := range []error{ErrSyntax, ErrType, ErrDeep} {
		if got := AppendError(nil, err.Error()); !json.Valid(got) {
			t.Errorf("error reply %s is not JSON", got)
		}
	}
}

func TestParseAllocates(t *testing.T) {
	in := []byte(`{"type":"ping","ts":1700000000000}`)
	out := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		c, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		out = AppendPong(out[:0], c.TS)
	}); n != 0 {
		t.Errorf("a ping and its pong allocate %v times", n)
	}
}

// FuzzParse holds the parser against encoding/json: what it takes is a JSON object, what it refuses is
// not one, or has no type, or is deep.
func FuzzParse(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzParse/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		object := json.Valid(b) && bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{"))
		if err == nil && !object {
			t.Fatalf("took %q, which is no JSON object", b)
		}
		if errors.Is(err, ErrSyntax) && object {
			t.Fatalf("refused %q, which is a JSON object", b)
		}
		if err == nil && c.TS != nil && !json.Valid(c.TS) {
			t.Fatalf("ts %q is not JSON", c.TS)
		}
	})
}
