package checker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	fdelta "github.com/shadowspore/fossil-delta"

	"github.com/longwire/longwire/ws"
)

// client is one simulated subscriber: it connects, subscribes, reads, comes to grief and comes back, until the run is over.
// It belongs to its goroutine.
type client struct {
	r       *run
	number  int
	rnd     *rand.Rand
	codec   codec
	deflate bool
	frames  bool // wants WebSocket pings
	large   bool // gets large publications, and stalls for long
	lenient bool // is in channels alone where who is slow loses publications, and never its connection
	by      by   // who subscribes it
	steady  bool // never does anything but read
	subs    []*sub
	byName  map[string]*sub

	told    int32        // the phases up to here: see tell
	stalled map[int]bool // by life
	paused  atomic.Bool  // it stalls at the moment
	life    int

	// Of the connection.
	conn    *conn
	id      string // of the session
	up      bool   // connected, by the protocol
	ids     uint32 // given to commands
	pending map[uint32]pending
	out     []byte // commands that leave together
	turn    int    // messages until the next action
	retries int
	doomed  map[ws.StatusCode]bool // codes that it asked for
	asked   time.Time              // when the server was asked last for a subscription
}

// by is who makes the subscriptions of a client.
type by uint8

const (
	bySelf  by = iota
	byAPI      // the server, when the application asks for it
	byToken    // the server, when it connects: its token names the channels
)

// sub is a channel that a client wants.
type sub struct {
	Track
	kind    namespace
	state   subState
	asked   bool // for recovery, in the subscribe that is under way
	delta   bool // this subscription has deltas
	base    []byte
	spans   int
	index   int          // of its channel
	seen    atomic.Int64 // publications of the channel, up to the last that came
	online  atomic.Bool  // for those who look from outside: it is live
	endless bool         // its span began before the last publications were made, so that it must have them
}

// ended notes that there is no subscription any more.
func (s *sub) ended(why string) {
	s.Ended(why)
	s.state = subIdle
	s.online.Store(false)
}

type subState uint8

const (
	subIdle subState = iota
	subAsked
	subLive
	subLeaving
)

// pending is a command that was not answered yet.
type pending struct {
	method method
	sub    *sub
	number uint64 // publish
	spans  int    // publish: of its sub
}

// tell tells the run, once in a phase, that it need not wait for this client any longer.
func (c *client) tell(phase int32) {
	for ; c.told <= min(phase, phaseSettling); c.told++ {
		c.r.ready[c.told] <- struct{}{}
	}
}

// live is the whole life.
func (c *client) live() {
	defer c.tell(phaseFinal)
	for refused := 0; ; {
		c.life++
		conn, err := c.dial()
		if err != nil {
			if refused++; refused > 20 {
				c.r.violate(&Violation{Kind: Ended, Client: c.number, Detail: "cannot connect: " + err.Error()})
				return
			}
			continue
		}
		refused = 0
		c.r.count.conns.Add(1)
		done := c.session(conn)
		conn.close()
		for _, s := range c.subs {
			s.ended("cut")
		}
		if done {
			return
		}
	}
}

func (c *client) dial() (*conn, error) {
	d := ws.Dial{Deflate: c.deflate}
	path, more := "/connection/websocket", ""
	switch {
	case c.codec == codecPlain:
		path = "/ws"
	case c.codec == codecProtobuf && c.rnd.IntN(2) == 0:
		more = "&format=protobuf"
	case c.codec == codecProtobuf:
		d.Subprotocols = []string{"centrifuge-protobuf"}
	}
	if c.frames && c.codec != codecPlain {
		more += "&cf_ws_frame_ping_pong=true"
	}
	d.Target = target(path, c.number, c.life, more)
	return dial(c.r.gateway.Load().addr, d, c.large)
}

// say puts a command into the next message.
func (c *client) say(cmd *command, p pending) error {
	c.ids++
	cmd.id, p.method = c.ids, cmd.method
	c.pending[cmd.id] = p
	c.out = c.codec.appendCommand(c.out, cmd)
	if c.codec == codecPlain || c.rnd.IntN(3) > 0 {
		return c.flush()
	}
	return nil
}

// flush sends the commands that were put together.
func (c *client) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	op := ws.OpText
	if c.codec == codecProtobuf {
		op = ws.OpBinary
	}
	err := c.conn.write(op, c.out)
	c.out = c.out[:0]
	return err
}

// errAnew ends a connection whose client has to make another one.
var errAnew = errors.New("connect anew")

