package stress

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/avalanche"
)

// stretch is a part of the run at one level, or on the way to it.
type stretch struct {
	stage       string
	begin, end  time.Duration
	conns, rate float64 // at its end
}

// stretches are the stages, those of steps step by step, as far as the run goes.
func (s *Script) stretches() (list []stretch) {
	conns, rate := s.Curves()
	at := time.Duration(0)
	add := func(kind StageKind, d time.Duration) {
		end := min(conns.End(), at+min(d, Forever-at))
		if end <= at {
			return
		}
		// Just before the end: there, the next stage may jump.
		list = append(list, stretch{string(kind), at, end, math.Round(conns.At(end - 1)), rate.At(end - 1)})
		at = end
	}
	var level [2]float64
	for _, g := range s.Stages {
		of := 0
		if g.Of == OfRate {
			of = 1
		}
		switch g.Kind {
		case StepStage:
			for n := int(math.Ceil(math.Abs(g.To-level[of])/g.By - 1e-9)); n > 0; n-- {
				add(g.Kind, g.Every)
			}
			if level[of] == g.To {
				add(g.Kind, g.Every)
			}
		case SoakStage:
			add(g.Kind, fallback(g.For, Forever))
		default:
			add(g.Kind, g.For)
		}
		if g.Kind != SpikeStage && g.Kind != SoakStage {
			level[of] = g.To
		}
	}
	if at < conns.End() {
		add(SoakStage, conns.End()-at)
	}
	return list
}

// lines says what the script asks for, a line each.
func (s *Script) lines() (list []string) {
	for i := range s.Scenarios {
		c := &s.Scenarios[i]
		line := fmt.Sprintf("scenario %s: %s", c.Name, c.Kind)
		if c.Protocol != "" {
			line += ", " + string(c.Protocol)
		}
		if len(s.Scenarios) > 1 {
			line += fmt.Sprintf(", weight %d", c.Weight)
		}
		switch c.Kind {
		case HTTPKind:
			line += ", " + c.Method
			if c.PerRequest {
				line += ", a conn for each request"
			}
		case PublishKind:
			line += fmt.Sprintf(", %d channels from %s, %d publishers", c.Channels, c.channel(0), c.Publishers)
		case ChurnKind:
			line += fmt.Sprintf(", each lives %v", c.Lifetime)
		case StormKind:
			line += fmt.Sprintf(", %g %% every %v", c.Share*100, c.Every)
		case SlowKind:
			line += fmt.Sprintf(", %d bytes a second", c.ReadRate)
		case HalfOpenKind:
			line += fmt.Sprintf(", silent after %v", c.After)
		}
		if c.Model != "" {
			line += fmt.Sprintf(", %s model", c.Model)
			switch {
			case c.Every > 0:
				line += fmt.Sprintf(", every %v", c.Every)
			case c.Think > 0:
				line += fmt.Sprintf(", thinks %v", c.Think)
			}
		}
		if c.exchanges() && c.Kind != HTTPKind {
			line += fmt.Sprintf(", %d bytes", c.Size)
		}
		if c.InFlight > 1 {
			line += fmt.Sprintf(", %d in flight", c.InFlight)
		}
		list = append(list, line)
	}
	for _, g := range s.Stages {
		unit := "conns"
		if g.Of == OfRate {
			unit = "exchanges a second"
		}
		switch g.Kind {
		case RampStage:
			list = append(list, fmt.Sprintf("ramp to %s %s in %v", plain(g.To), unit, g.For))
		case StepStage:
			list = append(list, fmt.Sprintf("steps of %s to %s %s, one every %v", plain(g.By), plain(g.To), unit, g.Every))
		case SpikeStage:
			list = append(list, fmt.Sprintf("spike to %s %s for %v", plain(g.To), unit, g.For))
		case SoakStage:
			if g.For > 0 {
				list = append(list, fmt.Sprintf("soak for %v", g.For))
			} else {
				list = append(list, "soak until the end")
			}
		}
	}
	if s.Duration > 0 {
		list = append(list, fmt.Sprintf("ends after %v", s.Duration))
	}
	if len(s.Thresholds) > 0 {
		list = append(list, "thresholds "+s.Thresholds.String())
	}
	if f := s.Find; f != nil {
		list = append(list, fmt.Sprintf("find the breaking point of %s from %s to %s", f.Of, plain(f.From), plain(f.To)))
	}
	return list
}

