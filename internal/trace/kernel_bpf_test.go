//go:build linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package trace

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// TestOlderKernel loads the probes as they are for a kernel that gives no reasons for RSTs.
func TestOlderKernel(t *testing.T) {
	t.Parallel()
	needBPF(t, start(t, Options{}, nil))
	spec, err := loadProbes()
	if err != nil {
		t.Fatal(err)
	}
	choose(spec, 2)
	if spec.Programs["on_rst_sent"] != nil || spec.Programs["on_rst_sent_before_6_10"] == nil {
		t.Errorf("the probes are %v", slices.Sorted(maps.Keys(spec.Programs)))
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	if n, none := arguments(types, "tcp_receive_reset"), arguments(types, "tcp_never_heard_of"); n != 1 || none != 0 {
		t.Errorf("tcp_receive_reset has %d arguments, an unknown tracepoint %d; want 1 and 0", n, none)
	}
}
