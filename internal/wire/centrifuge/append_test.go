package centrifuge

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/engine"
)

func TestAppendJSON(t *testing.T) {
	info := &engine.ClientInfo{Client: "i", ChanInfo: []byte("{\n}")}
	pub := func(p engine.Publication) Publication { return Publication{Publication: &p} }
	for _, c := range []struct{ got, want string }{
		{string(AppendPing([]byte("x\n"), JSON)), "x\n{}"},
		{string(AppendError(nil, JSON, 3, ErrTooManyRequests)), `{"id":3,"error":{"code":111,"message":"too many requests","temporary":true}}`},
		{string(AppendEmpty(nil, JSON, 4, Unsubscribe)), `{"id":4,"unsubscribe":{}}`},
		{string(AppendEmpty(nil, JSON, 4, SubRefresh)), `{"id":4,"sub_refresh":{}}`},
		{string(AppendEmpty(nil, JSON, 4, Send)), `{"id":4}`},
		{string(AppendConnect(nil, JSON, 1, &ConnectResult{Client: "i", Data: []byte("[\n1]"), Node: "n", Subs: []ChannelResult{
			{Channel: "a\"", SubscribeResult: SubscribeResult{Recovered: true, Publications: []Publication{pub(engine.Publication{Data: []byte("1")}), pub(engine.Publication{Data: []byte("2")})}}},
			{Channel: "b"},
		}})), `{"id":1,"connect":{"client":"i","data":[ 1],"subs":{"a\"":{"publications":[{"data":1},{"data":2}],"recovered":true},"b":{}},"node":"n"}}`},
		{string(AppendSubscribe(nil, JSON, 2, &SubscribeResult{Expires: true, TTL: 5, Recoverable: true, Positioned: true, Epoch: "e", Offset: 9,
			Recovered: true, WasRecovering: true, Delta: true, Data: []byte("{}")})),
			`{"id":2,"subscribe":{"expires":true,"ttl":5,"recoverable":true,"epoch":"e","recovered":true,"offset":9,"positioned":true,"data":{},"was_recovering":true,"delta":true}}`},
		{string(AppendPresence(nil, JSON, 2, nil)), `{"id":2,"presence":{"presence":{}}}`},
		{string(AppendPresence(nil, JSON, 2, map[string]*engine.ClientInfo{"i": info})), `{"id":2,"presence":{"presence":{"i":{"user":"","client":"i","chan_info":{ }}}}}`},
		{string(AppendPresenceStats(nil, JSON, 2, engine.PresenceStats{})), `{"id":2,"presence_stats":{"num_clients":0,"num_users":0}}`},
		{string(AppendHistory(nil, JSON, 2, &HistoryResult{})), `{"id":2,"history":{"publications":[],"epoch":"","offset":0}}`},
		{string(AppendRPC(nil, JSON, 2, []byte(`"x"`))), `{"id":2,"rpc":{"data":"x"}}`},
		{string(AppendRPC(nil, JSON, 2, nil)), `{"id":2,"rpc":{}}`},
		{string(AppendRefresh(nil, JSON, 2, "i", "v", true, 9)), `{"id":2,"refresh":{"client":"i","version":"v","expires":true,"ttl":9}}`},
		{string(AppendSubRefresh(nil, JSON, 2, true, 9)), `{"id":2,"sub_refresh":{"expires":true,"ttl":9}}`},
		{string(AppendMessage(nil, JSON, []byte("{\"a\":\n1}"))), `{"push":{"message":{"data":{"a": 1}}}}`},
		{string(AppendRefreshPush(nil, JSON, true, 9)), `{"push":{"refresh":{"expires":true,"ttl":9}}}`},
		{string(AppendDisconnectPush(nil, JSON, DisconnectShutdown)), `{"push":{"disconnect":{"code":3001,"reason":"shutdown","reconnect":true}}}`},
		{string(AppendDisconnectPush(nil, JSON, DisconnectForced)), `{"push":{"disconnect":{"code":3503,"reason":"force disconnect"}}}`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestAppendPublicationJSON(t *testing.T) {
	data := []byte("{\n\"x\":\"é\"}")
	for _, c := range []struct {
		name string
		pub  Publication
		want string
	}{
		{"plain", Publication{Publication: &engine.Publication{Data: data}}, `{"data":{ "x":"é"}}`},
		{"without data", Publication{Publication: &engine.Publication{Offset: 1}}, `{"data":null,"offset":1}`},
		{"tags", Publication{Publication: &engine.Publication{Data: data, Offset: 2, Time: 5, Tags: map[string]string{"b\n": "2", "a": "1"}}},
			`{"data":{ "x":"é"},"offset":2,"tags":{"a":"1","b\n":"2"}}`},
		{"as a string", Publication{Publication: &engine.Publication{Data: data}, Stringed: true}, `{"data":"{\n\"x\":\"é\"}"}`},
		{"an empty string", Publication{Publication: &engine.Publication{}, Stringed: true}, `{"data":""}`},
		{"a delta that is no text", Publication{Publication: &engine.Publication{Data: data, Offset: 3}, Delta: []byte("1:\xa9;"), IsDelta: true, Stringed: true},
			`{"data":"{\n\"x\":\"é\"}","offset":3}`},
		{"delta", Publication{Publication: &engine.Publication{Data: data, Offset: 3}, Delta: []byte("4\n4:\"x\":;"), IsDelta: true, Stringed: true, Epoch: "e"},
			`{"data":"4\n4:\"x\":;","offset":3,"delta":true,"epoch":"e"}`},
	} {
		want := `{"push":{"channel":"c","pub":` + c.want + `}}`
		if got := string(AppendPublication(nil, JSON, "c", &c.pub)); got != want {
			t.Errorf("%s: got %s, want %s", c.name, got, want)
		}
	}
}

// kind is how a field is read back from Protobuf.
type kind int

const (
	text     kind = iota
	raw           // bytes, raw JSON in JSON
	number        // varint
	truth         // varint
	single        // a message
	list          // of messages
	mapping       // of messages by text
	textsMap      // of text by text
)

// description says what the fields of a message are, independent of the code under test: client.proto once more.
type description map[protowire.Number]described

type described struct {
	name string
	kind kind
	of   description
}

var (
	clientInfo  = description{1: {"user", text, nil}, 2: {"client", text, nil}, 3: {"conn_info", raw, nil}, 4: {"chan_info", raw, nil}}
	joined      = description{1: {"info", single, clientInfo}}
	publication = description{4: {"data", raw, nil}, 5: {"info", single, clientInfo}, 6: {"offset", number, nil}, 7: {"tags", textsMap, nil},
		8: {"delta", truth, nil}, 9: {"time", number, nil}, 10: {"channel", text, nil}, 14: {"epoch", text, nil}}
	subscribed = description{1: {"expires", truth, nil}, 2: {"ttl", number, nil}, 3: {"recoverable", truth, nil}, 6: {"epoch", text, nil},
		7: {"publications", list, publication}, 8: {"recovered", truth, nil}, 9: {"offset", number, nil}, 10: {"positioned", truth, nil},
		11: {"data", raw, nil}, 12: {"was_recovering", truth, nil}, 13: {"delta", truth, nil}}
	connected = description{1: {"client", text, nil}, 2: {"version", text, nil}, 3: {"expires", truth, nil}, 4: {"ttl", number, nil},
		5: {"data", raw, nil}, 6: {"subs", mapping, subscribed}, 7: {"ping", number, nil}, 8: {"pong", truth, nil}, 10: {"node", text, nil}}
	expiry = description{1: {"expires", truth, nil}, 2: {"ttl", number, nil}}
	pushed = description{2: {"channel", text, nil}, 4: {"pub", single, publication}, 5: {"join", single, joined}, 6: {"leave", single, joined},
		7: {"unsubscribe", single, description{2: {"code", number, nil}, 3: {"reason", text, nil}}},
		8: {"message", single, description{1: {"data", raw, nil}}},
		9: {"subscribe", single, description{1: {"recoverable", truth, nil}, 4: {"epoch", text, nil}, 5: {"offset", number, nil},
			6: {"positioned", truth, nil}, 7: {"data", raw, nil}}},
		11: {"disconnect", single, description{1: {"code", number, nil}, 2: {"reason", text, nil}, 3: {"reconnect", truth, nil}}},
		12: {"refresh", single, expiry}}
	replied = description{1: {"id", number, nil}, 4: {"push", single, pushed}, 5: {"connect", single, connected}, 6: {"subscribe", single, subscribed},
		2: {"error", single, description{1: {"code", number, nil}, 2: {"message", text, nil}, 3: {"temporary", truth, nil}}},
		7: {"unsubscribe", single, nil}, 8: {"publish", single, nil}, 12: {"ping", single, nil},
		9:  {"presence", single, description{1: {"presence", mapping, clientInfo}}},
		10: {"presence_stats", single, description{1: {"num_clients", number, nil}, 2: {"num_users", number, nil}}},
		11: {"history", single, description{1: {"publications", list, publication}, 2: {"epoch", text, nil}, 3: {"offset", number, nil}}},
		13: {"rpc", single, description{1: {"data", raw, nil}}},
		14: {"refresh", single, description{1: {"client", text, nil}, 2: {"version", text, nil}, 3: {"expires", truth, nil}, 4: {"ttl", number, nil}}},
		15: {"sub_refresh", single, expiry}}
)

// decode reads a message as d says, in the shape that encoding/json gives to the same in JSON.
func (d description) decode(b []byte) (map[string]any, error) {
	m := map[string]any{}
	last := protowire.Number(0)
	for len(b) > 0 {
		n, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return nil, protowire.ParseError(tag)
		}
		b = b[tag:]
		f, ok := d[n]
		if !ok || n < last {
			return nil, fmt.Errorf("field %d after %d", n, last)
		}
		last = n
		if f.kind == number || f.kind == truth {
			v, size := protowire.ConsumeVarint(b)
			if size < 0 || typ != protowire.VarintType || v == 0 {
				return nil, fmt.Errorf("%s is no number", f.name)
			}
			b = b[size:]
			if m[f.name] = stdjson.Number(strconv.FormatUint(v, 10)); f.kind == truth {
				m[f.name] = v == 1
			}
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 || typ != protowire.BytesType {
			return nil, fmt.Errorf("%s is no bytes", f.name)
		}
		b = b[size:]
		var err error
		switch f.kind {
		case text:
			m[f.name] = string(v)
		case raw:
			m[f.name], err = parse(v)
		case single:
			m[f.name], err = f.of.decode(v)
		case list:
			var element any
			element, err = f.of.decode(v)
			l, _ := m[f.name].([]any)
			m[f.name] = append(l, element)
		case mapping, textsMap:
			of := description{1: {"key", text, nil}, 2: {"value", single, f.of}}
			if f.kind == textsMap {
				of[2] = described{"value", text, nil}
			}
			var e map[string]any
			if e, err = of.decode(v); err != nil {
				break
			}
			entries, _ := m[f.name].(map[string]any)
			if entries == nil {
				entries = map[string]any{}
			}
			key, _ := e["key"].(string)
			if entries[key] = e["value"]; entries[key] == nil {
				entries[key] = ""
			}
			m[f.name] = entries
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return m, nil
}

func parse(b []byte) (v any, err error) {
	d := stdjson.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// withoutZeros takes out what JSON says and Protobuf does not.
func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if k == "data" || k == "conn_info" || k == "chan_info" {
				continue
			}
			switch e := e.(type) {
			case string:
				if e == "" && k != "b" { // a tag
					delete(v, k)
				}
			case stdjson.Number:
				if e == "0" {
					delete(v, k)
				}
			case []any:
				for _, x := range e {
					withoutZeros(x)
				}
				if len(e) == 0 {
					delete(v, k)
				}
			case map[string]any:
				withoutZeros(e)
				if len(e) == 0 && k == "presence" && len(v) == 1 {
					delete(v, k)
				}
			}
		}
	}
	return v
}

// random makes results and pushes of all kinds.
type random struct{ *rand.Rand }

func (r random) text() string {
	return []string{"", "x", "é😀\"\\\n", strings.Repeat("long ", 30)}[r.IntN(4)]
}

func (r random) raw() []byte {
	return []byte([]string{"", "{}", "[1,\n\"2\"]", `{"k":"` + strings.Repeat("v", r.IntN(300)) + `"}`, strings.Repeat(" ", 17000) + "7"}[r.IntN(5)])
}

func (r random) truth() bool { return r.IntN(2) == 0 }

func (r random) number() uint64 {
	return []uint64{0, 1, 127, 128, 1 << 31, 1<<53 + 1, 1<<64 - 1}[r.IntN(7)]
}

func (r random) info() *engine.ClientInfo {
	return &engine.ClientInfo{Client: "i" + r.text(), User: r.text(), ConnInfo: r.raw(), ChanInfo: r.raw()}
}

func (r random) publication() Publication {
	p := Publication{Publication: &engine.Publication{Offset: r.number(), Data: []byte("0")}, Epoch: r.text()}
	if d := r.raw(); len(d) > 0 {
		p.Data = d
	}
	if r.truth() {
		p.Info = r.info()
	}
	for i := range r.IntN(4) * r.IntN(10) {
		if p.Tags == nil {
			p.Tags = map[string]string{"b": ""}
		}
		p.Tags[strconv.Itoa(i)] = "v" + r.text()
	}
	return p
}

func (r random) subscribed() SubscribeResult {
	s := SubscribeResult{Expires: r.truth(), TTL: uint32(r.number()), Recoverable: r.truth(), Positioned: r.truth(), Epoch: r.text(),
		Offset: r.number(), Recovered: r.truth(), WasRecovering: r.truth(), Delta: r.truth(), Data: r.raw()}
	for range r.IntN(3) {
		s.Publications = append(s.Publications, r.publication())
	}
	return s
}

// appended returns a message in both formats.
func (r random) appended() (j, p []byte) {
	id, ttl := uint32(r.number()), uint32(r.number())
	both := func(f func(Format) []byte) { j, p = f(JSON), f(Protobuf) }
	info, data, channel := r.info(), r.raw(), r.text()
	if len(data) == 0 {
		data = []byte("0")
	}
	switch r.IntN(17) {
	case 0:
		both(func(f Format) []byte { return AppendError(nil, f, id, ErrInternal) })
	case 1:
		c := ConnectResult{Client: r.text(), Version: r.text(), Expires: r.truth(), TTL: ttl, Data: r.raw(), Ping: 25, Pong: r.truth(), Node: r.text()}
		for i := range r.IntN(4) {
			c.Subs = append(c.Subs, ChannelResult{strconv.Itoa(i), r.subscribed()})
		}
		both(func(f Format) []byte { return AppendConnect(nil, f, id, &c) })
	case 2:
		s := r.subscribed()
		both(func(f Format) []byte { return AppendSubscribe(nil, f, id, &s) })
	case 3:
		m := []Method{Unsubscribe, Publish, Ping}[r.IntN(3)]
		both(func(f Format) []byte { return AppendEmpty(nil, f, id, m) })
	case 4:
		presence := map[string]*engine.ClientInfo{}
		for i := range r.IntN(5) {
			presence[strconv.Itoa(i)] = r.info()
		}
		both(func(f Format) []byte { return AppendPresence(nil, f, id, presence) })
	case 5:
		stats := engine.PresenceStats{Clients: r.IntN(2), Users: 300}
		both(func(f Format) []byte { return AppendPresenceStats(nil, f, id, stats) })
	case 6:
		h := HistoryResult{Publications: r.subscribed().Publications, Epoch: r.text(), Offset: r.number()}
		both(func(f Format) []byte { return AppendHistory(nil, f, id, &h) })
	case 7:
		both(func(f Format) []byte { return AppendRPC(nil, f, id, data) })
	case 8:
		both(func(f Format) []byte { return AppendRefresh(nil, f, id, channel, "v", true, ttl) })
	case 9:
		both(func(f Format) []byte { return AppendSubRefresh(nil, f, id, true, ttl) })
	case 10:
		pub := r.publication()
		both(func(f Format) []byte { return AppendPublication(nil, f, channel, &pub) })
	case 11:
		both(func(f Format) []byte { return AppendJoin(nil, f, channel, info) })
	case 12:
		both(func(f Format) []byte { return AppendLeave(nil, f, channel, info) })
	case 13:
		both(func(f Format) []byte { return AppendUnsubscribe(nil, f, channel, UnsubscribeExpired) })
	case 14:
		s := r.subscribed()
		both(func(f Format) []byte { return AppendSubscribePush(nil, f, channel, &s) })
	case 15:
		both(func(f Format) []byte { return AppendMessage(nil, f, data) })
	case 16:
		if r.truth() {
			both(func(f Format) []byte { return AppendRefreshPush(nil, f, true, ttl) })
		} else {
			both(func(f Format) []byte { return AppendDisconnectPush(nil, f, DisconnectExpired) })
		}
	}
	return j, p
}

// TestRepliesAgree writes the same in both formats and reads it back with other readers.
func TestRepliesAgree(t *testing.T) {
	r := random{rand.New(rand.NewPCG(3, 4))}
	seen := map[string]int{}
	for range 3000 {
		j, p := r.appended()
		if bytes.IndexByte(j, '\n') >= 0 || !utf8.Valid(j) {
			t.Fatalf("%q is no line of text", j)
		}
		inJSON, err := parse(j)
		if err != nil {
			t.Fatalf("%s: %v", j, err)
		}
		body, n := protowire.ConsumeBytes(p)
		if n != len(p) {
			t.Fatalf("%x: %d of %d bytes are the message", p, n, len(p))
		}
		inProtobuf, err := replied.decode(body)
		if err != nil {
			t.Fatalf("%x: %v", p, err)
		}
		if a, b := withoutZeros(inJSON), any(inProtobuf); !reflect.DeepEqual(a, withoutZeros(b)) {
			t.Fatalf("JSON     %v\nProtobuf %v", a, b)
		}
		for k, v := range inProtobuf {
			if push, ok := v.(map[string]any); ok && k == "push" {
				for k := range push {
					seen["push."+k]++
				}
			}
			seen[k]++
		}
	}
	for _, f := range slices.Collect(maps.Values(replied)) {
		if seen[f.name] == 0 {
			t.Errorf("%s was not tried", f.name)
		}
	}
	for _, f := range slices.Collect(maps.Values(pushed)) {
		if seen["push."+f.name] == 0 {
			t.Errorf("push.%s was not tried", f.name)
		}
	}
}

// TestAppendDeltaProtobuf looks at what JSON has in another shape.
func TestAppendDeltaProtobuf(t *testing.T) {
	p := Publication{Publication: &engine.Publication{Data: []byte("full"), Offset: 300}, Delta: []byte{0xff, 0}, IsDelta: true, Stringed: true}
	got := AppendPublication([]byte{9}, Protobuf, "c", &p)
	pub := slices.Concat(bytesField(4, "\xff\x00"), varintField(6, 300), varintField(8, 1))
	want := append([]byte{9}, message(nested(4, bytesField(2, "c"), nested(4, pub)))...)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	p.IsDelta = false
	got = AppendPublication(nil, Protobuf, "c", &p)
	want = message(nested(4, bytesField(2, "c"), nested(4, bytesField(4, "full"), varintField(6, 300))))
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestAppendAllocates(t *testing.T) {
	p := &Publication{Publication: &engine.Publication{Offset: 1, Data: []byte(`{"x":"` + strings.Repeat("y", 500) + `"}`),
		Info: &engine.ClientInfo{Client: "i", User: "u"}, Tags: map[string]string{"a": "1", "b": "2"}}, Epoch: "e"}
	s := &SubscribeResult{Recoverable: true, Epoch: "e", Publications: []Publication{*p, *p}}
	out := make([]byte, 0, 4096)
	for _, f := range []Format{JSON, Protobuf} {
		if n := testing.AllocsPerRun(100, func() {
			out = AppendPublication(out[:0], f, "chat:index", p)
			out = AppendSubscribe(out, f, 1, s)
			out = AppendJoin(out, f, "chat:index", p.Info)
			out = AppendError(out, f, 1, ErrBadRequest)
			out = AppendEmpty(out, f, 1, Publish)
			out = AppendPing(out, f)
		}); n != 0 {
			t.Errorf("format %d: six messages allocate %v times", f, n)
		}
	}
}

func BenchmarkAppendPublication(b *testing.B) {
	p := &Publication{Publication: &engine.Publication{Offset: 123456, Data: []byte(`{"text":"` + strings.Repeat("lorem ipsum ", 20) + `"}`),
		Info: &engine.ClientInfo{Client: "e9964fca-88e5-4bfe-bc2b-ebfbdee251e4", User: "u1"}}}
	for _, c := range []struct {
		name     string
		f        Format
		stringed bool
	}{{"json", JSON, false}, {"json string", JSON, true}, {"protobuf", Protobuf, false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(p.Data)))
			pub := *p
			pub.Stringed = c.stringed
			out := make([]byte, 0, 1024)
			for b.Loop() {
				out = AppendPublication(out[:0], c.f, "chat:index", &pub)
			}
		})
	}
}
