package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/memengine"
	"github.com/longwire/longwire/internal/channel"
	"github.com/longwire/longwire/internal/session"
)

const (
	centrifugePath = "/connection/websocket"
	tokenSecret    = "secret" // what the SDKs' own tests sign with
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

// backend is what an application's backend would do with a gateway.
type backend struct {
	engine engine.Engine
	rules  *channel.Rules
}

func newBackend(t *testing.T, c *longwire.Config) *backend {
	t.Helper()
	rules, err := channel.NewRules(c.Channels, c.Namespaces)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{engine: memengine.New(nil), rules: rules}
	c.Engine = b.engine
	return b
}

// publish publishes as the namespace says; a channel that the gateway does not know is another gateway's.
func (b *backend) publish(ctx context.Context, name string, data []byte) (engine.Published, error) {
	o, _, ok := b.rules.Lookup([]byte(name))
	if !ok {
		return engine.Published{}, nil
	}
	p := &engine.Publication{Data: data, Delta: o.DeltaPublish}
	return b.engine.Publish(ctx, name, p, engine.PublishOptions{HistorySize: o.HistorySize, HistoryTTL: o.HistoryTTL})
}

func (b *backend) control(ctx context.Context, c session.Control) error {
	data, err := c.Encode()
	if err != nil {
		return err
	}
	return b.engine.Control(ctx, data)
}

// doors serve what js/client.js asks of the backends. Each request goes to all of them: channels and users have names
// that no other test uses.
func doors(backends ...*backend) http.Handler {
	type request struct {
		Channel, User, Reason string
		Code                  uint16
		Data                  []json.RawMessage
	}
	acts := map[string]func(ctx context.Context, b *backend, r *request) error{
		"publish": func(ctx context.Context, b *backend, r *request) error {
			for _, data := range r.Data {
				if _, err := b.publish(ctx, r.Channel, bytes.Clone(data)); err != nil {
					return err
				}
			}
			return nil
		},
		"subscribe": func(ctx context.Context, b *backend, r *request) error {
			return b.control(ctx, session.Control{Subscribe: &session.SubscribeAs{}, Channel: r.Channel, Target: session.Target{User: r.User}})
		},
		"unsubscribe": func(ctx context.Context, b *backend, r *request) error {
			return b.control(ctx, session.Control{Unsubscribe: true, Channel: r.Channel, Target: session.Target{User: r.User}})
		},
		"disconnect": func(ctx context.Context, b *backend, r *request) error {
			return b.control(ctx, session.Control{Disconnect: &session.DisconnectAs{Code: r.Code, Reason: r.Reason}, Target: session.Target{User: r.User}})
		},
	}
	mux := http.NewServeMux()
	for name, act := range acts {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, hr *http.Request) {
			var r request
			err := json.NewDecoder(hr.Body).Decode(&r)
			for _, b := range backends {
				if err == nil {
					err = act(hr.Context(), b, &r)
				}
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

// TestCentrifugeSDK has the official JavaScript SDK talk to two gateways: see js/centrifuge.test.js. One is open to
// everybody, as the SDKs' own tests expect; one has tokens, rights and a ping every two seconds.
func TestCentrifugeSDK(t *testing.T) {
	node := nodeWith(t, "ws", "centrifuge")
	open := longwire.Config{Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Sessions: longwire.Sessions{Insecure: true}, Tokens: longwire.TokenOptions{HMACSecret: []byte(tokenSecret)}}
	open.Channels, open.Namespaces = openChannels()
	strict := longwire.Config{Endpoints: []longwire.Endpoint{longwire.Centrifuge(centrifugePath)},
		Sessions:   longwire.Sessions{Anonymous: true, Ping: 2 * time.Second, Pong: 1900 * time.Millisecond, Grace: time.Second},
		Tokens:     longwire.TokenOptions{HMACSecret: []byte(tokenSecret)},
		Namespaces: strictChannels(),
		Hooks: longwire.Hooks{RPC: func(_ context.Context, _ session.Client, method string, data []byte) ([]byte, error) {
			if method != "echo" {
				return nil, &longwire.Error{Code: 104, Message: "method not found"}
			}
			return data, nil
		}}}
	strict.Endpoints[0].Heartbeat = longwire.Heartbeat{Ping: time.Second, Timeout: 30 * time.Second}
	backends := []*backend{newBackend(t, &open), newBackend(t, &strict)}
	at := func(c longwire.Config) string { return "ws://" + serve(t, c).Addr().String() + centrifugePath }
	back := httptest.NewServer(doors(backends...))
	t.Cleanup(back.Close)
	runNode(t, node, "centrifuge.test.js", "LONGWIRE_OPEN="+at(open), "LONGWIRE_STRICT="+at(strict), "LONGWIRE_SECRET="+tokenSecret, "LONGWIRE_DOORS="+back.URL)
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
