package client

import (
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/longwire/longwire/ws"
)

// State is where the state machine of a Conn stands. docs/client-policy.md draws it.
type State string

// The states.
const (
	Connecting   State = "connecting"    // there is an attempt
	Idle         State = "idle"          // there is a connection, and nothing was asked
	WaitingPong  State = "waiting-pong"  // there is a connection that was asked
	RetryPending State = "retry-pending" // a pong was missed, and the peer asked again
	Backoff      State = "backoff"       // there is none; an attempt follows
	Melted       State = "melted"        // the fuse is open: there is none for a longer while
	Trial        State = "trial"         // one attempt after that, and a connection that was asked at once
	Offline      State = "offline"       // there is no network, as Network was told; a connection may be there or not
	Closing      State = "closing"       // the closing handshake
	Closed       State = "closed"        // for good
)

// settings are the options of the policy, complete. Times are in milliseconds. The names are those of the scenarios.
type settings struct {
	Reconnect bool
	Heartbeat struct {
		Mode                                string // json and custom send pings, traffic only listens, none does nothing
		Interval, Timeout, MinTimeout, Late int64
		Misses                              int
	}
	Fuse struct {
		Misses, Failures, Trials int
		CoolDown, MaxCoolDown    int64
	}
	Backoff struct{ Min, Max, Stable, Spread, MaxAfter int64 }
	Queue   struct {
		Policy       string // reject, oldest, newest
		Limit, Bytes int
	}
	Resend                       bool
	ConnectTimeout, CloseTimeout int64
	Codes                        struct {
		Terminal      [][2]int
		Status, Drain []int
	}
}

// defaults are what the policy has where nothing is chosen.
func defaults() settings {
	var s settings
	s.Reconnect = true
	h, f, b := &s.Heartbeat, &s.Fuse, &s.Backoff
	h.Mode, h.Interval, h.Timeout, h.MinTimeout, h.Misses, h.Late = "json", 30000, 5000, 1000, 2, 2000
	f.Misses, f.Failures, f.CoolDown, f.MaxCoolDown = 3, 10, 30000, 300000
	b.Min, b.Max, b.Stable, b.Spread, b.MaxAfter = 500, 20000, 5000, 10000, 3600000
	s.Queue.Policy, s.Queue.Limit, s.Queue.Bytes = "reject", 256, 1<<20
	s.ConnectTimeout, s.CloseTimeout = 10000, 5000
	s.Codes.Terminal = [][2]int{{1000, 1000}, {1003, 1003}, {1007, 1007}, {1009, 1010}, {3500, 3999}, {4500, 4999}}
	s.Codes.Status = []int{400, 401, 403, 405, 410, 426}
	s.Codes.Drain = []int{1001, 1012, 3001}
	return s
}

// message is one on its way out. The policy looks at its size alone.
type message struct {
	bytes   int
	op      ws.Opcode
	payload []byte
	direct  bool  // the goroutine that sends it writes it by itself
	err     error // why it was refused
}

// event is something that happened. at is in milliseconds, and never less than that of the event before.
type event struct {
	at      int64
	kind    string
	name    string   // timer
	ts      int64    // pong
	hasTS   bool     // pong
	code    int      // close, shut: 0 is none
	reason  string   // close, shut
	clean   bool     // close
	status  int      // refused
	after   int64    // refused, advice: negative is none
	message *message // send, cancel
}

// action is something to do.
type action struct {
	do      string
	name    string // timer, clear
	state   State
	at      int64 // timer, ping
	code    int
	reason  string // why, of state, drop and reject
	clean   bool
	message *message
}

// memory is what is learnt of an endpoint. The zero value knows nothing.
type memory struct {
	Misses   int   // pongs missed in a row
	Failures int   // connections and attempts lost in a row
	Trials   int   // times the fuse opened in a row
	Until    int64 // when the fuse lets a trial through; 0 while it is closed
	Hold     int64 // before which the server does not want to see us
}

// policy is the state machine of one Conn. It has no timer, no socket and no clock. The same code in TypeScript is
// clients/js/src/policy.ts, and testdata/heartbeat holds both to the same behaviour.
type policy struct {
	settings
	record *memory
	random func() float64 // from 0 up to 1

	state       State
	up          bool
	acts, tells []action // tells run code of the application, and so come last
	timer       string
	due         int64
	offline     bool
	hidden      bool
	excused     bool // the one late timer that the peer is not blamed for
	misses      int  // pongs in a row, on the lines of this Conn
	seen        int64
	opened      int64
	edge        int64 // where the last window of the backoff ends
	rtt         float64
	deviation   float64
	pings       int // without a pong
	first, last int64
	queue       []*message
	queued      int
	sent        []*message // what no pong has confirmed, with Resend
	mark        int        // how many of sent went out before the last ping
}

