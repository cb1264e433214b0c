package stress

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/longwire/longwire/internal/report"
)

// lines is text in two columns, for a terminal.
type lines struct {
	b     strings.Builder
	width int // of the first column
}

// add writes a line. A name that is empty continues the entry above. What is in it came from elsewhere, so nothing of it
// may control the terminal.
func (l *lines) add(name, format string, args ...any) {
	text := strings.TrimRight(printable(fmt.Sprintf(format, args...)), " ")
	name = printable(name)
	if n := utf8.RuneCountInString(name); n > l.width {
		name = string([]rune(name)[:l.width-1]) + "…"
	}
	l.b.WriteString(pad(name, l.width) + "  " + text + "\n")
}

// list writes an entry of several lines, at the most most of them; the last says how many more there are.
func (l *lines) list(name string, all []string, most int) {
	for i, s := range all {
		if i == most-1 && len(all) > most {
			l.add(name, "… and %d more", len(all)-i)
			return
		}
		l.add(name, "%s", s)
		name = ""
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// printable is text without what controls a terminal or turns the direction of writing.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return '\uFFFD'
		}
		return r
	}, s)
}

// How many lines of each kind WriteText shows, so that all of it fits a terminal.
const (
	textPlan      = 5
	textScenarios = 3
	textChecks    = 4
	textChain     = 5 // more where the rest leaves room
	textNotes     = 4
	textErrors    = 6
)

// WriteText writes the report for a terminal, in less than 40 lines.
func (r *Report) WriteText(w io.Writer) error {
	l := lines{width: 11}
	count := func(n int64) string { return report.Count.Format(float64(n)) }
	target := r.Target
	if r.Address != "" && !strings.Contains(r.Target, r.Address) {
		target += " (" + r.Address + ")"
	}
	if r.Name != "" {
		target = r.Name + ": " + target
	}
	l.add("target", "%s", target)
	end := ""
	if r.Interrupted {
		end = ", INTERRUPTED before its time"
	}
	l.add("run", "%s from %s%s", report.Seconds.Format(r.Elapsed), r.Begun.Format("2006-01-02 15:04:05 -0700"), end)
	l.list("plan", r.Plan, textPlan)

	c := &r.Conns
	conns := fmt.Sprintf("%s at a time of %s, %s opened", count(c.Peak), count(c.Wanted), count(c.Opened))
	if c.Rate > 0 {
		conns += fmt.Sprintf(" (%s)", report.PerSecond.Format(c.Rate))
	}
	conns += fmt.Sprintf(", %s failed, %s lost, %s survived", count(c.Failed), count(c.Lost), count(c.Survived))
	l.add("conns", "%s", conns)
	if p := r.Connect; p != nil && p.Count > 0 {
		l.add("connect", "%s", percentilesText(p))
	}
	shown := 0
	for i := range r.Scenarios {
		o := &r.Scenarios[i]
		if shown == textScenarios {
			l.add("", "… and %d more scenarios", len(r.Scenarios)-i)
			break
		}
		shown++
		r.scenarioText(&l, o)
	}
	if _, sum := errorKinds(r.Errors); sum > 0 {
		l.add("errors", "%s: %s", count(sum), ErrorsText(r.Errors))
	} else {
		l.add("errors", "none")
	}
	if len(r.Steps) > 0 {
		broken := 0
		for i := range r.Steps {
			if r.Steps[i].Broken {
				broken++
			}
		}
		text := fmt.Sprintf("%d, all held", len(r.Steps))
		if i := r.firstBroken(); i >= 0 {
			s := &r.Steps[i]
			text = fmt.Sprintf("%d, %d BROKEN, the first at %s, %s %s", len(r.Steps), broken, tenths(s.Begin), s.Stage, s.level())
			if s.Why != "" {
				text += ": " + s.Why
			}
		}
		l.add("steps", "%s", text)
	}
	var checks []string
	for _, held := range []bool{false, true} { // what broke first
		for _, c := range r.Checks {
			if c.Held == held {
				checks = append(checks, map[bool]string{true: "held    ", false: "BROKEN  "}[held]+c.Threshold+": "+c.Text)
			}
		}
	}
	l.list("thresholds", checks, textChecks)
	if r.Breaking != nil {
		l.add("breaking", "%s", r.breakingText())
	}
	if a := r.Avalanche; a != nil && (a.Step >= 0 || len(a.Chain) > 0) {
		if a.FirstCause == "" {
			l.add("first cause", "not shown by the evidence: %s", a.Why)
		} else {
			l.add("first cause", "%s (%s confidence): %s", a.causeText(), a.Confidence, a.Why)
		}
		// Of 39 lines, those after the chain: to lift it, server, generator, notes.
		most := max(textChain, 39-strings.Count(l.b.String(), "\n")-3-min(len(r.Notes), textNotes))
		for i, link := range a.Chain {
			if i == most-1 && len(a.Chain) > most {
				l.add("", "… and %d more links", len(a.Chain)-i)
				break
			}
			l.add("", "%8s  %s  %s", report.Seconds.Format(math.Round(link.At*100)/100), link.What, link.Figure)
		}
		if a.Lift != "" {
			l.add("to lift it", "%s", a.Lift)
		}
	}
	if s := r.serverText(); s != "" {
		l.add("server", "%s", s)
	}
	g := &r.Generator
	text := fmt.Sprintf("%s of CPU, %s at most", report.Seconds.Format(g.CPU), report.Bytes.Format(float64(g.Resident)))
	if g.PerConn > 0 {
		text += fmt.Sprintf(", %s a conn", report.Bytes.Format(g.PerConn))
	}
	if g.CPUPerConn > 0 {
		text += fmt.Sprintf(", %s of CPU a conn", report.Micros.Format(g.CPUPerConn))
	}
	if g.Late > 0 {
		text += fmt.Sprintf(", %s exchanges sent LATE", count(g.Late))
	}
	l.add("generator", "%s", text)
	l.list("notes", r.Notes, textNotes)
	_, err := io.WriteString(w, l.b.String())
	return err
}

