package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
)

const timeout = 20 * time.Second

// client is what the clients of several libraries can be made to do.
type client interface {
	send(text bool, payload []byte) error
	sendFragments(text bool, fragments ...[]byte) error
	receive() (text bool, payload []byte, err error)
	ping() error  // nil when the pong has come
	close() error // nil when the server has answered the status code 1000 by its like
}

var clients = []struct {
	name string
	dial func(t *testing.T, addr string) client
}{
	{"gorilla", dialGorilla},
	{"coder", dialCoder},
	{"gobwas", dialGobwas},
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"-server", "none"}, {"-server", "gorilla", "argument"}, {"-flag"}} {
		if got := run(args); got != 2 {
			t.Errorf("exit %d for %q, want 2", got, args)
		}
	}
	const tooMany = 2_000_000_000
	if checkDescriptors(tooMany) == nil {
		t.Skip("no limit of descriptors")
	}
	if got := run([]string{"-server", "gorilla", "-max-conns", fmt.Sprint(tooMany)}); got != 1 {
		t.Errorf("exit %d for more connections than descriptors, want 1", got)
	}
}

func TestEcho(t *testing.T) {
	for _, s := range servers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.serve(ln) }()
		t.Run(s.name, func(t *testing.T) {
			for _, c := range clients {
				t.Run(c.name, func(t *testing.T) { testEcho(t, c.dial(t, ln.Addr().String())) })
			}
		})
		ln.Close()
		select {
		case <-done:
		case <-time.After(timeout):
			t.Errorf("%s: serves on after its listener is closed", s.name)
		}
	}
}

