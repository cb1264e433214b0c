package centrifuge

import (
	"errors"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/longwire/longwire/internal/wire/json"
)

// Bounds of a connect, whatever the size of its message.
const (
	maxSubs    = 1024
	maxHeaders = 128
)

// keepText is how much room for strings with escapes a Reader keeps from one message to the next.
const keepText = 64 << 10

var (
	errSeparator = errors.New("centrifuge: no white space between two commands")
	errMethods   = errors.New("centrifuge: a command with two methods")
	errSubs      = errors.New("centrifuge: too many subs")
	errHeaders   = errors.New("centrifuge: too many headers")
	errField     = errors.New("centrifuge: malformed field")
	errLength    = errors.New("centrifuge: a length beyond the message")
	errUTF8      = errors.New("centrifuge: a string that is not UTF-8")
)

// Reader reads the commands of one message after another. It allocates nothing once its buffers have grown. The zero
// value has nothing to read. A Reader is for one goroutine.
type Reader struct {
	format Format
	json   json.Walker
	rest   []byte // Protobuf: what is not read yet
	err    error

	cmd   Command
	text  []byte           // JSON: strings that had escapes
	since SubscribeOptions // of which a Since has two fields
}

// Reset has the Reader read message, which must not change until its commands are done with. In JSON it is UTF-8, as
// WebSocket text messages are. A nil message lets go of the one before.
func (r *Reader) Reset(f Format, message []byte) {
	r.format, r.err = f, nil
	r.json, r.rest = json.Walker{}, nil
	if f == JSON {
		r.json = json.Walk(message, json.MaxDepth)
	} else {
		r.rest = message
	}
	if cap(r.text) > keepText {
		r.text = nil
	}
	r.clear()
}

func (r *Reader) clear() {
	c := &r.cmd
	clear(c.Subs) // they alias a message that may be gone by now
	clear(c.Headers)
	*c = Command{Subs: c.Subs[:0], Headers: c.Headers[:0]}
	r.text = r.text[:0]
	r.since = SubscribeOptions{}
}

