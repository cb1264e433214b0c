package avalanche

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

const (
	interval = 200 * time.Millisecond
	stepTime = 2 * time.Second
	perStep  = 200 // conns a step, all begun in its first interval
	nth      = 5   // the step that breaks, from 0
)

// recording is six steps of 200 conns and of 2 s, and what was sampled every 200 ms: a server that takes it all, but
// for what happen does in the samples of the last step, of which there are ten. n counts those from 1.
func recording(broken bool, happen func(n int64, s *Sample)) ([]Step, []Sample) {
	var steps []Step
	for i := range nth + 1 {
		begin := time.Duration(i) * stepTime
		steps = append(steps, Step{Begin: begin, End: begin + stepTime, Conns: int64(i+1) * perStep, Broken: broken && i == nth})
	}
	var samples []Sample
	for at := time.Duration(0); at <= steps[nth].End; at += interval {
		begun := int64(0)
		if at > 0 {
			begun = (int64((at-1)/stepTime) + 1) * perStep
		}
		s := Sample{At: at}
		s.Clients = Clients{Attempted: begun, Opened: begun, Open: begun, Connect: 300 * time.Microsecond, Handshake: time.Millisecond, Latency: 5 * time.Millisecond,
			Ports: begun, PortRange: 28232}
		// Others talk too: the counters don't begin at 0, and a segment is lost now and then.
		s.Kernel = Kernel{Known: true, NetCounters: sys.NetCounters{ActiveOpens: uint64(begun), PassiveOpens: uint64(begun), ListenOverflows: 428, ListenDrops: 431,
			SynRetrans: 19680, RetransSegs: 2429615 + uint64(at/time.Second), EstabResets: 4128869, TimeWait: 27, Orphans: 10, MemoryPages: 900}}
		s.Kernel.Limits = sys.NetLimits{PortLow: 32768, PortHigh: 60999, MemoryPages: [3]uint64{287898, 383867, 575796}, MaxOrphans: 131072}
		s.Queue = Queue{Known: true, Length: int64(at/interval) % 2, Limit: 4096}
		s.Target = Target{Known: true, Descriptors: 12 + begun, DescriptorLimit: 20000, Resident: 64 << 20, MemoryUsed: 64 << 20, MemoryLimit: 1 << 30, CPU: at / 4, CPUs: 2}
		if n := int64((at - steps[nth].Begin) / interval); n >= 1 && happen != nil {
			happen(n, &s)
		}
		samples = append(samples, s)
	}
	return steps, samples
}

// fail has n attempts of the last step fail.
func fail(s *Sample, f Failures) {
	s.Clients.Failed = f
	s.Clients.Opened -= f.Sum()
	s.Clients.Open -= f.Sum()
	s.Target.Descriptors -= f.Sum()
}

// overflow has n SYNs dropped, each of which is sent again.
func overflow(s *Sample, n int64) {
	s.Kernel.ListenOverflows += uint64(n)
	s.Kernel.ListenDrops += uint64(n)
	s.Kernel.SynRetrans += uint64(n)
	s.Kernel.RetransSegs += uint64(n)
}

