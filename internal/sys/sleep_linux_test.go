package sys

import (
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wantSleep has e wait for d, and finds that nothing but time ends it.
func wantSleep(t *testing.T, e *Epoll, d time.Duration) {
	t.Helper()
	events := make([]Event, 16)
	begin := time.Now()
	n, err := e.Wait(events, d)
	if n != 0 || err != nil {
		t.Fatalf("%d events, %v, of nothing", n, err)
	}
	// A signal of the runtime's may end a wait early; then less than the whole is no fault.
	for tries := 0; time.Since(begin) < d; tries++ {
		if tries == 100 {
			t.Fatalf("a wait of %v ends early every time", d)
		}
		begin = time.Now()
		if n, err = e.Wait(events, d); n != 0 || err != nil {
			t.Fatalf("%d events, %v, of nothing", n, err)
		}
	}
}

func TestSleepIsNeverShort(t *testing.T) {
	for _, coarse := range []bool{false, true} {
		e, w := newEpoll(t)
		e.coarse = coarse
		for _, d := range []time.Duration{1, time.Microsecond, 300 * time.Microsecond, 999 * time.Microsecond, time.Millisecond, 1001 * time.Microsecond, 2500 * time.Microsecond} {
			wantSleep(t, e, d)
		}
		if e.coarse != coarse {
			t.Errorf("coarse is %t, want %t: this kernel has epoll_pwait2", e.coarse, coarse)
		}

		// What is ready, or a wake-up, ends it at once: else this would take a hundred years, or the call be refused.
		for _, d := range []time.Duration{100 * 365 * 24 * time.Hour, -1} {
			w.Wake()
			if n, err := e.Wait(make([]Event, 16), d); n != 0 || err != nil {
				t.Errorf("%d events, %v, of a wake-up before", n, err)
			}
			woken := make(chan struct{})
			go func() { defer close(woken); w.Wake() }()
			if n, err := e.Wait(make([]Event, 16), d); n != 0 || err != nil {
				t.Errorf("%d events, %v, of a wake-up", n, err)
			}
			<-woken
		}
		c, fd := accepted(t, e)
		k := Key{Slot: 1, Gen: 2}
		if err := e.Add(fd, k, Readable); err != nil {
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() { _, err := c.Write([]byte("x")); written <- err }()
		if r := waitFor(t, e, k); r != ReadyRead {
			t.Errorf("ready for %b", r)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		CloseFD(fd)
	}
}

// TestSleepRefused has a filter such as containers have refuse the call that waits for less than a millisecond.
func TestSleepRefused(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPERM, unix.ENOSYS} {
		onThread(func() {
			if err := refuse(unix.SYS_EPOLL_PWAIT2, errno); err != nil {
				t.Logf("no filter here: %v", err)
				return
			}
			w, err := NewEpollWaker()
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			e, err := NewEpoll(w, 16)
			if err != nil {
				t.Error(err)
				return
			}
			for _, d := range []time.Duration{200 * time.Microsecond, 200 * time.Microsecond, 1500 * time.Microsecond} {
				wantSleep(t, e, d)
				if !e.coarse {
					t.Errorf("%v: the call that was refused is not given up", errno)
				}
			}
			w.Wake()
			if n, err := e.Wait(make([]Event, 16), time.Hour); n != 0 || err != nil {
				t.Errorf("%d events, %v, of a wake-up", n, err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// refuse has the calling thread's system call nr fail with errno from now on. The thread is to end with the test.
func refuse(nr int, errno unix.Errno) error {
	f := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // struct seccomp_data: its number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(nr)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	p := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0)
	runtime.KeepAlive(f)
	return err
}
