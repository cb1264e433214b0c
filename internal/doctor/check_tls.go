package doctor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// tlsCheck asks of a handshake who could not make it, and who soon will not.
var tlsCheck = Check{
	Name: "TLS",
	Skip: func(e *Evidence) string {
		if e.Handshake == nil {
			return "no handshake was tried: longwire doctor tls HOST:443"
		}
		return ""
	},
	Ask: askTLS,
}

// expiresSoon is how long before its end a certificate should have been renewed: what renews them does so weeks before.
const expiresSoon = 14 * 24 * time.Hour

// The steps of a handshake, as the report names them.
const (
	stepHandshake = "handshake"
	stepVersions  = "versions"
	stepChain     = "chain"
	stepTrust     = "trust"
	stepValidity  = "validity"
	stepName      = "name"
	stepKey       = "key"
	stepSignature = "signature"
	stepProtocol  = "ALPN"
	stepStaple    = "OCSP staple"
	stepClient    = "client certificate"
)

func askTLS(e *Evidence) (list []Finding) {
	h := e.Handshake
	list = append(list, h.askHandshake()...)
	if h.Version != 0 {
		list = append(list, h.askVersions()...)
		list = append(list, h.askProtocols()...)
	}
	if len(h.Chain) > 0 {
		list = append(list, h.askChain()...)
		list = append(list, h.askTrust()...)
		list = append(list, h.askValidity()...)
		list = append(list, h.askName()...)
		list = append(list, h.askKeys()...)
		list = append(list, h.askStaple()...)
	}
	for i := range list {
		list[i].Confidence = 1
		list[i].rank = float64(len(list) - i)
	}
	return list
}

func (h *Handshake) askHandshake() []Finding {
	f := Finding{Severity: Critical, step: stepHandshake, Evidence: []string{"offered: TLS 1.2 and 1.3, every cipher suite that Go knows, the name " + h.Name}}
	switch {
	case h.WantsClient:
		f.Severity, f.step = Major, stepClient
		f.Sentence = fmt.Sprintf("%s lets nobody in without a certificate of the client", h.Target)
		f.Advice = "if everybody is meant to connect, do not require client certificates (ClientAuth, ssl_verify_client); if not, that is how it should be"
		if h.Failure != nil {
			f.Evidence = append(f.Evidence, h.Failure.Says)
		}
	case h.Failure == nil:
		return nil
	case h.Version != 0:
		f.step = stepVersions
		f.Sentence = fmt.Sprintf("%s speaks no version of TLS that is in use: only %s; browsers and current libraries refuse it", h.Target, tls.VersionName(h.Version))
		f.Evidence = append(f.Evidence, h.Failure.Says)
		f.Advice = "switch on TLS 1.2 and 1.3; a library without them needs an update (OpenSSL 1.0.1 has 1.2, 1.1.1 has 1.3)"
	default:
		f.Sentence = fmt.Sprintf("no handshake with %s: %s", h.Target, h.Failure.Says)
		switch h.Failure.Stage {
		case stageNotTLS:
			f.Advice = "give the port that speaks TLS, or have this one speak it"
		case stageTimeout, stageClosed:
			f.Advice = "look into the server's log; see that the port speaks TLS, that a balancer in front has a server behind it, and that the name is one that it serves (--name)"
		case stageAlert:
			f.Advice = "compare what the server allows (versions, cipher suites, names) with what was offered"
			if h.Failure.Alert == 112 || h.Failure.Alert == 80 {
				f.Advice = fmt.Sprintf("does it serve the name %s? --name asks for another; its log tells more", h.Name)
			}
		default:
			f.Advice = "mend the server: every client that follows the standard refuses this too"
		}
	}
	return []Finding{f}
}

