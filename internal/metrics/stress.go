package metrics

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/longwire/longwire/internal/stress"
)

// Stress is the figures of a run of the load tester while it goes on. The zero value is ready; any goroutine may use it.
type Stress struct{ latest atomic.Pointer[stress.Sample] }

// Set takes the latest sample.
func (s *Stress) Set(x stress.Sample) { s.latest.Store(&x) }

// Handler serves them in the text format.
func (s *Stress) Handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(s)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

var (
	stressConns     = prometheus.NewDesc("longwire_stress_conns", "Connections now, by state: wanted, open, pending.", []string{"state"}, nil)
	stressConnects  = prometheus.NewDesc("longwire_stress_connects_total", "Connections by what became of them: attempted, opened, failed, lost.", []string{"outcome"}, nil)
	stressExchanges = prometheus.NewDesc("longwire_stress_exchanges_total", "Exchanges by what became of them: sent, done, delivered.", []string{"outcome"}, nil)
	stressErrors    = prometheus.NewDesc("longwire_stress_errors_total", "What went wrong, by kind.", []string{"kind"}, nil)
	stressLatency   = prometheus.NewDesc("longwire_stress_latency_seconds", "Latency since the sample before, from when an exchange was due (corrected) or sent (service), or of connects, by quantile.", []string{"of", "quantile"}, nil)
	stressReceived  = prometheus.NewDesc("longwire_stress_received_bytes_total", "Bytes received.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Stress) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, c) }

// Collect implements prometheus.Collector.
func (s *Stress) Collect(c chan<- prometheus.Metric) {
	x := s.latest.Load()
	if x == nil {
		x = new(stress.Sample)
	}
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	put(stressConns, prometheus.GaugeValue, float64(x.Wanted), "wanted")
	put(stressConns, prometheus.GaugeValue, float64(x.Open), "open")
	put(stressConns, prometheus.GaugeValue, float64(x.Pending), "pending")
	put(stressConnects, prometheus.CounterValue, float64(x.Attempted), "attempted")
	put(stressConnects, prometheus.CounterValue, float64(x.Opened), "opened")
	put(stressConnects, prometheus.CounterValue, float64(x.Failed), "failed")
	put(stressConnects, prometheus.CounterValue, float64(x.Lost), "lost")
	put(stressExchanges, prometheus.CounterValue, float64(x.Sent), "sent")
	put(stressExchanges, prometheus.CounterValue, float64(x.Done), "done")
	put(stressExchanges, prometheus.CounterValue, float64(x.Delivered), "delivered")
	put(stressReceived, prometheus.CounterValue, float64(x.BytesIn))
	for kind, n := range x.Errors {
		put(stressErrors, prometheus.CounterValue, float64(n), kind)
	}
	for _, l := range []struct {
		of string
		q  *stress.Quantile
	}{{"corrected", x.Latency}, {"service", x.Service}, {"connect", x.Connect}} {
		if l.q == nil {
			continue
		}
		put(stressLatency, prometheus.GaugeValue, l.q.P50/1e6, l.of, "0.5")
		put(stressLatency, prometheus.GaugeValue, l.q.P90/1e6, l.of, "0.9")
		put(stressLatency, prometheus.GaugeValue, l.q.P99/1e6, l.of, "0.99")
		put(stressLatency, prometheus.GaugeValue, l.q.P999/1e6, l.of, "0.999")
		put(stressLatency, prometheus.GaugeValue, l.q.Max/1e6, l.of, "1")
	}
}
