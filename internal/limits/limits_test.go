package limits

import (
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/sys"
)

func TestCheck(t *testing.T) {
	plenty := Have{
		Net: sys.NetLimits{Somaxconn: 65535, SynBacklog: 65535, SynCookies: 1, PortLow: 1024, PortHigh: 65535, TimeWaitReuse: 2,
			MemoryPages: [3]uint64{1 << 30, 1 << 30, 1 << 30}, ConntrackMax: 262144, FileMax: 1 << 40, Files: 2000, NrOpen: 1 << 20},
		Descriptors: 1 << 20, DescriptorsAtMost: 1 << 20, Memory: 64 << 30, PageSize: 4096,
	}
	have := func(change func(*Have)) Have {
		h := plenty
		change(&h)
		return h
	}
	for _, c := range []struct {
		name   string
		demand Demand
		have   Have
		limits string // of the findings; a ! stands before what is fatal
		lift   string // part of the first
	}{
		{"nothing", Demand{}, plenty, "", ""},
		{"nothing is known", Demand{Conns: 1 << 20, Burst: 1 << 20, PerConn: 1 << 20, Queued: 1 << 20, Local: true}, Have{}, "", ""},
		{"a million with enough addresses and tables", Demand{Conns: 1000000, Sources: 20, Tables: 50, PerConn: 9000, Local: true, Loopback: true}, plenty, "", ""},
		{"a million from one address", Demand{Conns: 1000000, Tables: 50}, plenty, "!net.ipv4.ip_local_port_range", "--source-addrs with 16 addresses"},
		{"the usual range of ports", Demand{Conns: 50000}, have(func(h *Have) { h.Net.PortLow, h.Net.PortHigh = 32768, 60999 }), "!net.ipv4.ip_local_port_range",
			"--source-addrs with 2 addresses, or sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""},
		{"TIME_WAIT holds ports for a minute", Demand{Conns: 100, Churn: 2000}, plenty, "!net.ipv4.ip_local_port_range", "--source-addrs with 2"},
		{"but not on loopback", Demand{Conns: 100, Churn: 2000, Loopback: true}, plenty, "", ""},
		{"several targets", Demand{Conns: 100000, Targets: 2, Tables: 2}, plenty, "", ""},
		{"soft limit of descriptors", Demand{Conns: 2000}, have(func(h *Have) { h.Descriptors, h.DescriptorsAtMost = 1024, 4096 }), "!RLIMIT_NOFILE", "ulimit -n 2064"},
		{"hard limit of descriptors", Demand{Conns: 60000}, have(func(h *Have) { h.Descriptors, h.DescriptorsAtMost = 20000, 20000 }), "!RLIMIT_NOFILE (hard)", "ulimit -Hn 60064"},
		{"and fs.nr_open below it", Demand{Conns: 60000}, have(func(h *Have) { h.Descriptors, h.DescriptorsAtMost, h.Net.NrOpen = 20000, 20000, 20000 }), "!RLIMIT_NOFILE (hard)", "sysctl -w fs.nr_open=60064, then ulimit"},
		{"enough with tables", Demand{Conns: 60000, Tables: 4}, have(func(h *Have) { h.Descriptors, h.DescriptorsAtMost = 20000, 20000 }), "", ""},
		{"open files", Demand{Conns: 60000, Local: true}, have(func(h *Have) { h.Net.FileMax = 100000 }), "!fs.file-max", "fs.file-max="},
		{"memory", Demand{Conns: 60000, PerConn: 9000}, have(func(h *Have) { h.Memory = 256 << 20 }), "!memory", "--max-conns"},
		{"memory of buffers", Demand{Conns: 60000, Queued: 5000}, have(func(h *Have) { h.Net.MemoryPages[1] = 100000 }), "net.ipv4.tcp_mem", `tcp_mem="120000 180000 240000"`},
		{"conntrack is in use", Demand{Conns: 60000}, have(func(h *Have) { h.Net.Conntracked, h.Net.ConntrackMax = 10, 50000 }), "!net.netfilter.nf_conntrack_max", "nf_conntrack_max=75"},
		{"conntrack is not in use", Demand{Conns: 60000}, have(func(h *Have) { h.Net.ConntrackMax = 50000 }), "", ""},
		{"somaxconn", Demand{Conns: 60000, Burst: 5000, Local: true}, have(func(h *Have) { h.Net.Somaxconn = 4096 }), "net.core.somaxconn", "somaxconn=5000"},
		{"of another machine", Demand{Conns: 60000, Burst: 5000}, have(func(h *Have) { h.Net.Somaxconn = 4096 }), "", ""},
		{"the server's backlog", Demand{Conns: 60000, Burst: 5000, Backlog: 511, Local: true}, plenty, "the server's backlog", "backlog of 5000"},
		{"half-open conns without cookies", Demand{Conns: 60000, Burst: 2000, Local: true}, have(func(h *Have) { h.Net.SynBacklog, h.Net.SynCookies = 2048, 0 }), "net.ipv4.tcp_max_syn_backlog", "tcp_syncookies=1"},
		{"a server dials from no port", Demand{Conns: 100000, Server: true, Tables: 2}, plenty, "", ""},
		{"but its proxies do", Demand{Conns: 200000, Server: true, Tables: 2, Proxies: 2}, plenty, "!net.ipv4.ip_local_port_range", "and 4 addresses of proxies"},
		{"enough proxies", Demand{Conns: 200000, Server: true, Tables: 2, Proxies: 5}, plenty, "", ""},
		{"somaxconn of a server", Demand{Conns: 60000, Burst: 5000, Server: true}, have(func(h *Have) { h.Net.Somaxconn = 4096 }), "net.core.somaxconn", "somaxconn=5000"},
		{"with two listeners", Demand{Conns: 60000, Burst: 5000, Server: true, Listeners: 2}, have(func(h *Have) { h.Net.Somaxconn = 4096 }), "", ""},
		{"memory of the cgroup", Demand{Conns: 60000, PerConn: 9000, Server: true}, have(func(h *Have) { h.GroupMemory = 256 << 20 }), "!memory of the cgroup", "raised by 258 MiB"},
		{"watches of epoll", Demand{Conns: 60000, Server: true}, have(func(h *Have) { h.Watches = 50000 }), "!fs.epoll.max_user_watches", "max_user_watches=75000"},
		{"areas of memory", Demand{Conns: 60000, Server: true, Maps: 70000}, have(func(h *Have) { h.Maps = 65530 }), "!vm.max_map_count", "max_map_count=140000"},
		{"threads", Demand{Conns: 60000, Server: true, Threads: 70}, have(func(h *Have) { h.GroupThreads, h.Threads = 60, 30000 }), "!pids.max of the cgroup", "TasksMax"},
		{"the fatal ones first", Demand{Conns: 60000, Queued: 5000, PerConn: 9000, Burst: 5000, Local: true}, have(func(h *Have) {
			h.Net.MemoryPages[1], h.Memory, h.Net.Somaxconn = 100, 1<<20, 128
		}), "!memory net.ipv4.tcp_mem net.core.somaxconn", "--max-conns"},
	} {
		list := Check(c.demand, c.have)
		var limits []string
		for _, f := range list {
			l := f.Name
			if f.Fatal {
				l = "!" + l
			}
			limits = append(limits, l)
			if f.Need <= f.Have || f.Says == "" || f.Lift == "" {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		if got := strings.Join(limits, " "); got != c.limits || len(list) > 0 && !strings.Contains(list[0].Lift, c.lift) {
			t.Errorf("%s: %q, want %q with %q\n%+v", c.name, got, c.limits, c.lift, list)
		}
	}
}
