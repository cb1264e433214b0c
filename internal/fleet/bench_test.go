package fleet_test

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// bare answers each request, whatever it is, and allocates nothing for it.
func bare(_ int, c *net.TCPConn) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	answers := bytes.Repeat(answer, 64)
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		for k := bytes.Count(b[:n], []byte("\r\n\r\n")); k > 0; {
			m := min(k, 64)
			if _, err := c.Write(answers[:m*len(answer)]); err != nil {
				return
			}
			k -= m
		}
	}
}

// presser asks as fast as it is answered.
type presser struct {
	left *atomic.Int64 // requests to go
	done chan struct{} // closed with the last answer
	more *atomic.Int64 // answers to come
	ask  []byte
}

func (p *presser) say(c fleet.Client) {
	if p.left.Add(-1) >= 0 {
		c.Say(0, p.ask)
	}
}
func (p *presser) Opened(fleet.Client)                   {}
func (p *presser) Heard(fleet.Client, ws.Opcode, []byte) {}
func (p *presser) Gone(int)                              {}
func (p *presser) Answered(c fleet.Client, status int) {
	if p.say(c); p.more.Add(-1) == 0 {
		close(p.done)
	}
}

// press has a fleet of conns make n requests, and waits for the answers.
func press(tb testing.TB, conns, n int) (mallocs uint64, took time.Duration) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Minute)
	defer cancel()
	h := serve(tb, bare)
	p := &presser{left: new(atomic.Int64), more: new(atomic.Int64), done: make(chan struct{}), ask: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}
	f, err := fleet.New(fleet.Config{Target: h.Addr, Conns: conns, Loops: 1, HTTP: true, Refill: true, Log: quiet(), Speak: func(fleet.Squad) fleet.Speaker { return p }})
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := f.Start(); err != nil {
		tb.Fatal(err)
	}
	for f.Aim(conns); f.Counts().Open < int64(conns); runtime.Gosched() {
		if ctx.Err() != nil {
			tb.Fatal("the fleet does not open")
		}
	}
	p.left.Store(int64(n))
	p.more.Store(int64(n))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	if err := f.Each(ctx, func(c fleet.Client) { p.say(c) }); err != nil {
		tb.Fatal(err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		tb.Fatalf("%d answers are missing: %+v", p.more.Load(), f.Counts())
	}
	took = time.Since(begin)
	runtime.ReadMemStats(&after)
	if c := f.Counts(); c.Received != int64(n) || len(c.Lost) > 0 {
		tb.Fatalf("%+v, want %d answers", c, n)
	}
	return after.Mallocs - before.Mallocs, took
}

// TestHTTPAllocates has nothing allocated for a request and its answer.
func TestHTTPAllocates(t *testing.T) {
	const n = 20_000
	press(t, 16, n) // what is made once is made
	mallocs, _ := press(t, 16, n)
	// The rest is the start's, the runtime's and the race detector's.
	if mallocs > n/20 {
		t.Errorf("%d allocations for %d requests", mallocs, n)
	}
}

// BenchmarkHTTP is requests over 64 conns of one loop, answered by goroutines on the same machine.
func BenchmarkHTTP(b *testing.B) {
	mallocs, took := press(b, 64, b.N)
	b.ReportMetric(float64(b.N)/took.Seconds(), "requests/s")
	b.ReportMetric(float64(mallocs)/float64(b.N), "allocs/request")
}
