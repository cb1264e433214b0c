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
