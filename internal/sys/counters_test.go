package sys

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

const (
	netstatText = "TcpExt: SyncookiesSent TW ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory TCPAbortOnTimeout TCPMemoryPressures TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPSynRetrans\n" +
		"TcpExt: 3 5703178 428 431 71211 7 8 2 9 10 11 19680\n" +
		"IpExt: InNoRoutes InOctets\n" +
		"IpExt: 0 136828471799\n"
	snmpText = "Ip: Forwarding DefaultTTL\nIp: 2 64\n" +
		"Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\n" +
		"Tcp: 1 200 120000 -1 14826459 14825303 1012 4128869 10 741961581 739686369 2429615 0 5882076 0\n"
	sockstatText  = "sockets: used 45\nTCP: inuse 23 orphan 10 tw 27280 alloc 23 mem 6332\nUDP: inuse 9 mem 3\n"
	sockstat6Text = "TCP6: inuse 4\nUDP6: inuse 8\n"
)

func TestNetCounters(t *testing.T) {
	want := NetCounters{
		ActiveOpens: 14826459, PassiveOpens: 14825303, AttemptFails: 1012, EstabResets: 4128869, OutResets: 5882076, RetransSegs: 2429615,
		SynRetrans: 19680, Timeouts: 71211, ListenOverflows: 428, ListenDrops: 431, SynQueueDrops: 11, SynCookies: 10,
		MemoryPressures: 2, AbortsOnMemory: 7, AbortsOnTimeout: 8, TimeWaitOverflow: 9,
		Established: 10, InUse: 27, TimeWait: 27280, Orphans: 10, MemoryPages: 6332,
	}
	files := map[string]string{
		"proc/77/net/netstat": netstatText, "proc/77/net/snmp": snmpText, "proc/77/net/sockstat": sockstatText, "proc/77/net/sockstat6": sockstat6Text,
		"proc/thread-self/net/netstat": "", "proc/thread-self/net/snmp": snmpText, "proc/thread-self/net/sockstat": "",
	}
	if got, err := ReadNetCounters(tree(files), 77); err != nil || got != want {
		t.Errorf("counters of a process = %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := ReadNetCounters(tree(files), 0); err != nil || got.ActiveOpens != 14826459 || got.InUse != 0 {
		t.Errorf("counters without IPv6 = %+v, %v", got, err)
	}
	if _, err := ReadNetCounters(tree(files), 78); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counters of no process: %v, want fs.ErrNotExist", err)
	}
}

func TestNetLimits(t *testing.T) {
	root := tree(map[string]string{
		"proc/sys/net/core/somaxconn": "4096\n", "proc/sys/net/ipv4/tcp_max_syn_backlog": "2048\n", "proc/sys/net/ipv4/tcp_syncookies": "1\n",
		"proc/sys/net/ipv4/tcp_syn_retries": "6\n", "proc/sys/net/ipv4/tcp_abort_on_overflow": "1\n", "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
		"proc/sys/net/ipv4/ip_local_reserved_ports": "8080,32767-32769,60999,x,70000\n", "proc/sys/net/ipv4/tcp_tw_reuse": "2\n",
		"proc/sys/net/ipv4/tcp_max_tw_buckets": "131072\n", "proc/sys/net/ipv4/tcp_max_orphans": "131072\n", "proc/sys/net/ipv4/tcp_mem": "287898\t383867\t575796\n",
		"proc/sys/net/netfilter/nf_conntrack_max": "262144\n", "proc/sys/net/netfilter/nf_conntrack_count": "12\n",
		"proc/sys/fs/file-max": "9223372036854775807\n", "proc/sys/fs/file-nr": "2112\t0\t9223372036854775807\n", "proc/sys/fs/nr_open": "1048576\n",
	})
	want := NetLimits{
		Somaxconn: 4096, SynBacklog: 2048, SynCookies: 1, SynRetries: 6, AbortOnOverflow: true, PortLow: 32768, PortHigh: 60999, ReservedPorts: 3,
		TimeWaitReuse: 2, MaxTimeWait: 131072, MaxOrphans: 131072, MemoryPages: [3]uint64{287898, 383867, 575796},
		ConntrackMax: 262144, Conntracked: 12, FileMax: 1<<63 - 1, Files: 2112, NrOpen: 1048576,
	}
	if got := ReadNetLimits(root); got != want || got.Ports() != 28229 {
		t.Errorf("limits = %+v, %d ports\nwant %+v, 28229 ports", got, got.Ports(), want)
	}
	if got := ReadNetLimits(tree(nil)); got != (NetLimits{}) || got.Ports() != 0 {
		t.Errorf("limits of nothing = %+v", got)
	}
}

