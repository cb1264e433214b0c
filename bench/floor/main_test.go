//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary the floor itself when it is started as that, under a limit of descriptors.
func TestMain(m *testing.M) {
	if s, ok := os.LookupEnv("FLOOR_TEST_NOFILE"); ok {
		n, err := strconv.ParseUint(s, 10, 64)
		if err == nil && n > 0 {
			err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the floor in a process of its own, with a limit of nofile descriptors or, if that is 0,
// with this process's, and returns its address.
func start(t *testing.T, nofile int, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "FLOOR_TEST_NOFILE="+strconv.Itoa(nofile))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("first line %q, %v", line, err)
	}
	return addr
}

// client is a connection whose reads fail after a while, so that no test hangs.
type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, c, bufio.NewReader(c)}
}

// The key and the answer to it are those of RFC 6455 section 1.3.
const request = "GET /any HTTP/1.1\r\nHost: floor\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

const response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

func upgraded(t *testing.T, addr string) *client {
	t.Helper()
	c := dial(t, addr)
	c.send([]byte(request))
	c.expect([]byte(response))
	return c
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) expect(want []byte) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.in, got); err != nil {
		c.t.Fatalf("after %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		c.t.Fatalf("%d bytes differ from byte %d on: %.40q, want %.40q", len(want), i, got[i:], want[i:])
	}
}

func (c *client) expectEOF() {
	c.t.Helper()
	if b, err := io.ReadAll(c.in); err != nil || len(b) > 0 {
		c.t.Fatalf("got %.40q, %v, want the end", b, err)
	}
}

// frame appends a frame to b: masked, as a client sends it, or not, as the answer has to be.
func frame(b []byte, first byte, payload []byte, masked bool) []byte {
	var mask byte
	if masked {
		mask = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, mask|127), uint64(n))
	}
	if !masked {
		return append(b, payload...)
	}
	key := binary.LittleEndian.AppendUint32(nil, rand.Uint32())
	b = append(b, key...)
	for i, p := range payload {
		b = append(b, p^key[i%4])
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// traffic returns frames of every kind and length class, and their answer.
func traffic() (sent, want []byte) {
	add := func(first, answer byte, payload []byte) {
		sent = frame(sent, first, payload, true)
		want = frame(want, answer, payload, false)
	}
	for _, n := range []int{0, 1, 7, 8, 9, 64, 125, 126, 1000} {
		add(0x81, 0x81, bytes.Repeat([]byte("a"), n))
		add(0x82, 0x82, random(n))
	}
	add(0x02, 0x02, random(300)) // a message in three fragments
	add(0x89, 0x8a, []byte("between the fragments"))
	add(0x00, 0x00, random(5))
	sent = frame(sent, 0x8a, []byte("a pong that nobody asked for"), true)
	add(0x80, 0x80, random(0))
	return sent, want
}

func TestEcho(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"one loop":       {"-loops", "1"},
		"four loops":     {"-loops", "4"},
		"private tables": {"-max-conns", strconv.FormatUint(min(limit.Cur, 1<<20)+1, 10)},
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t, 0, args...)
			for range 20 { // enough to be spread over the loops
				c := upgraded(t, addr)
				for range 3 {
					c.send(frame(nil, 0x81, []byte("hello"), true))
					c.expect(frame(nil, 0x81, []byte("hello"), false))
				}
				var sent, want []byte
				for i := range 16 {
					p := random(60 + i)
					sent, want = frame(sent, 0x82, p, true), frame(want, 0x82, p, false)
				}
				c.send(sent)
				c.expect(want)
				sent, want = traffic()
				c.send(sent)
				c.expect(want)
			}
		})
	}
}

func TestPieces(t *testing.T) {
	addr := start(t, 0, "-loops", "2")
	for _, size := range []int{1, 2, 3, 5, 13, 14, 63} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			c := dial(t, addr)
			c.Conn.(*net.TCPConn).SetNoDelay(true)
			sent, want := traffic()
			sent, want = append([]byte(request), sent...), append([]byte(response), want...)
			go func() {
				for i := 0; i < len(sent); i += size {
					c.Write(sent[i:min(i+size, len(sent))])
					if i%64 < size {
						time.Sleep(time.Millisecond)
					}
				}
			}()
			c.expect(want)
		})
	}
	t.Run("70000 bytes", func(t *testing.T) {
		c := upgraded(t, addr)
		p := random(70000)
		b := frame(nil, 0x82, p, true)
		sent := 0
		for _, end := range []int{1, 9, 13, 14, 15, 1000, 65536, 69999, len(b)} {
			c.send(b[sent:end])
			sent = end
			time.Sleep(2 * time.Millisecond)
		}
		c.expect(frame(nil, 0x82, p, false))
	})
}

