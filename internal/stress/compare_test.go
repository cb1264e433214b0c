package stress

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/report/reporttest"
)

// of is the figure of a name; the test fails without it.
func (c *Comparison) of(t *testing.T, name string) *Figure {
	t.Helper()
	for i := range c.Figures {
		if c.Figures[i].Name == name {
			return &c.Figures[i]
		}
	}
	t.Fatalf("there is no figure %q", name)
	return nil
}

func TestCompareFindsWhatDiffers(t *testing.T) {
	a := plausible.report()
	for name, c := range map[string]struct {
		change func(*synthetic)
		want   map[string]Verdict
	}{
		"another seed": {func(y *synthetic) { y.seed = 99 }, map[string]Verdict{"throughput": Same, "latency p50": Same, "latency p99": Same, "errors": Same, "connect rate": Same, "server CPU": Same, "server memory": Same}},
		"slower":       {func(y *synthetic) { y.seed, y.p50 = 98, 1.1*y.p50 }, map[string]Verdict{"throughput": Same, "latency p50": Worse, "latency p99": Worse, "latency p99.9": Worse, "service time p99": Worse}},
		"faster":       {func(y *synthetic) { y.seed, y.p50 = 97, 0.9*y.p50 }, map[string]Verdict{"latency p50": Better, "latency p99": Better}},
		"breaks":       {func(y *synthetic) { y.seed, y.breaks = 96, true }, map[string]Verdict{"throughput": Worse, "errors": Worse, "latency p99": Worse}},
	} {
		y := plausible
		c.change(&y)
		got := Compare(a, y.report())
		if !got.Alike || got.Pairs < 50 {
			t.Errorf("%s: alike %v, %d pairs, %v", name, got.Alike, got.Pairs, got.Unlike)
		}
		worse, better := 0, 0
		for _, f := range got.Figures {
			switch f.Verdict {
			case Worse:
				worse++
			case Better:
				better++
			}
		}
		if got.Worse != worse || got.Better != better {
			t.Errorf("%s: %d worse and %d better, counted %d and %d", name, got.Worse, got.Better, worse, better)
		}
		for figure, want := range c.want {
			if f := got.of(t, figure); f.Verdict != want {
				t.Errorf("%s: %s is %s (%s), want %s", name, figure, f.Verdict, f.effectText(), want)
			}
		}
	}
	y := plausible
	y.seed, y.p50 = 95, 1.1*y.p50
	if f := Compare(a, y.report()).of(t, "latency p50"); *f.Low > 0.1 || *f.High < 0.1 || *f.Low < 0.06 || *f.High > 0.14 {
		t.Errorf("a latency that is 10 %% longer is told as %s", f.effectText())
	}
}

func TestCompareOddRuns(t *testing.T) {
	a := plausible.report()
	for name, c := range map[string]struct {
		change func(*Report)
		want   string
	}{
		"scenario": {func(r *Report) { r.Scenarios[0].Kind = HoldKind }, "scenarios"},
		"protocol": {func(r *Report) { r.Scenarios[0].Protocol = Plain }, "scenarios"},
		"plan":     {func(r *Report) { r.Plan[1] = "other" }, "line 2 of the plan"},
		"longer":   {func(r *Report) { r.Plan = append(r.Plan, "more") }, "line 4 of the plan"},
	} {
		b := plausible.report()
		c.change(b)
		got := Compare(a, b)
		if got.Alike || len(got.Unlike) != 1 || got.Unlike[0].What != c.want || got.Worse+got.Better != 0 || got.of(t, "throughput").Verdict != Unlike {
			t.Errorf("%s: alike %v, %+v", name, got.Alike, got.Unlike)
		}
		var text bytes.Buffer
		if err := got.WriteText(&text); err != nil || !strings.HasPrefix(text.String(), "NOT COMPARABLE") || !strings.Contains(text.String(), c.want) || !strings.Contains(text.String(), "throughput") {
			t.Errorf("%s: %v\n%s", name, err, &text)
		}
	}

	// What was else another is told, and stands in nobody's way.
	b := plausible.report()
	b.Target, b.Environment.Kernel, b.Interrupted, b.Elapsed = "ws://127.0.0.1:9000/", "Linux 5", true, 30
	got := Compare(a, b)
	if !got.Alike || len(got.Changed) != 3 || !strings.Contains(strings.Join(got.Notes, "\n"), "run b was interrupted") {
		t.Errorf("alike %v, changed %+v, notes %q", got.Alike, got.Changed, got.Notes)
	}

	// Too little to tell.
	y := plausible
	y.seconds = 5
	few := Compare(y.report(), y.report())
	if f := few.of(t, "throughput"); f.Verdict != Unknown || f.Effect != nil || !strings.Contains(strings.Join(few.Notes, "\n"), "only 5 samples") {
		t.Errorf("five samples: %+v, notes %q", f, few.Notes)
	}
	// Samples that vary too much to tell are not called the same.
	y = plausible
	y.noise = 0.8
	x := y.report()
	y.seed++
	if f := Compare(x, y.report()).of(t, "latency p50"); f.Verdict != Unknown || !strings.Contains(f.Why, "hide") {
		t.Errorf("latencies that vary by 80 %%: %s, %s, %q", f.Verdict, f.effectText(), f.Why)
	}
	// Samples of another level are not held against each other.
	y = plausible
	y.conns *= 2
	if got := Compare(a, y.report()); got.Pairs != 0 {
		t.Errorf("%d pairs of other levels", got.Pairs)
	}
	// Errors out of nothing.
	b = plausible.report()
	b.Errors = map[string]int64{"reset": 12}
	if f := Compare(a, b).of(t, "errors"); f.Verdict != Worse {
		t.Errorf("12 errors against none: %+v", f)
	}
	b.Errors["reset"] = 3
	if f := Compare(a, b).of(t, "errors"); f.Verdict != Same {
		t.Errorf("3 errors against none: %+v", f)
	}
	// Figures that a run has once.
	for factor, want := range map[float64]Verdict{1.04: Same, 1.2: Worse, 0.8: Better} {
		b := plausible.report()
		b.Generator.PerConn *= factor
		if f := Compare(a, b).of(t, "generator bytes per conn"); f.Verdict != want {
			t.Errorf("%g times the bytes per conn: %s, want %s", factor, f.Verdict, want)
		}
	}
}

