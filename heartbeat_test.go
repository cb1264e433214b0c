package longwire

import (
	"slices"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

func TestHeartbeat(t *testing.T) {
	w := newWorld(t, Config{})
	b := w.bystander("/echo")
	p := w.dial("/echo")
	silent := time.Duration(0)
	for op, ok := ws.NoEvent, false; !ok; silent += 100 * time.Millisecond {
		w.sys.Advance(100 * time.Millisecond)
		b.answer()
		if op, _, _, ok = p.next(); ok && op != ws.OpPing {
			t.Fatalf("got %v, want a ping", op)
		}
	}
	if silent < 22500*time.Millisecond || silent > 25100*time.Millisecond {
		t.Errorf("pinged after %v of silence, want 22.5 to 25 s", silent)
	}
	b.pass(29800*time.Millisecond - silent)
	p.nothing()
	if p.EOF() {
		t.Fatal("closed before 30 s")
	}
	b.pass(400 * time.Millisecond)
	if op, reason, code, ok := p.next(); !ok || op != ws.OpClose || code != 1008 || reason != "heartbeat timeout" {
		t.Errorf("after 30 s: got %v %q %d, want close 1008", op, reason, code)
	}
	p.finish()
	p.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008})
	w.wantCloses(map[string]uint64{"heartbeat_timeout": 1})
	b.check()
}

// Pings of conns that came at once do not go at once.
func TestHeartbeatSpreads(t *testing.T) {
	const n = 400
	w := newWorld(t, Config{})
	var peers []*peer
	for range n {
		peers = append(peers, w.dial("/echo"))
	}
	perTick := make(map[int]int)
	pinged := 0
	for tick := 0; tick < 260; tick++ {
		before := w.g.Stats().Pings
		w.sys.Advance(100 * time.Millisecond)
		if d := int(w.g.Stats().Pings - before); d > 0 {
			perTick[tick] = d
			pinged += d
		}
	}
	if pinged != n {
		t.Errorf("%d conns were pinged, want %d", pinged, n)
	}
	// A 25th of 25 s are 10 ticks.
	if len(perTick) < 9 {
		t.Errorf("pings went in %d ticks, want about 10", len(perTick))
	}
	for tick, d := range perTick {
		if tick < 239 || tick > 251 || d > n/10*3 {
			t.Errorf("%d pings in tick %d", d, tick)
		}
	}
	for _, p := range peers {
		p.want(ws.OpPing, "")
		p.send(ws.OpPong, "")
	}
	w.sys.Advance(20 * time.Second)
	w.wantCloses(map[string]uint64{})
}

// Whatever bytes come are a sign of life: an answer, a message, a piece of a frame.
func TestHeartbeatLife(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"pong":            frame(true, 0, ws.OpPong, ""),
		"message":         frame(true, 0, ws.OpText, "hi"),
		"ping":            frame(true, 0, ws.OpPing, ""),
		"a byte a time":   nil,
		"unasked pong":    frame(true, 0, ws.OpPong, "unasked"),
		"fragments":       frame(false, 0, ws.OpContinuation, "more"),
		"half of a frame": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.dial("/echo")
			long := append(header(true, 0, ws.OpBinary, 1000), make([]byte, 1000)...)
			if name == "fragments" {
				p.Write(frame(false, 0, ws.OpText, "begin"))
			}
			for k := range 10 {
				w.sys.Advance(28 * time.Second)
				if bytes != nil {
					p.Write(bytes)
				} else {
					p.Write(long[k : k+1])
				}
				w.sys.Settle()
			}
			if got := w.open.causes(p.conn); got != nil {
				t.Errorf("it ended: %v", got)
			}
			if n := w.g.Stats().Pings; n != 10 {
				t.Errorf("%d pings in ten silences of 28 s, want 10", n)
			}
		})
	}
}

// A loop that was held up longer than the timeout has not heard its clients for that long: it pings them and
// gives them their time to answer.
func TestHeartbeatLateLoop(t *testing.T) {
	w := newWorld(t, Config{})
	alive, dead := w.dial("/echo"), w.dial("/echo")
	w.sys.Jump(60 * time.Second)
	w.sys.Settle()
	alive.want(ws.OpPing, "")
	dead.want(ws.OpPing, "")
	alive.send(ws.OpPong, "")
	w.sys.Advance(4 * time.Second)
	if dead.EOF() {
		t.Error("closed although its ping is 4 s old")
	}
	w.sys.Advance(2 * time.Second)
	dead.wantClose(1008)
	dead.finish()
	dead.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008})
	alive.echoes()
}

// What waits in the socket at the deadline saves its sender, though the loop gets to it late.
func TestHeartbeatAnswerInTheSocket(t *testing.T) {
	w := newWorld(t, Config{})
	var peers []*peer
	for range 20 {
		peers = append(peers, w.dial("/echo"))
	}
	w.sys.Advance(26 * time.Second)
	for _, p := range peers {
		p.want(ws.OpPing, "")
	}
	// The answer and the deadline come together.
	for _, p := range peers {
		p.send(ws.OpPong, "")
	}
	w.sys.Jump(60 * time.Second)
	w.sys.Settle()
	w.wantCloses(map[string]uint64{})
	for _, p := range peers {
		if op, _, _, ok := p.next(); ok && op != ws.OpPing {
			t.Errorf("got %v", op)
		}
		p.send(ws.OpPong, "")
		p.echoes()
	}
}

