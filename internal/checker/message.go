package checker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// What clients say and hear, written and read by code of the checker's own: it must not agree with the server by sharing
// its mistakes.

// codec is how a client speaks.
type codec uint8

const (
	codecJSON codec = iota
	codecProtobuf
	codecPlain
)

// command is what a client says.
type command struct {
	id      uint32
	method  method
	channel string
	data    []byte // publish

	// connect
	token    string
	recovers []recovery

	// subscribe
	positioned, recoverable, recover, delta bool
	offset                                  uint64
	epoch                                   string
}

// recovery is a server-side subscription that a client wants back when it connects.
type recovery struct {
	channel, epoch string
	offset         uint64
}

type method uint8

const (
	doPong method = iota
	doConnect
	doSubscribe
	doUnsubscribe
	doPublish
)

// methodNumbers are the fields of Command; methodNames those in JSON.
var (
	methodNumbers = [...]protowire.Number{0, 4, 5, 6, 7}
	methodNames   = [...]string{"", "connect", "subscribe", "unsubscribe", "publish"}
)

// appendCommand writes one command as a part of a message.
func (c codec) appendCommand(dst []byte, cmd *command) []byte {
	switch c {
	case codecProtobuf:
		var body []byte
		text := func(n protowire.Number, s string) {
			if s != "" {
				body = protowire.AppendString(protowire.AppendTag(body, n, protowire.BytesType), s)
			}
		}
		num := func(n protowire.Number, v uint64) {
			if v != 0 {
				body = protowire.AppendVarint(protowire.AppendTag(body, n, protowire.VarintType), v)
			}
		}
		text(1, cmd.channel)
		switch cmd.method {
		case doConnect:
			text(1, cmd.token)
			for _, r := range cmd.recovers {
				o := protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 1)
				o = protowire.AppendString(protowire.AppendTag(o, 6, protowire.BytesType), r.epoch)
				o = protowire.AppendVarint(protowire.AppendTag(o, 7, protowire.VarintType), r.offset)
				e := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), r.channel)
				e = protowire.AppendBytes(protowire.AppendTag(e, 2, protowire.BytesType), o)
				body = protowire.AppendBytes(protowire.AppendTag(body, 3, protowire.BytesType), e)
			}
		case doSubscribe:
			num(3, protowire.EncodeBool(cmd.recover))
			text(6, cmd.epoch)
			num(7, cmd.offset)
			num(9, protowire.EncodeBool(cmd.positioned))
			num(10, protowire.EncodeBool(cmd.recoverable))
			if cmd.delta {
				text(12, "fossil")
			}
		case doPublish:
			text(2, string(cmd.data))
		}
		var all []byte
		if cmd.method != doPong {
			all = protowire.AppendVarint(protowire.AppendTag(all, 1, protowire.VarintType), uint64(cmd.id))
			all = protowire.AppendBytes(protowire.AppendTag(all, methodNumbers[cmd.method], protowire.BytesType), body)
		}
		return protowire.AppendBytes(dst, all)
	case codecPlain:
		dst = fmt.Appendf(dst, `{"type":%q,"id":%d,"channel":%q`, methodNames[cmd.method], cmd.id, cmd.channel)
		if cmd.recover {
			dst = fmt.Appendf(dst, `,"offset":%d,"epoch":%q`, cmd.offset, cmd.epoch)
		}
		if cmd.method == doPublish {
			dst = append(append(dst, `,"data":`...), cmd.data...)
		}
		return append(dst, '}')
	}
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	if cmd.method == doPong {
		return append(dst, "{}"...)
	}
	type request struct {
		Channel     string          `json:"channel,omitempty"`
		Data        json.RawMessage `json:"data,omitempty"`
		Recover     bool            `json:"recover,omitempty"`
		Epoch       string          `json:"epoch,omitempty"`
		Offset      uint64          `json:"offset,omitempty"`
		Positioned  bool            `json:"positioned,omitempty"`
		Recoverable bool            `json:"recoverable,omitempty"`
		Delta       string          `json:"delta,omitempty"`
		Token       string          `json:"token,omitempty"`
		Subs        map[string]any  `json:"subs,omitempty"`
	}
	r := request{Channel: cmd.channel, Data: cmd.data, Recover: cmd.recover, Epoch: cmd.epoch, Offset: cmd.offset, Positioned: cmd.positioned, Recoverable: cmd.recoverable}
	if cmd.delta {
		r.Delta = "fossil"
	}
	if r.Token = cmd.token; len(cmd.recovers) > 0 {
		r.Subs = make(map[string]any)
		for _, s := range cmd.recovers {
			r.Subs[s.channel] = map[string]any{"recover": true, "epoch": s.epoch, "offset": s.offset}
		}
	}
	b, err := json.Marshal(map[string]any{"id": cmd.id, methodNames[cmd.method]: r})
	if err != nil {
		panic(err) // of our own data
	}
	return append(dst, b...)
}