func newPolicy(s settings, random func() float64, record *memory) *policy {
	return &policy{settings: s, record: record, random: random, state: Connecting, misses: record.Misses}
}

// step takes one event and returns what is to be done, in order. The slice is good until the next step.
func (p *policy) step(e event) []action {
	p.acts, p.tells = p.acts[:0], p.tells[:0]
	p.take(e)
	p.acts = append(p.acts, p.tells...)
	return p.acts
}

func (p *policy) asks() bool { return p.Heartbeat.Mode == "json" || p.Heartbeat.Mode == "custom" }

func (p *policy) over() bool { return p.state == Closing || p.state == Closed }

// writes tells whether what is sent is written at once.
func (p *policy) writes() bool {
	return p.up && !p.over() && (p.state != Offline || !p.Reconnect)
}

func (p *policy) dialling() bool { return !p.up && (p.state == Connecting || p.state == Trial) }

func (p *policy) act(a action) { p.acts = append(p.acts, a) }

func (p *policy) tell(a action) { p.tells = append(p.tells, a) }

func (p *policy) spread(window int64) int64 {
	return int64(math.Floor(float64(p.random() * float64(window))))
}

// double is ms × 2^n, bounded by most.
func double(ms int64, n int, most int64) int64 {
	return int64(math.Min(float64(most), math.Ldexp(float64(ms), n)))
}

func (p *policy) arm(name string, at int64) {
	p.timer, p.due = name, at
	p.act(action{do: "timer", name: name, at: at})
}

// to enters a state. The timer of the one before never outlives it; name is that of the new one, "" for none.
func (p *policy) to(next State, reason, name string, at int64) {
	if p.timer != "" {
		p.act(action{do: "clear", name: p.timer})
	}
	p.timer = ""
	if name != "" {
		p.arm(name, at)
	}
	p.state = next
	p.tells = slices.Insert(p.tells, 0, action{do: "state", state: next, reason: reason})
}

func (p *policy) connect(at int64, reason string) {
	p.pings = 0
	p.excused = false
	next := Connecting
	if p.record.Until != 0 {
		next = Trial
	}
	p.to(next, reason, "connect", at+p.ConnectTimeout)
	p.act(action{do: "connect"})
}

func (p *policy) idle(at int64, reason string) {
	if p.Heartbeat.Mode == "none" {
		p.to(Idle, reason, "", 0)
	} else {
		p.to(Idle, reason, "ping", at+p.Heartbeat.Interval)
	}
}

// ping asks the peer, or with traffic alone listens more closely.
func (p *policy) ping(at int64, reason string) {
	wait := p.Heartbeat.Timeout
	if p.rtt != 0 && !p.hidden {
		// The conversions keep sums from being fused with products, so that all machines come to the same.
		estimate := int64(math.Ceil(4 * float64(p.rtt+float64(4*p.deviation))))
		wait = double(max(p.Heartbeat.MinTimeout, estimate), p.misses, wait)
	}
	next := WaitingPong
	switch {
	case p.record.Until != 0:
		next = Trial
	case p.misses > 0:
		next = RetryPending
	}
	p.to(next, reason, "pong", at+wait)
	if p.asks() {
		if p.pings == 0 {
			p.first = at
		}
		p.pings++
		p.last = at
		p.mark = len(p.sent)
		p.act(action{do: "ping", at: at})
	}
}

// probe asks the peer after a time of which nothing is known. Who only listens can but start anew.
func (p *policy) probe(at int64, reason string) {
	if p.asks() {
		p.ping(at, reason)
	} else {
		p.idle(at, reason)
	}
}

// measure is the estimator of RFC 6298.
func (p *policy) measure(sample float64) {
	if p.rtt == 0 {
		p.deviation, p.rtt = sample/2, sample
		return
	}
	p.deviation += float64((math.Abs(p.rtt-sample) - p.deviation) / 4)
	p.rtt += float64((sample - p.rtt) / 8)
}

func (p *policy) alive(at int64, reason string) {
	if !p.up || p.state == Closing {
		return
	}
	p.seen = at
	p.excused, p.offline = false, false
	p.misses, p.record.Misses, p.record.Trials, p.record.Until = 0, 0, 0, 0
	if p.state != Idle {
		p.idle(at, reason)
		p.flush()
	}
}

func (p *policy) finish(why string, code int, reason string, clean bool) {
	p.up = false
	p.to(Closed, why, "", 0)
	for len(p.queue) > 0 {
		p.drop(0, "closed")
	}
	if !clean {
		p.tell(action{do: "error"})
	}
	p.tell(action{do: "end", code: code, reason: reason, clean: clean})
}

var advice = regexp.MustCompile(`(?i)retry after (\d{1,9}) ?s`)

