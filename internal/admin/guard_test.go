package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const token = "correct-horse-battery-staple"

// guarded is a guard with a clock that the test moves.
type guarded struct {
	t   *testing.T
	g   *Guard
	h   http.Handler
	at  time.Time
	log bytes.Buffer
}

func newGuarded(t *testing.T, o GuardOptions) *guarded {
	x := &guarded{t: t, at: time.Unix(1_700_000_000, 0)}
	o.Log = slog.New(slog.NewTextHandler(&x.log, nil))
	x.g = NewGuard(o)
	x.g.now = func() time.Time { return x.at }
	x.h = x.g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("in")) }))
	return x
}

// ask sends a request from an address with those header fields.
func (x *guarded) ask(from string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://admin.example/admin/v1/node", nil)
	r.RemoteAddr = from
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	x.h.ServeHTTP(w, r)
	return w
}

// show shows a token.
func (x *guarded) show(from, token string) int {
	return x.ask(from, "Authorization", "Bearer "+token).Code
}

func TestGuard(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      GuardOptions
		header []string
		status int
		code   string
	}{
		{"the token", GuardOptions{Token: token}, []string{"Authorization", "Bearer " + token}, 200, ""},
		{"in small letters", GuardOptions{Token: token}, []string{"Authorization", "bearer  " + token + " "}, 200, ""},
		{"none", GuardOptions{Token: token}, nil, 401, "unauthorized"},
		{"another scheme", GuardOptions{Token: token}, []string{"Authorization", "Basic " + token}, 401, "unauthorized"},
		{"no scheme", GuardOptions{Token: token}, []string{"Authorization", token}, 401, "unauthorized"},
		{"empty", GuardOptions{Token: token}, []string{"Authorization", "Bearer "}, 401, "wrong_token"},
		{"another", GuardOptions{Token: token}, []string{"Authorization", "Bearer " + token + "x"}, 401, "wrong_token"},
		{"a part", GuardOptions{Token: token}, []string{"Authorization", "Bearer " + token[1:]}, 401, "wrong_token"},
		{"no token is set, an empty one shown", GuardOptions{}, []string{"Authorization", "Bearer "}, 401, "wrong_token"},
		{"no token is set, none shown", GuardOptions{}, nil, 401, "unauthorized"},
		{"insecure", GuardOptions{Insecure: true}, nil, 200, ""},
		{"insecure, a page of ours", GuardOptions{Insecure: true}, []string{"Origin", "http://admin.example"}, 200, ""},
		{"insecure, a page of others", GuardOptions{Insecure: true}, []string{"Origin", "https://evil.example"}, 403, "forbidden"},
		{"insecure, a page of others as browsers say it", GuardOptions{Insecure: true}, []string{"Sec-Fetch-Site", "cross-site"}, 403, "forbidden"},
	} {
		w := newGuarded(t, c.o).ask("192.0.2.1:1", c.header...)
		if w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
		if c.code == "" {
			continue
		}
		if h := w.Header(); h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || !strings.HasPrefix(w.Body.String(), `{"error":{"code":"`+c.code+`","message":"`) {
			t.Errorf("%s: %v %s, want the error %s that nobody keeps", c.name, h, w.Body, c.code)
		}
		if got := w.Header().Get("WWW-Authenticate"); c.status == 401 && !strings.HasPrefix(got, "Bearer ") {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got)
		}
	}
}

// As many tabs as there may be come with the right token at the same time: none is told that there were too many wrong ones.
func TestGuardCrowd(t *testing.T) {
	x := newGuarded(t, GuardOptions{Token: token})
	begin := make(chan struct{})
	var refused atomic.Int64
	var all sync.WaitGroup
	for k := range 50 * triesEach {
		all.Go(func() {
			<-begin
			if x.show("192.0.2.77:"+strconv.Itoa(k+1), token) != 200 {
				refused.Add(1)
			}
		})
	}
	close(begin)
	all.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d with the right token were refused", n)
	}
}

