package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests times plain HTTP requests by method, route and status: longwire_http_request_duration_seconds. A route is a
// pattern that was registered, never a path that a client chose, so the labels are of bounded number. Handshakes of
// WebSocket are none of them: those stay on the loops and have counters of their own. It is a prometheus.Collector.
type Requests struct {
	// Each, if not nil, is told of each request when it is over. It is set before Wrap is called.
	Each func(r *http.Request, route string, status int, took time.Duration)

	durations *prometheus.HistogramVec
}

// NewRequests makes an empty one.
func NewRequests() *Requests {
	return &Requests{
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "longwire_http_request_duration_seconds",
			Help: "How long plain HTTP requests took, from the request's head to the end of the answer.",
			// The founding report's, which begin at 10 ms, and three below: most of ours take less.
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
		}, []string{"method", "route", "status"}),
	}
}

// Describe implements prometheus.Collector.
func (q *Requests) Describe(ch chan<- *prometheus.Desc) { q.durations.Describe(ch) }

// Collect implements prometheus.Collector.
func (q *Requests) Collect(ch chan<- prometheus.Metric) { q.durations.Collect(ch) }

// Wrap times what h serves. The route is Request.Pattern when h is done with the request, as http.ServeMux leaves it.
func (q *Requests) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		answer, served := &statusWriter{ResponseWriter: w}, false
		defer func() { // also when a handler panics, which net/http deals with
			switch {
			case answer.status != 0:
			case served:
				answer.status = http.StatusOK
			default:
				answer.status = http.StatusInternalServerError
			}
			took, route := time.Since(start), route(r.Pattern)
			q.durations.WithLabelValues(Method(r.Method), route, strconv.Itoa(answer.status)).Observe(took.Seconds())
			if q.Each != nil {
				q.Each(r, route, answer.status, took)
			}
		}()
		h.ServeHTTP(answer, r)
		served = true
	})
}

// Method is a request's method as a label: the known ones, and others as one.
func Method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// route is a pattern of http.ServeMux without its method and host.
func route(pattern string) string {
	i := strings.IndexByte(pattern, '/')
	if i < 0 {
		return "none"
	}
	return strings.TrimSuffix(pattern[i:], "{$}")
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0: not yet written
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status < http.StatusOK { // after an interim answer comes the true one
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status < http.StatusOK {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher, which some handlers ask for by its type.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
