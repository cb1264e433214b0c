package hook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// protobuf is session.Client's Protocol where data may be any bytes.
const protobuf = "protobuf"

// maxReason is what a WebSocket close frame has room for, in bytes: RFC 6455 section 5.5.
const maxReason = 123

// request is what a backend gets, of any method. Its names are those of Centrifugo's proxy.
type request struct {
	Client    string `json:"client,omitempty"`
	Transport string `json:"transport,omitempty"`
	Protocol  string `json:"protocol,omitempty"`
	Encoding  string `json:"encoding"` // json: data is in Data; binary: in B64Data

	Name    string  `json:"name,omitempty"`    // connect
	Version string  `json:"version,omitempty"` // connect
	User    *string `json:"user,omitempty"`    // nil: connect, where it is what is asked for
	Channel string  `json:"channel,omitempty"`
	Token   string  `json:"token,omitempty"`
	Method  string  `json:"method,omitempty"`

	Data    json.RawMessage `json:"data,omitempty"`
	B64Data string          `json:"b64data,omitempty"`
}

// newRequest has what all methods send, and data of the client.
func newRequest(c session.Client, data []byte) request {
	q := request{Client: c.ID, Transport: c.Transport, Protocol: c.Protocol, Encoding: "json"}
	switch {
	case len(data) == 0:
	case isJSON(data):
		q.Data = data
	default:
		q.Encoding, q.B64Data = "binary", base64.StdEncoding.EncodeToString(data)
	}
	return q
}

// valid reports whether the text in q is UTF-8. Encoded in JSON, other text would become another name: that of a channel
// the client did not ask for.
func (q *request) valid() bool {
	return utf8.ValidString(q.Channel) && utf8.ValidString(q.Token) && utf8.ValidString(q.Method)
}

// encode is q in JSON.
func (q *request) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // data is to arrive as the client wrote it
	if err := e.Encode(q); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// isJSON reports whether b is one JSON value, in UTF-8.
func isJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

// payload is a value in a result: raw JSON, or any bytes in base64, which wins where it is not empty.
type payload struct {
	raw json.RawMessage
	b64 string
}

// bytes is the payload as one line. It must be JSON, unless binary. Nil: the result has none. A null is a value.
func (p payload) bytes(field string, binary bool) ([]byte, error) {
	b := []byte(p.raw)
	if p.b64 != "" {
		var err error
		if b, err = base64.StdEncoding.DecodeString(p.b64); err != nil {
			return nil, fmt.Errorf("b64%s: %w", field, err)
		}
		if binary {
			return b, nil
		}
	}
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s is not UTF-8", field)
	}
	// Clients of the JSON protocol split messages at line feeds.
	var line bytes.Buffer
	line.Grow(len(b))
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return line.Bytes(), nil
}

// expiry is a moment in Unix seconds, 0 for never.
type expiry int64

// maxExpiry is the end of the year 9999. What is beyond is taken for milliseconds.
const maxExpiry = 253402300799

func (e expiry) time() (time.Time, error) {
	if e < 0 || e > maxExpiry {
		return time.Time{}, fmt.Errorf("expire_at %d is not in Unix seconds", int64(e))
	}
	if e == 0 {
		return time.Time{}, nil
	}
	return time.Unix(int64(e), 0), nil
}

// The results, as backends write them. Fields that this version has no use for are ignored.
type (
	connectResult struct {
		User     string                   `json:"user"`
		ExpireAt expiry                   `json:"expire_at"`
		Info     json.RawMessage          `json:"info"`
		B64Info  string                   `json:"b64info"`
		Data     json.RawMessage          `json:"data"`
		B64Data  string                   `json:"b64data"`
		Channels []string                 `json:"channels"`
		Subs     map[string]optionsResult `json:"subs"`
	}
	subscribeResult struct {
		ExpireAt expiry `json:"expire_at"`
		optionsResult
	}
	optionsResult struct {
		Info     json.RawMessage `json:"info"`
		B64Info  string          `json:"b64info"`
		Data     json.RawMessage `json:"data"`
		B64Data  string          `json:"b64data"`
		Override struct {
			Presence           override `json:"presence"`
			JoinLeave          override `json:"join_leave"`
			ForceRecovery      override `json:"force_recovery"`
			ForcePositioning   override `json:"force_positioning"`
			ForcePushJoinLeave override `json:"force_push_join_leave"`
		} `json:"override"`
	}
	refreshResult struct {
		Expired  bool            `json:"expired"`
		ExpireAt expiry          `json:"expire_at"`
		Info     json.RawMessage `json:"info"`
		B64Info  string          `json:"b64info"`
	}
	publishResult struct {
		Data        json.RawMessage `json:"data"`
		B64Data     string          `json:"b64data"`
		SkipHistory bool            `json:"skip_history"`
	}
	rpcResult struct {
		Data    json.RawMessage `json:"data"`
		B64Data string          `json:"b64data"`
	}
)

// override is {"value":true}; without the object it is nil, and without a value in it false.
type override struct{ set *bool }