// The recordings that have a cause, and those that have none though the step broke.
var recordings = []struct {
	name       string
	happen     func(n int64, s *Sample)
	cause      Cause
	confidence Confidence
	chain      []string // in this order, perhaps with others between
	why        string   // part of it
}{
	{"small backlog", func(n int64, s *Sample) {
		// 200 at once, the queue holds 16 and is emptied in a millisecond: the others come again after 1 s.
		s.Queue.Limit = 16
		overflow(s, 150)
		s.Clients.Connect = time.Second
		fail(s, Failures{Connect: 30 * min(n, 5)})
	}, SmallBacklog, Medium, []string{"load rises", "the accept queue overflows", "SYNs are dropped", "SYNs are sent again", "retransmission storm", "attempts fail"}, "backlog of 16"},
	{"small backlog, the only one there", func(n int64, s *Sample) {
		s.Queue.Limit, s.Kernel.Alone = 16, true
		overflow(s, 150)
		fail(s, Failures{Connect: 30 * min(n, 5)})
	}, SmallBacklog, High, []string{"the accept queue overflows", "attempts fail"}, "no other socket listens there"},
	{"small backlog, seen full", func(n int64, s *Sample) {
		s.Queue.Limit = 16
		if n == 1 {
			s.Queue.Length = 17
		}
		overflow(s, 150)
		fail(s, Failures{Connect: 30 * (min(n, 5) - 1)})
	}, SmallBacklog, High, []string{"the accept queue is full", "the accept queue overflows", "SYNs are dropped", "attempts fail"}, "empty again soon"},
	{"small backlog while others have theirs overflow too", func(n int64, s *Sample) {
		s.Queue.Limit, s.Queue.Length = 16, 17*(n%2)
		overflow(s, 150)
		s.Kernel.ListenOverflows += uint64(7 * n)
	}, SmallBacklog, High, []string{"the accept queue is full", "retransmission storm"}, ""},
	{"small backlog, then the descriptors", func(n int64, s *Sample) {
		s.Queue.Limit, s.Queue.Length = 16, 17*(n%2)
		overflow(s, 150)
		if n >= 5 {
			s.Target.DescriptorLimit = s.Target.Descriptors
		}
		s.Clients.Failed.Connect = 40 * n
	}, SmallBacklog, Medium, []string{"the accept queue is full", "the server's descriptors run out"}, "the descriptor limit followed 800ms later"},
	{"small backlog, for bursts", func(n int64, s *Sample) {
		// 200 in 200 ms are 1000 a second, for which 128 would last longer than a pause.
		s.Queue.Limit = 128
		overflow(s, 60)
		s.Clients.Failed.Connect = 10 * (min(n, 5) - 1)
	}, SmallBacklog, Medium, []string{"the accept queue overflows"}, "200 conns are begun between two samples, and it holds 128"},
	{"port exhaustion", func(n int64, s *Sample) {
		s.Clients.PortRange = 1100
		fail(s, Failures{NoPort: 100})
	}, PortExhaustion, High, []string{"load rises", "local ports run out", "attempts fail"}, "100 of 100 failed attempts found no local port"},
	{"port exhaustion by TIME_WAIT", func(n int64, s *Sample) {
		s.Kernel.TimeWait = 27 + uint64(6000*n)
		if n >= 5 {
			fail(s, Failures{NoPort: 15 * (n - 4), Connect: 2})
		}
	}, PortExhaustion, High, []string{"load rises", "TIME_WAIT fills the local ports", "local ports run out"}, "TIME_WAIT holds ports: 27 → "},
	{"descriptor limit", func(n int64, s *Sample) {
		s.Target.DescriptorLimit = 1100
		s.Queue = Queue{true, 112, 511}
		fail(s, Failures{Handshake: min(12*n, 112)})
		s.Target.Descriptors = 1100
		s.Clients.Opened = 1088
	}, DescriptorLimit, High, []string{"load rises", "the server's descriptors run out", "attempts fail"}, "1100 open, limit 1100"},
	{"descriptor limit, then a full queue", func(n int64, s *Sample) {
		s.Target.DescriptorLimit, s.Target.Descriptors = 1100, 1099+n%2
		s.Queue = Queue{true, 65, 64}
		overflow(s, 30*n)
		s.Clients.Opened = 1088
		s.Clients.Failed.Connect = 10 * n
	}, DescriptorLimit, High, []string{"the server's descriptors run out", "the accept queue is full", "SYNs are dropped", "retransmission storm"}, "wait in the accept queue"},
	{"the clients' own descriptors", func(n int64, s *Sample) {
		fail(s, Failures{NoDescriptor: 50})
	}, DescriptorLimit, High, []string{"the clients' descriptors run out"}, "not the server's"},
	{"slow accept", func(n int64, s *Sample) {
		// 50 a second are accepted, and the queue is long enough for all.
		s.Queue.Length = perStep - 10*n
		s.Clients.Opened = nth*perStep + 10*n
		s.Clients.Handshake = 2 * time.Second
		s.Clients.Failed.Handshake = 10 * (n - 1)
	}, SlowAccept, High, []string{"load rises", "the accept queue grows", "handshakes are answered late", "attempts fail"}, "50 conns a second open"},
	{"slow accept, and the queue overflows", func(n int64, s *Sample) {
		s.Queue = Queue{true, 129, 128}
		s.Clients.Attempted = nth*perStep + 100*n // 500 a second
		s.Clients.Opened = nth*perStep + 4*n
		overflow(s, 90*n)
		s.Clients.Failed.Connect = 50 * n
	}, SlowAccept, High, []string{"the accept queue is full", "SYNs are dropped", "retransmission storm"}, "long enough"},
	{"slow accept, between bursts", func(n int64, s *Sample) {
		// 200 at once, 129 of them wait, and 50 a second are accepted: nearly all are before the next come.
		s.Queue = Queue{true, max(0, 139-10*n), 128}
		s.Clients.Opened = nth*perStep + 10*n
		overflow(s, 71)
		s.Clients.Failed.Connect = 7 * n
	}, SlowAccept, High, []string{"the accept queue is full"}, "50 conns a second open"},
	{"accepting pauses", func(n int64, s *Sample) {
		s.Clients.Attempted = nth*perStep + 100*n
		s.Queue.Limit = 128
		if n == 4 {
			s.Queue.Length = 129
		}
		if n >= 4 {
			overflow(s, 50)
		}
		s.Clients.Failed.Connect = 5 * (n - 1)
	}, SlowAccept, Medium, []string{"the accept queue is full"}, "accepting pauses"},
	{"slow accept and a small backlog", func(n int64, s *Sample) {
		s.Queue = Queue{true, 9, 8}
		s.Clients.Opened = nth*perStep + 2*n
		overflow(s, 100)
		s.Clients.Failed.Connect = 15 * n
	}, SlowAccept, Medium, []string{"the accept queue is full"}, "it is short too"},
	{"memory limit", func(n int64, s *Sample) {
		s.Target.MemoryUsed = (800 + 30*uint64(min(n, 7))) << 20
		s.Clients.Latency = time.Duration(n) * 20 * time.Millisecond
		if n > 8 {
			s.Target.Kills, s.Target.Gone = 1, true
			fail(s, Failures{Refused: 100})
		}
	}, MemoryLimit, High, []string{"load rises", "latency rises", "memory runs out", "the server's process is gone", "attempts fail"}, "MiB, limit 1024 MiB"},
	{"killed between two samples", func(n int64, s *Sample) {
		if n > 3 {
			s.Target = Target{Known: true, Gone: true, Kills: 1}
			s.Clients.Lost = 900
			s.Clients.Failed.Refused = 60
		}
	}, MemoryLimit, High, []string{"load rises", "memory runs out", "the server's process is gone", "conns are lost", "attempts fail"}, "1 killed for want of memory"},
	{"memory of TCP", func(n int64, s *Sample) {
		s.Kernel.MemoryPages = 383867
		s.Kernel.MemoryPressures = 1
		s.Kernel.AbortsOnMemory = 20
		s.Kernel.EstabResets += 20
		s.Clients.Failed.Reset = 20
	}, MemoryLimit, High, []string{"memory runs out", "conns are reset"}, "reset for want of memory"},
	{"slow handshake", func(n int64, s *Sample) {
		s.Clients.Handshake = time.Duration(50*n) * time.Millisecond
		fail(s, Failures{Handshake: 4 * n})
	}, SlowHandshake, High, []string{"load rises", "handshakes are answered late", "attempts fail"}, "answered late: p99"},
	{"slow handshake, the server unseen", func(n int64, s *Sample) {
		s.Queue, s.Target, s.Kernel.Clients = Queue{}, Target{}, true
		s.Clients.Handshake = 400 * time.Millisecond
		fail(s, Failures{Handshake: 40})
	}, SlowHandshake, Low, []string{"handshakes are answered late"}, "was not seen"},
	{"slow handshake while another listener overflows", func(n int64, s *Sample) {
		overflow(s, 100*n)
		s.Clients.Handshake = 400 * time.Millisecond
		fail(s, Failures{Handshake: 40})
	}, SlowHandshake, High, []string{"handshakes are answered late"}, ""},

	{"slow handshake, and the server is away for once", func(n int64, s *Sample) {
		s.Clients.Handshake = time.Duration(50*n) * time.Millisecond
		if s.Kernel.Alone = true; n >= 7 {
			s.Queue.Length = 100 * (n - 6)
			s.Kernel.PassiveOpens += uint64(100 * (n - 6))
		}
		fail(s, Failures{Handshake: 4 * n})
	}, SlowHandshake, High, []string{"handshakes are answered late", "attempts fail", "the accept queue grows"}, "were so before any waited"},
	{"small backlog, and the server is away for once", func(n int64, s *Sample) {
		s.Queue.Limit = 16
		if n >= 2 && n <= 4 {
			s.Queue.Length = 17
		}
		overflow(s, 150)
		fail(s, Failures{Connect: 30 * min(n, 5)})
	}, SmallBacklog, High, []string{"the accept queue is full", "the accept queue overflows", "attempts fail"}, "empty again soon"},
	{"slow accept, the only one there", func(n int64, s *Sample) {
		// What is accepted has given up before, so that nothing opens.
		s.Queue, s.Kernel.Alone = Queue{true, 129, 128}, true
		s.Kernel.PassiveOpens += uint64(10 * n)
		s.Clients.Attempted = nth*perStep + 100*n
		overflow(s, 71*n)
		s.Clients.Failed.Handshake = 80 * n
	}, SlowAccept, High, []string{"the accept queue is full", "SYNs are dropped", "attempts fail"}, "50 conns a second are accepted"},
	{"nothing to be seen", func(n int64, s *Sample) {
		s.Clients.Latency = 80 * time.Millisecond
	}, None, "", []string{"load rises", "latency rises"}, "neither queue"},
	{"refused", func(n int64, s *Sample) {
		fail(s, Failures{Refused: 200})
	}, None, "", []string{"attempts fail"}, "200 refused"},
	{"503, and answered late", func(n int64, s *Sample) {
		s.Clients.Handshake = 100 * time.Millisecond
		fail(s, Failures{Status: 150, Handshake: 3})
	}, None, "", []string{"attempts fail"}, "150 answered by a refusal"},
	{"one late sample", func(n int64, s *Sample) {
		if n == 3 {
			s.Clients.Handshake = 100 * time.Millisecond
		}
	}, None, "", nil, "neither queue"},
	{"another listener overflows", func(n int64, s *Sample) {
		overflow(s, 20*n)
	}, None, "", []string{"SYNs are dropped"}, "neither queue"},
	{"overflows, and the queue unseen", func(n int64, s *Sample) {
		s.Queue = Queue{}
		overflow(s, 100*n)
		fail(s, Failures{Connect: 100})
	}, None, "", []string{"the accept queue overflows", "SYNs are dropped", "retransmission storm"}, "its length was not seen"},
	{"timeouts, and nothing of the server seen", func(n int64, s *Sample) {
		s.Queue, s.Target, s.Kernel = Queue{}, Target{}, Kernel{}
		fail(s, Failures{Connect: 100})
	}, None, "", []string{"attempts fail"}, "the server's side was not seen"},
	{"crashed", func(n int64, s *Sample) {
		s.Target = Target{Known: true, Gone: true}
		fail(s, Failures{Refused: 100})
	}, None, "", []string{"the server's process is gone"}, "nothing shows why"},
}

