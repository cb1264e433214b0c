package fleet_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/longwire/longwire/internal/wstest"
	"github.com/longwire/longwire/ws"
)

// serve is a server of TCP on loopback.
func serve(t testing.TB, f func(n int, c *net.TCPConn)) *wstest.Host {
	t.Helper()
	return wstest.Serve(t, nil, func(n int, c net.Conn) { f(n, c.(*net.TCPConn)) })
}

// head reads a request's head, and returns what comes behind it.
func head(c net.Conn) (*http.Request, *bufio.Reader, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	return req, r, err
}

// upgrade answers a WebSocket handshake.
func upgrade(c net.Conn) (*bufio.Reader, error) {
	_, r, err := wstest.Upgrade(c)
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
