package session

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"time"
	"unsafe"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/internal/arena"
	"github.com/longwire/longwire/internal/hub"
	"github.com/longwire/longwire/internal/journal"
	"github.com/longwire/longwire/internal/wire/centrifuge"
	"github.com/longwire/longwire/internal/wire/json"
	"github.com/longwire/longwire/ws"
)

// Host is what a table needs of its loop. All of it is called on the loop's thread, and i names a conn that is open.
type Host interface {
	// ID is the conn's id in this process, for Node.ID.
	ID(i uint32) uint64
	// Find is the conn with that id, if it is here.
	Find(id uint64) (i uint32, ok bool)
	// Addr is the client's address, for hooks.
	Addr(i uint32) string
	// Window is the conn's compression window, 0 for none.
	Window(i uint32) uint8
	// Reply sends a message that the conn's own client has asked for: a full queue pauses its reading.
	Reply(i uint32, op ws.Opcode, payload []byte)
	// Push sends a ready frame, at once unless more follows. It may end the conn, as a slow consumer for example.
	Push(i uint32, frame []byte, more bool)
	// Backlog is the bytes that the conn's socket did not take.
	Backlog(i uint32) int
	// Close ends the conn.
	Close(i uint32, d *Disconnect)
	// SetTimer has Table.Timer called after d.
	SetTimer(i uint32, d time.Duration)
	// Rearm has Table.Timer called when Table.Turn says, or sooner, of a conn whose pings are the loop's affair.
	Rearm(i uint32)
	// Look takes what the conn's socket has right now: Message may be called before it returns.
	Look(i uint32)
	// Pause stops reading from the conn until Resume.
	Pause(i uint32)
	Resume(i uint32)
	// Go runs work on a goroutine that may wait, in order for one conn, and then on the loop what it returns, if the
	// conn is still open.
	Go(i uint32, work func(ctx context.Context) (then func()))
	// Later runs work on a goroutine that may wait, in order for one conn, even if that is over by then.
	Later(i uint32, work func(ctx context.Context))
	// Now is the time.
	Now() time.Time
	// Connected, Subscribed and Left tell what becomes of a session, for whoever keeps a record of it; code is 0 where the
	// client itself unsubscribed. channel is lent.
	Connected(i uint32, user string)
	Subscribed(i uint32, channel []byte)
	Left(i uint32, channel []byte, code uint32)
	// Ponged tells that what came now was the answer to a ping.
	Ponged(i uint32)
	// Called tells, where Options.Calls is set, of a command that was answered. Context is the trace that the conn belongs to.
	Called(i uint32, c Call)
	Context(i uint32) journal.Context
}

// Protocol is how a client speaks.
type Protocol = hub.Codec

// The protocols.
const (
	JSON     = hub.CentrifugeJSON
	Protobuf = hub.CentrifugeProtobuf
	Plain    = hub.Plain
)

// Table is the sessions of one loop, by the conn's slot. All of it belongs to the loop's thread.
type Table struct {
	n     *Node
	host  Host
	shard *hub.Shard
	conn  []state // by slot
	bytes arena.Arena
	users arena.Table // of connected sessions with a user, by slot + 1
	seed  maphash.Seed
	start time.Time

	epoch   string // of the last publication, and its EpochHash
	epochIs uint32
	reader  centrifuge.Reader
	out     []byte                        // what is being written
	span    uint64                        // of the command that is being carried out; 0: none, or nobody wants to know
	rest    map[uint32][]byte             // by slot: commands that came behind one that waits
	held    map[uint32]*held              // by subscription: what came while its history is read
	behind  map[uint32]*backlog           // by subscription: what waits because its conn is slow
	rates   map[uint32]map[uint64]float64 // by slot and hash of the channel: up to when publications are paid for, in seconds since start
	headers map[uint32]map[string]string  // by slot: what hooks want to know of the handshake
	turns   map[uint32]turn               // by slot, of those with flagTurn: when they are ended; nil: nobody is
	deliver func(sub uint32, p *hub.Push)
}

// StateSize is the size of the memory that a table needs for each slot, in bytes.
const StateSize = int(unsafe.Sizeof(state{}))

