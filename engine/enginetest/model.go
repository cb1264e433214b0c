package enginetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/longwire/longwire/engine"
)

// model is what the contract lets be, kept in the plainest way.
type model struct {
	c        *cluster
	rand     *rand.Rand
	now      time.Duration // since the beginning
	channels map[string]*modelChannel
	texts    int // publications so far
}

type modelChannel struct {
	position engine.Position    // the empty epoch: not known yet
	kept     []modelPublication // those that may be in History
	must     uint64             // from this offset on they must
	ttl      time.Duration      // of the latest
	meta     time.Duration
	idle     time.Duration // from when on meta runs at the earliest
	keys     map[string]modelAnswer
	present  map[string]modelClient
	log      []string // what every handler must have got
}

type modelPublication struct {
	offset uint64
	text   string
	at     time.Duration
}

type modelAnswer struct {
	result engine.Published
	over   time.Duration
}

type modelClient struct {
	info *engine.ClientInfo
	over time.Duration
}

// Times of the model are odd multiples of these, moves of the clock even ones, so that nothing ends just when it is
// looked at.
var (
	modelTTLs  = []time.Duration{5 * time.Second, 35 * time.Second, 95 * time.Second}
	modelMetas = []time.Duration{45 * time.Second, 125 * time.Second, 0}
	modelMoves = []time.Duration{10 * time.Second, 10 * time.Second, 20 * time.Second, 60 * time.Second, 200 * time.Second}
)

// randomOperations: random operations on node 0 do what the model does, and every node gets what they delivered.
func randomOperations(c *cluster) error {
	const operations = 3000
	m := &model{c: c, rand: rand.New(rand.NewPCG(c.seed, 0)), channels: make(map[string]*modelChannel)}
	for i := range operations {
		if err := m.step(); err != nil {
			return fmt.Errorf("seed %d, operation %d: %w", c.seed, i, err)
		}
	}
	for name, ch := range m.channels {
		all, err := c.delivered(name, len(ch.log))
		if err != nil {
			return fmt.Errorf("seed %d: %w", c.seed, err)
		}
		for i, events := range all {
			for k, e := range events {
				if e.String() != ch.log[k] {
					return fmt.Errorf("seed %d: node %d: %v is delivered at place %d of %q, want %s", c.seed, i, e, k, name, ch.log[k])
				}
			}
		}
	}
	return nil
}

func pick[T any](m *model, list []T) T { return list[m.rand.IntN(len(list))] }

func (m *model) step() error {
	name := pick(m, []string{"a", "b", "c", "d", "e"})
	ch := m.channels[name]
	if ch == nil {
		ch = &modelChannel{meta: 24 * time.Hour, keys: make(map[string]modelAnswer), present: make(map[string]modelClient)}
		m.channels[name] = ch
	}
	info := &engine.ClientInfo{Client: fmt.Sprint(m.rand.IntN(4)), User: pick(m, []string{"", "", "u", "v"})}
	e := m.c.node(0)
	switch n := m.rand.IntN(100); {
	case n < 38:
		return m.publish(name, ch)
	case n < 65:
		return m.history(name, ch)
	case n < 68:
		if err := e.RemoveHistory(m.c.ctx, name); err != nil {
			return err
		}
		m.expire(ch)
		if len(ch.kept) > 0 || m.now < ch.idle+ch.meta {
			ch.idle = m.now // later it may be forgotten already
		}
		ch.kept = nil
		return nil
	case n < 80:
		ttl := pick(m, modelTTLs)
		ch.present[info.Client] = modelClient{info, m.now + ttl}
		return e.AddPresence(m.c.ctx, name, info, ttl)
	case n < 83:
		delete(ch.present, info.Client)
		return e.RemovePresence(m.c.ctx, name, info.Client)
	case n < 90:
		var want []*engine.ClientInfo
		for _, p := range ch.present {
			if p.over > m.now {
				want = append(want, p.info)
			}
		}
		return m.c.present(name, want...)
	case n < 93:
		ch.log = append(ch.log, "join of "+info.Client)
		return e.PublishJoin(m.c.ctx, name, info)
	case n < 96:
		ch.log = append(ch.log, "leave of "+info.Client)
		return e.PublishLeave(m.c.ctx, name, info)
	default:
		if m.c.advance != nil {
			d := pick(m, modelMoves)
			m.now += d
			m.c.advance(d)
		}
		return nil
	}
}

