// Package lab brings avalanches about: servers that are broken in one known way each, the load that breaks them, and
// servers with nothing wrong, each in a network namespace of its own. What the load tester then says of them is held
// against what was done to them.
//
// An experiment is three processes of one program. The first, Run, starts the second in a new namespace; that one,
// Play with Load, starts the third beside it, Play with Serve, puts the load on it and writes the report.
package lab

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/avalanche"
	"github.com/longwire/longwire/internal/stress"
	"github.com/longwire/longwire/internal/sys"
)

// Experiment is one server and the load on it.
type Experiment struct {
	Name   string
	Cause  avalanche.Cause // that was injected; None for a server with nothing wrong
	Server string          // what is wrong with it, in words
	Load   string          // what comes, in words

	fault    fault
	settings [][2]string // of the namespace: below /proc/sys/net, and the value
	scenario stress.Scenario
	stages   []stress.Stage
	timeout  time.Duration
}

// fault is how a server is broken. The zero value has nothing wrong.
type fault struct {
	backlog     int           // of its listen call; 0 means 4096
	descriptors int           // RLIMIT_NOFILE
	pause       time.Duration // after each conn that it accepts
	answers     int           // handshakes that it works on at a time, each for work
	work        time.Duration
	answer      time.Duration // to an HTTP request
	perConn     int           // bytes that it holds for each conn
	memory      int           // limit of its cgroup in bytes
}

// Part is what one process of an experiment does.
type Part string

// The parts.
const (
	Load  Part = "load"  // makes the namespace ready, starts the server, puts the load on it
	Serve Part = "serve" // is the server
)

// Again is the command that runs this program again so that it comes to Play with a part of an experiment.
type Again func(part Part, experiment string) *exec.Cmd

// Refused tells of an error of Run whether the machine does not let its caller make a network namespace.
func Refused(err error) bool {
	return errors.Is(err, sys.ErrApart) || errors.Is(err, sys.ErrUnsupported)
}

// Find is the experiment of a name. The error lists the names.
func Find(name string) (Experiment, error) {
	for _, e := range Experiments() {
		if e.Name == name {
			return e, nil
		}
	}
	return Experiment{}, fmt.Errorf("%q is no experiment: want one of %s", name, strings.Join(Names(), ", "))
}

// Names are those of all experiments.
func Names() (names []string) {
	for _, e := range Experiments() {
		names = append(names, e.Name)
	}
	return names
}

// Named tells whether the report names what was injected, and nothing else.
func (e *Experiment) Named(r *stress.Report) bool {
	if e.Cause == avalanche.None {
		return r.Conns.Opened > 0 && (r.Avalanche == nil || r.Avalanche.FirstCause == avalanche.None)
	}
	return r.Avalanche != nil && r.Avalanche.FirstCause == e.Cause
}

// Experiments are those there are: six first causes, and two servers with nothing wrong. Each begins with a load that
// the server bears, so that there is something to compare with, and takes less than 15 s.
func Experiments() []Experiment {
	hold := stress.Scenario{Kind: stress.HoldKind}
	churn := stress.Scenario{Kind: stress.ChurnKind, Lifetime: 200 * time.Millisecond}
	return []Experiment{
		{
			Name: "small_backlog", Cause: avalanche.SmallBacklog,
			Server: "accepts at once, with a listen backlog of 8",
			Load:   "6 conns at a time, then 300 at a time",
			fault:  fault{backlog: 8}, scenario: hold, timeout: 2 * time.Second,
			stages: []stress.Stage{steps(30, 6, 600*time.Millisecond), steps(630, 300, 3*time.Second)},
		},
		{
			Name: "port_exhaustion", Cause: avalanche.PortExhaustion,
			Server: "answers each request after 50 ms; its clients have 2000 local ports, which TIME_WAIT keeps for a minute",
			Load:   "a conn for each request, ever more of them at a time",
			fault:  fault{answer: 50 * time.Millisecond},
			settings: [][2]string{
				{"ipv4/ip_local_port_range", "20000 21999"},
				{"ipv4/tcp_tw_reuse", "0"}, // on loopback it would be after a second
			},
			scenario: stress.Scenario{Kind: stress.HTTPKind, PerRequest: true}, timeout: 2 * time.Second,
			stages: []stress.Stage{steps(15, 5, time.Second), steps(75, 60, 5*time.Second)},
		},
		{
			Name: "descriptor_limit", Cause: avalanche.DescriptorLimit,
			Server: "may open 200 descriptors",
			Load:   "50 conns at a time, then 250 at once",
			fault:  fault{descriptors: 200}, scenario: hold, timeout: 1500 * time.Millisecond,
			stages: []stress.Stage{steps(150, 50, 800*time.Millisecond), steps(400, 250, 3*time.Second)},
		},
		{
			Name: "slow_accept", Cause: avalanche.SlowAccept,
			Server: "pauses 20 ms after each conn that it accepts, with a listen backlog of 128",
			Load:   "20 conns a second, then 200 a second",
			fault:  fault{backlog: 128, pause: 20 * time.Millisecond}, scenario: hold, timeout: 1500 * time.Millisecond,
			stages: []stress.Stage{ramp(20, time.Second), ramp(40, time.Second), ramp(840, 4*time.Second), soak(time.Second)},
		},
		{
			Name: "memory_limit", Cause: avalanche.MemoryLimit,
			Server: "holds 512 KiB for each conn, in a cgroup of 64 MiB",
			Load:   "10 conns at a time, then 60 a second",
			fault:  fault{perConn: 512 << 10, memory: 64 << 20}, scenario: hold, timeout: 1500 * time.Millisecond,
			stages: []stress.Stage{steps(30, 10, 700*time.Millisecond), ramp(270, 4*time.Second)},
		},
		{
			Name: "slow_handshake", Cause: avalanche.SlowHandshake,
			Server: "asks a backend for 30 ms before it answers a handshake, for two conns at a time",
			Load:   "20 conns a second, then 200 a second",
			fault:  fault{answers: 2, work: 30 * time.Millisecond}, scenario: hold, timeout: 1500 * time.Millisecond,
			stages: []stress.Stage{ramp(20, time.Second), ramp(40, time.Second), ramp(840, 4*time.Second), soak(time.Second)},
		},
		{
			Name:     "healthy",
			Server:   "has nothing wrong",
			Load:     "200 conns at a time",
			scenario: hold, timeout: 5 * time.Second,
			stages: []stress.Stage{steps(1000, 200, time.Second), soak(time.Second)},
		},
		{
			Name:     "healthy-churn",
			Server:   "has nothing wrong, and the clients have enough local ports",
			Load:     "conns that live 200 ms, ever more of them",
			scenario: churn, timeout: 5 * time.Second,
			stages: []stress.Stage{steps(100, 20, time.Second), soak(time.Second)},
		},
	}
}

func steps(to, by float64, every time.Duration) stress.Stage {
	return stress.Stage{Kind: stress.StepStage, Of: stress.OfConns, To: to, By: by, Every: every}
}

func ramp(to float64, d time.Duration) stress.Stage {
	return stress.Stage{Kind: stress.RampStage, Of: stress.OfConns, To: to, For: d}
}

func soak(d time.Duration) stress.Stage { return stress.Stage{Kind: stress.SoakStage, For: d} }
