package avalanche

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// TestSamplerUnseen checks that what cannot be seen is said to be unknown: the server is elsewhere.
func TestSamplerUnseen(t *testing.T) {
	counters := func(dir string) fstest.MapFS {
		return fstest.MapFS{
			dir + "/net/netstat":  {Data: []byte("TcpExt: ListenOverflows TCPSynRetrans\nTcpExt: 4 5\n")},
			dir + "/net/snmp":     {Data: []byte("Tcp: ActiveOpens\nTcp: 6\n")},
			dir + "/net/sockstat": {Data: []byte("TCP: inuse 7 orphan 0 tw 8 alloc 0 mem 0\n")},
		}
	}
	const port = 1 // tcpmux, which nobody has
	s := NewSampler(Options{Root: counters("proc/thread-self"), Port: port})
	defer func() { _ = s.Close() }()
	if len(s.Missing()) != 2 || s.PID() != 0 {
		t.Errorf("missing %q, process %d; want the accept queue and the process missing", s.Missing(), s.PID())
	}
	want := Sample{At: time.Second, Clients: Clients{Attempted: 9}}
	want.Kernel = Kernel{Known: true, Clients: true, NetCounters: sys.NetCounters{ListenOverflows: 4, SynRetrans: 5, ActiveOpens: 6, InUse: 7, TimeWait: 8}}
	if got := s.Sample(time.Second, Clients{Attempted: 9}); got.Kernel != want.Kernel || got.Queue != want.Queue || got.Target != want.Target || got.Clients != want.Clients {
		t.Errorf("sample = %+v\nwant %+v", got, want)
	}

	empty := NewSampler(Options{Root: fstest.MapFS{}, Port: port})
	defer func() { _ = empty.Close() }()
	if got := empty.Sample(0, Clients{}); got.Kernel.Known || got.Queue.Known || got.Target.Known {
		t.Errorf("sample of nothing = %+v", got)
	}
}

// TestSamplerKilled checks that a kill for want of memory is still seen when the process is gone.
func TestSamplerKilled(t *testing.T) {
	files := fstest.MapFS{
		"proc/9/stat":                    {Data: []byte("9 (a) S 1 9 9 0 -1 0 0 0 0 0 250 50 0 0 20 0 7 0 1 1000000 300\n")},
		"proc/9/cgroup":                  {Data: []byte("0::/x\n")},
		"proc/self/mountinfo":            {Data: []byte("35 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")},
		"sys/fs/cgroup/x/memory.max":     {Data: []byte("1048576\n")},
		"sys/fs/cgroup/x/memory.current": {Data: []byte("1000000\n")},
		"sys/fs/cgroup/x/memory.events":  {Data: []byte("oom_kill 2\n")},
	}
	s := NewSampler(Options{Root: files, Port: 1, PID: 9})
	defer func() { _ = s.Close() }()
	if got := s.Sample(0, Clients{}).Target; got.Gone || got.Kills != 2 || got.MemoryUsed != 1_000_000 || got.MemoryLimit != 1<<20 {
		t.Errorf("target = %+v, want 2 kills and 1000000 bytes of 1048576", got)
	}
	delete(files, "proc/9/stat")
	files["sys/fs/cgroup/x/memory.events"] = &fstest.MapFile{Data: []byte("oom_kill 3\n")}
	if got := s.Sample(time.Second, Clients{}).Target; !got.Known || !got.Gone || got.Kills != 3 {
		t.Errorf("target = %+v, want it gone, and 3 kills", got)
	}
}
