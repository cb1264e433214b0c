package longwire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// What an application sends to channels, does to sessions and asks about both. Rights are for clients: none of them holds
// here. Any goroutine may call these methods, from Start on (under Handler: from the first request on) and while the
// gateway drains; earlier they return an error that is engine.ErrUnavailable, after Close ErrClosed. An *Error in what
// they return has one of the protocol's codes: 102 for a channel in a namespace that does not exist, 107 for what makes
// no sense, 108 for what the namespace does not keep, or what a gateway without sessions cannot do.
//
// With an engine that waits (for a network) they wait too, until ctx ends: callbacks on a loop leave that to Conn.Go.

type (
	// PublishOptions are what Publish and PublishAll do beyond delivering. The zero value keeps what the namespace keeps.
	PublishOptions = session.PublishOptions
	// PublishResult is what became of the publication in one channel of PublishAll.
	PublishResult = session.PublishResult
	// Target is whose sessions are meant: all of User, or the one whose id is Client (of User, if that is set too).
	Target = session.Target
	// SubscribeAs is how Gateway.Subscribe makes a subscription.
	SubscribeAs = session.SubscribeAs
	// SubscribeOptions override what the namespace says, for one subscription.
	SubscribeOptions = session.SubscribeOptions
	// DisconnectAs is how Gateway.Disconnect ends connections.
	DisconnectAs = session.DisconnectAs
	// RefreshAs is how Gateway.Refresh prolongs sessions.
	RefreshAs = session.RefreshAs
	// NodeInfo is one node in what Gateway.Info returns.
	NodeInfo = session.NodeInfo
)

var errNoSessions = &Error{Code: centrifuge.ErrNotAvailable.Code, Message: "no endpoint of this gateway has sessions"}

// Publish sends data to the subscribers of a channel, and keeps it as the channel's namespace says. data is copied. It is
// JSON where a subscriber speaks JSON, as most do: data that is not, or that is nested more than 512 deep, ends such a
// subscriber's connection with 3506. The error is ErrBusy if a loop has as much to deliver as it may hold: nothing was
// published then.
func (g *Gateway) Publish(ctx context.Context, channel string, data []byte, o PublishOptions) (engine.Published, error) {
	o.Tags = maps.Clone(o.Tags)
	return g.publish(ctx, channel, bytes.Clone(data), o)
}

// PublishAll publishes data in each of the channels, and returns what became of it in the order of channels; one that
// fails keeps no other from having it. Which channel is first is left open.
func (g *Gateway) PublishAll(ctx context.Context, channels []string, data []byte, o PublishOptions) []PublishResult {
	data, o.Tags = bytes.Clone(data), maps.Clone(o.Tags)
	results := make([]PublishResult, len(channels))
	workers := 1
	if _, ok := g.engine.(engine.Immediate); !ok {
		workers = min(len(channels), publishAtOnce)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(channels)); i = next.Add(1) - 1 {
				r := &results[i]
				r.Published, r.Err = g.publish(ctx, channels[i], data, o)
			}
		})
	}
	wg.Wait()
	return results
}

// publishAtOnce is how many publications of one PublishAll wait for the engine at a time.
const publishAtOnce = 64

// publish takes over data and o.Tags.
func (g *Gateway) publish(ctx context.Context, name string, data []byte, o PublishOptions) (engine.Published, error) {
	var r engine.Published
	rules, err := g.channelRules(name)
	if err == nil && len(data) == 0 {
		err = fmt.Errorf("no data: %w", centrifuge.ErrBadRequest)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		p := &engine.Publication{Data: data, Tags: o.Tags, Delta: o.Delta || rules.DeltaPublish}
		r, err = g.node.Publish(ctx, name, p, rules, o)
	}
	return r, g.failed(err, "publish to ", name)
}

// Subscribe subscribes the target's sessions to a channel, wherever they are connected. It returns when all nodes are being
// told: no session may be there, those that have the subscription already keep it, and one with as many as it may
// have does not get it. Data and Info are JSON.
func (g *Gateway) Subscribe(ctx context.Context, t Target, channel string, as SubscribeAs) error {
	_, err := g.channelRules(channel)
	if err == nil && !(isJSON(as.Options.Data) && isJSON(as.Options.Info)) {
		err = fmt.Errorf("data or info is no JSON: %w", centrifuge.ErrBadRequest)
	}
	if err == nil {
		err = g.control(ctx, &session.Control{Target: t, Channel: channel, Subscribe: &as})
	}
	return g.failed(err, "subscribe to ", channel)
}

