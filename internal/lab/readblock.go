package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/longwire/longwire/internal/report"
	"github.com/longwire/longwire/internal/sys"
)

func readblockExperiment() Experiment {
	return Experiment{
		Name:   "readblock",
		Title:  "Goroutines that read from peers which are gone",
		Claims: claimsOf("readblock"),
		About: "Servers read from peers that vanish (nothing of them arrives any more, and nothing arrives there), from peers that froze (their kernel answers, " +
			"they do not), and from healthy ones that are silent but answer pings. The servers differ in what ends a read: nothing, TCP's keepalive, a context that " +
			"is looked at, a context that closes, a read deadline, a heartbeat. What is measured is how long goroutines live that read from them.",
		Run: func(ctx context.Context, r *Run) error {
			// Longer than Go's keepalive takes: 15 s of silence and 9 probes, one every 15 s.
			f, err := readFromTheGone(ctx, r.Log, readPlan{peers: min(r.Of(50), 300), limit: 5 * time.Second, window: 165 * time.Second, probe: time.Second})
			f.tell(r)
			if err != nil {
				return err // whoever has not ended yet may still do
			}
			for _, j := range f.judge() {
				r.Verdict(j.id, j.verdict, j.sentence)
			}
			return nil
		},
	}
}

// readPlan is how the experiment is run.
type readPlan struct {
	peers  int           // of each kind, for each server
	limit  time.Duration // deadline of a read, or of a context
	window time.Duration // how long it is watched
	probe  time.Duration // of the short keepalive: the silence before it, and between its 3 probes
	// enough ends it earlier; nil does not. It is asked how many reads are left of the peers of a fate at a server.
	enough func(left func(id string, k fate) int) bool
}

// A fate is what becomes of a peer.
type fate int

// The fates.
const (
	vanished fate = iota // from one moment on its packets are dropped, both ways
	frozen               // its kernel answers, it reads nothing and says nothing
	silent               // it answers pings and says nothing
	fates
)

func (f fate) String() string { return [...]string{"vanished", "frozen", "silent"}[f] }

// reads are what became of the connections of one fate at one server.
type reads struct {
	conns int
	lives []float64 // seconds from when peers vanished until a read ended, of those that did
	how   map[string]int
}

// left is how many still read at the end.
func (r *reads) left() int { return r.conns - len(r.lives) }

// longest is how long the last one took to end that did, in seconds.
func (r *reads) longest() float64 {
	if len(r.lives) == 0 {
		return 0
	}
	return slices.Max(r.lives)
}

// readWay is a server that ends reads in one way, or does not.
type readWay struct {
	id, name  string
	keepalive net.KeepAliveConfig // the zero value is Go's default
	off       bool                // no keepalive at all
	// read reads from conn until an error, as the way has it.
	read func(conn *websocket.Conn, limit time.Duration) error
}

// readUntil reads messages until an error.
func readUntil(c *websocket.Conn, _ time.Duration) error {
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			return err
		}
	}
}

// readWays are those of gorilla/websocket; Longwire's loop comes beside them.
func readWays(probe time.Duration) []readWay {
	return []readWay{
		{id: "bare", name: "no deadline, no TCP keepalive", off: true, read: readUntil},
		{id: "default", name: "no deadline, as net.Listen has it (keepalive 15 s, 9 probes)", read: readUntil},
		{id: "keepalive", name: fmt.Sprintf("no deadline, keepalive %s, 3 probes", spell(probe)), read: readUntil,
			keepalive: net.KeepAliveConfig{Enable: true, Idle: probe, Interval: probe, Count: 3}},
		{id: "context", name: "a context with a timeout, looked at between reads", off: true, read: func(c *websocket.Conn, limit time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			for ctx.Err() == nil {
				if _, _, err := c.ReadMessage(); err != nil {
					return err
				}
			}
			return ctx.Err()
		}},
		{id: "closes", name: "a context with a timeout that closes the connection", off: true, read: func(c *websocket.Conn, limit time.Duration) error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			return readUntil(c, limit)
		}},
		{id: "deadline", name: "a read deadline, renewed by each message", off: true, read: func(c *websocket.Conn, limit time.Duration) error {
			for {
				if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
					return err
				}
				if _, _, err := c.ReadMessage(); err != nil {
					return err
				}
			}
		}},
		{id: "heartbeat", name: "pings, and a read deadline renewed by each pong", off: true, read: readWithPings},
	}
}

