package stress

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/wstest"
)

var breaks = flag.Int("stress.breaks", 1, "how often each breaking point is sought")

// rateServer echoes messages at so many a second at most; what comes beyond waits for its turn. Turns that nobody took are
// kept for a while, else a server that was not scheduled has a lower limit than it says.
func rateServer(t testing.TB, limit float64, keep time.Duration) string {
	begin := time.Now()
	every := time.Duration(float64(time.Second) / limit)
	var mu sync.Mutex
	var next time.Duration // when the next turn is
	return serve(t, nil, func(c net.Conn) {
		_, r, err := wstest.Upgrade(c)
		if err != nil {
			return
		}
		timer := time.NewTimer(time.Hour)
		defer timer.Stop()
		messages(c, r, func(payload []byte) {
			now := time.Since(begin)
			mu.Lock()
			turn := max(next, now-keep)
			next = turn + every
			mu.Unlock()
			if turn > now {
				timer.Reset(turn - now)
				<-timer.C
			}
			say(c, payload)
		})
	})
}

// tableServer has places for so many conns, and refuses the others.
func tableServer(t testing.TB, places int64) string {
	var taken atomic.Int64
	return serve(t, nil, func(c net.Conn) {
		defer taken.Add(-1)
		if taken.Add(1) > places {
			answer("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false)(c)
			return
		}
		echo(c)
	})
}

// roundServer accepts what waits in its backlog, all of it, once in a round, and answers one request of each conn.
func roundServer(t testing.TB, backlog int, round time.Duration) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), backlog) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	return serve(t, &rounds{TCPListener: ln.(*net.TCPListener), every: round, next: time.Now(), over: over}, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	})
}

// rounds is a listener that accepts what is there, and then nothing until the next round.
type rounds struct {
	*net.TCPListener
	every time.Duration
	next  time.Time
	over  chan struct{}
}

func (l *rounds) Accept() (net.Conn, error) {
	for {
		_ = l.SetDeadline(time.Now().Add(time.Millisecond)) // an empty queue is known by waiting a moment
		c, err := l.TCPListener.Accept()
		if ne, ok := err.(net.Error); err == nil || !ok || !ne.Timeout() {
			return c, err
		}
		for !l.next.After(time.Now()) {
			l.next = l.next.Add(l.every)
		}
		timer := time.NewTimer(time.Until(l.next))
		select {
		case <-timer.C:
		case <-l.over:
			timer.Stop()
			return nil, net.ErrClosed
		}
	}
}

// lateness is how late a goroutine is that wakes every few ms, as a part of the times it does.
type lateness struct {
	stop  chan struct{}
	over  chan struct{}
	late  int
	wakes int
}

func watchLateness() *lateness {
	l := &lateness{stop: make(chan struct{}), over: make(chan struct{})}
	go func() {
		defer close(l.over)
		const every = 5 * time.Millisecond
		timer := time.NewTimer(every)
		defer timer.Stop()
		for at := time.Now().Add(every); ; at = time.Now().Add(every) {
			select {
			case <-timer.C:
			case <-l.stop:
				return
			}
			if l.wakes++; time.Since(at) > 2*time.Millisecond {
				l.late++
			}
			timer.Reset(every)
		}
	}()
	return l
}

// busy ends the watch, and tells whether the machine was too busy to tell a server that is late from one that is not run.
func (l *lateness) busy() bool {
	close(l.stop)
	<-l.over
	return l.late*25 > l.wakes
}

// TestBreakingPoint has the breaking points of servers found that have a limit built in: within 5 %.
func TestBreakingPoint(t *testing.T) {
	pick := func(quick, long string) string {
		if *printed {
			return long
		}
		return quick
	}
	keep := 5 * time.Millisecond
	if *printed {
		keep = 30 * time.Millisecond
	}
	const long = "for: 1s, hold: 3s, rest: 200ms}\nthresholds: "
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range []struct {
		name  string
		limit float64
		serve func(t testing.TB) string
		plan  string
	}{
		{"rate", 700, func(t testing.TB) string { return "ws://" + rateServer(t, 700, keep) + "/" },
			"scenarios: [echo]\nstages: [{kind: ramp, to: 50, for: 0s}]\nfind: {of: rate, from: 500, step: 150, to: 2000, " + pick("for: 400ms, hold: 900ms, rest: 20ms, trials: 25}\nthresholds: p50<5ms", "for: 2s, hold: 4s, rest: 200ms}\nthresholds: p50<10ms")},
		{"conns", 137, func(t testing.TB) string { return "ws://" + tableServer(t, 137) + "/" },
			"timeout: 300ms\nscenarios: [hold]\nfind: {of: conns, from: 60, step: 50, to: 400, " + pick("for: 150ms, hold: 300ms, rest: 20ms, precision: 4%, trials: 25}\nthresholds: errors<0.1%", long+"errors<0.1%")},
		// 31 places in each of 20 rounds a second.
		{"backlog", 620, func(t testing.TB) string { return "http://" + roundServer(t, 30, 50*time.Millisecond) + "/" },
			"timeout: 300ms\nscenarios: [{kind: http, connections: per-request}]\nstages: [{kind: ramp, to: 1000, for: 0s}]\nfind: {of: rate, from: 300, step: 200, to: 2000, " + pick("for: 300ms, hold: 600ms, rest: 20ms, precision: 4%, trials: 25}\nthresholds: errors<1%", long+"errors<1%")},
	} {
		seek := func(t *testing.T) {
			found, tries, judged := 0, *breaks, 0
			if !*printed {
				tries = 2
			}
			for range tries {
				late := watchLateness()
				r := carryOut(t, decode(t, c.serve(t), c.plan), Options{})
				busy := late.busy()
				b := r.Breaking
				if b == nil {
					t.Fatal("no search was made")
				}
				off := math.Inf(1)
				if b.Highest != nil && b.Lowest != nil {
					off = max(math.Abs(b.Highest.Level-c.limit), math.Abs(b.Lowest.Level-c.limit)) / c.limit * 100
				}
				line := fmt.Sprintf("%s, limit %g: %s; off by %.1f %% at most, %d trials in %.0f s, busy %v", c.name, c.limit, b.Text(" "+r.Unit), off, b.Trials, r.Elapsed, busy)
				if *printed {
					line = "figure: " + line
				}
				t.Log(line)
				if !busy {
					judged++
				}
				if off > 5 {
					continue
				}
				if found++; !*printed {
					return
				}
			}
			switch {
			case *printed:
				t.Logf("figure: %s: found within 5 %% in %d of %d runs", c.name, found, tries)
				if found < tries {
					t.Fail()
				}
			case judged == 0:
				t.Skip("the machine was too busy to tell a late answer from a late reader")
			default:
				t.Errorf("not found within 5 %% in %d runs", tries)
			}
		}
		if *printed {
			t.Run(c.name, seek)
		} else {
			wg.Go(func() { t.Run(c.name, seek) }) // they wait more than they do
		}
	}
}
