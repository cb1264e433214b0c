package stress

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// load is one scenario against a real gateway.
type load struct {
	name, target, plan string
	until              func(s Sample) bool // when there is enough of it; nil: the plan says when
	check              func(t *testing.T, r *Report)
}

// sound is the outcome of a run with one scenario, in which nothing went wrong.
func sound(t *testing.T, r *Report) Outcome {
	t.Helper()
	o := r.Scenarios[0]
	for why, n := range r.Errors {
		if why != "exchange_unsent" || o.Model != OpenModel { // a busy machine may have no time for the last that are due
			t.Errorf("%d times %s, want no error", n, why)
		}
	}
	if o.Due > 0 && o.Due != o.Done+r.Errors["exchange_unsent"] {
		t.Errorf("%d due, %d done, errors %v", o.Due, o.Done, r.Errors)
	}
	if c := o.Conns; c.Closed-(c.Attempted-c.Opened-c.Failed) != c.Opened-c.Lost {
		t.Errorf("%+v: something is left", c)
	}
	return o
}

// exchanged checks that exchanges were made on so many conns, and all of them timed.
func exchanged(conns int64) func(t *testing.T, r *Report) {
	return func(t *testing.T, r *Report) {
		o := sound(t, r)
		if o.Conns.Opened != conns || o.Conns.Survived != conns || o.Conns.Peak != conns {
			t.Errorf("conns %+v, want %d", o.Conns, conns)
		}
		if o.Done < 1 || o.Latency == nil || o.Latency.Corrected.Max <= 0 || len(o.CorrectedMarks) < 3 || len(o.ServiceMarks) < 3 {
			t.Errorf("%d exchanges, latency %+v", o.Done, o.Latency)
		}
	}
}

// done says that there were so many exchanges, and so many conns stand.
func done(exchanges, conns int64) func(Sample) bool {
	return func(s Sample) bool { return s.Done >= exchanges && s.Open == conns }
}

// published checks that each subscriber had each publication.
func published(t *testing.T, r *Report) {
	o := sound(t, r)
	if o.Done != o.Sent || o.Delivered < o.Done || o.Missing != 0 || o.Conns.Survived != 12 {
		t.Errorf("%+v", o)
	}
	if o.Latency == nil || o.Latency.Service.Count != o.Delivered || o.Latency.Corrected.Count != o.Delivered+r.Errors["exchange_unsent"] {
		t.Errorf("%d deliveries, timed %+v", o.Delivered, o.Latency)
	}
}

