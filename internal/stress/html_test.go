package stress

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/report"
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
		b.Check(countCharts(r), 5)
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
func countCharts(r *Report) (n int) {
	for _, s := range r.page().Sections {
		for _, b := range s.Blocks {
			switch b.(type) {
			case *report.Chart, *report.PercentilePlot:
				n++
			}
		}
	}
	return n
}

// outline is what a page has: its sections, and in them the charts with their curves.
func outline(p *report.Page) (lines []string) {
	for _, s := range p.Sections {
		lines = append(lines, "# "+s.Title)
		for _, b := range s.Blocks {
			line := ""
			switch b := b.(type) {
			case *report.Chart:
				line = b.Title + ":"
				for _, c := range b.Series {
					line += " " + c.Name + ","
				}
			case *report.PercentilePlot:
				line = b.Title + ":"
				for _, c := range b.Curves {
					line += " " + c.Name + ","
				}
			case report.Notice:
				line = string(b.Severity) + ": " + b.Title
			default:
				continue
			}
			lines = append(lines, strings.TrimSuffix(line, ","))
		}
	}
	return lines
}

func TestPageHasWhatWasMeasured(t *testing.T) {
	runs := edges()
	for name, want := range map[string]string{
		"broken": `#
bad: Step 1,600 · 16,000/s broke at 21 s.
# Why it broke
bad: First cause: The accept queue is too short for the arrivals.
good: What would lift it:
# Thresholds
# Breaking point
# Over time
Connections: wanted, open, being opened
Connects: attempted, opened, failed, lost
Throughput: due, sent, done
Received: bytes
Latency: p50, p90, p99, p99.9, max, service p50, service p99
Time to connect: p50, p90, p99, p99.9, max
Errors by kind: connect_timeout, refused, reset
Kernel counters: SYN retransmits, listen overflows, listen drops, retransmits, timeouts
TCP conns by state: established, TIME_WAIT
Memory of TCP: in use
Accept queue: limit, waiting
Memory: generator, resident, server, resident, server, Go heap
CPU: server, generator
Goroutines and descriptors of the server: goroutines, descriptors
Garbage collections of the server: collections
Garbage collector's pauses: longest of the last pauses
# Latency
echo: corrected, service
# Scenarios
# Storms
# Errors
# Steps
# Notes
# Plan
# Environment`,
		"blind": `#
warning: Interrupted before its time.
# Thresholds
# Over time
Connections: wanted, open
Connects: attempted, opened
Throughput: due, sent, done
Received: bytes
Latency: p50, p90, p99, p99.9, max, service p50, service p99
Time to connect: p50, p90, p99, p99.9, max
Memory: generator, resident
CPU: generator
info: Not measured, so not drawn: the kernel's counters, the accept queue, the server's process.
# Latency
echo: corrected, service
# Scenarios
# Steps
# Notes
# Plan
# Environment`,
		"empty": `#
info: Nothing was sampled.
# Notes
# Plan
# Environment`,
	} {
		got := strings.ReplaceAll(strings.Join(outline(runs[name].page()), "\n")+"\n", " \n", "\n")
		if got != want+"\n" {
			t.Errorf("%s: the page has\n%s\nwant\n%s", name, got, want)
		}
	}
	// What was not measured is said with the notes that say why.
	p := htmlOf(t, func(w *bytes.Buffer) error { return runs["blind"].WriteHTML(w) })
	_, after, _ := strings.Cut(p, "so not drawn")
	after, _, _ = strings.Cut(after, "</div>")
	for _, why := range []string{"could not be found: is it on another machine", "no permission"} {
		if !strings.Contains(after, why) {
			t.Errorf("the notice of what is not drawn has no %q: %s", why, after)
		}
	}

	a := runs["broken"].timeAxis()
	if len(a.Bands) != 10 || a.Bands[6].Severity != "" || a.Bands[7].Severity != report.Bad || a.Bands[7].Label != "step 1,600 · 16,000/s" ||
		len(a.Marks) != 3 || a.Marks[0].Label != "broke" || a.Marks[0].At != runs["broken"].Steps[7].Begin || a.Marks[1].Label != "storm" {
		t.Errorf("time axis = %+v", a)
	}
}
