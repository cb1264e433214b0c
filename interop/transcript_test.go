package interop

import (
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gws "github.com/gorilla/websocket"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/token/tokentest"
)

// transcript was recorded from Centrifugo 6.9.1, whose clients and ours are the same. Each line is a frame of one
// connection (a -> client's, a <- server's, bin for hexadecimal), its end, or a call of the server's HTTP API. Tokens
// are masked.
//
//go:embed testdata/centrifugo-wire.txt
var transcript string

// TestTranscript replays the transcript: whatever Centrifugo sent and answered, the gateway does, but for ids, epochs,
// times, its version and metrics. Several replies in one message and in several are the same.
func TestTranscript(t *testing.T) {
	t.Parallel()
	c := longwire.Config{Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Sessions:   longwire.Sessions{Ping: 4 * time.Second, Pong: time.Second},
		Tokens:     longwire.TokenOptions{HMACSecret: []byte(tokenSecret)},
		Namespaces: []longwire.ChannelOptions{{Name: "priv"}}}
	c.Channels = history("", 10)
	c.Channels.Presence, c.Channels.PresenceForSubscriber, c.Channels.HistoryForSubscriber = true, true, true
	c.Channels.JoinLeave, c.Channels.ForceJoinLeave = true, true
	r := &replay{t: t, conns: make(map[string]*recorded), want: make(mask), got: make(mask)}
	r.url = "ws://" + serveAPI(t, c).Addr().String() + centrifugePath
	for n, line := range strings.Split(strings.TrimSpace(transcript), "\n") {
		r.line = n + 1
		r.step(line)
	}
	if r.frames != 63 {
		t.Errorf("compared %d frames and answers, want the 63 of the transcript", r.frames)
	}
}

// replay is the state of TestTranscript.
type replay struct {
	t         *testing.T
	url       string
	conns     map[string]*recorded
	want, got mask
	line      int // of the transcript
	frames    int // and answers of the API that were compared
}

// recorded is one connection of the transcript.
type recorded struct {
	ws     *gws.Conn
	binary bool
	mu     sync.Mutex  // of writing
	silent atomic.Bool // does not answer pings
	lines  chan string // what the server sent, but for pings; closed at the end
	pings  chan struct{}
	end    error // why lines is closed
}

// Tokens by connection: the claims that the replies show, and whether they expire.
var transcriptTokens = map[string]string{
	"a": `{"sub":"u1","info":{"n":1},"exp":%d}`, "b": `{"sub":"u2"}`, "c": `{"sub":"u1","info":{"n":1},"exp":%d}`,
	"d": `{"sub":"u1","info":{"n":1},"exp":%d}`, "f": `{"sub":"u1","exp":1}`, "k": `{"sub":"u3"}`,
}

func transcriptToken(name string) string {
	claims := transcriptTokens[name]
	if strings.Contains(claims, "%d") {
		claims = fmt.Sprintf(claims, time.Now().Add(10*time.Minute).Unix())
	}
	return tokentest.HS256(tokenSecret, claims)
}

func (r *replay) fatalf(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf("line %d of the transcript: "+format, append([]any{r.line}, args...)...)
}

func (r *replay) step(line string) {
	name, rest, _ := strings.Cut(line, " ")
	if name == "API" {
		r.api(rest)
		return
	}
	verb, rest, _ := strings.Cut(rest, " ")
	c := r.conns[name]
	if c == nil {
		protocol := ""
		if verb == "subprotocol" {
			protocol = rest
		}
		c = r.dial(name, protocol)
		r.conns[name] = c
	}
	switch verb {
	case "subprotocol":
		if c.ws.Subprotocol() != rest {
			r.fatalf("subprotocol %q, want %q", c.ws.Subprotocol(), rest)
		}
	case "->":
		c.send(r, name, rest)
	case "<-":
		for _, want := range r.decode(rest) {
			r.compare(c, want)
		}
	case "CLOSE":
		code, reason, _ := strings.Cut(rest, " ")
		r.closed(c, code, reason)
	default:
		r.fatalf("%q is not understood", line)
	}
}

func (r *replay) dial(name, protocol string) *recorded {
	d := gws.Dialer{}
	if protocol != "" {
		d.Subprotocols = []string{protocol}
	}
	ws, _, err := d.Dial(r.url, nil)
	if err != nil {
		r.fatalf("dial: %v", err)
	}
	c := &recorded{ws: ws, binary: protocol == "centrifuge-protobuf",
		lines: make(chan string, 1000), pings: make(chan struct{}, 1000)}
	// These two were recorded without an answer to their pings.
	c.silent.Store(name == "c" || name == "d")
	r.t.Cleanup(func() { _ = ws.Close() })
	go c.read()
	return c
}

// read takes what the server sends until it ends the connection.
func (c *recorded) read() {
	defer close(c.lines)
	for {
		_, b, err := c.ws.ReadMessage()
		if err != nil {
			c.end = err
			return
		}
		lines, err := []string(nil), error(nil)
		if c.binary {
			lines, err = protobufLines(b, replySchema)
		} else {
			lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		}
		if err != nil {
			c.end = err
			return
		}
		for _, line := range lines {
			if line != "{}" {
				c.lines <- line
				continue
			}
			if !c.silent.Load() {
				c.pong()
			}
			c.pings <- struct{}{}
		}
	}
}

func (c *recorded) pong() {
	if c.binary {
		c.write(gws.BinaryMessage, []byte{0})
	} else {
		c.write(gws.TextMessage, []byte("{}"))
	}
}

// write's error is that of reading, too.
func (c *recorded) write(kind int, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.WriteMessage(kind, b)
}

func (c *recorded) send(r *replay, name, frame string) {
	b, ok := strings.CutPrefix(frame, "bin ")
	switch {
	case !ok:
		s, err := strconv.Unquote(frame)
		if err != nil {
			r.fatalf("%v", err)
		}
		c.write(gws.TextMessage, []byte(strings.ReplaceAll(s, "<JWT>", transcriptToken(name))))
	case len(b) >= 200: // it is cut off within its token
		var connect, command []byte
		connect = protowire.AppendTag(connect, 1, protowire.BytesType)
		connect = protowire.AppendString(connect, transcriptToken(name))
		command = append(command, 8, 1)
		command = protowire.AppendTag(command, 4, protowire.BytesType)
		command = protowire.AppendBytes(command, connect)
		c.write(gws.BinaryMessage, protowire.AppendBytes(nil, command))
	default:
		raw, err := hex.DecodeString(b)
		if err != nil {
			r.fatalf("%v", err)
		}
		c.write(gws.BinaryMessage, raw)
	}
}

// decode gives the lines of a recorded frame.
func (r *replay) decode(frame string) []string {
	if b, ok := strings.CutPrefix(frame, "bin "); ok {
		raw, err := hex.DecodeString(b)
		if err != nil {
			r.fatalf("%v", err)
		}
		lines, err := protobufLines(raw, replySchema)
		if err != nil {
			r.fatalf("%v", err)
		}
		return lines
	}
	s, err := strconv.Unquote(frame)
	if err != nil {
		r.fatalf("%v", err)
	}
	return strings.Split(s, "\n")
}

const patience = 30 * time.Second // with a server that should have sent something

func (r *replay) compare(c *recorded, want string) {
	r.t.Helper()
	r.frames++
	if want == "{}" {
		select {
		case <-c.pings:
		case <-time.After(patience):
			r.fatalf("no ping came")
		}
		return
	}
	select {
	case got, ok := <-c.lines:
		if !ok {
			r.fatalf("the connection ended with %v, want %s", c.end, want)
		}
		if got, want := r.got.line(got), r.want.line(want); got != want {
			r.t.Errorf("line %d of the transcript: the gateway sends\n\t%s\nwant\n\t%s", r.line, got, want)
		}
	case <-time.After(patience):
		r.fatalf("nothing came, want %s", want)
	}
}

func (r *replay) closed(c *recorded, code, reason string) {
	if code == "1006" {
		_ = c.ws.Close() // the recorder itself
		return
	}
	c.silent.Store(true)
	select {
	case line, more := <-c.lines:
		if more {
			r.fatalf("the gateway sends %s, want it to close with %s", line, code)
		}
		r.frames++
		var ce *gws.CloseError
		if !errors.As(c.end, &ce) || strconv.Itoa(ce.Code) != code || ce.Text != reason {
			r.t.Errorf("line %d of the transcript: the connection ended with %v, want %s %s", r.line, c.end, code, reason)
		}
	case <-time.After(patience):
		r.fatalf("the connection stays, want it closed with %s", code)
	}
}

