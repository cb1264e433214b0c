package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/longwire/longwire/engine"
)

// offsetsFromOne: publications are numbered from 1 without a gap, and every node gets them so.
func offsetsFromOne(c *cluster) error {
	list, err := c.publishN("a", 20, kept)
	if err != nil {
		return err
	}
	if err := checkNumbers(list); err != nil {
		return err
	}
	for i, r := range list {
		if r.Offset != uint64(i)+1 {
			return fmt.Errorf("publication %d has offset %d", i+1, r.Offset)
		}
	}
	all, err := c.delivered("a", 20)
	if err != nil {
		return err
	}
	for i, events := range all {
		if err := checkDeliveries(events, list[0].Epoch); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		for _, e := range events {
			if string(e.pub.Data) != fmt.Sprint(e.pub.Offset) {
				return fmt.Errorf("node %d: %v is not what was published there", i, e)
			}
		}
	}
	return c.expect("a", 1, list[19].Position)
}

// concurrentPublishers: the same, from many goroutines on all nodes, with joins between.
func concurrentPublishers(c *cluster) error {
	const publishers, each = 6, 40
	channels := []string{"a", "b"}
	var (
		mu   sync.Mutex
		list = make(map[string][]engine.Published)
		errs []error
		wait sync.WaitGroup
	)
	for p := range publishers {
		wait.Go(func() {
			for i := range each {
				channel := channels[(p+i)%2]
				r, err := c.publish(p, channel, fmt.Sprintf("%d of %d", i, p), kept)
				if err == nil && i%10 == 0 {
					err = c.node(p).PublishJoin(c.ctx, "a", &engine.ClientInfo{Client: fmt.Sprintf("%d of %d", i, p)})
				}
				mu.Lock()
				list[channel] = append(list[channel], r)
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, channel := range channels {
		if err := checkNumbers(list[channel]); err != nil {
			return fmt.Errorf("%s: %w", channel, err)
		}
		n := len(list[channel])
		if channel == "a" {
			n += publishers * each / 10
		}
		all, err := c.delivered(channel, n)
		if err != nil {
			return err
		}
		for i, events := range all {
			if err := checkDeliveries(events, list[channel][0].Epoch); err != nil {
				return fmt.Errorf("node %d: %s: %w", i, channel, err)
			}
		}
	}
	return nil
}

// unkept: nothing is kept, and no offset given, unless size and TTL are more than 0; a stream stays as it is.
func unkept(c *cluster) error {
	first, err := c.publish(0, "stream", "1", kept)
	if err != nil {
		return err
	}
	for i, o := range []engine.PublishOptions{
		{},
		{HistorySize: 10},
		{HistoryTTL: time.Minute},
		{HistorySize: -1, HistoryTTL: time.Minute},
		{HistorySize: 10, HistoryTTL: -time.Minute},
	} {
		for _, channel := range []string{"none", "stream"} {
			r, err := c.publish(0, channel, fmt.Sprintf("unkept %d", i), o)
			if err != nil {
				return err
			}
			if r != (engine.Published{}) {
				return fmt.Errorf("published in %q with %+v: %+v, want nothing", channel, o, r)
			}
		}
	}
	for channel, n := range map[string]int{"none": 5, "stream": 6} {
		all, err := c.delivered(channel, n)
		if err != nil {
			return err
		}
		for i, events := range all {
			if err := checkDeliveries(events, first.Epoch); err != nil {
				return fmt.Errorf("node %d: %s: %w", i, channel, err)
			}
			for _, e := range events {
				if was := strings.HasPrefix(string(e.pub.Data), "unkept"); was != (e.pub.Offset == 0) {
					return fmt.Errorf("node %d: %s: %v", i, channel, e)
				}
			}
		}
	}
	if err := c.expect("stream", 1, first.Position); err != nil {
		return err
	}
	pubs, top, err := c.history(0, "none")
	if err != nil {
		return err
	}
	if len(pubs) != 0 || top.Offset != 0 {
		return fmt.Errorf("%d publications up to %v where nothing is kept", len(pubs), top)
	}
	return nil
}

// unkeptInOrder: what one node publishes one after the other comes so to every node, whether it is kept or not.
func unkeptInOrder(c *cluster) error {
	const n = 60
	var epoch string
	for i := range n {
		o := kept
		if i%3 != 0 {
			o = engine.PublishOptions{}
		}
		r, err := c.publish(0, "a", fmt.Sprint(i), o)
		if err != nil {
			return err
		}
		if i == 0 {
			epoch = r.Epoch
		}
	}
	all, err := c.delivered("a", n)
	if err != nil {
		return err
	}
	for i, events := range all {
		if err := checkDeliveries(events, epoch); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		for place, e := range events {
			if string(e.pub.Data) != fmt.Sprint(place) {
				return fmt.Errorf("node %d: %v is delivered at place %d", i, e, place)
			}
		}
	}
	return nil
}

// setByEngine: Offset and Time are the engine's, whatever they were.
func setByEngine(c *cluster) error {
	for _, o := range []engine.PublishOptions{kept, {}} {
		channel := fmt.Sprint(o.HistorySize)
		r, err := c.node(0).Publish(c.ctx, channel, &engine.Publication{Data: []byte("x"), Offset: 77, Time: -1}, o)
		if err != nil {
			return err
		}
		all, err := c.delivered(channel, 1)
		if err != nil {
			return err
		}
		var times []int64
		for i, events := range all {
			e := events[0]
			if e.pub.Offset != r.Offset || e.epoch != r.Epoch {
				return fmt.Errorf("node %d: %v, published as %+v", i, e, r)
			}
			times = append(times, e.pub.Time)
		}
		if o.HistorySize > 0 {
			pubs, _, err := c.history(0, channel)
			if err != nil {
				return err
			}
			if err := checkRange(pubs, 1, 1); err != nil {
				return err
			}
			times = append(times, pubs[0].Time)
		}
		for _, at := range times {
			if at <= 0 || at != times[0] {
				return fmt.Errorf("times %v of one publication", times)
			}
		}
	}
	return nil
}

// intact: what is delivered and kept is what was published, however large and of whatever bytes.
func intact(c *cluster) error {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	list := []func() *engine.Publication{
		func() *engine.Publication { return &engine.Publication{} },
		func() *engine.Publication { return &engine.Publication{Data: bytes.Clone(every)} },
		func() *engine.Publication { return &engine.Publication{Data: bytes.Repeat(every, 4096)} }, // 1 MiB
		func() *engine.Publication {
			return &engine.Publication{
				Data: []byte(`{"a":1}`),
				Info: &engine.ClientInfo{Client: "c", User: "ü\x00\xff", ConnInfo: []byte(`{"n":1}`), ChanInfo: []byte(`[]`)},
				Tags: map[string]string{"": "empty", "k": "", "ü\n": "\xff"},
			}
		},
		func() *engine.Publication { return &engine.Publication{Data: []byte("x"), Info: &engine.ClientInfo{}} },
	}
	for _, p := range list {
		if _, err := c.node(0).Publish(c.ctx, "a", p(), kept); err != nil {
			return err
		}
	}
	all, err := c.delivered("a", len(list))
	if err != nil {
		return err
	}
	for i := range c.engines {
		var pubs []*engine.Publication
		if err := c.eventually(func() (err error) {
			if pubs, _, err = c.history(i, "a"); err != nil {
				return err
			}
			return checkRange(pubs, 1, uint64(len(list)))
		}); err != nil {
			return err
		}
		for k, p := range list {
			if err := same(all[i][k].pub, p()); err != nil {
				return fmt.Errorf("node %d: delivered publication %d: %w", i, k, err)
			}
			if err := same(pubs[k], p()); err != nil {
				return fmt.Errorf("node %d: kept publication %d: %w", i, k, err)
			}
		}
	}
	return nil
}

// same compares what was published with what came of it.
func same(got, want *engine.Publication) error {
	if !bytes.Equal(got.Data, want.Data) {
		return fmt.Errorf("%d bytes of data are not the %d published", len(got.Data), len(want.Data))
	}
	if !maps.Equal(got.Tags, want.Tags) {
		return fmt.Errorf("tags %q, want %q", got.Tags, want.Tags)
	}
	return sameInfo(got.Info, want.Info)
}

func sameInfo(got, want *engine.ClientInfo) error {
	if (got == nil) != (want == nil) {
		return fmt.Errorf("info %v, want %v", got, want)
	}
	if got == nil {
		return nil
	}
	if got.Client != want.Client || got.User != want.User || !bytes.Equal(got.ConnInfo, want.ConnInfo) || !bytes.Equal(got.ChanInfo, want.ChanInfo) {
		return fmt.Errorf("info %q, want %q", *got, *want)
	}
	return nil
}

// names: a channel's name is any bytes, and two names are two channels.
func names(c *cluster) error {
	var list []string
	var every []byte
	for b := range 256 {
		list = append(list, string([]byte{byte(b)}))
		if b > 0 {
			every = append(every, byte(b))
		}
	}
	list = append(list, string(every), "\x00"+string(every[1:]), strings.Repeat("x", 255), strings.Repeat("x", 254),
		"a.b", "a.*", "a.>", "a:b", "a/b", "a b", "A.B", "aa", "a\x00", "\x00a", "é", "e\u0301", "%61", "..", "$SYS", "__")
	for i, name := range list {
		r, err := c.publish(0, name, name, kept)
		if err != nil {
			return err
		}
		if r.Offset != 1 {
			return fmt.Errorf("first publication in %q has offset %d", name, r.Offset)
		}
		if err := c.node(0).AddPresence(c.ctx, name, &engine.ClientInfo{Client: fmt.Sprint(i)}, time.Hour); err != nil {
			return fmt.Errorf("add presence in %q: %w", name, err)
		}
	}
	for i, name := range list {
		all, err := c.delivered(name, 1)
		if err != nil {
			return err
		}
		for k, events := range all {
			if string(events[0].pub.Data) != name {
				return fmt.Errorf("node %d: %v in %q", k, events[0], name)
			}
		}
		pubs, _, err := c.history(0, name)
		if err != nil {
			return err
		}
		if len(pubs) != 1 || string(pubs[0].Data) != name {
			return fmt.Errorf("%d publications in %q, want its own", len(pubs), name)
		}
		who, err := c.node(0).Presence(c.ctx, name)
		if err != nil {
			return err
		}
		if len(who) != 1 || who[fmt.Sprint(i)] == nil {
			return fmt.Errorf("presence of %q is %v, want client %d", name, who, i)
		}
	}
	return nil
}

// joinLeave: joins and leaves come to every node, in order, and are not kept.
func joinLeave(c *cluster) error {
	const n = 10
	info := func(i int) *engine.ClientInfo {
		return &engine.ClientInfo{Client: fmt.Sprint(i), User: "u", ConnInfo: []byte(`{"n":1}`), ChanInfo: []byte(`"x"`)}
	}
	for i := range n {
		if err := c.node(0).PublishJoin(c.ctx, "a", info(i)); err != nil {
			return fmt.Errorf("join: %w", err)
		}
		if err := c.node(0).PublishLeave(c.ctx, "a", info(i)); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
	}
	all, err := c.delivered("a", 2*n)
	if err != nil {
		return err
	}
	for i, events := range all {
		for k, e := range events {
			if want := []string{"join", "leave"}[k%2]; e.kind != want {
				return fmt.Errorf("node %d: %v at place %d, want a %s", i, e, k, want)
			}
			if err := sameInfo(e.info, info(k/2)); err != nil {
				return fmt.Errorf("node %d: %v: %w", i, e, err)
			}
		}
	}
	pubs, top, err := c.history(0, "a")
	if err != nil {
		return err
	}
	if len(pubs) != 0 || top.Offset != 0 {
		return fmt.Errorf("joins made %d publications up to %v", len(pubs), top)
	}
	who, err := c.node(0).Presence(c.ctx, "a")
	if err != nil {
		return err
	}
	if len(who) != 0 {
		return fmt.Errorf("joins made presence %v", who)
	}
	return nil
}

// control: every node gets control data, the one that gave it included.
func control(c *cluster) error {
	var list []string
	for i := range 10 {
		list = append(list, fmt.Sprintf("%d\x00\xff", i))
	}
	list = append(list, "", strings.Repeat("x", 1<<18))
	for i, data := range list {
		if err := c.node(i).Control(c.ctx, []byte(data)); err != nil {
			return fmt.Errorf("control: %w", err)
		}
	}
	for i, r := range c.nodes {
		if err := r.wait(c.patience, func() error {
			for k, data := range list {
				if r.controlled(data) == 0 {
					return fmt.Errorf("node %d: control %d did not come", i, k)
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// calls is every method that needs a running engine.
func (c *cluster) calls(e engine.Engine) map[string]error {
	info := &engine.ClientInfo{Client: "c"}
	m := make(map[string]error)
	_, m["Publish"] = e.Publish(c.ctx, "late", &engine.Publication{Data: []byte("late")}, kept)
	m["PublishJoin"] = e.PublishJoin(c.ctx, "late", info)
	m["PublishLeave"] = e.PublishLeave(c.ctx, "late", info)
	_, _, m["History"] = e.History(c.ctx, "late", engine.HistoryFilter{Limit: -1}, 0)
	m["RemoveHistory"] = e.RemoveHistory(c.ctx, "late")
	m["AddPresence"] = e.AddPresence(c.ctx, "late", info, time.Minute)
	m["RemovePresence"] = e.RemovePresence(c.ctx, "late", "c")
	_, m["Presence"] = e.Presence(c.ctx, "late")
	_, m["PresenceStats"] = e.PresenceStats(c.ctx, "late")
	m["Control"] = e.Control(c.ctx, []byte("late"))
	return m
}

// beforeStart: an engine that was not started serves nothing, and can be closed.
func beforeStart(c *cluster) error {
	for _, e := range c.unused(len(c.engines)) {
		for method, err := range c.calls(e) {
			if err := checkUnavailable(method+" before start", err); err != nil {
				return err
			}
		}
		if err := e.Close(); err != nil {
			return fmt.Errorf("close before start: %w", err)
		}
	}
	return nil
}

// afterClose: a closed engine serves nothing and delivers nothing; other nodes go on.
func afterClose(c *cluster) error {
	if _, err := c.publish(0, "a", "1", kept); err != nil {
		return err
	}
	if _, err := c.delivered("a", 1); err != nil {
		return err
	}
	if err := c.closeNode(0); err != nil {
		return err
	}
	for method, err := range c.calls(c.engines[0]) {
		if err := checkUnavailable(method+" after close", err); err != nil {
			return err
		}
	}
	for i := 1; i < len(c.engines); i++ {
		r, err := c.publish(i, "a", fmt.Sprint(i+1), kept)
		if err != nil {
			return err
		}
		if r.Offset != uint64(i)+1 {
			return fmt.Errorf("offset %d after another node's close, want %d", r.Offset, i+1)
		}
		if err := c.nodes[i].wait(c.patience, func() error {
			if n := len(c.nodes[i].of("a")); n < i+1 {
				return fmt.Errorf("node %d: %d deliveries after another node's close", i, n)
			}
			return nil
		}); err != nil {
			return err
		}
		if n := len(c.nodes[i].of("late")); n != 0 {
			return fmt.Errorf("node %d: %d deliveries of what could not be published", i, n)
		}
	}
	return nil
}

// closeWhilePublishing: Close waits for the handler, which is not called afterwards; publishers are refused.
func closeWhilePublishing(c *cluster) error {
	const publishers, limit = 4, 1 << 20
	errs := make([]error, publishers)
	var wait sync.WaitGroup
	for p := range publishers {
		wait.Go(func() {
			for i := 0; i < limit && errs[p] == nil; i++ {
				_, errs[p] = c.publish(0, fmt.Sprint("a", p), fmt.Sprint(i), engine.PublishOptions{})
				if errs[p] == nil {
					errs[p] = c.node(0).Control(c.ctx, []byte("x"))
				}
			}
		})
	}
	for p := range publishers {
		channel := fmt.Sprint("a", p)
		if err := c.nodes[0].wait(c.patience, func() error {
			if len(c.nodes[0].of(channel)) == 0 {
				return fmt.Errorf("nothing delivered of %q", channel)
			}
			return nil
		}); err != nil {
			return errors.Join(err, c.close())
		}
	}
	if err := c.closeNode(0); err != nil {
		return err
	}
	wait.Wait()
	for _, err := range errs {
		if err := checkUnavailable("publish while closing", err); err != nil {
			return err
		}
	}
	return c.nodes[0].fault()
}
