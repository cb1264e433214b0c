package stress

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// drive runs a search against a server that is simulated by held.
func drive(t *testing.T, s Search, held func(Trial) (bool, []Check)) Breaking {
	t.Helper()
	f, err := NewFinder(s)
	if err != nil {
		t.Fatal(err)
	}
	bound := s.Trials
	if bound == 0 {
		bound = 120
	}
	for n := 1; ; n++ {
		trial, ok := f.Next()
		if !ok {
			break
		}
		if again, _ := f.Next(); again != trial {
			t.Fatalf("Next is %v and then %v, without a report", trial, again)
		}
		if trial.Number != n || n > bound {
			t.Fatalf("trial %d has number %d, bound %d", n, trial.Number, bound)
		}
		f.Report(held(trial))
		f.Report(false, nil) // that nobody asked for
	}
	return f.Result()
}

// simulated is a server with a limit, and a measurement of it with all the noise of a shared machine.
type simulated func(level, limit float64, hold bool, r *rand.Rand) *Summary

// The limits: each is the level from which on the server can't hold its thresholds.
var servers = []struct {
	name       string
	search     Search
	thresholds string
	limits     []float64
	measure    simulated
}{
	{
		// A queue: times grow without bound as the rate comes near to what it can serve. At the limit p99 is 50 ms.
		name: "rate", search: Search{From: 500, Step: 500}, thresholds: "p99<50ms,errors<0.1%",
		limits: []float64{4321, 12_000},
		measure: func(level, limit float64, hold bool, r *rand.Rand) *Summary {
			const base, bound = 2e6, 50e6
			capacity := limit / (1 - base/bound) // where base/(1-level/capacity) is bound at limit
			p99 := math.Inf(1)
			if level < capacity {
				p99 = base / (1 - level/capacity)
			}
			noise := 0.20
			if hold {
				noise = 0.07 // long measurements have less of it
			}
			p99 *= math.Exp(noise * r.NormFloat64())
			if !hold && r.Float64() < 0.08 {
				p99 += 200e6 // somebody else had the machine
			}
			return measured(math.Min(p99, 60e9), int64(level*10), 0)
		},
	},
	{
		// A table of conns: what is above it is refused. Now and then a connect fails for another reason, and the
		// table has a few places more or less than it should.
		name: "conns", search: Search{From: 1000, Step: 2000, Whole: true}, thresholds: "errors<0.1%",
		limits: []float64{9_500, 30_011},
		measure: func(level, limit float64, _ bool, r *rand.Rand) *Summary {
			places := limit * (1 + 0.004*r.NormFloat64())
			refused := max(0, level-places)
			if r.Float64() < 0.1 {
				refused += level * 0.002
			}
			return measured(1e6, int64(level), int64(refused))
		},
	},
	{
		// A backlog: conns that come at once find it, and what the accept loop takes meanwhile, full. The overflow is
		// seen in most measurements only, as a retransmitted SYN may still be in time.
		name: "backlog", search: Search{From: 64, Factor: 1.5, Whole: true}, thresholds: "connect-p99<500ms",
		limits: []float64{511, 4096},
		measure: func(level, limit float64, _ bool, r *rand.Rand) *Summary {
			room := limit * (1 + 0.01*r.NormFloat64())
			connect := 5e6
			if level > room && r.Float64() < 0.9 || r.Float64() < 0.05 {
				connect = 1e9 // the first retransmission of a SYN
			}
			s := measured(1e6, int64(level), 0)
			s.Connect = new(Distribution)
			s.Connect.Record(durationOf(connect))
			return s
		},
	},
}

