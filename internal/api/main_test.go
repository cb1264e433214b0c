package api

import (
	"testing"

	"github.com/longwire/longwire/internal/leaktest"
)

// TestMain checks that the tests leave no goroutine behind.
func TestMain(m *testing.M) { leaktest.Main(m, leaktest.Goroutines) }
