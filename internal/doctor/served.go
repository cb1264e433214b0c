package doctor

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PoolSample is one database pool at one moment. Counts that the pool does not tell are 0.
type PoolSample struct {
	At       time.Duration
	Name     string // as the program calls it
	Max      int    // connections that it may open; 0 is without a limit
	Open     int
	InUse    int
	Idle     int
	Waits    int64         // times that a caller had to wait for a connection, since the start
	Waited   time.Duration // for so long, all together
	Acquired int64         // connections given out since the start; 0 where the pool does not count them
	Canceled int64         // callers that gave up waiting
}

// RuntimeFigures are what the runtime counts of locks, of scheduling and of finalizers, as totals since the start. What a program does not
// serve is 0.
type RuntimeFigures struct {
	At        time.Duration
	MutexWait time.Duration // of all goroutines for sync.Mutex and sync.RWMutex, together
	AssistCPU time.Duration // marking that allocating goroutines did
	UserCPU   time.Duration // of the program's own code
	Latencies []Bucket      // from runnable to running

	FinalizersQueued, FinalizersRun uint64 // due since their object was found dead, and of those the ones that ran
	CleanupsQueued, CleanupsRun     uint64 // of runtime.AddCleanup

	told bool // that there was one of them, if only to say that it is 0 so far
}

// Bucket is a part of a cumulative histogram: how many were at most so long.
type Bucket struct {
	Most  time.Duration // math.MaxInt64 for the last
	Count uint64
}

func (f *RuntimeFigures) empty() bool {
	return !f.told && !f.ofLocks() && f.FinalizersQueued == 0 && f.CleanupsQueued == 0
}

// ofLocks says whether there is one of locks or of scheduling.
func (f *RuntimeFigures) ofLocks() bool {
	return f.MutexWait != 0 || f.AssistCPU != 0 || f.UserCPU != 0 || f.Latencies != nil
}

// queues are the fields for finalizers and cleanups by the names of package runtime/metrics, and of client_golang's collector.
func (f *RuntimeFigures) queues(name string) *uint64 {
	switch name {
	case "/gc/finalizers/queued:finalizers", "go_gc_finalizers_queued_finalizers_total":
		return &f.FinalizersQueued
	case "/gc/finalizers/executed:finalizers", "go_gc_finalizers_executed_finalizers_total":
		return &f.FinalizersRun
	case "/gc/cleanups/queued:cleanups", "go_gc_cleanups_queued_cleanups_total":
		return &f.CleanupsQueued
	case "/gc/cleanups/executed:cleanups", "go_gc_cleanups_executed_cleanups_total":
		return &f.CleanupsRun
	}
	return nil
}

// Served is what a program says of itself at one address: in the format of expvar, or of Prometheus.
type Served struct {
	Pools   []PoolSample
	Figures RuntimeFigures
	Memory  *MemStats // nil where it is not told
	Module  string    // "" is unknown
}

// errServed is an answer that is neither.
var errServed = errors.New("read what the program serves: it is neither the JSON of expvar (/debug/vars) nor the text format of Prometheus")

// ParseServed reads what a program serves at /debug/vars or /metrics. b is not retained.
func ParseServed(b []byte, at time.Duration) (Served, error) {
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) > 0 && t[0] == '{' {
		return parseVars(t, at)
	}
	return parseMetrics(b, at)
}

// parseVars looks into the JSON of expvar for what has the fields of a pool's figures, under whatever name.
func parseVars(b []byte, at time.Duration) (s Served, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return s, fmt.Errorf("read /debug/vars: %w", err)
	}
	s.Figures.At = at
	if m, ok := all["memstats"].(map[string]any); ok {
		if mem, ok := memStatsOf(m, at); ok {
			s.Memory = &mem
		}
	}
	var walk func(name string, v any, depth int)
	walk = func(name string, v any, depth int) {
		m, ok := v.(map[string]any)
		if !ok || depth > 8 || name == "memstats" {
			return
		}
		if p, ok := poolOf(m); ok {
			p.At, p.Name = at, name
			s.Pools = append(s.Pools, p)
			return
		}
		for _, k := range sortedKeys(m) {
			s.Figures.figure(k, m[k])
			next := k
			if name != "" {
				next = name + "." + k
			}
			walk(next, m[k], depth+1)
		}
	}
	walk("", all, 0)
	return s, nil
}

