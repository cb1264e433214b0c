package longwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/waittest"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// why asks a gateway, which must know an answer.
func why(t *testing.T, g *Gateway, q Question) []Span {
	t.Helper()
	spans, err := g.Why(q)
	if err != nil {
		t.Fatalf("Why(%+v): %v", q, err)
	}
	return spans
}

// kindsOf are the kinds of a span's events, in order.
func kindsOf(s *Span) string {
	var kinds []string
	for i, e := range s.Events {
		kinds = append(kinds, e.Kind)
		if e.Time.IsZero() || i > 0 && e.Kind != "pinged" && s.Events[i-1].Kind != "pinged" && e.Time.Before(s.Events[i-1].Time) {
			return "out of order: " + fmt.Sprint(s.Events)
		}
	}
	return strings.Join(kinds, " ")
}

// wantWhy checks one span: a part of its sentence, its cause as Cause.Error has it, and its events.
func wantWhy(t *testing.T, s *Span, sentence, cause, kinds string) {
	t.Helper()
	if !strings.Contains(s.Why, sentence) {
		t.Errorf("why: %q, want %q in it", s.Why, sentence)
	}
	if got := kindsOf(s); got != kinds {
		t.Errorf("events: %s, want %s", got, kinds)
	}
	if len(s.Events) == 0 {
		return
	}
	if last := s.Events[len(s.Events)-1]; last.Kind == "ended" && last.Text != cause {
		t.Errorf("ended: %q, want %q", last.Text, cause)
	}
	if s.Open != (cause == "") || (s.Evidence != nil) != (cause != "") || strings.HasPrefix(cause, s.Cause) == (s.Cause == "") && cause != "" {
		t.Errorf("open %t, cause %q, evidence %+v; want the cause %q", s.Open, s.Cause, s.Evidence, cause)
	}
}

