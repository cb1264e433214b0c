package cli

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/pprof"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/admin"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/console"
	"github.com/longwire/longwire/internal/profile"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/trace"
)

// serveAdmin is what operators have of a gateway: the console with its API, profiles, metrics and health, on a listener of its
// own behind a token, and with --dev on the gateway's own port without one.
type serveAdmin struct {
	s       *server
	o       *config.Serve
	node    admin.Node // without what is known later
	started time.Time
	page    http.Handler // the console
	api     *admin.API
	guard   *admin.Guard
	server  *http.Server  // nil: there is no listener
	over    chan struct{} // closed when it has ended
}

// newServeAdmin makes it. Nothing listens yet.
func newServeAdmin(s *server, l *config.Loaded, c *longwire.Config) *serveAdmin {
	o := &l.Serve
	a := &serveAdmin{s: s, o: o, started: time.Now(), page: console.Handler(), node: adminNode(o, c)}
	mask := func(addr netip.Addr) netip.Addr { return s.gateway.MaskAddress(addr) }
	a.api = admin.New(admin.Options{Gateway: func() admin.Gateway { return s.gateway }, Node: a.describe, TCP: s.tcp, Drain: s.askDrain, Mask: mask, Log: s.log})
	a.guard = admin.NewGuard(admin.GuardOptions{Token: string(o.AdminToken), Insecure: o.AdminInsecure, Mask: mask, Log: s.log})
	return a
}

// adminNode is what the console shows of a configuration.
func adminNode(o *config.Serve, c *longwire.Config) admin.Node {
	name, _ := os.Hostname() // or none
	n := admin.Node{
		Version: readBuild().Version, Node: cmp.Or(c.Sessions.Name, name), PID: os.Getpid(),
		Limits: admin.Limits{
			MaxConns: c.MaxConns, MaxMemory: -1, ConnsPerAddress: c.ConnsPerAddress, RatePerAddress: c.RatePerAddress,
			ConnectRate: c.Sessions.ConnectRate, MaxMessage: int(o.MaxMessage), WriteQueue: int(o.WriteQueue),
			HandshakeTimeout: time.Duration(o.HandshakeTimeout).Seconds(), PingAfter: time.Duration(o.PingAfter).Seconds(),
			CloseAfter: time.Duration(o.CloseAfter).Seconds(), Drain: time.Duration(o.Drain).Seconds(),
		},
		Features: admin.Features{Trace: "off", MaskAddresses: o.MaskAddresses, Push: true, Dev: o.Dev},
	}
	switch {
	case o.MaxMemory > 0:
		n.Limits.MaxMemory = int64(o.MaxMemory)
	case o.MaxMemory < 0:
		n.Limits.MaxMemory = 0
	}
	for _, e := range c.Endpoints {
		n.Endpoints = append(n.Endpoints, admin.Endpoint{Path: e.Path, Protocol: e.Protocol()})
	}
	return n
}

// describe is what the node is, now.
func (a *serveAdmin) describe() admin.Node {
	n, g := a.node, a.s.gateway
	n.Addr, n.Layout = g.Addr().String(), g.Layout()
	n.Limits.MaxConns = g.Stats().MaxConns
	n.Started, n.Uptime = a.started.UTC().Truncate(time.Millisecond), time.Since(a.started).Seconds()
	n.Features.RecorderBytes = g.RecorderBytes()
	if t := a.s.tracing; t != nil {
		n.Features.Trace = t.Level().String()
	}
	return n
}

// tcp is the kernel's side of the connections.
func (s *server) tcp() admin.TCPCounts {
	if s.tracing == nil {
		return admin.TCPCounts{Why: "the kernel is not asked: trace is off"}
	}
	return s.tracing.counts()
}

// open adds all of it to a mux that everybody reaches, but for the page, which is its caller's to place.
func (a *serveAdmin) open(mux *http.ServeMux) {
	anybody := admin.NewGuard(admin.GuardOptions{Insecure: true, Log: a.s.log})
	mux.Handle(admin.Prefix, anybody.Wrap(a.api))
	mux.Handle(console.Assets, a.page)
	mux.Handle(profile.Prefix, profile.Pages(a.s.captures))
}

