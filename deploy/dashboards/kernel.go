package main

// kernel is the kernel's side, of the gateways' network namespaces and machines.
func kernel() board {
	per := func(title, help string, series ...string) panel {
		p := panel{title: title, unit: perSec, help: help}
		for i := 0; i < len(series); i += 2 {
			p.queries = append(p.queries, q(`sum(rate(longwire_kernel_tcp_`+series[i]+`_total{@}[$__rate_interval]))`, series[i+1]))
		}
		return p
	}
	return board{uid: "longwire-kernel", title: "Longwire: kernel", jobs: ours, help: "TCP as the kernel counts it, in the gateways' network namespaces: queues, retransmissions, resets, memory, limits.", sections: []section{
		{"Arriving", []panel{
			{title: "Accept queue", unit: count, help: "Connections that wait for a loop, and the most that may.", queries: []query{q(`sum(longwire_accept_queue_conns{@})`, "waiting"), q(`sum(longwire_accept_queue_limit{@})`, "most")}},
			per("Overflows", "Of accept queues, and of the queue of half-open connections. The client's kernel tries again after a second and more.", "listen_overflows", "accept queue", "listen_drops", "dropped SYNs", "syn_queue_drops", "half-open queue", "syn_cookies", "answered by cookie"),
			per("Opened", "Passive: by clients to us. Active: by us, to the backend say.", "passive_opens", "passive", "active_opens", "active", "attempt_fails", "failed"),
			{title: "Listeners", unit: count, help: "One for each loop that started at once; somaxconn bounds each queue.", queries: []query{q(`longwire_listeners{@}`, "{{instance}}"), q(`longwire_kernel_somaxconn{@}`, "somaxconn of {{instance}}")}},
		}},
		{"The line", []panel{
			per("Retransmissions", "Segments sent again, and timers that ran out: loss, or peers that are gone.", "retrans_segs", "segments", "syn_retrans", "SYNs", "timeouts", "timers"),
			per("Resets", "", "estab_resets", "connections that stood", "out_resets", "sent"),
			per("Given up", "After retransmissions or keepalive, or for want of memory.", "aborts_on_timeout", "timeout", "aborts_on_memory", "memory"),
		}},
		{"Sockets and memory", []panel{
			{title: "Sockets", unit: count, queries: []query{q(`sum(longwire_kernel_tcp_established{@})`, "established"), q(`sum(longwire_kernel_tcp_sockets{@})`, "in use"), q(`sum(longwire_sockets{@})`, "of the gateway's loops")}},
			{title: "TIME_WAIT", unit: count, queries: []query{q(`sum(longwire_kernel_tcp_time_wait{@})`, "now"), q(`sum(longwire_kernel_tcp_max_time_wait{@})`, "most"), q(`sum(rate(longwire_kernel_tcp_time_wait_overflows_total{@}[$__rate_interval]))`, "not kept, a second")}},
			{title: "Orphans", unit: count, help: "Sockets without a process, of the machine.", queries: []query{q(`sum(longwire_kernel_tcp_orphans{@})`, "now"), q(`sum(longwire_kernel_tcp_max_orphans{@})`, "most")}},
			{title: "TCP memory", unit: bytes1k, help: "Buffers of the machine's TCP sockets, and from where the kernel saves and refuses.", queries: []query{q(`longwire_kernel_tcp_memory_bytes{@}`, "{{instance}}"), q(`longwire_kernel_tcp_memory_pressure_bytes{@}`, "pressure of {{instance}}"), q(`longwire_kernel_tcp_memory_max_bytes{@}`, "most of {{instance}}")}},
			per("Memory pressure", "Times that TCP began to save memory.", "memory_pressures", "pressures"),
			{title: "Connection tracking", unit: count, help: "Of the firewall; 0 where it tracks none.", queries: []query{q(`longwire_kernel_conntrack_entries{@}`, "{{instance}}"), q(`longwire_kernel_conntrack_max{@}`, "most of {{instance}}")}},
			{title: "Open files of the machine", unit: count, queries: []query{q(`longwire_kernel_files{@}`, "{{instance}}")}},
			{title: "Share of fs.file-max", unit: ratio, queries: []query{q(`longwire_kernel_files{@} / longwire_kernel_files_max{@}`, "{{instance}}")}},
		}},
	}}
}