// TestWhyCauses brings about each end that a kernel in memory can, and asks why.
func TestWhyCauses(t *testing.T) {
	centrifuge := Centrifuge("/connection/websocket")
	plain := Plain("/ws")
	framed := Centrifuge("/connection/websocket")
	ends := func(code ws.StatusCode) func(*world, *peer) {
		return func(_ *world, p *peer) { p.Write(ws.AppendClose(nil, ws.Client, code, "", maskKey)) }
	}
	connected := func(p *peer) {
		p.send(ws.OpText, `{"id":1,"connect":{}}`)
		p.next()
	}
	for _, c := range []struct {
		name string
		at   Endpoint // zero: echo
		path string   // with a query; empty: the endpoint's
		end  func(w *world, p *peer)

		sentence, cause, kinds string
		evidence               func(e *Evidence) bool
	}{
		{name: "1000", end: ends(1000), sentence: "in good order (1000)", cause: "client_close (1000)", evidence: closeFrames(1000, 1000)},
		{name: "1001", end: ends(1001), sentence: "went away (1001)", cause: "client_close (1001)"},
		{name: "no code", end: ends(ws.StatusNoStatus), sentence: "without a code", cause: "client_close (1005)", evidence: closeFrames(1005, 1005)},
		{name: "its own code", end: ends(4321), sentence: "with code 4321", cause: "client_close (4321)"},
		{name: "FIN", end: func(w *world, p *peer) { p.Close() }, sentence: "without a closing handshake", cause: "client_fin"},
		{name: "FIN after silence", end: func(w *world, p *peer) {
			w.sys.Advance(20 * time.Second)
			p.Close()
		}, sentence: "after 20 s of silence", cause: "client_fin", evidence: func(e *Evidence) bool { return e.Age >= 19_000 && e.Silent >= 19_000 }},
		{name: "RST", end: func(w *world, p *peer) { p.Reset() }, sentence: "reset by the other side", cause: "reset: ECONNRESET", evidence: func(e *Evidence) bool {
			return e.Pinged == -1 && e.Ponged == -1 && closeFrames(-1, -1)(e)
		}},
		{name: "RST while our ping is out", end: func(w *world, p *peer) {
			w.sys.Advance(27 * time.Second)
			p.Reset()
		}, sentence: "reset by the other side", cause: "reset: ECONNRESET", kinds: "opened pinged ended", evidence: func(e *Evidence) bool { return e.Pinged >= 1900 && e.Pinged <= 3100 }},
		{name: "FIN after a pong", end: func(w *world, p *peer) {
			w.sys.Advance(27 * time.Second)
			p.next() // our ping: who closes with something unread resets
			p.Write(ws.AppendFrame(nil, ws.Client, ws.OpPong, nil, maskKey))
			w.sys.Advance(3 * time.Second)
			p.Close()
		}, sentence: "without a closing handshake", cause: "client_fin", evidence: func(e *Evidence) bool {
			return e.Ponged >= 2900 && e.Ponged <= 3100 && e.Ponged == e.Silent && e.Pinged == -1
		}},
		{name: "FIN after more than a pong", end: func(w *world, p *peer) {
			w.sys.Advance(27 * time.Second)
			p.next() // our ping: who closes with something unread resets
			p.Write(ws.AppendFrame(nil, ws.Client, ws.OpPong, nil, maskKey))
			w.sys.Settle()
			p.send(ws.OpText, "hello")
			p.next() // its echo
			p.Close()
		}, sentence: "without a closing handshake", cause: "client_fin", evidence: func(e *Evidence) bool { return e.Ponged == -1 }},
		{name: "kernel timeout", end: func(w *world, p *peer) { p.FailRead(syscall.ETIMEDOUT) }, sentence: "kernel gave up (ETIMEDOUT)", cause: "kernel_timeout: ETIMEDOUT"},
		{name: "silence", end: func(w *world, p *peer) { w.sys.Advance(31 * time.Second) }, sentence: "did not answer our ping of", cause: "heartbeat_timeout (1008)",
			kinds: "opened pinged ended", evidence: func(e *Evidence) bool {
				return e.Silent >= 29_900 && e.Silent < 30_500 && e.Pinged >= 4_900 && e.Pinged <= 6_100
			}},
		{name: "no ping", at: Endpoint{Path: "/quiet", Heartbeat: Heartbeat{Ping: -1, Timeout: 10 * time.Second}}, end: func(w *world, p *peer) { w.sys.Advance(11 * time.Second) },
			sentence: "was silent for 10 s.", cause: "heartbeat_timeout (1008)", evidence: func(e *Evidence) bool { return e.Pinged == -1 && e.RTT == -1 }},
		{name: "unmasked", end: func(w *world, p *peer) { p.Write(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("x"), maskKey)) },
			sentence: "broke the protocol (unmasked frame), and was told so with 1002", cause: "protocol_error (1002): unmasked_frame"},
		{name: "too big", end: func(w *world, p *peer) { p.Write(header(true, 0, ws.OpText, 1<<21)) }, sentence: "beyond the limit, and was told so with 1009", cause: "message_too_big (1009): message_too_big"},
		{name: "slow, raw", at: Endpoint{Path: "/slow", WriteQueue: 1000}, end: func(w *world, p *peer) {
			p.Limit(0)
			for range 10 {
				_ = p.conn.Send(ws.OpText, make([]byte, 300))
				w.sys.Settle()
			}
		}, sentence: "more slowly than they came: 1216 bytes waited for it. It was cut off", cause: "slow_consumer: write_queue", kinds: "opened slow ended",
			evidence: func(e *Evidence) bool { return e.Queued == 1216 }},
		{name: "replies unread", at: Endpoint{Path: "/replies", WriteQueue: 1000, OnMessage: func(_ Conn, m Message) { m.Reply(ws.OpBinary, make([]byte, 3000)) }}, end: func(w *world, p *peer) {
			p.Limit(0)
			p.send(ws.OpText, "more")
			w.sys.Settle()
			p.send(ws.OpText, "and more")
			w.sys.Advance(95 * time.Second)
		}, sentence: "did not read the replies: 6008 bytes waited for it. It was cut off", cause: "slow_consumer: replies_unread", kinds: "opened slow ended"},
		{name: "application", end: func(w *world, p *peer) { _ = p.conn.Close(4001, "secret words") }, sentence: "Our application ended it with code 4001.", cause: "application (4001)", evidence: closeFrames(4001, -1)},
		{name: "drain", end: func(w *world, p *peer) { drained(w, p) }, sentence: "asked the client to come back elsewhere with code 1001", cause: "drain (1001)", kinds: "opened ended answered", evidence: closeFrames(1001, 1001)},
		{name: "open", end: func(*world, *peer) {}, sentence: "It is open.", kinds: "opened"},

		{name: "plain", at: plain, path: "/ws?subscribe=news", end: func(w *world, p *peer) {
			p.next()
			p.send(ws.OpText, `{"type":"unsubscribe","channel":"news"}`)
			p.next()
			ends(1000)(w, p)
		}, sentence: "in good order", cause: "client_close (1000)", kinds: "opened subscribed left ended"},
		{name: "plain, binary", at: plain, end: func(_ *world, p *peer) { p.send(ws.OpBinary, "x") }, sentence: "broke the protocol, and was told so with 1003", cause: "protocol_error (1003)"},

		{name: "session", at: centrifuge, end: func(w *world, p *peer) {
			connected(p)
			p.send(ws.OpText, `{"id":2,"subscribe":{"channel":"news"}}`)
			p.next()
			p.Close()
		}, sentence: "without a closing handshake", cause: "client_fin", kinds: "opened connected subscribed ended"},
		{name: "session, bad token", at: centrifuge, end: func(_ *world, p *peer) { p.send(ws.OpText, `{"id":1,"connect":{"token":"x.y.z"}}`) },
			sentence: "not allowed (invalid token), and was told so with 3500", cause: "unauthorized (3500): invalid_token"},
		{name: "session, stale", at: centrifuge, end: func(w *world, p *peer) { w.sys.Advance(11 * time.Second) }, sentence: "did not say in time who it is, and was closed with 3502", cause: "unauthorized (3502): stale"},
		{name: "session with frames, no pong", at: framed, path: "/connection/websocket?cf_ws_frame_ping_pong=true", end: func(w *world, p *peer) {
			connected(p)
			w.sys.Advance(40 * time.Second)
		}, sentence: "did not answer our ping of", cause: "heartbeat_timeout (1008)", kinds: "opened connected pinged ended",
			evidence: func(e *Evidence) bool { return e.Pinged >= 4_900 && e.Pinged <= 6_100 }},
		{name: "session, bad request", at: centrifuge, end: func(_ *world, p *peer) { p.send(ws.OpText, `{`) }, sentence: "broke the protocol (bad request), and was told so with 3501", cause: "protocol_error (3501): bad_request"},
		{name: "session, slow", at: slowCentrifuge(), end: func(w *world, p *peer) {
			connected(p)
			p.send(ws.OpText, `{"id":2,"subscribe":{"channel":"news"}}`)
			p.next()
			p.Limit(0)
			for range 10 {
				if _, err := w.g.Publish(context.Background(), "news", []byte(`"`+strings.Repeat("x", 400)+`"`), PublishOptions{}); err != nil {
					w.t.Fatal(err)
				}
				w.sys.Settle()
			}
		}, sentence: "waited for it, and it was told so with 3008", cause: "slow_consumer (3008): write_queue", kinds: "opened connected subscribed slow ended"},
		{name: "session, disconnected", at: centrifuge, end: func(w *world, p *peer) {
			connected(p)
			id := why(w.t, w.g, Question{})[0].Client
			if err := w.g.Disconnect(context.Background(), Target{Client: id}, DisconnectAs{Code: 4100, Reason: "moved"}); err != nil {
				w.t.Fatal(err)
			}
			w.sys.Settle()
		}, sentence: "Our application ended it with code 4100", cause: "application (4100)", kinds: "opened connected ended"},
		{name: "session, unsubscribed", at: centrifuge, end: func(w *world, p *peer) {
			connected(p)
			p.send(ws.OpText, `{"id":2,"subscribe":{"channel":"news"}}`)
			p.next()
			if err := w.g.Unsubscribe(context.Background(), Target{}, "news"); err == nil {
				w.t.Fatal("nobody in particular was unsubscribed")
			}
			if err := w.g.Unsubscribe(context.Background(), Target{Client: why(w.t, w.g, Question{})[0].Client}, "news"); err != nil {
				w.t.Fatal(err)
			}
			w.sys.Settle()
		}, sentence: "It is open.", kinds: "opened connected subscribed left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ep := c.at
			if ep.Path == "" {
				ep = echo("/echo")
			}
			if c.path == "" {
				c.path = ep.Path
			}
			if c.kinds == "" {
				c.kinds = "opened ended"
			}
			w := newWorld(t, Config{Endpoints: []Endpoint{ep}, Sessions: Sessions{Insecure: true}})
			p := w.dial(c.path)
			c.end(w, p)
			w.sys.Settle()
			spans := why(t, w.g, Question{})
			if len(spans) != 1 {
				t.Fatalf("%d spans: %+v", len(spans), spans)
			}
			s := &spans[0]
			wantWhy(t, s, c.sentence, c.cause, c.kinds)
			if c.evidence != nil && (s.Evidence == nil || !c.evidence(s.Evidence)) {
				t.Errorf("evidence: %+v", s.Evidence)
			}
			if want := p.From.Addr().String(); s.Address != want || s.Endpoint != ep.Path {
				t.Errorf("from %q at %q, want %q at %q", s.Address, s.Endpoint, want, ep.Path)
			}
			if strings.Contains(fmt.Sprint(s), "secret") || strings.Contains(s.Why, "moved") {
				t.Errorf("the application's words are recorded: %+v", s)
			}
			// Whatever it is called, it is found by that.
			if got := why(t, w.g, Question{Client: s.Client}); len(got) != 1 || got[0].Why != s.Why {
				t.Errorf("by its id %s: %+v", s.Client, got)
			}
			if hasSessions := ep.protocol != protocolNone; (s.Client != p.conn.ID()) != hasSessions {
				t.Errorf("the client is %s, the conn %s", s.Client, p.conn.ID())
			}
			if b, err := json.Marshal(s); err != nil || !strings.Contains(string(b), `"why":"`) {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
}

// closeFrames is the evidence of the codes in both sides' close frames.
func closeFrames(sent, received int64) func(e *Evidence) bool {
	return func(e *Evidence) bool { return e.CloseSent == sent && e.CloseReceived == received }
}

func slowCentrifuge() Endpoint {
	e := Centrifuge("/connection/websocket")
	e.WriteQueue = 1000
	return e
}

// drained drains the gateway, and answers the close frame.
func drained(w *world, p *peer) {
	w.t.Helper()
	// Begun here, so that the loop knows of it before its clock moves: a goroutine may wait long for a processor.
	w.g.StartDrain(0)
	over := make(chan error, 1)
	go func() { over <- w.g.Drain(context.Background(), 0) }()
	waittest.Until(w.t, "our close frame", func() bool {
		w.sys.Advance(100 * time.Millisecond)
		op, _, code, ok := p.next()
		if !ok || op != ws.OpClose {
			return false
		}
		p.Write(ws.AppendClose(nil, ws.Client, code, "", maskKey))
		p.Close()
		return true
	})
	waittest.Until(w.t, "the drain's end", func() bool {
		w.sys.Advance(100 * time.Millisecond)
		select {
		case err := <-over:
			if err != nil {
				w.t.Error(err)
			}
			return true
		default:
			return false
		}
	})
}

// Who was refused, and who asked for a page, is no connection.
func TestWhyNotRecorded(t *testing.T) {
	ep := echo("/echo")
	ep.Authorize = func(r *ws.Request) *ws.Refusal {
		return &ws.Refusal{Status: 401, Reason: "who are you?"}
	}
	w := newWorld(t, Config{Endpoints: []Endpoint{ep}})
	for _, request := range []string{string(requestFor("/echo", ws.Dial{})), "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "nonsense\r\n\r\n", "GET /ec"} {
		p := w.raw()
		p.Write([]byte(request))
		w.sys.Advance(10 * time.Second)
		p.Close()
	}
	w.sys.Settle()
	if got := why(t, w.g, Question{}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if from, err := w.g.Recorded(); err != nil || !from.IsZero() {
		t.Errorf("recorded from %v, %v", from, err)
	}
}

const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

// headed does the handshake with some header lines.
func (w *world) headed(path, lines, from string) *peer {
	w.t.Helper()
	p := &peer{w: w, Peer: w.sys.DialFrom(netip.MustParseAddrPort(from), netip.AddrPort{})}
	p.upgrade(path, ws.Dial{Header: lines})
	return p
}

func TestWhyQuestions(t *testing.T) {
	tokens := TokenOptions{HMACSecret: []byte("s")}
	w := newWorld(t, Config{Endpoints: []Endpoint{Centrifuge("/connection/websocket"), echo("/echo")}, Tokens: tokens,
		Hooks: Hooks{Connect: func(_ context.Context, _ Client, r ConnectRequest) (ConnectReply, error) {
			return ConnectReply{User: string(r.Data[1 : len(r.Data)-1])}, nil
		}}})
	session := func(user, from, lines string) *peer {
		p := w.headed("/connection/websocket", lines, from)
		p.send(ws.OpText, `{"id":1,"connect":{"data":"`+user+`"}}`)
		waittest.Until(t, "a reply to connect", func() bool { _, _, _, ok := p.next(); return ok })
		return p
	}
	const long = "a-user-whose-name-is-longer-than-thirty-six-bytes"
	ann := session("ann", "192.0.2.7:5000", "X-Request-ID: 3f0e1c9a-5b1d-4d8e-9a52-0a4f2f0f7f11\r\nTraceparent: 00-"+traceID+"-"+spanID+"-01\r\n")
	ann.Reset()
	w.sys.Settle()
	session("ann", "[2001:db8::9]:6000", "")
	session(long, "192.0.2.7:5001", "Traceparent: 00-"+strings.Repeat("0", 32)+"-"+spanID+"-01\r\n")
	raw := w.headed("/echo", "", "192.0.2.9:5002")
	raw.Write(ws.AppendClose(nil, ws.Client, 1000, "", maskKey))
	w.sys.Settle()

	all := why(t, w.g, Question{})
	if len(all) != 4 {
		t.Fatalf("%d spans: %+v", len(all), all)
	}
	rawSpan, longSpan, back, first := all[0], all[1], all[2], all[3]
	wantWhy(t, &first, "The client came back", "reset: ECONNRESET", "opened request trace connected ended")
	if !strings.HasSuffix(first.Why, "from another address.") {
		t.Errorf("why: %s", first.Why)
	}
	if first.User != "ann" || first.Request != "3f0e1c9a-5b1d-4d8e-9a52-0a4f2f0f7f11" || first.Trace != traceID || first.Events[2].Text != traceID+" "+spanID {
		t.Errorf("%+v", first)
	}
	if kindsOf(&longSpan) != "opened connected" || longSpan.User != long[:36] {
		t.Errorf("a traceparent of nothing, and a long name: %+v", longSpan)
	}
	now := time.Now()
	for _, c := range []struct {
		name string
		q    Question
		want []string // clients
	}{
		{"client", Question{Client: first.Client}, []string{first.Client}},
		{"client in capitals", Question{Client: strings.ToUpper(first.Client)}, []string{first.Client}},
		{"conn", Question{Client: raw.conn.ID()}, []string{rawSpan.Client}},
		{"a conn of nobody", Question{Client: "zzz"}, nil},
		{"user", Question{User: "ann"}, []string{back.Client, first.Client}},
		{"nobody", Question{User: "an"}, nil},
		{"long user", Question{User: long}, []string{longSpan.Client}},
		{"address", Question{Address: "192.0.2.7"}, []string{longSpan.Client, first.Client}},
		{"mapped address", Question{Address: "::ffff:192.0.2.9"}, []string{rawSpan.Client}},
		{"request", Question{Request: first.Request}, []string{first.Client}},
		{"no request", Question{Request: "3f0e"}, nil},
		{"trace", Question{Trace: traceID}, []string{first.Client}},
		{"another trace", Question{Trace: strings.Repeat("a", 32)}, nil},
		{"cause", Question{Cause: CauseReset}, []string{first.Client}},
		{"no such end", Question{Cause: CauseDrain}, nil},
		{"two", Question{User: "ann", Cause: CauseReset}, []string{first.Client}},
		{"two that exclude each other", Question{User: long, Cause: CauseReset}, nil},
		{"a client and another's user", Question{Client: first.Client, User: long}, nil},
		{"since", Question{Since: now.Add(-time.Minute)}, []string{rawSpan.Client, longSpan.Client, back.Client, first.Client}},
		{"since then", Question{Since: now.Add(time.Minute)}, nil},
		{"limit", Question{Limit: 2}, []string{rawSpan.Client, longSpan.Client}},
	} {
		var got []string
		for _, s := range why(t, w.g, c.q) {
			got = append(got, s.Client)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		q    Question
		want string
	}{
		{Question{Client: "11111111-2222-3333-4444-555555555555"}, "no id of a client of this gateway"},
		{Question{Client: "not an id"}, "no id of a client"},
		{Question{Client: "0"}, "no id of a client"},
		{Question{Address: "example.com"}, "want one such as 192.0.2.7"},
		{Question{Address: "192.0.2.7:99999"}, "want one such as 192.0.2.7"},
		{Question{Trace: "4bf9"}, "want 32 hexadecimal digits"},
		{Question{Trace: strings.Repeat("x", 32)}, "want 32 hexadecimal digits"},
		{Question{Limit: 1001}, "at most 1000"},
		{Question{Limit: -1}, "at most 1000"},
		{Question{Cause: 200}, "no cause 200"},
	} {
		if got, err := w.g.Why(c.q); !errors.Is(err, ErrBadQuestion) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, %v; want an error with %q", c.q, got, err, c.want)
		}
	}
	if from, err := w.g.Recorded(); err != nil || !from.Equal(first.Events[0].Time) {
		t.Errorf("recorded from %v, %v; want %v", from, err, first.Events[0].Time)
	}
	_ = w.g.Close()
	if _, err := w.g.Why(Question{}); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	if _, err := w.g.Recorded(); err != ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

func TestWhyOff(t *testing.T) {
	w := newWorld(t, Config{FlightRecorder: FlightRecorder{Bytes: -1}})
	w.bystander("/echo").check()
	if _, err := w.g.Why(Question{}); err != ErrNoRecord {
		t.Errorf("%v", err)
	}
}

// A full ring forgets the oldest, and only them.
func TestWhyRingFull(t *testing.T) {
	const events = 64
	w := newWorld(t, Config{FlightRecorder: FlightRecorder{Bytes: events * 64}})
	var last string
	for range 3 * events {
		p := w.dial("/echo")
		last = p.conn.ID()
		p.Close()
	}
	w.sys.Settle()
	spans := why(t, w.g, Question{Limit: 1000})
	if len(spans) < events/4 || len(spans) > events/2+1 || spans[0].Client != last {
		t.Fatalf("%d spans of two events each, the last %s; want as many as fit into %d events, up to %s", len(spans), spans[0].Client, events, last)
	}
	for _, s := range spans[:len(spans)-1] {
		wantWhy(t, &s, "without a closing handshake", "client_fin", "opened ended")
	}
}

// When the machine's clock is set, what came before stays before, and what was a minute ago is no further away.
func TestWhyClockIsSet(t *testing.T) {
	for _, d := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			var ahead atomic.Int64
			clock := func() time.Time { return setClock(time.Now(), time.Duration(ahead.Load())) }
			w := newWorld(t, Config{Endpoints: []Endpoint{Centrifuge("/connection/websocket")}, Sessions: Sessions{Insecure: true}, clock: clock,
				Hooks: Hooks{Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
					return ConnectReply{User: "ann"}, nil
				}}})
			connect := func() *peer {
				p := w.dial("/connection/websocket")
				p.send(ws.OpText, `{"id":1,"connect":{}}`)
				waittest.Until(t, "a reply to connect", func() bool { _, _, _, ok := p.next(); return ok })
				return p
			}
			began := clock()
			connect().Reset()
			w.sys.Settle()
			ahead.Store(int64(d))
			connect()
			for _, q := range []Question{{User: "ann"}, {User: "ann", Since: clock().Add(-time.Since(began) - time.Second)}} {
				s := why(t, w.g, q)
				if len(s) != 2 || !s[0].Open || s[1].Open || !strings.Contains(s[1].Why, " The client came back ") {
					t.Fatalf("%+v: %+v", q, s)
				}
				// Each event has the time that the clock showed.
				if at := s[1].Events[0].Time; at.Sub(began.Round(0)).Abs() > 10*time.Minute {
					t.Errorf("the first began at %v, not at %v", at, began)
				}
				if at, want := s[0].Events[0].Time, setClock(began, d).Round(0); at.Sub(want).Abs() > 10*time.Minute {
					t.Errorf("the second began at %v, not at %v", at, want)
				}
			}
			if s := why(t, w.g, Question{User: "ann", Since: clock().Add(time.Second)}); len(s) != 0 {
				t.Errorf("of the future: %+v", s)
			}
		})
	}
}

