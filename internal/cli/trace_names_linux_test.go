package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/trace"
)

// traceEnd is an end as longwire trace --json --url tells it.
type traceEnd struct {
	Kind, Remote, Client, Request, Trace string
	Life                                 struct{ Verdict trace.Verdict }
}

// end reads up to the end of a connection.
func (p *tracing) end(t *testing.T, client net.Addr) (e traceEnd) {
	t.Helper()
	for range 200 {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		e = traceEnd{}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Kind == "ended" && e.Remote == client.String() {
			return e
		}
	}
	t.Fatalf("two hundred events, and no end of %v", client)
	return e
}

// TestTraceURL has longwire trace beside a gateway say whose connections ended, by the gateway's own answers.
func TestTraceURL(t *testing.T) {
	const key, traceID = "a key", "4bf92f3577b34da6a3ce929d0e0e4736"
	server := exec.Command("longwire", "serve", "--addr", "127.0.0.1:0", "--insecure", "--api-key", key, "--max-conns", "64", "--max-memory", "none", "--drain", "off")
	said, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	addr, lines := "", bufio.NewScanner(said)
	for addr == "" && lines.Scan() {
		if m := regexp.MustCompile(`msg"?[=:]"?listening"?[ ,]"?addr"?[=:]"?([0-9.:]+)`).FindStringSubmatch(lines.Text()); m != nil {
			addr = m[1]
		}
	}
	go func() {
		for lines.Scan() {
		}
	}()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	gateway := "http://" + addr
	open := func(request string) *net.TCPConn {
		return upgrade(t, addr, "/ws", request+"\r\nTraceparent: 00-"+traceID+"-00f067aa0ba902b7-01")
	}
	t.Setenv("LONGWIRE_API_KEY", key)

	p := startTracing(t, "--port", port, "--url", gateway, "--json")
	p.needProbes(t)
	var clients []string
	for n := range 3 {
		request := fmt.Sprintf("request %d", n)
		c := open(request)
		_ = c.Close()
		e := p.end(t, c.LocalAddr())
		if e.Life.Verdict != trace.VerdictClientFIN || e.Request != request || e.Trace != traceID || e.Client == "" {
			t.Errorf("the end of %s is %+v", request, e)
		}
		clients = append(clients, e.Client)
	}
	// What is no WebSocket connection has no names.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if e := p.end(t, c.LocalAddr()); e.Client != "" || e.Request != "" {
		t.Errorf("the end of what was no WebSocket connection is %+v", e)
	}
	// The questions are a connection, too. It raises no more questions.
	if more := strings.Count(p.stop(t), `"kind":"ended"`); more > 0 {
		t.Errorf("%d ends more than there were clients", more)
	}
	for n, client := range clients {
		out, err := exec.Command("longwire", "why", "--url", gateway, client).CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf("request   request %d\n", n)) {
			t.Errorf("longwire why %s: %v: %s", client, err, out)
		}
	}

	// For people, and of one connection.
	p = startTracing(t, "--port", port, "--url", gateway)
	c2 := open("request 3")
	_ = c2.Close()
	line := ""
	for n := 0; n < 200 && !strings.Contains(line, c2.LocalAddr().String()+" ") || !strings.Contains(line, " ended, "); n++ {
		if line, err = p.out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(line, "  client=") || !strings.HasSuffix(line, "  request=request 3  trace="+traceID+"\n") {
		t.Errorf("the end is %q", line)
	}
	p.stop(t)
	c2 = open("request 4")
	p = startTracing(t, "--port", port, "--url", gateway, "--conn", c2.LocalAddr().String())
	_ = c2.Close()
	text := p.rest(t)
	for _, want := range []string{"ended, client_fin", "  client          ", "  request         request 4\n", "  trace           " + traceID + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}

	// A gateway that does not answer is a note. Tracing goes on.
	t.Setenv("LONGWIRE_API_KEY", "another")
	c2 = open("request 5")
	cmd := exec.Command("longwire", "trace", "--port", port, "--url", gateway, "--conn", c2.LocalAddr().String())
	info, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	notes := ""
	for s := bufio.NewScanner(info); s.Scan(); {
		if notes += s.Text() + "\n"; strings.Contains(s.Text(), "tracing port") {
			_ = c2.Close()
		}
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(notes, "longwire: a client's names are not to be had: "+gateway+" has another API key\n") {
		t.Errorf("%v: %s", err, notes)
	}
}

// TestTraceNamesBounds: a gateway that answers slowly, or not at all, holds nothing up and is not asked for more than it can do.
func TestTraceNamesBounds(t *testing.T) {
	asked, hold := make(chan struct{}, 1000), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		select {
		case <-hold:
		case <-r.Context().Done(): // nobody waits any more
		}
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer api.Close()
	base, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	written, notes := 0, []string(nil)
	n := traceNames{api: &whyAPI{base: base}, note: func(text string) { notes = append(notes, text) }}
	n.start(func(e *trace.Event) {
		mu.Lock()
		defer mu.Unlock()
		if written++; e.Names != nil || e.Life == nil {
			t.Errorf("an end has the names %+v, the life %p", e.Names, e.Life)
		}
	})
	end := func() bool {
		return n.take(&trace.Event{Kind: trace.KindEnded, Life: &trace.Life{Remote: netip.MustParseAddrPort("192.0.2.1:1")}})
	}
	if !end() {
		t.Fatal("the first end finds no room")
	}
	<-asked
	taken := 1
	for range 10 * namesWait {
		if end() {
			taken++
		}
	}
	if taken != 1+namesWait {
		t.Errorf("%d ends wait, want one that is asked for and %d", taken-1, namesWait)
	}
	close(hold) // it says no: the others are not asked for
	n.stop(patience)
	if written != taken || len(asked) != 0 {
		t.Errorf("%d of %d ends are written, and the gateway was asked %d times more", written, taken, len(asked))
	}
	want := []string{"a client's names are not to be had: " + api.URL + " answers 500 Internal Server Error: out of order", fmt.Sprintf("of %d ends the gateway was not asked: they came too fast", 9*namesWait)}
	if strings.Join(notes, "\n") != strings.Join(want, "\n") {
		t.Errorf("notes are %q, want %q", notes, want)
	}

	// One that never answers is not waited for at the end.
	never := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer never.Close()
	if base, err = url.Parse(never.URL); err != nil {
		t.Fatal(err)
	}
	written = 0
	n = traceNames{api: &whyAPI{base: base}, note: func(text string) { t.Error(text) }}
	n.start(func(*trace.Event) { written++ })
	for range namesWait {
		end()
	}
	<-asked
	n.stop(0)
	if written != namesWait {
		t.Errorf("%d of %d ends are written", written, namesWait)
	}
}

// TestSpanOf: an address is used again, and may be masked.
func TestSpanOf(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	span := func(client, address string, opened time.Duration) longwire.Span {
		return longwire.Span{Client: client, Address: address, Events: []longwire.SpanEvent{{Time: at.Add(opened), Kind: "opened"}}}
	}
	spans := []longwire.Span{
		span("later", "192.0.2.1:5000", time.Hour),
		span("the one", "192.0.2.1:5000", 100*time.Millisecond),
		span("earlier", "192.0.2.1:5000", -time.Hour),
	}
	life := trace.Life{Remote: netip.MustParseAddrPort("192.0.2.1:5000"), Established: at, Closed: at.Add(time.Minute)}
	if s := spanOf(spans, &life); s == nil || s.Client != "the one" {
		t.Errorf("the span is %+v", s)
	}
	life.Established = time.Time{} // it was there before tracing
	if s := spanOf(spans, &life); s == nil || s.Client != "the one" {
		t.Errorf("of an old one the span is %+v", s)
	}
	life.Established = at.Add(30 * time.Second) // another of that address, which was never upgraded
	if s := spanOf(spans, &life); s != nil {
		t.Errorf("of one without a span it is %+v", s)
	}
	if s := spanOf([]longwire.Span{span("masked", "192.0.2.0", 0), {Address: "192.0.2.1:5000"}}, &life); s != nil {
		t.Errorf("a masked span is %+v", s)
	}
}
