package sys

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() } // TestMain is to run on the leader

func TestMain(m *testing.M) {
	if !OnLeader() || PrivateTable(Runtime{}, nil) == nil {
		fmt.Println("the thread-group leader is not recognised, or has split its table")
		os.Exit(1)
	}
	runtime.UnlockOSThread()
	if _, err := StartRuntimePoller(); err != nil { // stays open
		fmt.Println(err)
		os.Exit(1)
	}
	before := OpenDescriptors()
	code := m.Run()
	if n := OpenDescriptors(); code == 0 && n != before {
		fmt.Printf("%d descriptors after the tests, %d before\n", n, before)
		code = 1
	}
	os.Exit(code)
}

// onThread runs f on a thread that ends with it, and is not the leader, and waits.
func onThread(f func()) {
	done := make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread()
		if OnLeader() {
			go run() // while this thread is taken
			<-done
			runtime.UnlockOSThread()
			return
		}
		defer close(done)
		f()
	}
	go run()
	<-done
}

// isOpen reports whether fd is open in the calling thread's table.
func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// dupTo duplicates fd at number to or above, in the calling thread's table.
func dupTo(t *testing.T, fd, to int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, to)
	if err != nil {
		t.Error(err)
	}
	return n
}
