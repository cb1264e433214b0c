//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// checkDescriptors returns an error if the process may not have descriptors for so many connections.
func checkDescriptors(conns int) error {
	const reserve = 64 // for the standard streams, the runtime and the listener
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if most := max(int64(limit.Cur)-reserve, 0); int64(conns) > most {
		return fmt.Errorf("%d connections: the limit of descriptors allows %d", conns, most)
	}
	return nil
}
