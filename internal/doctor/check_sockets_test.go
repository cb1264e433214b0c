package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// networkEvidence has twelve looks, a second apart.
func networkEvidence(settings NetworkSettings, sample func(i int) NetworkSample) *Evidence {
	e := &Evidence{Network: settings}
	for i := range 12 {
		e.Process = append(e.Process, ProcessSample{At: time.Duration(i) * time.Second, Descriptors: map[string]int{"socket": 10}, Network: sample(i)})
	}
	return e
}

func TestAcceptQueues(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:8080")
	of := func(backlog uint32, queue, lost func(i int) int) *Evidence {
		return networkEvidence(NetworkSettings{Backlogs: map[uint64]uint32{55: backlog}}, func(i int) NetworkSample {
			return NetworkSample{Overflows: uint64(3 * i), SynCookies: uint64(i), Listeners: []ListenerSample{{Addr: addr, Inode: 55, Queue: queue(i), HalfOpen: lost(i), Unanswered: lost(i)}}}
		})
	}
	none := func(int) int { return 0 }
	for _, c := range []struct {
		name     string
		e        *Evidence
		want     string
		severity Severity
		evidence string
	}{
		{"empty", of(128, none, none), "", 0, ""},
		{"a few at some looks", of(128, func(i int) int { return 7 * (i % 3) }, none), "", 0, ""},
		{"a rush that is accepted", of(128, func(i int) int { return map[bool]int{true: 129}[i >= 3 && i < 6] }, none), "", 0, ""},
		{"full", of(128, func(i int) int { return min(129, 40*i) }, none), "the accept queue of 127.0.0.1:8080 is full: 129 connections wait, its limit is 128", Critical, "full 33 times meanwhile"},
		{"more and more", of(4096, func(i int) int { return 20 * i }, none), "connections to 127.0.0.1:8080 wait to be accepted, more and more: 220 now, 0 at first", Major, "limit of the queue: 4096"},
		{"nobody accepts, and nobody comes", of(0, func(int) int { return 30 }, none), "wait to be accepted: 30 now, 30 or more at every look", Major, "limit of the queue: unknown"},
		{"half-open ones on their way", of(128, none, func(i int) int { return 10 * (i % 4) }), "", 0, ""},
		{"half-open ones without an answer", of(128, none, func(i int) int { return 30 * i }), "330 connections to 127.0.0.1:8080 are half-open (SYN_RECV)", Major, "answered 11 others by cookies"},
		{"half-open ones for want of room", of(128, func(int) int { return 129 }, func(int) int { return 100 }), "is full", Critical, "100 connections are half-open"},
	} {
		r := Examine(c.e)
		if c.want == "" {
			if r.Found() {
				t.Errorf("%s: %+v", c.name, r.Findings)
			}
			continue
		}
		if len(r.Findings) != 1 {
			t.Errorf("%s: %+v, want one finding", c.name, r.Findings)
			continue
		}
		f := r.Findings[0]
		if !strings.Contains(f.Sentence, c.want) || f.Severity != c.severity || !strings.Contains(strings.Join(f.Evidence, "\n"), c.evidence) || f.Advice == "" {
			t.Errorf("%s: %+v, want %q, %v, %q", c.name, f, c.want, c.severity, c.evidence)
		}
	}
}

