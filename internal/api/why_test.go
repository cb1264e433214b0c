package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire"
)

// TestWhy asks about a client that closed and came back.
func TestWhy(t *testing.T) {
	d := read(t)
	w := newWorld(t, Options{Key: key})
	p := w.connect(`{"sub":"42"}`, "news")
	p.SendClose(4000, "")
	for p.next() != "" {
	}
	w.connect(`{"sub":"42"}`, "news")
	type answer struct {
		Result struct {
			Spans []longwire.Span `json:"spans"`
			From  time.Time       `json:"from"`
		} `json:"result"`
	}
	ask := func(body string) (a answer) {
		t.Helper()
		status, text := w.post("why", body)
		if err := d.check("answer", schema{Ref: "#/components/schemas/why.result"}, decode(t, []byte(text)).(map[string]any)["result"]); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := json.Unmarshal([]byte(text), &a); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s: %v", status, text, err)
		}
		return a
	}
	a := ask(`{"cause":"client_close","since":"1m"}`)
	if len(a.Result.Spans) != 1 {
		t.Fatalf("%+v", a)
	}
	s := a.Result.Spans[0]
	if s.User != "42" || s.Open || s.Cause != "client_close" || s.Code != 4000 || s.Evidence == nil || s.Evidence.CloseSent != 4000 || s.Evidence.CloseReceived != 4000 || s.Kernel != nil || !strings.HasPrefix(s.Why, "The client closed it with code 4000. The client came back ") {
		t.Errorf("%+v", s)
	}
	if !a.Result.From.Equal(s.Events[0].Time) {
		t.Errorf("from %v, the first event is of %v", a.Result.From, s.Events[0].Time)
	}
	for body, want := range map[string]int{
		`{}`: 2, ``: 2, `{"limit":1}`: 1, `{"user":"42"}`: 2, `{"user":"43"}`: 0, `{"client":"` + s.Client + `"}`: 1, `{"address":"` + s.Address + `"}`: 1,
		`{"since":"` + time.Now().Add(time.Hour).Format(time.RFC3339) + `"}`: 0, `{"since":"0s"}`: 0, `{"cause":"drain"}`: 0,
	} {
		if got := ask(body); len(got.Result.Spans) != want {
			t.Errorf("%s: %d spans, want %d", body, len(got.Result.Spans), want)
		}
	}
	for body, want := range map[string]string{
		`{"cause":"weather"}`:   `cause \"weather\": want one of client_close, `,
		`{"since":"yesterday"}`: `since \"yesterday\": want how long ago, such as 10m`,
		`{"since":"-5m"}`:       `since \"-5m\": want`,
		`{"client":"-"}`:        `no id of a client`,
		`{"address":"home"}`:    `want one such as 192.0.2.7`,
		`{"trace":"1"}`:         `want 32 hexadecimal digits`,
		`{"limit":5000}`:        `want at most 1000`,
	} {
		if status, got := w.post("why", body); status != http.StatusOK || !strings.HasPrefix(got, `{"error":{"code":107,"message":"bad request: `) || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s, want 107 with %s", body, status, got, want)
		}
	}
	if status, _ := w.post("why", `{"limit":"many"}`); status != http.StatusBadRequest {
		t.Errorf("a limit that is a string: %d, want 400", status)
	}
}

// How long ago is told by a reading that no setting of the clock moves.
func TestWhySince(t *testing.T) {
	now := time.Now()
	q, err := (&whyRequest{Since: "10m"}).question(now)
	if err != nil || now.Sub(q.Since) != 10*time.Minute || q.Since == q.Since.Round(0) {
		t.Errorf("%v, %v", q.Since, err)
	}
}

func TestWhyOff(t *testing.T) {
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 8, Loops: 1, Log: slog.New(slog.DiscardHandler), FlightRecorder: longwire.FlightRecorder{Bytes: -1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	h := New(Options{Gateway: func() Gateway { return g }, Insecure: true})
	rec := answer(h, httptest.NewRequest(http.MethodPost, "/api/why", strings.NewReader("{}")))
	if want := `{"error":{"code":108,"message":"not available: the gateway records nothing (flight-record is none)"}}`; rec.Body.String() != want {
		t.Errorf("%d %s, want %s", rec.Code, rec.Body, want)
	}
}
