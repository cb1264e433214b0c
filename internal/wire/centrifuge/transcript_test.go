package centrifuge

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/longwire/longwire/engine"
)

// frame is one frame of the transcript, a recording of another server of the protocol and its clients.
type frame struct {
	line   int
	format Format
	bytes  []byte
}

// transcript returns the frames that were sent in the direction of arrow.
func transcript(t *testing.T, arrow string) (frames []frame) {
	t.Helper()
	text, err := os.ReadFile("testdata/transcript.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		parts := strings.SplitN(line, " ", 3)
		if len(parts) != 3 || parts[1] != "->" && parts[1] != "<-" {
			t.Fatalf("line %d: %q", i+1, line)
		}
		if parts[1] != arrow {
			continue
		}
		f := frame{line: i + 1}
		if digits, ok := strings.CutPrefix(parts[2], "bin "); ok {
			f.format = Protobuf
			f.bytes, err = hex.DecodeString(digits)
		} else {
			var s string
			s, err = strconv.Unquote(parts[2])
			f.bytes = []byte(s)
		}
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		frames = append(frames, f)
	}
	return frames
}

// describe writes what a command has, on a line.
func describe(c *Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v", c.ID, c.Method)
	text := func(name string, v []byte) {
		if len(v) > 0 {
			fmt.Fprintf(&b, " %s=%s", name, v)
		}
	}
	number := func(name string, v int64) {
		if v != 0 {
			fmt.Fprintf(&b, " %s=%d", name, v)
		}
	}
	truth := func(name string, v bool) {
		if v {
			fmt.Fprintf(&b, " %s", name)
		}
	}
	subscribe := func(o *SubscribeOptions) {
		truth("recover", o.Recover)
		truth("positioned", o.Positioned)
		truth("recoverable", o.Recoverable)
		truth("join_leave", o.JoinLeave)
		number("offset", int64(o.Offset))
		text("epoch", o.Epoch)
		text("delta", o.Delta)
		number("flag", o.Flag)
		number("type", int64(o.Type))
		truth("filter", o.Filter)
	}
	text("channel", c.Channel)
	text("token", c.Token)
	text("data", c.Data)
	text("name", c.Name)
	text("version", c.Version)
	for i := range c.Subs {
		fmt.Fprintf(&b, " sub(%s", c.Subs[i].Channel)
		subscribe(&c.Subs[i].SubscribeOptions)
		b.WriteByte(')')
	}
	for _, h := range c.Headers {
		fmt.Fprintf(&b, " header(%s: %s)", h.Name, h.Value)
	}
	subscribe(&c.SubscribeOptions)
	number("limit", int64(c.Limit))
	if c.HasSince {
		fmt.Fprintf(&b, " since(%d %s)", c.Since.Offset, c.Since.Epoch)
	}
	truth("reverse", c.Reverse)
	text("method", c.RPCMethod)
	return b.String()
}

// readAll reads a whole message.
func readAll(r *Reader, f Format, message []byte) (commands []string, err error) {
	r.Reset(f, message)
	for range len(message) + 1 {
		c, err := r.Next()
		if err == io.EOF {
			return commands, nil
		}
		if err != nil {
			if c != nil {
				return commands, errors.New("a command beside an error")
			}
			return commands, err
		}
		commands = append(commands, describe(c))
	}
	return commands, errors.New("more commands than bytes")
}

func TestTranscriptCommands(t *testing.T) {
	const token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MyJ9.AAm669aDTBGeW0Rl2_rAEuhX_ClubBzCkSyef8eLTr0"
	want := []string{
		"1 connect token=<JWT> name=js|2 subscribe channel=c",
		"1 connect token=<JWT>",
		"2 subscribe channel=c",
		`3 publish channel=c data={"x":1}`,
		"4 presence channel=c",
		"5 presence_stats channel=c",
		"6 history channel=c",
		"7 history channel=c limit=10 since(0 )",
		"8 rpc data={} method=m",
		"9 subscribe channel=c",
		"10 subscribe channel=nope:x",
		"11 subscribe channel=priv:x",
		"12 publish channel=other data={}",
		"13 refresh token=<JWT>",
		"14 ping",
		"15 subscribe channel=priv:x token=<JWT>",
		"16 subscribe channel=priv:y token=<JWT>",
		"1 connect token=<JWT>",
		"2 subscribe channel=c recover offset=1 epoch=bad",
		"1 connect token=<JWT>",
		"1 connect token=bad.token.x",
		"1 connect token=<JWT>",
		"1 subscribe channel=c",
		"json: syntax error",
		"0 none",
		"1 connect token=" + token,
		"2 subscribe channel=c",
	}
	frames := transcript(t, "->")
	if len(frames) != len(want) {
		t.Fatalf("%d frames, %d wanted", len(frames), len(want))
	}
	var r Reader
	for i, f := range frames {
		commands, err := readAll(&r, f.format, f.bytes)
		got := strings.Join(commands, "|")
		if err != nil {
			got = err.Error()
		}
		if got != want[i] {
			t.Errorf("line %d: %s\nwant %s", f.line, got, want[i])
		}
	}
}

