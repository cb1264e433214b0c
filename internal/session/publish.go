package session

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// What clients publish and ask.

func (t *Table) publish(k call, st *state, name, data []byte) {
	if len(name) == 0 || len(data) == 0 {
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	}
	o, _, err := t.rules(name)
	sub := t.find(k.i, name)
	hook := t.n.o.Hooks.Publish
	switch {
	case err != nil:
	case o.PublishHook && hook == nil:
		err = centrifuge.ErrNotAvailable
	case !o.PublishHook && !t.n.o.Insecure && !o.MayPublish(st.hash == 0, sub != 0):
		err = centrifuge.ErrPermissionDenied
	case o.PublishRate > 0 && !t.mayPublish(k.i, o, name):
		err = centrifuge.ErrTooManyRequests
	}
	if err != nil {
		t.fail(k, name, err)
		return
	}
	channel, data := string(name), slices.Clone(data)
	p := &engine.Publication{Data: data, Info: t.info(k.i, st, sub), Delta: o.DeltaPublish}
	if !o.PublishHook {
		t.engine(k.i, func(ctx context.Context) func() {
			r, err := t.n.Publish(ctx, channel, p, o, PublishOptions{})
			return func() { t.published(k, channel, r, err) }
		})
		return
	}
	cl := t.client(k.i, st)
	t.do(k.i, true, func(ctx context.Context) func() {
		reply, err := hook(ctx, cl, PublishRequest{Channel: channel, Data: data})
		var r engine.Published
		if err == nil {
			if reply.Data != nil {
				p.Data = reply.Data
			}
			r, err = t.n.Publish(ctx, channel, p, o, PublishOptions{SkipHistory: reply.SkipHistory})
		}
		return func() { t.published(k, channel, r, err) }
	})
}

// published replies to a publish; the client's own push comes first.
func (t *Table) published(k call, channel string, r engine.Published, err error) {
	t.Drain()
	if t.conn[k.i].phase != phaseConnected {
		return
	}
	switch {
	case err != nil:
		t.fail(k, []byte(channel), err)
	case t.conn[k.i].codec == Plain:
		t.replyPublished(k, channel, r)
		t.answered(k, []byte(channel), 0)
	default:
		t.reply(k.i, centrifuge.AppendEmpty(t.out, t.format(k.i), k.id, centrifuge.Publish))
		t.answered(k, []byte(channel), 0)
	}
}

// Publish hands a publication to the engine as its namespace says. Any goroutine may call it; on a loop only where the
// engine never waits.
func (n *Node) Publish(ctx context.Context, channel string, p *engine.Publication, o *channel.Options, by PublishOptions) (engine.Published, error) {
	if n.o.Hub.Busy(channel) {
		return engine.Published{}, ErrBusy
	}
	e := engine.PublishOptions{IdempotencyKey: by.IdempotencyKey}
	if !by.SkipHistory && o.KeepsHistory() {
		e.HistorySize, e.HistoryTTL = o.HistorySize, o.HistoryTTL
	}
	n.Published.Add(1)
	return n.o.Engine.Publish(ctx, channel, p, e)
}

// mayPublish takes one from what conn i may still publish in a channel.
func (t *Table) mayPublish(i uint32, o *channel.Options, name []byte) bool {
	now := t.host.Now().Sub(t.start).Seconds()
	m := t.rates[i]
	if m == nil {
		m = make(map[uint64]float64)
		t.rates[i] = m
	}
	key := maphash.Bytes(t.seed, name)
	if _, ok := m[key]; !ok && len(m) >= t.n.o.ChannelLimit {
		maps.DeleteFunc(m, func(_ uint64, paid float64) bool { return paid <= now })
		if len(m) >= t.n.o.ChannelLimit {
			return false // a client that goes through channel after channel
		}
	}
	paid := max(m[key], now) + 1/o.PublishRate
	// The hair is for what adding fractions up loses.
	if paid-now > float64(o.PublishBurst)/o.PublishRate+1e-6 {
		return false
	}
	m[key] = paid
	return true
}

// sent hands a message without an answer to the application.
func (t *Table) sent(i uint32, st *state, data []byte) {
	hook := t.n.o.Hooks.Send
	if hook == nil {
		t.close(i, centrifuge.DisconnectNotAvailable)
		return
	}
	cl, own := t.client(i, st), slices.Clone(data)
	t.do(i, true, func(ctx context.Context) func() {
		err := hook(ctx, cl, own)
		return func() {
			if err == nil {
				return
			}
			if _, d := t.n.replyError(err); d != nil {
				t.close(i, d)
			}
		}
	})
}

