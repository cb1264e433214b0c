package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/trace"
)

type traceCmd struct {
	Port    uint16        `required:"" placeholder:"PORT" help:"The server's port; the server may be any."`
	Netns   string        `name:"netns" placeholder:"PATH|PID" help:"Its network namespace: a file as in /run/netns, or a process that is in it. By default this process's."`
	Summary bool          `xor:"what" help:"Print no events, but at the end how many connections are in each state, how often they went from one to another, and why they ended."`
	Conn    string        `xor:"what" placeholder:"ADDR[:PORT]" help:"Print all that is seen of one connection, by the client's address, once it has ended; without a port the first one from that address."`
	JSON    bool          `name:"json" help:"Print JSON: a line for each event, or one document with --summary and --conn."`
	For     time.Duration `name:"for" default:"0s" help:"How long; 0s is until interrupted, or 10s with --summary."`
	URL     string        `name:"url" placeholder:"URL" help:"Ask the Longwire gateway here, http://localhost:8000 say, for the client, user, request id and trace id of each connection that ends."`
	APIKey  string        `name:"api-key" placeholder:"KEY" help:"The key of its API; by default what LONGWIRE_API_KEY holds, which the other users of the machine do not see."`
	Level   trace.Level   `default:"bpf" enum:"bpf,diag,errno" help:"The highest level to try: bpf or diag."`
}

// Help says what is seen.
func (*traceCmd) Help() string {
	return `Shows what the kernel sees of the TCP connections of a server's port: the states that they go through, and why each
ended. The server need not be this one. docs/trace.md has the verdicts.

It works at the highest level that the kernel allows: bpf (probes; CAP_BPF and CAP_PERFMON, or root), which it gives up
again once they are attached, or diag (no rights; states are looked at once a second, and why a stranger's connection ended is seldom
told).

With --url the end of a connection tells whose it was. Where the gateway does not answer, a line on standard error says so,
and ends go without. docs/trace.md has more.

Exit code 1 when nothing can be seen, or --conn saw nothing of the connection.`
}

// Run traces.
func (t *traceCmd) Run(c *call) error {
	const see = "longwire trace --help lists its flags"
	if t.Port == 0 || t.For < 0 {
		return usage(fmt.Errorf("--port %d, --for %v: want a port from 1 to 65535, and no negative time", t.Port, t.For), see)
	}
	if t.Level == trace.LevelErrno {
		return usage(errors.New("--level errno: at that level a process sees only its own connections"), see)
	}
	client, err := parseClient(t.Conn)
	if err != nil {
		return usage(fmt.Errorf("--conn %q: %w", t.Conn, err), see)
	}
	var names *traceNames
	switch {
	case t.URL == "" && t.APIKey != "":
		return usage(errors.New("--api-key is of no use without --url"), see)
	case t.URL != "" && t.Summary:
		return usage(errors.New("--summary names no connections: leave --url out"), see)
	case t.URL != "":
		api, err := newWhyAPI(c, t.URL, t.APIKey)
		if err != nil {
			return usage(err, see)
		}
		names = &traceNames{api: api, plain: !t.JSON, note: func(text string) { fmt.Fprintf(c.Stderr, "longwire: %s\n", text) }}
	}
	if t.Summary && t.For == 0 {
		t.For = 10 * time.Second
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if t.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.For)
		defer cancel()
	}
	ctx, end := context.WithCancel(ctx)
	defer end()

	out := bufio.NewWriter(c.Stdout)
	view := traceView{cmd: t, out: out, client: client, end: end}
	tracer, err := trace.Open(trace.Options{Level: t.Level, Port: t.Port, Network: t.Netns, Steps: !t.Summary, Handle: view.handle, Idle: view.idle})
	if err != nil {
		return usage(err, see)
	}
	defer func() { _ = tracer.Close() }()
	for _, r := range tracer.Refused() {
		fmt.Fprintf(c.Stderr, "longwire: not to be had: %v\n", r)
	}
	if tracer.Level() == trace.LevelErrno {
		return &exitError{code: exitFailed, err: fmt.Errorf("nothing can be seen of port %d on this system", t.Port), hint: "the lines above say what is missing"}
	}
	if err := trace.DropPrivileges(); err != nil {
		fmt.Fprintf(c.Stderr, "longwire: goes on with its privileges: %v\n", err)
	}
	fmt.Fprintf(c.Stderr, "longwire: tracing port %d at level %s\n", t.Port, tracer.Level())
	began := time.Now()
	if names != nil && !client.IsValid() {
		view.names = names
		names.start(view.write)
	}
	err = tracer.Run(ctx)
	if view.names != nil {
		names.stop(namesLast)
		view.idle()
	}
	if err != nil {
		return err
	}
	switch {
	case view.err != nil:
		return view.err
	case t.Summary:
		s, err := tracer.Summary(&view.tally, time.Since(began))
		if err != nil {
			return err
		}
		return t.print(c, s, s.WriteText)
	case client.IsValid():
		if view.span.Cookie == 0 {
			return &exitError{code: exitFailed, err: fmt.Errorf("nothing was seen of a connection from %s to port %d", t.Conn, t.Port), hint: "an idle connection shows nothing: is the address right, and --netns?"}
		}
		if names != nil && view.span.Life != nil {
			view.span.Names = names.of(c.ctx, view.span.Life)
		}
		return t.print(c, &view.span, view.span.WriteText)
	}
	if s, err := tracer.Stats(); err == nil && s.Lost > 0 {
		fmt.Fprintf(c.Stderr, "longwire: %d of %d events were lost\n", s.Lost, s.Lost+s.Events)
	}
	return nil
}

