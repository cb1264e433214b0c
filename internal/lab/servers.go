package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/longwire/longwire"
)

// The kinds of servers that are held against each other. All echo; the first answers requests.
const (
	kindHTTP     = "net/http"
	kindGorilla  = "gorilla"        // as its examples have it: default buffers, read in the handler
	kindPooled   = "gorilla-pooled" // write buffers and messages from pools, 1 KiB to read, the handler left
	kindLongwire = "longwire"
)

type serverConfig struct {
	Kind string
	// Idle and Read are net/http's IdleTimeout and ReadTimeout.
	Idle, Read time.Duration
	// Header is how long a request may take: net/http's ReadHeaderTimeout, Longwire's HandshakeTimeout. 0 is none, and 30 s.
	Header time.Duration
	// Silence is how long a client may be silent: gorilla's read deadline, Longwire's heartbeat timeout. 0 leaves what is
	// the default, which for gorilla is none.
	Silence time.Duration
	MaxSize int // how many conns there will be, for Longwire; 0 is its default
	// Watch has the server tell what its connections hold, a held, when it is asked for "held". It costs memory.
	Watch bool
}

// serverState is what a server saw.
type serverState struct {
	Hijacked      int  // conns that net/http gave away
	CloseHandlers int  // calls of the handler that SetCloseHandler takes
	OnClose       bool // whether gorilla's Conn has anything of that name
}

// serveHTTP serves on a free port of loopback until stop.
func serveHTTP(s *http.Server) (addr string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() { _ = s.Serve(l) }() // until Close
	return l.Addr().String(), s.Close, nil
}

func newServer(ctx context.Context, c serverConfig) (*subject, error) {
	if c.Watch {
		runtime.MemProfileRate = 1 // of a process that is the subject's alone
	}
	switch c.Kind {
	case kindHTTP, kindGorilla, kindPooled:
		return newGoServer(c)
	case kindLongwire:
		return newLongwireServer(c)
	}
	return nil, fmt.Errorf("there is no server of the kind %q", c.Kind)
}

// goServer is a server on net/http.
type goServer struct {
	config   serverConfig
	server   *http.Server
	upgrader websocket.Upgrader
	pool     sync.Pool        // of *[]byte
	watched  *watchedListener // nil without Watch

	hijacked, known, handled atomic.Int64 // conns given away by net/http, those of them that came into conns, calls of the close handler

	mu    sync.Mutex
	conns map[*websocket.Conn]bool // guarded by mu
}

func newGoServer(c serverConfig) (*subject, error) {
	g := &goServer{config: c, conns: map[*websocket.Conn]bool{}}
	g.pool.New = func() any { b := make([]byte, 1024); return &b }
	g.upgrader.HandshakeTimeout = answerLimit
	if c.Kind == kindPooled {
		g.upgrader.ReadBufferSize, g.upgrader.WriteBufferPool = 1024, new(sync.Pool)
	}
	g.server = &http.Server{Handler: g, IdleTimeout: c.Idle, ReadTimeout: c.Read, ReadHeaderTimeout: c.Header, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateHijacked {
			g.hijacked.Add(1)
		}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if c.Watch {
		g.watched = &watchedListener{Listener: l, conns: map[*watchedConn]bool{}}
		l = g.watched
	}
	go func() { _ = g.server.Serve(l) }() // until Close
	return &subject{addr: addr, ask: g.ask, close: func() error {
		err := g.server.Close()
		g.closeAll()
		return err
	}}, nil
}

// ask answers for what an experiment may want to know or to happen.
func (g *goServer) ask(ctx context.Context, what string, _ json.RawMessage) (any, error) {
	switch what {
	case "state":
		_, has := reflect.TypeFor[*websocket.Conn]().MethodByName("OnClose")
		return serverState{Hijacked: int(g.hijacked.Load()), CloseHandlers: int(g.handled.Load()), OnClose: has}, nil
	case "close": // by the server, as an application does
		// A client has its answer a moment before the handler has the connection.
		for late := time.Now().Add(answerLimit); g.known.Load() < g.hijacked.Load() && time.Now().Before(late); {
			if err := pause(ctx, time.Millisecond); err != nil {
				return nil, err
			}
		}
		g.closeAll()
		return nil, nil
	case "shutdown":
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := g.server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		return nil, nil
	case "underlying":
		return underlying(ctx)
	case "held":
		if g.watched == nil {
			break
		}
		var h held
		h.Buffers, h.BufferBytes = countBuffers()
		h.ReadDeadlines, h.WriteDeadlines = g.watched.deadlines()
		return h, nil
	}
	return nil, fmt.Errorf("asked for %q, which it does not know", what)
}

func (g *goServer) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}

