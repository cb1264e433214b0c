package admin

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/sys"
)

// Scalars are the figures of one moment that a plot is made of. Rates are means of the interval, in 1/s.
type Scalars struct {
	Seq           uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Interval      float64   `json:"interval_s"` // since the figures before; 0: there are none, and all rates are 0
	Draining      bool      `json:"draining"`
	Conns         int64     `json:"conns"` // handshakes included
	MaxConns      int       `json:"max_conns"`
	HTTP          int64     `json:"http"`
	Sessions      int64     `json:"sessions"`
	Subscriptions int64     `json:"subscriptions"`
	QueueBytes    int64     `json:"queue_bytes"`
	RSS           uint64    `json:"rss_bytes"` // 0: not known
	Heap          uint64    `json:"heap_bytes"`
	Goroutines    uint64    `json:"goroutines"`
	GC            GC        `json:"gc"`
	Loop          LoopTimes `json:"loop"`
	Rates         Rates     `json:"rates"`
}

// GC is what the garbage collector did.
type GC struct {
	Cycles    int64   `json:"cycles"`
	PauseLast float64 `json:"pause_last_ms"`
	PauseMax  float64 `json:"pause_max_ms"` // of the last 256 pauses
}

// LoopTimes is how busy the loops were in the interval. Lags are how long an iteration took: what came in it waited no longer
// for its turn. They are bounds that are powers of two.
type LoopTimes struct {
	Active int     `json:"active"`
	Busy   float64 `json:"busy_share"` // of the time of all active loops
	LagP99 uint64  `json:"lag_p99_us"`
	LagMax uint64  `json:"lag_max_us"`
}

// Rates are in 1/s.
type Rates struct {
	Accepted     float64 `json:"accepted"`
	Upgraded     float64 `json:"upgraded"`
	Closed       float64 `json:"closed"`
	Refused      float64 `json:"refused"`
	MessagesIn   float64 `json:"messages_in"`
	MessagesOut  float64 `json:"messages_out"`
	BytesIn      float64 `json:"bytes_in"`
	BytesOut     float64 `json:"bytes_out"`
	Pings        float64 `json:"pings"`
	Publications float64 `json:"publications"`
}

// Snapshot is what the node is doing.
type Snapshot struct {
	Scalars
	WS      Machine `json:"ws"`
	TCP     TCP     `json:"tcp"`
	Causes  []Count `json:"causes"`
	Refused []Count `json:"refused"`
}

// Machine is how many connections are in each state, and how many go from one to another a second ("open>closing").
type Machine struct {
	States map[string]int64   `json:"states"`
	Edges  map[string]float64 `json:"edges"`
}

// TCP is the kernel's states of the same connections.
type TCP struct {
	Available bool   `json:"available"`
	Why       string `json:"why,omitempty"` // it is not
	Machine
}

// Count is a cause of ends or refusals.
type Count struct {
	Cause  string  `json:"cause,omitempty"`
	Reason string  `json:"reason,omitempty"`
	Total  uint64  `json:"total"`
	Rate   float64 `json:"rate"`
}

// TCPCounts are the kernel's counts since the start.
type TCPCounts struct {
	Why         string            // there are none; empty: there are
	States      map[string]int64  // connections now
	Transitions map[string]uint64 // by "FROM>TO"
}

// Bounds of live.
const (
	liveInterval = time.Second
	liveIdle     = 10 * time.Second // after the last question nothing is counted any more
	livePoll     = 5 * time.Second  // the longest wait for something newer
	liveHistory  = 120
	liveWatchers = 256
)

// figures are counts at one moment.
type figures struct {
	at    time.Time
	stats longwire.Stats
	tcp   TCPCounts
}

// live makes a snapshot a second while somebody asks for it. All who ask get the same bytes. Any goroutine may use it.
type live struct {
	stats    func() longwire.Stats
	tcp      func() TCPCounts
	now      func() time.Time
	interval time.Duration
	idle     time.Duration
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu       sync.Mutex
	running  bool          // guarded by mu: the goroutine that counts
	asked    time.Time     // guarded by mu: when somebody did last
	watchers int           // guarded by mu
	newer    chan struct{} // guarded by mu: closed when there is a newer snapshot
	seq      uint64        // guarded by mu
	text     []byte        // guarded by mu: the snapshot; never changed
	history  []Scalars     // guarded by mu
	long     []byte        // guarded by mu: the snapshot with the history; nil until somebody wants it

	before figures // of the goroutine that counts
}

