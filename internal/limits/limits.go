// Package limits holds what a number of connections needs against what a system allows: before a load is put on a server
// (stress), and before a server is given a number of connections (doctor).
package limits

import (
	"fmt"
	"slices"

	"github.com/longwire/longwire/internal/sys"
)

// Demand is what conns need. What is zero is not checked.
type Demand struct {
	Conns uint64 // at a time
	// Server says that the conns are accepted here. Otherwise they are dialled from here.
	Server bool
	// Burst is how many conns are begun at once.
	Burst uint64
	// PerConn is the bytes of memory that a conn needs here, both ends if Local; Queued those of them that wait in a
	// socket's buffers.
	PerConn, Queued uint64
	// Tables is how many descriptor tables the conns are spread over; zero means 1.
	Tables uint64
	// Backlog is what the server asks for on each of Listeners; zero is not known, and one listener.
	Backlog, Listeners uint64

	// Of dialled conns.

	Sources uint64 // local addresses; zero means 1
	Targets uint64 // addresses and ports that are dialled; zero means 1
	Churn   uint64 // conns a second that this side closes, which leaves them in TIME_WAIT
	// Local says that the server is on this machine: its end counts too.
	Local bool
	// Loopback says that conns do not leave the machine, so that TIME_WAIT is reused sooner.
	Loopback bool

	// Of accepted conns.

	Proxies uint64 // addresses that all of them come from; zero says that clients come by themselves
	Threads uint64 // of the server
	Maps    uint64 // areas of memory of the server
}

// Have is what there is. What is zero is not known, and no limit.
type Have struct {
	Net                            sys.NetLimits
	Descriptors, DescriptorsAtMost uint64 // RLIMIT_NOFILE, soft and hard
	Memory                         uint64 // bytes that are free
	GroupMemory                    uint64 // and of them in the cgroup
	PageSize                       uint64
	Watches                        uint64 // fs.epoll.max_user_watches
	Maps                           uint64 // vm.max_map_count
	Threads                        uint64 // that there may be more, by kernel.threads-max
	GroupThreads                   uint64 // and in the cgroup, by pids.max
}

// Limit is one of them, and what is needed of it.
type Limit struct {
	Name       string // such as net.ipv4.ip_local_port_range
	Need, Have uint64
	Fatal      bool   // beyond it the number cannot be reached; otherwise conns may be lost on the way
	Says       string // the sentence
	Lift       string // the sysctl or flag that lifts it
}

// Broken says whether more is needed than there is.
func (l *Limit) Broken() bool { return l.Need > l.Have }

// Check lists the limits that stand in the way, the fatal ones first.
func Check(d Demand, h Have) []Limit {
	list := slices.DeleteFunc(All(d, h), func(l Limit) bool { return !l.Broken() })
	slices.SortStableFunc(list, func(a, b Limit) int {
		switch {
		case a.Fatal == b.Fatal:
			return 0
		case a.Fatal:
			return -1
		}
		return 1
	})
	return list
}

// All lists the limits that are known and that something is needed of.
func All(d Demand, h Have) []Limit {
	c := comparison{d: d, h: h}
	if d.Server {
		c.proxies()
	} else {
		c.ports()
	}
	c.descriptors()
	c.memory()
	c.tracking()
	if d.Local || d.Server {
		c.queues()
	}
	if d.Server {
		c.process()
	}
	return c.list
}

// comparison is one run of All.
type comparison struct {
	d    Demand
	h    Have
	list []Limit
}

func (c *comparison) add(name string, fatal bool, need, have uint64, lift, format string, args ...any) {
	if have > 0 && need > 0 {
		c.list = append(c.list, Limit{name, need, have, fatal, fmt.Sprintf(format, args...), lift})
	}
}

const mostPorts = 65535 - 1024 + 1 // that can be had

