package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

// The gateways that are churned and held beside Longwire's: the article's before, and after it.
const (
	naiveGateway  = "naive"  // every connection in a map that nobody cleans, default buffers, reads without a deadline
	mendedGateway = "mended" // taken out of the map, pooled buffers, pings, closed after 30 s of silence
)

// gatewayName is how a gateway is called in tables.
func gatewayName(kind string) string {
	switch kind {
	case naiveGateway:
		return "gorilla, the map never cleaned"
	case mendedGateway:
		return "gorilla, mended"
	}
	return "Longwire"
}

// gatewaySilence is after how long a silence the mended gateway and Longwire close; both ping before that.
const gatewaySilence = 30 * time.Second

type gatewayConfig struct{ Kind string }

// startGateway starts the process of a gateway, which is to hold so many connections.
func startGateway(ctx context.Context, r *Run, kind string, conns int) (*Process, error) {
	if kind == kindLongwire {
		return r.Start(ctx, "server", serverConfig{Kind: kindLongwire, Silence: gatewaySilence, MaxSize: conns + conns/100 + 1000}, nil)
	}
	return r.Start(ctx, "gateway", gatewayConfig{kind}, nil)
}

// warmUp has connections come and go: what the first ones touch stays, and is no part of what a connection costs.
func warmUp(ctx context.Context, p *Process, conns int) error {
	f, err := fleet.New(fleet.Config{Target: p.Addr(), Conns: min(conns, 50), Churn: conns, Dial: ws.Dial{Target: "/"}, Private: true})
	if err != nil {
		return err
	}
	return errors.Join(f.Open(ctx), f.Close())
}

// newGateway serves one of the two on net/http.
func newGateway(_ context.Context, c gatewayConfig) (*subject, error) {
	switch c.Kind {
	case naiveGateway:
		g := &leakyGateway{conns: map[*websocket.Conn]struct{}{}}
		addr, stop, err := serveHTTP(&http.Server{Handler: g, ReadHeaderTimeout: answerLimit})
		if err != nil {
			return nil, err
		}
		return &subject{addr: addr, close: stop}, nil // connections end with the process
	case mendedGateway:
		return newTidyGateway()
	}
	return nil, fmt.Errorf("there is no gateway of the kind %q", c.Kind)
}

// leakyGateway is the naive one.
type leakyGateway struct {
	upgrader websocket.Upgrader

	mu    sync.Mutex
	conns map[*websocket.Conn]struct{} // guarded by mu
}

// ServeHTTP upgrades and echoes.
func (g *leakyGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	g.mu.Lock()
	g.conns[c] = struct{}{} // the fault: nobody takes it out again
	g.mu.Unlock()
	for exchange(c) == nil {
	}
}

// tidyGateway is the mended one.
type tidyGateway struct {
	upgrader websocket.Upgrader
	buffers  sync.Pool // of *[]byte, for messages

	mu    sync.Mutex
	conns map[*websocket.Conn]struct{} // guarded by mu
}

func newTidyGateway() (*subject, error) {
	g := &tidyGateway{conns: map[*websocket.Conn]struct{}{}}
	g.buffers.New = func() any { b := make([]byte, 1024); return &b }
	g.upgrader.ReadBufferSize, g.upgrader.WriteBufferPool = 1024, new(sync.Pool)
	addr, stop, err := serveHTTP(&http.Server{Handler: g, ReadHeaderTimeout: answerLimit})
	if err != nil {
		return nil, err
	}
	over, pinged := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(pinged)
		g.ping(over)
	}()
	return &subject{addr: addr, close: func() error {
		close(over)
		<-pinged
		return stop() // connections end with the process
	}}, nil
}

// ping pings all connections, again and again until over.
func (g *tidyGateway) ping(over <-chan struct{}) {
	tick := time.NewTicker(gatewaySilence * 2 / 5)
	defer tick.Stop()
	var conns []*websocket.Conn
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		g.mu.Lock()
		for c := range g.conns {
			conns = append(conns, c)
		}
		g.mu.Unlock()
		for _, c := range conns {
			_ = c.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) // one that fails ends by its deadline
		}
		clear(conns) // or they would be kept here
		conns = conns[:0]
	}
}

// ServeHTTP upgrades and echoes.
func (g *tidyGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.conns[c] = struct{}{}
	g.mu.Unlock()
	go g.serve(c) // and net/http's part of the stack ends
}

// serve echoes until the connection is over, and takes it out of the map.
func (g *tidyGateway) serve(c *websocket.Conn) {
	defer func() {
		_ = c.Close()
		g.mu.Lock()
		delete(g.conns, c)
		g.mu.Unlock()
	}()
	renew := func(string) error { return c.SetReadDeadline(time.Now().Add(gatewaySilence)) }
	c.SetPongHandler(renew)
	for renew("") == nil {
		t, from, err := c.NextReader()
		if err != nil {
			return
		}
		if g.echo(c, t, from) != nil {
			return
		}
	}
}

// echo sends a message back that fits a buffer of the pool.
func (g *tidyGateway) echo(c *websocket.Conn, t int, from io.Reader) error {
	b := g.buffers.Get().(*[]byte)
	defer g.buffers.Put(b)
	n, err := io.ReadFull(from, *b)
	if err == nil {
		return fmt.Errorf("a message does not fit %d bytes", len(*b)-1)
	}
	if err != io.ErrUnexpectedEOF && err != io.EOF {
		return err
	}
	return c.WriteMessage(t, (*b)[:n])
}
