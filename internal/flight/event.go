package flight

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// EventSize is the bytes of one event in the ring.
const EventSize = 64

// TextSize is how many bytes of a name fit into an event, which is a UUID's length: of longer ones, as many are kept.
const TextSize = 36

// Kind is what an event tells.
type Kind uint8

// The kinds.
const (
	KindNone       Kind = iota
	KindOpened          // the handshake was answered: address, endpoint, time since the accept
	KindRequest         // X-Request-ID of the handshake
	KindTrace           // traceparent of the handshake: trace and span ids
	KindConnected       // the session is connected: its user
	KindSubscribed      // to a channel
	KindLeft            // a channel, by Code; 0: the client wanted to
	KindSlow            // the write queue passed half its limit
	KindEnded           // the conn is over, with its cause and the process's evidence
	KindKernel          // what the kernel told of the end
	KindAnswered        // the client answered our close frame, with Code
	kinds
)

var kindNames = [kinds]string{"none", "opened", "request", "trace", "connected", "subscribed", "left", "slow", "ended", "kernel", "answered"}

// String is the kind as JSON shows it.
func (k Kind) String() string {
	if k >= kinds {
		return kindNames[KindNone]
	}
	return kindNames[k]
}

// Event is one event, read back. Fields that its kind does not have are zero.
type Event struct {
	Kind Kind
	Time time.Time
	Conn uint64 // names the conn within its process
	Text string // the user, the channel, or the request id; as much as was kept of it

	Address  netip.AddrPort // opened
	Endpoint int            // opened: its number
	Took     time.Duration  // opened: from the accept until the handshake was answered
	Code     uint16         // ended: the status code that ended it; left: of the unsubscribe; answered: of the client's close frame
	Bytes    uint32         // slow: in the write queue

	TraceID [16]byte // trace
	SpanID  [8]byte

	Ended  *Ended
	Kernel *Kernel

	sequence uint64 // later events of one track have a higher one
	stamp    int64  // of Time
}

// Ended is the process's own evidence of an end.
type Ended struct {
	Cause  uint8  // number of the cause
	Detail uint8  // number of its detail
	Code   uint16 // status code that ended it: the client's where it closed, else ours
	// Age is the time since the accept. Silent is how long nothing had been heard of the client; Pinged how long the last
	// ping lay back, below zero where none was out.
	Age, Silent, Pinged time.Duration
	Ponged              bool   // what was heard last of the client was a pong
	Queued              uint32 // bytes that its socket had not taken

	// Of TCP_INFO, where Info is true.
	Info        bool
	RTT         time.Duration
	Unacked     uint32        // bytes that were sent and not acknowledged
	Timeouts    uint8         // retransmission timeouts in a row
	Retransmits uint16        // segments that were sent again, in all
	LastAck     time.Duration // since the client's kernel acknowledged something
}

// Kernel is what the kernel told of an end.
type Kernel struct {
	Verdict     uint8 // number of the verdict
	Level       uint8 // number of the level that saw it
	Err         uint8 // errno
	Retransmits uint16
	Unacked     uint32 // bytes
	RTT         time.Duration
	Path        uint64 // states of TCP, 4 bits each, the newest lowest
}

// Layout of an event, little endian:
//
//	 0  sequence number; 0 while it is written
//	 8  stamp
//	16  conn
//	24  kind, a, b (16 bits)
//	28  text of a bytes; or c (32 bits), and 32 bytes that depend on the kind
type slot [EventSize]byte

const textAt = EventSize - TextSize

func (s *slot) head(stamp int64, conn uint64, k Kind, a uint8, b uint16, c uint32) {
	binary.LittleEndian.PutUint64(s[8:], uint64(stamp))
	binary.LittleEndian.PutUint64(s[16:], conn)
	s[24], s[25] = byte(k), a
	binary.LittleEndian.PutUint16(s[26:], b)
	binary.LittleEndian.PutUint32(s[28:], c)
	clear(s[32:])
}

func (s *slot) sequence() uint64 { return binary.LittleEndian.Uint64(s[:]) }
func (s *slot) stamp() int64     { return int64(binary.LittleEndian.Uint64(s[8:])) }
func (s *slot) conn() uint64     { return binary.LittleEndian.Uint64(s[16:]) }
func (s *slot) kind() Kind       { return Kind(s[24]) }

// text is the name in an event that has one, as it was kept.
func (s *slot) text() []byte { return s[textAt:][:min(int(s[25]), TextSize)] }

