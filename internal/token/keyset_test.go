package token

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// serve returns a client that gets what body gives, from no network.
func serve(body func() ([]byte, error)) *http.Client {
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		b, err := body()
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
	})}
}

func jwk(public any, kid, more string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	switch public := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":%q%s}`, kid, b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes()), more)
	case *ecdsa.PublicKey:
		point := must(public.Bytes())[1:]
		half := len(point) / 2
		return fmt.Sprintf(`{"kty":"EC","kid":%q,"crv":%q,"x":%q,"y":%q%s}`, kid, public.Params().Name, b64(point[:half]), b64(point[half:]), more)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","kid":%q,"crv":"Ed25519","x":%q%s}`, kid, b64(public), more)
	}
	panic("no such key")
}

func jwks(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func withKid(t testing.TB, alg, kid string) []byte {
	t.Helper()
	return signedAs(t, alg, `{"alg":"`+alg+`","kid":"`+kid+`"}`, `{"sub":"me"}`)
}

// endpoint is a key server that counts requests. Its set is what it serves, or with status another status.
type endpoint struct {
	*httptest.Server
	requests atomic.Int64
	mu       sync.Mutex
	set      string
	status   int
}

func newEndpoint(t *testing.T, set string) *endpoint {
	e := &endpoint{set: set, status: 200}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.requests.Add(1)
		e.mu.Lock()
		defer e.mu.Unlock()
		w.WriteHeader(e.status)
		io.WriteString(w, e.set)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) serve(status int, set string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.set = status, set
}

// clock is a clock to set.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return start.Add(time.Duration(c.ns.Load())) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func TestRotation(t *testing.T) {
	ed, es := ed25519Key().Public().(ed25519.PublicKey), &ecdsaKeys()["ES256"].PublicKey
	e := newEndpoint(t, jwks(jwk(ed, "old", "")))
	var c clock
	v := newVerifier(t, Options{JWKSURL: e.URL, HTTP: e.Client(), Now: c.now, JWKSInterval: 10 * time.Second, JWKSMaxAge: time.Hour})
	old, fresh, unknown := withKid(t, "EdDSA", "old"), withKid(t, "ES256", "new"), withKid(t, "EdDSA", "x")
	step := func(what string, token []byte, waits bool, want error, requests int64) {
		t.Helper()
		if got := v.Waits(token); got != waits {
			t.Errorf("%s: waits = %v, want %v", what, got, waits)
		}
		before := e.requests.Load()
		if _, err := v.Connect(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if got := e.requests.Load() - before; got != requests {
			t.Errorf("%s: %d requests, want %d", what, got, requests)
		}
	}
	step("first", old, true, nil, 1)
	step("again", old, false, nil, 0)
	step("unknown too soon", fresh, false, ErrUnverifiable, 0)
	e.serve(200, jwks(jwk(ed, "old", ""), jwk(es, "new", "")))
	c.advance(9 * time.Second)
	step("rotated, too soon", fresh, false, ErrUnverifiable, 0)
	c.advance(time.Second)
	step("rotated", fresh, true, nil, 1)
	step("old beside new", old, false, nil, 0)
	c.advance(10 * time.Second)
	step("unknown", unknown, true, ErrUnverifiable, 1)
	step("unknown again", unknown, false, ErrUnverifiable, 0)

	// Down: who has a key goes on, who has none is told to come again.
	e.serve(503, "")
	c.advance(time.Minute)
	step("down, unknown", unknown, true, ErrUnavailable, 1)
	step("down, unknown, too soon", unknown, false, ErrUnavailable, 0)
	step("down, known", old, false, nil, 0)
	c.advance(time.Hour)
	v.Connect(t.Context(), old) // begins a request in the background
	v.set.fetches.Wait()
	step("down, known and stale", old, false, nil, 0)

	// Up again without the old key.
	e.serve(200, jwks(jwk(es, "new", "")))
	c.advance(time.Minute)
	step("up, unknown", unknown, true, ErrUnverifiable, 1)
	step("taken out", old, false, ErrUnverifiable, 0)
	step("new", fresh, false, nil, 0)
	c.advance(time.Hour)
	step("stale", fresh, true, nil, 1)
	e.serve(200, jwks())
	c.advance(time.Hour)
	step("empty set", fresh, true, ErrUnverifiable, 1)
}

// TestStaleFails: the first request of a stale set finds out that the endpoint is down, and the old keys serve.
func TestStaleFails(t *testing.T) {
	e := newEndpoint(t, jwks(jwk(ed25519Key().Public(), "k", "")))
	var c clock
	v := newVerifier(t, Options{JWKSURL: e.URL, HTTP: e.Client(), Now: c.now})
	token := withKid(t, "EdDSA", "k")
	for i, want := range []int64{1, 1, 2} {
		if i == 2 {
			e.serve(500, "")
			c.advance(time.Hour)
		}
		if _, err := v.Connect(t.Context(), token); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
		if got := e.requests.Load(); got != want {
			t.Errorf("after token %d: %d requests, want %d", i, got, want)
		}
	}
}

func TestSetKeys(t *testing.T) {
	rsaPublic, ed := &rsaKey().PublicKey, ed25519Key().Public().(ed25519.PublicKey)
	es := ecdsaKeys()
	otherEd := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public()
	edPrefix := `{"kty":"OKP","kid":"k","crv":"Ed25519","x":`
	for _, c := range []struct {
		name string
		set  string
		alg  string
		want error
	}{
		{"RSA", jwks(jwk(rsaPublic, "k", `,"use":"sig","alg":"RS512"`)), "RS512", nil},
		{"P-256", jwks(jwk(&es["ES256"].PublicKey, "k", "")), "ES256", nil},
		{"P-384", jwks(jwk(&es["ES384"].PublicKey, "k", "")), "ES384", nil},
		{"P-521", jwks(jwk(&es["ES512"].PublicKey, "k", "")), "ES512", nil},
		{"key_ops", jwks(jwk(ed, "k", `,"key_ops":["verify"]`)), "EdDSA", nil},
		{"bad keys beside", jwks(`7`, `{}`, `{"kty":"EC"}`, `{"kty":7,"kid":"k"}`, jwk(ed, "k", "")), "EdDSA", nil},
		{"same kid, other family", jwks(jwk(rsaPublic, "k", ""), jwk(ed, "k", "")), "EdDSA", nil},
		{"same kid, same family", jwks(jwk(otherEd, "k", ""), jwk(ed, "k", "")), "EdDSA", nil},
		{"use enc", jwks(jwk(ed, "k", `,"use":"enc"`)), "EdDSA", ErrUnverifiable},
		{"key_ops sign", jwks(jwk(ed, "k", `,"key_ops":["sign"]`)), "EdDSA", ErrUnverifiable},
		{"alg of another token", jwks(jwk(rsaPublic, "k", `,"alg":"RS256"`)), "RS512", ErrInvalid},
		{"alg of another family", jwks(jwk(ed, "k", `,"alg":"RS256"`)), "EdDSA", ErrInvalid},
		{"key of another family", jwks(jwk(rsaPublic, "k", "")), "EdDSA", ErrInvalid},
		{"key of another curve", jwks(jwk(&es["ES384"].PublicKey, "k", "")), "ES256", ErrInvalid},
		{"another key", jwks(jwk(otherEd, "k", "")), "EdDSA", ErrInvalid},
		{"no kid", jwks(jwk(ed, "", "")), "EdDSA", ErrUnverifiable},
		{"oct", jwks(`{"kty":"oct","kid":"k","k":"` + base64.RawURLEncoding.EncodeToString(secret) + `"}`), "HS256", ErrUnverifiable},
		{"short x", jwks(edPrefix + `"AAAA"}`), "EdDSA", ErrUnverifiable},
		{"bad x", jwks(edPrefix + `"*"}`), "EdDSA", ErrUnverifiable},
		{"not on the curve", jwks(`{"kty":"EC","kid":"k","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`), "ES256", ErrUnverifiable},
		{"no coordinates", jwks(`{"kty":"EC","kid":"k","crv":"P-256"}`), "ES256", ErrUnverifiable},
		{"secp256k1", jwks(`{"kty":"EC","kid":"k","crv":"secp256k1","x":"","y":""}`), "ES256", ErrUnverifiable},
		{"small RSA", jwks(`{"kty":"RSA","kid":"k","n":"_____w","e":"AQAB"}`), "RS256", ErrUnverifiable},
		{"RSA with e = 1", jwks(strings.Replace(jwk(rsaPublic, "k", ""), "AQAB", "AQ", 1)), "RS256", ErrUnverifiable},
		{"RSA with a long e", jwks(strings.Replace(jwk(rsaPublic, "k", ""), "AQAB", "AQABAQABAQAB", 1)), "RS256", ErrUnverifiable},
		{"RSA without numbers", jwks(`{"kty":"RSA","kid":"k"}`), "RS256", ErrUnverifiable},
		{"no JSON", `<html>`, "EdDSA", ErrUnavailable},
		{"no set", `{}`, "EdDSA", ErrUnavailable},
		{"keys null", `{"keys":null}`, "EdDSA", ErrUnavailable},
		{"too long", jwks(jwk(ed, "k", "")) + strings.Repeat(" ", maxSetSize), "EdDSA", ErrUnavailable},
		{"too many", jwks(strings.Repeat("0,", maxSetKeys) + "0"), "EdDSA", ErrUnavailable},
	} {
		v := newVerifier(t, Options{JWKSURL: "http://keys.test/", HTTP: serve(func() ([]byte, error) { return []byte(c.set), nil })})
		if _, err := v.Connect(t.Context(), withKid(t, c.alg, "k")); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestSetFamily: a key of a set is only used with algorithms of its own family, though the token names both.
func TestSetFamily(t *testing.T) {
	set := jwks(jwk(&rsaKey().PublicKey, "RS256", ""), jwk(&ecdsaKeys()["ES256"].PublicKey, "ES256", ""), jwk(ed25519Key().Public(), "EdDSA", ""))
	v := newVerifier(t, Options{JWKSURL: "http://keys.test/", HTTP: serve(func() ([]byte, error) { return []byte(set), nil })})
	for _, by := range []string{"RS256", "ES256", "EdDSA"} {
		for alg := range algorithms {
			token := signedAs(t, by, `{"alg":"`+alg+`","kid":"`+by+`"}`, `{}`)
			if _, err := v.Connect(t.Context(), token); alg == by && err != nil || alg != by && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s by %s: %v", alg, by, err)
			}
		}
	}
}

// TestStatus: an answer that is not 200 is no key set, whatever it holds.
func TestStatus(t *testing.T) {
	e := newEndpoint(t, "")
	e.serve(404, jwks(jwk(ed25519Key().Public(), "k", "")))
	v := newVerifier(t, Options{JWKSURL: e.URL, HTTP: e.Client()})
	if _, err := v.Connect(t.Context(), withKid(t, "EdDSA", "k")); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v, want ErrUnavailable with the status", err)
	}
}

// TestMixed: with an address, tokens without a kid and HS* ones still have the configured keys, and those with one
// have not.
func TestMixed(t *testing.T) {
	otherEd := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public()
	v := newVerifier(t, Options{
		HMACSecret:       secret,
		Ed25519PublicKey: publicPEM(ed25519Key().Public()),
		JWKSURL:          "http://keys.test/",
		HTTP:             serve(func() ([]byte, error) { return []byte(jwks(jwk(otherEd, "k", ""))), nil }),
	})
	for _, c := range []struct {
		name  string
		token []byte
		waits bool
		want  error
	}{
		{"HS256", signed(t, "HS256", `{}`), false, nil},
		{"HS256 with a kid", withKid(t, "HS256", "k"), false, nil},
		{"EdDSA", signed(t, "EdDSA", `{}`), false, nil},
		{"RS256", signed(t, "RS256", `{}`), false, ErrUnverifiable},
		{"garbage", []byte("x.y.z"), false, ErrInvalid},
		{"EdDSA with a kid", withKid(t, "EdDSA", "k"), true, ErrInvalid},
	} {
		if got := v.Waits(c.token); got != c.waits {
			t.Errorf("%s: waits = %v, want %v", c.name, got, c.waits)
		}
		if _, err := v.Connect(t.Context(), c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// hang returns a client whose requests end with their context, and a count of them.
func hang() (*http.Client, *atomic.Int64) {
	n := new(atomic.Int64)
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		n.Add(1)
		<-r.Context().Done()
		return nil, r.Context().Err()
	})}, n
}

func TestHang(t *testing.T) {
	token := withKid(t, "EdDSA", "k") // made outside the bubble, as are the keys
	synctest.Test(t, func(t *testing.T) {
		client, requests := hang()
		v := must(New(Options{JWKSURL: "http://keys.test/", HTTP: client, JWKSTimeout: 5 * time.Second}))
		defer v.Close()
		begin := time.Now()

		// One request for all. The first caller's leaving does not end it for the others.
		var wg sync.WaitGroup
		for i := range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
			defer cancel()
			wg.Go(func() {
				want := min(time.Duration(i+1)*time.Second, 5*time.Second)
				_, err := v.Connect(ctx, token)
				if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("caller %d: %v, want ErrUnavailable", i, err)
				}
				if got := time.Since(begin); got != want {
					t.Errorf("caller %d waited %v, want %v", i, got, want)
				}
			})
		}
		wg.Wait()
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		if v.Waits(token) {
			t.Error("waits within the interval")
		}
		time.Sleep(6 * time.Second)
		if !v.Waits(token) {
			t.Error("does not wait after the interval")
		}
	})
}

