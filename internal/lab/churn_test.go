package lab

import (
	"testing"
	"time"
)

// TestChurnVerdict plants figures on both sides of the limit.
func TestChurnVerdict(t *testing.T) {
	gateway := func(kept uint64) *churned {
		return &churned{opened: 1000, before: Sample{Heap: 1 << 20}, after: Sample{Heap: 1<<20 + 1000*kept}}
	}
	for _, c := range []struct {
		naive, mended uint64
		want          Verdict
	}{
		{10_000, 20, Holds},
		{leaks, leaks - 1, Holds},
		{10_000, leaks, HoldsInPart},
		{leaks - 1, 0, DoesNotHold},
	} {
		if got, says := judgeChurn([]*churned{gateway(c.naive), gateway(c.mended), gateway(0)}); got != c.want {
			t.Errorf("%d and %d bytes kept: %v, want %v: %s", c.naive, c.mended, got, c.want, says)
		}
	}
}

// TestChurn runs the experiment small: even so the map keeps what it is given.
func TestChurn(t *testing.T) {
	t.Parallel()
	wants(t, tiny(t, "churn", 20), map[string]Verdict{"rss-climbs": Holds})
}

// TestMillionVerdicts plants figures on both sides of each limit.
func TestMillionVerdicts(t *testing.T) {
	type gateway struct {
		each    float64 // bytes of a connection
		pause   time.Duration
		alive   int64
		minutes float64
		gcs     uint32
		swing   float64
	}
	make3 := func(list [3]gateway) (all []*soaked) {
		for i, g := range list {
			s := &soaked{kind: []string{naiveGateway, mendedGateway, kindLongwire}[i], conns: 10_000, alive: g.alive, peak: uint64(10_000 * g.each),
				began: Sample{Collections: 5}, last: Sample{Collections: 5 + g.gcs, At: time.Duration(g.minutes * float64(time.Minute))}}
			s.last.Pauses = g.pause * time.Duration(s.last.Collections)
			s.forced = []float64{100, g.pause.Seconds() * 1e3, 0}
			if i == 2 {
				s.forced[1] = 0.02
			}
			for k := range 100 {
				s.resident = append(s.resident, Point{float64(k), 1000 * (1 + g.swing*float64(k%2))})
			}
			all = append(all, s)
		}
		return all
	}
	usual := [3]gateway{{17_000, 100 * time.Microsecond, 10_000, 5, 5, 0}, {8000, 100 * time.Microsecond, 10_000, 5, 5, 0}, {100, 100 * time.Microsecond, 10_000, 5, 0, 0}}
	but := func(i int, change func(*gateway)) []*soaked {
		list := usual
		change(&list[i])
		return make3(list)
	}
	both := func(change func(naive, mended *gateway)) []*soaked {
		list := usual
		change(&list[0], &list[1])
		return make3(list)
	}
	for i, c := range []struct {
		id   string
		all  []*soaked
		want Verdict
	}{
		{"rss-peak", make3(usual), HoldsInPart},
		{"rss-peak", both(func(n, m *gateway) { n.each, m.each = 9700, 2300 }), Holds},
		{"rss-peak", but(1, func(g *gateway) { g.each = 16_000 }), DoesNotHold},
		{"gc-pause", make3(usual), DoesNotHold}, // 10 ms at most
		{"gc-pause", but(0, func(g *gateway) { g.pause = 40 * time.Millisecond }), Holds},
		{"gc-pause", but(0, func(g *gateway) { g.pause = time.Millisecond }), NotShown}, // 100 ms at most
		{"gc-pause", but(2, func(g *gateway) { g.pause = 0 }), DoesNotHold},
		{"gc-pause", both(func(n, m *gateway) { n.pause, m.pause = 59*time.Microsecond, 59*time.Microsecond }), DoesNotHold}, // as Longwire's
		{"gc-pause", both(func(n, m *gateway) { n.pause, m.pause = time.Millisecond, 59*time.Microsecond }), NotShown},
		{"survival", make3(usual), HoldsInPart},
		{"survival", but(0, func(g *gateway) { g.alive = 8000 }), Holds},
		{"survival", but(1, func(g *gateway) { g.alive = 9000 }), DoesNotHold},
		{"memory-swing", make3(usual), Holds},
		{"memory-swing", but(1, func(g *gateway) { g.swing = 0.2 }), HoldsInPart},
		{"memory-swing", make3([3]gateway{usual[0], {swing: 0.2, alive: 10_000}, {swing: 0.2}}), DoesNotHold},
		{"gc-rate", make3(usual), Holds},
		{"gc-rate", but(1, func(g *gateway) { g.gcs = 50 }), HoldsInPart},
		{"gc-rate", make3([3]gateway{usual[0], {minutes: 5, gcs: 50}, {minutes: 5, gcs: 50}}), DoesNotHold},
		{"gc-rate", but(1, func(g *gateway) { g.minutes = 1 }), NotShown},
	} {
		if got := verdictOf(t, judgeMillion(c.all), c.id); got != c.want {
			t.Errorf("%d %s: %v, want %v", i, c.id, got, c.want)
		}
	}
	few := make3(usual)
	few[1].resident = few[1].resident[:10]
	if got := verdictOf(t, judgeMillion(few), "memory-swing"); got != NotShown {
		t.Errorf("10 samples: %v", got)
	}
	none := make3(usual)
	none[0].forced = nil
	if got := verdictOf(t, judgeMillion(none), "gc-pause"); got != NotShown {
		t.Errorf("no collection: %v", got)
	}
}

// TestMillion runs the experiment small.
func TestMillion(t *testing.T) {
	t.Parallel()
	x := tiny(t, "million", 25)
	wants(t, x, map[string]Verdict{"survival": HoldsInPart, "gc-rate": NotShown})
}