// api makes a call of the server API and compares the answer.
func (r *replay) api(call string) {
	method, rest, _ := strings.Cut(call, " ")
	request, want, answered := strings.Cut(rest, " => ")
	key := apiKey
	if method == "without" { // a key
		method, request, want, key = "info", "{}", "401", ""
	} else if !answered {
		r.fatalf("%q is not understood", call)
	}
	req, err := http.NewRequest("POST", strings.Replace(strings.TrimSuffix(r.url, centrifugePath), "ws:", "http:", 1)+"/api/"+method, strings.NewReader(request))
	if err != nil {
		r.fatalf("%v", err)
	}
	req.Header.Set("X-API-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.fatalf("%v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.fatalf("%v", err)
	}
	got := strconv.Itoa(resp.StatusCode)
	if resp.StatusCode == http.StatusOK {
		got += " " + strings.TrimSpace(string(body))
	}
	if method == "info" && key != "" { // mostly about the server itself
		got, want = r.keys(got), r.keys(want)
	}
	r.frames++
	if got, want := r.got.line(got), r.want.line(want); got != want {
		r.t.Errorf("line %d of the transcript: API %s %s is answered with\n\t%s\nwant\n\t%s", r.line, method, request, got, want)
	}
}

// keys are what the first node of an answer of info tells.
func (r *replay) keys(answer string) string {
	var a struct {
		Result struct{ Nodes []map[string]any }
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(answer, "200 ")), &a); err != nil || len(a.Result.Nodes) != 1 {
		r.fatalf("%s is not an answer of one node: %v", answer, err)
	}
	node := a.Result.Nodes[0]
	delete(node, "metrics") // ours are at /metrics
	delete(node, "uptime")  // left out in the first second
	return strings.Join(slices.Sorted(maps.Keys(node)), " ")
}

// mask replaces what differs between two servers; a client's id by how many others came before it.
type mask map[string]int

var (
	maskClient  = regexp.MustCompile(`[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	maskEpoch   = regexp.MustCompile(`"epoch":"[^"]+"`)
	maskVersion = regexp.MustCompile(`"version":"[^"]+"`)
	maskTTL     = regexp.MustCompile(`"ttl":[1-9][0-9]*`)
)

func (m mask) line(s string) string {
	s = maskClient.ReplaceAllStringFunc(s, func(id string) string {
		if _, ok := m[id]; !ok {
			m[id] = len(m) + 1
		}
		return fmt.Sprintf("client-%d", m[id])
	})
	s = maskEpoch.ReplaceAllString(s, `"epoch":"…"`)
	s = maskVersion.ReplaceAllString(s, `"version":"…"`)
	s = maskTTL.ReplaceAllString(s, `"ttl":"…"`)
	if strings.Contains(s, `"presence":{"presence":`) { // by client, and so in any order
		var v any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			return err.Error()
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	return s
}

// schema says what the fields of a Protobuf message are called, and which of them are messages themselves.
type schema map[protowire.Number]struct {
	name    string
	message schema
}

var (
	infoSchema  = schema{1: {name: "user"}, 2: {name: "client"}, 3: {name: "conn_info"}, 4: {name: "chan_info"}}
	joinSchema  = schema{1: {"info", infoSchema}}
	replySchema = schema{
		1: {name: "id"},
		4: {"push", schema{2: {name: "channel"}, 5: {"join", joinSchema}, 6: {"leave", joinSchema}}},
		5: {"connect", schema{1: {name: "client"}, 2: {name: "version"}, 3: {name: "expires"}, 4: {name: "ttl"}, 7: {name: "ping"}, 8: {name: "pong"}}},
		6: {"subscribe", schema{3: {name: "recoverable"}, 6: {name: "epoch"}, 9: {name: "offset"}, 10: {name: "positioned"}}},
	}
)

// protobufLines writes each message of a frame in a notation like JSON.
func protobufLines(b []byte, s schema) (lines []string, err error) {
	for len(b) > 0 {
		m, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		line, err := s.text(m)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (s schema) text(b []byte) (string, error) {
	var fields []string
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", protowire.ParseError(n)
		}
		b = b[n:]
		f, ok := s[number]
		switch {
		case !ok:
			return "", fmt.Errorf("field %d is unknown", number)
		case kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return "", protowire.ParseError(n)
			}
			b = b[n:]
			fields = append(fields, fmt.Sprintf("%q:%d", f.name, v))
		case kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return "", protowire.ParseError(n)
			}
			b = b[n:]
			text := strconv.Quote(string(v))
			if f.message != nil {
				var err error
				if text, err = f.message.text(v); err != nil {
					return "", err
				}
			}
			fields = append(fields, fmt.Sprintf("%q:%s", f.name, text))
		default:
			return "", fmt.Errorf("field %d is of type %d", number, kind)
		}
	}
	return "{" + strings.Join(fields, ",") + "}", nil
}
