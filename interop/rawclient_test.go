package interop

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// The opcodes.
const (
	cont   = 0
	text   = 1
	bin    = 2
	closes = 8
	ping   = 9
	pong   = 10
)

// rawClient puts frames together by hand and holds the server to RFC 6455. It shares no code with package ws.
type rawClient struct {
	t       *testing.T
	c       *net.TCPConn
	br      *bufio.Reader
	head    http.Header // of the response
	deflate bool
	mask    uint32
}

// connect does a handshake and checks the answer; offer is Sec-WebSocket-Extensions or "".
func connect(t *testing.T, addr, path, offer string) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	c := &rawClient{t: t, c: nc.(*net.TCPConn), br: bufio.NewReaderSize(nc, 64<<10), mask: 0x9e3779b9}
	const key = "x3JJHMbDL1EzLkh9GBhXDw=="
	req := "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Version: 13\r\n"
	if offer != "" {
		req += "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	c.write([]byte(req + "\r\n"))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.head = resp.Header
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	switch {
	case resp.StatusCode != 101:
		t.Fatalf("status %d", resp.StatusCode)
	case !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket"), !strings.EqualFold(resp.Header.Get("Connection"), "upgrade"):
		t.Fatalf("Upgrade %q, Connection %q", resp.Header.Get("Upgrade"), resp.Header.Get("Connection"))
	case resp.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]):
		t.Fatalf("Sec-WebSocket-Accept %q", resp.Header.Get("Sec-WebSocket-Accept"))
	case offer == "" && len(resp.Header.Values("Sec-WebSocket-Extensions")) > 0:
		t.Fatalf("extensions that nobody offered: %q", resp.Header.Values("Sec-WebSocket-Extensions"))
	}
	c.deflate = strings.HasPrefix(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
	return c
}

