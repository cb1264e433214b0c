package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/ws"
)

// TestTranscript repeats what an application and a client said to another server of this API, as it was recorded.
func TestTranscript(t *testing.T) {
	text, err := os.ReadFile("testdata/transcript.txt")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Options{Key: key})
	// What the recording begins with: u1 came, published and went.
	a := w.connect(`{"sub":"u1","info":{"n":1}}`, "c")
	b := w.connect(`{"sub":"u2"}`, "c")
	a.Send(ws.OpText, `{"id":3,"publish":{"channel":"c","data":{"x":1}}}`)
	if got := b.next(); !strings.Contains(got, `"pub":{"data":{"x":1},`) {
		t.Fatalf("b got %s", got)
	}
	a.Leave()
	if got := b.next(); !strings.Contains(got, `"leave":{"info":{"user":"u1"`) {
		t.Fatalf("b got %s", got)
	}
	call := regexp.MustCompile(`^API (\w+) (\{.*\}) => 200 (\{.*\})$`)
	calls := 0
	// The recorded node had counted nobody yet; of a subscription, and of counts that are absent when 0, only names count.
	count := regexp.MustCompile(`("num_(?:clients|users|channels|subs)"):\d+`)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch m := call.FindStringSubmatch(line); {
		case m != nil:
			calls++
			status, got := w.post(m[1], m[2])
			want := masked(m[3])
			if got = masked(got); m[1] == "info" {
				got, want = count.ReplaceAllString(got, "$1"), count.ReplaceAllString(want, "$1")
			}
			if status != http.StatusOK || got != want {
				t.Errorf("%s %s\n got %d %s\nwant 200 %s", m[1], m[2], status, got, want)
			}
		case strings.HasPrefix(line, "b <- "):
			pushes, err := strconv.Unquote(line[len("b <- "):])
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range strings.Split(pushes, "\n") {
				if got := b.next(); masked(got) != masked(want) {
					t.Errorf("b got %s\nwant  %s", masked(got), masked(want))
				}
			}
		case line == "b CLOSE 3503 force disconnect":
			if got := b.next(); got != "" || b.code != 3503 || b.why != "force disconnect" {
				t.Errorf("b got %s, closed with %d %s", got, b.code, b.why)
			}
		case line == "API without key 401":
			w.key = ""
			if status, got := w.post("info", "{}"); status != http.StatusUnauthorized {
				t.Errorf("without a key: %d %s", status, got)
			}
		default:
			t.Fatalf("a line that says nothing: %s", line)
		}
	}
	if calls != 14 {
		t.Errorf("the transcript has %d calls, want 14", calls)
	}
}

func TestKey(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	for _, c := range []struct {
		name, header, value, query string
		status                     int
	}{
		{name: "none", status: 401},
		{name: "header", header: "X-API-Key", value: key, status: 200},
		{name: "another", header: "X-API-Key", value: key + "x", status: 401},
		{name: "a part", header: "X-API-Key", value: key[:len(key)-1], status: 401},
		{name: "Authorization", header: "Authorization", value: "apikey " + key, status: 200},
		{name: "Authorization in capitals", header: "Authorization", value: "APIKEY  " + key, status: 200},
		{name: "Authorization, another", header: "Authorization", value: "apikey x", status: 401},
		{name: "Authorization, another scheme", header: "Authorization", value: "Bearer " + key, status: 401},
		{name: "Authorization, no scheme", header: "Authorization", value: key, status: 401},
		{name: "query", query: "?api_key=the+key+of+the%20API", status: 200},
		{name: "query, another", query: "?api_key=x", status: 401},
		{name: "query, empty", query: "?api_key=", status: 401},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://"+w.g.Addr().String()+"/api/info"+c.query, nil)
		r.RequestURI = ""
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		if status, body := w.do(r); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
	}
}

