package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/doctor"
)

type doctorCmd struct {
	Run doctorRunCmd `cmd:"" default:"withargs" help:"Look at a running program, or at saved profiles (what doctor does without another word)."`
	TLS doctorTLSCmd `cmd:"" name:"tls" help:"Shake hands with a TLS server, and say who could not."`
}

type doctorRunCmd struct {
	Target  []string      `arg:"" optional:"" name:"target" help:"A URL of a program that serves /debug/pprof, a pid of this machine, or saved profiles, dumps and logs."`
	For     time.Duration `default:"30s" help:"How long a running program is looked at."`
	Source  string        `placeholder:"DIR" help:"Where the source of the main module lies; by default where the profile says, for a program on this machine."`
	Binary  string        `placeholder:"FILE" help:"The program's file: by itself, what it was built of; beside a target, for what that does not tell."`
	GCTrace string        `name:"gctrace" placeholder:"FILE" help:"A log with the output of GODEBUG=gctrace=1; - is standard input. It is read for as long as the program is looked at."`
	Header  []string      `placeholder:"NAME: VALUE" sep:"none" help:"A header for requests to the target, such as Authorization."`
	NoGC    bool          `name:"no-gc" help:"Do not ask the target to collect before a heap profile."`
	NoTrace bool          `name:"no-trace" help:"Do not take an execution trace."`

	Metrics   []string      `placeholder:"URL" sep:"none" help:"Where the target serves figures of its database pools and of its runtime: /debug/vars, or metrics for Prometheus. By default both are tried beside /debug/pprof."`
	PoolWait  time.Duration `name:"pool-wait" help:"How long the target's callers wait for a connection of a database pool, where its source does not say."`
	Statement time.Duration `name:"statement-timeout" help:"How long a statement may run in its database, where its source does not say."`

	Plan      uint64 `placeholder:"CONNECTIONS" help:"Look at nothing but the limits that so many connections would meet, of the target's process, or of one that would be started here."`
	Server    string `enum:"longwire,other" default:"longwire" help:"With --plan: what holds them: longwire or other."`
	ConnBytes uint64 `name:"conn-bytes" placeholder:"BYTES" help:"With --server other: its memory for each connection, without the kernel's."`
	Proxies   uint64 `placeholder:"N" help:"With --plan: they come through so many addresses of proxies; 0: clients come by themselves."`

	JSON  bool   `name:"json" help:"Print the report as JSON."`
	HTML  string `name:"html" type:"path" placeholder:"FILE" help:"Write the report as one page with plots, too."`
	Quiet bool   `short:"q" help:"Print no progress."`
}

// Help says what an examination is.
func (*doctorRunCmd) Help() string {
	return `Looks at a running Go program several times and says what leaks, and which line is to be mended: memory that
survives collections, goroutines that do not end, memory outside the heap, descriptors, database connections that are not
given back, locks that goroutines queue for. It says beforehand what that will cost the program, at most 2 % of a CPU, and
changes nothing in it.

With --plan it compares what a number of connections needs with the limits of the machine.

Exit code 3 when there is a finding. docs/doctor.md describes the checks and the JSON.`
}

