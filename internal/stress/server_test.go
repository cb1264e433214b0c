package stress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// What runs are aimed at in tests: a real gateway, and servers that do with each conn what the test says.

// gateway starts one with an echo, both client protocols and plain HTTP, and returns its host and port. change may be nil.
func gateway(t testing.TB, change func(*longwire.Config)) string {
	t.Helper()
	c := longwire.Config{
		Addr: "127.0.0.1:0", MaxConns: 4000, Drain: -1, Log: slog.New(slog.DiscardHandler),
		Endpoints: []longwire.Endpoint{longwire.Echo("/echo"), longwire.Plain("/ws"), longwire.Centrifuge("/connection/websocket")},
		Sessions:  longwire.Sessions{Insecure: true},
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/metrics" { // of this process: it would be the tests'
				http.NotFound(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "here")
		}),
	}
	if change != nil {
		change(&c)
	}
	g, err := longwire.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g.Addr().String()
}

// serve has each conn of a listener served by f, as wstest.Serve does. Without a listener it makes one on loopback.
func serve(t testing.TB, ln net.Listener, f func(c net.Conn)) (host string) {
	t.Helper()
	return wstest.Serve(t, ln, func(_ int, c net.Conn) { f(c) }).Addr.String()
}

// messages hands each message of a conn to f, which has it during the call, until the conn ends. It answers closing
// handshakes.
func messages(c net.Conn, r *bufio.Reader, f func(payload []byte)) {
	var frames ws.Reader
	frames.Reset(ws.ReaderConfig{Role: ws.Server, MaxMessage: 1 << 20})
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) > 0; {
			ev, size, err := frames.Next(b)
			if err != nil {
				return
			}
			b = b[size:]
			switch ev.Op {
			case ws.OpText, ws.OpBinary:
				f(ev.Payload)
			case ws.OpClose:
				_, _ = c.Write(ws.AppendClose(nil, ws.Server, ws.StatusNormalClosure, "", [4]byte{}))
				return
			}
		}
	}
}

// say sends a text message.
func say(c net.Conn, payload []byte) {
	_, _ = c.Write(ws.AppendFrame(nil, ws.Server, ws.OpText, payload, [4]byte{}))
}

// patience is how long a run may take at most, however slow the machine is.
const patience = time.Minute

