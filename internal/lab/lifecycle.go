package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/longwire/longwire/internal/report"
)

func lifecycleExperiment() Experiment {
	return Experiment{
		Name:   "lifecycle",
		Title:  "A connection's life in net/http, gorilla/websocket and Longwire",
		Claims: claimsOf("lifecycle"),
		About: "Connections are accepted, get their first answer, idle, exchange a message, and lose their peer; at each step goroutines, descriptors and " +
			"bytes are counted for each connection, after collections, and in a second server of each kind buffers and deadlines. Then each of the things that may end a connection is tried on each server.",
		Run:      runLifecycle,
		subjects: map[string]maker{"server": makes(newServer)},
	}
}

// lifecycleKinds are the servers of the comparison.
var lifecycleKinds = []string{kindHTTP, kindGorilla, kindLongwire}

// brief is the timeout that triggers are tried with, and watch how long it is waited for what they do.
const (
	brief = 400 * time.Millisecond
	watch = 2500 * time.Millisecond
)

// lifecycleFigures is what the claims are judged by. A duration below 0 says that the connection stood as long as it was watched.
type lifecycleFigures struct {
	idleSet, idleDefault time.Duration // until net/http ended an idle connection, with IdleTimeout and without
	upgraded             time.Duration // until net/http's timeouts ended an upgraded one
	conns, hijacked      int
	onClose              bool // gorilla has a handler of the name
	byUs, byPeer         int  // calls of its close handler when the server closed conns, and when the peer sent a close frame
	types                map[string]string
}

func runLifecycle(ctx context.Context, r *Run) error {
	n := r.Of(200)
	t := r.Table("One connection, step by step", "server", "step", "goroutines", "descriptors", "heap", "stacks", "resident memory")
	for _, kind := range lifecycleKinds {
		r.Log("%s: %d connections through their life", kind, n)
		if err := lifecycleSteps(ctx, r, kind, n, serverConfig{}, func(_ context.Context, _ *Process, step string, base, s Sample) error {
			t.Row(kind, step, each(uint64(base.Goroutines), uint64(s.Goroutines), n), each(uint64(base.Descriptors), uint64(s.Descriptors), n),
				Size(each(base.Heap, s.Heap, n)), Size(each(base.Stacks, s.Stacks, n)), Size(each(base.Resident, s.Resident, n)))
			r.Figure(kind+", "+step+": heap and stacks each", each(base.Heap+base.Stacks, s.Heap+s.Stacks, n), report.Bytes)
			return nil
		}); err != nil {
			return err
		}
	}
	if err := lifecycleHeld(ctx, r, n); err != nil {
		return err
	}
	r.Note("Resident memory is the kernel's, in pages, and of a process that keeps what it had: with few connections it is coarse, and it does not fall when they end.")
	f, err := lifecycleTriggers(ctx, r)
	if err != nil {
		return err
	}
	judgeLifecycle(r, f)
	return nil
}

// limits are long ones, of everything that a server of the comparison can limit.
var limits = serverConfig{Idle: time.Minute, Read: time.Minute, Header: time.Minute, Silence: time.Minute}

// lifecycleHeld takes n connections of each kind through their life once more, for what is seen only by looking closer, which
// costs memory.
func lifecycleHeld(ctx context.Context, r *Run, n int) error {
	t := r.Table("What one connection holds, step by step, with every limit set to a minute", "server", "step", "buffers", "of them bytes", "read deadlines", "write deadlines")
	for _, kind := range lifecycleKinds {
		r.Log("%s: buffers and deadlines of %d connections", kind, n)
		config := limits
		config.Watch = true
		var first *held
		if err := lifecycleSteps(ctx, r, kind, n, config, func(ctx context.Context, p *Process, step string, _, _ Sample) error {
			var h held
			if err := p.Ask(ctx, "held", nil, &h); err != nil {
				return err
			}
			if first == nil {
				first = &h // of the connection before the others
				return nil
			}
			deadlines := func(first, now int64) any {
				if now < 0 {
					return nil
				}
				return float64(now-first) / float64(n)
			}
			t.Row(kind, step, float64(h.Buffers-first.Buffers)/float64(n), Size(float64(h.BufferBytes-first.BufferBytes)/float64(n)), deadlines(first.ReadDeadlines, h.ReadDeadlines), deadlines(first.WriteDeadlines, h.WriteDeadlines))
			return nil
		}); err != nil {
			return err
		}
	}
	r.Note("Buffers are those of bufio and gorilla, of %d bytes and more; Longwire's are parts of requests and messages, and what waits to be written. Longwire has one deadline for each connection, in its wheel of timers, where nothing counts them.", leastBuffer)
	return nil
}

