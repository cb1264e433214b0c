//go:build !(linux && (386 || amd64 || arm || arm64 || loong64 || mips64le || mipsle || ppc64le || riscv64))

package trace

import (
	"errors"

	"github.com/longwire/longwire/internal/sys"
)

// openKernel refuses: there are no probes for this system.
func openKernel(Options, *sys.Network) (source, error) {
	return nil, errors.New("there are no probes for this system")
}
