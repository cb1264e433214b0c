package enginetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/longwire/longwire/engine"
)

// present waits until every node has exactly these in channel, node 0 at once, and the numbers that go with them.
func (c *cluster) present(channel string, want ...*engine.ClientInfo) error {
	users := make(map[string]bool)
	for _, info := range want {
		users[info.User] = true
	}
	stats := engine.PresenceStats{Clients: len(want), Users: len(users)}
	ask := func(i int) error {
		who, err := c.node(i).Presence(c.ctx, channel)
		if err != nil {
			return fmt.Errorf("presence: %w", err)
		}
		if len(who) != len(want) {
			return fmt.Errorf("node %d: %d clients in %q, want %d", i, len(who), channel, len(want))
		}
		for _, info := range want {
			if err := sameInfo(who[info.Client], info); err != nil {
				return fmt.Errorf("node %d: client %q in %q: %w", i, info.Client, channel, err)
			}
		}
		got, err := c.node(i).PresenceStats(c.ctx, channel)
		if err != nil {
			return fmt.Errorf("presence stats: %w", err)
		}
		if got != stats {
			return fmt.Errorf("node %d: presence stats of %q are %+v, want %+v", i, channel, got, stats)
		}
		return nil
	}
	if err := ask(0); err != nil {
		return err
	}
	for i := range c.engines {
		if err := c.eventually(func() error { return ask(i) }); err != nil {
			return err
		}
	}
	return nil
}

// presence: who was added and not removed is there, and nobody is told.
func presence(c *cluster) error {
	add := func(channel string, info *engine.ClientInfo) error {
		return c.node(0).AddPresence(c.ctx, channel, info, time.Hour)
	}
	remove := func(channel, client string) error { return c.node(0).RemovePresence(c.ctx, channel, client) }
	var (
		a       = &engine.ClientInfo{Client: "1", User: "a", ConnInfo: []byte(`{"n":1}`), ChanInfo: []byte(`[1]`)}
		aAgain  = &engine.ClientInfo{Client: "2", User: "a"}
		b       = &engine.ClientInfo{Client: "3", User: "b"}
		nobody  = &engine.ClientInfo{Client: "4"}
		nobody2 = &engine.ClientInfo{Client: "5"}
		bNow    = &engine.ClientInfo{Client: "3", User: "a", ConnInfo: []byte(`2`)}
	)
	for i, step := range []func() error{
		func() error { return c.present("x") },
		func() error { return remove("x", "1") },
		func() error { return c.present("x") },
		func() error { return errors.Join(add("x", a), c.present("x", a)) },
		func() error { return errors.Join(add("x", a), c.present("x", a)) },
		func() error { return errors.Join(add("x", aAgain), c.present("x", a, aAgain)) },
		func() error { return errors.Join(add("x", b), c.present("x", a, aAgain, b)) },
		func() error { return errors.Join(add("x", nobody), c.present("x", a, aAgain, b, nobody)) },
		func() error { return errors.Join(add("x", nobody2), c.present("x", a, aAgain, b, nobody, nobody2)) },
		func() error { return errors.Join(add("y", a), c.present("y", a)) },
		func() error { return errors.Join(add("x", bNow), c.present("x", a, aAgain, bNow, nobody, nobody2)) },
		func() error { return errors.Join(remove("x", "1"), c.present("x", aAgain, bNow, nobody, nobody2)) },
		func() error { return errors.Join(remove("x", "1"), c.present("x", aAgain, bNow, nobody, nobody2)) },
		func() error { return errors.Join(remove("x", "4"), c.present("x", aAgain, bNow, nobody2)) },
		func() error {
			// The map is the caller's.
			who, err := c.node(0).Presence(c.ctx, "x")
			clear(who)
			return errors.Join(err, c.present("x", aAgain, bNow, nobody2))
		},
		func() error { return errors.Join(remove("x", "2"), remove("x", "3"), remove("x", "5"), c.present("x")) },
		func() error { return c.present("y", a) },
		func() error { return errors.Join(add("x", b), c.present("x", b)) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	for i := range c.nodes {
		if n := len(c.nodes[i].of("x")); n != 0 {
			return fmt.Errorf("node %d: presence delivered %d events", i, n)
		}
	}
	return nil
}

// presenceTTL: who is not renewed is gone after the TTL.
func presenceTTL(c *cluster) error {
	add := func(info *engine.ClientInfo, ttl time.Duration) error {
		return c.node(0).AddPresence(c.ctx, "x", info, ttl)
	}
	after := func(d time.Duration, want ...*engine.ClientInfo) error {
		c.advance(d)
		return c.present("x", want...)
	}
	a, b, d := &engine.ClientInfo{Client: "1", User: "a"}, &engine.ClientInfo{Client: "2", User: "b"}, &engine.ClientInfo{Client: "3"}
	for i, step := range []func() error{
		func() error {
			return errors.Join(add(a, 30*time.Second), add(b, 30*time.Second), add(d, 100*time.Second))
		},
		func() error { return after(20*time.Second, a, b, d) },
		func() error { return add(a, 30*time.Second) },
		func() error { return after(9*time.Second, a, b, d) },
		func() error { return after(2*time.Second, a, d) },
		func() error { return after(18*time.Second, a, d) }, // a was renewed 29 s ago
		func() error { return after(2*time.Second, d) },
		func() error { return add(d, 10*time.Second) }, // the latest TTL holds, a shorter one too
		func() error { return after(9*time.Second, d) },
		func() error { return after(2 * time.Second) },
		func() error { return errors.Join(add(b, 10*time.Second), c.present("x", b)) },
		func() error { return after(9*time.Second, b) },
		func() error { return after(2 * time.Second) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}
