package sys

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListen(t *testing.T) {
	fds, at, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 4, ListenOptions{UserTimeout: 7 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) != 4 || at.Port() == 0 {
		t.Fatalf("%d sockets on %v", len(fds), at)
	}
	var e Epoll
	counts := make([]int, 4)
	total := 0
	for total < 200 {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		from := c.LocalAddr().(*net.TCPAddr).AddrPort()
		for k, ln := range fds {
			fd, peer, err := e.Accept(ln)
			if err == ErrWouldBlock {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if peer != from {
				t.Errorf("accepted from %v, want %v", peer, from)
			}
			for opt, want := range map[int]int{unix.TCP_NODELAY: 1, unix.TCP_USER_TIMEOUT: 7000} {
				if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, opt); err != nil || v != want {
					t.Errorf("TCP option %d of an accepted conn is %d, %v, want %d", opt, v, err, want)
				}
			}
			if fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || fl&unix.O_NONBLOCK == 0 {
				t.Errorf("an accepted conn blocks: %x, %v", fl, err)
			}
			counts[k]++
			total++
			CloseFD(fd)
		}
		_ = c.Close()
	}
	for k, n := range counts {
		if n == 0 {
			t.Errorf("socket %d of 4 got none of %d connections: %v", k, total, counts)
		}
	}
	for _, fd := range fds {
		if err := PortTaken(at); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("PortTaken = %v while sockets listen", err)
		}
		CloseFD(fd)
	}
	if err := PortTaken(at); err != nil {
		t.Errorf("PortTaken = %v when all are closed", err)
	}
	if err := PortTaken(netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Errorf("PortTaken of port 0 = %v", err)
	}
}

func TestListenBoth(t *testing.T) {
	fds, at, err := Listen(netip.MustParseAddrPort("[::]:0"), 1, ListenOptions{})
	if err != nil {
		t.Skip(err)
	}
	defer CloseFD(fds[0])
	var e Epoll
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(host), at.Port()).String())
		if err != nil {
			t.Skip(err)
		}
		fd, peer, err := e.Accept(fds[0])
		if err != nil || peer != c.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("accepted from %v, %v, want %v", peer, err, c.LocalAddr())
		}
		CloseFD(fd)
		_ = c.Close()
	}
}

func TestListenErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // without SO_REUSEPORT
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	if _, _, err := Listen(at, 2, ListenOptions{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen = %v", err)
	}
	if err := PortTaken(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("PortTaken = %v", err)
	}
	if _, _, err := Listen(netip.MustParseAddrPort("192.0.2.1:0"), 1, ListenOptions{}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("Listen on an address of somebody else = %v", err)
	}
	if _, _, err := Listen(netip.AddrPort{}, 1, ListenOptions{}); err == nil {
		t.Error("listening on nothing")
	}
}
