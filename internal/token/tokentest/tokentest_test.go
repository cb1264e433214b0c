package tokentest_test

import (
	"errors"
	"testing"

	"github.com/longwire/longwire/internal/token"
	"github.com/longwire/longwire/internal/token/tokentest"
)

// TestTokens has the server's verifier take what is signed well, and nothing else.
func TestTokens(t *testing.T) {
	const secret, claims = "a secret", `{"sub":"ann","info":{"n":1}}`
	v, err := token.New(token.Options{HMACSecret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if c, err := v.Connect(t.Context(), []byte(tokentest.HS256(secret, claims))); err != nil || c.User != "ann" || string(c.Info) != `{"n":1}` {
		t.Errorf("%+v, %v; want ann", c, err)
	}
	for name, text := range map[string]string{
		"another secret": tokentest.HS256("another secret", claims),
		"alg none":       tokentest.Claiming("none", secret, claims),
		"alg HS512":      tokentest.Claiming("HS512", secret, claims),
	} {
		if _, err := v.Connect(t.Context(), []byte(text)); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
