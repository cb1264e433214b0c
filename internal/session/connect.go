package session

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Connecting, refreshing, expiring.

// credentials are who a client is, by its token or the application.
type credentials struct {
	user    string
	info    []byte
	data    []byte
	expires uint32
	hook    bool // prolonged by a hook
	subs    []serverSub
}

// subscription tells one from another that has its reference later.
type subscription struct{ sub, serial uint32 }

// serverSub is a subscription that the server makes.
type serverSub struct {
	channel string
	options SubscribeOptions
	expires uint32
}

func (t *Table) connect(k call, st *state, c *centrifuge.Command) {
	if !t.n.connects.take(t.host.Now()) {
		// Waiting here would only make it time out. SDKs back off at random; the reason is for those that listen.
		d := *centrifuge.DisconnectTooManyRequests
		d.Reason = Advise(d.Reason, t.n.connects.later(t.host.Now()))
		t.close(k.i, &d)
		return
	}
	recover := recoveries(c.Subs)
	hook := t.n.o.Hooks.Connect
	switch {
	case len(c.Token) > 0:
		tok, slow := c.Token, t.n.o.Tokens.Slow(c.Token)
		if slow {
			tok = slices.Clone(tok) // the message is gone by then
		}
		t.do(k.i, slow, func(ctx context.Context) func() {
			cl, err := t.n.o.Tokens.Connect(ctx, tok)
			return func() {
				if err != nil {
					t.fail(k, nil, tokenError(err, centrifuge.DisconnectInvalidToken))
					return
				}
				cr := credentials{user: cl.User, info: cl.Info, expires: unix32(cl.ExpireAt), subs: tokenSubs(&cl)}
				if t.n.o.Insecure {
					cr.expires = 0
				}
				t.connected(k, st, cr, recover)
			}
		})
	case hook != nil:
		cl := t.client(k.i, st)
		cl.Name, cl.Version = string(c.Name), string(c.Version)
		if len(c.Headers) > 0 && len(t.n.o.Hooks.Headers) > 0 {
			cl.Headers = t.withHeaders(cl.Headers, c.Headers)
			t.headers[k.i] = cl.Headers
		}
		r := ConnectRequest{Data: slices.Clone(c.Data)}
		t.do(k.i, true, func(ctx context.Context) func() {
			reply, err := hook(ctx, cl, r)
			return func() {
				if err != nil {
					t.fail(k, nil, err)
					return
				}
				cr := credentials{user: reply.User, info: reply.Info, data: reply.Data, expires: unixOf(reply.ExpireAt), hook: !reply.ExpireAt.IsZero()}
				for _, ch := range reply.Channels {
					cr.subs = append(cr.subs, serverSub{channel: ch})
				}
				for ch, o := range reply.Subs {
					cr.subs = append(cr.subs, serverSub{channel: ch, options: o})
				}
				slices.SortFunc(cr.subs, func(a, b serverSub) int { return strings.Compare(a.channel, b.channel) })
				t.connected(k, st, cr, recover)
			}
		})
	case t.n.o.Insecure || t.n.o.Anonymous:
		t.connected(k, st, credentials{}, recover)
	default:
		t.close(k.i, centrifuge.DisconnectBadRequest)
	}
}

// withHeaders adds those of connect's headers that hooks want to what the handshake had, which a client that is a page
// cannot choose: they win.
func (t *Table) withHeaders(m map[string]string, hs []centrifuge.Header) map[string]string {
	out := make(map[string]string, len(m)+len(hs))
	for _, h := range hs {
		for _, name := range t.n.o.Hooks.Headers {
			if strings.EqualFold(name, string(h.Name)) {
				out[name] = string(h.Value)
			}
		}
	}
	maps.Copy(out, m)
	return out
}

// recoveries are what a client wants back of its server-side subscriptions, by channel.
func recoveries(subs []centrifuge.ChannelSubscribe) map[string]centrifuge.SubscribeOptions {
	if len(subs) == 0 {
		return nil
	}
	m := make(map[string]centrifuge.SubscribeOptions, len(subs))
	for _, s := range subs {
		o := s.SubscribeOptions
		o.Epoch = slices.Clone(o.Epoch)
		o.Delta = slices.Clone(o.Delta)
		m[string(s.Channel)] = o
	}
	return m
}

// tokenError is what a client is told of a token that was not good.
func tokenError(err error, invalid error) error {
	switch {
	case errors.Is(err, token.ErrExpired):
		return centrifuge.ErrTokenExpired
	case errors.Is(err, token.ErrUnavailable):
		return centrifuge.ErrInternal
	}
	return invalid
}

func tokenSubs(c *token.Connect) (subs []serverSub) {
	for _, ch := range c.Channels {
		subs = append(subs, serverSub{channel: ch})
	}
	for _, s := range c.Subs {
		subs = append(subs, serverSub{channel: s.Channel, options: tokenOptions(&s.SubOptions)})
	}
	return subs
}

