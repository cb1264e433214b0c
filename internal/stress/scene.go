package stress

import (
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// scene is a scenario under way: a fleet, and what its clients share. Its fields are frozen but for those of the last groups.
type scene struct {
	Scenario
	begin    time.Time // of the run: all times are since then; set before clients are told anything
	run      uint64    // what tells this run's publications from others'
	timeout  time.Duration
	token    string
	fleet    *fleet.Fleet
	most     int     // conns at a time
	dialect  dialect // nil: raw messages, or HTTP
	request  []byte  // HTTP
	inFlight int     // exchanges that a client may have under way
	peak     int64   // most conns open at a time; the run's goroutine looks
	unsent   int64   // exchanges that were due and could not be sent; the run's goroutine counts them
	byID     bool    // replies say which exchange they belong to

	// Shared.
	pace    atomic.Pointer[pace] // open model: when exchanges are due; nil: none are
	stopped atomic.Bool          // no further exchange is begun
	counters
	subscribers []atomic.Int64 // by channel

	mu        sync.Mutex
	errors    map[string]int64 // guarded by mu: exchanges and sessions that failed, by kind
	detection Distribution     // guarded by mu
}

// counters of a scene. Loops write, anybody reads.
type counters struct {
	sent, done, failed, delivered, expected, late atomic.Int64
	underWay                                      atomic.Int64 // exchanges
}

// pace is the arrivals of the open model from a time on. Squads take them in turns: whoever is free takes the next.
type pace struct {
	begin time.Duration
	rate  Curve
	seed  uint64
	next  atomic.Int64
}

// now is the time since the run began.
func (s *scene) now() time.Duration { return time.Since(s.begin) }

// exchanges tells whether clients have exchanges under way.
func (c *Scenario) exchanges() bool {
	switch c.Kind {
	case HTTPKind, EchoKind, RequestKind, PublishKind:
		return true
	}
	return false
}

// refills tells whether conns that are over are replaced.
func (c *Scenario) refills() bool {
	switch c.Kind {
	case HTTPKind, EchoKind, RequestKind, PublishKind, ChurnKind, StormKind:
		return !c.onDemand()
	}
	return false
}

// onDemand tells whether each exchange opens a conn of its own.
func (c *Scenario) onDemand() bool { return c.Kind == HTTPKind && c.PerRequest }

// speaks tells whether clients say anything by themselves.
func (c *Scenario) speaks() bool {
	return c.exchanges() || c.Kind == ChurnKind || c.Kind == HalfOpenKind || c.Protocol == Centrifuge || c.Channel != ""
}

// subscribes tells whether clients subscribe to a channel.
func (c *Scenario) subscribes() bool { return c.Channel != "" }

// channel is the name of channel k.
func (c *Scenario) channel(k int) string {
	if c.Channels <= 1 {
		return c.Channel
	}
	return c.Channel + strconv.Itoa(k)
}

// note counts what went wrong, by kind.
func (s *scene) note(kind string) { s.noteMany(kind, 1) }

func (s *scene) noteMany(kind string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.errors == nil {
		s.errors = make(map[string]int64)
	}
	if _, ok := s.errors[kind]; !ok && len(s.errors) >= 100 {
		kind = "other"
	}
	s.errors[kind] += n
}

// speak makes the part of one loop.
func (s *scene) speak(q fleet.Squad) fleet.Speaker {
	p := &part{s: s, q: q, recorder: new(Recorder), spare: new(Recorder), due: never}
	p.ring = p.wake
	p.user = make([]user, q.Count)
	if s.exchanges() {
		p.slot = make([]exchange, q.Count*s.inFlight)
	}
	p.free.users = make([]uint32, 0, 64)
	p.read = p.event
	return p
}

const (
	never     = time.Duration(math.MaxInt64)
	scanEvery = 100 * time.Millisecond // how often what is under way is held against the timeout
	wakeBatch = 512                    // exchanges that are begun before the loop reads again
	lateAfter = time.Millisecond
)

// part is the clients of a scene on one loop. All of it belongs to the loop's thread, but the recorder, which is handed over
// by swap.
type part struct {
	s *scene
	q fleet.Squad

	user  []user     // by number - First
	slot  []exchange // inFlight for each user
	free  queue      // users that may begin an exchange, open model
	since time.Duration
	timed timetable // users by when something is due

	pace  *pace
	pacer *Pacer
	due   time.Duration // of the next arrival, as far as known

	busy, greeting int // exchanges under way, and users whose session is being made
	level, running int // on demand: users that are wanted, and that have an exchange under way
	resting        int // on demand and closed: users whose next exchange is due later

	recorder, spare *Recorder
	scan            time.Duration
	armed           time.Duration // when the alarm is set for; 0: it is not
	ring            func()
	out, data       []byte
	read            func(event)
	at              fleet.Client // whose message read is called for
	pong            []byte       // the message itself, if it is to be answered by the same
}

// user is a client. It has no pointers.
type user struct {
	next   uint32 // sequence number of its next exchange
	busy   uint16 // exchanges under way
	queued uint16 // times in the queue of those that are free
	state  userState
	step   uint8         // of its session: the replies that are awaited before it is ready
	at     time.Duration // since when it is in its state
}

type userState uint8

const (
	away    userState = iota
	greets            // its session is being made
	ready             // it may begin exchanges
	dialled           // on demand: its exchange waits for the conn
	mute              // half-open
)

// exchange is one under way.
type exchange struct {
	due, sent time.Duration
	seq       uint32
	open      bool
}

// Opened implements fleet.Speaker.
func (p *part) Opened(c fleet.Client) {
	u := p.of(c.Number)
	s := p.s
	if s.onDemand() {
		u.state = ready
		c.Say(0, s.request)
		return
	}
	u.state, u.step, u.at = greets, 0, s.now()
	p.greeting++
	if s.dialect != nil {
		p.out = s.dialect.hello(p.out[:0], s.token)
		if len(p.out) > 0 {
			u.step++
			c.Say(ws.OpText, p.out)
		}
		if s.subscribes() {
			u.step++
			// Behind the hello at once: a client that reads slowly hears no reply for long.
			p.out = s.dialect.subscribe(p.out[:0], 2, s.channel(c.Number%max(1, s.Channels)))
			c.Say(ws.OpText, p.out)
		}
		p.arm(scanEvery)
	}
	if u.step == 0 {
		p.ready(c, u)
	}
	if s.Kind == SlowKind && u.state == greets { // it hears no reply for long
		u.state = ready
		p.greeting--
	}
}

// ready has a client begin what it is there for.
func (p *part) ready(c fleet.Client, u *user) {
	s := p.s
	now := s.now()
	u.state, u.at = ready, now
	p.greeting--
	if s.Kind == PublishKind {
		s.subscribers[c.Number%s.Channels].Add(1)
	}
	switch {
	case s.Kind == ChurnKind && s.stopped.Load(): // it stays for the end
	case s.Kind == ChurnKind && s.Lifetime == 0:
		c.Close()
	case s.Kind == ChurnKind:
		p.schedule(c.Number, now+s.Lifetime)
	case s.Kind == HalfOpenKind && s.After == 0:
		p.silence(c, u, now)
	case s.Kind == HalfOpenKind:
		p.schedule(c.Number, now+s.After)
	case !s.exchanges() || s.Kind == PublishKind && c.Number >= s.Publishers:
	case s.Model == OpenModel:
		for range s.inFlight {
			p.offer(c.Number, u)
		}
		p.arrivals(now)
		p.rearm(now)
	default:
		closed := Closed{Every: s.Every, Think: s.Think}
		for k := range s.inFlight {
			if due := now + closed.First(c.Number*s.inFlight+k, s.most*s.inFlight); due > now {
				p.schedule(c.Number, due)
			} else {
				p.start(c, u, now, now)
			}
		}
	}
}

func (p *part) silence(c fleet.Client, u *user, now time.Duration) {
	u.state, u.at = mute, now
	c.Mute()
}

func (p *part) of(n int) *user { return &p.user[n-p.q.First] }

// offer puts a user into the queue of those that may begin an exchange.
func (p *part) offer(n int, u *user) {
	if int(u.queued)+int(u.busy) < p.s.inFlight && u.state == ready {
		if u.queued++; p.free.len() == 0 {
			p.since = p.s.now()
		}
		p.free.push(uint32(n))
	}
}

// start begins an exchange of a client that stands.
func (p *part) start(c fleet.Client, u *user, due, now time.Duration) {
	s := p.s
	if s.stopped.Load() {
		return
	}
	base := (c.Number - p.q.First) * s.inFlight
	for p.slot[base+int(u.next)%s.inFlight].open { // one that overtook the others is answered
		u.next++
	}
	seq := u.next
	u.next++
	u.busy++
	p.busy++
	p.slot[base+int(seq)%s.inFlight] = exchange{due: due, sent: now, seq: seq, open: true}
	s.sent.Add(1)
	s.underWay.Add(1)
	if s.Model == OpenModel && now-due > lateAfter && p.since < due {
		s.late.Add(1)
	}
	id := uint64(seq) + 16
	switch {
	case s.Kind == HTTPKind:
		c.Say(0, s.request)
	case s.dialect == nil:
		op := ws.OpText
		if s.Binary {
			op = ws.OpBinary
		}
		p.out = p.raw(p.out[:0], seq)
		c.Say(op, p.out)
	case s.Kind == PublishKind:
		k := c.Number % s.Channels
		p.data = appendStamp(p.data[:0], stamp{s.run, int64(due), int64(now)}, s.Size)
		p.out = s.dialect.publish(p.out[:0], id, s.channel(k), p.data)
		s.expected.Add(s.subscribers[k].Load())
		c.Say(ws.OpText, p.out)
	default:
		p.out = s.dialect.request(p.out[:0], id, s.Size)
		c.Say(ws.OpText, p.out)
	}
	p.arm(scanEvery)
}

// rawHead is the digits that begin a raw message that is long enough for them: the sequence number.
const rawHead = 10

// raw writes a message of no protocol.
func (p *part) raw(dst []byte, seq uint32) []byte {
	begin := len(dst)
	if p.s.byID {
		var d [rawHead]byte
		for i := range d {
			d[rawHead-1-i] = '0' + byte(seq%10)
			seq /= 10
		}
		dst = append(dst, d[:]...)
	}
	return appendLetters(dst, p.s.Size-(len(dst)-begin))
}

// Heard implements fleet.Speaker.
func (p *part) Heard(c fleet.Client, _ ws.Opcode, payload []byte) {
	s := p.s
	if s.dialect != nil {
		p.at, p.pong = c, payload
		s.dialect.read(payload, p.read)
		p.at, p.pong = fleet.Client{}, nil
		return
	}
	if !s.exchanges() {
		return
	}
	u := p.of(c.Number)
	if !s.byID {
		p.answered(c, u, u.next-uint32(u.busy), "")
		return
	}
	seq, n := digitsOf(payload[:min(len(payload), rawHead)])
	if n != rawHead || len(payload) != s.Size {
		s.note("wrong_echo")
		return
	}
	p.answered(c, u, uint32(seq), "")
}

// event takes a thing that the server said to the client p.at.
func (p *part) event(e event) {
	s, c := p.s, p.at
	u := p.of(c.Number)
	switch e.kind {
	case eventPing:
		c.Say(ws.OpText, p.pong)
	case eventPublication:
		if st, ok := readStamp(e.data, s.run); ok && s.Kind == PublishKind {
			s.delivered.Add(1)
			p.recorder.Record(time.Duration(st.due), time.Duration(st.sent), s.now())
		}
	case eventReply:
		if e.id < 16 {
			if u.step > 0 {
				if u.step--; u.step == 0 && u.state == greets {
					p.ready(c, u)
				}
			}
			return
		}
		p.answered(c, u, uint32(e.id-16), "")
	case eventError:
		why := "error_" + strconv.Itoa(e.code)
		if e.id < 16 {
			s.note("session_" + why)
			c.Close()
			return
		}
		p.answered(c, u, uint32(e.id-16), why)
	case eventUnknown:
		s.note("unknown_message")
	}
}

// Answered implements fleet.Answerer.
func (p *part) Answered(c fleet.Client, status int) {
	u := p.of(c.Number)
	why := ""
	if status >= 400 {
		why = "http_" + strconv.Itoa(status)
	}
	if u.busy == 0 {
		p.s.note("unsolicited_answer")
		c.Close()
		return
	}
	p.answered(c, u, u.next-uint32(u.busy), why)
	if p.s.onDemand() {
		c.Close()
	}
}

// answered ends an exchange; why is the kind of its failure.
func (p *part) answered(c fleet.Client, u *user, seq uint32, why string) {
	s := p.s
	x := &p.slot[(c.Number-p.q.First)*s.inFlight+int(seq)%s.inFlight]
	if !x.open || x.seq != seq {
		return // given up before
	}
	now := s.now()
	due := x.due
	if now-x.sent > s.timeout {
		p.giveUp(x, u, x.sent+s.timeout, "timeout")
	} else {
		x.open = false
		u.busy--
		p.busy--
		s.underWay.Add(-1)
		if s.Kind != PublishKind { // there, deliveries are timed
			p.recorder.Record(x.due, x.sent, now)
		}
		if why == "" {
			s.done.Add(1)
		} else {
			s.failed.Add(1)
			s.note(why)
		}
	}
	p.again(c, u, due, now)
}

// giveUp ends an exchange that had no answer.
func (p *part) giveUp(x *exchange, u *user, at time.Duration, why string) {
	x.open = false
	u.busy--
	p.busy--
	p.s.underWay.Add(-1)
	p.s.failed.Add(1)
	if why != "" {
		p.s.note(why)
	}
	if p.s.Kind != PublishKind {
		p.recorder.GiveUp(x.due, x.sent, at)
	}
}

// again has a client begin what follows an exchange that is over.
func (p *part) again(c fleet.Client, u *user, due, now time.Duration) {
	s := p.s
	if u.state != ready || !c.Stands() || s.stopped.Load() || s.onDemand() {
		return
	}
	if s.Model == OpenModel {
		p.offer(c.Number, u)
		if p.due <= now || p.due == never { // never: there was nobody to look for one
			p.arrivals(now)
			p.rearm(now)
		}
		return
	}
	closed := Closed{Every: s.Every, Think: s.Think}
	if next := closed.Next(due, now); next > now {
		p.schedule(c.Number, next)
	} else {
		p.start(c, u, next, now)
	}
}

// Gone implements fleet.Speaker.
func (p *part) Gone(n int) {
	s, u := p.s, p.of(n)
	now := s.now()
	failed := u.state == dialled
	switch {
	case u.state == greets:
		p.greeting--
	case u.state == ready && s.Kind == PublishKind:
		s.subscribers[n%s.Channels].Add(-1)
	}
	if u.state == mute {
		s.mu.Lock()
		s.detection.Record(now - u.at)
		s.mu.Unlock()
	}
	if u.busy > 0 {
		why := "lost"
		if u.state == dialled {
			why = "" // the fleet counted why the conn did not stand
		}
		for k := range s.inFlight {
			if x := &p.slot[(n-p.q.First)*s.inFlight+k]; x.open {
				p.giveUp(x, u, min(now, x.sent+s.timeout), why)
			}
		}
	}
	u.state, u.busy, u.step = away, 0, 0
	if !s.onDemand() {
		return
	}
	p.running--
	closed := Closed{Every: s.Every, Think: s.Think}
	next := now
	if s.Model == ClosedModel {
		next = closed.Next(p.slot[n-p.q.First].due, now)
	}
	switch {
	case failed:
		p.arm(scanEvery) // whoever cannot be reached is not called without end
	case next > now:
		p.resting++
		p.schedule(n, next)
	case next < now && p.running+p.resting < p.level && !s.stopped.Load():
		if !p.call(next, now) { // what it took longer delays the next one
			p.arm(scanEvery)
		}
	default:
		p.fillUp(now)
	}
}

// Level implements fleet.Leveller.
func (p *part) Level(n int) {
	p.level = n
	p.fillUp(p.s.now())
}

// fillUp has users of conns on demand begin exchanges up to the level.
func (p *part) fillUp(now time.Duration) {
	if p.s.Model == OpenModel {
		p.arrivals(now)
		p.rearm(now)
		return
	}
	for p.running+p.resting < p.level && !p.s.stopped.Load() {
		if !p.call(now, now) {
			p.arm(scanEvery) // no port, no descriptor: the next look tries again
			return
		}
	}
}

// call begins an exchange that opens its own conn.
func (p *part) call(due, now time.Duration) bool {
	s := p.s
	n, err := p.q.Dial()
	if err != nil {
		return false
	}
	u := p.of(n)
	u.state, u.at, u.busy = dialled, now, 1
	seq := u.next
	u.next++
	p.slot[n-p.q.First] = exchange{due: due, sent: now, seq: seq, open: true}
	p.running++
	s.sent.Add(1)
	s.underWay.Add(1)
	p.busy++
	p.arm(scanEvery)
	return true
}

// arrivals begins the exchanges of the open model that are due, as far as clients are free for them.
func (p *part) arrivals(now time.Duration) {
	s := p.s
	w := s.pace.Load()
	if p.due = never; w == nil || s.stopped.Load() {
		return
	}
	if p.pace != w {
		p.pace, p.pacer = w, NewPacer(w.rate, s.Spacing, w.seed)
	}
	for batch := 0; ; batch++ {
		var c fleet.Client
		if s.onDemand() {
			if p.running >= p.level {
				return
			}
		} else if !p.nextFree(&c) {
			return
		}
		n := w.next.Load()
		due, ok := p.pacer.Due(n)
		if !ok {
			return
		}
		if due += w.begin; due > now || batch == wakeBatch {
			p.due = due
			return
		}
		if !w.next.CompareAndSwap(n, n+1) {
			continue
		}
		if s.onDemand() {
			if !p.call(due, now) {
				s.sent.Add(1)
				s.failed.Add(1)
				p.recorder.Unsent(due, now)
				p.arm(scanEvery)
				return
			}
			continue
		}
		u := p.of(c.Number)
		p.free.pop()
		u.queued--
		p.start(c, u, due, now)
	}
}

// nextFree is the client at the head of the queue of free ones; those that may not begin any more leave it.
func (p *part) nextFree(c *fleet.Client) bool {
	for p.free.len() > 0 {
		n := int(p.free.head())
		u := p.of(n)
		var ok bool
		if *c, ok = p.q.Client(n); ok && u.state == ready && int(u.busy) < p.s.inFlight {
			return true
		}
		p.free.pop()
		u.queued--
	}
	return false
}

// schedule has something happen to a user later.
func (p *part) schedule(n int, at time.Duration) {
	p.timed.add(at, uint32(n))
	p.rearm(p.s.now())
}

// wake is called by the alarm.
func (p *part) wake() {
	now := p.s.now()
	p.armed = 0
	for batch := 0; batch < wakeBatch; batch++ {
		n, at, ok := p.timed.next(now)
		if !ok {
			break
		}
		p.turn(int(n), at, now)
	}
	if p.s.onDemand() {
		p.fillUp(now)
	} else if p.s.Model == OpenModel {
		p.arrivals(now)
	}
	if now >= p.scan {
		p.expire(now)
		p.scan = now + scanEvery
	}
	p.rearm(now)
}

// turn is when something is due for a user.
func (p *part) turn(n int, due, now time.Duration) {
	if p.s.onDemand() {
		p.resting-- // wake begins the exchange
		return
	}
	u := p.of(n)
	c, ok := p.q.Client(n)
	if !ok || u.state != ready {
		return
	}
	switch p.s.Kind {
	case ChurnKind:
		if now >= u.at+p.s.Lifetime && !p.s.stopped.Load() { // else it is another conn's turn
			c.Close()
		}
	case HalfOpenKind:
		if now >= u.at+p.s.After {
			p.silence(c, u, now)
		}
	default:
		if int(u.busy) < p.s.inFlight {
			p.start(c, u, due, now)
		}
	}
}

// expire gives up what is beyond the timeout.
func (p *part) expire(now time.Duration) {
	s := p.s
	if p.busy+p.greeting == 0 {
		return
	}
	for k := range p.user {
		u := &p.user[k]
		n := p.q.First + k
		switch {
		case u.state == greets && now-u.at > s.timeout && s.Kind != SlowKind:
			if c, ok := p.q.Client(n); ok {
				s.note("session_timeout")
				u.state = away
				p.greeting--
				c.Close()
			}
			continue
		case u.busy == 0:
			continue
		}
		for i := range s.inFlight {
			x := &p.slot[k*s.inFlight+i]
			if !x.open || now-x.sent <= s.timeout {
				continue
			}
			due := x.due
			p.giveUp(x, u, x.sent+s.timeout, "timeout")
			c, ok := p.q.Client(n)
			switch {
			case !ok: // its conn is still being opened, and has the same time for it
			case s.byID:
				p.again(c, u, due, now)
			default:
				c.Close() // an answer that comes now would be taken for the next one's
			}
		}
	}
}

// arm sets the alarm for at most d from now.
func (p *part) arm(d time.Duration) {
	at := p.s.now() + d
	if p.armed != 0 && p.armed <= at {
		return
	}
	p.armed = at
	p.q.SetAlarm(d, p.ring)
}

// rearm sets the alarm for what is due next.
func (p *part) rearm(now time.Duration) {
	at := min(p.due, p.timed.first())
	if p.busy+p.greeting > 0 || p.running+p.resting < p.level {
		at = min(at, now+scanEvery)
	}
	if at != never {
		p.arm(max(0, at-now))
	}
}

// begin has a new pace noticed. It is called on the loop's thread.
func (p *part) begin() {
	now := p.s.now()
	p.arrivals(now)
	p.rearm(now)
}