// publish publishes with random options.
func (m *model) publish(name string, ch *modelChannel) error {
	m.texts++
	text := fmt.Sprint(m.texts)
	o := engine.PublishOptions{HistorySize: m.rand.IntN(6), HistoryTTL: pick(m, modelTTLs)}
	if m.rand.IntN(4) == 0 {
		o.IdempotencyKey = fmt.Sprint(m.rand.IntN(3))
		o.IdempotencyTTL = pick(m, modelTTLs)
	}
	r, err := m.c.publish(0, name, text, o)
	if err != nil {
		return err
	}
	if a, ok := ch.keys[o.IdempotencyKey]; o.IdempotencyKey != "" && ok && a.over > m.now {
		a.result.Repeated = true
		if r != a.result {
			return fmt.Errorf("publish in %q with a known key: %+v, want %+v", name, r, a.result)
		}
		return nil
	}
	if r.Repeated {
		return fmt.Errorf("publish in %q: repeated, with key %q that is not known", name, o.IdempotencyKey)
	}
	if o.IdempotencyKey != "" {
		ch.keys[o.IdempotencyKey] = modelAnswer{r, m.now + o.IdempotencyTTL}
	}
	ch.log = append(ch.log, fmt.Sprintf("%q at %d in %q", text, r.Offset, r.Epoch))
	if o.HistorySize == 0 {
		if r.Position != (engine.Position{}) {
			return fmt.Errorf("publish in %q without history: at %v", name, r.Position)
		}
		return nil
	}
	if err := m.see(name, ch, engine.Position{Offset: r.Offset - 1, Epoch: r.Epoch}); err != nil {
		return fmt.Errorf("publish %+v: %w", o, err)
	}
	m.expire(ch)
	ch.position = r.Position
	ch.kept = append(ch.kept, modelPublication{r.Offset, text, m.now})
	if over := len(ch.kept) - o.HistorySize; over > 0 {
		ch.kept = ch.kept[over:]
	}
	ch.ttl, ch.idle = o.HistoryTTL, m.now
	return nil
}

// see holds a position that was observed against the one that must or may be, and takes it over.
func (m *model) see(name string, ch *modelChannel, got engine.Position) error {
	if err := checkEpoch(got.Epoch); err != nil {
		return err
	}
	want := ch.position
	if got == want {
		return nil
	}
	idle := ch.idle
	if n := len(ch.kept); n > 0 {
		idle = max(idle, ch.kept[n-1].at+ch.ttl)
	}
	switch {
	case want.Offset > 0 && m.now < idle+ch.meta:
		return fmt.Errorf("position of %q is %v, want %v until %v from now", name, got, want, idle+ch.meta-m.now)
	case got.Offset != 0 || got.Epoch == want.Epoch:
		return fmt.Errorf("position of %q is %v, want %v or offset 0 in another epoch", name, got, want)
	}
	// It was forgotten, or never had a publication.
	ch.position, ch.kept, ch.must, ch.meta = got, nil, 0, 24*time.Hour
	return nil
}

// expire notes what need not be kept any more, or must not: what is over, as long as something younger is not.
func (m *model) expire(ch *modelChannel) {
	for i, p := range ch.kept {
		if p.at+ch.ttl > m.now {
			return
		}
		ch.must = max(ch.must, p.offset+1)
		if i == len(ch.kept)-1 {
			ch.idle = max(ch.idle, p.at+ch.ttl)
			ch.kept = nil
		}
	}
}

// history reads with a random filter.
func (m *model) history(name string, ch *modelChannel) error {
	f := engine.HistoryFilter{Limit: m.rand.IntN(6) - 1, Reverse: m.rand.IntN(2) == 0}
	if m.rand.IntN(2) == 0 {
		f.Since = &engine.Position{Offset: m.rand.Uint64N(ch.position.Offset + 3)}
	}
	meta := pick(m, modelMetas)
	pubs, top, err := m.c.node(0).History(m.c.ctx, name, f, meta)
	if err != nil {
		return err
	}
	if err := m.see(name, ch, top); err != nil {
		return fmt.Errorf("history %+v: %w", f, err)
	}
	m.expire(ch)
	if top.Offset > 0 {
		if meta == 0 {
			meta = 24 * time.Hour
		}
		ch.meta, ch.idle = meta, m.now
	}
	least := top.Offset + 1 - uint64(len(ch.kept))
	first := max(least, ch.must)
	err = checkChoice(pubs, f, first, top.Offset)
	for err != nil && first > least {
		first--
		err = checkChoice(pubs, f, first, top.Offset)
	}
	if err != nil {
		return fmt.Errorf("history of %q: %w", name, err)
	}
	for _, p := range pubs {
		for _, k := range ch.kept {
			if k.offset == p.Offset && k.text != string(p.Data) {
				return fmt.Errorf("history of %q: %q at offset %d, want %q", name, p.Data, p.Offset, k.text)
			}
		}
	}
	return nil
}
