package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestJose verifies what another implementation signed: go-jose v4.1.8, with the claims in want and a key set of its
// making. Its HMAC secret is the digits 0 to 9 up to 64 bytes.
func TestJose(t *testing.T) {
	set := must(os.ReadFile("testdata/jose/jwks.json"))
	v := newVerifier(t, Options{
		HMACSecret: []byte(strings.Repeat("0123456789", 7)[:64]),
		JWKSURL:    "http://keys.test/",
		HTTP:       serve(func() ([]byte, error) { return set, nil }),
	})
	lines := strings.Fields(string(must(os.ReadFile("testdata/jose/tokens.txt"))))
	if len(lines) != 2*len(algorithms) {
		t.Fatalf("%d words in tokens.txt, want a name and a token for each of %d algorithms", len(lines), len(algorithms))
	}
	for i := 0; i < len(lines); i += 2 {
		alg, token := lines[i], lines[i+1]
		c, err := v.Connect(t.Context(), []byte(token))
		want := Connect{User: "42", ExpireAt: 1700003600, Info: []byte(`{"alg":"` + alg + `"}`)}
		if err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %+v, %v; want %+v", alg, c, err, want)
		}
		if _, err := v.Connect(t.Context(), flip(token)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s with a flipped bit: %v, want ErrInvalid", alg, err)
		}
	}
}

// flip returns the token with one bit of its payload changed.
func flip(token string) []byte {
	b := []byte(token)
	at := strings.IndexByte(token, '.') + 5
	b[at] = map[bool]byte{true: 'A', false: 'B'}[b[at] != 'A']
	return b
}

func TestAlgorithms(t *testing.T) {
	for alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			v := newVerifier(t, Options{})
			if c, err := v.Connect(t.Context(), signed(t, alg, connectClaims)); err != nil || c.User != "user-12345678" {
				t.Errorf("Connect = %+v, %v", c, err)
			}
			if _, err := newVerifier(t, Options{HMACSecret: []byte("other")}).Connect(t.Context(), signed(t, alg, connectClaims)); !errors.Is(err, ErrInvalid) {
				t.Errorf("with another key: %v, want ErrInvalid", err)
			}
		})
	}
}

func TestNew(t *testing.T) {
	small := must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey())}))
	rsaPEM := publicPEM(&rsaKey().PublicKey)
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{RSAPublicKey: "x"}, "RSAPublicKey: not a PEM block"},
		{Options{RSAPublicKey: rsaPEM + rsaPEM}, "RSAPublicKey: more than one"},
		{Options{RSAPublicKey: private}, "RSAPublicKey: is a \"RSA PRIVATE KEY\""},
		{Options{RSAPublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: small}))}, "RSAPublicKey: has 1024 bits"},
		{Options{RSAPublicKey: publicPEM(ed25519Key().Public())}, "RSAPublicKey: is a ed25519.PublicKey"},
		{Options{ECDSAPublicKey: rsaPEM}, "ECDSAPublicKey: is a *rsa.PublicKey"},
		{Options{ECDSAPublicKey: publicPEM(&p224.PublicKey)}, "ECDSAPublicKey: is on P-224"},
		{Options{Ed25519PublicKey: rsaPEM}, "Ed25519PublicKey: is a *rsa.PublicKey"},
		{Options{Ed25519PublicKey: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}, "Ed25519PublicKey: "},
		{Options{HMACSecret: []byte(rsaPEM)}, "HMACSecret: is a PEM block"},
		{Options{JWKSURL: "file:///etc/passwd"}, "JWKSURL: "},
		{Options{JWKSURL: "https://"}, "JWKSURL: "},
		{Options{JWKSURL: "http://user:password@\x7f"}, "JWKSURL: "},
		{Options{Audience: "a", AudienceRegex: "a"}, "AudienceRegex: set beside"},
		{Options{AudienceRegex: "("}, "AudienceRegex: "},
		{Options{IssuerRegex: ")|("}, "IssuerRegex: "},
		{Options{Issuer: "a", IssuerRegex: "a"}, "IssuerRegex: set beside"},
		{Options{UserClaim: "channel"}, "UserClaim: "},
	} {
		v, err := New(c.o)
		if err == nil || !strings.HasPrefix(err.Error(), "token: "+c.want) || v != nil {
			t.Errorf("New = %v, %v; want an error that begins with %q", v, err, "token: "+c.want)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("error %q tells the password", err)
		}
	}
	for _, typ := range []string{"RSA PUBLIC KEY", "CERTIFICATE"} {
		der := x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)
		if typ == "CERTIFICATE" {
			template := &x509.Certificate{SerialNumber: big.NewInt(1)}
			der = must(x509.CreateCertificate(rand.Reader, template, template, &rsaKey().PublicKey, rsaKey()))
		}
		v := newVerifier(t, Options{RSAPublicKey: string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))})
		if _, err := v.Connect(t.Context(), signed(t, "RS256", connectClaims)); err != nil {
			t.Errorf("with a %s block: %v", typ, err)
		}
	}
	none := must(New(Options{}))
	for alg := range algorithms {
		if _, err := none.Connect(t.Context(), signed(t, alg, connectClaims)); !errors.Is(err, ErrUnverifiable) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s without a key: %v, want ErrUnverifiable, which is an ErrInvalid", alg, err)
		}
	}
}

