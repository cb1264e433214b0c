package stress

import (
	"bytes"
	"strconv"
)

// dialect is what clients say in a protocol, and what they understand of the answers: enough to put load on a server, and no
// client for an application. Its methods append one message to dst.
type dialect interface {
	// hello is said behind the handshake; empty where nothing is.
	hello(dst []byte, token string) []byte
	subscribe(dst []byte, id uint64, channel string) []byte
	publish(dst []byte, id uint64, channel string, data []byte) []byte
	// request is a command that has a reply, of about size bytes.
	request(dst []byte, id uint64, size int) []byte
	// read calls on for each thing that a message says.
	read(message []byte, on func(event))
}

// event is a thing that a server said.
type event struct {
	kind eventKind
	id   uint64 // of a reply
	code int    // of an error
	data []byte // of a publication
}

type eventKind uint8

const (
	eventUnknown eventKind = iota
	eventReply             // to the command with the id
	eventError             // the same, with a code
	eventPublication
	eventPing // to be answered by the same message
	eventOther
)

// centrifugeDialect is the Centrifuge protocol in JSON.
type centrifugeDialect struct{}

func (centrifugeDialect) hello(dst []byte, token string) []byte {
	if token == "" {
		return append(dst, `{"id":1,"connect":{}}`...)
	}
	dst = append(dst, `{"id":1,"connect":{"token":`...)
	dst = appendJSONString(dst, token)
	return append(dst, `}}`...)
}

func (centrifugeDialect) subscribe(dst []byte, id uint64, channel string) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"subscribe":{"channel":`...)
	dst = appendJSONString(dst, channel)
	return append(dst, `}}`...)
}

func (centrifugeDialect) publish(dst []byte, id uint64, channel string, data []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"publish":{"channel":`...)
	dst = appendJSONString(dst, channel)
	dst = append(dst, `,"data":`...)
	dst = append(dst, data...)
	return append(dst, `}}`...)
}

func (centrifugeDialect) request(dst []byte, id uint64, size int) []byte {
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"rpc":{"method":"stress","data":"`...)
	dst = appendLetters(dst, size)
	return append(dst, `"}}`...)
}

var (
	prefixID   = []byte(`{"id":`)
	prefixPush = []byte(`{"push":{`)
	fieldCode  = []byte(`"code":`)
	fieldPub   = []byte(`"pub":{`)
	fieldData  = []byte(`"data":`)
	newline    = []byte("\n")
)

func (centrifugeDialect) read(message []byte, on func(event)) {
	for line := range bytes.SplitSeq(message, newline) {
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
		case string(line) == "{}":
			on(event{kind: eventPing})
		case bytes.HasPrefix(line, prefixID):
			id, n := digitsOf(line[len(prefixID):])
			rest := line[len(prefixID)+n:]
			if bytes.HasPrefix(rest, []byte(`,"error":{`)) {
				on(event{kind: eventError, id: id, code: int(numberAfter(rest, fieldCode))})
			} else {
				on(event{kind: eventReply, id: id})
			}
		case bytes.HasPrefix(line, []byte(`{"error":{`)) && bytes.Contains(line, []byte(`"id":`)): // the members may come in any order
			on(event{kind: eventError, id: uint64(numberAfter(line, []byte(`"id":`))), code: int(numberAfter(line, fieldCode))})
		case bytes.HasPrefix(line, prefixPush):
			if i := bytes.Index(line, fieldPub); i >= 0 {
				if _, data, ok := bytes.Cut(line[i:], fieldData); ok {
					on(event{kind: eventPublication, data: data})
					continue
				}
			}
			on(event{kind: eventOther})
		default:
			on(event{kind: eventUnknown})
		}
	}
}

// plainDialect is Longwire's plain protocol (docs/plain.md).
type plainDialect struct{}

func (plainDialect) hello(dst []byte, _ string) []byte { return dst }

func (plainDialect) subscribe(dst []byte, id uint64, channel string) []byte {
	dst = append(dst, `{"type":"subscribe","id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"channel":`...)
	dst = appendJSONString(dst, channel)
	return append(dst, '}')
}