// lost follows the end of a connection or of an attempt, which e describes.
func (p *policy) lost(why string, e event) {
	at, after, record := e.at, e.after, p.record
	if p.up && at-p.opened >= p.Backoff.Stable {
		record.Failures = 0
	} else {
		record.Failures++
	}
	p.up = false
	p.queue = append(p.sent, p.queue...)
	for _, m := range p.sent {
		p.queued += m.bytes
	}
	p.sent = nil
	for p.full(0, 0) {
		p.drop(0, "oldest")
	}
	final := p.state == Closing || slices.Contains(p.Codes.Status, e.status)
	for _, r := range p.Codes.Terminal {
		final = final || e.code >= r[0] && e.code <= r[1]
	}
	if final {
		p.finish(why, e.code, e.reason, e.clean)
		return
	}
	if after < 0 {
		if found := advice.FindStringSubmatch(e.reason); found != nil {
			seconds, _ := strconv.ParseInt(found[1], 10, 64)
			after = seconds * 1000
		}
	}
	after = min(p.Backoff.MaxAfter, after)
	if after >= 0 {
		record.Hold = at + after
	}
	if record.Until != 0 || record.Misses >= p.Fuse.Misses || record.Failures >= p.Fuse.Failures {
		if p.Fuse.Trials > 0 && record.Trials >= p.Fuse.Trials {
			p.finish("melted", 4001, "melted", false)
			return
		}
		wait := double(p.Fuse.CoolDown, record.Trials, p.Fuse.MaxCoolDown)
		record.Trials++
		record.Until = max(at+wait, record.Hold) + p.spread(wait)
		if p.Reconnect {
			p.to(Melted, why, "cool", record.Until)
		}
	} else {
		paced := after >= 0 || slices.Contains(p.Codes.Drain, e.code)
		window := double(p.Backoff.Min, record.Failures, p.Backoff.Max)
		switch {
		case after >= 0:
			window = max(window, after)
		case paced:
			window = max(window, p.Backoff.Spread)
		}
		if p.Reconnect || paced {
			p.comeBack(at, why, window, paced)
		}
	}
	if !p.Reconnect {
		p.finish(why, e.code, e.reason, e.clean)
	}
}

// comeBack has the next attempt fall anywhere in a window. Windows follow each other without overlap, and not at the
// attempts: so the attempts of many clients stay level, where the sum of random waits would have a crest.
func (p *policy) comeBack(at int64, reason string, window int64, paced bool) {
	if p.offline && p.Reconnect {
		p.to(Offline, reason, "", 0)
		return
	}
	start := max(at, p.edge, p.record.Hold)
	next := start + p.spread(window)
	p.edge = start + window
	if paced {
		p.record.Hold = next
	}
	if p.Reconnect {
		p.to(Backoff, reason, "retry", next)
	}
}

func (p *policy) full(bytes, messages int) bool {
	return len(p.queue)+messages > p.Queue.Limit || p.queued+bytes > p.Queue.Bytes
}

func (p *policy) drop(i int, why string) {
	m := p.queue[i]
	p.queue = slices.Delete(p.queue, i, i+1)
	p.queued -= m.bytes
	p.tell(action{do: "drop", message: m, reason: why})
}

func (p *policy) write(m *message) {
	p.tell(action{do: "write", message: m})
	if p.Resend && p.asks() {
		p.sent = append(p.sent, m)
		if len(p.sent) > p.Queue.Limit {
			p.sent = slices.Delete(p.sent, 0, 1)
			p.mark--
		}
	}
}

func (p *policy) flush() {
	for _, m := range p.queue {
		p.write(m)
	}
	p.queue, p.queued = nil, 0
}

func (p *policy) fire(at int64, name string) {
	p.timer = ""
	if (name == "ping" || name == "pong") && at-p.due > p.Heartbeat.Late && !p.excused {
		p.excused = name == "pong" || !p.asks()
		p.probe(at, "late")
		return
	}
	switch name {
	case "ping":
		if p.seen+p.Heartbeat.Interval > at && len(p.sent) == 0 {
			p.arm(name, p.seen+p.Heartbeat.Interval)
		} else {
			p.ping(at, "interval")
		}
	case "pong":
		p.record.Misses++
		p.misses++
		if p.misses < p.Heartbeat.Misses && p.state != Trial {
			p.ping(at, "no pong")
			return
		}
		p.act(action{do: "close", code: 4001, reason: "no pong"})
		p.lost("no pong", event{at: at, code: 4001, reason: "no pong", after: -1})
	case "close", "connect":
		why := name + " timeout"
		p.act(action{do: "close", code: 4001, reason: why})
		p.lost(why, event{at: at, code: 1006, after: -1})
	default:
		if p.offline {
			p.to(Offline, "offline", "", 0)
		} else {
			p.connect(at, name)
		}
	}
}

