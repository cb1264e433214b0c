package doctor

import (
	"fmt"
	"go/ast"
	"slices"
	"time"
)

// descriptorCheck asks which descriptors pile up, and which sockets wait for a close that does not come.
var descriptorCheck = Check{
	Name: "descriptors and sockets",
	Skip: func(e *Evidence) string {
		if len(e.Process) < 3 {
			return "there is nothing from /proc: it takes a process of this machine, and its user's rights"
		}
		if s, _ := last(e.Process); s.Descriptors == nil {
			return "the descriptors of the process may not be read: run the doctor as its user, or as root"
		}
		return ""
	},
	Ask: askDescriptors,
}

func askDescriptors(e *Evidence) (list []Finding) {
	var times []time.Duration
	for _, s := range e.Process {
		times = append(times, s.At)
	}
	series := func(of func(ProcessSample) int) (v []float64) {
		for _, s := range e.Process {
			v = append(v, float64(of(s)))
		}
		return v
	}
	now, _ := last(e.Process)
	p := e.places()

	wait := series(func(s ProcessSample) int { return s.Sockets["CLOSE_WAIT"] })
	at := workAxis(e, times)
	t, grows := growsAsCount(at, wait)
	piled := slices.Min(wait) >= 20 && !t.fell // the peer has closed, and nobody here did: that is never meant to last
	if grows || piled {
		f := Finding{Severity: Major, Confidence: max(t.confidence, 0.9), rank: 65}
		f.Sentence = fmt.Sprintf("%.0f sockets are in CLOSE_WAIT: their peers have closed, and the program has not", wait[len(wait)-1])
		f.Evidence = []string{fmt.Sprintf("from %.0f to %.0f in %s", wait[0], wait[len(wait)-1], (times[len(times)-1] - times[0]).Round(time.Second/10))}
		f.Advice = "close the connection when read returns io.EOF or any error, and set read deadlines so that it is found out"
		e.Source.blameConnection(e, p, &f)
		list = append(list, f)
	}
	r := resourceOf("file")
	for _, kind := range []string{"file", "pipe"} {
		t, grows := growsAsCount(at, series(func(s ProcessSample) int { return s.Descriptors[kind] }))
		if !grows {
			continue
		}
		f := Finding{Severity: Major, Confidence: t.confidence, rank: 62}
		f.Sentence = fmt.Sprintf("open descriptors of kind %s grow: %.0f more an hour", kind, t.slope*3600)
		f.Evidence = []string{fmt.Sprintf("%.0f at first, %.0f at last (medians of quarters)", t.first, t.last)}
		files := newFiles(e.Process[0].Files, now.Files)
		for _, name := range mostFrequent(files, 3) {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%d times %s, not open at the first look", files[name], name))
		}
		f.Advice = r.advice
		if found := e.Source.unreleased(r, e, p); len(found) > 0 {
			f.Line, f.Related, f.Advice = found[0].line, related(found), found[0].advise(r.advice)
			f.Sentence += ", " + found[0].opened()
		}
		list = append(list, f)
	}
	// Sockets that grow in number may be more load. They are a finding where the source shows that some are not closed.
	if t, grows := growsAsCount(at, series(func(s ProcessSample) int { return s.Descriptors["socket"] })); grows && len(list) == 0 {
		var best *resource
		var found []unreturned
		for _, kind := range []string{"response", "rows", "connection"} {
			if u := e.Source.unreleased(resourceOf(kind), e, p); len(u) > 0 && u[0].weight >= 4 && (best == nil || u[0].weight > found[0].weight) {
				best, found = resourceOf(kind), u
			}
		}
		if best != nil {
			f := Finding{Severity: Major, Confidence: t.confidence, rank: 55, Line: found[0].line, Related: related(found), Advice: best.advice}
			if best.kind == "connection" {
				e.Source.blameConnection(e, p, &f)
			}
			f.Sentence = fmt.Sprintf("open sockets grow: %.0f more an hour; %s: %s", t.slope*3600, best.why, f.Line)
			f.Evidence = []string{fmt.Sprintf("%.0f at first, %.0f at last (medians of quarters)", t.first, t.last)}
			list = append(list, f)
		}
	}
	total := 0
	for _, n := range now.Descriptors {
		total += n
	}
	if now.DescriptorLimit > 0 && total*10 >= now.DescriptorLimit*9 {
		list = append(list, Finding{
			Severity: Critical, Confidence: 1, rank: 30,
			Sentence: fmt.Sprintf("%d descriptors are open, and the limit is %d: accept and open will fail", total, now.DescriptorLimit),
			Evidence: []string{fmt.Sprintf("by kind: %v", now.Descriptors)},
			Advice:   "raise the limit of open files (ulimit -n, LimitNOFILE=), or close what is not used",
		})
	}
	return append(list, askSockets(e, at, p)...)
}

