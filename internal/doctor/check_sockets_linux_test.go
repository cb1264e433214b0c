package doctor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// newNetwork makes a network namespace for a test, or skips it.
func newNetwork(t *testing.T) *sys.Network {
	t.Helper()
	n, err := sys.NewNetwork()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, sys.ErrUnsupported) {
		t.Skipf("a network namespace of its own needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// TestHalfOpenReal has clients whose last word of the handshake is lost on its way, in a network namespace of its own.
func TestHalfOpenReal(t *testing.T) {
	n := newNetwork(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skipf("nothing can be dropped: %v", err)
	}
	const many = 60
	var conns []net.Conn
	e := &Evidence{Network: NetworkSettings{Backlogs: map[uint64]uint32{}}}
	var addr netip.AddrPort
	err = n.Do(func() error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer func() { _ = ln.Close() }()
		addr = netip.MustParseAddrPort(ln.Addr().String())
		rules := exec.Command(nft, "-f", "-")
		rules.Stdin = strings.NewReader(fmt.Sprintf("table ip lost {\n chain in {\n type filter hook input priority 0;\n tcp dport %d tcp flags & (syn|ack) == ack drop\n }\n}\n", addr.Port()))
		if out, err := rules.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		for range many {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		// /proc shows the namespace of this thread by its own number.
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for range 400 {
			s, err := SampleProcess(os.DirFS("/"), syscall.Gettid(), time.Duration(len(e.Process))*time.Second)
			if err != nil {
				return err
			}
			if len(s.Network.Listeners) == 1 && s.Network.Listeners[0].Unanswered == many {
				if e.Process = append(e.Process, s); len(e.Process) == 4 {
					return nil
				}
			}
			<-tick.C
		}
		return errors.New("the kernel did not send all SYN-ACKs again")
	})
	for _, c := range conns {
		_ = c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := Examine(e); !r.Found() || !strings.HasPrefix(r.Findings[0].Sentence, fmt.Sprintf("60 connections to %v are half-open (SYN_RECV)", addr)) {
		t.Errorf("%+v", r.Findings)
	}
}

// TestPortsRunOutReal dials anew for each use in a network namespace that has a hundred ports, until there is none.
func TestPortsRunOutReal(t *testing.T) {
	n := newNetwork(t)
	e := &Evidence{}
	err := n.Do(func() error {
		for name, value := range map[string]string{"ip_local_port_range": "20000 20099", "tcp_tw_reuse": "0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		ln, err := net.Listen("tcp", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer func() { _ = ln.Close() }()
		use := func() (done func(), err error) {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				return nil, err
			}
			a, err := ln.Accept()
			if err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return func() {
				_ = c.Close()
				_, _ = io.Copy(io.Discard, a)
				_ = a.Close()
			}, nil
		}
		for look := range 4 {
			for range 23 {
				done, err := use()
				if err != nil {
					return err
				}
				done()
			}
			done, err := use()
			if err != nil {
				return err
			}
			s, err := SampleProcess(os.DirFS("/"), syscall.Gettid(), time.Duration(look)*time.Second)
			done()
			if err != nil {
				return err
			}
			e.Process = append(e.Process, s)
		}
		(&Collector{Root: os.DirFS("/")}).settings(e, syscall.Gettid())
		for range 10 {
			done, err := use()
			if errors.Is(err, syscall.EADDRNOTAVAIL) {
				return nil
			} else if err != nil {
				return err
			}
			done()
		}
		return errors.New("there are ports yet")
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.Network.Ports != 100 {
		t.Errorf("%+v", e.Network)
	}
	r := Examine(e)
	if !r.Found() || r.Findings[0].Severity != Critical || !strings.HasPrefix(r.Findings[0].Sentence, "95 connections to 127.0.0.1:8080 that were closed hold a local port each (TIME_WAIT)") || !strings.Contains(r.Findings[0].Sentence, "hardly one left") {
		t.Errorf("%+v", r.Findings)
	}
}
