package stress

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/longwire/longwire/internal/report"
)

// WriteHTML writes the report as one HTML file that needs no network and nothing beside it.
func (r *Report) WriteHTML(w io.Writer) error { return r.page().Write(w) }

// page is the report as a page. A part that was not measured has no section.
func (r *Report) page() *report.Page {
	p := &report.Page{Title: "Load on " + r.Target, Time: r.timeAxis(), Footer: "Made by longwire stress " + r.Environment.Version}
	if r.Name != "" {
		p.Title = r.Name
	}
	var parts []string
	if r.Name != "" {
		parts = append(parts, r.Target)
	}
	if r.Address != "" && !strings.Contains(r.Target, r.Address) {
		parts = append(parts, r.Address)
	}
	if !r.Begun.IsZero() {
		parts = append(parts, r.Begun.Format("2 January 2006, 15:04:05 -0700"))
	}
	parts = append(parts, "ran for "+report.Seconds.Format(r.Elapsed))
	p.Subtitle = strings.Join(parts, " · ")

	add := func(title string, blocks ...report.Block) {
		if len(blocks) > 0 {
			p.Sections = append(p.Sections, report.Section{Title: title, Blocks: blocks})
		}
	}
	add("", r.headline()...)
	add("Why it broke", r.why()...)
	add("Thresholds", r.checks()...)
	add("Breaking point", r.breaking()...)
	add("Over time", r.overTime()...)
	add("Latency", r.latencies()...)
	add("Scenarios", r.scenarios()...)
	add("Storms", r.storms()...)
	add("Errors", r.errors()...)
	add("Steps", r.steps()...)
	if len(r.Notes) > 0 {
		add("Notes", report.List(r.Notes))
	}
	if len(r.Plan) > 0 {
		add("Plan", report.List(r.Plan), report.Facts{{Name: "Timeout", Value: report.Seconds.Format(r.Timeout)}, {Name: "Seed", Value: fmt.Sprint(r.Seed)}})
	}
	add("Environment", r.environment())
	return p
}

// timeAxis has the steps as bands, and marks where the first of them broke and where storms began.
func (r *Report) timeAxis() report.TimeAxis {
	a := report.TimeAxis{End: r.Elapsed}
	if n := len(r.Samples); n > 0 {
		a.End = max(a.End, r.Samples[n-1].At)
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		b := report.Band{Begin: s.Begin, End: s.End, Label: s.Stage + " " + s.level()}
		if s.Broken {
			b.Severity = report.Bad
		}
		a.Bands = append(a.Bands, b)
	}
	if i := r.firstBroken(); i >= 0 {
		a.Marks = append(a.Marks, report.Mark{At: r.Steps[i].Begin, Label: "broke", Severity: report.Bad})
	}
	for i := range r.Scenarios {
		for _, s := range r.Scenarios[i].Storm {
			a.Marks = append(a.Marks, report.Mark{At: s.At, Label: "storm", Severity: report.Info})
		}
	}
	slices.SortStableFunc(a.Marks, func(x, y report.Mark) int { return cmp.Compare(x.At, y.At) })
	return a
}

