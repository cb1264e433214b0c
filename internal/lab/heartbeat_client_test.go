package lab

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

// answerUntil is a server on one connection that upgrades, and answers pings after 40 ms until a time.
func answerUntil(t *testing.T, c net.Conn, end time.Time) {
	b := make([]byte, 0, 4096)
	var request ws.Request
	for {
		n, err := c.Read(b[len(b):cap(b)])
		if err != nil {
			t.Error(err)
			return
		}
		b = b[:len(b)+n]
		if request, n, err = ws.ParseRequest(b, cap(b)-1); err != nil {
			t.Error(err)
			return
		}
		if n > 0 {
			break
		}
	}
	h, refusal := ws.Negotiate(&request, &ws.Policy{})
	if refusal != nil {
		t.Errorf("refused: %+v", refusal)
		return
	}
	if _, err := c.Write(ws.AppendResponse(nil, &h, "")); err != nil {
		t.Error(err)
		return
	}
	var r ws.Reader
	in := make([]byte, 4096)
	for {
		n, err := c.Read(in)
		if err != nil {
			return // the client gave up
		}
		for left := in[:n]; ; {
			e, n, err := r.Next(left)
			if err != nil {
				t.Error(err)
				return
			}
			left = left[n:]
			if e.Op == ws.OpPing && time.Now().Before(end) {
				time.Sleep(40 * time.Millisecond)
				if _, err := c.Write(ws.AppendFrame(nil, ws.Server, ws.OpPong, e.Payload, [4]byte{})); err != nil {
					return
				}
			}
			if e.Op == ws.NoEvent {
				break
			}
		}
	}
}

// TestClientBeat holds clientBeat to what it stands for: package client itself, on the clock of a bubble, gives a line up that
// dies at 45 s when the simulated one does.
func TestClientBeat(t *testing.T) {
	var n tally
	w := watcher{beat: clientBeat, tally: &n, ceiling: maxInterval}
	want, ok := w.watch(newLine(newPlace(still, seeded(0)), 0, 0, 45e3), 0)
	if !ok {
		t.Fatal("the simulated client keeps a dead line")
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ours, theirs := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() { answerUntil(t, theirs, began.Add(45*time.Second)) })
		gone := make(chan time.Duration, 1)
		c, err := client.Dial(t.Context(), "ws://127.0.0.1/", &client.Options{
			Once:    true,
			NetDial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
			OnState: func(x client.Transition) {
				if x.Reason == "no pong" && x.To == client.Closed {
					gone <- time.Since(began)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		// Nothing is sent to read: the error comes when the line is given up.
		_, _, _ = c.Read(t.Context())
		select {
		case got := <-gone:
			if off := got.Seconds()*1e3 - want.at; off < -20 || off > 20 { // timers are in whole milliseconds, and a pipe takes none
				t.Errorf("package client gave the line up after %v, the simulated one after %v ms", got, want.at)
			}
		default:
			t.Error("package client did not give the line up for want of a pong")
		}
		_ = c.Close(t.Context(), 0, "")
		_ = theirs.Close()
		serving.Wait()
	})
}
