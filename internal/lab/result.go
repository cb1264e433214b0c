package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/report"
)

// Form is the version of what WriteJSON writes. Fields are added under it, not renamed or taken away.
const Form = "longwire-lab/1"

// Report is what came of one or more experiments.
type Report struct {
	Form        string      `json:"format"` // Form
	Environment Environment `json:"environment"`
	Experiments []*Result   `json:"experiments"`
}

// Environment is where they ran.
type Environment struct {
	Version string  `json:"version"` // of Longwire
	Go      string  `json:"go"`
	System  string  `json:"system"` // operating system and architecture
	Kernel  string  `json:"kernel,omitempty"`
	CPUs    int     `json:"cpus"`
	Load    float64 `json:"load_average,omitempty"` // of the last minute, when the first began
}

// Result is what came of one experiment.
type Result struct {
	Name        string    `json:"name"`
	Title       string    `json:"title"`
	About       string    `json:"about"`
	Scale       int       `json:"scale"`
	Seed        uint64    `json:"seed"`
	Began       time.Time `json:"began"`
	Took        float64   `json:"took_s"`
	Interrupted bool      `json:"interrupted,omitempty"`
	Error       string    `json:"error,omitempty"` // why it could not be carried out
	Verdicts    []Judged  `json:"verdicts"`
	Figures     []Figure  `json:"figures"`
	Tables      []*Table  `json:"tables"`
	Series      []*Series `json:"series"`
	Notes       []string  `json:"notes"`
}

// Judged is a claim and its verdict.
type Judged struct {
	Claim    Claim   `json:"claim"`
	Verdict  Verdict `json:"verdict"`
	Sentence string  `json:"sentence"` // why, with the figures
}

// Figure is one number.
type Figure struct {
	Name  string      `json:"name"`
	Value float64     `json:"value"`
	Unit  report.Unit `json:"unit"`
}

// Table is rows of cells.
type Table struct {
	Title   string   `json:"title"`
	Columns []string `json:"columns"`
	Rows    [][]Cell `json:"rows"` // each as long as Columns
}

// Cell is a cell of a table: a figure in its unit, or text where Value is nil.
type Cell struct {
	Text  string      `json:"text"` // for people
	Value *float64    `json:"value,omitempty"`
	Unit  report.Unit `json:"unit,omitempty"`
}

// Quantity is a figure with its unit, for a cell.
type Quantity struct {
	Value float64
	Unit  report.Unit
}

// Size is a number of bytes, for a cell.
func Size[N int | int64 | uint64 | float64](n N) Quantity { return Quantity{float64(n), report.Bytes} }

// Row adds a row and returns t. A cell is text, a number, a duration, a Quantity, a bool ("yes" or "no"), or nil for what was not measured. It panics
// when the row is not as long as the columns, which is a mistake in the program.
func (t *Table) Row(cells ...any) *Table {
	if len(cells) != len(t.Columns) {
		panic(fmt.Sprintf("a row of %d cells in table %q of %d columns", len(cells), t.Title, len(t.Columns)))
	}
	row := make([]Cell, len(cells))
	for i, c := range cells {
		row[i] = cellOf(c)
	}
	t.Rows = append(t.Rows, row)
	return t
}

func cellOf(c any) Cell {
	quantity := func(v float64, u report.Unit) Cell {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Cell{Text: "–"}
		}
		return Cell{Text: u.Format(v), Value: &v, Unit: u}
	}
	switch v := c.(type) {
	case nil:
		return Cell{Text: "–"}
	case string:
		return Cell{Text: v}
	case bool:
		if v {
			return Cell{Text: "yes"}
		}
		return Cell{Text: "no"}
	case int:
		return quantity(float64(v), report.Count)
	case int64:
		return quantity(float64(v), report.Count)
	case uint32:
		return quantity(float64(v), report.Count)
	case uint64:
		return quantity(float64(v), report.Count)
	case float64:
		return quantity(v, report.Count)
	case time.Duration:
		return quantity(v.Seconds(), report.Seconds)
	case Quantity:
		return quantity(v.Value, v.Unit)
	}
	return Cell{Text: fmt.Sprint(c)}
}

// Point is one value at a time.
type Point struct {
	At    float64 // seconds since the curve's beginning
	Value float64
}

// MarshalJSON writes [at, value].
func (p Point) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]float64{finite(p.At), finite(p.Value)})
}

// UnmarshalJSON reads it.
func (p *Point) UnmarshalJSON(b []byte) error {
	var a [2]float64
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	p.At, p.Value = a[0], a[1]
	return nil
}

// Series is a curve.
type Series struct {
	Name   string      `json:"name"`
	Unit   report.Unit `json:"unit"`
	Chart  string      `json:"chart,omitempty"` // the title of the chart that it is drawn in
	Points []Point     `json:"points"`          // [seconds, value]
}

// On has the curve drawn in a chart of that title, with those of the same unit that name it too, and returns s. Otherwise a chart has the curves of
// one unit.
func (s *Series) On(chart string) *Series {
	s.Chart = chart
	return s
}

// NewReport is a report of results, without the environment's version, which the caller knows.
func NewReport(results ...*Result) *Report {
	return &Report{Form: Form, Environment: environment(), Experiments: results}
}

func environment() Environment {
	return Environment{
		Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Kernel: strings.TrimSpace(readSmall("/proc/sys/kernel/osrelease")), Load: loadAverage(),
	}
}

// loadAverage is that of the last minute; 0 where it is not known.
func loadAverage() float64 {
	first, _, _ := strings.Cut(readSmall("/proc/loadavg"), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}

// WriteJSON writes the report in its stable form, docs/lab.md.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadReport reads what WriteJSON wrote. What it returns is whole: it has no empty places, and tables whose rows are as long
// as their columns.
func ReadReport(from io.Reader) (*Report, error) {
	r := new(Report)
	if err := json.NewDecoder(io.LimitReader(from, 256<<20)).Decode(r); err != nil {
		return nil, fmt.Errorf("read a report of the lab: %w", err)
	}
	if r.Form != Form {
		return nil, fmt.Errorf("read a report of the lab: its format is %q: want %q", r.Form, Form)
	}
	for _, e := range r.Experiments {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("read a report of the lab: %w", err)
		}
	}
	return r, nil
}

// check says what is not whole in a result that was read.
func (x *Result) check() error {
	if x == nil {
		return errors.New("an experiment is empty")
	}
	for _, t := range x.Tables {
		if t == nil {
			return fmt.Errorf("experiment %q: a table is empty", x.Name)
		}
		for i, row := range t.Rows {
			if len(row) != len(t.Columns) {
				return fmt.Errorf("experiment %q, table %q: row %d has %d cells: want %d", x.Name, t.Title, i+1, len(row), len(t.Columns))
			}
		}
	}
	for _, s := range x.Series {
		if s == nil {
			return fmt.Errorf("experiment %q: a curve is empty", x.Name)
		}
	}
	return nil
}
