package longwire

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/session"
)

// Who is connected, for an operator who asks. What connections are belongs to their loops: a search goes through it on
// their threads, a bounded number of connections in a turn, and lets a loop do all else that waits before the next turn.

// Search says which connections are looked for: those that are open of which all holds that is not empty.
type Search struct {
	Client   string // a session's id, or Conn.ID
	User     string
	Channel  string // one that it is subscribed to
	Address  string // an address, one with a port, a network such as 192.0.2.0/24, or the beginning of an IPv4 address, such as 192.0.
	Endpoint string // its path
	Slow     bool   // bytes wait for it
	Cursor   string // Found.Cursor of the page before; empty: the first page
	Limit    int    // the most connections of a page, up to 200; zero means 50
}

// Found is a page of a search.
type Found struct {
	Conns   []OpenConn
	Cursor  string // for the next page; empty: there is none. A page that took too long is shorter, even empty, and has one
	Scanned int    // connections that were looked at for this page
	Total   int    // connections of the node, handshakes under way included
}

// OpenConn is a connection as it was when it was found.
type OpenConn struct {
	Client        string // the session's id; Conn.ID on an endpoint without sessions
	Session       bool   // it has connected
	User          string
	Address       string // with its port; where addresses are masked the network, without
	Endpoint      string // its path
	Protocol      string // plain, centrifuge-json, centrifuge-protobuf, or websocket on an endpoint of the application's
	Age           time.Duration
	Silent        time.Duration // since its client was heard last
	QueueBytes    int           // that wait for its socket
	Subscriptions int
}

// Bounds of searches. A turn is to take no longer than about 200 µs; docs/admin.md has what was measured.
const (
	searchDefault = 50
	searchMost    = 200
	searchSlots   = 4096 // that are looked at in a turn
	searchRows    = 32   // that are read whole in a turn: each costs a system call
	searchIndexed = 1024 // connections of one user or channel on a loop that are taken from the index in a turn; of more, all are gone through
	searchWide    = 8    // loops that are asked at the same time, once others had nobody
	searchTime    = 2 * time.Second
	searchQueue   = 4 // searches that wait for the one under way
)

// searches lets one search be under way at a time, and a few wait.
type searches struct {
	turn    chan struct{} // holds one while a search is under way
	waiting atomic.Int32
}

func newSearches() *searches { return &searches{turn: make(chan struct{}, 1)} }

// begin waits for the searches before. Its caller calls end when it returns nil.
func (s *searches) begin(ctx context.Context) error {
	if s.waiting.Add(1) > searchQueue+1 {
		s.waiting.Add(-1)
		return ErrSearches
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		s.waiting.Add(-1)
		return context.Cause(ctx)
	}
}

func (s *searches) end() {
	<-s.turn
	s.waiting.Add(-1)
}

// ErrSearches is returned by Search and ChannelPage while as many are under way, or wait, as may. errors.Is says that it is an
// ErrBusy.
var ErrSearches error = busyError("longwire: too many searches at a time")

// errLate is of a loop that has much to do.
var errLate error = busyError("longwire: a loop did not answer in time")

// busyError is an ErrBusy that says what is.
type busyError string

func (e busyError) Error() string        { return string(e) }
func (e busyError) Is(target error) bool { return target == ErrBusy }

// criteria are a Search as loops read it.
type criteria struct {
	user     string
	channel  []byte
	network  netip.Prefix // invalid: any
	keys     keys         // of network
	peer     netip.AddrPort
	endpoint int // -1: any
	slow     bool
	limit    int
}

// Search finds connections that are open. One search is under way at a time and a few wait; for more the error is
// ErrSearches. Where an id cannot be read, or a field makes no sense, it is ErrBadQuestion. It must not be called on a loop.
// Connections that come and go meanwhile may be in the answer or not; none is there twice, but one that goes and comes back.
func (g *Gateway) Search(ctx context.Context, q Search) (Found, error) {
	var found Found
	c, err := g.criteria(q)
	if err != nil {
		return found, err
	}
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return found, err
	}
	if err := g.mayAsk(); err != nil {
		return found, err
	}
	found.Total = int(g.admission.conns.Load())
	ctx, cancel := g.whileOpen(ctx)
	defer cancel()
	if q.Client != "" {
		return found, g.searchClient(ctx, q.Client, c, &found)
	}
	if err := g.searching.begin(ctx); err != nil {
		return found, g.orClosed(err)
	}
	defer g.searching.end()
	err = g.searchLoops(ctx, c, at, &found)
	if errors.Is(err, errLate) && found.Scanned > 0 {
		err = nil // the page has what there was in time
	}
	return found, err
}

