package stress

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/spelling"
)

// Summary is what thresholds are held against: a run, or one level of a search.
type Summary struct {
	// The distributions may be nil when nothing of the kind was measured.
	Corrected, Service, Connect *Distribution
	// Attempts is all that was begun, connects and exchanges; Errors how many of them failed.
	Attempts, Errors int64
	// Done is how many exchanges were completed in Elapsed.
	Done    int64
	Elapsed time.Duration
	// Conns is how many conns were open at the end, Wanted how many should have been, Lost how many ended that
	// should not have.
	Conns, Wanted, Lost int64
}

// Threshold is one bound on a figure, such as p99<50ms.
type Threshold struct {
	// Figure is one of p0 to p100, mean and max, of corrected times; the same with the prefix service- or connect-;
	// errors, lost, conns or rate.
	Figure string
	Op     string // <, <=, > or >=
	// Value is in ns for times, in percent where Percent is set, else a count, or for rate exchanges a second.
	Value   float64
	Percent bool
}

// Thresholds are held together: the first that breaks breaks all. The zero value always holds. Their text form is
// that of the flag: p99<50ms,errors<0.1%.
type Thresholds []Threshold

var (
	_ encoding.TextMarshaler   = Thresholds(nil)
	_ encoding.TextUnmarshaler = (*Thresholds)(nil)
)

