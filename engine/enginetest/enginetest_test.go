package enginetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
)

// broken is a sound engine with a fault: what is set takes the place of a method.
type broken struct {
	engine.Engine
	handler engine.Handler // of the node; nil before Start
	mu      sync.Mutex     // for faults that keep something

	deliver       func(b *broken, channel string, p *engine.Publication, epoch string)
	join          func(b *broken, channel string, info *engine.ClientInfo)
	publish       func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error)
	history       func(b *broken, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error)
	removeHistory func(b *broken, channel string) error
	addPresence   func(b *broken, channel string, info *engine.ClientInfo, ttl time.Duration) error
	stats         func(b *broken, channel string) (engine.PresenceStats, error)
	control       func(b *broken, data []byte) error
	close         func(b *broken) error
}

// wrapped is the handler that a broken engine gives to the sound one.
type wrapped struct{ b *broken }

func (w wrapped) Publication(channel string, p *engine.Publication, epoch string) {
	if w.b.deliver != nil {
		w.b.deliver(w.b, channel, p, epoch)
		return
	}
	w.b.handler.Publication(channel, p, epoch)
}

func (w wrapped) Join(channel string, info *engine.ClientInfo) {
	if w.b.join != nil {
		w.b.join(w.b, channel, info)
		return
	}
	w.b.handler.Join(channel, info)
}

func (w wrapped) Leave(channel string, info *engine.ClientInfo) { w.b.handler.Leave(channel, info) }
func (w wrapped) Control(data []byte)                           { w.b.handler.Control(data) }

func (b *broken) Start(ctx context.Context, h engine.Handler) error {
	b.handler = h
	return b.Engine.Start(ctx, wrapped{b})
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close(b)
	}
	return b.Engine.Close()
}

func (b *broken) Publish(ctx context.Context, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
	if b.publish != nil {
		return b.publish(b, channel, p, o)
	}
	return b.Engine.Publish(ctx, channel, p, o)
}

func (b *broken) History(ctx context.Context, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
	if b.history != nil {
		return b.history(b, channel, f, metaTTL)
	}
	return b.Engine.History(ctx, channel, f, metaTTL)
}

func (b *broken) RemoveHistory(ctx context.Context, channel string) error {
	if b.removeHistory != nil {
		return b.removeHistory(b, channel)
	}
	return b.Engine.RemoveHistory(ctx, channel)
}

func (b *broken) AddPresence(ctx context.Context, channel string, info *engine.ClientInfo, ttl time.Duration) error {
	if b.addPresence != nil {
		return b.addPresence(b, channel, info, ttl)
	}
	return b.Engine.AddPresence(ctx, channel, info, ttl)
}

func (b *broken) PresenceStats(ctx context.Context, channel string) (engine.PresenceStats, error) {
	if b.stats != nil {
		return b.stats(b, channel)
	}
	return b.Engine.PresenceStats(ctx, channel)
}

func (b *broken) Control(ctx context.Context, data []byte) error {
	if b.control != nil {
		return b.control(b, data)
	}
	return b.Engine.Control(ctx, data)
}

// fault is a way to break the contract, and the checks that must find it. One in a batch of many is enough for a
// check to be listed: each check must be able to fail.
type fault struct {
	name   string
	checks []string
	put    func(b *broken)
}

var background = context.Background()

// publishWith is a Publish that changes what it is given.
func publishWith(change func(channel *string, p *engine.Publication, o *engine.PublishOptions)) func(b *broken) {
	return func(b *broken) {
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			change(&channel, p, &o)
			return b.Engine.Publish(background, channel, p, o)
		}
	}
}

// filterWith is a History that changes what it is given.
func filterWith(change func(f *engine.HistoryFilter, metaTTL *time.Duration)) func(b *broken) {
	return func(b *broken) {
		b.history = func(b *broken, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
			change(&f, &metaTTL)
			return b.Engine.History(background, channel, f, metaTTL)
		}
	}
}

