package sys

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A descriptor table belongs to the threads that share it. RLIMIT_NOFILE bounds a table, not a process,
// so a loop whose thread has a table of its own has the whole limit to itself. The traps of that, and
// how they are met here:
//
//   - The runtime's poller must exist before the first split, under the same numbers in each table:
//     any thread may be the one that polls it (a collection does). StartRuntimePoller.
//   - The thread-group leader's table is what /proc/PID/fd shows and what an exiting leader leaves
//     behind: it is never split. OnLeader.
//   - The runtime never clones a new thread from a locked one, so no other thread inherits the table.

// Runtime is the set of descriptors that belong to the Go runtime and must stay in every table.
type Runtime struct{ fds []int }

// StartRuntimePoller makes sure that the runtime's network poller exists and finds its descriptors. It
// has to run before the first PrivateTable.
func StartRuntimePoller() (Runtime, error) {
	// Any listener starts the poller; nobody can connect to an abstract name that nobody knows.
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@longwire-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(unix.Gettid()), Net: "unix"})
	if err != nil {
		return Runtime{}, fmt.Errorf("start the runtime's poller: %w", err)
	}
	defer func() { _ = ln.Close() }()
	entries, err := os.ReadDir("/proc/thread-self/fd")
	if err != nil {
		return Runtime{}, err
	}
	var r Runtime
	epolls := 0
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		target, err := os.Readlink("/proc/thread-self/fd/" + e.Name())
		if err != nil {
			continue
		}
		if strings.HasPrefix(target, "anon_inode:[eventpoll]") {
			epolls++
			r.fds = append(r.fds, fd)
		}
		if strings.HasPrefix(target, "anon_inode:[eventfd]") {
			r.fds = append(r.fds, fd)
		}
	}
	if epolls == 0 {
		return Runtime{}, fmt.Errorf("start the runtime's poller: no epoll descriptor in the table")
	}
	return r, nil
}

// OnLeader reports whether the calling thread is the thread-group leader, whose table must not be split.
func OnLeader() bool { return unix.Gettid() == os.Getpid() }

// PrivateTable gives the calling thread (locked to its goroutine for good) a descriptor table of its own
// that holds the standard streams, the runtime's descriptors and keep, and nothing else.
func PrivateTable(r Runtime, keep []int) error {
	if OnLeader() {
		return fmt.Errorf("private descriptor table: the thread-group leader keeps the process's")
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	all := slices.Concat([]int{0, 1, 2}, r.fds, keep)
	slices.Sort(all)
	next := 0
	for _, fd := range all {
		if fd > next {
			closeRange(next, fd-1)
		}
		next = max(next, fd+1)
	}
	closeRange(next, int(^uint32(0)>>1))
	return nil
}

func closeRange(first, last int) {
	if err := unix.CloseRange(uint(first), uint(last), 0); err == nil {
		return
	}
	// Before Linux 5.9: what is open is what /proc lists.
	entries, _ := os.ReadDir("/proc/thread-self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first && fd <= last {
			_ = unix.Close(fd)
		}
	}
}

// OpenDescriptors counts the descriptors of the calling thread's table.
func OpenDescriptors() int {
	entries, err := os.ReadDir("/proc/thread-self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1 // the directory itself
}

// CloseFD closes a descriptor in the calling thread's table.
func CloseFD(fd int32) { _ = unix.Close(int(fd)) }
