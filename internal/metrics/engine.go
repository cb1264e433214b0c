package metrics

import (
	"github.com/longwire/longwire/engine/memengine"
)

// Engine makes a collector of what the engine of one process holds. maxBytes is what it may hold. A scrape takes each of
// the engine's locks for a moment; it costs the same for many publications as for few.
func Engine(stats func() memengine.Stats, maxBytes int64) Collector {
	type S = memengine.Stats
	c := &snapshots[S]{read: func() (S, bool) { return stats(), true }}
	c.all.gauge("longwire_engine_bytes", "Memory of kept publications and their channels, by estimate.", func(s *S) float64 { return float64(s.Bytes) })
	c.all.gauge("longwire_engine_max_bytes", "The most that they may take; beyond it the oldest go.", func(*S) float64 { return float64(maxBytes) })
	c.all.gauge("longwire_engine_channels", "Channels with an offset and an epoch.", func(s *S) float64 { return float64(s.Streams) })
	c.all.gauge("longwire_engine_publications", "Publications that are kept.", func(s *S) float64 { return float64(s.Publications) })
	c.all.gauge("longwire_engine_idempotency_keys", "Idempotency keys that are kept.", func(s *S) float64 { return float64(s.Keys) })
	c.all.gauge("longwire_engine_present", "Clients that are present, counted once for every channel.", func(s *S) float64 { return float64(s.Clients) })
	c.all.counters("longwire_engine_evicted_total", "What went before its time for want of room: publications, channels with their epoch, idempotency keys.",
		"what", []string{"publication", "channel", "idempotency_key"},
		func(s *S) float64 { return float64(s.Dropped) }, func(s *S) float64 { return float64(s.Forgotten) }, func(s *S) float64 { return float64(s.Evicted) })
	return c
}
