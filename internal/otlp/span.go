// Package otlp sends spans to a collector of OpenTelemetry: OTLP over HTTP, in Protobuf
// (https://opentelemetry.io/docs/specs/otlp/, 1.5). Spans wait in bounded memory and are sent in batches by one goroutine.
package otlp

import "google.golang.org/protobuf/encoding/protowire"

// Kind is a span's kind, by its number in the protocol.
type Kind uint8

// The kinds.
const (
	Internal Kind = 1 // nobody outside asked, and nobody outside was asked
	Server   Kind = 2 // somebody outside asked
	Client   Kind = 3 // somebody outside was asked
)

// Span is what was done from Start to End.
type Span struct {
	Trace   [16]byte
	ID      [8]byte
	Parent  [8]byte // zero: none
	Remote  bool    // the parent is another process's
	Sampled bool    // it would have been sent whatever came of it
	Name    string
	Kind    Kind
	Start   int64 // ns since 1970
	End     int64
	Failed  bool
	Message string // why it failed
	Attrs   []Attr
}

// Attr is an attribute: a number where Text is nil.
type Attr struct {
	Key    string
	Text   *string
	Number int64
}

// String is an attribute with a text.
func String(key, text string) Attr { return Attr{Key: key, Text: &text} }

// Int is an attribute with a number.
func Int(key string, n int64) Attr { return Attr{Key: key, Number: n} }

// Numbers of fields, from opentelemetry/proto of version 1.
const (
	requestResourceSpans = 1

	resourceSpansResource = 1
	resourceSpansScope    = 2

	resourceAttributes = 1

	scopeSpansScope = 1
	scopeSpansSpans = 2

	scopeName    = 1
	scopeVersion = 2

	spanTraceID    = 1
	spanID         = 2
	spanParentID   = 4
	spanName       = 5
	spanKind       = 6
	spanStart      = 7
	spanEnd        = 8
	spanAttributes = 9
	spanStatus     = 15
	spanFlags      = 16

	statusMessage = 2
	statusCode    = 3

	keyValueKey   = 1
	keyValueValue = 2

	valueString = 1
	valueInt    = 3

	responsePartial = 1
	partialRejected = 1
	partialMessage  = 2
)

const (
	statusError = 2
	// Flags of a span: those of W3C in the lowest byte, then whether it is known if the parent is remote, and if it is.
	flagSampled     = 1
	flagRemoteKnown = 1 << 8
	flagRemote      = 1 << 9
)

// appendSpan appends a span as a field of ScopeSpans.
func appendSpan(b []byte, s *Span) []byte {
	return appendMessage(b, scopeSpansSpans, func(b []byte) []byte {
		b = appendBytes(b, spanTraceID, s.Trace[:])
		b = appendBytes(b, spanID, s.ID[:])
		if s.Parent != [8]byte{} {
			b = appendBytes(b, spanParentID, s.Parent[:])
		}
		b = appendString(b, spanName, s.Name)
		b = protowire.AppendVarint(protowire.AppendTag(b, spanKind, protowire.VarintType), uint64(s.Kind))
		b = protowire.AppendFixed64(protowire.AppendTag(b, spanStart, protowire.Fixed64Type), uint64(s.Start))
		b = protowire.AppendFixed64(protowire.AppendTag(b, spanEnd, protowire.Fixed64Type), uint64(s.End))
		for i := range s.Attrs {
			b = appendAttr(b, spanAttributes, &s.Attrs[i])
		}
		if s.Failed {
			b = appendMessage(b, spanStatus, func(b []byte) []byte {
				if s.Message != "" {
					b = appendString(b, statusMessage, s.Message)
				}
				return protowire.AppendVarint(protowire.AppendTag(b, statusCode, protowire.VarintType), statusError)
			})
		}
		flags := uint32(flagRemoteKnown)
		if s.Remote {
			flags |= flagRemote
		}
		if s.Sampled {
			flags |= flagSampled
		}
		return protowire.AppendFixed32(protowire.AppendTag(b, spanFlags, protowire.Fixed32Type), flags)
	})
}

func appendAttr(b []byte, field protowire.Number, a *Attr) []byte {
	return appendMessage(b, field, func(b []byte) []byte {
		b = appendString(b, keyValueKey, a.Key)
		return appendMessage(b, keyValueValue, func(b []byte) []byte {
			if a.Text != nil {
				return appendString(b, valueString, *a.Text)
			}
			return protowire.AppendVarint(protowire.AppendTag(b, valueInt, protowire.VarintType), uint64(a.Number))
		})
	})
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// appendMessage appends what f appends as a message. Its length stands before it, so f's bytes are moved once.
func appendMessage(b []byte, field protowire.Number, f func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	at := len(b)
	b = f(b)
	n := len(b) - at
	size := protowire.SizeVarint(uint64(n))
	b = append(b, make([]byte, size)...)
	copy(b[at+size:], b[at:at+n])
	protowire.AppendVarint(b[:at], uint64(n))
	return b
}

// request is an ExportTraceServiceRequest of spans that appendSpan wrote. head is of appendHead.
func request(head, spans []byte, scope []byte) []byte {
	return appendMessage(nil, requestResourceSpans, func(b []byte) []byte {
		b = append(b, head...)
		return appendMessage(b, resourceSpansScope, func(b []byte) []byte {
			b = append(b, scope...)
			return append(b, spans...)
		})
	})
}

// appendResource appends what all spans come from, as a field of ResourceSpans.
func appendResource(b []byte, attrs []Attr) []byte {
	return appendMessage(b, resourceSpansResource, func(b []byte) []byte {
		for i := range attrs {
			b = appendAttr(b, resourceAttributes, &attrs[i])
		}
		return b
	})
}

// appendScope appends who made the spans, as a field of ScopeSpans.
func appendScope(b []byte, name, version string) []byte {
	return appendMessage(b, scopeSpansScope, func(b []byte) []byte {
		b = appendString(b, scopeName, name)
		return appendString(b, scopeVersion, version)
	})
}

// rejected reads of an ExportTraceServiceResponse how many spans were not taken, and why. What is none says nothing.
func rejected(b []byte) (n int64, message string) {
	partial, ok := field(b, responsePartial, protowire.BytesType)
	if !ok {
		return 0, ""
	}
	inside, _ := protowire.ConsumeBytes(partial)
	if v, ok := field(inside, partialRejected, protowire.VarintType); ok {
		u, _ := protowire.ConsumeVarint(v)
		n = max(0, int64(u))
	}
	if v, ok := field(inside, partialMessage, protowire.BytesType); ok {
		m, _ := protowire.ConsumeBytes(v)
		message = string(m)
	}
	return n, message
}

// field is the value of the last field of a message with that number and type, if all of the message can be read.
func field(b []byte, number protowire.Number, kind protowire.Type) (value []byte, ok bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, false
		}
		b = b[n:]
		m := protowire.ConsumeFieldValue(num, typ, b)
		if m < 0 {
			return nil, false
		}
		if num == number && typ == kind {
			value, ok = b[:m], true
		}
		b = b[m:]
	}
	return value, ok
}
