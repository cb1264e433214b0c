package lab

import (
	"math"
	"math/rand/v2"
)

// beat is a policy of when to ask over an idle line, and when to give it up. Times are in milliseconds.
type beat struct {
	name     string
	interval float64
	timeout  float64
	misses   int // pongs missed in a row until the line is given up
	// clock has pings sent at every interval, whatever came; else they follow an interval of silence, and a missed pong
	// at once.
	clock bool
	// adapts has the timeout follow the measured round trip, as docs/client-policy.md says.
	adapts bool
	// learns has the interval follow what the line bears: longer while pongs come, shorter where silence killed it.
	learns bool
}

// The policies: the article's, that of package client, and one that nobody ships yet.
var (
	articleBeat  = beat{name: "the article's", interval: 30e3, timeout: 5e3, misses: 2, clock: true}
	clientBeat   = beat{name: "package client", interval: 30e3, timeout: 5e3, misses: 2, adapts: true}
	learningBeat = beat{name: "interval learnt", interval: 30e3, timeout: 5e3, misses: 2, adapts: true, learns: true}
)

// estimate is that of RFC 6298, of the round trip.
type estimate struct{ rtt, deviation float64 }

func (e *estimate) measure(sample float64) {
	sample = max(sample, 1)
	if e.rtt == 0 {
		e.rtt, e.deviation = sample, sample/2
		return
	}
	e.deviation += (math.Abs(e.rtt-sample) - e.deviation) / 4
	e.rtt += (sample - e.rtt) / 8
}

// wait is how long a pong is waited for when so many were missed before it.
func (b *beat) wait(e *estimate, missed int) float64 {
	if !b.adapts || e.rtt == 0 {
		return b.timeout
	}
	return min(b.timeout, math.Ldexp(max(1000, math.Ceil(4*(e.rtt+4*e.deviation))), missed))
}

// ending is why and when a policy gave a line up.
type ending struct {
	at    float64
	since float64 // when it was dead; never for a line that lived: a false alarm
	nat   bool    // it was the NAT that killed it
}

// tally is what came of a policy in a number of days of one client each.
type tally struct {
	days   int
	asked  int       // pings
	timers int       // timers that ran out: for a ping, for a pong that was missed, for the next attempt to connect
	radio  int       // times that something was sent or came when the radio was asleep
	awake  float64   // how long it was awake, ms
	alarms int       // lines given up that lived
	natted int       // lines that a NAT killed
	found  []float64 // how long after a line's end it was given up, ms
}

// perDay is a count for one client's day.
func (t *tally) perDay(n int) float64 { return float64(n) / float64(max(1, t.days)) }

// watcher is one client with a policy, and what it learnt.
type watcher struct {
	beat
	tally *tally

	ceiling float64 // no interval beyond it, as far as is known
	calm    int     // pongs since then

	used float64 // when the radio was used last
}

// tail is how long a phone's radio stays awake after it was used, ms: about what LTE networks have it do.
const tail = 10e3

// traffic notes that something was sent or came at a time.
func (c *watcher) traffic(at float64) {
	if at-c.used > tail {
		c.tally.radio++
	}
	c.tally.awake += max(0, min(at-c.used, tail))
	c.used = max(c.used, at)
}

// The bounds of what is learnt, and the pongs after which a longer interval is tried, and after which a ceiling is doubted.
const (
	minInterval = 7.5e3
	maxInterval = 300e3
	tryAfter    = 20
	doubtAfter  = 500
)

// watch runs the policy over a line from when it opened until it is given up, or until the day is over: then ok is false.
func (c *watcher) watch(l *line, open float64) (end ending, ok bool) {
	var e estimate
	due, missed, pending, pongs := open+c.interval, 0, never, 0
	for due < day {
		c.tally.asked++
		if c.clock || missed == 0 {
			c.tally.timers++ // else it goes with the timer of the pong that was missed
		}
		c.traffic(due)
		pong := min(l.ask(due), pending)
		limit := due + c.wait(&e, missed)
		switch {
		case pong <= limit:
			c.traffic(pong)
			if missed == 0 {
				e.measure(pong - due)
			}
			missed, pending = 0, never
			pongs++
			c.calm++
			c.lengthen(pongs)
			if c.clock {
				due += c.interval
			} else {
				due = pong + c.interval
			}
			continue
		case missed+1 >= c.misses:
			c.tally.timers++
			if pongs == 0 {
				c.shorten()
			}
			dead := l.gone(limit)
			return ending{limit, dead, dead != never && dead == l.forgot}, true
		}
		c.tally.timers++
		missed++
		pending = pong
		if !c.clock {
			due = limit
			continue
		}
		due += c.interval
		if pending < due { // late, but a sign of life
			c.traffic(pending)
			missed, pending = 0, never
		}
	}
	return ending{}, false
}

// lengthen learns from pongs on one line.
func (c *watcher) lengthen(pongs int) {
	if !c.learns {
		return
	}
	if c.calm >= doubtAfter { // what ended a line may have been chance
		c.ceiling, c.calm = min(maxInterval, 1.5*c.ceiling), 0
	}
	if pongs%tryAfter == 0 {
		c.interval = min(c.ceiling, 1.5*c.interval)
	}
}

// shorten learns from a line that did not outlive its first silence.
func (c *watcher) shorten() {
	if !c.learns {
		return
	}
	c.ceiling = max(minInterval, 0.8*c.interval)
	c.interval = max(minInterval, c.interval/2)
	c.calm = 0
}

// live has one client with the policy live a day: peers vanish after vanish on average (0: never), and a NAT forgets a line
// after nat of silence (0: never).
func (b beat) live(w weather, nat, vanish float64, random *rand.Rand, t *tally) {
	p := newPlace(w, random)
	c := watcher{beat: b, tally: t, ceiling: maxInterval, used: -tail - 1}
	t.days++
	for at := 0.0; at < day; {
		gone := never
		if vanish > 0 {
			gone = at + random.ExpFloat64()*vanish
		}
		end, ok := c.watch(newLine(p, at, nat, gone), at)
		if !ok {
			return
		}
		switch {
		case end.since == never:
			t.alarms++
		case end.nat:
			t.natted++
			fallthrough
		default:
			t.found = append(t.found, end.at-end.since)
		}
		at = end.at + 1000
		t.timers++
		c.traffic(at) // a new line
	}
}