func tokenOptions(o *token.SubOptions) SubscribeOptions {
	return SubscribeOptions{Info: o.Info, Data: o.Data, Presence: o.Presence, JoinLeave: o.JoinLeave,
		ForceJoinLeave: o.ForcePushJoinLeave, ForceRecovery: o.ForceRecovery, ForcePositioning: o.ForcePositioning}
}

// unix32 is a Unix time as sessions keep it; 0 stays never.
func unix32(s int64) uint32 { return uint32(max(0, min(s, math.MaxUint32))) }

func unixOf(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return max(1, unix32(t.Unix()))
}

// connected makes conn i's session one of a known client: its server-side subscriptions, then the reply.
func (t *Table) connected(k call, st *state, cr credentials, recover map[string]centrifuge.SubscribeOptions) {
	if cr.expires != 0 && cr.expires <= t.now() {
		t.fail(k, nil, centrifuge.ErrExpired)
		return
	}
	if err := t.setWho(st, cr.user, cr.info); err != nil {
		t.fail(k, nil, &Error{Code: centrifuge.ErrLimitExceeded.Code, Message: err.Error()})
		return
	}
	if cr.user != "" {
		st.hash = t.userHash(cr.user)
		t.users.Add(k.i+1, st.hash, t.link, t.hashOf)
	}
	st.expires = cr.expires
	if cr.hook {
		st.flags |= flagRefresh
	}
	st.phase = phaseConnected
	st.due = t.tick(t.n.o.Ping) // until the reply
	t.n.Sessions.Add(1)
	t.host.Connected(k.i, cr.user)
	r := &centrifuge.ConnectResult{Client: t.id(k.i), Version: t.n.o.Version, Data: cr.data}
	if st.expires != 0 && !cr.hook {
		r.Expires, r.TTL = true, st.expires-t.now()
	}
	if st.flags&flagFrames == 0 {
		r.Ping = uint32((t.n.o.Ping + time.Second - 1) / time.Second)
		r.Pong = t.n.o.Pong > 0
	}
	t.serverSubs(k, st, cr.subs, recover, r, nil)
}

// serverSubs makes one of the subscriptions after the other, then replies to connect.
func (t *Table) serverSubs(k call, st *state, subs []serverSub, recover map[string]centrifuge.SubscribeOptions, r *centrifuge.ConnectResult, made []subscription) {
	if len(subs) == 0 {
		t.replyConnect(k, st, r, made)
		return
	}
	s := subs[0]
	ask, recovers := recover[s.channel]
	if !recovers {
		ask = centrifuge.SubscribeOptions{}
	}
	o, index, ok := t.n.o.Rules.Lookup([]byte(s.channel))
	switch {
	case !channel.CheckName([]byte(s.channel), t.n.o.ChannelLength):
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	case !ok:
		t.refuse(k, st, centrifuge.ErrUnknownChannel)
		return
	case t.find(k.i, []byte(s.channel)) != 0:
		t.serverSubs(k, st, subs[1:], recover, r, made)
		return
	case int(st.count) >= t.n.o.ChannelLimit:
		t.close(k.i, centrifuge.DisconnectChannelLimit)
		return
	}
	p := t.plan(st, o, index, &ask, s.options, s.expires)
	p.server = true
	t.begin(k, st, []byte(s.channel), p, func(sub uint32, res *centrifuge.SubscribeResult, err error) {
		switch {
		case err == error(errGone):
		case err != nil:
			t.refuse(k, st, err)
			return
		default:
			made = append(made, subscription{sub, t.shard.At(sub).Serial})
			r.Subs = append(r.Subs, centrifuge.ChannelResult{Channel: s.channel, SubscribeResult: *res})
		}
		t.serverSubs(k, st, subs[1:], recover, r, made)
	})
}

// refuse takes back what connected did, and answers connect with err.
func (t *Table) refuse(k call, st *state, err error) {
	t.retire(k.i, st)
	st.phase, st.expires, st.flags = phaseOpened, 0, st.flags&flagFrames
	t.host.SetTimer(k.i, t.n.o.Stale)
	t.fail(k, nil, err)
}

// replyConnect replies with the subscriptions that are still there, and lets their publications go.
func (t *Table) replyConnect(k call, st *state, r *centrifuge.ConnectResult, made []subscription) {
	subs := r.Subs
	r.Subs = r.Subs[:0]
	for n, m := range made {
		if t.shard.At(m.sub).Serial == m.serial {
			r.Subs = append(r.Subs, subs[n])
		}
	}
	t.reply(k.i, centrifuge.AppendConnect(t.out, t.format(k.i), k.id, r))
	user, _ := t.who(st)
	t.answered(k, user, 0)
	// The first ping comes within the second half of the time, so that clients that came together are spread.
	st.due = t.tick(t.n.o.Ping/2 + rand.N(t.n.o.Ping/2+1))
	t.arm(k.i, st)
	for _, m := range made {
		if t.shard.At(m.sub).Serial == m.serial { // the one before may have ended the session
			t.settle(k.i, st, m.sub)
		}
	}
}

