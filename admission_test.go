package longwire

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/ws"
)

// refused checks that p's handshake gets 503.
func (w *world) refused(p *peer, label string) {
	w.t.Helper()
	p.Write(requestFor("/echo", ws.Dial{}))
	status, head, body := parseAnswer(w.t, p.Read())
	if status != 503 || !strings.Contains(head, "\r\nRetry-After: ") || body == "" {
		w.t.Errorf("%s: status %d, head %q, body %q; want 503 with Retry-After and a sentence", label, status, head, body)
	}
	p.finish()
	if got := w.g.Stats().Refused; got[label] == 0 {
		w.t.Errorf("%s: Refused = %v", label, got)
	}
	w.log.Want(w.t, "msg=refused", "limit="+label)
}

func TestMaxConns(t *testing.T) {
	w := newWorld(t, Config{MaxConns: 5, RetryAfter: 1500 * time.Millisecond})
	var peers []*peer
	for range 4 {
		peers = append(peers, w.dial("/echo"))
	}
	silent := w.raw() // a handshake under way counts too
	w.sys.Settle()
	p := w.raw()
	p.Write(requestFor("/echo", ws.Dial{}))
	if b := p.Read(); !strings.Contains(string(b), "Retry-After: 2\r\n") {
		t.Errorf("answer %q, want Retry-After rounded up to 2", b)
	}
	p.finish()
	w.refused(w.raw(), "max_conns")
	for _, p := range peers {
		p.echoes()
	}
	w.wantCloses(map[string]uint64{"refused": 2})
	silent.Close()
	peers[0].Close()
	w.sys.Settle()
	w.dial("/echo").echoes()
	w.dial("/echo").echoes()
	w.refused(w.raw(), "max_conns")
	if n := w.g.Stats().Conns; n != 5 {
		t.Errorf("%d conns, want 5", n)
	}
}

