package longwire

import (
	"os"
	"testing"

	"github.com/longwire/longwire/internal/leaktest"
)

// TestMain lets a test run this binary as a process of its own (see TestDescriptorsExhausted), and checks that
// the tests leave no goroutine and no descriptor behind.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	leaktest.Main(m, leaktest.Goroutines|leaktest.Descriptors)
}
