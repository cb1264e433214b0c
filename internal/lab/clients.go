package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/longwire/longwire/ws"
)

// clients are connections that are dealt with one by one, for experiments that need more than load: each does what it is
// told, and nothing on its own.
type clients []net.Conn

// answerLimit is how long a client waits for the server.
const answerLimit = 10 * time.Second

// dial opens n TCP connections, and does with each what begin says, if that is not nil.
func dial(ctx context.Context, to netip.AddrPort, n int, begin func(net.Conn) error) (c clients, err error) {
	for i := range n {
		if ctx.Err() != nil {
			return c, context.Cause(ctx)
		}
		var d net.Dialer
		one, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return c, fmt.Errorf("connect %d of %d: %w", i+1, n, err)
		}
		c = append(c, one)
		if begin == nil {
			continue
		}
		if err := one.SetDeadline(time.Now().Add(answerLimit)); err != nil {
			return c, err
		}
		if err := begin(one); err != nil {
			return c, fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
	}
	return c, nil
}

// upgrade is a begin that makes the connection a WebSocket one. header is more field lines, or "".
func upgrade(header string) func(net.Conn) error {
	return func(c net.Conn) error {
		d := ws.Dial{Host: c.RemoteAddr().String(), Target: "/", Header: header}
		if _, err := c.Write(ws.AppendRequest(nil, &d, [16]byte{1})); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil) // nothing follows until we speak
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusSwitchingProtocols {
			return fmt.Errorf("the handshake was answered with %s", resp.Status)
		}
		return nil
	}
}

// get is a begin that sends a request without a body and reads the answer.
func get(c net.Conn) error {
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", c.RemoteAddr()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// echo sends a message and reads it back, on each.
func (c clients) echo(ctx context.Context, message []byte) error {
	frame := ws.AppendFrame(nil, ws.Client, ws.OpBinary, message, [4]byte{1, 2, 3, 4})
	want := len(ws.AppendFrame(nil, ws.Server, ws.OpBinary, message, [4]byte{}))
	b := make([]byte, want)
	for i, one := range c {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := one.SetDeadline(time.Now().Add(answerLimit)); err != nil {
			return err
		}
		if _, err := one.Write(frame); err != nil {
			return fmt.Errorf("client %d: %w", i+1, err)
		}
		for n := 0; n < want; {
			k, err := one.Read(b[n:])
			if err != nil {
				return fmt.Errorf("client %d, echo: %w", i+1, err)
			}
			n += k
		}
	}
	return nil
}

// farewell is a client's close frame, with 1000.
var farewell = ws.AppendFrame(nil, ws.Client, ws.OpClose, []byte{0x03, 0xe8}, [4]byte{1, 2, 3, 4})

// open counts those whose server has not closed them: nothing comes, for a moment. A close frame is answered.
func (c clients) open() (n int) {
	b := make([]byte, 256)
	for _, one := range c {
		if one.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
			continue
		}
		var ne net.Error
		for {
			k, err := one.Read(b)
			if err != nil {
				if errors.As(err, &ne) && ne.Timeout() {
					n++
				}
				break
			}
			if k > 0 && b[0] == 0x80|byte(ws.OpClose) {
				_, _ = one.Write(farewell) // one that is gone is seen by the next read
			}
		}
	}
	return n
}

// close closes them all.
func (c clients) close() {
	for _, one := range c {
		_ = one.Close()
	}
}
