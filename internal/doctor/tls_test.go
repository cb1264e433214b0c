package doctor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// authority is a CA that was made up, or a certificate below one.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials atomic.Int64

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate for localhost, signed by a; nil signs it by itself.
func (a *authority) issue(t *testing.T, name string, key crypto.Signer, change func(*x509.Certificate)) *authority {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func asCA(c *x509.Certificate) {
	c.NotBefore = c.NotBefore.AddDate(-1, 0, 0)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.DNSNames, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil, nil
}

// with is what a server sends: its own certificate and others.
func (a *authority) with(others ...*authority) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
	for _, o := range others {
		c.Certificate = append(c.Certificate, o.cert.Raw)
	}
	return c
}

// serveConns accepts connections on loopback until the test ends.
func serveConns(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// serveTLS shakes hands, says its HTTP/2 settings where that was chosen, and waits for the end.
func serveTLS(t *testing.T, c *tls.Config, connect bool) string {
	return serveConns(t, func(conn net.Conn) {
		s := tls.Server(conn, c)
		if s.Handshake() != nil {
			return
		}
		if s.ConnectionState().NegotiatedProtocol == "h2" {
			settings := "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
			if connect {
				settings = "\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00\x08\x00\x00\x00\x01"
			}
			_, _ = io.WriteString(s, settings)
		}
		_, _ = io.Copy(io.Discard, s)
	})
}

// ocspStaple makes an OCSP response by hand: tag is 0 good, 1 revoked, 2 unknown.
func ocspStaple(t *testing.T, serial *big.Int, tag int, from, to time.Time) []byte {
	t.Helper()
	marshal := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sha1 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}
	one := ocspSingle{Status: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag}, ThisUpdate: from.UTC().Truncate(time.Second), NextUpdate: to.UTC().Truncate(time.Second)}
	if tag == 1 {
		at, err := asn1.MarshalWithParams(from.UTC().Truncate(time.Second), "generalized")
		if err != nil {
			t.Fatal(err)
		}
		one.Status.IsCompound, one.Status.Bytes = true, at
	}
	one.ID.Hash, one.ID.Name, one.ID.Key, one.ID.Serial = sha1, make([]byte, 20), make([]byte, 20), serial
	basic := ocspBasic{Algorithm: sha1, Signature: asn1.BitString{Bytes: []byte{0}, BitLength: 8}}
	basic.Data = ocspData{Responder: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: marshal(make([]byte, 20))}, Produced: from.UTC().Truncate(time.Second), Responses: []ocspSingle{one}}
	var r ocspResponse
	r.Bytes.Type, r.Bytes.Response = oidBasicResponse, marshal(basic)
	return marshal(r)
}

