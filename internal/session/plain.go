package session

import (
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/plain"
	"github.com/longwire/longwire/ws"
)

// The plain protocol: a session without a connect command. It comes into being with the first command about a channel.

// PlainMessage takes one message of conn i in the plain protocol.
func (t *Table) PlainMessage(i uint32, b []byte) {
	c, err := plain.Parse(b)
	switch {
	case err != nil:
		t.host.Reply(i, ws.OpText, plain.AppendErrorFor(t.out[:0], c.ID, "", 0, err.Error()))
	case c.Kind == plain.Ping:
		t.host.Reply(i, ws.OpText, plain.AppendPong(t.out[:0], c.TS))
	case c.Kind == plain.Pong:
	case c.Kind == plain.Unknown:
		t.host.Reply(i, ws.OpText, plain.AppendErrorFor(t.out[:0], c.ID, "", 0, "unknown type"))
	default:
		t.plainCommand(i, &c)
	}
}

func (t *Table) plainCommand(i uint32, c *plain.Command) {
	if !t.PlainSession(i) {
		return
	}
	st := &t.conn[i]
	k := call{i: i, plain: string(c.ID)}
	defer func() { t.span = 0 }()
	switch c.Kind {
	case plain.Subscribe:
		t.began(&k, centrifuge.Subscribe)
		t.subscribe(k, st, &centrifuge.Command{Channel: c.Channel, SubscribeOptions: centrifuge.SubscribeOptions{
			Recoverable: true, Positioned: true, Recover: c.HasPosition, Offset: c.Offset, Epoch: c.Epoch}})
	case plain.Unsubscribe:
		t.began(&k, centrifuge.Unsubscribe)
		t.unsubscribe(k, st, c.Channel)
	case plain.Publish:
		t.began(&k, centrifuge.Publish)
		t.publish(k, st, c.Channel, c.Data)
	}
}

// PlainSession makes a session of conn i, which speaks the plain protocol, if it is none yet: an anonymous one. It
// reports false if the conn is over.
func (t *Table) PlainSession(i uint32) bool {
	switch st := &t.conn[i]; st.phase {
	case phaseNone:
		t.Open(i, Opening{Protocol: Plain, Frames: true, Header: func(string) []byte { return nil }})
		st.phase = phaseConnected
		t.n.Sessions.Add(1)
		return true
	case phaseOver:
		return false
	}
	return true
}

// PlainSubscribe subscribes conn i to a channel that its URL names.
func (t *Table) PlainSubscribe(i uint32, channel []byte) {
	t.plainCommand(i, &plain.Command{Kind: plain.Subscribe, Channel: channel})
}

func appendPlainError(dst []byte, id string, channel []byte, e *Error) []byte {
	return plain.AppendErrorFor(dst, []byte(id), string(channel), e.Code, e.Message)
}

func (t *Table) replySubscribed(k call, channel string, r *centrifuge.SubscribeResult) {
	offset := r.Offset
	if n := len(r.Publications); n > 0 {
		offset = r.Publications[n-1].Offset
	}
	t.reply(k.i, plain.AppendSubscribed(t.out, []byte(k.plain), channel, r.Recoverable, offset, r.Epoch, r.Recovered, r.WasRecovering))
	for _, p := range r.Publications {
		user, client := "", ""
		if p.Info != nil {
			user, client = p.Info.User, p.Info.Client
		}
		t.reply(k.i, plain.AppendMessage(t.out, channel, p.Data, p.Offset, r.Epoch, client, user))
	}
}

func (t *Table) replyUnsubscribed(k call, channel string, why centrifuge.UnsubscribeReason) {
	t.reply(k.i, plain.AppendUnsubscribed(t.out, []byte(k.plain), channel, why.Code, why.Reason))
}

func (t *Table) replyPublished(k call, channel string, r engine.Published) {
	t.reply(k.i, plain.AppendPublished(t.out, []byte(k.plain), channel, r.Offset, r.Epoch))
}
