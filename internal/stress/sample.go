package stress

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/longwire/longwire/internal/avalanche"
	"github.com/longwire/longwire/internal/fleet"
	"github.com/longwire/longwire/internal/sys"
)

// collect takes what the loops recorded into the tallies: of the run, of the step, of the sample.
func (r *run) collect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	to := []*gathered{&r.whole, &r.interval}
	if r.stretch != nil {
		to = append(to, &r.stretch.measured)
	}
	for i, s := range r.scenes {
		if s.exchanges() {
			// The recorders are swapped on the loops, which takes no time, and read here.
			full := make(chan *Recorder, s.fleet.Loops())
			_ = s.fleet.Ask(ctx, func(sp fleet.Speaker) {
				p := sp.(*part)
				spare := p.spare
				p.spare = p.recorder
				p.recorder = spare
				full <- p.spare
			})
			for range len(full) {
				rec := <-full
				into := make([]*Samples, len(to))
				for k := range to {
					into[k] = &to[k].scenes[i]
				}
				rec.Take(into...)
			}
		}
		tcp, whole, err := s.fleet.Connects(ctx)
		if err != nil {
			continue
		}
		for _, t := range to {
			t.tcp.addMicros(tcp)
			t.connect.addMicros(whole)
		}
	}
}

// addMicros adds a histogram of µs, which stays as it is.
func (d *Distribution) addMicros(h *hdrhistogram.Histogram) {
	if h == nil {
		return
	}
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		at := time.Duration(bar.From+bar.To) * time.Microsecond / 2
		if d.Count() == 0 || at < d.min {
			d.min = at
		}
		d.max = max(d.max, at)
		d.sum += float64(at) * float64(bar.Count)
		d.add(int64(at), bar.Count)
	}
}

// nextSample is when the next one is due.
func (r *run) nextSample() time.Duration { return r.sampled + r.o.Every }

// sample looks at everything.
func (r *run) sample(ctx context.Context, stage string) {
	r.sampled = r.now()
	r.collect(ctx)
	now := r.now()
	t := r.totals()
	all := r.interval.all()
	x := Sample{
		At: seconds(now), Stage: stage, Wanted: r.level, Open: t.open, Pending: t.pending, Attempted: t.attempted, Opened: t.opened,
		Failed: t.failed, Lost: t.lost, Rate: r.rate, Sent: t.sent, Done: t.done, Delivered: t.delivered, BytesIn: t.bytesIn,
		Errors: r.errors(), Latency: quantile(&all.Corrected), Service: quantile(&all.Service), Connect: quantile(&r.interval.connect),
		CPU: (processCPU() - r.cpu).Seconds(), Resident: int64(sys.Resident()),
	}
	if n := len(r.report.Samples); n > 0 && t.opened > r.report.Samples[n-1].Opened {
		r.openCPU = x.CPU
	}
	clients := avalanche.Clients{
		Attempted: t.attempted, Opened: t.opened, Open: t.open, Lost: t.lost, Failed: avalanche.FailuresOf(r.failures()),
		Connect: r.interval.tcp.Percentile(99), Handshake: r.interval.connect.Percentile(99) - r.interval.tcp.Percentile(99),
		Latency: all.Corrected.Percentile(99), Ports: t.open + t.pending,
	}
	limits := r.sampler.Limits()
	if n := len(r.o.Sources); n > 0 || !r.target.addr.Addr().IsLoopback() {
		clients.PortRange = int64(limits.Ports()) * int64(max(1, n))
	}
	seen := r.sampler.Sample(now, clients)
	r.seen = append(r.seen, seen)
	if seen.Kernel.Known {
		x.Kernel = kernelSample(&seen.Kernel, &r.seen[0].Kernel)
	}
	if seen.Queue.Known {
		x.Queue = &QueueSample{Length: seen.Queue.Length, Limit: seen.Queue.Limit}
	}
	if seen.Target.Known {
		x.Server = &TargetSample{Resident: seen.Target.Resident, CPU: seen.Target.CPU.Seconds(), Descriptors: max(0, seen.Target.Descriptors)}
	}
	if m := r.metrics.take(); m != nil {
		if x.Server == nil {
			x.Server = &TargetSample{Resident: m.Resident, CPU: m.CPU}
		}
		x.Server.Goroutines, x.Server.Heap, x.Server.GCs, x.Server.GCPause = m.Goroutines, m.Heap, m.GCs, m.GCPause
	}
	r.report.Generator.Resident = max(r.report.Generator.Resident, x.Resident)
	r.report.Samples = append(r.report.Samples, x)
	r.interval = newGathered(len(r.scenes))
	if r.o.Progress != nil {
		r.o.Progress(x)
	}
}

// failures are the conns that never stood, by reason.
func (r *run) failures() map[string]int64 {
	sum := map[string]int64{}
	for _, s := range r.scenes {
		for why, n := range s.fleet.Counts().Failed {
			sum[why] += n
		}
	}
	return sum
}

// errors is all that went wrong, by kind.
func (r *run) errors() map[string]int64 {
	sum := map[string]int64{}
	for _, s := range r.scenes {
		for why, n := range s.errorsByKind() {
			sum[why] += n
		}
	}
	return sum
}

// errorsByKind is what went wrong in a scene: conns that did not come to stand, those that were lost, exchanges.
func (s *scene) errorsByKind() map[string]int64 {
	c := s.fleet.Counts()
	sum := make(map[string]int64)
	for why, n := range c.Failed {
		sum["connect_"+strings.TrimPrefix(why, "connect_")] += n
	}
	for why, n := range c.Lost {
		sum["lost_"+why] += n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errors := maps.Clone(s.errors)
	for why, n := range errors {
		sum["exchange_"+why] += n
	}
	return sum
}

// kernelSample is counters since the first look.
func kernelSample(k, first *avalanche.Kernel) *KernelSample {
	since := func(now, then uint64) uint64 { return now - min(now, then) }
	return &KernelSample{
		Clients:     k.Clients,
		SynRetrans:  since(k.SynRetrans, first.SynRetrans),
		RetransSegs: since(k.RetransSegs, first.RetransSegs), Timeouts: since(k.Timeouts, first.Timeouts),
		ListenOverflows: since(k.ListenOverflows, first.ListenOverflows), ListenDrops: since(k.ListenDrops, first.ListenDrops),
		SynQueueDrops: since(k.SynQueueDrops, first.SynQueueDrops), AttemptFails: since(k.AttemptFails, first.AttemptFails),
		EstabResets: since(k.EstabResets, first.EstabResets), OutResets: since(k.OutResets, first.OutResets),
		MemoryPressures: since(k.MemoryPressures, first.MemoryPressures), AbortsOnMemory: since(k.AbortsOnMemory, first.AbortsOnMemory),
		TimeWaitOverflow: since(k.TimeWaitOverflow, first.TimeWaitOverflow),
		Established:      k.Established, TimeWait: k.TimeWait, Orphans: k.Orphans, MemoryBytes: k.MemoryPages * pageSize,
	}
}