// Who is open is known, though the ring has forgotten how it began: by its id, its user and its address.
func TestWhyOpenAndForgotten(t *testing.T) {
	const events = 8
	w := newWorld(t, Config{Endpoints: []Endpoint{Centrifuge("/connection/websocket"), echo("/echo")}, Sessions: Sessions{Insecure: true}, FlightRecorder: FlightRecorder{Bytes: events * 64},
		Hooks: Hooks{Connect: func(context.Context, Client, ConnectRequest) (ConnectReply, error) {
			return ConnectReply{User: "ann"}, nil
		}}})
	ann := w.headed("/connection/websocket", "", "192.0.2.7:5000")
	ann.send(ws.OpText, `{"id":1,"connect":{}}`)
	waittest.Until(t, "a reply to connect", func() bool { _, _, _, ok := ann.next(); return ok })
	client := why(t, w.g, Question{User: "ann"})[0].Client
	for range events { // each has an event of its opening and one of its end
		p := w.headed("/echo", "", "192.0.2.9:6000")
		p.Close()
	}
	w.sys.Advance(20 * time.Second)
	questions := []Question{{Client: client}, {User: "ann"}, {Address: "192.0.2.7"}, {User: "ann", Address: "192.0.2.7"}}
	for _, q := range questions {
		spans := why(t, w.g, q)
		if len(spans) != 1 {
			t.Fatalf("%+v: %d spans: %+v", q, len(spans), spans)
		}
		s := spans[0]
		if s.Client != client || s.User != "ann" || s.Address != "192.0.2.7" || s.Endpoint != "/connection/websocket" || !s.Open || len(s.Events) != 1 ||
			s.Events[0].Kind != "opened" || s.Events[0].Text != "192.0.2.7 /connection/websocket" || !strings.HasPrefix(s.Why, "It is open, and has been for 20") {
			t.Errorf("%+v: %+v", q, s)
		}
	}
	for _, q := range []Question{{User: "bob"}, {Address: "192.0.2.8"}, {User: "ann", Cause: CauseReset}, {User: "ann", Since: time.Now().Add(-time.Hour)}, {User: "ann", Request: "r"}} {
		if spans := why(t, w.g, q); len(spans) != 0 {
			t.Errorf("%+v: %+v", q, spans)
		}
	}
	if spans := why(t, w.g, Question{Limit: 1000}); slices.ContainsFunc(spans, func(s Span) bool { return s.Client == client }) {
		t.Errorf("it is in the record after all: %+v", spans)
	}
	// What the record has of it since is told too, and of two that are one the one that ended comes first.
	ann.send(ws.OpText, `{"id":2,"subscribe":{"channel":"news"}}`)
	waittest.Until(t, "a reply to subscribe", func() bool { _, _, _, ok := ann.next(); return ok })
	for _, q := range questions {
		if s := why(t, w.g, q); len(s) != 1 || kindsOf(&s[0]) != "opened subscribed" || s[0].User != "ann" {
			t.Errorf("%+v: %+v", q, s)
		}
	}
	other := w.headed("/connection/websocket", "", "192.0.2.7:5001")
	other.send(ws.OpText, `{"id":1,"connect":{}}`)
	waittest.Until(t, "a reply to connect", func() bool { _, _, _, ok := other.next(); return ok })
	other.Close()
	w.sys.Settle()
	if s := why(t, w.g, Question{User: "ann"}); len(s) != 2 || s[0].Open || s[1].Client != client {
		t.Errorf("with one that ended: %+v", s)
	}
	if s := why(t, w.g, Question{User: "ann", Limit: 1}); len(s) != 1 || s[0].Open {
		t.Errorf("the latest: %+v", s)
	}
}

