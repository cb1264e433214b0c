package longwire_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/checker"
)

// What make checker sets.
var (
	checkerFor     = flag.Duration("checker.for", 0, "how long TestCheckerFor runs; zero: it does not")
	checkerClients = flag.Int("checker.clients", 5000, "clients of TestCheckerFor")
	checkerSeed    = flag.Uint64("checker.seed", 0, "seed of the checker's runs; zero: a new one each time")
)

// seed is what everything random in a run comes from.
func seed() uint64 {
	if *checkerSeed != 0 {
		return *checkerSeed
	}
	return uint64(time.Now().UnixNano())
}

// runChecker makes a run and fails for what is wrong.
func runChecker(t *testing.T, o checker.Options) *checker.Report {
	t.Helper()
	o.Seed, o.RestartEvery, o.CrowdEvery, o.DrainEvery = seed(), 800, 500, 1000
	t.Logf("-checker.seed=%d", o.Seed)
	r, err := checker.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	if r.Total > 0 {
		t.Errorf("%d violations", r.Total)
	}
	return r
}

// Whatever happens to clients, connections and the engine, what a subscriber gets has no gap, no duplicate and no reorder
// that it is not told of.
func TestChecker(t *testing.T) {
	for _, c := range []struct {
		name string
		o    checker.Options
	}{
		{"shared tables", checker.Options{Tables: longwire.TablesShared, Clients: 400, Publications: 2000}},
		{"private tables", checker.Options{Tables: longwire.TablesPrivate, Clients: 300, Publications: 1400}},
		{"an engine that lags", checker.Options{Clients: 300, Publications: 1400, Faults: checker.Faults{Lag: true}}},
		{"an engine that loses", checker.Options{Clients: 300, Publications: 1400, Faults: checker.Faults{Lose: 0.02}}},
		{"an engine that lags and loses", checker.Options{Clients: 300, Publications: 1400, Faults: checker.Faults{Lag: true, Lose: 0.02}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runChecker(t, c.o)
			for what, n := range map[string]int64{"cuts": r.Cuts, "stalls": r.Stalls, "recoveries": r.Recovered, "recoveries that failed": r.Unrecovered,
				"gaps that were told": r.Insufficient, "subscriptions by the server": r.Served, "crowds": r.Crowds, "drains": r.Drains,
				"publications dropped by policy": int64(r.Dropped), "deltas": r.Deltas, "publications of clients": r.ByClients, "restarts": r.Restarts} {
				if n == 0 {
					t.Errorf("there were no %s: the run shows nothing about them", what)
				}
			}
			if c.o.Faults.Lose > 0 && r.Lost == 0 {
				t.Error("no delivery was lost")
			}
		})
	}
}

// The same for as long as one likes, with many more clients: make checker.
func TestCheckerFor(t *testing.T) {
	if *checkerFor == 0 {
		t.Skip("without -checker.for")
	}
	each := *checkerFor / 3
	for _, f := range []checker.Faults{{}, {Lag: true}, {Lag: true, Lose: 0.01}} {
		runChecker(t, checker.Options{Clients: *checkerClients, Channels: 256, Faults: f, For: each, Patience: 10 * time.Minute})
	}
}
