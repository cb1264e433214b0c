package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/avalanche/lab"
	"github.com/longwire/longwire/internal/stress"
)

type stressAvalancheCmd struct {
	Name     string   `arg:"" default:"small_backlog" placeholder:"NAME" help:"The experiment, list for what there is, or all for each of them."`
	JSON     bool     `name:"json" help:"Print the report as JSON (docs/stress-report.md); with all, the reports of all."`
	HTML     string   `name:"html" type:"path" placeholder:"FILE" help:"Write the report of one experiment as a page with plots."`
	Parallel int      `default:"2" help:"With all, how many run at a time."`
	Quiet    bool     `short:"q" help:"Print no progress."`
	Part     lab.Part `hidden:"" enum:"load,serve," default:""`
}

// Help says what an experiment is.
func (*stressAvalancheCmd) Help() string {
	return `Breaks a server on purpose, on loopback in a network namespace of its own, and shows what the report of a run says
of it: the chain of what happened, in order, with the time and figure of each link, and the first cause. For example:

  longwire stress avalanche                      the accept queue fills, SYNs are dropped and sent again
  longwire stress avalanche port_exhaustion      TIME_WAIT fills the local ports
  longwire stress avalanche all                  six causes, and two servers with nothing wrong: which are named?

It needs root, or the right to make user namespaces; memory_limit needs root, for a cgroup.

Exit code 3 when the first cause is not the one that was injected, 1 when an experiment could not be carried out.`
}

// Run carries experiments out.
func (s *stressAvalancheCmd) Run(c *call) error {
	switch s.Name {
	case "list":
		return s.list(c.Stdout)
	case "all":
		if s.HTML != "" {
			return usage(errors.New("--html takes the report of one experiment"), "name one: longwire stress avalanche small_backlog --html FILE")
		}
		return s.all(c)
	}
	e, err := lab.Find(s.Name)
	if err != nil {
		return usage(err, "longwire stress avalanche list says what they do")
	}
	if s.Part != "" {
		return s.play(c, e)
	}
	files, err := (&stressRunCmd{HTML: s.HTML}).files()
	if err != nil {
		return err
	}
	defer files.abandon()
	if !s.Quiet {
		fmt.Fprintf(c.Stderr, "%s: the server %s. The load: %s\n", e.Name, e.Server, e.Load)
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := lab.Run(ctx, e, s.again(c), c.Stderr)
	if err != nil {
		return notRun(err)
	}
	r.Environment.Version = readBuild().Version
	if s.JSON {
		err = r.WriteJSON(c.Stdout)
	} else {
		err = r.WriteText(c.Stdout)
	}
	if err := errors.Join(err, files.write(r)); err != nil {
		return err
	}
	return verdict(ctx, c.Stderr, &e, r)
}

// notRun is the error of an experiment that could not be carried out, with what to do about it.
func notRun(err error) error {
	if lab.Refused(err) {
		return &exitError{code: exitFailed, err: err, hint: "run it as root on Linux, give it CAP_SYS_ADMIN, or allow user namespaces (sysctl user.max_user_namespaces, user.max_net_namespaces)"}
	}
	return err
}

// verdict says whether what was injected was found.
func verdict(ctx context.Context, w io.Writer, e *lab.Experiment, r *stress.Report) error {
	switch {
	case ctx.Err() != nil:
		return &exitError{code: exitFailed, err: errors.New("interrupted before the experiment was over")}
	case !e.Named(r):
		return &exitError{code: exitThreshold, err: fmt.Errorf("%s: injected was %v, and found %s", e.Name, e.Cause, found(r))}
	}
	fmt.Fprintf(w, "%s: injected was %v, and found %s\n", e.Name, e.Cause, found(r))
	return nil
}

// found is the first cause that a report names.
func found(r *stress.Report) string {
	switch {
	case r.Avalanche == nil:
		return "no cause: no step broke"
	case r.Avalanche.FirstCause == "":
		return "no cause: " + r.Avalanche.Why
	}
	return fmt.Sprintf("%v (%s confidence)", r.Avalanche.FirstCause, r.Avalanche.Confidence)
}

func (*stressAvalancheCmd) list(w io.Writer) error {
	for _, e := range lab.Experiments() {
		if _, err := fmt.Fprintf(w, "%-16s  the server %s. The load: %s\n", e.Name, e.Server, e.Load); err != nil {
			return err
		}
	}
	return nil
}

// again runs this program again with a part of an experiment.
func (s *stressAvalancheCmd) again(c *call) lab.Again {
	return func(part lab.Part, experiment string) *exec.Cmd {
		args := []string{os.Args[0], "stress", "avalanche", "--part=" + string(part), experiment}
		if s.Quiet || s.Name == "all" {
			args = append(args, "--quiet")
		}
		// The file itself, wherever its name has gone meanwhile.
		return &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: c.Environ}
	}
}

