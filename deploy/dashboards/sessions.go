package main

// sessions is what the application's users feel.
func sessions() board {
	return board{uid: "longwire-sessions", title: "Longwire: sessions", jobs: ours, help: "Sessions, subscriptions, publications, recovery, the engine and the application's hooks.", sections: []section{
		{"Now", []panel{
			{title: "Sessions", unit: count, kind: number, help: "That are connected.", queries: []query{q(`sum(longwire_sessions{@})`, "")}},
			{title: "Subscriptions", unit: count, kind: number, queries: []query{q(`sum(longwire_subscriptions{@})`, "")}},
			{title: "For a session", unit: count, kind: number, help: "Subscriptions that a session has on average.", queries: []query{q(`sum(longwire_subscriptions{@}) / sum(longwire_sessions{@})`, "")}},
			{title: "Publications", unit: perSec, kind: number, help: "That came in through these nodes.", queries: []query{q(`sum(rate(longwire_publications_total{@}[$__rate_interval]))`, "")}},
			{title: "Not recovered", unit: perSec, kind: number, warn: 0.1, bad: 10, help: "Subscriptions that had missed more than is kept.", queries: []query{q(`sum(rate(longwire_unrecovered_total{@}[$__rate_interval]))`, "")}},
			{title: "Breaker", unit: count, kind: number, warn: 0.5, bad: 1, help: "1: the application's backend is not called, since it fails.", queries: []query{q(`max(longwire_hook_breaker_open{@})`, "")}},
		}},
		{"Sessions", []panel{
			{title: "Sessions", unit: count, queries: []query{q(`longwire_sessions{@}`, "{{instance}}")}},
			{title: "Subscriptions", unit: count, queries: []query{q(`longwire_subscriptions{@}`, "{{instance}}")}},
			{title: "Sessions that ended by our decision", unit: perSec, kind: stacked, help: "Credentials, expiries, the application and slowness.", queries: []query{q(`sum by (cause) (rate(longwire_closes_total{@,cause=~"unauthorized|expired|application|slow_consumer"}[$__rate_interval]))`, "{{cause}}")}},
		}},
		{"Publications", []panel{
			{title: "Publications", unit: perSec, queries: []query{q(`rate(longwire_publications_total{@}[$__rate_interval])`, "{{instance}}")}},
			{title: "Fan-out", unit: count, help: "Messages out for a publication; replies are in it too.", queries: []query{q(`sum(rate(longwire_messages_total{@,direction="out"}[$__rate_interval])) / sum(rate(longwire_publications_total{@}[$__rate_interval]))`, "messages")}},
			{title: "Dropped for slow subscribers", unit: perSec, help: "Where the namespace says so. Others that are too slow end with the cause slow_consumer.", queries: []query{q(`rate(longwire_dropped_total{@}[$__rate_interval])`, "{{instance}}")}},
			{title: "Recovery", unit: perSec, kind: stacked, help: "Subscriptions that came back: with all that they had missed, or without.", queries: []query{q(`sum(rate(longwire_recovered_total{@}[$__rate_interval]))`, "all they missed"), q(`sum(rate(longwire_unrecovered_total{@}[$__rate_interval]))`, "lost some")}},
		}},
		{"Engine", []panel{
			{title: "Memory", unit: bytes1k, help: "Of history, by estimate, and the most that it may take.", queries: []query{q(`longwire_engine_bytes{@}`, "{{instance}}"), q(`longwire_engine_max_bytes{@}`, "most of {{instance}}")}},
			{title: "Kept", unit: count, queries: []query{q(`sum(longwire_engine_channels{@})`, "channels"), q(`sum(longwire_engine_publications{@})`, "publications"), q(`sum(longwire_engine_idempotency_keys{@})`, "idempotency keys"), q(`sum(longwire_engine_present{@})`, "present clients")}},
			{title: "Gone before their time", unit: perSec, help: "For want of room: what is lost here cannot be recovered by clients.", queries: []query{q(`sum by (what) (rate(longwire_engine_evicted_total{@}[$__rate_interval]))`, "{{what}}")}},
		}},
		{"Hooks", []panel{
			{title: "Calls, by hook", unit: perSec, queries: []query{q(`sum by (method) (rate(longwire_hook_calls_total{@}[$__rate_interval]))`, "{{method}}")}},
			{title: "Calls, by outcome", unit: perSec, kind: stacked, help: "ok, error and disconnect are the backend's replies; the others are none.", queries: []query{q(`sum by (outcome) (rate(longwire_hook_calls_total{@}[$__rate_interval]))`, "{{outcome}}")}},
			{title: "Calls now", unit: count, help: "Waiting calls: the backend is slower than calls come, or hook-concurrency is too low.", queries: []query{q(`sum(longwire_hook_calls_in_flight{@})`, "in flight"), q(`sum(longwire_hook_calls_waiting{@})`, "waiting")}},
			{title: "Breaker", unit: count, help: "1 open, 0.5 a trial, 0 closed.", queries: []query{q(`longwire_hook_breaker_open{@}`, "{{instance}}")}},
		}},
	}}
}
