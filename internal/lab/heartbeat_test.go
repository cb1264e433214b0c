package lab

import (
	"math/rand/v2"
	"testing"
)

// still is weather without chance: every packet takes 20 ms.
var still = weather{name: "still", rtt: 40}

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(1, n)) }

// TestLine checks what a line does to a ping.
func TestLine(t *testing.T) {
	l := newLine(newPlace(still, seeded(0)), 0, 0, never)
	if got := l.ask(1000); got != 1040 {
		t.Errorf("the pong of a ping at 1000 ms came at %v, want 1040", got)
	}
	l = newLine(newPlace(still, seeded(0)), 0, 0, 5000)
	if l.ask(4000) == never || l.ask(6000) != never {
		t.Error("a line has to answer until its peer vanishes, and not afterwards")
	}
	if l.gone(4999) != never || l.gone(6000) != 5000 {
		t.Errorf("it was gone at %v, want 5000", l.gone(6000))
	}
	// A NAT forgets after 30 s of silence, and not before.
	l = newLine(newPlace(still, seeded(0)), 0, 30e3, never)
	if l.ask(29e3) == never || l.ask(58e3) == never || l.ask(90e3) != never {
		t.Error("the NAT does not forget when it should")
	}
	if at := l.gone(90e3); at != 58040+30e3 {
		t.Errorf("the NAT forgot at %v ms", at)
	}
	// What is sent while nothing passes arrives late, and what is sent behind it not before it.
	p := newPlace(still, seeded(0))
	p.begins, p.ends = []float64{1000}, []float64{3000}
	l = newLine(p, 0, 0, never)
	first := l.ask(1500)
	if second := l.ask(1600); first < 3000 || first > 10_000 || second < first {
		t.Errorf("pings into a gap were answered at %v and %v", first, second)
	}
	for at, want := range map[float64]bool{999: false, 1000: true, 2999: true, 3000: false} {
		if p.silent(at) != want {
			t.Errorf("at %v ms silent is %v", at, !want)
		}
	}
}

// TestPolicies checks when policies find a line dead that died at 45 s, where everything is known.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		b             beat
		want          float64 // when it is given up, ms
		pings         int
		timers, radio int // until then: without the one of the next attempt
	}{
		{articleBeat, 95e3, 3, 5, 3},  // pings at 30, 60 and 90 s; the second miss is at 95 s
		{clientBeat, 63_040, 3, 4, 2}, // asked at 30 and 60.04 s; 1 s for a pong, and then 2 s: the second ping goes with the first miss
	} {
		var n tally
		w := watcher{beat: c.b, tally: &n, ceiling: maxInterval}
		end, ok := w.watch(newLine(newPlace(still, seeded(0)), 0, 0, 45e3), 0)
		if !ok || end.since != 45e3 || end.nat || end.at < c.want-50 || end.at > c.want+50 || n.asked != c.pings {
			t.Errorf("%s: given up at %v ms after %d pings, want %v after %d: %+v", c.b.name, end.at, n.asked, c.want, c.pings, end)
		}
		if n.timers != c.timers || n.radio != c.radio {
			t.Errorf("%s: %d timers ran out and the radio woke up %d times, want %d and %d", c.b.name, n.timers, n.radio, c.timers, c.radio)
		}
		// A line that lives is kept for the day, and each ping wakes processor and radio once.
		n = tally{}
		w = watcher{beat: c.b, tally: &n, ceiling: maxInterval}
		if end, ok := w.watch(newLine(newPlace(still, seeded(0)), 0, 0, never), 0); ok {
			t.Errorf("%s gave up a line that lives: %+v", c.b.name, end)
		}
		if n.asked < 2870 || n.asked > 2880 {
			t.Errorf("%s: %d pings a day", c.b.name, n.asked)
		}
		if share := n.awake / day; share < 0.33 || share > 0.34 { // of each 30 s the 10 s after a pong
			t.Errorf("%s: the radio was awake for %.3f of the day, want a third", c.b.name, share)
		}
		if n.timers != n.asked || n.radio != n.asked {
			t.Errorf("%s: %d timers and %d wake-ups of the radio for %d pings", c.b.name, n.timers, n.radio, n.asked)
		}
	}
}

// TestLearning: behind a NAT of 10 s an interval is learnt that lives, and without one it grows.
func TestLearning(t *testing.T) {
	var short, long, fixed tally
	learningBeat.live(still, 10e3, 0, seeded(1), &short)
	learningBeat.live(still, 0, 0, seeded(1), &long)
	clientBeat.live(still, 10e3, 0, seeded(1), &fixed)
	if short.natted > fixed.natted/5 || fixed.natted < 1000 {
		t.Errorf("lines that the NAT killed: %d learnt, %d at 30 s", short.natted, fixed.natted)
	}
	if long.asked > 600 || long.alarms > 0 {
		t.Errorf("%d pings a day where nothing forbids longer intervals", long.asked)
	}
}