// Run examines the target.
func (d *doctorRunCmd) Run(c *call) error {
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	col := &doctor.Collector{
		Root: os.DirFS("/"), For: d.For, NoGC: d.NoGC, NoTrace: d.NoTrace, Metrics: d.Metrics, Header: http.Header{},
		Settings: doctor.PoolSettings{Wait: d.PoolWait, Statement: d.Statement},
	}
	if !d.Quiet {
		col.Say = func(s string) { fmt.Fprintln(c.Stderr, s) }
	}
	for _, h := range d.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usage(fmt.Errorf("--header: %q: want NAME: VALUE", h), "longwire doctor --help lists its flags")
		}
		col.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if d.Source != "" {
		dir, err := filepath.Abs(d.Source)
		if err == nil {
			_, err = os.Stat(dir)
		}
		if err != nil {
			return usage(fmt.Errorf("--source: %w", err), "give the directory of the program's go.mod")
		}
		col.SourceDir = filepath.ToSlash(dir)
	}
	if d.GCTrace != "" {
		log, done, err := openLog(d.GCTrace, c.Stdin)
		if err != nil {
			return usage(fmt.Errorf("--gctrace: %w", err), "give the file that the program's standard error went to")
		}
		defer done()
		col.Trace = log
	}
	if d.Binary != "" {
		if err := d.readBinary(col); err != nil {
			return err
		}
	}
	out, err := openDoctorPage(d.HTML)
	if err != nil {
		return err
	}
	var e *doctor.Evidence
	switch {
	case d.Plan > 0:
		e, err = d.plan(ctx, col)
	case col.Binary != nil && len(d.Target) == 0:
		e = col.Inspect()
	default:
		e, err = d.collect(ctx, col)
	}
	return out.finish(c, e, err, d.JSON)
}

// plan gathers the limits for a number of connections.
func (d *doctorRunCmd) plan(ctx context.Context, col *doctor.Collector) (*doctor.Evidence, error) {
	o := doctor.PlanOptions{Conns: d.Plan, Proxies: d.Proxies}
	switch {
	case len(d.Target) > 1:
		return nil, usage(fmt.Errorf("%q: want one URL or one pid with --plan, or none", d.Target), "")
	case d.Server == "other" && d.ConnBytes == 0:
		return nil, usage(errors.New("--server other: its memory for each connection is not known"), "give --conn-bytes; longwire stress measures it")
	case d.Server == "longwire" && d.ConnBytes > 0:
		return nil, usage(errors.New("--conn-bytes is for --server other: what a connection takes of a Longwire server is known"), "")
	case len(d.Target) == 1:
		o.Target = d.Target[0]
	}
	o.ConnBytes = d.ConnBytes
	return col.Plan(ctx, o)
}

// readBinary reads the program's file.
func (d *doctorRunCmd) readBinary(col *doctor.Collector) error {
	f, err := os.Open(d.Binary)
	if err != nil {
		return usage(fmt.Errorf("--binary: %w", err), "give the file of the program")
	}
	defer func() { _ = f.Close() }()
	b, err := doctor.ReadBinary(d.Binary, f)
	var de *doctor.Error
	if errors.As(err, &de) {
		return &exitError{code: exitFailed, err: err, hint: de.Hint}
	}
	col.Binary = b
	return err
}

type doctorTLSCmd struct {
	Target  string        `arg:"" name:"host:port" help:"The server; the port is 443 by default."`
	Name    string        `placeholder:"NAME" help:"The name to ask for (SNI) and to expect in the certificate; by default the host."`
	CA      string        `name:"ca" type:"path" placeholder:"FILE" help:"Trust the certificates of this PEM file, instead of those of this machine."`
	Timeout time.Duration `default:"5s" help:"The time for each connection with its handshake."`
	JSON    bool          `name:"json" help:"Print the report as JSON."`
	HTML    string        `name:"html" type:"path" placeholder:"FILE" help:"Write the report as one page, too."`
	Quiet   bool          `short:"q" help:"Print no progress."`
}

// Help says what is tried.
func (*doctorTLSCmd) Help() string {
	return `Shakes hands with a server, step by step and in several ways: each version of TLS by itself, with HTTP/2 and HTTP/1.1
offered, with HTTP/1.1 alone and with nothing. It judges the chain of certificates, their order, dates, names, keys and
signatures, ALPN, WebSocket over HTTP/2, and the OCSP response that comes along. It connects to that host only.

Exit code 3 when there is a finding. docs/doctor.md describes them.`
}