// The heartbeat is each endpoint's own.
func TestHeartbeatPolicies(t *testing.T) {
	ep := func(path string, h Heartbeat) Endpoint {
		e := echo(path)
		e.Heartbeat = h
		return e
	}
	w := newWorld(t, Config{Endpoints: []Endpoint{
		ep("/fast", Heartbeat{Ping: time.Second, Timeout: 2 * time.Second}),
		ep("/never", Heartbeat{Ping: -1, Timeout: -1}),
		ep("/noclose", Heartbeat{Ping: 10 * time.Second, Timeout: -1}),
		ep("/noping", Heartbeat{Ping: -1, Timeout: 10 * time.Second}),
		ep("/slow", Heartbeat{Ping: 10 * time.Minute}),
	}})
	fast, never, noclose, noping, slow := w.dial("/fast"), w.dial("/never"), w.dial("/noclose"), w.dial("/noping"), w.dial("/slow")
	w.sys.Advance(1100 * time.Millisecond)
	fast.want(ws.OpPing, "")
	w.sys.Advance(1200 * time.Millisecond)
	fast.wantClose(1008)
	fast.Close()
	fast.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008})
	w.sys.Advance(7 * time.Second)
	if noping.EOF() {
		t.Error("/noping: closed before 10 s")
	}
	w.sys.Advance(time.Second)
	noping.wantClose(1008) // and no ping before
	noping.Close()
	noclose.want(ws.OpPing, "")
	w.sys.Advance(8 * time.Minute)
	noclose.echoes()
	never.echoes()
	slow.nothing()
	w.sys.Advance(111 * time.Second) // 10 minutes since it came
	slow.want(ws.OpPing, "")
	w.sys.Advance(6 * time.Second)
	slow.wantClose(1008)
	slow.Close()
	never.nothing()
	never.echoes()
	w.wantCloses(map[string]uint64{"heartbeat_timeout": 3})
}

// A ping is not queued behind data that the client does not acknowledge either: it could not answer it.
func TestHeartbeatBehindData(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.dial("/echo")
	p.Limit(100)
	_ = p.conn.Send(ws.OpText, slices.Repeat([]byte("x"), 10_000))
	w.sys.Advance(26 * time.Second)
	if n := w.g.Stats().Pings; n != 0 {
		t.Errorf("%d pings wait behind data", n)
	}
	w.sys.Advance(8 * time.Second)
	p.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008})
}

// What TCP knows tells a network that is gone from a program that does not answer, and changes nothing about when it ends.
func TestHeartbeatDetail(t *testing.T) {
	late := sys.TCPInfo{BytesSent: 200, BytesAcked: 200, LastAck: 4 * time.Second}
	for _, c := range []struct {
		name  string
		ping  time.Duration
		queue bool // data waits in front of the ping
		info  *sys.TCPInfo
		want  string
	}{
		{"a system that tells nothing", 0, false, nil, ""},
		{"acknowledged", 0, false, &late, detailProgram},
		{"acknowledged the second time", 0, false, &sys.TCPInfo{BytesSent: 202, BytesRetransmitted: 2, BytesAcked: 200, Retransmits: 1}, detailProgram},
		{"never acknowledged", 0, false, &sys.TCPInfo{BytesSent: 206, BytesRetransmitted: 4, BytesAcked: 200, Timeouts: 2}, detailNetwork},
		{"a closed window", 0, true, &sys.TCPInfo{BytesSent: 200, BytesAcked: 200, NotSent: 500}, detailProgram},
		{"a closed window, and probes without an answer", 0, true, &sys.TCPInfo{BytesSent: 200, BytesAcked: 200, NotSent: 500, Probes: 3}, detailNetwork},
		{"no pings", -1, false, &late, ""},
		{"no pings, something else on its way", -1, false, &sys.TCPInfo{BytesSent: 300, BytesAcked: 200}, detailNetwork},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := echo("/echo")
			e.Heartbeat = Heartbeat{Ping: c.ping}
			w := newWorld(t, Config{Endpoints: []Endpoint{e}})
			p := w.dial("/echo")
			if c.info != nil {
				p.Tell(*c.info)
			}
			if c.queue {
				p.Limit(100)
				_ = p.conn.Send(ws.OpText, slices.Repeat([]byte("x"), 10_000))
			}
			w.sys.Advance(29 * time.Second)
			if got := w.open.causes(p.conn); got != nil {
				t.Fatalf("it ended after 29 s: %v", got)
			}
			w.sys.Advance(10 * time.Second)
			p.wantCause(Cause{Kind: CauseHeartbeat, Code: 1008, Detail: c.want})
		})
	}
}
