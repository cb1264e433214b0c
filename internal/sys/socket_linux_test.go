package sys

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSockets looks at one conn from all sides: by its descriptor, in a dump, and when it is destroyed.
func TestSockets(t *testing.T) {
	n := newNetwork(t)
	var diag *Diag
	var destroyed *Destroyed
	var client, server int
	var port uint16
	err := n.Do(func() (err error) {
		if diag, err = OpenDiag(); err != nil {
			return err
		}
		if destroyed, err = OpenDestroyed(); err != nil {
			return err
		}
		listeners, bound, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1, ListenOptions{Backlog: 4})
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(int(listeners[0])) }()
		port = bound.Port()
		if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Connect(client, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
		poll := []unix.PollFd{{Fd: listeners[0], Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 5000); err != nil {
			return err
		}
		server, _, err = unix.Accept4(int(listeners[0]), unix.SOCK_CLOEXEC)
		return err
	})
	if diag != nil {
		defer func() { _ = diag.Close() }()
	}
	if destroyed != nil {
		defer func() { _ = destroyed.Close() }()
	}
	if err != nil {
		t.Fatal(err)
	}
	cookie, err := SocketCookie(server)
	if err != nil || cookie == 0 {
		t.Fatalf("cookie %d, %v", cookie, err)
	}
	if _, err := unix.Write(client, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}, 5000); err != nil {
		t.Fatal(err)
	}
	if unread, err := UnreadBytes(server); err != nil || unread != 5 {
		t.Errorf("unread = %d, %v, want 5", unread, err)
	}
	info, err := SocketInfo(server)
	if err != nil || info.State != SocketEstablished || info.BytesReceived != 5 || info.Retransmits != 0 || info.RTT == 0 {
		t.Errorf("info = %+v, %v", info, err)
	}
	var found []Socket
	if err := diag.Sockets(port, func(s Socket) { found = append(found, s) }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Cookie != cookie || found[0].State != SocketEstablished || found[0].Info.BytesReceived != 5 || found[0].Remote.Port() == 0 || found[0].Local.Port() != port {
		t.Errorf("dump of port %d = %+v, want the conn of cookie %d", port, found, cookie)
	}

	// Closed with unread bytes: destroyed at once.
	_, _ = unix.Close(server), unix.Close(client)
	deadline := time.Now().Add(10 * time.Second)
	var last *Socket
	for range 1000 {
		_, err := destroyed.Read(deadline, func(s Socket) {
			if s.Cookie == cookie {
				last = &s
			}
		})
		if err != nil {
			t.Fatalf("the end of cookie %d was not told: %v", cookie, err)
		}
		if last != nil {
			break
		}
	}
	if last == nil || last.Info.BytesReceived != 5 || last.State != SocketClosed {
		t.Errorf("destroyed = %+v, want 5 bytes received, CLOSE", last)
	}
	for range 1000 {
		if _, err = destroyed.Read(time.Now(), func(Socket) {}); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read with nothing to tell = %v, want os.ErrDeadlineExceeded", err)
	}
	if _, err := SocketInfo(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("SocketInfo(-1) = %v", err)
	}
	if _, err := SocketCookie(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("SocketCookie(-1) = %v", err)
	}
}

func TestOpenNetwork(t *testing.T) {
	n := newNetwork(t)
	ours, err := OpenNetwork("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	a, err := ours.Inode()
	b, err2 := n.Inode()
	if err != nil || err2 != nil || a == 0 || b == 0 || a == b {
		t.Errorf("inodes of two namespaces: %d, %v and %d, %v", a, err, b, err2)
	}
	for _, path := range []string{"/dev/null", "/proc/self/ns/uts", "/nonexistent"} {
		if n, err := OpenNetwork(path); err == nil {
			_ = n.Close()
			t.Errorf("%s passes for a network namespace", path)
		}
	}
}

func TestMonotonic(t *testing.T) {
	before := Monotonic()
	if after := Monotonic(); before <= 0 || after < before {
		t.Errorf("the clock went from %v to %v", before, after)
	}
}

func TestSocketStorageRefuses(t *testing.T) {
	if err := PutSocketStorage(-1, -1, make([]byte, 16)); err == nil {
		t.Error("no map takes a value")
	}
	if err := GetSocketStorage(-1, -1, make([]byte, 16)); err == nil {
		t.Error("no map has a value")
	}
}
