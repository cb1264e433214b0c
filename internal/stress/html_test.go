package stress

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/report/reporttest"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of report pages; empty takes none")

func htmlOf(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTMLInBrowser opens reports from disk: they draw what was measured, and nothing else.
func TestHTMLInBrowser(t *testing.T) {
	b := reporttest.Start(t)
	charts := map[string]int{"zero": 0, "empty": 0}
	runs := edges()
	names := []string{"empty", "one sample", "hold", "blind", "hostile"}
	if *screenshots != "" {
		names = slices.Sorted(maps.Keys(runs))
	}
	for _, name := range names {
		r := runs[name]
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, []byte(htmlOf(t, func(w *bytes.Buffer) error { return r.WriteHTML(w) })), 0o600); err != nil {
			t.Fatal(err)
		}
		b.Open(file)
		want, ok := charts[name]
		if !ok {
			want = countCharts(r)
		}
		b.Check(want, 5)
		if t.Failed() {
			t.Fatalf("that was %q", name)
		}
		if *screenshots != "" {
			b.Picture(filepath.Join(*screenshots, "stress-"+name+"-light.png"))
			b.Theme("dark", "screen")
			b.Picture(filepath.Join(*screenshots, "stress-"+name+"-dark.png"))
			b.Theme("light", "screen")
		}
	}
}

// countCharts is how many charts a report's page should have.
func countCharts(r *Report) int {
	n := 0
	for _, s := range r.page().Sections {
		for _, b := range s.Blocks {
			switch strings.TrimPrefix(strings.ToLower(typeName(b)), "*report.") {
			case "chart", "percentileplot":
				n++
			}
		}
	}
	return n
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }
