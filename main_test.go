package longwire

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain lets a test run this binary as a process of its own (see TestDescriptorsExhausted), and checks that
// the tests leave no goroutine and no descriptor behind.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	fds := descriptors()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the fuzzing engine leaves a goroutine that waits for signals
	}
	if code == 0 && leaks(fds) {
		code = 1
	}
	os.Exit(code)
}

// leaks reports whether goroutines of ours or descriptors are left. What the tests ended may take a moment to
// be gone.
func leaks(fds int) bool {
	// The runtime's poller keeps an epoll and an eventfd; a first gateway may have started it.
	const runtimeOwn = 2
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > 1 || descriptors() > fds+runtimeOwn {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "leak: %d goroutines, %d descriptors (%d at the start)\n", runtime.NumGoroutine(), descriptors(), fds)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			return true
		}
		runtime.Gosched()
	}
	return false
}
