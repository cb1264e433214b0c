package doctor

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// machine is a file system with the limits of one.
func machine(change map[string]string) fstest.MapFS {
	files := map[string]string{
		"proc/sys/net/core/somaxconn": "4096", "proc/sys/net/ipv4/tcp_max_syn_backlog": "4096", "proc/sys/net/ipv4/tcp_syncookies": "1", "proc/sys/net/ipv4/ip_local_port_range": "1024 65535",
		"proc/sys/net/ipv4/tcp_mem": "2000000 3000000 4000000", "proc/sys/fs/file-max": "9223372036854775807", "proc/sys/fs/file-nr": "2000 0 9223372036854775807", "proc/sys/fs/nr_open": "1048576",
		"proc/sys/fs/epoll/max_user_watches": "5000000", "proc/sys/vm/max_map_count": "65530", "proc/sys/kernel/threads-max": "190000", "proc/sys/kernel/pid_max": "4194304", "proc/loadavg": "0.1 0.1 0.1 1/300 4000",
		"proc/meminfo": "MemTotal: 25165824 kB\nMemAvailable: 20971520 kB\n", "proc/self/limits": "Limit Soft Hard Units\nMax open files            1024                 1048576              files\n",
		"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/memory.current": "1000000", "sys/fs/cgroup/app/memory.max": "max", "sys/fs/cgroup/app/pids.max": "max",
	}
	fs := fstest.MapFS{}
	for _, m := range []map[string]string{files, change} {
		for name, text := range m {
			fs[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return fs
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      PlanOptions
		change map[string]string
		want   string // the limits that are findings, the worst first; ! stands before a critical one
	}{
		{"fits", PlanOptions{Conns: 100_000}, nil, ""},
		{"a million", PlanOptions{Conns: 1_000_000}, map[string]string{"proc/sys/net/core/somaxconn": "65535"}, ""},
		{"a million with few descriptors for a table", PlanOptions{Conns: 1_000_000}, map[string]string{
			"proc/sys/net/core/somaxconn": "65535", "proc/self/limits": "Max open files 1024 20000 files\n",
		}, ""},
		{"that another server cannot spread", PlanOptions{Conns: 1_000_000, ConnBytes: 4000}, map[string]string{
			"proc/sys/net/core/somaxconn": "65535", "proc/self/limits": "Max open files 1024 20000 files\n",
		}, "!RLIMIT_NOFILE (hard)"},
		{"another server's soft limit", PlanOptions{Conns: 10_000, ConnBytes: 4000}, nil, "!RLIMIT_NOFILE"},
		{"memory", PlanOptions{Conns: 1_000_000, ConnBytes: 30_000}, map[string]string{"proc/sys/net/core/somaxconn": "65535", "proc/self/limits": "Max open files 1048576 1048576 files\n"}, "!memory"},
		{"a container", PlanOptions{Conns: 500_000}, map[string]string{"sys/fs/cgroup/app/memory.max": "1073741824", "sys/fs/cgroup/app/pids.max": "10", "sys/fs/cgroup/app/pids.current": "3", "proc/sys/net/core/somaxconn": "65535"},
			"!memory of the cgroup !pids.max of the cgroup"},
		{"behind two proxies", PlanOptions{Conns: 200_000, Proxies: 2}, map[string]string{"proc/sys/net/core/somaxconn": "65535"}, "!net.ipv4.ip_local_port_range"},
		{"many at once", PlanOptions{Conns: 1_000_000}, map[string]string{"proc/sys/net/core/somaxconn": "128", "proc/sys/net/ipv4/tcp_syncookies": "0"}, "net.core.somaxconn net.ipv4.tcp_max_syn_backlog"},
		{"buffers", PlanOptions{Conns: 1_000_000}, map[string]string{"proc/sys/net/core/somaxconn": "65535", "proc/sys/net/ipv4/tcp_mem": "100000 200000 300000"}, "net.ipv4.tcp_mem"},
		{"watches", PlanOptions{Conns: 1_000_000}, map[string]string{"proc/sys/net/core/somaxconn": "65535", "proc/sys/fs/epoll/max_user_watches": "200000"}, "!fs.epoll.max_user_watches"},
		{"connection tracking", PlanOptions{Conns: 1_000_000}, map[string]string{
			"proc/sys/net/core/somaxconn": "65535", "proc/sys/net/netfilter/nf_conntrack_max": "262144", "proc/sys/net/netfilter/nf_conntrack_count": "10",
		}, "!net.netfilter.nf_conntrack_max"},
		{"open files of the machine", PlanOptions{Conns: 1_000_000}, map[string]string{
			"proc/sys/net/core/somaxconn": "65535", "proc/sys/fs/file-max": "800000", "proc/sys/fs/file-nr": "2000 0 800000",
		}, "!fs.file-max"},
	} {
		e, err := (&Collector{Root: machine(c.change)}).Plan(t.Context(), c.o)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		r := Examine(e)
		var got []string
		for _, f := range r.Findings {
			name := f.step
			if f.Severity == Critical {
				name = "!" + name
			}
			got = append(got, name)
			if f.Advice == "" {
				t.Errorf("%s: %s without advice", c.name, f.Sentence)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			var b strings.Builder
			_ = r.WriteText(&b)
			t.Errorf("%s: %s, want %s\n%s", c.name, s, c.want, &b)
		}
		if len(r.Steps) < 6 || len(r.Notes) < 3 {
			t.Errorf("%s: %d steps, %d notes", c.name, len(r.Steps), len(r.Notes))
		}
	}
}

// TestPlanHere looks at this machine and this process.
func TestPlanHere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("limits are read on Linux only")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c := &Collector{Root: os.DirFS("/")}
	for _, target := range []string{"", strconv.Itoa(os.Getpid()), "http://" + ln.Addr().String()} {
		e, err := c.Plan(t.Context(), PlanOptions{Conns: 1000, Target: target})
		if err != nil {
			t.Errorf("%q: %v", target, err)
			continue
		}
		names := map[string]uint64{}
		for _, l := range e.Plan.Limits {
			names[l.Name] = l.Have
		}
		if names["RLIMIT_NOFILE"] == 0 && names["RLIMIT_NOFILE (hard)"] == 0 || names["memory"] == 0 {
			t.Errorf("%q: %v", target, names)
		}
		if e.Plan.Limits == nil || target != "" && names["the server's backlog"] == 0 {
			t.Errorf("%q: the backlog of the listener is not known: %v", target, names)
		}
	}
	for target, want := range map[string]string{"999999999": "no process", "http://192.0.2.1:80": "was not found on this machine", "ftp://x": "want http or https"} {
		_, err := c.Plan(t.Context(), PlanOptions{Conns: 1000, Target: target})
		var de *Error
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &de) || de.Hint == "" {
			t.Errorf("%q: %v, want %s", target, err, want)
		}
	}
	if _, err := c.Plan(t.Context(), PlanOptions{}); err == nil {
		t.Error("a plan for nothing")
	}
	if _, err := (&Collector{Root: fstest.MapFS{}}).Plan(t.Context(), PlanOptions{Conns: 1}); err == nil || !strings.Contains(err.Error(), "no limit of this system can be read") {
		t.Errorf("without /proc: %v", err)
	}
}
