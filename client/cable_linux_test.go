package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cable joins two network namespaces, each with a kernel's whole TCP in it, by a line that loses packets, is slow, and can
// be pulled out. The packets go through tun devices; the test is what lies between them.
type cable struct {
	near, far   string // namespaces: of clients, of servers
	down        atomic.Bool
	reset       atomic.Bool // the next packet of a server becomes its reset
	loss        float64     // frozen, as are the next two
	least, most time.Duration
	lost        atomic.Int64
	carried     atomic.Int64
}

const nearAddr, farAddr = "198.18.79.1", "198.18.79.2"

// newCable makes a cable, and skips the test where that is not allowed. A packet takes as long as least, and up to most.
func newCable(t *testing.T, loss float64, least, most time.Duration) *cable {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a network namespace needs root")
	}
	name := fmt.Sprintf("longwire-client-%d", os.Getpid())
	c := &cable{near: name + "a", far: name + "b", loss: loss, least: least, most: most}
	near, far := c.plug(t, c.near, nearAddr, farAddr), c.plug(t, c.far, farAddr, nearAddr)
	var group sync.WaitGroup
	for i, way := range [][2]*os.File{{near, far}, {far, near}} {
		queue := make(chan packet, 1<<14)
		group.Go(func() { c.read(way[0], queue, rand.New(rand.NewPCG(7, uint64(i))), i == 1) })
		group.Go(func() { carry(way[1], queue) })
	}
	t.Cleanup(func() {
		_, _ = near.Close(), far.Close()
		group.Wait()
	})
	return c
}

// plug makes a namespace with a tun device in it.
func (c *cable) plug(t *testing.T, ns, addr, other string) *os.File {
	t.Helper()
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", ns)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	var fd int
	err := inside(ns, func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("cable")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	})
	if err != nil {
		t.Skipf("no tun device here: %v", err)
	}
	ip("-n", ns, "addr", "add", addr, "peer", other, "dev", "cable")
	ip("-n", ns, "link", "set", "cable", "up")
	return os.NewFile(uintptr(fd), "tun")
}

