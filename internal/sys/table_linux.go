package sys

import (
	"fmt"
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
	// Any pipe starts the poller, which watches it then: that tells its epoll from all others.
	probe, w, err := os.Pipe()
	if err != nil {
		return Runtime{}, fmt.Errorf("start the runtime's poller: %w", err)
	}
	defer func() { _, _ = probe.Close(), w.Close() }()
	probeFD := -1
	raw, err := probe.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { probeFD = int(fd) })
	}
	if err != nil {
		return Runtime{}, fmt.Errorf("start the runtime's poller: %w", err)
	}
	entries, err := os.ReadDir("/proc/thread-self/fd")
	if err != nil {
		return Runtime{}, fmt.Errorf("start the runtime's poller: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || !isFile(fd, "anon_inode:[eventpoll]") {
			continue
		}
		r := Runtime{fds: []int{fd}}
		found := false
		for watched, edge := range watches(fd) {
			found = found || watched == probeFD
			// The poller interrupts itself through an eventfd, the only one that it watches by level.
			if !edge && isFile(watched, "anon_inode:[eventfd]") {
				r.fds = append(r.fds, watched)
			}
		}
		if found {
			return r, nil
		}
	}
	return Runtime{}, fmt.Errorf("start the runtime's poller: no epoll descriptor in the table watches it")
}

// isFile reports whether descriptor fd is of the kind that /proc shows as prefix.
func isFile(fd int, prefix string) bool {
	target, err := os.Readlink("/proc/thread-self/fd/" + strconv.Itoa(fd))
	return err == nil && strings.HasPrefix(target, prefix)
}

// watches lists what an epoll descriptor watches, from /proc/PID/fdinfo (proc(5)), and whether by edge.
func watches(epoll int) map[int]bool {
	b, err := os.ReadFile("/proc/thread-self/fdinfo/" + strconv.Itoa(epoll))
	if err != nil {
		return nil
	}
	watched := make(map[int]bool)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != "tfd:" || f[2] != "events:" {
			continue
		}
		fd, err := strconv.Atoi(f[1])
		events, err2 := strconv.ParseUint(f[3], 16, 32)
		if err == nil && err2 == nil {
			watched[fd] = events&unix.EPOLLET != 0
		}
	}
	return watched
}

// OnLeader reports whether the calling thread is the thread-group leader, whose table must not be split.
func OnLeader() bool { return unix.Gettid() == os.Getpid() }

// ThreadID is the calling thread's number.
func ThreadID() int { return unix.Gettid() }

// PrivateTable gives the calling thread (locked to its goroutine for good) a descriptor table of its own
// that holds the standard streams, the runtime's descriptors and keep, and nothing else.
func PrivateTable(r Runtime, keep []int) error {
	if OnLeader() {
		return fmt.Errorf("private descriptor table: the thread-group leader keeps the process's")
	}
	if err := unshareFiles(); err != nil {
		return err
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

// unshareFiles splits the calling thread's table off. Where a container's filter forbids unshare for the
// sake of namespaces, close_range (Linux 5.9) does the same.
func unshareFiles() error {
	err := unix.Unshare(unix.CLONE_FILES)
	if err == nil {
		return nil
	}
	if unshareByClosing() == nil {
		return nil
	}
	return os.NewSyscallError("unshare", err)
}

func unshareByClosing() error {
	const beyond = 1<<31 - 1 // closes nothing
	return unix.CloseRange(beyond, beyond, unix.CLOSE_RANGE_UNSHARE)
}

func closeRange(first, last int) {
	if err := unix.CloseRange(uint(first), uint(last), 0); err != nil {
		closeOpen(first, last)
	}
}

// closeOpen is close_range before Linux 5.9: what is open is what /proc lists.
func closeOpen(first, last int) {
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