func TestProcess(t *testing.T) {
	files := map[string]string{
		// 52 fields; the name is made to mislead.
		"proc/9/stat":                    "9 (a) S 1 (b) S 1 9 9 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 12345 1000000 300 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n",
		"proc/9/limits":                  "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 4096                 files     \n",
		"proc/9/fd/0":                    "",
		"proc/9/task/9/fd/0":             "",
		"proc/9/task/10/fd/0":            "",
		"proc/9/task/10/fd/1":            "",
		"proc/9/task/10/fd/7":            "",
		"proc/9/cgroup":                  "0::/x\n",
		"proc/self/cgroup":               "0::/ours\n",
		"proc/self/mountinfo":            "35 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"sys/fs/cgroup/x/memory.max":     "1048576\n",
		"sys/fs/cgroup/x/memory.current": "900000\n",
		"sys/fs/cgroup/x/memory.stat":    "anon 500000\ninactive_file 100000\n",
		"sys/fs/cgroup/ours/memory.max":  "77777\n",
		"sys/fs/cgroup/x/memory.events":  "low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\n",
		"proc/meminfo":                   "MemTotal:       25165824 kB\n",
	}
	want := Process{Descriptors: 3, DescriptorLimit: 1024, Resident: 300 * uint64(os.Getpagesize()), MemoryLimit: 1 << 20, MemoryUsed: 800000,
		MemoryGroup: "sys/fs/cgroup/x", CPU: 3 * time.Second, Threads: 7, Kills: 2}
	if got, err := ReadProcess(tree(files), 9); err != nil || got != want {
		t.Errorf("process = %+v, %v\nwant %+v", got, err, want)
	}
	files["proc/9/stat"] = strings.Replace(strings.Replace(files["proc/9/stat"], ") S 1 9", ") Z 1 9", 1), " 7 0 12345", " 1 0 12345", 1)
	if _, err := ReadProcess(tree(files), 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that ended: %v, want fs.ErrNotExist", err)
	}
	delete(files, "proc/9/stat")
	if n := MemoryKills(tree(files), want.MemoryGroup); n != 2 {
		t.Errorf("%d killed of a group whose process is gone, want 2", n)
	}
	if _, err := ReadProcess(tree(files), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no process: %v, want fs.ErrNotExist", err)
	}
	if got, err := ReadProcess(tree(map[string]string{"proc/3/stat": "3 (x"}), 3); err != nil || got.Descriptors != -1 || got.CPU != 0 {
		t.Errorf("a process that may not be looked into = %+v, %v", got, err)
	}
}

func TestSocketOwner(t *testing.T) {
	root := tree(map[string]string{"proc/5/fd/1": "", "proc/meminfo": ""})
	root["proc/6/fd/3"] = &fstest.MapFile{Data: []byte("socket:[4711]"), Mode: fs.ModeSymlink}
	for inode, want := range map[uint32]int{4711: 6, 471: 0, 0: 0} {
		if got := SocketOwner(root, inode); got != want {
			t.Errorf("owner of socket %d = %d, want %d", inode, got, want)
		}
	}
}

