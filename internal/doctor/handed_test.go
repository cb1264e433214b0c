package doctor

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// ofServer is the stack on which net/http allocates a connection's buffer, before any handler runs.
var ofServer = []Frame{
	{Function: "bufio.NewReaderSize", File: "/go/src/bufio/bufio.go", Line: 58},
	{Function: "net/http.newBufioReader", File: "/go/src/net/http/server.go", Line: 840},
	{Function: "net/http.(*conn).serve", File: "/go/src/net/http/server.go", Line: 2036},
}

// handedEvidence is of a program whose server's buffers grow by 4 KiB a connection, and which makes an object of so many bytes for
// each at a frame of its own; the profiler samples both as it would.
func handedEvidence(t *testing.T, text string, perSecond, size int) *Evidence {
	t.Helper()
	s, frames, _, _ := loadText(t, text)
	const rate, buffer = 512 << 10, 4 << 10
	// What the profiler says of n objects: it takes one for each rate bytes, here as evenly as may be.
	said := func(n, size int) HeapSite {
		p := -math.Expm1(-float64(size) / rate)
		taken := math.Floor(float64(n) * p)
		objects := int64(taken / p)
		return HeapSite{Objects: objects, Bytes: objects * int64(size), AllocObjects: objects, AllocBytes: objects * int64(size)}
	}
	e := &Evidence{Source: s}
	for i := range 16 {
		n := perSecond * (i + 1)
		server := said(n, buffer)
		server.Frames = ofServer
		h := HeapSample{At: time.Duration(i) * time.Second, Rate: rate, Sites: []HeapSite{server}}
		if own := said(n, size); own.Objects > 0 {
			own.Frames = append([]Frame{{Function: "runtime.mallocgc", File: "/go/src/runtime/malloc.go", Line: 1}}, frames...)
			h.Sites = append(h.Sites, own)
		}
		e.Heap = append(e.Heap, h)
		e.Counts = append(e.Counts, GoroutineCounts{At: h.At, Total: 1, Stacks: []Stack{{Frames: frames, Count: 1}}})
	}
	return e
}

// TestHanded looks at programs that keep what net/http handed to them: the memory is allocated where none of their lines is on the stack,
// and their own share of it is too small to be sampled, or is sampled a few times.
func TestHanded(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"a connection in a map", `package main
import ("net/http"; "sync"; "github.com/gorilla/websocket")
type gateway struct { mu sync.Mutex; up websocket.Upgrader; conns map[*websocket.Conn]struct{}; seen map[string]int }
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := g.up.Upgrade(w, r, nil) // frame 0
	if err != nil {
		return
	}
	g.conns[c] = struct{}{} // KEPT
	defer c.Close()
	for {
		if _, _, err := c.ReadMessage(); err != nil { return }
	}
}`},
		{"a connection in a session in a map, two calls away", `package main
import ("net/http"; "github.com/coder/websocket")
type session struct { conn *websocket.Conn; user string }
type hub struct { byUser map[string]*session }
func (h *hub) join(s *session) {
	h.byUser[s.user] = s // KEPT
}
func newSession(c *websocket.Conn, user string) *session {
	return &session{conn: c, user: user}
}
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil { return }
	h.join(newSession(c, "x")) // frame 0
}`},
		{"a request in a slice, of a list that is held to a limit and one that is not", `package main
import "net/http"
var recent, audit []*http.Request
func note(r *http.Request) {
	if len(recent) > 100 { recent = recent[1:] }
	recent = append(recent, r)
	audit = append(audit, r) // KEPT
}
func handle(w http.ResponseWriter, r *http.Request) {
	note(r) // frame 0
	w.WriteHeader(204)
}`},
		{"two maps, one of which is cleaned", `package main
import ("net/http"; "net")
var open = map[net.Conn]bool{}
var byAddr = map[string]net.Conn{}
func handle(w http.ResponseWriter, r *http.Request) {
	c, _, err := w.(http.Hijacker).Hijack() // frame 0
	if err != nil { return }
	open[c] = true
	byAddr[c.RemoteAddr().String()] = c // KEPT
	defer delete(open, c)
	c.Close()
}`},
	} {
		_, _, _, kept := loadText(t, c.text)
		for _, own := range []struct {
			what string
			size int
		}{{"no sample of its own", 1}, {"a few samples of its own", 160}} {
			r := Examine(handedEvidence(t, c.text, 700, own.size))
			if !r.Found() || r.Findings[0].Line.File != "/src/main.go" || !slices.Contains(kept, r.Findings[0].Line.Line) {
				var b bytes.Buffer
				_ = r.WriteText(&b)
				t.Errorf("%s, %s: want line %d first\n%s", c.name, own.what, kept, &b)
			}
		}
	}
	// Of two places that keep the like, the one that ran is meant, be it seen at one look only.
	const two = `package main
import ("net/http"; "net")
var a, b = map[net.Conn]bool{}, map[net.Conn]bool{}
func first(w http.ResponseWriter, r *http.Request) {
	c, _, _ := w.(http.Hijacker).Hijack()
	a[c] = true
}
func second(w http.ResponseWriter, r *http.Request) {
	c, _, _ := w.(http.Hijacker).Hijack() // frame 0
	b[c] = true // KEPT
}`
	e := handedEvidence(t, two, 700, 1)
	_, _, _, kept := loadText(t, two)
	for i := range e.Counts {
		if i != 3 {
			e.Counts[i].Stacks = nil
		}
	}
	if r := Examine(e); !r.Found() || r.Findings[0].Line.Line != kept[0] {
		t.Errorf("seen once: %+v, want line %d", r.Findings, kept)
	}
	// Where the program lets go of all, no line is named.
	const lets = `package main
import ("net/http"; "net")
var open = map[net.Conn]bool{}
func handle(w http.ResponseWriter, r *http.Request) {
	c, _, err := w.(http.Hijacker).Hijack() // frame 0
	if err != nil || len(open) > 1000 { return }
	open[c] = true
	defer delete(open, c)
	c.Close()
}`
	r := Examine(handedEvidence(t, lets, 700, 1))
	if !r.Found() || r.Findings[0].Line.known() || !strings.Contains(r.Findings[0].Sentence, "no line of the program") {
		t.Errorf("kept by nobody that is known: %+v", r.Findings)
	}
}
