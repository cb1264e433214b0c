package fleet_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

func nobodyLogs() *log.Logger { return log.New(io.Discard, "", 0) }

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{t, c, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// server is the configuration of a server with that name, whose certificate ends then.
func (a *authority) server(name string, until time.Time) *tls.Config {
	c := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}}
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	server := a.server("test.example", time.Now().Add(time.Hour))
	h := serve(t, func(_ int, c *net.TCPConn) {
		s := tls.Server(c, server)
		listen(s)
		_ = s.Close()
	})
	ctx := timeout(t)
	f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 30, Loops: 1, Refill: true, PerSource: 20, TLS: &tls.Config{RootCAs: a.pool(), ServerName: "test.example"}})
	for _, n := range []int{20, 5, 30} {
		reach(t, ctx, f, n, n)
	}
	if n := f.Sources(); n != 3 {
		t.Errorf("%d sources, want 3", n)
	}
	if n, err := f.CutShare(ctx, 0.5); err != nil || n != 15 {
		t.Errorf("%d cut, %v", n, err)
	}
	until(t, ctx, f, "refilled", func(c fleet.Counts) bool { return c.Open == 30 && c.Opened == 20+25+15 })
	if err := f.CloseAll(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if c := f.Counts(); c.Closed != c.Opened || len(c.Lost)+len(c.Failed) > 0 {
		t.Errorf("%+v: want all closed", c)
	}
	consistent(t, f)
}

func TestHTTPS(t *testing.T) {
	s := web(t, true)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	c := converse(t, fleet.Config{Target: addrOf(s), TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"}}, asks, 2, 3)
	if c.Received != int64(2*len(asks)*3) || len(c.Failed)+len(c.Lost) > 0 {
		t.Errorf("%+v: want %d answers, and none lost", c, 2*len(asks)*3)
	}
}

// TestTLSFailures has each reason for which a handshake fails.
func TestTLSFailures(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.server("test.example", time.Now().Add(time.Hour))
	strict := good.Clone()
	strict.ClientAuth = tls.RequireAnyClientCert
	old := good.Clone()
	old.MaxVersion = tls.VersionTLS11
	shake := func(c *tls.Config) func(int, *net.TCPConn) {
		return func(_ int, raw *net.TCPConn) {
			s := tls.Server(raw, c)
			_, _ = io.Copy(io.Discard, s) // the handshake first
		}
	}
	// hello reads the first of the client's messages.
	hello := func(c net.Conn) { _, _ = io.ReadAtLeast(c, make([]byte, 4096), 100) }
	plain := func(_ int, c *net.TCPConn) {
		hello(c)
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().(*net.TCPAddr).AddrPort()
	_ = ln.Close()
	to := func(f func(int, *net.TCPConn)) netip.AddrPort { return serve(t, f).Addr }
	for _, s := range []struct {
		addr   netip.AddrPort
		pool   *x509.CertPool
		name   string
		reason string
	}{
		{addr: to(shake(good)), name: "other.example", reason: "tls_wrong_name"},
		{addr: to(shake(good)), pool: other.pool(), reason: "tls_unknown_authority"},
		{addr: to(shake(a.server("test.example", time.Now().Add(-time.Hour)))), reason: "tls_certificate_expired"},
		{addr: to(shake(old)), reason: "tls_alert"},
		{addr: to(shake(strict)), reason: "tls_alert"},
		{addr: to(plain), reason: "tls_no_tls"},
		{addr: to(func(_ int, c *net.TCPConn) { hello(c) }), reason: "tls_closed"},
		{addr: to(func(_ int, c *net.TCPConn) { hello(c); _ = c.SetLinger(0) }), reason: "tls_reset"},
		{addr: to(func(_ int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }), reason: "tls_timeout"},
		{addr: to(func(_ int, c *net.TCPConn) {
			s := tls.Server(c, good)
			if s.Handshake() == nil {
				_, _ = s.Read(make([]byte, 1000))
				_, _ = c.Write([]byte{23, 3, 3, 0, 50, 1}) // the end within a record
			}
		}), reason: "tls_cut"},
		{addr: nobody, reason: "refused"},
	} {
		t.Run(s.reason, func(t *testing.T) {
			t.Parallel()
			c := &tls.Config{RootCAs: s.pool, ServerName: "test.example"}
			if s.pool == nil {
				c.RootCAs = a.pool()
			}
			if s.name != "" {
				c.ServerName = s.name
			}
			ctx := timeout(t)
			limit := 10 * time.Second
			if s.reason == "tls_timeout" {
				limit = 200 * time.Millisecond
			}
			f := startFleet(t, fleet.Config{Target: s.addr, Conns: 2, TLS: c, Timeout: limit})
			f.Aim(2)
			until(t, ctx, f, s.reason, func(c fleet.Counts) bool { return c.Dialled == 2 && c.Open == 0 && c.Pending == 0 })
			got := f.Counts()
			if got.Failed[s.reason] != 2 {
				t.Errorf("failed: %v, lost: %v; want 2 of %s", got.Failed, got.Lost, s.reason)
			}
			consistent(t, f)
		})
	}
}

// TestTLSCut has conns end as a network does that goes away, of a server that takes nothing any more too.
func TestTLSCut(t *testing.T) {
	a := newAuthority(t)
	server := a.server("test.example", time.Now().Add(time.Hour))
	for _, full := range []bool{false, true} {
		let, ends := make(chan struct{}), make(chan error, 2)
		h := serve(t, func(_ int, c *net.TCPConn) {
			if _, err := upgrade(tls.Server(c, server)); err != nil {
				return
			}
			<-let
			_, err := io.Copy(io.Discard, c)
			ends <- err
		})
		ctx := timeout(t)
		f := startFleet(t, fleet.Config{Target: h.Addr, Conns: 2, TLS: &tls.Config{RootCAs: a.pool(), ServerName: "test.example"}})
		reach(t, ctx, f, 2, 2)
		err := f.Each(ctx, func(c fleet.Client) {
			for range 4 { // more than sockets hold
				if full {
					c.Say(ws.OpBinary, make([]byte, 1<<20))
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Cut(ctx); err != nil {
			t.Fatal(err)
		}
		if c := f.Counts(); c.Closed != 2 || c.Open != 0 {
			t.Errorf("%+v, want 2 closed", c)
		}
		close(let)
		for range 2 {
			select {
			case err := <-ends:
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the server had %v, want a reset", err)
				}
			case <-ctx.Done():
				t.Fatal("the server hears nothing of it")
			}
		}
	}
}
