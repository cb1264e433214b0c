package fleet

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/ws"
)

// MaxChannels bounds the channels of one client of Centrifuge.
const MaxChannels = 2

// Script says what clients do in the Centrifuge protocol. Its functions are called on loops' threads, several at a time;
// they append to dst.
type Script struct {
	// Token is what client n connects with. Nil: no token.
	Token func(dst []byte, n int) []byte
	// Channels is how many channels each client subscribes to, up to MaxChannels; Channel is the name of its channel k,
	// free of what JSON would escape.
	Channels int
	Channel  func(dst []byte, n, k int) []byte
	// Later has clients only connect: Centrifuge.Subscribe has them subscribe. Else they do so in the frame of connect.
	Later bool
	// Mute has clients only listen, to a server that speaks first and pushes like the protocol.
	Mute bool
	// Start is the beginning of time for publications: the number t in their data is nanoseconds since then, and the
	// time from it to the client is recorded for Fleet.Latency. Times of other clocks make no sense.
	Start time.Time
}

// Centrifuge has the clients of one fleet speak the Centrifuge protocol in JSON: they connect, subscribe, answer pings,
// and judge every publication: in a channel with offsets each must have the one after the last. Those that come back
// recover from where they stood. It finds what it wants by the names of fields and is no parser: it is for publications
// whose data is an object of numbers and plain strings.
type Centrifuge struct {
	s Script

	mu    sync.Mutex
	parts []*part // guarded by mu
}

// NewCentrifuge makes the speaker of one fleet, for Config.Speak.
func NewCentrifuge(s Script) *Centrifuge { return &Centrifuge{s: s} }

// Speak is for Config.Speak.
func (c *Centrifuge) Speak(q Squad) Speaker {
	p := &part{s: &c.s, first: q.First, state: make([]subscriber, q.Count)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts = append(c.parts, p)
	return p
}

// Heard is what the clients of a Centrifuge have heard until now.
type Heard struct {
	Connected    int64            // clients that are connected
	Subscribed   int64            // their subscriptions
	Pinged       int64            // clients that answered a ping since they connected
	Publications int64            // to all, those of recoveries included
	Restored     int64            // those of recoveries
	Recovered    int64            // recoveries that brought all that was missed
	Wrong        map[string]int64 // what must not be: gaps, doubles, errors; by reason
	Last         time.Duration    // when the last publication came, since Script.Start
}

// Heard sums up.
func (c *Centrifuge) Heard() Heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := Heard{Wrong: make(map[string]int64)}
	for _, p := range c.parts {
		h.Connected += p.connected.Load()
		h.Subscribed += p.subscribed.Load()
		h.Pinged += p.pinged.Load()
		h.Publications += p.publications.Load()
		h.Restored += p.restored.Load()
		h.Recovered += p.recovered.Load()
		h.Last = max(h.Last, time.Duration(p.last.Load()))
		p.mu.Lock()
		for why, n := range p.wrong {
			h.Wrong[why] += n
		}
		p.mu.Unlock()
	}
	return h
}

// Subscribe has the connected clients of f subscribe, where Script.Later is set.
func (c *Centrifuge) Subscribe(ctx context.Context, f *Fleet) error {
	return f.Each(ctx, func(m Client) { m.crew.speaker.(*part).subscribe(m) })
}

// Position is where a client stands in one of its channels.
type Position struct {
	Subscribed bool
	Offset     uint64 // of the last publication, where the channel has offsets
	Heard      uint32 // publications, since its client first came
}

// Check asks ok about each client and channel of f, and returns how many it said no to.
func (c *Centrifuge) Check(ctx context.Context, f *Fleet, ok func(n, k int, p Position) bool) (bad int, err error) {
	var sum atomic.Int64
	err = f.loops.Ask(ctx, func(l *loop.Loop) {
		p := f.crews[l.Index()].speaker.(*part)
		for n := range p.state {
			for k := range c.s.Channels {
				at := &p.state[n].at[k]
				if !ok(p.first+n, k, Position{at.subscribed, at.offset, at.heard}) {
					sum.Add(1)
				}
			}
		}
	})
	return int(sum.Load()), err
}

