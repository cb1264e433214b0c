// Package avalanche says why a server broke under a growing number of conns: from what the clients saw and what the kernel
// counted, on one time axis, it names the chain of what happened and the first cause, or says that the evidence shows
// none. It also checks, before a run, which limits the run would hit.
//
// Explain and Check are functions of values. Sampler gathers the kernel's part of a Sample; the clients' part is the
// caller's.
package avalanche

import (
	"strings"
	"syscall"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Sample is one look at everything, At after the run began. Figures only grow, but where a field says that it is of the
// interval since the sample before or how many there are now. A group that is not known has Known false.
type Sample struct {
	At      time.Duration
	Clients Clients
	Kernel  Kernel
	Queue   Queue
	Target  Target
}

// Clients is what the clients saw.
type Clients struct {
	Attempted int64 // connects begun
	Opened    int64 // handshakes complete
	Open      int64 // now
	Lost      int64 // after they stood, and not by the clients
	Failed    Failures
	// Of the interval, zero where nothing was measured: the 99th percentile from a connect's begin until the TCP conn
	// stood, from then until the handshake was answered, and of what the step is about.
	Connect, Handshake, Latency time.Duration
	// Ports are the local ports in use for conns to the target now, those in TIME_WAIT included, and PortRange how many
	// there are, of all source addresses. 0 is not known.
	Ports, PortRange int64
}

// Failures are attempts that failed, by kind.
type Failures struct {
	NoPort       int64 // EADDRNOTAVAIL, or EADDRINUSE from connect: no local port was left
	NoDescriptor int64 // EMFILE, ENFILE: of the clients' own process
	NoMemory     int64 // ENOBUFS, ENOMEM: of the clients' own machine
	Refused      int64 // ECONNREFUSED
	Reset        int64 // ECONNRESET, or closed, before the handshake was answered
	Connect      int64 // no TCP conn within the timeout
	Handshake    int64 // a TCP conn, but no answer within the timeout
	Status       int64 // an answer that refuses, such as 503
	Other        int64
}

// Sum is all of them.
func (f Failures) Sum() int64 {
	return f.NoPort + f.NoDescriptor + f.NoMemory + f.Refused + f.Reset + f.Connect + f.Handshake + f.Status + f.Other
}

// FailuresOf sorts attempts that failed, by the words in which a fleet counts them, into kinds.
func FailuresOf(reasons map[string]int64) (f Failures) {
	for reason, n := range reasons {
		switch reason {
		case "ports_exhausted", "port_in_use":
			f.NoPort += n
		case "descriptors":
			f.NoDescriptor += n
		case syscall.ENOBUFS.Error(), syscall.ENOMEM.Error():
			f.NoMemory += n
		case "refused":
			f.Refused += n
		case "reset", "fin":
			f.Reset += n
		case "connect_timeout", "kernel_timeout":
			f.Connect += n
		case "handshake_timeout":
			f.Handshake += n
		default:
			if strings.HasPrefix(reason, "http_") {
				f.Status += n
			} else {
				f.Other += n
			}
		}
	}
	return f
}

// Kernel is the counters of the server's network namespace or, when Clients is true, only those of the clients', on
// another machine.
type Kernel struct {
	Known   bool
	Clients bool
	Alone   bool // when the run began, no other socket listened in the server's namespace: what is counted of queues is its own
	sys.NetCounters
	Limits sys.NetLimits // as they were at the beginning; the zero value where they are not known
}

// Queue is the accept queue of the target's listeners, now. Of several that share the port, it is the fullest.
type Queue struct {
	Known         bool
	Length, Limit int64 // it is full when Length exceeds Limit
}

// Target is the server's process.
type Target struct {
	Known                        bool
	Gone                         bool  // it was there and is not any more
	Descriptors, DescriptorLimit int64 // now; 0 is not known
	Resident                     uint64
	MemoryUsed, MemoryLimit      uint64 // what counts against the limit; 0 is not known
	CPU                          time.Duration
	CPUs                         float64 // it may use; 0 is not known
	Kills                        uint64  // in its cgroup, for want of memory
}

// Step is a stretch of the run at one level of load.
type Step struct {
	Begin, End time.Duration
	Conns      int64   // that were wanted
	Rate       float64 // arrivals a second; 0 where conns are all there is to it
	Broken     bool    // it did not hold what was asked
	Why        string
	// Timeout is how long an attempt may take: one that failed for want of an answer began so long before. Zero is not known.
	Timeout time.Duration
}

// Cause is what began an avalanche.
type Cause string

// The causes.
const (
	None            Cause = ""
	SmallBacklog    Cause = "small_backlog"    // the accept queue is too short for arrivals that the server can take
	PortExhaustion  Cause = "port_exhaustion"  // the clients have no local port left for the target
	DescriptorLimit Cause = "descriptor_limit" // the server may open no more descriptors, so it does not accept
	SlowAccept      Cause = "slow_accept"      // the server accepts more slowly than conns arrive
	MemoryLimit     Cause = "memory_limit"     // memory of the server, or of TCP
	SlowHandshake   Cause = "slow_handshake"   // conns are accepted at once and answered late
)

// Confidence is how far the evidence goes.
type Confidence string

// The degrees.
const (
	Low    Confidence = "low"    // something fits, and something that would show it was not seen
	Medium Confidence = "medium" // two causes fit, this one better
	High   Confidence = "high"   // seen directly, and before its effects
)

// Link is one thing that happened.
type Link struct {
	When   time.Duration // of the first sample that shows it
	What   string        // "accept queue full"
	Figure string        // "129 waiting, limit 128"
}

// Explanation is what the samples show of the first step that broke.
type Explanation struct {
	Step       int // its index; -1 when none broke
	Chain      []Link
	FirstCause Cause
	Confidence Confidence // "" when there is no cause
	Why        string     // the reasons for the cause, or why none can be named
	Lift       string     // what would move the limit; "" when there is no cause
}