func testEcho(t *testing.T, c client) {
	expect := func(text bool, want []byte) {
		t.Helper()
		isText, got, err := c.receive()
		if err != nil || isText != text || !bytes.Equal(got, want) {
			t.Fatalf("got text %v, %d bytes, %v; want text %v, %d bytes", isText, len(got), err, text, len(want))
		}
	}
	for _, size := range []int{0, 1, 125, 126, 1000, 4096, 65535, 65536, 200_000} {
		for _, text := range []bool{true, false} {
			p := bytes.Repeat([]byte("x"), size)
			if err := c.send(text, p); err != nil {
				t.Fatal(err)
			}
			expect(text, p)
		}
	}
	for i := range 16 { // in flight
		if err := c.send(false, bytes.Repeat([]byte{byte(i)}, 64+i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 16 {
		expect(false, bytes.Repeat([]byte{byte(i)}, 64+i))
	}
	for _, text := range []bool{true, false} {
		long := strings.Repeat("b", 5000)
		if err := c.sendFragments(text, []byte("a"), []byte(long), []byte("c")); err != nil {
			t.Fatal(err)
		}
		expect(text, []byte("a"+long+"c"))
	}
	if err := c.ping(); err != nil {
		t.Fatalf("ping: %v", err)
	}
	if err := c.close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func messageType(text bool) int {
	if text {
		return gorilla.TextMessage
	}
	return gorilla.BinaryMessage
}

type gorillaClient struct {
	conn *gorilla.Conn
	pong string
}

func dialGorilla(t *testing.T, addr string) client {
	// A small buffer, so that a message written in parts is sent in fragments.
	d := gorilla.Dialer{HandshakeTimeout: timeout, WriteBufferSize: 512}
	conn, _, err := d.Dial("ws://"+addr+"/any/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(timeout))
	c := &gorillaClient{conn: conn}
	conn.SetPongHandler(func(s string) error {
		c.pong = s
		return nil
	})
	return c
}

func (c *gorillaClient) send(text bool, payload []byte) error {
	return c.conn.WriteMessage(messageType(text), payload)
}

func (c *gorillaClient) sendFragments(text bool, fragments ...[]byte) error {
	w, err := c.conn.NextWriter(messageType(text))
	if err != nil {
		return err
	}
	for _, f := range fragments {
		if _, err := w.Write(f); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c *gorillaClient) receive() (bool, []byte, error) {
	typ, payload, err := c.conn.ReadMessage()
	return typ == gorilla.TextMessage, payload, err
}

func (c *gorillaClient) ping() error {
	if err := c.conn.WriteControl(gorilla.PingMessage, []byte("ping"), time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := c.send(true, nil); err != nil { // its echo comes behind the pong
		return err
	}
	if _, _, err := c.receive(); err != nil {
		return err
	}
	if c.pong != "ping" {
		return fmt.Errorf("pong %q", c.pong)
	}
	return nil
}

func (c *gorillaClient) close() error {
	message := gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, "")
	if err := c.conn.WriteControl(gorilla.CloseMessage, message, time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, _, err := c.receive(); !gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
		return fmt.Errorf("got %v", err)
	}
	return nil
}

type coderClient struct {
	ctx  context.Context
	conn *coder.Conn
}

func dialCoder(t *testing.T, addr string) client {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	conn, _, err := coder.Dial(ctx, "ws://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(-1)
	return &coderClient{ctx, conn}
}

func (c *coderClient) send(text bool, payload []byte) error {
	return c.conn.Write(c.ctx, coder.MessageType(messageType(text)), payload)
}

func (c *coderClient) sendFragments(text bool, fragments ...[]byte) error {
	w, err := c.conn.Writer(c.ctx, coder.MessageType(messageType(text)))
	if err != nil {
		return err
	}
	for _, f := range fragments {
		if _, err := w.Write(f); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c *coderClient) receive() (bool, []byte, error) {
	typ, payload, err := c.conn.Read(c.ctx)
	return typ == coder.MessageText, payload, err
}

func (c *coderClient) ping() error {
	read := make(chan error, 1)
	go func() { // Ping needs a reader
		_, _, err := c.receive()
		read <- err
	}()
	if err := c.conn.Ping(c.ctx); err != nil {
		return err
	}
	if err := c.send(true, nil); err != nil { // its echo ends the reader
		return err
	}
	return <-read
}

func (c *coderClient) close() error { return c.conn.Close(coder.StatusNormalClosure, "") }

// gobwasClient speaks in frames.
type gobwasClient struct {
	conn net.Conn
	pong []byte
}

func dialGobwas(t *testing.T, addr string) client {
	d := ws.Dialer{Timeout: timeout}
	conn, _, _, err := d.Dial(context.Background(), "ws://"+addr+"/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(timeout))
	return &gobwasClient{conn: conn}
}

func (c *gobwasClient) write(op ws.OpCode, fin bool, payload []byte) error {
	return ws.WriteFrame(c.conn, ws.MaskFrame(ws.NewFrame(op, fin, payload)))
}

func (c *gobwasClient) send(text bool, payload []byte) error {
	return c.sendFragments(text, payload)
}

func (c *gobwasClient) sendFragments(text bool, fragments ...[]byte) error {
	op := ws.OpCode(messageType(text))
	for i, f := range fragments {
		if err := c.write(op, i == len(fragments)-1, f); err != nil {
			return err
		}
		op = ws.OpContinuation
	}
	return nil
}

// readFrame reads one whole frame of at most a megabyte.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	if f.Header.Length > 1<<20 {
		return f, errors.New("frame too large")
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

func (c *gobwasClient) receive() (text bool, payload []byte, err error) {
	for {
		f, err := readFrame(c.conn)
		switch {
		case err != nil:
			return false, nil, err
		case f.Header.Masked:
			return false, nil, errors.New("masked frame")
		case f.Header.OpCode == ws.OpClose:
			code, _ := ws.ParseCloseFrameData(f.Payload)
			return false, nil, wsutil.ClosedError{Code: code}
		case f.Header.OpCode == ws.OpPong:
			c.pong = f.Payload
			continue
		case f.Header.OpCode == ws.OpText:
			text = true
		}
		payload = append(payload, f.Payload...)
		if f.Header.Fin {
			return text, payload, nil
		}
	}
}

func (c *gobwasClient) ping() error {
	if err := c.write(ws.OpPing, true, []byte("ping")); err != nil {
		return err
	}
	if err := c.send(true, nil); err != nil {
		return err
	}
	if _, _, err := c.receive(); err != nil {
		return err
	}
	if string(c.pong) != "ping" {
		return fmt.Errorf("pong %q", c.pong)
	}
	return nil
}

func (c *gobwasClient) close() error {
	if err := c.write(ws.OpClose, true, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")); err != nil {
		return err
	}
	_, _, err := c.receive()
	var closed wsutil.ClosedError
	if !errors.As(err, &closed) || closed.Code != ws.StatusNormalClosure {
		return fmt.Errorf("got %v", err)
	}
	return nil
}
