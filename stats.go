package longwire

import (
	"time"

	"github.com/longwire/longwire/internal/loop"
)

// Stats is what a gateway counts, summed over its loops. Counters only grow.
type Stats struct {
	Uptime   time.Duration
	Layout   string // see Gateway.Layout
	Loops    int    // running now
	MaxConns int
	Draining bool

	Conns    int64 // WebSocket connections and handshakes under way
	Open     int64 // of Conns, those whose handshake is done and whose end is not certain
	Closing  int64 // of Conns, those whose end is certain and whose socket is not over
	Sockets  int64 // on loops: Conns and refused clients whose answer is on its way
	Partials int64 // connections that hold an incomplete request or message
	HTTP     int64 // plain HTTP connections

	Accepted uint64
	Upgraded uint64
	Passed   uint64 // requests that went to net/http
	Adopted  uint64 // connections that came from net/http
	Ended    uint64 // connections that were open and whose end became certain
	Cut      uint64 // of Ended, those whose socket was over with it: a FIN or reset out of the blue
	Shed     uint64 // times that accepting paused because the kernel had no descriptor or memory

	MessagesIn  uint64
	MessagesOut uint64
	BytesIn     uint64
	BytesOut    uint64
	Reads       uint64 // system calls
	Writes      uint64
	Pings       uint64 // sent
	Pongs       uint64 // received
	Untraced    uint64 // connections that the Tracer could not be given

	// Of sessions; zero where no endpoint has them.
	Sessions      int64  // connected
	Subscriptions int64  // of all sessions
	Publications  uint64 // that were published through this node
	Recovered     uint64 // subscriptions that got all that they had missed
	Unrecovered   uint64 // subscriptions that could not
	Dropped       uint64 // publications that slow subscribers did not get, where their namespace says so

	QueueBytes int64             // waiting for sockets that are full
	Closes     map[string]uint64 // by cause
	Refused    map[string]uint64 // by limit or status

	// Iterations counts loop iterations by duration: Iterations[i] of less than 2^i µs, the last one all others.
	Iterations [loop.IterationBuckets]uint64
	Busy       time.Duration // time that loops spent working, all together
}

// Stats is a snapshot. It stops no loop, so its figures may be a few operations apart.
func (g *Gateway) Stats() Stats {
	s := Stats{
		Layout: g.Layout(), MaxConns: int(g.admission.maxConns), Draining: g.admission.draining.Load(),
		Conns: g.admission.conns.Load(), HTTP: g.plain.open.Load(),
		Closes: make(map[string]uint64), Refused: make(map[string]uint64),
	}
	g.mu.Lock()
	if !g.started.IsZero() {
		s.Uptime = time.Since(g.started)
	}
	g.mu.Unlock()
	s.Loops = g.loops.Active()
	for i, l := range g.loops.Loops() {
		t, c := &l.Stats, &g.counters[i]
		s.Sockets += t.Live.Load()
		s.Accepted += t.Accepted.Load()
		s.Adopted += t.Adopted.Load()
		s.Shed += t.Shed.Load()
		s.BytesIn += t.BytesIn.Load()
		s.BytesOut += t.BytesOut.Load()
		s.Reads += t.Reads.Load()
		s.Writes += t.Writes.Load()
		s.QueueBytes += t.QueueBytes.Load()
		s.Busy += time.Duration(t.Busy.Load())
		for b := range t.Iteration {
			s.Iterations[b] += t.Iteration[b].Load()
		}
		s.Partials += c.partials.Load()
		s.Passed += c.passed.Load()
		// Earlier steps of a connection's life are read after later ones: no difference is negative.
		closed, cut, ended := c.closed.Load(), c.cut.Load(), c.ended.Load()
		s.Cut += cut
		s.Ended += ended
		s.Closing += int64(ended - closed)
		upgraded := c.upgraded.Load()
		s.Upgraded += upgraded
		s.Open += int64(upgraded - ended)
		s.MessagesIn += c.messagesIn.Load()
		s.MessagesOut += c.messagesOut.Load()
		s.Pings += c.pings.Load()
		s.Pongs += c.pongs.Load()
		s.Untraced += c.untraced.Load()
		for k := range c.causes {
			if n := c.causes[k].Load(); n > 0 {
				s.Closes[CauseKind(k).String()] += n
			}
		}
		for k := range c.refused {
			if n := c.refused[k].Load(); n > 0 {
				s.Refused[refusalKind(k).String()] += n
			}
		}
	}
	if n := g.node; n != nil {
		s.Sessions, s.Subscriptions = n.Sessions.Load(), n.Subs.Load()
		s.Publications, s.Dropped = n.Published.Load(), n.Slow.Load()
		s.Recovered, s.Unrecovered = n.Recovered.Load(), n.Lost.Load()
	}
	for k := range g.plain.refused {
		if n := g.plain.refused[k].Load(); n > 0 {
			s.Refused[refusalKind(k).String()] += n
		}
	}
	return s
}

// RefusalKinds are the values that can label Stats.Refused.
func RefusalKinds() []string { return refusalNames[admitted+1:] }