func TestTranscriptReplies(t *testing.T) {
	const (
		a, b, c  = "e9964fca-88e5-4bfe-bc2b-ebfbdee251e4", "53aac24e-a986-42ae-b457-2b363ff25694", "85b1c4df-35c9-4970-965d-15162ea5fd8f"
		d, k     = "a7462842-4c1f-4b55-ab0e-8ac1b7018b4a", "49679aee-c1f1-46a1-8e20-4c2405a58109"
		epoch    = "RCGuSPCX"
		version  = "0.0.0 OSS"
		expiring = true
	)
	connInfo := []byte(`{"n":1}`)
	infoA := &engine.ClientInfo{User: "u1", Client: a, ConnInfo: connInfo}
	infoB := &engine.ClientInfo{User: "u2", Client: b}
	infoC := &engine.ClientInfo{User: "u1", Client: c, ConnInfo: connInfo}
	infoK := &engine.ClientInfo{User: "u3", Client: k}
	first := &Publication{Publication: &engine.Publication{Offset: 1, Data: []byte(`{"x":1}`), Info: infoA}, Epoch: epoch}
	pub := func(offset uint64, data string) *Publication {
		return &Publication{Publication: &engine.Publication{Offset: offset, Data: []byte(data)}}
	}
	subscribed := &SubscribeResult{Recoverable: true, Epoch: epoch, Positioned: true}
	connected := func(client string, expires bool, ttl uint32) *ConnectResult {
		return &ConnectResult{Client: client, Version: version, Expires: expires, TTL: ttl, Ping: 4, Pong: true}
	}

	// Each frame is what these append, one after another.
	type appends []func(dst []byte, f Format) []byte
	connect := func(c *ConnectResult) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendConnect(dst, f, 1, c) }
	}
	subscribe := func(s *SubscribeResult) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendSubscribe(dst, f, 2, s) }
	}
	publication := func(p *Publication) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendPublication(dst, f, "c", p) }
	}
	join := func(channel string, i *engine.ClientInfo) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendJoin(dst, f, channel, i) }
	}
	failed := func(id uint32, e *Error) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendError(dst, f, id, e) }
	}
	leave := func(i *engine.ClientInfo) func([]byte, Format) []byte {
		return func(dst []byte, f Format) []byte { return AppendLeave(dst, f, "c", i) }
	}
	want := []appends{
		{connect(connected(a, expiring, 599)), subscribe(subscribed), join("c", infoA)},
		{connect(connected(b, false, 0))},
		{join("c", infoB)},
		{subscribe(subscribed), join("c", infoB)},
		{publication(first)},
		{publication(first), func(dst []byte, f Format) []byte { return AppendEmpty(dst, f, 3, Publish) }},
		{
			func(dst []byte, f Format) []byte {
				return AppendPresence(dst, f, 4, map[string]*engine.ClientInfo{a: infoA, b: infoB})
			},
			func(dst []byte, f Format) []byte {
				return AppendPresenceStats(dst, f, 5, engine.PresenceStats{Clients: 2, Users: 2})
			},
			func(dst []byte, f Format) []byte {
				return AppendHistory(dst, f, 6, &HistoryResult{Epoch: epoch, Offset: 1})
			},
		},
		{func(dst []byte, f Format) []byte {
			return AppendHistory(dst, f, 7, &HistoryResult{Publications: []Publication{*first}, Epoch: epoch, Offset: 1})
		}},
		{failed(8, ErrNotAvailable)},
		{failed(9, ErrAlreadySubscribed), failed(10, ErrUnknownChannel), failed(11, ErrPermissionDenied), failed(12, ErrPermissionDenied)},
		{func(dst []byte, f Format) []byte { return AppendRefresh(dst, f, 13, "", "", expiring, 598) }},
		{leave(infoA)},
		{publication(pub(2, `{"x":2}`))},
		{publication(pub(3, `{"x":3}`))},
		{func(dst []byte, f Format) []byte { return AppendUnsubscribe(dst, f, "c", UnsubscribeServer) }},
		{
			func(dst []byte, f Format) []byte {
				return AppendSubscribePush(dst, f, "srv", &SubscribeResult{Recoverable: true, Epoch: "YoUVTTKU", Positioned: true})
			},
			join("srv", infoB),
		},
		{connect(connected(c, expiring, 597))},
		{
			subscribe(&SubscribeResult{Recoverable: true, Epoch: epoch, Offset: 4, Positioned: true, WasRecovering: true}),
			join("c", infoC),
		},
		{connect(connected(d, expiring, 597))},
		{failed(1, ErrTokenExpired)},
		{connect(connected(k, false, 0))},
		{join("c", infoK)},
		{subscribe(&SubscribeResult{Recoverable: true, Epoch: epoch, Offset: 4, Positioned: true}), join("c", infoK)},
		{AppendPing},
		{AppendPing},
		{AppendPing},
		{leave(infoC)},
	}
	frames := transcript(t, "<-")
	if len(frames) != len(want) {
		t.Fatalf("%d frames, %d wanted", len(frames), len(want))
	}
	for i, f := range frames {
		var got []byte
		for j, append1 := range want[i] {
			if j > 0 && f.format == JSON {
				got = append(got, '\n')
			}
			got = append1(got, f.format)
		}
		if !bytes.Equal(got, f.bytes) {
			t.Errorf("line %d:\n got %q\nwant %q", f.line, got, f.bytes)
		}
	}
}
