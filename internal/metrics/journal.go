package metrics

import (
	"github.com/longwire/longwire/internal/otlp"
	"github.com/longwire/longwire/internal/sampling"
)

// journal is what a gateway tells of single connections and calls.
type journal struct{ entries, lost uint64 }

// Journal makes a collector of the entries about single connections and calls that went to the log and to the collector of
// traces, and of those that were lost on the way.
func Journal(stats func() (entries, lost uint64)) Collector {
	c := &snapshots[journal]{read: func() (j journal, ok bool) {
		j.entries, j.lost = stats()
		return j, true
	}}
	c.all.counter("longwire_journal_entries_total", "Entries about single connections and calls that were handed to the log and to what sends spans.", func(j *journal) float64 { return float64(j.entries) })
	c.all.counter("longwire_journal_lost_total", "Entries about single connections and calls that were lost, since those did not keep up.", func(j *journal) float64 { return float64(j.lost) })
	return c
}

// Sampling makes a collector of a sampled log.
func Sampling(stats func() sampling.Stats) Collector {
	c := &snapshots[sampling.Stats]{read: func() (sampling.Stats, bool) { return stats(), true }}
	c.all.counters("longwire_log_lines_total", "Lines of the log by what became of them: written (of connections and calls), general (the gateway's own, written), below (those, below log-level), sampled (of connections to which nothing happened), expired and crowded (of others that were held back too long, or were too many).",
		"outcome", []string{"written", "general", "below", "sampled", "expired", "crowded"},
		func(s *sampling.Stats) float64 { return float64(s.Traced) }, func(s *sampling.Stats) float64 { return float64(s.Untraced) },
		func(s *sampling.Stats) float64 { return float64(s.Below) }, func(s *sampling.Stats) float64 { return float64(s.Dropped) },
		func(s *sampling.Stats) float64 { return float64(s.Expired) }, func(s *sampling.Stats) float64 { return float64(s.Crowded) })
	c.all.gauge("longwire_log_held_lines", "Lines of the log that are held back until it is known what becomes of their connections.", func(s *sampling.Stats) float64 { return float64(s.Lines) })
	c.all.gauge("longwire_log_held_bytes", "What those take, about.", func(s *sampling.Stats) float64 { return float64(s.Bytes) })
	return c
}

// OTLP makes a collector of what was sent to the collector of traces, and of what is held back: tail are the numbers of that.
func OTLP(stats func() otlp.Stats, tail func() sampling.TailStats) Collector {
	type both struct {
		otlp.Stats
		tail sampling.TailStats
	}
	c := &snapshots[both]{read: func() (both, bool) { return both{stats(), tail()}, true }}
	c.all.counters("longwire_otlp_spans_total", "Spans by what became of them: sent, sampled (of connections to which nothing happened), expired and crowded (of others that were held back too long, or were too many), full (too many waited to be sent), refused (by the collector), failed (it did not answer in time).",
		"outcome", []string{"sent", "sampled", "expired", "crowded", "full", "refused", "failed"},
		func(s *both) float64 { return float64(s.Sent) }, func(s *both) float64 { return float64(s.tail.Dropped) },
		func(s *both) float64 { return float64(s.tail.Expired) }, func(s *both) float64 { return float64(s.tail.Crowded) },
		func(s *both) float64 { return float64(s.Crowded) }, func(s *both) float64 { return float64(s.Refused) }, func(s *both) float64 { return float64(s.Failed) })
	request := func(outcome string) func(*both) float64 {
		return func(s *both) float64 { return float64(s.Requests[outcome]) }
	}
	c.all.counters("longwire_otlp_requests_total", "Requests to the collector by how they ended: ok, partial (it refused some of the spans), retry (it asked to come again), refused, broken (no answer).",
		"outcome", []string{"ok", "partial", "retry", "refused", "broken"},
		request("ok"), request("partial"), request("retry"), request("refused"), request("broken"))
	c.all.gauge("longwire_otlp_waiting_bytes", "Bytes of spans that wait to be sent.", func(s *both) float64 { return float64(s.Waiting) })
	return c
}
