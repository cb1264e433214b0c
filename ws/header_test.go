package ws

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// fromBits turns "1 000 0001  0 0000101" into bytes. What is not 0 or 1 separates.
func fromBits(s string) []byte {
	var b []byte
	n, acc := 0, byte(0)
	for _, c := range s {
		if c != '0' && c != '1' {
			continue
		}
		acc = acc<<1 | byte(c-'0')
		if n++; n == 8 {
			b = append(b, acc)
			n, acc = 0, 0
		}
	}
	if n != 0 {
		panic("not whole bytes: " + s)
	}
	return b
}

func ruleOf(err error) string {
	if err == nil {
		return ""
	}
	var c *CloseError
	if errors.As(err, &c) {
		return strconv.Itoa(int(c.Code)) + " " + c.Rule
	}
	return err.Error()
}

// The headers of RFC 6455 section 5.2, in bits:
// FIN RSV1-3 opcode, MASK length, extended length, masking key.
var headers = []struct {
	bits string
	want Header
	n    int
	rule string
}{
	{"1 000 0001 0 0000101", Header{Fin: true, Opcode: OpText, Length: 5}, 2, ""},
	{"0 000 0001 0 0000011", Header{Opcode: OpText, Length: 3}, 2, ""},
	{"1 000 0000 0 0000000", Header{Fin: true, Length: 0}, 2, ""},
	{"1 100 0010 0 0000001", Header{Fin: true, Rsv: Rsv1, Opcode: OpBinary, Length: 1}, 2, ""},
	{"1 010 0010 0 0000001", Header{Fin: true, Rsv: Rsv2, Opcode: OpBinary, Length: 1}, 2, ""},
	{"1 001 0010 0 0000001", Header{Fin: true, Rsv: Rsv3, Opcode: OpBinary, Length: 1}, 2, ""},
	{"0 111 1111 0 1111101", Header{Rsv: 7, Opcode: 15, Length: 125}, 2, ""},
	{"1 000 1000 0 0000010", Header{Fin: true, Opcode: OpClose, Length: 2}, 2, ""},
	{"1 000 1001 0 1111101", Header{Fin: true, Opcode: OpPing, Length: 125}, 2, ""},
	{"1 000 1010 1 0000000 00000001 00000010 00000011 00000100", Header{Fin: true, Opcode: OpPong, Masked: true, Key: [4]byte{1, 2, 3, 4}}, 6, ""},
	{"1 000 0001 1 0000101 00110111 11111010 00100001 00111101", Header{Fin: true, Opcode: OpText, Masked: true, Key: [4]byte{0x37, 0xfa, 0x21, 0x3d}, Length: 5}, 6, ""},
	// 16 bits
	{"1 000 0010 0 1111110 00000000 01111110", Header{Fin: true, Opcode: OpBinary, Length: 126}, 4, ""},
	{"1 000 0010 0 1111110 00000001 00000000", Header{Fin: true, Opcode: OpBinary, Length: 256}, 4, ""},
	{"1 000 0010 0 1111110 11111111 11111111", Header{Fin: true, Opcode: OpBinary, Length: 65535}, 4, ""},
	{"1 000 0010 1 1111110 00000000 01111110 10000000 00000000 00000000 00000001", Header{Fin: true, Opcode: OpBinary, Masked: true, Key: [4]byte{0x80, 0, 0, 1}, Length: 126}, 8, ""},
	{"1 000 0010 0 1111110 00000000 01111101", Header{}, 0, "1002 non_minimal_length"},
	{"1 000 0010 0 1111110 00000000 00000000", Header{}, 0, "1002 non_minimal_length"},
	{"1 000 0010 1 1111110 00000000 00000000", Header{}, 0, "1002 non_minimal_length"}, // before the key is there
	// 64 bits
	{"1 000 0010 0 1111111 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000", Header{Fin: true, Opcode: OpBinary, Length: 65536}, 10, ""},
	{"1 000 0010 0 1111111 01111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111", Header{Fin: true, Opcode: OpBinary, Length: 1<<63 - 1}, 10, ""},
	{"1 000 0010 0 1111111 01000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000", Header{Fin: true, Opcode: OpBinary, Length: 1 << 62}, 10, ""},
	{"1 000 0010 1 1111111 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000 00000001 00000010 00000011 00000100", Header{Fin: true, Opcode: OpBinary, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: 65536}, 14, ""},
	{"1 000 0010 0 1111111 00000000 00000000 00000000 00000000 00000000 00000000 11111111 11111111", Header{}, 0, "1002 non_minimal_length"},
	{"1 000 0010 0 1111111 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000", Header{}, 0, "1002 non_minimal_length"},
	{"1 000 0010 0 1111111 10000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000", Header{}, 0, "1002 length_high_bit"},
	{"1 000 0010 0 1111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111", Header{}, 0, "1002 length_high_bit"},
}