func (t *Table) rpc(k call, st *state, method string, data []byte) {
	hook := t.n.o.Hooks.RPC
	if hook == nil {
		t.fail(k, nil, centrifuge.ErrNotAvailable)
		return
	}
	cl, data := t.client(k.i, st), slices.Clone(data)
	t.do(k.i, true, func(ctx context.Context) func() {
		out, err := hook(ctx, cl, method, data)
		return func() {
			if err != nil {
				t.fail(k, nil, err)
				return
			}
			t.reply(k.i, centrifuge.AppendRPC(t.out, t.format(k.i), k.id, out))
			t.answered(k, []byte(method), 0)
		}
	})
}

// may judges a question about a channel: name is known, and asked tells what the namespace allows.
func (t *Table) may(k call, st *state, name []byte, asked func(o *channel.Options, anonymous, subscribed bool) error) (*channel.Options, bool) {
	if len(name) == 0 {
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return nil, false
	}
	o, _, err := t.rules(name)
	if err == nil {
		err = asked(o, st.hash == 0, t.find(k.i, name) != 0)
	}
	if err != nil {
		t.fail(k, name, err)
		return nil, false
	}
	return o, true
}

func (t *Table) mayPresence(o *channel.Options, anonymous, subscribed bool) error {
	switch {
	case !o.Presence:
		return centrifuge.ErrNotAvailable
	case !t.n.o.Insecure && !o.MayPresence(anonymous, subscribed):
		return centrifuge.ErrPermissionDenied
	}
	return nil
}

func (t *Table) presence(k call, st *state, name []byte) {
	if _, ok := t.may(k, st, name, t.mayPresence); !ok {
		return
	}
	channel := string(name)
	t.engine(k.i, func(ctx context.Context) func() {
		m, err := t.n.o.Engine.Presence(ctx, channel)
		return func() {
			if err != nil {
				t.fail(k, []byte(channel), err)
				return
			}
			t.reply(k.i, centrifuge.AppendPresence(t.out, t.format(k.i), k.id, m))
			t.answered(k, []byte(channel), 0)
		}
	})
}

func (t *Table) presenceStats(k call, st *state, name []byte) {
	if _, ok := t.may(k, st, name, t.mayPresence); !ok {
		return
	}
	channel := string(name)
	t.engine(k.i, func(ctx context.Context) func() {
		s, err := t.n.o.Engine.PresenceStats(ctx, channel)
		return func() {
			if err != nil {
				t.fail(k, []byte(channel), err)
				return
			}
			t.reply(k.i, centrifuge.AppendPresenceStats(t.out, t.format(k.i), k.id, s))
			t.answered(k, []byte(channel), 0)
		}
	})
}

func (t *Table) history(k call, st *state, c *centrifuge.Command) {
	o, ok := t.may(k, st, c.Channel, func(o *channel.Options, anonymous, subscribed bool) error {
		switch {
		case !o.KeepsHistory():
			return centrifuge.ErrNotAvailable
		case !t.n.o.Insecure && !o.MayHistory(anonymous, subscribed):
			return centrifuge.ErrPermissionDenied
		}
		return nil
	})
	if !ok {
		return
	}
	channel := string(c.Channel)
	f := engine.HistoryFilter{Limit: int(c.Limit), Reverse: c.Reverse}
	if f.Limit < 0 || f.Limit > o.RecoverMax {
		f.Limit = o.RecoverMax
	}
	if c.HasSince {
		f.Since = &engine.Position{Offset: c.Since.Offset, Epoch: string(c.Since.Epoch)}
	}
	t.engine(k.i, func(ctx context.Context) func() {
		pubs, top, err := t.n.o.Engine.History(ctx, channel, f, o.HistoryMetaTTL)
		return func() {
			switch {
			case err != nil:
			case f.Since != nil && f.Since.Epoch != "" && f.Since.Epoch != top.Epoch:
				err = centrifuge.ErrUnrecoverable
			case !t.readable(k.i, pubs):
				err = centrifuge.DisconnectInappropriate
			}
			if err != nil {
				t.fail(k, []byte(channel), err)
				return
			}
			r := &centrifuge.HistoryResult{Epoch: top.Epoch, Offset: top.Offset}
			for _, p := range pubs {
				r.Publications = append(r.Publications, t.publication(k.i, p, top.Epoch, false))
			}
			t.reply(k.i, centrifuge.AppendHistory(t.out, t.format(k.i), k.id, r))
			t.answered(k, []byte(channel), 0)
		}
	})
}
