package enginetest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/longwire/longwire/engine"
)

// filters: History chooses as HistoryFilter says, from a whole stream and from one that lost its old end.
func filters(c *cluster) error {
	const n = 10
	for channel, keep := range map[string]int{"whole": 100, "cut": 4} {
		list, err := c.publishN(channel, n, engine.PublishOptions{HistorySize: keep, HistoryTTL: time.Hour})
		if err != nil {
			return err
		}
		top := list[n-1].Position
		first := uint64(max(n-keep, 0)) + 1
		if err := c.expect(channel, first, top); err != nil {
			return err
		}
		since := []*engine.Position{nil, {Offset: math.MaxUint64}, {Offset: 1 << 63}}
		for o := range uint64(n + 3) {
			// The epoch is not compared.
			since = append(since, &engine.Position{Offset: o, Epoch: top.Epoch}, &engine.Position{Offset: o, Epoch: "other"})
		}
		for i := range c.engines {
			for _, s := range since {
				for _, limit := range []int{-1, math.MinInt, 0, 1, 3, n, math.MaxInt} {
					for _, reverse := range []bool{false, true} {
						f := engine.HistoryFilter{Since: s, Limit: limit, Reverse: reverse}
						pubs, got, err := c.filter(i, channel, f)
						if err != nil {
							return err
						}
						if got != top {
							return fmt.Errorf("node %d: %s: %+v: top is %v, want %v", i, channel, f, got, top)
						}
						if err := checkChoice(pubs, f, first, n); err != nil {
							return fmt.Errorf("node %d: %s: %w", i, channel, err)
						}
						for _, p := range pubs {
							if string(p.Data) != fmt.Sprint(p.Offset) {
								return fmt.Errorf("node %d: %s: offset %d has %q", i, channel, p.Offset, p.Data)
							}
						}
					}
				}
			}
		}
	}
	return nil
}

// readYourWrites: what Publish returned is in History on that node; elsewhere a moment later, without a gap.
func readYourWrites(c *cluster) error {
	var first engine.Position
	for n := range uint64(30) {
		r, err := c.publish(int(n), "a", fmt.Sprint(n+1), kept)
		if err != nil {
			return err
		}
		if n == 0 {
			first = r.Position
		}
		if want := (engine.Position{Offset: n + 1, Epoch: first.Epoch}); r.Position != want {
			return fmt.Errorf("published at %v, want %v", r.Position, want)
		}
		for i := range c.engines {
			pubs, top, err := c.history(i, "a")
			if err != nil {
				return err
			}
			if i == int(n)%len(c.engines) && top != r.Position {
				return fmt.Errorf("top is %v after publication of %v on the same node", top, r.Position)
			}
			if err := checkRange(pubs, 1, top.Offset); err != nil {
				return fmt.Errorf("node %d, top %v: %w", i, top, err)
			}
		}
	}
	return nil
}