// Next returns the next command of the message, and io.EOF at its end. Any other error says that the message is not of
// the protocol; it stays until Reset. The command is the Reader's, and valid until the next call.
//
// In JSON a member that is null is absent, and of a name that stands twice the last value counts; but a command with two
// methods is refused. In connect's subs and headers a name may stand twice.
func (r *Reader) Next() (*Command, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.clear()
	if r.format == JSON {
		r.err = r.nextJSON()
	} else {
		r.err = r.nextProtobuf()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &r.cmd, nil
}

func (r *Reader) nextJSON() error {
	w := &r.json
	if w.End() {
		return io.EOF
	}
	unknown := false
	w.Object()
	for w.Member() {
		if w.Null() {
			continue
		}
		if string(w.Key()) == "id" {
			r.cmd.ID = w.Uint32()
			continue
		}
		n := request(w.Key())
		if n == 0 {
			unknown = unknown || w.Peek() == '{'
			w.Value()
			continue
		}
		if r.cmd.Method != None {
			return errMethods
		}
		r.cmd.Method = requests[n].method
		r.readJSON(requests[n].schema, &r.cmd.SubscribeOptions)
	}
	if r.cmd.Method == None && unknown {
		r.cmd.Method = Unknown
	}
	if !w.Space() && !w.End() {
		w.Fail(errSeparator)
	}
	return w.Err()
}

// readJSON reads an object of schema s. o is where its options go.
func (r *Reader) readJSON(s schema, o *SubscribeOptions) {
	w, c := &r.json, &r.cmd
	w.Object()
	for w.Member() {
		if w.Null() {
			continue
		}
		switch f := s.named(w.Key()); f {
		case noField:
			w.Value()
		case fData:
			c.Data = w.Value()
		case fFilter:
			w.Value()
			o.Filter = true
		case fSubs:
			r.subsJSON()
		case fHeaders:
			r.headersJSON()
		case fSince:
			r.since = SubscribeOptions{}
			r.readJSON(position, &r.since)
			c.Since, c.HasSince = Since{r.since.Offset, r.since.Epoch}, true
		case fOffset:
			o.Offset = w.Uint64()
		case fFlag:
			o.Flag = w.Int64()
		case fType:
			o.Type = w.Int32()
		case fLimit:
			c.Limit = w.Int32()
		default:
			if p := c.text(f, o); p != nil {
				*p = w.Text(&r.text)
			} else {
				*c.truth(f, o) = w.Bool()
			}
		}
	}
}

func (r *Reader) subsJSON() {
	w, c := &r.json, &r.cmd
	w.Object()
	for w.Member() {
		if len(c.Subs) == maxSubs {
			w.Fail(errSubs)
			return
		}
		c.Subs = append(c.Subs, ChannelSubscribe{Channel: r.key()})
		if !w.Null() {
			r.readJSON(options, &c.Subs[len(c.Subs)-1].SubscribeOptions)
		}
	}
}

func (r *Reader) headersJSON() {
	w, c := &r.json, &r.cmd
	w.Object()
	for w.Member() {
		if len(c.Headers) == maxHeaders {
			w.Fail(errHeaders)
			return
		}
		h := Header{Name: r.key()}
		if !w.Null() {
			h.Value = w.Text(&r.text)
		}
		c.Headers = append(c.Headers, h)
	}
}

// key returns the name of the member at hand as the characters it stands for.
func (r *Reader) key() []byte {
	raw := r.json.Key()
	if !json.Escaped(raw) {
		return raw
	}
	start := len(r.text)
	r.text = json.Unescape(r.text, raw)
	return r.text[start:len(r.text):len(r.text)]
}

// text returns the place of a field that is text, nil if it is not.
func (c *Command) text(f field, o *SubscribeOptions) *[]byte {
	switch f {
	case fChannel:
		return &c.Channel
	case fToken:
		return &c.Token
	case fName:
		return &c.Name
	case fVersion:
		return &c.Version
	case fRPCMethod:
		return &c.RPCMethod
	case fEpoch:
		return &o.Epoch
	case fDelta:
		return &o.Delta
	}
	return nil
}

// truth returns the place of a field that is true or false.
func (c *Command) truth(f field, o *SubscribeOptions) *bool {
	switch f {
	case fRecover:
		return &o.Recover
	case fPositioned:
		return &o.Positioned
	case fRecoverable:
		return &o.Recoverable
	case fJoinLeave:
		return &o.JoinLeave
	}
	return &c.Reverse
}

// part is one field of a Protobuf message.
type part struct {
	number int32
	bytes  []byte // what follows its length; not nil, unless it is of another wire type
	varint uint64
	scalar bool // it is a varint
}

// consume takes one field from the front of b and returns what is behind it. Groups, which this protocol never had, are
// refused.
func consume(b []byte) (p part, rest []byte, err error) {
	number, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return p, nil, errField
	}
	p.number = int32(number)
	b = b[n:]
	switch typ {
	case protowire.VarintType:
		p.scalar = true
		p.varint, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		p.bytes, n = protowire.ConsumeBytes(b)
	case protowire.Fixed32Type:
		_, n = protowire.ConsumeFixed32(b)
	case protowire.Fixed64Type:
		_, n = protowire.ConsumeFixed64(b)
	default:
		return p, nil, errField
	}
	if n < 0 {
		return p, nil, errField
	}
	return p, b[n:], nil
}

