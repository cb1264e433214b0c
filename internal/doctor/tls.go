package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// TLSProbe looks at how a server shakes hands. It connects to the host that it is given and to nobody else: what a certificate
// names, such as where its issuer can be fetched, is not followed.
type TLSProbe struct {
	// Target is host:port; without a port it is 443.
	Target string
	// Name is asked for (SNI) and expected in the certificate; "" means the target's host.
	Name string
	// Roots are trusted; nil means those of this machine.
	Roots *x509.CertPool
	// Timeout bounds each connection; 0 means 5 seconds.
	Timeout time.Duration
	// Now is the time by which certificates are judged; the zero time means now.
	Now time.Time
	// Say is told what is going on; nil tells nobody.
	Say func(string)
}

// Handshake is what came of trying to shake hands with a server, in several ways.
type Handshake struct {
	Target  string // host:port
	Name    string // that was asked for
	Address string // that was connected to
	At      time.Time
	// Failure is why the usual handshake (TLS 1.2 or 1.3) failed, nil when it did not. What follows is then of the first version that
	// worked by itself, or empty.
	Failure *HandshakeFailure
	Version uint16 // 0: none worked
	Cipher  uint16
	Curve   tls.CurveID         // 0 where the version has none
	Chain   []*x509.Certificate // as the server sent it; a handshake that fails may have shown it
	// Untrusted is why no path leads from the certificate to a root that is trusted, judged at a time at which it is valid; nil when one does.
	Untrusted error
	OwnRoots  bool // the roots were given, and are not this machine's
	Versions  []VersionTry
	Protocols []ProtocolTry
	Connect   string // extended CONNECT over HTTP/2: "yes", "no", "" where HTTP/2 was not chosen, otherwise why it is not known
	Staple    []byte // the OCSP response that came along
	// AsksClient says that the server wants a certificate of the client, WantsClient that it ends the connection without one.
	AsksClient, WantsClient bool
}

// VersionTry is a handshake in which only one version of TLS was offered.
type VersionTry struct {
	Version uint16
	Failure *HandshakeFailure // nil: accepted
}

// ProtocolTry is a handshake with protocols offered by ALPN.
type ProtocolTry struct {
	Offered []string
	Chosen  string // "" is none
	Failure *HandshakeFailure
}

var triedVersions = []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}

// Probe shakes hands. The error is why there was nobody to shake hands with; what goes wrong in a handshake is evidence.
func (p TLSProbe) Probe(ctx context.Context) (*Evidence, error) {
	if p.Timeout <= 0 {
		p.Timeout = 5 * time.Second
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	host, port, err := splitTarget(p.Target)
	if err != nil {
		return nil, err
	}
	if p.Name == "" {
		p.Name = host
	}
	p.Target = net.JoinHostPort(host, port)
	begin := time.Now()
	h := &Handshake{Target: p.Target, Name: p.Name, At: p.Now, OwnRoots: p.Roots != nil}
	e := &Evidence{Target: p.Target, Handshake: h, Cost: "nothing but a few connections, each ended after its handshake"}
	if p.Say != nil {
		p.Say(fmt.Sprintf("shaking hands with %s up to 8 times", p.Target))
	}

	conn, err := p.dial(ctx)
	if err != nil {
		return nil, dialError(p.Target, err)
	}
	h.Address = conn.RemoteAddr().String()
	state := p.shake(ctx, conn, h, &h.Failure, 0, "h2", "http/1.1")
	if state.Version != 0 {
		h.take(state)
	}
	if h.Failure == nil || h.Failure.Stage == stageAlert || h.Failure.Stage == stageRefused {
		p.versions(ctx, h)
	}
	if h.Version != 0 && !h.WantsClient {
		p.protocols(ctx, h)
	}
	if h.Chain != nil {
		h.Untrusted = p.trust(h)
	}
	e.Took = time.Since(begin)
	return e, ctx.Err()
}

func splitTarget(target string) (host, port string, err error) {
	if rest, ok := strings.CutPrefix(target, "https://"); ok {
		target, _, _ = strings.Cut(rest, "/")
	} else if rest, ok := strings.CutPrefix(target, "wss://"); ok {
		target, _, _ = strings.Cut(rest, "/")
	}
	host, port, err = net.SplitHostPort(target)
	if bare := strings.Trim(target, "[]"); err != nil && (!strings.Contains(bare, ":") || net.ParseIP(bare) != nil) {
		host, port, err = bare, "443", nil
	}
	if err != nil || host == "" || port == "" || strings.ContainsAny(host+port, "/ ") {
		return "", "", &Error{fmt.Errorf("target %q: want host:port", target), "such as example.org:443 or [::1]:8443"}
	}
	return host, port, nil
}

func (p *TLSProbe) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: p.Timeout}
	conn, err := d.DialContext(ctx, "tcp", p.Target)
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(p.Timeout))
	}
	return conn, err
}

