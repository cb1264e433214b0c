package longwire

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// Endings whose evidence only a real TCP has.

// ended waits for the end of a gateway's only connection and returns its span.
func ended(t *testing.T, g *Gateway) *Span {
	t.Helper()
	var s *Span
	waittest.Until(t, "the end", func() bool {
		spans := why(t, g, Question{})
		if len(spans) != 1 {
			t.Fatalf("%d spans", len(spans))
		}
		s = &spans[0]
		return !s.Open
	})
	return s
}

func TestWhyOnSockets(t *testing.T) {
	quick := echo("/")
	quick.Heartbeat = Heartbeat{Ping: 500 * time.Millisecond, Timeout: time.Second}
	many := Endpoint{Path: "/", WriteQueue: 64 << 10}
	for _, c := range []struct {
		name                   string
		at                     Endpoint
		s                      Sessions
		end                    func(t *testing.T, g *Gateway, r *recorder, c *wstest.Client)
		sentence, cause, kinds string
		evidence               func(e *Evidence) bool
	}{
		{name: "reset", at: echo("/"), end: func(_ *testing.T, _ *Gateway, _ *recorder, c *wstest.Client) { reset(c.Conn.(*net.TCPConn)) },
			sentence: "reset by the other side or by something between (ECONNRESET)", cause: "reset: ECONNRESET", kinds: "opened ended",
			evidence: func(e *Evidence) bool { return e.Unacked == 0 && e.RTT >= 0 }},
		{name: "closed before it read all", at: echo("/"), end: func(t *testing.T, _ *Gateway, r *recorder, c *wstest.Client) {
			if err := r.last().Send(ws.OpText, []byte("unread")); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1)
			if _, err := c.Read(b); err != nil { // it is there, and most of it unread
				t.Fatal(err)
			}
			_ = c.Close()
		}, sentence: "reset by the other side", cause: "reset: ECONNRESET", kinds: "opened ended", evidence: func(e *Evidence) bool { return e.Unacked == 0 }},
		{name: "program hangs", at: quick, end: func(*testing.T, *Gateway, *recorder, *wstest.Client) {},
			sentence: "The client's machine took our ping of", cause: "heartbeat_timeout (1008): program_silent", kinds: "opened pinged ended",
			evidence: func(e *Evidence) bool { return e.Unacked == 0 && e.Timeouts == 0 && e.Pinged >= 400 }},
		{name: "program hangs, session", at: Centrifuge("/"), s: Sessions{Insecure: true, Ping: time.Second, Pong: 300 * time.Millisecond}, end: func(_ *testing.T, _ *Gateway, _ *recorder, c *wstest.Client) {
			c.Send(ws.OpText, `{"id":1,"connect":{}}`)
		}, sentence: "The client's machine took our ping of", cause: "heartbeat_timeout (3012): program_silent", kinds: "opened connected pinged ended",
			evidence: func(e *Evidence) bool { return e.Pinged == 300 && e.Unacked == 0 }},
		{name: "reset while our ping is out, session", at: Centrifuge("/"), s: Sessions{Insecure: true, Ping: 2 * time.Second, Pong: 1900 * time.Millisecond}, end: func(_ *testing.T, _ *Gateway, _ *recorder, c *wstest.Client) {
			connectAndHearPing(c)
			reset(c.Conn.(*net.TCPConn))
		}, sentence: "reset by the other side", cause: "reset: ECONNRESET", kinds: "opened connected pinged ended",
			evidence: func(e *Evidence) bool { return e.Pinged >= 0 && e.Pinged <= e.Age && e.Ponged == -1 }},
		{name: "FIN after a pong, session", at: Centrifuge("/"), s: Sessions{Insecure: true, Ping: 2 * time.Second, Pong: 1900 * time.Millisecond}, end: func(_ *testing.T, _ *Gateway, _ *recorder, c *wstest.Client) {
			connectAndHearPing(c)
			c.Send(ws.OpText, `{}`)
			_ = c.Close()
		}, sentence: "without a closing handshake", cause: "client_fin", kinds: "opened connected ended",
			evidence: func(e *Evidence) bool { return e.Pinged == -1 && e.Ponged >= 0 && e.Ponged == e.Silent }},
		{name: "does not read", at: many, end: func(t *testing.T, g *Gateway, r *recorder, _ *wstest.Client) {
			for range 10_000 { // 160 MB: no socket holds that
				if spans := why(t, g, Question{Cause: CauseSlow}); len(spans) > 0 {
					return
				}
				if err := r.last().Send(ws.OpBinary, make([]byte, 16<<10)); err != nil && !errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
			}
		}, sentence: "more slowly than they came: ", cause: "slow_consumer: write_queue", kinds: "opened slow ended",
			evidence: func(e *Evidence) bool { return e.Queued >= 64<<10 && e.RTT >= 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			g := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{r.watch(c.at)}, Sessions: c.s})
			client := wstest.Dial(t, g.Addr().String(), "/", ws.Dial{})
			waittest.Until(t, "the opening", func() bool { return r.last() != Conn{} })
			c.end(t, g, &r, client)
			s := ended(t, g)
			wantWhy(t, s, c.sentence, c.cause, c.kinds)
			if !c.evidence(s.Evidence) {
				t.Errorf("evidence: %+v", s.Evidence)
			}
			if want := client.LocalAddr().String(); s.Address != want {
				t.Errorf("from %s, want %s", s.Address, want)
			}
		})
	}
}

