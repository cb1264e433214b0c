package longwire

import (
	"context"
	"runtime/pprof"
)

// Labels of goroutines, by which profiles tell the parts of the gateway apart. A goroutine inherits those of the one that starts it,
// so each part sets its own where it begins; package loop, the engine, the hooks and the API do so too.
var (
	poolLabels = subsystem("pool")
	httpLabels = subsystem("http")
	logLabels  = subsystem("log")
)

func subsystem(name string) context.Context {
	return pprof.WithLabels(context.Background(), pprof.Labels("subsystem", name))
}
