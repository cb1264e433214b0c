package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/stress"
)

type stressCmd struct {
	Avalanche stressAvalancheCmd `cmd:"" help:"Break a server on purpose, and see its report name the first cause."`
	Compare   stressCompareCmd   `cmd:"" help:"Put two runs side by side, and say what differs by more than the noise."`
	Run       stressRunCmd       `cmd:"" default:"withargs" help:"Put load on a server and say what came of it (what stress does without another word)."`
}

type stressRunCmd struct {
	Target   string        `placeholder:"URL" help:"The server: ws://, wss://, http:// or https://host:port/path."`
	Plan     string        `type:"path" placeholder:"FILE" help:"Read scenarios and stages from a YAML file, instead of the flags of load and scenario."`
	MaxConns int           `name:"max-conns" default:"1000" group:"load" help:"The connections to reach."`
	RampUp   time.Duration `name:"ramp-up" group:"load" help:"The time in which the first connections come: up to --step of them, or all."`
	Step     int           `group:"load" help:"How many connections come with each further step, until there are --max-conns."`
	Every    time.Duration `name:"step-every" default:"2s" group:"load" help:"The time from one step to the next."`
	Duration time.Duration `default:"10s" group:"load" help:"The whole run, from its begin; 0s until interrupted. With --find, how long a level is held to confirm it."`
	Timeout  time.Duration `default:"10s" group:"load" help:"The time for a connect with its handshake, and for an exchange."`
	Rate     float64       `group:"load" help:"Exchanges a second over all connections, due whatever becomes of those before (open model). 0: each connection begins one when it has ended the one before (closed model)."`
	Pending  int           `default:"4096" group:"load" help:"The most connections that are being opened at a time."`
	Seed     uint64        `group:"load" help:"Of all that is random; 0 for another each time."`

	Scenario   stress.Kind     `enum:"http,hold,echo,request,publish,churn,storm,slow,halfopen," default:"" group:"scenario" placeholder:"KIND" help:"What connections do: http (requests), hold (answer pings), echo (messages that come back), request (commands and replies), publish (timed until each subscriber has it), churn, storm (all cut at once, and back), slow (read slowly), halfopen (stop to answer). By default http for http://, else hold."`
	Protocol   stress.Protocol `enum:"raw,plain,centrifuge" default:"raw" group:"scenario" help:"What they speak: raw, plain or centrifuge."`
	Size       int             `default:"-1" group:"scenario" placeholder:"BYTES" help:"The bytes of a message (64) or of a request's body (0)."`
	InFlight   int             `name:"in-flight" default:"1" group:"scenario" help:"Exchanges that a connection has under way."`
	Binary     bool            `group:"scenario" help:"Send binary messages instead of text."`
	UserEvery  time.Duration   `name:"every" group:"scenario" help:"Closed model: the time from one due exchange of a connection to the next; storm: from one storm to the next (10s)."`
	Think      time.Duration   `group:"scenario" help:"Closed model: the pause behind each exchange."`
	Method     string          `default:"GET" group:"scenario" help:"Of HTTP requests."`
	PerRequest bool            `name:"conn-per-request" group:"scenario" help:"A connection for each HTTP request, instead of connections that are kept."`
	Channel    string          `group:"scenario" help:"The channel; with --channels what the names begin with."`
	Channels   int             `group:"scenario" help:"How many channels."`
	Publishers int             `group:"scenario" help:"How many connections publish; all of them are subscribers."`
	Lifetime   time.Duration   `group:"scenario" help:"churn: how long a connection lives."`
	Share      float64         `default:"1" group:"scenario" help:"storm: the part of the connections that is cut."`
	ReadRate   int             `name:"read-rate" group:"scenario" help:"slow: bytes a second that a connection reads; 0 for none."`
	After      time.Duration   `group:"scenario" help:"halfopen: how long a connection answers."`

	Threshold stress.Thresholds `placeholder:"LIST" group:"verdict" help:"What must hold, such as p99<50ms,errors<0.1%,conns>=1000. Exit code 3 when it does not."`
	Find      stress.Thresholds `placeholder:"LIST" group:"verdict" help:"Search the highest load for which this holds: connections up to --max-conns, or exchanges up to --rate."`

	Token        string       `group:"client" help:"What clients of the Centrifuge protocol connect with."`
	Header       []string     `sep:"none" placeholder:"NAME: VALUE" group:"client" help:"Send this header field; may be given several times."`
	Origin       string       `group:"client" help:"Send this Origin."`
	Subprotocols []string     `name:"subprotocol" placeholder:"NAME" group:"client" help:"Offer these subprotocols."`
	Deflate      bool         `group:"client" help:"Offer permessage-deflate."`
	Insecure     bool         `group:"client" help:"Accept any TLS certificate."`
	CA           string       `name:"ca" type:"path" placeholder:"FILE" group:"client" help:"Trust the certificates of this PEM file."`
	Sources      []netip.Addr `name:"source-addrs" placeholder:"ADDR,..." group:"client" help:"Local addresses to connect from, in turn; by default as many of 127.0.0.0/8 as a loopback target needs."`
	Own          bool         `name:"i-own-this-target" group:"client" help:"Go on though the target is neither loopback nor a private address."`

	JSON          bool   `name:"json" group:"report" help:"Print the report as JSON (docs/stress-report.md)."`
	Out           string `type:"path" placeholder:"FILE" group:"report" help:"Write the report as JSON to a file, for longwire stress compare."`
	HTML          string `name:"html" type:"path" placeholder:"FILE" group:"report" help:"Write the report as one page with plots."`
	Name          string `group:"report" help:"A name for the run, for its report."`
	MetricsAddr   string `name:"metrics-addr" placeholder:"HOST:PORT" group:"report" help:"Serve the run's own figures at /metrics during the run."`
	TargetMetrics string `name:"target-metrics" placeholder:"URL" group:"report" help:"Where the server's metrics are; by default /metrics of the target, if it is there."`
	PID           int    `name:"pid" group:"report" help:"The server's process, where it is on this machine and cannot be found by its port."`
	NetNS         string `name:"netns" placeholder:"PATH" group:"report" help:"The server's network namespace, such as /proc/1234/ns/net."`
	Quiet         bool   `short:"q" group:"report" help:"Print no progress."`
}