// TestSecret shows that the caller may reuse the memory of its secret.
func TestSecret(t *testing.T) {
	mine := bytes.Clone(secret)
	v := newVerifier(t, Options{HMACSecret: mine})
	clear(mine)
	if _, err := v.Connect(t.Context(), signed(t, "HS256", connectClaims)); err != nil {
		t.Error(err)
	}
}

// TestMemory shows that what a token granted stays as it is when others are verified.
func TestMemory(t *testing.T) {
	v := newVerifier(t, Options{})
	claims := `{"sub":"a","channel":%s,"info":{"n":"a"},"meta":{"n":"a"},"data":{"n":"a"},"jti":"a","channels":["a"]}`
	connect := func(s string) Connect {
		return must(v.Connect(t.Context(), signed(t, "HS256", strings.ReplaceAll(fmt.Sprintf(claims, `""`), `"a"`, `"`+s+`"`))))
	}
	subscribe := func(s string) Subscribe {
		return must(v.Subscribe(t.Context(), signed(t, "HS256", strings.ReplaceAll(fmt.Sprintf(claims, `"a"`), `"a"`, `"`+s+`"`))))
	}
	n := []byte(`{"n":"a"}`)
	a, as := connect("a"), subscribe("a")
	for range 10 {
		connect("b")
		subscribe("b")
	}
	if want := (Connect{User: "a", Info: n, Meta: n, JTI: "a", Channels: []string{"a"}}); !reflect.DeepEqual(a, want) {
		t.Errorf("connection %+v, want %+v", a, want)
	}
	if want := (Subscribe{User: "a", Channel: "a", SubOptions: SubOptions{Info: n, Data: n}}); !reflect.DeepEqual(as, want) {
		t.Errorf("subscription %+v, want %+v", as, want)
	}
}

func on(b bool) *bool { return &b }

