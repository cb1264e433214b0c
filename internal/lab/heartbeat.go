package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/longwire/longwire/internal/report"
)

func heartbeatExperiment() Experiment {
	return Experiment{
		Name:   "heartbeat",
		Title:  "When to ask whether a line is alive, and when to give it up",
		Claims: claimsOf("heartbeat"),
		About: "Simulated, on a clock of its own: clients with an idle line each, for a day each, in good, mobile and weak networks and behind NATs that forget " +
			"a silent line after 10 s to 350 s. What is sent over TCP is not lost but late, as the kernel sends it again; peers vanish once in two hours. " +
			"The article's policy (a ping every 30 s, 5 s for its pong, two missed ones begin anew) runs beside that of package client and one that learns " +
			"its interval; and the client that the article prints runs as it is printed, and mended.",
		Run: func(ctx context.Context, r *Run) error {
			h, err := watchHeartbeats(ctx, r.Seed, r.Of(200), r.Log)
			h.tell(r)
			return err
		},
	}
}

// nats are the silences after which a NAT forgets a line, in seconds. RFC 5382 asks for two hours and four minutes; home routers,
// mobile networks and clouds have less, down to these.
var nats = []int{10, 20, 30, 60, 120, 350}

// heartbeats is what the experiment measured. Lists of tallies are by policy.
type heartbeats struct {
	days     int
	policies []beat
	weathers []weather
	plain    [][]tally // by weather: peers vanish, and there is no NAT
	natted   [][]tally // by NAT: in mobile weather, and peers do not vanish

	printedHealthy, printedDead, mendedHealthy, mendedDead []float64 // when the printed client closed, ms after the line opened; never if not
	silent                                                 [][]float64
}

// deadAt is when the line of a printed client vanishes that is to find it, in ms.
const deadAt = 45e3

// watchHeartbeats simulates so many days of a client for each policy and network.
func watchHeartbeats(ctx context.Context, seed uint64, days int, log func(string, ...any)) (*heartbeats, error) {
	h := &heartbeats{days: days, policies: []beat{articleBeat, clientBeat, learningBeat}, weathers: []weather{fineWeather, mobileWeather, weakWeather}}
	random := func(k int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(k))) } // the same days for each policy
	for _, w := range h.weathers {
		of := make([]tally, len(h.policies))
		for i, b := range h.policies {
			for d := range days {
				if ctx.Err() != nil {
					return h, context.Cause(ctx)
				}
				b.live(w, 0, 2*hour, random(d), &of[i])
			}
		}
		h.plain = append(h.plain, of)
		log("%s network, %d days of each policy", w.name, days)
	}
	for _, nat := range nats {
		of := make([]tally, len(h.policies))
		for i, b := range h.policies {
			for d := range (days + 3) / 4 {
				if ctx.Err() != nil {
					return h, context.Cause(ctx)
				}
				b.live(mobileWeather, float64(nat)*1000, 0, random(d), &of[i])
			}
		}
		h.natted = append(h.natted, of)
		log("NAT that forgets after %d s", nat)
	}
	for d := range days {
		at := func(clears bool, vanish float64) float64 {
			return printed{clears}.closes(newLine(newPlace(fineWeather, random(d)), 0, 0, vanish))
		}
		h.printedHealthy = append(h.printedHealthy, at(false, never))
		h.printedDead = append(h.printedDead, at(false, deadAt))
		h.mendedHealthy = append(h.mendedHealthy, at(true, never))
		h.mendedDead = append(h.mendedDead, at(true, deadAt))
	}
	for _, w := range h.weathers {
		var of []float64
		for d := range days {
			of = append(of, silence(newPlace(w, random(d)), 30e3, 30e3))
		}
		h.silent = append(h.silent, of)
	}
	return h, nil
}

// quantile is the q-quantile of a list, 0 of an empty one.
func quantile(list []float64, q float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(1, len(list)))
}

// share is how many of a list are below a bound, as a share.
func share(list []float64, below float64) float64 {
	n := 0
	for _, v := range list {
		if v < below {
			n++
		}
	}
	return float64(n) / float64(max(1, len(list)))
}

// seconds is a time in ms for a cell; never is none.
func seconds(ms float64) any {
	if ms >= never {
		return nil
	}
	return Quantity{ms / 1000, report.Seconds}
}

func percent(share float64) Quantity { return Quantity{100 * share, report.Percent} }