// Over a limit, who says nothing gets its answer after a second, who wants plain HTTP is served, and beyond some
// such clients nobody is let in any more.
func TestOverLimit(t *testing.T) {
	w := newWorld(t, Config{MaxConns: 1})
	b := w.bystander("/echo")
	silent, half, health := w.raw(), w.raw(), w.raw()
	half.Write([]byte("GET /echo HT"))
	health.Write([]byte("GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
	var answer []byte
	waittest.Until(t, "the answer of net/http", func() bool {
		answer = append(answer, health.Read()...)
		return health.EOF()
	})
	if status, _, body := parseAnswer(t, answer); status != 200 || body != "ok\n" {
		t.Errorf("/healthz at a full gateway: %d %q, want 200", status, body)
	}
	if got := append(silent.Read(), half.Read()...); len(got) > 0 {
		t.Errorf("answered at once: %q", got)
	}
	w.sys.Advance(1200 * time.Millisecond)
	for _, p := range []*peer{silent, half} {
		if status, head, _ := parseAnswer(t, p.Read()); status != 503 || !strings.Contains(head, "Retry-After: 5\r\n") {
			t.Errorf("%d %q, want 503", status, head)
		}
		p.finish()
	}
	w.wantCloses(map[string]uint64{"refused": 2})
	for range maxOverLimit {
		w.raw()
	}
	if n := w.g.Stats().Conns; n != 1 {
		t.Errorf("%d conns, want 1: who is over the limit does not count", n)
	}
	p := w.raw()
	if status, head, _ := parseAnswer(t, p.Read()); status != 503 || !strings.Contains(head, "Retry-After: 5\r\n") {
		t.Errorf("%d %q, want 503 before a byte is read", status, head)
	}
	p.finish()
	w.sys.Advance(4 * time.Second)
	w.wantCloses(map[string]uint64{"refused": 3 + maxOverLimit})
	b.check()
}

func TestConnsPerAddress(t *testing.T) {
	w := newWorld(t, Config{ConnsPerAddress: 2})
	from := func(addr string) *peer {
		return &peer{w: w, Peer: w.sys.DialFrom(netip.MustParseAddrPort(addr), netip.AddrPort{})}
	}
	open := func(addr string) *peer {
		p := from(addr)
		p.upgrade("/echo", ws.Dial{})
		return p
	}
	a, b := open("10.9.9.9:1"), open("10.9.9.9:2")
	w.refused(from("10.9.9.9:3"), "conns_per_address")
	w.refused(from("[::ffff:10.9.9.9]:4"), "conns_per_address")
	open("10.9.9.8:1").echoes()
	a.Close()
	w.sys.Settle()
	open("10.9.9.9:5").echoes()
	w.refused(from("10.9.9.9:6"), "conns_per_address")
	b.echoes()
	// One /64 is one customer.
	open("[2001:db8:0:1::1]:1").echoes()
	open("[2001:db8:0:1::2]:1").echoes()
	w.refused(from("[2001:db8:0:1:ffff::3]:1"), "conns_per_address")
	open("[2001:db8:0:2::1]:1").echoes()
}

func TestRatePerAddress(t *testing.T) {
	w := newWorld(t, Config{RatePerAddress: 2})
	n := uint16(0)
	from := func(addr string) *peer {
		n++
		return &peer{w: w, Peer: w.sys.DialFrom(netip.AddrPortFrom(netip.MustParseAddr(addr), n), netip.AddrPort{})}
	}
	visit := func(addr string) {
		p := from(addr)
		p.upgrade("/echo", ws.Dial{})
		p.Close()
		w.sys.Settle()
	}
	for range 8 { // four seconds' worth at once
		visit("10.9.9.9")
	}
	w.refused(from("10.9.9.9"), "rate_per_address")
	visit("10.9.9.8") // others are not held up
	w.sys.Advance(time.Second)
	visit("10.9.9.9")
	visit("10.9.9.9")
	w.refused(from("10.9.9.9"), "rate_per_address")
	w.sys.Advance(time.Hour)
	for range 8 { // and not more after an hour
		visit("10.9.9.9")
	}
	w.refused(from("10.9.9.9"), "rate_per_address")
}

// Less than one a second is a rate too.
func TestRateBelowOne(t *testing.T) {
	w := newWorld(t, Config{RatePerAddress: 0.1})
	from := func(port uint16) *peer {
		return &peer{w: w, Peer: w.sys.DialFrom(netip.AddrPortFrom(netip.MustParseAddr("10.9.9.9"), port), netip.AddrPort{})}
	}
	from(1).upgrade("/echo", ws.Dial{})
	for k := range uint16(9) {
		w.refused(from(2+k), "rate_per_address")
		w.sys.Advance(time.Second)
	}
	w.sys.Advance(2 * time.Second)
	from(20).upgrade("/echo", ws.Dial{})
}

// Addresses that have gone and are in nobody's way are forgotten, others are not.
func TestAddressesForgotten(t *testing.T) {
	w := newWorld(t, Config{RatePerAddress: 1, ConnsPerAddress: 10})
	var peers []*peer
	for range 300 {
		peers = append(peers, w.dial("/echo"))
	}
	for _, p := range peers[1:] {
		p.Close()
	}
	w.sys.Settle()
	known := func() (n int) {
		for i := range w.g.admission.shards {
			s := &w.g.admission.shards[i]
			s.mu.Lock()
			n += len(s.table)
			s.mu.Unlock()
		}
		return n
	}
	if n := known(); n != 300 {
		t.Errorf("%d addresses are known, want 300", n)
	}
	w.sys.Advance(20 * time.Second)
	for k := range 1000 { // every shard is asked
		_ = w.g.admission.admit(uint64(k)<<40, false)
		w.g.admission.leave(uint64(k) << 40)
	}
	if n := known(); n > 1001 {
		t.Errorf("%d addresses are known, want those that came just now and the one that has a conn", n)
	}
	peers[0].echoes()
	w.g.admission.conns.Store(1)
}

// What one conn costs is given back however it ends.
func TestAdmissionGivesBack(t *testing.T) {
	w := newWorld(t, Config{MaxConns: 3, ConnsPerAddress: 3})
	for range 5 {
		for _, end := range []func(p *peer){
			func(p *peer) { p.Close() },
			func(p *peer) { p.Reset() },
			func(p *peer) { p.Write([]byte("nonsense\r\n\r\n")); w.sys.Settle(); p.Close() },
			func(p *peer) { w.sys.Advance(6 * time.Second); p.Close() },
			func(p *peer) { p.Write([]byte("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")); w.sys.Settle() }, // goes to net/http
			func(p *peer) { p.upgrade("/echo", ws.Dial{}); p.send(3, ""); w.sys.Settle(); p.Close() },
			func(p *peer) {
				p.upgrade("/echo", ws.Dial{})
				_ = p.conn.Close(1000, "")
				w.sys.Advance(10 * time.Second)
			},
		} {
			p := &peer{w: w, Peer: w.sys.DialFrom(netip.MustParseAddrPort("10.9.9.9:1"), netip.AddrPort{})}
			w.sys.Settle()
			end(p)
			w.sys.Settle()
			if n := w.g.Stats().Conns; n != 0 {
				t.Fatalf("%d conns are counted", n)
			}
		}
	}
}

// The addresses of real clients are told apart.
func TestConnsPerAddressOnSockets(t *testing.T) {
	onTables(t, func(t *testing.T, table Tables) {
		g := startGateway(t, Config{Tables: table, Loops: 2, MaxConns: 100, MaxMemory: -1, ConnsPerAddress: 2, Endpoints: []Endpoint{echo("/echo")}})
		from := func(host string) net.Conn {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
			c, err := d.Dial("tcp", g.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			return c
		}
		status := func(c net.Conn) string {
			if _, err := c.Write(requestFor("/echo", ws.Dial{})); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 12)
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
			return string(b[9:])
		}
		for k := 2; k < 6; k++ {
			host := fmt.Sprintf("127.0.0.%d", k)
			for _, want := range []string{"101", "101", "503"} {
				if got := status(from(host)); got != want {
					t.Errorf("from %s: %s, want %s", host, got, want)
				}
			}
		}
		if n := g.Stats().Refused["conns_per_address"]; n != 4 {
			t.Errorf("Refused = %v, want 4", g.Stats().Refused)
		}
	})
}

// Over the memory ceiling a client gets 503, and the log says so.
func TestMaxMemory(t *testing.T) {
	log := new(waittest.Log)
	g := startGateway(t, Config{MaxMemory: 1, Loops: 1, MaxConns: 10, Endpoints: []Endpoint{echo("/echo")}, Log: slog.New(slog.NewTextHandler(log, nil))})
	waittest.Until(t, "the memory is measured", func() bool { return g.admission.memory.Load() })
	c := dialTCP(t, g.Addr().String(), nil)
	_, _ = c.Write(requestFor("/echo", ws.Dial{}))
	status, head, body := parseAnswer(t, readAll(t, c))
	if status != 503 || !strings.Contains(head, "Retry-After: 5\r\n") || !strings.Contains(body, "memory") {
		t.Errorf("status %d, head %q, body %q; want 503 with Retry-After", status, head, body)
	}
	log.Want(t, "msg=refused", "limit=memory")
	log.Want(t, "memory ceiling", "ceiling=1")
	if n := g.Stats().Refused["memory"]; n != 1 {
		t.Errorf("Refused = %v", g.Stats().Refused)
	}
}

// The log names a limit once a second, however many run into it, and says how many it held back.
func TestRefusalsAreLoggedSeldom(t *testing.T) {
	w := newWorld(t, Config{MaxConns: 1})
	w.dial("/echo")
	for range 100 {
		w.raw()
	}
	w.sys.Advance(1100 * time.Millisecond)
	w.raw()
	w.log.Want(t, "limit=max_conns", "and_before=99")
	if n := strings.Count(w.log.String(), "msg=refused"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, w.log)
	}
}