// connect says who it is, and where its server-side subscriptions stood.
func (c *client) connect() error {
	cmd := &command{method: doConnect}
	if c.by == byToken {
		cmd.token = token(c.subs)
		for _, s := range c.subs {
			s.asked = false
			if since, ok := s.Since(); ok && c.rnd.IntN(5) > 0 {
				s.asked = true
				cmd.recovers = append(cmd.recovers, recovery{s.Channel, since.Epoch, since.Offset})
			}
			s.state = subAsked
		}
	}
	return c.say(cmd, pending{})
}

// subscribe asks for the channels that are idle.
func (c *client) subscribe() error {
	for _, s := range c.subs {
		if s.state != subIdle {
			continue
		}
		switch {
		case c.by == byToken:
			return errAnew
		case c.by == byAPI && c.id == "":
			continue // until it has a session
		case c.by == byAPI:
			since, known := s.Since()
			s.asked = known && c.rnd.IntN(5) > 0
			s.state, c.asked = subAsked, time.Now()
			if err := c.r.subscribeAs(c.id, s.Channel, s.kind != namespaceLive, since, s.asked); err != nil {
				return err
			}
			continue
		}
		cmd := &command{method: doSubscribe, channel: s.Channel, delta: s.kind == namespaceDelta && c.codec != codecPlain}
		if s.kind != namespaceLive {
			cmd.recoverable = c.number%7 != 0 // the others only position, or not even that
			cmd.positioned = c.number%2 == 0
		}
		s.asked = false
		if since, ok := s.Since(); ok && (cmd.recoverable || c.codec == codecPlain) && (c.steady || c.rnd.IntN(5) > 0) {
			s.asked, cmd.recover, cmd.offset, cmd.epoch = true, true, since.Offset, since.Epoch
		}
		s.state = subAsked
		if err := c.say(cmd, pending{sub: s}); err != nil {
			return err
		}
	}
	return c.flush()
}

// tokenSecret is what the application signs its tokens with.
const tokenSecret = "checker"

// token is one of the crowd's user, with these subscriptions, all of which are recoverable where their channel is.
func token(subs []*sub) string {
	claims := map[string]any{"sub": crowdUser}
	channels := make(map[string]any)
	for _, s := range subs {
		channels[s.Channel] = map[string]any{"override": map[string]any{"force_recovery": map[string]any{"value": s.kind != namespaceLive}}}
	}
	claims["subs"] = channels
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err) // of our own data
	}
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(`{"alg":"HS256"}`)) + "." + enc(body)
	mac := hmac.New(sha256.New, []byte(tokenSecret))
	mac.Write([]byte(signed))
	return signed + "." + enc(mac.Sum(nil))
}

// session is one connection. It reports whether the client is done for good.
func (c *client) session(conn *conn) (done bool) {
	c.conn, c.up, c.id, c.ids, c.pending, c.out = conn, false, "", 0, make(map[uint32]pending), nil
	c.retries, c.doomed = 0, nil
	c.nextTurn()
	if c.codec == codecPlain {
		c.up = true
	} else if c.connect() != nil {
		return false
	}
	if c.up || c.by == bySelf && c.rnd.IntN(2) == 0 { // at once, without waiting for the reply
		if c.subscribe() != nil {
			return false
		}
	} else if c.flush() != nil {
		return false
	}
	for {
		if over, done := c.progress(); over {
			return done
		}
		ev, err := conn.next(time.Now().Add(c.r.patience + time.Duration(c.rnd.Int64N(int64(c.r.patience)))))
		switch {
		case err != nil:
			if f := (frameError{}); errors.As(err, &f) {
				c.violate(Broken, "a frame: %v", err)
			}
			return false
		case ev.Op == ws.NoEvent:
			c.turn--
		case ev.Op == ws.OpPing:
			c.conn.out = ws.AppendFrame(c.conn.out[:0], ws.Client, ws.OpPong, ev.Payload, maskKey)
			if conn.flush(len(conn.out)) != nil {
				return false
			}
		case ev.Op == ws.OpClose:
			c.closed(ev)
			return false
		case ev.Op.Data():
			if !c.take(ev.Payload) {
				return false
			}
			c.turn--
			c.r.moved()
		}
		if c.flush() != nil {
			return false
		}
		if c.overdue() {
			c.r.count.cuts.Add(1)
			return false
		}
		if c.turn <= 0 && c.up {
			c.nextTurn()
			if !c.steady && c.r.phase.Load() == phaseRunning && !c.act() {
				return false
			}
		}
	}
}

