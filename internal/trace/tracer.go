package trace

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Options say what to trace. The zero value traces the connections of listeners that are tracked, at the highest level
// that is to be had.
type Options struct {
	// Level is the highest to try. Zero means LevelBPF.
	Level Level
	// Port traces the connections with this local port, whoever's they are, those that are there already included. Zero
	// means those of listeners that TrackListener was told of, and no others.
	Port uint16
	// Network is the network namespace of Port: a path of a namespace file, or a process's number. Empty means that of
	// this process.
	Network string
	// Steps asks for an event of each step of a connection, and not only of its end.
	Steps bool
	// Ring is the size in bytes of the buffer between the probes and Run, a power of two of at least 64 KiB. Zero means
	// 4 MiB, which holds 20,000 ends. It counts twice as resident memory, since it is mapped twice.
	Ring int
	// Handle gets every event, on the goroutine of Run. Nil means that they are only counted.
	Handle func(*Event)
	// Idle is called on the goroutine of Run whenever Handle has got all that there was, some times a second: what Handle
	// wrote can be flushed there. Nil is nothing to do.
	Idle func()
}

// Seen is what a connection's own process saw of it until it closed it.
type Seen struct {
	Err     error // of the read or write that failed: a syscall.Errno is looked for in it. Nil if none failed
	EOF     bool  // a read found the end of the client's stream
	Aborted bool  // it is about to be closed with SO_LINGER 0
}

// Stats are counts since Open.
type Stats struct {
	Events uint64 // told, or waiting to be
	Lost   uint64 // not told, since there was no room for them
	Missed uint64 // times that a probe was not run, since it was running already on that CPU; at LevelBPF. No end is missing for it

	// Transitions are steps of traced connections between states, [from][to]. At LevelDiag those of Options.Port, as far
	// as they were looked at; none at LevelErrno.
	Transitions [16][16]uint64

	// At LevelBPF only.
	RSTsWithoutSocket uint64 // RSTs that this machine sent where no socket was
	RSTsInTimeWait    uint64 // RSTs that it sent in answer to something for a connection that was over
}

// Tracer traces connections. Its methods may be called from any goroutine, but where descriptors are arguments from a
// thread whose descriptor table has them.
type Tracer struct {
	level   Level
	refused []Refusal
	source  source
	port    uint16
	diag    *sys.Diag // with a port, where the kernel has it; for Summary
}

// source is one way to learn of connections: a level.
type source interface {
	trackListener(fd int) error
	tag(fd int, id [16]byte) error
	look(fd int) (Life, error) // what is known beside TCP_INFO
	closing(fd int, id [16]byte, seen Seen) error
	descriptors() []int
	stats() (Stats, error)
	run(ctx context.Context) error
	close() error
}

// Open begins to trace at the highest level that the kernel allows; Level says which, Refused why not a higher one. Its
// only errors are those of options. Ends are kept from now on, and told by Run.
//
// A gateway whose loops have private descriptor tables opens its tracer before the first of them is made, and has each
// keep Descriptors.
func Open(o Options) (*Tracer, error) {
	if o.Level == 0 {
		o.Level = LevelBPF
	}
	if o.Level > LevelBPF {
		return nil, fmt.Errorf("trace: there is no level %d: want errno, diag or bpf", o.Level)
	}
	if o.Ring == 0 {
		o.Ring = 4 << 20
	}
	if o.Ring < 64<<10 || o.Ring&(o.Ring-1) != 0 {
		return nil, fmt.Errorf("trace: a ring of %d bytes: want a power of two of at least 65536", o.Ring)
	}
	if o.Handle == nil {
		o.Handle = func(*Event) {}
	}
	if o.Idle == nil {
		o.Idle = func() {}
	}
	network, err := openNetwork(o.Network)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if network != nil {
		defer func() { _ = network.Close() }()
	}
	t := &Tracer{port: o.Port}
	if o.Port != 0 {
		// Without it there is no summary; everything else works.
		_ = in(network, func() (err error) { t.diag, err = sys.OpenDiag(); return err })
	}
	for _, try := range []struct {
		level Level
		open  func(Options, *sys.Network) (source, error)
	}{{LevelBPF, openKernel}, {LevelDiag, openDiag}} {
		if try.level > o.Level {
			continue
		}
		if t.source, err = try.open(o, network); err == nil {
			t.level = try.level
			return t, nil
		}
		t.refused = append(t.refused, Refusal{try.level, err})
	}
	t.level, t.source = LevelErrno, newOwn(o)
	return t, nil
}

