package main

// causes is why connections ended.
func causes() board {
	one := func(title, cause, help string) panel {
		return panel{title: title, unit: perSec, help: help, queries: []query{q(`sum by (instance) (rate(longwire_closes_total{@,cause=~"`+cause+`"}[$__rate_interval]))`, "{{instance}}")}}
	}
	return board{uid: "longwire-causes", title: "Longwire: causes", jobs: ours, help: "Why connections ended. Every end has one cause, of the closed list in the README.", sections: []section{
		{"All", []panel{
			{title: "Ends, by cause", unit: perSec, kind: stacked, wide: true, queries: []query{q(`sum by (cause) (rate(longwire_closes_total{@}[$__rate_interval]))`, "{{cause}}")}},
			{title: "In the last hour", unit: count, kind: stacked, wide: true, queries: []query{q(`sum by (cause) (increase(longwire_closes_total{@}[1h]))`, "{{cause}}")}},
			{title: "Share that ended badly", unit: ratio, help: "Of connections that stood: by reset, silence, timeout, slowness or an error. Browsers that are closed end with client_close or client_fin.", queries: []query{q(`instance:longwire_bad_closes:ratio_rate5m{@}`, "{{instance}}")}},
			{title: "A connection's age, on average", unit: second, help: "Connections by the rate of ends (Little's law); right while their number is steady.", queries: []query{q(`sum by (job, instance) (longwire_conns{@}) / sum by (job, instance) (rate(longwire_closes_total{@,cause!~"refused|handshake_timeout"}[5m]))`, "{{instance}}")}},
			{title: "Refused, by reason", unit: perSec, kind: stacked, queries: []query{q(`sum by (reason) (rate(longwire_refused_total{@}[$__rate_interval]))`, "{{reason}}")}},
		}},
		{"The client's side", []panel{
			one("Closed by the client", "client_close|client_fin", "With a close frame, or by the end of its stream."),
			one("Reset", "reset", "By the peer or something between: a proxy that restarts, a firewall, a process that was killed."),
			one("Broke the protocol", "protocol_error|message_too_big", "A client with a fault, or no WebSocket client at all."),
		}},
		{"The network", []panel{
			one("Silent", "heartbeat_timeout", "Nothing was heard for close-after, a ping included. Many at once: a network is gone, or a proxy dropped its state."),
			one("Given up by the kernel", "kernel_timeout", "What was written was not acknowledged in time."),
			one("Too slow", "slow_consumer", "Took messages more slowly than they came."),
		}},
		{"Ours", []panel{
			one("Internal", "internal", "Something failed on our side: the log says what."),
			one("Credentials", "unauthorized|expired", "No good token, none in time, or not prolonged."),
			one("Drain and application", "drain|application", "Ended on purpose."),
			one("Never stood", "refused|handshake_timeout", "Refused, or without a complete request in time."),
		}},
		{"The kernel's word, with the option trace", []panel{
			{title: "Ends, by the kernel's verdict", unit: perSec, kind: stacked, wide: true, queries: []query{q(`sum by (verdict) (rate(longwire_kernel_ends_total{@}[$__rate_interval]))`, "{{verdict}}")}},
			{title: "Told and lost", unit: perSec, help: "Ends that the kernel told of, plain HTTP and refused connections included; those that found no room; steps that no probe saw.", wide: true, queries: []query{
				q(`sum(rate(longwire_trace_events_total{@}[$__rate_interval]))`, "told"), q(`sum(rate(longwire_trace_lost_total{@}[$__rate_interval]))`, "lost"),
				q(`sum(rate(longwire_trace_missed_total{@}[$__rate_interval]))`, "steps not seen"), q(`sum(rate(longwire_untraced_total{@}[$__rate_interval]))`, "connections not named")}},
			{title: "Level", unit: count, help: "1 for the level at which connections are traced. Below bpf the kernel or the process's rights refuse the probes: the log says why.", queries: []query{q(`longwire_trace_level{@} == 1`, "{{instance}}: {{level}}")}},
		}},
	}}
}