// message is one thing that a client hears.
type message struct {
	kind    kind
	id      uint32 // 0: it answers nothing
	channel string // where id is 0
	code    uint32 // of an error or an end

	client string    // connected
	subs   []message // connected: the server-side subscriptions

	// subscribed
	positioned, recovered, recovering, delta bool
	offset                                   uint64
	epoch                                    string

	publications []publication // subscribed, published to us
}

// jsonSubscribed is what a client is told of a subscription.
type jsonSubscribed struct {
	Positioned    bool
	Recovered     bool
	Epoch         string
	Offset        uint64
	Delta         bool
	Publications  []jsonPublication
	WasRecovering bool `json:"was_recovering"`
}

func (s *jsonSubscribed) to(m *message) {
	m.kind, m.positioned, m.recovered, m.recovering, m.delta = gotSubscribed, s.Positioned, s.Recovered, s.WasRecovering, s.Delta
	m.offset, m.epoch = s.Offset, s.Epoch
	for i := range s.Publications {
		m.publications = append(m.publications, s.Publications[i].publication())
	}
}

type kind uint8

const (
	gotPing kind = iota
	gotError
	gotConnected
	gotSubscribed
	gotUnsubscribed // by id: the answer; else the server did it
	gotPublished    // the answer
	gotPublication
	gotOther // what the checker does not look at
)

type publication struct {
	offset uint64
	epoch  string
	data   []byte // as it came: in JSON with deltas a string
	delta  bool
}

