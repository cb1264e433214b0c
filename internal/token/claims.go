package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
)

// Connect is what a connection token grants. Its memory is its own.
type Connect struct {
	User     string // empty for an anonymous one
	ExpireAt int64  // when the connection expires, in Unix seconds; 0 for never
	Info     []byte // of the user, for others to see; JSON on one line, unless it came as b64info; nil for none
	Meta     []byte // of the user, for the server alone; JSON on one line; nil for none
	JTI      string // the id of the token, empty for none

	// Subs and Channels are what to subscribe the connection to, in the order of the token. Only one of them is
	// set: a token's channels count only where it has no subs.
	Subs     []Sub
	Channels []string
}

// Sub is a subscription that a connection token asks for.
type Sub struct {
	Channel string
	SubOptions
}

// SubOptions are what a token says about a subscription.
type SubOptions struct {
	Info []byte // of the user in this channel, as Connect.Info
	Data []byte // for the subscriber, as Connect.Info

	// These override what the channel is configured to do; nil leaves it.
	Presence           *bool
	JoinLeave          *bool
	ForcePushJoinLeave *bool
	ForceRecovery      *bool
	ForcePositioning   *bool
}

// Subscribe is what a subscription token grants. Its memory is its own.
type Subscribe struct {
	User     string
	Channel  string
	Client   string // the only connection that may use the token; empty for any of the user
	ExpireAt int64  // when the subscription expires, in Unix seconds; 0 for never
	SubOptions
}

// claims are the raw JSON values of the claims that count, nil for what is absent.
type claims struct {
	user, iss, aud, exp, nbf, iat, jti, expireAt []byte
	channel, client, channels, subs, meta        []byte
	options
}

// options are the raw JSON values of SubOptions.
type options struct {
	info, b64info, data, b64data, override []byte
}

// slot has no place for the user claim, whose name is an option.
func (c *claims) slot(key []byte) *[]byte {
	switch string(key) {
	case "iss":
		return &c.iss
	case "aud":
		return &c.aud
	case "exp":
		return &c.exp
	case "nbf":
		return &c.nbf
	case "iat":
		return &c.iat
	case "jti":
		return &c.jti
	case "expire_at":
		return &c.expireAt
	case "channel":
		return &c.channel
	case "client":
		return &c.client
	case "channels":
		return &c.channels
	case "subs":
		return &c.subs
	case "meta":
		return &c.meta
	}
	return c.options.slot(key)
}

func (o *options) slot(key []byte) *[]byte {
	switch string(key) {
	case "info":
		return &o.info
	case "b64info":
		return &o.b64info
	case "data":
		return &o.data
	case "b64data":
		return &o.b64data
	case "override":
		return &o.override
	}
	return nil
}

// readClaims reads the payload of a token, in base64. The claims alias s.
func (s *scratch) readClaims(payload []byte, userClaim string) (*claims, error) {
	payload, err := s.decode(payload)
	if err != nil {
		return nil, invalid("claims")
	}
	c := &s.claims
	*c = claims{}
	if !object(payload, func(key []byte) *[]byte {
		if string(key) == userClaim {
			return &c.user
		}
		return c.slot(key)
	}) {
		return nil, invalid("claims")
	}
	if c.iat != nil {
		if _, err := date(c.iat); err != nil {
			return nil, invalid("iat")
		}
	}
	return c, nil
}

func (c *claims) connect(userClaim string) (out Connect, err error) {
	if channel, err := text(c.channel); err != nil || len(channel) > 0 {
		return out, invalid("channel in a connection token")
	}
	if out.User, err = c.userOf(userClaim); err != nil {
		return out, err
	}
	if out.ExpireAt, err = c.expiry(); err != nil {
		return out, err
	}
	if out.Info, err = content(c.info, c.b64info); err != nil {
		return out, invalid("info")
	}
	if out.Meta, err = content(c.meta, nil); err != nil {
		return out, invalid("meta")
	}
	jti, err := text(c.jti)
	if err != nil {
		return out, invalid("jti")
	}
	out.JTI = string(jti)
	if out.Subs, err = readSubs(c.subs); err != nil {
		return out, invalid("subs")
	}
	if len(out.Subs) == 0 {
		if out.Channels, err = readChannels(c.channels); err != nil {
			return out, invalid("channels")
		}
	}
	return out, nil
}

func (c *claims) subscribe(userClaim string) (out Subscribe, err error) {
	channel, err := text(c.channel)
	if err != nil || len(channel) == 0 {
		return out, invalid("no channel in a subscription token")
	}
	out.Channel = string(channel)
	if out.User, err = c.userOf(userClaim); err != nil {
		return out, err
	}
	client, err := text(c.client)
	if err != nil {
		return out, invalid("client")
	}
	out.Client = string(client)
	if out.ExpireAt, err = c.expiry(); err != nil {
		return out, err
	}
	if out.SubOptions, err = c.options.read(); err != nil {
		return out, invalid("options")
	}
	return out, nil
}