// searchLoops fills a page, and says in its cursor where the next one begins.
func (g *Gateway) searchLoops(ctx context.Context, c *criteria, at cursor, found *Found) error {
	over := time.Now().Add(searchTime)
	loops := g.searchedLoops(c, int(at.loop))
	for wide := 1; len(loops) > 0; {
		asked := loops[:min(wide, len(loops))]
		answers := make([]<-chan searchTurn, len(asked))
		for k, i := range asked {
			slot := uint32(0)
			if i == int(at.loop) {
				slot = at.slot
			}
			answers[k] = g.searchOn(ctx, i, c, slot, c.limit-len(found.Conns), over)
		}
		before := len(found.Conns)
		for k, i := range asked {
			var t searchTurn
			select {
			case t = <-answers[k]:
			case <-ctx.Done():
			}
			if err := g.orClosed(context.Cause(ctx)); err != nil {
				found.Cursor = cursor{loop: uint32(i)}.String()
				if i == int(at.loop) {
					found.Cursor = at.String()
				}
				return err
			}
			if room := c.limit - len(found.Conns); len(t.conns) > room { // those before it in this round had some
				t.conns, t.next, t.more = t.conns[:room], t.slots[room], true
			}
			found.Conns = append(found.Conns, t.conns...)
			found.Scanned += t.scanned
			if t.more {
				found.Cursor = cursor{uint32(i), t.next}.String()
				return nil
			}
			if loops = loops[1:]; len(loops) > 0 && (len(found.Conns) == c.limit || time.Now().After(over)) {
				found.Cursor = cursor{loop: uint32(loops[0])}.String()
				return nil
			}
		}
		if wide = 1; len(found.Conns) == before {
			wide = min(2*len(asked), searchWide)
		}
	}
	return nil
}

// searchOn goes through a loop from a slot on, turn after turn, until it has as many connections as limit or the time is over. A
// loop that does not run has nothing to tell.
func (g *Gateway) searchOn(ctx context.Context, index int, c *criteria, from uint32, limit int, over time.Time) <-chan searchTurn {
	answer := make(chan searchTurn, 1)
	l := g.loops.Loops()[index]
	all := searchTurn{next: from} // loop-owned
	var turn func()
	turn = func() {
		f := g.fronts[index]
		if f == nil || f.conn == nil || ctx.Err() != nil {
			answer <- searchTurn{}
			return
		}
		t := f.search(c, all.next, min(searchRows, limit-len(all.conns)))
		all.conns, all.slots = append(all.conns, t.conns...), append(all.slots, t.slots...)
		all.scanned += t.scanned
		all.next, all.more = t.next, t.more
		// The next turn is another call, which comes after all that waits for the loop now.
		if all.more && len(all.conns) < limit && time.Now().Before(over) && l.Call(turn) == nil {
			return
		}
		answer <- all
	}
	if l.Call(turn) != nil {
		answer <- searchTurn{}
	}
	return answer
}

// mayAsk reports whether there is anybody to ask.
func (g *Gateway) mayAsk() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == stateClosed {
		return ErrClosed
	}
	return nil
}

