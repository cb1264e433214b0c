// Package plain is the protocol for a person with a WebSocket console and for small firmware: JSON text
// messages, an object each, with a "type". docs/plain.md has all of them.
//
//	client → gateway   {"type":"subscribe","id":1,"channel":"news"}
//	gateway → client   {"type":"subscribed","id":1,"channel":"news"}
//	gateway → client   {"type":"message","channel":"news","data":{"text":"hello"}}
//
// It works on bytes: no socket, no clock. Unknown members are ignored.
package plain

import (
	"errors"
	"strconv"

	"github.com/longwire/longwire/internal/wire/json"
)

// Kind is what a command asks for.
type Kind uint8

// The commands. Unknown is one whose type this version does not know.
const (
	Unknown Kind = iota
	Ping
	Pong // a client's answer to a ping of ours, or a bare sign of life; needs no reply
	Subscribe
	Unsubscribe
	Publish
)

// Command is one message of a client. Its bytes alias the message, but for a Channel or an Epoch with escapes. Members
// that its kind does not use are nil or zero.
type Command struct {
	Kind Kind
	TS   []byte // the raw JSON value of "ts", nil when absent
	ID   []byte // the raw JSON number or string of "id", nil when absent

	Channel []byte // subscribe, unsubscribe, publish: never empty
	Data    []byte // publish: the raw JSON value, never null

	// HasPosition says that a subscribe wants what came after Offset of Epoch.
	HasPosition bool
	Offset      uint64
	Epoch       []byte
}

// Errors of Parse, in the words that AppendError and AppendErrorFor send.
var (
	ErrSyntax   = errors.New("not a JSON object")
	ErrType     = errors.New("no type")
	ErrDeep     = errors.New("nested too deeply")
	ErrID       = errors.New("id is neither a number nor a string")
	ErrChannel  = errors.New("no channel")
	ErrData     = errors.New("no data")
	ErrPosition = errors.New("offset is a number and epoch a string, and one needs the other")
)

// maxDepth bounds the nesting of a value: nobody writes more by hand.
const maxDepth = 32

// members are the values of a message, null being none.
type members struct{ typ, ts, id, channel, data, offset, epoch []byte }

// Parse reads one message, strictly: one JSON object (RFC 8259) and nothing after it. It allocates nothing, but for a
// channel or an epoch with escapes. b is UTF-8, as text messages are. With an error, Kind and ID are set as far as they
// were understood, for the reply.
func Parse(b []byte) (c Command, err error) {
	w := json.Walk(b, maxDepth)
	var m members
	w.Object()
	for w.Member() {
		var place *[]byte
		switch string(w.Key()) {
		case "type":
			place = &m.typ
		case "ts":
			m.ts = w.Value() // comes back as it is, null as well
			continue
		case "id":
			place = &m.id
		case "channel":
			place = &m.channel
		case "data":
			place = &m.data
		case "offset":
			place = &m.offset
		case "epoch":
			place = &m.epoch
		default:
			w.Value()
			continue
		}
		if *place = w.Value(); string(*place) == "null" {
			*place = nil
		}
	}
	if !w.End() {
		w.Fail(json.ErrSyntax)
	}
	switch w.Err() {
	case nil:
		return m.command()
	case json.ErrDeep:
		return c, ErrDeep
	}
	return c, ErrSyntax
}

func (m *members) command() (c Command, err error) {
	switch string(m.typ) {
	case "":
		err = ErrType
	case `"ping"`:
		c.Kind = Ping
	case `"pong"`:
		c.Kind = Pong
	case `"subscribe"`:
		c.Kind = Subscribe
	case `"unsubscribe"`:
		c.Kind = Unsubscribe
	case `"publish"`:
		c.Kind = Publish
	}
	c.TS = m.ts
	if m.id != nil && m.id[0] != '"' && m.id[0] != '-' && (m.id[0] < '0' || m.id[0] > '9') {
		if c.Kind < Subscribe {
			return c, err // an id means nothing to them
		}
		return c, ErrID
	}
	c.ID = m.id
	if err != nil || c.Kind < Subscribe {
		return c, err
	}
	if c.Channel = text(m.channel); len(c.Channel) == 0 {
		return c, ErrChannel
	}
	switch c.Kind {
	case Publish:
		if c.Data = m.data; c.Data == nil {
			return c, ErrData
		}
	case Subscribe:
		if m.offset == nil && m.epoch == nil {
			break
		}
		w := json.Walk(m.offset, 0)
		c.Offset, c.Epoch = w.Uint64(), text(m.epoch)
		if c.Epoch == nil || w.Err() != nil {
			return c, ErrPosition
		}
		c.HasPosition = true
	}
	return c, nil
}