// lifecycleSteps takes n connections through their life and calls row for each step, with the sample before the first. row is
// called for that one too in a server that is watched.
func lifecycleSteps(ctx context.Context, r *Run, kind string, n int, config serverConfig, row func(ctx context.Context, p *Process, step string, base, s Sample) error) (err error) {
	config.Kind = kind
	p, err := r.Start(ctx, "server", config, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	begin, message := upgrade(""), func(c clients) error { return c.echo(ctx, []byte("hello")) }
	if kind == kindHTTP {
		begin = get
		message = func(c clients) error {
			for _, one := range c {
				if err := get(one); err != nil {
					return err
				}
			}
			return nil
		}
	}
	// What the first connection costs once is not counted.
	warm, err := dial(ctx, p.Addr(), 1, begin)
	defer warm.close()
	if err != nil {
		return err
	}
	if err := message(warm); err != nil {
		return err
	}
	base, err := p.Sample(ctx, 3)
	if err != nil {
		return err
	}
	if config.Watch {
		if err := row(ctx, p, "", base, base); err != nil {
			return err
		}
	}
	c, err := dial(ctx, p.Addr(), n, nil)
	defer c.close()
	if err != nil {
		return err
	}
	s, err := p.Settle(ctx, 2, 5*time.Second, func(s Sample) bool { return s.Descriptors >= base.Descriptors+n })
	if err != nil {
		return err
	}
	if err := row(ctx, p, "accepted", base, s); err != nil {
		return err
	}
	for i, one := range c {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := one.SetDeadline(time.Now().Add(answerLimit)); err != nil {
			return err
		}
		if err := begin(one); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
	}
	if s, err = p.Sample(ctx, 2); err != nil {
		return err
	}
	if err := row(ctx, p, "first answer", base, s); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	if s, err = p.Sample(ctx, 2); err != nil {
		return err
	}
	if err := row(ctx, p, "idle for a second", base, s); err != nil {
		return err
	}
	if err := message(c); err != nil {
		return err
	}
	if s, err = p.Sample(ctx, 2); err != nil {
		return err
	}
	if err := row(ctx, p, "after a message", base, s); err != nil {
		return err
	}
	c.close()
	if s, err = p.Settle(ctx, 2, 5*time.Second, func(s Sample) bool {
		return s.Descriptors <= base.Descriptors && s.Goroutines <= base.Goroutines
	}); err != nil {
		return err
	}
	return row(ctx, p, "peer gone", base, s)
}

// trigger is something that may end connections: a server's setting, or something that is done to them.
type trigger struct {
	name   string
	config serverConfig // but for its kind
	do     func(ctx context.Context, p *Process, c clients) error
}

var triggers = []trigger{
	{"silence, default settings", serverConfig{}, nil},
	{"silence, http.Server.IdleTimeout of 400 ms", serverConfig{Idle: brief}, nil},
	{"silence, http.Server.ReadTimeout of 400 ms", serverConfig{Read: brief}, nil},
	{"silence, the server's own limit of 400 ms", serverConfig{Silence: brief}, nil},
	{"the peer sends a close frame", serverConfig{}, func(_ context.Context, _ *Process, c clients) error {
		for _, one := range c {
			if _, err := one.Write(farewell); err != nil {
				return err
			}
		}
		return nil
	}},
	{"the peer ends its direction (FIN)", serverConfig{}, func(_ context.Context, _ *Process, c clients) error {
		for _, one := range c {
			if err := one.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
		}
		return nil
	}},
	{"the server closes its connections", serverConfig{}, func(ctx context.Context, p *Process, _ clients) error { return p.Ask(ctx, "close", nil, nil) }},
	{"the server shuts down", serverConfig{}, func(ctx context.Context, p *Process, _ clients) error { return p.Ask(ctx, "shutdown", nil, nil) }},
	{"accepted, and no request comes, default settings", serverConfig{}, nil},
	{"accepted, and no request comes, a limit of 400 ms", serverConfig{Header: brief}, nil},
}

// What the claims need of the triggers, by index.
const (
	defaultTrigger = 0
	idleTrigger    = 1
	readTrigger    = 2
	silenceTrigger = 3
	frameTrigger   = 4
	closeTrigger   = 6
	muteTrigger    = 8
	limitTrigger   = 9
)

// triggered is what came of one trigger on one kind of server.
type triggered struct {
	took  time.Duration
	state serverState
	err   error
}

// lifecycleTriggers tries what may end a connection, on a few of each kind, some servers at a time: most of it is waiting.
func lifecycleTriggers(ctx context.Context, r *Run) (f lifecycleFigures, err error) {
	const n, atATime = 10, 4
	got := make([][]*triggered, len(triggers))
	turns := make(chan struct{}, atATime)
	var all sync.WaitGroup
	for i, g := range triggers {
		got[i] = make([]*triggered, len(lifecycleKinds))
		for k, kind := range lifecycleKinds {
			if !applies(i, kind) {
				continue
			}
			x := new(triggered)
			got[i][k] = x
			all.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				r.Log("%s: %s", kind, g.name)
				x.took, x.state, x.err = tryTrigger(ctx, r, kind, g, i < muteTrigger, n)
			})
		}
	}
	all.Wait()
	t := r.Table("What ends a connection, and after how long", append([]string{"trigger"}, lifecycleKinds...)...)
	for i, g := range triggers {
		cells := []any{g.name}
		for k, kind := range lifecycleKinds {
			switch x := got[i][k]; {
			case x == nil:
				cells = append(cells, nil)
			case x.err != nil:
				return f, fmt.Errorf("%s, %s: %w", kind, g.name, x.err)
			case x.took < 0:
				cells = append(cells, fmt.Sprintf("stands after %v", watch))
			default:
				cells = append(cells, x.took)
			}
		}
		t.Row(cells...)
	}
	const http, gorilla = 0, 1 // of lifecycleKinds
	f = lifecycleFigures{
		conns: n, idleDefault: got[defaultTrigger][http].took, idleSet: got[idleTrigger][http].took,
		hijacked: got[idleTrigger][gorilla].state.Hijacked, upgraded: max(got[idleTrigger][gorilla].took, got[readTrigger][gorilla].took),
		onClose: got[frameTrigger][gorilla].state.OnClose, byPeer: got[frameTrigger][gorilla].state.CloseHandlers, byUs: got[closeTrigger][gorilla].state.CloseHandlers,
	}
	p, err := r.Start(ctx, "server", serverConfig{Kind: kindGorilla}, nil)
	if err != nil {
		return f, err
	}
	return f, errors.Join(p.Ask(ctx, "underlying", nil, &f.types), p.Close())
}

