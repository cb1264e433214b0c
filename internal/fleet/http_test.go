package fleet_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// asker is a speaker of HTTP: each client asks one thing after the other, over as many conns as that takes. All of it
// belongs to its loop's thread.
type asker struct {
	asks    []ask
	rounds  int         // of asks, for each client
	next    map[int]int // by client: what it asks, or has asked
	answers int
	wrong   []string
}

type ask struct {
	request string
	status  int  // 0: none, the conn is over
	ends    bool // the conn ends with the answer
}

func (s *asker) say(c fleet.Client) {
	if n := s.next[c.Number]; n < s.rounds*len(s.asks) {
		c.Say(0, []byte(s.asks[n%len(s.asks)].request))
	}
}

func (s *asker) Opened(c fleet.Client) {
	if s.asks != nil {
		s.say(c)
	}
}
func (s *asker) Heard(fleet.Client, ws.Opcode, []byte) {
	s.wrong = append(s.wrong, "a message over HTTP")
}
func (s *asker) Gone(n int) {
	if s.asks != nil && s.asks[s.next[n]%len(s.asks)].status == 0 {
		s.next[n]++
	}
}
func (s *asker) Answered(c fleet.Client, status int) {
	n := s.next[c.Number]
	a := s.asks[n%len(s.asks)]
	if n >= s.rounds*len(s.asks) || status != a.status || c.Stands() == a.ends {
		s.wrong = append(s.wrong, fmt.Sprintf("ask %d of client %d, %q: %d, stands: %t", n, c.Number, a.request, status, c.Stands()))
	}
	s.next[c.Number]++
	s.answers++
	if !a.ends {
		s.say(c)
	}
}

