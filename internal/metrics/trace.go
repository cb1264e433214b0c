package metrics

import "github.com/prometheus/client_golang/prometheus"

// TraceStats is what tracing the gateway's connections counts.
type TraceStats struct {
	Level                string      // one of traceLevels
	Ends                 []TraceEnds // every verdict, also those that there was none of
	Events, Lost, Missed uint64
	Untraced             uint64 // connections that the tracer could not be told the names of
}

// TraceEnds is how many connections ended with a verdict of the kernel's.
type TraceEnds struct {
	Verdict string
	Count   uint64
}

// traceLevels are the values of TraceStats.Level.
var traceLevels = []string{"bpf", "diag", "errno", "off"}

// traces is a prometheus.Collector of a tracer.
type traces struct {
	stats       func() TraceStats
	all         table[TraceStats]
	ends, level *prometheus.Desc
}

// Trace makes a collector of what tracing counts. Where connections are not traced all is 0, and the level is off.
func Trace(stats func() TraceStats) Collector {
	t := &traces{
		stats: stats,
		ends:  prometheus.NewDesc("longwire_kernel_ends_total", "WebSocket connections that ended, by what the kernel says of it.", []string{"verdict"}, nil),
		level: prometheus.NewDesc("longwire_trace_level", "1 for the level at which connections are traced, else 0.", []string{"level"}, nil),
	}
	t.all.counter("longwire_trace_events_total", "Ends that the kernel told of, plain HTTP and refused connections included.", func(s *TraceStats) float64 { return float64(s.Events) })
	t.all.counter("longwire_trace_lost_total", "Ends that were not told, for want of room.", func(s *TraceStats) float64 { return float64(s.Lost) })
	t.all.counter("longwire_trace_missed_total", "Steps of connections that no probe saw, since it was running already on that processor; no end is among them.", func(s *TraceStats) float64 { return float64(s.Missed) })
	t.all.counter("longwire_untraced_total", "Connections that the tracer could not be told the names of.", func(s *TraceStats) float64 { return float64(s.Untraced) })
	return t
}

// Describe implements prometheus.Collector.
func (t *traces) Describe(ch chan<- *prometheus.Desc) {
	t.all.describe(ch)
	ch <- t.ends
	ch <- t.level
}

// Collect implements prometheus.Collector.
func (t *traces) Collect(ch chan<- prometheus.Metric) {
	s := t.stats()
	t.all.collect(ch, &s)
	for _, e := range s.Ends {
		ch <- prometheus.MustNewConstMetric(t.ends, prometheus.CounterValue, float64(e.Count), e.Verdict)
	}
	for _, l := range traceLevels {
		v := 0.0
		if l == s.Level {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(t.level, prometheus.GaugeValue, v, l)
	}
}
