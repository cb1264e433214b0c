package doctor

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/report"
)

// WriteHTML writes the report as one HTML file that needs no network and nothing beside it, with curves of the evidence.
func (r *Report) WriteHTML(w io.Writer, e *Evidence) error { return r.page(e).Write(w) }

var severityColors = map[Severity]report.Severity{Minor: report.Info, Major: report.Warning, Critical: report.Bad}

// page is the report as a page. What was not looked at has no section.
func (r *Report) page(e *Evidence) *report.Page {
	p := &report.Page{Title: "Doctor: " + r.Target, Footer: "Made by longwire doctor"}
	if took := r.Took.Round(100 * time.Millisecond); took > 0 {
		p.Subtitle = "looked at for " + took.String()
	}
	add := func(title string, blocks ...report.Block) {
		if len(blocks) > 0 {
			p.Sections = append(p.Sections, report.Section{Title: title, Blocks: blocks})
		}
	}
	add("", r.headline()...)
	for i, f := range r.Findings {
		add(fmt.Sprintf("%d. %s", i+1, f.Check), f.blocks()...)
	}
	steps := "Step by step"
	if e.Handshake == nil && e.Plan == nil {
		steps = "The collector's log, in words"
	}
	add(steps, r.stepTable()...)
	add("Over time", e.charts()...)
	add("Checks", r.checkTable())
	if len(r.Notes) > 0 {
		add("Notes", report.List(r.Notes))
	}
	if r.Cost != "" {
		add("What it cost the target", report.Paragraph(r.Cost))
	}
	return p
}

func (r *Report) headline() []report.Block {
	worst := report.Card{Label: "Findings", Value: fmt.Sprint(len(r.Findings)), Severity: report.Good, Note: "nothing was found"}
	if len(r.Findings) > 0 {
		f := r.Findings[0]
		worst.Severity, worst.Note = severityColors[f.Severity], "the worst is "+f.Severity.String()
	}
	cards := report.Cards{worst}
	if len(r.Findings) > 0 && r.Findings[0].Line.known() {
		f := r.Findings[0]
		cards = append(cards, report.Card{Label: "Line to look at first", Value: fmt.Sprintf("%s:%d", fileName(f.Line.File), f.Line.Line), Note: shortFunction(f.Line.Function)})
		if f.PerHour > 0 {
			cards = append(cards, report.Card{Label: "Growth", Value: bytesText(f.PerHour), Note: "an hour"})
		}
	}
	return []report.Block{cards}
}

func fileName(file string) string {
	file = slashes(file)
	return file[strings.LastIndexByte(file, '/')+1:]
}

func (f *Finding) blocks() []report.Block {
	list := []report.Block{report.Notice{Severity: severityColors[f.Severity], Title: f.Severity.String(), Text: f.Sentence}}
	var lines report.Facts
	for _, l := range append([]Line{f.Line}, f.Related...) {
		if !l.known() {
			continue
		}
		role := l.Role
		if role == "" {
			role = "at"
		}
		text := fmt.Sprintf("%s:%d", l.File, l.Line)
		if l.Function != "" {
			text += " (" + shortFunction(l.Function) + ")"
		}
		if l.Text != "" {
			text += "  " + l.Text
		}
		lines = append(lines, report.Fact{Name: role, Value: text})
	}
	if len(lines) > 0 {
		list = append(list, lines)
	}
	if len(f.Evidence) > 0 {
		list = append(list, report.List(f.Evidence))
	}
	if f.Advice != "" {
		list = append(list, report.Notice{Severity: report.Neutral, Title: "What to do", Text: f.Advice})
	}
	return list
}

func (r *Report) stepTable() []report.Block {
	if len(r.Steps) == 0 {
		return nil
	}
	t := report.Table{Columns: []report.Column{{Name: "Step"}, {Name: "What came of it"}}}
	for _, s := range r.Steps {
		value := report.Text(s.Value)
		if s.Finding {
			value.Severity = report.Warning
		}
		t.Rows = append(t.Rows, []report.Cell{report.Text(s.Name), value})
	}
	return []report.Block{t}
}

func (r *Report) checkTable() report.Block {
	t := report.Table{Columns: []report.Column{{Name: "Check"}, {Name: "Findings", Numeric: true}, {Name: "Not asked, because"}}}
	for _, c := range r.Checks {
		n := report.Number(float64(c.Findings), report.Count)
		if c.Skipped != "" {
			n = report.None()
		}
		t.Rows = append(t.Rows, []report.Cell{report.Text(c.Check), n, report.Text(c.Skipped)})
	}
	return t
}