// Unsubscribe ends the subscriptions of the target's sessions to a channel, with code 2000. It returns when all nodes are
// being told.
func (g *Gateway) Unsubscribe(ctx context.Context, t Target, channel string) error {
	_, err := g.channelRules(channel)
	if err == nil {
		err = g.control(ctx, &session.Control{Target: t, Channel: channel, Unsubscribe: true})
	}
	return g.failed(err, "unsubscribe from ", channel)
}

// Disconnect ends the connections of the target's sessions. A code that is set is 3000 to 4999, and Disconnect says what
// clients make of it; a reason has at most 123 bytes. It returns when all nodes are being told. Where a loop has more than
// ten of the sessions, and the code lets their clients come back, they go one after the other, Sessions.ConnectRate of them
// a second on each node (1,000 where that is 0), and "retry after N s" is added to the reason if there is room for it: N is
// their place among those who connect and a random time of up to 10 s.
func (g *Gateway) Disconnect(ctx context.Context, t Target, as DisconnectAs) error {
	var err error
	if as.Code != 0 && (as.Code < 3000 || as.Code > 4999) || len(as.Reason) > 123 || !utf8.ValidString(as.Reason) {
		err = fmt.Errorf("code %d with a reason of %d bytes: %w", as.Code, len(as.Reason), centrifuge.ErrBadRequest)
	}
	if err == nil {
		err = g.control(ctx, &session.Control{Target: t, Disconnect: &as})
	}
	return g.failed(err, "disconnect ", t.User)
}

// Refresh prolongs the target's sessions, or ends them with 3005. It returns when all nodes are being told. Info is JSON.
func (g *Gateway) Refresh(ctx context.Context, t Target, as RefreshAs) error {
	var err error
	if !isJSON(as.Info) {
		err = fmt.Errorf("info is no JSON: %w", centrifuge.ErrBadRequest)
	}
	if err == nil {
		err = g.control(ctx, &session.Control{Target: t, Refresh: &as})
	}
	return g.failed(err, "refresh ", t.User)
}

// Presence is who is subscribed to a channel whose namespace keeps that, by session id. The infos are shared and must not
// be changed.
func (g *Gateway) Presence(ctx context.Context, channel string) (map[string]*engine.ClientInfo, error) {
	var m map[string]*engine.ClientInfo
	err := g.presence(channel)
	if err == nil {
		m, err = g.engine.Presence(ctx, channel)
	}
	return m, g.failed(err, "presence of ", channel)
}

// PresenceStats is how many are subscribed to a channel whose namespace keeps that.
func (g *Gateway) PresenceStats(ctx context.Context, channel string) (engine.PresenceStats, error) {
	var s engine.PresenceStats
	err := g.presence(channel)
	if err == nil {
		s, err = g.engine.PresenceStats(ctx, channel)
	}
	return s, g.failed(err, "presence of ", channel)
}

func (g *Gateway) presence(name string) error {
	rules, err := g.channelRules(name)
	if err == nil && !rules.Presence {
		err = centrifuge.ErrNotAvailable
	}
	return err
}

// History reads what is kept of a channel, and the position of its end. Since with an epoch that is not the channel's gives
// error 112. Publications are shared and must not be changed.
func (g *Gateway) History(ctx context.Context, channel string, f engine.HistoryFilter) ([]*engine.Publication, engine.Position, error) {
	var pubs []*engine.Publication
	var top engine.Position
	rules, err := g.history(channel)
	if err == nil {
		pubs, top, err = g.engine.History(ctx, channel, f, rules.HistoryMetaTTL)
	}
	if err == nil && f.Since != nil && f.Since.Epoch != "" && f.Since.Epoch != top.Epoch {
		pubs, err = nil, centrifuge.ErrUnrecoverable
	}
	return pubs, top, g.failed(err, "history of ", channel)
}

// RemoveHistory drops what is kept of a channel. Offsets go on from where they were.
func (g *Gateway) RemoveHistory(ctx context.Context, channel string) error {
	_, err := g.history(channel)
	if err == nil {
		err = g.engine.RemoveHistory(ctx, channel)
	}
	return g.failed(err, "remove the history of ", channel)
}

func (g *Gateway) history(name string) (*channel.Options, error) {
	rules, err := g.channelRules(name)
	if err == nil && !rules.KeepsHistory() {
		err = centrifuge.ErrNotAvailable
	}
	return rules, err
}

