package sys

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// NetCounters are the kernel's TCP figures for one network namespace. Those of the first group only grow
// (proc_pid_net(5), RFC 4022 for those of /proc/net/snmp); those of the second are how many there are now.
// What a kernel does not count is 0.
type NetCounters struct {
	ActiveOpens      uint64 // connects begun
	PassiveOpens     uint64 // conns accepted by a listener's queue
	AttemptFails     uint64 // that ended before they stood
	EstabResets      uint64 // conns that stood and ended by a reset, either side's
	OutResets        uint64 // resets sent
	RetransSegs      uint64 // segments sent again, SYNs included
	SynRetrans       uint64 // SYNs and SYN-ACKs sent again
	Timeouts         uint64 // retransmission timers that ran out
	ListenOverflows  uint64 // times that an accept queue was full: a SYN, or the last ACK of a handshake
	ListenDrops      uint64 // SYNs dropped by a listener, for that reason or another
	SynQueueDrops    uint64 // SYNs dropped because the queue of half-open conns was full (TCPReqQFullDrop)
	SynCookies       uint64 // and those answered by a cookie for that reason (TCPReqQFullDoCookies)
	MemoryPressures  uint64 // times that TCP entered memory pressure (tcp_mem)
	AbortsOnMemory   uint64 // conns reset since memory or the bound of orphans was used up
	AbortsOnTimeout  uint64
	TimeWaitOverflow uint64 // TIME_WAIT sockets that were not kept (tcp_max_tw_buckets)

	Established uint64 // with those in CLOSE_WAIT; of IPv4 and IPv6
	InUse       uint64 // sockets of IPv4 and IPv6, those in TIME_WAIT not counted
	TimeWait    uint64
	Orphans     uint64 // without a process; of the whole machine
	MemoryPages uint64 // of buffers; of the whole machine
}

// ReadNetCounters reads the counters of the network namespace of process pid, or of the calling thread if pid is 0.
// root is the file system, os.DirFS("/") but in tests. The error is fs.ErrNotExist where there is no such process
// or no such system.
func ReadNetCounters(root fs.FS, pid int) (NetCounters, error) {
	var c NetCounters
	dir := path.Join(procDir(pid), "net")
	for _, f := range []struct {
		name  string
		parse func(*NetCounters, string)
		must  bool
	}{
		{"netstat", (*NetCounters).table, true},
		{"snmp", (*NetCounters).table, true},
		{"sockstat", (*NetCounters).pairs, true},
		{"sockstat6", (*NetCounters).pairs, false}, // a kernel without IPv6 has none
	} {
		b, err := fs.ReadFile(root, path.Join(dir, f.name))
		if err == nil {
			f.parse(&c, string(b))
		} else if f.must {
			return NetCounters{}, fmt.Errorf("read the kernel's counters: %w", err)
		}
	}
	return c, nil
}

// procDir is the directory of a process. The namespace of /proc/self is that of the first thread, which may be
// another than the calling one's.
func procDir(pid int) string {
	if pid == 0 {
		return "proc/thread-self"
	}
	return path.Join("proc", strconv.Itoa(pid))
}

// field is where a counter of /proc/net/netstat or /proc/net/snmp belongs; nil for one that is of no use here.
func (c *NetCounters) field(group, name string) *uint64 {
	switch group + " " + name {
	case "Tcp: ActiveOpens":
		return &c.ActiveOpens
	case "Tcp: PassiveOpens":
		return &c.PassiveOpens
	case "Tcp: AttemptFails":
		return &c.AttemptFails
	case "Tcp: EstabResets":
		return &c.EstabResets
	case "Tcp: OutRsts":
		return &c.OutResets
	case "Tcp: RetransSegs":
		return &c.RetransSegs
	case "Tcp: CurrEstab":
		return &c.Established
	case "TcpExt: TCPSynRetrans":
		return &c.SynRetrans
	case "TcpExt: TCPTimeouts":
		return &c.Timeouts
	case "TcpExt: ListenOverflows":
		return &c.ListenOverflows
	case "TcpExt: ListenDrops":
		return &c.ListenDrops
	case "TcpExt: TCPReqQFullDrop":
		return &c.SynQueueDrops
	case "TcpExt: TCPReqQFullDoCookies":
		return &c.SynCookies
	case "TcpExt: TCPMemoryPressures":
		return &c.MemoryPressures
	case "TcpExt: TCPAbortOnMemory":
		return &c.AbortsOnMemory
	case "TcpExt: TCPAbortOnTimeout":
		return &c.AbortsOnTimeout
	case "TcpExt: TCPTimeWaitOverflow":
		return &c.TimeWaitOverflow
	}
	return nil
}

