package client

import (
	"flag"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/sys"
)

// figures has tests do as much as docs/clients.md says: make bench-client.
var figures = flag.Bool("client.figures", false, "measure for docs/clients.md, which takes minutes")

// TestLeaksOnSockets: connections over TCP that came and went leave no goroutine, no timer and no descriptor.
func TestLeaksOnSockets(t *testing.T) {
	cycles := 500
	if *figures {
		cycles = 10_000
	}
	url := listen(t, good)
	cycle := func() {
		c, err := Dial(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Fatal(err)
		}
		if c.busy != 0 || c.timer.Stop() {
			t.Fatalf("after Close busy is %d, or a timer runs", c.busy)
		}
	}
	cycle() // what is made once is there now
	goroutines, open := runtime.NumGoroutine(), sys.OpenDescriptors()
	for range cycles {
		cycle()
	}
	if !leaktest.Settles(goroutines) {
		t.Errorf("%d goroutines, %d at the start", runtime.NumGoroutine(), goroutines)
	}
	left := sys.OpenDescriptors()
	for range 1_000_000 { // the server's may be about to close
		if left <= open {
			break
		}
		runtime.Gosched()
		left = sys.OpenDescriptors()
	}
	if left > open {
		t.Errorf("%d descriptors, %d at the start", left, open)
	}
	t.Logf("figure: after %d connections over TCP: %d goroutines and %d descriptors more than before, no timer", cycles, max(runtime.NumGoroutine()-goroutines, 0), max(left-open, 0))
}

// TestOutageOnSockets has a server go away for 30 s, and its clients come back to it by themselves.
func TestOutageOnSockets(t *testing.T) {
	if !*figures {
		t.Skip("takes a minute: make bench-client")
	}
	const clients, outage = 5000, 30 * time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := accept(t, l, good)
	conns := make([]*Conn, clients)
	for i := range conns {
		if conns[i], err = Dial(t.Context(), "ws://"+l.Addr().String(), nil); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(6 * time.Second) // now they were stable
	end()
	time.Sleep(outage)
	var mu sync.Mutex
	var back []time.Duration
	all := make(chan struct{})
	l, err = net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	end = accept(t, l, func(s *peer) {
		mu.Lock()
		if back = append(back, time.Since(up)); len(back) == clients {
			close(all)
		}
		mu.Unlock()
		good(s)
	})
	defer end()
	select {
	case <-all:
	case <-time.After(5 * time.Minute):
		t.Error("not all are back")
	}
	for _, c := range conns {
		if err := c.Close(t.Context(), 0, ""); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	seconds := make(map[int]int)
	peak := 0
	for _, at := range back {
		seconds[int(at/time.Second)]++
		peak = max(peak, seconds[int(at/time.Second)])
	}
	window := slices.Max(back).Seconds()
	mean := float64(len(back)) / window
	t.Logf("figure: %d clients over TCP after %v without a server: peak %d/s, mean %.0f/s over %.1f s: %.2f ×", clients, outage, peak, mean, window, float64(peak)/mean)
	if len(back) != clients || float64(peak) > 2*mean {
		t.Errorf("%d came back, with a peak of %.2f × the mean; want %d and at most 2 ×", len(back), float64(peak)/mean, clients)
	}
}