// headline is what a reader should know who reads nothing else.
func (r *Report) headline() []report.Block {
	count := func(n int64) string { return report.Count.Format(float64(n)) }
	var cards report.Cards
	first := report.Card{Label: "Verdict", Value: "no thresholds", Note: "nothing was asked to hold"}
	if n := len(r.Checks); n > 0 {
		held := 0
		for _, c := range r.Checks {
			if c.Held {
				held++
			}
		}
		first.Value, first.Severity, first.Note = "held", report.Good, fmt.Sprintf("%d of %d thresholds", held, n)
		if !r.Held {
			first.Value, first.Severity = "broken", report.Bad
		}
	}
	cards = append(cards, first)
	if r.Breaking != nil {
		c := report.Card{Label: "Breaking point", Value: "no level held"}
		if l := r.Breaking.Highest; l != nil {
			c.Value, c.Note = report.Count.Format(l.Level), strings.TrimSpace(r.Unit+" held")
		}
		if _, broken := r.breakingPoint(); broken != "" {
			c.Note += "; " + broken + " did not"
		} else {
			c.Note += ", and nothing higher was tried"
		}
		c.Note = strings.TrimLeft(c.Note, ";, ")
		cards = append(cards, c)
	}
	c := report.Card{Label: "Connections", Value: count(r.Conns.Peak), Note: "at a time, " + count(r.Conns.Opened) + " opened"}
	if r.Conns.Rate > 0 {
		c.Note += ", " + report.PerSecond.Format(r.Conns.Rate)
	}
	if r.Conns.Peak < r.Conns.Wanted {
		c.Note += "; " + count(r.Conns.Wanted) + " were wanted"
		c.Severity = report.Warning
	}
	cards = append(cards, c)
	if t := r.throughput(); t > 0 {
		var done int64
		for i := range r.Scenarios {
			done += r.Scenarios[i].Done
		}
		cards = append(cards, report.Card{Label: "Throughput", Value: report.PerSecond.Format(t), Note: count(done) + " exchanges done"})
	}
	if o := r.main(); o != nil {
		c := report.Card{Label: "p99 latency", Value: report.Micros.Format(o.Latency.Corrected.P99),
			Note: "corrected; service time " + report.Micros.Format(o.Latency.Service.P99)}
		if len(r.Scenarios) > 1 {
			c.Note = o.Name + ", " + c.Note
		}
		cards = append(cards, c)
	} else if p := r.Connect; p != nil && p.Count > 0 {
		cards = append(cards, report.Card{Label: "p99 to connect", Value: report.Micros.Format(p.P99), Note: "median " + report.Micros.Format(p.P50)})
	}
	kinds, sum := errorKinds(r.Errors)
	c = report.Card{Label: "Errors", Value: count(sum), Note: "none of any kind"}
	if sum > 0 {
		c.Severity, c.Note = report.Warning, "most: "+kinds[0]+", "+count(r.Errors[kinds[0]])
	}
	cards = append(cards, c)
	blocks := []report.Block{cards}
	if r.Interrupted {
		blocks = append(blocks, report.Notice{Severity: report.Warning, Title: "Interrupted before its time.", Text: "The figures are of what was run until then."})
	}
	if i := r.firstBroken(); i >= 0 {
		s := &r.Steps[i]
		n := report.Notice{Severity: report.Bad, Title: fmt.Sprintf("%s %s broke at %s.", capital(s.Stage), s.level(), tenths(s.Begin)), Text: sentence(s.Why)}
		if a := r.Avalanche; a != nil && a.FirstCause != "" {
			n.Text = strings.TrimSpace(n.Text + " First cause: " + sentence(a.causeText()))
		}
		blocks = append(blocks, n)
	}
	if len(r.Samples) == 0 {
		blocks = append(blocks, report.Notice{Severity: report.Info, Title: "Nothing was sampled.", Text: "The run was over before its first second, so there is nothing to plot."})
	}
	return blocks
}