// growsAsCount says whether a count that is exact grows beyond chance, to the end.
func growsAsCount(a axis, counts []float64) (t trend, ok bool) {
	t = trendOf(a, counts)
	return t, t.confidence >= 0.99 && !t.fell && !stops(a, counts) && beyondChance(t.first, t.last)
}

// newFiles are the files that are open more often now than at first, and how much more.
func newFiles(first, now map[string]int) map[string]int {
	m := map[string]int{}
	for name, n := range now {
		if n > first[name] {
			m[name] = n - first[name]
		}
	}
	return m
}

func mostFrequent(m map[string]int, n int) []string {
	names := sortedKeys(m)
	slices.SortStableFunc(names, func(a, b string) int { return m[b] - m[a] })
	return names[:min(n, len(names))]
}

// blameConnection finds the line that keeps connections, or forgets to close them. Listening goroutines stand in Accept: from there
// the source tells where a connection goes.
func (s *Source) blameConnection(e *Evidence, p places, f *Finding) {
	if s == nil {
		return
	}
	r := resourceOf("connection")
	found := s.unreleased(r, e, p)
	for _, u := range found {
		frame := Frame{Function: u.line.Function, File: u.line.File, Line: u.line.Line}
		for _, k := range s.keeps([]Frame{frame}, 0, p) {
			if k.rank >= rankField {
				f.Line = k.Line
				f.Related = append([]Line{u.line}, related(found)...)
				return
			}
		}
	}
	for _, u := range found {
		if l := s.forgetsToClose(r, u.line); l.known() {
			f.Line = l
			f.Related = append([]Line{u.line}, related(found)...)
			return
		}
	}
	if len(found) > 0 {
		f.Line, f.Related = found[0].line, related(found)
	}
}

// forgetsToClose follows what a line opened into the function that it is given to, and looks whether that leaves without Close.
func (s *Source) forgetsToClose(r *resource, at Line) (l Line) {
	s.at(at.File, at.Line, func(n ast.Node) {
		c, ok := n.(*ast.CallExpr)
		if !ok || !s.getsOne(r, c) {
			return
		}
		a, ok := s.consumer(c).(*ast.AssignStmt)
		if !ok {
			return
		}
		id, ok := a.Lhs[0].(*ast.Ident)
		if !ok {
			return
		}
		for _, use := range s.uses[s.object(id)] {
			call, ok := s.parents[use].(*ast.CallExpr)
			if !ok {
				continue
			}
			i := slices.Index(call.Args, ast.Expr(use))
			for _, d := range s.callee(call) {
				o := parameter(s, d.Type, i)
				if i < 0 || o == nil || l.known() {
					continue
				}
				out := s.unpaired(d, nil, func(n ast.Node) bool { return s.gives(r, n, o) })
				if ret, ok := out.(*ast.ReturnStmt); ok {
					l = s.line(ret, "leaves without Close")
				} else if out != nil {
					l = s.line(d, "never closes it")
				}
			}
		}
	})
	return l
}