// A connection of net/http's is recorded as others are, with its address and port.
func TestWhyAdopted(t *testing.T) {
	m := mount(t, Config{}, (*httptest.Server).Start)
	c := wstest.Dial(t, m.addr, "/echo", ws.Dial{})
	c.Echoes()
	from := c.LocalAddr().String()
	_ = c.Close()
	<-m.open.closed
	spans := why(t, m.g, Question{Address: from})
	if len(spans) != 1 || spans[0].Address != from {
		t.Fatalf("from %s: %+v", from, spans)
	}
	wantWhy(t, &spans[0], "without a closing handshake", "client_fin", "opened ended")
}

func TestMaskedAddresses(t *testing.T) {
	w := newWorld(t, Config{MaskAddresses: true})
	for _, c := range []struct{ from, want, other string }{
		{"192.0.2.7:5000", "192.0.2.0", "192.0.2.99"},
		{"[2001:db8:7:8::9]:6000", "2001:db8:7::", "2001:db8:7:ffff::"},
	} {
		p := w.headed("/echo", "", c.from)
		p.Write(ws.AppendFrame(nil, ws.Server, ws.OpText, []byte("x"), maskKey)) // its fault, so that it is logged
		p.Close()
		for _, ask := range []string{c.from, c.other} {
			if got := why(t, w.g, Question{Address: ask}); len(got) != 1 || got[0].Address != c.want {
				t.Errorf("%s: %+v, want %s", ask, got, c.want)
			}
		}
		w.log.Want(t, "closed", "addr="+c.want)
	}
	if log := w.log.String(); strings.Contains(log, "192.0.2.7") || strings.Contains(log, "2001:db8:7:8") {
		t.Errorf("the log has an address:\n%s", log)
	}
}