// Channels is the channels of this node that have a subscriber, with their subscriptions. In pattern, * stands for any
// characters, or none; an empty pattern is all channels. Each loop goes through its own, and does nothing else meanwhile:
// with very many channels that shows in what clients have to wait. It must not be called from a loop's callback, which
// would wait for itself.
func (g *Gateway) Channels(ctx context.Context, pattern string) (map[string]int, error) {
	all := make(map[string]int)
	err := g.ask(ctx, func(f *front) func() {
		m := make(map[string]int)
		g.hub.Shard(f.l.Index()).EachChannel(func(name []byte, subs int) {
			if pattern == "" || match(pattern, string(name)) {
				m[string(name)] = subs
			}
		})
		return func() {
			for name, subs := range m {
				all[name] += subs
			}
		}
	})
	if err != nil {
		return nil, g.failed(err, "channels", "")
	}
	return all, nil
}

// Info is the nodes that are known: this one. It goes through users and channels as Channels does, and like that must not
// be called from a loop's callback.
func (g *Gateway) Info(ctx context.Context) ([]NodeInfo, error) {
	users, channels := make(map[string]struct{}), make(map[string]struct{})
	err := g.ask(ctx, func(f *front) func() {
		u, c := make(map[string]struct{}), make(map[string]int)
		f.sessions.Users(u)
		f.sessions.Channels(c)
		return func() {
			maps.Copy(users, u)
			for name := range c {
				channels[name] = struct{}{}
			}
		}
	})
	if err != nil {
		return nil, g.failed(err, "info", "")
	}
	s, _ := g.config.Sessions.withDefaults() // they were good in New
	n := NodeInfo{UID: g.node.UID(), Name: s.Name, Version: s.Version, Clients: int(g.node.Sessions.Load()), Users: len(users),
		Subs: int(g.node.Subs.Load()), Channels: len(channels)}
	g.mu.Lock()
	if !g.started.IsZero() {
		n.Uptime = int64(time.Since(g.started) / time.Second)
	}
	g.mu.Unlock()
	return []NodeInfo{n}, nil
}

// ask has f gather something on every loop with sessions, and calls what it returns one at a time. Where ask fails, that may
// go on for a while: the caller then leaves alone what they write to.
func (g *Gateway) ask(ctx context.Context, f func(*front) (add func())) error {
	if g.node == nil {
		return errNoSessions
	}
	g.mu.Lock()
	state := g.state
	g.mu.Unlock()
	if state == stateNew {
		return engine.ErrUnavailable // as an engine says it that was not started
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	var mu sync.Mutex
	err := g.loops.Ask(ctx, func(l *loop.Loop) {
		fr := g.fronts[l.Index()]
		if fr == nil || fr.sessions == nil {
			return
		}
		add := f(fr)
		mu.Lock()
		defer mu.Unlock()
		add()
	})
	if err == nil {
		err = g.ctx.Err()
	}
	return err
}

// channelRules is what holds for a channel.
func (g *Gateway) channelRules(name string) (*channel.Options, error) {
	if g.node == nil {
		return nil, errNoSessions
	}
	if !channel.CheckName([]byte(name), g.config.Sessions.ChannelLength) {
		return nil, centrifuge.ErrBadRequest
	}
	o, _, ok := g.rules.Lookup([]byte(name))
	if !ok {
		return nil, centrifuge.ErrUnknownChannel
	}
	return o, nil
}

// control hands a command to all nodes.
func (g *Gateway) control(ctx context.Context, c *session.Control) error {
	if g.node == nil {
		return errNoSessions
	}
	if c.Target == (Target{}) {
		return fmt.Errorf("neither a user nor a session is named: %w", centrifuge.ErrBadRequest)
	}
	b, err := c.Encode()
	if err != nil {
		return err
	}
	return g.engine.Control(ctx, b)
}

// failed is err, if it is one, with what was tried.
func (g *Gateway) failed(err error, what, name string) error {
	switch {
	case err == nil:
		return nil
	case g.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(err, session.ErrBusy):
		err = fmt.Errorf("%w: %w", ErrBusy, centrifuge.ErrTooManyRequests)
	}
	if name != "" {
		what += fmt.Sprintf("%.100q", name)
	}
	return fmt.Errorf("longwire: %s: %w", strings.TrimSpace(what), err)
}

// isJSON reports whether b can stand in a JSON text message. Nil can: it is left out.
func isJSON(b []byte) bool { return b == nil || utf8.Valid(b) && json.Valid(b) }

// match reports whether name is what pattern says, where * stands for any characters, or none.
func match(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(name, parts[0])
	if len(parts) == 1 || !ok {
		return ok && rest == ""
	}
	last := len(parts) - 1
	// What stands between two stars is taken where it is found first: that leaves the most for the others.
	for _, part := range parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[last])
}