// address is that of an opened event.
func (s *slot) address() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[32:48])).Unmap(), binary.LittleEndian.Uint16(s[26:]))
}

// readable is a name in valid UTF-8: what was cut within a character ends before it.
func readable(b []byte) string {
	if len(b) == TextSize {
		for n := 1; n < utf8.UTFMax; n++ {
			if c := b[len(b)-n]; utf8.RuneStart(c) {
				if !utf8.FullRune(b[len(b)-n:]) {
					b = b[:len(b)-n]
				}
				break
			}
		}
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

// millis is a time in ms that fits.
func millis(d time.Duration) uint32 {
	return uint32(min(max(0, d/time.Millisecond), math.MaxUint32-1))
}

// noTime stands for a time that is not known.
const noTime = math.MaxUint32

// Flags in the last byte of an ended event.
const (
	hasInfo = 1 << iota
	hasPonged
)

func (s *slot) ended(e *Ended) {
	p := s[32:]
	binary.LittleEndian.PutUint32(p[0:], millis(e.Age))
	binary.LittleEndian.PutUint32(p[4:], millis(e.Silent))
	pinged := uint32(noTime)
	if e.Pinged >= 0 {
		pinged = millis(e.Pinged)
	}
	binary.LittleEndian.PutUint32(p[8:], pinged)
	binary.LittleEndian.PutUint32(p[12:], e.Queued)
	binary.LittleEndian.PutUint32(p[16:], uint32(min(max(0, e.RTT/time.Microsecond), math.MaxUint32)))
	binary.LittleEndian.PutUint32(p[20:], millis(e.LastAck))
	binary.LittleEndian.PutUint32(p[24:], e.Unacked)
	binary.LittleEndian.PutUint16(p[28:], e.Retransmits)
	p[30] = e.Timeouts
	if e.Info {
		p[31] |= hasInfo
	}
	if e.Ponged {
		p[31] |= hasPonged
	}
}

// event reads a slot of a process that has the timeline.
func (s *slot) event(t timeline) Event {
	e := Event{Kind: s.kind(), Time: t.time(s.stamp()), Conn: s.conn(), sequence: s.sequence(), stamp: s.stamp()}
	a, b, c := s[25], binary.LittleEndian.Uint16(s[26:]), binary.LittleEndian.Uint32(s[28:])
	p := s[32:]
	switch e.Kind {
	case KindOpened:
		e.Address, e.Endpoint, e.Took = s.address(), int(a), time.Duration(c)*time.Microsecond
	case KindRequest, KindConnected, KindSubscribed:
		e.Text = readable(s.text())
	case KindLeft:
		e.Text, e.Code = readable(s.text()), b
	case KindAnswered:
		e.Code = b
	case KindTrace:
		copy(e.TraceID[:], p)
		copy(e.SpanID[:], p[16:])
	case KindSlow:
		e.Bytes = c
	case KindEnded:
		x := &Ended{Cause: a, Code: b, Detail: uint8(c)}
		x.Age = time.Duration(binary.LittleEndian.Uint32(p[0:])) * time.Millisecond
		x.Silent = time.Duration(binary.LittleEndian.Uint32(p[4:])) * time.Millisecond
		if x.Pinged = -1; binary.LittleEndian.Uint32(p[8:]) != noTime {
			x.Pinged = time.Duration(binary.LittleEndian.Uint32(p[8:])) * time.Millisecond
		}
		x.Queued = binary.LittleEndian.Uint32(p[12:])
		x.RTT = time.Duration(binary.LittleEndian.Uint32(p[16:])) * time.Microsecond
		x.LastAck = time.Duration(binary.LittleEndian.Uint32(p[20:])) * time.Millisecond
		x.Unacked, x.Retransmits = binary.LittleEndian.Uint32(p[24:]), binary.LittleEndian.Uint16(p[28:])
		x.Timeouts, x.Info = p[30], p[31]&hasInfo != 0
		x.Ponged = p[31]&hasPonged != 0
		e.Ended, e.Code = x, x.Code
	case KindKernel:
		e.Kernel = &Kernel{
			Verdict: a, Retransmits: b, Unacked: c, Level: p[0], Err: p[1],
			RTT: time.Duration(binary.LittleEndian.Uint32(p[4:])) * time.Microsecond, Path: binary.LittleEndian.Uint64(p[8:]),
		}
	}
	return e
}