// tell writes tables, figures and verdicts.
func (h *heartbeats) tell(r *Run) {
	r.Note("Everything here is simulated, %d days of one client for each policy and network, a quarter of that for each NAT. Detection is from the moment the line was dead.", h.days)
	r.Note("A radio is awake for %v s after it was used, as is about usual in LTE, and nothing but the heartbeat uses it here. Timers are those that ran out: each wakes the processor.", tail/1000)
	t := r.Table("Policies: peers vanish once in two hours", "network", "policy", "found dead after, mean", "p99", "false alarms a day", "pings a day", "timers a day", "radio wake-ups a day", "radio awake")
	for i, of := range h.plain {
		for j := range of {
			x := &of[j]
			t.Row(h.weathers[i].name, h.policies[j].name, Quantity{mean(x.found) / 1000, report.Seconds}, Quantity{quantile(x.found, 0.99) / 1000, report.Seconds}, x.perDay(x.alarms), x.perDay(x.asked), x.perDay(x.timers), x.perDay(x.radio), percent(x.awake/day/float64(max(1, x.days))))
		}
	}
	t = r.Table("Behind a NAT, in a mobile network", "NAT forgets after", "policy", "lines that it killed, a day", "found dead after, mean", "pings a day", "timers a day", "radio wake-ups a day", "radio awake")
	for i, of := range h.natted {
		for j := range of {
			x := &of[j]
			t.Row(Quantity{float64(nats[i]), report.Seconds}, h.policies[j].name, x.perDay(x.natted), Quantity{mean(x.found) / 1000, report.Seconds}, x.perDay(x.asked), x.perDay(x.timers), x.perDay(x.radio), percent(x.awake/day/float64(max(1, x.days))))
		}
	}
	if len(h.printedHealthy) > 0 {
		t = r.Table("The client that the article prints", "client", "line", "closed within a day", "closed after, median")
		row := func(client, line string, list []float64) {
			t.Row(client, line, percent(share(list, never)), seconds(quantile(list, 0.5)))
		}
		row("as printed", "healthy", h.printedHealthy)
		row("as printed", "vanishes after 45 s", h.printedDead)
		row("the timeout cleared by the pong", "healthy", h.mendedHealthy)
		row("the timeout cleared by the pong", "vanishes after 45 s", h.mendedDead)
	}
	if len(h.silent) > 0 {
		t = r.Table("A server that closes what was silent for 30 s, while clients ping every 30 s", "network", "healthy lines closed within a day", "after, median")
		for i, of := range h.silent {
			t.Row(h.weathers[i].name, percent(share(of, never)), seconds(quantile(of, 0.5)))
		}
	}
	if len(h.plain) > 1 {
		for j, b := range h.policies {
			var points []Point
			for q := 0; q <= 100; q += 2 {
				points = append(points, Point{quantile(h.plain[1][j].found, float64(q)/100) / 1000, float64(q)})
			}
			r.Series(b.name, report.Percent, points).On("Dead lines that were found, by seconds after they were dead (mobile network)")
		}
	}
	if len(h.silent) < len(h.weathers) {
		return // interrupted
	}
	for _, j := range h.judge() {
		r.Verdict(j.id, j.verdict, j.sentence)
	}
	r.Figure("printed client: healthy lines closed within a day", 100*share(h.printedHealthy, never), report.Percent)
	r.Figure("printed client: a healthy line is closed after", quantile(h.printedHealthy, 0.5)/1000, report.Seconds)
	for j, b := range h.policies {
		r.Figure("found dead after, mobile network, p99: "+b.name, quantile(h.plain[1][j].found, 0.99)/1000, report.Seconds)
		r.Figure("radio wake-ups a day, mobile network: "+b.name, h.plain[1][j].perDay(h.plain[1][j].radio), report.Count)
	}
}

// opinion is a verdict before it is told.
type opinion struct {
	id       string
	verdict  Verdict
	sentence string
}

// Limits of the verdicts.
const (
	fewAlarms    = 0.1 // false alarms a day that a policy may raise
	fewDeaths    = 0.1 // lines a day that a NAT may kill
	muchSooner   = 0.9 // of the time to detect, below which another policy is better
	hardlyDearer = 1.1 // of the pings, up to which it is as cheap
)

