package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/json"
)

// Subscriptions: how they begin, recover, and end.

// plan is how a subscription will be.
type plan struct {
	flags   hub.SubFlags
	options uint16
	expires uint32
	info    []byte
	data    []byte
	server  bool
	delta   bool
	reject  bool // rather no subscription than one that did not recover
	recover bool
	since   engine.Position
	limit   int
}

// plan puts together what the namespace, the client and whoever let it in say.
func (t *Table) plan(st *state, o *channel.Options, index uint16, ask *centrifuge.SubscribeOptions, by SubscribeOptions, expires uint32) plan {
	anonymous := st.hash == 0
	set := func(namespace bool, override *bool) bool {
		if override != nil {
			return *override
		}
		return namespace
	}
	p := plan{options: index, expires: expires, info: by.Info, data: by.Data, limit: o.RecoverMax}
	flag := func(on bool, f hub.SubFlags) {
		if on {
			p.flags |= f
		}
	}
	free := t.n.o.Insecure
	recoverable := set(o.ForceRecovery, by.ForceRecovery) || ask.Recoverable && (free || o.MayRecover(anonymous))
	positioned := recoverable || set(o.ForcePositioning, by.ForcePositioning) || ask.Positioned && (free || o.MayPosition(anonymous))
	kept := o.KeepsHistory()
	flag(recoverable && kept, hub.SubRecoverable)
	flag(positioned && kept, hub.SubPositioned)
	flag(set(o.Presence, by.Presence), hub.SubPresence)
	flag(set(o.JoinLeave, by.JoinLeave), hub.SubEmits)
	flag(set(o.ForceJoinLeave, by.ForceJoinLeave) || ask.JoinLeave && o.JoinLeave && (free || o.MayJoinLeave(anonymous)), hub.SubJoinLeave)
	p.delta = o.AllowDelta && string(ask.Delta) == "fossil" && st.codec != Plain
	if p.recover = ask.Recover && recoverable && kept; p.recover {
		p.since = engine.Position{Offset: ask.Offset, Epoch: string(ask.Epoch)}
		p.reject = ask.Flag&centrifuge.FlagRejectUnrecovered != 0
	}
	return p
}

// find is conn i's subscription to a channel, or 0.
func (t *Table) find(i uint32, name []byte) uint32 {
	c := t.shard.Find(name)
	if c == 0 {
		return 0
	}
	for sub := t.conn[i].subs; sub != 0; sub = t.shard.At(sub).Sibling {
		if t.shard.Channel(sub) == c {
			return sub
		}
	}
	return 0
}

// rules are the options of a channel that a client named, or what it is told.
func (t *Table) rules(name []byte) (o *channel.Options, index uint16, err error) {
	if !channel.CheckName(name, t.n.o.ChannelLength) {
		return nil, 0, centrifuge.ErrBadRequest
	}
	o, index, ok := t.n.o.Rules.Lookup(name)
	if !ok {
		return nil, 0, centrifuge.ErrUnknownChannel
	}
	return o, index, nil
}

