package sys

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newNetwork makes a namespace for a test, or skips it.
func newNetwork(t *testing.T) *Network {
	t.Helper()
	n, err := NewNetwork()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skipf("a network namespace of its own needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// TestAcceptQueue has twenty clients at a listener with a backlog of four that never accepts, and sees it: five wait, the
// SYNs of the others are dropped.
func TestAcceptQueue(t *testing.T) {
	n := newNetwork(t)
	root := os.DirFS("/")
	var diag *Diag
	var fds []int
	var port uint16
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	err := n.Do(func() (err error) {
		if diag, err = OpenDiag(); err != nil {
			return err
		}
		if before, err := ReadNetCounters(root, 0); err != nil || before.ActiveOpens != 0 || before.ListenOverflows != 0 {
			t.Errorf("counters of a new namespace: %+v, %v", before, err)
		}
		listeners, bound, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1, ListenOptions{Backlog: 4})
		if err != nil {
			return err
		}
		fds, port = append(fds, int(listeners[0])), bound.Port()
		for range 20 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil && err != unix.EINPROGRESS {
				return err
			}
		}
		return nil
	})
	if diag != nil {
		t.Cleanup(func() { _ = diag.Close() })
	}
	if err != nil {
		t.Fatal(err)
	}

	var list []Listener
	var c NetCounters
	tick := time.NewTicker(10 * time.Millisecond) // packets on loopback are handled at once, nearly always
	defer tick.Stop()
	for range 1000 {
		if list, err = diag.Listeners(port); err != nil {
			t.Fatal(err)
		}
		if err := n.Do(func() (err error) { c, err = ReadNetCounters(root, 0); return err }); err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && list[0].Queue == 5 && c.ListenOverflows >= 15 {
			break
		}
		<-tick.C
	}
	if want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port); len(list) != 1 || list[0].Addr != want || list[0].Queue != 5 || list[0].Backlog != 4 {
		t.Fatalf("listeners = %+v, want one at %v with 5 waiting, limit 4", list, want)
	}
	if c.ListenOverflows < 15 || c.ListenDrops < 15 || c.ActiveOpens != 20 {
		t.Errorf("counters after 20 connects: %+v, want 15 overflows and drops at least", c)
	}
	if pid := SocketOwner(root, list[0].Inode); pid != os.Getpid() {
		t.Errorf("the listener belongs to process %d, want %d", pid, os.Getpid())
	}
	server, err := diag.States(port, 0)
	if err != nil || server[SocketEstablished] != 5 || server[SocketListening] != 1 {
		t.Errorf("the server's sockets by state = %v, %v, want 5 established and one that listens", server, err)
	}
	client, err := diag.States(0, port)
	if err != nil || client[SocketEstablished] != 5 || client[SocketSynSent] != 15 || client[SocketListening] != 0 {
		t.Errorf("the clients' sockets by state = %v, %v, want 5 established and 15 that wait", client, err)
	}
	if none, err := diag.Listeners(port + 1); err != nil || len(none) != 0 {
		t.Errorf("listeners on another port = %v, %v", none, err)
	}
}

func TestNetwork(t *testing.T) {
	n := newNetwork(t)
	ours, err := NetworkOf(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	same, err := NetworkOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = same.Close() }()
	if !ours.Is(same) || ours.Is(n) {
		t.Errorf("this process's namespace is itself: %v; is the new one: %v", ours.Is(same), ours.Is(n))
	}
	failed := errors.New("failed")
	if err := n.Do(func() error {
		inside, err := NetworkOf(0)
		if err != nil {
			return err
		}
		defer func() { _ = inside.Close() }()
		if !inside.Is(n) {
			t.Error("Do runs outside the namespace")
		}
		return failed
	}); !errors.Is(err, failed) {
		t.Errorf("Do = %v, want %v", err, failed)
	}
	if after, err := NetworkOf(0); err != nil || !after.Is(ours) {
		t.Errorf("the calling thread is in another namespace after Do (%v)", err)
	} else {
		_ = after.Close()
	}
	if _, err := NetworkOf(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace of no process: %v, want os.ErrNotExist", err)
	}
}

func TestOwnProcess(t *testing.T) {
	p, err := ReadProcess(os.DirFS("/"), os.Getpid())
	soft, _ := Descriptors()
	if err != nil || p.Descriptors < 3 || p.DescriptorLimit != soft || p.Resident < 1<<20 || p.Threads < 2 {
		t.Errorf("this process = %+v, %v; its limit of descriptors is %d", p, err, soft)
	}
	if l := ReadNetLimits(os.DirFS("/")); l.Somaxconn == 0 || l.Ports() == 0 || l.NrOpen == 0 {
		t.Errorf("this machine's limits = %+v", l)
	}
}