// applies tells whether the trigger of an index is one for a kind of server.
func applies(i int, kind string) bool {
	switch kind {
	case kindHTTP: // it has no frames, no limit but those of http.Server, and no list of its connections
		return i != frameTrigger && i != silenceTrigger && i != closeTrigger
	case kindLongwire: // it is not on an http.Server, and its limit for requests, 5 s by default, is longer than we watch
		return i != idleTrigger && i != readTrigger && i != muteTrigger
	}
	return true
}

// tryTrigger says how long it took until the server had ended all of n connections; below 0 where one stands still. Without
// ask, they send no request.
func tryTrigger(ctx context.Context, r *Run, kind string, g trigger, ask bool, n int) (took time.Duration, s serverState, err error) {
	g.config.Kind = kind
	p, err := r.Start(ctx, "server", g.config, nil)
	if err != nil {
		return 0, s, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	begin := upgrade("")
	switch {
	case !ask:
		begin = nil
	case kind == kindHTTP:
		begin = get
	}
	c, err := dial(ctx, p.Addr(), n, begin)
	defer c.close()
	if err != nil {
		return 0, s, err
	}
	since := time.Now()
	done := make(chan error, 1)
	go func() { // some wait for the peers' answers; it is over before p is asked anything else
		if g.do != nil {
			done <- g.do(ctx, p, c)
		}
		close(done)
	}()
	took = -1
	for time.Since(since) < watch && ctx.Err() == nil {
		if c.open() == 0 {
			took = time.Since(since).Round(10 * time.Millisecond)
			break
		}
	}
	if err := <-done; err != nil {
		return 0, s, err
	}
	if ctx.Err() != nil {
		return 0, s, context.Cause(ctx)
	}
	if kind == kindGorilla {
		err = p.Ask(ctx, "state", nil, &s)
	}
	return took, s, err
}

// endedAfter says a duration of lifecycleFigures in words.
func endedAfter(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("stood for the %v that they were watched", watch)
	}
	return "ended after " + report.Seconds.Format(d.Seconds())
}