// TestHangKnown: while a request hangs that the endpoint's last failure made doubtful, a known key does not wait.
func TestHangKnown(t *testing.T) {
	token, unknown := withKid(t, "EdDSA", "k"), withKid(t, "EdDSA", "x")
	set := []byte(jwks(jwk(ed25519Key().Public(), "k", "")))
	synctest.Test(t, func(t *testing.T) {
		down := false
		slow, _ := hang()
		fast := serve(func() ([]byte, error) { return set, nil })
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if down {
				return slow.Transport.RoundTrip(r)
			}
			return fast.Transport.RoundTrip(r)
		})}
		v := must(New(Options{JWKSURL: "http://keys.test/", HTTP: client}))
		defer v.Close()
		connect := func(token []byte, want error, wait time.Duration) {
			t.Helper()
			begin := time.Now()
			if _, err := v.Connect(t.Context(), token); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
			if got := time.Since(begin); got != wait {
				t.Errorf("waited %v, want %v", got, wait)
			}
		}
		connect(token, nil, 0)
		down = true
		time.Sleep(time.Hour)
		if !v.Waits(token) {
			t.Error("a stale key does not wait")
		}
		connect(token, nil, 5*time.Second) // learns that it hangs
		connect(token, nil, 0)             // knows
		time.Sleep(10 * time.Second)
		if v.Waits(token) {
			t.Error("a known key waits")
		}
		connect(token, nil, 0) // begins another request, in the background
		connect(token, nil, 0)
		if !v.Waits(unknown) {
			t.Error("an unknown key does not wait")
		}
		connect(unknown, ErrUnavailable, 5*time.Second)
		down = false
		time.Sleep(10 * time.Second)
		connect(unknown, ErrUnverifiable, 0)
	})
}