func (h *Handshake) askVersions() (list []Finding) {
	accepted := map[uint16]bool{}
	var old []string
	for _, v := range h.Versions {
		accepted[v.Version] = v.Failure == nil
		if v.Failure == nil && v.Version < tls.VersionTLS12 {
			old = append(old, tls.VersionName(v.Version))
		}
	}
	if len(old) > 0 && h.Failure == nil {
		list = append(list, Finding{
			Severity: Minor, step: stepVersions,
			Sentence: fmt.Sprintf("%s is still accepted: RFC 8996 forbids it", strings.Join(old, " and ")),
			Evidence: []string{"a handshake that offered nothing else came about"},
			Advice:   "set the lowest version to TLS 1.2 (MinVersion, ssl_protocols); clients that need less are older than 2014",
		})
	}
	if len(h.Versions) == len(triedVersions) && !accepted[tls.VersionTLS13] && h.Failure == nil {
		f := Finding{
			Severity: Minor, step: stepVersions,
			Sentence: "TLS 1.3 is not accepted: each connection takes a round trip more, and clients that want nothing less do not get in",
			Advice:   "switch on TLS 1.3; with OpenSSL it takes 1.1.1 or later",
		}
		f.Evidence = []string{h.Versions[len(h.Versions)-1].Failure.Says}
		list = append(list, f)
	}
	return list
}

func (h *Handshake) askProtocols() (list []Finding) {
	for _, p := range h.Protocols {
		if p.Failure == nil || len(p.Offered) > 1 {
			continue
		}
		f := Finding{Severity: Major, step: stepProtocol, Evidence: []string{p.Failure.Says}}
		switch {
		case p.Offered == nil:
			f.Sentence = "clients that offer no protocol by ALPN are refused: many WebSocket clients and devices offer none"
			f.Advice = "have the server go on with HTTP/1.1 where nothing is offered"
		case h.Connect == "yes":
			f.Severity = Minor
			f.Sentence = "clients that speak HTTP/1.1 only are refused: WebSocket works over HTTP/2 alone here"
			f.Advice = "add http/1.1 to the server's protocols: most WebSocket clients speak nothing else"
		default:
			f.Sentence = "no WebSocket client gets in: HTTP/1.1 is refused, and HTTP/2 comes without extended CONNECT (RFC 8441)"
			f.Advice = "add http/1.1 to the server's protocols (NextProtos, alpn), or switch on extended CONNECT (SETTINGS_ENABLE_CONNECT_PROTOCOL)"
		}
		list = append(list, f)
	}
	return list
}

// issued says whether one certificate names the other as its issuer.
func issued(parent, child *x509.Certificate) bool {
	return bytes.Equal(child.RawIssuer, parent.RawSubject) &&
		(len(child.AuthorityKeyId) == 0 || len(parent.SubjectKeyId) == 0 || bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId))
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// path is the server's certificate and those that lead up from it, of those that it sent, by their place in the chain.
func (h *Handshake) path() []int {
	path := []int{0}
	for len(path) < len(h.Chain) {
		at := h.Chain[path[len(path)-1]]
		if selfSigned(at) {
			break
		}
		next := -1
		for i, c := range h.Chain {
			if !slices.Contains(path, i) && issued(c, at) {
				next = i
				break
			}
		}
		if next < 0 {
			break
		}
		path = append(path, next)
	}
	return path
}

func (h *Handshake) askChain() (list []Finding) {
	path := h.path()
	if !slices.IsSorted(path) {
		list = append(list, Finding{
			Severity: Major, step: stepChain,
			Sentence: fmt.Sprintf("the certificates come in the wrong order: %s; clients that follow TLS 1.2 by the letter refuse that", orderText(path)),
			Evidence: h.chainLines(),
			Advice:   "write the file as: the server's certificate, then the intermediate that signed it, and so on upward",
		})
	}
	var idle []string
	for i, c := range h.Chain {
		if !slices.Contains(path, i) {
			idle = append(idle, fmt.Sprintf("number %d (%s)", i+1, subjectText(c)))
		}
	}
	if len(idle) > 0 {
		list = append(list, Finding{
			Severity: Minor, step: stepChain,
			Sentence: "certificates are sent that have no part in the chain: " + strings.Join(idle, ", "),
			Evidence: h.chainLines(), Advice: "take them out of the file: every handshake carries them",
		})
	}
	return list
}

