// Package report makes a page of findings and plots: one HTML file that needs no network and nothing beside it, to be
// opened from disk, sent to a colleague, or printed. The caller fills a Page with sections of blocks; Write renders it.
//
// The file's policy lets it run its own script, use its own style, and load nothing at all. What comes from outside, such
// as names and addresses, is text wherever it stands.
package report

import (
	"fmt"
	"slices"
)

// Page is one file. The caller owns it and what it points to; Write changes nothing of it.
type Page struct {
	Title    string // of the document, and its heading
	Subtitle string // a line below it
	Sections []Section
	// Time is the axis that all charts share. The zero value spans what the charts show.
	Time TimeAxis
	// Footer is a last line, such as which program made the page.
	Footer string
}

// Section is a part of the page. One without a title has no heading and is not in the list of contents.
type Section struct {
	Title  string
	Blocks []Block
}

// Block is one of Notice, Cards, Facts, Paragraph, List, Table, *Chart, *PercentilePlot, Chain and Details.
type Block interface{ kind() string }

// Severity says how a thing is to be taken. It is shown in color and in words or shape, never in color alone.
type Severity string

// The severities. The zero value is neutral.
const (
	Neutral Severity = ""
	Good    Severity = "good"
	Info    Severity = "info"
	Warning Severity = "warning"
	Bad     Severity = "bad"
)

func (s Severity) known() Severity {
	if slices.Contains([]Severity{Good, Info, Warning, Bad}, s) {
		return s
	}
	return Neutral
}

// Notice is something to see first.
type Notice struct {
	Severity Severity
	Title    string
	Text     string // may be empty
}

// Cards are a few figures in large type, side by side.
type Cards []Card

// Card is one of them.
type Card struct {
	Label    string
	Value    string
	Note     string // may be empty
	Severity Severity
}

// Facts are names and their values.
type Facts []Fact

// Fact is one of them.
type Fact struct{ Name, Value string }

// Paragraph is running text.
type Paragraph string

// List is lines of text, one below the other.
type List []string

// Table is rows of cells. A reader can sort it by a column.
type Table struct {
	Caption string // may be empty
	Columns []Column
	Rows    [][]Cell // each at most as long as Columns
}

// Column is the head of one column. Cells of a numeric one stand at the right.
type Column struct {
	Name    string
	Numeric bool
}

// Cell is one cell.
type Cell struct {
	Text     string
	Severity Severity
	Sort     *float64 // what it is sorted by; nil means by Text
}

// Text is a cell with text.
func Text(s string) Cell { return Cell{Text: s} }

// Number is a cell with a figure in its unit.
func Number(v float64, u Unit) Cell { return Cell{Text: u.Format(v), Sort: &v} }

// None is a cell for what was not measured.
func None() Cell { return Cell{Text: "–"} }

// Chain is things that happened one after the other.
type Chain []Link

// Link is one of them.
type Link struct {
	At     float64 // seconds
	What   string
	Figure string // may be empty
}

// Details are blocks that are folded away under a line until the reader opens them.
type Details struct {
	Summary string
	Blocks  []Block
}

func (Notice) kind() string          { return "notice" }
func (Cards) kind() string           { return "cards" }
func (Facts) kind() string           { return "facts" }
func (Paragraph) kind() string       { return "paragraph" }
func (List) kind() string            { return "list" }
func (Table) kind() string           { return "table" }
func (Chain) kind() string           { return "chain" }
func (Details) kind() string         { return "details" }
func (*Chart) kind() string          { return "chart" }
func (*PercentilePlot) kind() string { return "percentiles" }

// TimeAxis is the time that all charts of a page share, in seconds.
type TimeAxis struct {
	Begin, End float64 // both 0: from the first to the last point of any chart, 0 included
	Bands      []Band  // stretches, shaded behind the curves
	Marks      []Mark  // moments, a line through all charts
}

// Band is a stretch of time.
type Band struct {
	Begin, End float64
	Label      string
	Severity   Severity
}

// Mark is a moment.
type Mark struct {
	At       float64
	Label    string
	Severity Severity
}

// Chart is curves over the page's time.
type Chart struct {
	Title  string
	Note   string // what the reader should know, below the title; may be empty
	Unit   Unit
	Series []Series
	Log    bool // logarithmic: what is not above 0 is not drawn
}

// Series is one curve. Points with the same index in X and Y belong together; X is in seconds and does not fall. A Y that
// is NaN is a gap. Series of one page that were sampled together should share one X, which is then stored once.
type Series struct {
	Name  string
	X, Y  []float64
	Color int  // from 1; 0 takes the next one
	Dash  bool // dotted
	Fill  bool // shaded below
}

// PercentilePlot is distributions over their percentiles, on an axis that gives each further nine the same room.
type PercentilePlot struct {
	Title  string
	Note   string
	Unit   Unit
	Curves []Curve
}

// Curve is one distribution. Percentiles go from 0 to 100 and do not fall.
type Curve struct {
	Name        string
	Percentiles []float64
	Values      []float64
	Color       int // as in Series
	Dash        bool
}

// summary says in words what a chart shows, for whoever does not see it.
func (c *Chart) summary() string {
	s := c.Title + "."
	for i := range c.Series {
		one := &c.Series[i]
		least, most, last, at := extremes(one.X, one.Y)
		if at < 0 {
			s += fmt.Sprintf(" %s: no values.", one.Name)
			continue
		}
		s += fmt.Sprintf(" %s: from %s to %s, the highest at %s, the last %s.", one.Name,
			c.Unit.Format(least), c.Unit.Format(most), Seconds.Format(one.X[at]), c.Unit.Format(last))
	}
	return s
}

func (p *PercentilePlot) summary() string {
	s := p.Title + "."
	for _, c := range p.Curves {
		s += " " + c.Name + ":"
		n := 0
		for _, want := range []float64{50, 90, 99, 99.9, 99.99, 100} {
			for i := range c.percentiles() {
				if c.Percentiles[i] >= want-1e-9 {
					if n++; n > 1 {
						s += ","
					}
					s += fmt.Sprintf(" %s within %s", percent(want), p.Unit.Format(c.Values[i]))
					break
				}
			}
		}
		if n == 0 {
			s += " no values"
		}
		s += "."
	}
	return s
}

// percentiles are those that have a value.
func (c *Curve) percentiles() []float64 {
	return c.Percentiles[:min(len(c.Percentiles), len(c.Values))]
}
