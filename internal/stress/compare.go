package stress

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/report"
)

// ComparisonFormat is what Comparison.Format says. The rule of Format holds for it, too.
const ComparisonFormat = "longwire-stress-comparison/1"

// Verdict is what a comparison says of one figure.
type Verdict string

// The verdicts, of the second run against the first.
const (
	Worse   Verdict = "worse"   // by more than the noise
	Better  Verdict = "better"  // by more than the noise
	Same    Verdict = "same"    // no difference beyond the noise
	Unknown Verdict = "unknown" // the noise is not known, or one run does not have the figure
	Unlike  Verdict = "unlike"  // the runs are not of the same load
)

// What it takes for a verdict.
const (
	leastGap  = 0.01 // of a figure: a smaller difference is never told, however little noise there is
	mostNoise = 0.25 // of a figure: with more the runs are not called the same
	burst     = 10   // errors, where the other run has none, that are no chance
	maxShift  = 0.5  // seconds between two samples that are held against each other
)

// Comparison is two runs side by side. Its JSON form is stable.
type Comparison struct {
	Format string `json:"format"`
	A      Side   `json:"a"`
	B      Side   `json:"b"`
	// Alike is false when the runs were of different loads. Then no figure has a verdict.
	Alike   bool       `json:"alike"`
	Unlike  []Mismatch `json:"unlike,omitempty"`  // why they are not alike
	Changed []Mismatch `json:"changed,omitempty"` // what else was different, and may be the reason for what is measured
	Pairs   int        `json:"pairs"`             // of samples that were held against each other
	Figures []Figure   `json:"figures"`
	Worse   int        `json:"worse"` // figures
	Better  int        `json:"better"`
	Notes   []string   `json:"notes,omitempty"`

	a, b *Report
}

// Side is one of the runs.
type Side struct {
	Name        string    `json:"name,omitempty"`
	Target      string    `json:"target"`
	Begun       time.Time `json:"begun"`
	Elapsed     float64   `json:"elapsed_s"`
	Interrupted bool      `json:"interrupted,omitempty"`
	Held        bool      `json:"held"`
	Version     string    `json:"version"`
}

