package ws

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 section 1.3

// shake is a good handshake in which some fields are replaced: a line "Name: value" replaces that of
// the same name, "-Name" removes it, "+Name: value" is added.
func shake(edits ...string) string {
	lines := []string{"GET /chat HTTP/1.1", "Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + sampleKey, "Sec-WebSocket-Version: 13"}
	for _, e := range edits {
		if e[0] == '+' {
			lines = append(lines, e[1:])
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(e, "-"), ":")
		if strings.HasPrefix(e, "GET") || strings.HasPrefix(e, "POST") || strings.HasPrefix(e, "get") {
			lines[0] = e
			continue
		}
		for i, l := range lines {
			if n, _, _ := strings.Cut(l, ":"); n == name {
				lines[i] = e
				if e[0] == '-' {
					lines[i] = ""
				}
			}
		}
	}
	return get(lines...)
}

func negotiate(t *testing.T, in string, p *Policy) (Handshake, *Refusal) {
	t.Helper()
	r, n, err := ParseRequest([]byte(in), 0)
	if n == 0 || err != nil {
		t.Fatalf("%q: %d, %v", in, n, err)
	}
	return Negotiate(&r, p)
}

func TestNegotiateGood(t *testing.T) {
	sub := &Policy{Subprotocols: []string{"b", "a"}}
	for _, tt := range []struct {
		in  string
		p   *Policy
		sub string
	}{
		{shake(), &Policy{}, ""},
		{shake("Upgrade: WebSocket", "Connection: UPGRADE"), &Policy{}, ""},
		{shake("Upgrade: h2c , websocket"), &Policy{}, ""},
		{shake("Upgrade: h2c", "+Upgrade: websocket"), &Policy{}, ""},
		{shake("Connection: keep-alive, Upgrade"), &Policy{}, ""},
		{shake("Connection: keep-alive", "+connection: ,upgrade,"), &Policy{}, ""},
		{shake("+Content-Length: 0"), &Policy{}, ""},
		{shake("GET http://server.example.com/chat HTTP/1.1"), &Policy{}, ""},
		{shake("Sec-WebSocket-Key:   " + sampleKey + "  "), &Policy{}, ""},
		{shake("+Cookie: a=b", "+User-Agent: x", "+Sec-WebSocket-Extensions: x-webkit-deflate-frame"), &Policy{}, ""},
		{shake("+Sec-WebSocket-Protocol: a"), &Policy{}, ""},
		{shake("+Sec-WebSocket-Protocol: a"), sub, "a"},
		{shake("+Sec-WebSocket-Protocol: a, b"), sub, "b"},
		{shake("+Sec-WebSocket-Protocol: c, ,a,"), sub, "a"},
		{shake("+Sec-WebSocket-Protocol: a", "+Sec-WebSocket-Protocol: b"), sub, "b"},
		{shake("+Sec-WebSocket-Protocol: A, B"), sub, ""},
		{shake("+Sec-WebSocket-Protocol: c"), sub, ""},
		{shake(), sub, ""},
	} {
		h, ref := negotiate(t, tt.in, tt.p)
		if ref != nil || h.Subprotocol != tt.sub || h.Deflate != (Deflate{}) {
			t.Errorf("%q: %+v, %v", tt.in, h, ref)
			continue
		}
		// What net/http reads is what we meant.
		res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(AppendResponse(nil, &h, "X-Extra: 1\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		got := fmt.Sprint(res.StatusCode, res.Header.Get("Upgrade"), res.Header.Get("Connection"), res.Header.Get("Sec-WebSocket-Accept"), res.Header.Get("X-Extra"), len(res.Header["Sec-Websocket-Protocol"]), len(res.Header["Sec-Websocket-Extensions"]))
		n := 0
		if tt.sub != "" {
			n = 1
		}
		if want := fmt.Sprint(101, "websocket", "Upgrade", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "1", n, 0); got != want || res.Header.Get("Sec-WebSocket-Protocol") != tt.sub {
			t.Errorf("%q: response is %s, want %s", tt.in, got, want)
		}
	}
}

func TestNegotiateBad(t *testing.T) {
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprintf("p%d", i))
	}
	for _, tt := range []struct{ in, want string }{
		{shake("POST /chat HTTP/1.1"), "405 a WebSocket handshake is a GET"},
		{shake("get /chat HTTP/1.1"), "405 a WebSocket handshake is a GET"},
		{shake("GET /chat HTTP/1.0"), "400 a WebSocket handshake needs HTTP/1.1"},
		{shake("-Upgrade"), "426 Upgrade does not name websocket"},
		{shake("Upgrade: h2c"), "426 Upgrade does not name websocket"},
		{shake("Upgrade: websocket/13"), "426 Upgrade does not name websocket"},
		{shake("Upgrade: web socket"), "426 Upgrade does not name websocket"},
		{shake("-Connection"), "400 Connection does not name upgrade"},
		{shake("Connection: keep-alive"), "400 Connection does not name upgrade"},
		{shake("Connection: upgraded"), "400 Connection does not name upgrade"},
		{shake("+Content-Length: 1"), "400 a WebSocket handshake has no body"},
		{shake("+Transfer-Encoding: chunked"), "400 a WebSocket handshake has no body"},
		{shake("+Transfer-Encoding: identity"), "400 a WebSocket handshake has no body"},
		{shake("-Sec-WebSocket-Version"), "426 Sec-WebSocket-Version is missing"},
		{shake("Sec-WebSocket-Version: 12"), "426 Sec-WebSocket-Version is not 13"},
		{shake("Sec-WebSocket-Version: 8"), "426 Sec-WebSocket-Version is not 13"},
		{shake("Sec-WebSocket-Version: 013"), "426 Sec-WebSocket-Version is not 13"},
		{shake("Sec-WebSocket-Version: 13, 8"), "426 Sec-WebSocket-Version is not 13"},
		{shake("Sec-WebSocket-Version:"), "426 Sec-WebSocket-Version is not 13"},
		{shake("+Sec-WebSocket-Version: 13"), "400 Sec-WebSocket-Version is repeated"},
		{shake("-Sec-WebSocket-Key"), "400 Sec-WebSocket-Key is missing"},
		{shake("+Sec-WebSocket-Key: " + sampleKey), "400 Sec-WebSocket-Key is repeated"},
		{shake("Sec-WebSocket-Key:"), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: " + sampleKey[:22]), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: " + sampleKey[:23]), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: " + sampleKey + "="), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE="), "400 Sec-WebSocket-Key is not 16 bytes in base64"}, // 17
		{shake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), "400 Sec-WebSocket-Key is not 16 bytes in base64"},     // 15
		{shake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q=="), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25_ZQ=="), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ="), "400 Sec-WebSocket-Key is not 16 bytes in base64"},
		{shake("+Sec-WebSocket-Protocol:"), "400 Sec-WebSocket-Protocol is not a list of tokens"},
		{shake("+Sec-WebSocket-Protocol: ,"), "400 Sec-WebSocket-Protocol is not a list of tokens"},
		{shake("+Sec-WebSocket-Protocol: a b"), "400 Sec-WebSocket-Protocol is not a list of tokens"},
		{shake("+Sec-WebSocket-Protocol: a/b"), "400 Sec-WebSocket-Protocol is not a list of tokens"},
		{shake("+Sec-WebSocket-Protocol: \"a\""), "400 Sec-WebSocket-Protocol is not a list of tokens"},
		{shake("+Sec-WebSocket-Protocol: a, b, a"), "400 Sec-WebSocket-Protocol names a protocol twice"},
		{shake("+Sec-WebSocket-Protocol: " + strings.Join(many, ",")), "400 Sec-WebSocket-Protocol names too many protocols"},
		{shake("+Sec-WebSocket-Extensions:"), "400 Sec-WebSocket-Extensions is malformed"},
		{shake("+Sec-WebSocket-Extensions: ,,"), "400 Sec-WebSocket-Extensions is malformed"},
		{shake("+Sec-WebSocket-Extensions: a b"), "400 Sec-WebSocket-Extensions is malformed"},
		{shake("+Origin: https://server.example.com", "+Origin: https://server.example.com"), "400 Origin is repeated"},
		{shake("+Origin: https://evil.example"), "403 Origin is not allowed"},
	} {
		h, ref := negotiate(t, tt.in, &Policy{Deflate: true, Subprotocols: []string{"a"}})
		if ref == nil || refusalOf(ref) != tt.want || h != (Handshake{}) {
			t.Errorf("%q:\n got %v\nwant %s", tt.in, ref, tt.want)
		}
	}
}

