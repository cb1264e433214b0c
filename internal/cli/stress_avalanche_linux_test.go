package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longwire/longwire/internal/stress"
)

// TestStressAvalanche brings one avalanche about with the command itself, and reads what it printed.
func TestStressAvalanche(t *testing.T) {
	page := filepath.Join(t.TempDir(), "report.html")
	// By this name the test program is the command, and so are the processes that it starts.
	c := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"longwire", "stress", "avalanche", "descriptor_limit", "--json", "--html", page}}
	var out, log bytes.Buffer
	c.Stdout, c.Stderr = &out, &log
	if err := c.Run(); err != nil {
		if strings.Contains(log.String(), "a network namespace of its own is refused") {
			t.Skip(log.String())
		}
		t.Fatalf("%v: %s", err, &log)
	}
	if want := "descriptor_limit: injected was the descriptor limit, and found the descriptor limit (high confidence)\n"; !strings.Contains(log.String(), want) {
		t.Errorf("said was %q, want %q", &log, want)
	}
	r, err := stress.ReadReport(&out)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "descriptor_limit" || r.Environment.Version == "" || r.Avalanche == nil || len(r.Avalanche.Chain) < 4 {
		t.Errorf("the report is of %q by version %q: %+v", r.Name, r.Environment.Version, r.Avalanche)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("descriptors run out")) {
		t.Errorf("a page of %d bytes, %v", len(b), err)
	}
	if _, err := os.Stat(page + ".part"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part of the page was left: %v", err)
	}
}
