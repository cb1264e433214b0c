package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// family is the kind of key that an algorithm takes.
type family uint8

const (
	familyHMAC family = iota + 1
	familyRSA
	familyECDSA
	familyEd25519
)

// algorithm is one of RFC 7518 section 3.1 or RFC 8037.
type algorithm struct {
	name   string
	family family
	hash   crypto.Hash
	curve  elliptic.Curve // of familyECDSA
}

// algorithms are all that there are here. "none" is not among them.
var algorithms = map[string]algorithm{
	"HS256": {"HS256", familyHMAC, crypto.SHA256, nil},
	"HS384": {"HS384", familyHMAC, crypto.SHA384, nil},
	"HS512": {"HS512", familyHMAC, crypto.SHA512, nil},
	"RS256": {"RS256", familyRSA, crypto.SHA256, nil},
	"RS384": {"RS384", familyRSA, crypto.SHA384, nil},
	"RS512": {"RS512", familyRSA, crypto.SHA512, nil},
	"ES256": {"ES256", familyECDSA, crypto.SHA256, elliptic.P256()},
	"ES384": {"ES384", familyECDSA, crypto.SHA384, elliptic.P384()},
	"ES512": {"ES512", familyECDSA, crypto.SHA512, elliptic.P521()},
	"EdDSA": {"EdDSA", familyEd25519, 0, nil},
}

func (a algorithm) digest(b []byte) []byte {
	switch a.hash {
	case crypto.SHA256:
		d := sha256.Sum256(b)
		return d[:]
	case crypto.SHA384:
		d := sha512.Sum384(b)
		return d[:]
	}
	d := sha512.Sum512(b)
	return d[:]
}

// key is a public key. public is an *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey.
type key struct {
	public any
	alg    string // the only algorithm it may be used with; empty for any of its family
}

func (k key) family() family {
	switch k.public.(type) {
	case *rsa.PublicKey:
		return familyRSA
	case *ecdsa.PublicKey:
		return familyECDSA
	}
	return familyEd25519
}

// verify tells whether sig is k's signature of signed by alg. With an algorithm that is not k's, nothing is.
func (k key) verify(alg algorithm, signed, sig []byte) bool {
	if k.alg != "" && k.alg != alg.name || k.family() != alg.family {
		return false
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, alg.hash, alg.digest(signed), sig) == nil
	case *ecdsa.PublicKey:
		size := (public.Curve.Params().BitSize + 7) / 8
		if public.Curve != alg.curve || len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(public, alg.digest(signed), r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(public, signed, sig)
	}
	return false
}

// usable refuses keys that are no good for any algorithm here.
func usable(public any) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if n := public.N.BitLen(); n < 2048 {
			return fmt.Errorf("has %d bits, fewer than 2048", n)
		}
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P224() {
			return errors.New("is on P-224, which no algorithm uses")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("is a %T", public)
	}
	return nil
}

// parsePEM reads a public key: a PKIX or PKCS #1 one, or that of a certificate.
func parsePEM(s string) (key, error) {
	block, rest := pem.Decode([]byte(s))
	if block == nil {
		return key{}, errors.New("not a PEM block")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return key{}, errors.New("more than one PEM block")
	}
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = certificate.PublicKey
		}
	default:
		err = fmt.Errorf("is a %q PEM block, not a public key", block.Type)
	}
	if err == nil {
		err = usable(public)
	}
	if err != nil {
		return key{}, err
	}
	return key{public: public}, nil
}

// parseJWK reads one key of a set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2). ok is false for
// what does not verify signatures here.
func parseJWK(b []byte) (k key, kid string, ok bool) {
	var j struct {
		Kty string   `json:"kty"`
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
		Alg string   `json:"alg"`
		Kid string   `json:"kid"`
		Crv string   `json:"crv"`
		N   string   `json:"n"`
		E   string   `json:"e"`
		X   string   `json:"x"`
		Y   string   `json:"y"`
	}
	if json.Unmarshal(b, &j) != nil || j.Kid == "" || j.Use != "" && j.Use != "sig" ||
		j.Ops != nil && !slices.Contains(j.Ops, "verify") {
		return key{}, "", false
	}
	var public any
	switch j.Kty + j.Crv {
	case "RSA":
		n, err := encoding.DecodeString(j.N)
		e, errE := encoding.DecodeString(j.E)
		exponent := new(big.Int).SetBytes(e)
		if err != nil || errE != nil || exponent.BitLen() > 31 || exponent.BitLen() < 2 {
			return key{}, "", false
		}
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	case "ECP-256", "ECP-384", "ECP-521":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		x, err := encoding.DecodeString(j.X)
		y, errY := encoding.DecodeString(j.Y)
		if err != nil || errY != nil || len(x) != len(y) {
			return key{}, "", false
		}
		point, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
		if err != nil {
			return key{}, "", false
		}
		public = point
	case "OKPEd25519":
		x, err := encoding.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return key{}, "", false
		}
		public = ed25519.PublicKey(x)
	}
	if usable(public) != nil {
		return key{}, "", false
	}
	return key{public: public, alg: j.Alg}, j.Kid, true
}