// TestRunKinds has every kind of scenario run against a gateway.
func TestRunKinds(t *testing.T) {
	host := gateway(t, nil)
	web, raw, plain, centrifuge := "http://"+host+"/", "ws://"+host+"/echo", "ws://"+host+"/ws", "ws://"+host+"/connection/websocket"
	const soak = "\nstages: [{kind: ramp, to: 10, for: 50ms}, {kind: soak}]"
	const rate = "\nstages: [{kind: ramp, to: 10, for: 50ms}, {kind: soak, for: 150ms}, {kind: ramp, of: rate, to: 200, for: 100ms}, {kind: soak, for: 400ms}, {kind: ramp, of: rate, to: 0, for: 100ms}]"
	opened := func(n int64) func(Sample) bool { return func(s Sample) bool { return s.Opened >= n } }
	paced := func(t *testing.T, r *Report) { // 200/s for 400 ms, and half of that for 200 ms
		if o := sound(t, r); o.Due < 99 || o.Due > 101 || o.Done < 1 {
			t.Errorf("%d due, %d done; want 100", o.Due, o.Done)
		}
	}
	loads := []load{
		{"http", web, "scenarios: [{kind: http, think: 5ms}]" + soak, done(50, 10), func(t *testing.T, r *Report) {
			exchanged(10)(t, r)
			if o := sound(t, r); o.Reuse < 2 || o.Sent != o.Done {
				t.Errorf("reuse %g of %d conns", o.Reuse, o.Conns.Opened)
			}
		}},
		{"http post", web, "scenarios: [{kind: http, think: 10ms, method: POST, size: 100000, headers: {X-Load: 'yes'}}]" + soak, done(20, 10), exchanged(10)},
		{"http head", web, "scenarios: [{kind: http, think: 10ms, method: HEAD}]" + soak, done(20, 10), exchanged(10)},
		{"http open", web, "scenarios: [http]" + rate, nil, paced},
		{"http per request", web, "scenarios: [{kind: http, connections: per-request, think: 5ms}]" + soak, func(s Sample) bool { return s.Done >= 30 }, func(t *testing.T, r *Report) {
			o := sound(t, r)
			if o.Conns.Opened != o.Done || o.Conns.Peak > 10 || o.Reuse != 1 || float64(o.Done) > 10*(r.Elapsed/0.005+1) {
				t.Errorf("%d requests on %+v, reuse %g", o.Done, o.Conns, o.Reuse)
			}
		}},
		{"http per request every", web, "scenarios: [{kind: http, connections: per-request, every: 50ms}]" + soak, func(s Sample) bool { return s.Done >= 30 }, func(t *testing.T, r *Report) {
			if o := sound(t, r); float64(o.Done) > 10*(r.Elapsed/0.05+1) {
				t.Errorf("%d requests of 10 clients, every 50 ms for %g s", o.Done, r.Elapsed)
			}
		}},
		{"http per request open", web, "scenarios: [{kind: http, connections: per-request}]" + rate, nil, func(t *testing.T, r *Report) {
			paced(t, r)
			if o := sound(t, r); o.Conns.Opened != o.Done {
				t.Errorf("%d requests on %+v", o.Done, o.Conns)
			}
		}},
		{"hold", raw, "scenarios: [hold]\nstages: [{kind: ramp, to: 100, for: 100ms}, {kind: soak}]", done(0, 100), func(t *testing.T, r *Report) {
			o := sound(t, r)
			if o.Conns.Opened != 100 || o.Conns.Survived != 100 || o.Sent != 0 || o.Latency != nil || r.Connect == nil || r.Connect.Count != 100 {
				t.Errorf("%+v, connects %+v", o, r.Connect)
			}
		}},
		{"hold centrifuge", centrifuge, "scenarios: [{kind: hold, protocol: centrifuge}]" + soak, done(0, 10), func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Conns.Survived != 10 {
				t.Errorf("%+v", o.Conns)
			}
		}},
		{"echo", raw, "scenarios: [{kind: echo, think: 5ms}]" + soak, done(50, 10), exchanged(10)},
		{"echo 5", raw, "scenarios: [{kind: echo, size: 5, in-flight: 16, binary: true, think: 10ms}]" + soak, done(400, 10), exchanged(10)},
		{"echo 100k", raw, "scenarios: [{kind: echo, size: 100000, in-flight: 4, think: 50ms}]\nstages: [{kind: ramp, to: 2, for: 0s}, {kind: soak}]", done(20, 2), func(t *testing.T, r *Report) {
			exchanged(2)(t, r)
			if o := sound(t, r); o.BytesIn < o.Done*100_000 {
				t.Errorf("%d bytes in %d messages", o.BytesIn, o.Done)
			}
		}},
		{"echo every", raw, "scenarios: [{kind: echo, every: 100ms}]" + soak, done(50, 10), func(t *testing.T, r *Report) {
			// Each has its turn at its own part of the 100 ms, so that one more than whole ones may be due.
			if o := sound(t, r); float64(o.Done) > 10*(r.Elapsed/0.1+1) {
				t.Errorf("%d exchanges of 10 conns, every 100 ms for %g s", o.Done, r.Elapsed)
			}
		}},
		{"echo think", raw, "scenarios: [{kind: echo, think: 50ms}]" + soak, done(50, 10), func(t *testing.T, r *Report) {
			if o := sound(t, r); float64(o.Done) > 10*(r.Elapsed/0.05+1) {
				t.Errorf("%d exchanges of 10 conns, which think 50 ms, in %g s", o.Done, r.Elapsed)
			}
		}},
		{"echo open", raw, "scenarios: [{kind: echo, in-flight: 16, spacing: exponential}]" + rate, nil, func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Due < 60 || o.Due > 140 || o.Done < 1 { // four deviations of a Poisson process
				t.Errorf("%d due, want about 100", o.Due)
			}
		}},
		{"request plain", plain, "scenarios: [{kind: request, protocol: plain, in-flight: 4, think: 5ms}]" + soak, done(100, 10), exchanged(10)},
		{"publish plain", plain, "scenarios: [{kind: publish, protocol: plain, channel: a, channels: 3, publishers: 3, size: 200, think: 10ms}]\nstages: [{kind: ramp, to: 12, for: 50ms}, {kind: soak}]", done(20, 12), published},
		{"publish centrifuge", centrifuge, "scenarios: [{kind: publish, protocol: centrifuge, channels: 2, publishers: 4}]\nstages: [{kind: ramp, to: 12, for: 50ms}, {kind: ramp, of: rate, to: 50, for: 0s}, {kind: soak}]", done(20, 12), published},
		{"churn", raw, "scenarios: [{kind: churn, lifetime: 50ms}]" + soak, opened(30), func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Conns.Peak > 20 {
				t.Errorf("%+v, want 10 at a time, and those that close", o.Conns)
			}
		}},
		{"churn at once", raw, "scenarios: [churn]\nstages: [{kind: ramp, to: 2, for: 0s}, {kind: soak}]", opened(12), func(t *testing.T, r *Report) { sound(t, r) }},
		{"storm", raw, "scenarios: [{kind: storm, share: 50%, every: 1s}]\nstages: [{kind: ramp, to: 40, for: 0s}, {kind: soak}]", opened(100), func(t *testing.T, r *Report) {
			o := sound(t, r)
			recovered, cut := 0, int64(0)
			for _, s := range o.Storm {
				if cut += s.Cut; s.Recovered != nil && *s.Recovered > 0 && s.Failed == 0 && s.Cut == 20 {
					recovered++
				}
			}
			if recovered < 1 || cut < o.Conns.Opened-40 {
				t.Errorf("storms %+v, conns %+v; want some of 20 conns that come back", o.Storm, o.Conns)
			}
		}},
		{"mix", web, "protocol: plain\nscenarios:\n  - {kind: http, weight: 3, think: 5ms}\n  - {kind: echo, path: /echo, protocol: raw, think: 5ms}\n  - {kind: hold, path: /ws, weight: 6}\nstages: [{kind: ramp, to: 20, for: 50ms}, {kind: soak}]", done(200, 20), func(t *testing.T, r *Report) {
			if len(r.Errors) > 0 {
				t.Errorf("errors %v", r.Errors)
			}
			for i, want := range []int64{6, 2, 12} {
				if o := r.Scenarios[i]; o.Conns.Wanted != want || o.Conns.Peak != want || (o.Done > 0) != (i < 2) {
					t.Errorf("%s: %+v, %d exchanges; want %d conns", o.Name, o.Conns, o.Done, want)
				}
			}
		}},
	}
	together(t, loads)
}