func (t *Table) subscribe(k call, st *state, c *centrifuge.Command) {
	if len(c.Channel) == 0 {
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	}
	o, index, err := t.rules(c.Channel)
	switch {
	case err != nil:
	case c.Type != 0 || c.Filter:
		err = centrifuge.ErrNotAvailable // a kind of subscription that we do not have
	case t.find(k.i, c.Channel) != 0:
		err = centrifuge.ErrAlreadySubscribed
	case int(st.count) >= t.n.o.ChannelLimit:
		err = centrifuge.ErrLimitExceeded
	}
	if err != nil {
		t.fail(k, c.Channel, err)
		return
	}
	name, tok := string(c.Channel), slices.Clone(c.Token)
	ask := c.SubscribeOptions
	ask.Epoch, ask.Delta = slices.Clone(ask.Epoch), slices.Clone(ask.Delta)
	switch hook := t.n.o.Hooks.Subscribe; {
	case len(tok) > 0:
		t.subscribeByToken(k, st, name, tok, o, index, ask)
	case o.SubscribeHook && !channel.Private(c.Channel) && !(o.UserLimited && channel.UserLimited(c.Channel)):
		if hook == nil {
			t.fail(k, c.Channel, centrifuge.ErrNotAvailable)
			return
		}
		cl, r := t.client(k.i, st), SubscribeRequest{Channel: name, Data: slices.Clone(c.Data)}
		t.do(k.i, true, func(ctx context.Context) func() {
			reply, err := hook(ctx, cl, r)
			return func() {
				if err != nil {
					t.fail(k, []byte(name), err)
					return
				}
				p := t.plan(st, o, index, &ask, reply.Options, unixOf(reply.ExpireAt))
				if o.SubRefreshHook {
					p.flags |= hub.SubRefreshes
				}
				t.subscribed(k, st, name, p)
			}
		})
	case o.MaySubscribe(c.Channel, t.user(st)), t.n.o.Insecure && !channel.Private(c.Channel):
		t.subscribed(k, st, name, t.plan(st, o, index, &ask, SubscribeOptions{}, 0))
	default:
		t.fail(k, c.Channel, centrifuge.ErrPermissionDenied)
	}
}

func (t *Table) subscribeByToken(k call, st *state, name string, tok []byte, o *channel.Options, index uint16, ask centrifuge.SubscribeOptions) {
	t.do(k.i, t.n.o.SubTokens.Slow(tok), func(ctx context.Context) func() {
		cl, err := t.n.o.SubTokens.Subscribe(ctx, tok)
		return func() {
			switch {
			case err != nil:
				t.fail(k, []byte(name), tokenError(err, centrifuge.ErrPermissionDenied))
				return
			case cl.Channel != name, cl.User != t.user(st), cl.Client != "" && cl.Client != t.id(k.i):
				t.close(k.i, centrifuge.DisconnectInvalidToken)
				return
			}
			t.subscribed(k, st, name, t.plan(st, o, index, &ask, tokenOptions(&cl.SubOptions), unix32(cl.ExpireAt)))
		}
	})
}

// subscribed makes a client's subscription and replies.
func (t *Table) subscribed(k call, st *state, name string, p plan) {
	if p.expires != 0 && p.expires <= t.now() {
		t.fail(k, []byte(name), centrifuge.ErrExpired)
		return
	}
	// The application may have subscribed it while a hook or a key set was asked.
	switch {
	case t.find(k.i, []byte(name)) != 0:
		t.fail(k, []byte(name), centrifuge.ErrAlreadySubscribed)
		return
	case int(st.count) >= t.n.o.ChannelLimit:
		t.fail(k, []byte(name), centrifuge.ErrLimitExceeded)
		return
	}
	t.begin(k, st, []byte(name), p, func(sub uint32, r *centrifuge.SubscribeResult, err error) {
		if err != nil {
			t.fail(k, []byte(name), err)
			return
		}
		if st.codec == Plain {
			t.replySubscribed(k, name, r)
		} else {
			t.reply(k.i, centrifuge.AppendSubscribe(t.out, t.format(k.i), k.id, r))
		}
		t.answered(k, []byte(name), 0)
		t.settle(k.i, st, sub)
	})
}

// errGone is a subscription that was ended while it began.
var errGone = &Error{Code: centrifuge.ErrInternal.Code, Message: "unsubscribed meanwhile", Temporary: true}