func TestExplain(t *testing.T) {
	for _, c := range recordings {
		steps, samples := recording(true, c.happen)
		e := Explain(steps, samples)
		if e.Step != nth || e.FirstCause != c.cause || e.Confidence != c.confidence || !strings.Contains(e.Why, c.why) {
			t.Errorf("%s: step %d, %q (%s): %s\nwant %d, %q (%s): …%s…", c.name, e.Step, string(e.FirstCause), e.Confidence, e.Why, nth, string(c.cause), c.confidence, c.why)
		}
		if (e.Lift == "") != (c.cause == None) {
			t.Errorf("%s: lift %q for %v", c.name, e.Lift, c.cause)
		}
		at := 0
		for i, l := range e.Chain {
			if i > 0 && l.When < e.Chain[i-1].When || l.When < steps[nth].Begin || l.When > steps[nth].End {
				t.Errorf("%s: link %d is out of order: %+v", c.name, i, e.Chain)
			}
			if l.Figure == "" && l.What != "the server's process is gone" {
				t.Errorf("%s: no figure for %q", c.name, l.What)
			}
			if at < len(c.chain) && l.What == c.chain[at] {
				at++
			}
		}
		if at < len(c.chain) {
			t.Errorf("%s: %q is not in its place in %+v", c.name, c.chain[at], e.Chain)
		}
	}
}

