package hook

import (
	"testing"

	"github.com/longwire/longwire/internal/leaktest"
)

// TestMain checks that the tests leave no goroutine behind: a call that ended has none.
func TestMain(m *testing.M) { leaktest.Main(m, leaktest.Goroutines) }