// figure takes what a program publishes of package runtime/metrics, by its names.
func (f *RuntimeFigures) figure(name string, v any) {
	n, ok := number(v)
	if !ok {
		return
	}
	if q := f.queues(name); q != nil && n >= 0 {
		*q, f.told = uint64(min(n, 1e18)), true
		return
	}
	switch name {
	case "/sync/mutex/wait/total:seconds":
		f.MutexWait = secondsOf(n)
	case "/cpu/classes/gc/mark/assist:cpu-seconds":
		f.AssistCPU = secondsOf(n)
	case "/cpu/classes/user:cpu-seconds":
		f.UserCPU = secondsOf(n)
	default:
		return
	}
	f.told = true
}

// secondsOf is a time, within bounds.
func secondsOf(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s, 1e9) * float64(time.Second))
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case string: // a time.Duration written as text
		d, err := time.ParseDuration(v)
		return float64(d), err == nil
	}
	return 0, false
}

// plainKeys are names without what differs between the ways to write them: MaxOpenConnections, max_open_connections.
func plainKeys(m map[string]any) map[string]float64 {
	plain := map[string]float64{}
	for k, v := range m {
		if n, ok := number(v); ok && n >= 0 && n < 1e18 {
			plain[strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(k))] = n
		}
	}
	return plain
}

// poolOf reads the figures of sql.DBStats or pgxpool.Stat.
func poolOf(m map[string]any) (p PoolSample, ok bool) {
	k := plainKeys(m)
	_, inUse := k["inuse"]
	_, open := k["openconnections"]
	if inUse && open {
		return PoolSample{
			Max: int(k["maxopenconnections"]), Open: int(k["openconnections"]), InUse: int(k["inuse"]), Idle: int(k["idle"]),
			Waits: int64(k["waitcount"]), Waited: time.Duration(k["waitduration"]),
		}, true
	}
	_, acquired := k["acquiredconns"]
	_, most := k["maxconns"]
	if !acquired || !most {
		return p, false
	}
	p = PoolSample{
		Max: int(k["maxconns"]), Open: int(k["totalconns"]), InUse: int(k["acquiredconns"]), Idle: int(k["idleconns"]),
		Waits: int64(k["emptyacquirecount"]), Waited: time.Duration(k["emptyacquirewaittime"]), Acquired: int64(k["acquirecount"]), Canceled: int64(k["canceledacquirecount"]),
	}
	if p.Waited == 0 {
		p.Waited = time.Duration(k["acquireduration"])
	}
	return p, true
}

func memStatsOf(m map[string]any, at time.Duration) (MemStats, bool) {
	s := MemStats{At: at}
	for name, to := range map[string]*uint64{
		"Sys": &s.Sys, "HeapSys": &s.HeapSys, "HeapAlloc": &s.HeapAlloc, "HeapInuse": &s.HeapInuse, "HeapReleased": &s.HeapReleased, "StackInuse": &s.StackInuse, "Mallocs": &s.Mallocs,
		"NumForcedGC": &s.NumForcedGC, "NumGC": &s.NumGC, "NextGC": &s.NextGC,
	} {
		v, ok := number(m[name])
		if !ok || v < 0 || v > 1<<62 {
			return s, false
		}
		*to = uint64(v)
	}
	return s, true
}