func TestFind(t *testing.T) {
	for _, server := range servers {
		thresholds, err := ParseThresholds(server.thresholds)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range server.limits {
			t.Run(fmt.Sprintf("%s/%g", server.name, limit), func(t *testing.T) {
				found, trials := 0, 0
				const runs = 10
				for seed := range uint64(runs) {
					r := rand.New(rand.NewPCG(seed, uint64(limit)))
					b := drive(t, server.search, func(trial Trial) (bool, []Check) {
						checks, held := thresholds.Evaluate(server.measure(trial.Level, limit, trial.Hold, r))
						return held, checks
					})
					trials += b.Trials
					switch {
					case b.Highest == nil || b.Lowest == nil || !b.Confirmed || b.Early:
						t.Errorf("seed %d: %v (confirmed %v) after %d trials", seed, b, b.Confirmed, b.Trials)
					case math.Abs(b.Highest.Level-limit) > 0.05*limit || math.Abs(b.Lowest.Level-limit) > 0.05*limit:
						t.Errorf("seed %d: %v; want within 5 %% of %g", seed, b, limit)
					case b.Lowest.Why() == "" || b.Highest.Passed < 2 || b.Lowest.Failed < 2:
						t.Errorf("seed %d: no evidence: %+v, %+v", seed, b.Highest, b.Lowest)
					default:
						found++
					}
					t.Logf("seed %d: %v, %d trials", seed, b, b.Trials)
				}
				t.Logf("%d of %d within 5 %%, %d trials each", found, runs, trials/runs)
			})
		}
	}
}

// Without noise the search is as short as it can be, and exact.
func TestFindExact(t *testing.T) {
	server := func(limit float64) func(Trial) (bool, []Check) {
		return func(t Trial) (bool, []Check) { return t.Level <= limit, nil }
	}
	for _, c := range []struct {
		name           string
		search         Search
		limit          float64
		highest        float64 // at least
		lowest         float64 // at most; 0: none
		trials         int     // at most
		early, nothing bool
	}{
		{name: "between steps", search: Search{From: 100, Step: 100}, limit: 555, highest: 543, lowest: 567, trials: 20},
		{name: "on a step", search: Search{From: 100, Step: 100, Whole: true}, limit: 300, highest: 294, lowest: 306, trials: 20},
		{name: "one conn", search: Search{From: 1, Step: 1, Whole: true}, limit: 1, highest: 1, lowest: 2, trials: 8},
		{name: "exact counts", search: Search{From: 1, Factor: 2, Whole: true, Precision: 1e-9}, limit: 777, highest: 777, lowest: 778, trials: 40},
		{name: "doubling", search: Search{From: 1, Factor: 2}, limit: 1e6, highest: 0.98e6, lowest: 1.021e6, trials: 50},
		{name: "no limit", search: Search{From: 100, Step: 100, To: 950}, limit: math.Inf(1), highest: 950, trials: 14},
		{name: "no bound", search: Search{From: 100, Step: 100}, limit: math.Inf(1), highest: 12_000, trials: 120, early: true},
		{name: "below the first", search: Search{From: 100, Step: 100}, limit: 30, highest: 29, lowest: 31, trials: 25},
		{name: "few trials", search: Search{From: 100, Step: 100, Trials: 4}, limit: 250, highest: 200, lowest: 300, trials: 4, early: true},
		{name: "nothing holds", search: Search{From: 100, Step: 100}, limit: 0, lowest: 1, trials: 25, nothing: true},
		{name: "not one conn", search: Search{From: 10, Step: 10, Whole: true}, limit: 0, lowest: 1, trials: 25, nothing: true},
	} {
		b := drive(t, c.search, server(c.limit))
		if b.Trials > c.trials || b.Early != c.early || (b.Highest == nil) != c.nothing || (b.Lowest == nil) != (c.lowest == 0) {
			t.Errorf("%s: %v after %d trials, early %v; want at most %d trials", c.name, b, b.Trials, b.Early, c.trials)
			continue
		}
		if b.Highest != nil && (b.Highest.Level < c.highest || b.Highest.Level > c.limit || !b.Early && !b.Confirmed) {
			t.Errorf("%s: highest that held %g, confirmed %v; want %g to %g, confirmed", c.name, b.Highest.Level, b.Confirmed, c.highest, c.limit)
		}
		if b.Lowest != nil && (b.Lowest.Level > c.lowest || b.Lowest.Level <= c.limit) {
			t.Errorf("%s: lowest that broke %g, want above %g and at most %g", c.name, b.Lowest.Level, c.limit, c.lowest)
		}
	}
}