func TestDialledPorts(t *testing.T) {
	far, near, other := netip.MustParseAddrPort("192.0.2.1:5432"), netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("192.0.2.2:80")
	const ports = 28232
	of := func(addr netip.AddrPort, seen bool, reuse uint64, count func(i int) int) *Evidence {
		return networkEvidence(NetworkSettings{Ports: ports, TimeWaitReuse: reuse}, func(i int) NetworkSample {
			n := NetworkSample{Spent: map[netip.AddrPort]int{addr: count(i), other: 3}}
			if seen && i == 5 {
				n.Dialled = map[netip.AddrPort]int{addr: 1}
			}
			return n
		})
	}
	// dialling allocates for the process, or for another.
	dialling := func(e *Evidence, bytes int64) *Evidence {
		stack := []Frame{{Function: "runtime.mallocgc", File: "/go/src/runtime/malloc.go", Line: 1}, {Function: "net.(*sysDialer).dialTCP", File: "/go/src/net/dial.go", Line: 1}, {Function: "main.ask", File: "/src/main.go", Line: 12}}
		e.Heap = []HeapSample{{Rate: 512 << 10, Sites: []HeapSite{{Frames: stack}}}, {At: 11 * time.Second, Rate: 512 << 10, Sites: []HeapSite{{Frames: stack, AllocBytes: bytes}}}}
		return e
	}
	// elsewhere has the process seen with a connection to another address, or another process with one to this.
	elsewhere := func(e *Evidence, dialled, shared netip.AddrPort) *Evidence {
		e.Process[3].Network.Dialled = map[netip.AddrPort]int{dialled: 1}
		e.Process[4].Network.Shared = map[netip.AddrPort]bool{shared: true}
		e.Process[5].Network.Shared = map[netip.AddrPort]bool{shared: true}
		return e
	}
	// listening has the process listen to the address.
	listening := func(e *Evidence, addr netip.AddrPort) *Evidence {
		for i := range e.Process {
			e.Process[i].Network.Listeners = []ListenerSample{{Addr: addr, Inode: 7}}
		}
		return e
	}
	steady := func(n int) func(int) int { return func(i int) int { return n * i } }
	for _, c := range []struct {
		name     string
		e        *Evidence
		want     string
		severity Severity
		line     int
	}{
		{"some", of(far, true, 2, steady(5)), "", 0, 0},
		{"a rush that is over", of(far, true, 2, func(i int) int { return 3000 - 100*i }), "", 0, 0},
		{"left of a rush", of(far, true, 2, func(int) int { return 3000 }), "", 0, 0},
		{"a rush", of(far, true, 2, func(i int) int { return 3000 * (i / 6) }), "", 0, 0},
		{"others'", of(far, false, 2, steady(500)), "", 0, 0},
		{"others', to where the process has a connection too", dialling(of(far, true, 2, steady(500)), 0), "", 0, 0},
		{"others', while the process dials another address", elsewhere(dialling(of(far, false, 2, steady(500)), 6<<20), near, near), "", 0, 0},
		{"others', who are seen", func() *Evidence {
			e := elsewhere(dialling(of(far, false, 2, steady(500)), 6<<20), near, far)
			e.Process[3].Network.Dialled = nil
			return e
		}(), "", 0, 0},
		{"hardly one left", of(far, true, 2, func(i int) int { return 28_000 + i%3 }), "there is hardly one left", Critical, 0},
		{"will run out", of(far, true, 2, steady(500)), "5500 connections to 192.0.2.1:5432 that were closed hold a local port each (TIME_WAIT): the program dials anew about 500 times a second; the ports run out", Major, 0},
		{"more than half of them", of(far, true, 2, steady(300)), "; that takes more than half of the ports", Major, 0},
		{"not seen, but it allocates", dialling(of(far, false, 2, steady(500)), 6<<20), "it is dialled for each use: main.go:12", Major, 12},
		{"its own clients'", listening(dialling(of(near, false, 2, steady(500)), 0), near), "", 0, 0},
		{"it is its own client", elsewhere(listening(dialling(of(near, false, 2, steady(500)), 6<<20), near), far, near), "127.0.0.1:5432", Minor, 12},
		{"they will do", of(far, true, 2, steady(200)), "", 0, 0},
		{"given out again on loopback", of(near, true, 2, steady(500)), "about 500 times a second", Minor, 0},
		{"given out again everywhere", of(far, true, 1, steady(500)), "about 500 times a second", Minor, 0},
	} {
		r := Examine(c.e)
		if c.want == "" {
			if r.Found() {
				t.Errorf("%s: %+v", c.name, r.Findings)
			}
			continue
		}
		if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Sentence, c.want) || r.Findings[0].Severity != c.severity || r.Findings[0].Line.Line != c.line || r.Findings[0].Advice == "" {
			t.Errorf("%s: %+v, want %q, %v, line %d", c.name, r.Findings, c.want, c.severity, c.line)
		}
	}
}

// sourceOf is a program of one file, and the number of the line with a mark.
func sourceOf(t *testing.T, body string) (e *Evidence, s *Source, mark int) {
	t.Helper()
	text := "package main\n\n" + body
	for i, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "// HERE") {
			mark = i + 1
		}
	}
	frame := Frame{Function: "main.main", File: "/src/main.go", Line: 3}
	e = &Evidence{Build: Build{Module: "example.com/app"}, Goroutines: []GoroutineDump{{Goroutines: []Goroutine{{ID: 1, State: "IO wait", Frames: []Frame{frame}}}}}}
	s = LoadSource(fstest.MapFS{"src/main.go": {Data: []byte(text)}, "src/go.mod": {Data: []byte("module example.com/app\n")}}, "", e.places(), []Frame{frame})
	if s == nil {
		t.Fatal("no source")
	}
	e.Source = s
	return e, s, mark
}

