package main

// load is a run of longwire stress, from its own figures.
func load() board {
	latency := func(of string) []query {
		return []query{q(`longwire_stress_latency_seconds{@,of="`+of+`"}`, "{{quantile}}")}
	}
	return board{uid: "longwire-stress", title: "Longwire: stress", jobs: "longwire_stress_conns", help: "A run of longwire stress --metrics-addr, as it goes on. Put it beside the node's dashboard.", sections: []section{
		{"Load", []panel{
			{title: "Connections", unit: count, queries: []query{q(`sum by (state) (longwire_stress_conns{@})`, "{{state}}")}},
			{title: "Connects", unit: perSec, queries: []query{q(`sum by (outcome) (rate(longwire_stress_connects_total{@}[$__rate_interval]))`, "{{outcome}}")}},
			{title: "Exchanges", unit: perSec, help: "Delivered: publications at their subscribers.", queries: []query{q(`sum by (outcome) (rate(longwire_stress_exchanges_total{@}[$__rate_interval]))`, "{{outcome}}")}},
		}},
		{"What came of it", []panel{
			{title: "Latency from when it was due", unit: second, help: "A server that stalls is charged for all it delayed.", queries: latency("corrected")},
			{title: "Latency from when it was sent", unit: second, help: "What other tools show.", queries: latency("service")},
			{title: "Connects", unit: second, help: "TCP and handshake.", queries: latency("connect")},
			{title: "Errors, by kind", unit: perSec, kind: stacked, help: "Empty while nothing goes wrong.", queries: []query{q(`sum by (kind) (rate(longwire_stress_errors_total{@}[$__rate_interval]))`, "{{kind}}")}},
			{title: "Received", unit: bytesPS, queries: []query{q(`rate(longwire_stress_received_bytes_total{@}[$__rate_interval])`, "{{instance}}")}},
		}},
	}}
}
