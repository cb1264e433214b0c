// Package reporttest opens pages in a headless Chromium, for tests of what package report makes.
package reporttest

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/browsertest"
)

// Page is one page of a browser of its own, for the goroutine of its test.
type Page struct{ *browsertest.Page }

// Start starts a browser. It skips the test where none is installed.
func Start(t *testing.T) Page {
	t.Helper()
	return Page{browsertest.Start(t).Page(t)}
}

// Open opens a file, as a double-click on it would, and waits until the page has drawn its charts.
func (p Page) Open(file string) {
	p.T.Helper()
	abs, err := filepath.Abs(file)
	if err != nil {
		p.T.Fatal(err)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs)}
	p.Navigate(u.String())
}

// painted counts, for each chart, the pixels of its canvas that the curves have colored: those that are no shade of gray.
const painted = `return [...document.querySelectorAll('.chart canvas')].map((c) => {
	const copy = document.createElement('canvas'); // reading it back shall not change how the page's own is drawn
	[copy.width, copy.height] = [c.width, c.height];
	const context = copy.getContext('2d', { willReadFrequently: true });
	context.drawImage(c, 0, 0);
	const d = context.getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 0; i < d.length; i += 4) {
		if (d[i + 3] > 128 && Math.max(d[i], d[i + 1], d[i + 2]) - Math.min(d[i], d[i + 1], d[i + 2]) > 40) n++;
	}
	return n;
}).join(' ')`

// Check fails the test if the page is not whole: if it asked for anything but its file, wrote to its console, has another
// number of charts than charts, one without at least pixels colored pixels, or a control without a name.
func (p Page) Check(charts, pixels int) {
	p.T.Helper()
	if len(p.Requests) != 1 || !strings.HasPrefix(p.Requests[0], "file://") {
		p.T.Errorf("the page asks for %q, want its own file alone", p.Requests)
	}
	counts := strings.Fields(p.Eval(painted))
	if len(counts) != charts {
		p.T.Errorf("%d canvases, want %d", len(counts), charts)
	}
	for i, c := range counts {
		var n int
		if _, err := fmt.Sscan(c, &n); err != nil || n < pixels {
			p.T.Errorf("chart %d has %s colored pixels, want at least %d", i, c, pixels)
		}
	}
	p.Want(`return document.documentElement.dataset.drawn`, fmt.Sprint(charts))
	p.Want(`return [...document.querySelectorAll('button, [tabindex], summary')].filter((e) => !e.textContent.trim() && !e.ariaLabel).length`, "0")
	p.Calm()
}
