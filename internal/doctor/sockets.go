package doctor

import (
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/longwire/longwire/internal/sys"
)

// NetworkSample is the TCP of a process at one moment, and that of its network namespace as far as it may be the process's.
type NetworkSample struct {
	Listeners []ListenerSample // the process's own
	// Dialled is how many connections the process has open to each address that it dialled.
	Dialled map[netip.AddrPort]int
	// Spent is how many connections in TIME_WAIT hold a local port, by the address to which they were dialled. Who in the namespace dialled
	// them the kernel does not know any more.
	Spent map[netip.AddrPort]int
	// Shared are those of Spent to which other processes have connections open that they dialled.
	Shared map[netip.AddrPort]bool
	// Counters of the namespace, which only grow.
	Overflows     uint64 // times that an accept queue was full
	SynCookies    uint64 // handshakes answered by a cookie, since too many were half-open
	SynQueueDrops uint64 // and those dropped for that reason
}

// ListenerSample is one listening socket.
type ListenerSample struct {
	Addr       netip.AddrPort
	Inode      uint64
	Queue      int // connections that wait to be accepted
	HalfOpen   int // whose handshake is not over
	Unanswered int // of them, those whose SYN-ACK was sent again
}

// serves says whether a connection to addr comes to this listener, if it comes to its machine.
func (l ListenerSample) serves(addr netip.AddrPort) bool {
	a := l.Addr.Addr()
	return l.Addr.Port() == addr.Port() && (a.IsUnspecified() && (a.Is6() || addr.Addr().Is4()) || a == addr.Addr())
}

// NetworkSettings are what bounds the connections of a process's network namespace. What is not known is 0 or nil.
type NetworkSettings struct {
	Ports         uint64            // local ports that a connection may get by itself
	TimeWaitReuse uint64            // tcp_tw_reuse: 0 never, 1 always, 2 on loopback
	Backlogs      map[uint64]uint32 // the longest accept queue of each listener, by inode
}

// socketStates are the names of the numbers in /proc/net/tcp.
var socketStates = [...]string{1: "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"}

// tableSocket is a line of /proc/net/tcp or tcp6.
type tableSocket struct {
	local, remote netip.AddrPort
	state         string
	queue         int    // of a listener: connections that wait to be accepted
	again         int    // of a half-open one: how often its SYN-ACK was sent again
	inode         string // "0" for one that no process has
}

// parseSockets reads a table of sockets as the kernel writes it; lines that are none are passed over. b is not retained.
func parseSockets(b []byte) (list []tableSocket) {
	for line := range strings.Lines(string(b)) {
		// number, local, remote, state, queues, timer, retransmits, user, timeout, inode
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		local, ok := parseSocketAddr(f[1])
		remote, ok2 := parseSocketAddr(f[2])
		n, err := strconv.ParseUint(f[3], 16, 8)
		if !ok || !ok2 || err != nil || n == 0 || int(n) >= len(socketStates) {
			continue
		}
		s := tableSocket{local: local, remote: remote, state: socketStates[n], inode: f[9]}
		switch s.state {
		case "LISTEN":
			_, queue, _ := strings.Cut(f[4], ":")
			n, _ := strconv.ParseUint(queue, 16, 31)
			s.queue = int(n)
		case "SYN_RECV":
			n, _ := strconv.ParseUint(f[6], 16, 31)
			s.again = int(n)
		}
		list = append(list, s)
	}
	return list
}

// fewSockets are so many that a process's descriptors can be looked at twice.
const fewSockets = 1000

// network sorts the sockets of the process's own network namespace, so that it serves for containers too. inodes are those of the process.
func (s *ProcessSample) network(root fs.FS, pid int, inodes map[string]bool) {
	dir := path.Join("proc", strconv.Itoa(pid))
	var all []tableSocket
	for _, name := range []string{"tcp", "tcp6"} {
		if b, err := readBounded(root, path.Join(dir, "net", name), mostSocketTable); err == nil {
			all = append(all, parseSockets(b)...)
		}
	}
	s.Sockets = map[string]int{}
	s.Network = NetworkSample{Dialled: map[netip.AddrPort]int{}, Spent: map[netip.AddrPort]int{}, Shared: map[netip.AddrPort]bool{}}
	others := map[netip.AddrPort]bool{}
	listened := map[uint16]bool{} // by whomever
	ours := map[uint16][]int{}    // our listeners by port
	for _, t := range all {
		if inodes[t.inode] {
			s.Sockets[t.state]++
		}
		if t.state != "LISTEN" {
			continue
		}
		port := t.local.Port()
		listened[port] = true
		if inode, err := strconv.ParseUint(t.inode, 10, 64); err == nil && inodes[t.inode] {
			ours[port] = append(ours[port], len(s.Network.Listeners))
			s.Network.Listeners = append(s.Network.Listeners, ListenerSample{Addr: t.local, Inode: inode, Queue: t.queue})
		}
	}
	if len(inodes) <= fewSockets {
		// Reading the tables takes longer than some connections live: those that were opened meanwhile are the process's too.
		var after ProcessSample
		for inode := range after.descriptors(root, dir) {
			inodes[inode] = true
		}
	}
	for _, t := range all {
		port := t.local.Port()
		switch {
		case t.state == "SYN_RECV":
			for _, i := range ours[port] {
				if l := &s.Network.Listeners[i]; l.serves(t.local) {
					l.HalfOpen++
					if t.again > 0 {
						l.Unanswered++
					}
					break // listeners that share a port share them
				}
			}
		case t.state == "LISTEN" || listened[port]:
		case t.state == "TIME_WAIT":
			s.Network.Spent[t.remote]++
		case inodes[t.inode]:
			s.Network.Dialled[t.remote]++
		case t.inode != "0":
			others[t.remote] = true
		}
	}
	for addr := range s.Network.Spent {
		if others[addr] {
			s.Network.Shared[addr] = true
		}
	}
	if c, err := sys.ReadNetCounters(root, pid); err == nil {
		s.Network.Overflows, s.Network.SynCookies, s.Network.SynQueueDrops = c.ListenOverflows, c.SynCookies, c.SynQueueDrops
	}
}

// settings asks for what bounds the connections of a process's network namespace. Where that is another than the doctor's, to enter it takes
// root; then it stays unknown.
func (c *Collector) settings(e *Evidence, pid int) {
	look := func() error {
		limits := sys.ReadNetLimits(c.Root)
		e.Network.Ports, e.Network.TimeWaitReuse = limits.Ports(), limits.TimeWaitReuse
		d, err := sys.OpenDiag()
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		listeners, err := d.Listeners(0)
		if err != nil {
			return err
		}
		e.Network.Backlogs = map[uint64]uint32{}
		for _, l := range listeners {
			e.Network.Backlogs[uint64(l.Inode)] = l.Backlog
		}
		return nil
	}
	theirs, err := sys.NetworkOf(pid)
	if err != nil {
		return
	}
	defer func() { _ = theirs.Close() }()
	ours, err := sys.NetworkOf(0)
	if err != nil {
		return
	}
	defer func() { _ = ours.Close() }()
	if ours.Is(theirs) {
		_ = look()
	} else {
		_ = theirs.Do(look)
	}
}