// capital begins a text with a capital letter, but for what is a name, such as p99.
func capital(s string) string {
	if len(s) < 2 || s[0] < 'a' || s[0] > 'z' || s[1] != ' ' && (s[1] < 'a' || s[1] > 'z') {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// sentence is capital with a point at the end.
func sentence(s string) string {
	if s == "" || strings.HasSuffix(s, ".") {
		return capital(s)
	}
	return capital(s) + "."
}

// why is the avalanche.
func (r *Report) why() []report.Block {
	a := r.Avalanche
	if a == nil || a.Step < 0 && len(a.Chain) == 0 {
		return nil
	}
	var blocks []report.Block
	if a.FirstCause == "" {
		blocks = append(blocks, report.Notice{Severity: report.Info, Title: "The evidence does not show a first cause.", Text: sentence(a.Why)})
	} else {
		blocks = append(blocks, report.Notice{Severity: report.Bad, Title: "First cause: " + sentence(a.causeText()),
			Text: strings.TrimSpace(sentence(a.Why) + " Confidence: " + string(a.Confidence) + ".")})
	}
	var chain report.Chain
	for _, l := range a.Chain {
		chain = append(chain, report.Link{At: math.Round(l.At*100) / 100, What: l.What, Figure: l.Figure})
	}
	if len(chain) > 0 {
		blocks = append(blocks, chain)
	}
	if a.Lift != "" {
		blocks = append(blocks, report.Notice{Severity: report.Good, Title: "What would lift it:", Text: a.Lift})
	}
	return blocks
}

// verdict is a cell that says whether something held.
func verdict(ok bool) report.Cell {
	if ok {
		return report.Cell{Text: "held", Severity: report.Good}
	}
	return report.Cell{Text: "broken", Severity: report.Bad}
}

func (r *Report) checks() []report.Block {
	if len(r.Checks) == 0 {
		return nil
	}
	t := report.Table{Columns: []report.Column{{Name: "Threshold"}, {Name: "Verdict"}, {Name: "What was measured"}}}
	for _, c := range r.Checks {
		t.Rows = append(t.Rows, []report.Cell{report.Text(c.Threshold), verdict(c.Held), report.Text(c.Text)})
	}
	return []report.Block{t}
}

func (r *Report) breaking() []report.Block {
	if r.Breaking == nil {
		return nil
	}
	blocks := []report.Block{report.Paragraph(sentence(r.breakingText()))}
	t := report.Table{Caption: fmt.Sprintf("Each level that was tried, in %d measurements", r.Breaking.Trials),
		Columns: []report.Column{{Name: "Level" + map[bool]string{true: ", " + r.Unit}[r.Unit != ""], Numeric: true}, {Name: "Verdict"}, {Name: "Held", Numeric: true}, {Name: "Did not hold", Numeric: true}, {Name: "Why not"}}}
	for i := range r.Breaking.Levels {
		l := &r.Breaking.Levels[i]
		t.Rows = append(t.Rows, []report.Cell{report.Number(l.Level, report.Count), verdict(l.Held), report.Number(float64(l.Passed), report.Count), report.Number(float64(l.Failed), report.Count), report.Text(l.Why())})
	}
	if len(t.Rows) > 0 {
		blocks = append(blocks, t)
	}
	return blocks
}

// overTime is the charts, and what was not measured.
func (r *Report) overTime() []report.Block {
	if len(r.Samples) == 0 {
		return nil
	}
	x := times(r.Samples)
	var blocks []report.Block
	// chart adds one with the curves that have values; positive keeps those that are more than zeros.
	chart := func(c report.Chart, positive bool, all ...report.Series) bool {
		for _, s := range all {
			s.X = x
			if any, more := present(s.Y); any && (more || !positive) {
				c.Series = append(c.Series, s)
			}
		}
		if len(c.Series) == 1 { // quiet colors are for what stands beside something
			c.Series[0].Color, c.Series[0].Dash = 1, false
		}
		if len(c.Series) > 0 {
			blocks = append(blocks, &c)
		}
		return len(c.Series) > 0
	}
	per := func(name string, of func(*Sample) float64) report.Series {
		return report.Series{Name: name, Y: rate(r.Samples, of)}
	}
	of := func(name string, of func(*Sample) float64) report.Series {
		return report.Series{Name: name, Y: gauge(r.Samples, of)}
	}

	open := of("open", func(s *Sample) float64 { return float64(s.Open) })
	open.Fill, open.Color = true, 1
	wanted := of("wanted", func(s *Sample) float64 { return float64(s.Wanted) })
	wanted.Dash, wanted.Color = true, 8
	pending := of("being opened", func(s *Sample) float64 { return float64(s.Pending) })
	pending.Color = 2
	if _, more := present(pending.Y); !more {
		pending.Y = nil
	}
	chart(report.Chart{Title: "Connections", Unit: report.Count}, false, wanted, open, pending)
	// What is asked for is drawn first, so that what came of it lies above.
	connects := []report.Series{per("attempted", func(s *Sample) float64 { return float64(s.Attempted) }), per("opened", func(s *Sample) float64 { return float64(s.Opened) }),
		per("failed", func(s *Sample) float64 { return float64(s.Failed) }), per("lost", func(s *Sample) float64 { return float64(s.Lost) })}
	for i, c := range []int{8, 1, 4, 2} {
		connects[i].Color, connects[i].Dash = c, c == 8
	}
	chart(report.Chart{Title: "Connects", Unit: report.PerSecond}, true, connects...)

	due := of("due", func(s *Sample) float64 {
		if s.Rate <= 0 {
			return missing
		}
		return s.Rate
	})
	due.Dash, due.Color = true, 8
	done := per("done", func(s *Sample) float64 { return float64(s.Done) })
	sent := per("sent", func(s *Sample) float64 { return float64(s.Sent) })
	delivered := per("delivered", func(s *Sample) float64 { return float64(s.Delivered) })
	done.Color, sent.Color, delivered.Color = 1, 2, 3
	sent.Dash = true
	chart(report.Chart{Title: "Throughput", Note: "exchanges a second", Unit: report.PerSecond}, true, due, sent, done, delivered)
	chart(report.Chart{Title: "Received", Unit: report.BytesPerSecond}, true, per("bytes", func(s *Sample) float64 { return float64(s.BytesIn) }))

	timed := r.percentileChart(&blocks, x, "Latency", "corrected: from when an exchange was due; dotted: service time, from when it was sent", latency, service)
	r.percentileChart(&blocks, x, "Time to connect", "until the handshake was answered", connect, nil)

	r.errorChart(chart)

	kernel := slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Kernel != nil })
	if kernel {
		note := "of the server's network namespace"
		if slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Kernel != nil && s.Kernel.Clients }) {
			note = "of the clients' network namespace: the server's is out of sight"
		}
		var counters, gauges []report.Series
		for _, f := range kernelCounters {
			counters = append(counters, per(f.name, f.of))
		}
		for _, f := range kernelGauges {
			gauges = append(gauges, of(f.name, f.of))
		}
		if !chart(report.Chart{Title: "Kernel counters", Note: note, Unit: report.PerSecond}, true, counters...) {
			blocks = append(blocks, report.Notice{Severity: report.Good, Title: "The kernel counted nothing bad:", Text: "no retransmits, no overflows, no drops, no resets."})
		}
		chart(report.Chart{Title: "TCP conns by state", Note: note, Unit: report.Count}, true, gauges...)
		chart(report.Chart{Title: "Memory of TCP", Note: note, Unit: report.Bytes}, true, of("in use", ofKernel(func(k *KernelSample) uint64 { return k.MemoryBytes })))
	}
	queue := of("waiting", func(s *Sample) float64 {
		if s.Queue == nil {
			return missing
		}
		return float64(s.Queue.Length)
	})
	limit := of("limit", func(s *Sample) float64 {
		if s.Queue == nil {
			return missing
		}
		return float64(s.Queue.Limit)
	})
	queue.Fill, queue.Color, limit.Dash, limit.Color = true, 1, true, 4
	queued := chart(report.Chart{Title: "Accept queue", Note: "of the target's fullest listener", Unit: report.Count}, false, limit, queue)

	resident := of("server, resident", ofServer(func(t *TargetSample) float64 { return float64(t.Resident) }))
	heap := of("server, Go heap", ofMetric(func(t *TargetSample) *float64 { return t.Heap }))
	own := of("generator, resident", func(s *Sample) float64 { return float64(s.Resident) })
	resident.Color, heap.Color, own.Color, own.Dash = 1, 3, 8, true
	chart(report.Chart{Title: "Memory", Unit: report.Bytes}, true, own, resident, heap)
	percent := func(name string, y []float64, color int, dash bool) report.Series {
		for i := range y {
			y[i] *= 100
		}
		return report.Series{Name: name, Y: y, Color: color, Dash: dash}
	}
	chart(report.Chart{Title: "CPU", Note: cpuNote(r.Environment.CPUs), Unit: report.Percent}, true,
		percent("server", rateOf(r.Samples, ofServer(func(t *TargetSample) float64 { return t.CPU })), 1, false),
		percent("generator", rate(r.Samples, func(s *Sample) float64 { return s.CPU }), 8, true))
	chart(report.Chart{Title: "Goroutines and descriptors of the server", Unit: report.Count}, true,
		of("goroutines", ofMetric(func(t *TargetSample) *float64 { return t.Goroutines })),
		of("descriptors", ofServer(func(t *TargetSample) float64 { return float64(t.Descriptors) })))
	chart(report.Chart{Title: "Garbage collections of the server", Unit: report.PerSecond}, false,
		report.Series{Name: "collections", Y: rateOf(r.Samples, ofMetric(func(t *TargetSample) *float64 { return t.GCs }))})
	pause := of("longest of the last pauses", ofMetric(func(t *TargetSample) *float64 { return t.GCPause }))
	for i := range pause.Y {
		pause.Y[i] *= 1e6
	}
	chart(report.Chart{Title: "Garbage collector's pauses", Unit: report.Micros}, false, pause)

	server := slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Server != nil })
	return append(blocks, r.absent(timed, kernel, queued, server)...)
}

