package client

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// transition is what clients/js/test/line.js says.
type transition struct {
	Socket     int
	To, Reason string
	At, Due    int64 // milliseconds of Unix time
}

// javascript runs sockets of @longwire/socket at the near end of a cable, and returns their transitions.
func (c *cable) javascript(t *testing.T, sockets int, options string) func() transition {
	t.Helper()
	const dir = "../clients/js"
	for _, need := range []string{"dist/index.js", "node_modules/ws/package.json"} {
		if _, err := os.Stat(dir + "/" + need); err != nil {
			t.Skipf("clients/js is not built, or its packages are not installed (make test does both): %v", err)
		}
	}
	url := c.serve(t, func(s *peer) {
		s.upgrade(&ws.Policy{})
		for {
			switch ev := s.next(); ev.Op {
			case ws.OpText:
				s.send(ws.OpText, strings.Replace(string(ev.Payload), `"ping"`, `"pong"`, 1))
			case ws.OpClose:
				return
			}
		}
	})
	cmd := exec.Command("ip", "netns", "exec", c.near, "node", "test/line.js", url, fmt.Sprint(sockets), options)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no Node here: %v", err)
	}
	lines := make(chan transition)
	stop := make(chan struct{})
	go func() {
		defer close(lines)
		for d := json.NewDecoder(out); ; {
			var tr transition
			if d.Decode(&tr) != nil {
				return
			}
			select {
			case lines <- tr:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		_ = cmd.Process.Kill()
		for range lines { // until the reader has ended
		}
		_ = cmd.Wait()
	})
	late := time.After(5 * time.Minute)
	return func() transition {
		t.Helper()
		select {
		case tr, ok := <-lines:
			if !ok {
				t.Fatal("the program ended")
			}
			return tr
		case <-late:
			t.Fatal("no transition")
		}
		return transition{}
	}
}

// TestJavaScriptLine has @longwire/socket on a cable that is pulled out, and on one that loses packets.
func TestJavaScriptLine(t *testing.T) {
	if !*figures {
		t.Skip("takes three minutes: make bench-client")
	}
	for _, c := range []struct {
		name  string
		delay time.Duration // of one way
		learn int
	}{{"nothing measured", 0, 0}, {"a link of 20 ms", 10 * time.Millisecond, 2}} {
		t.Run(c.name, func(t *testing.T) {
			line := newCable(t, 0, c.delay, c.delay)
			next := line.javascript(t, 1, `{}`)
			var alive transition
			for pongs := 0; alive.To != "idle" || pongs < c.learn; {
				if alive = next(); alive.Reason == "pong" {
					pongs++
				}
			}
			line.down.Store(true)
			want := 30.0 // the interval, and the two timeouts that it sets
			s := next()
			for ; s.To != "backoff"; s = next() {
				want += float64(s.Due-s.At) / 1000
			}
			got := float64(s.At-alive.At) / 1000
			t.Logf("figure: JavaScript, silent line, %s: noticed %.2f s after the last sign of life; the policy computes %.2f s", c.name, got, want)
			if s.Reason != "no pong" || got < want-0.01 {
				t.Errorf("given up because of %q after %.2f s, want no pong after %.2f s", s.Reason, got, want)
			}
			line.down.Store(false)
			for s.To != "idle" {
				s = next()
			}
		})
	}
	t.Run("lossy", func(t *testing.T) {
		const sockets, pings = 500, 30
		line := newCable(t, 0.02, 30*time.Millisecond, 180*time.Millisecond)
		next := line.javascript(t, sockets, `{"heartbeat":{"interval":2000},"connectTimeout":60000}`)
		pongs := make([]int, sockets)
		asked, twice, alarms := 0, 0, 0
		for enough := 0; enough < sockets; {
			switch s := next(); {
			case s.To == "waiting-pong":
				asked++
			case s.To == "retry-pending":
				twice++
			case s.To == "backoff" && s.Reason == "no pong":
				alarms++
			case s.Reason == "pong":
				if pongs[s.Socket]++; pongs[s.Socket] == pings {
					enough++
				}
			}
		}
		t.Logf("figure: JavaScript, %d sockets on a line with %d of %d packets lost: %d questions, %d asked twice, %d false alarms",
			sockets, line.lost.Load(), line.carried.Load(), asked, twice, alarms)
		if alarms > 0 {
			t.Errorf("%d false alarms after %d questions", alarms, asked)
		}
	})
}