// begin makes a subscription. done has it, with what the client is told, or why there is none; publications are held back
// until settle.
func (t *Table) begin(k call, st *state, name []byte, p plan, done func(sub uint32, r *centrifuge.SubscribeResult, err error)) {
	sub := t.shard.Subscribe(k.i, name, p.flags|hub.SubHeld)
	sb := t.shard.At(sub)
	serial := sb.Serial
	sb.Options, sb.Expires = p.options, p.expires
	sb.Sibling, st.subs = st.subs, sub
	st.count++
	t.n.Subs.Add(1)
	if p.expires != 0 {
		st.flags |= flagSubs
	}
	if p.server {
		sb.Flags |= hub.SubServer
	}
	t.setSubInfo(sb, p.info)
	r := &centrifuge.SubscribeResult{Data: p.data}
	if p.expires != 0 && p.flags&hub.SubRefreshes == 0 {
		r.Expires, r.TTL = true, p.expires-min(p.expires, t.now())
	}
	if p.delta {
		r.Delta = true
		t.shard.SetDelta(sub)
	}
	if p.flags&hub.SubPositioned == 0 {
		done(sub, r, nil)
		return
	}
	r.Positioned, r.Recoverable = true, p.flags&hub.SubRecoverable != 0
	channel, o := string(name), t.n.o.Rules.At(p.options)
	t.engine(k.i, func(ctx context.Context) func() {
		f := engine.HistoryFilter{}
		if p.recover {
			f.Since, f.Limit = &p.since, p.limit
		}
		pubs, top, err := t.n.o.Engine.History(ctx, channel, f, o.HistoryMetaTTL)
		return func() {
			if sb.Serial != serial {
				done(0, nil, errGone)
				return
			}
			if err != nil {
				t.drop(k.i, st, sub)
				done(0, nil, err)
				return
			}
			t.recover(k.i, sub, p, pubs, top, r)
			if p.reject && !r.Recovered {
				t.drop(k.i, st, sub)
				done(0, nil, centrifuge.ErrUnrecoverable)
				return
			}
			done(sub, r, nil)
		}
	})
}

const maxChanInfo = 16 << 10

// recover notes where a subscription stands, and what it has missed.
func (t *Table) recover(i, sub uint32, p plan, pubs []*engine.Publication, top engine.Position, r *centrifuge.SubscribeResult) {
	sb := t.shard.At(sub)
	sb.Offset, sb.Epoch = top.Offset, hub.EpochHash(top.Epoch)
	r.Epoch, r.Offset = top.Epoch, top.Offset
	if !p.recover {
		return
	}
	r.WasRecovering = true
	if !engine.Recover(p.since, pubs, top) || !t.readable(i, pubs) {
		t.n.Lost.Add(1)
		return
	}
	t.n.Recovered.Add(1)
	r.Recovered, r.Offset = true, p.since.Offset
	for _, pub := range pubs {
		r.Publications = append(r.Publications, t.publication(i, pub, top.Epoch, p.delta))
	}
}

// publication is one of a history, as conn i gets it.
func (t *Table) publication(i uint32, p *engine.Publication, epoch string, delta bool) centrifuge.Publication {
	c := centrifuge.Publication{Publication: p, Stringed: delta && t.conn[i].codec != Protobuf}
	if p.Offset == 1 {
		c.Epoch = epoch
	}
	return c
}

// held is what came for a subscription while its history was read.
type held struct {
	pushes []*hub.Push
	bytes  int
	lost   bool // too much: it has to begin anew
}

const (
	maxHeldPushes = 4096
	maxHeldBytes  = 4 << 20
)

// settle lets a subscription whose reply is written have what came meanwhile, and makes it known.
func (t *Table) settle(i uint32, st *state, sub uint32) {
	sb := t.shard.At(sub)
	t.host.Subscribed(i, t.shard.Name(sub))
	if sb.Flags&hub.SubServer != 0 {
		t.given(i, t.shard.Name(sub))
	}
	serial := sb.Serial
	const known = hub.SubPresence | hub.SubEmits
	seen := sb.Flags & known
	// Nobody knows of it yet: if it ends in here there is no leave.
	sb.Flags &^= hub.SubHeld | known
	if h := t.held[sub]; h != nil {
		delete(t.held, sub)
		if h.lost {
			t.insufficient(i, st, sub)
			return
		}
		for _, p := range h.pushes {
			if t.push(sub, p); sb.Serial != serial {
				return // it ended the subscription
			}
		}
	}
	if sb.Flags |= seen; seen == 0 {
		return
	}
	name, flags, info := string(t.shard.Name(sub)), sb.Flags, t.info(i, st, sub)
	t.tell(i, func(ctx context.Context) {
		if flags&hub.SubPresence != 0 {
			t.n.told("presence", t.n.o.Engine.AddPresence(ctx, name, info, t.presenceTTL()))
		}
		if flags&hub.SubEmits != 0 {
			t.n.told("presence", t.n.o.Engine.PublishJoin(ctx, name, info))
		}
	})
	t.Drain()
}

