package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test binary the server when it is started as that.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-serve" {
		main()
		return
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