// netlinkMessage is one message of an answer.
func netlinkMessage(kind uint16, body []byte) []byte {
	b := make([]byte, netlinkHeader, netlinkHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(netlinkHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	b = append(b, body...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func diagBody(family byte, state SocketState, port uint16, addr netip.Addr, r, w, inode uint32) []byte {
	b := make([]byte, diagMessage)
	b[0], b[1] = family, byte(state)
	binary.BigEndian.PutUint16(b[4:], port)
	copy(b[8:], addr.AsSlice())
	binary.NativeEndian.PutUint32(b[56:], r)
	binary.NativeEndian.PutUint32(b[60:], w)
	binary.NativeEndian.PutUint32(b[68:], inode)
	return b
}

func number(e int32) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(e)) }

func TestParseDiag(t *testing.T) {
	four := netlinkMessage(diagByFamily, diagBody(2, SocketListening, 8000, netip.MustParseAddr("127.0.0.1"), 9, 8, 77))
	six := netlinkMessage(diagByFamily, append(diagBody(10, SocketEstablished, 443, netip.MustParseAddr("2001:db8::1"), 1, 2, 3), 5, 0, 8, 0, 0))
	for _, c := range []struct {
		name  string
		in    []byte
		socks int
		done  bool
		err   error
	}{
		{"nothing", nil, 0, false, nil},
		{"two and the end", append(append(append([]byte(nil), four...), six...), netlinkMessage(netlinkDone, number(0))...), 2, true, nil},
		{"to be continued", four, 1, false, nil},
		{"an end without a body", netlinkMessage(netlinkDone, nil), 0, true, nil},
		{"a dump that failed midway", netlinkMessage(netlinkDone, number(-12)), 0, true, syscall.Errno(12)},
		{"no such module", netlinkMessage(netlinkError, number(-2)), 0, true, syscall.Errno(2)},
		{"an acknowledgement", netlinkMessage(netlinkError, number(0)), 0, false, nil},
		{"a message of another kind", netlinkMessage(99, []byte("x")), 0, false, nil},
		{"cut off", four[:40], 0, false, errDiag},
		{"a header cut off", four[:7], 0, false, errDiag},
		{"a length below the header's", []byte{3, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, false, errDiag},
		{"a short record", netlinkMessage(diagByFamily, make([]byte, 71)), 0, false, errDiag},
		{"a short error", netlinkMessage(netlinkError, nil), 0, false, errDiag},
	} {
		var got []diagSocket
		done, err := parseDiag(c.in, func(s diagSocket) { got = append(got, s) })
		if done != c.done || !errors.Is(err, c.err) || len(got) != c.socks {
			t.Errorf("%s: %d sockets, done %v, %v; want %d, %v, %v", c.name, len(got), done, err, c.socks, c.done, c.err)
		}
		for i, want := range []diagSocket{
			{netip.MustParseAddrPort("127.0.0.1:8000"), SocketListening, 9, 8, 77},
			{netip.MustParseAddrPort("[2001:db8::1]:443"), SocketEstablished, 1, 2, 3},
		} {
			if i < len(got) && got[i] != want {
				t.Errorf("%s: socket %d = %+v, want %+v", c.name, i, got[i], want)
			}
		}
	}
}

// seeds fails when a fuzz target's corpus is gone.
func seeds(f *testing.F) {
	f.Helper()
	if files, err := filepath.Glob(filepath.Join("testdata", "fuzz", f.Name(), "seed-*")); err != nil || len(files) == 0 {
		f.Fatalf("no seeds for %s (%v)", f.Name(), err)
	}
}

func FuzzDiag(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, err := parseDiag(b, func(diagSocket) { n++ })
		if n*(netlinkHeader+diagMessage) > len(b) {
			t.Errorf("%d sockets out of %d bytes (%v)", n, len(b), err)
		}
	})
}

func FuzzCounters(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, table, pairs, ports string) {
		var before, after NetCounters
		before.table(table)
		after.table(table + "\nUnknown: ActiveOpens\nUnknown: 7\n")
		if before.ActiveOpens != after.ActiveOpens {
			t.Errorf("a group of another name changes %+v to %+v", before, after)
		}
		var a, b NetCounters
		a.pairs(pairs)
		b.pairs(pairs + "\nUDP: inuse 4\n")
		if a != b {
			t.Errorf("a line about UDP changes %+v to %+v", a, b)
		}
		if n := reservedPorts(ports, 1024, 65535); n > 64512*uint64(1+strings.Count(ports, ",")) {
			t.Errorf("%d ports are reserved by %q", n, ports)
		}
	})
}
