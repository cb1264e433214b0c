// Package metrics turns counts into what Prometheus reads: the gateway's, its engine's, its hooks' and the kernel's. Each
// scrape takes one snapshot of them, so nothing is paid between scrapes. Only plain HTTP requests are counted here
// (Requests), since nobody else times them.
package metrics

import (
	"net/http"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/longwire/longwire"
)

// Build is what longwire_build_info tells about the program.
type Build struct {
	Version  string
	Revision string
}

// Collector is a source of metrics, for Handler.
type Collector = prometheus.Collector

// pausesAndShare are the runtime's metrics that tell what the collector costs: its stop-the-world pauses as a
// histogram, and its share of the processor time.
var pausesAndShare = regexp.MustCompile(`^/sched/pauses/total/gc:seconds$|^/cpu/classes/(gc/)?total:cpu-seconds$`)

// Handler serves the gateway's metrics with those of the Go runtime, the process and more collectors, in the text
// format. The first scrape sets it up, not Handler.
func Handler(stats func() longwire.Stats, b Build, more ...Collector) http.Handler {
	scrape := sync.OnceValue(func() http.Handler {
		r := prometheus.NewRegistry()
		r.MustRegister(
			New(stats, b),
			collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
				collectors.GoRuntimeMetricsRule{Matcher: pausesAndShare})),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		)
		r.MustRegister(more...)
		return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { scrape().ServeHTTP(w, r) })
}

// collector is a prometheus.Collector over snapshots.
type collector struct {
	stats func() longwire.Stats
	build prometheus.Metric
	all   table[longwire.Stats]

	closes, refused, iterations *prometheus.Desc
}

