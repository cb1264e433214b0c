package session

import (
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/json"
)

// What reaches subscribers.

// push is one push for one subscription. Each positioned subscription sees to it by itself that there is no gap and no
// double, whatever was lost or repeated on the way.
func (t *Table) push(sub uint32, p *hub.Push) {
	sb := t.shard.At(sub)
	i := sb.Slot
	st := &t.conn[i]
	switch {
	case p.Kind != hub.KindPublication && sb.Flags&hub.SubJoinLeave == 0:
		return
	case sb.Flags&hub.SubHeld != 0:
		t.hold(sub, p)
		return
	case p.Kind != hub.KindPublication:
		t.host.Push(i, p.Frame(st.codec, t.host.Window(i), t.n.o.CompressAbove), t.shard.More())
		return
	}
	if sb.Flags&hub.SubPositioned != 0 && p.Publication.Offset != 0 {
		switch o := p.Publication.Offset; {
		case t.epochHash(p.Epoch) != sb.Epoch:
			t.insufficient(i, st, sub)
			return
		case o <= sb.Offset:
			return // it came with the history
		case o != sb.Offset+1:
			t.insufficient(i, st, sub)
			return
		default:
			sb.Offset = o
		}
	}
	if st.codec != Protobuf && !p.IsJSON() {
		t.close(i, centrifuge.DisconnectInappropriate)
		return
	}
	if sb.Flags&hub.SubBehind != 0 || t.host.Backlog(i) > slowAbove {
		if o := t.n.o.Rules.At(sb.Options); o.Slow != channel.SlowDisconnect {
			t.lag(sub, sb, o, p)
			return
		}
	}
	t.send(i, st, sb, p)
}

// epochHash is hub.EpochHash, which the thousands that get one publication ask of one epoch.
func (t *Table) epochHash(epoch string) uint32 {
	if epoch != t.epoch || t.epochIs == 0 {
		t.epoch, t.epochIs = epoch, hub.EpochHash(epoch)
	}
	return t.epochIs
}

// slowAbove is how many bytes may wait for a conn before a policy that drops takes hold.
const slowAbove = 16 << 10

func (t *Table) send(i uint32, st *state, sb *hub.Sub, p *hub.Push) {
	c := st.codec
	if sb.Flags&hub.SubDelta != 0 {
		delta := sb.Flags&hub.SubBased != 0 && p.HasDelta()
		switch {
		case c == JSON && delta:
			c = hub.CentrifugeJSONDelta
		case c == JSON:
			c = hub.CentrifugeJSONString
		case c == Protobuf && delta:
			c = hub.CentrifugeProtobufDelta
		}
		sb.Flags |= hub.SubBased
	}
	t.host.Push(i, p.Frame(c, t.host.Window(i), t.n.o.CompressAbove), t.shard.More())
}

func (t *Table) hold(sub uint32, p *hub.Push) {
	h := t.held[sub]
	if h == nil {
		h = new(held)
		t.held[sub] = h
	}
	if h.lost {
		return
	}
	if p.Publication != nil {
		h.bytes += len(p.Publication.Data)
	}
	if len(h.pushes) >= maxHeldPushes || h.bytes > maxHeldBytes {
		h.lost, h.pushes = true, nil
		return
	}
	h.pushes = append(h.pushes, p)
}

// backlog is what waits for a subscription whose conn is slow, oldest first.
type backlog struct{ pushes []*hub.Push }

// lag has a push wait, in the place of the oldest where there are too many.
func (t *Table) lag(sub uint32, sb *hub.Sub, o *channel.Options, p *hub.Push) {
	keep := o.SlowKeep
	if o.Slow == channel.SlowConflate {
		keep = 1
	}
	sb.Flags = sb.Flags&^hub.SubBased | hub.SubBehind
	b := t.behind[sub]
	if b == nil {
		b = new(backlog)
		t.behind[sub] = b
	}
	if len(b.pushes) >= keep {
		n := copy(b.pushes, b.pushes[len(b.pushes)-keep+1:])
		b.pushes = b.pushes[:n]
		t.n.Slow.Add(1)
	}
	b.pushes = append(b.pushes, p)
}

// Drained sends conn i what waited for its socket.
func (t *Table) Drained(i uint32) {
	st := &t.conn[i]
	if len(t.behind) == 0 || st.phase != phaseConnected {
		return
	}
	for sub := st.subs; sub != 0; {
		sb := t.shard.At(sub)
		next := sb.Sibling
		if sb.Flags&hub.SubBehind != 0 {
			b := t.behind[sub]
			for len(b.pushes) > 0 && t.host.Backlog(i) <= slowAbove {
				p := b.pushes[0]
				b.pushes = b.pushes[1:]
				if t.send(i, st, sb, p); st.phase != phaseConnected {
					return
				}
			}
			if len(b.pushes) > 0 {
				return // until the next time
			}
			delete(t.behind, sub)
			sb.Flags &^= hub.SubBehind
		}
		sub = next
	}
}

// readable reports whether a client can have all of pubs.
func (t *Table) readable(i uint32, pubs []*engine.Publication) bool {
	if t.conn[i].codec == Protobuf {
		return true
	}
	for _, p := range pubs {
		if !json.Valid(p.Data) {
			return false
		}
	}
	return true
}