// readWithPings is how the library's examples do it: a goroutine that pings, and a pong handler that renews the deadline.
func readWithPings(c *websocket.Conn, limit time.Duration) error {
	renew := func(string) error { return c.SetReadDeadline(time.Now().Add(limit)) }
	c.SetPongHandler(renew)
	if err := renew(""); err != nil {
		return err
	}
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(limit / 2)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if c.WriteControl(websocket.PingMessage, nil, time.Now().Add(limit)) != nil {
					return
				}
			case <-over:
				return
			}
		}
	}()
	err := readUntil(c, limit)
	close(over)
	<-ended
	return err
}

// readFigures is what the experiment measured.
type readFigures struct {
	plan    readPlan
	how     string // peers vanish
	vanish  bool   // whether they do
	elapsed time.Duration
	ways    []string // names
	ids     []string
	of      map[string]*[fates]reads // by id

	dialled    int // of dials into nowhere, those that failed
	dialErr    string
	dialIs     int           // of these, those that errors.Is calls context.DeadlineExceeded
	dialTook   time.Duration // the longest
	dialLimit  time.Duration
	dialLeaked int // descriptors
}

// endings collects how reads ended. It may be used by any goroutine.
type endings struct {
	mu    sync.Mutex
	began time.Time // when peers vanished; zero before that
	over  bool
	of    [fates]reads
}

func (e *endings) add(f fate, how string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	life := 0.0
	if !e.began.IsZero() {
		life = time.Since(e.began).Seconds()
	}
	r := &e.of[f]
	r.lives = append(r.lives, life)
	if r.how == nil {
		r.how = map[string]int{}
	}
	r.how[how]++
}

// begin says from when lives count. What ended before has lived for 0 s.
func (e *endings) begin(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.began = at
}

// left is how many reads of a fate did not end yet.
func (e *endings) left(k fate) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.of[k].left()
}

// end returns what came of them until now. Later ends do not count.
func (e *endings) end() [fates]reads {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	return e.of
}

// spell is a duration for people.
func spell(d time.Duration) string { return report.Seconds.Format(d.Seconds()) }

// ended tells in a word or two how a read ended.
func ended(err error) string {
	switch {
	case err == nil:
		return "nothing"
	case errors.Is(err, net.ErrClosed):
		return "closed by the server"
	case errors.Is(err, context.DeadlineExceeded):
		return "context"
	}
	// By their text: gorilla/websocket puts errors of its own in the place of those that time out.
	for _, e := range []error{os.ErrDeadlineExceeded, syscall.ETIMEDOUT} {
		if strings.HasSuffix(err.Error(), e.Error()) {
			return e.Error()
		}
	}
	return "another error"
}

// readServer is one server under test, with its peers.
type readServer struct {
	id, name string
	addr     string
	endings  *endings
	entered  *atomic.Int64
	stop     func() error // ends it with its connections, and waits
}

