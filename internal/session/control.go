package session

import (
	"encoding/json"

	"github.com/longwire/longwire/internal/wire/centrifuge"
)

// Control is what an application asks of sessions wherever they are. It travels through the engine to every node as JSON, and
// there to every loop.
type Control struct {
	Subscribe   *SubscribeAs  `json:"subscribe,omitempty"`
	Unsubscribe bool          `json:"unsubscribe,omitempty"`
	Disconnect  *DisconnectAs `json:"disconnect,omitempty"`
	Refresh     *RefreshAs    `json:"refresh,omitempty"`

	Target  Target `json:"target"`
	Channel string `json:"channel,omitempty"`
}

// Encode writes c for Engine.Control.
func (c *Control) Encode() ([]byte, error) { return json.Marshal(c) }

// DecodeControl reads what Encode wrote.
func DecodeControl(b []byte) (*Control, error) {
	c := new(Control)
	err := json.Unmarshal(b, c)
	return c, err
}

// Do carries c out for the sessions of this loop.
func (t *Table) Do(c *Control) {
	if c.Disconnect != nil {
		t.disconnect(c.Target, c.Disconnect)
		t.Drain()
		return
	}
	t.Each(c.Target, func(i uint32) {
		st := &t.conn[i]
		switch {
		case c.Subscribe != nil:
			t.subscribeAs(i, st, c.Channel, c.Subscribe)
		case c.Unsubscribe:
			if sub := t.find(i, []byte(c.Channel)); sub != 0 {
				t.end(i, st, sub, centrifuge.UnsubscribeServer)
			}
		case c.Refresh != nil:
			t.refreshAs(i, st, c.Refresh)
		}
	})
	t.Drain()
}

func (t *Table) subscribeAs(i uint32, st *state, name string, as *SubscribeAs) {
	o, index, err := t.rules([]byte(name))
	if err != nil || t.find(i, []byte(name)) != 0 || int(st.count) >= t.n.o.ChannelLimit {
		return // it has it, or cannot: nobody waits for an answer
	}
	ask := centrifuge.SubscribeOptions{Recover: as.Recover, Recoverable: as.Recover, Offset: as.RecoverOffset, Epoch: []byte(as.RecoverEpoch)}
	p := t.plan(st, o, index, &ask, as.Options, unixOf(as.ExpireAt))
	p.server = true
	t.begin(call{i: i}, st, []byte(name), p, func(sub uint32, r *centrifuge.SubscribeResult, err error) {
		if err != nil {
			t.n.told("subscribe", err)
			return
		}
		if st.codec == Plain {
			t.replySubscribed(call{i: i}, name, r)
		} else {
			t.reply(i, centrifuge.AppendSubscribePush(t.out, t.format(i), name, r))
			// The push has no room for what was recovered.
			for k := range r.Publications {
				t.reply(i, centrifuge.AppendPublication(t.out, t.format(i), name, &r.Publications[k]))
			}
		}
		t.settle(i, st, sub)
	})
}

func (t *Table) refreshAs(i uint32, st *state, as *RefreshAs) {
	now := t.host.Now()
	switch {
	case as.Expired || !as.ExpireAt.IsZero() && !as.ExpireAt.After(now):
		t.close(i, centrifuge.DisconnectExpired)
		return
	case as.Info != nil:
		if err := t.setWho(st, t.user(st), as.Info); err != nil {
			t.n.told("refresh", err)
		}
	}
	st.expires = unixOf(as.ExpireAt)
	if st.busy == 0 {
		t.arm(i, st)
	}
	if st.codec == Plain {
		return
	}
	ttl := uint32(0)
	if st.expires != 0 {
		ttl = st.expires - min(st.expires, t.now())
	}
	t.reply(i, centrifuge.AppendRefreshPush(t.out, t.format(i), st.expires != 0, ttl))
}

// Users adds the users of this loop's sessions to set, each once.
func (t *Table) Users(set map[string]struct{}) {
	t.users.Each(t.link, func(ref uint32) bool {
		set[t.user(&t.conn[ref-1])] = struct{}{}
		return true
	})
}

// Channels adds this loop's channels and their subscribers to m.
func (t *Table) Channels(m map[string]int) {
	t.shard.EachChannel(func(name []byte, subs int) { m[string(name)] += subs })
}
