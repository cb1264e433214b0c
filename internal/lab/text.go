package lab

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/longwire/longwire/internal/report"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for i, x := range r.Experiments {
		if i > 0 {
			b.WriteString("\n\n")
		}
		x.writeText(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width is where running text is broken.
const width = 110

func (x *Result) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "%s: %s (scale %d, %s)\n", x.Name, x.Title, x.Scale, report.Seconds.Format(x.Took))
	wrap(b, "  ", x.About)
	for _, t := range x.Tables {
		b.WriteByte('\n')
		t.writeText(b)
	}
	if len(x.Series) > 0 {
		b.WriteByte('\n')
	}
	for _, s := range x.Series {
		s.writeText(b)
	}
	if len(x.Notes) > 0 {
		b.WriteByte('\n')
	}
	for _, n := range x.Notes {
		wrap(b, "note: ", n)
	}
	for _, v := range x.Verdicts {
		fmt.Fprintf(b, "\n%s: %s\n", strings.ToUpper(v.Verdict.String()), v.Claim.ID)
		fmt.Fprintf(b, "  the article: %s\n", v.Claim.Quote)
		wrap(b, "  it says: ", v.Claim.Says)
		wrap(b, "  measured: ", v.Sentence)
	}
	if x.Error != "" {
		fmt.Fprintf(b, "\nnot carried out to the end: %s\n", x.Error)
	}
	if x.Interrupted {
		b.WriteString("\ninterrupted: what is above was measured before\n")
	}
}

// wrap writes text behind a label, and breaks it into lines that begin below its first word.
func wrap(b *strings.Builder, label, text string) {
	b.WriteString(label)
	indent := utf8.RuneCountInString(label)
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			b.WriteString(strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

// writeText writes the table with its columns aligned, and column heads in as many lines as they need.
func (t *Table) writeText(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n", t.Title)
	columns := make([]int, len(t.Columns))
	numeric := make([]bool, len(t.Columns))
	for i := range t.Columns {
		columns[i] = 6
		for _, row := range t.Rows {
			columns[i] = max(columns[i], utf8.RuneCountInString(row[i].Text))
			numeric[i] = numeric[i] || row[i].Value != nil
		}
	}
	heads := make([][]string, len(t.Columns))
	lines := 0
	for i, name := range t.Columns {
		columns[i] = max(columns[i], longestWord(name))
		heads[i] = broken(name, columns[i])
		lines = max(lines, len(heads[i]))
	}
	line := func(cell func(i int) string) {
		var l strings.Builder
		l.WriteString("  ")
		for i := range t.Columns {
			text := cell(i)
			space := strings.Repeat(" ", max(0, columns[i]-utf8.RuneCountInString(text)))
			if numeric[i] {
				l.WriteString(space + text + "  ")
			} else {
				l.WriteString(text + space + "  ")
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	for k := range lines {
		line(func(i int) string {
			if from := lines - len(heads[i]); k >= from {
				return heads[i][k-from]
			}
			return ""
		})
	}
	for _, row := range t.Rows {
		line(func(i int) string { return row[i].Text })
	}
}

func longestWord(s string) (n int) {
	for _, w := range strings.Fields(s) {
		n = max(n, utf8.RuneCountInString(w))
	}
	return n
}

// broken breaks a name into lines of at most n runes, at its blanks.
func broken(s string, n int) (lines []string) {
	for _, w := range strings.Fields(s) {
		if k := len(lines); k > 0 && utf8.RuneCountInString(lines[k-1])+1+utf8.RuneCountInString(w) <= n {
			lines[k-1] += " " + w
		} else {
			lines = append(lines, w)
		}
	}
	return lines
}

// writeText says in a line what a curve shows.
func (s *Series) writeText(b *strings.Builder) {
	name := s.Name
	if s.Chart != "" {
		name = s.Chart + ", " + name
	}
	if len(s.Points) == 0 {
		fmt.Fprintf(b, "  %s: no values\n", name)
		return
	}
	first, last := s.Points[0], s.Points[len(s.Points)-1]
	least, most := first.Value, first.Value
	for _, p := range s.Points {
		least, most = min(least, p.Value), max(most, p.Value)
	}
	fmt.Fprintf(b, "  %s: from %s to %s in %s, between %s and %s\n", name, s.Unit.Format(first.Value), s.Unit.Format(last.Value),
		report.Seconds.Format(last.At-first.At), s.Unit.Format(least), s.Unit.Format(most))
}
