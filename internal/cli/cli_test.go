package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire"
	"github.com/longwire/longwire/internal/config"
)

// TestGatewayConfig checks that the defaults mean to the library what its zero Config means, and that off means
// off there.
func TestGatewayConfig(t *testing.T) {
	s := config.Default()
	c := gatewayConfig(&s)
	want := longwire.Config{
		Addr: ":8000", MaxConns: 1_000_000, HandshakeTimeout: 5 * time.Second, MaxHeader: 8 << 10,
		UserTimeout: 30 * time.Second, Drain: 10 * time.Second, RetryAfter: 5 * time.Second, Workers: 256, Backlog: 65535,
	}
	ws := c.Endpoints
	c.Endpoints = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("config of the defaults = %+v, want %+v", c, want)
	}
	if len(ws) != 1 || ws[0].Path != "/ws" || ws[0].MaxMessage != 1<<20 || ws[0].WriteQueue != 1<<20 || ws[0].Compression ||
		ws[0].Heartbeat != (longwire.Heartbeat{Ping: 25 * time.Second, Timeout: 30 * time.Second}) || !reflect.DeepEqual([]string(ws[0].Origins), []string{"*"}) {
		t.Errorf("endpoints of the defaults = %+v", ws)
	}

	s.PingAfter, s.CloseAfter, s.UserTimeout, s.Drain = 0, 0, 0, 0
	s.Tables, s.MaxMemory, s.Dev, s.Origins = "private", -1, true, config.List{"same"}
	c = gatewayConfig(&s)
	if c.UserTimeout >= 0 || c.Drain >= 0 || c.MaxMemory >= 0 || c.Tables != longwire.TablesPrivate {
		t.Errorf("config of what is off = %+v", c)
	}
	if len(c.Endpoints) != 2 || c.Endpoints[1].Path != "/echo" || c.Endpoints[0].Origins != nil {
		t.Errorf("endpoints with dev = %+v", c.Endpoints)
	}
	for _, e := range c.Endpoints {
		if e.Heartbeat.Ping >= 0 || e.Heartbeat.Timeout >= 0 {
			t.Errorf("endpoint %s: heartbeat %+v, want none", e.Path, e.Heartbeat)
		}
	}
}

func TestListenErrorHints(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EADDRINUSE:    "another process has the port: choose another with --addr, LONGWIRE_ADDR or the key addr in the file",
		syscall.EACCES:        "ports below 1024 need CAP_NET_BIND_SERVICE: choose another with --addr, LONGWIRE_ADDR or the key addr in the file",
		syscall.EADDRNOTAVAIL: "this machine does not have that address: choose another with --addr, LONGWIRE_ADDR or the key addr in the file",
		syscall.EBADF:         "",
	} {
		var ee *exitError
		err := listenError(fmt.Errorf("listen on :1: %w", os.NewSyscallError("bind", errno)), "addr")
		if !errors.As(err, &ee) || ee.code != exitFailed || ee.hint != want {
			t.Errorf("listenError(%v) = %#v, want the hint %q", errno, err, want)
		}
	}
	if err := listenError(nil, "addr"); err != nil {
		t.Errorf("listenError(nil) = %v", err)
	}
}

// TestContextEnds has the caller's context end the server, as a signal would.
func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, log bytes.Buffer
	p := Process{Args: []string{"serve", "--addr", "127.0.0.1:0", "--max-conns", "100"}, Stdout: &out, Stderr: &log}
	if code := Main(ctx, p); code != exitFine || out.Len() > 0 || !strings.Contains(log.String(), "msg=draining") {
		t.Errorf("exit code %d, stdout %q, log:\n%s", code, &out, &log)
	}
}

// TestOptionsPage compares the page that make generate writes with the options.
func TestOptionsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, config.Markdown()) {
		t.Error("docs/options.md is out of date: run make generate")
	}
}