// readFromTheGone carries the experiment out.
func readFromTheGone(ctx context.Context, log func(string, ...any), p readPlan) (f *readFigures, err error) {
	a := openAbyss()
	defer a.close()
	f = &readFigures{plan: p, how: a.how(), vanish: a.supported(), of: map[string]*[fates]reads{}}
	if !f.vanish {
		f.how = "they cannot on this system: only frozen and silent peers were measured"
	}
	var servers []*readServer
	var peers readPeers
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
		peers.close()
	}()
	for _, w := range readWays(p.probe) {
		s, err := startReadServer(a, w, p.limit)
		if err != nil {
			return f, err
		}
		servers = append(servers, s)
	}
	s, err := startReadGateway(a, p.limit)
	if err != nil {
		return f, err
	}
	servers = append(servers, s)

	log("%d servers, %d peers of each kind at each; peers vanish: %s", len(servers), p.peers, f.how)
	for _, s := range servers {
		for k := range fates {
			if k == vanished && !f.vanish {
				continue
			}
			for range p.peers {
				if ctx.Err() != nil {
					return f, context.Cause(ctx)
				}
				if err := peers.connect(ctx, a, s.addr, k); err != nil {
					return f, fmt.Errorf("%s: %w", s.name, err)
				}
				s.endings.of[k].conns++
			}
		}
		conns := 0
		for k := range fates {
			conns += s.endings.of[k].conns
		}
		if err := until(ctx, answerLimit, func() bool { return int(s.entered.Load()) >= conns }); err != nil {
			return f, fmt.Errorf("%s: its handlers do not read: %w", s.name, err)
		}
	}
	if f.vanish {
		if err := a.swallow(peers.lost); err != nil {
			return f, err
		}
	}
	began := time.Now()
	for _, s := range servers {
		s.endings.begin(began)
	}
	if f.vanish {
		if err := f.dialNowhere(ctx, a, min(p.limit, 200*time.Millisecond)); err != nil {
			return f, err
		}
	}
	log("watching for %v", p.window)
	waited := watchReads(ctx, servers, began, p)
	f.elapsed = time.Since(began)
	for _, s := range servers {
		of := s.endings.end()
		f.ids, f.ways, f.of[s.id] = append(f.ids, s.id), append(f.ways, s.name), &of
	}
	return f, waited
}