func TestClose(t *testing.T) {
	addr := start(t, 0)
	for name, payload := range map[string][]byte{"empty": nil, "1000": {3, 232}, "reason": []byte("\x03\xe8bye")} {
		t.Run(name, func(t *testing.T) {
			c := upgraded(t, addr)
			c.send(frame(frame(nil, 0x81, []byte("last"), true), 0x88, payload, true))
			c.expect(frame(frame(nil, 0x81, []byte("last"), false), 0x88, payload, false))
			c.expectEOF()
		})
	}
	t.Run("half closed", func(t *testing.T) {
		c := upgraded(t, addr)
		c.send(frame(nil, 0x81, []byte("last"), true))
		c.Conn.(*net.TCPConn).CloseWrite()
		c.expect(frame(nil, 0x81, []byte("last"), false))
		c.expectEOF()
	})
	t.Run("half closed in the request", func(t *testing.T) {
		c := dial(t, addr)
		c.send([]byte(request[:40]))
		c.Conn.(*net.TCPConn).CloseWrite()
		c.expectEOF()
	})
}

func TestRefused(t *testing.T) {
	addr := start(t, 0)
	for name, b := range map[string][]byte{
		"plain request": []byte("GET /healthz HTTP/1.1\r\nHost: floor\r\n\r\n"),
		"short key":     []byte("GET / HTTP/1.1\r\nSec-WebSocket-Key: short\r\n\r\n"),
		"long request":  bytes.Repeat([]byte("x"), maxRequest+1),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.send(b)
			c.expect([]byte(notFound))
			c.expectEOF()
		})
	}
	for name, b := range map[string][]byte{
		"no mask":               frame(nil, 0x81, []byte("x"), false),
		"reserved bit":          frame(nil, 0xc1, []byte("x"), true),
		"unknown opcode":        frame(nil, 0x83, []byte("x"), true),
		"unknown control frame": frame(nil, 0x8b, []byte("x"), true),
		"fragmented ping":       frame(nil, 0x09, []byte("x"), true),
		"long ping":             frame(nil, 0x89, random(126), true),
	} {
		t.Run(name, func(t *testing.T) {
			c := upgraded(t, addr)
			c.send(append(frame(nil, 0x81, []byte("good"), true), b...))
			c.expect(frame(nil, 0x81, []byte("good"), false))
			c.expectEOF()
		})
	}
}

// TestHeaderNames has the names in lower case, as some proxies send them.
func TestHeaderNames(t *testing.T) {
	c := dial(t, start(t, 0))
	c.send([]byte(strings.Replace(request, "Sec-WebSocket-Key", "sec-websocket-key", 1)))
	c.expect([]byte(response))
}

// TestSlowConsumer sends more than all socket buffers hold before it reads anything.
func TestSlowConsumer(t *testing.T) {
	c := upgraded(t, start(t, 0, "-loops", "1"))
	c.Conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	var sent, want []byte
	for range 200 {
		p := random(100_000)
		sent, want = frame(sent, 0x82, p, true), frame(want, 0x82, p, false)
	}
	sent, want = frame(sent, 0x88, nil, true), frame(want, 0x88, nil, false)
	go c.Write(sent)
	time.Sleep(100 * time.Millisecond)
	c.expect(want)
	c.expectEOF()
}

// TestTables has more connections than one descriptor table may hold.
func TestTables(t *testing.T) {
	const conns = 500
	addr := start(t, 256, "-max-conns", strconv.Itoa(conns))
	var all []*client
	for range conns {
		all = append(all, upgraded(t, addr))
	}
	for i, c := range all {
		p := frame(nil, 0x81, fmt.Append(nil, "conn ", i), true)
		c.send(p)
		c.expect(frame(nil, 0x81, fmt.Append(nil, "conn ", i), false))
	}
}

// TestFullTable connects more often than the only table allows: who waits is served when others go.
func TestFullTable(t *testing.T) {
	addr := start(t, 100, "-loops", "1")
	var all []*client
	for range 150 {
		c := dial(t, addr)
		c.send([]byte(request))
		all = append(all, c)
	}
	for _, c := range all {
		c.expect([]byte(response))
		c.Close()
	}
}

// TestFanOut has each message reach everybody, on the sender's loop and on others.
func TestFanOut(t *testing.T) {
	for name, args := range map[string][]string{
		"one loop":       {"-fanout", "-loops", "1"},
		"three loops":    {"-fanout", "-loops", "3"},
		"private tables": {"-fanout", "-max-conns", "300"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t, 256, args...)
			var all []*client
			for range 30 {
				all = append(all, upgraded(t, addr))
			}
			for i, size := range []int{0, 5, 125, 126, 1000, 16000} {
				p := bytes.Repeat([]byte{'a' + byte(i)}, size)
				all[i].send(frame(nil, 0x81, p, true))
				for _, c := range all {
					c.expect(frame(nil, 0x81, p, false))
				}
			}
			all[0].send(frame(nil, 0x88, nil, true))
			all[0].expectEOF()
			p := []byte("and on without it")
			all[1].send(frame(nil, 0x82, p, true))
			for _, c := range all[1:] {
				c.expect(frame(nil, 0x82, p, false))
			}
		})
	}
}
