package checker

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/plain"
)

// What the gateway writes is read as what it means.
func TestDecode(t *testing.T) {
	pub := centrifuge.Publication{Publication: &engine.Publication{Offset: 1 << 40, Data: []byte(`{"n":1}`), Info: &engine.ClientInfo{User: "u", Client: "c"}}, Epoch: "ab"}
	had := publication{offset: 1 << 40, epoch: "ab", data: []byte(`{"n":1}`)}
	for _, c := range []struct {
		name  string
		write func(f centrifuge.Format) []byte
		want  message
	}{
		{"ping", func(f centrifuge.Format) []byte { return centrifuge.AppendPing(nil, f) }, message{kind: gotPing}},
		{"error", func(f centrifuge.Format) []byte {
			return centrifuge.AppendError(nil, f, 300, centrifuge.ErrTooManyRequests)
		}, message{kind: gotError, id: 300, code: 111}},
		{"connect", func(f centrifuge.Format) []byte {
			return centrifuge.AppendConnect(nil, f, 1, &centrifuge.ConnectResult{Client: "me", Version: "1", Ping: 25, Pong: true})
		}, message{kind: gotConnected, id: 1, client: "me"}},
		{"subscribe", func(f centrifuge.Format) []byte {
			return centrifuge.AppendSubscribe(nil, f, 2, &centrifuge.SubscribeResult{Recoverable: true, Positioned: true, Epoch: "ab", Offset: 7,
				Publications: []centrifuge.Publication{pub, pub}, Recovered: true, WasRecovering: true, Delta: true})
		}, message{kind: gotSubscribed, id: 2, positioned: true, recovered: true, recovering: true, delta: true, offset: 7, epoch: "ab", publications: []publication{had, had}}},
		{"subscribe to what has no position", func(f centrifuge.Format) []byte {
			return centrifuge.AppendSubscribe(nil, f, 2, new(centrifuge.SubscribeResult))
		}, message{kind: gotSubscribed, id: 2}},
		{"unsubscribe", func(f centrifuge.Format) []byte {
			return centrifuge.AppendEmpty(nil, f, 3, centrifuge.Unsubscribe)
		}, message{kind: gotUnsubscribed, id: 3}},
		{"publish", func(f centrifuge.Format) []byte {
			return centrifuge.AppendEmpty(nil, f, 4, centrifuge.Publish)
		}, message{kind: gotPublished, id: 4}},
		{"publication", func(f centrifuge.Format) []byte {
			return centrifuge.AppendPublication(nil, f, "news", &pub)
		}, message{kind: gotPublication, channel: "news", publications: []publication{had}}},
		{"unsubscribed", func(f centrifuge.Format) []byte {
			return centrifuge.AppendUnsubscribe(nil, f, "news", centrifuge.UnsubscribeInsufficientState)
		}, message{kind: gotUnsubscribed, channel: "news", code: 2500}},
		{"join", func(f centrifuge.Format) []byte {
			return centrifuge.AppendJoin(nil, f, "news", &engine.ClientInfo{Client: "c"})
		}, message{kind: gotOther, channel: "news"}},
	} {
		for f, codec := range map[centrifuge.Format]codec{centrifuge.JSON: codecJSON, centrifuge.Protobuf: codecProtobuf} {
			b := c.write(f)
			list, err := codec.decode(b)
			if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], c.want) {
				t.Errorf("%s: %q is %+v, %v; want %+v", c.name, b, list, err, c.want)
			}
		}
	}
}

func TestDecodeSeveral(t *testing.T) {
	for f, codec := range map[centrifuge.Format]codec{centrifuge.JSON: codecJSON, centrifuge.Protobuf: codecProtobuf} {
		b := centrifuge.AppendEmpty(nil, f, 1, centrifuge.Publish)
		if f == centrifuge.JSON {
			b = append(b, '\n')
		}
		b = centrifuge.AppendEmpty(b, f, 2, centrifuge.Unsubscribe)
		list, err := codec.decode(b)
		if want := []message{{kind: gotPublished, id: 1}, {kind: gotUnsubscribed, id: 2}}; err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("%q is %+v, %v; want %+v", b, list, err, want)
		}
	}
}

