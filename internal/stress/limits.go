package stress

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/longwire/longwire/internal/avalanche"
	"github.com/longwire/longwire/internal/limits"
	"github.com/longwire/longwire/internal/sys"
)

var pageSize = uint64(os.Getpagesize())

// root is where the system's files are read from.
var root fs.FS = os.DirFS("/")

// limits looks at what the run would hit, and refuses it where it could not be carried out.
func (r *run) limits(most int) error {
	r.sampler = avalanche.NewSampler(avalanche.Options{Port: r.target.addr.Port(), PID: r.o.PID, Network: r.o.Network})
	loopback := r.target.addr.Addr().IsLoopback()
	d := limits.Demand{Conns: uint64(most), Local: ours(r.target.addr.Addr()), Loopback: loopback, Burst: r.burst(most)}
	switch n := len(r.o.Sources); {
	case n > 0:
		d.Sources = uint64(n)
	case loopback && r.target.addr.Addr().Is4():
		d.Sources = 62_500 // by themselves
	}
	for i := range r.s.Scenarios {
		if c := &r.s.Scenarios[i]; c.Kind == ChurnKind && c.Lifetime > 0 {
			d.Churn += uint64(float64(most) / c.Lifetime.Seconds())
		}
	}
	const perConn = 4500 // of one end, nearly all in the kernel
	if d.PerConn = perConn; d.Local {
		d.PerConn *= 2
	}
	soft, hard := sys.Descriptors()
	d.Tables = 1
	if runtime.GOOS == "linux" && r.target.tls == nil && soft > 1000 {
		d.Tables = uint64(most)/uint64(soft-1000) + 1 // each loop has one of its own
	}
	h := limits.Have{Net: r.sampler.Limits(), Descriptors: uint64(soft), DescriptorsAtMost: uint64(hard), Memory: sys.MemoryAvailable(root), PageSize: pageSize}
	var fatal []string
	var hints []string
	for _, f := range limits.Check(d, h) {
		if f.Fatal && !r.o.PastLimits {
			fatal = append(fatal, fmt.Sprintf("%s: %s", f.Name, f.Says))
			hints = append(hints, f.Lift)
			continue
		}
		text := fmt.Sprintf("%s: %s. To lift it: %s", f.Name, f.Says, f.Lift)
		r.note("%s", text)
		if r.o.Warn != nil {
			r.o.Warn(text)
		}
	}
	if len(fatal) > 0 {
		_ = r.sampler.Close()
		return bad(strings.Join(hints, "; "), "this machine cannot carry the run: %s", strings.Join(fatal, "; "))
	}
	return nil
}

// burst is the most conns that are begun at once.
func (r *run) burst(most int) uint64 {
	level, worst := 0.0, 0.0
	for _, g := range r.s.Stages {
		if g.Of != OfConns {
			continue
		}
		switch g.Kind {
		case RampStage:
			if g.For == 0 {
				worst = max(worst, g.To-level)
			}
			level = g.To
		case StepStage:
			worst, level = max(worst, g.By), g.To
		case SpikeStage:
			worst = max(worst, g.To-level)
		}
	}
	return uint64(min(worst, float64(r.o.Pending), float64(most)))
}

// ours tells whether an address is one of this machine.
func ours(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, x := range addrs {
		if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Unmap() == a {
			return true
		}
	}
	return false
}

// environment is where the run takes place.
func environment(version string, net sys.NetLimits, target netip.AddrPort) Environment {
	soft, _ := sys.Descriptors()
	memory, _ := sys.MemoryLimit(root)
	e := Environment{
		Version: version, Go: runtime.Version(), Kernel: runtime.GOOS, CPUs: runtime.NumCPU(), Memory: memory, Descriptors: uint64(soft),
		Somaxconn: net.Somaxconn, Local: ours(target.Addr()), PortFirst: net.PortLow, PortLast: net.PortHigh,
	}
	if b, err := fs.ReadFile(root, "proc/sys/kernel/osrelease"); err == nil {
		e.Kernel += " " + strings.TrimSpace(string(b))
	}
	if b, err := fs.ReadFile(root, "proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				e.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := fs.ReadFile(root, "proc/loadavg"); err == nil {
		one, _, _ := strings.Cut(string(b), " ")
		e.Load, _ = strconv.ParseFloat(one, 64)
	}
	return e
}