// ports are those of the side that dials.
func (c *comparison) ports() {
	d, n := c.d, c.h.Net
	sources, targets := max(d.Sources, 1), max(d.Targets, 1)
	ports, need := n.Ports()*sources*targets, d.Conns
	text := fmt.Sprintf("%d conns from %s to %s have %d local ports", d.Conns, count(sources, "address", "addresses"), count(targets, "target", "targets"), ports)
	if d.Churn > 0 {
		rests := uint64(60) // TCP_TIMEWAIT_LEN, which no setting changes
		if n.TimeWaitReuse == 1 || n.TimeWaitReuse == 2 && d.Loopback {
			rests = 1
		}
		need += d.Churn * rests
		text += fmt.Sprintf(", and %d closed a second keep theirs for %d s", d.Churn, rests)
	}
	lift := fmt.Sprintf("--source-addrs with %d addresses, or sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"", (need+max(n.Ports()*targets, 1)-1)/max(n.Ports()*targets, 1))
	if need > mostPorts*sources*targets {
		lift = fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" and --source-addrs with %d addresses", (need+mostPorts*targets-1)/(mostPorts*targets))
	}
	c.add("net.ipv4.ip_local_port_range", true, need, ports, lift, "%s", text)
}

// proxies dial from few addresses what clients would from many: ports run out there, not here.
func (c *comparison) proxies() {
	d := c.d
	if d.Proxies == 0 {
		return
	}
	ports := c.h.Net.Ports()
	each := (d.Conns + d.Proxies - 1) / d.Proxies
	lift := "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" on the proxies"
	if each > mostPorts {
		lift += fmt.Sprintf(", and %d addresses of proxies or as many ports of the server", (d.Conns+mostPorts-1)/mostPorts)
	}
	c.add("net.ipv4.ip_local_port_range", true, each, ports, lift,
		"%d conns through %s are %d from each, and to one port of the server each has %d local ports, if its range is as here", d.Conns, count(d.Proxies, "address of a proxy", "addresses of proxies"), each, ports)
}

const ownDescriptors = 64 // that are no conns

func (c *comparison) descriptors() {
	d, h, n := c.d, c.h, c.h.Net
	if d.Conns == 0 {
		return
	}
	tables, ends := max(d.Tables, 1), uint64(1)
	if d.Local {
		ends = 2
	}
	inTable := (d.Conns+tables-1)/tables + ownDescriptors
	text := fmt.Sprintf("%d conns over %s need %d descriptors in each", d.Conns, count(tables, "descriptor table", "descriptor tables"), inTable)
	switch {
	case h.DescriptorsAtMost > 0 && inTable > h.DescriptorsAtMost:
		lift := fmt.Sprintf("ulimit -Hn %d (LimitNOFILE=)", inTable)
		if n.NrOpen > 0 && inTable > n.NrOpen {
			lift = fmt.Sprintf("sysctl -w fs.nr_open=%d, then ", inTable) + lift
		}
		c.add("RLIMIT_NOFILE (hard)", true, inTable, h.DescriptorsAtMost, lift, "%s, the hard limit is %d", text, h.DescriptorsAtMost)
	default:
		c.add("RLIMIT_NOFILE", true, inTable, h.Descriptors, fmt.Sprintf("ulimit -n %d", inTable), "%s, the limit is %d", text, h.Descriptors)
	}
	files := n.Files + d.Conns*ends + ownDescriptors
	c.add("fs.file-max", true, files, n.FileMax, fmt.Sprintf("sysctl -w fs.file-max=%d", files/4*5),
		"%d conns need %d open files on this machine, which has %d of at most %d", d.Conns, d.Conns*ends, n.Files, n.FileMax)
}

