package longwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longwire/longwire/internal/loop"
	"github.com/longwire/longwire/internal/sys"
	"github.com/longwire/longwire/ws"
)

// Handler serves the endpoints inside anyone's net/http server: the request's path selects the endpoint, or, where
// there is one endpoint only, any path does. At the upgrade the connection leaves net/http for a loop and keeps
// neither its goroutine nor its buffers. It takes HTTP/1.1 over plain TCP: behind TLS a socket cannot leave
// (a 501 says so).
//
// The gateway need not listen itself; the loops start with the first request.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveUpgrade) }

func (g *Gateway) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	if err := g.start(""); err != nil {
		g.answer(w, &ws.Refusal{Status: 503, Reason: "the server is going away", RetryAfter: g.retryAfter()}, refusedDrain)
		return
	}
	if r.ProtoMajor != 1 {
		g.answer(w, &ws.Refusal{Status: 501, Reason: "WebSocket over HTTP/2 ends in front of this server, not in it"}, refusedOther)
		return
	}
	if r.TLS != nil {
		g.answer(w, &ws.Refusal{Status: 501, Reason: "WebSocket over TLS ends in front of this server, not in it"}, refusedOther)
		return
	}
	e := g.requestEndpoint(r)
	if e < 0 && len(g.endpoints) == 1 {
		e = 0
	}
	if e < 0 {
		g.answer(w, &ws.Refusal{Status: 404, Reason: "no endpoint here: the endpoints are " + g.pathList()}, refusedOther)
		return
	}
	// The rules of the handshake are kept in one place, which reads bytes.
	head := requestHead(r)
	req, _, err := ws.ParseRequest(head, 0)
	if err != nil {
		ref := refusalOf(err)
		g.answer(w, ref, refusalKindOf(ref.Status))
		return
	}
	ep := &g.endpoints[e]
	h, ref := ws.Negotiate(&req, &ep.policy)
	if ref == nil && ep.Authorize != nil {
		ref = ep.Authorize(&req)
	}
	if ref != nil {
		g.answer(w, ref, refusalKindOf(ref.Status))
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	key := addressKey(peer.Addr())
	if why := g.admission.admit(key, false); why != admitted {
		g.admission.log(why)
		g.answer(w, &ws.Refusal{Status: 503, Reason: "refused: " + why.String(), RetryAfter: g.retryAfter()}, why)
		return
	}
	if err := g.move(w, head, e, &h, key); err != nil {
		g.admission.leave(key)
		g.log.Warn("upgrade", "addr", g.mask(peer), "error", err)
		if !errors.Is(err, errHijacked) {
			status := 500
			if errors.Is(err, sys.ErrUnsupported) || errors.Is(err, http.ErrNotSupported) {
				status = 501
			}
			g.answer(w, &ws.Refusal{Status: status, Reason: err.Error()}, refusedOther)
		}
	}
}