// state is one session. It has no pointers.
type state struct {
	subs    uint32 // its first subscription
	who     uint32 // arena: user and info; 0: anonymous, without info
	hash    uint32 // of the user
	chain   uint32 // next in users
	expires uint32 // Unix seconds; 0: never
	due     uint32 // when its next ping is due, or the pong to the last one: Table.tick
	count   uint16 // subscriptions
	busy    uint16 // works under way; later commands wait for them
	codec   Protocol
	phase   phase
	flags   flags
	pings   uint8 // that a pong is awaited for
}

type phase uint8

const (
	phaseNone phase = iota
	phaseOpened
	phaseConnected
	phaseOver // its close frame is sent
)

type flags uint8

const (
	flagFrames  flags = 1 << iota // pings are the WebSocket's own, and the loop's affair
	flagRefresh                   // a hook prolongs it
	flagAsked                     // that hook was asked and has not answered yet
	flagSubs                      // a subscription of it expires
	flagTurn                      // it is ended soon: see Table.turns
)

// NewTable makes the table of one loop. mem has StateSize bytes for each slot, zeroed.
func NewTable(n *Node, h Host, s *hub.Shard, mem []byte) *Table {
	t := &Table{n: n, host: h, shard: s, seed: maphash.MakeSeed(), start: h.Now(),
		rest: make(map[uint32][]byte), held: make(map[uint32]*held), behind: make(map[uint32]*backlog),
		rates: make(map[uint32]map[uint64]float64), headers: make(map[uint32]map[string]string)}
	t.conn = unsafe.Slice((*state)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/StateSize)
	t.bytes.Memory, t.users.Memory = n.o.Memory, n.o.Memory
	t.deliver = t.push
	return t
}

// Opening is what is known of a client at the upgrade.
type Opening struct {
	Protocol Protocol
	// Frames has pings be the WebSocket's own: Timer never sends any.
	Frames bool
	// Header gives the value of a header of the handshake, for hooks. It is called before Open returns.
	Header func(name string) []byte
}

// Open makes a session of conn i.
func (t *Table) Open(i uint32, o Opening) {
	st := &t.conn[i]
	*st = state{codec: o.Protocol, phase: phaseOpened}
	if o.Frames {
		st.flags |= flagFrames
	}
	for _, name := range t.n.o.Hooks.Headers {
		if v := o.Header(name); v != nil {
			m := t.headers[i]
			if m == nil {
				m = make(map[string]string)
				t.headers[i] = m
			}
			m[name] = string(v)
		}
	}
	if o.Protocol != Plain {
		t.host.SetTimer(i, t.n.o.Stale)
	}
}

func (t *Table) now() uint32 { return uint32(t.host.Now().Unix()) }

// Message takes one message of conn i, in the Centrifuge protocol.
func (t *Table) Message(i uint32, b []byte) {
	if t.commands(i, b) == 0 {
		t.close(i, centrifuge.DisconnectBadRequest)
	}
}

// commands takes commands until one has to wait, and returns how many there were.
func (t *Table) commands(i uint32, b []byte) (n int) {
	st := &t.conn[i]
	r := &t.reader
	r.Reset(t.format(i), b)
	for {
		c, err := r.Next()
		if err == io.EOF {
			return n
		}
		n++
		if err != nil {
			t.close(i, centrifuge.DisconnectBadRequest)
			return n
		}
		connect := c.Method == centrifuge.Connect
		t.command(i, st, c)
		t.span = 0
		switch {
		case !st.open():
			return n
		case connect && st.phase == phaseOpened && st.busy == 0:
			return n // it failed: what came with it, in the hope that it would not, is not held against the client
		}
		if st.busy > 0 {
			if rest := r.Rest(); len(rest) > 0 {
				t.rest[i] = append([]byte(nil), rest...)
			}
			return n
		}
	}
}

func (t *Table) format(i uint32) centrifuge.Format {
	if t.conn[i].codec == Protobuf {
		return centrifuge.Protobuf
	}
	return centrifuge.JSON
}

// call is a command that is being answered.
type call struct {
	i     uint32
	id    uint32 // Centrifuge
	plain string // raw JSON of the plain protocol's id; empty: none

	// For Host.Called: zero where nobody wants to know.
	method centrifuge.Method
	began  int64 // ns since 1970
	span   uint64
}