// decode reads all of one WebSocket message.
func (c codec) decode(b []byte) (list []message, err error) {
	switch c {
	case codecProtobuf:
		for len(b) > 0 {
			part, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			b = b[n:]
			m, err := decodeReply(part)
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
	case codecPlain:
		m, err := decodePlain(b)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	default:
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			m, err := decodeJSON(line)
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("an empty message")
	}
	return list, nil
}

type jsonPublication struct {
	Offset uint64          `json:"offset"`
	Epoch  string          `json:"epoch"`
	Data   json.RawMessage `json:"data"`
	Delta  bool            `json:"delta"`
}

func (p *jsonPublication) publication() publication {
	return publication{offset: p.Offset, epoch: p.Epoch, data: p.Data, delta: p.Delta}
}

func decodeJSON(b []byte) (m message, err error) {
	var r struct {
		ID    uint32
		Error *struct{ Code uint32 }
		Push  *struct {
			Channel     string
			Pub         *jsonPublication
			Unsubscribe *struct{ Code uint32 }
			Subscribe   *jsonSubscribed
		}
		Connect *struct {
			Client string
			Subs   map[string]*jsonSubscribed
		}
		Subscribe   *jsonSubscribed
		Unsubscribe *struct{}
		Publish     *struct{}
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return m, fmt.Errorf("%w in %.80q", err, b)
	}
	m.id, m.kind = r.ID, gotOther
	switch {
	case string(b) == "{}":
		m.kind = gotPing
	case r.Error != nil:
		m.kind, m.code = gotError, r.Error.Code
	case r.Connect != nil:
		m.kind, m.client = gotConnected, r.Connect.Client
		for channel, s := range r.Connect.Subs {
			sub := message{channel: channel}
			s.to(&sub)
			m.subs = append(m.subs, sub)
		}
	case r.Subscribe != nil:
		r.Subscribe.to(&m)
	case r.Unsubscribe != nil:
		m.kind = gotUnsubscribed
	case r.Publish != nil:
		m.kind = gotPublished
	case r.Push != nil:
		m.channel = r.Push.Channel
		switch {
		case r.Push.Pub != nil:
			m.kind, m.publications = gotPublication, []publication{r.Push.Pub.publication()}
		case r.Push.Unsubscribe != nil:
			m.kind, m.code = gotUnsubscribed, r.Push.Unsubscribe.Code
		case r.Push.Subscribe != nil:
			r.Push.Subscribe.to(&m)
		}
	}
	return m, nil
}

func decodePlain(b []byte) (m message, err error) {
	var r struct {
		Type, Channel string
		ID            uint32
		Code          uint32
		Message       string
		Offset        uint64
		Epoch         string
		Recovered     *bool
		Data          json.RawMessage
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return m, fmt.Errorf("%w in %.80q", err, b)
	}
	m.id, m.channel, m.code, m.kind = r.ID, r.Channel, r.Code, gotOther
	switch r.Type {
	case "error":
		if m.kind = gotError; m.code == 0 {
			return m, errors.New("error " + strconv.Quote(r.Message))
		}
	case "subscribed":
		m.kind, m.positioned, m.offset, m.epoch = gotSubscribed, r.Epoch != "", r.Offset, r.Epoch
		m.recovering, m.recovered = r.Recovered != nil, r.Recovered != nil && *r.Recovered
	case "unsubscribed":
		m.kind = gotUnsubscribed
	case "published":
		m.kind = gotPublished
	case "message":
		m.kind, m.publications = gotPublication, []publication{{offset: r.Offset, epoch: r.Epoch, data: r.Data}}
	}
	return m, nil
}

// fields calls f for each field of a Protobuf message: v is a varint's value, b the bytes of what has a length.
func fields(m []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			return protowire.ParseError(n)
		}
		m = m[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(m)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(m)
		default:
			n = protowire.ConsumeFieldValue(num, typ, m)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		m = m[n:]
		if err := f(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

func decodeReply(b []byte) (m message, err error) {
	m.kind = gotOther
	if len(b) == 0 {
		m.kind = gotPing
		return m, nil
	}
	err = fields(b, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 1:
			m.id = uint32(v)
		case 2:
			m.kind = gotError
			return m.number(b, 1, &m.code)
		case 4:
			return m.push(b)
		case 5:
			m.kind = gotConnected
			return fields(b, func(n protowire.Number, _ uint64, b []byte) error {
				switch n {
				case 1:
					m.client = string(b)
				case 6:
					sub := message{kind: gotSubscribed}
					err := fields(b, func(n protowire.Number, _ uint64, b []byte) error {
						if n == 1 {
							sub.channel = string(b)
							return nil
						}
						return sub.subscribed(b)
					})
					m.subs = append(m.subs, sub)
					return err
				}
				return nil
			})
		case 6:
			m.kind = gotSubscribed
			return m.subscribed(b)
		case 7:
			m.kind = gotUnsubscribed
		case 8:
			m.kind = gotPublished
		}
		return nil
	})
	return m, err
}

// number reads one number of a message.
func (m *message) number(b []byte, field protowire.Number, to *uint32) error {
	return fields(b, func(n protowire.Number, v uint64, _ []byte) error {
		if n == field {
			*to = uint32(v)
		}
		return nil
	})
}

func (m *message) push(b []byte) error {
	return fields(b, func(n protowire.Number, _ uint64, b []byte) error {
		switch n {
		case 2:
			m.channel = string(b)
		case 4:
			m.kind = gotPublication
			return m.publication(b)
		case 7:
			m.kind = gotUnsubscribed
			return m.number(b, 2, &m.code)
		case 9:
			m.kind = gotSubscribed
			return fields(b, func(n protowire.Number, v uint64, b []byte) error {
				switch n {
				case 4:
					m.epoch = string(b)
				case 5:
					m.offset = v
				case 6:
					m.positioned = v != 0
				}
				return nil
			})
		}
		return nil
	})
}

func (m *message) subscribed(b []byte) error {
	return fields(b, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 6:
			m.epoch = string(b)
		case 7:
			return m.publication(b)
		case 8:
			m.recovered = v != 0
		case 9:
			m.offset = v
		case 10:
			m.positioned = v != 0
		case 12:
			m.recovering = v != 0
		case 13:
			m.delta = v != 0
		}
		return nil
	})
}

func (m *message) publication(b []byte) error {
	var p publication
	err := fields(b, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 4:
			p.data = b
		case 6:
			p.offset = v
		case 8:
			p.delta = v != 0
		case 14:
			p.epoch = string(b)
		}
		return nil
	})
	m.publications = append(m.publications, p)
	return err
}
