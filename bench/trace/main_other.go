//go:build !linux

// Trace measures what tracing connections costs, which only Linux can.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "trace: needs Linux: probes are its kernel's")
	os.Exit(1)
}
