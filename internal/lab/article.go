package lab

// A Statement is something that the founding article says and that can be checked: a claim, where in the article it stands,
// and who puts it on trial.
type Statement struct {
	Claim
	Section string // of the article
	// Experiment is the name of the experiment whose run gives the verdict; "" for none.
	Experiment string
	// Source and Ruling stand where there is no experiment: the text, test or tool that settles it, and what that says.
	// A statement of which nothing is known has Ruling NotShown and says why.
	Source string
	Ruling Verdict
	Reason string
}

// Statements are the checkable ones, in the article's order. docs/claims.md has a verdict for each.
func Statements() []Statement {
	on := func(section, experiment, id, quote, says string) Statement {
		return Statement{Claim: Claim{ID: id, Quote: quote, Says: says}, Section: section, Experiment: experiment}
	}
	by := func(section, id, quote, says, source string, ruling Verdict, reason string) Statement {
		return Statement{Claim: Claim{ID: id, Quote: quote, Says: says}, Section: section, Source: source, Ruling: ruling, Reason: reason}
	}
	return []Statement{
		on("1", "churn", "rss-climbs", "RSS 内存持续攀升且 GC 无法回收",
			"the memory of a gorilla gateway climbs with the connections that came and went, and collections do not get it back"),
		on("1", "profiler", "profile-every-30s", "每30秒采集一次,持续5分钟",
			"heap?seconds=300 takes a profile every 30 s for 5 minutes"),
		on("1", "profiler", "profile-gopark", "runtime.gopark 链路上存在大量未释放的 *websocket.Conn",
			"a heap profile shows what is kept below runtime.gopark"),
		on("1", "body", "body-blocks", "r.Body 被 Upgrade 内部消费,此处再 Read 将阻塞并隐式持有 conn 引用",
			"Upgrade consumes r.Body; to read it afterwards blocks and holds the connection"),
		on("1", "body", "body-closed", "Upgrade 方法已接管底层 TCP 连接并关闭 r.Body",
			"Upgrade takes the TCP connection over and closes r.Body"),
		on("1", "body", "body-cycle", "额外读取会触发 bodyEOFSignal 持有 conn 引用,形成循环引用",
			"a further read has a bodyEOFSignal hold the connection, a cycle of references that is not collected"),
		on("1", "readblock", "context-closes", "为每个 WebSocket 连接启用独立 context.WithTimeout,超时强制 conn.Close()",
			"a context.WithTimeout for each connection, which closes it, mends the leak"),
		on("1", "buffers", "pool-buffers", "使用 sync.Pool 复用 []byte 缓冲区,避免高频小对象分配",
			"a sync.Pool of byte buffers spares small allocations"),
		on("1", "heartbeat", "silence-30s", "对 30 秒无 Ping/Pong 的连接主动断开",
			"connections without a ping or pong for 30 s can be closed"),
		on("1", "million", "rss-peak", "RSS 内存峰值 9.7 GB → 2.3 GB",
			"a million connections take 9.7 GB before the mending and 2.3 GB after it"),
		on("1", "million", "gc-pause", "GC Pause 平均 42 ms → 3.1 ms",
			"the collector's pauses take 42 ms on average before and 3.1 ms after"),
		on("1", "million", "survival", "连接存活率 81.3% → 99.98%",
			"81.3 % of the connections survive before and 99.98 % after"),
		on("1", "million", "memory-swing", "P99 内存波动 ≤ 5%",
			"memory swings by 5 % at most, at the 99th percentile"),
		on("1", "million", "gc-rate", "GC 频次稳定在 1.2 次/分钟",
			"there are 1.2 collections a minute"),
		by("1", "life-14h", "长连接平均生命周期达 14.2 小时",
			"a connection lives 14.2 hours on average", "", NotShown,
			"how long people stay is a property of the article's own users, not of a server"),

		by("2.1", "accept-key", "服务端需拼接该值与固定字符串 \"258EAFA5-E914-47DA-95CA-C5AB0DC85B11\",再做 SHA-1 哈希并 Base64 编码",
			"Sec-WebSocket-Key is 16 random bytes in Base64; the accept value is the Base64 of the SHA-1 of it and a fixed string",
			"RFC 6455 section 4.2.2; `go test ./ws`", Holds, "the RFC's own example is a test vector of package ws"),
		by("2.1", "connection-header", "Connection: Upgrade:指示中间件透传而非终止连接",
			"Connection: Upgrade tells intermediaries to pass the header through instead of ending the connection",
			"RFC 9110 section 7.6.1", DoesNotHold, "the header names the fields that an intermediary must take away before it forwards; one that is to tunnel has to be told so itself"),
		by("2.1", "status-200", "200 | 拒绝升级(降级处理)| 语义违规",
			"to answer an upgrade with 200 violates HTTP's semantics",
			"RFC 9110 section 7.8", DoesNotHold, "a server may ignore Upgrade and answer as if it were not there; RFC 6455 section 4.1 has the client treat it by the rules of HTTP"),

		on("2.2", "lifecycle", "http-idle-timeout", "空闲超时(默认 Server.IdleTimeout)终止",
			"by default net/http ends an idle connection by Server.IdleTimeout"),
		on("2.2", "lifecycle", "upgrade-takes-over", "接管原始 net.Conn,禁用 HTTP 状态机",
			"Upgrade takes the connection over, and net/http's timeouts do not apply any more"),
		on("2.2", "lifecycle", "close-calls-onclose", "conn.Close() 主动终止,触发 OnClose 回调",
			"gorilla's Close calls a handler OnClose"),
		on("2.2", "lifecycle", "underlying-tcp", "conn.UnderlyingConn() 返回原始 *net.TCPConn",
			"UnderlyingConn is the original *net.TCPConn"),
		by("2.2", "upgrade-error", "http.Error(w, \"upgrade failed\", http.StatusBadRequest)",
			"when Upgrade fails the handler has to answer",
			"the documentation of gorilla/websocket, Upgrader.Upgrade", DoesNotHold, "Upgrade has answered by then; a second answer is a superfluous WriteHeader in the log"),

		on("2.3", "readblock", "read-blocks", "当对端未发送数据且连接未关闭时,该调用将永久阻塞当前 goroutine",
			"ReadMessage without a deadline blocks for good when the peer is silent"),
		on("2.3", "readblock", "leak-92", "无超时循环读 | ∞(直至进程重启) | ~92%(模拟弱网)",
			"goroutines of such reads live until the process ends, and 92 % leak in an hour of a weak network"),
		on("2.3", "readblock", "context-5s", "带 context.WithTimeout | ≤5s",
			"with context.WithTimeout they live at most 5 s"),
		on("2.3", "readblock", "context-wraps", "使用 context.WithDeadline 包裹读操作",
			"to wrap the read in a context.WithDeadline ends it"),
		on("2.3", "readblock", "deadline-forces", "启用 conn.SetReadDeadline() 强制触发 i/o timeout 错误",
			"SetReadDeadline forces an i/o timeout"),
		by("2.3", "read-full", "ReadMessage() 内部调用 io.ReadFull() 等待完整帧",
			"ReadMessage calls io.ReadFull to wait for a whole frame",
			"gorilla/websocket 1.5.3, conn.go", DoesNotHold, "it peeks a header in a bufio.Reader (Conn.read) and then reads with io.ReadAll what has come; nothing waits for a whole frame at once"),

		on("2.4", "heartbeat", "nat-needs-pings", "WebSocket 连接易受 NAT 超时、代理中断影响,需主动心跳维持链路活性",
			"a ping every 30 s keeps connections alive behind a NAT"),
		on("2.4", "heartbeat", "pong-5s", "PONG_TIMEOUT 留出网络抖动余量",
			"5 s for a pong leave room for jitter"),
		on("2.4", "heartbeat", "misses-2-3", "若连续 2 次未收到 Pong,触发连接重试;3 次失败则执行熔断",
			"two missed pongs begin a new attempt, three open the fuse: a dead line is found soon enough"),
		on("2.4", "heartbeat", "heartbeat-code", "该逻辑确保探测粒度可控",
			"the printed client keeps a healthy connection and finds a dead one"),
		by("2.4", "retry-avalanche", "MAX_RETRY 防止雪崩式重连",
			"a bound of the retries prevents an avalanche of reconnects",
			"[client-policy.md](client-policy.md); `go test ./client -run TestOutage`", HoldsInPart, "it bounds one client; that many clients do not come back at once takes chance in their waits, windows that follow each other, as well"),

		on("2.5", "readblock", "dial-context", "DialContext 阻塞直至完成或 ctx.Done() 触发;超时后自动关闭底层 socket 并返回 context.DeadlineExceeded",
			"DialContext ends with its context, closes the socket and returns context.DeadlineExceeded"),
		on("2.5", "readblock", "read-ignores-context", "Read()/Write() 本身不接收context",
			"Read and Write know nothing of a context"),

		by("3.1", "avalanche-chain", "服务端TIME_WAIT激增 → 端口耗尽/accept队列溢出 → SYN包被丢弃 → 重传风暴→网络拥塞",
			"TIME_WAIT of the server rises, ports run out or the accept queue overflows, SYNs are dropped, and are sent again in a storm",
			"`longwire stress avalanche all`; [avalanche.md](avalanche.md)", HoldsInPart,
			"the queue's overflow, dropped SYNs and the storm follow each other as told (experiment small_backlog); but TIME_WAIT does not fill a server's queue: it uses up the clients' ports, and is a cause of its own (port_exhaustion)"),
		by("3.1", "avalanche-370", "当并发从1600跃升至1800时,netstat -s | grep \"failed\" 统计突增370%",
			"between 1600 and 1800 connections failures rise by 370 %", "", NotShown,
			"the limit was that machine's backlog, which the article does not tell; `longwire stress --find` finds it on yours"),
		by("3.1", "tool-reuse", "go-wrk … 连接复用率 92% | 自研工具 63%",
			"go-wrk reuses 92 % of its connections, the article's own tool 63 %", "", NotShown,
			"a property of two load generators, one of which is not public"),

		by("3.3", "ebpf-hook", "eBPF 程序挂载在 tcp_set_state 内核函数上,捕获状态跃迁",
			"an eBPF program at the function tcp_set_state sees each change of state",
			"[trace.md](trace.md); `go test ./internal/trace`", HoldsInPart, "the changes are seen; the tracepoint inet_sock_set_state shows the same, is stable, and is allowed where kprobes are not"),
		by("3.3", "ebpf-dport", "sk_dport … dport == 8080 || dport == 443(假设 WS/WSS 服务端口)",
			"the probe selects the gateway's connections by sk_dport",
			"include/net/sock.h of Linux", DoesNotHold, "sk_dport is the remote port: on the server's sockets that is the client's. The server's own is sk_num"),
		by("3.3", "ebpf-ring", "bpf_map_push_elem(&conn_events, &event, BPF_EXIST); // 环形缓冲区入队",
			"bpf_map_push_elem with BPF_EXIST puts an event into a ring buffer without blocking",
			"bpf-helpers(7)", DoesNotHold, "it is for queues and stacks, where BPF_EXIST throws the oldest event away; a ring buffer has bpf_ringbuf_reserve and submit"),
		by("3.3", "ebpf-tuple", "按四元组(src_ip, src_port, dst_ip, dst_port)哈希索引 TCP 连接",
			"a connection is found again by its four-tuple",
			"[trace.md](trace.md)", HoldsInPart, "while it lives; four-tuples are used again, the socket's cookie never is"),
		by("3.3", "ebpf-states", "TCP_SYN_SENT -->|SYN| TCP_SYN_RECV -->|ACK| TCP_ESTABLISHED",
			"a connection goes from SYN_SENT through SYN_RECV to ESTABLISHED",
			"RFC 9293 section 3.3.2; [trace.md](trace.md)", DoesNotHold, "those are the two ends: a client goes from SYN_SENT to ESTABLISHED, a server from SYN_RECV; both are on one path only when both ends open at once"),

		on("4.1", "profiler", "sampling-gc", "heap profile 并非均匀采样,而是与 Go 运行时 GC 周期深度耦合:仅在 GC 标记阶段结束前触发快照",
			"heap profiles are sampled only right before the end of a collection's mark phase"),
		on("4.1", "profiler", "handler-gc", "net/http/pprof handler 调用 runtime.GC() 后立即 runtime.WriteHeapProfile()",
			"the heap handler of net/http/pprof runs a collection first"),
		on("4.1", "profiler", "rate-512", "SetMemProfileRate(512) 表示每分配 512 字节内存,有 1 次概率记录调用栈",
			"a rate of 512 records a stack for each 512 bytes allocated, on average"),
		on("4.1", "profiler", "rate-default", "512 | ~0.2% | 生产环境默认",
			"512 is the default in production, and records about 0.2 %"),
		on("4.1", "profiler", "rate-bounds", "设为 0 则禁用,设为 1 则全量记录",
			"0 turns it off, 1 records all"),

		on("4.2", "finalizer", "finalizer-retains", "goroutine 持有 obj,阻止 GC",
			"a goroutine started by a finalizer keeps the object from being collected"),
		on("4.2", "finalizer", "finalizer-captures", "startWatcher 启动的匿名 goroutine 隐式捕获 obj 指针",
			"the printed goroutine captures the object without naming it"),
		on("4.2", "finalizer", "finalizer-goroutines", "同时 goroutine 数量线性累积",
			"goroutines pile up, one for each object"),

		on("4.3", "pool", "pool-residue", "sync.Pool 复用对象时不重置字段,导致旧数据残留",
			"what comes out of a sync.Pool has the fields that its last user left"),
		on("4.3", "pool", "pool-dangling", "Data 字段若曾指向堆内存,复用后仍保留旧地址,但对应内存可能已被 GC 回收",
			"a pointer left in a pooled object may point to memory that was collected"),
		on("4.3", "pool", "pool-new", "New 函数仅在首次创建时调用",
			"New is called only the first time"),
		on("4.3", "pool", "pool-slices", "*T, []byte | ❌(需 Reset)",
			"slices and pointers may not be pooled without a reset"),

		on("4.4", "profiler", "gctrace-number", "gc 1:第 1 次 GC(从 0 开始计数)",
			"collections are counted from 0"),
		on("4.4", "profiler", "gctrace-heaps", "4->4->2 MB:GC 前堆大小 → GC 中堆大小 → GC 后存活堆大小",
			"4->4->2 MB is the heap before, during and what is alive after"),
		on("4.4", "profiler", "gctrace-goal", "5 MB goal:下一轮 GC 目标堆大小",
			"the goal of a line is that of the next collection"),
		on("4.4", "profiler", "goal-by-rate", "(基于分配速率与 GOGC)",
			"the goal follows from the allocation rate and GOGC"),
		on("4.4", "gogc", "pointer-density", "0.12 ms:并发标记阶段占比最高 | 标记开销上升,常因指针密度高",
			"marking is most of a collection, and it costs more the more pointers the heap has"),
		on("4.4", "profiler", "gctrace-2", "启用 GODEBUG=gctrace=2 可进一步输出每代对象统计",
			"gctrace=2 prints statistics for each generation"),

		on("5", "profiler", "sys-difference", "关联 cgroup v2 memory.current 与 Go runtime.MemStats.Sys 差值,精准识别 goroutine 泄漏",
			"the difference between the cgroup's memory and MemStats.Sys tells a leak of goroutines"),
		by("5", "pool-wait", "Druid 配置 maxWait=30000与业务 SQL 执行超时冲突",
			"a pool's wait limit above the statement's timeout exhausts the pool", "[doctor.md](doctor.md); `go test -run TestPostgres ./internal/doctor`", HoldsInPart,
			"the two do conflict: with a pool on PostgreSQL that is too small, callers wait longer for a connection than their statements may run, and the doctor names "+
				"the setting. But what exhausts a pool is too few connections for the work, or connections that are not given back; the wait limit says only how long callers hang"),
		by("5", "other-stacks", "Spring Boot 3.2、GraalVM、rdkafka-sys、Istio …",
			"figures of other stacks: start-up times, log volumes, canary releases, a consumer in Rust", "", NotShown,
			"they are about other programs than a Go gateway, and the article does not tell how they were measured"),
	}
}

// claimsOf are those that an experiment puts on trial.
func claimsOf(experiment string) (out []Claim) {
	for _, s := range Statements() {
		if s.Experiment == experiment {
			out = append(out, s.Claim)
		}
	}
	return out
}
