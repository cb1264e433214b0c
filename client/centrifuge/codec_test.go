package centrifuge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/longwire/longwire/engine"
	wire "github.com/longwire/longwire/internal/wire/centrifuge"
)

func formats(t *testing.T, f func(t *testing.T, protobuf bool, format wire.Format)) {
	t.Run("json", func(t *testing.T) { f(t, false, wire.JSON) })
	t.Run("protobuf", func(t *testing.T) { f(t, true, wire.Protobuf) })
}

// TestCommands has the server's codec read what this one writes.
func TestCommands(t *testing.T) {
	since := &Position{Offset: 1 << 60, Epoch: "e"}
	for _, c := range []struct {
		m    command
		want wire.Command
	}{
		{command{ID: 1, Connect: &connectRequest{Token: "t", Data: data(`{"a":"<&>"}`), Name: "n", Version: "v", Headers: map[string]string{"a": "1"},
			Subs: map[string]*subscribe{"s": {Recover: true, Epoch: "e", Offset: 7}}}},
			wire.Command{ID: 1, Method: wire.Connect, Token: []byte("t"), Data: []byte(`{"a":"<&>"}`), Name: []byte("n"), Version: []byte("v"),
				Headers: []wire.Header{{Name: []byte("a"), Value: []byte("1")}},
				Subs:    []wire.ChannelSubscribe{{Channel: []byte("s"), SubscribeOptions: wire.SubscribeOptions{Recover: true, Epoch: []byte("e"), Offset: 7}}}}},
		{command{ID: 2, Subscribe: &subscribe{Channel: "c\"ü", Token: "t", Recover: true, Epoch: "e", Offset: 3, Data: data("1"), Positioned: true, Recoverable: true, JoinLeave: true, Delta: "fossil"}},
			wire.Command{ID: 2, Method: wire.Subscribe, Channel: []byte("c\"ü"), Token: []byte("t"), Data: []byte("1"),
				SubscribeOptions: wire.SubscribeOptions{Recover: true, Epoch: []byte("e"), Offset: 3, Positioned: true, Recoverable: true, JoinLeave: true, Delta: []byte("fossil")}}},
		{command{ID: 3, Unsubscribe: &channelRequest{"c"}}, wire.Command{ID: 3, Method: wire.Unsubscribe, Channel: []byte("c")}},
		{command{ID: 4, Publish: &publishRequest{"c", data("{}")}}, wire.Command{ID: 4, Method: wire.Publish, Channel: []byte("c"), Data: []byte("{}")}},
		{command{ID: 5, Presence: &channelRequest{"c"}}, wire.Command{ID: 5, Method: wire.Presence, Channel: []byte("c")}},
		{command{ID: 6, PresenceStats: &channelRequest{"c"}}, wire.Command{ID: 6, Method: wire.PresenceStats, Channel: []byte("c")}},
		{command{ID: 7, History: &historyRequest{Channel: "c", Limit: -1, Since: since, Reverse: true}},
			wire.Command{ID: 7, Method: wire.History, Channel: []byte("c"), Limit: -1, HasSince: true, Since: wire.Since{Offset: 1 << 60, Epoch: []byte("e")}, Reverse: true}},
		{command{Send: &dataMessage{data("[]")}}, wire.Command{Method: wire.Send, Data: []byte("[]")}},
		{command{ID: 8, RPC: &rpcRequest{data("[]"), "m"}}, wire.Command{ID: 8, Method: wire.RPC, Data: []byte("[]"), RPCMethod: []byte("m")}},
		{command{ID: 9, Refresh: &refreshRequest{"t"}}, wire.Command{ID: 9, Method: wire.Refresh, Token: []byte("t")}},
		{command{ID: 10, SubRefresh: &channelAndToken{"c", "t"}}, wire.Command{ID: 10, Method: wire.SubRefresh, Channel: []byte("c"), Token: []byte("t")}},
		{command{ID: 11, Connect: &connectRequest{}}, wire.Command{ID: 11, Method: wire.Connect}},
	} {
		formats(t, func(t *testing.T, protobuf bool, format wire.Format) {
			b, err := encode(protobuf, &c.m)
			if err != nil {
				t.Fatal(err)
			}
			var r wire.Reader
			r.Reset(format, b)
			got, err := r.Next()
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			had := *got
			if len(had.Subs) == 0 {
				had.Subs = nil
			}
			if len(had.Headers) == 0 {
				had.Headers = nil
			}
			if !reflect.DeepEqual(had, c.want) {
				t.Errorf("%q is\n%+v, want\n%+v", b, had, c.want)
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("%q: %v behind the command", b, err)
			}
		})
	}
	if _, err := encode(false, &command{Publish: &publishRequest{"c", data("{")}}); err == nil {
		t.Error("data that is no JSON: no error")
	}
}

