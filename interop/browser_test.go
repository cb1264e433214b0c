package interop

import (
	"context"
	_ "embed"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/browsertest"
)

//go:embed testdata/page.html
var page []byte

// TestBrowser has a page of the gateway's own talk to it in Chromium, and reads what the page has written. The
// page's load event waits for an image that comes when the page says that it is done.
func TestBrowser(t *testing.T) {
	b := browsertest.Start(t).Page(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan struct{})
	var once sync.Once
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("GET /hold", func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-done:
		case <-ctx.Done():
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /done", func(http.ResponseWriter, *http.Request) { once.Do(func() { close(done) }) })

	same, private := longwire.Echo("/same"), longwire.Echo("/private")
	same.Origins, private.Origins = nil, []string{"https://elsewhere.example"}
	same.Subprotocols = []string{"v1.example"}
	ended := make(chan longwire.Cause, 10)
	echo := longwire.Echo("/echo")
	echo.OnClose = func(_ longwire.Conn, cause longwire.Cause) { ended <- cause }
	g := serve(t, longwire.Config{HTTP: mux, Endpoints: []longwire.Endpoint{longwire.Plain("/ws"), echo, same, private}})

	b.Navigate("http://" + g.Addr().String() + "/")
	outcome := b.Eval(`return document.getElementById('outcome').textContent`)
	const want = `connected to /ws
{"type":"pong","ts":1700000000000}
/ws closed: 1000 "", clean: true
connected to /echo, extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover
text: grüße, κόσμε, 👋
blob of 3 bytes: 1,2,3
text of 1048576 code units: the same
binary of 1048576 bytes: the same
1000 messages in order
/echo closed: 4321 "", clean: true
connected to /same, protocol: v1.example
/same closed: 1000 "", clean: true
/private failed
`
	if outcome != want {
		t.Errorf("the page says:\n%s\nwant:\n%s", outcome, want)
	}
	if got := <-ended; got != (longwire.Cause{Kind: longwire.CauseClientClose, Code: 4321}) {
		t.Errorf("cause = %v, want client_close with 4321", got)
	}
	if n := g.Stats().Refused["forbidden"]; n != 1 {
		t.Errorf("Refused = %v, want forbidden once", g.Stats().Refused)
	}
}
