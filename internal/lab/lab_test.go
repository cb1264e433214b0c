package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/report"
)

// childSubject, in the environment, makes this program a subject.
const childSubject = "LONGWIRE_LAB_SUBJECT"

func TestMain(m *testing.M) {
	if name := os.Getenv(childSubject); name != "" {
		if err := Serve(context.Background(), name, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m, leaktest.Descriptors)
}

// again makes this test a subject.
func again(subject string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return &exec.Cmd{Path: self, Args: os.Args[:1], Env: append(os.Environ(), childSubject+"="+subject,
		"GORACE=atexit_sleep_ms=0")} // a second for each process otherwise
}

// planted is a run that measures nothing: figures are given to what judges.
func planted(experiment string) *Run {
	return &Run{Scale: 1, Seed: 1, Log: func(string, ...any) {}, shrink: 1, claims: claimsOf(experiment), out: new(Result)}
}

// verdicts are those that a run was given, by claim.
func verdicts(r *Run) map[string]Verdict {
	m := map[string]Verdict{}
	for _, j := range r.out.Verdicts {
		m[j.Claim.ID] = j.Verdict
	}
	return m
}

// tiny runs an experiment small.
func tiny(t *testing.T, name string, shrink int) *Result {
	t.Helper()
	e, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	x, err := e.Carry(t.Context(), Options{Again: again, shrink: shrink, Log: func(f string, args ...any) { t.Logf(f, args...) }})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	x.writeText(&text)
	t.Logf("%s", text.String())
	if len(x.Tables) == 0 {
		t.Error("it has no table")
	}
	for _, table := range x.Tables {
		if len(table.Rows) == 0 {
			t.Errorf("table %q is empty", table.Title)
		}
	}
	for _, v := range x.Verdicts {
		if !strings.ContainsAny(v.Sentence, "0123456789*") { // or a type
			t.Errorf("%s: the sentence has no figure: %q", v.Claim.ID, v.Sentence)
		}
	}
	return x
}

// wants holds a result's verdicts against those that are certain at any size.
func wants(t *testing.T, x *Result, want map[string]Verdict) {
	t.Helper()
	for id, v := range want {
		i := slices.IndexFunc(x.Verdicts, func(j Judged) bool { return j.Claim.ID == id })
		if i < 0 {
			t.Errorf("there is no verdict on %s", id)
		} else if got := x.Verdicts[i].Verdict; got != v {
			t.Errorf("%s: %v, want %v: %s", id, got, v, x.Verdicts[i].Sentence)
		}
	}
}

// TestExperimentsAreWhole checks what every experiment has to say of itself.
func TestExperimentsAreWhole(t *testing.T) {
	ids := map[string]string{}
	word := regexp.MustCompile(`^[a-z]+$`)
	id := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, e := range Experiments() {
		if !word.MatchString(e.Name) || e.Title == "" || e.About == "" || e.Run == nil {
			t.Errorf("experiment %q lacks a name, a title, what it is about, or what it does", e.Name)
		}
		if len(e.Claims) == 0 {
			t.Errorf("experiment %s has no claim", e.Name)
		}
		for _, c := range e.Claims {
			if !id.MatchString(c.ID) || c.Quote == "" || c.Says == "" {
				t.Errorf("experiment %s: claim %+v is not whole", e.Name, c)
			}
			if other := ids[c.ID]; other != "" {
				t.Errorf("claim %s is of %s and of %s", c.ID, other, e.Name)
			}
			ids[c.ID] = e.Name
		}
	}
	if _, err := Find("nothing"); err == nil || !strings.Contains(err.Error(), "want one of body") {
		t.Errorf("an unknown name: %v", err)
	}
}

// carried is an experiment of a test's own.
func carried(run func(ctx context.Context, r *Run) error) *Experiment {
	return &Experiment{Name: "test", Claims: []Claim{{ID: "one", Quote: "一", Says: "one"}, {ID: "two", Quote: "二", Says: "two"}}, Run: run}
}

func TestCarry(t *testing.T) {
	both := func(r *Run) {
		r.Verdict("two", DoesNotHold, "0 of 2")
		r.Verdict("one", Holds, "1 of 1")
	}
	x, err := carried(func(_ context.Context, r *Run) error { both(r); return nil }).Carry(t.Context(), Options{})
	if err != nil || x.Scale != 1 || x.Seed != 1 || len(x.Verdicts) != 2 || x.Verdicts[0].Claim.ID != "one" || x.Verdicts[1].Verdict != DoesNotHold {
		t.Errorf("%+v, %v", x, err)
	}
	// A claim that is left out is a mistake.
	x, err = carried(func(_ context.Context, r *Run) error { r.Verdict("one", Holds, "1"); return nil }).Carry(t.Context(), Options{})
	if err == nil || x.Verdicts[1].Verdict != NotShown || x.Error == "" {
		t.Errorf("without a verdict: %+v, %v", x, err)
	}
	// What failed says so, and keeps what there is.
	broken := errors.New("broken")
	x, err = carried(func(_ context.Context, r *Run) error { r.Verdict("one", Holds, "1"); return broken }).Carry(t.Context(), Options{})
	if !errors.Is(err, broken) || !strings.Contains(x.Error, "broken") || x.Verdicts[0].Verdict != Holds || x.Verdicts[1].Verdict != NotShown {
		t.Errorf("a failure: %+v, %v", x, err)
	}
	// So does what was interrupted, which is no failure.
	ctx, cancel := context.WithCancel(t.Context())
	x, err = carried(func(ctx context.Context, r *Run) error {
		r.Verdict("one", Holds, "1")
		cancel()
		return context.Cause(ctx)
	}).Carry(ctx, Options{})
	if err != nil || !x.Interrupted || x.Error != "" || x.Verdicts[0].Verdict != Holds || x.Verdicts[1].Verdict != NotShown {
		t.Errorf("interrupted: %+v, %v", x, err)
	}
	for name, wrong := range map[string]func(r *Run){
		"an unknown claim": func(r *Run) { r.Verdict("three", Holds, "") },
		"a second verdict": func(r *Run) { both(r); both(r) },
		"a short row":      func(r *Run) { r.Table("t", "a", "b").Row(1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is taken", name)
				}
			}()
			_, _ = carried(func(_ context.Context, r *Run) error { wrong(r); return nil }).Carry(t.Context(), Options{})
		}()
	}
}