func TestConnect(t *testing.T) {
	for _, c := range []struct {
		claims string
		want   Connect
	}{
		{`{}`, Connect{}},
		{` {"sub" : "a\u0062\"", "exp" : 1700000001.5 } `, Connect{User: `ab"`, ExpireAt: 1700000001}},
		{`{"\u0073ub":"me","x":[{"sub":"]"}],"y":"\\"}`, Connect{User: "me"}},
		{`{"sub":null,"exp":null,"nbf":null,"info":null,"meta":null,"channels":null,"subs":null,"channel":null,"jti":null}`, Connect{}},
		{`{"channel":""}`, Connect{}},
		{`{"exp":1.7000000010e9,"expire_at":-1}`, Connect{}},
		{`{"exp":1700000001,"expire_at":0}`, Connect{}},
		{`{"exp":1700000001,"expire_at":1800000000}`, Connect{ExpireAt: 1800000000}},
		{`{"exp":1700000001,"expire_at":null}`, Connect{ExpireAt: 1700000001}},
		{`{"expire_at":1600000000}`, Connect{ExpireAt: 1600000000}},
		{`{"info":{"a":[1, 2]},"meta":"m","jti":"j"}`, Connect{Info: []byte(`{"a":[1, 2]}`), Meta: []byte(`"m"`), JTI: "j"}},
		{"{\"info\":{\n\"a\":\r1}}", Connect{Info: []byte(`{"a":1}`)}},
		{`{"info":{"a":1},"b64info":"/+8="}`, Connect{Info: []byte{0xff, 0xef}}},
		{`{"info":1,"b64info":""}`, Connect{Info: []byte("1")}},
		{`{"channels":["b","a","b"]}`, Connect{Channels: []string{"b", "a", "b"}}},
		{`{"channels":["b"],"subs":{}}`, Connect{Channels: []string{"b"}}},
		{`{"channels":["x"],"subs":{"b":{},"a":null}}`, Connect{Subs: []Sub{{Channel: "b"}, {Channel: "a"}}}},
		{`{"subs":{"b\n":{"info":1,"data":{"d":2}},"a":{"b64info":"aGk=","data":0,"b64data":"aG8="}}}`, Connect{Subs: []Sub{
			{"b\n", SubOptions{Info: []byte("1"), Data: []byte(`{"d":2}`)}},
			{"a", SubOptions{Info: []byte("hi"), Data: []byte("ho")}},
		}}},
		{`{"subs":{"b":{"override":{"presence":{"value":true},"join_leave":{"value":false},"force_push_join_leave":{},"force_recovery":{"value":true},"force_positioning":null}}}}`,
			Connect{Subs: []Sub{{"b", SubOptions{Presence: on(true), JoinLeave: on(false), ForcePushJoinLeave: on(false), ForceRecovery: on(true)}}}}},
	} {
		tok := signed(t, "HS256", c.claims)
		got, err := newVerifier(t, Options{}).Connect(t.Context(), tok)
		clear(tok)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Connect(%s) = %+v, %v; want %+v", c.claims, got, err, c.want)
		}
	}
	for _, claims := range []string{
		``, `null`, `[]`, `"x"`, `{`, `{}{}`, `{} x`, `{"sub":"a",}`, "{\"sub\":\"\xff\"}",
		`{"sub":42}`, `{"sub":{}}`, `{"sub":"\ud800` + "\xff" + `"}`, `{"sub":"a","sub":"a"}`, `{"sub":"a","\u0073ub":"b"}`,
		`{"channel":"a"}`, `{"channel":7}`, `{"\u0063hannel":"a"}`,
		`{"exp":"1800000000"}`, `{"exp":true}`, `{"exp":[]}`, `{"exp":1e300}`, `{"exp":1e999}`, `{"nbf":"0"}`, `{"nbf":1e17}`, `{"iat":"x"}`,
		`{"exp":"1800000000","expire_at":1800000000}`, `{"expire_at":"1"}`, `{"expire_at":{}}`, `{"jti":1}`,
		`{"b64info":"*"}`, `{"b64info":"aGk"}`, `{"b64info":7}`,
		`{"channels":"a"}`, `{"channels":[1]}`, `{"channels":[""]}`, `{"channels":{}}`,
		`{"subs":[]}`, `{"subs":"a"}`, `{"subs":{"":{}}}`, `{"subs":{"a":{},"a":{}}}`, `{"subs":{"a":7}}`, `{"subs":{"a":{"b64data":"*"}}}`, `{"subs":{"a":{"b64info":1}}}`,
		`{"subs":{"a":{"override":7}}}`, `{"subs":{"a":{"override":{"presence":true}}}}`, `{"subs":{"a":{"override":{"presence":{"value":1}}}}}`,
	} {
		if got, err := newVerifier(t, Options{}).Connect(t.Context(), signed(t, "HS256", claims)); !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(got, Connect{}) {
			t.Errorf("Connect(%s) = %+v, %v; want ErrInvalid", claims, got, err)
		}
	}
}

