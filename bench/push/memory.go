package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/fleet"
)

// memory: what clients cost that are connected, then subscribed to a shared channel and to one of their own, with pings
// on; then one publication to all.
func (b *bench) memory(ctx context.Context) error {
	n := b.o.conns
	ctx, cancel := context.WithTimeout(ctx, patience(n))
	defer cancel()
	// Every client is pinged while it is looked at: often where that is little work, else as it is by default.
	ping := 5 * time.Second
	if n > 60_000 {
		ping = 25 * time.Second
	}
	s, err := b.serve(ctx, n, "--client-ping", ping.String(), "--client-pong-timeout", (ping * 4 / 5).String())
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	start := time.Now()
	own := "pass:user"
	if b.o.own {
		own = "keep:user"
	}
	script := fleet.Script{Token: token, Channels: 2, Start: start, Channel: func(dst []byte, n, k int) []byte {
		if k == 0 {
			return append(dst, "keep:all"...)
		}
		return strconv.AppendInt(append(dst, own...), int64(n), 10)
	}}
	p, err := b.publisher(ctx, s)
	if err != nil {
		return err
	}
	defer p.close()
	// The first clients touch code and tables that stay.
	warm, err := b.clients(s, min(n, 500), &script)
	if err != nil {
		return err
	}
	if err := warm.open(ctx, s, 2*warm.n); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if err := p.publish(ctx, data(time.Since(start), 128), "keep:all"); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if err := warm.heard(ctx, s, int64(warm.n)); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if err := warm.shut(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	rss0 := s.rss()

	script.Later = true
	k, err := b.clients(s, n, &script)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	cpu := s.cpu()
	if err := k.open(ctx, s, 0); err != nil {
		return err
	}
	connect := perUnit(s.cpu()-cpu, n)
	say("memory: %d connected after %.1f s, %s", n, time.Since(start).Seconds(), k.Layout())
	// After two rounds of pings: every client has answered one, and what connecting left is collected.
	held := func() (int64, float64, error) {
		cpu, begin := s.cpu(), time.Now()
		if err := pause(ctx, 2*ping); err != nil {
			return 0, 0, err
		}
		if h := k.speech.Heard(); h.Pinged != int64(n) {
			return 0, 0, fmt.Errorf("%d of %d clients were pinged in %v", h.Pinged, n, 2*ping)
		}
		return s.rss(), (s.cpu() - cpu).Seconds() / time.Since(begin).Seconds(), k.whole()
	}
	connected, cores, err := held()
	if err != nil {
		return err
	}
	bytes := float64(connected-rss0) / float64(n)
	say("memory: connected %.0f B a client, RSS %.1f MB (%.1f at the start)", bytes, mb(connected), mb(rss0))
	b.report.add(row{Part: "memory", Figure: fmt.Sprintf("RSS a client: connected, pings on (%d clients)", n), Goal: "≤ 250 bytes",
		Value: fmt.Sprintf("%.0f bytes", bytes), Reached: reached(bytes <= 250),
		Remark: fmt.Sprintf("whole process %.1f MB, %.1f before; token with a user; connect %.1f µs; a ping each %v: %.3f cores", mb(connected), mb(rss0), connect, ping, cores)})

	cpu = s.cpu()
	if err := k.speech.Subscribe(ctx, k.Fleet); err != nil {
		return err
	}
	if err := k.stand(ctx, s, 2*n); err != nil {
		return err
	}
	subscribe := perUnit(s.cpu()-cpu, 2*n)
	subscribed, cores, err := held()
	if err != nil {
		return err
	}
	bytes = float64(subscribed-rss0) / float64(n)
	say("memory: subscribed %.0f B a client, RSS %.1f MB", bytes, mb(subscribed))
	good := bytes <= 600 && (n < 1_000_000 || subscribed <= 600e6*int64(n)/1_000_000)
	b.report.add(row{Part: "memory", Figure: "… and subscribed to one shared recoverable channel and one of its own", Goal: "≤ 600 bytes; 1,000,000 ≤ 600 MB",
		Value: fmt.Sprintf("%.0f bytes; %d: %.1f MB", bytes, n, float64(subscribed)/1e6), Reached: reached(good),
		Remark: fmt.Sprintf("its own: %s…; subscribe %.2f µs each; a ping each %v: %.3f cores", own, subscribe, ping, cores)})

	// Each channel of its own reaches its client and nobody else: a sample.
	sample := min(n, 100)
	for i := range sample {
		if err := p.publish(ctx, data(time.Since(start), 128), own+strconv.Itoa(i*(n/sample))); err != nil {
			return err
		}
	}
	if err := k.heard(ctx, s, int64(sample)); err != nil {
		return fmt.Errorf("own channels: %w", err)
	}
	cpu = s.cpu()
	begin := time.Since(start)
	if err := p.publish(ctx, data(begin, 128), "keep:all"); err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n+sample)); err != nil {
		return fmt.Errorf("one publication to all: %w", err)
	}
	last := k.speech.Heard().Last - begin
	if err := pause(ctx, 100*time.Millisecond); err != nil { // for more that should not come
		return err
	}
	used := s.cpu() - cpu
	bad, err := k.speech.Check(ctx, k.Fleet, func(i, ch int, at fleet.Position) bool {
		heard := uint32(1)
		if ch == 1 && (i%(n/sample) != 0 || i/(n/sample) >= sample) {
			heard = 0
		}
		return at.Subscribed && at.Heard == heard && (ch == 1 || at.Offset == 2) // the first one was in the warm-up
	})
	if err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n+sample)); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("one publication to all: %d subscriptions do not have exactly what was published", bad)
	}
	b.report.add(row{Part: "memory", Figure: fmt.Sprintf("one publication to %d subscribers", n), Goal: "shown",
		Value:  fmt.Sprintf("%d delivered, the last after %.2f s, server CPU %.2f s", n, last.Seconds(), used.Seconds()),
		Remark: fmt.Sprintf("%.2f µs a message; 128 bytes of data; clients on the same CPUs; RSS afterwards %.1f MB", perUnit(used, n), mb(s.rss()))})
	return k.shut(ctx)
}

func perUnit(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(max(1, n))
}

func mb(n int64) float64 { return float64(n) / 1e6 }