// table reads pairs of lines: the names of a group, and their values. Values without a name, and names without a
// value, are passed over.
func (c *NetCounters) table(text string) {
	group, names := "", []string(nil)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if f[0] != group || names == nil {
			group, names = f[0], f[1:]
			continue
		}
		for i, v := range f[1:min(len(f), len(names)+1)] {
			if to := c.field(group, names[i]); to != nil {
				*to, _ = strconv.ParseUint(v, 10, 64)
			}
		}
		names = nil
	}
}

// pairs reads lines of a group and pairs of name and value, as in /proc/net/sockstat.
func (c *NetCounters) pairs(text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" && f[0] != "TCP6:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			n, _ := strconv.ParseUint(f[i+1], 10, 64)
			switch {
			case f[i] == "inuse":
				c.InUse += n
			case f[0] == "TCP6:":
			case f[i] == "orphan":
				c.Orphans = n
			case f[i] == "tw": // IPv6 included
				c.TimeWait = n
			case f[i] == "mem":
				c.MemoryPages = n
			}
		}
	}
}

// NetLimits are the settings that bound connections, of one network namespace and of the machine it is on. A bound
// that is not known, or that the namespace may not see, is 0.
type NetLimits struct {
	Somaxconn       uint64 // the longest accept queue, whatever a listener asks for
	SynBacklog      uint64 // tcp_max_syn_backlog
	SynCookies      uint64 // 0: off, 1: when the queue is full, 2: always
	SynRetries      uint64
	AbortOnOverflow bool // a full accept queue answers by a reset
	PortLow         uint64
	PortHigh        uint64
	ReservedPorts   uint64    // between them, that are not for conns
	TimeWaitReuse   uint64    // tcp_tw_reuse: 0 never, 1 always, 2 on loopback
	MaxTimeWait     uint64    // tcp_max_tw_buckets
	MaxOrphans      uint64    // tcp_max_orphans
	MemoryPages     [3]uint64 // tcp_mem: below it none is scarce, pressure, the most
	ConntrackMax    uint64
	Conntracked     uint64 // now; 0 where nothing is tracked
	FileMax         uint64 // open files of the machine
	Files           uint64 // now
	NrOpen          uint64 // the highest RLIMIT_NOFILE that may be set
}

// Ports is how many local ports a conn may get by itself.
func (l NetLimits) Ports() uint64 {
	if l.PortHigh < l.PortLow || l.PortHigh == 0 {
		return 0
	}
	n := l.PortHigh - l.PortLow + 1
	return n - min(n, l.ReservedPorts)
}

// ReadNetLimits reads the settings as the calling thread's network namespace has them; Network.Do reads another's.
// root is the file system, os.DirFS("/") but in tests.
func ReadNetLimits(root fs.FS) NetLimits {
	read := func(name string, to ...*uint64) {
		b, err := fs.ReadFile(root, path.Join("proc/sys", name))
		if err != nil {
			return
		}
		for i, v := range strings.Fields(string(b)) {
			if i < len(to) && to[i] != nil {
				*to[i], _ = strconv.ParseUint(v, 10, 64)
			}
		}
	}
	var l NetLimits
	var abort uint64
	read("net/core/somaxconn", &l.Somaxconn)
	read("net/ipv4/tcp_max_syn_backlog", &l.SynBacklog)
	read("net/ipv4/tcp_syncookies", &l.SynCookies)
	read("net/ipv4/tcp_syn_retries", &l.SynRetries)
	read("net/ipv4/tcp_abort_on_overflow", &abort)
	l.AbortOnOverflow = abort > 0
	read("net/ipv4/ip_local_port_range", &l.PortLow, &l.PortHigh)
	read("net/ipv4/tcp_tw_reuse", &l.TimeWaitReuse)
	read("net/ipv4/tcp_max_tw_buckets", &l.MaxTimeWait)
	read("net/ipv4/tcp_max_orphans", &l.MaxOrphans)
	read("net/ipv4/tcp_mem", &l.MemoryPages[0], &l.MemoryPages[1], &l.MemoryPages[2])
	read("net/netfilter/nf_conntrack_max", &l.ConntrackMax)
	read("net/netfilter/nf_conntrack_count", &l.Conntracked)
	read("fs/file-max", &l.FileMax)
	read("fs/file-nr", &l.Files)
	read("fs/nr_open", &l.NrOpen)
	if b, err := fs.ReadFile(root, "proc/sys/net/ipv4/ip_local_reserved_ports"); err == nil {
		l.ReservedPorts = reservedPorts(string(b), l.PortLow, l.PortHigh)
	}
	return l
}

// reservedPorts counts those of a list like "8080,9000-9010" that are between low and high.
func reservedPorts(list string, low, high uint64) (n uint64) {
	for r := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		from, to, isRange := strings.Cut(r, "-")
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(to, 10, 16); err != nil {
				continue
			}
		}
		if a, b = max(a, low), min(b, high); a <= b {
			n += b - a + 1
		}
	}
	return n
}