// Run shakes hands.
func (d *doctorTLSCmd) Run(c *call) error {
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := doctor.TLSProbe{Target: d.Target, Name: d.Name, Timeout: d.Timeout}
	if !d.Quiet {
		p.Say = func(s string) { fmt.Fprintln(c.Stderr, s) }
	}
	if d.CA != "" {
		b, err := readFile(d.CA, 16<<20)
		if err != nil {
			return usage(fmt.Errorf("--ca: %w", err), "give a file with certificates in PEM form")
		}
		p.Roots = x509.NewCertPool()
		if !p.Roots.AppendCertsFromPEM(b) {
			return usage(fmt.Errorf("--ca: %s has no certificate in PEM form", d.CA), "it begins with -----BEGIN CERTIFICATE-----")
		}
	}
	out, err := openDoctorPage(d.HTML)
	if err != nil {
		return err
	}
	e, err := p.Probe(ctx)
	return out.finish(c, e, err, d.JSON)
}

// doctorPage is the file that a page goes to; nil is none.
type doctorPage struct{ file *reportFile }

// openDoctorPage opens it before anything is looked at, so that a wrong name does not cost a look.
func openDoctorPage(name string) (*doctorPage, error) {
	if name == "" {
		return &doctorPage{}, nil
	}
	f, err := openReport(name)
	if err != nil {
		return nil, usage(fmt.Errorf("--html: %w", err), "")
	}
	return &doctorPage{f}, nil
}

// finish examines the evidence and prints what came of it, or says why there is none.
func (p *doctorPage) finish(c *call, e *doctor.Evidence, err error, asJSON bool) error {
	if err != nil {
		p.abandon()
		var de *doctor.Error
		switch {
		case errors.As(err, &de):
			return &exitError{code: exitFailed, err: err, hint: de.Hint}
		case errors.Is(err, context.Canceled):
			return &exitError{code: exitFailed, err: errors.New("interrupted before there was enough to judge")}
		}
		return err
	}
	r := doctor.Examine(e)
	if asJSON {
		err = r.WriteJSON(c.Stdout)
	} else {
		err = r.WriteText(c.Stdout)
	}
	if err = errors.Join(err, p.write(func(w io.Writer) error { return r.WriteHTML(w, e) })); err != nil {
		return err
	}
	if r.Found() {
		return &exitError{code: exitThreshold, err: fmt.Errorf("findings: %d", len(r.Findings))}
	}
	return nil
}

func (p *doctorPage) write(write func(io.Writer) error) error {
	f := p.file
	if f == nil {
		return nil
	}
	err := errors.Join(write(f), f.Close())
	if err == nil && f.beside() {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		if f.beside() {
			_ = os.Remove(f.Name())
		}
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

func (p *doctorPage) abandon() {
	if p.file == nil {
		return
	}
	if _ = p.file.Close(); p.file.beside() {
		_ = os.Remove(p.file.Name())
	}
}

// collect gathers evidence from whatever the arguments are.
func (d *doctorRunCmd) collect(ctx context.Context, col *doctor.Collector) (*doctor.Evidence, error) {
	if len(d.Target) == 0 {
		return nil, usage(errors.New("nothing to look at: want a URL, a pid, files, or --binary"), "longwire doctor --help shows the forms")
	}
	var files []doctor.File
	for _, name := range d.Target {
		if strings.Contains(name, "://") {
			continue
		}
		fi, err := os.Stat(name)
		if err != nil || fi.IsDir() {
			continue
		}
		f, err := readFile(name, 256<<20)
		if err != nil {
			return nil, err
		}
		files = append(files, doctor.File{Name: name, Data: f, At: fi.ModTime()})
	}
	switch {
	case len(files) == len(d.Target):
		return col.Files(ctx, files)
	case len(files) == 0 && len(d.Target) == 1:
		return col.Collect(ctx, d.Target[0])
	}
	return nil, usage(fmt.Errorf("%q: want one URL, one pid, or files that are all there", d.Target), "longwire doctor --help shows the forms")
}

func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("read %s: it is larger than %d MiB", name, most>>20)
	}
	return b, err
}