// told logs what nobody waits for.
func (n *Node) told(what string, err error) {
	if err != nil {
		n.o.Log.Warn(what, "error", err.Error())
	}
}

// presenceTTL is for how long presence is noted: a session repeats it with each ping.
func (t *Table) presenceTTL() time.Duration {
	return 2*max(t.n.o.Ping, t.n.o.Beat) + t.n.o.Pong + 10*time.Second
}

// renew repeats presence.
func (t *Table) renew(i uint32, st *state) {
	for sub := st.subs; sub != 0; {
		sb := t.shard.At(sub)
		if sb.Flags&(hub.SubPresence|hub.SubHeld) == hub.SubPresence {
			name, info := string(t.shard.Name(sub)), t.info(i, st, sub)
			t.tell(i, func(ctx context.Context) {
				t.n.told("presence", t.n.o.Engine.AddPresence(ctx, name, info, t.presenceTTL()))
			})
		}
		sub = sb.Sibling
	}
}

// drop ends a subscription without a word to its client.
func (t *Table) drop(i uint32, st *state, sub uint32) {
	sb := t.shard.At(sub)
	at := &st.subs
	for *at != sub {
		at = &t.shard.At(*at).Sibling
	}
	*at = sb.Sibling
	st.count--
	t.n.Subs.Add(-1)
	if flags := sb.Flags; flags&hub.SubHeld == 0 && flags&(hub.SubPresence|hub.SubEmits) != 0 {
		name, info := string(t.shard.Name(sub)), t.info(i, st, sub)
		t.tell(i, func(ctx context.Context) {
			if flags&hub.SubPresence != 0 {
				t.n.told("presence", t.n.o.Engine.RemovePresence(ctx, name, info.Client))
			}
			if flags&hub.SubEmits != 0 {
				t.n.told("presence", t.n.o.Engine.PublishLeave(ctx, name, info))
			}
		})
	}
	t.bytes.Free(sb.Info)
	delete(t.held, sub)
	delete(t.behind, sub)
	t.shard.Unsubscribe(sub)
}

func (t *Table) unsubscribe(k call, st *state, name []byte) {
	if len(name) == 0 {
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	}
	if sub := t.find(k.i, name); sub != 0 {
		t.host.Left(k.i, name, 0)
		t.drop(k.i, st, sub)
	}
	if st.codec == Plain {
		t.replyUnsubscribed(k, string(name), centrifuge.UnsubscribeReason{})
	} else {
		t.reply(k.i, centrifuge.AppendEmpty(t.out, t.format(k.i), k.id, centrifuge.Unsubscribe))
	}
	t.answered(k, name, 0)
	t.Drain()
}

// end ends a subscription and tells the client why.
func (t *Table) end(i uint32, st *state, sub uint32, why centrifuge.UnsubscribeReason) {
	sb := t.shard.At(sub)
	if sb.Flags&hub.SubServer != 0 && why.Code >= 2500 {
		// The client does not subscribe to these by itself: it has to connect again.
		d := centrifuge.DisconnectInsufficientState
		if why.Code == centrifuge.UnsubscribeExpired.Code {
			d = centrifuge.DisconnectSubExpired
		}
		t.close(i, d)
		return
	}
	name := string(t.shard.Name(sub))
	t.host.Left(i, []byte(name), why.Code)
	t.drop(i, st, sub)
	if st.codec == Plain {
		t.replyUnsubscribed(call{i: i}, name, why)
		return
	}
	t.reply(i, centrifuge.AppendUnsubscribe(t.out, t.format(i), name, why))
}

