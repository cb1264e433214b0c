package stress

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/wstest"
)

// authority signs the certificates of servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &authority{cert: c, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// listen is a listener for TLS with a certificate for an address that ends at some time.
func (a *authority) listen(t testing.TB, address net.IP, end time.Time) net.Listener {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end, IPAddresses: []net.IP{address}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
}

// echo sends messages back.
func echo(c net.Conn) {
	if _, r, err := wstest.Upgrade(c); err == nil {
		messages(c, r, func(payload []byte) { say(c, payload) })
	}
}

// answer says something to the head of a request, and goes on so or closes.
func answer(text string, stay bool) func(net.Conn) {
	return func(c net.Conn) {
		for r := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, text); err != nil || !stay {
				return
			}
		}
	}
}

// hushed is a server that never says a word.
func hushed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// TestErrorKinds has each way in which a server can fail told apart, and every run end in time.
func TestErrorKinds(t *testing.T) {
	a := newAuthority(t)
	later, loopback := time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1)
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = down.Close()
	reset := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }
	const busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
	const forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
	ws := func(f func(net.Conn)) string { return "ws://" + serve(t, nil, f) + "/" }
	web := func(f func(net.Conn)) string { return "http://" + serve(t, nil, f) + "/" }
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range []struct {
		name, target string
		kinds        []string // exactly these
		silent       bool     // the timeout tells
	}{
		{"down", "ws://" + down.Addr().String() + "/", []string{"connect_refused"}, false},
		{"plain behind wss", "wss://" + serve(t, nil, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			hushed(c)
		}) + "/", []string{"connect_tls_no_tls"}, false},
		{"closes in the TLS handshake", "wss://" + serve(t, nil, func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); hushed(c) }) + "/", []string{"connect_tls_closed"}, false},
		{"never answers TLS", "wss://" + serve(t, nil, hushed) + "/", []string{"connect_tls_timeout"}, false},
		{"unknown authority", "wss://" + serve(t, newAuthority(t).listen(t, loopback, later), echo) + "/", []string{"connect_tls_unknown_authority"}, false},
		{"wrong name", "wss://" + serve(t, a.listen(t, net.IPv4(127, 0, 0, 9), later), echo) + "/", []string{"connect_tls_wrong_name"}, false},
		{"expired", "wss://" + serve(t, a.listen(t, loopback, time.Now().Add(-time.Hour)), echo) + "/", []string{"connect_tls_certificate_expired"}, false},
		{"403", ws(answer(forbidden, true)), []string{"connect_http_403"}, false},
		{"503", ws(answer(busy, true)), []string{"connect_http_503"}, false},
		{"200", ws(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true)), []string{"connect_http_200"}, false},
		{"wrong key", ws(answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", true)), []string{"connect_bad_handshake"}, false},
		{"closes at once", ws(answer("", false)), []string{"connect_fin"}, false},
		{"resets at once", ws(reset), []string{"connect_reset"}, false},
		{"never answers", ws(hushed), []string{"connect_handshake_timeout"}, false},
		{"garbage", ws(answer("\x00\xff\x17garbage\r\n\r\n", true)), []string{"connect_bad_response"}, false},
		{"half a head", ws(answer("HTTP/1.1 101 Switching Pro", true)), []string{"connect_half_response"}, true},
		{"half a head and closes", ws(answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso", false)), []string{"connect_half_response"}, false},
		{"breaks the protocol", ws(func(c net.Conn) {
			if _, _, err := wstest.Upgrade(c); err == nil {
				_, _ = c.Write([]byte{0xff, 0xff, 0xff})
				_, _ = io.Copy(io.Discard, c)
			}
		}), []string{"lost_protocol_error"}, false},
		{"turns away", ws(func(c net.Conn) {
			if _, _, err := wstest.Upgrade(c); err == nil {
				_, _ = c.Write([]byte{0x88, 2, 1013 >> 8, 1013 & 0xff})
				_, _ = io.Copy(io.Discard, c)
			}
		}), []string{"lost_close_1013"}, false},

		{"http: down", "http://" + down.Addr().String() + "/", []string{"connect_refused"}, false},
		{"http: 403", web(answer(forbidden, true)), []string{"exchange_http_403"}, false},
		{"http: 503", web(answer(busy, true)), []string{"exchange_http_503"}, false},
		{"http: closes at once", web(answer("", false)), []string{"exchange_lost"}, false},
		{"http: never answers", web(hushed), []string{"exchange_timeout"}, false},
		{"http: garbage", web(answer("\x00\xff\x17garbage\r\n\r\n", true)), []string{"exchange_lost", "lost_bad_response"}, false},
		{"http: half a head", web(answer("HTTP/1.1 200 O", true)), []string{"exchange_timeout"}, false},
		{"http: half a head and closes", web(answer("HTTP/1.1 200 OK\r\nContent-Le", false)), []string{"exchange_lost", "lost_fin"}, false},
	} {
		wg.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				kind := "hold"
				if strings.HasPrefix(c.target, "http") {
					kind = "{kind: http, think: 20ms}"
				}
				s := decode(t, c.target, "timeout: 20s\nscenarios: ["+kind+"]\nstages: [{kind: ramp, to: 3, for: 0s}, {kind: soak, for: 400ms}]")
				if strings.Contains(c.kinds[0], "timeout") || c.silent {
					s.Timeout = 300 * time.Millisecond
				}
				r := carryOut(t, s, Options{Authorities: a.pool()})
				if got := slices.Sorted(maps.Keys(r.Errors)); !slices.Equal(got, c.kinds) {
					t.Errorf("errors %v, want %v", r.Errors, c.kinds)
				}
				if kind == "hold" && r.Conns.Failed+r.Conns.Lost != 3 {
					t.Errorf("%+v, want 3 that failed or were lost", r.Conns)
				}
				last := r.Samples[len(r.Samples)-1].At
				if r.Elapsed < 0.4 || last-r.Elapsed > 5 {
					t.Errorf("it took %g s, and its last look was at %g s", r.Elapsed, last)
				}
			})
		})
	}
}