// TestExplainHealthy checks that nothing is made up of runs that held, whatever the counters say.
func TestExplainHealthy(t *testing.T) {
	if e := Explain(nil, nil); e.Step != -1 || e.FirstCause != None || e.Chain != nil || e.Why == "" {
		t.Errorf("of nothing: %+v", e)
	}
	for _, c := range append(recordings[:len(recordings):len(recordings)], struct {
		name       string
		happen     func(n int64, s *Sample)
		cause      Cause
		confidence Confidence
		chain      []string
		why        string
	}{name: "calm"}) {
		steps, samples := recording(false, c.happen)
		if e := Explain(steps, samples); e.Step != -1 || e.FirstCause != None || len(e.Chain) > 0 {
			t.Errorf("%s, and no step broke: %+v", c.name, e)
		}
	}
	steps, samples := recording(true, nil)
	if e := Explain(steps, samples); e.FirstCause != None || len(e.Chain) != 1 {
		t.Errorf("a step broke without a trace: %+v", e)
	}
	if e := Explain(steps, samples[:10]); e.FirstCause != None || e.Step != nth || !strings.Contains(e.Why, "no samples") {
		t.Errorf("without samples of the step: %+v", e)
	}
}

// TestExplainNoise checks that the same is found, and nothing else, in a namespace where others are busy.
func TestExplainNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, c := range recordings {
		for trial := range 20 {
			steps, samples := recording(true, c.happen)
			var n sys.NetCounters
			for i := range samples {
				n.RetransSegs += r.Uint64N(20)
				n.SynRetrans += r.Uint64N(3)
				n.EstabResets += r.Uint64N(30)
				n.TimeWait = r.Uint64N(500)
				k := &samples[i].Kernel
				if !k.Known {
					continue
				}
				k.RetransSegs += n.RetransSegs
				k.SynRetrans += n.SynRetrans
				k.EstabResets += n.EstabResets
				k.TimeWait += n.TimeWait
				h := &samples[i].Clients.Handshake
				*h += time.Duration(r.Int64N(int64(*h)/4 + 1))
			}
			if e := Explain(steps, samples); e.FirstCause != c.cause {
				t.Fatalf("%s, trial %d: %q: %s", c.name, trial, string(e.FirstCause), e.Why)
			}
		}
	}
}

