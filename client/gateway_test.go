package client_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/client"
	"github.com/longwire/longwire/ws"
)

// TestGateway sends messages of all sizes through a gateway of ours, with compression and without, from several
// goroutines.
func TestGateway(t *testing.T) {
	g, addr := serve()
	defer g.Close()
	for _, compress := range []bool{false, true} {
		c, err := client.Dial(t.Context(), "ws://"+addr+"/echo", &client.Options{Compress: compress})
		if err != nil {
			t.Fatal(err)
		}
		var writers sync.WaitGroup
		messages := make(map[string]bool)
		for _, size := range []int{0, 1, 125, 126, 511, 512, 65535, 65536, 300_000} {
			half := make([]byte, size)
			_, _ = rand.Read(half[:size/2])
			messages[string(half)] = true
			writers.Go(func() {
				if err := c.Write(t.Context(), ws.OpBinary, half); err != nil {
					t.Error(err)
				}
			})
		}
		for n := len(messages); n > 0; n-- {
			op, payload, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if op != ws.OpBinary || !messages[string(payload)] {
				t.Errorf("compress %v: %v of %d bytes came back, which nobody sent", compress, op, len(payload))
			}
			delete(messages, string(payload))
		}
		writers.Wait()
		if err := c.Close(t.Context(), 1000, ""); err != nil {
			t.Error(err)
		}
	}
}

// TestGatewayRestart: the client is back when the gateway is, and what was written meanwhile arrives.
func TestGatewayRestart(t *testing.T) {
	g, addr := serve()
	down := make(chan struct{}, 100)
	c, err := client.Dial(t.Context(), "ws://"+addr+"/echo", &client.Options{
		Backoff: client.BackoffOptions{Min: time.Millisecond, Max: 20 * time.Millisecond, Spread: 20 * time.Millisecond},
		Fuse:    client.Fuse{Failures: 1000},
		OnState: func(tr client.Transition) {
			if tr.To == client.Backoff {
				select {
				case down <- struct{}{}:
				default:
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	<-down
	for i := range 5 {
		if err := c.Write(t.Context(), ws.OpText, []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	again, err := longwire.New(longwire.Config{Addr: addr, Endpoints: []longwire.Endpoint{{
		Path: "/echo", OnMessage: func(_ longwire.Conn, m longwire.Message) { m.Reply(m.Op, m.Payload) },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for i := range 5 {
		if _, payload, err := c.Read(t.Context()); err != nil || !bytes.Equal(payload, []byte(fmt.Sprint(i))) {
			t.Fatalf("Read: %q, %v; want %d", payload, err, i)
		}
	}
	if err := c.Close(t.Context(), 1000, ""); err != nil {
		t.Error(err)
	}
}

// TestGatewayRefuses: a path that is not there is tried again, until the caller has enough of it; 401 is not.
func TestGatewayRefuses(t *testing.T) {
	g, err := longwire.New(longwire.Config{Addr: "localhost:0", Endpoints: []longwire.Endpoint{{
		Path:      "/private",
		Authorize: func(*ws.Request) *ws.Refusal { return &ws.Refusal{Status: 401, Reason: "who are you"} },
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	_, err = client.Dial(t.Context(), "ws://"+g.Addr().String()+"/private", nil)
	var end *client.CloseError
	var refused *ws.HandshakeError
	if !errors.As(err, &end) || !errors.As(err, &refused) || refused.Status != 401 {
		t.Errorf("Dial: %v, want status 401", err)
	}
}
