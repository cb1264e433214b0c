package hub

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/longwire/longwire/engine"
)

// newHub is a hub that counts its wake-ups.
func newHub(loops int) (h *Hub, wakes *int) {
	wakes = new(int)
	return New(Options{Loops: loops, Wake: func(int) { *wakes++ }}), wakes
}

// loops are those that the index names for a channel.
func (h *Hub) loops(channel string) (out []int) {
	h.interested(channel, func(s *Shard) { out = append(out, s.loop) })
	return out
}

// entries is the size of the index.
func (h *Hub) entries() (n int) {
	for i := range h.index {
		for k := range h.index[i] {
			n += len(h.index[i][k].loops)
		}
	}
	return n
}

func publication(data string) *engine.Publication { return &engine.Publication{Data: []byte(data)} }

// TestModel holds hubs of several sizes against maps through random operations.
func TestModel(t *testing.T) {
	for _, loops := range []int{1, 3, 64, 65, 200} {
		h, _ := newHub(loops)
		rng := rand.New(rand.NewPCG(uint64(loops), 1))
		type key struct {
			loop int
			sub  uint32
		}
		type value struct {
			slot    uint32
			channel string
		}
		model := make(map[key]value)
		var keys []key
		names := make([]string, 300)
		for k := range names {
			names[k] = fmt.Sprint("channel:", k*k)
		}
		for step := range 20_000 {
			switch n := rng.IntN(100); {
			case n < 55-50*(step/10_000) || len(keys) == 0:
				s := h.Shard(rng.IntN(loops))
				v := value{uint32(rng.IntN(1 << 20)), names[rng.IntN(len(names))]}
				k := key{s.loop, s.Subscribe(v.slot, []byte(v.channel), SubFlags(step)&SubServer)}
				if _, taken := model[k]; taken || k.sub == 0 {
					t.Fatalf("step %d: reference %d is taken", step, k.sub)
				}
				if rng.IntN(4) == 0 {
					s.SetDelta(k.sub)
					s.SetDelta(k.sub)
				}
				model[k] = v
				keys = append(keys, k)
			case n < 90:
				at := rng.IntN(len(keys))
				k := keys[at]
				s, v := h.Shard(k.loop), model[k]
				if string(s.Name(k.sub)) != v.channel || s.At(k.sub).Slot != v.slot || s.Channel(k.sub) != s.Find([]byte(v.channel)) {
					t.Fatalf("step %d: subscription %+v is of %s, want %+v", step, k, s.Name(k.sub), v)
				}
				s.Unsubscribe(k.sub)
				delete(model, k)
				keys = slices.Delete(keys, at, at+1)
			default:
				name := names[rng.IntN(len(names))]
				want := make(map[int]map[uint32]bool)
				for k, v := range model {
					if v.channel == name {
						if want[k.loop] == nil {
							want[k.loop] = make(map[uint32]bool)
						}
						want[k.loop][k.sub] = true
					}
				}
				if got := h.loops(name); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
					t.Fatalf("step %d: the index has %v for %s, want %v", step, got, name, slices.Sorted(maps.Keys(want)))
				}
				p := publication(name)
				h.Publication(name, p, "")
				for loop := range loops {
					got := make(map[uint32]bool)
					h.Shard(loop).Drain(func(sub uint32, q *Push) {
						if got[sub] || q.Publication != p {
							t.Errorf("loop %d: subscription %d had it twice, or another", loop, sub)
						}
						got[sub] = true
					})
					if !maps.Equal(got, want[loop]) {
						t.Fatalf("step %d: loop %d delivered to %v, want %v", step, loop, got, want[loop])
					}
				}
			}
		}
		// By loop and channel.
		channels := make([]map[string]int, loops)
		for k, v := range model {
			if channels[k.loop] == nil {
				channels[k.loop] = make(map[string]int)
			}
			channels[k.loop][v.channel]++
		}
		for loop, want := range channels {
			s, got, subs := h.Shard(loop), make(map[string]int), 0
			s.EachChannel(func(name []byte, n int) { got[string(name)] = n; subs += n })
			if !maps.Equal(got, want) && len(want)+len(got) > 0 || s.Channels() != len(want) || s.Subs() != subs {
				t.Errorf("loop %d has channels %v, want %v", loop, got, want)
			}
		}
		for _, k := range keys {
			h.Shard(k.loop).Unsubscribe(k.sub)
		}
		for loop := range loops {
			if s := h.Shard(loop); s.Subs() != 0 || s.Channels() != 0 || s.names.Used() != 0 || len(s.bases) != 0 || s.Waiting() != 0 {
				t.Errorf("loop %d keeps %d subscriptions, %d channels, %d bytes of names, %d bases", loop, s.Subs(), s.Channels(), s.names.Used(), len(s.bases))
			}
		}
		if n := h.entries(); n != 0 {
			t.Errorf("%d loops: %d entries in the index of nothing", loops, n)
		}
	}
}

