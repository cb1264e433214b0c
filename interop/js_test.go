package interop

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/longwire/longwire"
)

// TestNode has Node's ws package talk to a gateway: see js/gateway.test.js.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: make setup")
	}
	if _, err := os.Stat("js/node_modules/ws/package.json"); err != nil {
		t.Skip("js/node_modules is not there: make setup, or npm ci in interop/js")
	}
	strict := longwire.Echo("/strict")
	strict.Origins, strict.Subprotocols = nil, []string{"v2.example", "v1.example"}
	g := serve(t, longwire.Config{Endpoints: []longwire.Endpoint{longwire.Plain("/ws"), longwire.Echo("/echo"), strict}})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--test", "--test-force-exit", "--test-reporter=spec", "gateway.test.js")
	cmd.Dir = "js"
	cmd.Env = append(os.Environ(), "LONGWIRE_ADDR="+g.Addr().String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
