package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// refillEvidence has a pool's New make so many objects of 2 KiB for a stack, while so many goroutines are in its functions.
func refillEvidence(frames []Frame, objects, collections, goroutines int64) *Evidence {
	stack := append([]Frame{{Function: "main.init.func1", File: "/src/main.go", Line: 4}, {Function: "sync.(*Pool).Get", File: "/go/src/sync/pool.go", Line: 1}}, frames...)
	e := &Evidence{}
	for i := range int64(2) {
		at := time.Duration(i) * 10 * time.Second
		e.Heap = append(e.Heap, HeapSample{At: at, Rate: 512 << 10, Sites: []HeapSite{{Frames: stack, AllocObjects: 100 + i*objects, AllocBytes: (100 + i*objects) << 11}}})
		e.Memory = append(e.Memory, MemStats{At: at, NumGC: uint64(10 + i*collections)})
		e.Counts = append(e.Counts, GoroutineCounts{At: at, Stacks: []Stack{{Frames: frames, Count: goroutines}}})
	}
	return e
}

// TestSyncPools tells a pool that never has anything from one that collections empty.
func TestSyncPools(t *testing.T) {
	const head = `package main
import "sync"
type page struct { n int }
var pages = sync.Pool{New: func() any { return new(page) }}
var other *sync.Pool
var kept = map[int]*page{}
`
	const taken = "func handle(id int) int {\n\tp := pages.Get().(*page) // frame 0 // KEPT\n"
	for _, c := range []struct {
		name, text string
		objects    int64
		want       string // in the finding; "" is none
	}{
		{"never put back", taken + "\treturn p.n\n}", 9000, "is never put back"},
		{"on one path", taken + "\tif id < 0 {\n\t\tpages.Put(p)\n\t\treturn 0\n\t}\n\treturn p.n\n}", 9000, "not put back on every path"},
		{"on one path, to the end", "func handle(id int) {\n\tp := pages.Get().(*page) // frame 0 // KEPT\n\tif id < 0 {\n\t\tpages.Put(p)\n\t\treturn\n\t}\n\tprintln(p.n)\n}", 9000, "not put back on every path"},
		{"deferred", taken + "\tdefer pages.Put(p)\n\tif id < 0 {\n\t\treturn 0\n\t}\n\treturn p.n\n}", 9000, ""},
		{"deferred in a literal", taken + "\tdefer func() {\n\t\tp.n = 0\n\t\tpages.Put(p)\n\t}()\n\treturn p.n\n}", 9000, ""},
		{"at the end", taken + "\tif id < 0 {\n\t\tpages.Put(p)\n\t\treturn 0\n\t}\n\tn := p.n\n\tpages.Put(p)\n\treturn n\n}", 9000, ""},
		{"on one path, which many are on", taken + "\tif id < 0 {\n\t\treturn 0\n\t}\n\tpages.Put(p)\n\treturn 1\n}", 9000, ""},
		{"by helpers", "func get() *page {\n\treturn pages.Get().(*page) // frame 0\n}\nfunc put(p *page) { pages.Put(p) }\nfunc handle(id int) int {\n\tp := get() // frame 1\n\tdefer put(p)\n\treturn p.n\n}", 9000, ""},
		{"by helpers, not", "func get() *page {\n\tp := pages.Get().(*page) // frame 0\n\tp.n = 0\n\treturn p\n}\nfunc put(p *page) { pages.Put(p) }\nfunc fine() {\n\tp := get()\n\tput(p)\n}\nfunc handle(id int) int {\n\tp := get() // frame 1 // KEPT\n\tif id > 0 {\n\t\treturn p.n\n\t}\n\tput(p)\n\treturn 0\n}", 9000, "not put back on every path"},
		{"by helpers, another's", "func get() *page {\n\treturn pages.Get().(*page) // frame 0\n}\nfunc put(p *page) { pages.Put(p) }\nfunc bad() {\n\tp := get()\n\tp.n++\n}\nfunc handle(id int) {\n\tp := get() // frame 1\n\tput(p)\n}", 9000, ""},
		{"by a method", "func (p *page) free() { pages.Put(p) }\nfunc handle(id int) int {\n\tp := pages.Get().(*page) // frame 0\n\tdefer p.free()\n\treturn p.n\n}", 9000, ""},
		{"the next turn", "func handle(id int) {\n\tfor i := range id {\n\t\tp := pages.Get().(*page) // frame 0 // KEPT\n\t\tif i%2 > 0 {\n\t\t\tcontinue\n\t\t}\n\t\tpages.Put(p)\n\t}\n}", 9000, "not put back on every path"},
		{"each turn", "func handle(id int) {\n\tfor i := range id {\n\t\tp := pages.Get().(*page) // frame 0\n\t\tprintln(i, p.n)\n\t\tpages.Put(p)\n\t}\n}", 9000, ""},
		{"kept elsewhere, by many", taken + "\tkept[id] = p\n\treturn 0\n}\nfunc end(id int) { pages.Put(kept[id]) }", 9000, ""},
		{"kept elsewhere", taken + "\tkept[id] = p\n\treturn 0\n}\nfunc end(id int) { pages.Put(kept[id]) }", 90_000, "seems not to be put back"},
		{"no Put at all", taken + "\tkept[id] = p\n\treturn 0\n}", 9000, "is never put back"},
	} {
		s, frames, _, kept := loadText(t, head+c.text)
		goroutines := int64(2)
		if strings.Contains(c.name, "many") {
			goroutines = 100
		}
		e := refillEvidence(frames, c.objects, 20, goroutines)
		e.Source = s
		r := Examine(e)
		switch {
		case c.want == "" && r.Found():
			t.Errorf("%s: %+v, want no finding", c.name, r.Findings)
		case c.want != "" && (len(r.Findings) != 1 || !strings.Contains(r.Findings[0].Sentence, c.want) || len(kept) == 0 || r.Findings[0].Line.Line != kept[0]):
			t.Errorf("%s: %+v, want %q at line %v", c.name, r.Findings, c.want, kept)
		}
	}

	// Without the source there are only the numbers: objects, collections, and goroutines that are there at once.
	frames := []Frame{{Function: "main.handle", File: "/src/main.go", Line: 9}, {Function: "main.serve.func1", File: "/src/main.go", Line: 20}}
	for _, c := range []struct {
		objects, collections, goroutines int64
		found                            bool
	}{
		{20_000, 20, 2, true}, {5000, 20, 2, false}, {20_000, 100, 2, false}, {20_000, 20, 100, false}, {400, 0, 1, false},
	} {
		if r := Examine(refillEvidence(frames, c.objects, c.collections, c.goroutines)); r.Found() != c.found {
			t.Errorf("%+v: %+v", c, r.Findings)
		}
	}
	// A pool of others' code is theirs.
	others := []Frame{{Function: "fmt.Sprint", File: "/go/src/fmt/print.go", Line: 9}, {Function: "main.handle", File: "/src/main.go", Line: 9}}
	if r := Examine(refillEvidence(others, 90_000, 2, 1)); r.Found() {
		t.Errorf("fmt's own pool: %+v", r.Findings)
	}
	if e := refillEvidence(frames, 20_000, 20, 2); fmt.Sprint(syncPoolCheck.Skip(e)) != "" || syncPoolCheck.Skip(&Evidence{Heap: e.Heap}) == "" {
		t.Error("what cannot be asked is not skipped, or what can is")
	}
}