func TestParseHeader(t *testing.T) {
	for _, tt := range headers {
		b := fromBits(tt.bits)
		h, n, err := ParseHeader(b)
		if h != tt.want || n != tt.n || ruleOf(err) != tt.rule {
			t.Errorf("%s:\n got %+v, %d, %v\nwant %+v, %d, %s", tt.bits, h, n, err, tt.want, tt.n, tt.rule)
		}
		if tt.rule != "" {
			continue
		}
		for i := range b {
			if h, n, err := ParseHeader(b[:i]); h != (Header{}) || n != 0 || err != nil {
				t.Errorf("%s: %d bytes of it give %+v, %d, %v", tt.bits, i, h, n, err)
			}
		}
		if h, n, err := ParseHeader(append(b[:len(b):len(b)], 0xff, 0xff)); h != tt.want || n != tt.n || err != nil {
			t.Errorf("%s: with bytes behind it gives %+v, %d, %v", tt.bits, h, n, err)
		}
		if got := AppendHeader([]byte("x"), tt.want); !bytes.Equal(got[1:], b) {
			t.Errorf("AppendHeader(%+v) = %08b, want %s", tt.want, got[1:], tt.bits)
		}
		if n := int(tt.want.Length); int64(n) == tt.want.Length && headerSize(n, tt.want.Masked) != tt.n {
			t.Errorf("headerSize(%d, %v) = %d, want %d", n, tt.want.Masked, headerSize(n, tt.want.Masked), tt.n)
		}
	}
}

// oracle is CheckHeader written as sentences of the RFC, in the order of the bits.
func oracle(h Header, r Role, fragmented, deflate bool) string {
	control := h.Opcode&8 != 0
	reserved := h.Opcode >= 3 && h.Opcode <= 7 || h.Opcode >= 11
	firstOfMessage := h.Opcode == 1 || h.Opcode == 2
	switch {
	case h.Rsv&3 != 0, h.Rsv&4 != 0 && !(deflate && firstOfMessage):
		return "1002 reserved_bit"
	case reserved:
		return "1002 reserved_opcode"
	case control && !h.Fin:
		return "1002 fragmented_control"
	case h.Opcode == 0 && !fragmented:
		return "1002 unexpected_continuation"
	case firstOfMessage && fragmented:
		return "1002 expected_continuation"
	case r == Server && !h.Masked:
		return "1002 unmasked_frame"
	case r == Client && h.Masked:
		return "1002 masked_frame"
	case control && h.Length > 125:
		return "1002 control_too_long"
	}
	return ""
}

// All first bytes, with either mask bit, both roles and every state: 4,096 headers and their lengths.
func TestCheckHeader(t *testing.T) {
	seen := map[string]int{}
	for b0 := range 256 {
		for state := range 16 {
			for _, length := range []int64{0, 1, 125, 126, 65535, 65536, 1<<63 - 1} {
				h := Header{Fin: b0&0x80 != 0, Rsv: uint8(b0 >> 4 & 7), Opcode: Opcode(b0 & 15), Masked: state&1 != 0, Length: length}
				r, fragmented, deflate := Role(state>>1&1), state&4 != 0, state&8 != 0
				got := ruleOf(CheckHeader(h, r, fragmented, deflate))
				if want := oracle(h, r, fragmented, deflate); got != want {
					t.Fatalf("CheckHeader(%+v, %v, fragmented %v, deflate %v) = %q, want %q", h, r, fragmented, deflate, got, want)
				}
				seen[got]++
			}
		}
	}
	if len(seen) != 9 {
		t.Errorf("saw %d different results, want 8 rules and success: %v", len(seen), seen)
	}
	if got := ruleOf(CheckHeader(Header{Fin: true, Opcode: OpText, Length: -1}, Client, false, false)); got != "1002 length_high_bit" {
		t.Errorf("a negative length gives %q", got)
	}
}

