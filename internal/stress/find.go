package stress

import (
	"fmt"
	"math"
	"slices"
)

// Search says how a Finder looks for the breaking point. From and Step are required; the zero value of the rest has
// defaults.
type Search struct {
	// From is the first level, Step what is added as long as levels hold, To the highest level that may be tried,
	// conns or arrivals a second. Zero To means no bound but Trials.
	From, Step, To float64
	// Factor, when above 1, multiplies the level instead of adding Step: for a limit whose size nobody knows.
	Factor float64
	// Whole is for levels that are counts: only whole ones are tried.
	Whole bool
	// Precision is how far apart the highest level that held and the lowest that did not may be in the end, as a part
	// of the latter. Zero means 0.02.
	Precision float64
	// Trials bounds the measurements. Zero means 120.
	Trials int
}

// Trial is one measurement to make.
type Trial struct {
	Level float64
	// Hold asks for a long measurement: the level held in short ones, and is about to be reported.
	Hold bool
	// Rest asks to let the server come to rest before: the measurement before this one broke it.
	Rest bool
	// Number counts the trials, from 1.
	Number int
}

// Level is a level of a search with what was measured there.
type Level struct {
	Level    float64    `json:"level"`
	Held     bool       `json:"held"`
	Passed   int        `json:"passed"` // measurements that held
	Failed   int        `json:"failed"` // measurements that did not
	Evidence []Evidence `json:"evidence"`

	long tally // of the long measurements, which are in Passed and Failed, too
}

// tally counts measurements.
type tally struct{ passed, failed int }

// Evidence is one measurement of a search.
type Evidence struct {
	Trial  int     `json:"trial"`
	Hold   bool    `json:"hold,omitempty"`
	Held   bool    `json:"held"`
	Checks []Check `json:"checks,omitempty"`
}

// Breaking is what a search came to. Its JSON form is stable.
type Breaking struct {
	// Highest is the highest level that held; nil when none did. Confirmed means that it held a long measurement.
	Highest   *Level `json:"highest_held"`
	Confirmed bool   `json:"confirmed"`
	// Lowest is the first level above it that did not hold; nil when all did, up to the highest that was allowed.
	Lowest *Level `json:"lowest_broken"`
	// Levels is all that was tried, by level.
	Levels []Level `json:"levels"`
	Trials int     `json:"trials"`
	// Ended early: the bound on trials was reached, or the search was stopped, before the two levels were as near to
	// each other as asked for and confirmed.
	Early bool `json:"ended_early,omitempty"`
}

// Finder searches for the breaking point: it steps up until a level does not hold, bisects between that level and the
// highest that held, and confirms both: the lower one by repeating it and by a long measurement, the upper one by
// repeating it. It does no measurement itself: Next says which to make, Report takes what came of it, in turns.
//
// Measurements are noisy, so no single one breaks a level: a level is broken when failures lead by two, or are the
// majority of five. A verdict that was wrong nevertheless is found when the search has narrowed to it: the level is
// measured again there until one side leads by four, and when its verdict turns the search goes on from the next
// level that has one. When a level holds in short measurements but not in long ones, as with a leak, all further ones
// are long, and what held before counts no more.
type Finder struct {
	search Search
	levels []Level // by level
	number int
	rest   bool
	long   bool   // short measurements were found to show too little
	asked  *Trial // by Next, not reported yet
	over   bool
	early  bool
}

// The measurements of one level.
const (
	lead     = 2  // what decides a level
	most     = 5  // after which the majority does
	sure     = 4  // the lead of a level that is to be reported
	sureLong = 2  // the same in long measurements
	enoughOf = 11 // after which the majority decides what is reported
)

