package ws

import (
	"bytes"
	"testing"
)

// hot runs f often, and wants no allocation. Under -race sync.Pool forgets on purpose.
func hot(t *testing.T, name string, f func()) {
	t.Helper()
	if raceEnabled {
		f()
		return
	}
	for range 10 { // fill the pools
		f()
	}
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s allocates %v times", name, n)
	}
}

func TestAllocs(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	payload := []byte(text(1000))
	out := make([]byte, 0, 1<<16)

	header := AppendHeader(nil, Header{Fin: true, Opcode: OpText, Masked: true, Length: 1000})
	bad := []byte{0x82, 126, 0, 1}
	hot(t, "ParseHeader", func() {
		if _, n, _ := ParseHeader(header); n == 0 {
			t.Fatal("no header")
		}
		if _, _, err := ParseHeader(bad); err == nil {
			t.Fatal("no error")
		}
	})
	hot(t, "CheckHeader", func() { _ = CheckHeader(Header{Opcode: 3}, Server, true, true) })
	hot(t, "Mask", func() { Mask(payload, key, 1) })
	hot(t, "AppendFrame", func() { out = AppendFrame(out[:0], Client, OpText, payload, key) })
	hot(t, "AppendClose", func() { out = AppendClose(out[:0], Client, 1000, "bye", key) })
	hot(t, "UTF8", func() {
		var u UTF8
		if !u.Write(payload[:100]) && u.Complete() {
			t.Fatal("not valid")
		}
	})

	small := encode(Server, []part{fin(OpText, "hello"), fin(OpPing, "p"), closing(1000, "x")})
	large := encode(Server, []part{open(OpBinary, text(30000)), fin(OpPing, "p"), fin(OpContinuation, text(40000))})
	squeezed := encode(Server, []part{{fin: true, rsv: Rsv1, op: OpBinary, payload: Compress(nil, bytes.Repeat([]byte("abc"), 3000), 15)}})
	cfg := ReaderConfig{Deflate: true}
	var r Reader
	read := func(b []byte, step, want int) {
		events := 0
		out = append(out[:0], b...)[:len(b)] // Next unmasks in place
		for i := 0; i < len(b); {
			piece := out[i:min(i+step, len(b))]
			i += len(piece)
			for len(piece) > 0 {
				ev, n, err := r.Next(piece)
				if err != nil {
					t.Fatal(err)
				}
				if ev.Op != NoEvent {
					events++
				}
				piece = piece[n:]
			}
		}
		if events != want || !r.Idle() {
			t.Fatalf("%d events, want %d", events, want)
		}
	}
	out = make([]byte, 0, 1<<17)
	hot(t, "Reader, small messages", func() { r.Reset(cfg); read(small, len(small), 3) })
	hot(t, "Reader, byte by byte", func() { r.Reset(cfg); read(small, 1, 3) })
	hot(t, "Reader, partial messages", func() { r.Reset(cfg); read(large, 1000, 2) })
	hot(t, "Reader, compressed messages", func() { r.Reset(cfg); read(squeezed, len(squeezed), 1) })
	hot(t, "Reader, compressed and partial", func() { r.Reset(cfg); read(squeezed, 7, 1) })
	hot(t, "Reader, refusal", func() {
		r.Reset(cfg)
		if _, _, err := r.Next(bad); err == nil {
			t.Fatal("no error")
		}
	})

	req := []byte(shake("+Origin: https://server.example.com", "+Sec-WebSocket-Protocol: a, b", "+Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=\"12\""))
	policy := &Policy{Subprotocols: []string{"b"}, Deflate: true}
	hot(t, "handshake of a server", func() {
		q, n, err := ParseRequest(req, 8192)
		if n == 0 || err != nil {
			t.Fatal(err)
		}
		h, ref := Negotiate(&q, policy)
		if ref != nil {
			t.Fatal(ref)
		}
		out = AppendResponse(out[:0], &h, "X-A: b\r\n")
	})
	hot(t, "part of a request", func() {
		if _, n, err := ParseRequest(req[:len(req)-1], 8192); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	})
	cross := []byte(shake("+Origin: https://evil.example"))
	hot(t, "refusal by a server", func() {
		q, _, _ := ParseRequest(cross, 8192)
		_, ref := Negotiate(&q, policy)
		out = AppendRefusal(out[:0], ref)
	})
	hot(t, "fields", func() {
		q, _, _ := ParseRequest(req, 8192)
		for v := range q.Values("Connection") {
			_ = v
		}
		for k, v := range q.Each() {
			_, _ = k, v
		}
		_, _, _ = q.Path(), q.Query(), q.Host()
	})

	d := &Dial{Host: "a.example", Deflate: true, Subprotocols: []string{"b"}}
	resp := []byte(good101 + "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n")
	hot(t, "handshake of a client", func() {
		out = AppendRequest(out[:0], d, sampleNonce)
		p, n, err := ParseResponse(resp, 8192)
		if n == 0 || err != nil {
			t.Fatal(err)
		}
		if _, err := d.Check(&p, sampleNonce); err != nil {
			t.Fatal(err)
		}
	})

	for _, w := range []uint8{8, 12, 15} {
		hot(t, "Compress", func() { out = Compress(out[:0], payload, w) })
		hot(t, "AppendCompressed", func() { out = AppendCompressed(out[:0], Client, OpText, payload, w, key) })
	}
	z := Compress(nil, payload, 15)
	hot(t, "Inflate", func() {
		var err error
		if out, err = Inflate(out[:0], z, 1000); err != nil {
			t.Fatal(err)
		}
	})
}
