package doctor

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/internal/report/reporttest"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of report pages; empty takes none")

// pageEvidence has something of each kind.
func pageEvidence() *Evidence {
	e := profileOf(func(i int) int { return 3000 * (i + 1) }, 12)
	e.Target, e.Took = "http://127.0.0.1:6060 <script>", 11*time.Second
	for i := range 12 {
		at := time.Duration(i) * time.Second
		n := uint64(i+1) << 20
		e.Memory = append(e.Memory, MemStats{At: at, Sys: 30 << 20, HeapAlloc: n, HeapInuse: n + 1<<20, NextGC: 2 * n, StackInuse: 1 << 18, NumGC: uint64(i)})
		e.Process = append(e.Process, ProcessSample{At: at, Resident: 20<<20 + n, CPU: at / 4, Descriptors: map[string]int{"socket": 5 + i}, Sockets: map[string]int{"CLOSE_WAIT": i}})
		e.Counts = append(e.Counts, GoroutineCounts{At: at, Total: int64(10 + i)})
		e.Pools = append(e.Pools, PoolSample{At: at, Name: "db", Max: 10, Open: 10, InUse: i % 10})
		e.Trace = append(e.Trace, Cycle{Number: i + 1, At: 100*time.Second + at, Live: n, Begin: 2 * n, Goal: 2*n + 1<<20, Share: 0.02, Mark: 3 * time.Millisecond, SweepTermination: 20 * time.Microsecond})
	}
	return e
}

// TestHTMLInBrowser opens reports from disk: they draw what was seen, in light and dark, and ask for nothing else.
func TestHTMLInBrowser(t *testing.T) {
	b := reporttest.Start(t)
	for _, c := range []struct {
		name string
		e    *Evidence
	}{
		{"all", pageEvidence()},
		{"plan", &Evidence{Target: "this machine", Plan: &Plan{Conns: 1000, Assumed: []string{"something"}}}},
		{"empty", &Evidence{Target: "nothing"}},
	} {
		r := Examine(c.e)
		var page bytes.Buffer
		if err := r.WriteHTML(&page, c.e); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, page.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		charts := 0
		for _, s := range r.page(c.e).Sections {
			for _, block := range s.Blocks {
				if _, ok := block.(*report.Chart); ok {
					charts++
				}
			}
		}
		if c.name == "all" && charts != 10 {
			t.Errorf("%d charts, want 10", charts)
		}
		for _, theme := range []string{"light", "dark"} {
			b.Theme(theme, "screen")
			b.Open(file)
			b.Check(charts, 5)
			if *screenshots != "" {
				b.Picture(filepath.Join(*screenshots, "doctor-"+c.name+"-"+theme+".png"))
			}
		}
		if t.Failed() {
			t.Fatalf("that was %q", c.name)
		}
	}
}
