package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/cli"
)

// TestMain makes the test binary the server when it is started as that, or longwire.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "-serve":
			main()
			return
		case "serve", "stress":
			os.Exit(cli.Main(context.Background(), cli.OS()))
		}
	}
	os.Exit(m.Run())
}

// TestRounds has a short round of each mode: every end is told, with its session.
func TestRounds(t *testing.T) {
	for _, mode := range []string{"off", "idle", "on", "timed"} {
		r, err := run(mode, 200*time.Millisecond, 500)
		if mode != "off" && err != nil && os.Geteuid() != 0 {
			t.Skipf("the probes need root: %v", err)
		}
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		ends := uint64(0)
		if mode == "on" || mode == "timed" {
			ends = r.Conns
		}
		if r.Conns != 100 || r.Ended != ends || r.Untagged != 0 || r.Lost != 0 || r.Mode != mode {
			t.Errorf("%s: %+v, want 100 connections and %d ends", mode, r, ends)
		}
		if timed := mode == "timed"; (r.Probes["on_state"] > 0) != timed || (r.Tag > 0) != timed {
			t.Errorf("%s: probes %v, Tag %v µs", mode, r.Probes, r.Tag)
		}
	}
	if err := memory(); err != nil {
		t.Error(err)
	}
	if _, err := run("sideways", time.Millisecond, 1); err == nil || strings.Contains(err.Error(), "panic") {
		t.Errorf("an unknown mode: %v", err)
	}
}

// TestEstablished has a short round with tracing and one without: messages come back, and the one is traced by probes.
func TestEstablished(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the probes need root")
	}
	longwire, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	list, err := measureEstablished(longwire, 1, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Traced == list[1].Traced || list[0].Messages == 0 || list[1].Messages == 0 {
		t.Errorf("the rounds are %+v", list)
	}
}
