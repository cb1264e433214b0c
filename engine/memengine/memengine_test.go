package memengine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longwire/longwire/engine"
	"github.com/longwire/longwire/engine/enginetest"
)

// clock is a clock that tests move.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestEngine(t *testing.T) {
	c := newClock()
	enginetest.Run(t, enginetest.Options{
		New: func(_ *testing.T, nodes int) []engine.Engine {
			list := make([]engine.Engine, nodes)
			for i := range list {
				list[i] = New(&Options{Now: c.now})
			}
			return list
		},
		Advance: c.advance,
	})
}

// deaf is a handler that does nothing.
type deaf struct{}

func (deaf) Publication(string, *engine.Publication, string) {}
func (deaf) Join(string, *engine.ClientInfo)                 {}
func (deaf) Leave(string, *engine.ClientInfo)                {}
func (deaf) Control([]byte)                                  {}

var (
	ctx  = context.Background()
	kept = engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Hour}
)

// start starts an engine that is closed with the test.
func start(t testing.TB, o *Options) *Engine {
	t.Helper()
	e := New(o)
	if err := e.Start(ctx, deaf{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func publish(t testing.TB, e *Engine, channel, text string, o engine.PublishOptions) engine.Published {
	t.Helper()
	r, err := e.Publish(ctx, channel, &engine.Publication{Data: []byte(text)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func history(t testing.TB, e *Engine, channel string) ([]*engine.Publication, engine.Position) {
	t.Helper()
	pubs, top, err := e.History(ctx, channel, engine.HistoryFilter{Limit: -1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pubs, top
}

// audit compares what the engine counts with what it holds.
func audit(t testing.TB, e *Engine) {
	t.Helper()
	var bytes int64
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		publications := 0
		for name, st := range s.streams {
			bytes += streamOverhead + int64(len(name))
			publications += st.n
			for k := range st.n {
				p := st.at(k)
				bytes += cost(p)
				if want := st.top - uint64(st.n) + 1 + uint64(k); p.Offset != want {
					t.Errorf("stream %q has offset %d where %d belongs", name, p.Offset, want)
				}
			}
			if st.due.index == 0 || st.due.at > st.dueAt() {
				t.Errorf("stream %q is due at %d, and in the queue %d at %d", name, st.dueAt(), st.due.index, st.due.at)
			}
			if e.maxBytes >= 0 && (st.age.index == 0 || st.age.at > st.agedAt()) {
				t.Errorf("stream %q is of %d, and in the queue %d at %d", name, st.agedAt(), st.age.index, st.age.at)
			}
		}
		if publications != s.publications {
			t.Errorf("shard %d has %d publications, counts %d", i, publications, s.publications)
		}
		if len(s.due) != len(s.streams) || len(s.answers) != len(s.keys) {
			t.Errorf("shard %d: %d streams, %d of them due; %d keys, %d of them due", i, len(s.streams), len(s.due), len(s.keys), len(s.answers))
		}
		if head := s.ages.head(); head != nil && s.oldest.Load() != head.at {
			t.Errorf("shard %d tells others %d, its oldest is of %d", i, s.oldest.Load(), head.at)
		}
		s.mu.Unlock()
	}
	if got := e.bytes.Load(); got != bytes {
		t.Errorf("the engine counts %d bytes, has %d", got, bytes)
	}
}

// TestNothingKept: channels that keep nothing leave no trace, nor does asking for what never was.
func TestNothingKept(t *testing.T) {
	e := start(t, nil)
	for i := range 1000 {
		name := fmt.Sprint(i)
		publish(t, e, name, "x", engine.PublishOptions{})
		history(t, e, name)
		if err := e.RemoveHistory(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := e.RemovePresence(ctx, name, "c"); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Presence(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.Stats(); got != (Stats{}) {
		t.Errorf("1000 channels without history left %+v", got)
	}
}

// TestSweep: what is over is freed though nobody asks, and the epoch is another one then.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(nil)
		if err := e.Start(ctx, deaf{}); err != nil {
			t.Fatal(err)
		}
		const n = 2000 // more than one batch in some shard
		o := engine.PublishOptions{HistorySize: 10, HistoryTTL: 10 * time.Second, IdempotencyTTL: 20 * time.Second}
		first := make(map[string]engine.Published)
		for i := range n {
			name := fmt.Sprint(i)
			o.IdempotencyKey = name
			first[name] = publish(t, e, name, "x", o)
			if first[name].Epoch != e.epoch || len(e.epoch) != 8 {
				t.Fatalf("epoch is %q, the engine's %q", first[name].Epoch, e.epoch)
			}
			for client := range 2 {
				if err := e.AddPresence(ctx, name, &engine.ClientInfo{Client: fmt.Sprint(client)}, 30*time.Second); err != nil {
					t.Fatal(err)
				}
			}
		}
		expect := func(want Stats) {
			t.Helper()
			synctest.Wait()
			got := e.Stats()
			got.Bytes = 0
			if got != want {
				t.Errorf("after %v: %+v, want %+v", time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), got, want)
			}
			audit(t, e)
		}
		expect(Stats{Streams: n, Publications: n, Keys: n, Clients: 2 * n})
		time.Sleep(11 * time.Second) // of the bubble, as below: it takes no time
		expect(Stats{Streams: n, Keys: n, Clients: 2 * n})
		time.Sleep(10 * time.Second)
		expect(Stats{Streams: n, Clients: 2 * n})
		time.Sleep(10 * time.Second)
		expect(Stats{Streams: n})
		// A day from when the publications were over.
		time.Sleep(24*time.Hour - 22*time.Second)
		expect(Stats{Streams: n})
		time.Sleep(2 * time.Second)
		expect(Stats{})
		if got := e.Stats().Bytes; got != 0 {
			t.Errorf("an empty engine has %d bytes", got)
		}
		for name, was := range first {
			_, top := history(t, e, name)
			r := publish(t, e, name, "x", kept)
			if r.Offset != 1 || r.Epoch == was.Epoch || top != (engine.Position{Epoch: r.Epoch}) {
				t.Errorf("%q was at %v, is at %v, publishes at %v", name, was.Position, top, r.Position)
			}
			if engine.Recover(was.Position, nil, r.Position) {
				t.Errorf("%q has recovered from %v to %v", name, was.Position, r.Position)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEpochs: a forgotten stream changes the epoch of what begins later in its part of the hash, and of nothing else.
func TestEpochs(t *testing.T) {
	c := newClock()
	e := start(t, &Options{Now: c.now})
	short := engine.PublishOptions{HistorySize: 1, HistoryTTL: time.Second}
	same, other := "", ""
	part := func(name string) uint64 { return e.hash(name) % (shardCount * bucketCount) }
	for i := 0; same == "" && i < 1<<24; i++ {
		if name := fmt.Sprint("same", i); part(name) == part("gone") {
			same = name
		} else {
			other = name
		}
	}
	if same == "" {
		t.Fatal("no channel with the same part of the hash")
	}
	stays := publish(t, e, same, "x", kept)
	for round := range 3 {
		was := publish(t, e, "gone", "x", short)
		c.advance(2 * time.Second)
		if _, _, err := e.History(ctx, "gone", engine.HistoryFilter{}, time.Second); err != nil {
			t.Fatal(err)
		}
		c.advance(2 * time.Second)
		_, now := history(t, e, "gone")
		if now.Offset != 0 || now.Epoch == was.Epoch {
			t.Errorf("round %d: position after metaTTL is %v, was %v", round, now, was.Position)
		}
		if _, top := history(t, e, same); top != stays.Position {
			t.Errorf("round %d: a stream that exists is at %v, was at %v", round, top, stays.Position)
		}
		if _, top := history(t, e, other); top != (engine.Position{Epoch: e.epoch}) {
			t.Errorf("round %d: a channel elsewhere is at %v, want offset 0 in epoch %q", round, top, e.epoch)
		}
	}
	audit(t, e)
}

// TestMaxBytes: the oldest publications of the engine go first, and what is gone is not taken for recovered.
func TestMaxBytes(t *testing.T) {
	c := newClock()
	each := cost(&engine.Publication{Data: make([]byte, 100)})
	const channels, fit = 8, 20
	name := func(i int) string { return fmt.Sprint("c", i%channels) }
	e := start(t, &Options{Now: c.now, MaxBytes: channels*(streamOverhead+2) + fit*each})
	epoch := e.epoch
	const n = 100
	for i := range n {
		c.advance(time.Millisecond)
		r, err := e.Publish(ctx, name(i), &engine.Publication{Data: make([]byte, 100)}, kept)
		if err != nil {
			t.Fatal(err)
		}
		if want := (engine.Position{Offset: uint64(i/channels) + 1, Epoch: epoch}); r.Position != want {
			t.Fatalf("publication %d at %v, want %v", i, r.Position, want)
		}
		st := e.Stats()
		if st.Bytes > e.maxBytes {
			t.Fatalf("after publication %d: %d bytes of %d", i, st.Bytes, e.maxBytes)
		}
		if want := min(i+1, fit); i >= channels && st.Publications != want {
			t.Fatalf("after publication %d: %d are kept, want %d", i, st.Publications, want)
		}
	}
	audit(t, e)
	// The last 20 are there, and none else.
	for i := range channels {
		pubs, top := history(t, e, name(i))
		var want, got []uint64
		for k := i; k < n; k += channels {
			if k >= n-fit {
				want = append(want, uint64(k/channels)+1)
			}
		}
		for _, p := range pubs {
			got = append(got, p.Offset)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s keeps %v, want %v", name(i), got, want)
		}
		for o := range top.Offset + 1 {
			since := engine.Position{Offset: o, Epoch: epoch}
			missed, top, err := e.History(ctx, name(i), engine.HistoryFilter{Since: &since, Limit: -1}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := engine.Recover(since, missed, top), o+1 >= want[0]; got != want {
				t.Errorf("%s: recovered from %d: %v, want %v", name(i), o, got, want)
			}
		}
	}
	if st := e.Stats(); st.Dropped != n-fit || st.Forgotten != 0 || st.Streams != channels {
		t.Errorf("%+v, want %d dropped and no stream forgotten", st, n-fit)
	}
	// What is larger than the bound takes its own stream's publications with it, and no other's.
	before, top := history(t, e, name(1))
	others := e.Stats().Publications - len(before)
	r, err := e.Publish(ctx, name(1), &engine.Publication{Data: make([]byte, e.maxBytes)}, kept)
	if want := (engine.Position{Offset: top.Offset + 1, Epoch: epoch}); err != nil || r.Position != want {
		t.Fatalf("a large publication is at %v, %v, want %v", r.Position, err, want)
	}
	if pubs, got := history(t, e, name(1)); len(pubs) != 0 || got != r.Position || len(before) == 0 {
		t.Errorf("%d publications, before %d, up to %v after a large one at %v", len(pubs), len(before), got, r.Position)
	}
	if st := e.Stats(); st.Publications != others || st.Dropped != uint64(n-fit+len(before)+1) {
		t.Errorf("%+v after a large publication, want %d publications", st, others)
	}
	audit(t, e)
}

// TestMaxBytesStreams: streams without publications give too, those idle for longest first; a publication that is
// larger than the bound is delivered and not kept.
func TestMaxBytesStreams(t *testing.T) {
	c := newClock()
	const fit = 10
	e := start(t, &Options{Now: c.now, MaxBytes: fit * (streamOverhead + 4)})
	const n = 200
	for i := range n {
		c.advance(time.Second)
		name := fmt.Sprintf("%04d", i)
		if r, err := e.Publish(ctx, name, &engine.Publication{Data: make([]byte, 1<<16)}, kept); err != nil || r.Offset != 1 {
			t.Fatalf("publish: %+v, %v", r, err)
		}
		if st := e.Stats(); st.Bytes > e.maxBytes || st.Publications != 0 {
			t.Fatalf("after %d: %+v, with a bound of %d bytes", i, st, e.maxBytes)
		}
		audit(t, e)
	}
	if st := e.Stats(); st.Streams != fit || st.Dropped != n || st.Forgotten != n-fit {
		t.Errorf("%+v, want %d streams, the others forgotten", st, fit)
	}
	for i := range n {
		_, top := history(t, e, fmt.Sprintf("%04d", i))
		if want := uint64(0); i < n-fit && top.Offset != want {
			t.Errorf("stream %d is at %v though it should be forgotten", i, top)
		} else if i >= n-fit && top != (engine.Position{Offset: 1, Epoch: top.Epoch}) {
			t.Errorf("stream %d is at %v though it should be remembered", i, top)
		}
	}
}

// TestMaxBytesRandom: with random operations of many goroutines under a small bound, the counts stay right, no offset
// is given twice in an epoch, and what is said to be recovered is.
func TestMaxBytesRandom(t *testing.T) {
	c := newClock()
	e := start(t, &Options{Now: c.now, MaxBytes: 20_000, MaxKeys: 64})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const workers, operations = 4, 4000
	var mu sync.Mutex
	given := make(map[string]bool)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(w)))
			for range operations {
				name := fmt.Sprint(r.IntN(60))
				switch r.IntN(10) {
				case 0:
					c.advance(time.Duration(r.IntN(1000)) * time.Millisecond)
					e.sweep(e.milliseconds())
				case 1:
					if err := e.RemoveHistory(ctx, name); err != nil {
						t.Error(err)
					}
				case 2, 3:
					since := engine.Position{}
					pubs, top, err := e.History(ctx, name, engine.HistoryFilter{Since: &since, Limit: -1}, time.Duration(1+r.IntN(60))*time.Second)
					if err != nil || engine.Recover(since, pubs, top) != (uint64(len(pubs)) == top.Offset) {
						t.Errorf("history has %d publications up to %v, %v", len(pubs), top, err)
					}
				default:
					o := engine.PublishOptions{HistorySize: 1 + r.IntN(20), HistoryTTL: time.Duration(1+r.IntN(60)) * time.Second}
					if r.IntN(3) == 0 {
						o.IdempotencyKey = fmt.Sprint(r.IntN(1000))
					}
					got, err := e.Publish(ctx, name, &engine.Publication{Data: make([]byte, r.IntN(300))}, o)
					if err != nil {
						t.Error(err)
					}
					if !got.Repeated {
						key := fmt.Sprint(name, " ", got.Epoch, " ", got.Offset)
						mu.Lock()
						if given[key] {
							t.Errorf("given twice: %s", key)
						}
						given[key] = true
						mu.Unlock()
					}
				}
			}
		})
	}
	wait.Wait()
	audit(t, e)
	st := e.Stats()
	if st.Bytes > e.maxBytes || st.Keys > 64 || st.Dropped == 0 || st.Forgotten == 0 || st.Evicted == 0 {
		t.Errorf("%+v: the bounds were not held, or not reached", st)
	}
}

// TestMaxKeys: beyond the bound, the key that is over next is forgotten.
func TestMaxKeys(t *testing.T) {
	c := newClock()
	e := start(t, &Options{Now: c.now, MaxKeys: 3 * shardCount})
	key := func(name string, ttl time.Duration) bool {
		return publish(t, e, "a", "x", engine.PublishOptions{IdempotencyKey: name, IdempotencyTTL: ttl}).Repeated
	}
	for i, s := range []struct {
		name     string
		ttl      time.Duration
		repeated bool
	}{
		{"1", time.Minute, false},
		{"2", 10 * time.Second, false},
		{"3", time.Hour, false},
		{"2", 10 * time.Second, true},
		{"4", time.Hour, false}, // takes the place of 2
		{"1", time.Minute, true},
		{"3", time.Hour, true},
		{"4", time.Hour, true},
		{"2", 10 * time.Second, false}, // takes that of 1
		{"1", time.Minute, false},      // and that again of 2
	} {
		if got := key(s.name, s.ttl); got != s.repeated {
			t.Errorf("step %d: key %s repeated: %v, want %v", i, s.name, got, s.repeated)
		}
	}
	if st := e.Stats(); st.Keys != 3 || st.Evicted != 3 {
		t.Errorf("%+v, want 3 keys, and 3 evicted", st)
	}
	c.advance(2 * time.Hour)
	e.sweep(e.milliseconds())
	if st := e.Stats(); st.Keys != 0 || st.Evicted != 3 {
		t.Errorf("%+v, want no key, and 3 evicted", st)
	}
}

// TestRing: a ring that was large is small again when the publications are gone.
func TestRing(t *testing.T) {
	c := newClock()
	e := start(t, &Options{Now: c.now})
	o := engine.PublishOptions{HistorySize: 1000, HistoryTTL: 10 * time.Second}
	slots := func() int {
		s := e.shard(e.hash("a"))
		return len(s.streams["a"].ring)
	}
	for range 1000 {
		publish(t, e, "a", "x", o)
	}
	if got := slots(); got != 1000 {
		t.Errorf("ring of %d for 1000 publications with HistorySize 1000", got)
	}
	c.advance(6 * time.Second)
	publish(t, e, "a", "x", o)
	c.advance(6 * time.Second)
	if pubs, top := history(t, e, "a"); len(pubs) != 1 || top.Offset != 1001 {
		t.Errorf("%d publications up to %v, want the last of 1001", len(pubs), top)
	}
	if got := slots(); got > 4 {
		t.Errorf("ring of %d for one publication", got)
	}
	c.advance(6 * time.Second)
	e.sweep(e.milliseconds())
	if got := slots(); got != 0 {
		t.Errorf("ring of %d for none", got)
	}
	publish(t, e, "a", "x", o)
	if pubs, top := history(t, e, "a"); len(pubs) != 1 || top.Offset != 1002 {
		t.Errorf("%d publications up to %v, want the last of 1002", len(pubs), top)
	}
	audit(t, e)
}

// TestPresenceQueue: the queue of rooms holds no more than there are, however they come and go.
func TestPresenceQueue(t *testing.T) {
	c := newClock()
	e := start(t, &Options{Now: c.now})
	r := rand.New(rand.NewPCG(1, 1))
	large := 0 // times a room had maps
	for i := range 20000 {
		// A few channels are large for half of the time.
		name, client := fmt.Sprint(r.IntN(100)), fmt.Sprint(r.IntN(5))
		if i/2000%2 == 0 {
			name, client = fmt.Sprint(r.IntN(3)), fmt.Sprint(r.IntN(60))
		}
		var err error
		switch r.IntN(4) {
		case 0:
			err = e.RemovePresence(ctx, name, client)
		case 1:
			c.advance(time.Duration(r.IntN(3000)) * time.Millisecond)
		default:
			info := &engine.ClientInfo{Client: client, User: fmt.Sprint(r.IntN(3))}
			err = e.AddPresence(ctx, name, info, time.Duration(1+r.IntN(900))*time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
		if room := e.presence(name).channels[name]; room != nil {
			checkRoom(t, room)
			if room.places != nil {
				large++
			}
			stats, err := e.PresenceStats(ctx, name)
			if who, err2 := e.Presence(ctx, name); err != nil || err2 != nil || stats != count(who) {
				t.Fatalf("presence stats %+v, %v; presence %+v, %v", stats, err, count(who), err2)
			}
		}
	}
	if large == 0 || large == 20000 {
		t.Errorf("a room had maps %d times", large)
	}
	clients, rooms := 0, 0
	for i := range e.presences {
		p := &e.presences[i]
		if len(p.due) != len(p.channels) {
			t.Errorf("part %d: %d rooms, %d of them due", i, len(p.channels), len(p.due))
		}
		for _, room := range p.channels {
			rooms++
			clients += len(room.members)
			checkRoom(t, room)
		}
	}
	if got := e.Stats().Clients; got != clients || rooms == 0 {
		t.Errorf("%d clients are counted, %d are in %d rooms", got, clients, rooms)
	}
	c.advance(20 * time.Minute)
	e.sweep(e.milliseconds())
	if got := e.Stats().Clients; got != 0 {
		t.Errorf("%d clients after all are over", got)
	}
}

// checkRoom compares what a room keeps about its members with them.
func checkRoom(t *testing.T, r *room) {
	t.Helper()
	users := make(map[string]int)
	for i, m := range r.members {
		users[m.info.User]++
		if m.over < r.due.at {
			t.Fatalf("room %q is due at %d, a member at %d", r.channel, r.due.at, m.over)
		}
		if got := r.find(m.info.Client); got != i {
			t.Fatalf("room %q has client %q at %d, finds it at %d", r.channel, m.info.Client, i, got)
		}
	}
	if r.places != nil && (len(r.places) != len(r.members) || !maps.Equal(users, r.users)) {
		t.Fatalf("room %q counts %d members and users %v, has %d and %v", r.channel, len(r.places), r.users, len(r.members), users)
	}
	if (len(r.members) > few && r.places == nil) || (len(r.members) <= few/2 && r.places != nil) {
		t.Fatalf("room %q of %d members has places %v", r.channel, len(r.members), r.places)
	}
}

// count is what PresenceStats must be where who is what Presence returned.
func count(who map[string]*engine.ClientInfo) engine.PresenceStats {
	users := make(map[string]bool)
	for _, info := range who {
		users[info.User] = true
	}
	return engine.PresenceStats{Clients: len(who), Users: len(users)}
}

// TestQueue: the head is the smallest, whatever was put, moved and removed.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q queue[int]
	slots := make([]*slot[int], 300)
	for i := range slots {
		slots[i] = &slot[int]{owner: i}
	}
	in := make(map[int]int64)
	for range 20000 {
		i := r.IntN(len(slots))
		if r.IntN(3) == 0 {
			q.remove(slots[i])
			delete(in, i)
		} else {
			at := r.Int64N(1000)
			q.put(slots[i], at)
			in[i] = at
		}
		if len(q) != len(in) {
			t.Fatalf("%d slots in the queue, want %d", len(q), len(in))
		}
		if head := q.head(); head != nil {
			if in[head.owner] != head.at {
				t.Fatalf("head is of %d, put at %d", head.at, in[head.owner])
			}
			for _, at := range in {
				if at < head.at {
					t.Fatalf("head is of %d, there is %d", head.at, at)
				}
			}
		}
	}
	for len(q) > 0 {
		q.remove(q.head())
	}
	if cap(q) > 64 {
		t.Errorf("an empty queue has room for %d", cap(q))
	}
	if q.head() != nil {
		t.Error("an empty queue has a head")
	}
}

// TestPublishTakesOver: p itself is kept and delivered, not a copy.
func TestPublishTakesOver(t *testing.T) {
	e := start(t, nil)
	p := &engine.Publication{Data: []byte("x")}
	r, err := e.Publish(ctx, "a", p, kept)
	if err != nil {
		t.Fatal(err)
	}
	if pubs, _ := history(t, e, "a"); len(pubs) != 1 || pubs[0] != p || p.Offset != r.Offset || p.Time == 0 {
		t.Errorf("history is %v, want the publication %p itself, at %v", pubs, p, r)
	}
}

// TestLife: an engine starts once, and not after Close.
func TestLife(t *testing.T) {
	e := New(nil)
	if err := e.Start(ctx, deaf{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx, deaf{}); err == nil {
		t.Error("a second start is taken")
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := e.Start(ctx, deaf{}); err == nil {
		t.Error("a start after close is taken")
	}
	never := New(nil)
	if err := never.Close(); err != nil {
		t.Error(err)
	}
	if err := never.Start(ctx, deaf{}); err == nil {
		t.Error("a start after close is taken")
	}
	if _, err := never.Publish(ctx, "a", &engine.Publication{}, kept); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("publish: %v, want ErrUnavailable", err)
	}
}

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]int64{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000, 1<<63 - 1: 9223372036855,
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v is %d ms, want %d", d, got, want)
		}
	}
}