// requestEndpoint is the endpoint that r is for, or -1: by r's path as what is around the handler left it, or as it
// came.
func (g *Gateway) requestEndpoint(r *http.Request) int {
	if e := g.endpoint([]byte(r.URL.EscapedPath())); e >= 0 {
		return e
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return g.endpoint([]byte(path))
}

// errHijacked wraps errors after the response can't be written any more.
var errHijacked = errors.New("after the upgrade")

// move takes the connection out of net/http and gives it to a loop.
func (g *Gateway) move(w http.ResponseWriter, head []byte, e int, h *ws.Handshake, key uint64) error {
	if !hijackable(w) {
		return fmt.Errorf("this connection cannot leave net/http: %w", http.ErrNotSupported)
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("hijack: %w", err)
	}
	fail := func(err error) error {
		_ = c.Close()
		return fmt.Errorf("%w: %w", errHijacked, err)
	}
	rest, _ := rw.Reader.Peek(rw.Reader.Buffered())
	tcp, early := unwrapConn(c)
	rest = append(append([]byte(nil), rest...), early...)
	if tcp == nil {
		g.plain.refused[refusedOther].Add(1)
		_, _ = c.Write(ws.AppendRefusal(nil, &ws.Refusal{Status: 501, Reason: "this connection is not plain TCP"}))
		return fail(fmt.Errorf("a %T: %w", c, sys.ErrUnsupported))
	}
	if len(head)+len(rest)+adoptionHeader > sys.MaxPassed {
		return fail(errors.New("too many bytes behind the request"))
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(ws.AppendResponse(nil, h, "")); err != nil {
		return fail(err)
	}
	_ = c.SetDeadline(time.Time{})
	window := uint8(0)
	if h.Deflate.On {
		window = h.Deflate.Window
	}
	if err := g.loops.Adopt(tcp, appendAdoption(nil, e, window, key, head, rest)); err != nil {
		return fail(err)
	}
	return nil
}

func hijackable(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// unwrapConn finds the TCP connection in c, and bytes of the stream that c holds back.
func unwrapConn(c net.Conn) (*net.TCPConn, []byte) {
	switch t := c.(type) {
	case *net.TCPConn:
		return t, nil
	case *strayConn:
		tcp, ok := t.Conn.(*net.TCPConn)
		if !ok {
			return nil, nil
		}
		return tcp, t.head
	}
	return nil, nil
}

// requestHead writes r's head as it was (about) on the wire.
func requestHead(r *http.Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/%d.%d\r\nHost: %s\r\n", r.Method, r.RequestURI, r.ProtoMajor, r.ProtoMinor, r.Host)
	_ = r.Header.Write(&b)
	if r.ContentLength > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", r.ContentLength)
	}
	for _, te := range r.TransferEncoding {
		fmt.Fprintf(&b, "Transfer-Encoding: %s\r\n", te)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// answer sends a refusal through net/http and counts it.
func (g *Gateway) answer(w http.ResponseWriter, r *ws.Refusal, why refusalKind) {
	g.plain.refused[why].Add(1)
	head, body, ok := bytes.Cut(ws.AppendRefusal(nil, r), []byte("\r\n\r\n"))
	if !ok {
		http.Error(w, r.Reason, r.Status)
		return
	}
	// The same fields as on the loop.
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && !bytes.HasPrefix(line, []byte("HTTP/")) {
			// net/http closes the connection if "close" is the first value, alone.
			if string(name) == "Connection" {
				w.Header().Set("Connection", "close")
				if bytes.Contains(value, []byte("Upgrade")) {
					w.Header().Add("Connection", "Upgrade")
				}
				continue
			}
			w.Header().Set(string(name), string(value))
		}
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(body)
}

// plainHTTP is the net/http server for what came to the gateway's port and is no endpoint's.
type plainHTTP struct {
	g       *Gateway
	server  *http.Server
	handler http.Handler // of what is for no endpoint
	conns   chan net.Conn
	done    chan struct{} // closed when the receiver has ended
	open    atomic.Int64
	refused [refusalKinds]atomic.Uint64
	once    sync.Once
	closed  chan struct{}
}

// maxPlain bounds the plain HTTP connections: they cost a goroutine and buffers each.
const maxPlain = 4096

func newPlainHTTP(g *Gateway) *plainHTTP {
	p := &plainHTTP{g: g, conns: make(chan net.Conn, 128), done: make(chan struct{}), closed: make(chan struct{})}
	p.handler = http.HandlerFunc(p.serve)
	if wrap := g.config.WrapHTTP; wrap != nil {
		p.handler = wrap(p.handler)
	}
	p.server = &http.Server{
		Handler: p, ReadHeaderTimeout: g.config.HandshakeTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10,
		BaseContext:    func(net.Listener) context.Context { return httpLabels },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				p.open.Add(-1)
			}
		},
	}
	return p
}

// ServeHTTP implements http.Handler: endpoints (an upgrade on a connection that spoke plain HTTP before), and the rest.
func (p *plainHTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.g.requestEndpoint(r) >= 0 {
		p.g.serveUpgrade(w, r)
		return
	}
	p.handler.ServeHTTP(w, r)
}

// serve answers what is for no endpoint: health, and what the configuration has.
func (p *plainHTTP) serve(w http.ResponseWriter, r *http.Request) {
	g := p.g
	switch r.URL.Path {
	case "/healthz", "/readyz":
		r.Pattern = r.URL.Path
		g.ServeHealth(w, r)
		return
	}
	if g.config.HTTP == nil {
		http.NotFound(w, r)
		return
	}
	g.config.HTTP.ServeHTTP(w, r)
}

// ServeHealth answers at /healthz while the process lives, and at any other path, as /readyz, whether the gateway takes
// connections. The gateway's own port has both; this is for other listeners.
func (g *Gateway) ServeHealth(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	switch {
	case r.URL.Path == "/healthz":
		_, _ = w.Write([]byte("ok\n"))
	case g.Ready():
		_, _ = w.Write([]byte("ready\n"))
	default:
		http.Error(w, "draining", http.StatusServiceUnavailable)
	}
}

// start serves what the loops pass on.
func (p *plainHTTP) start() {
	go func() {
		pprof.SetGoroutineLabels(httpLabels)
		_ = p.server.Serve(p)
	}()
	go func() {
		defer close(p.done)
		pprof.SetGoroutineLabels(httpLabels)
		buf := make([]byte, sys.MaxPassed)
		for {
			c, n, err := p.g.loops.Strays(buf)
			if err != nil {
				return
			}
			if p.open.Add(1) > maxPlain {
				p.open.Add(-1)
				_, _ = c.Write(ws.AppendRefusal(nil, &ws.Refusal{Status: 503, Reason: "too many plain HTTP requests", RetryAfter: p.g.retryAfter()}))
				_ = c.Close()
				p.refused[refusedPlain].Add(1)
				continue
			}
			select {
			case p.conns <- &strayConn{Conn: c, head: append([]byte(nil), buf[:n]...)}:
			case <-p.closed:
				_ = c.Close()
			}
		}
	}()
}

// Accept implements net.Listener.
func (p *plainHTTP) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (p *plainHTTP) Addr() net.Addr { return net.TCPAddrFromAddrPort(p.g.addr) }

// Close implements net.Listener.
func (p *plainHTTP) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *plainHTTP) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = p.server.Shutdown(ctx)
}

func (p *plainHTTP) close() {
	_ = p.Close()
	_ = p.server.Close()
}

// strayConn is a connection whose first bytes were read by a loop.
type strayConn struct {
	net.Conn
	head []byte
}

// Read gives the first bytes first.
func (c *strayConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

var (
	_ net.Listener = (*plainHTTP)(nil)
	_ loop.Handler = (*front)(nil)
)