func TestDecodePlain(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want message
	}{
		{plain.AppendSubscribed(nil, []byte("5"), "news", true, 0, "ab", false, false), message{kind: gotSubscribed, id: 5, channel: "news", positioned: true, epoch: "ab"}},
		{plain.AppendSubscribed(nil, []byte("5"), "news", true, 9, "ab", true, true), message{kind: gotSubscribed, id: 5, channel: "news", positioned: true, offset: 9, epoch: "ab", recovering: true, recovered: true}},
		{plain.AppendSubscribed(nil, []byte("5"), "news", true, 9, "ab", false, true), message{kind: gotSubscribed, id: 5, channel: "news", positioned: true, offset: 9, epoch: "ab", recovering: true}},
		{plain.AppendSubscribed(nil, []byte("5"), "news", false, 0, "", false, false), message{kind: gotSubscribed, id: 5, channel: "news"}},
		{plain.AppendUnsubscribed(nil, []byte("6"), "news", 0, ""), message{kind: gotUnsubscribed, id: 6, channel: "news"}},
		{plain.AppendUnsubscribed(nil, nil, "news", 2500, "insufficient state"), message{kind: gotUnsubscribed, channel: "news", code: 2500}},
		{plain.AppendPublished(nil, []byte("7"), "news", 3, "ab"), message{kind: gotPublished, id: 7, channel: "news"}},
		{plain.AppendErrorFor(nil, []byte("7"), "news", 111, "too many requests"), message{kind: gotError, id: 7, channel: "news", code: 111}},
		{plain.AppendMessage(nil, "news", []byte(`{"n":1}`), 3, "ab", "c", ""), message{kind: gotPublication, channel: "news", publications: []publication{{offset: 3, epoch: "ab", data: []byte(`{"n":1}`)}}}},
	} {
		list, err := codecPlain.decode(c.b)
		if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], c.want) {
			t.Errorf("%s is %+v, %v; want %+v", c.b, list, err, c.want)
		}
	}
}

// What is no message of the protocol is not taken for one.
func TestDecodeRefuses(t *testing.T) {
	for codec, bad := range map[codec][]string{
		codecJSON:     {"", "{", "[]", "{}\n", `{"id":"x"}`},
		codecProtobuf: {"", "\x05", "\x01\xff", "\x02\x0a\x05", "\x03\x32\x05\x01", "\x02\x08\xff"},
		codecPlain:    {"", "{", `{"type":"error","message":"no code"}`, `{"type":"message","offset":-1}`},
	} {
		for _, b := range bad {
			if list, err := codec.decode([]byte(b)); err == nil {
				t.Errorf("codec %d: %q is %+v, want an error", codec, b, list)
			}
		}
	}
}

// What clients write is read by the gateway as what it means.
func TestAppendCommand(t *testing.T) {
	subscribe := &command{id: 7, method: doSubscribe, channel: "kept:1", positioned: true, recoverable: true, recover: true, delta: true, offset: 1 << 40, epoch: "ab"}
	publish := &command{id: 8, method: doPublish, channel: "kept:1", data: data(3)}
	for f, codec := range map[centrifuge.Format]codec{centrifuge.JSON: codecJSON, centrifuge.Protobuf: codecProtobuf} {
		var b []byte
		for _, cmd := range []*command{{id: 1, method: doConnect}, subscribe, {id: 9, method: doUnsubscribe, channel: "kept:1"}, publish, {method: doPong}} {
			b = codec.appendCommand(b, cmd)
		}
		var r centrifuge.Reader
		r.Reset(f, b)
		var got []string
		for {
			c, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			s := c.Method.String() + " " + string(c.Channel)
			switch c.Method {
			case centrifuge.Subscribe:
				if o := c.SubscribeOptions; c.ID != 7 || !o.Recover || !o.Recoverable || !o.Positioned || o.Offset != 1<<40 || string(o.Epoch) != "ab" || string(o.Delta) != "fossil" {
					t.Errorf("%q: subscribe is read as %+v", b, c)
				}
			case centrifuge.Publish:
				if string(c.Data) != string(data(3)) {
					t.Errorf("%q: data is read as %s", b, c.Data)
				}
			}
			got = append(got, s)
		}
		if want := "connect |subscribe kept:1|unsubscribe kept:1|publish kept:1|none "; strings.Join(got, "|") != want {
			t.Errorf("%q is read as %q, want %q", b, strings.Join(got, "|"), want)
		}
	}
	c, err := plain.Parse(codecPlain.appendCommand(nil, subscribe))
	if err != nil || c.Kind != plain.Subscribe || string(c.Channel) != "kept:1" || string(c.ID) != "7" || !c.HasPosition || c.Offset != 1<<40 || string(c.Epoch) != "ab" {
		t.Errorf("plain: subscribe is read as %+v, %v", c, err)
	}
	c, err = plain.Parse(codecPlain.appendCommand(nil, publish))
	if err != nil || c.Kind != plain.Publish || string(c.Data) != string(data(3)) {
		t.Errorf("plain: publish is read as %+v, %v", c, err)
	}
}
