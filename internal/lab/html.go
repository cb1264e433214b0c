package lab

import (
	"fmt"
	"io"
	"strings"

	"github.com/longwire/longwire/internal/report"
)

// WriteHTML writes the report as one HTML file that needs no network and nothing beside it.
func (r *Report) WriteHTML(w io.Writer) error { return r.page().Write(w) }

// severities are how verdicts are shown.
var severities = map[Verdict]report.Severity{Holds: report.Good, HoldsInPart: report.Warning, DoesNotHold: report.Bad, NotShown: report.Info}

func (r *Report) page() *report.Page {
	p := &report.Page{Title: "The lab", Footer: "Made by longwire lab " + r.Environment.Version}
	if len(r.Experiments) == 1 {
		p.Title = "The lab: " + r.Experiments[0].Title
	}
	if len(r.Experiments) > 0 {
		p.Subtitle = r.Experiments[0].Began.Format("2 January 2006, 15:04:05 -0700")
	}
	if len(r.Experiments) > 1 {
		p.Sections = append(p.Sections, report.Section{Title: "Verdicts", Blocks: []report.Block{r.summary()}})
	}
	for _, x := range r.Experiments {
		p.Sections = append(p.Sections, x.section())
	}
	e := r.Environment
	p.Sections = append(p.Sections, report.Section{Title: "Environment", Blocks: []report.Block{report.Facts{
		{Name: "Longwire", Value: e.Version}, {Name: "Go", Value: e.Go}, {Name: "System", Value: strings.TrimSpace(e.System + " " + e.Kernel)},
		{Name: "CPUs", Value: fmt.Sprint(e.CPUs)}, {Name: "Load of the last minute, before", Value: report.Count.Format(e.Load)},
	}}})
	return p
}

// summary has a row for each claim.
func (r *Report) summary() report.Table {
	t := report.Table{Columns: []report.Column{{Name: "Experiment"}, {Name: "What the article says"}, {Name: "Verdict"}}}
	for _, x := range r.Experiments {
		for _, v := range x.Verdicts {
			t.Rows = append(t.Rows, []report.Cell{report.Text(x.Name), report.Text(v.Claim.Says), {Text: v.Verdict.String(), Severity: severities[v.Verdict]}})
		}
	}
	return t
}

func (x *Result) section() report.Section {
	s := report.Section{Title: x.Title}
	add := func(b report.Block) { s.Blocks = append(s.Blocks, b) }
	add(report.Paragraph(x.About))
	if x.Error != "" {
		add(report.Notice{Severity: report.Bad, Title: "Not carried out to the end", Text: x.Error})
	}
	if x.Interrupted {
		add(report.Notice{Severity: report.Warning, Title: "Interrupted", Text: "What is below was measured before."})
	}
	for _, v := range x.Verdicts {
		add(report.Notice{Severity: severities[v.Verdict], Title: "“" + v.Claim.Quote + "” " + v.Verdict.String(), Text: "The article says: " + v.Claim.Says + ". Measured: " + v.Sentence + "."})
	}
	for _, t := range x.Tables {
		add(t.block())
	}
	for _, c := range x.charts() {
		add(c)
	}
	if len(x.Notes) > 0 {
		add(report.List(x.Notes))
	}
	add(report.Facts{{Name: "Run", Value: fmt.Sprintf("longwire lab run %s --scale %d --seed %d", x.Name, x.Scale, x.Seed)}, {Name: "Took", Value: report.Seconds.Format(x.Took)}})
	return s
}

func (t *Table) block() report.Table {
	out := report.Table{Caption: t.Title}
	for i, name := range t.Columns {
		numeric := false
		for _, row := range t.Rows {
			numeric = numeric || row[i].Value != nil
		}
		out.Columns = append(out.Columns, report.Column{Name: name, Numeric: numeric})
	}
	for _, row := range t.Rows {
		var cells []report.Cell
		for _, c := range row {
			cells = append(cells, report.Cell{Text: c.Text, Sort: c.Value})
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

// charts are the curves, those of one chart together.
func (x *Result) charts() (list []*report.Chart) {
	of := map[string]*report.Chart{}
	for _, s := range x.Series {
		key := s.Chart + "\x00" + string(s.Unit)
		c := of[key]
		if c == nil {
			c = &report.Chart{Title: s.Chart, Unit: s.Unit}
			if c.Title == "" {
				c.Title = s.Name
			}
			of[key] = c
			list = append(list, c)
		}
		one := report.Series{Name: s.Name}
		for _, p := range s.Points {
			one.X, one.Y = append(one.X, p.At), append(one.Y, p.Value)
		}
		c.Series = append(c.Series, one)
	}
	return list
}
