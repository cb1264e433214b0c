package ws

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// All 65,536 codes against the list in the registry.
func TestStatusCode(t *testing.T) {
	may := func(c int) bool {
		switch c {
		case 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014:
			return true
		}
		return c >= 3000 && c <= 4999
	}
	for c := range 1 << 16 {
		if got := StatusCode(c); got.Valid() != may(c) || got.Sendable() != may(c) {
			t.Errorf("%d: valid %v, sendable %v, want %v", c, got.Valid(), got.Sendable(), may(c))
		}
		code, _, err := ParseClose([]byte{byte(c >> 8), byte(c)})
		if may(c) != (err == nil) || err == nil && int(code) != c {
			t.Errorf("ParseClose of %d: %v, %v", c, code, err)
		}
		// Whatever we are asked to send, the peer may receive it.
		f := AppendClose(nil, Server, StatusCode(c), "why", [4]byte{})
		if code, _, err := ParseClose(f[2:]); err != nil || may(c) && int(code) != c || !may(c) && code != StatusNoStatus {
			t.Errorf("AppendClose of %d reads as %v, %v", c, code, err)
		}
	}
	for c, want := range map[StatusCode]string{0: "0", 999: "999", 1000: "1000 normal closure", 1006: "1006 abnormal closure", 1009: "1009 message too big", 1014: "1014 bad gateway", 1015: "1015 TLS handshake", 1016: "1016", 4000: "4000"} {
		if got := c.String(); got != want {
			t.Errorf("StatusCode(%d).String() = %q, want %q", c, got, want)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, tt := range []struct {
		code   StatusCode
		reason string
		want   string // payload
	}{
		{0, "", ""},
		{0, "ignored", ""},
		{StatusNoStatus, "", ""},
		{StatusAbnormal, "never sent", ""},
		{1000, "", "\x03\xe8"},
		{1001, "bye", "\x03\xe9bye"},
		{4999, "äöü", "\x13\x87äöü"},
		{1000, text(123), "\x03\xe8" + text(123)},
		{1000, text(124), "\x03\xe8" + text(123)},
		{1000, text(10000), "\x03\xe8" + text(123)},
		{1000, text(122) + "ä", "\x03\xe8" + text(122)},
		{1000, text(121) + "ä", "\x03\xe8" + text(121) + "ä"},
		{1000, text(120) + "\U0001F600", "\x03\xe8" + text(120)},
		{1000, text(119) + "\U0001F600", "\x03\xe8" + text(119) + "\U0001F600"},
		{1000, strings.Repeat("€", 50), "\x03\xe8" + strings.Repeat("€", 41)},
		{1000, "ok\xffnot", "\x03\xe8ok"},
		{1000, "\uFFFD is legal", "\x03\xe8\uFFFD is legal"},
	} {
		for _, r := range []Role{Server, Client} {
			f := AppendClose([]byte("x"), r, tt.code, tt.reason, [4]byte{1, 2, 3, 4})[1:]
			h, n, err := ParseHeader(f)
			if err != nil || CheckHeader(h, 1-r, false, false) != nil || h.Opcode != OpClose || int(h.Length) != len(f)-n {
				t.Fatalf("%d %q: header %+v, %v", tt.code, tt.reason, h, err)
			}
			Mask(f[n:], h.Key, 0)
			if string(f[n:]) != tt.want {
				t.Errorf("AppendClose(%v, %d, %q) carries %q, want %q", r, tt.code, tt.reason, f[n:], tt.want)
			}
		}
	}
}

func TestParseClose(t *testing.T) {
	for _, tt := range []struct {
		payload string
		code    StatusCode
		reason  string
		rule    string
	}{
		{"", 1005, "", ""},
		{"\x03", 0, "", "1002 bad_close_payload"},
		{"\x03\xe8", 1000, "", ""},
		{"\x03\xe8ok", 1000, "ok", ""},
		{"\x03\xe8\xff", 0, "", "1007 invalid_utf8"},
		{"\x03\xe8\xe2\x82", 0, "", "1007 invalid_utf8"},
		{"\x03\xed", 0, "", "1002 bad_close_code"},
		{"\x03\xed\xff", 0, "", "1002 bad_close_code"},
		{"\x03\xe8" + text(123), 1000, text(123), ""},
		{"\x03\xe8" + text(124), 0, "", "1002 bad_close_payload"},
	} {
		code, reason, err := ParseClose([]byte(tt.payload))
		if code != tt.code || string(reason) != tt.reason || ruleOf(err) != tt.rule {
			t.Errorf("ParseClose(%q) = %d, %q, %v", tt.payload, code, reason, err)
		}
	}
}

func TestCloseError(t *testing.T) {
	var err error = errUnmaskedFrame
	if !errors.Is(err, errUnmaskedFrame.Err) {
		t.Error("the words are not wrapped")
	}
	if (&CloseError{Code: 1008, Rule: "x"}).Error() != "ws: 1008 x" {
		t.Error("an error without words reads badly")
	}
	if !bytes.Contains([]byte(err.Error()), []byte("1002 unmasked_frame: ")) {
		t.Error(err)
	}
}

func FuzzClose(f *testing.F) {
	f.Add(uint16(1000), "bye")
	f.Add(uint16(1005), "")
	f.Add(uint16(4000), strings.Repeat("€", 50))
	f.Fuzz(func(t *testing.T, code uint16, reason string) {
		frame := AppendClose(nil, Server, StatusCode(code), reason, [4]byte{})
		c, got, err := ParseClose(frame[2:])
		if err != nil || len(frame) > 127 {
			t.Fatalf("we would send a bad close frame: %x: %v", frame, err)
		}
		if c == StatusCode(code) && !strings.HasPrefix(reason, string(got)) || !utf8.Valid(got) {
			t.Fatalf("reason %q became %q", reason, got)
		}
	})
}

func ExampleAppendClose() {
	f := AppendClose(nil, Server, StatusGoingAway, "back in 5 s", [4]byte{})
	fmt.Printf("%x %q\n", f[:4], f[4:])
	code, reason, err := ParseClose(f[2:])
	fmt.Printf("%v %q %v\n", code, reason, err)
	// Output:
	// 880d03e9 "back in 5 s"
	// 1001 going away "back in 5 s" <nil>
}