func (t *Table) command(i uint32, st *state, c *centrifuge.Command) {
	k := call{i: i, id: c.ID}
	switch {
	case st.phase == phaseOpened && c.Method != centrifuge.Connect,
		st.phase == phaseConnected && c.Method == centrifuge.Connect,
		c.ID == 0 && c.Method != centrifuge.Send && c.Method != centrifuge.None,
		c.ID != 0 && c.Method == centrifuge.None,
		c.Method == centrifuge.Ping || c.Method == centrifuge.Unknown:
		t.close(i, centrifuge.DisconnectBadRequest)
		return
	}
	t.began(&k, c.Method)
	if c.Type != 0 && c.Method != centrifuge.Subscribe {
		t.fail(k, c.Channel, centrifuge.ErrNotAvailable) // of a kind of subscription that we do not have
		return
	}
	switch c.Method {
	case centrifuge.None:
		t.pong(i, st)
	case centrifuge.Connect:
		t.connect(k, st, c)
	case centrifuge.Subscribe:
		t.subscribe(k, st, c)
	case centrifuge.Unsubscribe:
		t.unsubscribe(k, st, c.Channel)
	case centrifuge.Publish:
		t.publish(k, st, c.Channel, c.Data)
	case centrifuge.Presence:
		t.presence(k, st, c.Channel)
	case centrifuge.PresenceStats:
		t.presenceStats(k, st, c.Channel)
	case centrifuge.History:
		t.history(k, st, c)
	case centrifuge.RPC:
		t.rpc(k, st, string(c.RPCMethod), c.Data)
	case centrifuge.Send:
		t.sent(k.i, st, c.Data)
	case centrifuge.Refresh:
		t.refresh(k, st, c.Token)
	case centrifuge.SubRefresh:
		t.subRefresh(k, st, c.Channel, c.Token)
	}
}

// do runs work, and then on the loop what it returns. If it may wait, the session's later commands wait for it.
func (t *Table) do(i uint32, waits bool, work func(ctx context.Context) (then func())) {
	if !waits {
		work(context.Background())()
		return
	}
	st := &t.conn[i]
	// More than one may be under way: the application's wishes do not wait for the client's commands.
	if st.busy++; st.busy == 1 {
		t.host.Pause(i)
	}
	t.host.Go(i, func(ctx context.Context) func() {
		then := work(ctx)
		return func() {
			st := &t.conn[i]
			if !st.open() {
				return
			}
			st.busy--
			if then(); !st.open() || st.busy > 0 {
				return
			}
			if b, ok := t.rest[i]; ok {
				delete(t.rest, i)
				if st.phase == phaseConnected {
					t.commands(i, b)
				}
			}
			if !st.open() || st.busy > 0 {
				return
			}
			t.host.Resume(i)
			t.wait(i, st)
		}
	})
}

// engine runs work that asks the engine.
func (t *Table) engine(i uint32, work func(ctx context.Context) (then func())) {
	t.do(i, !t.n.immediate, work)
}

// tell runs work that asks the engine and that nobody waits for.
func (t *Table) tell(i uint32, work func(ctx context.Context)) {
	if t.n.immediate {
		work(context.Background())
		return
	}
	t.host.Later(i, work)
}

// reply sends what was written to t.out.
func (t *Table) reply(i uint32, b []byte) {
	op := ws.OpText
	if t.conn[i].codec == Protobuf {
		op = ws.OpBinary
	}
	t.host.Reply(i, op, b)
	if t.out = b[:0]; cap(b) > 64<<10 {
		t.out = nil
	}
}

// fail answers a command with an error, or ends the conn.
func (t *Table) fail(k call, channel []byte, err error) {
	e, d := t.n.replyError(err)
	if d != nil {
		t.answered(k, channel, uint32(d.Code))
	} else {
		t.answered(k, channel, e.Code)
	}
	switch {
	case d != nil:
		t.close(k.i, d)
	case t.conn[k.i].codec == Plain:
		t.reply(k.i, appendPlainError(t.out, k.plain, channel, e))
	default:
		t.reply(k.i, centrifuge.AppendError(t.out, t.format(k.i), k.id, e))
	}
}

// close ends conn i with what a client of the protocol understands.
func (t *Table) close(i uint32, d *Disconnect) {
	if t.conn[i].phase == phaseOver {
		return
	}
	t.leave(i)
	t.conn[i].phase = phaseOver
	t.host.Close(i, d)
}

// leave ends all subscriptions of conn i and forgets its user, and whatever waits.
func (t *Table) leave(i uint32) {
	t.retire(i, &t.conn[i])
	delete(t.rest, i)
	delete(t.headers, i)
}

