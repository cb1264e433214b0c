//go:build linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package trace

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/longwire/longwire/internal/sys"
)

// FuzzRead reads records as no probe writes them: what is none is counted, and nothing is told of it.
func FuzzRead(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzRead/seed-*"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds (%v)", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		told := 0
		k := &kernel{clock: boot(), reasons: map[uint32]string{1: "ONE"}}
		k.options.Handle = func(e *Event) {
			told++
			if text := e.Text(); text == "" || text == "unknown" {
				t.Errorf("event %+v says %q", e, text)
			}
			if _, err := json.Marshal(e); err != nil {
				t.Error(err)
			}
		}
		k.read(b)
		held := len(k.held)
		k.release(time.Now())
		again := told == 0 && len(b) >= int(unsafe.Sizeof(probesEnding{})) && k.ending.Head.Detail != 0
		if told+int(k.unread.Load()) != 1 && !again || held > 1 || held > told {
			t.Errorf("%d told, %d held, %d unread of %d bytes", told, held, k.unread.Load(), len(b))
		}
	})
}

// TestBootTime has the time of what the kernel's clock said, with the reading by which others compare it whatever the wall
// clock is set to.
func TestBootTime(t *testing.T) {
	start := time.Now()
	b := boot()
	slack := time.Since(start) // boot reads two clocks
	before, monotonic, after := time.Now(), sys.Monotonic(), time.Now()
	at := b.at(uint64(monotonic))
	if at.Before(before.Add(-slack)) || at.After(after) {
		t.Errorf("%v is not between %v and %v", at, before, after)
	}
	if at == at.Round(0) {
		t.Error("it has no monotonic reading")
	}
	if got := b.at(uint64(monotonic + time.Hour)).Sub(at); got != time.Hour {
		t.Errorf("an hour later is %v later", got)
	}
	if !b.at(0).IsZero() {
		t.Error("what has not happened has a time")
	}
}

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