func (plainDialect) publish(dst []byte, id uint64, channel string, data []byte) []byte {
	dst = append(dst, `{"type":"publish","id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"channel":`...)
	dst = appendJSONString(dst, channel)
	dst = append(dst, `,"data":`...)
	dst = append(dst, data...)
	return append(dst, '}')
}

// request is a ping: its ts comes back in the pong.
func (plainDialect) request(dst []byte, id uint64, size int) []byte {
	dst = append(dst, `{"type":"ping","ts":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"x":"`...)
	dst = appendLetters(dst, size)
	return append(dst, `"}`...)
}

func (plainDialect) read(message []byte, on func(event)) {
	_, rest, _ := bytes.Cut(message, []byte(`"type":"`))
	kind, rest, _ := bytes.Cut(rest, []byte(`"`))
	switch string(kind) {
	case "subscribed", "published", "unsubscribed":
		on(event{kind: eventReply, id: uint64(numberAfter(rest, []byte(`"id":`)))})
	case "pong":
		on(event{kind: eventReply, id: uint64(numberAfter(rest, []byte(`"ts":`)))})
	case "error":
		on(event{kind: eventError, id: uint64(numberAfter(rest, []byte(`"id":`))), code: int(numberAfter(rest, fieldCode))})
	case "message":
		_, data, _ := bytes.Cut(rest, fieldData)
		on(event{kind: eventPublication, data: data})
	case "join", "leave":
		on(event{kind: eventOther})
	default:
		on(event{kind: eventUnknown})
	}
}

func digitsOf(b []byte) (v uint64, n int) {
	for n < len(b) && n < 19 && b[n] >= '0' && b[n] <= '9' {
		v = v*10 + uint64(b[n]-'0')
		n++
	}
	return v, n
}

// numberAfter is the whole number behind the first occurrence of a field's name; 0 without one.
func numberAfter(b, field []byte) int64 {
	_, b, ok := bytes.Cut(b, field)
	if !ok {
		return 0
	}
	v, _ := digitsOf(b)
	return int64(v)
}

// appendJSONString appends a string for JSON. Channel names have few bytes that need it.
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func appendLetters(dst []byte, n int) []byte {
	for i := range n {
		dst = append(dst, 'a'+byte(i%26))
	}
	return dst
}

// stamp is what the publications and messages of a run carry: which run, and when it was due and sent.
type stamp struct {
	run       uint64
	due, sent int64 // ns since the run began
}

// appendStamp writes a stamp as a JSON object of about size bytes.
func appendStamp(dst []byte, s stamp, size int) []byte {
	begin := len(dst)
	dst = append(dst, `{"r":`...)
	dst = strconv.AppendUint(dst, s.run, 10)
	dst = append(dst, `,"t":`...)
	dst = strconv.AppendInt(dst, s.due, 10)
	dst = append(dst, `,"s":`...)
	dst = strconv.AppendInt(dst, s.sent, 10)
	if left := size - (len(dst) - begin) - len(`,"x":""}`); left > 0 {
		dst = append(dst, `,"x":"`...)
		dst = appendLetters(dst, left)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// readStamp reads what appendStamp wrote; false where it is somebody else's.
func readStamp(b []byte, run uint64) (s stamp, ok bool) {
	b, ok = bytes.CutPrefix(bytes.TrimLeft(b, " "), []byte(`{"r":`))
	if !ok {
		return s, false
	}
	v, n := digitsOf(b)
	if v != run || !bytes.HasPrefix(b[n:], []byte(`,"t":`)) {
		return s, false
	}
	b = b[n+len(`,"t":`):]
	due, n := digitsOf(b)
	if !bytes.HasPrefix(b[n:], []byte(`,"s":`)) {
		return s, false
	}
	sent, _ := digitsOf(b[n+len(`,"s":`):])
	return stamp{run: run, due: int64(due), sent: int64(sent)}, true
}
