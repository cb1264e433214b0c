package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Deafen has a socket of the calling thread's table drop all that comes, before TCP sees it: nothing is acknowledged any
// more, as when the way to it is gone. A listener so treated answers no SYN. For good. Linux asks for no
// rights, a sandbox may.
func Deafen(fd int) error {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}
