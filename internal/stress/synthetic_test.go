package stress

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/longwire/longwire/internal/avalanche"
)

// synthetic is what a made-up run is like. The zero value is an idle one of no length.
type synthetic struct {
	seed    uint64
	seconds int
	conns   int64   // at the highest, in ten steps over the first half
	rate    float64 // exchanges a second, of all conns at the highest
	p50     float64 // µs
	noise   float64 // of everything, as a part of it
	breaks  bool    // from the eighth step on
	storms  bool
	find    bool
	name    string // that stands wherever a name may
}

// plausible is a run as they are.
var plausible = synthetic{seed: 1, seconds: 60, conns: 2000, rate: 20_000, p50: 800, noise: 0.03}

// report makes up the report: the same one for the same values.
func (y synthetic) report() *Report {
	rng := rand.New(rand.NewPCG(y.seed, 2))
	about := func(v float64) float64 { return v * (1 + y.noise*rng.NormFloat64()) }
	const target = "ws://127.0.0.1:8000/echo"
	r := &Report{
		Format: Format, Name: y.name, Begun: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC), Elapsed: float64(y.seconds), Target: target, Address: "127.0.0.1:8000",
		Plan:    []string{"echo: messages of 64 bytes that come back, raw, open model", fmt.Sprintf("step to %d conns by %d", y.conns, y.conns/10), "soak until the end"},
		Timeout: 0.3, Seed: y.seed, Errors: map[string]int64{}, Held: true,
		Environment: Environment{Version: "v0.4.0", Go: "go1.26.0", Kernel: "Linux 6.18.5", CPUs: 2, CPU: "Virtual CPU", Memory: 24 << 30, Descriptors: 1 << 20, Somaxconn: 4096,
			PortFirst: 32768, PortLast: 60999, Load: 0.42, Local: true},
		Notes: []string{"the generator shared the CPUs with the server: what one needs, the other lacks"},
	}
	if y.name != "" {
		r.Target, r.Address, r.Plan, r.Notes = target+y.name, y.name, append(r.Plan, y.name), append(r.Notes, y.name)
	}
	quantile := func(count, p50 float64) *Quantile {
		return &Quantile{Count: int64(count), P50: p50, P90: p50 * 1.8, P99: about(p50 * 4), P999: about(p50 * 9), Max: about(p50 * 14)}
	}
	half, step := max(1, y.seconds/2), int64(0)
	var opened, done, failed, lost, bytes int64
	kernel := KernelSample{}
	cpu, server := 0.0, 12.5
	for i := range y.seconds {
		at := float64(i+1) + 0.003*rng.Float64()
		step = min(10, int64(i*10/half)+1)
		wanted := y.conns * step / 10
		broken := y.breaks && step >= 8
		load := float64(wanted) / float64(max(1, y.conns))
		s := Sample{At: at, Stage: "step", Wanted: wanted}
		if step == 10 {
			s.Stage = "soak"
		}
		worse := 1.0
		s.Open = wanted
		if broken {
			worse = math.Pow(1.25, float64(min(i-half*7/10, 24)))
			s.Open = wanted - wanted/int64(6)
			failed += int64(about(float64(wanted) / 20))
			lost += int64(about(float64(wanted) / 300))
			s.Pending = wanted / 8
			kernel.SynRetrans += uint64(about(200 * math.Min(worse, 30)))
			kernel.ListenOverflows += uint64(about(150 * math.Min(worse, 30)))
			kernel.ListenDrops += uint64(about(160 * math.Min(worse, 30)))
			kernel.Timeouts += uint64(about(30))
		}
		opened = max(opened, s.Open+lost)
		s.Opened, s.Failed, s.Lost, s.Attempted = opened, failed, lost, opened+failed+s.Pending
		rate := max(0, about(y.rate*load/math.Sqrt(worse)))
		done += int64(rate)
		bytes += int64(rate * 70)
		s.Done, s.Sent, s.BytesIn = done, done+int64(rate/1000), bytes
		if y.rate > 0 {
			s.Rate = y.rate * load
			p50 := max(1, about(y.p50*(0.5+load)*worse))
			s.Latency, s.Service = quantile(rate, p50), quantile(rate, p50/math.Sqrt(worse)*0.8)
		}
		s.Connect = quantile(float64(y.conns/10), max(1, about(300*worse)))
		if failed > 0 {
			s.Errors = map[string]int64{"connect_timeout": failed * 3 / 4, "refused": failed - failed*3/4, "reset": lost}
			if y.name != "" {
				s.Errors[y.name] = failed / 5
			}
			r.Errors = s.Errors
		}
		kernel.RetransSegs += uint64(rng.IntN(2))
		kernel.Established, kernel.TimeWait, kernel.MemoryBytes = uint64(s.Open), uint64(failed), uint64(s.Open)*4096
		k := kernel
		s.Kernel = &k
		s.Queue = &QueueSample{Length: min(129, int64(about(float64(wanted)/400*worse))), Limit: 128}
		cpu += about(0.2 + 0.5*load)
		server += about(0.1 + 0.8*load)
		heap, goroutines, gcs, pause := about(20e6+1000*float64(s.Open)), float64(s.Open+12), float64(i/5+3), about(0.0002)
		s.CPU, s.Resident = cpu, int64(30e6+130*float64(s.Open))
		s.Server = &TargetSample{Resident: uint64(about(40e6 + 12000*float64(s.Open))), CPU: server, Descriptors: s.Open + 20, Goroutines: &goroutines, Heap: &heap, GCs: &gcs, GCPause: &pause}
		r.Samples = append(r.Samples, s)

		if n := len(r.Steps); n == 0 || r.Steps[n-1].Conns != wanted {
			r.Steps = append(r.Steps, Step{Stage: s.Stage, Begin: at - 1, Conns: wanted, Rate: s.Rate, Broken: broken})
		}
		last := &r.Steps[len(r.Steps)-1]
		last.End, last.Open, last.Done, last.Latency, last.Connect, last.Errors = at, s.Open, rate, s.Latency, s.Connect, failed
		if broken {
			last.Why = "p99 is 61.2ms, not under 50ms"
		}
	}
	if y.seconds == 0 {
		return r
	}
	r.Conns = Conns{Wanted: y.conns, Attempted: opened + failed, Opened: opened, Peak: y.conns, Failed: failed, Lost: lost, Survived: y.conns - lost, Closed: y.conns - lost, Rate: float64(opened) / float64(half)}
	distribution := func(p50 float64) *Distribution {
		var d Distribution
		for range 3000 {
			d.Record(time.Duration(p50*1e3*math.Exp(0.6*rng.NormFloat64())) + time.Duration(rng.ExpFloat64()*p50*50))
		}
		return &d
	}
	connects := distribution(300).Percentiles()
	r.Connect, r.TCP = &connects, &connects
	worse := 1.0
	if y.breaks {
		worse = 12
	}
	corrected, service := distribution(max(1, y.p50*worse)), distribution(max(1, y.p50))
	o := Outcome{Name: "echo" + y.name, Kind: EchoKind, Protocol: Raw, Model: OpenModel, Conns: r.Conns, Errors: r.Errors, Due: done + failed, Sent: done + failed, Done: done, Failed: failed,
		Rate: float64(done) / float64(y.seconds), BytesIn: bytes}
	if y.rate > 0 {
		o.Latency = &Latencies{Corrected: corrected.Percentiles(), Service: service.Percentiles(), Unanswered: failed}
		o.CorrectedMarks, o.ServiceMarks = corrected.Marks(), service.Marks()
	}
	r.Scenarios = []Outcome{o}
	if y.storms {
		took := 2.3
		r.Scenarios = append(r.Scenarios, Outcome{Name: "storm", Kind: StormKind, Conns: Conns{Peak: y.conns / 4, Opened: y.conns}, Errors: map[string]int64{},
			Storm: []Storm{{At: float64(y.seconds) * 0.6, Cut: y.conns / 4, Recovered: &took, Failed: 3}, {At: float64(y.seconds) * 0.8, Cut: y.conns / 4, Failed: 40}}})
	}
	p99 := o.Latency
	if p99 != nil {
		v := p99.Corrected.P99
		r.Checks = []Check{{Threshold: "p99<50ms", Held: v < 50e3, Value: &v, Text: fmt.Sprintf("p99 is %.1fms", v/1e3)}, {Threshold: "errors<0.1%", Held: failed == 0, Text: fmt.Sprintf("errors is %d", failed)}}
		r.Held = r.Checks[0].Held && r.Checks[1].Held
	}
	r.Generator = Generator{CPU: cpu, Resident: int64(30e6 + 130*float64(y.conns)), PerConn: about(130), CPUPerConn: about(11), Loops: 2, SourceAddrs: 1}
	if y.breaks {
		i := r.firstBroken()
		b := r.Steps[i].Begin
		r.Avalanche = &Avalanche{Step: i, FirstCause: avalanche.SmallBacklog, Text: "the accept queue is too short for the arrivals", Confidence: avalanche.High,
			Why:  "the queue was full at once when the step began, the server's CPU was not, and the first dropped SYNs came after it",
			Lift: "a larger backlog in the server's listen call, and net.core.somaxconn=65535",
			Chain: []Link{{b + 0.2, "connects rise", "from 400/s to 2,000/s"}, {b + 0.4, "accept queue full", "129 waiting, limit 128"},
				{b + 1.4, "SYNs dropped", "160/s"}, {b + 2.4, "SYN retransmission storm", "2,100/s"}, {b + 3.4, "connects fail", "80/s, connect_timeout " + y.name}}}
	}
	if y.find {
		r.Unit = "conns"
		level := func(v float64, held bool) Level {
			e := Evidence{Trial: 1, Held: held}
			l := Level{Level: v, Held: held, Passed: 3}
			if !held {
				l.Passed, l.Failed = 0, 3
				e.Checks = []Check{{Threshold: "p99<50ms", Text: "p99 is 61.2ms, not under 50ms" + y.name}}
			}
			l.Evidence = []Evidence{e}
			return l
		}
		levels := []Level{level(0.5*float64(y.conns), true), level(0.7*float64(y.conns), true), level(0.72*float64(y.conns), false), level(float64(y.conns), false)}
		r.Breaking = &Breaking{Highest: &levels[1], Lowest: &levels[2], Confirmed: true, Levels: levels, Trials: 14}
	}
	return r
}

