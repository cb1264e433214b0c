package doctor

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestDuties follows what is opened to who forgets to give it back: KEPT marks the line, and nothing is marked where all do.
func TestDuties(t *testing.T) {
	for _, c := range []struct{ name, kind, text string }{
		{"one caller of two forgets", "rows", `package main
type repo struct{ db int }
func (r *repo) read(q string) (*rows, error) {
	rows, err := r.db.Query(q) // frame 0
	if err != nil {
		return nil, err
	}
	return rows, nil
}
func scan(r *rows) error { return r.Scan() }
func (r *repo) all() error {
	rows, err := r.read("all")
	if err != nil {
		return err
	}
	defer rows.Close()
	return scan(rows)
}
func (r *repo) first() error {
	rows, err := r.read("first") // KEPT
	if err != nil {
		return err
	}
	return scan(rows)
}`},
		{"all callers give it back", "file", `package main
import "os"
func open(name string) (*os.File, error) { return os.Open(name) } // frame 0
func use() error {
	f, err := open("x")
	if err != nil {
		return err
	}
	defer f.Close()
	return nil
}`},
		{"given to a function that leaves before it closes", "response", `package main
import "net/http"
type client struct{ hc int }
func (c *client) get(q *http.Request) (*http.Response, error) {
	return c.hc.Do(q) // frame 0
}
func decode[T any](resp *http.Response) (*T, error) {
	if resp.StatusCode != 200 {
		return nil, http.ErrAbortHandler
	}
	defer resp.Body.Close()
	return new(T), nil
}
func (c *client) locate(q *http.Request) (*int, error) {
	resp, err := c.get(q) // KEPT
	if err != nil {
		return nil, err
	}
	return decode[int](resp)
}`},
		{"a part of what a map keeps", "file", `package main
import "os"
type part struct { f *os.File }
type sink struct { open map[string]*part }
func create(name string) (*part, error) {
	f, err := os.Create(name) // frame 0
	if err != nil {
		return nil, err
	}
	return &part{f: f}, nil
}
func (s *sink) lookup(key string) (*part, error) {
	if p, ok := s.open[key]; ok {
		return p, nil
	}
	p, err := create(key)
	if err != nil {
		return nil, err
	}
	s.open[key] = p // KEPT
	return p, nil
}
func (s *sink) Close() {
	for _, p := range s.open {
		p.f.Close()
	}
}
func (s *sink) put(key string) error {
	p, err := s.lookup(key)
	if err != nil {
		return err
	}
	_, err = p.f.Write(nil)
	return err
}`},
		{"a part of what its caller closes", "file", `package main
import "os"
type part struct { f *os.File }
func (p *part) Close() error { return p.f.Close() }
func create(name string) (*part, error) {
	f, err := os.Create(name) // frame 0
	if err != nil {
		return nil, err
	}
	p := &part{f: f}
	return p, nil
}
func use() error {
	p, err := create("x")
	if err != nil {
		return err
	}
	defer p.Close()
	return nil
}`},
		{"a part of what a list with a limit lets go", "mapping", `package main
import "syscall"
type seg struct { mem []byte }
type log struct { segs []*seg; keep int }
func open(fd int) (*seg, error) {
	mem, err := syscall.Mmap(fd, 0, 1, 0, 0) // frame 0 KEPT too
	if err != nil {
		return nil, err
	}
	return &seg{mem: mem}, nil
}
func (l *log) roll() error {
	s, err := open(1)
	if err != nil {
		return err
	}
	l.segs = append(l.segs, s)
	for len(l.segs) > l.keep {
		l.segs = l.segs[1:]
	}
	return nil
}`},
		{"a part of what has no way to close it", "file", `package main
import "os"
type part struct { f *os.File }
func create(name string) (*part, error) {
	f, err := os.Create(name) // frame 0 KEPT too
	if err != nil {
		return nil, err
	}
	return &part{f: f}, nil
}
func use() {
	p, err := create("x")
	if err != nil {
		return
	}
	_, _ = p.f.Write(nil)
}`},
		{"what C made, not freed on a way out", "C memory", `package main
import "C"
type doc struct { d *C.tok_doc }
func parse(text string) (*doc, error) {
	cs := C.CString(text)
	defer C.free(cs)
	d := C.tok_parse(cs) // frame 0 KEPT too
	if d == nil {
		return nil, errMemory
	}
	if d.bad != 0 {
		return nil, errText
	}
	return &doc{d}, nil
}
func (d *doc) Close() { C.tok_free(d.d) }
func count(text string) int {
	d, err := parse(text)
	if err != nil {
		return 0
	}
	defer d.Close()
	return 1
}`},
		{"what C made, freed", "C memory", `package main
import "C"
func length(text string) int {
	n := C.measure(text) // frame 0
	d := C.tok_parse(text)
	if d == nil {
		return 0
	}
	defer C.tok_free(d)
	return int(n)
}`},
	} {
		s, frames, _, want := loadText(t, c.text)
		e := &Evidence{Source: s, Counts: []GoroutineCounts{{Stacks: []Stack{{Frames: frames, Count: 1}}}}}
		var got []int
		for _, u := range s.unreleased(resourceOf(c.kind), e, e.places()) {
			got = append(got, u.line.Line)
			if u.line.Line != frames[0].Line && !slices.ContainsFunc(u.from, func(l Line) bool { return l.Line == frames[0].Line }) {
				t.Errorf("%s: opened at %v, want line %d", c.name, u.from, frames[0].Line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: lines %v, want %v", c.name, got, want)
		}
	}
}

// TestRegistered follows what a registry keeps until it is released to who does not release it.
func TestRegistered(t *testing.T) {
	const text = `package main
type store struct { views map[*view]int }
type view struct { s *store }
func (s *store) View() (*view, error) {
	v := &view{s: s}
	s.track(v)
	return v, nil
}
func (s *store) track(v *view) {
	s.views[v] = 1 // frame 0
}
func (s *store) untrack(v *view) { delete(s.views, v) }
func (v *view) Release() { v.s.untrack(v) }
func (v *view) balance(k string) (int, error) { return len(k), nil }
func good(s *store) error {
	v, err := s.View()
	if err != nil {
		return err
	}
	defer v.Release()
	return nil
}
func bad(s *store) (n int, err error) {
	v, err := s.View() // KEPT
	if err != nil {
		return 0, err
	}
	if n, err = v.balance("a"); err != nil {
		return 0, err
	}
	v.Release()
	return n, nil
}`
	for _, c := range []struct {
		text  string
		moved bool
	}{
		{text, true},
		// Something else takes out as well: then that may be to blame.
		{text + "\nfunc (s *store) sweep() { for v := range s.views { delete(s.views, v) } }", false},
	} {
		s, frames, _, want := loadText(t, c.text)
		e := &Evidence{Source: s}
		f := Finding{Line: lineOf(frames[0], "kept here"), Advice: "let go"}
		e.passOn(&f, e.places())
		if moved := f.Line.Line == want[0]; moved != c.moved {
			t.Errorf("line %d, want %d %v", f.Line.Line, want[0], c.moved)
		}
		if c.moved && (!strings.Contains(f.Advice, "Release") || !slices.ContainsFunc(f.Related, func(l Line) bool { return l.Line == frames[0].Line })) {
			t.Errorf("advice %q, related %v", f.Advice, f.Related)
		}
	}
}

// TestSettle puts findings with a line before those without.
func TestSettle(t *testing.T) {
	list := settle([]Finding{
		{Severity: Major, rank: 90, Sentence: "no line"}, {Severity: Major, rank: 10, Sentence: "a line", Line: Line{File: "/x.go", Line: 1}}, {Severity: Critical, Sentence: "worse"},
	})
	var got []string
	for _, f := range list {
		got = append(got, f.Sentence)
	}
	if fmt.Sprint(got) != "[worse a line no line]" {
		t.Errorf("order %q", got)
	}
}

// TestNewFiles leaves out what was open before.
func TestNewFiles(t *testing.T) {
	if m := newFiles(map[string]int{"log": 2, "db": 1}, map[string]int{"log": 2, "db": 4, "x": 1}); len(m) != 2 || m["db"] != 3 || m["x"] != 1 {
		t.Errorf("new: %v", m)
	}
}

// TestUntyped names instances of generic functions as the text of a goroutine does.
func TestUntyped(t *testing.T) {
	for name, want := range map[string]string{
		"main.(*Pool[go.shape.struct { a []int }]).work.func1": "main.(*Pool[...]).work.func1",
		"main.ask[go.shape.*uint8]":                            "main.ask[...]",
		"x/y.(*T).run":                                         "x/y.(*T).run",
		"main.(*Pool[...]).work":                               "main.(*Pool[...]).work",
	} {
		if got := untyped(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestInlinedFrom has functions of others whose literals were inlined into the program's: they stay others'.
func TestInlinedFrom(t *testing.T) {
	p := places{root: "/go/src/", module: "example.com/shop"}
	for _, c := range []struct {
		file, function, pkg string
		want                owner
	}{
		{"/m/pkg/mod/github.com/gin-gonic/gin@v1.12.0/logger.go", "main.main.Logger.func1", "github.com/gin-gonic/gin", thirdParty},
		{"/go/src/slices/sort.go", "main.main.SortFunc.func1", "main", standard},
		{"/m/pkg/mod/example.com/shop@v1.0.0/cmd/shop/main.go", "main.main", "example.com/shop/cmd/shop", ownCode},
		{"/src/shop/main.go", "main.main", "main", ownCode},
	} {
		f := Frame{Function: c.function, File: c.file}
		if got := p.owner(f); got != c.want {
			t.Errorf("%s: owner %d, want %d", c.file, got, c.want)
		}
		if got := packageIn(c.file[:strings.LastIndexByte(c.file, '/')], f); got != c.pkg {
			t.Errorf("%s: package %s, want %s", c.file, got, c.pkg)
		}
	}
}

// TestNeverEnded has workers that range over a channel of a pool which is replaced, with and without closing the old one.
func TestNeverEnded(t *testing.T) {
	const text = `package main
import "sync/atomic"
type pool[J any] struct { jobs chan J; stop once }
func newPool[J any](n int) *pool[J] {
	p := &pool[J]{jobs: make(chan J, n)}
	go p.work()
	return p
}
func (p *pool[J]) work() {
	for range p.jobs { // frame 0
	}
}
func (p *pool[J]) Close() { p.stop.Do(func() { close(p.jobs) }) }
type service struct { pool atomic.Pointer[pool[int]] }
func (s *service) apply(n int) {
	s.pool.Store(newPool[int](n)) // KEPT
}`
	for _, c := range []struct {
		text  string
		found bool
	}{
		{text, true},
		{strings.Replace(text, "	s.pool.Store(newPool[int](n)) // KEPT", "	old := s.pool.Load(); s.pool.Store(newPool[int](n)); if old != nil { old.Close() } // KEPT", 1), false},
		{strings.Replace(text, "func (p *pool[J]) Close() { p.stop.Do(func() { close(p.jobs) }) }", "", 1), false}, // nothing closes it: there is nothing to call
	} {
		s, frames, _, want := loadText(t, c.text)
		e := &Evidence{Source: s, Counts: []GoroutineCounts{{Stacks: []Stack{{Frames: frames, Count: 1}}}}}
		list, end := s.neverEnded(e, e.places(), frames[0])
		if found := len(list) > 0; found != c.found || found && (list[0].line.Line != want[0] || end != "Close") {
			t.Errorf("%+v by %q, want line %d: %v", list, end, want, c.found)
		}
	}
}

// TestRunsOnce tells what main does once from what is done again and again.
func TestRunsOnce(t *testing.T) {
	s, _, _, _ := loadText(t, `package main
func once() int { return open() }
func loops() int { return open() }
func served() int { return open() }
func open() int { return lib.New() }
func main() {
	once() // frame 0
	for range 9 {
		loops()
	}
	handle(served)
	handle(func() { once2() })
	both()
}
func once2() int { return lib.New() }
func both() { lib.New() }`)
	got := map[int]bool{}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				_, line := s.position(c)
				if _, name := s.callName(c); name == "New" || name == "open" {
					got[line] = s.runsOnce(c, 0)
				}
			}
			return true
		})
	}
	if want := map[int]bool{2: true, 3: false, 4: false, 5: false, 15: false, 16: true}; !maps.Equal(got, want) {
		t.Errorf("once: %v, want %v", got, want)
	}
}

// TestStartedBelow finds the line that led to goroutines of a library by the stacks of what was allocated on the way, and how they end.
func TestStartedBelow(t *testing.T) {
	s, frames, _, want := loadText(t, `package main
import "context"
func serve() { lib.Serve() }
func watch(ctx context.Context) error {
	stream, err := client.Watch(ctx, 1) // frame 0 KEPT too
	return err
}
func bounded(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Watch(ctx, 1)
	return err
}`)
	begun := Frame{Function: "lib.newStream", File: "/m/pkg/mod/lib@v1.0.0/x.go", Line: 7}
	main := Frame{Function: "main.serve", File: "/src/main.go", Line: 3}
	sample := func(n int64) HeapSample {
		return HeapSample{Sites: []HeapSite{{Frames: []Frame{{Function: "lib.make"}, begun, frames[0]}, AllocObjects: n}, {Frames: []Frame{begun, main}, AllocObjects: 9}}}
	}
	e := &Evidence{Source: s, Heap: []HeapSample{sample(1), sample(50)}}
	l := e.startedBelow(e.places(), begun)
	if l.Line != want[0] {
		t.Fatalf("line %d, want %d", l.Line, want[0])
	}
	if _, advice := e.endsOfCall(l); !strings.Contains(advice, "WithCancel") {
		t.Errorf("advice %q", advice)
	}
	if _, advice := e.endsOfCall(Line{File: l.File, Line: 11}); advice != "" {
		t.Errorf("advice %q for a context that is cancelled", advice)
	}
}

// TestTogether makes one finding of the goroutines of one client.
func TestTogether(t *testing.T) {
	of := func(module string, pace float64) *crowd {
		return &crowd{own: -1, frames: []Frame{{Function: "x", File: "/m/pkg/mod/" + module + "@v1.0.0/x.go"}}, trend: trend{slope: pace}}
	}
	line := Line{File: "/src/main.go", Line: 4}
	for _, c := range []struct {
		crowds []*crowd
		want   string
	}{
		{[]*crowd{of("a", 20), of("a", 10)}, "[1]"},
		{[]*crowd{of("a", 20), of("b", 20)}, "[0 1]"},
		{[]*crowd{of("a", 20), of("a", 13)}, "[0 1]"},
	} {
		var got []int
		for _, f := range together([]Finding{{Sentence: "0"}, {Sentence: "1", Line: line}}, c.crowds) {
			got = append(got, int(f.Sentence[0]-'0'))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("left %v, want %s", got, c.want)
		}
	}
}

// TestClosersOf finds the methods that end something, those that come by embedding too.
func TestClosersOf(t *testing.T) {
	s, _, _, _ := loadText(t, `package main
type Client struct { *base }
type base struct {}
func (b *base) Close() error { return nil } // frame 0
type Pool struct {}
func (p *Pool) Stop() {}
type hidden struct {}
func (h *hidden) Shutdown() {}`)
	if got := s.closersOf("main"); !slices.Equal(got, []string{"Close", "Stop"}) {
		t.Errorf("closers %q", got)
	}
}
