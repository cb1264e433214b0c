package plain

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

func TestParseCommands(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // kind, id, channel, data, position
		err  error
	}{
		{in: `{"type":"subscribe","channel":"news"}`, want: "3  news   "},
		{in: `{"type":"subscribe","id":7,"channel":"a\u0041\ud83d\ude00","offset":18446744073709551615,"epoch":"x\n"}`, want: "3 7 aA😀  18446744073709551615 x\n"},
		{in: `{"type":"subscribe","id":null,"channel":"news","offset":null,"epoch":null}`, want: "3  news   "},
		{in: `{"type":"subscribe","id":"a","channel":"news","offset":0,"epoch":""}`, want: `3 "a" news  0 `},
		{in: `{"type":"unsubscribe","id":-1.5e3,"channel":"news"}`, want: "4 -1.5e3 news   "},
		{in: `{"type":"publish","id":1,"channel":"news","data":{"a": [1]}}`, want: `5 1 news {"a": [1]}  `},
		{in: `{"data":false,"channel":"news","type":"publish"}`, want: `5  news false  `},
		// What is not theirs is ignored, whatever it is.
		{in: `{"type":"ping","id":{},"channel":7,"offset":"x"}`, want: "1     "},
		{in: `{"type":"pong","id":[]}`, want: "2     "},
		{in: `{"type":"dance","id":3,"channel":7}`, want: "0 3    "},
		{in: `{"type":"publish","channel":"news","data":1,"offset":"x"}`, want: "5  news 1  "},

		{in: `{"id":3}`, want: "0 3    ", err: ErrType},
		{in: `{"type":null}`, want: "0     ", err: ErrType},
		{in: `{"type":"subscribe","id":true,"channel":"news"}`, want: "3     ", err: ErrID},
		{in: `{"type":"subscribe","id":3}`, want: "3 3    ", err: ErrChannel},
		{in: `{"type":"subscribe","id":3,"channel":""}`, want: "3 3    ", err: ErrChannel},
		{in: `{"type":"publish","id":3,"channel":["news"],"data":1}`, want: "5 3    ", err: ErrChannel},
		{in: `{"type":"publish","id":3,"channel":"news"}`, want: "5 3 news   ", err: ErrData},
		{in: `{"type":"publish","id":3,"channel":"news","data":null}`, want: "5 3 news   ", err: ErrData},
		{in: `{"type":"subscribe","id":3,"channel":"news","offset":1}`, want: "3 3 news   ", err: ErrPosition},
		{in: `{"type":"subscribe","id":3,"channel":"news","epoch":"e"}`, want: "3 3 news   ", err: ErrPosition},
		{in: `{"type":"subscribe","id":3,"channel":"news","offset":1,"epoch":2}`, want: "3 3 news   ", err: ErrPosition},
		{in: `{"type":"subscribe","id":3,"channel":"news","offset":-1,"epoch":"e"}`, want: "3 3 news   ", err: ErrPosition},
		{in: `{"type":"subscribe","id":3,"channel":"news","offset":1.5,"epoch":"e"}`, want: "3 3 news   ", err: ErrPosition},
		{in: `{"type":"subscribe","channel":"news"`, want: "0     ", err: ErrSyntax},
	} {
		got, err := Parse([]byte(c.in))
		position := " "
		if got.HasPosition {
			position = fmt.Sprintf("%d %s", got.Offset, got.Epoch)
		}
		if s := fmt.Sprintf("%d %s %s %s %s", got.Kind, got.ID, got.Channel, got.Data, position); s != c.want || err != c.err {
			t.Errorf("Parse(%s) = %q, %v; want %q, %v", c.in, s, err, c.want, c.err)
		}
	}
}

func TestAppend(t *testing.T) {
	id := []byte(`"a"`)
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendSubscribed(nil, id, "news", true, 0, "e", true, true), `{"type":"subscribed","id":"a","channel":"news","offset":0,"epoch":"e","recovered":true}`},
		{AppendSubscribed(nil, nil, "news", true, 7, "e", false, true), `{"type":"subscribed","channel":"news","offset":7,"epoch":"e","recovered":false}`},
		{AppendSubscribed(nil, nil, "n\"s", false, 7, "e", false, false), `{"type":"subscribed","channel":"n\"s"}`},
		{AppendUnsubscribed(nil, id, "news", 0, ""), `{"type":"unsubscribed","id":"a","channel":"news"}`},
		{AppendUnsubscribed(nil, nil, "news", 2500, "insufficient state"), `{"type":"unsubscribed","channel":"news","code":2500,"reason":"insufficient state"}`},
		{AppendPublished(nil, id, "news", 7, "e"), `{"type":"published","id":"a","channel":"news","offset":7,"epoch":"e"}`},
		{AppendPublished(nil, nil, "news", 0, ""), `{"type":"published","channel":"news"}`},
		{AppendMessage(nil, "news", []byte(`{"a":1}`), 7, "e", "i", "u"), `{"type":"message","channel":"news","data":{"a":1},"offset":7,"epoch":"e","client":"i","user":"u"}`},
		{AppendMessage(nil, "news", nil, 0, "", "", ""), `{"type":"message","channel":"news","data":null}`},
		{AppendJoin(nil, "news", "i", "u"), `{"type":"join","channel":"news","client":"i","user":"u"}`},
		{AppendLeave(nil, "news", "i", ""), `{"type":"leave","channel":"news","client":"i"}`},
		{AppendErrorFor(nil, id, "news", 103, "permission denied"), `{"type":"error","id":"a","channel":"news","code":103,"message":"permission denied"}`},
		{AppendErrorFor(nil, nil, "", 0, "a \"quote\""), `{"type":"error","message":"a \"quote\""}`},
	} {
		if string(c.got) != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
		if !json.Valid(c.got) {
			t.Errorf("%s is not JSON", c.got)
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
	for _, err := range []error{ErrSyntax, ErrType, ErrDeep, ErrID, ErrChannel, ErrData, ErrPosition} {
		if got := AppendError(nil, err.Error()); !json.Valid(got) {
			t.Errorf("error reply %s is not JSON", got)
		}
	}
}

func TestParseAllocates(t *testing.T) {
	ping := []byte(`{"type":"ping","ts":1700000000000}`)
	publish := []byte(`{"type":"publish","id":1,"channel":"news","data":{"text":"hello"}}`)
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		c, err := Parse(ping)
		if err != nil {
			t.Fatal(err)
		}
		out = AppendPong(out[:0], c.TS)
		if c, err = Parse(publish); err != nil {
			t.Fatal(err)
		}
		out = AppendMessage(out, "news", c.Data, 1, "e", "i", "u")
		out = AppendPublished(out, c.ID, "news", 1, "e")
	}); n != 0 {
		t.Errorf("a ping, a publish and their replies allocate %v times", n)
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
		for name, raw := range map[string][]byte{"ts": c.TS, "id": c.ID, "data": c.Data} {
			if raw != nil && !json.Valid(raw) {
				t.Fatalf("%s %q of %q is not JSON", name, raw, b)
			}
		}
		if err == nil && (c.Kind >= Subscribe) != (len(c.Channel) > 0) || err == nil && (c.Kind == Publish) != (c.Data != nil) {
			t.Fatalf("%q is a command %+v", b, c)
		}
		if err == nil && utf8.Valid(b) && !json.Valid(AppendErrorFor(nil, c.ID, string(c.Channel), 1, "x")) {
			t.Fatalf("the reply to %q is not JSON", b)
		}
	})
}