// answerWith is a History that changes what it returns.
func answerWith(change func(b *broken, f engine.HistoryFilter, pubs *[]*engine.Publication, top *engine.Position)) func(b *broken) {
	return func(b *broken) {
		b.history = func(b *broken, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
			pubs, top, err := b.Engine.History(background, channel, f, metaTTL)
			if err == nil {
				change(b, f, &pubs, &top)
			}
			return pubs, top, err
		}
	}
}

// held is a delivery that waits for the next one of its channel.
type held struct {
	p     *engine.Publication
	epoch string
}

// holdBack delivers what which chooses only after the next publication of the channel.
func holdBack(which func(p *engine.Publication) bool) func(b *broken) {
	return func(b *broken) {
		waiting := make(map[string]held)
		b.deliver = func(b *broken, channel string, p *engine.Publication, epoch string) {
			b.mu.Lock()
			first, ok := waiting[channel]
			if !ok && which(p) {
				waiting[channel] = held{p, epoch}
				b.mu.Unlock()
				return
			}
			delete(waiting, channel)
			b.mu.Unlock()
			b.handler.Publication(channel, p, epoch)
			if ok {
				b.handler.Publication(channel, first.p, first.epoch)
			}
		}
	}
}

var faults = []fault{
	{"gives an offset twice", []string{"offsets from 1 without gap", "history has what was published", "history size", "random operations"}, func(b *broken) {
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			r, err := b.Engine.Publish(background, channel, p, o)
			if r.Offset > 0 && r.Offset%2 == 0 {
				r.Offset--
			}
			return r, err
		}
	}},
	{"delivers out of order", []string{"offsets from 1 without gap", "offsets under concurrent publishers"},
		holdBack(func(p *engine.Publication) bool { return p.Offset%2 == 1 })},
	{"delivers late what has no offset", []string{"a place in the order without an offset"},
		holdBack(func(p *engine.Publication) bool { return p.Offset == 0 })},
	{"delivers twice", []string{"offsets from 1 without gap", "nothing kept, no offset", "random operations"}, func(b *broken) {
		b.deliver = func(b *broken, channel string, p *engine.Publication, epoch string) {
			b.handler.Publication(channel, p, epoch)
			b.handler.Publication(channel, p, epoch)
		}
	}},
	{"loses a delivery", []string{"offsets from 1 without gap", "random operations"}, func(b *broken) {
		b.deliver = func(b *broken, channel string, p *engine.Publication, epoch string) {
			if p.Offset != 3 {
				b.handler.Publication(channel, p, epoch)
			}
		}
	}},
	{"loses joins", []string{"join and leave", "random operations"}, func(b *broken) {
		b.join = func(*broken, string, *engine.ClientInfo) {}
	}},
	{"keeps what is not to be kept", []string{"nothing kept, no offset", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) {
			o.HistorySize, o.HistoryTTL = max(o.HistorySize, 1), max(o.HistoryTTL, time.Hour)
		})},
	{"leaves the time as it was", []string{"what the engine sets"}, func(b *broken) {
		b.deliver = func(b *broken, channel string, p *engine.Publication, epoch string) {
			other := *p
			other.Time = -1
			b.handler.Publication(channel, &other, epoch)
		}
	}},
	{"cuts data", []string{"publications stay as they are"},
		publishWith(func(_ *string, p *engine.Publication, _ *engine.PublishOptions) {
			p.Data = p.Data[:min(len(p.Data), 1<<16)]
		})},
	{"loses tags", []string{"publications stay as they are"},
		publishWith(func(_ *string, p *engine.Publication, _ *engine.PublishOptions) { p.Tags = nil })},
	{"folds names", []string{"channel names"},
		publishWith(func(channel *string, _ *engine.Publication, _ *engine.PublishOptions) {
			*channel = strings.ToLower(*channel)
		})},
	{"since includes the offset", []string{"history filters", "recovery", "history while publishing", "random operations"},
		filterWith(func(f *engine.HistoryFilter, _ *time.Duration) {
			if f.Since != nil && f.Since.Offset > 0 {
				f.Since = &engine.Position{Offset: f.Since.Offset - 1}
			}
		})},
	{"takes limit 0 for no limit", []string{"history filters", "random operations"},
		filterWith(func(f *engine.HistoryFilter, _ *time.Duration) {
			if f.Limit == 0 {
				f.Limit = -1
			}
		})},
	{"reverses after the limit", []string{"history filters"}, func(b *broken) {
		b.history = func(b *broken, channel string, f engine.HistoryFilter, metaTTL time.Duration) ([]*engine.Publication, engine.Position, error) {
			reverse := f.Reverse && f.Since == nil
			f.Reverse = f.Reverse && !reverse
			pubs, top, err := b.Engine.History(background, channel, f, metaTTL)
			if reverse {
				slices.Reverse(pubs)
			}
			return pubs, top, err
		}
	}},
	{"reads late", []string{"history has what was published"},
		answerWith(func(_ *broken, _ engine.HistoryFilter, pubs *[]*engine.Publication, top *engine.Position) {
			if n := len(*pubs); n > 0 {
				*pubs = (*pubs)[:n-1]
				top.Offset--
			}
		})},
	{"returns a slice of its own", []string{"history slice is the caller's"}, func(b *broken) {
		var cached []*engine.Publication
		answerWith(func(_ *broken, _ engine.HistoryFilter, pubs *[]*engine.Publication, _ *engine.Position) {
			if len(cached) != len(*pubs) {
				cached = *pubs
			}
			*pubs = cached
		})(b)
	}},
	{"makes up an epoch", []string{"a channel without publications"}, func(b *broken) {
		var n atomic.Int64
		answerWith(func(_ *broken, _ engine.HistoryFilter, _ *[]*engine.Publication, top *engine.Position) {
			if top.Offset == 0 {
				top.Epoch = fmt.Sprint(n.Add(1))
			}
		})(b)
	}},
	{"does not remove", []string{"remove history", "random operations"}, func(b *broken) {
		b.removeHistory = func(*broken, string) error { return nil }
	}},
	{"forgets the offset with the history", []string{"remove history", "history ttl", "random operations"},
		answerWith(func(_ *broken, f engine.HistoryFilter, pubs *[]*engine.Publication, top *engine.Position) {
			if len(*pubs) == 0 && f.Limit != 0 && f.Since == nil {
				top.Offset = 0
			}
		})},
	{"keeps more", []string{"history size", "recovery", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) {
			o.HistorySize = min(o.HistorySize, 1<<20) * 2
		})},
	{"keeps for longer", []string{"history ttl", "history ttl of the latest", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) { o.HistoryTTL *= 10 })},
	{"keeps for less long", []string{"history ttl", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) { o.HistoryTTL /= 10 })},
	{"forgets streams early", []string{"meta ttl", "meta ttl of a day"}, func(b *broken) {
		filterWith(func(_ *engine.HistoryFilter, metaTTL *time.Duration) { *metaTTL = time.Second })(b)
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			r, err := b.Engine.Publish(background, channel, p, o)
			if err == nil {
				_, _, err = b.Engine.History(background, channel, engine.HistoryFilter{}, time.Second)
			}
			return r, err
		}
	}},
	{"has one epoch for all", []string{"meta ttl", "another incarnation", "random operations"}, func(b *broken) {
		answerWith(func(_ *broken, _ engine.HistoryFilter, _ *[]*engine.Publication, top *engine.Position) {
			top.Epoch = "x"
		})(b)
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			r, err := b.Engine.Publish(background, channel, p, o)
			if r.Epoch != "" {
				r.Epoch = "x"
			}
			return r, err
		}
		b.deliver = func(b *broken, channel string, p *engine.Publication, epoch string) {
			if epoch != "" {
				epoch = "x"
			}
			b.handler.Publication(channel, p, epoch)
		}
	}},
	{"ignores keys", []string{"idempotency", "idempotency under concurrent publishers", "idempotency ttl", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) { o.IdempotencyKey = "" })},
	{"knows keys for 5 minutes", []string{"idempotency ttl", "random operations"},
		publishWith(func(_ *string, _ *engine.Publication, o *engine.PublishOptions) { o.IdempotencyTTL = 0 })},
	{"has keys without their channel", []string{"idempotency", "random operations"}, func(b *broken) {
		known := make(map[string]engine.Published)
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if r, ok := known[o.IdempotencyKey]; ok && o.IdempotencyKey != "" {
				r.Repeated = true
				return r, nil
			}
			r, err := b.Engine.Publish(background, channel, p, o)
			known[o.IdempotencyKey] = r
			return r, err
		}
	}},
	{"counts every anonymous client as a user", []string{"presence", "random operations"}, func(b *broken) {
		b.stats = func(b *broken, channel string) (engine.PresenceStats, error) {
			who, err := b.Presence(background, channel)
			users := make(map[string]bool)
			for client, info := range who {
				if info.User == "" {
					users["anonymous "+client] = true
				} else {
					users[info.User] = true
				}
			}
			return engine.PresenceStats{Clients: len(who), Users: len(users)}, err
		}
	}},
	{"has clients stay", []string{"presence ttl", "random operations"}, func(b *broken) {
		b.addPresence = func(b *broken, channel string, info *engine.ClientInfo, ttl time.Duration) error {
			return b.Engine.AddPresence(background, channel, info, 10*ttl)
		}
	}},
	{"loses control", []string{"control"}, func(b *broken) {
		b.control = func(*broken, []byte) error { return nil }
	}},
	{"serves before its start", []string{"before start"}, func(b *broken) {
		b.control = func(b *broken, data []byte) error {
			if b.handler == nil {
				return nil
			}
			return b.Engine.Control(background, data)
		}
	}},
	{"does not close", []string{"after close"}, func(b *broken) {
		b.close = func(*broken) error { return nil }
	}},
	{"closes a moment later", []string{"close while publishing"}, func(b *broken) {
		// The moment is over when the handler has seen a call that it must not see.
		var closed atomic.Bool
		b.close = func(b *broken) error {
			if closed.Swap(true) {
				return b.Engine.Close()
			}
			return nil
		}
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			if closed.Load() && b.handler.(*recorder).fault() != nil {
				return engine.Published{}, engine.ErrUnavailable
			}
			return b.Engine.Publish(background, channel, p, o)
		}
	}},
	{"delivers after close what it refuses", []string{"after close"}, func(b *broken) {
		b.publish = func(b *broken, channel string, p *engine.Publication, o engine.PublishOptions) (engine.Published, error) {
			r, err := b.Engine.Publish(background, channel, p, o)
			if err != nil && b.handler != nil {
				b.handler.Publication(channel, p, "")
			}
			return r, err
		}
	}},
}