// insufficient ends a subscription that cannot be continued without a gap; the client begins it anew and recovers.
func (t *Table) insufficient(i uint32, st *state, sub uint32) {
	t.end(i, st, sub, centrifuge.UnsubscribeInsufficientState)
}

// subRefresh prolongs a subscription by another token.
func (t *Table) subRefresh(k call, st *state, name, tok []byte) {
	sub := uint32(0)
	if len(name) > 0 {
		sub = t.find(k.i, name)
	}
	switch {
	case len(name) == 0:
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	case sub == 0:
		t.fail(k, name, centrifuge.ErrPermissionDenied)
		return
	case t.shard.At(sub).Flags&hub.SubRefreshes != 0:
		t.close(k.i, centrifuge.DisconnectBadRequest) // the server sees to it
		return
	case len(tok) == 0:
		t.fail(k, name, centrifuge.ErrBadRequest)
		return
	}
	channel, own := string(name), slices.Clone(tok)
	t.do(k.i, t.n.o.SubTokens.Slow(own), func(ctx context.Context) func() {
		cl, err := t.n.o.SubTokens.Subscribe(ctx, own)
		return func() {
			sub := t.find(k.i, []byte(channel))
			switch {
			case err != nil:
				t.fail(k, []byte(channel), tokenError(err, centrifuge.ErrPermissionDenied))
				return
			case cl.Channel != channel, cl.User != t.user(st), cl.Client != "" && cl.Client != t.id(k.i):
				t.close(k.i, centrifuge.DisconnectInvalidToken)
				return
			case sub == 0:
				t.fail(k, []byte(channel), centrifuge.ErrPermissionDenied)
				return
			case t.over(unix32(cl.ExpireAt), 0):
				t.fail(k, []byte(channel), centrifuge.ErrExpired)
				return
			}
			sb := t.shard.At(sub)
			sb.Expires = unix32(cl.ExpireAt)
			t.setSubInfo(sb, cl.Info)
			ttl := uint32(0)
			if sb.Expires != 0 {
				st.flags |= flagSubs
				ttl = sb.Expires - min(sb.Expires, t.now())
			}
			t.reply(k.i, centrifuge.AppendSubRefresh(t.out, t.format(k.i), k.id, sb.Expires != 0, ttl))
			t.answered(k, []byte(channel), 0)
		}
	})
}

func (t *Table) setSubInfo(sb *hub.Sub, info []byte) {
	t.bytes.Free(sb.Info)
	// What is no JSON could not be shown to clients that speak it.
	if sb.Info = 0; len(info) > 0 && len(info) <= maxChanInfo && json.Valid(info) {
		sb.Info = t.bytes.Put(info)
	}
}

func (t *Table) subRefreshByHook(i uint32, st *state, sub uint32) {
	hook := t.n.o.Hooks.SubRefresh
	if hook == nil {
		t.end(i, st, sub, centrifuge.UnsubscribeExpired)
		return
	}
	sb := t.shard.At(sub)
	sb.Flags |= hub.SubAsked
	serial := sb.Serial
	cl, name := t.client(i, st), string(t.shard.Name(sub))
	t.do(i, true, func(ctx context.Context) func() {
		r, err := hook(ctx, cl, name)
		return func() {
			if sb.Serial != serial {
				return // ended meanwhile
			}
			sb.Flags &^= hub.SubAsked
			switch d := (*Disconnect)(nil); {
			case errors.As(err, &d):
				t.close(i, d)
			case err != nil && !t.over(sb.Expires, t.n.o.Grace):
				// The application does not answer: there is the grace.
			case err != nil || r.Expired || !r.ExpireAt.IsZero() && !r.ExpireAt.After(t.host.Now()):
				t.end(i, st, sub, centrifuge.UnsubscribeExpired)
			default:
				if sb.Expires = unixOf(r.ExpireAt); r.Info != nil {
					t.setSubInfo(sb, r.Info)
				}
			}
		}
	})
}
