package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/lab"
)

type labCmd struct {
	List    labListCmd    `cmd:"" help:"Say which experiments there are, and what they do."`
	Run     labRunCmd     `cmd:"" help:"Carry one or more experiments out."`
	All     labAllCmd     `cmd:"" help:"Carry all of them out, one after the other."`
	Claims  labClaimsCmd  `cmd:"" help:"Make the page of the article's claims of reports."`
	Subject labSubjectCmd `cmd:"" hidden:""`
}

// Help says what the lab is.
func (*labCmd) Help() string {
	return `Puts the claims of the article that Longwire was founded on to the test: each experiment brings a leak or a cost about, the
faulty way and the mended one, in a process of its own, measures both and says whether the claim holds. For example:

  longwire lab list
  longwire lab run body
  longwire lab run buffers --scale 5 --html buffers.html
  longwire lab all --json > lab.json

Exit code 0 when everything was carried out, whatever the verdicts; 1 when an experiment could not be. docs/lab.md describes
the experiments and the JSON.`
}

type labListCmd struct{}

// Run lists the experiments.
func (*labListCmd) Run(c *call) error {
	for _, e := range lab.Experiments() {
		if _, err := fmt.Fprintf(c.Stdout, "%-10s  %s\n", e.Name, e.Title); err != nil {
			return err
		}
	}
	return nil
}

// labOptions are how experiments are run.
type labOptions struct {
	Scale int           `default:"1" help:"How large: 1 takes at most three minutes, 5 five times as many connections or objects."`
	Seed  uint64        `default:"1" help:"What chance is derived from, where an experiment has any."`
	Soak  time.Duration `placeholder:"75s" help:"For how long the experiment million holds its connections."`
	JSON  bool          `name:"json" help:"Print the report as JSON."`
	HTML  string        `name:"html" type:"path" placeholder:"FILE" help:"Write the report as a page with plots, beside what is printed."`
	Pprof bool          `help:"Have what is measured serve /debug/pprof, and say where: to look at it with longwire doctor."`
	Quiet bool          `short:"q" help:"Print no progress."`
}

type labRunCmd struct {
	Name []string `arg:"" help:"The experiments; longwire lab list says which there are."`
	labOptions
}

// Run carries experiments out.
func (l *labRunCmd) Run(c *call) error {
	var list []lab.Experiment
	for _, name := range l.Name {
		e, err := lab.Find(name)
		if err != nil {
			return usage(err, "longwire lab list says what they do")
		}
		list = append(list, e)
	}
	return l.carry(c, list)
}

type labAllCmd struct {
	labOptions
}

// Run carries all of them out.
func (l *labAllCmd) Run(c *call) error { return l.carry(c, lab.Experiments()) }

// mostScale keeps what is derived from it within bounds.
const mostScale = 1000

// carry runs experiments one after the other and reports what came of them.
func (l *labOptions) carry(c *call, list []lab.Experiment) error {
	if l.Scale < 1 || l.Scale > mostScale {
		return usage(fmt.Errorf("--scale %d: want 1 to %d", l.Scale, mostScale), "")
	}
	files, err := (&stressRunCmd{HTML: l.HTML}).files()
	if err != nil {
		return err
	}
	defer files.abandon()
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := lab.NewReport()
	r.Environment.Version = readBuild().Version
	var problems []error
	for _, e := range list {
		if ctx.Err() != nil {
			break
		}
		o := lab.Options{Scale: l.Scale, Seed: l.Seed, Soak: l.Soak, Pprof: l.Pprof, Again: labAgain(c)}
		if !l.Quiet {
			o.Log = func(format string, args ...any) { fmt.Fprintf(c.Stderr, e.Name+": "+format+"\n", args...) }
		}
		x, err := e.Carry(ctx, o)
		if err != nil {
			problems = append(problems, err)
		}
		r.Experiments = append(r.Experiments, x)
	}
	if l.JSON {
		err = r.WriteJSON(c.Stdout)
	} else {
		err = r.WriteText(c.Stdout)
	}
	if err := errors.Join(err, files.write(r)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		problems = append(problems, errors.New("interrupted: what was measured until then is in the report"))
	}
	if len(problems) > 0 {
		return &exitError{code: exitFailed, err: errors.Join(problems...)}
	}
	return nil
}

// labAgain runs this program again as a subject.
func labAgain(c *call) lab.Again {
	return func(subject string) *exec.Cmd {
		self := "/proc/self/exe" // the file itself, wherever its name has gone meanwhile
		if _, err := os.Stat(self); err != nil {
			if self, err = os.Executable(); err != nil {
				self = os.Args[0]
			}
		}
		return &exec.Cmd{Path: self, Args: []string{os.Args[0], "lab", "subject", subject}, Env: c.Environ}
	}
}

// labSubjectCmd is what an experiment measures.
type labSubjectCmd struct {
	Name string `arg:""`
}

// Run is the subject until its standard input ends.
func (l *labSubjectCmd) Run(c *call) error {
	return lab.Serve(c.ctx, l.Name, c.Stdin, c.Stdout)
}