// A server that breaks only in long measurements is found out.
func TestFindLeak(t *testing.T) {
	b := drive(t, Search{From: 100, Step: 100}, func(t Trial) (bool, []Check) {
		return t.Level <= 1000 && (!t.Hold || t.Level <= 700), nil
	})
	if b.Highest == nil || !b.Confirmed || b.Highest.Level > 700 {
		t.Errorf("%v, confirmed %v; want a level up to 700, which holds for long", b, b.Confirmed)
	}
}

// A measurement after one that broke the server asks for rest.
func TestFindRest(t *testing.T) {
	broke, rests := false, 0
	drive(t, Search{From: 100, Step: 100}, func(trial Trial) (bool, []Check) {
		if trial.Rest != broke {
			t.Errorf("trial %d: rest %v, want %v", trial.Number, trial.Rest, broke)
		}
		if trial.Rest {
			rests++
		}
		broke = trial.Level > 250
		return !broke, nil
	})
	if rests == 0 {
		t.Error("no trial asked for rest")
	}
}

// Whatever comes back, the search ends, and says nothing that it has not seen.
func TestFindAnswers(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		odds := r.Float64()
		b := drive(t, Search{From: 10, Step: 7, To: 200, Whole: seed%2 == 0}, func(Trial) (bool, []Check) { return r.Float64() < odds, nil })
		n := 0
		for i, l := range b.Levels {
			n += l.Passed + l.Failed
			if len(l.Evidence) != l.Passed+l.Failed || i > 0 && l.Level <= b.Levels[i-1].Level || l.Level > 200 {
				t.Errorf("seed %d: level %+v", seed, l)
			}
		}
		if n != b.Trials || b.Highest != nil && b.Lowest != nil && b.Highest.Level >= b.Lowest.Level {
			t.Errorf("seed %d: %d measurements in %d trials: %v", seed, n, b.Trials, b)
		}
	}
}

func TestFindStop(t *testing.T) {
	f, err := NewFinder(Search{From: 10, Step: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Result(); got.String() != "nothing was measured" || !got.Early {
		t.Errorf("before the begin: %v", got)
	}
	f.Next()
	f.Report(true, nil)
	f.Next()
	f.Stop()
	if _, ok := f.Next(); ok {
		t.Error("Next asks for more after Stop")
	}
	if got, want := f.Result().Text("/s"), "10/s held, and nothing higher was tried; the search ended early"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSearchChecks(t *testing.T) {
	for _, s := range []Search{{}, {From: 1}, {From: -1, Step: 1}, {From: 1, Step: math.NaN()}, {From: math.Inf(1), Step: 1}, {From: 1, Factor: 1}, {From: 1, Step: 1, Precision: 1}, {From: 10, Step: 1, To: 5}, {From: 1, Step: 1, Trials: -1}} {
		if _, err := NewFinder(s); err == nil || !strings.HasPrefix(err.Error(), "search: ") {
			t.Errorf("NewFinder(%+v) = %v, want an error", s, err)
		}
	}
}

func TestBreakingJSON(t *testing.T) {
	thresholds, _ := ParseThresholds("p99<50ms")
	b := drive(t, Search{From: 100, Step: 100, To: 300, Precision: 0.5}, func(trial Trial) (bool, []Check) {
		checks, held := thresholds.Evaluate(measured(trial.Level*2e5, 10, 0))
		return held, checks
	})
	if got, want := b.Text(" conns"), "200 conns held, 300 conns did not (p99 is 60ms, not under 50ms)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	raw, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var back Breaking
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	if again, err := json.Marshal(back); err != nil || string(again) != string(raw) {
		t.Errorf("%s\nand read back\n%s: %v", raw, again, err)
	}
	for _, part := range []string{`"highest_held":{"level":200,"held":true`, `"lowest_broken":{"level":300,"held":false`, `"confirmed":true`, `"threshold":"p99\u003c50ms"`, `"value":60000`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("%s has no %s", raw, part)
		}
	}
}