func cpuNote(cpus int) string {
	if cpus <= 0 {
		return "100 % is one CPU"
	}
	return fmt.Sprintf("100 %% is one CPU; the generator's machine has %d", cpus)
}

// logFrom is how many times the shortest the longest time of a chart has to be for it to be logarithmic.
const logFrom = 50

// percentileChart adds a chart of the percentiles of what of gives, and of a second distribution, dotted.
func (r *Report) percentileChart(blocks *[]report.Block, x []float64, title, note string, of, second func(*Sample) *Quantile) bool {
	c := &report.Chart{Title: title, Note: note, Unit: report.Micros}
	least, most := math.Inf(1), 0.0
	for i, q := range quantiles {
		y := gauge(r.Samples, func(s *Sample) float64 { return ofQuantile(of(s), q.of) })
		if any, _ := present(y); !any {
			return false
		}
		for _, v := range y {
			if v > 0 {
				least, most = min(least, v), max(most, v)
			}
		}
		c.Series = append(c.Series, report.Series{Name: q.name, X: x, Y: y, Color: []int{3, 7, 1, 5, 4}[i]})
	}
	for i, q := range quantiles {
		if second == nil || q.name != "p50" && q.name != "p99" {
			continue
		}
		y := gauge(r.Samples, func(s *Sample) float64 { return ofQuantile(second(s), q.of) })
		if any, _ := present(y); any {
			c.Series = append(c.Series, report.Series{Name: "service " + q.name, X: x, Y: y, Color: []int{3, 7, 1, 5, 4}[i], Dash: true})
		}
	}
	c.Log = most > logFrom*least
	*blocks = append(*blocks, c)
	return true
}