func TestCompareBreakingPoints(t *testing.T) {
	at := func(held, broken float64) *Report {
		r := plausible.report()
		r.Unit, r.Breaking = "conns", new(Breaking)
		if held > 0 {
			r.Breaking.Highest = &Level{Level: held}
		}
		if broken > 0 {
			r.Breaking.Lowest = &Level{Level: broken}
		}
		return r
	}
	for _, c := range []struct {
		a, b [2]float64
		want Verdict
	}{
		{[2]float64{1000, 1020}, [2]float64{1000, 1020}, Same}, {[2]float64{1000, 1020}, [2]float64{1010, 1030}, Same},
		{[2]float64{1000, 1020}, [2]float64{1020, 1040}, Better}, {[2]float64{1000, 1020}, [2]float64{900, 920}, Worse}, {[2]float64{1000, 1020}, [2]float64{980, 1000}, Worse},
		{[2]float64{1000, 0}, [2]float64{500, 510}, Worse}, {[2]float64{0, 100}, [2]float64{500, 510}, Better}, {[2]float64{1000, 0}, [2]float64{1000, 0}, Same},
	} {
		if f := Compare(at(c.a[0], c.a[1]), at(c.b[0], c.b[1])).of(t, "breaking point"); f.Verdict != c.want {
			t.Errorf("%v against %v: %s (%s), want %s", c.b, c.a, f.Verdict, f.Why, c.want)
		}
	}
}

// Every pair of odd runs can be compared, and written in every form.
func TestCompareAll(t *testing.T) {
	runs := edges()
	for x, a := range runs {
		for y, b := range runs {
			c := Compare(a, b)
			var text, page, j bytes.Buffer
			if err := c.WriteText(&text); err != nil || strings.ContainsAny(text.String(), "\x00\x1b\u202e\u2028") {
				t.Errorf("%s, %s: text: %v", x, y, err)
			}
			if err := c.WriteHTML(&page); err != nil || strings.Contains(page.String(), "<img") || strings.Contains(page.String(), "<script>alert") {
				t.Errorf("%s, %s: page: %v", x, y, err)
			}
			var back Comparison
			if err := c.WriteJSON(&j); err != nil {
				t.Errorf("%s, %s: JSON: %v", x, y, err)
			} else if err := json.Unmarshal(j.Bytes(), &back); err != nil || back.Format != ComparisonFormat || len(back.Figures) != len(c.Figures) {
				t.Errorf("%s, %s: JSON: %v, %+v", x, y, err, back)
			}
			if x == y && c.Worse+c.Better > 0 {
				t.Errorf("%s against itself: %d worse, %d better", x, c.Worse, c.Better)
			}
		}
	}
}

func TestCompareInBrowser(t *testing.T) {
	b := reporttest.Start(t)
	y := plausible
	y.seed, y.breaks = 7, true
	c := Compare(plausible.report(), y.report())
	file := filepath.Join(t.TempDir(), "comparison.html")
	if err := os.WriteFile(file, []byte(htmlOf(t, func(w *bytes.Buffer) error { return c.WriteHTML(w) })), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Open(file)
	b.Check(9, 100)
	if *screenshots != "" {
		b.Picture(filepath.Join(*screenshots, "comparison-light.png"))
		b.Theme("dark", "screen")
		b.Picture(filepath.Join(*screenshots, "comparison-dark.png"))
	}
}
