//go:build unix

package sys

import "golang.org/x/sys/unix"

// Descriptors is RLIMIT_NOFILE: how many descriptors one table may hold now, and how far a process may
// raise that by itself (the Go runtime has done so at its start).
func Descriptors() (soft, hard int) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024, 1024
	}
	const ceiling = 1 << 30
	return int(min(uint64(r.Cur), ceiling)), int(min(uint64(r.Max), ceiling))
}