func TestOpcode(t *testing.T) {
	want := strings.Fields("continuation:d text:d binary:d reserved-3 reserved-4 reserved-5 reserved-6 reserved-7 " +
		"close:c ping:c pong:c reserved-b reserved-c reserved-d reserved-e reserved-f invalid")
	for i, w := range want {
		o := Opcode(i)
		got := o.String()
		if o.Data() {
			got += ":d"
		}
		if o.Control() {
			got += ":c"
		}
		if got != w || o.Reserved() == strings.Contains(w, ":") {
			t.Errorf("Opcode(%d) is %s, reserved %v; want %s", i, got, o.Reserved(), w)
		}
	}
	if Server.String() != "server" || Client.String() != "client" {
		t.Error("the roles have lost their names")
	}
}

func TestAppendFrame(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte{'x'}, n)
		for _, r := range []Role{Server, Client} {
			f := AppendFrame([]byte("head"), r, OpBinary, payload, key)[4:]
			h, k, err := ParseHeader(f)
			want := Header{Fin: true, Opcode: OpBinary, Masked: r == Client, Length: int64(n)}
			if want.Masked {
				want.Key = key
				Mask(f[k:], key, 0)
			}
			if err != nil || h != want || !bytes.Equal(f[k:], payload) {
				t.Errorf("%v, %d bytes: %+v, %v", r, n, h, err)
			}
			if r == Server && !bytes.Equal(f[:k], AppendFrameHeader(nil, OpBinary, false, n)) {
				t.Errorf("AppendFrameHeader differs for %d bytes", n)
			}
		}
		if f := AppendFrameHeader(nil, OpText, true, n); f[0] != 0b1100_0001 {
			t.Errorf("AppendFrameHeader with RSV1 begins with %08b", f[0])
		}
	}
}

func TestMask(t *testing.T) {
	key := [4]byte{0x12, 0x80, 0x00, 0xff}
	buf := make([]byte, 300)
	for n := range 280 {
		for off := range 9 {
			for pos := range 5 {
				b := buf[off : off+n]
				for i := range buf {
					buf[i] = byte(i * 7)
				}
				next := Mask(b, key, pos)
				if next != (pos+n)&3 {
					t.Fatalf("n %d, pos %d: next is %d", n, pos, next)
				}
				for i := range buf {
					want := byte(i * 7)
					if i >= off && i < off+n {
						want ^= key[(pos+i-off)&3]
					}
					if buf[i] != want {
						t.Fatalf("n %d, offset %d, pos %d: byte %d is %#x, want %#x", n, off, pos, i, buf[i], want)
					}
				}
			}
		}
	}
}

// Masking piece by piece is masking at once.
func TestMaskPieces(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	want := make([]byte, 2000)
	Mask(want, key, 0)
	rnd := newRand(t)
	for range 200 {
		got := make([]byte, len(want))
		pos := 0
		for i := 0; i < len(got); {
			n := min(rnd.IntN(100), len(got)-i)
			pos = Mask(got[i:i+n], key, pos)
			i += n
		}
		if !bytes.Equal(got, want) {
			t.Fatal("pieces differ from the whole")
		}
	}
}

func ExampleParseHeader() {
	b := []byte{0x81, 0x05, 'H', 'e', 'l', 'l', 'o'}
	h, n, err := ParseHeader(b)
	fmt.Println(h.Opcode, h.Fin, h.Length, n, err)
	fmt.Println(CheckHeader(h, Server, false, false))
	// Output:
	// text true 5 2 <nil>
	// ws: 1002 unmasked_frame: frame from a client is not masked
}