func TestClose(t *testing.T) {
	token := withKid(t, "EdDSA", "k")
	synctest.Test(t, func(t *testing.T) {
		client, requests := hang()
		v := must(New(Options{JWKSURL: "http://keys.test/", HTTP: client}))
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err = v.Connect(t.Context(), token)
		}()
		synctest.Wait()
		begin := time.Now()
		v.Close()
		<-done
		if !errors.Is(err, ErrUnavailable) || time.Since(begin) != 0 {
			t.Errorf("%v after %v, want ErrUnavailable at once", err, time.Since(begin))
		}
		time.Sleep(time.Hour)
		v.Close()
		if v.Waits(token) {
			t.Error("waits after Close")
		}
		if _, err := v.Connect(t.Context(), token); !errors.Is(err, ErrUnavailable) {
			t.Errorf("after Close: %v, want ErrUnavailable", err)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
	// Closed before any request, and without an address.
	v := must(New(Options{JWKSURL: "http://keys.test/"}))
	v.Close()
	if _, err := v.Connect(t.Context(), token); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed at once: %v, want ErrUnavailable", err)
	}
	must(New(Options{})).Close()
}

// TestEndless: an answer without end is given up, and so is a redirect without end.
func TestEndless(t *testing.T) {
	for _, handler := range []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) {
			chunk := bytes.Repeat([]byte(" "), 64<<10)
			for range 1000 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) },
	} {
		server := httptest.NewServer(handler)
		v := newVerifier(t, Options{JWKSURL: server.URL})
		if _, err := v.Connect(t.Context(), withKid(t, "EdDSA", "k")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
		server.Close()
	}
}

