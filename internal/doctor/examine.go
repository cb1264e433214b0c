package doctor

import (
	"cmp"
	"slices"
)

// Check is one question to the evidence.
type Check struct {
	Name string
	// Skip says why the question cannot be asked of this evidence; "" when it can.
	Skip func(*Evidence) string
	// Ask answers it. It is a pure function of the evidence.
	Ask func(*Evidence) []Finding
}

// Checks are all of them, in the order in which they are asked.
func Checks() []Check {
	return []Check{
		goroutineCheck, heapCheck, finalizerCheck, syncPoolCheck, descriptorCheck, outsideCheck, groupCheck, gctraceCheck, lockCheck, poolCheck,
	}
}

// checksOf are those that a kind of evidence is for.
func checksOf(e *Evidence) []Check {
	switch {
	case e.Handshake != nil:
		return []Check{tlsCheck}
	case e.Plan != nil:
		return []Check{limitCheck}
	case e.Built != nil:
		return nil
	}
	return Checks()
}

// Examine asks every check and orders what was found.
func Examine(e *Evidence) *Report {
	r := &Report{Target: e.Target, Took: e.Took, Cost: e.Cost, Checks: []Asked{}, Findings: []Finding{}, Notes: []string{}}
	p := e.places()
	for _, c := range checksOf(e) {
		a := Asked{Check: c.Name}
		if a.Skipped = c.Skip(e); a.Skipped == "" {
			found := c.Ask(e)
			for i := range found {
				found[i].Check = c.Name
				e.passOn(&found[i], p)
			}
			a.Findings = len(found)
			r.Findings = append(r.Findings, found...)
		}
		r.Checks = append(r.Checks, a)
	}
	r.Findings = settle(r.Findings)
	switch {
	case e.Handshake != nil:
		r.Steps = e.Handshake.steps()
	case e.Built != nil:
		r.Steps = e.Built
	case e.Plan != nil:
		r.Steps = e.Plan.steps()
		for _, a := range e.Plan.Assumed {
			r.Notes = append(r.Notes, "assumed: "+a)
		}
	default:
		r.Steps = traceSteps(e.Trace)
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Finding = slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.step == s.Name })
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		f.Line.Text = e.text(f.Line)
		for j := range f.Related {
			f.Related[j].Text = e.text(f.Related[j])
		}
	}
	for _, notes := range [][]string{heapNotes(e, r.Findings), groupNotes(e), e.Notes} {
		r.Notes = append(r.Notes, notes...)
	}
	return r
}

// text is a line's source, the program's own or a library's.
func (e *Evidence) text(l Line) string {
	if t := e.Source.text(l); t != "" {
		return t
	}
	return e.Libraries.text(l)
}

// settle puts findings in order, worst first, of those that are as bad the ones with a line before those without, and makes one of those that several checks made of one line.
func settle(list []Finding) []Finding {
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(lined(b), lined(a)), cmp.Compare(b.rank, a.rank), cmp.Compare(b.PerHour, a.PerHour))
	})
	out := list[:0]
	for _, f := range list {
		i := slices.IndexFunc(out, func(o Finding) bool { return f.Line.known() && o.Line.same(f.Line) })
		if i < 0 {
			out = append(out, f)
			continue
		}
		// The worse one stays, and gets the other's figures.
		out[i].Evidence = append(out[i].Evidence, f.Sentence)
		for _, l := range f.Related {
			if !slices.ContainsFunc(out[i].Related, l.same) && !l.same(out[i].Line) {
				out[i].Related = append(out[i].Related, l)
			}
		}
		out[i].Confidence = max(out[i].Confidence, f.Confidence)
	}
	return out
}

// lined is 1 for a finding with a line.
func lined(f Finding) int {
	if f.Line.known() {
		return 1
	}
	return 0
}
