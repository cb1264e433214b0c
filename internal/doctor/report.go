package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Severity says how bad a finding is.
type Severity int

// The severities, worst last. What only explains is no finding, but a note.
const (
	Minor Severity = iota
	Major
	Critical
)

var severityNames = [...]string{"minor", "major", "critical"}

func (s Severity) String() string { return severityNames[s] }

// MarshalText is the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a name.
func (s *Severity) UnmarshalText(b []byte) error {
	i := slices.Index(severityNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("severity %q: want one of %s", b, strings.Join(severityNames[:], ", "))
	}
	*s = Severity(i)
	return nil
}

// Line is a place in a program's source. The zero Line is unknown.
type Line struct {
	Function string `json:"function,omitempty"` // with its package's path
	File     string `json:"file,omitempty"`     // as the program was built
	Line     int    `json:"line,omitempty"`
	// Role says what the place is to the finding, such as "kept here" or "allocated here".
	Role string `json:"role,omitempty"`
	Text string `json:"text,omitempty"` // the source, where it is at hand
}

func (l Line) known() bool { return l.File != "" && l.Line > 0 }

func (l Line) same(o Line) bool { return l.File == o.File && l.Line == o.Line }

func (l Line) String() string {
	if !l.known() {
		return "line unknown"
	}
	s := fmt.Sprintf("%s:%d", filepath.Base(l.File), l.Line)
	if l.Function != "" {
		s += " " + shortFunction(l.Function)
	}
	return s
}

// Finding is a check's answer.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Sentence string   `json:"sentence"` // what is wrong
	// Line is the one to mend, or the one that retains; zero where the evidence names none.
	Line     Line     `json:"line"`
	Related  []Line   `json:"related,omitempty"` // other places that belong to it
	Evidence []string `json:"evidence"`
	Advice   string   `json:"advice"` // what to do
	// Confidence is between 0 and 1: how sure the figures are of what the sentence says. It is not a probability that the line
	// is the right one.
	Confidence float64 `json:"confidence"`
	// PerHour is the growth in bytes an hour, 0 where it is not about memory.
	PerHour float64 `json:"bytes_per_hour,omitempty"`

	// rank orders findings of one severity: the more it explains of the others, the higher.
	rank float64
	// step is the name of the steps of the report that it is about, "" for none.
	step string
}

// Step is one thing that was tried, compared or seen, with or without a finding about it.
type Step struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Finding says that a finding is about it.
	Finding bool `json:"finding"`
}

// Report is what came of an examination.
type Report struct {
	Target   string        `json:"target"`
	Took     time.Duration `json:"took_ns"`
	Cost     string        `json:"cost,omitempty"` // what it cost the target
	Steps    []Step        `json:"steps,omitempty"`
	Checks   []Asked       `json:"checks"`
	Findings []Finding     `json:"findings"` // worst first; not null
	Notes    []string      `json:"notes"`    // what could not be looked at, and what to do about it; not null
}

// Asked is one check of an examination.
type Asked struct {
	Check    string `json:"check"`
	Findings int    `json:"findings"`
	Skipped  string `json:"skipped,omitempty"` // why it could not be asked
}

// Found says whether there is a finding.
func (r *Report) Found() bool { return len(r.Findings) > 0 }

// WriteJSON writes the report as docs/doctor.md describes it.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.Target)
	if took := r.Took.Round(100 * time.Millisecond); took > 0 {
		fmt.Fprintf(&b, ", looked at for %s", took)
	}
	b.WriteByte('\n')
	if r.Cost != "" {
		fmt.Fprintf(&b, "cost: %s\n", r.Cost)
	}
	if len(r.Steps) > 0 {
		b.WriteByte('\n')
	}
	width := 0
	for _, s := range r.Steps {
		width = max(width, len(s.Name))
	}
	for _, s := range r.Steps {
		mark := " "
		if s.Finding {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %-*s %s\n", mark, width+1, s.Name, s.Value)
	}
	for i, f := range r.Findings {
		fmt.Fprintf(&b, "\n%d. %s (%s): %s\n", i+1, strings.ToUpper(f.Severity.String()), f.Check, f.Sentence)
		writeLine(&b, f.Line)
		for _, l := range f.Related {
			writeLine(&b, l)
		}
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "   - %s\n", e)
		}
		if f.Advice != "" {
			fmt.Fprintf(&b, "   what to do: %s\n", f.Advice)
		}
	}
	if len(r.Findings) == 0 && len(r.Checks) > 0 {
		b.WriteString("\nno finding\n")
	}
	if len(r.Checks) > 0 {
		b.WriteString("\nchecks:")
	}
	sep := " "
	for _, c := range r.Checks {
		if c.Skipped != "" {
			continue
		}
		fmt.Fprintf(&b, "%s%s", sep, c.Check)
		sep = ", "
	}
	b.WriteByte('\n')
	for _, c := range r.Checks {
		if c.Skipped != "" {
			fmt.Fprintf(&b, "not asked: %s: %s\n", c.Check, c.Skipped)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeLine(b *strings.Builder, l Line) {
	if !l.known() {
		return
	}
	role := l.Role
	if role == "" {
		role = "at"
	}
	fmt.Fprintf(b, "   %s: %s:%d", role, l.File, l.Line)
	if l.Function != "" {
		fmt.Fprintf(b, " (%s)", shortFunction(l.Function))
	}
	b.WriteByte('\n')
	if l.Text != "" {
		fmt.Fprintf(b, "       %s\n", l.Text)
	}
}

// shortFunction leaves the directories of the package's path away.
func shortFunction(name string) string {
	// The last slash before a type's brackets, which may hold paths of their own.
	head := name
	if i := strings.IndexByte(name, '['); i >= 0 {
		head = name[:i]
	}
	return name[strings.LastIndexByte(head, '/')+1:]
}

// bytesText is a size for people.
func bytesText(n float64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	for _, u := range []struct {
		name string
		size float64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%s%.1f %s", sign, n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%s%.0f B", sign, n)
}