// The names of pools' figures in the text format: the collectors of client_golang and of sqlstats, and what exporters of pgxpool
// have in common. Seconds are times, where the figure is one.
var poolMetrics = map[string]struct {
	set  func(*PoolSample, float64)
	kind string
}{
	"go_sql_max_open_connections":                    {func(p *PoolSample, v float64) { p.Max = int(v) }, "sql"},
	"go_sql_open_connections":                        {func(p *PoolSample, v float64) { p.Open = int(v) }, "sql"},
	"go_sql_in_use_connections":                      {func(p *PoolSample, v float64) { p.InUse = int(v) }, "sql"},
	"go_sql_idle_connections":                        {func(p *PoolSample, v float64) { p.Idle = int(v) }, "sql"},
	"go_sql_wait_count_total":                        {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "sql"},
	"go_sql_wait_duration_seconds_total":             {func(p *PoolSample, v float64) { p.Waited = secondsOf(v) }, "sql"},
	"go_sql_stats_connections_max_open":              {func(p *PoolSample, v float64) { p.Max = int(v) }, "sqlstats"},
	"go_sql_stats_connections_open":                  {func(p *PoolSample, v float64) { p.Open = int(v) }, "sqlstats"},
	"go_sql_stats_connections_in_use":                {func(p *PoolSample, v float64) { p.InUse = int(v) }, "sqlstats"},
	"go_sql_stats_connections_idle":                  {func(p *PoolSample, v float64) { p.Idle = int(v) }, "sqlstats"},
	"go_sql_stats_connections_waited_for":            {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "sqlstats"},
	"go_sql_stats_connections_blocked_seconds":       {func(p *PoolSample, v float64) { p.Waited = secondsOf(v) }, "sqlstats"},
	"go_sql_stats_connections_waited_for_total":      {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "sqlstats"},
	"go_sql_stats_connections_blocked_seconds_total": {func(p *PoolSample, v float64) { p.Waited = secondsOf(v) }, "sqlstats"},

	"pgxpool_max_conns":                          {func(p *PoolSample, v float64) { p.Max = int(v) }, "pgxpool"},
	"pgxpool_total_conns":                        {func(p *PoolSample, v float64) { p.Open = int(v) }, "pgxpool"},
	"pgxpool_acquired_conns":                     {func(p *PoolSample, v float64) { p.InUse = int(v) }, "pgxpool"},
	"pgxpool_idle_conns":                         {func(p *PoolSample, v float64) { p.Idle = int(v) }, "pgxpool"},
	"pgxpool_acquire_count":                      {func(p *PoolSample, v float64) { p.Acquired = int64(v) }, "pgxpool"},
	"pgxpool_acquire_count_total":                {func(p *PoolSample, v float64) { p.Acquired = int64(v) }, "pgxpool"},
	"pgxpool_acquire_duration_ns":                {func(p *PoolSample, v float64) { p.Waited = max(p.Waited, time.Duration(min(v, 1e18))) }, "pgxpool"},
	"pgxpool_acquire_duration_seconds_total":     {func(p *PoolSample, v float64) { p.Waited = max(p.Waited, secondsOf(v)) }, "pgxpool"},
	"pgxpool_empty_acquire":                      {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "pgxpool"},
	"pgxpool_empty_acquire_count":                {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "pgxpool"},
	"pgxpool_empty_acquire_count_total":          {func(p *PoolSample, v float64) { p.Waits = int64(v) }, "pgxpool"},
	"pgxpool_canceled_acquire_count":             {func(p *PoolSample, v float64) { p.Canceled = int64(v) }, "pgxpool"},
	"pgxpool_canceled_acquire_count_total":       {func(p *PoolSample, v float64) { p.Canceled = int64(v) }, "pgxpool"},
	"pgxpool_empty_acquire_wait_seconds_total":   {func(p *PoolSample, v float64) { p.Waited = secondsOf(v) }, "pgxpool"},
	"pgxpool_empty_acquire_wait_time_ns":         {func(p *PoolSample, v float64) { p.Waited = time.Duration(min(v, 1e18)) }, "pgxpool"},
	"pgxpool_canceled_acquires_total":            {func(p *PoolSample, v float64) { p.Canceled = int64(v) }, "pgxpool"},
	"pgxpool_empty_acquire_wait_duration_second": {func(p *PoolSample, v float64) { p.Waited = secondsOf(v) }, "pgxpool"},
}