// edges are runs that are not as they should be, by name.
func edges() map[string]*Report {
	list := map[string]*Report{
		"zero":       {},
		"empty":      synthetic{}.report(),
		"one sample": synthetic{seed: 3, seconds: 1, conns: 10, rate: 10, p50: 100}.report(),
		"hold":       synthetic{seed: 4, seconds: 20, conns: 1_000_000}.report(),
		"plausible":  plausible.report(),
	}
	broken := plausible
	broken.breaks, broken.find, broken.storms = true, true, true
	list["broken"] = broken.report()
	broken.name = hostile
	list["hostile"] = broken.report()

	r := plausible.report()
	r.Interrupted = true
	r.Notes = append(r.Notes, "the server's process could not be found: is it on another machine?", "the accept queue could not be seen: no permission")
	for i := range r.Samples {
		r.Samples[i].Kernel, r.Samples[i].Queue, r.Samples[i].Server = nil, nil, nil
	}
	list["blind"] = r

	r = plausible.report()
	r.Conns.Rate, r.Samples[3].Latency.P99, r.Generator.PerConn = math.NaN(), math.Inf(1), math.Inf(-1)
	nan := math.NaN()
	r.Checks[0].Value, r.Samples[4].Server.Heap = &nan, &nan
	list["not numbers"] = r
	return list
}

// hostile is what a name may be at its worst.
const hostile = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u2028\u2029\u202e\x1b[31m{{.}}\r\n\x00"
