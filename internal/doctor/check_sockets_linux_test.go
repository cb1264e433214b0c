package doctor

import (
	"errors"
	"fmt"
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

// TestHalfOpenReal has clients whose last word of the handshake is lost on its way, in a network namespace of its own.
func TestHalfOpenReal(t *testing.T) {
	n, err := sys.NewNetwork()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, sys.ErrUnsupported) {
		t.Skipf("a network namespace of its own needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
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
