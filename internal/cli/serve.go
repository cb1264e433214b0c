package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/api"
	"github.com/longwire/longwire/internal/config"
	"github.com/longwire/longwire/internal/demo"
	"github.com/longwire/longwire/internal/hook"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/profile"
)

type serveCmd struct{ serveOptions }

// Help is the command's longer description.
func (*serveCmd) Help() string {
	return "Every flag can be given as an environment variable (--max-conns is LONGWIRE_MAX_CONNS) and as a key of the " +
		"YAML file too. longwire config describes each of them. SIGTERM and SIGINT drain; a second one ends the process at once."
}

// Run serves until a signal comes.
func (cmd *serveCmd) Run(c *call) error {
	l, err := cmd.load(c)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	log := newLog(c, &l.Serve)
	for _, w := range l.Warnings {
		log.Warn(w)
	}
	s, err := newServer(&l, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	draining := false
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-signals:
			if draining {
				// No waiting for s.run: the process ends with whoever called Main.
				return fmt.Errorf("%v came again while draining: ended at once", sig)
			}
			draining = true
			log.Info("signal", "signal", sig.String(), "drain", l.Serve.Drain.String())
			cancel()
		case d := <-s.drains:
			d.answer <- s.drain(d.over, time.Duration(l.Serve.Drain), cancel)
		}
	}
}

func newLog(c *call, s *config.Serve) *slog.Logger {
	return slog.New(newHandler(c.Stderr, s))
}

// server is a gateway with what longwire serve puts around it.
type server struct {
	gateway  *longwire.Gateway
	made     atomic.Pointer[longwire.Gateway] // the same, for who may ask before it is made
	more     []metrics.Collector              // beside the gateway's own figures
	tracing  *serveTrace                      // nil: connections are not traced
	spans    *serveSpans                      // nil: no spans are sent
	captures *profile.Watch                   // nil: there are none
	admin    *serveAdmin                      // nil: neither is there an admin listener, nor is this --dev
	drains   chan drainCall                   // drains by hand, for whoever waits for signals
	byHand   sync.WaitGroup                   // such drains that are under way
	log      *slog.Logger
}

func newServer(l *config.Loaded, log *slog.Logger) (*server, error) {
	s := &server{drains: make(chan drainCall), log: log}
	c, err := gatewayConfig(l)
	if err != nil {
		return nil, err
	}
	c.Log = log
	backend, err := hooks(&l.Serve, log, s.hooked)
	if err != nil {
		return nil, &exitError{code: exitFailed, err: err, hint: "longwire config describes the options that begin with hook-"}
	}
	c.Hooks = backend.Hooks()
	if s.spans, err = newServeSpans(&l.Serve, log, s.made.Load); err != nil {
		return nil, &exitError{code: exitFailed, err: err, hint: "longwire config describes the options that begin with otlp-"}
	}
	s.watch(&l.Serve, &c)
	requests := metrics.NewRequests()
	requests.Each = s.requested
	c.WrapHTTP = requests.Wrap
	if l.Serve.Metrics {
		s.more = append(s.more, requests, metrics.Hooks(backend.Stats), metrics.Kernel(os.DirFS("/")),
			metrics.AcceptQueue(func() uint16 { return s.gateway.Addr().Port() }), metrics.Trace(func() metrics.TraceStats { return s.tracing.figures() }))
		if e, ok := c.Engine.(*memengine.Engine); ok {
			s.more = append(s.more, metrics.Engine(e.Stats, int64(l.Serve.HistoryMemory)))
		}
	}
	if l.Serve.Admin != "" || l.Serve.Dev {
		s.admin = newServeAdmin(s, l, &c)
	}
	if s.captures, err = s.openCaptures(&l.Serve); err != nil {
		s.spans.stop()
		return nil, err
	}
	c.HTTP = s.routes(&l.Serve, c.Endpoints)
	if l.Serve.Trace {
		if s.tracing = newServeTrace(log, s.made.Load); s.tracing != nil {
			c.Tracer = s.tracing.tracer()
		}
	}
	if c.Journal.KernelOnly && s.tracing == nil {
		log.Warn("log-sampling is kernel-only, and the kernel is not asked: set trace, or nothing is told of connections")
	}
	g, err := longwire.New(c)
	if err != nil && l.Origins["max-conns"].Kind == config.FromDefault {
		// Nobody asked for the default: what fits will do.
		d := c
		d.MaxConns = 0
		if g2, err2 := longwire.New(d); err2 == nil {
			log.Warn("the default of max-conns does not fit", "why", err.Error(), "instead", g2.Layout())
			g, err = g2, nil
		}
	}
	if err != nil {
		s.closeCaptures()
		s.spans.stop()
		return nil, &exitError{code: exitFailed, err: err, hint: "longwire config describes max-conns, loops, tables and flight-dir"}
	}
	s.gateway = g
	s.made.Store(g)
	return s, nil
}