// overdue reports whether the server was asked for a subscription and has not made it: it tells nobody why.
func (c *client) overdue() bool {
	if c.by != byAPI || time.Since(c.asked) < 10*c.r.patience {
		return false
	}
	return slices.ContainsFunc(c.subs, func(s *sub) bool { return s.state == subAsked })
}

func (c *client) nextTurn() { c.turn = 1 + c.rnd.IntN(2*c.r.o.Calm) }

// progress tells the run how far the client is. over means that the connection has no further purpose.
func (c *client) progress() (over, done bool) {
	ready := true
	for _, s := range c.subs {
		ready = ready && s.state == subLive
	}
	phase := c.r.phase.Load()
	if phase == phaseRunning {
		return false, false
	}
	if ready {
		c.tell(phase)
	}
	switch {
	case c.r.late.Load():
		for _, s := range c.subs {
			if v := s.Complete(); v != nil && (s.positioned || s.endless || !s.Live()) {
				c.r.violate(v)
			}
		}
		return true, true
	case !ready || phase != phaseFinal:
		return false, false
	}
	for _, s := range c.subs {
		if (s.positioned || s.endless) && s.Complete() != nil {
			return false, false
		}
	}
	// All is there. Nothing may come on top of it.
	if c.conn.closeFrame(ws.StatusNormalClosure) != nil {
		return true, true
	}
	for {
		ev, err := c.conn.next(time.Now().Add(c.r.patience))
		if err != nil || ev.Op == ws.NoEvent || ev.Op == ws.OpClose {
			return true, true
		}
		if ev.Op.Data() && !c.take(ev.Payload) {
			return true, true
		}
	}
}

// maySlow reports whether the gateway may call the client slow in that life: where it stalled, and always where it gets large
// publications, of which the queue holds none. Never where they are to be dropped instead.
func (c *client) maySlow(life int) bool { return !c.lenient && (c.large || c.stalled[life]) }

// insufficient is the close code of a server-side subscription that is told of a gap.
const insufficient = 3010

// closed judges a close frame of the server, and answers it.
func (c *client) closed(ev ws.Event) {
	_ = c.conn.closeFrame(ev.Code)
	switch {
	case c.doomed[ev.Code]:
	case ev.Code == crowdCode && c.by == byToken && c.r.count.crowds.Load() > 0:
	case (ev.Code == 3001 || ev.Code == ws.StatusGoingAway) && c.r.count.drains.Load() > 0:
	case ev.Code == insufficient && c.by != bySelf:
		c.r.count.insufficient.Add(1)
		if c.r.o.Faults.Lose == 0 && c.r.count.restarts.Load() == 0 {
			c.r.violate(&Violation{Kind: Needless, Client: c.number, Detail: "told of a gap, and none can be"})
		}
	case ev.Code == 3008 && c.maySlow(c.life):
	case (ev.Code == 3012 || ev.Code == ws.StatusPolicyViolation) && c.stalled[c.life]: // slow, no pong
	default:
		c.violate(Ended, "closed with %d %q", ev.Code, ev.Payload)
	}
}

func (c *client) violate(k Kind, format string, args ...any) {
	c.r.violate(&Violation{Kind: k, Client: c.number, Detail: fmt.Sprintf(format, args...)})
}

// take handles one message of the server. It reports false if the connection is of no use any more.
func (c *client) take(payload []byte) bool {
	list, err := c.codec.decode(payload)
	if err != nil {
		c.violate(Broken, "a message: %v", err)
		return false
	}
	for i := range list {
		if c.r.o.spoil != nil {
			c.r.o.spoil(&list[i])
		}
		if err := c.message(&list[i]); err != nil {
			if p := (protocolError{}); errors.As(err, &p) {
				c.violate(Broken, "%v", err)
			}
			return false
		}
	}
	return true
}

// protocolError is a message that makes no sense.
type protocolError struct{ error }

func nonsense(format string, args ...any) error { return protocolError{fmt.Errorf(format, args...)} }