func (r *Reader) nextProtobuf() error {
	if len(r.rest) == 0 {
		return io.EOF
	}
	length, n := protowire.ConsumeVarint(r.rest)
	if n < 0 || length > uint64(len(r.rest)-n) {
		return errLength
	}
	b := r.rest[n : n+int(length)]
	r.rest = r.rest[n+int(length):]

	unknown := false
	for len(b) > 0 {
		p, rest, err := consume(b)
		if err != nil {
			return err
		}
		b = rest
		switch {
		case p.number == 1:
			if !p.scalar {
				return errField
			}
			r.cmd.ID = uint32(p.varint)
		case p.number < 4 || int(p.number) >= len(requests):
			unknown = unknown || p.bytes != nil
		case p.bytes == nil:
			return errField
		case r.cmd.Method != None:
			return errMethods
		default:
			r.cmd.Method = requests[p.number].method
			if err := r.readProtobuf(requests[p.number].schema, &r.cmd.SubscribeOptions, p.bytes); err != nil {
				return err
			}
		}
	}
	if r.cmd.Method == None && unknown {
		r.cmd.Method = Unknown
	}
	return nil
}

// readProtobuf reads a message of schema s. o is where its options go. Numbers that are too large for their field lose
// their upper bits, as Protobuf has it.
func (r *Reader) readProtobuf(s schema, o *SubscribeOptions, b []byte) error {
	c := &r.cmd
	for len(b) > 0 {
		p, rest, err := consume(b)
		if err != nil {
			return err
		}
		b = rest
		f := s.numbered(p.number)
		if f == noField {
			continue
		}
		if (f < fRecover) != (p.bytes != nil) || (f >= fRecover) != p.scalar {
			return errField
		}
		switch f {
		case fData:
			if c.Data = p.bytes; len(p.bytes) == 0 {
				c.Data = nil
			}
		case fFilter:
			o.Filter = true
		case fSubs:
			err = r.subProtobuf(p.bytes)
		case fHeaders:
			err = r.headerProtobuf(p.bytes)
		case fSince:
			r.since = SubscribeOptions{}
			err = r.readProtobuf(position, &r.since, p.bytes)
			c.Since, c.HasSince = Since{r.since.Offset, r.since.Epoch}, true
		case fOffset:
			o.Offset = p.varint
		case fFlag:
			o.Flag = int64(p.varint)
		case fType:
			o.Type = int32(p.varint)
		case fLimit:
			c.Limit = int32(p.varint)
		default:
			if place := c.text(f, o); place == nil {
				*c.truth(f, o) = p.varint != 0
			} else if *place = p.bytes; !utf8.Valid(p.bytes) {
				err = errUTF8
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// subProtobuf reads one entry of the map subs.
func (r *Reader) subProtobuf(b []byte) error {
	c := &r.cmd
	if len(c.Subs) == maxSubs {
		return errSubs
	}
	channel, value, err := entry(b)
	if err != nil {
		return err
	}
	c.Subs = append(c.Subs, ChannelSubscribe{Channel: channel})
	return r.readProtobuf(options, &c.Subs[len(c.Subs)-1].SubscribeOptions, value)
}

// headerProtobuf reads one entry of the map headers.
func (r *Reader) headerProtobuf(b []byte) error {
	c := &r.cmd
	if len(c.Headers) == maxHeaders {
		return errHeaders
	}
	name, value, err := entry(b)
	if err != nil {
		return err
	}
	if !utf8.Valid(value) {
		return errUTF8
	}
	c.Headers = append(c.Headers, Header{name, value})
	return nil
}

// entry reads an entry of a map: its key is 1, its value 2, in either order.
func entry(b []byte) (key, value []byte, err error) {
	for len(b) > 0 {
		p, rest, err := consume(b)
		if err != nil {
			return nil, nil, err
		}
		b = rest
		if p.number != 1 && p.number != 2 {
			continue
		}
		if p.bytes == nil {
			return nil, nil, errField
		}
		if p.number == 1 {
			key = p.bytes
		} else {
			value = p.bytes
		}
	}
	if !utf8.Valid(key) {
		return nil, nil, errUTF8
	}
	return key, value, nil
}