// handler is what the admin listener serves.
func (a *serveAdmin) handler() http.Handler {
	guarded := http.NewServeMux()
	guarded.Handle(admin.Prefix, a.api)
	guarded.Handle(profile.Prefix, profile.Pages(a.s.captures))
	if a.o.Metrics {
		guarded.Handle("GET /metrics", a.s.metrics())
	}
	mux := http.NewServeMux()
	// A page that asks for the token has to be there without one; health is asked by what has none.
	mux.Handle("GET /{$}", a.page)
	mux.Handle("GET "+console.Assets, a.page)
	for _, path := range []string{"/healthz", "/readyz"} {
		mux.HandleFunc("GET "+path, a.s.gateway.ServeHealth)
	}
	mux.Handle("/", a.guard.Wrap(guarded))
	return mux
}

// listen opens the listener, if there is to be one.
func (a *serveAdmin) listen() error {
	if a.o.Admin == "" {
		return nil
	}
	ln, err := net.Listen("tcp", a.o.Admin)
	if err != nil {
		return err
	}
	limit := admin.NewLimit(ln)
	a.server = &http.Server{Handler: limit.Wrap(a.handler()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.s.log.Handler(), slog.LevelDebug)}
	a.over = make(chan struct{})
	a.s.log.Info("admin", "addr", ln.Addr().String(), "insecure", a.o.AdminInsecure)
	go func() {
		defer close(a.over)
		pprof.Do(context.Background(), pprof.Labels("subsystem", "admin"), func(ctx context.Context) {
			a.server.BaseContext = func(net.Listener) context.Context { return ctx } // what serves the API gives the labels back
			_ = a.server.Serve(limit)                                                // until close
		})
	}()
	return nil
}

// close ends it, with what is being answered.
func (a *serveAdmin) close() {
	if a.server != nil {
		_ = a.server.Close()
		<-a.over
	}
	a.api.Close()
}

// drainCall is a drain by hand.
type drainCall struct {
	over   time.Duration // negative: as configured
	answer chan admin.Drained
}

// askDrain has whoever waits for signals begin a drain.
func (s *server) askDrain(ctx context.Context, over time.Duration) (admin.Drained, error) {
	d := drainCall{over, make(chan admin.Drained, 1)}
	select {
	case s.drains <- d:
		return <-d.answer, nil
	case <-ctx.Done():
		return admin.Drained{}, ctx.Err()
	}
}

// drain begins a drain, or shortens the one that is under way; over is negative for the configured length. When all
// connections are gone, end is called.
func (s *server) drain(over, configured time.Duration, end func()) admin.Drained {
	if over < 0 {
		over = configured
	}
	left, again := s.gateway.StartDrain(over)
	if !again {
		s.byHand.Go(func() {
			defer end()
			_ = s.gateway.Drain(context.Background(), left)
		})
	}
	return admin.Drained{Length: left.Seconds(), Conns: int(s.gateway.Stats().Conns), UnderWay: again}
}

// counts are the kernel's states of the connections, and their steps, since the tracing began. Where a connection is now
// follows from the steps; how it came to SYN_RECV, and what becomes of one in TIME_WAIT, is none of them.
func (t *serveTrace) counts() admin.TCPCounts {
	if t.Level() != trace.LevelBPF {
		return admin.TCPCounts{Why: "the kernel tells this process of ends alone: the level of tracing is " + t.Level().String()}
	}
	s, err := t.Stats()
	if err != nil {
		return admin.TCPCounts{Why: err.Error()}
	}
	c := admin.TCPCounts{States: make(map[string]int64), Transitions: make(map[string]uint64)}
	var now [len(s.Transitions)]int64
	for from, row := range s.Transitions {
		for to, n := range row {
			if n > 0 {
				c.Transitions[sys.SocketState(from).String()+">"+sys.SocketState(to).String()] = n
				now[from] -= int64(n)
				now[to] += int64(n)
			}
		}
	}
	for i, n := range now {
		switch state := sys.SocketState(i); state {
		case sys.SocketClosed, sys.SocketListening, sys.SocketSynReceived:
		default:
			if n > 0 {
				c.States[state.String()] = n
			}
		}
	}
	return c
}