// NewFinder is a search that has not begun.
func NewFinder(s Search) (*Finder, error) {
	if s.Precision == 0 {
		s.Precision = 0.02
	}
	if s.Trials == 0 {
		s.Trials = 120
	}
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	switch {
	case !finite(s.From) || s.From <= 0:
		return nil, bad("", "search: it begins at %g: want a level above 0", s.From)
	case s.Factor != 0 && (!finite(s.Factor) || s.Factor <= 1):
		return nil, bad("give one such as 2, or a step", "search: factor %g: want more than 1", s.Factor)
	case s.Factor == 0 && (!finite(s.Step) || s.Step <= 0):
		return nil, bad("", "search: step %g: want more than 0", s.Step)
	case !finite(s.To) || s.To != 0 && s.To < s.From:
		return nil, bad("", "search: it begins at %g and ends at %g: want an end that is not below the begin", s.From, s.To)
	case !(s.Precision > 0 && s.Precision < 1):
		return nil, bad("", "search: precision %g: want a part of 1, such as 0.02", s.Precision)
	case s.Trials < 0:
		return nil, bad("", "search: %d trials: want 0 or more", s.Trials)
	}
	return &Finder{search: s}, nil
}

// Next is the measurement to make now; false when the search is over. Until Report it is the same one.
func (f *Finder) Next() (Trial, bool) {
	if f.over {
		return Trial{}, false
	}
	if f.asked != nil {
		return *f.asked, true
	}
	level, hold, ok := f.next()
	if !ok {
		f.over = true
		return Trial{}, false
	}
	if f.number == f.search.Trials {
		f.over, f.early = true, true
		return Trial{}, false
	}
	f.number++
	f.asked = &Trial{Level: level, Hold: hold, Rest: f.rest, Number: f.number}
	return *f.asked, true
}

// Report takes what came of the measurement that Next asked for: whether the level held, and why that is said.
// Without one asked for it does nothing.
func (f *Finder) Report(held bool, checks []Check) {
	if f.asked == nil {
		return
	}
	t := *f.asked
	f.asked = nil
	f.rest = !held
	i, found := slices.BinarySearchFunc(f.levels, t.Level, func(l Level, v float64) int { return compare(l.Level, v) })
	if !found {
		f.levels = slices.Insert(f.levels, i, Level{Level: t.Level})
	}
	l := &f.levels[i]
	l.count(held, t.Hold)
	l.Evidence = append(l.Evidence, Evidence{Trial: t.Number, Hold: t.Hold, Held: held, Checks: checks})
	if t.Hold && !l.Held && !l.open() && l.Passed-l.long.passed > l.Failed-l.long.failed {
		f.long = true
	}
}

// count adds a measurement. Long ones outvote short ones: they see more.
func (l *Level) count(held, long bool) {
	switch {
	case held && long:
		l.Passed++
		l.long.passed++
	case held:
		l.Passed++
	case long:
		l.Failed++
		l.long.failed++
	default:
		l.Failed++
	}
	t := l.tally()
	l.Held = t.passed > t.failed
}