// Mismatch is something that is not the same in both runs.
type Mismatch struct {
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// Figure is one figure of both runs. A and B are of the whole runs, nil where a run does not have it. Effect is the
// difference between samples of the two runs that were taken at the same time and load, with the interval from Low to High
// that has the true one with 99.9 %: as a part of A's, or a second where Absolute is set. They are nil where the noise is
// not known.
type Figure struct {
	Name           string      `json:"name"`
	Unit           report.Unit `json:"unit"`
	HigherIsBetter bool        `json:"higher_is_better"`
	A              *float64    `json:"a"`
	B              *float64    `json:"b"`
	Change         *float64    `json:"change"` // B/A - 1
	Effect         *float64    `json:"effect"`
	Low            *float64    `json:"low"`
	High           *float64    `json:"high"`
	Absolute       bool        `json:"absolute,omitempty"`
	Verdict        Verdict     `json:"verdict"`
	Why            string      `json:"why,omitempty"`
}

// Compare holds run b against run a. Neither is changed, and both must stay as they are while the comparison is used.
func Compare(a, b *Report) *Comparison {
	c := &Comparison{Format: ComparisonFormat, A: side(a), B: side(b), a: a, b: b}
	c.Unlike = unlike(a, b)
	c.Alike = len(c.Unlike) == 0
	c.Changed = changed(a, b)
	p := pair(a, b)
	c.Pairs = len(p)
	c.figures(p)
	for i := range c.Figures {
		f := &c.Figures[i]
		if !c.Alike {
			f.Verdict, f.Why = Unlike, ""
		}
		switch f.Verdict {
		case Worse:
			c.Worse++
		case Better:
			c.Better++
		}
	}
	if c.Alike && c.Pairs < fewPairs {
		c.Notes = append(c.Notes, fmt.Sprintf("only %d samples of the two runs are of the same time and load: %d are needed to tell a difference from noise", c.Pairs, fewPairs))
	}
	for _, s := range []struct {
		name string
		of   *Side
	}{{"a", &c.A}, {"b", &c.B}} {
		if s.of.Interrupted {
			c.Notes = append(c.Notes, fmt.Sprintf("run %s was interrupted: what both runs did is compared", s.name))
		}
	}
	c.Notes = append(c.Notes, "noise is what varied from second to second within the runs; what varies from one run to the next is not in it: repeat both before you trust a small difference")
	return c
}

func side(r *Report) Side {
	return Side{Name: r.Name, Target: r.Target, Begun: r.Begun, Elapsed: r.Elapsed, Interrupted: r.Interrupted, Held: r.Held, Version: r.Environment.Version}
}

// unlike is what makes two runs different loads.
func unlike(a, b *Report) (list []Mismatch) {
	add := func(what, x, y string) {
		if x != y {
			list = append(list, Mismatch{what, x, y})
		}
	}
	names := func(r *Report) string {
		var all []string
		for i := range r.Scenarios {
			o := &r.Scenarios[i]
			all = append(all, strings.Join(strings.Fields(fmt.Sprintf("%s (%s %s %s)", o.Name, o.Kind, o.Protocol, o.Model)), " "))
		}
		return strings.Join(all, ", ")
	}
	add("scenarios", names(a), names(b))
	for i := range max(len(a.Plan), len(b.Plan)) {
		line := func(p []string) string {
			if i < len(p) {
				return p[i]
			}
			return "nothing"
		}
		add(fmt.Sprintf("line %d of the plan", i+1), line(a.Plan), line(b.Plan))
	}
	add("unit of the breaking point", a.Unit, b.Unit)
	return list
}

// changed is what else is different.
func changed(a, b *Report) (list []Mismatch) {
	add := func(what string, x, y any) {
		if x != y {
			list = append(list, Mismatch{what, fmt.Sprint(x), fmt.Sprint(y)})
		}
	}
	x, y := &a.Environment, &b.Environment
	add("target", a.Target, b.Target)
	add("timeout", report.Seconds.Format(a.Timeout), report.Seconds.Format(b.Timeout))
	add("version of Longwire", x.Version, y.Version)
	add("kernel", x.Kernel, y.Kernel)
	add("CPU", x.CPU, y.CPU)
	add("CPUs", x.CPUs, y.CPUs)
	add("memory", report.Bytes.Format(float64(x.Memory)), report.Bytes.Format(float64(y.Memory)))
	add("somaxconn", x.Somaxconn, y.Somaxconn)
	add("server on the generator's machine", x.Local, y.Local)
	if math.Abs(a.Elapsed-b.Elapsed) > 0.05*max(a.Elapsed, b.Elapsed) {
		add("length", report.Seconds.Format(a.Elapsed), report.Seconds.Format(b.Elapsed))
	}
	if math.Abs(x.Load-y.Load) > 1 {
		add("load average at the start", fmt.Sprintf("%.2f", x.Load), fmt.Sprintf("%.2f", y.Load))
	}
	return list
}

// pair finds the samples of both runs that are of the same time, stage and load: index in a, index in b.
func pair(a, b *Report) (pairs [][2]int) {
	near := func(x, y float64) bool { return math.Abs(x-y) <= 0.01*max(math.Abs(x), math.Abs(y)) }
	j := 0
	for i := range a.Samples {
		s := &a.Samples[i]
		for j+1 < len(b.Samples) && math.Abs(b.Samples[j+1].At-s.At) <= math.Abs(b.Samples[j].At-s.At) {
			j++
		}
		if j >= len(b.Samples) {
			break
		}
		t := &b.Samples[j]
		if len(pairs) > 0 && pairs[len(pairs)-1][1] == j || math.Abs(t.At-s.At) > maxShift || s.Stage != t.Stage || !near(float64(s.Wanted), float64(t.Wanted)) || !near(s.Rate, t.Rate) {
			continue
		}
		pairs = append(pairs, [2]int{i, j})
	}
	return pairs
}

// figures fills Figures.
func (c *Comparison) figures(pairs [][2]int) {
	a, b := c.a, c.b
	// add adds a figure: the whole runs', and the samples' where it has them, or what part of it may be noise.
	add := func(f Figure, whole func(*Report) float64, series func(*Report) []float64, how int, once float64) *Figure {
		f.A, f.B = known(whole(a)), known(whole(b))
		if f.A == nil && f.B == nil {
			return nil
		}
		f.Verdict = Unknown
		if f.A != nil && f.B != nil {
			if *f.A != 0 {
				f.Change = known(*f.B / *f.A - 1)
			}
			if series == nil {
				f.once(once)
			} else {
				x, y := series(a), series(b)
				var u, v []float64
				var steps []int
				for i, p := range pairs {
					s, before := &a.Samples[p[0]], &a.Samples[pairs[max(0, i-1)][0]]
					step := 0
					if i > 0 {
						step = steps[i-1]
						if s.Stage != before.Stage || s.Wanted != before.Wanted || s.Rate != before.Rate {
							step++
						}
					}
					u, v, steps = append(u, x[p[0]]), append(v, y[p[1]]), append(steps, step)
				}
				f.judge(u, v, steps, how)
			}
		} else {
			f.Why = "only one of the runs has it"
		}
		c.Figures = append(c.Figures, f)
		return &c.Figures[len(c.Figures)-1]
	}
	positive := func(v float64) float64 {
		if v > 0 {
			return v
		}
		return missing
	}
	grows := func(of func(*Sample) float64) func(*Report) []float64 {
		return func(r *Report) []float64 { return rate(r.Samples, of) }
	}
	add(Figure{Name: "throughput", Unit: report.PerSecond, HigherIsBetter: true}, func(r *Report) float64 { return positive(r.throughput()) },
		grows(func(s *Sample) float64 { return float64(s.Done) }), byRatio, 0)
	delivered := func(r *Report) float64 {
		n := 0.0
		for i := range r.Scenarios {
			n += float64(r.Scenarios[i].Delivered)
		}
		return positive(n)
	}
	add(Figure{Name: "delivered", Unit: report.Count, HigherIsBetter: true}, delivered, grows(func(s *Sample) float64 { return float64(s.Delivered) }), byRatio, 0)

	quantile := func(name string, whole func(*Report) *Percentiles, p func(*Percentiles) float64, of func(*Sample) *Quantile, q func(*Quantile) float64) {
		add(Figure{Name: name, Unit: report.Micros}, func(r *Report) float64 {
			if d := whole(r); d != nil && d.Count > 0 {
				return p(d)
			}
			return missing
		}, func(r *Report) []float64 {
			return gauge(r.Samples, func(s *Sample) float64 { return positive(ofQuantile(of(s), q)) })
		}, byLogs, 0)
	}
	corrected := func(r *Report) *Percentiles {
		if o := r.main(); o != nil {
			return &o.Latency.Corrected
		}
		return nil
	}
	inService := func(r *Report) *Percentiles {
		if o := r.main(); o != nil {
			return &o.Latency.Service
		}
		return nil
	}
	opening := func(r *Report) *Percentiles { return r.Connect }
	quantile("latency p50", corrected, func(p *Percentiles) float64 { return p.P50 }, latency, func(q *Quantile) float64 { return q.P50 })
	quantile("latency p90", corrected, func(p *Percentiles) float64 { return p.P90 }, latency, func(q *Quantile) float64 { return q.P90 })
	quantile("latency p99", corrected, func(p *Percentiles) float64 { return p.P99 }, latency, func(q *Quantile) float64 { return q.P99 })
	quantile("latency p99.9", corrected, func(p *Percentiles) float64 { return p.P999 }, latency, func(q *Quantile) float64 { return q.P999 })
	quantile("service time p99", inService, func(p *Percentiles) float64 { return p.P99 }, service, func(q *Quantile) float64 { return q.P99 })

	if f := add(Figure{Name: "errors", Unit: report.Count, Absolute: true}, func(r *Report) float64 { _, n := errorKinds(r.Errors); return float64(n) },
		grows(func(s *Sample) float64 { _, n := errorKinds(s.Errors); return float64(n) }), byDifference, 0); f != nil && f.A != nil && f.B != nil {
		switch {
		case *f.A == 0 && *f.B >= burst:
			f.Verdict, f.Why = Worse, "a has none"
		case *f.B == 0 && *f.A >= burst:
			f.Verdict, f.Why = Better, "b has none"
		}
	}
	add(Figure{Name: "connect rate", Unit: report.PerSecond, HigherIsBetter: true}, func(r *Report) float64 { return positive(r.Conns.Rate) },
		grows(func(s *Sample) float64 { return float64(s.Opened) }), byRatio, 0)
	quantile("connect p50", opening, func(p *Percentiles) float64 { return p.P50 }, connect, func(q *Quantile) float64 { return q.P50 })
	quantile("connect p99", opening, func(p *Percentiles) float64 { return p.P99 }, connect, func(q *Quantile) float64 { return q.P99 })

	cpu := ofServer(func(t *TargetSample) float64 { return t.CPU })
	add(Figure{Name: "server CPU", Unit: report.Seconds}, func(r *Report) float64 { return positive(grown(r.Samples, cpu)) },
		func(r *Report) []float64 { return rateOf(r.Samples, cpu) }, byRatio, 0)
	resident := ofServer(func(t *TargetSample) float64 { return float64(t.Resident) })
	add(Figure{Name: "server memory", Unit: report.Bytes}, func(r *Report) float64 { return highest(gauge(r.Samples, resident)) },
		func(r *Report) []float64 { return gauge(r.Samples, resident) }, byRatio, 0)
	add(Figure{Name: "generator bytes per conn", Unit: report.Bytes}, func(r *Report) float64 { return positive(r.Generator.PerConn) }, nil, 0, noiseOfBytes)
	add(Figure{Name: "generator CPU per conn", Unit: report.Micros}, func(r *Report) float64 { return positive(r.Generator.CPUPerConn) }, nil, 0, noiseOfCPU)
	c.breakingPoint()
}

// known is a figure that may be missing.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// grown is how much a figure grew between the first and the last sample that has it.
func grown(samples []Sample, of func(*Sample) float64) float64 {
	first, last := missing, missing
	for i := range samples {
		if v := of(&samples[i]); !math.IsNaN(v) {
			if math.IsNaN(first) {
				first = v
			}
			last = v
		}
	}
	return last - first
}

// highest is the greatest value there is.
func highest(y []float64) float64 {
	most := missing
	for _, v := range y {
		if !math.IsNaN(v) && (math.IsNaN(most) || v > most) {
			most = v
		}
	}
	return most
}

// Of figures that each run has once the noise is not known. These parts of them are taken for it.
const (
	noiseOfBytes = 0.05
	noiseOfCPU   = 0.25
)

// once judges a figure that each run has once.
func (f *Figure) once(noise float64) {
	if f.Change == nil {
		return
	}
	f.Verdict, f.Why = Same, fmt.Sprintf("each run has it once, up to %g %% is taken for noise", noise*100)
	if math.Abs(*f.Change) > noise {
		f.decide(*f.Change)
	}
}

// decide takes a difference that is beyond the noise.
func (f *Figure) decide(by float64) {
	f.Verdict = Better
	if (by > 0) != f.HigherIsBetter {
		f.Verdict = Worse
	}
}

// judge holds pairs of samples against each other; steps has the number of the step that each is of.
func (f *Figure) judge(a, b []float64, steps []int, how int) {
	effect, low, high, ok := estimate(a, b, steps, how)
	if !ok {
		f.Why = "too few samples of the same time and load"
		return
	}
	f.Effect, f.Low, f.High = &effect, &low, &high
	switch {
	case (low > 0 || high < 0) && (f.Absolute || math.Abs(effect) >= leastGap):
		f.decide(effect)
	case !f.Absolute && (low < -mostNoise || high > mostNoise):
		f.Why = fmt.Sprintf("the noise would hide a difference of %g %%", mostNoise*100)
	default:
		f.Verdict = Same
	}
}

// breakingPoint adds the breaking points. Each is known as the range between two levels, which is its noise.
func (c *Comparison) breakingPoint() {
	x, y := c.a.Breaking, c.b.Breaking
	if x == nil && y == nil {
		return
	}
	f := Figure{Name: "breaking point", Unit: report.Count, HigherIsBetter: true, Verdict: Unknown}
	ends := func(b *Breaking) (v *float64, low, high float64) {
		high = math.Inf(1)
		if b == nil {
			return nil, 0, high
		}
		if b.Highest != nil {
			low, v = b.Highest.Level, &b.Highest.Level
		}
		if b.Lowest != nil {
			high = b.Lowest.Level
		}
		return v, low, high
	}
	var lowA, highA, lowB, highB float64
	f.A, lowA, highA = ends(x)
	f.B, lowB, highB = ends(y)
	if f.A != nil && f.B != nil && *f.A != 0 {
		f.Change = known(*f.B / *f.A - 1)
	}
	switch {
	case x == nil || y == nil:
		f.Why = "only one of the runs looked for it"
	case highB <= lowA:
		f.Verdict, f.Why = Worse, fmt.Sprintf("b broke at %s, where a still held", report.Count.Format(highB))
	case highA <= lowB:
		f.Verdict, f.Why = Better, fmt.Sprintf("b held at %s, where a broke", report.Count.Format(lowB))
	default:
		f.Verdict, f.Why = Same, "the ranges between the last level that held and the first that did not overlap"
	}
	c.Figures = append(c.Figures, f)
}

// WriteJSON writes the comparison in its stable form, docs/stress-report.md.
func (c *Comparison) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(cleaned(reflect.ValueOf(c)).Interface())
}

