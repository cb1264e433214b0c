package loop_test

import (
	"os"
	"testing"

	"github.com/longwire/longwire/internal/loop"
)

// kernels are the systems that the tests with real sockets run on.
var kernels = []kernel{
	{name: "shared", system: loop.NewSystem, table: loop.TableShared, backlog: true, steady: true},
	{name: "private", system: loop.NewSystem, table: loop.TablePrivate, backlog: true, steady: true},
	{name: "portable", system: func() (loop.System, error) { return loop.NewPortableSystem(), nil }, table: loop.TableShared},
}

// threads is the number of threads of this process.
func threads(t *testing.T) int {
	e, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(e)
}
