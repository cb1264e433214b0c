package client

import (
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/ws"
)

// TestIdleCost measures what clients take that do nothing but look at the clocks.
func TestIdleCost(t *testing.T) {
	if !*figures {
		t.Skip("takes half a minute: make bench-client")
	}
	const clients, idle = 10_000, 20 * time.Second
	network := make(pipes)
	conns := make([]*Conn, clients)
	go func() {
		for range clients {
			(&peer{t: t, conn: <-network}).upgrade(&ws.Policy{}) // and nothing more: a pipe needs nobody who reads
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = Dial(t.Context(), "ws://server.example", &Options{NetDial: network.dial, Heartbeat: Heartbeat{Interval: time.Hour}}); err != nil {
			t.Fatal(err)
		}
	}
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	time.Sleep(2 * time.Second) // what the dials have left is over
	before := spent()
	time.Sleep(idle)
	t.Logf("figure: %d idle clients: %.2f %% of a CPU", clients, 100*float64(spent()-before)/float64(idle))
	for _, c := range conns {
		c.do(event{kind: "abort"})
	}
	for _, c := range conns {
		<-c.ended
	}
}