// charts are the curves of what was seen over time; a figure of which there are less than two has none.
func (e *Evidence) charts() (list []report.Block) {
	chart := func(title, note string, unit report.Unit, series ...report.Series) {
		series = slices.DeleteFunc(series, func(s report.Series) bool { return len(s.X) < 2 })
		if len(series) > 0 {
			list = append(list, &report.Chart{Title: title, Note: note, Unit: unit, Series: series})
		}
	}
	memory := func(name string, of func(MemStats) uint64) report.Series {
		return seriesOf(name, e.Memory, func(m MemStats) (time.Duration, float64) { return m.At, float64(of(m)) })
	}
	process := func(name string, of func(ProcessSample) float64) report.Series {
		return seriesOf(name, e.Process, func(s ProcessSample) (time.Duration, float64) { return s.At, of(s) })
	}
	alive := memory("objects", func(m MemStats) uint64 { return m.HeapAlloc })
	alive.Fill = true
	chart("Heap", "Right after collections, where those were asked for.", report.Bytes, alive,
		memory("in use, holes included", func(m MemStats) uint64 { return m.HeapInuse }), memory("the next collection's begin", func(m MemStats) uint64 { return m.NextGC }))
	chart("Memory of the process", "", report.Bytes,
		process("resident", func(s ProcessSample) float64 { return float64(s.Resident) }),
		memory("had by Go's runtime", func(m MemStats) uint64 { return m.Sys - min(m.HeapReleased, m.Sys) }),
		memory("stacks", func(m MemStats) uint64 { return m.StackInuse }))
	chart("Collections", "Since the program's start, those that were asked for included.", report.Count, memory("collections", func(m MemStats) uint64 { return m.NumGC }))
	chart("Goroutines", "", report.Count, seriesOf("goroutines", e.Counts, func(c GoroutineCounts) (time.Duration, float64) { return c.At, float64(c.Total) }))
	chart("What grew most, by line", "Estimates from samples.", report.Bytes, e.growth()...)
	chart("Descriptors", "", report.Count,
		process("all", func(s ProcessSample) float64 {
			n := 0
			for _, k := range s.Descriptors {
				n += k
			}
			return float64(n)
		}),
		process("sockets in CLOSE_WAIT", func(s ProcessSample) float64 { return float64(s.Sockets["CLOSE_WAIT"]) }))
	for _, name := range e.poolNames() {
		own := slices.DeleteFunc(slices.Clone(e.Pools), func(p PoolSample) bool { return p.Name != name })
		most := seriesOf("limit", own, func(p PoolSample) (time.Duration, float64) { return p.At, float64(p.Max) })
		most.Dash = true
		chart("Pool "+name, "", report.Count, seriesOf("in use", own, func(p PoolSample) (time.Duration, float64) { return p.At, float64(p.InUse) }),
			seriesOf("open", own, func(p PoolSample) (time.Duration, float64) { return p.At, float64(p.Open) }), most)
	}
	return append(list, e.traceCharts()...)
}

func seriesOf[T any](name string, list []T, point func(T) (time.Duration, float64)) report.Series {
	s := report.Series{Name: name}
	for _, v := range list {
		at, y := point(v)
		if n := len(s.X); n > 0 && at.Seconds() <= s.X[n-1] {
			continue
		}
		s.X, s.Y = append(s.X, at.Seconds()), append(s.Y, y)
	}
	return s
}

func (e *Evidence) poolNames() (names []string) {
	for _, p := range e.Pools {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// growth is the curves of the four lines of the program's own whose memory grew most.
func (e *Evidence) growth() (list []report.Series) {
	if len(e.Heap) < 2 {
		return nil
	}
	sites := sitesOf(e, e.places())
	keys := slices.DeleteFunc(sortedKeys(sites), func(k string) bool { return sites[k].own < 0 || sites[k].most <= 0 })
	slices.SortStableFunc(keys, func(a, b string) int { return cmp.Compare(sites[b].most, sites[a].most) })
	for _, k := range keys[:min(4, len(keys))] {
		g := sites[k]
		f := g.frames[g.own]
		s := report.Series{Name: fmt.Sprintf("%s:%d", fileName(f.File), f.Line), Y: g.bytes}
		for _, h := range e.Heap {
			s.X = append(s.X, h.At.Seconds())
		}
		list = append(list, s)
	}
	return list
}

// traceCharts are the curves of a log with gctrace. Where other curves are on the page, the log's last collection is taken to be of the
// last look.
func (e *Evidence) traceCharts() (list []report.Block) {
	c, ok := last(e.Trace)
	if !ok || len(e.Trace) < 2 {
		return nil
	}
	shift := time.Duration(0)
	cycles := e.Trace
	if len(e.Memory)+len(e.Counts) > 0 {
		shift = e.Took - c.At
		cycles = slices.DeleteFunc(slices.Clone(cycles), func(c Cycle) bool { return c.At+shift < 0 })
	}
	series := func(name string, of func(Cycle) float64) report.Series {
		return seriesOf(name, cycles, func(c Cycle) (time.Duration, float64) { return c.At + shift, of(c) })
	}
	live := series("alive after it", func(c Cycle) float64 { return float64(c.Live) })
	if len(live.X) < 2 {
		return nil
	}
	live.Fill = true
	return []report.Block{
		&report.Chart{Title: "Collections: heap", Note: "From the log of GODEBUG=gctrace=1, to a MiB.", Unit: report.Bytes, Series: []report.Series{
			live, series("when it began", func(c Cycle) float64 { return float64(c.Begin) }), series("goal", func(c Cycle) float64 { return float64(c.Goal) }),
		}},
		&report.Chart{Title: "Collections: time", Unit: report.Micros, Series: []report.Series{
			series("pauses", func(c Cycle) float64 { return float64((c.SweepTermination + c.MarkTermination).Microseconds()) }),
			series("marking beside the program", func(c Cycle) float64 { return float64(c.Mark.Microseconds()) }),
			series("marking by those that allocate, CPU", func(c Cycle) float64 { return float64(c.AssistCPU.Microseconds()) }),
		}},
		&report.Chart{Title: "Collections: share of the CPU since the start", Unit: report.Percent, Series: []report.Series{series("collecting", func(c Cycle) float64 { return 100 * c.Share })}},
	}
}
