package cli

import (
	"context"
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
	Target  []string      `arg:"" name:"target" help:"A URL of a program that serves /debug/pprof, a pid of this machine, or saved profiles, dumps and logs."`
	For     time.Duration `default:"30s" help:"How long a running program is looked at."`
	Source  string        `placeholder:"DIR" help:"Where the source of the main module lies; by default where the profile says, for a program on this machine."`
	GCTrace string        `name:"gctrace" placeholder:"FILE" help:"A log with the output of GODEBUG=gctrace=1; - is standard input."`
	Header  []string      `placeholder:"NAME: VALUE" sep:"none" help:"A header for requests to the target, such as Authorization."`
	NoGC    bool          `name:"no-gc" help:"Do not ask the target to collect before a heap profile."`
	JSON    bool          `name:"json" help:"Print the report as JSON."`
	Quiet   bool          `short:"q" help:"Print no progress."`
}

// Help says what an examination is.
func (*doctorCmd) Help() string {
	return `Looks at a running Go program several times and says what leaks, and which line is to be mended: memory that
survives collections, goroutines that do not end, memory outside the heap, descriptors. It says beforehand what that
will cost the program, at most 2 % of a CPU, and changes nothing in it.

Exit code 3 when there is a finding. docs/doctor.md describes the checks and the JSON.`
}

// Run examines the target.
func (d *doctorCmd) Run(c *call) error {
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	col := &doctor.Collector{Root: os.DirFS("/"), For: d.For, NoGC: d.NoGC, Header: http.Header{}}
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
	switch d.GCTrace {
	case "":
	case "-":
		col.Trace = c.Stdin
	default:
		f, err := os.Open(d.GCTrace)
		if err != nil {
			return usage(fmt.Errorf("--gctrace: %w", err), "give the file that the program's standard error went to")
		}
		defer func() { _ = f.Close() }()
		col.Trace = f
	}
	e, err := d.collect(ctx, col)
	if err != nil {
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
	if d.JSON {
		err = r.WriteJSON(c.Stdout)
	} else {
		err = r.WriteText(c.Stdout)
	}
	if err == nil && r.Found() {
		return &exitError{code: exitThreshold, err: fmt.Errorf("findings: %d", len(r.Findings))}
	}
	return err
}

// collect gathers evidence from whatever the arguments are.
func (d *doctorCmd) collect(ctx context.Context, col *doctor.Collector) (*doctor.Evidence, error) {
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
		return col.Files(files)
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