func (c *client) message(m *message) error {
	switch m.kind {
	case gotPing:
		c.out = c.codec.appendCommand(c.out, &command{method: doPong})
		return c.flush()
	case gotPublication:
		s := c.byName[m.channel]
		if s == nil {
			return nonsense("a publication of channel %q", m.channel)
		}
		for i := range m.publications {
			if err := c.publication(s, &m.publications[i]); err != nil {
				return err
			}
		}
		return nil
	case gotOther:
		return nil
	}
	if m.id == 0 {
		s := c.byName[m.channel]
		switch {
		case s == nil:
		case m.kind == gotUnsubscribed:
			return c.unsubscribed(s, m.code)
		case m.kind == gotSubscribed && c.by == byAPI && s.state == subAsked:
			// The push has no room for whether it recovered: then it goes on where it was.
			since, _ := s.Since()
			m.recovering = s.asked
			m.recovered = s.asked && m.positioned && m.epoch == since.Epoch && m.offset == since.Offset
			c.r.count.served.Add(1)
			return c.subscribed(s, m)
		}
		return nonsense("kind %d without id, channel %q, code %d", m.kind, m.channel, m.code)
	}
	p, ok := c.pending[m.id]
	if !ok {
		return nonsense("an answer to command %d, which is not pending", m.id)
	}
	delete(c.pending, m.id)
	if m.kind == gotError {
		return c.failed(p, m.code)
	}
	want := [...]kind{doConnect: gotConnected, doSubscribe: gotSubscribed, doUnsubscribe: gotUnsubscribed, doPublish: gotPublished}[p.method]
	if m.kind != want {
		return nonsense("kind %d answers command %d", m.kind, p.method)
	}
	switch p.method {
	case doConnect:
		c.up, c.id = true, m.client
		for i := range m.subs {
			s := c.byName[m.subs[i].channel]
			if s == nil || c.by != byToken {
				return nonsense("connected with channel %q", m.subs[i].channel)
			}
			c.r.count.served.Add(1)
			if err := c.subscribed(s, &m.subs[i]); err != nil {
				return err
			}
		}
		for _, s := range c.subs {
			if c.by == byToken && s.state == subAsked {
				s.state = subIdle // it did not get it
			}
		}
		return c.subscribe()
	case doSubscribe:
		return c.subscribed(p.sub, m)
	case doUnsubscribe:
		p.sub.ended("unsubscribed")
		return c.subscribe()
	case doPublish:
		c.r.count.published.Add(1)
		if place, ok := p.sub.Ledger.placeOf(p.sub.Channel, p.number); !ok {
			c.violate(Unpublished, "publication %d of %q was confirmed and is nowhere", p.number, p.sub.Channel)
		} else if c.r.o.Faults == (Faults{}) && p.sub.state == subLive && p.spans == p.sub.spans && !p.sub.Has(place) && !p.sub.kind.drops() {
			c.r.violate(p.sub.violation(Late, "publication %d at place %d was confirmed before it came", p.number, place))
		}
	}
	return nil
}

// failed takes an error reply.
func (c *client) failed(p pending, code uint32) error {
	const internal, tooMany = 100, 111
	switch {
	case code == tooMany && p.method == doPublish:
		return nil
	case code == internal && p.method == doConnect && c.by == byToken:
		return errAnew
	case code == internal && p.method == doSubscribe && c.retries < 100:
		c.retries++
		p.sub.state = subIdle
		return c.subscribe()
	}
	channel := ""
	if p.sub != nil {
		channel = p.sub.Channel
	}
	return nonsense("command %d of channel %q: error %d", p.method, channel, code)
}

func (c *client) subscribed(s *sub, m *message) error {
	is := Subscription{Asked: s.asked, Recovered: m.recovered, Positioned: m.positioned, Epoch: m.epoch, Offset: m.offset}
	if since, _ := s.Since(); c.codec == codecPlain && m.recovered {
		// The plain protocol tells the end of what follows, not its beginning.
		if m.offset < since.Offset {
			c.violate(FalseRecovery, "%q recovered up to %d, from %d", s.Channel, m.offset, since.Offset)
		}
		is.Offset = since.Offset
	}
	if m.recovering != s.asked {
		c.violate(Broken, "was_recovering of %q is %t", s.Channel, m.recovering)
	}
	switch {
	case m.recovered:
		c.r.count.recovered.Add(1)
	case s.asked:
		c.r.count.unrecovered.Add(1)
	}
	s.state, s.delta, s.base, s.endless = subLive, m.delta, nil, c.r.phase.Load() != phaseFinal && c.r.o.Faults.Lose == 0
	s.spans++
	s.Kept = 0
	if since, _ := s.Since(); since.Offset >= c.r.removed[s.index].Load() {
		s.Kept = uint64(s.kind.options().HistorySize)
	}
	if v := s.Subscribed(is); v != nil {
		c.r.violate(v)
	}
	if !m.recovered && len(m.publications) > 0 {
		c.violate(Broken, "%d publications with a subscription to %q that did not recover", len(m.publications), s.Channel)
	}
	for i := range m.publications {
		if err := c.publication(s, &m.publications[i]); err != nil {
			return err
		}
	}
	if !m.recovered {
		_, n := s.Ledger.Top(s.Channel)
		s.seen.Store(int64(n))
	}
	s.online.Store(true)
	c.r.moved()
	return nil
}

