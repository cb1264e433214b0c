package metrics

import "github.com/prometheus/client_golang/prometheus"

// table is a list of series that are plain numbers, read from a snapshot of type T.
type table[T any] []series[T]

type series[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string // its value, if it has a label
	value func(*T) float64
}

func (t *table[T]) gauge(name, help string, value func(*T) float64) {
	*t = append(*t, series[T]{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, nil, value})
}

func (t *table[T]) counter(name, help string, value func(*T) float64) {
	*t = append(*t, series[T]{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, nil, value})
}

// counters are the series of one metric with one label: a function for each of the label's values.
func (t *table[T]) counters(name, help, label string, values []string, functions ...func(*T) float64) {
	d := prometheus.NewDesc(name, help, []string{label}, nil)
	for i, v := range values {
		*t = append(*t, series[T]{d, prometheus.CounterValue, []string{v}, functions[i]})
	}
}

func (t table[T]) describe(ch chan<- *prometheus.Desc) {
	for i := range t {
		ch <- t[i].desc
	}
}

func (t table[T]) collect(ch chan<- prometheus.Metric, snapshot *T) {
	for i := range t {
		ch <- prometheus.MustNewConstMetric(t[i].desc, t[i].kind, t[i].value(snapshot), t[i].label...)
	}
}

// snapshots is a prometheus.Collector of a table. read takes the snapshot of a scrape, by any goroutine; without one
// there are no series in that scrape.
type snapshots[T any] struct {
	all  table[T]
	read func() (T, bool)
}

// Describe implements prometheus.Collector.
func (s *snapshots[T]) Describe(ch chan<- *prometheus.Desc) { s.all.describe(ch) }

// Collect implements prometheus.Collector.
func (s *snapshots[T]) Collect(ch chan<- prometheus.Metric) {
	if snapshot, ok := s.read(); ok {
		s.all.collect(ch, &snapshot)
	}
}
