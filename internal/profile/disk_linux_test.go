package profile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/longwire/longwire/internal/profile"
	"github.com/longwire/longwire/internal/waittest"
)

// fullVariable has this test's program capture onto a small file system at the directory that it names.
const fullVariable = "LONGWIRE_PROFILE_TEST_FULL"

// outcome is what that program tells.
type outcome struct {
	Failed   string
	Full     int      // captures while the file system was full
	Left     []string // what lay there then
	Log      string
	Captured int // when it had room again
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullVariable); dir != "" {
		if err := json.NewEncoder(os.Stdout).Encode(full(dir)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// full captures where there is no room, and then where there is.
func full(dir string) (o outcome) {
	mount := func(flags uintptr, size string) bool {
		if err := syscall.Mount("none", dir, "tmpfs", flags, "size="+size); err != nil {
			o.Failed = fmt.Sprintf("mount: %v", err)
		}
		return o.Failed == ""
	}
	// No mount gets out of the namespace.
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		o.Failed = fmt.Sprintf("mount: %v", err)
		return o
	}
	if !mount(0, "8k") {
		return o
	}
	log := new(waittest.Log)
	w, err := profile.Open(profile.Options{Dir: dir, Pause: time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		o.Failed = err.Error()
		return o
	}
	var looks []profile.Look
	for i := range 5 {
		looks = append(looks, profile.Look{Time: start.Add(time.Duration(i) * time.Hour), GCPause: time.Second})
	}
	capture := func(looks []profile.Look) int {
		w.Hasten(time.Millisecond, played(looks))
		w.Run(context.Background())
		list, err := w.Captures()
		if err != nil {
			o.Failed = err.Error()
		}
		return len(list)
	}
	o.Full = capture(looks[:3])
	entries, err := os.ReadDir(dir)
	if err != nil {
		o.Failed = err.Error()
	}
	for _, e := range entries {
		o.Left = append(o.Left, e.Name())
	}
	o.Log = log.String()
	if !mount(syscall.MS_REMOUNT, "64m") {
		return o
	}
	o.Captured = capture(looks[3:])
	if err := w.Close(); err != nil {
		o.Failed = err.Error()
	}
	return o
}

// TestFullDisk says once that there is no room, leaves nothing half done, and captures again when there is.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("to mount a small file system takes root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), fullVariable+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	b, err := cmd.Output()
	if err != nil {
		t.Skipf("no mount namespace can be made here: %v", err)
	}
	var o outcome
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if strings.HasPrefix(o.Failed, "mount: ") {
		t.Skip(o.Failed)
	}
	if o.Failed != "" || o.Full != 0 || o.Captured != 2 || strings.Join(o.Left, " ") != "lock" {
		t.Errorf("%+v", o)
	}
	if strings.Count(o.Log, "no capture") != 1 || !strings.Contains(o.Log, "no space left on device") {
		t.Errorf("it should be said once:\n%s", o.Log)
	}
}