// plain is a number without an exponent: a million conns are 1000000.
func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// stepBegin is what was when a step began.
type stepBegin struct {
	at       time.Duration
	t        totals
	measured gathered
}

func (r *run) beginStep() *stepBegin {
	b := &stepBegin{at: r.now(), t: r.totals(), measured: newGathered(len(r.scenes))}
	r.stretch = b
	return b
}

// endStep writes down what came of a step that ends now.
func (r *run) endStep(ctx context.Context, b *stepBegin, x stretch) Summary {
	r.sample(ctx, x.stage) // the last look at it
	t := r.totals()
	now := r.now()
	sum := b.measured.summary(b.t, t, now-b.at, int64(x.conns))
	step := Step{
		Stage: x.stage, Begin: seconds(b.at), End: seconds(now), Conns: int64(x.conns), Rate: x.rate, Open: t.open, Errors: sum.Errors,
		Latency: quantile(sum.Corrected), Connect: quantile(sum.Connect),
	}
	if d := (now - b.at).Seconds(); d > 0 {
		step.Done = float64(t.done-b.t.done) / d
	}
	step.Broken, step.Why = broken(r.s.Thresholds, &sum, t.sent == b.t.sent && !r.underWay())
	r.report.Steps = append(r.report.Steps, step)
	r.steps = append(r.steps, avalanche.Step{Begin: b.at, End: now, Conns: step.Conns, Rate: x.rate, Broken: step.Broken, Why: step.Why, Timeout: r.s.Timeout})
	return sum
}

// summary is what thresholds are held against: what was gathered while the totals went from one to the other, with so many conns wanted.
func (g *gathered) summary(from, to totals, elapsed time.Duration, wanted int64) Summary {
	all := g.all()
	attempts := to.attempted - from.attempted + to.sent - from.sent
	// What was under way when it began may have failed in it.
	attempts += from.pending + max(0, from.sent-from.done-from.exchangesFailed)
	if to.sent == from.sent { // conns are all there is to it: each that stood may have been lost
		attempts += from.open
	}
	return Summary{
		Corrected: &all.Corrected, Service: &all.Service, Connect: &g.connect,
		Attempts: attempts, Errors: to.errors() - from.errors(),
		Done: to.done - from.done, Elapsed: elapsed, Conns: to.open, Wanted: wanted, Lost: to.lost - from.lost,
	}
}

// ordinary are the thresholds of which a step is called broken where the script has none.
var ordinary = Thresholds{{Figure: "errors", Op: "<", Value: 1, Percent: true}}

// broken tells whether a step did not hold, and why. quiet is a step in which nothing was sent: it has no times to be held
// against, and does not break for that.
func broken(t Thresholds, s *Summary, quiet bool) (bool, string) {
	if len(t) == 0 {
		if t = ordinary; s.Attempts == 0 && s.Errors == 0 {
			return false, ""
		}
	}
	checks, held := t.Evaluate(s)
	if held {
		return false, ""
	}
	for _, c := range checks {
		// What a step does not measure, such as latencies before the first exchange is due, does not break it.
		if !c.Held && c.Value != nil {
			return true, c.Text
		}
	}
	return false, ""
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e6 }

// quantile is a distribution in few figures; nil when it is empty.
func quantile(d *Distribution) *Quantile {
	if d == nil || d.Count() == 0 {
		return nil
	}
	at := func(p float64) float64 { return micros(d.Percentile(p)) }
	return &Quantile{Count: d.Count(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: micros(d.Max())}
}
