package longwire_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/ws"
)

// issuer signs tokens as an application's backend does. The gateway's code takes no part in it.
type issuer struct {
	alg    string
	sign   func(signed []byte) []byte
	public crypto.PublicKey
	kid    string // in the header; empty: none
}

type claims map[string]any

// token is a signed one with these claims.
func (s issuer) token(c claims) string {
	header := map[string]any{"alg": s.alg, "typ": "JWT"}
	if s.kid != "" {
		header["kid"] = s.kid
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(must(json.Marshal(header))) + "." + enc.EncodeToString(must(json.Marshal(c)))
	return signed + "." + enc.EncodeToString(s.sign([]byte(signed)))
}

func digest(b []byte) []byte {
	d := sha256.Sum256(b)
	return d[:]
}

func issuerRS256() issuer {
	k := must(rsa.GenerateKey(rand.Reader, 2048))
	return issuer{alg: "RS256", public: &k.PublicKey, sign: func(b []byte) []byte {
		return must(rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest(b)))
	}}
}

func issuerES256() issuer {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return issuer{alg: "ES256", public: &k.PublicKey, sign: func(b []byte) []byte {
		r, s, err := ecdsa.Sign(rand.Reader, k, digest(b))
		must(0, err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}}
}

func issuerEdDSA() issuer {
	public, k, err := ed25519.GenerateKey(rand.Reader)
	must(0, err)
	return issuer{alg: "EdDSA", public: public, sign: func(b []byte) []byte { return ed25519.Sign(k, b) }}
}

func issuerHS256(secret []byte) issuer {
	return issuer{alg: "HS256", sign: func(b []byte) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write(b)
		return m.Sum(nil)
	}}
}

// pem is the public key as options have it.
func (s issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(s.public))}))
}

// jwk is the public key as a key set has it.
func (s issuer) jwk() string {
	enc := base64.RawURLEncoding.EncodeToString
	switch k := s.public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":%q}`, s.kid, enc(k.N.Bytes()), enc(big.NewInt(int64(k.E)).Bytes()))
	case *ecdsa.PublicKey:
		point := must(k.Bytes()) // 4, x, y
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":"P-256","x":%q,"y":%q}`, s.kid, enc(point[1:33]), enc(point[33:]))
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","kid":%q,"crv":"Ed25519","x":%q}`, s.kid, enc(k))
	}
	panic("no such key")
}