// web is a server of net/http with each way to frame a response.
func web(t *testing.T, secure bool) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "300000")
		_, _ = w.Write(bytes.Repeat([]byte("x"), 300_000))
	})
	mux.HandleFunc("/chunks", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		for range 20 {
			_, _ = w.Write(bytes.Repeat([]byte("y"), 777))
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Sum", "1")
		w.Header().Set(http.TrailerPrefix+"Late", "2")
	})
	mux.HandleFunc("/status/{n}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		_, _ = fmt.Sscan(r.PathValue("n"), &n)
		w.WriteHeader(n)
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }) // it asks for the body
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "bye")
	})
	raw := func(answer string, end bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, b, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			for _, x := range []byte(answer) {
				if _, err := c.Write([]byte{x}); err != nil {
					return
				}
			}
			if !end {
				_, _ = io.Copy(io.Discard, b)
			}
		}
	}
	mux.HandleFunc("/rest", raw("HTTP/1.1 200 OK\r\n\r\nthis is all", true))
	mux.HandleFunc("/bytes", raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 203 Mixed\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n", false))
	mux.HandleFunc("/bytes/length", raw("HTTP/1.1 203 Mixed\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", false))
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = nobodyLogs()
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func addrOf(s *httptest.Server) netip.AddrPort { return s.Listener.Addr().(*net.TCPAddr).AddrPort() }

func request(method, path, more string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n"
}

var asks = []ask{
	{request("GET", "/length", ""), 200, false},
	{request("GET", "/status/404", ""), 404, false},
	{request("GET", "/chunks", ""), 200, false},
	{request("GET", "/large", ""), 200, false},
	{request("GET", "/status/204", ""), 204, false},
	{request("GET", "/status/304", ""), 304, false},
	{request("GET", "/early", ""), 202, false},
	{request("POST", "/upload", "Expect: 100-continue\r\nContent-Length: 5\r\n") + "12345", 200, false},
	{request("GET", "/close", ""), 200, true},
	{request("GET", "/length", "Connection: close\r\n"), 200, true},
	{"GET /length HTTP/1.0\r\n\r\n", 200, true},
	{"GET /chunks HTTP/1.0\r\n\r\n", 200, true},
	{request("GET", "/rest", ""), 200, true},
	{request("GET", "/bytes", ""), 203, true},
	{request("GET", "/bytes/length", ""), 203, true},
}

// converse has each client of a fleet go through asks, and returns what the fleet counted.
func converse(t *testing.T, c fleet.Config, asks []ask, rounds, clients int) fleet.Counts {
	t.Helper()
	ctx := timeout(t)
	c.HTTP, c.Refill, c.Conns = true, true, clients
	c.Speak = func(fleet.Squad) fleet.Speaker { return &asker{asks: asks, rounds: rounds, next: make(map[int]int)} }
	f := startFleet(t, c)
	want := int64(rounds * len(asks) * clients)
	until(t, ctx, f, "all answers", func(c fleet.Counts) bool { f.Aim(clients); return c.Received >= want })
	f.Aim(0)
	until(t, ctx, f, "the end", func(c fleet.Counts) bool { return c.Open == 0 && c.Pending == 0 })
	consistent(t, f)
	err := f.Ask(ctx, func(s fleet.Speaker) {
		for _, w := range s.(*asker).wrong {
			t.Error(w)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return f.Counts()
}

func TestHTTP(t *testing.T) {
	s := web(t, false)
	c := converse(t, fleet.Config{Target: addrOf(s), Loops: 2}, asks, 3, 8)
	ending := int64(0)
	for _, a := range asks {
		if a.ends {
			ending++
		}
	}
	if c.Received != int64(3*len(asks)*8) || len(c.Failed)+len(c.Lost) > 0 || c.Closed < 3*8*ending {
		t.Errorf("%+v: want %d answers, and none lost", c, 3*len(asks)*8)
	}
}

func TestHTTPWithoutBody(t *testing.T) {
	s := web(t, false)
	heads := []ask{
		{request("HEAD", "/length", ""), 200, false},
		{request("HEAD", "/large", ""), 200, false},
		{request("HEAD", "/chunks", ""), 200, false},
		{request("HEAD", "/status/500", ""), 500, false},
		{request("HEAD", "/close", ""), 200, true},
	}
	c := converse(t, fleet.Config{Target: addrOf(s), NoBody: true}, heads, 4, 3)
	if c.Received != 4*5*3 || len(c.Failed)+len(c.Lost) > 0 {
		t.Errorf("%+v", c)
	}
}

// TestHTTPSlowly reads what comes at a rate.
func TestHTTPSlowly(t *testing.T) {
	s := web(t, false)
	c := converse(t, fleet.Config{Target: addrOf(s), ReadRate: 20 << 20}, asks[:9], 2, 3)
	if c.Received != 2*9*3 || len(c.Failed)+len(c.Lost) > 0 {
		t.Errorf("%+v", c)
	}
}

// TestHTTPLosses has each reason for which a conn is lost under a request.
func TestHTTPLosses(t *testing.T) {
	for _, s := range []struct {
		answer string
		reset  bool
		reason string
	}{
		{"220 mail ready\r\n", false, "bad_response"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, "bad_length"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n", false, "bad_chunk"},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, "unasked_upgrade"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nxyz", false, "fin"},
		{"HTTP/1.1 200 OK\r\nContent-Le", false, "fin"},
		{"HTTP/1.1 200 OK\r\n\r\nxyz", true, "reset"},
		{"", true, "reset"},
	} {
		h := serve(t, func(_ int, c *net.TCPConn) {
			_, r, err := head(c)
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, s.answer)
			if s.reset {
				_, _ = io.ReadFull(r, make([]byte, 1)) // it has read the answer
				_ = c.SetLinger(0)
			}
		})
		ctx := timeout(t)
		f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 2, HTTP: true, Speak: func(fleet.Squad) fleet.Speaker {
			return &asker{asks: []ask{{request: request("GET", "/", "")}}, rounds: 1, next: make(map[int]int)}
		}})
		reachable := len(s.answer)
		f.Aim(2)
		if s.reset {
			until(t, ctx, f, "the answer", func(c fleet.Counts) bool { return c.BytesIn == int64(2*reachable) && c.Open == 2 })
			if err := f.Each(ctx, func(c fleet.Client) { c.Say(0, []byte("!")) }); err != nil {
				t.Fatal(err)
			}
		}
		until(t, ctx, f, s.reason, func(c fleet.Counts) bool { return c.Lost[s.reason] == 2 && c.Open == 0 })
		consistent(t, f)
	}
}

// TestHTTPGarbageBehind has bytes that nobody asked for end a conn, but not the answer before them.
func TestHTTPGarbageBehind(t *testing.T) {
	h := serve(t, func(_ int, c *net.TCPConn) {
		if _, r, err := head(c); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxgarbage")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	ctx := timeout(t)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 3, HTTP: true, Speak: func(fleet.Squad) fleet.Speaker {
		return &asker{asks: []ask{{request("GET", "/", ""), 200, false}}, rounds: 1, next: make(map[int]int)}
	}})
	f.Aim(3)
	until(t, ctx, f, "losses", func(c fleet.Counts) bool { return c.Lost["bad_response"] == 3 && c.Open == 0 })
	if c := f.Counts(); c.Received != 3 {
		t.Errorf("%+v, want 3 answers", c)
	}
	consistent(t, f)
}

// TestHTTPIdleEnd: a server that ends a conn between requests loses nothing.
func TestHTTPIdleEnd(t *testing.T) {
	ctx := timeout(t)
	s := web(t, false)
	f := startFleet(t, fleet.Config{Target: addrOf(s), Conns: 4, HTTP: true, Speak: func(fleet.Squad) fleet.Speaker {
		return &asker{asks: asks[:1], rounds: 1, next: make(map[int]int)}
	}})
	f.Aim(4)
	until(t, ctx, f, "answers", func(c fleet.Counts) bool { return c.Received == 4 })
	until(t, ctx, f, "the end", func(c fleet.Counts) bool { s.CloseClientConnections(); return c.Open == 0 })
	if c := f.Counts(); c.Closed != 4 || len(c.Lost) > 0 {
		t.Errorf("%+v, want 4 closed", c)
	}
}
