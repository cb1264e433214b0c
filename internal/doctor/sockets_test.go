package doctor

import (
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestNetworkSample sorts the sockets of a table: the process's listeners with what waits at them, and what was dialled.
func TestNetworkSample(t *testing.T) {
	file := func(name string) *fstest.MapFile {
		b, err := os.ReadFile(filepath.Join("testdata", "seeds", "sockets", name))
		if err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: b}
	}
	root := fstest.MapFS{
		"proc/7/stat":     {Data: []byte("7 (x) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 0 2000 0")},
		"proc/7/net/tcp":  file("tcp.txt"),
		"proc/7/net/tcp6": file("tcp6.txt"),
		"proc/7/net/netstat": {Data: []byte("TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDoCookies TCPReqQFullDrop\n" +
			"TcpExt: 0 11 11 12 13\n")},
		"proc/7/net/snmp":     {Data: []byte("Tcp: ActiveOpens\nTcp: 1\n")},
		"proc/7/net/sockstat": {Data: []byte("TCP: inuse 1\n")},
	}
	for fd, inode := range map[string]string{"3": "55", "4": "56", "5": "57", "6": "58"} {
		root["proc/7/fd/"+fd] = &fstest.MapFile{Data: []byte("socket:[" + inode + "]"), Mode: 0o777 | fs.ModeSymlink}
	}
	s, err := SampleProcess(root, 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := s.Network
	want := []ListenerSample{
		{Addr: netip.MustParseAddrPort("127.0.0.1:8080"), Inode: 55, Queue: 5, HalfOpen: 2, Unanswered: 1},
		{Addr: netip.MustParseAddrPort("[::]:8081"), Inode: 58, Queue: 3, HalfOpen: 1, Unanswered: 1},
	}
	if len(n.Listeners) != 2 || n.Listeners[0] != want[0] || n.Listeners[1] != want[1] {
		t.Errorf("listeners %+v, want %+v", n.Listeners, want)
	}
	four, six := netip.MustParseAddrPort("127.0.0.1:5432"), netip.MustParseAddrPort("[::1]:5432")
	if len(n.Spent) != 2 || n.Spent[four] != 1 || n.Spent[six] != 1 {
		t.Errorf("in TIME_WAIT %v, want one to %v and to %v each: what was accepted holds no port", n.Spent, four, six)
	}
	if len(n.Dialled) != 1 || n.Dialled[four] != 1 {
		t.Errorf("dialled %v, want one to %v", n.Dialled, four)
	}
	if len(n.Shared) != 1 || !n.Shared[six] {
		t.Errorf("others dialled %v, want %v", n.Shared, six)
	}
	if n.Overflows != 11 || n.SynCookies != 12 || n.SynQueueDrops != 13 {
		t.Errorf("%+v", n)
	}
	if s.Sockets["LISTEN"] != 2 || s.Sockets["CLOSE_WAIT"] != 1 || s.Sockets["ESTABLISHED"] != 1 || s.Sockets["TIME_WAIT"] != 0 {
		t.Errorf("the process's sockets %v", s.Sockets)
	}
}

// TestNetworkSampleReal looks at this process: connections that it does not accept, and such as it dialled and closed.
func TestNetworkSampleReal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc")
	}
	const many = 7
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr := netip.MustParseAddrPort(ln.Addr().String())
	var conns []net.Conn
	for range many {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	// until looks at the process until what it waits for is there.
	until := func(what string, there func(NetworkSample) bool) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		var s ProcessSample
		for range 1000 {
			if s, err = SampleProcess(os.DirFS("/"), os.Getpid(), 0); err != nil {
				t.Fatal(err)
			}
			if there(s.Network) {
				return
			}
			<-tick.C
		}
		t.Fatalf("%s: %+v", what, s.Network)
	}
	until("seven that wait", func(n NetworkSample) bool {
		for _, l := range n.Listeners {
			if l.Addr == addr && l.Queue == many {
				return n.Dialled[addr] == many
			}
		}
		return false
	})
	e := &Evidence{}
	c := &Collector{Root: os.DirFS("/")}
	c.settings(e, os.Getpid())
	if len(e.Network.Backlogs) == 0 || e.Network.Ports == 0 {
		t.Errorf("settings %+v", e.Network)
	}
	for _, c := range conns {
		a, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // first, so that the port is held here
		_, _ = io.Copy(io.Discard, a)
		_ = a.Close()
	}
	until("seven in TIME_WAIT", func(n NetworkSample) bool { return n.Spent[addr] == many && n.Dialled[addr] == 0 })
}

func FuzzSockets(f *testing.F) {
	seeds(f, "sockets")
	f.Fuzz(func(t *testing.T, b []byte) {
		list := parseSockets(b)
		if n := strings.Count(string(b), "\n") + 1; len(list) > n {
			t.Errorf("%d sockets in %d lines", len(list), n)
		}
		for _, s := range list {
			if s.queue < 0 || s.again < 0 || s.state == "" || !s.local.IsValid() || !s.remote.IsValid() {
				t.Errorf("%+v", s)
			}
		}
	})
}