// verifying starts a gateway whose clients need tokens.
func verifying(t *testing.T, o longwire.TokenOptions) *longwire.Gateway {
	t.Helper()
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Loops: 1, MaxMemory: -1, Tokens: o,
		Endpoints: []longwire.Endpoint{longwire.Centrifuge("/connection/websocket"), longwire.Echo("/echo")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// outcome is what a client gets for a command: "", "error 109" or "close 3500".
func (c *client) outcome(t *testing.T, command string) string {
	t.Helper()
	c.send(command)
	op, text, code := c.next()
	if op == ws.OpClose {
		return fmt.Sprintf("close %d", code)
	}
	var r struct {
		ID    uint32
		Error struct{ Code int }
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.ID == 0 {
		t.Errorf("%s is answered with %s", command, text)
	}
	if r.Error.Code != 0 {
		return fmt.Sprintf("error %d", r.Error.Code)
	}
	return ""
}

func connectCommand(token string) string {
	return fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token)
}

func subscribeCommand(channel, token string) string {
	return fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q,"token":%q}}`, channel, token)
}

// connecting is what a new client gets for that token.
func connecting(t *testing.T, g *longwire.Gateway, token string) string {
	t.Helper()
	c := dial(g.Addr().String(), "/connection/websocket")
	defer c.quit()
	return c.outcome(t, connectCommand(token))
}

// Tokens of every family do over a connection what they do in package token: they let in whom they name, for as long as they
// say, and nobody else.
func TestTokens(t *testing.T) {
	for _, own := range []issuer{issuerRS256(), issuerES256(), issuerEdDSA()} {
		t.Run(own.alg, func(t *testing.T) {
			t.Parallel()
			const secret = "a secret that the backend has for other tokens"
			o := longwire.TokenOptions{HMACSecret: []byte(secret), Audience: "push"}
			switch own.alg {
			case "RS256":
				o.RSAPublicKey = own.pem()
			case "ES256":
				o.ECDSAPublicKey = own.pem()
			default:
				o.Ed25519PublicKey = own.pem()
			}
			g := verifying(t, o)
			now := time.Now().Unix()
			with := func(more claims) claims {
				c := claims{"sub": "ann", "aud": "push", "exp": now + 3600}
				for k, v := range more {
					if c[k] = v; v == nil {
						delete(c, k)
					}
				}
				return c
			}
			good := own.token(with(nil))
			other := map[string]func() issuer{"RS256": issuerRS256, "ES256": issuerES256, "EdDSA": issuerEdDSA}[own.alg]()
			renamed := func(alg string) issuer { s := own; s.alg = alg; return s }
			byPublicKey := issuerHS256([]byte(own.pem()))
			unsigned := issuer{alg: "none", sign: func([]byte) []byte { return nil }}
			// What is wrong with a token is wrong with it in both places; only the answers differ.
			for _, c := range []struct {
				name       string
				sign       issuer
				claims     claims
				connecting string
				subscribe  string
			}{
				{"good", own, nil, "", ""},
				{"of the secret", issuerHS256([]byte(secret)), nil, "", ""},
				{"for ever", own, claims{"exp": nil}, "", ""},
				{"for several audiences", own, claims{"aud": []string{"web", "push"}}, "", ""},
				{"from now on", own, claims{"nbf": now - 1}, "", ""},
				{"expired", own, claims{"exp": now - 1}, "error 109", "error 109"},
				{"not yet valid", own, claims{"nbf": now + 3600}, "close 3500", "error 103"},
				{"expired, and never valid", own, claims{"exp": now - 1, "nbf": now + 3600}, "close 3500", "error 103"},
				{"for another audience", own, claims{"aud": "web"}, "close 3500", "error 103"},
				{"for no audience", own, claims{"aud": nil}, "close 3500", "error 103"},
				{"of another key", other, nil, "close 3500", "error 103"},
				{"of another secret", issuerHS256([]byte("guessed")), nil, "close 3500", "error 103"},
				{"of the public key as a secret", byPublicKey, nil, "close 3500", "error 103"},
				{"not signed", unsigned, nil, "close 3500", "error 103"},
				{"called HS256", renamed("HS256"), nil, "close 3500", "error 103"},
				{"called none", renamed("none"), nil, "close 3500", "error 103"},
				{"called PS256", renamed("PS256"), nil, "close 3500", "error 103"},
				{"with another's name", own, claims{"sub": "bob"}, "", "close 3500"},
			} {
				if got := connecting(t, g, c.sign.token(with(c.claims))); got != c.connecting {
					t.Errorf("connect with a token %s: %q, want %q", c.name, got, c.connecting)
				}
				cl := dial(g.Addr().String(), "/connection/websocket")
				if got := cl.outcome(t, connectCommand(good)); got != "" {
					t.Fatalf("connect: %s", got)
				}
				more := with(c.claims)
				more["channel"] = "$staff"
				if got := cl.outcome(t, subscribeCommand("$staff", c.sign.token(more))); got != c.subscribe {
					t.Errorf("subscribe with a token %s: %q, want %q", c.name, got, c.subscribe)
				}
				if c.subscribe == "" {
					if _, err := g.Publish(t.Context(), "$staff", []byte(`{"for":"staff"}`), longwire.PublishOptions{}); err != nil {
						t.Fatal(err)
					}
					if _, text, _ := cl.next(); !strings.Contains(text, `{"for":"staff"}`) {
						t.Errorf("the subscriber got %s", text)
					}
				}
				if strings.HasPrefix(c.subscribe, "error") {
					// It is still connected, and gets in with a good one.
					more := with(claims{"channel": "$staff"})
					if got := cl.outcome(t, subscribeCommand("$staff", own.token(more))); got != "" {
						t.Errorf("subscribe with a good token after one %s: %q", c.name, got)
					}
				}
				cl.quit()
			}
			cl := dial(g.Addr().String(), "/connection/websocket")
			defer cl.quit()
			cl.outcome(t, connectCommand(good))
			if got := cl.outcome(t, subscribeCommand("$other", own.token(with(claims{"channel": "$staff"})))); got != "close 3500" {
				t.Errorf("subscribe with a token for another channel: %q, want close 3500", got)
			}
			// One kind of token is not the other.
			if got := connecting(t, g, own.token(with(claims{"channel": "$staff"}))); got != "close 3500" {
				t.Errorf("connect with a subscription token: %q, want close 3500", got)
			}
		})
	}
}

// keyServer is an application's JWKS endpoint.
type keyServer struct {
	*httptest.Server
	asked chan struct{} // has one for each request

	mu     sync.Mutex
	status int
	keys   []string
	hold   chan struct{} // requests wait until it is closed; nil: none does
}

func serveKeys(t *testing.T) *keyServer {
	s := &keyServer{asked: make(chan struct{}, 1000), status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		status, hold, body := s.status, s.hold, `{"keys":[`+strings.Join(s.keys, ",")+`]}`
		s.mu.Unlock()
		s.asked <- struct{}{}
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(status int, hold chan struct{}, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.hold, s.keys = status, hold, keys
}

// requests counts those since it was asked last.
func (s *keyServer) requests() (n int) {
	for {
		select {
		case <-s.asked:
			n++
		default:
			return n
		}
	}
}

func (s issuer) named(kid string) issuer {
	s.kid = kid
	return s
}

// Keys come from the application's key server: when the first token needs one, when they are rotated, and not more often.
func TestTokenKeySet(t *testing.T) {
	for _, make2 := range []func() issuer{issuerRS256, issuerES256, issuerEdDSA} {
		older, newer, stranger := make2().named("2025"), make2().named("2026"), make2().named("2026")
		t.Run(older.alg, func(t *testing.T) {
			s := serveKeys(t)
			var mu sync.Mutex
			now := time.Now()
			clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
			pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
			g := verifying(t, longwire.TokenOptions{JWKSURL: s.URL, HTTP: s.Client(), Now: clock})
			who := claims{"sub": "ann"}
			step := func(what string, token string, want string, requests int) {
				t.Helper()
				if got := connecting(t, g, token); got != want {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
				if n := s.requests(); n != requests {
					t.Errorf("%s: %d requests for the key set, want %d", what, n, requests)
				}
			}
			s.set(http.StatusInternalServerError, nil)
			step("the key server fails", older.token(who), "error 100", 1)
			step("not asked again so soon", older.token(who), "error 100", 0)
			pass(time.Minute)
			s.set(http.StatusOK, nil, older.jwk())
			step("the first key", older.token(who), "", 1)
			step("it is kept", older.token(who), "", 0)
			step("none with that name yet", newer.token(who), "close 3500", 0)
			pass(time.Minute)
			s.set(http.StatusOK, nil, older.jwk(), newer.jwk())
			step("rotated", newer.token(who), "", 1)
			step("the older one does as well", older.token(who), "", 0)
			step("another key with that name", stranger.token(who), "close 3500", 0)
			step("signed with the set's public key", issuerHS256([]byte(newer.pem())).named("2026").token(who), "close 3500", 0)
			pass(2 * time.Hour)
			s.set(http.StatusOK, nil, newer.jwk())
			step("the older one was taken out", older.token(who), "close 3500", 1)
			// A subscription's token too.
			c := dial(g.Addr().String(), "/connection/websocket")
			defer c.quit()
			if got := c.outcome(t, connectCommand(newer.token(who))); got != "" {
				t.Errorf("connect: %s", got)
			}
			if got := c.outcome(t, subscribeCommand("$staff", older.token(claims{"sub": "ann", "channel": "$staff"}))); got != "error 103" {
				t.Errorf("subscribe with a key that was taken out: %q, want error 103", got)
			}
			if got := c.outcome(t, subscribeCommand("$staff", newer.token(claims{"sub": "ann", "channel": "$staff"}))); got != "" {
				t.Errorf("subscribe: %q", got)
			}
		})
	}
}

// While the key server keeps clients waiting, everybody else is served, and what they send meanwhile is not lost.
func TestTokenKeySetWaits(t *testing.T) {
	key := issuerES256().named("k")
	s := serveKeys(t)
	hold := make(chan struct{})
	s.set(http.StatusOK, hold, key.jwk())
	g := verifying(t, longwire.TokenOptions{HMACSecret: []byte("s"), JWKSURL: s.URL, HTTP: s.Client(), JWKSTimeout: time.Minute})
	var waiting []*client
	for k := range 20 {
		c := dial(g.Addr().String(), "/connection/websocket")
		defer c.quit()
		user := fmt.Sprint("user-", k)
		// The subscribe comes right behind, as SDKs send it.
		c.send(connectCommand(key.token(claims{"sub": user})) + "\n" + subscribeCommand("$staff", key.token(claims{"sub": user, "channel": "$staff"})))
		waiting = append(waiting, c)
	}
	<-s.asked
	// All are on one loop.
	if got := connecting(t, g, issuerHS256([]byte("s")).token(claims{"sub": "bob"})); got != "" {
		t.Errorf("a client whose token needs no key server: %q", got)
	}
	e := dial(g.Addr().String(), "/echo")
	defer e.quit()
	if got := e.ask("are you there?"); got != "are you there?" {
		t.Errorf("echo: %q", got)
	}
	gone := waiting[0]
	gone.quit()
	close(hold)
	for _, c := range waiting[1:] {
		if _, text, _ := c.next(); !strings.HasPrefix(text, `{"id":1,"connect":`) {
			t.Errorf("connect is answered with %s", text)
		}
		if _, text, _ := c.next(); !strings.HasPrefix(text, `{"id":2,"subscribe":`) {
			t.Errorf("subscribe is answered with %s", text)
		}
	}
	if n := s.requests(); n != 0 {
		t.Errorf("%d more requests for the key set", n)
	}
	if _, err := g.Publish(t.Context(), "$staff", []byte(`1`), longwire.PublishOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting[1:] {
		if _, text, _ := c.next(); !strings.Contains(text, `"data":1`) {
			t.Errorf("the subscriber got %s", text)
		}
	}
}

// A gateway that is closed while a client waits for the key server waits for nobody.
func TestTokenKeySetClose(t *testing.T) {
	key := issuerEdDSA().named("k")
	s := serveKeys(t)
	s.set(http.StatusOK, make(chan struct{}), key.jwk()) // for ever
	g := verifying(t, longwire.TokenOptions{JWKSURL: s.URL, HTTP: s.Client(), JWKSTimeout: time.Hour})
	c := dial(g.Addr().String(), "/connection/websocket")
	defer c.quit()
	c.send(connectCommand(key.token(claims{"sub": "ann"})))
	<-s.asked
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("Close waits for the key server")
	}
}
