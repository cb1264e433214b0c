package client

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// member is one policy of a fleet, on a clock of its own: no two of them touch each other, so they run one by one.
type member struct {
	p      *policy
	at     int64
	timer  event // with kind "" there is none
	line   []lineEvent
	life   int // counts the connections
	states map[State]int
	// connect and ping say what becomes of an attempt and of a ping, by later.
	connect func(m *member)
	ping    func(m *member, ts int64)
}

type lineEvent struct {
	life int
	e    event
}

// later has something happen on this connection, unless it is gone by then.
func (m *member) later(ms int64, e event) {
	e.at = m.at + ms
	m.line = append(m.line, lineEvent{m.life, e})
}

func (m *member) take(e event) {
	m.at = e.at
	for _, a := range slices.Clone(m.p.step(e)) {
		switch a.do {
		case "timer":
			m.timer = event{at: a.at, kind: "timer", name: a.name}
		case "clear":
			m.timer.kind = ""
		case "connect":
			m.life++
			m.connect(m)
		case "close":
			m.life++
		case "ping":
			m.ping(m, a.at)
		case "state":
			m.states[a.state]++
		}
	}
}

// run runs up to a time.
func (m *member) run(until int64) {
	for {
		next := -1 // the timer
		at := int64(math.MaxInt64)
		if m.timer.kind != "" {
			at = m.timer.at
		}
		for i, l := range m.line {
			if l.e.at < at {
				next, at = i, l.e.at
			}
		}
		if at > until {
			m.at = until
			return
		}
		if next < 0 {
			e := m.timer
			m.timer.kind = ""
			m.take(e)
			continue
		}
		l := m.line[next]
		m.line = slices.Delete(m.line, next, next+1)
		if m.at = at; l.life == m.life {
			m.take(l.e)
		}
	}
}

func newMember(random func() float64) *member {
	return &member{p: newPolicy(defaults(), random, &memory{}), states: make(map[State]int)}
}

// TestOutage: 10,000 clients come back after an outage of 30 s, and not all at once.
func TestOutage(t *testing.T) {
	const clients, began, ended = 10_000, 60_000, 90_000
	random := rand.New(rand.NewPCG(1, 2)).Float64
	var back []int64
	for range clients {
		m := newMember(random)
		m.ping = func(m *member, ts int64) { m.later(40, event{kind: "pong", ts: ts, hasTS: true}) }
		m.connect = func(m *member) {
			switch {
			case m.at >= began && m.at < ended:
				m.later(20, event{kind: "close", code: 1006})
			case m.at >= ended:
				back = append(back, m.at-ended)
				fallthrough
			default:
				m.later(20, event{kind: "open"})
			}
		}
		m.take(event{kind: "start"})
		m.run(began - 1)
		m.at = began
		m.line = nil
		m.take(event{at: began, kind: "close", code: 1006})
		m.run(ended + 600_000)
		if !m.p.up {
			t.Fatalf("a client did not come back: %s", m.p.state)
		}
	}
	if len(back) != clients {
		t.Fatalf("%d came back, want %d, each once", len(back), clients)
	}
	seconds := make(map[int64]int)
	peak := 0
	for _, at := range back {
		seconds[at/1000]++
		peak = max(peak, seconds[at/1000])
	}
	window := float64(slices.Max(back)) / 1000
	mean := clients / window
	t.Logf("figure: %d simulated clients after an outage of 30 s: peak %d/s, mean %.0f/s over %.1f s: %.2f ×", clients, peak, mean, window, float64(peak)/mean)
	if float64(peak) > 2*mean {
		t.Errorf("the peak is %.2f × the mean, want at most 2 ×", float64(peak)/mean)
	}
}

// TestFalseAlarms: an hour on a line that loses 2 % of the packets and has 300 ms of jitter. The transport sends a lost
// packet again, after a timeout that doubles, and what comes behind it waits.
func TestFalseAlarms(t *testing.T) {
	const clients = 1000
	random := rand.New(rand.NewPCG(3, 4)).Float64
	pings, alarms := 0, 0
	for range clients {
		m := newMember(random)
		free := [2]float64{} // when each direction has delivered what was sent before
		leg := func(from float64, way int) float64 {
			ms := 30 + float64(random()*150)
			for wait := 760.0; random() < 0.02; wait *= 2 {
				ms += wait
			}
			free[way] = max(free[way], from+ms)
			return free[way]
		}
		m.connect = func(m *member) {
			free = [2]float64{}
			m.later(100, event{kind: "open"})
		}
		m.ping = func(m *member, ts int64) {
			pings++
			answer := leg(leg(float64(m.at), 0), 1)
			m.later(int64(math.Ceil(answer))-m.at, event{kind: "pong", ts: ts, hasTS: true})
		}
		m.take(event{kind: "start"})
		m.run(3_600_000)
		alarms += m.states[Backoff] + m.states[Melted]
	}
	t.Logf("figure: %d simulated hours with 2 %% loss and 300 ms of jitter: %d pings, %d false alarms", clients, pings, alarms)
	if alarms > 0 || pings < 100*clients {
		t.Errorf("%d false alarms after %d pings, want none after %d and more", alarms, pings, 100*clients)
	}
}

// TestDetection: how long a dead line goes unnoticed.
func TestDetection(t *testing.T) {
	for _, c := range []struct {
		name         string
		rtt          int64
		learnt, want int64
	}{
		{"nothing measured", 0, 0, 30000 + 5000 + 5000},
		{"a link of 20 ms", 20, 20, 30000 + 1000 + 2000},
		{"a link of 400 ms", 400, 150, 30000 + 1600 + 3200},
		{"a link of 1 s", 1000, 150, 30000 + 4000 + 5000},
	} {
		m := newMember(func() float64 { return 0 })
		dead := false
		m.connect = func(m *member) { m.later(10, event{kind: "open"}) }
		m.ping = func(m *member, ts int64) {
			if !dead {
				m.later(c.rtt, event{kind: "pong", ts: ts, hasTS: true})
			}
		}
		m.take(event{kind: "start"})
		sign := 10 + c.learnt*(30000+c.rtt)
		m.run(sign)
		dead = true
		if m.p.state != Idle {
			t.Fatalf("%s: %s", c.name, m.p.state)
		}
		m.run(sign + c.want - 1)
		if m.p.state != RetryPending {
			t.Errorf("%s: %s after %d ms, too early", c.name, m.p.state, c.want-1)
		}
		m.run(sign + c.want)
		if m.p.state != Backoff && m.p.state != Connecting {
			t.Errorf("%s: still %s after %d ms", c.name, m.p.state, c.want)
		}
		t.Logf("figure: simulated silent line, %s: noticed %.1f s after the last sign of life", c.name, float64(c.want)/1000)
	}
}