// One address gets ten wrong tokens at once, and then one in five seconds; the right one is not looked at meanwhile.
func TestGuardOneAddress(t *testing.T) {
	x := newGuarded(t, GuardOptions{Token: token, Mask: func(a netip.Addr) netip.Addr { return netip.MustParsePrefix(a.String() + "/24").Masked().Addr() }})
	const from = "192.0.2.77:"
	for k := range triesEach {
		if got := x.show(from+strconv.Itoa(k+1), "wrong"); got != 401 {
			t.Fatalf("wrong token %d: %d", k, got)
		}
	}
	for _, tok := range []string{"wrong", token} {
		w := x.ask(from+"99", "Authorization", "Bearer "+tok)
		if w.Code != 429 || w.Header().Get("Retry-After") != "5" || !strings.Contains(w.Body.String(), `"code":"too_many_tries"`) {
			t.Errorf("%s, after too many: %d %v %s", tok, w.Code, w.Header(), w.Body)
		}
	}
	if got := x.show("192.0.2.78:1", token); got != 200 {
		t.Errorf("another address: %d", got)
	}
	if got := x.show("[2001:db8::1]:1", token); got != 200 {
		t.Errorf("an IPv6 address: %d", got)
	}
	if w := x.ask(from + "1"); w.Code != 401 {
		t.Errorf("without a token: %d, want 401: nothing was tried", w.Code)
	}
	x.at = x.at.Add(4 * time.Second)
	if got := x.show(from+"1", token); got != 429 {
		t.Errorf("after 4 s: %d", got)
	}
	x.at = x.at.Add(time.Second)
	for range 3 {
		if got := x.show(from+"1", token); got != 200 {
			t.Errorf("the right one after 5 s: %d; it costs nothing", got)
		}
	}
	if got := x.show(from+"1", "wrong"); got != 401 {
		t.Errorf("a wrong one after 5 s: %d", got)
	}
	if got := x.show(from+"1", "wrong"); got != 429 {
		t.Errorf("another wrong one after 5 s: %d", got)
	}
	log := x.log.String()
	if strings.Contains(log, "192.0.2.77") || !strings.Contains(log, `msg="wrong admin token" addr=192.0.2.0 and_before=`) || strings.Count(log, "\n") != 2 {
		t.Errorf("the log, of two lines in two seconds with masked addresses:\n%s", log)
	}
	if strings.Contains(log, "wrong\"") || strings.Contains(log, token) {
		t.Errorf("the log has tokens:\n%s", log)
	}
}

// One /64 of IPv6 is one caller; an IPv4 address in IPv6 is that IPv4 address.
func TestGuardIPv6(t *testing.T) {
	x := newGuarded(t, GuardOptions{Token: token})
	for k := range triesEach {
		x.show(fmt.Sprintf("[2001:db8:0:1:%x::1]:1", k), "wrong")
		x.show("[::ffff:192.0.2.1]:1", "wrong")
	}
	for from, want := range map[string]int{"[2001:db8:0:1:ffff::1]:1": 429, "[2001:db8:0:2::1]:1": 200, "192.0.2.1:1": 429, "192.0.2.2:1": 200, "pipe": 200} {
		if got := x.show(from, token); got != want {
			t.Errorf("from %s: %d, want %d", from, got, want)
		}
	}
}

// Many addresses together get a hundred wrong tokens and one a second; who has shown the right one stays in.
func TestGuardAllAddresses(t *testing.T) {
	x := newGuarded(t, GuardOptions{Token: token})
	const known = "198.51.100.1:1"
	if got := x.show(known, token); got != 200 {
		t.Fatal(got)
	}
	from := func(k int) string { return fmt.Sprintf("10.%d.%d.1:1", k>>8, k&255) }
	wrong := 0
	for k := range 1000 {
		switch got := x.show(from(k), "wrong"); got {
		case 401:
			wrong++
		case 429:
		default:
			t.Fatal(got)
		}
	}
	if wrong != triesAll {
		t.Errorf("%d wrong tokens were looked at, want %d", wrong, triesAll)
	}
	if got := x.show("203.0.113.1:1", token); got != 429 {
		t.Errorf("the right one of somebody new: %d, want 429: it would be a guess", got)
	}
	for range 5 {
		if got := x.show(known, token); got != 200 {
			t.Errorf("the right one of somebody known: %d", got)
		}
	}
	x.at = x.at.Add(time.Second)
	if got := x.show("203.0.113.1:1", token); got != 200 {
		t.Errorf("the right one of somebody new, a second later: %d", got)
	}
	// Who is known for longer than an hour is so no more.
	x.at = x.at.Add(2 * time.Hour)
	for k := range 1000 {
		x.show(from(k), "wrong")
	}
	if got := x.show(known, token); got != 429 {
		t.Errorf("after two hours: %d", got)
	}
	// However many addresses there are, the memory is bounded.
	for k := range 3 * mostCalled {
		x.show(from(k), "wrong")
	}
	if n := len(x.g.from); n > mostCalled+1 {
		t.Errorf("%d addresses are remembered", n)
	}
	x.at = x.at.Add(time.Hour)
	if got := x.show("203.0.113.9:1", token); got != 200 {
		t.Errorf("after an hour of quiet: %d", got)
	}
}
