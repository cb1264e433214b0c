package lab

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// weather is how a simulated line behaves while it lives. Times are in milliseconds. What is sent over TCP is never lost for
// good, only late: a packet that does not pass is sent again after a time that doubles, and what follows it waits for it.
type weather struct {
	name   string
	rtt    float64 // median of the round trip
	spread float64 // standard deviation of its logarithm
	loss   float64 // share of packets that do not pass
	gaps   float64 // how often an hour nothing passes at all
	gap    float64 // how long that lasts, on average
}

// The weathers that policies are tried in.
var (
	fineWeather   = weather{name: "good", rtt: 40, spread: 0.2, loss: 0.001}
	mobileWeather = weather{name: "mobile", rtt: 120, spread: 0.6, loss: 0.02, gaps: 6, gap: 4000}
	weakWeather   = weather{name: "weak", rtt: 300, spread: 0.8, loss: 0.10, gaps: 20, gap: 12_000}
)

const (
	hour  = 3600e3 // milliseconds
	day   = 24 * hour
	never = math.MaxFloat64
)

// place is where a client is: its weather for a day.
type place struct {
	weather
	random *rand.Rand
	begins []float64 // of the gaps
	ends   []float64
}

func newPlace(w weather, random *rand.Rand) *place {
	p := &place{weather: w, random: random}
	if w.gaps > 0 {
		for at := 0.0; at < day; {
			at += random.ExpFloat64() * hour / w.gaps
			p.begins = append(p.begins, at)
			at += random.ExpFloat64() * w.gap
			p.ends = append(p.ends, at)
		}
	}
	return p
}

// silent tells whether nothing passes at a time.
func (p *place) silent(at float64) bool {
	i, found := slices.BinarySearchFunc(p.begins, at, cmp.Compare[float64])
	if !found {
		i--
	}
	return i >= 0 && at < p.ends[i]
}

// attempts is how often a packet is sent before the kernel gives up (tcp_retries2).
const attempts = 15

// pass is when a packet that is sent at a time arrives, or never.
func (p *place) pass(at float64) float64 {
	wait := 200 + p.rtt
	for range attempts {
		if !p.silent(at) && p.random.Float64() >= p.loss {
			return at + p.rtt/2*math.Exp(p.spread*p.random.NormFloat64())
		}
		at += wait
		wait = min(2*wait, 120e3)
	}
	return never
}

// line is one connection.
type line struct {
	*place
	nat     float64 // silence after which a NAT on the way forgets it; 0 for none
	vanish  float64 // when the peer vanishes, or never
	last    float64 // when something passed last
	forgot  float64 // when the NAT did, or never
	arrived float64 // at the peer: what is sent later does not arrive earlier
	came    float64 // and back
}

func newLine(p *place, at, nat, vanish float64) *line {
	return &line{place: p, nat: nat, vanish: vanish, last: at, forgot: never, arrived: at, came: at}
}

// gone is when the line ended, unless it lives at a time: then never.
func (l *line) gone(at float64) float64 {
	if end := min(l.vanish, l.forgot); end <= at {
		return end
	}
	return never
}

// ask sends a ping and returns when its pong comes, or never.
func (l *line) ask(at float64) float64 {
	if l.nat > 0 && at-l.last > l.nat && l.forgot == never {
		l.forgot = l.last + l.nat
	}
	if l.gone(at) != never {
		return never
	}
	there := max(l.pass(at), l.arrived)
	if there >= l.vanish {
		return never
	}
	l.arrived = there
	back := max(l.pass(there), l.came)
	if back == never {
		return never
	}
	l.came = back
	l.last = max(l.last, back)
	return back
}
