package metrics_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/metrics"
	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

var scrapeConns = flag.Int("scrape.conns", 2000, "connections that BenchmarkScrape holds")

// holding is a gateway that holds n connections of a fleet, until the test ends.
func holding(t testing.TB, n int) *longwire.Gateway {
	t.Helper()
	g, err := longwire.New(longwire.Config{Log: slog.New(slog.DiscardHandler), Addr: "127.0.0.1:0", MaxConns: n + 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if n == 0 {
		return g
	}
	f, err := fleet.New(fleet.Config{
		Target: g.Addr(), Dial: ws.Dial{Target: "/ws"}, Conns: n, Timeout: time.Minute, Private: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close the fleet: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := f.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if got := g.Stats().Conns; got != int64(n) {
		t.Fatalf("the gateway holds %d connections, want %d", got, n)
	}
	return g
}

// BenchmarkScrape is one scrape of all that longwire serve has, of a gateway that holds nothing and of one that holds
// -scrape.conns connections.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{0, *scrapeConns} {
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) {
			h := heldScrape(holding(b, n).Stats)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
			}
		})
	}
}

// TestScrapeAllocations checks that a scrape allocates nothing for a connection.
func TestScrapeAllocations(t *testing.T) {
	allocations := func(n int) float64 {
		h := heldScrape(holding(t, n).Stats)
		return testing.AllocsPerRun(20, func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)) })
	}
	const conns = 1000
	none, many := allocations(0), allocations(conns)
	// The runtime's own histograms have more buckets in use with time, and what else runs allocates too.
	if many > none+conns/4 {
		t.Errorf("a scrape allocates %.0f times with %d connections and %.0f times with none", many, conns, none)
	}
}

// TestScrapeDuringDrain scrapes while a gateway drains, over a connection that was there before, as Prometheus keeps one.
func TestScrapeDuringDrain(t *testing.T) {
	var g *longwire.Gateway
	g, err := longwire.New(longwire.Config{
		Log: slog.New(slog.DiscardHandler), Addr: "127.0.0.1:0", MaxConns: 100,
		HTTP: metrics.Handler(func() longwire.Stats { return g.Stats() }, metrics.Build{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first to be told goes at once, the second later
		wstest.Dial(t, g.Addr().String(), "/ws", ws.Dial{})
	}
	client := http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	scrape := func() map[string]string {
		resp, err := client.Get("http://" + g.Addr().String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return series(t, b)
	}
	if v := scrape()["longwire_draining"]; v != "0" {
		t.Errorf("before: longwire_draining = %q, want 0", v)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan error, 1)
	go func() { drained <- g.Drain(ctx, time.Minute) }()
	late := time.Now().Add(20 * time.Second)
	for scrape()["longwire_draining"] != "1" {
		if time.Now().After(late) {
			t.Fatal("longwire_draining is never 1")
		}
	}
	cancel()
	<-drained
	if err := g.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
