package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is the kernel's clock that no one sets, CLOCK_MONOTONIC: the time that probes and events of the kernel carry.
func Monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // never fails for this clock
	return time.Duration(t.Nano())
}
