package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/stress"
	"github.com/longwire/longwire/internal/sys"
)

// loopback is where clients come from: one address, so that its ports are all there are.
var loopback = netip.MustParseAddr("127.0.0.1")

// port is the server's, above those that clients get.
const port = 61000

// patience is how long the processes of an experiment may take to end by themselves once they are told to.
const patience = 20 * time.Second

// Run carries an experiment out and returns its report; log gets what its processes say beside that. When ctx ends, the
// run ends early, with a report of what was measured. It needs CAP_SYS_ADMIN, or the right to make a user namespace.
func Run(ctx context.Context, e Experiment, again Again, log io.Writer) (*stress.Report, error) {
	c := again(Load, e.Name)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, log
	sys.Apart(c)
	p, err := start(c, "")
	if err != nil {
		return nil, fmt.Errorf("experiment %s: %w", e.Name, err)
	}
	p.watch()
	select {
	case err = <-p.ended:
	case <-ctx.Done():
		err = p.end()
	}
	if err != nil {
		return nil, fmt.Errorf("experiment %s: %w", e.Name, err)
	}
	return stress.ReadReport(&out)
}

// process is a command that ends when its standard input does.
type process struct {
	command *exec.Cmd
	in      io.Closer
	ended   chan error // gets how it ended, once it is watched
}

// start starts a command. first is what its standard input begins with.
func start(c *exec.Cmd, first string) (*process, error) {
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, sys.ApartError(c, err)
	}
	_, _ = io.WriteString(in, first) // it fits the pipe; one that has ended says so itself
	return &process{c, in, make(chan error, 1)}, nil
}

// watch waits for its end in a goroutine: a process that nobody waits for is not gone.
func (p *process) watch() { go func() { p.ended <- p.command.Wait() }() }

// end tells it to end, and returns how it did. One that does not within patience is killed.
func (p *process) end() error {
	_ = p.in.Close()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-p.ended:
		return err
	case <-late.C:
		_ = p.command.Process.Kill()
		return <-p.ended
	}
}

// Play is a part of an experiment, which the command of an Again comes to. Progress is of the run.
func Play(ctx context.Context, part Part, e Experiment, again Again, in io.Reader, out, log io.Writer, progress func(stress.Sample)) error {
	// Who has told the first process to end has told all of them: it passes it on.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	switch part {
	case Load:
		return e.load(ctx, again, in, out, log, progress)
	case Serve:
		return serve(e.fault, in, out)
	}
	return fmt.Errorf("%q is no part of an experiment", part)
}

// load runs in the namespace.
func (e *Experiment) load(ctx context.Context, again Again, in io.Reader, out, log io.Writer, progress func(stress.Sample)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { _, _ = io.Copy(io.Discard, in); cancel() }() // for as long as the process
	if err := sys.LoopbackUp(); err != nil {
		return fmt.Errorf("in a new network namespace: %w", err)
	}
	for _, x := range e.settings {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", x[0]), []byte(x[1]), 0); err != nil {
			return fmt.Errorf("in a new network namespace: %w", err)
		}
	}
	group := ""
	if e.fault.memory > 0 {
		if group, err = memoryGroup(e.fault.memory); err != nil {
			return fmt.Errorf("a cgroup with a memory limit cannot be made, which takes root and a hierarchy that may be written: %w", err)
		}
		defer func() { err = errors.Join(err, os.Remove(group)) }()
	}
	c := again(Serve, e.Name)
	c.Stderr = log
	said, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	p, err := start(c, group+"\n")
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	p.watch()
	defer func() { _ = p.end() }() // it may have been broken for good
	if err != nil || strings.TrimSpace(line) != "listening" {
		return fmt.Errorf("the server said %q: %w", line, err)
	}
	r, err := stress.Run(ctx, e.script(netip.AddrPortFrom(loopback, port)), stress.Options{
		Name: e.Name, Sources: []netip.Addr{loopback}, PID: c.Process.Pid, Every: 100 * time.Millisecond, PastLimits: true, Progress: progress,
	})
	if err != nil {
		return err
	}
	r.Notes = slices.Insert(r.Notes, 0, fmt.Sprintf("an experiment: the server %s. The load: %s", e.Server, e.Load))
	return r.WriteJSON(out)
}

// script is the load on a server at an address.
func (e *Experiment) script(at netip.AddrPort) stress.Script {
	scheme := "ws"
	if e.scenario.Kind == stress.HTTPKind {
		scheme = "http"
	}
	return stress.Script{Target: fmt.Sprintf("%s://%v/", scheme, at), Timeout: e.timeout, Scenarios: []stress.Scenario{e.scenario}, Stages: slices.Clone(e.stages), Seed: 1}
}

// memoryGroup makes a cgroup with a memory limit, of either version.
func memoryGroup(limit int) (dir string, err error) {
	var problems []error
	for _, g := range [][2]string{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir := filepath.Join(g[0], fmt.Sprintf("longwire-avalanche-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			problems = append(problems, err)
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, g[1]), os.O_WRONLY, 0) // not created where the directory is no cgroup
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(limit))
			err = errors.Join(err, f.Close())
		}
		if err == nil {
			return dir, nil
		}
		problems = append(problems, err, os.Remove(dir))
	}
	return "", errors.Join(problems...)
}
