package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
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
	// The command itself, without the race detector, whose own memory grows and hides what is looked for.
	exe := filepath.Join(t.TempDir(), "longwire")
	if out, err := exec.Command("go", "build", "-o", exe, "../../cmd/longwire").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
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
		// The default buffers are net/http's, made before a handler runs: no line of the program is on their stack.
		{"connections with net/http's buffers in a map", "gateway", gatewayConfig{naiveGateway}, visits("", false), "gateways.go", "g.conns[c] = struct{}{} // the fault"},
		{"the same, mended", "gateway", gatewayConfig{mendedGateway}, visits("", false), "", ""},
		{"a finalizer that waits", "finalizer", finalizerConfig{finalizerBlocks, 10}, objects, "finalizer.go", "<-f.release // the fault"},
	}
	var all sync.WaitGroup
	reports := make([]*doctor.Report, len(cases))
	for i, c := range cases {
		r := planted("body")
		r.pprof, r.again = true, func(subject string) *exec.Cmd { return exec.Command(exe, "lab", "subject", subject) }
		p, err := r.Start(t.Context(), c.subject, c.config, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := c.load(ctx, p); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
		all.Go(func() {
			defer cancel()
			r, err := examine(ctx, exe, p.pprof)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			reports[i] = r
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

// examine has the doctor look at a subject for 4 s.
func examine(ctx context.Context, exe, url string) (*doctor.Report, error) {
	c := exec.CommandContext(ctx, exe, "doctor", url, "--for", "4s", "--json", "--quiet")
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	var ended *exec.ExitError
	if err := c.Run(); err != nil && (!errors.As(err, &ended) || ended.ExitCode() != 3) {
		return nil, fmt.Errorf("longwire doctor: %w: %s", err, &said)
	}
	r := new(doctor.Report)
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("longwire doctor: its report: %w", err)
	}
	return r, nil
}