// connectAndHearPing begins a session and waits for its first ping.
func connectAndHearPing(c *wstest.Client) {
	c.Send(ws.OpText, `{"id":1,"connect":{}}`)
	c.Next() // the reply
	c.Next()
}

// TestWhySilentNetwork loses packets in a network namespace, and has a client's machine forget a connection.
func TestWhySilentNetwork(t *testing.T) {
	n := newNetwork(t)
	nft := func(rules string) error {
		cmd := exec.Command("ip", "netns", "exec", n.ns, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	}
	const drop = `table inet lw {
	chain in { type filter hook input priority 0; policy drop; }
	chain out { type filter hook output priority 0; policy drop; }
}
`
	if err := nft(drop + "delete table inet lw\n"); err != nil {
		t.Skipf("no nftables here: %v", err)
	}
	start := func(t *testing.T, h Heartbeat) (*Gateway, *recorder, net.Conn) {
		r := new(recorder)
		g := startGateway(t, Config{Addr: n.near + ":0", Loops: 1, MaxConns: 10, MaxMemory: -1, UserTimeout: -1, Endpoints: []Endpoint{r.watch(Endpoint{Path: "/", Heartbeat: h})}})
		c, err := dialIn(n.ns, g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(ws.AppendRequest(nil, &ws.Dial{Host: "x", Target: "/"}, [16]byte{})); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1024)
		if k, err := c.Read(b); err != nil || k < 12 || string(b[9:12]) != "101" {
			t.Fatalf("the handshake got %q, %v", b[:k], err)
		}
		return g, r, c
	}
	t.Run("heartbeat", func(t *testing.T) {
		g, _, _ := start(t, Heartbeat{Ping: time.Second, Timeout: 3 * time.Second})
		if err := nft(drop); err != nil {
			t.Fatal(err)
		}
		s := ended(t, g)
		if err := nft("delete table inet lw\n"); err != nil {
			t.Error(err)
		}
		wantWhy(t, s, "The network went silent: our ping of ", "heartbeat_timeout (1008): network_silent", "opened pinged ended")
		if e := s.Evidence; e.Unacked != 2 || e.Timeouts < 1 || !strings.Contains(s.Why, "was sent again ") || !strings.Contains(s.Why, "was never acknowledged. Nothing had come for 3 s.") {
			t.Errorf("why: %s, evidence %+v", s.Why, e)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		g, r, c := start(t, Heartbeat{Ping: -1, Timeout: -1})
		if err := nft(drop); err != nil {
			t.Fatal(err)
		}
		reset(c.(*net.TCPConn)) // which nobody hears
		if err := r.last().Send(ws.OpText, []byte("is anybody there?")); err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "what is not acknowledged", func() bool {
			waits := make(chan bool, 1)
			if err := g.call(r.last().id, func(f *front) {
				i, ok := f.l.Find(r.last().id)
				if !ok {
					waits <- false
					return
				}
				x, _ := f.l.Info(i)
				waits <- x.Unacked > 0
			}); err != nil {
				t.Fatal(err)
			}
			return <-waits
		})
		if err := nft("delete table inet lw\n"); err != nil {
			t.Fatal(err)
		}
		s := ended(t, g)
		wantWhy(t, s, "reset while 19 bytes of ours were on their way", "reset: ECONNRESET", "opened ended")
		if e := s.Evidence; e.Unacked != 19 {
			t.Errorf("evidence: %+v", e)
		}
	})
}

// What the tracer tells is all in the answer, and its level in the sentence; how long the handshake took is in the first event.
func TestWhyKernel(t *testing.T) {
	w := newWorld(t, Config{Tracer: namedVerdicts{}})
	p := w.raw()
	w.sys.Advance(1500 * time.Millisecond) // a handshake that takes its time
	p.upgrade("/echo", ws.Dial{})
	p.Reset()
	w.sys.Settle()
	c, err := loop.ParseID(p.conn.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		e        KernelEnd
		sentence string
		want     KernelWord
	}{
		{KernelEnd{Verdict: 7, Level: 3, Err: uint8(syscall.ETIMEDOUT), Retransmits: 6, Unacked: 5, RTT: 48 * time.Millisecond, Path: 0x317}, "The kernel says: verdict 7, 6 segments sent again, 5 bytes never acknowledged.",
			KernelWord{Level: "bpf", Verdict: "verdict 7", Path: []string{"SYN_RECV", "ESTABLISHED", "CLOSE"}, Error: "ETIMEDOUT", RTT: 48_000, Unacked: 5, Retransmits: 6}},
		{KernelEnd{Verdict: 1, Level: 2, Path: 0x17}, "The kernel's socket diagnosis says: verdict 1.", KernelWord{Level: "diag", Verdict: "verdict 1", Path: []string{"ESTABLISHED", "CLOSE"}, RTT: -1}},
		{KernelEnd{Verdict: 1, Level: 1, Err: uint8(syscall.ENOBUFS)}, "Our socket's last state says: verdict 1.", KernelWord{Level: "errno", Verdict: "verdict 1", Path: []string{}, Error: syscall.ENOBUFS.Error(), RTT: -1}},
		{KernelEnd{Verdict: 1, Level: 9}, "The kernel says: verdict 1.", KernelWord{Level: "unknown", Verdict: "verdict 1", Path: []string{}, RTT: -1}},
	} {
		w.g.KernelEnded(tag(uint64(c)), time.Now(), x.e)
		s := why(t, w.g, Question{})[0]
		if s.Kernel == nil || !reflect.DeepEqual(*s.Kernel, x.want) || !strings.Contains(s.Why, x.sentence) {
			t.Errorf("%q, %+v; want %q, %+v", s.Why, s.Kernel, x.sentence, x.want)
		}
		if want := p.From.Addr().String() + " /echo, 1.5s after its accept"; s.Events[0].Text != want {
			t.Errorf("opened: %q, want %q", s.Events[0].Text, want)
		}
	}
}

// namedVerdicts is a Tracer that sees nothing by itself.
type namedVerdicts struct{}

func (namedVerdicts) Descriptors() []int      { return nil }
func (namedVerdicts) TrackListener(int) error { return nil }
func (namedVerdicts) Tag(int, [16]byte) error { return nil }
func (namedVerdicts) Verdict(n uint8) string  { return fmt.Sprintf("verdict %d", n) }

// TestRecorderNoRoom has a file system without room for the record, and one that may not be written.
func TestRecorderNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	_, err := New(Config{Loops: 1, MaxConns: 10, FlightRecorder: FlightRecorder{Bytes: 1 << 20, Dir: dir}})
	if err == nil || !strings.Contains(err.Error(), "flight recorder: write ") || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("a full disk: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, err = New(Config{Loops: 1, MaxConns: 10, FlightRecorder: FlightRecorder{Bytes: 1 << 14, Dir: dir}})
	if err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("a disk that is read only: %v", err)
	}
}

