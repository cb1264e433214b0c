package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var (
	markFunc  = regexp.MustCompile(`^func (?:\(\w* ?(\*?)(\w+)(?:\[.*\])?\) )?(\w+)`)
	markFrame = regexp.MustCompile(`// frame (\d)(?: below (\S+))?`)
)

// loadText makes a Source of one file, and the stack that its comments describe: "// frame 0" is the callee, and "below F" says that a function of
// others lies above it on the stack. kept are the lines with KEPT.
func loadText(t *testing.T, text string) (s *Source, frames []Frame, own int, kept []int) {
	t.Helper()
	type place struct {
		Frame
		below string
	}
	found := map[string]place{}
	function := ""
	for i, line := range strings.Split(text, "\n") {
		if m := markFunc.FindStringSubmatch(line); m != nil {
			switch {
			case m[2] == "":
				function = "main." + m[3]
			case m[1] == "*":
				function = "main.(*" + m[2] + ")." + m[3]
			default:
				function = "main." + m[2] + "." + m[3]
			}
		}
		if strings.Contains(line, "// KEPT") || strings.Contains(line, "KEPT too") {
			kept = append(kept, i+1)
		}
		if m := markFrame.FindStringSubmatch(line); m != nil {
			found[m[1]] = place{Frame{Function: function, File: "/src/main.go", Line: i + 1}, m[2]}
		}
	}
	for _, n := range sortedKeys(found) {
		if b := found[n].below; b != "" {
			pkg := packageOf(b)
			frames = append(frames, Frame{Function: b, File: "/go/src/" + pkg + "/x.go", Line: 1})
		}
		frames = append(frames, found[n].Frame)
	}
	p := places{root: "/go/src/"}
	s = LoadSource(fstest.MapFS{"src/main.go": {Data: []byte(text)}}, "", p, frames)
	if s == nil {
		t.Fatal("no source")
	}
	return s, frames, p.firstOwn(frames), kept
}