// parseMetrics reads the text format of Prometheus, as far as it is about pools, locks and scheduling.
func parseMetrics(b []byte, at time.Duration) (s Served, err error) {
	s.Figures.At = at
	pools := map[string]*PoolSample{}
	samples, bad := 0, 0
	for raw := range bytes.Lines(b) {
		line := strings.TrimSpace(string(raw))
		if line == "" || line[0] == '#' {
			continue
		}
		name, labels, v, ok := parseMetric(line)
		if !ok {
			if bad++; bad > 100 && samples == 0 {
				return s, errServed
			}
			continue
		}
		samples++
		if math.IsNaN(v) || v < 0 {
			continue
		}
		if m, ok := poolMetrics[name]; ok {
			key := m.kind + "{" + labels + "}"
			if labels == "" {
				key = m.kind
			}
			if pools[key] == nil {
				pools[key] = &PoolSample{At: at, Name: key}
			}
			m.set(pools[key], min(v, 1e15))
			continue
		}
		if q := s.Figures.queues(name); q != nil {
			*q, s.Figures.told = uint64(min(v, 1e18)), true
			continue
		}
		switch name {
		case "go_sync_mutex_wait_total_seconds_total":
			s.Figures.MutexWait = secondsOf(v)
		case "go_cpu_classes_gc_mark_assist_cpu_seconds_total":
			s.Figures.AssistCPU = secondsOf(v)
		case "go_cpu_classes_user_cpu_seconds_total":
			s.Figures.UserCPU = secondsOf(v)
		case "go_sched_latencies_seconds_bucket":
			le, found := strings.CutPrefix(labels, `le="`)
			most := time.Duration(math.MaxInt64)
			if le = strings.TrimSuffix(le, `"`); le != "+Inf" {
				f, err := strconv.ParseFloat(le, 64)
				if err != nil || !(f >= 0 && f < 1e9) {
					continue
				}
				most = time.Duration(f * float64(time.Second))
			}
			if found && len(s.Figures.Latencies) < 2000 {
				s.Figures.Latencies = append(s.Figures.Latencies, Bucket{most, uint64(min(v, 1e18))})
			}
		}
	}
	if samples == 0 {
		return s, errServed
	}
	slices.SortFunc(s.Figures.Latencies, func(a, b Bucket) int { return cmp.Compare(a.Most, b.Most) })
	for _, k := range sortedKeys(pools) {
		s.Pools = append(s.Pools, *pools[k])
	}
	return s, nil
}

// parseMetric reads name{labels} value, where labels may hold anything between quotes.
func parseMetric(line string) (name, labels string, v float64, ok bool) {
	i := strings.IndexAny(line, "{ \t")
	if i <= 0 || !isMetricName(line[:i]) {
		return "", "", 0, false
	}
	name, rest := line[:i], line[i:]
	if rest[0] == '{' {
		end, quoted := -1, false
		for j := 1; j < len(rest); j++ {
			switch {
			case quoted && rest[j] == '\\':
				j++
			case rest[j] == '"':
				quoted = !quoted
			case rest[j] == '}' && !quoted:
				end = j
			}
			if end >= 0 {
				break
			}
		}
		if end < 0 {
			return "", "", 0, false
		}
		labels, rest = strings.TrimSuffix(rest[1:end], ","), rest[end+1:]
	}
	f := strings.Fields(rest)
	if len(f) == 0 || len(f) > 2 && f[2] != "#" {
		return "", "", 0, false
	}
	v, err := strconv.ParseFloat(f[0], 64)
	return name, labels, v, err == nil
}

func isMetricName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && c != ':' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