// errorCurves is how many kinds of errors have a curve of their own.
const errorCurves = 7

// errorChart adds a chart of errors by kind.
func (r *Report) errorChart(chart func(report.Chart, bool, ...report.Series) bool) {
	last := make(map[string]int64)
	for i := range r.Samples {
		for k, n := range r.Samples[i].Errors {
			last[k] = max(last[k], n)
		}
	}
	kinds, _ := errorKinds(last)
	var curves []report.Series
	for i, k := range kinds {
		if i == errorCurves && len(kinds) > errorCurves+1 {
			rest := kinds[i:]
			curves = append(curves, report.Series{Name: fmt.Sprintf("%d other kinds", len(rest)), Color: 8, Y: rate(r.Samples, func(s *Sample) float64 {
				sum := 0.0
				for _, k := range rest {
					sum += float64(s.Errors[k])
				}
				return sum
			})})
			break
		}
		curves = append(curves, report.Series{Name: k, Y: rate(r.Samples, func(s *Sample) float64 { return float64(s.Errors[k]) })})
	}
	chart(report.Chart{Title: "Errors by kind", Unit: report.PerSecond}, true, curves...)
}

// absent says what was not measured, and why where a note does.
func (r *Report) absent(timed, kernel, queue, server bool) []report.Block {
	var names, words []string
	for _, a := range []struct {
		there bool
		name  string
		words string // of notes that may be about it
	}{
		{timed, "latency", "latency"}, {kernel, "the kernel's counters", "kernel counter"},
		{queue, "the accept queue", "accept queue|listener"}, {server, "the server's process", "server's|/metrics|process"},
	} {
		if !a.there {
			names = append(names, a.name)
			words = append(words, strings.Split(a.words, "|")...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	var why []string
	for _, n := range r.Notes {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(n), w) }) {
			why = append(why, sentence(n))
		}
	}
	return []report.Block{report.Notice{Severity: report.Info, Title: "Not measured, so not drawn: " + strings.Join(names, ", ") + ".", Text: strings.Join(why, " ")}}
}