// answer has a handler answer a request directly.
func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestNoKey(t *testing.T) {
	w := newWorld(t, Options{Insecure: true})
	of := func(o Options) http.Handler {
		o.Gateway = func() Gateway { return w.g }
		return New(o)
	}
	post := func(h http.Handler, header ...string) int {
		r := httptest.NewRequest(http.MethodPost, "http://localhost:8000/api/info", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return answer(h, r).Code
	}
	if got := post(of(Options{})); got != 401 {
		t.Errorf("no key is set, and none shown: %d, want 401", got)
	}
	if got := post(of(Options{}), "X-API-Key", ""); got != 401 {
		t.Errorf("no key is set, and an empty one shown: %d, want 401", got)
	}
	insecure := of(Options{Insecure: true, Key: key})
	if got := post(insecure); got != 200 {
		t.Errorf("insecure: %d, want 200", got)
	}
	if got := post(insecure, "Origin", "http://localhost:8000"); got != 200 {
		t.Errorf("insecure, from a page of ours: %d, want 200", got)
	}
	if got := post(insecure, "Origin", "https://evil.example"); got != 403 {
		t.Errorf("insecure, from a page of others: %d, want 403", got)
	}
	if got := post(insecure, "Sec-Fetch-Site", "cross-site"); got != 403 {
		t.Errorf("insecure, from a page of others: %d, want 403", got)
	}
	if got := post(of(Options{Key: key}), "X-API-Key", key, "Origin", "https://admin.example"); got != 200 {
		t.Errorf("with a key, from a page of others: %d, want 200", got)
	}
}

// TestHTTP has requests that are wrong as such.
func TestHTTP(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	big := `{"channel":"c","data":"` + strings.Repeat("x", 2<<20) + `"}`
	for _, c := range []struct {
		name, http, path, body string
		status                 int
	}{
		{"GET", "GET", "/api/publish", "", 405},
		{"PUT", "PUT", "/api/publish", `{"channel":"c","data":1}`, 405},
		{"POST to the document", "POST", "/api/openapi.json", "", 405},
		{"no method", "POST", "/api/", "{}", 404},
		{"unknown", "POST", "/api/map_publish", "{}", 404},
		{"below a method", "POST", "/api/publish/x", "{}", 404},
		{"garbage", "POST", "/api/publish", `{"channel"`, 400},
		{"more than one value", "POST", "/api/publish", `{} {}`, 400},
		{"an array", "POST", "/api/publish", `[]`, 400},
		{"a string", "POST", "/api/info", `"x"`, 400},
		{"a channel that is a number", "POST", "/api/publish", `{"channel":1,"data":1}`, 400},
		{"tags that are no strings", "POST", "/api/publish", `{"channel":"c","data":1,"tags":{"a":1}}`, 400},
		{"a limit out of range", "POST", "/api/history", `{"channel":"c","limit":3000000000}`, 400},
		{"not UTF-8", "POST", "/api/publish", "{\"channel\":\"c\",\"data\":\"\xff\"}", 400},
		{"too deep to read", "POST", "/api/publish", `{"channel":"c","data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, 400},
		{"2 MiB", "POST", "/api/publish", big, 413},
		{"2 MiB of space", "POST", "/api/publish", strings.Repeat(" ", 2<<20), 413},
		{"a batch of garbage", "POST", "/api/batch", `{"commands":[{"publish":{"channel":"c","data":1}},{"publish":[]}]}`, 400},
		{"a batch too long", "POST", "/api/batch", `{"commands":[` + strings.Repeat(`{},`, 10_000) + `{}]}`, 400},
		{"a batch that is none", "POST", "/api/batch", `{"commands":{}}`, 400},
	} {
		r, err := http.NewRequest(c.http, "http://"+w.g.Addr().String()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-API-Key", key)
		status, body := w.do(r)
		if status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, brief(body), c.status)
		}
		if len(body) > 300 {
			t.Errorf("%s: an answer of %d bytes", c.name, len(body))
		}
	}
	// Nothing was published by any of it.
	w.want("history", `{"channel":"c","limit":-1}`, `{"result":{"publications":[],"epoch":"X","offset":0}}`)
	w.want("channels", ``, `{"result":{"channels":{}}}`)
}

// TestMistakes has requests that are well formed and cannot be done.
func TestMistakes(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	unknown := `{"error":{"code":102,"message":"unknown channel"}}`
	missing := `{"error":{"code":104,"message":"not found"}}`
	bad := `{"error":{"code":107,"message":"bad request"}}`
	none := `{"error":{"code":108,"message":"not available"}}`
	for _, c := range []struct{ method, body, want string }{
		{"publish", ``, bad},
		{"publish", `{}`, bad},
		{"publish", `null`, bad},
		{"publish", `{"data":1}`, bad},
		{"publish", `{"channel":"","data":1}`, bad},
		{"publish", `{"channel":"c"}`, bad},
		{"publish", `{"channel":"c","b64data":"?"}`, bad},
		{"publish", `{"channel":"c\u0000","data":1}`, bad},
		{"publish", `{"channel":"` + strings.Repeat("x", 256) + `","data":1}`, bad},
		{"publish", `{"channel":"c","data":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, bad},
		{"broadcast", `{"data":1}`, bad},
		{"broadcast", `{"channels":["c"]}`, bad},
		{"broadcast", `{"channels":["","nope:x"],"data":1}`, `{"result":{"responses":[` + bad + `,` + unknown + `]}}`},
		{"subscribe", `{"user":"u"}`, bad},
		{"subscribe", `{"channel":"c"}`, bad},
		{"subscribe", `{"user":"u","channel":"nope:x"}`, unknown},
		{"subscribe", `{"user":"u","session":"s","channel":"c"}`, none},
		{"subscribe", `{"user":"u","channel":"c","b64info":"eA=="}`, bad},
		{"subscribe", `{"user":"u","channel":"c","b64data":"?"}`, bad},
		{"subscribe", `{"user":"u","channel":"c","expire_at":-1}`, bad},
		{"subscribe", `{"user":"u","channel":"c","expire_at":4294967296}`, bad},
		{"unsubscribe", `{"user":"u"}`, bad},
		{"unsubscribe", `{"channel":"c"}`, bad},
		{"unsubscribe", `{"user":"u","channel":"c","session":"s"}`, none},
		{"disconnect", `{}`, bad},
		{"disconnect", `{"user":"u","session":"s"}`, none},
		{"disconnect", `{"user":"u","disconnect":{"code":1000}}`, bad},
		{"disconnect", `{"user":"u","disconnect":{"code":69000}}`, bad},
		{"refresh", `{}`, bad},
		{"refresh", `{"user":"u","session":"s"}`, none},
		{"refresh", `{"user":"u","expire_at":-5}`, bad},
		{"presence", `{}`, bad},
		{"presence", `{"channel":"nope:x"}`, unknown},
		{"presence", `{"channel":"bare:x"}`, none},
		{"presence_stats", `{"channel":"bare:x"}`, none},
		{"history", `{"channel":"bare:x"}`, none},
		{"history", `{"channel":"c","since":{"offset":1,"epoch":"none"}}`, `{"error":{"code":112,"message":"unrecoverable position"}}`},
		{"history_remove", `{"channel":"bare:x"}`, none},
		{"rpc", `{}`, bad},
		{"rpc", `{"method":"x"}`, missing},
		{"batch", `{}`, `{"replies":[]}`},
		{"batch", `{"commands":[{},null,{"nope":1},{"batch":{"commands":[]}},{"publish":{}}]}`, `{"replies":[` + missing + `,` + missing + `,` + missing + `,` + missing + `,` + bad + `]}`},
		{"batch", `{"commands":[{"info":{},"publish":{"channel":"c","data":1}}]}`, `{"replies":[` + bad + `]}`},
		// A user whom nobody is connected as is no mistake.
		{"subscribe", `{"user":"nobody","channel":"c"}`, `{"result":{}}`},
		{"unsubscribe", `{"client":"no id","channel":"c"}`, `{"result":{}}`},
		{"disconnect", `{"user":"nobody"}`, `{"result":{}}`},
		{"refresh", `{"user":"nobody","expired":true}`, `{"result":{}}`},
		{"presence", `{"channel":"c"}`, `{"result":{"presence":{}}}`},
		{"presence_stats", `{"channel":"c"}`, `{"result":{"num_clients":0,"num_users":0}}`},
	} {
		w.want(c.method, c.body, c.want)
	}
	w.want("history", `{"channel":"c","limit":-1}`, `{"result":{"publications":[],"epoch":"X","offset":0}}`)
}

// TestPublications follows what is published to a client and into history.
func TestPublications(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	c := w.dial("/ws?subscribe=c")
	if got := c.next(); !strings.Contains(got, `"subscribed"`) {
		t.Fatalf("subscribe: %s", got)
	}
	if got := c.next(); !strings.Contains(got, `"join"`) {
		t.Fatalf("subscribe: %s", got)
	}
	n := 0
	for _, p := range []struct{ body, data string }{
		{`{"channel":"c","data":{"html":"<b>&amp;</b>", "n" : 1e400}}`, `{"html":"<b>&amp;</b>","n":1e400}`},
		{"{\"channel\":\"c\",\"data\":[1,\n2]}", `[1,2]`},
		{`{"channel":"c","data":null}`, `null`},
		{`{"channel":"c","data":"\ud83d\ude00\u2028"}`, `"\ud83d\ude00\u2028"`},
		{`{"channel":"d","channel":"c","data":1,"data":2}`, `2`}, // the last one holds
		{`{"channel":"c","data":3,"b64data":"NA==","unknown":{"a":[]}}`, `4`},
		{`{"channel":"c","data":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, strings.Repeat("[", 500) + strings.Repeat("]", 500)},
	} {
		n++
		w.want("publish", p.body, fmt.Sprintf(`{"result":{"offset":%d,"epoch":"X"}}`, n))
		if got := c.next(); !strings.Contains(got, `"data":`+p.data+`,"offset"`) {
			t.Errorf("%s reached the client as %s", p.body, brief(got))
		}
		w.want("history", `{"channel":"c","limit":1,"reverse":true}`, fmt.Sprintf(`{"result":{"publications":[{"data":%s,"offset":%d}],"epoch":"X","offset":%d}}`, p.data, n, n))
	}
	// A key makes a second request harmless.
	once := `{"channel":"c","data":"once","idempotency_key":"k","tags":{"b":"2","a":"1"}}`
	for range 2 {
		w.want("publish", once, `{"result":{"offset":8,"epoch":"X"}}`)
	}
	if got := c.next(); !strings.Contains(got, `"data":"once"`) {
		t.Errorf("the client got %s", got)
	}
	w.want("publish", `{"channel":"c","data":"fleeting","skip_history":true}`, `{"result":{}}`)
	if got := c.next(); !strings.Contains(got, `"data":"fleeting"`) {
		t.Errorf("the client got %s", got)
	}
	w.want("publish", `{"channel":"bare:x","data":1,"delta":true}`, `{"result":{}}`)
	w.want("history", `{"channel":"c","since":{"offset":7},"limit":-1}`, `{"result":{"publications":[{"data":"once","offset":8,"tags":{"a":"1","b":"2"}}],"epoch":"X","offset":8}}`)
	w.want("history", `{"channel":"c"}`, `{"result":{"publications":[],"epoch":"X","offset":8}}`)
	w.want("history_remove", `{"channel":"c"}`, `{"result":{}}`)
	w.want("history", `{"channel":"c","limit":-1}`, `{"result":{"publications":[],"epoch":"X","offset":8}}`)
	// What is no JSON ends those who speak it.
	w.want("publish", `{"channel":"c","b64data":"/w=="}`, `{"result":{"offset":9,"epoch":"X"}}`)
	if got := c.next(); got != "" || c.code != 3506 {
		t.Errorf("the client got %s, code %d; want 3506", got, c.code)
	}
	w.want("history", `{"channel":"c","limit":-1}`, `{"result":{"publications":[{"b64data":"/w==","offset":9}],"epoch":"X","offset":9}}`)
}

// TestSessions follows what is done to the sessions of a user, and of nobody else.
func TestSessions(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	other := w.connect(`{"sub":"u2"}`, "quiet")
	u := w.connect(`{"sub":"u1"}`, "c")
	done := `{"result":{}}`
	for n := 1; n <= 3; n++ {
		w.want("publish", fmt.Sprintf(`{"channel":"s","data":%d}`, n), fmt.Sprintf(`{"result":{"offset":%d,"epoch":"X"}}`, n))
	}
	w.want("subscribe", `{"user":"u1","channel":"s","info":{"role":"x"},"b64data":"`+base64.StdEncoding.EncodeToString([]byte(`{"hi": 1}`))+`","recover_since":{"offset":2},"expire_at":4102444800}`, done)
	// The position that was given, and then what came after it.
	if got, want := masked(u.next()), `{"push":{"channel":"s","subscribe":{"recoverable":true,"epoch":"X","offset":2,"positioned":true,"data":{"hi":1}}}}`; got != want {
		t.Errorf("subscribe: %s, want %s", got, want)
	}
	if got, want := u.next(), `{"push":{"channel":"s","pub":{"data":3,"offset":3}}}`; got != want {
		t.Errorf("subscribe: %s, want %s", got, want)
	}
	if got := u.next(); !strings.Contains(got, `"join"`) || !strings.Contains(got, `"chan_info":{"role":"x"}`) {
		t.Errorf("subscribe: %s", got)
	}
	off := `{"value":false}`
	w.want("subscribe", `{"user":"u1","channel":"plain","override":{"presence":`+off+`,"join_leave":`+off+`,"force_recovery":`+off+`,"force_positioning":`+off+`,"force_push_join_leave":`+off+`}}`, done)
	if got := u.next(); got != `{"push":{"channel":"plain","subscribe":{}}}` {
		t.Errorf("subscribe without anything: %s", got)
	}
	w.want("presence", `{"channel":"plain"}`, `{"result":{"presence":{}}}`)
	w.want("refresh", `{"user":"u1","info":{"level":2}}`, done)
	if got := u.next(); got != `{"push":{"refresh":{}}}` {
		t.Errorf("refresh: %s", got)
	}
	w.want("disconnect", `{"user":"u1","disconnect":{"code":4100,"reason":"bye"}}`, done)
	if got := u.next(); got != "" || u.code != 4100 || u.why != "bye" {
		t.Errorf("disconnect: %s, code %d %s", got, u.code, u.why)
	}
	// The session that was meant, and by its id.
	w.want("presence_stats", `{"channel":"quiet"}`, `{"result":{"num_clients":1,"num_users":1}}`)
	_, text := w.post("presence", `{"channel":"quiet"}`)
	id := masks[0].re.FindString(text)
	if id == "" {
		t.Fatalf("presence: %s", text)
	}
	w.want("disconnect", `{"user":"u1","client":"`+id+`"}`, done) // not that user's
	w.want("disconnect", `{"user":"u2","whitelist":["`+id+`"]}`, done)
	w.want("refresh", `{"client":"`+id+`","expired":true}`, done)
	if got := other.next(); got != "" || other.code != 3005 {
		t.Errorf("refresh of what expired: %s, code %d; want 3005", got, other.code)
	}
}

func TestBatch(t *testing.T) {
	w := newWorld(t, Options{Key: key})
	w.want("batch", `{"commands":[{"publish":{"channel":"c","data":1}},{"later":true,"history":{"channel":"c","limit":1}},{"unsubscribe":{"user":"u","channel":"c"}},{"broadcast":{"channels":["c","nope:x"],"data":2}}]}`,
		`{"replies":[{"publish":{"offset":1,"epoch":"X"}},{"history":{"publications":[{"data":1,"offset":1}],"epoch":"X","offset":1}},{"unsubscribe":{}},`+
			`{"broadcast":{"responses":[{"result":{"offset":2,"epoch":"X"}},{"error":{"code":102,"message":"unknown channel"}}]}}]}`)
	// All at once, and each answer in its place.
	commands, replies := make([]string, 300), make([]string, 300)
	for i := range commands {
		commands[i] = fmt.Sprintf(`{"publish":{"channel":"p%d","data":1}}`, i)
		replies[i] = `{"publish":{"offset":1,"epoch":"X"}}`
		if i%7 == 0 {
			commands[i], replies[i] = `{"presence":{"channel":"bare:x"}}`, `{"error":{"code":108,"message":"not available"}}`
		}
	}
	w.want("batch", `{"parallel":true,"commands":[`+strings.Join(commands, ",")+`]}`, `{"replies":[`+strings.Join(replies, ",")+`]}`)
}

func TestRPC(t *testing.T) {
	w := newWorld(t, Options{Key: key, RPC: func(_ context.Context, method string, params []byte) ([]byte, error) {
		switch method {
		case "echo":
			return params, nil
		case "refuse":
			return nil, &Error{Code: 400, Message: "no"}
		case "garbage":
			return []byte("{"), nil
		}
		return nil, errors.New("a secret of the application")
	}})
	w.want("rpc", `{"method":"echo","params":{"a": "<"}}`, `{"result":{"data":{"a":"<"}}}`)
	w.want("rpc", `{"method":"echo"}`, `{"result":{}}`)
	w.want("rpc", `{"method":"refuse"}`, `{"error":{"code":400,"message":"no"}}`)
	w.want("rpc", `{"method":"garbage"}`, `{"error":{"code":100,"message":"internal server error"}}`)
	w.want("rpc", `{"method":"fail"}`, `{"error":{"code":100,"message":"internal server error"}}`)
}

// TestAway has requests come to a gateway before it runs, while it drains, and when it is closed.
func TestAway(t *testing.T) {
	var g *longwire.Gateway
	h := New(Options{Insecure: true, Gateway: func() Gateway { return g }})
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Channels: open})
	if err != nil {
		t.Fatal(err)
	}
	all := func(stage string, status int) {
		t.Helper()
		for name := range methods {
			rec := answer(h, httptest.NewRequest(http.MethodPost, Prefix+name, strings.NewReader(`{"channel":"c","channels":["c"],"data":1,"user":"u","method":"m"}`)))
			if rec.Code != status {
				t.Errorf("%s: %s: %d %s, want %d", stage, name, rec.Code, rec.Body, status)
			}
			if status == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") == "" {
				t.Errorf("%s: %s: no Retry-After", stage, name)
			}
		}
	}
	all("before Start", 503)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	all("running", 200)
	if err := g.Drain(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	all("after Drain", 503)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	all("after Close", 503)
	if rec := answer(h, httptest.NewRequest(http.MethodPost, "/api/batch", strings.NewReader(`{"commands":[{"info":{}}]}`))); rec.Code != 503 {
		t.Errorf("batch after Close: %d", rec.Code)
	}
}

// leaving is a gateway that goes away between the question and the answer.
type leaving struct {
	Gateway
	asked bool
}

func (l *leaving) Ready() bool { return !l.asked }

func (l *leaving) Presence(context.Context, string) (map[string]*engine.ClientInfo, error) {
	l.asked = true
	return nil, longwire.ErrClosed
}

func TestLeaving(t *testing.T) {
	l := new(leaving)
	h := New(Options{Insecure: true, Gateway: func() Gateway { return l }})
	if rec := answer(h, httptest.NewRequest(http.MethodPost, "/api/presence", strings.NewReader(`{}`))); rec.Code != 503 {
		t.Errorf("%d %s, want 503", rec.Code, rec.Body)
	}
	l.asked = false
	rec := answer(h, httptest.NewRequest(http.MethodPost, "/api/batch", strings.NewReader(`{"commands":[{"presence":{}}]}`)))
	if got, want := rec.Body.String(), `{"replies":[{"error":{"code":100,"message":"internal server error"}}]}`; rec.Code != 200 || got != want {
		t.Errorf("%d %s, want %s", rec.Code, got, want)
	}
}
