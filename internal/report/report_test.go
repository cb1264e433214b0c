package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/report/reporttest"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of the page; empty takes none")

// hostile is what a name may be at its worst.
const hostile = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u2028\u2029\u202e\u2066{{.}}`${1}\\"

// everything is a page with a block of each kind, and names as given.
func everything(name string) *Page {
	const n = 120
	var x, y, gaps, high []float64
	for i := range n {
		x, y = append(x, float64(i)), append(y, 1000*math.Sin(float64(i)/20)+1200)
		high = append(high, 900)
		if i%30 < 25 {
			gaps = append(gaps, float64(i*i))
		} else {
			gaps = append(gaps, math.NaN())
		}
	}
	return &Page{
		Title: "Title " + name, Subtitle: "Subtitle " + name, Footer: "Footer " + name,
		Time: TimeAxis{Begin: 0, End: n, Bands: []Band{{0, 30, "first " + name, ""}, {30, 60, "second", ""}, {60, n, "third", Bad}}, Marks: []Mark{{61, "broke " + name, Bad}}},
		Sections: []Section{
			{Blocks: []Block{
				Cards{{"Verdict", "held", "all thresholds", Good}, {"Peak", "1,000,000", name, ""}, {name, "x", "", Bad}},
				Notice{Warning, "Interrupted", name}, Notice{Bad, name, ""}, Notice{Good, "Fine", ""}, Notice{"odd", "Odd", ""}, Notice{Info, "Info", ""},
			}},
			{Title: "Section " + name, Blocks: []Block{
				Paragraph(name), List{"a line", name}, Facts{{name, name}, {"CPU", "2"}},
				Table{Caption: name, Columns: []Column{{"Name", false}, {"Value " + name, true}},
					Rows: [][]Cell{{Text("b" + name), Number(20, Count)}, {Text("a"), Number(3, Count)}, {Text("c"), {Text: "11", Severity: Bad, Sort: new(float64)}}, {Text("short")}}},
				Chain{{1.5, "connects rise", "2,000/s"}, {2.5, name, name}},
				Details{name, []Block{Paragraph("inside " + name), Facts{{"inner", "fact"}}}},
			}},
			{Title: "Charts", Blocks: []Block{
				&Chart{Title: "Curves " + name, Note: name, Unit: Micros, Series: []Series{{Name: "sine " + name, X: x, Y: y, Fill: true}, {Name: "gaps", X: x, Y: gaps}, {Name: "limit", X: x, Y: high, Dash: true}}},
				&Chart{Title: "Other times", Unit: PerSecond, Series: []Series{{Name: "a", X: x, Y: y}, {Name: "b", X: []float64{0.5, 40.25, 100}, Y: []float64{1, 2000, 300}}}},
				&Chart{Title: "Log", Unit: Bytes, Log: true, Series: []Series{{Name: "a", X: x, Y: gaps}}},
				&PercentilePlot{Title: "Percentiles " + name, Unit: Micros, Curves: []Curve{
					{Name: "corrected " + name, Percentiles: []float64{0, 50, 90, 99, 99.9, 100}, Values: []float64{100, 200, 900, 20000, 200000, 300000}},
					{Name: "service", Percentiles: []float64{0, 50, 90, 99, 99.9, 99.99, 100}, Values: []float64{100, 150, 200, 300, 800, 1000, 200000}, Dash: true}}},
			}},
		},
	}
}

func render(t *testing.T, p *Page) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageIsSelfContained(t *testing.T) {
	html := render(t, everything("name"))
	if n := len(html); n > 200_000 {
		t.Errorf("the page has %d bytes, want less than 200,000", n)
	}
	m := regexp.MustCompile(`http-equiv="Content-Security-Policy" content="([^"]*)"`).FindStringSubmatch(html)
	if m == nil || !strings.HasPrefix(m[1], "default-src 'none'; ") {
		t.Fatalf("policy = %q", m)
	}
	// What the policy allows is what stands in the page.
	for name, found := range map[string][][]string{
		"script": regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(html, -1),
		"style":  regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(html, -1),
	} {
		if len(found) != 1 {
			t.Fatalf("%d elements %s, want 1", len(found), name)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := name + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(m[1], want) {
			t.Errorf("policy = %s, want it to have %s", m[1], want)
		}
	}
	if at := strings.Index(html, "<style"); strings.Index(html, "Content-Security-Policy") > at {
		t.Error("the policy stands behind what it is about")
	}
	if found := regexp.MustCompile(`(?i)(?:src|href)="[^#"][^"]*"|@import|url\(|<[^>]+\s(?:style|on[a-z]+)=`).FindAllString(html, -1); fmt.Sprint(found) != `[href="data:,"]` {
		t.Errorf("the page has %q, want nothing but an empty icon", found)
	}
	if !strings.Contains(html, "The MIT License") || !strings.Contains(html, "Leon Sorokin") {
		t.Error("the licence of uPlot is not in the page")
	}
}

