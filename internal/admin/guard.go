package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// GuardOptions say who is let in. The zero value lets nobody in.
type GuardOptions struct {
	// Token is what callers show, as Authorization: Bearer. Empty lets nobody in, unless Insecure is set.
	Token string
	// Insecure lets everybody in, but for what a browser sends for a page of another origin.
	Insecure bool
	// Mask is a caller's address as the log may have it. Nil shows it whole.
	Mask func(netip.Addr) netip.Addr
	// Log gets wrong tokens, at most one line a second. Nil means slog.Default().
	Log *slog.Logger
}

// Guard lets those pass who show a token, and has the others wait after some wrong ones: ten at once and one in five seconds
// for an address (of IPv6, a /64), and a hundred and one in a second for all addresses together that have not shown the right
// one within the last hour. Nobody's token is looked at while they have to wait, so that guessing is no faster. Any goroutine may use it.
type Guard struct {
	o      GuardOptions
	want   [sha256.Size]byte
	origin *http.CrossOriginProtection
	now    func() time.Time

	mu     sync.Mutex
	all    tries                   // guarded by mu
	from   map[netip.Prefix]*tries // guarded by mu
	noted  time.Time               // guarded by mu: of the last line in the log
	silent int                     // guarded by mu: wrong tokens since
}

// tries is how many wrong tokens somebody may show.
type tries struct {
	left float64
	at   time.Time // of left
	good time.Time // when the right one was shown last
}

// The limits.
const (
	triesEach  = 10
	eachAgain  = 5 * time.Second // for one more
	triesAll   = 100
	allAgain   = time.Second
	knownFor   = time.Hour
	mostCalled = 4096 // addresses that are told apart
)

// NewGuard makes a guard.
func NewGuard(o GuardOptions) *Guard {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Mask == nil {
		o.Mask = func(a netip.Addr) netip.Addr { return a }
	}
	return &Guard{o: o, want: sha256.Sum256([]byte(o.Token)), origin: http.NewCrossOriginProtection(), now: time.Now,
		all: tries{left: triesAll}, from: make(map[netip.Prefix]*tries)}
}

// Wrap is h for those who may come in.
func (g *Guard) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.admit(w, r) {
			h.ServeHTTP(w, r)
		}
	})
}

// admit answers those who may not come in.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request) bool {
	if g.o.Insecure {
		if err := g.origin.Check(r); err != nil {
			fail(w, http.StatusForbidden, "forbidden", "a page of another origin may not call this")
			return false
		}
		return true
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		w.Header().Set("WWW-Authenticate", `Bearer realm="longwire"`)
		fail(w, http.StatusUnauthorized, "unauthorized", "want the admin token, as Authorization: Bearer TOKEN")
		return false
	}
	// Hashes have one length: not even that of the token shows in the time that this takes.
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	right := subtle.ConstantTimeCompare(sum[:], g.want[:]) == 1 && g.o.Token != ""
	from := caller(r)
	if wait := g.try(from, right); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		fail(w, http.StatusTooManyRequests, "too_many_tries", "too many wrong tokens: wait as Retry-After says")
		return false
	}
	if !right {
		g.wrong(from)
		w.Header().Set("WWW-Authenticate", `Bearer realm="longwire", error="invalid_token"`)
		fail(w, http.StatusUnauthorized, "wrong_token", "this is not the admin token")
		return false
	}
	return true
}

// caller is what tries are counted for: an IPv4 address, or an IPv6 /64.
func caller(r *http.Request) netip.Prefix {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // what has no address is one caller
	a := ap.Addr().Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// refill gives tries back for the time that went by.
func (t *tries) refill(now time.Time, most float64, again time.Duration) {
	if d := now.Sub(t.at); d > 0 && !t.at.IsZero() {
		t.left = min(most, t.left+d.Seconds()/again.Seconds())
	}
	t.at = now
}

// known reports whether the right token was shown not long ago.
func (t *tries) known(now time.Time) bool { return !t.good.IsZero() && now.Sub(t.good) < knownFor }

// try says how long to wait before a token from there is looked at, the right one too. If that is not at all, a wrong one has taken a try. The
// right one takes none, however many requests come with it at a time.
func (g *Guard) try(from netip.Prefix, right bool) (wait time.Duration) {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.of(from, now)
	t.refill(now, triesEach, eachAgain)
	g.all.refill(now, triesAll, allAgain)
	known := t.known(now)
	switch {
	case t.left < 1:
		return time.Duration((1 - t.left) * float64(eachAgain))
	case !known && g.all.left < 1:
		return time.Duration((1 - g.all.left) * float64(allAgain))
	}
	if right {
		t.good = now
		return 0
	}
	t.left--
	if !known {
		g.all.left--
	}
	return 0
}

// of is the tries of a caller. Those who find no place share one.
func (g *Guard) of(from netip.Prefix, now time.Time) *tries {
	t, ok := g.from[from]
	if ok {
		return t
	}
	if len(g.from) >= mostCalled {
		for p, t := range g.from {
			if t.refill(now, triesEach, eachAgain); t.left >= triesEach && !t.known(now) {
				delete(g.from, p)
			}
		}
		if len(g.from) >= mostCalled {
			from = netip.Prefix{}
			if t, ok := g.from[from]; ok {
				return t
			}
		}
	}
	t = &tries{left: triesEach, at: now}
	g.from[from] = t
	return t
}

// wrong logs a wrong token.
func (g *Guard) wrong(from netip.Prefix) {
	now := g.now()
	g.mu.Lock()
	if now.Sub(g.noted) < time.Second {
		g.silent++
		g.mu.Unlock()
		return
	}
	before := g.silent
	g.noted, g.silent = now, 0
	g.mu.Unlock()
	g.o.Log.Warn("wrong admin token", "addr", g.o.Mask(from.Addr()).String(), "and_before", before)
}