// sampleReport has one of everything.
func sampleReport() *Report {
	r := planted("body")
	r.out.Name, r.out.Title, r.out.About = "body", "A title <b>", "What is done, in a few sentences that are long enough to be broken into lines, since a terminal is not as wide as all that."
	r.out.Scale, r.out.Seed, r.out.Began, r.out.Took = 1, 1, time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC), 2.5
	r.out.Figures, r.out.Tables, r.out.Series, r.out.Notes = []Figure{}, []*Table{}, []*Series{}, []string{}
	r.Table("Memory", "server", "resident memory", "took", "share", "alive").
		Row("gorilla", Size(17300), 1500*time.Millisecond, Quantity{12.5, report.Percent}, 100).
		Row("longwire", nil, time.Duration(0), math.NaN(), true)
	r.Series("gorilla", report.Bytes, []Point{{0, 10}, {1, 1000}, {2, 500}}).On("memory")
	r.Series("longwire", report.Bytes, []Point{{0, 10}, {2, 20}}).On("memory")
	r.Series("alone", report.Count, nil)
	r.Figure("alive", 3, report.Count)
	r.Figure("nothing", math.Inf(1), report.Count)
	r.Note("a note about %d things", 2)
	r.Verdict("body-blocks", HoldsInPart, "2 of 3")
	return &Report{Form: Form, Environment: Environment{Version: "test", Go: "go1.26", System: "linux/amd64", CPUs: 2, Load: 0.5}, Experiments: []*Result{r.out}}
}