// carryOut runs a script to its end.
func carryOut(t testing.TB, s Script, o Options) *Report {
	t.Helper()
	limit := patience
	if *printed {
		limit *= 5
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := Run(ctx, s, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Interrupted {
		t.Fatalf("the run did not end by itself in %v", limit)
	}
	coherent(t, r)
	return r
}

// decode is a script from YAML, with a target.
func decode(t testing.TB, target, plan string) Script {
	t.Helper()
	s, err := Decode("plan.yaml", []byte(plan))
	if err != nil {
		t.Fatal(err)
	}
	s.Target, s.Seed = target, 1
	return s
}

// coherent checks that the figures of a report agree with each other.
func coherent(t testing.TB, r *Report) {
	t.Helper()
	wrong := func(format string, args ...any) { t.Helper(); t.Errorf("incoherent: "+format, args...) }
	var sum Conns
	var sent, done, failed, delivered, bytes int64
	errors := map[string]int64{}
	for _, o := range r.Scenarios {
		c := o.Conns
		givenUp := c.Attempted - c.Opened - c.Failed // before they stood
		if givenUp < 0 || c.Survived < 0 || c.Survived > c.Opened-c.Lost || c.Peak > c.Opened || c.Peak < c.Survived {
			wrong("%s: conns %+v", o.Name, c)
		}
		if c.Closed > c.Opened-c.Lost+givenUp { // less where the server answers no closing handshake
			wrong("%s: %d opened, %d lost, %d closed: some are counted twice", o.Name, c.Opened, c.Lost, c.Closed)
		}
		begun := o.Sent
		if o.Model == OpenModel {
			if begun = o.Due; o.Sent > o.Due {
				wrong("%s: %d due, %d sent", o.Name, o.Due, o.Sent)
			}
		}
		if begun != o.Done+o.Failed {
			wrong("%s: %d exchanges, %d done and %d failed", o.Name, begun, o.Done, o.Failed)
		}
		if (o.Kind == HTTPKind || o.Kind == EchoKind || o.Kind == RequestKind) && begun > 0 {
			if o.Latency == nil || o.Latency.Corrected.Count != begun || o.Latency.Unanswered > o.Failed {
				wrong("%s: %d exchanges, timed %+v", o.Name, begun, o.Latency)
			}
		}
		var kinds int64
		for why, n := range o.Errors {
			errors[why] += n
			kinds += n
		}
		if kinds < c.Failed+c.Lost {
			wrong("%s: %d errors by kind, %d conns failed and %d were lost", o.Name, kinds, c.Failed, c.Lost)
		}
		sum.Attempted += c.Attempted
		sum.Opened += c.Opened
		sum.Failed += c.Failed
		sum.Lost += c.Lost
		sum.Survived += c.Survived
		sum.Closed += c.Closed
		sent += begun
		done += o.Done
		failed += o.Failed
		delivered += o.Delivered
		bytes += o.BytesIn
	}
	all := r.Conns
	if sum.Attempted != all.Attempted || sum.Opened != all.Opened || sum.Failed != all.Failed || sum.Lost != all.Lost || sum.Survived != all.Survived || sum.Closed != all.Closed {
		wrong("conns of the scenarios add up to %+v, in all %+v", sum, all)
	}
	if fmt.Sprint(errors) != fmt.Sprint(r.Errors) {
		wrong("errors of the scenarios add up to %v, in all %v", errors, r.Errors)
	}

	var before Sample
	var timed, connects int64
	for i, s := range r.Samples {
		if i > 0 && (s.At < before.At || s.Attempted < before.Attempted || s.Opened < before.Opened || s.Failed < before.Failed || s.Lost < before.Lost ||
			s.Sent < before.Sent || s.Done < before.Done || s.Delivered < before.Delivered || s.BytesIn < before.BytesIn || s.CPU < before.CPU) {
			wrong("sample %d runs back: %+v after %+v", i, s, before)
		}
		if s.Open > s.Opened || s.Opened+s.Pending+s.Failed > s.Attempted || s.Done > s.Sent {
			wrong("sample %d: %+v", i, s)
		}
		if (s.Latency == nil) != (s.Service == nil) && (s.Latency == nil || s.Service != nil) {
			wrong("sample %d: latency %v, service %v", i, s.Latency, s.Service)
		}
		if s.Latency != nil {
			timed += s.Latency.Count
		}
		if s.Connect != nil {
			connects += s.Connect.Count
		}
		before = s
	}
	if n := len(r.Samples); n < 2 || r.Samples[0].Stage != "start" || before.Stage != "end" {
		wrong("%d samples, from %q to %q", n, r.Samples[0].Stage, before.Stage)
	}
	if before.Opened != all.Opened || before.Attempted != all.Attempted || before.Sent != sent || before.Done != done || before.Delivered != delivered || before.BytesIn != bytes || before.Open != all.Survived {
		wrong("the last sample is %+v; in all %+v, %d sent, %d done, %d delivered", before, all, sent, done, delivered)
	}
	var inAll int64
	for _, o := range r.Scenarios {
		if o.Latency != nil {
			inAll += o.Latency.Corrected.Count
		}
	}
	if timed != inAll {
		wrong("samples have %d times, the whole run %d", timed, inAll)
	}
	if r.Connect != nil && connects != r.Connect.Count || connects != all.Opened {
		wrong("samples have %d connects; %d conns were opened, %+v", connects, all.Opened, r.Connect)
	}
	end := 0.0
	for i, s := range r.Steps {
		if s.Begin < end-1e-6 || s.End < s.Begin || s.End > r.Elapsed+1e-6 && r.Breaking == nil {
			wrong("step %d is from %g to %g s, after one that ended at %g s; the run took %g s", i, s.Begin, s.End, end, r.Elapsed)
		}
		if s.Broken && s.Why == "" || s.Stage == "" {
			wrong("step %d: %+v", i, s)
		}
		end = s.End
	}
	for _, c := range r.Checks {
		if !c.Held && r.Held {
			wrong("held, though %s", c.Text)
		}
	}
}
