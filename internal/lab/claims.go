package lab

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/longwire/longwire/internal/report"
)

// Merge is one report of several: of experiments that are in more than one, the last counts. The environment is the first's.
func Merge(reports ...*Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("merge reports of the lab: there is none")
	}
	out := &Report{Form: Form, Environment: reports[0].Environment}
	for _, r := range reports {
		for _, e := range r.Experiments {
			if i := slices.IndexFunc(out.Experiments, func(x *Result) bool { return x.Name == e.Name }); i >= 0 {
				out.Experiments[i] = e
			} else {
				out.Experiments = append(out.Experiments, e)
			}
		}
	}
	return out, nil
}

// Brief is the report without curves: what a page of claims is made of.
func (r *Report) Brief() *Report {
	out := *r
	out.Experiments = nil
	for _, e := range r.Experiments {
		x := *e
		x.Series = []*Series{}
		out.Experiments = append(out.Experiments, &x)
	}
	return &out
}

// ruled is a statement and what is to be said of it.
type ruled struct {
	Statement
	verdict  Verdict
	sentence string
	by       string // Markdown
}

// rule finds a statement's verdict in a report.
func (s *Statement) rule(r *Report) (ruled, error) {
	if s.Experiment == "" {
		by := s.Source
		if by == "" {
			by = "nothing"
		}
		return ruled{*s, s.Ruling, s.Reason, by}, nil
	}
	for _, e := range r.Experiments {
		if e.Name != s.Experiment {
			continue
		}
		for _, j := range e.Verdicts {
			if j.Claim.ID == s.ID {
				by := fmt.Sprintf("`%s`", e.Name)
				if e.Scale > 1 {
					by += fmt.Sprintf(", scale %d", e.Scale)
				}
				return ruled{*s, j.Verdict, j.Sentence, by}, nil
			}
		}
	}
	return ruled{}, fmt.Errorf("the report has no verdict on %s: run experiment %s (longwire lab run %s --json)", s.ID, s.Experiment, s.Experiment)
}

// WriteClaims writes the page of the article's claims, docs/claims.md, from a report of all experiments.
func (r *Report) WriteClaims(w io.Writer) error {
	var all []ruled
	count := map[Verdict]int{}
	tried := 0
	for _, s := range Statements() {
		x, err := s.rule(r)
		if err != nil {
			return err
		}
		all = append(all, x)
		count[x.verdict]++
		if s.Experiment != "" {
			tried++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# The article's claims

Longwire was founded on a field report about a gateway of gorilla/websocket that leaked. It makes claims, and this page has a
verdict on each that can be checked: %d of them. %d hold, %d hold in part, %d do not, and of %d nothing is shown. The verdicts
on %d are computed from the figures of experiments ([lab.md](lab.md)); the others are settled by a text, a test or another tool,
which is named.

This page is made from [claims.json](claims.json), a run of all experiments: `+"`make claims`"+`.
`, len(all), count[Holds], count[HoldsInPart], count[DoesNotHold], count[NotShown], tried)
	e := r.Environment
	fmt.Fprintf(&b, "It ran with %s on %s", e.Go, e.System)
	if e.Kernel != "" {
		fmt.Fprintf(&b, " %s", e.Kernel)
	}
	fmt.Fprintf(&b, " with %d CPUs, at a load average of %.1f when it began; the seed was %d.", e.CPUs, e.Load, seedOf(r))
	if list := repeated(r); len(list) > 0 {
		fmt.Fprintf(&b, " Run again afterwards, by themselves: %s.", strings.Join(list, ", "))
	}
	b.WriteString("\n")
	section := ""
	for _, x := range all {
		if x.Section != section {
			section = x.Section
			fmt.Fprintf(&b, "\n## %s\n\n| claim | in the article | says | verdict | because | by |\n|---|---|---|---|---|---|\n", heading(section))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | **%s** | %s | %s |\n", cell(x.ID), cell(x.Quote), cell(x.Says), x.verdict, cell(x.sentence), x.by)
	}
	fmt.Fprintf(&b, "\n## What the figures were\n")
	for _, e := range r.Experiments {
		fmt.Fprintf(&b, "\n### %s: %s\n\n%s\n\n`longwire lab run %s", e.Name, e.Title, cell(e.About), e.Name)
		if e.Scale > 1 {
			fmt.Fprintf(&b, " --scale %d", e.Scale)
		}
		fmt.Fprintf(&b, "`, %s.\n", report.Seconds.Format(e.Took))
		for _, t := range e.Tables {
			fmt.Fprintf(&b, "\n%s:\n\n| %s |\n|%s\n", cell(t.Title), strings.Join(cells(t.Columns), " | "), strings.Repeat("---|", len(t.Columns)))
			for _, row := range t.Rows {
				texts := make([]string, len(row))
				for i, c := range row {
					texts[i] = c.Text
				}
				fmt.Fprintf(&b, "| %s |\n", strings.Join(cells(texts), " | "))
			}
		}
		for i, n := range e.Notes {
			if i == 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "- %s\n", cell(n))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// repeated are the names of experiments that began after one which stands behind them: those of a report that was merged in.
func repeated(r *Report) (names []string) {
	for i, e := range r.Experiments {
		if slices.ContainsFunc(r.Experiments[i:], func(x *Result) bool { return x.Began.Before(e.Began) }) {
			names = append(names, e.Name)
		}
	}
	return names
}

// seedOf is that of the first experiment.
func seedOf(r *Report) uint64 {
	if len(r.Experiments) == 0 {
		return 0
	}
	return r.Experiments[0].Seed
}

// heading is a section of the article in words.
func heading(section string) string {
	switch section {
	case "1":
		return "1 The leak, and its mending"
	case "2.1":
		return "2.1 The handshake"
	case "2.2":
		return "2.2 The life of a connection"
	case "2.3":
		return "2.3 Reads that block"
	case "2.4":
		return "2.4 The heartbeat"
	case "2.5":
		return "2.5 Contexts"
	case "3.1":
		return "3.1 The avalanche"
	case "3.3":
		return "3.3 eBPF"
	case "4.1":
		return "4.1 Heap profiles"
	case "4.2":
		return "4.2 Finalizers"
	case "4.3":
		return "4.3 Pools"
	case "4.4":
		return "4.4 gctrace"
	case "5":
		return "5 Outlook"
	}
	return section
}

// cell is text in a cell of a Markdown table.
func cell(s string) string {
	if s == "" {
		return "–"
	}
	return strings.NewReplacer("|", `\|`, "\n", " ", "*", `\*`, "<", "&lt;", "_", `\_`).Replace(s)
}

func cells(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = cell(s)
	}
	return out
}
