package avalanche

import (
	"fmt"
	"slices"

	"github.com/longwire/longwire/internal/sys"
)

// Demand is what a run needs. What is zero is not checked.
type Demand struct {
	Conns   uint64 // at a time
	Sources uint64 // local addresses; zero means 1
	Targets uint64 // addresses and ports that are dialled; zero means 1
	Churn   uint64 // conns a second that this side closes, which leaves them in TIME_WAIT
	Burst   uint64 // conns that are begun at once
	// Local says that the server is on this machine: its end counts too.
	Local bool
	// Loopback says that conns do not leave the machine, so that TIME_WAIT is reused sooner.
	Loopback bool
	// PerConn is the bytes of memory that a conn needs here, both ends if Local; Queued those of them that wait in a
	// socket's buffers.
	PerConn, Queued uint64
	// Tables is how many descriptor tables the conns are spread over; zero means 1. Backlog is what the server asks for;
	// zero is not known.
	Tables, Backlog uint64
}

// Have is what there is.
type Have struct {
	Net                            sys.NetLimits
	Descriptors, DescriptorsAtMost uint64 // RLIMIT_NOFILE, soft and hard
	Memory                         uint64 // bytes that are free
	PageSize                       uint64
}

// Finding is a limit that a run would hit.
type Finding struct {
	Limit      string // its name: "net.ipv4.ip_local_port_range"
	Need, Have uint64
	Fatal      bool   // the run can't reach what it asks for; otherwise it may lose conns on the way
	Says       string // the sentence
	Lift       string // the sysctl or flag that lifts it
}

// Check lists the limits that stand in the way of a run, the fatal ones first. What is not known is not a limit.
func Check(d Demand, h Have) []Finding {
	var list []Finding
	add := func(limit string, fatal bool, need, have uint64, lift, format string, args ...any) {
		if have > 0 && need > have {
			list = append(list, Finding{limit, need, have, fatal, fmt.Sprintf(format, args...), lift})
		}
	}
	n := h.Net
	sources, targets, tables := max(d.Sources, 1), max(d.Targets, 1), max(d.Tables, 1)
	ends := uint64(1)
	if d.Local {
		ends = 2
	}

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
	// Sources that are needed with all ports that can be had.
	const most = 65535 - 1024 + 1
	lift := fmt.Sprintf("--source-addrs with %d addresses, or sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"", (need+max(n.Ports()*targets, 1)-1)/max(n.Ports()*targets, 1))
	if need > most*sources*targets {
		lift = fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" and --source-addrs with %d addresses", (need+most*targets-1)/(most*targets))
	}
	add("net.ipv4.ip_local_port_range", true, need, ports, lift, "%s", text)

	const own = 64 // descriptors that are no conns
	inTable := (d.Conns+tables-1)/tables + own
	text = fmt.Sprintf("%d conns over %s need %d descriptors in each", d.Conns, count(tables, "descriptor table", "descriptor tables"), inTable)
	switch {
	case h.DescriptorsAtMost > 0 && inTable > h.DescriptorsAtMost:
		lift := fmt.Sprintf("ulimit -Hn %d (LimitNOFILE=)", inTable)
		if n.NrOpen > 0 && inTable > n.NrOpen {
			lift = fmt.Sprintf("sysctl -w fs.nr_open=%d, then ", inTable) + lift
		}
		add("RLIMIT_NOFILE (hard)", true, inTable, h.DescriptorsAtMost, lift, "%s, the hard limit is %d", text, h.DescriptorsAtMost)
	default:
		add("RLIMIT_NOFILE", true, inTable, h.Descriptors, fmt.Sprintf("ulimit -n %d", inTable), "%s, the limit is %d", text, h.Descriptors)
	}
	add("fs.file-max", true, n.Files+d.Conns*ends+own, n.FileMax, fmt.Sprintf("sysctl -w fs.file-max=%d", (n.Files+d.Conns*ends+own)/4*5),
		"%d conns need %d open files on this machine, which has %d of at most %d", d.Conns, d.Conns*ends, n.Files, n.FileMax)

	add("memory", true, d.Conns*d.PerConn, h.Memory, "fewer conns (--max-conns), or a machine or cgroup with more memory",
		"%d conns need about %d MiB, and %d MiB are free", d.Conns, d.Conns*d.PerConn>>20, h.Memory>>20)
	if page := h.PageSize; page > 0 && d.Queued > 0 {
		need := d.Conns * ((d.Queued + page - 1) / page)
		add("net.ipv4.tcp_mem", false, need, n.MemoryPages[1], fmt.Sprintf("sysctl -w net.ipv4.tcp_mem=\"%d %d %d\"", need, need/2*3, need*2),
			"%d bytes in the buffers of each of %d conns are %d pages, and TCP saves memory from %d", d.Queued, d.Conns, need, n.MemoryPages[1])
	}

	if n.Conntracked > 0 { // the module may be there without a rule that makes it track anything
		entries := n.Conntracked + d.Conns + d.Churn*120 // its timeout for TIME_WAIT
		add("net.netfilter.nf_conntrack_max", true, entries, n.ConntrackMax, fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, or a NOTRACK rule", entries/4*5),
			"connection tracking has %d of %d entries, and the run needs %d more", n.Conntracked, n.ConntrackMax, entries-n.Conntracked)
	}

	if d.Local {
		add("net.core.somaxconn", false, d.Burst, n.Somaxconn, fmt.Sprintf("sysctl -w net.core.somaxconn=%d, and a server that asks for it", d.Burst),
			"%d conns are begun at once, and an accept queue holds %d at most", d.Burst, n.Somaxconn)
		if d.Burst <= n.Somaxconn {
			add("the server's backlog", false, d.Burst, d.Backlog, fmt.Sprintf("a listen call with a backlog of %d", d.Burst),
				"%d conns are begun at once, and the server's accept queue holds %d", d.Burst, d.Backlog)
		}
		if n.SynCookies == 0 { // with cookies, a full queue of half-open conns does not matter
			add("net.ipv4.tcp_max_syn_backlog", false, d.Burst, n.SynBacklog/4*3, fmt.Sprintf("sysctl -w net.ipv4.tcp_max_syn_backlog=%d, or net.ipv4.tcp_syncookies=1", d.Burst/3*4+4),
				"%d conns are begun at once, and of %d half-open ones three quarters are for strangers", d.Burst, n.SynBacklog)
		}
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
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

// count is a number and its noun.
func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