// text returns the characters of a string, nil if value is none.
func text(value []byte) []byte {
	if len(value) == 0 || value[0] != '"' {
		return nil
	}
	raw := value[1 : len(value)-1]
	if json.Escaped(raw) {
		return json.Unescape(nil, raw)
	}
	return raw
}

// AppendPong appends the reply to a ping with its ts, which may be nil.
func AppendPong(dst, ts []byte) []byte {
	dst = append(dst, `{"type":"pong"`...)
	dst = appendRaw(dst, `,"ts":`, ts)
	return append(dst, '}')
}

// AppendError appends an error reply. message must need no escape in JSON.
func AppendError(dst []byte, message string) []byte {
	dst = append(dst, `{"type":"error","message":"`...)
	dst = append(dst, message...)
	return append(dst, `"}`...)
}

// AppendErrorFor appends the error reply to a command. id may be nil, channel empty and code 0: they are left out.
func AppendErrorFor(dst, id []byte, channel string, code uint32, message string) []byte {
	dst = appendReply(dst, `{"type":"error"`, id, channel)
	dst = appendNumber(dst, `,"code":`, uint64(code))
	dst = append(dst, `,"message":`...)
	dst = json.AppendString(dst, message)
	return append(dst, '}')
}

// AppendSubscribed appends the reply to subscribe, and the announcement of a subscription that was not asked for by
// one. offset and epoch are left out of a channel that is not recoverable, recovered of a subscribe without a position.
func AppendSubscribed(dst, id []byte, channel string, recoverable bool, offset uint64, epoch string, recovered, wasRecovering bool) []byte {
	dst = appendReply(dst, `{"type":"subscribed"`, id, channel)
	if recoverable {
		dst = append(dst, `,"offset":`...)
		dst = strconv.AppendUint(dst, offset, 10) // 0 too: the client needs a position to come back with
		dst = append(dst, `,"epoch":`...)
		dst = json.AppendString(dst, epoch)
	}
	if wasRecovering {
		dst = append(dst, `,"recovered":`...)
		dst = strconv.AppendBool(dst, recovered)
	}
	return append(dst, '}')
}

// AppendUnsubscribed appends the reply to unsubscribe, and with a code and a reason the news that the gateway ended a
// subscription.
func AppendUnsubscribed(dst, id []byte, channel string, code uint32, reason string) []byte {
	dst = appendReply(dst, `{"type":"unsubscribed"`, id, channel)
	dst = appendNumber(dst, `,"code":`, uint64(code))
	dst = appendText(dst, `,"reason":`, reason)
	return append(dst, '}')
}

// AppendPublished appends the reply to publish, with the position where the channel has a history.
func AppendPublished(dst, id []byte, channel string, offset uint64, epoch string) []byte {
	dst = appendReply(dst, `{"type":"published"`, id, channel)
	dst = appendNumber(dst, `,"offset":`, offset)
	dst = appendText(dst, `,"epoch":`, epoch)
	return append(dst, '}')
}

// AppendMessage appends a publication. data is JSON and becomes part of the message as it is, null
// where it is empty; offset 0 and an empty epoch, client or user are left out. client and user are who published.
func AppendMessage(dst []byte, channel string, data []byte, offset uint64, epoch, client, user string) []byte {
	dst = appendReply(dst, `{"type":"message"`, nil, channel)
	if len(data) == 0 {
		dst = append(dst, `,"data":null`...)
	}
	dst = appendRaw(dst, `,"data":`, data)
	dst = appendNumber(dst, `,"offset":`, offset)
	dst = appendText(dst, `,"epoch":`, epoch)
	return appendWho(dst, client, user)
}

// AppendJoin appends that a client has come to a channel.
func AppendJoin(dst []byte, channel, client, user string) []byte {
	return appendWho(appendReply(dst, `{"type":"join"`, nil, channel), client, user)
}

// AppendLeave appends that a client has left a channel.
func AppendLeave(dst []byte, channel, client, user string) []byte {
	return appendWho(appendReply(dst, `{"type":"leave"`, nil, channel), client, user)
}

// appendReply begins a message. What comes first in it is written by the caller.
func appendReply(dst []byte, start string, id []byte, channel string) []byte {
	dst = append(dst, start...)
	dst = appendRaw(dst, `,"id":`, id)
	return appendText(dst, `,"channel":`, channel)
}

// appendWho ends a message with a client and a user.
func appendWho(dst []byte, client, user string) []byte {
	dst = appendText(dst, `,"client":`, client)
	dst = appendText(dst, `,"user":`, user)
	return append(dst, '}')
}

func appendRaw(dst []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	return append(append(dst, name...), value...)
}

func appendText(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return json.AppendString(append(dst, name...), value)
}

func appendNumber(dst []byte, name string, value uint64) []byte {
	if value == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, name...), value, 10)
}
