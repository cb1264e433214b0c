package stress

import (
	"sync"
	"testing"
	"time"
)

// load is one scenario against a real gateway.
type load struct {
	name, target, plan string
	check              func(t *testing.T, r *Report)
}

// sound is the outcome of a run with one scenario, in which nothing went wrong.
func sound(t *testing.T, r *Report) Outcome {
	t.Helper()
	o := r.Scenarios[0]
	for why, n := range r.Errors {
		// A busy machine may have no time for the last that are due.
		if why != "exchange_unsent" || o.Model != OpenModel || n > o.Due/2 {
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

// exchanged checks that exchanges were made, all conns stood, and all of it was timed.
func exchanged(conns int64) func(t *testing.T, r *Report) {
	return func(t *testing.T, r *Report) {
		o := sound(t, r)
		if o.Conns.Opened != conns || o.Conns.Survived != conns || o.Conns.Peak != conns {
			t.Errorf("conns %+v, want %d", o.Conns, conns)
		}
		if o.Done < 2*conns || o.Latency == nil || o.Latency.Corrected.Max <= 0 || len(o.CorrectedMarks) < 3 || len(o.ServiceMarks) < 3 {
			t.Errorf("%d exchanges, latency %+v", o.Done, o.Latency)
		}
	}
}

// TestRunKinds has every kind of scenario run against a gateway.
func TestRunKinds(t *testing.T) {
	host := gateway(t, nil)
	loads := []load{
		{"http", "http://" + host + "/", "scenarios: [{kind: http, think: 5ms}]\nstages: [{kind: ramp, to: 10, for: 50ms}, {kind: soak, for: 400ms}]", func(t *testing.T, r *Report) {
			exchanged(10)(t, r)
			if o := sound(t, r); o.Reuse < 2 || o.Sent != o.Done {
				t.Errorf("reuse %g of %d conns", o.Reuse, o.Conns.Opened)
			}
		}},
		{"http post", "http://" + host + "/", "scenarios: [{kind: http, think: 10ms, method: POST, size: 100000, headers: {X-Load: 'yes'}}]\nstages: [{kind: ramp, to: 3, for: 0s}, {kind: soak, for: 400ms}]", exchanged(3)},
		{"http open", "http://" + host + "/", "scenarios: [http]\nstages: [{kind: ramp, to: 10, for: 50ms}, {kind: ramp, of: rate, to: 400, for: 100ms}, {kind: soak, for: 400ms}]", func(t *testing.T, r *Report) {
			exchanged(10)(t, r)
			if o := sound(t, r); o.Due < 175 || o.Due > 185 { // 400/s for 400 ms, and half of that for 100 ms
				t.Errorf("%d due, %d done; want 180", o.Due, o.Done)
			}
		}},
		{"http per request", "http://" + host + "/", "scenarios: [{kind: http, connections: per-request, think: 5ms}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak, for: 400ms}]", func(t *testing.T, r *Report) {
			o := sound(t, r)
			if o.Done < 10 || o.Conns.Opened != o.Done || o.Conns.Peak > 5 || o.Reuse != 1 || float64(o.Done) > 5*(r.Elapsed/0.005+1) {
				t.Errorf("%d requests on %+v, reuse %g", o.Done, o.Conns, o.Reuse)
			}
		}},
		{"http per request every", "http://" + host + "/", "scenarios: [{kind: http, connections: per-request, every: 50ms}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak, for: 400ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Done < 20 || float64(o.Done) > 5*(r.Elapsed/0.05+1) {
				t.Errorf("%d requests of 5 clients, every 50 ms for %g s", o.Done, r.Elapsed)
			}
		}},
		{"http per request open", "http://" + host + "/", "scenarios: [{kind: http, connections: per-request}]\nstages: [{kind: ramp, to: 20, for: 0s}, {kind: ramp, of: rate, to: 200, for: 0s}, {kind: soak, for: 500ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Due < 95 || o.Due > 101 || o.Conns.Opened != o.Done {
				t.Errorf("%d due, %d done on %+v; want 100", o.Due, o.Done, o.Conns)
			}
		}},
		{"hold", "ws://" + host + "/echo", "scenarios: [hold]\nstages: [{kind: ramp, to: 100, for: 100ms}, {kind: soak, for: 200ms}]", func(t *testing.T, r *Report) {
			o := sound(t, r)
			if o.Conns.Opened != 100 || o.Conns.Survived != 100 || o.Sent != 0 || o.Latency != nil || r.Connect == nil || r.Connect.Count != 100 {
				t.Errorf("%+v, connects %+v", o, r.Connect)
			}
		}},
		{"hold centrifuge", "ws://" + host + "/connection/websocket", "scenarios: [{kind: hold, protocol: centrifuge}]\nstages: [{kind: ramp, to: 20, for: 50ms}, {kind: soak, for: 200ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Conns.Survived != 20 {
				t.Errorf("%+v", o.Conns)
			}
		}},
		{"echo", "ws://" + host + "/echo", "scenarios: [{kind: echo, think: 5ms}]\nstages: [{kind: ramp, to: 10, for: 50ms}, {kind: soak, for: 300ms}]", exchanged(10)},
		{"echo 5", "ws://" + host + "/echo", "scenarios: [{kind: echo, size: 5, in-flight: 16, binary: true, think: 10ms}]\nstages: [{kind: ramp, to: 4, for: 0s}, {kind: soak, for: 300ms}]", exchanged(4)},
		{"echo 100k", "ws://" + host + "/echo", "scenarios: [{kind: echo, size: 100000, in-flight: 16, think: 50ms}]\nstages: [{kind: ramp, to: 2, for: 0s}, {kind: soak, for: 300ms}]", func(t *testing.T, r *Report) {
			exchanged(2)(t, r)
			if o := sound(t, r); o.BytesIn < o.Done*100_000 {
				t.Errorf("%d bytes in %d messages", o.BytesIn, o.Done)
			}
		}},
		{"echo every", "ws://" + host + "/echo", "scenarios: [{kind: echo, every: 100ms}]\nstages: [{kind: ramp, to: 20, for: 0s}, {kind: soak, for: 500ms}]", func(t *testing.T, r *Report) {
			// Each has its turn at its own part of the 100 ms, so that one more than whole ones may be due.
			if o := sound(t, r); o.Done < 60 || float64(o.Done) > 20*(r.Elapsed/0.1+1) {
				t.Errorf("%d exchanges of 20 conns, every 100 ms for %g s", o.Done, r.Elapsed)
			}
		}},
		{"echo think", "ws://" + host + "/echo", "scenarios: [{kind: echo, think: 50ms}]\nstages: [{kind: ramp, to: 20, for: 0s}, {kind: soak, for: 300ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Done < 40 || float64(o.Done) > 20*(r.Elapsed/0.05+1) {
				t.Errorf("%d exchanges of 20 conns, which think 50 ms, in %g s", o.Done, r.Elapsed)
			}
		}},
		{"echo open", "ws://" + host + "/echo", "scenarios: [{kind: echo, in-flight: 16, spacing: exponential}]\nstages: [{kind: ramp, to: 4, for: 0s}, {kind: ramp, of: rate, to: 1000, for: 0s}, {kind: soak, for: 400ms}]", func(t *testing.T, r *Report) {
			exchanged(4)(t, r)
			if o := sound(t, r); o.Due < 300 || o.Due > 500 {
				t.Errorf("%d due, want about 400", o.Due)
			}
		}},
		{"request plain", "ws://" + host + "/ws", "scenarios: [{kind: request, protocol: plain, in-flight: 4, think: 5ms}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak, for: 300ms}]", exchanged(5)},
		{"publish plain", "ws://" + host + "/ws", "scenarios: [{kind: publish, protocol: plain, channel: a, channels: 3, publishers: 3, size: 200, think: 10ms}]\nstages: [{kind: ramp, to: 12, for: 50ms}, {kind: soak, for: 400ms}]", published},
		{"publish centrifuge", "ws://" + host + "/connection/websocket", "scenarios: [{kind: publish, protocol: centrifuge, channels: 2, publishers: 4}]\nstages: [{kind: ramp, to: 12, for: 50ms}, {kind: ramp, of: rate, to: 100, for: 0s}, {kind: soak, for: 400ms}]", published},
		{"churn", "ws://" + host + "/echo", "scenarios: [{kind: churn, lifetime: 50ms}]\nstages: [{kind: ramp, to: 10, for: 0s}, {kind: soak, for: 600ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Conns.Opened < 30 || o.Conns.Peak > 20 {
				t.Errorf("%+v, want several for each of 10", o.Conns)
			}
		}},
		{"churn at once", "ws://" + host + "/echo", "scenarios: [churn]\nstages: [{kind: ramp, to: 4, for: 0s}, {kind: soak, for: 100ms}]", func(t *testing.T, r *Report) {
			if o := sound(t, r); o.Conns.Opened < 12 {
				t.Errorf("%+v, want several for each of 4", o.Conns)
			}
		}},
		{"storm", "ws://" + host + "/echo", "scenarios: [{kind: storm, share: 50%, every: 400ms}]\nstages: [{kind: ramp, to: 40, for: 0s}, {kind: soak, for: 1100ms}]", func(t *testing.T, r *Report) {
			o := sound(t, r)
			if len(o.Storm) != 2 || o.Conns.Opened != 80 {
				t.Fatalf("storms %+v, conns %+v; want two of 20 conns", o.Storm, o.Conns)
			}
			for _, s := range o.Storm {
				if s.Cut != 20 || s.Recovered == nil || *s.Recovered <= 0 || s.Failed != 0 {
					t.Errorf("%+v, want 20 that came back", s)
				}
			}
		}},
		{"mix", "http://" + host + "/", "protocol: plain\nscenarios:\n  - {kind: http, weight: 3, think: 5ms}\n  - {kind: echo, path: /echo, protocol: raw, think: 5ms}\n  - {kind: hold, path: /ws, weight: 6}\nstages: [{kind: ramp, to: 20, for: 50ms}, {kind: soak, for: 300ms}]", func(t *testing.T, r *Report) {
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
	var wg sync.WaitGroup // all at a time: they do little
	defer wg.Wait()
	for _, l := range loads {
		wg.Go(func() {
			t.Run(l.name, func(t *testing.T) {
				s := decode(t, l.target, l.plan)
				s.Timeout = 20 * time.Second // of a busy machine, too
				l.check(t, carryOut(t, s, Options{Every: 100 * time.Millisecond}))
			})
		})
	}
}

// published checks that each subscriber had each publication.
func published(t *testing.T, r *Report) {
	o := sound(t, r)
	if o.Done < 10 || o.Done != o.Sent || o.Delivered < o.Done || o.Missing != 0 || o.Conns.Survived != 12 {
		t.Errorf("%+v", o)
	}
	if o.Latency == nil || o.Latency.Corrected.Count != o.Delivered {
		t.Errorf("%d deliveries, timed %+v", o.Delivered, o.Latency)
	}
}
