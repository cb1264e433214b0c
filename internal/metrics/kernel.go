package metrics

import (
	"io/fs"
	"os"

	"github.com/longwire/longwire/internal/sys"
)

// kernel is what the kernel tells at one scrape.
type kernel struct {
	sys.NetCounters
	limits sys.NetLimits
	page   uint64 // bytes
}

// Kernel makes a collector of the kernel's TCP counters and limits, of the network namespace that the process is in. root is
// the file system, os.DirFS("/") but in tests. Where the kernel does not tell them, there are no series.
func Kernel(root fs.FS) Collector {
	page := uint64(os.Getpagesize())
	c := &snapshots[kernel]{read: func() (kernel, bool) {
		n, err := sys.ReadNetCounters(root, 0)
		return kernel{n, sys.ReadNetLimits(root), page}, err == nil
	}}
	for _, m := range []struct {
		name, help string
		value      func(*kernel) uint64
	}{
		{"active_opens_total", "Connects begun.", func(k *kernel) uint64 { return k.ActiveOpens }},
		{"passive_opens_total", "Connections that listeners put into their accept queues.", func(k *kernel) uint64 { return k.PassiveOpens }},
		{"attempt_fails_total", "Connections that ended before they stood.", func(k *kernel) uint64 { return k.AttemptFails }},
		{"estab_resets_total", "Connections that stood and ended by a reset, either side's.", func(k *kernel) uint64 { return k.EstabResets }},
		{"out_resets_total", "Resets sent.", func(k *kernel) uint64 { return k.OutResets }},
		{"retrans_segs_total", "Segments sent again, SYNs included.", func(k *kernel) uint64 { return k.RetransSegs }},
		{"syn_retrans_total", "SYNs and SYN-ACKs sent again.", func(k *kernel) uint64 { return k.SynRetrans }},
		{"timeouts_total", "Retransmission timers that ran out.", func(k *kernel) uint64 { return k.Timeouts }},
		{"listen_overflows_total", "Times that an accept queue was full.", func(k *kernel) uint64 { return k.ListenOverflows }},
		{"listen_drops_total", "SYNs that listeners dropped, for that or another reason.", func(k *kernel) uint64 { return k.ListenDrops }},
		{"syn_queue_drops_total", "SYNs dropped because the queue of half-open connections was full.", func(k *kernel) uint64 { return k.SynQueueDrops }},
		{"syn_cookies_total", "SYNs answered by a cookie for that reason.", func(k *kernel) uint64 { return k.SynCookies }},
		{"memory_pressures_total", "Times that TCP entered memory pressure (tcp_mem).", func(k *kernel) uint64 { return k.MemoryPressures }},
		{"aborts_on_memory_total", "Connections reset for want of memory, or beyond the bound of orphans.", func(k *kernel) uint64 { return k.AbortsOnMemory }},
		{"aborts_on_timeout_total", "Connections that the kernel gave up after retransmissions or keepalive.", func(k *kernel) uint64 { return k.AbortsOnTimeout }},
		{"time_wait_overflows_total", "TIME_WAIT sockets that were not kept (tcp_max_tw_buckets).", func(k *kernel) uint64 { return k.TimeWaitOverflow }},
	} {
		c.all.counter("longwire_kernel_tcp_"+m.name, m.help, func(k *kernel) float64 { return float64(m.value(k)) })
	}
	for _, m := range []struct {
		name, help string
		value      func(*kernel) uint64
	}{
		{"tcp_established", "Connections in ESTABLISHED or CLOSE_WAIT.", func(k *kernel) uint64 { return k.Established }},
		{"tcp_sockets", "TCP sockets in use, those in TIME_WAIT not counted.", func(k *kernel) uint64 { return k.InUse }},
		{"tcp_time_wait", "Sockets in TIME_WAIT.", func(k *kernel) uint64 { return k.TimeWait }},
		{"tcp_max_time_wait", "The most that are kept (tcp_max_tw_buckets).", func(k *kernel) uint64 { return k.limits.MaxTimeWait }},
		{"tcp_orphans", "Sockets without a process, of the whole machine.", func(k *kernel) uint64 { return k.Orphans }},
		{"tcp_max_orphans", "The most that are kept (tcp_max_orphans).", func(k *kernel) uint64 { return k.limits.MaxOrphans }},
		{"tcp_memory_bytes", "Buffers of all TCP sockets of the machine.", func(k *kernel) uint64 { return k.MemoryPages * k.page }},
		{"tcp_memory_pressure_bytes", "From where TCP saves memory (tcp_mem); 0 where it is not known.", func(k *kernel) uint64 { return k.limits.MemoryPages[1] * k.page }},
		{"tcp_memory_max_bytes", "The most memory of TCP (tcp_mem); 0 where it is not known.", func(k *kernel) uint64 { return k.limits.MemoryPages[2] * k.page }},
		{"conntrack_entries", "Connections that the firewall tracks; 0 where it tracks none.", func(k *kernel) uint64 { return k.limits.Conntracked }},
		{"conntrack_max", "The most that it tracks (nf_conntrack_max); 0 where it tracks none.", func(k *kernel) uint64 { return k.limits.ConntrackMax }},
		{"files", "Open files of the machine.", func(k *kernel) uint64 { return k.limits.Files }},
		{"files_max", "The most that may be open (fs.file-max).", func(k *kernel) uint64 { return k.limits.FileMax }},
		{"somaxconn", "The longest accept queue, whatever a listener asks for.", func(k *kernel) uint64 { return k.limits.Somaxconn }},
	} {
		c.all.gauge("longwire_kernel_"+m.name, m.help, func(k *kernel) float64 { return float64(m.value(k)) })
	}
	return c
}

// accepts is the state of a port's accept queues.
type accepts struct{ listeners, queue, limit uint64 }

// AcceptQueue makes a collector of the accept queues of a TCP port, which port names once it is known; 0 has no series.
// Where there is no socket diagnosis, there are none either.
func AcceptQueue(port func() uint16) Collector {
	c := &snapshots[accepts]{read: func() (a accepts, ok bool) {
		p := port()
		if p == 0 {
			return a, false
		}
		d, err := sys.OpenDiag()
		if err != nil {
			return a, false
		}
		defer func() { _ = d.Close() }()
		list, err := d.Listeners(p)
		for _, l := range list {
			a.listeners++
			a.queue += uint64(l.Queue)
			a.limit += uint64(l.Backlog)
		}
		return a, err == nil
	}}
	c.all.gauge("longwire_listeners", "Listening sockets of the gateway's port.", func(a *accepts) float64 { return float64(a.listeners) })
	c.all.gauge("longwire_accept_queue_conns", "Connections that wait to be accepted, of all listeners.", func(a *accepts) float64 { return float64(a.queue) })
	c.all.gauge("longwire_accept_queue_limit", "The most that may wait, of all listeners.", func(a *accepts) float64 { return float64(a.limit) })
	return c
}