// ErrorsText is errors by kind in one line, those with the most first; empty if there are none.
func ErrorsText(errors map[string]int64) string {
	kinds, _ := errorKinds(errors)
	var parts []string
	for i, k := range kinds {
		if i == textErrors {
			parts = append(parts, fmt.Sprintf("%d more kinds", len(kinds)-i))
			break
		}
		parts = append(parts, report.Count.Format(float64(errors[k]))+" "+k)
	}
	return strings.Join(parts, ", ")
}

func (r *Report) scenarioText(l *lines, o *Outcome) {
	count := func(n int64) string { return report.Count.Format(float64(n)) }
	what := string(o.Kind)
	if o.Name == what {
		what = ""
	}
	text := strings.TrimSpace(strings.Join([]string{what, string(o.Protocol), string(o.Model)}, " "))
	add := func(format string, args ...any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, args...)
	}
	if o.Sent > 0 || o.Due > 0 {
		add("%s done, %s", count(o.Done), report.PerSecond.Format(o.Rate))
		if o.Failed > 0 {
			add("%s failed", count(o.Failed))
		}
		if o.Due > 0 && o.Due != o.Done {
			add("%s were due", count(o.Due))
		}
	} else {
		add("%s conns", count(o.Conns.Peak))
	}
	if o.Delivered > 0 || o.Missing > 0 {
		add("%s delivered, %s missing", count(o.Delivered), count(o.Missing))
	}
	if o.Reuse > 0 {
		add("%s requests a conn", report.Count.Format(o.Reuse))
	}
	if n := len(o.Storm); n > 0 {
		add("%s", stormText(o.Storm))
	}
	if o.Detection != nil && o.Detection.Count > 0 {
		add("half-open conns ended after p50 %s, max %s", report.Micros.Format(o.Detection.P50), report.Micros.Format(o.Detection.Max))
	}
	l.add(o.Name, "%s", text)
	if o.Latency != nil && o.Latency.Corrected.Count > 0 {
		l.add("  corrected", "%s", percentilesText(&o.Latency.Corrected))
		l.add("  service", "%s", percentilesText(&o.Latency.Service))
	}
}

// stormText sums storms up.
func stormText(storms []Storm) string {
	slowest, open := 0.0, 0
	for _, s := range storms {
		if s.Recovered == nil {
			open++
		} else {
			slowest = max(slowest, *s.Recovered)
		}
	}
	text := fmt.Sprintf("%d storms", len(storms))
	if open < len(storms) {
		text += ", recovered in at most " + report.Seconds.Format(slowest)
	}
	if open > 0 {
		text += fmt.Sprintf(", %d NOT recovered", open)
	}
	return text
}

func percentilesText(p *Percentiles) string {
	f := report.Micros.Format
	return fmt.Sprintf("p50 %-8s p90 %-8s p99 %-8s p99.9 %-8s p99.99 %-8s max %s", f(p.P50), f(p.P90), f(p.P99), f(p.P999), f(p.P9999), f(p.Max))
}

// breakingText is the breaking point in a line.
func (r *Report) breakingText() string {
	b := r.Breaking
	held, broken := r.breakingPoint()
	var text string
	switch {
	case held == "" && broken == "":
		return "nothing was measured"
	case held == "":
		text = "no level held: " + broken + " did not"
	case broken == "":
		text = held + " held, and nothing higher was tried"
	default:
		text = held + " held, " + broken + " did not"
	}
	if b.Lowest != nil {
		if why := b.Lowest.Why(); why != "" {
			text += " (" + why + ")"
		}
	}
	if b.Highest != nil && !b.Confirmed {
		text += "; not confirmed by a long hold"
	}
	if b.Early {
		text += "; the search ended early"
	}
	return text
}

// causeText is the first cause in words.
func (a *Avalanche) causeText() string {
	if a.Text != "" {
		return a.Text
	}
	return string(a.FirstCause)
}

// serverText is what was seen of the server's process, in a line; empty if nothing was.
func (r *Report) serverText() string {
	var resident, first, cpu, descriptors float64
	for i := range r.Samples {
		if s := r.Samples[i].Server; s != nil {
			if first == 0 {
				first = s.CPU // what it used before is not the run's
			}
			resident, cpu, descriptors = max(resident, float64(s.Resident)), max(cpu, s.CPU-first), max(descriptors, float64(s.Descriptors))
		}
	}
	var parts []string
	if cpu > 0 {
		parts = append(parts, report.Seconds.Format(cpu)+" of CPU")
	}
	if resident > 0 {
		parts = append(parts, report.Bytes.Format(resident)+" at most")
	}
	if descriptors > 0 {
		parts = append(parts, report.Count.Format(descriptors)+" descriptors")
	}
	return strings.Join(parts, ", ")
}