// watchReads waits until the window is over, or enough was seen.
func watchReads(ctx context.Context, servers []*readServer, began time.Time, p readPlan) error {
	if p.enough == nil {
		return pause(ctx, time.Until(began.Add(p.window)))
	}
	left := func(id string, k fate) int {
		for _, s := range servers {
			if s.id == id {
				return s.endings.left(k)
			}
		}
		return 0
	}
	for time.Since(began) < p.window && !p.enough(left) {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// until waits until done, at most for d.
func until(ctx context.Context, d time.Duration, done func() bool) error {
	for late := time.Now().Add(d); !done(); {
		if time.Now().After(late) {
			return fmt.Errorf("not within %v", d)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// dials is how often it is tried.
const dials = 20

// dialNowhere dials an address that answers nothing, with a context that ends.
func (f *readFigures) dialNowhere(ctx context.Context, a *abyss, limit time.Duration) error {
	to := net.JoinHostPort(lost.String(), "9")
	if a.network == nil {
		l, err := plainListener()
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		s, ok := l.(syscall.Conn)
		if !ok {
			return nil
		}
		if err := a.swallow([]syscall.Conn{s}); err != nil {
			return err
		}
		to = l.Addr().String()
	}
	before := sys.OpenDescriptors()
	f.dialLimit = limit
	for range dials {
		began := time.Now()
		err := a.do(func() error {
			short, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			c, err := new(net.Dialer).DialContext(short, "tcp", to)
			if err == nil {
				return c.Close()
			}
			return err
		})
		f.dialTook = max(f.dialTook, time.Since(began))
		if err != nil {
			f.dialled++
			f.dialErr = fmt.Sprintf("%T (%v)", err, err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			f.dialIs++
		}
	}
	// A moment for others, whose descriptors come and go as well.
	_ = until(ctx, time.Second, func() bool { return sys.OpenDescriptors() <= before })
	f.dialLeaked = max(0, sys.OpenDescriptors()-before)
	return nil
}

// tell writes tables and figures.
func (f *readFigures) tell(r *Run) {
	r.Note("%d peers of each kind at each server; peers vanish: %s. Watched for %.0f s.", f.plan.peers, f.how, f.elapsed.Seconds())
	t := r.Table("Reads of peers, by how the server ends them", "server", "peers", "connections", "reads left at the end", "ended after, median", "the last", "how they ended")
	for i, id := range f.ids {
		for k := range fates {
			x := &f.of[id][k]
			if x.conns == 0 {
				continue
			}
			var median, last any
			if len(x.lives) > 0 {
				median, last = Quantity{quantile(x.lives, 0.5), report.Seconds}, Quantity{x.longest(), report.Seconds}
			}
			t.Row(f.ways[i], k.String(), x.conns, x.left(), median, last, kinds(x.how))
		}
	}
	if f.elapsed == 0 {
		return
	}
	e := r.Table("Share of an hour's goroutines that leak (extrapolated: peers go at a rate, and the measured share of their reads stays)",
		"a peer goes once in, on average", "no deadline: frozen, or vanished without keepalive", "vanished, as net.Listen has it", "Longwire")
	for _, every := range []struct {
		name  string
		hours float64
	}{{"a day", 24}, {"an hour", 1}, {"24 minutes", 0.4}} {
		lost := 1 - math.Exp(-1/every.hours)
		kept := func(id string, k fate) any {
			x := f.of[id]
			if x == nil || x[k].conns == 0 {
				return nil
			}
			return percent(lost * float64(x[k].left()) / float64(x[k].conns))
		}
		e.Row(every.name, kept("bare", frozen), kept("default", vanished), kept("longwire", frozen))
	}
	for i, id := range f.ids {
		for k := range fates {
			if x := f.of[id][k]; x.conns > 0 {
				r.Figure(fmt.Sprintf("reads left: %s, %v", f.ways[i], k), 100*float64(x.left())/float64(x.conns), report.Percent)
			}
		}
	}
}

// stays tells whether nearly all reads of peers of a fate stayed; ends, whether none did. Neither where there were none.
func (f *readFigures) stays(id string, k fate) bool {
	x := f.of[id]
	return x != nil && x[k].conns > 0 && x[k].left()*10 >= x[k].conns*9
}

func (f *readFigures) ends(id string, k fate) bool {
	x := f.of[id]
	return x != nil && x[k].conns > 0 && x[k].left() == 0
}

// within tells whether all reads ended, within the limit and half as much again for a machine that is busy.
func (f *readFigures) within(id string, k fate) bool {
	return f.ends(id, k) && f.of[id][k].longest() <= 1.5*f.plan.limit.Seconds()
}

// of n of m in words.
func (f *readFigures) ratio(id string, k fate) string {
	x := f.of[id]
	if x == nil || x[k].conns == 0 {
		return "(not measured)"
	}
	return fmt.Sprintf("%d of %d", x[k].left(), x[k].conns)
}

// judge makes the verdicts of the figures.
func (f *readFigures) judge() []opinion {
	var out []opinion
	say := func(id string, v Verdict, format string, args ...any) {
		out = append(out, opinion{id, v, fmt.Sprintf(format, args...)})
	}
	whenever := fmt.Sprintf("after %.0f s", f.elapsed.Seconds())
	// A read without a deadline.
	bare := f.stays("bare", frozen) && (f.stays("bare", vanished) || !f.vanish)
	figures := fmt.Sprintf("%s %s reads of frozen peers were left, and %s of vanished ones without TCP keepalive; with Go's default keepalive %s of vanished ones",
		whenever, f.ratio("bare", frozen), f.ratio("bare", vanished), f.ratio("default", vanished))
	keepalive := ""
	if f.ends("default", vanished) {
		keepalive = fmt.Sprintf(" (they ended by %s, the last after %.0f s)", kinds(f.of["default"][vanished].how), f.of["default"][vanished].longest())
	}
	switch {
	case bare && keepalive == "":
		say("read-blocks", Holds, "%s", figures)
	case bare:
		say("read-blocks", HoldsInPart, "%s%s: since net.Listen turns keepalive on, only a peer whose kernel still answers blocks a read for good", figures, keepalive)
	default:
		say("read-blocks", DoesNotHold, "%s%s", figures, keepalive)
	}
	rate := -math.Log(1 - 0.92)
	extrapolated := fmt.Sprintf("92 %% an hour is a property of the network and not of the code: it takes peers that go once in %.0f minutes on average (extrapolated)", 60/rate)
	switch {
	case bare && keepalive == "":
		say("leak-92", HoldsInPart, "%s; %s", figures, extrapolated)
	case bare:
		say("leak-92", HoldsInPart, "%s%s, so of peers that vanish none leaks with a listener of today's Go, and of frozen ones all; %s", figures, keepalive, extrapolated)
	default:
		say("leak-92", DoesNotHold, "%s; %s", figures, extrapolated)
	}
	// Contexts.
	limit := spell(f.plan.limit)
	context5 := fmt.Sprintf("with a context of %s that is looked at between reads %s reads of frozen peers were left %s; with one that closes the connection %s", limit,
		f.ratio("context", frozen), whenever, f.ratio("closes", frozen))
	switch {
	case f.within("context", frozen):
		say("context-5s", Holds, "%s", context5)
	case f.within("closes", frozen):
		say("context-5s", HoldsInPart, "%s, the last after %.1f s: not the context ends the read, but the close", context5, f.of["closes"][frozen].longest())
	default:
		say("context-5s", DoesNotHold, "%s", context5)
	}
	if f.stays("context", frozen) {
		say("context-wraps", DoesNotHold, "%s: the read does not know of it", context5)
		say("read-ignores-context", Holds, "%s", context5)
	} else {
		say("context-wraps", Holds, "%s", context5)
		say("read-ignores-context", DoesNotHold, "%s", context5)
	}
	healthy := fmt.Sprintf("of healthy connections that were only silent it left %s; a heartbeat left %s, and Longwire %s", f.ratio("closes", silent), f.ratio("heartbeat", silent), f.ratio("longwire", silent))
	switch {
	case !f.within("closes", frozen):
		say("context-closes", DoesNotHold, "%s", context5)
	case f.stays("closes", silent):
		say("context-closes", Holds, "it ended the reads of all frozen peers, and %s", healthy)
	default:
		say("context-closes", HoldsInPart, "it ended the reads of all frozen peers; but %s: a timeout for the whole connection is an end for good ones too", healthy)
	}
	// Deadlines.
	dead := fmt.Sprintf("with a read deadline of %s %s reads of frozen peers were left", limit, f.ratio("deadline", frozen))
	if x := f.of["deadline"]; f.within("deadline", frozen) && x[frozen].how["i/o timeout"] == x[frozen].conns {
		say("deadline-forces", Holds, "%s; all ended by i/o timeout, the last after %.1f s", dead, x[frozen].longest())
	} else if f.ends("deadline", frozen) {
		say("deadline-forces", HoldsInPart, "%s; they ended by %s, the last after %.1f s", dead, kinds(x[frozen].how), x[frozen].longest())
	} else {
		say("deadline-forces", DoesNotHold, "%s", dead)
	}
	// Dialling.
	dial := fmt.Sprintf("of %d dials into nowhere with a context of %s %d failed, the last after %.2f s, with %s; errors.Is called %d of these errors context.DeadlineExceeded; %d descriptors were left",
		dials, spell(f.dialLimit), f.dialled, f.dialTook.Seconds(), f.dialErr, f.dialIs, f.dialLeaked)
	switch {
	case !f.vanish:
		say("dial-context", NotShown, "none of %d dials could go nowhere on this system", dials)
	case f.dialled < dials || f.dialLeaked > 0 || f.dialTook > f.dialLimit+f.plan.limit:
		say("dial-context", DoesNotHold, "%s", dial)
	case f.dialIs == dials:
		say("dial-context", Holds, "%s", dial)
	default:
		say("dial-context", HoldsInPart, "%s: it ends in time, but it may be the socket's deadline that is seen first, and os.ErrDeadlineExceeded is another error", dial)
	}
	return out
}
