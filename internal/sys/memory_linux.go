package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Map reserves n bytes of zeroed memory outside the Go heap. The kernel backs a page when it is first
// touched, so a table can be as large as it may ever get and cost what it holds. It must hold no pointers.
func Map(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// Huge pages would back 2 MiB for the first conn of a loop.
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	return b, nil
}

// MapFile maps the first n bytes of a file for reading and writing: what is written is the file's, and outlives the process. The
// file may be closed.
func MapFile(f *os.File, n int) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return b, os.NewSyscallError("mmap", err)
}

// LockFile takes f for this process until it is closed, or fails at once with EWOULDBLOCK when another one has it.
func LockFile(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}

// Discard gives the pages of b back to the kernel; they read as zero afterwards.
func Discard(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) }

// Unmap releases what Map reserved.
func Unmap(b []byte) { _ = unix.Munmap(b) }
