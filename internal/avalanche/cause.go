package avalanche

import (
	"fmt"
	"time"
)

// candidate is a cause that the evidence allows.
type candidate struct {
	cause      Cause
	when       time.Duration
	confidence Confidence
	why, lift  string
}

// first is the cause that began it. Ports, descriptors and memory that run out make the accept queue overflow and
// handshakes late, not the other way round, unless the queue was full first.
func (f *findings) first() (candidate, bool) {
	var root candidate
	for _, c := range []candidate{f.ports(), f.files(), f.memoryLimit()} {
		if c.cause != None && (root.cause == None || c.when < root.when) {
			root = c
		}
	}
	queue := f.queue()
	if root.cause != None && queue.cause != None && queue.when < root.when {
		queue.why += fmt.Sprintf("; %v followed %v later", root.cause, round(root.when-queue.when))
		if queue.confidence == High {
			queue.confidence = Medium
		}
		return queue, true
	}
	for _, c := range []candidate{root, queue, f.slow()} {
		if c.cause != None {
			return c, true
		}
	}
	return candidate{}, false
}

func (f *findings) ports() candidate {
	if !f.noPort.seen {
		return candidate{}
	}
	c := candidate{PortExhaustion, f.noPort.when, Medium,
		fmt.Sprintf("%d of %d failed attempts found no local port", f.failures.NoPort, f.failed),
		`on the clients' machine: sysctl -w net.ipv4.ip_local_port_range="1024 65535", or more source addresses (--source-addrs)`}
	if 2*f.failures.NoPort >= f.failed {
		c.confidence = High
	}
	if f.timeWait.seen {
		c.why += ", and TIME_WAIT holds ports: " + f.timeWait.figure
	}
	return c
}

func (f *findings) files() candidate {
	if f.noDescriptor.seen && (!f.descriptors.seen || f.noDescriptor.when <= f.descriptors.when) {
		return candidate{DescriptorLimit, f.noDescriptor.when, High,
			fmt.Sprintf("%d of %d failed attempts found no descriptor in the clients' own process, not the server's", f.failures.NoDescriptor, f.failed),
			"on the clients' machine: ulimit -n, and sysctl fs.nr_open and fs.file-max above it"}
	}
	if !f.descriptors.seen || !f.failing.seen && !f.full().seen && !f.queueGrows.seen {
		return candidate{} // full, and yet nothing suffered from it
	}
	c := candidate{DescriptorLimit, f.descriptors.when, Medium,
		"the server's process has as many descriptors as it may: " + f.descriptors.figure,
		"for the server's process: ulimit -n (LimitNOFILE=), and sysctl fs.nr_open above it"}
	if f.full().seen || f.queueGrows.seen {
		c.confidence = High
		c.why += "; from then on conns wait in the accept queue"
	}
	return c
}

func (f *findings) memoryLimit() candidate {
	if !f.memory.seen {
		return candidate{}
	}
	c := candidate{MemoryLimit, f.memory.when, High, f.memory.figure,
		"more memory for the server (its cgroup's memory.max), sysctl net.ipv4.tcp_mem where TCP's buffers are scarce, or less for each conn"}
	if f.memoryWeak || !f.failing.seen && !f.latency.seen && !f.gone.seen {
		c.confidence = Medium
	}
	return c
}

// full is when the accept queue took no more.
func (f *findings) full() sight {
	over := earliest(f.overflows, f.synQueue)
	if f.queueKnown && f.queueMost+f.burst < f.queueLimit {
		over = sight{} // so many did not arrive between two samples: another listener's queue
	}
	if f.queueFull.seen && (over.seen || f.stuck) {
		return earliest(f.queueFull, over)
	}
	return over
}

// timely reports whether the failures are those of conns that nobody takes or answers in time.
func (f *findings) timely() bool {
	return 2*(f.failures.Connect+f.failures.Handshake+f.failures.Reset) >= f.failed
}

