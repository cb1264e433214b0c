package lab

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/report/reporttest"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of report pages; empty takes none")

// TestHTMLInBrowser opens reports from disk: they draw their curves in light and dark, verdicts and tables stand where they
// should, what was named is text and no markup, and they ask for nothing else.
func TestHTMLInBrowser(t *testing.T) {
	b := reporttest.Start(t)
	drawn := sampleReport() // sampleReport's second chart has no values, and so no curve
	drawn.Experiments[0].Series[2].Points = []Point{{0, 3}, {1, 4}}
	drawn.Experiments[0].Tables[0].Row("net/http", Size(900), 250*time.Millisecond, nil, 7)
	two := sampleReport()
	broken := *two.Experiments[0]
	broken.Error, broken.Interrupted = "it <i>broke</i>", true
	two.Experiments = append(two.Experiments, &broken)
	for _, c := range []struct {
		name                    string
		report                  *Report
		pixels                  int
		charts, tables, notices int
	}{
		{"one", drawn, 200, 2, 1, 1},
		{"two", two, 0, 4, 3, 4}, // with a table of all verdicts, and notices of what went wrong
		{"none", &Report{}, 0, 0, 0, 0},
	} {
		var page bytes.Buffer
		if err := c.report.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, page.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, theme := range []string{"light", "dark"} {
			b.Theme(theme, "screen")
			b.Open(file)
			b.Check(c.charts, c.pixels)
			b.Want(`return ['table', '.notice', 'h2', 'h1 b, .notice i'].map((s) => document.querySelectorAll(s).length).join()`,
				fmt.Sprintf("%d,%d,%d,0", c.tables, c.notices, 1+len(c.report.Experiments)+min(1, len(c.report.Experiments)/2)))
			if *screenshots != "" {
				b.Picture(filepath.Join(*screenshots, "lab-"+c.name+"-"+theme+".png"))
			}
		}
		if c.name == "one" {
			// A verdict is said in words, not in color alone, and curves and rows can be told apart.
			b.Want(`return document.querySelector('.notice').innerText.replaceAll('\n', ' ')`, "Warning: “"+drawn.Experiments[0].Verdicts[0].Claim.Quote+"” holds in part The article says: "+drawn.Experiments[0].Verdicts[0].Claim.Says+". Measured: 2 of 3.")
			b.Want(`return [...document.querySelectorAll('.legend button')].map((e) => e.textContent).join()`, "gorillahighest 1 kB,longwirehighest 20 B,alonehighest 4")
			b.Want(`const first = () => document.querySelector('tbody td').textContent; const seen = [first()]; const took = document.querySelectorAll('th')[2].querySelector('button');
				for (let i = 0; i < 2; i++) { took.click(); seen.push(first()); } return seen.join()`, "gorilla,longwire,gorilla")
		}
		if t.Failed() {
			t.Fatalf("that was %q", c.name)
		}
	}
}
