package fleet

import (
	"errors"
	"math"
	"time"

	"github.com/longwire/longwire/ws"
)

// Speaker is a protocol that the clients of one loop speak behind the handshake. Its methods are called on that loop's
// thread, and must not block. Clients have numbers from 0 to Config.Conns - 1; a number outlives its conn, and the conn
// that is opened in its place goes on with it.
type Speaker interface {
	// Opened tells that the handshake of client c is through; with Config.HTTP, that its conn stands.
	Opened(c Client)
	// Heard has a message for client c. payload is valid during the call.
	Heard(c Client, op ws.Opcode, payload []byte)
	// Gone tells that a conn of client number n is over, one that never stood included.
	Gone(n int)
}

// Answerer is what a Speaker of HTTP clients is besides.
type Answerer interface {
	// Answered tells that a response was read to its end. Where the conn ends with it, c does not stand any more.
	Answered(c Client, status int)
}

// Leveller is what a Speaker of clients that are opened on demand is besides.
type Leveller interface {
	// Level has the number of clients of the squad that are wanted from now on.
	Level(n int)
}

// Squad is the clients of one loop, for their Speaker. All of it belongs to the loop's thread.
type Squad struct {
	First, Count int // their numbers: from First, Count of them
	crew         *crew
}

// Index is the loop's number, from 0; Of is how many loops there are.
func (q Squad) Index() int { return q.crew.l.Index() }

// Of is how many squads the fleet has.
func (q Squad) Of() int { return len(q.crew.f.crews) }

// SetAlarm has ring called once after d, instead of what was set before.
func (q Squad) SetAlarm(d time.Duration, ring func()) { q.crew.l.SetAlarm(d, ring) }

// Client is client number n, if it stands.
func (q Squad) Client(n int) (Client, bool) {
	i := q.crew.slot[n-q.First]
	if i == none || q.crew.member[i].phase != phaseOpen {
		return Client{}, false
	}
	return Client{Number: n, crew: q.crew, slot: i}, true
}

// ErrNoClient is returned by Dial when all clients of the squad have a conn.
var ErrNoClient = errors.New("every client has a conn")

// Dial opens a conn, with Config.OnDemand, and tells whose it is. Opened or Gone follow later.
func (q Squad) Dial() (n int, err error) {
	w := q.crew
	if len(w.free) == 0 {
		return 0, ErrNoClient
	}
	i, err := w.dial(w.f.dials.Add(1) - 1)
	if err != nil {
		return 0, err
	}
	return int(w.number[i]), nil
}

// Client is one client that stands, during a call of its Speaker or of Fleet.Each.
type Client struct {
	Number int
	crew   *crew
	slot   uint32
}

// Say sends a message, which is copied; with Config.HTTP, bytes as they are. What a client says in one call leaves in one
// write, or with Flush.
func (c Client) Say(op ws.Opcode, payload []byte) {
	w := c.crew
	switch m := &w.member[c.slot]; {
	case m.phase != phaseOpen || m.flags&flagMute != 0:
	case w.f.config.HTTP:
		w.l.Send(c.slot, payload)
	default:
		w.l.Commit(c.slot, ws.AppendFrame(w.l.Buffer(c.slot), ws.Client, op, payload, w.mask()))
	}
}

// Flush writes what was said now, instead of at the end of the loop's turn. The client may be gone afterwards.
func (c Client) Flush() { c.crew.l.Flush(c.slot) }

// Stands tells whether the client's conn is open still.
func (c Client) Stands() bool { return c.crew.member[c.slot].phase == phaseOpen }

// Close ends the client's conn in good order. Gone follows.
func (c Client) Close() {
	if m := &c.crew.member[c.slot]; m.phase == phaseOpen {
		c.crew.close(c.slot, m)
	}
}

// Mute has the client answer nothing any more, pings and closing handshakes included, and keep its conn.
func (c Client) Mute() { c.crew.member[c.slot].flags |= flagMute }

// Record adds a time to what Fleet.Latency returns.
func (c Client) Record(d time.Duration) {
	_ = c.crew.latency.RecordValue(int64(max(1, d/time.Microsecond))) // beyond its range there is nothing to say of it
}

func (w *crew) client(i uint32) Client {
	c := Client{crew: w, slot: i}
	if w.speaker != nil {
		c.Number = int(w.number[i])
	}
	return c
}

// none is no slot.
const none = math.MaxUint32

// enlist makes the speaker, and a number for each client of the loop.
func (w *crew) enlist() {
	first := int64(0)
	for _, n := range w.f.each[:w.l.Index()] {
		first += n
	}
	count := w.f.each[w.l.Index()]
	w.first = int(first)
	w.number = make([]uint32, w.l.Slots())
	w.slot = make([]uint32, count)
	w.free = make([]uint32, count)
	for k := range w.free {
		w.slot[k] = none
		w.free[k] = uint32(first + count - 1 - int64(k)) // taken from the end, so in order
	}
	w.speaker = w.f.config.Speak(Squad{First: int(first), Count: int(count), crew: w})
}

// cut ends a share of what stands with a reset: every one of every, say 3 of 10.
func (w *crew) cut(share float64) (n int64) {
	turn := 0.0
	w.l.Each(func(i uint32) {
		m := &w.member[i]
		if m.phase != phaseOpen {
			return
		}
		if turn += share; turn < 1-1e-9 {
			return
		}
		turn--
		n++
		w.k.open.Add(-1)
		w.k.closed.Add(1)
		m.phase = phaseOver
		w.l.Abort(i)
	})
	return n
}
