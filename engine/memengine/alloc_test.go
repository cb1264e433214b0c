package memengine

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/longwire/longwire/engine"
)

// TestAllocations: publishing allocates nothing of its own, with or without a history that is full, nor does the
// position of a channel.
func TestAllocations(t *testing.T) {
	e := start(t, nil)
	full := engine.PublishOptions{HistorySize: 8, HistoryTTL: time.Hour}
	pubs := make([]engine.Publication, 8+1001)
	for i := range 8 {
		if _, err := e.Publish(ctx, "full", &pubs[i], full); err != nil {
			t.Fatal(err)
		}
	}
	next := 8
	bare := new(engine.Publication)
	info := &engine.ClientInfo{Client: "c"}
	if err := e.AddPresence(ctx, "full", info, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"publish without history", func() error {
			_, err := e.Publish(ctx, "none", bare, engine.PublishOptions{})
			return err
		}},
		{"publish with a full history", func() error {
			p := &pubs[next]
			next++
			_, err := e.Publish(ctx, "full", p, full)
			return err
		}},
		{"position", func() error {
			_, _, err := e.History(ctx, "full", engine.HistoryFilter{}, 0)
			return err
		}},
		{"position of a channel that never was", func() error {
			_, _, err := e.History(ctx, "none", engine.HistoryFilter{}, 0)
			return err
		}},
		{"presence renewed", func() error { return e.AddPresence(ctx, "full", info, time.Hour) }},
		{"presence stats", func() error {
			_, err := e.PresenceStats(ctx, "full")
			return err
		}},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := c.call(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s allocates %v times", c.name, n)
		}
	}
}

// BenchmarkPublish has the publication itself in its figures where it is kept: 1 allocation of 64 bytes.
//
//	one core of a 2-core Xeon, go1.26                       ns/op
//	history=0                                                 100
//	history=100                                               142
//	history=100, 10,000 channels                              244
//	history=100, 10,000 channels, at MaxBytes: one goes each  649
//	a known key                                               117
//	history=100, 64 channels from 2 cores                     270
func BenchmarkPublish(b *testing.B) {
	data := []byte(`{"text":"hello"}`)
	for _, c := range []struct {
		name     string
		channels int
		o        engine.PublishOptions
		max      int64
	}{
		{"history=0", 1, engine.PublishOptions{}, 0},
		{"history=100", 1, engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute}, 0},
		{"history=100/channels=10000", 10000, engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute}, 0},
		{"history=100/channels=10000/full", 10000, engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute}, 16 << 20},
		{"history=100/key", 1, engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute, IdempotencyKey: "k"}, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := start(b, &Options{MaxBytes: c.max})
			names := make([]string, c.channels)
			for i := range names {
				names[i] = fmt.Sprint("channel:", i)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p := &engine.Publication{Data: data}
				if _, err := e.Publish(ctx, names[i%len(names)], p, c.o); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
	b.Run("history=100/parallel", func(b *testing.B) {
		e := start(b, nil)
		o := engine.PublishOptions{HistorySize: 100, HistoryTTL: time.Minute}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := e.Publish(ctx, names64[i%len(names64)], &engine.Publication{Data: data}, o); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

var names64 = func() (names [64]string) {
	for i := range names {
		names[i] = fmt.Sprint("channel:", i)
	}
	return names
}()

func BenchmarkHistory(b *testing.B) {
	e := start(b, nil)
	for range 100 {
		publish(b, e, "a", "x", kept)
	}
	for _, limit := range []int{0, 10, -1} {
		b.Run(fmt.Sprint("limit=", limit), func(b *testing.B) {
			since := engine.Position{Offset: 50}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := e.History(ctx, "a", engine.HistoryFilter{Since: &since, Limit: limit}, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMemoryPerStream tells what a channel costs that keeps one publication, and what Options.MaxBytes takes it
// for; and what a client costs that is alone in a channel that also has a stream. The bytes of the names are not in the
// first figure, but in the second; 16 bytes of data are in both.
//
//	305 B/stream, 352 counted (16 of name); 142 B/client
func BenchmarkMemoryPerStream(b *testing.B) {
	const n = 100_000
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("channel:%08d", i)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	data := []byte("0123456789abcdef")
	info := &engine.ClientInfo{Client: "c", User: "u"}
	for b.Loop() {
		e := start(b, nil)
		before := heap()
		for _, name := range names {
			if _, err := e.Publish(ctx, name, &engine.Publication{Data: append([]byte(nil), data...)}, kept); err != nil {
				b.Fatal(err)
			}
		}
		streams := heap()
		for _, name := range names {
			if err := e.AddPresence(ctx, name, info, time.Hour); err != nil {
				b.Fatal(err)
			}
		}
		clients := heap()
		b.ReportMetric(float64(streams-before)/n, "B/stream")
		b.ReportMetric(float64(e.Stats().Bytes)/n, "counted-B/stream")
		b.ReportMetric(float64(clients-streams)/n, "B/client")
	}
}
