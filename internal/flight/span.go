package flight

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
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

// Find returns the spans that q means, the latest first. It reads all tracks, some milliseconds for each 100,000 events, and
// stops nobody who writes.
func (r *Recorder) Find(q Query) []Span {
	r.mu.RLock()
	defer r.mu.RUnlock()
	// First which conns: each condition may be met by another event of a conn.
	wanted := r.matching(&q)
	if len(wanted) == 0 {
		return nil
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	type met struct {
		key
		last time.Time
	}
	order := make([]met, 0, len(wanted))
	for k, last := range wanted {
		if last.Before(q.Since) {
			continue
		}
		order = append(order, met{k, last})
	}
	slices.SortFunc(order, func(a, b met) int {
		return cmp.Or(b.last.Compare(a.last), cmp.Compare(a.conn, b.conn))
	})
	order = order[:min(limit, len(order))]
	spans := make(map[key]*Span, len(order))
	list := make([]Span, len(order))
	for i, m := range order {
		list[i] = Span{Conn: m.conn, Before: m.before}
		spans[m.key] = &list[i]
	}
	r.each(func(before bool, s *slot) {
		e := s.event()
		if sp := spans[key{e.Conn, before}]; sp != nil {
			sp.Events = append(sp.Events, e)
		}
	})
	for i := range list {
		slices.SortStableFunc(list[i].Events, func(a, b Event) int {
			// Of the same moment, in the order of a life.
			return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Kind, b.Kind))
		})
	}
	r.returns(list)
	return list
}

// each calls f with every event of all tracks.
func (r *Recorder) each(f func(before bool, s *slot)) {
	for _, t := range r.before {
		t.scan(func(s *slot) { f(true, s) })
	}
	for _, t := range r.tracks {
		t.scan(func(s *slot) { f(false, s) })
	}
}

// matching are the conns that meet all conditions, with the time of their last event.
func (r *Recorder) matching(q *Query) map[key]time.Time {
	need := 0
	for _, is := range []bool{q.User != "", q.Address.IsValid(), q.Request != "", q.TraceID != [16]byte{}, q.Cause != 0} {
		if is {
			need++
		}
	}
	user, request := keep(q.User), keep(q.Request)
	got := make(map[key]int)
	last := make(map[key]time.Time)
	r.each(func(before bool, s *slot) {
		e := s.event()
		k := key{e.Conn, before}
		if q.Conn != 0 && k != (key{q.Conn, q.Before}) {
			return
		}
		if e.Time.After(last[k]) {
			last[k] = e.Time
		}
		switch {
		case e.Kind == KindConnected && user != "" && e.Text == user,
			e.Kind == KindOpened && q.Address.IsValid() && e.Address.Addr() == q.Address.Unmap() && (q.Port == 0 || q.Port == e.Address.Port()),
			e.Kind == KindRequest && request != "" && e.Text == request,
			e.Kind == KindTrace && q.TraceID != [16]byte{} && e.TraceID == q.TraceID,
			e.Kind == KindEnded && q.Cause != 0 && e.Ended.Cause == q.Cause:
			got[k]++
		}
	})
	if need == 0 {
		return last
	}
	for k := range last {
		if got[k] < need {
			delete(last, k)
		}
	}
	return last
}

// keep is as much of a name as an event keeps.
func keep(s string) string { return s[:min(len(s), TextSize)] }

// backWithin is how long after an end a user's next conn counts as coming back.
const backWithin = 10 * time.Minute

// returns looks for the next conns of the users of spans that ended.
func (r *Recorder) returns(list []Span) {
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
		at   time.Time
		from netip.Addr
	}
	arrivals := make(map[string][]arrival)
	from := make(map[key]netip.Addr)
	r.each(func(before bool, s *slot) {
		switch e := s.event(); {
		case e.Kind == KindOpened:
			from[key{e.Conn, before}] = e.Address.Addr()
		case e.Kind == KindConnected && users[e.Text]:
			arrivals[e.Text] = append(arrivals[e.Text], arrival{key: key{e.Conn, before}, at: e.Time})
		}
	})
	for i := range list {
		sp := &list[i]
		end, own := sp.Ended(), sp.Address()
		if end == nil {
			continue
		}
		var best *arrival
		for k := range arrivals[sp.User()] {
			a := &arrivals[sp.User()][k]
			if a.key == (key{sp.Conn, sp.Before}) || a.at.Before(end.Time) || a.at.Sub(end.Time) > backWithin {
				continue
			}
			if best == nil || a.at.Before(best.at) {
				best = a
			}
		}
		if best != nil {
			there := from[best.key]
			sp.Back = &Back{After: best.at.Sub(end.Time), Conn: best.conn, Moved: there.IsValid() && own.IsValid() && there != own.Addr()}
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

// Kernel is what the kernel told of the end; nil when it did not.
func (s *Span) Kernel() *Kernel {
	if e := s.find(KindKernel); e != nil {
		return e.Kernel
	}
	return nil
}
