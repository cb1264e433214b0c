package lab

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"time"

	"github.com/longwire/longwire/internal/report"
)

// Run is one execution of an experiment, and takes what comes of it. It belongs to the goroutine that runs the experiment,
// but Log may be called by any.
type Run struct {
	// Scale is how large it is to be: 1 is small and takes at most three minutes.
	Scale int
	// Seed is what chance is derived from.
	Seed uint64
	// Soak is for how long connections are held by an experiment that does nothing but hold them; 0 leaves it to the experiment.
	Soak time.Duration
	// Log says how far it is, in a sentence without a newline. The experiment's name is put before it by whoever prints it.
	Log func(format string, args ...any)

	again  Again
	pprof  bool
	shrink int // what sizes are divided by: 1, but in tests
	claims []Claim
	out    *Result
}

// Again is the command that runs this program again so that it comes to Serve with the name of a subject.
type Again func(subject string) *exec.Cmd

// Options are how an experiment is run.
type Options struct {
	Scale int                              // 0 means 1
	Seed  uint64                           // 0 means 1
	Soak  time.Duration                    // as Run.Soak
	Again Again                            // required
	Log   func(format string, args ...any) // nil says nothing
	// Pprof has each subject serve /debug/pprof, and Log say where.
	Pprof bool

	shrink int // of tests; 0 means 1
}

// patience is how long an experiment may take at scale 1; at a larger one so many times as long.
const patience = 3 * time.Minute

// Carry carries an experiment out. The result has what was measured, also when err says why it could not be carried out to
// the end; when ctx ended, Interrupted is set and err is nil.
func (e *Experiment) Carry(ctx context.Context, o Options) (*Result, error) {
	if o.Scale == 0 {
		o.Scale = 1
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	out := &Result{
		Name: e.Name, Title: e.Title, About: e.About, Scale: o.Scale, Seed: o.Seed, Began: time.Now().Round(time.Second),
		Verdicts: []Judged{}, Figures: []Figure{}, Tables: []*Table{}, Series: []*Series{}, Notes: []string{},
	}
	r := &Run{Scale: o.Scale, Seed: o.Seed, Soak: o.Soak, Log: o.Log, again: o.Again, pprof: o.Pprof, shrink: max(1, o.shrink), claims: e.Claims, out: out}
	begin := time.Now()
	limit := patience*time.Duration(o.Scale) + o.Soak
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := e.Run(within, r)
	out.Took = time.Since(begin).Seconds()
	why := "the experiment ended before it was measured"
	switch {
	case ctx.Err() != nil:
		out.Interrupted, err = true, nil
		why = "the experiment was interrupted before it was measured"
	case err != nil && within.Err() != nil:
		err = fmt.Errorf("it is not over after %v: %w", limit, err)
	}
	if err != nil {
		err = fmt.Errorf("experiment %s: %w", e.Name, err)
		out.Error = err.Error()
	}
	for _, c := range e.Claims {
		if slices.ContainsFunc(out.Verdicts, func(j Judged) bool { return j.Claim.ID == c.ID }) {
			continue
		}
		if err == nil && !out.Interrupted {
			err = fmt.Errorf("experiment %s gave no verdict on %s", e.Name, c.ID)
			out.Error = err.Error()
		}
		out.Verdicts = append(out.Verdicts, Judged{Claim: c, Verdict: NotShown, Sentence: why})
	}
	// In the order in which the experiment names its claims.
	at := func(j Judged) int {
		return slices.IndexFunc(e.Claims, func(c Claim) bool { return c.ID == j.Claim.ID })
	}
	slices.SortStableFunc(out.Verdicts, func(a, b Judged) int { return at(a) - at(b) })
	return out, err
}

// Of is n, the size of something at scale 1, at the scale of the run.
func (r *Run) Of(n int) int { return max(1, n*r.Scale/r.shrink) }

// Table begins a table. Its columns are names; what a figure is in stands in its cell.
func (r *Run) Table(title string, columns ...string) *Table {
	t := &Table{Title: title, Columns: columns, Rows: [][]Cell{}}
	r.out.Tables = append(r.out.Tables, t)
	return t
}

// Series adds a curve. Points are in the order of their times.
func (r *Run) Series(name string, unit report.Unit, points []Point) *Series {
	s := &Series{Name: name, Unit: unit, Points: slices.Clone(points)}
	r.out.Series = append(r.out.Series, s)
	return s
}

// Figure adds one figure.
func (r *Run) Figure(name string, value float64, unit report.Unit) {
	r.out.Figures = append(r.out.Figures, Figure{Name: name, Value: finite(value), Unit: unit})
}

// Note adds what a reader of the figures has to know, such as what could not be measured here.
func (r *Run) Note(format string, args ...any) {
	r.out.Notes = append(r.out.Notes, fmt.Sprintf(format, args...))
}

// Verdict judges a claim of the experiment, once. The sentence has the figures. It panics for a claim that the experiment
// does not have, which is a mistake in the program.
func (r *Run) Verdict(id string, v Verdict, sentence string) {
	i := slices.IndexFunc(r.claims, func(c Claim) bool { return c.ID == id })
	if i < 0 || slices.ContainsFunc(r.out.Verdicts, func(j Judged) bool { return j.Claim.ID == id }) {
		panic(fmt.Sprintf("verdict on %q, which is no claim of the experiment, or a second one", id))
	}
	r.out.Verdicts = append(r.out.Verdicts, Judged{Claim: r.claims[i], Verdict: v, Sentence: sentence})
}

// finite is v, or 0 where it is no number: JSON has none.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}