func (c *rawClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// chop writes b in pieces of n bytes, each in a segment of its own as far as the kernel lets them be.
func (c *rawClient) chop(b []byte, n int) {
	c.t.Helper()
	for len(b) > 0 {
		k := min(n, len(b))
		c.write(b[:k])
		b = b[k:]
	}
}

// frame is a masked frame, however wrong.
func (c *rawClient) frame(fin bool, rsv, op int, payload []byte) []byte {
	b := []byte{byte(rsv<<4 | op), 0x80}
	if fin {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	c.mask = c.mask*1664525 + 1013904223
	b = binary.BigEndian.AppendUint32(b, c.mask)
	key := b[len(b)-4:]
	at := len(b)
	b = append(b, payload...)
	// By blocks: byte by byte takes most of the time of all cases under the race detector.
	block := bytes.Repeat(key, 256)
	for rest := b[at:]; len(rest) > 0; {
		n := subtle.XORBytes(rest, rest[:min(len(rest), len(block))], block)
		rest = rest[n:]
	}
	return b
}

func (c *rawClient) send(fin bool, rsv, op int, payload string) {
	c.t.Helper()
	c.write(c.frame(fin, rsv, op, []byte(payload)))
}

func closing(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// rawFrame is what the server sent.
type rawFrame struct {
	fin     bool
	rsv, op int
	payload []byte
}

var errFIN = errors.New("the server's FIN")

// read reads one frame and holds it to the rules that every frame must keep.
func (c *rawClient) read() (f rawFrame, err error) {
	h := make([]byte, 2, 14)
	if _, err := io.ReadFull(c.br, h); err != nil {
		if err == io.EOF {
			return f, errFIN
		}
		return f, err
	}
	f = rawFrame{fin: h[0]&0x80 != 0, rsv: int(h[0] >> 4 & 7), op: int(h[0] & 15)}
	if h[1]&0x80 != 0 {
		return f, errors.New("the server masked a frame")
	}
	n := uint64(h[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(c.br, h[:2]); err != nil {
			return f, err
		}
		if n = uint64(binary.BigEndian.Uint16(h)); n < 126 {
			return f, fmt.Errorf("length %d in 16 bits", n)
		}
	case 127:
		if _, err := io.ReadFull(c.br, h[:8]); err != nil {
			return f, err
		}
		if n = binary.BigEndian.Uint64(h[:8]); n < 1<<16 || n>>63 != 0 {
			return f, fmt.Errorf("length %d in 64 bits", n)
		}
	}
	if n > 64<<20 {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	switch f.op {
	case cont, text, bin:
	case closes, ping, pong:
		if !f.fin || n > 125 {
			return f, fmt.Errorf("control frame: fin %t, %d bytes", f.fin, n)
		}
	default:
		return f, fmt.Errorf("opcode %d", f.op)
	}
	if f.rsv != 0 && !(f.rsv == 4 && c.deflate && (f.op == text || f.op == bin)) {
		return f, fmt.Errorf("reserved bits %03b on opcode %d", f.rsv, f.op)
	}
	f.payload = make([]byte, n)
	_, err = io.ReadFull(c.br, f.payload)
	return f, err
}

// next is the next message, put together, or control frame.
func (c *rawClient) next() (op int, compressed bool, payload []byte) {
	c.t.Helper()
	f, err := c.read()
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	if f.op == cont {
		c.t.Fatal("a continuation of nothing")
	}
	op, compressed, payload = f.op, f.rsv == 4, f.payload
	for !f.fin {
		if f, err = c.read(); err != nil {
			c.t.Fatalf("read a continuation: %v", err)
		}
		if f.op != cont {
			c.t.Fatalf("opcode %d within a message", f.op)
		}
		payload = append(payload, f.payload...)
	}
	return op, compressed, payload
}

// want checks the next message or control frame.
func (c *rawClient) want(op int, payload string) {
	c.t.Helper()
	gotOp, compressed, got := c.next()
	if compressed {
		got = inflate(c.t, got, 15)
	}
	if gotOp != op || string(got) != payload {
		c.t.Fatalf("got opcode %d, %s; want opcode %d, %s", gotOp, show(got), op, show([]byte(payload)))
	}
	if op == text && !utf8.Valid(got) {
		c.t.Fatal("text that is not UTF-8")
	}
}

// wantClose checks that a close frame with code is next (0: without a code), and then the FIN: no byte more, and
// no reset.
func (c *rawClient) wantClose(code int) {
	c.t.Helper()
	op, _, payload := c.next()
	got := 0
	if len(payload) >= 2 {
		got = int(binary.BigEndian.Uint16(payload))
		if !utf8.Valid(payload[2:]) {
			c.t.Error("the reason is not UTF-8")
		}
	}
	if op != closes || len(payload) == 1 || got != code {
		c.t.Fatalf("got opcode %d with %s, want close %d", op, show(payload), code)
	}
	c.wantFIN()
}

func (c *rawClient) wantFIN() {
	c.t.Helper()
	if f, err := c.read(); err != errFIN {
		c.t.Fatalf("behind the close frame: %v, opcode %d, %s; want a FIN", err, f.op, show(f.payload))
	}
}

// bye does the closing handshake.
func (c *rawClient) bye() {
	c.t.Helper()
	c.send(true, 0, closes, closing(1000, "bye"))
	c.wantClose(1000)
}

func show(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%q… (%d bytes)", b[:40], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// pattern is n bytes of text that does not repeat soon.
func pattern(n int) []byte { return bytes.Clone(longPattern()[:n]) }

var longPattern = sync.OnceValue(func() []byte {
	const most = 16 << 20
	b := make([]byte, 0, most+20)
	for k := int64(0); len(b) < most; k++ {
		b = append(strconv.AppendInt(b, k, 10), '-')
	}
	return b[:most]
})

// connectRefused is the status that a handshake with these extensions gets.
func connectRefused(t *testing.T, addr, offer string) int {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+addr+"/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==", "Sec-WebSocket-Extensions": offer,
	} {
		req.Header.Set(name, value)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
