package stress

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/longwire/longwire/ws"
)

// target is where a run goes.
type target struct {
	url  *url.URL
	addr netip.AddrPort
	tls  *tls.Config // nil: plain
}

// resolve reads a URL and looks its host up.
func resolve(ctx context.Context, raw string, o *Options) (target, error) {
	const like = "give a URL like ws://127.0.0.1:8000/ws"
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return target{}, bad(like, "target %q is not a URL with a host", raw)
	}
	t := target{url: u}
	port := u.Port()
	switch u.Scheme {
	case "ws", "http":
		port = fallback(port, "80")
	case "wss", "https":
		port = fallback(port, "443")
		t.tls = &tls.Config{ServerName: u.Hostname(), RootCAs: o.Authorities, InsecureSkipVerify: o.Insecure, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	default:
		return target{}, bad(like, "target %q: scheme %q: want ws, wss, http or https", raw, u.Scheme)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return target{}, bad("", "target %q: port %q: want 1 to 65535", raw, port)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return target{}, fmt.Errorf("look up %s: %w", u.Hostname(), err)
	}
	a := addrs[0].Unmap()
	// IPv4 first: loopback has many source addresses there.
	if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() }); i >= 0 {
		a = addrs[i].Unmap()
	}
	t.addr = netip.AddrPortFrom(a, uint16(p))
	if !o.OwnTarget && !a.IsLoopback() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
		return target{}, bad("if the server is yours, or its owner agreed, say so with --i-own-this-target",
			"target %s is %s: neither loopback nor a private address", u.Hostname(), a)
	}
	return t, nil
}

// path is the request target of a scenario.
func (t target) path(c *Scenario) string {
	if c.Path != "" {
		return c.Path
	}
	return t.url.RequestURI()
}

// dial is what a scenario's WebSocket clients ask for.
func (t target) dial(c *Scenario, o *Options) ws.Dial {
	return ws.Dial{Host: t.url.Host, Target: t.path(c), Origin: o.Origin, Subprotocols: o.Subprotocols, Deflate: o.Deflate, Header: fields(o.Headers)}
}

// fields is header fields as they are sent.
func fields(headers []Header) string {
	var b strings.Builder
	for _, h := range headers {
		b.WriteString(h.Name + ": " + h.Value + "\r\n")
	}
	return b.String()
}

// request is a scenario's HTTP request, whole.
func (t target) request(c *Scenario, o *Options) []byte {
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.Method, t.path(c), t.url.Host)
	if o.Origin != "" {
		b = append(b, "Origin: "+o.Origin+"\r\n"...)
	}
	b = append(b, fields(o.Headers)...)
	b = append(b, fields(c.Headers)...)
	if c.PerRequest {
		b = append(b, "Connection: close\r\n"...)
	}
	if c.Size > 0 {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", c.Size)
	}
	b = append(b, "\r\n"...)
	return append(b, filler(c.Size)...)
}

// filler is bytes of letters.
func filler(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return b
}

// validHeaders refuses what would break a request apart.
func validHeaders(headers []Header) error {
	for _, h := range headers {
		if h.Name == "" || strings.ContainsAny(h.Name, " \t\r\n:\x00") || strings.ContainsAny(h.Value, "\r\n\x00") {
			return bad("give fields as Name: value", "header %q: %q is no header field", h.Name, h.Value)
		}
	}
	return nil
}
