package stress

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// scraper reads the target's metrics in the Prometheus text format on a goroutine of its own, so that a target that does not
// answer delays nothing.
type scraper struct {
	cancel context.CancelFunc
	over   chan struct{}

	mu     sync.Mutex
	latest *scrape // guarded by mu: not taken yet
}

// scrape is what is read of it: names that Go's and the process's collectors have in every program.
type scrape struct {
	Resident                       uint64
	CPU                            float64
	Goroutines, Heap, GCs, GCPause *float64
}

// newScraper begins to read the target's metrics if they are there: at /metrics of the target, or where the user says.
func newScraper(ctx context.Context, o *Options, t target) *scraper {
	address := o.Metrics
	if address == "" {
		u := *t.url
		u.Path, u.RawPath, u.RawQuery, u.Fragment, u.User = "/metrics", "", "", "", nil
		if u.Scheme = "http"; t.tls != nil {
			u.Scheme = "https"
		}
		address = u.String()
	}
	var config *tls.Config
	if t.tls != nil {
		config = t.tls.Clone()
	}
	transport := &http.Transport{TLSClientConfig: config, DisableCompression: true, MaxIdleConns: 1}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	x := &scraper{over: make(chan struct{})}
	ctx, x.cancel = context.WithCancel(ctx)
	first, ok := read(ctx, client, address)
	if !ok {
		x.cancel()
		close(x.over)
		return x
	}
	x.latest = first
	go func() {
		defer close(x.over)
		defer transport.CloseIdleConnections()
		tick := time.NewTicker(o.Every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if s, ok := read(ctx, client, address); ok {
				x.mu.Lock()
				x.latest = s
				x.mu.Unlock()
			}
		}
	}()
	return x
}

// take is what was read since the last call; nil when nothing was.
func (x *scraper) take() *scrape {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.latest
	x.latest = nil
	return s
}

func (x *scraper) close() {
	x.cancel()
	<-x.over
}

func read(ctx context.Context, client *http.Client, address string) (*scrape, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, false
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return nil, false
	}
	return parseMetrics(io.LimitReader(resp.Body, 8<<20))
}

// parseMetrics reads lines such as "go_goroutines 12". It is false where none of the names is there.
func parseMetrics(r io.Reader) (*scrape, bool) {
	s, found := new(scrape), false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value, _, _ = strings.Cut(value, " ") // a time may follow
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v != v || v < 0 || v > 1e18 {
			continue
		}
		switch name {
		case "process_resident_memory_bytes":
			s.Resident = uint64(v)
		case "process_cpu_seconds_total":
			s.CPU = v
		case "go_goroutines":
			s.Goroutines = &v
		case "go_memstats_heap_alloc_bytes":
			s.Heap = &v
		case "go_gc_duration_seconds_count":
			s.GCs = &v
		case `go_gc_duration_seconds{quantile="1"}`:
			s.GCPause = &v
		default:
			continue
		}
		found = true
	}
	return s, found
}
