package sys

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Apart has a command start in a network namespace of its own, where loopback is still down (LoopbackUp). That takes
// CAP_SYS_ADMIN; a caller without it gets a user namespace too, in which the command is root, where the system lets
// everyone make one. ApartError says whether it was that which failed.
func Apart(c *exec.Cmd) {
	a := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if have, err := Capabilities(); err == nil && have&CapSysAdmin == 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	c.SysProcAttr = a
}

// ApartError is the error of a command's Start after Apart: ErrApart where the namespace was refused.
func ApartError(c *exec.Cmd, err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EUSERS) {
		return err
	}
	if c.SysProcAttr != nil && c.SysProcAttr.Cloneflags&unix.CLONE_NEWUSER != 0 {
		return fmt.Errorf("%w: CAP_SYS_ADMIN is missing, and a user namespace is not allowed either: %w", ErrApart, err)
	}
	return fmt.Errorf("%w: %w", ErrApart, err)
}

// LoopbackUp sets the loopback interface of the calling thread's network namespace up. It needs CAP_NET_ADMIN there.
func LoopbackUp() error { return loopbackUp() }

// LimitDescriptors bounds the descriptors of each of this process's tables, for good.
func LimitDescriptors(n int) error {
	return os.NewSyscallError("setrlimit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}))
}