func TestOrigin(t *testing.T) {
	list := []string{"https://a.example", "http://b.example:8080", "https://*.c.example", "http://*.d.example:81", "null"}
	for _, tt := range []struct {
		origin, host string
		policy       []string
		ok           bool
	}{
		{"https://a.example", "a.example", nil, true},
		{"http://a.example", "a.example", nil, true},
		{"https://A.example", "a.EXAMPLE", nil, true},
		{"https://a.example", "a.example:443", nil, true},
		{"http://a.example:80", "a.example", nil, true},
		{"http://a.example", "a.example:8080", nil, false},
		{"http://a.example:8080", "a.example:8080", nil, true},
		{"https://a.example:80", "a.example", nil, false},
		{"https://b.a.example", "a.example", nil, false},
		{"https://a.example.evil", "a.example", nil, false},
		{"https://a.example/", "a.example", nil, false},
		{"https://x@a.example", "a.example", nil, false},
		{"null", "a.example", nil, false},
		{"", "a.example", nil, false},
		{"a.example", "a.example", nil, false},
		{"https://", "", nil, false},
		{"https://a.example https://a.example", "a.example", nil, false},
		{"http://[::1]:80", "[::1]", nil, true},
		{"https://a.example", "other", list, true},
		{"https://a.example:443", "other", list, true},
		{"HTTPS://A.EXAMPLE", "other", list, true},
		{"http://a.example", "other", list, false},
		{"https://a.example:444", "other", list, false},
		{"https://sub.a.example", "other", list, false},
		{"http://b.example:8080", "other", list, true},
		{"http://b.example", "other", list, false},
		{"https://x.c.example", "other", list, true},
		{"https://y.x.c.example", "other", list, true},
		{"https://c.example", "other", list, false},
		{"https://.c.example", "other", list, false},
		{"https://xc.example", "other", list, false},
		{"http://x.c.example", "other", list, false},
		{"https://x.c.example:444", "other", list, false},
		{"https://evil.example/.c.example", "other", list, false},
		{"https://evil.example?.c.example", "other", list, false},
		{"https://evil.example:1.c.example", "other", list, false},
		{"https://evil@x.c.example", "other", list, false},
		{"http://x.d.example:81", "other", list, true},
		{"http://x.d.example", "other", list, false},
		{"null", "other", list, true},
		{"https://other", "other", list, false}, // the list replaces the rule of the same host
		{"https://any", "other", []string{"*"}, true},
		{"null", "other", []string{"*"}, true},
		{"https://any", "other", []string{}, false},
	} {
		_, ref := negotiate(t, shake("Host: "+tt.host, "+Origin: "+tt.origin), &Policy{Origins: tt.policy})
		if (ref == nil) != tt.ok || ref != nil && ref.Status != 403 {
			t.Errorf("origin %q, host %q, %q: %v, want %v", tt.origin, tt.host, tt.policy, ref, tt.ok)
		}
	}
	for _, p := range [][]string{nil, {}, list} {
		if _, ref := negotiate(t, shake(), &Policy{Origins: p}); ref != nil {
			t.Errorf("without Origin, under %q: %v", p, ref)
		}
	}
}

