package stress

import (
	"context"
	"fmt"
	"time"

	"github.com/longwire/longwire/internal/avalanche"
)

// complete fills in the report when the load is over. end is when it ended.
func (r *run) complete(ctx context.Context, end time.Duration) {
	for _, s := range r.scenes {
		if s.unsent > 0 {
			r.note("scenario %s: %d exchanges were due and could not be sent: no conn was free for them. Their time until the end is in the corrected percentiles", s.Name, s.unsent)
		}
	}
	r.sample(ctx, "end")
	t := r.totals()
	p := r.report
	p.Elapsed = seconds(end)
	p.Errors = r.errors()
	p.Conns.Attempted, p.Conns.Opened, p.Conns.Failed, p.Conns.Lost, p.Conns.Survived, p.Conns.Peak = t.attempted, t.opened, t.failed, t.lost, t.open, r.peak
	if r.openedAt > 0 {
		p.Conns.Rate = float64(t.opened) / r.openedAt.Seconds()
	}
	if r.whole.connect.Count() > 0 {
		whole, tcp := r.whole.connect.Percentiles(), r.whole.tcp.Percentiles()
		p.Connect, p.TCP = &whole, &tcp
	}
	for i, s := range r.scenes {
		p.Scenarios = append(p.Scenarios, r.outcome(i, s, end))
		p.Generator.Late += s.late.Load()
		p.Generator.SourceAddrs = max(p.Generator.SourceAddrs, s.fleet.Sources())
	}
	p.Generator.CPU = (processCPU() - r.cpu).Seconds()
	if r.peak > 0 {
		p.Generator.PerConn = float64(max(0, p.Generator.Resident-r.resident)) / float64(r.peak)
	}
	if t.opened > 0 && t.sent == 0 && r.openCPU > 0 { // else it is the exchanges' as well
		p.Generator.CPUPerConn = r.openCPU * 1e6 / float64(t.opened)
	}
	if len(r.s.Thresholds) > 0 && r.s.Find == nil {
		sum := r.whole.summary(totals{}, t, end, r.level)
		p.Checks, p.Held = r.s.Thresholds.Evaluate(&sum)
	}
	r.explain()
	for _, what := range r.sampler.Missing() {
		r.note("not seen: %s", what)
	}
	if last := len(r.seen) - 1; last >= 0 && r.seen[last].Kernel.Clients {
		r.note("the kernel's counters are those of this side: nobody listens on the target's port here")
	}
	if late := p.Generator.Late; late > 0 && t.sent > 0 && float64(late) > 0.001*float64(t.sent) {
		r.note("this side was late: %d of %d exchanges were sent more than %v after they were due though a conn was free. It needs more CPU, or the rate is beyond it", late, t.sent, lateAfter)
	}
}

func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

// outcome is what came of a scene.
func (r *run) outcome(i int, s *scene, end time.Duration) Outcome {
	t := s.totals()
	o := Outcome{
		Name: s.Name, Kind: s.Kind, Protocol: s.Protocol, Model: s.Model, Errors: s.errorsByKind(), Sent: t.sent - s.unsent, Done: t.done,
		Failed: t.exchangesFailed, BytesIn: t.bytesIn, Delivered: t.delivered,
	}
	o.Conns = Conns{Wanted: r.share(r.report.Conns.Wanted, i), Attempted: t.attempted, Opened: t.opened, Failed: t.failed, Lost: t.lost, Survived: t.open, Peak: s.peak}
	if s.Model == OpenModel {
		o.Due = t.sent
	}
	if end > 0 {
		o.Rate = float64(t.done) / end.Seconds()
	}
	samples := &r.whole.scenes[i]
	if samples.Corrected.Count() > 0 {
		l := samples.Latencies()
		o.Latency, o.CorrectedMarks, o.ServiceMarks = &l, samples.Corrected.Marks(), samples.Service.Marks()
	}
	o.Missing = max(0, s.expected.Load()-s.delivered.Load())
	if s.Kind == HTTPKind && t.opened > 0 {
		o.Reuse = float64(t.done) / float64(t.opened)
	}
	for _, w := range r.storms {
		if w.scene != s {
			continue
		}
		if o.Storm = w.all; w.under != nil {
			o.Storm = append(o.Storm, *w.under)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detection.Count() > 0 {
		d := s.detection.Percentiles()
		o.Detection = &d
	}
	return o
}

// explain says what the samples show of the first step that broke.
func (r *run) explain() {
	x := avalanche.Explain(r.steps, r.seen)
	if x.Step < 0 {
		return
	}
	a := &Avalanche{Step: x.Step, FirstCause: x.FirstCause, Text: x.FirstCause.String(), Confidence: x.Confidence, Why: x.Why, Lift: x.Lift, Chain: []Link{}}
	for _, l := range x.Chain {
		a.Chain = append(a.Chain, Link{At: seconds(l.When), What: l.What, Figure: l.Figure})
	}
	r.report.Avalanche = a
}
