package stress

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/longwire/longwire/internal/report"
)

// WriteHTML writes the comparison as one HTML file, with the curves of both runs over each other. It is for what Compare
// returned.
func (c *Comparison) WriteHTML(w io.Writer) error { return c.page().Write(w) }

func (c *Comparison) page() *report.Page {
	name := func(s Side, or string) string {
		if s.Name != "" {
			return s.Name
		}
		return or
	}
	p := &report.Page{Title: name(c.B, "Run b") + " against " + name(c.A, "run a"), Subtitle: c.headline(), Footer: "Made by longwire stress compare"}
	runs := report.Table{Columns: []report.Column{{Name: "Run"}, {Name: "Name"}, {Name: "Target"}, {Name: "Begun"}, {Name: "Length", Numeric: true}, {Name: "Thresholds"}}}
	for i, s := range []Side{c.A, c.B} {
		runs.Rows = append(runs.Rows, []report.Cell{report.Text(string(rune('a' + i))), report.Text(s.Name), report.Text(s.Target), report.Text(s.Begun.Format("2006-01-02 15:04:05 -0700")), report.Number(s.Elapsed, report.Seconds), verdict(s.Held)})
	}
	var first []report.Block
	switch {
	case !c.Alike:
		first = append(first, report.Notice{Severity: report.Bad, Title: "Not comparable.", Text: "The runs are of different loads, so their figures say nothing of each other. They are shown all the same."})
	case c.Worse > 0:
		first = append(first, report.Notice{Severity: report.Bad, Title: capital(c.headline()) + ".", Text: "Of b against a, by more than the noise."})
	case c.Better > 0:
		first = append(first, report.Notice{Severity: report.Good, Title: capital(c.headline()) + ".", Text: "Of b against a, by more than the noise."})
	default:
		first = append(first, report.Notice{Severity: report.Info, Title: capital(c.headline()) + "."})
	}
	first = append(first, columnsThat(runs))
	mismatches := func(caption string, list []Mismatch) {
		if len(list) == 0 {
			return
		}
		t := report.Table{Caption: caption, Columns: []report.Column{{Name: "What"}, {Name: "a"}, {Name: "b"}}}
		for _, m := range list {
			t.Rows = append(t.Rows, []report.Cell{report.Text(m.What), report.Text(m.A), report.Text(m.B)})
		}
		first = append(first, t)
	}
	mismatches("Why they are not comparable", c.Unlike)
	mismatches("What else is different", c.Changed)
	p.Sections = append(p.Sections, report.Section{Blocks: first})

	t := report.Table{Columns: []report.Column{{Name: "Figure"}, {Name: "a", Numeric: true}, {Name: "b", Numeric: true}, {Name: "Change", Numeric: true}, {Name: "At the same time and load", Numeric: true}, {Name: "Verdict"}}}
	for i := range c.Figures {
		f := &c.Figures[i]
		v := report.Text(string(f.Verdict))
		switch f.Verdict {
		case Worse:
			v.Severity = report.Bad
		case Better:
			v.Severity = report.Good
		}
		if f.Why != "" {
			v.Text += ": " + f.Why
		}
		t.Rows = append(t.Rows, []report.Cell{report.Text(f.Name), {Text: f.text(f.A), Sort: f.A}, {Text: f.text(f.B), Sort: f.B}, {Text: f.changeText(), Sort: f.Change}, {Text: f.effectText(), Sort: f.Effect}, v})
	}
	figures := []report.Block{t}
	if c.Alike {
		figures = append(figures, report.Paragraph(fmt.Sprintf("Whole runs in columns a and b. The difference at the same time and load is between the %d samples that both runs took in the same second of the plan, with the interval that has the true one with 99.9 %%; where it does not have 0, and the difference is at least %g %%, there is a verdict.", c.Pairs, leastGap*100)))
	}
	p.Sections = append(p.Sections, report.Section{Title: "Figures", Blocks: figures})
	if charts := c.charts(); len(charts) > 0 {
		p.Sections = append(p.Sections, report.Section{Title: "Over time", Blocks: charts})
	}
	if x, y := c.a.main(), c.b.main(); x != nil && y != nil && len(x.CorrectedMarks) > 0 && len(y.CorrectedMarks) > 0 {
		p.Sections = append(p.Sections, report.Section{Title: "Latency", Blocks: []report.Block{&report.PercentilePlot{Title: "Percentiles", Note: "corrected", Unit: report.Micros,
			Curves: []report.Curve{curve("a", x.CorrectedMarks, 1), curve("b", y.CorrectedMarks, 2)}}}})
	}
	p.Sections = append(p.Sections, report.Section{Title: "Notes", Blocks: []report.Block{report.List(c.Notes)}})
	return p
}

