package api

import (
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/token/tokentest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// world is a gateway that serves the API on its own port.
type world struct {
	t    *testing.T
	g    *longwire.Gateway
	http *http.Client
	key  string // shown with each request, unless it is empty
}

const (
	key    = "the key of the API"
	secret = "what tokens are signed with"
)

// open is a namespace where everything is kept and allowed.
var open = longwire.ChannelOptions{
	SubscribeForClient: true, SubscribeForAnonymous: true, PublishForClient: true,
	Presence: true, JoinLeave: true, ForceJoinLeave: true,
	HistorySize: 10, HistoryTTL: time.Minute, ForceRecovery: true,
}

// newWorld starts a gateway with channels like open, and the namespace bare, where nothing is kept.
func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	w := &world{t: t, key: o.Key, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	o.Gateway = func() Gateway { return w.g }
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if o.Log == nil {
		o.Log = log
	}
	var err error
	w.g, err = longwire.New(longwire.Config{
		Addr: "127.0.0.1:0", MaxConns: 64, Loops: 2, HTTP: New(o), Log: log,
		Endpoints:  []longwire.Endpoint{longwire.Plain("/ws"), longwire.Centrifuge("/connection/websocket")},
		Channels:   open,
		Namespaces: []longwire.ChannelOptions{{Name: "bare", SubscribeForClient: true, SubscribeForAnonymous: true}},
		Sessions:   longwire.Sessions{Anonymous: true},
		Tokens:     longwire.TokenOptions{HMACSecret: []byte(secret)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.g.Close() })
	if err := w.g.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// post sends a request to a method, and returns status and body.
func (w *world) post(method, body string) (status int, answer string) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://"+w.g.Addr().String()+Prefix+method, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.key != "" {
		r.Header.Set("X-API-Key", w.key)
	}
	return w.do(r)
}

func (w *world) do(r *http.Request) (status int, answer string) {
	w.t.Helper()
	resp, err := w.http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s: Content-Type %q", r.URL.Path, resp.Header.Get("Content-Type"))
	}
	return resp.StatusCode, string(b)
}

// want checks the answer to a request, with what is different each time masked.
func (w *world) want(method, body, want string) {
	w.t.Helper()
	if status, got := w.post(method, body); status != http.StatusOK || masked(got) != masked(want) {
		w.t.Errorf("%s %s\n got %d %s\nwant 200 %s", method, brief(body), status, brief(masked(got)), masked(want))
	}
}

func brief(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}

var masks = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`"(epoch|name|version)":"[^"]+"`), `"$1":"X"`},
	{regexp.MustCompile(`"uptime":\d+,`), ``},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), `TIME`},
	{regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d+`), `ADDRESS`},
}

func masked(s string) string {
	for _, m := range masks {
		s = m.re.ReplaceAllString(s, m.by)
	}
	return s
}

// peer is a client that reads line by line, in JSON.
type peer struct {
	*wstest.Client
	t     *testing.T
	lines []string
	code  ws.StatusCode
	why   string
}

// dial opens a connection to an endpoint.
func (w *world) dial(path string) *peer {
	w.t.Helper()
	return &peer{t: w.t, Client: wstest.Dial(w.t, w.g.Addr().String(), path, ws.Dial{})}
}

// connect opens a connection of the Centrifuge protocol with a token of those claims, which are a user's if they have
// any, and subscribes it.
func (w *world) connect(claims, channel string) *peer {
	w.t.Helper()
	p := w.dial("/connection/websocket")
	p.Send(ws.OpText, `{"id":1,"connect":{"token":"`+tokentest.HS256(secret, claims)+`"}}`)
	if got := p.next(); !strings.HasPrefix(got, `{"id":1,"connect":{"client":"`) {
		w.t.Fatalf("connect: %s", got)
	}
	p.Send(ws.OpText, `{"id":2,"subscribe":{"channel":"`+channel+`"}}`)
	if got := p.next(); !strings.HasPrefix(got, `{"id":2,"subscribe":{`) {
		w.t.Fatalf("subscribe: %s", got)
	}
	if got := p.next(); !strings.HasPrefix(got, `{"push":{"channel":"`+channel+`","join":{`) {
		w.t.Fatalf("subscribe: %s", got)
	}
	return p
}

// next is the next line; empty after the server's close frame, whose code and reason are noted.
func (p *peer) next() string {
	p.t.Helper()
	for len(p.lines) == 0 {
		if p.code != 0 {
			return ""
		}
		switch op, text, code := p.Next(); op {
		case ws.OpText:
			p.lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		case ws.OpClose:
			p.code, p.why = code, text
		}
	}
	line := p.lines[0]
	p.lines = p.lines[1:]
	return line
}