// orderText says in which order the chain would have to be, counted from 1.
func orderText(path []int) string {
	var t []string
	for _, i := range path {
		t = append(t, fmt.Sprint(i+1))
	}
	return "upward from the server's they are numbers " + strings.Join(t, ", ")
}

func (h *Handshake) chainLines() (lines []string) {
	for i, c := range h.Chain {
		lines = append(lines, fmt.Sprintf("%d: %s, signed by %s", i+1, subjectText(c), issuerText(c)))
	}
	return lines
}

func subjectText(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	if s := c.Subject.String(); s != "" {
		return s
	}
	return "without a name"
}

func issuerText(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	if s := c.Issuer.String(); s != "" {
		return s
	}
	return "somebody without a name"
}

func (h *Handshake) askTrust() []Finding {
	if h.Untrusted == nil {
		return nil
	}
	path := h.path()
	top := h.Chain[path[len(path)-1]]
	roots := "this machine trusts"
	if h.OwnRoots {
		roots = "the given file has"
	}
	f := Finding{Severity: Critical, step: stepTrust, Evidence: append(h.chainLines(), h.Untrusted.Error())}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(h.Untrusted, &unknown) && strings.Contains(h.Untrusted.Error(), "insecure algorithm"): // Go says it in words only
		f.Sentence = "no path leads from the certificate to a root by signatures that are still accepted"
		f.Advice = "have the certificates signed anew by way of SHA-256"
	case errors.As(h.Untrusted, &unknown) && selfSigned(h.Chain[0]):
		f.Sentence = "the certificate is signed by itself: nobody trusts it who was not given it"
		f.Advice = "get one from a CA that clients trust, or give the clients this one"
	case errors.As(h.Untrusted, &unknown) && selfSigned(top):
		f.Sentence = fmt.Sprintf("the chain ends at the root %s, which is none that %s", subjectText(top), roots)
		f.Advice = "clients have to be given that root (a private CA: --ca FILE here), or the server a certificate of a public one"
	case errors.As(h.Untrusted, &unknown) && len(path) == 1:
		f.step = stepChain
		f.Sentence = fmt.Sprintf("an intermediate certificate is missing: the server sends its own only, signed by %s, which is no root that %s", issuerText(top), roots)
		f.Advice = "send the chain: put the intermediate behind the server's certificate (fullchain.pem). Browsers may hide this, since they keep intermediates from elsewhere"
	case errors.As(h.Untrusted, &unknown):
		f.step = stepChain
		f.Sentence = fmt.Sprintf("the chain breaks off at %s: its issuer %s is neither sent nor a root that %s; an intermediate is missing, or that root is not known", subjectText(top), issuerText(top), roots)
		f.Advice = "put the missing intermediate into the server's file, or give clients the root (--ca FILE here)"
	case errors.As(h.Untrusted, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		f.Sentence = "the certificate is not one for servers: its extended key usage lacks server authentication"
		f.Advice = "get one with the usage serverAuth"
	case errors.As(h.Untrusted, &invalid) && invalid.Reason == x509.Expired:
		f.step = stepValidity
		f.Sentence = "a certificate above the server's own is out of its time, so that no path to a root is valid"
		f.Advice = "renew the intermediate, or send the newer one of the same CA"
	default:
		f.Sentence = "no path leads from the certificate to a root: " + h.Untrusted.Error()
		f.Advice = "renew the certificate with what its CA gives now"
	}
	return []Finding{f}
}

