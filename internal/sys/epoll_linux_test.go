package sys

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func newEpoll(t *testing.T) (*Epoll, *EpollWaker) {
	t.Helper()
	w, err := NewEpollWaker()
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEpoll(w, 16)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if e.Close() == nil {
			t.Error("closed twice")
		}
		w.Close()
	})
	return e, w
}

// waitFor waits for one event of k.
func waitFor(t *testing.T, e *Epoll, k Key) Ready {
	t.Helper()
	events := make([]Event, 16)
	for {
		n, err := e.Wait(events, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			if ev.Key != k {
				t.Fatalf("an event of %v, want %v", ev.Key, k)
			}
			return ev.Ready
		}
	}
}

func wantIdle(t *testing.T, e *Epoll) {
	t.Helper()
	events := make([]Event, 16)
	if n, err := e.Wait(events, 0); n != 0 || err != nil {
		t.Errorf("%d events, %v: %v", n, err, events[:n])
	}
}

// accepted is a connection to e: the client's end, and the descriptor.
func accepted(t *testing.T, e *Epoll) (*net.TCPConn, int32) {
	t.Helper()
	fds, at, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer CloseFD(fds[0])
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fd, _, err := e.Accept(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), fd
}

func TestEpollConn(t *testing.T) {
	e, _ := newEpoll(t)
	c, fd := accepted(t, e)
	k := Key{Slot: 1 << 21, Gen: 0xdeadbeef}
	if err := e.Add(fd, k, Readable); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if _, err := e.Read(fd, b); err != ErrWouldBlock {
		t.Errorf("read of nothing: %v", err)
	}
	wantIdle(t, e)
	_, _ = io.WriteString(c, "hello")
	for range 2 { // by level
		if r := waitFor(t, e, k); r != ReadyRead {
			t.Errorf("ready for %b", r)
		}
	}
	if n, err := e.Read(fd, b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if err := e.Modify(fd, k, Writable); err != nil {
		t.Error(err)
	}
	if r := waitFor(t, e, k); r != ReadyWrite {
		t.Errorf("ready for %b", r)
	}
	sent := 0
	for {
		n, err := e.Write(fd, bytes.Repeat([]byte("x"), 1<<16))
		if err == ErrWouldBlock {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	wantIdle(t, e)
	e.ShutdownWrite(fd)
	if got, err := io.ReadAll(c); err != nil || len(got) != sent {
		t.Errorf("%d bytes arrived of %d, %v", len(got), sent, err)
	}
	if _, err := e.Write(fd, b); err != syscall.EPIPE {
		t.Errorf("write after the FIN: %v", err)
	}
	if err := e.Modify(fd, k, Readable); err != nil {
		t.Error(err)
	}
	_ = c.CloseWrite()
	if r := waitFor(t, e, k); r&ReadyRead == 0 {
		t.Errorf("ready for %b", r)
	}
	if n, err := e.Read(fd, b); n != 0 || err != nil {
		t.Errorf("read %d, %v at the end", n, err)
	}
	if err := e.Remove(fd); err != nil {
		t.Error(err)
	}
	wantIdle(t, e)
	if err := e.Remove(fd); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("removed twice: %v", err)
	}
	e.CloseSocket(fd, false)
	if err := e.Add(fd, k, Readable); !errors.Is(err, syscall.EBADF) {
		t.Errorf("added a closed descriptor: %v", err)
	}
}

func TestEpollReset(t *testing.T) {
	e, _ := newEpoll(t)
	c, fd := accepted(t, e)
	if err := e.Add(fd, Key{Slot: 1}, 0); err != nil {
		t.Fatal(err)
	}
	_ = c.SetLinger(0)
	_ = c.Close()
	if r := waitFor(t, e, Key{Slot: 1}); r&Failed == 0 || r&ReadyRead == 0 {
		t.Errorf("ready for %b", r)
	}
	if err := e.ConnectError(fd); err != syscall.ECONNRESET {
		t.Errorf("error %v", err)
	}
	if err := e.ConnectError(fd); err != nil {
		t.Errorf("error %v once more", err)
	}
	e.CloseSocket(fd, false)

	c, fd = accepted(t, e)
	e.CloseSocket(fd, true)
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer of an aborted socket reads %v", err)
	}
}

func TestEpollConnect(t *testing.T) {
	e, _ := newEpoll(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Log(err)
			continue
		}
		to := ln.Addr().(*net.TCPAddr).AddrPort()
		for _, from := range []netip.AddrPort{{}, netip.AddrPortFrom(to.Addr(), 0)} {
			fd, err := e.Connect(from, to)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Add(fd, Key{Slot: 7}, Writable); err != nil {
				t.Fatal(err)
			}
			if r := waitFor(t, e, Key{Slot: 7}); r&ReadyWrite == 0 {
				t.Errorf("ready for %b", r)
			}
			if err := e.ConnectError(fd); err != nil {
				t.Error(err)
			}
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			e.CloseSocket(fd, false)
		}
		_ = ln.Close()
		fd, err := e.Connect(netip.AddrPort{}, to)
		if err == nil {
			if err = e.Add(fd, Key{Slot: 8}, Writable); err != nil {
				t.Fatal(err)
			}
			waitFor(t, e, Key{Slot: 8})
			err = e.ConnectError(fd)
			e.CloseSocket(fd, false)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("connect to nobody: %v", err)
		}
	}
	if _, err := e.Connect(netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("connect from an address of somebody else: %v", err)
	}
}

func TestWake(t *testing.T) {
	e, w := newEpoll(t)
	w.Wake()
	w.Wake()
	if n, err := e.Wait(make([]Event, 16), -1); n != 0 || err != nil {
		t.Errorf("Wait = %d, %v", n, err)
	}
	wantIdle(t, e)
	woken := make(chan struct{})
	go func() {
		_, _ = e.Wait(make([]Event, 16), -1)
		close(woken)
	}()
	w.Wake()
	<-woken
}

// TestWakeAfterClose: a late wake-up writes to nobody who got the number.
func TestWakeAfterClose(t *testing.T) {
	w, err := NewEpollWaker()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	w.Close()
	next, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseFD(int32(next))
	if next != w.FD() {
		t.Fatalf("the next descriptor is %d, not %d", next, w.FD())
	}
	w.Wake()
	if _, err := unix.Read(next, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("the number's next owner reads %v", err)
	}
}

func TestMap(t *testing.T) {
	before := Resident()
	b, err := Map(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(b)
	if n := Resident(); n > before+64<<20 {
		t.Errorf("%d bytes resident for a reserved GiB", n-before)
	}
	used := b[:8<<20]
	for i := range used {
		used[i] = 1
	}
	held := Resident()
	Discard(used)
	for i := range b[:16<<20] {
		if b[i] != 0 {
			t.Fatalf("byte %d is %d after Discard", i, b[i])
		}
	}
	Discard(used)
	if n := Resident(); n > held {
		t.Errorf("%d bytes resident before Discard, %d after", held, n)
	}
}