// TestExplainTimeout checks that what broke a step is looked for where its attempts began: with a timeout longer than a
// step, the one that is called broken comes after the one that did it, and what happened there is no noise from before.
func TestExplainTimeout(t *testing.T) {
	for _, c := range []struct {
		timeout time.Duration
		cause   Cause
		begin   time.Duration
		load    string
	}{
		{0, None, nth * stepTime, "1000 → 1200 conns"},
		{time.Second, None, nth * stepTime, "1000 → 1200 conns"},
		{3 * time.Second, SmallBacklog, (nth - 1) * stepTime, "800 → 1200 conns"},
	} {
		steps, samples := recording(true, nil)
		steps[nth].Timeout = c.timeout
		for i := range samples {
			s := &samples[i]
			s.Queue.Limit = 16
			if s.At > (nth-1)*stepTime { // that they fail is seen 3 s later
				overflow(s, 150)
			}
			if s.At > (nth-1)*stepTime+3*time.Second {
				fail(s, Failures{Connect: 40})
			}
		}
		e := Explain(steps, samples)
		if e.Step != nth || e.FirstCause != c.cause {
			t.Errorf("timeout %v: step %d, %q: %s; want %d, %q", c.timeout, e.Step, string(e.FirstCause), e.Why, nth, string(c.cause))
		}
		if l := e.Chain[0]; l.When != c.begin || l.Figure != c.load {
			t.Errorf("timeout %v: the chain begins with %+v, want %v, %q", c.timeout, l, c.begin, c.load)
		}
	}
}

