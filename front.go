package longwire

import (
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/longwire/longwire/internal/flight"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
	"github.com/longwire/longwire/ws"
)

// front is the handler of one loop: it makes WebSocket connections of what the loop holds. All of it but its
// counters belongs to the loop's thread.
type front struct {
	g    *Gateway
	l    *loop.Loop
	mem  []byte  // what conns lies in
	conn []state // by slot

	reader    *ws.Reader  // for connections that are between messages
	head      ws.Request  // the one that is being answered
	verdict   refusalKind // of Admit on the connection that Opened is called for next
	overLimit int         // connections with stateOverLimit
	partials  loop.Loans[partial]
	count     *counters      // of this loop; survives the loop's thread
	sent      uint64         // messages appended since count was brought up to date
	track     *flight.Track  // where the loop records; nil: nowhere
	journal   *journal.Track // where the loop tells what happens; nil: nowhere
	traceMem  []byte         // what traces lies in
	traces    []traceState   // by slot; nil without a journal

	drain    struct{ start, over uint32 } // ticks: when it began here, and how long it is to take; zero: there was none
	sessions *session.Table               // nil where no endpoint has sessions
	sessMem  []byte                       // what sessions' state lies in
}

// state is what a connection is to the gateway. It has no pointers.
type state struct {
	addr     uint64 // addressKey of the peer
	heard    uint32 // tick of the last bytes from the client
	opened   uint32 // tick of the accept
	partial  uint32 // loan: what is held of a request or message that is incomplete; 0: nothing
	code     uint16 // of the cause; with stateDrain, until there is one, its turn: a share of the drain, in 65536ths
	flags    stateFlags
	endpoint uint8
	phase    phase
	cause    CauseKind // 0 until the end is certain
	detail   uint8     // of the cause: index into details
	window   uint8     // log2 of the compression window; 0: no compression
	verdict  refusalKind
	waits    uint16 // pages in its write queue when its reading was last looked at, and 1; 0: not yet
}

const stateSize = int(unsafe.Sizeof(state{}))

type phase uint8

const (
	phaseRequest phase = iota // waits for the request
	phaseOpen
	phaseClosing // our close frame is sent, the client's awaited
	phaseOver    // both are sent, or there is no point
)

type stateFlags uint16

const (
	stateWatched   stateFlags = 1 << iota // has a context
	statePinged                           // since it was heard last
	stateQueued                           // paused because its own replies fill the write queue
	stateWorking                          // paused because its blocking work lags
	stateDrain                            // has a turn in the drain
	stateUpgraded                         // OnOpen was called
	stateCounted                          // counted in Gateway.conns and in the address table
	stateOverLimit                        // let in only to say whether it wants plain HTTP; see state.verdict
	stateSlow                             // its write queue has passed half its limit, and the recorder knows
	statePonged                           // what was heard last was a pong
)

// partial is what is held of a connection whose request or message is incomplete.
type partial struct {
	reader ws.Reader
	head   []byte
	held   []byte // frames that came with those whose replies paused the connection
}

// counters are what the fronts of one loop count. The loop writes, anybody reads.
type counters struct {
	upgraded    atomic.Uint64
	messagesIn  atomic.Uint64
	messagesOut atomic.Uint64
	pings       atomic.Uint64 // sent by us
	pongs       atomic.Uint64 // received
	passed      atomic.Uint64 // requests that went to net/http
	refused     [refusalKinds]atomic.Uint64
	causes      [causeKinds]atomic.Uint64
	untraced    atomic.Uint64 // that the tracer could not tag
	partials    atomic.Int64  // connections with an incomplete request or message
	ended       atomic.Uint64 // open connections whose end became certain
	cut         atomic.Uint64 // of them, those whose socket was over with it
	closed      atomic.Uint64 // of them, all whose socket is over
}

const (
	closingTimeout = 5 * time.Second // for the client's close frame
	pingSpread     = 25              // a ping is sent up to this fraction of Heartbeat.Ping earlier
	maxOverLimit   = 256             // connections of one loop that are let in over a limit, to say what they want
)

