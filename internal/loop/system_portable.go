package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/longwire/longwire/internal/sys"
)

// portable is a System over package net, with a goroutine for each connection that waits: for systems
// without epoll, and for the tests that hold both to the same rules.
type portable struct {
	table *sys.PumpTable
	start time.Time
}

// NewPortableSystem is a System that needs nothing of the kernel but what package net has. It has one
// descriptor table. Two things are weaker than on Linux: of a conn that is paused, a reset may be seen only
// when it is resumed, and StopAccepting serves what was accepted, not all that the kernel has queued.
func NewPortableSystem() System {
	return &portable{table: sys.NewPumpTable(), start: time.Now()}
}

// NewDialingSystem is NewPortableSystem whose connections are made by dial, on a goroutine each: for a transport that package
// net does not know by itself, such as TLS. from may be invalid. An error is what Closed gets.
func NewDialingSystem(dial func(ctx context.Context, from, to netip.AddrPort) (net.Conn, error)) System {
	t := sys.NewPumpTable()
	t.Dial = dial
	return &portable{table: t, start: time.Now()}
}

func (x *portable) Tables() (limit int, private bool) {
	limit, _ = sys.Descriptors()
	return limit, false
}

func (x *portable) Listen(addr netip.AddrPort, count int, o sys.ListenOptions) ([]int32, netip.AddrPort, error) {
	return x.table.Listen(addr, count, o)
}

func (x *portable) CloseListener(fd int32) { x.table.Close(fd) }

func (x *portable) NewWaker() (Waker, error) { return pumpWaker{sys.NewPumpWaker()}, nil }

// pumpWaker is a waker that holds nothing.
type pumpWaker struct{ *sys.PumpWaker }

func (pumpWaker) Close() {}

func (x *portable) NewChute() (in, out int32, err error) {
	in, out = x.table.NewChute()
	return in, out, nil
}

func (x *portable) CloseChute(in, out int32) {
	x.table.Close(in)
	x.table.Close(out)
}

func (x *portable) Enter(w Waker, private bool, _ int) (Poller, error) {
	if private {
		return nil, fmt.Errorf("private descriptor table: %w", sys.ErrUnsupported)
	}
	return x.table.NewPump(w.(pumpWaker).PumpWaker), nil
}

func (x *portable) PassConn(in int32, c net.Conn, data []byte) error {
	return x.table.PassConn(in, c, data)
}

func (x *portable) ReceiveConn(out int32, b []byte) (net.Conn, int, error) {
	return x.table.ReceiveConn(out, b)
}

func (x *portable) Now() time.Duration { return time.Since(x.start) }

func (x *portable) Map(n int) ([]byte, error) { return make([]byte, n), nil }
func (x *portable) Discard(b []byte)          { clear(b) }
func (x *portable) Unmap([]byte)              {}
