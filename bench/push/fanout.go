package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/longwire/longwire/internal/fleet"
)

// fanout: processor time for each delivered message, of longwire and of bare loops that write, in turn.
func (b *bench) fanout(ctx context.Context) error {
	n := b.o.fan
	ctx, cancel := context.WithTimeout(ctx, patience(2*n))
	defer cancel()
	start := time.Now()
	script := fleet.Script{Token: token, Channels: 1, Start: start, Channel: func(dst []byte, _, _ int) []byte { return append(dst, "keep:all"...) }}
	s, err := b.serve(ctx, n, "--client-ping", "10m") // the floor has no pings
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	k, err := b.clients(s, n, &script)
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

	bare, err := b.floor(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = bare.Stop() }()
	script.Mute = true
	listeners, err := b.clients(bare, n, &script)
	if err != nil {
		return err
	}
	defer func() { _ = listeners.Close() }()
	if err := listeners.Open(ctx); err != nil {
		return err
	}
	if err := listeners.whole(); err != nil {
		return err
	}
	bell := &speaker{addr: bare.Addr.String()}
	if err := bell.dial(ctx); err != nil {
		return err
	}
	defer bell.close()
	drained := make(chan struct{})
	go func() { // it gets what it sends, as all do
		defer close(drained)
		drain(bell.conn)
	}()
	defer func() { bell.close(); <-drained }()

	// ring has the floor send all its clients what longwire sends its own.
	offset := 0
	ring := func(text string) error {
		offset++
		first := ""
		if offset == 1 {
			first = `,"epoch":"ABCDEFGH"`
		}
		return bell.say(fmt.Appendf(nil, `{"push":{"channel":"keep:all","pub":{"data":%s,"offset":%d%s}}}`, text, offset, first))
	}
	// turn publishes some times, each time when the last one is with everybody, and returns µs a message.
	turn := func(s *server, k *clients, count int, publish func(text string) error) (float64, error) {
		want := k.speech.Heard().Publications
		cpu := s.cpu()
		for range count {
			if err := publish(data(time.Since(start), 128)); err != nil {
				return 0, err
			}
			want += int64(n)
			if err := k.heard(ctx, s, want); err != nil {
				return 0, err
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
		return perUnit(s.cpu()-cpu, n*count), nil
	}
	api := func(text string) error { return p.publish(ctx, text, "keep:all") }
	if _, err := turn(bare, listeners, 2, ring); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	if _, err := turn(s, k, 2, api); err != nil {
		return fmt.Errorf("longwire: %w", err)
	}
	var floor, ours, ratio []float64
	for round := range b.o.rounds {
		f, err := turn(bare, listeners, b.o.repeat, ring)
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		l, err := turn(s, k, b.o.repeat, api)
		if err != nil {
			return fmt.Errorf("longwire: %w", err)
		}
		say("fanout: round %d: floor %.2f µs, longwire %.2f µs a message", round+1, f, l)
		floor, ours, ratio = append(floor, f), append(ours, l), append(ratio, l/f)
	}
	count := uint64(2 + b.o.rounds*b.o.repeat)
	for _, c := range []struct {
		name string
		k    *clients
	}{{"longwire", k}, {"floor", listeners}} {
		bad, err := c.k.speech.Check(ctx, c.k.Fleet, func(_, _ int, at fleet.Position) bool {
			return at.Offset == count && at.Heard == uint32(count)
		})
		if err != nil {
			return err
		}
		if bad > 0 {
			return fmt.Errorf("%s: %d of %d subscribers do not have each of %d publications once", c.name, bad, n, count)
		}
	}
	h, err := k.Latency(ctx)
	if err != nil {
		return err
	}
	m := median(ratio)
	b.report.add(row{Part: "fanout", Figure: fmt.Sprintf("server CPU per delivered message, one publication to %d subscribers", n), Goal: "≤ 1.1 × a bare loop of write()",
		Value: fmt.Sprintf("%.2f µs : %.2f µs = %.2f", median(ours), median(floor), m), Reached: reached(m <= 1.1),
		Remark: fmt.Sprintf("%d × %d publications of 128 bytes in turn, %d loops each, medians; last of a publication after %.0f ms (median of all messages: %.0f ms)",
			b.o.rounds, b.o.repeat, b.o.loops, float64(h.ValueAtQuantile(99.9))/1e3, float64(h.ValueAtQuantile(50))/1e3),
		Numbers: map[string][]float64{"floor_us": floor, "longwire_us": ours}})
	return errors.Join(k.shut(ctx), listeners.shut(ctx))
}

// drain reads until the conn ends.
func drain(c net.Conn) {
	var b [16 << 10]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// connects: processor time for a connect beyond the bare upgrade, in turn.
func (b *bench) connects(ctx context.Context) error {
	n := b.o.fan
	ctx, cancel := context.WithTimeout(ctx, patience(3*b.o.rounds*n))
	defer cancel()
	s, err := b.serve(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	anonymous := &fleet.Script{Start: time.Now()}
	signed := &fleet.Script{Start: time.Now(), Token: token}
	kinds := []struct {
		name   string
		script *fleet.Script
		us     []float64
	}{{name: "upgrade"}, {name: "anonymous", script: anonymous}, {name: "token", script: signed}}
	once := func(script *fleet.Script) (float64, error) {
		k, err := b.clients(s, n, script)
		if err != nil {
			return 0, err
		}
		defer func() { _ = k.Close() }()
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
		cpu := s.cpu()
		if err := k.open(ctx, s, 0); err != nil {
			return 0, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
		us := perUnit(s.cpu()-cpu, n)
		return us, k.shut(ctx)
	}
	if _, err := once(signed); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	var beyond []float64
	for round := range b.o.rounds {
		for i := range kinds {
			us, err := once(kinds[i].script)
			if err != nil {
				return fmt.Errorf("%s: %w", kinds[i].name, err)
			}
			kinds[i].us = append(kinds[i].us, us)
		}
		beyond = append(beyond, kinds[2].us[round]-kinds[0].us[round])
		say("connect: round %d: upgrade %.1f µs, and connect %.1f µs, with a token %.1f µs", round+1, kinds[0].us[round], kinds[1].us[round], kinds[2].us[round])
	}
	m := median(beyond)
	b.report.add(row{Part: "connect", Figure: "connect with an HS256 token: server CPU beyond the bare upgrade", Goal: "≤ 25 µs",
		Value: fmt.Sprintf("%.1f µs", m), Reached: reached(m <= 25),
		Remark: fmt.Sprintf("upgrade %.1f µs; with connect and its reply, anonymous %.1f µs, with a token %.1f µs; %d × %d conns each in turn, medians",
			median(kinds[0].us), median(kinds[1].us), median(kinds[2].us), b.o.rounds, n),
		Numbers: map[string][]float64{"upgrade_us": kinds[0].us, "anonymous_us": kinds[1].us, "token_us": kinds[2].us}})
	return nil
}
