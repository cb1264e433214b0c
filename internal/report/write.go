package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:generate ../../scripts/uplot

// The parts of every page. uplot.js and uplot.css are copies of the npm package uplot, which scripts/uplot makes; its
// licence stands in each page.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
	//go:embed page/uplot.js
	uplotJS string
	//go:embed page/uplot.css
	uplotCSS string
	//go:embed page/uplot-LICENSE.txt
	uplotLicense string
)

var (
	style  = uplotCSS + "\n" + pageCSS
	script = "/* uPlot:\n" + strings.TrimSpace(uplotLicense) + "\n*/\n" + uplotJS + "\n" + pageJS
	// policy allows the one script and the one style by what they hash to, the empty icon, and nothing else.
	policy = "default-src 'none'; script-src " + hash(script) + "; style-src " + hash(style) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
	layout = template.Must(template.New("page").Funcs(template.FuncMap{
		"kind":     func(b Block) string { return b.kind() },
		"severity": func(s Severity) Severity { return s.known() },
		"word":     word,
		"seconds":  func(v float64) string { return Seconds.Format(v) },
		"numeric":  func(c []Column, i int) bool { return i < len(c) && c[i].Numeric },
	}).Parse(pageHTML))
)

// directions takes out what turns the direction of the text behind it: a name must not change what stands beside it.
var directions = strings.NewReplacer("\u202a", "\ufffd", "\u202b", "\ufffd", "\u202c", "\ufffd", "\u202d", "\ufffd", "\u202e", "\ufffd",
	"\u2066", "\ufffd", "\u2067", "\ufffd", "\u2068", "\ufffd", "\u2069", "\ufffd")

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// word says a severity to who does not see its color.
func word(s Severity) string {
	switch s {
	case Good:
		return "Good"
	case Info:
		return "Note"
	case Warning:
		return "Warning"
	case Bad:
		return "Bad"
	}
	return ""
}

// data is what the script draws, as JSON.
type data struct {
	Columns []column     `json:"columns"`
	Axis    axisData     `json:"axis"`
	Charts  []*chartData `json:"charts"`
}

type axisData struct {
	Begin number     `json:"begin"`
	End   number     `json:"end"`
	Bands []bandData `json:"bands,omitempty"`
	Marks []bandData `json:"marks,omitempty"`
}

type bandData struct {
	Begin    number   `json:"begin"`
	End      number   `json:"end"`
	Label    string   `json:"label"`
	Severity Severity `json:"severity,omitempty"`
}

type chartData struct {
	Title       string       `json:"title"`
	Unit        Unit         `json:"unit"`
	Log         bool         `json:"log,omitempty"`
	Percentiles bool         `json:"percentiles,omitempty"`
	Series      []seriesData `json:"series"`
}

type seriesData struct {
	Name  string `json:"name"`
	X     int    `json:"x"` // columns
	Y     int    `json:"y"`
	Color int    `json:"color"`
	Dash  bool   `json:"dash,omitempty"`
	Fill  bool   `json:"fill,omitempty"`
}

// column is an array of the data; what is no number is null.
type column []float64

func (c column) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 8*len(c)+2), '[')
	for i, v := range c {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNumber(b, v)
	}
	return append(b, ']'), nil
}

type number float64

func (n number) MarshalJSON() ([]byte, error) { return appendNumber(nil, float64(n)), nil }