func TestSubscribe(t *testing.T) {
	for _, c := range []struct {
		claims string
		want   Subscribe
	}{
		{`{"channel":"a"}`, Subscribe{Channel: "a"}},
		{`{"channel":"a\u0062","sub":"me","client":"c","exp":1700000001,"info":{"i":1},"data":[2],"override":{"force_positioning":{"value":true}}}`,
			Subscribe{User: "me", Channel: "ab", Client: "c", ExpireAt: 1700000001,
				SubOptions: SubOptions{Info: []byte(`{"i":1}`), Data: []byte("[2]"), ForcePositioning: on(true)}}},
		{`{"channel":"a","exp":1700000001,"expire_at":-1,"b64info":"aGk=","b64data":"aG8="}`,
			Subscribe{Channel: "a", SubOptions: SubOptions{Info: []byte("hi"), Data: []byte("ho")}}},
	} {
		got, err := newVerifier(t, Options{}).Subscribe(t.Context(), signed(t, "HS256", c.claims))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Subscribe(%s) = %+v, %v; want %+v", c.claims, got, err, c.want)
		}
	}
	for _, claims := range []string{
		`{}`, `{"channel":""}`, `{"channel":null}`, `{"channel":7}`, `{"channel":["a"]}`, `{"channel":"a","channel":"b"}`, `{"channel":"a","client":7}`,
		`{"channel":"a","sub":7}`, `{"channel":"a","override":[]}`, `{"channel":"a","b64data":"*"}`, `{"channel":"a","exp":""}`,
		`{"channel":"","exp":1}`, // an exp that has passed is not what is wrong with it
	} {
		if got, err := newVerifier(t, Options{}).Subscribe(t.Context(), signed(t, "HS256", claims)); !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(got, Subscribe{}) {
			t.Errorf("Subscribe(%s) = %+v, %v; want ErrInvalid", claims, got, err)
		}
	}
}

func TestTimes(t *testing.T) {
	at := func(s float64) time.Time { return time.UnixMicro(int64(s * 1e6)) }
	for _, c := range []struct {
		claims string
		now    time.Time
		want   error
	}{
		{`{"exp":1000}`, at(999.999), nil},
		{`{"exp":1000}`, at(1000), ErrExpired},
		{`{"exp":1000.5}`, at(1000.25), nil},
		{`{"exp":1000.5}`, at(1000.5), ErrExpired},
		{`{"exp":0}`, at(1), ErrExpired},
		{`{"exp":-1}`, at(1), ErrExpired},
		{`{"exp":1000,"expire_at":2000}`, at(1500), ErrExpired},
		{`{"nbf":1000}`, at(999.999), ErrInvalid},
		{`{"nbf":1000}`, at(1000), nil},
		{`{"nbf":1000.5}`, at(1000.25), ErrInvalid},
		{`{"nbf":3000,"exp":1000}`, at(2000), ErrInvalid},
		{`{"iat":9000}`, at(1000), nil},
	} {
		v := newVerifier(t, Options{Now: func() time.Time { return c.now }})
		if _, err := v.Connect(t.Context(), signed(t, "HS256", c.claims)); !errors.Is(err, c.want) {
			t.Errorf("Connect(%s) at %v: %v, want %v", c.claims, c.now.UTC(), err, c.want)
		}
		if _, err := v.Subscribe(t.Context(), signed(t, "HS256", `{"channel":"a",`+c.claims[1:])); !errors.Is(err, c.want) {
			t.Errorf("Subscribe(%s) at %v: %v, want %v", c.claims, c.now.UTC(), err, c.want)
		}
	}
}