// in calls f in a namespace; nil is this thread's.
func in(network *sys.Network, f func() error) error {
	if network == nil {
		return f()
	}
	return network.Do(f)
}

// openNetwork opens the namespace that Options.Network means; nil is this thread's.
func openNetwork(name string) (*sys.Network, error) {
	if name == "" {
		return nil, nil
	}
	if pid, err := strconv.Atoi(name); err == nil {
		if pid <= 0 {
			return nil, fmt.Errorf("the network namespace of process %d: want a process's number", pid)
		}
		return sys.NetworkOf(pid)
	}
	return sys.OpenNetwork(name)
}

// Level is the level that this tracer works at.
func (t *Tracer) Level() Level { return t.level }

// Refused are the higher levels that were tried, and why they are not to be had.
func (t *Tracer) Refused() []Refusal { return t.refused }

// TrackListener traces the connections that a listener accepts from now on. An MPTCP socket, as the Go standard library
// makes by default, is an error: its connections are not copies of it. fd stays the caller's. A descriptor of a
// connection that is established is taken likewise, after a handover: that connection alone is traced. Below LevelBPF
// there is nothing to do.
func (t *Tracer) TrackListener(fd int) error { return t.source.trackListener(fd) }

// Tag gives the connection fd an id that all of its later events carry, its end included, at LevelBPF; below that
// Closing does. Zero takes the id away. It is one system call, allocates nothing, does not block, and uses two
// descriptors: fd, and one of Descriptors.
func (t *Tracer) Tag(fd int, id [16]byte) error { return t.source.tag(fd, id) }

// Closing tells what the connection's own process saw of it, right before fd is closed. Below LevelBPF that is what its
// end is judged by; at LevelBPF the kernel knows better, and Closing does nothing.
func (t *Tracer) Closing(fd int, id [16]byte, seen Seen) error { return t.source.closing(fd, id, seen) }

// Look is the record of the connection fd so far, with the kernel's present figures: how often what it sent last was
// sent anew, and what is not acknowledged. It does not block. At LevelBPF fd has to be traced.
func (t *Tracer) Look(fd int) (Life, error) {
	l, err := t.source.look(fd)
	if err == nil {
		var info sys.TCPInfo
		if info, err = sys.SocketInfo(fd); err == nil {
			l.take(info)
			l.Path = l.Path.Then(info.State)
			l.Cookie, err = sys.SocketCookie(fd)
		}
	}
	if err != nil {
		return Life{}, fmt.Errorf("trace: look at a connection: %w", err)
	}
	return l, nil
}

// Descriptors are those of this tracer that have to be in the descriptor table of a thread which calls TrackListener, Tag or
// Look, under the same numbers.
func (t *Tracer) Descriptors() []int { return t.source.descriptors() }

// Stats are the counts so far.
func (t *Tracer) Stats() (Stats, error) {
	s, err := t.source.stats()
	if err != nil {
		err = fmt.Errorf("trace: %w", err)
	}
	return s, err
}

// Run hands events to Options.Handle until ctx is done, then those that are waiting, and returns nil. It is called once.
func (t *Tracer) Run(ctx context.Context) error {
	if err := t.source.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("trace: %w", err)
	}
	return nil
}

// Close ends tracing and releases all of it. Run has returned before, and no other method is called any more.
func (t *Tracer) Close() error {
	err := t.source.close()
	if t.diag != nil {
		err = errors.Join(err, t.diag.Close())
	}
	return err
}

// DropPrivileges gives up all of this process's capabilities (or, in a program with cgo, being root), for good: a tracer
// that is open needs none. It is for a process that does nothing else. One that has none is as it should be.
func DropPrivileges() error {
	if have, err := sys.Capabilities(); err == nil && have == 0 {
		return nil
	}
	return sys.DropCapabilities()
}

// DropCapabilities gives up all of this process's capabilities, for good, if this tracer works without: that is tried on one
// thread first. Other than with DropPrivileges the process stays who it is, so it is for one that has more to do, and one that
// was built with cgo cannot. dropped is false where there were none.
func (t *Tracer) DropCapabilities() (dropped bool, err error) {
	if have, err := sys.Capabilities(); err == nil && have == 0 {
		return false, nil
	}
	if err := sys.WithoutCapabilities(func() error { _, err := t.source.stats(); return err }); err != nil {
		return false, fmt.Errorf("trace: the kernel tells nothing without capabilities: %w", err)
	}
	if err := sys.ClearCapabilities(); err != nil {
		return false, fmt.Errorf("trace: %w", err)
	}
	return true, nil
}

// tick is how often Run looks for events by itself. Probes wake it only when there are many.
const tick = 50 * time.Millisecond
