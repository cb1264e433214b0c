package lab

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

// paths are where peers of a fate connect.
var paths = [fates]string{"/vanished", "/frozen", "/silent"}

// startReadServer starts a server of gorilla/websocket that reads in one way.
func startReadServer(a *abyss, w readWay, limit time.Duration) (*readServer, error) {
	lc := net.ListenConfig{KeepAliveConfig: w.keepalive}
	if w.off {
		lc.KeepAlive = -1
	}
	var l net.Listener
	err := a.do(func() (err error) {
		l, err = lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &readServer{id: w.id, name: w.name, addr: l.Addr().String(), endings: &endings{}, entered: new(atomic.Int64)}
	var mu sync.Mutex
	var conns []*websocket.Conn // guarded by mu, until the server stops
	var handlers sync.WaitGroup
	mux := http.NewServeMux()
	upgrader := websocket.Upgrader{}
	for k, path := range paths {
		mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) {
			c, err := upgrader.Upgrade(rw, r, nil)
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			handlers.Add(1)
			mu.Unlock()
			defer handlers.Done()
			defer func() { _ = c.Close() }()
			s.entered.Add(1)
			s.endings.add(fate(k), ended(w.read(c, limit)))
		})
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: answerLimit}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	s.stop = func() error {
		err := server.Close()
		<-served
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		handlers.Wait()
		return err
	}
	return s, nil
}

// startReadGateway starts Longwire with its heartbeat.
func startReadGateway(a *abyss, limit time.Duration) (*readServer, error) {
	s := &readServer{id: "longwire", name: "Longwire: its loop, with a heartbeat", endings: &endings{}, entered: new(atomic.Int64)}
	c := longwire.Config{Addr: "127.0.0.1:0", Loops: 1, MaxConns: 4000, Tables: longwire.TablesShared, MaxMemory: -1, Log: slog.New(slog.DiscardHandler)}
	for k, path := range paths {
		c.Endpoints = append(c.Endpoints, longwire.Endpoint{
			Path:      path,
			Heartbeat: longwire.Heartbeat{Ping: limit / 2, Timeout: limit},
			OnOpen:    func(longwire.Conn, *ws.Request) { s.entered.Add(1) },
			OnClose:   func(_ longwire.Conn, cause longwire.Cause) { s.endings.add(fate(k), cause.Kind.String()) },
		})
	}
	g, err := longwire.New(c)
	if err != nil {
		return nil, err
	}
	if err := a.do(g.Start); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	s.addr = g.Addr().String()
	s.stop = g.Close
	return s, nil
}

// readPeers are the clients of all servers.
type readPeers struct {
	conns   []net.Conn
	lost    []syscall.Conn // those that are to vanish
	reading sync.WaitGroup
}

// connect has a peer of a fate connect.
func (p *readPeers) connect(ctx context.Context, a *abyss, addr string, k fate) error {
	var tcp net.Conn
	err := a.do(func() (err error) {
		tcp, err = a.dialer(k == vanished).DialContext(ctx, "tcp", addr)
		return err
	})
	if err != nil {
		return err
	}
	p.conns = append(p.conns, tcp)
	d := websocket.Dialer{HandshakeTimeout: answerLimit, NetDialContext: func(context.Context, string, string) (net.Conn, error) { return tcp, nil }}
	c, _, err := d.DialContext(ctx, "ws://"+addr+paths[k], nil)
	if err != nil {
		return err
	}
	switch k {
	case vanished:
		if s, ok := tcp.(syscall.Conn); ok {
			p.lost = append(p.lost, s)
		}
	case silent:
		p.reading.Go(func() { _ = readUntil(c, 0) }) // until close; it answers pings
	}
	return nil
}

// close ends all of them.
func (p *readPeers) close() {
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.reading.Wait()
}