// TestKeeps follows values to where they are kept. The standard library's source is not there: names have to do.
func TestKeeps(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"map of a field", `package main
type reg struct { all map[string]*thing }
type thing struct { b []byte }
func newThing() *thing {
	return &thing{b: make([]byte, 9)} // frame 0
}
func (r *reg) add(k string, x *thing) {
	r.all[k] = x // KEPT
}
func (r *reg) handle(k string) {
	x := newThing() // frame 1
	r.add(k, x)
}`},
		{"appended to a global, in an interface", `package main
var all []any
func handle() {
	b := make([]byte, 9) // frame 0
	all = append(all, b) // KEPT
}`},
		{"captured by a callback", `package main
type bus struct { subs map[string][]func() }
func (b *bus) on(k string, f func()) {
	b.subs[k] = append(b.subs[k], f) // KEPT
}
func open(b *bus) {
	big := make([]byte, 9) // frame 0
	b.on("x", func() { big[0] = 1 })
}`},
		{"linked list", `package main
type node struct { next *node }
type list struct { head *node }
func (l *list) push() {
	n := &node{} // frame 0
	n.next = l.head
	l.head = n // KEPT
}`},
		{"timer", `package main
import "time"
func open() {
	s := &struct{ b [9]byte }{} // frame 0
	time.AfterFunc(time.Hour, func() { s.b[0] = 1 }) // KEPT
}`},
		{"map in a map", `package main
var routes = map[string]map[string]*int{}
func count(r, u string) {
	users := routes[r]
	c := new(int) // frame 0
	users[u] = c // KEPT
}`},
		{"unmarshalled into a global's value", `package main
import "encoding/json"
type doc struct { A []string }
var docs = map[string]*doc{}
func load(k string, b []byte) {
	d := new(doc)
	_ = json.Unmarshal(b, d) // frame 0 below encoding/json.Unmarshal
	docs[k] = d // KEPT
}`},
		{"a buffer that is written to", `package main
import "bytes"
type log struct { buf bytes.Buffer }
func (l *log) Write(p []byte) (int, error) {
	return l.buf.Write(p) // frame 0 below bytes.(*Buffer).Write // KEPT
}`},
		{"sent to a channel", `package main
var tasks = make(chan []byte, 1000)
func enqueue() {
	tasks <- make([]byte, 9) // frame 0 // KEPT
}`},
		{"deferred in a loop", `package main
import ("io"; "strings")
func fetch() io.ReadCloser {
	return io.NopCloser(strings.NewReader(strings.Repeat("x", 9))) // frame 0 below strings.Repeat
}
func run() {
	for {
		r := fetch() // frame 1
		defer r.Close() // KEPT
	}
}`},
		{"resurrected by its finalizer", `package main
import "runtime"
var saved []*int
func make1() {
	o := new(int) // frame 0
	runtime.SetFinalizer(o, func(o *int) {
		saved = append(saved, o) // KEPT
	})
}`},
		{"result of a closure that a variable holds", `package main
var cache = map[int][]byte{}
func run() {
	get := func(n int) []byte {
		return make([]byte, n)
	}
	store := func(n int, b []byte) {
		cache[n] = b // KEPT
	}
	b := make([]byte, 3) // frame 0
	store(1, b)
	_ = get
}`},
		{"generic collection", `package main
type set[T comparable] struct { m map[T]struct{} }
func (s *set[T]) add(v T) {
	s.m[v] = struct{}{} // KEPT
}
var names = &set[string]{m: map[string]struct{}{}}
func handle(b []byte) {
	k := string(b) // frame 0
	names.add(k)
}`},
		{"key of counts", `package main
var hits = map[string]int{}
func handle(b []byte) {
	k := string(b) // frame 0
	hits[k]++ // KEPT
}`},
	} {
		s, frames, own, kept := loadText(t, c.text)
		keeps := s.keeps(frames, own, places{root: "/go/src/"})
		if len(keeps) == 0 || !slices.Contains(kept, keeps[0].Line.Line) {
			t.Errorf("%s: kept %v, want line %v", c.name, describe(keeps), kept)
		}
	}
}

// TestPooled finds where an object goes back to its pool with what was appended to it.
func TestPooled(t *testing.T) {
	const head = "package main\nimport \"sync\"\ntype req struct { tags []string }\nvar pool = sync.Pool{New: func() any { return &req{} }}\nvar buffers sync.Pool\n"
	for _, c := range []struct {
		name, text string
		found      bool
	}{
		{"right there", `func handle() {
	r := pool.Get().(*req)
	r.tags = append(r.tags, "x") // frame 0
	pool.Put(r) // KEPT
}`, true},
		{"by helpers", `func get() *req { return pool.Get().(*req) }
func put(r *req) {
	pool.Put(r) // KEPT
}
func handle() {
	r := get()
	defer put(r)
	r.tags = append(r.tags, "x") // frame 0
}`, true},
		{"emptied before", `func handle(r *req) {
	r.tags = append(r.tags, "x") // frame 0
	r.tags = r.tags[:0]
	pool.Put(r)
}`, false},
		{"a buffer that is not reset", `func handle() {
	b := buffers.Get().(*bytes.Buffer)
	b.WriteString("x") // frame 0 below bytes.(*Buffer).grow
	buffers.Put(b) // KEPT
}`, true},
		{"a buffer that is reset", `func handle() {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	b.WriteString("x") // frame 0 below bytes.(*Buffer).grow
	buffers.Put(b)
}`, false},
		{"overwritten before", `func handle(r *req) {
	r.tags = append(r.tags, "x") // frame 0
	*r = req{}
	pool.Put(r)
}`, false},
	} {
		s, frames, own, kept := loadText(t, head+c.text)
		keeps := s.keeps(frames, own, places{root: "/go/src/"})
		i := slices.IndexFunc(keeps, func(k Keep) bool { return k.pool.known() })
		if (i >= 0) != c.found || i >= 0 && !slices.Contains(kept, keeps[i].pool.Line) {
			t.Errorf("%s: %+v, want %v", c.name, keeps, kept)
		}
	}
}

