package tracetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/waittest"
)

// Addresses of the cable's ends.
const (
	ServerAddr = "192.0.2.1"
	ClientAddr = "192.0.2.2"
)

// Pair is two network namespaces with a cable between them. Their firewalls can lose packets, and the server's kernel gives up
// after seconds. Any goroutine may use it. It is gone when the test that made it ends.
type Pair struct {
	Server, Client *sys.Network
	Names          [2]string // as ip-netns(8) knows them, the server's first
}

// NewPair makes one, whose names have the first letters of the test's. It skips the test where that is not allowed or a tool is missing.
func NewPair(t *testing.T) *Pair {
	t.Helper()
	for _, tool := range []string{"ip", "nft", "ss"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here (make setup): %v", tool, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	id := fmt.Sprintf("lw%d%s", os.Getpid(), strings.ToLower(t.Name()[len("Test"):][:3]))
	p := &Pair{Names: [2]string{id + "s", id + "c"}}
	for _, n := range p.Names {
		if out, err := exec.Command("ip", "netns", "add", n).CombinedOutput(); err != nil {
			t.Skipf("no network namespace can be made here: %v %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n).Run() })
	}
	Run(t, "ip", "link", "add", "s0", "netns", p.Names[0], "type", "veth", "peer", "name", "c0", "netns", p.Names[1])
	for i, dev := range []string{"s0", "c0"} {
		Run(t, "ip", "-n", p.Names[i], "addr", "add", []string{ServerAddr, ClientAddr}[i]+"/24", "dev", dev)
		Run(t, "ip", "-n", p.Names[i], "link", "set", dev, "up")
		Run(t, "ip", "-n", p.Names[i], "link", "set", "lo", "up")
	}
	var err error
	if p.Server, err = sys.OpenNetwork("/run/netns/" + p.Names[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Server.Close() })
	if p.Client, err = sys.OpenNetwork("/run/netns/" + p.Names[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Client.Close() })
	// So that the kernel gives up after seconds.
	p.Set(t, "tcp_retries2", "3")
	p.Set(t, "tcp_orphan_retries", "3")
	// Packets are lost on their way in, by a mark in their header that each socket can be given at any time. Lost on their
	// way out they would be an error of the sender's kernel, which is another ending.
	for _, n := range p.Names {
		c := exec.Command("ip", "netns", "exec", n, "nft", "-f", "-")
		c.Stdin = strings.NewReader(fmt.Sprintf(`table ip f {
	chain in {
		type filter hook input priority 0;
		ip dscp %d drop
		ip dscp %d reject with icmp type host-unreachable
	}
}
`, Lost>>2, Away>>2))
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v %s", err, out)
		}
	}
	return p
}

// Set sets one of the server's settings below net.ipv4.
func (p *Pair) Set(t *testing.T, name, value string) {
	t.Helper()
	if err := p.Server.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// Fate is what becomes of the packets of a socket, as its type of service.
type Fate int

// The fates.
const (
	Arrives Fate = 0
	Lost    Fate = 8 << 2
	Away    Fate = 16 << 2 // answered with ICMP host unreachable
)

// Befall gives a socket its fate from now on.
func (f Fate) Befall(fd int) error {
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_TOS, int(f)))
}

// Listen listens at the server's end with the settings of c, but never with MPTCP.
func (p *Pair) Listen(t *testing.T, c net.ListenConfig) *net.TCPListener {
	t.Helper()
	var l net.Listener
	if err := p.Server.Do(func() (err error) {
		c.SetMultipathTCP(false)
		l, err = c.Listen(context.Background(), "tcp4", ServerAddr+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// Dial connects from the clients' end, for as long as the test lasts.
func (p *Pair) Dial(t *testing.T, to net.Addr) *net.TCPConn {
	t.Helper()
	var c net.Conn
	if err := p.Client.Do(func() (err error) {
		d := net.Dialer{KeepAlive: -1, Timeout: 10 * time.Second}
		c, err = d.Dial("tcp4", to.String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// Descriptor is a socket's, which stays the connection's.
func Descriptor(t *testing.T, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// ShutWindow waits until the peer of a socket that has more to send has answered a probe of its window with the window still shut.
// How many probes had no answer says less: the next answer clears that.
func ShutWindow(t *testing.T, fd int) {
	t.Helper()
	var before sys.TCPInfo
	waits := func(i *sys.TCPInfo) bool { return i.NotSent > 0 && i.Unacked == 0 }
	waittest.Until(t, "a probe of a shut window", func() bool {
		i, err := sys.SocketInfo(fd)
		if err != nil {
			t.Fatal(err)
		}
		answered := waits(&before) && waits(&i) && i.BytesSent == before.BytesSent && i.LastAck < before.LastAck
		before = i
		return answered
	})
}

// Run runs a command that has to succeed.
func Run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v %s", name, strings.Join(args, " "), err, out)
	}
}
