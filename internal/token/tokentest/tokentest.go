// Package tokentest signs tokens for tests, as an application's backend does. It shares no code with package token.
package tokentest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// HS256 is a token with those claims, which are a JSON object.
func HS256(secret, claims string) string { return Claiming("HS256", secret, claims) }

// Claiming is a token that says it is signed with alg, and is with HS256, or not at all where it says none.
func Claiming(alg, secret, claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(`{"alg":"`+alg+`","typ":"JWT"}`)) + "." + enc([]byte(claims))
	if alg == "none" {
		return signed + "."
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + enc(mac.Sum(nil))
}
