package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/internal/trace"
	"github.com/longwire/longwire/internal/trace/tracetest"
	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/ws"
)

// Endpoints of the gateways that are driven to their connections' ends.
const (
	echoPath  = "/ws"    // sends back what comes
	beatPath  = "/beat"  // has a heartbeat
	smallPath = "/small" // has a small write queue
	busyPath  = "/busy"  // does not come to an end with its first message
)

// stage is a gateway that is traced at one level, at the servers' end of a cable.
type stage struct {
	*tracetest.Pair
	gateway *longwire.Gateway
	trace   *serveTrace
	free    func() // ends the work of busyPath

	mu      sync.Mutex
	conns   map[string]longwire.Conn // guarded by mu: by X-Request-ID
	working map[string]bool          // guarded by mu: conns of busyPath whose first message came, by Conn.ID
	sockets map[[2]int]int           // guarded by mu: the gateway's descriptors, by both ports, its own first
}

// newStage starts a gateway. It skips the test where the kernel refuses the level.
func newStage(t *testing.T, p *tracetest.Pair, level trace.Level, userTimeout time.Duration, record longwire.FlightRecorder) *stage {
	t.Helper()
	s := &stage{Pair: p, conns: make(map[string]longwire.Conn), working: make(map[string]bool), sockets: make(map[[2]int]int)}
	var made atomic.Pointer[longwire.Gateway]
	log := slog.New(slog.DiscardHandler)
	if err := p.Server.Do(func() error { s.trace = newServeTraceUpTo(level, log, made.Load); return nil }); err != nil {
		t.Fatal(err)
	}
	if s.trace == nil {
		t.Fatal("there is no tracer")
	}
	t.Cleanup(s.trace.stop)
	if s.trace.Level() != level {
		t.Skipf("the kernel refuses the level: %v", s.trace.Refused())
	}
	never := make(chan struct{})
	s.free = sync.OnceFunc(func() { close(never) })
	quiet := longwire.Heartbeat{Ping: -1, Timeout: -1}
	opened := func(c longwire.Conn, r *ws.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns[string(r.Header("X-Request-ID"))] = c
	}
	var err error
	s.gateway, err = longwire.New(longwire.Config{
		Addr: tracetest.ServerAddr + ":0", MaxConns: 64, Loops: 1, Tables: longwire.TablesShared, MaxMemory: -1, UserTimeout: userTimeout, FlightRecorder: record, Log: log, Tracer: s.watched(),
		Endpoints: []longwire.Endpoint{
			{Path: echoPath, Heartbeat: quiet, WriteQueue: 64 << 20, OnOpen: opened, OnMessage: func(_ longwire.Conn, m longwire.Message) { m.Reply(m.Op, m.Payload) }},
			{Path: beatPath, Heartbeat: longwire.Heartbeat{Ping: 1500 * time.Millisecond, Timeout: 4 * time.Second}, OnOpen: opened},
			{Path: smallPath, Heartbeat: quiet, WriteQueue: 64 << 10, OnOpen: opened},
			{Path: busyPath, Heartbeat: quiet, Blocking: true, OnOpen: opened, OnMessage: func(c longwire.Conn, _ longwire.Message) {
				s.mu.Lock()
				s.working[c.ID()] = true
				s.mu.Unlock()
				<-never
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	made.Store(s.gateway)
	t.Cleanup(func() {
		s.free()
		if err := s.gateway.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.Server.Do(s.gateway.Start); err != nil {
		t.Fatal(err)
	}
	return s
}

// watched is the stage's tracer, which also remembers the gateway's descriptors: so the test reaches the gateway's side of the
// cable, too.
func (s *stage) watched() longwire.Tracer {
	w := watchedTrace{s.trace.tracer(), s}
	if c, ok := w.Tracer.(longwire.ClosingTracer); ok {
		return watchedClosing{w, c}
	}
	return w
}

type watchedTrace struct {
	longwire.Tracer
	s *stage
}

func (w watchedTrace) Tag(fd int, id [16]byte) error {
	local, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	w.s.mu.Lock()
	w.s.sockets[[2]int{local.(*syscall.SockaddrInet4).Port, int(sys.SocketPeer(fd).Port())}] = fd
	w.s.mu.Unlock()
	return w.Tracer.Tag(fd, id)
}

type watchedClosing struct {
	watchedTrace
	c longwire.ClosingTracer
}

func (w watchedClosing) Closing(fd int, id [16]byte, e longwire.SocketEnd) { w.c.Closing(fd, id, e) }

// overHTTP has a net/http server with keepalive whose connections the gateway takes over, and returns its address.
func (s *stage) overHTTP(t *testing.T) net.Addr {
	t.Helper()
	l := s.Listen(t, net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}})
	if err := s.trace.TrackListener(tracetest.Descriptor(t, l)); err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: s.gateway.Handler()}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr()
}

// act is one connection of one ending.
type act struct {
	*testing.T
	*stage
	request string
	c       *net.TCPConn    // the client's side
	fd      int             // the gateway's
	conn    longwire.Conn   // the gateway's
	over    context.Context // ends with it
}

// begin opens a connection and waits until nothing is on its way.
func (s *stage) begin(t *testing.T, to net.Addr, path, request string) *act {
	t.Helper()
	a := &act{T: t, stage: s, request: request, c: s.Dial(t, to)}
	shake(t, a.c, path, request)
	ports := [2]int{a.c.RemoteAddr().(*net.TCPAddr).Port, a.c.LocalAddr().(*net.TCPAddr).Port}
	a.until("its opening", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		var open, tagged bool
		a.conn, open = s.conns[request]
		a.fd, tagged = s.sockets[ports]
		return open && tagged
	})
	a.over = a.conn.Context()
	a.until("silence", func() bool { return a.info().Unacked == 0 })
	return a
}

func (s *stage) addr() net.Addr { return net.TCPAddrFromAddrPort(s.gateway.Addr()) }

func (a *act) until(what string, ok func() bool) {
	a.Helper()
	waittest.Until(a.T, what, ok)
}

// info is what the gateway's kernel knows of the connection.
func (a *act) info() sys.TCPInfo {
	a.Helper()
	i, err := sys.SocketInfo(a.fd)
	if err != nil {
		a.Fatal(err)
	}
	return i
}

// fate says what becomes of what each side sends from now on.
func (a *act) fate(client, gateway tracetest.Fate) {
	a.Helper()
	if err := errors.Join(client.Befall(tracetest.Descriptor(a.T, a.c)), gateway.Befall(a.fd)); err != nil {
		a.Fatal(err)
	}
}

// vanish has the client's machine be gone.
func (a *act) vanish() { a.fate(tracetest.Lost, tracetest.Lost) }

// hear lets what the gateway sends arrive again.
func (a *act) hear() {
	a.Helper()
	if err := tracetest.Arrives.Befall(a.fd); err != nil {
		a.Fatal(err)
	}
}

// send has the gateway send a message.
func (a *act) send(text string) {
	a.Helper()
	if err := a.conn.Send(ws.OpText, []byte(text)); err != nil {
		a.Fatal(err)
	}
}

// flood has the gateway send until the connection ends.
func (a *act) flood(payload []byte) {
	a.Helper()
	a.until("the end", func() bool {
		_ = a.conn.Send(ws.OpBinary, payload) // ErrBusy goes away
		return a.over.Err() != nil
	})
}

// retransmits waits until the gateway's kernel has sent something anew.
func (a *act) retransmits() {
	a.Helper()
	a.until("a retransmission", func() bool { return a.info().Timeouts > 0 })
}

var maskKey = [4]byte{1, 2, 3, 4}

func (a *act) write(b []byte) {
	a.Helper()
	if _, err := a.c.Write(b); err != nil {
		a.Fatal(err)
	}
}

// say sends a client's message as often as asked for.
func (a *act) say(text string, times int) {
	a.Helper()
	var b []byte
	for range times {
		b = ws.AppendFrame(b, ws.Client, ws.OpText, []byte(text), maskKey)
	}
	a.write(b)
}

// bye sends the client's close frame.
func (a *act) bye(code ws.StatusCode) {
	a.Helper()
	a.write(ws.AppendClose(nil, ws.Client, code, "", maskKey))
}

// hearEnd reads until the gateway's FIN.
func (a *act) hearEnd() []byte {
	a.Helper()
	b, err := io.ReadAll(a.c)
	if err != nil {
		a.Errorf("the client reads: %v", err)
	}
	return b
}

// abort has the client forget the connection.
func (a *act) abort() {
	a.Helper()
	if err := errors.Join(a.c.SetLinger(0), a.c.Close()); err != nil {
		a.Fatal(err)
	}
}

// gone waits until the gateway has closed its socket.
func (a *act) gone() {
	a.Helper()
	select {
	case <-a.over.Done():
	case <-time.After(patience):
		a.Fatalf("it does not end within %v", patience)
	}
}

// occupy has the gateway's callbacks for the connection be at work, so that it is read no more.
func (a *act) occupy() {
	a.Helper()
	a.say("x", 40) // more than may wait
	a.until("work", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.working[a.conn.ID()]
	})
}

// judge compares what the gateway says of the end, the kernel's word in it, with what it should.
func (a *act) judge(e *gatewayEnding, want trace.Verdict) {
	a.Helper()
	a.gone()
	var span longwire.Span
	kernel := false
	for late := time.Now().Add(patience); !kernel; {
		spans, err := a.gateway.Why(longwire.Question{Request: a.request})
		if err != nil || len(spans) != 1 {
			a.Fatalf("%d spans, %v", len(spans), err)
		}
		span = spans[0]
		for _, x := range span.Events {
			kernel = kernel || x.Kind == "kernel"
		}
		if !kernel && time.Now().After(late) {
			a.Fatalf("the kernel says nothing: %+v", span)
		}
		time.Sleep(50 * time.Millisecond) // between looks: the kernel tells on another thread
	}
	if got := causeText(&span); got != e.cause {
		a.Errorf("the cause is %s, want %s", got, e.cause)
	}
	if !strings.Contains(span.Why, e.why) {
		a.Errorf("why: %q, want %q in it", span.Why, e.why)
	}
	if word := says[a.trace.Level()] + a.trace.Verdict(uint8(want)); !strings.Contains(span.Why, word) {
		a.Errorf("why: %q, want %q (%v) in it", span.Why, word, want)
	}
	a.Logf("%-5v %s", a.trace.Level(), span.Why)
}

// causeText is a cause as longwire why prints it.
func causeText(s *longwire.Span) string {
	text := s.Cause
	if s.Code != 0 {
		text += fmt.Sprintf(" (%d)", s.Code)
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
}

// Where a connection of an ending comes in.
type entrance uint8

const (
	atGateway   entrance = iota
	atImpatient          // a gateway with a short UserTimeout
	atHTTP               // a net/http server with keepalive, before the gateway
)

// gatewayEnding is a way in which a gateway's connection may end, and what is said of it.
type gatewayEnding struct {
	name             string
	at               entrance
	path             string // of the endpoint
	cause, why       string // what the gateway says: the cause, a part of the sentence
	bpf, diag, errno trace.Verdict
	run              func(*act)
}

var big = make([]byte, 256<<10)

// Sentences that several endings have.
const (
	whyFIN     = "The client's side ended the stream without a closing handshake"
	whyClosed  = "The client closed it, in good order (1000)."
	whyOurs    = "Our application ended it with code 4000."
	whyUnknown = "bytes of ours were on their way"
	whyHangs   = "The client's machine took our ping of"
	whySlow    = "The client took its messages more slowly than they came"
	whySilent  = "The kernel gave up (ETIMEDOUT): what we had sent was not acknowledged in time"
	whyProbes  = "The kernel gave up (ETIMEDOUT): nothing of ours was on its way, and its probes had no answer."
	whyStopped = "The gateway was closed at once, without a word to the client."
	whyKilled  = "It was open when the process ended: nobody was told anything, and the kernel closed it."
)

// gatewayEndings are brought about by TestGatewayEndings. docs/trace.md has the table.
var gatewayEndings = []gatewayEnding{
	{"client FIN", atGateway, echoPath, "client_fin", whyFIN, trace.VerdictClientFIN, trace.VerdictClientFIN, trace.VerdictClientFIN, func(a *act) {
		_ = a.c.Close()
	}},
	{"a message and the client's FIN, then data and FIN of ours", atGateway, echoPath, "client_fin", whyFIN, trace.VerdictClientFIN, trace.VerdictClientFIN, trace.VerdictClientFIN, func(a *act) {
		a.say("bye", 1)
		_ = a.c.CloseWrite()
		if got := a.hearEnd(); !strings.Contains(string(got), "bye") {
			a.Errorf("the reply is %q", got)
		}
		_ = a.c.Close()
	}},
	{"close frame of the client, and our FIN", atGateway, echoPath, "client_close (1000)", whyClosed, trace.VerdictServerFIN, trace.VerdictServerFIN, trace.VerdictServerFIN, func(a *act) {
		a.bye(1000)
		a.hearEnd()
		_ = a.c.Close()
	}},
	{"close frame of ours, and our FIN", atGateway, echoPath, "application (4000)", whyOurs, trace.VerdictServerFIN, trace.VerdictServerFIN, trace.VerdictServerFIN, func(a *act) {
		if err := a.conn.Close(4000, ""); err != nil {
			a.Fatal(err)
		}
		if _, err := a.c.Read(make([]byte, 64)); err != nil {
			a.Fatal(err)
		}
		a.bye(4000)
		a.hearEnd()
		_ = a.c.Close()
	}},
	{"RST received", atGateway, echoPath, "reset: ECONNRESET", "The connection was reset by the other side or by something between (ECONNRESET).", trace.VerdictClientReset, trace.VerdictClientReset, trace.VerdictClientReset, func(a *act) {
		a.abort()
	}},
	{"RST received after the client's FIN, which waited unread", atGateway, busyPath, "reset: EPIPE", whyUnknown, trace.VerdictClientResetAfterFIN, trace.VerdictClientResetAfterFIN, trace.VerdictClientResetAfterFIN, func(a *act) {
		a.occupy()
		_ = a.c.Close()
		a.until("the client's FIN", func() bool { return a.info().State == sys.SocketCloseWait })
		a.send("data")
	}},
	{"RST received, client had forgotten", atGateway, echoPath, "reset: ECONNRESET", whyUnknown, trace.VerdictClientResetUnacked, trace.VerdictClientResetUnacked, trace.VerdictClientResetUnacked, func(a *act) {
		a.vanish()
		a.abort()
		a.hear()
		a.send("ping")
	}},
	{"RST received after retransmissions", atGateway, echoPath, "reset: ECONNRESET", whyUnknown, trace.VerdictClientResetUnacked, trace.VerdictClientResetUnacked, trace.VerdictClientResetUnacked, func(a *act) {
		a.vanish()
		a.abort()
		a.send("still there?")
		a.retransmits()
		a.hear()
	}},
	{"RST sent: a slow consumer", atGateway, smallPath, "slow_consumer: write_queue", whySlow, trace.VerdictServerResetAborted, trace.VerdictServerResetAborted, trace.VerdictServerResetAborted, func(a *act) {
		a.flood(big)
	}},
	// Below the probes nobody knows that something came then; that our FIN was sent anew is known. The client has nothing else on
	// its way: else what comes late would wait behind it.
	{"RST sent: data after our FIN, which was lost", atGateway, beatPath, "heartbeat_timeout (1008): program_silent", whyHangs, trace.VerdictServerResetLate, trace.VerdictHalfOpen, trace.VerdictServerFIN, func(a *act) {
		if _, err := io.ReadFull(a.c, make([]byte, 2)); err != nil { // a ping
			a.Fatal(err)
		}
		a.until("its acknowledgement", func() bool { return a.info().Unacked == 0 })
		a.fate(tracetest.Arrives, tracetest.Lost)
		a.gone()
		a.write([]byte("late"))
	}},
	{"data when all was over (TIME_WAIT)", atGateway, echoPath, "client_close (1000)", whyClosed, trace.VerdictServerFIN, trace.VerdictServerFIN, trace.VerdictServerFIN, func(a *act) {
		a.bye(1000)
		a.hearEnd()
		a.gone()
		a.write([]byte("late"))
	}},
	{"retransmission timeout", atGateway, echoPath, "kernel_timeout: ETIMEDOUT", whySilent, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, func(a *act) {
		a.vanish()
		a.send("hello?")
	}},
	{"`user-timeout`", atImpatient, echoPath, "kernel_timeout: ETIMEDOUT", whySilent, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, func(a *act) {
		a.vanish()
		a.send("hello?")
	}},
	{"keepalive timeout, of a connection from net/http", atHTTP, echoPath, "kernel_timeout: ETIMEDOUT", whyProbes, trace.VerdictKeepaliveTimeout, trace.VerdictKeepaliveTimeout, trace.VerdictKeepaliveTimeout, func(a *act) {
		a.vanish()
	}},
	{"zero window", atGateway, echoPath, "kernel_timeout: ETIMEDOUT", whyProbes, trace.VerdictZeroWindow, trace.VerdictZeroWindow, trace.VerdictZeroWindow, func(a *act) {
		for range 16 {
			if err := a.conn.Send(ws.OpBinary, big); err != nil {
				a.Fatal(err)
			}
		}
		tracetest.ShutWindow(a.T, a.fd)
		a.vanish()
	}},
	{"ICMP unreachable", atGateway, echoPath, "kernel_timeout: EHOSTUNREACH", "The kernel gave up (EHOSTUNREACH)", trace.VerdictUnreachable, trace.VerdictUnreachable, trace.VerdictUnreachable, func(a *act) {
		a.fate(tracetest.Arrives, tracetest.Away)
		a.send("hello?")
	}},
	{"FIN never acknowledged", atGateway, echoPath, "client_close (1000)", whyClosed, trace.VerdictHalfOpen, trace.VerdictHalfOpen, trace.VerdictServerFIN, func(a *act) {
		a.fate(tracetest.Arrives, tracetest.Lost)
		a.bye(1000)
	}},
	{"close frame of ours never acknowledged", atImpatient, echoPath, "application (4000)", whyOurs, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, trace.VerdictRetransmissionTimeout, func(a *act) {
		a.vanish()
		if err := a.conn.Close(4000, ""); err != nil {
			a.Fatal(err)
		}
	}},
	{"SOCK_DESTROY", atGateway, echoPath, "reset: ECONNABORTED", "Somebody had this machine's kernel end the connection (ECONNABORTED)", trace.VerdictDestroyed, trace.VerdictDestroyed, trace.VerdictDestroyed, func(a *act) {
		tracetest.Run(a.T, "ip", "netns", "exec", a.Names[0], "ss", "-K", "sport", "=", fmt.Sprint(a.gateway.Addr().Port()), "dport", "=", fmt.Sprint(a.c.LocalAddr().(*net.TCPAddr).Port))
	}},
	{"ping never acknowledged", atGateway, beatPath, "heartbeat_timeout (1008): network_silent", "The network went silent: our ping of", trace.VerdictHalfOpen, trace.VerdictHalfOpen, trace.VerdictServerFIN, func(a *act) {
		a.vanish()
	}},
	{"ping acknowledged, and never answered", atGateway, beatPath, "heartbeat_timeout (1008): program_silent", whyHangs, trace.VerdictServerFIN, trace.VerdictServerFIN, trace.VerdictServerFIN, func(*act) {}},
	{"silence, and then a full write queue", atGateway, smallPath, "slow_consumer: write_queue", whySlow, trace.VerdictServerResetAborted, trace.VerdictServerResetAborted, trace.VerdictServerResetAborted, func(a *act) {
		a.vanish()
		a.send("hello?")
		a.retransmits()
		a.flood(big)
	}},
}

// The endings that take the gateway with them.
var (
	stoppedEnding = gatewayEnding{name: "RST sent: stopped with unread data", cause: "drain: stopped", why: whyStopped, bpf: trace.VerdictServerResetUnread, diag: trace.VerdictServerResetUnread, errno: trace.VerdictServerResetUnread}
	killedEnding  = gatewayEnding{name: "gateway killed", why: whyKilled, bpf: trace.VerdictProcessKilled}
)

// TestGatewayEndings has a gateway's connections end in every way that there is, side by side and at each level, and holds what
// the gateway says of each, and what the kernel does, against the table.
func TestGatewayEndings(t *testing.T) {
	p := tracetest.NewPair(t)
	p.Set(t, "tcp_orphan_retries", "4") // what comes late comes while our FIN is still sent
	t.Run("all", func(t *testing.T) {
		var all sync.WaitGroup // not t.Parallel, which runs as many as there are CPUs: these wait
		defer all.Wait()
		for _, level := range []trace.Level{trace.LevelBPF, trace.LevelDiag, trace.LevelErrno} {
			all.Go(func() { t.Run(level.String(), func(t *testing.T) { gatewayEndingsAt(t, p, level) }) })
		}
	})
}

func gatewayEndingsAt(t *testing.T, p *tracetest.Pair, level trace.Level) {
	record := longwire.FlightRecorder{Bytes: 64 << 10, Dir: t.TempDir()}
	s := newStage(t, p, level, -1, record)
	impatient := newStage(t, p, level, time.Second, longwire.FlightRecorder{Bytes: 64 << 10})
	front := s.overHTTP(t)
	t.Run("all", func(t *testing.T) {
		var all sync.WaitGroup
		defer all.Wait()
		for i := range gatewayEndings {
			e := &gatewayEndings[i]
			all.Go(func() {
				t.Run(strings.ReplaceAll(e.name, " ", "_"), func(t *testing.T) {
					s, to := s, s.addr()
					switch e.at {
					case atImpatient:
						s, to = impatient, impatient.addr()
					case atHTTP:
						to = front
					}
					a := s.begin(t, to, e.path, fmt.Sprint("request ", i))
					e.run(a)
					a.judge(e, map[trace.Level]trace.Verdict{trace.LevelBPF: e.bpf, trace.LevelDiag: e.diag, trace.LevelErrno: e.errno}[level])
				})
			})
		}
	})
	stopWithUnread(t, s, record)
	for _, s := range []*stage{s, impatient} {
		if f := s.trace.figures(); f.Lost != 0 || f.Untraced != 0 {
			t.Errorf("%d ends were lost, %d connections not traced", f.Lost, f.Untraced)
		}
	}
}

// stopWithUnread closes a gateway that has not read all of a connection, and asks the next one that has its record.
func stopWithUnread(t *testing.T, s *stage, record longwire.FlightRecorder) {
	a := s.begin(t, s.addr(), busyPath, "request unread")
	a.occupy()
	a.say("unread", 1)
	a.until("data that waits", func() bool { n, err := sys.UnreadBytes(a.fd); return err == nil && n > 0 })
	before := s.trace.ends[trace.VerdictServerResetUnread].Load()
	done := make(chan error, 1)
	go func() { done <- s.gateway.Close() }()
	if _, err := io.Copy(io.Discard, a.c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads: %v, want a reset", err)
	}
	s.free()
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.until("the kernel's word", func() bool { return s.trace.ends[trace.VerdictServerResetUnread].Load() == before+1 })
	next, err := longwire.New(longwire.Config{MaxConns: 64, Loops: 1, MaxMemory: -1, FlightRecorder: record, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	spans, err := next.Why(longwire.Question{Request: a.request})
	if err != nil || len(spans) != 1 {
		t.Fatalf("%d spans, %v", len(spans), err)
	}
	if got := causeText(&spans[0]); got != stoppedEnding.cause || !strings.Contains(spans[0].Why, stoppedEnding.why) {
		t.Errorf("%s: %s", got, spans[0].Why)
	}
}

// TestGatewayKilled kills longwire serve. What becomes of its connections the next process says, and the kernel to a tracer that
// is another process.
func TestGatewayKilled(t *testing.T) {
	p := tracetest.NewPair(t)
	at := &net.TCPAddr{IP: net.ParseIP(tracetest.ServerAddr), Port: 8000}
	told := make(chan trace.Verdict, 16)
	tracer, err := trace.Open(trace.Options{Port: uint16(at.Port), Network: "/run/netns/" + p.Names[0], Handle: func(e *trace.Event) {
		if e.Kind == trace.KindEnded {
			told <- e.Life.Verdict()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-done, tracer.Close()); err != nil {
			t.Error(err)
		}
	}()
	if tracer.Level() != trace.LevelBPF {
		t.Skipf("the probes are not to be had here: %v", tracer.Refused())
	}
	record := longwire.FlightRecorder{Dir: t.TempDir()}
	server := exec.Command("longwire", "serve", "--insecure", "--addr", at.String(), "--max-conns", "64", "--max-memory", "none", "--flight-dir", record.Dir)
	said, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Server.Do(server.Start); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	lines := bufio.NewScanner(said)
	for listens := false; !listens; listens = strings.Contains(lines.Text(), "listening") {
		if !lines.Scan() {
			t.Fatalf("the gateway ended: %v", lines.Err())
		}
	}
	c := p.Dial(t, at)
	shake(t, c, "/ws", "request killed")
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the client reads: %v", err)
	}
	_ = c.Close()
	_ = server.Wait()
	select {
	case v := <-told:
		if v != killedEnding.bpf {
			t.Errorf("the kernel says %v, want %v", v, killedEnding.bpf)
		}
	case <-time.After(patience):
		t.Errorf("the kernel says nothing within %v", patience)
	}
	next, err := longwire.New(longwire.Config{MaxConns: 64, MaxMemory: -1, FlightRecorder: record, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	spans, err := next.Why(longwire.Question{Request: "request killed"})
	if err != nil || len(spans) != 1 {
		t.Fatalf("%d spans, %v", len(spans), err)
	}
	if !strings.Contains(spans[0].Why, killedEnding.why) || spans[0].Cause != killedEnding.cause {
		t.Errorf("%s: %s", spans[0].Cause, spans[0].Why)
	}
}

// TestGatewayEndingsPage holds the table of docs/trace.md to what is tested.
func TestGatewayEndingsPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/trace.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"| ending | cause | `longwire why` | bpf | diag | errno |", "|---|---|---|---|---|---|"}
	for _, e := range append(gatewayEndings[:len(gatewayEndings):len(gatewayEndings)], stoppedEnding) {
		want = append(want, fmt.Sprintf("| %s | `%s` | %s | `%s` | `%s` | `%s` |", e.name, e.cause, e.why, e.bpf, e.diag, e.errno))
	}
	want = append(want, fmt.Sprintf("| %s | – | %s | `%s` | – | – |", killedEnding.name, killedEnding.why, killedEnding.bpf), "")
	if table := strings.Join(want, "\n"); !strings.Contains(string(b), table) {
		t.Errorf("docs/trace.md has another table of a gateway's endings than this one:\n%s", table)
	}
}
