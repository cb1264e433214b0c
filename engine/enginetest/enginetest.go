// Package enginetest holds an implementation of engine.Engine to the contract in package engine. It supposes that
// nothing is lost between the nodes of a healthy cluster, and that memory suffices for what it keeps: a few megabytes.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
)

// Options say how to come by what is tested.
type Options struct {
	// New returns the engines of that many nodes, which share everything with each other and nothing with those of
	// other calls. They are not started; the suite starts and closes them.
	New func(t *testing.T, nodes int) []engine.Engine
	// MaxNodes is how many nodes can share an engine; what needs more is skipped. Zero means 1.
	MaxNodes int
	// Advance moves the clock of all engines that New returned. Nil: it cannot be moved, and what needs that is skipped.
	Advance func(d time.Duration)
	// Seed is of the random operations. Zero: a random one, which a failure tells.
	Seed uint64
	// Patience is how long to wait for what must come. Zero means 10 seconds.
	Patience time.Duration
}

// check is a part of the contract. It returns what is wrong as an error, so that a test can see it fail.
type check struct {
	name  string
	clock bool // needs Options.Advance
	run   func(c *cluster) error
}

// Run tests everything with one node, and with three that share an engine.
func Run(t *testing.T, o Options) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprintf("nodes=%d", nodes), func(t *testing.T) {
			if nodes > max(o.MaxNodes, 1) {
				t.Skipf("the engine is for %d nodes at most", max(o.MaxNodes, 1))
			}
			for _, k := range checks {
				t.Run(k.name, func(t *testing.T) {
					if k.clock && o.Advance == nil {
						t.Skip("the engine's clock cannot be moved")
					}
					if err := run(t, o, nodes, k); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// run runs one check on a cluster of its own.
func run(t *testing.T, o Options, nodes int, k check) error {
	c, err := newCluster(t, o, nodes)
	if err != nil {
		return err
	}
	return errors.Join(k.run(c), c.close())
}

// checks is all of the contract.
var checks = []check{
	{"offsets from 1 without gap", false, offsetsFromOne},
	{"offsets under concurrent publishers", false, concurrentPublishers},
	{"nothing kept, no offset", false, unkept},
	{"a place in the order without an offset", false, unkeptInOrder},
	{"what the engine sets", false, setByEngine},
	{"publications stay as they are", false, intact},
	{"channel names", false, names},
	{"history filters", false, filters},
	{"history has what was published", false, readYourWrites},
	{"history while publishing", false, historyWhilePublishing},
	{"history slice is the caller's", false, sliceIsCallers},
	{"a channel without publications", false, neverPublished},
	{"remove history", false, removeHistory},
	{"history size", false, size},
	{"history ttl", true, ttl},
	{"history ttl of the latest", true, ttlOfLatest},
	{"meta ttl", true, metaTTL},
	{"meta ttl of a day", true, metaTTLDefault},
	{"recovery", false, recovery},
	{"another incarnation", false, incarnation},
	{"idempotency", false, idempotency},
	{"idempotency under concurrent publishers", false, idempotencyConcurrent},
	{"idempotency ttl", true, idempotencyTTL},
	{"join and leave", false, joinLeave},
	{"presence", false, presence},
	{"presence ttl", true, presenceTTL},
	{"control", false, control},
	{"before start", false, beforeStart},
	{"after close", false, afterClose},
	{"close while publishing", false, closeWhilePublishing},
	{"random operations", false, randomOperations},
}

// cluster is some nodes that share an engine.
type cluster struct {
	engines  []engine.Engine
	nodes    []*recorder // the handler of each engine
	ctx      context.Context
	advance  func(d time.Duration)
	patience time.Duration
	seed     uint64
	unused   func(nodes int) []engine.Engine // engines that share nothing with these, not started
	another  func() (*cluster, error)
}

func newCluster(t *testing.T, o Options, nodes int) (*cluster, error) {
	c := &cluster{ctx: t.Context(), advance: o.Advance, patience: o.Patience, seed: o.Seed}
	if c.patience <= 0 {
		c.patience = 10 * time.Second
	}
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	c.unused = func(nodes int) []engine.Engine { return o.New(t, nodes) }
	c.another = func() (*cluster, error) { return newCluster(t, o, nodes) }
	c.engines = o.New(t, nodes)
	if len(c.engines) != nodes {
		return nil, fmt.Errorf("new: %d engines, want %d", len(c.engines), nodes)
	}
	for i, e := range c.engines {
		r := newRecorder()
		c.nodes = append(c.nodes, r)
		// The context is of the call alone: cancelled afterwards, it must not matter.
		ctx, cancel := context.WithTimeout(c.ctx, c.patience)
		err := e.Start(ctx, r)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("start of node %d: %w", i, err)
		}
	}
	t.Cleanup(func() { _ = c.close() })
	return c, nil
}

// close closes every engine, twice, and tells what the handlers saw that they must not see.
func (c *cluster) close() error {
	var all error
	for i := range c.engines {
		if err := c.closeNode(i); err != nil {
			all = errors.Join(all, err)
		}
		if err := c.engines[i].Close(); err != nil {
			all = errors.Join(all, fmt.Errorf("second close of node %d: %w", i, err))
		}
	}
	for i, r := range c.nodes {
		if err := r.fault(); err != nil {
			all = errors.Join(all, fmt.Errorf("node %d: %w", i, err))
		}
	}
	return all
}

func (c *cluster) closeNode(i int) error {
	if err := c.engines[i].Close(); err != nil {
		return fmt.Errorf("close of node %d: %w", i, err)
	}
	c.nodes[i].close()
	return nil
}

// eventually waits until f has nothing to complain of, for what other nodes see a moment later. With one node, f is
// asked once.
func (c *cluster) eventually(f func() error) error {
	err := f()
	if err == nil || len(c.engines) == 1 {
		return err
	}
	deadline := time.After(c.patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-deadline:
			return fmt.Errorf("after %v still: %w", c.patience, err)
		case <-tick.C:
			if err = f(); err == nil {
				return nil
			}
		}
	}
}

// node is one of the nodes, another for each i.
func (c *cluster) node(i int) engine.Engine { return c.engines[i%len(c.engines)] }

// kept is how most of the suite publishes.
var kept = engine.PublishOptions{HistorySize: 1000, HistoryTTL: time.Hour}

// publish publishes text through node i.
func (c *cluster) publish(i int, channel, text string, o engine.PublishOptions) (engine.Published, error) {
	r, err := c.node(i).Publish(c.ctx, channel, &engine.Publication{Data: []byte(text)}, o)
	if err != nil {
		err = fmt.Errorf("publish %q in %q: %w", text, channel, err)
	}
	return r, err
}

// publishN publishes "1" to "n", by turns through all nodes.
func (c *cluster) publishN(channel string, n int, o engine.PublishOptions) ([]engine.Published, error) {
	list := make([]engine.Published, n)
	for i := range list {
		var err error
		if list[i], err = c.publish(i, channel, fmt.Sprint(i+1), o); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// history is all that node i has of a channel.
func (c *cluster) history(i int, channel string) ([]*engine.Publication, engine.Position, error) {
	return c.filter(i, channel, engine.HistoryFilter{Limit: -1})
}

func (c *cluster) filter(i int, channel string, f engine.HistoryFilter) ([]*engine.Publication, engine.Position, error) {
	pubs, top, err := c.node(i).History(c.ctx, channel, f, 0)
	if err == nil {
		err = checkEpoch(top.Epoch)
	}
	if err != nil {
		err = fmt.Errorf("history of %q: %w", channel, err)
	}
	return pubs, top, err
}

// expect asks every node for a channel's whole history, which must be the offsets from first to top.
func (c *cluster) expect(channel string, first uint64, top engine.Position) error {
	for i := range c.engines {
		if err := c.eventually(func() error {
			pubs, got, err := c.history(i, channel)
			if err != nil {
				return err
			}
			if got != top {
				return fmt.Errorf("node %d: position of %q is %v, want %v", i, channel, got, top)
			}
			if err := checkRange(pubs, first, top.Offset); err != nil {
				return fmt.Errorf("node %d: history of %q: %w", i, channel, err)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// delivered waits until every node has n publications, joins and leaves of a channel, and returns them by node.
func (c *cluster) delivered(channel string, n int) ([][]event, error) {
	all := make([][]event, len(c.nodes))
	for i, r := range c.nodes {
		if err := r.wait(c.patience, func() error {
			all[i] = r.of(channel)
			if len(all[i]) < n {
				return fmt.Errorf("node %d: %d deliveries of %q, want %d", i, len(all[i]), channel, n)
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if len(all[i]) > n {
			return nil, fmt.Errorf("node %d: %d deliveries of %q, want %d", i, len(all[i]), channel, n)
		}
	}
	return all, nil
}