// together has runs made a few at a time: they wait more than they do.
func together(t *testing.T, loads []load) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, 6)
	for _, l := range loads {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			t.Run(l.name, l.run)
		})
	}
}

func (l *load) run(t *testing.T) {
	s := decode(t, l.target, l.plan)
	if s.Timeout == 10*time.Second { // it is not what is looked at
		s.Timeout = patience / 2
	}
	o := Options{Every: 50 * time.Millisecond}
	if l.until == nil {
		l.check(t, carryOut(t, s, o))
		return
	}
	l.check(t, carryOutUntil(t, s, o, l.until))
}

var errEnough = errors.New("that is enough")

// carryOutUntil interrupts a run when a sample has what is waited for.
func carryOutUntil(t testing.TB, s Script, o Options, enough func(Sample) bool) *Report {
	t.Helper()
	late, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx, stop := context.WithCancelCause(late)
	defer stop(nil)
	o.Progress = func(s Sample) {
		if enough(s) {
			stop(errEnough)
		}
	}
	r, err := Run(ctx, s, o)
	if err != nil {
		t.Fatal(err)
	}
	if coherent(t, r); context.Cause(ctx) != errEnough {
		t.Errorf("in %v there was not enough: %+v", patience, r.Samples[len(r.Samples)-1])
	}
	if !r.Interrupted {
		t.Error("the report does not say that the run was interrupted")
	}
	return r
}