// part is the clients of one loop.
type part struct {
	s     *Script
	first int

	// Loop-owned.
	state  []subscriber // by number - first
	epochs []string     // that streams were in
	out    []byte       // the message that is being written
	name   []byte       // of a channel, to compare with

	// Shared: the loop writes, anybody reads.
	connected, subscribed, pinged, publications, restored, recovered, last atomic.Int64

	mu    sync.Mutex
	wrong map[string]int64 // guarded by mu
}

// subscriber is one client. It has no pointers.
type subscriber struct {
	at        [MaxChannels]stand
	connected bool
	pinged    bool
}

// stand is where a client stands in a channel.
type stand struct {
	offset     uint64
	heard      uint32
	epoch      uint16 // index into epochs, and 1; 0: never subscribed, or without a position
	subscribed bool
}

func (p *part) note(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wrong == nil {
		p.wrong = make(map[string]int64)
	}
	if _, ok := p.wrong[why]; !ok && len(p.wrong) >= 100 {
		why = "other"
	}
	p.wrong[why]++
}

// Opened implements Speaker.
func (p *part) Opened(c Client) {
	if p.s.Mute {
		return
	}
	b := append(p.out[:0], `{"id":1,"connect":{`...)
	if p.s.Token != nil {
		b = append(b, `"token":"`...)
		b = p.s.Token(b, c.Number)
		b = append(b, '"')
	}
	b = append(b, `}}`...)
	if !p.s.Later {
		b = p.appendSubscribes(b, c.Number)
	}
	p.out = b
	c.Say(ws.OpText, b)
}

func (p *part) subscribe(c Client) {
	if b := p.appendSubscribes(p.out[:0], c.Number); len(b) > 0 {
		p.out = b
		c.Say(ws.OpText, b[1:])
	}
}

// appendSubscribes appends the subscribe commands of client n, each on a line of its own behind what is there. Command
// 2+k is for channel k.
func (p *part) appendSubscribes(b []byte, n int) []byte {
	for k := range p.s.Channels {
		at := &p.state[n-p.first].at[k]
		b = append(b, "\n{\"id\":"...)
		b = strconv.AppendInt(b, int64(2+k), 10)
		b = append(b, `,"subscribe":{"channel":"`...)
		b = p.s.Channel(b, n, k)
		b = append(b, '"')
		if at.epoch != 0 {
			b = append(b, `,"recover":true,"offset":`...)
			b = strconv.AppendUint(b, at.offset, 10)
			b = append(b, `,"epoch":"`...)
			b = append(b, p.epochs[at.epoch-1]...)
			b = append(b, '"')
		}
		b = append(b, `}}`...)
	}
	return b
}

// Gone implements Speaker.
func (p *part) Gone(n int) {
	s := &p.state[n-p.first]
	if s.connected {
		p.connected.Add(-1)
	}
	if s.pinged {
		p.pinged.Add(-1)
	}
	s.connected, s.pinged = false, false
	for k := range s.at {
		if s.at[k].subscribed {
			s.at[k].subscribed = false
			p.subscribed.Add(-1)
		}
	}
}

var (
	fieldPush    = []byte(`{"push":{"channel":"`)
	fieldPub     = []byte(`,"pub":{`)
	fieldID      = []byte(`{"id":`)
	fieldOffset  = []byte(`"offset":`)
	fieldTime    = []byte(`"t":`)
	fieldConnect = []byte(`,"connect":{`)
	fieldSub     = []byte(`,"subscribe":{`)
	fieldError   = []byte(`,"error":{`)
	fieldMessage = []byte(`"message":"`)
	fieldEpoch   = []byte(`"epoch":"`)
	fieldPubs    = []byte(`"publications":[`)
	recovering   = []byte(`"was_recovering":true`)
	recovered    = []byte(`"recovered":true`)
	newline      = []byte("\n")
)

// Heard implements Speaker.
func (p *part) Heard(c Client, _ ws.Opcode, payload []byte) {
	for line := range bytes.SplitSeq(payload, newline) {
		switch {
		case bytes.HasPrefix(line, fieldPush):
			p.push(c, line[len(fieldPush):])
		case bytes.HasPrefix(line, fieldID):
			p.reply(c, line[len(fieldID):])
		case len(line) == 2: // {}
			c.Say(ws.OpText, line)
			if s := &p.state[c.Number-p.first]; !s.pinged {
				s.pinged = true
				p.pinged.Add(1)
			}
		default:
			p.note("unknown message")
		}
	}
}

