package longwire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/longwire/longwire/ws"
)

// TestVanishedPeer has a client's address vanish, in a network namespace of its own, while a message to it is not
// acknowledged: no FIN, no reset, no ICMP. The kernel ends the connection after UserTimeout, long before the heartbeat.
func TestVanishedPeer(t *testing.T) {
	n := newNetwork(t)
	r := recorder{closed: make(chan Cause, 1)}
	g, err := New(Config{Addr: n.near + ":0", MaxConns: 10, Loops: 1, UserTimeout: time.Second,
		Endpoints: []Endpoint{r.watch(Endpoint{Path: "/ws", Heartbeat: Heartbeat{Ping: time.Hour, Timeout: 2 * time.Hour}})}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	c, err := dialIn(n.ns, g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1024)
	if n, err := c.Read(b); err != nil || n < 12 || string(b[9:12]) != "101" {
		t.Fatalf("the handshake got %q, %v", b[:n], err)
	}
	if err := ip("-n", n.ns, "addr", "del", n.far+"/24", "dev", n.device); err != nil {
		t.Fatal(err)
	}
	if err := r.last().Send(ws.OpText, []byte("is anybody there?")); err != nil {
		t.Fatal(err)
	}
	select {
	case cause := <-r.closed:
		if cause.Kind != CauseKernelTimeout || cause.Detail != "ETIMEDOUT" {
			t.Errorf("the cause is %v, want kernel_timeout: ETIMEDOUT", cause)
		}
	case <-time.After(30 * time.Second):
		t.Error("a connection whose peer vanished lives on after 30 s")
	}
	spans := why(t, g, Question{Address: n.far})
	if len(spans) != 1 {
		t.Fatalf("%+v", spans)
	}
	wantWhy(t, &spans[0], "The kernel gave up (ETIMEDOUT): what we had sent was not acknowledged in time, though ", "kernel_timeout: ETIMEDOUT", "opened ended")
	if e := spans[0].Evidence; e.Retransmits < 1 || e.Unacked != 2+17 || e.LastAck < 500 {
		t.Errorf("evidence: %+v", e)
	}
}

// network is a network namespace with a cable to this one.
type network struct {
	ns        string
	near, far string // addresses of the cable's ends
	device    string // of the end in the namespace
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// newNetwork makes one for the test, which is skipped where that is not allowed.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	// Of this process: two runs at a time must not have each other's routes.
	pid := os.Getpid()
	subnet := fmt.Sprintf("198.%d.%d", 18+pid>>8&1, pid&255)
	n := &network{ns: fmt.Sprintf("longwire-test-%d", pid), near: subnet + ".1", far: subnet + ".2", device: fmt.Sprintf("lw%db", pid%100000)}
	if err := ip("netns", "add", n.ns); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	t.Cleanup(func() { _ = ip("netns", "del", n.ns) })
	here := fmt.Sprintf("lw%da", pid%100000)
	for _, args := range [][]string{
		{"link", "add", here, "type", "veth", "peer", "name", n.device, "netns", n.ns},
		{"addr", "add", n.near + "/24", "dev", here},
		{"link", "set", here, "up"},
		{"-n", n.ns, "addr", "add", n.far + "/24", "dev", n.device},
		{"-n", n.ns, "link", "set", n.device, "up"},
	} {
		if err := ip(args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = ip("link", "del", here) }) // the namespace takes its time
	return n
}

// dialIn connects from a network namespace.
func dialIn(ns, addr string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, its namespace with it
		f, err := os.Open("/var/run/netns/" + ns)
		if err != nil {
			done <- result{nil, err}
			return
		}
		err = errors.Join(unix.Setns(int(f.Fd()), unix.CLONE_NEWNET), f.Close())
		if err != nil {
			done <- result{nil, err}
			return
		}
		c, err := net.Dial("tcp", addr)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}
