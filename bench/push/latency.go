package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/longwire/longwire/internal/fleet"
)

const (
	latencyChannels = 1000
	latencyClients  = 10 * latencyChannels
	latencyWorkers  = 8
)

// latencies: from publishing to delivery, at a fixed rate into many channels with ten subscribers each.
func (b *bench) latencies(ctx context.Context) error {
	n := latencyClients
	ctx, cancel := context.WithTimeout(ctx, patience(n)+b.o.latency)
	defer cancel()
	s, err := b.serve(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = s.Stop() }()
	start := time.Now()
	k, err := b.clients(s, n, &fleet.Script{Token: token, Channels: 1, Start: start, Channel: func(dst []byte, n, _ int) []byte {
		return strconv.AppendInt(append(dst, "keep:c"...), int64(n%latencyChannels), 10)
	}})
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	if err := k.open(ctx, s, n); err != nil {
		return err
	}
	// A round through all channels first: histories are made, publishers connected.
	total := int(b.o.latency.Seconds() * float64(b.o.rate))
	publishers := make([]publisher, latencyWorkers)
	for i := range publishers {
		if publishers[i], err = b.publisher(ctx, s); err != nil {
			return err
		}
		defer publishers[i].close()
	}
	if _, err := publishSteadily(ctx, publishers, start, b.o.rate, latencyChannels); err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n)); err != nil {
		return err
	}
	if _, err := k.Latency(ctx); err != nil {
		return err
	}
	cpu := s.cpu()
	took, err := publishSteadily(ctx, publishers, start, b.o.rate, total)
	if err != nil {
		return err
	}
	if err := k.heard(ctx, s, int64(n+10*total)); err != nil {
		return err
	}
	used := s.cpu() - cpu
	h, err := k.Latency(ctx)
	if err != nil {
		return err
	}
	bad, err := k.speech.Check(ctx, k.Fleet, func(i, _ int, at fleet.Position) bool {
		want := 1 + total/latencyChannels
		if i%latencyChannels < total%latencyChannels {
			want++
		}
		return at.Offset == uint64(want) && at.Heard == uint32(want)
	})
	if err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d subscribers do not have each publication once", bad, n)
	}
	rate := float64(total) / took.Seconds()
	if rate < 0.99*float64(b.o.rate) {
		return fmt.Errorf("%.0f publications a second, want %d: the machine is too busy", rate, b.o.rate)
	}
	ms := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
	b.report.add(row{Part: "latency", Figure: fmt.Sprintf("publish to delivery at %d publications/s into %d channels × 10 subscribers", b.o.rate, latencyChannels), Goal: "p99 ≤ 2 ms on an idle machine",
		Value: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(50), ms(99)), Reached: reached(ms(99) <= 2),
		Remark: fmt.Sprintf("p90 %.2f, p99.9 %.2f, longest %.1f ms; %d deliveries in %.1f s, by %d publishers (%s), from the due time where one was late; server %.2f cores; clients on the same CPUs",
			ms(90), ms(99.9), ms(100), h.TotalCount(), took.Seconds(), latencyWorkers, b.report.Publish, used.Seconds()/took.Seconds()),
		Numbers: map[string][]float64{"ms_p50_p90_p99_p999_max": {ms(50), ms(90), ms(99), ms(99.9), ms(100)}}})
	return k.shut(ctx)
}

// publishSteadily publishes total times at that rate, to one channel after the other, and returns how long it took. A
// publication's time is when it went out; or, if its publisher was still waiting for the reply to the one before, when
// it was due: a server that is slow to reply does not get its own measure taken less often.
func publishSteadily(ctx context.Context, publishers []publisher, start time.Time, rate, total int) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	var wg sync.WaitGroup
	for w, p := range publishers {
		wg.Go(func() {
			for i := w; i < total; i += len(publishers) {
				at := begin.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
				if wait := time.Until(at); wait > 0 {
					if err := pause(ctx, wait); err != nil {
						return
					}
					at = time.Now()
				}
				if err := p.publish(ctx, data(at.Sub(start), 128), "keep:c"+strconv.Itoa(i%latencyChannels)); err != nil {
					cancel(fmt.Errorf("publish: %w", err))
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin), context.Cause(ctx)
}
