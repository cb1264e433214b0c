package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/longwire/longwire/internal/avalanche"
	"github.com/longwire/longwire/internal/leaktest"
	"github.com/longwire/longwire/internal/stress"
	"github.com/longwire/longwire/internal/sys"
)

// childPart, in the environment, makes this program a part of an experiment: "serve healthy".
const childPart = "LONGWIRE_LAB_PART"

func TestMain(m *testing.M) {
	if part, name, ok := strings.Cut(os.Getenv(childPart), " "); ok {
		e, err := Find(name)
		if err == nil {
			err = Play(context.Background(), Part(part), e, again, os.Stdin, os.Stdout, os.Stderr, nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m, leaktest.Descriptors)
}

func again(part Part, experiment string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: os.Args[:1], Env: append(os.Environ(), childPart+"="+string(part)+" "+experiment,
		"GORACE=atexit_sleep_ms=0")} // a second for each process otherwise
}

// apart skips a test where namespaces are refused.
func apart(t *testing.T) {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^$")
	sys.Apart(c)
	err := sys.ApartError(c, c.Start())
	if Refused(err) {
		t.Skip(err)
	}
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// chains are links that the chain of an experiment has to have, in this order.
var chains = map[string][]string{
	"small_backlog":    {"load rises", "the accept queue overflows", "SYNs are dropped", "SYNs are sent again", "retransmission storm", "attempts fail"},
	"port_exhaustion":  {"load rises", "TIME_WAIT fills the local ports", "local ports run out", "attempts fail"},
	"descriptor_limit": {"load rises", "the server's descriptors run out", "the accept queue grows", "attempts fail"},
	"slow_accept":      {"load rises", "the accept queue is full", "SYNs are dropped", "SYNs are sent again"},
	"memory_limit":     {"load rises", "memory runs out", "the server's process is gone", "attempts fail"},
	"slow_handshake":   {"load rises", "handshakes are answered late", "attempts fail"},
}

// TestExperiments brings each about, six at a time, and checks that the first cause which is named is the one that was
// injected, and that none is where nothing was.
func TestExperiments(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of a minute")
	}
	apart(t)
	type result struct {
		report *stress.Report
		err    error
		log    strings.Builder
	}
	list := Experiments()
	results := make([]result, len(list))
	turns := make(chan struct{}, 6)
	var all sync.WaitGroup
	for i, e := range list {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			x := &results[i]
			x.report, x.err = Run(t.Context(), e, again, &x.log)
		})
	}
	all.Wait()
	for i, e := range list {
		t.Run(e.Name, func(t *testing.T) {
			switch x := &results[i]; {
			case x.err == nil:
				check(t, &e, x.report)
			case strings.Contains(x.log.String(), "a cgroup with a memory limit cannot be made"):
				t.Skip(x.log.String())
			default:
				t.Errorf("%v: %s", x.err, &x.log)
			}
		})
	}
}

// check holds a report against what was injected.
func check(t *testing.T, e *Experiment, r *stress.Report) {
	defer func() {
		if t.Failed() {
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Error(err)
			}
			t.Log(text.String())
		}
	}()
	if !e.Named(r) {
		t.Error("the cause is not named, or one is named that is not there")
	}
	if e.Cause == avalanche.None {
		if r.Avalanche != nil {
			t.Errorf("a step broke: %+v", r.Avalanche)
		}
		return
	}
	if r.Avalanche == nil {
		t.Fatal("no step broke")
	}
	if r.Avalanche.Lift == "" {
		t.Error("nothing is said of what would lift it")
	}
	want := chains[e.Name]
	last := 0.0
	for _, l := range r.Avalanche.Chain {
		if len(want) > 0 && l.What == want[0] {
			want = want[1:]
		}
		if l.At < last || l.At > r.Elapsed+1 || l.Figure == "" && l.What != "the server's process is gone" {
			t.Errorf("link %+v is out of order or has no figure", l)
		}
		last = l.At
	}
	if len(want) > 0 {
		t.Errorf("%q is not in its place in the chain", want[0])
	}
}

// TestInterrupted checks that an experiment which is told to end leaves a report and no process.
func TestInterrupted(t *testing.T) {
	apart(t)
	e, err := Find("healthy")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log strings.Builder
	r, err := Run(ctx, e, again, &log)
	if err != nil {
		t.Fatalf("%v: %s", err, &log)
	}
	if !r.Interrupted {
		t.Errorf("the run went on for %v s", r.Elapsed)
	}
}

// TestFailed checks that what a part says of its failure is handed on.
func TestFailed(t *testing.T) {
	apart(t)
	var log strings.Builder
	e := Experiment{Name: "none"}
	if _, err := Run(t.Context(), e, again, &log); err == nil || !strings.Contains(log.String(), `"none" is no experiment`) {
		t.Errorf("error %v, and said was %q", err, log.String())
	}
}
