package sys

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Listen opens count sockets on one address with SO_REUSEPORT, so that the kernel spreads connections
// over them. Port 0 picks a port for all. An unspecified IPv6 address listens for IPv4 too. They are
// plain TCP, never MPTCP: a listener's socket storage is not inherited through MPTCP.
func Listen(addr netip.AddrPort, count int, o ListenOptions) (fds []int32, bound netip.AddrPort, err error) {
	if !addr.IsValid() {
		return nil, addr, fmt.Errorf("listen on %v: want an address and a port", addr)
	}
	if o.Backlog == 0 {
		o.Backlog = 65535
	}
	bound = addr
	for range count {
		fd, err := listenOne(bound, o)
		if err != nil {
			for _, fd := range fds {
				_ = unix.Close(int(fd))
			}
			return nil, addr, fmt.Errorf("listen on %v: %w", addr, err)
		}
		fds = append(fds, int32(fd))
		if bound.Port() == 0 {
			sa, err := unix.Getsockname(fd)
			if err != nil {
				for _, fd := range fds {
					_ = unix.Close(int(fd))
				}
				return nil, addr, os.NewSyscallError("getsockname", err)
			}
			switch sa := sa.(type) {
			case *unix.SockaddrInet4:
				bound = netip.AddrPortFrom(addr.Addr(), uint16(sa.Port))
			case *unix.SockaddrInet6:
				bound = netip.AddrPortFrom(addr.Addr(), uint16(sa.Port))
			}
		}
	}
	return fds, bound, nil
}

func listenOne(addr netip.AddrPort, o ListenOptions) (int, error) {
	fam := unix.AF_INET
	if addr.Addr().Is6() {
		fam = unix.AF_INET6
	}
	fd, err := unix.Socket(fam, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	set := func(level, opt, v int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, opt, v))
		}
	}
	set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if fam == unix.AF_INET6 && addr.Addr().IsUnspecified() {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if o.UserTimeout > 0 {
		set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout/time.Millisecond))
	}
	if err == nil {
		var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
		if fam == unix.AF_INET {
			sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
		}
		err = os.NewSyscallError("bind", unix.Bind(fd, sa))
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, o.Backlog))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// PortTaken reports whether somebody already listens on addr: with SO_REUSEPORT a second process of the
// same user would silently share the port, so the first listen is tried without it.
func PortTaken(addr netip.AddrPort) error {
	if addr.Port() == 0 || !addr.IsValid() {
		return nil
	}
	fam := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		fam = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	fd, err := unix.Socket(fam, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("listen on %v: %w", addr, os.NewSyscallError("bind", err))
	}
	return nil
}

// SetUserTimeout sets TCP_USER_TIMEOUT on one socket (one that did not come from our own listener).
func (e *Epoll) SetUserTimeout(fd int32, d time.Duration) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}
