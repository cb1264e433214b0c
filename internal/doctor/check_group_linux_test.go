package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKilledReal has a container of its own, with most of its memory in files of a tmpfs, in which the kernel kills a process.
func TestKilledReal(t *testing.T) {
	const limit, inFiles = 64 << 20, 40
	group := memoryGroup(t, limit)
	// enter has a command run in the group.
	enter := func(command string) *exec.Cmd {
		return exec.Command("sh", "-c", "echo $$ > "+filepath.Join(group, "cgroup.procs")+" && "+command)
	}
	f, err := os.CreateTemp("/dev/shm", "longwire-test-")
	if err != nil {
		t.Skipf("there is no tmpfs to write to: %v", err)
	}
	_ = f.Close()
	t.Cleanup(func() { _ = os.Remove(f.Name()) })
	if out, err := enter(fmt.Sprintf("exec dd if=/dev/zero of=%s bs=1M count=%d", f.Name(), inFiles)).CombinedOutput(); err != nil {
		t.Skipf("a process can't be put into a cgroup here: %v\n%s", err, out)
	}
	stays := enter("exec sleep 600")
	if err := stays.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stays.Process.Kill()
		_ = stays.Wait()
	}()
	e := &Evidence{}
	look := func() CgroupSample {
		s, err := SampleProcess(os.DirFS("/"), stays.Process.Pid, time.Duration(len(e.Process))*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		e.Process = append(e.Process, s)
		return s.Group
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 { // until it is in the group
		e.Process = nil
		if look().Limit == limit {
			break
		}
		<-tick.C
	}
	if g := e.Process[0].Group; g.Limit != limit || g.OOMKills != 0 {
		t.Fatalf("%+v", g)
	}
	// tail keeps what has no end of a line, and is the one to be killed.
	err = enter("echo 1000 > /proc/self/oom_score_adj; exec tail /dev/zero").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Fatalf("a process that needs more than there is: %v, want it killed", err)
	}
	if g := look(); g.OOMKills != 1 || g.Shmem < inFiles<<20 {
		t.Errorf("%+v, want a kill and %d MiB in files", g, inFiles)
	}
	r := Examine(e)
	if !r.Found() || !strings.Contains(r.Findings[0].Sentence, "the kernel killed 1 process of the container for want of memory meanwhile; the largest part of its memory now: files in memory (tmpfs) (40.") {
		t.Errorf("%+v", r.Findings)
	}
	// Who comes later has it as a note.
	e.Process = e.Process[1:]
	if r = Examine(e); r.Found() || !strings.Contains(strings.Join(r.Notes, "\n"), "before the look the kernel killed 1 process of the container") {
		t.Errorf("%+v, notes %q", r.Findings, r.Notes)
	}
}

// memoryGroup makes a cgroup with a memory limit, of either version, or skips the test.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("longwire-doctor-%d", os.Getpid())
	var problems []error
	for _, g := range [][2]string{{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}} {
		dir := filepath.Join(g[0], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			problems = append(problems, err)
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, g[1]), os.O_WRONLY, 0) // not created where the directory is no cgroup
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(limit))
			err = errors.Join(err, f.Close())
		}
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			for _, swap := range []string{"memory.swap.max", "memory.swappiness"} { // where there is swap, it would take long to fill
				if f, err := os.OpenFile(filepath.Join(dir, swap), os.O_WRONLY, 0); err == nil {
					_, _ = f.WriteString("0")
					_ = f.Close()
				}
			}
			return dir
		}
		problems = append(problems, err, os.Remove(dir))
	}
	t.Skipf("a cgroup with a memory limit can't be made here: %v", errors.Join(problems...))
	return ""
}