// rehash gives the channel of sub another hash.
func (s *Shard) rehash(sub uint32, hash uint64) {
	c := s.subs.At(sub).channel
	ch := s.channels.At(c)
	old := binary.LittleEndian.Uint64(s.names.At(ch.name))
	s.byName.Remove(c, ch.hash, s.link)
	s.hub.withdraw(old, s.loop)
	ch.hash = uint32(hash)
	binary.LittleEndian.PutUint64(s.names.At(ch.name), hash)
	s.byName.Add(c, ch.hash, s.link, s.hashOf)
	s.hub.announce(hash, s.loop)
}

// TestEqualHashes has two channels with all 64 bits the same: the last of them takes the entry of the index away.
func TestEqualHashes(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		h, _ := newHub(2)
		s := h.Shard(1)
		subs := []uint32{s.Subscribe(1, []byte("a"), 0), s.Subscribe(2, []byte("b"), 0)}
		hash := h.hash([]byte("a"))
		s.rehash(subs[1], hash)
		if a, b := s.find(hash, []byte("a")), s.find(hash, []byte("b")); a == b || a == 0 || b == 0 {
			t.Fatalf("found %d and %d", a, b)
		}
		if n := h.entries(); n != 1 {
			t.Errorf("%d entries", n)
		}
		s.Unsubscribe(subs[order[0]])
		if got := h.loops("a"); !slices.Equal(got, []int{1}) {
			t.Errorf("the index has %v while one of the two is there", got)
		}
		s.Unsubscribe(subs[order[1]])
		if n := h.entries(); n != 0 || h.loops("a") != nil {
			t.Errorf("%d entries of nothing", n)
		}
	}
}

// TestEqualHalves has channels whose hashes share the 32 bits that the table goes by.
func TestEqualHalves(t *testing.T) {
	h, _ := newHub(1)
	s := h.Shard(0)
	seen := make(map[uint32]string)
	var pair [2]string
	for k := range 1 << 20 {
		name := fmt.Sprint("c", k)
		half := uint32(h.hash([]byte(name)))
		if other, ok := seen[half]; ok {
			pair = [2]string{other, name}
			break
		}
		seen[half] = name
	}
	if pair[0] == "" {
		t.Fatal("no two of a million")
	}
	a, b := s.Subscribe(1, []byte(pair[0]), 0), s.Subscribe(2, []byte(pair[1]), 0)
	for k, name := range pair {
		h.Publication(name, publication("1"), "")
		var got []uint32
		s.Drain(func(sub uint32, _ *Push) { got = append(got, sub) })
		if !slices.Equal(got, [][]uint32{{a}, {b}}[k]) {
			t.Errorf("%s reached %v", name, got)
		}
	}
	s.Unsubscribe(a)
	if s.Find([]byte(pair[0])) != 0 || s.Find([]byte(pair[1])) != s.Channel(b) {
		t.Error("the wrong one is gone")
	}
	s.Unsubscribe(b)
}

// drained is what a Drain delivers, as slot:data.
func drained(s *Shard, also func(sub uint32, p *Push)) (out []string) {
	s.Drain(func(sub uint32, p *Push) {
		out = append(out, fmt.Sprintf("%d:%s", s.At(sub).Slot, p.Publication.Data))
		if also != nil {
			also(sub, p)
		}
	})
	return out
}

