package session

import "time"

// What an operator's search asks of the sessions of a loop.

// Summary is what is known of conn i's session.
type Summary struct {
	Client        string
	User          string
	Connected     bool
	Subscriptions int
	Protocol      Protocol // of a session
}

// Summary tells of conn i.
func (t *Table) Summary(i uint32) Summary {
	st := &t.conn[i]
	return Summary{Client: t.id(i), User: t.user(st), Connected: st.phase == phaseConnected, Subscriptions: int(st.count), Protocol: st.codec}
}

// Pinged is how long the last ping to conn i has been without an answer; false where none is out, or pings are not the session's.
func (t *Table) Pinged(i uint32) (ago time.Duration, ok bool) {
	st := &t.conn[i]
	if st.phase != phaseConnected || st.flags&flagFrames != 0 || st.pings == 0 || st.busy > 0 {
		return 0, false
	}
	return max(0, t.n.o.Pong-t.until(st.due)), true
}

// Wanted is a user, a channel, or both, as one table finds them. It holds until the table's thread does something else.
type Wanted struct {
	user    string
	hash    uint32 // of the user; 0: any
	channel uint32 // the shard's reference; 0: any
}

// Want looks up a user and a channel; empty means any. It reports false if no session of this loop is subscribed to the channel.
func (t *Table) Want(user string, channel []byte) (w Wanted, ok bool) {
	if user != "" {
		w.user, w.hash = user, t.userHash(user)
	}
	if len(channel) > 0 {
		if w.channel = t.shard.Find(channel); w.channel == 0 {
			return w, false
		}
	}
	return w, true
}

// Has reports whether conn i's session is that user's and subscribed to that channel.
func (t *Table) Has(i uint32, w *Wanted) bool {
	st := &t.conn[i]
	if w.hash != 0 && (st.hash != w.hash || t.user(st) != w.user) {
		return false
	}
	if w.channel == 0 {
		return true
	}
	for sub := st.subs; sub != 0; sub = t.shard.At(sub).Sibling {
		if t.shard.Channel(sub) == w.channel {
			return true
		}
	}
	return false
}

// Candidates are the conns that can have w, by an index, in no order; some of them may not have it. It reports false where
// there are more than most, or all can.
func (t *Table) Candidates(w *Wanted, most int) (slots []uint32, ok bool) {
	switch {
	case w.hash != 0:
		n := 0
		for ref := t.users.First(w.hash); ref != 0; ref = t.conn[ref-1].chain {
			if n++; n > most {
				return nil, false
			}
			if t.conn[ref-1].hash == w.hash {
				slots = append(slots, ref-1)
			}
		}
		return slots, true
	case w.channel != 0:
		return t.shard.Slots(w.channel, most)
	}
	return nil, false
}
