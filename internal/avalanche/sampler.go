package avalanche

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Options say whom a Sampler looks at.
type Options struct {
	Root fs.FS  // the file system; nil means the real one
	Port uint16 // the target's
	// PID is the server's process; 0 means whoever listens on the port in the namespace, if that can be found out.
	PID int
	// Network is the server's network namespace; nil means PID's, or without one the calling thread's. It stays the
	// caller's, and open while the Sampler is used.
	Network *sys.Network
}

// Sampler looks at the server's side of a run: the kernel's counters, the accept queue and the process. It is for one
// goroutine at a time.
type Sampler struct {
	root    fs.FS
	port    uint16
	pid     int
	network *sys.Network // nil: the calling thread's
	owned   *sys.Network // what Close closes
	diag    *sys.Diag    // nil: not to be had
	limits  sys.NetLimits
	group   string // the process's cgroup for memory, as long as it was there
	remote  bool   // nobody listens on the port here: the counters are the clients'
	alone   bool   // no other socket listens in the server's namespace
	missing []string
}

// NewSampler prepares it. What cannot be seen is no error, but told by Missing; the fields of a Sample say it too.
// Without a Network or a PID, each call has to come from a thread of the same network namespace, as all are that did
// not leave it.
func NewSampler(o Options) *Sampler {
	s := &Sampler{root: o.Root, port: o.Port, pid: o.PID, network: o.Network}
	if s.root == nil {
		s.root = os.DirFS("/")
	}
	if s.network == nil && s.pid != 0 {
		s.enter()
	}
	if err := s.inside(func() (err error) {
		s.limits = sys.ReadNetLimits(s.root)
		s.diag, err = sys.OpenDiag()
		return err
	}); err != nil {
		s.lack("the accept queue", err)
	}
	if s.network != nil {
		// A namespace does not show what belongs to the machine.
		machine := sys.ReadNetLimits(s.root)
		s.limits.MemoryPages, s.limits.MaxOrphans = machine.MemoryPages, machine.MaxOrphans
	}
	listeners, err := s.listeners()
	// Without the queue's help: a server whose process was not named is not known to be here.
	s.remote = len(listeners) == 0 && s.pid == 0 && o.Network == nil
	if err == nil && len(listeners) == 0 {
		s.lack("the accept queue", fmt.Errorf("nobody listens on port %d in this network namespace", s.port))
	}
	if s.diag != nil && len(listeners) > 0 {
		if all, err := s.diag.Listeners(0); err == nil {
			s.alone = len(all) == len(listeners)
		}
	}
	if s.pid == 0 && len(listeners) > 0 {
		s.pid = sys.SocketOwner(s.root, listeners[0].Inode)
	}
	if s.pid == 0 {
		s.lack("the server's process", errors.New("not found on this machine"))
	}
	return s
}

// enter finds the namespace of the process, if it is another.
func (s *Sampler) enter() {
	theirs, err := sys.NetworkOf(s.pid)
	if err != nil {
		s.lack("the server's network namespace", err)
		return
	}
	if ours, err := sys.NetworkOf(0); err == nil {
		same := ours.Is(theirs)
		_ = ours.Close()
		if same {
			_ = theirs.Close()
			return
		}
	}
	s.network, s.owned = theirs, theirs
}

func (s *Sampler) lack(what string, err error) {
	s.missing = append(s.missing, fmt.Sprintf("%s: %v", what, err))
}

// Missing says what could not be seen, and why.
func (s *Sampler) Missing() []string { return s.missing }

// PID is the server's process; 0 when it is not known.
func (s *Sampler) PID() int { return s.pid }

// Limits are the settings of the server's namespace, as they were at the beginning.
func (s *Sampler) Limits() sys.NetLimits { return s.limits }

// Close releases what it holds.
func (s *Sampler) Close() error {
	var err error
	if s.diag != nil {
		err = s.diag.Close()
	}
	if s.owned != nil {
		err = errors.Join(err, s.owned.Close())
	}
	return err
}

// inside calls f in the server's network namespace.
func (s *Sampler) inside(f func() error) error {
	if s.network == nil {
		return f()
	}
	return s.network.Do(f)
}

// listeners are nil where they cannot be seen.
func (s *Sampler) listeners() ([]sys.Listener, error) {
	if s.diag == nil {
		return nil, sys.ErrUnsupported
	}
	return s.diag.Listeners(s.port)
}

// Sample looks at the server's side now, at after the run began, beside what the clients saw.
func (s *Sampler) Sample(at time.Duration, clients Clients) Sample {
	x := Sample{At: at, Clients: clients}
	x.Kernel.Known = s.inside(func() (err error) {
		x.Kernel.NetCounters, err = sys.ReadNetCounters(s.root, 0)
		return err
	}) == nil
	x.Kernel.Clients, x.Kernel.Alone, x.Kernel.Limits = s.remote, s.alone, s.limits
	if listeners, err := s.listeners(); err == nil {
		for i, l := range listeners {
			q := Queue{Known: true, Length: int64(l.Queue), Limit: int64(l.Backlog)}
			if i == 0 || q.Length-q.Limit > x.Queue.Length-x.Queue.Limit {
				x.Queue = q
			}
		}
	}
	if s.pid != 0 {
		p, err := sys.ReadProcess(s.root, s.pid)
		x.Target = Target{
			Known: err == nil || errors.Is(err, fs.ErrNotExist), Gone: errors.Is(err, fs.ErrNotExist),
			Descriptors: int64(max(0, p.Descriptors)), DescriptorLimit: int64(p.DescriptorLimit),
			Resident: p.Resident, MemoryUsed: p.MemoryUsed, MemoryLimit: p.MemoryLimit, Kills: p.Kills,
			CPU: p.CPU, CPUs: float64(runtime.NumCPU()),
		}
		switch {
		case err == nil && p.MemoryGroup != "": // one that is about to end has left it
			s.group = p.MemoryGroup
		case x.Target.Gone && s.group != "":
			x.Target.Kills = sys.MemoryKills(s.root, s.group)
		}
	}
	return x
}