// BenchmarkRecord is what the recorder adds to a connection's life on its loop.
func BenchmarkRecord(b *testing.B) {
	opened := make(chan Conn, 1)
	g, _ := benchGateway(b, FlightRecorder{}, func(c Conn) { opened <- c })
	c, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	request := ws.AppendRequest(nil, &ws.Dial{Host: "x", Target: "/", Header: "User-Agent: Mozilla/5.0\r\nOrigin: https://a.example\r\nAccept-Language: en\r\n"}, [16]byte{})
	if _, err := c.Write(request); err != nil {
		b.Fatal(err)
	}
	id := (<-opened).id
	head, _, err := ws.ParseRequest(request, 0)
	if err != nil {
		b.Fatal(err)
	}
	channel := []byte("news")
	for _, x := range []struct {
		name string
		f    func(f *front, i uint32)
	}{
		{"open", func(f *front, i uint32) { f.recordOpen(i, &f.conn[i], 0, &head) }},
		{"subscribe", func(f *front, i uint32) { host{f}.Subscribed(i, channel) }},
		{"end", func(f *front, i uint32) {
			f.recordEnd(i, &f.conn[i], Cause{Kind: CauseClientClose, Code: 1000}, sys.TCPInfo{}, false)
		}},
		{"end-tcp-info", func(f *front, i uint32) {
			tcp, known := f.l.Info(i)
			f.recordEnd(i, &f.conn[i], Cause{Kind: CauseHeartbeat, Code: 1008}, tcp, known)
		}},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			done := make(chan bool, 1)
			if err := g.call(id, func(f *front) {
				i, ok := f.l.Find(id)
				for b.Loop() {
					x.f(f, i)
				}
				done <- ok
			}); err != nil || !<-done {
				b.Fatalf("the connection is gone: %v", err)
			}
		})
	}
}