func describe(keeps []Keep) (list []string) {
	for _, k := range keeps {
		list = append(list, fmt.Sprintf("%d (%s, rank %d)", k.Line.Line, k.What, k.rank))
	}
	return list
}

// TestKeepsNothing has values that end with the function, or are copied.
func TestKeepsNothing(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"a local", `package main
func handle() int {
	b := make([]byte, 9) // frame 0
	return len(b)
}`},
		{"copied", `package main
var last []byte
func handle() {
	b := make([]byte, 9) // frame 0
	copy(last, b)
	last = append(last[:0], b...)
}`},
		{"printed", `package main
import "fmt"
func handle() {
	b := make([]byte, 9) // frame 0
	fmt.Println(b)
}`},
	} {
		s, frames, own, _ := loadText(t, c.text)
		if keeps := s.keeps(frames, own, places{root: "/go/src/"}); len(keeps) > 0 {
			t.Errorf("%s: kept %v, want nowhere", c.name, describe(keeps))
		}
	}
}

// TestKeeper follows values to the line to mend where several places have them for a while.
func TestKeeper(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"a channel is a corridor, and the worker's context grows", `package main
import "context"
type key struct{}
type mail struct{ b [900]byte }
type s struct { queue chan *mail }
func (s *s) accept() {
	m := new(mail) // frame 0
	select {
	case s.queue <- m:
	default:
	}
}
func with(ctx context.Context, m *mail) context.Context { return context.WithValue(ctx, key{}, m) }
func (s *s) work(ctx context.Context) {
	for {
		m := <-s.queue
		ctx = with(ctx, m) // KEPT
	}
}`},
		{"out of the channel into a timer that sends it again", `package main
import "time"
type delivery struct { n int; b [900]byte }
type s struct { queue chan *delivery }
func (s *s) publish() {
	s.queue <- &delivery{} // frame 0
}
func (s *s) work() {
	for d := range s.queue {
		s.again(d)
	}
}
func (s *s) again(d *delivery) {
	time.AfterFunc(time.Second, func() { s.queue <- d }) // KEPT
}`},
		{"the map is emptied, the timer was thrown away", `package main
import "time"
type c struct { id string; b [900]byte }
type s struct { open map[string]*c }
func (s *s) issue() {
	x := &c{} // frame 0
	s.open[x.id] = x
	time.AfterFunc(time.Hour, func() { s.drop(x.id) }) // KEPT
}
func (s *s) drop(id string) { delete(s.open, id) }`},
		{"the map is emptied, the context is a child of a long one", `package main
import "context"
type key struct{}
type job struct { ctx context.Context; cancel context.CancelFunc }
type d struct { base context.Context; running map[int]*job }
func (d *d) start(id int) *job {
	b := make([]byte, 900) // frame 0
	ctx := context.WithValue(d.base, key{}, b)
	j := &job{}
	j.ctx, j.cancel = context.WithCancel(ctx) // KEPT
	d.running[id] = j
	return j
}
func (d *d) run(id int) {
	d.start(id)
	defer delete(d.running, id)
}
func (d *d) abort(id int) { d.running[id].cancel() }`},
		{"a child that a helper makes, and whose cancel is called where it fails only", `package main
import "context"
type key struct{}
type scope struct { input []byte }
type r struct { base context.Context }
func (r *r) begin(in []byte) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(context.WithValue(r.base, key{}, &scope{input: in})) // KEPT
}
func (r *r) run(in []byte) error {
	ctx, fail := r.begin(in)
	if err := step(ctx); err != nil {
		fail(err)
		return err
	}
	return nil
}
func step(ctx context.Context) error { return nil }
func (r *r) post() {
	in := make([]byte, 900) // frame 0
	_ = r.run(in)
}`},
		{"a child whose cancel is deferred is none", `package main
import "context"
type key struct{}
type d struct { base context.Context; seen [][]byte }
func (d *d) run(id int) {
	b := make([]byte, 900) // frame 0
	ctx, cancel := context.WithCancel(context.WithValue(d.base, key{}, b))
	defer cancel()
	_ = ctx
	d.seen = append(d.seen, b) // KEPT
}`},
		{"nor is one that a helper makes and the caller cancels", `package main
import "context"
type key struct{}
type d struct { base context.Context; seen [][]byte }
func (d *d) begin(b []byte) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithValue(d.base, key{}, b))
}
func (d *d) run(id int) {
	b := make([]byte, 900) // frame 0
	ctx, cancel := d.begin(b)
	defer cancel()
	_ = ctx
	d.seen = append(d.seen, b) // KEPT
}`},
		{"a part that strings.Cut found keeps the whole", `package main
import "strings"
var seen = map[string]bool{}
func field(doc, name string) (string, bool) {
	_, rest, ok := strings.Cut(doc, name)
	return rest[:9], ok
}
func handle(b []byte) {
	doc := string(b) // frame 0
	k, ok := field(doc, "id")
	if ok {
		seen[k] = true // KEPT
	}
}`},
		{"into the answer is nowhere", `package main
import "net/http"
type thumb struct { etag string }
var all []*thumb
func render() *thumb {
	return &thumb{} // frame 0
}
func serve(w http.ResponseWriter, r *http.Request) {
	t := render() // frame 1
	w.Header().Set("ETag", t.etag)
	all = append(all, t) // KEPT
}`},
		{"what others' code filled", `package main
import "example.com/gin"
type body struct { items []string }
type order struct { items []string }
var open = map[int]*order{}
func checkout(c *gin.Context) error {
	var in body
	if err := c.ShouldBindJSON(&in); err != nil { // frame 0 below example.com/gin.(*Context).ShouldBindJSON
		return err
	}
	o := &order{items: in.items}
	open[1] = o // KEPT
	return nil
}`},
		{"what a library was given comes back to the hook", `package main
import ("encoding/json"; "example.com/log")
type hook struct { waiting []*log.Entry; other []*int }
func (h *hook) Fire(e *log.Entry) error {
	h.waiting = append(h.waiting, e) // KEPT
	return nil
}
func (h *hook) count(n *int) { h.other = append(h.other, n) }
func handle(l *log.Logger, d *json.Decoder) {
	var in []string
	_ = d.Decode(&in) // frame 0 below encoding/json.(*Decoder).Decode
	l.WithField("in", &in).Error("no")
}`},
		{"through a function in a field", `package main
type t struct{ b [900]byte }
type s struct { make func() *t; all []*t }
func add(s *s, name string, x *t) {
	s.all = append(s.all, x) // KEPT
}
func lookup() *t {
	return &t{} // frame 0
}
func (s *s) serve(name func() string) {
	add(s, name2(), s.make()) // frame 1
}
func name2() string { return "" }`},
	} {
		s, frames, own, kept := loadText(t, c.text)
		keeps := s.keeps(frames, own, places{root: "/go/src/"})
		if len(keeps) == 0 || !slices.Contains(kept, s.unboundedOf(keeps).Line.Line) {
			t.Errorf("%s: kept %v, want line %d", c.name, describe(keeps), kept)
		}
	}
}