func newFront(g *Gateway, l *loop.Loop) *front {
	f := &front{g: g, l: l, reader: new(ws.Reader), count: &g.counters[l.Index()], track: g.recorder.Track(l.Index())}
	mem, err := l.Map(l.Slots() * stateSize)
	if err != nil {
		panic(err) // the loop's own slab of about the same size was mapped a moment ago
	}
	f.mem = mem
	f.conn = unsafe.Slice((*state)(unsafe.Pointer(&mem[0])), l.Slots())
	if g.noting {
		f.journal = g.journal.Track(l.Index())
		if f.traceMem, err = l.Map(l.Slots() * traceStateSize); err != nil {
			panic(err)
		}
		f.traces = unsafe.Slice((*traceState)(unsafe.Pointer(&f.traceMem[0])), l.Slots())
	}
	if g.node != nil {
		if f.sessMem, err = l.Map(l.Slots() * session.StateSize); err != nil {
			panic(err)
		}
		shard := g.hub.Shard(l.Index())
		shard.Reset() // what an earlier life of the loop left
		f.sessions = session.NewTable(g.node, host{f}, shard, f.sessMem)
	}
	return f
}

// Stopped implements loop.Handler.
func (f *front) Stopped() {
	f.l.Unmap(f.mem)
	f.mem, f.conn = nil, nil
	if f.journal != nil {
		f.l.Unmap(f.traceMem)
		f.traceMem, f.traces = nil, nil
	}
	if f.sessions != nil {
		f.l.Unmap(f.sessMem)
		f.sessions, f.sessMem = nil, nil
	}
}

// Lost implements loop.Handler: what net/http upgraded was counted there.
func (f *front) Lost(data []byte) {
	f.g.admission.leave(adoptionKey(data))
	f.count.causes[CauseInternal].Add(1)
}

// Emptied implements loop.Handler.
func (f *front) Emptied() {
	f.l.Discard(f.mem)
	if f.journal != nil {
		f.l.Discard(f.traceMem)
	}
	f.partials.Reset()
	if f.sessions != nil {
		f.l.Discard(f.sessMem)
		f.sessions.Emptied()
	}
}

func (f *front) handle(i uint32) Conn { return Conn{g: f.g, id: f.l.ID(i)} }

// Admit implements loop.Handler: limits are checked before anything is kept. Who is over one may still have come
// for /healthz or /metrics, which must answer at a full gateway too: while there is room, such a connection is let
// in to say what it wants, counted nowhere, and its handshake gets the refusal then.
func (f *front) Admit(peer netip.AddrPort, full bool) []byte {
	f.verdict = f.g.admission.admit(addressKey(peer.Addr()), full)
	if f.verdict == admitted {
		return nil
	}
	f.g.admission.log(f.verdict)
	if f.overLimit < maxOverLimit && f.l.Live() < f.l.Slots() {
		return nil
	}
	f.count.refused[f.verdict].Add(1)
	f.count.causes[CauseRefused].Add(1)
	return f.g.refusal(f.verdict)
}

// Opened implements loop.Handler.
func (f *front) Opened(i uint32, o loop.Opening) {
	st := &f.conn[i]
	*st = state{heard: f.l.Tick(), opened: f.l.Tick(), flags: stateCounted}
	f.journalAccepted(i)
	if o.How == loop.Adopted {
		f.adopted(i, st, o.Data)
		return
	}
	st.addr = addressKey(o.Peer.Addr())
	if f.verdict != admitted {
		st.flags = stateOverLimit
		st.verdict = f.verdict
		f.overLimit++
		f.l.SetTimer(i, min(time.Second, f.g.config.HandshakeTimeout))
		return
	}
	f.l.SetTimer(i, f.g.config.HandshakeTimeout)
}

// Data implements loop.Handler.
func (f *front) Data(i uint32, b []byte) {
	st := &f.conn[i]
	st.heard = f.l.Tick()
	st.flags &^= statePinged | statePonged
	switch st.phase {
	case phaseRequest:
		f.request(i, st, b)
	case phaseOpen, phaseClosing:
		f.frames(i, st, b)
	}
}

// attach gives a connection a partial.
func (f *front) attach(st *state) *partial {
	p := f.partials.Spare()
	st.partial = f.partials.Lend(p)
	f.count.partials.Add(1)
	return p
}

// unhook takes a connection's partial away and leaves it to the caller.
func (f *front) unhook(st *state) *partial {
	p := f.partials.Return(st.partial)
	st.partial = 0
	f.count.partials.Add(-1)
	return p
}

// recycle empties a partial for another connection.
func (f *front) recycle(p *partial) {
	p.reader.Release()
	if cap(p.head) > 16<<10 {
		p.head = nil
	}
	if p.held = p.held[:0]; cap(p.held) > 16<<10 {
		p.held = nil
	}
	f.partials.Keep(p)
}