// Neither payloads nor tokens nor an application's words get into the record.
func TestRecordHasNoSecrets(t *testing.T) {
	dir := t.TempDir()
	g := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{Centrifuge("/connection/websocket"), echo("/echo")},
		Sessions: Sessions{Insecure: true}, FlightRecorder: FlightRecorder{Bytes: 1 << 16, Dir: dir}})
	const secret = "hush"
	c := wstest.Dial(t, g.Addr().String(), "/echo?token="+secret, ws.Dial{Header: "Authorization: Bearer " + secret + "\r\nCookie: session=" + secret + "\r\n"})
	c.Send(ws.OpText, secret)
	c.Next()
	c.SendClose(4000, secret)
	c.Next()
	s := wstest.Dial(t, g.Addr().String(), "/connection/websocket", ws.Dial{})
	for _, command := range []string{`{"id":1,"connect":{"data":"` + secret + `","name":"` + secret + `"}}`, `{"id":2,"subscribe":{"channel":"seen","data":"` + secret + `"}}`, `{"id":3,"publish":{"channel":"seen","data":"` + secret + `"}}`} {
		s.Send(ws.OpText, command)
		s.Next()
	}
	if err := g.Disconnect(t.Context(), Target{Client: why(t, g, Question{})[0].Client}, DisconnectAs{Code: 4100, Reason: secret}); err != nil {
		t.Fatal(err)
	}
	for op := ws.NoEvent; op != ws.OpClose; {
		op, _, _ = s.Next()
	}
	waittest.Until(t, "both ends", func() bool {
		spans := why(t, g, Question{})
		return len(spans) == 2 && !spans[0].Open && !spans[1].Open
	})
	b, err := os.ReadFile(filepath.Join(dir, "flight.ring"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "seen") {
		t.Error("not even the channel is there")
	}
	if strings.Contains(string(b), secret) {
		t.Error("the record has the secret")
	}
}