// Help says what a run is.
func (*stressRunCmd) Help() string {
	return `Opens connections, puts load on them, and says what came of it. For example:

  longwire stress --target http://localhost:8000 --ramp-up 5s --step 200 --max-conns 2000 --duration 60s --timeout 300ms
  longwire stress --target ws://localhost:8000/echo --scenario echo --rate 5000 --threshold 'p99<50ms,errors<0.1%'
  longwire stress --target ws://localhost:8000/ws --max-conns 1000000 --duration 10m --html report.html
  longwire stress --target ws://localhost:8000/echo --scenario echo --find 'p99<20ms' --rate 200000
  longwire stress compare before.json after.json

Latencies are counted from when an exchange was due, so a server that stalls is charged for all it delayed; service
times, from when it was sent, stand beside them. SIGINT ends a run early with a report of what was measured.

Exit code 3 when a threshold did not hold, 1 when no connection could be opened.`
}

// script is what the flags or the plan ask for.
func (s *stressRunCmd) script(c *call) (stress.Script, error) {
	thresholds, find := s.Threshold, len(s.Find) > 0
	if find {
		if len(thresholds) > 0 {
			return stress.Script{}, usage(errors.New("--threshold and --find exclude each other"), "--find takes the list itself: --find 'p99<50ms,errors<0.1%'")
		}
		thresholds = s.Find
	}
	if s.Plan != "" {
		for _, name := range c.given() {
			switch name {
			case "max-conns", "ramp-up", "step", "step-every", "rate", "scenario", "protocol", "find":
				return stress.Script{}, usage(fmt.Errorf("--%s beside --plan", name), "say it in the plan")
			}
		}
		b, err := os.ReadFile(s.Plan)
		if err != nil {
			return stress.Script{}, usage(fmt.Errorf("read the plan: %w", err), "")
		}
		script, err := stress.Decode(s.Plan, b)
		if err != nil {
			return stress.Script{}, usage(err, "docs/stress.md has an example of all that a plan can say")
		}
		for _, name := range c.given() {
			switch name {
			case "target":
				script.Target = s.Target
			case "duration":
				script.Duration = s.Duration
			case "timeout":
				script.Timeout = s.Timeout
			case "seed":
				script.Seed = s.Seed
			case "threshold":
				script.Thresholds = thresholds
			}
		}
		return script, nil
	}
	if s.Target == "" {
		return stress.Script{}, usage(errors.New("no target"), "give one: longwire stress --target ws://127.0.0.1:8000/ws")
	}
	f := stress.Flags{
		Target: s.Target, MaxConns: s.MaxConns, RampUp: s.RampUp, StepEvery: s.Every, Step: s.Step, Duration: s.Duration, Timeout: s.Timeout,
		Rate: s.Rate, Seed: s.Seed, Thresholds: thresholds, Find: find,
		Scenario: stress.Scenario{
			Kind: s.Scenario, Protocol: s.Protocol, Size: s.Size, InFlight: s.InFlight, Binary: s.Binary, Every: s.UserEvery, Think: s.Think,
			Method: s.Method, PerRequest: s.PerRequest, Channel: s.Channel, Channels: s.Channels, Publishers: s.Publishers,
			Lifetime: s.Lifetime, Share: s.Share, ReadRate: s.ReadRate, After: s.After,
		},
	}
	return f.Script()
}