// retire makes a session one that has not connected.
func (t *Table) retire(i uint32, st *state) {
	if st.phase == phaseConnected {
		t.n.Sessions.Add(-1)
	}
	for st.subs != 0 {
		t.drop(i, st, st.subs)
	}
	if st.hash != 0 {
		t.users.Remove(i+1, st.hash, t.link)
		st.hash = 0
	}
	t.bytes.Free(st.who)
	st.who = 0
	delete(t.rates, i)
	t.forgetTurn(i, st)
}

// Closed forgets conn i, which is over.
func (t *Table) Closed(i uint32) {
	if t.conn[i].phase == phaseNone {
		return
	}
	if t.conn[i].phase != phaseOver {
		t.leave(i)
	}
	t.conn[i] = state{}
	t.Drain() // its leaves
}

// Drain delivers what waits for this loop's subscribers.
func (t *Table) Drain() { t.shard.Drain(t.deliver) }

// Emptied gives all memory back but the slots', which the caller has discarded. No conn is left.
func (t *Table) Emptied() {
	t.bytes.Reset()
	t.users.Reset()
	t.shard.Reset()
	t.out = nil
	clear(t.rest)
	clear(t.held)
	clear(t.behind)
	clear(t.rates)
	clear(t.headers)
	t.turns = nil
}

// open reports whether the session goes on.
func (st *state) open() bool { return st.phase == phaseOpened || st.phase == phaseConnected }

// Timer is conn i's timer. It reports false if the conn's pings are the loop's affair.
func (t *Table) Timer(i uint32) bool {
	st := &t.conn[i]
	switch {
	case st.phase == phaseNone: // a plain conn that has asked for nothing yet
		return false
	case st.phase == phaseOver:
		return true
	case st.phase == phaseOpened && st.busy == 0:
		t.close(i, centrifuge.DisconnectStale)
		return true
	case st.phase == phaseOpened:
		t.host.SetTimer(i, t.n.o.Stale)
		return true
	case t.taken(i):
		return true
	}
	if !t.expire(i, st) {
		return true
	}
	if st.flags&flagFrames != 0 {
		t.renew(i, st)
		return false
	}
	late := -t.until(st.due)
	switch {
	case late < 0: // it was for an expiry
	case st.pings > 0 && st.busy == 0:
		// The pong may wait in the socket: a loop that lags must not call its clients silent.
		if t.host.Look(i); st.open() && st.pings > 0 {
			t.close(i, centrifuge.DisconnectNoPong)
		}
		return true
	default:
		// While it is busy nobody reads its pongs. It gets its pings all the same: they tell it that we are there.
		t.renew(i, st)
		t.reply(i, centrifuge.AppendPing(t.out, t.format(i)))
		next := t.n.o.Ping
		if t.n.o.Pong > 0 {
			if st.pings++; st.pings == 0 {
				st.pings-- // that many pings in one wait: it will be closed for its pongs, which is time
			}
			if st.busy == 0 {
				next = t.n.o.Pong
			}
		}
		st.due = t.tick(next)
	}
	t.arm(i, st)
	return true
}

// pong takes the answer to a ping.
func (t *Table) pong(i uint32, st *state) {
	if st.pings == 0 {
		t.close(i, centrifuge.DisconnectBadRequest)
		return
	}
	t.host.Ponged(i)
	if st.pings--; st.pings == 0 {
		st.due = t.tick(t.n.o.Ping)
		t.arm(i, st)
	}
}

// wait sets the timer of a conn that was busy: its pongs have their time from now on.
func (t *Table) wait(i uint32, st *state) {
	if st.phase != phaseConnected {
		return // the timer is for the connect command
	}
	if st.pings > 0 {
		st.due = t.tick(t.n.o.Pong)
	}
	t.arm(i, st)
}

// arm sets the timer to when the session is due, or to what comes before that: something expires, or it is its turn to go.
func (t *Table) arm(i uint32, st *state) {
	if st.flags&flagFrames != 0 {
		return
	}
	d := min(t.until(st.due), t.untilExpiry(st))
	if left, ok := t.Turn(i); ok {
		d = min(d, left)
	}
	t.host.SetTimer(i, max(100*time.Millisecond, d))
}