// effectText is the difference with its interval: +4.1 % (+2.9 to +5.3).
func (f *Figure) effectText() string {
	if f.Effect == nil {
		return "–"
	}
	switch {
	case f.Absolute:
		return fmt.Sprintf("%+.3g/s (%+.3g to %+.3g)", *f.Effect, *f.Low, *f.High)
	case *f.Effect > 2:
		times := report.Count.Format
		return fmt.Sprintf("× %s (%s to %s)", times(*f.Effect+1), times(max(0, *f.Low+1)), times(*f.High+1))
	}
	return fmt.Sprintf("%+.1f %% (%+.1f to %+.1f)", *f.Effect*100, max(-100, *f.Low*100), *f.High*100)
}

func (f *Figure) changeText() string {
	switch {
	case f.Change == nil:
		return "–"
	case *f.Change > 2:
		return "× " + report.Count.Format(*f.Change+1)
	}
	return fmt.Sprintf("%+.1f %%", *f.Change*100)
}

func (f *Figure) text(v *float64) string {
	if v == nil {
		return "–"
	}
	return f.Unit.Format(*v)
}

// headline is the comparison in a few words.
func (c *Comparison) headline() string {
	if !c.Alike {
		return "NOT COMPARABLE: the runs are of different loads"
	}
	count := func(n int, what string) string {
		switch n {
		case 0:
			return "nothing is " + what
		case 1:
			return "1 figure is " + what
		}
		return fmt.Sprintf("%d figures are %s", n, what)
	}
	text := "no difference beyond the noise"
	if c.Worse+c.Better > 0 {
		text = count(c.Worse, "worse") + ", " + count(c.Better, "better")
	}
	unknown := 0
	for i := range c.Figures {
		if c.Figures[i].Verdict == Unknown {
			unknown++
		}
	}
	if unknown > 0 {
		text += fmt.Sprintf("; of %d nothing can be said", unknown)
	}
	return text
}