// BenchmarkConnects has clients connect, shake hands and close, with the recorder and without: the processor time of both ends.
func BenchmarkConnects(b *testing.B) {
	for _, x := range []struct {
		name string
		r    FlightRecorder
	}{{"off", FlightRecorder{Bytes: -1}}, {"on", FlightRecorder{}}} {
		b.Run(x.name, func(b *testing.B) {
			g, closed := benchGateway(b, x.r, nil)
			request := append(ws.AppendRequest(nil, &ws.Dial{Host: "x", Target: "/"}, [16]byte{}), ws.AppendClose(nil, ws.Client, 1000, "", maskKey)...)
			in := make([]byte, 4096)
			start := processorTime(b)
			for b.Loop() {
				c, err := net.Dial("tcp", g.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.Write(request); err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = c.Read(in)
				}
				_ = c.Close()
				<-closed
			}
			b.ReportMetric(float64(processorTime(b)-start)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

func benchGateway(b *testing.B, r FlightRecorder, open func(Conn)) (g *Gateway, closed chan Cause) {
	closed = make(chan Cause, 16)
	ep := Endpoint{Path: "/", Origins: []string{"*"}, OnClose: func(_ Conn, cause Cause) { closed <- cause }}
	if open != nil {
		ep.OnOpen = func(c Conn, _ *ws.Request) { open(c) }
	}
	g, err := New(Config{Addr: "127.0.0.1:0", Loops: 1, MaxConns: 100, MaxMemory: -1, Log: slog.New(slog.DiscardHandler), Endpoints: []Endpoint{ep}, FlightRecorder: r})
	if err == nil {
		err = g.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Close() })
	return g, closed
}

// processorTime is what this process has used, in ns.
func processorTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
