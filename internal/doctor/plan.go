package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/limits"
	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
)

// PlanOptions are what a number of connections is planned for.
type PlanOptions struct {
	Conns uint64
	// ConnBytes is the memory of the server's process for each connection, without the kernel's; 0 means a Longwire server.
	ConnBytes uint64
	// Proxies is how many addresses the connections come from; 0 means that clients come by themselves.
	Proxies uint64
	// Target is the URL or the pid of the server, on this machine; "" means one that would be started as the doctor was.
	Target string
}

// Plan is a number of connections beside what the system allows.
type Plan struct {
	Conns    uint64
	Longwire bool // otherwise another server
	Limits   []limits.Limit
	Assumed  []string // what the figures rest on
}

// What a connection takes of the kernel: the socket, its file, its inode, its entry in epoll and in the table.
const kernelConnBytes = 4300

// Plan compares what a number of connections needs with the limits of this machine, of a process of it, or of one that would be started
// now. It costs the target nothing.
func (c *Collector) Plan(ctx context.Context, o PlanOptions) (*Evidence, error) {
	if o.Conns == 0 || o.Conns > 1<<32 {
		return nil, &Error{fmt.Errorf("a plan for %d connections: want 1 to %d", o.Conns, uint64(1)<<32), "such as --plan 1000000"}
	}
	pid := 0
	e := &Evidence{Target: "this machine", Cost: "nothing: only /proc and /sys were read"}
	if o.Target != "" {
		var err error
		if pid, err = c.planned(o.Target); err != nil {
			return nil, err
		}
		e.Target = fmt.Sprintf("pid %d", pid)
	}
	begin := time.Now()
	h, group := c.have(pid)
	p := &Plan{Conns: o.Conns, Longwire: o.ConnBytes == 0}
	d := limits.Demand{Conns: o.Conns, Server: true, Proxies: o.Proxies, Tables: 1, Listeners: 1}
	if p.Longwire {
		c.planLongwire(p, &d, &h)
	} else {
		d.PerConn = kernelConnBytes + o.ConnBytes
		d.Threads = uint64(runtime.NumCPU()) + 20
		d.Maps = 200 + o.Conns*o.ConnBytes>>26 // Go reserves its heap by 64 MiB
		p.Assumed = append(p.Assumed, fmt.Sprintf("each connection takes %d bytes of the server, as given, and %d of the kernel", o.ConnBytes, kernelConnBytes))
	}
	d.Burst = (o.Conns + 99) / 100
	d.Queued = h.PageSize
	p.Assumed = append(p.Assumed,
		fmt.Sprintf("%d connections come at once: all of them within 10 s, as after a restart, and the server busy for 100 ms", d.Burst),
		"at times each connection has a message in its socket's buffer, which is a page: when one goes out to all")
	if pid > 0 {
		if l := c.listeners(pid); len(l) > 0 {
			d.Listeners, d.Backlog = uint64(len(l)), uint64(l[0].Backlog)
			for _, x := range l {
				d.Backlog = min(d.Backlog, uint64(x.Backlog))
			}
		}
	}
	if group != "" {
		p.Assumed = append(p.Assumed, group)
	}
	p.Limits = limits.All(d, h)
	if h.DescriptorsAtMost == 0 && h.Memory == 0 {
		return nil, &Error{errors.New("no limit of this system can be read"), "the plan needs Linux with /proc"}
	}
	e.Plan, e.Took = p, time.Since(begin)
	return e, ctx.Err()
}

// planned is the pid of a target of a plan.
func (c *Collector) planned(target string) (int, error) {
	pid, err := strconv.Atoi(target)
	if err != nil {
		u, err := parseTarget(target)
		if err != nil {
			return 0, err
		}
		if pid = c.owner(&url.URL{Scheme: u.Scheme, Host: u.Host}); pid == 0 {
			return 0, &Error{fmt.Errorf("the process that serves %s was not found on this machine", u.Host), "limits are those of a machine: run this on the server's, as its user or as root, or give its pid"}
		}
		return pid, nil
	}
	if _, err := sys.ReadProcess(c.Root, pid); err != nil || pid <= 0 {
		return 0, &Error{fmt.Errorf("there is no process %d", pid), "give the pid of the server, or no target to plan for one that is not running yet"}
	}
	return pid, nil
}

// planLongwire is what a Longwire server would do with such limits: it spreads connections over descriptor tables where one is too small.
func (c *Collector) planLongwire(p *Plan, d *limits.Demand, h *limits.Have) {
	d.PerConn = kernelConnBytes + 200
	cpus := runtime.GOMAXPROCS(0)
	// Go raises the soft limit to the hard one by itself.
	h.Descriptors = max(h.Descriptors, h.DescriptorsAtMost)
	y, err := loop.Plan(int(d.Conns), 0, loop.TableAuto, int(min(h.DescriptorsAtMost, 1<<30)), cpus)
	switch {
	case err != nil || h.DescriptorsAtMost == 0:
		p.Assumed = append(p.Assumed, "a Longwire server with one descriptor table")
		y.MaxLoops = cpus
	case y.Private:
		d.Tables = uint64(y.MaxLoops)
		p.Assumed = append(p.Assumed, fmt.Sprintf("a Longwire server with %d loops, each with a descriptor table of its own, so that the limit of open files holds for each", y.MaxLoops))
	default:
		p.Assumed = append(p.Assumed, fmt.Sprintf("a Longwire server with %d loops and one descriptor table", y.MaxLoops))
	}
	d.Listeners, d.Backlog = uint64(cpus), 65535
	d.Threads = uint64(y.MaxLoops + 20)
	d.Maps = uint64(100 + 10*y.MaxLoops)
	p.Assumed = append(p.Assumed, fmt.Sprintf("each connection takes %d bytes, nearly all of the kernel", d.PerConn))
}

