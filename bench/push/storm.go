package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/longwire/longwire/internal/fleet"
)

const (
	stormChannels = 100
	stormMissed   = 10
	stormTries    = 5
)

// storm: all clients are cut at once, miss publications, and come back as fast as both sides can, while more is
// published.
func (b *bench) storm(ctx context.Context) error {
	n := b.o.storm
	ctx, cancel := context.WithTimeout(ctx, patience(2*n))
	defer cancel()
	s, err := b.serve(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	channels := make([]string, stormChannels)
	for i := range channels {
		channels[i] = "keep:s" + strconv.Itoa(i)
	}
	start := time.Now()
	k, err := b.clients(s, n, &fleet.Script{Token: token, Channels: 1, Start: start, Channel: func(dst []byte, n, _ int) []byte {
		return append(dst, channels[n%stormChannels]...)
	}})
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if err := k.open(ctx, s, n); err != nil {
		return err
	}
	p, err := b.publisher(ctx, s)
	if err != nil {
		return err
	}
	defer p.close()
	published := 0
	publish := func() error {
		published++
		return p.publish(ctx, data(time.Since(start), 128), channels...)
	}
	if err := publish(); err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n)); err != nil {
		return err
	}
	say("storm: %d subscribed after %.1f s", n, time.Since(start).Seconds())

	if err := k.Cut(ctx); err != nil {
		return err
	}
	if c := k.Counts(); c.Open != 0 || c.Closed != int64(n) {
		return fmt.Errorf("%d conns still stand, %d were cut", c.Open, c.Closed)
	}
	for range stormMissed {
		if err := publish(); err != nil {
			return err
		}
	}
	cpu, begin := s.cpu(), time.Now()
	reopened := make(chan error, 1)
	tries := 0
	go func() {
		var err error
		for tries < stormTries && err == nil && k.Counts().Open < int64(n) {
			tries++
			err = k.Reopen(ctx)
		}
		reopened <- err
	}()
	// One more when half are back: they get it live, the others with what they missed.
	err = until(ctx, s, func() bool { return k.speech.Heard().Subscribed >= int64(n/2) }, func() string {
		return fmt.Sprintf("half come back: %+v", k.speech.Heard())
	})
	if err == nil {
		err = publish()
	}
	if e := <-reopened; err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := k.stand(ctx, s, n); err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n*published)); err != nil {
		return err
	}
	took, used := time.Since(begin), s.cpu()-cpu
	h := k.speech.Heard()
	// And all go on.
	if err := publish(); err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n*published)); err != nil {
		return err
	}
	bad, err := k.speech.Check(ctx, k.Fleet, func(_, _ int, at fleet.Position) bool {
		return at.Subscribed && at.Offset == uint64(published) && at.Heard == uint32(published)
	})
	if err != nil {
		return err
	}
	if bad > 0 || h.Recovered != int64(n) {
		return fmt.Errorf("%d of %d recovered, %d do not have each of %d publications once", h.Recovered, n, bad, published)
	}
	c := k.Counts()
	b.report.add(row{Part: "storm", Figure: fmt.Sprintf("%d clients cut at once and recovering %d missed publications each", n, stormMissed), Goal: "every one recovered, none lost or doubled",
		Value: fmt.Sprintf("%d recovered in %.1f s, none lost, none doubled", h.Recovered, took.Seconds()), Reached: reached(true),
		Remark: fmt.Sprintf("%.0f clients a second; server CPU %.1f µs each for upgrade, connect with a token, subscribe and recovery; %d publications restored; %d connects failed and were tried again; %d channels; RSS %.1f MB",
			float64(n)/took.Seconds(), perUnit(used, n), h.Restored, c.Failures(), stormChannels, mb(s.rss()))})
	return k.shut(ctx)
}