// historyWhilePublishing: at every moment, on every node, History has all up to its top.
func historyWhilePublishing(c *cluster) error {
	const publishers, each = 3, 40
	var writers, readers sync.WaitGroup
	errs := make([]error, publishers+len(c.engines))
	done := make(chan struct{})
	for p := range publishers {
		writers.Go(func() {
			for i := 0; i < each && errs[p] == nil; i++ {
				_, errs[p] = c.publish(p, "a", fmt.Sprintf("%d of %d", i, p), kept)
			}
		})
	}
	for i := range c.engines {
		readers.Go(func() {
			errs[publishers+i] = func() error {
				var since engine.Position
				for last := 0; last < 2; { // twice when all is published, so that nothing depends on who is faster
					select {
					case <-done:
						last++
					default:
					}
					pubs, top, err := c.filter(i, "a", engine.HistoryFilter{Since: &since, Limit: -1})
					if err != nil {
						return err
					}
					if since.Epoch != "" && !engine.Recover(since, pubs, top) {
						return fmt.Errorf("node %d: history since %v has offsets %v up to %v", i, since, offsets(pubs), top)
					}
					if top.Offset > 0 {
						since = top
					}
				}
				return nil
			}()
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	return errors.Join(errs...)
}

// sliceIsCallers: who changes the slice that History returned changes nothing else.
func sliceIsCallers(c *cluster) error {
	list, err := c.publishN("a", 5, kept)
	if err != nil {
		return err
	}
	if err := c.expect("a", 1, list[4].Position); err != nil {
		return err
	}
	pubs, _, err := c.history(0, "a")
	if err != nil {
		return err
	}
	for i := range pubs {
		pubs[i] = new(engine.Publication)
	}
	return c.expect("a", 1, list[4].Position)
}

// neverPublished: such a channel has offset 0 and an epoch, and its first publication continues them.
func neverPublished(c *cluster) error {
	var first engine.Position
	for range 3 {
		for i := range c.engines {
			for _, f := range []engine.HistoryFilter{{}, {Limit: -1}, {Limit: -1, Reverse: true}, {Limit: 5, Since: &engine.Position{Offset: 7}}} {
				pubs, top, err := c.filter(i, "a", f)
				if err != nil {
					return err
				}
				if first.Epoch == "" {
					first = top
				}
				if len(pubs) != 0 || top.Offset != 0 || top != first {
					return fmt.Errorf("node %d: %d publications up to %v, first up to %v, want none up to 0", i, len(pubs), top, first)
				}
			}
		}
	}
	r, err := c.publish(0, "a", "1", kept)
	if err != nil {
		return err
	}
	if want := (engine.Position{Offset: 1, Epoch: first.Epoch}); r.Position != want {
		return fmt.Errorf("first publication at %v, want %v", r.Position, want)
	}
	pubs, top, err := c.filter(0, "a", engine.HistoryFilter{Since: &first, Limit: -1})
	if err != nil {
		return err
	}
	if !engine.Recover(first, pubs, top) {
		return fmt.Errorf("from %v cannot be recovered: offsets %v up to %v", first, offsets(pubs), top)
	}
	return nil
}

// removeHistory: the publications are gone, offset and epoch stay.
func removeHistory(c *cluster) error {
	if err := c.node(0).RemoveHistory(c.ctx, "none"); err != nil {
		return fmt.Errorf("remove history where there is none: %w", err)
	}
	list, err := c.publishN("a", 5, kept)
	if err != nil {
		return err
	}
	top := list[4].Position
	// Not before this node has seen them all.
	if err := c.expect("a", 1, top); err != nil {
		return err
	}
	for range 2 {
		if err := c.node(0).RemoveHistory(c.ctx, "a"); err != nil {
			return fmt.Errorf("remove history: %w", err)
		}
		if pubs, got, err := c.history(0, "a"); err != nil || len(pubs) != 0 || got != top {
			return fmt.Errorf("removed, on the same node: %d publications up to %v, %v; want none up to %v", len(pubs), got, err, top)
		}
		if err := c.expect("a", top.Offset+1, top); err != nil {
			return err
		}
	}
	r, err := c.publish(1, "a", "6", kept)
	if err != nil {
		return err
	}
	if want := (engine.Position{Offset: 6, Epoch: top.Epoch}); r.Position != want {
		return fmt.Errorf("published at %v after removal, want %v", r.Position, want)
	}
	return c.expect("a", 6, r.Position)
}

// size: a stream keeps as many as the latest publication said.
func size(c *cluster) error {
	var top uint64
	var lo uint64 = 1 // the oldest kept
	for _, size := range []int{1, 3, 3, 3, 3, 5, 5, 5, 2, 2, 1, 4, 4, math.MaxInt, math.MaxInt, 2} {
		r, err := c.publish(0, "a", fmt.Sprint(top+1), engine.PublishOptions{HistorySize: size, HistoryTTL: time.Hour})
		if err != nil {
			return err
		}
		top++
		if r.Offset != top {
			return fmt.Errorf("offset %d, want %d", r.Offset, top)
		}
		if top-lo+1 > uint64(size) {
			lo = top - uint64(size) + 1
		}
		if err := c.expect("a", lo, r.Position); err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
	}
	return nil
}

// ttl: a publication is kept for its TTL; one that is over may be kept as long as a younger one is.
func ttl(c *cluster) error {
	o := engine.PublishOptions{HistorySize: 10, HistoryTTL: 10 * time.Second}
	if _, err := c.publish(0, "a", "1", o); err != nil {
		return err
	}
	c.advance(6 * time.Second)
	r, err := c.publish(0, "a", "2", o)
	if err != nil {
		return err
	}
	c.advance(3 * time.Second) // at 9 s
	if err := c.expect("a", 1, r.Position); err != nil {
		return fmt.Errorf("before the TTL: %w", err)
	}
	c.advance(3 * time.Second) // at 12 s: the second is 6 s old
	pubs, top, err := c.history(0, "a")
	if err != nil {
		return err
	}
	if top != r.Position || checkRange(pubs, 2, 2) != nil && checkRange(pubs, 1, 2) != nil {
		return fmt.Errorf("offsets %v up to %v where the first is over, want 2 up to %v", offsets(pubs), top, r.Position)
	}
	c.advance(5 * time.Second) // at 17 s
	if err := c.expect("a", 3, r.Position); err != nil {
		return fmt.Errorf("after the TTL: %w", err)
	}
	next, err := c.publish(0, "a", "3", o)
	if err != nil {
		return err
	}
	if want := (engine.Position{Offset: 3, Epoch: r.Epoch}); next.Position != want {
		return fmt.Errorf("published at %v after the TTL, want %v", next.Position, want)
	}
	return c.expect("a", 3, next.Position)
}

// ttlOfLatest: the TTL of the latest publication holds for its whole stream.
func ttlOfLatest(c *cluster) error {
	short := engine.PublishOptions{HistorySize: 10, HistoryTTL: 10 * time.Second}
	for channel, o := range map[string][2]engine.PublishOptions{"shorter": {kept, short}, "longer": {short, kept}} {
		if _, err := c.publish(0, channel, "1", o[0]); err != nil {
			return err
		}
		r, err := c.publish(0, channel, "2", o[1])
		if err != nil {
			return err
		}
		c.advance(15 * time.Second)
		first := uint64(1)
		if channel == "shorter" {
			first = 3
		}
		if err := c.expect(channel, first, r.Position); err != nil {
			return err
		}
	}
	return nil
}

// metaTTL: an empty stream keeps its position for metaTTL from the latest History; what comes later is the same
// stream, or one of another epoch from the beginning.
func metaTTL(c *cluster) error {
	const meta = time.Minute
	position := func() (engine.Position, error) {
		_, top, err := c.node(0).History(c.ctx, "a", engine.HistoryFilter{}, meta)
		return top, err
	}
	seen := make(map[string]uint64) // the last offset of each epoch
	for round := range 5 {
		r, err := c.publish(0, "a", fmt.Sprint(round), engine.PublishOptions{HistorySize: 10, HistoryTTL: 10 * time.Second})
		if err != nil {
			return err
		}
		if last := seen[r.Epoch]; r.Offset != last+1 {
			return fmt.Errorf("round %d: published at %v, where the last in this epoch was %d", round, r.Position, last)
		}
		seen[r.Epoch] = r.Offset
		if _, err := position(); err != nil {
			return err
		}
		// The publication is over 10 s from now; from then on the stream must be there for a minute. The first History
		// in that time prolongs it.
		for _, d := range []time.Duration{65 * time.Second, 55 * time.Second, 55 * time.Second} {
			c.advance(d)
			got, err := position()
			if err != nil {
				return err
			}
			if got != r.Position {
				return fmt.Errorf("round %d: position is %v within metaTTL, want %v", round, got, r.Position)
			}
		}
		if round%2 == 0 {
			if err := c.node(0).RemoveHistory(c.ctx, "a"); err != nil {
				return err
			}
		}
		c.advance(meta + 5*time.Second)
		later, err := position()
		if err != nil {
			return err
		}
		if later == r.Position {
			continue
		}
		if _, ok := seen[later.Epoch]; ok || later.Offset != 0 {
			return fmt.Errorf("round %d: position is %v after metaTTL, want %v or another epoch with offset 0", round, later, r.Position)
		}
		if engine.Recover(r.Position, nil, later) {
			return fmt.Errorf("round %d: a client at %v has recovered to %v", round, r.Position, later)
		}
		seen[later.Epoch] = 0
	}
	return nil
}

// metaTTLDefault: without a metaTTL it is a day.
func metaTTLDefault(c *cluster) error {
	o := engine.PublishOptions{HistorySize: 10, HistoryTTL: 10 * time.Second}
	r, err := c.publish(0, "a", "1", o)
	if err != nil {
		return err
	}
	c.advance(24 * time.Hour)
	next, err := c.publish(0, "a", "2", o)
	if err != nil {
		return err
	}
	if want := (engine.Position{Offset: 2, Epoch: r.Epoch}); next.Position != want {
		return fmt.Errorf("published at %v within a day, want %v", next.Position, want)
	}
	c.advance(24 * time.Hour)
	return c.expect("a", 3, next.Position)
}

// recovery: Recover says yes where all is there, and no where something is lost.
func recovery(c *cluster) error {
	list, err := c.publishN("a", 10, engine.PublishOptions{HistorySize: 4, HistoryTTL: time.Hour})
	if err != nil {
		return err
	}
	top := list[9].Position
	if err := c.expect("a", 7, top); err != nil {
		return err
	}
	ask := func(i int, since engine.Position, want bool) error {
		pubs, got, err := c.filter(i, "a", engine.HistoryFilter{Since: &since, Limit: -1})
		if err != nil {
			return err
		}
		if engine.Recover(since, pubs, got) != want {
			return fmt.Errorf("node %d: recovered from %v with offsets %v up to %v: %v, want %v", i, since, offsets(pubs), got, !want, want)
		}
		return nil
	}
	for i := range c.engines {
		for o := range uint64(13) {
			var errs error
			for _, epoch := range []string{top.Epoch, ""} {
				errs = errors.Join(errs, ask(i, engine.Position{Offset: o, Epoch: epoch}, o >= 6 && o <= 10))
			}
			errs = errors.Join(errs, ask(i, engine.Position{Offset: o, Epoch: "other" + top.Epoch[:1]}, false))
			if errs != nil {
				return errs
			}
		}
	}
	if err := c.node(0).RemoveHistory(c.ctx, "a"); err != nil {
		return err
	}
	return errors.Join(ask(0, top, true), ask(0, list[8].Position, false))
}

// incarnation: what shares nothing with this cluster is not taken for it.
func incarnation(c *cluster) error {
	list, err := c.publishN("a", 3, kept)
	if err != nil {
		return err
	}
	other, err := c.another()
	if err != nil {
		return err
	}
	top, err := other.publish(0, "a", "1", kept)
	if err != nil {
		return err
	}
	if top.Epoch == list[0].Epoch {
		return fmt.Errorf("epoch %q in two streams", top.Epoch)
	}
	return other.close()
}

// idempotency: a repeated key in a channel does nothing but tell what came of the first.
func idempotency(c *cluster) error {
	keyed := kept
	keyed.IdempotencyKey = "k"
	bare := engine.PublishOptions{IdempotencyKey: "k"}
	other := keyed
	other.IdempotencyKey = "k2"
	for i, s := range []struct {
		channel, text string
		o             engine.PublishOptions
		want          uint64
		repeated      bool
	}{
		{"a", "first", keyed, 1, false},
		{"a", "repeated", keyed, 1, true},
		{"a", "without key", kept, 2, false},
		{"a", "without key", kept, 3, false},
		{"a", "repeated later", keyed, 1, true},
		{"a", "repeated where nothing is to be kept", bare, 1, true},
		{"a", "another key", other, 4, false},
		{"b", "another channel", keyed, 1, false},
		{"c", "nothing kept", bare, 0, false},
		{"c", "repeated", bare, 0, true},
		{"c", "repeated where it is to be kept", keyed, 0, true},
		{"a\x00k", "a channel like a key", keyed, 1, false},
	} {
		r, err := c.publish(i, s.channel, s.text, s.o)
		if err != nil {
			return err
		}
		if r.Offset != s.want || r.Repeated != s.repeated || (r.Epoch == "") != (s.want == 0) {
			return fmt.Errorf("%s: published in %q: %+v, want offset %d, repeated %v", s.text, s.channel, r, s.want, s.repeated)
		}
	}
	for channel, n := range map[string]int{"a": 4, "b": 1, "c": 1} {
		all, err := c.delivered(channel, n)
		if err != nil {
			return err
		}
		for i, events := range all {
			if first := string(events[0].pub.Data); channel == "a" && first != "first" {
				return fmt.Errorf("node %d: %q was delivered first", i, first)
			}
		}
	}
	pubs, top, err := c.history(0, "a")
	if err != nil {
		return err
	}
	if err := checkRange(pubs, 1, 4); err != nil {
		return fmt.Errorf("up to %v: %w", top, err)
	}
	return nil
}

// idempotencyConcurrent: of those who publish with one key at the same time, one does.
func idempotencyConcurrent(c *cluster) error {
	const publishers, rounds = 6, 20
	for round := range rounds {
		o := kept
		o.IdempotencyKey = fmt.Sprint(round)
		var wait sync.WaitGroup
		list, errs := make([]engine.Published, publishers), make([]error, publishers)
		for p := range publishers {
			wait.Go(func() { list[p], errs[p] = c.publish(p, "a", fmt.Sprint(round), o) })
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		done := 0
		for _, r := range list {
			if r.Position != list[0].Position || r.Offset != uint64(round)+1 {
				return fmt.Errorf("key %d: published at %v and %v, want offset %d", round, list[0].Position, r.Position, round+1)
			}
			if !r.Repeated {
				done++
			}
		}
		if done != 1 {
			return fmt.Errorf("key %d: %d publishers were told that they published, want 1", round, done)
		}
	}
	_, err := c.delivered("a", rounds)
	return err
}

// idempotencyTTL: a key is known for its TTL, counted from the first Publish; zero is 5 minutes.
func idempotencyTTL(c *cluster) error {
	for ttl, last := range map[time.Duration]time.Duration{0: 5 * time.Minute, 10 * time.Second: 10 * time.Second, time.Hour: time.Hour} {
		channel := fmt.Sprint("a", ttl)
		o := engine.PublishOptions{HistorySize: 10, HistoryTTL: 24 * time.Hour, IdempotencyKey: "k", IdempotencyTTL: ttl}
		for i, s := range []struct {
			wait     time.Duration
			want     uint64
			repeated bool
		}{
			{0, 1, false},
			{last / 2, 1, true},
			{last/2 - time.Second, 1, true},
			{2 * time.Second, 2, false},
			{last / 2, 2, true},
		} {
			c.advance(s.wait)
			r, err := c.publish(i, channel, fmt.Sprint(i), o)
			if err != nil {
				return err
			}
			if r.Offset != s.want || r.Repeated != s.repeated {
				return fmt.Errorf("TTL %v, step %d: published %+v, want offset %d, repeated %v", ttl, i, r, s.want, s.repeated)
			}
		}
	}
	return nil
}
