package journal

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is what an entry tells of.
type Kind uint8

// The kinds. Those from KindConnect to KindSubRefresh are commands of clients.
const (
	KindNone          Kind = iota
	KindUpgrade            // a handshake was answered, or, with FlagFailed, came to nothing
	KindConnect            // who the client is
	KindSubscribe          // to the channel in the text, by the client or, without Took, by the server
	KindUnsubscribe        // by the client
	KindPublish            // in the channel in the text
	KindPresence           // of the channel in the text
	KindPresenceStats      // of the channel in the text
	KindHistory            // of the channel in the text
	KindRPC                // an rpc command
	KindRefresh            // of the session's token
	KindSubRefresh         // of a subscription's token
	KindUnsubscribed       // the server took the channel in the text away, with Code
	KindSlow               // half of the write queue is full: Code is the bytes
	KindEnded              // a conn is over: Cause, Code, Detail; Took is its age
	KindKernel             // what the kernel told of an end: the text is the verdict, Code the errno
	KindHook               // the application's backend was asked: Name is the method, Outcome what came of it
	KindHTTP               // a plain HTTP request: Name is the method, the text the route, Code the status
	kinds
)

var kindNames = [kinds]string{"none", "upgrade", "connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history",
	"rpc", "refresh", "sub_refresh", "unsubscribed", "slow", "closed", "kernel", "hook", "http"}

// String is the kind as lines and spans name it.
func (k Kind) String() string {
	if k >= kinds {
		return kindNames[KindNone]
	}
	return kindNames[k]
}

// Call reports whether entries of the kind tell of something that was asked for and took its time, so that it may be slow.
func (k Kind) Call() bool {
	return k >= KindUpgrade && k <= KindSubRefresh || k == KindHook || k == KindHTTP
}

// Flags of an entry.
type Flags uint8

// The flags.
const (
	FlagFailed  Flags = 1 << iota // an error: see its Code, Cause or Outcome
	FlagParent                    // the trace came with the request (traceparent)
	FlagSampled                   // and whoever began it records it
	FlagFirst                     // the first of a conn
	FlagLast                      // the last of a conn, or the only one of a request
	flagCut                       // the text was longer
)

// NoEndpoint is the Endpoint of an entry that belongs to none.
const NoEndpoint = 255

// Sizes of what an entry keeps of names, in bytes.
const (
	TextSize    = 128
	nameSize    = 28
	outcomeSize = 12
)

// Entry is one thing that happened. It has no pointers and no payloads.
type Entry struct {
	At      int64    // when it was over, in ns since 1970
	Took    int64    // ns; 0: at once
	Conn    uint64   // names the conn within its process; 0: none
	Trace   [16]byte // zero: of no trace
	Span    [8]byte
	Parent  [8]byte  // span; zero: none
	Address [16]byte // of the client, as it may be written down; zero: not told
	Code    uint32   // of the protocol or of HTTP; 0: none
	Lines   uint32   // of the last entry of a conn: how many its loop wrote of it, this one included
	Port    uint16   // of Address

	Kind     Kind
	Flags    Flags
	Endpoint uint8 // its number, or NoEndpoint
	Cause    uint8 // number, of an end
	Detail   uint8 // number, of an end

	nameLen, outcomeLen, textLen uint8
	name                         [nameSize]byte
	outcome                      [outcomeSize]byte
	text                         [TextSize]byte
}

// SetText notes a channel, user, route or verdict; of one longer than TextSize bytes as much.
func SetText[T string | []byte](e *Entry, s T) {
	n := copy(e.text[:], s)
	e.textLen = uint8(n)
	if e.Flags &^= flagCut; n < len(s) {
		e.Flags |= flagCut
	}
}

// SetName notes a method, one of few.
func (e *Entry) SetName(s string) { e.nameLen = uint8(copy(e.name[:], s)) }

// SetOutcome notes an outcome, one of few.
func (e *Entry) SetOutcome(s string) { e.outcomeLen = uint8(copy(e.outcome[:], s)) }

// SetAddress notes an address.
func (e *Entry) SetAddress(a netip.AddrPort) {
	if a.IsValid() {
		e.Address, e.Port = a.Addr().As16(), a.Port()
	}
}

// Text is what SetText noted, in valid UTF-8; "…" stands for what it had no room for.
func (e *Entry) Text() string {
	b := e.text[:min(int(e.textLen), TextSize)]
	if e.Flags&flagCut == 0 {
		return strings.ToValidUTF8(string(b), "\ufffd")
	}
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				b = b[:len(b)-n]
			}
			break
		}
	}
	return strings.ToValidUTF8(string(b), "\ufffd") + "…"
}

// Name is what SetName noted.
func (e *Entry) Name() string { return string(e.name[:min(int(e.nameLen), nameSize)]) }

// Outcome is what SetOutcome noted.
func (e *Entry) Outcome() string { return string(e.outcome[:min(int(e.outcomeLen), outcomeSize)]) }

// AddrPort is what SetAddress noted; the zero value where there is none. A port of 0 is none.
func (e *Entry) AddrPort() netip.AddrPort {
	if e.Address == [16]byte{} {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(e.Address).Unmap(), e.Port)
}

// Time is At.
func (e *Entry) Time() time.Time { return time.Unix(0, e.At) }

// Duration is Took.
func (e *Entry) Duration() time.Duration { return time.Duration(e.Took) }

// Began is when it began, in ns since 1970.
func (e *Entry) Began() int64 { return e.At - e.Took }

// SpanID is a span's number as eight bytes.
func SpanID(n uint64) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}