func TestAppendRefusal(t *testing.T) {
	for _, tt := range []struct {
		r    Refusal
		want map[string]string
		code int
		body string
	}{
		{Refusal{Status: 400, Reason: "no"}, map[string]string{"Allow": "", "Upgrade": "", "Retry-After": ""}, 400, "no\n"},
		{Refusal{Status: 401, Reason: "who?"}, map[string]string{"Www-Authenticate": "Bearer"}, 401, "who?\n"},
		{Refusal{Status: 401, Challenge: `Basic realm="x"`}, map[string]string{"Www-Authenticate": `Basic realm="x"`}, 401, "\n"},
		{*errNotGet, map[string]string{"Allow": "GET"}, 405, "a WebSocket handshake is a GET\n"},
		{*errVersionOther, map[string]string{"Upgrade": "websocket", "Sec-Websocket-Version": "13"}, 426, "Sec-WebSocket-Version is not 13\n"},
		{Refusal{Status: 503, Reason: "full", RetryAfter: 30}, map[string]string{"Retry-After": "30"}, 503, "full\n"},
		{Refusal{Status: 429, RetryAfter: -1}, map[string]string{"Retry-After": ""}, 429, "\n"},
		{Refusal{Status: 200, Reason: "x"}, nil, 500, "x\n"},
		{Refusal{Status: 600, Reason: "x"}, nil, 500, "x\n"},
		{Refusal{Status: 418, Reason: "tea"}, nil, 418, "tea\n"},
		{Refusal{Status: 400, Reason: "a\r\nSet-Cookie: x\x00"}, nil, 400, "a  Set-Cookie: x \n"},
		{Refusal{Status: 401, Challenge: "x\r\nSet-Cookie: y"}, map[string]string{"Set-Cookie": "", "Www-Authenticate": "x  Set-Cookie: y"}, 401, "\n"},
		{Refusal{Status: 400, Reason: "Größe"}, nil, 400, "Größe\n"},
	} {
		b := AppendRefusal(nil, &tt.r)
		rd := bufio.NewReader(bytes.NewReader(b))
		res, err := http.ReadResponse(rd, nil)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != tt.body || res.StatusCode != tt.code || rd.Buffered() != 0 {
			t.Errorf("%+v: %d, %q, %v", tt.r, res.StatusCode, body, err)
		}
		if !res.Close || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") || res.ContentLength != int64(len(body)) {
			t.Errorf("%+v: %v", tt.r, res.Header)
		}
		for k, v := range tt.want {
			if got := res.Header.Get(k); got != v {
				t.Errorf("%+v: %s is %q, want %q", tt.r, k, got, v)
			}
		}
	}
	for status := 400; status < 600; status++ {
		if want := http.StatusText(status); want != "" && status < 500 && statusText(status) == "Refused" {
			switch status {
			case 416, 417, 418, 423, 424: // never ours
			default:
				t.Errorf("%d has no text; net/http says %q", status, want)
			}
		}
	}
	if got := errOrigin.Error(); got != "ws: 403 Forbidden: Origin is not allowed" {
		t.Error(got)
	}
}

