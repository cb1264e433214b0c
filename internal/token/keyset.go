package token

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// What a key set may have: more of it is not from a key server.
const (
	maxSetSize = 1 << 20 // bytes
	maxSetKeys = 256
)

// keySet is the key set at an address, fetched when a token needs it and kept.
type keySet struct {
	url                       string
	http                      *http.Client
	now                       func() time.Time
	interval, maxAge, timeout time.Duration

	ctx     context.Context // of all requests; ends with close
	stop    context.CancelFunc
	fetches sync.WaitGroup

	mu     sync.Mutex
	keys   map[string][]key // by kid, which is not always unique (RFC 7517 section 4.5)
	loaded time.Time        // when keys were asked for; zero before the first set
	tried  time.Time        // when the last request began; zero before the first
	failed error            // of the last request; nil if it was answered with a key set, or before the first
	flight chan struct{}    // closed when the running request has ended; nil while none runs
}

func newKeySet(o Options, now func() time.Time) *keySet {
	s := &keySet{
		url:      o.JWKSURL,
		http:     o.HTTP,
		now:      now,
		interval: cmp.Or(o.JWKSInterval, 10*time.Second),
		maxAge:   cmp.Or(o.JWKSMaxAge, time.Hour),
		timeout:  cmp.Or(o.JWKSTimeout, 5*time.Second),
	}
	if s.http == nil {
		s.http = &http.Client{CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 5 || via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("bad redirect")
			}
			return nil
		}}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

func (s *keySet) close() {
	s.mu.Lock()
	s.stop() // under mu: no request starts once close waits
	s.mu.Unlock()
	s.fetches.Wait()
}

// look returns the keys of kid as they are now, whether they are worth a request, and whether a caller should wait
// for its end. Nobody waits for a fresh set with a key in hand while the endpoint is down. mu must be held.
func (s *keySet) look(kid string) (keys []key, fetch, wait bool) {
	keys = s.keys[kid]
	now := s.now()
	if len(keys) > 0 && now.Sub(s.loaded) < s.maxAge {
		return keys, false, false
	}
	fetch = s.flight == nil && s.ctx.Err() == nil && (s.tried.IsZero() || now.Sub(s.tried) >= s.interval)
	wait = (fetch || s.flight != nil) && (len(keys) == 0 || s.failed == nil)
	return keys, fetch, wait
}

func (s *keySet) waits(kid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _, wait := s.look(kid)
	return wait
}

// find returns the keys of kid, one at least.
func (s *keySet) find(ctx context.Context, kid string) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, fetch, wait := s.look(kid)
	if fetch {
		s.tried = s.now()
		s.flight = make(chan struct{})
		s.fetches.Go(s.fetch)
	}
	if wait {
		flight := s.flight
		s.mu.Unlock()
		var err error
		select {
		case <-flight:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.mu.Lock()
		if keys = s.keys[kid]; err != nil && len(keys) == 0 {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	switch {
	case len(keys) > 0:
		return keys, nil
	case s.failed != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.failed)
	case s.ctx.Err() != nil:
		return nil, fmt.Errorf("%w: closed", ErrUnavailable)
	}
	return nil, ErrUnverifiable
}

// fetch makes the request that find has announced in flight. It runs on a goroutine of its own, so that it does not
// end with the one caller that began it.
func (s *keySet) fetch() {
	keys, err := s.request()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed = err; err == nil {
		s.keys, s.loaded = keys, s.tried
	}
	close(s.flight)
	s.flight = nil
}

func (s *keySet) request() (map[string][]key, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSetSize+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxSetSize {
		return nil, errors.New("answered with more than 1 MiB")
	}
	return parseSet(body)
}

// parseSet reads a key set (RFC 7517 section 5). It leaves out the keys that parseJWK does not take.
func parseSet(b []byte) (map[string][]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("answered with no key set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("answered with no key set: no keys")
	}
	if len(set.Keys) > maxSetKeys {
		return nil, fmt.Errorf("answered with %d keys, more than %d", len(set.Keys), maxSetKeys)
	}
	keys := make(map[string][]key)
	for _, raw := range set.Keys {
		if k, kid, ok := parseJWK(raw); ok {
			keys[kid] = append(keys[kid], k)
		}
	}
	return keys, nil
}
