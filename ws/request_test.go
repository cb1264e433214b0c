package ws

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// get builds a request from lines; a line that is empty is left out.
func get(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		if l != "" {
			b.WriteString(l + "\r\n")
		}
	}
	return b.String() + "\r\n"
}

func refusalOf(err error) string {
	if err == nil {
		return ""
	}
	var r *Refusal
	if errors.As(err, &r) {
		return fmt.Sprintf("%d %s", r.Status, r.Reason)
	}
	return err.Error()
}

// parseSplit parses b, of which more arrives byte by byte, and requires that the answer does not
// depend on it: a request is there with its last byte and not before, and a refusal stays the same.
func parseSplit(t *testing.T, b string, max int) (Request, int, error) {
	t.Helper()
	req, n, err := ParseRequest([]byte(b), max)
	for i := range len(b) {
		r, k, e := ParseRequest([]byte(b[:i]), max)
		switch {
		case e != nil:
			if refusalOf(e) != refusalOf(err) {
				t.Fatalf("%q is refused with %v, and %d bytes of it with %v", b, err, i, e)
			}
			return req, n, err
		case k != 0:
			if k != n || i < n || string(r.Target()) != string(req.Target()) {
				t.Fatalf("%q: %d bytes give a request of %d bytes, all give %d", b, i, k, n)
			}
		case err == nil && i >= n && n != 0:
			t.Fatalf("%q: %d bytes give nothing, %d were enough", b, i, n)
		}
	}
	return req, n, err
}

func TestParseRequestGood(t *testing.T) {
	for _, tt := range []struct {
		in                                string
		method, target, path, query, host string
		proto                             Proto
	}{
		{get("GET / HTTP/1.1", "Host: a.example"), "GET", "/", "/", "<nil>", "a.example", HTTP11},
		{get("GET /chat?token=a%20b&x=%3F HTTP/1.1", "Host: a.example:8080"), "GET", "/chat?token=a%20b&x=%3F", "/chat", "token=a%20b&x=%3F", "a.example:8080", HTTP11},
		{get("GET /? HTTP/1.1", "Host: a"), "GET", "/?", "/", "", "a", HTTP11},
		{get("GET /?a?b HTTP/1.1", "Host: a"), "GET", "/?a?b", "/", "a?b", "a", HTTP11},
		{get("GET //x HTTP/1.1", "Host: a"), "GET", "//x", "//x", "<nil>", "a", HTTP11},
		{get("GET http://b.example/p?q HTTP/1.1", "Host: a.example"), "GET", "http://b.example/p?q", "/p", "q", "b.example", HTTP11},
		{get("GET HTTPS://b.example HTTP/1.1", "Host: a.example"), "GET", "HTTPS://b.example", "/", "<nil>", "b.example", HTTP11},
		{get("GET wss://b.example:1?x HTTP/1.1", "Host: a.example"), "GET", "wss://b.example:1?x", "/", "x", "b.example:1", HTTP11},
		{get("OPTIONS * HTTP/1.1", "Host: a"), "OPTIONS", "*", "*", "<nil>", "a", HTTP11},
		{get("CONNECT a:443 HTTP/1.1", "Host: a:443"), "CONNECT", "a:443", "a:443", "<nil>", "a:443", HTTP11},
		{get("POST /x HTTP/1.1", "Host: a", "Content-Length: 5"), "POST", "/x", "/x", "<nil>", "a", HTTP11},
		{get("POST /x HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"), "POST", "/x", "/x", "<nil>", "a", HTTP11},
		{get("GET / HTTP/1.0"), "GET", "/", "/", "<nil>", "<nil>", HTTP10},
		{get("GET / HTTP/1.0", "Host: a"), "GET", "/", "/", "<nil>", "a", HTTP10},
		{get("GET / HTTP/1.2", "Host: a"), "GET", "/", "/", "<nil>", "a", HTTP11},
		{get("GET / HTTP/1.1", "Host:"), "GET", "/", "/", "<nil>", "", HTTP11},
		{get("GET / HTTP/1.1", "HOST:\t a \t"), "GET", "/", "/", "<nil>", "a", HTTP11},
		{get("GET / HTTP/1.1", "Host: [::1]:80"), "GET", "/", "/", "<nil>", "[::1]:80", HTTP11},
		{get("GET / HTTP/1.1", "Host: [::1]"), "GET", "/", "/", "<nil>", "[::1]", HTTP11},
		{get("GET / HTTP/1.1", "Host: a:"), "GET", "/", "/", "<nil>", "a:", HTTP11},
		{"\r\n" + get("GET /after-an-empty-line HTTP/1.1", "Host: a"), "GET", "/after-an-empty-line", "/after-an-empty-line", "<nil>", "a", HTTP11},
		{get("GET / HTTP/1.1", "Host: a", "X-Obs-Text: \xe4\xff", "X-Empty:", "X!#$%&'*+-.^_`|~9: odd name"), "GET", "/", "/", "<nil>", "a", HTTP11},
		{get("GET / HTTP/1.1", "Host: a") + "\x81\x05", "GET", "/", "/", "<nil>", "a", HTTP11},
	} {
		r, n, err := parseSplit(t, tt.in, 0)
		if err != nil || n != strings.Index(tt.in, "\r\n\r\n")+4 {
			t.Errorf("%q: %d, %v", tt.in, n, err)
			continue
		}
		got := []string{string(r.Method()), string(r.Target()), string(r.Path()), orNil(r.Query()), orNil(r.Host())}
		want := []string{tt.method, tt.target, tt.path, tt.query, tt.host}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: got %q, want %q", tt.in, got, want)
				break
			}
		}
		if r.Proto() != tt.proto {
			t.Errorf("%q: proto is %d", tt.in, r.Proto())
		}
	}
}

