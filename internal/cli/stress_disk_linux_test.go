package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestStressFileSystemFull fills a file system of 4 KiB, in a mount namespace of the test's own.
func TestStressFileSystemFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount a small file system takes root")
	}
	host := loaded(t)
	dir := t.TempDir()
	older := filepath.Join(dir, "older")
	// The directory is listed before the namespace, and the file system with it, is gone.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `mount -t tmpfs -o size=4k none "$1" || exit 77
echo older > "$1/report.json"
longwire stress --target "$2" --max-conns 5 --duration 100ms --timeout 20s --quiet --out "$1/report.json" --html "$1/report.html"
code=$?
echo "left: $(ls -A "$1") $(cat "$1/report.json")"
exit $code`, "sh", dir, "ws://"+host+"/echo")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if code == 77 || cmd.ProcessState == nil {
		t.Skipf("no file system can be mounted here: %v %s", err, &log)
	}
	if code != exitFailed || strings.Count(log.String(), "no space left on device") != 2 {
		t.Errorf("exit code %d (%v)\n%s", code, err, &log)
	}
	if !strings.Contains(out.String(), "5 opened") && !strings.Contains(out.String(), "5 of 5") || !strings.Contains(out.String(), "left: report.json older\n") {
		t.Errorf("printed:\n%s", &out)
	}
	if _, err := os.Stat(older); err == nil {
		t.Error("the namespace was not the test's own")
	}
}