// TestBounds tells collections with a limit from those without.
func TestBounds(t *testing.T) {
	const head = "package main\ntype c struct { m map[int]int; l []int; n int }\n"
	for body, want := range map[string]struct{ checked, shrunk bool }{
		"func (x *c) put(k int) { x.m[k] = 1 }":                                {false, false},
		"func (x *c) put(k int) { if len(x.m) >= x.n { return }; x.m[k] = 1 }": {true, false},
		"func (x *c) put(k int) { if len(x.m) > 100 { x.evict() }; x.m[k] = 1 }\nfunc (x *c) evict() { for k := range x.m { delete(x.m, k); return } }": {true, true},
		"func (x *c) put(k int) { if len(x.m) == 0 { return }; x.m[k] = 1 }":                                                                            {false, false},
		"func (x *c) put(k int) { if len(x.m) > 9 { println(len(x.m)) }; x.m[k] = 1 }":                                                                  {false, false},
		"func (x *c) put(k int) { x.m[k] = 1 }\nfunc (x *c) end(k int) { delete(x.m, k) }":                                                              {false, true},
		"func (x *c) put(k int) { if x.m == nil { x.m = map[int]int{} }; x.m[k] = 1 }":                                                                  {false, false},
		"func (x *c) put(k int) { x.m[k] = 1 }\nfunc (x *c) flush() { x.m = map[int]int{} }":                                                            {false, true},
	} {
		s, _, _, _ := loadText(t, head+strings.Replace(body, " }", " }// frame 0", 1))
		found := false
		for o := range s.uses {
			if o.Name() == "m" {
				found = true
				if b := s.bounds(o); b.checked != want.checked || b.shrunk != want.shrunk {
					t.Errorf("%s\nchecked %v, shrunk %v; want %+v", body, b.checked, b.shrunk, want)
				}
			}
		}
		if !found {
			t.Errorf("%s: m is not used", body)
		}
	}
}

