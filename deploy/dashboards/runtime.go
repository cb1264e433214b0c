package main

// goRuntime is the Go runtime and the process.
func goRuntime() board {
	return board{uid: "longwire-runtime", title: "Longwire: runtime and GC", jobs: ours, help: "Memory, the collector, goroutines and processor time of the gateways' processes.", sections: []section{
		{"Memory", []panel{
			{title: "Resident memory", unit: bytes1k, queries: []query{q(`process_resident_memory_bytes{@}`, "{{instance}}")}},
			{title: "For a connection", unit: bytes1k, help: "Resident memory by connections. What a connection costs the kernel is not in it.", queries: []query{q(`process_resident_memory_bytes{@} / (longwire_conns{@} > 0)`, "{{instance}}")}},
			{title: "Growth in an hour", unit: bytes1k, help: "A leak is growth that does not follow the connections.", queries: []query{q(`deriv(process_resident_memory_bytes{@}[1h]) * 3600`, "{{instance}}")}},
			{title: "Heap", unit: bytes1k, help: "Connections are not in it: they have memory of their own outside of the heap.", queries: []query{
				q(`sum(go_memstats_heap_alloc_bytes{@})`, "allocated"), q(`sum(go_memstats_heap_inuse_bytes{@})`, "in use"), q(`sum(go_memstats_heap_idle_bytes{@} - go_memstats_heap_released_bytes{@})`, "kept for later"), q(`sum(go_memstats_next_gc_bytes{@})`, "next collection at")}},
			{title: "Stacks and the rest", unit: bytes1k, queries: []query{q(`sum(go_memstats_stack_inuse_bytes{@})`, "stacks"), q(`sum(go_memstats_gc_sys_bytes{@})`, "collector"), q(`sum(go_memstats_mspan_sys_bytes{@} + go_memstats_mcache_sys_bytes{@} + go_memstats_buck_hash_sys_bytes{@} + go_memstats_other_sys_bytes{@})`, "other")}},
			{title: "Heap objects", unit: count, help: "Does not grow with connections.", queries: []query{q(`go_memstats_heap_objects{@}`, "{{instance}}")}},
		}},
		{"Collector", []panel{
			{title: "Pauses", unit: second, help: "How long the collector stopped the world.", queries: []query{
				q(`histogram_quantile(0.5, sum by (le) (rate(go_sched_pauses_total_gc_seconds_bucket{@}[5m])))`, "p50"),
				q(`histogram_quantile(0.99, sum by (le) (rate(go_sched_pauses_total_gc_seconds_bucket{@}[5m])))`, "p99"),
				q(`max(go_gc_duration_seconds{@,quantile="1"})`, "longest lately")}},
			{title: "Collections", unit: perSec, queries: []query{q(`rate(go_gc_duration_seconds_count{@}[5m])`, "{{instance}}")}},
			{title: "Share of processor time", unit: ratio, queries: []query{q(`rate(go_cpu_classes_gc_total_cpu_seconds_total{@}[5m]) / rate(go_cpu_classes_total_cpu_seconds_total{@}[5m])`, "{{instance}}")}},
			{title: "Allocation", unit: bytesPS, queries: []query{q(`rate(go_memstats_alloc_bytes_total{@}[$__rate_interval])`, "{{instance}}")}},
			{title: "Allocations", unit: perSec, queries: []query{q(`rate(go_memstats_mallocs_total{@}[$__rate_interval])`, "{{instance}}")}},
		}},
		{"Process", []panel{
			{title: "Processor time", unit: count, help: "Cores.", queries: []query{q(`rate(process_cpu_seconds_total{@}[$__rate_interval])`, "{{instance}}"), q(`go_sched_gomaxprocs_threads{@}`, "GOMAXPROCS of {{instance}}")}},
			{title: "Goroutines and threads", unit: count, help: "Neither grows with WebSocket connections; plain HTTP takes a goroutine each.", queries: []query{q(`go_goroutines{@}`, "goroutines of {{instance}}"), q(`go_threads{@}`, "threads of {{instance}}")}},
			{title: "Descriptors", unit: count, help: "Of the first table: loops with tables of their own have theirs beside it.", queries: []query{q(`process_open_fds{@}`, "{{instance}}"), q(`process_max_fds{@}`, "most of {{instance}}")}},
			{title: "Uptime", unit: second, queries: []query{q(`time() - process_start_time_seconds{@}`, "{{instance}}")}},
			{title: "A scrape", unit: second, help: "As Prometheus sees it.", queries: []query{q(`scrape_duration_seconds{@}`, "{{instance}}")}},
			{title: "Series of a scrape", unit: count, help: "Does not grow with clients.", queries: []query{q(`scrape_samples_scraped{@}`, "{{instance}}")}},
		}},
	}}
}
