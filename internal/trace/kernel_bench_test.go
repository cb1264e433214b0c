//go:build linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64)

package trace

import (
	"testing"
	"unsafe"
)

// BenchmarkRead reads the end of a connection, as the probes tell it.
func BenchmarkRead(b *testing.B) {
	e := probesEnding{Head: probesHead{Kind: kindEnded, Time: 5e9, Cookie: 7}, Life: probesLife{Established: 1e9, Closed: 5e9, FinReceived: 4e9, FinSent: 4e9, Path: uint64(clientFirst)}}
	record := unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e))
	k := &kernel{clock: boot()}
	ends := 0
	k.options.Handle = func(v *Event) {
		if v.Life.Verdict() == VerdictClientFIN {
			ends++
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		k.read(record)
	}
	if ends == 0 {
		b.Error("no end was told")
	}
}