// have reads the limits, of a process or of what would be started here. group says in words what its cgroup allows.
func (c *Collector) have(pid int) (h limits.Have, group string) {
	number := func(name string) uint64 {
		b, err := readBounded(c.Root, name, 64)
		if err != nil {
			return 0
		}
		n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // "max" is none
		return n
	}
	h.Net = sys.ReadNetLimits(c.Root)
	if n, err := sys.NetworkOf(pid); pid > 0 && err == nil {
		machine := h.Net
		if n.Do(func() error { h.Net = sys.ReadNetLimits(c.Root); return nil }) != nil {
			h.Net = machine
		}
		_ = n.Close()
		h.Net.MemoryPages, h.Net.MaxOrphans = machine.MemoryPages, machine.MaxOrphans // a namespace does not show them
	}
	dir := "proc/self"
	if pid > 0 {
		dir = path.Join("proc", strconv.Itoa(pid))
	}
	h.Descriptors, h.DescriptorsAtMost = openFiles(c.Root, dir)
	h.PageSize = uint64(os.Getpagesize())
	h.Memory = availableMemory(c.Root)
	h.Watches = number("proc/sys/fs/epoll/max_user_watches")
	h.Maps = number("proc/sys/vm/max_map_count")
	if most := min(cmp.Or(number("proc/sys/kernel/threads-max"), 1<<40), cmp.Or(number("proc/sys/kernel/pid_max"), 1<<40)); most < 1<<40 {
		h.Threads = most - min(most-1, tasks(c.Root))
	}
	if g := sampleGroup(c.Root, dir); g.Limit > 0 {
		h.GroupMemory = g.Limit - min(g.Limit-1, g.Current-min(g.Current, g.File))
		group = fmt.Sprintf("its cgroup allows %s, of which %s are used beside the page cache", bytesText(float64(g.Limit)), bytesText(float64(g.Current-min(g.Current, g.File))))
	}
	for _, at := range groupDirs(c.Root, dir) {
		if most := number(path.Join(at, "pids.max")); most > 0 {
			left := most - min(most-1, number(path.Join(at, "pids.current")))
			if h.GroupThreads == 0 || left < h.GroupThreads {
				h.GroupThreads = left
			}
		}
	}
	return h, group
}

// availableMemory is what the machine could give, proc_meminfo(5); a cgroup's limit is another. It is 0 where it is not known.
func availableMemory(root fs.FS) uint64 {
	b, err := readBounded(root, "proc/meminfo", 64<<10)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			n, _ := strconv.ParseUint(f[1], 10, 50)
			return n << 10
		}
	}
	return 0
}

// openFiles are the soft and the hard limit of proc_pid_limits(5), 0 where they are not known.
func openFiles(root fs.FS, dir string) (soft, hard uint64) {
	b, err := readBounded(root, path.Join(dir, "limits"), 64<<10)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			f := strings.Fields(rest)
			if len(f) < 2 {
				return 0, 0
			}
			soft, _ = strconv.ParseUint(f[0], 10, 62)
			hard, _ = strconv.ParseUint(f[1], 10, 62)
		}
	}
	return soft, hard
}

// tasks is how many threads the machine has, by proc_loadavg(5).
func tasks(root fs.FS) uint64 {
	b, err := readBounded(root, "proc/loadavg", 256)
	if err != nil {
		return 0
	}
	if f := strings.Fields(string(b)); len(f) > 3 {
		_, all, _ := strings.Cut(f[3], "/")
		n, _ := strconv.ParseUint(all, 10, 40)
		return n
	}
	return 0
}

// groupDirs are the directories of a process's cgroup that may bound its threads: version 2's and those above it, version 1's pids.
func groupDirs(root fs.FS, dir string) (dirs []string) {
	b, err := readBounded(root, path.Join(dir, "cgroup"), 64<<10)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		base := ""
		switch {
		case parts[0] == "0" && parts[1] == "":
			base = "sys/fs/cgroup"
		case parts[1] == "pids":
			base = "sys/fs/cgroup/pids"
		default:
			continue
		}
		at := path.Join(base, parts[2])
		for strings.HasPrefix(at, base) {
			dirs = append(dirs, at)
			if at == base {
				break
			}
			at = path.Dir(at)
		}
	}
	return dirs
}

// listeners are the TCP sockets that a process listens on, in its network namespace.
func (c *Collector) listeners(pid int) (list []sys.Listener) {
	all, own := listening(c.Root, pid)
	i := slices.IndexFunc(all, func(l sys.Listener) bool { return own[l.Inode] })
	if i < 0 {
		return nil
	}
	look := func() error {
		d, err := sys.OpenDiag()
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		list, err = d.Listeners(all[i].Addr.Port())
		return err
	}
	n, err := sys.NetworkOf(pid)
	if err != nil {
		return nil
	}
	defer func() { _ = n.Close() }()
	if n.Do(look) != nil {
		return nil
	}
	return list
}

func needText(l limits.Limit) string {
	if strings.HasPrefix(l.Name, "memory") {
		return fmt.Sprintf("needs %s, there are %s", bytesText(float64(l.Need)), bytesText(float64(l.Have)))
	}
	return fmt.Sprintf("needs %d, there are %d", l.Need, l.Have)
}

// steps are the limits, each with what is needed of it.
func (p *Plan) steps() (list []Step) {
	for _, l := range p.Limits {
		list = append(list, Step{Name: l.Name, Value: needText(l)})
	}
	return list
}