// parseClient reads an address with a port or without; none is no address.
func parseClient(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, errors.New("want a client's address, as 192.0.2.7:40001, or without the port")
	}
	return a, nil
}

// traceView shows events as they come. It is the tracer's Run that calls it, and write traceNames too.
type traceView struct {
	cmd    *traceCmd
	client netip.AddrPort
	names  *traceNames // nil: ends go without
	end    func()      // of tracing

	mu  sync.Mutex
	out *bufio.Writer // guarded by mu
	err error         // guarded by mu: of writing

	tally trace.Tally
	span  trace.Span
}

func (v *traceView) handle(e *trace.Event) {
	switch {
	case v.cmd.Summary:
		v.tally.Add(e)
	case v.client.IsValid():
		v.follow(e)
	case v.names == nil || e.Kind != trace.KindEnded || !v.names.take(e):
		v.write(e)
	}
}

// write writes an event.
func (v *traceView) write(e *trace.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.err != nil:
	case v.cmd.JSON:
		v.fail(json.NewEncoder(v.out).Encode(e))
	default:
		v.fail(e.WriteText(v.out))
	}
}

// follow takes the events of one connection.
func (v *traceView) follow(e *trace.Event) {
	if v.span.Life != nil {
		return
	}
	if v.span.Cookie == 0 {
		if e.Remote.Addr() != v.client.Addr() || v.client.Port() != 0 && e.Remote.Port() != v.client.Port() {
			return
		}
	} else if e.Cookie != v.span.Cookie {
		return
	}
	v.span.Add(e)
	if v.span.Life != nil {
		v.end()
	}
}

func (v *traceView) idle() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.fail(v.out.Flush())
	}
}

// fail ends tracing where nobody reads its output any more. The caller has mu.
func (v *traceView) fail(err error) {
	if err != nil && v.err == nil {
		v.err = fmt.Errorf("write: %w", err)
		v.end()
	}
}

// print writes an answer that is one document.
func (t *traceCmd) print(c *call, value any, text func(w io.Writer) error) error {
	if !t.JSON {
		return text(c.Stdout)
	}
	e := json.NewEncoder(c.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(value)
}