func (h *Handshake) askValidity() (list []Finding) {
	for n, i := range h.path() {
		c := h.Chain[i]
		what := "the certificate of " + h.Name
		if n > 0 {
			if selfSigned(c) {
				continue // a root's own dates do not count
			}
			what = "the intermediate " + subjectText(c)
		}
		f := Finding{Severity: Critical, step: stepValidity, Advice: "renew it now, and see why that did not happen by itself"}
		f.Evidence = []string{fmt.Sprintf("valid from %s to %s, seen at %s", dateText(c.NotBefore), dateText(c.NotAfter), dateText(h.At))}
		switch left := c.NotAfter.Sub(h.At); {
		case left < 0:
			f.Sentence = fmt.Sprintf("%s expired %s ago", what, days(-left))
		case c.NotBefore.After(h.At):
			f.Sentence = fmt.Sprintf("%s is not valid yet, for another %s", what, days(c.NotBefore.Sub(h.At)))
			f.Advice = "see whether the clock of this machine or of the one that signed it is wrong"
		case left < expiresSoon:
			f.Severity = Major
			f.Sentence = fmt.Sprintf("%s expires in %s", what, days(left))
			f.Advice = "renew it, and see why that did not happen by itself"
		default:
			continue
		}
		list = append(list, f)
	}
	return list
}

func dateText(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func (h *Handshake) askName() []Finding {
	leaf := h.Chain[0]
	err := leaf.VerifyHostname(h.Name)
	if err == nil {
		return nil
	}
	f := Finding{
		Severity: Critical, step: stepName,
		Sentence: fmt.Sprintf("the certificate is not for %s: it is for %s", h.Name, namesText(leaf)),
		Evidence: []string{err.Error()},
		Advice:   "get one that names the host, or see which server answers for that name (a default one, a balancer's)",
	}
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 && strings.EqualFold(leaf.Subject.CommonName, h.Name) {
		f.Sentence = fmt.Sprintf("the certificate has the name %s as its common name only: clients look at alternative names (SAN) alone", h.Name)
		f.Advice = "get one that has the name as an alternative name, as every CA makes them today"
	}
	return []Finding{f}
}

func namesText(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	if n := len(names) - 8; n > 0 {
		names = append(names[:8], fmt.Sprintf("%d more", n))
	}
	return strings.Join(names, ", ")
}

func keyText(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}

func (h *Handshake) askKeys() (list []Finding) {
	for _, i := range h.path() {
		c := h.Chain[i]
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
			list = append(list, Finding{
				Severity: Major, step: stepKey,
				Sentence: fmt.Sprintf("the key of %s has %d bits: OpenSSL 3 of Debian and Ubuntu, browsers and public CAs want 2048 or more", subjectText(c), k.N.BitLen()),
				Evidence: []string{keyText(c)}, Advice: "make a new key, ECDSA P-256 or RSA 2048, and a certificate for it",
			})
		}
		switch c.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if selfSigned(c) && i > 0 {
				continue // nobody checks a root's own signature
			}
			list = append(list, Finding{
				Severity: Major, step: stepSignature,
				Sentence: fmt.Sprintf("%s is signed by way of %s, which OpenSSL 3, Go and browsers refuse", subjectText(c), c.SignatureAlgorithm),
				Evidence: []string{"OpenSSL 1.1.1 takes it at its lower security level, so that it may work for some"}, Advice: "have it signed anew by way of SHA-256",
			})
		}
	}
	return list
}