// TestUnreleased finds what is opened and not closed on some path.
func TestUnreleased(t *testing.T) {
	for _, c := range []struct {
		name, kind, text string
		found            bool
	}{
		{"never closed", "file", `f, err := os.Open("x"); if err != nil { return err }; _ = f; return nil`, true},
		{"deferred", "file", `f, err := os.Open("x"); if err != nil { return err }; defer f.Close(); return nil`, false},
		{"deferred in a literal", "file", `f, err := os.Open("x"); if err != nil { return err }; defer func() { _ = f.Close() }(); if f.Name() == "" { return nil }; return nil`, false},
		{"a way out before", "file", `f, err := os.Open("x"); if err != nil { return err }; if f.Name() == "" { return nil }; defer f.Close(); return nil`, true},
		{"closed before each way out", "file", `f, err := os.Open("x"); if err != nil { return err }; if f.Name() == "" { f.Close(); return nil }; f.Close(); return nil`, false},
		{"body", "response", `r, err := http.Get("x"); if err != nil { return err }; _ = r.Status; return nil`, true},
		{"body deferred", "response", `r, err := http.Get("x"); if err != nil { return err }; defer r.Body.Close(); return nil`, false},
		{"Do of something else", "response", `var o sync.Once; o.Do(func() {}); return nil`, false},
		{"cancel dropped", "timeout context", `ctx, _ := context.WithCancel(context.Background()); return ctx.Err()`, true},
		{"cancel deferred", "timeout context", `ctx, cancel := context.WithCancel(context.Background()); defer cancel(); return ctx.Err()`, false},
	} {
		text := "package main\nimport (\"os\"; \"net/http\"; \"context\"; \"sync\")\nvar _ = os.Args\nvar _ = http.Get\nvar _ context.Context\nvar _ sync.Mutex\nfunc f() error {\n" + strings.ReplaceAll(c.text, "; ", "\n") + " // frame 0\n}\n"
		text = regexp.MustCompile(`\{ (.*?)\n`).ReplaceAllString(text, "{\n$1\n")
		s, frames, _, _ := loadText(t, text)
		e := &Evidence{Counts: []GoroutineCounts{{Stacks: []Stack{{Frames: frames, Count: 1}}}}}
		if list := s.unreleased(resourceOf(c.kind), e, e.places()); (len(list) > 0) != c.found {
			t.Errorf("%s: %+v, want found %v\n%s", c.name, list, c.found, text)
		}
	}
}