// push takes a push from its channel's name on.
func (p *part) push(c Client, b []byte) {
	end := bytes.IndexByte(b, '"')
	if end < 0 || !bytes.HasPrefix(b[end+1:], fieldPub) {
		p.note("push without a publication")
		return
	}
	name, b := b[:end], b[end+1:]
	for k := range p.s.Channels {
		p.name = p.s.Channel(p.name[:0], c.Number, k)
		if bytes.Equal(p.name, name) {
			p.judge(c, &p.state[c.Number-p.first].at[k], b)
			return
		}
	}
	p.note("publication of another channel")
}

// judge takes a publication of the channel where the client stands at.
func (p *part) judge(c Client, at *stand, pub []byte) {
	now := time.Since(p.s.Start)
	p.publications.Add(1)
	p.last.Store(int64(now))
	at.heard++
	if t, ok := number(pub, fieldTime, false); ok {
		c.Record(now - time.Duration(t))
	}
	p.advance(at, pub)
}

// advance notes the offset of a publication, if it has one.
func (p *part) advance(at *stand, pub []byte) {
	o, ok := number(pub, fieldOffset, true)
	if !ok {
		return
	}
	switch {
	case o <= at.offset:
		p.note("double")
		return
	case o > at.offset+1:
		p.note("gap")
	}
	at.offset = o
}

// reply takes a reply from its id on.
func (p *part) reply(c Client, b []byte) {
	id, n := digits(b)
	b = b[n:]
	s := &p.state[c.Number-p.first]
	k := int(id) - 2
	switch {
	case bytes.HasPrefix(b, fieldError):
		p.note("error: " + text(b, fieldMessage))
	case id == 1 && bytes.HasPrefix(b, fieldConnect):
		if !s.connected {
			s.connected = true
			p.connected.Add(1)
		}
	case k >= 0 && k < p.s.Channels && bytes.HasPrefix(b, fieldSub):
		p.subscribedTo(&s.at[k], b)
	default:
		p.note("unknown reply")
	}
}

// subscribedTo takes the reply to a subscribe: what was missed comes in it.
func (p *part) subscribedTo(at *stand, b []byte) {
	if !at.subscribed {
		at.subscribed = true
		p.subscribed.Add(1)
	}
	asked := at.epoch != 0
	at.epoch = 0
	if e := text(b, fieldEpoch); e != "" {
		at.epoch = p.epoch(e)
	}
	if !asked {
		at.offset, _ = number(b, fieldOffset, true) // none: the stream is empty
		return
	}
	if !bytes.Contains(b, recovering) || !bytes.Contains(b, recovered) {
		p.note("not recovered")
		at.offset, _ = number(b, fieldOffset, true)
		return
	}
	p.recovered.Add(1)
	_, list, _ := bytes.Cut(b, fieldPubs)
	list, _, _ = bytes.Cut(list, []byte("]"))
	for {
		i := bytes.Index(list, fieldOffset)
		if i < 0 {
			return
		}
		p.publications.Add(1)
		p.restored.Add(1)
		at.heard++
		p.advance(at, list[i:min(len(list), i+len(fieldOffset)+20)])
		list = list[i+len(fieldOffset):]
	}
}

// epoch is the reference of an epoch. There are few.
func (p *part) epoch(e string) uint16 {
	for i, have := range p.epochs {
		if have == e {
			return uint16(i + 1)
		}
	}
	if len(p.epochs) >= 1000 {
		p.note("too many epochs")
		return 0
	}
	p.epochs = append(p.epochs, e)
	return uint16(len(p.epochs))
}

// number is the number behind the first or the last field of that name in b.
func number(b, field []byte, last bool) (uint64, bool) {
	i := 0
	if last {
		i = bytes.LastIndex(b, field)
	} else {
		i = bytes.Index(b, field)
	}
	if i < 0 {
		return 0, false
	}
	v, n := digits(b[i+len(field):])
	return v, n > 0
}

func digits(b []byte) (v uint64, n int) {
	for n < len(b) && n < 20 && b[n] >= '0' && b[n] <= '9' {
		v = v*10 + uint64(b[n]-'0')
		n++
	}
	return v, n
}

// text is the string behind the first field of that name in b, as it is written.
func text(b, field []byte) string {
	_, b, ok := bytes.Cut(b, field)
	if !ok {
		return ""
	}
	b, _, _ = bytes.Cut(b, []byte(`"`))
	return string(b)
}
