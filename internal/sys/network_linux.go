package sys

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"
)

// Network is a network namespace (network_namespaces(7)). It lives as long as it is open, or something is in it.
type Network struct{ file *os.File }

// NewNetwork makes a network namespace with nothing but loopback, which is up. It needs CAP_SYS_ADMIN.
func NewNetwork() (*Network, error) {
	var n *Network
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := loopbackUp(); err != nil {
			return err
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		n = &Network{f}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return n, nil
}

// NetworkOf opens the network namespace of a process. It needs CAP_SYS_PTRACE, or a process of the same user; to
// enter it (Do) needs CAP_SYS_ADMIN.
func NetworkOf(pid int) (*Network, error) {
	f, err := os.Open(path.Join("/", procDir(pid), "ns/net"))
	if err != nil {
		return nil, fmt.Errorf("open the network namespace of process %d: %w", pid, err)
	}
	return &Network{f}, nil
}

// Close gives up the handle.
func (n *Network) Close() error { return n.file.Close() }

// Is reports whether both are one namespace.
func (n *Network) Is(other *Network) bool {
	a, err := n.file.Stat()
	b, err2 := other.file.Stat()
	return err == nil && err2 == nil && os.SameFile(a, b)
}

// Do calls f in the namespace, on a thread of its own that ends with it, and waits: sockets that f itself opens belong
// to the namespace for good, whoever uses them, and /proc/sys/net and /proc/thread-self/net are its own. Goroutines
// that f starts are outside.
func (n *Network) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", os.NewSyscallError("setns", err))
		}
		return f()
	})
}

// onOwnThread calls f on a thread that ends with it.
func onOwnThread(f func() error) error {
	err := errors.New("the goroutine ended") // what stands if f does not return
	done := make(chan struct{})
	var run func()
	run = func() {
		// Never unlocked, so that no other goroutine gets a thread in a namespace that it did not ask for. The leader
		// does not end with its goroutine, and /proc/self shows its namespace: another thread is taken while this one is.
		runtime.LockOSThread()
		if OnLeader() {
			go run()
			<-done
			runtime.UnlockOSThread()
			return
		}
		defer close(done)
		err = f()
	}
	go run()
	<-done
	return err
}

// loopbackUp sets the loopback interface of the calling thread's namespace up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("set loopback up: %w", os.NewSyscallError("ioctl", err))
	}
	return nil
}

// OpenNetwork opens the network namespace that a file stands for: /proc/PID/ns/net, or one of ip-netns(8) below /run/netns.
func OpenNetwork(path string) (*Network, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return nil, fmt.Errorf("open a network namespace: %s is none", path)
	}
	return &Network{f}, nil
}

// Inode is the number by which the kernel knows the namespace.
func (n *Network) Inode() (uint32, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &s); err != nil {
		return 0, fmt.Errorf("network namespace: %w", os.NewSyscallError("fstat", err))
	}
	return uint32(s.Ino), nil
}