// options are the rest of the flags.
func (s *stressRunCmd) options() (stress.Options, error) {
	o := stress.Options{
		Name: s.Name, Version: readBuild().Version, Sources: s.Sources, Pending: s.Pending, Origin: s.Origin, Subprotocols: s.Subprotocols, Deflate: s.Deflate,
		Token: s.Token, Insecure: s.Insecure, OwnTarget: s.Own, Metrics: s.TargetMetrics, PID: s.PID, NetworkPath: s.NetNS,
	}
	for _, h := range s.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return o, usage(fmt.Errorf("--header %q has no colon", h), "give fields as --header 'Name: value'")
		}
		o.Headers = append(o.Headers, stress.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	if s.Pending < 1 {
		return o, usage(fmt.Errorf("--pending %d: want at least 1", s.Pending), "")
	}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return o, usage(fmt.Errorf("read --ca: %w", err), "")
		}
		o.Authorities = x509.NewCertPool()
		if !o.Authorities.AppendCertsFromPEM(pem) {
			return o, usage(fmt.Errorf("--ca %s holds no certificate in PEM form", s.CA), "")
		}
	}
	return o, nil
}

// Run runs the load.
func (s *stressRunCmd) Run(c *call) error {
	script, err := s.script(c)
	if err != nil {
		return asUsage(err)
	}
	o, err := s.options()
	if err != nil {
		return err
	}
	// Files are opened before the run: what cannot be written is known before there is something to lose.
	files, err := s.files()
	if err != nil {
		return err
	}
	defer files.abandon()
	view := newStressView(c.Stderr, s.Quiet, script)
	gauge := new(metrics.Stress)
	o.Progress = func(x stress.Sample) { gauge.Set(x); view.show(x) }
	o.Warn = func(text string) { fmt.Fprintf(c.Stderr, "longwire: %s\n", text) }
	if s.MetricsAddr != "" {
		stop, err := serveStressMetrics(s.MetricsAddr, gauge, c.Stderr)
		if err != nil {
			return err
		}
		defer stop()
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := stress.Run(ctx, script, o)
	view.end()
	if err != nil {
		return asUsage(err)
	}
	// First what needs no disk.
	if s.JSON {
		err = r.WriteJSON(c.Stdout)
	} else {
		err = r.WriteText(c.Stdout)
	}
	err = errors.Join(err, files.write(r))
	switch {
	case err != nil:
		return err
	case r.Conns.Opened == 0:
		return &exitError{code: exitFailed, err: errors.New("no connection could be opened"), hint: "is the server there, and is the path one of its endpoints?"}
	case !r.Held:
		return &exitError{code: exitThreshold, err: errors.New(notHeld(r))}
	}
	return nil
}

// notHeld says in a line what did not hold.
func notHeld(r *stress.Report) string {
	if r.Breaking != nil {
		return "no level held: " + r.Breaking.Text(" "+r.Unit)
	}
	var broken []string
	for _, k := range r.Checks {
		if !k.Held {
			broken = append(broken, k.Text)
		}
	}
	return "a threshold did not hold: " + strings.Join(broken, "; ")
}

// asUsage gives errors of scripts and options their exit code.
func asUsage(err error) error {
	var ue *stress.UsageError
	if errors.As(err, &ue) {
		return usage(ue.Err, ue.Hint)
	}
	return err
}

// stressFiles are the reports that go to files.
type stressFiles struct{ json, html *reportFile }

// reportFile is a file that a report is to be written to. Where an ordinary one is meant it is written beside it, and takes
// its name when it is complete: an older report stays until there is a newer one. A device or a pipe stays what it is.
type reportFile struct {
	*os.File
	path string // that is meant
}

func (f *reportFile) beside() bool { return f.Name() != f.path }

func openReport(path string) (*reportFile, error) {
	name := path + ".part"
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		name = path // a directory is refused by OpenFile
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	return &reportFile{file, path}, nil
}

func (s *stressRunCmd) files() (f *stressFiles, err error) {
	f = new(stressFiles)
	for _, x := range []struct {
		flag, path string
		to         **reportFile
	}{{"--out", s.Out, &f.json}, {"--html", s.HTML, &f.html}} {
		if x.path == "" {
			continue
		}
		if *x.to, err = openReport(x.path); err != nil {
			f.abandon()
			return nil, usage(fmt.Errorf("%s: %w", x.flag, err), "")
		}
	}
	return f, nil
}

// write writes them. One that fails does not keep the other from being written.
func (f *stressFiles) write(r interface {
	WriteJSON(io.Writer) error
	WriteHTML(io.Writer) error
}) error {
	put := func(to **reportFile, write func(io.Writer) error) error {
		if *to == nil {
			return nil
		}
		file := *to
		err := errors.Join(write(file), file.Close())
		*to = nil
		if err == nil && file.beside() {
			err = os.Rename(file.Name(), file.path)
		}
		if err != nil {
			if file.beside() {
				_ = os.Remove(file.Name())
			}
			return fmt.Errorf("write %s: %w", file.path, err)
		}
		return nil
	}
	return errors.Join(put(&f.json, r.WriteJSON), put(&f.html, r.WriteHTML))
}

// abandon removes what was not written.
func (f *stressFiles) abandon() {
	for _, file := range []*reportFile{f.json, f.html} {
		if file == nil {
			continue
		}
		if _ = file.Close(); file.beside() {
			_ = os.Remove(file.Name())
		}
	}
}

// serveStressMetrics serves the run's figures until stop is called.
func serveStressMetrics(addr string, gauge *metrics.Stress, log io.Writer) (stop func(), err error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, usage(fmt.Errorf("--metrics-addr: %w", err), "")
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", gauge.Handler())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	over := make(chan struct{})
	go func() { defer close(over); _ = srv.Serve(ln) }()
	fmt.Fprintf(log, "metrics of the run at http://%s/metrics\n", ln.Addr())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		<-over
	}, nil
}
