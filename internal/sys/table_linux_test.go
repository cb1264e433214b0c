package sys

import (
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrivateTable(t *testing.T) {
	rt, err := StartRuntimePoller()
	if err != nil {
		t.Fatal(err)
	}
	before := OpenDescriptors()
	kept := dupTo(t, 0, 700)
	common := dupTo(t, 0, 701) // open in the process, and not kept
	opened, split := make(chan int), make(chan int)
	var wg sync.WaitGroup
	wg.Go(func() {
		onThread(func() {
			if err := PrivateTable(rt, []int{kept}); err != nil {
				t.Error(err)
			}
			if n, want := OpenDescriptors(), 3+len(rt.fds)+1; n != want {
				t.Errorf("%d descriptors in a private table, want %d", n, want)
			}
			for _, fd := range slices.Concat([]int{0, 1, 2, kept}, rt.fds) {
				if !isOpen(fd) {
					t.Errorf("descriptor %d is not in the private table", fd)
				}
			}
			if isOpen(common) {
				t.Error("a descriptor that is not to be kept is in the private table")
			}
			split <- dupTo(t, 0, 800)
			if fd := <-opened; isOpen(fd) {
				t.Error("what the process opens is in the private table")
			}
			_ = unix.Close(kept)
			split <- 0
		})
	})
	if fd := <-split; isOpen(fd) {
		t.Error("what the thread opens is in the process's table")
	}
	opened <- dupTo(t, 0, 900)
	<-split
	if !isOpen(kept) || !isOpen(common) {
		t.Error("the thread closed descriptors of the process")
	}
	wg.Wait()
	for _, fd := range []int{kept, common, 900} {
		CloseFD(int32(fd))
	}
	if n := OpenDescriptors(); n != before {
		t.Errorf("%d descriptors in the process's table, %d before", n, before)
	}
}

func TestUnshareByClosing(t *testing.T) {
	fd := dupTo(t, 0, 700)
	defer CloseFD(int32(fd))
	var err error
	onThread(func() {
		if err = unshareByClosing(); err != nil {
			return
		}
		if !isOpen(fd) {
			t.Error("a copy of the table lacks a descriptor")
		}
		CloseFD(int32(fd))
	})
	if err != nil {
		t.Skip(err) // before Linux 5.9
	}
	if !isOpen(fd) {
		t.Error("the table was not split")
	}
}

// TestRuntimePoller: only the runtime's descriptors are found, whatever else is open.
func TestRuntimePoller(t *testing.T) {
	want, err := StartRuntimePoller()
	if err != nil {
		t.Fatal(err)
	}
	if len(want.fds) != 2 {
		t.Errorf("descriptors %v, want an epoll and an eventfd", want.fds)
	}
	w, err := NewEpollWaker()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := NewEpoll(w, 8)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	got, err := StartRuntimePoller()
	if err != nil || !slices.Equal(got.fds, want.fds) {
		t.Errorf("descriptors %v, %v, want %v", got.fds, err, want.fds)
	}
}

// TestCollectionsOnPrivateTable: a collection polls the network on the thread that asks for it. Without the
// runtime's descriptors in its table that is the end of the process.
func TestCollectionsOnPrivateTable(t *testing.T) {
	rt, err := StartRuntimePoller()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var servers sync.WaitGroup
	servers.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			servers.Go(func() {
				_, _ = io.Copy(struct{ io.Writer }{c}, c) // not through the pipes that splice keeps
				_ = c.Close()
			})
		}
	})
	stop := make(chan struct{})
	var clients, storm sync.WaitGroup
	for range 2 {
		storm.Go(func() {
			onThread(func() {
				if err := PrivateTable(rt, nil); err != nil {
					t.Error(err)
				}
				for {
					select {
					case <-stop:
						return
					default:
						runtime.GC()
					}
				}
			})
		})
	}
	for range 8 {
		clients.Go(func() {
			b := make([]byte, 1000)
			for range 20 {
				c, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				for range 20 {
					if _, err := c.Write(b); err != nil {
						t.Error(err)
					}
					if _, err := io.ReadFull(c, b); err != nil {
						t.Error(err)
					}
				}
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	close(stop)
	storm.Wait()
	_ = ln.Close()
	servers.Wait()
}

func TestCloseRangeByHand(t *testing.T) {
	var fds []int
	for k := range 5 {
		fds = append(fds, dupTo(t, 0, 600+k))
	}
	onThread(func() {
		if err := unshareFiles(); err != nil {
			t.Error(err)
			return
		}
		closeOpen(601, 603)
		for k, fd := range fds {
			if want := k == 0 || k == 4; isOpen(fd) != want {
				t.Errorf("descriptor %d open: %t", fd, !want)
			}
		}
	})
	for _, fd := range fds {
		CloseFD(int32(fd))
	}
}

func TestDescriptors(t *testing.T) {
	soft, hard := Descriptors()
	if soft < 3 || hard < soft {
		t.Errorf("Descriptors = %d, %d", soft, hard)
	}
	before := OpenDescriptors()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if n := OpenDescriptors(); n != before+1 {
		t.Errorf("%d descriptors after one was opened, %d before", n, before)
	}
	_ = f.Close()
}