// offer is what a Sec-WebSocket-Extensions leads to: the response's field, or "" or "malformed".
func TestDeflateOffers(t *testing.T) {
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	bits := func(n int) string { return fmt.Sprintf("%s; server_max_window_bits=%d", yes, n) }
	type offer struct{ in, want string }
	offers := []offer{
		{"permessage-deflate", yes},
		{"permessage-deflate;server_no_context_takeover", yes},
		{"permessage-deflate; client_no_context_takeover", yes},
		{"permessage-deflate ; server_no_context_takeover ; client_no_context_takeover", yes},
		{"permessage-deflate; client_max_window_bits", yes},
		{"permessage-deflate; client_max_window_bits=8", yes},
		{"permessage-deflate; client_max_window_bits=\"15\"", yes},
		{"permessage-deflate; client_max_window_bits; server_max_window_bits=10", bits(10)},
		{"permessage-deflate; server_max_window_bits = 12", bits(12)},
		{"permessage-deflate; server_max_window_bits=\"10\"", bits(10)},
		{"permessage-deflate; server_max_window_bits=\"1\\0\"", bits(10)},
		// declined
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; server_max_window_bits=7", ""},
		{"permessage-deflate; server_max_window_bits=16", ""},
		{"permessage-deflate; server_max_window_bits=0", ""},
		{"permessage-deflate; server_max_window_bits=08", ""},
		{"permessage-deflate; server_max_window_bits=010", ""},
		{"permessage-deflate; server_max_window_bits=+9", ""},
		{"permessage-deflate; server_max_window_bits=9x", ""},
		{"permessage-deflate; server_max_window_bits=1000000010", ""},
		{"permessage-deflate; server_max_window_bits=\"07\"", ""},
		{"permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", ""},
		{"permessage-deflate; server_max_window_bits=x; server_max_window_bits=10", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
		{"permessage-deflate; client_max_window_bits=9; client_max_window_bits=9", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{"permessage-deflate; client_no_context_takeover=true", ""},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate; unknown=1", ""},
		{"permessage-deflate; Server_No_Context_Takeover", ""},
		{"Permessage-Deflate", ""},
		{"permessage-bzip2", ""},
		{"x-webkit-deflate-frame", ""},
		{"permessage-deflate-2", ""},
		// lists: the first that is acceptable
		{"permessage-deflate; server_max_window_bits=10, permessage-deflate", bits(10)},
		{"permessage-deflate, permessage-deflate; server_max_window_bits=10", yes},
		{"permessage-deflate; server_max_window_bits=7, permessage-deflate", yes},
		{"permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", bits(9)},
		{"foo; bar=\"baz\", permessage-deflate", yes},
		{",, permessage-deflate ,", yes},
		{"permessage-bzip2, permessage-foo; a; b=c, permessage-deflate;client_max_window_bits", yes},
		{"a\r\nSec-WebSocket-Extensions: permessage-deflate", yes},
		{"permessage-deflate\r\nSec-WebSocket-Extensions:", yes},
		// malformed
		{"", "malformed"},
		{",", "malformed"},
		{";", "malformed"},
		{"permessage-deflate;", "malformed"},
		{"permessage-deflate;;", "malformed"},
		{"permessage-deflate; =10", "malformed"},
		{"permessage-deflate; server_max_window_bits=", "malformed"},
		{"permessage-deflate; server_max_window_bits=\"\"", "malformed"},
		{"permessage-deflate; server_max_window_bits=\"10", "malformed"},
		{"permessage-deflate; server_max_window_bits=\"10\\", "malformed"},
		{"permessage-deflate; server_max_window_bits=\"1 0\"", "malformed"},
		{"permessage-deflate; server_max_window_bits=10 11", "malformed"},
		{"permessage-deflate server_no_context_takeover", "malformed"},
		{"permessage-deflate, a b", "malformed"},
		{"permessage-deflate, \"quoted\"", "malformed"},
		{"permessage-deflate\r\nSec-WebSocket-Extensions: @", "malformed"},
		{"per(message)", "malformed"},
		{"permessage-deflate; x=\"a\"b", "malformed"},
	}
	for n := 8; n <= 15; n++ {
		offers = append(offers, offer{fmt.Sprintf("permessage-deflate; server_max_window_bits=%d", n), bits(n)},
			offer{fmt.Sprintf("permessage-deflate; client_max_window_bits=%d", n), yes})
	}
	for _, o := range offers {
		for _, allowed := range []bool{true, false} {
			h, ref := negotiate(t, shake("+Sec-WebSocket-Extensions: "+o.in), &Policy{Deflate: allowed})
			got := ""
			if ref != nil {
				got = "malformed"
				if ref != errExtensionsInvalid {
					t.Errorf("%q: %v", o.in, ref)
				}
			} else {
				res := string(AppendResponse(nil, &h, ""))
				if _, after, ok := strings.Cut(res, "Sec-WebSocket-Extensions: "); ok {
					got, _, _ = strings.Cut(after, "\r\n")
				}
			}
			want := o.want
			if !allowed && want != "malformed" {
				want = ""
			}
			if got != want {
				t.Errorf("offer %q, allowed %v:\n got %q\nwant %q", o.in, allowed, got, want)
			}
			if h.Deflate.On != strings.HasPrefix(want, "perm") {
				t.Errorf("offer %q: %+v", o.in, h.Deflate)
			}
			if _, n, ok := strings.Cut(want, "server_max_window_bits="); ok && int(h.Deflate.Window) != atoi(t, n) || !ok && h.Deflate.On && h.Deflate.Window != 15 {
				t.Errorf("offer %q: window %d", o.in, h.Deflate.Window)
			}
		}
	}
}

// A key decodes to 16 bytes if and only if it is accepted.
func TestValidKey(t *testing.T) {
	rnd := newRand(t)
	for range 20000 {
		b := make([]byte, 14+rnd.IntN(5))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		key := []byte(base64.StdEncoding.EncodeToString(b))
		if len(key) > 0 && rnd.IntN(3) == 0 {
			key[rnd.IntN(len(key))] = byte(rnd.IntN(128))
		}
		d, err := base64.StdEncoding.DecodeString(string(key))
		want := err == nil && len(d) == 16 && len(key) == 24
		if validKey(key) != want {
			t.Fatalf("validKey(%q) = %v", key, !want)
		}
	}
}

func ExampleNegotiate() {
	b := []byte("GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Protocol: mqtt, plain\r\n\r\n")
	r, n, err := ParseRequest(b, 8<<10)
	if err != nil || n == 0 {
		fmt.Println(n, err)
		return
	}
	policy := &Policy{Subprotocols: []string{"plain"}, Deflate: true}
	h, refusal := Negotiate(&r, policy)
	if refusal != nil {
		fmt.Printf("%s", AppendRefusal(nil, refusal))
		return
	}
	fmt.Println(strings.ReplaceAll(string(AppendResponse(nil, &h, "")), "\r", ""))
	// Output:
	// HTTP/1.1 101 Switching Protocols
	// Upgrade: websocket
	// Connection: Upgrade
	// Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
	// Sec-WebSocket-Protocol: plain
}