func (p *policy) send(m *message) {
	switch {
	case p.over():
		p.tell(action{do: "drop", message: m, reason: "closed"})
		return
	case p.writes():
		p.write(m)
		return
	case !p.Reconnect:
		p.tell(action{do: "reject", message: m, reason: "not open"})
		return
	}
	for p.Queue.Policy == "oldest" && m.bytes <= p.Queue.Bytes && len(p.queue) > 0 && p.full(m.bytes, 1) {
		p.drop(0, "oldest")
	}
	switch {
	case !p.full(m.bytes, 1):
		p.queue = append(p.queue, m)
		p.queued += m.bytes
	case p.Queue.Policy == "reject":
		p.tell(action{do: "reject", message: m, reason: "full"})
	default:
		p.tell(action{do: "drop", message: m, reason: p.Queue.Policy})
	}
}

func (p *policy) take(e event) {
	at, record := e.at, p.record
	socket := p.up || p.dialling() || p.state == Closing
	switch e.kind {
	case "start":
		switch {
		case record.Until > at:
			p.to(Melted, e.kind, "cool", record.Until)
		case record.Hold > at:
			p.to(Backoff, e.kind, "retry", record.Hold)
		default:
			p.connect(at, e.kind)
		}
	case "open":
		if !p.dialling() {
			break
		}
		p.up, p.offline = true, false
		p.opened, p.seen = at, at
		if !p.asks() {
			record.Until = 0 // there is no better proof to be had
		}
		if p.asks() && (record.Until != 0 || p.misses > 0) {
			p.ping(at, e.kind)
		} else {
			p.idle(at, e.kind)
		}
		p.tell(action{do: "open"})
		p.flush()
	case "pong":
		if p.up && p.pings > 0 {
			p.pong(e)
		}
		p.alive(at, e.kind)
	case "message":
		p.alive(at, e.kind)
	case "error":
		if socket {
			p.lost(e.kind, event{at: at, code: 1006, after: -1})
		}
	case "close":
		if socket {
			p.lost("close "+strconv.Itoa(e.code), event{at: at, code: e.code, reason: e.reason, clean: e.clean, after: -1})
		}
	case "refused":
		if socket {
			p.lost("status "+strconv.Itoa(e.status), event{at: at, code: 1006, status: e.status, after: e.after})
		}
	case "advice":
		if !p.up || p.over() {
			break
		}
		p.act(action{do: "close", code: 1000, reason: e.kind})
		p.lost(e.kind, event{at: at, code: 1012, clean: true, after: e.after})
	case "timer":
		if e.name == p.timer {
			p.fire(at, e.name)
		}
	case "offline":
		p.offline = true
		if !p.over() && (p.up || p.state == Backoff) {
			p.to(Offline, e.kind, "", 0)
		}
	case "online":
		p.offline = false
		switch {
		case p.over() || p.dialling():
		case p.up:
			p.probe(at, e.kind)
		case p.state == Melted:
			record.Until = max(at, record.Hold) + p.spread(p.Backoff.Min)
			p.to(Melted, e.kind, "cool", record.Until)
		default:
			record.Failures, p.edge = 0, 0
			p.comeBack(at, e.kind, p.Backoff.Min, false)
		}
	case "hidden", "visible", "wake":
		p.hidden = e.kind == "hidden"
		if p.hidden || e.kind == "visible" && at-p.seen < p.Heartbeat.Timeout {
			break
		}
		if p.up && !p.over() && p.state != Offline {
			p.probe(at, e.kind)
		} else if p.state == Backoff && record.Hold <= at {
			p.connect(at, e.kind)
		}
	case "send":
		p.send(e.message)
	case "cancel":
		if i := slices.Index(p.queue, e.message); i >= 0 {
			p.drop(i, e.kind)
		}
	case "shut":
		switch {
		case p.over():
		case socket:
			p.act(action{do: "shut", code: e.code, reason: e.reason})
			p.to(Closing, e.kind, "close", at+p.CloseTimeout)
		case e.code == 0:
			p.finish(e.kind, 1005, e.reason, true)
		default:
			p.finish(e.kind, e.code, e.reason, true)
		}
	case "abort":
		if p.state == Closed {
			break
		}
		if socket {
			p.act(action{do: "close", code: 1000, reason: e.kind})
		}
		p.finish(e.kind, 1000, e.kind, true)
	}
}

// pong takes the answer to a ping that is out: as a measurement if it can be told which, as a confirmation if it is to
// the last.
func (p *policy) pong(e event) {
	ts := e.ts
	if !e.hasTS {
		ts = -1
		if p.pings == 1 {
			ts = p.last
		}
	}
	if ts >= p.first && ts <= p.last {
		p.measure(float64(max(e.at-ts, 1)))
	}
	if ts == p.last {
		p.sent = slices.Delete(p.sent, 0, p.mark)
		p.mark = 0
	}
	p.pings--
}