// TestExpired: only of a token that is good in all else is said that it has expired.
func TestExpired(t *testing.T) {
	v := newVerifier(t, Options{Issuer: "backend", Audience: "push"})
	good := `{"exp":1,"iss":"backend","aud":"push"}`
	if _, err := v.Connect(t.Context(), signed(t, "HS256", good)); !errors.Is(err, ErrExpired) || errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want ErrExpired", err)
	}
	for name, token := range map[string][]byte{
		"signature": flip(string(signed(t, "HS256", good))),
		"key":       signed(t, "HS512", good)[:80],
		"issuer":    signed(t, "HS256", `{"exp":1,"iss":"other","aud":"push"}`),
		"audience":  signed(t, "HS256", `{"exp":1,"iss":"backend","aud":"other"}`),
		"channel":   signed(t, "HS256", `{"exp":1,"iss":"backend","aud":"push","channel":"x"}`),
		"b64info":   signed(t, "HS256", `{"exp":1,"iss":"backend","aud":"push","b64info":"*"}`),
	} {
		if _, err := v.Connect(t.Context(), token); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrExpired) {
			t.Errorf("expired, with a wrong %s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestAudienceIssuer(t *testing.T) {
	for _, c := range []struct {
		o      Options
		claims string
		ok     bool
	}{
		{Options{}, `{"aud":"any","iss":"any"}`, true},
		{Options{Audience: "a"}, `{"aud":"a"}`, true},
		{Options{Audience: "a"}, `{"aud":["b","\u0061"]}`, true},
		{Options{Audience: "a"}, `{}`, false},
		{Options{Audience: "a"}, `{"aud":null}`, false},
		{Options{Audience: "a"}, `{"aud":""}`, false},
		{Options{Audience: "a"}, `{"aud":"ab"}`, false},
		{Options{Audience: "a"}, `{"aud":[]}`, false},
		{Options{Audience: "a"}, `{"aud":["a",7]}`, false},
		{Options{Audience: "a"}, `{"aud":["a",null]}`, false},
		{Options{Audience: "a"}, `{"aud":[["a"]]}`, false},
		{Options{Audience: "a"}, `{"aud":{"a":"a"}}`, false},
		{Options{Audience: "a"}, `{"aud":7}`, false},
		{Options{AudienceRegex: "a|b+"}, `{"aud":["c","bb"]}`, true},
		{Options{AudienceRegex: "a|b+"}, `{"aud":["ca","bc","a\n"]}`, false},
		{Options{AudienceRegex: ".*"}, `{}`, false},
		{Options{Issuer: "i"}, `{"iss":"i"}`, true},
		{Options{Issuer: "i"}, `{"iss":"I"}`, false},
		{Options{Issuer: "i"}, `{"iss":["i"]}`, false},
		{Options{Issuer: "i"}, `{}`, false},
		{Options{Issuer: "i"}, `{"iss":7}`, false},
		{Options{IssuerRegex: `https://[a-z]+\.example`}, `{"iss":"https://eu.example"}`, true},
		{Options{IssuerRegex: `https://[a-z]+\.example`}, `{"iss":"https://eu.example.attacker"}`, false},
		{Options{IssuerRegex: `.*`}, `{}`, false},
	} {
		_, err := newVerifier(t, c.o).Connect(t.Context(), signed(t, "HS256", c.claims))
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s with %+v: %v, want ok %v", c.claims, c.o, err, c.ok)
		}
	}
}

func TestUserClaim(t *testing.T) {
	for _, c := range []struct{ claims, want string }{
		{`{"uid":"u","sub":"s"}`, "u"},
		{`{"uid":42,"sub":7}`, "42"},
		{`{"uid":9223372036854775807}`, "9223372036854775807"},
		{`{"sub":"s"}`, ""},
		{`{"uid":1.5}`, "error"},
		{`{"uid":9223372036854775808}`, "error"},
		{`{"uid":true}`, "error"},
		{`{"uid":{"sub":"s"}}`, "error"},
		{`{"uid":"a","uid":"b"}`, "error"},
	} {
		v := newVerifier(t, Options{UserClaim: "uid"})
		got, err := v.Connect(t.Context(), signed(t, "HS256", c.claims))
		sub, errSub := v.Subscribe(t.Context(), signed(t, "HS256", `{"channel":"a",`+c.claims[1:]))
		if c.want == "error" {
			if !errors.Is(err, ErrInvalid) || !errors.Is(errSub, ErrInvalid) {
				t.Errorf("%s: %v and %v, want ErrInvalid", c.claims, err, errSub)
			}
		} else if err != nil || errSub != nil || got.User != c.want || sub.User != c.want {
			t.Errorf("%s: user %q, %v and %q, %v; want %q", c.claims, got.User, err, sub.User, errSub, c.want)
		}
	}
}