// judge makes the verdicts of the figures. The article's policy is the first, the mobile network the second.
func (h *heartbeats) judge() []opinion {
	var out []opinion
	say := func(id string, v Verdict, format string, args ...any) {
		out = append(out, opinion{id, v, fmt.Sprintf(format, args...)})
	}
	// A ping every 30 s against NATs.
	alive, dies := []int{}, []int{}
	worst := 0.0
	for i, of := range h.natted {
		if n := of[0].perDay(of[0].natted); n <= fewDeaths {
			alive = append(alive, nats[i])
		} else {
			dies, worst = append(dies, nats[i]), max(worst, n)
		}
	}
	switch {
	case len(dies) == 0:
		say("nat-needs-pings", Holds, "no NAT of %v s killed more than %.1f lines a day", alive, fewDeaths)
	case len(alive) == 0:
		say("nat-needs-pings", DoesNotHold, "every NAT of %v s killed more than %.1f lines a day, up to %.0f", dies, fewDeaths, worst)
	default:
		say("nat-needs-pings", HoldsInPart, "behind a NAT that forgets after %v s lines live; one of %v s killed up to %.0f lines a day of each client: 30 s is too long for it", alive, dies, worst)
	}
	// Five seconds for a pong.
	var calm, noisy string
	for i, of := range h.plain {
		n := of[0].perDay(of[0].alarms)
		if s := fmt.Sprintf("%s %.3f", h.weathers[i].name, n); n <= fewAlarms {
			calm = join(calm, s)
		} else {
			noisy = join(noisy, s)
		}
	}
	switch {
	case noisy == "":
		say("pong-5s", Holds, "false alarms a day of one client, by network: %s; at most %.1f is few", calm, fewAlarms)
	case calm == "":
		say("pong-5s", DoesNotHold, "false alarms a day of one client, by network: %s; at most %.1f would be few", noisy, fewAlarms)
	default:
		say("pong-5s", HoldsInPart, "false alarms a day of one client are few (at most %.1f) by network: %s; and not: %s", fewAlarms, calm, noisy)
	}
	// Two misses, three misses.
	a, b := &h.plain[1][0], &h.plain[1][1]
	late, better := quantile(a.found, 0.99), quantile(b.found, 0.99)
	limit := 2*articleBeat.interval + articleBeat.timeout + 1000
	figures := fmt.Sprintf("in a mobile network a dead line is found after %.0f s (p99; mean %.0f s), with package client's policy after %.0f s (mean %.0f s), for %.0f and %.0f pings a day and %.3f and %.3f false alarms",
		late/1000, mean(a.found)/1000, better/1000, mean(b.found)/1000, a.perDay(a.asked), b.perDay(b.asked), a.perDay(a.alarms), b.perDay(b.alarms))
	sooner := better < muchSooner*late && float64(b.asked) <= hardlyDearer*float64(a.asked)
	hasty := b.perDay(b.alarms) > a.perDay(a.alarms)+fewAlarms
	switch {
	case len(a.found) == 0 || late > limit:
		say("misses-2-3", DoesNotHold, "%s: later than two intervals and a timeout", figures)
	case sooner && hasty:
		say("misses-2-3", Holds, "%s: to ask again at once finds them sooner, but takes more stalls for deaths; patience is a choice", figures)
	case sooner:
		say("misses-2-3", HoldsInPart, "%s: it finds them, but to ask again at once after a missed pong finds them sooner at the same price. And the two texts differ: by the state machine two retries open the fuse, by the list three misses", figures)
	default:
		say("misses-2-3", Holds, "%s", figures)
	}
	// The printed client.
	closed, found := share(h.printedHealthy, never), share(h.printedDead, never)
	switch figures := fmt.Sprintf("as printed it closed %.0f %% of healthy lines within a day, the median after %.0f s; with the pong clearing the timeout %.0f %%, and it found %.0f %% of dead ones after %.0f s",
		100*closed, quantile(h.printedHealthy, 0.5)/1000, 100*share(h.mendedHealthy, never), 100*share(h.mendedDead, never), (quantile(h.mendedDead, 0.5)-deadAt)/1000); {
	case closed > 0.01:
		say("heartbeat-code", DoesNotHold, "%s: the timeout is never cleared, so three pings are its life whatever comes back", figures)
	case found < 0.99:
		say("heartbeat-code", HoldsInPart, "%s; as printed it found %.0f %% of dead lines", figures, 100*found)
	default:
		say("heartbeat-code", Holds, "%s", figures)
	}
	// Thirty seconds of silence at the server.
	var safe, unsafe string
	for i, of := range h.silent {
		n := share(of, never)
		if s := fmt.Sprintf("%s %.0f %%", h.weathers[i].name, 100*n); n <= fewAlarms {
			safe = join(safe, s)
		} else {
			unsafe = join(unsafe, s+fmt.Sprintf(" (median after %.0f s)", quantile(of, 0.5)/1000))
		}
	}
	switch {
	case unsafe == "":
		say("silence-30s", Holds, "healthy lines closed within a day while clients ping every 30 s, by network: %s", safe)
	case safe == "":
		say("silence-30s", DoesNotHold, "healthy lines closed within a day while clients ping every 30 s, by network: %s. The limit has to be longer than the interval and what a ping may be late", unsafe)
	default:
		say("silence-30s", HoldsInPart, "healthy lines closed within a day while clients ping every 30 s, by network: %s; but %s", safe, unsafe)
	}
	return out
}

// join puts a comma between two parts.
func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}