// TestInterrupt has a run end early, with a report of what was measured until then.
func TestInterrupt(t *testing.T) {
	host := gateway(t, nil)
	for name, plan := range map[string]string{
		"soak": "scenarios: [{kind: echo, think: 5ms}]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak}]",
		"find": "scenarios: [{kind: echo, think: 5ms}]\nfind: {of: conns, from: 5, step: 5, to: 50, for: 1h}\nthresholds: errors<1%",
		"ramp": "scenarios: [{kind: echo, think: 5ms}]\nstages: [{kind: ramp, to: 50, for: 30s}]",
	} {
		t.Run(name, func(t *testing.T) {
			r := carryOutUntil(t, decode(t, "ws://"+host+"/echo", plan), Options{Every: 20 * time.Millisecond}, func(s Sample) bool { return s.Done > 10 })
			o := r.Scenarios[0]
			if o.Done <= 10 || o.Latency == nil || o.Conns.Survived < 1 || len(r.Errors) > 0 {
				t.Errorf("%+v, errors %v", o, r.Errors)
			}
			if name == "find" {
				if r.Breaking == nil || !r.Breaking.Early {
					t.Errorf("the search came to %+v", r.Breaking)
				}
			} else if len(r.Steps) == 0 {
				t.Error("no steps")
			}
		})
	}
}

// TestInterruptOpening has a run end while conns are being opened that will never stand: they are given up, whatever the
// timeout is.
func TestInterruptOpening(t *testing.T) {
	s := decode(t, "ws://"+serve(t, nil, hushed)+"/", "timeout: 1h\nscenarios: [hold]\nstages: [{kind: ramp, to: 5, for: 0s}, {kind: soak}]")
	r := carryOutUntil(t, s, Options{Every: 20 * time.Millisecond}, func(s Sample) bool { return s.Pending == 5 })
	last := r.Samples[len(r.Samples)-1]
	if r.Conns.Attempted != 5 || r.Conns.Opened != 0 || r.Conns.Failed != 0 || last.Pending != 0 || last.At-r.Elapsed > 5 {
		t.Errorf("conns %+v, in the end %+v after %g s", r.Conns, last, r.Elapsed)
	}
}