func TestJSON(t *testing.T) {
	r := sampleReport()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"format": "longwire-lab/1"`, `"value": 17300`, `"verdict": "holds_in_part"`, `"text": "–"`, "<b>"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in %s", want, b.String())
		}
	}
	got, err := ReadReport(&b)
	if err != nil {
		t.Fatal(err)
	}
	r.Experiments[0].Series[2].Points = got.Experiments[0].Series[2].Points // none, nil or not
	if !reflect.DeepEqual(got, r) {
		t.Errorf("read back:\n%+v\nwant\n%+v", got.Experiments[0], r.Experiments[0])
	}
	for _, bad := range []string{"", "{}", `{"format":"longwire-lab/2"}`, "[]"} {
		if _, err := ReadReport(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for a report", bad)
		}
	}
}

// TestJSONIsDescribed checks that docs/lab.md names each field.
func TestJSONIsDescribed(t *testing.T) {
	b, err := os.ReadFile("../../docs/lab.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	var walk func(reflect.Type)
	seen := map[reflect.Type]bool{}
	walk = func(x reflect.Type) {
		for x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice {
			x = x.Elem()
		}
		if x.Kind() != reflect.Struct || seen[x] || !strings.HasSuffix(x.PkgPath(), "internal/lab") {
			return
		}
		seen[x] = true
		for i := range x.NumField() {
			name, _, _ := strings.Cut(x.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/lab.md does not name the field %s of %v", name, x)
			}
			walk(x.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Report]())
	if len(seen) < 8 {
		t.Errorf("only %d types were looked at", len(seen))
	}
	for _, e := range Experiments() {
		if !strings.Contains(page, "`"+e.Name+"`") {
			t.Errorf("docs/lab.md does not name the experiment %s", e.Name)
		}
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := sampleReport().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"body: A title <b> (scale 1, 2.5 s)\n",
		"            resident\n",
		"  server      memory    took   share   alive\n",
		"  gorilla    17.3 kB   1.5 s  12.5 %     100\n",
		"  longwire         –     0 s       –     yes\n",
		"  memory, gorilla: from 10 B to 500 B in 2 s, between 10 B and 1 kB\n",
		"  alone: no values\n",
		"note: a note about 2 things\n",
		"HOLDS IN PART: body-blocks\n",
		"  measured: 2 of 3\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	for line := range strings.Lines(got) {
		if n := len([]rune(line)); n > width+2 {
			t.Errorf("a line has %d characters: %s", n, line)
		}
	}
}

func TestHTML(t *testing.T) {
	r := sampleReport()
	two := *r.Experiments[0]
	two.Error, two.Interrupted = "it broke", true
	r.Experiments = append(r.Experiments, &two)
	var b strings.Builder
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A title &lt;b&gt;", "17.3 kB", "holds in part", "it broke", "Interrupted", "a note about 2 things", "longwire lab run body --scale 1 --seed 1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in the page", want)
		}
	}
	charts := r.Experiments[0].charts()
	if len(charts) != 2 || len(charts[0].Series) != 2 || charts[0].Title != "memory" || charts[1].Title != "alone" {
		t.Errorf("charts: %+v", charts)
	}
}

// TestServe talks to a subject in this process.
func TestServe(t *testing.T) {
	if err := Serve(t.Context(), "nothing", strings.NewReader(""), new(bytes.Buffer)); err == nil {
		t.Error("an unknown subject is served")
	}
	for in, want := range map[string]string{
		`{"ask":"sample","arg":0}`:                     `before it began`,
		`{"ask":"begin","arg":{"config":{"Count":0}}}`: `0 objects`,
		`{"ask":"begin","arg":7}`:                      `cannot unmarshal`,
		`{"ask":"begin","arg":{"config":7}}`:           `configuration`,
		`{"ask":"begin","arg":{"config":{"Way":"without","Count":3},"pprof":true}}{"ask":"nonsense"}`: `which it does not know`,
		`{"ask":"begin","arg":{"config":{"Way":"without","Count":3},"pprof":true}}`:                   `"pprof":"http://127.0.0.1:`,
		`{"ask":"begin","arg":{"config":{"Way":"x","Count":3}}}{"ask":"make"}`:                        `no way`,
		`nonsense`: ``,
	} {
		var out bytes.Buffer
		if err := Serve(t.Context(), "finalizer", strings.NewReader(in), &out); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is answered by %s, want %s", in, out.String(), want)
		}
	}
}

// started is a process of a subject for a test.
func started(t *testing.T, subject string, config any, pprof bool) *Process {
	t.Helper()
	r := planted("body")
	r.again, r.pprof = again, pprof
	p, err := r.Start(t.Context(), subject, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestProcess(t *testing.T) {
	p := started(t, "finalizer", finalizerConfig{finalizerPlain, 10}, false)
	s, err := p.Sample(t.Context(), 1)
	if err != nil || s.Goroutines == 0 || s.Heap == 0 || s.Collections == 0 {
		t.Errorf("sample %+v, %v", s, err)
	}
	if err := p.Ask(t.Context(), "nonsense", nil, nil); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("a question that it does not know: %v", err)
	}
	broken := errors.New("broken")
	list, err := p.While(t.Context(), time.Millisecond, func() error { return broken })
	if !errors.Is(err, broken) || len(list) == 0 {
		t.Errorf("meanwhile: %d samples, %v", len(list), err)
	}
	// Who gives a question up does not get its answer for the next.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = p.Ask(ctx, "state", nil, nil)
	if err != nil {
		if _, err := p.Sample(t.Context(), 0); err == nil {
			t.Error("a question after one that was given up is answered")
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	// One that dies says so.
	p = started(t, "finalizer", finalizerConfig{finalizerPlain, 10}, false)
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Sample(t.Context(), 0); err == nil {
		t.Error("a dead subject answers")
	}
	if err := p.Close(); err == nil {
		t.Error("a subject that was killed ended well")
	}
	r := planted("body")
	r.again = again
	if _, err := r.Start(t.Context(), "nothing", nil, nil); err == nil || !strings.Contains(err.Error(), `"nothing" is no subject`) {
		t.Errorf("an unknown subject: %v", err)
	}
}

// TestInterrupted ends an experiment early: what it started is gone, and there is a report.
func TestInterrupted(t *testing.T) {
	e, err := Find("finalizer")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := true
	x, err := e.Carry(ctx, Options{Again: again, shrink: 50, Log: func(string, ...any) {
		if !first {
			cancel() // in the second case
		}
		first = false
	}})
	if err != nil || !x.Interrupted || len(x.Tables) != 1 || len(x.Tables[0].Rows) == 0 || x.Verdicts[0].Verdict != NotShown {
		t.Errorf("%+v, %v", x, err)
	}
}
