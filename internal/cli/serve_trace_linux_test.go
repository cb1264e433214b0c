package cli

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/longwire/longwire"
)

// TestServeTrace has the kernel's word on ends in the gateway's record, with loops in the process's descriptor table and in
// tables of their own.
func TestServeTrace(t *testing.T) {
	for _, tables := range []longwire.Tables{longwire.TablesShared, longwire.TablesPrivate} {
		t.Run(fmt.Sprint(tables), func(t *testing.T) { serveTraced(t, tables) })
	}
}

func serveTraced(t *testing.T, tables longwire.Tables) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var made atomic.Pointer[longwire.Gateway]
	tr := newServeTrace(log, made.Load)
	if tr == nil {
		t.Skip("the kernel lets this process load no probes")
	}
	defer tr.stop()
	g, err := longwire.New(longwire.Config{Addr: "127.0.0.1:0", MaxConns: 64, Loops: 1, Tables: tables, MaxMemory: -1, Log: log, Tracer: tr})
	if err != nil {
		t.Fatal(err)
	}
	made.Store(g)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		name string
		end  func(*net.TCPConn)
		want string
	}{
		{"a FIN", func(c *net.TCPConn) { _ = c.Close() }, "The kernel says: client fin."},
		{"an RST", func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, "The kernel says: client reset."},
	} {
		conn, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		id := "request " + c.name
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Request-ID: %s\r\n\r\n", id)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("%s: %v %v", c.name, resp, err)
		}
		c.end(conn.(*net.TCPConn))
		var why string
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
			spans, err := g.Why(longwire.Question{Request: id})
			if err != nil {
				t.Fatal(err)
			}
			if len(spans) == 1 && !spans[0].Open {
				if why = spans[0].Why; strings.Contains(why, c.want) {
					break
				}
			}
			time.Sleep(time.Millisecond) // between looks: the kernel tells on another thread
		}
		if !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, want %q in it", c.name, why, c.want)
		}
	}
}