// Two gateways do not share a directory, and what New cannot have it says at once.
func TestRecorderRefused(t *testing.T) {
	silent := slog.New(slog.DiscardHandler)
	open := func(dir string) error {
		g, err := New(Config{Loops: 1, MaxConns: 10, Log: silent, FlightRecorder: FlightRecorder{Bytes: 1 << 14, Dir: dir}})
		if err == nil {
			_ = g.Close()
		}
		return err
	}
	dir := t.TempDir()
	first := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, FlightRecorder: FlightRecorder{Bytes: 1 << 14, Dir: dir}})
	if err := open(dir); err == nil || !strings.Contains(err.Error(), "is in use by another process") {
		t.Errorf("a second gateway: %v", err)
	}
	_ = first.Close()
	if err := open(dir); err != nil {
		t.Errorf("after the first: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "flight.ring"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(dir); err == nil || !strings.Contains(err.Error(), "flight.ring is no flight recorder's file") {
		t.Errorf("another's file: %v", err)
	}
	if err := open(filepath.Join(dir, "flight.ring")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file for a directory: %v", err)
	}
}

func TestIntroduction(t *testing.T) {
	g := startGateway(t, Config{Loops: 1, MaxConns: 10, MaxMemory: -1, Endpoints: []Endpoint{Plain("/ws"), echo("/echo"), echo("/" + strings.Repeat("x", 300))}})
	p := parseIntroduction(g.introduction())
	if p.ids == nil || p.ids.ID(7) != g.node.ID(7) {
		t.Errorf("the ids: %+v", p)
	}
	if len(p.endpoints) != 3 || p.endpoints[0] != (recordedEndpoint{"/ws", true}) || p.endpoints[1] != (recordedEndpoint{"/echo", false}) || len(p.endpoints[2].path) != 255 {
		t.Errorf("%+v", p.endpoints)
	}
}

