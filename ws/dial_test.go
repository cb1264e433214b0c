package ws

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

var sampleNonce = [16]byte([]byte("the sample nonce"))

func TestAppendRequest(t *testing.T) {
	d := &Dial{Host: "a.example:81", Target: "/x?y", Origin: "https://o.example", Subprotocols: []string{"p", "q"}, Deflate: true, Header: "X-A: 1\r\n"}
	b := AppendRequest(nil, d, sampleNonce)
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %s %v", req.Method, req.RequestURI, req.Host, req.Header)
	want := "GET /x?y a.example:81 map[Connection:[Upgrade] Origin:[https://o.example] Sec-Websocket-Extensions:[permessage-deflate; server_no_context_takeover; client_no_context_takeover] " +
		"Sec-Websocket-Key:[dGhlIHNhbXBsZSBub25jZQ==] Sec-Websocket-Protocol:[p, q] Sec-Websocket-Version:[13] Upgrade:[websocket] X-A:[1]]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if b := AppendRequest(nil, &Dial{Host: "h"}, sampleNonce); !bytes.HasPrefix(b, []byte("GET / HTTP/1.1\r\nHost: h\r\n")) || bytes.Count(b, []byte("\r\n")) != 7 {
		t.Errorf("the plainest request is %q", b)
	}
}

const good101 = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