// gatewayConfig is what the options mean to the library.
func gatewayConfig(l *config.Loaded) (longwire.Config, error) {
	s := &l.Serve
	// The library's zero means its default, and negative means off.
	off := func(d config.Duration) time.Duration {
		if d == 0 {
			return -1
		}
		return time.Duration(d)
	}
	ws := longwire.Plain("/ws")
	ws.Origins = s.Origins
	if len(s.Origins) == 1 && s.Origins[0] == "same" {
		ws.Origins = nil
	}
	ws.Compression = s.Compression
	ws.MaxMessage = int(s.MaxMessage)
	ws.WriteQueue = int(s.WriteQueue)
	ws.Heartbeat = longwire.Heartbeat{Ping: off(s.PingAfter), Timeout: off(s.CloseAfter)}
	push := longwire.Centrifuge("/connection/websocket")
	push.Origins, push.Compression, push.WriteQueue, push.Heartbeat = ws.Origins, ws.Compression, ws.WriteQueue, ws.Heartbeat
	push.MaxMessage = int(s.MaxCommand)
	c := longwire.Config{
		Addr:             s.Addr,
		Endpoints:        []longwire.Endpoint{ws, push},
		MaxConns:         int(s.MaxConns),
		Loops:            int(s.Loops),
		Tables:           map[config.Tables]longwire.Tables{"auto": longwire.TablesAuto, "shared": longwire.TablesShared, "private": longwire.TablesPrivate}[s.Tables],
		MaxMemory:        int64(s.MaxMemory),
		ConnsPerAddress:  int(s.ConnsPerAddress),
		RatePerAddress:   float64(s.RatePerAddress),
		HandshakeTimeout: time.Duration(s.HandshakeTimeout),
		MaxHeader:        int(s.MaxHeader),
		UserTimeout:      off(s.UserTimeout),
		Drain:            off(s.Drain),
		RetryAfter:       time.Duration(s.RetryAfter),
		Workers:          int(s.Workers),
		Backlog:          int(s.Backlog),

		FlightRecorder: longwire.FlightRecorder{Bytes: int(s.FlightRecord), Dir: s.FlightDir},
		MaskAddresses:  s.MaskAddresses,

		Channels:   l.Channels,
		Namespaces: l.Namespaces,
		Engine:     memengine.New(&memengine.Options{MaxBytes: int64(s.HistoryMemory)}),
		Sessions: longwire.Sessions{
			Insecure: s.Insecure, Anonymous: s.Anonymous,
			Ping: time.Duration(s.ClientPing), Pong: off(s.ClientPongTimeout), Grace: time.Duration(s.ClientExpireGrace), Stale: time.Duration(s.ClientStale),
			ChannelLimit: int(s.ClientChannelLimit), ChannelLength: int(s.ChannelMaxLength), ConnectRate: float64(s.ConnectRate),
			Version: "longwire " + readBuild().Version,
		},
	}
	var err error
	if c.Tokens, err = tokens(s); err != nil {
		return c, &exitError{code: exitFailed, err: err, hint: "longwire config describes the options that begin with token-"}
	}
	if s.Dev {
		echo := longwire.Echo("/echo")
		echo.Heartbeat = ws.Heartbeat
		c.Endpoints = append(c.Endpoints, echo)
	}
	return c, nil
}

