package interop

import (
	"context"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/api"
)

const (
	centrifugePath = "/connection/websocket"
	tokenSecret    = "secret" // what the SDKs' own tests sign with
	apiKey         = "test-api-key"
)

// history are options of a namespace that keeps n publications.
func history(name string, n int) longwire.ChannelOptions {
	return longwire.ChannelOptions{Name: name, SubscribeForClient: true, SubscribeForAnonymous: true, PublishForSubscriber: true,
		PublishForAnonymous: true, HistorySize: n, HistoryTTL: 5 * time.Minute, ForceRecovery: true}
}

// openChannels are those that the SDKs' own tests expect, as far as they are channels of ours.
func openChannels() (longwire.ChannelOptions, []longwire.ChannelOptions) {
	delta := func(o longwire.ChannelOptions) longwire.ChannelOptions {
		o.AllowDelta, o.DeltaPublish = true, true
		return o
	}
	def := delta(history("", 100))
	def.Presence = true
	return def, []longwire.ChannelOptions{delta(history("delta", 100)), history("recovery", 100), history("smallhistory", 2), {Name: "plain"}}
}

// strictChannels are for tests of rights.
func strictChannels() []longwire.ChannelOptions {
	chat := history("chat", 100)
	chat.Presence, chat.JoinLeave, chat.UserLimited = true, true, true
	chat.PresenceForSubscriber, chat.HistoryForSubscriber = true, true
	long := history("long", 300)
	long.HistoryForSubscriber = true
	return []longwire.ChannelOptions{chat, long, {Name: "closed"}, {Name: "quiet", SubscribeForClient: true, PublishForSubscriber: true}}
}

// serveAPI starts a gateway with its server API.
func serveAPI(t *testing.T, c longwire.Config) *longwire.Gateway {
	t.Helper()
	var gateway atomic.Pointer[longwire.Gateway]
	c.HTTP = api.New(api.Options{Gateway: func() api.Gateway { return gateway.Load() }, Key: apiKey})
	g := serve(t, c)
	gateway.Store(g)
	return g
}

// TestCentrifugeSDK has the official JavaScript SDK talk to two gateways: see js/centrifuge.test.js. One is open to
// everybody, as the SDKs' own tests expect; one has tokens, rights and a ping every two seconds.
func TestCentrifugeSDK(t *testing.T) {
	node := nodeWith(t, "ws", "centrifuge")
	send := func(context.Context, longwire.Client, []byte) error { return nil }
	open := longwire.Config{Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Sessions: longwire.Sessions{Insecure: true}, Tokens: longwire.TokenOptions{HMACSecret: []byte(tokenSecret)}, Hooks: longwire.Hooks{Send: send}}
	open.Channels, open.Namespaces = openChannels()
	strict := longwire.Config{Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Sessions:   longwire.Sessions{Anonymous: true, Ping: 2 * time.Second, Pong: 1900 * time.Millisecond, Grace: time.Second},
		Tokens:     longwire.TokenOptions{HMACSecret: []byte(tokenSecret)},
		Namespaces: strictChannels(),
		Hooks: longwire.Hooks{Send: send, RPC: func(_ context.Context, _ longwire.Client, method string, data []byte) ([]byte, error) {
			if method != "echo" {
				return nil, &longwire.Error{Code: 104, Message: "method not found"}
			}
			return data, nil
		}}}
	strict.Endpoints[0].Heartbeat = longwire.Heartbeat{Ping: time.Second, Timeout: 30 * time.Second}
	at := func(c longwire.Config) string { return "ws://" + serveAPI(t, c).Addr().String() + centrifugePath }
	runNode(t, node, "centrifuge.test.js", "LONGWIRE_OPEN="+at(open), "LONGWIRE_STRICT="+at(strict), "LONGWIRE_SECRET="+tokenSecret, "LONGWIRE_API_KEY="+apiKey)
}

// nodeWith finds Node, and skips the test where it or one of its packages is not installed.
func nodeWith(t *testing.T, packages ...string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed: make setup")
	}
	for _, p := range packages {
		if _, err := os.Stat("js/node_modules/" + p + "/package.json"); err != nil {
			t.Skipf("js/node_modules/%s is not there: make setup, or npm ci in interop/js", p)
		}
	}
	return node
}

// runNode runs one file of tests in Node.
func runNode(t *testing.T, node, file string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--test", "--test-force-exit", "--test-reporter=spec", file)
	cmd.Dir = "js"
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