// TestRedials finds the line for which a connection serves once.
func TestRedials(t *testing.T) {
	const imports = "import (\n\t\"io\"\n\t\"net\"\n\t\"net/http\"\n)\n\n"
	for name, body := range map[string]string{
		"keep-alive is off": `var client = &http.Client{Transport: &http.Transport{
	MaxIdleConns:      10,
	DisableKeepAlives: true, // HERE
}}`,
		"keep-alive is set off": `func main() {
	t := &http.Transport{}
	t.DisableKeepAlives = true // HERE
}`,
		"a transport for each": `func ask() {
	c := &http.Client{Transport: &http.Transport{}} // HERE
	_, _ = c.Get("http://a")
}
func main() { ask() }`,
		"a copy of the transport for each": `func ask() {
	t := http.DefaultTransport.(*http.Transport).Clone() // HERE
	_, _ = t.RoundTrip(nil)
}
func main() { ask() }`,
		"the request wants it closed": `func ask(c *http.Client) {
	req, _ := http.NewRequest("GET", "http://a", nil)
	req.Close = true // HERE
	resp, _ := c.Do(req)
	_, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
}
func main() { ask(nil) }`,
		"the header wants it closed": `func ask(req *http.Request) {
	req.Header.Set("connection", "close") // HERE
}
func main() { ask(nil) }`,
		"closed before it is read": `func ask() int {
	resp, err := http.Get("http://a") // HERE
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
func main() { ask() }`,
		"a dial for each": `func ask() {
	c, err := net.Dial("tcp", "a:1") // HERE
	if err == nil {
		_ = c.Close()
	}
}
func main() { ask() }`,
		"nothing of the kind": `var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
func ask(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	resp, _ := client.Get("http://a")
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}
func main() { ask(nil) }`,
	} {
		e, s, mark := sourceOf(t, imports+body)
		if line, _, why, advice := s.redials(e, e.places(), dials{}); line.Line != mark || (why == "") != (mark == 0) || advice == "" {
			t.Errorf("%s: line %d (%s; %s), want %d", name, line.Line, why, advice, mark)
		}
	}
}

// TestAcceptor finds what keeps a program from accepting.
func TestAcceptor(t *testing.T) {
	const imports = "import \"net\"\n\n"
	for _, c := range []struct {
		name, body string
		stands     string // the function of the goroutine that stands on the marked line; "" for none
	}{
		{"handled in the loop", `func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		handle(c) // HERE
	}
}
func handle(net.Conn) {}
func main() { serve(nil) }`, "main.serve"},
		{"in a literal", `func main() {
	go func(ln net.Listener, slots chan int) {
		for {
			slots <- 1 // HERE
			_, _ = ln.Accept()
		}
	}(nil, nil)
}`, "main.main.func1"},
		{"left the loop", `func serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // HERE
		}
		_ = c.Close()
	}
}
func main() { serve(nil) }`, ""},
		{"never accepted", `var keep net.Listener
func main() {
	ln, err := net.Listen("tcp", ":1") // HERE
	_, _ = ln.Addr(), err
	select {}
}`, ""},
		{"handed on", `func main() {
	ln, _ := net.Listen("tcp", ":1")
	serve(ln)
}
func serve(net.Listener) {}`, ""},
	} {
		e, s, mark := sourceOf(t, imports+c.body)
		if c.stands != "" {
			e.Goroutines[0].Goroutines = append(e.Goroutines[0].Goroutines, Goroutine{ID: 7, State: "select", Frames: []Frame{{Function: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 1}, {Function: c.stands, File: "/src/main.go", Line: mark}}})
		}
		if line, says, _ := s.acceptor(e, e.places()); line.Line != mark || (says == "") != (mark == 0) {
			t.Errorf("%s: line %d (%s), want %d", c.name, line.Line, says, mark)
		}
	}
	// A listener of others that lets so many in, and the line that gave it to a server.
	e, s, _ := sourceOf(t, imports+"func main() {}")
	e.Goroutines[0].Goroutines = []Goroutine{{ID: 1, State: "select", Frames: []Frame{
		{Function: "runtime.gopark", File: "/go/src/runtime/proc.go", Line: 1},
		{Function: "golang.org/x/net/netutil.(*limitListener).acquire", File: "/home/a/go/pkg/mod/golang.org/x/net@v0.1.0/netutil/listen.go", Line: 5},
		{Function: "golang.org/x/net/netutil.(*limitListener).Accept", File: "/home/a/go/pkg/mod/golang.org/x/net@v0.1.0/netutil/listen.go", Line: 9},
		{Function: "net/http.(*Server).Serve", File: "/go/src/net/http/server.go", Line: 3},
		{Function: "main.main", File: "/src/main.go", Line: 3},
	}}}
	if line, says, _ := s.acceptor(e, e.places()); line.Line != 3 || says == "" {
		t.Errorf("a limit of others: %+v, %q", line, says)
	}
}