// New makes a collector of the snapshots that stats takes. Any goroutine may scrape it.
func New(stats func() longwire.Stats, b Build) Collector {
	c := &collector{
		stats:   stats,
		closes:  prometheus.NewDesc("longwire_closes_total", "Connections that ended, by cause; handshakes that failed or were refused included.", []string{"cause"}, nil),
		refused: prometheus.NewDesc("longwire_refused_total", "Clients that were turned away, by limit or by what was wrong with the request.", []string{"reason"}, nil),
		iterations: prometheus.NewDesc("longwire_loop_iteration_seconds",
			"How long loops worked from one wake-up to the next sleep.", nil, nil),
		build: prometheus.MustNewConstMetric(prometheus.NewDesc("longwire_build_info", "What the program was built of; always 1.",
			[]string{"version", "revision", "go"}, nil), prometheus.GaugeValue, 1, b.Version, b.Revision, runtime.Version()),
	}
	gauge, counter := c.all.gauge, c.all.counter
	directions := func(name, help string, in, out func(*longwire.Stats) float64) {
		c.all.counters(name, help, "direction", []string{"in", "out"}, in, out)
	}

	gauge("longwire_conns", "WebSocket connections, handshakes under way included.", func(s *longwire.Stats) float64 { return float64(s.Conns) })
	gauge("longwire_sockets", "Sockets on loops: connections, and refused clients whose answer is on its way.", func(s *longwire.Stats) float64 { return float64(s.Sockets) })
	gauge("longwire_max_conns", "The most connections that are admitted.", func(s *longwire.Stats) float64 { return float64(s.MaxConns) })
	gauge("longwire_partials", "Connections that hold an incomplete request or message.", func(s *longwire.Stats) float64 { return float64(s.Partials) })
	gauge("longwire_http_conns", "Plain HTTP connections.", func(s *longwire.Stats) float64 { return float64(s.HTTP) })
	gauge("longwire_queue_bytes", "Bytes that wait for sockets that are full.", func(s *longwire.Stats) float64 { return float64(s.QueueBytes) })
	gauge("longwire_sessions", "Sessions that are connected.", func(s *longwire.Stats) float64 { return float64(s.Sessions) })
	gauge("longwire_subscriptions", "Subscriptions of all sessions.", func(s *longwire.Stats) float64 { return float64(s.Subscriptions) })
	gauge("longwire_loops", "Loops that run.", func(s *longwire.Stats) float64 { return float64(s.Loops) })
	gauge("longwire_draining", "1 while the gateway drains, else 0.", func(s *longwire.Stats) float64 {
		if s.Draining {
			return 1
		}
		return 0
	})

	counter("longwire_accepted_total", "Connections taken from a listener, refused ones included.", func(s *longwire.Stats) float64 { return float64(s.Accepted) })
	counter("longwire_adopted_total", "Connections taken over from net/http.", func(s *longwire.Stats) float64 { return float64(s.Adopted) })
	counter("longwire_upgraded_total", "Handshakes that succeeded.", func(s *longwire.Stats) float64 { return float64(s.Upgraded) })
	counter("longwire_passed_total", "Connections handed to net/http, since what they asked for is no endpoint's.", func(s *longwire.Stats) float64 { return float64(s.Passed) })
	counter("longwire_shed_total", "Times that accepting paused because the kernel had no descriptor or no memory.", func(s *longwire.Stats) float64 { return float64(s.Shed) })
	counter("longwire_pings_total", "Pings sent by the heartbeat.", func(s *longwire.Stats) float64 { return float64(s.Pings) })
	counter("longwire_pongs_total", "Pongs received.", func(s *longwire.Stats) float64 { return float64(s.Pongs) })
	counter("longwire_publications_total", "Publications that came in through this node.", func(s *longwire.Stats) float64 { return float64(s.Publications) })
	counter("longwire_recovered_total", "Subscriptions that got all that they had missed.", func(s *longwire.Stats) float64 { return float64(s.Recovered) })
	counter("longwire_unrecovered_total", "Subscriptions that had missed more than is kept.", func(s *longwire.Stats) float64 { return float64(s.Unrecovered) })
	counter("longwire_dropped_total", "Publications that slow subscribers did not get, as their namespace says.", func(s *longwire.Stats) float64 { return float64(s.Dropped) })
	counter("longwire_reads_total", "Read system calls that brought bytes.", func(s *longwire.Stats) float64 { return float64(s.Reads) })
	counter("longwire_writes_total", "Write system calls.", func(s *longwire.Stats) float64 { return float64(s.Writes) })
	counter("longwire_loop_busy_seconds_total", "Time that loops worked, all together.", func(s *longwire.Stats) float64 { return s.Busy.Seconds() })
	directions("longwire_messages_total", "Messages, control frames not counted.",
		func(s *longwire.Stats) float64 { return float64(s.MessagesIn) }, func(s *longwire.Stats) float64 { return float64(s.MessagesOut) })
	directions("longwire_bytes_total", "Bytes of TCP payload on loops, handshakes and frame headers included.",
		func(s *longwire.Stats) float64 { return float64(s.BytesIn) }, func(s *longwire.Stats) float64 { return float64(s.BytesOut) })
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	c.all.describe(ch)
	ch <- c.closes
	ch <- c.refused
	ch <- c.iterations
	ch <- c.build.Desc()
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	c.all.collect(ch, &s)
	// All labels are there from the start, so that a rate over the first one is right.
	for _, k := range longwire.CauseKinds() {
		ch <- prometheus.MustNewConstMetric(c.closes, prometheus.CounterValue, float64(s.Closes[k.String()]), k.String())
	}
	for _, k := range longwire.RefusalKinds() {
		ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(s.Refused[k]), k)
	}
	// Stats counts each bucket for itself, Prometheus all that are no longer than its bound.
	buckets := make(map[float64]uint64, len(s.Iterations)-1)
	var count uint64
	for i, n := range s.Iterations {
		count += n
		if i < len(s.Iterations)-1 {
			buckets[(time.Microsecond << i).Seconds()] = count
		}
	}
	ch <- prometheus.MustNewConstHistogram(c.iterations, count, s.Busy.Seconds(), buckets)
	ch <- c.build
}