func TestCheck(t *testing.T) {
	full := &Dial{Host: "a", Subprotocols: []string{"p", "q"}, Deflate: true}
	const ext = "Sec-WebSocket-Extensions: "
	const both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		d       *Dial
		in      string
		sub     string
		deflate bool
		wrong   string // a part of the error
	}{
		{&Dial{}, good101, "", false, ""},
		{&Dial{}, strings.Replace(good101, "websocket", "WebSocket", 1), "", false, ""},
		{&Dial{}, strings.Replace(good101, "Connection: Upgrade", "connection: keep-alive, upgrade", 1), "", false, ""},
		{&Dial{}, strings.Replace(good101, " Switching Protocols", "", 1), "", false, ""},
		{&Dial{}, strings.Replace(good101, "Switching Protocols", "", 1), "", false, ""},
		{full, good101, "", false, ""},
		{full, good101 + "Sec-WebSocket-Protocol: q\r\n", "q", false, ""},
		{full, good101 + ext + both + "\r\n", "", true, ""},
		{full, good101 + ext + "permessage-deflate; server_no_context_takeover\r\n", "", true, ""},
		{full, good101 + ext + both + "; server_max_window_bits=10\r\n", "", true, ""},
		{full, good101 + ext + both + "; server_max_window_bits=\"10\"\r\nSec-WebSocket-Protocol: p\r\n", "p", true, ""},
		// status and version
		{full, strings.Replace(good101, "101 Switching Protocols", "200 OK", 1), "", false, "status is 200 OK, not 101"},
		{full, strings.Replace(good101, "101 Switching Protocols", "403", 1), "", false, "status is 403 , not 101"},
		{full, strings.Replace(good101, "101 Switching Protocols", "100 Continue", 1), "", false, "status is 100 Continue, not 101"},
		{full, strings.Replace(good101, "HTTP/1.1", "HTTP/1.0", 1), "", false, "HTTP/1.0"},
		// fields
		{full, strings.Replace(good101, "Upgrade: websocket", "Upgrade: h2c", 1), "", false, `Upgrade is "h2c"`},
		{full, strings.Replace(good101, "Upgrade: websocket", "X: y", 1), "", false, `Upgrade is ""`},
		{full, strings.Replace(good101, "Upgrade: websocket", "Upgrade: websocket, h2c", 1), "", false, "Upgrade is"},
		{full, good101 + "Upgrade: websocket\r\n", "", false, "2 times"},
		{full, strings.Replace(good101, "Connection: Upgrade", "Connection: close", 1), "", false, `Connection is "close"`},
		{full, strings.Replace(good101, "Connection: Upgrade", "X: y", 1), "", false, "Connection is"},
		{full, strings.Replace(good101, "s3pP", "S3pP", 1), "", false, "Sec-WebSocket-Accept is"},
		{full, strings.Replace(good101, "Sec-WebSocket-Accept", "X", 1), "", false, "Sec-WebSocket-Accept is"},
		{full, good101 + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "", false, "Sec-WebSocket-Accept is"},
		{full, good101 + "Sec-WebSocket-Protocol: r\r\n", "", false, `Sec-WebSocket-Protocol is "r"`},
		{full, good101 + "Sec-WebSocket-Protocol: P\r\n", "", false, `Sec-WebSocket-Protocol is "P"`},
		{full, good101 + "Sec-WebSocket-Protocol: p, q\r\n", "", false, `Sec-WebSocket-Protocol is "p, q"`},
		{full, good101 + "Sec-WebSocket-Protocol: p\r\nSec-WebSocket-Protocol: q\r\n", "", false, "repeated"},
		{full, good101 + "Sec-WebSocket-Protocol:\r\n", "", false, "Sec-WebSocket-Protocol is"},
		{&Dial{}, good101 + "Sec-WebSocket-Protocol: p\r\n", "", false, "Sec-WebSocket-Protocol is"},
		// extensions
		{&Dial{}, good101 + ext + both + "\r\n", "", false, "permessage-deflate was not offered"},
		{full, good101 + ext + "permessage-bzip2\r\n", "", false, `extension "permessage-bzip2" was not offered`},
		{full, good101 + ext + both + ", x\r\n", "", false, `extension "x" was not offered`},
		{full, good101 + ext + both + ", " + both + "\r\n", "", false, "twice"},
		{full, good101 + ext + "permessage-deflate\r\n", "", false, "without server_no_context_takeover"},
		{full, good101 + ext + "permessage-deflate; client_no_context_takeover\r\n", "", false, "without server_no_context_takeover"},
		{full, good101 + ext + both + "; client_max_window_bits=10\r\n", "", false, "client_max_window_bits"},
		{full, good101 + ext + both + "; client_max_window_bits\r\n", "", false, "client_max_window_bits"},
		{full, good101 + ext + both + "; server_max_window_bits\r\n", "", false, "bad value"},
		{full, good101 + ext + both + "; server_max_window_bits=7\r\n", "", false, "bad value"},
		{full, good101 + ext + both + "; server_no_context_takeover\r\n", "", false, "repeated"},
		{full, good101 + ext + both + "; x\r\n", "", false, "unknown"},
		{full, good101 + ext + "permessage-deflate;\r\n", "", false, "malformed"},
		{full, good101 + ext + "\r\n", "", false, "malformed"},
	} {
		in := []byte(tt.in + "\r\n")
		resp, n, err := ParseResponse(append(in, "behind"...), 0)
		if n != len(in) || err != nil {
			t.Errorf("%q: %d, %v", tt.in, n, err)
			continue
		}
		h, err := tt.d.Check(&resp, sampleNonce)
		if tt.wrong != "" {
			var he *HandshakeError
			if !errors.As(err, &he) || he.Status != resp.Status() || !strings.Contains(err.Error(), tt.wrong) || h != (Handshake{}) {
				t.Errorf("%q: %v, want %q", tt.in, err, tt.wrong)
			}
			continue
		}
		want := Deflate{}
		if tt.deflate {
			want = Deflate{On: true, Window: 15}
		}
		if err != nil || h.Subprotocol != tt.sub || h.Deflate != want {
			t.Errorf("%q: %+v, %v", tt.in, h, err)
		}
	}
}