func (c *comparison) memory() {
	d, h := c.d, c.h
	lift := "fewer conns (--max-conns), or a machine or cgroup with more memory"
	if d.Server {
		lift = "fewer conns, less memory for each, or a machine with more"
	}
	c.add("memory", true, d.Conns*d.PerConn, h.Memory, lift, "%d conns need about %d MiB, and %d MiB are free", d.Conns, d.Conns*d.PerConn>>20, h.Memory>>20)
	c.add("memory of the cgroup", true, d.Conns*d.PerConn, h.GroupMemory, fmt.Sprintf("memory.max of the cgroup (MemoryMax=, limits.memory) raised by %d MiB", (max(d.Conns*d.PerConn, h.GroupMemory)-h.GroupMemory)>>20),
		"%d conns need about %d MiB, sockets counted, and the cgroup has %d MiB left", d.Conns, d.Conns*d.PerConn>>20, h.GroupMemory>>20)
	if page := h.PageSize; page > 0 && d.Queued > 0 {
		need := d.Conns * ((d.Queued + page - 1) / page)
		c.add("net.ipv4.tcp_mem", false, need, h.Net.MemoryPages[1], fmt.Sprintf("sysctl -w net.ipv4.tcp_mem=\"%d %d %d\"", need, need/2*3, need*2),
			"%d bytes in the buffers of each of %d conns are %d pages, and TCP saves memory from %d", d.Queued, d.Conns, need, h.Net.MemoryPages[1])
	}
}

func (c *comparison) tracking() {
	d, n := c.d, c.h.Net
	if n.Conntracked == 0 { // the module may be there without a rule that makes it track anything
		return
	}
	entries := n.Conntracked + d.Conns + d.Churn*120 // its timeout for TIME_WAIT
	c.add("net.netfilter.nf_conntrack_max", true, entries, n.ConntrackMax, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, or a NOTRACK rule", entries/4*5),
		"connection tracking has %d of %d entries, and it takes %d more", n.Conntracked, n.ConntrackMax, entries-n.Conntracked)
}

// queues are those of the listener.
func (c *comparison) queues() {
	d, n := c.d, c.h.Net
	listeners := max(d.Listeners, 1)
	burst := (d.Burst + listeners - 1) / listeners
	each := ""
	if listeners > 1 {
		each = fmt.Sprintf(" over %d listeners", listeners)
	}
	c.add("net.core.somaxconn", false, burst, n.Somaxconn, fmt.Sprintf("sysctl -w net.core.somaxconn=%d, and a server that asks for it", burst),
		"%d conns are begun at once%s, and an accept queue holds %d at most", d.Burst, each, n.Somaxconn)
	if burst <= n.Somaxconn || n.Somaxconn == 0 {
		c.add("the server's backlog", false, burst, d.Backlog, fmt.Sprintf("a listen call with a backlog of %d", burst),
			"%d conns are begun at once%s, and the server's accept queue holds %d", d.Burst, each, d.Backlog)
	}
	if n.SynCookies == 0 { // with cookies, a full queue of half-open conns does not matter
		c.add("net.ipv4.tcp_max_syn_backlog", false, d.Burst, n.SynBacklog/4*3, fmt.Sprintf("sysctl -w net.ipv4.tcp_max_syn_backlog=%d, or net.ipv4.tcp_syncookies=1", d.Burst/3*4+4),
			"%d conns are begun at once, and of %d half-open ones three quarters are for strangers", d.Burst, n.SynBacklog)
	}
}

// process are what the server's process may have beside descriptors.
func (c *comparison) process() {
	d, h := c.d, c.h
	c.add("fs.epoll.max_user_watches", true, d.Conns, h.Watches, fmt.Sprintf("sysctl -w fs.epoll.max_user_watches=%d", d.Conns/4*5),
		"an epoll server watches %d sockets, and one user may watch %d", d.Conns, h.Watches)
	c.add("vm.max_map_count", true, d.Maps, h.Maps, fmt.Sprintf("sysctl -w vm.max_map_count=%d", d.Maps*2),
		"the server has about %d areas of memory, and a process may have %d", d.Maps, h.Maps)
	c.add("kernel.threads-max", true, d.Threads, h.Threads, fmt.Sprintf("sysctl kernel.threads-max, raised by %d", d.Threads),
		"the server has about %d threads, and the machine may have %d more", d.Threads, h.Threads)
	c.add("pids.max of the cgroup", true, d.Threads, h.GroupThreads, fmt.Sprintf("pids.max of the cgroup (TasksMax=) raised by %d", d.Threads),
		"the server has about %d threads, and its cgroup may have %d more", d.Threads, h.GroupThreads)
}

// count is a number and its noun.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
