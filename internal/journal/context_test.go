package journal

import (
	"math/bits"
	"testing"
)

const (
	traceHex = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanHex  = "00f067aa0ba902b7"
)

func TestParseContext(t *testing.T) {
	good := "00-" + traceHex + "-" + spanHex + "-01"
	for _, c := range []struct {
		in, out string // out: what it is as ours; empty: nothing
	}{
		{good, good},
		{"00-" + traceHex + "-" + spanHex + "-00", "00-" + traceHex + "-" + spanHex + "-00"},
		{"00-" + traceHex + "-" + spanHex + "-03", good},               // flags that we do not know
		{"cc-" + traceHex + "-" + spanHex + "-01", good},               // later versions
		{"cc-" + traceHex + "-" + spanHex + "-01-what-comes-so", good}, // may have more
		{good + "-more", ""}, {good + "x", ""}, {"cc" + good[2:] + "x", ""},
		{"ff" + good[2:], ""}, {"zz" + good[2:], ""}, {"", ""}, {good[:54], ""},
		{"00-00000000000000000000000000000000-" + spanHex + "-01", ""},
		{"00-" + traceHex + "-0000000000000000-01", ""},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-" + spanHex + "-01", ""},
		{"00_" + traceHex + "-" + spanHex + "-01", ""},
		{"00-" + traceHex + "-" + spanHex + "-0g", ""},
	} {
		got, ok := ParseContext(c.in)
		if ok != (c.out != "") || ok && got.String() != c.out {
			t.Errorf("%q is %v, %v, want %q", c.in, got, ok, c.out)
		}
		if same, ok2 := ParseContext([]byte(c.in)); same != got || ok2 != ok {
			t.Errorf("%q as bytes is %v, %v", c.in, same, ok2)
		}
	}
}

func FuzzParseContext(f *testing.F) {
	good := "00-" + traceHex + "-" + spanHex + "-01"
	for _, s := range []string{"", good, good + "-x", "cc" + good[2:] + "-x", "ff" + good[2:], good[:54], good[:53] + "ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseContext(s)
		if !ok {
			return
		}
		if again, ok := ParseContext(c.String()); !ok || again != c {
			t.Errorf("%q is %q, and that is %v, %v", s, c, again, ok)
		}
		if s[3:52] != c.String()[3:52] {
			t.Errorf("%q is %q", s, c)
		}
	})
}

// TestIDs: traces of conns are known from the conn alone, and differ in about half of their bits.
func TestIDs(t *testing.T) {
	x, y := NewIDs(), NewIDs()
	seen := make(map[[16]byte]bool)
	distance := 0
	var last [16]byte
	const n = 10_000
	for conn := range uint64(n) {
		trace, span := x.Trace(conn)
		if seen[trace] || trace == ([16]byte{}) || span == ([8]byte{}) {
			t.Fatalf("conn %d has %x, %x", conn, trace, span)
		}
		if again, _ := x.Trace(conn); again != trace {
			t.Fatalf("conn %d has %x, and then %x", conn, trace, again)
		}
		if other, _ := y.Trace(conn); other == trace {
			t.Fatalf("conn %d has the same trace under another key", conn)
		}
		seen[trace] = true
		for i := range trace {
			distance += bits.OnesCount8(trace[i] ^ last[i])
		}
		last = trace
	}
	if mean := float64(distance) / n; mean < 60 || mean > 68 {
		t.Errorf("traces of neighbours differ in %.1f of 128 bits, want about 64", mean)
	}
}
