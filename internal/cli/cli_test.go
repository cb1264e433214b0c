package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
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
	l := config.Loaded{Serve: config.Default()}
	of := func() longwire.Config {
		t.Helper()
		c, err := gatewayConfig(&l)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := of()
	want := longwire.Config{
		Addr: ":8000", MaxConns: 1_000_000, HandshakeTimeout: 5 * time.Second, MaxHeader: 8 << 10,
		UserTimeout: 30 * time.Second, Drain: 10 * time.Second, RetryAfter: 5 * time.Second, Workers: 256, Backlog: 65535,
		Sessions: longwire.Sessions{Ping: 25 * time.Second, Pong: 8 * time.Second, Grace: 25 * time.Second, Stale: 10 * time.Second,
			ChannelLimit: 128, ChannelLength: 255, Version: "longwire " + readBuild().Version},
	}
	plain, push := c.Endpoints[0], c.Endpoints[1]
	if len(c.Endpoints) != 2 || plain.Path != "/ws" || push.Path != "/connection/websocket" {
		t.Errorf("endpoints of the defaults = %+v", c.Endpoints)
	}
	if plain.MaxMessage != 1<<20 || push.MaxMessage != 64<<10 || !slices.Equal(push.Subprotocols, []string{"centrifuge-json", "centrifuge-protobuf"}) {
		t.Errorf("endpoints of the defaults = %+v", c.Endpoints)
	}
	for _, e := range c.Endpoints {
		if e.WriteQueue != 1<<20 || e.Compression || !slices.Equal(e.Origins, []string{"*"}) ||
			e.Heartbeat != (longwire.Heartbeat{Ping: 25 * time.Second, Timeout: 30 * time.Second}) {
			t.Errorf("endpoint %s of the defaults = %+v", e.Path, e)
		}
	}
	if c.Engine == nil || len(c.Tokens.HMACSecret) != 0 {
		t.Errorf("config of the defaults: engine %v, tokens %+v", c.Engine, c.Tokens)
	}
	c.Endpoints, c.Engine, c.Tokens = nil, nil, longwire.TokenOptions{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("config of the defaults = %+v, want %+v", c, want)
	}

	s := &l.Serve
	s.PingAfter, s.CloseAfter, s.UserTimeout, s.Drain, s.ClientPongTimeout = 0, 0, 0, 0, 0
	s.FlightRecord, s.FlightDir, s.MaskAddresses = -1, "record", true
	s.Tables, s.MaxMemory, s.Dev, s.Origins = "private", -1, true, config.List{"same"}
	l.Channels.Presence, l.Namespaces = true, []longwire.ChannelOptions{{Name: "chat"}}
	c = of()
	if c.UserTimeout >= 0 || c.Drain >= 0 || c.MaxMemory >= 0 || c.Tables != longwire.TablesPrivate || c.Sessions.Pong >= 0 {
		t.Errorf("config of what is off = %+v", c)
	}
	if c.FlightRecorder != (longwire.FlightRecorder{Bytes: -1, Dir: "record"}) || !c.MaskAddresses {
		t.Errorf("flight recorder = %+v, masked %t", c.FlightRecorder, c.MaskAddresses)
	}
	if !c.Channels.Presence || len(c.Namespaces) != 1 || c.Namespaces[0].Name != "chat" {
		t.Errorf("channels = %+v, namespaces = %+v", c.Channels, c.Namespaces)
	}
	if len(c.Endpoints) != 3 || c.Endpoints[2].Path != "/echo" || c.Endpoints[0].Origins != nil || c.Endpoints[1].Origins != nil {
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
