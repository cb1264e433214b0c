package fleet

import (
	"time"

	"github.com/longwire/longwire/ws"
)

// Speaker is a protocol that the clients of one loop speak behind the handshake. Its methods are called on that loop's
// thread, and must not block. Clients have numbers from 0 to Config.Conns - 1; a number outlives its conn, and the conn
// that Fleet.Reopen opens in its place goes on with it.
type Speaker interface {
	// Opened tells that the handshake of client c is through.
	Opened(c Client)
	// Heard has a message for client c. payload is valid during the call.
	Heard(c Client, op ws.Opcode, payload []byte)
	// Gone tells that a conn of client number n is over, one that never stood included.
	Gone(n int)
}

// Client is one client that stands, during a call of its Speaker or of Fleet.Each.
type Client struct {
	Number int
	crew   *crew
	slot   uint32
}

// Say sends a message, which is copied. What a client says in one call leaves in one write.
func (c Client) Say(op ws.Opcode, payload []byte) {
	w := c.crew
	if w.member[c.slot].phase == phaseOpen {
		w.l.Commit(c.slot, ws.AppendFrame(w.l.Buffer(c.slot), ws.Client, op, payload, w.mask()))
	}
}

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

// enlist makes the speaker, and a number for each client of the loop.
func (w *crew) enlist() {
	first := int64(0)
	for _, n := range w.f.each[:w.l.Index()] {
		first += n
	}
	count := w.f.each[w.l.Index()]
	w.number = make([]uint32, w.l.Slots())
	w.free = make([]uint32, count)
	for k := range w.free {
		w.free[k] = uint32(first + count - 1 - int64(k)) // taken from the end, so in order
	}
	w.speaker = w.f.config.Speak(int(first), int(count))
}

// cut ends what stands with a reset.
func (w *crew) cut() {
	w.l.Each(func(i uint32) {
		if m := &w.member[i]; m.phase == phaseOpen {
			w.k.open.Add(-1)
			w.k.closed.Add(1)
			m.phase = phaseOver
			w.l.Abort(i)
		}
	})
}