// publication takes one that came in any way.
func (c *client) publication(s *sub, p *publication) error {
	data := p.data
	if s.delta && c.codec == codecJSON {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return nonsense("data of %q in a subscription with deltas: %v", s.Channel, err)
		}
		data = []byte(text)
	}
	if p.delta {
		whole, err := fdelta.Apply(s.base, data)
		if err != nil || !s.delta {
			return nonsense("delta of %q (offset %d) to %.60q: %v", s.Channel, p.offset, s.base, err)
		}
		data = whole
		c.r.count.deltas.Add(1)
	}
	if s.delta {
		s.base = append(s.base[:0], data...)
	}
	c.r.count.received.Add(1)
	if v := s.Publication(p.offset, p.epoch, data); v != nil {
		c.r.violate(v)
	}
	s.seen.Store(int64(s.place) + 1)
	return nil
}

// unsubscribed takes the news that the server ended a subscription.
func (c *client) unsubscribed(s *sub, code uint32) error {
	switch code {
	case 2500:
		c.r.count.insufficient.Add(1)
		if c.r.o.Faults.Lose == 0 && c.r.count.restarts.Load() == 0 {
			c.r.violate(s.violation(Needless, "told of a gap, and none can be"))
		}
	case 2000: // by an action of ours, sooner or later
	default:
		return nonsense("unsubscribed from %q with %d", s.Channel, code)
	}
	state := s.state
	if s.ended(fmt.Sprint("unsubscribed-", code)); state != subLive {
		s.state = state // an answer is under way
		return nil
	}
	return c.subscribe()
}

// act does one thing at random. It reports false if the connection is over.
func (c *client) act() bool {
	s := c.subs[c.rnd.IntN(len(c.subs))]
	if c.large && c.rnd.IntN(4) == 0 {
		c.stall()
		return true
	}
	switch k := c.rnd.IntN(100); {
	case k < 8:
		c.r.count.cuts.Add(1)
		return false
	case k < 14:
		c.r.count.cuts.Add(1)
		c.conn.reset()
		return false
	case k < 18:
		c.r.count.cuts.Add(1)
		c.conn.half([]byte(`{"id":1,"publish":{"channel":"a","data":"half a message"}}`), c.rnd.IntN(1000))
		return false
	case k < 21:
		c.r.count.cuts.Add(1)
		_ = c.conn.closeFrame(ws.StatusGoingAway)
		return false
	case k < 26:
		c.stall()
	case k < 46:
		if s.state == subLive {
			s.state = subLeaving
			return c.say(&command{method: doUnsubscribe, channel: s.Channel}, pending{sub: s}) == nil && c.flush() == nil
		}
	case k < 80:
		if !c.r.mayPublish() {
			return true
		}
		n := s.Ledger.Number(s.Channel)
		cmd := &command{method: doPublish, channel: s.Channel, data: c.r.pads.payload(c.rnd, n, false)}
		return c.say(cmd, pending{sub: s, number: n, spans: s.spans}) == nil && c.flush() == nil
	case k < 84 && c.id != "":
		code := []ws.StatusCode{3011, 4000}[c.rnd.IntN(2)]
		if c.doomed == nil {
			c.doomed = make(map[ws.StatusCode]bool)
		}
		c.doomed[code] = true
		c.r.disconnect(c.id, code)
	case k < 88 && c.id != "":
		c.r.unsubscribe(c.id, s.Channel)
	}
	return true
}

// stall stops reading for a while.
func (c *client) stall() {
	c.r.count.stalls.Add(1)
	if c.stalled == nil {
		c.stalled = make(map[int]bool)
	}
	c.stalled[c.life] = true
	c.paused.Store(true)
	c.r.moved()
	if c.large {
		c.r.large.wait(int64(48 + c.rnd.IntN(48))) // more than sockets and queue hold
	} else {
		c.r.ledger.taken.wait(int64(1 + c.rnd.IntN(c.r.o.Stall)))
	}
	c.paused.Store(false)
}
