package fleet_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"github.com/longwire/longwire/ws"
)

// host is a server of TCP that does with each conn what the test says. It ends, with all conns, when the test does.
type host struct {
	addr netip.AddrPort

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
	total int               // guarded by mu: conns that came
	done  bool              // guarded by mu
}

// serve has each conn served by f, on a goroutine, and closes it then.
func serve(t testing.TB, f func(n int, c *net.TCPConn)) *host {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{addr: ln.Addr().(*net.TCPAddr).AddrPort(), conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n, ok := h.add(c)
			if !ok {
				_ = c.Close()
				continue
			}
			wg.Go(func() {
				defer h.remove(c)
				f(n, c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		h.end()
		wg.Wait()
	})
	return h
}

func (h *host) add(c net.Conn) (n int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return 0, false
	}
	h.conns[c] = true
	n = h.total
	h.total++
	return n, true
}

func (h *host) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	_ = c.Close()
}

func (h *host) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	for c := range h.conns {
		_ = c.Close()
	}
}

// head reads a request's head, and returns what comes behind it.
func head(c net.Conn) (*http.Request, *bufio.Reader, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	return req, r, err
}

// upgrade answers a WebSocket handshake.
func upgrade(c net.Conn) (*bufio.Reader, error) {
	req, r, err := head(c)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return r, err
}

// frames reads frames and hands on their opcodes until f has enough or the conn ends.
func frames(r *bufio.Reader, f func(ws.Opcode) bool) {
	for {
		var b []byte
		for n := 2; n <= 14; n++ {
			var err error
			if b, err = r.Peek(n); err != nil {
				return
			}
			h, size, err := ws.ParseHeader(b)
			if err != nil {
				return
			}
			if size == 0 {
				continue
			}
			if _, err := r.Discard(size); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, r, int64(h.Length)); err != nil {
				return
			}
			if !f(h.Opcode) {
				return
			}
			break
		}
	}
}

// polite is a server of WebSocket that only listens, and answers the closing handshake.
func polite(_ int, c *net.TCPConn) { listen(c) }

func listen(c net.Conn) {
	r, err := upgrade(c)
	if err != nil {
		return
	}
	frames(r, func(op ws.Opcode) bool {
		if op == ws.OpClose {
			_, _ = c.Write([]byte{0x88, 2, 3, 232})
			return false
		}
		return true
	})
}

// deaf is polite but for closing handshakes: it does not end by itself.
func deaf(_ int, c *net.TCPConn) {
	if r, err := upgrade(c); err == nil {
		frames(r, func(ws.Opcode) bool { return true })
	}
}