// charts has the curves of both runs over each other.
func (c *Comparison) charts() []report.Block {
	var blocks []report.Block
	x := [][]float64{times(c.a.Samples), times(c.b.Samples)}
	add := func(ch report.Chart, series func(*Report) []float64, more ...func(*Report) []float64) {
		least, most := math.Inf(1), 0.0
		for i, r := range []*Report{c.a, c.b} {
			for k, of := range append([]func(*Report) []float64{series}, more...) {
				y := of(r)
				if any, _ := present(y); !any {
					continue
				}
				for _, v := range y {
					if v > 0 {
						least, most = min(least, v), max(most, v)
					}
				}
				s := report.Series{Name: string(rune('a' + i)), X: x[i], Y: y, Color: i + 1, Dash: len(more) > 0 && k == 0}
				if len(more) > 0 {
					s.Name += []string{" p50", " p99"}[k]
				}
				ch.Series = append(ch.Series, s)
			}
		}
		ch.Log = ch.Unit == report.Micros && most > logFrom*least
		if slices.ContainsFunc(ch.Series, func(s report.Series) bool { _, more := present(s.Y); return more }) {
			blocks = append(blocks, &ch)
		}
	}
	grows := func(of func(*Sample) float64) func(*Report) []float64 {
		return func(r *Report) []float64 { return rate(r.Samples, of) }
	}
	is := func(of func(*Sample) float64) func(*Report) []float64 {
		return func(r *Report) []float64 { return gauge(r.Samples, of) }
	}
	quantile := func(of func(*Sample) *Quantile, q func(*Quantile) float64) func(*Report) []float64 {
		return is(func(s *Sample) float64 { return ofQuantile(of(s), q) })
	}
	p50, p99 := func(q *Quantile) float64 { return q.P50 }, func(q *Quantile) float64 { return q.P99 }
	add(report.Chart{Title: "Connections", Note: "open", Unit: report.Count}, is(func(s *Sample) float64 { return float64(s.Open) }))
	add(report.Chart{Title: "Throughput", Note: "exchanges done", Unit: report.PerSecond}, grows(func(s *Sample) float64 { return float64(s.Done) }))
	add(report.Chart{Title: "Latency", Note: "corrected", Unit: report.Micros}, quantile(latency, p50), quantile(latency, p99))
	add(report.Chart{Title: "Time to connect", Unit: report.Micros}, quantile(connect, p50), quantile(connect, p99))
	add(report.Chart{Title: "Errors", Note: "of all kinds", Unit: report.PerSecond}, grows(func(s *Sample) float64 { _, n := errorKinds(s.Errors); return float64(n) }))
	add(report.Chart{Title: "SYN retransmits", Unit: report.PerSecond}, grows(kernelCounters[0].of))
	add(report.Chart{Title: "CPU of the server", Note: "100 % is one CPU", Unit: report.Percent}, func(r *Report) []float64 {
		y := rateOf(r.Samples, ofServer(func(t *TargetSample) float64 { return t.CPU }))
		for i := range y {
			y[i] *= 100
		}
		return y
	})
	add(report.Chart{Title: "Memory of the server", Note: "resident", Unit: report.Bytes}, is(ofServer(func(t *TargetSample) float64 { return float64(t.Resident) })))
	return blocks
}
