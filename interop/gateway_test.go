package interop

import (
	"log/slog"
	"testing"

	"github.com/longwire/longwire"
)

// serve starts a gateway on a free port.
func serve(t *testing.T, c longwire.Config) *longwire.Gateway {
	t.Helper()
	c.Addr, c.MaxMemory = "127.0.0.1:0", -1
	if c.MaxConns == 0 {
		c.MaxConns = 1000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Endpoints == nil {
		c.Endpoints = []longwire.Endpoint{longwire.Plain("/ws"), longwire.Echo("/echo")}
	}
	g, err := longwire.New(c)
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
	return g
}

// longwireConfig serves /ws and /echo.
var longwireConfig = longwire.Config{}
