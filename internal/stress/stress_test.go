package stress

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/longwire/longwire"
)

func gateway(t *testing.T) string {
	t.Helper()
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
		Endpoints: []longwire.Endpoint{longwire.Plain("/ws"), longwire.Echo("/echo")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return "ws://" + g.Addr().String()
}

func TestModes(t *testing.T) {
	base := gateway(t)
	for _, mode := range []Mode{Hold, Echo, Churn} {
		looks := 0
		r, err := Run(t.Context(), Plan{Target: base + "/echo", Conns: 50, Mode: mode, Duration: 300 * time.Millisecond, InFlight: 2, Size: 10}, func(Progress) { looks++ })
		if err != nil {
			t.Fatal(err)
		}
		if r.Connected < 50 || len(r.Failed)+len(r.Lost) > 0 || looks == 0 || r.Interrupted {
			t.Errorf("%s: %+v after %d looks", mode, r, looks)
		}
		switch mode {
		case Hold:
			if r.Survived != 50 || r.Closed != 50 || r.Received != 0 || r.Latency != nil {
				t.Errorf("hold: %+v", r)
			}
		case Echo:
			if r.Received == 0 || r.Latency == nil || r.Latency.Count == 0 || r.Latency.P50 > r.Latency.Max || r.Survived != 50 {
				t.Errorf("echo: %+v, latency %+v", r, r.Latency)
			}
		case Churn:
			if r.Connected <= 50 || r.Survived != 0 {
				t.Errorf("churn: %+v, want more than 50 connected", r)
			}
		}
		var b bytes.Buffer
		if err := r.WriteText(&b); err != nil || !strings.Contains(b.String(), "connected") {
			t.Errorf("text: %v\n%s", err, &b)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		plan Plan
		want string
	}{
		{Plan{Target: "nonsense"}, "not a URL"},
		{Plan{Target: "ftp://127.0.0.1/"}, `scheme "ftp"`},
		{Plan{Target: "wss://127.0.0.1/"}, "TLS"},
		{Plan{Target: "ws://127.0.0.1:99999/"}, "port"},
		{Plan{Target: "ws://127.0.0.1:1/", Mode: "dance"}, `mode "dance"`},
		{Plan{Target: "ws://127.0.0.1:1/", InFlight: -1}, "in flight"},
		{Plan{Target: "ws://127.0.0.1:1/", Mode: Churn}, "without an end"},
	} {
		_, err := Run(t.Context(), c.plan, nil)
		var ue *UsageError
		if !errors.As(err, &ue) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want a usage error with %q", c.plan, err, c.want)
		}
	}
}

// TestRefusesBefore: what limits would make fail is said before the first connect.
func TestRefusesBefore(t *testing.T) {
	old := memoryRoot
	defer func() { memoryRoot = old }()
	memoryRoot = fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 100000 kB\nMemAvailable: 10000 kB\n")}}
	if err := enough(Plan{Conns: 10_000}, netip.MustParseAddrPort("127.0.0.1:80")); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("10,000 conns with 10 MB: %v", err)
	}
	if err := enough(Plan{Conns: 100}, netip.MustParseAddrPort("127.0.0.1:80")); err != nil {
		t.Errorf("100 conns with 10 MB: %v", err)
	}
	memoryRoot = fstest.MapFS{}
	if err := enough(Plan{Conns: 50_000}, netip.MustParseAddrPort("192.0.2.1:80")); err == nil || !strings.Contains(err.Error(), "ports") {
		t.Errorf("50,000 conns from one address: %v", err)
	}
}