// TestReplies reads what the server's codec writes.
func TestReplies(t *testing.T) {
	info := &engine.ClientInfo{User: "u", Client: "i", ConnInfo: []byte(`{"a":1}`), ChanInfo: []byte(`2`)}
	who := &ClientInfo{User: "u", Client: "i", ConnInfo: data(`{"a":1}`), ChanInfo: data(`2`)}
	pub := wire.Publication{Publication: &engine.Publication{Offset: 1 << 60, Data: []byte(`{"x":1}`), Info: info, Tags: map[string]string{"k": "v"}}}
	had := &publication{Publication: Publication{Data: data(`{"x":1}`), Info: who, Offset: 1 << 60, Tags: map[string]string{"k": "v"}}}
	sub := wire.SubscribeResult{Expires: true, TTL: 5, Delta: true, Recoverable: true, Positioned: true, Epoch: "e", Offset: 9, Recovered: true, WasRecovering: true,
		Data: []byte("[]"), Publications: []wire.Publication{pub, pub}}
	result := &subscribeResult{Expires: true, TTL: 5, Delta: true, Recoverable: true, Positioned: true, Epoch: "e", Offset: 9, Recovered: true, WasRecovering: true,
		Data: data("[]"), Publications: []*publication{had, had}}
	formats(t, func(t *testing.T, protobuf bool, f wire.Format) {
		difference, whole := data(`"a\n1"`), data(`"{}"`) // JSON has both as strings
		if protobuf {
			difference, whole = data("a\n1"), data("{}")
		}
		for _, c := range []struct {
			b    []byte
			want reply
		}{
			{wire.AppendPublication(nil, f, "c", &wire.Publication{Publication: &engine.Publication{Offset: 1, Data: []byte("{}")}, Stringed: true, Delta: []byte("a\n1"), IsDelta: true}),
				reply{Push: &push{Channel: "c", Pub: &publication{Publication{Data: difference, Offset: 1}, true}}}},
			{wire.AppendPublication(nil, f, "c", &wire.Publication{Publication: &engine.Publication{Offset: 1, Data: []byte("{}")}, Stringed: true}),
				reply{Push: &push{Channel: "c", Pub: &publication{Publication{Data: whole, Offset: 1}, false}}}},
			{wire.AppendPing(nil, f), reply{}},
			{wire.AppendError(nil, f, 3, wire.ErrTooManyRequests), reply{ID: 3, Error: &Error{111, "too many requests", true}}},
			{wire.AppendConnect(nil, f, 1, &wire.ConnectResult{Client: "i", Version: "v", Expires: true, TTL: 7, Data: []byte("1"), Ping: 25, Pong: true,
				Subs: []wire.ChannelResult{{Channel: "s", SubscribeResult: sub}}}),
				reply{ID: 1, Connect: &connectResult{Client: "i", Version: "v", Expires: true, TTL: 7, Data: data("1"), Ping: 25, Pong: true,
					Subs: map[string]*subscribeResult{"s": result}}}},
			{wire.AppendSubscribe(nil, f, 2, &sub), reply{ID: 2, Subscribe: result}},
			{wire.AppendEmpty(nil, f, 4, wire.Publish), reply{ID: 4}},
			{wire.AppendPresence(nil, f, 5, map[string]*engine.ClientInfo{"i": info}), reply{ID: 5, Presence: &presenceResult{map[string]*ClientInfo{"i": who}}}},
			{wire.AppendPresenceStats(nil, f, 6, engine.PresenceStats{Clients: 3, Users: 2}), reply{ID: 6, PresenceStats: &PresenceStats{3, 2}}},
			{wire.AppendHistory(nil, f, 7, &wire.HistoryResult{Publications: []wire.Publication{pub}, Epoch: "e", Offset: 1}),
				reply{ID: 7, History: &historyResult{[]*publication{had}, "e", 1}}},
			{wire.AppendRPC(nil, f, 8, []byte("{}")), reply{ID: 8, RPC: &dataMessage{data("{}")}}},
			{wire.AppendRefresh(nil, f, 9, "i", "v", true, 6), reply{ID: 9, Refresh: &refreshResult{true, 6}}},
			{wire.AppendSubRefresh(nil, f, 10, true, 6), reply{ID: 10, SubRefresh: &expiry{true, 6}}},
			{wire.AppendPublication(nil, f, "c", &pub), reply{Push: &push{Channel: "c", Pub: had}}},
			{wire.AppendJoin(nil, f, "c", info), reply{Push: &push{Channel: "c", Join: &presencePush{who}}}},
			{wire.AppendLeave(nil, f, "c", info), reply{Push: &push{Channel: "c", Leave: &presencePush{who}}}},
			{wire.AppendUnsubscribe(nil, f, "c", wire.UnsubscribeExpired), reply{Push: &push{Channel: "c", Unsubscribe: &unsubscribePush{2501, "subscription expired"}}}},
			{wire.AppendMessage(nil, f, []byte("1")), reply{Push: &push{Message: &dataMessage{data("1")}}}},
			{wire.AppendSubscribePush(nil, f, "c", &wire.SubscribeResult{Recoverable: true, Epoch: "e", Offset: 2, Positioned: true, Data: []byte("1")}),
				reply{Push: &push{Channel: "c", Subscribe: &subscribePush{true, "e", 2, true, data("1")}}}},
			{wire.AppendDisconnectPush(nil, f, wire.DisconnectShutdown), reply{Push: &push{Disconnect: &disconnectPush{3001, "shutdown"}}}},
			{wire.AppendRefreshPush(nil, f, true, 5), reply{Push: &push{Refresh: &expiry{true, 5}}}},
		} {
			b := c.b
			if !protobuf {
				b = append(b, '\n')
			}
			b = append(b, c.b...) // two in a message
			n := 0
			err := decode(protobuf, b, func(r *reply) {
				n++
				if !reflect.DeepEqual(*r, c.want) {
					got, _ := json.Marshal(r)
					want, _ := json.Marshal(c.want)
					t.Errorf("%q is\n%s, want\n%s", c.b, got, want)
				}
			})
			if err != nil || n != 2 {
				t.Errorf("%q: %d replies, %v", b, n, err)
			}
		}
	})
}

