package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/longwire/longwire/internal/hook"
)

// hooks is a prometheus.Collector of an application's backend.
type hooks struct {
	stats func() hook.Stats
	all   table[hook.Stats]
	calls *prometheus.Desc
}

// Hooks makes a collector of the calls to an application's backend. Methods without a hook have no series.
func Hooks(stats func() hook.Stats) Collector {
	h := &hooks{stats: stats, calls: prometheus.NewDesc("longwire_hook_calls_total",
		"Calls of the application's backend, by what came of them: ok, error, disconnect as it replied; timeout, connection, status, reply where it failed; busy, open, canceled, refused where it was not to blame.",
		[]string{"method", "outcome"}, nil)}
	h.all.gauge("longwire_hook_breaker_open", "1 while the breaker keeps calls from a backend that fails, 0.5 while it lets one through as a trial, else 0.", func(s *hook.Stats) float64 {
		return map[hook.State]float64{hook.Open: 1, hook.HalfOpen: 0.5}[s.Breaker]
	})
	h.all.gauge("longwire_hook_calls_in_flight", "Calls that wait for the backend's reply.", func(s *hook.Stats) float64 { return float64(s.InFlight) })
	h.all.gauge("longwire_hook_calls_waiting", "Calls that wait for others to end.", func(s *hook.Stats) float64 { return float64(s.Waiting) })
	return h
}

// Describe implements prometheus.Collector.
func (h *hooks) Describe(ch chan<- *prometheus.Desc) {
	h.all.describe(ch)
	ch <- h.calls
}

// Collect implements prometheus.Collector.
func (h *hooks) Collect(ch chan<- prometheus.Metric) {
	s := h.stats()
	h.all.collect(ch, &s)
	for _, c := range s.Calls {
		ch <- prometheus.MustNewConstMetric(h.calls, prometheus.CounterValue, float64(c.Count), c.Method, c.Outcome)
	}
}
