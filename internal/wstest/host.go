package wstest

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// Host is a server of TCP that does with each connection what the test says.
type Host struct {
	Addr netip.AddrPort // frozen

	mu    sync.Mutex
	open  map[net.Conn]bool // guarded by mu
	total int               // guarded by mu: connections that came
	done  bool              // guarded by mu
}

// Serve has each connection of a listener served by f on a goroutine, and closes it then; n counts them from 0. Without a
// listener it makes one on loopback. It ends, with all connections, when the test does.
func Serve(t testing.TB, ln net.Listener, f func(n int, c net.Conn)) *Host {
	t.Helper()
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	h := &Host{Addr: netip.MustParseAddrPort(ln.Addr().String()), open: make(map[net.Conn]bool)}
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
				f(n, c)
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

func (h *Host) add(c net.Conn) (n int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return 0, false
	}
	h.open[c] = true
	n = h.total
	h.total++
	return n, true
}

func (h *Host) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
	_ = c.Close()
}

func (h *Host) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	for c := range h.open {
		_ = c.Close()
	}
}

// Conns are the connections that are being served, in no order.
func (h *Host) Conns() []net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.open))
}

// Upgrade reads a request from a client, and accepts its handshake whatever it says. It shares no code with package ws.
// What comes behind the request is in the reader.
func Upgrade(c net.Conn) (*http.Request, *bufio.Reader, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, err
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return req, r, err
}
