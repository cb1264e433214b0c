package ws

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// The examples of the RFCs, as files: name, who reads, whether permessage-deflate was agreed, bytes, events.
func TestRFCExamples(t *testing.T) {
	n := 0
	for _, file := range []string{"testdata/rfc6455.txt", "testdata/rfc7692.txt"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			n++
			left, want, ok := strings.Cut(line, " => ")
			f := strings.Fields(left)
			if !ok || len(f) < 3 {
				t.Fatalf("%s: malformed line %q", file, line)
			}
			c := ReaderConfig{Deflate: strings.HasSuffix(f[1], "+deflate")}
			if strings.HasPrefix(f[1], "client") {
				c.Role = Client
			}
			var b []byte
			for _, h := range f[2:] {
				if count, unit, ok := strings.Cut(h, "*"); ok {
					b = append(b, bytes.Repeat(unhex(t, unit), atoi(t, count))...)
				} else {
					b = append(b, unhex(t, h)...)
				}
			}
			for _, way := range []func(int) int{whole, single} {
				got, _ := feed(t, c, b, way)
				if s := strings.Join(got, "; "); s != want {
					t.Errorf("%s: %s:\n got %s\nwant %s", file, f[0], s, want)
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d examples", n)
	}
}

// A message that lies whole in what was read is not copied.
func TestReaderAliases(t *testing.T) {
	b := encode(Server, []part{fin(OpText, "hello"), fin(OpPing, "p"), closing(1000, "bye")})
	var r Reader
	for range 3 {
		ev, n, err := r.Next(b)
		if err != nil || len(ev.Payload) == 0 || unsafe.SliceData(ev.Payload) != &b[n-len(ev.Payload)] {
			t.Fatalf("%v, %v: the payload was copied", ev, err)
		}
		if r.Held() != 0 || !r.Idle() {
			t.Errorf("holds %d bytes after %v", r.Held(), ev.Op)
		}
		b = b[n:]
	}
}

// Idle says exactly when a connection needs its Reader: another one, reset, must be able to go on.
func TestReaderIdle(t *testing.T) {
	parts := []part{fin(OpText, "hello"), open(OpText, "a"), fin(OpPing, "ping"), fin(OpContinuation, "b"), fin(OpBinary, ""), fin(OpText, text(300))}
	b := encode(Server, parts)
	var idle []int
	var r Reader
	given := 0
	for i := range b {
		if _, n, err := r.Next(b[i : i+1 : i+1]); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		given++
		if r.Idle() {
			idle = append(idle, given)
			r.Release()
			r = Reader{}
		} else if r.Held() == 0 && r.nhdr == 0 && !r.inFrame && r.msg == 0 {
			t.Fatalf("not idle after %d bytes, and nothing is held", given)
		}
	}
	var want []int
	for _, end := range []int{1, 4, 5, 6} {
		want = append(want, len(encode(Server, parts[:end])))
	}
	if fmt.Sprint(idle) != fmt.Sprint(want) {
		t.Errorf("idle after %v bytes, want %v", idle, want)
	}
}

// What is held stays within twice of what came, and nothing is held for what was only announced.
func TestReaderHeld(t *testing.T) {
	b := encode(Server, []part{fin(OpBinary, text(1<<20))})
	var r Reader
	defer r.Release()
	for got := 0; got < len(b)-1; {
		n := min(1000, len(b)-1-got)
		if _, _, err := r.Next(b[got : got+n]); err != nil {
			t.Fatal(err)
		}
		got += n
		if held := r.Held(); held > 2*got+128 {
			t.Fatalf("holds %d bytes after %d", held, got)
		}
	}
	ev, _, err := r.Next(b[len(b)-1:])
	if err != nil || len(ev.Payload) != 1<<20 || !r.Idle() || r.Held() == 0 {
		t.Fatalf("%v, %d bytes, idle %v, held %d", err, len(ev.Payload), r.Idle(), r.Held())
	}
	r.Release()
	if r.Held() != 0 || !r.Idle() {
		t.Errorf("after Release: idle %v, held %d", r.Idle(), r.Held())
	}
	// Announced only.
	r.Reset(ReaderConfig{MaxMessage: 1 << 28})
	if _, _, err := r.Next([]byte{0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4, 5}); err != nil || r.Held() > 128 {
		t.Errorf("after one byte of 256 MiB: %v, holds %d", err, r.Held())
	}
	r.Reset(ReaderConfig{})
	if r.Held() != 0 || !r.Idle() {
		t.Errorf("after Reset: idle %v, held %d", r.Idle(), r.Held())
	}
}

// A bomb is not inflated beyond the limit.
func TestReaderBomb(t *testing.T) {
	z := Compress(nil, make([]byte, 64<<20), 15)
	b := encode(Server, []part{{fin: true, rsv: Rsv1, op: OpBinary, payload: z}})
	var r Reader
	r.Reset(ReaderConfig{Deflate: true, MaxMessage: 1 << 20})
	_, _, err := r.Next(b)
	if ruleOf(err) != "1009 message_too_big" || r.Held() != 0 {
		t.Errorf("%v, holds %d", err, r.Held())
	}
}

// Release in the middle makes it as new; Reset revives a dead one.
func TestReaderReset(t *testing.T) {
	var r Reader
	if _, _, err := r.Next([]byte{0x81, 0x85, 1, 2, 3, 4, 'x'}); err != nil || r.Idle() {
		t.Fatal(err)
	}
	r.Release()
	f := encode(Server, []part{fin(OpText, "é")})
	if ev, _, err := r.Next(bytes.Clone(f)); err != nil || show(ev) != `text "é"` {
		t.Errorf("after Release: %v, %v", ev, err)
	}
	if _, _, err := r.Next([]byte{0xff}); err == nil {
		t.Fatal("0xff passed")
	}
	r.Release()
	if _, n, err := r.Next(bytes.Clone(f)); err == nil || n != 0 {
		t.Error("Release revived a dead Reader")
	}
	r.Reset(ReaderConfig{})
	if ev, _, err := r.Next(bytes.Clone(f)); err != nil || show(ev) != `text "é"` {
		t.Errorf("after Reset: %v, %v", ev, err)
	}
	if ev, _, err := r.Next(encode(Server, []part{closing(1000, "")})); err != nil || ev.Op != OpClose {
		t.Fatal(ev, err)
	}
	if ev, n, err := r.Next(bytes.Clone(f)); ev.Op != NoEvent || n != len(f) || err != nil || !r.Idle() {
		t.Errorf("after a close frame: %v, %d, %v", ev, n, err)
	}
	r.Reset(ReaderConfig{})
	if ev, _, err := r.Next(bytes.Clone(f)); err != nil || ev.Op != OpText {
		t.Errorf("Reset after a close frame: %v, %v", ev, err)
	}
	if _, n, err := r.Next(nil); n != 0 || err != nil {
		t.Errorf("Next(nil) = %d, %v", n, err)
	}
}

// 16 MiB in frames of 64 bytes, and a byte at a time: linear, so this ends.
func TestReaderLarge(t *testing.T) {
	const total, size = 16 << 20, 64
	var b []byte
	for off := 0; off < total; off += size {
		op := OpContinuation
		if off == 0 {
			op = OpBinary
		}
		b = AppendHeader(b, Header{Fin: off+size == total, Opcode: op, Length: size})
		b = append(b, make([]byte, size)...)
	}
	var r Reader
	defer r.Release()
	r.Reset(ReaderConfig{Role: Client, MaxMessage: total})
	step := 1
	if raceEnabled {
		step = 50
	}
	for i := 0; i < len(b); i += step {
		ev, _, err := r.Next(b[i:min(i+step, len(b))])
		if err != nil || (ev.Op == OpBinary) != (i+step >= len(b)) || len(ev.Payload) != 0 && len(ev.Payload) != total {
			t.Fatalf("at %d: %v, %v", i, ev.Op, err)
		}
	}
}

func ExampleReader() {
	// What a client might have sent: "Hel", a ping, "lo".
	b := AppendHeader(nil, Header{Opcode: OpText, Masked: true, Length: 3})
	b = append(b, "Hel"...) // the zero key changes nothing
	b = AppendFrame(b, Client, OpPing, []byte("you there?"), [4]byte{1, 2, 3, 4})
	b = AppendFrame(b, Client, OpContinuation, []byte("lo"), [4]byte{5, 6, 7, 8})

	var r Reader
	r.Reset(ReaderConfig{Role: Server, MaxMessage: 64 << 10})
	for len(b) > 0 {
		ev, n, err := r.Next(b)
		if err != nil {
			fmt.Println(err) // send its Code with AppendClose
			return
		}
		b = b[n:]
		if ev.Op != NoEvent {
			fmt.Printf("%v %q\n", ev.Op, ev.Payload)
		}
	}
	if r.Idle() {
		r.Release() // and put it into a pool
	}
	// Output:
	// ping "you there?"
	// text "Hello"
}