func newLive(stats func() longwire.Stats, tcp func() TCPCounts) *live {
	l := &live{stats: stats, tcp: tcp, now: time.Now, interval: liveInterval, idle: liveIdle, newer: make(chan struct{})}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// close ends the goroutine, and all waiting.
func (l *live) close() {
	l.mu.Lock()
	l.stop()
	l.mu.Unlock()
	l.wg.Wait()
}

var errWatchers = &failure{status: http.StatusServiceUnavailable, code: "too_many_watchers", again: 5,
	message: fmt.Sprintf("%d already watch this node: close some, or wait as Retry-After says", liveWatchers)}

// get waits for a snapshot that is newer than after. What there is by then is what comes of it, when that takes too long.
func (l *live) get(ctx context.Context, after uint64, history bool) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers >= liveWatchers {
		return nil, errWatchers
	}
	l.watchers++
	defer func() { l.watchers-- }()
	l.ask()
	if after > l.seq {
		after = 0 // it is of the process before
	}
	late := time.NewTimer(livePoll)
	defer late.Stop()
	for stale := false; !stale && (l.text == nil || l.seq <= after); {
		newer := l.newer
		l.mu.Unlock()
		select {
		case <-newer:
		case <-late.C:
			stale = true
		case <-l.ctx.Done():
			stale = true
		case <-ctx.Done():
			stale = true
		}
		l.mu.Lock()
		l.asked = l.now()
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case l.text == nil:
		return nil, errClosed
	case !history:
		return l.text, nil
	}
	if l.long == nil {
		b, err := encode(l.history)
		if err != nil {
			return nil, fmt.Errorf("write the history: %w", err)
		}
		l.long = slices.Concat(l.text[:len(l.text)-1], []byte(`,"history":`), b, []byte("}"))
	}
	return l.long, nil
}

var errClosed = &failure{status: http.StatusServiceUnavailable, code: "closed", message: "the gateway is closed"}

// ask has the goroutine that counts run. l.mu is held.
func (l *live) ask() {
	l.asked = l.now()
	if l.running || l.ctx.Err() != nil {
		return
	}
	l.running = true
	// What was counted before the pause is no news to who comes now.
	l.text, l.long = nil, nil
	l.wg.Go(l.run)
}