// The copy is of the version that the script makes it of.
func TestVendored(t *testing.T) {
	b, err := os.ReadFile("../../scripts/uplot")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^version=(\S+)$`).FindSubmatch(b)
	if m == nil || !strings.HasPrefix(uplotJS, "/*! https://github.com/leeoniya/uPlot (v"+string(m[1])+") */") {
		t.Errorf("scripts/uplot is about version %s, uplot.js begins with %.60s", m, uplotJS)
	}
	if strings.Contains(script+style, "</") || strings.Contains(script+style, "<!--") || strings.Contains(script+style, "\r") || directions.Replace(script+style) != script+style {
		t.Error("script or style has what would end it, or what a browser reads in another way")
	}
}

func TestHostileNames(t *testing.T) {
	html := render(t, everything(hostile))
	for _, bad := range []string{"<script>alert", "<img", "\u2028", "\u2029"} {
		// A separator is harmless in text, and a page may show it; in data it would be none.
		body, data, _ := strings.Cut(html, `<script type="application/json" id="data">`)
		data, _, _ = strings.Cut(data, "</script>")
		if bad[0] == '<' && strings.Contains(body, bad) || strings.Contains(data, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if i := strings.IndexAny(html, "\u202e\u2066"); i >= 0 {
		t.Errorf("the page turns the direction of its text: %q", html[i:i+20])
	}
	if n := strings.Count(html, "</script>"); n != 2 {
		t.Errorf("%d ends of scripts, want 2", n)
	}
}

// pageData is the JSON of a page.
func pageData(t *testing.T, html string) (d struct {
	Columns [][]*float64
	Axis    struct{ Begin, End float64 }
	Charts  []struct {
		Title  string
		Log    bool
		Series []struct {
			Name  string
			X, Y  int
			Color int
		}
	}
}) {
	t.Helper()
	_, j, _ := strings.Cut(html, `<script type="application/json" id="data">`)
	j, _, _ = strings.Cut(j, "</script>")
	if err := json.Unmarshal([]byte(j), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestData(t *testing.T) {
	d := pageData(t, render(t, everything("")))
	if len(d.Charts) != 4 || d.Axis.End != 120 {
		t.Fatalf("%d charts, axis %+v", len(d.Charts), d.Axis)
	}
	s := d.Charts[0].Series
	if s[0].X != s[1].X || s[0].Y == s[1].Y || s[0].X != d.Charts[1].Series[0].X {
		t.Errorf("series of one X have columns %+v, want that X once", s)
	}
	gaps := d.Columns[s[1].Y]
	if gaps[0] == nil || *gaps[24] != 576 || gaps[25] != nil {
		t.Errorf("a gap is %v", gaps[20:30])
	}
	if p := d.Charts[3]; !p.Log || len(d.Columns[p.Series[0].X]) != 6 || math.Abs(*d.Columns[p.Series[0].X][3]-2) > 1e-6 {
		t.Errorf("percentile plot = %+v %v", p, d.Columns[p.Series[0].X])
	}

	// Without an axis of its own a page spans its curves; without curves it spans something.
	p := everything("")
	p.Time = TimeAxis{}
	if d := pageData(t, render(t, p)); d.Axis.End != 119 {
		t.Errorf("axis = %+v, want the end of the curves", d.Axis)
	}
	if d := pageData(t, render(t, &Page{})); d.Axis.End <= d.Axis.Begin {
		t.Errorf("axis of an empty page = %+v", d.Axis)
	}
}

// A million points are drawn as a few thousand, and none of the spikes is lost.
func TestThinning(t *testing.T) {
	const n = 1_000_000
	x, y, z := make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range n {
		x[i], y[i], z[i] = float64(i), 5, math.NaN()
	}
	y[123_456], y[777_777], y[0], y[n-1] = 1e6, -1e6, 7, 8
	html := render(t, &Page{Sections: []Section{{Blocks: []Block{&Chart{Series: []Series{{Name: "y", X: x, Y: y}, {Name: "z", X: x, Y: z}}}}}}})
	if len(html) > 400_000 {
		t.Errorf("the page has %d bytes", len(html))
	}
	d := pageData(t, html)
	s := d.Charts[0].Series
	xs, ys := d.Columns[s[0].X], d.Columns[s[0].Y]
	if len(xs) != drawn || len(ys) != drawn || s[1].X != s[0].X {
		t.Fatalf("%d times and %d values, columns %+v", len(xs), len(ys), s)
	}
	found := map[float64]float64{}
	for i, v := range ys {
		if i > 0 && *xs[i] <= *xs[i-1] {
			t.Fatalf("time %d is %g after %g", i, *xs[i], *xs[i-1])
		}
		found[*v] = *xs[i]
	}
	for v, at := range map[float64]float64{1e6: 123_456, -1e6: 777_777, 7: 0, 8: n - 1} {
		if got, ok := found[v]; !ok || math.Abs(got-at) > n/drawn*2 {
			t.Errorf("the value %g is at %g (%v), want it near %g", v, got, ok, at)
		}
	}
	for _, v := range d.Columns[s[1].Y] {
		if v != nil {
			t.Fatalf("a curve without values has %g", *v)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for want, s := range map[string]Series{
		"2 times and 1 values":                       {Name: "a", X: []float64{1, 2}, Y: []float64{1}},
		"time 1 is 1: want times that do not fall":   {Name: "a", X: []float64{2, 1}, Y: []float64{1, 1}},
		"time 0 is NaN: want times that do not fall": {Name: "a", X: []float64{math.NaN()}, Y: []float64{1}},
	} {
		p := Page{Sections: []Section{{Blocks: []Block{Details{"folded", []Block{&Chart{Title: "bad", Series: []Series{s}}}}}}}}
		if err := p.Write(new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Write = %v, want %q", err, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		unit Unit
		v    float64
		want string
	}{
		{Count, 0, "0"}, {Count, 1234567, "1,234,567"}, {Count, -1234, "-1,234"}, {Count, 0.5, "0.5"}, {Count, 0.01234, "0.012"}, {Count, 1e20, "1e+20"},
		{Count, math.NaN(), "–"}, {Count, math.Inf(1), "–"},
		{PerSecond, 12.34, "12.3/s"}, {Micros, 5, "5 µs"}, {Micros, 61234, "61.2 ms"}, {Micros, 2.5e6, "2.5 s"}, {Micros, 999, "999 µs"}, {Micros, 999.7, "1 ms"}, {Micros, 999_600, "1 s"}, {Bytes, 999.7, "1 kB"},
		{Seconds, 90, "90 s"}, {Seconds, 0.25, "250 ms"}, {Seconds, 0, "0 s"}, {Bytes, 1.5e9, "1.5 GB"}, {Bytes, 12, "12 B"}, {BytesPerSecond, 2000, "2 kB/s"}, {Percent, 99.94, "99.9 %"},
	} {
		if got := c.unit.Format(c.v); got != c.want {
			t.Errorf("%s.Format(%g) = %q, want %q", c.unit, c.v, got, c.want)
		}
	}
}

func TestSummary(t *testing.T) {
	c := Chart{Title: "Open", Unit: Count, Series: []Series{{Name: "conns", X: []float64{0, 1, 2}, Y: []float64{5, 2000, 7}}, {Name: "none"}}}
	if got, want := c.summary(), "Open. conns: from 5 to 2,000, the highest at 1 s, the last 7. none: no values."; got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
	p := everything("").Sections[2].Blocks[3].(*PercentilePlot)
	if got, want := p.summary(), "Percentiles . corrected : 50 % within 200 µs, 90 % within 900 µs, 99 % within 20 ms, 99.9 % within 200 ms, 99.99 % within 300 ms, 100 % within 300 ms. "; !strings.HasPrefix(got, want) {
		t.Errorf("summary = %q, want %q", got, want)
	}
}

// TestBrowser opens the page from disk and uses it as a reader would.
func TestBrowser(t *testing.T) {
	b := reporttest.Start(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "page with space.html")
	if err := os.WriteFile(file, []byte(render(t, everything(hostile))), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Open(file)
	b.Check(4, 200)
	b.Want(`return document.querySelectorAll('img').length`, "0")
	plain := filepath.Join(dir, "plain.html")
	if err := os.WriteFile(plain, []byte(render(t, everything("name"))), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Open(plain)
	b.Check(4, 200)
	for _, c := range []struct{ scheme, medium string }{{"light", "screen"}, {"dark", "screen"}, {"dark", "print"}} {
		b.Theme(c.scheme, c.medium)
		b.Check(4, 200)
		want := map[string]string{"light screen": "rgb(246, 247, 246)", "dark screen": "rgb(17, 21, 19)", "dark print": "rgb(255, 255, 255)"}[c.scheme+" "+c.medium]
		b.Want(`return getComputedStyle(document.body).backgroundColor`, want)
		if *screenshots != "" {
			b.Picture(filepath.Join(*screenshots, "page-"+c.scheme+"-"+c.medium+".png"))
		}
	}
	b.Theme("light", "screen")

	// The cursor of one chart moves in all that share the time, and the legends have the values there.
	press := func(chart int, key string) {
		b.Eval(fmt.Sprintf(`document.querySelectorAll('.plot')[%d].dispatchEvent(new KeyboardEvent('keydown', { key: %q, bubbles: true }));
			await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`, chart, key))
	}
	press(0, "Home")
	for range 3 {
		press(0, "ArrowRight")
	}
	b.Want(`return [...document.querySelectorAll('.legend .when')].map((e) => e.textContent).join('|')`, "at 3 s, first name|at 3 s, first name|at 3 s, first name|")
	b.Want(`return document.querySelectorAll('.legend .value')[1].textContent`, "9 µs")
	// Curves go away and come back.
	b.Want(`const c = document.querySelector('.chart canvas'); const seen = [c.toDataURL()]; const button = document.querySelector('.legend button');
		for (let i = 0; i < 2; i++) { button.click(); await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); seen.push(c.toDataURL()); }
		return [button.ariaPressed, seen[1] !== seen[0], seen[2] === seen[0]].join()`, "true,true,true")
	// A zoom of one is a zoom of all, and 0 comes back.
	pictures := `return [...document.querySelectorAll('.chart canvas')].map((c) => c.toDataURL().length + ':' + c.toDataURL().slice(-200)).join('|')`
	whole := strings.Split(b.Eval(pictures), "|")
	press(0, "+")
	zoomed := strings.Split(b.Eval(pictures), "|")
	press(1, "0")
	back := strings.Split(b.Eval(pictures), "|")
	for i := range whole {
		if (zoomed[i] == whole[i]) != (i == 3) || back[i] != whole[i] {
			t.Errorf("chart %d: the zoom changed it: %v, and it came back: %v", i, zoomed[i] != whole[i], back[i] == whole[i])
		}
	}
	// The mouse does the same: drag, and double-click.
	mouse := func(kind string, x, y, count int) {
		b.Call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": count}, nil)
	}
	b.Eval(`document.querySelector('.plot').scrollIntoView({ block: 'center' })`)
	var x, y int
	if _, err := fmt.Sscan(b.Eval(`const r = document.querySelector('.u-over').getBoundingClientRect(); return Math.round(r.x + 100) + ' ' + Math.round(r.y + 60)`), &x, &y); err != nil {
		t.Fatal(err)
	}
	mouse("mouseMoved", x, y, 0)
	mouse("mousePressed", x, y, 1)
	mouse("mouseMoved", x+50, y, 0)
	mouse("mouseMoved", x+200, y, 0)
	mouse("mouseReleased", x+200, y, 1)
	b.Eval(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`)
	dragged := strings.Split(b.Eval(pictures), "|")
	for range 2 {
		mouse("mousePressed", x, y, 2)
		mouse("mouseReleased", x, y, 2)
	}
	b.Eval(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`)
	back = strings.Split(b.Eval(pictures), "|")
	for i := range whole {
		if (dragged[i] == whole[i]) != (i == 3) || back[i] != whole[i] {
			t.Errorf("chart %d: the drag changed it: %v, and it came back: %v", i, dragged[i] != whole[i], back[i] == whole[i])
		}
	}
	// The figures are there for who does not see the curves, and tables sort.
	b.Want(`const d = document.querySelector('.figures'); d.open = true; await new Promise((done) => d.addEventListener('toggle', done, { once: true }));
		return d.querySelectorAll('tbody tr').length + ' ' + d.querySelector('tbody tr:nth-child(4)').textContent`, "120 3 s1.35 ms9 µs900 µs")
	b.Want(`const t = document.querySelector('table.sortable'); const order = () => [...t.tBodies[0].rows].map((r) => r.cells[0].textContent[0]).join('');
		const seen = [order()]; t.querySelectorAll('th button')[1].click(); seen.push(order()); t.querySelectorAll('th button')[0].click(); seen.push(order());
		t.querySelectorAll('th button')[0].click(); seen.push(order()); return seen.join()`, "bacs,scab,abcs,scba")
	// Nothing is wider than paper, or a small screen.
	b.Size(700, 1000)
	b.Theme("dark", "print")
	b.Want(`return document.documentElement.scrollWidth <= innerWidth`, "true")
	b.Want(`return [...document.querySelectorAll('.uplot')].every((e) => e.clientWidth <= e.parentElement.clientWidth)`, "true")
	b.Theme("light", "screen")
	b.Size(400, 800)
	b.Eval(`await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))`)
	b.Want(`return document.documentElement.scrollWidth`, "400")
	b.Check(4, 100)
	if *screenshots != "" {
		b.Picture(filepath.Join(*screenshots, "page-small.png"))
	}
}