func (c *claims) userOf(userClaim string) (string, error) {
	user, err := text(c.user)
	if err != nil && userClaim != "sub" {
		var n int64
		if n, err = strconv.ParseInt(string(c.user), 10, 64); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
	}
	if err != nil {
		return "", invalid("user")
	}
	return string(user), nil
}

// expiry is expire_at, where 0 and less mean never, or else exp.
func (c *claims) expiry() (int64, error) {
	raw := c.expireAt
	if raw == nil {
		raw = c.exp
	}
	if raw == nil {
		return 0, nil
	}
	at, err := date(raw)
	if err != nil {
		return 0, invalid("expiry")
	}
	return max(0, int64(at)), nil
}

// audience tells whether aud, or an element of it, is what match wants.
func (c *claims) audience(match func([]byte) bool) bool {
	if c.aud == nil || c.aud[0] != '[' {
		aud, err := text(c.aud)
		return c.aud != nil && err == nil && match(aud)
	}
	found := false
	w := walk{b: c.aud, at: 1}
	for w.more() {
		aud, err := text(w.value())
		if err != nil {
			return false
		}
		found = found || match(aud)
	}
	return found
}

// date reads a NumericDate (RFC 7519 section 2), in Unix seconds.
func date(raw []byte) (float64, error) {
	at, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(at) > 1<<53 {
		return 0, ErrInvalid
	}
	return at, nil
}

// content returns what a value and its base64 sibling give, of which the latter wins.
func content(raw, b64 []byte) ([]byte, error) {
	encoded, err := text(b64)
	if err != nil {
		return nil, err
	}
	if len(encoded) > 0 {
		return base64.StdEncoding.AppendDecode(nil, encoded)
	}
	// Line ends separate the messages of the JSON protocol, so none may stand in a value.
	if bytes.IndexByte(raw, '\n') >= 0 || bytes.IndexByte(raw, '\r') >= 0 {
		var line bytes.Buffer
		err := json.Compact(&line, raw)
		return line.Bytes(), err
	}
	return bytes.Clone(raw), nil
}

func (o *options) read() (out SubOptions, err error) {
	if out.Info, err = content(o.info, o.b64info); err != nil {
		return out, err
	}
	if out.Data, err = content(o.data, o.b64data); err != nil {
		return out, err
	}
	if o.override == nil {
		return out, nil
	}
	var override struct {
		Presence           *flag `json:"presence"`
		JoinLeave          *flag `json:"join_leave"`
		ForcePushJoinLeave *flag `json:"force_push_join_leave"`
		ForceRecovery      *flag `json:"force_recovery"`
		ForcePositioning   *flag `json:"force_positioning"`
	}
	if err := json.Unmarshal(o.override, &override); err != nil {
		return out, err
	}
	out.Presence = override.Presence.get()
	out.JoinLeave = override.JoinLeave.get()
	out.ForcePushJoinLeave = override.ForcePushJoinLeave.get()
	out.ForceRecovery = override.ForceRecovery.get()
	out.ForcePositioning = override.ForcePositioning.get()
	return out, nil
}

// flag is one member of an override. One without a value is false, as Centrifugo has it.
type flag struct {
	Value bool `json:"value"`
}

func (f *flag) get() *bool {
	if f == nil {
		return nil
	}
	return &f.Value
}

func readSubs(raw []byte) ([]Sub, error) {
	if raw == nil {
		return nil, nil
	}
	if raw[0] != '{' {
		return nil, ErrInvalid
	}
	var subs []Sub
	seen := make(map[string]bool)
	w := walk{b: raw, at: 1}
	for w.more() {
		channel, err := text(w.value())
		if err != nil || len(channel) == 0 || seen[string(channel)] {
			return nil, ErrInvalid
		}
		sub := Sub{Channel: string(channel)}
		seen[sub.Channel] = true
		value := w.value()
		var o options
		if string(value) != "null" && !object(value, o.slot) {
			return nil, ErrInvalid
		}
		if sub.SubOptions, err = o.read(); err != nil {
			return nil, err
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

func readChannels(raw []byte) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, ErrInvalid
	}
	var channels []string
	w := walk{b: raw, at: 1}
	for w.more() {
		channel, err := text(w.value())
		if err != nil || len(channel) == 0 {
			return nil, ErrInvalid
		}
		channels = append(channels, string(channel))
	}
	return channels, nil
}