// TestAttacks: tokens that must not be taken, whatever their claims say. All keys are configured.
func TestAttacks(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	v := newVerifier(t, Options{})
	good := string(signed(t, "HS256", connectClaims))
	head, payload, sig := parts(good)
	rsaPEM := publicPEM(&rsaKey().PublicKey)
	confused := b64([]byte(`{"alg":"HS256"}`)) + "." + payload
	es := signed(t, "ES256", connectClaims)
	esHead, esPayload, _ := parts(string(es))
	esWith := func(sig []byte) string { return esHead + "." + esPayload + "." + b64(sig) }
	esSig := must(base64.RawURLEncoding.DecodeString(string(es[bytes.LastIndexByte(es, '.')+1:])))
	der := must(asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(esSig[:32]), new(big.Int).SetBytes(esSig[32:])}))
	n := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	own := must(rsa.GenerateKey(rand.Reader, 2048))
	jwk := `{"kty":"RSA","n":"` + b64(own.N.Bytes()) + `","e":"AQAB"}`

	// The base that all of them change is taken.
	for _, token := range []string{good, string(es)} {
		if _, err := v.Connect(t.Context(), []byte(token)); err != nil {
			t.Fatalf("%s: %v", token, err)
		}
	}
	for name, token := range map[string]string{
		"empty":                         "",
		"dots":                          "..",
		"one dot":                       head + "." + payload,
		"no dot":                        head,
		"three dots":                    good + ".",
		"five parts, as of JWE":         head + "." + payload + "." + sig + "." + sig + "." + sig,
		"no signature":                  head + "." + payload + ".",
		"no header":                     "." + payload + "." + sig,
		"no payload":                    head + ".." + sig,
		"truncated":                     good[:len(good)-1],
		"truncated by a block":          good[:len(good)-4],
		"trailing byte":                 good + "A",
		"trailing line end":             good + "\n",
		"line end inside":               good[:4] + "\r\n" + good[4:],
		"leading space":                 " " + good,
		"Bearer":                        "Bearer " + good,
		"padding in the signature":      good + "=",
		"padding in the header":         string(rejoin(t, head+"=", payload)),
		"padding in the payload":        string(rejoin(t, head, payload+"==")),
		"standard alphabet":             string(rejoin(t, head, b64([]byte(`{"sub":"`))+"+/+/")),
		"spare bits in the signature":   good[:len(good)-1] + string(nextChar(good[len(good)-1])),
		"too long":                      string(signed(t, "HS256", `{"x":"`+strings.Repeat("x", MaxSize)+`"}`)),
		"none":                          b64([]byte(`{"alg":"none"}`)) + "." + payload + ".",
		"None with a signature":         string(signedAs(t, "HS256", `{"alg":"None"}`, connectClaims)),
		"alg in lower case":             string(signedAs(t, "HS256", `{"alg":"hs256"}`, connectClaims)),
		"no alg":                        string(signedAs(t, "HS256", `{"typ":"JWT"}`, connectClaims)),
		"alg null":                      string(signedAs(t, "HS256", `{"alg":null}`, connectClaims)),
		"alg of another type":           string(signedAs(t, "HS256", `{"alg":["HS256"]}`, connectClaims)),
		"alg twice":                     string(signedAs(t, "HS256", `{"alg":"HS256","alg":"HS256"}`, connectClaims)),
		"ALG":                           string(signedAs(t, "HS256", `{"ALG":"HS256"}`, connectClaims)),
		"kid of another type":           string(signedAs(t, "HS256", `{"alg":"HS256","kid":7}`, connectClaims)),
		"header is no object":           string(signedAs(t, "HS256", `["HS256"]`, connectClaims)),
		"header with trailing data":     string(signedAs(t, "HS256", `{"alg":"HS256"}{}`, connectClaims)),
		"crit":                          string(signedAs(t, "HS256", `{"alg":"HS256","crit":["exp"]}`, connectClaims)),
		"crit, empty":                   string(signedAs(t, "HS256", `{"alg":"HS256","crit":[]}`, connectClaims)),
		"b64":                           string(signedAs(t, "HS256", `{"alg":"HS256","b64":false,"crit":["b64"]}`, connectClaims)),
		"HS256 with the RSA key in PEM": confused + "." + b64(hmacOf(sha256.New, []byte(rsaPEM), []byte(confused))),
		"HS256 with the RSA key in DER": confused + "." + b64(hmacOf(sha256.New, must(x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)), []byte(confused))),
		"HS256 with no secret":          confused + "." + b64(hmacOf(sha256.New, nil, []byte(confused))),
		"HS256 signature as HS512":      string(signedAs(t, "HS256", `{"alg":"HS512"}`, connectClaims)),
		"RS256 signature as HS256":      string(signedAs(t, "RS256", `{"alg":"HS256"}`, connectClaims)),
		"HS256 signature as RS256":      string(signedAs(t, "HS256", `{"alg":"RS256"}`, connectClaims)),
		"RS256 signature as RS512":      string(signedAs(t, "RS256", `{"alg":"RS512"}`, connectClaims)),
		"RS256 signature as PS256":      string(signedAs(t, "RS256", `{"alg":"PS256"}`, connectClaims)),
		"EdDSA signature as ES256":      string(signedAs(t, "EdDSA", `{"alg":"ES256"}`, connectClaims)),
		"ES384 with a P-256 key":        string(signed(t, "ES384", connectClaims)),
		"ES256 signature as ES384":      string(signedAs(t, "ES256", `{"alg":"ES384"}`, connectClaims)),
		"ES256 in DER":                  esWith(der),
		"ES256 of zeros":                esWith(make([]byte, 64)),
		"ES256 of r = s = n":            esWith(append(n, n...)),
		"ES256 one byte short":          esWith(esSig[:63]),
		"ES256 one byte more":           esWith(append(esSig[:64:64], 0)),
		"ES256 zero in the middle":      esWith(slices.Concat(esSig[:32], []byte{0}, esSig[32:])),
		"ES384 by a P-256 key":          string(es384ByP256(t)),
		"ES256 zeros in front":          esWith(append(make([]byte, 2), esSig...)),
		"ES256 empty":                   esWith(nil),
		"jwk in the header":             string(ownKey(own, `{"alg":"RS256","jwk":`+jwk+`}`)),
		"jku in the header":             string(ownKey(own, `{"alg":"RS256","jku":"http://attacker.test/","kid":"a"}`)),
	} {
		if got, err := v.Connect(t.Context(), []byte(token)); !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(got, Connect{}) {
			t.Errorf("%s: %+v, %v; want ErrInvalid", name, got, err)
		}
		if _, err := v.Subscribe(t.Context(), []byte(token)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, as a subscription: %v, want ErrInvalid", name, err)
		}
		if v.Waits([]byte(token)) {
			t.Errorf("%s waits", name)
		}
	}

	// What a header says about keys is no reason to refuse a token either.
	if _, err := v.Connect(t.Context(), signedAs(t, "RS256", `{"alg":"RS256","kid":"k","jwk":`+jwk+`,"x5u":"http://attacker.test/"}`, connectClaims)); err != nil {
		t.Errorf("with a jwk that does not matter: %v", err)
	}
	// Of each ECDSA signature there is another by its nature, (r, n-s). It says the same.
	other := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(esSig[32:])).FillBytes(make([]byte, 32))
	a, errA := v.Connect(t.Context(), es)
	b, errB := v.Connect(t.Context(), []byte(esWith(append(esSig[:32:32], other...))))
	if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("the other signature: %+v, %v; want %+v, %v", b, errB, a, errA)
	}
	// A token is as long as it may be.
	claims := fmt.Sprintf(`{"sub":"%s"}`, strings.Repeat("x", MaxSize*3/4-74))
	if long := signed(t, "HS256", claims); len(long) > MaxSize || len(long) < MaxSize-4 {
		t.Errorf("the long token has %d bytes", len(long))
	} else if _, err := v.Connect(t.Context(), long); err != nil {
		t.Errorf("a token of %d bytes: %v", len(long), err)
	}
}

