// Package token verifies the JSON Web Tokens (RFC 7519) with which a backend lets its users connect and
// subscribe. Claims mean what they mean to Centrifugo, so a backend's tokens work here unchanged.
//
// A token is good when a configured key verifies its signature and its claims hold now. A key is only ever
// used with the algorithms of its own family; what a token's header says about keys (jwk, jku, x5c) is ignored,
// but for the kid that picks one from the key set of Options.JWKSURL.
package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"
)

// MaxSize is how long a token may be, in bytes. A longer one is invalid.
const MaxSize = 16 << 10

// Errors of Connect and Subscribe, to be tested with errors.Is: one of ErrExpired, ErrInvalid and ErrUnavailable
// is in every error. The text around them is for logs and repeats nothing from the token.
var (
	// ErrExpired is the error of a token that would be good, had its exp not passed: the client needs a new one.
	ErrExpired = errors.New("token: expired")
	// ErrInvalid is the error of a token that will never do, or not yet (nbf).
	ErrInvalid = errors.New("token: invalid")
	// ErrUnverifiable is an ErrInvalid: no key is configured for the algorithm of the token, or for its kid.
	ErrUnverifiable = fmt.Errorf("%w: no key for it", ErrInvalid)
	// ErrUnavailable means that the key set could not be fetched. It is temporary and says nothing of the token.
	ErrUnavailable = errors.New("token: key set unavailable")
)