func TestParseResponse(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 1.1"},
		{"HTTP/1.0 200 OK\r\nA: b\r\n\r\n", "200 1.0"},
		{"HTTP/1.9 599 \xff obs-text\r\n\r\n", "599 1.1"},
		{"HTTP/1.1 101\r\n\r\n", "101 1.1"},
		{"HTTP/2.0 101 x\r\n\r\n", "ws: handshake: HTTP version of the response is not 1.x"},
		{"HTTP/1.1  101 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1 1010 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1 10 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1 1x1 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1 099 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1 600 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/1.1\r\n\r\n", "ws: handshake: malformed status line"},
		{"ICY 200 OK\r\n\r\n", "ws: handshake: malformed status line"},
		{"HTTP/x.1 200 OK\r\n\r\n", "ws: handshake: malformed status line"},
		{"\r\nHTTP/1.1 101 x\r\n\r\n", "ws: handshake: malformed status line"},
		{"<html>", "ws: handshake: malformed status line"},
		{"HTTP/1.1 101 x\n\n", "ws: handshake: response line does not end in CRLF"},
		{"HTTP/1.1 101 x\r\nA: b\n\r\n", "ws: handshake: response line does not end in CRLF"},
		{"HTTP/1.1 101 x\r\nA: \x00\r\n\r\n", "ws: handshake: control character in the response head"},
		{"HTTP/1.1 101 x\r\nA: b\r\n c\r\n\r\n", "ws: handshake: folded field line in the response"},
		{"HTTP/1.1 101 x\r\nA : b\r\n\r\n", "ws: handshake: malformed field name in the response"},
		{"HTTP/1.1 101 x\r\nA\r\n\r\n", "ws: handshake: malformed field name in the response"},
		{"HTTP/1.1 101 x\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", "ws: handshake: response has too many field lines"},
		{"HTTP/1.1 101 x\r\nA: " + text(70000) + "\r\n\r\n", "ws: handshake: response head is too large"},
	} {
		check := func(i int) (string, int) {
			r, n, err := ParseResponse([]byte(tt.in[:i]), 0)
			switch {
			case err != nil:
				return err.Error(), 0
			case n == 0:
				return "", 0
			}
			return fmt.Sprintf("%d %d.%d", r.Status(), r.Proto()/10, r.Proto()%10), n
		}
		got, n := check(len(tt.in))
		if got != tt.want || n != 0 && n != len(tt.in) {
			t.Errorf("%.60q: %q, %d; want %q", tt.in, got, n, tt.want)
		}
		for i := 0; i < len(tt.in); i += 1 + i/100 {
			if s, _ := check(i); s != "" && s != tt.want {
				t.Errorf("%.60q: %d bytes of it give %q", tt.in, i, s)
			}
		}
	}
}

// Each end understands what the other says.
func TestBothEnds(t *testing.T) {
	for _, sub := range []string{"", "p"} {
		for _, on := range []bool{false, true} {
			d := &Dial{Host: "a.example", Deflate: on}
			if sub != "" {
				d.Subprotocols = []string{"x", sub}
			}
			b := AppendRequest(nil, d, sampleNonce)
			r, n, err := ParseRequest(b, 0)
			if n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			h, ref := Negotiate(&r, &Policy{Subprotocols: []string{"p"}, Deflate: true})
			if ref != nil {
				t.Fatal(ref)
			}
			b = AppendResponse(nil, &h, "")
			resp, n, err := ParseResponse(b, 0)
			if n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			c, err := d.Check(&resp, sampleNonce)
			if err != nil || c.Subprotocol != sub || c.Deflate.On != on || c != h {
				t.Errorf("client has %+v, %v; server %+v", c, err, h)
			}
		}
	}
}

func ExampleDial() {
	d := &Dial{Host: "a.example", Target: "/chat", Subprotocols: []string{"plain"}}
	key := [16]byte([]byte("the sample nonce")) // from crypto/rand
	request := AppendRequest(nil, d, key)

	_ = request // goes to the server, which answers:
	b := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: plain\r\n\r\n")
	resp, n, err := ParseResponse(b, 8<<10)
	if err != nil || n == 0 {
		fmt.Println(n, err)
		return
	}
	h, err := d.Check(&resp, key)
	fmt.Println(h.Subprotocol, err)
	// Output:
	// plain <nil>
}