func (h *Handshake) askStaple() []Finding {
	leaf := h.Chain[0]
	if len(h.Staple) == 0 {
		if !mustStaple(leaf) {
			return nil
		}
		return []Finding{{
			Severity: Critical, step: stepStaple, Sentence: "the certificate demands a stapled OCSP response (must-staple), and the server sends none: Firefox refuses it",
			Evidence: []string{"extension 1.3.6.1.5.5.7.1.24 with status_request"}, Advice: "switch on OCSP stapling, or get a certificate without that demand",
		}}
	}
	f := Finding{Severity: Major, step: stepStaple, Advice: "see whether the server can reach its CA's OCSP responder; without a staple it is better off than with this one"}
	s, err := ParseStaple(h.Staple)
	switch {
	case err != nil:
		f.Sentence = "the OCSP response that the server staples cannot be read"
		f.Evidence = []string{err.Error()}
		return []Finding{f}
	case s.Status == "revoked":
		f.Severity = Critical
		f.Sentence = "the certificate is revoked: the server's own OCSP staple says so"
		f.Advice = "get a new certificate with a new key"
		f.Evidence = []string{"revoked at " + dateText(s.RevokedAt)}
		return []Finding{f}
	case s.Serial != nil && s.Serial.Cmp(leaf.SerialNumber) != 0:
		f.Sentence = "the OCSP response that the server staples is about another certificate"
		f.Evidence = []string{fmt.Sprintf("serial number %v, the certificate's is %v", s.Serial, leaf.SerialNumber)}
		return []Finding{f}
	case !s.NextUpdate.IsZero() && h.At.After(s.NextUpdate):
		f.Sentence = fmt.Sprintf("the OCSP response that the server staples is out of date since %s: clients refuse it", days(h.At.Sub(s.NextUpdate)))
		f.Evidence = []string{fmt.Sprintf("made %s, good until %s", dateText(s.ThisUpdate), dateText(s.NextUpdate))}
		return []Finding{f}
	}
	return nil
}

// steps are the handshake step by step.
func (h *Handshake) steps() (list []Step) {
	add := func(name, format string, args ...any) {
		list = append(list, Step{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	add("connect", "%s", h.Address)
	switch {
	case h.Version != 0:
		text := tls.VersionName(h.Version) + ", " + tls.CipherSuiteName(h.Cipher)
		if h.Curve != 0 {
			text += ", key exchange " + h.Curve.String()
		}
		if h.Failure != nil {
			text += "; offered TLS 1.2 and 1.3: " + h.Failure.Says
		}
		add(stepHandshake, "%s", text)
	case h.Failure != nil:
		add(stepHandshake, "%s", h.Failure.Says)
	}
	for _, v := range h.Versions {
		if v.Failure == nil {
			add(stepVersions, "%s accepted", tls.VersionName(v.Version))
		} else {
			add(stepVersions, "%s refused: %s", tls.VersionName(v.Version), v.Failure.Says)
		}
	}
	for _, line := range h.chainLines() {
		add(stepChain, "%s", line)
	}
	if len(h.Chain) > 0 {
		leaf := h.Chain[0]
		if h.Untrusted == nil {
			add(stepTrust, "a path to a root that is trusted")
		} else {
			add(stepTrust, "%v", h.Untrusted)
		}
		add(stepValidity, "from %s to %s", dateText(leaf.NotBefore), dateText(leaf.NotAfter))
		add(stepName, "%s, asked for %s", namesText(leaf), h.Name)
		add(stepKey, "%s", keyText(leaf))
		add(stepSignature, "%s", leaf.SignatureAlgorithm)
	}
	for _, p := range h.Protocols {
		offered, chosen := strings.Join(p.Offered, " and "), p.Chosen
		if offered == "" {
			offered = "nothing"
		}
		if chosen == "" {
			chosen = "none"
		}
		if p.Failure != nil {
			chosen = "refused: " + p.Failure.Says
		}
		add(stepProtocol, "offered %s: %s", offered, chosen)
	}
	if h.Connect != "" {
		add("WebSocket over HTTP/2", "SETTINGS_ENABLE_CONNECT_PROTOCOL: %s", h.Connect)
	}
	if h.Version != 0 {
		switch s, err := ParseStaple(h.Staple); {
		case len(h.Staple) == 0:
			add(stepStaple, "none")
		case err != nil:
			add(stepStaple, "%v", err)
		default:
			add(stepStaple, "%s, made %s", s.Status, dateText(s.ThisUpdate))
		}
	}
	switch {
	case h.WantsClient:
		add(stepClient, "demanded")
	case h.AsksClient:
		add(stepClient, "asked for, not demanded")
	case h.Version != 0:
		add(stepClient, "not asked for")
	}
	return list
}