// refresh prolongs a session by another token.
func (t *Table) refresh(k call, st *state, tok []byte) {
	switch {
	case len(tok) == 0:
		t.close(k.i, centrifuge.DisconnectBadRequest)
		return
	case st.flags&flagRefresh != 0:
		t.close(k.i, centrifuge.DisconnectBadRequest) // the server sees to it
		return
	}
	own := slices.Clone(tok)
	t.do(k.i, t.n.o.Tokens.Slow(own), func(ctx context.Context) func() {
		cl, err := t.n.o.Tokens.Connect(ctx, own)
		return func() {
			switch {
			case err != nil:
				t.fail(k, nil, tokenError(err, centrifuge.DisconnectInvalidToken))
				return
			case cl.User != t.user(st):
				t.close(k.i, centrifuge.DisconnectInvalidToken)
				return
			}
			expires := unix32(cl.ExpireAt)
			if t.n.o.Insecure {
				expires = 0
			}
			if t.over(expires, 0) {
				t.fail(k, nil, centrifuge.ErrExpired)
				return
			}
			if cl.Info != nil {
				if err := t.setWho(st, cl.User, cl.Info); err != nil {
					t.fail(k, nil, &Error{Code: centrifuge.ErrLimitExceeded.Code, Message: err.Error()})
					return
				}
			}
			st.expires = expires
			ttl := uint32(0)
			if st.expires != 0 {
				ttl = st.expires - min(st.expires, t.now())
			}
			t.reply(k.i, centrifuge.AppendRefresh(t.out, t.format(k.i), k.id, "", "", st.expires != 0, ttl))
			t.answered(k, nil, 0)
		}
	})
}

// untilExpiry is the time until something of the session has to be looked at.
func (t *Table) untilExpiry(st *state) time.Duration {
	d := time.Duration(math.MaxInt64)
	now := t.host.Now()
	until := func(at uint32, hook, asked bool) {
		if at == 0 || asked {
			return // the hook's answer sets the timer
		}
		left := time.Unix(int64(at), 0).Sub(now)
		if !hook || left <= 0 {
			left += t.n.o.Grace // a hook that failed is asked again with the next ping, and then
		}
		d = min(d, left)
	}
	until(st.expires, st.flags&flagRefresh != 0, st.flags&flagAsked != 0)
	if st.flags&flagSubs != 0 {
		for sub := st.subs; sub != 0; {
			sb := t.shard.At(sub)
			until(sb.Expires, sb.Flags&hub.SubRefreshes != 0, sb.Flags&hub.SubAsked != 0)
			sub = sb.Sibling
		}
	}
	return d
}

// over reports whether the time at, in Unix seconds, and grace after it have passed.
func (t *Table) over(at uint32, grace time.Duration) bool {
	return at != 0 && !t.host.Now().Before(time.Unix(int64(at), 0).Add(grace))
}

// expire ends what has expired, and asks hooks where they prolong it. It reports false if the conn is over.
func (t *Table) expire(i uint32, st *state) bool {
	switch {
	case st.flags&flagRefresh != 0:
		if st.flags&flagAsked == 0 && t.over(st.expires, 0) {
			t.refreshByHook(i, st)
		}
	case t.over(st.expires, t.n.o.Grace):
		t.close(i, centrifuge.DisconnectExpired)
	}
	if st.phase == phaseOver || st.flags&flagSubs == 0 {
		return st.phase != phaseOver
	}
	for sub := st.subs; sub != 0; {
		sb := t.shard.At(sub)
		next := sb.Sibling
		switch {
		case sb.Flags&hub.SubRefreshes != 0:
			if sb.Flags&hub.SubAsked == 0 && t.over(sb.Expires, 0) {
				t.subRefreshByHook(i, st, sub)
			}
		case t.over(sb.Expires, t.n.o.Grace):
			t.end(i, st, sub, centrifuge.UnsubscribeExpired)
		}
		if st.phase == phaseOver {
			return false
		}
		sub = next
	}
	return true
}

func (t *Table) refreshByHook(i uint32, st *state) {
	hook := t.n.o.Hooks.Refresh
	if hook == nil {
		t.close(i, centrifuge.DisconnectExpired)
		return
	}
	st.flags |= flagAsked
	cl := t.client(i, st)
	t.do(i, true, func(ctx context.Context) func() {
		r, err := hook(ctx, cl)
		return func() {
			st.flags &^= flagAsked
			switch d := (*Disconnect)(nil); {
			case errors.As(err, &d):
				t.close(i, d)
			case err != nil && !t.over(st.expires, t.n.o.Grace):
				// The application does not answer: there is the grace.
			case err != nil || r.Expired || !r.ExpireAt.IsZero() && !r.ExpireAt.After(t.host.Now()):
				t.close(i, centrifuge.DisconnectExpired)
			default:
				if st.expires = unixOf(r.ExpireAt); r.Info != nil {
					_ = t.setWho(st, cl.User, r.Info) // too long: it stays as it was
				}
			}
		}
	})
}