// tokens are which tokens are good.
func tokens(s *config.Serve) (t longwire.TokenOptions, err error) {
	t = longwire.TokenOptions{HMACSecret: []byte(s.TokenHMACSecret), JWKSURL: s.TokenJWKSURL, Audience: s.TokenAudience, Issuer: s.TokenIssuer}
	for _, k := range []struct {
		option string
		pem    config.PEM
		to     *string
	}{
		{"token-rsa-public-key", s.TokenRSAPublicKey, &t.RSAPublicKey},
		{"token-ecdsa-public-key", s.TokenECDSAPublicKey, &t.ECDSAPublicKey},
		{"token-ed25519-public-key", s.TokenEd25519PublicKey, &t.Ed25519PublicKey},
	} {
		b, err := k.pem.Bytes(os.ReadFile)
		if err != nil {
			return t, fmt.Errorf("%s: %w", k.option, err)
		}
		*k.to = string(b)
	}
	return t, nil
}

// hooks ask the application's backend, where it has URLs for them.
func hooks(s *config.Serve, log *slog.Logger, observe func(*hook.Call)) (*hook.Backend, error) {
	at := func(url string) hook.Endpoint {
		return hook.Endpoint{URL: url, Timeout: time.Duration(s.HookTimeout), PassHeaders: s.HookHeaders}
	}
	return hook.New(hook.Options{Connect: at(s.HookConnect), Refresh: at(s.HookRefresh), Subscribe: at(s.HookSubscribe),
		SubRefresh: at(s.HookSubRefresh), Publish: at(s.HookPublish), RPC: at(s.HookRPC), MaxConcurrent: int(s.HookConcurrency), Log: log,
		Observe: observe, Propagate: s.OTLPEndpoint != ""})
}

// routes is the plain HTTP beside the endpoints; /healthz and /readyz are the gateway's own.
func (s *server) routes(o *config.Serve, endpoints []longwire.Endpoint) http.Handler {
	mux := http.NewServeMux()
	page := "Longwire, a WebSocket gateway.\n\nWebSocket endpoints:\n"
	for _, e := range endpoints {
		page += "  " + e.Path + "\n"
	}
	page += "\nPlain HTTP:\n  /healthz\n  /readyz\n"
	if o.APIKey != "" || o.APIInsecure {
		page += "  /api/ (POST; /api/openapi.json describes it)\n"
		mux.Handle(api.Prefix, api.New(api.Options{Gateway: func() api.Gateway { return s.gateway }, Key: string(o.APIKey), Insecure: o.APIInsecure, Log: s.log}))
	}
	if o.Metrics {
		page += "  /metrics\n"
		mux.Handle("GET /metrics", s.metrics())
	}
	if o.Dev {
		page += "  /debug/pprof/\n  " + demo.Prefix + " (a page to try it)\n"
		mux.Handle(demo.Prefix, demo.Handler())
		s.admin.open(mux)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if o.Dev && strings.Contains(r.Header.Get("Accept"), "text/html") {
			s.admin.page.ServeHTTP(w, r) // a browser's; curl gets the text
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(page))
	})
	return mux
}

// metrics serves what Prometheus scrapes.
func (s *server) metrics() http.Handler {
	b := readBuild()
	return metrics.Handler(func() longwire.Stats { return s.gateway.Stats() }, metrics.Build{Version: b.Version, Revision: b.Revision}, s.more...)
}

// run serves until ctx ends, and drains then.
func (s *server) run(ctx context.Context) error {
	s.log.Info("longwire", "version", readBuild().Version, "pid", os.Getpid())
	defer s.spans.stop()
	defer s.tracing.stop()
	defer s.capture()()
	if s.admin != nil {
		defer s.admin.close() // before tracing stops, which it asks
		if err := s.admin.listen(); err != nil {
			_ = s.gateway.Close()
			return listenError(err, "admin")
		}
	}
	if err := s.gateway.Start(); err != nil {
		_ = s.gateway.Close()
		return listenError(err, "addr")
	}
	s.tracing.dropCapabilities()
	err := s.gateway.Run(ctx)
	s.byHand.Wait()
	return listenError(err, "addr")
}

// listenError adds what to do when an address could not be had.
func listenError(err error, option string) error {
	if err == nil {
		return nil
	}
	set := fmt.Sprintf("--%s, %s or the key %s in the file", option, config.EnvName(option), option)
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process has the port: choose another with " + set
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 need CAP_NET_BIND_SERVICE: choose another with " + set
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine does not have that address: choose another with " + set
	case strings.Contains(err.Error(), "lookup"):
		hint = "the name has no address: choose another with " + set
	}
	return &exitError{code: exitFailed, hint: hint, err: err}
}
