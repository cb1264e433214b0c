package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func seeds(f *testing.F, name string) {
	if s, err := filepath.Glob("testdata/fuzz/" + name + "/*"); err != nil || len(s) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
}

// FuzzConnect takes any header and any claims, signed well, and holds what is taken against encoding/json. Then it
// changes one byte of the token, which must not be taken any more.
func FuzzConnect(f *testing.F) {
	seeds(f, "FuzzConnect")
	v := newVerifier(f, Options{HMACSecret: secret})
	f.Fuzz(func(t *testing.T, header, claims string, at int, to byte) {
		token := signedAs(t, "HS256", header, claims)
		c, err := v.Connect(t.Context(), token)
		if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrExpired) {
			t.Fatalf("error %v is none of ours", err)
		}
		if err == nil {
			var h map[string]any
			var p map[string]json.RawMessage
			if json.Unmarshal([]byte(header), &h) != nil || h["alg"] != "HS256" || h["crit"] != nil {
				t.Fatalf("took the header %q", header)
			}
			if e := json.Unmarshal([]byte(claims), &p); e != nil {
				t.Fatalf("took the claims %q: %v", claims, e)
			}
			var user string
			if p["sub"] != nil && json.Unmarshal(p["sub"], &user) != nil || user != c.User {
				t.Fatalf("claims %q have the user %q, not %q", claims, user, c.User)
			}
			var exp float64
			if p["exp"] != nil && string(p["exp"]) != "null" {
				if json.Unmarshal(p["exp"], &exp) != nil || exp <= float64(start.Unix()) {
					t.Fatalf("took the claims %q, which expired", claims)
				}
			}
			if p["b64info"] == nil && c.Info != nil {
				var got, want any
				if bytes.ContainsAny(c.Info, "\r\n") || json.Unmarshal(c.Info, &got) != nil || json.Unmarshal(p["info"], &want) != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("claims %q have the info %s", claims, c.Info)
				}
			}
		}
		// The same claims as a subscription never are both.
		if _, errSub := v.Subscribe(t.Context(), token); err == nil && errSub == nil {
			t.Fatalf("%q is a token of both kinds", claims)
		}
		at = int(uint(at) % uint(len(token)))
		if token[at] == to {
			return
		}
		token[at] = to
		if _, err := v.Connect(t.Context(), token); err == nil {
			t.Fatalf("took %q with another byte at %d", token, at)
		}
	})
}

// FuzzToken takes bytes as they come, for both kinds of token: what is taken has three parts and a signature that
// crypto/hmac makes too.
func FuzzToken(f *testing.F) {
	seeds(f, "FuzzToken")
	v := newVerifier(f, Options{HMACSecret: secret})
	f.Fuzz(func(t *testing.T, token []byte) {
		_, err := v.Connect(t.Context(), token)
		_, errSub := v.Subscribe(t.Context(), token)
		if err != nil && errSub != nil {
			return
		}
		parts := strings.Split(string(token), ".")
		if len(parts) != 3 {
			t.Fatalf("took %q, which has %d parts", token, len(parts))
		}
		sig, err := base64.RawURLEncoding.DecodeString(parts[2])
		h := map[int]func() hash.Hash{sha256.Size: sha256.New, sha512.Size384: sha512.New384, sha512.Size: sha512.New}[len(sig)]
		if err != nil || h == nil || !hmac.Equal(sig, hmacOf(h, secret, []byte(parts[0]+"."+parts[1]))) {
			t.Fatalf("took %q, which has no good signature", token)
		}
	})
}

// FuzzSet takes any key set: what is taken of it can verify without a panic.
func FuzzSet(f *testing.F) {
	seeds(f, "FuzzSet")
	f.Fuzz(func(t *testing.T, set []byte) {
		keys, err := parseSet(set)
		if err == nil && !json.Valid(set) {
			t.Fatalf("took %q", set)
		}
		for kid, of := range keys {
			for _, k := range of {
				sig := bytes.Repeat([]byte{0xff}, 64) // out of range for a curve
				if public, ok := k.public.(*rsa.PublicKey); ok {
					sig = make([]byte, public.Size())
					sig[len(sig)-1] = 2
				}
				for _, alg := range algorithms {
					if k.verify(alg, []byte("signed"), sig) {
						t.Fatalf("key %q of %q has signed what nobody signed", kid, set)
					}
				}
			}
		}
	})
}
