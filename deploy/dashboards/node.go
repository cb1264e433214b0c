package main

// ours are the series whose labels name the gateways.
const ours = "longwire_build_info"

// node is what one looks at first.
func node() board {
	return board{uid: "longwire-node", title: "Longwire: node", jobs: ours, help: "How the gateways are, at a glance: connections, traffic, loops, refusals, the log.", sections: []section{
		{"Now", []panel{
			{title: "Connections", unit: count, kind: number, help: "WebSocket connections of all chosen gateways.", queries: []query{q(`sum(longwire_conns{@})`, "")}},
			{title: "Of the most", unit: ratio, kind: number, warn: 0.8, bad: 0.9, help: "Of the connections that are admitted, at the fullest gateway. Beyond 100 % clients get 503.", queries: []query{q(`max(longwire_conns{@} / longwire_max_conns{@})`, "")}},
			{title: "Connects", unit: perSec, kind: number, help: "Handshakes that succeeded.", queries: []query{q(`sum(rate(longwire_upgraded_total{@}[$__rate_interval]))`, "")}},
			{title: "Refused", unit: perSec, kind: number, warn: 0.1, bad: 10, help: "Clients turned away, whatever for.", queries: []query{q(`sum(rate(longwire_refused_total{@}[$__rate_interval]))`, "")}},
			{title: "Loop lag, p99", unit: second, kind: number, warn: 0.02, bad: 0.1, help: "How long one in a hundred loop iterations takes, and all connections of that loop wait.", queries: []query{q(`histogram_quantile(0.99, sum by (le) (rate(longwire_loop_iteration_seconds_bucket{@}[$__rate_interval])))`, "")}},
			{title: "Resident memory", unit: bytes1k, kind: number, help: "Of all chosen processes.", queries: []query{q(`sum(process_resident_memory_bytes{@})`, "")}},
		}},
		{"Connections", []panel{
			{title: "Connections", unit: count, help: "With handshakes under way.", queries: []query{q(`longwire_conns{@}`, "{{instance}}"), q(`longwire_max_conns{@}`, "most of {{instance}}")}},
			{title: "Coming and going", unit: perSec, help: "When ends rise without connects, clients leave; when both rise, they come back and fail again.", queries: []query{
				q(`sum(rate(longwire_accepted_total{@}[$__rate_interval]))`, "accepted"), q(`sum(rate(longwire_upgraded_total{@}[$__rate_interval]))`, "upgraded"),
				q(`sum(rate(longwire_adopted_total{@}[$__rate_interval]))`, "adopted"), q(`sum(rate(longwire_closes_total{@}[$__rate_interval]))`, "ended")}},
			{title: "Refused, by reason", unit: perSec, kind: stacked, help: "max_conns, descriptors and memory are limits of the node; the per-address ones mean single clients; the rest are bad requests.", queries: []query{q(`sum by (reason) (rate(longwire_refused_total{@}[$__rate_interval]))`, "{{reason}}")}},
			{title: "Beside the WebSockets", unit: count, help: "Plain HTTP connections; connections in the middle of a request or message; refused ones on their way out.", queries: []query{
				q(`sum(longwire_http_conns{@})`, "plain HTTP"), q(`sum(longwire_partials{@})`, "partial"), q(`sum(longwire_sockets{@} - longwire_conns{@})`, "on their way out")}},
			{title: "Accept pauses", unit: count, help: "Times that accepting paused for want of a descriptor or of memory, in 5 minutes.", queries: []query{q(`increase(longwire_shed_total{@}[5m])`, "{{instance}}")}},
			{title: "Draining", unit: count, help: "1 while a gateway drains.", queries: []query{q(`longwire_draining{@}`, "{{instance}}")}},
		}},
		{"Traffic", []panel{
			{title: "Messages", unit: perSec, queries: []query{q(`sum by (direction) (rate(longwire_messages_total{@}[$__rate_interval]))`, "{{direction}}")}},
			{title: "Bytes", unit: bytesPS, help: "TCP payload on loops.", queries: []query{q(`sum by (direction) (rate(longwire_bytes_total{@}[$__rate_interval]))`, "{{direction}}")}},
			{title: "Messages for a write", unit: count, help: "How well batching works: below 1, frames go out in pieces or are control frames.", queries: []query{
				q(`sum(rate(longwire_messages_total{@,direction="out"}[$__rate_interval])) / sum(rate(longwire_writes_total{@}[$__rate_interval]))`, "out, a write"),
				q(`sum(rate(longwire_messages_total{@,direction="in"}[$__rate_interval])) / sum(rate(longwire_reads_total{@}[$__rate_interval]))`, "in, a read")}},
			{title: "Write queues", unit: bytes1k, help: "Bytes that wait for sockets that are full: slow clients, or a network that is.", queries: []query{q(`longwire_queue_bytes{@}`, "{{instance}}")}},
			{title: "Pings and pongs", unit: perSec, help: "Fewer pongs than pings: clients are silent. Heartbeats of Centrifuge sessions are messages and not in it.", queries: []query{q(`sum(rate(longwire_pings_total{@}[$__rate_interval]))`, "pings"), q(`sum(rate(longwire_pongs_total{@}[$__rate_interval]))`, "pongs")}},
			{title: "Versions", unit: count, help: "Gateways of each version.", queries: []query{q(`count by (version, revision) (longwire_build_info{@})`, "{{version}} {{revision}}")}},
		}},
		{"Loops", []panel{
			{title: "Loop iterations", unit: second, kind: heat, help: "How long loops worked from one wake-up to the next sleep.", queries: []query{q(`sum by (le) (rate(longwire_loop_iteration_seconds_bucket{@}[$__rate_interval]))`, "{{le}}")}},
			{title: "Loop lag", unit: second, help: "Percentiles of loop iterations. A callback that blocks shows here.", queries: []query{
				q(`histogram_quantile(0.5, sum by (le) (rate(longwire_loop_iteration_seconds_bucket{@}[$__rate_interval])))`, "p50"),
				q(`histogram_quantile(0.99, sum by (le) (rate(longwire_loop_iteration_seconds_bucket{@}[$__rate_interval])))`, "p99"),
				q(`histogram_quantile(0.999, sum by (le) (rate(longwire_loop_iteration_seconds_bucket{@}[$__rate_interval])))`, "p99.9")}},
			{title: "Share of time at work", unit: ratio, help: "1 is a gateway whose loops never sleep.", queries: []query{q(`rate(longwire_loop_busy_seconds_total{@}[$__rate_interval]) / longwire_loops{@}`, "{{instance}}")}},
		}},
		{"Plain HTTP", []panel{
			{title: "Requests, by route", unit: perSec, help: "API, health, metrics, console. Upgrades of endpoints are not in it.", queries: []query{q(`sum by (method, route) (rate(longwire_http_request_duration_seconds_count{@}[$__rate_interval]))`, "{{method}} {{route}}")}},
			{title: "Requests, by status", unit: perSec, kind: stacked, queries: []query{q(`sum by (status) (rate(longwire_http_request_duration_seconds_count{@}[$__rate_interval]))`, "{{status}}")}},
			{title: "Duration, p99", unit: second, queries: []query{q(`histogram_quantile(0.99, sum by (route, le) (rate(longwire_http_request_duration_seconds_bucket{@}[$__rate_interval])))`, "{{route}}")}},
			{title: "Duration", unit: second, kind: heat, queries: []query{q(`sum by (le) (rate(longwire_http_request_duration_seconds_bucket{@}[$__rate_interval]))`, "{{le}}")}},
			{title: "Connections for it", unit: perSec, help: "That were handed to net/http, since what they asked for is no endpoint's.", queries: []query{q(`sum(rate(longwire_passed_total{@}[$__rate_interval]))`, "passed on")}},
		}},
		{"The log and the spans", []panel{
			{title: "Entries", unit: perSec, help: "About single connections and calls, to the log and to what sends spans; and those that were lost, since those did not keep up.", queries: []query{
				q(`sum(rate(longwire_journal_entries_total{@}[$__rate_interval]))`, "entries"), q(`sum(rate(longwire_journal_lost_total{@}[$__rate_interval]))`, "lost")}},
			{title: "Log lines, by outcome", unit: perSec, kind: stacked, help: "With log-sampling dynamic. Written and general ones are in the log. Crowded and expired ones were held back, and there were too many or it took too long.", queries: []query{q(`sum by (outcome) (rate(longwire_log_lines_total{@}[$__rate_interval]))`, "{{outcome}}")}},
			{title: "Log lines held back", unit: count, help: "Until it is known what becomes of their connections, with log-sampling dynamic.", queries: []query{q(`longwire_log_held_lines{@}`, "{{instance}}")}},
			{title: "Memory of those lines", unit: bytes1k, help: "Of 64 MiB at most.", queries: []query{q(`longwire_log_held_bytes{@}`, "{{instance}}")}},
			{title: "Spans, by outcome", unit: perSec, kind: stacked, help: "With otlp-endpoint. Full, refused and failed ones are lost on the way to the collector.", queries: []query{q(`sum by (outcome) (rate(longwire_otlp_spans_total{@}[$__rate_interval]))`, "{{outcome}}")}},
			{title: "Requests to the collector", unit: perSec, kind: stacked, help: "By how they ended; broken ones got no answer.", queries: []query{q(`sum by (outcome) (rate(longwire_otlp_requests_total{@}[$__rate_interval]))`, "{{outcome}}")}},
			{title: "Spans that wait", unit: bytes1k, help: "To be sent, of 8 MiB at most: beyond it spans are lost as full.", queries: []query{q(`longwire_otlp_waiting_bytes{@}`, "{{instance}}")}},
		}},
	}}
}
