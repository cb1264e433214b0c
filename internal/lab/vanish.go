package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	"github.com/longwire/longwire/internal/sys"
)

// abyss is where peers can vanish: from one moment on nothing of what is sent to them arrives, and nothing of theirs. It is a
// network namespace with a packet filter where there are the rights to make one, and else sockets that drop what comes.
type abyss struct {
	network *sys.Network // nil without a namespace
	nft     string       // the program that filters packets there
}

// lost is the address of clients that are to vanish, in a namespace.
var lost = net.IPv4(127, 0, 0, 2)

// openAbyss makes one. The caller closes it.
func openAbyss() *abyss {
	nft, err := exec.LookPath("nft")
	if err != nil {
		if nft, err = exec.LookPath("/usr/sbin/nft"); err != nil {
			return &abyss{}
		}
	}
	n, err := sys.NewNetwork()
	if err != nil {
		return &abyss{}
	}
	a := &abyss{n, nft}
	if a.filter("add table inet lab\n") != nil {
		a.close()
		return &abyss{}
	}
	return a
}

// how says in words how peers vanish.
func (a *abyss) how() string {
	if a.network != nil {
		return "a packet filter in a network namespace drops all packets from and to them"
	}
	return "their sockets drop all that comes (no network namespace or no nft here)"
}

// do calls f where sockets that f opens itself belong to it.
func (a *abyss) do(f func() error) error {
	if a.network == nil {
		return f()
	}
	return a.network.Do(f)
}

// dialer is one for a client that is to vanish, or not.
func (a *abyss) dialer(vanishes bool) *net.Dialer {
	d := &net.Dialer{Timeout: answerLimit}
	if vanishes && a.network != nil {
		d.LocalAddr = &net.TCPAddr{IP: lost}
	}
	return d
}

// swallow has the clients that were to vanish do so: those are all their sockets, listeners included.
func (a *abyss) swallow(sockets []syscall.Conn) error {
	if a.network != nil {
		return a.filter("table inet lab { chain vanish { type filter hook input priority 0; ip saddr " + lost.String() + " drop; ip daddr " + lost.String() + " drop; }; }\n")
	}
	for _, s := range sockets {
		raw, err := s.SyscallConn()
		if err != nil {
			return err
		}
		var deaf error
		err = raw.Control(func(fd uintptr) { deaf = sys.Deafen(int(fd)) })
		if err := errors.Join(err, deaf); err != nil {
			return fmt.Errorf("have a peer vanish: %w", err)
		}
	}
	return nil
}

// filter has nft carry out a script in the namespace.
func (a *abyss) filter(script string) error {
	return a.network.Do(func() error {
		c := exec.Command(a.nft, "-f", "-")
		c.Stdin = strings.NewReader(script)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// close gives it up.
func (a *abyss) close() {
	if a.network != nil {
		_ = a.network.Close()
	}
}

// supported tells whether peers can vanish here at all.
func (a *abyss) supported() bool {
	if a.network != nil {
		return true
	}
	l, err := plainListener()
	if err != nil {
		return false
	}
	defer func() { _ = l.Close() }()
	s, ok := l.(syscall.Conn)
	return ok && a.swallow([]syscall.Conn{s}) == nil
}

// plainListener is one without Multipath TCP, whose sockets take no filter.
func plainListener() (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
}