// whileOpen is ctx for the questions of one page, ended by Close too.
func (g *Gateway) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*searchTime, errLate)
	stop := context.AfterFunc(g.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// orClosed is err, or ErrClosed where that is why.
func (g *Gateway) orClosed(err error) error {
	if err != nil && g.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

// onLoop runs f on the thread of a loop and waits for it. A loop that does not run has nothing to tell.
func (g *Gateway) onLoop(ctx context.Context, index int, f func(*front)) error {
	done := make(chan struct{})
	l := g.loops.Loops()[index]
	err := l.Call(func() {
		defer close(done)
		if fr := g.fronts[index]; fr != nil && fr.conn != nil && ctx.Err() == nil {
			f(fr)
		}
	})
	if err != nil {
		return nil
	}
	select {
	case <-done:
		return g.orClosed(context.Cause(ctx))
	case <-ctx.Done():
		return g.orClosed(context.Cause(ctx))
	}
}

// searchedLoops are the loops, from one on, that can have what is looked for.
func (g *Gateway) searchedLoops(c *criteria, from int) []int {
	var loops []int
	switch {
	case c.channel == nil:
		for i := range g.loops.Loops() {
			loops = append(loops, i)
		}
	case g.hub != nil:
		g.hub.Loops(string(c.channel), func(i int) { loops = append(loops, i) })
		slices.Sort(loops)
	}
	return slices.DeleteFunc(loops, func(i int) bool { return i < from })
}

// searchClient looks for the connection that an id names.
func (g *Gateway) searchClient(ctx context.Context, client string, c *criteria, found *Found) error {
	conn, before, ok := g.connOf(client)
	if !ok {
		return fmt.Errorf("%w: %q is no id of a client of this gateway", ErrBadQuestion, client)
	}
	id := loop.ID(conn)
	if before || id.Loop() >= len(g.loops.Loops()) {
		return nil
	}
	var conns []OpenConn
	err := g.onLoop(ctx, id.Loop(), func(f *front) {
		w, ok := f.want(c)
		if i, here := f.l.Find(id); ok && here && f.matches(i, c, &w) {
			if conn, ok := f.describe(i, c); ok {
				conns = append(conns, conn)
			}
		}
	})
	if err == nil {
		found.Conns, found.Scanned = conns, 1
	}
	return err
}

// Find is a handle on the connection that a client's id names, a session's or what Conn.ID gives. It is false where no
// connection of this process can have that id; the one that has it may be over.
func (g *Gateway) Find(client string) (Conn, bool) {
	conn, before, ok := g.connOf(client)
	if id := loop.ID(conn); !ok || before || id.Loop() >= len(g.loops.Loops()) {
		return Conn{}, false
	}
	return Conn{g: g, id: loop.ID(conn)}, true
}

// criteria reads a Search.
func (g *Gateway) criteria(q Search) (*criteria, error) {
	c := &criteria{user: q.User, endpoint: -1, slow: q.Slow, limit: q.Limit}
	if q.Channel != "" {
		c.channel = []byte(q.Channel)
	}
	switch {
	case c.limit == 0:
		c.limit = searchDefault
	case c.limit < 0 || c.limit > searchMost:
		return nil, fmt.Errorf("%w: limit %d: want at most %d", ErrBadQuestion, c.limit, searchMost)
	}
	if q.Endpoint != "" {
		if c.endpoint = g.endpoint([]byte(q.Endpoint)); c.endpoint < 0 {
			return nil, fmt.Errorf("%w: no endpoint %q: the endpoints are %s", ErrBadQuestion, q.Endpoint, g.pathList())
		}
	}
	if q.Address != "" {
		var err error
		if c.network, c.peer, err = parseNetwork(q.Address); err != nil {
			return nil, err
		}
		if g.config.MaskAddresses {
			// Nobody is found by more than is shown.
			c.peer = netip.AddrPort{}
			whole := g.mask(netip.AddrPortFrom(c.network.Addr(), 0)).Addr()
			bits := 48
			if whole.Is4() {
				bits = 24
			}
			c.network = netip.PrefixFrom(whole, min(bits, c.network.Bits())).Masked()
		}
		c.keys = keysOf(c.network)
	}
	return c, nil
}

// parseNetwork reads whose address is meant; peer is set where more than the network is: a port, or an IPv6 address, of
// which a connection's state has only a half.
func parseNetwork(text string) (network netip.Prefix, peer netip.AddrPort, err error) {
	bad := fmt.Errorf("%w: address %q: want one such as 192.0.2.7, [2001:db8::7]:443, 192.0. or 192.0.2.0/24", ErrBadQuestion, text)
	if p, err := netip.ParsePrefix(text); err == nil {
		if p.Addr().Is4In6() || !p.Addr().Is4() && p.Bits() > 64 && p.Bits() < 128 {
			return network, peer, bad // of IPv6 a connection's state has the first 64 bits
		}
		if p.Addr().Is6() && p.Bits() == 128 {
			peer = netip.AddrPortFrom(p.Addr(), 0)
		}
		return p.Masked(), peer, nil
	}
	if head, ok := strings.CutSuffix(text, "."); ok && !strings.Contains(text, ":") {
		octets := strings.Split(head, ".")
		if len(octets) > 3 {
			return network, peer, bad
		}
		a, err := netip.ParseAddr(head + strings.Repeat(".0", 4-len(octets)))
		if err != nil {
			return network, peer, bad
		}
		return netip.PrefixFrom(a, 8*len(octets)), peer, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		peer = netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	} else if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		peer = netip.AddrPortFrom(a.Unmap().WithZone(""), 0)
	} else {
		return network, peer, bad
	}
	network = netip.PrefixFrom(peer.Addr(), peer.Addr().BitLen())
	if peer.Addr().Is4() && peer.Port() == 0 {
		peer = netip.AddrPort{} // the state has all of it
	}
	return network, peer, nil
}

// keys is a network as keys of addresses are compared with it, of which connections' states have one: bit by bit, since a search
// asks it of every connection.
type keys struct {
	mask, want uint64
	four       bool // IPv4, whose keys lie among those of IPv6
}

func keysOf(network netip.Prefix) keys {
	k := keys{four: network.Addr().Is4()}
	if k.four {
		k.mask = ^uint64(0) << (32 - network.Bits())
	} else if bits := min(64, network.Bits()); bits > 0 {
		k.mask = ^uint64(0) << (64 - bits)
	}
	k.want = addressKey(network.Addr()) & k.mask
	return k
}

// has reports whether the network has the address that has the key.
func (k *keys) has(key uint64) bool {
	return key&k.mask == k.want && (key>>32 == 0xffff_ffff) == k.four
}

// searchTurn is what came of one turn, or of all turns on one loop.
type searchTurn struct {
	conns   []OpenConn
	slots   []uint32 // of conns
	scanned int
	next    uint32 // the slot to go on from
	more    bool
}

// search looks at some conns from slot from on, and takes up to rows of them.
func (f *front) search(c *criteria, from uint32, rows int) (t searchTurn) {
	w, ok := f.want(c)
	if !ok {
		return t
	}
	read := 0
	take := func(i uint32) bool {
		t.scanned++
		if !f.matches(i, c, &w) {
			return true
		}
		if conn, ok := f.describe(i, c); ok {
			t.conns, t.slots = append(t.conns, conn), append(t.slots, i)
		}
		read++
		return read < rows
	}
	if c.user != "" || c.channel != nil {
		if slots, ok := f.sessions.Candidates(&w, searchIndexed); ok {
			slices.Sort(slots)
			at, _ := slices.BinarySearch(slots, from)
			for k, i := range slots[at:] {
				if !take(i) {
					t.next, t.more = i+1, at+k+1 < len(slots)
					return t
				}
			}
			return t
		}
	}
	t.next, t.more = f.l.Walk(from, searchSlots, take)
	return t
}

// want looks up whom c wants; false: nobody here.
func (f *front) want(c *criteria) (session.Wanted, bool) {
	switch {
	case c.user == "" && c.channel == nil:
		return session.Wanted{}, true
	case f.sessions == nil:
		return session.Wanted{}, false
	}
	return f.sessions.Want(c.user, c.channel)
}

// matches reports whether conn i is open and what c looks for, as far as that can be told without a system call.
func (f *front) matches(i uint32, c *criteria, w *session.Wanted) bool {
	st := &f.conn[i]
	return st.flags&stateUpgraded != 0 && st.phase != phaseOver &&
		(c.endpoint < 0 || int(st.endpoint) == c.endpoint) &&
		(!c.slow || f.l.Queued(i) > 0) &&
		(!c.network.IsValid() || c.keys.has(st.addr)) &&
		(c.user == "" && c.channel == nil || f.sessions.Has(i, w))
}

// describe is what is known of conn i; false if its address is not the one that c wants after all.
func (f *front) describe(i uint32, c *criteria) (OpenConn, bool) {
	st, now := &f.conn[i], f.l.Tick()
	peer := f.l.Peer(i)
	peer = netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
	switch {
	case !peer.IsValid():
		peer = netip.AddrPortFrom(keyAddress(st.addr), 0) // over, or from net/http
	case c.peer.IsValid() && (peer.Addr() != c.peer.Addr() || c.peer.Port() != 0 && peer.Port() != c.peer.Port()):
		return OpenConn{}, false
	}
	ep := &f.g.endpoints[st.endpoint]
	x := OpenConn{Client: f.l.ID(i).String(), Endpoint: ep.Path, Protocol: "websocket", Age: time.Duration(now-st.opened) * loop.Tick,
		Silent: time.Duration(now-st.heard) * loop.Tick, QueueBytes: f.l.Queued(i)}
	if a := f.g.mask(peer); a.Port() != 0 {
		x.Address = a.String()
	} else {
		x.Address = a.Addr().String()
	}
	if ep.protocol == protocolNone {
		return x, true
	}
	s := f.sessions.Summary(i)
	x.Client, x.Session, x.User, x.Subscriptions = s.Client, s.Connected, s.User, s.Subscriptions
	switch {
	case ep.protocol == protocolPlain:
		x.Protocol = "plain"
	case s.Protocol == session.Protobuf:
		x.Protocol = "centrifuge-protobuf"
	default:
		x.Protocol = "centrifuge-json"
	}
	return x, true
}

// cursor is where a search goes on: a loop's slot or, of channels, reference.
type cursor struct{ loop, slot uint32 }

func (c cursor) String() string {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], c.loop)
	binary.BigEndian.PutUint32(b[4:], c.slot)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != 8 {
		return c, fmt.Errorf("%w: cursor %.40q is none of ours", ErrBadQuestion, text)
	}
	return cursor{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

// ChannelQuery says which channels ChannelPage tells of.
type ChannelQuery struct {
	Pattern string // where * stands for any characters, or none; empty is all
	Cursor  string // ChannelPage.Cursor of the page before; empty: the first page
	Limit   int    // the most channels of a page, up to 200; zero means 50
}

// ChannelPage is some of the channels that have a subscriber on this node, in no order.
type ChannelPage struct {
	Channels []ChannelCount
	Cursor   string // for the next page; empty: there is none. A page that took too long is shorter, even empty, and has one
	Total    int    // channels of the node; with more than 64 loops, those are counted once for each 64
}

// ChannelCount is a channel and its subscribers on this node.
type ChannelCount struct {
	Name        string
	Subscribers int
}

// channelsOfTurn is how many channels are looked at in a turn.
const channelsOfTurn = 1024

// ChannelPage goes through the channels that have a subscriber on this node, as Search goes through connections: its bounds
// and errors are the same. Each channel is told once, however many loops have subscribers of it.
func (g *Gateway) ChannelPage(ctx context.Context, q ChannelQuery) (ChannelPage, error) {
	var page ChannelPage
	limit := q.Limit
	switch {
	case limit == 0:
		limit = searchDefault
	case limit < 0 || limit > searchMost:
		return page, fmt.Errorf("%w: limit %d: want at most %d", ErrBadQuestion, limit, searchMost)
	}
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	if err := g.mayAsk(); err != nil {
		return page, err
	}
	if g.hub == nil {
		return page, nil
	}
	page.Total = g.hub.Channels()
	ctx, cancel := g.whileOpen(ctx)
	defer cancel()
	if err := g.searching.begin(ctx); err != nil {
		return page, g.orClosed(err)
	}
	defer g.searching.end()
	names, at, err := g.channelNames(ctx, q.Pattern, at, limit)
	if err != nil {
		return page, err
	}
	if int(at.loop) < len(g.loops.Loops()) {
		page.Cursor = at.String()
	}
	counts := make([]int, len(names))
	for i := range g.loops.Loops() {
		if len(names) == 0 {
			break
		}
		if err := g.onLoop(ctx, i, func(*front) {
			for k, name := range names {
				counts[k] += g.hub.Shard(i).Subscribers([]byte(name))
			}
		}); err != nil {
			return page, err
		}
	}
	for k, name := range names {
		if counts[k] > 0 { // else the last one has gone
			page.Channels = append(page.Channels, ChannelCount{name, counts[k]})
		}
	}
	return page, nil
}

// channelNames are the names of a page, and where the next one begins.
func (g *Gateway) channelNames(ctx context.Context, pattern string, at cursor, limit int) ([]string, cursor, error) {
	var names []string
	over := time.Now().Add(searchTime)
	for ; int(at.loop) < len(g.loops.Loops()); at = (cursor{loop: at.loop + 1}) {
		for more := true; more; {
			if len(names) == limit || time.Now().After(over) {
				return names, at, nil
			}
			var found []string
			next, goesOn := uint32(0), false
			err := g.onLoop(ctx, int(at.loop), func(*front) {
				next, goesOn = g.hub.Shard(int(at.loop)).Walk(at.slot, channelsOfTurn, func(name []byte) bool {
					if pattern == "" || match(pattern, string(name)) {
						found = append(found, string(name))
					}
					return len(names)+len(found) < limit
				})
			})
			if err != nil {
				return nil, at, err
			}
			names = append(names, found...)
			at.slot, more = next, goesOn
		}
	}
	return names, at, nil
}