// play is a part of an experiment.
func (s *stressAvalancheCmd) play(c *call, e lab.Experiment) error {
	view := newStressView(c.Stderr, s.Quiet, stress.Script{Target: e.Name})
	defer view.end()
	return lab.Play(c.ctx, s.Part, e, s.again(c), c.Stdin, c.Stdout, c.Stderr, view.show)
}

// avalancheResult is what came of one of all experiments, in JSON.
type avalancheResult struct {
	Experiment string         `json:"experiment"`
	Injected   string         `json:"injected"`        // the first cause; "" for none
	Named      bool           `json:"named"`           // whether the report names it
	Error      string         `json:"error,omitempty"` // why it could not be carried out
	Report     *stress.Report `json:"report,omitempty"`
}

// all carries all of them out, some at a time.
func (s *stressAvalancheCmd) all(c *call) error {
	if s.Parallel < 1 {
		return usage(fmt.Errorf("--parallel %d: want at least 1", s.Parallel), "")
	}
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	list := lab.Experiments()
	results := make([]avalancheResult, len(list))
	turns := make(chan struct{}, s.Parallel)
	var mu sync.Mutex // guards the output, and problem
	var problem error // of one that could not be carried out
	var running sync.WaitGroup
	for i := range list {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			e, x := &list[i], &results[i]
			x.Experiment, x.Injected = e.Name, string(e.Cause)
			if ctx.Err() != nil {
				x.Error = "interrupted"
				return
			}
			var log strings.Builder
			begin := time.Now()
			r, err := lab.Run(ctx, *e, s.again(c), &log)
			mu.Lock()
			defer mu.Unlock()
			_, _ = io.WriteString(c.Stderr, log.String())
			var line string
			if err != nil {
				x.Error, problem = err.Error(), notRun(err)
				line = "NOT RUN: " + x.Error
			} else {
				r.Environment.Version = readBuild().Version
				x.Report, x.Named = r, e.Named(r)
				line = found(r)
				if !x.Named {
					line = "WRONG: " + line
				}
			}
			if !s.JSON {
				fmt.Fprintf(c.Stdout, "%-16s  %5.1f s  %s\n", e.Name, time.Since(begin).Seconds(), line)
			}
		})
	}
	running.Wait()
	named, failed := 0, 0
	for _, x := range results {
		switch {
		case x.Named:
			named++
		case x.Error != "":
			failed++
		}
	}
	if s.JSON {
		enc := json.NewEncoder(c.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintf(c.Stdout, "%d of %d as injected\n", named, len(results)); err != nil {
		return err
	}
	switch {
	case failed > 0:
		hint := ""
		if ee := (*exitError)(nil); errors.As(problem, &ee) {
			hint = ee.hint
		}
		return &exitError{code: exitFailed, err: fmt.Errorf("%d of %d experiments could not be carried out", failed, len(results)), hint: hint}
	case named < len(results):
		return &exitError{code: exitThreshold, err: fmt.Errorf("%d of %d first causes are not those that were injected", len(results)-named, len(results))}
	}
	return nil
}
