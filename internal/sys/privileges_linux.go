package sys

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities are those that the calling thread has in force, a bit each (capabilities(7)).
func Capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capabilities: %w", os.NewSyscallError("capget", err))
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}

// The capabilities that tracing asks for by name.
const (
	CapSysAdmin = 1 << unix.CAP_SYS_ADMIN // it has the others in it
	CapPerfmon  = 1 << unix.CAP_PERFMON
	CapBPF      = 1 << unix.CAP_BPF
)

// DropCapabilities gives up every capability of every thread of this process, for good. A program with cgo can do so
// only as root, by becoming nobody (65534); ErrUnsupported says that it is neither.
func DropCapabilities() error {
	err := ClearCapabilities()
	if !errors.Is(err, ErrUnsupported) {
		return err
	}
	// With cgo the C library has each thread do it, but only what it knows: setuid among that.
	if os.Geteuid() != 0 {
		return fmt.Errorf("drop capabilities: a program with cgo can do so as root only (%w)", ErrUnsupported)
	}
	const nobody = 65534
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		return fmt.Errorf("drop capabilities: become nobody: %w", err)
	}
	return nil
}

// ClearCapabilities gives up every capability of every thread of this process, for good, and changes nothing else. A program
// with cgo cannot: ErrUnsupported.
func ClearCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	switch errno {
	case 0:
		return nil
	case unix.ENOTSUP:
		return fmt.Errorf("drop capabilities: a program with cgo cannot: %w", ErrUnsupported)
	}
	return fmt.Errorf("drop capabilities: %w", os.NewSyscallError("capset", errno))
}

// WithoutCapabilities calls f on a thread of its own that has no capability and ends with it, and waits: so it can be tried
// whether something works without them. Goroutines that f starts are outside.
func WithoutCapabilities(f func() error) error {
	return onOwnThread(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			return fmt.Errorf("drop a thread's capabilities: %w", os.NewSyscallError("capset", err))
		}
		return f()
	})
}
