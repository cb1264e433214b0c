//go:build !linux

package loop_test

import (
	"testing"

	"github.com/longwire/longwire/internal/loop"
)

var kernels = []kernel{{name: "portable", system: loop.NewSystem, table: loop.TableShared}}

func threads(t *testing.T) int { return 0 }