// run makes a snapshot a second until nobody asks.
func (l *live) run() {
	tick := time.NewTicker(l.interval)
	defer tick.Stop()
	for {
		l.count()
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			return
		}
		l.mu.Lock()
		if l.watchers == 0 && l.now().Sub(l.asked) > l.idle {
			l.running = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// count makes a snapshot.
func (l *live) count() {
	f := figures{at: l.now(), stats: l.stats(), tcp: l.tcp()}
	s := snapshot(&f, &l.before)
	processFigures(&s.Scalars)
	l.before = f
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	s.Seq = l.seq
	text, err := encode(s)
	if err != nil {
		panic(err) // it holds nothing that is no JSON
	}
	if l.history = append(l.history, s.Scalars); len(l.history) > liveHistory {
		l.history = slices.Delete(l.history, 0, len(l.history)-liveHistory)
	}
	l.text, l.long = text, nil
	close(l.newer)
	l.newer = make(chan struct{})
}

// snapshot is what f shows, with what happened since before.
func snapshot(f, before *figures) *Snapshot {
	n, o := &f.stats, &before.stats
	span := 0.0
	if !before.at.IsZero() {
		span = f.at.Sub(before.at).Seconds()
	}
	rate := func(now, then uint64) float64 {
		if span <= 0 || now < then {
			return 0
		}
		return float64(now-then) / span
	}
	s := &Snapshot{Scalars: Scalars{Time: f.at.UTC().Truncate(time.Millisecond), Interval: span, Draining: n.Draining, Conns: n.Conns, MaxConns: n.MaxConns, HTTP: n.HTTP,
		Sessions: n.Sessions, Subscriptions: n.Subscriptions, QueueBytes: n.QueueBytes}}
	s.Causes, s.Refused = []Count{}, []Count{}
	closed, closedBefore := uint64(0), uint64(0)
	for _, k := range longwire.CauseKinds() {
		c := k.String()
		closed += n.Closes[c]
		closedBefore += o.Closes[c]
		s.Causes = append(s.Causes, Count{Cause: c, Total: n.Closes[c], Rate: rate(n.Closes[c], o.Closes[c])})
	}
	refused, refusedBefore := uint64(0), uint64(0)
	for _, c := range longwire.RefusalKinds() {
		refused += n.Refused[c]
		refusedBefore += o.Refused[c]
		s.Refused = append(s.Refused, Count{Reason: c, Total: n.Refused[c], Rate: rate(n.Refused[c], o.Refused[c])})
	}
	s.Rates = Rates{
		Accepted: rate(n.Accepted, o.Accepted), Upgraded: rate(n.Upgraded, o.Upgraded), Closed: rate(closed, closedBefore), Refused: rate(refused, refusedBefore),
		MessagesIn: rate(n.MessagesIn, o.MessagesIn), MessagesOut: rate(n.MessagesOut, o.MessagesOut), BytesIn: rate(n.BytesIn, o.BytesIn),
		BytesOut: rate(n.BytesOut, o.BytesOut), Pings: rate(n.Pings, o.Pings), Publications: rate(n.Publications, o.Publications),
	}
	s.Loop = loopTimes(n, o, span)
	late := longwire.CauseHandshakeTimeout.String()
	s.WS = Machine{
		States: map[string]int64{"handshake": max(0, n.Conns-n.Open-n.Closing), "open": n.Open, "closing": n.Closing},
		Edges: map[string]float64{
			"accept>handshake": s.Rates.Accepted, "handshake>open": s.Rates.Upgraded, "handshake>http": rate(n.Passed, o.Passed),
			"handshake>refused": s.Rates.Refused, "handshake>timeout": rate(n.Closes[late], o.Closes[late]),
			"open>closing": rate(n.Ended-n.Cut, o.Ended-o.Cut), "open>closed": rate(n.Cut, o.Cut),
			"closing>closed": rate(n.Ended-n.Cut-uint64(n.Closing), o.Ended-o.Cut-uint64(o.Closing)),
		},
	}
	s.TCP = TCP{Available: f.tcp.Why == "", Why: f.tcp.Why, Machine: Machine{States: map[string]int64{}, Edges: map[string]float64{}}}
	if s.TCP.Available {
		maps.Copy(s.TCP.States, f.tcp.States)
		for edge, count := range f.tcp.Transitions {
			s.TCP.Edges[edge] = rate(count, before.tcp.Transitions[edge])
		}
	}
	return s
}

// loopTimes is how busy the loops were.
func loopTimes(n, o *longwire.Stats, span float64) LoopTimes {
	t := LoopTimes{Active: n.Loops}
	if span <= 0 {
		return t
	}
	if n.Loops > 0 {
		t.Busy = min(1, max(0, (n.Busy-o.Busy).Seconds()/span/float64(n.Loops)))
	}
	total := uint64(0)
	for i := range n.Iterations {
		total += n.Iterations[i] - o.Iterations[i]
	}
	above := total / 100 // so many may have taken longer than the 99th percentile
	for i := len(n.Iterations) - 1; i >= 0; i-- {
		count := n.Iterations[i] - o.Iterations[i]
		if count == 0 {
			continue
		}
		if t.LagMax == 0 {
			t.LagMax = 1 << i
		}
		if count > above {
			t.LagP99 = 1 << i
			break
		}
		above -= count
	}
	return t
}

// processFigures are what the runtime and the kernel know of this process.
func processFigures(s *Scalars) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	for i, to := range []*uint64{&s.Heap, &s.Goroutines} {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			*to = samples[i].Value.Uint64()
		}
	}
	s.RSS = sys.Resident()
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	s.GC.Cycles = gc.NumGC
	if len(gc.Pause) > 0 {
		s.GC.PauseLast = milliseconds(gc.Pause[0])
		s.GC.PauseMax = milliseconds(slices.Max(gc.Pause))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// serveLive answers with the snapshot: ?after=SEQ waits for a newer one, ?history=1 adds the figures of the last two minutes.
func (a *API) serveLive(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	after := uint64(0)
	if text := q.Get("after"); text != "" {
		n, err := strconv.ParseUint(text, 10, bits.UintSize)
		if err != nil {
			return badRequest("after %q: want the seq of a snapshot", text)
		}
		after = n
	}
	history, _ := strconv.ParseBool(q.Get("history"))
	b, err := a.live.get(r.Context(), after, history)
	if err != nil {
		return err
	}
	write(w, http.StatusOK, b)
	return nil
}