func parts(token string) (head, payload, sig string) {
	head, rest, _ := strings.Cut(token, ".")
	payload, sig, _ = strings.Cut(rest, ".")
	return head, payload, sig
}

// rejoin signs parts as they are.
func rejoin(t *testing.T, head, payload string) []byte {
	b := head + "." + payload
	return []byte(b + "." + base64.RawURLEncoding.EncodeToString(signature(t, "HS256", []byte(b))))
}

// nextChar is another character of base64 whose first bits are those of c, the last of an HMAC-SHA256.
func nextChar(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// es384ByP256 returns a token of an algorithm that does not exist: SHA-384 with a key on P-256.
func es384ByP256(t *testing.T) []byte {
	b := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES384"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(connectClaims))
	digest := sha512.Sum384([]byte(b))
	r, s, err := ecdsa.Sign(rand.Reader, ecdsaKeys()["ES256"], digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return []byte(b + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)))
}

// ownKey returns a token that is signed with a key of the attacker's.
func ownKey(k *rsa.PrivateKey, header string) []byte {
	b := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(connectClaims))
	digest := sha256.Sum256([]byte(b))
	return []byte(b + "." + base64.RawURLEncoding.EncodeToString(must(rsa.SignPKCS1v15(rand.Reader, k, algorithms["RS256"].hash, digest[:]))))
}

