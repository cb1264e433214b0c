package stress

import (
	"context"
	"time"
)

// riseFor is how long a search takes at most from one level of conns to a higher one, and no longer than it measures: the
// level is sought, not a burst.
const riseFor = time.Second

// find searches for the breaking point.
func (r *run) find(ctx context.Context) error {
	f := r.s.Find
	search, err := NewFinder(f.Search)
	if err != nil {
		return bad("", "find: %w", err)
	}
	r.report.Unit = "conns"
	if f.Of == OfRate {
		r.report.Unit = "exchanges a second"
	}
	// The conns that a rate is put on have the timeout to come.
	r.stage = "find"
	for end := r.now() + r.s.Timeout; f.Of == OfRate && r.now() < end && r.totals().open < r.level; {
		if err := r.until(ctx, r.now()+tick, func(time.Duration) { r.aim(r.level) }, func(time.Duration) {}); err != nil {
			break
		}
	}
	for {
		trial, ok := search.Next()
		if !ok {
			break
		}
		held, checks, err := r.trial(ctx, f, trial)
		if err != nil {
			search.Stop()
			b := search.Result()
			r.report.Breaking = &b
			return err
		}
		search.Report(held, checks)
	}
	b := search.Result()
	r.report.Breaking = &b
	r.report.Held = b.Highest != nil
	return nil
}

// trial measures one level.
func (r *run) trial(ctx context.Context, f *Find, t Trial) (held bool, checks []Check, err error) {
	nothing := func(time.Duration) {}
	if t.Rest {
		if f.Of == OfRate {
			r.setPace(0, Curve{})
			r.rate = 0
		} else {
			r.aim(0)
		}
		if err := r.until(ctx, r.now()+f.Rest, func(time.Duration) { r.aim(r.level) }, nothing); err != nil {
			return false, nil, err
		}
	}
	d := f.For
	if t.Hold {
		d = f.Hold
	}
	begin := r.beginStep()
	x := stretch{stage: "find", conns: float64(r.level), rate: t.Level}
	if f.Of == OfConns {
		x.conns, x.rate = t.Level, r.rate
		from, start := float64(r.level), r.now()
		rise := Ramp(from, t.Level, min(riseFor, f.For))
		if err := r.until(ctx, start+rise.End(), func(now time.Duration) { r.aim(int64(rise.At(now - start))) }, nothing); err != nil {
			return false, nil, err
		}
		// Those that are under way have the timeout.
		r.aim(int64(t.Level))
		deadline := r.now() + r.s.Timeout
		for r.now() < deadline && r.totals().open < int64(t.Level) {
			if err := r.until(ctx, r.now()+50*time.Millisecond, func(time.Duration) { r.aim(int64(t.Level)) }, nothing); err != nil {
				return false, nil, err
			}
			if n := r.totals(); n.errors()-begin.t.errors() > int64(t.Level)/10+10 {
				break // it is broken already
			}
		}
	} else {
		r.rate = t.Level
		r.setPace(r.now(), Constant(t.Level, d))
	}
	end := r.now() + d
	if err := r.until(ctx, end, func(time.Duration) { r.aim(r.level) }, nothing); err != nil {
		return false, nil, err
	}
	if f.Of == OfRate {
		r.charge(end)
		r.settle(false)
	}
	sum := r.endStep(ctx, begin, x)
	sum.Elapsed = d
	checks, held = r.s.Thresholds.Evaluate(&sum)
	if f.Of == OfConns && sum.Conns < int64(t.Level) && held {
		// A level that was not reached did not hold, whatever the thresholds say of the rest.
		held = false
		v := float64(sum.Conns)
		checks = append(checks, Check{Threshold: "conns", Value: &v, Text: "not all conns of the level stood"})
	}
	step := &r.report.Steps[len(r.report.Steps)-1]
	if step.Broken = !held; !held && step.Why == "" {
		step.Why = checks[len(checks)-1].Text
	}
	r.steps[len(r.steps)-1].Broken, r.steps[len(r.steps)-1].Why = step.Broken, step.Why
	return held, checks, nil
}
