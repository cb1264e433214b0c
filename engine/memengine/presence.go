package memengine

import (
	"slices"
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
	members []member
	places  map[string]int // client → its index in members; nil while there are few
	users   map[string]int // how many members are that user; nil while there are few
	due     slot[*room]    // in presence.due, at the earliest over of a member or before
}

type member struct {
	info *engine.ClientInfo
	over int64 // Unix milliseconds
}

// few is how many members are looked through one by one: maps for one or two would be most of what they cost.
const few = 16

func (p *presence) add(channel string, info *engine.ClientInfo, ttl time.Duration, now int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return errClosed
	}
	r := p.room(channel, now)
	if r == nil {
		r = &room{channel: channel}
		r.due.owner = r
		p.channels[channel] = r
	}
	over := now + milliseconds(ttl)
	if i := r.find(info.Client); i >= 0 {
		r.count(r.members[i].info.User, -1)
		r.count(info.User, 1)
		r.members[i] = member{info, over}
	} else {
		p.clients++
		r.enter(member{info, over})
	}
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
		if i := r.find(client); i >= 0 {
			p.clients--
			r.leave(i)
			p.tidy(r)
		}
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
	for _, m := range r.members {
		list[m.info.Client] = m.info
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
	return engine.PresenceStats{Clients: len(r.members), Users: r.different()}, nil
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
	for i := len(r.members) - 1; i >= 0; i-- { // backwards: the last takes the place of one that leaves
		if over := r.members[i].over; over <= now {
			p.clients--
			r.leave(i)
		} else if next == 0 || over < next {
			next = over
		}
	}
	if p.tidy(r) {
		return false
	}
	p.due.put(&r.due, next)
	return true
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

// find is the client's index in members, -1 if it is not in.
func (r *room) find(client string) int {
	if r.places != nil {
		if i, ok := r.places[client]; ok {
			return i
		}
		return -1
	}
	for i := range r.members {
		if r.members[i].info.Client == client {
			return i
		}
	}
	return -1
}

// enter adds a member who is not in.
func (r *room) enter(m member) {
	r.members = append(r.members, m)
	if r.places != nil {
		r.places[m.info.Client] = len(r.members) - 1
		r.count(m.info.User, 1)
	} else if len(r.members) > few {
		r.places, r.users = make(map[string]int), make(map[string]int)
		for i, m := range r.members {
			r.places[m.info.Client] = i
			r.count(m.info.User, 1)
		}
	}
}

// leave takes out the member at i; the last takes its place.
func (r *room) leave(i int) {
	m, last := r.members[i], len(r.members)-1
	r.members[i] = r.members[last]
	r.members[last] = member{}
	r.members = r.members[:last]
	if c := cap(r.members); c > few && last < c/4 {
		r.members = append(make([]member, 0, c/2), r.members...)
	}
	if r.places == nil {
		return
	}
	if last <= few/2 { // not as soon as there are few: who comes and goes would build them each time
		r.places, r.users = nil, nil
		return
	}
	delete(r.places, m.info.Client)
	if i < last {
		r.places[r.members[i].info.Client] = i
	}
	r.count(m.info.User, -1)
}

// count adds n to the members who are that user, if they are counted.
func (r *room) count(user string, n int) {
	if r.users == nil {
		return
	}
	if r.users[user] += n; r.users[user] == 0 {
		delete(r.users, user)
	}
}

// different is how many users there are.
func (r *room) different() int {
	if r.users != nil {
		return len(r.users)
	}
	n := 0
	for i, m := range r.members {
		if !slices.ContainsFunc(r.members[:i], func(o member) bool { return o.info.User == m.info.User }) {
			n++
		}
	}
	return n
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
