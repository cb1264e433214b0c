package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Process is a subject's process, as the experiment sees it. Its methods belong to one goroutine; Said may be called by any.
type Process struct {
	name    string
	addr    netip.AddrPort
	pprof   string
	command *exec.Cmd
	in      io.WriteCloser
	answers chan response // closed when the process says no more
	said    said
	ended   chan error // gets how it ended
	lost    bool       // an answer was not waited for: the next one would be to another question
	closed  bool
}

// grace is how long a subject may take to end by itself.
const grace = 10 * time.Second

// Start starts a subject with a configuration, which is sent as JSON. prepare may change the command before it is started, such as its
// environment; it may be nil. The caller closes the process.
func (r *Run) Start(ctx context.Context, name string, config any, prepare func(*exec.Cmd)) (*Process, error) {
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	c := r.again(name)
	p := &Process{name: name, command: c, answers: make(chan response), ended: make(chan error, 1)}
	c.Stderr = &p.said
	if prepare != nil {
		prepare(c)
	}
	if p.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start the subject %s: %w", name, sys.ApartError(c, err))
	}
	gone := make(chan struct{}) // closed by Close, so that nobody waits for its answers for ever
	p.in = onClose{p.in, sync.OnceFunc(func() { close(gone) })}
	go func() {
		d := json.NewDecoder(bufio.NewReader(out))
		for {
			var x response
			if d.Decode(&x) != nil {
				break
			}
			select {
			case p.answers <- x:
			case <-gone:
			}
		}
		close(p.answers)
		p.ended <- c.Wait()
	}()
	var i introduction
	if err := p.Ask(ctx, askBegin, beginning{raw, r.pprof}, &i); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if i.Addr != "" {
		if p.addr, err = netip.ParseAddrPort(i.Addr); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	if p.pprof = i.Pprof; p.pprof != "" {
		r.Log("%s: pid %d, profiles at %s", name, c.Process.Pid, p.pprof)
	}
	return p, nil
}

// onClose is a writer that says when it is closed.
type onClose struct {
	io.WriteCloser
	say func()
}

// Close closes it.
func (o onClose) Close() error {
	o.say()
	return o.WriteCloser.Close()
}

// Addr is where the subject listens.
func (p *Process) Addr() netip.AddrPort { return p.addr }

// PID is the process's id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Ask asks the subject a question and reads its answer, a pointer, or nil for one that does not matter. arg is sent as JSON.
func (p *Process) Ask(ctx context.Context, what string, arg, answer any) error {
	if p.lost {
		return fmt.Errorf("the subject %s, asked for %s: an earlier question was given up", p.name, what)
	}
	raw, err := json.Marshal(arg)
	if err != nil {
		return err
	}
	b, err := json.Marshal(request{what, raw})
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return p.gone(what)
	}
	select {
	case x, ok := <-p.answers:
		switch {
		case !ok:
			return p.gone(what)
		case x.Error != "":
			return fmt.Errorf("the subject %s, asked for %s: %s", p.name, what, x.Error)
		case answer == nil:
			return nil
		}
		return json.Unmarshal(x.Answer, answer)
	case <-ctx.Done():
		p.lost = true
		return fmt.Errorf("the subject %s, asked for %s: %w", p.name, what, context.Cause(ctx))
	}
}

func (p *Process) gone(what string) error {
	return fmt.Errorf("the subject %s ended when it was asked for %s; it said: %s", p.name, what, p.said.tail())
}

// Sample asks for the subject's figures, after so many collections.
func (p *Process) Sample(ctx context.Context, collections int) (s Sample, err error) {
	err = p.Ask(ctx, askSample, collections, &s)
	return s, err
}

// Settle samples the subject, after collections, until done says that what was waited for has come to pass, at most for d. It
// returns the last sample either way.
func (p *Process) Settle(ctx context.Context, collections int, d time.Duration, done func(Sample) bool) (s Sample, err error) {
	late := time.Now().Add(d)
	for {
		if s, err = p.Sample(ctx, collections); err != nil || done(s) || time.Now().After(late) {
			return s, err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return s, err
		}
	}
}

// While calls f and samples the subject, without collections, until f returns. The samples are there whatever f returns.
func (p *Process) While(ctx context.Context, every time.Duration, f func() error) (list []Sample, err error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s, err := p.Sample(ctx, 0)
		if err != nil {
			return list, errors.Join(<-done, err)
		}
		list = append(list, s)
		select {
		case err := <-done:
			return list, err
		case <-tick.C:
		}
	}
}

// Said is what the subject wrote to its standard error: the last MiB.
func (p *Process) Said() string { return p.said.text() }

// Close ends the process and waits until it is gone; one that does not go is killed. A second call does nothing.
func (p *Process) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	_ = p.in.Close()
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case err := <-p.ended:
		if err != nil {
			return fmt.Errorf("the subject %s: %w; it said: %s", p.name, err, p.said.tail())
		}
		return nil
	case <-late.C:
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("the subject %s did not end within %v and was killed", p.name, grace)
	}
}

// pause waits for d, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// said keeps the end of what a process wrote.
type said struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

// mostSaid bounds it.
const mostSaid = 1 << 20

// Write keeps b.
func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, b...)
	if n := len(s.b) - mostSaid; n > mostSaid { // not with each line
		s.b = append(s.b[:0], s.b[n:]...)
	}
	return len(b), nil
}

func (s *said) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.b)
}

// tail is the last few lines.
func (s *said) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := bytes.TrimSpace(s.b[max(0, len(s.b)-600):])
	if len(b) == 0 {
		return "nothing"
	}
	return string(b)
}