// TestTranscript reads what another server of the protocol sent, as it was recorded.
func TestTranscript(t *testing.T) {
	text, err := os.ReadFile("../../internal/wire/centrifuge/testdata/transcript.txt")
	if err != nil {
		t.Fatal(err)
	}
	replies := 0
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		parts := strings.SplitN(line, " ", 3)
		if len(parts) != 3 || parts[1] != "<-" {
			continue
		}
		var b []byte
		digits, protobuf := strings.CutPrefix(parts[2], "bin ")
		if protobuf {
			b, err = hex.DecodeString(digits)
		} else {
			var s string
			s, err = strconv.Unquote(parts[2])
			b = []byte(s)
		}
		if err == nil {
			err = decode(protobuf, b, func(*reply) { replies++ })
		}
		if err != nil {
			t.Errorf("line %d: %v", i+1, err)
		}
	}
	if replies < 20 {
		t.Errorf("%d replies in the transcript", replies)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		protobuf bool
		b        []byte
	}{
		{false, []byte("{")}, {false, []byte(`{"id":"x"}`)}, {false, []byte(`[]`)}, {false, []byte(`{"id":-1}`)},
		{true, []byte{5}}, {true, []byte{1, 0x0a}}, {true, []byte{2, 0x0a, 0}}, {true, []byte{2, 0x22, 9}}, {true, []byte{2, 0x20, 1}},
		{true, []byte{6, 0x22, 4, 0x12, 2, 0xff, 0xfe}}, {true, bytes.Repeat([]byte{0xff}, 12)},
	} {
		if err := decode(c.protobuf, c.b, func(*reply) {}); err == nil {
			t.Errorf("%q: no error", c.b)
		}
	}
}

// FuzzDecode: no bytes of a server make the client fall over.
func FuzzDecode(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzDecode/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, protobuf bool, b []byte) {
		n := 0
		err := decode(protobuf, b, func(*reply) { n++ })
		if err == nil && n > len(b) {
			t.Errorf("%d replies in %d bytes", n, len(b))
		}
	})
}
