package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/longwire/longwire/bench/target"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/ws"
)

const (
	endpoint = "/connection/websocket"
	secret   = "of this measurement"
	apiKey   = "key of this measurement"
)

// The channels: those of keep have history, and are recoverable; those of pass have none.
const file = `token-hmac-secret: ` + secret + `
api-key: ` + apiKey + `
anonymous: true
client-stale: 60s
namespaces:
  - name: keep
    allow-subscribe-for-client: true
    allow-publish-for-client: true
    history-size: 100
    history-ttl: 10m
    force-recovery: true
  - name: pass
    allow-subscribe-for-client: true
    allow-publish-for-client: true
`

// server is a process that is measured.
type server struct{ *target.Target }

// serve starts longwire for so many conns, with further flags.
func (b *bench) serve(ctx context.Context, conns int, flags ...string) (*server, error) {
	name := filepath.Join(b.dir, "longwire.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		return nil, err
	}
	argv := append([]string{filepath.Join(b.bin, "longwire"), "serve", "--config", name, "--addr", "127.0.0.1:0",
		"--max-conns", fmt.Sprint(conns + conns/100 + 1000), "--drain", "0s", "--loops", fmt.Sprint(b.o.loops)}, flags...)
	if b.o.profile != "" {
		argv = append(argv, "--admin", b.o.profile, "--admin-insecure")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t, err := target.Start(ctx, "longwire", endpoint, argv...)
	if err != nil {
		return nil, err
	}
	return &server{t}, nil
}

// floor starts the bare loops that write.
func (b *bench) floor(ctx context.Context, conns int) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t, err := target.Start(ctx, "floor", "/", filepath.Join(b.bin, "floor"), "-fanout", "-loops", fmt.Sprint(b.o.loops))
	if err != nil {
		return nil, err
	}
	return &server{t}, nil
}

// cpu is the processor time that it has used. Of a process that is over it is 0; until tells of that.
func (s *server) cpu() time.Duration {
	d, _ := s.CPU()
	return d
}

// rss is its resident memory in bytes, in the same way.
func (s *server) rss() int64 {
	n, _, _ := s.Memory()
	return n
}

// clients are a fleet and what it speaks; speech is nil where they only shake hands.
type clients struct {
	*fleet.Fleet
	speech *fleet.Centrifuge
	n      int
}

// clients makes n of them. A nil script has them only shake hands.
func (b *bench) clients(s *server, n int, script *fleet.Script) (*clients, error) {
	c := fleet.Config{Target: s.Addr, Conns: n, Pending: b.o.pending, Rate: b.o.opens, Private: true, Timeout: 30 * time.Second,
		Dial: ws.Dial{Target: endpoint}, Log: slog.New(slog.DiscardHandler)}
	if n <= 15_000 {
		c.Loops = 1 // the same for all that are compared
	}
	k := &clients{n: n}
	if script != nil {
		k.speech = fleet.NewCentrifuge(*script)
		c.Speak = k.speech.Speak
	}
	var err error
	k.Fleet, err = fleet.New(c)
	return k, err
}

// open opens all of them, and waits until so many subscriptions are there.
func (k *clients) open(ctx context.Context, s *server, subscriptions int) error {
	if err := k.Open(ctx); err != nil {
		return err
	}
	return k.stand(ctx, s, subscriptions)
}

// stand waits until all are connected and have so many subscriptions in all.
func (k *clients) stand(ctx context.Context, s *server, subscriptions int) error {
	if k.speech == nil {
		return k.whole()
	}
	err := until(ctx, s, func() bool {
		h := k.speech.Heard()
		return len(h.Wrong) > 0 || k.Counts().Open < int64(k.n) || h.Connected == int64(k.n) && h.Subscribed == int64(subscriptions)
	}, func() string { return fmt.Sprintf("%d clients connect: %+v", k.n, k.speech.Heard()) })
	if err != nil {
		return err
	}
	return k.whole()
}

// whole reports whether all stand and nothing was wrong until now.
func (k *clients) whole() error {
	if c := k.Counts(); c.Open != int64(k.n) {
		return fmt.Errorf("%d of %d conns stand: failed %v, lost %v", c.Open, k.n, c.Failed, c.Lost)
	}
	if k.speech == nil {
		return nil
	}
	if h := k.speech.Heard(); len(h.Wrong) > 0 {
		return fmt.Errorf("clients heard what must not be: %v", h.Wrong)
	}
	return nil
}

// heard waits until all clients together have heard so many publications, and not more.
func (k *clients) heard(ctx context.Context, s *server, want int64) error {
	err := until(ctx, s, func() bool {
		h := k.speech.Heard()
		return h.Publications >= want || len(h.Wrong) > 0 || k.Counts().Open < int64(k.n)
	}, func() string {
		return fmt.Sprintf("%d of %d publications delivered", k.speech.Heard().Publications, want)
	})
	if err != nil {
		return err
	}
	if h := k.speech.Heard(); h.Publications != want {
		return fmt.Errorf("%d publications delivered, want %d: %v", h.Publications, want, h.Wrong)
	}
	return k.whole()
}

// shut closes all conns in good order, so that their end costs no other part anything.
func (k *clients) shut(ctx context.Context) error {
	if err := k.CloseAll(ctx, 0); err != nil {
		return err
	}
	return k.Close()
}

// token appends the token of user n, signed with HS256.
func token(dst []byte, n int) []byte {
	begin := len(dst)
	dst = append(dst, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."...) // {"alg":"HS256","typ":"JWT"}
	var claims [96]byte
	c := append(claims[:0], `{"sub":"`...)
	c = append(user(c, n), `","exp":`...)
	c = strconv.AppendInt(c, expiry, 10)
	c = append(c, '}')
	dst = base64.RawURLEncoding.AppendEncode(dst, c)
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(dst[begin:])
	var sum [32]byte
	dst = append(dst, '.')
	return base64.RawURLEncoding.AppendEncode(dst, h.Sum(sum[:0]))
}

// expiry is when all tokens expire, in Unix seconds: after the run.
var expiry = time.Now().Add(24 * time.Hour).Unix()

func user(dst []byte, n int) []byte { return strconv.AppendInt(append(dst, "user"...), int64(n), 10) }

// data is what is published: an object of about size bytes, with the time t of sending.
func data(t time.Duration, size int) string {
	return fmt.Sprintf(`{"t":%d,"text":"%s"}`, int64(t), strings.Repeat("x", max(0, size-32)))
}