func judgeLifecycle(r *Run, f lifecycleFigures) {
	says := fmt.Sprintf("with IdleTimeout set to %v idle connections of net/http %s; of a server with default settings, where IdleTimeout is 0 and means none, they %s", brief, endedAfter(f.idleSet), endedAfter(f.idleDefault))
	switch {
	case f.idleSet >= 0 && f.idleDefault >= 0:
		r.Verdict("http-idle-timeout", Holds, says)
	case f.idleSet >= 0:
		r.Verdict("http-idle-timeout", HoldsInPart, says)
	default:
		r.Verdict("http-idle-timeout", DoesNotHold, says)
	}
	says = fmt.Sprintf("net/http reported %d of %d upgraded connections as hijacked; with IdleTimeout or ReadTimeout of %v they %s", f.hijacked, f.conns, brief, endedAfter(f.upgraded))
	switch {
	case f.hijacked == f.conns && f.upgraded < 0:
		r.Verdict("upgrade-takes-over", Holds, says)
	case f.hijacked == f.conns:
		r.Verdict("upgrade-takes-over", HoldsInPart, says)
	default:
		r.Verdict("upgrade-takes-over", DoesNotHold, says)
	}
	has := "gorilla's Conn has no OnClose"
	if f.onClose {
		has = "gorilla's Conn has an OnClose"
	}
	says = fmt.Sprintf("%s; the handler of SetCloseHandler was called for %d of %d connections that the server closed, and for %d of %d whose peer sent a close frame", has, f.byUs, f.conns, f.byPeer, f.conns)
	switch {
	case f.byUs == f.conns:
		r.Verdict("close-calls-onclose", Holds, says)
	case f.byUs > 0:
		r.Verdict("close-calls-onclose", HoldsInPart, says)
	default:
		r.Verdict("close-calls-onclose", DoesNotHold, says)
	}
	const tcp = "*net.TCPConn"
	says = fmt.Sprintf("UnderlyingConn was %s without TLS and %s with it", f.types["ws"], f.types["wss"])
	switch {
	case f.types["ws"] == tcp && f.types["wss"] == tcp:
		r.Verdict("underlying-tcp", Holds, says)
	case f.types["ws"] == tcp || f.types["wss"] == tcp:
		r.Verdict("underlying-tcp", HoldsInPart, says)
	default:
		r.Verdict("underlying-tcp", DoesNotHold, says)
	}
}