// TestPrinted runs the article's client.
func TestPrinted(t *testing.T) {
	healthy := func() *line { return newLine(newPlace(still, seeded(0)), 0, 0, never) }
	dies := func() *line { return newLine(newPlace(still, seeded(0)), 0, 0, 45e3) }
	if at := (printed{}).closes(healthy()); at != 95e3 {
		t.Errorf("as printed it closed a healthy line at %v ms, want 95000", at)
	}
	if at := (printed{clears: true}).closes(healthy()); at != never {
		t.Errorf("mended it closed a healthy line at %v ms", at)
	}
	if at := (printed{clears: true}).closes(dies()); at != 125e3 { // misses at 65, 95 and 125 s
		t.Errorf("mended it found a dead line at %v ms, want 125000", at)
	}
	// Mended it forgets misses once a pong came: two, and much later one more, are not three.
	p := newPlace(still, seeded(0))
	p.begins, p.ends = []float64{29e3, 119e3}, []float64{70e3, 131e3}
	if at := (printed{clears: true}).closes(newLine(p, 0, 0, never)); at != never {
		t.Errorf("mended it closed a line that lived, at %v ms", at)
	}
	if at := silence(newPlace(still, seeded(0)), 30e3, 31e3); at != never {
		t.Errorf("a limit of 31 s closed a punctual client at %v ms", at)
	}
	if at := silence(newPlace(fineWeather, seeded(0)), 30e3, 30e3); at == never {
		t.Error("a limit of 30 s closed nobody who pings every 30 s over a network that is not punctual")
	}
}

// heartbeatsFor are figures for the verdicts: false alarms in each network, dead lines found after so many ms by the article's
// policy and by package client's, and lines killed behind each NAT.
func heartbeatsFor(alarms [3]int, article, client float64, killed []int) *heartbeats {
	h := &heartbeats{days: 100, policies: []beat{articleBeat, clientBeat, learningBeat}, weathers: []weather{fineWeather, mobileWeather, weakWeather}}
	for _, n := range alarms {
		h.plain = append(h.plain, []tally{{days: 100, asked: 288_000, alarms: n, found: []float64{article}}, {days: 100, asked: 288_000, found: []float64{client}}, {days: 100}})
		h.silent = append(h.silent, []float64{never})
	}
	for _, n := range killed {
		h.natted = append(h.natted, []tally{{days: 100, natted: n}, {days: 100}, {days: 100}})
	}
	h.printedHealthy, h.printedDead, h.mendedHealthy, h.mendedDead = []float64{never}, []float64{95e3}, []float64{never}, []float64{95e3}
	return h
}

// verdictOf is the one on a claim.
func verdictOf(t *testing.T, list []opinion, id string) Verdict {
	t.Helper()
	for _, o := range list {
		if o.id == id {
			return o.verdict
		}
	}
	t.Fatalf("there is no verdict on %s", id)
	return ""
}

// TestHeartbeatVerdicts plants figures on both sides of each limit.
func TestHeartbeatVerdicts(t *testing.T) {
	none, all, some := []int{0, 0, 0, 0, 0, 0}, []int{900, 900, 900, 900, 900, 900}, []int{900, 900, 900, 0, 0, 0}
	good := heartbeatsFor([3]int{}, 50e3, 48e3, none)
	hasty := heartbeatsFor([3]int{}, 50e3, 48e3, none)
	hasty.printedHealthy = []float64{95e3}
	blind := heartbeatsFor([3]int{}, 50e3, 48e3, none)
	blind.printedDead = []float64{never}
	closing := heartbeatsFor([3]int{}, 50e3, 48e3, none)
	closing.silent = [][]float64{{60e3}, {60e3}, {60e3}}
	hastier := heartbeatsFor([3]int{}, 50e3, 40e3, none)
	hastier.plain[1][1].alarms = 1000
	partly := heartbeatsFor([3]int{}, 50e3, 48e3, none)
	partly.silent[1] = []float64{60e3}
	for _, c := range []struct {
		id   string
		h    *heartbeats
		want Verdict
	}{
		{"nat-needs-pings", good, Holds},
		{"nat-needs-pings", heartbeatsFor([3]int{}, 50e3, 48e3, some), HoldsInPart},
		{"nat-needs-pings", heartbeatsFor([3]int{}, 50e3, 48e3, all), DoesNotHold},
		{"pong-5s", heartbeatsFor([3]int{9, 9, 9}, 50e3, 48e3, none), Holds},
		{"pong-5s", heartbeatsFor([3]int{9, 9, 11}, 50e3, 48e3, none), HoldsInPart},
		{"pong-5s", heartbeatsFor([3]int{11, 11, 11}, 50e3, 48e3, none), DoesNotHold},
		{"misses-2-3", good, Holds},
		{"misses-2-3", heartbeatsFor([3]int{}, 50e3, 40e3, none), HoldsInPart},
		{"misses-2-3", hastier, Holds},
		{"misses-2-3", heartbeatsFor([3]int{}, 70e3, 40e3, none), DoesNotHold},
		{"heartbeat-code", good, Holds},
		{"heartbeat-code", hasty, DoesNotHold},
		{"heartbeat-code", blind, HoldsInPart},
		{"silence-30s", good, Holds},
		{"silence-30s", partly, HoldsInPart},
		{"silence-30s", closing, DoesNotHold},
	} {
		if got := verdictOf(t, c.h.judge(), c.id); got != c.want {
			t.Errorf("%s: %v, want %v", c.id, got, c.want)
		}
	}
}

// TestHeartbeat runs the experiment small. What it says of the printed client is certain.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	x := tiny(t, "heartbeat", 20)
	wants(t, x, map[string]Verdict{"heartbeat-code": DoesNotHold, "silence-30s": DoesNotHold, "nat-needs-pings": HoldsInPart})
}