// TestErrorText: what goes to the log is not the client's to write.
func TestErrorText(t *testing.T) {
	v := newVerifier(t, Options{Issuer: "backend"})
	for _, token := range [][]byte{
		signedAs(t, "HS256", `{"alg":"evil"}`, connectClaims),
		signedAs(t, "HS256", `{"alg":"HS256","crit":["evil"]}`, connectClaims),
		signed(t, "HS256", `{"iss":"evil"}`),
		signed(t, "HS256", `{"iss":"backend","sub":["evil"]}`),
	} {
		if _, err := v.Connect(t.Context(), token); err == nil || strings.Contains(err.Error(), "evil") {
			t.Errorf("error %v", err)
		}
	}
}

func TestConnectAllocates(t *testing.T) {
	v := newVerifier(t, Options{})
	tok := signed(t, "HS256", connectClaims)
	// The user and the info. The race detector makes sync.Pool drop things.
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Connect(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}); n > 2 && !raceEnabled {
		t.Errorf("Connect allocates %v times, want 2", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if v.Waits(tok) {
			t.Fatal("HS256 waits")
		}
	}); n > 0 {
		t.Errorf("Waits allocates %v times", n)
	}
}

// TestConcurrent is for the race detector: one Verifier, all that it does, from many goroutines.
func TestConcurrent(t *testing.T) {
	v := newVerifier(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		alg := []string{"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"}[i%6]
		user := fmt.Sprint("user-", i)
		tok := signed(t, alg, `{"sub":"`+user+`","info":{"u":"`+user+`"}}`)
		bad := flip(string(tok))
		wg.Go(func() {
			for range 50 {
				c, err := v.Connect(t.Context(), tok)
				var info struct{ U string }
				if err != nil || c.User != user || json.Unmarshal(c.Info, &info) != nil || info.U != user {
					t.Errorf("%s: %+v, %v", alg, c, err)
				}
				if _, err := v.Connect(t.Context(), bad); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s, flipped: %v", alg, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSlow(t *testing.T) {
	v, err := New(Options{HMACSecret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{`{"alg":"HS256"}`: false, `{"alg":"HS512","typ":"JWT"}`: false, `{"alg":"RS256"}`: true, `{"alg":"EdDSA"}`: true, `{"alg":"none"}`: false} {
		token := base64.RawURLEncoding.EncodeToString([]byte(header)) + ".e30." + base64.RawURLEncoding.EncodeToString([]byte("signature"))
		if got := v.Slow([]byte(token)); got != want {
			t.Errorf("Slow(%s) = %v, want %v", header, got, want)
		}
	}
}