func TestRedirect(t *testing.T) {
	s := newKeySet(Options{}, time.Now)
	defer s.close()
	request := func(url string) *http.Request { return must(http.NewRequest("GET", url, nil)) }
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"http://a.test/", "http://b.test/", true},
		{"http://a.test/", "https://a.test/", true},
		{"https://a.test/", "https://b.test/", true},
		{"https://a.test/", "http://a.test/", false},
	} {
		if err := s.http.CheckRedirect(request(c.to), []*http.Request{request(c.from)}); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v, want ok %v", c.from, c.to, err, c.ok)
		}
	}
}

// TestSetConcurrent is for the race detector, with keys that come and go.
func TestSetConcurrent(t *testing.T) {
	ed := ed25519Key().Public()
	sets := []string{jwks(jwk(ed, "a", "")), jwks(jwk(ed, "a", ""), jwk(ed, "b", "")), `{`}
	var n atomic.Int64
	var c clock
	v := newVerifier(t, Options{
		JWKSURL: "http://keys.test/",
		HTTP:    serve(func() ([]byte, error) { return []byte(sets[n.Add(1)%3]), nil }),
		Now:     c.now,
	})
	if _, err := v.Connect(t.Context(), withKid(t, "EdDSA", "a")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			a, b := withKid(t, "EdDSA", "a"), withKid(t, "EdDSA", "b")
			for range 50 {
				c.advance(time.Minute)
				if _, err := v.Connect(t.Context(), a); err != nil {
					t.Errorf("a: %v", err)
				}
				if _, err := v.Connect(t.Context(), b); err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnavailable) {
					t.Errorf("b: %v", err)
				}
				v.Waits(b)
			}
		})
	}
	wg.Wait()
	if n.Load() < 2 {
		t.Error("nothing was fetched again")
	}
}