// latencies is a percentile plot for each scenario, and all of them in a table.
func (r *Report) latencies() []report.Block {
	var blocks []report.Block
	t := report.Table{Caption: "Percentiles", Columns: []report.Column{{Name: "Of"}}}
	for _, n := range []string{"Count", "Mean", "Min", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "Max"} {
		t.Columns = append(t.Columns, report.Column{Name: n, Numeric: true})
	}
	add := func(name string, p *Percentiles) {
		if p == nil || p.Count == 0 {
			return
		}
		row := []report.Cell{report.Text(name), report.Number(float64(p.Count), report.Count)}
		for _, v := range []float64{p.Mean, p.Min, p.P50, p.P75, p.P90, p.P95, p.P99, p.P999, p.P9999, p.Max} {
			row = append(row, report.Number(v, report.Micros))
		}
		t.Rows = append(t.Rows, row)
	}
	for i := range r.Scenarios {
		o := &r.Scenarios[i]
		if len(o.CorrectedMarks)+len(o.ServiceMarks) > 0 {
			p := &report.PercentilePlot{Title: o.Name, Note: "corrected against service time: where they part, the server kept exchanges waiting that were due", Unit: report.Micros}
			if len(o.CorrectedMarks) > 0 {
				p.Curves = append(p.Curves, curve("corrected", o.CorrectedMarks, 1))
			}
			if len(o.ServiceMarks) > 0 {
				c := curve("service", o.ServiceMarks, 2)
				c.Dash = true
				p.Curves = append(p.Curves, c)
			}
			blocks = append(blocks, p)
		}
		if o.Latency != nil {
			add(o.Name+", corrected", &o.Latency.Corrected)
			add(o.Name+", service", &o.Latency.Service)
		}
		add(o.Name+", until a half-open conn was ended", o.Detection)
	}
	add("connect, TCP", r.TCP)
	add("connect, with the handshake", r.Connect)
	if len(t.Rows) > 0 {
		blocks = append(blocks, t)
	}
	return blocks
}

func curve(name string, marks []Mark, color int) report.Curve {
	c := report.Curve{Name: name, Color: color}
	for _, m := range marks {
		c.Percentiles, c.Values = append(c.Percentiles, m.Percentile), append(c.Values, m.Time)
	}
	return c
}

