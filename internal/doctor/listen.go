package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// listening are the TCP sockets that listen in the network namespace of a process, and which of them are the process's own, by inode.
func listening(root fs.FS, pid int) (all []sys.Listener, own map[uint32]bool) {
	dir := path.Join("proc", strconv.Itoa(pid))
	var s ProcessSample
	inodes := s.descriptors(root, dir)
	own = map[uint32]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := readBounded(root, path.Join(dir, "net", name), mostSocketTable)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" {
				continue
			}
			at, ok := parseSocketAddr(f[1])
			inode, err := strconv.ParseUint(f[9], 10, 32)
			if !ok || err != nil {
				continue
			}
			all = append(all, sys.Listener{Addr: at, Inode: uint32(inode)})
			if inodes[f[9]] {
				own[uint32(inode)] = true
			}
		}
	}
	return all, own
}

// parseSocketAddr reads an address of /proc/net/tcp: words of the machine's own byte order in hexadecimal, a colon, the port.
func parseSocketAddr(s string) (at netip.AddrPort, ok bool) {
	host, port, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	b, err2 := hex.DecodeString(host)
	if err != nil || err2 != nil || len(b) != 4 && len(b) != 16 {
		return at, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// dialable are the addresses at which a listener is reached: loopback's, for one that listens on all.
func dialable(at netip.AddrPort) []netip.AddrPort {
	v4 := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	switch {
	case !at.Addr().IsUnspecified():
		return []netip.AddrPort{at}
	case at.Addr().Is4():
		return []netip.AddrPort{v4}
	}
	return []netip.AddrPort{v4, netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())} // most that listen on :: take IPv4, too
}

// answering are those of the listeners that a connection to an address may come to. The kernel prefers one of just that address to one
// of all, and one of IPv4 alone to one of both; several may share it (SO_REUSEPORT).
func answering(all []sys.Listener, at netip.AddrPort) (list []sys.Listener) {
	best := 0
	for _, l := range all {
		rank, a := 0, l.Addr.Addr().Unmap()
		switch {
		case l.Addr.Port() != at.Port():
		case a == at.Addr():
			rank = 3
		case a.IsUnspecified() && a.Is4() == at.Addr().Is4():
			rank = 2
		case a.IsUnspecified() && a.Is6():
			rank = 1
		}
		if rank > best {
			best, list = rank, nil
		}
		if rank > 0 && rank == best {
			list = append(list, l)
		}
	}
	return list
}

// answers says whether a connection to an address comes to the process, and to no other that shares the address.
func (c *Collector) answers(pid int, all []sys.Listener, own map[uint32]bool, at netip.AddrPort) bool {
	mine := false
	for _, l := range answering(all, at) {
		if own[l.Inode] {
			mine = true
		} else if other := sys.SocketOwner(c.Root, l.Inode); other > 0 && other != pid {
			return false
		}
	}
	return mine
}

// enter has the addresses of a process asked in its network namespace, where that is not the doctor's own: there they may be another
// program's. The error says why it cannot be entered.
func (c *Collector) enter(pid int) error {
	theirs, err := sys.NetworkOf(pid)
	if errors.Is(err, sys.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := sys.NetworkOf(0)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	same := ours.Is(theirs)
	_ = ours.Close()
	if same {
		return theirs.Close()
	}
	if err := theirs.Do(func() error { return nil }); err != nil {
		_ = theirs.Close()
		return err
	}
	c.network = theirs
	return nil
}

// leave ends what enter began.
func (c *Collector) leave() {
	if c.network != nil {
		_ = c.network.Close()
		c.network = nil
	}
}

// dial connects to the target, from within its network namespace where that was entered.
func (c *Collector) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	d := &net.Dialer{Timeout: 5 * time.Second}
	// A name is looked up here, and what it leads to may be dialed by goroutines that are not on the thread within.
	if _, err := netip.ParseAddrPort(addr); c.network == nil || err != nil {
		return d.DialContext(ctx, network, addr)
	}
	err = c.network.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// pprofOf finds the address at which a process serves pprof; nil where it serves none, and a note says why. A request for the heap profile is
// all that any of its addresses gets to see.
func (c *Collector) pprofOf(ctx context.Context, e *Evidence, pid int) (*url.URL, error) {
	if err := c.enter(pid); err != nil {
		s := fmt.Sprintf("process %d is in a network namespace of its own, as in a container, and that cannot be entered (%v): its /debug/pprof was not asked. Run the doctor as root, or inside (nsenter -t %d -n), or give a URL at which it is reached from here", pid, err, pid)
		c.say("%s", s)
		e.note(s)
		return nil, nil
	}
	all, own := listening(c.Root, pid)
	tried := map[netip.AddrPort]bool{}
	for _, l := range all {
		if !own[l.Inode] {
			continue
		}
		reached := false
		for _, at := range dialable(l.Addr) {
			if !c.answers(pid, all, own, at) {
				continue
			}
			reached = true
			if tried[at] {
				continue
			}
			tried[at] = true
			u := &url.URL{Scheme: "http", Host: at.String(), Path: "/debug/pprof/"}
			p := newProfiler(u, c.Header, c.dial)
			b, err := p.get(ctx, "heap", url.Values{"debug": {"1"}})
			p.close()
			if err == nil && bytes.HasPrefix(b, []byte("heap profile:")) {
				return u, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		if !reached {
			e.note(fmt.Sprintf("process %d listens on %s, and so does another program: who of them would answer is open, so neither was asked; give the URL of its /debug/pprof", pid, l.Addr))
		}
	}
	e.note(`no port of the process serves /debug/pprof: import _ "net/http/pprof" in it to have lines named (longwire serve: --admin 127.0.0.1:6060, and --header 'Authorization: Bearer TOKEN' here)`)
	return nil, nil
}