// inside runs f in a network namespace: sockets that it makes are of that one, wherever they are used.
func inside(ns string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, its namespace with it
		file, err := os.Open("/var/run/netns/" + ns)
		if err == nil {
			err = errors.Join(unix.Setns(int(file.Fd()), unix.CLONE_NEWNET), file.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

type packet struct {
	b   []byte
	due time.Time
}

// read takes packets from a device, and loses some.
func (c *cable) read(from *os.File, queue chan<- packet, random *rand.Rand, ofServer bool) {
	defer close(queue)
	var last time.Time
	for {
		b := make([]byte, 2048)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		b = b[:n]
		c.carried.Add(1)
		if c.down.Load() || random.Float64() < c.loss {
			c.lost.Add(1)
			continue
		}
		if ofServer && n >= 40 && b[9] == unix.IPPROTO_TCP && c.reset.CompareAndSwap(true, false) {
			b = resetOf(b)
		}
		due := time.Now().Add(c.least)
		if c.most > c.least {
			due = due.Add(time.Duration(random.Int64N(int64(c.most - c.least))))
		}
		if due.Before(last) { // a line keeps the order
			due = last
		}
		last = due
		select {
		case queue <- packet{b, due}:
		default: // a queue that is full loses packets too
			c.lost.Add(1)
		}
	}
}

// carry delivers packets when they are due.
func carry(to *os.File, queue <-chan packet) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range queue {
		if wait := time.Until(p.due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		_, _ = to.Write(p.b)
	}
}

// resetOf makes a reset of a segment, as boxes in the middle do.
func resetOf(b []byte) []byte {
	head := int(b[0]&15) * 4
	r := append([]byte(nil), b[:head+20]...)
	binary.BigEndian.PutUint16(r[2:], uint16(len(r)))
	ip, tcp := r[:head], r[head:]
	tcp[12], tcp[13] = 5<<4, 0x14 // no options; RST and ACK
	ip[10], ip[11], tcp[16], tcp[17] = 0, 0, 0, 0
	sum := func(parts ...[]byte) uint16 {
		s := uint32(0)
		for _, p := range parts {
			for i := 0; i+1 < len(p); i += 2 {
				s += uint32(binary.BigEndian.Uint16(p[i:]))
			}
		}
		for s > 0xffff {
			s = s>>16 + s&0xffff
		}
		return ^uint16(s)
	}
	binary.BigEndian.PutUint16(ip[10:], sum(ip))
	binary.BigEndian.PutUint16(tcp[16:], sum(tcp, ip[12:20], []byte{0, unix.IPPROTO_TCP, 0, 20}))
	return r
}

// serve has servers at the far end, and returns their address.
func (c *cable) serve(t *testing.T, servers ...func(*peer)) string {
	t.Helper()
	var l net.Listener
	if err := inside(c.far, func() (err error) {
		l, err = net.Listen("tcp", farAddr+":0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(accept(t, l, servers...))
	return "ws://" + l.Addr().String() + "/"
}

// dial connects from the near end.
func (c *cable) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = inside(c.near, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// TestSilentLine pulls the cable out of a connection: no FIN, no reset, nothing from the kernel. It is noticed when the
// policy says, and when the cable is in again the client is back.
func TestSilentLine(t *testing.T) {
	type try struct {
		name        string
		least, most time.Duration // of one way
		o           Options
		learn       int // pongs before
	}
	short := Heartbeat{Interval: 200 * time.Millisecond, Timeout: 5 * time.Second, MinTimeout: 50 * time.Millisecond, Late: time.Minute}
	tries := []try{{"an interval of 200 ms", 0, 0, Options{Heartbeat: short}, 5}}
	if *figures {
		tries = append(tries,
			try{"the defaults, nothing measured", 0, 0, Options{}, 0},
			try{"the defaults, a link of 20 ms", 10 * time.Millisecond, 10 * time.Millisecond, Options{}, 2},
			try{"an interval of 5 s, a link of 200 ms to 500 ms", 100 * time.Millisecond, 250 * time.Millisecond, Options{Heartbeat: Heartbeat{Interval: 5 * time.Second}}, 6})
	}
	for _, c := range tries {
		t.Run(c.name, func(t *testing.T) {
			line := newCable(t, 0, c.least, c.most)
			c.o.NetDial = line.dial
			c.o.Backoff = BackoffOptions{Min: 10 * time.Millisecond}
			states := watch(&c.o)
			conn, err := Dial(t.Context(), line.serve(t, good), &c.o)
			if err != nil {
				t.Fatal(err)
			}
			alive := follow(t, states, "connecting: start", "idle: open")[1]
			late := time.After(5 * time.Minute)
			next := func() seen {
				t.Helper()
				select {
				case s := <-states:
					return s
				case <-late:
					t.Fatal("no transition")
					return seen{}
				}
			}
			for pongs := 0; pongs < c.learn; {
				if s := next(); s.Reason == "pong" {
					pongs++
					alive = s
				}
			}
			conn.mu.Lock()
			p := conn.policy
			h := p.Heartbeat
			first := h.Timeout
			if p.rtt != 0 {
				first = min(h.Timeout, max(h.MinTimeout, int64(math.Ceil(4*(p.rtt+4*p.deviation)))))
			}
			want := time.Duration(h.Interval+first+min(h.Timeout, 2*first)) * time.Millisecond
			conn.mu.Unlock()
			line.down.Store(true)
			cut := time.Now()
			s := next()
			for s.To != Backoff {
				if s.Reason == "pong" {
					t.Skip("this machine was too busy to pull the cable out between two pings")
				}
				s = next()
			}
			if s.Reason != "no pong" {
				t.Errorf("the end is because of %q, want no pong", s.Reason)
			}
			got := s.at.Sub(alive.at)
			t.Logf("figure: silent line, %s: noticed %.2f s after the last sign of life, %.2f s after the cut; the policy computes %.2f s",
				c.name, got.Seconds(), s.at.Sub(cut).Seconds(), want.Seconds())
			if got < want-10*time.Millisecond { // the sign of life is told a moment after it
				t.Errorf("noticed after %v, which is before its time, %v", got, want)
			}
			line.down.Store(false)
			for s.To != Idle {
				s = next()
			}
			write(t, conn, "back")
			read(t, conn, "back")
			if err := conn.Close(t.Context(), 0, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReset has a box in the middle reset a connection.
func TestReset(t *testing.T) {
	line := newCable(t, 0, 0, 0)
	o := &Options{NetDial: line.dial, Backoff: BackoffOptions{Min: 10 * time.Millisecond}}
	states := watch(o)
	conn, err := Dial(t.Context(), line.serve(t, good), o)
	if err != nil {
		t.Fatal(err)
	}
	follow(t, states, "connecting: start", "idle: open")
	line.reset.Store(true)
	write(t, conn, "its acknowledgement becomes a reset")
	lost := follow(t, states, "backoff: error")[0]
	if !errors.Is(lost.Err, syscall.ECONNRESET) {
		t.Errorf("the error is %v, want %v", lost.Err, syscall.ECONNRESET)
	}
	follow(t, states, "connecting: retry", "idle: open")
	write(t, conn, "back")
	read(t, conn, "back")
	if err := conn.Close(t.Context(), 0, ""); err != nil {
		t.Error(err)
	}
}

// TestLossyLine has clients on a line that loses 2 % of the packets and has 300 ms of jitter, with the kernel's TCP above
// it: none gives its connection up.
func TestLossyLine(t *testing.T) {
	clients, pings, interval := 20, 2, 300*time.Millisecond
	if *figures {
		clients, pings, interval = 500, 30, 2*time.Second
	}
	line := newCable(t, 0.02, 30*time.Millisecond, 180*time.Millisecond)
	url := line.serve(t, good)
	var group sync.WaitGroup
	var asked, twice, alarms atomic.Int64
	for range clients {
		group.Go(func() {
			enough := make(chan struct{})
			n := 0
			conn, err := Dial(t.Context(), url, &Options{NetDial: line.dial, Heartbeat: Heartbeat{Interval: interval}, ConnectTimeout: time.Minute,
				OnState: func(s Transition) {
					switch {
					case s.To == WaitingPong:
						asked.Add(1)
					case s.To == RetryPending:
						twice.Add(1)
					case s.To == Backoff && s.Reason == "no pong":
						alarms.Add(1)
					case s.Reason == "pong":
						if n++; n == pings {
							close(enough)
						}
					}
				}})
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-enough:
			case <-time.After(5 * time.Minute):
				t.Error("too few pongs")
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = conn.Close(ctx, 0, "")
		})
	}
	group.Wait()
	t.Logf("figure: %d clients on a line with %d of %d packets lost: %d questions, %d asked twice, %d false alarms",
		clients, line.lost.Load(), line.carried.Load(), asked.Load(), twice.Load(), alarms.Load())
	if alarms.Load() > 0 {
		t.Errorf("%d false alarms after %d questions", alarms.Load(), asked.Load())
	}
}