// TestTLS has a server for each way in which a handshake is well or not, and wants what is said of it.
func TestTLS(t *testing.T) {
	root := (*authority)(nil).issue(t, "Made-up Root", nil, asCA)
	upper := root.issue(t, "Upper Intermediate", nil, asCA)
	lower := upper.issue(t, "Lower Intermediate", nil, asCA)
	inter := root.issue(t, "Intermediate", nil, asCA)
	other := (*authority)(nil).issue(t, "Another Root", nil, asCA)
	leaf := inter.issue(t, "server", nil, nil)
	rsa1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaRoot := (*authority)(nil).issue(t, "RSA Root", rsa2048, asCA)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	roots.AddCert(rsaRoot.cert)
	now := time.Now()

	good := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{Certificates: []tls.Certificate{leaf.with(inter)}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
		if change != nil {
			change(c)
		}
		return c
	}
	// The server with another certificate.
	having := func(cert tls.Certificate) *tls.Config {
		return good(func(c *tls.Config) { c.Certificates = []tls.Certificate{cert} })
	}
	stapled := func(b []byte) *tls.Config {
		cert := leaf.with(inter)
		cert.OCSPStaple = b
		return having(cert)
	}
	changed := func(change func(*x509.Certificate)) *tls.Config {
		return having(inter.issue(t, "server", nil, change).with(inter))
	}
	// Go's server has HTTP/1.1 pass where it speaks HTTP/2 alone.
	onlyHTTP2 := func(c *tls.Config) {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if len(h.SupportedProtos) == 1 {
				return &tls.Config{Certificates: c.Certificates, NextProtos: []string{"other"}}, nil
			}
			return nil, nil
		}
	}
	hello := func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }

	for _, c := range []struct {
		name    string
		config  *tls.Config
		connect bool
		raw     func(net.Conn)
		ask     string   // another name
		want    []string // severity, step and a part of the sentence of each finding, in order
		step    string   // a part of the steps
	}{
		{name: "fine", config: good(nil), connect: true, step: "SETTINGS_ENABLE_CONNECT_PROTOCOL: yes"},
		{name: "no CONNECT over HTTP/2", config: good(nil), step: "SETTINGS_ENABLE_CONNECT_PROTOCOL: no"},
		{name: "no ALPN at all", config: good(func(c *tls.Config) { c.NextProtos = nil }), step: "offered h2 and http/1.1: none"},
		{name: "the root is sent too", config: having(leaf.with(inter, root)), step: "3: Made-up Root, signed by Made-up Root"},

		{name: "wrong order", config: having(lower.issue(t, "server", nil, nil).with(upper, lower)), want: []string{"major chain wrong order: upward from the server's they are numbers 1, 3, 2"}},
		{name: "missing intermediate", config: having(leaf.with()), want: []string{"critical chain an intermediate certificate is missing"}, step: "unknown authority"},
		{name: "missing upper intermediate", config: having(lower.issue(t, "server", nil, nil).with(lower)), want: []string{"critical chain breaks off at Lower Intermediate: its issuer Upper Intermediate"}},
		{name: "one that has no part in it", config: having(leaf.with(inter, other)), want: []string{"minor chain no part in the chain: number 3 (Another Root)"}},
		{name: "self-signed", config: having((*authority)(nil).issue(t, "server", nil, nil).with()), want: []string{"critical trust signed by itself"}},
		{name: "a private CA", config: having(other.issue(t, "server", nil, nil).with(other)), want: []string{"critical trust ends at the root Another Root, which is none that the given file has"}},
		{name: "not for servers", config: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), want: []string{"critical trust lacks server authentication"}},

		{name: "expired", config: changed(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.Add(-100*24*time.Hour), now.Add(-10*24*time.Hour-time.Minute)
		}), want: []string{"critical validity expired 10 days ago"}},
		{name: "expires soon", config: changed(func(c *x509.Certificate) { c.NotAfter = now.Add(73 * time.Hour) }), want: []string{"major validity expires in 3 days"}},
		{name: "not yet valid", config: changed(func(c *x509.Certificate) { c.NotBefore = now.Add(30*time.Hour + time.Minute) }), want: []string{"critical validity not valid yet, for another 30 hours"}},
		{name: "wrong name", config: good(nil), ask: "example.org", want: []string{"critical name not for example.org: it is for localhost"}},
		{name: "common name only", config: changed(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "localhost" }), want: []string{"critical name as its common name only"}},
		{name: "small key", config: having(root.issue(t, "server", rsa1024, nil).with()), want: []string{"major key has 1024 bits"}, step: "RSA 1024 bits"},
		{name: "signed by SHA-1", config: having(rsaRoot.issue(t, "server", nil, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }).with()),
			want: []string{"critical trust ", "major signature is signed by way of SHA1-RSA"}},

		{name: "TLS 1.0 and 1.1 only", config: good(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
			want: []string{"critical versions speaks no version of TLS that is in use: only TLS 1.0"}, step: "TLS 1.1 accepted"},
		{name: "TLS 1.0 too", config: good(func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }), want: []string{"minor versions TLS 1.0 and TLS 1.1 is still accepted"}},
		{name: "no TLS 1.3", config: good(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), want: []string{"minor versions TLS 1.3 is not accepted"}, step: "TLS 1.3 refused: the server answers with the alert protocol_version"},
		{name: "TLS 1.3 only", config: good(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }), step: "TLS 1.2 refused: the server answers with the alert protocol_version"},

		{name: "HTTP/2 only", config: good(onlyHTTP2), want: []string{"major ALPN no WebSocket client gets in"}, step: "no_application_protocol"},
		{name: "HTTP/2 only, with CONNECT", config: good(onlyHTTP2), connect: true, want: []string{"minor ALPN HTTP/1.1 only are refused"}},
		{name: "refuses who offers nothing", config: good(func(c *tls.Config) {
			c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				if len(h.SupportedProtos) == 0 {
					return nil, errors.New("no protocol")
				}
				return nil, nil
			}
		}), want: []string{"major ALPN offer no protocol by ALPN are refused"}},

		{name: "staple", config: stapled(ocspStaple(t, leaf.cert.SerialNumber, 0, now.Add(-time.Hour), now.Add(time.Hour))), step: "good, made"},
		{name: "revoked", config: stapled(ocspStaple(t, leaf.cert.SerialNumber, 1, now.Add(-time.Hour), now.Add(time.Hour))), want: []string{"critical OCSP staple revoked"}},
		{name: "stale staple", config: stapled(ocspStaple(t, leaf.cert.SerialNumber, 0, now.Add(-99*time.Hour), now.Add(-72*time.Hour))), want: []string{"major OCSP staple out of date since 3 days"}},
		{name: "another's staple", config: stapled(ocspStaple(t, big.NewInt(1<<40), 0, now.Add(-time.Hour), now.Add(time.Hour))), want: []string{"major OCSP staple is about another certificate"}},
		{name: "no staple at all", config: stapled([]byte("nonsense")), want: []string{"major OCSP staple cannot be read"}},
		{name: "must staple", config: changed(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		}), want: []string{"critical OCSP staple must-staple"}},

		{name: "wants a client certificate", config: good(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), want: []string{"major client certificate without a certificate of the client"}, step: "demanded"},
		{name: "wants one with TLS 1.2", config: good(func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }), want: []string{"major client certificate without a certificate of the client"}, step: "1: server, signed by Intermediate"},
		{name: "asks for one", config: good(func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }), step: "asked for, not demanded"},

		{name: "plain HTTP", raw: func(c net.Conn) { hello(c); _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, want: []string{"critical handshake no TLS at all but plain HTTP"}},
		{name: "SSH", raw: func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); hello(c) }, want: []string{"critical handshake no TLS at all but SSH"}},
		{name: "SMTP", raw: func(c net.Conn) { _, _ = io.WriteString(c, "220 mail ESMTP\r\n"); hello(c) }, want: []string{"critical handshake STARTTLS"}},
		{name: "another protocol", raw: func(c net.Conn) { hello(c); _, _ = c.Write([]byte("\x00\x01\x02\x03\x04\x05\x06\x07")) }, want: []string{`critical handshake it begins with "\x00\x01\x02\x03\x04"`}},
		{name: "closes", raw: hello, want: []string{"critical handshake closes the connection without a word"}},
		{name: "silent", raw: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, want: []string{"critical handshake does not answer the first message in time"}},
		{name: "unrecognized name", raw: func(c net.Conn) { hello(c); _, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x70") }, want: []string{"critical handshake alert unrecognized_name: it does not serve this name"}},
		{name: "an alert of its own", raw: func(c net.Conn) { hello(c); _, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\xc8") }, want: []string{"critical handshake alert number 200"}},
		{name: "fails by itself", config: good(func(c *tls.Config) {
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("out of order") }
		}), want: []string{"critical handshake alert internal_error"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := TLSProbe{Name: "localhost", Roots: roots, Now: now, Timeout: 10 * time.Second}
			if c.ask != "" {
				p.Name = c.ask
			}
			if c.raw != nil {
				p.Target = serveConns(t, c.raw)
				if c.name == "silent" {
					p.Timeout = 200 * time.Millisecond
				}
			} else {
				p.Target = serveTLS(t, c.config, c.connect)
			}
			e, err := p.Probe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r := Examine(e)
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			for i, f := range r.Findings {
				if f.Advice == "" || len(f.Evidence) == 0 {
					t.Errorf("%s: without advice or evidence", f.Sentence)
				}
				if i < len(c.want) {
					rest, ok := strings.CutPrefix(c.want[i], f.Severity.String()+" "+f.step+" ")
					if !ok || !strings.Contains(f.Sentence, rest) {
						t.Errorf("finding %d: %s %s %s; want %s", i, f.Severity, f.step, f.Sentence, c.want[i])
					}
				}
			}
			if len(r.Findings) != len(c.want) {
				t.Errorf("%d findings, want %d", len(r.Findings), len(c.want))
			}
			if !strings.Contains(text.String(), c.step) {
				t.Errorf("want a step with %q", c.step)
			}
			if t.Failed() {
				t.Log(text.String())
			}
		})
	}
}

// TestTLSTarget has what is no server.
func TestTLSTarget(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := ln.Addr().String()
	_ = ln.Close()
	for target, want := range map[string]string{
		gone: "nobody listens", "": "want host:port", "a/b": "want host:port", "ftp://x": "want host:port", "host:1:2": "want host:port",
	} {
		_, err := TLSProbe{Target: target, Timeout: 5 * time.Second}.Probe(t.Context())
		var de *Error
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &de) || de.Hint == "" {
			t.Errorf("%q: %v, want %s", target, err, want)
		}
	}
	for target, want := range map[string]string{"example.org": "example.org 443", "[::1]:8443": "::1 8443", "https://example.org/x": "example.org 443", "wss://example.org:8443/ws": "example.org 8443", "10.0.0.1": "10.0.0.1 443"} {
		if host, port, err := splitTarget(target); err != nil || host+" "+port != want {
			t.Errorf("%q: %s %s %v, want %s", target, host, port, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (TLSProbe{Target: gone}).Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// FuzzStaple and FuzzSettings read what a server may send.
func FuzzStaple(f *testing.F) {
	seeds(f, "staples")
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStaple(b); err == nil && !slices.Contains([]string{"good", "revoked", "unknown"}, s.Status) {
			t.Errorf("status %q", s.Status)
		}
	})
}

func FuzzSettings(f *testing.F) {
	seeds(f, "settings")
	f.Fuzz(func(t *testing.T, b []byte) {
		settings, err := readSettings(strings.NewReader(string(b)))
		if err == nil && len(settings) > 16384/6 {
			t.Errorf("%d settings", len(settings))
		}
	})
}
