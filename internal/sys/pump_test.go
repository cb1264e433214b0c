package sys

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// pumped waits for an event of a pump's number.
func pumped(t *testing.T, p *Pump) Ready {
	t.Helper()
	events := make([]Event, 4)
	for range 1000 {
		n, err := p.Wait(events, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return events[0].Ready
		}
	}
	t.Fatal("nothing becomes ready")
	return 0
}

var errPlanned = errors.New("planned")

type wrapped struct{ err error }

func (e *wrapped) Error() string { return "wrapped: " + e.err.Error() }
func (e *wrapped) Unwrap() error { return e.err }

func TestPumpDial(t *testing.T) {
	from, to := netip.MustParseAddrPort("127.0.0.9:0"), netip.MustParseAddrPort("127.0.0.1:1")

	t.Run("connection", func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		table := NewPumpTable()
		table.Dial = func(_ context.Context, f, a netip.AddrPort) (net.Conn, error) {
			if f != from || a != to {
				t.Errorf("dial from %v to %v", f, a)
			}
			return near, nil
		}
		p := table.NewPump(NewPumpWaker())
		defer p.Close()
		fd, err := p.Connect(from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer p.CloseSocket(fd, false)
		if err := p.Add(fd, Key{Slot: 1}, Writable); err != nil {
			t.Fatal(err)
		}
		if r := pumped(t, p); r != ReadyWrite {
			t.Errorf("ready for %b", r)
		}
		if err := p.ConnectError(fd); err != nil {
			t.Error(err)
		}
		if _, err := p.Write(fd, []byte("hello")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(far, b); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	})

	t.Run("error", func(t *testing.T) {
		// The kernel's number within it must not stand for it all.
		want := &wrapped{syscall.ECONNRESET}
		table := NewPumpTable()
		table.Dial = func(context.Context, netip.AddrPort, netip.AddrPort) (net.Conn, error) { return nil, want }
		p := table.NewPump(NewPumpWaker())
		defer p.Close()
		fd, err := p.Connect(from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer p.CloseSocket(fd, false)
		if err := p.Add(fd, Key{Slot: 1}, Writable); err != nil {
			t.Fatal(err)
		}
		if r := pumped(t, p); r&Failed == 0 {
			t.Errorf("ready for %b", r)
		}
		if err := p.ConnectError(fd); err != want {
			t.Errorf("%v, want the dialler's own error", err)
		}
	})

	t.Run("closed meanwhile", func(t *testing.T) {
		dialling, ended := make(chan struct{}), make(chan struct{})
		table := NewPumpTable()
		table.Dial = func(ctx context.Context, _, _ netip.AddrPort) (net.Conn, error) {
			defer close(ended)
			close(dialling)
			<-ctx.Done()
			return nil, errPlanned
		}
		p := table.NewPump(NewPumpWaker())
		defer p.Close()
		fd, err := p.Connect(from, to)
		if err != nil {
			t.Fatal(err)
		}
		<-dialling
		p.CloseSocket(fd, true)
		<-ended
	})

	t.Run("closed meanwhile, connected all the same", func(t *testing.T) {
		near, far := net.Pipe()
		table := NewPumpTable()
		table.Dial = func(ctx context.Context, _, _ netip.AddrPort) (net.Conn, error) {
			<-ctx.Done()
			return near, nil
		}
		p := table.NewPump(NewPumpWaker())
		defer p.Close()
		fd, err := p.Connect(from, to)
		if err != nil {
			t.Fatal(err)
		}
		p.CloseSocket(fd, false)
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want the connection that came too late to be closed", err)
		}
	})

	t.Run("package net's own", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := ln.Addr().(*net.TCPAddr).AddrPort()
		_ = ln.Close()
		p := NewPumpTable().NewPump(NewPumpWaker())
		defer p.Close()
		fd, err := p.Connect(netip.AddrPort{}, nobody)
		if err != nil {
			t.Fatal(err)
		}
		defer p.CloseSocket(fd, false)
		if err := p.Add(fd, Key{Slot: 1}, Writable); err != nil {
			t.Fatal(err)
		}
		pumped(t, p)
		if err := p.ConnectError(fd); err != syscall.ECONNREFUSED {
			t.Errorf("%v, want the kernel's error by itself", err)
		}
	})
}
