package sys

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// tcpPair is a connection over loopback; the test's end closes it.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func newChute(t *testing.T) *Chute {
	t.Helper()
	c, err := NewChute()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestPassIntoTable: a connection crosses into another table with its data, and back as a net.Conn.
func TestPassIntoTable(t *testing.T) {
	rt, err := StartRuntimePoller()
	if err != nil {
		t.Fatal(err)
	}
	in, out := newChute(t), newChute(t)
	client, server := tcpPair(t)
	_, _ = io.WriteString(client, "in flight")
	carry := bytes.Repeat([]byte("state"), MaxPassed/5)
	if err := PassConn(in.In, server, carry); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	onThread(func() {
		if err := PrivateTable(rt, []int{int(in.Out), int(out.In)}); err != nil {
			t.Error(err)
			return
		}
		b := make([]byte, MaxPassed)
		fd, n, err := Receive(in.Out, b)
		if err != nil || !bytes.Equal(b[:n], carry) {
			t.Errorf("received %d bytes, %v", n, err)
			return
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %x, %v, want close-on-exec", flags, err)
		}
		if n, err = (&Epoll{}).Read(fd, b); err != nil || string(b[:n]) != "in flight" {
			t.Errorf("read %q, %v", b[:n], err)
		}
		if err := Pass(out.In, fd, []byte("back")); err != nil {
			t.Error(err)
		}
		CloseFD(fd)
	})
	b := make([]byte, 100)
	fd, n, err := Receive(out.Out, b)
	if err != nil || string(b[:n]) != "back" {
		t.Fatalf("received %q, %v", b[:n], err)
	}
	c, err := ConnFromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if isOpen(int(fd)) {
		t.Error("ConnFromFD left its descriptor open")
	}
	if _, err := io.WriteString(c, "answer"); err != nil {
		t.Error(err)
	}
	if n, err := client.Read(b); err != nil || string(b[:n]) != "answer" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

func TestChute(t *testing.T) {
	c := newChute(t)
	client, _ := tcpPair(t)
	b := make([]byte, MaxPassed)
	if _, _, err := Receive(c.Out, b); err != ErrWouldBlock {
		t.Errorf("an empty chute: %v", err)
	}
	for _, n := range []int{0, MaxPassed + 1} {
		if err := PassConn(c.In, client, make([]byte, n)); err == nil {
			t.Errorf("passed with %d bytes", n)
		}
	}
	n := 0
	for ; n < 1<<20; n++ {
		if err := PassConn(c.In, client, []byte{byte(n)}); err == ErrWouldBlock {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 5 {
		t.Errorf("a chute holds only %d descriptors", n)
	}
	for k := range n {
		fd, m, err := Receive(c.Out, b)
		if err != nil || m != 1 || b[0] != byte(k) {
			t.Fatalf("descriptor %d came with %d bytes, %v", k, m, err)
		}
		CloseFD(fd)
	}
	pipe, other := net.Pipe()
	if err := PassConn(c.In, pipe, []byte("x")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("pass a pipe: %v", err)
	}
	_, _ = pipe.Close(), other.Close()
	CloseFD(c.In)
	if _, _, err := Receive(c.Out, b); err != io.EOF {
		t.Errorf("a chute whose In is closed: %v", err)
	}
	c.In = -1
}

// TestReceiveIntoFullTable: the message comes, its descriptor does not.
func TestReceiveIntoFullTable(t *testing.T) {
	c := newChute(t)
	client, _ := tcpPair(t)
	if err := PassConn(c.In, client, []byte("state")); err != nil {
		t.Fatal(err)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	full := was
	full.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	fd, n, err := Receive(c.Out, b)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if fd != -1 || string(b[:n]) != "state" || err != nil {
		t.Errorf("Receive = %d, %q, %v", fd, b[:n], err)
	}
}

func TestChuteReader(t *testing.T) {
	c, err := NewChute()
	if err != nil {
		t.Fatal(err)
	}
	defer CloseFD(c.In)
	r, err := NewChuteReader(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	client, server := tcpPair(t)
	got := make(chan error)
	go func() {
		b := make([]byte, 100)
		fd, n, err := r.Receive(b)
		if err == nil && string(b[:n]) != "state" {
			err = errors.New("other data: " + string(b[:n]))
		}
		got <- err
		_, _ = unix.Write(int(fd), []byte("hi"))
		CloseFD(fd)
		_, _, err = r.Receive(b)
		got <- err
	}()
	if err := PassConn(c.In, server, []byte("state")); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "hi" {
		t.Errorf("read %q, %v", b, err)
	}
	_ = r.Close()
	if err := <-got; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
}