// columnsThat are the columns of a table of which some row has something, so that it is as wide as it has to be. Column 0
// stays.
func columnsThat(t report.Table) report.Table {
	var keep []int
	for i := range t.Columns {
		if i == 0 || slices.ContainsFunc(t.Rows, func(row []report.Cell) bool {
			return i < len(row) && row[i].Text != "" && row[i].Text != "–"
		}) {
			keep = append(keep, i)
		}
	}
	out := report.Table{Caption: t.Caption}
	for _, i := range keep {
		out.Columns = append(out.Columns, t.Columns[i])
	}
	for _, row := range t.Rows {
		var cells []report.Cell
		for _, i := range keep {
			cells = append(cells, row[i])
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

// some is a cell that is empty for what a scenario does not have.
func some(v float64, u report.Unit) report.Cell {
	if v == 0 {
		return report.None()
	}
	return report.Number(v, u)
}

// alarm is some for what should not be, in red.
func alarm(v float64) report.Cell {
	c := some(v, report.Count)
	if v > 0 {
		c.Severity = report.Bad
	}
	return c
}

// scenarios is a table with a column for each scenario: there are few of them, and many figures.
func (r *Report) scenarios() []report.Block {
	if len(r.Scenarios) == 0 {
		return nil
	}
	t := report.Table{Columns: []report.Column{{Name: "Figure"}}}
	for i := range r.Scenarios {
		t.Columns = append(t.Columns, report.Column{Name: r.Scenarios[i].Name, Numeric: true})
	}
	row := func(name string, of func(*Outcome) report.Cell) {
		cells := []report.Cell{report.Text(name)}
		there := false
		for i := range r.Scenarios {
			c := of(&r.Scenarios[i])
			there = there || c.Text != report.None().Text && c.Text != ""
			cells = append(cells, c)
		}
		if there {
			t.Rows = append(t.Rows, cells)
		}
	}
	count := func(name string, of func(*Outcome) int64) {
		row(name, func(o *Outcome) report.Cell { return some(float64(of(o)), report.Count) })
	}
	wrong := func(name string, of func(*Outcome) int64) {
		row(name, func(o *Outcome) report.Cell { return alarm(float64(of(o))) })
	}
	time := func(name string, of func(*Latencies) float64) {
		row(name, func(o *Outcome) report.Cell {
			if o.Latency == nil || o.Latency.Corrected.Count == 0 {
				return report.None()
			}
			return report.Number(of(o.Latency), report.Micros)
		})
	}
	row("Kind", func(o *Outcome) report.Cell { return report.Text(string(o.Kind)) })
	row("Protocol", func(o *Outcome) report.Cell { return report.Text(string(o.Protocol)) })
	row("Model", func(o *Outcome) report.Cell { return report.Text(string(o.Model)) })
	count("Connections at a time", func(o *Outcome) int64 { return o.Conns.Peak })
	count("Connections opened", func(o *Outcome) int64 { return o.Conns.Opened })
	wrong("Connections that failed to open", func(o *Outcome) int64 { return o.Conns.Failed })
	wrong("Connections that were lost", func(o *Outcome) int64 { return o.Conns.Lost })
	count("Exchanges due", func(o *Outcome) int64 { return o.Due })
	count("Exchanges sent", func(o *Outcome) int64 { return o.Sent })
	count("Exchanges done", func(o *Outcome) int64 { return o.Done })
	wrong("Exchanges that failed", func(o *Outcome) int64 { return o.Failed })
	row("Throughput", func(o *Outcome) report.Cell { return some(o.Rate, report.PerSecond) })
	row("Received", func(o *Outcome) report.Cell { return some(float64(o.BytesIn), report.Bytes) })
	row("Requests for each connection", func(o *Outcome) report.Cell { return some(o.Reuse, report.Count) })
	count("Delivered", func(o *Outcome) int64 { return o.Delivered })
	wrong("Missing deliveries", func(o *Outcome) int64 { return o.Missing })
	time("Latency p50, corrected", func(l *Latencies) float64 { return l.Corrected.P50 })
	time("Latency p99, corrected", func(l *Latencies) float64 { return l.Corrected.P99 })
	time("Latency p99, service time", func(l *Latencies) float64 { return l.Service.P99 })
	wrong("Without an answer", func(o *Outcome) int64 {
		if o.Latency == nil {
			return 0
		}
		return o.Latency.Unanswered
	})
	wrong("Errors of all kinds", func(o *Outcome) int64 { _, sum := errorKinds(o.Errors); return sum })
	return []report.Block{t}
}

func (r *Report) storms() []report.Block {
	t := report.Table{Columns: []report.Column{{Name: "Scenario"}, {Name: "At", Numeric: true}, {Name: "Conns cut", Numeric: true}, {Name: "Recovered in", Numeric: true}, {Name: "Failed attempts", Numeric: true}}}
	for i := range r.Scenarios {
		for _, s := range r.Scenarios[i].Storm {
			recovered := report.Cell{Text: "not in time", Severity: report.Bad}
			if s.Recovered != nil {
				recovered = report.Number(*s.Recovered, report.Seconds)
			}
			t.Rows = append(t.Rows, []report.Cell{report.Text(r.Scenarios[i].Name), report.Number(math.Round(s.At*10)/10, report.Seconds), report.Number(float64(s.Cut), report.Count), recovered, report.Number(float64(s.Failed), report.Count)})
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return []report.Block{t}
}

func (r *Report) errors() []report.Block {
	kinds, sum := errorKinds(r.Errors)
	if sum == 0 {
		return nil
	}
	t := report.Table{Columns: []report.Column{{Name: "Kind"}, {Name: "Count", Numeric: true}, {Name: "Share", Numeric: true}}}
	for i := range r.Scenarios {
		t.Columns = append(t.Columns, report.Column{Name: r.Scenarios[i].Name, Numeric: true})
	}
	for _, k := range kinds {
		row := []report.Cell{report.Text(k), report.Number(float64(r.Errors[k]), report.Count), report.Number(float64(r.Errors[k])/float64(sum)*100, report.Percent)}
		for i := range r.Scenarios {
			row = append(row, some(float64(r.Scenarios[i].Errors[k]), report.Count))
		}
		t.Rows = append(t.Rows, row)
	}
	return []report.Block{t}
}

// shownSteps is how many steps the page has in the open; more of them are folded away.
const shownSteps = 12

func (r *Report) steps() []report.Block {
	if len(r.Steps) == 0 {
		return nil
	}
	t := report.Table{Columns: []report.Column{{Name: "Step", Numeric: true}, {Name: "Stage"}}}
	for _, n := range []string{"Time", "Conns wanted", "Open at its end", "Rate due", "Done", "p50", "p99", "Connect p99", "Errors"} {
		t.Columns = append(t.Columns, report.Column{Name: n, Numeric: true})
	}
	t.Columns = append(t.Columns, report.Column{Name: "Verdict"})
	for i := range r.Steps {
		s := &r.Steps[i]
		quantile := func(q *Quantile, of func(*Quantile) float64) report.Cell {
			if v := ofQuantile(q, of); !math.IsNaN(v) {
				return report.Number(v, report.Micros)
			}
			return report.None()
		}
		p99 := func(q *Quantile) float64 { return q.P99 }
		outcome := verdict(!s.Broken)
		if s.Broken && s.Why != "" {
			outcome.Text += ": " + s.Why
		}
		begin := s.Begin
		t.Rows = append(t.Rows, []report.Cell{report.Number(float64(i+1), report.Count), report.Text(s.Stage), {Text: fmt.Sprintf("%.1f to %.1f s", s.Begin, s.End), Sort: &begin},
			report.Number(float64(s.Conns), report.Count), report.Number(float64(s.Open), report.Count), some(s.Rate, report.PerSecond), some(s.Done, report.PerSecond),
			quantile(s.Latency, func(q *Quantile) float64 { return q.P50 }), quantile(s.Latency, p99), quantile(s.Connect, p99), alarm(float64(s.Errors)), outcome})
	}
	t = columnsThat(t)
	if len(t.Rows) > shownSteps {
		return []report.Block{report.Details{Summary: fmt.Sprintf("All %d steps", len(t.Rows)), Blocks: []report.Block{t}}}
	}
	return []report.Block{t}
}

func (r *Report) environment() report.Block {
	e, g := &r.Environment, &r.Generator
	var f report.Facts
	add := func(name, value string) {
		if value != "" && value != "0" {
			f = append(f, report.Fact{Name: name, Value: value})
		}
	}
	count := func(n uint64) string { return report.Count.Format(float64(n)) }
	add("Longwire", e.Version)
	add("Go", e.Go)
	add("Kernel", e.Kernel)
	add("CPU", e.CPU)
	add("CPUs", fmt.Sprint(e.CPUs))
	if e.Memory > 0 {
		add("Memory", report.Bytes.Format(float64(e.Memory)))
	}
	add("Open files, limit", count(e.Descriptors))
	add("somaxconn", count(e.Somaxconn))
	if e.PortLast > 0 {
		add("Local ports", fmt.Sprintf("%d to %d", e.PortFirst, e.PortLast))
	}
	add("Load average at the start", fmt.Sprintf("%.2f", e.Load))
	add("Server on this machine", map[bool]string{true: "yes", false: "no"}[e.Local])
	add("Generator's loops", fmt.Sprint(g.Loops))
	add("Source addresses", fmt.Sprint(g.SourceAddrs))
	add("Generator's CPU time", report.Seconds.Format(g.CPU))
	if g.CPUPerConn > 0 {
		add("Generator's CPU time a conn", report.Micros.Format(g.CPUPerConn))
	}
	add("Generator's memory, at most", report.Bytes.Format(float64(g.Resident)))
	if g.PerConn > 0 {
		add("Generator's memory a conn", report.Bytes.Format(g.PerConn))
	}
	add("Exchanges sent late", count(uint64(max(0, g.Late))))
	return f
}