// shake shakes hands over a connection, offering one version (0: 1.2 and 1.3) and some protocols, and closes it. Without a failure it
// returns the state.
func (p *TLSProbe) shake(ctx context.Context, conn net.Conn, h *Handshake, failure **HandshakeFailure, version uint16, protocols ...string) (state tls.ConnectionState) {
	defer func() { _ = conn.Close() }()
	asked := false
	var chain []*x509.Certificate
	c := &tls.Config{
		ServerName: p.Name, NextProtos: protocols, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // it is judged afterwards, and nothing is sent
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		},
		// A handshake that fails later has shown the certificates all the same.
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			for _, b := range raw {
				if c, err := x509.ParseCertificate(b); err == nil {
					chain = append(chain, c)
				}
			}
			return nil
		},
	}
	if version != 0 {
		c.MinVersion, c.MaxVersion = version, version
	}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		c.CipherSuites = append(c.CipherSuites, s.ID)
	}
	t := tls.Client(conn, c)
	err := t.HandshakeContext(ctx)
	h.AsksClient = h.AsksClient || asked
	if h.Chain == nil {
		h.Chain = chain
	}
	if err == nil {
		state = t.ConnectionState()
		if asked && state.Version == tls.VersionTLS13 {
			// Whether it goes without one is said after the client's last word.
			_ = conn.SetReadDeadline(time.Now().Add(min(p.Timeout, time.Second)))
			if _, err = t.Read(make([]byte, 1)); alertOf(err) == 0 {
				err = nil
			}
		}
		if err == nil && version == 0 && state.NegotiatedProtocol == "h2" {
			h.Connect = extendedConnect(t)
		}
	}
	if err != nil {
		f := failureOf(err)
		f.AskedClient = asked
		h.WantsClient = h.WantsClient || asked && f.Stage == stageAlert
		*failure = f
	}
	return state
}

// take takes what a handshake that worked tells.
func (h *Handshake) take(s tls.ConnectionState) {
	h.Version, h.Cipher, h.Curve, h.Staple = s.Version, s.CipherSuite, s.CurveID, s.OCSPResponse
	h.Protocols = append(h.Protocols, ProtocolTry{Offered: []string{"h2", "http/1.1"}, Chosen: s.NegotiatedProtocol})
}

// versions offers each version by itself.
func (p *TLSProbe) versions(ctx context.Context, h *Handshake) {
	for _, v := range triedVersions {
		try := VersionTry{Version: v}
		conn, err := p.dial(ctx)
		if err != nil {
			try.Failure = failureOf(err)
		} else if s := p.shake(ctx, conn, h, &try.Failure, v, "h2", "http/1.1"); try.Failure == nil && h.Version == 0 {
			h.take(s)
		}
		h.Versions = append(h.Versions, try)
	}
}

// protocols offers what WebSocket clients do: HTTP/1.1 alone, and nothing.
func (p *TLSProbe) protocols(ctx context.Context, h *Handshake) {
	for _, offered := range [][]string{{"http/1.1"}, nil} {
		try := ProtocolTry{Offered: offered}
		conn, err := p.dial(ctx)
		if err != nil {
			try.Failure = failureOf(err)
		} else {
			s := p.shake(ctx, conn, h, &try.Failure, h.only(), offered...)
			try.Chosen = s.NegotiatedProtocol
		}
		h.Protocols = append(h.Protocols, try)
	}
}

// only is the version to offer where the usual ones do not work.
func (h *Handshake) only() uint16 {
	if h.Failure != nil {
		return h.Version
	}
	return 0
}

// trust looks for a path to a trusted root. Expiry is another question: a time is taken at which the certificate is valid.
func (p *TLSProbe) trust(h *Handshake) error {
	leaf := h.Chain[0]
	o := x509.VerifyOptions{Roots: p.Roots, Intermediates: x509.NewCertPool(), CurrentTime: h.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	switch {
	case h.At.After(leaf.NotAfter):
		o.CurrentTime = leaf.NotAfter.Add(-time.Second)
	case h.At.Before(leaf.NotBefore):
		o.CurrentTime = leaf.NotBefore.Add(time.Second)
	}
	for _, c := range h.Chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(o)
	return err
}

// dialError says why there was nobody to shake hands with.
func dialError(target string, err error) error {
	f := failureOf(err)
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &dns):
		return &Error{fmt.Errorf("the name of %s is not known: %w", target, err), "give a name or an address that resolves from here"}
	case f.Stage == stageNobody:
		return &Error{fmt.Errorf("nobody listens on %s", target), "is the server running, and is this its port?"}
	case f.Stage == stageTimeout:
		return &Error{fmt.Errorf("%s does not answer: no connection in time", target), "a firewall may drop packets, or the host is down: try from another network"}
	}
	return &Error{fmt.Errorf("connect to %s: %w", target, err), "is it the address of a server, and is there a way to it?"}
}