// WriteText writes the comparison for a terminal.
func (c *Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	name := func(s Side) string {
		text := s.Target
		if s.Name != "" {
			text = s.Name + ": " + text
		}
		return printable(text + " on " + s.Begun.Format("2006-01-02 15:04:05 -0700") + ", " + report.Seconds.Format(s.Elapsed))
	}
	fmt.Fprintf(&b, "%s\n\na  %s\nb  %s\n", c.headline(), name(c.A), name(c.B))
	mismatches := func(title string, list []Mismatch) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, m := range list {
			fmt.Fprintf(&b, "  %s\n    a  %s\n    b  %s\n", printable(m.What), printable(m.A), printable(m.B))
		}
	}
	mismatches("The runs differ in what they did, so their figures say nothing of each other:", c.Unlike)
	mismatches("What else is different:", c.Changed)
	rows := [][]string{{"", "a", "b", "change", "at the same time and load", ""}}
	for i := range c.Figures {
		f := &c.Figures[i]
		verdict := string(f.Verdict)
		switch f.Verdict {
		case Worse:
			verdict = "WORSE"
		case Better:
			verdict = "better"
		}
		if f.Why != "" {
			verdict += ": " + f.Why
		}
		rows = append(rows, []string{f.Name, f.text(f.A), f.text(f.B), f.changeText(), f.effectText(), verdict})
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	b.WriteString("\n")
	for _, row := range rows {
		line := pad(row[0], widths[0])
		for i := 1; i < len(row)-1; i++ {
			line += "  " + strings.Repeat(" ", widths[i]-len([]rune(row[i]))) + row[i]
		}
		b.WriteString(strings.TrimRight(line+"  "+row[len(row)-1], " ") + "\n")
	}
	if c.Alike {
		fmt.Fprintf(&b, "\n%d samples of the same time and load; in brackets the interval that has the true difference with 99.9 %%.\n", c.Pairs)
	}
	for _, n := range c.Notes {
		b.WriteString("note: " + printable(n) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