// The figures that are not times, and the names that a wrong one is compared with.
var (
	counts       = []string{"errors", "lost", "conns", "rate"}
	timePrefixes = []string{"service-", "connect-"}
	figures      = []string{"p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "mean", "max", "service-p99", "service-max", "service-mean", "connect-p99", "connect-max", "connect-mean", "errors", "lost", "conns", "rate"}
)

// ParseThresholds reads checks with commas between them. Its error joins one for each that is wrong.
func ParseThresholds(text string) (Thresholds, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("no threshold: want one such as p99<50ms, or several with commas between them")
	}
	var all Thresholds
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		t, err := parseThreshold(strings.TrimSpace(part))
		if err != nil {
			errs = append(errs, fmt.Errorf("threshold %q: %w", strings.TrimSpace(part), err))
		}
		all = append(all, t)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

func parseThreshold(text string) (Threshold, error) {
	if text == "" {
		return Threshold{}, errors.New("it is empty: want one such as p99<50ms")
	}
	i := strings.IndexAny(text, "<>=!≤≥")
	if i < 0 {
		return Threshold{}, errors.New("it compares nothing: want a figure, one of < <= > >=, and a value, such as p99<50ms")
	}
	rest := strings.TrimLeft(text[i:], "<>=!≤≥")
	t := Threshold{Figure: strings.TrimSpace(text[:i]), Op: text[i : len(text)-len(rest)]}
	rest = strings.TrimSpace(rest)
	switch t.Op {
	case "<", "<=", ">", ">=":
	case "=<", "≤":
		return t, fmt.Errorf("%q is no comparison, did you mean %q?", t.Op, "<=")
	case "=>", "≥":
		return t, fmt.Errorf("%q is no comparison, did you mean %q?", t.Op, ">=")
	default:
		return t, fmt.Errorf("%q is no comparison: want < <= > or >=", t.Op)
	}
	known, isTime := t.kind()
	if !known {
		return t, fmt.Errorf("%q is no figure%s: want pNN (p50 to p99.99), mean or max, with service- or connect- in front for those times; errors, lost, conns or rate", t.Figure, spelling.Hint(t.Figure, figures, ""))
	}
	if rest == "" {
		return t, fmt.Errorf("there is no value after %s", t.Op)
	}
	if isTime {
		d, err := time.ParseDuration(rest)
		if err != nil {
			if _, err := strconv.ParseFloat(rest, 64); err == nil {
				return t, fmt.Errorf("%q has no unit: want a time such as %sms", rest, rest)
			}
			return t, fmt.Errorf("%q is no time: want one such as 50ms", rest)
		}
		if d < 0 {
			return t, fmt.Errorf("%s is negative", rest)
		}
		t.Value = float64(d)
		return t, nil
	}
	number, percent := strings.CutSuffix(rest, "%")
	if t.Figure == "rate" {
		if percent {
			return t, errors.New("a rate is no share: want exchanges a second, such as rate>1000")
		}
		number = strings.TrimSuffix(number, "/s")
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return t, fmt.Errorf("%q is no number: want one such as %s", rest, map[bool]string{true: "1000", false: "0.1%"}[t.Figure == "rate"])
	}
	if v < 0 {
		return t, fmt.Errorf("%s is negative", rest)
	}
	switch {
	case percent && v > 100:
		return t, fmt.Errorf("%s is more than all", rest)
	case !percent && t.Figure != "rate" && v != math.Trunc(v):
		return t, fmt.Errorf("%s is no whole count, did you mean %s%%?", rest, rest)
	}
	t.Value, t.Percent = v, percent
	return t, nil
}

// kind is whether there is such a figure, and whether it is a time.
func (t Threshold) kind() (known, isTime bool) {
	if slices.Contains(counts, t.Figure) {
		return true, false
	}
	_, f := t.of(&Summary{})
	if f == "mean" || f == "max" {
		return true, true
	}
	_, ok := percentile(f)
	return ok, ok
}

// of is the distribution that the figure is one of, and the figure without its prefix.
func (t Threshold) of(s *Summary) (*Distribution, string) {
	if f, ok := strings.CutPrefix(t.Figure, timePrefixes[0]); ok {
		return s.Service, f
	}
	if f, ok := strings.CutPrefix(t.Figure, timePrefixes[1]); ok {
		return s.Connect, f
	}
	return s.Corrected, t.Figure
}

// percentile reads p99.9.
func percentile(f string) (float64, bool) {
	digits, ok := strings.CutPrefix(f, "p")
	if !ok || digits == "" || len(digits) > 10 || strings.Trim(digits, "0123456789.") != "" {
		return 0, false
	}
	p, err := strconv.ParseFloat(digits, 64)
	return p, err == nil && p >= 0 && p <= 100
}

// String is the threshold as ParseThresholds reads it.
func (t Threshold) String() string { return t.Figure + t.Op + t.value(t.Value) }

// value is a value of the figure in its unit.
func (t Threshold) value(v float64) string {
	if _, isTime := t.kind(); isTime {
		return time.Duration(v).String()
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if t.Percent {
		s += "%"
	}
	return s
}

// String is the thresholds as ParseThresholds reads them.
func (t Thresholds) String() string {
	parts := make([]string, len(t))
	for i, one := range t {
		parts[i] = one.String()
	}
	return strings.Join(parts, ",")
}

// MarshalText is String.
func (t Thresholds) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText is ParseThresholds.
func (t *Thresholds) UnmarshalText(b []byte) error {
	all, err := ParseThresholds(string(b))
	if err == nil {
		*t = all
	}
	return err
}

// Check is a threshold held against a Summary. Its JSON form is stable.
type Check struct {
	Threshold string `json:"threshold"`
	Held      bool   `json:"held"`
	// Value is what was measured: µs for times, percent, a count or a rate. Nil means that nothing was, which breaks
	// the threshold: what was not measured did not hold.
	Value *float64 `json:"value"`
	Text  string   `json:"text"` // for people: "p99 is 61.2ms, more than 50ms"
}

// Evaluate holds each threshold against s; held is whether all of them hold.
func (t Thresholds) Evaluate(s *Summary) (checks []Check, held bool) {
	held = true
	for _, one := range t {
		c := one.check(s)
		checks = append(checks, c)
		held = held && c.Held
	}
	return checks, held
}

func (t Threshold) check(s *Summary) Check {
	c := Check{Threshold: t.String()}
	v, why := t.measured(s)
	if why != "" {
		c.Text = fmt.Sprintf("%s is not known: %s", t.Figure, why)
		return c
	}
	bound := t.value(t.Value)
	switch t.Op {
	case "<":
		c.Held = v < t.Value
	case "<=":
		c.Held = v <= t.Value
	case ">":
		c.Held = v > t.Value
	case ">=":
		c.Held = v >= t.Value
	}
	shown := v
	_, isTime := t.kind()
	if isTime {
		shown = v / 1e3
	}
	c.Value = &shown
	relation := map[bool]map[bool]string{
		true:  {true: "under", false: "not under"},
		false: {true: "over", false: "not over"},
	}[t.Op[0] == '<'][c.Held]
	if t.Op == "<=" || t.Op == ">=" {
		relation = map[bool]map[bool]string{
			true:  {true: "at most", false: "over"},
			false: {true: "at least", false: "under"},
		}[t.Op[0] == '<'][c.Held]
	}
	// Four digits do, unless they would make it look like the bound.
	text := t.value(short(v))
	if text == bound {
		text = t.value(v)
	}
	c.Text = fmt.Sprintf("%s is %s, %s %s", t.Figure, text, relation, bound)
	return c
}

// short is a value with four significant digits.
func short(v float64) float64 {
	s, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v
	}
	return s
}

// measured is the figure in the unit of Value, or why there is none.
func (t Threshold) measured(s *Summary) (v float64, why string) {
	share := func(n, of int64, nothing string) (float64, string) {
		switch {
		case !t.Percent:
			return float64(n), ""
		case of <= 0:
			return 0, nothing
		}
		return float64(n) / float64(of) * 100, ""
	}
	switch t.Figure {
	case "errors":
		return share(s.Errors, s.Attempts, "nothing was attempted")
	case "lost":
		return share(s.Lost, s.Conns+s.Lost, "no conn was open")
	case "conns":
		return share(s.Conns, s.Wanted, "no conn was wanted")
	case "rate":
		if s.Elapsed <= 0 {
			return 0, "no time has passed"
		}
		return float64(s.Done) / s.Elapsed.Seconds(), ""
	}
	d, f := t.of(s)
	if d == nil || d.Count() == 0 {
		return 0, "there are no samples"
	}
	switch f {
	case "mean":
		return float64(d.Mean()), ""
	case "max":
		return float64(d.Max()), ""
	}
	p, _ := percentile(f)
	return float64(d.Percentile(p)), ""
}