// ServeHTTP answers or upgrades.
func (g *goServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.config.Kind == kindHTTP {
		_, _ = io.WriteString(w, "hello\n")
		return
	}
	conn, err := g.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	handler := conn.CloseHandler()
	conn.SetCloseHandler(func(code int, text string) error {
		g.handled.Add(1)
		return handler(code, text)
	})
	g.mu.Lock()
	g.conns[conn] = true
	g.mu.Unlock()
	g.known.Add(1)
	if g.config.Kind == kindPooled {
		go g.serve(conn, g.exchangePooled) // the handler returns, and net/http's part of the stack with it
		return
	}
	g.serve(conn, exchange)
}

// serve echoes until the connection is over.
func (g *goServer) serve(conn *websocket.Conn, exchange func(*websocket.Conn) error) {
	defer func() {
		_ = conn.Close()
		g.mu.Lock()
		delete(g.conns, conn)
		g.mu.Unlock()
	}()
	for {
		if d := g.config.Silence; d > 0 {
			if err := conn.SetReadDeadline(time.Now().Add(d)); err != nil {
				return
			}
		}
		if err := exchange(conn); err != nil {
			return
		}
	}
}

// exchange is one echo as most programs write it: a new slice for each message.
func exchange(conn *websocket.Conn) error {
	t, b, err := conn.ReadMessage()
	if err != nil {
		return err
	}
	return conn.WriteMessage(t, b)
}

// exchangePooled reads into a slice of the pool, for messages that fit one.
func (g *goServer) exchangePooled(conn *websocket.Conn) error {
	t, from, err := conn.NextReader()
	if err != nil {
		return err
	}
	b := g.pool.Get().(*[]byte)
	defer g.pool.Put(b)
	n, err := io.ReadFull(from, *b)
	switch {
	case err == nil:
		return fmt.Errorf("a message does not fit %d bytes", len(*b)-1)
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return err
	}
	return conn.WriteMessage(t, (*b)[:n])
}

func newLongwireServer(c serverConfig) (*subject, error) {
	e := longwire.Echo("/")
	e.Heartbeat.Timeout = c.Silence
	if c.Silence > 0 {
		e.Heartbeat.Ping = c.Silence * 4 / 5
	}
	if c.Header == 0 {
		c.Header = 30 * time.Second // conns that are only accepted are looked at for a while
	}
	g, err := longwire.New(longwire.Config{
		Addr: "127.0.0.1:0", Endpoints: []longwire.Endpoint{e}, MaxConns: c.MaxSize, HandshakeTimeout: c.Header,
		MaxMemory: -1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if err := g.Start(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return &subject{addr: g.Addr().String(), close: g.Close, ask: func(ctx context.Context, what string, _ json.RawMessage) (any, error) {
		switch what {
		case "shutdown", "close":
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := g.Drain(ctx, 0); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return nil, err
			}
			return nil, nil
		case "held":
			s := g.Stats()
			n, bytes := countBuffers() // of what it serves by net/http
			return held{Buffers: n + s.Partials, BufferBytes: bytes + s.QueueBytes, ReadDeadlines: -1, WriteDeadlines: -1}, nil
		}
		return nil, fmt.Errorf("asked for %q, which it does not know", what)
	}}, nil
}

// underlying tells the type of UnderlyingConn, of a connection without and with TLS.
func underlying(ctx context.Context) (types map[string]string, err error) {
	config, err := selfSigned()
	if err != nil {
		return nil, err
	}
	types = map[string]string{}
	for scheme, config := range map[string]*tls.Config{"ws": nil, "wss": config} {
		got := make(chan string, 1)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		if config != nil {
			l = tls.NewListener(l, config)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
			if err != nil {
				return
			}
			got <- fmt.Sprintf("%T", c.UnderlyingConn())
			_ = c.Close()
		})}
		go func() { _ = s.Serve(l) }() // until Close
		d := websocket.Dialer{HandshakeTimeout: answerLimit}
		if config != nil {
			d.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
			d.TLSClientConfig.RootCAs.AddCert(config.Certificates[0].Leaf)
		}
		c, resp, err := d.DialContext(ctx, scheme+"://"+l.Addr().String()+"/", nil)
		if err == nil {
			_ = resp.Body.Close()
			types[scheme] = <-got
			_ = c.Close()
		}
		if err := errors.Join(err, s.Close()); err != nil {
			return nil, err
		}
	}
	return types, nil
}

// selfSigned is TLS for 127.0.0.1.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}, nil
}
