package memengine

import (
	"sync"
	"time"

	"github.com/longwire/longwire/engine"
)

// presence is who is in the channels of one part of the hash. Its lock is not that of shard: a large channel is copied
// under it.
type presence struct {
	mu       sync.Mutex
	open     bool // started, and not closed
	channels map[string]*room
	due      queue[*room]
	clients  int
}

// room is who is in one channel; never nobody. All is guarded by presence.mu.
type room struct {
	channel string
	members map[string]member // by client
	users   map[string]int    // how many members are that user
	due     slot[*room]       // in presence.due, at the earliest over of a member or before
}

type member struct {
	info *engine.ClientInfo
	over int64 // Unix milliseconds
}

func (p *presence) add(channel string, info *engine.ClientInfo, ttl time.Duration, now int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return errClosed
	}
	r := p.room(channel, now)
	if r == nil {
		r = &room{channel: channel, members: make(map[string]member), users: make(map[string]int)}
		r.due.owner = r
		p.channels[channel] = r
	}
	if old, ok := r.members[info.Client]; !ok {
		p.clients++
		r.users[info.User]++
	} else if old.info.User != info.User {
		r.leave(old.info.User)
		r.users[info.User]++
	}
	over := now + milliseconds(ttl)
	r.members[info.Client] = member{info, over}
	if r.due.index == 0 || over < r.due.at {
		p.due.put(&r.due, over)
	}
	return nil
}

func (p *presence) remove(channel, client string, now int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return errClosed
	}
	if r := p.room(channel, now); r != nil {
		p.take(r, client)
		p.tidy(r)
	}
	return nil
}

// list is everybody in channel, in a map of the caller's.
func (p *presence) list(channel string, now int64) (map[string]*engine.ClientInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return nil, errClosed
	}
	r := p.room(channel, now)
	if r == nil {
		return nil, nil
	}
	list := make(map[string]*engine.ClientInfo, len(r.members))
	for client, m := range r.members {
		list[client] = m.info
	}
	return list, nil
}

func (p *presence) stats(channel string, now int64) (engine.PresenceStats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return engine.PresenceStats{}, errClosed
	}
	r := p.room(channel, now)
	if r == nil {
		return engine.PresenceStats{}, nil
	}
	return engine.PresenceStats{Clients: len(r.members), Users: len(r.users)}, nil
}

// room is the channel's room without those whose time is over; nil: nobody is there.
func (p *presence) room(channel string, now int64) *room {
	r := p.channels[channel]
	if r == nil || r.due.at > now || p.expire(r, now) {
		return r
	}
	return nil
}

// expire takes out those whose time is over, and reports whether anybody is left. It walks over all, which is rare:
// who is alive is renewed well before.
func (p *presence) expire(r *room, now int64) bool {
	var next int64
	for client, m := range r.members {
		if m.over <= now {
			p.take(r, client)
		} else if next == 0 || m.over < next {
			next = m.over
		}
	}
	if p.tidy(r) {
		return false
	}
	p.due.put(&r.due, next)
	return true
}

// take takes a client out, if it is in.
func (p *presence) take(r *room, client string) {
	m, ok := r.members[client]
	if !ok {
		return
	}
	delete(r.members, client)
	r.leave(m.info.User)
	p.clients--
}

// tidy drops the room if nobody is left, and reports whether so.
func (p *presence) tidy(r *room) bool {
	if len(r.members) > 0 {
		return false
	}
	delete(p.channels, r.channel)
	p.due.remove(&r.due)
	return true
}

func (r *room) leave(user string) {
	if r.users[user]--; r.users[user] == 0 {
		delete(r.users, user)
	}
}

// sweep frees those whose time is over, and reports whether that was all.
func (p *presence) sweep(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range batch {
		head := p.due.head()
		if head == nil || head.at > now {
			return true
		}
		p.expire(head.owner, now)
	}
	return false
}
