package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/ws"
)

// target is where a Conn connects to, and what it asks for there. It is frozen.
type target struct {
	address string // host:port
	tls     *tls.Config
	ask     ws.Dial
}

// own are the header fields of the handshake itself.
var own = map[string]bool{
	"Host": true, "Connection": true, "Upgrade": true, "Content-Length": true, "Transfer-Encoding": true,
	"Sec-Websocket-Key": true, "Sec-Websocket-Version": true, "Sec-Websocket-Protocol": true,
	"Sec-Websocket-Extensions": true, "Sec-Websocket-Accept": true,
}

func newTarget(address string, o *Options) (*target, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	t := &target{}
	port := "80"
	switch u.Scheme {
	case "ws", "http":
	case "wss", "https":
		port = "443"
		t.tls = &tls.Config{}
		if o.TLS != nil {
			t.tls = o.TLS.Clone()
		}
		if t.tls.ServerName == "" {
			t.tls.ServerName = u.Hostname()
		}
		if t.tls.NextProtos == nil {
			t.tls.NextProtos = []string{"http/1.1"}
		}
	default:
		return nil, fmt.Errorf("scheme is %q, want ws or wss", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("no host")
	}
	t.ask = ws.Dial{Host: u.Host, Target: u.RequestURI(), Subprotocols: o.Subprotocols, Deflate: o.Compress}
	if u.Port() != "" {
		port = u.Port()
	} else {
		t.ask.Host = strings.TrimSuffix(u.Host, ":")
	}
	t.address = net.JoinHostPort(u.Hostname(), port)
	var head strings.Builder
	if u.User != nil && o.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		head.WriteString("Authorization: Basic " + credentials + "\r\n")
	}
	for name, values := range o.Header {
		if own[http.CanonicalHeaderKey(name)] {
			return nil, fmt.Errorf("header %s belongs to the handshake", name)
		}
		for _, v := range values {
			if name == "" || strings.ContainsFunc(name, notName) || strings.ContainsFunc(v, control) {
				return nil, fmt.Errorf("header %q: %q has characters that do not belong there", name, v)
			}
			head.WriteString(name + ": " + v + "\r\n")
		}
	}
	for _, s := range o.Subprotocols {
		if s == "" || strings.ContainsFunc(s, notName) {
			return nil, fmt.Errorf("subprotocol %q is no token", s)
		}
	}
	if strings.ContainsFunc(t.ask.Host, notHost) {
		return nil, fmt.Errorf("host is %q", t.ask.Host)
	}
	t.ask.Header = head.String()
	return t, nil
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func notHost(r rune) bool { return r <= ' ' || r == 0x7f }

// notName tells what has no place in a token of RFC 9110.
func notName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
}

// refusal is an answer to the handshake other than 101.
type refusal struct {
	err    error // a *ws.HandshakeError
	status int
	after  int64 // milliseconds of Retry-After; negative: none
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

// maxHead bounds the head of a response, and maxInterim those that come before the one that counts.
const (
	maxHead    = 16 << 10
	maxInterim = 5
)

// shake does the handshake on conn, and returns what was agreed on and what was read beyond it. Whoever closes conn ends
// it.
func (t *target) shake(conn net.Conn) (ws.Handshake, []byte, error) {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	if _, err := conn.Write(ws.AppendRequest(nil, &t.ask, key)); err != nil {
		return ws.Handshake{}, nil, err
	}
	var b []byte
	chunk := make([]byte, 4<<10)
	for interim := 0; interim <= maxInterim; {
		resp, n, err := ws.ParseResponse(b, maxHead)
		if err != nil {
			return ws.Handshake{}, nil, err
		}
		if n == 0 {
			// ParseResponse bounds how long b gets.
			m, err := conn.Read(chunk)
			if b = append(b, chunk[:m]...); m == 0 && err != nil {
				return ws.Handshake{}, nil, err
			}
			continue
		}
		if status := resp.Status(); status >= 200 {
			_, err := t.ask.Check(&resp, key)
			return ws.Handshake{}, nil, &refusal{err, status, retryAfter(resp.Header("Retry-After"), time.Now())}
		} else if status == 101 {
			h, err := t.ask.Check(&resp, key)
			return h, bytes.Clone(b[n:]), err
		}
		b = b[n:]
		interim++
	}
	return ws.Handshake{}, nil, errors.New("too many interim responses")
}

// retryAfter reads the value of a Retry-After (RFC 9110 section 10.2.3): milliseconds from now, negative if there is none.
func retryAfter(value []byte, now time.Time) int64 {
	if n, err := strconv.ParseUint(string(value), 10, 32); err == nil {
		return int64(n) * 1000
	}
	if at, err := http.ParseTime(string(value)); err == nil {
		return max(at.Sub(now).Milliseconds(), 0)
	}
	return -1
}

// dial makes the connection below the handshake. made is told each layer of it, and false has it given up.
func (t *target) dial(ctx context.Context, o *Options, made func(conn, raw net.Conn) bool) (net.Conn, error) {
	dial := o.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	if !made(conn, conn) {
		_ = conn.Close()
		return nil, context.Canceled
	}
	if t.tls == nil {
		return conn, nil
	}
	secure := tls.Client(conn, t.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if !made(secure, conn) {
		return nil, context.Canceled // conn was closed by who left
	}
	return secure, nil
}