// UnmarshalJSON implements json.Unmarshaler.
func (o *override) UnmarshalJSON(b []byte) error {
	var v *struct {
		Value bool `json:"value"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if o.set = nil; v != nil {
		o.set = &v.Value
	}
	return nil
}

func (r *optionsResult) options(binary bool) (o session.SubscribeOptions, err error) {
	if o.Info, err = (payload{r.Info, r.B64Info}).bytes("info", false); err != nil {
		return o, err
	}
	if o.Data, err = (payload{r.Data, r.B64Data}).bytes("data", binary); err != nil {
		return o, err
	}
	o.Presence, o.JoinLeave, o.ForceJoinLeave = r.Override.Presence.set, r.Override.JoinLeave.set, r.Override.ForcePushJoinLeave.set
	o.ForceRecovery, o.ForcePositioning = r.Override.ForceRecovery.set, r.Override.ForcePositioning.set
	return o, nil
}

// decode reads one reply: a result, which is nil where the reply has none, goes to read; an error or a disconnect comes
// back as *centrifuge.Error or *centrifuge.Disconnect. Any other error means that the body is no reply. binary says that
// the client takes data of any bytes.
func decode[R, A any](body []byte, binary bool, read func(r *R, binary bool) (A, error)) (A, error) {
	var none A
	if !utf8.Valid(body) {
		return none, errors.New("the reply is not UTF-8")
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return none, errors.New("the reply is no JSON object") // null would be read as an empty one
	}
	var reply struct {
		Result *R `json:"result"`
		Error  *struct {
			Code      uint32 `json:"code"`
			Message   string `json:"message"`
			Temporary bool   `json:"temporary"`
		} `json:"error"`
		Disconnect *struct {
			Code   uint32 `json:"code"`
			Reason string `json:"reason"`
		} `json:"disconnect"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return none, fmt.Errorf("the reply: %w", err)
	}
	if d := reply.Disconnect; d != nil {
		if d.Code < 3000 || d.Code > 4999 { // RFC 6455 section 7.4.2: what is for libraries and applications
			return none, fmt.Errorf("disconnect code %d is not within 3000 and 4999", d.Code)
		}
		return none, &centrifuge.Disconnect{Code: uint16(d.Code), Reason: cut(d.Reason, maxReason)}
	}
	if e := reply.Error; e != nil {
		if e.Code == 0 {
			return none, errors.New("an error without a code")
		}
		return none, &centrifuge.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary}
	}
	answer, err := read(reply.Result, binary)
	if err != nil {
		return none, fmt.Errorf("the result: %w", err)
	}
	return answer, nil
}

// cut is s without what is beyond n bytes; no rune is split.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// readConnect takes no result for nobody, as Centrifugo does: an anonymous client has a result without a user.
func readConnect(r *connectResult, binary bool) (a session.ConnectReply, err error) {
	if r == nil {
		return a, centrifuge.DisconnectBadRequest
	}
	a.User, a.Channels = r.User, r.Channels
	if a.ExpireAt, err = r.ExpireAt.time(); err != nil {
		return a, err
	}
	if a.Info, err = (payload{r.Info, r.B64Info}).bytes("info", false); err != nil {
		return a, err
	}
	if a.Data, err = (payload{r.Data, r.B64Data}).bytes("data", binary); err != nil {
		return a, err
	}
	if len(r.Subs) > 0 {
		a.Subs = make(map[string]session.SubscribeOptions, len(r.Subs))
	}
	for channel, s := range r.Subs {
		if a.Subs[channel], err = s.options(binary); err != nil {
			return a, fmt.Errorf("subs: %q: %w", channel, err)
		}
	}
	return a, nil
}

// readRefresh takes no result for an end, as Centrifugo does.
func readRefresh(r *refreshResult, _ bool) (a session.RefreshReply, err error) {
	if r == nil || r.Expired {
		return session.RefreshReply{Expired: true}, nil
	}
	if a.ExpireAt, err = r.ExpireAt.time(); err != nil {
		return a, err
	}
	a.Info, err = payload{r.Info, r.B64Info}.bytes("info", false)
	return a, err
}

// readSubscribe takes no result for a yes, as Centrifugo does.
func readSubscribe(r *subscribeResult, binary bool) (a session.SubscribeReply, err error) {
	if r == nil {
		return a, nil
	}
	if a.ExpireAt, err = r.ExpireAt.time(); err != nil {
		return a, err
	}
	a.Options, err = r.options(binary)
	return a, err
}

// readPublish takes no result for a yes, as Centrifugo does.
func readPublish(r *publishResult, binary bool) (a session.PublishReply, err error) {
	if r == nil {
		return a, nil
	}
	a.SkipHistory = r.SkipHistory
	a.Data, err = payload{r.Data, r.B64Data}.bytes("data", binary)
	return a, err
}

func readRPC(r *rpcResult, binary bool) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return payload{r.Data, r.B64Data}.bytes("data", binary)
}
