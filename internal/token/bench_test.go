package token

import "testing"

func BenchmarkConnect(b *testing.B) {
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS256", "ES256", "ES384", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			v := newVerifier(b, Options{})
			tok := signed(b, alg, connectClaims)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Connect(b.Context(), tok); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnectFull is a token that uses most of what there is.
func BenchmarkConnectFull(b *testing.B) {
	v := newVerifier(b, Options{Audience: "push", Issuer: "backend"})
	tok := signed(b, "HS256", fullClaims)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Connect(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConnectForged is what a token with a bad signature costs.
func BenchmarkConnectForged(b *testing.B) {
	v := newVerifier(b, Options{HMACSecret: []byte("another")})
	tok := signed(b, "HS256", connectClaims)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Connect(b.Context(), tok); err == nil {
			b.Fatal("taken")
		}
	}
}

func BenchmarkSubscribe(b *testing.B) {
	v := newVerifier(b, Options{})
	tok := signed(b, "HS256", subscribeClaims)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Subscribe(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}
