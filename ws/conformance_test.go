package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// A part is a frame of a conformance case. It is masked when the reader is a Server.
type part struct {
	fin     bool
	rsv     uint8
	op      Opcode
	payload []byte
	raw     []byte // written as it is, instead
}

func fin(op Opcode, payload string) part  { return part{fin: true, op: op, payload: []byte(payload)} }
func open(op Opcode, payload string) part { return part{op: op, payload: []byte(payload)} }
func raw(b ...byte) part                  { return part{raw: b} }
func (p part) bits(rsv uint8) part        { p.rsv = rsv; return p }

func closing(code int, reason string) part {
	return fin(OpClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// A conf is a stream of frames and what a Reader has to make of it: events as in show, and perhaps
// the error that ends it.
type conf struct {
	name  string
	parts []part
	want  string
	cfg   ReaderConfig // Role is set by the test
	only  int          // 0: both roles; 1+Role: one
}

// show writes an event so that a person can read it and two can be compared.
func show(ev Event) string {
	s := ev.Op.String()
	if ev.Op == OpClose {
		s += fmt.Sprintf(" %d", ev.Code)
	}
	if len(ev.Payload) > 40 {
		return s + fmt.Sprintf(" %d bytes %08x", len(ev.Payload), crc32.ChecksumIEEE(ev.Payload))
	}
	return s + fmt.Sprintf(" %q", ev.Payload)
}

func encode(r Role, parts []part) (b []byte) {
	for i, p := range parts {
		if p.raw != nil {
			b = append(b, p.raw...)
			continue
		}
		h := Header{Fin: p.fin, Rsv: p.rsv, Opcode: p.op, Length: int64(len(p.payload))}
		if r == Server {
			h.Masked, h.Key = true, [4]byte{byte(i + 1), 0x80, 0xff, byte(i * 37)}
		}
		b = AppendHeader(b, h)
		start := len(b)
		b = append(b, p.payload...)
		if h.Masked {
			Mask(b[start:], h.Key, 0)
		}
	}
	return b
}

// feed gives b to a Reader in pieces of the sizes that next returns. It returns what the Reader made
// of it, and how many bytes had been given when it failed.
func feed(t testing.TB, c ReaderConfig, b []byte, next func(left int) int) (events []string, given int) {
	t.Helper()
	var r Reader
	r.Reset(c)
	defer r.Release()
	for given < len(b) {
		n := max(1, min(next(len(b)-given), len(b)-given))
		piece := bytes.Clone(b[given : given+n])
		given += n
		for rest := piece; len(rest) > 0; {
			ev, k, err := r.Next(rest)
			if err != nil {
				if !r.Idle() || r.Held() != 0 {
					t.Fatalf("a dead Reader holds %d bytes", r.Held())
				}
				if _, k, again := r.Next([]byte{0x81}); k != 0 || again != err {
					t.Fatalf("a dead Reader consumes %d bytes and says %v", k, again)
				}
				return append(events, "error "+ruleOf(err)), given
			}
			if k < 0 || k > len(rest) || ev.Op == NoEvent && k != len(rest) {
				t.Fatalf("Next consumed %d of %d bytes with event %v", k, len(rest), ev.Op)
			}
			rest = rest[k:]
			if ev.Op == NoEvent {
				continue
			}
			if cap(ev.Payload) != len(ev.Payload) {
				t.Fatal("appending to a payload would reach what is behind it")
			}
			events = append(events, show(ev))
			for i := range ev.Payload { // it is the caller's to change
				ev.Payload[i] = 0x55
			}
		}
		// Nobody may read a piece after the call.
		for i := range piece {
			piece[i] = 0xaa
		}
	}
	return events, given
}

func whole(left int) int { return left }
func single(int) int     { return 1 }

func random(rnd *rand.Rand) func(int) int {
	return func(left int) int {
		switch rnd.IntN(4) {
		case 0:
			return 1 + rnd.IntN(4)
		case 1:
			return 1 + rnd.IntN(left)
		}
		return 1 + rnd.IntN(300)
	}
}

func runConf(t *testing.T, cases []conf) {
	rnd := newRand(t)
	names := map[string]bool{}
	for _, c := range cases {
		if names[c.name] {
			t.Errorf("case %s is there twice", c.name)
		}
		names[c.name] = true
		for _, role := range []Role{Server, Client} {
			if c.only != 0 && c.only != 1+int(role) {
				continue
			}
			c.cfg.Role = role
			b := encode(role, c.parts)
			ways := []func(int) int{whole, single, random(rnd), random(rnd)}
			switch {
			case len(b) > 1<<17:
				ways = []func(int) int{whole, random(rnd)}
			case raceEnabled && len(b) > 1<<12:
				ways = []func(int) int{whole, random(rnd), random(rnd)}
			}
			for i, way := range ways {
				got, _ := feed(t, c.cfg, b, way)
				if s := strings.Join(got, "; "); s != c.want {
					t.Errorf("%s, %v, way %d:\n got %s\nwant %s", c.name, role, i, s, c.want)
					break
				}
			}
		}
	}
	t.Logf("%d cases", len(cases))
}

func text(n int) string { return strings.Repeat("*", n) }

// Sections 1 and 2 of the numbering that the WebSocket world knows from Autobahn: framing, pings and pongs.
func TestConformanceFraming(t *testing.T) {
	var cs []conf
	for _, op := range []Opcode{OpText, OpBinary} {
		for _, n := range []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 131072} {
			p := text(n)
			if op == OpBinary {
				p = strings.Repeat("\xfe", n)
			}
			cs = append(cs, conf{name: fmt.Sprintf("1/%v-%d", op, n), parts: []part{fin(op, p)}, want: show(Event{Op: op, Payload: []byte(p)})},
				conf{name: fmt.Sprintf("1/%v-%d-twice", op, n), parts: []part{fin(op, p), fin(op, p)},
					want: show(Event{Op: op, Payload: []byte(p)}) + "; " + show(Event{Op: op, Payload: []byte(p)})})
		}
	}
	for _, op := range []Opcode{OpPing, OpPong} {
		for _, n := range []int{0, 1, 5, 124, 125} {
			cs = append(cs, conf{name: fmt.Sprintf("2/%v-%d", op, n), parts: []part{fin(op, text(n))}, want: show(Event{Op: op, Payload: []byte(text(n))})})
		}
		for _, n := range []int{126, 127, 65535, 65536} {
			cs = append(cs, conf{name: fmt.Sprintf("2/%v-%d", op, n), parts: []part{fin(op, text(n))}, want: "error 1002 control_too_long"})
		}
		cs = append(cs,
			conf{name: fmt.Sprintf("2/%v-binary", op), parts: []part{fin(op, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}, want: op.String() + ` "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"`},
			conf{name: fmt.Sprintf("2/%v-then-message", op), parts: []part{fin(op, "x"), fin(OpText, "y")}, want: op.String() + ` "x"; text "y"`},
		)
	}
	var ten []part
	var want []string
	for i := range 10 {
		ten = append(ten, fin(OpPing, fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("ping %q", fmt.Sprint(i)))
	}
	cs = append(cs,
		conf{name: "2/ten-pings", parts: ten, want: strings.Join(want, "; ")},
		conf{name: "2/pong-ping", parts: []part{fin(OpPong, "unasked"), fin(OpPing, "p")}, want: `pong "unasked"; ping "p"`},
		conf{name: "0/nothing", want: ""},
	)
	runConf(t, cs)
}

// Sections 3 and 4: reserved bits and opcodes.
func TestConformanceReserved(t *testing.T) {
	var cs []conf
	on := ReaderConfig{Deflate: true}
	for rsv := uint8(1); rsv < 8; rsv++ {
		for _, op := range []Opcode{OpText, OpBinary, OpClose, OpPing, OpPong} {
			for _, p := range []string{"", "hi"} {
				name := fmt.Sprintf("3/rsv%d-%v-%d", rsv, op, len(p))
				cs = append(cs,
					conf{name: name, parts: []part{fin(op, p).bits(rsv)}, want: "error 1002 reserved_bit"},
					conf{name: name + "-after", parts: []part{fin(OpText, "a"), fin(OpPing, ""), fin(op, p).bits(rsv)}, want: `text "a"; ping ""; error 1002 reserved_bit`})
				if rsv != Rsv1 || op >= OpClose {
					cs = append(cs, conf{name: name + "-deflate", parts: []part{fin(op, p).bits(rsv)}, cfg: on, want: "error 1002 reserved_bit"})
				}
			}
		}
		cs = append(cs,
			conf{name: fmt.Sprintf("3/rsv%d-continuation", rsv), parts: []part{open(OpText, "a"), fin(OpContinuation, "b").bits(rsv)}, want: "error 1002 reserved_bit"},
			conf{name: fmt.Sprintf("3/rsv%d-continuation-deflate", rsv), parts: []part{open(OpText, "a"), fin(OpContinuation, "b").bits(rsv)}, cfg: on, want: "error 1002 reserved_bit"},
			conf{name: fmt.Sprintf("3/rsv%d-ping-inside", rsv), parts: []part{open(OpText, "a"), fin(OpPing, "b").bits(rsv)}, cfg: on, want: "error 1002 reserved_bit"},
		)
	}
	for _, op := range []Opcode{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		for _, p := range []string{"", "hi", text(126)} {
			name := fmt.Sprintf("4/op%d-%d", op, len(p))
			cs = append(cs,
				conf{name: name, parts: []part{fin(op, p)}, want: "error 1002 reserved_opcode"},
				conf{name: name + "-open", parts: []part{open(op, p)}, want: "error 1002 reserved_opcode"},
				conf{name: name + "-after", parts: []part{fin(OpText, "a"), fin(op, p), fin(OpPing, "")}, want: `text "a"; error 1002 reserved_opcode`},
				conf{name: name + "-inside", parts: []part{open(OpText, "a"), fin(op, p)}, want: "error 1002 reserved_opcode"},
			)
		}
	}
	runConf(t, cs)
}

// Section 5: fragmentation.
func TestConformanceFragments(t *testing.T) {
	cs := []conf{
		{name: "5/ping-open", parts: []part{open(OpPing, "a"), fin(OpContinuation, "b")}, want: "error 1002 fragmented_control"},
		{name: "5/pong-open", parts: []part{open(OpPong, "a"), fin(OpContinuation, "b")}, want: "error 1002 fragmented_control"},
		{name: "5/close-open", parts: []part{open(OpClose, "\x03\xe8")}, want: "error 1002 fragmented_control"},
		{name: "5/two", parts: []part{open(OpText, "ab"), fin(OpContinuation, "cd")}, want: `text "abcd"`},
		{name: "5/two-binary", parts: []part{open(OpBinary, "\xff"), fin(OpContinuation, "\xfe")}, want: `binary "\xff\xfe"`},
		{name: "5/ping-inside", parts: []part{open(OpText, "ab"), fin(OpPing, "p"), fin(OpContinuation, "cd")}, want: `ping "p"; text "abcd"`},
		{name: "5/many-inside", parts: []part{open(OpText, "a"), fin(OpPing, text(125)), fin(OpPong, ""), open(OpContinuation, "b"), fin(OpPing, "2"), open(OpContinuation, ""), fin(OpPong, "x"), fin(OpContinuation, "c")},
			want: show(Event{Op: OpPing, Payload: []byte(text(125))}) + `; pong ""; ping "2"; pong "x"; text "abc"`},
		{name: "5/close-inside", parts: []part{open(OpText, "a"), closing(1000, ""), fin(OpContinuation, "b")}, want: `close 1000 ""`},
		{name: "5/continuation-alone", parts: []part{fin(OpContinuation, "a")}, want: "error 1002 unexpected_continuation"},
		{name: "5/continuation-alone-open", parts: []part{open(OpContinuation, "a"), fin(OpContinuation, "a")}, want: "error 1002 unexpected_continuation"},
		{name: "5/continuation-alone-empty", parts: []part{fin(OpContinuation, "")}, want: "error 1002 unexpected_continuation"},
		{name: "5/continuation-after", parts: []part{fin(OpText, "a"), fin(OpContinuation, "b")}, want: `text "a"; error 1002 unexpected_continuation`},
		{name: "5/continuation-after-fragments", parts: []part{open(OpText, "a"), fin(OpContinuation, "b"), fin(OpContinuation, "c")}, want: `text "ab"; error 1002 unexpected_continuation`},
		{name: "5/text-inside", parts: []part{open(OpText, "a"), fin(OpText, "b")}, want: "error 1002 expected_continuation"},
		{name: "5/text-inside-open", parts: []part{open(OpText, "a"), open(OpText, "b")}, want: "error 1002 expected_continuation"},
		{name: "5/binary-inside", parts: []part{open(OpText, "a"), fin(OpPing, ""), fin(OpBinary, "b")}, want: `ping ""; error 1002 expected_continuation`},
		{name: "5/text-inside-binary", parts: []part{open(OpBinary, ""), fin(OpText, "")}, want: "error 1002 expected_continuation"},
		{name: "5/all-empty", parts: []part{open(OpText, ""), open(OpContinuation, ""), fin(OpContinuation, "")}, want: `text ""`},
		{name: "5/empty-first", parts: []part{open(OpText, ""), fin(OpContinuation, "x")}, want: `text "x"`},
		{name: "5/empty-last", parts: []part{open(OpText, "x"), fin(OpContinuation, "")}, want: `text "x"`},
		{name: "5/two-messages", parts: []part{open(OpText, "a"), fin(OpContinuation, "b"), open(OpBinary, "c"), fin(OpContinuation, "d"), fin(OpText, "e")}, want: `text "ab"; binary "cd"; text "e"`},
		{name: "10/fragments-of-an-auto-fragmenting-peer", parts: slices.Concat([]part{open(OpText, text(1300))}, slices.Repeat([]part{open(OpContinuation, text(1300))}, 49), []part{fin(OpContinuation, text(536))}),
			want: show(Event{Op: OpText, Payload: []byte(text(65536))})},
	}
	for _, n := range []int{2, 3, 10, 100} {
		for _, size := range []int{0, 1, 2, 64, 126} {
			ps := slices.Concat([]part{open(OpText, text(size))}, slices.Repeat([]part{open(OpContinuation, text(size))}, n-2), []part{fin(OpContinuation, text(size))})
			cs = append(cs, conf{name: fmt.Sprintf("5/%d-of-%d", n, size), parts: ps, want: show(Event{Op: OpText, Payload: []byte(text(size * n))})})
		}
	}
	runConf(t, cs)
}

// Section 6: UTF-8, each vector in one frame, in two at each place, and a byte a frame with pings between.
func TestConformanceUTF8(t *testing.T) {
	var cs []conf
	for _, v := range readUTF8(t) {
		want, pings := "error 1007 invalid_utf8", ""
		if v.valid {
			want = show(Event{Op: OpText, Payload: v.b})
		}
		s := string(v.b)
		cs = append(cs,
			conf{name: "6/" + v.name, parts: []part{fin(OpText, s)}, want: want},
			conf{name: "6/" + v.name + "-binary", parts: []part{fin(OpBinary, s)}, want: show(Event{Op: OpBinary, Payload: v.b})},
			conf{name: "6/" + v.name + "-after", parts: []part{fin(OpText, "ok"), fin(OpText, s)}, want: `text "ok"; ` + want})
		for i := 1; i < min(len(v.b), 16); i++ {
			cs = append(cs, conf{name: fmt.Sprintf("6/%s-split-at-%d", v.name, i), parts: []part{open(OpText, s[:i]), fin(OpContinuation, s[i:])}, want: want})
		}
		ps := []part{open(OpText, "")}
		for i := range len(s) {
			ps = append(ps, fin(OpPing, ""), open(OpContinuation, s[i:i+1]))
			if v.fails < 0 || i <= v.fails {
				pings += `ping ""; `
			}
		}
		ps = append(ps, fin(OpContinuation, ""))
		cs = append(cs, conf{name: "6/" + v.name + "-bytes", parts: ps, want: pings + want})
	}
	runConf(t, cs)
}

// An invalid byte fails the connection when it arrives: not at the end of the frame, and not of the message.
func TestUTF8FailsFast(t *testing.T) {
	for _, v := range readUTF8(t) {
		if v.fails < 0 {
			continue
		}
		for _, role := range []Role{Server, Client} {
			head := len(encode(role, []part{fin(OpText, string(v.b)+text(100))})) - len(v.b) - 100
			b := encode(role, []part{fin(OpText, string(v.b)+text(100))})
			if _, given := feed(t, ReaderConfig{Role: role}, b, single); given != head+v.fails+1 {
				t.Errorf("%s, %v: failed after %d bytes, want %d", v.name, role, given, head+v.fails+1)
			}
			// In a fragment, followed by a frame that never comes.
			b = encode(role, []part{open(OpText, string(v.b))})
			if got, _ := feed(t, ReaderConfig{Role: role}, b, whole); len(got) != 1 || got[0] != "error 1007 invalid_utf8" {
				t.Errorf("%s, %v: a fragment gives %v", v.name, role, got)
			}
		}
	}
}

// Section 7: the closing handshake.
func TestConformanceClose(t *testing.T) {
	cs := []conf{
		{name: "7/empty", parts: []part{fin(OpClose, "")}, want: `close 1005 ""`},
		{name: "7/one-byte", parts: []part{fin(OpClose, "\x03")}, want: "error 1002 bad_close_payload"},
		{name: "7/code-only", parts: []part{closing(1000, "")}, want: `close 1000 ""`},
		{name: "7/reason", parts: []part{closing(1000, "bye")}, want: `close 1000 "bye"`},
		{name: "7/reason-utf8", parts: []part{closing(1001, "κόσμε")}, want: `close 1001 "κόσμε"`},
		{name: "7/reason-123", parts: []part{closing(1000, text(123))}, want: show(Event{Op: OpClose, Code: 1000, Payload: []byte(text(123))})},
		{name: "7/reason-124", parts: []part{closing(1000, text(124))}, want: "error 1002 control_too_long"},
		{name: "7/reason-cut", parts: []part{closing(1000, "\xce")}, want: "error 1007 invalid_utf8"},
		{name: "7/message-before", parts: []part{fin(OpText, "a"), closing(1000, "")}, want: `text "a"; close 1000 ""`},
		{name: "7/message-after", parts: []part{closing(1000, ""), fin(OpText, "a")}, want: `close 1000 ""`},
		{name: "7/ping-after", parts: []part{closing(1000, ""), fin(OpPing, "a")}, want: `close 1000 ""`},
		{name: "7/close-after", parts: []part{closing(1000, ""), closing(1001, "")}, want: `close 1000 ""`},
		{name: "7/nonsense-after", parts: []part{closing(1000, ""), raw(0xff, 0xff, 0xff)}, want: `close 1000 ""`},
		{name: "7/large-after", parts: []part{closing(1000, ""), fin(OpText, text(1<<18))}, want: `close 1000 ""`},
		{name: "7/empty-code-zero", parts: []part{fin(OpClose, "\x00\x00")}, want: "error 1002 bad_close_code"},
	}
	good := []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4999}
	bad := []int{0, 1, 125, 999, 1004, 1005, 1006, 1015, 1016, 1099, 1100, 1999, 2000, 2999, 5000, 5001, 9999, 32768, 65535}
	for _, c := range good {
		cs = append(cs, conf{name: fmt.Sprintf("7/code-%d", c), parts: []part{closing(c, "")}, want: fmt.Sprintf(`close %d ""`, c)},
			conf{name: fmt.Sprintf("7/code-%d-reason", c), parts: []part{closing(c, "why")}, want: fmt.Sprintf(`close %d "why"`, c)})
	}
	for _, c := range bad {
		cs = append(cs, conf{name: fmt.Sprintf("7/code-%d", c), parts: []part{closing(c, "")}, want: "error 1002 bad_close_code"},
			conf{name: fmt.Sprintf("7/code-%d-reason", c), parts: []part{closing(c, "why")}, want: "error 1002 bad_close_code"})
	}
	for _, v := range readUTF8(t) {
		want := "error 1007 invalid_utf8"
		if v.valid {
			want = show(Event{Op: OpClose, Code: 1000, Payload: v.b})
		}
		cs = append(cs, conf{name: "7/reason-" + v.name, parts: []part{closing(1000, string(v.b))}, want: want})
	}
	runConf(t, cs)
}

// Lengths and limits: what is refused from the header alone, before any payload.
func TestConformanceLengths(t *testing.T) {
	be := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	var cs []conf
	for _, role := range []Role{Server, Client} {
		m := byte(0)
		if role == Server {
			m = 0x80
		}
		key := bytes.Repeat([]byte{7}, int(m>>5))
		add := func(name, want string, b ...byte) {
			cs = append(cs, conf{name: fmt.Sprintf("9/%s-%v", name, role), parts: []part{raw(b...)}, want: want, only: 1 + int(role)})
		}
		for _, n := range []byte{0, 1, 125} {
			add(fmt.Sprintf("16-bit-%d", n), "error 1002 non_minimal_length", 0x82, m|126, 0, n)
		}
		for _, n := range []uint64{0, 125, 126, 65535} {
			add(fmt.Sprintf("64-bit-%d", n), "error 1002 non_minimal_length", append([]byte{0x82, m | 127}, be(n)...)...)
		}
		for _, n := range []uint64{1 << 63, 1<<64 - 1, 1<<63 + 5} {
			add(fmt.Sprintf("high-bit-%x", n), "error 1002 length_high_bit", append([]byte{0x82, m | 127}, be(n)...)...)
		}
		for _, n := range []uint64{1<<20 + 1, 1 << 31, 1 << 32, 1<<32 + 1, 1 << 62, 1<<63 - 1} {
			add(fmt.Sprintf("too-big-%x", n), "error 1009 message_too_big", slices.Concat([]byte{0x82, m | 127}, be(n), key)...)
			add(fmt.Sprintf("too-big-fragment-%x", n), "error 1009 message_too_big", slices.Concat([]byte{0x02, m | 127}, be(n), key)...)
			add(fmt.Sprintf("too-big-control-%x", n), "error 1002 control_too_long", slices.Concat([]byte{0x89, m | 127}, be(n), key)...)
		}
		other := m ^ 0x80
		mask := map[Role]string{Server: "error 1002 unmasked_frame", Client: "error 1002 masked_frame"}[role]
		for _, op := range []byte{1, 2, 8, 9, 10} {
			add(fmt.Sprintf("mask-%d", op), mask, 0x80|op, other)
			add(fmt.Sprintf("mask-%d-long", op), mask, 0x80|op, other|126)
		}
		add("bits-before-mask", "error 1002 reserved_bit", 0x91, other)
		add("opcode-before-mask", "error 1002 reserved_opcode", 0x83, other)
		add("mask-before-length", mask, 0x81, other|126, 0, 1)
		add("continuation-before-mask", "error 1002 unexpected_continuation", 0x80, other)
	}
	small := ReaderConfig{MaxMessage: 10}
	cs = append(cs,
		conf{name: "9/at-limit", parts: []part{fin(OpText, text(10)), fin(OpBinary, text(10))}, cfg: small, want: `text "**********"; binary "**********"`},
		conf{name: "9/over-limit", parts: []part{fin(OpText, text(11))}, cfg: small, want: "error 1009 message_too_big"},
		conf{name: "9/at-limit-fragments", parts: []part{open(OpText, text(4)), fin(OpPing, text(100)), open(OpContinuation, text(6)), fin(OpContinuation, "")}, cfg: small, want: show(Event{Op: OpPing, Payload: []byte(text(100))}) + `; text "**********"`},
		conf{name: "9/over-limit-fragments", parts: []part{open(OpText, text(4)), open(OpContinuation, text(6)), fin(OpContinuation, "x")}, cfg: small, want: "error 1009 message_too_big"},
		conf{name: "9/limit-per-message", parts: []part{fin(OpText, text(8)), open(OpText, text(8)), fin(OpContinuation, "xx"), fin(OpText, text(9))}, cfg: small, want: `text "********"; text "********xx"; text "*********"`},
		conf{name: "9/default-limit", parts: []part{fin(OpBinary, text(1<<20))}, want: show(Event{Op: OpBinary, Payload: []byte(text(1 << 20))})},
		conf{name: "9/over-default-limit", parts: []part{fin(OpBinary, text(1<<20+1))}, want: "error 1009 message_too_big"},
		conf{name: "9/negative-is-default", parts: []part{fin(OpBinary, "x")}, cfg: ReaderConfig{MaxMessage: -1}, want: `binary "x"`},
		conf{name: "9/huge-limit", parts: []part{fin(OpBinary, "x"), open(OpBinary, "y"), fin(OpContinuation, "z")}, cfg: ReaderConfig{MaxMessage: 1<<63 - 1, Deflate: true}, want: `binary "x"; binary "yz"`},
	)
	for _, total := range []int{64 << 10, 256 << 10, 1 << 20} {
		for _, size := range slices.Compact([]int{64, 256, 1 << 10, 4 << 10, 64 << 10, total}) {
			for _, op := range []Opcode{OpText, OpBinary} {
				if total > 64<<10 && size < 256 && (op == OpText || raceEnabled) {
					continue // time
				}
				var ps []part
				for off := 0; off < total; off += size {
					p := part{op: OpContinuation, payload: []byte(text(size)), fin: off+size == total}
					if off == 0 {
						p.op = op
					}
					ps = append(ps, p)
				}
				cs = append(cs, conf{name: fmt.Sprintf("9/%v-%d-by-%d", op, total, size), parts: ps, want: show(Event{Op: op, Payload: []byte(text(total))})})
			}
		}
	}
	runConf(t, cs)
}

// Sections 12 and 13: compressed messages, of many sizes, kinds and windows, in one frame and in many.
func TestConformanceDeflate(t *testing.T) {
	on := ReaderConfig{Deflate: true}
	var cs []conf
	rnd := newRand(t)
	noise := make([]byte, 1<<17)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	js := bytes.Repeat([]byte(`{"channel":"news","offset":12345,"data":{"text":"Grüße","ok":true}},`), 2000)
	kinds := map[string][]byte{"json": js, "noise": noise, "same": bytes.Repeat([]byte{'a'}, 1<<17), "zero": make([]byte, 1<<17)}
	for kind, data := range kinds {
		for _, n := range []int{0, 1, 2, 8, 16, 64, 125, 126, 127, 256, 1024, 4096, 8192, 16384, 32768, 65535, 65536, 131072} {
			for window := uint8(8); window <= 15; window++ {
				if n > 4096 && window%3 != 0 {
					continue // time
				}
				p := data[:n]
				op := OpBinary
				if utf8.Valid(p) {
					op = OpText
				}
				z := Compress(nil, p, window)
				name := fmt.Sprintf("12/%s-%d-window-%d", kind, n, window)
				want := show(Event{Op: op, Payload: p})
				cs = append(cs, conf{name: name, parts: []part{{fin: true, rsv: Rsv1, op: op, payload: z}}, cfg: on, want: want})
				if n > 1024 {
					continue
				}
				ps := []part{{op: op, rsv: Rsv1}}
				for _, c := range z {
					ps = append(ps, part{op: OpContinuation, payload: []byte{c}}, fin(OpPing, ""))
				}
				ps = append(ps, fin(OpContinuation, ""))
				cs = append(cs, conf{name: name + "-fragments", parts: ps, cfg: on, want: strings.Repeat(`ping ""; `, len(z)) + want})
			}
		}
	}
	z := string(Compress(nil, []byte("hello hello hello"), 15))
	cs = append(cs,
		conf{name: "12/not-agreed", parts: []part{fin(OpText, z).bits(Rsv1)}, want: "error 1002 reserved_bit"},
		conf{name: "12/uncompressed-too", parts: []part{fin(OpText, z).bits(Rsv1), fin(OpText, "plain"), open(OpText, z[:2]).bits(Rsv1), fin(OpContinuation, z[2:])}, cfg: on, want: `text "hello hello hello"; text "plain"; text "hello hello hello"`},
		conf{name: "12/rsv1-on-continuation", parts: []part{open(OpText, z[:2]).bits(Rsv1), fin(OpContinuation, z[2:]).bits(Rsv1)}, cfg: on, want: "error 1002 reserved_bit"},
		conf{name: "12/rsv1-only-on-continuation", parts: []part{open(OpText, "a"), fin(OpContinuation, z).bits(Rsv1)}, cfg: on, want: "error 1002 reserved_bit"},
		conf{name: "12/empty-payload", parts: []part{fin(OpText, "").bits(Rsv1)}, cfg: on, want: "error 1007 bad_deflate"},
		conf{name: "12/tail-not-removed", parts: []part{fin(OpText, z+"\x00\x00\xff\xff").bits(Rsv1)}, cfg: on, want: "error 1007 bad_deflate"},
		conf{name: "12/cut", parts: []part{fin(OpText, z[:len(z)-1]).bits(Rsv1)}, cfg: on, want: "error 1007 bad_deflate"},
		conf{name: "12/garbage", parts: []part{fin(OpText, "\xff\xff\xff").bits(Rsv1)}, cfg: on, want: "error 1007 bad_deflate"},
		conf{name: "12/bad-utf8", parts: []part{fin(OpText, string(Compress(nil, []byte("a\xff"), 15))).bits(Rsv1)}, cfg: on, want: "error 1007 invalid_utf8"},
		conf{name: "12/cut-utf8", parts: []part{fin(OpText, string(Compress(nil, []byte("a\xc3"), 15))).bits(Rsv1)}, cfg: on, want: "error 1007 invalid_utf8"},
		conf{name: "12/bad-utf8-binary", parts: []part{fin(OpBinary, string(Compress(nil, []byte("a\xff"), 15))).bits(Rsv1)}, cfg: on, want: `binary "a\xff"`},
		conf{name: "12/compressed-bytes-are-not-text", parts: []part{open(OpText, z[:5]).bits(Rsv1), fin(OpPing, ""), fin(OpContinuation, z[5:])}, cfg: on, want: `ping ""; text "hello hello hello"`},
		conf{name: "12/limit", parts: []part{fin(OpText, z).bits(Rsv1)}, cfg: ReaderConfig{Deflate: true, MaxMessage: 17}, want: `text "hello hello hello"`},
		conf{name: "12/over-limit", parts: []part{fin(OpText, z).bits(Rsv1)}, cfg: ReaderConfig{Deflate: true, MaxMessage: 16}, want: "error 1009 message_too_big"},
		conf{name: "12/bomb", parts: []part{fin(OpBinary, string(Compress(nil, make([]byte, 1<<24), 15))).bits(Rsv1)}, cfg: on, want: "error 1009 message_too_big"},
		conf{name: "12/noise-at-limit", parts: []part{fin(OpBinary, string(Compress(nil, noise[:4096], 15))).bits(Rsv1)}, cfg: ReaderConfig{Deflate: true, MaxMessage: 4096}, want: show(Event{Op: OpBinary, Payload: noise[:4096]})},
		conf{name: "12/announced-over-limit", parts: []part{fin(OpBinary, text(4096+512+64+1)).bits(Rsv1)}, cfg: ReaderConfig{Deflate: true, MaxMessage: 4096}, want: "error 1009 message_too_big"},
	)
	runConf(t, cs)
}
