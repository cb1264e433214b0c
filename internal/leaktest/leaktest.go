// Package leaktest finds what tests leave behind, goroutines and descriptors: Main is for a package's TestMain.
package leaktest

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// Resource is a set of what tests may leave behind.
type Resource uint8

// What Main looks for.
const (
	Goroutines  Resource = 1 << iota
	Descriptors          // of the process's own table; not looked for where that cannot be read
)

// patience is how long goroutines that were told to end may take.
const patience = 20 * time.Second

// Main runs the tests of a package and ends the process, with 1 where they passed but left more of what is looked for than
// there was before. Goroutines that are about to end are waited for; when they are gone, descriptors have to be closed.
func Main(m *testing.M, look Resource) {
	os.Exit(run(m.Run, look, patience, os.Stderr))
}

// run is Main: tests returns an exit code, and what is left goes to out.
func run(tests func() int, look Resource, patience time.Duration, out io.Writer) int {
	if err := startPoller(); err != nil {
		fmt.Fprintf(out, "leak: start the runtime's poller: %v\n", err)
		return 1
	}
	goroutines, descriptors := runtime.NumGoroutine(), sys.OpenDescriptors()
	code := tests()
	if code != 0 || fuzzing() {
		return code
	}
	if look&Goroutines != 0 && !settles(goroutines, patience) {
		fmt.Fprintf(out, "leak: %d goroutines after the tests, %d before\n", runtime.NumGoroutine(), goroutines)
		_ = pprof.Lookup("goroutine").WriteTo(out, 1)
		return 1
	}
	if n := sys.OpenDescriptors(); look&Descriptors != 0 && n > descriptors {
		fmt.Fprintf(out, "leak: %d descriptors after the tests, %d before\n", n, descriptors)
		return 1
	}
	return 0
}

// Settles reports whether the process comes down to n goroutines, which it waits for: those that have ended may take a moment
// to be gone. It is not for a bubble of synctest, whose time stands still.
func Settles(n int) bool { return settles(n, patience) }

func settles(n int, patience time.Duration) bool {
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > n; runtime.Gosched() {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// startPoller has the runtime open its poller's descriptors, which stay: any pipe does.
func startPoller() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), w.Close())
}

// fuzzing reports whether this process is a fuzzing engine, which leaves a goroutine that waits for signals.
func fuzzing() bool {
	f := flag.Lookup("test.fuzz")
	return f != nil && f.Value.String() != ""
}