func FuzzIntroduction(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{16, 1, 2})
	f.Add(append(append([]byte{16}, make([]byte, 16)...), 1, 3, '/', 'w', 's', 0, 9, '/'))
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for _, e := range parseIntroduction(b).endpoints {
			total += 2 + len(e.path)
		}
		if total > len(b) {
			t.Errorf("%d bytes of endpoints out of %d", total, len(b))
		}
	})
}

func FuzzTraceContext(f *testing.F) {
	for _, s := range []string{"", "00-" + traceID + "-" + spanID + "-01", "01-" + traceID + "-" + spanID + "-01-more", "ff-" + traceID + "-" + spanID + "-01",
		"00-" + traceID + "-" + spanID + "-01more", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		trace, span, ok := traceContext(b)
		if ok && !strings.EqualFold(fmt.Sprintf("%x-%x", trace, span), string(b[3:52])) {
			t.Errorf("%q: %x, %x", b, trace, span)
		}
	})
}

func TestCauseKindText(t *testing.T) {
	for _, k := range CauseKinds() {
		b, err := k.MarshalText()
		var got CauseKind
		if err2 := got.UnmarshalText(b); err != nil || err2 != nil || got != k {
			t.Errorf("%s: %v, %v, %v", b, got, err, err2)
		}
	}
	var k CauseKind
	for _, s := range []string{"", "unknown", "client"} {
		if err := k.UnmarshalText([]byte(s)); err == nil || !strings.Contains(err.Error(), "want one of client_close, ") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