// Options configure a Verifier. Without any key it refuses every token. Keys of several families may be given.
type Options struct {
	// HMACSecret verifies HS256, HS384 and HS512. Empty means that these are refused. New keeps a copy.
	HMACSecret []byte
	// RSAPublicKey, in PEM, verifies RS256, RS384 and RS512. It has 2048 bits or more (RFC 7518 section 3.3).
	RSAPublicKey string
	// ECDSAPublicKey, in PEM, verifies the one algorithm of its curve: ES256, ES384 or ES512.
	ECDSAPublicKey string
	// Ed25519PublicKey, in PEM, verifies EdDSA.
	Ed25519PublicKey string

	// JWKSURL is the http or https address of a JSON Web Key Set (RFC 7517). Where it is set, its keys alone
	// verify the tokens that have a kid, HS* ones aside. Its symmetric keys are ignored, and so are those for
	// another use than sig.
	JWKSURL string
	// JWKSInterval is the least time between two requests to JWKSURL, whatever tokens come. Zero means 10 s.
	JWKSInterval time.Duration
	// JWKSMaxAge is how long a key set is used before it is fetched again, so that a key that was taken out of
	// it stops to work. While the endpoint is down, the last set stays in use. Zero means 1 h.
	JWKSMaxAge time.Duration
	// JWKSTimeout bounds one request to JWKSURL. Zero means 5 s.
	JWKSTimeout time.Duration
	// HTTP makes the requests to JWKSURL. Nil means a client that does not follow a redirect from https to http.
	HTTP *http.Client

	// Audience, when set, must be aud or one of its elements. AudienceRegex is the same with a pattern, which
	// must match all of it. Only one of the two may be set.
	Audience, AudienceRegex string
	// Issuer, when set, must be iss. IssuerRegex is the same with a pattern, which must match all of it. Only
	// one of the two may be set.
	Issuer, IssuerRegex string
	// UserClaim names the claim that holds the user. Empty means "sub". In any other, an integer is fine too.
	UserClaim string

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Verifier verifies tokens. Its methods may be called from any goroutine.
type Verifier struct {
	secret    []byte         // frozen
	keys      map[family]key // frozen
	set       *keySet        // frozen; nil without JWKSURL
	audience  func([]byte) bool
	issuer    func([]byte) bool
	userClaim string
	now       func() time.Time
	scratch   sync.Pool // of *scratch
}

// New returns a Verifier. Its errors name the option that is wrong. Close the Verifier after use.
func New(o Options) (*Verifier, error) {
	v := &Verifier{
		secret:    bytes.Clone(o.HMACSecret),
		keys:      make(map[family]key),
		userClaim: o.UserClaim,
		now:       o.Now,
	}
	v.scratch.New = func() any { return new(scratch) }
	if v.now == nil {
		v.now = time.Now
	}
	if v.userClaim == "" {
		v.userClaim = "sub"
	}
	if new(claims).slot([]byte(v.userClaim)) != nil {
		return nil, fmt.Errorf("token: UserClaim: %q has a meaning of its own", v.userClaim)
	}
	// Whoever reads a public key could sign with it, were it the secret too.
	if bytes.Contains(v.secret, []byte("-----BEGIN ")) {
		return nil, errors.New("token: HMACSecret: is a PEM block, not a secret")
	}
	for _, p := range []struct {
		option, pem string
		family      family
	}{
		{"RSAPublicKey", o.RSAPublicKey, familyRSA},
		{"ECDSAPublicKey", o.ECDSAPublicKey, familyECDSA},
		{"Ed25519PublicKey", o.Ed25519PublicKey, familyEd25519},
	} {
		if p.pem == "" {
			continue
		}
		k, err := parsePEM(p.pem)
		if err == nil && k.family() != p.family {
			err = fmt.Errorf("is a %T", k.public)
		}
		if err != nil {
			return nil, fmt.Errorf("token: %s: %w", p.option, err)
		}
		v.keys[p.family] = k
	}
	var err error
	if v.audience, err = matcher(o.Audience, o.AudienceRegex); err != nil {
		return nil, fmt.Errorf("token: AudienceRegex: %w", err)
	}
	if v.issuer, err = matcher(o.Issuer, o.IssuerRegex); err != nil {
		return nil, fmt.Errorf("token: IssuerRegex: %w", err)
	}
	if o.JWKSURL != "" {
		u, err := url.Parse(o.JWKSURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, errors.New("token: JWKSURL: not an http or https address") // which may hold a password
		}
		v.set = newKeySet(o, v.now)
	}
	return v, nil
}

// matcher returns what tells whether a claim is as an option says it must be, or nil for no such option.
func matcher(exact, pattern string) (func([]byte) bool, error) {
	switch {
	case exact != "" && pattern != "":
		return nil, errors.New("set beside the exact value")
	case exact != "":
		return func(b []byte) bool { return string(b) == exact }, nil
	case pattern != "":
		if _, err := regexp.Compile(pattern); err != nil { // before ")|(" could be made good by what goes around it
			return nil, err
		}
		re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
		if err != nil {
			return nil, err
		}
		return re.Match, nil
	}
	return nil, nil
}

// Close ends a request for the key set that may still run, and waits for its goroutine. Tokens that need no
// request verify on.
func (v *Verifier) Close() {
	if v.set != nil {
		v.set.close()
	}
}

// Waits tells whether verifying token may wait for the key set to be fetched: then it must not be done on a
// goroutine that others depend on. It does not wait itself.
func (v *Verifier) Waits(token []byte) bool {
	if v.set == nil {
		return false
	}
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	t, err := s.parse(token)
	return err == nil && t.fromSet() && v.set.waits(string(t.kid))
}

// Slow tells whether verifying token is nothing for an event loop: its signature takes 30 to 600 µs of CPU where an
// HMAC takes 2, and the key set may have to be fetched besides (Waits). It does not wait itself.
func (v *Verifier) Slow(token []byte) bool {
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	t, err := s.parse(token)
	return err == nil && t.alg.family != familyHMAC
}

// Connect verifies a connection token. token is not retained. ctx bounds the wait for the key set.
func (v *Verifier) Connect(ctx context.Context, token []byte) (Connect, error) {
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	c, err := v.verify(ctx, s, token)
	if err != nil {
		return Connect{}, err
	}
	connect, err := c.connect(v.userClaim)
	if err == nil {
		err = v.times(c)
	}
	if err != nil {
		return Connect{}, err
	}
	return connect, nil
}

// Subscribe verifies a subscription token. token is not retained. ctx bounds the wait for the key set. That the
// user and the channel are those of the connection and of its request is the caller's to check.
func (v *Verifier) Subscribe(ctx context.Context, token []byte) (Subscribe, error) {
	s := v.scratch.Get().(*scratch)
	defer v.scratch.Put(s)
	c, err := v.verify(ctx, s, token)
	if err != nil {
		return Subscribe{}, err
	}
	subscribe, err := c.subscribe(v.userClaim)
	if err == nil {
		err = v.times(c)
	}
	if err != nil {
		return Subscribe{}, err
	}
	return subscribe, nil
}

// verify checks everything that the two kinds of token have in common, but for the times. The claims alias s.
func (v *Verifier) verify(ctx context.Context, s *scratch, token []byte) (*claims, error) {
	t, err := s.parse(token)
	if err != nil {
		return nil, err
	}
	if err := v.signature(ctx, s, t); err != nil {
		return nil, err
	}
	c, err := s.readClaims(t.payload, v.userClaim)
	if err != nil {
		return nil, err
	}
	if v.issuer != nil {
		if iss, err := text(c.iss); err != nil || c.iss == nil || !v.issuer(iss) {
			return nil, invalid("iss")
		}
	}
	if v.audience != nil && !c.audience(v.audience) {
		return nil, invalid("aud")
	}
	return c, nil
}

func (v *Verifier) signature(ctx context.Context, s *scratch, t parsed) error {
	if t.alg.family == familyHMAC {
		if len(v.secret) == 0 {
			return ErrUnverifiable
		}
		if !s.hmac(t.alg, v.secret, t.signed, t.sig) {
			return invalid("signature")
		}
		return nil
	}
	if v.set != nil && t.fromSet() {
		keys, err := v.set.find(ctx, string(t.kid))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(keys, func(k key) bool { return k.verify(t.alg, t.signed, t.sig) }) {
			return invalid("signature")
		}
		return nil
	}
	k, ok := v.keys[t.alg.family]
	if !ok {
		return ErrUnverifiable
	}
	if !k.verify(t.alg, t.signed, t.sig) {
		return invalid("signature")
	}
	return nil
}

// times comes after all other checks: ErrExpired promises that a token with a later exp would do.
func (v *Verifier) times(c *claims) error {
	now := v.now()
	seconds := float64(now.Unix()) + float64(now.Nanosecond())/1e9
	if c.nbf != nil {
		nbf, err := date(c.nbf)
		if err != nil || seconds < nbf {
			return invalid("nbf")
		}
	}
	if c.exp != nil {
		exp, err := date(c.exp)
		if err != nil {
			return invalid("exp")
		}
		if seconds >= exp {
			return ErrExpired
		}
	}
	return nil
}

// invalid is an ErrInvalid that names the part of the token that is wrong.
func invalid(part string) error { return fmt.Errorf("%w: %s", ErrInvalid, part) }