func orNil(b []byte) string {
	if b == nil {
		return "<nil>"
	}
	return string(b)
}

func TestParseRequestBad(t *testing.T) {
	many := []string{"GET / HTTP/1.1", "Host: a"}
	for i := range 100 {
		many = append(many, fmt.Sprintf("X-%d: y", i))
	}
	const h = "Host: a"
	for _, tt := range []struct{ in, want string }{
		// the request line
		{get("GET /", h), "400 malformed request line"},
		{get("GET", h), "400 malformed request line"},
		{get(" GET / HTTP/1.1", h), "400 malformed request line"},
		{get("GET  / HTTP/1.1", h), "400 malformed request line"},
		{get("GET /  HTTP/1.1", h), "400 malformed request line"},
		{get("GET / HTTP/1.1 ", h), "400 malformed request line"},
		{get("GET / x HTTP/1.1", h), "400 malformed request line"},
		{get("GET\t/\tHTTP/1.1", h), "400 malformed request line"},
		{get("GET / http/1.1", h), "400 malformed request line"},
		{get("GET / HTTP/1", h), "400 malformed request line"},
		{get("GET / HTTP/1.10", h), "400 malformed request line"},
		{get("GET / HTTP/x.1", h), "400 malformed request line"},
		{get("GET / HTTP/1,1", h), "400 malformed request line"},
		{get("GET / HTTQ/1.1", h), "400 malformed request line"},
		{get("GET / ", h), "400 malformed request line"},
		{get("GET / HTTP/2.0", h), "505 HTTP version is not 1.x"},
		{get("GET / HTTP/0.9", h), "505 HTTP version is not 1.x"},
		{get("GET / HTTP/3.1", h), "505 HTTP version is not 1.x"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP version is not 1.x"},
		{get("G(T / HTTP/1.1", h), "400 method is not a token"},
		{get("GET: / HTTP/1.1", h), "400 method is not a token"},
		{get("(GET / HTTP/1.1", h), "400 malformed request line"},
		{"\x16\x03\x01\x02\x00\x01", "400 malformed request line"}, // TLS
		{"\x81\x85", "400 malformed request line"},
		{"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 malformed request line"},
		{"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 malformed request line"},
		{"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 control character in the head"},
		{get("GET x HTTP/1.1", h), "400 malformed request target"},
		{get("GET * HTTP/1.1", h), "400 malformed request target"},
		{get("GET a:80 HTTP/1.1", h), "400 malformed request target"},
		{get("GET ?q HTTP/1.1", h), "400 malformed request target"},
		{get("GET /#fragment HTTP/1.1", h), "400 malformed request target"},
		{get("GET /\xc3\xa4 HTTP/1.1", h), "400 malformed request target"},
		{get("GET http:///x HTTP/1.1", h), "400 malformed request target"},
		{get("GET http://a@b/x HTTP/1.1", h), "400 malformed request target"},
		{get("GET ftp://a/x HTTP/1.1", h), "400 malformed request target"},
		// lines
		{"GET / HTTP/1.1\nHost: a\n\n", "400 line does not end in CRLF"},
		{"GET / HTTP/1.1\r\nHost: a\n\r\n", "400 line does not end in CRLF"},
		{"GET / HTTP/1.1\r\nHost: a\r\n\n", "400 line does not end in CRLF"},
		{"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "400 control character in the head"},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "400 control character in the head"},
		{get("GET / HTTP/1.1", h, "X: a\x00b"), "400 control character in the head"},
		{get("GET / HTTP/1.1", h, "X: a\x7fb"), "400 control character in the head"},
		{get("GET / HTTP/1.1", h, "X: a\x1bb"), "400 control character in the head"},
		{get("GET /\x00 HTTP/1.1", h), "400 control character in the head"},
		{get("GET / HTTP/1.1", h, "X\x00: a"), "400 control character in the head"},
		// fields
		{get("GET / HTTP/1.1", h, "X: a", " folded"), "400 folded field line"},
		{get("GET / HTTP/1.1", h, "X: a", "\tfolded: b"), "400 folded field line"},
		{get("GET / HTTP/1.1", " Host: a"), "400 folded field line"},
		{get("GET / HTTP/1.1", "Host : a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, "X\t: a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, "X Y: a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, ": a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, "X"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, "X(: a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get("GET / HTTP/1.1", h, "\xc3\xa4: a"), "400 field name is missing, is not a token or is not followed by a colon"},
		{get(many...), "431 request has too many field lines"},
		// Host
		{get("GET / HTTP/1.1"), "400 Host is missing"},
		{get("GET / HTTP/1.1", "Hosts: a"), "400 Host is missing"},
		{get("GET / HTTP/1.1", h, h), "400 Host is repeated"},
		{get("GET / HTTP/1.1", h, "HOST: b"), "400 Host is repeated"},
		{get("GET / HTTP/1.0", h, h), "400 Host is repeated"},
		{get("GET / HTTP/1.1", "Host: a b"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: a, b"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: a/b"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: u@a"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: a:x"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: a:1:2"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: [::1"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: []"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: [::1]x"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: [/]"), "400 Host is not a host and port"},
		{get("GET / HTTP/1.1", "Host: a\xff"), "400 Host is not a host and port"},
		// framing of a body
		{get("POST / HTTP/1.1", h, "Content-Length: 1", "Content-Length: 1"), "400 Content-Length is repeated"},
		{get("POST / HTTP/1.1", h, "Content-Length: 1", "content-length: 2"), "400 Content-Length is repeated"},
		{get("POST / HTTP/1.1", h, "Content-Length: 1, 1"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length: +1"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length: -1"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length: 0x1"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length:"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length: 9999999999999999999"), "400 Content-Length is not a number"},
		{get("POST / HTTP/1.1", h, "Content-Length: 1", "Transfer-Encoding: chunked"), "400 Content-Length together with Transfer-Encoding"},
		{get("POST / HTTP/1.0", h, "Transfer-Encoding: chunked"), "400 Transfer-Encoding in HTTP/1.0"},
	} {
		_, n, err := parseSplit(t, tt.in, 0)
		if n != 0 || refusalOf(err) != tt.want {
			t.Errorf("%q:\n got %d, %v\nwant %s", tt.in, n, refusalOf(err), tt.want)
		}
	}
}

func TestParseRequestMax(t *testing.T) {
	in := get("GET / HTTP/1.1", "Host: a", "X: "+text(50))
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{in, len(in), ""},
		{in + "more", len(in), ""},
		{in, len(in) + 1, ""},
		{in, len(in) - 1, "431 request head is too large"},
		{in, 1, "431 request head is too large"},
		{in, -1, ""},
		{get("GET / HTTP/1.1", "Host: a", "X: "+text(65000)), 0, ""},
		{get("GET / HTTP/1.1", "Host: a", "X: "+text(65535)), 0, "431 request head is too large"},
		{get("GET / HTTP/1.1", "Host: a", "X: "+text(65535)), 1 << 20, "431 request head is too large"},
		{"GET /" + text(500), 100, "431 request head is too large"},
		{"GET / HTTP/1.1\r\nX: " + text(500), 100, "431 request head is too large"},
	} {
		_, n, err := ParseRequest([]byte(tt.in), tt.max)
		if refusalOf(err) != tt.want || (n != 0) != (err == nil) {
			t.Errorf("%d bytes, max %d: %d, %v; want %s", len(tt.in), tt.max, n, err, tt.want)
		}
	}
	for i := range in {
		if _, n, err := ParseRequest([]byte(in[:i]), len(in)); n != 0 || err != nil {
			t.Errorf("%d of %d bytes: %d, %v", i, len(in), n, err)
		}
	}
}

func TestRequestFields(t *testing.T) {
	in := []byte(get("GET / HTTP/1.1", "Host: a", "X-A:  one ", "x-a: two,three", "Upgrade: h2c, WebSocket ", "X-Empty: "))
	r, _, err := ParseRequest(in, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"X-A": "one", "x-a": "one", "host": "a", "X-Empty": "", "X-None": "<nil>", "X": "<nil>", "": "<nil>"} {
		if got := orNil(r.Header(name)); got != want {
			t.Errorf("Header(%q) = %q, want %q", name, got, want)
		}
	}
	var all []string
	for v := range r.Values("X-a") {
		all = append(all, string(v))
	}
	for v := range r.Values("X-a") {
		all = append(all, string(v))
		break
	}
	if got := strings.Join(all, "|"); got != "one|two,three|one" {
		t.Errorf("Values = %s", got)
	}
	all = nil
	for name, v := range r.Each() {
		all = append(all, fmt.Sprintf("%s=%s", name, v))
	}
	for range r.Each() {
		break
	}
	if got := strings.Join(all, "|"); got != "Host=a|X-A=one|x-a=two,three|Upgrade=h2c, WebSocket|X-Empty=" {
		t.Errorf("Each = %s", got)
	}
	if !r.Upgrade() {
		t.Error("Upgrade does not see the second element")
	}
	for _, x := range []struct {
		name, token string
		want        bool
	}{{"X-A", "ONE", true}, {"x-a", "two", true}, {"X-A", "three", true}, {"X-A", "thre", false}, {"X-A", "two,three", false}, {"X-Empty", "", false}, {"X-None", "one", false}, {"upgrade", "websocket", true}} {
		if got := r.HasToken(x.name, x.token); got != x.want {
			t.Errorf("HasToken(%q, %q) = %t", x.name, x.token, got)
		}
	}
	// U+212A is not k, and U+017F not s, whatever Unicode folds.
	if equalFold([]byte("web\u017focket"), "websocket") || equalFold([]byte("\u212aey"), "key") {
		t.Error("names are folded as Unicode")
	}
}

func ExampleParseRequest() {
	b := []byte("GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n")
	r, n, err := ParseRequest(b[:20], 4096)
	fmt.Println(n, err) // more, please
	r, n, err = ParseRequest(b, 4096)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d bytes: %s %s %s %v\n", n, r.Method(), r.Path(), r.Query(), r.Upgrade())
	// Output:
	// 0 <nil>
	// 66 bytes: GET /chat room=1 true
}