func TestDrain(t *testing.T) {
	h, wakes := newHub(1)
	s := h.Shard(0)
	s.Subscribe(1, []byte("x"), 0)
	two := s.Subscribe(2, []byte("x"), 0)
	s.Subscribe(3, []byte("y"), 0)
	for _, p := range [][2]string{{"x", "a"}, {"y", "b"}, {"none", "c"}, {"x", "d"}} {
		h.Publication(p[0], publication(p[1]), "")
	}
	if *wakes != 1 || s.Waiting() == 0 {
		t.Errorf("%d wake-ups, %d bytes wait", *wakes, s.Waiting())
	}
	var more []bool
	got := drained(s, func(sub uint32, p *Push) {
		more = append(more, s.More())
		if string(p.Publication.Data) == "a" && sub == two {
			s.Unsubscribe(sub)
		}
	})
	if want := []string{"2:a", "1:a", "3:b", "1:d"}; !slices.Equal(got, want) {
		t.Errorf("delivered %v, want %v", got, want)
	}
	if want := []bool{true, true, true, false}; !slices.Equal(more, want) || s.More() {
		t.Errorf("More was %v, want %v", more, want)
	}
	if s.Waiting() != 0 {
		t.Errorf("%d bytes wait", s.Waiting())
	}
	h.Publication("x", publication("e"), "")
	if *wakes != 2 {
		t.Errorf("%d wake-ups", *wakes)
	}
	if got := drained(s, nil); !slices.Equal(got, []string{"1:e"}) {
		t.Errorf("delivered %v", got)
	}
	if got := drained(s, nil); got != nil {
		t.Errorf("delivered %v", got)
	}
}

// TestDrainNested publishes and drains within deliver: the drain does nothing, and nothing is lost.
func TestDrainNested(t *testing.T) {
	h, wakes := newHub(1)
	s := h.Shard(0)
	s.Subscribe(1, []byte("x"), 0)
	s.Subscribe(2, []byte("y"), 0)
	h.Publication("x", publication("a"), "")
	got := drained(s, func(sub uint32, p *Push) {
		if string(p.Publication.Data) == "a" {
			h.Publication("y", publication("b"), "")
			h.Publication("x", publication("c"), "")
			if inner := drained(s, nil); inner != nil {
				t.Errorf("a drain within a drain delivers %v", inner)
			}
		}
	})
	if want := []string{"1:a", "2:b", "1:c"}; !slices.Equal(got, want) || *wakes != 1 || s.Waiting() != 0 {
		t.Errorf("delivered %v with %d wake-ups, %d bytes wait", got, *wakes, s.Waiting())
	}
}

// TestDrainEnds has each delivery bring another: one Drain has an end, and another is asked for.
func TestDrainEnds(t *testing.T) {
	h, wakes := newHub(1)
	s := h.Shard(0)
	s.Subscribe(1, []byte("x"), 0)
	h.Publication("x", publication("a"), "")
	n := 0
	again := func(uint32, *Push) {
		if n++; n < 1000 {
			h.Publication("x", publication("a"), "")
		}
	}
	drains := 0
	for *wakes > 0 && drains < 1000 {
		*wakes = 0
		drains++
		s.Drain(again)
	}
	if n != 1000 || drains < 10 || s.Waiting() != 0 {
		t.Errorf("%d deliveries in %d drains, %d bytes wait", n, drains, s.Waiting())
	}
}

// TestLastLeaves has the last subscriber of a channel with deltas go within deliver.
func TestLastLeaves(t *testing.T) {
	h, _ := newHub(1)
	s := h.Shard(0)
	for _, subs := range []int{1, 3} {
		for k := range subs {
			s.SetDelta(s.Subscribe(uint32(k), []byte("x"), 0))
		}
		h.Publication("x", publication("a"), "")
		h.Publication("x", publication("b"), "")
		if got := drained(s, func(sub uint32, _ *Push) { s.Unsubscribe(sub) }); len(got) != subs {
			t.Errorf("delivered %v to %d", got, subs)
		}
		if s.Channels() != 0 || len(s.bases) != 0 || h.entries() != 0 {
			t.Errorf("kept: %d channels, %d bases, %d entries", s.Channels(), len(s.bases), h.entries())
		}
	}
}