// TestQuiet has conns that only stand be no reason to break a step or a level: nothing is begun in those that follow the first,
// and no error is known of that.
func TestQuiet(t *testing.T) {
	host := gateway(t, nil)
	s := decode(t, "ws://"+host+"/echo", "timeout: 20s\nscenarios: [hold]\nthresholds: errors<1%\nfind: {of: conns, from: 10, step: 10, to: 20, for: 20ms, hold: 40ms, rest: 10ms}")
	r := carryOut(t, s, Options{})
	if b := r.Breaking; b == nil || b.Early || !b.Confirmed || b.Lowest != nil || b.Highest == nil || b.Highest.Level != 20 || b.Highest.Failed > 0 || r.Unit != "conns" {
		t.Errorf("the search came to %+v %s", r.Breaking, r.Unit)
	}
	s = decode(t, "ws://"+host+"/echo", "timeout: 20s\nscenarios: [{kind: echo, think: 1h}]\nthresholds: errors<1%,p99<1h\nstages: [{kind: ramp, to: 5, for: 200ms}, {kind: soak, for: 100ms}, {kind: soak, for: 100ms}]")
	r = carryOut(t, s, Options{})
	for i, x := range r.Steps {
		if x.Broken || len(r.Steps) != 3 {
			t.Errorf("step %d of %d: %+v", i, len(r.Steps), x)
		}
	}
	// The whole run is another matter: what was not measured did not hold.
	s = decode(t, "ws://"+host+"/echo", "timeout: 20s\nscenarios: [hold]\nthresholds: p99<1h\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak, for: 50ms}]")
	if r = carryOut(t, s, Options{}); r.Held || len(r.Checks) != 1 || r.Checks[0].Value != nil {
		t.Errorf("held %v: %+v", r.Held, r.Checks)
	}
}

// TestStages has conns and rates go where stages of every kind take them, and steps be written down in order.
func TestStages(t *testing.T) {
	host := gateway(t, nil)
	s := decode(t, "ws://"+host+"/echo", `
timeout: 20s
scenarios: [echo]
stages:
  - {kind: ramp, to: 10, for: 200ms}
  - {kind: step, to: 30, by: 10, every: 200ms}
  - {kind: ramp, of: rate, to: 100, for: 200ms}
  - {kind: spike, of: rate, to: 300, for: 200ms}
  - {kind: spike, to: 60, for: 400ms}
  - {kind: soak, for: 400ms}
  - {kind: ramp, of: rate, to: 0, for: 100ms}
  - {kind: ramp, to: 5, for: 200ms}
`)
	r := carryOut(t, s, Options{Every: 50 * time.Millisecond})
	want := []Step{
		{Stage: "ramp", Conns: 10}, {Stage: "step", Conns: 20}, {Stage: "step", Conns: 30}, {Stage: "ramp", Conns: 30, Rate: 100}, {Stage: "spike", Conns: 30, Rate: 300},
		{Stage: "spike", Conns: 60, Rate: 100}, {Stage: "soak", Conns: 30, Rate: 100}, {Stage: "ramp", Conns: 30}, {Stage: "ramp", Conns: 5},
	}
	if len(r.Steps) != len(want) {
		t.Fatalf("%d steps, want %d: %+v", len(r.Steps), len(want), r.Steps)
	}
	for i, w := range want {
		if g := r.Steps[i]; g.Stage != w.Stage || g.Conns != w.Conns || g.Rate > w.Rate+1 || g.Rate < w.Rate-1 {
			t.Errorf("step %d is %s to %d conns at %g/s, want %s to %d at %g/s", i, g.Stage, g.Conns, g.Rate, w.Stage, w.Conns, w.Rate)
		}
	}
	o := r.Scenarios[0]
	if o.Conns.Wanted != 60 || o.Conns.Peak > 60 || o.Conns.Peak < 30 || o.Due < 153 || o.Due > 157 || r.Errors["exchange_unsent"]+o.Done != o.Due {
		t.Errorf("%+v, errors %v; want 155 due", o, r.Errors) // 10 + 60 + 40 + 40 + 5
	}
}