// TestExplainLoad checks that a rate is held against a rate, and conns against conns.
func TestExplainLoad(t *testing.T) {
	for _, c := range []struct {
		was, is      Step
		what, figure string
	}{
		{Step{Conns: 600, Rate: 40}, Step{Conns: 600, Rate: 50}, "load rises", "40 → 50 a second"},
		{Step{Conns: 600}, Step{Conns: 600, Rate: 50}, "load rises", "to 50 a second"},
		{Step{Conns: 600, Rate: 50}, Step{Conns: 700, Rate: 50}, "load rises", "600 → 700 conns"},
		{Step{Conns: 600, Rate: 50}, Step{Conns: 600, Rate: 50}, "load stays", "at 50 a second"},
		{Step{Conns: 600, Rate: 50}, Step{Conns: 50}, "load falls", "600 → 50 conns"},
		{Step{}, Step{Conns: 50}, "load rises", "to 50 conns"},
	} {
		w := window{last: c.was, step: c.is}
		if l := w.load(); l.What != c.what || l.Figure != c.figure {
			t.Errorf("%+v after %+v: %s, %s; want %s, %s", c.is, c.was, l.What, l.Figure, c.what, c.figure)
		}
	}
}

// TestExplainStays checks that a load which stays is not said to rise.
func TestExplainStays(t *testing.T) {
	steps, samples := recording(true, func(_ int64, s *Sample) { fail(s, Failures{NoPort: 100}) })
	steps[nth].Conns = steps[nth-1].Conns
	if e := Explain(steps, samples); e.FirstCause != PortExhaustion || e.Chain[0].What != "load stays" || e.Chain[0].Figure != "at 1000 conns" {
		t.Errorf("%q, and the chain begins with %+v", string(e.FirstCause), e.Chain[0])
	}
}

// TestExplainAlways checks that what has been so from the beginning is not the cause of what broke later.
func TestExplainAlways(t *testing.T) {
	steps, samples := recording(true, func(_ int64, s *Sample) { fail(s, Failures{Refused: 100}) })
	for i := range samples {
		samples[i].Target.MemoryUsed = samples[i].Target.MemoryLimit
		samples[i].Kernel.Orphans = samples[i].Kernel.Limits.MaxOrphans
	}
	if e := Explain(steps, samples); e.FirstCause != None {
		t.Errorf("%q: %s", string(e.FirstCause), e.Why)
	}
}

func TestFailuresOf(t *testing.T) {
	got := FailuresOf(map[string]int64{
		"ports_exhausted": 1, "port_in_use": 2, "descriptors": 4, "refused": 5, "reset": 6, "fin": 7, "connect_timeout": 8, "kernel_timeout": 9,
		"handshake_timeout": 10, "http_503": 11, "http_403": 12, "bad_handshake": 13, syscall.ENOMEM.Error(): 14,
	})
	want := Failures{NoPort: 3, NoDescriptor: 4, NoMemory: 14, Refused: 5, Reset: 13, Connect: 17, Handshake: 10, Status: 23, Other: 13}
	if got != want || got.Sum() != 102 {
		t.Errorf("failures = %+v (%d), want %+v (102)", got, got.Sum(), want)
	}
	if s := got.String(); !strings.Contains(s, "3 without a local port, 4 without a descriptor here") || !strings.HasSuffix(s, "13 otherwise") {
		t.Errorf("in words: %s", s)
	}
}

func TestCauseWords(t *testing.T) {
	var all []string
	for _, c := range []Cause{None, SmallBacklog, PortExhaustion, DescriptorLimit, SlowAccept, MemoryLimit, SlowHandshake} {
		all = append(all, fmt.Sprint(c))
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 7 {
		t.Errorf("%d different words for 7 causes: %q", n, all)
	}
}