// appendNumber writes the value itself where that is short, and six digits of it where not.
func appendNumber(b []byte, v float64) []byte {
	switch {
	case !finite(v):
		return append(b, "null"...)
	case v == math.Trunc(v) && math.Abs(v) < 1e15:
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', 6, 64)
}

// chartView is a chart as the template sees it.
type chartView struct {
	Index   int
	Title   string
	Note    string
	Summary string
}

// view is a page as the template sees it.
type view struct {
	*Page
	Policy template.HTMLAttr
	Style  template.CSS
	Script template.JS
	Data   template.JS
	Root   []sectionView
}

type sectionView struct {
	ID     string
	Title  string
	Blocks []blockView
}

type blockView struct {
	Block
	Chart  *chartView  // of a chart or percentile plot
	Blocks []blockView // of details
}

// builder gathers the data of a page while its blocks are walked.
type builder struct {
	columns    columns
	charts     []*chartData
	begin, end float64 // of all points in time
}

// Write renders the page. It returns w's error, or one that says which chart has no sense: X and Y of different lengths,
// or times that fall.
func (p *Page) Write(w io.Writer) error {
	var b builder
	v := view{Page: p, Style: template.CSS(style), Script: template.JS(script),
		Policy: template.HTMLAttr(`content="` + policy + `"`)}
	for i, s := range p.Sections {
		blocks, err := b.blocks(s.Blocks)
		if err != nil {
			return err
		}
		v.Root = append(v.Root, sectionView{ID: "s" + strconv.Itoa(i+1), Title: s.Title, Blocks: blocks})
	}
	d := data{Columns: b.columns.list, Charts: b.charts, Axis: b.axisData(p.Time)}
	j, err := json.Marshal(d) // which escapes <, >, &, U+2028 and U+2029
	if err != nil {
		return fmt.Errorf("report: data of the page: %w", err)
	}
	v.Data = template.JS(j)
	var out bytes.Buffer
	if err := layout.Execute(&out, v); err != nil {
		return fmt.Errorf("report: page: %w", err)
	}
	_, err = directions.WriteString(w, out.String())
	return err
}

func (b *builder) blocks(list []Block) ([]blockView, error) {
	var views []blockView
	for _, block := range list {
		v := blockView{Block: block}
		switch block := block.(type) {
		case *Chart:
			if err := block.check(); err != nil {
				return nil, err
			}
			v.Chart = &chartView{Index: len(b.charts), Title: block.Title, Note: block.Note, Summary: block.summary()}
			b.charts = append(b.charts, b.chart(block))
		case *PercentilePlot:
			v.Chart = &chartView{Index: len(b.charts), Title: block.Title, Note: block.Note, Summary: block.summary()}
			b.charts = append(b.charts, b.percentiles(block))
		case Details:
			var err error
			if v.Blocks, err = b.blocks(block.Blocks); err != nil {
				return nil, err
			}
		}
		views = append(views, v)
	}
	return views, nil
}

func (c *Chart) check() error {
	for _, s := range c.Series {
		if len(s.X) != len(s.Y) {
			return fmt.Errorf("report: chart %q, series %q: %d times and %d values", c.Title, s.Name, len(s.X), len(s.Y))
		}
		for i, x := range s.X {
			if !finite(x) || i > 0 && x < s.X[i-1] {
				return fmt.Errorf("report: chart %q, series %q: time %d is %g: want times that do not fall", c.Title, s.Name, i, x)
			}
		}
	}
	return nil
}

func (b *builder) chart(c *Chart) *chartData {
	d := &chartData{Title: c.Title, Unit: c.Unit, Log: c.Log}
	for i, s := range c.Series {
		if n := len(s.X); n > 0 {
			b.begin, b.end = min(b.begin, s.X[0]), max(b.end, s.X[n-1])
		}
		x, y := b.columns.points(s.X, s.Y)
		d.Series = append(d.Series, seriesData{Name: s.Name, X: x, Y: y, Color: color(s.Color, i), Dash: s.Dash, Fill: s.Fill})
	}
	return d
}

// percentiles has the nines of each percentile as X: 0 at 0 %, 1 at 90 %, 2 at 99 %. 100 % is infinitely far, so the
// longest value stands right beside the last percentile before it.
func (b *builder) percentiles(p *PercentilePlot) *chartData {
	d := &chartData{Title: p.Title, Unit: p.Unit, Percentiles: true}
	least, most := math.Inf(1), 0.0
	for i, c := range p.Curves {
		var x, y []float64
		last := 0.0
		for j, at := range c.percentiles() {
			if !finite(at) || !finite(c.Values[j]) || at < 0 || at > 100 {
				continue
			}
			if at < 100 {
				last = max(last, -math.Log10(1-at/100))
			} else {
				last += 0.002
			}
			x, y = append(x, last), append(y, c.Values[j])
			if c.Values[j] > 0 {
				least, most = min(least, c.Values[j]), max(most, c.Values[j])
			}
		}
		xi, yi := b.columns.points(x, y)
		d.Series = append(d.Series, seriesData{Name: c.Name, X: xi, Y: yi, Color: color(c.Color, i), Dash: c.Dash})
	}
	d.Log = most > 30*least
	return d
}

// palette is how many colors the style has.
const palette = 8

func color(chosen, i int) int {
	if chosen >= 1 && chosen <= palette {
		return chosen
	}
	return i%palette + 1
}

// axisData is the page's time axis, to be called when all charts are known.
func (b *builder) axisData(t TimeAxis) axisData {
	a := axisData{Begin: number(t.Begin), End: number(t.End)}
	if t.Begin == 0 && t.End == 0 {
		a.Begin, a.End = number(b.begin), number(b.end)
	}
	if a.End <= a.Begin {
		a.End = a.Begin + 1
	}
	for _, band := range t.Bands {
		a.Bands = append(a.Bands, bandData{number(band.Begin), number(band.End), band.Label, band.Severity.known()})
	}
	for _, m := range t.Marks {
		a.Marks = append(a.Marks, bandData{number(m.At), number(m.At), m.Label, m.Severity.known()})
	}
	return a
}