func TestReset(t *testing.T) {
	h, wakes := newHub(1)
	s := h.Shard(0)
	sub := s.Subscribe(1, []byte("x"), 0)
	s.SetDelta(sub)
	h.Publication("x", publication("a"), "")
	s.Unsubscribe(sub)
	s.Reset()
	if s.Waiting() != 0 || s.Subs() != 0 || s.names.Used() != 0 {
		t.Errorf("%d bytes wait, %d subscriptions", s.Waiting(), s.Subs())
	}
	s.Subscribe(2, []byte("x"), 0)
	h.Publication("x", publication("b"), "")
	if *wakes != 2 {
		t.Errorf("%d wake-ups: after a Reset somebody has to be woken again", *wakes)
	}
	if got := drained(s, nil); !slices.Equal(got, []string{"2:b"}) {
		t.Errorf("delivered %v", got)
	}
}

func TestBusy(t *testing.T) {
	h := New(Options{Loops: 2, Wake: func(int) {}, QueueBytes: 10_000})
	h.Shard(0).Subscribe(1, []byte("x"), 0)
	h.Shard(1).Subscribe(1, []byte("y"), 0)
	h.Publication("x", publication(string(make([]byte, 9000))), "")
	if h.Busy("x") {
		t.Error("busy before the bound")
	}
	h.Publication("x", publication(string(make([]byte, 9000))), "")
	if !h.Busy("x") || h.Busy("y") || h.Busy("nobody's") {
		t.Error("not busy beyond the bound, or others are")
	}
	h.Shard(0).Drain(func(uint32, *Push) {})
	if h.Busy("x") {
		t.Error("busy after a drain")
	}
}

func TestSub(t *testing.T) {
	if n := unsafe.Sizeof(Sub{}); n > 56 {
		t.Errorf("a subscription has %d bytes", n)
	}
	h, _ := newHub(1)
	s := h.Shard(0)
	sub := s.Subscribe(1, []byte("x"), 0)
	sb := s.At(sub)
	serial := sb.Serial
	s.Unsubscribe(sub)
	if sb.Serial != 0 {
		t.Error("one that ended has a serial")
	}
	if again := s.Subscribe(1, []byte("x"), 0); again != sub || sb.Serial == serial || sb.Serial == 0 {
		t.Errorf("reference %d after %d, serial %d after %d", again, sub, sb.Serial, serial)
	}
	s.serial = 1<<32 - 1
	if sb := s.At(s.Subscribe(1, []byte("x"), 0)); sb.Serial == 0 {
		t.Error("a subscription has the serial of none")
	}
	if EpochHash("a") == EpochHash("b") || EpochHash("") == 0 || EpochHash("abc") != EpochHash("ab"+"c") {
		t.Error("EpochHash")
	}
}

// TestConcurrent publishes from goroutines while loops subscribe, unsubscribe and drain.
func TestConcurrent(t *testing.T) {
	const loops, publishers, each = 3, 4, 500
	wake := make([]chan struct{}, loops)
	for i := range wake {
		wake[i] = make(chan struct{}, 1)
	}
	h := New(Options{Loops: loops, Wake: func(i int) {
		select {
		case wake[i] <- struct{}{}:
		default:
		}
	}})
	published, done := make(chan struct{}), make(chan [publishers]int)
	for i := range loops {
		s := h.Shard(i)
		s.Subscribe(1, []byte("x"), 0)
		go func() {
			var last [publishers]int
			for ended := false; !ended; {
				select {
				case <-wake[i]:
				case <-published:
					ended = true
				}
				y := s.Subscribe(2, []byte("y"), 0)
				s.Drain(func(sub uint32, p *Push) {
					if p.Channel != "x" {
						return
					}
					var from, n int
					if _, err := fmt.Sscanf(string(p.Publication.Data), "%d %d", &from, &n); err != nil || n != last[from]+1 {
						t.Errorf("loop %d: %s after %d: %v", i, p.Publication.Data, last[from], err)
					}
					last[from] = n
					p.Frame(CentrifugeJSONString, 0, 0)
				})
				s.Unsubscribe(y)
			}
			done <- last
		}()
	}
	sent := make(chan struct{})
	for k := range publishers {
		go func() {
			for n := range each {
				h.Publication("x", publication(fmt.Sprint(k, " ", n+1)), "")
				h.Publication("y", publication("0"), "")
			}
			sent <- struct{}{}
		}()
	}
	for range publishers {
		<-sent
	}
	close(published)
	for range loops {
		if last := <-done; last != [publishers]int{each, each, each, each} {
			t.Errorf("a loop got %v", last)
		}
	}
}