// Arm sets the timer of conn i anew, and reports false if that is the timer for its connect command, which stays as it is.
func (t *Table) Arm(i uint32) bool {
	st := &t.conn[i]
	switch {
	case st.phase == phaseOpened:
		return false
	case st.flags&flagFrames != 0 || st.phase == phaseNone:
		t.host.Rearm(i)
	default:
		t.arm(i, st)
	}
	return true
}

// tick is the time in d, in milliseconds since the table was made; it wraps after 49 days.
func (t *Table) tick(d time.Duration) uint32 {
	return uint32((t.host.Now().Sub(t.start) + d) / time.Millisecond)
}

// until is the time until a tick, negative if it is over.
func (t *Table) until(tick uint32) time.Duration {
	return time.Duration(int32(tick-t.tick(0))) * time.Millisecond
}

// who is the user and info of conn i, valid until they change.
func (t *Table) who(st *state) (user, info []byte) {
	if st.who == 0 {
		return nil, nil
	}
	b := t.bytes.At(st.who)
	n := 2 + int(binary.LittleEndian.Uint16(b))
	return b[2:n], b[n:]
}

// setWho keeps the user and info of conn i.
func (t *Table) setWho(st *state, user string, info []byte) error {
	if len(info) > 0 && !json.Valid(info) {
		info = nil // it could not be shown to clients that speak JSON
	}
	if 2+len(user)+len(info) > arena.Max {
		return errWhoTooLong
	}
	t.bytes.Free(st.who)
	if st.who = 0; user == "" && len(info) == 0 {
		return nil
	}
	st.who = t.bytes.Make(2 + len(user) + len(info))
	b := t.bytes.At(st.who)
	binary.LittleEndian.PutUint16(b, uint16(len(user)))
	copy(b[2:], user)
	copy(b[2+len(user):], info)
	return nil
}

var errWhoTooLong = errors.New("user and info of a client are longer than 32 KiB")

func (t *Table) user(st *state) string {
	u, _ := t.who(st)
	return string(u)
}

func (t *Table) id(i uint32) string { return t.n.ID(t.host.ID(i)) }

// info is what others see of conn i, in one of its channels if sub is not 0.
func (t *Table) info(i uint32, st *state, sub uint32) *engine.ClientInfo {
	user, info := t.who(st)
	c := &engine.ClientInfo{Client: t.id(i), User: string(user)}
	if len(info) > 0 {
		c.ConnInfo = append([]byte(nil), info...)
	}
	if sub != 0 {
		if ref := t.shard.At(sub).Info; ref != 0 {
			c.ChanInfo = append([]byte(nil), t.bytes.At(ref)...)
		}
	}
	return c
}

// client is conn i as hooks see it.
func (t *Table) client(i uint32, st *state) Client {
	user, info := t.who(st)
	c := Client{ID: t.id(i), User: string(user), Transport: "websocket", Protocol: "json", Addr: t.host.Addr(i), Headers: t.headers[i], Context: t.context(i)}
	if st.codec == Protobuf {
		c.Protocol = "protobuf"
	}
	if len(info) > 0 {
		c.Info = append([]byte(nil), info...)
	}
	return c
}

func (t *Table) link(ref uint32) *uint32  { return &t.conn[ref-1].chain }
func (t *Table) hashOf(ref uint32) uint32 { return t.conn[ref-1].hash }

// userHash is never 0.
func (t *Table) userHash(user string) uint32 { return uint32(maphash.String(t.seed, user)) | 1<<31 }

// Each calls f for every connected session that target names. f may end it.
func (t *Table) Each(target Target, f func(i uint32)) {
	if target.Client != "" {
		conn, ok := t.n.Conn(target.Client)
		if !ok {
			return
		}
		i, ok := t.host.Find(conn)
		if ok && t.conn[i].phase == phaseConnected && (target.User == "" || t.user(&t.conn[i]) == target.User) {
			f(i)
		}
		return
	}
	if target.User == "" {
		return
	}
	h := t.userHash(target.User)
	is := func(i uint32) bool { return t.conn[i].hash == h && t.user(&t.conn[i]) == target.User }
	var found []uint32
	for ref := t.users.First(h); ref != 0; ref = t.conn[ref-1].chain {
		if is(ref - 1) {
			found = append(found, ref-1)
		}
	}
	for _, i := range found {
		if is(i) { // what f did to one may have ended another
			f(i)
		}
	}
}
