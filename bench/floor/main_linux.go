//go:build linux

// Floor is the smallest honest WebSocket echo server on epoll: what a connection costs in Go when
// nothing is done but the work itself. Longwire is measured beside it, and the distance between the
// two is the price of everything that Longwire does and the floor does not. So the two share no code.
//
// It accepts, upgrades, echoes text and binary frames (fragments too, as they come), answers a ping
// with a pong and a close with a close. It leaves out UTF-8, the order of fragments, minimal length
// encodings, subprotocols, extensions, deadlines and logs.
//
// With -fanout it sends every message to all connections instead: what delivering to many costs when nothing is
// done but a write for each.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// reserve is the part of a descriptor table that is not for connections: standard streams, the
// runtime's own descriptors, the loop's epoll and listener.
const reserve = 64

// init locks the main goroutine to the leader of the thread group, which therefore never runs a loop.
// /proc/self/fd and everything else that looks at the process sees the leader's descriptor table.
func init() { runtime.LockOSThread() }

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "`address` to listen on, IPv4")
	loops := flag.Int("loops", 0, "number of loops, 0 for GOMAXPROCS and for as many as -max-conns needs")
	maxConns := flag.Int("max-conns", 0, "connections to have room for, 0 for what the loops can hold")
	fanout := flag.Bool("fanout", false, "send every message to all connections; a message must come in one read")
	flag.Parse()
	err := errors.New("unexpected arguments")
	if flag.NArg() == 0 {
		err = serve(*addr, *loops, *maxConns, *fanout)
	}
	fmt.Fprintln(os.Stderr, "floor:", err)
	os.Exit(1)
}

// serve runs the loops and returns only when one of them fails.
func serve(addr string, loops, maxConns int, fanout bool) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() {
		return fmt.Errorf("address %q: want an IPv4 address and a port", addr)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	table := int(min(limit.Cur, 1<<20))
	private := maxConns > table-reserve
	// SO_REUSEPORT fills the loops by hash, so unevenly: a tenth of each table stays free for that.
	room := max(1, (table-reserve)*9/10)
	need := (maxConns + room - 1) / room
	switch {
	case loops < 0 || maxConns < 0:
		return errors.New("-loops and -max-conns may not be negative")
	case loops == 0 && private:
		loops = max(runtime.GOMAXPROCS(0), need)
	case loops == 0:
		loops = runtime.GOMAXPROCS(0)
	case private && loops < need:
		return fmt.Errorf("%d connections need %d loops of %d descriptors, not %d", maxConns, need, table, loops)
	}
	// The runtime makes its epoll descriptor on first use. Were that in a loop's private table, the
	// number would mean another file in every other table: so a throw-away pipe makes it now, while
	// there is one table. It does what a listener would, and leaves out package net and 2 MB of memory.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if err := r.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("start the runtime's poller: %w", err)
	}
	r.Close()
	w.Close()

	var f *fan
	if fanout {
		// Before the first table is split off, so that every loop can ring every other's bell.
		if f, err = newFan(loops); err != nil {
			return err
		}
	}
	type started struct {
		ap  netip.AddrPort
		err error
	}
	ready, failed := make(chan started), make(chan error)
	for i := range loops {
		go func() {
			// Never unlocked: a thread with a descriptor table of its own must not be used again.
			runtime.LockOSThread()
			l, bound, err := listen(ap, table, private)
			if err == nil && f != nil {
				err = l.join(f, i)
			}
			ready <- started{bound, err}
			if err == nil {
				failed <- l.run()
			}
		}()
		s := <-ready
		if s.err != nil {
			return s.err
		}
		ap = s.ap // the first loop chooses the port when none is given
	}
	fmt.Printf("listening on %v\n", ap)
	return <-failed
}

// listen makes a loop that belongs to the calling thread, and returns the address that it listens on.
// Before anything is opened the thread gets a descriptor table of its own, whose small numbers also keep
// the slab dense. Where that is forbidden, as in some containers, the table is shared unless private says
// that it must not be.
func listen(ap netip.AddrPort, table int, private bool) (*loop, netip.AddrPort, error) {
	if unix.Gettid() == unix.Getpid() {
		return nil, ap, errors.New("a loop is on the thread group leader")
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil && private {
		return nil, ap, fmt.Errorf("unshare descriptor table: %w", err)
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, ap, fmt.Errorf("epoll_create1: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, ap, fmt.Errorf("socket: %w", err)
	}
	for _, opt := range []struct{ level, name int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}, // accepted sockets inherit it
	} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, 1); err != nil {
			return nil, ap, fmt.Errorf("setsockopt %d/%d: %w", opt.level, opt.name, err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}); err != nil {
		return nil, ap, fmt.Errorf("bind %v: %w", ap, err)
	}
	if err := unix.Listen(fd, 65535); err != nil {
		return nil, ap, fmt.Errorf("listen %v: %w", ap, err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, ap, fmt.Errorf("getsockname: %w", err)
	}
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return nil, ap, fmt.Errorf("getsockname: unexpected %T", sa)
	}
	l := &loop{
		epfd:     epfd,
		listener: int32(fd),
		conns:    make([]conn, table),
		requests: make(map[int32][]byte),
		blocked:  make(map[int32][]byte),
	}
	if err := l.control(unix.EPOLL_CTL_ADD, l.listener, readable); err != nil {
		return nil, ap, fmt.Errorf("epoll_ctl: %w", err)
	}
	return l, netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)), nil
}