func (f *findings) queue() candidate {
	full := f.full()
	if !f.queueKnown || !full.seen && !f.queueGrows.seen || !f.timely() || f.unqueued {
		return candidate{}
	}
	lasts := time.Hour
	if f.arrivals > 0 {
		lasts = min(lasts, time.Duration(float64(f.queueLimit)/f.arrivals*float64(time.Second)))
	}
	short := lasts < pause
	arrives := fmt.Sprintf("%.0f conns a second arrive at most, for which a backlog of %d lasts %v", f.arrivals, f.queueLimit, round(lasts))
	stays := fmt.Sprintf("it stays full (%d of %d) while %s", f.queueMost, f.queueLimit, f.pace())
	const (
		longer = "a longer backlog in the server's listen call, and sysctl -w net.core.somaxconn above it"
		faster = "accept on more threads or sockets (SO_REUSEPORT), and do nothing else there; a longer backlog only puts it off"
	)
	switch {
	case !full.seen:
		return candidate{SlowAccept, f.queueGrows.when, High,
			f.waits() + f.cpu(), faster}
	case !f.stuck && (short || f.burst > f.queueLimit):
		c := candidate{SmallBacklog, full.when, High, "the accept queue overflows, and is empty again soon: " + arrives, longer}
		if !short {
			c.confidence = Medium
			c.why = fmt.Sprintf("the accept queue overflows, and is empty again soon: %d conns are begun between two samples, and it holds %d", f.burst, f.queueLimit)
		}
		switch {
		case 2*f.queueMost >= f.queueLimit:
		case f.alone:
			c.why += "; no sample met the full queue, but no other socket listens there"
		default:
			c.confidence = Medium
			c.why += "; no sample met the full queue, and other sockets listen there too"
		}
		return c
	case !f.stuck:
		return candidate{SlowAccept, full.when, Medium, "the accept queue overflows although it is long enough (" + arrives + "): accepting pauses" + f.cpu(), faster}
	case !short:
		return candidate{SlowAccept, earliest(full, f.queueGrows).when, High, "the accept queue is long enough (" + arrives + "), and " + stays + f.cpu(), faster}
	case 2*f.acceptance >= f.demand:
		return candidate{SmallBacklog, full.when, Medium, arrives + ", and the server takes most of them: " + stays, longer}
	}
	return candidate{SlowAccept, full.when, Medium, "a backlog of any length would fill: " + stays + f.cpu() + "; it is short too: " + arrives, faster}
}

// waits says how long conns wait in the queue.
func (f *findings) waits() string {
	if f.acceptance <= 0 {
		return fmt.Sprintf("conns wait in the accept queue (%d, limit %d), and %s", f.queueMost, f.queueLimit, f.pace())
	}
	return fmt.Sprintf("conns wait about %v in the accept queue (%d, limit %d), while %s", round(f.waiting), f.queueMost, f.queueLimit, f.pace())
}

// cpu says how busy the server is, after something else.
func (f *findings) cpu() string {
	if f.busy <= 0 {
		return ""
	}
	return fmt.Sprintf("; the server uses %.0f %% of its CPUs", 100*f.busy)
}

func (f *findings) slow() candidate {
	when := f.late
	if f.handshakesLate {
		when = earliest(f.handshake, f.late)
	}
	if !when.seen || !f.unqueued && (f.full().seen || f.queueGrows.seen) || 2*f.failures.Handshake < f.failed {
		return candidate{}
	}
	how := "conns are accepted at once and answered late"
	if f.full().seen || f.queueGrows.seen {
		how = "conns are answered late, and were so before any waited to be accepted"
	}
	c := candidate{SlowHandshake, when.when, High, how, "what the server does before it answers an upgrade: TLS, authorization, a backend, CPU"}
	if f.handshakesLate {
		c.why += ": " + f.handshake.figure
	}
	c.why += f.cpu()
	if !f.queueKnown {
		c.confidence = Low
		c.why += "; the accept queue was not seen, so they may have waited there"
	}
	return c
}

func (f *findings) whyNone() string {
	switch {
	case f.gone.seen:
		return "the server's process is gone, and nothing shows why"
	case !f.queueKnown && (f.overflows.seen || f.synQueue.seen):
		return "an accept queue overflows, but its length was not seen: whether it is short or emptied slowly is open"
	case !f.queueKnown && !f.kernelKnown:
		return "the server's side was not seen, and what the clients saw fits several causes"
	case f.failing.seen && !f.timely():
		return "attempts failed in a way that the kernel's figures do not explain: " + f.failures.String()
	}
	return "the step broke, but neither queue, ports, descriptors, memory nor handshakes show a limit"
}

// words says the causes in words.
var words = map[Cause]string{
	SmallBacklog:    "a small backlog",
	PortExhaustion:  "port exhaustion",
	DescriptorLimit: "the descriptor limit",
	SlowAccept:      "slow accepting",
	MemoryLimit:     "the memory limit",
	SlowHandshake:   "slow handshakes",
}

// String says the cause in words.
func (c Cause) String() string {
	if s, ok := words[c]; ok {
		return s
	}
	return "no cause"
}
