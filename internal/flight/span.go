package flight

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"
)

// Span is what is known of one conn: its events in the order of time.
type Span struct {
	Conn   uint64
	Before bool // it is of the process before this one
	Events []Event
	// Back is the user's next conn, where there was one within ten minutes of this one's end.
	Back *Back
}

// Back is how a user came back.
type Back struct {
	After time.Duration // from the end to the next handshake's answer
	Conn  uint64
	Moved bool // from another address
}

// Query says which conns are meant: those of which all fields hold that are not zero.
type Query struct {
	Conn    uint64 // with Before, of the process before
	Before  bool
	Conns   []uint64 // any of these, of this process; then nothing else but Since and Limit counts
	User    string
	Address netip.Addr // of any port, or with Port of that
	Port    uint16
	Request string // X-Request-ID
	TraceID [16]byte
	Cause   uint8     // of those that ended
	Since   time.Time // whose last event is no older
	Limit   int       // the most conns, the latest; zero means 100
}

// key names a conn of this process or the one before.
type key struct {
	conn   uint64
	before bool
}

// Find returns the spans that q means, the latest first. It reads the rings some times over, milliseconds for each 100,000
// events, and stops nobody who writes.
func (r *Recorder) Find(q Query) []Span {
	r.mu.RLock()
	defer r.mu.RUnlock()
	wanted, all := r.matching(&q)
	if !all && len(wanted) == 0 {
		return nil
	}
	last := make(map[key]int64) // stamps of their last events
	r.each(func(before bool, s *slot) {
		k := key{s.conn(), before}
		if _, ok := wanted[k]; !all && !ok {
			return
		}
		last[k] = max(last[k], s.stamp())
	})
	lines := map[bool]timeline{true: r.earlier, false: r.clock.timeline()}
	type met struct {
		key
		last int64
	}
	order := make([]met, 0, len(last))
	for k, at := range last {
		if q.Since.IsZero() || r.since(lines[k.before], k.before, at, q.Since) {
			order = append(order, met{k, at})
		}
	}
	slices.SortFunc(order, func(a, b met) int {
		if a.before != b.before { // their stamps say nothing of each other
			if a.before {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.last, a.last), cmp.Compare(a.conn, b.conn))
	})
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	order = order[:min(limit, len(order))]
	spans := make(map[key]*Span, len(order))
	list := make([]Span, len(order))
	for i, m := range order {
		list[i] = Span{Conn: m.conn, Before: m.before}
		spans[m.key] = &list[i]
	}
	r.each(func(before bool, s *slot) {
		if sp := spans[key{s.conn(), before}]; sp != nil {
			sp.Events = append(sp.Events, s.event(lines[before]))
		}
	})
	for i := range list {
		slices.SortFunc(list[i].Events, func(a, b Event) int {
			// Not by time: the clock may have been set back. The kernel's word has a track of its own, and is the last.
			return cmp.Or(cmp.Compare(place(a.Kind), place(b.Kind)), cmp.Compare(a.sequence, b.sequence))
		})
	}
	r.returns(list, lines)
	return list
}

// since reports whether a stamp is no older than a time, which is told right now if it has a monotonic reading: then it does not
// matter whether the clock was set in between.
func (r *Recorder) since(line timeline, before bool, stamp int64, t time.Time) bool {
	if !before && t != t.Round(0) {
		return stamp >= r.clock.stamp(t)
	}
	return !line.time(stamp).Before(t)
}

// place is 1 of what comes after all else in a span.
func place(k Kind) int {
	if k == KindKernel {
		return 1
	}
	return 0
}

// each calls f with every event of both rings.
func (r *Recorder) each(f func(before bool, s *slot)) {
	scan(r.before, func(s *slot) { f(true, s) })
	scan(r.ring, func(s *slot) { f(false, s) })
}

