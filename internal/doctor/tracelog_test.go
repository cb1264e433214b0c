package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// openPipe is a pipe into which somebody has written so many lines of gctrace, and that stays open.
func openPipe(t *testing.T, lines int) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	for i := range lines {
		if _, err := fmt.Fprintf(w, "gc %d @%d.021s 0%%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P\n", i+1, i); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// endsSoon fails the test where what is to end by itself does not.
func endsSoon(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		t.Fatal("it does not end")
	}
}

// TestTraceStaysOpen reads a log out of a pipe that never ends: for as long as the look takes, and no longer than somebody wants it.
func TestTraceStaysOpen(t *testing.T) {
	s := pprofServer(t)
	endsSoon(t, func() {
		e, err := (&Collector{Root: fstest.MapFS{}, For: time.Second, NoTrace: true, Trace: openPipe(t, 10)}).Collect(t.Context(), s.URL)
		if err != nil || len(e.Trace) != 10 || len(e.Heap) == 0 {
			t.Errorf("%v; want 10 collections of the log, and the profiles: %+v", err, e)
		}
	})
	endsSoon(t, func() { // saved files have no look that ends
		e, err := (&Collector{Root: fstest.MapFS{}, For: time.Second, Trace: openPipe(t, 3)}).Files(t.Context(), []File{{Name: "dump", Data: []byte(dump)}})
		if err != nil || len(e.Trace) != 3 {
			t.Errorf("%v, %+v", err, e)
		}
	})
	endsSoon(t, func() { // interrupted
		ctx, cancel := context.WithCancel(t.Context())
		c := &Collector{Root: fstest.MapFS{}, For: time.Hour, Trace: openPipe(t, 3), Say: func(string) { cancel() }}
		if _, err := c.Collect(ctx, s.URL); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want it canceled", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := (&Collector{Root: fstest.MapFS{}, For: time.Hour, Trace: openPipe(t, 3)}).Files(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want it canceled", err)
		}
	})
	endsSoon(t, func() { // a target that cannot be looked at
		if _, err := (&Collector{Root: fstest.MapFS{}, For: time.Hour, Trace: openPipe(t, 3)}).Collect(t.Context(), "ftp://x"); err == nil {
			t.Error("ftp is no target")
		}
	})
}

// TestTraceGrows reads a file to which the target appends meanwhile, and one without a line.
func TestTraceGrows(t *testing.T) {
	s := pprofServer(t)
	name := filepath.Join(t.TempDir(), "gc.log")
	line := "gc 1 @0.021s 0%: 0.010+0.12+0.012 ms clock, 0.080+0.012/0.1/0.2+0.096 ms cpu, 4->4->2 MB, 5 MB goal, 8 P\n"
	if err := os.WriteFile(name, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	grow := func(string) {
		if err := os.WriteFile(name, []byte(line+strings.Replace(line, "gc 1 ", "gc 2 ", 1)), 0o600); err != nil {
			t.Error(err)
		}
	}
	e, err := (&Collector{Root: fstest.MapFS{}, For: time.Second, NoTrace: true, Trace: f, Say: grow}).Collect(t.Context(), s.URL)
	if err != nil || len(e.Trace) != 2 || e.Trace[1].Number != 2 {
		t.Errorf("%v, want the line that came meanwhile, too: %+v", err, e.Trace)
	}
	e, err = (&Collector{Root: fstest.MapFS{}, Trace: strings.NewReader("hello\n")}).Files(t.Context(), nil)
	if err != nil || !strings.Contains(strings.Join(e.Notes, "\n"), "has no line of GODEBUG=gctrace=1") {
		t.Errorf("%v, notes %q", err, e.Notes)
	}
}
