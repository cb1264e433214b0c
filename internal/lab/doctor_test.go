package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/doctor"
)

// TestDoctor has the doctor look at faulty subjects under load, and at mended ones: it has to name the line that is marked
// in the source, and nothing where nothing is wrong.
func TestDoctor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the doctor reads /proc, which is Linux's")
	}
	t.Parallel()
	// Connections that come and go, as often as may be.
	visits := func(header string, stay bool) func(context.Context, *Process) error {
		return func(ctx context.Context, p *Process) error {
			var all clients
			defer func() { all.close() }()
			for {
				c, err := dial(ctx, p.Addr(), 1, upgrade(header))
				if stay {
					all = append(all, c...)
				} else {
					c.close()
				}
				if err != nil {
					return err
				}
				if err := pause(ctx, 2*time.Millisecond); err != nil {
					return err
				}
			}
		}
	}
	objects := func(ctx context.Context, p *Process) error {
		for {
			if err := p.Ask(ctx, "make", nil, nil); err != nil {
				return err
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	cases := []struct {
		name, subject string
		config        any
		load          func(context.Context, *Process) error
		file, line    string // what the line to be named has in it; "" for no finding
	}{
		{"a map that nobody clears", "body", bodyConfig{bodyRegistry}, visits("", false), "body.go", "b.registry[id] = conn"},
		{"reads of r.Body", "body", bodyConfig{bodyArticle}, visits("Content-Length: 1000\r\n", true), "body.go", "io.Copy(io.Discard, r.Body)"},
		{"mended", "body", bodyConfig{bodyMended}, visits("", false), "", ""},
		{"a finalizer that waits", "finalizer", finalizerConfig{finalizerBlocks, 10}, objects, "finalizer.go", "<-f.release // the fault"},
	}
	var all sync.WaitGroup
	reports := make([]*doctor.Report, len(cases))
	for i, c := range cases {
		p := started(t, c.subject, c.config, true)
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := c.load(ctx, p); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		all.Go(func() {
			defer cancel()
			d := doctor.Collector{Root: os.DirFS("/"), For: 4 * time.Second}
			e, err := d.Collect(ctx, p.pprof)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			reports[i] = doctor.Examine(e)
		})
	}
	all.Wait()
	for i, c := range cases {
		if reports[i] == nil {
			continue
		}
		var text strings.Builder
		if err := reports[i].WriteText(&text); err != nil {
			t.Fatal(err)
		}
		switch found := reports[i].Findings; {
		case c.line == "" && len(found) > 0:
			t.Errorf("%s: it is well, and the doctor says\n%s", c.name, &text)
		case c.line == "":
		case len(found) == 0 || filepath.Base(found[0].Line.File) != c.file || !strings.Contains(found[0].Line.Text, c.line):
			t.Errorf("%s: want the line with %q, and the doctor says\n%s", c.name, c.line, &text)
		}
	}
}