// matching are the conns that meet all conditions, but for Since, each of which may be met by another event of a conn; or
// all: there is no condition.
func (r *Recorder) matching(q *Query) (wanted map[key]int, all bool) {
	const (
		user = 1 << iota
		address
		request
		trace
		cause
	)
	need := 0
	for condition, is := range map[int]bool{user: q.User != "", address: q.Address.IsValid(), request: q.Request != "", trace: q.TraceID != [16]byte{}, cause: q.Cause != 0} {
		if is {
			need |= condition
		}
	}
	one := key{q.Conn, q.Before}
	switch {
	case len(q.Conns) > 0:
		wanted = make(map[key]int)
		for _, c := range q.Conns {
			wanted[key{conn: c}] = 0
		}
		return wanted, false
	case need == 0 && q.Conn != 0:
		return map[key]int{one: 0}, false
	case need == 0:
		return nil, true
	}
	wantUser, wantRequest, from := keep(q.User), keep(q.Request), q.Address.Unmap()
	met := make(map[key]int)
	r.each(func(before bool, s *slot) {
		condition := 0
		switch s.kind() {
		case KindConnected:
			if need&user != 0 && string(s.text()) == wantUser {
				condition = user
			}
		case KindOpened:
			if need&address != 0 {
				if a := s.address(); a.Addr() == from && (q.Port == 0 || q.Port == a.Port()) {
					condition = address
				}
			}
		case KindRequest:
			if need&request != 0 && string(s.text()) == wantRequest {
				condition = request
			}
		case KindTrace:
			if need&trace != 0 && [16]byte(s[32:48]) == q.TraceID {
				condition = trace
			}
		case KindEnded:
			if need&cause != 0 && s[25] == q.Cause {
				condition = cause
			}
		}
		if k := (key{s.conn(), before}); condition != 0 && (q.Conn == 0 || k == one) {
			met[k] |= condition
		}
	})
	for k, got := range met {
		if got != need {
			delete(met, k)
		}
	}
	return met, false
}

// keep is as much of a name as an event keeps.
func keep(s string) string { return s[:min(len(s), TextSize)] }

// backWithin is how long after an end a user's next conn counts as coming back.
const backWithin = 10 * time.Minute

// returns looks for the next conns of the users of spans that ended.
func (r *Recorder) returns(list []Span, lines map[bool]timeline) {
	users := make(map[string]bool)
	for i := range list {
		if u := list[i].User(); u != "" && list[i].Ended() != nil {
			users[u] = true
		}
	}
	if len(users) == 0 {
		return
	}
	type arrival struct {
		key
		stamp int64
	}
	arrivals := make(map[string][]arrival)
	r.each(func(before bool, s *slot) {
		if s.kind() != KindConnected {
			return
		}
		// Most names are whole and read as they were kept: those of others are told without a copy.
		if raw := s.text(); !users[string(raw)] && len(raw) < TextSize && utf8.Valid(raw) {
			return
		}
		if user := readable(s.text()); users[user] {
			arrivals[user] = append(arrivals[user], arrival{key: key{s.conn(), before}, stamp: s.stamp()})
		}
	})
	from := make(map[key]netip.Addr)
	for _, list := range arrivals {
		for _, a := range list {
			from[a.key] = netip.Addr{}
		}
	}
	r.each(func(before bool, s *slot) {
		k := key{s.conn(), before}
		if _, ok := from[k]; ok && s.kind() == KindOpened {
			from[k] = s.address().Addr()
		}
	})
	for i := range list {
		sp := &list[i]
		end, own := sp.Ended(), sp.Address()
		if end == nil {
			continue
		}
		var best *arrival
		var soonest time.Duration
		for k := range arrivals[sp.User()] {
			a := &arrivals[sp.User()][k]
			after := time.Duration(a.stamp - end.stamp)
			if a.before != sp.Before { // two processes: what is between them only the clock tells
				after = lines[a.before].time(a.stamp).Sub(end.Time)
			}
			if a.key == (key{sp.Conn, sp.Before}) || a.before && !sp.Before || after < 0 || after > backWithin {
				continue
			}
			if best == nil || after < soonest {
				best, soonest = a, after
			}
		}
		if best != nil {
			there := from[best.key]
			sp.Back = &Back{After: soonest, Conn: best.conn, Moved: there.IsValid() && own.IsValid() && there != own.Addr()}
		}
	}
}

// find is the last event of a kind; nil without one.
func (s *Span) find(k Kind) *Event {
	for i := range slices.Backward(s.Events) {
		if s.Events[i].Kind == k {
			return &s.Events[i]
		}
	}
	return nil
}

// User is the user of the session, as much of the name as was kept; empty when it is not known.
func (s *Span) User() string {
	if e := s.find(KindConnected); e != nil {
		return e.Text
	}
	return ""
}

// Address is where the client came from; the zero value when it is not known any more.
func (s *Span) Address() netip.AddrPort {
	if e := s.find(KindOpened); e != nil {
		return e.Address
	}
	return netip.AddrPort{}
}

// Request is the X-Request-ID of the handshake, if there was one.
func (s *Span) Request() string {
	if e := s.find(KindRequest); e != nil {
		return e.Text
	}
	return ""
}

// Ended is the event of the end; nil while the conn is open, or when it ended with the process.
func (s *Span) Ended() *Event { return s.find(KindEnded) }

// Answered is the code of the close frame by which the client answered ours; 0 where none came.
func (s *Span) Answered() uint16 {
	if e := s.find(KindAnswered); e != nil {
		return e.Code
	}
	return 0
}

// Kernel is what the kernel told of the end; nil when it did not.
func (s *Span) Kernel() *Kernel {
	if e := s.find(KindKernel); e != nil {
		return e.Kernel
	}
	return nil
}
