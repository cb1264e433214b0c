package lab

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Sample is a subject's figures at one moment. What is not known on this system is 0.
type Sample struct {
	At          time.Duration // since the subject began
	Resident    uint64        // bytes of memory that the process has, as the kernel counts them
	Heap        uint64        // bytes of objects, dead ones that were not swept yet included
	Objects     uint64        // how many
	Stacks      uint64        // bytes of goroutines' stacks
	FromSystem  uint64        // bytes that the runtime has reserved
	Goroutines  int
	Descriptors int           // open ones; -1 where that is not known
	Collections uint32        // so far
	Pauses      time.Duration // for which they stopped the world, so far
	CollectCPU  time.Duration // what they cost, so far
	Allocated   uint64        // bytes, so far
	Mallocs     uint64        // objects, so far
}

// takeSample measures this process, after so many collections.
func takeSample(began time.Time, collections int) Sample {
	for range collections {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := Sample{
		At: time.Since(began), Resident: sys.Resident(), Heap: m.HeapAlloc, Objects: m.HeapObjects, Stacks: m.StackInuse, FromSystem: m.Sys,
		Goroutines: runtime.NumGoroutine(), Descriptors: sys.OpenDescriptors(),
		Collections: m.NumGC, Pauses: time.Duration(m.PauseTotalNs), Allocated: m.TotalAlloc, Mallocs: m.Mallocs,
	}
	cost := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(cost)
	if cost[0].Value.Kind() == metrics.KindFloat64 {
		s.CollectCPU = time.Duration(cost[0].Value.Float64() * float64(time.Second))
	}
	return s
}

// each is what a figure grew by from one sample to another, for each of n. It is negative where the figure fell.
func each(before, after uint64, n int) float64 {
	return (float64(after) - float64(before)) / float64(max(1, n))
}

// readSmall is a file's content, "" where there is none.
func readSmall(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
