package admin

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain checks that the tests leave no goroutine behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the fuzzing engine leaves one that waits for signals
	}
	deadline := time.Now().Add(5 * time.Second)
	for code == 0 && runtime.NumGoroutine() > 1 {
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "leak: %d goroutines\n", runtime.NumGoroutine())
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
			code = 1
		}
		runtime.Gosched()
	}
	os.Exit(code)
}
