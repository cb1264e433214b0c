package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"hash"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the tests sign with. The verifier's own code takes no part in signing; testdata/jose has tokens that another
// implementation signed.
var (
	secret = []byte("a secret that only the backend and we have")
	start  = time.Unix(1_700_000_000, 0)

	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ed25519Key = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) })
	ecdsaKeys  = sync.OnceValue(func() map[string]*ecdsa.PrivateKey {
		return map[string]*ecdsa.PrivateKey{
			"ES256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
			"ES384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
			"ES512": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		}
	})
)

const (
	connectClaims   = `{"sub":"user-12345678","exp":1700003600,"iat":1700000000,"info":{"name":"Ada Lovelace","avatar":"https://example.com/a/12345678.png"}}`
	subscribeClaims = `{"sub":"user-12345678","channel":"chat:room-1","exp":1700003600,"info":{"role":"admin"}}`
	fullClaims      = `{"sub":"user-12345678","exp":1700003600,"nbf":1699999999.5,"iat":1700000000,"jti":"id-1","iss":"backend",` +
		`"aud":["web","push"],"expire_at":-1,"info":{"name":"Ada"},"meta":{"plan":"pro"},` +
		`"subs":{"news":{"info":{"a":1},"override":{"presence":{"value":true},"force_recovery":{"value":false}}},"chat:1":{"b64data":"aGk="}}}`
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func publicPEM(public any) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))}))
}

// newVerifier returns a Verifier with a key of each family, unless o has keys or an address of its own. The ECDSA key
// is that of the algorithm that the subtest is named after, or else of ES256. The clock stands at start.
func newVerifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	if o.HMACSecret == nil && o.RSAPublicKey == "" && o.ECDSAPublicKey == "" && o.Ed25519PublicKey == "" && o.JWKSURL == "" {
		o.HMACSecret = secret
		o.RSAPublicKey = publicPEM(&rsaKey().PublicKey)
		alg := "ES256"
		if _, name, ok := strings.Cut(t.Name(), "/"); ok && ecdsaKeys()[name] != nil {
			alg = name
		}
		o.ECDSAPublicKey = publicPEM(&ecdsaKeys()[alg].PublicKey)
		o.Ed25519PublicKey = publicPEM(ed25519Key().Public())
	}
	if o.Now == nil {
		o.Now = func() time.Time { return start }
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// signed returns a token with a plain header.
func signed(t testing.TB, alg, claims string) []byte {
	t.Helper()
	return signedAs(t, alg, `{"alg":"`+alg+`","typ":"JWT"}`, claims)
}

// signedAs returns a token with the signature of alg, whatever its header says.
func signedAs(t testing.TB, alg, header, claims string) []byte {
	t.Helper()
	b := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return []byte(b + "." + base64.RawURLEncoding.EncodeToString(signature(t, alg, []byte(b))))
}

func signature(t testing.TB, alg string, b []byte) []byte {
	t.Helper()
	hashes := map[string]func() hash.Hash{"256": sha256.New, "384": sha512.New384, "512": sha512.New}
	ids := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	digest := func() []byte {
		h := hashes[alg[2:]]()
		h.Write(b)
		return h.Sum(nil)
	}
	switch alg[:2] {
	case "HS":
		return hmacOf(hashes[alg[2:]], secret, b)
	case "RS":
		return must(rsa.SignPKCS1v15(rand.Reader, rsaKey(), ids[alg[2:]], digest()))
	case "ES":
		k := ecdsaKeys()[alg]
		r, s, err := ecdsa.Sign(rand.Reader, k, digest())
		if err != nil {
			t.Fatal(err)
		}
		size := (k.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case "Ed":
		return ed25519.Sign(ed25519Key(), b)
	}
	t.Fatalf("no algorithm %q", alg)
	return nil
}

func hmacOf(h func() hash.Hash, key, b []byte) []byte {
	mac := hmac.New(h, key)
	mac.Write(b)
	return mac.Sum(nil)
}