// tally is what decides the level.
func (l *Level) tally() tally {
	if l.long != (tally{}) {
		return l.long
	}
	return tally{l.Passed, l.Failed}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Stop ends the search with what it has.
func (f *Finder) Stop() {
	if !f.over {
		f.over, f.early = true, true
	}
}

// open says that the level has no verdict yet. One success is enough on the way up and in between: if it was chance,
// the measurements at the end will tell.
func (l *Level) open() bool {
	t := l.tally()
	n := t.passed + t.failed
	switch {
	case t.failed == 0:
		return false
	case n >= most:
		return t.passed == t.failed
	}
	return t.passed-t.failed < lead && t.failed-t.passed < lead
}

// bracket is the lowest level that broke and the highest that held below it, nil where there is none.
func (f *Finder) bracket() (held, broken *Level) {
	for i := range f.levels {
		l := &f.levels[i]
		if !l.Held {
			return held, l
		}
		if !f.long || l.long.passed > 0 {
			held = l
		}
	}
	return held, nil
}

// again says whether a level that is to be reported has to be measured again, and whether for long.
func (f *Finder) again(l *Level) (long, ok bool) {
	t := l.tally()
	by := t.passed - t.failed
	if !l.Held {
		by = -by
	}
	switch long = l.long != (tally{}); {
	case t.passed+t.failed >= enoughOf:
		return true, l.Held && !long
	case long:
		return true, by < sureLong && (f.long || t.failed > 0)
	case l.Held && by >= sure-1:
		return true, true
	}
	return false, by < sure
}

// next is the level to measure next.
func (f *Finder) next() (level float64, hold, ok bool) {
	if len(f.levels) == 0 {
		return f.round(f.search.From), false, true
	}
	for i := range f.levels {
		if l := &f.levels[i]; l.open() {
			return l.Level, l.long != (tally{}), true
		}
	}
	held, broken := f.bracket()
	if broken == nil {
		top := &f.levels[len(f.levels)-1]
		if up := f.up(top.Level); up > top.Level {
			return up, f.long, true
		}
		long, ok := f.again(top)
		return top.Level, long, ok
	}
	if mid, ok := f.between(held, broken); ok {
		return mid, f.long, true
	}
	if long, ok := f.again(broken); ok {
		return broken.Level, long, true
	}
	if held != nil {
		if long, ok := f.again(held); ok {
			return held.Level, long, true
		}
	}
	return 0, false, false
}

// up is the level after one that held; the same one when there is none.
func (f *Finder) up(level float64) float64 {
	next := level + f.search.Step
	if f.search.Factor > 1 {
		next = level * f.search.Factor
	}
	next = f.round(next)
	if f.search.Whole {
		next = max(next, level+1)
	}
	if f.search.To > 0 {
		next = max(level, min(next, f.search.To))
	}
	if math.IsInf(next, 0) {
		return level
	}
	return next
}

// between is a level between the two, if they are not near enough yet. Below a first level that broke the search goes
// down to a hundredth of it.
func (f *Finder) between(held, broken *Level) (float64, bool) {
	low := 0.0
	if held != nil {
		low = held.Level
	} else if broken.Level <= f.search.From/100 || f.search.Whole && broken.Level <= 1 {
		return 0, false
	}
	if broken.Level-low <= f.search.Precision*broken.Level {
		return 0, false
	}
	mid := f.round(low + (broken.Level-low)/2)
	return mid, mid > low && mid < broken.Level
}

// round makes a level whole, where they have to be.
func (f *Finder) round(level float64) float64 {
	if f.search.Whole {
		return max(1, math.Floor(level))
	}
	return level
}

// Result is what the search came to, or has come to so far.
func (f *Finder) Result() Breaking {
	r := Breaking{Trials: f.number, Early: f.early || !f.over}
	if f.asked != nil {
		r.Trials--
	}
	for _, l := range f.levels {
		l.Evidence = slices.Clone(l.Evidence)
		r.Levels = append(r.Levels, l)
	}
	held, broken := f.bracket()
	if held != nil {
		l := *held
		r.Highest, r.Confirmed = &l, l.long.passed > l.long.failed
	}
	if broken != nil {
		l := *broken
		r.Lowest = &l
	}
	return r
}

// String says it in a line. unit is what levels count: conns, or requests a second.
func (b Breaking) String() string { return b.Text("") }

// Text says it in a line. unit is what levels count, such as " conns" or "/s", and may be empty.
func (b Breaking) Text(unit string) string {
	var s string
	switch {
	case b.Highest == nil && b.Lowest == nil:
		return "nothing was measured"
	case b.Highest == nil:
		s = fmt.Sprintf("no level held: %g%s did not", b.Lowest.Level, unit)
	case b.Lowest == nil:
		s = fmt.Sprintf("%g%s held, and nothing higher was tried", b.Highest.Level, unit)
	default:
		s = fmt.Sprintf("%g%s held, %g%s did not", b.Highest.Level, unit, b.Lowest.Level, unit)
	}
	if b.Lowest != nil {
		if why := b.Lowest.Why(); why != "" {
			s += " (" + why + ")"
		}
	}
	if b.Early {
		s += "; the search ended early"
	}
	return s
}

// Why is what was measured when the level did not hold, from the last of its evidence that says so.
func (l *Level) Why() string {
	for _, e := range slices.Backward(l.Evidence) {
		for _, c := range e.Checks {
			if !e.Held && !c.Held {
				return c.Text
			}
		}
	}
	return ""
}