// TestSuiteFails shows that every check can fail: each fault is found by the checks that are for it, and each check is
// for a fault.
func TestSuiteFails(t *testing.T) {
	byName := make(map[string]check)
	unused := make(map[string]bool)
	for _, k := range checks {
		byName[k.name], unused[k.name] = k, true
	}
	for _, f := range faults {
		for _, name := range f.checks {
			delete(unused, name)
			t.Run(f.name+"/"+name, func(t *testing.T) {
				k, ok := byName[name]
				if !ok {
					t.Fatalf("no check %q", name)
				}
				// A fault may keep a check waiting for what never comes: a moment is enough of that.
				err := run(t, options(f.put), 1, k)
				if err == nil {
					t.Fatalf("an engine that %s passes", f.name)
				}
				t.Log(err)
			})
		}
	}
	for name := range unused {
		t.Errorf("no fault is for check %q: nothing shows that it can fail", name)
	}
}

// TestSuitePasses shows that what TestSuiteFails finds is the fault, not the way it is put in.
func TestSuitePasses(t *testing.T) {
	for _, k := range checks {
		o := options(func(*broken) {})
		o.Patience = 0
		if err := run(t, o, 1, k); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// options are of a memengine with a fault.
func options(put func(b *broken)) Options {
	var now atomic.Int64
	now.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	return Options{
		New: func(_ *testing.T, nodes int) []engine.Engine {
			list := make([]engine.Engine, nodes)
			for i := range list {
				b := &broken{Engine: memengine.New(&memengine.Options{Now: func() time.Time { return time.Unix(0, now.Load()) }})}
				put(b)
				list[i] = b
			}
			return list
		},
		Advance:  func(d time.Duration) { now.Add(int64(d)) },
		Seed:     1,
		Patience: 20 * time.Millisecond,
	}
}

// TestRecorder: two deliveries of one channel at the same time are a fault, of two channels they are not, and all are
// after close.
func TestRecorder(t *testing.T) {
	p := &engine.Publication{Data: []byte("x")}
	r := newRecorder()
	r.busy["a"] = true
	r.Publication("b", p, "")
	r.Join("c", &engine.ClientInfo{})
	if err := r.fault(); err != nil {
		t.Errorf("deliveries of other channels: %v", err)
	}
	r.Publication("a", p, "")
	if err := r.fault(); err == nil {
		t.Error("no fault, with two deliveries of a channel at the same time")
	}
	for name, call := range map[string]func(r *recorder){
		"publication": func(r *recorder) { r.Publication("a", p, "") },
		"join":        func(r *recorder) { r.Join("a", &engine.ClientInfo{}) },
		"leave":       func(r *recorder) { r.Leave("a", &engine.ClientInfo{}) },
		"control":     func(r *recorder) { r.Control(nil) },
	} {
		r := newRecorder()
		call(r)
		if err := r.fault(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.close()
		call(r)
		if err := r.fault(); err == nil {
			t.Errorf("%s: no fault after close", name)
		}
	}
}

// TestChecks: what is plainly wrong is found, what is right is not.
func TestChecks(t *testing.T) {
	published := func(offsets ...uint64) []engine.Published {
		var list []engine.Published
		for _, o := range offsets {
			list = append(list, engine.Published{Position: engine.Position{Offset: o, Epoch: "a"}})
		}
		return list
	}
	events := func(offsets ...uint64) []event {
		var list []event
		for i, o := range offsets {
			list = append(list, event{kind: "publication", pub: &engine.Publication{Offset: o, Data: fmt.Append(nil, i)}, epoch: "a"})
		}
		return list
	}
	otherEpoch, repeated := published(1, 2), published(1, 2)
	otherEpoch[1].Epoch = "b"
	repeated[1].Repeated = true
	twice := events(1, 2)
	twice[1].pub.Data = twice[0].pub.Data
	for _, c := range []struct {
		name string
		err  error
		bad  bool
	}{
		{"numbers", checkNumbers(published(2, 1, 3)), false},
		{"numbers twice", checkNumbers(published(1, 2, 2)), true},
		{"numbers with a gap", checkNumbers(published(1, 3)), true},
		{"numbers from 0", checkNumbers(published(0, 1)), true},
		{"numbers of two epochs", checkNumbers(otherEpoch), true},
		{"numbers repeated", checkNumbers(repeated), true},
		{"deliveries", checkDeliveries(events(1, 2, 3), "a"), false},
		{"deliveries of another epoch", checkDeliveries(events(1), "b"), true},
		{"deliveries out of order", checkDeliveries(events(2, 1), "a"), true},
		{"deliveries with a gap", checkDeliveries(events(1, 3), "a"), true},
		{"deliveries twice", checkDeliveries(twice, "a"), true},
		{"deliveries without offset, with epoch", checkDeliveries(events(0), "a"), true},
		{"epoch", checkEpoch("aZ09-_."), false},
		{"epoch empty", checkEpoch(""), true},
		{"epoch long", checkEpoch(strings.Repeat("x", 33)), true},
		{"epoch with quotes", checkEpoch(`a"`), true},
		{"epoch not ASCII", checkEpoch("ü"), true},
	} {
		if (c.err != nil) != c.bad {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}
